/* SPDX-License-Identifier: Apache-2.0 */
/*
 * refactor/cover.c: which layers to make.  Small cases are compared with the
 * exact optimum, which tries every family of layers and, for each group, every
 * way to put it together.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "refactor/cover.h"
#include "refactor/imagesets.h"

enum { IMAGES_MAX = 4, SUBSETS = 1 << IMAGES_MAX, GROUPS_MAX = SUBSETS };

struct small { /* a problem of few images */
	uint32_t n_images, n_groups;
	uint32_t limits[IMAGES_MAX];
	uint64_t bits[GROUPS_MAX]; /* of each group, one word */
	uint64_t bytes[GROUPS_MAX];
	uint64_t layer_cost;
};

static int solve(const struct small *s, struct ql_cover *ret)
{
	struct ql_cover_group groups[GROUPS_MAX];
	struct ql_cover_problem p = { .n_images = s->n_images,
				      .limits = s->limits,
				      .groups = groups,
				      .n_groups = s->n_groups,
				      .layer_cost = s->layer_cost };
	struct ql_error err = QL_ERROR_INIT;

	for (uint32_t g = 0; g < s->n_groups; g++)
		groups[g] = (struct ql_cover_group){ &s->bits[g], s->bytes[g] };
	return ql_cover_solve(&p, ret, &err);
}

/* ---- what any answer must be ---- */

static void assert_valid(const struct small *s, const struct ql_cover *c)
{
	uint64_t cost = s->layer_cost * (c->n_layers - s->n_images);
	uint32_t used[IMAGES_MAX] = { 0 };

	for (uint32_t i = 0; i < s->n_images; i++)
		assert_int_equal(c->layers[i], 1U << i);
	for (uint32_t l = 0; l < c->n_layers; l++)
		for (uint32_t i = 0; i < s->n_images; i++)
			used[i] += (uint32_t)(c->layers[l] >> i & 1);
	for (uint32_t i = 0; i < s->n_images; i++)
		assert_true(used[i] <= s->limits[i]);
	for (uint32_t g = 0; g < s->n_groups; g++) {
		uint64_t seen = 0;

		for (uint32_t k = c->start[g]; k < c->start[g + 1]; k++) {
			assert_true(c->list[k] < c->n_layers);
			assert_int_equal(seen & c->layers[c->list[k]], 0);
			seen |= c->layers[c->list[k]];
			cost += s->bytes[g];
		}
		assert_int_equal(seen, s->bits[g]);
	}
	assert_int_equal(c->cost, cost);
}

/* ---- the optimum ---- */

/* The fewest layers of a family (bits of subsets) that are a set. */
static uint32_t fewest(uint32_t family, uint32_t set, uint32_t *memo)
{
	uint32_t first = set & -set, best = UINT32_MAX;

	if (set == 0)
		return 0;
	if (memo[set])
		return memo[set];
	for (uint32_t sub = set; sub; sub = (sub - 1) & set) {
		bool single = (sub & (sub - 1)) == 0;

		if ((sub & first) && (single || family >> sub & 1)) {
			uint32_t n = 1 + fewest(family, set & ~sub, memo);

			best = n < best ? n : best;
		}
	}
	memo[set] = best;
	return best;
}

/* UINT64_MAX: it breaks a limit. */
static uint64_t family_cost(const struct small *s, uint32_t family)
{
	uint32_t memo[SUBSETS] = { 0 };
	uint64_t cost = 0;

	for (uint32_t i = 0; i < s->n_images; i++) {
		uint32_t used = 1;

		for (uint32_t sub = 0; sub < SUBSETS; sub++)
			used += (family >> sub & 1) && (sub >> i & 1);
		if (used > s->limits[i])
			return UINT64_MAX;
	}
	for (uint32_t sub = 0; sub < SUBSETS; sub++)
		cost += (family >> sub & 1) ? s->layer_cost : 0;
	for (uint32_t g = 0; g < s->n_groups; g++)
		cost += s->bytes[g] *
			fewest(family, (uint32_t)s->bits[g], memo);
	return cost;
}

static uint64_t optimum(const struct small *s)
{
	uint64_t best = UINT64_MAX;

	for (uint32_t family = 0; family < 1U << SUBSETS; family++) {
		uint64_t cost;
		bool plain = true;

		for (uint32_t sub = 0; sub < SUBSETS && plain; sub++)
			plain = !(family >> sub & 1) ||
				((sub & (sub - 1)) && sub < 1U << s->n_images);
		cost = plain ? family_cost(s, family) : UINT64_MAX;
		best = cost < best ? cost : best;
	}
	return best;
}

/* ---- tests ---- */

static uint32_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(*state >> 33);
}

/* Every set of several images has files, of very different sizes. */
static void random_problem(uint64_t *state, struct small *s)
{
	*s = (struct small){ .n_images = 3 + next_random(state) % 2 };
	for (uint32_t i = 0; i < s->n_images; i++)
		s->limits[i] = 1 + next_random(state) % 5;
	for (uint32_t set = 1; set < 1U << s->n_images; set++) {
		if (next_random(state) % 5 == 0)
			continue;
		s->bits[s->n_groups] = set;
		s->bytes[s->n_groups++] = 1 + (next_random(state) % 1000
					       << next_random(state) % 12);
	}
	s->layer_cost = next_random(state) % 2 ? 0 : 5000;
}

static void test_near_the_optimum(void **state)
{
	enum { CASES = 60 };
	uint64_t random = 1, found = 0, best = 0;
	double worst = 1;
	uint32_t exact = 0;

	(void)state;
	for (uint32_t i = 0; i < CASES; i++) {
		struct ql_cover c;
		struct small s;
		uint64_t cost;

		random_problem(&random, &s);
		assert_int_equal(solve(&s, &c), 0);
		assert_valid(&s, &c);
		cost = optimum(&s);
		assert_true(c.cost >= cost);
		exact += c.cost == cost;
		found += c.cost;
		best += cost;
		if (cost > 0 && (double)c.cost / (double)cost > worst)
			worst = (double)c.cost / (double)cost;
		ql_cover_release(&c);
	}
	print_message("%u of %d are the optimum; all together %.4f of it, at "
		      "worst %.4f\n",
		      exact, CASES, (double)found / (double)best, worst);
	assert_true(exact >= CASES * 9 / 10);
	assert_true((double)found <= 1.01 * (double)best);
}

static void test_each_group_its_layer_without_a_limit(void **state)
{
	struct small s = { .n_images = 3,
			   .n_groups = 4,
			   .limits = { 9, 9, 9 },
			   .bits = { 7, 3, 5, 4 },
			   .bytes = { 100, 10, 20, 5 } };
	struct ql_cover c;

	(void)state;
	assert_int_equal(solve(&s, &c), 0);
	assert_valid(&s, &c);
	assert_int_equal(c.cost, 135);
	assert_int_equal(c.n_layers, 6);
	ql_cover_release(&c);
}

static void test_one_layer_an_image(void **state)
{
	struct small s = { .n_images = 3,
			   .n_groups = 3,
			   .limits = { 1, 1, 1 },
			   .bits = { 7, 3, 4 },
			   .bytes = { 100, 10, 5 } };
	struct ql_cover c;

	(void)state;
	assert_int_equal(solve(&s, &c), 0);
	assert_valid(&s, &c);
	assert_int_equal(c.n_layers, 3);
	assert_int_equal(c.cost, 325);
	ql_cover_release(&c);
}

static void test_a_layer_pays_for_itself(void **state)
{
	struct small s = { .n_images = 2,
			   .n_groups = 1,
			   .limits = { 9, 9 },
			   .bits = { 3 },
			   .bytes = { 100 },
			   .layer_cost = 101 };
	struct ql_cover c;

	(void)state;
	assert_int_equal(solve(&s, &c), 0);
	assert_valid(&s, &c);
	assert_int_equal(c.n_layers, 2);
	ql_cover_release(&c);
	s.layer_cost = 99;
	assert_int_equal(solve(&s, &c), 0);
	assert_valid(&s, &c);
	assert_int_equal(c.n_layers, 3);
	ql_cover_release(&c);
}

/* Two sets that cannot both stay have a part in common, which is none of
 * them. */
static void test_a_common_part_is_found(void **state)
{
	struct small s = { .n_images = 4,
			   .n_groups = 2,
			   .limits = { 2, 2, 2, 2 },
			   .bits = { 7, 11 },
			   .bytes = { 1000, 1000 } };
	struct ql_cover c;

	(void)state;
	assert_int_equal(solve(&s, &c), 0);
	assert_valid(&s, &c);
	assert_int_equal(c.cost, 4000);
	assert_int_equal(c.cost, optimum(&s));
	ql_cover_release(&c);
}

static void test_nothing(void **state)
{
	struct small s = { .n_images = 1, .limits = { 1 } };
	struct ql_cover c;

	(void)state;
	assert_int_equal(solve(&s, &c), 0);
	assert_int_equal(c.n_layers, 1);
	ql_cover_release(&c);
	s.n_images = 0;
	assert_int_equal(solve(&s, &c), 0);
	assert_int_equal(c.n_layers, 0);
	ql_cover_release(&c);
	s.n_images = 1;
	s.limits[0] = 0;
	assert_int_equal(solve(&s, &c), -EINVAL);
}

/* A large set of images, with nothing regular about it. */
static void test_many(void **state)
{
	enum { IMAGES = 70, GROUPS = 800 };
	static uint64_t bits[GROUPS][2];
	static struct ql_cover_group groups[GROUPS];
	uint32_t limits[IMAGES], used[IMAGES] = { 0 };
	struct ql_imagesets sets;
	struct ql_cover_problem p = { .n_images = IMAGES,
				      .limits = limits,
				      .groups = groups,
				      .layer_cost = 1 };
	struct ql_error err = QL_ERROR_INIT;
	struct ql_cover c;
	uint64_t random = 7, begin = ql_now_ns();

	(void)state;
	ql_imagesets_init(&sets, IMAGES);
	for (uint32_t i = 0; i < IMAGES; i++)
		limits[i] = 20;
	for (uint32_t g = 0; g < GROUPS; g++) {
		uint32_t n = 1 + next_random(&random) % 30, number;

		while (n-- > 0)
			ql_bits_put(bits[g], next_random(&random) % IMAGES);
		assert_int_equal(ql_imagesets_add(&sets, bits[g], &number), 0);
		if (number + 1 < sets.n)
			continue;
		groups[p.n_groups++] =
			(struct ql_cover_group){ bits[g], next_random(&random) %
								  100000 };
	}
	assert_int_equal(ql_cover_solve(&p, &c, &err), 0);
	for (uint32_t l = 0; l < c.n_layers; l++)
		for (uint32_t i = 0; i < IMAGES; i++)
			used[i] += ql_bits_has(c.layers + (uint64_t)l * 2, i);
	for (uint32_t i = 0; i < IMAGES; i++)
		assert_true(used[i] <= 20);
	print_message("%u groups, %d images: %.2f s\n", p.n_groups, IMAGES,
		      (double)(ql_now_ns() - begin) / 1e9);
	ql_cover_release(&c);
	ql_imagesets_release(&sets);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_near_the_optimum),
		cmocka_unit_test(test_each_group_its_layer_without_a_limit),
		cmocka_unit_test(test_one_layer_an_image),
		cmocka_unit_test(test_a_layer_pays_for_itself),
		cmocka_unit_test(test_a_common_part_is_found),
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_many),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
