/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Another try for what the solver has given up, and for doing without what has
 * stayed; a state that is not better is gone back on.
 */
#include "refactor/solver.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	TRIES = 96, /* layers that are tried again */
	PAIRS = 24, /* whose common parts are, too */
	ROUNDS = 4,
};

int ql_solver_grow(struct ql_solver *s)
{
	uint32_t cap = s->sets.n + (PAIRS * PAIRS + TRIES) * ROUNDS + 1;
	bool *active = reallocarray(s->active, cap, sizeof(*active));
	int64_t *loss;

	if (!active)
		return -ENOMEM;
	s->active = active;
	loss = reallocarray(s->loss, cap, sizeof(*loss));
	if (!loss)
		return -ENOMEM;
	s->loss = loss;
	s->cap = cap;
	return 0;
}

/* ---- a state to go back to ---- */

struct kept {
	bool *active; /* owned, as these */
	uint32_t *used, *n_cover, *cover;
	uint64_t cost;
};

static int kept_init(const struct ql_solver *s, struct kept *k)
{
	k->active = calloc(s->cap, sizeof(*k->active));
	k->used = calloc(s->p->n_images + 1UL, sizeof(*k->used));
	k->n_cover = calloc(s->p->n_groups + 1UL, sizeof(*k->n_cover));
	k->cover = calloc(ql_solver_room(s) + 1UL, sizeof(*k->cover));
	return k->active && k->used && k->n_cover && k->cover ? 0 : -ENOMEM;
}

static void kept_release(struct kept *k)
{
	free(k->active);
	free(k->used);
	free(k->n_cover);
	free(k->cover);
}

static void copy(void *to, const void *from, uint64_t n, size_t size)
{
	if (n > 0)
		memcpy(to, from, n * size);
}

static void state_keep(const struct ql_solver *s, struct kept *k)
{
	copy(k->active, s->active, s->sets.n, sizeof(*s->active));
	copy(k->used, s->used, s->p->n_images, sizeof(*s->used));
	copy(k->n_cover, s->n_cover, s->p->n_groups, sizeof(*s->n_cover));
	copy(k->cover, s->cover, ql_solver_room(s), sizeof(*s->cover));
	k->cost = s->cost;
}

static void state_back(struct ql_solver *s, const struct kept *k)
{
	copy(s->active, k->active, s->sets.n, sizeof(*s->active));
	copy(s->used, k->used, s->p->n_images, sizeof(*s->used));
	copy(s->n_cover, k->n_cover, s->p->n_groups, sizeof(*s->n_cover));
	copy(s->cover, k->cover, ql_solver_room(s), sizeof(*s->cover));
	s->cost = k->cost;
}

struct wish { /* a layer, and what its group costs for lack of it */
	uint32_t layer;
	uint64_t bytes;
};

static int wish_cmp(const void *a, const void *b)
{
	const struct wish *x = a, *y = b;

	if (x->bytes != y->bytes)
		return x->bytes < y->bytes ? 1 : -1;
	return x->layer < y->layer ? -1 : x->layer > y->layer;
}

static uint32_t wishes_find(const struct ql_solver *s, struct wish *wishes)
{
	uint32_t n = 0;

	for (uint32_t g = 0; g < s->p->n_groups; g++)
		if (s->n_cover[g] > 1)
			wishes[n++] =
				(struct wish){ s->own[g],
					       s->p->groups[g].bytes *
						       (s->n_cover[g] - 1) };
	if (n > 1)
		qsort(wishes, n, sizeof(*wishes), wish_cmp);
	return n;
}

/* May its images have one more? */
static bool has_room(const struct ql_solver *s, uint32_t layer)
{
	for (uint32_t i = 0; i < s->p->n_images; i++)
		if (ql_bits_has(ql_solver_bits(s, layer), i) &&
		    s->used[i] >= s->p->limits[i])
			return false;
	return true;
}

/* Is it better with this layer, and without what must go for it? */
static bool layer_try(struct ql_solver *s, uint32_t layer, struct kept *k)
{
	if (s->active[layer])
		return false;
	state_keep(s, k);
	ql_solver_take(s, layer);
	/* Estimates of before may be too high now. */
	for (uint32_t i = s->p->n_images; i < s->sets.n; i++)
		s->loss[i] = INT64_MIN;
	ql_solver_limit(s, layer);
	if (s->cost < k->cost && !ql_solver_over(s))
		return true;
	state_back(s, k);
	return false;
}

/* Is it better without this layer, and with what then fits? */
static bool layer_swap(struct ql_solver *s, uint32_t layer,
		       const struct wish *wishes, uint32_t n, struct kept *k)
{
	if (!s->active[layer])
		return false;
	state_keep(s, k);
	ql_solver_drop(s, layer);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t cost = s->cost;

		if (wishes[i].layer == layer || s->active[wishes[i].layer] ||
		    !has_room(s, wishes[i].layer))
			continue;
		ql_solver_take(s, wishes[i].layer);
		if (s->cost >= cost)
			ql_solver_drop(s, wishes[i].layer);
	}
	if (s->cost < k->cost)
		return true;
	state_back(s, k);
	return false;
}

/* The images that two layers have in common, if there are several, become a
 * layer that may be made. */
static int part_add(struct ql_solver *s, const uint64_t *a, const uint64_t *b,
		    uint64_t *both)
{
	uint32_t layer;

	for (uint32_t w = 0; w < s->words; w++)
		both[w] = a[w] & b[w];
	return ql_bits_count(both, s->words) > 1
		       ? ql_imagesets_add(&s->sets, both, &layer)
		       : 0;
}

/* Of wishes: those of their images that may have one layer more, and what each
 * two of the first have in common. */
static int parts_add(struct ql_solver *s, const struct wish *wishes, uint32_t n)
{
	_cleanup_free_ uint64_t *both = calloc(s->words + 1UL, sizeof(*both));
	_cleanup_free_ uint64_t *room = calloc(s->words + 1UL, sizeof(*room));
	uint32_t before = s->sets.n;
	int r = both && room ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < s->p->n_images && r == 0; i++)
		if (s->used[i] < s->p->limits[i])
			ql_bits_put(room, i);
	for (uint32_t i = 0; i < n && r == 0; i++)
		r = part_add(s, ql_solver_bits(s, wishes[i].layer), room, both);
	for (uint32_t i = 0; i < n && i < PAIRS && r == 0; i++)
		for (uint32_t j = 0; j < i && r == 0; j++)
			r = part_add(s, ql_solver_bits(s, wishes[i].layer),
				     ql_solver_bits(s, wishes[j].layer), both);
	for (uint32_t i = before; i < s->sets.n; i++) {
		s->active[i] = false;
		s->loss[i] = INT64_MIN;
	}
	if (before == s->sets.n)
		return r;
	for (uint32_t g = 0; g < s->p->n_groups && r == 0; g++)
		r = ql_solver_fits(s, g);
	return r;
}

static int round_again(struct ql_solver *s, struct wish *wishes, struct kept *k,
		       bool *ret_better)
{
	uint32_t n = wishes_find(s, wishes), before = s->sets.n;
	int r;

	*ret_better = false;
	n = n < TRIES ? n : TRIES;
	r = parts_add(s, wishes, n);
	for (uint32_t i = 0; i < n && r == 0; i++)
		*ret_better |= layer_try(s, wishes[i].layer, k);
	for (uint32_t i = before; i < s->sets.n && r == 0; i++)
		*ret_better |= layer_try(s, i, k);
	for (uint32_t i = s->p->n_images; i < s->sets.n && r == 0; i++)
		*ret_better |= layer_swap(s, i, wishes, n, k);
	return r;
}

int ql_solver_again(struct ql_solver *s)
{
	_cleanup_free_ struct wish *wishes =
		calloc(s->p->n_groups + 1UL, sizeof(*wishes));
	struct kept k = { 0 };
	bool better = true;
	int r = wishes ? ql_solver_grow(s) : -ENOMEM;

	if (r == 0)
		r = kept_init(s, &k);
	for (int i = 0; i < ROUNDS && better && r == 0; i++)
		r = round_again(s, wishes, &k, &better);
	kept_release(&k);
	return r;
}
