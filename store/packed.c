/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parts of blobs as they were received, in sparse files:
 *
 *   packed  blob digest -> u64 size, u64 generation, u64 version, then
 *           u64 start, u64 end of each part
 *   meta    "packed"    -> u64 the last number given out
 *
 * Each change of a record gives it a new version, each removal of a part, be it
 * recorded or not, a new generation, from one counter: a number never comes
 * again, not even where a record goes and is made anew.
 *
 * Order: a part is written, made durable, recorded; and it is crossed out
 * before it is punched.  Whoever writes to a file, punches it, or records what
 * it wrote, holds the file's lock (flock) meanwhile.  Between writing and
 * recording the lock is open.  What was written is recorded only if the
 * generation is as it was: to look for holes would not do, as others write into
 * blocks that were punched.
 */
#include "store/packedset.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	PACKED_RECORD_MAX = 24 + 16 * QL_PACKED_PARTS_MAX,
	OPEN_TRIES = 64, /* the file may go between open and lock */
	BLOCK_MIN = 4096,
	BLOCK_MAX = 1 << 20,
	STAT_BLOCK = 512, /* of st_blocks */
};

char *ql_packed_path(const struct ql_digest *blob, char buf[QL_PACKED_PATH + 1])
{
	char hex[QL_DIGEST_HEX + 1];

	(void)ql_digest_hex(blob, hex);
	(void)snprintf(buf, QL_PACKED_PATH + 1, "packed/%.2s/%s", hex, hex + 2);
	return buf;
}

/* ---- records ---- */

void ql_packed_record_release(struct ql_packed_record *rec)
{
	ql_extents_release(&rec->have);
}

int ql_packed_record_parse(const void *value, size_t len,
			   struct ql_packed_record *ret)
{
	struct ql_packed_record rec = { 0 };
	struct ql_cursor c;
	int r = 0;

	ql_cursor_init(&c, value, len);
	rec.size = ql_cursor_le64(&c);
	rec.generation = ql_cursor_le64(&c);
	rec.version = ql_cursor_le64(&c);
	while (r == 0 && !c.bad && ql_cursor_left(&c) > 0) {
		uint64_t start = ql_cursor_le64(&c);
		uint64_t end = ql_cursor_le64(&c);

		if (c.bad || start >= end || end > rec.size)
			r = -EBADMSG;
		else
			r = ql_extents_add(&rec.have, start, end);
	}
	if (r == 0 && c.bad)
		r = -EBADMSG;
	if (r < 0)
		ql_packed_record_release(&rec);
	else
		*ret = rec;
	return r;
}

int ql_packed_record_get(struct ql_txn *txn, const struct ql_digest *blob,
			 struct ql_packed_record *ret)
{
	const void *value;
	size_t len;
	int r = ql_txn_get(txn, QL_TABLE_PACKED, blob->bytes, QL_DIGEST_BYTES,
			   &value, &len);

	if (r == 0)
		r = ql_packed_record_parse(value, len, ret);
	return r == -EBADMSG ? -ENOENT : r;
}

static int next_number(struct ql_txn *txn, uint64_t *ret, struct ql_error *err)
{
	*ret = ql_meta_number(txn, "packed") + 1;
	return ql_meta_set_number(txn, "packed", *ret, err);
}

/* With a new version; went: something of it did. */
static int record_put(struct ql_txn *txn, const struct ql_digest *blob,
		      struct ql_packed_record *rec, bool went,
		      struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(PACKED_RECORD_MAX);
	size_t n = rec->have.n;
	int r = next_number(txn, &rec->version, err);

	if (r < 0)
		return r;
	if (went)
		rec->generation = rec->version;
	r = ql_buf_add_le64(&buf, rec->size);
	if (r == 0)
		r = ql_buf_add_le64(&buf, rec->generation);
	if (r == 0)
		r = ql_buf_add_le64(&buf, rec->version);
	/* What a record has no room for is fetched again. */
	if (n > QL_PACKED_PARTS_MAX)
		n = QL_PACKED_PARTS_MAX;
	for (size_t i = 0; i < n && r == 0; i++) {
		r = ql_buf_add_le64(&buf, rec->have.items[i].start);
		if (r == 0)
			r = ql_buf_add_le64(&buf, rec->have.items[i].end);
	}
	if (r < 0)
		return ql_error_errno(err, r, "record of a packed blob");
	return ql_txn_put(txn, QL_TABLE_PACKED, blob->bytes, QL_DIGEST_BYTES,
			  buf.data, buf.len, err);
}

static bool record_is_there(struct ql_store *store,
			    const struct ql_digest *blob, uint64_t size,
			    uint64_t *ret_generation)
{
	_cleanup_(ql_packed_record_release) struct ql_packed_record rec = { 0 };
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;

	if (ql_txn_begin(store->catalog, false, &txn, NULL) < 0 ||
	    ql_packed_record_get(txn, blob, &rec) < 0 || rec.size != size)
		return false;
	*ret_generation = rec.generation;
	return true;
}

/* ---- files ---- */

static uint64_t disk_bytes(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? (uint64_t)st.st_blocks * STAT_BLOCK : 0;
}

/* What the filesystem gives and takes at once, or a multiple. */
static uint64_t block_size(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || st.st_blksize < BLOCK_MIN)
		return BLOCK_MIN;
	return st.st_blksize > BLOCK_MAX ? BLOCK_MAX : (uint64_t)st.st_blksize;
}

static int file_error(const struct ql_store *store,
		      const struct ql_digest *blob, struct ql_error *err)
{
	char path[QL_PACKED_PATH + 1];

	return ql_error_errno(err, -errno, "%s/%s", store->root,
			      ql_packed_path(blob, path));
}

/* Opens and locks it.  -ENOENT (not described). */
static int file_open(const struct ql_store *store, const struct ql_digest *blob,
		     bool make, int *ret_fd, struct ql_error *err)
{
	char path[QL_PACKED_PATH + 1];
	struct stat st, named;

	(void)ql_packed_path(blob, path);
	for (int i = 0; i < OPEN_TRIES; i++) {
		_cleanup_close_ int fd = openat(
			store->root_fd, path,
			O_RDWR | O_CLOEXEC | O_NOFOLLOW | (make ? O_CREAT : 0),
			0444);

		if (fd < 0 && errno == ENOENT && make && i == 0) {
			path[QL_PACKED_DIR] = '\0';
			(void)mkdirat(store->root_fd, path, 0755);
			path[QL_PACKED_DIR] = '/';
			continue;
		}
		if (fd < 0 && errno == ENOENT)
			return -ENOENT;
		if (fd < 0)
			return file_error(store, blob, err);
		while (flock(fd, LOCK_EX) < 0)
			if (errno != EINTR)
				return file_error(store, blob, err);
		if (fstat(fd, &st) == 0 &&
		    fstatat(store->root_fd, path, &named,
			    AT_SYMLINK_NOFOLLOW) == 0 &&
		    named.st_ino == st.st_ino) {
			*ret_fd = ql_take_fd(&fd);
			return 0;
		}
	}
	errno = EAGAIN;
	return file_error(store, blob, err);
}

/* With the lock: it has its size and a record; what it was before goes. */
static int file_begin(struct ql_store *store, const struct ql_digest *blob,
		      uint64_t size, int fd, uint64_t *ret_generation,
		      struct ql_error *err)
{
	struct ql_packed_record rec = { .size = size };
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	uint64_t had = disk_bytes(fd);
	struct stat st;
	int r;

	if (fstat(fd, &st) == 0 && (uint64_t)st.st_size == size &&
	    record_is_there(store, blob, size, ret_generation))
		return 0;
	r = ql_txn_begin(store->catalog, true, &txn, err);
	if (r == 0)
		r = record_put(txn, blob, &rec, true, err);
	if (r == 0)
		r = ql_txn_commit(ql_take_ptr(txn), err);
	if (r < 0)
		return r;
	ql_space_free_begin(store);
	r = ftruncate(fd, 0) < 0 || ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
	ql_space_free_end(store, r < 0 ? 0 : had);
	if (r < 0)
		return ql_error_errno(err, r, "a packed file in %s",
				      store->root);
	*ret_generation = rec.generation;
	return 0;
}

/* What can be punched of a part: its whole blocks. */
static struct ql_extent file_blocks(int fd, uint64_t start, uint64_t end)
{
	uint64_t block = block_size(fd);
	struct ql_extent e = { 0 };
	struct stat st;

	if (fstat(fd, &st) < 0)
		return e;
	if (end >= (uint64_t)st.st_size)
		end = (uint64_t)st.st_size + block - 1;
	if (start >= end)
		return e;
	e.start = (start + block - 1) / block * block;
	e.end = end / block * block;
	return e;
}

/* There is something to punch. */
static bool file_has(int fd, uint64_t start, uint64_t end)
{
	struct ql_extent e = file_blocks(fd, start, end);
	off_t data;

	if (e.start >= e.end)
		return false;
	data = lseek(fd, (off_t)e.start, SEEK_DATA);
	return data < 0 ? errno != ENXIO : (uint64_t)data < e.end;
}

static void file_punch(struct ql_store *store, int fd, uint64_t start,
		       uint64_t end)
{
	struct ql_extent e = file_blocks(fd, start, end);
	uint64_t had = disk_bytes(fd), has;

	if (e.start >= e.end)
		return;
	ql_space_free_begin(store);
	(void)fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			(off_t)e.start, (off_t)(e.end - e.start));
	has = disk_bytes(fd);
	ql_space_free_end(store, has < had ? had - has : 0);
}

static int file_write(int fd, const char *data, size_t len, uint64_t at)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, data, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* ---- putting ---- */

/* Of what was taken, what it did not need goes back.  The file has its name
 * already: a count in between would find what is taken, too. */
static int put_data(struct ql_store *store, const struct ql_digest *blob,
		    int fd, const struct ql_extent *at, const void *data,
		    uint64_t taken, struct ql_error *err)
{
	uint64_t had, has;
	int r;

	ql_space_free_begin(store);
	had = disk_bytes(fd);
	r = file_write(fd, data, (size_t)(at->end - at->start), at->start);
	has = disk_bytes(fd);
	ql_space_done(store, taken, has > had ? has - had : 0);
	ql_space_free_end(store, 0);
	if (r < 0) {
		errno = -r;
		return file_error(store, blob, err);
	}
	return 0;
}

int ql_packed_put(struct ql_store *store, const struct ql_digest *blob,
		  uint64_t blob_size, uint64_t offset, const void *data,
		  size_t len, struct ql_error *err)
{
	const struct ql_extent at = { offset, offset + len };
	_cleanup_close_ int fd = -1;
	uint64_t block = block_size(store->root_fd);
	uint64_t taken, generation = 0;
	int r = ql_store_need_write(store, err);

	if (r < 0)
		return r;
	if (offset > blob_size || len > blob_size - offset ||
	    blob_size > INT64_MAX)
		return ql_error_set(err, -EINVAL, "a part outside of its blob");
	if (len == 0)
		return 0;
	/* Before the lock: it may be this very file that makes room. */
	taken = (at.end + block - 1) / block * block - offset / block * block;
	r = ql_space_take(store, taken, err);
	if (r < 0)
		return r;
	r = file_open(store, blob, true, &fd, err);
	if (r == 0)
		r = file_begin(store, blob, blob_size, fd, &generation, err);
	if (r < 0) {
		ql_space_done(store, taken, 0);
		return r == -ENOENT ? file_error(store, blob, err) : r;
	}
	r = put_data(store, blob, fd, &at, data, taken, err);
	if (r == 0)
		r = ql_packed_known_add(store, blob, blob_size, generation,
					&at);
	return r == -ENOMEM ? ql_error_nomem(err) : r;
}

/* ---- settling ---- */

static int settle_record(struct ql_store *store, const struct ql_digest *blob,
			 const struct ql_packed_put *put, struct ql_error *err)
{
	_cleanup_(ql_packed_record_release) struct ql_packed_record rec = { 0 };
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	int r = ql_txn_begin(store->catalog, true, &txn, err);

	if (r < 0)
		return r;
	r = ql_packed_record_get(txn, blob, &rec);
	if (r == -ENOENT || (r == 0 && (rec.size != put->size ||
					rec.generation != put->generation)))
		return 0; /* another has taken of it, or all */
	for (size_t i = 0; i < put->parts.n && r == 0; i++)
		r = ql_extents_add(&rec.have, put->parts.items[i].start,
				   put->parts.items[i].end);
	if (r < 0)
		return ql_error_errno(err, r, "record of a packed blob");
	r = record_put(txn, blob, &rec, false, err);
	return r < 0 ? r : ql_txn_commit(ql_take_ptr(txn), err);
}

static int settle_blob(struct ql_store *store, const struct ql_digest *blob,
		       struct ql_error *err)
{
	struct ql_packed_put put = { 0 };
	_cleanup_close_ int fd = -1;
	int r = file_open(store, blob, false, &fd, err);

	if (r < 0 && r != -ENOENT)
		return r;
	/* Without a file it was dropped. */
	if (r == 0 && ql_packed_known_put(store, blob, &put) < 0)
		return ql_error_nomem(err);
	r = put.parts.n > 0 ? settle_record(store, blob, &put, err) : 0;
	ql_extents_release(&put.parts);
	if (r == 0)
		ql_packed_known_settled(store, blob);
	return r;
}

int ql_packed_settle(struct ql_store *store, struct ql_error *err)
{
	struct ql_digest *blobs = NULL;
	size_t n = 0;
	int r = ql_packed_settle_begin(store, &blobs, &n);

	if (r < 0)
		return ql_error_nomem(err);
	if (n > 0 && syncfs(store->root_fd) < 0)
		r = ql_error_errno(err, -errno, "write to %s", store->root);
	for (size_t i = 0; i < n && r == 0; i++)
		r = settle_blob(store, &blobs[i], err);
	ql_packed_settle_end(store);
	free(blobs);
	return r;
}

/* ---- taking away ---- */

static bool any_of(const struct ql_extents *e, uint64_t start, uint64_t end)
{
	for (size_t i = 0; i < e->n && e->items[i].start < end; i++)
		if (e->items[i].end > start)
			return true;
	return false;
}

/* With the file's lock, where there is a file: crosses a part out, and tells
 * others that something of the file goes. */
static int punch_record(struct ql_store *store, const struct ql_digest *blob,
			int fd, uint64_t start, uint64_t end,
			struct ql_error *err)
{
	_cleanup_(ql_packed_record_release) struct ql_packed_record rec = { 0 };
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	uint64_t was;
	int r = ql_txn_begin(store->catalog, true, &txn, err);

	if (r < 0)
		return r;
	r = ql_packed_record_get(txn, blob, &rec);
	was = rec.generation;
	if (r == -ENOENT || (r == 0 && !any_of(&rec.have, start, end) &&
			     (fd < 0 || !file_has(fd, start, end)))) {
		ql_packed_known_cut(store, blob, start, end, was, was);
		return 0;
	}
	if (r == 0)
		r = ql_extents_cut(&rec.have, start, end);
	if (r < 0)
		return ql_error_errno(err, r, "record of a packed blob");
	r = record_put(txn, blob, &rec, true, err);
	if (r < 0)
		return r;
	/* Before others can see it, and this process's own puts with them. */
	ql_packed_known_cut(store, blob, start, end, was, rec.generation);
	r = ql_txn_commit(ql_take_ptr(txn), err);
	if (r < 0)
		ql_packed_known_cut(store, blob, 0, UINT64_MAX, 0, 0);
	return r;
}

int ql_packed_punch(struct ql_store *store, const struct ql_digest *blob,
		    uint64_t offset, uint64_t len, struct ql_error *err)
{
	_cleanup_close_ int fd = -1;
	uint64_t end;
	int r = ql_store_need_write(store, err);

	if (__builtin_add_overflow(offset, len, &end))
		end = UINT64_MAX;
	if (r == 0)
		r = file_open(store, blob, false, &fd, err);
	if (r < 0 && r != -ENOENT)
		return r;
	r = punch_record(store, blob, fd, offset, end, err);
	if (r == 0 && fd >= 0)
		file_punch(store, fd, offset, end);
	return r;
}

static int drop_record(struct ql_store *store, const struct ql_digest *blob,
		       struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	int r = ql_txn_begin(store->catalog, true, &txn, err);

	if (r == 0)
		r = ql_txn_del(txn, QL_TABLE_PACKED, blob->bytes,
			       QL_DIGEST_BYTES, err);
	if (r == -ENOENT)
		return 0;
	return r < 0 ? r : ql_txn_commit(ql_take_ptr(txn), err);
}

/* With the file's lock, if there is one (fd; else -1). */
static int drop_file(struct ql_store *store, const struct ql_digest *blob,
		     int fd, struct ql_error *err)
{
	char path[QL_PACKED_PATH + 1];
	int r = drop_record(store, blob, err);

	if (r < 0)
		return r;
	ql_packed_known_cut(store, blob, 0, UINT64_MAX, 0, 0);
	if (fd < 0)
		return 0;
	r = ql_space_unlink(store, ql_packed_path(blob, path), NULL);
	return r < 0 && r != -ENOENT
		       ? ql_error_errno(err, r, "%s/%s", store->root, path)
		       : 0;
}

int ql_packed_drop(struct ql_store *store, const struct ql_digest *blob,
		   struct ql_error *err)
{
	_cleanup_close_ int fd = -1;
	int r = ql_store_need_write(store, err);

	if (r == 0)
		r = file_open(store, blob, false, &fd, err);
	return r < 0 && r != -ENOENT ? r : drop_file(store, blob, fd, err);
}

/* What is recorded, and what this process has put.  -ENOENT: no record of a
 * file of that size. */
static int trim_keeps(struct ql_store *store, const struct ql_digest *blob,
		      uint64_t size, struct ql_packed_record *rec,
		      struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	int r = ql_txn_begin(store->catalog, false, &txn, err);

	if (r < 0)
		return r;
	r = ql_packed_record_get(txn, blob, rec);
	if (r == 0 && rec->size != size)
		r = -ENOENT;
	if (r == 0)
		r = ql_packed_known_copy(store, blob, rec->generation,
					 &rec->have);
	return r < 0 && r != -ENOENT ? ql_error_errno(err, r, "catalogue") : r;
}

/* The next place between two parts (from before the *i-th on) that has
 * something to punch. */
static bool next_gap(int fd, const struct ql_packed_record *rec, size_t *i,
		     struct ql_extent *ret_gap)
{
	const struct ql_extents *e = &rec->have;

	for (; *i <= e->n; ++*i) {
		ret_gap->start = *i > 0 ? e->items[*i - 1].end : 0;
		ret_gap->end = *i < e->n ? e->items[*i].start : rec->size;
		if (file_has(fd, ret_gap->start, ret_gap->end)) {
			++*i;
			return true;
		}
	}
	return false;
}

int ql_packed_trim(struct ql_store *store, const struct ql_digest *blob,
		   struct ql_error *err)
{
	_cleanup_(ql_packed_record_release) struct ql_packed_record rec = { 0 };
	_cleanup_close_ int fd = -1;
	struct ql_extent gap;
	struct stat st;
	bool told = false;
	size_t i = 0;
	int r = file_open(store, blob, false, &fd, err);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (fstat(fd, &st) < 0)
		return file_error(store, blob, err);
	r = trim_keeps(store, blob, (uint64_t)st.st_size, &rec, err);
	if (r < 0)
		return r == -ENOENT ? drop_file(store, blob, fd, err) : r;
	/* To tell others of the first is to tell them of all. */
	while (r == 0 && next_gap(fd, &rec, &i, &gap)) {
		if (!told)
			r = punch_record(store, blob, fd, gap.start, gap.end,
					 err);
		told = true;
		if (r == 0)
			file_punch(store, fd, gap.start, gap.end);
	}
	return r;
}

/* ---- what is there ---- */

uint64_t ql_packed_bytes(struct ql_store *store, const struct ql_digest *blob)
{
	char path[QL_PACKED_PATH + 1];
	struct stat st;

	if (fstatat(store->root_fd, ql_packed_path(blob, path), &st,
		    AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	return (uint64_t)st.st_blocks * STAT_BLOCK;
}

static int each_in(struct ql_store *store, const char *sub, ql_packed_fn *fn,
		   void *arg)
{
	_cleanup_free_ char *path = ql_strf("packed/%s", sub);
	int fd = path ? openat(store->root_fd, path,
			       O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
		      : -1;
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *d;
	int r = 0;

	if (!dir) {
		if (fd >= 0)
			(void)close(fd);
		return path ? 0 : -ENOMEM;
	}
	while (r == 0 && (d = readdir(dir))) {
		char hex[QL_DIGEST_HEX + 1];
		struct ql_digest blob;

		if (snprintf(hex, sizeof(hex), "%s%s", sub, d->d_name) ==
			    QL_DIGEST_HEX &&
		    ql_digest_from_hex(hex, &blob) == 0)
			r = fn(&blob, ql_packed_bytes(store, &blob), arg);
	}
	(void)closedir(dir);
	return r;
}

int ql_packed_each(struct ql_store *store, ql_packed_fn *fn, void *arg,
		   struct ql_error *err)
{
	char sub[3];
	int r = 0;

	for (unsigned int i = 0; i < 256 && r == 0; i++) {
		(void)snprintf(sub, sizeof(sub), "%02x", i);
		r = each_in(store, sub, fn, arg);
	}
	return r == -ENOMEM ? ql_error_nomem(err) : r;
}
