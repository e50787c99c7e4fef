/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is about to go, written down before it does (table `evicting`):
 *
 *   u8 kind (enum ql_doom_kind), digest -> nothing
 *
 * and in `meta`, "evictions" -> u64, counted up by every transaction that
 * writes such.  Whoever was killed before all of it was unlinked and crossed
 * out leaves it to the next one (ql_keep_recover()).
 *
 * Whoever records that something is here looks in the same transaction whether
 * others have been at it since it looked at the files: what is missing, or
 * written down here, does not count as here.  So the files may go without
 * excluding who adds.
 */
#include "store/keep-private.h"

#include <errno.h>
#include <string.h>

enum { DOOM_KEY = 1 + QL_DIGEST_BYTES };

static void doom_key(enum ql_doom_kind kind, const struct ql_digest *digest,
		     uint8_t key[DOOM_KEY])
{
	key[0] = (uint8_t)kind;
	memcpy(key + 1, digest->bytes, QL_DIGEST_BYTES);
}

void ql_doom_release(struct ql_doom *doom)
{
	for (int k = 0; k < QL_DOOMS; k++)
		ql_object_set_release(&doom->sets[k]);
}

/* ---- intents ---- */

static int doom_forget_partial(struct ql_txn *txn,
			       const struct ql_digest *digest,
			       struct ql_error *err)
{
	int r = ql_txn_del(txn, QL_TABLE_PARTIALS, digest->bytes,
			   QL_DIGEST_BYTES, err);

	return r == -ENOENT ? 0 : r;
}

int ql_doom_write(struct ql_txn *txn, struct ql_doom *doom,
		  struct ql_error *err)
{
	uint8_t key[DOOM_KEY];
	int r = 0;

	for (int k = 0; k < QL_DOOMS; k++) {
		struct ql_object_set *set = &doom->sets[k];

		ql_object_set_sort(set);
		for (size_t i = 0; i < set->n && r == 0; i++) {
			doom_key((enum ql_doom_kind)k, &set->items[i].digest,
				 key);
			r = ql_txn_put(txn, QL_TABLE_EVICTING, key, sizeof(key),
				       "", 0, err);
			if (r == 0 && k == QL_DOOM_OBJECT)
				r = doom_forget_partial(
					txn, &set->items[i].digest, err);
		}
	}
	if (r == 0)
		r = ql_meta_set_number(txn, "evictions",
				       ql_meta_number(txn, "evictions") + 1,
				       err);
	return r;
}

static int doom_stop(const void *key, size_t key_len, const void *value,
		     size_t len, void *arg)
{
	(void)key;
	(void)key_len;
	(void)value;
	(void)len;
	(void)arg;
	return 1;
}

bool ql_doom_pending(struct ql_txn *txn)
{
	return ql_txn_each(txn, QL_TABLE_EVICTING, doom_stop, NULL, NULL) != 0;
}

uint64_t ql_doom_epoch(struct ql_store *store)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;

	if (ql_txn_begin(store->catalog, false, &txn, NULL) < 0)
		return UINT64_MAX; /* none: whoever compares looks */
	return ql_meta_number(txn, "evictions");
}

bool ql_doom_spares(struct ql_store *store, struct ql_txn *txn,
		    const struct ql_digest *object)
{
	uint8_t key[DOOM_KEY];
	const void *value;
	size_t len;

	doom_key(QL_DOOM_OBJECT, object, key);
	return ql_object_exists(store, object) &&
	       ql_txn_get(txn, QL_TABLE_EVICTING, key, sizeof(key), &value,
			  &len) == -ENOENT;
}

bool ql_doom_spares_all(struct ql_store *store, struct ql_txn *txn,
			const struct ql_object_set *set, uint64_t epoch)
{
	if (ql_meta_number(txn, "evictions") == epoch && !ql_doom_pending(txn))
		return true;
	for (size_t i = 0; i < set->n; i++)
		if (!ql_doom_spares(store, txn, &set->items[i].digest))
			return false;
	return true;
}

/* ---- the end ---- */

static void doom_unlink_object(struct ql_store *store,
			       const struct ql_digest *digest,
			       struct ql_remove_stats *stats)
{
	char path[QL_OBJECT_PATH + 1];
	uint64_t bytes = 0;

	if (ql_space_unlink(store, ql_object_path(digest, path), &bytes) == 0) {
		stats->objects++;
		stats->bytes += bytes;
	}
	stats->bytes += ql_partial_unlink(store, digest);
}

static void doom_unlink_path(struct ql_store *store, const char *path,
			     struct ql_remove_stats *stats)
{
	uint64_t bytes = 0;

	if (ql_space_unlink(store, path, &bytes) == 0)
		stats->bytes += bytes;
}

static int doom_unlink(struct ql_store *store, enum ql_doom_kind kind,
		       const struct ql_digest *digest,
		       struct ql_remove_stats *stats, struct ql_error *err)
{
	char path[QL_CFS_PATH];

	switch (kind) {
	case QL_DOOM_OBJECT:
		doom_unlink_object(store, digest, stats);
		return 0;
	case QL_DOOM_PACKED:
		stats->bytes += ql_packed_bytes(store, digest);
		return ql_packed_drop(store, digest, err);
	case QL_DOOM_LAYER:
		doom_unlink_path(store, ql_layer_path(digest, path), stats);
		return 0;
	case QL_DOOM_TOC:
		doom_unlink_path(store, ql_toc_path("layers", digest, path),
				 stats);
		return 0;
	case QL_DOOM_IMAGE:
		doom_unlink_path(store, ql_cfs_path("images", digest, path),
				 stats);
		stats->bytes += ql_image_side_remove(store, digest);
		return 0;
	default:
		return 0; /* of a newer version; fsck and gc know files */
	}
}

static int doom_cross_out(struct ql_store *store, const struct ql_doom *doom,
			  struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	uint8_t key[DOOM_KEY];
	int r = ql_txn_begin(store->catalog, true, &txn, err);

	for (int k = 0; k < QL_DOOMS; k++)
		for (size_t i = 0; i < doom->sets[k].n && r == 0; i++) {
			doom_key((enum ql_doom_kind)k,
				 &doom->sets[k].items[i].digest, key);
			r = ql_txn_del(txn, QL_TABLE_EVICTING, key, sizeof(key),
				       err);
			r = r == -ENOENT ? 0 : r;
		}
	return r < 0 ? r : ql_txn_commit(ql_take_ptr(txn), err);
}

int ql_doom_execute(struct ql_store *store, const struct ql_doom *doom,
		    struct ql_remove_stats *stats, struct ql_error *err)
{
	int r = 0;

	for (int k = 0; k < QL_DOOMS; k++)
		for (size_t i = 0; i < doom->sets[k].n && r == 0; i++)
			r = doom_unlink(store, (enum ql_doom_kind)k,
					&doom->sets[k].items[i].digest, stats,
					err);
	/* Names are gone for good before what says that they should be. */
	if (r == 0 && syncfs(store->root_fd) < 0)
		r = ql_error_errno(err, -errno, "write to %s", store->root);
	return r < 0 ? r : doom_cross_out(store, doom, err);
}

/* ---- after a crash ---- */

struct doom_left {
	struct ql_doom doom;  /* owned */
	struct ql_error *err; /* borrowed */
};

static int doom_collect(const void *key, size_t key_len, const void *value,
			size_t len, void *arg)
{
	struct doom_left *left = arg;
	const uint8_t *bytes = key;
	struct ql_digest digest;

	(void)value;
	(void)len;
	if (key_len != DOOM_KEY || bytes[0] >= QL_DOOMS)
		return 0;
	memcpy(digest.bytes, bytes + 1, QL_DIGEST_BYTES);
	return ql_object_set_add(&left->doom.sets[bytes[0]], &digest, 0) < 0
		       ? ql_error_nomem(left->err)
		       : 0;
}

/* A layer that was pulled again since has its blob's table and its tree. */
static int doom_spare_layer(const void *key, size_t key_len, const void *value,
			    size_t len, void *arg)
{
	struct doom_left *left = arg;
	struct ql_layer_info info;

	if (ql_record_parse_layer(key, key_len, value, len, &info) < 0)
		return 0; /* fsck says so */
	ql_object_set_cut(&left->doom.sets[QL_DOOM_LAYER], &info.diff_id);
	ql_object_set_cut(&left->doom.sets[QL_DOOM_TOC], &info.blob);
	return 0;
}

/* What somebody needs again stays, and only its intent goes. */
static int doom_spare(struct doom_left *left, struct ql_txn *txn,
		      struct ql_error *err)
{
	struct ql_object_set *objects = &left->doom.sets[QL_DOOM_OBJECT];
	struct ql_object_set *images = &left->doom.sets[QL_DOOM_IMAGE];
	size_t n = 0;

	for (size_t i = 0; i < objects->n; i++) {
		struct ql_object_record rec;

		if (ql_record_get_object(txn, &objects->items[i].digest, &rec) <
			    0 ||
		    ql_refs_none(&rec))
			objects->items[n++] = objects->items[i];
	}
	objects->n = n;
	n = 0;
	for (size_t i = 0; i < images->n; i++) {
		_cleanup_image_info_ struct ql_image_info info = { 0 };

		if (ql_record_get_image(txn, &images->items[i].digest, &info) <
		    0)
			images->items[n++] = images->items[i];
	}
	images->n = n;
	return ql_txn_each(txn, QL_TABLE_LAYERS, doom_spare_layer, left, err);
}

/* ---- what is of blobs, which several may read ---- */

struct spare_blobs {
	struct ql_store *store;	      /* borrowed */
	struct ql_object_set *packed; /* borrowed */
	struct ql_object_set *tocs;   /* borrowed */
};

static int spare_by_layer(const void *key, size_t key_len, const void *value,
			  size_t len, void *arg)
{
	struct spare_blobs *sb = arg;
	struct ql_layer_info info;

	if (ql_record_parse_layer(key, key_len, value, len, &info) < 0)
		return 0; /* fsck says so */
	ql_object_set_cut(sb->tocs, &info.blob);
	if (!(info.flags & QL_LAYER_GONE))
		ql_object_set_cut(sb->packed, &info.blob);
	return 0;
}

static int spare_by_image(const void *key, size_t key_len, const void *value,
			  size_t len, void *arg)
{
	struct spare_blobs *sb = arg;
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	_cleanup_(ql_toc_closep) struct ql_toc *toc = NULL;
	struct ql_toc_blob blob;

	if (sb->packed->n == 0 ||
	    ql_record_parse_image(key, key_len, value, len, &info) < 0 ||
	    !(info.flags & QL_IMAGE_READY) ||
	    ql_toc_open_image(sb->store, &info, &toc, NULL) < 0)
		return 0;
	for (uint32_t i = 0; i < ql_toc_blobs(toc); i++)
		if (ql_toc_blob(toc, i, &blob) == 0)
			ql_object_set_cut(sb->packed, &blob.digest);
	return 0;
}

int ql_doom_spare_blobs(struct ql_store *store, struct ql_txn *txn,
			struct ql_doom *doom, struct ql_error *err)
{
	struct spare_blobs sb = { store, &doom->sets[QL_DOOM_PACKED],
				  &doom->sets[QL_DOOM_TOC] };
	int r;

	if (sb.packed->n == 0 && sb.tocs->n == 0)
		return 0;
	r = ql_txn_each(txn, QL_TABLE_LAYERS, spare_by_layer, &sb, err);
	return r < 0 ? r
		     : ql_txn_each(txn, QL_TABLE_IMAGES, spare_by_image, &sb,
				   err);
}

/* Under the eviction's lock: whose intents are there is dead. */
static int doom_finish(struct ql_store *store, struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	struct doom_left left = { .err = err };
	struct ql_remove_stats stats = { 0 };
	int r = ql_txn_begin(store->catalog, true, &txn, err);

	if (r == 0)
		r = ql_txn_each(txn, QL_TABLE_EVICTING, doom_collect, &left,
				err);
	if (r == 0)
		r = doom_spare(&left, txn, err);
	if (r == 0)
		r = ql_doom_spare_blobs(store, txn, &left.doom, err);
	/* Anew, for who has looked at the files since: all that stay are
	 * crossed out, and who records counts this as another eviction. */
	if (r == 0)
		r = ql_txn_clear(txn, QL_TABLE_EVICTING, err);
	if (r == 0)
		r = ql_doom_write(txn, &left.doom, err);
	if (r == 0)
		r = ql_txn_commit(ql_take_ptr(txn), err);
	if (r == 0)
		r = ql_doom_execute(store, &left.doom, &stats, err);
	ql_doom_release(&left.doom);
	return r;
}

int ql_doom_recover(struct ql_store *store, struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	bool pending;
	int r = ql_txn_begin(store->catalog, false, &txn, err);

	if (r < 0)
		return r;
	pending = ql_doom_pending(txn);
	ql_txn_abort(ql_take_ptr(txn));
	return pending ? doom_finish(store, err) : 0;
}

static int recover(struct ql_store *store, bool wait, struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	_cleanup_close_ int lock = -1;
	bool pending;
	int r = ql_txn_begin(store->catalog, false, &txn, err);

	if (r < 0)
		return r;
	pending = ql_doom_pending(txn);
	ql_txn_abort(ql_take_ptr(txn));
	if (!pending)
		return 0;
	r = wait ? ql_keep_lock(store, &lock, err)
		 : ql_keep_lock_try(store, &lock);
	/* Whose intents they are is at it. */
	if (r == -EBUSY)
		return 0;
	return r < 0 ? r : ql_doom_recover(store, err);
}

int ql_keep_recover(struct ql_store *store, struct ql_error *err)
{
	int r = ql_store_need_write(store, err);

	return r < 0 ? r : recover(store, true, err);
}

int ql_doom_open(struct ql_store *store, struct ql_error *err)
{
	return recover(store, false, err);
}
