/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of a unit goes when it is here twice, plain and packed: the plain files
 * where nothing holds it (demotion), the packed frames where something does
 * (punching), and only then the unit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>

#include "tests/unit/evictlab.h"

/* The layer that image() makes of a seed, and of what name its blob is. */
static struct ql_layer_info layer_of(struct lab *lab, unsigned int seed)
{
	_cleanup_free_ char *name = ql_strf("layer %u", seed);
	struct ql_layer_info info;
	struct ql_digest id;

	tarball_must(name && ql_digest_of(name, strlen(name), &id) == 0);
	tarball_must(ql_layer_get(lab->store, &id, &info) == 0);
	return info;
}

/* The nth file of a layer comes packed, too. */
static void pack_nth(struct lab *lab, const struct ql_layer_info *layer,
		     unsigned int n, unsigned int seed)
{
	assert_int_equal(ql_packed_put(lab->store, &layer->blob,
				       layer->blob_size, (uint64_t)n * BIG,
				       noise(seed), BIG, &lab->err),
			 0);
	assert_int_equal(ql_packed_settle(lab->store, &lab->err), 0);
}

static void pack(struct lab *lab, unsigned int seed)
{
	struct ql_layer_info layer = layer_of(lab, seed);

	pack_nth(lab, &layer, 0, seed);
}

static bool is_packed(struct lab *lab, unsigned int seed)
{
	struct ql_layer_info layer = layer_of(lab, seed);

	return ql_packed_has(lab->store, &layer.blob, 0, BIG);
}

/* The counter says what a walk finds. */
static void is_counted(struct lab *lab)
{
	struct ql_space before, after;

	assert_int_equal(ql_space_get(lab->store, &before, &lab->err), 0);
	assert_int_equal(ql_space_recount(lab->store, &after, &lab->err), 0);
	assert_int_equal(before.used, after.used);
}

/* ---- demotion ---- */

static void what_is_packed_too_is_demoted_before_anything_is_lost(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_keep_stats stats;
	struct ql_digest m[3];

	(void)state;
	two_and_one(&lab, m);
	/* The one that is asked for most: the policy would take it last. */
	for (int i = 0; i < 5; i++)
		assert_int_equal(ql_keep_access(lab.store, &m[2], "three", 0,
						&lab.err),
				 0);
	pack(&lab, 4);
	assert_int_equal(squeeze(&lab, 4096, &stats), 0);
	assert_int_equal(stats.units, 0);
	assert_int_equal(stats.images, 0);
	assert_in_range(stats.demoted, BIG, BIG + 65536);
	assert_int_equal(stats.freed, stats.demoted);
	for (unsigned int i = 1; i < 4; i++)
		assert_true(is_here(&lab, i));
	assert_false(is_here(&lab, 4));
	assert_true(is_packed(&lab, 4));
	assert_int_equal(layer_flags(&lab, 4), QL_LAYER_LAZY);
	is_counted(&lab);
	is_sound(&lab);
	/* It stands for its files: nothing need come. */
	come(&lab, 4);
	assert_int_equal(squeeze(&lab, 4096, &stats), 0);
	assert_int_equal(stats.units, 0);
	is_sound(&lab);
}

static void what_is_packed_in_part_is_not_demoted(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_layer_info layer;
	struct ql_keep_stats stats;
	struct ql_digest m[3];

	(void)state;
	two_and_one(&lab, m);
	layer = layer_of(&lab, 4);
	assert_int_equal(ql_packed_put(lab.store, &layer.blob, layer.blob_size,
				       0, noise(4), BIG - 1, &lab.err),
			 0);
	assert_int_equal(ql_packed_settle(lab.store, &lab.err), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(ql_image_pin(lab.store, &m[i], true, &lab.err),
				 0);
	assert_int_equal(ql_image_pin(lab.store, &m[2], false, &lab.err), 0);
	assert_int_equal(squeeze(&lab, 4096, &stats), 0);
	assert_int_equal(stats.demoted, 0);
	assert_int_equal(stats.units, 1);
	assert_false(is_here(&lab, 4));
	is_counted(&lab);
	is_sound(&lab);
}

/* It is a file of two layers, of which one is packed. */
static void what_another_needs_plain_stays_plain(void **state)
{
	static const unsigned int both[] = { 7, 8 }, seven[] = { 7 };
	_cleanup_lab_ struct lab lab;
	struct ql_keep_stats stats;
	struct ql_layer_info info;
	struct ql_digest a, b, layer;

	(void)state;
	lab_init(&lab);
	limit(&lab, 64 << 20);
	lazy_layer(&lab, "both", both, 2);
	layer = lab.layers[0];
	come(&lab, 7);
	come(&lab, 8);
	tarball_must(lab_build(&lab, "a") == 0);
	a = lab.manifest;
	b = image(&lab, "b", seven, 1);
	assert_int_equal(ql_keep_access(lab.store, &a, "a", 0, &lab.err), 0);
	assert_int_equal(ql_keep_access(lab.store, &b, "b", 0, &lab.err), 0);
	assert_int_equal(ql_image_pin(lab.store, &b, true, &lab.err), 0);
	assert_int_equal(ql_layer_get(lab.store, &layer, &info), 0);
	pack_nth(&lab, &info, 0, 7);
	pack_nth(&lab, &info, 1, 8);
	assert_int_equal(squeeze(&lab, 4096, &stats), 0);
	assert_int_equal(stats.units, 0);
	assert_in_range(stats.demoted, BIG, BIG + 65536);
	assert_true(is_here(&lab, 7));
	assert_false(is_here(&lab, 8));
	is_sound(&lab);
}

/* ---- punching ---- */

static void what_is_held_and_plain_loses_its_frames(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_keep_stats stats;
	struct ql_digest m[3];

	(void)state;
	two_and_one(&lab, m);
	assert_int_equal(ql_image_pin(lab.store, &m[2], true, &lab.err), 0);
	pack(&lab, 4);
	assert_int_equal(squeeze(&lab, 4096, &stats), 0);
	assert_int_equal(stats.units, 0);
	assert_int_equal(stats.demoted, 0);
	assert_in_range(stats.punched, BIG - 8192, BIG + 65536);
	assert_int_equal(stats.freed, stats.punched);
	for (unsigned int i = 1; i < 5; i++)
		assert_true(is_here(&lab, i));
	assert_false(is_packed(&lab, 4));
	is_counted(&lab);
	is_sound(&lab);
}

static void a_frame_of_what_is_not_plain_stays(void **state)
{
	static const unsigned int three[] = { 5, 6, 7 };
	_cleanup_lab_ struct lab lab;
	struct ql_keep_stats stats;
	struct ql_layer_info info;
	struct ql_digest layer;
	char data[64];
	int fd;

	(void)state;
	lab_init(&lab);
	limit(&lab, 64 << 20);
	lazy_layer(&lab, "three", three, 3);
	layer = lab.layers[0];
	come(&lab, 5);
	come(&lab, 7);
	tarball_must(lab_build(&lab, "a") == 0);
	assert_int_equal(ql_image_pin(lab.store, &lab.manifest, true, &lab.err),
			 0);
	assert_int_equal(ql_layer_get(lab.store, &layer, &info), 0);
	for (unsigned int i = 0; i < 3; i++)
		pack_nth(&lab, &info, i, three[i]);
	/* More than punching can free. */
	assert_int_equal(squeeze(&lab, 3 * BIG, &stats), -ENOSPC);
	assert_in_range(stats.punched, 2 * BIG - 16384, 2 * BIG + 65536);
	assert_true(is_here(&lab, 5) && is_here(&lab, 7));
	assert_false(ql_packed_has(lab.store, &info.blob, 0, 1));
	assert_false(ql_packed_has(lab.store, &info.blob, 3 * BIG - 1, 1));
	assert_int_equal(ql_packed_open(lab.store, &info.blob, BIG, BIG, &fd,
					&lab.err),
			 0);
	assert_int_equal(ql_pread_full(fd, data, sizeof(data),
				       2 * BIG - sizeof(data)),
			 sizeof(data));
	(void)close(fd);
	assert_memory_equal(data, noise(6) + BIG - sizeof(data), sizeof(data));
	is_counted(&lab);
	is_sound(&lab);
}

/* ---- packed alone ---- */

static void what_is_packed_goes_with_its_layer(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_keep_stats stats;
	struct ql_layer_info info;
	unsigned int seed = 4;

	(void)state;
	lab_init(&lab);
	limit(&lab, 64 << 20);
	lazy_layer(&lab, "layer 4", &seed, 1);
	tarball_must(lab_build(&lab, "a") == 0);
	assert_int_equal(
		ql_keep_access(lab.store, &lab.manifest, "a", 0, &lab.err), 0);
	info = layer_of(&lab, 4);
	pack(&lab, 4);
	assert_int_equal(squeeze(&lab, 4096, &stats), 0);
	assert_int_equal(stats.units, 1);
	assert_in_range(stats.freed, BIG, BIG + 65536);
	assert_int_equal(ql_packed_bytes(lab.store, &info.blob), 0);
	assert_false(ql_packed_has(lab.store, &info.blob, 0, 1));
	is_counted(&lab);
	is_sound(&lab);
}

/* Two layers of one blob, of which one is held. */
static void what_another_reads_by_it_stays_packed(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_keep_stats stats;
	struct ql_layer_info info;
	struct ql_digest a;
	unsigned int seed = 7;

	(void)state;
	lab_init(&lab);
	limit(&lab, 64 << 20);
	lazy_layer(&lab, "a blob", &seed, 1);
	tarball_must(lab_build(&lab, "a") == 0);
	a = lab.manifest;
	lab_restart(&lab);
	lazy_layer(&lab, "b blob", &seed, 1);
	tarball_must(ql_layer_get(lab.store, &lab.layers[0], &info) == 0);
	tarball_must(lab_build(&lab, "b") == 0);
	assert_int_equal(ql_keep_access(lab.store, &a, "a", 0, &lab.err), 0);
	assert_int_equal(
		ql_keep_access(lab.store, &lab.manifest, "b", 0, &lab.err), 0);
	assert_int_equal(ql_image_pin(lab.store, &lab.manifest, true, &lab.err),
			 0);
	pack_nth(&lab, &info, 0, seed);
	assert_int_equal(squeeze(&lab, BIG, &stats), -ENOSPC);
	assert_int_equal(stats.units, 1);
	assert_true(ql_packed_has(lab.store, &info.blob, 0, BIG));
	is_counted(&lab);
	is_sound(&lab);
}

/* ---- the whole ---- */

struct plan {
	enum ql_keep_what what[16];
	uint64_t bytes[16];
	size_t n;
};

static int note_step(const struct ql_keep_step *step, void *arg)
{
	struct plan *plan = arg;

	if (plan->n == 16)
		return -ENOMEM;
	plan->what[plan->n] = step->what;
	plan->bytes[plan->n++] = step->bytes;
	return 0;
}

static void a_plan_and_an_eviction_demote_punch_and_drop_in_turn(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_keep_stats stats;
	struct plan plan = { .n = 0 };
	struct ql_space space;
	struct ql_digest m[3];
	uint64_t need;

	(void)state;
	two_and_one(&lab, m);
	pack(&lab, 3); /* of the second image: demoted */
	pack(&lab, 4); /* of the third: punched */
	assert_int_equal(ql_image_pin(lab.store, &m[2], true, &lab.err), 0);
	assert_int_equal(ql_space_recount(lab.store, &space, &lab.err), 0);
	need = space.budget - space.margin - space.used + 2 * BIG + 65536;
	assert_int_equal(
		ql_keep_plan(lab.store, need, note_step, &plan, &lab.err), 0);
	assert_int_equal(plan.n, 3);
	assert_int_equal(plan.what[0], QL_KEEP_DEMOTE);
	assert_int_equal(plan.what[1], QL_KEEP_PUNCH);
	assert_int_equal(plan.what[2], QL_KEEP_DROP);
	/* What is punched is not dropped once more. */
	for (size_t i = 0; i < plan.n; i++)
		assert_in_range(plan.bytes[i], BIG, BIG + 65536);
	for (unsigned int i = 1; i < 5; i++)
		assert_true(is_here(&lab, i));
	assert_true(is_packed(&lab, 3) && is_packed(&lab, 4));
	assert_int_equal(ql_keep_make_room(lab.store, need, &stats, &lab.err),
			 0);
	assert_in_range(stats.demoted, plan.bytes[0], plan.bytes[0] + 8192);
	assert_in_range(stats.punched, plan.bytes[1] - 8192,
			plan.bytes[1] + 8192);
	assert_int_equal(stats.units, 1);
	assert_true(is_here(&lab, 4));
	assert_false(is_here(&lab, 3) || is_packed(&lab, 4));
	is_counted(&lab);
	is_sound(&lab);
}

/* What is planned for 4 KiB more than there are, and then done. */
static void plan_and_do(struct lab *lab, struct plan *plan,
			struct ql_keep_stats *stats)
{
	struct ql_space space;
	uint64_t need;

	assert_int_equal(ql_space_recount(lab->store, &space, &lab->err), 0);
	need = space.budget - space.margin - space.used + 4096;
	assert_int_equal(
		ql_keep_plan(lab->store, need, note_step, plan, &lab->err), 0);
	assert_int_equal(ql_keep_make_room(lab->store, need, stats, &lab->err),
			 0);
	is_counted(lab);
	is_sound(lab);
}

static void a_plan_that_punching_is_enough_for_drops_nothing(void **state)
{
	/* All are held, or only the one that is packed, too. */
	for (int first = 0; first < 3; first += 2) {
		_cleanup_lab_ struct lab lab;
		struct ql_keep_stats stats;
		struct plan plan = { .n = 0 };
		struct ql_digest m[3];

		(void)state;
		two_and_one(&lab, m);
		for (int i = first; i < 3; i++)
			assert_int_equal(ql_image_pin(lab.store, &m[i], true,
						      &lab.err),
					 0);
		pack(&lab, 4);
		plan_and_do(&lab, &plan, &stats);
		assert_int_equal(stats.units, 0);
		assert_int_equal(plan.n, 1);
		assert_int_equal(plan.what[0], QL_KEEP_PUNCH);
		assert_in_range(stats.punched, plan.bytes[0] - 8192,
				plan.bytes[0] + 8192);
	}
}

/* All of it: the bytes of each step add up to what goes. */
static void a_plan_drops_what_it_has_demoted_and_counts_it_once(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_keep_stats stats;
	struct plan plan = { .n = 0 };
	uint64_t sum = 0, drops = 0;
	struct ql_space space;
	struct ql_digest m[3];

	(void)state;
	two_and_one(&lab, m);
	for (unsigned int i = 1; i < 5; i++)
		pack(&lab, i);
	assert_int_equal(ql_space_recount(lab.store, &space, &lab.err), 0);
	assert_int_equal(ql_keep_plan(lab.store, space.budget, note_step, &plan,
				      &lab.err),
			 -ENOSPC);
	for (size_t i = 0; i < plan.n; i++) {
		assert_int_not_equal(plan.what[i], QL_KEEP_PUNCH);
		assert_in_range(plan.bytes[i], BIG, BIG + 65536);
		drops += plan.what[i] == QL_KEEP_DROP;
		sum += plan.bytes[i];
	}
	assert_int_equal(drops, 4);
	assert_int_equal(ql_keep_make_room(lab.store, space.budget, &stats,
					   &lab.err),
			 -ENOSPC);
	assert_int_equal(stats.units, 4);
	assert_int_equal(stats.images, 3);
	assert_in_range(stats.freed, 8 * BIG, 8 * BIG + 4 * 65536);
	/* But for tables and trees, which a plan does not count. */
	assert_in_range(sum, stats.freed - 131072, stats.freed);
	is_counted(&lab);
	is_sound(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			what_is_packed_too_is_demoted_before_anything_is_lost),
		cmocka_unit_test(what_is_packed_in_part_is_not_demoted),
		cmocka_unit_test(what_another_needs_plain_stays_plain),
		cmocka_unit_test(what_is_held_and_plain_loses_its_frames),
		cmocka_unit_test(a_frame_of_what_is_not_plain_stays),
		cmocka_unit_test(what_is_packed_goes_with_its_layer),
		cmocka_unit_test(what_another_reads_by_it_stays_packed),
		cmocka_unit_test(
			a_plan_and_an_eviction_demote_punch_and_drop_in_turn),
		cmocka_unit_test(
			a_plan_that_punching_is_enough_for_drops_nothing),
		cmocka_unit_test(
			a_plan_drops_what_it_has_demoted_and_counts_it_once),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
