/* SPDX-License-Identifier: Apache-2.0 */
/* fs/cachedoc.c: how long a promise lasts that is asked for by its length. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <time.h>
#include <unistd.h>

#include "fs/fs.h"
#include "tests/unit/evictlab.h"

#define NAME "docker.io/library/a:t"

/* Clocks of seconds: where a second ends, one less is left at once. */
static void wait_for_the_end_of_a_second(void)
{
	struct timespec ts;

	do {
		(void)usleep(1000);
		(void)clock_gettime(CLOCK_BOOTTIME, &ts);
	} while (ts.tv_nsec < 950000000 || ts.tv_nsec > 980000000);
}

static void a_second_is_a_second_whenever_it_begins(void **state)
{
	_cleanup_lab_ struct lab lab;
	unsigned int seed = 1;
	struct ql_digest m;
	uint64_t until;
	json_t *doc;

	(void)state;
	lab_init(&lab);
	m = image(&lab, NAME, &seed, 1);
	wait_for_the_end_of_a_second();
	assert_int_equal(ql_doc_promise(lab.store, NAME, 1, &doc, &lab.err), 0);
	json_decref(doc);
	(void)usleep(100000);
	assert_int_equal(ql_image_promised(lab.store, &m, &until, &lab.err), 0);
	assert_int_not_equal(until, 0);
	/* Nor much longer. */
	(void)usleep(2000000);
	assert_int_equal(ql_image_promised(lab.store, &m, &until, &lab.err), 0);
	assert_int_equal(until, 0);
	/* The longest that may be asked for is not too long. */
	assert_int_equal(ql_doc_promise(lab.store, NAME, QL_PROMISE_MAX, &doc,
					&lab.err),
			 0);
	json_decref(doc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_second_is_a_second_whenever_it_begins),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
