/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a plan is made.
 *
 * Objective, in this order: (1) the time until the last target has every
 * piece; (2) the bytes that come into sites, over uplinks and over links from
 * other sites.  (2) yields to (1) only where copies make the whole faster by
 * QL_DEPLOY_COPY_WORTH: an edge site pays for its uplink, and others share it.
 *
 * Model.  Bytes flow through nodes in chunks, so that a node sends on what it
 * is still receiving; with chunks small against the whole, the time is that of
 * the most loaded resource (the fluid limit: Kumar & Ross, "Peer-assisted file
 * distribution: the minimum distribution time", HotWeb'06; Mundinger, Weber &
 * Weiss, "Optimal scheduling of peer-to-peer file dissemination", J. of
 * Scheduling 11, 2008) and, on top of it, what the first chunk takes along the
 * longest way.  That pieces have different trees, so that whoever is a relay in
 * one is a leaf in others, is SplitStream's (Castro et al., SOSP'03).
 *
 * To assign sources so that this is least is NP-hard (with one site of two
 * uplinks' worth of ways it is PARTITION), hence: a greedy assignment
 * (plangreedy.c), then a bounded local search (planimprove.c).  What either of
 * them asks of a state is in planstate.c, what is made of it in planout.c.
 * tests/unit/test-plan-deploy-optimum.c holds small plans against the exact
 * optimum.
 *
 * Replanning is planning: sources of the plan before that are still there are
 * put into a second state first, the rest is filled in the same way, and that
 * state is taken, where it is no slower than QL_DEPLOY_KEEP_WORTH; the search
 * moves as much of it as is needed for that.
 */
#include "sched-exporter/plan-private.h"

#include <stdlib.h>

#include "store/base/cleanup.h"
#include "store/base/error.h"

enum { WORK = 2000000 }; /* steps of one search, of a few ns each */

/* ---- the input ---- */

static int sites_check(const struct ql_deploy_input *in, struct ql_error *err)
{
	if (in->n_sites == 0 || in->n_sites > QL_DEPLOY_SITES_MAX)
		return ql_error_set(err, -EINVAL, "%u sites (1 to %d)",
				    in->n_sites, QL_DEPLOY_SITES_MAX);
	for (uint32_t s = 0; s < in->n_sites; s++)
		if (in->sites[s].uplink > QL_DEPLOY_RATE_MAX ||
		    in->sites[s].lan > QL_DEPLOY_RATE_MAX ||
		    in->sites[s].uplink_rtt_ns > QL_DEPLOY_RTT_MAX ||
		    in->sites[s].lan_rtt_ns > QL_DEPLOY_RTT_MAX)
			return ql_error_set(err, -EINVAL,
					    "site %s: a rate or a round trip "
					    "is out of bounds",
					    in->sites[s].name);
	for (size_t i = 0; in->links && i < (size_t)in->n_sites * in->n_sites;
	     i++)
		if (in->links[i].rate > QL_DEPLOY_RATE_MAX ||
		    in->links[i].rtt_ns > QL_DEPLOY_RTT_MAX)
			return ql_error_set(
				err, -EINVAL,
				"the link from site %s to %s: a rate or a "
				"round trip is out of bounds",
				in->sites[i / in->n_sites].name,
				in->sites[i % in->n_sites].name);
	return 0;
}

static int nodes_check(const struct ql_deploy_input *in, struct ql_error *err)
{
	if (in->n_nodes == 0 || in->n_nodes > QL_DEPLOY_NODES_MAX)
		return ql_error_set(err, -EINVAL, "%u nodes (1 to %d)",
				    in->n_nodes, QL_DEPLOY_NODES_MAX);
	for (uint32_t n = 0; n < in->n_nodes; n++) {
		const struct ql_deploy_node *node = &in->nodes[n];

		if (node->site >= in->n_sites)
			return ql_error_set(err, -EINVAL,
					    "node %s: there is no such site",
					    node->name);
		if (node->up == 0 || node->up > QL_DEPLOY_RATE_MAX ||
		    node->down == 0 || node->down > QL_DEPLOY_RATE_MAX)
			return ql_error_set(err, -EINVAL,
					    "node %s: a rate is out of bounds",
					    node->name);
	}
	return 0;
}

static int pieces_check(const struct ql_deploy_input *in, struct ql_error *err)
{
	uint64_t sum = 0;

	if (in->n_pieces == 0 || in->n_pieces > QL_DEPLOY_PIECES_MAX ||
	    (uint64_t)in->n_pieces * in->n_nodes > QL_DEPLOY_PAIRS_MAX)
		return ql_error_set(err, -EINVAL,
				    "%u pieces on %u nodes (1 to %d, and %d of "
				    "both multiplied)",
				    in->n_pieces, in->n_nodes,
				    QL_DEPLOY_PIECES_MAX, QL_DEPLOY_PAIRS_MAX);
	for (uint32_t p = 0; p < in->n_pieces; p++) {
		uint64_t b = in->pieces[p].bytes;
		char text[QL_DIGEST_TEXT + 1];

		if (b == 0 || b > QL_DEPLOY_BYTES_MAX ||
		    sum > QL_DEPLOY_BYTES_MAX - b)
			return ql_error_set(
				err, -EINVAL,
				"piece %s: %llu bytes, out of bounds",
				ql_digest_text(&in->pieces[p].digest, text),
				(unsigned long long)b);
		sum += b;
	}
	return 0;
}

static int targets_check(const struct ql_deploy_input *in, struct ql_error *err)
{
	_cleanup_free_ bool *seen = calloc(in->n_nodes, sizeof(*seen));

	if (!seen)
		return ql_error_nomem(err);
	for (uint32_t i = 0; i < in->n_targets; i++) {
		uint32_t n = in->targets[i];

		if (n >= in->n_nodes)
			return ql_error_set(err, -EINVAL,
					    "target %u: there is no such node",
					    n);
		if (seen[n])
			return ql_error_set(err, -EINVAL,
					    "node %s is a target twice",
					    in->nodes[n].name);
		seen[n] = true;
	}
	return 0;
}

static int previous_check(const struct ql_deploy_input *in,
			  struct ql_error *err)
{
	const struct ql_deploy_plan *prev = in->previous;

	if (prev &&
	    (prev->n_nodes > in->n_nodes || prev->n_pieces > in->n_pieces))
		return ql_error_set(err, -EINVAL,
				    "the previous plan is of other nodes or "
				    "pieces");
	return 0;
}

static int input_check(const struct ql_deploy_input *in, struct ql_error *err)
{
	int r = sites_check(in, err);

	if (r == 0)
		r = nodes_check(in, err);
	if (r == 0)
		r = pieces_check(in, err);
	if (r == 0)
		r = targets_check(in, err);
	if (r == 0)
		r = previous_check(in, err);
	return r;
}

/* ---- planning ---- */

static double worth(double time, int thousandths)
{
	return time * (1000 + thousandths) / 1000;
}

/* With copies where that is worth it. */
static int fresh_fill(struct ql_planstate *st, bool *ret_copies,
		      struct ql_error *err)
{
	struct ql_planstate with = { 0 };
	double goal;
	int r;

	*ret_copies = false;
	if (ql_plangreedy_fill(st) < 0)
		return ql_error_nomem(err);
	ql_planimprove(st, false, st->bound, WORK);
	if (ql_planstate_time(st) <= worth(st->bound, QL_DEPLOY_COPY_WORTH))
		return 0;
	r = ql_planstate_init(&with, st->in, err);
	if (r < 0)
		return r;
	ql_planstate_copy(&with, st);
	ql_planimprove(&with, true, with.bound, WORK);
	goal = worth(ql_planstate_time(&with), QL_DEPLOY_COPY_WORTH);
	if (goal < ql_planstate_time(st)) {
		ql_planimprove_drop(&with, goal);
		ql_planstate_copy(st, &with);
		*ret_copies = true;
	}
	ql_planstate_release(&with);
	return 0;
}

/* Puts what the previous plan has and what may still be into st: a node's
 * source before the node, hence again until nothing is added. */
static void previous_put(struct ql_planstate *st)
{
	const struct ql_deploy_plan *prev = st->in->previous;
	bool more = true;

	while (more) {
		more = false;
		for (uint32_t i = 0; i < prev->n_targets; i++) {
			const struct ql_deploy_target *t = &prev->targets[i];

			for (uint32_t k = t->first; k < t->first + t->n; k++) {
				const struct ql_deploy_fetch *f =
					&prev->fetches[k];
				size_t at =
					ql_planstate_at(st, f->piece, t->node);

				if (st->src[at] != QL_SRC_OPEN ||
				    !ql_planstate_may(st, f->piece, t->node,
						      f->from))
					continue;
				ql_planstate_set(st, f->piece, t->node,
						 f->from);
				more = true;
			}
		}
	}
}

static int keep_fill(struct ql_planstate *st, bool copies, double time,
		     struct ql_error *err)
{
	struct ql_planstate kept = { 0 };
	double goal = worth(time, QL_DEPLOY_KEEP_WORTH);
	int r = ql_planstate_init(&kept, st->in, err);

	if (r < 0)
		return r;
	previous_put(&kept);
	if (ql_plangreedy_fill(&kept) < 0)
		r = ql_error_nomem(err);
	if (r == 0) {
		ql_planimprove(&kept, copies, goal, WORK);
		if (ql_planstate_time(&kept) <= goal)
			ql_planstate_copy(st, &kept);
	}
	ql_planstate_release(&kept);
	return r;
}

int ql_deploy_plan_make(const struct ql_deploy_input *in,
			struct ql_deploy_plan *ret_plan, struct ql_error *err)
{
	struct ql_planstate st = { 0 };
	bool copies = false;
	int r = input_check(in, err);

	if (r < 0)
		return ql_error_prefix(err, "plan a deployment");
	r = ql_planstate_init(&st, in, err);
	if (r < 0)
		return r;
	r = fresh_fill(&st, &copies, err);
	if (r == 0 && in->previous)
		r = keep_fill(&st, copies, ql_planstate_time(&st), err);
	if (r == 0 && ql_planout_make(&st, ret_plan) < 0)
		r = ql_error_nomem(err);
	ql_planstate_release(&st);
	return r;
}

void ql_deploy_plan_release(struct ql_deploy_plan *plan)
{
	free(plan->targets);
	free(plan->fetches);
	free(plan->lost);
	free(plan->uplink_bytes);
	*plan = (struct ql_deploy_plan){ 0 };
}

int ql_deploy_plan_lost(const struct ql_deploy_input *in,
			const struct ql_deploy_plan *plan, struct ql_error *err)
{
	char text[QL_DIGEST_TEXT + 1];
	int r;

	if (plan->n_lost == 0)
		return 0;
	ql_digest_text(&in->pieces[plan->lost[0].piece].digest, text);
	r = ql_error_set(err, -EHOSTUNREACH,
			 "site %s: piece %s cannot be reached: no uplink, and "
			 "no node in reach has it",
			 in->sites[plan->lost[0].site].name, text);
	if (plan->n_lost > 1)
		r = ql_error_set(err, -EHOSTUNREACH,
				 "site %s: piece %s cannot be reached: no "
				 "uplink, and no node in reach has it (and %u "
				 "more of sites and pieces)",
				 in->sites[plan->lost[0].site].name, text,
				 plan->n_lost - 1);
	return r;
}
