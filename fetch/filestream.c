/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A part of a file as a stream.  It reads by pread(2), so that any number of
 * threads can read parts of one descriptor.
 */
#include "fetch/fetch-private.h"

#include <errno.h>

struct file_stream {
	struct ql_stream base;
	int fd; /* borrowed */
	uint64_t pos;
	uint64_t left;
};

static ssize_t file_read(struct ql_stream *s, void *buf, size_t len,
			 struct ql_error *err)
{
	struct file_stream *f = (struct file_stream *)s;
	ssize_t n;

	if (len > f->left)
		len = (size_t)f->left;
	if (len == 0)
		return 0;
	n = ql_pread_full(f->fd, buf, len, f->pos);
	if (n < 0)
		return ql_error_errno(err, (int)n, "read");
	if (n == 0)
		return ql_error_set(err, -EBADMSG, "the file ends early");
	f->pos += (uint64_t)n;
	f->left -= (uint64_t)n;
	return n;
}

static void file_free(struct ql_stream *s)
{
	free(s);
}

static const struct ql_stream_ops file_ops = { file_read, file_free };

int ql_filestream_new(int fd, uint64_t offset, uint64_t size,
		      struct ql_stream **ret_stream, struct ql_error *err)
{
	struct file_stream *f = calloc(1, sizeof(*f));

	if (!f)
		return ql_error_nomem(err);
	*f = (struct file_stream){ { &file_ops }, fd, offset, size };
	*ret_stream = &f->base;
	return 0;
}
