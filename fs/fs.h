/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How images are presented: the FUSE server, mounting and unmounting, and
 * (through it) rootfs for containers and lowerdir for overlayfs.
 */
#ifndef QL_FS_H
#define QL_FS_H

#include "fetch/fetch.h"
#include "store/store.h"

struct ql_mount_options {
	const char *source; /* shown in mountinfo: the image's name */
	bool foreground; /* serve in this process until unmounted or signalled
			  */
	bool no_passthrough; /* needed under a nested overlayfs */
	bool inert_devices; /* show device nodes with a number that nothing has:
			     * for the root of a container that no cgroup
			     * keeps from them */
	bool allow_other;   /* root: always on */
	unsigned int threads; /* 0: the default */
	/* Where content that is not here is to be fetched: both, or none
	 * (borrowed until the mount serves). */
	const struct ql_image_info *image;
	const struct ql_fill_options *fill;
	/* Each read of a file is written there, as a struct ql_access, in the
	 * order in which they come; 0: not (borrowed until the mount serves).
	 * The kernel then reads nothing by itself. */
	int record_fd;
};

struct ql_access {
	uint64_t nid; /* of the inode in the image's tree */
	uint64_t offset, len;
};

/*
 * Mounts an image's merged root at dir by FUSE.  The tree and store are
 * borrowed until it returns in the foreground; otherwise a process of its own
 * serves, and this returns when the mount serves.
 * -ENOENT, -ENOTDIR, -ENOTEMPTY, -EBUSY (something is mounted there), -EPERM.
 */
int ql_mount_fuse(const struct ql_store *store, const struct ql_tree *tree,
		  const char *dir, const struct ql_mount_options *options,
		  struct ql_error *err);

/*
 * Mounts what stands at `from` (an image's root in the agent's mount) on dir
 * too; for root alone.  Errors as above; -ENOENT also where the agent's mount
 * is not to be seen from here.
 */
int ql_mount_bind(const char *from, const char *dir, struct ql_error *err);

/* Unmounts a mount made by quicklayer (-EINVAL: it is none), and waits until
 * its server is gone.  lazy: detach, also where it is busy. */
int ql_umount(const char *dir, bool lazy, struct ql_error *err);

/* Calls fn for each mount of an image (from mountinfo).  source: its name, or
 * its digest where it is a part of the agent's mount. */
typedef int ql_mount_fn(const char *dir, const char *source, void *arg);
int ql_mount_each(ql_mount_fn *fn, void *arg, struct ql_error *err);

/* ---- budget.c ---- */

/* How much a store may take. */
struct ql_budget {
	enum {
		QL_BUDGET_UNSAID, /* as it was */
		QL_BUDGET_NONE,	  /* all of the filesystem */
		QL_BUDGET_BYTES,
		QL_BUDGET_SHARE
	} kind;
	uint64_t n; /* bytes; of a share: millionths of the filesystem */
};
/* "none", "500MiB", "40%".  -EINVAL; -ERANGE: nothing, or more than all. */
int ql_units_budget(const char *text, struct ql_budget *ret_budget);
/* In bytes, on a filesystem of that size; 0: none. */
uint64_t ql_budget_bytes(const struct ql_budget *budget, uint64_t size);

/* ---- documents.c: what is known, as JSON ---- */

/* Each is what --json prints and what the agent answers; the caller's to
 * json_decref().  text is a person's word for an image (ql_find_image()). */
int ql_doc_images(struct ql_store *store, json_t **ret_json,
		  struct ql_error *err);
int ql_doc_image(struct ql_store *store, const char *text, json_t **ret_json,
		 struct ql_error *err);
int ql_doc_image_status(struct ql_store *store, const char *text,
			json_t **ret_json, struct ql_error *err);
int ql_doc_status(struct ql_store *store, json_t **ret_json,
		  struct ql_error *err);
int ql_doc_mounts(struct ql_store *store, json_t **ret_json,
		  struct ql_error *err);
/* NULL: out of memory. */
struct ql_pull_result;
json_t *ql_doc_pull(const char *name, const struct ql_pull_result *res,
		    double seconds);
/* Removes an image, or a name of it; drop (may be NULL) is called before,
 * to let go of it; its error says why the image is in use, if it is. */
typedef int ql_drop_fn(const struct ql_digest *manifest, void *arg,
		       struct ql_error *err);
int ql_doc_remove(struct ql_store *store, const char *text, ql_drop_fn *drop,
		  void *arg, json_t **ret_json, struct ql_error *err);
int ql_doc_pin(struct ql_store *store, const char *text, bool pinned,
	       json_t **ret_json, struct ql_error *err);

/* ---- cachedoc.c: what is kept, and the limits ---- */

/* Sets what is said of budget and reserve; the other stays as it is.  Errors as
 * of ql_space_limits(). */
int ql_cache_limits(struct ql_store *store, const struct ql_budget *budget,
		    const struct ql_budget *reserve, struct ql_error *err);
/* The part of ql_doc_status() that tells of it. */
int ql_doc_cache(struct ql_store *store, json_t **ret_json,
		 struct ql_error *err);

struct ql_gc_ask {
	bool dry_run;
	uint64_t free;	     /* bytes of disk that are to be had beside */
	const char *budget;  /* as people write it; NULL: as it is (borrowed) */
	const char *reserve; /* the same */
};
/*
 * Removes what nothing references, and evicts down to the budget and by so
 * much as is asked for; or (dry_run) says what that would be.  Where not
 * enough may go, "short" of the document says why.
 */
int ql_doc_gc(struct ql_store *store, const struct ql_gc_ask *ask,
	      json_t **ret_json, struct ql_error *err);
/* Keeps an image from going by itself for so long; 0 ends that. */
int ql_doc_promise(struct ql_store *store, const char *text, uint64_t seconds,
		   json_t **ret_json, struct ql_error *err);

#endif
