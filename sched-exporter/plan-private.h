/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the planner share: an assignment of sources that is being
 * made, with the load of each resource and the latency of each way kept up to
 * date, so that a change is tried and taken back in O(log).
 */
#ifndef QL_SCHED_PLAN_PRIVATE_H
#define QL_SCHED_PLAN_PRIVATE_H

#include <errno.h>
#include <stddef.h>

#include "sched-exporter/plan.h"

/* Where a node has a piece from, besides nodes and the registry. */
#define QL_SRC_OPEN (UINT32_MAX - 1) /* it lacks it, and has no source yet */
#define QL_SRC_HAS (UINT32_MAX - 2)
#define QL_SRC_OFF (UINT32_MAX - 3) /* it is no part of this */

static inline bool ql_src_is_node(uint32_t src)
{
	return src < QL_SRC_OFF;
}

/* It has the piece, or will. */
static inline bool ql_src_is_set(uint32_t src)
{
	return src < QL_SRC_OFF || src == QL_DEPLOY_REGISTRY ||
	       src == QL_SRC_HAS;
}

/* The largest of n numbers, each of which may change; ties go to the first. */
struct ql_maxtree {
	double *t; /* owned; t[1] is the largest, t[size + i] number i */
	uint32_t size;
};

/*
 * Resources are numbered: the uplinks of sites, links between sites (those
 * that there are), what nodes send.  What nodes receive is the same in every
 * plan and has no number.
 */
struct ql_planstate {
	const struct ql_deploy_input *in; /* borrowed */
	uint32_t n_res, first_link, first_up;
	uint32_t *link_res;  /* owned; by site from * sites + to; NONE */
	double *ns_per_byte; /* owned; of each resource */
	uint64_t *load;	     /* owned; bytes of each resource */
	double *down_ns;     /* owned; ns per byte that a node receives */
	/* By piece * nodes + node. */
	uint32_t *src;	 /* owned */
	uint32_t *kids;	 /* owned; how many have it from this node */
	double *latency; /* owned; ns until the first chunk is there */
	/* By piece * sites + site: how many in the site have the piece of
	 * themselves or from outside. */
	uint32_t *entries;	/* owned */
	uint32_t *members;	/* owned; nodes that are alive, by site */
	uint32_t *first_member; /* owned; of each site, and the end */
	uint32_t *targets;	/* owned; those that are alive */
	uint32_t n_targets;
	uint32_t *walk;		 /* owned; for a way's nodes */
	struct ql_maxtree loads; /* ns, by resource */
	struct ql_maxtree ways;	 /* ns, by piece */
	double received;	 /* ns; the most that one node receives */
	double bound;		 /* ns; no plan has a lower load */
	double potential; /* sum over resources of (ns)^4: how even it is */
	uint64_t work;	  /* steps taken, to bound the search */
};

/* ---- planstate.c ---- */

int ql_planstate_init(struct ql_planstate *st, const struct ql_deploy_input *in,
		      struct ql_error *err);
void ql_planstate_release(struct ql_planstate *st);
/* Takes over every source of `from`, a state of the same input. */
void ql_planstate_copy(struct ql_planstate *st,
		       const struct ql_planstate *from);

/* May n have p from src (a node or the registry), as things are now?  Says
 * nothing of cycles. */
bool ql_planstate_may(const struct ql_planstate *st, uint32_t p, uint32_t n,
		      uint32_t src);
/* Would n, having p from node q, have it from itself? */
bool ql_planstate_cycle(const struct ql_planstate *st, uint32_t p, uint32_t n,
			uint32_t q);
/* Comes from outside of n's site? */
bool ql_planstate_outside(const struct ql_planstate *st, uint32_t n,
			  uint32_t src);
/* src: what may be, or QL_SRC_OPEN. */
void ql_planstate_set(struct ql_planstate *st, uint32_t p, uint32_t n,
		      uint32_t src);

/* ns of one hop of p, from src to n. */
double ql_planstate_hop(const struct ql_planstate *st, uint32_t p, uint32_t n,
			uint32_t src);
/* ns that a resource takes with so many bytes more. */
double ql_planstate_with(const struct ql_planstate *st, uint32_t res,
			 uint64_t bytes);
uint32_t ql_planstate_link(const struct ql_planstate *st, uint32_t from,
			   uint32_t to);
double ql_planstate_load(const struct ql_planstate *st); /* ns, the most */
double ql_planstate_ways(const struct ql_planstate *st); /* ns, the longest */
double ql_planstate_time(const struct ql_planstate *st); /* both */
uint32_t ql_maxtree_first(const struct ql_maxtree *mt);	 /* whose is largest */

static inline size_t ql_planstate_at(const struct ql_planstate *st, uint32_t p,
				     uint32_t n)
{
	return (size_t)p * st->in->n_nodes + n;
}

/* ---- plangreedy.c ---- */

/* Gives a source to whatever is open.  0 or -ENOMEM. */
int ql_plangreedy_fill(struct ql_planstate *st);

/* ---- planimprove.c ---- */

/* Makes it faster, until it takes goal ns or the work is used up; with copies,
 * also by bringing a piece into a site more than once. */
void ql_planimprove(struct ql_planstate *st, bool copies, double goal,
		    uint64_t work);
/* Lets go of copies as long as that leaves the time within limit ns. */
void ql_planimprove_drop(struct ql_planstate *st, double limit);

/* ---- planout.c ---- */

int ql_planout_make(const struct ql_planstate *st,
		    struct ql_deploy_plan *ret_plan);

#endif
