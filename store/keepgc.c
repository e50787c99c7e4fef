/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What nothing references: left by who was killed.  Under the store's lock
 * alone, and the eviction's: nobody adds, and no layer is on its way to an
 * image.  First the catalogue is put right (layers of no image), by the same
 * way as everything that goes; then the folders are walked, and what no record
 * stands for is unlinked.
 */
#include "store/keep-private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

struct gc {
	struct ql_store *store; /* borrowed */
	bool dry_run;
	ql_gc_fn *fn; /* or NULL */
	void *arg;    /* borrowed */
	struct ql_remove_stats stats;
	struct ql_txn *txn;	      /* owned; for reading */
	struct ql_keep_map map;	      /* owned */
	struct ql_object_set blobs;   /* owned; whose tables and packed files
				       * somebody needs; sorted */
	struct ql_object_set orphans; /* owned: layers that no image has */
};

static void gc_release(struct gc *gc)
{
	ql_txn_abort(gc->txn);
	ql_keep_map_release(&gc->map);
	ql_object_set_release(&gc->blobs);
	ql_object_set_release(&gc->orphans);
}

static void gc_count(struct gc *gc, const char *path, uint64_t bytes)
{
	gc->stats.objects++;
	gc->stats.bytes += bytes;
	if (gc->fn)
		gc->fn(path, bytes, gc->arg);
}

/* A file that is to go. */
static void gc_take(struct gc *gc, const char *path)
{
	uint64_t bytes = 0;
	struct stat st;

	if (fstatat(gc->store->root_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !S_ISREG(st.st_mode))
		return;
	bytes = (uint64_t)st.st_blocks * 512;
	if (!gc->dry_run && ql_space_unlink(gc->store, path, &bytes) < 0)
		return;
	gc_count(gc, path, bytes);
}

/* ---- layers of no image ---- */

static int gc_orphan(struct gc *gc, struct ql_doom *doom, struct ql_txn *txn,
		     const struct ql_keep_unit *unit, struct ql_error *err)
{
	_cleanup_(ql_object_set_release) struct ql_object_set set = { 0 };
	int r = ql_keep_unit_objects(&gc->map, unit, &set, err);

	if (r == -ENOMEM)
		return r;
	/* Of a damaged one the counts stay: fsck knows how to mend them. */
	if (r == 0 && unit->flags & QL_LAYER_GONE)
		r = ql_refs_gone(txn, &set, false, NULL, err);
	if (r == 0)
		r = ql_refs_drop(txn, &set, &doom->sets[QL_DOOM_OBJECT], err);
	if (r < 0)
		return 0;
	if (ql_object_set_add(&doom->sets[QL_DOOM_LAYER], &unit->digest, 0) <
		    0 ||
	    ql_object_set_add(&doom->sets[QL_DOOM_TOC], &unit->blob, 0) < 0 ||
	    ql_object_set_add(&doom->sets[QL_DOOM_PACKED], &unit->blob, 0) < 0)
		return ql_error_nomem(err);
	return ql_txn_del(txn, QL_TABLE_LAYERS, unit->digest.bytes,
			  QL_DIGEST_BYTES, err);
}

static int gc_layers_txn(struct gc *gc, struct ql_doom *doom,
			 struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	int r = ql_txn_begin(gc->store->catalog, true, &txn, err);

	for (size_t i = 0; i < gc->map.n_units && r == 0; i++)
		if (gc->map.units[i].n_images == 0)
			r = gc_orphan(gc, doom, txn, &gc->map.units[i], err);
	if (r == 0)
		r = ql_doom_spare_blobs(gc->store, txn, doom, err);
	if (r == 0)
		r = ql_doom_write(txn, doom, err);
	return r < 0 || gc->dry_run ? r : ql_txn_commit(ql_take_ptr(txn), err);
}

static void gc_tell(struct gc *gc, const char *path)
{
	struct stat st;

	if (fstatat(gc->store->root_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0)
		gc_count(gc, path, (uint64_t)st.st_blocks * 512);
}

/* Before it goes: what is there of it. */
static void gc_tell_doomed(struct gc *gc, enum ql_doom_kind kind,
			   const struct ql_digest *digest)
{
	char path[QL_OBJECT_PATH + QL_PACKED_PATH + QL_CFS_PATH];
	char hex[QL_DIGEST_HEX + 1];

	switch (kind) {
	case QL_DOOM_OBJECT:
		gc_tell(gc, ql_object_path(digest, path));
		(void)snprintf(path, sizeof(path), "partial/%s.part",
			       ql_digest_hex(digest, hex));
		gc_tell(gc, path);
		return;
	case QL_DOOM_PACKED:
		gc_tell(gc, ql_packed_path(digest, path));
		return;
	case QL_DOOM_LAYER:
		gc_tell(gc, ql_layer_path(digest, path));
		return;
	case QL_DOOM_TOC:
		gc_tell(gc, ql_toc_path("layers", digest, path));
		return;
	default:
		return; /* no layer has others */
	}
}

static int gc_layers(struct gc *gc, struct ql_error *err)
{
	struct ql_remove_stats told = { 0 }; /* that is counted already */
	struct ql_doom doom = { 0 };
	size_t n = 0;
	int r = 0;

	for (size_t i = 0; i < gc->map.n_units; i++)
		n += gc->map.units[i].n_images == 0;
	if (n == 0)
		return 0;
	r = gc_layers_txn(gc, &doom, err);
	for (int k = 0; k < QL_DOOMS && r == 0; k++)
		for (size_t i = 0; i < doom.sets[k].n; i++)
			gc_tell_doomed(gc, (enum ql_doom_kind)k,
				       &doom.sets[k].items[i].digest);
	if (r == 0 && !gc->dry_run)
		r = ql_doom_execute(gc->store, &doom, &told, err);
	ql_doom_release(&doom);
	return r;
}

/* ---- what is referenced ---- */

static int gc_blobs_of(struct gc *gc, const struct ql_image_info *info)
{
	_cleanup_(ql_toc_closep) struct ql_toc *toc = NULL;
	struct ql_toc_blob blob;
	int r = 0;

	if (!(info->flags & QL_IMAGE_READY) ||
	    ql_toc_open_image(gc->store, info, &toc, NULL) < 0)
		return 0;
	for (uint32_t i = 0; i < ql_toc_blobs(toc) && r == 0; i++)
		if (ql_toc_blob(toc, i, &blob) == 0)
			r = ql_object_set_add(&gc->blobs, &blob.digest, 0);
	return r;
}

static int gc_look(struct gc *gc, struct ql_error *err)
{
	int r;

	ql_txn_abort(ql_take_ptr(gc->txn));
	ql_keep_map_release(&gc->map);
	r = ql_txn_begin(gc->store->catalog, false, &gc->txn, err);
	if (r == 0)
		r = ql_keep_map_init(gc->store, gc->txn, &gc->map, err);
	return r;
}

static int gc_look_blobs(struct gc *gc, struct ql_error *err)
{
	int r = 0;

	for (size_t i = 0; i < gc->map.n_units && r == 0; i++)
		if (!gc->map.units[i].is_image)
			r = ql_object_set_add(&gc->blobs,
					      &gc->map.units[i].blob, 0);
	for (size_t i = 0; i < gc->map.n_images && r == 0; i++)
		r = gc_blobs_of(gc, &gc->map.images[i].info);
	ql_object_set_sort(&gc->blobs);
	return r < 0 ? ql_error_nomem(err) : 0;
}

static bool gc_has_blob(const struct gc *gc, const struct ql_digest *digest)
{
	struct ql_object_use key = { .digest = *digest };

	return gc->blobs.n > 0 && bsearch(&key, gc->blobs.items, gc->blobs.n,
					  sizeof(key), ql_object_use_cmp);
}

/* An object stays where somebody that is kept needs it. */
static bool gc_has_object(const struct gc *gc, const struct ql_digest *digest)
{
	struct ql_object_record rec;
	int r = ql_record_get_object(gc->txn, digest, &rec);

	return r == 0 ? !ql_refs_none(&rec) : r != -ENOENT;
}

static bool gc_has_layer(const struct gc *gc, const struct ql_digest *digest)
{
	struct ql_layer_info info;

	return ql_record_get_layer(gc->txn, digest, &info) != -ENOENT;
}

static bool gc_has_image(const struct gc *gc, const struct ql_digest *digest)
{
	_cleanup_image_info_ struct ql_image_info info = { 0 };

	return ql_record_get_image(gc->txn, digest, &info) != -ENOENT;
}

/* ---- folders ---- */

/* Of a file that may be somebody's, *ret_lock is a lock on it, owned, until it
 * is gone: else who opens it meanwhile would have one without a name. */
typedef bool gc_keep_fn(const struct gc *gc, const char *path,
			const char *suffix, const struct ql_digest *digest,
			int *ret_lock);

static bool gc_is_locked(const struct gc *gc, const char *path, int *ret_lock)
{
	_cleanup_close_ int fd =
		openat(gc->store->root_fd, path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return errno != ENOENT;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return true;
	*ret_lock = ql_take_fd(&fd);
	return false;
}

static bool keep_layer(const struct gc *gc, const char *path,
		       const char *suffix, const struct ql_digest *digest,
		       int *ret_lock)
{
	(void)path;
	(void)ret_lock;
	return strcmp(suffix, ".toc") == 0 ? gc_has_blob(gc, digest)
					   : gc_has_layer(gc, digest);
}

static bool keep_image(const struct gc *gc, const char *path,
		       const char *suffix, const struct ql_digest *digest,
		       int *ret_lock)
{
	if (gc_has_image(gc, digest))
		return true;
	/* A mount may outlive it. */
	return strcmp(suffix, ".cfs") == 0 && gc_is_locked(gc, path, ret_lock);
}

/* Others than partial files have been left: who makes them holds the store's
 * lock, but for locks, which are taken by themselves. */
static bool keep_partial(const struct gc *gc, const char *path,
			 const char *suffix, const struct ql_digest *digest,
			 int *ret_lock)
{
	if (strcmp(suffix, ".part") == 0 && gc_has_object(gc, digest))
		return true;
	return (strcmp(suffix, ".part") == 0 || strcmp(suffix, ".lock") == 0) &&
	       gc_is_locked(gc, path, ret_lock);
}

static bool keep_object(const struct gc *gc, const char *path,
			const char *suffix, const struct ql_digest *digest,
			int *ret_lock)
{
	(void)path;
	(void)ret_lock;
	(void)suffix;
	return gc_has_object(gc, digest);
}

static DIR *folder_open(const struct gc *gc, const char *path)
{
	int fd = openat(gc->store->root_fd, path,
			O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir && fd >= 0)
		(void)close(fd);
	return dir;
}

/* Names are prefix (of the digest, from the folder's), 64 hex digits in all,
 * and a suffix; what is named otherwise is not ours. */
static void gc_folder(struct gc *gc, const char *folder, const char *prefix,
		      gc_keep_fn *keep)
{
	_cleanup_closedir_ DIR *dir = folder_open(gc, folder);
	size_t n = QL_DIGEST_HEX - strlen(prefix);
	const struct dirent *d;

	while (dir && (d = readdir(dir))) {
		_cleanup_free_ char *path = ql_strf("%s/%s", folder, d->d_name);
		_cleanup_close_ int lock = -1;
		char hex[QL_DIGEST_HEX + 1];
		struct ql_digest digest;

		if (!path || strlen(d->d_name) < n)
			continue;
		(void)snprintf(hex, sizeof(hex), "%s%.*s", prefix, (int)n,
			       d->d_name);
		if (ql_digest_from_hex(hex, &digest) == 0 &&
		    !keep(gc, path, d->d_name + n, &digest, &lock))
			gc_take(gc, path);
	}
}

static void gc_objects(struct gc *gc)
{
	for (unsigned int i = 0; i < 256; i++) {
		char folder[16], prefix[3];

		(void)snprintf(prefix, sizeof(prefix), "%02x", i);
		(void)snprintf(folder, sizeof(folder), "objects/%s", prefix);
		gc_folder(gc, folder, prefix, keep_object);
	}
}

/* ---- the packed tier ---- */

static int gc_packed_blob(const struct ql_digest *blob, uint64_t bytes,
			  void *arg)
{
	struct gc *gc = arg;
	char hex[QL_DIGEST_HEX + 1], path[QL_CFS_PATH];

	if (gc_has_blob(gc, blob)) {
		/* What was put and not settled, by somebody who was killed;
		 * who fills even now notices, and has it come again. */
		return gc->dry_run ? 0 : ql_packed_trim(gc->store, blob, NULL);
	}
	(void)snprintf(path, sizeof(path), "packed/%.2s/%s",
		       ql_digest_hex(blob, hex), hex + 2);
	if (!gc->dry_run && ql_packed_drop(gc->store, blob, NULL) < 0)
		return 0;
	gc_count(gc, path, bytes);
	return 0;
}

/* ---- records ---- */

struct gc_records {
	const struct gc *gc;	   /* borrowed */
	struct ql_object_set gone; /* owned */
};

static int gc_partial_record(const void *key, size_t key_len, const void *value,
			     size_t len, void *arg)
{
	struct gc_records *records = arg;
	struct ql_digest digest;

	(void)value;
	(void)len;
	if (key_len != QL_DIGEST_BYTES)
		return 0;
	memcpy(digest.bytes, key, QL_DIGEST_BYTES);
	return !gc_has_object(records->gc, &digest) &&
			       ql_object_set_add(&records->gone, &digest, 0) < 0
		       ? -ENOMEM
		       : 0;
}

/* Of partial files that are gone. */
static int gc_partial_records(struct gc *gc, struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	struct gc_records records = { .gc = gc };
	int r = ql_txn_each(gc->txn, QL_TABLE_PARTIALS, gc_partial_record,
			    &records, err);

	if (r == 0 && records.gone.n > 0 && !gc->dry_run)
		r = ql_txn_begin(gc->store->catalog, true, &txn, err);
	for (size_t i = 0; i < records.gone.n && r == 0 && txn; i++)
		r = ql_txn_del(txn, QL_TABLE_PARTIALS,
			       records.gone.items[i].digest.bytes,
			       QL_DIGEST_BYTES, err);
	if (r == 0 && txn)
		r = ql_txn_commit(ql_take_ptr(txn), err);
	ql_object_set_release(&records.gone);
	return r == -ENOMEM ? ql_error_nomem(err) : r;
}

/* ---- the whole ---- */

static int gc_run(struct gc *gc, struct ql_error *err)
{
	int r = gc_look(gc, err);

	if (r == 0)
		r = gc_layers(gc, err);
	/* Again: of what is left. */
	if (r == 0)
		r = gc_look(gc, err);
	if (r == 0)
		r = gc_look_blobs(gc, err);
	if (r < 0)
		return r;
	gc_folder(gc, "layers", "", keep_layer);
	gc_folder(gc, "images", "", keep_image);
	gc_folder(gc, "partial", "", keep_partial);
	gc_objects(gc);
	r = ql_packed_each(gc->store, gc_packed_blob, gc, err);
	if (r == 0)
		r = gc_partial_records(gc, err);
	return r;
}

int ql_store_gc(struct ql_store *store, bool dry_run, ql_gc_fn *fn, void *arg,
		struct ql_remove_stats *ret_stats, struct ql_error *err)
{
	_cleanup_(gc_release) struct gc gc = {
		.store = store, .dry_run = dry_run, .fn = fn, .arg = arg
	};
	_cleanup_close_ int lock = -1, keep = -1;
	int r = ql_store_need_write(store, err);

	if (r == 0)
		r = ql_store_lock_try(store, true, &lock, err);
	if (r == -EAGAIN)
		return ql_error_set(err, r,
				    "somebody adds to the store, or removes "
				    "from it: try again later");
	if (r == 0)
		r = ql_keep_lock(store, &keep, err);
	if (r == 0)
		r = ql_doom_recover(store, err);
	if (r == 0)
		r = gc_run(&gc, err);
	if (r == 0 && ret_stats)
		*ret_stats = gc.stats;
	return r;
}
