/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stack of layers as one tree (OCI image-spec 1.1, layer.md, "Applying
 * Changesets"), made from the top down, one folder at a time: the layers that
 * say something about a folder are a list, uppermost first, that ends at the
 * first one that is opaque.  Each name in them is decided by walking the list
 * until something hides what is below; so nothing is ever added and taken
 * away again, and a whiteout hides what is below it and nothing of its own
 * layer, whatever the order in the archive was.
 *
 * An inode is identified by (layer, node id).  Names that end at one inode
 * are hardlinks in the result, also where a layer links to a file of a layer
 * below.  A folder that a layer only passes through has the attributes that
 * lower layers gave it.
 */
#include "store/store-private.h"

#include <dirent.h>
#include <errno.h>
#include <search.h>
#include <string.h>
#include <sys/stat.h>

#define WHITEOUT ".wh."
#define OPAQUE ".wh..wh..opq"

struct merge_dir {    /* one layer's part of a folder */
	size_t layer; /* 0: lowest */
	struct ql_inode dir;
	bool implicit;
	bool opaque;
	bool whiteouts; /* it holds some */
};

struct merge_list {		 /* uppermost first */
	struct merge_dir *items; /* owned */
	size_t n;
};

struct merge_inode { /* in the map of inodes that may have several names */
	size_t layer;
	uint64_t nid;
	struct lcfs_node_s *node; /* borrowed from the tree */
};

struct merge {
	struct ql_tree *const *trees; /* borrowed; lowest first */
	size_t n;
	bool has_links; /* some layer links into those below it */
	void *map;	/* tsearch(3) tree of struct merge_inode; owned */
	struct ql_image_info *info; /* borrowed */
};

/* What the layers say about one name. */
struct merge_hit {
	bool found;
	size_t layer;		/* of the inode */
	struct ql_inode inode;	/* the uppermost */
	struct merge_list dirs; /* where it is a folder */
};

/* ---- reading layers ---- */

static bool xattr_is(const struct ql_xattr *x, const char *name)
{
	size_t n = strlen(x->prefix);

	return strncmp(name, x->prefix, n) == 0 &&
	       strlen(name + n) == x->name_len &&
	       memcmp(name + n, x->name, x->name_len) == 0;
}

/* 1 where the inode has the mark, 0 where not. */
static int merge_mark(const struct ql_tree *tree, const struct ql_inode *inode,
		      const char *mark, struct ql_xattr *ret_xattr)
{
	uint64_t pos = 0;
	int r;

	while ((r = ql_tree_xattr(tree, inode, &pos, ret_xattr)) > 0)
		if (xattr_is(ret_xattr, mark))
			return 1;
	return r;
}

static int merge_scan(const struct ql_tree *tree, struct merge_dir *d)
{
	struct ql_dirent e;
	uint64_t pos = 0;
	int r;

	while ((r = ql_tree_readdir(tree, &d->dir, &pos, &e)) > 0) {
		if (e.len < 4 || memcmp(e.name, WHITEOUT, 4) != 0)
			continue;
		if (e.len == sizeof(OPAQUE) - 1 &&
		    memcmp(e.name, OPAQUE, e.len) == 0)
			d->opaque = true;
		else
			d->whiteouts = true;
	}
	return r;
}

/* Puts a layer's folder behind those above it. */
static int merge_push(struct merge *m, struct merge_list *list, size_t layer,
		      const struct ql_inode *dir)
{
	struct merge_dir d = { .layer = layer, .dir = *dir };
	struct merge_dir *grown;
	struct ql_xattr x;
	int r = merge_scan(m->trees[layer], &d);

	if (r == 0)
		r = merge_mark(m->trees[layer], dir, QL_XATTR_IMPLICIT, &x);
	if (r < 0)
		return r;
	d.implicit = r > 0;
	grown = reallocarray(list->items, list->n + 1, sizeof(d));
	if (!grown)
		return -ENOMEM;
	list->items = grown;
	list->items[list->n++] = d;
	return 0;
}

static void merge_list_release(struct merge_list *list)
{
	free(list->items);
	*list = (struct merge_list){ 0 };
}
#define _cleanup_list_ __attribute__((cleanup(merge_list_release)))

static void merge_hit_release(struct merge_hit *hit)
{
	merge_list_release(&hit->dirs);
}
#define _cleanup_hit_ __attribute__((cleanup(merge_hit_release)))

/* ---- one name ---- */

static bool all_implicit(const struct merge_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		if (!list->items[i].implicit)
			return false;
	return true;
}

/* One layer has the name.  1 where it hides what is below, else 0. */
static int hit_entry(struct merge *m, struct merge_hit *hit, size_t layer,
		     uint64_t nid, struct ql_error *err)
{
	struct ql_inode inode;
	int r = ql_tree_inode(m->trees[layer], nid, &inode);

	if (r < 0)
		return ql_error_errno(err, r, "read a layer's tree");
	if (!hit->found) {
		hit->found = true;
		hit->layer = layer;
		hit->inode = inode;
	} else if (!S_ISDIR(inode.mode)) {
		if (S_ISLNK(inode.mode) && all_implicit(&hit->dirs))
			return ql_error_set(err, -ELOOP,
					    "files would be written through "
					    "a symlink of a lower layer");
		return 1;
	}
	if (!S_ISDIR(inode.mode))
		return 1;
	r = merge_push(m, &hit->dirs, layer, &inode);
	if (r < 0)
		return ql_error_errno(err, r, "read a layer's tree");
	return hit->dirs.items[hit->dirs.n - 1].opaque;
}

/* 1 where the folder says that the name is gone from what is below. */
static int dir_whiteout(struct merge *m, const struct merge_dir *d,
			const char *name, size_t len)
{
	char wh[QL_NAME_MAX + 8];
	uint64_t nid;
	int r;

	if (!d->whiteouts || len + 4 > QL_NAME_MAX)
		return 0;
	memcpy(wh, WHITEOUT, 4);
	memcpy(wh + 4, name, len);
	r = ql_tree_lookup(m->trees[d->layer], &d->dir, wh, len + 4, &nid);
	return r == -ENOENT ? 0 : r < 0 ? r : 1;
}

static int merge_lookup(struct merge *m, const struct merge_list *list,
			const char *name, size_t len, struct merge_hit *ret_hit,
			struct ql_error *err)
{
	_cleanup_hit_ struct merge_hit hit = { 0 };
	int hidden = 0;

	for (size_t i = 0; i < list->n && hidden == 0; i++) {
		const struct merge_dir *d = &list->items[i];
		uint64_t nid;
		int r = ql_tree_lookup(m->trees[d->layer], &d->dir, name, len,
				       &nid);

		if (r == 0)
			hidden = hit_entry(m, &hit, d->layer, nid, err);
		else if (r != -ENOENT)
			return ql_error_errno(err, r, "read a layer's tree");
		if (hidden == 0)
			hidden = dir_whiteout(m, d, name, len);
	}
	if (hidden < 0)
		return ql_error_prefix(err, "%.*s", (int)len, name);
	*ret_hit = hit;
	hit.dirs = (struct merge_list){ 0 };
	return 0;
}

/* The roots of the layers up to and with `top`. */
static int merge_roots(struct merge *m, size_t top, struct merge_list *list,
		       struct ql_error *err)
{
	for (size_t i = top + 1; i-- > 0;) {
		struct ql_inode root;
		int r = ql_tree_inode(m->trees[i], ql_tree_root(m->trees[i]),
				      &root);

		if (r == 0)
			r = merge_push(m, list, i, &root);
		if (r < 0)
			return ql_error_errno(err, r, "read a layer's tree");
		if (list->items[list->n - 1].opaque)
			break;
	}
	return 0;
}

/* ---- hardlinks into lower layers ---- */

/* What path is in the merge of the layers up to and with `top`. */
static int merge_resolve(struct merge *m, size_t top, const char *path,
			 struct merge_hit *ret_hit, struct ql_error *err)
{
	_cleanup_list_ struct merge_list dirs = { 0 };
	int r = merge_roots(m, top, &dirs, err);

	while (r == 0) {
		_cleanup_hit_ struct merge_hit hit = { 0 };
		size_t len = strcspn(path, "/");

		r = merge_lookup(m, &dirs, path, len, &hit, err);
		if (r < 0 || !hit.found || path[len] == '\0') {
			if (r == 0) {
				*ret_hit = hit;
				hit.dirs = (struct merge_list){ 0 };
			}
			return r;
		}
		path += len + 1;
		merge_list_release(&dirs);
		dirs = hit.dirs;
		hit.dirs = (struct merge_list){ 0 };
	}
	return r;
}

/* Follows a mark to the inode that it links to, in whatever layer. */
static int merge_follow(struct merge *m, struct merge_hit *hit,
			struct ql_error *err)
{
	char target[QL_PATH_MAX + 1];
	struct ql_xattr x;
	int r;

	while ((r = merge_mark(m->trees[hit->layer], &hit->inode, QL_XATTR_LINK,
			       &x)) > 0) {
		struct merge_hit next = { 0 };

		if (x.value_len > QL_PATH_MAX)
			return ql_error_set(err, -EBADMSG, "a link's target");
		memcpy(target, x.value, x.value_len);
		target[x.value_len] = '\0';
		if (hit->layer > 0) {
			r = merge_resolve(m, hit->layer - 1, target, &next,
					  err);
			if (r < 0)
				return r;
		}
		if (!next.found || S_ISDIR(next.inode.mode)) {
			merge_hit_release(&next);
			return ql_error_set(err, -ENOENT,
					    "a hardlink to %.300s, which is no "
					    "file in the layers below",
					    target);
		}
		merge_hit_release(hit);
		*hit = next;
	}
	return r < 0 ? ql_error_errno(err, r, "read a layer's tree") : 0;
}

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
				     const struct merge_hit *hit)
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

		if (xattr_is(&x, QL_XATTR_IMPLICIT) ||
		    xattr_is(&x, QL_XATTR_HAS_LINKS))
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
	const struct ql_tree *tree = m->trees[layer];
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

static int merge_add_file(struct merge *m, struct merge_hit *hit,
			  struct lcfs_node_s *parent, const char *name,
			  struct ql_error *err)
{
	_cleanup_(ql_cfs_node_freep) struct lcfs_node_s *node = NULL;
	struct merge_inode *known = NULL;
	int r = m->has_links ? merge_follow(m, hit, err) : 0;

	if (r < 0)
		return r;
	if (m->has_links || hit->inode.nlink > 1) {
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

/* A folder's attributes: the uppermost entry's, whoever passes through. */
static int merge_dir_node(struct merge *m, const struct merge_list *dirs,
			  struct lcfs_node_s **ret_node, struct ql_error *err)
{
	const struct merge_dir *d = &dirs->items[0];

	for (size_t i = 0; i < dirs->n; i++) {
		if (!dirs->items[i].implicit) {
			d = &dirs->items[i];
			break;
		}
	}
	return merge_node(m, d->layer, &d->dir, ret_node, err);
}

/* ---- folders ---- */

struct merge_cursor {
	uint64_t pos;
	struct ql_dirent entry;
	bool ended;
};

static int cursor_next(struct merge *m, const struct merge_dir *d,
		       struct merge_cursor *c)
{
	int r;

	do
		r = ql_tree_readdir(m->trees[d->layer], &d->dir, &c->pos,
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
static int cursors_least(struct merge *m, const struct merge_list *dirs,
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

static int merge_fill(struct merge *m, const struct merge_list *dirs,
		      struct lcfs_node_s *node, struct ql_error *err);

static int merge_name(struct merge *m, const struct merge_list *dirs,
		      const struct ql_dirent *d, struct lcfs_node_s *parent,
		      struct ql_error *err) // NOLINT(misc-no-recursion)
{
	_cleanup_(ql_cfs_node_freep) struct lcfs_node_s *node = NULL;
	_cleanup_hit_ struct merge_hit hit = { 0 };
	struct lcfs_node_s *added;
	char name[QL_NAME_MAX + 1];
	int r = merge_lookup(m, dirs, d->name, d->len, &hit, err);

	if (r < 0 || !hit.found)
		return r;
	memcpy(name, d->name, d->len);
	name[d->len] = '\0';
	if (!S_ISDIR(hit.inode.mode))
		return merge_add_file(m, &hit, parent, name, err);
	r = merge_dir_node(m, &hit.dirs, &node, err);
	if (r == 0)
		r = ql_cfs_add(parent, node, name, err);
	if (r < 0)
		return r;
	added = ql_take_ptr(node);
	return merge_fill(m, &hit.dirs, added, err);
}

/* Depth is bounded by QL_PATH_MAX / 2: every layer's tree is. */
static int merge_fill(struct merge *m, const struct merge_list *dirs,
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

static int merge_has_links(struct merge *m)
{
	for (size_t i = 0; i < m->n; i++) {
		struct ql_inode root;
		struct ql_xattr x;
		int r = ql_tree_inode(m->trees[i], ql_tree_root(m->trees[i]),
				      &root);

		if (r == 0)
			r = merge_mark(m->trees[i], &root, QL_XATTR_HAS_LINKS,
				       &x);
		if (r != 0)
			return r;
	}
	return 0;
}

/* An image of no layers is an empty folder. */
static int merge_build(struct merge *m, struct lcfs_node_s **ret_root,
		       struct ql_error *err)
{
	static const struct ql_meta empty = { .mode = S_IFDIR | 0755 };
	_cleanup_list_ struct merge_list roots = { 0 };
	int r;

	if (m->n == 0) {
		m->info->inodes++;
		return ql_cfs_node_new(&empty, ret_root, err);
	}
	r = merge_has_links(m);
	if (r < 0)
		return ql_error_errno(err, r, "read a layer's tree");
	m->has_links = r > 0;
	r = merge_roots(m, m->n - 1, &roots, err);
	if (r == 0)
		r = merge_dir_node(m, &roots, ret_root, err);
	if (r == 0)
		r = merge_fill(m, &roots, *ret_root, err);
	return r;
}

int ql_merge(struct ql_tree *const *trees, size_t n, int root_fd,
	     const char *tmp_path, const char *path, struct ql_image_info *info,
	     struct ql_error *err)
{
	_cleanup_(ql_cfs_node_freep) struct lcfs_node_s *root = NULL;
	struct merge m = { .trees = trees, .n = n, .info = info };
	int r;

	info->inodes = 0;
	info->file_bytes = 0;
	r = merge_build(&m, &root, err);
	tdestroy(m.map, free);
	for (size_t i = 0; i < n; i++)
		ql_tree_relax(trees[i]);
	if (r == 0)
		r = ql_cfs_write(root, root_fd, tmp_path, path, &info->cfs,
				 err);
	return r;
}
