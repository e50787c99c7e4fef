/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a killed process had taken and never wrote is counted until somebody
 * walks through the store: nothing goes for it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/agent.h"
#include "tests/unit/evictlab.h"

enum { BUDGET = 32 << 20, LITTLE = 64 << 10 };

/* All that there is, but for a little. */
static void take_and_die(const struct lab *lab)
{
	struct ql_store *store;
	struct ql_space s;

	if (ql_store_open(lab->root, QL_STORE_WRITE, &store, NULL) == 0 &&
	    ql_space_get(store, &s, NULL) == 0 &&
	    ql_space_take(store, s.budget - s.margin - s.used - LITTLE, NULL) ==
		    0)
		(void)raise(SIGKILL);
	_exit(1);
}

static void one_dies(struct lab *lab)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		take_and_die(lab);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

static uint64_t used(struct lab *lab)
{
	struct ql_space s;

	assert_int_equal(ql_space_get(lab->store, &s, &lab->err), 0);
	return s.used;
}

static uint64_t evictions(struct lab *lab)
{
	struct ql_keep_status status;

	assert_int_equal(ql_keep_status(lab->store, &status, &lab->err), 0);
	return status.evictions;
}

static int no_step(const struct ql_keep_step *step, void *arg)
{
	(void)step;
	(void)arg;
	return -ECANCELED;
}

static void nobody_goes_for_what_a_killed_one_had_taken(void **state)
{
	/* It is known of as dead, or another has its place by now. */
	for (int later = 0; later < 2; later++) {
		_cleanup_lab_ struct lab lab;
		struct ql_store *other = NULL;
		struct ql_keep_stats stats;
		struct ql_digest m[3];
		uint64_t before;

		(void)state;
		two_and_one(&lab, m);
		limit(&lab, BUDGET);
		before = used(&lab);
		one_dies(&lab);
		if (later)
			assert_int_equal(ql_store_open(lab.root, QL_STORE_WRITE,
						       &other, &lab.err),
					 0);
		assert_true(used(&lab) > before + BUDGET / 2);
		if (later)
			assert_int_equal(ql_keep_plan(lab.store, BIG, no_step,
						      NULL, &lab.err),
					 0);
		assert_int_equal(
			ql_keep_make_room(lab.store, BIG, &stats, &lab.err), 0);
		assert_int_equal(stats.freed, 0);
		assert_int_equal(evictions(&lab), 0);
		assert_in_range(used(&lab), before - LITTLE, before + LITTLE);
		ql_store_close(other);
	}
}

static void the_agent_takes_nothing_for_it_either(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_evictor *evictor;
	struct ql_digest m[3];
	uint64_t before;

	(void)state;
	two_and_one(&lab, m);
	limit(&lab, BUDGET);
	before = used(&lab);
	one_dies(&lab);
	assert_true(used(&lab) > before + BUDGET / 2);
	assert_int_equal(ql_evictor_new(lab.store, &evictor, &lab.err), 0);
	assert_int_equal(ql_evictor_start(evictor, NULL, &lab.err), 0);
	ql_evictor_look(evictor);
	for (int i = 0;
	     i < 500 && used(&lab) > before + LITTLE && evictions(&lab) == 0;
	     i++)
		(void)usleep(10000);
	ql_evictor_stop(evictor);
	ql_keep_relief(lab.store, NULL, NULL);
	ql_evictor_free(evictor);
	assert_int_equal(evictions(&lab), 0);
	assert_in_range(used(&lab), before - LITTLE, before + LITTLE);
	for (unsigned int i = 1; i < 5; i++)
		assert_true(is_here(&lab, i));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_goes_for_what_a_killed_one_had_taken),
		cmocka_unit_test(the_agent_takes_nothing_for_it_either),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
