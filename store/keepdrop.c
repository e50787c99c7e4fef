/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking one victim, in the round's transaction.
 *
 * It is seen that it is still nobody's; its layer is marked as gone (or as
 * lazy, where its plain files go alone); images that nothing is left of are
 * forgotten; and what nobody else needs is added to what is about to go.
 */
#include "store/keepevict.h"

#include <errno.h>

struct recheck {
	struct ql_evict *ev;		 /* borrowed */
	const struct ql_keep_unit *unit; /* borrowed */
	bool held;
};

static bool has_unit(const struct ql_image_info *info,
		     const struct ql_keep_unit *unit)
{
	if (unit->is_image)
		return ql_digest_equal(&info->manifest, &unit->digest);
	for (uint32_t i = 0; i < info->n_layers; i++)
		if (ql_digest_equal(&info->layers[i], &unit->digest))
			return true;
	return false;
}

/* An image that was pulled, pinned or promised since. */
static int recheck_image(const void *key, size_t key_len, const void *value,
			 size_t len, void *arg)
{
	struct recheck *rc = arg;
	_cleanup_image_info_ struct ql_image_info info = { 0 };

	if (ql_record_parse_image(key, key_len, value, len, &info) < 0 ||
	    !has_unit(&info, rc->unit))
		return 0;
	rc->held |= info.flags & QL_IMAGE_PINNED ||
		    !ql_keep_map_image(&rc->ev->map, &info.manifest) ||
		    ql_keep_is_promised(rc->ev->kt.txn, &info.manifest);
	return 0;
}

static int recheck(struct ql_evict *ev, const struct ql_keep_unit *unit,
		   bool *ret_held, struct ql_error *err)
{
	struct recheck rc = { .ev = ev, .unit = unit };
	int r = ql_txn_each(ev->kt.txn, QL_TABLE_IMAGES, recheck_image, &rc,
			    err);

	*ret_held = rc.held;
	return r;
}

/* Those that nobody else needs, as far as they have something on disk. */
static int doom_objects(struct ql_evict *ev, const struct ql_object_set *gone,
			struct ql_error *err)
{
	struct ql_object_set *set = &ev->doom.sets[QL_DOOM_OBJECT];

	for (size_t i = 0; i < gone->n; i++) {
		if (gone->items[i].size == 0)
			continue;
		if (ql_object_set_add(set, &gone->items[i].digest,
				      gone->items[i].size) < 0)
			return ql_error_nomem(err);
	}
	return 0;
}

static int drop_layer(struct ql_evict *ev, const struct ql_victim *v,
		      struct ql_error *err)
{
	_cleanup_(ql_object_set_release) struct ql_object_set gone = { 0 };
	struct ql_txn *txn = ev->kt.txn;
	struct ql_layer_info info;
	int r = ql_record_get_layer(txn, &v->unit->digest, &info);

	if (r < 0 || info.flags & QL_LAYER_GONE)
		return r == -ENOENT ? 0 : r;
	r = ql_refs_gone(txn, &v->objects, true, &gone, err);
	if (r == 0)
		r = doom_objects(ev, &gone, err);
	if (r == 0 && v->packed > 0 &&
	    ql_object_set_add(&ev->doom.sets[QL_DOOM_PACKED], &info.blob,
			      v->packed) < 0)
		r = ql_error_nomem(err);
	info.flags |= QL_LAYER_LAZY | QL_LAYER_GONE;
	v->unit->flags = info.flags;
	return r < 0 ? r : ql_record_put_layer(txn, &info, err);
}

/* Objects that no other needs as plain files. */
static int demote_objects(struct ql_evict *ev, const struct ql_victim *v,
			  struct ql_object_set *ret_set, struct ql_error *err)
{
	for (size_t i = 0; i < v->objects.n; i++) {
		const struct ql_object_use *use = &v->objects.items[i];
		struct ql_object_record rec;

		if (use->size == 0 ||
		    ql_record_get_object(ev->kt.txn, &use->digest, &rec) < 0 ||
		    rec.refs != rec.gone + 1)
			continue;
		if (ql_object_set_add(ret_set, &use->digest, use->size) < 0)
			return ql_error_nomem(err);
	}
	return 0;
}

static int demote_unit(struct ql_evict *ev, const struct ql_victim *v,
		       struct ql_error *err)
{
	_cleanup_(ql_object_set_release) struct ql_object_set set = { 0 };
	int r = demote_objects(ev, v, &set, err);

	if (r < 0 || set.n == 0)
		return r;
	r = v->unit->is_image
		    ? ql_image_flag(ev->kt.txn, &v->unit->digest, false, err)
		    : ql_layer_flag(ev->kt.txn, &v->unit->digest, true, err);
	return r < 0 ? r : doom_objects(ev, &set, err);
}

/* ---- images that nothing is left of ---- */

/* -EBUSY (not described): somebody makes it anew, or more are locked than one
 * round may.  A plan only tries. */
static int lock_name(struct ql_evict *ev, const struct ql_digest *digest,
		     struct ql_error *err)
{
	struct ql_name_lock *lock = &ev->locks[ev->n_locks];
	char hex[QL_DIGEST_HEX + 1];
	int r;

	for (size_t i = 0; i < ev->n_locks; i++)
		if (ql_name_lock_is(&ev->locks[i], digest))
			return 0;
	if (ev->n_locks == QL_EVICT_NAMES)
		return -EBUSY;
	r = ql_name_lock_try(ev->store, digest, lock);
	if (r == -EBUSY)
		return r;
	if (r < 0)
		return ql_error_errno(err, r, "lock %s",
				      ql_digest_hex(digest, hex));
	if (ev->fn)
		ql_name_lock_release(lock);
	else
		ev->n_locks++;
	return 0;
}

/* Nobody has it open, and nobody is making it, or any of its layers, anew. */
static int lock_whole(struct ql_evict *ev, struct ql_keep_image *image,
		      struct ql_error *err)
{
	const struct ql_image_info *info = &image->info;
	int r;

	if (image->removed)
		return 0;
	r = ql_evict_lock_image(ev, image, err);
	if (r == 0)
		r = lock_name(ev, &info->manifest, err);
	for (uint32_t i = 0; i < info->n_layers && r == 0; i++)
		r = lock_name(ev, &info->layers[i], err);
	return r;
}

static bool all_gone(const struct ql_keep_map *map,
		     const struct ql_image_info *info)
{
	for (uint32_t i = 0; i < info->n_layers; i++) {
		const struct ql_keep_unit *unit =
			ql_keep_map_unit(map, &info->layers[i]);

		if (unit && !unit->removed && !(unit->flags & QL_LAYER_GONE))
			return false;
	}
	return true;
}

static int own_objects(struct ql_evict *ev, const struct ql_image_info *info,
		       const struct ql_victim *v, struct ql_object_set *own,
		       struct ql_error *err)
{
	int r = ql_image_documents(ev->store, info, own, err);

	/* Its tree is locked by us. */
	for (size_t i = 0; i < v->objects.n && r == 0 && v->unit->is_image; i++)
		if (ql_object_set_add(own, &v->objects.items[i].digest,
				      v->objects.items[i].size) < 0)
			r = ql_error_nomem(err);
	ql_object_set_sort(own);
	return r;
}

/* Its layers that go with it. */
static void units_removed(struct ql_evict *ev, const struct ql_image_info *info)
{
	struct ql_layer_info layer;

	for (uint32_t i = 0; i < info->n_layers; i++) {
		struct ql_keep_unit *unit =
			ql_keep_map_unit(&ev->map, &info->layers[i]);

		if (!unit || unit->removed ||
		    ql_record_get_layer(ev->kt.txn, &unit->digest, &layer) !=
			    -ENOENT)
			continue;
		unit->removed = true;
		if (ev->kt.cache)
			ql_cache_evict(ev->kt.cache, ql_keep_id(&unit->digest));
	}
}

/* That is locked. */
static int remove_image(struct ql_evict *ev, struct ql_keep_image *image,
			const struct ql_victim *v, struct ql_error *err)
{
	_cleanup_(ql_object_set_release) struct ql_object_set own = { 0 };
	struct ql_object_set *objects = &ev->doom.sets[QL_DOOM_OBJECT];
	size_t had = objects->n;
	int r;

	if (image->removed)
		return 0;
	r = own_objects(ev, &image->info, v, &own, err);
	if (r == 0)
		r = ql_image_forget(ev->store, ev->kt.txn, &image->info, &own,
				    &ev->doom, err);
	if (r < 0)
		return r;
	/* What they take of the disk, each once. */
	for (; had < objects->n; had++)
		objects->items[had].size = ql_evict_object_bytes(
			ev->store, &objects->items[had].digest);
	ql_object_set_sort(objects);
	image->removed = true;
	ev->stats.images++;
	units_removed(ev, &image->info);
	return 0;
}

static int lock_all(struct ql_evict *ev, const struct ql_keep_unit *unit,
		    struct ql_error *err)
{
	int r = 0;

	for (uint32_t i = 0; i < unit->n_images && r == 0; i++)
		r = lock_whole(ev, &ev->map.images[unit->images[i]], err);
	return r;
}

/* That are locked. */
static int remove_all(struct ql_evict *ev, const struct ql_victim *v,
		      struct ql_error *err)
{
	int r = 0;

	for (uint32_t i = 0; i < v->unit->n_images && r == 0; i++)
		r = remove_image(ev, &ev->map.images[v->unit->images[i]], v,
				 err);
	return r;
}

/* Those that it was the last of; who cannot be locked, for another time. */
static int remove_left(struct ql_evict *ev, const struct ql_victim *v,
		       struct ql_error *err)
{
	const struct ql_keep_unit *unit = v->unit;
	int r = 0;

	for (uint32_t i = 0; i < unit->n_images && r == 0; i++) {
		struct ql_keep_image *image = &ev->map.images[unit->images[i]];
		int locked;

		if (image->info.flags & QL_IMAGE_READY ||
		    !all_gone(&ev->map, &image->info))
			continue;
		locked = lock_whole(ev, image, err);
		if (locked == 0)
			r = remove_image(ev, image, v, err);
		else if (locked != -EBUSY)
			r = locked;
	}
	return r;
}

/* ---- one victim ---- */

static uint64_t doom_bytes(struct ql_evict *ev)
{
	uint64_t sum = ev->packed;

	for (int k = 0; k < QL_DOOMS; k++)
		for (size_t i = 0; i < ev->doom.sets[k].n; i++)
			sum += ev->doom.sets[k].items[i].size;
	return sum;
}

/* Somebody makes anew what has it: it stays, for this eviction.  Where only
 * this round has locked as much as it may, the next one sees to it, but for
 * one that is too much by itself. */
static void put_off(const struct ql_evict *ev, const struct ql_victim *v)
{
	if (ev->n_locks < QL_EVICT_NAMES || v == ev->victims)
		v->unit->hold = QL_HOLD_FLIGHT;
}

static int drop_unit(struct ql_evict *ev, const struct ql_victim *v,
		     struct ql_error *err)
{
	int r;

	/* What could not be told again goes with all that has it. */
	if (v->unit->is_image || !v->unit->has_toc) {
		r = lock_all(ev, v->unit, err);
		if (r == -EBUSY) {
			put_off(ev, v);
			return 0;
		}
		if (r == 0)
			r = remove_all(ev, v, err);
		ev->packed += v->packed;
	} else {
		r = drop_layer(ev, v, err);
		if (r == 0)
			r = remove_left(ev, v, err);
	}
	if (r < 0)
		return r;
	if (ev->kt.cache)
		ql_cache_evict(ev->kt.cache, ql_keep_id(&v->unit->digest));
	v->unit->removed = true;
	ev->stats.units++;
	return 0;
}

static int tell_step(struct ql_evict *ev, const struct ql_victim *v,
		     uint64_t bytes)
{
	_cleanup_free_ struct ql_digest *images =
		calloc(v->unit->n_images + 1UL, sizeof(*images));
	struct ql_keep_step step = {
		.what = v->demote ? QL_KEEP_DEMOTE : QL_KEEP_DROP,
		.unit = v->unit->digest,
		.is_image = v->unit->is_image,
		.images = images,
		.bytes = bytes,
		.why = v->demote ? "its files are packed, too"
				 : "the policy gives it the least value",
	};

	if (!images)
		return -ENOMEM;
	for (uint32_t i = 0; i < v->unit->n_images; i++)
		images[step.n_images++] =
			ev->map.images[v->unit->images[i]].info.manifest;
	if (!v->demote) {
		step.again_bytes = v->unit->blob_size;
		step.again_ns =
			ql_keep_unit_cost(ev->store, ev->kt.txn, v->unit);
	}
	return ev->fn(&step, ev->arg);
}

int ql_evict_victim(struct ql_evict *ev, const struct ql_victim *v,
		    struct ql_error *err)
{
	uint64_t before = ev->planned;
	bool held;
	int r;

	if (v->unit->removed)
		return 0;
	r = recheck(ev, v->unit, &held, err);
	if (r < 0)
		return r;
	if (held) {
		v->unit->hold = QL_HOLD_FLIGHT;
		return 0;
	}
	v->unit->demoted |= v->demote;
	r = v->demote ? demote_unit(ev, v, err) : drop_unit(ev, v, err);
	if (r < 0 || (!v->demote && !v->unit->removed))
		return r;
	/* What a plan has demoted is dropped once. */
	if (ev->fn)
		ql_object_set_sort(&ev->doom.sets[QL_DOOM_OBJECT]);
	ev->planned = doom_bytes(ev);
	if (v->demote)
		ev->stats.demoted += ev->planned - before;
	return ev->fn ? tell_step(ev, v, ev->planned - before) : 0;
}
