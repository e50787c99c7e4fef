/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checking the whole store against itself, under its exclusive lock: every
 * object's content against its name, every tree's file against its record,
 * every object that a tree or an image needs against what is on disk, and the
 * catalogue's counts against a count made anew.  It changes nothing.
 */
#include "store/store-private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <search.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { FSCK_BUFFER = 1 << 20 };

struct fsck {
	struct ql_store *store; /* borrowed */
	struct ql_txn *txn;	/* owned */
	ql_fsck_fn *report;
	void *arg;
	struct ql_fsck_stats stats;
	struct ql_object_set needed; /* owned: once for each user */
	struct ql_object_set must;   /* owned: those that have to be here */
	struct ql_object_set layers; /* owned: diff IDs that are whole */
};

static void fsck_finding(struct fsck *fs, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void fsck_finding(struct fsck *fs, const char *fmt, ...)
{
	char line[1536];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	fs->stats.errors++;
	fs->report(line, fs->arg);
}

/* ---- files ---- */

int ql_file_digest(int root_fd, const char *path, struct ql_digest *ret_digest,
		   uint64_t *ret_size, struct ql_error *err)
{
	_cleanup_close_ int fd = openat(root_fd, path, O_RDONLY | O_CLOEXEC);
	_cleanup_free_ char *buf = malloc(FSCK_BUFFER);
	struct ql_hasher *h;
	uint64_t size = 0;
	ssize_t n;

	if (fd < 0)
		return ql_error_errno(err, -errno, "%s", path);
	h = ql_hasher_new();
	if (!h || !buf) {
		ql_hasher_free(h);
		return ql_error_nomem(err);
	}
	while ((n = ql_read_full(fd, buf, FSCK_BUFFER)) > 0) {
		ql_hasher_update(h, buf, (size_t)n);
		size += (uint64_t)n;
	}
	if (n == 0)
		ql_hasher_final(h, ret_digest);
	ql_hasher_free(h);
	if (n < 0)
		return ql_error_errno(err, (int)n, "%s", path);
	*ret_size = size;
	return 0;
}

/* A tree's file against its record.  True where it is what was written. */
static bool fsck_cfs(struct fsck *fs, const char *path,
		     const struct ql_digest *want)
{
	struct ql_error err = QL_ERROR_INIT;
	struct ql_digest have;
	uint64_t size;

	if (ql_file_digest(fs->store->root_fd, path, &have, &size, &err) < 0) {
		fsck_finding(fs, "%s", err.text);
		return false;
	}
	fs->stats.bytes += size;
	if (ql_digest_equal(&have, want))
		return true;
	fsck_finding(fs, "%s: its content is not what was written", path);
	return false;
}

/* ---- layers and images ---- */

static int fsck_need(struct fsck *fs, const struct ql_object_set *set,
		     bool lazy)
{
	int r = 0;

	for (size_t i = 0; i < set->n && r == 0; i++) {
		const struct ql_object_use *use = &set->items[i];

		r = ql_object_set_add(&fs->needed, &use->digest, use->size);
		if (r == 0 && !lazy)
			r = ql_object_set_add(&fs->must, &use->digest, 0);
	}
	return r;
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
		fsck_finding(fs, "catalogue: a layer's record is malformed");
		return 0;
	}
	if (!fsck_cfs(fs, ql_layer_path(&info.diff_id, path), &info.cfs))
		return 0;
	r = ql_tree_open_layer(fs->store, &info.diff_id, &tree, &err);
	if (r == 0)
		r = ql_object_set_from_tree(tree, &set, &err);
	if (r < 0) {
		char text[QL_DIGEST_TEXT + 1];

		fsck_finding(fs, "layer %s: %s",
			     ql_digest_text(&info.diff_id, text), err.text);
		return 0;
	}
	if (ql_object_set_add(&fs->layers, &info.diff_id, 0) < 0)
		return -ENOMEM;
	return fsck_need(fs, &set, info.flags & QL_LAYER_LAZY);
}

static bool set_has(const struct ql_object_set *set,
		    const struct ql_digest *digest)
{
	for (size_t i = 0; i < set->n; i++)
		if (ql_digest_equal(&set->items[i].digest, digest))
			return true;
	return false;
}

static int fsck_image(const void *key, size_t key_len, const void *value,
		      size_t len, void *arg)
{
	struct fsck *fs = arg;
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	_cleanup_(ql_object_set_release) struct ql_object_set own = { 0 };
	char path[QL_CFS_PATH];
	char a[QL_DIGEST_TEXT + 1];
	char b[QL_DIGEST_TEXT + 1];
	int r = ql_record_parse_image(key, key_len, value, len, &info);

	fs->stats.images++;
	if (r == -EBADMSG) {
		fsck_finding(fs, "catalogue: an image's record is malformed");
		return 0;
	}
	if (r < 0)
		return r;
	(void)fsck_cfs(fs, ql_cfs_path("images", &info.manifest, path),
		       &info.cfs);
	for (uint32_t i = 0; i < info.n_layers; i++)
		if (!(info.flags & QL_IMAGE_READY) &&
		    !set_has(&fs->layers, &info.layers[i]))
			fsck_finding(fs, "image %s: layer %s is not here",
				     ql_digest_text(&info.manifest, a),
				     ql_digest_text(&info.layers[i], b));
	r = ql_image_own_objects(fs->store, &info, &own, NULL);
	return r < 0 ? r
		     : fsck_need(fs, &own,
				 info.flags & QL_IMAGE_READY &&
					 !(info.flags & QL_IMAGE_WHOLE));
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
	fsck_finding(fs, "name %.*s: its image is not here", (int)key_len,
		     (const char *)key);
	return 0;
}

/* ---- objects ---- */

static void fsck_object_needed(struct fsck *fs, const struct ql_object_use *use,
			       uint32_t users)
{
	char path[QL_OBJECT_PATH + 1];
	struct ql_object_record rec;
	struct stat st;

	(void)ql_object_path(&use->digest, path);
	if (fstatat(fs->store->root_fd, path, &st, 0) < 0 &&
	    !bsearch(use, fs->must.items, fs->must.n, sizeof(*use),
		     ql_object_use_cmp))
		fs->stats.absent++;
	else if (fstatat(fs->store->root_fd, path, &st, 0) < 0)
		fsck_finding(fs, "%s: %u need it and it is not here", path,
			     users);
	else if ((uint64_t)st.st_size != use->size)
		fsck_finding(fs,
			     "%s: %" PRIu64 " bytes are needed, %" PRIu64
			     " are here",
			     path, use->size, (uint64_t)st.st_size);
	if (ql_record_get_object(fs->txn, &use->digest, &rec) < 0)
		fsck_finding(fs, "%s: not in the catalogue", path);
	else if (rec.refs != users)
		fsck_finding(fs, "%s: the catalogue counts %u users of %u",
			     path, rec.refs, users);
}

/* Once the needs are sorted. */
static bool fsck_is_needed(const struct fsck *fs,
			   const struct ql_digest *digest)
{
	struct ql_object_use key = { .digest = *digest };

	return fs->needed.n > 0 &&
	       bsearch(&key, fs->needed.items, fs->needed.n,
		       sizeof(*fs->needed.items), ql_object_use_cmp);
}

/* The sorted list of needs, run by run. */
static void fsck_needed(struct fsck *fs)
{
	size_t i = 0;

	ql_object_set_sort(&fs->must);
	if (fs->needed.n > 0)
		qsort(fs->needed.items, fs->needed.n, sizeof(*fs->needed.items),
		      ql_object_use_cmp);
	while (i < fs->needed.n) {
		const struct ql_object_use *use = &fs->needed.items[i];
		uint32_t users = 0;

		for (; i < fs->needed.n &&
		       ql_object_use_cmp(use, &fs->needed.items[i]) == 0;
		     i++)
			users++;
		fsck_object_needed(fs, use, users);
	}
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
		fsck_finding(fs, "catalogue: an object's record is malformed");
		return 0;
	}
	memcpy(digest.bytes, key, QL_DIGEST_BYTES);
	if (!fsck_is_needed(fs, &digest))
		fsck_finding(fs, "%s: the catalogue counts %u users of 0",
			     ql_object_path(&digest, path), rec.refs);
	return 0;
}

static void fsck_object_file(struct fsck *fs, const char *path,
			     const struct ql_digest *want)
{
	struct ql_error err = QL_ERROR_INIT;
	struct ql_digest have;
	uint64_t size = 0;

	fs->stats.objects++;
	if (ql_file_digest(fs->store->root_fd, path, &have, &size, &err) < 0)
		fsck_finding(fs, "%s", err.text);
	else if (!ql_digest_equal(&have, want))
		fsck_finding(fs, "%s: its content has another digest", path);
	fs->stats.bytes += size;
	if (!fsck_is_needed(fs, want))
		fs->stats.unreferenced++;
}

static int fsck_object_folder(struct fsck *fs, unsigned int i)
{
	char sub[16];
	_cleanup_closedir_ DIR *dir = NULL;
	const struct dirent *d;
	int fd;

	(void)snprintf(sub, sizeof(sub), "objects/%02x", i);
	fd = openat(fs->store->root_fd, sub,
		    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		int code = -errno;

		if (fd >= 0)
			(void)close(fd);
		fsck_finding(fs, "%s: %s", sub, strerror(-code));
		return 0;
	}
	while ((d = readdir(dir))) {
		char path[QL_OBJECT_PATH + 1];
		char hex[QL_DIGEST_HEX + 1];
		struct ql_digest digest;

		if (d->d_name[0] == '.')
			continue;
		if (strlen(d->d_name) != QL_DIGEST_HEX - 2) {
			fsck_finding(fs, "%s/%.80s: no object's name", sub,
				     d->d_name);
			continue;
		}
		(void)snprintf(hex, sizeof(hex), "%02x%.62s", i, d->d_name);
		if (ql_digest_from_hex(hex, &digest) < 0)
			fsck_finding(fs, "%s/%.80s: no object's name", sub,
				     d->d_name);
		else
			fsck_object_file(fs, ql_object_path(&digest, path),
					 &digest);
	}
	return 0;
}

/* ---- the whole ---- */

static int fsck_run(struct fsck *fs, struct ql_error *err)
{
	int r = ql_txn_each(fs->txn, QL_TABLE_LAYERS, fsck_layer, fs, err);

	if (r == 0)
		r = ql_txn_each(fs->txn, QL_TABLE_IMAGES, fsck_image, fs, err);
	if (r == 0)
		r = ql_txn_each(fs->txn, QL_TABLE_NAMES, fsck_name, fs, err);
	if (r == -ENOMEM)
		return ql_error_nomem(err);
	if (r < 0)
		return r;
	fsck_needed(fs);
	/* What a damaged layer needs is not known. */
	if (fs->layers.n == fs->stats.layers)
		r = ql_txn_each(fs->txn, QL_TABLE_OBJECTS, fsck_counted, fs,
				err);
	for (unsigned int i = 0; i < 256 && r == 0; i++)
		r = fsck_object_folder(fs, i);
	return r;
}

int ql_store_fsck(struct ql_store *store, ql_fsck_fn *report, void *arg,
		  struct ql_fsck_stats *ret_stats, struct ql_error *err)
{
	struct fsck fs = { .store = store, .report = report, .arg = arg };
	_cleanup_close_ int lock = -1;
	int r = ql_store_lock(store, true, &lock, err);

	if (r == 0)
		r = ql_txn_begin(store->catalog, false, &fs.txn, err);
	if (r == 0)
		r = fsck_run(&fs, err);
	ql_txn_abort(fs.txn);
	ql_object_set_release(&fs.needed);
	ql_object_set_release(&fs.must);
	ql_object_set_release(&fs.layers);
	if (r == 0)
		*ret_stats = fs.stats;
	return r;
}
