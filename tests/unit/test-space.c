/* SPDX-License-Identifier: Apache-2.0 */
/* What the store takes of the disk: threads and processes count together, a
 * crash leaves the count too high and never too low, and a recount mends it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "tests/unit/layers.h"

#define MIB ((uint64_t)1 << 20)

static struct ql_space space(struct lab *lab)
{
	struct ql_space s;

	assert_int_equal(ql_space_get(lab->store, &s, &lab->err), 0);
	return s;
}

static struct ql_space recount(struct lab *lab)
{
	struct ql_space s;

	assert_int_equal(ql_space_recount(lab->store, &s, &lab->err), 0);
	return s;
}

static struct ql_store *again(const struct lab *lab)
{
	struct ql_store *store;

	assert_int_equal(ql_store_open(lab->root, QL_STORE_WRITE, &store, NULL),
			 0);
	return store;
}

/* ---- limits ---- */

static void limits_are_checked(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_space s;

	(void)state;
	lab_init(&lab);
	s = space(&lab);
	assert_int_equal(s.budget, 0);
	assert_int_equal(s.reserve, QL_SPACE_RESERVE);
	assert_false(ql_space_is_limited(lab.store));
	assert_int_equal(ql_space_limits(lab.store, 1, 0, &lab.err), -EINVAL);
	assert_non_null(strstr(lab.err.text, "budget of 1 bytes"));
	assert_int_equal(ql_space_limits(lab.store, QL_SPACE_BUDGET_MIN - 1, 0,
					 &lab.err),
			 -EINVAL);
	assert_int_equal(ql_space_limits(lab.store, 0, s.size + 1, &lab.err),
			 -EINVAL);
	assert_non_null(strstr(lab.err.text, "reserve"));
	assert_int_equal(space(&lab).budget, 0);
}

static void limits_are_seen_by_all_and_recorded(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_store *other;
	_cleanup_free_ char *path = NULL;
	struct ql_space s;

	(void)state;
	lab_init(&lab);
	other = again(&lab);
	assert_int_equal(ql_space_limits(lab.store, 20 * MIB, 3 * MIB, NULL),
			 0);
	assert_int_equal(ql_space_get(other, &s, NULL), 0);
	assert_int_equal(s.budget, 20 * MIB);
	assert_int_equal(s.reserve, 3 * MIB);
	ql_store_close(other);
	/* The shared page is lost: the record is not. */
	path = ql_strf("%s/space", lab.root);
	assert_int_equal(unlink(path), 0);
	other = again(&lab);
	assert_true(ql_space_is_limited(other));
	assert_int_equal(ql_space_get(other, &s, NULL), 0);
	assert_int_equal(s.budget, 20 * MIB);
	assert_int_equal(s.reserve, 3 * MIB);
	ql_store_close(other);
}

/* ---- taking ---- */

static void what_does_not_fit_is_refused(void **state)
{
	_cleanup_lab_ struct lab lab;
	uint64_t left;
	struct ql_space s;

	(void)state;
	lab_init(&lab);
	assert_int_equal(ql_space_limits(lab.store, 20 * MIB, 0, NULL), 0);
	s = space(&lab);
	left = s.budget - s.margin - s.used;
	assert_int_equal(ql_space_lacks(&s, left), 0);
	assert_int_equal(ql_space_lacks(&s, left + 1), 1);
	assert_int_equal(ql_space_take(lab.store, left - 4096, &lab.err), 0);
	assert_false(ql_space_try(lab.store, 8192));
	assert_int_equal(ql_space_take(lab.store, 8192, &lab.err), -ENOSPC);
	assert_non_null(strstr(lab.err.text, "8192 bytes"));
	assert_non_null(strstr(lab.err.text, "budget of 20971520"));
	assert_true(ql_space_try(lab.store, 4096));
	ql_space_done(lab.store, 4096, 0);
	ql_space_done(lab.store, left - 4096, 0);
	assert_int_equal(space(&lab).used, s.used);
	/* More than it could ever have. */
	assert_int_equal(ql_space_take(lab.store, 30 * MIB, &lab.err), -ENOSPC);
	assert_non_null(strstr(lab.err.text, "31457280 bytes at once"));
	assert_non_null(strstr(lab.err.text, "20971520"));
	/* Down below what is there: what is there stays. */
	assert_int_equal(ql_space_take(lab.store, 10 * MIB, &lab.err), 0);
	assert_int_equal(ql_space_limits(lab.store, 10 * MIB, 0, NULL), 0);
	assert_false(ql_space_try(lab.store, 1));
	assert_int_equal(ql_space_limits(lab.store, 20 * MIB, 0, NULL), 0);
	assert_true(ql_space_try(lab.store, 1));
	ql_space_done(lab.store, 1, 0);
	ql_space_done(lab.store, 10 * MIB, 0);
}

static void what_is_free_counts_by_what_may_be_written_still(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_space s, t;

	(void)state;
	lab_init(&lab);
	s = space(&lab);
	assert_int_equal(ql_space_limits(lab.store, s.size, 0, NULL), 0);
	assert_int_equal(ql_space_take(lab.store, MIB, &lab.err), 0);
	t = space(&lab);
	assert_int_equal(t.unwritten, MIB);
	/* Only the free bytes bind here, and others use the filesystem too. */
	t.used = 0;
	assert_int_equal(ql_space_lacks(&t, t.free), MIB);
	ql_space_wrote(lab.store, MIB);
	t.unwritten = space(&lab).unwritten;
	assert_int_equal(t.unwritten, 0);
	assert_int_equal(space(&lab).taken, MIB);
	assert_int_equal(ql_space_lacks(&t, t.free - t.margin), 0);
	ql_space_done(lab.store, MIB, 0);
	assert_int_equal(space(&lab).taken, 0);
}

/* ---- a crash ---- */

/* In a child: takes, writes some of it, and is killed. */
static void take_and_die(struct lab *lab)
{
	struct ql_store *store = again(lab);
	char *path = ql_strf("%s/partial/rest", lab->root);
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	char piece[65536];

	memset(piece, 'x', sizeof(piece));
	if (ql_space_take(store, 4 * MIB, NULL) == 0 &&
	    write(fd, piece, sizeof(piece)) == sizeof(piece))
		(void)raise(SIGKILL);
	_exit(1);
}

static void a_killed_one_leaves_too_much_until_a_recount(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_space s;
	uint64_t used;
	int status;
	pid_t pid;

	(void)state;
	lab_init(&lab);
	used = space(&lab).used;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		take_and_die(&lab);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(space(&lab).used, used + 4 * MIB);
	s = recount(&lab);
	assert_int_equal(s.used, used + 65536);
	assert_int_equal(s.taken, 0);
	assert_int_equal(s.partial, 65536);
	/* And what a living one has taken stays. */
	assert_int_equal(ql_space_take(lab.store, MIB, NULL), 0);
	assert_int_equal(recount(&lab).used, used + 65536 + MIB);
	ql_space_done(lab.store, MIB, 0);
}

/* Who opens the store has the dead one's slot, but not what it has written. */
static void who_comes_after_a_killed_one_counts_what_it_left(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_store *other;
	struct ql_space s;
	uint64_t used;
	int status;
	pid_t pid;

	(void)state;
	lab_init(&lab);
	used = space(&lab).used;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		take_and_die(&lab);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	other = again(&lab);
	assert_int_equal(ql_space_get(other, &s, NULL), 0);
	assert_int_equal(s.used, used + 4 * MIB);
	assert_int_equal(s.taken, 0);
	/* Nor is anybody refused for it. */
	assert_int_equal(ql_space_limits(other, 10 * MIB, 0, NULL), 0);
	assert_int_equal(ql_space_get(other, &s, NULL), 0);
	assert_true(ql_space_lacks(&s, 5 * MIB) > 0);
	assert_int_equal(ql_space_take(other, 5 * MIB, &lab.err), 0);
	ql_space_done(other, 5 * MIB, 0);
	assert_int_equal(ql_space_get(other, &s, NULL), 0);
	assert_int_equal(s.partial, 65536);
	ql_store_close(other);
	assert_int_equal(space(&lab).used, s.used);
	assert_int_equal(recount(&lab).used, s.used);
}

/* Nobody is refused for what a dead one had taken. */
static void who_would_be_refused_has_it_counted_anew(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_space s;
	int status;
	pid_t pid;

	(void)state;
	lab_init(&lab);
	assert_int_equal(ql_space_limits(lab.store, 10 * MIB, 0, NULL), 0);
	s = space(&lab);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		take_and_die(&lab);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_true(ql_space_lacks(&s, 5 * MIB) == 0);
	assert_int_equal(ql_space_take(lab.store, 5 * MIB, &lab.err), 0);
	ql_space_done(lab.store, 5 * MIB, 0);
}

/* A file that nobody counts tells whether there was a walk. */
/* A file that grows under its name is found by a count, and then counts again
 * by what was taken for it: nobody is refused for that. */
static void who_would_be_refused_for_what_counts_twice_is_not(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_free_ char *path = NULL;
	_cleanup_free_ char *data = calloc(6, MIB);
	_cleanup_close_ int fd = -1;
	struct ql_space s;
	uint64_t left;

	(void)state;
	lab_init(&lab);
	assert_int_equal(ql_space_limits(lab.store, 20 * MIB, 0, NULL), 0);
	path = ql_strf("%s/partial/grows", lab.root);
	assert_non_null(path);
	assert_non_null(data);
	assert_int_equal(ql_space_take(lab.store, 6 * MIB, &lab.err), 0);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(ql_write_full(fd, data, 6 * MIB), 0);
	(void)recount(&lab);
	ql_space_done(lab.store, 6 * MIB, 6 * MIB);
	s = space(&lab);
	left = s.budget - s.margin - s.used;
	assert_int_equal(ql_space_take(lab.store, left + 4 * MIB, &lab.err), 0);
	ql_space_done(lab.store, left + 4 * MIB, 0);
	s = space(&lab);
	assert_int_equal(recount(&lab).used, s.used);
}

static void what_is_mended_is_what_the_dead_had_taken(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_free_ char *path = NULL;
	struct ql_space s;
	uint64_t used;
	int status, fd;
	char one[4096] = { 1 };
	pid_t pid;

	(void)state;
	lab_init(&lab);
	used = space(&lab).used;
	path = ql_strf("%s/partial/uncounted", lab.root);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, one, sizeof(one)), sizeof(one));
	(void)close(fd);
	/* A living one's is none of it. */
	assert_int_equal(ql_space_take(lab.store, MIB, NULL), 0);
	assert_int_equal(ql_space_mend(lab.store, &s, &lab.err), 0);
	assert_int_equal(s.used, used + MIB);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		take_and_die(&lab);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	/* Of takers that were refused during a count. */
	(void)atomic_fetch_sub(&lab.store->space->page->since,
			       (int64_t)(64 * MIB));
	assert_int_equal(ql_space_mend(lab.store, &s, &lab.err), 0);
	assert_int_equal(s.used, used + MIB + 4096 + 65536);
	/* It is mended. */
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(ql_space_mend(lab.store, &s, &lab.err), 0);
	assert_int_equal(s.used, used + MIB + 4096 + 65536);
	assert_int_equal(recount(&lab).used, used + MIB + 65536);
	ql_space_done(lab.store, MIB, 0);
}

/* ---- another start of the machine ---- */

static void a_page_of_another_start_is_not_believed(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_free_ char *path = NULL;
	struct ql_space s;
	uint64_t used;
	int fd;

	(void)state;
	lab_init(&lab);
	used = space(&lab).used;
	assert_int_equal(ql_space_take(lab.store, MIB, NULL), 0);
	ql_space_done(lab.store, MIB, MIB);
	assert_int_equal(space(&lab).used, used + MIB);
	ql_store_close(lab.store);
	path = ql_strf("%s/space", lab.root);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "another", 7, 8), 7);
	(void)close(fd);
	lab.store = again(&lab);
	assert_int_equal(ql_space_get(lab.store, &s, NULL), 0);
	assert_int_equal(s.used, used);
}

/* ---- all at once ---- */

enum { PROCESSES = 3, THREADS = 4, ROUNDS = 120 };

struct writer {
	struct ql_store *store; /* borrowed */
	unsigned int seed;
	bool bad;
};

/* Objects of many sizes come and go, and some is taken for nothing. */
static void *writer_main(void *arg)
{
	struct writer *w = arg;
	char *data = calloc(1, 100000);

	for (int i = 0; i < ROUNDS && data; i++) {
		size_t len = (size_t)(rand_r(&w->seed) % 100000) + 1;
		char path[QL_OBJECT_PATH + 1];
		struct ql_digest d;

		memcpy(data, &w->seed, len < 4 ? len : 4);
		if (ql_object_put(w->store, data, len, NULL, &d, NULL) < 0)
			w->bad = true;
		if (i % 3 == 0)
			(void)ql_space_unlink(w->store,
					      ql_object_path(&d, path), NULL);
		if (i % 5 == 0 && ql_space_try(w->store, len))
			ql_space_done(w->store, len, 0);
	}
	w->bad |= !data;
	free(data);
	return NULL;
}

static int process_main(const struct lab *lab, unsigned int seed)
{
	struct ql_store *store = again(lab);
	struct writer w[THREADS];
	pthread_t threads[THREADS];
	bool bad = false;

	for (unsigned int i = 0; i < THREADS; i++) {
		w[i] = (struct writer){ store, seed * THREADS + i, false };
		if (pthread_create(&threads[i], NULL, writer_main, &w[i]) != 0)
			return 1;
	}
	for (unsigned int i = 0; i < THREADS; i++) {
		(void)pthread_join(threads[i], NULL);
		bad |= w[i].bad;
	}
	ql_store_close(store);
	return bad;
}

static void processes_run(struct lab *lab, bool counting)
{
	pid_t pids[PROCESSES];
	int left = PROCESSES;

	for (unsigned int i = 0; i < PROCESSES; i++) {
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0)
			_exit(process_main(lab, i + 1));
	}
	while (left > 0) {
		int status;

		if (counting)
			(void)recount(lab);
		if (waitpid(pids[left - 1], &status, counting ? WNOHANG : 0) ==
		    0)
			continue;
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
		left--;
	}
}

static void the_sum_is_right(void **state)
{
	_cleanup_lab_ struct lab lab;
	uint64_t before, after, folders;

	(void)state;
	lab_init(&lab);
	folders = recount(&lab).metadata;
	processes_run(&lab, false);
	before = space(&lab).used;
	after = recount(&lab).used;
	/* Folders that grew are found by the walk alone. */
	folders = space(&lab).metadata - folders;
	assert_true(space(&lab).objects > 10 * MIB);
	assert_int_equal(before + folders, after);
}

static void a_count_meanwhile_is_never_too_low(void **state)
{
	_cleanup_lab_ struct lab lab;
	uint64_t before, after;

	(void)state;
	lab_init(&lab);
	(void)recount(&lab);
	for (int i = 0; i < 3; i++) {
		processes_run(&lab, true);
		before = space(&lab).used;
		after = recount(&lab).used;
		/* What folders grew by since the last of the counts: none. */
		assert_true(before >= after);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limits_are_checked),
		cmocka_unit_test(limits_are_seen_by_all_and_recorded),
		cmocka_unit_test(what_does_not_fit_is_refused),
		cmocka_unit_test(
			what_is_free_counts_by_what_may_be_written_still),
		cmocka_unit_test(a_killed_one_leaves_too_much_until_a_recount),
		cmocka_unit_test(
			who_comes_after_a_killed_one_counts_what_it_left),
		cmocka_unit_test(who_would_be_refused_has_it_counted_anew),
		cmocka_unit_test(
			who_would_be_refused_for_what_counts_twice_is_not),
		cmocka_unit_test(what_is_mended_is_what_the_dead_had_taken),
		cmocka_unit_test(a_page_of_another_start_is_not_believed),
		cmocka_unit_test(the_sum_is_right),
		cmocka_unit_test(a_count_meanwhile_is_never_too_low),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
