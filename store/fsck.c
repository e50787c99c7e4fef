/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checking the whole store against itself.  Content first, object by object,
 * with no lock; then, under the store's exclusive lock, every tree's file
 * against its record, every table of contents against its checksum, every
 * object that a tree or an image needs against what is on disk, and the
 * catalogue's counts against a count made anew (recount.c).  It changes
 * nothing.
 *
 * Eviction does not wait for that lock; it waits for a write transaction, which
 * is held meanwhile where the store is open for writing.
 */
#include "store/store-private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct fsck {
	struct ql_store *store; /* borrowed */
	struct ql_txn *txn;	/* owned */
	struct ql_pace *pace;	/* borrowed */
	ql_fault_fn *report;
	void *arg;
	struct ql_fsck_stats stats;
	struct ql_needs needs;	     /* owned */
	struct ql_object_set layers; /* owned: diff IDs that are whole */
	struct ql_error *err;	     /* borrowed */
};

static const struct ql_digest no_digest;

static void fsck_finding(struct fsck *fs, enum ql_fault_kind kind,
			 const struct ql_digest *digest, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

static void fsck_finding(struct fsck *fs, enum ql_fault_kind kind,
			 const struct ql_digest *digest, const char *fmt, ...)
{
	char line[1536];
	struct ql_fault fault = { kind, *digest, line };
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	fs->stats.errors++;
	fs->report(&fault, fs->arg);
}

/* ---- files ---- */

/* A tree's file against its record.  True where it is what was written. */
static bool fsck_cfs(struct fsck *fs, enum ql_fault_kind kind,
		     const struct ql_digest *whose, const char *path,
		     const struct ql_digest *want)
{
	struct ql_error err = QL_ERROR_INIT;
	struct ql_digest have;
	uint64_t size;

	if (ql_file_digest(fs->store->root_fd, path, &have, &size, &err) < 0) {
		fsck_finding(fs, kind, whose, "%s", err.text);
		return false;
	}
	fs->stats.bytes += size;
	if (ql_digest_equal(&have, want))
		return true;
	fsck_finding(fs, kind, whose, "%s: its content is not what was written",
		     path);
	return false;
}

/* opened: what opening it gave; needed: it has to be there. */
static void fsck_toc(struct fsck *fs, enum ql_fault_kind kind,
		     const struct ql_digest *whose, const char *path,
		     struct ql_toc *toc, int opened, bool needed)
{
	if (opened == 0)
		opened = ql_toc_check(toc, NULL);
	if (opened == -ENOENT && needed)
		fsck_finding(fs, kind, whose,
			     "%s: it is needed and it is not here", path);
	else if (opened < 0 && opened != -ENOENT)
		fsck_finding(fs, kind, whose,
			     "%s: its content is not what was written", path);
}

/* ---- layers and images ---- */

static void fsck_layer_toc(struct fsck *fs, const struct ql_layer_info *info)
{
	_cleanup_(ql_toc_closep) struct ql_toc *toc = NULL;
	char path[QL_CFS_PATH];
	int r = ql_toc_open_layer(fs->store, info, &toc, NULL);

	fsck_toc(fs, QL_FAULT_LAYER, &info->diff_id,
		 ql_toc_path("layers", &info->blob, path), toc, r,
		 info->flags & QL_LAYER_LAZY);
}

static int fsck_layer(const void *key, size_t key_len, const void *value,
		      size_t len, void *arg)
{
	struct fsck *fs = arg;
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	_cleanup_(ql_object_set_release) struct ql_object_set set = { 0 };
	struct ql_error err = QL_ERROR_INIT;
	struct ql_layer_info info;
	char path[QL_CFS_PATH];
	int r;

	fs->stats.layers++;
	if (ql_record_parse_layer(key, key_len, value, len, &info) < 0) {
		fsck_finding(fs, QL_FAULT_OTHER, &no_digest,
			     "catalogue: a layer's record is malformed");
		return 0;
	}
	fsck_layer_toc(fs, &info);
	if (!fsck_cfs(fs, QL_FAULT_LAYER, &info.diff_id,
		      ql_layer_path(&info.diff_id, path), &info.cfs))
		return 0;
	r = ql_tree_open_layer(fs->store, &info.diff_id, &tree, &err);
	if (r == 0)
		r = ql_object_set_from_tree(tree, &set, &err);
	if (r < 0) {
		char text[QL_DIGEST_TEXT + 1];

		fsck_finding(fs, QL_FAULT_LAYER, &info.diff_id, "layer %s: %s",
			     ql_digest_text(&info.diff_id, text), err.text);
		return 0;
	}
	if (ql_object_set_add(&fs->layers, &info.diff_id, 0) < 0)
		return -ENOMEM;
	return ql_needs_add(&fs->needs, &set, ql_need_of(&info));
}

/* What stands beside the tree of an image that came ready-made. */
static void fsck_image_tocs(struct fsck *fs, const struct ql_image_info *info)
{
	_cleanup_(ql_toc_closep) struct ql_toc *toc = NULL;
	_cleanup_(ql_toc_closep) struct ql_toc *hot = NULL;
	char path[QL_CFS_PATH + 8];
	int r = ql_toc_open_image(fs->store, info, &toc, NULL);

	(void)ql_toc_path("images", &info->manifest, path);
	fsck_toc(fs, QL_FAULT_IMAGE, &info->manifest, path, toc, r,
		 (info->flags & (QL_IMAGE_READY | QL_IMAGE_WHOLE)) ==
			 QL_IMAGE_READY);
	r = ql_toc_open_hot(fs->store, info, &hot, NULL);
	fsck_toc(fs, QL_FAULT_IMAGE, &info->manifest, path, hot, r, false);
}

/* Its own needs; of a tree that is damaged only the documents are known. */
static int fsck_image_needs(struct fsck *fs, const struct ql_image_info *info)
{
	_cleanup_(ql_object_set_release) struct ql_object_set own = { 0 };
	_cleanup_(ql_object_set_release) struct ql_object_set docs = { 0 };
	bool lazy = info->flags & QL_IMAGE_READY &&
		    !(info->flags & QL_IMAGE_WHOLE);
	char text[QL_DIGEST_TEXT + 1];
	int r = ql_image_documents(fs->store, info, &docs, NULL);

	if (r == 0) {
		/* They are small, and nothing says where else they are. */
		for (size_t i = 0; i < docs.n && r == 0; i++)
			r = ql_object_set_add(&fs->needs.must,
					      &docs.items[i].digest, 0);
	}
	if (r == 0)
		r = ql_image_own_objects(fs->store, info, &own, NULL);
	if (r == -ENOMEM)
		return r;
	if (r < 0) {
		fsck_finding(fs, QL_FAULT_IMAGE, &info->manifest,
			     "image %s: its tree cannot be read",
			     ql_digest_text(&info->manifest, text));
		return ql_needs_add(&fs->needs, &docs, QL_NEED_HERE);
	}
	return ql_needs_add(&fs->needs, &own,
			    lazy ? QL_NEED_LAZY : QL_NEED_HERE);
}

static int fsck_image(const void *key, size_t key_len, const void *value,
		      size_t len, void *arg)
{
	struct fsck *fs = arg;
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	char path[QL_CFS_PATH];
	char a[QL_DIGEST_TEXT + 1];
	char b[QL_DIGEST_TEXT + 1];
	int r = ql_record_parse_image(key, key_len, value, len, &info);

	fs->stats.images++;
	if (r == -EBADMSG) {
		fsck_finding(fs, QL_FAULT_OTHER, &no_digest,
			     "catalogue: an image's record is malformed");
		return 0;
	}
	if (r < 0)
		return r;
	(void)fsck_cfs(fs, QL_FAULT_IMAGE, &info.manifest,
		       ql_cfs_path("images", &info.manifest, path), &info.cfs);
	if (info.flags & QL_IMAGE_READY)
		fsck_image_tocs(fs, &info);
	for (uint32_t i = 0; i < info.n_layers; i++)
		if (!(info.flags & QL_IMAGE_READY) &&
		    !ql_object_set_has(&fs->layers, &info.layers[i]))
			fsck_finding(fs, QL_FAULT_LAYER, &info.layers[i],
				     "image %s: layer %s is not here",
				     ql_digest_text(&info.manifest, a),
				     ql_digest_text(&info.layers[i], b));
	return fsck_image_needs(fs, &info);
}

static int fsck_name(const void *key, size_t key_len, const void *value,
		     size_t len, void *arg)
{
	struct fsck *fs = arg;
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	struct ql_digest manifest;

	if (len == QL_DIGEST_BYTES) {
		memcpy(manifest.bytes, value, QL_DIGEST_BYTES);
		if (ql_record_get_image(fs->txn, &manifest, &info) == 0)
			return 0;
	}
	fsck_finding(fs, QL_FAULT_OTHER, &no_digest,
		     "name %.*s: its image is not here", (int)key_len,
		     (const char *)key);
	return 0;
}

/* ---- objects ---- */

static void fsck_count(struct fsck *fs, const char *path,
		       const struct ql_digest *digest,
		       const struct ql_object_record *want)
{
	struct ql_object_record rec;

	if (ql_record_get_object(fs->txn, digest, &rec) < 0)
		fsck_finding(fs, QL_FAULT_COUNT, digest,
			     "%s: not in the catalogue", path);
	else if (rec.refs != want->refs)
		fsck_finding(fs, QL_FAULT_COUNT, digest,
			     "%s: the catalogue counts %u users of %u", path,
			     rec.refs, want->refs);
	else if (rec.gone != want->gone)
		fsck_finding(fs, QL_FAULT_COUNT, digest,
			     "%s: the catalogue counts %u users that are gone, "
			     "of %u",
			     path, rec.gone, want->gone);
}

static int fsck_needed(const struct ql_digest *digest,
		       const struct ql_object_record *want, void *arg)
{
	struct fsck *fs = arg;
	char path[QL_OBJECT_PATH + 1];
	struct stat st;
	bool here = fstatat(fs->store->root_fd, ql_object_path(digest, path),
			    &st, 0) == 0;

	if (!here && !ql_object_set_has(&fs->needs.must, digest))
		fs->stats.absent++;
	else if (!here)
		fsck_finding(fs, QL_FAULT_OBJECT, digest,
			     "%s: %u need it and it is not here", path,
			     want->refs);
	else if ((uint64_t)st.st_size != want->size)
		fsck_finding(fs, QL_FAULT_OBJECT, digest,
			     "%s: %" PRIu64 " bytes are needed, %" PRIu64
			     " are here",
			     path, want->size, (uint64_t)st.st_size);
	fsck_count(fs, path, digest, want);
	return 0;
}

/* A count of what nothing needs keeps it for ever. */
static int fsck_counted(const void *key, size_t key_len, const void *value,
			size_t len, void *arg)
{
	struct fsck *fs = arg;
	struct ql_object_record rec;
	struct ql_digest digest;
	char path[QL_OBJECT_PATH + 1];

	if (key_len != QL_DIGEST_BYTES ||
	    ql_record_parse_object(value, len, &rec) < 0) {
		fsck_finding(fs, QL_FAULT_OTHER, &no_digest,
			     "catalogue: an object's record is malformed");
		return 0;
	}
	memcpy(digest.bytes, key, QL_DIGEST_BYTES);
	if (!ql_object_set_has(&fs->needs.uses, &digest))
		fsck_finding(fs, QL_FAULT_COUNT, &digest,
			     "%s: the catalogue counts %u users of 0",
			     ql_object_path(&digest, path), rec.refs);
	return 0;
}

static int fsck_file(const struct ql_digest *digest, const char *path,
		     void *arg)
{
	struct fsck *fs = arg;

	if (!digest)
		fsck_finding(fs, QL_FAULT_OTHER, &no_digest,
			     "%.80s: no object's name", path);
	else if (!ql_object_set_has(&fs->needs.uses, digest))
		fs->stats.unreferenced++;
	return 0;
}

/* ---- content ---- */

static int fsck_content(const struct ql_digest *digest, const char *path,
			void *arg)
{
	struct fsck *fs = arg;
	struct ql_error err = QL_ERROR_INIT;
	uint64_t bytes;
	int r;

	(void)path;
	if (!digest)
		return 0; /* named later */
	r = ql_object_verify(fs->store, digest, fs->pace, &bytes, &err);
	fs->stats.bytes += bytes;
	if (r == -ENOENT)
		return 0; /* removed meanwhile */
	fs->stats.objects++;
	if (r == -ECANCELED)
		return ql_error_set(fs->err, r, "canceled");
	if (r == -EBADMSG)
		fsck_finding(fs, QL_FAULT_OBJECT, digest, "%s", err.text);
	else if (r < 0)
		fsck_finding(fs, QL_FAULT_OTHER, digest, "%s", err.text);
	return 0;
}

/* ---- the whole ---- */

static int fsck_records(struct fsck *fs, struct ql_error *err)
{
	int r = ql_txn_each(fs->txn, QL_TABLE_LAYERS, fsck_layer, fs, err);

	/* They come by their keys, which are diff IDs. */
	if (r == 0)
		r = ql_txn_each(fs->txn, QL_TABLE_IMAGES, fsck_image, fs, err);
	if (r == 0)
		r = ql_txn_each(fs->txn, QL_TABLE_NAMES, fsck_name, fs, err);
	if (r == -ENOMEM)
		return ql_error_nomem(err);
	if (r < 0)
		return r;
	ql_needs_sort(&fs->needs);
	(void)ql_needs_each(&fs->needs, fsck_needed, fs);
	/* What a damaged layer needs is not known. */
	if (fs->layers.n == fs->stats.layers)
		r = ql_txn_each(fs->txn, QL_TABLE_OBJECTS, fsck_counted, fs,
				err);
	return r < 0 ? r : ql_objects_walk(fs->store, 0, fsck_file, fs, err);
}

static int fsck_locked(struct fsck *fs, const atomic_bool *stop,
		       struct ql_error *err)
{
	_cleanup_close_ int lock = -1;
	int r = ql_store_lock_until(fs->store, true, stop, &lock, err);

	if (r == 0)
		r = ql_txn_begin(fs->store->catalog, fs->store->writable,
				 &fs->txn, err);
	if (r == 0)
		r = fsck_records(fs, err);
	ql_txn_abort(fs->txn);
	ql_needs_release(&fs->needs);
	ql_object_set_release(&fs->layers);
	return r;
}

int ql_store_check_records(struct ql_store *store, const atomic_bool *stop,
			   ql_fault_fn *report, void *arg,
			   struct ql_fsck_stats *ret_stats,
			   struct ql_error *err)
{
	struct fsck fs = { .store = store, .report = report, .arg = arg };
	int r = fsck_locked(&fs, stop, err);

	if (r == 0)
		*ret_stats = fs.stats;
	return r;
}

int ql_store_check(struct ql_store *store, struct ql_pace *pace,
		   ql_fault_fn *report, void *arg,
		   struct ql_fsck_stats *ret_stats, struct ql_error *err)
{
	struct fsck fs = { .store = store,
			   .pace = pace,
			   .report = report,
			   .arg = arg,
			   .err = err };
	int r = ql_objects_walk(store, 0, fsck_content, &fs, err);

	if (r == 0)
		r = fsck_locked(&fs, pace ? pace->stop : NULL, err);
	if (r == 0)
		*ret_stats = fs.stats;
	return r;
}

struct lines {
	ql_fsck_fn *report;
	void *arg;
};

static void line_of(const struct ql_fault *fault, void *arg)
{
	const struct lines *l = arg;

	l->report(fault->text, l->arg);
}

int ql_store_fsck(struct ql_store *store, ql_fsck_fn *report, void *arg,
		  struct ql_fsck_stats *ret_stats, struct ql_error *err)
{
	struct lines l = { report, arg };

	return ql_store_check(store, NULL, line_of, &l, ret_stats, err);
}
