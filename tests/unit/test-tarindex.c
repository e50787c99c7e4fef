/* SPDX-License-Identifier: Apache-2.0 */
/* fetch/tarindex.c, against what GNU tar writes, and damaged archives. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "fetch/fetch-private.h"
#include "tests/unit/scratch.h"

static char dir[] = "/tmp/quicklayer-unit.XXXXXX";

static void run(const char *command)
{
	_cleanup_free_ char *line =
		ql_strf("cd '%s' && { %s; } >/dev/null", dir, command);

	assert_int_equal(system(line), 0); // NOLINT(cert-env33-c)
}

static int open_tar(void)
{
	_cleanup_free_ char *path = ql_path_join(dir, "x.tar");
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* The member's content, compared. */
static void expect(int fd, const struct ql_tarindex *ix, const char *name,
		   const char *content)
{
	const struct ql_tar_member *m = ql_tarindex_find(ix, name);
	char buf[200] = "";

	if (!m)
		fail_msg("no %s", name);
	assert_int_equal(m->size, strlen(content));
	assert_true(ql_pread_full(fd, buf, m->size, m->offset) >= 0);
	assert_string_equal(buf, content);
}

static const char *const formats[] = { "ustar", "gnu", "pax", "v7", "oldgnu" };

static void members_are_found_in_every_format(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		_cleanup_free_ char *command = ql_strf(
			"tar -cf x.tar --format=%s ./a sub empty", formats[i]);
		_cleanup_close_ int fd = -1;
		struct ql_tarindex ix = { 0 };
		struct ql_error err = QL_ERROR_INIT;

		print_message("# %s\n", formats[i]);
		run(command);
		fd = open_tar();
		if (ql_tarindex_read(fd, &ix, &err) < 0)
			fail_msg("%s", err.text);
		expect(fd, &ix, "a", "content of a");
		expect(fd, &ix, "./a", "content of a");
		expect(fd, &ix, "sub/b", "content of b");
		expect(fd, &ix, "empty", "");
		expect(fd, &ix, "sub/dir/up", "content of b"); /* symlinks */
		expect(fd, &ix, "sub/hard", "content of a");
		assert_null(ql_tarindex_find(&ix, "sub/loop1"));
		assert_null(ql_tarindex_find(&ix, "sub/dangling"));
		assert_null(ql_tarindex_find(&ix, "sub"));
		ql_tarindex_release(&ix);
	}
}

static void long_names_are_found(void **state)
{
	static const char *const by[] = { "ustar", "gnu", "pax" };
	static const char name[] =
		"aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffff/"
		"aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffff";

	(void)state;
	for (size_t i = 0; i < sizeof(by) / sizeof(by[0]); i++) {
		_cleanup_free_ char *command =
			ql_strf("mkdir -p $(dirname %s) && echo long >%s && "
				"tar -cf x.tar --format=%s %s",
				name, name, by[i], name);
		_cleanup_close_ int fd = -1;
		struct ql_tarindex ix = { 0 };

		run(command);
		fd = open_tar();
		assert_int_equal(ql_tarindex_read(fd, &ix, NULL), 0);
		expect(fd, &ix, name, "long\n");
		ql_tarindex_release(&ix);
	}
}

static void the_last_of_a_name_counts(void **state)
{
	_cleanup_close_ int fd = -1;
	struct ql_tarindex ix = { 0 };

	(void)state;
	run("tar -cf x.tar a && printf new >a && tar -rf x.tar a && "
	    "printf 'content of a' >a");
	fd = open_tar();
	assert_int_equal(ql_tarindex_read(fd, &ix, NULL), 0);
	expect(fd, &ix, "a", "new");
	ql_tarindex_release(&ix);
}

/* Sizes from 8 GiB on are base 256 (gnu) or a pax record; sparse on disk. */
static void sizes_above_8_gib_are_read(void **state)
{
	static const char *const by[] = { "gnu", "pax" };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		/* Its header, and as many zeros as it says. */
		_cleanup_free_ char *command =
			ql_strf("truncate -s 9G big; { tar -c --format=%s big "
				"2>/dev/null || :; } | head -c 4096 >x.tar; "
				"truncate -s 9663680000 x.tar",
				by[i]);
		_cleanup_close_ int fd = -1;
		struct ql_tarindex ix = { 0 };

		run(command);
		fd = open_tar();
		assert_int_equal(ql_tarindex_read(fd, &ix, NULL), 0);
		assert_int_equal(ql_tarindex_find(&ix, "big")->size,
				 9ULL << 30);
		ql_tarindex_release(&ix);
		run("rm -f big x.tar");
	}
}

static int read_bytes(const uint8_t *data, size_t len)
{
	_cleanup_close_ int fd = memfd_create("tar", MFD_CLOEXEC);
	struct ql_tarindex ix = { 0 };
	struct ql_error err = QL_ERROR_INIT;
	int r;

	assert_true(fd >= 0);
	assert_int_equal(ql_write_full(fd, data, len), 0);
	r = ql_tarindex_read(fd, &ix, &err);
	assert_int_equal(r < 0, err.code < 0);
	ql_tarindex_release(&ix);
	return r;
}

static void damage_is_an_error_and_no_more(void **state)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(1 << 20);
	_cleanup_free_ char *path = ql_path_join(dir, "x.tar");

	(void)state;
	run("tar -cf x.tar --format=pax a sub");
	assert_int_equal(ql_read_file(AT_FDCWD, path, &buf, NULL), 0);
	assert_int_equal(read_bytes((uint8_t *)buf.data, buf.len), 0);
	assert_int_equal(read_bytes((uint8_t *)buf.data, 700), -EBADMSG);
	for (size_t at = 0; at < 512; at++) {
		buf.data[at] = (char)(buf.data[at] ^ 0x11);
		if (read_bytes((uint8_t *)buf.data, buf.len) != -EBADMSG)
			fail_msg("byte %zu", at);
		buf.data[at] = (char)(buf.data[at] ^ 0x11);
	}
	/* A pax record's lengths. */
	for (size_t at = 512; at < 1024; at++) {
		char old = buf.data[at];

		buf.data[at] = '9';
		(void)read_bytes((uint8_t *)buf.data, buf.len);
		buf.data[at] = old;
	}
}

static int make_dir(void **state)
{
	(void)state;
	(void)scratch_dir(dir);
	run("mkdir -p sub/dir && printf 'content of a' >a && "
	    "printf 'content of b' >sub/b && : >empty && "
	    "ln -s ../b sub/dir/up && ln a sub/hard && "
	    "ln -s loop2 sub/loop1 && ln -s loop1 sub/loop2 && "
	    "ln -s nowhere sub/dangling");
	return 0;
}

static int remove_dir(void **state)
{
	_cleanup_free_ char *line = ql_strf("rm -rf '%s'", dir);

	(void)state;
	return system(line); // NOLINT(cert-env33-c)
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(members_are_found_in_every_format),
		cmocka_unit_test(long_names_are_found),
		cmocka_unit_test(the_last_of_a_name_counts),
		cmocka_unit_test(sizes_above_8_gib_are_read),
		cmocka_unit_test(damage_is_an_error_and_no_more),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
