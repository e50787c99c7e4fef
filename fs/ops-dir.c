/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FUSE requests about directories.  An offset is the position that the tree
 * gives: it stays good for as long as the image, so seekdir() and a second
 * reader need no state here.  Opening is answered once by ENOSYS, which to the
 * kernel (5.1 and newer) means: never ask, cache what was read, keep it.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fs-private.h"

enum { READ_MAX = 1 << 20 }; /* bytes, of one answer */

void ql_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	(void)fuse_reply_err(req, ENOSYS);
}

/* One answer being filled. */
struct listing {
	fuse_req_t req;
	struct ql_fs *fs; /* borrowed */
	char *buf;	  /* owned */
	size_t size;
	size_t used;
	bool plus;
};

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* The bytes it takes, which may be more than are left; or an error. */
static int put_entry(struct listing *l, const struct ql_dirent *e,
		     uint64_t next, size_t *ret_len)
{
	struct fuse_entry_param p = { .attr_timeout = QL_FS_TIMEOUT,
				      .entry_timeout = QL_FS_TIMEOUT };
	char *at = l->buf + l->used, name[NAME_MAX + 1];
	size_t left = l->size - l->used;
	struct ql_inode inode;
	int r;

	memcpy(name, e->name, e->len);
	name[e->len] = 0;
	if (!l->plus) {
		p.attr.st_ino = ql_fs_ino(l->fs, e->nid);
		p.attr.st_mode = DTTOIF(e->type);
		*ret_len = fuse_add_direntry(l->req, at, left, name, &p.attr,
					     (off_t)next);
		return 0;
	}
	r = ql_tree_inode(l->fs->tree, e->nid, &inode);
	if (r < 0)
		return r;
	ql_fs_stat(l->fs, &inode, &p.attr);
	/* The kernel must not take "." and ".." for new names of a node. */
	p.ino = is_dots(name) ? 0 : p.attr.st_ino;
	*ret_len =
		fuse_add_direntry_plus(l->req, at, left, name, &p, (off_t)next);
	return 0;
}

static int fill(struct listing *l, const struct ql_inode *dir, uint64_t pos)
{
	struct ql_dirent e;
	size_t len;
	int r;

	for (;;) {
		r = ql_tree_readdir(l->fs->tree, dir, &pos, &e);
		if (r <= 0)
			return r;
		r = put_entry(l, &e, pos, &len);
		if (r < 0)
			return r;
		if (len > l->size - l->used)
			return 0;
		l->used += len;
	}
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		 bool plus)
{
	struct listing l = { .req = req, .plus = plus };
	struct ql_inode dir;
	int r;

	l.fs = fuse_req_userdata(req);
	l.size = size < READ_MAX ? size : READ_MAX;
	l.buf = malloc(l.size);
	r = l.buf ? ql_fs_inode(l.fs, ino, &dir) : -ENOMEM;
	if (r == 0)
		r = fill(&l, &dir, (uint64_t)off);
	/* What was read before the damage is told first. */
	if (r < 0 && l.used == 0)
		(void)fuse_reply_err(req, ql_fs_errno(r));
	else
		(void)fuse_reply_buf(req, l.buf, l.used);
	free(l.buf);
}

void ql_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		   struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, off, false);
}

void ql_op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, off, true);
}
