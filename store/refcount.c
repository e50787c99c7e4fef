/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which objects a tree needs, and the catalogue's count of who needs each.
 * A layer's set is always taken from its tree on disk, when it is counted and
 * when it is dropped, so that the two cannot disagree.
 */
#include "store/store-private.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

enum { TREE_DEPTH_MAX = QL_PATH_MAX / 2 + 2 };

void ql_object_set_release(struct ql_object_set *set)
{
	free(set->items);
	*set = (struct ql_object_set){ 0 };
}

int ql_object_set_add(struct ql_object_set *set, const struct ql_digest *digest,
		      uint64_t size)
{
	if (set->n == set->cap) {
		size_t cap = set->cap ? set->cap * 2 : 256;
		struct ql_object_use *grown =
			reallocarray(set->items, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		set->items = grown;
		set->cap = cap;
	}
	set->items[set->n].digest = *digest;
	set->items[set->n].size = size;
	set->n++;
	return 0;
}

int ql_object_use_cmp(const void *a, const void *b)
{
	return ql_digest_cmp(&((const struct ql_object_use *)a)->digest,
			     &((const struct ql_object_use *)b)->digest);
}

/* Into a copy, in an order that takes about one step for each.  False: there
 * is no room for that. */
static bool set_reorder(struct ql_object_set *set)
{
	_cleanup_free_ uint32_t *order = NULL;
	struct ql_object_use *items;

	if (set->n > UINT32_MAX)
		return false;
	order = ql_digest_order(&set->items->digest, (uint32_t)set->n,
				sizeof(*set->items));
	items = order ? calloc(set->n, sizeof(*items)) : NULL;
	if (!items)
		return false;
	for (size_t i = 0; i < set->n; i++)
		items[i] = set->items[order[i]];
	free(set->items);
	set->items = items;
	set->cap = set->n;
	return true;
}

void ql_object_set_sort(struct ql_object_set *set)
{
	size_t n = 0;

	if (set->n == 0)
		return;
	if (!set_reorder(set))
		qsort(set->items, set->n, sizeof(*set->items),
		      ql_object_use_cmp);
	for (size_t i = 1; i < set->n; i++)
		if (!ql_digest_equal(&set->items[n].digest,
				     &set->items[i].digest))
			set->items[++n] = set->items[i];
	set->n = n + 1;
}

void ql_object_set_cut(struct ql_object_set *set,
		       const struct ql_digest *digest)
{
	size_t n = 0;

	for (size_t i = 0; i < set->n; i++)
		if (!ql_digest_equal(&set->items[i].digest, digest))
			set->items[n++] = set->items[i];
	set->n = n;
}

/* ---- from a tree ---- */

static int tell_file(const struct ql_tree *tree, const struct ql_inode *inode,
		     ql_tree_object_fn *fn, void *arg)
{
	struct ql_content content;
	int r = ql_tree_content(tree, inode, &content);

	if (r < 0 || content.data || content.size == 0)
		return r;
	return fn(&content.object, content.size, arg);
}

static bool is_dots(const struct ql_dirent *d)
{
	return (d->len == 1 && d->name[0] == '.') ||
	       (d->len == 2 && d->name[0] == '.' && d->name[1] == '.');
}

static int tell_dir(const struct ql_tree *tree, uint64_t nid, int depth,
		    ql_tree_object_fn *fn,
		    void *arg) // NOLINT(misc-no-recursion)
{
	struct ql_inode dir;
	struct ql_inode inode;
	struct ql_dirent d;
	uint64_t pos = 0;
	int r = ql_tree_inode(tree, nid, &dir);

	if (r == 0 && depth > TREE_DEPTH_MAX)
		return -EBADMSG;
	while (r == 0 && (r = ql_tree_readdir(tree, &dir, &pos, &d)) > 0) {
		r = 0;
		if (d.type == DT_DIR && !is_dots(&d))
			r = tell_dir(tree, d.nid, depth + 1, fn, arg);
		if (d.type != DT_REG)
			continue;
		r = ql_tree_inode(tree, d.nid, &inode);
		if (r == 0 && S_ISREG(inode.mode))
			r = tell_file(tree, &inode, fn, arg);
	}
	return r;
}

int ql_tree_each_object(const struct ql_tree *tree, ql_tree_object_fn *fn,
			void *arg)
{
	return tell_dir(tree, ql_tree_root(tree), 0, fn, arg);
}

static int set_add_object(const struct ql_digest *digest, uint64_t size,
			  void *arg)
{
	return ql_object_set_add(arg, digest, size);
}

int ql_object_set_from_tree(const struct ql_tree *tree,
			    struct ql_object_set *ret_set, struct ql_error *err)
{
	struct ql_object_set set = { 0 };
	int r = ql_tree_each_object(tree, set_add_object, &set);

	if (r < 0) {
		ql_object_set_release(&set);
		return ql_error_errno(err, r, "read a tree's files");
	}
	ql_object_set_sort(&set);
	*ret_set = set;
	return 0;
}

/* ---- counts ---- */

static int refs_add_one(struct ql_txn_run *run, const struct ql_object_use *use,
			struct ql_error *err)
{
	struct ql_object_record rec = { .size = use->size };
	uint8_t buf[QL_OBJECT_RECORD];
	const void *value = NULL;
	size_t len = 0;
	int r = ql_txn_run_get(run, use->digest.bytes, QL_DIGEST_BYTES, &value,
			       &len);

	if (r == 0)
		r = ql_record_parse_object(value, len, &rec);
	if (r < 0 && r != -ENOENT)
		return ql_error_errno(err, r, "an object's record");
	rec.refs++;
	ql_record_print_object(&rec, buf);
	return ql_txn_run_put(run, buf, sizeof(buf), err);
}

int ql_refs_add(struct ql_txn *txn, const struct ql_object_set *set,
		struct ql_error *err)
{
	_cleanup_(ql_txn_run_closep) struct ql_txn_run *run = NULL;
	int r = ql_txn_run_open(txn, QL_TABLE_OBJECTS, &run, err);

	for (size_t i = 0; i < set->n && r == 0; i++)
		r = refs_add_one(run, &set->items[i], err);
	return r;
}

bool ql_refs_none(const struct ql_object_record *rec)
{
	/* More that are gone than there are is damage: it stays. */
	return rec->refs == rec->gone;
}

static int refs_gone_one(struct ql_txn_run *run,
			 const struct ql_object_use *use, bool is_gone,
			 bool *ret_none, struct ql_error *err)
{
	struct ql_object_record rec = { 0 };
	uint8_t buf[QL_OBJECT_RECORD];
	const void *value = NULL;
	size_t len = 0;
	int r = ql_txn_run_get(run, use->digest.bytes, QL_DIGEST_BYTES, &value,
			       &len);

	*ret_none = false;
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = ql_record_parse_object(value, len, &rec);
	if (r < 0)
		return ql_error_errno(err, r, "an object's record");
	if (is_gone)
		rec.gone++;
	else if (rec.gone > 0)
		rec.gone--;
	*ret_none = ql_refs_none(&rec);
	ql_record_print_object(&rec, buf);
	return ql_txn_run_put(run, buf, sizeof(buf), err);
}

int ql_refs_gone(struct ql_txn *txn, const struct ql_object_set *set,
		 bool is_gone, struct ql_object_set *gone, struct ql_error *err)
{
	_cleanup_(ql_txn_run_closep) struct ql_txn_run *run = NULL;
	int r = ql_txn_run_open(txn, QL_TABLE_OBJECTS, &run, err);

	for (size_t i = 0; i < set->n && r == 0; i++) {
		const struct ql_object_use *use = &set->items[i];
		bool none;

		r = refs_gone_one(run, use, is_gone, &none, err);
		if (r == 0 && none && gone &&
		    ql_object_set_add(gone, &use->digest, use->size) < 0)
			r = ql_error_nomem(err);
	}
	return r;
}

static int refs_drop_one(struct ql_txn *txn, const struct ql_digest *digest,
			 bool *ret_none, struct ql_error *err)
{
	struct ql_object_record rec;
	int r = ql_record_get_object(txn, digest, &rec);

	*ret_none = false;
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return ql_error_errno(err, r, "an object's record");
	if (rec.refs > 0)
		rec.refs--;
	*ret_none = ql_refs_none(&rec);
	if (rec.refs > 0)
		return ql_record_put_object(txn, digest, &rec, err);
	*ret_none = true;
	return ql_txn_del(txn, QL_TABLE_OBJECTS, digest->bytes, QL_DIGEST_BYTES,
			  err);
}

int ql_refs_drop(struct ql_txn *txn, const struct ql_object_set *set,
		 struct ql_object_set *gone, struct ql_error *err)
{
	int r = 0;

	for (size_t i = 0; i < set->n && r == 0; i++) {
		const struct ql_object_use *use = &set->items[i];
		bool none;

		r = refs_drop_one(txn, &use->digest, &none, err);
		if (r == 0 && none &&
		    ql_object_set_add(gone, &use->digest, use->size) < 0)
			r = ql_error_nomem(err);
	}
	return r;
}
