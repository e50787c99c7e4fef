/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who goes first: the policy's own order, tried out on a copy of its state, in
 * which is held what may not go.  In front of it stand those that the policy
 * has not let in (larger than all there is), and behind it those that nothing
 * holds but something that is held stands on.
 */
#include "store/keep-private.h"

#include <errno.h>
#include <string.h>

struct by_id {
	uint64_t id;
	struct ql_keep_unit *unit; /* borrowed */
};

static int by_id_cmp(const void *a, const void *b)
{
	const struct by_id *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

struct ordering {
	struct ql_keep_txn *kt; /* borrowed */
	struct ql_cache *cache; /* owned: the copy */
	struct by_id *ids;	/* owned; sorted */
	size_t n_ids;
	struct ql_keep_unit **order; /* owned */
	size_t n;
};

static void ordering_release(struct ordering *o)
{
	ql_cache_free(o->cache);
	free(o->ids);
	free(o->order);
}

static bool may_go(const struct ql_keep_unit *unit)
{
	return unit->hold == QL_HOLD_NONE &&
	       (unit->is_image || !(unit->flags & QL_LAYER_GONE));
}

static int order_init(struct ordering *o, struct ql_keep_map *map,
		      struct ql_error *err)
{
	o->ids = calloc(map->n_units + 1, sizeof(*o->ids));
	o->order = calloc(map->n_units + 1, sizeof(struct ql_keep_unit *));
	if (!o->ids || !o->order)
		return ql_error_nomem(err);
	for (size_t i = 0; i < map->n_units; i++)
		o->ids[o->n_ids++] =
			(struct by_id){ ql_keep_id(&map->units[i].digest),
					&map->units[i] };
	qsort(o->ids, o->n_ids, sizeof(*o->ids), by_id_cmp);
	return 0;
}

static void order_add(struct ordering *o, struct ql_keep_unit *unit)
{
	if (unit->ordered)
		return;
	unit->ordered = true;
	o->order[o->n++] = unit;
}

/* Two units of one id are one to the policy. */
static void order_add_all(struct ordering *o, uint64_t id)
{
	struct by_id key = { .id = id };
	const struct by_id *at =
		bsearch(&key, o->ids, o->n_ids, sizeof(key), by_id_cmp);

	if (!at) {
		/* Removed by hand. */
		ql_cache_remove(o->kt->cache, id);
		return;
	}
	while (at > o->ids && at[-1].id == id)
		at--;
	for (; at < o->ids + o->n_ids && at->id == id; at++)
		if (may_go(at->unit))
			order_add(o, at->unit);
}

static void order_run(struct ordering *o, struct ql_keep_map *map)
{
	uint64_t id;

	for (size_t i = 0; i < map->n_units; i++) {
		struct ql_keep_unit *unit = &map->units[i];

		if (!may_go(unit))
			(void)ql_cache_hold(o->cache,
					    ql_keep_id(&unit->digest));
		else if (!ql_cache_has(o->cache, ql_keep_id(&unit->digest)))
			order_add(o, unit);
	}
	while (ql_cache_next(o->cache, &id)) {
		order_add_all(o, id);
		ql_cache_evict(o->cache, id);
	}
	for (size_t i = 0; i < map->n_units; i++)
		if (may_go(&map->units[i]))
			order_add(o, &map->units[i]);
}

struct aged {
	struct ql_keep_unit *unit; /* borrowed */
	uint64_t pulled;	   /* the newest of its images */
};

static int aged_cmp(const void *a, const void *b)
{
	const struct aged *x = a, *y = b;

	if (x->pulled != y->pulled)
		return x->pulled < y->pulled ? -1 : 1;
	return ql_digest_cmp(&x->unit->digest, &y->unit->digest);
}

/* Without a budget nobody has counted: by the age of the newest image. */
static int order_by_age(struct ordering *o, struct ql_keep_map *map,
			struct ql_error *err)
{
	_cleanup_free_ struct aged *aged =
		calloc(map->n_units + 1, sizeof(*aged));
	size_t n = 0;

	if (!aged)
		return ql_error_nomem(err);
	for (size_t i = 0; i < map->n_units; i++) {
		struct ql_keep_unit *unit = &map->units[i];

		if (!may_go(unit))
			continue;
		aged[n].unit = unit;
		for (uint32_t k = 0; k < unit->n_images; k++) {
			uint64_t at = map->images[unit->images[k]].info.pulled;

			if (at > aged[n].pulled)
				aged[n].pulled = at;
		}
		n++;
	}
	qsort(aged, n, sizeof(*aged), aged_cmp);
	for (size_t i = 0; i < n; i++)
		order_add(o, aged[i].unit);
	return 0;
}

int ql_keep_order(struct ql_keep_txn *kt, struct ql_keep_map *map,
		  struct ql_keep_unit ***ret_order, size_t *ret_n,
		  struct ql_error *err)
{
	_cleanup_(ordering_release) struct ordering o = { .kt = kt };
	int r = order_init(&o, map, err);

	if (r == 0 && kt->cache) {
		/* The copy is made of what stands in the transaction. */
		r = ql_keep_save(kt, err);
		if (r == 0)
			r = ql_keep_load(kt->txn, &o.cache, err);
		if (r == -ENOENT)
			r = ql_error_set(err, -EBADMSG, "the cache's state");
		if (r == 0)
			order_run(&o, map);
	} else if (r == 0) {
		r = order_by_age(&o, map, err);
	}
	if (r < 0)
		return r;
	*ret_order = ql_take_ptr(o.order);
	*ret_n = o.n;
	return 0;
}
