/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/keep*.c: what goes when room is needed, what does not, and what a
 * crash in between leaves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/file.h>
#include <time.h>

#include "tests/unit/evictlab.h"

/* ---- who goes ---- */

static void without_need_nothing_goes(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_keep_stats stats;
	struct ql_digest m[3];

	(void)state;
	two_and_one(&lab, m);
	assert_int_equal(ql_keep_make_room(lab.store, BIG, &stats, &lab.err),
			 0);
	assert_int_equal(stats.freed, 0);
	is_sound(&lab);
}

static void a_leaf_goes_before_its_base(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_keep_stats stats;
	struct ql_digest m[3];

	(void)state;
	two_and_one(&lab, m);
	/* What is asked for again and again stays. */
	for (int i = 0; i < 4; i++)
		for (int k = 1; k < 3; k++)
			assert_int_equal(ql_keep_access(lab.store, &m[k],
							k == 1 ? "two"
							       : "three",
							0, &lab.err),
					 0);
	assert_int_equal(squeeze(&lab, 4096, &stats), 0);
	assert_int_equal(stats.units, 1);
	assert_in_range(stats.freed, BIG, BIG + 65536);
	assert_false(is_here(&lab, 2));
	assert_true(is_here(&lab, 1) && is_here(&lab, 3) && is_here(&lab, 4));
	assert_int_equal(layer_flags(&lab, 2), QL_LAYER_LAZY | QL_LAYER_GONE);
	is_sound(&lab);
}

/* What is asked for as often, by the stack alone. */
static void a_stack_goes_from_its_top(void **state)
{
	static const unsigned int stack[] = { 11, 12, 13 };
	_cleanup_lab_ struct lab lab;
	struct ql_keep_stats stats;
	struct ql_digest m;

	(void)state;
	lab_init(&lab);
	limit(&lab, 64 << 20);
	m = image(&lab, "stack", stack, 3);
	assert_int_equal(ql_keep_access(lab.store, &m, "stack", 0, &lab.err),
			 0);
	for (int left = 2; left > 0; left--) {
		assert_int_equal(squeeze(&lab, 4096, &stats), 0);
		assert_int_equal(stats.units, 1);
		for (int i = 0; i < 3; i++)
			assert_int_equal(is_here(&lab, stack[i]), i < left);
	}
	is_sound(&lab);
}

/* Not every object is to come back for more. */
static void a_little_more_goes_than_lacks(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_keep_stats stats;
	struct ql_digest m[3];

	(void)state;
	two_and_one(&lab, m);
	limit(&lab, 256 << 20);
	assert_int_equal(squeeze(&lab, 4096, &stats), 0);
	assert_in_range(stats.freed, 2 * BIG, 2 * BIG + 65536);
}

static void what_nothing_is_left_of_is_removed(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_image_info info;
	struct ql_digest found, m[3];
	struct ql_keep_stats stats;

	(void)state;
	two_and_one(&lab, m);
	assert_int_equal(squeeze(&lab, 4 * BIG - 8192, &stats), 0);
	assert_int_equal(stats.images, 3);
	assert_int_equal(ql_image_get(lab.store, &m[0], &info), -ENOENT);
	assert_int_equal(ql_image_find(lab.store, "one", &found), -ENOENT);
	for (unsigned int i = 1; i < 5; i++)
		assert_false(is_here(&lab, i));
	is_sound(&lab);
	/* And comes again. */
	m[0] = image(&lab, "one", ONE, 2);
	assert_int_equal(ql_keep_access(lab.store, &m[0], "one", 0, &lab.err),
			 0);
	is_sound(&lab);
}

static void what_is_gone_comes_back_by_an_open(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_keep_stats stats;
	struct ql_digest m[3];
	bool whole = true;

	(void)state;
	two_and_one(&lab, m);
	assert_int_equal(squeeze(&lab, 4096, &stats), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(ql_keep_open(lab.store, &m[i], &lab.err), 0);
	for (unsigned int i = 1; i < 5; i++) {
		assert_int_equal(layer_flags(&lab, i) & QL_LAYER_GONE, 0);
		come(&lab, i);
	}
	for (int i = 0; i < 3; i++) {
		assert_int_equal(ql_image_mark_whole(lab.store, &m[i], &whole,
						     &lab.err),
				 0);
		assert_true(whole);
	}
	is_sound(&lab);
}

/* A layer that went is not whole by what others keep of it. */
static void shared_objects_stay(void **state)
{
	static const unsigned int both[] = { 7, 8 };
	_cleanup_lab_ struct lab lab;
	struct ql_keep_stats stats;
	struct ql_digest a, b;
	bool whole = true;

	(void)state;
	lab_init(&lab);
	limit(&lab, 64 << 20);
	lazy_layer(&lab, "both", both, 2);
	come(&lab, 7);
	come(&lab, 8);
	tarball_must(lab_build(&lab, "a") == 0);
	a = lab.manifest;
	b = image(&lab, "b", &both[0], 1);
	assert_int_equal(ql_keep_access(lab.store, &a, "a", 0, &lab.err), 0);
	assert_int_equal(ql_keep_access(lab.store, &b, "b", 0, &lab.err), 0);
	assert_int_equal(ql_image_pin(lab.store, &b, true, &lab.err), 0);
	assert_int_equal(squeeze(&lab, 4096, &stats), 0);
	assert_true(is_here(&lab, 7));
	assert_false(is_here(&lab, 8));
	is_sound(&lab);
	(void)ql_image_mark_whole(lab.store, &a, &whole, &lab.err);
	assert_int_equal(ql_image_pin(lab.store, &b, false, &lab.err), 0);
	assert_int_equal(squeeze(&lab, 4096, &stats), 0);
	assert_false(is_here(&lab, 7));
	is_sound(&lab);
}

/* As an eviction does it, and no other. */
static void mark_gone(struct lab *lab, const struct ql_digest *diff_id)
{
	_cleanup_(ql_object_set_release) struct ql_object_set set = { 0 };
	struct ql_tree *tree = NULL;
	struct ql_layer_info info;
	struct ql_txn *txn;

	tarball_must(ql_tree_open_layer(lab->store, diff_id, &tree, NULL) == 0);
	tarball_must(ql_object_set_from_tree(tree, &set, NULL) == 0);
	ql_tree_close(tree);
	tarball_must(ql_txn_begin(lab->store->catalog, true, &txn, NULL) == 0);
	tarball_must(ql_record_get_layer(txn, diff_id, &info) == 0);
	tarball_must(ql_refs_gone(txn, &set, true, NULL, NULL) == 0);
	info.flags |= QL_LAYER_LAZY | QL_LAYER_GONE;
	tarball_must(ql_record_put_layer(txn, &info, NULL) == 0);
	tarball_must(ql_txn_commit(txn, NULL) == 0);
}

/* All of it is here, but only as others need it. */
static void what_is_gone_is_not_whole_by_others(void **state)
{
	static const unsigned int both[] = { 7, 8 };
	_cleanup_lab_ struct lab lab;
	struct ql_layer_info info;
	struct ql_keep_stats stats;
	struct ql_digest a, b, layer;
	bool whole = true;

	(void)state;
	lab_init(&lab);
	limit(&lab, 64 << 20);
	lazy_layer(&lab, "both", both, 2);
	layer = lab.layers[0];
	/* Another one with it, so that it is not removed altogether. */
	lazy_layer(&lab, "more", &ONE[0], 1);
	for (unsigned int i = 7; i < 9; i++)
		come(&lab, i);
	come(&lab, 1);
	tarball_must(lab_build(&lab, "a") == 0);
	a = lab.manifest;
	b = image(&lab, "b", both, 2);
	assert_int_equal(ql_keep_access(lab.store, &a, "a", 0, &lab.err), 0);
	assert_int_equal(ql_keep_access(lab.store, &b, "b", 0, &lab.err), 0);
	assert_int_equal(ql_image_pin(lab.store, &b, true, &lab.err), 0);
	mark_gone(&lab, &layer);
	assert_int_equal(ql_image_mark_whole(lab.store, &a, &whole, &lab.err),
			 0);
	assert_false(whole);
	assert_int_equal(ql_layer_get(lab.store, &layer, &info), 0);
	assert_int_equal(info.flags, QL_LAYER_LAZY | QL_LAYER_GONE);
	assert_int_equal(ql_image_pin(lab.store, &b, false, &lab.err), 0);
	assert_int_equal(squeeze(&lab, BIG + 4096, &stats), 0);
	is_sound(&lab);
}

/* What has come of a file, and what is recorded of it. */
static void a_part_of_a_file_goes_with_its_layer(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_(ql_extents_release) struct ql_extents e = { 0 };
	struct ql_digest five = noise_digest(5);
	struct ql_partial_state p = { .digest = five, .extents = &e };
	struct ql_keep_stats stats;
	unsigned int seed = 5;
	uint64_t had;

	(void)state;
	lab_init(&lab);
	limit(&lab, 64 << 20);
	lazy_layer(&lab, "layer 5", &seed, 1);
	tarball_must(lab_build(&lab, "a") == 0);
	assert_int_equal(
		ql_keep_access(lab.store, &lab.manifest, "a", 0, &lab.err), 0);
	assert_int_equal(
		ql_partial_open(lab.store, &five, BIG, &p.fd, &e, &lab.err), 0);
	assert_int_equal(pwrite(p.fd, noise(5), BIG / 2, 0), BIG / 2);
	assert_int_equal(ql_extents_add(&e, 0, BIG / 2), 0);
	assert_int_equal(ql_store_settle(lab.store, NULL, 0, &p, 1, &lab.err),
			 0);
	(void)close(p.fd);
	had = ql_partial_disk(lab.store, &five);
	assert_in_range(had, BIG / 2, BIG / 2 + 8192);
	assert_int_equal(squeeze(&lab, 4096, &stats), 0);
	assert_in_range(stats.freed, had, had + 65536);
	assert_int_equal(ql_partial_disk(lab.store, &five), 0);
	assert_int_equal(ql_partial_bytes(lab.store, &five), 0);
	is_sound(&lab);
}

/* ---- who does not ---- */

static void what_is_held_stays(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_keep_status status;
	struct ql_keep_stats stats;
	struct ql_tree *tree;
	struct ql_digest m[3];

	(void)state;
	two_and_one(&lab, m);
	assert_int_equal(ql_image_pin(lab.store, &m[0], true, &lab.err), 0);
	assert_int_equal(ql_tree_open_image(lab.store, &m[1], &tree, &lab.err),
			 0);
	assert_int_equal(ql_image_promise(lab.store, &m[2],
					  (uint64_t)time(NULL) + 60, &lab.err),
			 0);
	assert_int_equal(squeeze(&lab, BIG, &stats), -ENOSPC);
	assert_non_null(strstr(lab.err.text, "pinned"));
	assert_int_equal(stats.freed, 0);
	for (unsigned int i = 1; i < 5; i++)
		assert_true(is_here(&lab, i));
	assert_int_equal(ql_keep_status(lab.store, &status, &lab.err), 0);
	assert_int_equal(status.refused, 1);
	assert_non_null(strstr(status.refusal, "promised"));
	assert_true(status.pinned > 0 && status.mounted > 0 &&
		    status.promised > 0);
	assert_int_equal(status.evictable, 0);
	ql_tree_close(tree);
	assert_int_equal(squeeze(&lab, BIG / 2, &stats), 0);
	assert_false(is_here(&lab, 3));
	assert_true(is_here(&lab, 1));
	assert_int_equal(ql_image_promise(lab.store, &m[2], 0, &lab.err), 0);
	assert_int_equal(squeeze(&lab, BIG / 2, &stats), 0);
	assert_false(is_here(&lab, 4));
	is_sound(&lab);
}

struct let_go {
	struct ql_tree *tree; /* owned */
	int asked;
};

static bool let_go(void *arg)
{
	struct let_go *lg = arg;

	lg->asked++;
	ql_tree_close(ql_take_ptr(lg->tree));
	return true;
}

/* Before anybody is refused. */
static void who_holds_for_nobody_is_asked_to_let_go(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct let_go lg = { 0 };
	struct ql_keep_status status;
	struct ql_keep_stats stats;
	struct ql_digest m[3];

	(void)state;
	two_and_one(&lab, m);
	assert_int_equal(
		ql_tree_open_image(lab.store, &m[2], &lg.tree, &lab.err), 0);
	ql_keep_relief(lab.store, let_go, &lg);
	assert_int_equal(squeeze(&lab, 2 * BIG, &stats), 0);
	assert_int_equal(lg.asked, 0);
	assert_true(is_here(&lab, 4));
	assert_int_equal(squeeze(&lab, 2 * BIG - 16384, &stats), 0);
	assert_int_equal(lg.asked, 1);
	assert_false(is_here(&lab, 4));
	/* Nobody was refused, then. */
	assert_int_equal(ql_keep_status(lab.store, &status, &lab.err), 0);
	assert_int_equal(status.refused, 0);
	is_sound(&lab);
	assert_int_equal(squeeze(&lab, BIG, &stats), -ENOSPC);
	assert_int_equal(lg.asked, 2);
	assert_int_equal(ql_keep_status(lab.store, &status, &lab.err), 0);
	assert_int_equal(status.refused, 1);
	ql_keep_relief(lab.store, NULL, NULL);
}

/* A pull counts on it, or it is shown alone. */
static void a_layer_that_is_held_stays(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_keep_stats stats;
	struct ql_digest m[3], layer;
	int fd = -1;

	(void)state;
	two_and_one(&lab, m);
	tarball_must(ql_digest_of("layer 2", 7, &layer) == 0);
	assert_int_equal(ql_layer_hold(lab.store, &layer, &fd), 0);
	assert_int_equal(squeeze(&lab, 4 * BIG - 8192, &stats), -ENOSPC);
	assert_true(is_here(&lab, 2));
	assert_int_equal(layer_flags(&lab, 2), QL_LAYER_LAZY);
	for (unsigned int i = 3; i < 5; i++)
		assert_false(is_here(&lab, i));
	is_sound(&lab);
	(void)close(fd);
	assert_int_equal(squeeze(&lab, BIG - 8192, &stats), 0);
	assert_false(is_here(&lab, 2));
	is_sound(&lab);
}

static void a_layer_of_no_image_stays_while_it_may_come_to_one(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_remove_stats removed;
	struct ql_keep_stats stats;
	unsigned int seed = 9;
	int lock = -1;

	(void)state;
	lab_init(&lab);
	limit(&lab, 64 << 20);
	lazy_layer(&lab, "layer 9", &seed, 1);
	come(&lab, 9);
	assert_int_equal(squeeze(&lab, 4096, &stats), -ENOSPC);
	assert_true(is_here(&lab, 9));
	assert_int_equal(ql_store_lock(lab.store, false, &lock, &lab.err), 0);
	assert_int_equal(ql_store_gc(lab.store, false, NULL, NULL, &removed,
				     &lab.err),
			 -EAGAIN);
	(void)close(lock);
	assert_int_equal(ql_store_gc(lab.store, true, NULL, NULL, &removed,
				     &lab.err),
			 0);
	assert_true(is_here(&lab, 9));
	assert_int_equal(ql_store_gc(lab.store, false, NULL, NULL, &removed,
				     &lab.err),
			 0);
	assert_false(is_here(&lab, 9));
	is_sound(&lab);
}

/* ---- promises ---- */

static void a_promise_outlasts_a_jump_and_ends(void **state)
{
	enum { HOUR = 3600, MADE = 1000000 };
	_cleanup_lab_ struct lab lab;
	uint64_t until = 0, now = (uint64_t)time(NULL);
	struct ql_digest m[3];

	(void)state;
	/* The machine runs on: its own clock alone counts. */
	assert_int_equal(ql_promise_left(MADE + HOUR, MADE, 60, true, 0),
			 HOUR - 60);
	assert_int_equal(ql_promise_left(MADE + HOUR, MADE, 60, true,
					 UINT64_MAX),
			 HOUR - 60);
	assert_int_equal(ql_promise_left(MADE + HOUR, MADE, HOUR, true, MADE),
			 0);
	/* It was started again. */
	assert_int_equal(ql_promise_left(MADE + HOUR, MADE, 0, false,
					 MADE + 60),
			 HOUR - 60);
	assert_int_equal(
		ql_promise_left(MADE + HOUR, MADE, 0, false, MADE + HOUR), 0);
	assert_int_equal(ql_promise_left(MADE + HOUR, MADE, 0, false, 0), HOUR);
	two_and_one(&lab, m);
	assert_int_equal(ql_image_promise(lab.store, &m[0],
					  now + QL_PROMISE_MAX + 100, &lab.err),
			 -ERANGE);
	assert_int_equal(ql_image_promise(lab.store, &m[0], now + 60, &lab.err),
			 0);
	assert_int_equal(ql_image_promised(lab.store, &m[0], &until, &lab.err),
			 0);
	assert_in_range(until, now + 50, now + 70);
	assert_int_equal(ql_image_promise(lab.store, &m[0], 0, &lab.err), 0);
	assert_int_equal(ql_image_promised(lab.store, &m[0], &until, &lab.err),
			 0);
	assert_int_equal(until, 0);
	memset(&m[0], 0, sizeof(m[0]));
	assert_int_equal(ql_image_promise(lab.store, &m[0], now + 60, &lab.err),
			 -ENOENT);
}

/* As keephold.c writes it, of another start of the machine. */
static void put_promise(struct lab *lab, const struct ql_digest *manifest,
			uint64_t until, uint64_t made, size_t cut)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(64);
	struct ql_txn *txn;

	tarball_must(ql_buf_add_le64(&buf, until) == 0 &&
		     ql_buf_add_le64(&buf, made) == 0 &&
		     ql_buf_add_le64(&buf, 7) == 0 &&
		     ql_buf_add(&buf, "another machine!", 16) == 0);
	tarball_must(ql_txn_begin(lab->store->catalog, true, &txn, NULL) == 0);
	tarball_must(ql_txn_put(txn, QL_TABLE_PROMISES, manifest->bytes,
				QL_DIGEST_BYTES, buf.data, buf.len - cut,
				NULL) == 0);
	tarball_must(ql_txn_commit(txn, NULL) == 0);
}

static uint64_t promised_until(struct lab *lab, const struct ql_digest *m)
{
	uint64_t until = 0;

	assert_int_equal(ql_image_promised(lab->store, m, &until, &lab->err),
			 0);
	return until;
}

static bool promise_is_recorded(struct lab *lab, const struct ql_digest *m)
{
	const void *value;
	struct ql_txn *txn;
	size_t len;
	int r;

	tarball_must(ql_txn_begin(lab->store->catalog, false, &txn, NULL) == 0);
	r = ql_txn_get(txn, QL_TABLE_PROMISES, m->bytes, QL_DIGEST_BYTES,
		       &value, &len);
	ql_txn_abort(txn);
	return r == 0;
}

/* The machine was started again, and its clock may have been set. */
static void promises_are_mended_after_a_restart(void **state)
{
	enum { HOUR = 3600 };
	_cleanup_lab_ struct lab lab;
	uint64_t now = (uint64_t)time(NULL);
	struct ql_keep_stats stats;
	struct ql_digest m[3];

	(void)state;
	two_and_one(&lab, m);
	/* Half of it is over. */
	put_promise(&lab, &m[0], now + HOUR, now - HOUR, 0);
	/* Made in the future: the clock was set back. */
	put_promise(&lab, &m[1], now + 101 * HOUR, now + 100 * HOUR, 0);
	/* Over, or the clock was set forward. */
	put_promise(&lab, &m[2], now - 1, now - HOUR, 0);
	assert_in_range(promised_until(&lab, &m[0]), now + HOUR - 5,
			now + HOUR + 5);
	assert_in_range(promised_until(&lab, &m[1]), now + HOUR - 5,
			now + HOUR + 5);
	assert_int_equal(promised_until(&lab, &m[2]), 0);
	assert_int_equal(squeeze(&lab, BIG - 8192, &stats), 0);
	assert_false(is_here(&lab, 4));
	assert_false(promise_is_recorded(&lab, &m[2]));
	/* From now on the machine's own clock counts them. */
	assert_in_range(promised_until(&lab, &m[0]), now + HOUR - 5,
			now + HOUR + 5);
	assert_in_range(promised_until(&lab, &m[1]), now + HOUR - 5,
			now + HOUR + 5);
	assert_int_equal(squeeze(&lab, BIG, &stats), -ENOSPC);
	for (unsigned int i = 1; i < 4; i++)
		assert_true(is_here(&lab, i));
	/* One of nobody's making keeps nothing. */
	put_promise(&lab, &m[0], now + HOUR, now - HOUR, 1);
	put_promise(&lab, &m[1], now - HOUR, now + HOUR, 0);
	assert_int_equal(squeeze(&lab, BIG, &stats), 0);
	assert_false(promise_is_recorded(&lab, &m[0]) ||
		     promise_is_recorded(&lab, &m[1]));
	is_sound(&lab);
}

/* ---- state ---- */

static int note_step(const struct ql_keep_step *step, void *arg)
{
	return ql_buf_add(arg, step->unit.bytes, QL_DIGEST_BYTES);
}

/* The order in which all would go, after some pulls. */
static void decisions(bool restarts, struct ql_buf *out)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest m[8];
	struct ql_space space;

	lab_init(&lab);
	limit(&lab, 64 << 20);
	for (unsigned int i = 0; i < 8; i++) {
		unsigned int seeds[] = { 20 + i % 2, 30 + i };
		_cleanup_free_ char *name = ql_strf("i%u", i);

		m[i] = image(&lab, name, seeds, 2);
	}
	for (unsigned int i = 0; i < 60; i++) {
		unsigned int at = (i * i * 7 + i / 3) % 8;
		_cleanup_free_ char *name = ql_strf("i%u", at % 4);

		assert_int_equal(ql_keep_access(lab.store, &m[at], name,
						i % 5 == 0 ? QL_CACHE_SCAN : 0,
						&lab.err),
				 0);
		if (i % 20 == 10) {
			struct ql_keep_stats stats;

			assert_int_equal(squeeze(&lab, 4096, &stats), 0);
			for (unsigned int k = 0; k < 8; k++) {
				come(&lab, 20 + k % 2);
				come(&lab, 30 + k);
			}
		}
		if (restarts)
			reopen(&lab);
	}
	assert_int_equal(ql_space_recount(lab.store, &space, &lab.err), 0);
	assert_int_equal(ql_keep_plan(lab.store, space.budget, note_step, out,
				      &lab.err),
			 -ENOSPC);
}

static void decisions_survive_a_restart(void **state)
{
	_cleanup_buf_ struct ql_buf a = QL_BUF_INIT(1 << 16),
				    b = QL_BUF_INIT(1 << 16);

	(void)state;
	decisions(false, &a);
	decisions(true, &b);
	assert_in_range(a.len, 8 * QL_DIGEST_BYTES, 1 << 16);
	assert_int_equal(a.len, b.len);
	assert_memory_equal(a.data, b.data, a.len);
}

static void damaged_state_begins_anew(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_keep_stats stats;
	struct ql_txn *txn;
	struct ql_digest m[3];

	(void)state;
	two_and_one(&lab, m);
	for (int i = 0; i < 3; i++) {
		static const char *const key[] = { "head", "12345678",
						   "rates" };

		tarball_must(ql_txn_begin(lab.store->catalog, true, &txn,
					  NULL) == 0);
		tarball_must(ql_txn_put(txn, QL_TABLE_CACHE, key[i],
					strlen(key[i]), "QLC1nonsense", 12,
					NULL) == 0);
		tarball_must(ql_txn_commit(txn, NULL) == 0);
		reopen(&lab);
		assert_int_equal(ql_keep_access(lab.store, &m[0], "one", 0,
						&lab.err),
				 0);
	}
	assert_int_equal(ql_image_pin(lab.store, &m[0], true, &lab.err), 0);
	assert_int_equal(squeeze(&lab, 2 * BIG - 8192, &stats), 0);
	assert_int_equal(stats.units, 2);
	is_sound(&lab);
}

/* ---- crashes ---- */

/* Whoever finds the intents finishes them, but for what came back. */
static void intents_are_finished(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_doom doom = { 0 };
	struct ql_digest m[3], four = noise_digest(4), five = noise_digest(5);
	struct ql_txn *txn;
	bool whole = true;

	(void)state;
	two_and_one(&lab, m);
	come(&lab, 5);
	tarball_must(ql_object_set_add(&doom.sets[QL_DOOM_OBJECT], &five, 0) ==
		     0);
	tarball_must(ql_object_set_add(&doom.sets[QL_DOOM_OBJECT], &four, 0) ==
		     0);
	tarball_must(ql_txn_begin(lab.store->catalog, true, &txn, NULL) == 0);
	tarball_must(ql_doom_write(txn, &doom, NULL) == 0);
	assert_false(ql_doom_spares(lab.store, txn, &four));
	tarball_must(ql_txn_commit(txn, NULL) == 0);
	ql_doom_release(&doom);
	assert_int_equal(
		ql_image_mark_whole(lab.store, &m[2], &whole, &lab.err), 0);
	reopen(&lab);
	assert_false(is_here(&lab, 5));
	assert_true(is_here(&lab, 4));
	tarball_must(ql_txn_begin(lab.store->catalog, false, &txn, NULL) == 0);
	assert_false(ql_doom_pending(txn));
	ql_txn_abort(txn);
	is_sound(&lab);
}

/* By the next one that opens the store, whatever for. */
static void intents_are_finished_by_an_open(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_doom doom = { 0 };
	struct ql_digest five = noise_digest(5);
	struct ql_txn *txn;

	(void)state;
	lab_init(&lab);
	come(&lab, 5);
	tarball_must(ql_object_set_add(&doom.sets[QL_DOOM_OBJECT], &five, 0) ==
		     0);
	tarball_must(ql_txn_begin(lab.store->catalog, true, &txn, NULL) == 0);
	tarball_must(ql_doom_write(txn, &doom, NULL) == 0);
	tarball_must(ql_txn_commit(txn, NULL) == 0);
	ql_doom_release(&doom);
	reopen(&lab);
	assert_false(ql_object_exists(lab.store, &five));
	tarball_must(ql_txn_begin(lab.store->catalog, false, &txn, NULL) == 0);
	assert_false(ql_doom_pending(txn));
	ql_txn_abort(txn);
}

/* A layer that came while what it counts on went is lazy, or comes again. */
static void a_record_counts_on_nothing_that_goes(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_layer_info info = { 0 };
	struct ql_doom doom = { 0 };
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(8 << 20);
	struct ql_digest one = noise_digest(1);
	struct ql_layer_stats stats;
	struct ql_txn *txn;

	(void)state;
	lab_init(&lab);
	limit(&lab, 64 << 20);
	come(&lab, 1);
	tarball_must(ql_object_set_add(&doom.sets[QL_DOOM_OBJECT], &one, 0) ==
		     0);
	tarball_must(ql_txn_begin(lab.store->catalog, true, &txn, NULL) == 0);
	tarball_must(ql_doom_write(txn, &doom, NULL) == 0);
	tarball_must(ql_txn_commit(txn, NULL) == 0);
	add_noise(&tar, "file", 1);
	tarball_end(&tar);
	assert_int_equal(lab_import(&lab, &tar, &stats), -EAGAIN);
	tarball_must(ql_digest_of(ql_buf_str(&tar), tar.len, &info.diff_id) ==
		     0);
	assert_int_equal(ql_layer_get(lab.store, &info.diff_id, &info),
			 -ENOENT);
	ql_doom_release(&doom);
	assert_int_equal(ql_keep_recover(lab.store, &lab.err), 0);
	assert_int_equal(lab_import(&lab, &tar, &stats), 0);
	assert_true(is_here(&lab, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_need_nothing_goes),
		cmocka_unit_test(a_leaf_goes_before_its_base),
		cmocka_unit_test(a_stack_goes_from_its_top),
		cmocka_unit_test(a_little_more_goes_than_lacks),
		cmocka_unit_test(what_nothing_is_left_of_is_removed),
		cmocka_unit_test(what_is_gone_comes_back_by_an_open),
		cmocka_unit_test(shared_objects_stay),
		cmocka_unit_test(what_is_gone_is_not_whole_by_others),
		cmocka_unit_test(a_part_of_a_file_goes_with_its_layer),
		cmocka_unit_test(what_is_held_stays),
		cmocka_unit_test(who_holds_for_nobody_is_asked_to_let_go),
		cmocka_unit_test(a_layer_that_is_held_stays),
		cmocka_unit_test(
			a_layer_of_no_image_stays_while_it_may_come_to_one),
		cmocka_unit_test(a_promise_outlasts_a_jump_and_ends),
		cmocka_unit_test(promises_are_mended_after_a_restart),
		cmocka_unit_test(decisions_survive_a_restart),
		cmocka_unit_test(damaged_state_begins_anew),
		cmocka_unit_test(intents_are_finished),
		cmocka_unit_test(intents_are_finished_by_an_open),
		cmocka_unit_test(a_record_counts_on_nothing_that_goes),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
