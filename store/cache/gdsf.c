/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GDSF: Cherkasova, "Improving WWW Proxies Performance with
 * Greedy-Dual-Size-Frequency Caching Policy", HP Labs HPL-98-69R1, 1998.
 * Priority K = L + F * C / S: frequency since it came, cost (ns to have it
 * again), size (bytes); L, the inflation, is the priority of who went last.
 * Where the cost is in proportion to the size this is LFU-DA (Arlitt et al.).
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

static uint32_t gdsf_victim(struct ql_cache *c)
{
	return ql_heap_first_free(c);
}

static void gdsf_evict(struct ql_cache *c, uint32_t i, uint8_t from)
{
	(void)from;
	if (c->e[i].key > c->f[0])
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
	.evict = gdsf_evict,
};
