/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What several trees hold, each thing once: the trees are walked at the same
 * time, name by name, as sorted lists are merged.  At each name the trees that
 * have it fall into classes of the same thing; each class becomes a unit.  No
 * table of names is needed, and no more of a tree is in memory than the kernel
 * likes to keep of its file.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "refactor/refactor-private.h"

enum { UNITS_MAX = 1 << 28 };
#define PATHS_MAX ((size_t)UINT32_MAX)

struct here { /* a member that has the folder being walked */
	uint32_t member;
	struct ql_inode dir;
	uint64_t pos;
	struct ql_dirent e; /* the next entry */
	bool more;
	bool taken; /* has the name of this turn */
	struct ql_inode inode;
};

struct class
{				  /* of the same thing */
	const struct here *first; /* borrowed */
	uint64_t *bits;
	const struct ql_digest *names; /* of several; or NULL */
	bool counted;		       /* its content was, with another name */
};

struct walk {
	struct ql_inventory *inv;
	struct ql_linknames **links; /* owned; for each member */
	struct ql_buf path;	     /* owned; no leading '/' */
	struct ql_error *err;	     /* borrowed */
};

static int damaged(struct walk *w, int r)
{
	return ql_error_errno(w->err, r, "the tree, at \"%.300s\"",
			      ql_buf_str(&w->path));
}

/* ---- units ---- */

static int unit_add(struct walk *w, const struct ql_unit *unit)
{
	struct ql_inventory *inv = w->inv;

	if (inv->n_units == inv->cap_units) {
		uint32_t cap = inv->cap_units ? inv->cap_units * 2 : 4096;
		struct ql_unit *grown;

		if (cap > UNITS_MAX)
			return ql_error_set(w->err, -EFBIG, "too many files");
		grown = reallocarray(inv->units, cap, sizeof(*grown));
		if (!grown)
			return ql_error_nomem(w->err);
		inv->units = grown;
		inv->cap_units = cap;
	}
	inv->units[inv->n_units++] = *unit;
	return 0;
}

static int folder_add(struct walk *w, uint32_t parent, uint32_t *ret_number)
{
	struct ql_inventory *inv = w->inv;

	if (inv->n_folders == inv->cap_folders) {
		uint32_t cap = inv->cap_folders ? inv->cap_folders * 2 : 512;
		struct ql_folder *grown =
			reallocarray(inv->folders, cap, sizeof(*grown));

		if (!grown)
			return ql_error_nomem(w->err);
		inv->folders = grown;
		inv->cap_folders = cap;
	}
	inv->folders[inv->n_folders] =
		(struct ql_folder){ .parent = parent, .first = inv->n_units };
	*ret_number = inv->n_folders++;
	return 0;
}

static int class_put(struct walk *w, const struct class *c, uint32_t path,
		     uint32_t folder, uint32_t own)
{
	const struct ql_inode *inode = &c->first->inode;
	struct ql_unit u = {
		.nid = inode->nid,
		.size = S_ISREG(inode->mode) && !c->counted ? inode->size : 0,
		.path = path,
		.folder = folder,
		.own = own,
		.member = c->first->member,
		.linked = c->names != NULL,
	};

	if (ql_imagesets_add(&w->inv->sets, c->bits, &u.members) < 0)
		return ql_error_nomem(w->err);
	return unit_add(w, &u);
}

/* ---- classes ---- */

static int class_fits(const struct walk *w, const struct class *c,
		      const struct here *h, const struct ql_digest *names)
{
	const struct ql_tree *const *trees = w->inv->trees;

	if (!names != !c->names || (names && !ql_digest_equal(names, c->names)))
		return 0;
	return ql_identity_same(trees[c->first->member], &c->first->inode,
				trees[h->member], &h->inode,
				w->inv->flags & QL_INVENTORY_ANY_MTIME);
}

/* Into the class of the same thing, or one of its own. */
static int class_join(struct walk *w, struct class *classes, uint32_t *n,
		      const struct here *h)
{
	uint32_t words = w->inv->sets.words;
	const struct ql_digest *names = NULL;
	bool first = true;
	struct class *c;

	if (!S_ISDIR(h->inode.mode) && h->inode.nlink > 1) {
		names = ql_linknames_get(w->links[h->member], h->inode.nid,
					 &first);
		if (!names)
			return -EBADMSG;
	}
	for (uint32_t i = 0; i < *n; i++) {
		int r = class_fits(w, &classes[i], h, names);

		if (r > 0)
			ql_bits_put(classes[i].bits, h->member);
		if (r != 0)
			return r < 0 ? r : 0;
	}
	c = &classes[(*n)++];
	c->first = h;
	c->names = names;
	c->counted = !first;
	memset(c->bits, 0, words * sizeof(*c->bits));
	ql_bits_put(c->bits, h->member);
	return 0;
}

static int path_keep(struct walk *w, uint32_t *ret_path)
{
	struct ql_buf *paths = &w->inv->paths;

	*ret_path = (uint32_t)paths->len;
	if (ql_buf_add(paths, ql_buf_str(&w->path), w->path.len + 1) < 0)
		return ql_error_set(w->err, -EFBIG, "too many names");
	return 0;
}

/* One name: folders first, so that they are next to each other. */
static int classes_put(struct walk *w, const struct class *classes, uint32_t n,
		       uint32_t folder, uint32_t *ret_own)
{
	uint32_t own = QL_UNIT_NONE, path = 0;
	int r = path_keep(w, &path);

	for (uint32_t i = 0; i < n && r == 0; i++) {
		if (!S_ISDIR(classes[i].first->inode.mode))
			continue;
		if (own == QL_UNIT_NONE)
			r = folder_add(w, folder, &own);
		if (r == 0)
			r = class_put(w, &classes[i], path, folder, own);
		if (r == 0)
			w->inv->folders[own].n++;
	}
	for (uint32_t i = 0; i < n && r == 0; i++)
		if (!S_ISDIR(classes[i].first->inode.mode))
			r = class_put(w, &classes[i], path, folder,
				      QL_UNIT_NONE);
	*ret_own = own;
	return r;
}

/* ---- the walk ---- */

struct level {
	struct here *here; /* owned; those that have the folder */
	uint32_t n;
	struct class *classes; /* owned; n */
	uint64_t *bits;	       /* owned; the classes' */
};

static void level_release(struct level *l)
{
	free(l->here);
	free(l->classes);
	free(l->bits);
}

static int level_init(struct level *l, uint32_t n, uint32_t words)
{
	*l = (struct level){ .n = n };
	l->here = calloc(n + 1UL, sizeof(*l->here));
	l->classes = calloc(n + 1UL, sizeof(*l->classes));
	l->bits = calloc((n + 1UL) * words, sizeof(*l->bits));
	if (!l->here || !l->classes || !l->bits) {
		level_release(l);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < n; i++)
		l->classes[i].bits = l->bits + (uint64_t)i * words;
	return 0;
}

static bool is_passed_over(const struct walk *w, const struct here *h)
{
	const struct ql_tree *tree = w->inv->trees[h->member];

	return ql_dirent_is_dots(&h->e) ||
	       (w->inv->flags & QL_INVENTORY_SKIP_STARGZ &&
		h->dir.nid == ql_tree_root(tree) &&
		ql_name_is_stargz(h->e.name, h->e.len));
}

static int here_next(struct walk *w, struct here *h)
{
	const struct ql_tree *tree = w->inv->trees[h->member];
	int r;

	do {
		r = ql_tree_readdir(tree, &h->dir, &h->pos, &h->e);
	} while (r > 0 && is_passed_over(w, h));
	h->more = r > 0;
	return r < 0 ? damaged(w, r) : 0;
}

static int name_cmp(const struct ql_dirent *a, const struct ql_dirent *b)
{
	int c = memcmp(a->name, b->name, a->len < b->len ? a->len : b->len);

	return c ? c : a->len < b->len ? -1 : a->len > b->len;
}

/* Marks those that have the least name; how many. */
static uint32_t least_take(struct level *l, const struct ql_dirent **ret_least)
{
	const struct ql_dirent *least = NULL;
	uint32_t n = 0;

	for (uint32_t i = 0; i < l->n; i++)
		if (l->here[i].more &&
		    (!least || name_cmp(&l->here[i].e, least) < 0))
			least = &l->here[i].e;
	for (uint32_t i = 0; i < l->n; i++) {
		l->here[i].taken = l->here[i].more &&
				   name_cmp(&l->here[i].e, least) == 0;
		n += l->here[i].taken;
	}
	*ret_least = least;
	return n;
}

static int walk_folder(struct walk *w, struct level *l, uint32_t folder,
		       unsigned int depth);

/* Goes into the folder of this name, with those that have one. */
static int walk_into(struct walk *w, const struct level *l, uint32_t own,
		     unsigned int depth)
{
	struct level below;
	uint32_t n = 0;
	int r;

	for (uint32_t i = 0; i < l->n; i++)
		n += l->here[i].taken && S_ISDIR(l->here[i].inode.mode);
	if (level_init(&below, n, w->inv->sets.words) < 0)
		return ql_error_nomem(w->err);
	n = 0;
	for (uint32_t i = 0; i < l->n; i++)
		if (l->here[i].taken && S_ISDIR(l->here[i].inode.mode))
			below.here[n++] = (struct here){
				.member = l->here[i].member,
				.dir = l->here[i].inode,
			};
	r = walk_folder(w, &below, own, depth + 1);
	level_release(&below);
	return r;
}

static int walk_name(struct walk *w, struct level *l, uint32_t folder,
		     unsigned int depth)
{
	uint32_t n = 0, own;
	int r = 0;

	for (uint32_t i = 0; i < l->n && r == 0; i++) {
		struct here *h = &l->here[i];

		if (!h->taken)
			continue;
		r = ql_tree_inode(w->inv->trees[h->member], h->e.nid,
				  &h->inode);
		if (r == 0)
			r = class_join(w, l->classes, &n, h);
	}
	if (r < 0)
		return damaged(w, r);
	r = classes_put(w, l->classes, n, folder, &own);
	if (r == 0 && own != QL_UNIT_NONE)
		r = walk_into(w, l, own, depth);
	for (uint32_t i = 0; i < l->n && r == 0; i++)
		if (l->here[i].taken)
			r = here_next(w, &l->here[i]);
	return r;
}

static int walk_folder(struct walk *w, struct level *l, uint32_t folder,
		       unsigned int depth)
{
	size_t len = w->path.len;
	const struct ql_dirent *least;
	int r = 0;

	if (depth > QL_ROOT_DEPTH_MAX)
		return ql_error_set(w->err, -ELOOP, "folders too deep");
	for (uint32_t i = 0; i < l->n && r == 0; i++)
		r = here_next(w, &l->here[i]);
	while (r == 0 && least_take(l, &least) > 0) {
		if ((len > 0 && ql_buf_add(&w->path, "/", 1) < 0) ||
		    ql_buf_add(&w->path, least->name, least->len) < 0)
			return ql_error_set(w->err, -ENAMETOOLONG,
					    "a path too long");
		r = walk_name(w, l, folder, depth);
		w->path.len = len;
		if (w->path.data)
			w->path.data[len] = 0;
	}
	return r;
}

/* The roots are one name, which all have. */
static int walk_roots(struct walk *w)
{
	struct level l;
	uint32_t n = 0, own = 0;
	int r;

	if (level_init(&l, w->inv->n_members, w->inv->sets.words) < 0)
		return ql_error_nomem(w->err);
	r = 0;
	for (uint32_t i = 0; i < l.n && r == 0; i++) {
		struct here *h = &l.here[i];

		h->member = i;
		h->taken = true;
		r = ql_tree_inode(w->inv->trees[i],
				  ql_tree_root(w->inv->trees[i]), &h->inode);
		if (r == 0 && !S_ISDIR(h->inode.mode))
			r = -EBADMSG;
		if (r == 0)
			r = class_join(w, l.classes, &n, h);
	}
	if (r < 0)
		r = damaged(w, r);
	if (r == 0)
		r = classes_put(w, l.classes, n, 0, &own);
	if (r == 0 && own != QL_UNIT_NONE)
		r = walk_into(w, &l, own, 0);
	level_release(&l);
	return r;
}

static int links_read(struct walk *w)
{
	uint32_t n = w->inv->n_members;
	int r = 0;

	w->links = calloc(n + 1UL, sizeof(struct ql_linknames *));
	if (!w->links)
		return ql_error_nomem(w->err);
	for (uint32_t i = 0; i < n && r == 0; i++)
		r = ql_linknames_read(w->inv->trees[i], &w->links[i], w->err);
	return r;
}

void ql_inventory_release(struct ql_inventory *inv)
{
	free(inv->units);
	free(inv->folders);
	ql_imagesets_release(&inv->sets);
	ql_buf_release(&inv->paths);
	*inv = (struct ql_inventory){ 0 };
}

int ql_inventory_read(const struct ql_tree *const *trees, uint32_t n_members,
		      unsigned int flags, struct ql_inventory *ret_inventory,
		      struct ql_error *err)
{
	struct ql_inventory inv = { .trees = trees,
				    .n_members = n_members,
				    .flags = flags,
				    .paths = QL_BUF_INIT(PATHS_MAX) };
	struct walk w = { .inv = &inv,
			  .path = QL_BUF_INIT(QL_PATHS_DEEP),
			  .err = err };
	int r;

	ql_imagesets_init(&inv.sets, n_members);
	r = links_read(&w);
	if (r == 0 && n_members > 0)
		r = walk_roots(&w);
	for (uint32_t i = 0; w.links && i < n_members; i++)
		ql_linknames_free(w.links[i]);
	free(w.links);
	ql_buf_release(&w.path);
	if (r < 0) {
		ql_inventory_release(&inv);
		return r;
	}
	*ret_inventory = inv;
	return 0;
}
