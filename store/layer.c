/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer's way in: its archive is hashed and read ahead in one thread, and
 * taken apart in the caller's; files go through the ingest door, the rest
 * into a tree that is written beside it.  The record comes last, so that a
 * layer that is known is whole.
 */
#include "store/keep-private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { LAYER_WINDOW = 1 << 20 };

struct layer_import {
	struct ql_ingest *ingest;	    /* owned */
	struct ql_layertree *lt;	    /* owned */
	struct ql_tar *tar;		    /* owned */
	struct ql_layer_info *info;	    /* borrowed */
	struct ql_layer_places *places;	    /* owned; NULL: no table is made */
	const struct ql_layer_watch *watch; /* borrowed; or NULL */
	uint64_t epoch; /* of evictions, before anything was looked for */
	struct ql_content last; /* of the entry that was read last */
	uint8_t small[QL_INLINE_MAX];
};

/* ---- locks and look-ups ---- */

struct ql_layer_lock {
	struct ql_name_lock name;
};

int ql_layer_lock(struct ql_store *store, const struct ql_digest *diff_id,
		  struct ql_layer_lock **ret_lock, struct ql_error *err)
{
	_cleanup_free_ struct ql_layer_lock *lock = calloc(1, sizeof(*lock));
	int r;

	if (!lock)
		return ql_error_nomem(err);
	r = ql_store_need_write(store, err);
	if (r == 0)
		r = ql_name_lock_init(store, diff_id, &lock->name, err);
	if (r == 0)
		*ret_lock = ql_take_ptr(lock);
	return r;
}

void ql_layer_unlock(struct ql_layer_lock *lock)
{
	if (!lock)
		return;
	ql_name_lock_release(&lock->name);
	free(lock);
}

int ql_layer_get(struct ql_store *store, const struct ql_digest *diff_id,
		 struct ql_layer_info *ret_info)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	int r = ql_txn_begin(store->catalog, false, &txn, NULL);

	return r < 0 ? r : ql_record_get_layer(txn, diff_id, ret_info);
}

/* ---- entries ---- */

static int content_inline(struct layer_import *imp, struct ql_meta *meta,
			  struct ql_error *err)
{
	uint64_t len = 0;
	const void *data;
	ssize_t n;

	while ((n = ql_tar_data(imp->tar, &data, err)) > 0) {
		memcpy(imp->small + len, data, (size_t)n);
		len += (uint64_t)n;
	}
	if (n == 0 && meta->size > 0)
		meta->data = imp->small;
	return (int)n;
}

/* Through the door. */
static int content_object(struct layer_import *imp, struct ql_meta *meta,
			  struct ql_error *err)
{
	uint64_t len = 0, raw = ql_tar_pos(imp->tar);
	const void *data;
	ssize_t n;
	int r = ql_ingest_begin(imp->ingest, meta->size, err);

	if (imp->places)
		ql_layer_places_begin(imp->places, meta->size,
				      ql_tar_is_sparse(imp->tar));
	while (r == 0 && (n = ql_tar_data(imp->tar, &data, err)) != 0) {
		if (n < 0)
			return (int)n;
		/* A hole takes nothing of the archive. */
		if (imp->places && ql_tar_pos(imp->tar) != raw)
			r = ql_layer_places_add(imp->places, len, raw, data,
						(size_t)n, err);
		if (r == 0)
			r = ql_ingest_write(imp->ingest, data, (size_t)n, err);
		len += (uint64_t)n;
		raw = ql_tar_pos(imp->tar);
	}
	if (r == 0)
		r = ql_ingest_end(imp->ingest, &meta->object, err);
	if (r == 0 && imp->places)
		r = ql_layer_places_end(imp->places, &meta->object, err);
	return r;
}

/* The entry's content: inline where it is small, else an object. */
static int layer_content(void *arg, struct ql_meta *meta, struct ql_error *err)
{
	struct layer_import *imp = arg;
	int r = meta->size <= QL_INLINE_MAX ? content_inline(imp, meta, err)
					    : content_object(imp, meta, err);

	if (r < 0)
		return r;
	imp->info->file_bytes += meta->size;
	imp->last = (struct ql_content){ .data = meta->data,
					 .object = meta->object,
					 .size = meta->size };
	return 0;
}

static int layer_read(struct layer_import *imp, struct ql_error *err)
{
	const struct ql_tar_entry *e;
	int r;

	while ((r = ql_tar_next(imp->tar, &e, err)) > 0) {
		imp->last = (struct ql_content){ 0 };
		r = ql_layer_entry(imp->lt, e, layer_content, imp, err);
		if (r < 0)
			return r;
		if (r > 0)
			continue;
		imp->info->entries++;
		if (imp->watch)
			imp->watch->entry(e, &imp->last, imp->watch->arg);
	}
	imp->info->tar_size = ql_tar_pos(imp->tar);
	return r;
}

/* ---- the whole ---- */

/* Whether what it found here is still here, and stays.  Where it is not, the
 * layer's table can bring it again; without one -EAGAIN. */
static int layer_check(struct ql_store *store, struct ql_txn *txn,
		       struct ql_layer_info *info,
		       const struct ql_object_set *set, uint64_t epoch,
		       struct ql_error *err)
{
	char path[QL_CFS_PATH];

	if (info->flags & QL_LAYER_LAZY ||
	    ql_doom_spares_all(store, txn, set, epoch))
		return 0;
	if (faccessat(store->root_fd, ql_toc_path("layers", &info->blob, path),
		      F_OK, 0) < 0)
		return ql_error_set(err, -EAGAIN,
				    "some of the layer was taken away "
				    "meanwhile");
	info->flags |= QL_LAYER_LAZY;
	return 0;
}

int ql_layer_record(struct ql_store *store, struct ql_layer_info *info,
		    uint64_t epoch, struct ql_error *err)
{
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	_cleanup_(ql_object_set_release) struct ql_object_set set = { 0 };
	_cleanup_(ql_space_room_release) struct ql_space_room room = { 0 };
	struct ql_layer_info known;
	struct ql_txn *txn;
	int r = ql_tree_open_layer(store, &info->diff_id, &tree, err);

	if (r == 0)
		r = ql_object_set_from_tree(tree, &set, err);
	if (r == 0)
		r = ql_space_room(store, set.n, &room, err);
	if (r == 0)
		r = ql_txn_begin(store->catalog, true, &txn, err);
	if (r < 0)
		return r;
	if (ql_record_get_layer(txn, &info->diff_id, &known) == -ENOENT) {
		r = layer_check(store, txn, info, &set, epoch, err);
		if (r == 0)
			r = ql_refs_add(txn, &set, err);
		if (r == 0)
			r = ql_record_put_layer(txn, info, err);
	}
	if (r < 0) {
		ql_txn_abort(txn);
		return r;
	}
	return ql_txn_commit(txn, err);
}

static int layer_finish(struct ql_store *store, struct layer_import *imp,
			struct ql_error *err)
{
	char path[QL_CFS_PATH];
	char tmp[QL_CFS_PATH];
	int r;

	(void)ql_layer_path(&imp->info->diff_id, path);
	(void)ql_cfs_path("partial", &imp->info->diff_id, tmp);
	r = ql_layertree_write(imp->lt, store, tmp, path, &imp->info->cfs, err);
	if (r == 0 && imp->places)
		r = ql_layer_places_put(imp->places, store, &imp->info->blob,
					err);
	/* The door's flush makes the objects' and these names durable. */
	if (r == 0)
		r = ql_ingest_flush(imp->ingest, err);
	if (r == 0)
		r = ql_layer_record(store, imp->info, imp->epoch, err);
	return r;
}

/* tar (taken), hashed against the diff ID and read ahead. */
static int layer_open(struct ql_stream *tar, const struct ql_digest *diff_id,
		      struct ql_stream **ret_stream, struct ql_error *err)
{
	_cleanup_stream_ struct ql_stream *in = tar;
	struct ql_stream *next;
	int r = ql_stream_verify(in, diff_id, UINT64_MAX, &next, err);

	if (r < 0)
		return r;
	in = next;
	r = ql_stream_readahead(in, LAYER_WINDOW, &next, err);
	if (r < 0)
		return r;
	(void)ql_take_ptr(in);
	*ret_stream = next;
	return 0;
}

int ql_layer_import_watched(struct ql_store *store, struct ql_stream *tar,
			    struct ql_layer_info *info,
			    struct ql_toc_writer *toc,
			    const struct ql_layer_watch *watch,
			    struct ql_layer_stats *ret_stats,
			    struct ql_error *err)
{
	struct layer_import imp = { .info = info,
				    .watch = watch,
				    .epoch = ql_doom_epoch(store) };
	bool watched = false;
	_cleanup_stream_ struct ql_stream *in = NULL;
	int r = layer_open(tar, &info->diff_id, &in, err);

	if (r < 0)
		return r;
	info->entries = 0;
	info->file_bytes = 0;
	r = ql_ingest_new(store, &imp.ingest, err);
	if (r == 0)
		r = ql_layertree_new(&imp.lt, err);
	if (r == 0 && toc)
		r = ql_layer_places_new(toc, &imp.places, err);
	if (r == 0)
		r = ql_tar_new(in, &imp.tar, err);
	if (r == 0 && watch) {
		watch->begin(imp.ingest, watch->arg);
		watched = true;
	}
	if (r == 0)
		r = layer_read(&imp, err);
	ql_tar_free(imp.tar);
	if (r == 0)
		r = layer_finish(store, &imp, err);
	if (watched)
		watch->end(watch->arg);
	if (r == 0)
		ql_ingest_stats(imp.ingest, ret_stats);
	ql_layer_places_free(imp.places);
	ql_layertree_free(imp.lt);
	ql_ingest_free(imp.ingest);
	return r;
}

int ql_layer_import(struct ql_store *store, struct ql_stream *tar,
		    struct ql_layer_info *info, struct ql_toc_writer *toc,
		    struct ql_layer_stats *ret_stats, struct ql_error *err)
{
	return ql_layer_import_watched(store, tar, info, toc, NULL, ret_stats,
				       err);
}
