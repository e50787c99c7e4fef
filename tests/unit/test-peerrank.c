/* SPDX-License-Identifier: Apache-2.0 */
/* Which node a region belongs to: spread evenly, and moved as little as can be;
 * and what follows from what was measured. */
#include "fetch/peer-private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants those first */
#include <cmocka.h>

enum { NODES = 10, BLOBS = 50, REGIONS = 400 };

static struct ql_digest blob_of(int n)
{
	struct ql_digest d;

	assert_int_equal(ql_digest_of(&n, sizeof(n), &d), 0);
	return d;
}

/* Among n nodes, the one called `without` (-1: none) left out. */
static int owner(int n, int without, const struct ql_digest *blob,
		 uint64_t region)
{
	uint64_t most = 0;
	int best = -1;

	for (int i = 0; i < n; i++) {
		char id[32];
		uint64_t weight;

		(void)snprintf(id, sizeof(id), "node-%d", i);
		weight = ql_peer_weight(id, blob, region);
		if (i != without && (best < 0 || weight > most)) {
			most = weight;
			best = i;
		}
	}
	return best;
}

static void regions_are_spread_evenly(void **state)
{
	int count[NODES] = { 0 };

	(void)state;
	for (int b = 0; b < BLOBS; b++) {
		struct ql_digest blob = blob_of(b);

		for (uint64_t r = 0; r < REGIONS; r++)
			count[owner(NODES, -1, &blob, r)]++;
	}
	for (int i = 0; i < NODES; i++) {
		int fair = BLOBS * REGIONS / NODES;

		assert_in_range(count[i], fair * 93 / 100, fair * 107 / 100);
	}
}

/* Also the regions of one blob are, and the first regions of many. */
static void one_blob_is_spread_too(void **state)
{
	int first[NODES] = { 0 }, one[NODES] = { 0 };

	(void)state;
	for (int b = 0; b < 4000; b++) {
		struct ql_digest blob = blob_of(b), same = blob_of(0);

		first[owner(NODES, -1, &blob, 0)]++;
		one[owner(NODES, -1, &same, (uint64_t)b)]++;
	}
	for (int i = 0; i < NODES; i++) {
		assert_in_range(first[i], 320, 480);
		assert_in_range(one[i], 320, 480);
	}
}

static void what_others_have_stays(void **state)
{
	int moved = 0;

	(void)state;
	for (int b = 0; b < BLOBS; b++) {
		struct ql_digest blob = blob_of(b);

		for (uint64_t r = 0; r < REGIONS; r++) {
			int before = owner(NODES, -1, &blob, r);
			int after = owner(NODES, 3, &blob, r);

			if (before == 3)
				moved++;
			else
				assert_int_equal(before, after);
		}
	}
	assert_in_range(moved, BLOBS * REGIONS / NODES * 9 / 10,
			BLOBS * REGIONS / NODES * 11 / 10);
}

static void what_a_node_had_goes_to_all(void **state)
{
	int heirs[NODES] = { 0 };

	(void)state;
	for (int b = 0; b < BLOBS; b++) {
		struct ql_digest blob = blob_of(b);

		for (uint64_t r = 0; r < REGIONS; r++)
			if (owner(NODES, -1, &blob, r) == 3)
				heirs[owner(NODES, 3, &blob, r)]++;
	}
	for (int i = 0; i < NODES; i++)
		assert_in_range(heirs[i], i == 3 ? 0 : 160, i == 3 ? 0 : 290);
}

static void near_and_fast_is_cheap(void **state)
{
	(void)state;
	assert_true(ql_peer_cost(1000000, 1 << 20, 4096) <
		    ql_peer_cost(20000000, 100 << 20, 4096));
	assert_true(ql_peer_cost(1000000, 1 << 20, 100 << 20) >
		    ql_peer_cost(20000000, 100 << 20, 100 << 20));
	assert_int_equal(ql_peer_cost(5, 1000000000, 7), 12);
	assert_true(ql_peer_cost(1, 1, UINT64_MAX) > 0);
}

static void what_is_measured_is_smoothed(void **state)
{
	uint64_t v = ql_peer_smooth(0, 800);

	(void)state;
	assert_int_equal(v, 800);
	assert_int_equal(ql_peer_smooth(v, 1600), 900);
	for (int i = 0; i < 100; i++)
		v = ql_peer_smooth(v, 8000);
	assert_in_range(v, 7900, 8000);
}

static void who_lies_on_waits_longer(void **state)
{
	(void)state;
	assert_int_equal(ql_peer_penalty(1), 1000000000);
	assert_int_equal(ql_peer_penalty(2), 2000000000);
	assert_int_equal(ql_peer_penalty(5), 16000000000);
	assert_int_equal(ql_peer_penalty(100), 600000000000);
	assert_int_equal(ql_peer_penalty(0), 1000000000);
}

/* Half of what the registry gives, or the others do, whichever is less. */
static void slow_is_less_than_half_of_others(void **state)
{
	(void)state;
	assert_false(ql_peer_is_slower(1000, 0, 2000));
	assert_true(ql_peer_is_slower(999, 0, 2000));
	assert_false(ql_peer_is_slower(600, 1000, 1000000));
	assert_true(ql_peer_is_slower(400, 1000, 1000000));
	assert_false(ql_peer_is_slower(400, 1000000, 800));
	/* Nothing is known of the registry. */
	assert_true(ql_peer_is_slower(32767, 0, 0));
	assert_false(ql_peer_is_slower(32768, 0, 0));
	assert_false(ql_peer_is_slower(500, 1000, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(slow_is_less_than_half_of_others),
		cmocka_unit_test(regions_are_spread_evenly),
		cmocka_unit_test(one_blob_is_spread_too),
		cmocka_unit_test(what_others_have_stays),
		cmocka_unit_test(what_a_node_had_goes_to_all),
		cmocka_unit_test(near_and_fast_is_cheap),
		cmocka_unit_test(what_is_measured_is_smoothed),
		cmocka_unit_test(who_lies_on_waits_longer),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
