/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text that is written once and read once, and may be too much for memory: a
 * file without a name behind a small buffer.
 */
#include "fetch/push-private.h"

#include <errno.h>
#include <fcntl.h>

enum { SCRATCH_BUFFER = 64 << 10 };

int ql_tmpfile(const char *dir, int *ret_fd, struct ql_error *err)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0)
		return ql_error_errno(err, -errno, "a temporary file in %s",
				      dir);
	*ret_fd = fd;
	return 0;
}

int ql_scratch_init(struct ql_scratch *sp, const char *dir, uint64_t max,
		    struct ql_error *err)
{
	*sp = (struct ql_scratch){ .fd = -1, .max = max };
	ql_buf_init(&sp->buf, SCRATCH_BUFFER);
	return ql_tmpfile(dir, &sp->fd, err);
}

void ql_scratch_release(struct ql_scratch *sp)
{
	if (sp->fd >= 0)
		(void)close(sp->fd);
	ql_buf_release(&sp->buf);
	*sp = (struct ql_scratch){ .fd = -1 };
}

static int scratch_write(struct ql_scratch *sp, const void *data, size_t len,
			 struct ql_error *err)
{
	int r = ql_write_full(sp->fd, data, len);

	return r < 0 ? ql_error_errno(err, r, "write a temporary file") : 0;
}

static int scratch_flush(struct ql_scratch *sp, struct ql_error *err)
{
	int r = scratch_write(sp, ql_buf_str(&sp->buf), sp->buf.len, err);

	ql_buf_clear(&sp->buf);
	return r;
}

int ql_scratch_add(struct ql_scratch *sp, const void *data, size_t len,
		   struct ql_error *err)
{
	int r = 0;

	if (len > sp->max - sp->len)
		return ql_error_set(err, -EFBIG,
				    "more than the limit of %llu bytes",
				    (unsigned long long)sp->max);
	if (len > sp->buf.max - sp->buf.len)
		r = scratch_flush(sp, err);
	if (r < 0)
		return r;
	sp->len += len;
	if (len > sp->buf.max)
		return scratch_write(sp, data, len, err);
	r = ql_buf_add(&sp->buf, data, len);
	return r < 0 ? ql_error_nomem(err) : 0;
}

int ql_scratch_adds(struct ql_scratch *sp, const char *text,
		    struct ql_error *err)
{
	size_t len = 0;

	while (text[len])
		len++;
	return ql_scratch_add(sp, text, len, err);
}

int ql_scratch_each(struct ql_scratch *sp, ql_scratch_fn *fn, void *arg,
		    struct ql_error *err)
{
	char chunk[SCRATCH_BUFFER];
	int r = scratch_flush(sp, err);

	for (uint64_t at = 0; r == 0 && at < sp->len;) {
		ssize_t n = ql_pread_full(sp->fd, chunk, sizeof(chunk), at);

		if (n <= 0)
			return ql_error_errno(err, n < 0 ? (int)n : -EIO,
					      "read a temporary file");
		r = fn(arg, chunk, (size_t)n, err);
		at += (uint64_t)n;
	}
	return r;
}
