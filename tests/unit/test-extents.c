/* SPDX-License-Identifier: Apache-2.0 */
/* Which parts of a file are there: against a bitmap that says the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/store.h"

enum { SPACE = 300, STEPS = 400 };

static uint32_t next(uint32_t *seed)
{
	*seed = *seed * 1664525U + 1013904223U;
	return *seed >> 8;
}

/* Ascending, apart from each other, none empty. */
static void check_form(const struct ql_extents *e)
{
	for (size_t i = 0; i < e->n; i++) {
		assert_true(e->items[i].start < e->items[i].end);
		if (i > 0)
			assert_true(e->items[i - 1].end < e->items[i].start);
	}
}

static void check_map(const struct ql_extents *e, const bool map[SPACE])
{
	uint64_t bytes = 0;

	check_form(e);
	for (uint64_t i = 0; i < SPACE; i++) {
		assert_int_equal(ql_extents_have(e, i, i + 1), map[i]);
		bytes += map[i];
	}
	assert_int_equal(ql_extents_bytes(e), bytes);
}

static bool map_have(const bool map[SPACE], size_t start, size_t end)
{
	for (size_t i = start; i < end; i++)
		if (!map[i])
			return false;
	return true;
}

static size_t map_reach(const bool map[SPACE], size_t start)
{
	while (start < SPACE && map[start])
		start++;
	return start;
}

static void random_seed(uint32_t seed)
{
	struct ql_extents e = { 0 };
	bool map[SPACE] = { false };

	for (int step = 0; step < STEPS; step++) {
		size_t start = next(&seed) % SPACE;
		size_t end = start + next(&seed) % (step % 4 ? 4 : 30);

		if (end > SPACE)
			end = SPACE;
		assert_int_equal(ql_extents_have(&e, start, end),
				 map_have(map, start, end));
		assert_int_equal(ql_extents_reach(&e, start),
				 map_reach(map, start));
		if (next(&seed) % 3 == 0)
			continue;
		assert_int_equal(ql_extents_add(&e, start, end), 0);
		memset(map + start, true, end - start);
		check_form(&e);
		if (step % 16 == 0)
			check_map(&e, map);
	}
	check_map(&e, map);
	ql_extents_release(&e);
	assert_int_equal(e.n, 0);
}

static void as_a_bitmap_says(void **state)
{
	const char *more = getenv("QL_SEEDS");
	uint32_t seeds = more ? (uint32_t)strtoul(more, NULL, 10) * 10 : 40;

	(void)state;
	for (uint32_t seed = 1; seed <= seeds; seed++)
		random_seed(seed);
}

static void touching_ones_are_one(void **state)
{
	struct ql_extents e = { 0 };

	(void)state;
	assert_int_equal(ql_extents_add(&e, 10, 20), 0);
	assert_int_equal(ql_extents_add(&e, 30, 40), 0);
	assert_int_equal(e.n, 2);
	assert_int_equal(ql_extents_add(&e, 20, 30), 0);
	assert_int_equal(e.n, 1);
	assert_true(ql_extents_have(&e, 10, 40));
	assert_false(ql_extents_have(&e, 9, 11));
	assert_false(ql_extents_have(&e, 39, 41));
	ql_extents_release(&e);
}

static void nothing_is_always_there(void **state)
{
	struct ql_extents e = { 0 };

	(void)state;
	assert_int_equal(ql_extents_add(&e, 5, 5), 0);
	assert_int_equal(ql_extents_add(&e, 7, 5), 0);
	assert_int_equal(e.n, 0);
	assert_int_equal(ql_extents_reach(&e, 5), 5);
	assert_int_equal(ql_extents_reach(&e, UINT64_MAX), UINT64_MAX);
	assert_true(ql_extents_have(&e, 5, 5));
	assert_false(ql_extents_have(&e, 5, 6));
	assert_int_equal(ql_extents_add(&e, 0, UINT64_MAX), 0);
	assert_true(ql_extents_have(&e, UINT64_MAX - 1, UINT64_MAX));
	assert_int_equal(ql_extents_bytes(&e), UINT64_MAX);
	ql_extents_release(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_a_bitmap_says),
		cmocka_unit_test(touching_ones_are_one),
		cmocka_unit_test(nothing_is_always_there),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
