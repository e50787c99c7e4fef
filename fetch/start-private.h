/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start blobs: what the files start*.c share with each other and with those
 * who push and pull.  The format's grammar opens startwrite.c.
 */
#ifndef QL_START_PRIVATE_H
#define QL_START_PRIVATE_H

#include "fetch/push-private.h"

#define QL_START_MAGIC "QLSTART\1"

/* What a manifest says of a start blob, in its annotation QL_START_ANNOTATION:
 * "<digest> <size> <head's size> <head's digest>". */
#define QL_START_ANNOTATION "io.quicklayer.start"
#define QL_START_MEDIA_TYPE "application/vnd.quicklayer.start.v1+zstd"
#define QL_START_ARTIFACT "application/vnd.quicklayer.start.v1"

struct ql_start_ref {
	struct ql_digest blob;
	uint64_t size; /* bytes */
	uint64_t head_size;
	struct ql_digest head;
};
enum { QL_START_REF_TEXT = 256 };
/* Returns buf. */
char *ql_start_ref_print(const struct ql_start_ref *ref,
			 char buf[QL_START_REF_TEXT]);
/* -EBADMSG. */
int ql_start_ref_parse(const char *text, struct ql_start_ref *ret_ref,
		       struct ql_error *err);

/* ---- startwrite.c ---- */

struct ql_start_input { /* all borrowed */
	const struct ql_store *store;
	const struct ql_tree *tree; /* the merged one, of a file */
	const char *config;	    /* JSON */
	size_t config_len;
	struct ql_toc *const *tocs; /* of the layers, uppermost first */
	size_t n_tocs;
	const struct ql_trace *trace; /* or NULL */
};
/* -ENOENT: a file that no table knows, or that the trace names and is not
 * here. */
int ql_start_write(const struct ql_start_input *in, struct ql_buf *ret_blob,
		   struct ql_start_ref *ret_ref, struct ql_error *err);

/* ---- startread.c ---- */

struct ql_start {
	struct ql_buf head; /* owned: the parts lie in it */
	const uint8_t *tree, *config;
	size_t tree_len, config_len;
	struct ql_object_list objects; /* owned: of the tree */
	struct ql_buf toc;	       /* owned: of the image's files */
	struct ql_buf hot;	       /* owned: of the blob's own frames */
};
void ql_start_release(struct ql_start *start);
#define _cleanup_start_ __attribute__((cleanup(ql_start_release)))
/* head: the head as it came, which is verified.  -EBADMSG. */
int ql_start_parse(const void *head, const struct ql_start_ref *ref,
		   struct ql_start *ret_start, struct ql_error *err);

/* ---- startpush.c ---- */

struct ql_push_work;
struct ql_dest;
/* Composes and pushes the start blob of an image that is being pushed.
 * -ENOENT (not described): it has none. */
int ql_start_push(const struct ql_push_work *w, struct ql_start_ref *ret_ref,
		  bool *ret_there, struct ql_error *err);

struct ql_start_layer { /* borrowed */
	struct ql_manifest_blob blob;
	int fd; /* of its bytes; -1: the destination has them */
};
struct ql_start_image { /* borrowed */
	struct ql_store *store;
	const struct ql_tree *tree; /* as of struct ql_start_input, as these */
	const char *config;
	size_t config_len;
	const struct ql_trace *trace;	     /* or NULL */
	const struct ql_start_layer *layers; /* lowest first, all lazy */
	uint32_t n_layers;
};
/* The same of any image whose layers are at a destination.  -ENOENT: as of
 * ql_start_write(). */
int ql_start_put(const struct ql_start_image *image, struct ql_dest *dest,
		 const char *mount, struct ql_start_ref *ret_ref,
		 bool *ret_there, struct ql_error *err);
/* Puts the artifact that holds a start blob, and refers to a manifest. */
int ql_start_refer(struct ql_registry *reg, const struct ql_digest *manifest,
		   uint64_t manifest_size, const struct ql_start_ref *ref,
		   struct ql_error *err);

/* ---- lazylayers.c ---- */

/* Records those layers that have a table of contents as lazy. */
int ql_lazylayers_fetch(struct ql_store *store, struct ql_source *src,
			const struct ql_resolved *resolved,
			const struct ql_pull_options *options,
			struct ql_pull_result *result, struct ql_error *err);

/* ---- startpull.c ---- */

/* What the manifest, or who refers to it, says.  -ENOENT (not described): the
 * image has no start blob. */
int ql_start_find(struct ql_source *src, const struct ql_resolved *resolved,
		  struct ql_start_ref *ret_ref, struct ql_error *err);

/*
 * -ENOENT (not described): the image has no start blob.  *ret_spool (owned by
 * the caller) is set where the rest of the blob is still coming.
 */
int ql_start_pull(struct ql_store *store, struct ql_source *src,
		  const struct ql_ref *ref,
		  const struct ql_pull_options *options,
		  struct ql_resolved *resolved, struct ql_spool **ret_spool,
		  struct ql_pull_result *result, struct ql_error *err);

#endif
