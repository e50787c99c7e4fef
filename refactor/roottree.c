/* SPDX-License-Identifier: Apache-2.0 */
/* A root file system that is an image: read from the tree, with no copy. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "refactor/refactor-private.h"

struct root_tree {
	struct ql_root root;
	const struct ql_tree *tree; /* borrowed */
};

struct tree_pos {
	struct ql_rootpos pos;
	const struct ql_tree *tree; /* borrowed */
	struct ql_inode dir;	    /* being listed */
	uint64_t offset;	    /* in dir */
	struct ql_inode at;	    /* the entry's */
};

static struct tree_pos *tree_pos(struct ql_rootpos *pos)
{
	return (struct tree_pos *)pos;
}

static int damaged(struct ql_error *err, int r)
{
	return ql_error_errno(err, r, "reading the image");
}

static void set_entry(struct tree_pos *p, const char *name, size_t len)
{
	struct ql_entry *e = &p->pos.entry;

	memcpy(e->name, name, len);
	e->name[len] = 0;
	e->mode = p->at.mode;
	e->uid = p->at.uid;
	e->gid = p->at.gid;
	e->nlink = p->at.nlink;
	e->size = p->at.size;
	e->ino = p->at.nid;
	e->dev = 0;
	e->rdev = p->at.rdev;
	e->mtime_sec = p->at.mtime_sec;
	e->mtime_nsec = p->at.mtime_nsec;
}

static struct tree_pos *pos_new(const struct ql_root_ops *ops,
				const struct ql_tree *tree)
{
	struct tree_pos *p = calloc(1, sizeof(*p));

	if (p) {
		p->pos.ops = ops;
		p->tree = tree;
	}
	return p;
}

static int tree_top(struct ql_root *root, struct ql_rootpos **ret_pos,
		    struct ql_error *err)
{
	const struct root_tree *rt = (const struct root_tree *)root;
	_cleanup_free_ struct tree_pos *p = pos_new(root->ops, rt->tree);
	int r;

	if (!p)
		return ql_error_nomem(err);
	r = ql_tree_inode(p->tree, ql_tree_root(p->tree), &p->at);
	if (r < 0)
		return damaged(err, r);
	set_entry(p, "", 0);
	*ret_pos = &p->pos;
	p = NULL;
	return 0;
}

static int tree_enter(struct ql_rootpos *pos, struct ql_rootpos **ret_pos,
		      struct ql_error *err)
{
	struct tree_pos *p = pos_new(pos->ops, tree_pos(pos)->tree);

	if (!p)
		return ql_error_nomem(err);
	p->dir = tree_pos(pos)->at;
	*ret_pos = &p->pos;
	return 0;
}

static int tree_next(struct ql_rootpos *pos, struct ql_error *err)
{
	struct tree_pos *p = tree_pos(pos);
	struct ql_dirent e;
	int r;

	do {
		r = ql_tree_readdir(p->tree, &p->dir, &p->offset, &e);
		if (r <= 0)
			return r < 0 ? damaged(err, r) : 0;
	} while (ql_dirent_is_dots(&e));
	r = ql_tree_inode(p->tree, e.nid, &p->at);
	if (r < 0)
		return damaged(err, r);
	set_entry(p, e.name, e.len);
	return 1;
}

static int tree_target(struct ql_rootpos *pos, struct ql_buf *buf,
		       struct ql_error *err)
{
	const struct tree_pos *p = tree_pos(pos);
	const char *target;
	size_t len;
	int r;

	r = ql_tree_readlink(p->tree, &p->at, &target, &len);
	if (r < 0)
		return damaged(err, r);
	r = ql_buf_add(buf, target, len);
	return r < 0 ? ql_error_errno(err, r, "symlink") : 0;
}

static int tree_attrs(struct ql_rootpos *pos, struct ql_attrs *attrs,
		      struct ql_error *err)
{
	const struct tree_pos *p = tree_pos(pos);
	struct ql_xattr x;
	uint64_t offset = 0;
	int r;

	while ((r = ql_tree_xattr(p->tree, &p->at, &offset, &x)) > 0) {
		r = ql_attrs_add(attrs, x.prefix, x.name, x.name_len, x.value,
				 x.value_len, err);
		if (r < 0)
			return r;
	}
	return r < 0 ? damaged(err, r) : 0;
}

static int tree_digest(struct ql_rootpos *pos, struct ql_digest *ret_digest,
		       struct ql_error *err)
{
	const struct tree_pos *p = tree_pos(pos);
	struct ql_content content;
	int r;

	r = ql_tree_content(p->tree, &p->at, &content);
	if (r < 0)
		return damaged(err, r);
	if (content.data || content.size == 0) {
		r = ql_digest_of(content.data, (size_t)content.size,
				 ret_digest);
		return r < 0 ? ql_error_nomem(err) : 0;
	}
	*ret_digest = content.object;
	return 0;
}

static void tree_leave(struct ql_rootpos *pos)
{
	free(tree_pos(pos));
}

static void tree_free(struct ql_root *root)
{
	free(root);
}

static const struct ql_root_ops tree_ops = {
	.top = tree_top,
	.enter = tree_enter,
	.next = tree_next,
	.target = tree_target,
	.attrs = tree_attrs,
	.digest = tree_digest,
	.leave = tree_leave,
	.free = tree_free,
};

int ql_root_from_tree(const struct ql_tree *tree, struct ql_root **ret_root,
		      struct ql_error *err)
{
	struct root_tree *rt = calloc(1, sizeof(*rt));

	if (!rt)
		return ql_error_nomem(err);
	rt->root.ops = &tree_ops;
	rt->tree = tree;
	*ret_root = &rt->root;
	return 0;
}
