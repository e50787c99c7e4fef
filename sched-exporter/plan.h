/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The planner of cooperative deployments: who fetches which piece of an image
 * from where, so that many nodes of several sites start at once and a site's
 * uplink carries each byte once.  A pure function: no I/O, no clock, no
 * globals; any thread may call it; the same input gives the same plan.
 *
 * What it plans over: sites, each with a link to the registry (its uplink), a
 * network of its own, and links to other sites; nodes in them; pieces (layers
 * or parts of layers).  Nodes pass on what they are still receiving, in chunks
 * of QL_DEPLOY_CHUNK, so that the time is
 *
 *     the most loaded resource:  max over r of bytes(r) / rate(r)
 *   + the longest way of hops:   sum of rtt + min(chunk, piece) / rate
 *
 * where a resource is an uplink, a link from one site to another, what a node
 * sends, or what a node receives.  plan.c says how the plan is found and by
 * whom the model is.
 *
 * What is first: the time until the last target has everything; then the
 * bytes that come into sites over uplinks and links between sites.  A second
 * copy of a piece into a site is planned only where copies make the whole at
 * least QL_DEPLOY_COPY_WORTH faster.
 *
 * Nothing is planned over a node or an uplink that is down.  Where a piece
 * cannot come into a site at all, that is no failure of the plan: what else is
 * needed is planned, there and elsewhere, and the pair is put into lost[], of
 * which ql_deploy_plan_lost() makes an error.
 */
#ifndef QL_SCHED_PLAN_H
#define QL_SCHED_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/digest.h"

struct ql_error;

enum {
	QL_DEPLOY_SITES_MAX = 256,
	QL_DEPLOY_NODES_MAX = 4096,
	QL_DEPLOY_PIECES_MAX = 4096,
	QL_DEPLOY_PAIRS_MAX = 1 << 21, /* nodes times pieces */
	QL_DEPLOY_CHUNK = 1 << 20,     /* bytes */
	QL_DEPLOY_COPY_WORTH = 20,     /* parts per thousand of the time */
	QL_DEPLOY_KEEP_WORTH = 100,    /* the same */
};

#define QL_DEPLOY_BYTES_MAX (UINT64_C(1) << 44)	   /* all pieces together */
#define QL_DEPLOY_RTT_MAX UINT64_C(60000000000)	   /* ns */
#define QL_DEPLOY_RATE_MAX UINT64_C(1000000000000) /* bytes/s */

/* Instead of a node's number. */
#define QL_DEPLOY_REGISTRY UINT32_MAX
#define QL_DEPLOY_NONE (UINT32_MAX - 1)

struct ql_deploy_site {
	const char *name;	/* borrowed */
	uint64_t uplink;	/* bytes/s from the registry; 0: none */
	uint64_t uplink_rtt_ns; /* to the registry */
	bool uplink_alive;
	/* bytes/s between any two nodes of the site, which bounds what each
	 * of them sends and receives; 0: they do not reach each other. */
	uint64_t lan;
	uint64_t lan_rtt_ns;
};

struct ql_deploy_link {
	uint64_t rate; /* bytes/s; 0: none, or down */
	uint64_t rtt_ns;
};

struct ql_deploy_node {
	const char *name; /* borrowed */
	uint32_t site;
	uint64_t up, down; /* bytes/s, above 0 */
	bool alive;
};

struct ql_deploy_piece {
	struct ql_digest digest;
	uint64_t bytes;	   /* above 0 */
	uint32_t priority; /* lower comes first */
};

struct ql_deploy_plan;

/* All borrowed. */
struct ql_deploy_input {
	const struct ql_deploy_site *sites;
	uint32_t n_sites;
	/* From site a to site b: links[a * n_sites + b].  NULL: none. */
	const struct ql_deploy_link *links;
	const struct ql_deploy_node *nodes;
	uint32_t n_nodes;
	const struct ql_deploy_piece *pieces;
	uint32_t n_pieces;
	/* Who has what by now: bit p % 64 of has[n * ql_deploy_words(n_pieces)
	 * + p / 64]. */
	const uint64_t *has;
	const uint32_t *targets; /* numbers of nodes, each once */
	uint32_t n_targets;
	/*
	 * The plan that is being carried out, or NULL.  Its sources are kept
	 * where they are still there, as long as the new plan is slower than
	 * one made afresh by QL_DEPLOY_KEEP_WORTH at most.  Nodes and pieces
	 * have the numbers that they had; new nodes stand behind them.
	 */
	const struct ql_deploy_plan *previous;
};

static inline uint32_t ql_deploy_words(uint32_t n_pieces)
{
	return (n_pieces + 63) / 64;
}

struct ql_deploy_fetch {
	uint32_t piece;
	uint32_t from; /* a node or QL_DEPLOY_REGISTRY */
	/*
	 * Whom to ask when `from` fails: as from, or QL_DEPLOY_NONE.  From and
	 * fallback together have no cycle for any piece, whatever fails; and
	 * when one node dies, those that got a piece from it ask one of them,
	 * who asks outside of the site: again once over the uplink.
	 */
	uint32_t fallback;
	/*
	 * How much of the uplink (or of the link from the other site) this
	 * node may take while it fetches this piece, in parts per thousand; 0
	 * where it crosses neither.  It is the node's part of the bytes of
	 * this priority that come that way, at least 1: each priority fills
	 * the uplink and ends everywhere at once.
	 */
	uint16_t share;
};

struct ql_deploy_target {
	uint32_t node;
	uint32_t first, n; /* in fetches[], in the order of fetching */
};

struct ql_deploy_lost {
	uint32_t site;
	uint32_t piece;
};

struct ql_deploy_plan {
	uint32_t n_sites, n_nodes, n_pieces; /* of the input */
	/* The targets that are alive, in the input's order; owned. */
	struct ql_deploy_target *targets;
	uint32_t n_targets;
	struct ql_deploy_fetch *fetches; /* owned */
	uint32_t n_fetches;
	uint32_t n_kept; /* fetches whose source is the previous plan's */
	/* By site, then piece; owned. */
	struct ql_deploy_lost *lost;
	uint32_t n_lost;
	/* Predicted, for what is not lost. */
	uint64_t time_ns;	/* until the last target is ready */
	uint64_t load_ns;	/* of it: the most loaded resource */
	uint64_t hops_ns;	/* of it: the longest way */
	uint64_t bound_ns;	/* no plan has a smaller load_ns */
	uint64_t *uplink_bytes; /* of each site; owned */
	uint64_t uplink_sum;	/* bytes */
	uint64_t links_sum;	/* bytes between sites */
};

/*
 * Plans.  -EINVAL where the input is out of the bounds above, naming what;
 * -ENOMEM.  ret_plan: to be released.
 */
int ql_deploy_plan_make(const struct ql_deploy_input *in,
			struct ql_deploy_plan *ret_plan, struct ql_error *err);
void ql_deploy_plan_release(struct ql_deploy_plan *plan); /* may be zeroed */

/* 0, or -EHOSTUNREACH where anything is lost, naming the first site and piece
 * and how many more there are. */
int ql_deploy_plan_lost(const struct ql_deploy_input *in,
			const struct ql_deploy_plan *plan,
			struct ql_error *err);

#endif
