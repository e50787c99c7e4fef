/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The images that are refactored.  Part of refactor/refactor-private.h; include
 * that.
 */
#ifndef QL_INPUTS_H
#define QL_INPUTS_H

#include "refactor/refactor.h"

enum { QL_CONFIG_LEN_MAX = 8 << 20, QL_MANIFEST_LEN_MAX = 4 << 20 }; /* bytes */

struct ql_input {
	const struct ql_ref *ref; /* borrowed */
	struct ql_ref dest;	  /* owned, as all below */
	bool left_out;
	char *failed; /* why; NULL: no memory to say it */
	struct ql_image_info info;
	struct ql_tree *tree;
	struct ql_buf config;
	json_t *manifest;
	struct ql_trace trace; /* may be empty */
};

struct ql_inputs {
	struct ql_input *list; /* owned; those that failed last */
	uint32_t n, n_good;
};

/*
 * Names the destinations, and reads what is not in the store.  Their order is
 * that of their digests, whatever the caller's.  -EINVAL: `to`, or two images
 * of one destination.
 */
int ql_inputs_read(struct ql_store *store, const struct ql_ref *refs,
		   uint32_t n, const char *to,
		   const struct ql_refactor_options *options,
		   struct ql_inputs *ret_inputs, struct ql_error *err);
void ql_inputs_release(struct ql_inputs *inputs);
/* It is left out from now on; err says why. */
void ql_input_fail(struct ql_input *in, const struct ql_error *err);

/* ---- destname.c ---- */

/* Where an image goes; owned text. */
int ql_dest_name(const char *to, const struct ql_ref *ref, char **ret_name,
		 struct ql_error *err);

#endif
