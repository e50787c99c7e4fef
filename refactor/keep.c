/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which layers that are there stay, when images are refactored again.  An
 * image can use such a layer if it has all that is in it.  Where that is not
 * so though much of the layer is in the image, it may pay to cut the layer in
 * two; but then its images get new layers, which whoever has the old ones
 * pulls again.  So only the layers go that win most for their bytes, and no
 * more of them than the part of all bytes that may change.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "refactor/refactor-private.h"

enum {
	GAIN_MIN = 1 << 20, /* bytes that a cut must save */
	/* Of what an image gets by a layer, what it must lack so far. */
	NEW_PERCENT = 50,
};

struct there {		 /* a layer that is there */
	uint32_t *units; /* owned; all of it */
	uint32_t n;
	uint64_t bytes;
	uint64_t *usable; /* bits of images that have all of it */
	bool given_up;
};

struct chooser {
	const struct ql_inventory *inv; /* borrowed */
	uint32_t n_images, words, max_layers;
	struct there *list; /* owned; n */
	uint32_t n;
	uint64_t *bits;	 /* owned; the lists' */
	uint64_t *one;	 /* owned; of a unit */
	uint32_t *stamp; /* owned; for each unit: the image it is kept for,
			    plus one */
	uint32_t *order; /* owned; largest first */
	struct ql_keep keep;
};

static int units_find(struct chooser *c)
{
	const struct ql_inventory *inv = c->inv;

	for (uint32_t k = 0; k < c->n; k++) {
		struct there *t = &c->list[k];
		uint32_t n = 0;

		for (int pass = 0; pass < 2; pass++) {
			for (uint32_t i = 0; i < inv->n_units; i++) {
				const struct ql_unit *u = &inv->units[i];

				if (!ql_bits_has(ql_unit_members(inv, u),
						 c->n_images + k))
					continue;
				if (pass == 0)
					n++;
				else
					t->units[t->n++] = i;
			}
			if (pass == 0)
				t->units = calloc(n + 1UL, sizeof(*t->units));
			if (!t->units)
				return -ENOMEM;
		}
		for (uint32_t i = 0; i < t->n; i++)
			t->bytes += ql_unit_cost(&inv->units[t->units[i]]);
	}
	return 0;
}

/* The images that have a unit, or, of a folder, any folder of its path. */
static void having(struct chooser *c, const struct ql_unit *u)
{
	const struct ql_inventory *inv = c->inv;
	const struct ql_folder *f;

	ql_unit_images(inv, u, c->n_images, c->one);
	if (u->own == QL_UNIT_NONE)
		return;
	f = &inv->folders[u->own];
	for (uint32_t i = 0; i < c->n_images; i++)
		for (uint32_t k = f->first; k < f->first + f->n; k++)
			if (ql_bits_has(ql_unit_members(inv, &inv->units[k]),
					i))
				ql_bits_put(c->one, i);
}

static void usable_find(struct chooser *c)
{
	for (uint32_t k = 0; k < c->n; k++) {
		struct there *t = &c->list[k];

		t->usable = c->bits + (uint64_t)k * c->words;
		for (uint32_t i = 0; i < c->n_images; i++)
			ql_bits_put(t->usable, i);
		for (uint32_t i = 0; i < t->n; i++) {
			having(c, &c->inv->units[t->units[i]]);
			for (uint32_t w = 0; w < c->words; w++)
				t->usable[w] &= c->one[w];
		}
	}
}

static int order_cmp(const void *a, const void *b, void *arg)
{
	const struct chooser *c = arg;
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	if (c->list[x].bytes != c->list[y].bytes)
		return c->list[x].bytes < c->list[y].bytes ? 1 : -1;
	return x < y ? -1 : x > y;
}

/* ---- who uses what ---- */

/* Bytes of a layer that an image does not get by another. */
static uint64_t new_bytes(const struct chooser *c, const struct there *t,
			  uint32_t image)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < t->n; i++)
		if (c->stamp[t->units[i]] != image + 1)
			bytes += ql_unit_cost(&c->inv->units[t->units[i]]);
	return bytes;
}

/* Leaves room for one layer of the image's own. */
static void image_use(struct chooser *c, uint32_t image)
{
	uint32_t room = c->max_layers - 1;

	for (uint32_t i = 0; i < c->n && room > 0; i++) {
		uint32_t k = c->order[i];
		const struct there *t = &c->list[k];

		if (t->given_up || !ql_bits_has(t->usable, image) ||
		    new_bytes(c, t, image) * 100 < t->bytes * NEW_PERCENT)
			continue;
		for (uint32_t u = 0; u < t->n; u++)
			c->stamp[t->units[u]] = image + 1;
		ql_bits_put(c->keep.images + (uint64_t)k * c->words, image);
		room--;
	}
}

static void all_use(struct chooser *c)
{
	memset(c->keep.images, 0,
	       (uint64_t)c->n * c->words * sizeof(*c->keep.images));
	memset(c->stamp, 0, c->inv->n_units * sizeof(*c->stamp));
	for (uint32_t i = 0; i < c->n_images; i++)
		image_use(c, i);
}

/* ---- what to cut ---- */

/* What an image has of a layer that it cannot use, and gets by no other. */
static uint64_t gain_for(const struct chooser *c, uint32_t k, uint32_t image)
{
	const struct there *t = &c->list[k];
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < t->n; i++) {
		const struct ql_unit *u = &c->inv->units[t->units[i]];
		const uint64_t *members = ql_unit_members(c->inv, u);
		bool has = u->own == QL_UNIT_NONE &&
			   ql_bits_has(members, image);

		for (uint32_t j = 0; j < c->n && has; j++)
			has = !ql_bits_has(members, c->n_images + j) ||
			      !ql_bits_has(c->keep.images +
						   (uint64_t)j * c->words,
					   image);
		if (has)
			bytes += ql_unit_cost(u);
	}
	return bytes;
}

static uint64_t gain_of(const struct chooser *c, uint32_t k)
{
	const uint64_t *users = c->keep.images + (uint64_t)k * c->words;
	uint64_t most = 0;

	if (c->list[k].given_up || ql_bits_count(users, c->words) == 0)
		return 0;
	for (uint32_t i = 0; i < c->n_images; i++) {
		uint64_t gain = ql_bits_has(users, i) ? 0 : gain_for(c, k, i);

		most = gain > most ? gain : most;
	}
	return most;
}

static void cuts_make(struct chooser *c)
{
	uint64_t all = 0, left;

	for (uint32_t k = 0; k < c->n; k++)
		all += c->list[k].bytes;
	left = all / 100 * (100 - QL_KEEP_PERCENT);
	for (;;) {
		uint32_t best = UINT32_MAX;
		double most = 0;

		for (uint32_t k = 0; k < c->n; k++) {
			uint64_t gain = c->list[k].bytes > left ? 0
								: gain_of(c, k);
			double ratio =
				(double)gain / (double)(c->list[k].bytes + 1);

			if (gain >= GAIN_MIN && ratio > most) {
				best = k;
				most = ratio;
			}
		}
		if (best == UINT32_MAX)
			break;
		c->list[best].given_up = true;
		left -= c->list[best].bytes;
		all_use(c);
	}
}

/* ---- the whole ---- */

void ql_keep_release(struct ql_keep *keep)
{
	free(keep->images);
	*keep = (struct ql_keep){ 0 };
}

static void chooser_release(struct chooser *c)
{
	for (uint32_t k = 0; c->list && k < c->n; k++)
		free(c->list[k].units);
	free(c->list);
	free(c->bits);
	free(c->one);
	free(c->stamp);
	free(c->order);
}

static int chooser_run(struct chooser *c)
{
	uint64_t bits = (c->n + 1UL) * c->words;
	int r;

	c->list = calloc(c->n + 1UL, sizeof(*c->list));
	c->bits = calloc(bits, sizeof(*c->bits));
	c->one = calloc(c->words + 1UL, sizeof(*c->one));
	c->stamp = calloc(c->inv->n_units + 1UL, sizeof(*c->stamp));
	c->order = calloc(c->n + 1UL, sizeof(*c->order));
	c->keep.images = calloc(bits, sizeof(*c->keep.images));
	if (!c->list || !c->bits || !c->one || !c->stamp || !c->order ||
	    !c->keep.images)
		return -ENOMEM;
	r = units_find(c);
	if (r < 0)
		return r;
	usable_find(c);
	for (uint32_t k = 0; k < c->n; k++)
		c->order[k] = k;
	if (c->n > 1)
		qsort_r(c->order, c->n, sizeof(*c->order), order_cmp, c);
	all_use(c);
	cuts_make(c);
	return 0;
}

int ql_keep_choose(const struct ql_inventory *inv, uint32_t n_images,
		   uint32_t max_layers, struct ql_keep *ret_keep,
		   struct ql_error *err)
{
	struct chooser c = { .inv = inv,
			     .n_images = n_images,
			     .words = ql_bits_words(n_images),
			     .max_layers = max_layers,
			     .n = inv->n_members - n_images };
	int r;

	c.keep.words = c.words;
	c.keep.n = c.n;
	r = chooser_run(&c);
	chooser_release(&c);
	if (r < 0) {
		ql_keep_release(&c.keep);
		return ql_error_nomem(err);
	}
	*ret_keep = c.keep;
	return 0;
}
