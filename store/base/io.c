/* SPDX-License-Identifier: Apache-2.0 */
/* Whole reads and writes: EINTR and short counts end here. */
#include "store/base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "store/base/buf.h"
#include "store/base/cleanup.h"
#include "store/base/error.h"

int ql_write_full(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

ssize_t ql_read_full(int fd, void *data, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = read(fd, (char *)data + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

ssize_t ql_pread_full(int fd, void *data, size_t len, uint64_t offset)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (char *)data + done, len - done,
				  (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

int ql_read_file(int dirfd, const char *path, struct ql_buf *buf,
		 struct ql_error *err)
{
	_cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
	size_t start = buf->len;
	ssize_t n;

	if (fd < 0)
		return ql_error_errno(err, -errno, "%s", path);
	do {
		char chunk[16384];
		int r;

		n = ql_read_full(fd, chunk, sizeof(chunk));
		if (n < 0)
			return ql_error_errno(err, (int)n, "%s", path);
		r = ql_buf_add(buf, chunk, (size_t)n);
		if (r < 0) {
			buf->len = start;
			return ql_error_errno(err, r, "%s", path);
		}
	} while (n > 0);
	return 0;
}

int ql_mkdir_p(const char *path, struct ql_error *err)
{
	_cleanup_free_ char *copy = strdup(path);

	if (!copy)
		return ql_error_nomem(err);
	if (*copy == '\0')
		return ql_error_set(err, -ENOENT, "a folder of no name");
	for (char *p = copy + 1;; p++) {
		char c = *p;

		if (c != '/' && c != '\0')
			continue;
		*p = '\0';
		if (mkdir(copy, 0755) < 0 && errno != EEXIST)
			return ql_error_errno(err, -errno, "make folder %s",
					      copy);
		*p = c;
		if (c == '\0')
			return 0;
	}
}

char *ql_strf(const char *fmt, ...)
{
	va_list ap;
	char *s = NULL;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	return n < 0 ? NULL : s;
}

char *ql_path_join(const char *dir, const char *name)
{
	return ql_strf("%s/%s", dir, name);
}

uint64_t ql_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}
