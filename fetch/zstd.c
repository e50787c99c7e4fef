/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zstd (RFC 8878) by libzstd's streaming interface.  Frames may follow each
 * other; skippable ones (the TOC of zstd:chunked) are passed over.  A frame
 * tells how much memory its window takes; more than WINDOW_LOG is refused.
 */
#include "fetch/fetch-private.h"

#include <errno.h>
#include <zstd.h>
#include <zstd_errors.h>

enum {
	WINDOW_LOG = 25,      /* 32 MiB; zstd -19 asks for 8 MiB */
	SPAN_MIN = 256 << 10, /* raw bytes; smaller frames share a span */
};

struct zstd_stream {
	struct ql_stream base;
	struct ql_input in;
	ZSTD_DStream *zds;	/* owned */
	bool in_frame;		/* more of a frame is expected */
	struct ql_spans *spans; /* borrowed, or NULL */
	uint64_t raw;		/* bytes that came out */
};

static int zstd_error(size_t code, struct ql_error *err)
{
	switch (ZSTD_getErrorCode(code)) {
	case ZSTD_error_memory_allocation:
		return ql_error_nomem(err);
	case ZSTD_error_frameParameter_windowTooLarge:
		return ql_error_set(err, -EOPNOTSUPP,
				    "a zstd stream whose window is larger than "
				    "the limit of %d MiB",
				    1 << (WINDOW_LOG - 20));
	default:
		return ql_error_set(err, -EBADMSG, "a damaged zstd stream: %s",
				    ZSTD_getErrorName(code));
	}
}

/* A frame begins at what comes next. */
static void frame_begin(struct zstd_stream *z)
{
	struct ql_toc_span at = { .offset = ql_input_pos(&z->in),
				  .raw = z->raw };
	uint64_t len = ql_spans_raw(z->spans, z->raw);

	if (!z->spans->open || len == 0 || len >= SPAN_MIN)
		ql_spans_begin(z->spans, &at);
}

static ssize_t zstd_read(struct ql_stream *s, void *buf, size_t len,
			 struct ql_error *err)
{
	struct zstd_stream *z = (struct zstd_stream *)s;

	for (;;) {
		ZSTD_outBuffer out = { buf, len, 0 };
		ZSTD_inBuffer in = { z->in.data, z->in.len, z->in.pos };
		size_t code;
		int r;

		/* With no input: what is still in its buffers. */
		if (z->in_frame || in.pos < in.size) {
			if (!z->in_frame && z->spans)
				frame_begin(z);
			code = ZSTD_decompressStream(z->zds, &out, &in);
			if (ZSTD_isError(code))
				return zstd_error(code, err);
			z->in.pos = in.pos;
			z->in_frame = code != 0;
			z->raw += out.pos;
			if (out.pos > 0)
				return (ssize_t)out.pos;
		}
		r = ql_input_fill(&z->in, err);
		if (r < 0)
			return r;
		if (r == 0 && z->in_frame)
			return ql_error_set(err, -EBADMSG,
					    "a zstd stream that ends early");
		if (r == 0 && z->spans)
			ql_spans_end(z->spans, ql_input_pos(&z->in), z->raw);
		if (r == 0)
			return 0;
	}
}

static void zstd_free(struct ql_stream *s)
{
	struct zstd_stream *z = (struct zstd_stream *)s;

	(void)ZSTD_freeDStream(z->zds);
	ql_input_release(&z->in);
	free(z);
}

static const struct ql_stream_ops zstd_ops = { zstd_read, zstd_free };

int ql_zstd_new(struct ql_input *in, struct ql_spans *spans,
		struct ql_stream **ret_stream, struct ql_error *err)
{
	struct zstd_stream *z = calloc(1, sizeof(*z));

	if (!z)
		return ql_error_nomem(err);
	z->base.ops = &zstd_ops;
	z->zds = ZSTD_createDStream();
	if (!z->zds || ZSTD_isError(ZSTD_DCtx_setParameter(
			       z->zds, ZSTD_d_windowLogMax, WINDOW_LOG))) {
		zstd_free(&z->base);
		return ql_error_nomem(err);
	}
	z->spans = spans;
	if (spans)
		ql_spans_codec(spans, QL_CODEC_ZSTD);
	z->in = *in;
	*in = (struct ql_input){ 0 };
	*ret_stream = &z->base;
	return 0;
}
