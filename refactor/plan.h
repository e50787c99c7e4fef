/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The new layers, and which images they make up.  Part of
 * refactor/refactor-private.h; include that.
 */
#ifndef QL_PLAN_H
#define QL_PLAN_H

#include "refactor/inventory.h"

struct ql_plan_layer {
	uint64_t *images; /* owned; bits */
	uint32_t n_images;
	/* Owned: all that is in it, folders on the way included, in order. */
	uint32_t *units;
	uint32_t n_units;
	uint64_t bytes; /* of content */
	/* The member of the inventory that it is already; QL_UNIT_NONE: it is
	 * new. */
	uint32_t member;
};

struct ql_plan {
	uint32_t n_images, words;
	struct ql_plan_layer *layers; /* owned; the most general first */
	uint32_t n_layers;
	uint32_t **stacks; /* owned; each image's layers, lowest first */
	uint32_t *n_stack; /* owned */
	uint64_t bound;	   /* bytes of content, each file once */
};

/*
 * The first n_images members of the inventory are images, which get at most
 * max_layers each; those behind are layers that are there, and stay where they
 * can be of use: at least KEEP_PERCENT of their bytes do.  Nothing depends on
 * anything but the inventory and the numbers.  -EINVAL: max_layers is 0.
 */
int ql_plan_make(const struct ql_inventory *inv, uint32_t n_images,
		 uint32_t max_layers, struct ql_plan *ret_plan,
		 struct ql_error *err);
void ql_plan_release(struct ql_plan *plan);
/* Gives up what is in the layers; which images have them stays known. */
void ql_plan_shed(struct ql_plan *plan);

/* ---- keep.c: which of the layers that are there stay ---- */

struct ql_keep {
	uint32_t words, n; /* of images; layers that are there */
	/* Owned: for each of them, the images that use it; none: it goes. */
	uint64_t *images;
};
enum { QL_KEEP_PERCENT = 90 };

int ql_keep_choose(const struct ql_inventory *inv, uint32_t n_images,
		   uint32_t max_layers, struct ql_keep *ret_keep,
		   struct ql_error *err);
void ql_keep_release(struct ql_keep *keep);

/* ---- imagebits: of a unit, images alone ---- */

/* Copies those of a unit's members that are images into bits. */
void ql_unit_images(const struct ql_inventory *inv, const struct ql_unit *u,
		    uint32_t n_images, uint64_t *bits);
/* What a unit costs wherever it is kept, in bytes. */
uint64_t ql_unit_cost(const struct ql_unit *u);
/* Which of a folder's units a member has; QL_UNIT_NONE: none. */
uint32_t ql_folder_of(const struct ql_inventory *inv, uint32_t folder,
		      uint32_t member);

#endif
