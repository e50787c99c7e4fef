/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of several names: for each, a digest of the names, which two trees
 * have in common just where the file has the same names in both.  One walk of
 * the tree to list them, and one, where there are any, for their names; both in
 * its order.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "refactor/refactor-private.h"

struct linked {
	uint64_t nid;
	struct ql_digest names; /* of those seen so far */
	bool asked;
};

struct ql_linknames {
	struct linked *list; /* owned; by nid */
	size_t n, cap;
};

struct walk {
	struct ql_linknames *names;
	const struct ql_tree *tree; /* borrowed */
	struct ql_buf path;	    /* owned */
	struct ql_hasher *hasher;   /* owned */
	bool listed;		    /* the table has all that it will have */
};

static size_t place_of(const struct ql_linknames *names, uint64_t nid)
{
	size_t low = 0, high = names->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (names->list[mid].nid < nid)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static int nid_add(struct ql_linknames *names, uint64_t nid)
{
	if (names->n == names->cap) {
		size_t cap = names->cap ? names->cap * 2 : 64;
		struct linked *grown =
			reallocarray(names->list, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		names->list = grown;
		names->cap = cap;
	}
	names->list[names->n++] = (struct linked){ .nid = nid };
	return 0;
}

static int nid_cmp(const void *a, const void *b)
{
	const struct linked *x = a, *y = b;

	return x->nid < y->nid ? -1 : x->nid > y->nid;
}

/* Each once, so that it can be found. */
static void nids_sort(struct ql_linknames *names)
{
	size_t n = 0;

	if (names->n > 1)
		qsort(names->list, names->n, sizeof(*names->list), nid_cmp);
	for (size_t i = 0; i < names->n; i++)
		if (n == 0 || names->list[n - 1].nid != names->list[i].nid)
			names->list[n++] = names->list[i];
	names->n = n;
}

static int name_add(struct walk *w, uint64_t nid)
{
	struct linked *file;
	int r;

	if (!w->listed)
		return nid_add(w->names, nid);
	file = &w->names->list[place_of(w->names, nid)];
	r = ql_hasher_reset(w->hasher);
	if (r < 0)
		return r;
	ql_hasher_update(w->hasher, file->names.bytes, QL_DIGEST_BYTES);
	ql_hasher_update(w->hasher, w->path.data, w->path.len);
	ql_hasher_final(w->hasher, &file->names);
	return 0;
}

static int walk_folder(struct walk *w, const struct ql_inode *dir,
		       unsigned int depth)
{
	size_t len = w->path.len;
	struct ql_dirent e;
	struct ql_inode inode;
	uint64_t pos = 0;
	int r;

	if (depth > QL_ROOT_DEPTH_MAX)
		return -ELOOP;
	while ((r = ql_tree_readdir(w->tree, dir, &pos, &e)) > 0) {
		if (ql_dirent_is_dots(&e))
			continue;
		r = ql_tree_inode(w->tree, e.nid, &inode);
		if (r == 0)
			r = ql_buf_add(&w->path, "/", 1);
		if (r == 0)
			r = ql_buf_add(&w->path, e.name, e.len);
		if (r == 0 && S_ISDIR(inode.mode))
			r = walk_folder(w, &inode, depth + 1);
		else if (r == 0 && inode.nlink > 1)
			r = name_add(w, e.nid);
		if (r < 0)
			return r;
		w->path.len = len;
	}
	return r;
}

int ql_linknames_read(const struct ql_tree *tree,
		      struct ql_linknames **ret_names, struct ql_error *err)
{
	struct walk w = { .tree = tree, .path = QL_BUF_INIT(QL_PATHS_DEEP) };
	struct ql_inode root;
	int r = -ENOMEM;

	w.names = calloc(1, sizeof(*w.names));
	w.hasher = ql_hasher_new();
	if (w.names && w.hasher) {
		r = ql_tree_inode(tree, ql_tree_root(tree), &root);
		if (r == 0)
			r = walk_folder(&w, &root, 0);
		nids_sort(w.names);
		w.listed = true;
		if (r == 0 && w.names->n > 0)
			r = walk_folder(&w, &root, 0);
	}
	ql_buf_release(&w.path);
	ql_hasher_free(w.hasher);
	if (r < 0) {
		ql_linknames_free(w.names);
		return ql_error_errno(err, r, "files of several names");
	}
	*ret_names = w.names;
	return 0;
}

void ql_linknames_free(struct ql_linknames *names)
{
	if (!names)
		return;
	free(names->list);
	free(names);
}

const struct ql_digest *ql_linknames_get(struct ql_linknames *names,
					 uint64_t nid, bool *ret_first)
{
	size_t at = place_of(names, nid);

	if (at == names->n || names->list[at].nid != nid)
		return NULL;
	*ret_first = !names->list[at].asked;
	names->list[at].asked = true;
	return &names->list[at].names;
}
