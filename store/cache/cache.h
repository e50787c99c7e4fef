/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a node keeps and what goes: policies over objects that have a size, a
 * cost and a place in a stack.  No I/O: who calls does the moving and keeps
 * the state, for which every entry that changed is handed out as a record of
 * fixed size.  Not for several threads at once.
 *
 * An object that comes is entered first and room is made then, so that it may
 * itself be who goes (the policy would not have let it in):
 *
 *	ql_cache_access(c, &req, &result, err);
 *	while (ql_cache_victim(c, &id))
 *		ql_cache_evict(c, id);      after its bytes are gone
 */
#ifndef QL_CACHE_H
#define QL_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ql_buf;
struct ql_cache;
struct ql_cache_policy;
struct ql_error;

enum {
	QL_CACHE_SCAN = 1,  /* nobody asked for it: a background fill */
	QL_CACHE_START = 2, /* the first layer of a pull */
};

struct ql_cache_request {
	uint64_t id;	 /* of the layer, say 8 bytes of its digest; not 0 */
	uint64_t size;	 /* bytes of disk that it takes */
	uint64_t parent; /* the layer that it stands on; 0: none, or unknown */
	uint64_t family; /* what is pulled: a repository; 0: unknown */
	uint64_t cost;	 /* ns to have it again from the cheapest holder */
	unsigned int flags;
};

enum ql_cache_result {
	QL_CACHE_HIT,	/* it was here */
	QL_CACHE_ENTER, /* it is counted as here from now on */
	QL_CACHE_LARGE, /* it is larger than all there is; nothing changed */
};

struct ql_cache_stats {
	uint64_t used;	   /* bytes of what is here */
	uint64_t capacity; /* bytes */
	uint64_t ghosts;   /* bytes that gone ones which are remembered had */
	uint32_t here;	   /* objects */
	uint32_t remembered;
	size_t memory; /* bytes that all of this takes */
};

/* ---- policies ---- */

/* By name; NULL: there is none.  Static. */
const struct ql_cache_policy *ql_cache_policy_find(const char *name);
/* The i-th; NULL: there are no more. */
const struct ql_cache_policy *ql_cache_policy_at(size_t i);
const char *ql_cache_policy_name(const struct ql_cache_policy *p);
/* Where it was published. */
const char *ql_cache_policy_source(const struct ql_cache_policy *p);
/* It is ours with something switched off, for measuring. */
bool ql_cache_policy_is_part(const struct ql_cache_policy *p);

/* ---- a cache ---- */

/* capacity: bytes.  -ENOMEM. */
int ql_cache_new(const struct ql_cache_policy *policy, uint64_t capacity,
		 struct ql_cache **ret_cache, struct ql_error *err);
void ql_cache_free(struct ql_cache *c);
static inline void ql_cache_freep(struct ql_cache **c)
{
	ql_cache_free(*c);
}

/* Somebody asks for an object.  -EINVAL (an id of 0), -ENOMEM; nothing has
 * changed then.  Amortised O(1) where the policy has lists, O(log n) where it
 * has an order. */
int ql_cache_access(struct ql_cache *c, const struct ql_cache_request *req,
		    enum ql_cache_result *ret_result, struct ql_error *err);
/* Whether more is here than fits and something may go, and what goes next.
 * Asking again before ql_cache_evict() gives the same. */
bool ql_cache_victim(struct ql_cache *c, uint64_t *ret_id);
/* What would go next, also where all fits (for gc). */
bool ql_cache_next(struct ql_cache *c, uint64_t *ret_id);
/* It is gone, and remembered as the policy does. */
void ql_cache_evict(struct ql_cache *c, uint64_t id);
/* It is gone and forgotten, whoever stood on it (rmi).  Unknown is fine. */
void ql_cache_remove(struct ql_cache *c, uint64_t id);
/* Held objects (mounted, pinned, on their way) never go; holds are counted
 * and are the caller's to make anew after a restart.  -ENOENT, -EOVERFLOW. */
int ql_cache_hold(struct ql_cache *c, uint64_t id);
void ql_cache_release(struct ql_cache *c, uint64_t id);
/* Up or down; victims follow. */
void ql_cache_resize(struct ql_cache *c, uint64_t capacity);

bool ql_cache_has(const struct ql_cache *c, uint64_t id);
void ql_cache_stats(const struct ql_cache *c, struct ql_cache_stats *ret);

/* ---- state ---- */

enum { QL_CACHE_RECORD = 80 }; /* bytes of an entry's record */

/* An entry that changed: its record, or NULL where it is forgotten.  Not 0:
 * stop, and hand out the rest (this one too) the next time. */
typedef int ql_cache_record_fn(uint64_t id, const uint8_t *record, void *arg);
/* What changed since the last call; O(changes). */
int ql_cache_changes(struct ql_cache *c, ql_cache_record_fn *fn, void *arg);
/* What belongs to no entry (clocks, sketches, learned figures), appended. */
int ql_cache_head(const struct ql_cache *c, struct ql_buf *buf);

/* A cache as it was: from the head and all records in any order, it decides as
 * the one did that gave them.  -EBADMSG: not such state, or another policy's;
 * -ENOMEM. */
int ql_cache_load_start(const struct ql_cache_policy *policy, const void *head,
			size_t len, struct ql_cache **ret_cache,
			struct ql_error *err);
int ql_cache_load_record(struct ql_cache *c, const void *record, size_t len,
			 struct ql_error *err);
int ql_cache_load_end(struct ql_cache *c, struct ql_error *err);

/* Every invariant: lists, sums, heap, children.  NULL, or what is wrong; for
 * tests. */
const char *ql_cache_check(const struct ql_cache *c);

#endif
