/* SPDX-License-Identifier: Apache-2.0 */
/* LRU: the one that was not asked for longest goes. */
#include "store/cache/cache-private.h"

static void lru_hit(struct ql_cache *c, uint32_t i,
		    const struct ql_cache_request *req)
{
	(void)req;
	ql_list_move(c, i, QL_LIST_1);
}

static void lru_enter(struct ql_cache *c, uint32_t i, uint8_t from,
		      const struct ql_cache_request *req)
{
	(void)from;
	(void)req;
	ql_list_push(c, i, QL_LIST_1);
}

static uint32_t lru_victim(struct ql_cache *c)
{
	return ql_list_last_free(c, QL_LIST_1);
}

static void lru_evict(struct ql_cache *c, uint32_t i, uint8_t from)
{
	(void)from;
	ql_cache_forget(c, i);
}

const struct ql_cache_policy ql_cache_lru = {
	.name = "lru",
	.source = "least recently used",
	.hit = lru_hit,
	.enter = lru_enter,
	.victim = lru_victim,
	.evict = lru_evict,
};
