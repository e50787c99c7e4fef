/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FUSE requests about directories.  An offset is the position that the tree
 * gives: it stays good for as long as the image, so seekdir() and a second
 * reader need no state here.  Opening is answered once by ENOSYS, which to the
 * kernel (5.1 and newer) means: never ask, cache what was read, keep it.
 * A folder above the images has another mtime once its entries may be others;
 * the kernel, which asks for it each second, then reads the folder again.
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
	uint64_t told; /* inodes that the kernel knows once more by it */
};

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* p.ino 0: a name alone, also in a listing with attributes.  The bytes it
 * takes, which may be more than are left. */
static size_t put(struct listing *l, const char *name,
		  const struct fuse_entry_param *p, uint64_t next)
{
	char *at = l->buf + l->used;
	size_t left = l->size - l->used;

	return l->plus ? fuse_add_direntry_plus(l->req, at, left, name, p,
						(off_t)next)
		       : fuse_add_direntry(l->req, at, left, name, &p->attr,
					   (off_t)next);
}

/* ---- a folder of a tree ---- */

/* What stat(2) says, too. */
static uint64_t entry_ino(const struct listing *l, const struct ql_node *dir,
			  const struct ql_dirent *e, const char *name)
{
	_cleanup_free_ char *path = NULL;
	uint64_t known = 0;

	if (dir->path && !is_dots(name)) {
		path = ql_path_join(dir->path, name);
		known = path ? ql_vtable_find(l->fs->vtable, path) : 0;
	}
	return known ? known
		     : ql_ino(dir->slot ? dir->slot->number : 0,
			      ql_tree_root(dir->tree), e->nid);
}

/* The bytes it takes, which may be more than are left; or an error. */
static int put_entry(struct listing *l, const struct ql_node *dir,
		     const struct ql_dirent *e, uint64_t next, size_t *ret_len)
{
	struct fuse_entry_param p = { .attr_timeout = QL_FS_TIMEOUT,
				      .entry_timeout = QL_FS_TIMEOUT };
	struct ql_node node;
	char name[NAME_MAX + 1];
	int r;

	memcpy(name, e->name, e->len);
	name[e->len] = 0;
	p.attr.st_mode = DTTOIF(e->type);
	p.attr.st_ino = entry_ino(l, dir, e, name);
	/* The kernel must not take "." and ".." for new names of a node.  Below
	 * what was looked at while it was pulled it may know a name by another
	 * number, and would lose what stands there. */
	if (l->plus && !is_dots(name) && !dir->path) {
		r = ql_node_sibling(dir, e->nid, &node);
		if (r == 0) {
			ql_node_stat(l->fs, &node, &p.attr);
			p.ino = node.ino;
			p.generation = node.slot ? node.slot->generation : 0;
		} else if (r != -EIO) { /* that one says so when looked at */
			return r;
		}
	}
	*ret_len = put(l, name, &p, next);
	if (p.ino && *ret_len <= l->size - l->used)
		l->told++;
	return 0;
}

static int fill(struct listing *l, const struct ql_node *dir, uint64_t pos)
{
	bool layer = ql_node_is_layer(dir);
	struct ql_dirent e;
	size_t len = 0;
	int r;

	for (;;) {
		r = ql_tree_readdir(dir->tree, &dir->inode, &pos, &e);
		if (r > 0 && layer) {
			r = ql_layerview_entry(dir->tree, &dir->inode, &e);
			if (r == 0)
				continue;
		}
		if (r <= 0)
			return r;
		r = put_entry(l, dir, &e, pos, &len);
		if (r < 0)
			return r;
		if (len > l->size - l->used)
			return 0;
		l->used += len;
	}
}

/* ---- a folder above trees ---- */

static mode_t entry_type(enum ql_vkind kind)
{
	if (kind == QL_V_OBJECT)
		return S_IFREG;
	return kind == QL_V_LINK ? S_IFLNK : S_IFDIR;
}

/* A position is how many entries came before.  What comes or goes while a
 * folder is read may be missed or named twice. */
static int fill_virtual(struct listing *l, const struct ql_node *dir,
			uint64_t pos)
{
	struct fuse_entry_param p = { 0 };
	struct ql_names names = { 0 };
	int r = dir->v.kind == QL_V_DIR ? 0 : -ENOTDIR;
	size_t len;

	if (r == 0)
		r = ql_vdir_list(l->fs->catalog, l->fs->growings, dir->path,
				 &names);
	p.attr.st_ino = 0xffffffff; /* not known before it is looked up */
	for (; r == 0 && pos < names.n + 2; pos++) {
		const char *name = pos == 0   ? "."
				   : pos == 1 ? ".."
					      : names.items[pos - 2].name;

		p.attr.st_mode = S_IFDIR;
		if (pos > 1)
			p.attr.st_mode = entry_type(names.items[pos - 2].kind);
		len = put(l, name, &p, pos + 1);
		if (len > l->size - l->used)
			break;
		l->used += len;
	}
	ql_names_release(&names);
	return r;
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		 bool plus);

static void list_again(fuse_req_t req, const struct ql_again *again)
{
	list(req, again->ino, again->size, again->off, again->plus);
}

/* All of the names are known at the end alone. */
static void list_later(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       bool plus)
{
	ql_grow_again(req, &(struct ql_again){ .op = list_again,
					       .ino = ino,
					       .whole = true,
					       .size = size,
					       .off = off,
					       .plus = plus });
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		 bool plus)
{
	struct listing l = { .req = req, .plus = plus };
	struct ql_node dir = { 0 };
	int r;

	l.fs = fuse_req_userdata(req);
	l.size = size < READ_MAX ? size : READ_MAX;
	l.buf = malloc(l.size);
	r = l.buf ? ql_node_get(l.fs, ino, &dir) : -ENOMEM;
	if (r == 0 && dir.growing)
		r = S_ISDIR(dir.inode.mode) ? -EINPROGRESS : -ENOTDIR;
	if (r == 0)
		r = dir.tree ? fill(&l, &dir, (uint64_t)off)
			     : fill_virtual(&l, &dir, (uint64_t)off);
	ql_node_learn(&dir, l.told);
	/* What was read before the damage is told first. */
	if (r == -EINPROGRESS)
		list_later(req, ino, size, off, plus);
	else if (r < 0 && l.used == 0)
		(void)fuse_reply_err(req, ql_fs_errno(r));
	else if (fuse_reply_buf(req, l.buf, l.used) < 0)
		ql_node_forget(l.fs, ino, dir.slot ? l.told : 0);
	ql_node_release(l.fs, &dir);
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
