/* SPDX-License-Identifier: Apache-2.0 */
/* fs/openfile.c: one open file per inode, counted, from many threads. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fs/fs-private.h"

enum { THREADS = 4, ROUNDS = 20000, INODES = 7 };

static struct ql_openfile *new_file(uint64_t ino)
{
	struct ql_openfile *f = calloc(1, sizeof(*f));

	if (!f)
		abort();
	f->ino = ino;
	f->fd = -1;
	return f;
}

static void the_last_reference_gives_the_file_back(void **state)
{
	struct ql_openfiles *files = ql_openfiles_new();
	struct ql_openfile *f = new_file(5), *other = new_file(5 + 1024);

	(void)state;
	assert_non_null(files);
	assert_null(ql_openfiles_find(files, 5));
	assert_ptr_equal(ql_openfiles_add(files, f), f);
	assert_ptr_equal(ql_openfiles_add(files, other), other);
	assert_ptr_equal(ql_openfiles_find(files, 5), f);
	assert_ptr_equal(ql_openfiles_find(files, 5 + 1024), other);
	assert_false(ql_openfiles_put(files, f));
	assert_true(ql_openfiles_put(files, f));
	assert_null(ql_openfiles_find(files, 5));
	free(f);
	ql_openfiles_free(files, NULL);
}

static void the_first_of_two_openers_wins(void **state)
{
	struct ql_openfiles *files = ql_openfiles_new();
	struct ql_openfile *a = new_file(9), *b = new_file(9);

	(void)state;
	assert_non_null(files);
	assert_ptr_equal(ql_openfiles_add(files, a), a);
	assert_ptr_equal(ql_openfiles_add(files, b), a);
	assert_false(ql_openfiles_put(files, a));
	assert_true(ql_openfiles_put(files, a));
	free(a);
	free(b);
	ql_openfiles_free(files, NULL);
}

static void *opener(void *arg)
{
	struct ql_openfiles *files = arg;
	unsigned int seed = (unsigned int)(uintptr_t)&seed;
	struct ql_openfile *f, *winner;

	for (int i = 0; i < ROUNDS; i++) {
		uint64_t ino = (uint64_t)rand_r(&seed) % INODES;

		f = ql_openfiles_find(files, ino);
		if (!f) {
			f = new_file(ino);
			winner = ql_openfiles_add(files, f);
			if (winner != f)
				free(f);
			f = winner;
		}
		if (f->ino != ino)
			abort();
		if (ql_openfiles_put(files, f))
			free(f);
	}
	return NULL;
}

static void threads_leave_nothing_open(void **state)
{
	struct ql_openfiles *files = ql_openfiles_new();
	pthread_t threads[THREADS];

	(void)state;
	assert_non_null(files);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, opener, files), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	for (uint64_t ino = 0; ino < INODES; ino++)
		assert_null(ql_openfiles_find(files, ino));
	ql_openfiles_free(files, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_last_reference_gives_the_file_back),
		cmocka_unit_test(the_first_of_two_openers_wins),
		cmocka_unit_test(threads_leave_nothing_open),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
