/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images composed of new layers: blobs are written once, and can stand in any
 * number of images.  Part of fetch/fetch.h; include that.
 *
 *   ql_blob_write()       an archive becomes a blob, in a file without a name
 *   ql_compose_open()     an image's destination, for the images of one tag
 *   ql_compose_blob()     each of its layers, in any order and thread
 *   ql_compose_read()     what the destination has then, if it is to be checked
 *   ql_compose_put()      configuration and manifest: the image is there
 *   ql_compose_tag()      and is what the tag means
 */
#ifndef QL_COMPOSE_H
#define QL_COMPOSE_H

/* ---- composeblob.c: a layer's blob ---- */

/*
 * Opens a layer's uncompressed archive at its start.  It may be called twice,
 * and must give the same then: a layer that can have no table of contents is
 * written again without.  The stream is read in another thread.
 */
typedef int ql_tar_open_fn(void *arg, struct ql_stream **ret_tar,
			   struct ql_error *err);

struct ql_blob;

struct ql_blob_info {
	struct ql_digest digest;  /* of the blob */
	struct ql_digest diff_id; /* of what it unpacks to */
	uint64_t size;		  /* bytes of the blob */
	uint64_t tar_size;	  /* bytes of the archive as it was opened;
				   * eStargz adds entries of its own to it */
	bool lazy;		  /* it has a table of contents */
	const char *why; /* borrowed: why it has none though the format has; or
			  * NULL */
};

/*
 * Writes an archive as a blob.  Of the options these count: format, level,
 * chunk_size, first and tmp_dir.  threads: that compress; 0: as many as there
 * are processors; the blob is the same whatever they are.
 * -EINVAL: an option is out of range.  -EBADMSG: not an archive.
 */
int ql_blob_write(ql_tar_open_fn *open, void *arg,
		  const struct ql_push_options *options, unsigned int threads,
		  struct ql_blob **ret_blob, struct ql_error *err);
/*
 * A blob that was written before, by its descriptor in a manifest (OCI
 * image-spec 1.1, descriptor.md; borrowed): its bytes are where it was put.
 * -EINVAL: it is no layer of an OCI image.
 */
int ql_blob_known(const json_t *descriptor, const struct ql_digest *diff_id,
		  struct ql_blob **ret_blob, struct ql_error *err);
/* Borrowed for the blob's life. */
const struct ql_blob_info *ql_blob_info(const struct ql_blob *blob);
/* Gives up the bytes and keeps what is known; no other thread uses the blob
 * meanwhile. */
void ql_blob_shed(struct ql_blob *blob);
void ql_blob_free(struct ql_blob *blob);
QL_DEFINE_CLEANUP(struct ql_blob *, ql_blob_free)

/* ---- compose.c: one image at its destination ---- */

struct ql_compose;

/*
 * dest is borrowed until the end, as what these options point to, which count:
 * format, plain_http, config_dir.
 * -EINVAL: dest names a digest, or no place to push to.
 */
int ql_compose_open(const struct ql_ref *dest,
		    const struct ql_push_options *options,
		    struct ql_compose **ret_compose, struct ql_error *err);
/* All its streams were freed before. */
void ql_compose_close(struct ql_compose *c);
QL_DEFINE_CLEANUP(struct ql_compose *, ql_compose_close)
/* From any thread: whatever waits for the destination fails soon. */
void ql_compose_cancel(struct ql_compose *c);

/*
 * Uploads a blob, unless it is there.  mount: another repository that has it
 * (of another registry, or NULL: none).  *ret_there: nothing had to be sent.
 * Any thread.  -ENODATA: it is not there, and its bytes were given up.
 */
int ql_compose_blob(struct ql_compose *c, const struct ql_blob *blob,
		    const struct ql_ref *mount, bool *ret_there,
		    struct ql_error *err);
/*
 * The uncompressed archive as the destination (no mirror of it) gives it back;
 * its end fails with -EBADMSG unless both the blob's digest and the diff ID
 * hold.  Any thread.
 */
int ql_compose_read(struct ql_compose *c, const struct ql_blob *blob,
		    struct ql_stream **ret_tar, struct ql_error *err);

/*
 * Gets the bytes of a blob that were given up back from where it is; nothing
 * where they are here.  Of the options tmp_dir counts.  No other thread uses
 * the blob meanwhile.
 */
int ql_compose_fetch(struct ql_compose *c, struct ql_blob *blob,
		     const struct ql_push_options *options,
		     struct ql_error *err);
/* Bytes of all blobs so far that were not there. */
uint64_t ql_compose_sent(const struct ql_compose *c);

struct ql_compose_image {		     /* all borrowed */
	const struct ql_blob *const *layers; /* lowest first */
	size_t n_layers;
	/* The source's, JSON; its diff IDs are replaced, its history stays as
	 * that of no layers, with an entry for each layer behind it. */
	const char *config;
	size_t config_len;
	const char *const *created_by; /* n_layers texts, for the history */
	const struct ql_annotation *annotations; /* of the manifest */
	size_t n_annotations;
	/* For a start blob, where all layers are lazy and the format is
	 * zstd:chunked: the merged tree (of a file), and the trace, whose
	 * content is in the store.  tree NULL: none. */
	struct ql_store *store;
	const struct ql_tree *tree;
	const struct ql_trace *trace; /* or NULL */
};

struct ql_compose_result {
	struct ql_digest manifest, config;
	uint64_t manifest_size; /* bytes */
	uint64_t bytes_sent;	/* of all blobs so far, by this compose */
	uint64_t start_size;	/* of the start blob; 0: it has none */
};

/*
 * Configuration, start blob and manifest, by its digest alone: no tag is
 * moved.  Its layers were passed to ql_compose_blob() before.
 * -EBADMSG: the configuration is damaged.  -ENOENT: the tree has a file that
 * no layer has, or the trace names one whose content is not here.
 */
int ql_compose_put(struct ql_compose *c, const struct ql_compose_image *image,
		   struct ql_compose_result *ret_result, struct ql_error *err);
/* Reads manifest and configuration back and checks them, then gives the image
 * that was put last its tag.  -EBADMSG: they are not what was put. */
int ql_compose_tag(struct ql_compose *c, struct ql_error *err);

#endif
