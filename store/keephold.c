/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may not go: pinned, promised, in use, or not yet anybody's.
 *
 * Use is a lock on a file (flock): on an image's tree, which whoever opens it
 * shares, and on a layer's, which a pull shares that counts on it, and who
 * shows it alone.  The eviction tries to have the file for itself, and keeps
 * it until all is done.
 *
 * A promise ends by the clock:
 *
 *   promises  manifest digest -> u64 until, u64 made (s since the epoch),
 *             u64 made (s since the machine was started), boot ID (16 bytes)
 *
 * As long as the machine runs on, a promise lasts as many seconds as it was
 * made for, however the wall clock is set meanwhile.  After a restart the wall
 * clock tells; where it says more than the promise was made for, it was set
 * back, and the promise begins anew then, once.  So it never lasts longer than
 * QL_PROMISE_MAX after the last restart, and no jump ends it.
 */
#include "store/keep-private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

enum { BOOT_ID = 16, PROMISE_RECORD = 3 * 8 + BOOT_ID };

/* ---- locks ---- */

int ql_keep_lock(struct ql_store *store, int *ret_fd, struct ql_error *err)
{
	int flags = store->writable ? O_RDWR | O_CREAT : O_RDONLY;
	_cleanup_close_ int fd =
		openat(store->root_fd, "keep.lock", flags | O_CLOEXEC, 0644);

	/* Nobody has evicted yet, or who reads may not say that he looks. */
	if (fd < 0 && !store->writable && (errno == ENOENT || errno == EACCES))
		return 0;
	if (fd < 0)
		return ql_error_errno(err, -errno, "open %s/keep.lock",
				      store->root);
	while (flock(fd, LOCK_EX) < 0)
		if (errno != EINTR)
			return ql_error_errno(err, -errno, "lock %s/keep.lock",
					      store->root);
	*ret_fd = ql_take_fd(&fd);
	return 0;
}

int ql_keep_lock_try(const struct ql_store *store, int *ret_fd)
{
	_cleanup_close_ int fd = openat(store->root_fd, "keep.lock",
					O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	*ret_fd = ql_take_fd(&fd);
	return 0;
}

/* -EBUSY, -ENOENT: not described, for they are no errors. */
static int lock_file(const struct ql_store *store, const char *path, int op,
		     int *ret_fd, struct ql_error *err)
{
	_cleanup_close_ int fd =
		openat(store->root_fd, path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return errno == ENOENT
			       ? -ENOENT
			       : ql_error_errno(err, -errno, "open %s/%s",
						store->root, path);
	while (flock(fd, op) < 0)
		if (errno == EWOULDBLOCK)
			return -EBUSY;
		else if (errno != EINTR)
			return ql_error_errno(err, -errno, "lock %s/%s",
					      store->root, path);
	if (fstat(fd, &st) < 0)
		return ql_error_errno(err, -errno, "%s/%s", store->root, path);
	if (st.st_nlink == 0)
		return -ENOENT;
	*ret_fd = ql_take_fd(&fd);
	return 0;
}

int ql_keep_lock_image(struct ql_keep_map *map, struct ql_keep_image *image,
		       struct ql_error *err)
{
	char path[QL_CFS_PATH];
	int r;

	if (image->fd >= 0)
		return 0;
	r = lock_file(map->store,
		      ql_cfs_path("images", &image->info.manifest, path),
		      LOCK_EX | LOCK_NB, &image->fd, err);
	/* Without a tree nobody has it open either. */
	return r == -ENOENT ? 0 : r;
}

int ql_image_hold(const struct ql_store *store,
		  const struct ql_digest *manifest, int *ret_fd)
{
	char path[QL_CFS_PATH];

	return lock_file(store, ql_cfs_path("images", manifest, path), LOCK_SH,
			 ret_fd, NULL);
}

int ql_layer_hold(const struct ql_store *store, const struct ql_digest *diff_id,
		  int *ret_fd)
{
	char path[QL_CFS_PATH];

	return lock_file(store, ql_layer_path(diff_id, path), LOCK_SH, ret_fd,
			 NULL);
}

int ql_keep_lock_layer(const struct ql_store *store,
		       const struct ql_digest *diff_id, int *ret_fd,
		       struct ql_error *err)
{
	char path[QL_CFS_PATH];
	int r = lock_file(store, ql_layer_path(diff_id, path),
			  LOCK_EX | LOCK_NB, ret_fd, err);

	return r == -ENOENT ? 0 : r;
}

/* ---- promises ---- */

struct promise {
	uint64_t until, made; /* s since the epoch */
	uint64_t made_boot;   /* s since the machine was started */
	uint8_t boot[BOOT_ID];
};

static uint64_t clock_seconds(clockid_t id)
{
	struct timespec ts = { 0 };

	(void)clock_gettime(id, &ts);
	return ts.tv_sec > 0 ? (uint64_t)ts.tv_sec : 0;
}

static void read_boot(uint8_t boot[BOOT_ID])
{
	_cleanup_close_ int fd =
		open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	char text[64] = { 0 };
	size_t n = 0;

	memset(boot, 0, BOOT_ID);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		return;
	for (const char *p = text; *p && n < 2 * BOOT_ID; p++) {
		const char *digits = "0123456789abcdef";
		const char *at = strchr(digits, *p);

		if (!at)
			continue;
		boot[n / 2] = (uint8_t)((boot[n / 2] << 4) | (at - digits));
		n++;
	}
}

static int promise_parse(const void *value, size_t len, struct promise *ret)
{
	struct promise p = { 0 };
	const uint8_t *boot;
	struct ql_cursor c;

	ql_cursor_init(&c, value, len);
	p.until = ql_cursor_le64(&c);
	p.made = ql_cursor_le64(&c);
	p.made_boot = ql_cursor_le64(&c);
	boot = ql_cursor_bytes(&c, BOOT_ID);
	if (!boot || ql_cursor_left(&c) > 0 || p.until < p.made)
		return -EBADMSG;
	if (p.until - p.made > QL_PROMISE_MAX)
		p.until = p.made + QL_PROMISE_MAX;
	memcpy(p.boot, boot, BOOT_ID);
	*ret = p;
	return 0;
}

static int promise_put(struct ql_txn *txn, const struct ql_digest *manifest,
		       const struct promise *p, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(PROMISE_RECORD);
	int r = ql_buf_add_le64(&buf, p->until);

	if (r == 0)
		r = ql_buf_add_le64(&buf, p->made);
	if (r == 0)
		r = ql_buf_add_le64(&buf, p->made_boot);
	if (r == 0)
		r = ql_buf_add(&buf, p->boot, BOOT_ID);
	if (r < 0)
		return ql_error_nomem(err);
	return ql_txn_put(txn, QL_TABLE_PROMISES, manifest->bytes,
			  QL_DIGEST_BYTES, buf.data, buf.len, err);
}

/* This moment, by its three clocks. */
static struct promise now(void)
{
	struct promise p = { .made = clock_seconds(CLOCK_REALTIME),
			     .made_boot = clock_seconds(CLOCK_BOOTTIME) };

	read_boot(p.boot);
	return p;
}

uint64_t ql_promise_left(uint64_t until, uint64_t made, uint64_t age,
			 bool same_boot, uint64_t wall)
{
	uint64_t length = until - made;

	if (same_boot)
		return age < length ? length - age : 0;
	if (wall >= until)
		return 0;
	/* The clock was set back. */
	return until - wall > length ? length : until - wall;
}

static uint64_t promise_left(const struct promise *p, const struct promise *at)
{
	bool same = memcmp(p->boot, at->boot, BOOT_ID) == 0 &&
		    at->made_boot >= p->made_boot;

	return ql_promise_left(p->until, p->made, at->made_boot - p->made_boot,
			       same, at->made);
}

static int promise_get(struct ql_txn *txn, const struct ql_digest *manifest,
		       struct promise *ret)
{
	const void *value;
	size_t len;
	int r = ql_txn_get(txn, QL_TABLE_PROMISES, manifest->bytes,
			   QL_DIGEST_BYTES, &value, &len);

	return r < 0 ? r : promise_parse(value, len, ret);
}

bool ql_keep_is_promised(struct ql_txn *txn, const struct ql_digest *manifest)
{
	struct promise p, at;

	if (promise_get(txn, manifest, &p) < 0)
		return false;
	at = now();
	return promise_left(&p, &at) > 0;
}

int ql_image_promised(struct ql_store *store, const struct ql_digest *manifest,
		      uint64_t *ret_until, struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	struct promise p, at = now();
	uint64_t left = 0;
	int r = ql_txn_begin(store->catalog, false, &txn, err);

	if (r < 0)
		return r;
	if (promise_get(txn, manifest, &p) == 0)
		left = promise_left(&p, &at);
	*ret_until = left ? at.made + left : 0;
	return 0;
}

int ql_image_promise(struct ql_store *store, const struct ql_digest *manifest,
		     uint64_t until, struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	struct promise p = now();
	int r = ql_store_need_write(store, err);

	if (r == 0 && until > p.made && until - p.made > QL_PROMISE_MAX)
		return ql_error_set(err, -ERANGE,
				    "a promise lasts %d days at most",
				    QL_PROMISE_MAX / (24 * 3600));
	if (r == 0)
		r = ql_txn_begin(store->catalog, true, &txn, err);
	if (r < 0)
		return r;
	r = ql_record_get_image(txn, manifest, &info);
	if (r == -ENOENT)
		return ql_error_set(err, r, "no such image");
	if (r < 0)
		return ql_error_errno(err, r, "the image's record");
	p.until = until;
	if (until > p.made)
		r = promise_put(txn, manifest, &p, err);
	else
		r = ql_txn_del(txn, QL_TABLE_PROMISES, manifest->bytes,
			       QL_DIGEST_BYTES, err);
	if (r < 0 && r != -ENOENT)
		return r;
	return ql_txn_commit(ql_take_ptr(txn), err);
}

/* ---- promises over time ---- */

struct mending {
	struct ql_object_set ended; /* owned: manifests */
	struct ql_object_set
		restart; /* owned: likewise; size: s that are left */
	struct promise at;
	struct ql_error *err; /* borrowed */
};

static int mend_look(const void *key, size_t key_len, const void *value,
		     size_t len, void *arg)
{
	struct mending *m = arg;
	struct ql_digest manifest;
	struct promise p;
	uint64_t left = 0;
	int r = 0;

	if (key_len != QL_DIGEST_BYTES)
		return 0;
	memcpy(manifest.bytes, key, QL_DIGEST_BYTES);
	if (promise_parse(value, len, &p) == 0)
		left = promise_left(&p, &m->at);
	if (left == 0)
		r = ql_object_set_add(&m->ended, &manifest, 0);
	else if (memcmp(p.boot, m->at.boot, BOOT_ID) != 0)
		r = ql_object_set_add(&m->restart, &manifest, left);
	return r < 0 ? ql_error_nomem(m->err) : 0;
}

static int mend_write(struct mending *m, struct ql_txn *txn,
		      struct ql_error *err)
{
	int r = 0;

	for (size_t i = 0; i < m->ended.n && r == 0; i++)
		r = ql_txn_del(txn, QL_TABLE_PROMISES,
			       m->ended.items[i].digest.bytes, QL_DIGEST_BYTES,
			       err);
	for (size_t i = 0; i < m->restart.n && r == 0; i++) {
		struct promise p = m->at;

		p.until = p.made + m->restart.items[i].size;
		r = promise_put(txn, &m->restart.items[i].digest, &p, err);
	}
	if (m->ended.n + m->restart.n > 0)
		ql_debug("msg=\"promises\" ended=%zu since_restart=%zu",
			 m->ended.n, m->restart.n);
	return r;
}

int ql_promises_mend(struct ql_txn *txn, struct ql_error *err)
{
	struct mending m = { .at = now(), .err = err };
	int r = ql_txn_each(txn, QL_TABLE_PROMISES, mend_look, &m, err);

	if (r == 0)
		r = mend_write(&m, txn, err);
	ql_object_set_release(&m.ended);
	ql_object_set_release(&m.restart);
	return r;
}

/* ---- holds ---- */

static int image_hold(struct ql_keep_map *map, struct ql_keep_image *image,
		      struct ql_txn *txn, struct ql_error *err)
{
	int r;

	image->hold = QL_HOLD_PINNED;
	if (image->info.flags & QL_IMAGE_PINNED)
		return 0;
	r = ql_keep_lock_image(map, image, err);
	if (r < 0) {
		image->hold = QL_HOLD_MOUNTED;
		return r == -EBUSY ? 0 : r;
	}
	if (image->fd >= 0)
		(void)close(ql_take_fd(&image->fd));
	image->hold = ql_keep_is_promised(txn, &image->info.manifest)
			      ? QL_HOLD_PROMISED
			      : QL_HOLD_NONE;
	return 0;
}

static int unit_hold(const struct ql_keep_map *map, struct ql_keep_unit *unit,
		     struct ql_error *err)
{
	_cleanup_close_ int fd = -1;
	enum ql_keep_hold hold = QL_HOLDS;
	int r = 0;

	for (uint32_t i = 0; i < unit->n_images; i++) {
		enum ql_keep_hold h = map->images[unit->images[i]].hold;

		if (h != QL_HOLD_NONE && h < hold)
			hold = h;
	}
	if (hold == QL_HOLDS && unit->n_images == 0) {
		hold = QL_HOLD_FLIGHT;
	} else if (hold == QL_HOLDS) {
		if (!unit->is_image)
			r = ql_keep_lock_layer(map->store, &unit->digest, &fd,
					       err);
		hold = r == -EBUSY ? QL_HOLD_FLIGHT : QL_HOLD_NONE;
	}
	unit->hold = hold;
	return r == -EBUSY ? 0 : r;
}

int ql_keep_holds(struct ql_keep_map *map, struct ql_txn *txn,
		  struct ql_error *err)
{
	int r = 0;

	for (size_t i = 0; i < map->n_images && r == 0; i++)
		r = image_hold(map, &map->images[i], txn, err);
	for (size_t i = 0; i < map->n_units && r == 0; i++)
		r = unit_hold(map, &map->units[i], err);
	return r;
}
