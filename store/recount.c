/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalogue's counts of who needs which object, made anew from the trees:
 * for where they are wrong, and for where nobody can tell any more what a layer
 * needed that goes, since its tree is damaged.
 */
#include "store/store-private.h"

#include <errno.h>
#include <string.h>

void ql_needs_release(struct ql_needs *n)
{
	ql_object_set_release(&n->uses);
	ql_object_set_release(&n->gone);
	ql_object_set_release(&n->must);
}

int ql_needs_add(struct ql_needs *n, const struct ql_object_set *set,
		 enum ql_need need)
{
	int r = 0;

	for (size_t i = 0; i < set->n && r == 0; i++) {
		const struct ql_object_use *use = &set->items[i];

		r = ql_object_set_add(&n->uses, &use->digest, use->size);
		if (r == 0 && need == QL_NEED_HERE)
			r = ql_object_set_add(&n->must, &use->digest, 0);
		if (r == 0 && need == QL_NEED_GONE)
			r = ql_object_set_add(&n->gone, &use->digest, 0);
	}
	return r;
}

static void sort(struct ql_object_set *set)
{
	if (set->n > 0)
		qsort(set->items, set->n, sizeof(*set->items),
		      ql_object_use_cmp);
}

void ql_needs_sort(struct ql_needs *n)
{
	sort(&n->uses);
	sort(&n->gone);
	ql_object_set_sort(&n->must);
}

bool ql_object_set_has(const struct ql_object_set *set,
		       const struct ql_digest *digest)
{
	struct ql_object_use key = { .digest = *digest };

	return set->n > 0 && bsearch(&key, set->items, set->n,
				     sizeof(*set->items), ql_object_use_cmp);
}

/* How many are alike from *at on, which moves behind them. */
static uint32_t run_of(const struct ql_object_set *set, size_t *at,
		       const struct ql_digest *digest)
{
	uint32_t n = 0;

	while (*at < set->n &&
	       ql_digest_cmp(&set->items[*at].digest, digest) < 0)
		(*at)++;
	for (; *at < set->n && ql_digest_equal(&set->items[*at].digest, digest);
	     (*at)++)
		n++;
	return n;
}

int ql_needs_each(const struct ql_needs *n, ql_need_fn *fn, void *arg)
{
	size_t i = 0, j = 0;
	int r = 0;

	while (i < n->uses.n && r == 0) {
		const struct ql_object_use *use = &n->uses.items[i];
		struct ql_object_record rec = { .size = use->size };

		rec.refs = run_of(&n->uses, &i, &use->digest);
		rec.gone = run_of(&n->gone, &j, &use->digest);
		r = fn(&use->digest, &rec, arg);
	}
	return r;
}

/* ---- from the trees ---- */

struct counting {
	struct ql_store *store; /* borrowed, as these */
	struct ql_needs *needs;
	struct ql_error *err;
};

static int count_layer(const void *key, size_t key_len, const void *value,
		       size_t len, void *arg)
{
	_cleanup_(ql_object_set_release) struct ql_object_set set = { 0 };
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	struct counting *c = arg;
	struct ql_layer_info info;
	char text[QL_DIGEST_TEXT + 1];
	int r = ql_record_parse_layer(key, key_len, value, len, &info);

	if (r < 0)
		return ql_error_errno(c->err, r, "a layer's record");
	r = ql_tree_open_layer(c->store, &info.diff_id, &tree, c->err);
	if (r == 0)
		r = ql_object_set_from_tree(tree, &set, c->err);
	if (r < 0 && r != -ENOMEM) {
		(void)ql_error_prefix(c->err, "layer %s",
				      ql_digest_text(&info.diff_id, text));
		return -EBADMSG;
	}
	if (r == 0 && ql_needs_add(c->needs, &set, ql_need_of(&info)) < 0)
		r = ql_error_nomem(c->err);
	return r;
}

static int count_image(const void *key, size_t key_len, const void *value,
		       size_t len, void *arg)
{
	_cleanup_(ql_object_set_release) struct ql_object_set set = { 0 };
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	struct counting *c = arg;
	char text[QL_DIGEST_TEXT + 1];
	int r = ql_record_parse_image(key, key_len, value, len, &info);

	if (r < 0)
		return ql_error_errno(c->err, r, "an image's record");
	r = ql_image_own_objects(c->store, &info, &set, c->err);
	if (r < 0 && r != -ENOMEM) {
		(void)ql_error_prefix(c->err, "image %s",
				      ql_digest_text(&info.manifest, text));
		return -EBADMSG;
	}
	if (r == 0 && ql_needs_add(c->needs, &set, QL_NEED_LAZY) < 0)
		r = ql_error_nomem(c->err);
	return r;
}

enum ql_need ql_need_of(const struct ql_layer_info *info)
{
	if (info->flags & QL_LAYER_GONE)
		return QL_NEED_GONE;
	return info->flags & QL_LAYER_LAZY ? QL_NEED_LAZY : QL_NEED_HERE;
}

/* ---- into the catalogue ---- */

struct fixing {
	struct ql_txn *txn;	      /* borrowed */
	struct ql_object_set stale;   /* owned: records of what nobody needs */
	const struct ql_needs *needs; /* borrowed */
	uint64_t fixed;
	struct ql_error *err; /* borrowed */
};

static int fix_one(const struct ql_digest *digest,
		   const struct ql_object_record *want, void *arg)
{
	struct fixing *fx = arg;
	struct ql_object_record have, rec = *want;
	int r = ql_record_get_object(fx->txn, digest, &have);

	/* The size of a manifest that is not here is not known. */
	if (r == 0 && rec.size == 0)
		rec.size = have.size;
	if (r == 0 && have.size == rec.size && have.refs == rec.refs &&
	    have.gone == rec.gone)
		return 0;
	fx->fixed++;
	return ql_record_put_object(fx->txn, digest, &rec, fx->err);
}

static int find_stale(const void *key, size_t key_len, const void *value,
		      size_t len, void *arg)
{
	struct fixing *fx = arg;
	struct ql_digest digest;

	(void)value;
	(void)len;
	if (key_len != QL_DIGEST_BYTES)
		return 0;
	memcpy(digest.bytes, key, QL_DIGEST_BYTES);
	if (ql_object_set_has(&fx->needs->uses, &digest))
		return 0;
	return ql_object_set_add(&fx->stale, &digest, 0);
}

static int fix_all(struct fixing *fx, struct ql_object_set *gone)
{
	int r = ql_needs_each(fx->needs, fix_one, fx);

	if (r == 0)
		r = ql_txn_each(fx->txn, QL_TABLE_OBJECTS, find_stale, fx,
				fx->err);
	for (size_t i = 0; i < fx->stale.n && r == 0; i++) {
		const struct ql_digest *digest = &fx->stale.items[i].digest;

		r = ql_txn_del(fx->txn, QL_TABLE_OBJECTS, digest->bytes,
			       QL_DIGEST_BYTES, fx->err);
		if (r == 0 && gone)
			r = ql_object_set_add(gone, digest, 0);
	}
	fx->fixed += fx->stale.n;
	return r == -ENOMEM ? ql_error_nomem(fx->err) : r;
}

int ql_refs_recount(struct ql_store *store, struct ql_txn *txn,
		    struct ql_object_set *gone, uint64_t *ret_fixed,
		    struct ql_error *err)
{
	_cleanup_(ql_needs_release) struct ql_needs needs = { 0 };
	struct counting c = { store, &needs, err };
	struct fixing fx = { .txn = txn, .needs = &needs, .err = err };
	int r = ql_txn_each(txn, QL_TABLE_LAYERS, count_layer, &c, err);

	if (r == 0)
		r = ql_txn_each(txn, QL_TABLE_IMAGES, count_image, &c, err);
	if (r == 0) {
		ql_needs_sort(&needs);
		r = fix_all(&fx, gone);
	}
	ql_object_set_release(&fx.stale);
	if (r == 0 && ret_fixed)
		*ret_fixed = fx.fixed;
	return r;
}

int ql_store_recount(struct ql_store *store, uint64_t *ret_fixed,
		     struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	_cleanup_close_ int lock = -1;
	uint64_t fixed = 0;
	int r = ql_store_need_write(store, err);

	if (r == 0)
		r = ql_store_lock(store, true, &lock, err);
	if (r == 0)
		r = ql_txn_begin(store->catalog, true, &txn, err);
	if (r == 0)
		r = ql_refs_recount(store, txn, NULL, &fixed, err);
	if (r == 0 && fixed > 0)
		r = ql_txn_commit(ql_take_ptr(txn), err);
	if (r == 0)
		*ret_fixed = fixed;
	return r;
}
