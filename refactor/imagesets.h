/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets of images, as bits, each different one kept once and known by a number.
 * Part of refactor/refactor-private.h; include that.
 */
#ifndef QL_IMAGESETS_H
#define QL_IMAGESETS_H

#include <stdbool.h>
#include <stdint.h>

static inline bool ql_bits_has(const uint64_t *bits, uint32_t i)
{
	return bits[i / 64] >> (i % 64) & 1;
}

static inline void ql_bits_put(uint64_t *bits, uint32_t i)
{
	bits[i / 64] |= (uint64_t)1 << (i % 64);
}

static inline uint32_t ql_bits_words(uint32_t n)
{
	return (n + 63) / 64;
}

uint32_t ql_bits_count(const uint64_t *bits, uint32_t words);
/* All of a is in b. */
bool ql_bits_subset(const uint64_t *a, const uint64_t *b, uint32_t words);
/* UINT32_MAX: it is empty. */
uint32_t ql_bits_first(const uint64_t *bits, uint32_t words);

struct ql_imagesets {
	uint32_t words; /* in each set */
	uint32_t n, cap;
	uint64_t *bits;	 /* owned; n times words */
	uint32_t *slots; /* owned; numbers plus one, by hash */
	uint32_t n_slots;
};

void ql_imagesets_init(struct ql_imagesets *sets, uint32_t n_members);
void ql_imagesets_release(struct ql_imagesets *sets);
/* 0 or -ENOMEM. */
int ql_imagesets_add(struct ql_imagesets *sets, const uint64_t *bits,
		     uint32_t *ret_number);
/* Borrowed until the next one is added. */
static inline const uint64_t *ql_imagesets_get(const struct ql_imagesets *sets,
					       uint32_t number)
{
	return sets->bits + (uint64_t)number * sets->words;
}

#endif
