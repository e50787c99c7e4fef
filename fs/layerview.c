/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer's tree as one of an overlay's lower folders.  The tree has whiteouts
 * by their OCI names (image-spec 1.1, layer.md, "Whiteouts"); overlayfs wants
 * a 0:0 character device in place of what is gone, and an xattr on a folder
 * that hides what is below it (Linux Documentation/filesystems/overlayfs.rst).
 * A name that the layer has as well as its whiteout is shown as the file: both
 * hide what is below.
 *
 * A hardlink into a lower layer has no content in its own; to look at it is an
 * error rather than an empty file.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fs-private.h"

#define WHITEOUT ".wh."
#define OPAQUE ".wh..wh..opq"
#define MARKS "quicklayer."
#define LINK "quicklayer.link"

enum { WHITEOUT_LEN = sizeof(WHITEOUT) - 1 };

static bool is_whiteout(const char *name, size_t len)
{
	return len >= WHITEOUT_LEN && memcmp(name, WHITEOUT, WHITEOUT_LEN) == 0;
}

int ql_layerview_lookup(const struct ql_tree *tree, const struct ql_inode *dir,
			const char *name, size_t len, uint64_t *ret_nid)
{
	char wh[NAME_MAX + 1];
	uint64_t nid;
	int r;

	if (is_whiteout(name, len))
		return -ENOENT;
	r = ql_tree_lookup(tree, dir, name, len, ret_nid);
	if (r != -ENOENT || len + WHITEOUT_LEN > NAME_MAX)
		return r;
	memcpy(wh, WHITEOUT, WHITEOUT_LEN);
	memcpy(wh + WHITEOUT_LEN, name, len);
	r = ql_tree_lookup(tree, dir, wh, len + WHITEOUT_LEN, &nid);
	if (r == 0)
		*ret_nid = nid | QL_NID_WHITEOUT;
	return r;
}

int ql_layerview_entry(const struct ql_tree *tree, const struct ql_inode *dir,
		       struct ql_dirent *e)
{
	uint64_t nid;
	int r;

	if (!is_whiteout(e->name, e->len))
		return 1;
	/* ".wh..wh.*" are marks, not names of files. */
	if (e->len == WHITEOUT_LEN ||
	    is_whiteout(e->name + WHITEOUT_LEN, e->len - WHITEOUT_LEN))
		return 0;
	r = ql_tree_lookup(tree, dir, e->name + WHITEOUT_LEN,
			   e->len - WHITEOUT_LEN, &nid);
	if (r != -ENOENT)
		return r; /* 0: the file is shown already */
	e->name += WHITEOUT_LEN;
	e->len -= WHITEOUT_LEN;
	e->nid |= QL_NID_WHITEOUT;
	e->type = DT_CHR;
	return 1;
}

int ql_layerview_opaque(const struct ql_tree *tree, const struct ql_inode *dir)
{
	uint64_t nid;
	int r;

	if (!S_ISDIR(dir->mode))
		return 0;
	r = ql_tree_lookup(tree, dir, OPAQUE, sizeof(OPAQUE) - 1, &nid);
	if (r == -ENOENT)
		return 0;
	return r < 0 ? r : 1;
}

static bool is_mark(const struct ql_xattr *x, const char *name, bool whole)
{
	size_t len = strlen(name);

	return strcmp(x->prefix, "trusted.") == 0 &&
	       (whole ? x->name_len == len : x->name_len >= len) &&
	       memcmp(x->name, name, len) == 0;
}

bool ql_layerview_hides(const struct ql_xattr *x)
{
	return is_mark(x, MARKS, false);
}

int ql_layerview_inode(const struct ql_tree *tree, uint64_t nid,
		       struct ql_inode *ret_inode)
{
	struct ql_xattr x;
	uint64_t pos = 0;
	int r = ql_tree_inode(tree, nid & ~QL_NID_WHITEOUT, ret_inode);

	if (r < 0)
		return r;
	if (nid & QL_NID_WHITEOUT) {
		ret_inode->nid = nid;
		ret_inode->mode = S_IFCHR;
		ret_inode->rdev = 0;
		ret_inode->size = 0;
		return 0;
	}
	if (!S_ISREG(ret_inode->mode) || ret_inode->size > 0)
		return 0;
	while ((r = ql_tree_xattr(tree, ret_inode, &pos, &x)) > 0)
		if (is_mark(&x, LINK, true))
			return -EIO;
	return r;
}
