/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An assignment of sources, and what it costs.  The load of every resource
 * stands at the leaves of a tournament tree, so that the most loaded one is
 * known after each change; so do the longest ways, by piece.
 */
#include "sched-exporter/plan-private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/cleanup.h"
#include "store/base/error.h"

enum { COST_SET = 8 }; /* steps of work, about */

/* ---- the largest of many ---- */

static int maxtree_init(struct ql_maxtree *mt, uint32_t n)
{
	mt->size = 1;
	while (mt->size < n)
		mt->size *= 2;
	mt->t = calloc((size_t)mt->size * 2, sizeof(*mt->t));
	return mt->t ? 0 : -ENOMEM;
}

static void maxtree_put(struct ql_maxtree *mt, uint32_t i, double v)
{
	uint32_t k = mt->size + i;

	mt->t[k] = v;
	for (k /= 2; k > 0; k /= 2) {
		double a = mt->t[2 * k], b = mt->t[2 * k + 1];
		double m = a < b ? b : a;

		if (!(mt->t[k] < m) && !(m < mt->t[k]))
			break;
		mt->t[k] = m;
	}
}

static double maxtree_get(const struct ql_maxtree *mt, uint32_t i)
{
	return mt->t[mt->size + i];
}

uint32_t ql_maxtree_first(const struct ql_maxtree *mt)
{
	uint32_t k = 1;

	while (k < mt->size)
		k = mt->t[2 * k] < mt->t[2 * k + 1] ? 2 * k + 1 : 2 * k;
	return k - mt->size;
}

/* ---- costs ---- */

static double larger(double a, double b)
{
	return a < b ? b : a;
}

uint32_t ql_planstate_link(const struct ql_planstate *st, uint32_t from,
			   uint32_t to)
{
	return st->link_res[(size_t)from * st->in->n_sites + to];
}

double ql_planstate_with(const struct ql_planstate *st, uint32_t res,
			 uint64_t bytes)
{
	return (double)(st->load[res] + bytes) * st->ns_per_byte[res];
}

double ql_planstate_load(const struct ql_planstate *st)
{
	return st->loads.t[1] < st->received ? st->received : st->loads.t[1];
}

double ql_planstate_ways(const struct ql_planstate *st)
{
	return st->ways.t[1];
}

double ql_planstate_time(const struct ql_planstate *st)
{
	return ql_planstate_load(st) + ql_planstate_ways(st);
}

double ql_planstate_hop(const struct ql_planstate *st, uint32_t p, uint32_t n,
			uint32_t src)
{
	const struct ql_deploy_input *in = st->in;
	uint32_t to = in->nodes[n].site, from;
	uint64_t bytes = in->pieces[p].bytes, rtt;
	double slowest = st->down_ns[n];

	if (bytes > QL_DEPLOY_CHUNK)
		bytes = QL_DEPLOY_CHUNK;
	if (src == QL_DEPLOY_REGISTRY) {
		rtt = in->sites[to].uplink_rtt_ns;
		slowest = larger(slowest, st->ns_per_byte[to]);
		return (double)rtt + (double)bytes * slowest;
	}
	from = in->nodes[src].site;
	rtt = in->sites[to].lan_rtt_ns;
	slowest = larger(slowest, st->ns_per_byte[st->first_up + src]);
	if (from != to) {
		rtt = in->links[(size_t)from * in->n_sites + to].rtt_ns;
		slowest = larger(
			slowest,
			st->ns_per_byte[ql_planstate_link(st, from, to)]);
	}
	return (double)rtt + (double)bytes * slowest;
}

/* ---- what may be ---- */

bool ql_planstate_may(const struct ql_planstate *st, uint32_t p, uint32_t n,
		      uint32_t src)
{
	const struct ql_deploy_input *in = st->in;
	uint32_t to = in->nodes[n].site;

	if (src == QL_DEPLOY_REGISTRY)
		return in->sites[to].uplink_alive && in->sites[to].uplink > 0;
	if (src == n || !ql_src_is_set(st->src[ql_planstate_at(st, p, src)]))
		return false;
	if (in->nodes[src].site == to)
		return in->sites[to].lan > 0;
	return ql_planstate_link(st, in->nodes[src].site, to) != QL_DEPLOY_NONE;
}

bool ql_planstate_cycle(const struct ql_planstate *st, uint32_t p, uint32_t n,
			uint32_t q)
{
	while (ql_src_is_node(q)) {
		if (q == n)
			return true;
		q = st->src[ql_planstate_at(st, p, q)];
	}
	return false;
}

bool ql_planstate_outside(const struct ql_planstate *st, uint32_t n,
			  uint32_t src)
{
	if (ql_src_is_node(src))
		return st->in->nodes[src].site != st->in->nodes[n].site;
	return src == QL_DEPLOY_REGISTRY;
}

/* ---- changes ---- */

static void load_put(struct ql_planstate *st, uint32_t res, uint64_t load)
{
	double was = maxtree_get(&st->loads, res) * 1e-9, is;

	st->load[res] = load;
	is = (double)load * st->ns_per_byte[res] * 1e-9;
	st->potential += is * is * is * is - was * was * was * was;
	maxtree_put(&st->loads, res, is * 1e9);
}

/* Gives, or takes back, what n's having p from src costs. */
static void charge(struct ql_planstate *st, uint32_t p, uint32_t n,
		   uint32_t src, bool give)
{
	const struct ql_deploy_input *in = st->in;
	uint32_t to = in->nodes[n].site, res = to;
	uint64_t d = in->pieces[p].bytes;
	uint32_t one = 1;

	if (src == QL_SRC_OPEN)
		return;
	if (!give) {
		d = 0 - d;
		one = 0 - one;
	}
	if (ql_src_is_node(src)) {
		uint32_t up = st->first_up + src;

		st->kids[ql_planstate_at(st, p, src)] += one;
		load_put(st, up, st->load[up] + d);
		res = QL_DEPLOY_NONE;
		if (in->nodes[src].site != to)
			res = ql_planstate_link(st, in->nodes[src].site, to);
	}
	if (res != QL_DEPLOY_NONE) {
		load_put(st, res, st->load[res] + d);
		st->entries[(size_t)p * in->n_sites + to] += one;
	}
}

static double way_longest(struct ql_planstate *st, uint32_t p)
{
	double most = 0;

	st->work += st->n_targets / 4;
	for (uint32_t i = 0; i < st->n_targets; i++) {
		double l = st->latency[ql_planstate_at(st, p, st->targets[i])];

		most = most < l ? l : most;
	}
	return most;
}

static double way_of(const struct ql_planstate *st, uint32_t p, uint32_t n)
{
	uint32_t src = st->src[ql_planstate_at(st, p, n)];

	if (!ql_src_is_set(src) || src == QL_SRC_HAS)
		return 0;
	return ql_planstate_hop(st, p, n, src) +
	       (ql_src_is_node(src) ? st->latency[ql_planstate_at(st, p, src)]
				    : 0);
}

/* Everything that has p by way of n has got its latency changed.  Those that
 * are not counted again yet are -1; a way is walked up to one that is, and
 * then down again. */
static void ways_again(struct ql_planstate *st, uint32_t p)
{
	const size_t row = ql_planstate_at(st, p, 0);

	st->work += st->n_targets;
	for (uint32_t i = 0; i < st->n_targets; i++)
		if (st->src[row + st->targets[i]] != QL_SRC_HAS)
			st->latency[row + st->targets[i]] = -1;
	for (uint32_t i = 0; i < st->n_targets; i++) {
		uint32_t depth = 0, u = st->targets[i];

		while (ql_src_is_node(u) && st->latency[row + u] < 0) {
			st->walk[depth++] = u;
			u = st->src[row + u];
		}
		while (depth > 0) {
			u = st->walk[--depth];
			st->latency[row + u] = way_of(st, p, u);
		}
	}
}

void ql_planstate_set(struct ql_planstate *st, uint32_t p, uint32_t n,
		      uint32_t src)
{
	const size_t at = ql_planstate_at(st, p, n);
	double most = maxtree_get(&st->ways, p), was = st->latency[at];

	if (st->src[at] == src)
		return;
	st->work += COST_SET;
	charge(st, p, n, st->src[at], false);
	st->src[at] = src;
	charge(st, p, n, src, true);
	if (st->kids[at] == 0) {
		st->latency[at] = way_of(st, p, n);
		if (st->latency[at] >= most)
			most = st->latency[at];
		else if (was >= most)
			most = way_longest(st, p);
	} else {
		ways_again(st, p);
		most = way_longest(st, p);
	}
	maxtree_put(&st->ways, p, most);
}

/* ---- the beginning ---- */

static int state_alloc(struct ql_planstate *st, uint32_t n_links)
{
	const struct ql_deploy_input *in = st->in;
	size_t pairs = (size_t)in->n_nodes * in->n_pieces;
	size_t sites = in->n_sites;

	st->first_link = in->n_sites;
	st->first_up = in->n_sites + n_links;
	st->n_res = st->first_up + in->n_nodes;
	st->ns_per_byte = calloc(st->n_res, sizeof(*st->ns_per_byte));
	st->load = calloc(st->n_res, sizeof(*st->load));
	st->down_ns = calloc(in->n_nodes, sizeof(*st->down_ns));
	st->src = calloc(pairs, sizeof(*st->src));
	st->kids = calloc(pairs, sizeof(*st->kids));
	st->latency = calloc(pairs, sizeof(*st->latency));
	st->entries = calloc(sites * in->n_pieces, sizeof(*st->entries));
	st->members = calloc(in->n_nodes, sizeof(*st->members));
	st->first_member = calloc(sites + 1, sizeof(*st->first_member));
	st->targets = calloc(in->n_nodes, sizeof(*st->targets));
	st->walk = calloc(in->n_nodes, sizeof(*st->walk));
	if (!st->ns_per_byte || !st->load || !st->down_ns || !st->src ||
	    !st->kids || !st->latency || !st->entries || !st->members ||
	    !st->first_member || !st->targets || !st->walk)
		return -ENOMEM;
	if (maxtree_init(&st->loads, st->n_res) < 0)
		return -ENOMEM;
	return maxtree_init(&st->ways, in->n_pieces);
}

static int links_number(struct ql_planstate *st, uint32_t *ret_n)
{
	const struct ql_deploy_input *in = st->in;
	size_t n = (size_t)in->n_sites * in->n_sites;
	uint32_t next = in->n_sites;

	st->link_res = malloc(n * sizeof(*st->link_res));
	if (!st->link_res)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		bool is = in->links && in->links[i].rate > 0 &&
			  i / in->n_sites != i % in->n_sites;

		st->link_res[i] = is ? next++ : QL_DEPLOY_NONE;
	}
	*ret_n = next - in->n_sites;
	return 0;
}

static void rates(struct ql_planstate *st)
{
	const struct ql_deploy_input *in = st->in;

	for (uint32_t s = 0; s < in->n_sites; s++)
		if (in->sites[s].uplink > 0)
			st->ns_per_byte[s] = 1e9 / (double)in->sites[s].uplink;
	for (size_t i = 0; i < (size_t)in->n_sites * in->n_sites; i++)
		if (st->link_res[i] != QL_DEPLOY_NONE)
			st->ns_per_byte[st->link_res[i]] =
				1e9 / (double)in->links[i].rate;
	for (uint32_t n = 0; n < in->n_nodes; n++) {
		const struct ql_deploy_node *node = &in->nodes[n];
		uint64_t lan = in->sites[node->site].lan;
		bool lan_up = lan > 0 && lan < node->up;
		bool lan_down = lan > 0 && lan < node->down;

		st->ns_per_byte[st->first_up + n] =
			1e9 / (double)(lan_up ? lan : node->up);
		st->down_ns[n] = 1e9 / (double)(lan_down ? lan : node->down);
	}
}

static void members_list(struct ql_planstate *st)
{
	const struct ql_deploy_input *in = st->in;
	uint32_t k = 0;

	for (uint32_t s = 0; s < in->n_sites; s++) {
		st->first_member[s] = k;
		for (uint32_t n = 0; n < in->n_nodes; n++)
			if (in->nodes[n].site == s && in->nodes[n].alive)
				st->members[k++] = n;
	}
	st->first_member[in->n_sites] = k;
	for (uint32_t i = 0; i < in->n_targets; i++)
		if (in->nodes[in->targets[i]].alive)
			st->targets[st->n_targets++] = in->targets[i];
}

static void pairs_begin(struct ql_planstate *st)
{
	const struct ql_deploy_input *in = st->in;
	uint32_t words = ql_deploy_words(in->n_pieces);

	for (size_t i = 0; i < (size_t)in->n_nodes * in->n_pieces; i++)
		st->src[i] = QL_SRC_OFF;
	for (uint32_t i = 0; i < st->n_targets; i++)
		for (uint32_t p = 0; p < in->n_pieces; p++)
			st->src[ql_planstate_at(st, p, st->targets[i])] =
				QL_SRC_OPEN;
	for (uint32_t n = 0; n < in->n_nodes; n++) {
		const uint64_t *has = in->has + (size_t)n * words;

		for (uint32_t p = 0; p < in->n_pieces; p++)
			if (in->nodes[n].alive && has[p / 64] >> p % 64 & 1) {
				st->src[ql_planstate_at(st, p, n)] = QL_SRC_HAS;
				st->entries[(size_t)p * in->n_sites +
					    in->nodes[n].site]++;
			}
	}
}

/* Is there anything of p, or will there be, that the site can pass on? */
static bool site_wants(const struct ql_planstate *st, uint32_t p, uint32_t s)
{
	for (uint32_t i = st->first_member[s]; i < st->first_member[s + 1]; i++)
		if (st->src[ql_planstate_at(st, p, st->members[i])] ==
		    QL_SRC_OPEN)
			return true;
	return false;
}

/* Takes out what cannot be reached: neither by the site's uplink, nor from a
 * node in it that has the piece, nor from a site that is reached. */
static void unreachable_drop(struct ql_planstate *st, uint32_t p)
{
	const struct ql_deploy_input *in = st->in;
	const uint32_t *entries = &st->entries[(size_t)p * in->n_sites];
	uint32_t queue[QL_DEPLOY_SITES_MAX], n = 0;
	bool in_queue[QL_DEPLOY_SITES_MAX] = { false };

	for (uint32_t s = 0; s < in->n_sites; s++) {
		bool uplink = in->sites[s].uplink_alive &&
			      in->sites[s].uplink > 0;

		in_queue[s] = entries[s] > 0 ||
			      (uplink && site_wants(st, p, s));
		if (in_queue[s])
			queue[n++] = s;
	}
	/* A site in which nodes do not reach each other is entered by each of
	 * them; its own nodes' having the piece is nothing to the others. */
	for (uint32_t k = 0; k < n; k++)
		for (uint32_t s = 0; s < in->n_sites; s++)
			if (!in_queue[s] &&
			    ql_planstate_link(st, queue[k], s) !=
				    QL_DEPLOY_NONE &&
			    site_wants(st, p, s)) {
				in_queue[s] = true;
				queue[n++] = s;
			}
	for (uint32_t i = 0; i < st->n_targets; i++) {
		uint32_t s = in->nodes[st->targets[i]].site;
		uint32_t *src =
			&st->src[ql_planstate_at(st, p, st->targets[i])];
		bool ok = in_queue[s];

		if (ok && in->sites[s].lan == 0) {
			ok = in->sites[s].uplink_alive &&
			     in->sites[s].uplink > 0;
			for (uint32_t k = 0; k < n && !ok; k++)
				ok = ql_planstate_link(st, queue[k], s) !=
				     QL_DEPLOY_NONE;
		}
		if (*src == QL_SRC_OPEN && !ok)
			*src = QL_SRC_OFF;
	}
}

/* bytes/s that can come into a site. */
static double rate_into(const struct ql_planstate *st, uint32_t s)
{
	const struct ql_deploy_input *in = st->in;
	double rate = 0;

	if (in->sites[s].uplink_alive)
		rate += (double)in->sites[s].uplink;
	for (uint32_t o = 0; o < in->n_sites; o++)
		if (ql_planstate_link(st, o, s) != QL_DEPLOY_NONE)
			rate += (double)in->links[(size_t)o * in->n_sites + s]
					.rate;
	return rate;
}

static double bytes_open(const struct ql_planstate *st, uint32_t n)
{
	double bytes = 0;

	for (uint32_t p = 0; p < st->in->n_pieces; p++)
		if (st->src[ql_planstate_at(st, p, n)] == QL_SRC_OPEN)
			bytes += (double)st->in->pieces[p].bytes;
	return bytes;
}

/*
 * What no plan goes below: what a node receives; what must come into a site,
 * over all ways into it; and what nodes of a site receive, over all that can
 * send it (Kumar & Ross, HotWeb'06, eq. 1, by site).
 */
static void bound_site(struct ql_planstate *st, uint32_t s)
{
	const struct ql_deploy_input *in = st->in;
	double into = rate_into(st, s), up = 0, sum = 0, once = 0;

	for (uint32_t p = 0; p < in->n_pieces; p++)
		if (st->entries[(size_t)p * in->n_sites + s] == 0 &&
		    site_wants(st, p, s))
			once += (double)in->pieces[p].bytes;
	for (uint32_t i = st->first_member[s]; i < st->first_member[s + 1];
	     i++) {
		uint32_t n = st->members[i];
		double own = bytes_open(st, n);

		if (in->sites[s].lan > 0)
			up += 1e9 / st->ns_per_byte[st->first_up + n];
		sum += own;
		st->received = fmax(st->received, own * st->down_ns[n]);
	}
	if (once > 0 && into > 0)
		st->bound = fmax(st->bound, once * 1e9 / into);
	if (sum > 0 && up + into > 0)
		st->bound = fmax(st->bound, sum * 1e9 / (up + into));
}

int ql_planstate_init(struct ql_planstate *st, const struct ql_deploy_input *in,
		      struct ql_error *err)
{
	uint32_t n_links = 0;

	*st = (struct ql_planstate){ .in = in };
	if (links_number(st, &n_links) < 0 || state_alloc(st, n_links) < 0) {
		ql_planstate_release(st);
		return ql_error_nomem(err);
	}
	rates(st);
	members_list(st);
	pairs_begin(st);
	for (uint32_t p = 0; p < in->n_pieces; p++)
		unreachable_drop(st, p);
	for (uint32_t s = 0; s < in->n_sites; s++)
		bound_site(st, s);
	st->bound = fmax(st->bound, st->received);
	return 0;
}

void ql_planstate_release(struct ql_planstate *st)
{
	free(st->link_res);
	free(st->ns_per_byte);
	free(st->load);
	free(st->down_ns);
	free(st->src);
	free(st->kids);
	free(st->latency);
	free(st->entries);
	free(st->members);
	free(st->first_member);
	free(st->targets);
	free(st->walk);
	free(st->loads.t);
	free(st->ways.t);
	*st = (struct ql_planstate){ 0 };
}

void ql_planstate_copy(struct ql_planstate *st, const struct ql_planstate *from)
{
	const struct ql_deploy_input *in = from->in;
	size_t pairs = (size_t)in->n_nodes * in->n_pieces;

	memcpy(st->load, from->load, from->n_res * sizeof(*st->load));
	memcpy(st->src, from->src, pairs * sizeof(*st->src));
	memcpy(st->kids, from->kids, pairs * sizeof(*st->kids));
	memcpy(st->latency, from->latency, pairs * sizeof(*st->latency));
	memcpy(st->entries, from->entries,
	       (size_t)in->n_sites * in->n_pieces * sizeof(*st->entries));
	memcpy(st->loads.t, from->loads.t,
	       (size_t)from->loads.size * 2 * sizeof(*st->loads.t));
	memcpy(st->ways.t, from->ways.t,
	       (size_t)from->ways.size * 2 * sizeof(*st->ways.t));
	st->potential = from->potential;
}
