/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects that come piece by piece: a sparse file in partial/, and in the
 * catalogue what of it is there:
 *
 *   partials  object digest -> u64 size, then u64 start, u64 end of each part
 *
 * A part is recorded only after it was verified (by the caller) and made
 * durable (here).  A record whose file is gone or of another size counts for
 * nothing.  The file's lock (flock) makes one process its only writer.
 */
#include "store/store-private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

enum {
	PARTIAL_PARTS_MAX = 1 << 16,
	PARTIAL_RECORD_MAX = 8 + 16 * PARTIAL_PARTS_MAX,
	PARTIAL_PATH = 80
};

static char *partial_path(const struct ql_digest *digest,
			  char buf[PARTIAL_PATH])
{
	char hex[QL_DIGEST_HEX + 1];

	(void)snprintf(buf, PARTIAL_PATH, "partial/%s.part",
		       ql_digest_hex(digest, hex));
	return buf;
}

/* ---- records ---- */

static int partial_parse(const void *value, size_t len, uint64_t size,
			 struct ql_extents *ret)
{
	struct ql_extents e = { 0 };
	struct ql_cursor c;
	int r = 0;

	ql_cursor_init(&c, value, len);
	if (ql_cursor_le64(&c) != size)
		return 0;
	while (r == 0 && !c.bad && ql_cursor_left(&c) > 0) {
		uint64_t start = ql_cursor_le64(&c);
		uint64_t end = ql_cursor_le64(&c);

		if (c.bad || start >= end || end > size)
			r = -EBADMSG;
		else
			r = ql_extents_add(&e, start, end);
	}
	if (r < 0)
		ql_extents_release(&e);
	else
		*ret = e;
	return r;
}

/* The value is borrowed from *ret_txn, which the caller ends, also on failure.
 * -ENOENT (not described): there is no record. */
static int partial_get(struct ql_store *store, const struct ql_digest *digest,
		       struct ql_txn **ret_txn, const void **ret_value,
		       size_t *ret_len, struct ql_error *err)
{
	int r = ql_txn_begin(store->catalog, false, ret_txn, err);

	return r < 0 ? r
		     : ql_txn_get(*ret_txn, QL_TABLE_PARTIALS, digest->bytes,
				  QL_DIGEST_BYTES, ret_value, ret_len);
}

static int partial_load(struct ql_store *store, const struct ql_digest *digest,
			uint64_t size, struct ql_extents *ret,
			struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	const void *value;
	size_t len;
	int r = partial_get(store, digest, &txn, &value, &len, err);

	if (r == 0)
		r = partial_parse(value, len, size, ret);
	if (r == -ENOMEM)
		return ql_error_nomem(err);
	return r == -ENOENT || r == -EBADMSG ? 0 : r;
}

static int partial_save(struct ql_txn *txn, const struct ql_partial_state *p,
			uint64_t size, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(PARTIAL_RECORD_MAX);
	size_t n = p->extents->n;
	int r = ql_buf_add_le64(&buf, size);

	/* What a record has no room for is fetched again. */
	if (n > PARTIAL_PARTS_MAX)
		n = PARTIAL_PARTS_MAX;
	for (size_t i = 0; i < n && r == 0; i++) {
		r = ql_buf_add_le64(&buf, p->extents->items[i].start);
		if (r == 0)
			r = ql_buf_add_le64(&buf, p->extents->items[i].end);
	}
	if (r < 0)
		return ql_error_errno(err, r, "record of a partial file");
	return ql_txn_put(txn, QL_TABLE_PARTIALS, p->digest.bytes,
			  QL_DIGEST_BYTES, buf.data, buf.len, err);
}

static int partial_forget(struct ql_txn *txn, const struct ql_digest *digest,
			  struct ql_error *err)
{
	int r = ql_txn_del(txn, QL_TABLE_PARTIALS, digest->bytes,
			   QL_DIGEST_BYTES, err);

	return r == -ENOENT ? 0 : r;
}

/* In a transaction of its own, where there is one. */
static int partial_forget_one(struct ql_store *store,
			      const struct ql_digest *digest,
			      struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	const void *value;
	size_t len;
	int r = partial_get(store, digest, &txn, &value, &len, err);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	ql_txn_abort(ql_take_ptr(txn));
	r = ql_txn_begin(store->catalog, true, &txn, err);
	if (r == 0)
		r = partial_forget(txn, digest, err);
	return r < 0 ? r : ql_txn_commit(ql_take_ptr(txn), err);
}

/* ---- files ---- */

bool ql_object_here(const struct ql_store *store,
		    const struct ql_digest *digest)
{
	return ql_object_exists(store, digest);
}

int ql_object_scratch(const struct ql_store *store,
		      const struct ql_digest *digest, int *ret_fd,
		      struct ql_error *err)
{
	return ql_object_create(store, digest, ret_fd, err);
}

/* Empties the file, and gives it its size.  A record of what stood in a former
 * one goes first: it would be believed as soon as the size fits. */
static int partial_begin(struct ql_store *store, const struct ql_digest *digest,
			 int fd, uint64_t size, struct ql_error *err)
{
	int r = partial_forget_one(store, digest, err);
	struct stat st = { 0 };

	if (r < 0)
		return r;
	ql_space_free_begin(store);
	if (fstat(fd, &st) < 0 || ftruncate(fd, 0) < 0 ||
	    ftruncate(fd, (off_t)size) < 0)
		r = -errno;
	ql_space_free_end(store, r < 0 ? 0 : (uint64_t)st.st_blocks * 512);
	return r < 0 ? ql_error_errno(err, r, "a partial file in %s",
				      store->root)
		     : 0;
}

int ql_partial_open(struct ql_store *store, const struct ql_digest *digest,
		    uint64_t size, int *ret_fd, struct ql_extents *ret_extents,
		    struct ql_error *err)
{
	char path[PARTIAL_PATH];
	_cleanup_close_ int fd =
		openat(store->root_fd, partial_path(digest, path),
		       O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0444);
	struct ql_extents extents = { 0 };
	struct stat st, named;
	int r = 0;

	if (fd < 0)
		return ql_error_errno(err, -errno, "%s/%s", store->root, path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK
			       ? -EBUSY
			       : ql_error_errno(err, -errno, "lock %s/%s",
						store->root, path);
	/* Another process may have finished it in between. */
	if (fstat(fd, &st) < 0 ||
	    fstatat(store->root_fd, path, &named, AT_SYMLINK_NOFOLLOW) < 0 ||
	    named.st_ino != st.st_ino)
		return -EBUSY;
	if ((uint64_t)st.st_size == size)
		r = partial_load(store, digest, size, &extents, err);
	else
		r = partial_begin(store, digest, fd, size, err);
	if (r < 0)
		return r;
	*ret_fd = ql_take_fd(&fd);
	*ret_extents = extents;
	return 0;
}

uint64_t ql_partial_unlink(struct ql_store *store,
			   const struct ql_digest *digest)
{
	char path[PARTIAL_PATH];
	uint64_t bytes = 0;

	return ql_space_unlink(store, partial_path(digest, path), &bytes) < 0
		       ? 0
		       : bytes;
}

uint64_t ql_partial_disk(const struct ql_store *store,
			 const struct ql_digest *digest)
{
	char path[PARTIAL_PATH];
	struct stat st;

	return fstatat(store->root_fd, partial_path(digest, path), &st,
		       AT_SYMLINK_NOFOLLOW) < 0
		       ? 0
		       : (uint64_t)st.st_blocks * 512;
}

int ql_partial_extents(struct ql_store *store, const struct ql_digest *digest,
		       uint64_t size, struct ql_extents *ret_extents)
{
	char path[PARTIAL_PATH];
	struct stat st;

	if (fstatat(store->root_fd, partial_path(digest, path), &st, 0) < 0 ||
	    (uint64_t)st.st_size != size)
		return -ENOENT;
	return partial_load(store, digest, size, ret_extents, NULL);
}

/* Who begins the file anew in this very moment takes what the record says: so
 * whoever reads for others leaves it to them to verify. */
int ql_partial_look(struct ql_store *store, const struct ql_digest *digest,
		    int *ret_fd, uint64_t *ret_size,
		    struct ql_extents *ret_extents, struct ql_error *err)
{
	char path[PARTIAL_PATH];
	_cleanup_close_ int fd = openat(store->root_fd,
					partial_path(digest, path),
					O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;
	int r;

	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0 || fstat(fd, &st) < 0)
		return ql_error_errno(err, -errno, "%s/%s", store->root, path);
	r = partial_load(store, digest, (uint64_t)st.st_size, ret_extents, err);
	if (r < 0)
		return r;
	*ret_size = (uint64_t)st.st_size;
	*ret_fd = ql_take_fd(&fd);
	return 0;
}

uint64_t ql_partial_bytes(struct ql_store *store,
			  const struct ql_digest *digest)
{
	struct ql_extents e = { 0 };
	char path[PARTIAL_PATH];
	struct stat st;
	uint64_t n = 0;

	if (fstatat(store->root_fd, partial_path(digest, path), &st, 0) == 0 &&
	    partial_load(store, digest, (uint64_t)st.st_size, &e, NULL) == 0)
		n = ql_extents_bytes(&e);
	ql_extents_release(&e);
	return n;
}

/* ---- settling ---- */

/* An image may have been removed while its files came. */
static bool is_needed(struct ql_txn *txn, const struct ql_digest *digest)
{
	struct ql_object_record rec;

	return ql_record_get_object(txn, digest, &rec) != -ENOENT;
}

/* What was taken for a file that has a name: its blocks now count by it. */
static void settle_space(struct ql_store *store, int fd,
			 struct ql_space_share *space)
{
	uint64_t blocks;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return;
	blocks = (uint64_t)st.st_blocks * 512;
	ql_space_done(store, space->taken,
		      blocks > space->named ? blocks - space->named : 0);
	space->taken = 0;
	if (blocks > space->named)
		space->named = blocks;
}

static int settle_name(struct ql_store *store, struct ql_object_ready *o,
		       struct ql_txn *txn, struct ql_error *err)
{
	char path[PARTIAL_PATH];
	int r = 0;

	if (o->named)
		settle_space(store, o->fd, &o->space);
	if (is_needed(txn, &o->digest))
		r = ql_object_publish(store, o->fd, &o->digest,
				      o->named ? NULL : &o->space.taken, err);
	/* Removed meanwhile: there is nothing to name, and the others of the
	 * batch do not fail for it. */
	if (r == -ENOENT)
		return 0;
	if (r == 0 && o->named)
		(void)ql_space_unlink(store, partial_path(&o->digest, path),
				      NULL);
	return r;
}

static int settle_names(struct ql_store *store, struct ql_object_ready *ready,
			size_t n, struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	int r = n > 0 ? ql_txn_begin(store->catalog, false, &txn, err) : 0;

	for (size_t i = 0; i < n && r == 0; i++)
		r = settle_name(store, &ready[i], txn, err);
	return r;
}

static int settle_records(struct ql_store *store,
			  const struct ql_object_ready *ready, size_t n_ready,
			  const struct ql_partial_state *partial,
			  size_t n_partial, struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	struct stat st, named;
	int r = ql_txn_begin(store->catalog, true, &txn, err);

	for (size_t i = 0; i < n_ready && r == 0; i++)
		if (ready[i].named)
			r = partial_forget(txn, &ready[i].digest, err);
	for (size_t i = 0; i < n_partial && r == 0; i++) {
		char path[PARTIAL_PATH];

		if (fstat(partial[i].fd, &st) < 0 ||
		    fstatat(store->root_fd,
			    partial_path(&partial[i].digest, path), &named,
			    AT_SYMLINK_NOFOLLOW) < 0 ||
		    named.st_ino != st.st_ino)
			continue; /* finished, or dropped, or another's */
		r = partial_save(txn, &partial[i], (uint64_t)st.st_size, err);
	}
	return r < 0 ? r : ql_txn_commit(ql_take_ptr(txn), err);
}

static bool any_named(const struct ql_object_ready *ready, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (ready[i].named)
			return true;
	return false;
}

int ql_store_settle(struct ql_store *store, struct ql_object_ready *ready,
		    size_t n_ready, struct ql_partial_state *partial,
		    size_t n_partial, struct ql_error *err)
{
	/* Its own, so that no other takes the error of a failed write. */
	_cleanup_close_ int fd =
		openat(store->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (fd < 0 || syncfs(fd) < 0)
		return ql_error_errno(err, -errno, "write to %s", store->root);
	for (size_t i = 0; i < n_partial; i++)
		settle_space(store, partial[i].fd, &partial[i].space);
	r = settle_names(store, ready, n_ready, err);
	if (r == 0 && (n_partial > 0 || any_named(ready, n_ready)))
		r = settle_records(store, ready, n_ready, partial, n_partial,
				   err);
	return r;
}
