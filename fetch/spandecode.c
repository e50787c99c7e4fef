/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a blob's bytes to what they decode to, span by span.  A span is read no
 * further than its table says and gives no more than its table says, whatever
 * is in it; whether it is right, the digests of what it gives tell.
 *
 * A span of gzip starts at a member, and may go on into those behind it, or at
 * a checkpoint: there it is deflate (RFC 1951) from a bit in the middle of a
 * member on, with what that refers back to as a dictionary.  `bits` of the
 * byte before span.offset, its high ones, belong to it (zlib's
 * examples/zran.c); the span before needs that byte too.  Where a checkpoint
 * follows what was decoded last, the same inflater reads on.
 */
#include "fetch/fetch-private.h"

#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <zstd.h>

enum {
	IN_SIZE = 64 << 10,
	OUT_SIZE = 64 << 10,
	WINDOW_LOG = 25,
	GZIP_WINDOW = 32 << 10,
};

struct ql_span_decoder {
	struct ql_span_io io;
	uint64_t at; /* of data[pos] in the blob */
	size_t pos, len;
	ZSTD_DCtx *zstd;	       /* owned; NULL until needed, as below */
	struct inflate_state *inflate; /* owned */
	bool inflating;		       /* a checkpoint at raw can go on */
	uint64_t raw;		       /* behind the last span */
	uint8_t data[IN_SIZE];
	uint8_t out[OUT_SIZE];
};

int ql_span_decoder_new(const struct ql_span_io *io, uint64_t offset,
			struct ql_span_decoder **ret_d, struct ql_error *err)
{
	struct ql_span_decoder *d = malloc(sizeof(*d));

	if (!d)
		return ql_error_nomem(err);
	d->io = *io;
	d->at = offset;
	d->pos = d->len = 0;
	d->zstd = NULL;
	d->inflate = NULL;
	d->inflating = false;
	d->raw = 0;
	*ret_d = d;
	return 0;
}

void ql_span_decoder_free(struct ql_span_decoder *d)
{
	if (!d)
		return;
	(void)ZSTD_freeDCtx(d->zstd);
	free(d->inflate);
	free(d);
}

uint64_t ql_span_start(const struct ql_toc_span *span)
{
	return span->offset - (span->bits > 0 ? 1 : 0);
}

/* ---- input and output ---- */

static int damaged(const char *what, struct ql_error *err)
{
	return ql_error_set(err, -EBADMSG, "a damaged %s", what);
}

static int in_fill(struct ql_span_decoder *d, struct ql_error *err)
{
	ssize_t n;

	if (d->pos < d->len)
		return 0;
	n = d->io.read(d->io.arg, d->data, sizeof(d->data), err);
	if (n <= 0)
		return n < 0 ? (int)n
			     : ql_error_set(err, -ECONNRESET,
					    "the blob ends early");
	d->pos = 0;
	d->len = (size_t)n;
	return 0;
}

/* How much of the buffer may be used for a span that ends at `end`. */
static size_t in_avail(const struct ql_span_decoder *d, uint64_t end)
{
	uint64_t left = end > d->at ? end - d->at : 0;
	size_t have = d->len - d->pos;

	return have < left ? have : (size_t)left;
}

static void in_used(struct ql_span_decoder *d, size_t n)
{
	d->pos += n;
	d->at += n;
}

static int in_skip_to(struct ql_span_decoder *d, uint64_t offset,
		      struct ql_error *err)
{
	while (d->at < offset) {
		int r = in_fill(d, err);

		if (r < 0)
			return r;
		in_used(d, in_avail(d, offset));
	}
	/* Spans do not go backwards. */
	return d->at == offset ? 0 : damaged("table of contents", err);
}

/* Writes what was made, of which *left is wanted. */
static int out_put(struct ql_span_decoder *d, size_t n, uint64_t *left,
		   struct ql_error *err)
{
	if (n > *left)
		n = (size_t)*left;
	*left -= n;
	return n > 0 ? d->io.write(d->io.arg, d->out, n, err) : 0;
}

/* ---- not compressed, and zstd ---- */

static int span_none(struct ql_span_decoder *d, const struct ql_toc_span *span,
		     struct ql_error *err)
{
	uint64_t end = span->offset + span->raw_len;

	if (span->raw_len > span->len)
		return damaged("table of contents", err);
	while (d->at < end) {
		int r = in_fill(d, err);
		size_t n = in_avail(d, end);

		if (r == 0)
			r = d->io.write(d->io.arg, d->data + d->pos, n, err);
		if (r < 0)
			return r;
		in_used(d, n);
	}
	return 0;
}

static int zstd_prepare(struct ql_span_decoder *d, struct ql_error *err)
{
	if (!d->zstd)
		d->zstd = ZSTD_createDCtx();
	if (!d->zstd ||
	    ZSTD_isError(ZSTD_DCtx_reset(d->zstd, ZSTD_reset_session_only)) ||
	    ZSTD_isError(ZSTD_DCtx_setParameter(d->zstd, ZSTD_d_windowLogMax,
						WINDOW_LOG)))
		return ql_error_nomem(err);
	return 0;
}

static int span_zstd(struct ql_span_decoder *d, const struct ql_toc_span *span,
		     struct ql_error *err)
{
	uint64_t end = span->offset + span->len, left = span->raw_len;
	bool flushing = false;
	int r = zstd_prepare(d, err);

	while (r == 0 && left > 0) {
		ZSTD_inBuffer in = { d->data + d->pos, 0, 0 };
		ZSTD_outBuffer out = { d->out, sizeof(d->out), 0 };
		size_t rc;

		if (!flushing && d->at < end)
			r = in_fill(d, err);
		if (r < 0)
			return r;
		in.src = d->data + d->pos;
		in.size = in_avail(d, end);
		if (in.size == 0 && !flushing)
			return damaged("zstd frame: it ends early", err);
		rc = ZSTD_decompressStream(d->zstd, &out, &in);
		if (ZSTD_isError(rc))
			return damaged("zstd frame", err);
		in_used(d, in.pos);
		flushing = out.pos == out.size;
		r = out_put(d, out.pos, &left, err);
	}
	return r;
}

/* ---- gzip ---- */

static int gzip_header(struct ql_span_decoder *d, uint64_t end,
		       struct ql_error *err)
{
	struct isal_gzip_header header;

	isal_gzip_header_init(&header);
	for (;;) {
		int r = in_fill(d, err);
		size_t avail = in_avail(d, end);

		if (r < 0)
			return r;
		d->inflate->next_in = d->data + d->pos;
		d->inflate->avail_in = (uint32_t)avail;
		r = isal_read_gzip_header(d->inflate, &header);
		in_used(d, avail - d->inflate->avail_in);
		if (r == ISAL_DECOMP_OK)
			return 0;
		if (r != ISAL_END_INPUT || d->at >= end)
			return damaged("gzip member: its header is invalid",
				       err);
	}
}

static int member_begin(struct ql_span_decoder *d, uint64_t end,
			struct ql_error *err)
{
	isal_inflate_init(d->inflate);
	d->inflate->crc_flag = ISAL_GZIP_NO_HDR_VER;
	return gzip_header(d, end, err);
}

/* One call of the inflater; some of *left came out. */
static int inflate_some(struct ql_span_decoder *d, uint64_t end, uint64_t *left,
			struct ql_error *err)
{
	struct inflate_state *st = d->inflate;
	size_t avail, made;
	int r = 0;

	if (st->tmp_out_processed == st->tmp_out_valid && d->at < end)
		r = in_fill(d, err);
	if (r < 0)
		return r;
	avail = in_avail(d, end);
	st->next_in = d->data + d->pos;
	st->avail_in = (uint32_t)avail;
	st->next_out = d->out;
	st->avail_out = (uint32_t)(*left < OUT_SIZE ? *left : OUT_SIZE);
	r = isal_inflate(st);
	if (r < 0 || r == ISAL_NEED_DICT)
		return damaged("gzip member", err);
	in_used(d, avail - st->avail_in);
	made = (size_t)(st->next_out - d->out);
	if (made == 0 && avail == st->avail_in &&
	    st->block_state != ISAL_BLOCK_FINISH && (avail > 0 || d->at >= end))
		return damaged("gzip member: it ends early", err);
	return out_put(d, made, left, err);
}

/* Inflates until all of the span came out, or the stream's end. */
static int inflate_run(struct ql_span_decoder *d,
		       const struct ql_toc_span *span, struct ql_error *err)
{
	uint64_t end = span->offset + span->len, left = span->raw_len;
	int r = 0;

	while (r == 0 && left > 0) {
		if (d->inflate->block_state != ISAL_BLOCK_FINISH)
			r = inflate_some(d, end, &left, err);
		else if (!span->checkpoint && d->at < end)
			r = member_begin(d, end, err);
		else
			return damaged("gzip member: it ends early", err);
	}
	return r;
}

static int checkpoint_begin(struct ql_span_decoder *d,
			    const struct ql_toc_span *span,
			    struct ql_error *err)
{
	_cleanup_free_ uint8_t *window = malloc(GZIP_WINDOW);
	size_t n = 0;
	int r;

	if (!window)
		return ql_error_nomem(err);
	isal_inflate_init(d->inflate);
	d->inflate->crc_flag = ISAL_DEFLATE;
	if (span->window_len > 0) {
		n = ZSTD_decompress(window, GZIP_WINDOW, span->window,
				    span->window_len);
		if (ZSTD_isError(n))
			return damaged("checkpoint", err);
	}
	if (n > 0 && isal_inflate_set_dict(d->inflate, window, (uint32_t)n) !=
			     ISAL_DECOMP_OK)
		return damaged("checkpoint", err);
	if (span->bits == 0)
		return 0;
	r = in_fill(d, err);
	if (r < 0)
		return r;
	d->inflate->read_in = (uint64_t)d->data[d->pos] >> (8 - span->bits);
	d->inflate->read_in_length = span->bits;
	in_used(d, 1);
	return 0;
}

static int span_gzip(struct ql_span_decoder *d, const struct ql_toc_span *span,
		     bool goes_on, struct ql_error *err)
{
	int r = 0;

	if (!d->inflate)
		d->inflate = malloc(sizeof(*d->inflate));
	if (!d->inflate)
		return ql_error_nomem(err);
	if (!span->checkpoint)
		r = member_begin(d, span->offset + span->len, err);
	else if (!goes_on)
		r = checkpoint_begin(d, span, err);
	if (r == 0)
		r = inflate_run(d, span, err);
	d->inflating = r == 0;
	d->raw = span->raw + span->raw_len;
	return r;
}

int ql_span_decode(struct ql_span_decoder *d, const struct ql_toc_span *span,
		   struct ql_error *err)
{
	bool goes_on = d->inflating && span->codec == QL_CODEC_GZIP &&
		       span->checkpoint && span->raw == d->raw;
	int r = 0;

	if (!goes_on)
		r = in_skip_to(d, ql_span_start(span), err);
	if (r < 0)
		return r;
	d->inflating = false;
	switch (span->codec) {
	case QL_CODEC_NONE:
		return span_none(d, span, err);
	case QL_CODEC_ZSTD:
		return span_zstd(d, span, err);
	case QL_CODEC_GZIP:
	default:
		return span_gzip(d, span, goes_on, err);
	}
}
