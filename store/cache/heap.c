/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A binary heap of slots, the lowest key first and of equal keys the lowest
 * stamp: so what comes out does not depend on the order in which they went in.
 */
#include "store/cache/cache-private.h"

static bool before(const struct ql_cache *c, uint32_t a, uint32_t b)
{
	const struct ql_cache_entry *x = &c->e[a];
	const struct ql_cache_entry *y = &c->e[b];

	if (x->key < y->key || x->key > y->key)
		return x->key < y->key;
	return x->stamp < y->stamp;
}

static void put(struct ql_cache *c, uint32_t at, uint32_t i)
{
	c->heap[at] = i;
	c->e[i].heap = at;
}

static void rise(struct ql_cache *c, uint32_t at, uint32_t i)
{
	while (at > 1 && before(c, i, c->heap[at / 2])) {
		put(c, at, c->heap[at / 2]);
		at /= 2;
	}
	put(c, at, i);
}

static void sink(struct ql_cache *c, uint32_t at, uint32_t i)
{
	for (;;) {
		uint32_t child = at * 2;

		if (child > c->heap_n)
			break;
		if (child < c->heap_n &&
		    before(c, c->heap[child + 1], c->heap[child]))
			child++;
		if (!before(c, c->heap[child], i))
			break;
		put(c, at, c->heap[child]);
		at = child;
	}
	put(c, at, i);
}

static void settle(struct ql_cache *c, uint32_t at, uint32_t i)
{
	if (at > 1 && before(c, i, c->heap[at / 2]))
		rise(c, at, i);
	else
		sink(c, at, i);
}

void ql_heap_set(struct ql_cache *c, uint32_t i, double key)
{
	c->e[i].key = key;
	if (c->e[i].heap)
		settle(c, c->e[i].heap, i);
	else
		rise(c, ++c->heap_n, i);
}

void ql_heap_take(struct ql_cache *c, uint32_t i)
{
	uint32_t at = c->e[i].heap;
	uint32_t last;

	if (!at)
		return;
	c->e[i].heap = 0;
	last = c->heap[c->heap_n--];
	if (last != i)
		settle(c, at, last);
}

/* Held ones are taken out for the while of the search; few are held that are
 * also among the lowest. */
uint32_t ql_heap_first_free(struct ql_cache *c)
{
	uint32_t taken = 0; /* a chain through kin_prev, of no use to who has
			       holds here */
	uint32_t found = 0;

	while (c->heap_n) {
		uint32_t i = c->heap[1];

		if (!c->e[i].holds) {
			found = i;
			break;
		}
		ql_heap_take(c, i);
		c->e[i].kin_prev = taken;
		taken = i;
	}
	while (taken) {
		uint32_t next = c->e[taken].kin_prev;

		c->e[taken].kin_prev = 0;
		ql_heap_set(c, taken, c->e[taken].key);
		taken = next;
	}
	return found;
}
