/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIEVE: Zhang et al., "SIEVE is Simpler than LRU", NSDI'24, algorithm 1.  One
 * queue; a hit only marks; the hand goes from the tail to the head, takes
 * marks away, and who has none goes.  u[0] = the id below the hand, 0: the
 * tail.
 */
#include "store/cache/cache-private.h"

static void sieve_hit(struct ql_cache *c, uint32_t i,
		      const struct ql_cache_request *req)
{
	(void)req;
	c->e[i].mark = 1;
	ql_cache_changed(c, i);
}

static void sieve_enter(struct ql_cache *c, uint32_t i, uint8_t from,
			const struct ql_cache_request *req)
{
	(void)from;
	(void)req;
	c->e[i].mark = 0;
	ql_list_push(c, i, QL_LIST_1);
}

static uint32_t sieve_victim(struct ql_cache *c)
{
	const struct ql_cache_list *l = &c->lists[QL_LIST_1];
	uint32_t i = c->u[0] ? ql_cache_find(c, c->u[0]) : 0;

	if (!i)
		i = l->tail;
	/* Twice around at most: once to take marks away. */
	for (uint64_t left = 2 * (uint64_t)l->n; left > 0; left--) {
		struct ql_cache_entry *e = &c->e[i];

		if (!e->mark && !e->holds && i != c->newest) {
			c->u[0] = e->id;
			return i;
		}
		if (!e->holds && e->mark) {
			e->mark = 0;
			ql_cache_changed(c, i);
		}
		i = e->prev ? e->prev : l->tail;
	}
	i = c->newest;
	return i && !c->e[i].holds ? i : 0;
}

/* Whoever the hand points at is about to go or to be forgotten.  What room is
 * made for is not in the algorithm's queue yet: the hand is at the end. */
static void move_hand(struct ql_cache *c, uint32_t i)
{
	uint32_t prev = c->e[i].prev;

	if (c->u[0] == c->e[i].id)
		c->u[0] = prev && prev != c->newest ? c->e[prev].id : 0;
}

static void sieve_evict(struct ql_cache *c, uint32_t i, uint8_t from)
{
	(void)from;
	ql_cache_forget(c, i);
}

const struct ql_cache_policy ql_cache_sieve = {
	.name = "sieve",
	.source = "Zhang et al., NSDI'24, algorithm 1",
	.hit = sieve_hit,
	.enter = sieve_enter,
	.victim = sieve_victim,
	.leave = move_hand,
	.evict = sieve_evict,
};
