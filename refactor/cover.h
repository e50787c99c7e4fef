/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which layers to make.  Part of refactor/refactor-private.h; include that.
 */
#ifndef QL_COVER_H
#define QL_COVER_H

#include "store/base/base.h"

/* Files that the same images have. */
struct ql_cover_group {
	const uint64_t *images; /* borrowed; bits */
	uint64_t bytes;		/* that they cost wherever they are kept */
};

struct ql_cover_problem {
	uint32_t n_images;
	/* Layers that an image may have, one of which is its own; at least
	 * 1. */
	const uint32_t *limits;
	const struct ql_cover_group *groups; /* no two of the same images */
	uint32_t n_groups;
	uint64_t layer_cost; /* bytes that a layer costs for being one */
};

/* A layer is the images that have it.  The first n_images are those of one
 * image alone, in order. */
struct ql_cover {
	uint32_t n_layers;
	uint64_t *layers; /* owned; bits of each */
	/* Group g goes into layers list[start[g]] to list[start[g + 1] - 1],
	 * whose images are together the group's, each once. */
	uint32_t *start; /* owned */
	uint32_t *list;	 /* owned */
	/* Bytes of all groups, as often as they are kept, and of layers but
	 * the first n_images. */
	uint64_t cost;
};
void ql_cover_release(struct ql_cover *cover);

/* -EINVAL: a limit of 0.  -ENOMEM. */
int ql_cover_solve(const struct ql_cover_problem *problem,
		   struct ql_cover *ret_cover, struct ql_error *err);

#endif
