/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stack of layers written as one tree, from the top down, one folder at a
 * time, so that nothing is ever added and taken away again (stack.c decides
 * each name).
 *
 * An inode is identified by (layer, node id).  Names that end at one inode
 * are hardlinks in the result, also where a layer links to a file of a layer
 * below.  A folder that a layer only passes through has the attributes that
 * lower layers gave it.
 */
#include "store/store-private.h"

#include <errno.h>
#include <search.h>
#include <string.h>
#include <sys/stat.h>

#define WHITEOUT ".wh."

struct merge_inode { /* in the map of inodes that may have several names */
	size_t layer;
	uint64_t nid;
	struct lcfs_node_s *node; /* borrowed from the tree */
};

struct merge {
	struct ql_stack stack;
	void *map; /* tsearch(3) tree of struct merge_inode; owned */
	struct ql_image_info *info; /* borrowed */
};

static int merge_inode_cmp(const void *a, const void *b)
{
	const struct merge_inode *x = a;
	const struct merge_inode *y = b;

	if (x->layer != y->layer)
		return x->layer < y->layer ? -1 : 1;
	if (x->nid != y->nid)
		return x->nid < y->nid ? -1 : 1;
	return 0;
}

/* The map's entry of an inode, made with no node where it is new. */
static struct merge_inode *merge_map(struct merge *m,
				     const struct ql_stack_hit *hit)
{
	struct merge_inode key = { hit->layer, hit->inode.nid, NULL };
	struct merge_inode *fresh;
	struct merge_inode **found;

	found = tfind(&key, &m->map, merge_inode_cmp);
	if (found)
		return *found;
	fresh = malloc(sizeof(*fresh));
	if (!fresh)
		return NULL;
	*fresh = key;
	if (!tsearch(fresh, &m->map, merge_inode_cmp)) {
		free(fresh);
		return NULL;
	}
	return fresh;
}

/* ---- writing nodes ---- */

struct merge_strings { /* what a node's metadata points to meanwhile */
	char *target;  /* owned */
	struct ql_tar_xattr *xattrs; /* owned, with their names; not values */
	size_t n;
};

static void merge_strings_release(struct merge_strings *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->xattrs[i].name);
	free(s->xattrs);
	free(s->target);
}

static int merge_xattrs(const struct ql_tree *tree,
			const struct ql_inode *inode, struct merge_strings *s)
{
	struct ql_xattr x;
	uint64_t pos = 0;
	int r;

	while ((r = ql_tree_xattr(tree, inode, &pos, &x)) > 0) {
		struct ql_tar_xattr *grown;
		char *name;

		if (ql_xattr_is(&x, QL_XATTR_IMPLICIT) ||
		    ql_xattr_is(&x, QL_XATTR_HAS_LINKS))
			continue;
		name = ql_strf("%s%.*s", x.prefix, (int)x.name_len, x.name);
		grown = reallocarray(s->xattrs, s->n + 1, sizeof(*grown));
		if (grown)
			s->xattrs = grown;
		if (!name || !grown) {
			free(name);
			return -ENOMEM;
		}
		grown[s->n++] =
			(struct ql_tar_xattr){ name, (char *)(uintptr_t)x.value,
					       x.value_len };
	}
	return r;
}

static int merge_node(struct merge *m, size_t layer,
		      const struct ql_inode *inode,
		      struct lcfs_node_s **ret_node, struct ql_error *err)
{
	const struct ql_tree *tree = m->stack.trees[layer];
	__attribute__((
		cleanup(merge_strings_release))) struct merge_strings s = { 0 };
	struct ql_content content = { 0 };
	struct ql_meta meta = {
		.mode = inode->mode,
		.uid = inode->uid,
		.gid = inode->gid,
		.size = inode->size,
		.mtime_sec = inode->mtime_sec,
		.mtime_nsec = inode->mtime_nsec,
		.rdev = inode->rdev,
	};
	const char *target;
	size_t len;
	int r = merge_xattrs(tree, inode, &s);

	if (r == 0 && S_ISREG(inode->mode))
		r = ql_tree_content(tree, inode, &content);
	if (r == 0 && S_ISLNK(inode->mode)) {
		r = ql_tree_readlink(tree, inode, &target, &len);
		if (r == 0) {
			s.target = strndup(target, len);
			r = s.target ? 0 : -ENOMEM;
		}
	}
	if (r < 0)
		return ql_error_errno(err, r, "read a layer's tree");
	meta.target = s.target;
	meta.data = content.data;
	meta.object = content.object;
	meta.xattrs = s.xattrs;
	meta.n_xattrs = s.n;
	r = ql_cfs_node_new(&meta, ret_node, err);
	if (r < 0)
		return r;
	m->info->inodes++;
	if (S_ISREG(inode->mode))
		m->info->file_bytes += inode->size;
	return 0;
}

static int merge_add_file(struct merge *m, struct ql_stack_hit *hit,
			  struct lcfs_node_s *parent, const char *name,
			  struct ql_error *err)
{
	_cleanup_(ql_cfs_node_freep) struct lcfs_node_s *node = NULL;
	struct merge_inode *known = NULL;
	int r = m->stack.has_links ? ql_stack_follow(&m->stack, hit, err) : 0;

	if (r < 0)
		return r;
	if (m->stack.has_links || hit->inode.nlink > 1) {
		known = merge_map(m, hit);
		if (!known)
			return ql_error_nomem(err);
	}
	if (known && known->node)
		r = ql_cfs_link_new(known->node, &node, err);
	else
		r = merge_node(m, hit->layer, &hit->inode, &node, err);
	if (r == 0 && known && !known->node)
		known->node = node;
	if (r == 0)
		r = ql_cfs_add(parent, node, name, err);
	if (r == 0)
		(void)ql_take_ptr(node);
	return r;
}

/* ---- folders ---- */

struct merge_cursor {
	uint64_t pos;
	struct ql_dirent entry;
	bool ended;
};

static int cursor_next(struct merge *m, const struct ql_stack_dir *d,
		       struct merge_cursor *c)
{
	int r;

	do
		r = ql_tree_readdir(m->stack.trees[d->layer], &d->dir, &c->pos,
				    &c->entry);
	while (r > 0 &&
	       ((c->entry.len == 1 && c->entry.name[0] == '.') ||
		(c->entry.len == 2 && memcmp(c->entry.name, "..", 2) == 0) ||
		(c->entry.len >= 4 &&
		 memcmp(c->entry.name, WHITEOUT, 4) == 0)));
	c->ended = r <= 0;
	return r < 0 ? r : 0;
}

static int name_cmp(const struct ql_dirent *a, const struct ql_dirent *b)
{
	size_t n = a->len < b->len ? a->len : b->len;
	int c = memcmp(a->name, b->name, n);

	if (c != 0)
		return c;
	return a->len < b->len ? -1 : a->len > b->len;
}

/* The least name under the cursors, and past it. */
static int cursors_least(struct merge *m, const struct ql_stack_list *dirs,
			 struct merge_cursor *cursors,
			 struct ql_dirent *ret_least)
{
	const struct merge_cursor *least = NULL;
	struct ql_dirent name;

	for (size_t i = 0; i < dirs->n; i++)
		if (!cursors[i].ended &&
		    (!least || name_cmp(&cursors[i].entry, &least->entry) < 0))
			least = &cursors[i];
	if (!least)
		return 0;
	name = least->entry;
	for (size_t i = 0; i < dirs->n; i++) {
		if (!cursors[i].ended &&
		    name_cmp(&cursors[i].entry, &name) == 0) {
			int r = cursor_next(m, &dirs->items[i], &cursors[i]);

			if (r < 0)
				return r;
		}
	}
	*ret_least = name;
	return 1;
}

static int merge_fill(struct merge *m, const struct ql_stack_list *dirs,
		      struct lcfs_node_s *node, struct ql_error *err);

static int merge_name(struct merge *m, const struct ql_stack_list *dirs,
		      const struct ql_dirent *d, struct lcfs_node_s *parent,
		      struct ql_error *err) // NOLINT(misc-no-recursion)
{
	_cleanup_(ql_cfs_node_freep) struct lcfs_node_s *node = NULL;
	_cleanup_hit_ struct ql_stack_hit hit = { 0 };
	struct lcfs_node_s *added;
	char name[QL_NAME_MAX + 1];
	int r = ql_stack_lookup(&m->stack, dirs, d->name, d->len, &hit, err);

	if (r < 0 || !hit.found)
		return r;
	memcpy(name, d->name, d->len);
	name[d->len] = '\0';
	if (!S_ISDIR(hit.inode.mode))
		return merge_add_file(m, &hit, parent, name, err);
	r = merge_node(m, hit.dirs.attributes.layer, &hit.dirs.attributes.dir,
		       &node, err);
	if (r == 0)
		r = ql_cfs_add(parent, node, name, err);
	if (r < 0)
		return r;
	added = ql_take_ptr(node);
	return merge_fill(m, &hit.dirs, added, err);
}

/* Depth is bounded by QL_PATH_MAX / 2: every layer's tree is. */
static int merge_fill(struct merge *m, const struct ql_stack_list *dirs,
		      struct lcfs_node_s *node,
		      struct ql_error *err) // NOLINT(misc-no-recursion)
{
	_cleanup_free_ struct merge_cursor *cursors =
		calloc(dirs->n, sizeof(*cursors));
	struct ql_dirent name;
	int r = 0;

	if (!cursors)
		return ql_error_nomem(err);
	for (size_t i = 0; i < dirs->n && r == 0; i++)
		r = cursor_next(m, &dirs->items[i], &cursors[i]);
	if (r < 0)
		return ql_error_errno(err, r, "read a layer's tree");
	while ((r = cursors_least(m, dirs, cursors, &name)) > 0) {
		r = merge_name(m, dirs, &name, node, err);
		if (r < 0)
			return r;
	}
	return r < 0 ? ql_error_errno(err, r, "read a layer's tree") : 0;
}

/* ---- the whole ---- */

/* An image of no layers is an empty folder. */
static int merge_build(struct merge *m, struct lcfs_node_s **ret_root,
		       struct ql_error *err)
{
	static const struct ql_meta empty = { .mode = S_IFDIR | 0755 };
	_cleanup_list_ struct ql_stack_list roots = { 0 };
	int r;

	if (m->stack.n == 0) {
		m->info->inodes++;
		return ql_cfs_node_new(&empty, ret_root, err);
	}
	r = ql_stack_roots(&m->stack, m->stack.n - 1, &roots, err);
	if (r == 0)
		r = merge_node(m, roots.attributes.layer, &roots.attributes.dir,
			       ret_root, err);
	if (r == 0)
		r = merge_fill(m, &roots, *ret_root, err);
	return r;
}

int ql_merge(struct ql_tree *const *trees, size_t n, struct ql_image_info *info,
	     struct lcfs_node_s **ret_root, struct ql_error *err)
{
	_cleanup_(ql_cfs_node_freep) struct lcfs_node_s *root = NULL;
	struct merge m = { .info = info };
	int r = ql_stack_init(&m.stack, trees, n, err);

	info->inodes = 0;
	info->file_bytes = 0;
	if (r == 0)
		r = merge_build(&m, &root, err);
	tdestroy(m.map, free);
	if (r == 0)
		*ret_root = ql_take_ptr(root);
	return r;
}
