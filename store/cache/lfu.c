/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LFU with ageing: the one with the fewest requests since it came goes, of
 * equals the one that was not asked for longest.  All counts are halved after
 * every AGE requests for each object that is here (Arlitt et al., "Evaluating
 * Content Management Techniques for Web Proxy Caches", 2000, call for ageing;
 * the halving is that of Robinson & Devarakonda, SIGMETRICS'90).
 */
#include "store/cache/cache-private.h"

enum { AGE = 10 };

static void halve(struct ql_cache *c)
{
	c->u[0] = 0;
	/* Halving keeps the order, so that the heap stays one. */
	for (uint32_t i = c->lists[QL_LIST_1].head; i; i = c->e[i].next) {
		c->e[i].key /= 2;
		ql_cache_changed(c, i);
	}
}

static void lfu_hit(struct ql_cache *c, uint32_t i,
		    const struct ql_cache_request *req)
{
	(void)req;
	ql_list_move(c, i, QL_LIST_1);
	ql_heap_set(c, i, c->e[i].key + 1);
	if (++c->u[0] > (uint64_t)AGE * c->lists[QL_LIST_1].n)
		halve(c);
}

static void lfu_enter(struct ql_cache *c, uint32_t i, uint8_t from,
		      const struct ql_cache_request *req)
{
	(void)from;
	(void)req;
	ql_list_push(c, i, QL_LIST_1);
	ql_heap_set(c, i, 1);
	if (++c->u[0] > (uint64_t)AGE * c->lists[QL_LIST_1].n)
		halve(c);
}

static uint32_t lfu_victim(struct ql_cache *c)
{
	uint32_t i = c->newest;
	uint32_t other;

	/* What comes is not the victim of its own arrival, or nothing new
	 * would ever stay. */
	if (!i || !c->e[i].heap)
		return ql_heap_first_free(c);
	ql_heap_take(c, i);
	other = ql_heap_first_free(c);
	ql_heap_set(c, i, c->e[i].key);
	if (other || c->e[i].holds)
		return other;
	return i;
}

static void lfu_evict(struct ql_cache *c, uint32_t i, uint8_t from)
{
	(void)from;
	ql_cache_forget(c, i);
}

const struct ql_cache_policy ql_cache_lfu = {
	.name = "lfu",
	.source = "least frequently used, counts halved every 10 requests an "
		  "object",
	.heap = true,
	.hit = lfu_hit,
	.enter = lfu_enter,
	.victim = lfu_victim,
	.evict = lfu_evict,
};
