/* SPDX-License-Identifier: Apache-2.0 */
/* fs/mountinfo.c: lines as the kernel writes them, and others. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fs/fs-private.h"

static int parse(const char *line, struct ql_mountinfo *info, char *copy)
{
	(void)snprintf(copy, 512, "%s", line);
	return ql_mountinfo_parse(copy, info);
}

static void a_line_with_tags_is_read(void **state)
{
	struct ql_mountinfo i;
	char copy[512];

	(void)state;
	assert_int_equal(
		parse("36 35 98:12 /root /mnt/x rw,noatime master:1 shared:7 "
		      "- ext3 /dev/root rw,errors=continue\n",
		      &i, copy),
		0);
	assert_int_equal(i.major, 98);
	assert_int_equal(i.minor, 12);
	assert_string_equal(i.dir, "/mnt/x");
	assert_string_equal(i.type, "ext3");
	assert_string_equal(i.source, "/dev/root");
}

static void octal_escapes_are_undone(void **state)
{
	struct ql_mountinfo i;
	char copy[512];

	(void)state;
	assert_int_equal(parse("1 2 0:3 / /a\\040b\\134\\011c\\0q ro - "
			       "fuse.quicklayer reg:5000/x\\040y ro",
			       &i, copy),
			 0);
	assert_string_equal(i.dir, "/a b\\\tc\\0q");
	assert_string_equal(i.type, "fuse.quicklayer");
	assert_string_equal(i.source, "reg:5000/x y");
}

static void an_empty_source_is_one(void **state)
{
	struct ql_mountinfo i;
	char copy[512];

	(void)state;
	assert_int_equal(parse("1 2 0:3 / /m rw - tmpfs  rw", &i, copy), 0);
	assert_string_equal(i.source, "");
}

static void other_lines_are_refused(void **state)
{
	static const char *const lines[] = {
		"",
		"1",
		"1 2 0:3 / /m rw",
		"1 2 0:3 / /m rw -",
		"1 2 0:3 / /m rw - type",
		"1 2 03 / /m rw - type src rw",
		"1 2 0:3x / /m rw - type src rw",
		"1  2 0:3 / /m rw - type src rw",
	};
	struct ql_mountinfo i;
	char copy[512];

	(void)state;
	for (size_t k = 0; k < sizeof(lines) / sizeof(lines[0]); k++)
		assert_int_equal(parse(lines[k], &i, copy), -EBADMSG);
}

static int see_root(const struct ql_mountinfo *info, void *arg)
{
	if (strcmp(info->dir, "/") == 0)
		*(int *)arg += 1;
	return 0;
}

static int stop(const struct ql_mountinfo *info, void *arg)
{
	(void)info;
	(void)arg;
	return 42;
}

static void this_process_has_a_root_mount(void **state)
{
	struct ql_error err = QL_ERROR_INIT;
	struct ql_mounted mounted;
	int seen = 0;

	(void)state;
	assert_int_equal(ql_mountinfo_each(see_root, &seen, &err), 0);
	assert_true(seen > 0);
	assert_int_equal(ql_mountinfo_each(stop, NULL, &err), 42);
	assert_int_equal(ql_mountinfo_find("/", &mounted, &err), 1);
	assert_false(mounted.ours);
	assert_int_equal(ql_mountinfo_find("/nonexistent", &mounted, &err), 0);
}

static void the_root_is_node_1_and_others_are_their_nids(void **state)
{
	(void)state;
	assert_int_equal(ql_ino(0, 36, 36), FUSE_ROOT_ID);
	assert_int_equal(ql_ino_nid(FUSE_ROOT_ID, 36), 36);
	assert_int_equal(ql_ino(0, 36, 1ULL << 40), 1ULL << 40);
	assert_int_equal(ql_ino_nid(1ULL << 40, 36), 1ULL << 40);
}

static void a_slot_is_the_upper_sixteen_bits(void **state)
{
	fuse_ino_t ino = ql_ino(65535, 36, 36);

	(void)state;
	assert_int_equal(ino, 0xffff000000000024);
	assert_int_equal(ql_ino_slot(ino), 65535);
	assert_int_equal(ql_ino_nid(ino, 36), 36);
	assert_int_equal(ql_ino_slot(FUSE_ROOT_ID), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_line_with_tags_is_read),
		cmocka_unit_test(octal_escapes_are_undone),
		cmocka_unit_test(an_empty_source_is_one),
		cmocka_unit_test(other_lines_are_refused),
		cmocka_unit_test(this_process_has_a_root_mount),
		cmocka_unit_test(the_root_is_node_1_and_others_are_their_nids),
		cmocka_unit_test(a_slot_is_the_upper_sixteen_bits),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
