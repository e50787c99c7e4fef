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
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "refactor/refactor-private.h"

enum {
	SEARCH_MAX = 4000, /* steps of the search for one cover */
	FITS_MAX = 1024,   /* layers that are considered for a group */
	TRIES = 96,	   /* layers that are tried again */
	PAIRS = 24,	   /* whose common parts are, too */
	ROUNDS = 4,
};

struct solver {
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

static const uint64_t *bits_of(const struct solver *s, uint32_t layer)
{
	return ql_imagesets_get(&s->sets, layer);
}

static uint32_t size_of(const struct solver *s, uint32_t layer)
{
	return ql_bits_count(bits_of(s, layer), s->words);
}

/* ---- the fewest layers that are a group ---- */

static void search(struct solver *s, uint32_t group, uint32_t depth)
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
		const uint64_t *bits = bits_of(s, layer);
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

/* Into best and n_best, without the layer `banned`. */
static void cover_find(struct solver *s, uint32_t group, uint32_t banned)
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

static bool covered_by(const struct solver *s, uint32_t group, uint32_t layer)
{
	for (uint32_t i = 0; i < s->n_cover[group]; i++)
		if (s->cover[s->at[group] + i] == layer)
			return true;
	return false;
}

static void cover_set(struct solver *s, uint32_t group)
{
	uint64_t bytes = s->p->groups[group].bytes;

	s->cost -= bytes * s->n_cover[group];
	s->cost += bytes * s->n_best;
	memcpy(s->cover + s->at[group], s->best, s->n_best * sizeof(*s->cover));
	s->n_cover[group] = s->n_best;
}

/* ---- giving up and taking back ---- */

static int64_t loss_of(struct solver *s, uint32_t layer)
{
	int64_t loss = -(int64_t)s->p->layer_cost;

	for (uint32_t g = 0; g < s->p->n_groups; g++) {
		if (!covered_by(s, g, layer))
			continue;
		cover_find(s, g, layer);
		loss += (int64_t)s->p->groups[g].bytes *
			((int64_t)s->n_best - s->n_cover[g]);
	}
	return loss;
}

static void layer_drop(struct solver *s, uint32_t layer)
{
	s->active[layer] = false;
	s->cost -= s->p->layer_cost;
	for (uint32_t i = 0; i < s->p->n_images; i++)
		s->used[i] -= ql_bits_has(bits_of(s, layer), i);
	for (uint32_t g = 0; g < s->p->n_groups; g++) {
		if (!covered_by(s, g, layer))
			continue;
		cover_find(s, g, layer);
		cover_set(s, g);
	}
}

static void layer_take(struct solver *s, uint32_t layer)
{
	s->active[layer] = true;
	s->loss[layer] = INT64_MIN;
	s->cost += s->p->layer_cost;
	for (uint32_t i = 0; i < s->p->n_images; i++)
		s->used[i] += ql_bits_has(bits_of(s, layer), i);
	for (uint32_t g = 0; g < s->p->n_groups; g++) {
		if (s->n_cover[g] < 2 ||
		    !ql_bits_subset(bits_of(s, layer), s->p->groups[g].images,
				    s->words))
			continue;
		cover_find(s, g, UINT32_MAX);
		if (s->n_best < s->n_cover[g])
			cover_set(s, g);
	}
}

/* The images that have too many layers; are there any? */
static bool over_limit(struct solver *s)
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
static uint32_t relief_of(const struct solver *s, uint32_t layer)
{
	const uint64_t *bits = bits_of(s, layer);
	uint32_t n = 0;

	for (uint32_t w = 0; w < s->words; w++)
		n += (uint32_t)__builtin_popcountll(bits[w] & s->over[w]);
	return n;
}

/* The layer whose loss for each image that it relieves seems least;
 * UINT32_MAX: no image is over its limit. */
static uint32_t cheapest(struct solver *s, uint32_t keep)
{
	uint32_t found = UINT32_MAX;
	double least = 0;

	if (!over_limit(s))
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

/* Gives up layers, but not `keep`, until no image is over its limit, or none
 * are left. */
static void limits_keep(struct solver *s, uint32_t keep)
{
	uint32_t layer;

	while ((layer = cheapest(s, keep)) != UINT32_MAX) {
		int64_t loss = loss_of(s, layer);

		if (loss > s->loss[layer])
			s->loss[layer] = loss;
		else
			layer_drop(s, layer);
	}
}

/* ---- another try for what was given up ---- */

struct kept {	      /* a state to go back to */
	bool *active; /* owned, as these */
	uint32_t *used, *n_cover, *cover;
	uint64_t cost;
};

static uint32_t cover_room(const struct solver *s)
{
	return s->at[s->p->n_groups];
}

static int kept_init(const struct solver *s, struct kept *k)
{
	k->active = calloc(s->cap, sizeof(*k->active));
	k->used = calloc(s->p->n_images + 1UL, sizeof(*k->used));
	k->n_cover = calloc(s->p->n_groups + 1UL, sizeof(*k->n_cover));
	k->cover = calloc(cover_room(s) + 1UL, sizeof(*k->cover));
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

static void state_keep(const struct solver *s, struct kept *k)
{
	copy(k->active, s->active, s->sets.n, sizeof(*s->active));
	copy(k->used, s->used, s->p->n_images, sizeof(*s->used));
	copy(k->n_cover, s->n_cover, s->p->n_groups, sizeof(*s->n_cover));
	copy(k->cover, s->cover, cover_room(s), sizeof(*s->cover));
	k->cost = s->cost;
}

static void state_back(struct solver *s, const struct kept *k)
{
	copy(s->active, k->active, s->sets.n, sizeof(*s->active));
	copy(s->used, k->used, s->p->n_images, sizeof(*s->used));
	copy(s->n_cover, k->n_cover, s->p->n_groups, sizeof(*s->n_cover));
	copy(s->cover, k->cover, cover_room(s), sizeof(*s->cover));
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

static uint32_t wishes_find(const struct solver *s, struct wish *wishes)
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
static bool has_room(const struct solver *s, uint32_t layer)
{
	for (uint32_t i = 0; i < s->p->n_images; i++)
		if (ql_bits_has(bits_of(s, layer), i) &&
		    s->used[i] >= s->p->limits[i])
			return false;
	return true;
}

/* Is it better with this layer, and without what must go for it? */
static bool layer_try(struct solver *s, uint32_t layer, struct kept *k)
{
	if (s->active[layer])
		return false;
	state_keep(s, k);
	layer_take(s, layer);
	/* Estimates of before may be too high now. */
	for (uint32_t i = s->p->n_images; i < s->sets.n; i++)
		s->loss[i] = INT64_MIN;
	limits_keep(s, layer);
	if (s->cost < k->cost && !over_limit(s))
		return true;
	state_back(s, k);
	return false;
}

/* Is it better without this layer, and with what then fits? */
static bool layer_swap(struct solver *s, uint32_t layer,
		       const struct wish *wishes, uint32_t n, struct kept *k)
{
	if (!s->active[layer])
		return false;
	state_keep(s, k);
	layer_drop(s, layer);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t cost = s->cost;

		if (wishes[i].layer == layer || s->active[wishes[i].layer] ||
		    !has_room(s, wishes[i].layer))
			continue;
		layer_take(s, wishes[i].layer);
		if (s->cost >= cost)
			layer_drop(s, wishes[i].layer);
	}
	if (s->cost < k->cost)
		return true;
	state_back(s, k);
	return false;
}

static int group_fits(struct solver *s, uint32_t group);

static int arrays_grow(struct solver *s)
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

/* The images that two layers have in common, if there are several, become a
 * layer that may be made. */
static int part_add(struct solver *s, const uint64_t *a, const uint64_t *b,
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
static int parts_add(struct solver *s, const struct wish *wishes, uint32_t n)
{
	_cleanup_free_ uint64_t *both = calloc(s->words + 1UL, sizeof(*both));
	_cleanup_free_ uint64_t *room = calloc(s->words + 1UL, sizeof(*room));
	uint32_t before = s->sets.n;
	int r = both && room ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < s->p->n_images && r == 0; i++)
		if (s->used[i] < s->p->limits[i])
			ql_bits_put(room, i);
	for (uint32_t i = 0; i < n && r == 0; i++)
		r = part_add(s, bits_of(s, wishes[i].layer), room, both);
	for (uint32_t i = 0; i < n && i < PAIRS && r == 0; i++)
		for (uint32_t j = 0; j < i && r == 0; j++)
			r = part_add(s, bits_of(s, wishes[i].layer),
				     bits_of(s, wishes[j].layer), both);
	for (uint32_t i = before; i < s->sets.n; i++) {
		s->active[i] = false;
		s->loss[i] = INT64_MIN;
	}
	if (before == s->sets.n)
		return r;
	for (uint32_t g = 0; g < s->p->n_groups && r == 0; g++)
		r = group_fits(s, g);
	return r;
}

static int round_again(struct solver *s, struct wish *wishes, struct kept *k,
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

static int again(struct solver *s)
{
	_cleanup_free_ struct wish *wishes =
		calloc(s->p->n_groups + 1UL, sizeof(*wishes));
	struct kept k = { 0 };
	bool better = true;
	int r = wishes ? arrays_grow(s) : -ENOMEM;

	if (r == 0)
		r = kept_init(s, &k);
	for (int i = 0; i < ROUNDS && better && r == 0; i++)
		r = round_again(s, wishes, &k, &better);
	kept_release(&k);
	return r;
}

/* ---- the beginning and the end ---- */

static int fit_cmp(const void *a, const void *b, void *arg)
{
	const struct solver *s = arg;
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	uint32_t nx = size_of(s, x), ny = size_of(s, y);

	if (nx != ny)
		return nx < ny ? 1 : -1;
	return x < y ? -1 : x > y;
}

/* Lists the layers that may be part of a group's cover. */
static int group_fits(struct solver *s, uint32_t group)
{
	const uint64_t *images = s->p->groups[group].images;
	uint32_t n = 0;
	_cleanup_free_ uint32_t *list = calloc(s->sets.n + 1UL, sizeof(*list));

	if (!list)
		return -ENOMEM;
	for (uint32_t i = s->p->n_images; i < s->sets.n; i++)
		if (ql_bits_subset(bits_of(s, i), images, s->words))
			list[n++] = i;
	if (n > 1)
		qsort_r(list, n, sizeof(*list), fit_cmp, s);
	n = n < FITS_MAX ? n : FITS_MAX;
	free(s->fits[group]);
	s->fits[group] = calloc(n + 1UL, sizeof(*list));
	if (!s->fits[group])
		return -ENOMEM;
	copy(s->fits[group], list, n, sizeof(*list));
	s->n_fits[group] = n;
	return 0;
}

static int sets_init(struct solver *s)
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

static int arrays_init(struct solver *s)
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
static int solver_init(struct solver *s)
{
	int r = arrays_init(s);

	if (r == 0)
		r = sets_init(s);
	if (r == 0)
		r = arrays_grow(s);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < s->sets.n; i++) {
		s->active[i] = true;
		s->loss[i] = INT64_MIN;
		for (uint32_t k = 0; k < s->p->n_images; k++)
			s->used[k] += ql_bits_has(bits_of(s, i), k);
	}
	s->cost = s->p->layer_cost * (s->sets.n - s->p->n_images);
	for (uint32_t g = 0; g < s->p->n_groups && r == 0; g++) {
		s->best[0] = s->own[g];
		s->n_best = 1;
		cover_set(s, g);
		r = group_fits(s, g);
	}
	return r;
}

static void solver_release(struct solver *s)
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

static int result_take(const struct solver *s, struct ql_cover *ret)
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
	ret->list = calloc(cover_room(s) + 1UL, sizeof(*ret->list));
	if (!ret->layers || !ret->start || !ret->list)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->sets.n; i++)
		if (s->active[i])
			memcpy(ret->layers + (uint64_t)number[i] * s->words,
			       bits_of(s, i), s->words * sizeof(uint64_t));
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
	struct solver s = { .p = problem,
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
		limits_keep(&s, UINT32_MAX);
		r = again(&s);
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
