/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of entries, each with its bytes; an entry is in one at most. */
#include "store/cache/cache-private.h"

static void link_at_head(struct ql_cache *c, uint32_t i, uint8_t list)
{
	struct ql_cache_list *l = &c->lists[list];
	struct ql_cache_entry *e = &c->e[i];

	e->list = list;
	e->prev = 0;
	e->next = l->head;
	if (l->head)
		c->e[l->head].prev = i;
	else
		l->tail = i;
	l->head = i;
	l->n++;
	l->bytes += e->size;
}

void ql_list_push(struct ql_cache *c, uint32_t i, uint8_t list)
{
	c->e[i].stamp = ++c->stamp;
	link_at_head(c, i, list);
	ql_cache_changed(c, i);
}

void ql_list_append(struct ql_cache *c, uint32_t i)
{
	link_at_head(c, i, c->e[i].list);
}

void ql_list_take(struct ql_cache *c, uint32_t i)
{
	struct ql_cache_entry *e = &c->e[i];
	struct ql_cache_list *l = &c->lists[e->list];

	if (e->list == QL_LIST_NONE)
		return;
	if (e->prev)
		c->e[e->prev].next = e->next;
	else
		l->head = e->next;
	if (e->next)
		c->e[e->next].prev = e->prev;
	else
		l->tail = e->prev;
	l->n--;
	l->bytes -= e->size;
	e->list = QL_LIST_NONE;
	e->prev = e->next = 0;
}

void ql_list_move(struct ql_cache *c, uint32_t i, uint8_t list)
{
	ql_list_take(c, i);
	ql_list_push(c, i, list);
}

uint32_t ql_list_last_free(const struct ql_cache *c, uint8_t list)
{
	uint32_t i = c->lists[list].tail;

	while (i && c->e[i].holds)
		i = c->e[i].prev;
	return i;
}

void ql_list_trim(struct ql_cache *c, uint8_t list, uint64_t bytes)
{
	while (c->lists[list].bytes > bytes && c->lists[list].tail) {
		uint32_t i = c->lists[list].tail;

		ql_list_take(c, i);
		ql_cache_forget(c, i);
	}
}
