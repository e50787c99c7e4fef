/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether all that a layer, or a ready-made image, needs is here, as its
 * record says it: so that nobody has to look at every object to know.  The
 * record says so only while it is true: it is changed after a look, and before
 * an object goes, in the transaction that says what goes (keepdoom.c).
 */
#include "store/keep-private.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static bool set_is_here(const struct ql_store *store,
			const struct ql_object_set *set)
{
	for (size_t i = 0; i < set->n; i++)
		if (!ql_object_exists(store, &set->items[i].digest))
			return false;
	return true;
}

static int layer_objects(const struct ql_store *store,
			 const struct ql_digest *diff_id,
			 struct ql_object_set *ret_set, struct ql_error *err)
{
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	int r = ql_tree_open_layer(store, diff_id, &tree, err);

	return r < 0 ? r : ql_object_set_from_tree(tree, ret_set, err);
}

/* ---- all is here ---- */

enum { WHOLE_TRIES = 4 };

/* What of the image is to be recorded as whole. */
struct whole {
	struct ql_object_set layers; /* owned: diff IDs */
	bool image;
	bool missing; /* something is */
};

static int whole_layer(struct ql_store *store, const struct ql_digest *diff_id,
		       struct whole *w, struct ql_error *err)
{
	_cleanup_(ql_object_set_release) struct ql_object_set set = { 0 };
	struct ql_layer_info info;
	int r = ql_layer_get(store, diff_id, &info);

	if (r < 0 || !(info.flags & QL_LAYER_LAZY)) {
		w->missing |= r < 0;
		return r == -ENOENT ? 0 : r;
	}
	/* Of one that was taken away, others keep what is here. */
	if (info.flags & QL_LAYER_GONE) {
		w->missing = true;
		return 0;
	}
	r = layer_objects(store, diff_id, &set, err);
	if (r < 0)
		return r;
	if (!set_is_here(store, &set)) {
		w->missing = true;
		return 0;
	}
	return ql_object_set_add(&w->layers, diff_id, 0) < 0
		       ? ql_error_nomem(err)
		       : 0;
}

static int whole_ready(struct ql_store *store, const struct ql_image_info *info,
		       struct whole *w, struct ql_error *err)
{
	_cleanup_(ql_object_set_release) struct ql_object_set set = { 0 };
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	int r = ql_tree_open_image(store, &info->manifest, &tree, err);

	if (r == 0)
		r = ql_object_set_from_tree(tree, &set, err);
	w->image = r == 0 && set_is_here(store, &set);
	return r;
}

/* An image that is ready-made does not read by its layers' records. */
static int whole_look(struct ql_store *store, const struct ql_image_info *info,
		      struct whole *w, struct ql_error *err)
{
	int r = 0;

	if (info->flags & QL_IMAGE_READY && !(info->flags & QL_IMAGE_WHOLE)) {
		r = whole_ready(store, info, w, err);
		w->missing = !w->image;
		return r;
	}
	if (info->flags & QL_IMAGE_READY)
		return 0;
	for (uint32_t i = 0; i < info->n_layers && r == 0; i++)
		r = whole_layer(store, &info->layers[i], w, err);
	return r;
}

int ql_layer_flag(struct ql_txn *txn, const struct ql_digest *diff_id,
		  bool lazy, struct ql_error *err)
{
	struct ql_layer_info info;
	int r = ql_record_get_layer(txn, diff_id, &info);

	if (r < 0)
		return ql_error_errno(err, r, "a layer's record");
	info.flags &= ~(uint32_t)QL_LAYER_LAZY;
	if (lazy)
		info.flags |= QL_LAYER_LAZY;
	return ql_record_put_layer(txn, &info, err);
}

int ql_image_flag(struct ql_txn *txn, const struct ql_digest *manifest,
		  bool whole, struct ql_error *err)
{
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	int r = ql_record_get_image(txn, manifest, &info);

	if (r < 0)
		return ql_error_errno(err, r, "an image's record");
	info.flags &= ~(uint32_t)QL_IMAGE_WHOLE;
	if (whole)
		info.flags |= QL_IMAGE_WHOLE;
	return ql_record_put_image(txn, &info, err);
}

/* Others may have taken some away since it was looked at. */
static int whole_check(struct ql_store *store, struct ql_txn *txn,
		       const struct ql_digest *unit, bool image, uint64_t epoch,
		       struct ql_error *err)
{
	_cleanup_(ql_object_set_release) struct ql_object_set set = { 0 };
	struct ql_layer_info info;
	int r = 0;

	if (ql_meta_number(txn, "evictions") == epoch && !ql_doom_pending(txn))
		return 0;
	if (image)
		return -EAGAIN; /* its tree takes a lock */
	if (ql_record_get_layer(txn, unit, &info) < 0 ||
	    info.flags & QL_LAYER_GONE)
		return -EAGAIN;
	r = layer_objects(store, unit, &set, err);
	if (r < 0)
		return r;
	return ql_doom_spares_all(store, txn, &set, epoch) ? 0 : -EAGAIN;
}

static int whole_record(struct ql_store *store,
			const struct ql_digest *manifest, const struct whole *w,
			uint64_t epoch, struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	int r;

	if (!w->image && w->layers.n == 0)
		return 0;
	/* The names that were looked at outlast the record. */
	if (syncfs(store->root_fd) < 0)
		return ql_error_errno(err, -errno, "write to %s", store->root);
	r = ql_txn_begin(store->catalog, true, &txn, err);
	for (size_t i = 0; i < w->layers.n && r == 0; i++) {
		const struct ql_digest *layer = &w->layers.items[i].digest;

		r = whole_check(store, txn, layer, false, epoch, err);
		if (r == 0)
			r = ql_layer_flag(txn, layer, false, err);
	}
	if (r == 0 && w->image)
		r = whole_check(store, txn, manifest, true, epoch, err);
	if (r == 0 && w->image)
		r = ql_image_flag(txn, manifest, true, err);
	return r < 0 ? r : ql_txn_commit(ql_take_ptr(txn), err);
}

static int whole_try(struct ql_store *store, const struct ql_digest *manifest,
		     bool *ret_whole, struct ql_error *err)
{
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	uint64_t epoch = 0;
	struct whole w = { 0 };
	int r = ql_keep_recover(store, err);

	if (r < 0)
		return r;
	epoch = ql_doom_epoch(store);
	r = ql_image_get(store, manifest, &info);
	if (r < 0)
		return r == -ENOENT
			       ? r
			       : ql_error_errno(err, r, "the image's record");
	r = whole_look(store, &info, &w, err);
	if (r == 0)
		r = whole_record(store, manifest, &w, epoch, err);
	ql_object_set_release(&w.layers);
	if (r == 0)
		*ret_whole = !w.missing;
	return r;
}

int ql_image_mark_whole(struct ql_store *store,
			const struct ql_digest *manifest, bool *ret_whole,
			struct ql_error *err)
{
	_cleanup_close_ int lock = -1;
	int r = ql_store_need_write(store, err);

	if (r == 0)
		r = ql_store_lock_try(store, false, &lock, err);
	if (r < 0)
		return r;
	r = -EAGAIN;
	for (int i = 0; i < WHOLE_TRIES && r == -EAGAIN; i++)
		r = whole_try(store, manifest, ret_whole, err);
	return r;
}
