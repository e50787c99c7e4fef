/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it stands: what may not go, what went, and what was refused.
 *
 *   meta  "evicted-units", "evicted-bytes", "refused", "refused-at" -> u64
 *         "refusal" -> text
 */
#include "store/keep-private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

static int count_up(struct ql_txn *txn, const char *key, uint64_t by,
		    struct ql_error *err)
{
	return by == 0 ? 0
		       : ql_meta_set_number(txn, key,
					    ql_meta_number(txn, key) + by, err);
}

int ql_keep_count(struct ql_txn *txn, uint64_t units, uint64_t bytes,
		  struct ql_error *err)
{
	int r = count_up(txn, "evicted-units", units, err);

	return r < 0 ? r : count_up(txn, "evicted-bytes", bytes, err);
}

uint64_t ql_keep_unit_cost(struct ql_store *store, struct ql_txn *txn,
			   const struct ql_keep_unit *unit)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(4096);
	uint64_t least = UINT64_MAX;
	const void *value = NULL;
	size_t len = 0;

	if (!unit->is_image &&
	    ql_txn_get(txn, QL_TABLE_BLOBS, unit->blob.bytes, QL_DIGEST_BYTES,
		       &value, &len) == 0 &&
	    ql_buf_add(&buf, value, len) < 0)
		ql_buf_clear(&buf);
	for (const char *p = buf.data, *end = p + buf.len; buf.len && p < end;
	     p += strlen(p) + 1) {
		uint64_t ns;

		if (strnlen(p, (size_t)(end - p)) == (size_t)(end - p))
			break;
		ns = ql_keep_cost(store, txn, p, unit->blob_size);
		least = ns < least ? ns : least;
	}
	return least == UINT64_MAX
		       ? ql_keep_cost(store, txn, NULL, unit->blob_size)
		       : least;
}

/* ---- what holds ---- */

/* By reason, as sizes of whole units; [QL_HOLD_NONE]: that may go. */
static void held_bytes(const struct ql_keep_map *map, uint64_t held[QL_HOLDS])
{
	memset(held, 0, QL_HOLDS * sizeof(*held));
	for (size_t i = 0; i < map->n_units; i++) {
		const struct ql_keep_unit *unit = &map->units[i];

		if (!unit->removed &&
		    (unit->is_image || !(unit->flags & QL_LAYER_GONE)))
			held[unit->hold] += unit->size;
	}
}

int ql_keep_describe(const struct ql_keep_map *map, uint64_t bytes,
		     struct ql_error *err)
{
	uint64_t held[QL_HOLDS];
	struct ql_space space = { 0 };

	held_bytes(map, held);
	(void)ql_space_get(map->store, &space, NULL);
	return ql_error_set(
		err, -ENOSPC,
		"no space left in %s: %" PRIu64 " bytes are needed, %" PRIu64
		" of the budget of %" PRIu64
		" are used, and nothing more may go: "
		"%" PRIu64 " bytes are pinned, %" PRIu64 " in use, %" PRIu64
		" promised, %" PRIu64 " on their way",
		map->store->root, bytes, space.used, space.budget,
		held[QL_HOLD_PINNED], held[QL_HOLD_MOUNTED],
		held[QL_HOLD_PROMISED], held[QL_HOLD_FLIGHT]);
}

int ql_keep_refuse(struct ql_store *store, const struct ql_keep_map *map,
		   uint64_t bytes, struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	struct ql_error why = QL_ERROR_INIT;
	size_t len;
	int r = ql_txn_begin(store->catalog, true, &txn, err);

	if (r < 0)
		return r;
	(void)ql_keep_describe(map, bytes, &why);
	len = strnlen(why.text, QL_KEEP_REFUSAL - 1);
	r = count_up(txn, "refused", 1, err);
	if (r == 0)
		r = ql_meta_set_number(txn, "refused-at", (uint64_t)time(NULL),
				       err);
	if (r == 0)
		r = ql_txn_put(txn, QL_TABLE_META, "refusal", 7, why.text, len,
			       err);
	if (r == 0)
		r = ql_txn_commit(ql_take_ptr(txn), err);
	return r < 0 ? r : ql_error_set(err, -ENOSPC, "%s", why.text);
}

/* ---- status ---- */

static void status_counts(struct ql_txn *txn, struct ql_keep_status *s)
{
	const void *value;
	size_t len;

	s->evictions = ql_meta_number(txn, "evicted-units");
	s->evicted_bytes = ql_meta_number(txn, "evicted-bytes");
	s->refused = ql_meta_number(txn, "refused");
	s->refused_at = ql_meta_number(txn, "refused-at");
	if (ql_txn_get(txn, QL_TABLE_META, "refusal", 7, &value, &len) < 0)
		return;
	if (len >= QL_KEEP_REFUSAL)
		len = QL_KEEP_REFUSAL - 1;
	memcpy(s->refusal, value, len);
}

static void status_units(const struct ql_keep_map *map,
			 struct ql_keep_status *s)
{
	uint64_t held[QL_HOLDS];

	held_bytes(map, held);
	s->pinned = held[QL_HOLD_PINNED];
	s->mounted = held[QL_HOLD_MOUNTED];
	s->promised = held[QL_HOLD_PROMISED];
	s->in_flight = held[QL_HOLD_FLIGHT];
	s->evictable = held[QL_HOLD_NONE];
	for (size_t i = 0; i < map->n_units; i++)
		if (map->units[i].is_image ||
		    !(map->units[i].flags & QL_LAYER_GONE)) {
			s->units++;
			s->bytes += map->units[i].size;
		}
}

int ql_keep_status(struct ql_store *store, struct ql_keep_status *ret_status,
		   struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	_cleanup_(ql_keep_map_release) struct ql_keep_map map = { 0 };
	_cleanup_close_ int lock = -1;
	struct ql_keep_status status = { 0 };
	/* Holds are tried by locks, and two that try would see each other. */
	int r = ql_keep_lock(store, &lock, err);

	if (r == 0)
		r = ql_txn_begin(store->catalog, false, &txn, err);
	if (r == 0)
		r = ql_keep_map_init(store, txn, &map, err);
	if (r == 0)
		r = ql_keep_holds(&map, txn, err);
	if (r < 0)
		return r;
	status_counts(txn, &status);
	status_units(&map, &status);
	*ret_status = status;
	return 0;
}
