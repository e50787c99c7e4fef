/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deployments to be planned, made by hand or by chance, and what a plan of them
 * must be.  The time model is written again here, from sched-exporter/plan.h
 * and with nothing of the planner's.
 */
#ifndef QL_TESTS_DEPLOY_H
#define QL_TESTS_DEPLOY_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sched-exporter/plan.h"
#include "store/base/base.h"

#define MS UINT64_C(1000000)
#define MIB (UINT64_C(1) << 20)
#define MBIT UINT64_C(125000) /* bytes/s */

struct deploy {
	struct ql_deploy_input in;
	struct ql_deploy_site *sites; /* all owned */
	struct ql_deploy_link *links;
	struct ql_deploy_node *nodes;
	struct ql_deploy_piece *pieces;
	uint64_t *has;
	uint32_t *targets;
	char (*names)[16];
};

/* As many sites, of nodes each; every node a target; 100 Mbit/s and 40 ms to
 * the registry, 400 Mbit/s and 1 ms in a site, nothing between sites, pieces
 * of 10 MiB, which nobody has. */
static inline void deploy_init(struct deploy *d, uint32_t sites, uint32_t nodes,
			       uint32_t pieces)
{
	uint32_t n = sites * nodes;

	*d = (struct deploy){ 0 };
	d->sites = calloc(sites, sizeof(*d->sites));
	d->links = calloc((size_t)sites * sites, sizeof(*d->links));
	d->nodes = calloc(n, sizeof(*d->nodes));
	d->pieces = calloc(pieces, sizeof(*d->pieces));
	d->has = calloc((size_t)n * ql_deploy_words(pieces), 8);
	d->targets = calloc(n, sizeof(*d->targets));
	d->names = calloc(sites + n, sizeof(*d->names));
	assert_true(d->sites && d->links && d->nodes && d->pieces && d->has &&
		    d->targets && d->names);
	for (uint32_t s = 0; s < sites; s++) {
		(void)snprintf(d->names[s], 16, "site%u", s);
		d->sites[s] = (struct ql_deploy_site){
			.name = d->names[s],
			.uplink = 100 * MBIT,
			.uplink_rtt_ns = 40 * MS,
			.uplink_alive = true,
			.lan = 400 * MBIT,
			.lan_rtt_ns = MS,
		};
	}
	for (uint32_t i = 0; i < n; i++) {
		(void)snprintf(d->names[sites + i], 16, "node%u", i);
		d->nodes[i] = (struct ql_deploy_node){
			.name = d->names[sites + i],
			.site = i / nodes,
			.up = 400 * MBIT,
			.down = 400 * MBIT,
			.alive = true,
		};
		d->targets[i] = i;
	}
	for (uint32_t p = 0; p < pieces; p++) {
		d->pieces[p].bytes = 10 * MIB;
		d->pieces[p].digest.bytes[0] = (uint8_t)(p >> 8);
		d->pieces[p].digest.bytes[1] = (uint8_t)p;
	}
	d->in = (struct ql_deploy_input){
		.sites = d->sites,
		.n_sites = sites,
		.links = d->links,
		.nodes = d->nodes,
		.n_nodes = n,
		.pieces = d->pieces,
		.n_pieces = pieces,
		.has = d->has,
		.targets = d->targets,
		.n_targets = n,
	};
}

static inline void deploy_release(struct deploy *d)
{
	free(d->sites);
	free(d->links);
	free(d->nodes);
	free(d->pieces);
	free(d->has);
	free(d->targets);
	free(d->names);
}

static inline bool deploy_has(const struct ql_deploy_input *in, uint32_t n,
			      uint32_t p)
{
	return in->has[(size_t)n * ql_deploy_words(in->n_pieces) + p / 64] >>
		       p % 64 &
	       1;
}

static inline void deploy_give(struct deploy *d, uint32_t n, uint32_t p)
{
	d->has[(size_t)n * ql_deploy_words(d->in.n_pieces) + p / 64] |=
		UINT64_C(1) << p % 64;
}

/* Both ways. */
static inline void deploy_link(struct deploy *d, uint32_t a, uint32_t b,
			       uint64_t rate, uint64_t rtt_ns)
{
	d->links[a * d->in.n_sites + b] =
		(struct ql_deploy_link){ rate, rtt_ns };
	d->links[b * d->in.n_sites + a] =
		(struct ql_deploy_link){ rate, rtt_ns };
}

static inline void deploy_plan(const struct deploy *d,
			       struct ql_deploy_plan *plan)
{
	struct ql_error err = QL_ERROR_INIT;

	if (ql_deploy_plan_make(&d->in, plan, &err) < 0)
		fail_msg("%s", err.text);
}

/* ---- chance ---- */

static inline uint64_t chance(uint64_t *state, uint64_t below)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state % below;
}

/* ---- the time model ---- */

static inline double model_rate(const struct ql_deploy_input *in, uint32_t n,
				uint64_t rate)
{
	uint64_t lan = in->sites[in->nodes[n].site].lan;

	return (double)(lan > 0 && lan < rate ? lan : rate);
}

/* ns */
static inline double model_hop(const struct ql_deploy_input *in, uint32_t p,
			       uint32_t n, uint32_t from)
{
	double bytes = fmin((double)in->pieces[p].bytes, QL_DEPLOY_CHUNK);
	double down = model_rate(in, n, in->nodes[n].down), up;
	uint32_t site = in->nodes[n].site, other;

	if (from == QL_DEPLOY_REGISTRY)
		return (double)in->sites[site].uplink_rtt_ns +
		       bytes / fmin(down, (double)in->sites[site].uplink) * 1e9;
	up = model_rate(in, from, in->nodes[from].up);
	other = in->nodes[from].site;
	if (other == site)
		return (double)in->sites[site].lan_rtt_ns +
		       bytes / fmin(down, up) * 1e9;
	return (double)in->links[other * in->n_sites + site].rtt_ns +
	       bytes /
		       fmin(fmin(down, up),
			    (double)in->links[other * in->n_sites + site]
				    .rate) *
		       1e9;
}

/* ---- what any plan must be ---- */

/* By piece * nodes + node: the fetch, or NULL. */
static inline const struct ql_deploy_fetch **
plan_table(const struct ql_deploy_input *in, const struct ql_deploy_plan *plan)
{
	const struct ql_deploy_fetch **table =
		calloc((size_t)in->n_nodes * in->n_pieces, sizeof(*table));

	assert_non_null(table);
	for (uint32_t i = 0; i < plan->n_targets; i++) {
		const struct ql_deploy_target *t = &plan->targets[i];

		for (uint32_t k = t->first; k < t->first + t->n; k++) {
			const struct ql_deploy_fetch *f = &plan->fetches[k];
			size_t at = (size_t)f->piece * in->n_nodes + t->node;

			assert_null(table[at]); /* each piece once */
			table[at] = f;
			if (k > t->first)
				assert_true(in->pieces[f[-1].piece].priority <=
					    in->pieces[f->piece].priority);
		}
	}
	return table;
}

static inline bool is_lost(const struct ql_deploy_plan *plan, uint32_t site,
			   uint32_t p)
{
	for (uint32_t i = 0; i < plan->n_lost; i++)
		if (plan->lost[i].site == site && plan->lost[i].piece == p)
			return true;
	return false;
}

/* What is asked is alive, within reach, and has the piece or will have it. */
static inline void assert_source(const struct ql_deploy_input *in,
				 const struct ql_deploy_fetch **row, uint32_t p,
				 uint32_t n, uint32_t from)
{
	uint32_t site = in->nodes[n].site, other;

	if (from == QL_DEPLOY_REGISTRY) {
		assert_true(in->sites[site].uplink_alive);
		assert_true(in->sites[site].uplink > 0);
		return;
	}
	assert_true(from < in->n_nodes && from != n);
	assert_true(in->nodes[from].alive);
	assert_true(deploy_has(in, from, p) || row[from]);
	other = in->nodes[from].site;
	assert_true(other == site
			    ? in->sites[site].lan > 0
			    : in->links[other * in->n_sites + site].rate > 0);
}

/* 0: not seen, 1: above, 2: done.  Sources and fallbacks alike. */
static inline void assert_no_cycle(const struct ql_deploy_input *in,
				   const struct ql_deploy_fetch **row,
				   uint8_t *seen, uint32_t n)
{
	if (n >= in->n_nodes || !row[n] || seen[n] == 2)
		return;
	assert_int_equal(seen[n], 0);
	seen[n] = 1;
	assert_no_cycle(in, row, seen, row[n]->from);
	assert_no_cycle(in, row, seen, row[n]->fallback);
	seen[n] = 2;
}

struct measured {
	double load, ways; /* ns */
	uint64_t *uplink;  /* owned; bytes */
	uint64_t uplinks, links;
};

static inline double model_way(const struct ql_deploy_input *in,
			       const struct ql_deploy_fetch **row, uint32_t p,
			       uint32_t n)
{
	double t = 0;

	for (; n < in->n_nodes && row[n]; n = row[n]->from)
		t += model_hop(in, p, n, row[n]->from);
	return t;
}

static inline double most(double a, double b)
{
	return a < b ? b : a;
}

static inline void measure(const struct ql_deploy_input *in,
			   const struct ql_deploy_fetch **table,
			   struct measured *m)
{
	uint32_t ns = in->n_sites;
	uint64_t *link = calloc((size_t)ns * ns, 8);
	uint64_t *up = calloc(in->n_nodes, 8), *down = calloc(in->n_nodes, 8);

	*m = (struct measured){ .uplink = calloc(ns, 8) };
	assert_true(link && up && down && m->uplink);
	for (uint32_t p = 0; p < in->n_pieces; p++) {
		const struct ql_deploy_fetch **row =
			table + (size_t)p * in->n_nodes;

		for (uint32_t n = 0; n < in->n_nodes; n++) {
			uint32_t site = in->nodes[n].site, other;

			if (!row[n])
				continue;
			m->ways = most(m->ways, model_way(in, row, p, n));
			down[n] += in->pieces[p].bytes;
			if (row[n]->from == QL_DEPLOY_REGISTRY) {
				m->uplink[site] += in->pieces[p].bytes;
				m->uplinks += in->pieces[p].bytes;
				continue;
			}
			up[row[n]->from] += in->pieces[p].bytes;
			other = in->nodes[row[n]->from].site;
			if (other != site) {
				link[other * ns + site] += in->pieces[p].bytes;
				m->links += in->pieces[p].bytes;
			}
		}
	}
	for (uint32_t s = 0; s < ns; s++) {
		if (m->uplink[s])
			m->load = most(m->load,
				       (double)m->uplink[s] /
					       (double)in->sites[s].uplink);
		for (uint32_t o = 0; o < ns; o++)
			if (link[o * ns + s])
				m->load = most(
					m->load,
					(double)link[o * ns + s] /
						(double)in->links[o * ns + s]
							.rate);
	}
	for (uint32_t n = 0; n < in->n_nodes; n++) {
		m->load = most(m->load,
			       (double)up[n] /
				       model_rate(in, n, in->nodes[n].up));
		m->load = most(m->load,
			       (double)down[n] /
				       model_rate(in, n, in->nodes[n].down));
	}
	m->load *= 1e9;
	free(link);
	free(up);
	free(down);
}

static inline void assert_about(double a, double b)
{
	if (fabs(a - b) > 10 + 1e-6 * b)
		fail_msg("%.0f ns, not %.0f ns", a, b);
}

/* The share of the uplink that n has while it fetches what is of p's priority;
 * 0: it brings in nothing of that. */
static inline uint32_t share_in(const struct ql_deploy_input *in,
				const struct ql_deploy_fetch **table,
				uint32_t p, uint32_t n)
{
	uint32_t share = 0;

	for (uint32_t i = 0; i < in->n_pieces; i++) {
		const struct ql_deploy_fetch *f =
			table[(size_t)i * in->n_nodes + n];

		if (in->pieces[i].priority != in->pieces[p].priority || !f ||
		    f->from != QL_DEPLOY_REGISTRY)
			continue;
		assert_true(share == 0 || share == f->share);
		share = f->share;
	}
	return share;
}

/* What comes from outside has a share, nothing else has; and the nodes' shares
 * of an uplink, for one priority, are the whole, but for rounding. */
static inline void assert_shares(const struct ql_deploy_input *in,
				 const struct ql_deploy_fetch **table)
{
	uint32_t *sum = calloc(in->n_sites, sizeof(*sum));

	assert_non_null(sum);
	for (uint32_t p = 0; p < in->n_pieces; p++) {
		bool sums = in->n_nodes <= 200 && p % 8 == 0;

		memset(sum, 0, in->n_sites * sizeof(*sum));
		for (uint32_t n = 0; n < in->n_nodes; n++) {
			const struct ql_deploy_fetch *f =
				table[(size_t)p * in->n_nodes + n];
			uint32_t site = in->nodes[n].site;

			if (sums)
				sum[site] += share_in(in, table, p, n);
			if (f)
				assert_int_equal(
					f->share > 0,
					f->from == QL_DEPLOY_REGISTRY ||
						in->nodes[f->from].site !=
							site);
		}
		for (uint32_t s = 0; sums && s < in->n_sites; s++)
			assert_true(sum[s] == 0 ||
				    (sum[s] + in->n_nodes >= 1000 &&
				     sum[s] <= 1000 + in->n_nodes));
	}
	free(sum);
}

static inline void assert_plan(const struct ql_deploy_input *in,
			       const struct ql_deploy_plan *plan,
			       struct measured *ret_m)
{
	const struct ql_deploy_fetch **table = plan_table(in, plan);
	uint8_t *seen = calloc(in->n_nodes, 1);
	bool *target = calloc(in->n_nodes, sizeof(*target));
	struct measured m;

	assert_true(seen && target);
	for (uint32_t i = 0; i < in->n_targets; i++)
		target[in->targets[i]] = in->nodes[in->targets[i]].alive;
	for (uint32_t p = 0; p < in->n_pieces; p++) {
		const struct ql_deploy_fetch **row =
			table + (size_t)p * in->n_nodes;

		memset(seen, 0, in->n_nodes);
		for (uint32_t n = 0; n < in->n_nodes; n++) {
			bool lost = is_lost(plan, in->nodes[n].site, p);
			bool due = target[n] && !deploy_has(in, n, p);

			assert_int_equal(row[n] != NULL, due && !lost);
			if (!row[n])
				continue;
			assert_source(in, row, p, n, row[n]->from);
			if (row[n]->fallback != QL_DEPLOY_NONE)
				assert_source(in, row, p, n, row[n]->fallback);
			assert_true(row[n]->from != row[n]->fallback);
			assert_no_cycle(in, row, seen, n);
		}
	}
	measure(in, table, &m);
	assert_shares(in, table);
	assert_about((double)plan->load_ns, m.load);
	assert_about((double)plan->hops_ns, m.ways);
	assert_true((double)plan->bound_ns <= m.load + 10);
	assert_int_equal(plan->time_ns, plan->load_ns + plan->hops_ns);
	assert_int_equal(plan->uplink_sum, m.uplinks);
	assert_int_equal(plan->links_sum, m.links);
	for (uint32_t s = 0; s < in->n_sites; s++)
		assert_int_equal(plan->uplink_bytes[s], m.uplink[s]);
	free(table);
	free(seen);
	free(target);
	if (ret_m)
		*ret_m = m;
	else
		free(m.uplink);
}

#endif
