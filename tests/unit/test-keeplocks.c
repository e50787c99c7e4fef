/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an eviction does, and says, of what it cannot lock: because somebody has
 * it, or because this process may open no more files.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/unit/evictlab.h"

static uint64_t need(struct lab *lab, uint64_t bytes)
{
	struct ql_space space;

	assert_int_equal(ql_space_recount(lab->store, &space, &lab->err), 0);
	return space.budget - space.margin - space.used + bytes;
}

static int count_step(const struct ql_keep_step *step, void *arg)
{
	size_t *n = arg;

	(void)step;
	++*n;
	return 0;
}

/* ---- what somebody makes anew ---- */

/* Nobody could tell again what is in it, but by a whole pull. */
static void lose_table(struct lab *lab, unsigned int seed)
{
	_cleanup_free_ char *layer = ql_strf("layer %u", seed), *path = NULL;
	char toc[QL_CFS_PATH];
	struct ql_layer_info info;
	struct ql_digest id;

	tarball_must(layer && ql_digest_of(layer, strlen(layer), &id) == 0);
	tarball_must(ql_layer_get(lab->store, &id, &info) == 0);
	path = ql_strf("%s/%s", lab->root,
		       ql_toc_path("layers", &info.blob, toc));
	tarball_must(path && unlink(path) == 0);
}

static void what_is_made_anew_stays_and_is_not_counted(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_keep_status status;
	struct ql_keep_stats stats;
	struct ql_name_lock lock;
	struct ql_digest m[3];
	size_t steps = 0;

	(void)state;
	two_and_one(&lab, m);
	for (int i = 0; i < 2; i++)
		assert_int_equal(ql_image_pin(lab.store, &m[i], true, &lab.err),
				 0);
	lose_table(&lab, 4);
	assert_int_equal(ql_name_lock_init(lab.store, &m[2], &lock, &lab.err),
			 0);
	assert_int_equal(ql_keep_plan(lab.store, need(&lab, 4096), count_step,
				      &steps, &lab.err),
			 -ENOSPC);
	assert_int_equal(steps, 0);
	assert_int_equal(squeeze(&lab, 4096, &stats), -ENOSPC);
	assert_null(strstr(lab.err.text, " 0 on their way"));
	assert_int_equal(stats.units, 0);
	assert_int_equal(stats.images, 0);
	assert_int_equal(stats.freed, 0);
	assert_int_equal(ql_keep_status(lab.store, &status, &lab.err), 0);
	assert_int_equal(status.evictions, 0);
	assert_true(is_here(&lab, 4));
	ql_name_lock_release(&lock);
	assert_int_equal(squeeze(&lab, 4096, &stats), 0);
	assert_int_equal(stats.units, 1);
	assert_int_equal(stats.images, 1);
	assert_false(is_here(&lab, 4));
}

/* One of the two that stand on it is made anew. */
static void what_cannot_go_from_all_goes_from_none(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_image_info info;
	struct ql_keep_stats stats;
	struct ql_name_lock lock;
	struct ql_digest m[3];

	(void)state;
	two_and_one(&lab, m);
	assert_int_equal(ql_image_pin(lab.store, &m[2], true, &lab.err), 0);
	lose_table(&lab, 1);
	assert_int_equal(ql_name_lock_init(lab.store, &m[1], &lock, &lab.err),
			 0);
	assert_int_equal(squeeze(&lab, 4 * BIG, &stats), -ENOSPC);
	assert_int_equal(stats.units, 2);
	assert_int_equal(stats.images, 0);
	assert_true(is_here(&lab, 1));
	assert_false(is_here(&lab, 2) || is_here(&lab, 3));
	for (int i = 0; i < 2; i++) {
		assert_int_equal(ql_image_get(lab.store, &m[i], &info), 0);
		ql_image_info_release(&info);
	}
	ql_name_lock_release(&lock);
}

/* ---- open files ---- */

static unsigned int open_files(void)
{
	unsigned int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void limit_files(rlim_t n)
{
	struct rlimit rl;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &rl), 0);
	rl.rlim_cur = n < rl.rlim_max ? n : rl.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &rl), 0);
}

/* So many more than are open now, of which some may have high numbers. */
static void allow_files(unsigned int more)
{
	int fd = 0;

	for (; more > 0; fd++)
		more -= fcntl(fd, F_GETFD) < 0;
	limit_files((rlim_t)fd);
}

static void a_lack_of_open_files_is_not_use_by_others(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_keep_status status;
	struct ql_digest m[3];
	unsigned int lacked = 0;

	(void)state;
	two_and_one(&lab, m);
	for (unsigned int more = 0; more < 16; more++) {
		int r;

		allow_files(more);
		r = ql_keep_status(lab.store, &status, &lab.err);
		limit_files(RLIM_INFINITY);
		if (r < 0) {
			assert_int_equal(r, -EMFILE);
			assert_non_null(strstr(lab.err.text, strerror(EMFILE)));
			lacked++;
		} else {
			assert_int_equal(status.mounted, 0);
			assert_int_equal(status.in_flight, 0);
		}
	}
	/* Of the lock file, and then of a tree. */
	assert_in_range(lacked, 2, 15);
}

enum { MANY = 40, FEW = 24 };

static void a_plan_needs_few_open_files_and_an_eviction_says_so(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_keep_stats stats;
	size_t steps = 0;
	uint64_t bytes;
	unsigned int has;
	int r;

	(void)state;
	lab_init(&lab);
	limit(&lab, 128 << 20);
	for (unsigned int i = 0; i < MANY; i++) {
		_cleanup_free_ char *name = ql_strf("image %u", i);
		unsigned int seed = 100 + i;
		struct ql_digest m;

		tarball_must(name);
		m = image(&lab, name, &seed, 1);
		assert_int_equal(
			ql_keep_access(lab.store, &m, name, 0, &lab.err), 0);
	}
	bytes = need(&lab, (MANY - 1) * (uint64_t)BIG);
	has = open_files();
	allow_files(FEW);
	r = ql_keep_plan(lab.store, bytes, count_step, &steps, &lab.err);
	limit_files(RLIM_INFINITY);
	assert_int_equal(r, 0);
	assert_in_range(steps, MANY - 1, MANY);
	allow_files(FEW);
	r = ql_keep_make_room(lab.store, bytes, &stats, &lab.err);
	limit_files(RLIM_INFINITY);
	assert_int_equal(r, -EMFILE);
	assert_non_null(strstr(lab.err.text, strerror(EMFILE)));
	assert_int_equal(open_files(), has);
	assert_int_equal(stats.units, 0);
	assert_int_equal(ql_keep_make_room(lab.store, bytes, &stats, &lab.err),
			 0);
	assert_in_range(stats.units, MANY - 1, MANY);
	is_sound(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_made_anew_stays_and_is_not_counted),
		cmocka_unit_test(what_cannot_go_from_all_goes_from_none),
		cmocka_unit_test(a_lack_of_open_files_is_not_use_by_others),
		cmocka_unit_test(
			a_plan_needs_few_open_files_and_an_eviction_says_so),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
