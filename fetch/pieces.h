/* SPDX-License-Identifier: Apache-2.0 */
/* What an image is made of, as its registry has it.  Part of fetch/fetch.h;
 * include that. */
#ifndef QL_PIECES_H
#define QL_PIECES_H

#include "store/store.h"

struct ql_ref;
struct ql_pull_options;

struct ql_piece {
	struct ql_digest blob;
	uint64_t size;		  /* bytes */
	bool is_start;		  /* what a start reads, out of the layers */
	struct ql_digest diff_id; /* of a layer */
};

struct ql_pieces {
	struct ql_digest manifest;
	struct ql_piece *items; /* owned; each blob once, as they are needed:
				 * the start blob, layers from the lowest */
	size_t n;
};
void ql_pieces_release(struct ql_pieces *pieces); /* may be zeroed */
#define _cleanup_pieces_ __attribute__((cleanup(ql_pieces_release)))

/* Asks the registry for manifest, configuration and referrers.  Errors as of
 * ql_pull(). */
int ql_pieces_get(const struct ql_ref *ref,
		  const struct ql_pull_options *options,
		  struct ql_pieces *ret_pieces, struct ql_error *err);

#endif
