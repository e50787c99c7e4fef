/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a stack of layers says about a name (OCI image-spec 1.1, layer.md,
 * "Applying Changesets").  The layers that say something about a folder are a
 * list, uppermost first, that ends at the first one that is opaque.  A name
 * in it is decided by walking the list until something hides what is below: a
 * whiteout hides what is below it and nothing of its own layer, whatever the
 * order in the archive was.
 */
#include "store/store-private.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define WHITEOUT ".wh."
#define OPAQUE ".wh..wh..opq"

/* ---- reading layers ---- */

bool ql_xattr_is(const struct ql_xattr *x, const char *name)
{
	size_t n = strlen(x->prefix);

	return strncmp(name, x->prefix, n) == 0 &&
	       strlen(name + n) == x->name_len &&
	       memcmp(name + n, x->name, x->name_len) == 0;
}

/* 1 where the inode has the mark, 0 where not. */
static int stack_mark(const struct ql_tree *tree, const struct ql_inode *inode,
		      const char *mark, struct ql_xattr *ret_xattr)
{
	uint64_t pos = 0;
	int r;

	while ((r = ql_tree_xattr(tree, inode, &pos, ret_xattr)) > 0)
		if (ql_xattr_is(ret_xattr, mark))
			return 1;
	return r;
}

static int stack_scan(const struct ql_tree *tree, struct ql_stack_dir *d)
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

static int list_add(struct ql_stack_list *list, const struct ql_stack_dir *d)
{
	struct ql_stack_dir *grown =
		reallocarray(list->items, list->n + 1, sizeof(*d));

	if (!grown)
		return -ENOMEM;
	list->items = grown;
	list->items[list->n++] = *d;
	return 0;
}

/*
 * Puts a layer's folder behind those above it.  1: nothing below it counts.
 * Below an opaque one no entries count any more, but where no layer so far
 * gave the folder itself an entry, its attributes still come from below.
 */
static int stack_push(struct ql_stack *stack, struct ql_stack_list *list,
		      size_t layer, const struct ql_inode *dir)
{
	struct ql_stack_dir d = { .layer = layer, .dir = *dir };
	bool first = !list->described && !list->closed && list->n == 0;
	struct ql_xattr x;
	int implicit;
	int r = stack_scan(stack->trees[layer], &d);

	if (r < 0)
		return r;
	implicit = stack_mark(stack->trees[layer], dir, QL_XATTR_IMPLICIT, &x);
	if (implicit < 0)
		return implicit;
	r = list->closed ? 0 : list_add(list, &d);
	if (r < 0)
		return r;
	if (first || (!list->described && !implicit))
		list->attributes = d;
	list->described = list->described || !implicit;
	list->closed = list->closed || d.opaque;
	return list->closed && list->described;
}

void ql_stack_list_release(struct ql_stack_list *list)
{
	free(list->items);
	*list = (struct ql_stack_list){ 0 };
}

void ql_stack_hit_release(struct ql_stack_hit *hit)
{
	ql_stack_list_release(&hit->dirs);
}

/* ---- one name ---- */

/* One layer has the name.  1 where it hides what is below, else 0. */
static int hit_entry(struct ql_stack *stack, struct ql_stack_hit *hit,
		     size_t layer, uint64_t nid, struct ql_error *err)
{
	struct ql_inode inode;
	int r = ql_tree_inode(stack->trees[layer], nid, &inode);

	if (r < 0)
		return ql_error_errno(err, r, "read a layer's tree");
	if (!hit->found) {
		hit->found = true;
		hit->layer = layer;
		hit->inode = inode;
	} else if (!S_ISDIR(inode.mode)) {
		if (S_ISLNK(inode.mode) && !hit->dirs.described)
			return ql_error_set(err, -ELOOP,
					    "files would be written through "
					    "a symlink of a lower layer");
		return 1;
	}
	if (!S_ISDIR(inode.mode))
		return 1;
	r = stack_push(stack, &hit->dirs, layer, &inode);
	return r < 0 ? ql_error_errno(err, r, "read a layer's tree") : r;
}

/* 1 where the folder says that the name is gone from what is below. */
static int dir_whiteout(struct ql_stack *stack, const struct ql_stack_dir *d,
			const char *name, size_t len)
{
	char wh[QL_NAME_MAX + 8];
	uint64_t nid;
	int r;

	if (!d->whiteouts || len + 4 > QL_NAME_MAX)
		return 0;
	memcpy(wh, WHITEOUT, 4);
	memcpy(wh + 4, name, len);
	r = ql_tree_lookup(stack->trees[d->layer], &d->dir, wh, len + 4, &nid);
	return r == -ENOENT ? 0 : r < 0 ? r : 1;
}

int ql_stack_lookup(struct ql_stack *stack, const struct ql_stack_list *list,
		    const char *name, size_t len, struct ql_stack_hit *ret_hit,
		    struct ql_error *err)
{
	_cleanup_hit_ struct ql_stack_hit hit = { 0 };
	int hidden = 0;

	for (size_t i = 0; i < list->n && hidden == 0; i++) {
		const struct ql_stack_dir *d = &list->items[i];
		uint64_t nid;
		int r = ql_tree_lookup(stack->trees[d->layer], &d->dir, name,
				       len, &nid);

		if (r == 0)
			hidden = hit_entry(stack, &hit, d->layer, nid, err);
		else if (r != -ENOENT)
			return ql_error_errno(err, r, "read a layer's tree");
		if (hidden == 0)
			hidden = dir_whiteout(stack, d, name, len);
	}
	if (hidden < 0)
		return ql_error_prefix(err, "%.*s", (int)len, name);
	*ret_hit = hit;
	hit.dirs = (struct ql_stack_list){ 0 };
	return 0;
}

/* The roots of the layers up to and with `top`. */
int ql_stack_roots(struct ql_stack *stack, size_t top,
		   struct ql_stack_list *list, struct ql_error *err)
{
	for (size_t i = top + 1; i-- > 0;) {
		struct ql_inode root;
		int r = ql_tree_inode(stack->trees[i],
				      ql_tree_root(stack->trees[i]), &root);

		if (r == 0)
			r = stack_push(stack, list, i, &root);
		if (r < 0)
			return ql_error_errno(err, r, "read a layer's tree");
		if (r > 0)
			break;
	}
	return 0;
}

int ql_stack_init(struct ql_stack *stack, struct ql_tree *const *trees,
		  size_t n, struct ql_error *err)
{
	*stack = (struct ql_stack){ .trees = trees, .n = n };
	for (size_t i = 0; i < n && !stack->has_links; i++) {
		struct ql_inode root;
		struct ql_xattr x;
		int r = ql_tree_inode(trees[i], ql_tree_root(trees[i]), &root);

		if (r == 0)
			r = stack_mark(trees[i], &root, QL_XATTR_HAS_LINKS, &x);
		if (r < 0)
			return ql_error_errno(err, r, "read a layer's tree");
		stack->has_links = r > 0;
	}
	return 0;
}

/* ---- hardlinks into lower layers ---- */

/* What path is in the merge of the layers up to and with `top`. */
static int stack_resolve(struct ql_stack *stack, size_t top, const char *path,
			 struct ql_stack_hit *ret_hit, struct ql_error *err)
{
	_cleanup_list_ struct ql_stack_list dirs = { 0 };
	int r = ql_stack_roots(stack, top, &dirs, err);

	while (r == 0) {
		_cleanup_hit_ struct ql_stack_hit hit = { 0 };
		size_t len = strcspn(path, "/");

		r = ql_stack_lookup(stack, &dirs, path, len, &hit, err);
		if (r < 0 || !hit.found || path[len] == '\0') {
			if (r == 0) {
				*ret_hit = hit;
				hit.dirs = (struct ql_stack_list){ 0 };
			}
			return r;
		}
		path += len + 1;
		ql_stack_list_release(&dirs);
		dirs = hit.dirs;
		hit.dirs = (struct ql_stack_list){ 0 };
	}
	return r;
}

/* Follows a mark to the inode that it links to, in whatever layer. */
int ql_stack_follow(struct ql_stack *stack, struct ql_stack_hit *hit,
		    struct ql_error *err)
{
	char target[QL_PATH_MAX + 1];
	struct ql_xattr x;
	int r;

	while ((r = stack_mark(stack->trees[hit->layer], &hit->inode,
			       QL_XATTR_LINK, &x)) > 0) {
		struct ql_stack_hit next = { 0 };

		if (x.value_len > QL_PATH_MAX)
			return ql_error_set(err, -EBADMSG, "a link's target");
		memcpy(target, x.value, x.value_len);
		target[x.value_len] = '\0';
		if (hit->layer > 0) {
			r = stack_resolve(stack, hit->layer - 1, target, &next,
					  err);
			if (r < 0)
				return r;
		}
		if (!next.found || S_ISDIR(next.inode.mode)) {
			ql_stack_hit_release(&next);
			return ql_error_set(err, -ENOENT,
					    "a hardlink to %.300s, which is no "
					    "file in the layers below",
					    target);
		}
		ql_stack_hit_release(hit);
		*hit = next;
	}
	return r < 0 ? ql_error_errno(err, r, "read a layer's tree") : 0;
}
