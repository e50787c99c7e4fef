/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which spans are asked for: a first-in-first-out list of runs for each
 * priority, and for each span a byte that says whether it is asked for, how
 * urgently, or being fetched.  A span that is asked for again more urgently
 * changes its byte and joins the other list; where it stood before it is
 * passed over.
 */
#include "fetch/fill-private.h"

#include <errno.h>

/* Bytes of a blob that are fetched although nobody wants them, where that
 * makes one request of two. */
enum { GAP_MAX = 16 << 10, SKIP_MAX = 4 << 10, SPARE_MAX = 128 << 10 };

void ql_fill_queue_init(struct ql_fill_queue *q)
{
	for (int p = 0; p < QL_FILL_PRIORITIES; p++) {
		q->head[p] = NULL;
		q->tail[p] = &q->head[p];
		q->bytes[p] = 0;
	}
}

static struct ql_fill_run *queue_pop(struct ql_fill_queue *q, int p)
{
	struct ql_fill_run *run = q->head[p];

	q->head[p] = run->next;
	if (!q->head[p])
		q->tail[p] = &q->head[p];
	return run;
}

void ql_fill_queue_release(struct ql_fill_queue *q)
{
	for (int p = 0; p < QL_FILL_PRIORITIES; p++) {
		while (q->head[p]) {
			struct ql_fill_run *run = queue_pop(q, p);

			run->toc->refs--;
			free(run);
		}
	}
}

static uint64_t span_len(const struct ql_fill_toc *toc, uint32_t i)
{
	struct ql_toc_span span;

	return ql_toc_span(toc->toc, i, &span) < 0 ? 0 : span.len;
}

static int queue_push(struct ql_fill_queue *q, struct ql_fill_toc *toc,
		      uint32_t first, uint32_t n, enum ql_fill_priority p)
{
	struct ql_fill_run *run = malloc(sizeof(*run));

	if (!run)
		return -ENOMEM;
	*run = (struct ql_fill_run){
		.toc = toc, .first = first, .n = n, .priority = p
	};
	toc->refs++;
	*q->tail[p] = run;
	q->tail[p] = &run->next;
	return 0;
}

static bool is_queued(const struct ql_fill_toc *toc, uint32_t i)
{
	return toc->state[i] >= QL_SPAN_QUEUED && toc->state[i] < QL_SPAN_TAKEN;
}

static bool wants(const struct ql_fill_toc *toc, uint32_t i,
		  enum ql_fill_priority p)
{
	return toc->state[i] == QL_SPAN_IDLE || toc->state[i] == QL_SPAN_SEEN ||
	       (toc->state[i] < QL_SPAN_TAKEN &&
		toc->state[i] > QL_SPAN_QUEUED + (int)p);
}

int ql_fill_queue_add(struct ql_fill_queue *q, struct ql_fill_toc *toc,
		      uint32_t first, uint32_t last,
		      enum ql_fill_priority priority)
{
	uint32_t i = first;

	while (i <= last) {
		uint32_t start;
		int r;

		if (!wants(toc, i, priority)) {
			i++;
			continue;
		}
		for (start = i; i <= last && wants(toc, i, priority); i++)
			;
		r = queue_push(q, toc, start, i - start, priority);
		if (r < 0)
			return r;
		for (uint32_t s = start; s < i; s++) {
			uint64_t len = span_len(toc, s);

			if (is_queued(toc, s))
				q->bytes[toc->state[s] - QL_SPAN_QUEUED] -= len;
			q->bytes[priority] += len;
			toc->state[s] = (uint8_t)(QL_SPAN_QUEUED + priority);
		}
	}
	return 0;
}

static void span_take(struct ql_fill_queue *q, struct ql_fill_toc *toc,
		      uint32_t i, uint64_t len)
{
	if (is_queued(toc, i))
		q->bytes[toc->state[i] - QL_SPAN_QUEUED] -= len;
	toc->state[i] = QL_SPAN_TAKEN;
}

/* Whether span i can be read on in the request that ends with `before`. */
static bool follows(const struct ql_fill_toc *toc,
		    const struct ql_toc_span *before, uint32_t i,
		    struct ql_toc_span *ret_span)
{
	if (i >= ql_toc_spans(toc->toc) ||
	    ql_toc_span(toc->toc, i, ret_span) < 0)
		return false;
	return ret_span->blob == before->blob &&
	       ret_span->offset + ret_span->len >
		       before->offset + before->len &&
	       ret_span->offset <= before->offset + before->len + GAP_MAX;
}

/* The next queued span that is near enough to read on to, although nobody
 * wants what is between; 0: none.  It costs less than another request. */
static uint32_t skip_to(const struct ql_fill_toc *toc,
			const struct ql_toc_span *before, uint32_t i)
{
	uint64_t end = before->offset + before->len + SKIP_MAX;
	struct ql_toc_span span;

	for (; i < ql_toc_spans(toc->toc) && toc->state[i] != QL_SPAN_TAKEN;
	     i++) {
		if (ql_toc_span(toc->toc, i, &span) < 0 ||
		    span.blob != before->blob || span.offset > end)
			return 0;
		if (is_queued(toc, i))
			return i;
	}
	return 0;
}

/* How far the run goes on behind span i: what is queued, as far as max_bytes;
 * what nobody asked for yet, up to spare_bytes of content in all (small files
 * that stand together are read together).  i: no further. */
static uint32_t run_next(const struct ql_fill_toc *toc,
			 const struct ql_toc_span *before, uint32_t i,
			 uint64_t left, uint64_t spare)
{
	struct ql_toc_span span;
	uint32_t next = i + 1;

	if (!follows(toc, before, next, &span))
		return i;
	if (is_queued(toc, next))
		return span.len <= left ? next : i;
	if (toc->state[next] == QL_SPAN_IDLE && span.raw_len <= spare)
		return next;
	next = skip_to(toc, before, next);
	return next > 0 && SKIP_MAX <= left ? next : i;
}

static uint32_t run_take(struct ql_fill_queue *q, struct ql_fill_toc *toc,
			 uint32_t first, uint64_t max_bytes,
			 uint64_t spare_bytes)
{
	uint64_t bytes = 0, content = 0;
	uint32_t i = first, last = first;

	for (;;) {
		struct ql_toc_span span;

		for (; i <= last; i++) {
			if (ql_toc_span(toc->toc, i, &span) < 0) {
				span_take(q, toc, i, 0);
				return i - first + 1;
			}
			span_take(q, toc, i, span.len);
			bytes += span.len;
			content += span.raw_len;
		}
		last = run_next(toc, &span, last,
				bytes < max_bytes ? max_bytes - bytes : 0,
				content < spare_bytes ? spare_bytes - content
						      : 0);
		if (last < i)
			return last - first + 1;
	}
}

static bool take_at(struct ql_fill_queue *q, int p, uint64_t max_bytes,
		    struct ql_fill_run *ret_run)
{
	while (q->head[p]) {
		struct ql_fill_run *run = q->head[p];
		struct ql_fill_toc *toc = run->toc;

		while (run->n > 0 &&
		       toc->state[run->first] != QL_SPAN_QUEUED + p) {
			run->first++;
			run->n--;
		}
		if (run->n > 0) {
			*ret_run = *run;
			ret_run->next = NULL;
			ret_run->n = run_take(q, toc, run->first, max_bytes,
					      p == QL_FILL_DEMAND && !toc->hot
						      ? SPARE_MAX
						      : 0);
			toc->refs++;
			return true;
		}
		toc->refs--;
		free(queue_pop(q, p));
	}
	return false;
}

bool ql_fill_queue_take(struct ql_fill_queue *q, enum ql_fill_priority least,
			const uint64_t max_bytes[QL_FILL_PRIORITIES],
			struct ql_fill_run *ret_run)
{
	for (int p = 0; p <= (int)least; p++)
		if (take_at(q, p, max_bytes[p], ret_run))
			return true;
	return false;
}

void ql_fill_queue_extend(struct ql_fill_queue *q, struct ql_fill_run *run,
			  uint32_t last)
{
	struct ql_toc_span before, span;
	uint32_t end = run->first + run->n;

	if (ql_toc_span(run->toc->toc, end - 1, &before) < 0)
		return;
	for (uint32_t i = end; i <= last; i++, before = span)
		if (run->toc->state[i] == QL_SPAN_TAKEN ||
		    !follows(run->toc, &before, i, &span))
			return;
	for (; end <= last; end++)
		span_take(q, run->toc, end, span_len(run->toc, end));
	run->n = end - run->first;
}

void ql_fill_queue_done(struct ql_fill_toc *toc, uint32_t first, uint32_t n,
			bool came)
{
	for (uint32_t i = first; i < first + n; i++)
		toc->state[i] = came ? QL_SPAN_SEEN : QL_SPAN_IDLE;
}
