/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The new layers.  Files are grouped by the images that have them; cover.c
 * says which layers to make of the groups.  Nothing is deleted in a layer, so
 * that an image is the union of its layers and their order matters to folders
 * alone: a folder is in every layer that has something below it, and the
 * uppermost says what it is like.  Layers stand from the general to the
 * special, so the one that is an image's own is the last: it repeats those
 * folders that would not be right, and has those that are empty.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "refactor/refactor-private.h"

enum {
	/* Headers and names, compressed, in the archive and its table. */
	UNIT_COST = 200,
	/* What a layer costs whoever pulls it: requests, descriptors, folders
	 * on the way. */
	LAYER_COST = 32 << 10,
};

void ql_unit_images(const struct ql_inventory *inv, const struct ql_unit *u,
		    uint32_t n_images, uint64_t *bits)
{
	uint32_t words = ql_bits_words(n_images);

	memcpy(bits, ql_unit_members(inv, u), words * sizeof(*bits));
	if (n_images % 64)
		bits[words - 1] &= ((uint64_t)1 << (n_images % 64)) - 1;
}

uint64_t ql_unit_cost(const struct ql_unit *u)
{
	return u->size + UNIT_COST;
}

uint32_t ql_folder_of(const struct ql_inventory *inv, uint32_t folder,
		      uint32_t member)
{
	const struct ql_folder *f = &inv->folders[folder];

	for (uint32_t i = f->first; i < f->first + f->n; i++)
		if (ql_bits_has(ql_unit_members(inv, &inv->units[i]), member))
			return i;
	return QL_UNIT_NONE;
}

struct planner {
	const struct ql_inventory *inv; /* borrowed */
	uint32_t n_images, words, max_layers;
	struct ql_keep keep;	  /* owned, as all below */
	struct ql_imagesets sets; /* of images that need a unit */
	uint32_t *group; /* for each unit; QL_UNIT_NONE: it needs none */
	uint64_t *bytes; /* for each of sets: what its units cost */
	struct ql_cover cover;
	uint32_t *stamp; /* for each folder: the layer that has it, plus one */
	struct ql_plan plan;
};

/* ---- groups ---- */

/* Images that use a kept layer have what is in it. */
static void kept_subtract(const struct planner *p, const struct ql_unit *u,
			  uint64_t *bits)
{
	const uint64_t *members = ql_unit_members(p->inv, u);

	for (uint32_t k = 0; k < p->keep.n; k++) {
		const uint64_t *images =
			p->keep.images + (uint64_t)k * p->words;

		if (!ql_bits_has(members, p->n_images + k))
			continue;
		for (uint32_t w = 0; w < p->words; w++)
			bits[w] &= ~images[w];
	}
}

static int groups_make(struct planner *p)
{
	const struct ql_inventory *inv = p->inv;
	_cleanup_free_ uint64_t *bits = calloc(p->words + 1UL, sizeof(*bits));
	int r = 0;

	p->group = calloc(inv->n_units + 1UL, sizeof(*p->group));
	if (!bits || !p->group)
		return -ENOMEM;
	for (uint32_t i = 0; i < inv->n_units && r == 0; i++) {
		const struct ql_unit *u = &inv->units[i];

		p->group[i] = QL_UNIT_NONE;
		if (u->own != QL_UNIT_NONE)
			continue;
		ql_unit_images(inv, u, p->n_images, bits);
		if (ql_bits_count(bits, p->words) > 0)
			p->plan.bound += u->size;
		kept_subtract(p, u, bits);
		if (ql_bits_count(bits, p->words) > 0)
			r = ql_imagesets_add(&p->sets, bits, &p->group[i]);
	}
	p->bytes = calloc(p->sets.n + 1UL, sizeof(*p->bytes));
	if (r < 0 || !p->bytes)
		return -ENOMEM;
	for (uint32_t i = 0; i < inv->n_units; i++)
		if (p->group[i] != QL_UNIT_NONE)
			p->bytes[p->group[i]] += ql_unit_cost(&inv->units[i]);
	return 0;
}

static int groups_cover(struct planner *p, struct ql_error *err)
{
	_cleanup_free_ struct ql_cover_group *groups =
		calloc(p->sets.n + 1UL, sizeof(*groups));
	_cleanup_free_ uint32_t *limits =
		calloc(p->n_images + 1UL, sizeof(*limits));
	struct ql_cover_problem problem = {
		.n_images = p->n_images,
		.limits = limits,
		.groups = groups,
		.n_groups = p->sets.n,
		.layer_cost = LAYER_COST,
	};

	if (!groups || !limits)
		return ql_error_nomem(err);
	for (uint32_t i = 0; i < p->n_images; i++) {
		limits[i] = p->max_layers;
		for (uint32_t k = 0; k < p->keep.n; k++)
			limits[i] -= ql_bits_has(
				p->keep.images + (uint64_t)k * p->words, i);
	}
	for (uint32_t g = 0; g < p->sets.n; g++)
		groups[g] =
			(struct ql_cover_group){ ql_imagesets_get(&p->sets, g),
						 p->bytes[g] };
	return ql_cover_solve(&problem, &p->cover, err);
}

/* ---- layers ---- */

static int layer_init(struct planner *p, const uint64_t *images,
		      uint32_t n_units, uint32_t member)
{
	_cleanup_free_ uint64_t *bits = calloc(p->words + 1UL, sizeof(*bits));
	_cleanup_free_ uint32_t *units = calloc(n_units + 1UL, sizeof(*units));

	if (!bits || !units)
		return -ENOMEM;
	memcpy(bits, images, p->words * sizeof(*images));
	p->plan.layers[p->plan.n_layers++] = (struct ql_plan_layer){
		.images = ql_take_ptr(bits),
		.n_images = ql_bits_count(images, p->words),
		.units = ql_take_ptr(units),
		.member = member,
	};
	return 0;
}

static void layer_put(struct planner *p, uint32_t layer, uint32_t unit)
{
	struct ql_plan_layer *l = &p->plan.layers[layer];

	/* It always has; analyzers cannot know. */
	if (l->units)
		l->units[l->n_units++] = unit;
	l->bytes += p->inv->units[unit].size;
}

/* A kept layer is what it is. */
static int kept_layer(struct planner *p, uint32_t k)
{
	const uint64_t *images = p->keep.images + (uint64_t)k * p->words;
	uint32_t member = p->n_images + k, n = 0, layer = p->plan.n_layers;
	int r;

	if (ql_bits_count(images, p->words) == 0)
		return 0;
	for (uint32_t i = 0; i < p->inv->n_units; i++)
		n += ql_bits_has(ql_unit_members(p->inv, &p->inv->units[i]),
				 member);
	r = layer_init(p, images, n, member);
	for (uint32_t i = 0; i < p->inv->n_units && r == 0; i++)
		if (ql_bits_has(ql_unit_members(p->inv, &p->inv->units[i]),
				member))
			layer_put(p, layer, i);
	return r;
}

static int new_layers(struct planner *p)
{
	const struct ql_cover *c = &p->cover;
	_cleanup_free_ uint32_t *n = calloc(c->n_layers + 1UL, sizeof(*n));
	uint32_t first = p->plan.n_layers;
	int r = n ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < p->inv->n_units && r == 0; i++) {
		uint32_t g = p->group[i];

		for (uint32_t k = g == QL_UNIT_NONE ? 0 : c->start[g];
		     g != QL_UNIT_NONE && k < c->start[g + 1]; k++)
			n[c->list[k]]++;
	}
	for (uint32_t l = 0; l < c->n_layers && r == 0; l++)
		r = layer_init(p, c->layers + (uint64_t)l * p->words, n[l],
			       QL_UNIT_NONE);
	for (uint32_t i = 0; i < p->inv->n_units && r == 0; i++) {
		uint32_t g = p->group[i];

		for (uint32_t k = g == QL_UNIT_NONE ? 0 : c->start[g];
		     g != QL_UNIT_NONE && k < c->start[g + 1]; k++)
			layer_put(p, first + c->list[k], i);
	}
	return r;
}

static int layers_make(struct planner *p)
{
	int r = 0;

	p->plan.layers = calloc(p->keep.n + p->cover.n_layers + 1UL,
				sizeof(*p->plan.layers));
	if (!p->plan.layers)
		return -ENOMEM;
	for (uint32_t k = 0; k < p->keep.n && r == 0; k++)
		r = kept_layer(p, k);
	return r < 0 ? r : new_layers(p);
}

/* ---- folders ---- */

static int unit_cmp(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* Adds a folder and those above it, as the layer's first image has them; a
 * layer has each once (stamp). */
static void folders_put(struct planner *p, uint32_t layer, uint32_t folder,
			uint32_t *list, uint32_t *n)
{
	uint32_t image = ql_bits_first(p->plan.layers[layer].images, p->words);

	while (p->stamp[folder] != layer + 1) {
		p->stamp[folder] = layer + 1;
		list[(*n)++] = ql_folder_of(p->inv, folder, image);
		folder = p->inv->folders[folder].parent;
	}
}

/* Puts these units into a layer that has its own already. */
static int layer_extend(struct ql_plan_layer *l, const uint32_t *list,
			uint32_t n)
{
	uint32_t *grown =
		reallocarray(l->units, l->n_units + n + 1UL, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	l->units = grown;
	memcpy(grown + l->n_units, list, n * sizeof(*list));
	l->n_units += n;
	qsort(grown, l->n_units, sizeof(*grown), unit_cmp);
	return 0;
}

/* The folders above what a new layer holds. */
static int parents_put(struct planner *p, uint32_t layer, uint32_t *list)
{
	struct ql_plan_layer *l = &p->plan.layers[layer];
	uint32_t n = 0;

	if (l->member != QL_UNIT_NONE)
		return 0;
	for (uint32_t i = 0; i < l->n_units; i++)
		folders_put(p, layer, p->inv->units[l->units[i]].folder, list,
			    &n);
	return n > 0 ? layer_extend(l, list, n) : 0;
}

/* What each folder of an image is like, with the layers that it has. */
static void folders_seen(const struct planner *p, uint32_t image,
			 uint32_t *seen)
{
	for (uint32_t i = 0; i < p->inv->n_folders; i++)
		seen[i] = QL_UNIT_NONE;
	for (uint32_t k = 0; k < p->plan.n_stack[image]; k++) {
		const struct ql_plan_layer *l =
			&p->plan.layers[p->plan.stacks[image][k]];

		for (uint32_t i = 0; i < l->n_units; i++) {
			uint32_t own = p->inv->units[l->units[i]].own;

			if (own != QL_UNIT_NONE)
				seen[own] = l->units[i];
		}
	}
}

/* The image's own layer gets the folders that are not right without. */
static int folders_mend(struct planner *p, uint32_t image, uint32_t *seen,
			uint32_t *list)
{
	uint32_t layer = p->plan.stacks[image][p->plan.n_stack[image] - 1];
	struct ql_plan_layer *l = &p->plan.layers[layer];
	uint32_t n = 0;

	folders_seen(p, image, seen);
	memset(p->stamp, 0, p->inv->n_folders * sizeof(*p->stamp));
	for (uint32_t i = 0; i < l->n_units; i++) {
		uint32_t own = p->inv->units[l->units[i]].own;

		if (own != QL_UNIT_NONE)
			p->stamp[own] = layer + 1;
	}
	for (uint32_t i = 0; i < p->inv->n_folders; i++) {
		uint32_t want = ql_folder_of(p->inv, i, image);

		if (want != QL_UNIT_NONE && seen[i] != want)
			folders_put(p, layer, i, list, &n);
	}
	return n > 0 ? layer_extend(l, list, n) : 0;
}

/* ---- stacks ---- */

struct ordered { /* a layer, and where it was */
	struct ql_plan_layer layer;
	uint32_t words;
};

static int layer_cmp(const void *a, const void *b)
{
	const struct ordered *x = a, *y = b;

	if (x->layer.n_images != y->layer.n_images)
		return x->layer.n_images < y->layer.n_images ? 1 : -1;
	/* An image's own new layer is above what it has kept. */
	if (x->layer.n_images == 1 && (x->layer.member == QL_UNIT_NONE) !=
					      (y->layer.member == QL_UNIT_NONE))
		return x->layer.member == QL_UNIT_NONE ? 1 : -1;
	if (x->layer.bytes != y->layer.bytes)
		return x->layer.bytes < y->layer.bytes ? 1 : -1;
	for (uint32_t w = 0; w < x->words; w++)
		if (x->layer.images[w] != y->layer.images[w])
			return x->layer.images[w] < y->layer.images[w] ? -1 : 1;
	return x->layer.member < y->layer.member
		       ? -1
		       : x->layer.member > y->layer.member;
}

static int layers_sort(struct planner *p)
{
	uint32_t n = p->plan.n_layers;
	_cleanup_free_ struct ordered *list = calloc(n + 1UL, sizeof(*list));

	if (!list)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		list[i] = (struct ordered){ p->plan.layers[i], p->words };
	if (n > 1)
		qsort(list, n, sizeof(*list), layer_cmp);
	for (uint32_t i = 0; i < n; i++)
		p->plan.layers[i] = list[i].layer;
	return 0;
}

/* The last of each is its own new one. */
static int stacks_make(struct planner *p)
{
	struct ql_plan *plan = &p->plan;

	plan->stacks = calloc(p->n_images + 1UL, sizeof(*plan->stacks));
	plan->n_stack = calloc(p->n_images + 1UL, sizeof(*plan->n_stack));
	if (!plan->stacks || !plan->n_stack)
		return -ENOMEM;
	for (uint32_t i = 0; i < p->n_images; i++) {
		plan->stacks[i] =
			calloc(plan->n_layers + 1UL, sizeof(**plan->stacks));
		if (!plan->stacks[i])
			return -ENOMEM;
		for (uint32_t l = 0; l < plan->n_layers; l++)
			if (ql_bits_has(plan->layers[l].images, i))
				plan->stacks[i][plan->n_stack[i]++] = l;
	}
	return 0;
}

static void layer_release(struct ql_plan_layer *l)
{
	free(l->images);
	free(l->units);
}

/* Layers that nothing came into are none. */
static void empty_drop(struct planner *p)
{
	struct ql_plan *plan = &p->plan;
	uint32_t n = 0;

	for (uint32_t l = 0; l < plan->n_layers; l++) {
		struct ql_plan_layer *from = &plan->layers[l];

		if (from->n_units == 0)
			layer_release(from);
		else
			plan->layers[n++] = *from;
	}
	plan->n_layers = n;
	for (uint32_t i = 0; i < p->n_images; i++) {
		plan->n_stack[i] = 0;
		for (uint32_t l = 0; l < n; l++)
			if (ql_bits_has(plan->layers[l].images, i))
				plan->stacks[i][plan->n_stack[i]++] = l;
	}
}

static int folders_make(struct planner *p)
{
	uint64_t n = p->inv->n_folders + 1UL;
	_cleanup_free_ uint32_t *list = calloc(n, sizeof(*list));
	_cleanup_free_ uint32_t *seen = calloc(n, sizeof(*seen));
	int r = 0;

	p->stamp = calloc(n, sizeof(*p->stamp));
	if (!list || !seen || !p->stamp)
		return -ENOMEM;
	for (uint32_t l = 0; l < p->plan.n_layers && r == 0; l++)
		r = parents_put(p, l, list);
	for (uint32_t i = 0; i < p->n_images && r == 0; i++)
		r = folders_mend(p, i, seen, list);
	return r;
}

/* ---- the whole ---- */

void ql_plan_shed(struct ql_plan *plan)
{
	for (uint32_t l = 0; l < plan->n_layers; l++) {
		free(plan->layers[l].units);
		plan->layers[l].units = NULL;
		plan->layers[l].n_units = 0;
	}
}

void ql_plan_release(struct ql_plan *plan)
{
	for (uint32_t l = 0; l < plan->n_layers; l++)
		layer_release(&plan->layers[l]);
	free(plan->layers);
	for (uint32_t i = 0; plan->stacks && i < plan->n_images; i++)
		free(plan->stacks[i]);
	free(plan->stacks);
	free(plan->n_stack);
	*plan = (struct ql_plan){ 0 };
}

static void planner_release(struct planner *p)
{
	ql_keep_release(&p->keep);
	ql_imagesets_release(&p->sets);
	free(p->group);
	free(p->bytes);
	free(p->stamp);
	ql_cover_release(&p->cover);
	ql_plan_release(&p->plan);
}

static int planner_run(struct planner *p, struct ql_error *err)
{
	int r = ql_keep_choose(p->inv, p->n_images, p->max_layers, &p->keep,
			       err);

	if (r < 0)
		return r;
	r = groups_make(p);
	if (r == 0) {
		r = groups_cover(p, err);
		if (r < 0)
			return r;
		r = layers_make(p);
	}
	if (r == 0)
		r = layers_sort(p);
	if (r == 0)
		r = stacks_make(p);
	if (r == 0)
		r = folders_make(p);
	if (r < 0)
		return ql_error_nomem(err);
	empty_drop(p);
	return 0;
}

int ql_plan_make(const struct ql_inventory *inv, uint32_t n_images,
		 uint32_t max_layers, struct ql_plan *ret_plan,
		 struct ql_error *err)
{
	struct planner p = { .inv = inv,
			     .n_images = n_images,
			     .words = ql_bits_words(n_images),
			     .max_layers = max_layers };
	int r;

	if (max_layers == 0)
		return ql_error_set(err, -EINVAL, "0 layers are none");
	p.plan.n_images = n_images;
	p.plan.words = p.words;
	ql_imagesets_init(&p.sets, n_images);
	r = planner_run(&p, err);
	if (r == 0) {
		*ret_plan = p.plan;
		p.plan = (struct ql_plan){ 0 };
	}
	planner_release(&p);
	return r;
}
