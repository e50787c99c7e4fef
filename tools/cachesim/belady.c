/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clairvoyant bound: Belady's MIN (IBM Systems Journal 5(2), 1966) with
 * every byte a page of its own.  Of what is here, the bytes of the object that
 * is asked for furthest in the future go first, also those of what just came,
 * and an object may be here in part.  No policy, with whatever foresight, has
 * a higher byte hit ratio: one that keeps whole objects is a special case of
 * pages, for which MIN (with bypass) is optimal.  Its object hit ratio (those
 * that were wholly here) and its time saved are what that choice gives, and no
 * bounds.
 */
#include "tools/cachesim/cachesim.h"

struct min {
	uint64_t *next;	 /* owned: event of each object's next use */
	uint64_t *bytes; /* owned: of it that are here */
	uint64_t *place; /* owned: in the heap, from 1; 0: not */
	uint64_t *heap;	 /* owned: objects, the furthest first */
	uint64_t n;
	uint64_t used;
};

static void min_release(struct min *m)
{
	free(m->next);
	free(m->bytes);
	free(m->place);
	free(m->heap);
}

static void put(struct min *m, uint64_t at, uint64_t o)
{
	m->heap[at] = o;
	m->place[o] = at;
}

static void settle(struct min *m, uint64_t at, uint64_t o)
{
	for (; at > 1 && m->next[m->heap[at / 2]] < m->next[o]; at /= 2)
		put(m, at, m->heap[at / 2]);
	for (;;) {
		uint64_t child = 2 * at;

		if (child > m->n)
			break;
		if (child < m->n &&
		    m->next[m->heap[child + 1]] > m->next[m->heap[child]])
			child++;
		if (m->next[m->heap[child]] <= m->next[o])
			break;
		put(m, at, m->heap[child]);
		at = child;
	}
	put(m, at, o);
}

static void take(struct min *m, uint64_t o)
{
	uint64_t at = m->place[o];
	uint64_t last = m->heap[m->n--];

	m->place[o] = 0;
	if (last != o)
		settle(m, at, last);
}

static void drop(struct min *m, uint64_t o, uint64_t bytes)
{
	m->bytes[o] -= bytes;
	m->used -= bytes;
	if (m->bytes[o] == 0)
		take(m, o);
}

/* Of what is fetched, as much as is here of what it takes. */
static uint64_t part(uint64_t bytes, uint64_t here, uint64_t size)
{
	double share = size ? (double)here / (double)size : 1;

	return here >= size ? bytes : (uint64_t)((double)bytes * share);
}

static void step(struct min *m, const struct ql_trace_event *ev,
		 const struct ql_sim_links *links, struct ql_sim_result *res)
{
	uint64_t o = ev->object;
	uint64_t size = ev->req.size;
	uint64_t here = m->bytes[o];
	uint64_t kept = part(ev->bytes, here, size);

	res->requests++;
	res->hits += here == size;
	res->bytes += ev->bytes;
	res->hit_bytes += kept;
	res->saved_ns += ql_sim_cost(links, ev->req.id, kept);
	if (!ql_sim_peer_has(links, ev->req.id))
		res->fetched += ev->bytes - kept;
	m->used += size - here;
	m->bytes[o] = size;
	m->next[o] = ev->next;
	settle(m, m->place[o] ? m->place[o] : ++m->n, o);
	if (ev->next == UINT64_MAX)
		drop(m, o, size);
	while (m->used > res->budget) {
		uint64_t far = m->heap[1];
		uint64_t over = m->used - res->budget;

		res->evictions += far != o && over >= m->bytes[far];
		drop(m, far, over < m->bytes[far] ? over : m->bytes[far]);
	}
}

int ql_sim_belady(struct ql_tracespool *s, uint64_t budget,
		  const struct ql_sim_links *links, struct ql_sim_result *ret,
		  struct ql_error *err)
{
	uint64_t objects = ql_tracespool_objects(s);
	__attribute__((cleanup(min_release))) struct min m = {
		.next = calloc(objects + 2, sizeof(uint64_t)),
		.bytes = calloc(objects + 2, sizeof(uint64_t)),
		.place = calloc(objects + 2, sizeof(uint64_t)),
		.heap = calloc(objects + 2, sizeof(uint64_t)),
	};
	struct ql_sim_result res = { .policy = QL_SIM_BOUND, .budget = budget };
	struct ql_trace_event ev;
	int r;

	if (!m.next || !m.bytes || !m.place || !m.heap)
		return ql_error_nomem(err);
	r = ql_tracespool_rewind(s, err);
	if (r < 0)
		return r;
	while ((r = ql_tracespool_next(s, &ev, err)) > 0)
		step(&m, &ev, links, &res);
	res.tracked = m.n;
	if (r == 0)
		*ret = res;
	return r;
}
