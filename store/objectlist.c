/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The objects of a tree's files, each once, in the order in which the tree
 * first names them: a numbering that everybody who has the tree agrees on.
 */
#include "store/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LIST_FIRST = 1024 };

void ql_object_list_release(struct ql_object_list *list)
{
	free(list->items);
	free(list->slots);
	*list = (struct ql_object_list){ 0 };
}

static uint32_t *slot_of(const struct ql_object_list *list,
			 const struct ql_digest *digest)
{
	uint64_t hash;
	size_t i;

	memcpy(&hash, digest->bytes, sizeof(hash));
	for (i = hash & (list->n_slots - 1); list->slots[i] != 0;
	     i = (i + 1) & (list->n_slots - 1))
		if (ql_digest_equal(&list->items[list->slots[i] - 1].digest,
				    digest))
			break;
	return &list->slots[i];
}

/* Room for one more; the table of slots is at most half full. */
static int list_grow(struct ql_object_list *list)
{
	size_t cap = list->cap ? list->cap * 2 : LIST_FIRST;
	struct ql_object_item *items;
	uint32_t *slots;

	if (list->n < list->cap)
		return 0;
	items = reallocarray(list->items, cap, sizeof(*items));
	if (!items)
		return -ENOMEM;
	list->items = items;
	slots = calloc(2 * cap, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	free(list->slots);
	list->slots = slots;
	list->n_slots = 2 * cap;
	list->cap = cap;
	for (uint32_t i = 0; i < list->n; i++)
		*slot_of(list, &items[i].digest) = i + 1;
	return 0;
}

static int list_add(const struct ql_digest *digest, uint64_t size, void *arg)
{
	struct ql_object_list *list = arg;
	uint32_t *slot;
	int r = list_grow(list);

	if (r < 0)
		return r;
	list->bytes += size;
	slot = slot_of(list, digest);
	if (*slot != 0)
		return 0;
	list->items[list->n++] = (struct ql_object_item){ *digest, size };
	*slot = list->n;
	return 0;
}

int ql_object_list_init(const struct ql_tree *tree,
			struct ql_object_list *ret_list, struct ql_error *err)
{
	struct ql_object_list list = { 0 };
	int r = ql_tree_each_object(tree, list_add, &list);

	if (r < 0) {
		ql_object_list_release(&list);
		return ql_error_errno(err, r, "read a tree's files");
	}
	*ret_list = list;
	return 0;
}

int ql_object_list_find(const struct ql_object_list *list,
			const struct ql_digest *digest, uint32_t *ret_index)
{
	uint32_t at = list->n_slots > 0 ? *slot_of(list, digest) : 0;

	if (at == 0)
		return -ENOENT;
	*ret_index = at - 1;
	return 0;
}
