/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first assignment: for each piece, the largest first (Graham's LPT, 1969),
 * who brings it into each site and from where, whichever is there earliest;
 * then, inside of each site, a tree by which it is passed on.
 *
 * A tree grows by giving the next node to the parent that finishes earliest:
 * what the parent would have sent by then, or the time that the whole takes
 * anyway where that is more, and the latency of its place.  So nobody is deep
 * in a tree while there is room near its root, and who has sent much of one
 * piece is a leaf in the next one's tree (as in SplitStream, SOSP'03 §3).
 */
#include "sched-exporter/plan-private.h"

#include <math.h>
#include <stdlib.h>

#include "store/base/cleanup.h"

struct rank {
	double key, tie;
	uint32_t number;
};

struct way_in {
	double cost;	/* ns; infinite: there is none, or none is needed */
	uint32_t taker; /* the node that brings it in */
	uint32_t src;
};

struct greedy {
	struct ql_planstate *st; /* borrowed */
	double floor;		 /* ns that it will take anyway */
	/* What nodes will have to send of what they bring in: bytes, by node;
	 * and who that is, by piece * sites + site.  Owned. */
	uint64_t *reserved;
	uint32_t *taker;
	struct way_in *ways; /* owned; by site */
	struct rank *ranks;  /* owned; nodes or pieces */
	struct rank *heap;   /* owned; nodes */
	uint32_t n_heap;
};

/* ---- ranks ---- */

static bool rank_less(const struct rank *a, const struct rank *b)
{
	if (a->key < b->key || b->key < a->key)
		return a->key < b->key;
	if (a->tie < b->tie || b->tie < a->tie)
		return a->tie < b->tie;
	return a->number < b->number;
}

static int rank_cmp(const void *a, const void *b)
{
	return rank_less(a, b) ? -1 : rank_less(b, a);
}

static void heap_down(struct greedy *g)
{
	uint32_t i = 0, k;

	for (; (k = 2 * i + 1) < g->n_heap; i = k) {
		struct rank r = g->heap[i];

		if (k + 1 < g->n_heap &&
		    rank_less(&g->heap[k + 1], &g->heap[k]))
			k++;
		if (!rank_less(&g->heap[k], &r))
			return;
		g->heap[i] = g->heap[k];
		g->heap[k] = r;
	}
}

static void heap_add(struct greedy *g, struct rank r)
{
	uint32_t i = g->n_heap++;

	while (i > 0 && rank_less(&r, &g->heap[(i - 1) / 2])) {
		g->heap[i] = g->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	g->heap[i] = r;
}

/* ---- into the sites ---- */

static bool is_open(const struct ql_planstate *st, uint32_t p, uint32_t n)
{
	return st->src[ql_planstate_at(st, p, n)] == QL_SRC_OPEN;
}

/* ns that n has sent for, with what it is to send. */
static double sending(const struct greedy *g, uint32_t n, uint64_t more)
{
	return ql_planstate_with(g->st, g->st->first_up + n,
				 g->reserved[n] + more);
}

/* 0: nobody in s has p, or is to have it. */
static uint32_t entries_of(const struct ql_planstate *st, uint32_t p,
			   uint32_t s)
{
	return st->entries[(size_t)p * st->in->n_sites + s];
}

/* Who brings p into s; NONE: nobody needs to. */
static uint32_t taker_find(const struct greedy *g, uint32_t p, uint32_t s)
{
	const struct ql_planstate *st = g->st;
	uint32_t best = QL_DEPLOY_NONE;
	double least = INFINITY;

	if (st->in->sites[s].lan > 0 && entries_of(st, p, s) > 0)
		return best;
	for (uint32_t i = st->first_member[s]; i < st->first_member[s + 1];
	     i++) {
		uint32_t n = st->members[i];
		double t;

		if (!is_open(st, p, n))
			continue;
		t = sending(g, n, st->in->pieces[p].bytes);
		if (t < least) {
			least = t;
			best = n;
		}
	}
	return best;
}

static void way_offer(struct way_in *w, double cost, uint32_t src)
{
	if (cost < w->cost) {
		w->cost = cost;
		w->src = src;
	}
}

/* What nodes of the site `from` have to offer to s. */
static void way_from(const struct greedy *g, uint32_t p, uint32_t s,
		     uint32_t from)
{
	const struct ql_planstate *st = g->st;
	uint64_t bytes = st->in->pieces[p].bytes;
	uint32_t link = ql_planstate_link(st, from, s);
	struct way_in *w = &g->ways[s];

	if (link == QL_DEPLOY_NONE || entries_of(st, p, from) == 0)
		return;
	for (uint32_t i = st->first_member[from];
	     i < st->first_member[from + 1]; i++) {
		uint32_t q = st->members[i];
		size_t at = ql_planstate_at(st, p, q);
		double t;

		if (!ql_src_is_set(st->src[at]))
			continue;
		t = fmax(sending(g, q, bytes),
			 ql_planstate_with(st, link, bytes));
		way_offer(w,
			  fmax(t, g->floor) + st->latency[at] +
				  ql_planstate_hop(st, p, w->taker, q),
			  q);
	}
}

static void way_find(const struct greedy *g, uint32_t p, uint32_t s)
{
	const struct ql_planstate *st = g->st;
	struct way_in *w = &g->ways[s];

	w->cost = INFINITY;
	w->taker = taker_find(g, p, s);
	if (w->taker == QL_DEPLOY_NONE)
		return;
	if (ql_planstate_may(st, p, w->taker, QL_DEPLOY_REGISTRY))
		way_offer(w,
			  fmax(g->floor,
			       ql_planstate_with(st, s,
						 st->in->pieces[p].bytes)) +
				  ql_planstate_hop(st, p, w->taker,
						   QL_DEPLOY_REGISTRY),
			  QL_DEPLOY_REGISTRY);
	for (uint32_t from = 0; from < st->in->n_sites; from++)
		way_from(g, p, s, from);
}

/* Which site is entered first: costs that were found before have only grown,
 * so that the least one counts when it is still what it was. */
static uint32_t earliest(const struct greedy *g, uint32_t p)
{
	uint32_t n_sites = g->st->in->n_sites;

	for (;;) {
		uint32_t s = 0;
		double was;

		for (uint32_t o = 1; o < n_sites; o++)
			if (g->ways[o].cost < g->ways[s].cost)
				s = o;
		was = g->ways[s].cost;
		if (!isfinite(was))
			return QL_DEPLOY_NONE;
		way_find(g, p, s);
		if (g->ways[s].cost <= was)
			return s;
	}
}

static void bring(const struct greedy *g, uint32_t p)
{
	struct ql_planstate *st = g->st;
	const struct ql_deploy_input *in = st->in;
	uint32_t s;

	for (s = 0; s < in->n_sites; s++)
		way_find(g, p, s);
	while ((s = earliest(g, p)) != QL_DEPLOY_NONE) {
		struct way_in w = g->ways[s];

		ql_planstate_set(st, p, w.taker, w.src);
		for (uint32_t i = st->first_member[s];
		     in->sites[s].lan > 0 && i < st->first_member[s + 1]; i++)
			if (is_open(st, p, st->members[i])) {
				g->taker[(size_t)p * in->n_sites + s] = w.taker;
				g->reserved[w.taker] += in->pieces[p].bytes;
				break;
			}
		way_find(g, p, s);
		for (uint32_t o = 0; o < in->n_sites; o++)
			if (o != s && g->ways[o].taker != QL_DEPLOY_NONE)
				way_from(g, p, o, s);
	}
}

/* ---- inside of a site ---- */

static struct rank parent_rank(const struct greedy *g, uint32_t p, uint32_t q)
{
	const struct ql_planstate *st = g->st;
	uint64_t bytes = st->in->pieces[p].bytes, chunk = QL_DEPLOY_CHUNK;
	double t = sending(g, q, bytes);

	if (chunk > bytes)
		chunk = bytes;
	return (struct rank){
		.key = fmax(t, g->floor) +
		       st->latency[ql_planstate_at(st, p, q)] +
		       (double)chunk * st->ns_per_byte[st->first_up + q],
		.tie = t,
		.number = q,
	};
}

static void pass_on(struct greedy *g, uint32_t p, uint32_t s)
{
	struct ql_planstate *st = g->st;
	uint32_t *taker = &g->taker[(size_t)p * st->in->n_sites + s];
	uint32_t n = 0;

	if (*taker != QL_DEPLOY_NONE)
		g->reserved[*taker] -= st->in->pieces[p].bytes;
	*taker = QL_DEPLOY_NONE;
	g->n_heap = 0;
	for (uint32_t i = st->first_member[s]; i < st->first_member[s + 1];
	     i++) {
		uint32_t m = st->members[i];

		if (is_open(st, p, m))
			g->ranks[n++] = (struct rank){ sending(g, m, 0), 0, m };
		else if (ql_src_is_set(st->src[ql_planstate_at(st, p, m)]))
			heap_add(g, parent_rank(g, p, m));
	}
	qsort(g->ranks, n, sizeof(*g->ranks), rank_cmp);
	for (uint32_t i = 0; i < n && g->n_heap > 0; i++) {
		uint32_t m = g->ranks[i].number, q = g->heap[0].number;

		ql_planstate_set(st, p, m, q);
		g->heap[0] = parent_rank(g, p, q);
		heap_down(g);
		heap_add(g, parent_rank(g, p, m));
	}
}

/* ---- all of it ---- */

static void greedy_run(struct greedy *g, const struct rank *order)
{
	struct ql_planstate *st = g->st;
	const struct ql_deploy_input *in = st->in;

	g->floor = st->bound;
	for (uint32_t i = 0; i < in->n_pieces; i++)
		bring(g, order[i].number);
	g->floor = fmax(g->floor, ql_planstate_load(st));
	for (uint32_t i = 0; i < in->n_pieces; i++)
		for (uint32_t s = 0; s < in->n_sites; s++)
			if (in->sites[s].lan > 0)
				pass_on(g, order[i].number, s);
}

int ql_plangreedy_fill(struct ql_planstate *st)
{
	const struct ql_deploy_input *in = st->in;
	size_t n_takers = (size_t)in->n_pieces * in->n_sites;
	_cleanup_free_ uint64_t *reserved = calloc(in->n_nodes, 8);
	_cleanup_free_ uint32_t *taker = calloc(n_takers, sizeof(*taker));
	_cleanup_free_ struct way_in *ways = calloc(in->n_sites, sizeof(*ways));
	_cleanup_free_ struct rank *ranks = calloc(in->n_nodes, sizeof(*ranks));
	_cleanup_free_ struct rank *heap = calloc(in->n_nodes, sizeof(*heap));
	_cleanup_free_ struct rank *order =
		calloc(in->n_pieces, sizeof(*order));
	struct greedy g = { .st = st,
			    .reserved = reserved,
			    .taker = taker,
			    .ways = ways,
			    .ranks = ranks,
			    .heap = heap };

	if (!reserved || !taker || !ways || !ranks || !heap || !order)
		return -ENOMEM;
	for (size_t i = 0; i < n_takers; i++)
		taker[i] = QL_DEPLOY_NONE;
	for (uint32_t p = 0; p < in->n_pieces; p++)
		order[p] = (struct rank){ -(double)in->pieces[p].bytes, 0, p };
	qsort(order, in->n_pieces, sizeof(*order), rank_cmp);
	greedy_run(&g, order);
	return 0;
}
