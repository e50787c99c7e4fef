/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The access log: what stands in it, that it is bounded, that processes share
 * it, and that none of its troubles is anybody else's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/accesslog.h"
#include "tools/cachesim/cachesim.h"

enum { PROCESSES = 4, PULLS = 100 };

struct lab {
	char dir[64];
	char path[80];
	char old[84];
};

static int setup(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));

	assert_non_null(lab);
	(void)snprintf(lab->dir, sizeof(lab->dir), "%s",
		       "/tmp/quicklayer-test.XXXXXX");
	assert_non_null(mkdtemp(lab->dir));
	(void)snprintf(lab->path, sizeof(lab->path), "%s/log", lab->dir);
	(void)snprintf(lab->old, sizeof(lab->old), "%s.1", lab->path);
	*state = lab;
	return ql_accesslog_set(lab->path);
}

static int teardown(void **state)
{
	struct lab *lab = *state;

	(void)unlink(lab->path);
	(void)unlink(lab->old);
	(void)rmdir(lab->dir);
	free(lab);
	return ql_accesslog_set(NULL);
}

static void digest(uint8_t n, struct ql_digest *d)
{
	memset(d->bytes, 0, sizeof(d->bytes));
	d->bytes[0] = n;
}

/* An image of two layers. */
static void add(void)
{
	struct ql_access_layer layers[2] = {
		{ .size = 1000, .bytes = 400, .hit = QL_ACCESS_HIT },
		{ .size = 500, .bytes = 100, .has_parent = true },
	};
	struct ql_digest image;

	digest(1, &image);
	digest(2, &layers[0].layer);
	digest(2, &layers[1].parent);
	digest(3, &layers[1].layer);
	ql_accesslog_add("r/\"a\"\n", &image, layers, 2);
}

/* Of all that a simulator makes of the file. */
static void expect(const char *path, uint64_t pulls)
{
	__attribute__((cleanup(
		ql_trace_counts_release))) struct ql_trace_counts counts = {
		0
	};
	_cleanup_(ql_tracespool_freep) struct ql_tracespool *s = NULL;
	_cleanup_stream_ struct ql_stream *in = NULL;
	struct ql_error err = QL_ERROR_INIT;
	struct ql_trace_event a, b;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ql_stream_from_fd(fd, &in, &err), 0);
	assert_int_equal(ql_tracespool_read(in, &counts, &s, &err), 0);
	assert_int_equal(counts.broken, 0);
	assert_int_equal(counts.other, 1); /* the header */
	assert_int_equal(counts.pulls, pulls);
	assert_int_equal(counts.requests, 2 * pulls);
	assert_int_equal(ql_tracespool_rewind(s, &err), 0);
	assert_int_equal(ql_tracespool_next(s, &a, &err), 1);
	assert_int_equal(ql_tracespool_next(s, &b, &err), 1);
	assert_int_equal(a.req.id, 2);
	assert_int_equal(a.req.parent, 0);
	assert_int_equal(a.req.flags, QL_CACHE_START);
	assert_int_equal(a.req.size, 1000);
	assert_int_equal(a.bytes, 400);
	assert_int_equal(b.req.parent, 2);
	assert_int_equal(b.req.flags, 0);
	assert_int_equal(b.req.family, a.req.family);
	assert_true(b.req.family != 0);
}

static void a_simulator_reads_it(void **state)
{
	struct lab *lab = *state;
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(1 << 16);
	struct ql_error err = QL_ERROR_INIT;

	add();
	expect(lab->path, 1);
	add();
	expect(lab->path, 2);
	assert_int_equal(ql_read_file(AT_FDCWD, lab->path, &buf, &err), 0);
	assert_ptr_equal(strstr(ql_buf_str(&buf),
				"{\"quicklayer_access_log\": 1}\n"),
			 buf.data);
	assert_non_null(strstr(ql_buf_str(&buf), "\"hit\": true"));
	assert_null(strstr(ql_buf_str(&buf), "\"hit\": false"));
}

static void it_is_bounded(void **state)
{
	struct lab *lab = *state;
	struct stat st;

	add();
	assert_int_equal(truncate(lab->path, (off_t)QL_ACCESSLOG_MAX - 100), 0);
	add();
	expect(lab->path, 1);
	assert_int_equal(stat(lab->old, &st), 0);
	assert_int_equal(st.st_size, QL_ACCESSLOG_MAX - 100);
	add();
	expect(lab->path, 2);
	/* The next time, the old one goes. */
	assert_int_equal(truncate(lab->path, (off_t)QL_ACCESSLOG_MAX - 50), 0);
	add();
	assert_int_equal(stat(lab->old, &st), 0);
	assert_int_equal(st.st_size, QL_ACCESSLOG_MAX - 50);
	expect(lab->path, 1);
}

static void processes_share_it(void **state)
{
	struct lab *lab = *state;

	for (int i = 0; i < PROCESSES; i++) {
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (pid == 0) {
			for (int n = 0; n < PULLS; n++)
				add();
			_exit(0);
		}
	}
	for (int i = 0; i < PROCESSES; i++)
		assert_true(wait(NULL) > 0);
	expect(lab->path, (uint64_t)PROCESSES * PULLS);
}

static void its_troubles_are_its_own(void **state)
{
	struct lab *lab = *state;
	char path[96];

	/* Nobody reads there. */
	assert_int_equal(mkfifo(lab->path, 0600), 0);
	add();
	assert_int_equal(unlink(lab->path), 0);
	(void)snprintf(path, sizeof(path), "%s/none/log", lab->dir);
	assert_int_equal(ql_accesslog_set(path), 0);
	add();
	assert_int_equal(ql_accesslog_set(lab->dir), 0);
	add();
	assert_int_equal(ql_accesslog_set("/dev/full"), 0);
	add();
	assert_true(ql_accesslog_is_on());
	assert_int_equal(ql_accesslog_set(""), 0);
	assert_false(ql_accesslog_is_on());
	add();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_simulator_reads_it, setup,
						teardown),
		cmocka_unit_test_setup_teardown(it_is_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(processes_share_it, setup,
						teardown),
		cmocka_unit_test_setup_teardown(its_troubles_are_its_own, setup,
						teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
