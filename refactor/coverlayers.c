/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The solver's moves: finding a group's cover, giving up a layer, taking one
 * back, and giving up until no image has too many.  cover.c says what for.
 */
#include "refactor/solver.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	SEARCH_MAX = 4000, /* steps of the search for one cover */
	FITS_MAX = 1024,   /* layers that are considered for a group */
};

/* ---- the fewest layers that are a group ---- */

static void search(struct ql_solver *s, uint32_t group, uint32_t depth)
{
	uint64_t *rest = s->rest + (uint64_t)depth * s->words;
	uint64_t *next = rest + s->words;
	uint32_t first = ql_bits_first(rest, s->words), left;

	if (first == UINT32_MAX) {
		if (depth < s->n_best) {
			memcpy(s->best, s->path, depth * sizeof(*s->best));
			s->n_best = depth;
		}
		return;
	}
	if (depth + 1 >= s->n_best || s->steps++ >= SEARCH_MAX)
		return;
	left = ql_bits_count(rest, s->words);
	for (uint32_t i = 0; i < s->n_fits[group]; i++) {
		uint32_t layer = s->fits[group][i];
		const uint64_t *bits = ql_solver_bits(s, layer);
		uint32_t size;

		if (!s->active[layer] || layer == s->banned)
			continue;
		size = ql_bits_count(bits, s->words);
		/* The rest of the list is not larger. */
		if (depth + (left + size - 1) / size >= s->n_best)
			return;
		if (!ql_bits_has(bits, first) ||
		    !ql_bits_subset(bits, rest, s->words))
			continue;
		for (uint32_t w = 0; w < s->words; w++)
			next[w] = rest[w] & ~bits[w];
		s->path[depth] = layer;
		search(s, group, depth + 1);
	}
	memcpy(next, rest, s->words * sizeof(*next));
	next[first / 64] &= ~((uint64_t)1 << (first % 64));
	s->path[depth] = first;
	search(s, group, depth + 1);
}

void ql_solver_find(struct ql_solver *s, uint32_t group, uint32_t banned)
{
	const uint64_t *images = s->p->groups[group].images;

	s->banned = banned;
	s->steps = 0;
	s->n_best = 0;
	for (uint32_t i = 0; i < s->p->n_images; i++)
		if (ql_bits_has(images, i))
			s->best[s->n_best++] = i;
	memcpy(s->rest, images, s->words * sizeof(*s->rest));
	search(s, group, 0);
}

static bool covered_by(const struct ql_solver *s, uint32_t group,
		       uint32_t layer)
{
	for (uint32_t i = 0; i < s->n_cover[group]; i++)
		if (s->cover[s->at[group] + i] == layer)
			return true;
	return false;
}

void ql_solver_set(struct ql_solver *s, uint32_t group)
{
	uint64_t bytes = s->p->groups[group].bytes;

	s->cost -= bytes * s->n_cover[group];
	s->cost += bytes * s->n_best;
	memcpy(s->cover + s->at[group], s->best, s->n_best * sizeof(*s->cover));
	s->n_cover[group] = s->n_best;
}

/* ---- giving up and taking back ---- */

static int64_t loss_of(struct ql_solver *s, uint32_t layer)
{
	int64_t loss = -(int64_t)s->p->layer_cost;

	for (uint32_t g = 0; g < s->p->n_groups; g++) {
		if (!covered_by(s, g, layer))
			continue;
		ql_solver_find(s, g, layer);
		loss += (int64_t)s->p->groups[g].bytes *
			((int64_t)s->n_best - s->n_cover[g]);
	}
	return loss;
}

void ql_solver_drop(struct ql_solver *s, uint32_t layer)
{
	s->active[layer] = false;
	s->cost -= s->p->layer_cost;
	for (uint32_t i = 0; i < s->p->n_images; i++)
		s->used[i] -= ql_bits_has(ql_solver_bits(s, layer), i);
	for (uint32_t g = 0; g < s->p->n_groups; g++) {
		if (!covered_by(s, g, layer))
			continue;
		ql_solver_find(s, g, layer);
		ql_solver_set(s, g);
	}
}

void ql_solver_take(struct ql_solver *s, uint32_t layer)
{
	s->active[layer] = true;
	s->loss[layer] = INT64_MIN;
	s->cost += s->p->layer_cost;
	for (uint32_t i = 0; i < s->p->n_images; i++)
		s->used[i] += ql_bits_has(ql_solver_bits(s, layer), i);
	for (uint32_t g = 0; g < s->p->n_groups; g++) {
		if (s->n_cover[g] < 2 ||
		    !ql_bits_subset(ql_solver_bits(s, layer),
				    s->p->groups[g].images, s->words))
			continue;
		ql_solver_find(s, g, UINT32_MAX);
		if (s->n_best < s->n_cover[g])
			ql_solver_set(s, g);
	}
}

bool ql_solver_over(struct ql_solver *s)
{
	bool any = false;

	memset(s->over, 0, s->words * sizeof(*s->over));
	for (uint32_t i = 0; i < s->p->n_images; i++) {
		if (s->used[i] <= s->p->limits[i])
			continue;
		ql_bits_put(s->over, i);
		any = true;
	}
	return any;
}

/* How many of those a layer is one of. */
static uint32_t relief_of(const struct ql_solver *s, uint32_t layer)
{
	const uint64_t *bits = ql_solver_bits(s, layer);
	uint32_t n = 0;

	for (uint32_t w = 0; w < s->words; w++)
		n += (uint32_t)__builtin_popcountll(bits[w] & s->over[w]);
	return n;
}

/* The layer whose loss for each image that it relieves seems least;
 * UINT32_MAX: no image is over its limit. */
static uint32_t cheapest(struct ql_solver *s, uint32_t keep)
{
	uint32_t found = UINT32_MAX;
	double least = 0;

	if (!ql_solver_over(s))
		return found;
	for (uint32_t i = s->p->n_images; i < s->sets.n; i++) {
		uint32_t relief = s->active[i] && i != keep ? relief_of(s, i)
							    : 0;
		double key;

		if (relief == 0)
			continue;
		key = (double)s->loss[i] / relief;
		if (found == UINT32_MAX || key < least) {
			found = i;
			least = key;
		}
	}
	return found;
}

void ql_solver_limit(struct ql_solver *s, uint32_t keep)
{
	uint32_t layer;

	while ((layer = cheapest(s, keep)) != UINT32_MAX) {
		int64_t loss = loss_of(s, layer);

		if (loss > s->loss[layer])
			s->loss[layer] = loss;
		else
			ql_solver_drop(s, layer);
	}
}

/* ---- what may cover a group ---- */

static uint32_t size_of(const struct ql_solver *s, uint32_t layer)
{
	return ql_bits_count(ql_solver_bits(s, layer), s->words);
}

static int fit_cmp(const void *a, const void *b, void *arg)
{
	const struct ql_solver *s = arg;
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	uint32_t nx = size_of(s, x), ny = size_of(s, y);

	if (nx != ny)
		return nx < ny ? 1 : -1;
	return x < y ? -1 : x > y;
}

int ql_solver_fits(struct ql_solver *s, uint32_t group)
{
	const uint64_t *images = s->p->groups[group].images;
	uint32_t n = 0;
	_cleanup_free_ uint32_t *list = calloc(s->sets.n + 1UL, sizeof(*list));

	if (!list)
		return -ENOMEM;
	for (uint32_t i = s->p->n_images; i < s->sets.n; i++)
		if (ql_bits_subset(ql_solver_bits(s, i), images, s->words))
			list[n++] = i;
	if (n > 1)
		qsort_r(list, n, sizeof(*list), fit_cmp, s);
	n = n < FITS_MAX ? n : FITS_MAX;
	free(s->fits[group]);
	s->fits[group] = calloc(n + 1UL, sizeof(*list));
	if (!s->fits[group])
		return -ENOMEM;
	if (n > 0)
		memcpy(s->fits[group], list, n * sizeof(*list));
	s->n_fits[group] = n;
	return 0;
}
