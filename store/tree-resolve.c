/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trees: a path to an inode, as path_resolution(7) has it with the tree's
 * root as "/": absolute symlinks and ".." stay inside the tree.  What is left
 * to walk is kept in one bounded buffer, into which a symlink's target is
 * put in front; 40 symlinks are -ELOOP, as in Linux.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "store/store-private.h"

struct walk {
	const struct ql_tree *tree; /* borrowed */
	struct ql_inode at;
	struct ql_buf rest; /* owned: not walked yet */
	size_t pos;	    /* in rest */
	unsigned int symlinks;
	bool follow; /* the last component's symlink, too */
};

/* Puts a symlink's target in front of what is left. */
static int walk_symlink(struct walk *w, const struct ql_inode *link)
{
	_cleanup_free_ char *tail = NULL;
	const char *target;
	size_t len;
	int r;

	if (++w->symlinks > QL_TREE_SYMLINKS_MAX)
		return -ELOOP;
	r = ql_tree_readlink(w->tree, link, &target, &len);
	if (r < 0)
		return r;
	tail = strdup(ql_buf_str(&w->rest) + w->pos);
	if (!tail)
		return -ENOMEM;
	if (target[0] == '/') {
		r = ql_tree_inode(w->tree, ql_tree_root(w->tree), &w->at);
		if (r < 0)
			return r;
	}
	ql_buf_clear(&w->rest);
	w->pos = 0;
	r = ql_buf_add(&w->rest, target, len);
	if (r == 0)
		r = ql_buf_adds(&w->rest, tail);
	return r == -EFBIG ? -ENAMETOOLONG : r;
}

static int walk_component(struct walk *w, const char *name, size_t len)
{
	bool last = w->rest.data[w->pos] == 0;
	struct ql_inode inode;
	uint64_t nid;
	int r;

	r = ql_tree_lookup(w->tree, &w->at, name, len, &nid);
	if (r == 0)
		r = ql_tree_inode(w->tree, nid, &inode);
	if (r < 0)
		return r;
	if (S_ISLNK(inode.mode) && (!last || w->follow))
		return walk_symlink(w, &inode);
	w->at = inode;
	return 0;
}

static int walk_all(struct walk *w)
{
	const char *name;
	size_t len;
	int r;

	for (;;) {
		/* A slash, also the last, says: this is a directory. */
		if (w->rest.data[w->pos] == '/' && !S_ISDIR(w->at.mode))
			return -ENOTDIR;
		while (w->rest.data[w->pos] == '/')
			w->pos++;
		name = w->rest.data + w->pos;
		len = strcspn(name, "/");
		if (len == 0)
			return 0;
		w->pos += len;
		r = walk_component(w, name, len);
		if (r < 0)
			return r;
	}
}

int ql_tree_resolve(const struct ql_tree *tree, const char *path, bool follow,
		    struct ql_inode *ret_inode, struct ql_error *err)
{
	struct walk w = { .tree = tree, .follow = follow };
	int r;

	ql_buf_init(&w.rest, 2 * (size_t)PATH_MAX);
	r = ql_tree_inode(tree, ql_tree_root(tree), &w.at);
	if (r == 0)
		r = ql_buf_adds(&w.rest, "/");
	if (r == 0)
		r = ql_buf_adds(&w.rest, path);
	if (r == -EFBIG)
		r = -ENAMETOOLONG;
	if (r == 0)
		r = walk_all(&w);
	ql_buf_release(&w.rest);
	if (r < 0)
		return ql_error_errno(err, r, "%s", path);
	*ret_inode = w.at;
	return 0;
}
