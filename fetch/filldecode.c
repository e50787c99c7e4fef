/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A run of spans, from a blob's bytes to the sink, which verifies what comes
 * out.  How a span is decoded: spandecode.c.
 */
#include "fetch/fill-private.h"

#include <errno.h>

struct decode {
	struct ql_filler *f;	   /* borrowed */
	struct ql_stream *in;	   /* borrowed */
	struct ql_fill_sink *sink; /* borrowed */
	bool yields;		   /* to those who wait */
	bool local;		   /* it comes from packed/ */
	uint64_t left; /* bytes of the run; a source may give more */
};

/* Reads no more while somebody waits for something else; TCP tells the sender
 * to pause. */
bool ql_fill_yield(struct ql_filler *f)
{
	bool waited = false;

	(void)pthread_mutex_lock(&f->lock);
	for (; ql_filler_is_urgent(f) && !f->stop; waited = true)
		(void)pthread_cond_wait(&f->calm, &f->lock);
	(void)pthread_mutex_unlock(&f->lock);
	return waited;
}

static ssize_t decode_read(void *arg, void *buf, size_t len,
			   struct ql_error *err)
{
	struct decode *d = arg;
	ssize_t n;

	if (d->yields)
		(void)ql_fill_yield(d->f);
	n = ql_stream_read(d->in, buf, len < d->left ? len : (size_t)d->left,
			   err);
	if (n <= 0)
		return n;
	d->left -= (uint64_t)n;
	(void)pthread_mutex_lock(&d->f->lock);
	if (d->local)
		d->f->stats.bytes_packed += (uint64_t)n;
	else
		d->f->stats.bytes_fetched += (uint64_t)n;
	(void)pthread_mutex_unlock(&d->f->lock);
	return n;
}

static int decode_write(void *arg, const void *data, size_t len,
			struct ql_error *err)
{
	return ql_fill_sink_write(((struct decode *)arg)->sink, data, len, err);
}

int ql_fill_run_range(const struct ql_toc *toc, uint32_t first, uint32_t n,
		      struct ql_toc_blob *ret_blob, uint64_t *ret_offset,
		      uint64_t *ret_len)
{
	struct ql_toc_span a, b;

	if (ql_toc_span(toc, first, &a) < 0 ||
	    ql_toc_span(toc, first + n - 1, &b) < 0 ||
	    ql_toc_blob(toc, a.blob, ret_blob) < 0 || b.blob != a.blob ||
	    b.offset + b.len <= a.offset)
		return -EBADMSG;
	*ret_offset = ql_span_start(&a);
	*ret_len = b.offset + b.len - *ret_offset;
	return 0;
}

static int run_decode(struct decode *d, const struct ql_fill_run *run,
		      struct ql_span_decoder *decoder, uint32_t *ret_done,
		      struct ql_error *err)
{
	struct ql_toc_span span;
	int r = 0;

	for (uint32_t i = 0; i < run->n && r == 0; i++) {
		r = ql_toc_span(run->toc->toc, run->first + i, &span);
		if (r < 0)
			return ql_error_set(err, r,
					    "a damaged table of contents");
		r = ql_fill_sink_seek(d->sink, span.raw, err);
		if (r == 0)
			r = ql_span_decode(decoder, &span, err);
		if (r == 0)
			++*ret_done;
	}
	return r;
}

/* A chunk that was not right began in a span that went through: that one did
 * not, and another source is to have the whole chunk. */
static uint32_t run_rewind(const struct ql_fill_run *run, uint32_t done,
			   uint64_t bad)
{
	struct ql_toc_span span;

	while (done > 0 &&
	       ql_toc_span(run->toc->toc, run->first + done - 1, &span) == 0 &&
	       span.raw + span.raw_len > bad)
		done--;
	return done;
}

/* Of what broke off for another reason, what came is right as far as it
 * goes. */
static int run_finish(struct decode *d, const struct ql_fill_run *run, int r,
		      uint32_t *ret_done, struct ql_error *err)
{
	struct ql_error other = QL_ERROR_INIT;

	if (r == 0)
		r = ql_fill_sink_end(d->sink, err);
	else if (r != -EBADMSG)
		(void)ql_fill_sink_end(d->sink, &other);
	if (r == -EBADMSG)
		*ret_done =
			run_rewind(run, *ret_done, ql_fill_sink_bad(d->sink));
	return r;
}

int ql_fill_decode(struct ql_filler *f, const struct ql_fill_run *run,
		   struct ql_stream *in, struct ql_fill_sink *sink,
		   uint32_t *ret_done, struct ql_error *err)
{
	struct decode d = { .f = f,
			    .in = in,
			    .sink = sink,
			    .yields = run->priority == QL_FILL_BACKGROUND,
			    .local = run->local };
	struct ql_span_io io = { decode_read, decode_write, &d };
	struct ql_span_decoder *decoder;
	struct ql_toc_blob blob;
	uint64_t offset, len;
	int r = ql_fill_run_range(run->toc->toc, run->first, run->n, &blob,
				  &offset, &len);

	*ret_done = 0;
	if (r < 0)
		return ql_error_set(err, r, "a damaged table of contents");
	d.left = len;
	r = ql_span_decoder_new(&io, offset, &decoder, err);
	if (r < 0)
		return r;
	r = run_decode(&d, run, decoder, ret_done, err);
	ql_span_decoder_free(decoder);
	return run_finish(&d, run, r, ret_done, err);
}
