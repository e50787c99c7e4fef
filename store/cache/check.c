/* SPDX-License-Identifier: Apache-2.0 */
/* Every invariant of a cache, for tests. */
#include "store/cache/cache-private.h"

static const char *check_list(const struct ql_cache *c, uint8_t list,
			      uint32_t *n)
{
	const struct ql_cache_list *l = &c->lists[list];
	uint64_t bytes = 0;
	uint32_t here = 0;
	uint32_t prev = 0;

	for (uint32_t i = l->head; i; prev = i, i = c->e[i].next) {
		const struct ql_cache_entry *e = &c->e[i];

		if (++here > c->n || e->list != list || e->prev != prev)
			return "a list is not linked";
		if (prev && c->e[prev].stamp <= e->stamp)
			return "a list is not in the order of its stamps";
		if (ql_cache_find(c, e->id) != i)
			return "an entry of a list is not found";
		bytes += e->size;
	}
	*n += here;
	return here != l->n || bytes != l->bytes || l->tail != prev
		       ? "a list's sums are wrong"
		       : NULL;
}

static const char *check_heap(const struct ql_cache *c)
{
	for (uint32_t at = 1; at <= c->heap_n; at++) {
		const struct ql_cache_entry *e = &c->e[c->heap[at]];
		const struct ql_cache_entry *up = &c->e[c->heap[at / 2]];

		if (e->heap != at || !ql_list_is_here(e->list))
			return "the heap has what is not here";
		if (at > 1 && up->key > e->key)
			return "the heap is not in order";
		if (c->policy->stacks && e->children)
			return "the heap has a base";
	}
	return NULL;
}

static const char *check_entry(const struct ql_cache *c, uint32_t i)
{
	const struct ql_cache_entry *e = &c->e[i];

	if (!e->id)
		return NULL;
	if (e->base &&
	    (!ql_list_is_here(c->e[e->base].list) || !ql_list_is_here(e->list)))
		return "a layer stands on what is not here";
	if (c->policy->heap && ql_list_is_here(e->list) && !e->heap &&
	    !e->holds && !(c->policy->stacks && e->children))
		return "the heap lacks what may go";
	return NULL;
}

const char *ql_cache_check(const struct ql_cache *c)
{
	const char *wrong = NULL;
	uint32_t n = 0;

	for (uint8_t list = QL_LIST_1; !wrong && list < QL_LISTS; list++)
		wrong = check_list(c, list, &n);
	if (!wrong && n != c->n)
		wrong = "entries are in no list";
	if (!wrong)
		wrong = check_heap(c);
	for (uint32_t i = 1; !wrong && i < c->used_slots; i++)
		wrong = check_entry(c, i);
	return wrong;
}
