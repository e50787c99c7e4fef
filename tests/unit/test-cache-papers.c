/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The policies that have one queue or one order, against their papers'
 * algorithms, written down plainly (cachemodel.h).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/cachemodel.h"

/* For those that have one queue alone. */
static void wait_for_room(struct model *m, const struct ql_cache_request *req)
{
	m->incoming = req->id;
}

static void join_first(struct model *m, uint64_t id)
{
	queue_push(&m->q[0], id);
}

static void drop_from_first(struct model *m, uint64_t id)
{
	queue_remove(&m->q[0], id);
}

/* ---- LRU ---- */

static void lru_hit(struct model *m, const struct ql_cache_request *req)
{
	queue_push(&m->q[0], req->id);
}

static uint64_t lru_victim(struct model *m)
{
	return queue_oldest(m, &m->q[0]);
}

static const struct model_policy lru = {
	.name = "lru",
	.hit = lru_hit,
	.come = wait_for_room,
	.join = join_first,
	.victim = lru_victim,
	.evict = drop_from_first,
};

/* The lowest key in the first queue, of equals the one that was asked for
 * longest ago, that is not held. */
static uint64_t lowest_key(struct model *m)
{
	uint64_t best = 0;

	for (size_t i = 0; i < m->q[0].n; i++) {
		uint64_t id = m->q[0].ids[i];

		if (!m->holds[id] && (!best || m->key[id] < m->key[best]))
			best = id;
	}
	return best;
}

/* ---- LFU, counts halved every 10 requests for each object here ---- */

static void lfu_age(struct model *m, size_t n)
{
	if (++m->number <= 10 * n)
		return;
	m->number = 0;
	for (uint64_t id = 1; id <= m->top; id++)
		m->key[id] /= 2;
}

static void lfu_hit(struct model *m, const struct ql_cache_request *req)
{
	queue_push(&m->q[0], req->id);
	m->key[req->id]++;
	lfu_age(m, m->q[0].n);
}

static void lfu_come(struct model *m, const struct ql_cache_request *req)
{
	m->incoming = req->id;
	m->key[req->id] = 1;
	lfu_age(m, m->q[0].n + 1);
}

static const struct model_policy lfu = {
	.name = "lfu",
	.hit = lfu_hit,
	.come = lfu_come,
	.join = join_first,
	.victim = lowest_key,
	.evict = drop_from_first,
};

/* ---- GDSF: HPL-98-69R1, count = Fr, key = Pr, figure = Clock ---- */

static double gdsf_priority(const struct model *m, uint64_t id)
{
	return m->figure + (double)m->count[id] *
				   ((double)m->cost[id] / (double)m->size[id]);
}

static void gdsf_hit(struct model *m, const struct ql_cache_request *req)
{
	queue_push(&m->q[0], req->id);
	m->count[req->id]++;
	m->key[req->id] = gdsf_priority(m, req->id);
}

static void gdsf_come(struct model *m, const struct ql_cache_request *req)
{
	m->incoming = req->id;
	m->count[req->id] = 1;
	m->key[req->id] = gdsf_priority(m, req->id);
}

/* "If f is among f1 ... fk, it is not cached, and none of the files already
 * there is evicted": the k lowest that are enough. */
static uint64_t gdsf_victim(struct model *m)
{
	uint64_t f = m->incoming;
	uint64_t below = 0; /* bytes of those that would go before f */

	if (f && model_fits(m)) { /* it is cached */
		queue_push(&m->q[0], f);
		m->incoming = 0;
	}
	if (!m->incoming || m->holds[f])
		return lowest_key(m);
	for (size_t i = 0; i < m->q[0].n; i++) {
		uint64_t id = m->q[0].ids[i];

		if (!m->holds[id] && m->key[id] <= m->key[f])
			below += m->size[id];
	}
	return model_used(m) - below > m->capacity ? f : lowest_key(m);
}

static void gdsf_evict(struct model *m, uint64_t id)
{
	if (id == m->incoming)
		return;
	queue_remove(&m->q[0], id);
	if (m->key[id] > m->figure)
		m->figure = m->key[id];
}

static const struct model_policy gdsf = {
	.name = "gdsf",
	.hit = gdsf_hit,
	.come = gdsf_come,
	.join = join_first,
	.victim = gdsf_victim,
	.evict = gdsf_evict,
};

/* ---- SIEVE: NSDI'24, algorithm 1 ---- */

/* Towards the head; 0: it is the head. */
static uint64_t sieve_prev(const struct model *m, uint64_t id)
{
	size_t at = queue_at(&m->q[0], id) + 1;

	return at < m->q[0].n ? m->q[0].ids[at] : 0;
}

static void sieve_hit(struct model *m, const struct ql_cache_request *req)
{
	m->visited[req->id] = true;
}

static void sieve_come(struct model *m, const struct ql_cache_request *req)
{
	m->incoming = req->id;
	m->visited[req->id] = false;
}

static uint64_t sieve_victim(struct model *m)
{
	uint64_t o = m->hand;

	if (!queue_oldest(m, &m->q[0]))
		return 0;
	for (;;) {
		if (!o)
			o = m->q[0].ids[0];
		if (!m->holds[o] && !m->visited[o])
			break;
		if (!m->holds[o])
			m->visited[o] = false;
		o = sieve_prev(m, o);
	}
	m->hand = o;
	return o;
}

static void sieve_leave(struct model *m, uint64_t id)
{
	if (m->hand == id)
		m->hand = sieve_prev(m, id);
	queue_remove(&m->q[0], id);
}

static const struct model_policy sieve = {
	.name = "sieve",
	.hit = sieve_hit,
	.come = sieve_come,
	.join = join_first,
	.victim = sieve_victim,
	.evict = sieve_leave,
	.removed = sieve_leave,
};

/* ---- against store/cache/ ---- */

static void lru_is_as_told(void **state)
{
	(void)state;
	pair_play_many(&lru);
}

static void lfu_is_as_told(void **state)
{
	(void)state;
	pair_play_many(&lfu);
}

static void gdsf_is_as_published(void **state)
{
	(void)state;
	pair_play_many(&gdsf);
}

static void sieve_is_as_published(void **state)
{
	(void)state;
	pair_play_many(&sieve);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lru_is_as_told),
		cmocka_unit_test(lfu_is_as_told),
		cmocka_unit_test(gdsf_is_as_published),
		cmocka_unit_test(sieve_is_as_published),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
