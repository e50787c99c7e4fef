/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Root file systems as wholes: comparing two of them, each an image or a
 * folder on disk; and making images share what they have in common.
 */
#ifndef QL_REFACTOR_H
#define QL_REFACTOR_H

#include "fetch/fetch.h"
#include "store/store.h"

/* A root file system to read.  Used by one thread at a time. */
struct ql_root;

/* An image's tree, borrowed for the root's life. */
int ql_root_from_tree(const struct ql_tree *tree, struct ql_root **ret_root,
		      struct ql_error *err);
/* A folder, whatever is mounted below it included.  -ENOENT, -ENOTDIR. */
int ql_root_from_dir(const char *path, struct ql_root **ret_root,
		     struct ql_error *err);
void ql_root_free(struct ql_root *root);
QL_DEFINE_CLEANUP(struct ql_root *, ql_root_free)

/* One difference.  All strings are borrowed for the call. */
struct ql_difference {
	const char *path; /* "/" or "/a/b"; any bytes but NUL */
	/* "missing" (in b), "extra" (in b), "type", "mode", "uid", "gid",
	 * "size", "mtime", "device", "target", "content", "hardlink" (which
	 * path is the first with this inode), or "xattr NAME" */
	const char *what;
	const char *a; /* as text; NULL: not there */
	const char *b;
};
/* Non-zero stops, and is returned. */
typedef int ql_difference_fn(const struct ql_difference *d, void *arg);

enum ql_compare_flags {
	QL_COMPARE_SKIP_TOP = 1, /* not the root directory's own attributes */
	QL_COMPARE_SKIP_MTIME = 2,
	QL_COMPARE_SKIP_XATTRS = 4,
};

enum { QL_ROOT_DEPTH_MAX = 1000 }; /* folders in folders; deeper is -ELOOP */

/*
 * Compares entry by entry: type, permissions, owner, size, mtime (ns), device,
 * symlink target, every xattr, content, and which paths are one inode; not
 * link counts, sizes of directories, or atime and ctime.  A folder that only
 * one side has is one difference.  Content is compared by SHA-256: an image
 * knows its objects', a folder's files are read.  Memory: a listing for every
 * level of a folder on disk, and the paths of files with more than one link.
 */
int ql_root_compare(struct ql_root *a, struct ql_root *b, unsigned int flags,
		    ql_difference_fn *fn, void *arg, uint64_t *ret_count,
		    struct ql_error *err);

/* ---- refactoring: images in, images that share more out ---- */

enum { QL_REFACTOR_LAYERS = 20 }; /* an image's, by default */

enum ql_refactor_step {
	QL_REFACTOR_READING, /* images */
	QL_REFACTOR_WRITING, /* layers: written, uploaded, read back */
	QL_REFACTOR_PROVING, /* images */
};
/* So many of so many are done; from several threads, never two at once. */
typedef void ql_refactor_progress_fn(enum ql_refactor_step step, uint32_t done,
				     uint32_t of, void *arg);

struct ql_refactor_options {
	/* format, level, chunk_size, plain_http, config_dir, tmp_dir. */
	struct ql_push_options push;
	const char *platform; /* as of struct ql_pull_options */
	uint32_t max_layers;  /* of an image; 0: the default */
	unsigned int jobs;    /* layers at once; 0: as many as processors */
	bool any_mtime;	      /* files of different times are the same */
	bool dry_run;	      /* only says what would be */
	bool again;	      /* keeps layers that are at the destination */
	ql_refactor_progress_fn *progress; /* may be NULL */
	void *arg;			   /* borrowed */
};

/* Bytes are of blobs, or "content": of the files in them, uncompressed. */
struct ql_refactor_image {
	char *name; /* owned, as all here */
	char *dest;
	char *failed;		   /* why it was left out; or NULL */
	struct ql_digest source;   /* the manifest it was made from */
	struct ql_digest manifest; /* of the new image */
	uint32_t source_layers;
	uint32_t *layers, n_layers; /* of the result; lowest first */
	uint64_t content;	    /* of its root */
	uint64_t own;		    /* content that no other image has */
	/* What a pull moves into a site that has nothing, and into one that
	 * has all the other images. */
	uint64_t cold_before, cold_after, warm_before, warm_after;
	/* Content that such a site has already, and is moved all the same. */
	uint64_t redundant_before, redundant_after;
	uint64_t start_size; /* of the start blob; 0: none */
	uint64_t bytes_sent;
};

struct ql_refactor_layer {
	struct ql_digest blob, diff_id;
	uint32_t *images, n_images; /* of the result; owned */
	uint32_t units;		    /* entries of its archive */
	uint64_t content, size;
	bool kept;  /* it was made by an earlier run */
	bool there; /* nothing of it had to be sent */
	bool lazy;
};

struct ql_refactor_result {
	struct ql_refactor_image *images; /* owned */
	uint32_t n_images, n_failed;
	struct ql_refactor_layer *layers; /* owned; most general first */
	uint32_t n_layers;
	uint32_t layers_before; /* each once, as all of these */
	uint64_t blobs_before, blobs_after;
	uint64_t content_before, content_after;
	/* The store does not know the layers of an image that came by a start
	 * blob: content_before and redundant_before are too low. */
	bool before_unknown;
	/* Content, each file (path, attributes, bytes) once: no set of layers
	 * can have less. */
	uint64_t bound;
	uint64_t input; /* content of all roots */
	uint64_t bytes_sent;
	bool dry_run; /* nothing of blobs is known */
};
void ql_refactor_result_release(struct ql_refactor_result *result);

/*
 * Reads images (those that the store has are not read again), makes layers
 * that they share, pushes them as new images to where `to` says ("{name}" in
 * it is the last part of an image's name, "{tag}" its tag; by default
 * ":{name}-{tag}" is added), reads them back, compares each new root with the
 * old one, and moves its tag if they are the same.
 * An image that fails is left out, and says why in the result; 0 then, too.
 * -EINVAL: an option is out of range; two images have one destination.
 */
int ql_refactor(struct ql_store *store, const struct ql_ref *refs, uint32_t n,
		const char *to, const struct ql_refactor_options *options,
		struct ql_refactor_result *ret_result, struct ql_error *err);

/* A picture (SVG) of the layers over the images. */
int ql_refactor_picture(const struct ql_refactor_result *result,
			struct ql_buf *buf, struct ql_error *err);

#endif
