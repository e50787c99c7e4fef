/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Local search.  What makes the time is one resource, the most loaded, and one
 * way, the longest; so a step that helps moves a fetch that is on one of them
 * to another source.  Where no single move helps, two and three are tried, each
 * on what the one before made the worst (ejection chains: Glover, 1996).  A
 * step is taken where it makes the time less, or leaves it and makes the loads
 * more even, since several resources may be the most loaded at once.
 *
 * The search is bounded by steps of work, not by a clock: the same input gives
 * the same plan.
 */
#include "sched-exporter/plan-private.h"

#include <math.h>

enum { CANDIDATES_MAX = 192, DEPTH_MAX = 3 };

#define ALMOST 1e-9 /* of a number: what counts as equal to it */

struct candidate {
	uint32_t p, n;
};

struct candidates {
	struct candidate list[CANDIDATES_MAX];
	uint32_t n;
};

struct search {
	struct ql_planstate *st; /* borrowed */
	bool copies;
	uint64_t until;		/* st->work */
	double time, potential; /* to be bettered */
};

static void candidate_add(struct candidates *c, uint32_t p, uint32_t n)
{
	if (c->n < CANDIDATES_MAX)
		c->list[c->n++] = (struct candidate){ p, n };
}

static bool loads_matter(const struct ql_planstate *st)
{
	return st->loads.t[1] >= st->received * (1 - ALMOST);
}

/* Does n's having p from src load the resource? */
static bool uses(const struct ql_planstate *st, uint32_t n, uint32_t src,
		 uint32_t res)
{
	uint32_t to = st->in->nodes[n].site;

	if (src == QL_DEPLOY_REGISTRY)
		return res == to;
	if (!ql_src_is_node(src))
		return false;
	return res == st->first_up + src ||
	       (st->in->nodes[src].site != to &&
		res == ql_planstate_link(st, st->in->nodes[src].site, to));
}

/* The fetches that are on the most loaded resource or on the longest way. */
static void candidates_find(struct ql_planstate *st, struct candidates *c)
{
	uint32_t res = ql_maxtree_first(&st->loads);
	uint32_t p = ql_maxtree_first(&st->ways), last = QL_DEPLOY_NONE;

	c->n = 0;
	for (uint32_t i = 0; i < st->n_targets; i++) {
		uint32_t n = st->targets[i];

		if (last == QL_DEPLOY_NONE ||
		    st->latency[ql_planstate_at(st, p, n)] >
			    st->latency[ql_planstate_at(st, p, last)])
			last = n;
	}
	while (last != QL_DEPLOY_NONE && ql_src_is_node(last) &&
	       st->src[ql_planstate_at(st, p, last)] != QL_SRC_HAS &&
	       c->n < CANDIDATES_MAX / 2) {
		candidate_add(c, p, last);
		last = st->src[ql_planstate_at(st, p, last)];
	}
	st->work += st->n_targets;
	if (!loads_matter(st))
		return;
	for (p = 0; p < st->in->n_pieces && c->n < CANDIDATES_MAX; p++) {
		if (res >= st->first_up &&
		    st->kids[ql_planstate_at(st, p, res - st->first_up)] == 0)
			continue;
		st->work += st->n_targets / 4;
		for (uint32_t i = 0; i < st->n_targets; i++) {
			uint32_t n = st->targets[i];

			if (uses(st, n, st->src[ql_planstate_at(st, p, n)],
				 res))
				candidate_add(c, p, n);
		}
	}
}

static bool better(const struct search *s)
{
	double t = ql_planstate_time(s->st);

	if (t < s->time * (1 - ALMOST))
		return true;
	return t <= s->time * (1 + ALMOST * 1e-3) &&
	       s->st->potential < s->potential * (1 - ALMOST * 1e3);
}

/* Would it be one more of p in n's site, besides what n has now? */
static bool is_copy(const struct ql_planstate *st, uint32_t p, uint32_t n,
		    uint32_t src)
{
	uint32_t site = st->in->nodes[n].site;
	uint32_t others = st->entries[(size_t)p * st->in->n_sites + site];

	if (!ql_planstate_outside(st, n, src) || st->in->sites[site].lan == 0)
		return false;
	if (ql_planstate_outside(st, n, st->src[ql_planstate_at(st, p, n)]))
		others--;
	return others > 0;
}

static bool chain(struct search *s, int depth);

/* With the change made: is it, or what follows it, better? */
static bool follows(struct search *s, int depth)
{
	return better(s) || (depth > 1 && chain(s, depth - 1));
}

/* Lets n have p from src, and leaves it so where that is better. */
static bool move_try(struct search *s, uint32_t p, uint32_t n, uint32_t src,
		     int depth)
{
	struct ql_planstate *st = s->st;
	uint32_t was = st->src[ql_planstate_at(st, p, n)];
	uint64_t bytes = st->in->pieces[p].bytes;
	double potential = st->potential;

	st->work++;
	if (src == was || !ql_planstate_may(st, p, n, src))
		return false;
	if (!s->copies && is_copy(st, p, n, src))
		return false;
	if (ql_src_is_node(src)) {
		if (ql_planstate_with(st, st->first_up + src, bytes) >=
			    s->time &&
		    depth == 1)
			return false;
		if (ql_planstate_cycle(st, p, n, src))
			return false;
	}
	ql_planstate_set(st, p, n, src);
	if (follows(s, depth))
		return true;
	ql_planstate_set(st, p, n, was);
	st->potential = potential;
	return false;
}

/* Lets n and the node from which it has p change places. */
static bool swap_try(struct search *s, uint32_t p, uint32_t n, int depth)
{
	struct ql_planstate *st = s->st;
	uint32_t q = st->src[ql_planstate_at(st, p, n)], src;
	double potential = st->potential;

	if (!ql_src_is_node(q))
		return false;
	src = st->src[ql_planstate_at(st, p, q)];
	if (src == QL_SRC_HAS || !ql_planstate_may(st, p, n, src) ||
	    !ql_planstate_may(st, p, q, n))
		return false;
	ql_planstate_set(st, p, n, src);
	ql_planstate_set(st, p, q, n);
	if (follows(s, depth))
		return true;
	ql_planstate_set(st, p, q, src);
	ql_planstate_set(st, p, n, q);
	st->potential = potential;
	return false;
}

static bool sources_try(struct search *s, uint32_t p, uint32_t n, int depth)
{
	struct ql_planstate *st = s->st;
	uint32_t own = st->in->nodes[n].site;

	if (move_try(s, p, n, QL_DEPLOY_REGISTRY, depth) ||
	    swap_try(s, p, n, depth))
		return true;
	for (uint32_t site = 0; site < st->in->n_sites; site++) {
		if (site == own ? st->in->sites[own].lan == 0
				: ql_planstate_link(st, site, own) ==
					  QL_DEPLOY_NONE)
			continue;
		for (uint32_t i = st->first_member[site];
		     i < st->first_member[site + 1]; i++) {
			if (st->work > s->until)
				return false;
			if (move_try(s, p, n, st->members[i], depth))
				return true;
		}
	}
	return false;
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as depth, DEPTH_MAX */
static bool chain(struct search *s, int depth)
{
	struct candidates c;

	candidates_find(s->st, &c);
	for (uint32_t i = 0; i < c.n && s->st->work <= s->until; i++)
		if (sources_try(s, c.list[i].p, c.list[i].n, depth))
			return true;
	return false;
}

void ql_planimprove(struct ql_planstate *st, bool copies, double goal,
		    uint64_t work)
{
	struct search s = { .st = st,
			    .copies = copies,
			    .until = st->work + work };
	int depth = 1;

	while (depth <= DEPTH_MAX && st->work <= s.until) {
		s.time = ql_planstate_time(st);
		s.potential = st->potential;
		if (s.time <= goal)
			break;
		depth = chain(&s, depth) ? 1 : depth + 1;
	}
}

void ql_planimprove_drop(struct ql_planstate *st, double limit)
{
	for (uint32_t p = 0; p < st->in->n_pieces; p++)
		for (uint32_t i = 0; i < st->n_targets; i++) {
			uint32_t n = st->targets[i];
			uint32_t was = st->src[ql_planstate_at(st, p, n)];
			uint32_t site = st->in->nodes[n].site;

			if (!ql_planstate_outside(st, n, was) ||
			    !is_copy(st, p, n, was))
				continue;
			for (uint32_t k = st->first_member[site];
			     k < st->first_member[site + 1]; k++) {
				uint32_t q = st->members[k];

				if (!ql_planstate_may(st, p, n, q) ||
				    ql_planstate_cycle(st, p, n, q))
					continue;
				ql_planstate_set(st, p, n, q);
				if (ql_planstate_time(st) <= limit)
					break;
				ql_planstate_set(st, p, n, was);
			}
		}
}
