/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From an assignment of sources to a plan: the order of each node's fetches,
 * their shares of uplinks and links, whom to ask when a source fails, and the
 * figures.
 *
 * Fallbacks: the nodes of one piece have an order, by latency and then number,
 * in which each stands behind its source.  A fallback stands before the node
 * too, or is the registry or a node that has the piece, so that no failure
 * makes nodes wait for each other.  When a node that brought a piece into a
 * site dies, the first of those that had it from there asks outside, and the
 * others ask that one.
 */
#include "sched-exporter/plan-private.h"

#include <stdlib.h>

enum { WHOLE = 1000 }; /* parts */

struct out {
	const struct ql_planstate *st; /* borrowed */
	const uint32_t *order; /* borrowed; pieces as they are fetched */
	/* Of the class of pieces that is being shared out: bytes by link or
	 * uplink, and by node.  Owned. */
	uint64_t *res_bytes;
	uint64_t *node_bytes; /* by node, from the registry; then from nodes */
	uint32_t *first_kid;  /* owned; of a piece, by node */
	/* Owned; of a piece, by site: the two of those that have it that send
	 * least. */
	struct pair {
		uint32_t first, second;
	} * holders;
};

static uint32_t src_of(const struct ql_planstate *st, uint32_t p, uint32_t n)
{
	return st->src[ql_planstate_at(st, p, n)];
}

static bool is_fetch(uint32_t src)
{
	return src != QL_SRC_HAS && ql_src_is_set(src);
}

/* ---- the order ---- */

struct place {
	uint32_t priority, piece;
};

static int place_cmp(const void *va, const void *vb)
{
	const struct place *a = va, *b = vb;

	if (a->priority != b->priority)
		return a->priority < b->priority ? -1 : 1;
	return a->piece < b->piece ? -1 : a->piece > b->piece;
}

static uint32_t *order_new(const struct ql_deploy_input *in)
{
	struct place *places = calloc(in->n_pieces + 1, sizeof(*places));
	uint32_t *order = calloc(in->n_pieces + 1, sizeof(*order));

	if (!places || !order) {
		free(places);
		free(order);
		return NULL;
	}
	for (uint32_t p = 0; p < in->n_pieces; p++)
		places[p] = (struct place){ in->pieces[p].priority, p };
	qsort(places, in->n_pieces, sizeof(*places), place_cmp);
	for (uint32_t p = 0; p < in->n_pieces; p++)
		order[p] = places[p].piece;
	free(places);
	return order;
}

/* ---- shares ---- */

/* The uplink or link over which n has p; NONE. */
static uint32_t wide_of(const struct ql_planstate *st, uint32_t p, uint32_t n)
{
	uint32_t src = src_of(st, p, n), site = st->in->nodes[n].site;

	if (src == QL_DEPLOY_REGISTRY)
		return site;
	if (!ql_src_is_node(src) || st->in->nodes[src].site == site)
		return QL_DEPLOY_NONE;
	return ql_planstate_link(st, st->in->nodes[src].site, site);
}

static uint64_t *node_bytes(const struct out *o, uint32_t n, uint32_t src)
{
	const struct ql_deploy_input *in = o->st->in;
	uint32_t k = src == QL_DEPLOY_REGISTRY ? in->n_sites
					       : in->nodes[src].site;

	return &o->node_bytes[(size_t)n * (in->n_sites + 1) + k];
}

/* Counts the bytes of the class that begins at order[first], or forgets them;
 * returns where the next one begins. */
static uint32_t class_count(const struct out *o, uint32_t first, bool count)
{
	const struct ql_planstate *st = o->st;
	const struct ql_deploy_input *in = st->in;
	uint32_t k = first;

	for (; k < in->n_pieces && in->pieces[o->order[k]].priority ==
					   in->pieces[o->order[first]].priority;
	     k++) {
		uint32_t p = o->order[k];

		for (uint32_t i = 0; i < st->n_targets; i++) {
			uint32_t n = st->targets[i], res = wide_of(st, p, n);
			uint64_t *own;

			if (res == QL_DEPLOY_NONE)
				continue;
			own = node_bytes(o, n, src_of(st, p, n));
			o->res_bytes[res] =
				count ? o->res_bytes[res] + in->pieces[p].bytes
				      : 0;
			*own = count ? *own + in->pieces[p].bytes : 0;
		}
	}
	return k;
}

static uint16_t share_of(const struct out *o, uint32_t p, uint32_t n)
{
	uint32_t res = wide_of(o->st, p, n);
	uint64_t own, parts;

	if (res == QL_DEPLOY_NONE)
		return 0;
	own = *node_bytes(o, n, src_of(o->st, p, n));
	parts = own * WHOLE / o->res_bytes[res];
	return (uint16_t)(parts > 0 ? parts : 1);
}

/* ---- fallbacks ---- */

static bool before(const struct ql_planstate *st, uint32_t p, uint32_t a,
		   uint32_t b)
{
	double la = st->latency[ql_planstate_at(st, p, a)];
	double lb = st->latency[ql_planstate_at(st, p, b)];

	if (la < lb || lb < la)
		return la < lb;
	return a < b;
}

static bool sends_less(const struct ql_planstate *st, uint32_t a, uint32_t b)
{
	return b == QL_DEPLOY_NONE ||
	       ql_planstate_with(st, st->first_up + a, 0) <
		       ql_planstate_with(st, st->first_up + b, 0);
}

static void first_kids(const struct out *o, uint32_t p)
{
	const struct ql_planstate *st = o->st;

	for (uint32_t n = 0; n < st->in->n_nodes; n++)
		o->first_kid[n] = QL_DEPLOY_NONE;
	for (uint32_t i = 0; i < st->n_targets; i++) {
		uint32_t n = st->targets[i], q = src_of(st, p, n);
		uint32_t *first;

		if (!is_fetch(q) || q == QL_DEPLOY_REGISTRY ||
		    st->in->nodes[q].site != st->in->nodes[n].site)
			continue;
		first = &o->first_kid[q];
		if (*first == QL_DEPLOY_NONE || before(st, p, n, *first))
			*first = n;
	}
}

static void holders_find(const struct out *o, uint32_t p)
{
	const struct ql_planstate *st = o->st;

	for (uint32_t s = 0; s < st->in->n_sites; s++) {
		struct pair h = { QL_DEPLOY_NONE, QL_DEPLOY_NONE };

		for (uint32_t i = st->first_member[s];
		     i < st->first_member[s + 1]; i++) {
			uint32_t q = st->members[i];

			if (src_of(st, p, q) != QL_SRC_HAS)
				continue;
			if (sends_less(st, q, h.first)) {
				h.second = h.first;
				h.first = q;
			} else if (sends_less(st, q, h.second)) {
				h.second = q;
			}
		}
		o->holders[s] = h;
	}
}

/* One of the site that has the piece and is not `but`. */
static uint32_t holder_in(const struct out *o, uint32_t site, uint32_t but)
{
	const struct pair *h = &o->holders[site];

	return h->first == but ? h->second : h->first;
}

/* Outside of the site: the registry, or who has p elsewhere. */
static uint32_t outside_of(const struct out *o, uint32_t p, uint32_t n,
			   uint32_t but)
{
	const struct ql_planstate *st = o->st;
	uint32_t own = st->in->nodes[n].site;

	if (but != QL_DEPLOY_REGISTRY &&
	    ql_planstate_may(st, p, n, QL_DEPLOY_REGISTRY))
		return QL_DEPLOY_REGISTRY;
	for (uint32_t s = 0; s < st->in->n_sites; s++) {
		uint32_t q;

		if (s == own || ql_planstate_link(st, s, own) == QL_DEPLOY_NONE)
			continue;
		q = holder_in(o, s, but);
		if (q != QL_DEPLOY_NONE)
			return q;
	}
	return QL_DEPLOY_NONE;
}

static uint32_t fallback_of(const struct out *o, uint32_t p, uint32_t n)
{
	const struct ql_planstate *st = o->st;
	uint32_t q = src_of(st, p, n), site = st->in->nodes[n].site, above;

	if (st->in->sites[site].lan > 0) {
		uint32_t holder = holder_in(o, site, q);

		if (holder != QL_DEPLOY_NONE)
			return holder;
	}
	if (q == QL_DEPLOY_REGISTRY || st->in->nodes[q].site != site)
		return outside_of(o, p, n, q);
	above = src_of(st, p, q);
	if (ql_src_is_node(above) && st->in->nodes[above].site == site)
		return above;
	if (o->first_kid[q] != n)
		return o->first_kid[q];
	return outside_of(o, p, n, q);
}

/* ---- all of it ---- */

static uint32_t previous_from(const struct ql_deploy_target *t,
			      const struct ql_deploy_plan *prev, uint32_t piece)
{
	for (uint32_t i = 0; i < t->n; i++)
		if (prev->fetches[t->first + i].piece == piece)
			return prev->fetches[t->first + i].from;
	return QL_DEPLOY_NONE;
}

static uint32_t kept_count(const struct ql_deploy_input *in,
			   const struct ql_deploy_plan *plan)
{
	const struct ql_deploy_plan *prev = in->previous;
	uint32_t kept = 0;

	for (uint32_t i = 0; prev && i < prev->n_targets; i++)
		for (uint32_t k = 0; k < plan->n_targets; k++) {
			const struct ql_deploy_target *t = &plan->targets[k];

			if (t->node != prev->targets[i].node)
				continue;
			for (uint32_t j = t->first; j < t->first + t->n; j++)
				kept += previous_from(&prev->targets[i], prev,
						      plan->fetches[j].piece) ==
					plan->fetches[j].from;
		}
	return kept;
}

static int plan_alloc(const struct ql_planstate *st,
		      struct ql_deploy_plan *plan)
{
	const struct ql_deploy_input *in = st->in;
	uint32_t fetches = 0;

	plan->targets = calloc(st->n_targets + 1, sizeof(*plan->targets));
	if (!plan->targets)
		return -ENOMEM;
	for (uint32_t i = 0; i < st->n_targets; i++) {
		struct ql_deploy_target *t = &plan->targets[i];

		t->node = st->targets[i];
		t->first = fetches;
		for (uint32_t p = 0; p < in->n_pieces; p++)
			fetches += is_fetch(src_of(st, p, t->node));
	}
	plan->n_targets = st->n_targets;
	plan->n_fetches = fetches;
	plan->fetches = calloc(fetches + 1, sizeof(*plan->fetches));
	plan->uplink_bytes =
		calloc(in->n_sites + 1, sizeof(*plan->uplink_bytes));
	plan->lost = calloc((size_t)in->n_sites * in->n_pieces + 1,
			    sizeof(*plan->lost));
	return plan->fetches && plan->uplink_bytes && plan->lost ? 0 : -ENOMEM;
}

/* Piece by piece as they are fetched, so that each node's are in order. */
static void fetches_put(const struct out *o, struct ql_deploy_plan *plan)
{
	const struct ql_planstate *st = o->st;
	uint32_t next;

	for (uint32_t k = 0; k < st->in->n_pieces; k = next) {
		next = class_count(o, k, true);
		for (uint32_t j = k; j < next; j++) {
			uint32_t p = o->order[j];

			first_kids(o, p);
			holders_find(o, p);
			for (uint32_t i = 0; i < st->n_targets; i++) {
				struct ql_deploy_target *t = &plan->targets[i];
				uint32_t src = src_of(st, p, t->node);

				if (!is_fetch(src))
					continue;
				plan->fetches[t->first + t->n++] =
					(struct ql_deploy_fetch){
						p, src,
						fallback_of(o, p, t->node),
						share_of(o, p, t->node)
					};
			}
		}
		(void)class_count(o, k, false);
	}
}

static void lost_put(const struct ql_planstate *st, struct ql_deploy_plan *plan)
{
	const struct ql_deploy_input *in = st->in;

	for (uint32_t s = 0; s < in->n_sites; s++)
		for (uint32_t p = 0; p < in->n_pieces; p++)
			for (uint32_t i = 0; i < st->n_targets; i++) {
				uint32_t n = st->targets[i];

				if (in->nodes[n].site == s &&
				    !ql_src_is_set(src_of(st, p, n))) {
					plan->lost[plan->n_lost++] =
						(struct ql_deploy_lost){ s, p };
					break;
				}
			}
}

static void figures_put(const struct ql_planstate *st,
			struct ql_deploy_plan *plan)
{
	const struct ql_deploy_input *in = st->in;

	plan->n_sites = in->n_sites;
	plan->n_nodes = in->n_nodes;
	plan->n_pieces = in->n_pieces;
	plan->load_ns = (uint64_t)ql_planstate_load(st);
	plan->hops_ns = (uint64_t)ql_planstate_ways(st);
	plan->time_ns = plan->load_ns + plan->hops_ns;
	plan->bound_ns = (uint64_t)st->bound;
	for (uint32_t s = 0; s < in->n_sites; s++) {
		plan->uplink_bytes[s] = st->load[s];
		plan->uplink_sum += st->load[s];
	}
	for (uint32_t r = st->first_link; r < st->first_up; r++)
		plan->links_sum += st->load[r];
	plan->n_kept = kept_count(in, plan);
}

int ql_planout_make(const struct ql_planstate *st,
		    struct ql_deploy_plan *ret_plan)
{
	const struct ql_deploy_input *in = st->in;
	size_t pairs = (size_t)in->n_nodes * (in->n_sites + 1);
	struct ql_deploy_plan plan = { 0 };
	uint32_t *order = order_new(in);
	struct out o = {
		.st = st,
		.order = order,
		.res_bytes = calloc(st->n_res, sizeof(*o.res_bytes)),
		.node_bytes = calloc(pairs, sizeof(*o.node_bytes)),
		.first_kid = calloc(in->n_nodes, sizeof(*o.first_kid)),
		.holders = calloc(in->n_sites, sizeof(*o.holders)),
	};
	int r = -ENOMEM;

	if (order && o.res_bytes && o.node_bytes && o.first_kid && o.holders)
		r = plan_alloc(st, &plan);
	if (r == 0) {
		fetches_put(&o, &plan);
		lost_put(st, &plan);
		figures_put(st, &plan);
		*ret_plan = plan;
	} else {
		ql_deploy_plan_release(&plan);
	}
	free(order);
	free(o.res_bytes);
	free(o.node_bytes);
	free(o.first_kid);
	free(o.holders);
	return r;
}
