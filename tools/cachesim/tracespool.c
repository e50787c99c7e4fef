/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A trace as events in a temporary file that has no name.  Objects are numbered
 * as they come; then the file is gone through backwards, to write into each
 * event where its object comes next, which the clairvoyant bound needs.
 */
#include "tools/cachesim/cachesim.h"

#include <errno.h>
#include <string.h>

enum { BATCH = 4096 };

struct object {
	uint64_t id;
	uint64_t size;
	uint64_t bytes; /* to fetch it */
	uint64_t next;	/* event, while going backwards */
	uint64_t number;
};

struct ql_tracespool {
	FILE *file; /* owned */
	uint64_t events;
	uint64_t footprint;
	struct object *table; /* owned; by hash, open addressing */
	uint64_t cap, n;
};

void ql_tracespool_free(struct ql_tracespool *s)
{
	if (!s)
		return;
	if (s->file)
		(void)fclose(s->file);
	free(s->table);
	free(s);
}

static struct object *look(struct object *table, uint64_t cap, uint64_t id)
{
	uint64_t at = (id ^ (id >> 29)) & (cap - 1);

	while (table[at].id && table[at].id != id)
		at = (at + 1) & (cap - 1);
	return &table[at];
}

static int grow(struct ql_tracespool *s)
{
	uint64_t cap = s->cap ? 2 * s->cap : 1024;
	struct object *table = calloc(cap, sizeof(*table));

	if (!table)
		return -ENOMEM;
	for (uint64_t i = 0; i < s->cap; i++)
		if (s->table[i].id)
			*look(table, cap, s->table[i].id) = s->table[i];
	free(s->table);
	s->table = table;
	s->cap = cap;
	return 0;
}

/* The object of a request; its first size is the one that counts. */
static int find_object(struct ql_tracespool *s, struct ql_trace_event *ev,
		       struct ql_trace_counts *counts)
{
	struct ql_cache_request *req = &ev->req;
	struct object *o;

	if (s->n * 4 >= s->cap * 3 && grow(s) < 0)
		return -ENOMEM;
	o = look(s->table, s->cap, req->id);
	if (!o->id) {
		*o = (struct object){ .id = req->id,
				      .size = req->size,
				      .bytes = ev->bytes,
				      .next = UINT64_MAX,
				      .number = s->n++ };
		if (__builtin_add_overflow(s->footprint, o->size,
					   &s->footprint))
			return -EOVERFLOW;
	}
	counts->sizes += o->size != req->size;
	req->size = o->size;
	ev->bytes = o->bytes;
	ev->object = o->number;
	return 0;
}

static int file_error(struct ql_error *err)
{
	return ql_error_errno(err, errno ? -errno : -EIO,
			      "temporary file of the trace");
}

static int write_events(struct ql_tracespool *s, struct ql_tracereader *reader,
			struct ql_tracestack *stack,
			struct ql_trace_counts *counts, struct ql_error *err)
{
	struct ql_trace_event ev = { .next = UINT64_MAX };
	struct ql_traceline line;
	int r;

	while ((r = ql_tracereader_next(reader, &line, err)) > 0) {
		ev.held = line.own;
		if (!ql_tracestack_follow(stack, &line, &ev.req)) {
			counts->pulls++;
			continue;
		}
		counts->requests++;
		ev.bytes = line.bytes;
		r = find_object(s, &ev, counts);
		if (r < 0)
			return ql_error_errno(err, r, "the trace's layers");
		if (fwrite(&ev, sizeof(ev), 1, s->file) != 1)
			return file_error(err);
		s->events++;
	}
	return r;
}

static int batch_at(struct ql_tracespool *s, uint64_t first)
{
	if (first > INT64_MAX / sizeof(struct ql_trace_event))
		return -1;
	return fseeko(s->file, (off_t)(first * sizeof(struct ql_trace_event)),
		      SEEK_SET);
}

static int write_next(struct ql_tracespool *s, struct ql_error *err)
{
	_cleanup_free_ struct ql_trace_event *ev = calloc(BATCH, sizeof(*ev));
	uint64_t end = s->events;

	if (!ev)
		return ql_error_nomem(err);
	while (end > 0) {
		size_t n = end < BATCH ? (size_t)end : BATCH;
		uint64_t first = end - n;

		if (batch_at(s, first) < 0 ||
		    fread(ev, sizeof(*ev), n, s->file) != n)
			return file_error(err);
		for (size_t i = n; i-- > 0;) {
			struct object *o = look(s->table, s->cap, ev[i].req.id);

			ev[i].next = o->next;
			o->next = first + i;
		}
		if (batch_at(s, first) < 0 ||
		    fwrite(ev, sizeof(*ev), n, s->file) != n)
			return file_error(err);
		end = first;
	}
	return 0;
}

int ql_tracespool_read(struct ql_stream *in, struct ql_trace_counts *counts,
		       struct ql_tracespool **ret_spool, struct ql_error *err)
{
	_cleanup_(ql_tracespool_freep) struct ql_tracespool *s =
		calloc(1, sizeof(*s));
	_cleanup_(ql_tracestack_freep) struct ql_tracestack *stack =
		ql_tracestack_new();
	_cleanup_(ql_tracereader_freep) struct ql_tracereader *reader = NULL;
	int r;

	if (!s || !stack)
		return ql_error_nomem(err);
	errno = 0;
	s->file = tmpfile();
	if (!s->file)
		return file_error(err);
	r = ql_tracereader_new(in, counts, &reader, err);
	if (r == 0)
		r = write_events(s, reader, stack, counts, err);
	if (r == 0)
		r = write_next(s, err);
	if (r == 0)
		*ret_spool = ql_take_ptr(s);
	return r;
}

uint64_t ql_tracespool_objects(const struct ql_tracespool *s)
{
	return s->n;
}

uint64_t ql_tracespool_footprint(const struct ql_tracespool *s)
{
	return s->footprint;
}

int ql_tracespool_rewind(struct ql_tracespool *s, struct ql_error *err)
{
	errno = 0;
	return batch_at(s, 0) < 0 ? file_error(err) : 0;
}

int ql_tracespool_next(struct ql_tracespool *s, struct ql_trace_event *ret,
		       struct ql_error *err)
{
	if (fread(ret, sizeof(*ret), 1, s->file) == 1)
		return 1;
	return ferror(s->file) ? file_error(err) : 0;
}
