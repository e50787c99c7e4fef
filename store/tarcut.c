/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An archive cut at the edges of its files' content.  The reader of archives
 * reads from a stream that remembers where the reader put the bytes (its own
 * buffer, which it does not change between two reads) and up to which
 * position they were passed on; the rest is a matter of asking the reader how
 * far it is.  No byte is copied.
 */
#include "store/store-private.h"

struct cutter {
	struct ql_stream base;
	struct ql_stream *inner; /* borrowed, as these */
	const struct ql_tarcut_ops *ops;
	void *arg;
	const char *buf; /* the reader's; of the last read */
	uint64_t start;	 /* position of buf[0] */
	uint64_t len;
	uint64_t told; /* passed on up to here */
};

/* Passes on what stands before `to`. */
static int cut_tell(struct cutter *c, uint64_t to, bool content,
		    struct ql_error *err)
{
	const char *data = c->buf + (c->told - c->start);
	size_t len = (size_t)(to - c->told);

	if (len == 0)
		return 0;
	c->told = to;
	return content ? c->ops->data(c->arg, data, len, err)
		       : c->ops->raw(c->arg, data, len, err);
}

/* The reader has used up the last read.  What it had not been asked about
 * yet is no content: that is told as soon as it is handed out. */
static ssize_t cut_read(struct ql_stream *s, void *buf, size_t len,
			struct ql_error *err)
{
	struct cutter *c = (struct cutter *)s;
	int r = cut_tell(c, c->start + c->len, false, err);
	ssize_t n;

	if (r < 0)
		return r;
	n = ql_stream_read(c->inner, buf, len, err);
	if (n < 0)
		return n;
	c->start += c->len;
	c->buf = buf;
	c->len = (uint64_t)n;
	return n;
}

static void cut_free(struct ql_stream *s)
{
	(void)s; /* on the stack */
}

static const struct ql_stream_ops cut_ops = { cut_read, cut_free };

static int cut_content(struct cutter *c, struct ql_tar *tar,
		       struct ql_error *err)
{
	const void *data;
	ssize_t n;

	while ((n = ql_tar_data(tar, &data, err)) > 0) {
		int r = cut_tell(c, ql_tar_pos(tar), true, err);

		if (r < 0)
			return r;
	}
	return (int)n;
}

int ql_tar_cut(struct ql_stream *tar_stream, const struct ql_tarcut_ops *ops,
	       void *arg, struct ql_error *err)
{
	struct cutter c = { .base = { &cut_ops },
			    .inner = tar_stream,
			    .ops = ops,
			    .arg = arg };
	_cleanup_(ql_tar_freep) struct ql_tar *tar = NULL;
	const struct ql_tar_entry *e;
	int r = ql_tar_new(&c.base, &tar, err);

	if (r < 0)
		return r;
	while ((r = ql_tar_next(tar, &e, err)) > 0) {
		r = cut_tell(&c, ql_tar_pos(tar), false, err);
		if (r == 0)
			r = ops->entry(arg, e, ql_tar_raw(tar), err);
		if (r == 0)
			r = cut_content(&c, tar, err);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : cut_tell(&c, ql_tar_pos(tar), false, err);
}
