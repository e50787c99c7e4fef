/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The policies that share the bytes out between several queues, against their
 * papers' algorithms, written down plainly (cachemodel.h).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/cachemodel.h"

/* ---- ARC: FAST'03, fig. 4, figure = p ---- */

enum { T1, T2, B1 = 3, B2 };
enum { CASE_II = 2, CASE_III, CASE_IV }; /* in number, of what is incoming */

static uint64_t arc_size(const struct model *m, int queue)
{
	return queue_bytes(m, &m->q[queue]);
}

/* Case IV: |L1| <= c and |L1| + |L2| <= 2c, once x is in T1. */
static void arc_keep_bounds(struct model *m, uint64_t x)
{
	uint64_t c = m->capacity;

	while (arc_size(m, T1) + arc_size(m, B1) + x > c && m->q[B1].n)
		queue_remove(&m->q[B1], m->q[B1].ids[0]);
	while (arc_size(m, T1) + arc_size(m, T2) + arc_size(m, B1) +
			       arc_size(m, B2) + x >
		       2 * c &&
	       m->q[B2].n)
		queue_remove(&m->q[B2], m->q[B2].ids[0]);
}

static void arc_hit(struct model *m, const struct ql_cache_request *req)
{
	m->number = 0;
	queue_remove(&m->q[T1], req->id);
	queue_push(&m->q[T2], req->id);
}

static void arc_come(struct model *m, const struct ql_cache_request *req)
{
	double c = (double)m->capacity;
	double b1 = (double)arc_size(m, B1);
	double b2 = (double)arc_size(m, B2);

	m->incoming = req->id;
	if (queue_has(&m->q[B1], req->id)) {
		m->number = CASE_II;
		m->figure += b1 >= b2 ? 1 : b2 / b1;
		m->figure = m->figure > c ? c : m->figure;
		queue_remove(&m->q[B1], req->id);
	} else if (queue_has(&m->q[B2], req->id)) {
		m->number = CASE_III;
		m->figure -= b2 >= b1 ? 1 : b1 / b2;
		m->figure = m->figure < 0 ? 0 : m->figure;
		queue_remove(&m->q[B2], req->id);
	} else {
		m->number = CASE_IV;
		arc_keep_bounds(m, req->size);
	}
}

static void arc_join(struct model *m, uint64_t id)
{
	queue_push(&m->q[m->number == CASE_IV ? T1 : T2], id);
}

/* REPLACE */
static uint64_t arc_victim(struct model *m)
{
	uint64_t t1 = queue_oldest(m, &m->q[T1]);
	uint64_t t2 = queue_oldest(m, &m->q[T2]);
	double size = (double)arc_size(m, T1);

	if (t1 &&
	    (size > m->figure || (m->number == CASE_III && size >= m->figure)))
		return t1;
	return t2 ? t2 : t1;
}

static void arc_evict(struct model *m, uint64_t id)
{
	bool t1 = id == m->incoming ? m->number == CASE_IV
				    : queue_has(&m->q[T1], id);
	bool x = m->incoming && m->incoming != id;

	queue_remove(&m->q[T1], id);
	queue_remove(&m->q[T2], id);
	queue_push(&m->q[t1 ? B1 : B2], id);
	if (x && m->number != CASE_IV) { /* it goes to T2 */
		queue_push(&m->q[T2], m->incoming);
		arc_keep_bounds(m, 0);
		queue_remove(&m->q[T2], m->incoming);
	} else {
		arc_keep_bounds(m, x ? m->size[m->incoming] : 0);
	}
}

static void arc_remembered(const struct model *m, uint64_t *n, uint64_t *bytes)
{
	*n = m->q[B1].n + m->q[B2].n;
	*bytes = arc_size(m, B1) + arc_size(m, B2);
}

static const struct model_policy arc = {
	.name = "arc",
	.hit = arc_hit,
	.come = arc_come,
	.join = arc_join,
	.victim = arc_victim,
	.evict = arc_evict,
	.remembered = arc_remembered,
};

/* ---- S3-FIFO: SOSP'23, algorithm 1 ---- */

enum { S, M, G = 3 };

static void s3_hit(struct model *m, const struct ql_cache_request *req)
{
	if (m->count[req->id] < 3)
		m->count[req->id]++;
}

/* In its queue before room is made, which is what sizes need: see s3fifo.c. */
static void s3_come(struct model *m, const struct ql_cache_request *req)
{
	m->count[req->id] = 0;
	queue_push(&m->q[queue_has(&m->q[G], req->id) ? M : S], req->id);
	queue_remove(&m->q[G], req->id);
}

static uint64_t s3_main_size(const struct model *m)
{
	return m->capacity - m->capacity / 10;
}

static void s3_evict_m(struct model *m)
{
	uint64_t t;

	while ((t = queue_oldest(m, &m->q[M])) != 0) {
		if (m->count[t] == 0) {
			queue_remove(&m->q[M], t);
			queue_push(&m->plan, t);
			return;
		}
		queue_push(&m->q[M], t);
		m->count[t]--;
	}
}

static void s3_remember(struct model *m, uint64_t t)
{
	queue_push(&m->q[G], t);
	queue_trim(m, &m->q[G], s3_main_size(m));
}

static void s3_evict_s(struct model *m)
{
	uint64_t t;

	while ((t = queue_oldest(m, &m->q[S])) != 0) {
		queue_remove(&m->q[S], t);
		if (m->count[t] <= 1) {
			s3_remember(m, t);
			queue_push(&m->plan, t);
			return;
		}
		m->count[t] = 0; /* "access bits are cleared during the move" */
		queue_push(&m->q[M], t);
		if (queue_bytes(m, &m->q[M]) > s3_main_size(m))
			s3_evict_m(m);
		/* Only as many go as have to. */
		if (m->plan.n > 0 && model_fits(m))
			return;
	}
}

static uint64_t s3_victim(struct model *m)
{
	while (m->plan.n == 0) {
		bool s = queue_oldest(m, &m->q[S]) != 0;
		bool large = queue_oldest(m, &m->q[M]) != 0;

		if (!s && !large)
			return 0;
		if (s &&
		    (!large || queue_bytes(m, &m->q[S]) >= m->capacity / 10))
			s3_evict_s(m);
		else
			s3_evict_m(m);
	}
	return m->plan.ids[0];
}

static void s3_remembered(const struct model *m, uint64_t *n, uint64_t *bytes)
{
	*n = m->q[G].n;
	*bytes = queue_bytes(m, &m->q[G]);
}

static const struct model_policy s3fifo = {
	.name = "s3fifo",
	.hit = s3_hit,
	.come = s3_come,
	.victim = s3_victim,
	.remembered = s3_remembered,
};

/* ---- W-TinyLFU: ACM TOS 18(3), algorithms 1 and 4 ---- */

enum { WINDOW, PROBATION, PROTECTED };

/* count: how often it is asked for; the sketch has no collisions of so few. */
static void wt_count(struct model *m, uint64_t id)
{
	if (m->count[id] < 15)
		m->count[id]++;
	if (++m->number < 10 * 1024)
		return;
	m->number /= 2;
	for (uint64_t i = 1; i <= m->top; i++)
		m->count[i] /= 2;
}

static uint64_t wt_window(const struct model *m)
{
	return m->capacity / 100;
}

static uint64_t wt_main(const struct model *m)
{
	return m->capacity - wt_window(m);
}

static uint64_t wt_main_bytes(const struct model *m)
{
	return queue_bytes(m, &m->q[PROBATION]) +
	       queue_bytes(m, &m->q[PROTECTED]);
}

static void wt_promote(struct model *m, uint64_t id)
{
	uint64_t most = wt_main(m) - wt_main(m) / 5;

	queue_remove(&m->q[PROBATION], id);
	queue_push(&m->q[PROTECTED], id);
	while (queue_bytes(m, &m->q[PROTECTED]) > most) {
		uint64_t lru = m->q[PROTECTED].ids[0];

		queue_remove(&m->q[PROTECTED], lru);
		queue_push(&m->q[PROBATION], lru);
	}
}

static void wt_hit(struct model *m, const struct ql_cache_request *req)
{
	wt_count(m, req->id);
	if (queue_has(&m->q[WINDOW], req->id))
		queue_push(&m->q[WINDOW], req->id);
	else
		wt_promote(m, req->id);
}

/* Who has to leave the window; what is larger than it never was in it. */
static uint64_t wt_candidate(const struct model *m)
{
	if (queue_bytes(m, &m->q[WINDOW]) <= wt_window(m))
		return 0;
	if (queue_has(&m->q[WINDOW], m->newest) &&
	    m->size[m->newest] > wt_window(m) && !m->holds[m->newest])
		return m->newest;
	return queue_oldest(m, &m->q[WINDOW]);
}

static bool wt_has_room(const struct model *m, uint64_t c)
{
	return wt_main_bytes(m) + m->size[c] <= wt_main(m);
}

static void wt_admit(struct model *m, uint64_t c)
{
	queue_remove(&m->q[WINDOW], c);
	queue_push(&m->q[PROBATION], c);
}

static void wt_come(struct model *m, const struct ql_cache_request *req)
{
	uint64_t c;

	wt_count(m, req->id);
	queue_push(&m->q[WINDOW], req->id);
	while ((c = wt_candidate(m)) != 0 && wt_has_room(m, c))
		wt_admit(m, c);
}

/* Those that would have to go for `c`, as long as it is worth them. */
static bool wt_examine(const struct model *m, uint64_t c, struct queue *victims)
{
	uint64_t freq = 0;
	uint64_t bytes = 0;
	uint64_t need = wt_main_bytes(m) + m->size[c] - wt_main(m);

	victims->n = 0;
	for (int q = PROBATION; q <= PROTECTED; q++)
		for (size_t i = 0; i < m->q[q].n; i++) {
			uint64_t v = m->q[q].ids[i];

			if (m->holds[v])
				continue;
			queue_push(victims, v);
			freq += m->count[v];
			bytes += m->size[v];
			if (m->count[c] < freq)
				return false;
			if (bytes >= need)
				return true;
		}
	return false;
}

/* Goes from all queues, and is what goes next. */
static void wt_drop(struct model *m, uint64_t id)
{
	for (int q = WINDOW; q <= PROTECTED; q++)
		queue_remove(&m->q[q], id);
	queue_push(&m->plan, id);
}

static void wt_evict_or_admit(struct model *m, uint64_t c)
{
	_cleanup_free_ struct queue *victims = calloc(1, sizeof(*victims));
	bool in;

	assert_non_null(victims);
	in = m->size[c] <= wt_main(m) && wt_examine(m, c, victims);
	for (size_t i = 0; i < victims->n; i++) {
		if (!in)
			wt_promote(m, victims->ids[i]);
		else if (i == 0 || !model_fits(m)) /* as many as have to */
			wt_drop(m, victims->ids[i]);
	}
	if (in)
		wt_admit(m, c);
	else
		wt_drop(m, c);
}

static uint64_t wt_victim(struct model *m)
{
	static const int order[] = { PROBATION, PROTECTED, WINDOW };
	uint64_t c;

	while (m->plan.n == 0 && wt_main_bytes(m) <= wt_main(m) &&
	       (c = wt_candidate(m)) != 0) {
		if (wt_has_room(m, c))
			wt_admit(m, c);
		else
			wt_evict_or_admit(m, c);
	}
	for (int i = 0; i < 3 && m->plan.n == 0; i++) {
		uint64_t v = queue_oldest(m, &m->q[order[i]]);

		if (v)
			wt_drop(m, v);
	}
	return m->plan.n ? m->plan.ids[0] : 0;
}

static const struct model_policy wtinylfu = {
	.name = "wtinylfu",
	.hit = wt_hit,
	.come = wt_come,
	.victim = wt_victim,
};

/* ---- against store/cache/ ---- */

static void arc_is_as_published(void **state)
{
	(void)state;
	pair_play_many(&arc);
}

static void s3fifo_is_as_published(void **state)
{
	(void)state;
	pair_play_many(&s3fifo);
}

static void wtinylfu_is_as_published(void **state)
{
	/* So long that what is counted is halved, twice. */
	static const struct trace longer = { .seed = 1000,
					     .rng = 1000,
					     .objects = 60,
					     .families = 5,
					     .steps = 12000,
					     .largest = 40,
					     .skew = 2,
					     .pulls = 3,
					     .capacity = 300 };

	(void)state;
	pair_play_many(&wtinylfu);
	pair_play(&wtinylfu, &longer, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(arc_is_as_published),
		cmocka_unit_test(s3fifo_is_as_published),
		cmocka_unit_test(wtinylfu_is_as_published),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
