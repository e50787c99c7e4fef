/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store: content, metadata and catalogue of what is on this node.
 *
 *   objects/ab/cdef…     a file's content, named by its sha256, mode 0444
 *   images/<digest>.cfs  the merged tree of one image: a composefs image
 *   layers/<digest>.cfs.zst  the entries of one layer, whiteouts by their OCI
 *                        names: a composefs image in one zstd frame
 *   packed/ab/cdef…      parts of a layer's blob as they came (packed.h)
 *   partial/             files being written, and locks of layers being filled
 *   catalog/             the LMDB environment (grammar: catalog.c)
 *   space                what all that takes of the disk (spacefile.c)
 *   lock                 shared by whoever adds, exclusive to whoever removes
 *
 * Functions return 0 or a negative errno and describe it in err.  A store may
 * be used by any number of threads and processes at once; struct ql_tree is
 * immutable and may be shared by threads.
 */
#ifndef QL_STORE_H
#define QL_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "store/accesslog.h"
#include "store/base/base.h"
#include "store/keep.h"
#include "store/packed.h"
#include "store/scrub.h"
#include "store/space.h"
#include "store/tarcut.h"
#include "store/tarwrite.h"
#include "store/toc.h"

/* ---- the store ---- */

struct ql_store;

enum ql_store_mode {
	QL_STORE_READ,	/* must exist; nothing is written */
	QL_STORE_WRITE, /* made where it does not exist */
};

/*
 * root NULL: $QUICKLAYER_ROOT, else /var/lib/quicklayer for root, else
 * $XDG_DATA_HOME/quicklayer (~/.local/share/quicklayer).
 * -ENOENT: no store there (READ).  -EPROTONOSUPPORT: a store of a format that
 * this version does not know.
 */
int ql_store_open(const char *root, enum ql_store_mode mode,
		  struct ql_store **ret_store, struct ql_error *err);
/* What root NULL stands for; owned, NULL: out of memory. */
char *ql_store_default_root(void);
void ql_store_close(struct ql_store *store);
QL_DEFINE_CLEANUP(struct ql_store *, ql_store_close)

const char *ql_store_root(const struct ql_store *store); /* borrowed */
int ql_store_root_fd(const struct ql_store *store);	 /* borrowed */

/* Tells the kernel that this process needs none of the catalogue's pages now;
 * they stay in the page cache. */
void ql_store_relax(const struct ql_store *store);

/* Held while adding (shared) or removing (exclusive); waits.  The descriptor
 * that holds the lock; close it to let go. */
int ql_store_lock(struct ql_store *store, bool exclusive, int *ret_fd,
		  struct ql_error *err);

/* ---- objects ---- */

enum { QL_OBJECT_PATH = 73 }; /* "objects/ab/<62 hex digits>", no NUL */

/* The object's path below the store's root; returns buf. */
char *ql_object_path(const struct ql_digest *digest,
		     char buf[QL_OBJECT_PATH + 1]);
/* Opens an object for reading.  -ENOENT: not here. */
int ql_object_open(const struct ql_store *store, const struct ql_digest *digest,
		   int *ret_fd, struct ql_error *err);
/* Stores data (a manifest, a configuration) as an object under its digest;
 * -EBADMSG where `expect`, if given, is another. */
int ql_object_put(struct ql_store *store, const void *data, size_t len,
		  const struct ql_digest *expect, struct ql_digest *ret_digest,
		  struct ql_error *err);
/* Calls fn for each object that is here, in no order, and without a lock: one
 * that comes or goes meanwhile may be told of or not.  A non-zero return of fn
 * stops and is returned. */
typedef int ql_object_fn(const struct ql_digest *digest, void *arg);
int ql_object_each(const struct ql_store *store, ql_object_fn *fn, void *arg,
		   struct ql_error *err);
/* A number that changes when objects come or go: a hash of when each of their
 * folders changed. */
uint64_t ql_object_changes(const struct ql_store *store);
/* Appends a whole object to buf. */
int ql_object_read(const struct ql_store *store, const struct ql_digest *digest,
		   struct ql_buf *buf, struct ql_error *err);

/* ---- layers ---- */

struct ql_layer_info {
	struct ql_digest diff_id; /* of the uncompressed tar */
	struct ql_digest blob;	  /* of the blob it came as */
	uint64_t blob_size;	  /* bytes */
	uint64_t tar_size;	  /* bytes */
	uint64_t entries;	  /* tar entries that are files, folders, … */
	uint64_t file_bytes;	  /* sum of the regular files' sizes */
	struct ql_digest cfs;	  /* of layers/<diff_id>.cfs.zst */
	uint32_t flags;		  /* QL_LAYER_* */
};

struct ql_layer_stats {
	uint64_t new_objects; /* written by this import */
	uint64_t new_bytes;
	uint64_t dup_objects; /* found here already */
	uint64_t dup_bytes;
};

enum {
	/* Its objects need not be here: layers/<blob>.toc says where they are.
	 * Cleared once all of them are (ql_image_mark_whole()). */
	QL_LAYER_LAZY = 1,
	/* It was taken away (store/keep.h): of its objects, only those are sure
	 * to stay that others need.  It is lazy, too, and comes back as a whole
	 * by ql_keep_access() or ql_keep_open(). */
	QL_LAYER_GONE = 2,
};

/* -ENOENT (not described): the layer is not here. */
int ql_layer_get(struct ql_store *store, const struct ql_digest *diff_id,
		 struct ql_layer_info *ret_info);

/*
 * Held while a layer is being filled, so that two processes (or threads) do
 * not fetch it at once; waits for the other.  After it, ask ql_layer_get()
 * again.  Release with ql_layer_unlock().
 */
struct ql_layer_lock;
int ql_layer_lock(struct ql_store *store, const struct ql_digest *diff_id,
		  struct ql_layer_lock **ret_lock, struct ql_error *err);
void ql_layer_unlock(struct ql_layer_lock *lock);
QL_DEFINE_CLEANUP(struct ql_layer_lock *, ql_layer_unlock)

/*
 * Reads one layer's uncompressed tar (taken, also on failure) to its end,
 * stores its files and records the layer.  info->diff_id, blob and blob_size
 * are the caller's; the rest is filled in.  The caller holds the store's lock
 * (shared) and the layer's.
 * toc (borrowed; NULL: none) gets the places of its files, whose raw space is
 * the tar; if by the end of the tar its spans, which are for whoever makes
 * the tar to add, cover them, it is kept as the blob's table of contents.
 * -EBADMSG: not the stated diff ID, or not a tar.  -ELOOP, -EINVAL,
 * -ENAMETOOLONG: an entry that no image may hold, named.  -ENOSPC.
 */
int ql_layer_import(struct ql_store *store, struct ql_stream *tar,
		    struct ql_layer_info *info, struct ql_toc_writer *toc,
		    struct ql_layer_stats *ret_stats, struct ql_error *err);

/* ---- layers that are looked at while they are read ---- */

/* The door by which a layer's files come in. */
struct ql_ingest;
/* Opens an object that has passed the door, also while it has no name yet.
 * From any thread, between begin and end.  -ENOENT: it has not; or it has its
 * name by now. */
int ql_ingest_open(struct ql_ingest *door, const struct ql_digest *digest,
		   int *ret_fd);

struct ql_tar_entry;
struct ql_content;

/*
 * Who is told of a layer's entries as they pass, in the thread that reads
 * them.  The layer's digest is compared at its end: until then nobody vouches
 * for what has passed.
 */
struct ql_layer_watch {
	/* The door is lent until end. */
	void (*begin)(struct ql_ingest *door, void *arg);
	/* An entry that may be in an image, a whiteout also, whose content has
	 * been read; both are lent for the call. */
	void (*entry)(const struct ql_tar_entry *e,
		      const struct ql_content *content, void *arg);
	void (*end)(void *arg); /* the layer is here, or it failed */
	void *arg;		/* borrowed */
};

/* As ql_layer_import(); watch is borrowed, NULL: nobody. */
int ql_layer_import_watched(struct ql_store *store, struct ql_stream *tar,
			    struct ql_layer_info *info,
			    struct ql_toc_writer *toc,
			    const struct ql_layer_watch *watch,
			    struct ql_layer_stats *ret_stats,
			    struct ql_error *err);

/* ---- layers whose content is elsewhere ---- */

struct ql_tar_xattr {
	char *name;  /* owned */
	char *value; /* owned */
	size_t len;
};

/* An entry of a layer's archive. */
struct ql_tar_entry {
	char type;  /* '0' file, '1' hardlink, '2' symlink, '3' char device,
		     * '4' block device, '5' folder, '6' FIFO */
	char *path; /* owned; normalized: no leading or trailing '/', no "." */
	char *link; /* owned; symlink's target as it is, hardlink's normalized
		     */
	uint32_t mode; /* permissions only */
	uint32_t uid, gid;
	uint64_t size; /* bytes of content, holes included */
	int64_t mtime_sec;
	uint32_t mtime_nsec;
	uint32_t major, minor;
	struct ql_tar_xattr *xattrs; /* owned */
	size_t n_xattrs;
};

/* Where a part of a file lies in the layer's blob. */
struct ql_place {
	uint64_t offset; /* in the file */
	uint32_t len;	 /* bytes */
	bool whole;	 /* it is all of the file: digest is not used */
	struct ql_digest digest;
	uint64_t blob_offset; /* of the frame or member that holds it */
	uint64_t blob_len;    /* that need be read, at most; 0: up to the next
			       * place's, or ql_draft_end() */
	uint64_t inner;	      /* where in what that decodes to */
};

/*
 * A layer that is known by its table of contents: entries in their order, and
 * for each regular file the places of its content.  Nothing of it is visible
 * before it is committed.
 */
struct ql_draft;
int ql_draft_new(struct ql_store *store, const struct ql_digest *blob,
		 uint64_t blob_size, enum ql_codec codec,
		 struct ql_draft **ret_draft, struct ql_error *err);
void ql_draft_free(struct ql_draft *draft);
QL_DEFINE_CLEANUP(struct ql_draft *, ql_draft_free)
/* Names need not be normalized.  content: the digest of a regular file with
 * size > 0, else not used.  Errors as of ql_layer_import(). */
int ql_draft_entry(struct ql_draft *draft, const struct ql_tar_entry *e,
		   const struct ql_digest *content, struct ql_error *err);
/* Of the last entry; in ascending order both in the file and in the blob
 * (several may share a frame).  What no place covers is zeros.  -EBADMSG: out
 * of the blob or the file, overlapping. */
int ql_draft_place(struct ql_draft *draft, const struct ql_place *place,
		   struct ql_error *err);
/* The last place's frame, where its length was left open, ends at end. */
int ql_draft_end(struct ql_draft *draft, uint64_t end, struct ql_error *err);
/* Records the layer as lazy.  info->diff_id is the caller's, the rest is
 * filled in.  Locks as for ql_layer_import(). */
int ql_draft_commit(struct ql_draft *draft, struct ql_layer_info *info,
		    struct ql_error *err);
/* Appends the layer's table of contents, for ql_toc_open_mem(), and records
 * nothing. */
int ql_draft_toc(struct ql_draft *draft, struct ql_buf *buf,
		 struct ql_error *err);

/* The table of contents of the blob that a layer came as. */
int ql_toc_open_layer(const struct ql_store *store,
		      const struct ql_layer_info *info, struct ql_toc **ret_toc,
		      struct ql_error *err);

/* Of an image's files, where its tree came ready-made.  Declared here:
 * ql_image_info is below. */
struct ql_image_info;
int ql_toc_open_image(const struct ql_store *store,
		      const struct ql_image_info *info, struct ql_toc **ret_toc,
		      struct ql_error *err);
/* Of the parts that its start needs; it says nothing of the others. */
int ql_toc_open_hot(const struct ql_store *store,
		    const struct ql_image_info *info, struct ql_toc **ret_toc,
		    struct ql_error *err);
/* Of any blob whose table is here. */
int ql_toc_open_blob(const struct ql_store *store, const struct ql_digest *blob,
		     struct ql_toc **ret_toc, struct ql_error *err);
/* The file that it is in.  -ENOENT (not described): none. */
int ql_toc_open_file(const struct ql_store *store, const struct ql_digest *blob,
		     int *ret_fd, struct ql_error *err);

/* ---- where blobs are to be had ---- */

/* Remembers that a repository ("docker.io/library/redis", "oci:/dir") has
 * blobs.  The newest is asked first; a few are kept for each. */
int ql_blob_sources_add(struct ql_store *store, const struct ql_digest *blobs,
			size_t n, const char *repository, struct ql_error *err);
/* Appends their names, each ended by a NUL.  -ENOENT (not described). */
int ql_blob_sources(struct ql_store *store, const struct ql_digest *blob,
		    struct ql_buf *buf);

/* ---- extents: which parts of a file are there ---- */

struct ql_extents {
	struct ql_extent {
		uint64_t start, end;
	} * items; /* owned; ascending, apart from each other */
	size_t n, cap;
};
void ql_extents_release(struct ql_extents *e);
int ql_extents_add(struct ql_extents *e, uint64_t start, uint64_t end);
bool ql_extents_have(const struct ql_extents *e, uint64_t start, uint64_t end);
uint64_t ql_extents_bytes(const struct ql_extents *e);
/* The end of what is there without a gap from start on; start: nothing. */
uint64_t ql_extents_reach(const struct ql_extents *e, uint64_t start);
/* Takes a part out.  -ENOMEM: nothing was changed. */
int ql_extents_cut(struct ql_extents *e, uint64_t start, uint64_t end);
/* Adds all of another's.  -ENOMEM. */
int ql_extents_copy(const struct ql_extents *from, struct ql_extents *to);

/* ---- objects that come piece by piece ---- */

/* A file without a name, to be written, read and published. */
int ql_object_scratch(const struct ql_store *store,
		      const struct ql_digest *digest, int *ret_fd,
		      struct ql_error *err);
/*
 * Opens partial/<digest>.part, made where it is not there, for this process
 * alone, and says which parts are known to be in it.  -EBUSY (not described):
 * another process has it.
 */
int ql_partial_open(struct ql_store *store, const struct ql_digest *digest,
		    uint64_t size, int *ret_fd, struct ql_extents *ret_extents,
		    struct ql_error *err);

/* Of the disk, for one file: what was taken (ql_space_take()) and is not
 * accounted for, and what counts by its name in partial/. */
struct ql_space_share {
	uint64_t taken, named; /* bytes */
};
struct ql_partial_state {
	struct ql_digest digest;
	const struct ql_extents *extents; /* borrowed */
	int fd;				  /* borrowed; of the file itself */
	struct ql_space_share space;	  /* brought up to date */
};
struct ql_object_ready {
	struct ql_digest digest;
	int fd;	    /* borrowed */
	bool named; /* it is partial/<digest>.part */
	/* Brought up to date.  What is still taken then is to be given back
	 * once fd is closed: another has the name. */
	struct ql_space_share space;
};
/*
 * Makes everything written before durable, then gives names to what is whole
 * (the caller has verified it) and records what of the others is there: no
 * name and no record ever stands for bytes that could still be lost.  What no
 * image needs any more, and what was removed meanwhile, is left out.
 */
int ql_store_settle(struct ql_store *store, struct ql_object_ready *ready,
		    size_t n_ready, struct ql_partial_state *partial,
		    size_t n_partial, struct ql_error *err);
/* Whether an object is here, whole. */
bool ql_object_here(const struct ql_store *store,
		    const struct ql_digest *digest);
/* What is recorded of a partial file of that size.  -ENOENT (not described):
 * there is no such file. */
int ql_partial_extents(struct ql_store *store, const struct ql_digest *digest,
		       uint64_t size, struct ql_extents *ret_extents);
/* Opens it for reading, whoever writes it, with its size and what is recorded
 * of it.  -ENOENT (not described): there is no such file. */
int ql_partial_look(struct ql_store *store, const struct ql_digest *digest,
		    int *ret_fd, uint64_t *ret_size,
		    struct ql_extents *ret_extents, struct ql_error *err);
/* Bytes of a partial file that are here; 0 where there is none. */
uint64_t ql_partial_bytes(struct ql_store *store,
			  const struct ql_digest *digest);

/* ---- images ---- */

enum { QL_IMAGE_LAYERS_MAX = 512 };

struct ql_image_info {
	struct ql_digest manifest; /* names the image */
	struct ql_digest config;
	uint64_t pulled;      /* seconds since the epoch */
	uint64_t inodes;      /* in the merged tree */
	uint64_t file_bytes;  /* sum of the merged regular files' sizes */
	struct ql_digest cfs; /* of images/<manifest>.cfs */
	uint32_t n_layers;
	struct ql_digest *layers; /* owned: diff IDs, lowest first */
	uint32_t flags;		  /* QL_IMAGE_* */
};

enum {
	/* Its merged tree came ready-made, with images/<manifest>.toc; its
	 * layers may be unknown here, and its objects count by that tree. */
	QL_IMAGE_READY = 1,
	QL_IMAGE_PINNED = 2, /* not to be removed */
	/* Ready-made, and all its objects are here. */
	QL_IMAGE_WHOLE = 4,
	/* A registry gave it to who showed no credentials: anybody may have it.
	 * Records of before this was known do not have it. */
	QL_IMAGE_ANONYMOUS = 8,
};

void ql_image_info_release(struct ql_image_info *info);
#define _cleanup_image_info_ __attribute__((cleanup(ql_image_info_release)))

/*
 * Merges layers that are all here into one tree, writes it as a composefs
 * image, and records the image: info's manifest, config (both objects
 * already), n_layers, layers and whether it is QL_IMAGE_ANONYMOUS are the
 * caller's, the rest is filled in.
 * name may be NULL.  The caller holds the store's lock (shared).
 */
int ql_image_build(struct ql_store *store, struct ql_image_info *info,
		   const char *name, struct ql_error *err);

struct ql_object_list;
/*
 * Records an image whose merged tree came ready-made (cfs: the composefs
 * image), with the tables of contents of its files, and of the parts that a
 * start needs (hot; may be NULL).  objects: what ql_object_list_init() found in
 * that tree, all of which it has read.  Else as ql_image_build().
 */
int ql_image_put_ready(struct ql_store *store, struct ql_image_info *info,
		       const void *cfs, size_t cfs_len,
		       const struct ql_object_list *objects,
		       const struct ql_buf *toc, const struct ql_buf *hot,
		       const char *name, struct ql_error *err);

/* The order in which a start reads an image's files: text, kept beside it.
 * -ENOENT (not described): none. */
int ql_image_trace_get(const struct ql_store *store,
		       const struct ql_digest *manifest, struct ql_buf *buf);
int ql_image_trace_put(struct ql_store *store, const struct ql_digest *manifest,
		       const void *data, size_t len, struct ql_error *err);

/* By manifest digest.  -ENOENT (not described). */
int ql_image_get(struct ql_store *store, const struct ql_digest *manifest,
		 struct ql_image_info *ret_info);
/* By a name as ql_image_build() or ql_image_tag() recorded it. */
int ql_image_find(struct ql_store *store, const char *name,
		  struct ql_digest *ret_manifest);
int ql_image_tag(struct ql_store *store, const char *name,
		 const struct ql_digest *manifest, struct ql_error *err);

/* Keeps an image from being removed (-EBUSY), or lets it.  -ENOENT. */
int ql_image_pin(struct ql_store *store, const struct ql_digest *manifest,
		 bool pinned, struct ql_error *err);
/* Remembers that an image was given to who showed no credentials.  -ENOENT. */
int ql_image_set_anonymous(struct ql_store *store,
			   const struct ql_digest *manifest,
			   struct ql_error *err);

/*
 * Looks whether all is here of an image's layers that are lazy, or of its
 * ready-made tree, and records, durably, which are: nobody looks again, and a
 * mount needs no filler.  *ret_whole: all of the image.  -EAGAIN (not
 * described): somebody removes, or checks the store; try later.  -ENOENT (not
 * described): no such image.
 */
int ql_image_mark_whole(struct ql_store *store,
			const struct ql_digest *manifest, bool *ret_whole,
			struct ql_error *err);

/* Calls fn for every (name, image); name NULL for an image with no name.
 * A non-zero return of fn stops and is returned. */
typedef int ql_image_fn(const char *name, const struct ql_image_info *info,
			void *arg);
int ql_image_each(struct ql_store *store, ql_image_fn *fn, void *arg,
		  struct ql_error *err);

struct ql_image_use { /* each content counts once */
	uint64_t files, bytes;
	uint64_t files_here, bytes_here;     /* whole */
	uint64_t files_packed, bytes_packed; /* of others, in packed/ whole */
	uint64_t files_partly, bytes_partly; /* of others, what is here */
	uint64_t files_shared,
		bytes_shared; /* also in other layers or images */
};
/* How much of what an image needs is on this node. */
int ql_image_usage(struct ql_store *store, const struct ql_image_info *info,
		   struct ql_image_use *ret_use, struct ql_error *err);

struct ql_store_use {
	uint64_t images, layers, objects;
	uint64_t bytes; /* of the objects */
};
int ql_store_usage(struct ql_store *store, struct ql_store_use *ret_use,
		   struct ql_error *err);

struct ql_remove_stats {
	bool untagged_only; /* other names, or none removed, still hold it */
	uint64_t objects;   /* removed from disk */
	uint64_t bytes;	    /* of disk that are free now */
};

/*
 * Removes a name; with the last name (or by manifest digest, name NULL, all
 * names) the image, its layers that no image uses, and their objects that no
 * layer or image uses.  -ENOENT: no such image.  -EBUSY: mounted, or pinned.
 */
int ql_image_remove(struct ql_store *store, const char *name,
		    const struct ql_digest *manifest,
		    struct ql_remove_stats *ret_stats, struct ql_error *err);

/* ---- trees: one composefs image, read through mmap ---- */

struct ql_tree;

/* Opens the merged tree of an image and holds a shared lock on it, which
 * keeps it from being removed.  -ENOENT: not here; -EBADMSG: damaged. */
int ql_tree_open_image(const struct ql_store *store,
		       const struct ql_digest *manifest,
		       struct ql_tree **ret_tree, struct ql_error *err);
int ql_tree_open_layer(const struct ql_store *store,
		       const struct ql_digest *diff_id,
		       struct ql_tree **ret_tree, struct ql_error *err);
/* Any composefs image, by descriptor (taken on success). */
int ql_tree_open_fd(int fd, struct ql_tree **ret_tree, struct ql_error *err);
/* Over memory (borrowed); for fuzzing and tests. */
int ql_tree_open_mem(const void *data, size_t len, struct ql_tree **ret_tree,
		     struct ql_error *err);
void ql_tree_close(struct ql_tree *tree);
QL_DEFINE_CLEANUP(struct ql_tree *, ql_tree_close)

struct ql_inode {
	uint64_t nid;  /* EROFS node id: byte offset / 32 */
	uint32_t mode; /* type and permissions */
	uint32_t nlink;
	uint32_t uid;
	uint32_t gid;
	uint64_t size; /* bytes */
	dev_t rdev;
	int64_t mtime_sec;
	uint32_t mtime_nsec;
	/* private to tree.c */
	bool escaped; /* a whiteout, or a directory that holds some */
	uint32_t xattr_icount;
	uint32_t layout;
	uint32_t blkaddr;
	uint64_t xattr_pos;
	uint64_t tail_pos;
};

uint64_t ql_tree_root(const struct ql_tree *tree);
uint64_t ql_tree_inodes(const struct ql_tree *tree);
uint64_t ql_tree_bytes(const struct ql_tree *tree); /* of the image file */
bool ql_tree_has_acl(const struct ql_tree *tree);   /* any POSIX ACL in it */
/* The descriptor that holds the image's lock (borrowed); -1: over memory. */
int ql_tree_fd(const struct ql_tree *tree);
/* All below return -EBADMSG where the image is damaged there. */
int ql_tree_inode(const struct ql_tree *tree, uint64_t nid,
		  struct ql_inode *ret_inode);
/* -ENOENT; -ENOTDIR; -ENAMETOOLONG (over 255 bytes). */
int ql_tree_lookup(const struct ql_tree *tree, const struct ql_inode *dir,
		   const char *name, size_t len, uint64_t *ret_nid);

struct ql_dirent {
	const char *name; /* borrowed from the tree, not NUL-terminated */
	size_t len;
	uint64_t nid;
	uint8_t type; /* DT_* */
};
/*
 * The entry at *pos (0 at the start) and moves *pos on: 1, or 0 at the end.
 * Entries come in byte order of their names, "." and ".." among them.  A
 * position stays valid for the tree's life; -EINVAL where it is none.
 */
int ql_tree_readdir(const struct ql_tree *tree, const struct ql_inode *dir,
		    uint64_t *pos, struct ql_dirent *ret_entry);
/* Borrowed, not NUL-terminated.  -EINVAL: not a symlink. */
int ql_tree_readlink(const struct ql_tree *tree, const struct ql_inode *link,
		     const char **ret_target, size_t *ret_len);

struct ql_content {
	const uint8_t *data;	 /* inline content (borrowed), or NULL */
	struct ql_digest object; /* where data is NULL and size > 0 */
	uint64_t size;
};
/* -EINVAL: not a regular file. */
int ql_tree_content(const struct ql_tree *tree, const struct ql_inode *file,
		    struct ql_content *ret_content);

struct ql_xattr {
	const char *prefix; /* "user.", … or "" */
	const char *name;   /* borrowed, not NUL-terminated */
	size_t name_len;
	const uint8_t *value; /* borrowed */
	size_t value_len;
};
/* The xattr at *pos (0 at the start), as the image's author gave it: what
 * composefs adds is left out, what it escapes is restored.  1, or 0. */
int ql_tree_xattr(const struct ql_tree *tree, const struct ql_inode *inode,
		  uint64_t *pos, struct ql_xattr *ret_xattr);

/* Calls fn for the object of each regular file, in the tree's order; the same
 * object as often as files have it.  A non-zero return stops and is
 * returned. */
typedef int ql_tree_object_fn(const struct ql_digest *digest, uint64_t size,
			      void *arg);
int ql_tree_each_object(const struct ql_tree *tree, ql_tree_object_fn *fn,
			void *arg);

/* Tell the kernel that this process needs none of the tree's pages now; they
 * stay in the page cache. */
void ql_tree_relax(const struct ql_tree *tree);

/*
 * Resolves a path below the root; symlinks are followed inside the tree, the
 * last component's only if `follow`.  -ENOENT, -ENOTDIR, -ELOOP.
 */
int ql_tree_resolve(const struct ql_tree *tree, const char *path, bool follow,
		    struct ql_inode *ret_inode, struct ql_error *err);

/* ---- objects of a tree, numbered (objectlist.c) ---- */

struct ql_object_list {
	struct ql_object_item {
		struct ql_digest digest;
		uint64_t size; /* bytes */
	} * items; /* owned; each once, as the tree has them first */
	uint32_t n;
	size_t cap;
	uint32_t *slots; /* owned; by digest: number + 1, or 0 */
	size_t n_slots;
	uint64_t bytes; /* of all the tree's files that are objects */
};
void ql_object_list_release(struct ql_object_list *list);
/* Reads all of the tree: -EBADMSG where it is damaged. */
int ql_object_list_init(const struct ql_tree *tree,
			struct ql_object_list *ret_list, struct ql_error *err);
/* -ENOENT (not described). */
int ql_object_list_find(const struct ql_object_list *list,
			const struct ql_digest *digest, uint32_t *ret_index);

#endif
