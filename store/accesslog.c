/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log of what was asked for.  The file is opened anew for each image, so
 * that whoever moves it away needs to tell nobody, and locked while it grows,
 * so that one process rotates it and lines of two do not mix.
 */
#include "store/accesslog.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	TEXT_MAX = 1 << 20, /* of an image's lines */
	LOCK_TRIES = 50,
	LOCK_WAIT = 10000000, /* ns */
	TIME_LEN = 40,
};

static const char header[] = "{\"quicklayer_access_log\": 1}\n";

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *log_path; /* owned, by lock as all these; NULL: none */
static bool log_known; /* the environment was asked, or somebody said */
static bool log_failed;

/* ---- where ---- */

static int set_locked(const char *path)
{
	char *copy = NULL;

	if (!path)
		path = getenv("QUICKLAYER_ACCESS_LOG");
	if (path && *path) {
		copy = strdup(path);
		if (!copy)
			return -ENOMEM;
	}
	free(log_path);
	log_path = copy;
	log_known = true;
	log_failed = false;
	return 0;
}

int ql_accesslog_set(const char *path)
{
	int r;

	pthread_mutex_lock(&lock);
	r = set_locked(path);
	pthread_mutex_unlock(&lock);
	return r;
}

/* Borrowed until the lock is given up; NULL: nowhere. */
static const char *path_locked(void)
{
	if (!log_known)
		(void)set_locked(NULL);
	return log_path;
}

bool ql_accesslog_is_on(void)
{
	bool on;

	pthread_mutex_lock(&lock);
	on = path_locked() != NULL;
	pthread_mutex_unlock(&lock);
	return on;
}

/* ---- what ---- */

static int stamp(char text[TIME_LEN])
{
	struct timespec now;
	struct tm tm;
	char day[TIME_LEN];

	if (clock_gettime(CLOCK_REALTIME, &now) < 0 ||
	    !gmtime_r(&now.tv_sec, &tm) ||
	    strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm) == 0)
		return -ERANGE;
	(void)snprintf(text, TIME_LEN, "%.19s.%03dZ", day,
		       (int)(now.tv_nsec / 1000000 % 1000));
	return 0;
}

/* Takes json, which may be NULL (out of memory). */
static int add_line(struct ql_buf *buf, json_t *json)
{
	char *line = json ? json_dumps(json, 0) : NULL;
	int r = line ? ql_buf_addf(buf, "%s\n", line) : -ENOMEM;

	free(line);
	json_decref(json);
	return r;
}

static int add_layer(struct ql_buf *buf, const char *time,
		     const char *repository, const struct ql_access_layer *a)
{
	json_t *parent = a->has_parent ? ql_json_digest(&a->parent) : NULL;
	json_t *hit = a->hit == QL_ACCESS_UNKNOWN
			      ? NULL
			      : json_boolean(a->hit == QL_ACCESS_HIT);

	return add_line(buf,
			json_pack("{s:s, s:s, s:o, s:o*, s:I, s:I, s:o*}",
				  "time", time, "repository", repository,
				  "layer", ql_json_digest(&a->layer), "parent",
				  parent, "size", (json_int_t)a->size, "bytes",
				  (json_int_t)a->bytes, "hit", hit));
}

static int describe(struct ql_buf *buf, const char *repository,
		    const struct ql_digest *manifest,
		    const struct ql_access_layer *layers, size_t n)
{
	char time[TIME_LEN];
	int r = stamp(time);

	if (r == 0)
		r = add_line(buf, json_pack("{s:s, s:s, s:o}", "time", time,
					    "repository", repository, "image",
					    ql_json_digest(manifest)));
	for (size_t i = 0; i < n && r == 0; i++)
		r = add_layer(buf, time, repository, &layers[i]);
	return r;
}

/* ---- writing ---- */

static int take_lock(int fd)
{
	const struct timespec wait = { .tv_nsec = LOCK_WAIT };

	for (int i = 0; i < LOCK_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK)
			return -errno;
		(void)nanosleep(&wait, NULL);
	}
	return -EBUSY;
}

/* Locked, and still of that name. */
static int open_locked(const char *path, int *ret_fd, struct stat *ret_st)
{
	_cleanup_close_ int fd = open(path,
				      O_WRONLY | O_CREAT | O_APPEND |
					      O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
				      0644);
	struct stat named;
	int r;

	if (fd < 0)
		return -errno;
	if (fstat(fd, ret_st) < 0)
		return -errno;
	if (!S_ISREG(ret_st->st_mode))
		return -EINVAL; /* what may block, or cannot be rotated */
	r = take_lock(fd);
	if (r < 0)
		return r;
	if (stat(path, &named) < 0 || named.st_ino != ret_st->st_ino ||
	    named.st_dev != ret_st->st_dev)
		return -EAGAIN;
	if (fstat(fd, ret_st) < 0)
		return -errno;
	*ret_fd = ql_take_fd(&fd);
	return 0;
}

static int rotate(const char *path)
{
	_cleanup_free_ char *old = ql_strf("%s.1", path);

	if (!old)
		return -ENOMEM;
	return rename(path, old) < 0 ? -errno : -EAGAIN; /* again, anew */
}

/* All of it or nothing. */
static int append(int fd, uint64_t size, const struct ql_buf *text)
{
	int r = size == 0 ? ql_write_full(fd, header, sizeof(header) - 1) : 0;

	if (r == 0)
		r = ql_write_full(fd, text->data, text->len);
	if (r < 0 && ftruncate(fd, (off_t)size) < 0)
		return -errno;
	return r;
}

static int try_write(const char *path, const struct ql_buf *text)
{
	_cleanup_close_ int fd = -1;
	struct stat st;
	uint64_t size;
	int r = open_locked(path, &fd, &st);

	if (r < 0)
		return r;
	size = (uint64_t)st.st_size;
	if (size > 0 && size + text->len > QL_ACCESSLOG_MAX)
		return rotate(path);
	return append(fd, size, text);
}

/* Once for each log: a full disk would say so with every pull. */
static void tell_failure(const char *path, int r)
{
	struct ql_error err = QL_ERROR_INIT;

	if (log_failed)
		return;
	log_failed = true;
	(void)ql_error_errno(&err, r, "%s", path);
	ql_log(QL_LOG_WARN, "msg=\"access log\" error=\"%s\"", err.text);
}

void ql_accesslog_add(const char *repository, const struct ql_digest *manifest,
		      const struct ql_access_layer *layers, size_t n)
{
	_cleanup_buf_ struct ql_buf text = QL_BUF_INIT(TEXT_MAX);
	const char *path;
	int r = -EAGAIN;

	pthread_mutex_lock(&lock);
	path = path_locked();
	if (path) {
		r = describe(&text, repository ? repository : "", manifest,
			     layers, n);
		if (r == 0)
			r = -EAGAIN;
		for (int i = 0; i < 5 && r == -EAGAIN; i++)
			r = try_write(path, &text);
		if (r < 0)
			tell_failure(path, r);
	}
	pthread_mutex_unlock(&lock);
}
