/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ARC as published (Megiddo & Modha, FAST'03, fig. 4) with pages that have
 * sizes: |T1|, |T2|, |B1|, |B2|, p and c are bytes, and the step of p is what
 * the figure says, max(1, |B2| / |B1|), which is why it hardly adapts here.
 *
 * T1 = list 1, T2 = list 2, B1 = ghosts 1, B2 = ghosts 2, p = f[0],
 * u[0] = the last request was a ghost of B2 (REPLACE looks at it).
 */
#include "store/cache/cache-private.h"

static uint64_t bytes(const struct ql_cache *c, uint8_t list)
{
	return c->lists[list].bytes;
}

static double step(uint64_t other, uint64_t own)
{
	double d = own ? (double)other / (double)own : 1;

	return d > 1 ? d : 1;
}

/* Case I. */
static void arc_hit(struct ql_cache *c, uint32_t i,
		    const struct ql_cache_request *req)
{
	(void)req;
	c->u[0] = 0;
	ql_list_move(c, i, QL_LIST_2);
}

/* Case IV's bounds: |T1| + |B1| <= c, and all four <= 2c. */
static void keep_bounds(struct ql_cache *c)
{
	uint64_t t1 = bytes(c, QL_LIST_1);
	uint64_t rest;

	ql_list_trim(c, QL_LIST_GHOST_1,
		     t1 > c->capacity ? 0 : c->capacity - t1);
	rest = ql_cache_used(c) + bytes(c, QL_LIST_GHOST_1);
	ql_list_trim(c, QL_LIST_GHOST_2,
		     rest > 2 * c->capacity ? 0 : 2 * c->capacity - rest);
}

/* Cases II, III and IV.  The ghost has left its list, which the figure counts
 * with it. */
static void arc_enter(struct ql_cache *c, uint32_t i, uint8_t from,
		      const struct ql_cache_request *req)
{
	uint64_t b1 = bytes(c, QL_LIST_GHOST_1);
	uint64_t b2 = bytes(c, QL_LIST_GHOST_2);
	double max = (double)c->capacity;

	(void)req;
	c->u[0] = from == QL_LIST_GHOST_2;
	if (from == QL_LIST_GHOST_1) {
		c->f[0] += step(b2, b1 + c->e[i].size);
		c->f[0] = c->f[0] > max ? max : c->f[0];
	} else if (from == QL_LIST_GHOST_2) {
		c->f[0] -= step(b1, b2 + c->e[i].size);
		c->f[0] = c->f[0] < 0 ? 0 : c->f[0];
	}
	ql_list_push(c, i, from == QL_LIST_NONE ? QL_LIST_1 : QL_LIST_2);
	if (from == QL_LIST_NONE)
		keep_bounds(c);
}

/* REPLACE, which the figure calls before the new page enters T1 or T2. */
static uint32_t arc_victim(struct ql_cache *c)
{
	uint32_t t1 = ql_list_last_free(c, QL_LIST_1);
	uint32_t t2 = ql_list_last_free(c, QL_LIST_2);
	double size = (double)bytes(c, QL_LIST_1);
	uint32_t n = c->newest;

	if (n && c->e[n].list == QL_LIST_1)
		size -= (double)c->e[n].size;
	if (t1 == n)
		t1 = 0;
	if (t2 == n)
		t2 = 0;
	if (t1 && (size > c->f[0] || (c->u[0] && size >= c->f[0]) || !t2))
		return t1;
	if (t2)
		return t2;
	return n && !c->e[n].holds ? n : 0;
}

/* Where T1 alone has c, the figure deletes from it without a ghost: so do the
 * bounds. */
static void arc_evict(struct ql_cache *c, uint32_t i, uint8_t from)
{
	ql_list_push(c, i,
		     from == QL_LIST_1 ? QL_LIST_GHOST_1 : QL_LIST_GHOST_2);
	keep_bounds(c);
}

const struct ql_cache_policy ql_cache_arc = {
	.name = "arc",
	.source = "Megiddo & Modha, FAST'03, fig. 4, in bytes",
	.hit = arc_hit,
	.enter = arc_enter,
	.victim = arc_victim,
	.evict = arc_evict,
};
