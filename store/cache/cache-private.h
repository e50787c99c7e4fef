/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the policies share: entries in one array (so that they are named by
 * 32-bit slots, 0 being none), found by id, in doubly linked lists that know
 * their bytes, and in one heap.  A policy is a table of functions over it.
 *
 * Order in a list is order of stamps, the head having the highest; a list can
 * therefore be made again from its entries, and moving one changes one record.
 */
#ifndef QL_CACHE_PRIVATE_H
#define QL_CACHE_PRIVATE_H

#include "store/base/base.h"
#include "store/cache/cache.h"

enum ql_cache_list_id {
	QL_LIST_NONE,
	QL_LIST_1, /* these three hold what is here */
	QL_LIST_2,
	QL_LIST_3,
	QL_LIST_GHOST_1, /* these what is remembered */
	QL_LIST_GHOST_2,
	QL_LISTS,
};

struct ql_cache_entry {
	uint64_t id;
	uint64_t size;
	uint64_t cost;
	uint64_t parent; /* id */
	uint64_t family;
	uint64_t stamp;
	double key;    /* in the heap: the lowest goes first */
	uint64_t when; /* the policy's: clock of its last use */
	float rate;    /* the policy's */
	uint32_t prev, next;
	uint32_t chain;	   /* the next of the same hash; free ones too */
	uint32_t base;	   /* slot of the parent while it and this are here */
	uint32_t children; /* that are here and have this as their base */
	uint32_t heap;	   /* position; 0: not in it */
	uint32_t count;	   /* the policy's, as all that follows */
	uint32_t kin;	   /* slot in the policy's table of families */
	uint32_t kin_prev, kin_next;
	uint32_t holds;
	uint8_t list;
	uint8_t mark;
	bool dirty;
};

struct ql_cache_list {
	uint64_t bytes;
	uint32_t head, tail;
	uint32_t n;
};

struct ql_cache {
	const struct ql_cache_policy *policy;
	struct ql_cache_entry *e; /* owned; [0] is none */
	uint32_t *table;	  /* owned; slots by hash, a power of two */
	uint32_t *heap;		  /* owned; [1]... */
	uint32_t *dirty;	  /* owned; slots */
	uint64_t *gone;		  /* owned; ids that were forgotten */
	uint32_t cap, used_slots, free_slot, free_n, table_size;
	uint32_t heap_n, dirty_n, gone_n, gone_cap, n;
	uint64_t capacity;
	uint64_t stamp;
	uint64_t clock;	 /* requests */
	uint32_t newest; /* slot that is being made room for; 0: none */
	struct ql_cache_list lists[QL_LISTS];
	bool tracking; /* changes are wanted */
	void *state;   /* owned by the policy */
	/* Figures of the policy's that are part of the head. */
	double f[4];
	uint64_t u[4];
};

struct ql_cache_policy {
	const char *name;
	const char *source;
	unsigned int parts; /* ours: what is on; 0: all others */
	bool part;	    /* ours with something off */
	bool heap;	    /* what is here is in the heap, */
	bool stacks;	    /* only if nothing stands on it */
	int (*init)(struct ql_cache *c);
	void (*release)(struct ql_cache *c);
	/* Room for what the next access may need; -ENOMEM. */
	int (*prepare)(struct ql_cache *c);
	void (*hit)(struct ql_cache *c, uint32_t i,
		    const struct ql_cache_request *req);
	/* In no list yet; was in `from` (a ghost list, or none). */
	void (*enter)(struct ql_cache *c, uint32_t i, uint8_t from,
		      const struct ql_cache_request *req);
	uint32_t (*victim)(struct ql_cache *c); /* 0: nothing may go */
	/* Was taken from `from`; puts it into a ghost list, or forgets it. */
	void (*evict)(struct ql_cache *c, uint32_t i, uint8_t from);
	/* The following may be NULL. */
	void (*leave)(struct ql_cache *c, uint32_t i);	/* before it is taken
							 * from what is here */
	void (*forget)(struct ql_cache *c, uint32_t i); /* before it is */
	void (*held)(struct ql_cache *c, uint32_t i); /* or free to go again */
	int (*save)(const struct ql_cache *c, struct ql_buf *buf);
	int (*load)(struct ql_cache *c, struct ql_cursor *in);
	/* All entries are there; once each, in the order of their stamps. */
	void (*loaded)(struct ql_cache *c, uint32_t i);
	size_t (*memory)(const struct ql_cache *c);
};

static inline bool ql_list_is_here(uint8_t list)
{
	return list >= QL_LIST_1 && list <= QL_LIST_3;
}

/* ---- cache.c ---- */

/* Room for so many more entries; -ENOMEM. */
int ql_cache_reserve(struct ql_cache *c, uint32_t slots);
/* A new one, in no list; room was reserved. */
uint32_t ql_cache_add(struct ql_cache *c, uint64_t id);
void ql_cache_stand(struct ql_cache *c, uint32_t i, uint32_t base);
uint32_t ql_cache_find(const struct ql_cache *c, uint64_t id);
void ql_cache_forget(struct ql_cache *c, uint32_t i); /* in no list */
/* Bytes of what is here. */
uint64_t ql_cache_used(const struct ql_cache *c);
uint32_t ql_cache_here(const struct ql_cache *c);
/* The record of this one has to be written. */
void ql_cache_changed(struct ql_cache *c, uint32_t i);

/* ---- list.c ---- */

void ql_list_push(struct ql_cache *c, uint32_t i, uint8_t list); /* head */
void ql_list_take(struct ql_cache *c, uint32_t i);
void ql_list_move(struct ql_cache *c, uint32_t i, uint8_t list);
/* From the tail, the first that nothing holds; 0: none. */
uint32_t ql_list_last_free(const struct ql_cache *c, uint8_t list);
/* Forgets from the tail while the list has more bytes. */
void ql_list_trim(struct ql_cache *c, uint8_t list, uint64_t bytes);
/* Appends by stamps: for loading. */
void ql_list_append(struct ql_cache *c, uint32_t i);

/* ---- heap.c ---- */

void ql_heap_set(struct ql_cache *c, uint32_t i, double key); /* in or moved */
void ql_heap_take(struct ql_cache *c, uint32_t i); /* not in it is fine */
/* The lowest that nothing holds; 0: none. */
uint32_t ql_heap_first_free(struct ql_cache *c);

/* ---- the policies ---- */

extern const struct ql_cache_policy ql_cache_lru, ql_cache_lfu, ql_cache_gdsf,
	ql_cache_arc, ql_cache_s3fifo, ql_cache_sieve, ql_cache_wtinylfu;
extern const struct ql_cache_policy ql_cache_ours[];

#endif
