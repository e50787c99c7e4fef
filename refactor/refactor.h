/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Root file systems as wholes: comparing two of them, each an image or a
 * folder on disk.
 */
#ifndef QL_REFACTOR_H
#define QL_REFACTOR_H

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

#endif
