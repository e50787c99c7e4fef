/* SPDX-License-Identifier: Apache-2.0 */
/* Events through a policy, and what that gives. */
#include "tools/cachesim/cachesim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

bool ql_sim_peer_has(const struct ql_sim_links *links, uint64_t id)
{
	/* Other bits than those that place it in tables. */
	return ((id >> 40) * 2654435761U >> 8) % 100 < links->share;
}

uint64_t ql_sim_cost(const struct ql_sim_links *links, uint64_t id,
		     uint64_t bytes)
{
	double rate = ql_sim_peer_has(links, id) ? links->peer
						 : links->registry;
	double ns = (double)bytes * 8000 / rate;

	return ns < 1e18 ? (uint64_t)ns : (uint64_t)1e18;
}

static void count(struct ql_sim_result *res, const struct ql_sim_links *links,
		  const struct ql_trace_event *ev, bool hit)
{
	const struct ql_cache_request *req = &ev->req;

	res->requests++;
	res->bytes += ev->bytes;
	if (hit) {
		res->hits++;
		res->hit_bytes += ev->bytes;
		res->saved_ns += req->cost;
	} else if (!ql_sim_peer_has(links, req->id)) {
		res->fetched += ev->bytes;
	}
}

/* What a run has beside the policy: the layers of the pull that goes on. */
struct run {
	struct ql_cache *cache; /* owned */
	uint64_t *held;		/* owned: ids */
	size_t n, cap;
};

static void run_release(struct run *run)
{
	ql_cache_free(run->cache);
	free(run->held);
}

static void make_room(struct run *run, struct ql_sim_result *res)
{
	uint64_t id;

	while (ql_cache_victim(run->cache, &id)) {
		ql_cache_evict(run->cache, id);
		res->evictions++;
	}
}

static int hold(struct run *run, uint64_t id, struct ql_error *err)
{
	if (run->n == run->cap) {
		size_t cap = run->cap ? 2 * run->cap : 64;
		uint64_t *grown = reallocarray(run->held, cap, sizeof(*grown));

		if (!grown)
			return ql_error_nomem(err);
		run->held = grown;
		run->cap = cap;
	}
	run->held[run->n++] = id;
	return ql_cache_hold(run->cache, id);
}

/* The pull is over. */
static void let_go(struct run *run, struct ql_sim_result *res)
{
	if (run->n == 0)
		return;
	make_room(run, res);
	while (run->n > 0)
		ql_cache_release(run->cache, run->held[--run->n]);
	make_room(run, res);
}

/* As a node does it: all layers of a pull are asked for, and are in use, before
 * anything goes for them. */
static int step_held(struct run *run, const struct ql_trace_event *ev,
		     const struct ql_sim_links *links,
		     struct ql_sim_result *res, struct ql_error *err)
{
	enum ql_cache_result result;
	int r;

	if (ev->req.flags & QL_CACHE_START)
		let_go(run, res);
	r = ql_cache_access(run->cache, &ev->req, &result, err);
	if (r == 0 && result != QL_CACHE_LARGE)
		r = hold(run, ev->req.id, err);
	if (r == 0)
		count(res, links, ev, result == QL_CACHE_HIT);
	return r;
}

static int step(struct run *run, const struct ql_trace_event *ev,
		const struct ql_sim_links *links, struct ql_sim_result *res,
		struct ql_error *err)
{
	enum ql_cache_result result;
	int r;

	if (ev->held)
		return step_held(run, ev, links, res, err);
	r = ql_cache_access(run->cache, &ev->req, &result, err);
	if (r < 0)
		return r;
	make_room(run, res);
	count(res, links, ev, result == QL_CACHE_HIT);
	return 0;
}

/* The clock is read once a batch, or it would be most of what is measured; it
 * is this thread's, so that others do not count. */
enum { BATCH = 1024 };

static uint64_t thread_ns(void)
{
	struct timespec ts = { 0 };

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

static int replay_batch(struct ql_tracespool *s, struct run *run,
			struct ql_trace_event *events,
			const struct ql_sim_links *links,
			struct ql_sim_result *res, struct ql_error *err)
{
	struct ql_trace_event ev;
	uint64_t begin;
	size_t n = 0;
	int r = 1;

	while (n < BATCH && (r = ql_tracespool_next(s, &ev, err)) > 0) {
		ev.req.cost = ql_sim_cost(links, ev.req.id, ev.bytes);
		events[n++] = ev;
	}
	if (r < 0)
		return r;
	begin = thread_ns();
	for (size_t i = 0; i < n; i++) {
		r = step(run, &events[i], links, res, err);
		if (r < 0)
			return r;
	}
	res->took_ns += thread_ns() - begin;
	return n > 0;
}

static int replay(struct ql_tracespool *s, const struct ql_cache_policy *policy,
		  const struct ql_sim_links *links, struct ql_sim_result *res,
		  struct ql_error *err)
{
	_cleanup_(run_release) struct run run = { 0 };
	_cleanup_free_ struct ql_trace_event *events =
		calloc(BATCH, sizeof(*events));
	struct ql_cache_stats stats;
	int r;

	if (!events)
		return ql_error_nomem(err);
	r = ql_tracespool_rewind(s, err);
	if (r == 0)
		r = ql_cache_new(policy, res->budget, &run.cache, err);
	if (r < 0)
		return r;
	do
		r = replay_batch(s, &run, events, links, res, err);
	while (r > 0);
	if (r == 0)
		let_go(&run, res);
	ql_cache_stats(run.cache, &stats);
	res->memory = stats.memory;
	res->tracked = (uint64_t)stats.here + stats.remembered;
	return r;
}

int ql_sim_run(struct ql_tracespool *s, const char *name, uint64_t budget,
	       const struct ql_sim_links *links, struct ql_sim_result *ret,
	       struct ql_error *err)
{
	const struct ql_cache_policy *policy = ql_cache_policy_find(name);
	struct ql_sim_result res = { .policy = name, .budget = budget };
	int r;

	if (policy)
		r = replay(s, policy, links, &res, err);
	else if (strcmp(name, QL_SIM_BOUND) == 0)
		r = ql_sim_belady(s, budget, links, &res, err);
	else
		r = ql_error_set(err, -EINVAL, "%s: no such policy", name);
	if (r == 0)
		*ret = res;
	return r;
}
