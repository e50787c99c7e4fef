/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stays as it came.  Where the store has a budget, a run that nobody
 * waits for is decoded and verified like any other, but what is kept of it are
 * the bytes of the blob, in packed/ (store/packed.h), and not the files.  Who
 * reads one later has it decoded from there, as if that were the nearest
 * registry: a run is cut into stretches that are there and stretches that are
 * not.
 *
 * A span that is large is kept as files all the same: each read of a part of it
 * would have to decode all that is before it.
 */
#include "fetch/fill-private.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* Bytes of a blob that are held in memory until they are verified. */
#define PACK_MAX (16ULL << 20)
#define BRIDGE 4096ULL

static uint64_t raw_end(const struct ql_toc_span *span)
{
	return span->raw + span->raw_len;
}

/* ---- whether ---- */

bool ql_fill_packs(const struct ql_filler *f)
{
	return !f->options.plain && ql_space_is_limited(f->store);
}

void ql_fill_pack_begin(struct ql_filler *f, struct ql_fill_run *run)
{
	const struct ql_toc *toc = run->toc->toc;
	struct ql_toc_chunk chunk;
	struct ql_toc_span span;
	struct ql_toc_blob blob;
	uint64_t offset, len;
	uint32_t k, index, last;

	run->packs = run->priority != QL_FILL_DEMAND && !run->toc->hot &&
		     ql_fill_packs(f);
	if (!run->packs)
		return;
	/* A chunk that begins in the run is to end in it: only what was seen
	 * whole is verified. */
	if (ql_toc_span(toc, run->first + run->n - 1, &span) == 0 &&
	    (k = ql_toc_order_from(toc, raw_end(&span))) > 0 &&
	    ql_toc_ordered(toc, k - 1, &index) == 0 &&
	    ql_toc_chunk(toc, index, &chunk) == 0 &&
	    chunk.raw + chunk.len > raw_end(&span) &&
	    ql_toc_span_at(toc, chunk.raw + chunk.len - 1, &last) == 0)
		ql_fill_queue_extend(&f->queue, run, last);
	run->packs = ql_fill_run_range(toc, run->first, run->n, &blob, &offset,
				       &len) == 0 &&
		     len <= PACK_MAX;
}

/* ---- what is there ---- */

static bool span_is_packed(struct ql_filler *f, const struct ql_toc *toc,
			   const struct ql_toc_span *span)
{
	struct ql_toc_blob blob;
	uint64_t offset, len;

	ql_toc_span_range(span, &offset, &len);
	return ql_toc_blob(toc, span->blob, &blob) == 0 &&
	       ql_packed_has(f->store, &blob.digest, offset, len);
}

bool ql_fill_packed_has(struct ql_filler *f, const struct ql_fill_toc *toc,
			const struct ql_toc_chunk *chunk)
{
	uint64_t pos = chunk->raw, end = chunk->raw + chunk->len;
	struct ql_toc_span span;
	uint32_t i;

	if (toc->hot || ql_toc_span_at(toc->toc, pos, &i) < 0)
		return false;
	for (; pos < end; i++, pos = raw_end(&span))
		if (ql_toc_span(toc->toc, i, &span) < 0 ||
		    !span_is_packed(f, toc->toc, &span))
			return false;
	return true;
}

/* Does a chunk lie on both sides of a place in raw space?  The spans in which
 * it begins and ends. */
static bool chunk_astride(const struct ql_toc *toc, uint64_t raw,
			  uint32_t *ret_first, uint32_t *ret_last)
{
	struct ql_toc_chunk chunk;
	uint32_t k = ql_toc_order_from(toc, raw), index;

	return k > 0 && ql_toc_ordered(toc, k - 1, &index) == 0 &&
	       ql_toc_chunk(toc, index, &chunk) == 0 && chunk.raw < raw &&
	       chunk.raw + chunk.len > raw &&
	       ql_toc_span_at(toc, chunk.raw, ret_first) == 0 &&
	       ql_toc_span_at(toc, chunk.raw + chunk.len - 1, ret_last) == 0;
}

/* A run that packs is not cut within a chunk, which would be seen whole on
 * neither side, and so be missing again and again: what of it is here comes
 * once more with what is not. */
static uint32_t cut_whole(const struct ql_fill_run *run, uint32_t n,
			  bool *ret_here)
{
	const struct ql_toc *toc = run->toc->toc;
	uint32_t from, to;
	struct ql_toc_span span;

	while (n < run->n && ql_toc_span(toc, run->first + n, &span) == 0 &&
	       chunk_astride(toc, span.raw, &from, &to)) {
		if (*ret_here && from > run->first)
			return from - run->first;
		*ret_here = false;
		if (to - run->first < n)
			break; /* a damaged table */
		n = to - run->first + 1;
	}
	return n < run->n ? n : run->n;
}

uint32_t ql_fill_packed_cut(struct ql_filler *f, const struct ql_fill_run *run,
			    bool *ret_here)
{
	const struct ql_toc *toc = run->toc->toc;
	struct ql_toc_span span;
	struct ql_toc_blob blob;
	uint64_t start, len;
	uint32_t n = 0;

	*ret_here = false;
	if (run->toc->hot || ql_toc_span(toc, run->first, &span) < 0 ||
	    ql_toc_blob(toc, span.blob, &blob) < 0 ||
	    ql_packed_bytes(f->store, &blob.digest) == 0)
		return run->n;
	ql_toc_span_range(&span, &start, &len);
	*ret_here = span_is_packed(f, toc, &span);
	while (++n < run->n && ql_toc_span(toc, run->first + n, &span) == 0 &&
	       (*ret_here ? ql_packed_has(f->store, &blob.digest, start,
					  span.offset + span.len - start)
			  : !span_is_packed(f, toc, &span)))
		;
	return run->packs ? cut_whole(run, n, ret_here) : n;
}

void ql_fill_packed_doubt(struct ql_filler *f, const struct ql_fill_toc *toc,
			  uint64_t from, uint64_t to)
{
	struct ql_toc_span span;
	struct ql_toc_blob blob;
	uint64_t offset, len;
	uint32_t i;

	if (toc->hot || ql_toc_span_at(toc->toc, from, &i) < 0)
		return;
	for (; from < to && ql_toc_span(toc->toc, i, &span) == 0; i++) {
		from = raw_end(&span);
		if (ql_toc_blob(toc->toc, span.blob, &blob) < 0 ||
		    !span_is_packed(f, toc->toc, &span))
			continue;
		ql_toc_span_range(&span, &offset, &len);
		(void)ql_packed_punch(f->store, &blob.digest, offset, len,
				      NULL);
	}
}

/* ---- reading ---- */

struct packed_stream {
	struct ql_stream base;
	struct ql_stream *inner; /* owned */
	int fd;			 /* owned */
};

static ssize_t packed_read(struct ql_stream *s, void *buf, size_t len,
			   struct ql_error *err)
{
	return ql_stream_read(((struct packed_stream *)s)->inner, buf, len,
			      err);
}

static void packed_free(struct ql_stream *s)
{
	struct packed_stream *p = (struct packed_stream *)s;

	ql_stream_free(p->inner);
	if (p->fd >= 0)
		(void)close(p->fd);
	free(p);
}

static const struct ql_stream_ops packed_ops = { packed_read, packed_free };

int ql_fill_packed_open(struct ql_filler *f, const struct ql_toc_blob *blob,
			uint64_t offset, uint64_t len,
			struct ql_stream **ret_stream, struct ql_error *err)
{
	struct packed_stream *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return ql_error_nomem(err);
	p->base.ops = &packed_ops;
	p->fd = -1;
	r = ql_packed_open(f->store, &blob->digest, offset, len, &p->fd, err);
	if (r == 0)
		r = ql_filestream_new(p->fd, offset, len, &p->inner, err);
	if (r < 0)
		packed_free(&p->base);
	else
		*ret_stream = &p->base;
	return r;
}

/* ---- keeping ---- */

struct ql_fill_pack {
	struct ql_stream base;
	struct ql_filler *f;	 /* borrowed */
	struct ql_stream *inner; /* owned */
	struct ql_toc_blob blob;
	uint64_t offset; /* of data in the blob */
	size_t len, cap;
	char data[];
};

/* The decoder reads through it. */
static ssize_t pack_read(struct ql_stream *s, void *buf, size_t len,
			 struct ql_error *err)
{
	struct ql_fill_pack *p = (struct ql_fill_pack *)s;
	ssize_t n = ql_stream_read(p->inner, buf, len, err);

	if (n > 0 && (size_t)n <= p->cap - p->len) {
		memcpy(p->data + p->len, buf, (size_t)n);
		p->len += (size_t)n;
	}
	return n;
}

static void pack_free(struct ql_stream *s)
{
	struct ql_fill_pack *p = (struct ql_fill_pack *)s;

	ql_stream_free(p->inner);
	free(p);
}

static const struct ql_stream_ops pack_ops = { pack_read, pack_free };

int ql_fill_pack_new(struct ql_filler *f, const struct ql_toc_blob *blob,
		     uint64_t offset, uint64_t len, struct ql_stream **in,
		     struct ql_fill_pack **ret_pack, struct ql_error *err)
{
	struct ql_fill_pack *p = malloc(sizeof(*p) + (size_t)len);

	if (!p)
		return ql_error_nomem(err);
	*p = (struct ql_fill_pack){ { &pack_ops }, f, *in,	  *blob,
				    offset,	   0, (size_t)len };
	*in = &p->base;
	*ret_pack = p;
	return 0;
}

/* What the decoder had no need of is of the spans, too. */
static int pack_rest(struct ql_fill_pack *p, struct ql_error *err)
{
	while (p->len < p->cap) {
		ssize_t n = ql_stream_read(p->inner, p->data + p->len,
					   p->cap - p->len, err);

		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		p->len += (size_t)n;
	}
	return 0;
}

/* Puts a stretch of spans; NULL: none has begun. */
static int pack_put(struct ql_fill_pack *p, struct ql_extent *stretch,
		    struct ql_error *err)
{
	uint64_t start = stretch->start, end = stretch->end;

	*stretch = (struct ql_extent){ 0 };
	if (start >= end || end > p->offset + p->len)
		return 0;
	return ql_packed_put(p->f->store, &p->blob.digest, p->blob.size, start,
			     p->data + (start - p->offset),
			     (size_t)(end - start), err);
}

static bool touches(const struct ql_extents *e, size_t *at, uint64_t start,
		    uint64_t end)
{
	while (*at < e->n && e->items[*at].end <= start)
		++*at;
	return *at < e->n && e->items[*at].start < end;
}

int ql_fill_pack_keep(struct ql_fill_pack *p, const struct ql_fill_toc *toc,
		      uint32_t first, uint32_t n, const struct ql_extents *kept,
		      struct ql_error *err)
{
	struct ql_extent stretch = { 0 };
	size_t at = 0;
	int r = kept->n > 0 ? pack_rest(p, err) : 0;

	for (uint32_t i = first; i < first + n && r == 0; i++) {
		struct ql_toc_span span;
		uint64_t offset, len;

		if (ql_toc_span(toc->toc, i, &span) < 0)
			break;
		if (!touches(kept, &at, span.raw, raw_end(&span)))
			continue;
		ql_toc_span_range(&span, &offset, &len);
		if (offset < p->offset)
			break; /* a damaged table */
		/* What is between is not worth a hole. */
		if (offset > stretch.end + BRIDGE || stretch.end == 0) {
			r = pack_put(p, &stretch, err);
			stretch.start = offset;
		}
		if (offset + len > stretch.end)
			stretch.end = offset + len;
	}
	return r < 0 ? r : pack_put(p, &stretch, err);
}
