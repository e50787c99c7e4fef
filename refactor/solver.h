/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of cover.c's solver, which coverlayers.c changes layer by layer and
 * coverretry.c tries to better.  Part of cover.c; nobody else includes it.
 */
#ifndef QL_SOLVER_H
#define QL_SOLVER_H

#include "refactor/cover.h"
#include "refactor/imagesets.h"

struct ql_solver {
	const struct ql_cover_problem *p; /* borrowed */
	uint32_t words;

	struct ql_imagesets sets; /* owned; the layers, first the single ones */
	uint32_t cap;		  /* of the arrays below */
	bool *active;		  /* owned, as all of these; for each layer */
	int64_t *loss;		  /* what giving it up costs; an estimate */

	uint32_t *used; /* layers of each image */
	uint64_t *over; /* bits of those that have too many */
	uint32_t *own;	/* for each group: the layer of its images */

	/* For each group: the layers it is in; n_cover of them from
	 * cover[at[g]] on, where there is room for one per image. */
	uint32_t *at, *n_cover, *cover;
	/* Layers of several images, all of which the group has: largest
	 * first. */
	uint32_t **fits, *n_fits;

	/* Of the search: what remains at each depth, and the path to it. */
	uint64_t *rest;
	uint32_t *path, *best;
	uint32_t n_best, steps, banned;

	uint64_t cost;
};

static inline const uint64_t *ql_solver_bits(const struct ql_solver *s,
					     uint32_t layer)
{
	return ql_imagesets_get(&s->sets, layer);
}

/* Of the covers' list: room for one layer for each image of each group. */
static inline uint32_t ql_solver_room(const struct ql_solver *s)
{
	return s->at[s->p->n_groups];
}

/* ---- coverlayers.c ---- */

/* The fewest layers that are a group, but without `banned`: into best and
 * n_best. */
void ql_solver_find(struct ql_solver *s, uint32_t group, uint32_t banned);
/* What was found is the group's cover. */
void ql_solver_set(struct ql_solver *s, uint32_t group);
void ql_solver_drop(struct ql_solver *s, uint32_t layer);
void ql_solver_take(struct ql_solver *s, uint32_t layer);
/* Finds the images that have too many layers; are there any? */
bool ql_solver_over(struct ql_solver *s);
/* Gives up layers, but not `keep`, until no image is over its limit, or none
 * are left. */
void ql_solver_limit(struct ql_solver *s, uint32_t keep);
/* Lists the layers that may be part of a group's cover.  0 or -ENOMEM. */
int ql_solver_fits(struct ql_solver *s, uint32_t group);

/* ---- coverretry.c ---- */

/* Tries again what was given up, and without what stayed.  0 or -ENOMEM. */
int ql_solver_again(struct ql_solver *s);
/* Makes room for the layers that it thinks of. */
int ql_solver_grow(struct ql_solver *s);

#endif
