/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a blob's bytes to what they decode to, span by span.  A span is read no
 * further than its table says and gives no more than its table says, whatever
 * is in it; what it gives is verified by the sink.
 *
 * A span that starts at a checkpoint is deflate (RFC 1951) from a bit in the
 * middle of a member on, with the 32 KiB before it as a dictionary; where the
 * next span is its neighbour, the same inflater reads on.
 */
#include "fetch/fill-private.h"

#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <string.h>
#include <zstd.h>

enum {
	IN_SIZE = 64 << 10,
	OUT_SIZE = 64 << 10,
	WINDOW_LOG = 25,
	GZIP_WINDOW = 32 << 10,
};

struct decode {
	struct ql_filler *f;	   /* borrowed */
	struct ql_stream *in;	   /* borrowed */
	struct ql_fill_sink *sink; /* borrowed */
	uint64_t at;		   /* of data[pos] in the blob */
	size_t pos, len;
	ZSTD_DCtx *zstd;	       /* owned; NULL until needed, as below */
	struct inflate_state *inflate; /* owned */
	bool inflating;		       /* a checkpoint's stream can go on */
	bool yields;		       /* to those who wait */
	uint8_t data[IN_SIZE];
	uint8_t out[OUT_SIZE];
};

/* ---- input ---- */

static int ends_early(struct ql_error *err)
{
	return ql_error_set(err, -ECONNRESET, "the blob ends early");
}

/* Reads no more while somebody waits for something else; TCP tells the sender
 * to pause. */
static void yield_to_demand(struct ql_filler *f)
{
	(void)pthread_mutex_lock(&f->lock);
	while (f->busy[QL_FILL_DEMAND] > 0 && !f->stop)
		(void)pthread_cond_wait(&f->calm, &f->lock);
	(void)pthread_mutex_unlock(&f->lock);
}

static int in_fill(struct decode *d, struct ql_error *err)
{
	ssize_t n;

	if (d->pos < d->len)
		return 0;
	if (d->yields)
		yield_to_demand(d->f);
	n = ql_stream_read(d->in, d->data, sizeof(d->data), err);
	if (n <= 0)
		return n < 0 ? (int)n : ends_early(err);
	d->pos = 0;
	d->len = (size_t)n;
	(void)pthread_mutex_lock(&d->f->lock);
	d->f->stats.bytes_fetched += (uint64_t)n;
	(void)pthread_mutex_unlock(&d->f->lock);
	return 0;
}

/* How much of the buffer may be used for a span that ends at `end`. */
static size_t in_avail(const struct decode *d, uint64_t end)
{
	uint64_t left = end > d->at ? end - d->at : 0;
	size_t have = d->len - d->pos;

	return have < left ? have : (size_t)left;
}

static void in_used(struct decode *d, size_t n)
{
	d->pos += n;
	d->at += n;
}

static int in_skip_to(struct decode *d, uint64_t offset, struct ql_error *err)
{
	while (d->at < offset) {
		int r = in_fill(d, err);

		if (r < 0)
			return r;
		in_used(d, in_avail(d, offset));
	}
	return 0;
}

/* ---- codecs ---- */

static int damaged(const char *what, struct ql_error *err)
{
	return ql_error_set(err, -EBADMSG, "a damaged %s", what);
}

static int span_none(struct decode *d, const struct ql_toc_span *span,
		     struct ql_error *err)
{
	uint64_t end = span->offset + span->raw_len;

	if (span->raw_len > span->len)
		return damaged("table of contents", err);
	while (d->at < end) {
		int r = in_fill(d, err);
		size_t n = in_avail(d, end);

		if (r == 0)
			r = ql_fill_sink_write(d->sink, d->data + d->pos, n,
					       err);
		if (r < 0)
			return r;
		in_used(d, n);
	}
	return 0;
}

/* Writes what was made, of which *left is wanted. */
static int out_put(struct decode *d, size_t n, uint64_t *left,
		   struct ql_error *err)
{
	if (n > *left)
		n = (size_t)*left;
	*left -= n;
	return ql_fill_sink_write(d->sink, d->out, n, err);
}

static int zstd_prepare(struct decode *d, struct ql_error *err)
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

static int span_zstd(struct decode *d, const struct ql_toc_span *span,
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

/* Inflates until `left` bytes came out or the stream's end. */
static int inflate_run(struct decode *d, uint64_t end, uint64_t left,
		       struct ql_error *err)
{
	struct inflate_state *st = d->inflate;
	int r = 0;

	while (r == 0 && left > 0) {
		size_t avail;
		int rc;

		if (st->block_state == ISAL_BLOCK_FINISH)
			return damaged("gzip member: it ends early", err);
		if (st->tmp_out_processed == st->tmp_out_valid && d->at < end)
			r = in_fill(d, err);
		if (r < 0)
			return r;
		avail = in_avail(d, end);
		st->next_in = d->data + d->pos;
		st->avail_in = (uint32_t)avail;
		st->next_out = d->out;
		st->avail_out = (uint32_t)(left < OUT_SIZE ? left : OUT_SIZE);
		rc = isal_inflate(st);
		if (rc < 0 || rc == ISAL_NEED_DICT)
			return damaged("gzip member", err);
		in_used(d, avail - st->avail_in);
		if (st->next_out == d->out && avail == st->avail_in &&
		    d->at >= end)
			return damaged("gzip member: it ends early", err);
		r = out_put(d, (size_t)(st->next_out - d->out), &left, err);
	}
	return r;
}

static int gzip_header(struct decode *d, uint64_t end, struct ql_error *err)
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

static int inflate_prepare(struct decode *d, struct ql_error *err)
{
	if (!d->inflate)
		d->inflate = malloc(sizeof(*d->inflate));
	if (!d->inflate)
		return ql_error_nomem(err);
	isal_inflate_init(d->inflate);
	return 0;
}

static int span_gzip(struct decode *d, const struct ql_toc_span *span,
		     struct ql_error *err)
{
	int r = inflate_prepare(d, err);

	if (r < 0)
		return r;
	d->inflate->crc_flag = ISAL_GZIP_NO_HDR_VER;
	r = gzip_header(d, span->offset + span->len, err);
	return r < 0 ? r
		     : inflate_run(d, span->offset + span->len, span->raw_len,
				   err);
}

static int checkpoint_begin(struct decode *d, const struct ql_toc_span *span,
			    struct ql_error *err)
{
	_cleanup_free_ uint8_t *window = malloc(GZIP_WINDOW);
	size_t n = 0;
	int r = inflate_prepare(d, err);

	if (r < 0 || !window)
		return ql_error_nomem(err);
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
	if (span->bits > 0) {
		r = in_fill(d, err);
		if (r < 0)
			return r;
		d->inflate->read_in = d->data[d->pos] >> (8 - span->bits);
		d->inflate->read_in_length = span->bits;
		in_used(d, 1);
	}
	return 0;
}

static int span_checkpoint(struct decode *d, const struct ql_toc_span *span,
			   struct ql_error *err)
{
	int r = d->inflating ? 0 : checkpoint_begin(d, span, err);

	d->inflating = r == 0;
	return r < 0 ? r
		     : inflate_run(d, span->offset + span->len, span->raw_len,
				   err);
}

/* ---- a run ---- */

/* Where the blob has to be read from for a span. */
static uint64_t span_start(const struct ql_toc_span *span)
{
	return span->offset - (span->bits > 0 ? 1 : 0);
}

static int span_decode(struct decode *d, const struct ql_toc_span *span,
		       struct ql_error *err)
{
	int r = 0;

	if (!d->inflating || !span->checkpoint)
		r = in_skip_to(d, span_start(span), err);
	if (r < 0)
		return r;
	ql_fill_sink_seek(d->sink, span->raw);
	switch (span->codec) {
	case QL_CODEC_NONE:
		return span_none(d, span, err);
	case QL_CODEC_ZSTD:
		return span_zstd(d, span, err);
	case QL_CODEC_GZIP:
	default:
		return span->checkpoint ? span_checkpoint(d, span, err)
					: span_gzip(d, span, err);
	}
}

int ql_fill_run_range(const struct ql_toc *toc, uint32_t first, uint32_t n,
		      struct ql_toc_blob *ret_blob, uint64_t *ret_offset,
		      uint64_t *ret_len)
{
	struct ql_toc_span a, b;
	int r = ql_toc_span(toc, first, &a);

	if (r == 0)
		r = ql_toc_span(toc, first + n - 1, &b);
	if (r == 0)
		r = ql_toc_blob(toc, a.blob, ret_blob);
	if (r < 0 || b.blob != a.blob || b.offset + b.len <= a.offset)
		return -EBADMSG;
	*ret_offset = span_start(&a);
	*ret_len = b.offset + b.len - *ret_offset;
	return 0;
}

int ql_fill_decode(struct ql_filler *f, const struct ql_fill_run *run,
		   struct ql_stream *in, struct ql_fill_sink *sink,
		   uint32_t *ret_done, struct ql_error *err)
{
	const struct ql_toc *toc = run->toc->toc;
	struct decode *d = malloc(sizeof(*d));
	struct ql_toc_span span;
	int r = 0;

	*ret_done = 0;
	if (!d)
		return ql_error_nomem(err);
	d->f = f;
	d->in = in;
	d->sink = sink;
	d->pos = d->len = 0;
	d->zstd = NULL;
	d->inflate = NULL;
	d->inflating = false;
	d->yields = run->priority == QL_FILL_BACKGROUND;
	for (uint32_t i = 0; i < run->n && r == 0; i++) {
		r = ql_toc_span(toc, run->first + i, &span);
		if (r == 0 && i == 0)
			d->at = span_start(&span);
		r = r < 0 ? damaged("table of contents", err)
			  : span_decode(d, &span, err);
		if (r == 0)
			++*ret_done;
	}
	(void)ZSTD_freeDCtx(d->zstd);
	free(d->inflate);
	free(d);
	return r;
}
