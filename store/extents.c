/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which parts of a file are there: intervals [start, end) that do not touch,
 * in ascending order.  A file that fills from a few places has few of them,
 * whatever its chunks are; so one record serves every way of cutting it.
 */
#include "store/store-private.h"

#include <errno.h>
#include <string.h>

void ql_extents_release(struct ql_extents *e)
{
	free(e->items);
	*e = (struct ql_extents){ 0 };
}

/* The first interval that ends at pos or later; e->n: none. */
static size_t extents_from(const struct ql_extents *e, uint64_t pos)
{
	size_t low = 0, high = e->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (e->items[mid].end < pos)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static int extents_grow(struct ql_extents *e)
{
	size_t cap = e->cap ? e->cap * 2 : 4;
	struct ql_extent *grown;

	if (e->n < e->cap)
		return 0;
	grown = reallocarray(e->items, cap, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	e->items = grown;
	e->cap = cap;
	return 0;
}

int ql_extents_add(struct ql_extents *e, uint64_t start, uint64_t end)
{
	size_t first = extents_from(e, start);
	size_t last = first;
	int r;

	if (start >= end)
		return 0;
	for (; last < e->n && e->items[last].start <= end; last++) {
		if (e->items[last].start < start)
			start = e->items[last].start;
		if (e->items[last].end > end)
			end = e->items[last].end;
	}
	if (first == last) {
		r = extents_grow(e);
		if (r < 0)
			return r;
		memmove(&e->items[first + 1], &e->items[first],
			(e->n - first) * sizeof(*e->items));
		e->n++;
	} else {
		memmove(&e->items[first + 1], &e->items[last],
			(e->n - last) * sizeof(*e->items));
		e->n -= last - first - 1;
	}
	e->items[first] = (struct ql_extent){ start, end };
	return 0;
}

bool ql_extents_have(const struct ql_extents *e, uint64_t start, uint64_t end)
{
	size_t at = extents_from(e, end);

	return start >= end || (at < e->n && e->items[at].start <= start);
}

uint64_t ql_extents_reach(const struct ql_extents *e, uint64_t start)
{
	size_t at = start < UINT64_MAX ? extents_from(e, start + 1) : e->n;

	return at < e->n && e->items[at].start <= start ? e->items[at].end
							: start;
}

uint64_t ql_extents_bytes(const struct ql_extents *e)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < e->n; i++)
		sum += e->items[i].end - e->items[i].start;
	return sum;
}

int ql_extents_copy(const struct ql_extents *from, struct ql_extents *to)
{
	int r = 0;

	for (size_t i = 0; i < from->n && r == 0; i++)
		r = ql_extents_add(to, from->items[i].start,
				   from->items[i].end);
	return r;
}

int ql_extents_cut(struct ql_extents *e, uint64_t start, uint64_t end)
{
	struct ql_extents left = { 0 };
	int r = 0;

	for (size_t i = 0; i < e->n && r == 0; i++) {
		const struct ql_extent *x = &e->items[i];

		r = ql_extents_add(&left, x->start,
				   x->end < start ? x->end : start);
		if (r == 0)
			r = ql_extents_add(
				&left, x->start > end ? x->start : end, x->end);
	}
	if (r < 0) {
		ql_extents_release(&left);
		return r;
	}
	ql_extents_release(e);
	*e = left;
	return 0;
}
