/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making room, or planning it.
 *
 * It is done under the eviction's lock, in rounds of three steps:
 *
 *   1. victims are chosen (keepchoose.c), their images' trees locked, and what
 *      they have on disk is looked at, until it may be enough;
 *   2. in one transaction it is seen that they are still nobody's, layers are
 *      marked as gone (keepdrop.c), and what nobody else needs is written
 *      down (keepdoom.c);
 *   3. that is unlinked, and crossed out.
 *
 * First go plain objects of which the packed tier has all (demotion: a round
 * of its own kind, in which nothing is marked but as lazy), then packed frames
 * that layers in use have as plain files, then units.
 *
 * A plan is the same up to the end of step 2, which it aborts.
 */
#include "store/keepevict.h"

#include <errno.h>

enum { SLACK = 128 }; /* as a part of the budget: freed beyond what lacks */

static void round_release(struct ql_evict *ev)
{
	for (size_t i = 0; i < ev->n_victims; i++) {
		ql_object_set_release(&ev->victims[i].objects);
		if (ev->victims[i].layer_fd >= 0)
			(void)close(ev->victims[i].layer_fd);
	}
	ev->n_victims = 0;
	while (ev->n_locks > 0)
		ql_name_lock_release(&ev->locks[--ev->n_locks]);
	for (size_t i = 0; i < ev->map.n_images; i++)
		if (ev->map.images[i].fd >= 0)
			(void)close(ql_take_fd(&ev->map.images[i].fd));
	ql_doom_release(&ev->doom);
	ev->planned = 0;
	ev->packed = 0;
}

static void evict_release(struct ql_evict *ev)
{
	round_release(ev);
	ql_keep_map_release(&ev->map);
	free(ev->order);
	free(ev->victims);
}

/* ---- rounds ---- */

static int take_victims(struct ql_evict *ev, bool demote, uint64_t bytes,
			struct ql_error *err)
{
	int r = 0;

	for (size_t i = 0; i < ev->n_victims && r == 0 && ev->planned < bytes;
	     i++)
		if (ev->victims[i].demote == demote)
			r = ql_evict_victim(ev, &ev->victims[i], err);
	return r;
}

/* A plan says between the two kinds what would be punched. */
static int plan_punch(struct ql_evict *ev, uint64_t bytes, struct ql_error *err)
{
	uint64_t freed = 0;
	int r;

	if (!ev->fn || ev->planned >= bytes)
		return 0;
	r = ql_keep_punch(&ev->map, bytes - ev->planned, ev->fn, ev->arg,
			  &freed, err);
	ev->packed += freed;
	ev->planned += freed;
	return r;
}

static int round_txn(struct ql_evict *ev, uint64_t bytes, struct ql_error *err)
{
	int r = ql_keep_begin(ev->store, &ev->kt, err);
	uint64_t units = ev->stats.units;

	if (r < 0)
		return r;
	r = take_victims(ev, true, bytes, err);
	if (r == 0)
		r = plan_punch(ev, bytes, err);
	if (r == 0)
		r = take_victims(ev, false, bytes, err);
	if (r == 0)
		r = ql_doom_spare_blobs(ev->store, ev->kt.txn, &ev->doom, err);
	if (r == 0)
		r = ql_doom_write(ev->kt.txn, &ev->doom, err);
	if (r == 0)
		r = ql_keep_count(ev->kt.txn, ev->stats.units - units,
				  ev->planned, err);
	if (r != 0 || ev->fn) {
		ql_keep_abort(&ev->kt);
		return r;
	}
	return ql_keep_commit(&ev->kt, err);
}

static int evict_round(struct ql_evict *ev, uint64_t bytes,
		       struct ql_error *err)
{
	struct ql_remove_stats stats = { 0 };
	int r = ql_evict_choose(ev, ev->fn ? UINT64_MAX : bytes, err);

	/* Frames may be punched where nobody is to go. */
	ev->idle = ev->n_victims == 0;
	if (r == 0 && (!ev->idle || ev->fn))
		r = round_txn(ev, bytes, err);
	if (r == 0 && !ev->idle && !ev->fn)
		r = ql_doom_execute(ev->store, &ev->doom, &stats, err);
	ev->stats.freed += ev->fn ? ev->planned : stats.bytes;
	ev->stats.objects += stats.objects;
	round_release(ev);
	return r;
}

/* Frames that layers in use have as plain files. */
static int evict_punch(struct ql_evict *ev, uint64_t bytes,
		       struct ql_error *err)
{
	uint64_t freed = 0;
	int r = ql_keep_punch(&ev->map, bytes, NULL, NULL, &freed, err);

	ev->stats.punched += freed;
	ev->stats.freed += freed;
	return r;
}

static int evict_run(struct ql_evict *ev, uint64_t bytes, struct ql_error *err)
{
	int r = 0;

	if (ev->fn)
		return evict_round(ev, bytes, err);
	while (r == 0 && ev->stats.freed < bytes) {
		r = evict_round(ev, bytes - ev->stats.freed, err);
		if (r < 0 || !ev->idle)
			continue;
		if (ev->dropping)
			break;
		ev->dropping = true;
		if (ev->stats.freed < bytes)
			r = evict_punch(ev, bytes - ev->stats.freed, err);
	}
	return r;
}

/* ---- the whole ---- */

/* What is here, and who goes first. */
static int evict_look(struct ql_evict *ev, struct ql_error *err)
{
	struct ql_keep_txn kt;
	int r = ql_keep_begin(ev->store, &kt, err);

	if (r < 0)
		return r;
	r = ql_promises_mend(kt.txn, err);
	if (r == 0)
		r = ql_keep_map_init(ev->store, kt.txn, &ev->map, err);
	if (r == 0)
		r = ql_keep_holds(&ev->map, kt.txn, err);
	if (r == 0 && kt.cache)
		r = ql_keep_enter_map(&kt, &ev->map, err);
	if (r == 0)
		r = ql_keep_order(&kt, &ev->map, &ev->order, &ev->n, err);
	if (r < 0 || ev->fn) {
		ql_keep_abort(&kt);
		return r;
	}
	return ql_keep_commit(&kt, err);
}

/* What has to be freed, 0: nothing. */
static int evict_lacks(struct ql_store *store, uint64_t bytes,
		       uint64_t *ret_lacks, uint64_t *ret_target,
		       struct ql_error *err)
{
	struct ql_space space;
	int r = ql_space_get(store, &space, err);

	if (r == 0 && ql_space_lacks(&space, bytes) > 0)
		r = ql_space_mend(store, &space, err);
	if (r < 0)
		return r;
	*ret_lacks = ql_space_lacks(&space, bytes);
	*ret_target = *ret_lacks;
	/* A little more, so that not every object comes here. */
	if (*ret_lacks > 0 && *ret_lacks < space.budget / SLACK)
		*ret_target = space.budget / SLACK;
	return 0;
}

/* last: where there is nothing left to take, that is recorded. */
static int make_room(struct ql_evict *ev, uint64_t bytes, bool last,
		     struct ql_error *err)
{
	uint64_t lacks = 0, target = 0;
	int r = ql_doom_recover(ev->store, err);

	if (r == 0)
		r = evict_lacks(ev->store, bytes, &lacks, &target, err);
	if (r < 0 || lacks == 0)
		return r;
	r = evict_look(ev, err);
	if (r == 0)
		r = evict_run(ev, target, err);
	if (r == 0 && ev->stats.freed < lacks)
		r = last ? ql_keep_refuse(ev->store, &ev->map, bytes, err)
			 : ql_keep_describe(&ev->map, bytes, err);
	return r;
}

static void stats_add(struct ql_keep_stats *sum, const struct ql_keep_stats *st)
{
	sum->freed += st->freed;
	sum->demoted += st->demoted;
	sum->punched += st->punched;
	sum->objects += st->objects;
	sum->units += st->units;
	sum->images += st->images;
}

static int make_room_locked(struct ql_store *store, uint64_t bytes, bool last,
			    struct ql_keep_stats *stats, struct ql_error *err)
{
	_cleanup_(evict_release) struct ql_evict ev = { .store = store };
	_cleanup_close_ int lock = -1;
	int r = ql_keep_lock(store, &lock, err);

	if (r == 0)
		r = make_room(&ev, bytes, last, err);
	stats_add(stats, &ev.stats);
	return r;
}

void ql_keep_relief(struct ql_store *store, ql_keep_relief_fn *fn, void *arg)
{
	store->relief = fn;
	store->relief_arg = arg;
}

int ql_keep_make_room(struct ql_store *store, uint64_t bytes,
		      struct ql_keep_stats *ret_stats, struct ql_error *err)
{
	struct ql_keep_stats stats = { 0 };
	int r = ql_store_need_write(store, err);

	if (r == 0)
		r = make_room_locked(store, bytes, !store->relief, &stats, err);
	if (r == -ENOSPC && store->relief) {
		(void)store->relief(store->relief_arg);
		r = make_room_locked(store, bytes, true, &stats, err);
	}
	if (ret_stats)
		*ret_stats = stats;
	return r;
}

int ql_keep_plan(struct ql_store *store, uint64_t bytes, ql_keep_fn *fn,
		 void *arg, struct ql_error *err)
{
	_cleanup_(evict_release) struct ql_evict ev = { .store = store,
							.fn = fn,
							.arg = arg };
	_cleanup_close_ int lock = -1;
	uint64_t lacks = 0, target = 0;
	int r = ql_store_need_write(store, err);

	if (r == 0)
		r = ql_keep_lock(store, &lock, err);
	if (r == 0)
		r = ql_doom_recover(store, err);
	if (r == 0)
		r = evict_lacks(store, bytes, &lacks, &target, err);
	if (r < 0 || lacks == 0)
		return r;
	r = evict_look(&ev, err);
	if (r == 0)
		r = evict_run(&ev, target, err);
	if (r == 0 && ev.stats.freed < lacks)
		r = ql_keep_describe(&ev.map, bytes, err);
	return r;
}
