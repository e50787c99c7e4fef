/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the three files of an eviction share: the round that is made (evicting:
 * keepevict.c; whom to take: keepchoose.c; taking it: keepdrop.c).
 */
#ifndef QL_KEEPEVICT_H
#define QL_KEEPEVICT_H

#include "store/keep-private.h"

/* In a round, at most: each is an open file. */
enum {
	QL_EVICT_VICTIMS = 256,
	QL_EVICT_NAMES = 256,
};

/* One that is to go in this round. */
struct ql_victim {
	struct ql_keep_unit *unit; /* borrowed */
	bool demote;
	int layer_fd;		      /* owned; or -1 */
	struct ql_object_set objects; /* owned; size: bytes of disk */
	uint64_t packed;	      /* bytes of disk, in the packed tier */
	uint64_t most;		      /* bytes that it may free */
};

struct ql_evict {
	struct ql_store *store;	     /* borrowed */
	struct ql_keep_map map;	     /* owned */
	struct ql_keep_unit **order; /* owned */
	size_t n;		     /* in order */
	bool dropping;		     /* all that could be demoted is */
	struct ql_victim *victims;   /* owned; of this round */
	size_t n_victims, cap_victims;
	struct ql_name_lock locks[QL_EVICT_NAMES]; /* owned; of this round */
	size_t n_locks;
	struct ql_doom doom;   /* owned; of this round */
	struct ql_keep_txn kt; /* of this round */
	uint64_t planned;      /* bytes that this round frees */
	uint64_t packed;       /* of them: in packed files of images, and what a
				* plan punches */
	struct ql_keep_stats stats;
	bool idle;	/* the last round had nobody to take */
	ql_keep_fn *fn; /* NULL: not a plan */
	void *arg;	/* borrowed */
};

/* ---- keepchoose.c ---- */

/* Bytes of disk of an object, whole or in part. */
uint64_t ql_evict_object_bytes(struct ql_store *store,
			       const struct ql_digest *digest);
/* Locks an image's tree until the round ends; a plan, which would have all of
 * them open at once, only tries.  As ql_keep_lock_image(). */
int ql_evict_lock_image(struct ql_evict *ev, struct ql_keep_image *image,
			struct ql_error *err);
/* Step 1: adds victims until they may free so many bytes.  Of one that somebody
 * has open by now the hold is set. */
int ql_evict_choose(struct ql_evict *ev, uint64_t bytes, struct ql_error *err);

/* ---- keepdrop.c ---- */

/* Step 2, of one victim, in ev->kt: what goes is added to ev->doom, and
 * ev->planned is what the round frees then.  What a plan's fn returned. */
int ql_evict_victim(struct ql_evict *ev, const struct ql_victim *v,
		    struct ql_error *err);

#endif
