/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether all that a lazy layer, or a ready-made image, needs is here, be it
 * plain or packed, remembered so that nobody has to look at every file to
 * know:
 *
 *   meta  "here", the unit's digest -> for each blob of its table: its digest,
 *                                      u64 its packed record's generation
 *
 * It holds for as long as the generations are those (nothing packed went), and
 * until the unit's own record is written again, which is what happens before
 * any of its objects goes.
 */
#include "store/store-private.h"

#include <errno.h>
#include <string.h>

enum {
	KEY_WORD = 4, /* "here" */
	KEY = KEY_WORD + QL_DIGEST_BYTES,
	VALUE_MAX = QL_TOC_BLOBS_MAX * (QL_DIGEST_BYTES + 8),
};

static void here_key(const struct ql_digest *unit, uint8_t key[KEY])
{
	memcpy(key, "here", KEY_WORD);
	memcpy(key + KEY_WORD, unit->bytes, QL_DIGEST_BYTES);
}

int ql_here_forget(struct ql_txn *txn, const struct ql_digest *unit,
		   struct ql_error *err)
{
	uint8_t key[KEY];
	int r;

	here_key(unit, key);
	r = ql_txn_del(txn, QL_TABLE_META, key, sizeof(key), err);
	return r == -ENOENT ? 0 : r;
}

/* ---- looking ---- */

/* A file of which parts came plain, and the others packed. */
static bool file_is_in_parts(struct ql_store *store, const struct ql_toc *toc,
			     const struct ql_packed_view *view,
			     const struct ql_toc_file *file)
{
	struct ql_extents parts = { 0 };
	bool all = ql_partial_extents(store, &file->digest, file->size,
				      &parts) == 0 &&
		   parts.n > 0;

	for (uint32_t i = 0; i < file->n_chunks && all; i++) {
		struct ql_toc_chunk chunk;

		all = ql_toc_chunk(toc, file->first_chunk + i, &chunk) == 0 &&
		      (ql_extents_have(&parts, chunk.offset,
				       chunk.offset + chunk.len) ||
		       ql_packed_view_has(view, &chunk));
	}
	ql_extents_release(&parts);
	return all;
}

static bool toc_is_here(struct ql_store *store, const struct ql_toc *toc,
			const struct ql_packed_view *view)
{
	for (uint32_t i = 0; i < ql_toc_files(toc); i++) {
		struct ql_toc_file file;

		if (ql_toc_file(toc, i, &file) < 0)
			return false;
		if (file.size > 0 && !ql_object_exists(store, &file.digest) &&
		    !ql_packed_covers(view, &file) &&
		    !file_is_in_parts(store, toc, view, &file))
			return false;
	}
	return true;
}

static int here_value(struct ql_txn *txn, const struct ql_toc *toc,
		      struct ql_buf *buf)
{
	int r = 0;

	for (uint32_t i = 0; i < ql_toc_blobs(toc) && r == 0; i++) {
		struct ql_packed_record rec = { 0 };
		struct ql_toc_blob blob;

		r = ql_toc_blob(toc, i, &blob);
		if (r == 0)
			r = ql_packed_record_get(txn, &blob.digest, &rec);
		if (r == 0 || r == -ENOENT)
			r = ql_buf_add(buf, blob.digest.bytes, QL_DIGEST_BYTES);
		if (r == 0)
			r = ql_buf_add_le64(buf, rec.generation);
		ql_packed_record_release(&rec);
	}
	return r;
}

/* What was looked at is as it was. */
static bool is_unchanged(const struct ql_toc *toc,
			 const struct ql_packed_view *view,
			 const struct ql_buf *value)
{
	struct ql_cursor c;

	ql_cursor_init(&c, value->data, value->len);
	for (uint32_t i = 0; i < ql_toc_blobs(toc); i++) {
		ql_cursor_skip(&c, QL_DIGEST_BYTES);
		if (ql_cursor_le64(&c) != ql_packed_view_generation(view, i))
			return false;
	}
	return !c.bad;
}

static int here_record(struct ql_store *store, const struct ql_digest *unit,
		       const struct ql_toc *toc,
		       const struct ql_packed_view *view, uint64_t evictions,
		       struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf value = QL_BUF_INIT(VALUE_MAX);
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	const void *was;
	uint8_t key[KEY];
	size_t len;
	int r = ql_txn_begin(store->catalog, true, &txn, err);

	if (r == 0)
		r = here_value(txn, toc, &value);
	if (r < 0)
		return ql_error_errno(err, r, "what is here");
	here_key(unit, key);
	if (ql_meta_number(txn, "evictions") != evictions ||
	    !is_unchanged(toc, view, &value) ||
	    (ql_txn_get(txn, QL_TABLE_META, key, sizeof(key), &was, &len) ==
		     0 &&
	     len == value.len && memcmp(was, value.data, len) == 0))
		return 0;
	/* Its unit may have been removed. */
	if (ql_txn_get(txn, QL_TABLE_LAYERS, unit->bytes, QL_DIGEST_BYTES, &was,
		       &len) < 0 &&
	    ql_txn_get(txn, QL_TABLE_IMAGES, unit->bytes, QL_DIGEST_BYTES, &was,
		       &len) < 0)
		return 0;
	r = ql_txn_put(txn, QL_TABLE_META, key, sizeof(key), value.data,
		       value.len, err);
	return r < 0 ? r : ql_txn_commit(ql_take_ptr(txn), err);
}

static uint64_t evictions_so_far(struct ql_store *store)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;

	return ql_txn_begin(store->catalog, false, &txn, NULL) == 0
		       ? ql_meta_number(txn, "evictions")
		       : 0;
}

static int unit_mark(struct ql_store *store, const struct ql_digest *unit,
		     const struct ql_toc *toc, bool *ret_here,
		     struct ql_error *err)
{
	_cleanup_(ql_packed_view_closep) struct ql_packed_view *view = NULL;
	uint64_t evictions = evictions_so_far(store);
	int r = ql_packed_view_open(store, toc, &view, err);

	if (r < 0)
		return r;
	*ret_here = toc_is_here(store, toc, view);
	ql_toc_relax(toc);
	return *ret_here ? here_record(store, unit, toc, view, evictions, err)
			 : 0;
}

/* ---- what was found ---- */

static bool unit_is_marked(struct ql_txn *txn, const struct ql_digest *unit)
{
	struct ql_cursor c;
	const void *value;
	uint8_t key[KEY];
	size_t len;

	here_key(unit, key);
	if (ql_txn_get(txn, QL_TABLE_META, key, sizeof(key), &value, &len) < 0)
		return false;
	ql_cursor_init(&c, value, len);
	while (!c.bad && ql_cursor_left(&c) > 0) {
		const uint8_t *blob = ql_cursor_bytes(&c, QL_DIGEST_BYTES);
		uint64_t generation = ql_cursor_le64(&c), is = 0;
		const void *rec;
		struct ql_cursor rc;
		size_t rec_len;

		if (c.bad)
			break;
		if (ql_txn_get(txn, QL_TABLE_PACKED, blob, QL_DIGEST_BYTES,
			       &rec, &rec_len) == 0) {
			ql_cursor_init(&rc, rec, rec_len);
			ql_cursor_skip(&rc, 8);
			is = ql_cursor_le64(&rc);
		}
		if (is != generation)
			return false;
	}
	return !c.bad;
}

static bool layer_is_here(struct ql_txn *txn, const struct ql_digest *diff_id)
{
	struct ql_layer_info info;

	if (ql_record_get_layer(txn, diff_id, &info) < 0)
		return false;
	return !(info.flags & QL_LAYER_LAZY) || unit_is_marked(txn, diff_id);
}

bool ql_image_is_here(struct ql_store *store, const struct ql_image_info *info)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;

	if (ql_txn_begin(store->catalog, false, &txn, NULL) < 0)
		return false;
	if (info->flags & QL_IMAGE_READY)
		return info->flags & QL_IMAGE_WHOLE ||
		       unit_is_marked(txn, &info->manifest);
	for (uint32_t i = 0; i < info->n_layers; i++)
		if (!layer_is_here(txn, &info->layers[i]))
			return false;
	return true;
}

static int layer_mark(struct ql_store *store, const struct ql_digest *diff_id,
		      bool *ret_here, struct ql_error *err)
{
	_cleanup_(ql_toc_closep) struct ql_toc *toc = NULL;
	struct ql_layer_info info;
	int r = ql_layer_get(store, diff_id, &info);

	*ret_here = r == 0 && !(info.flags & QL_LAYER_LAZY);
	if (r < 0 || *ret_here)
		return r == -ENOENT ? 0 : r;
	r = ql_toc_open_layer(store, &info, &toc, err);
	return r < 0 ? r : unit_mark(store, diff_id, toc, ret_here, err);
}

int ql_image_mark_here(struct ql_store *store, const struct ql_digest *manifest,
		       bool *ret_here, struct ql_error *err)
{
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	_cleanup_(ql_toc_closep) struct ql_toc *toc = NULL;
	bool here = true, one;
	int r = ql_image_get(store, manifest, &info);

	if (r < 0)
		return r == -ENOENT
			       ? r
			       : ql_error_errno(err, r, "the image's record");
	if (info.flags & QL_IMAGE_READY && !(info.flags & QL_IMAGE_WHOLE)) {
		r = ql_toc_open_image(store, &info, &toc, err);
		if (r == 0)
			r = unit_mark(store, manifest, toc, &here, err);
	} else if (!(info.flags & QL_IMAGE_READY)) {
		for (uint32_t i = 0; i < info.n_layers && r == 0; i++) {
			r = layer_mark(store, &info.layers[i], &one, err);
			here = here && r == 0 && one;
		}
	}
	if (r == 0)
		*ret_here = here;
	return r == -ENOENT ? ql_error_set(err, -EBADMSG,
					   "a table of contents "
					   "is missing")
			    : r;
}
