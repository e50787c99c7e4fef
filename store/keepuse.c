/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is asked for: the policy is told, the base first, and layers that were
 * taken away are counted as kept again, since whoever asks will fetch them.
 *
 * All of it is one transaction for an image.  An image of which nothing was
 * taken away costs none where it is opened, not pulled.
 */
#include "store/keep-private.h"

#include "store/accesslog.h"

#include <errno.h>
#include <string.h>

enum { USE_TRIES = 8 };

/* An image's units, with the objects of those that were taken away. */
struct use {
	struct ql_store *store;	    /* borrowed */
	struct ql_image_info image; /* owned */
	struct use_unit {
		struct ql_keep_unit unit;
		struct ql_object_set objects;  /* owned */
		struct ql_access_layer access; /* for the log */
		bool told;
	} * units; /* owned; the base first */
	uint32_t n;
	bool any_gone;
	const char *repository; /* borrowed; NULL: unknown */
	char *own_repository;	/* owned; where it was found out */
	unsigned int flags;
	bool only_gone;
};

static void use_release(struct use *u)
{
	for (uint32_t i = 0; i < u->n; i++)
		ql_object_set_release(&u->units[i].objects);
	free(u->units);
	ql_image_info_release(&u->image);
	free(u->own_repository);
	*u = (struct use){ 0 };
}

/* ---- looking ---- */

static int use_layer(struct use *u, struct ql_txn *txn, uint32_t at,
		     struct ql_error *err)
{
	struct ql_keep_unit *unit = &u->units[u->n].unit;
	struct ql_layer_info info;
	int r = ql_record_get_layer(txn, &u->image.layers[at], &info);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return ql_error_errno(err, r, "a layer's record");
	ql_keep_unit_layer(u->store, &info, unit);
	if (at > 0) {
		unit->parent = ql_keep_id(&u->image.layers[at - 1]);
		u->units[u->n].access.has_parent = true;
		u->units[u->n].access.parent = u->image.layers[at - 1];
	}
	u->any_gone |= (unit->flags & QL_LAYER_GONE) != 0;
	u->n++;
	return 0;
}

/* -ENOENT (not described): there is no such image. */
static int use_look(struct use *u, const struct ql_digest *manifest,
		    struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	int r = ql_txn_begin(u->store->catalog, false, &txn, err);

	if (r == 0)
		r = ql_record_get_image(txn, manifest, &u->image);
	if (r < 0)
		return r == -ENOENT
			       ? r
			       : ql_error_errno(err, r, "an image's record");
	u->units = calloc(u->image.n_layers + 1UL, sizeof(*u->units));
	if (!u->units)
		return ql_error_nomem(err);
	if (u->image.flags & QL_IMAGE_READY) {
		ql_keep_unit_image(u->store, &u->image, &u->units[0].unit);
		u->n = 1;
		return 0;
	}
	for (uint32_t i = 0; i < u->image.n_layers && r == 0; i++)
		r = use_layer(u, txn, i, err);
	return r;
}

/* Read before the transaction: it takes its time. */
static int use_objects(struct use *u, struct ql_error *err)
{
	const struct ql_keep_map none = { .store = u->store };
	int r = 0;

	for (uint32_t i = 0; i < u->n && r == 0; i++)
		if (u->units[i].unit.flags & QL_LAYER_GONE &&
		    !u->units[i].unit.is_image)
			r = ql_keep_unit_objects(&none, &u->units[i].unit,
						 &u->units[i].objects, err);
	return r;
}

/* ---- telling ---- */

/* Of a repository's name: which images are of one family. */
static uint64_t family_of(const char *repository)
{
	struct ql_digest d;

	if (!repository || ql_digest_of(repository, strlen(repository), &d) < 0)
		return 0;
	return ql_keep_id(&d);
}

static int tell(struct ql_keep_txn *kt, const struct ql_keep_unit *unit,
		const char *repository, unsigned int flags,
		enum ql_access_hit *ret_hit, struct ql_error *err)
{
	const struct ql_cache_request req = {
		.id = ql_keep_id(&unit->digest),
		.size = unit->size,
		.parent = unit->parent,
		.family = family_of(repository),
		.cost = ql_keep_cost(kt->store, kt->txn, repository,
				     unit->blob_size),
		.flags = flags,
	};
	enum ql_cache_result result;
	int r;

	if (!kt->cache)
		return 0;
	r = ql_cache_access(kt->cache, &req, &result, err);
	if (r == 0)
		*ret_hit = result == QL_CACHE_HIT ? QL_ACCESS_HIT
						  : QL_ACCESS_MISS;
	return r;
}

/* -EAGAIN (not described): it was taken away since it was looked at. */
static int use_return(struct use *u, struct ql_keep_txn *kt,
		      struct use_unit *uu, struct ql_error *err)
{
	struct ql_layer_info info;
	int r;

	if (uu->unit.is_image)
		return 0;
	r = ql_record_get_layer(kt->txn, &uu->unit.digest, &info);
	if (r < 0)
		return r == -ENOENT
			       ? -EAGAIN
			       : ql_error_errno(err, r, "a layer's record");
	if (!(info.flags & QL_LAYER_GONE))
		return 0;
	if (!(uu->unit.flags & QL_LAYER_GONE))
		return -EAGAIN;
	r = ql_refs_gone(kt->txn, &uu->objects, false, NULL, err);
	info.flags &= ~(uint32_t)QL_LAYER_GONE;
	(void)u;
	return r < 0 ? r : ql_record_put_layer(kt->txn, &info, err);
}

static int use_tell(struct use *u, struct ql_keep_txn *kt, struct ql_error *err)
{
	unsigned int start = QL_CACHE_START;
	int r = 0;

	for (uint32_t i = 0; i < u->n && r == 0; i++) {
		struct use_unit *uu = &u->units[i];

		r = use_return(u, kt, uu, err);
		if (r < 0 ||
		    (u->only_gone && !(uu->unit.flags & QL_LAYER_GONE)))
			continue;
		r = tell(kt, &uu->unit, u->repository, u->flags | start,
			 &uu->access.hit, err);
		uu->told = true;
		start = 0;
	}
	return r;
}

/* What the policy was told; where there is no budget, what it would be. */
static void use_log(struct use *u)
{
	_cleanup_free_ struct ql_access_layer *layers = NULL;
	size_t n = 0;

	if (u->flags & QL_CACHE_SCAN || !ql_accesslog_is_on())
		return;
	layers = calloc(u->n + 1UL, sizeof(*layers));
	for (uint32_t i = 0; layers && i < u->n; i++) {
		const struct use_unit *uu = &u->units[i];

		if (u->only_gone && !uu->told)
			continue;
		layers[n] = uu->access;
		layers[n].layer = uu->unit.digest;
		layers[n].size = uu->unit.size;
		layers[n++].bytes = uu->unit.blob_size;
	}
	if (n > 0)
		ql_accesslog_add(u->repository, &u->image.manifest, layers, n);
}

/* The repository that is asked first for what is missing. */
static void use_repository(struct use *u)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(4096);

	for (uint32_t i = 0; i < u->n && !u->repository; i++) {
		ql_buf_clear(&buf);
		if (u->units[i].unit.is_image ||
		    ql_blob_sources(u->store, &u->units[i].unit.blob, &buf) <
			    0 ||
		    buf.len == 0)
			continue;
		u->own_repository = strdup(buf.data);
		u->repository = u->own_repository;
	}
}

static int use_try(struct use *u, const struct ql_digest *manifest,
		   struct ql_error *err)
{
	_cleanup_close_ int lock = -1;
	struct ql_keep_txn kt;
	int r = use_look(u, manifest, err);

	if (r < 0 ||
	    (!u->any_gone && (u->only_gone || !ql_space_is_limited(u->store))))
		return r;
	/* What is about to go of it goes first: it is not there then for
	 * whoever fetches it again. */
	if (u->any_gone) {
		r = ql_keep_lock(u->store, &lock, err);
		if (r == 0)
			r = ql_doom_recover(u->store, err);
		if (r == 0)
			r = use_objects(u, err);
		use_repository(u);
	}
	if (r == 0)
		r = ql_keep_begin(u->store, &kt, err);
	if (r < 0)
		return r;
	r = use_tell(u, &kt, err);
	if (r < 0) {
		ql_keep_abort(&kt);
		return r;
	}
	return ql_keep_commit(&kt, err);
}

static int use_run(struct ql_store *store, const struct ql_digest *manifest,
		   const char *repository, unsigned int flags, bool only_gone,
		   struct ql_error *err)
{
	int r = ql_store_need_write(store, err);

	for (int i = 0; r == 0 && i < USE_TRIES; i++) {
		struct use u = { .store = store,
				 .repository = repository,
				 .flags = flags,
				 .only_gone = only_gone };

		r = use_try(&u, manifest, err);
		if (r == 0)
			use_log(&u);
		use_release(&u);
		if (r != -EAGAIN)
			break;
		r = 0;
	}
	return r == -ENOENT ? ql_error_set(err, r, "no such image") : r;
}

int ql_keep_access(struct ql_store *store, const struct ql_digest *manifest,
		   const char *repository, unsigned int flags,
		   struct ql_error *err)
{
	return use_run(store, manifest, repository, flags, false, err);
}

int ql_keep_open(struct ql_store *store, const struct ql_digest *manifest,
		 struct ql_error *err)
{
	return use_run(store, manifest, NULL, 0, true, err);
}

/* ---- layers that are shown alone ---- */

int ql_keep_open_layer(struct ql_store *store, const struct ql_digest *diff_id,
		       struct ql_error *err)
{
	struct use u = { .store = store, .only_gone = true };
	struct ql_layer_info info;
	struct ql_keep_txn kt;
	_cleanup_close_ int lock = -1;
	int r = ql_layer_get(store, diff_id, &info);

	if (r < 0 || !(info.flags & QL_LAYER_GONE))
		return r == -ENOENT ? 0 : r;
	u.units = calloc(1, sizeof(*u.units));
	if (!u.units)
		return ql_error_nomem(err);
	ql_keep_unit_layer(store, &info, &u.units[0].unit);
	u.n = 1;
	r = ql_keep_lock(store, &lock, err);
	if (r == 0)
		r = ql_doom_recover(store, err);
	if (r == 0)
		r = use_objects(&u, err);
	if (r == 0)
		r = ql_keep_begin(store, &kt, err);
	if (r == 0) {
		r = use_tell(&u, &kt, err);
		if (r < 0)
			ql_keep_abort(&kt);
		else
			r = ql_keep_commit(&kt, err);
	}
	use_release(&u);
	return r;
}

/* ---- all that is here ---- */

static int older_first(const void *a, const void *b)
{
	const struct ql_keep_image *const *x = a, *const *y = b;

	if ((*x)->info.pulled != (*y)->info.pulled)
		return (*x)->info.pulled < (*y)->info.pulled ? -1 : 1;
	return ql_digest_cmp(&(*x)->info.manifest, &(*y)->info.manifest);
}

static int enter_unit(struct ql_keep_txn *kt, const struct ql_keep_unit *unit,
		      struct ql_error *err)
{
	enum ql_access_hit hit;

	if (!unit || (unit->flags & QL_LAYER_GONE && !unit->is_image) ||
	    ql_cache_has(kt->cache, ql_keep_id(&unit->digest)))
		return 0;
	return tell(kt, unit, NULL, QL_CACHE_SCAN, &hit, err);
}

static int enter_image(struct ql_keep_txn *kt, const struct ql_keep_map *map,
		       const struct ql_image_info *info, struct ql_error *err)
{
	int r = 0;

	if (info->flags & QL_IMAGE_READY)
		r = enter_unit(kt, ql_keep_map_unit(map, &info->manifest), err);
	for (uint32_t i = 0; i < info->n_layers && r == 0; i++)
		r = enter_unit(kt, ql_keep_map_unit(map, &info->layers[i]),
			       err);
	return r;
}

int ql_keep_enter_map(struct ql_keep_txn *kt, const struct ql_keep_map *map,
		      struct ql_error *err)
{
	_cleanup_free_ const struct ql_keep_image **order =
		calloc(map->n_images + 1, sizeof(struct ql_keep_image *));
	int r = 0;

	if (!order)
		return ql_error_nomem(err);
	for (size_t i = 0; i < map->n_images; i++)
		order[i] = &map->images[i];
	qsort(order, map->n_images, sizeof(struct ql_keep_image *),
	      older_first);
	for (size_t i = 0; i < map->n_images && r == 0; i++)
		r = enter_image(kt, map, &order[i]->info, err);
	return r;
}

int ql_keep_enter_all(struct ql_keep_txn *kt, struct ql_error *err)
{
	struct ql_keep_map map;
	int r = ql_keep_map_init(kt->store, kt->txn, &map, err);

	if (r == 0) {
		r = ql_keep_enter_map(kt, &map, err);
		ql_keep_map_release(&map);
	}
	return r;
}
