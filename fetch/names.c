/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A set of names that keeps 64 bits of each: enough to say that a name is new.
 * That it was seen may be wrong once in some 10^8 layers of a million names;
 * the layer is written in another way then, and just as good.
 */
#include "fetch/push-private.h"

#include <errno.h>

enum { NAMES_FIRST = 1 << 10 };

struct ql_names {
	uint64_t *slots; /* owned; 0: free */
	size_t size, n;
};

struct ql_names *ql_names_new(void)
{
	struct ql_names *names = calloc(1, sizeof(*names));

	if (!names)
		return NULL;
	names->size = NAMES_FIRST;
	names->slots = calloc(names->size, sizeof(*names->slots));
	if (names->slots)
		return names;
	free(names);
	return NULL;
}

void ql_names_free(struct ql_names *names)
{
	if (!names)
		return;
	free(names->slots);
	free(names);
}

/* FNV-1a, and a mixer (MurmurHash3's last step), never 0. */
static uint64_t hash_of(const char *name)
{
	uint64_t h = 0xcbf29ce484222325;

	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 0x100000001b3;
	h ^= h >> 33;
	h *= 0xff51afd7ed558ccd;
	h ^= h >> 33;
	return h ? h : 1;
}

/* The slot that has it, or where it belongs. */
static uint64_t *slot_of(uint64_t *slots, size_t size, uint64_t h)
{
	size_t i = (size_t)h & (size - 1);

	while (slots[i] != 0 && slots[i] != h)
		i = (i + 1) & (size - 1);
	return &slots[i];
}

static int names_grow(struct ql_names *names)
{
	size_t size = names->size * 2;
	uint64_t *slots = calloc(size, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	for (size_t i = 0; i < names->size; i++)
		if (names->slots[i])
			*slot_of(slots, size, names->slots[i]) =
				names->slots[i];
	free(names->slots);
	names->slots = slots;
	names->size = size;
	return 0;
}

int ql_names_add(struct ql_names *names, const char *name)
{
	uint64_t h = hash_of(name);
	uint64_t *slot;

	if (names->n >= names->size / 2 && names_grow(names) < 0)
		return -ENOMEM;
	slot = slot_of(names->slots, names->size, h);
	if (*slot == h)
		return 0;
	*slot = h;
	names->n++;
	return 1;
}
