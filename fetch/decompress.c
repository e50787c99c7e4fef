/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a layer's blob is compressed by is told by its first bytes, not by its
 * media type, which is wrong often enough: gzip (RFC 1952 §2.3.1), zstd (RFC
 * 8878 §3.1.1, and §3.1.2 for a skippable frame in front), else a plain tar.
 */
#include "fetch/fetch-private.h"

#include <errno.h>
#include <string.h>

enum ql_compression ql_compression_sniff(const uint8_t *data, size_t len)
{
	if (len >= 2 && data[0] == 0x1f && data[1] == 0x8b)
		return QL_COMPRESSION_GZIP;
	if (len < 4)
		return QL_COMPRESSION_NONE;
	if (memcmp(data, "\x28\xb5\x2f\xfd", 4) == 0 ||
	    ((data[0] & 0xf0) == 0x50 &&
	     memcmp(data + 1, "\x2a\x4d\x18", 3) == 0))
		return QL_COMPRESSION_ZSTD;
	return QL_COMPRESSION_NONE;
}

int ql_input_fill(struct ql_input *in, struct ql_error *err)
{
	ssize_t n;

	if (in->pos < in->len)
		return 1;
	if (in->ended)
		return 0;
	n = ql_stream_read(in->inner, in->data, QL_INPUT_SIZE, err);
	if (n < 0)
		return (int)n;
	in->pos = 0;
	in->len = (size_t)n;
	in->end += (uint64_t)n;
	in->ended = n == 0;
	return n > 0;
}

uint64_t ql_input_pos(const struct ql_input *in)
{
	return in->end - (in->len - in->pos);
}

void ql_input_release(struct ql_input *in)
{
	ql_stream_free(in->inner);
	free(in->data);
	*in = (struct ql_input){ 0 };
}

/* ---- not compressed ---- */

enum { PLAIN_SPAN = 4 << 20 };

struct plain_stream {
	struct ql_stream base;
	struct ql_input in;
	struct ql_spans *spans; /* borrowed, or NULL */
	uint64_t pos;
};

static ssize_t plain_some(struct plain_stream *p, void *buf, size_t len,
			  struct ql_error *err)
{
	size_t n = p->in.len - p->in.pos;

	if (n == 0) /* what was looked at has been given out */
		return ql_stream_read(p->in.inner, buf, len, err);
	if (n > len)
		n = len;
	memcpy(buf, p->in.data + p->in.pos, n);
	p->in.pos += n;
	return (ssize_t)n;
}

static ssize_t plain_read(struct ql_stream *s, void *buf, size_t len,
			  struct ql_error *err)
{
	struct plain_stream *p = (struct plain_stream *)s;
	struct ql_toc_span at = { .offset = p->pos, .raw = p->pos };
	ssize_t n = plain_some(p, buf, len, err);

	if (!p->spans || n < 0)
		return n;
	if (n == 0)
		ql_spans_end(p->spans, p->pos, p->pos);
	else if (!p->spans->open ||
		 ql_spans_raw(p->spans, p->pos) >= PLAIN_SPAN)
		ql_spans_begin(p->spans, &at);
	p->pos += (uint64_t)n;
	return n;
}

static void plain_free(struct ql_stream *s)
{
	ql_input_release(&((struct plain_stream *)s)->in);
	free(s);
}

static const struct ql_stream_ops plain_ops = { plain_read, plain_free };

static int plain_new(struct ql_input *in, struct ql_spans *spans,
		     struct ql_stream **ret_stream, struct ql_error *err)
{
	struct plain_stream *p = calloc(1, sizeof(*p));

	if (!p)
		return ql_error_nomem(err);
	p->base.ops = &plain_ops;
	p->spans = spans;
	if (spans)
		ql_spans_codec(spans, QL_CODEC_NONE);
	p->in = *in;
	*in = (struct ql_input){ 0 };
	*ret_stream = &p->base;
	return 0;
}

/* ---- ---- */

/* Reads the first bytes, as many as are looked at. */
static int input_begin(struct ql_input *in, struct ql_error *err)
{
	ssize_t n = ql_stream_read_full(in->inner, in->data, 4, err);

	if (n < 0)
		return (int)n;
	in->len = in->end = (size_t)n;
	in->ended = n < 4;
	return 0;
}

int ql_decompress(struct ql_stream *inner, struct ql_stream **ret_stream,
		  struct ql_error *err)
{
	return ql_decompress_spans(inner, NULL, ret_stream, err);
}

int ql_decompress_spans(struct ql_stream *inner, struct ql_spans *spans,
			struct ql_stream **ret_stream, struct ql_error *err)
{
	struct ql_input in = { .inner = inner };
	int r;

	in.data = malloc(QL_INPUT_SIZE);
	if (!in.data)
		return ql_error_nomem(err);
	r = input_begin(&in, err);
	if (r == 0) {
		switch (ql_compression_sniff(in.data, in.len)) {
		case QL_COMPRESSION_GZIP:
			r = ql_gzip_new(&in, spans, ret_stream, err);
			break;
		case QL_COMPRESSION_ZSTD:
			r = ql_zstd_new(&in, spans, ret_stream, err);
			break;
		case QL_COMPRESSION_NONE:
			r = plain_new(&in, spans, ret_stream, err);
			break;
		}
	}
	if (r < 0) {
		in.inner = NULL; /* the caller's still */
		ql_input_release(&in);
	}
	return r;
}
