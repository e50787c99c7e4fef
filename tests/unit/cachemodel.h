/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests: caches written down as their papers have them, with plain arrays
 * and no thought of speed, and random traces that both such a model and
 * store/cache/ are led through.  Each request's result, each victim, what is
 * here and what is remembered must be the same.
 *
 * The papers make room before what comes is in a queue: here it is `incoming`
 * until the next request.
 */
#ifndef QL_TEST_CACHEMODEL_H
#define QL_TEST_CACHEMODEL_H

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "store/base/base.h"
#include "store/cache/cache.h"

enum { IDS = 4096, QUEUES = 5, SEEDS = 400 };

struct queue {
	uint64_t ids[IDS]; /* [0]: the oldest */
	size_t n;
};

struct model;

struct model_policy {
	const char *name;
	void (*hit)(struct model *m, const struct ql_cache_request *req);
	/* It is not here; sets m->incoming, or has it in a queue. */
	void (*come)(struct model *m, const struct ql_cache_request *req);
	/* Room was made: what was incoming is in a queue from now on. */
	void (*join)(struct model *m, uint64_t id); /* may be NULL then */
	uint64_t (*victim)(struct model *m);	    /* 0: none but what comes */
	/* The following may be NULL. */
	void (*evict)(struct model *m, uint64_t id);
	void (*removed)(struct model *m, uint64_t id); /* it still is here */
	void (*released)(struct model *m, uint64_t id);
	/* What is remembered: how many, and the bytes that they had. */
	void (*remembered)(const struct model *m, uint64_t *n, uint64_t *bytes);
	/* The two may change places by rounding. */
	bool (*close)(const struct model *m, uint64_t a, uint64_t b);
};

struct model {
	const struct model_policy *policy;
	uint64_t capacity;
	uint64_t clock; /* requests */
	uint64_t top;	/* the highest id */
	uint64_t incoming;
	uint64_t newest; /* that came with the last request; 0: none */
	uint64_t size[IDS], cost[IDS], holds[IDS];
	bool here[IDS];
	struct queue q[QUEUES];
	struct queue plan; /* that are decided on, in this order */
	/* As the policies need it. */
	double key[IDS];
	uint64_t count[IDS], used_at[IDS];
	bool visited[IDS];
	double figure;
	uint64_t number, hand;
	void *own;
};

/* ---- queues ---- */

static inline size_t queue_at(const struct queue *q, uint64_t id)
{
	size_t at = 0;

	while (at < q->n && q->ids[at] != id)
		at++;
	return at;
}

static inline bool queue_has(const struct queue *q, uint64_t id)
{
	return queue_at(q, id) < q->n;
}

static inline void queue_remove(struct queue *q, uint64_t id)
{
	size_t at = queue_at(q, id);

	if (at == q->n)
		return;
	q->n--;
	memmove(&q->ids[at], &q->ids[at + 1], (q->n - at) * sizeof(q->ids[0]));
}

/* As the newest, wherever in it it was. */
static inline void queue_push(struct queue *q, uint64_t id)
{
	queue_remove(q, id);
	assert_true(q->n < IDS);
	q->ids[q->n++] = id;
}

static inline uint64_t queue_bytes(const struct model *m, const struct queue *q)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < q->n; i++)
		bytes += m->size[q->ids[i]];
	return bytes;
}

/* The oldest that is not held; 0: none. */
static inline uint64_t queue_oldest(const struct model *m,
				    const struct queue *q)
{
	for (size_t i = 0; i < q->n; i++)
		if (!m->holds[q->ids[i]])
			return q->ids[i];
	return 0;
}

/* Drops the oldest while there are more bytes. */
static inline void queue_trim(const struct model *m, struct queue *q,
			      uint64_t bytes)
{
	while (q->n > 0 && queue_bytes(m, q) > bytes)
		queue_remove(q, q->ids[0]);
}

/* ---- a model ---- */

static inline uint64_t model_used(const struct model *m)
{
	uint64_t bytes = 0;

	for (uint64_t id = 1; id <= m->top; id++)
		bytes += m->here[id] ? m->size[id] : 0;
	return bytes;
}

/* Once all of the plan is gone. */
static inline bool model_fits(const struct model *m)
{
	return model_used(m) - queue_bytes(m, &m->plan) <= m->capacity;
}

static inline enum ql_cache_result
model_access(struct model *m, const struct ql_cache_request *req)
{
	uint64_t came = m->incoming;

	m->clock++;
	m->incoming = m->newest = 0;
	if (came)
		m->policy->join(m, came);
	if (m->here[req->id]) {
		m->cost[req->id] = req->cost;
		m->policy->hit(m, req);
		return QL_CACHE_HIT;
	}
	if (req->size > m->capacity)
		return QL_CACHE_LARGE;
	m->size[req->id] = req->size;
	m->cost[req->id] = req->cost;
	m->newest = req->id;
	m->policy->come(m, req);
	m->here[req->id] = true;
	return QL_CACHE_ENTER;
}

static inline uint64_t model_next(struct model *m)
{
	uint64_t id = m->plan.n ? m->plan.ids[0] : m->policy->victim(m);

	return id || m->holds[m->incoming] ? id : m->incoming;
}

static inline void model_evict(struct model *m, uint64_t id)
{
	queue_remove(&m->plan, id);
	m->here[id] = false;
	m->holds[id] = 0;
	if (m->policy->evict)
		m->policy->evict(m, id);
	if (id == m->incoming)
		m->incoming = 0;
}

static inline void model_remove(struct model *m, uint64_t id)
{
	if (!m->here[id])
		return;
	if (m->policy->removed)
		m->policy->removed(m, id);
	m->here[id] = false;
	m->holds[id] = 0;
	if (id == m->incoming)
		m->incoming = 0;
	for (int i = 0; i < QUEUES; i++)
		queue_remove(&m->q[i], id);
}

static inline void model_release(struct model *m, uint64_t id)
{
	if (m->holds[id] && --m->holds[id] == 0 && m->policy->released)
		m->policy->released(m, id);
}

/* ---- side by side ---- */

struct trace {
	uint64_t seed, rng;
	uint64_t objects, families, steps;
	uint64_t largest; /* sizes go up to this */
	uint64_t capacity;
	uint64_t skew;	/* of n draws the lowest */
	uint64_t pulls; /* one step in so many is a whole one */
	bool often;	/* much is compared after each step */
};

struct pair {
	struct trace t;
	struct model *m;    /* owned */
	struct ql_cache *c; /* owned */
	uint64_t step;
	uint64_t mounted[4]; /* held over many steps; 0: none */
};

static inline uint64_t draw(struct trace *t, uint64_t below)
{
	t->rng ^= t->rng << 13;
	t->rng ^= t->rng >> 7;
	t->rng ^= t->rng << 17;
	return (t->rng >> 11) % below;
}

#define WRONG(p, ...)                                                          \
	do {                                                                   \
		char what[128];                                                \
		(void)snprintf(what, sizeof(what), __VA_ARGS__);               \
		fail_msg("%s, seed %" PRIu64 ", step %" PRIu64 ": %s",         \
			 (p)->m->policy->name, (p)->t.seed, (p)->step, what);  \
	} while (0)

static inline uint64_t pair_next(struct pair *p)
{
	uint64_t want = model_next(p->m);
	uint64_t got = 0;

	(void)ql_cache_next(p->c, &got);
	if (got != want && got && want && p->m->policy->close &&
	    p->m->policy->close(p->m, got, want))
		return got;
	if (got != want)
		WRONG(p, "%" PRIu64 " goes, not %" PRIu64, got, want);
	return got;
}

static inline void pair_evict(struct pair *p, uint64_t id)
{
	model_evict(p->m, id);
	ql_cache_evict(p->c, id);
}

static inline void pair_make_room(struct pair *p)
{
	uint64_t id;

	while (model_used(p->m) > p->m->capacity && (id = pair_next(p)) != 0)
		pair_evict(p, id);
	if (model_used(p->m) <= p->m->capacity && ql_cache_victim(p->c, &id))
		WRONG(p, "%" PRIu64 " goes where all fits", id);
}

static inline bool pair_access(struct pair *p,
			       const struct ql_cache_request *req)
{
	struct ql_error err = QL_ERROR_INIT;
	enum ql_cache_result want = model_access(p->m, req);
	enum ql_cache_result got;

	assert_int_equal(ql_cache_access(p->c, req, &got, &err), 0);
	if (got != want)
		WRONG(p, "%" PRIu64 ": result %d, not %d", req->id, got, want);
	return got != QL_CACHE_LARGE;
}

/* A layer of some family, the same size and cost each time. */
static inline struct ql_cache_request draw_request(struct trace *t)
{
	uint64_t id = 1 + draw(t, t->objects);

	for (uint64_t i = 1; i < t->skew; i++) {
		uint64_t other = 1 + draw(t, t->objects);

		id = other < id ? other : id;
	}
	return (struct ql_cache_request){
		.id = id,
		.size = 1 + id * 7919 % t->largest,
		.cost = 1 + id * 104729 % 90,
		.parent = draw(t, 3) ? 1 + (id * 31 + draw(t, 2)) % t->objects
				     : 0,
		.family = draw(t, 5) ? 1 + id % t->families : 0,
		.flags = (unsigned int)(draw(t, 12) ? 0 : QL_CACHE_SCAN) |
			 (unsigned int)(draw(t, t->pulls + 1) ? 0
							      : QL_CACHE_START),
	};
}

/* A family's next image: a stack that follows on another's base. */
static inline void pair_pull(struct pair *p)
{
	struct trace *t = &p->t;
	uint64_t held[8];
	size_t n = 0;
	bool hold = draw(t, 2);
	uint64_t family = 1 + draw(t, t->families);
	uint64_t depth = 1 + draw(t, 8);
	uint64_t version = draw(t, 3);
	uint64_t parent = 0;

	for (uint64_t i = 0; i < depth; i++) {
		struct ql_cache_request req = draw_request(t);

		req.id = 1 + (i < 2 ? family % 3 * 2 + i
				    : family * 11 + version + i) %
				     t->objects;
		req.size = 1 + req.id * 7919 % t->largest;
		req.parent = parent;
		req.family = family;
		req.flags = i == 0 ? QL_CACHE_START : 0;
		parent = req.id;
		if (pair_access(p, &req) && hold) {
			held[n++] = req.id;
			p->m->holds[req.id]++;
			assert_int_equal(ql_cache_hold(p->c, req.id), 0);
		}
		if (!hold)
			pair_make_room(p);
	}
	pair_make_room(p);
	while (n > 0) {
		model_release(p->m, held[--n]);
		ql_cache_release(p->c, held[n]);
	}
	pair_make_room(p);
}

static inline void pair_remove(struct pair *p, uint64_t id)
{
	model_remove(p->m, id);
	ql_cache_remove(p->c, id);
}

/* Another is mounted instead of one that was. */
static inline void pair_mount(struct pair *p, uint64_t id)
{
	uint64_t *slot = &p->mounted[draw(&p->t, 4)];

	model_release(p->m, *slot);
	ql_cache_release(p->c, *slot);
	*slot = 0;
	if (!p->m->here[id])
		return;
	*slot = id;
	p->m->holds[id]++;
	assert_int_equal(ql_cache_hold(p->c, id), 0);
}

static inline void pair_step(struct pair *p)
{
	struct trace *t = &p->t;
	struct ql_cache_request req;
	uint64_t id;

	if (draw(t, t->pulls) == 0) {
		pair_pull(p);
	} else {
		req = draw_request(t);
		(void)pair_access(p, &req);
		pair_make_room(p);
	}
	if (draw(t, 60) == 0)
		pair_remove(p, 1 + draw(t, t->objects));
	if (draw(t, 40) == 0 && (id = pair_next(p)) != 0)
		pair_evict(p, id);
	if (draw(t, 20) == 0) {
		pair_mount(p, 1 + draw(t, t->objects));
		pair_make_room(p);
	}
	if (draw(t, 150) == 0) {
		p->m->capacity = t->capacity / 2 + draw(t, t->capacity);
		ql_cache_resize(p->c, p->m->capacity);
	}
}

static inline void pair_compare(struct pair *p)
{
	struct ql_cache_stats stats;
	const char *wrong = ql_cache_check(p->c);
	uint64_t n = 0;
	uint64_t bytes = 0;

	if (wrong)
		WRONG(p, "%s", wrong);
	for (uint64_t id = 1; id <= p->t.objects; id++)
		if (ql_cache_has(p->c, id) != p->m->here[id])
			WRONG(p, "%" PRIu64 " is %shere", id,
			      p->m->here[id] ? "not " : "");
	ql_cache_stats(p->c, &stats);
	if (p->m->policy->remembered)
		p->m->policy->remembered(p->m, &n, &bytes);
	if (stats.remembered != n || stats.ghosts != bytes)
		WRONG(p,
		      "remembers %u of %" PRIu64 ", not %" PRIu64
		      " of %" PRIu64,
		      stats.remembered, stats.ghosts, n, bytes);
}

static inline void pair_play(const struct model_policy *policy,
			     const struct trace *t, void *own)
{
	struct pair p = { .t = *t, .m = calloc(1, sizeof(*p.m)) };
	_cleanup_free_ struct model *m = p.m;
	_cleanup_(ql_cache_freep) struct ql_cache *c = NULL;
	struct ql_error err = QL_ERROR_INIT;

	assert_non_null(m);
	assert_int_equal(ql_cache_new(ql_cache_policy_find(policy->name),
				      t->capacity, &c, &err),
			 0);
	p.c = c;
	m->policy = policy;
	m->capacity = t->capacity;
	m->top = t->objects;
	m->own = own;
	for (p.step = 0; p.step < t->steps; p.step++) {
		pair_step(&p);
		if (t->often || p.step % 64 == 0)
			pair_compare(&p);
	}
}

/* Small traces of all kinds. */
static inline struct trace trace_small(uint64_t seed)
{
	struct trace t = { .seed = seed,
			   .rng = seed * 0x9e3779b97f4a7c15U + 1,
			   .pulls = 3,
			   .often = true };

	t.objects = 4 + draw(&t, 120);
	t.families = 1 + draw(&t, 12);
	t.steps = 100 + draw(&t, 500);
	t.largest = draw(&t, 3) ? 1 + draw(&t, 400) : 1;
	t.skew = 1 + draw(&t, 4);
	t.capacity =
		1 + t.objects * (t.largest + 1) / 2 * (3 + draw(&t, 70)) / 100;
	return t;
}

static inline void pair_play_many(const struct model_policy *policy)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct trace t = trace_small(seed);

		pair_play(policy, &t, NULL);
	}
}

#endif
