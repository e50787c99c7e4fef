/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images that are looked at while they are pulled: what the files of it share,
 * grouped by the file that owns it.  Nothing here is for outside fs/.
 *
 * Layers without tables of contents are read whole, and a file of one may be
 * had when it has passed.  What is known then of a path is not always what it
 * is: an upper layer that is still being read may have it too, or hide it.  So
 * a name is answered when nothing that is still to come can change the answer,
 * and who asks before waits:
 *
 *   growlayer.c  the entries of one layer that have passed
 *   growstack.c  what a stack of such layers says about a path: a file, that
 *                there is none, or that it is too early
 *   growing.c    the images that are being pulled, and who waits for them
 *   grownode.c   a path of one as a node of the mount, also when all is there
 *   growops.c    FUSE requests that wait
 *
 * Two answers are given early that the rest could change, both to what no
 * builder of images writes: a path that its archive names again (the later
 * entry counts in the end), and the attributes of the root where an upper
 * layer leaves them to a lower one.
 */
#ifndef QL_GROW_H
#define QL_GROW_H

#include "fetch/fetch.h"

/* ---- growlayer.c ---- */

struct ql_growlayer;

/* What a name of a layer stands for.  What it points to is the layer's, and
 * stays for as long as that. */
struct ql_growfile {
	uint32_t mode; /* with type */
	uint32_t uid, gid;
	uint32_t mtime_nsec;
	int64_t mtime_sec;
	dev_t rdev;
	struct ql_content content;
	const char *target; /* a symlink's */
	const char *link;   /* of a lower layer's file, whose name this is */
	const struct ql_tar_xattr *xattrs;
	size_t n_xattrs;
	bool implicit; /* a folder that no entry describes (so far) */
};

/* budget (borrowed): bytes that are left for it and others. */
struct ql_growlayer *
ql_growlayer_new(atomic_size_t *budget); /* NULL: out of memory */
void ql_growlayer_free(struct ql_growlayer *layer);
QL_DEFINE_CLEANUP(struct ql_growlayer *, ql_growlayer_free)
/* As of struct ql_layer_watch.  -ENOMEM: also of the budget. */
int ql_growlayer_add(struct ql_growlayer *layer, const struct ql_tar_entry *e,
		     const struct ql_content *content);
/* All of a layer that is here. */
int ql_growlayer_load(struct ql_growlayer *layer, const struct ql_tree *tree);
const struct ql_growfile *ql_growlayer_root(const struct ql_growlayer *layer);
/* NULL: no such name, so far. */
const struct ql_growfile *ql_growlayer_find(const struct ql_growlayer *layer,
					    const struct ql_growfile *dir,
					    const char *name, size_t len);

/* ---- growstack.c ---- */

struct ql_growstack {
	struct ql_growpart {
		const struct ql_growlayer *layer; /* borrowed; NULL: nothing */
		bool whole; /* it has been read to its end */
	} * parts;	    /* borrowed; lowest first */
	uint32_t n;	    /* at most QL_IMAGE_LAYERS_MAX */
};

/*
 * What stands at a path ("": the root; no slashes around it) of the merged
 * layers.  -ENOENT, -ENOTDIR: what is there in the end is not this;
 * -EINPROGRESS: what is still to come decides.
 */
int ql_growstack_find(const struct ql_growstack *stack, const char *path,
		      struct ql_growfile *ret_file);

/* ---- growing.c ---- */

struct ql_growings;
struct ql_growing; /* an image that is being pulled */

/* read_timeout: ns without any bytes after which who waits is told -EIO. */
int ql_growings_new(struct ql_store *store, uint64_t read_timeout,
		    struct ql_growings **ret_growings, struct ql_error *err);
/* Everybody who waits is told -EIO, now and later. */
void ql_growings_stop(struct ql_growings *growings);
void ql_growings_free(struct ql_growings *growings); /* NULL is fine */

/* For a pull of the name: its watch is lent until ql_growing_end(), which
 * takes it.  NULL: out of memory. */
struct ql_growing *ql_growing_new(struct ql_growings *growings,
				  const char *name);
const struct ql_pull_watch *ql_growing_watch(const struct ql_growing *growing);
void ql_growing_progress(struct ql_growing *growing); /* bytes have come */
/* The image is in the store, or (error < 0) will not be. */
void ql_growing_end(struct ql_growing *growing, int error);

/* All below: growings NULL is one of no images.  Freed by ql_growing_put();
 * NULL: it is not being pulled. */
struct ql_growing *ql_growings_find(struct ql_growings *growings,
				    const struct ql_digest *manifest);
void ql_growing_put(struct ql_growing *growing); /* NULL is fine */
/* Calls fn with each one's name and (all there is of it) manifest; under a
 * lock.  A non-zero return stops, and is returned. */
int ql_growings_each(struct ql_growings *growings, ql_image_fn *fn, void *arg);
/* By a name, or a manifest's digest.  -ENOENT; -EINVAL. */
int ql_growings_named(struct ql_growings *growings, const char *text,
		      struct ql_digest *ret_manifest, struct ql_error *err);

/* As ql_growstack_find(); what ret_file points to is the growing's. */
int ql_growing_find(struct ql_growing *growing, const char *path,
		    struct ql_growfile *ret_file);
/* An object that has come with it and may have no name yet.  -ENOENT. */
int ql_growing_open(struct ql_growing *growing, const struct ql_digest *object,
		    int *ret_fd);

struct ql_growwait {
	/* The caller's, for as long as it waits: */
	const char *path; /* borrowed; in the image */
	bool whole;	  /* until all of the image is there */
	/* Called once, by the growings' thread: 0: ask again; or -EIO, or
	 * what hurry was given. */
	void (*done)(struct ql_growwait *w, int error);
	/* The growings': */
	struct ql_growwait *next, **prev;
	struct ql_growings *growings;
	uint64_t hash, since;
	int error;
	bool queued;
};
/* Waits until the answer may be another than -EINPROGRESS; that it is so
 * already is fine. */
void ql_growings_wait(struct ql_growings *growings,
		      const struct ql_digest *manifest, struct ql_growwait *w);
/* Has done called soon, with error.  Before ql_growings_wait(), too, but not
 * when done has returned; w->growings is set. */
void ql_growwait_hurry(struct ql_growwait *w, int error);

#endif
