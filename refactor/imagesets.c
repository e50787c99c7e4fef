/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of images; an open-addressed table of numbers finds them again. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "refactor/imagesets.h"

enum { FIRST_SLOTS = 256, SETS_MAX = 1 << 26 };

uint32_t ql_bits_count(const uint64_t *bits, uint32_t words)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < words; i++)
		n += (uint32_t)__builtin_popcountll(bits[i]);
	return n;
}

bool ql_bits_subset(const uint64_t *a, const uint64_t *b, uint32_t words)
{
	for (uint32_t i = 0; i < words; i++)
		if (a[i] & ~b[i])
			return false;
	return true;
}

uint32_t ql_bits_first(const uint64_t *bits, uint32_t words)
{
	for (uint32_t i = 0; i < words; i++)
		if (bits[i])
			return i * 64 + (uint32_t)__builtin_ctzll(bits[i]);
	return UINT32_MAX;
}

void ql_imagesets_init(struct ql_imagesets *sets, uint32_t n_members)
{
	*sets = (struct ql_imagesets){ .words = ql_bits_words(n_members) };
}

void ql_imagesets_release(struct ql_imagesets *sets)
{
	free(sets->bits);
	free(sets->slots);
	*sets = (struct ql_imagesets){ .words = sets->words };
}

static uint32_t slot_of(const struct ql_imagesets *sets, const uint64_t *bits)
{
	uint64_t h = 0;

	for (uint32_t i = 0; i < sets->words; i++)
		h = (h ^ bits[i]) * 0x9e3779b97f4a7c15ULL;
	return (uint32_t)(h >> 32) & (sets->n_slots - 1);
}

/* The slot that has these bits, or the empty one where they belong. */
static uint32_t slot_find(const struct ql_imagesets *sets, const uint64_t *bits)
{
	uint32_t at = slot_of(sets, bits);

	while (sets->slots[at] != 0 &&
	       memcmp(ql_imagesets_get(sets, sets->slots[at] - 1), bits,
		      sets->words * sizeof(*bits)) != 0)
		at = (at + 1) & (sets->n_slots - 1);
	return at;
}

static int slots_grow(struct ql_imagesets *sets)
{
	uint32_t n = sets->n_slots ? sets->n_slots * 2 : FIRST_SLOTS;
	uint32_t *slots = calloc(n, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	free(sets->slots);
	sets->slots = slots;
	sets->n_slots = n;
	for (uint32_t i = 0; i < sets->n; i++)
		slots[slot_find(sets, ql_imagesets_get(sets, i))] = i + 1;
	return 0;
}

int ql_imagesets_add(struct ql_imagesets *sets, const uint64_t *bits,
		     uint32_t *ret_number)
{
	uint32_t at;

	if (sets->n * 2 >= sets->n_slots && slots_grow(sets) < 0)
		return -ENOMEM;
	at = slot_find(sets, bits);
	if (sets->slots[at] != 0) {
		*ret_number = sets->slots[at] - 1;
		return 0;
	}
	if (sets->n == sets->cap) {
		uint32_t cap = sets->cap ? sets->cap * 2 : FIRST_SLOTS / 2;
		uint64_t *grown;

		if (cap > SETS_MAX)
			return -ENOMEM;
		grown = reallocarray(sets->bits, cap,
				     sets->words * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		sets->bits = grown;
		sets->cap = cap;
	}
	memcpy(sets->bits + (uint64_t)sets->n * sets->words, bits,
	       sets->words * sizeof(*bits));
	sets->slots[at] = sets->n + 1;
	*ret_number = sets->n++;
	return 0;
}
