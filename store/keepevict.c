/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making room.  Under the eviction's lock, in rounds of three steps:
 *
 *   1. victims are chosen (keeporder.c), their images' trees locked, and what
 *      they have on disk is looked at, until it may be enough;
 *   2. in one transaction it is seen that they are still nobody's, layers are
 *      marked as gone, and what nobody else needs is written down (keepdoom.c);
 *   3. that is unlinked, and crossed out.
 *
 * First go plain objects of which the packed tier has all (demotion: a round
 * of its own kind, in which nothing is marked but as lazy), then packed frames
 * that layers in use have as plain files, then units.
 *
 * A plan is the same up to the end of step 2, which it aborts.
 */
#include "store/keep-private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum {
	SLACK = 128, /* as a part of the budget: freed beyond what lacks */
	NAME_LOCKS = 256,
};

/* One that is to go in this round. */
struct victim {
	struct ql_keep_unit *unit; /* borrowed */
	bool demote;
	int layer_fd;		      /* owned; or -1 */
	struct ql_object_set objects; /* owned; size: bytes of disk */
	uint64_t packed;	      /* bytes of disk, in the packed tier */
	uint64_t most;		      /* bytes that it may free */
};

struct evict {
	struct ql_store *store;	     /* borrowed */
	struct ql_keep_map map;	     /* owned */
	struct ql_keep_unit **order; /* owned */
	size_t n;		     /* in order */
	bool dropping;		     /* all that could be demoted is */
	struct victim *victims;	     /* owned; of this round */
	size_t n_victims, cap_victims;
	struct ql_name_lock locks[NAME_LOCKS]; /* owned; of this round */
	size_t n_locks;
	struct ql_doom doom;   /* owned; of this round */
	struct ql_keep_txn kt; /* of this round */
	uint64_t planned;      /* bytes that this round frees */
	uint64_t packed;       /* of them: of images, in packed files */
	struct ql_keep_stats stats;
	bool idle;	/* the last round had nobody to take */
	ql_keep_fn *fn; /* NULL: not a plan */
	void *arg;	/* borrowed */
};

static void round_release(struct evict *ev)
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

static void evict_release(struct evict *ev)
{
	round_release(ev);
	ql_keep_map_release(&ev->map);
	free(ev->order);
	free(ev->victims);
}

/* ---- choosing ---- */

static uint64_t disk_bytes(const struct ql_store *store, const char *path)
{
	struct stat st;

	return fstatat(store->root_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0
		       ? 0
		       : (uint64_t)st.st_blocks * 512;
}

/* Of an object, whole or in part. */
static uint64_t object_bytes(struct ql_store *store,
			     const struct ql_digest *digest)
{
	char path[QL_OBJECT_PATH + 1];

	return disk_bytes(store, ql_object_path(digest, path)) +
	       ql_partial_disk(store, digest);
}

/* What has nothing on disk is nothing to take. */
static void victim_weigh(struct ql_store *store, struct victim *v)
{
	v->most = v->packed;
	for (size_t i = 0; i < v->objects.n; i++) {
		struct ql_object_use *use = &v->objects.items[i];

		use->size = object_bytes(store, &use->digest);
		v->most += use->size;
	}
}

static int choose_drop(struct evict *ev, struct victim *v, struct ql_error *err)
{
	int r = ql_keep_unit_objects(&ev->map, v->unit, &v->objects, err);

	if (r < 0)
		return r;
	v->packed = ql_keep_unit_packed(&ev->map, v->unit);
	victim_weigh(ev->store, v);
	return 0;
}

static int choose_demote(struct evict *ev, struct victim *v,
			 struct ql_error *err)
{
	int r = ql_keep_unit_covered(&ev->map, v->unit, &v->objects, err);

	if (r < 0)
		return r;
	victim_weigh(ev->store, v);
	return 0;
}

/* Nobody opens it until the round is over. */
static bool lock_unit(struct evict *ev, struct victim *v)
{
	struct ql_keep_unit *unit = v->unit;

	for (uint32_t i = 0; i < unit->n_images; i++)
		if (!ql_keep_lock_image(&ev->map,
					&ev->map.images[unit->images[i]]))
			return false;
	return unit->is_image ||
	       ql_keep_lock_layer(ev->store, &unit->digest, &v->layer_fd);
}

static int choose(struct evict *ev, struct ql_keep_unit *unit, bool demote,
		  struct ql_error *err)
{
	struct victim *v;
	int r;

	if (ev->n_victims == ev->cap_victims) {
		size_t cap = ev->cap_victims ? ev->cap_victims * 2 : 16;
		struct victim *grown =
			reallocarray(ev->victims, cap, sizeof(*grown));

		if (!grown)
			return ql_error_nomem(err);
		ev->victims = grown;
		ev->cap_victims = cap;
	}
	v = &ev->victims[ev->n_victims++];
	*v = (struct victim){ .unit = unit, .demote = demote, .layer_fd = -1 };
	if (!lock_unit(ev, v)) {
		unit->hold = QL_HOLD_MOUNTED; /* since it was looked at */
		ev->n_victims--;
		if (v->layer_fd >= 0)
			(void)close(v->layer_fd);
		return 0;
	}
	r = demote ? choose_demote(ev, v, err) : choose_drop(ev, v, err);
	if (r < 0 && r != -ENOMEM) {
		/* Damaged: fsck says so, and others can go. */
		ql_debug("msg=\"cannot evict\" error=%d text=\"%s\"", r,
			 err ? err->text : "");
		unit->hold = QL_HOLD_FLIGHT;
		r = 0;
		v->most = 0;
		ev->n_victims--;
		ql_object_set_release(&v->objects);
		if (v->layer_fd >= 0)
			(void)close(v->layer_fd);
	} else if (r == 0 && demote && v->objects.n == 0) {
		ev->n_victims--;
		(void)close(ql_take_fd(&v->layer_fd));
	}
	return r;
}

/* Victims of one kind, until they may free so much. */
static int choose_kind(struct evict *ev, bool demote, uint64_t bytes,
		       uint64_t *sum, struct ql_error *err)
{
	int r = 0;

	for (size_t i = 0; i < ev->n && r == 0 && *sum < bytes; i++) {
		struct ql_keep_unit *unit = ev->order[i];
		size_t had = ev->n_victims;

		if (unit->removed || unit->hold != QL_HOLD_NONE ||
		    (demote && unit->demoted))
			continue;
		r = choose(ev, unit, demote, err);
		if (ev->n_victims > had)
			*sum += ev->victims[had].most;
	}
	return r;
}

static int choose_round(struct evict *ev, uint64_t bytes, struct ql_error *err)
{
	uint64_t sum = 0;
	int r = ev->dropping ? 0 : choose_kind(ev, true, bytes, &sum, err);

	/* A plan is one round. */
	if (ev->fn)
		sum = 0;
	if (r == 0 && (ev->dropping || ev->fn))
		r = choose_kind(ev, false, bytes, &sum, err);
	return r;
}

/* ---- in the transaction ---- */

struct recheck {
	struct evict *ev;		 /* borrowed */
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

static int recheck(struct evict *ev, const struct ql_keep_unit *unit,
		   bool *ret_held, struct ql_error *err)
{
	struct recheck rc = { .ev = ev, .unit = unit };
	int r = ql_txn_each(ev->kt.txn, QL_TABLE_IMAGES, recheck_image, &rc,
			    err);

	*ret_held = rc.held;
	return r;
}

/* Those that nobody else needs, as far as they have something on disk. */
static int doom_objects(struct evict *ev, const struct ql_object_set *gone,
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

static int drop_layer(struct evict *ev, const struct victim *v,
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
static int demote_objects(struct evict *ev, const struct victim *v,
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

static int demote_unit(struct evict *ev, const struct victim *v,
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

static bool lock_name(struct evict *ev, const struct ql_digest *digest)
{
	for (size_t i = 0; i < ev->n_locks; i++)
		if (ql_name_lock_is(&ev->locks[i], digest))
			return true;
	if (ev->n_locks == NAME_LOCKS ||
	    ql_name_lock_try(ev->store, digest, &ev->locks[ev->n_locks]) < 0)
		return false;
	ev->n_locks++;
	return true;
}

/* Nobody is making it, or any of its layers, anew. */
static bool lock_names(struct evict *ev, const struct ql_image_info *info)
{
	if (!lock_name(ev, &info->manifest))
		return false;
	for (uint32_t i = 0; i < info->n_layers; i++)
		if (!lock_name(ev, &info->layers[i]))
			return false;
	return true;
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

static int own_objects(struct evict *ev, const struct ql_image_info *info,
		       const struct victim *v, struct ql_object_set *own,
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
static void units_removed(struct evict *ev, const struct ql_image_info *info)
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

static int remove_image(struct evict *ev, struct ql_keep_image *image,
			const struct victim *v, struct ql_error *err)
{
	_cleanup_(ql_object_set_release) struct ql_object_set own = { 0 };
	struct ql_object_set *objects = &ev->doom.sets[QL_DOOM_OBJECT];
	size_t had = objects->n;
	int r;

	if (image->removed || !ql_keep_lock_image(&ev->map, image) ||
	    !lock_names(ev, &image->info))
		return 0; /* for another time */
	r = own_objects(ev, &image->info, v, &own, err);
	if (r == 0)
		r = ql_image_forget(ev->store, ev->kt.txn, &image->info, &own,
				    &ev->doom, err);
	if (r < 0)
		return r;
	/* What they take of the disk, each once. */
	for (; had < objects->n; had++)
		objects->items[had].size =
			object_bytes(ev->store, &objects->items[had].digest);
	ql_object_set_sort(objects);
	image->removed = true;
	ev->stats.images++;
	units_removed(ev, &image->info);
	return 0;
}

static int remove_images(struct evict *ev, const struct victim *v, bool all,
			 struct ql_error *err)
{
	const struct ql_keep_unit *unit = v->unit;
	int r = 0;

	for (uint32_t i = 0; i < unit->n_images && r == 0; i++) {
		struct ql_keep_image *image = &ev->map.images[unit->images[i]];

		if (all || (!(image->info.flags & QL_IMAGE_READY) &&
			    all_gone(&ev->map, &image->info)))
			r = remove_image(ev, image, v, err);
	}
	return r;
}

/* ---- one victim ---- */

static uint64_t doom_bytes(struct evict *ev)
{
	uint64_t sum = ev->packed;

	for (int k = 0; k < QL_DOOMS; k++)
		for (size_t i = 0; i < ev->doom.sets[k].n; i++)
			sum += ev->doom.sets[k].items[i].size;
	return sum;
}

static int drop_unit(struct evict *ev, const struct victim *v,
		     struct ql_error *err)
{
	int r;

	/* What could not be told again goes with all that has it. */
	if (v->unit->is_image || !v->unit->has_toc) {
		r = remove_images(ev, v, true, err);
		ev->packed += v->packed;
	} else {
		r = drop_layer(ev, v, err);
		if (r == 0)
			r = remove_images(ev, v, false, err);
	}
	if (r == 0 && ev->kt.cache)
		ql_cache_evict(ev->kt.cache, ql_keep_id(&v->unit->digest));
	v->unit->removed = true;
	ev->stats.units++;
	return r;
}

static int tell_step(struct evict *ev, const struct victim *v, uint64_t bytes)
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

static int evict_victim(struct evict *ev, const struct victim *v,
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
	if (r < 0)
		return r;
	ev->planned = doom_bytes(ev);
	if (v->demote)
		ev->stats.demoted += ev->planned - before;
	return ev->fn ? tell_step(ev, v, ev->planned - before) : 0;
}

/* ---- rounds ---- */

/* A plan says between the two kinds what would be punched. */
static int plan_punch(struct evict *ev, size_t at, uint64_t bytes,
		      struct ql_error *err)
{
	if (!ev->fn || ev->victims[at].demote ||
	    (at > 0 && !ev->victims[at - 1].demote))
		return 0;
	return ql_keep_punch(&ev->map, bytes, ev->fn, ev->arg, &ev->packed,
			     err);
}

static int round_txn(struct evict *ev, uint64_t bytes, struct ql_error *err)
{
	int r = ql_keep_begin(ev->store, &ev->kt, err);
	uint64_t units = ev->stats.units;

	if (r < 0)
		return r;
	for (size_t i = 0; i < ev->n_victims && r == 0 && ev->planned < bytes;
	     i++) {
		r = plan_punch(ev, i, bytes - ev->planned, err);
		if (r == 0)
			r = evict_victim(ev, &ev->victims[i], err);
	}
	if (r == 0)
		r = ql_doom_spare_packed(ev->store, ev->kt.txn, &ev->doom, err);
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

static int evict_round(struct evict *ev, uint64_t bytes, struct ql_error *err)
{
	struct ql_remove_stats stats = { 0 };
	int r = choose_round(ev, ev->fn ? UINT64_MAX : bytes, err);

	ev->idle = ev->n_victims == 0;
	if (r == 0 && ev->n_victims > 0)
		r = round_txn(ev, bytes, err);
	if (r == 0 && ev->n_victims > 0 && !ev->fn)
		r = ql_doom_execute(ev->store, &ev->doom, &stats, err);
	ev->stats.freed += ev->fn ? ev->planned : stats.bytes;
	ev->stats.objects += stats.objects;
	round_release(ev);
	return r;
}

/* Frames that layers in use have as plain files. */
static int evict_punch(struct evict *ev, uint64_t bytes, struct ql_error *err)
{
	uint64_t freed = 0;
	int r = ql_keep_punch(&ev->map, bytes, NULL, NULL, &freed, err);

	ev->stats.punched += freed;
	ev->stats.freed += freed;
	return r;
}

static int evict_run(struct evict *ev, uint64_t bytes, struct ql_error *err)
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
static int evict_look(struct evict *ev, struct ql_error *err)
{
	struct ql_keep_txn kt;
	int r = ql_keep_begin(ev->store, &kt, err);

	if (r < 0)
		return r;
	r = ql_promises_mend(kt.txn, err);
	if (r == 0)
		r = ql_keep_map_init(ev->store, kt.txn, &ev->map, err);
	if (r == 0)
		ql_keep_holds(&ev->map, kt.txn);
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
static int make_room(struct evict *ev, uint64_t bytes, bool last,
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

static int make_room_locked(struct ql_store *store, uint64_t bytes, bool last,
			    struct ql_keep_stats *stats, struct ql_error *err)
{
	_cleanup_(evict_release) struct evict ev = { .store = store,
						     .stats = *stats };
	_cleanup_close_ int lock = -1;
	int r = ql_keep_lock(store, true, &lock, err);

	if (r == 0)
		r = make_room(&ev, bytes, last, err);
	*stats = ev.stats;
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
	_cleanup_(evict_release) struct evict ev = { .store = store,
						     .fn = fn,
						     .arg = arg };
	_cleanup_close_ int lock = -1;
	uint64_t lacks = 0, target = 0;
	int r = ql_store_need_write(store, err);

	if (r == 0)
		r = ql_keep_lock(store, true, &lock, err);
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
