/* SPDX-License-Identifier: Apache-2.0 */
/*
 * S3-FIFO: Yang et al., "FIFO Queues are All You Need for Cache Eviction",
 * SOSP'23, algorithm 1.  S = list 1 (a tenth of the bytes), M = list 2,
 * G = ghosts 1 (as many bytes as M may have); count = freq, up to 3.
 */
#include "store/cache/cache-private.h"

enum { FREQ_MAX = 3, SMALL = 10 };

static void s3_hit(struct ql_cache *c, uint32_t i,
		   const struct ql_cache_request *req)
{
	(void)req;
	if (c->e[i].count < FREQ_MAX)
		c->e[i].count++;
	ql_cache_changed(c, i);
}

static void s3_enter(struct ql_cache *c, uint32_t i, uint8_t from,
		     const struct ql_cache_request *req)
{
	(void)req;
	c->e[i].count = 0;
	ql_list_push(c, i, from == QL_LIST_GHOST_1 ? QL_LIST_2 : QL_LIST_1);
}

/* evictS: those that were asked for again go over to M. */
static uint32_t small_victim(struct ql_cache *c)
{
	uint32_t i = ql_list_last_free(c, QL_LIST_1);

	if (i && c->e[i].count > 1) {
		c->e[i].count = 0;
		ql_list_move(c, i, QL_LIST_2);
		return 0;
	}
	return i;
}

/* evictM: those that were asked for go around once more. */
static uint32_t main_victim(struct ql_cache *c)
{
	uint32_t i = ql_list_last_free(c, QL_LIST_2);

	if (i && c->e[i].count > 0) {
		c->e[i].count--;
		ql_list_move(c, i, QL_LIST_2);
		return 0;
	}
	return i;
}

static uint32_t s3_victim(struct ql_cache *c)
{
	for (;;) {
		uint32_t small = ql_list_last_free(c, QL_LIST_1);
		uint32_t large = ql_list_last_free(c, QL_LIST_2);
		uint32_t i;

		if (!small && !large)
			return 0;
		if (small && (!large ||
			      c->lists[QL_LIST_1].bytes >= c->capacity / SMALL))
			i = small_victim(c);
		else
			i = main_victim(c);
		if (i)
			return i;
	}
}

static void s3_evict(struct ql_cache *c, uint32_t i, uint8_t from)
{
	if (from != QL_LIST_1) {
		ql_cache_forget(c, i);
		return;
	}
	ql_list_push(c, i, QL_LIST_GHOST_1);
	ql_list_trim(c, QL_LIST_GHOST_1, c->capacity - c->capacity / SMALL);
}

const struct ql_cache_policy ql_cache_s3fifo = {
	.name = "s3fifo",
	.source = "Yang et al., SOSP'23, algorithm 1",
	.hit = s3_hit,
	.enter = s3_enter,
	.victim = s3_victim,
	.evict = s3_evict,
};
