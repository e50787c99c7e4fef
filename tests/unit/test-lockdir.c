/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/base/lockdir.c: who may remove a folder, also while others make and
 * sweep theirs.
 */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "store/base/base.h"
#include "tests/unit/scratch.h"

#define PREFIX "ours."

enum { THREADS = 8, ROUNDS = 250 };

static char top[] = "/tmp/quicklayer-unit.XXXXXX";
static int prepared; /* folders that were about to go */

static void prepare(const char *path)
{
	assert_memory_equal(path, top, strlen(top));
	prepared++;
}

static void make(struct ql_lockdir *ret)
{
	struct ql_error err = QL_ERROR_INIT;

	if (ql_lockdir_new(top, PREFIX, NULL, ret, &err) < 0)
		fail_msg("%s", err.text);
}

static bool is_there(const char *path)
{
	return access(path, F_OK) == 0;
}

/* How many of ours there are. */
static int count(void)
{
	DIR *d = opendir(top);
	const struct dirent *e;
	int n = 0;

	assert_non_null(d);
	while ((e = readdir(d)))
		n += strncmp(e->d_name, PREFIX, strlen(PREFIX)) == 0;
	(void)closedir(d);
	return n;
}

/* A folder with a folder and a file in it, that nobody keeps. */
static char *leave(const char *name)
{
	char *path = ql_path_join(top, name);
	int fd;

	assert_non_null(path);
	assert_int_equal(mkdir(path, 0700), 0);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(mkdirat(fd, "below", 0700), 0);
	(void)close(openat(fd, "below/file", O_WRONLY | O_CREAT, 0600));
	(void)close(fd);
	return path;
}

static void a_released_folder_is_gone(void **state)
{
	struct ql_lockdir dir;
	_cleanup_free_ char *path = NULL;

	(void)state;
	make(&dir);
	path = strdup(dir.path);
	assert_true(is_there(path));
	assert_int_equal(mkdirat(dir.fd, "some", 0700), 0);
	ql_lockdir_release(&dir);
	assert_false(is_there(path));
	ql_lockdir_release(&dir);
}

static void what_nobody_keeps_is_swept(void **state)
{
	_cleanup_free_ char *left = leave(PREFIX "left");
	_cleanup_free_ char *theirs = leave("theirs");
	struct ql_error err = QL_ERROR_INIT;
	struct ql_lockdir dir;

	(void)state;
	prepared = 0;
	assert_int_equal(ql_lockdir_new(top, PREFIX, prepare, &dir, &err), 0);
	assert_false(is_there(left));
	assert_true(is_there(theirs));
	assert_int_equal(prepared, 1);
	ql_lockdir_release(&dir);
	assert_int_equal(prepared, 2);
}

static void what_somebody_keeps_stays(void **state)
{
	struct ql_lockdir kept, other;

	(void)state;
	make(&kept);
	make(&other);
	assert_true(is_there(kept.path));
	assert_string_not_equal(kept.path, other.path);
	ql_lockdir_release(&other);
	assert_true(is_there(kept.path));
	ql_lockdir_release(&kept);
}

static void what_an_heir_keeps_stays_until_its_end(void **state)
{
	struct ql_lockdir mine, other;
	_cleanup_free_ char *path = NULL;
	int heir;

	(void)state;
	make(&mine);
	path = strdup(mine.path);
	/* As if this were killed, and a program that it started were not. */
	heir = dup(mine.lock);
	(void)close(mine.lock);
	(void)close(mine.fd);
	free(mine.path);
	make(&other);
	assert_true(is_there(path));
	ql_lockdir_release(&other);
	(void)close(heir);
	make(&other);
	assert_false(is_there(path));
	ql_lockdir_release(&other);
}

static void a_killed_process_keeps_nothing(void **state)
{
	struct ql_lockdir dir;
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		bool made = ql_lockdir_new(top, PREFIX, NULL, &dir, NULL) ==
				    0 &&
			    mkdirat(dir.fd, "some", 0700) == 0;

		_exit(made ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(count(), 1);
	make(&dir);
	assert_int_equal(count(), 1);
	ql_lockdir_release(&dir);
	assert_int_equal(count(), 0);
}

/* Each sweeps while the others' folders are new. */
static void *make_and_release(void *arg)
{
	bool *failed = arg;

	for (int i = 0; i < ROUNDS && !*failed; i++) {
		struct ql_lockdir dir;

		if (ql_lockdir_new(top, PREFIX, NULL, &dir, NULL) < 0) {
			*failed = true;
			break;
		}
		*failed = mkdirat(dir.fd, "a", 0700) < 0 ||
			  mkdirat(dir.fd, "a/b", 0700) < 0 ||
			  faccessat(dir.fd, "a/b", F_OK, 0) < 0 ||
			  !is_there(dir.path);
		ql_lockdir_release(&dir);
	}
	return NULL;
}

static void many_at_once_take_nobodys_new_folder(void **state)
{
	pthread_t threads[THREADS];
	bool failed[THREADS] = { false };
	struct ql_lockdir dir;

	(void)state;
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL,
						make_and_release, &failed[i]),
				 0);
	for (int i = 0; i < THREADS; i++)
		(void)pthread_join(threads[i], NULL);
	for (int i = 0; i < THREADS; i++)
		assert_false(failed[i]);
	make(&dir);
	assert_int_equal(count(), 1);
	ql_lockdir_release(&dir);
}

static void a_folder_that_is_not_there_is_told(void **state)
{
	struct ql_error err = QL_ERROR_INIT;
	struct ql_lockdir dir;

	(void)state;
	assert_true(ql_lockdir_new("/nowhere/at/all", PREFIX, NULL, &dir,
				   &err) < 0);
	assert_non_null(strstr(err.text, "/nowhere/at/all"));
}

static int make_top(void **state)
{
	(void)state;
	(void)scratch_dir(top);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_released_folder_is_gone),
		cmocka_unit_test(what_nobody_keeps_is_swept),
		cmocka_unit_test(what_somebody_keeps_stays),
		cmocka_unit_test(what_an_heir_keeps_stays_until_its_end),
		cmocka_unit_test(a_killed_process_keeps_nothing),
		cmocka_unit_test(many_at_once_take_nobodys_new_folder),
		cmocka_unit_test(a_folder_that_is_not_there_is_told),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, make_top, NULL);
}
