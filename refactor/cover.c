/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which layers to make, so that images share what they have in common.
 *
 * Given are groups of files, each of what exactly the same images have, and
 * its bytes.  A layer is used whole or not at all, so the images that use it
 * must all have what is in it: a group may go into any layers whose images,
 * taken together, are the group's, each once.  Wanted is the family F of
 * layers with the least
 *
 *   sum over groups g of bytes(g) * layers that g goes into
 *     + layer_cost * |F|
 *
 * where no image uses more than its limit.  These are the bytes that a
 * registry stores, and also those that a site pulls which deploys all of the
 * images; what one image alone pulls does not depend on F, since no layer has
 * anything that its images do not have.  With no limit and no layer_cost, F is
 * one layer for each group: what deduplication of files can reach at all.
 *
 * It is solved from there downwards, greedily.  While an image is over its
 * limit, the layer is given up that costs least for each image over its limit
 * that it relieves (the rule of weighted set cover: Chvátal, A Greedy
 * Heuristic for the Set-Covering Problem, 1979); its groups then go into the
 * fewest other layers that together have their images.  Giving up a layer can
 * only make others dearer to give up, so that an estimate is renewed only when
 * it is the least (Minoux, Accelerated Greedy Algorithms, 1978).  After that,
 * layers that were given up, and parts of them (what two have in common, those
 * images that have room), are tried again, each with the removals that it then
 * needs; and each that stayed is left out for a try, with what then fits: so
 * go those that do not pay for themselves.
 *
 * Others weigh the same: similarity of layers (Liu et al., similarity-aware
 * layer reconstruction), and Carving Perfect Layers out of Docker Images
 * (Skourtis et al., HotCloud'19), whose cost function is this one with weights
 * for operations; there a merge of sets is the move, here it is giving one up
 * for an exact cover, which keeps every layer free of waste.
 */
#include "refactor/solver.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int sets_init(struct ql_solver *s)
{
	_cleanup_free_ uint64_t *one = calloc(s->words, sizeof(*one));
	uint32_t number;
	int r = one ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < s->p->n_images && r == 0; i++) {
		memset(one, 0, s->words * sizeof(*one));
		ql_bits_put(one, i);
		r = ql_imagesets_add(&s->sets, one, &number);
	}
	for (uint32_t g = 0; g < s->p->n_groups && r == 0; g++)
		r = ql_imagesets_add(&s->sets, s->p->groups[g].images,
				     &s->own[g]);
	return r;
}

static int arrays_init(struct ql_solver *s)
{
	uint32_t n = s->p->n_groups, images = s->p->n_images;
	uint64_t room = 0;

	s->used = calloc(images + 1UL, sizeof(*s->used));
	s->over = calloc(s->words + 1UL, sizeof(*s->over));
	s->own = calloc(n + 1UL, sizeof(*s->own));
	s->at = calloc(n + 1UL, sizeof(*s->at));
	s->n_cover = calloc(n + 1UL, sizeof(*s->n_cover));
	s->fits = calloc(n + 1UL, sizeof(*s->fits));
	s->n_fits = calloc(n + 1UL, sizeof(*s->n_fits));
	s->rest = calloc((images + 2UL) * s->words, sizeof(*s->rest));
	s->path = calloc(images + 1UL, sizeof(*s->path));
	s->best = calloc(images + 1UL, sizeof(*s->best));
	if (!s->used || !s->over || !s->own || !s->at || !s->n_cover ||
	    !s->fits || !s->n_fits || !s->rest || !s->path || !s->best)
		return -ENOMEM;
	for (uint32_t g = 0; g < n; g++) {
		s->at[g] = (uint32_t)room;
		room += ql_bits_count(s->p->groups[g].images, s->words);
		if (room > UINT32_MAX)
			return -ENOMEM;
	}
	s->at[n] = (uint32_t)room;
	s->cover = calloc(room + 1, sizeof(*s->cover));
	return s->cover ? 0 : -ENOMEM;
}

/* Every group is a layer of its own. */
static int solver_init(struct ql_solver *s)
{
	int r = arrays_init(s);

	if (r == 0)
		r = sets_init(s);
	if (r == 0)
		r = ql_solver_grow(s);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < s->sets.n; i++) {
		s->active[i] = true;
		s->loss[i] = INT64_MIN;
		for (uint32_t k = 0; k < s->p->n_images; k++)
			s->used[k] += ql_bits_has(ql_solver_bits(s, i), k);
	}
	s->cost = s->p->layer_cost * (s->sets.n - s->p->n_images);
	for (uint32_t g = 0; g < s->p->n_groups && r == 0; g++) {
		s->best[0] = s->own[g];
		s->n_best = 1;
		ql_solver_set(s, g);
		r = ql_solver_fits(s, g);
	}
	return r;
}

static void solver_release(struct ql_solver *s)
{
	for (uint32_t g = 0; s->fits && g < s->p->n_groups; g++)
		free(s->fits[g]);
	ql_imagesets_release(&s->sets);
	free(s->active);
	free(s->loss);
	free(s->used);
	free(s->over);
	free(s->own);
	free(s->at);
	free(s->n_cover);
	free(s->cover);
	free(s->fits);
	free(s->n_fits);
	free(s->rest);
	free(s->path);
	free(s->best);
}

static int result_take(const struct ql_solver *s, struct ql_cover *ret)
{
	_cleanup_free_ uint32_t *number =
		calloc(s->sets.n + 1UL, sizeof(*number));
	uint32_t n = 0, n_list = 0;

	if (!number)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->sets.n; i++)
		number[i] = s->active[i] ? n++ : UINT32_MAX;
	ret->layers = calloc((uint64_t)n * s->words + 1, sizeof(*ret->layers));
	ret->start = calloc(s->p->n_groups + 1UL, sizeof(*ret->start));
	ret->list = calloc(ql_solver_room(s) + 1UL, sizeof(*ret->list));
	if (!ret->layers || !ret->start || !ret->list)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->sets.n; i++)
		if (s->active[i])
			memcpy(ret->layers + (uint64_t)number[i] * s->words,
			       ql_solver_bits(s, i),
			       s->words * sizeof(uint64_t));
	for (uint32_t g = 0; g < s->p->n_groups; g++) {
		ret->start[g] = n_list;
		for (uint32_t i = 0; i < s->n_cover[g]; i++)
			ret->list[n_list++] = number[s->cover[s->at[g] + i]];
	}
	ret->start[s->p->n_groups] = n_list;
	ret->n_layers = n;
	ret->cost = s->cost;
	return 0;
}

void ql_cover_release(struct ql_cover *cover)
{
	free(cover->layers);
	free(cover->start);
	free(cover->list);
	*cover = (struct ql_cover){ 0 };
}

int ql_cover_solve(const struct ql_cover_problem *problem,
		   struct ql_cover *ret_cover, struct ql_error *err)
{
	struct ql_solver s = { .p = problem,
			       .words = ql_bits_words(problem->n_images) };
	struct ql_cover cover = { 0 };
	int r;

	for (uint32_t i = 0; i < problem->n_images; i++)
		if (problem->limits[i] == 0)
			return ql_error_set(err, -EINVAL,
					    "an image with no layers at all");
	ql_imagesets_init(&s.sets, problem->n_images);
	r = solver_init(&s);
	if (r == 0) {
		ql_solver_limit(&s, UINT32_MAX);
		r = ql_solver_again(&s);
	}
	if (r == 0)
		r = result_take(&s, &cover);
	solver_release(&s);
	if (r < 0) {
		ql_cover_release(&cover);
		return ql_error_nomem(err);
	}
	*ret_cover = cover;
	return 0;
}
