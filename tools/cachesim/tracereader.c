/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A trace's lines in the order of their times.  Traces of several front ends
 * are nearly in order: a window of WINDOW lines is kept in a heap and the
 * earliest given out.  What is further out of order is counted, and given its
 * predecessor's time, so that time never goes back.
 */
#include "tools/cachesim/cachesim.h"

#include <errno.h>
#include <inttypes.h>

enum { WINDOW = 1024 };

struct waiting {
	struct ql_traceline line;
	uint64_t number; /* keeps lines of one time in their order */
};

struct ql_tracereader {
	struct ql_traceframe *frame;	/* owned */
	struct ql_trace_counts *counts; /* borrowed */
	struct waiting heap[WINDOW];
	size_t n;
	uint64_t number;
	int64_t now;
	bool started, ended;
	bool own; /* an access log of ours: it began with a header */
};

void ql_trace_counts_release(struct ql_trace_counts *counts)
{
	for (size_t i = 0; i < counts->n_named; i++)
		free(counts->named[i]);
	counts->n_named = 0;
}

int ql_tracereader_new(struct ql_stream *in, struct ql_trace_counts *counts,
		       struct ql_tracereader **ret_reader, struct ql_error *err)
{
	_cleanup_(ql_tracereader_freep) struct ql_tracereader *t =
		calloc(1, sizeof(*t));
	int r;

	if (!t)
		return ql_error_nomem(err);
	t->counts = counts;
	r = ql_traceframe_new(in, &t->frame, err);
	if (r == 0)
		*ret_reader = ql_take_ptr(t);
	return r;
}

void ql_tracereader_free(struct ql_tracereader *t)
{
	if (!t)
		return;
	ql_traceframe_free(t->frame);
	free(t);
}

static bool earlier(const struct waiting *a, const struct waiting *b)
{
	if (a->line.time != b->line.time)
		return a->line.time < b->line.time;
	return a->number < b->number;
}

static void heap_add(struct ql_tracereader *t, const struct waiting *w)
{
	size_t at = t->n++;

	while (at > 0 && earlier(w, &t->heap[(at - 1) / 2])) {
		t->heap[at] = t->heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	t->heap[at] = *w;
}

static void heap_first(struct ql_tracereader *t, struct waiting *ret)
{
	struct waiting last = t->heap[--t->n];
	size_t at = 0;

	*ret = t->heap[0];
	for (;;) {
		size_t child = 2 * at + 1;

		if (child >= t->n)
			break;
		if (child + 1 < t->n &&
		    earlier(&t->heap[child + 1], &t->heap[child]))
			child++;
		if (!earlier(&t->heap[child], &last))
			break;
		t->heap[at] = t->heap[child];
		at = child;
	}
	if (t->n > 0)
		t->heap[at] = last;
}

static int note_broken(struct ql_trace_counts *counts, uint64_t line,
		       struct ql_error *err)
{
	counts->broken++;
	if (counts->n_named == QL_TRACE_NAMED)
		return 0;
	counts->named[counts->n_named] =
		ql_strf("line %" PRIu64 ": %s", line, err->text);
	if (!counts->named[counts->n_named])
		return ql_error_nomem(err);
	counts->n_named++;
	return 0;
}

/* 1: a request that is part of a pull was added; 0: the end. */
static int read_one(struct ql_tracereader *t, struct ql_error *err)
{
	struct ql_trace_counts *counts = t->counts;

	for (;;) {
		struct waiting w = { .number = t->number++ };
		const char *text;
		uint64_t line = 0;
		size_t len;
		int r = ql_traceframe_next(t->frame, &text, &len, &line, err);

		if (r == 0)
			return 0;
		if (r > 0)
			r = t->own ? ql_ownline_parse(text, len, &w.line, err)
				   : ql_traceline_parse(text, len, &w.line,
							err);
		if (r < 0 && r != -EBADMSG)
			return r;
		/* Logs that were rotated have one each. */
		if (r == 0 && counts->lines == 0)
			t->own = w.line.kind == QL_TRACE_HEADER;
		counts->lines++;
		if (r < 0) {
			r = note_broken(counts, line, err);
			if (r < 0)
				return r;
		} else if (w.line.kind != QL_TRACE_MANIFEST &&
			   w.line.kind != QL_TRACE_BLOB) {
			counts->other++;
		} else {
			heap_add(t, &w);
			return 1;
		}
	}
}

int ql_tracereader_next(struct ql_tracereader *t, struct ql_traceline *ret_line,
			struct ql_error *err)
{
	struct waiting w;

	while (!t->ended && t->n < WINDOW) {
		int r = read_one(t, err);

		if (r < 0)
			return r;
		t->ended = r == 0;
	}
	if (t->n == 0)
		return 0;
	heap_first(t, &w);
	if (t->started && w.line.time < t->now) {
		t->counts->late++;
		w.line.time = t->now;
	}
	t->started = true;
	t->now = w.line.time;
	*ret_line = w.line;
	return 1;
}
