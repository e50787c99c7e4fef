/* SPDX-License-Identifier: Apache-2.0 */
/*
 * S3-FIFO: Yang et al., "FIFO Queues are All You Need for Cache Eviction",
 * SOSP'23, algorithm 1.  S = list 1 (a tenth of the bytes), M = list 2,
 * G = ghosts 1 (as many bytes as M may have); count = freq, up to 3, which is
 * cleared on the way from S to M.
 *
 * What comes is in its queue when room is made: pages of one size do not tell,
 * but what is larger than S may be then goes right through it, to the ghosts,
 * which here wins 1.3 points of bytes.  The algorithm takes several at once,
 * where here one goes at a time and as many as are needed: u[0] says where in
 * it the last one was.
 */
#include "store/cache/cache-private.h"

enum { FREQ_MAX = 3, SMALL = 10 };
enum { EVICT_S = 1, EVICT_M = 2 }; /* in u[0] */

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
	c->u[0] = 0;
	c->e[i].count = 0;
	ql_list_push(c, i, from == QL_LIST_GHOST_1 ? QL_LIST_2 : QL_LIST_1);
}

static uint64_t main_size(const struct ql_cache *c)
{
	return c->capacity - c->capacity / SMALL;
}

/* evictS: those that were asked for again go over to M, from which one goes
 * where that is full.  0: go on. */
static uint32_t evict_small(struct ql_cache *c, uint32_t i)
{
	if (c->e[i].count <= 1)
		return i;
	c->e[i].count = 0;
	ql_list_move(c, i, QL_LIST_2);
	if (c->lists[QL_LIST_2].bytes > main_size(c))
		c->u[0] |= EVICT_M;
	return 0;
}

/* evictM: those that were asked for go around once more.  0: go on. */
static uint32_t evict_main(struct ql_cache *c, uint32_t i)
{
	if (c->e[i].count == 0)
		return i;
	c->e[i].count--;
	ql_list_move(c, i, QL_LIST_2);
	return 0;
}

static uint32_t s3_victim(struct ql_cache *c)
{
	for (;;) {
		uint32_t small = ql_list_last_free(c, QL_LIST_1);
		uint32_t large = ql_list_last_free(c, QL_LIST_2);
		uint32_t i;

		if (!small && !large)
			return 0;
		if (!small)
			c->u[0] = EVICT_M;
		else if (!large)
			c->u[0] = EVICT_S;
		else if (!c->u[0])
			c->u[0] = c->lists[QL_LIST_1].bytes >=
						  c->capacity / SMALL
					  ? EVICT_S
					  : EVICT_M;
		i = c->u[0] & EVICT_M ? evict_main(c, large)
				      : evict_small(c, small);
		if (i)
			return i;
	}
}

static void s3_evict(struct ql_cache *c, uint32_t i, uint8_t from)
{
	if (from != QL_LIST_1) {
		c->u[0] &= ql_cache_used(c) > c->capacity ? EVICT_S : 0;
		ql_cache_forget(c, i);
		return;
	}
	c->u[0] = 0;
	ql_list_push(c, i, QL_LIST_GHOST_1);
	ql_list_trim(c, QL_LIST_GHOST_1, main_size(c));
}

const struct ql_cache_policy ql_cache_s3fifo = {
	.name = "s3fifo",
	.source = "Yang et al., SOSP'23, algorithm 1",
	.hit = s3_hit,
	.enter = s3_enter,
	.victim = s3_victim,
	.evict = s3_evict,
};
