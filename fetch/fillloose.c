/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the budget has no room for, although nothing more may go: a chunk that
 * somebody waits for is verified in memory, and its bytes are given to those
 * who wait.  Nobody who reads fails for it; he has it decoded again where he
 * comes again.  The last such chunks are remembered, for who reads on in
 * them, while somebody has their file open.
 *
 * What a read gets is copied under the filler's lock: at most what a request
 * of the kernel asks for.
 */
#include "fetch/fill-private.h"

#include <errno.h>
#include <string.h>

/* Bytes that are remembered; and the most that who waits gets in this way. */
#define LOOSE_MAX (16UL << 20)
#define LOOSE_READ_MAX (4UL << 20)

/* What w waits for, within its file. */
static struct ql_extent waiter_part(const struct ql_fill_waiter *w)
{
	struct ql_extent e = { w->offset, w->file->size };

	if (e.start > e.end)
		e.start = e.end;
	if (w->len < e.end - e.start)
		e.end = e.start + w->len;
	return e;
}

/* The first part of e, from pos on, that is not with the waiter itself. */
static bool next_gap(const struct ql_fill_waiter *w, const struct ql_extent *e,
		     uint64_t pos, struct ql_extent *ret_gap)
{
	struct ql_extent gap = { pos > e->start ? pos : e->start, e->end };

	for (size_t i = 0; i < w->got.n; i++) {
		const struct ql_extent *got = &w->got.items[i];

		if (got->start <= gap.start && got->end > gap.start)
			gap.start = got->end;
		else if (got->start > gap.start && got->start < gap.end)
			gap.end = got->start;
	}
	*ret_gap = gap;
	return gap.start < gap.end;
}

bool ql_fill_waiter_lacks(const struct ql_fill_waiter *w, uint64_t offset,
			  uint64_t len)
{
	struct ql_extent e = waiter_part(w), gap = { 0 };

	if (e.start < offset)
		e.start = offset;
	if (len < UINT64_MAX - offset && e.end > offset + len)
		e.end = offset + len;
	while (next_gap(w, &e, gap.end, &gap))
		if (!ql_fill_file_has(w->file, gap.start, gap.end - gap.start))
			return true;
	return false;
}

bool ql_fill_waiter_takes(const struct ql_filler *f,
			  const struct ql_fill_waiter *w)
{
	struct ql_extent e = waiter_part(w);

	/* Without a budget nothing goes that somebody could wait for. */
	return w->takes && e.end - e.start <= LOOSE_READ_MAX &&
	       ql_space_is_limited(f->store);
}

int ql_fill_waiter_want(struct ql_filler *f, struct ql_fill_waiter *w)
{
	struct ql_extent e = waiter_part(w), gap = { 0 };
	int r = 0;

	while (r == 0 && next_gap(w, &e, gap.end, &gap))
		r = ql_fill_file_want(f, w->file, gap.start,
				      gap.end - gap.start, QL_FILL_DEMAND);
	return r;
}

bool ql_fill_makes_room(const struct ql_filler *f,
			const struct ql_fill_file *file, uint64_t offset,
			uint64_t len, struct ql_error *err)
{
	if (f->full_until < ql_now_ns())
		return true;
	for (const struct ql_fill_waiter *w = f->waiters; w; w = w->next)
		if (w->file == file && !ql_fill_waiter_takes(f, w) &&
		    ql_fill_waiter_lacks(w, offset, len))
			return true;
	(void)ql_error_set(err, -ENOSPC, "%s", f->full_error.text);
	return false;
}

/* ---- holding ---- */

/* Somebody takes bytes of his own of a chunk: who waits for it (of a large one,
 * for a part that begins at *ret_from), or, soon, who has its file open. */
static bool chunk_is_taken(const struct ql_filler *f,
			   const struct ql_fill_file *file, uint64_t offset,
			   uint64_t len, size_t max, uint64_t *ret_from)
{
	*ret_from = 0;
	for (const struct ql_fill_waiter *w = f->waiters; w; w = w->next) {
		if (w->file != file || !ql_fill_waiter_takes(f, w) ||
		    !ql_fill_waiter_lacks(w, offset, len))
			continue;
		if (len > max && w->offset > offset)
			*ret_from = w->offset - offset;
		return true;
	}
	return file->refs > 1 && len <= max && ql_space_is_limited(f->store);
}

struct ql_fill_loose *ql_fill_loose_new(const struct ql_filler *f,
					const struct ql_fill_file *file,
					uint64_t offset, uint64_t len,
					size_t max)
{
	struct ql_fill_loose *l;
	uint64_t from;

	if (!chunk_is_taken(f, file, offset, len, max, &from))
		return NULL;
	len -= from;
	if (len > max)
		len = max;
	l = malloc(sizeof(*l) + (size_t)len);
	if (l)
		*l = (struct ql_fill_loose){ .file = file,
					     .offset = offset + from,
					     .len = (size_t)len };
	return l;
}

void ql_fill_loose_write(struct ql_fill_loose *l, uint64_t offset,
			 const char *data, size_t len)
{
	uint64_t from = l->offset > offset ? l->offset : offset;
	uint64_t to = l->offset + l->len;

	if (to > offset + len)
		to = offset + len;
	if (from < to)
		memcpy(l->data + (from - l->offset), data + (from - offset),
		       (size_t)(to - from));
}

/* ---- giving ---- */

/* -ENOMEM: it waits on. */
static int give(struct ql_fill_waiter *w, const struct ql_fill_loose *l)
{
	struct ql_extent e = waiter_part(w), part = e;

	if (part.start < l->offset)
		part.start = l->offset;
	if (part.end > l->offset + l->len)
		part.end = l->offset + l->len;
	if (e.start >= e.end || part.start >= part.end)
		return 0;
	if (!w->loose)
		w->loose = malloc((size_t)(e.end - e.start));
	if (!w->loose)
		return -ENOMEM;
	memcpy(w->loose + (part.start - e.start),
	       l->data + (part.start - l->offset),
	       (size_t)(part.end - part.start));
	return ql_extents_add(&w->got, part.start, part.end);
}

void ql_fill_loose_look(struct ql_filler *f, struct ql_fill_waiter *w)
{
	if (!ql_fill_waiter_takes(f, w))
		return;
	for (const struct ql_fill_loose *l = f->loose; l; l = l->next)
		if (l->file == w->file)
			(void)give(w, l);
}

/* The oldest go, down to so many bytes. */
static void loose_shrink(struct ql_filler *f, size_t max)
{
	struct ql_fill_loose **at = &f->loose;
	size_t sum = 0;

	while (*at) {
		struct ql_fill_loose *l = *at;

		sum += l->len;
		if (sum <= max) {
			at = &l->next;
			continue;
		}
		*at = l->next;
		free(l);
	}
}

void ql_fill_loose_give(struct ql_filler *f, struct ql_fill_loose *l)
{
	for (struct ql_fill_waiter *w = f->waiters; w; w = w->next)
		if (w->file == l->file && ql_fill_waiter_takes(f, w))
			(void)give(w, l);
	l->next = f->loose;
	f->loose = l;
	loose_shrink(f, LOOSE_MAX);
}

void ql_fill_loose_drop(struct ql_filler *f, const struct ql_fill_file *file)
{
	struct ql_fill_loose **at = &f->loose;

	while (*at) {
		struct ql_fill_loose *l = *at;

		if (l->file != file) {
			at = &l->next;
			continue;
		}
		*at = l->next;
		free(l);
	}
}

/* ---- who waited ---- */

int ql_fill_taken(struct ql_filler *f, struct ql_fill_waiter *w,
		  const char **ret_data, size_t *ret_len)
{
	struct ql_extent e, gap = { 0 };
	int fd;

	*ret_data = NULL;
	*ret_len = 0;
	if (!w->loose)
		return 0;
	fd = ql_fill_fd(f, w->file);
	e = waiter_part(w);
	/* What is not with the waiter is in the file. */
	while (next_gap(w, &e, gap.end, &gap)) {
		ssize_t len = (ssize_t)(gap.end - gap.start);
		ssize_t n = ql_pread_full(fd, w->loose + (gap.start - e.start),
					  (size_t)len, gap.start);

		if (n != len)
			return n < 0 ? (int)n : -EIO;
	}
	*ret_data = w->loose;
	*ret_len = (size_t)(e.end - e.start);
	return 0;
}

void ql_fill_waiter_release(struct ql_fill_waiter *w)
{
	free(w->loose);
	w->loose = NULL;
	ql_extents_release(&w->got);
}
