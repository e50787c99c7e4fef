/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading content to see whether it still is what its name says, at a rate.
 *
 * With a rate, who reads does not want the content but to know what the disk
 * has: it is read by O_DIRECT, so that rot below the page cache is seen and
 * what others have read stays in the cache.
 */
#include "store/store-private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

enum {
	BUFFER = 1 << 20,
	BUFFER_LEAST = 4 << 10, /* what O_DIRECT may want */
	SLICE_MS = 50,		/* how often a wait looks whether to stop */
	LATE_MS = 200,		/* more than so much is not made up for */
	STEPS = 20,		/* reads a second, about */
};
#define MS ((uint64_t)1000000)

static bool is_stopped(const atomic_bool *stop)
{
	return stop && atomic_load(stop);
}

static void sleep_ns(uint64_t ns)
{
	struct timespec ts = { (time_t)(ns / 1000000000),
			       (long)(ns % 1000000000) };

	(void)nanosleep(&ts, NULL);
}

/* ---- the rate ---- */

int ql_pace_wait(struct ql_pace *pace, uint64_t bytes)
{
	uint64_t now = ql_now_ns();

	if (is_stopped(pace->stop))
		return -ECANCELED;
	if (pace->rate == 0)
		return 0;
	if (pace->at == 0 || pace->at + LATE_MS * MS < now)
		pace->at = now;
	pace->at += (uint64_t)((double)bytes * 1e9 / (double)pace->rate);
	while ((now = ql_now_ns()) < pace->at) {
		uint64_t left = pace->at - now;

		if (is_stopped(pace->stop))
			return -ECANCELED;
		sleep_ns(left < SLICE_MS * MS ? left : SLICE_MS * MS);
	}
	return 0;
}

/* Small enough for the rate to be even. */
static size_t pace_step(const struct ql_pace *pace)
{
	uint64_t step = pace->rate / STEPS / BUFFER_LEAST * BUFFER_LEAST;

	if (pace->rate == 0 || step > BUFFER)
		return BUFFER;
	return step < BUFFER_LEAST ? BUFFER_LEAST : (size_t)step;
}

/* ---- one file ---- */

struct reading {
	int fd; /* owned */
	uint64_t size;
	char *buf;	      /* owned */
	struct ql_hasher *h;  /* owned */
	struct ql_pace *pace; /* borrowed */
	uint64_t *bytes;      /* borrowed; read so far */
	bool direct;
};

static void reading_release(struct reading *rd)
{
	if (rd->fd >= 0)
		(void)close(rd->fd);
	free(rd->buf);
	ql_hasher_free(rd->h);
}

static int reading_open(struct reading *rd, int root_fd, const char *path,
			struct ql_error *err)
{
	const int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW;
	struct stat st;

	rd->direct = rd->pace->rate > 0;
	rd->fd = openat(root_fd, path, flags | (rd->direct ? O_DIRECT : 0));
	if (rd->fd < 0 && errno == EINVAL && rd->direct) {
		rd->direct = false;
		rd->fd = openat(root_fd, path, flags);
	}
	if (rd->fd < 0 || fstat(rd->fd, &st) < 0)
		return ql_error_errno(err, -errno, "%s", path);
	rd->size = (uint64_t)st.st_size;
	rd->h = ql_hasher_new();
	/* Aligned for O_DIRECT. */
	if (!rd->h || posix_memalign((void **)&rd->buf, BUFFER_LEAST, BUFFER))
		return ql_error_nomem(err);
	return 0;
}

/* Some bytes at pos, or 0 at the end. */
static ssize_t reading_read(struct reading *rd, uint64_t pos, size_t len)
{
	ssize_t n = pread(rd->fd, rd->buf, len, (off_t)pos);
	int flags;

	if (n >= 0 || errno != EINVAL || !rd->direct)
		return n < 0 ? -errno : n;
	/* It was opened so, and cannot be read so. */
	flags = fcntl(rd->fd, F_GETFL);
	if (flags < 0 || fcntl(rd->fd, F_SETFL, flags & ~O_DIRECT) < 0)
		return -errno;
	rd->direct = false;
	n = pread(rd->fd, rd->buf, len, (off_t)pos);
	return n < 0 ? -errno : n;
}

static int reading_hash(struct reading *rd, struct ql_digest *ret_digest)
{
	size_t step = pace_step(rd->pace);
	uint64_t pos = 0;

	while (pos < rd->size) {
		ssize_t n;
		int r;

		if (rd->pace->yield)
			rd->pace->yield(rd->pace->arg);
		n = reading_read(rd, pos, step);
		if (n == -EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? (int)n : -EIO;
		ql_hasher_update(rd->h, rd->buf, (size_t)n);
		pos += (uint64_t)n;
		*rd->bytes += (uint64_t)n;
		r = ql_pace_wait(rd->pace, (uint64_t)n);
		if (r < 0)
			return r;
	}
	ql_hasher_final(rd->h, ret_digest);
	return 0;
}

static int file_digest(int root_fd, const char *path, struct ql_pace *pace,
		       struct ql_digest *ret_digest, uint64_t *bytes,
		       struct ql_error *err)
{
	_cleanup_(reading_release) struct reading rd = { .fd = -1,
							 .pace = pace,
							 .bytes = bytes };
	int r = reading_open(&rd, root_fd, path, err);

	if (r < 0)
		return r;
	r = reading_hash(&rd, ret_digest);
	return r < 0 ? ql_error_errno(err, r, "%s", path) : 0;
}

int ql_file_digest(int root_fd, const char *path, struct ql_digest *ret_digest,
		   uint64_t *ret_size, struct ql_error *err)
{
	struct ql_pace pace = { 0 };
	uint64_t size = 0;
	int r = file_digest(root_fd, path, &pace, ret_digest, &size, err);

	if (r == 0)
		*ret_size = size;
	return r;
}

/* ---- objects ---- */

/* 1: it is what its name says; 0: not. */
static int object_look(const struct ql_store *store,
		       const struct ql_digest *digest, struct ql_pace *pace,
		       uint64_t *bytes, struct ql_error *err)
{
	char path[QL_OBJECT_PATH + 1];
	struct ql_digest have;
	int r = file_digest(store->root_fd, ql_object_path(digest, path), pace,
			    &have, bytes, err);

	if (r == -EIO || r == -EBADMSG || r == -ELOOP)
		return 0; /* the disk has lost it */
	return r < 0 ? r : ql_digest_equal(&have, digest);
}

/* Nobody removes it, to put another in its place, during the second look. */
int ql_object_verify(struct ql_store *store, const struct ql_digest *digest,
		     struct ql_pace *pace, uint64_t *ret_bytes,
		     struct ql_error *err)
{
	struct ql_pace none = { 0 };
	_cleanup_close_ int lock = -1;
	char path[QL_OBJECT_PATH + 1];
	uint64_t bytes = 0;
	int r;

	if (!pace)
		pace = &none;
	r = object_look(store, digest, pace, &bytes, err);
	if (r == 0) {
		r = ql_store_lock_until(store, false, pace->stop, &lock, err);
		if (r == 0)
			r = object_look(store, digest, pace, &bytes, err);
		if (r == 0)
			r = ql_error_set(err, -EBADMSG,
					 "%s: its content has another digest",
					 ql_object_path(digest, path));
	}
	*ret_bytes = bytes;
	return r < 0 ? r : 0;
}

uint64_t ql_object_position(const struct ql_digest *digest)
{
	uint64_t at = 0;

	for (unsigned int i = 0; i < 8; i++)
		at = at << 8 | digest->bytes[i];
	return at;
}

/* One of the 256 folders: its objects in order. */
struct folder {
	char path[16];
	unsigned int first;	      /* byte of its objects' digests */
	struct ql_object_set objects; /* owned */
	ql_object_file_fn *fn;
	void *arg;
};

static int folder_entry(struct folder *f, const char *name)
{
	char hex[QL_DIGEST_HEX + 1], path[QL_OBJECT_PATH + 16];
	struct ql_digest digest;

	if (name[0] == '.')
		return 0;
	(void)snprintf(hex, sizeof(hex), "%02x%.62s", f->first, name);
	if (strlen(name) == QL_DIGEST_HEX - 2 &&
	    ql_digest_from_hex(hex, &digest) == 0)
		return ql_object_set_add(&f->objects, &digest, 0);
	(void)snprintf(path, sizeof(path), "%s/%.72s", f->path, name);
	return f->fn(NULL, path, f->arg);
}

static int folder_list(struct folder *f, int root_fd, struct ql_error *err)
{
	_cleanup_closedir_ DIR *dir = NULL;
	const struct dirent *d;
	int fd = openat(root_fd, f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = 0;

	if (fd < 0 && errno == ENOENT)
		return f->fn(NULL, f->path, f->arg);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		r = -errno;
		if (fd >= 0)
			(void)close(fd);
		return ql_error_errno(err, r, "%s", f->path);
	}
	while (r == 0 && (d = readdir(dir)))
		r = folder_entry(f, d->d_name);
	ql_object_set_sort(&f->objects);
	return r == -ENOMEM ? ql_error_nomem(err) : r;
}

static int folder_walk(struct folder *f, int root_fd, uint64_t from,
		       struct ql_error *err)
{
	char path[QL_OBJECT_PATH + 1];
	int r = folder_list(f, root_fd, err);

	for (size_t i = 0; i < f->objects.n && r == 0; i++) {
		const struct ql_digest *digest = &f->objects.items[i].digest;

		if (ql_object_position(digest) >= from)
			r = f->fn(digest, ql_object_path(digest, path), f->arg);
	}
	return r;
}

int ql_objects_walk(struct ql_store *store, uint64_t from,
		    ql_object_file_fn *fn, void *arg, struct ql_error *err)
{
	int r = 0;

	for (unsigned int i = (unsigned int)(from >> 56); i < 256 && r == 0;
	     i++) {
		struct folder f = { .first = i, .fn = fn, .arg = arg };

		(void)snprintf(f.path, sizeof(f.path), "objects/%02x", i);
		r = folder_walk(&f, store->root_fd, from, err);
		ql_object_set_release(&f.objects);
	}
	return r;
}

/* ---- the lock, for who can be told to stop ---- */

int ql_store_lock_until(struct ql_store *store, bool exclusive,
			const atomic_bool *stop, int *ret_fd,
			struct ql_error *err)
{
	_cleanup_close_ int fd = -1;

	if (!stop)
		return ql_store_lock(store, exclusive, ret_fd, err);
	fd = openat(store->root_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		return ql_error_errno(err, -errno, "open %s/lock", store->root);
	while (flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return ql_error_errno(err, -errno, "lock %s/lock",
					      store->root);
		if (is_stopped(stop))
			return ql_error_set(err, -ECANCELED, "canceled");
		sleep_ns(SLICE_MS * MS);
	}
	*ret_fd = ql_take_fd(&fd);
	return 0;
}
