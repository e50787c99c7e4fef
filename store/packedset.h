/* SPDX-License-Identifier: Apache-2.0 */
/* What this process knows of packed/: what packed.c asks and tells it
 * (packedset.c).  It has locks of its own. */
#ifndef QL_PACKEDSET_H
#define QL_PACKEDSET_H

#include "store/store-private.h"

int ql_packed_set_new(struct ql_packed_set **ret_set);
void ql_packed_set_free(struct ql_packed_set *set); /* NULL is fine */
/* A part was written, with the file's lock, while its record had this
 * generation, and is to be settled.  -ENOMEM. */
int ql_packed_known_add(struct ql_store *store, const struct ql_digest *blob,
			uint64_t size, uint64_t generation,
			const struct ql_extent *part);
/* A part went, by this process: what it has put beside that is of the record's
 * new generation as it was of that before. */
void ql_packed_known_cut(struct ql_store *store, const struct ql_digest *blob,
			 uint64_t start, uint64_t end, uint64_t was,
			 uint64_t generation);
/* Adds what is not settled, and was put while the record had this generation.
 * -ENOMEM. */
int ql_packed_known_copy(struct ql_store *store, const struct ql_digest *blob,
			 uint64_t generation, struct ql_extents *to);
/* Begins to settle what was put so far: of these blobs (owned).  Others who
 * settle wait until the end, which is to come unless it fails.  -ENOMEM. */
int ql_packed_settle_begin(struct ql_store *store, struct ql_digest **ret_blobs,
			   size_t *ret_n);
void ql_packed_settle_end(struct ql_store *store);
struct ql_packed_put {
	uint64_t size;
	uint64_t generation;
	struct ql_extents parts; /* owned */
};
/* With the file's lock: a copy of what is to be settled of a blob.  -ENOMEM. */
int ql_packed_known_put(struct ql_store *store, const struct ql_digest *blob,
			struct ql_packed_put *ret_put);
/* It was, or went. */
void ql_packed_known_settled(struct ql_store *store,
			     const struct ql_digest *blob);

#endif
