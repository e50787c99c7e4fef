/* SPDX-License-Identifier: Apache-2.0 */
/* store/keepstatus.c: who looks what may go is not taken for one who uses it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "store/keep-private.h"
#include "tests/unit/twoimages.h"

struct looking {
	struct ql_store *store; /* borrowed */
	atomic_bool done;
	int r;
};

static void *look_main(void *arg)
{
	struct looking *l = arg;
	struct ql_keep_status status;

	l->r = ql_keep_status(l->store, &status, NULL);
	atomic_store(&l->done, true);
	return NULL;
}

/* It tries the locks of trees, which an eviction that is at work would find
 * taken. */
static void who_reads_looks_between_evictions(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct looking l = { 0 };
	struct ql_digest m[2];
	pthread_t thread;
	int lock = -1;

	(void)state;
	two_images(&lab, m);
	assert_int_equal(ql_store_open(lab.root, QL_STORE_READ, &l.store, NULL),
			 0);
	(void)look_main(&l);
	assert_int_equal(l.r, 0); /* there was no eviction yet */
	atomic_store(&l.done, false);
	assert_int_equal(ql_keep_lock(lab.store, &lock, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, look_main, &l), 0);
	(void)usleep(200000);
	assert_false(atomic_load(&l.done));
	(void)close(lock);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(l.r, 0);
	ql_store_close(l.store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_reads_looks_between_evictions),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
