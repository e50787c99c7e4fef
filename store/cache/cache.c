/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is the same for all policies: entries and how they are found, requests
 * and departures, and which layer stands on which.
 *
 * A layer stands on its base only as long as both are here, and only if the
 * base was here first: an entry that comes has nothing on it, so the relation
 * cannot have a circle, whatever the requests say.
 */
#include "store/cache/cache-private.h"

#include <errno.h>
#include <string.h>

enum { FIRST_SLOTS = 64, MOST_SLOTS = 1 << 28 };

/* ids are digests' bytes in the main, but need not be. */
static uint32_t hash(const struct ql_cache *c, uint64_t id)
{
	id = (id ^ (id >> 32)) * 0x9e3779b97f4a7c15U;
	return (uint32_t)(id >> 32) & (c->table_size - 1);
}

uint32_t ql_cache_find(const struct ql_cache *c, uint64_t id)
{
	uint32_t i = c->table[hash(c, id)];

	while (i && c->e[i].id != id)
		i = c->e[i].chain;
	return i;
}

/* ---- memory ---- */

static int grow_array(void *array, size_t size, size_t n)
{
	void **p = array;
	void *grown = reallocarray(*p, n, size);

	if (!grown)
		return -ENOMEM;
	*p = grown;
	return 0;
}

static int grow_table(struct ql_cache *c)
{
	uint32_t size = c->table_size;
	uint32_t *table;

	while (size < c->cap)
		size *= 2;
	if (size == c->table_size)
		return 0;
	table = calloc(size, sizeof(*table));
	if (!table)
		return -ENOMEM;
	free(c->table);
	c->table = table;
	c->table_size = size;
	for (uint32_t i = 1; i < c->used_slots; i++) {
		uint32_t h = hash(c, c->e[i].id);

		if (!c->e[i].id)
			continue; /* in the chain of free ones */
		c->e[i].chain = table[h];
		table[h] = i;
	}
	return 0;
}

/* By a quarter: entries are what the memory goes into. */
static int grow_slots(struct ql_cache *c)
{
	uint32_t cap = c->cap + c->cap / 4;

	if (cap > MOST_SLOTS)
		return -ENOMEM;
	if (grow_array(&c->e, sizeof(*c->e), cap) < 0 ||
	    grow_array(&c->heap, sizeof(*c->heap), (size_t)cap + 1) < 0 ||
	    (c->tracking && grow_array(&c->dirty, sizeof(*c->dirty), cap) < 0))
		return -ENOMEM;
	c->cap = cap;
	return 0;
}

int ql_cache_reserve(struct ql_cache *c, uint32_t slots)
{
	int r = 0;

	while (r == 0 && (c->free_n < slots) &&
	       c->cap - c->used_slots < slots - c->free_n)
		r = grow_slots(c);
	if (r == 0)
		r = grow_table(c);
	if (r == 0 && c->tracking && c->gone_n + c->n + slots > c->gone_cap) {
		uint32_t cap = 2 * (c->gone_n + c->n + slots);

		r = grow_array(&c->gone, sizeof(*c->gone), cap);
		if (r == 0)
			c->gone_cap = cap;
	}
	return r;
}

uint32_t ql_cache_add(struct ql_cache *c, uint64_t id)
{
	uint32_t i = c->free_slot;
	uint32_t h = hash(c, id);
	bool dirty = false;

	if (i) {
		c->free_slot = c->e[i].chain;
		c->free_n--;
		dirty = c->e[i].dirty;
	} else {
		i = c->used_slots++;
	}
	c->e[i] = (struct ql_cache_entry){ .id = id,
					   .chain = c->table[h],
					   .dirty = dirty };
	c->table[h] = i;
	c->n++;
	return i;
}

void ql_cache_changed(struct ql_cache *c, uint32_t i)
{
	if (!c->tracking || c->e[i].dirty)
		return;
	c->e[i].dirty = true;
	c->dirty[c->dirty_n++] = i;
}

/* The slot stays dirty if it was: whoever has it next is handed out then. */
void ql_cache_forget(struct ql_cache *c, uint32_t i)
{
	struct ql_cache_entry *e = &c->e[i];
	uint32_t *link = &c->table[hash(c, e->id)];

	if (c->policy->forget)
		c->policy->forget(c, i);
	while (*link != i)
		link = &c->e[*link].chain;
	*link = e->chain;
	if (c->tracking)
		c->gone[c->gone_n++] = e->id;
	ql_heap_take(c, i);
	e->id = 0;
	e->chain = c->free_slot;
	c->free_slot = i;
	c->free_n++;
	c->n--;
}

int ql_cache_new(const struct ql_cache_policy *policy, uint64_t capacity,
		 struct ql_cache **ret_cache, struct ql_error *err)
{
	_cleanup_(ql_cache_freep) struct ql_cache *c = calloc(1, sizeof(*c));

	if (!c)
		return ql_error_nomem(err);
	c->policy = policy;
	c->capacity = capacity;
	c->cap = c->table_size = FIRST_SLOTS;
	c->used_slots = 1;
	c->e = calloc(c->cap, sizeof(*c->e));
	c->table = calloc(c->table_size, sizeof(*c->table));
	c->heap = calloc((size_t)c->cap + 1, sizeof(*c->heap));
	if (!c->e || !c->table || !c->heap ||
	    (policy->init && policy->init(c) < 0))
		return ql_error_nomem(err);
	*ret_cache = ql_take_ptr(c);
	return 0;
}

void ql_cache_free(struct ql_cache *c)
{
	if (!c)
		return;
	if (c->policy->release)
		c->policy->release(c);
	free(c->e);
	free(c->table);
	free(c->heap);
	free(c->dirty);
	free(c->gone);
	free(c);
}

/* ---- stacks ---- */

void ql_cache_stand(struct ql_cache *c, uint32_t i, uint32_t base)
{
	c->e[i].base = base;
	if (base && c->e[base].children++ == 0 && c->policy->held)
		c->policy->held(c, base);
}

static void step_off(struct ql_cache *c, uint32_t i)
{
	uint32_t base = c->e[i].base;

	c->e[i].base = 0;
	if (base && --c->e[base].children == 0 && c->policy->held)
		c->policy->held(c, base);
}

static void stand_on_parent(struct ql_cache *c, uint32_t i, uint64_t parent)
{
	uint32_t base = parent ? ql_cache_find(c, parent) : 0;

	c->e[i].parent = parent;
	if (c->policy->stacks && base && base != i &&
	    ql_list_is_here(c->e[base].list))
		ql_cache_stand(c, i, base);
}

/* Rare: whoever stood on it stands on nothing. */
static void drop_children(struct ql_cache *c, uint32_t base)
{
	for (uint32_t i = 1; i < c->used_slots && c->e[base].children; i++)
		if (c->e[i].id && c->e[i].base == base) {
			c->e[i].base = 0;
			c->e[base].children--;
			ql_cache_changed(c, i);
		}
}

/* ---- requests ---- */

int ql_cache_access(struct ql_cache *c, const struct ql_cache_request *req,
		    enum ql_cache_result *ret_result, struct ql_error *err)
{
	uint32_t i;
	uint8_t from = QL_LIST_NONE;

	if (req->id == 0)
		return ql_error_set(err, -EINVAL, "a cached object's id is 0");
	if (ql_cache_reserve(c, 4) < 0 ||
	    (c->policy->prepare && c->policy->prepare(c) < 0))
		return ql_error_nomem(err);
	c->clock++;
	c->newest = 0;
	i = ql_cache_find(c, req->id);
	if (i && ql_list_is_here(c->e[i].list)) {
		c->e[i].cost = req->cost;
		c->policy->hit(c, i, req);
		ql_cache_changed(c, i);
		*ret_result = QL_CACHE_HIT;
		return 0;
	}
	if (req->size > c->capacity) {
		*ret_result = QL_CACHE_LARGE;
		return 0;
	}
	if (i) {
		from = c->e[i].list;
		ql_list_take(c, i);
	} else {
		i = ql_cache_add(c, req->id);
	}
	c->e[i].size = req->size;
	c->e[i].cost = req->cost;
	stand_on_parent(c, i, req->parent);
	c->newest = i;
	c->policy->enter(c, i, from, req);
	ql_cache_changed(c, i);
	*ret_result = QL_CACHE_ENTER;
	return 0;
}

uint64_t ql_cache_used(const struct ql_cache *c)
{
	return c->lists[QL_LIST_1].bytes + c->lists[QL_LIST_2].bytes +
	       c->lists[QL_LIST_3].bytes;
}

uint32_t ql_cache_here(const struct ql_cache *c)
{
	return c->lists[QL_LIST_1].n + c->lists[QL_LIST_2].n +
	       c->lists[QL_LIST_3].n;
}

bool ql_cache_next(struct ql_cache *c, uint64_t *ret_id)
{
	uint32_t i = c->policy->victim(c);

	if (!i)
		return false;
	*ret_id = c->e[i].id;
	return true;
}

bool ql_cache_victim(struct ql_cache *c, uint64_t *ret_id)
{
	return ql_cache_used(c) > c->capacity && ql_cache_next(c, ret_id);
}

/* Of what is here: out of its list, off its base. */
static uint8_t leave(struct ql_cache *c, uint32_t i)
{
	uint8_t from = c->e[i].list;

	if (c->policy->leave)
		c->policy->leave(c, i);
	if (c->e[i].children)
		drop_children(c, i);
	step_off(c, i);
	ql_list_take(c, i);
	ql_heap_take(c, i);
	c->e[i].holds = 0;
	if (c->newest == i)
		c->newest = 0;
	return from;
}

void ql_cache_evict(struct ql_cache *c, uint64_t id)
{
	uint32_t i = ql_cache_find(c, id);

	if (!i || !ql_list_is_here(c->e[i].list))
		return;
	c->policy->evict(c, i, leave(c, i));
}

void ql_cache_remove(struct ql_cache *c, uint64_t id)
{
	uint32_t i = ql_cache_find(c, id);

	if (!i || !ql_list_is_here(c->e[i].list))
		return;
	(void)leave(c, i);
	ql_cache_forget(c, i);
}

int ql_cache_hold(struct ql_cache *c, uint64_t id)
{
	uint32_t i = ql_cache_find(c, id);

	if (!i || !ql_list_is_here(c->e[i].list))
		return -ENOENT;
	if (c->e[i].holds == UINT32_MAX)
		return -EOVERFLOW;
	if (c->e[i].holds++ == 0 && c->policy->held)
		c->policy->held(c, i);
	return 0;
}

void ql_cache_release(struct ql_cache *c, uint64_t id)
{
	uint32_t i = ql_cache_find(c, id);

	if (!i || !c->e[i].holds)
		return;
	if (--c->e[i].holds == 0 && c->policy->held)
		c->policy->held(c, i);
}

void ql_cache_resize(struct ql_cache *c, uint64_t capacity)
{
	c->capacity = capacity;
}

bool ql_cache_has(const struct ql_cache *c, uint64_t id)
{
	uint32_t i = ql_cache_find(c, id);

	return i && ql_list_is_here(c->e[i].list);
}

void ql_cache_stats(const struct ql_cache *c, struct ql_cache_stats *ret)
{
	size_t slot = sizeof(*c->e) + sizeof(*c->heap) +
		      (c->tracking ? sizeof(*c->dirty) : 0);

	*ret = (struct ql_cache_stats){
		.used = ql_cache_used(c),
		.capacity = c->capacity,
		.ghosts = c->lists[QL_LIST_GHOST_1].bytes +
			  c->lists[QL_LIST_GHOST_2].bytes,
		.here = ql_cache_here(c),
		.remembered = c->lists[QL_LIST_GHOST_1].n +
			      c->lists[QL_LIST_GHOST_2].n,
		.memory = sizeof(*c) + c->cap * slot +
			  c->table_size * sizeof(*c->table) +
			  c->gone_cap * sizeof(*c->gone) +
			  (c->policy->memory ? c->policy->memory(c) : 0),
	};
}
