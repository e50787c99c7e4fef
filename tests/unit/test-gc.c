/* SPDX-License-Identifier: Apache-2.0 */
/* store/keepgc.c: what a dry run names is what goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <fcntl.h>
#include <inttypes.h>
#include <sys/file.h>
#include <unistd.h>

#include "store/store-private.h"
#include "tests/unit/twoimages.h"

enum { NAMES_MAX = 1 << 16 };

static void note(const char *path, uint64_t bytes, void *arg)
{
	assert_int_equal(ql_buf_addf(arg, "%s %" PRIu64 "\n", path, bytes), 0);
}

/* Layers that a killed pull has left, one of which has a file that another
 * image has, too. */
static void a_dry_run_names_layers_of_no_image(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(1 << 20);
	_cleanup_buf_ struct ql_buf said = QL_BUF_INIT(NAMES_MAX);
	_cleanup_buf_ struct ql_buf done = QL_BUF_INIT(NAMES_MAX);
	struct ql_remove_stats dry, stats;
	struct ql_digest m[2], lost, shared;
	char path[QL_OBJECT_PATH + 1];

	(void)state;
	two_images(&lab, m);
	add_big(&tar, "lost", 'l');
	add_big(&tar, "shared", 'x');
	assert_int_equal(lab_layer(&lab, &tar), 0);
	lost = big_digest('l');
	shared = big_digest('x');
	assert_int_equal(
		ql_store_gc(lab.store, true, note, &said, &dry, &lab.err), 0);
	(void)ql_object_path(&lost, path);
	assert_non_null(strstr(ql_buf_str(&said), path));
	assert_non_null(strstr(ql_buf_str(&said), "layers/"));
	assert_null(strstr(ql_buf_str(&said), ql_object_path(&shared, path)));
	assert_true(ql_object_exists(lab.store, &lost));
	assert_int_equal(ql_store_gc(lab.store, false, note, &done, &stats,
				     &lab.err),
			 0);
	assert_string_equal(ql_buf_str(&said), ql_buf_str(&done));
	assert_int_equal(dry.objects, stats.objects);
	assert_int_equal(dry.bytes, stats.bytes);
	assert_false(ql_object_exists(lab.store, &lost));
	assert_true(ql_object_exists(lab.store, &shared));
}

/* ---- locks ---- */

enum { TRIALS = 3 };

/* Whom nobody locks, and whether somebody does when it goes. */
struct trials {
	char *paths[TRIALS]; /* owned; below the root */
	int fds[TRIALS];     /* owned; opened before */
	unsigned int gone, locked;
};

static void try_lock(const char *path, uint64_t bytes, void *arg)
{
	struct trials *t = arg;

	(void)bytes;
	for (int i = 0; i < TRIALS; i++)
		if (strcmp(path, t->paths[i]) == 0) {
			t->gone++;
			t->locked += flock(t->fds[i], LOCK_EX | LOCK_NB) < 0;
		}
}

static void what_goes_is_locked_until_it_is_gone(void **state)
{
	static const char *const names[TRIALS][2] = { { "partial", "part" },
						      { "partial", "lock" },
						      { "images", "cfs" } };
	_cleanup_lab_ struct lab lab;
	struct ql_digest m[2], none = big_digest('n');
	struct trials t = { .gone = 0 };
	struct ql_remove_stats stats;
	char hex[QL_DIGEST_HEX + 1];

	(void)state;
	two_images(&lab, m);
	for (int i = 0; i < TRIALS; i++) {
		t.paths[i] = ql_strf("%s/%s.%s", names[i][0],
				     ql_digest_hex(&none, hex), names[i][1]);
		tarball_must(t.paths[i] != NULL);
		t.fds[i] = openat(lab.store->root_fd, t.paths[i],
				  O_CREAT | O_RDWR | O_CLOEXEC, 0600);
		assert_true(t.fds[i] >= 0);
	}
	assert_int_equal(ql_store_gc(lab.store, false, try_lock, &t, &stats,
				     &lab.err),
			 0);
	assert_int_equal(t.gone, TRIALS);
	assert_int_equal(t.locked, TRIALS);
	for (int i = 0; i < TRIALS; i++) {
		(void)close(t.fds[i]);
		free(t.paths[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_dry_run_names_layers_of_no_image),
		cmocka_unit_test(what_goes_is_locked_until_it_is_gone),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
