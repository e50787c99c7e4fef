/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pushing images in other formats.  Part of fetch/fetch.h; include that.
 */
#ifndef QL_PUSH_H
#define QL_PUSH_H

enum ql_push_format {
	QL_PUSH_ZSTD_CHUNKED, /* containers/storage's dialect */
	QL_PUSH_ESTARGZ,
	QL_PUSH_GZIP,
};

/* "zstd:chunked", "estargz" or "gzip"; -EINVAL, naming them. */
int ql_push_format_parse(const char *text, enum ql_push_format *ret_format,
			 struct ql_error *err);

struct ql_annotation { /* borrowed */
	const char *key, *value;
};

struct ql_push_options {
	enum ql_push_format format;
	int level;	     /* zstd's 1 to 19, zlib's 1 to 9; 0: the default */
	uint32_t chunk_size; /* bytes of content in a frame; 0: the default */
	unsigned int jobs;   /* layers at once; 0: the default */
	const char *platform; /* as of struct ql_pull_options, as these */
	bool plain_http;      /* of both source and destination */
	const char *config_dir;
	const char *tmp_dir; /* where layers wait; NULL: $TMPDIR, /var/tmp */
	/* Where the source may be known, with its trace: then a zstd:chunked
	 * image gets a start blob (borrowed; NULL: none). */
	struct ql_store *store;
	/* Only for eStargz: paths in the image that are worth fetching ahead,
	 * in that order; those that a layer has come first in it. */
	const char *const *first;
	size_t n_first;
	/* Put into the manifest, over those of the source's. */
	const struct ql_annotation *annotations;
	size_t n_annotations;
	/* Of a layer: first the source's bytes that were read, then those of
	 * the new blob that were sent. */
	ql_pull_progress_fn *progress; /* may be NULL */
	void *arg;
};

struct ql_push_layer {
	struct ql_digest source, blob;
	uint64_t source_size, size; /* bytes */
	bool there;		    /* the destination had it */
	bool lazy;		    /* it has a table of contents */
	char *why; /* owned; why it has none though the format has, or NULL */
};

struct ql_push_result {
	struct ql_digest manifest;
	uint32_t n_layers;
	struct ql_push_layer *layers; /* owned; lowest first */
	uint64_t bytes_sent;	      /* of layers and configuration */
	uint64_t start_size;	      /* of the start blob; 0: it has none */
};
void ql_push_result_release(struct ql_push_result *result);

/*
 * Reads an image's layers from a source, writes them in another format, and
 * pushes them as an OCI image: to a registry, or an oci: folder.  One of a
 * multi-platform image's.  What was uploaded when it fails stays there, and
 * the same push again sends the rest.
 * -EINVAL: DEST names a digest, or no place to push to; an option is out of
 * range, or not of this format.  -EBADMSG: the source is damaged.
 */
int ql_push(const struct ql_ref *source, const struct ql_ref *dest,
	    const struct ql_push_options *options,
	    struct ql_push_result *ret_result, struct ql_error *err);

struct ql_index_result {
	struct ql_digest blob;
	uint64_t size;	    /* bytes, of which: */
	uint64_t head_size; /* tree, configuration and places */
};
/*
 * Makes the start blob of an image in the store as it is, so that it can be
 * read lazily whatever its layers are, and pushes it as an artifact that
 * refers to it (push_to NULL: only makes it).  options: the registry's.
 * -ENOENT: a layer has no table of contents here.
 */
int ql_index_image(struct ql_store *store, const struct ql_digest *manifest,
		   const struct ql_ref *push_to,
		   const struct ql_pull_options *options,
		   struct ql_index_result *ret_result, struct ql_error *err);

#endif
