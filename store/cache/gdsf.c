/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GDSF: Cherkasova, "Improving WWW Proxies Performance with
 * Greedy-Dual-Size-Frequency Caching Policy", HP Labs HPL-98-69R1, 1998.
 * Priority K = L + F * C / S: frequency since it came, cost (ns to have it
 * again), size (bytes); L, the inflation, is the priority of who went last.
 * Where the cost is in proportion to the size this is LFU-DA (Arlitt et al.).
 * A file that comes and has one of the priorities that would have to go for it
 * is not kept, and then neither do others go nor does L change.
 *
 * u[0] = who leaves now is not kept in that way.
 */
#include "store/cache/cache-private.h"

static double priority(const struct ql_cache *c, uint32_t i)
{
	const struct ql_cache_entry *e = &c->e[i];
	double size = e->size ? (double)e->size : 1;

	return c->f[0] + e->count * ((double)e->cost / size);
}

static void gdsf_hit(struct ql_cache *c, uint32_t i,
		     const struct ql_cache_request *req)
{
	(void)req;
	ql_list_move(c, i, QL_LIST_1);
	if (c->e[i].count < UINT32_MAX)
		c->e[i].count++;
	ql_heap_set(c, i, priority(c, i));
}

static void gdsf_enter(struct ql_cache *c, uint32_t i, uint8_t from,
		       const struct ql_cache_request *req)
{
	(void)from;
	(void)req;
	ql_list_push(c, i, QL_LIST_1);
	c->e[i].count = 1;
	ql_heap_set(c, i, priority(c, i));
}

/* Whether `i` is among those with the lowest priorities that are as large as
 * what is here too much.  They are out of the heap for the while of that. */
static bool is_among_lowest(struct ql_cache *c, uint32_t i)
{
	uint64_t used = ql_cache_used(c);
	uint32_t taken = 0; /* a chain through kin_next */
	uint32_t v = 0;

	while (used > c->capacity && v != i &&
	       (v = ql_heap_first_free(c)) != 0) {
		used -= c->e[v].size;
		ql_heap_take(c, v);
		c->e[v].kin_next = taken;
		taken = v;
	}
	while (taken) {
		uint32_t next = c->e[taken].kin_next;

		c->e[taken].kin_next = 0;
		ql_heap_set(c, taken, c->e[taken].key);
		taken = next;
	}
	return v == i;
}

static uint32_t gdsf_victim(struct ql_cache *c)
{
	uint32_t n = c->newest;

	return n && is_among_lowest(c, n) ? n : ql_heap_first_free(c);
}

static void gdsf_leave(struct ql_cache *c, uint32_t i)
{
	c->u[0] = i == c->newest && ql_cache_used(c) > c->capacity;
}

static void gdsf_evict(struct ql_cache *c, uint32_t i, uint8_t from)
{
	(void)from;
	if (!c->u[0] && c->e[i].key > c->f[0])
		c->f[0] = c->e[i].key;
	ql_cache_forget(c, i);
}

const struct ql_cache_policy ql_cache_gdsf = {
	.name = "gdsf",
	.source = "Cherkasova, HPL-98-69R1, 1998",
	.heap = true,
	.hit = gdsf_hit,
	.enter = gdsf_enter,
	.victim = gdsf_victim,
	.leave = gdsf_leave,
	.evict = gdsf_evict,
};
