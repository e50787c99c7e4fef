/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the writers of blobs and the push offer each other, grouped by the
 * file that owns it, each on those before it: frames, scratch, tarsplit, toc;
 * layerwrite, zstdchunked, estargz; manifestwrite, configwrite; upload,
 * registrypush, referrers; dest; layerconvert; composeblob, compose; push.
 */
#ifndef QL_PUSH_PRIVATE_H
#define QL_PUSH_PRIVATE_H

#include "fetch/fetch-private.h"

/* ---- frames.c: a blob, compressed by several threads ---- */

enum ql_frames_kind {
	QL_FRAMES_ZSTD, /* a zstd frame each */
	QL_FRAMES_GZIP, /* a gzip member each */
	QL_FRAMES_ONE,	/* one gzip member; frames end where they like */
};

struct ql_frame_result {
	void *user;		 /* as passed to ql_frames_end() */
	uint64_t offset;	 /* in the blob */
	uint64_t len;		 /* there */
	struct ql_digest digest; /* of the bytes before the mark */
	bool zeros;		 /* those are all zeros */
};

struct ql_frames_options {
	enum ql_frames_kind kind;
	int level;	      /* zstd's or zlib's */
	unsigned int threads; /* 0: as many as there are processors */
	int fd;		      /* borrowed; written at its position */
	/* Called in order, in the caller's thread, for frames with a user. */
	int (*done)(void *arg, const struct ql_frame_result *res,
		    struct ql_error *err);
	void *arg; /* borrowed */
};

struct ql_frames;
int ql_frames_new(const struct ql_frames_options *options,
		  struct ql_frames **ret_frames, struct ql_error *err);
void ql_frames_free(struct ql_frames *fs); /* what is not written is lost */
QL_DEFINE_CLEANUP(struct ql_frames *, ql_frames_free)
/* Adds to the open frame; QL_FRAMES_ONE ends frames by itself. */
int ql_frames_add(struct ql_frames *fs, const void *data, size_t len,
		  struct ql_error *err);
/* Bytes in the open frame. */
size_t ql_frames_open(const struct ql_frames *fs);
/* The frame's digest is of what was added to it so far. */
void ql_frames_mark(struct ql_frames *fs);
/* Ends the open frame, if there is anything in it. */
int ql_frames_end(struct ql_frames *fs, void *user, struct ql_error *err);
/* Ends it, and waits until all is written. */
int ql_frames_flush(struct ql_frames *fs, struct ql_error *err);
/* After a flush: bytes of the blob as they are. */
int ql_frames_raw(struct ql_frames *fs, const void *data, size_t len,
		  struct ql_error *err);
uint64_t ql_frames_size(const struct ql_frames *fs); /* written so far */
int ql_frames_finish(struct ql_frames *fs, struct ql_digest *ret_digest,
		     uint64_t *ret_size, struct ql_error *err);

/* ---- scratch.c: text that is too much for memory ---- */

struct ql_scratch {
	int fd; /* owned; a file without a name */
	uint64_t len, max;
	struct ql_buf buf; /* not written yet */
};
/* In the folder dir. */
int ql_scratch_init(struct ql_scratch *sp, const char *dir, uint64_t max,
		    struct ql_error *err);
void ql_scratch_release(struct ql_scratch *sp);
#define _cleanup_scratch_ __attribute__((cleanup(ql_scratch_release)))
/* -EFBIG: more than its maximum. */
int ql_scratch_add(struct ql_scratch *sp, const void *data, size_t len,
		   struct ql_error *err);
int ql_scratch_adds(struct ql_scratch *sp, const char *text,
		    struct ql_error *err);
/* Calls fn with all of it, in pieces. */
typedef int ql_scratch_fn(void *arg, const void *data, size_t len,
			  struct ql_error *err);
int ql_scratch_each(struct ql_scratch *sp, ql_scratch_fn *fn, void *arg,
		    struct ql_error *err);
/* A file without a name in the folder dir. */
int ql_tmpfile(const char *dir, int *ret_fd, struct ql_error *err);

/* ---- zstdstream.c: one zstd frame into a scratch file ---- */

struct ql_zwriter;
/* Of size bytes: high levels take less memory then; UINT64_MAX: unknown. */
int ql_zwriter_new(struct ql_scratch *to, int level, uint64_t size,
		   struct ql_zwriter **ret_w, struct ql_error *err);
void ql_zwriter_free(struct ql_zwriter *w);
QL_DEFINE_CLEANUP(struct ql_zwriter *, ql_zwriter_free)
int ql_zwriter_add(struct ql_zwriter *w, const void *data, size_t len,
		   struct ql_error *err);
/* Digest of the frame, bytes that went in. */
int ql_zwriter_end(struct ql_zwriter *w, struct ql_digest *ret_digest,
		   uint64_t *ret_raw, struct ql_error *err);

/* ---- tarsplit.c ---- */

struct ql_tarsplit;
int ql_tarsplit_new(struct ql_zwriter *out, struct ql_tarsplit **ret_ts,
		    struct ql_error *err);
void ql_tarsplit_free(struct ql_tarsplit *ts);
QL_DEFINE_CLEANUP(struct ql_tarsplit *, ql_tarsplit_free)
/* Bytes between files' content: one call for all that stands before an
 * entry's content. */
int ql_tarsplit_segment(struct ql_tarsplit *ts, const void *data, size_t len,
			struct ql_error *err);
/* Content of the entry that follows the segment, then the entry's end. */
void ql_tarsplit_data(struct ql_tarsplit *ts, const void *data, size_t len);
int ql_tarsplit_file(struct ql_tarsplit *ts, const char *name, uint64_t size,
		     struct ql_error *err);

/* ---- tocentry.c: entries as tables of contents spell them ---- */

enum ql_toc_dialect { QL_TOC_CHUNKED, QL_TOC_STARGZ };

struct ql_toc_piece {
	uint64_t offset;      /* in the file */
	uint64_t len;	      /* bytes */
	uint64_t blob_offset; /* of its frame */
	uint64_t blob_end;    /* behind it */
	struct ql_digest digest;
	bool zeros;
};
/* -EILSEQ (not described): no JSON can say it.  Owned. */
int ql_toc_entry_new(enum ql_toc_dialect dialect, const struct ql_tar_entry *e,
		     const struct ql_tar_raw *raw, json_t **ret_entry,
		     struct ql_error *err);
/* Adds the entry, whole, and its further pieces, to the list. */
int ql_toc_entry_write(enum ql_toc_dialect dialect, json_t *entry,
		       const struct ql_digest *digest,
		       const struct ql_toc_piece *pieces, size_t n,
		       struct ql_scratch *to, bool first, struct ql_error *err);

/* ---- tarorder.c ---- */

/*
 * Reads an archive (borrowed) to its end; the stream is the same archive with
 * these paths first, as far as it has them, and what each of them needs
 * before it; *ret_n_first entries of it are that.  No end mark.
 */
int ql_tar_order(struct ql_stream *tar, const char *const *first,
		 size_t n_first, const char *tmp_dir,
		 struct ql_stream **ret_stream, uint32_t *ret_n_first,
		 struct ql_error *err);

/* ---- layerwrite.c ---- */

#define QL_TYPE_LAYER "application/vnd.oci.image.layer.v1.tar"

enum {
	/* What readers of tables take. */
	QL_LAYER_ENTRIES_MAX = 1 << 20,
	QL_LAYER_PIECES_MAX = 1 << 22,
};

struct ql_layer_format {
	enum ql_push_format format;
	bool plain; /* of that compression, with no table of contents */
	int level;
	uint32_t chunk_size;  /* bytes */
	unsigned int threads; /* 0: as many as there are processors */
	const char *tmp_dir;
	/* eStargz: paths that are worth fetching ahead; may be NULL. */
	const char *const *first;
	size_t n_first;
};

struct ql_written {
	int fd;			 /* owned; a file without a name */
	struct ql_digest digest; /* of the blob */
	struct ql_digest diff_id;
	uint64_t size; /* bytes of the blob */
	const char *media_type;
	json_t *annotations; /* owned; may be NULL */
};
void ql_written_release(struct ql_written *w);

/*
 * Reads an uncompressed tar (borrowed) to its end and writes it in another
 * format.  diff_id is the tar's; ret->diff_id differs where the format adds
 * to the archive.  -EXDEV: this layer has something that a table of contents
 * cannot say, described; it can be written as `plain`.
 */
int ql_layer_write(struct ql_stream *tar, const struct ql_digest *diff_id,
		   const struct ql_layer_format *format, struct ql_written *ret,
		   struct ql_error *err);

/* ---- zstdchunked.c, estargz.c: what a format adds to layerwrite.c ---- */

/* A file whose pieces are not all written yet. */
struct ql_pending {
	struct ql_pending *next;     /* owned */
	json_t *entry;		     /* owned */
	struct ql_toc_piece *pieces; /* owned; n, of which got are written */
	size_t n, cap, got;
	bool whole;	 /* all of its content was seen */
	bool has_digest; /* else its only piece's */
	struct ql_digest digest;
};

struct ql_layerwriter {
	const struct ql_layer_format *format; /* borrowed */
	enum ql_toc_dialect dialect;
	struct ql_frames *frames; /* owned */
	struct ql_buf head;	  /* what came since the last content */
	struct ql_scratch toc;	  /* entries, ready */
	bool any;		  /* there are some */
	uint64_t entries, pieces;
	struct ql_pending *first, *last; /* owned list, oldest first */
	struct ql_pending *file;	 /* whose content is coming, or NULL */
	uint64_t left;			 /* of it */
	uint64_t at;		     /* in it: where the open piece begins */
	size_t piece_len;	     /* of the open piece so far */
	struct ql_pending *marked;   /* whose piece is in the open frame */
	struct ql_hasher *file_hash; /* owned */
	struct ql_names *names;	     /* owned */

	/* zstd:chunked */
	struct ql_scratch split_text;
	struct ql_zwriter *split_z; /* owned */
	struct ql_tarsplit *split;  /* owned */
	char *name;		    /* owned; of the entry that is open */
	uint64_t size;		    /* its */
	uint64_t padding;	    /* due behind its content */

	/* eStargz */
	struct ql_hasher *diff_hash; /* owned */
	uint64_t raw;		     /* bytes hashed */
	bool drop;		     /* the entry that is open is left out */
	uint32_t n_first;	     /* entries before the landmark */
	uint32_t n_seen;
};

/* Bytes that are no content into the open frame. */
int ql_layerwriter_raw(struct ql_layerwriter *w, const void *data, size_t len,
		       struct ql_error *err);
/* Ends the open frame. */
int ql_layerwriter_cut(struct ql_layerwriter *w, struct ql_error *err);
/* An entry whose headers are written; content follows, if it is a file. */
int ql_layerwriter_entry(struct ql_layerwriter *w, const struct ql_tar_entry *e,
			 const struct ql_tar_raw *raw, struct ql_error *err);
int ql_layerwriter_data(struct ql_layerwriter *w, const void *data, size_t len,
			struct ql_error *err);
/* Describes why there can be no table of contents.  -EXDEV. */
int ql_layerwriter_refuse(const char *path, const char *why,
			  struct ql_error *err);

struct ql_layerwriter_ops {
	int (*begin)(struct ql_layerwriter *w, struct ql_error *err);
	/* As of struct ql_tarcut_ops; raw bytes are in w->head. */
	int (*entry)(void *w, const struct ql_tar_entry *e,
		     const struct ql_tar_raw *raw, struct ql_error *err);
	int (*data)(void *w, const void *data, size_t len,
		    struct ql_error *err);
	/* All is read: writes what ends the blob; ret has digest and size
	 * after it, the rest is filled in here. */
	int (*end)(struct ql_layerwriter *w, struct ql_written *ret,
		   struct ql_error *err);
};
extern const struct ql_layerwriter_ops ql_zstdchunked_ops;
extern const struct ql_layerwriter_ops ql_estargz_ops;

/* ---- names.c: has this name been seen? ---- */

struct ql_names;
struct ql_names *ql_names_new(void); /* NULL: out of memory */
void ql_names_free(struct ql_names *names);
/* 1: it is new; 0: seen; -ENOMEM. */
int ql_names_add(struct ql_names *names, const char *name);

/* ---- manifestwrite.c ---- */

#define QL_TYPE_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define QL_TYPE_INDEX "application/vnd.oci.image.index.v1+json"
#define QL_TYPE_CONFIG "application/vnd.oci.image.config.v1+json"
#define QL_TYPE_EMPTY "application/vnd.oci.empty.v1+json"

struct ql_manifest_blob { /* all borrowed */
	const char *media_type;
	struct ql_digest digest;
	uint64_t size;
	json_t *annotations;	   /* or NULL */
	const char *artifact_type; /* or NULL; in indexes */
};

/* An image, or an artifact (OCI image-spec 1.1, manifest.md, "Guidelines for
 * Artifact Usage"): config is then QL_TYPE_EMPTY, or something else's. */
struct ql_manifest_spec {	   /* all borrowed */
	const char *artifact_type; /* or NULL */
	struct ql_manifest_blob config;
	const struct ql_manifest_blob *blobs; /* the layers, lowest first */
	size_t n_blobs;
	const struct ql_manifest_blob *subject; /* or NULL */
	json_t *annotations;			/* or NULL */
};

/* Appends the manifest's text. */
int ql_manifest_write(const struct ql_manifest_spec *spec, struct ql_buf *buf,
		      struct ql_error *err);
/* One descriptor, owned. */
int ql_manifest_descriptor(const struct ql_manifest_blob *blob,
			   json_t **ret_obj, struct ql_error *err);

/* ---- registrypush.c: OCI distribution-spec 1.1, "Push" ---- */

struct ql_push_blob {
	struct ql_digest digest;
	uint64_t size;	   /* bytes */
	const void *data;  /* borrowed; NULL: it is in fd */
	int fd;		   /* borrowed; -1, and no data: it can be found there
			    * or mounted alone, or -ENODATA */
	const char *mount; /* a repository of the same registry that may have
			    * it, or NULL */
	/* How much of it is sent, in any thread; borrowed for the registry's
	 * life; or NULL. */
	void (*sent)(uint64_t bytes, void *arg);
	void *arg;
};

/* Does the repository have it?  1 or 0. */
int ql_registry_has_blob(struct ql_registry *reg,
			 const struct ql_digest *digest, struct ql_error *err);
/* Uploads a blob, unless it is there already (*ret_there). */
int ql_registry_put_blob(struct ql_registry *reg,
			 const struct ql_push_blob *blob, bool *ret_there,
			 struct ql_error *err);
/* tag NULL: by its digest alone. */
int ql_registry_put_manifest(struct ql_registry *reg, const char *tag,
			     const char *media_type, const void *data,
			     size_t len, struct ql_error *err);

/* ---- referrers.c ---- */

/*
 * Appends the index of what refers to a manifest ("" artifact_type or NULL:
 * all), as JSON; by the API, or by the tag where there is none.  An index of
 * nothing where nothing does.
 */
int ql_registry_referrers(struct ql_registry *reg,
			  const struct ql_digest *digest,
			  const char *artifact_type, struct ql_buf *buf,
			  struct ql_error *err);
/* Adds a manifest with a subject to that tag's index: for registries that do
 * not keep account themselves. */
int ql_registry_refer(struct ql_registry *reg, const struct ql_digest *subject,
		      const struct ql_manifest_blob *manifest,
		      struct ql_error *err);

/* ---- dest.c, ocidirwrite.c: where a push goes ---- */

struct ql_dest;
struct ql_start_ref;

struct ql_dest_ops {
	int (*put_blob)(struct ql_dest *dest, const struct ql_push_blob *blob,
			bool *ret_there, struct ql_error *err);
	/* After all that it names; under its digest, or the reference's
	 * tag. */
	int (*put_manifest)(struct ql_dest *dest, bool tagged, const void *data,
			    size_t len, struct ql_error *err);
	/* The same place, to read from; borrowed. */
	struct ql_source *(*source)(struct ql_dest *dest);
	/* As ql_dest_hold(); NULL: nothing is ever lost there. */
	int (*hold)(struct ql_dest *dest, const struct ql_digest *manifest,
		    uint64_t size, const struct ql_start_ref *start,
		    struct ql_error *err);
	void (*cancel)(struct ql_dest *dest); /* from any thread */
	void (*free)(struct ql_dest *dest);
};

/* First member of every implementation. */
struct ql_dest {
	const struct ql_dest_ops *ops;
};

/* -EINVAL: nothing can be pushed to such a reference. */
int ql_dest_open(const struct ql_ref *ref,
		 const struct ql_push_options *options,
		 struct ql_dest **ret_dest, struct ql_error *err);
void ql_dest_free(struct ql_dest *dest);
QL_DEFINE_CLEANUP(struct ql_dest *, ql_dest_free)
int ql_ocidirwrite_open(const struct ql_ref *ref, struct ql_dest **ret_dest,
			struct ql_error *err);
/* Puts a blob that is in memory; mount: as of struct ql_push_blob. */
int ql_dest_put_data(struct ql_dest *dest, const void *data, size_t len,
		     const char *mount, struct ql_digest *ret_digest,
		     bool *ret_there, struct ql_error *err);
/* Has a manifest's start blob kept for as long as the manifest. */
int ql_dest_hold(struct ql_dest *dest, const struct ql_digest *manifest,
		 uint64_t size, const struct ql_start_ref *start,
		 struct ql_error *err);

/* ---- configwrite.c ---- */

/* Appends an image's configuration with other diff IDs. */
int ql_config_write(const char *data, size_t len,
		    const struct ql_digest *diff_ids, uint32_t n_layers,
		    struct ql_buf *buf, struct ql_error *err);
/* The same, and its history becomes one of no layers, with an entry for each
 * of the layers, of these texts, behind it. */
int ql_config_compose(const char *data, size_t len,
		      const struct ql_digest *diff_ids,
		      const char *const *created_by, uint32_t n_layers,
		      struct ql_buf *buf, struct ql_error *err);

/* ---- layerconvert.c: with a table of contents, or without ---- */

/* Fills in what the options leave open; -EINVAL: they are out of range. */
int ql_push_options_check(struct ql_push_options *o, struct ql_error *err);
/* As these options say (borrowed); threads: as of struct ql_layer_format. */
struct ql_layer_format ql_layer_format_of(const struct ql_push_options *o,
					  unsigned int threads);
struct ql_converted {
	struct ql_written written; /* owned */
	uint64_t tar_size;	   /* bytes of the archive that was read */
	char *why;		   /* owned; as of struct ql_push_layer */
};
void ql_converted_release(struct ql_converted *c);
#define _cleanup_converted_ __attribute__((cleanup(ql_converted_release)))
/* Writes the layer with a table of contents where that can be, else without.
 * diff_id NULL: it is found out. */
int ql_layer_convert(ql_tar_open_fn *open, void *arg,
		     const struct ql_digest *diff_id,
		     const struct ql_layer_format *format,
		     struct ql_converted *ret, struct ql_error *err);

/* ---- composeblob.c ---- */

struct ql_blob {
	struct ql_blob_info info;
	struct ql_converted c; /* owned */
};
/* Its descriptor; borrowed from it. */
struct ql_manifest_blob ql_blob_descriptor(const struct ql_blob *blob);

/* ---- pushlayers.c: the workers of a push ---- */

struct ql_pushed_layer { /* beside struct ql_push_layer */
	struct ql_digest diff_id;
	const char *media_type;
	json_t *annotations; /* owned; may be NULL */
};

struct ql_push_work {
	struct ql_source *src; /* borrowed, as all these */
	struct ql_dest *dest;
	const struct ql_resolved *resolved;
	const struct ql_push_options *options;
	const char *mount;		/* as of struct ql_push_blob */
	struct ql_push_layer *layers;	/* filled in; one for each */
	struct ql_pushed_layer *pushed; /* filled in likewise */
	void *keep;			/* owned; to be freed when dest is */
};
int ql_pushlayers_run(struct ql_push_work *work, struct ql_error *err);

#endif
