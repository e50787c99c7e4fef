/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/tar.c, tarheader.c and path.c: archives written by hand, the good,
 * the odd and the bad.  Extended headers and sparse files are in test-pax.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>

#include "tests/unit/tarball.h"

static const struct ql_tar_entry *next(struct archive *a)
{
	const struct ql_tar_entry *e = NULL;
	int r = archive_step(a, &e);

	if (r < 0)
		print_message("# %s\n", a->err.text);
	assert_int_equal(r, 1);
	return e;
}

static void ends(struct archive *a)
{
	const struct ql_tar_entry *e;

	assert_int_equal(archive_step(a, &e), 0);
	assert_int_equal(ql_tar_pos(a->tar), a->buf.len);
}

/* The next step fails with that code and words. */
static void fails(struct archive *a, int code, const char *words)
{
	const struct ql_tar_entry *e;

	assert_int_equal(archive_step(a, &e), code);
	assert_int_equal(a->err.code, code);
	if (!strstr(a->err.text, words))
		fail_msg("\"%s\" lacks \"%s\"", a->err.text, words);
}

/* ---- good archives ---- */

static void fields_are_read(void **state)
{
	_cleanup_archive_ struct archive a;
	const struct ql_tar_entry *e;

	(void)state;
	archive_init(&a);
	tarball_add(&a.buf, &(struct tarball_entry){ .name = "a/file",
						     .type = '0',
						     .mode = 04755,
						     .uid = 1000,
						     .gid = 100,
						     .mtime = 1234567890,
						     .data = "hello",
						     .len = 5 });
	tarball_add(&a.buf, &(struct tarball_entry){ .name = "dev",
						     .type = '3',
						     .major = 10,
						     .minor = 229 });
	tarball_link(&a.buf, '2', "link", "../up/and/../away");
	tarball_link(&a.buf, '1', "hard", "./a//file");
	tarball_end(&a.buf);
	e = next(&a);
	assert_string_equal(e->path, "a/file");
	assert_int_equal(e->type, '0');
	assert_int_equal(e->mode, 04755);
	assert_int_equal(e->uid, 1000);
	assert_int_equal(e->gid, 100);
	assert_int_equal(e->mtime_sec, 1234567890);
	assert_int_equal(e->mtime_nsec, 0);
	assert_int_equal(e->size, 5);
	assert_true(archive_content_is(&a, "hello", 5));
	e = next(&a);
	assert_int_equal(e->type, '3');
	assert_int_equal(e->major, 10);
	assert_int_equal(e->minor, 229);
	e = next(&a);
	assert_string_equal(e->link, "../up/and/../away");
	e = next(&a);
	assert_string_equal(e->link, "a/file");
	ends(&a);
}

static void unread_content_is_skipped(void **state)
{
	_cleanup_archive_ struct archive a;
	const void *data;

	(void)state;
	archive_init(&a);
	tarball_file(&a.buf, "one", "not read at all");
	tarball_file(&a.buf, "two", "read");
	tarball_file(&a.buf, "three", "");
	tarball_end(&a.buf);
	next(&a);
	assert_string_equal(next(&a)->path, "two");
	assert_int_equal(ql_tar_data(a.tar, &data, NULL), 4);
	assert_string_equal(next(&a)->path, "three");
	assert_int_equal(ql_tar_data(a.tar, &data, NULL), 0);
	ends(&a);
}

static void a_ustar_prefix_goes_in_front(void **state)
{
	_cleanup_archive_ struct archive a;
	char name[100], prefix[155];
	const struct ql_tar_entry *e;

	(void)state;
	archive_init(&a);
	tarball_add(&a.buf, &(struct tarball_entry){ .name = "name",
						     .type = '0',
						     .prefix = "a/prefix" });
	memset(name, 'n', sizeof(name));
	memset(prefix, 'p', sizeof(prefix));
	tarball_header(&a.buf, &(struct tarball_entry){ .type = '0' });
	memcpy(a.buf.data + 512, name, sizeof(name));
	memcpy(a.buf.data + 512 + 345, prefix, sizeof(prefix));
	tarball_sum(a.buf.data + 512);
	/* GNU has other things there. */
	tarball_header(&a.buf, &(struct tarball_entry){ .name = "gnu",
							.type = '0',
							.magic = TARBALL_GNU });
	memcpy(a.buf.data + 1024 + 345, "00000000000", 11);
	tarball_sum(a.buf.data + 1024);
	assert_string_equal(next(&a)->path, "a/prefix/name");
	e = next(&a);
	assert_int_equal(strlen(e->path), 256); /* fields full: no NUL */
	assert_memory_equal(e->path + 154, "p/n", 3);
	assert_string_equal(next(&a)->path, "gnu");
	ends(&a);
}

static void old_headers_tell_folders_by_a_slash(void **state)
{
	_cleanup_archive_ struct archive a;

	(void)state;
	archive_init(&a);
	tarball_add(&a.buf, &(struct tarball_entry){ .name = "dir/",
						     .magic = TARBALL_V7 });
	tarball_add(&a.buf, &(struct tarball_entry){ .name = "dir/file",
						     .data = "x",
						     .len = 1,
						     .magic = TARBALL_V7 });
	assert_int_equal(next(&a)->type, '5');
	assert_int_equal(next(&a)->type, '0');
	assert_true(archive_content_is(&a, "x", 1));
	ends(&a);
}

/* Taken for a folder's, its content would be read as headers, and others would
 * see other entries in the archive. */
static void a_file_has_content_whatever_its_name_ends_in(void **state)
{
	_cleanup_archive_ struct archive a;
	_cleanup_buf_ struct ql_buf hidden = QL_BUF_INIT(1 << 20);
	const struct ql_tar_entry *e;

	(void)state;
	archive_init(&a);
	tarball_header(&hidden, &(struct tarball_entry){ .name = "hidden",
							 .type = '0' });
	tarball_add(&a.buf, &(struct tarball_entry){ .name = "file/",
						     .type = '0',
						     .data = hidden.data,
						     .len = hidden.len });
	e = next(&a);
	assert_int_equal(e->type, '0');
	assert_string_equal(e->path, "file");
	assert_int_equal(e->size, hidden.len);
	ends(&a);
}

static void gnu_long_names_are_taken(void **state)
{
	_cleanup_archive_ struct archive a;
	char name[301] = { 0 }, target[401] = { 0 };
	const struct ql_tar_entry *e;

	(void)state;
	archive_init(&a);
	memset(name, 'n', 300);
	name[150] = '/';
	memset(target, 't', 400);
	tarball_extension(&a.buf, 'K', "././@LongLink", target, 401);
	tarball_extension(&a.buf, 'L', "././@LongLink", name, 301);
	tarball_link(&a.buf, '2', "short", "short");
	tarball_link(&a.buf, '2', "next", "own");
	e = next(&a);
	assert_string_equal(e->path, name);
	assert_string_equal(e->link, target);
	e = next(&a);
	assert_string_equal(e->path, "next");
	assert_string_equal(e->link, "own");
	ends(&a);
}

/* GNU tar's and star's base-256: what does not fit in octal digits. */
static void big_and_negative_numbers_are_read(void **state)
{
	_cleanup_archive_ struct archive a;
	const struct ql_tar_entry *e;
	char *h;

	(void)state;
	archive_init(&a);
	h = tarball_header(&a.buf,
			   &(struct tarball_entry){ .name = "old",
						    .type = '5',
						    .magic = TARBALL_GNU });
	memset(h + 136, 0xff, 12); /* mtime -2 */
	h[147] = (char)0xfe;
	memcpy(h + 108, "\x80\0\0\0\xff\xff\xff\xfe", 8); /* uid 2^32 - 2 */
	tarball_sum(h);
	e = next(&a);
	assert_int_equal(e->mtime_sec, -2);
	assert_int_equal(e->uid, 4294967294U);
	ends(&a);
}

static void names_are_relative_to_the_root(void **state)
{
	static const char *const names[][2] = {
		{ "/etc/passwd", "etc/passwd" },
		{ "//a///b", "a/b" },
		{ "./a/./b/.", "a/b" },
		{ ".", "" },
		{ "./", "" },
		{ "/", "" },
		{ "a..b/..c", "a..b/..c" },
		{ "", "" },
	};
	_cleanup_archive_ struct archive a;
	size_t n = sizeof(names) / sizeof(names[0]);

	(void)state;
	archive_init(&a);
	for (size_t i = 0; i < n; i++)
		tarball_dir(&a.buf, names[i][0], 0755);
	for (size_t i = 0; i < n; i++)
		assert_string_equal(next(&a)->path, names[i][1]);
	ends(&a);
}

static void a_links_size_is_no_content(void **state)
{
	_cleanup_archive_ struct archive a;
	char *h;

	(void)state;
	archive_init(&a);
	h = tarball_header(&a.buf, &(struct tarball_entry){ .name = "link",
							    .type = '2',
							    .link = "x" });
	tarball_field(h + 124, 12, 3000);
	tarball_sum(h);
	tarball_file(&a.buf, "file", "x");
	assert_int_equal(next(&a)->size, 0);
	assert_string_equal(next(&a)->path, "file");
	ends(&a);
}

/* ---- ends ---- */

static void an_archive_may_end_without_a_mark(void **state)
{
	_cleanup_archive_ struct archive a;
	_cleanup_archive_ struct archive b;
	_cleanup_archive_ struct archive empty;

	(void)state;
	archive_init(&a);
	tarball_file(&a.buf, "file", "content");
	a.buf.len = 512 + 7; /* the last padding is missing, too */
	next(&a);
	assert_true(archive_content_is(&a, "content", 7));
	ends(&a);
	archive_init(&b);
	tarball_file(&b.buf, "file", "");
	tarball_end(&b.buf);
	b.buf.len -= 512; /* one block of zeros */
	next(&b);
	ends(&b);
	archive_init(&empty);
	ends(&empty);
}

static void what_pads_the_end_is_read_too(void **state)
{
	_cleanup_archive_ struct archive a;

	(void)state;
	archive_init(&a);
	for (int i = 0; i < 20; i++)
		tarball_end(&a.buf);
	ends(&a);
}

static void an_entry_behind_a_lone_zero_block_is_refused(void **state)
{
	_cleanup_archive_ struct archive a;

	(void)state;
	archive_init(&a);
	tarball_file(&a.buf, "file", "");
	tarball_end(&a.buf);
	a.buf.len -= 512;
	tarball_file(&a.buf, "hidden", "");
	tarball_end(&a.buf);
	next(&a);
	fails(&a, -EBADMSG, "lone block of zeros");
}

/* ---- bad archives ---- */

static void a_cut_archive_is_refused(void **state)
{
	const void *data;

	(void)state;
	for (size_t len = 1; len < 512; len += 51) {
		_cleanup_archive_ struct archive a;

		archive_init(&a);
		tarball_file(&a.buf, "file", "x");
		a.buf.len = len;
		fails(&a, -EBADMSG, "ends in a header");
	}
	for (size_t len = 512; len < 519; len++) {
		_cleanup_archive_ struct archive read, skipped;

		archive_init(&read);
		tarball_file(&read.buf, "file", "content");
		read.buf.len = len;
		next(&read);
		while (ql_tar_data(read.tar, &data, &read.err) > 0)
			;
		assert_int_equal(read.err.code, -EBADMSG);
		archive_init(&skipped);
		tarball_file(&skipped.buf, "file", "content");
		skipped.buf.len = len;
		next(&skipped);
		fails(&skipped, -EBADMSG, "in the middle of an entry");
	}
}

static void a_wrong_checksum_is_refused(void **state)
{
	_cleanup_archive_ struct archive a;
	_cleanup_archive_ struct archive text;

	(void)state;
	archive_init(&a);
	tarball_file(&a.buf, "file", "");
	tarball_file(&a.buf, "next", "");
	a.buf.data[512 + 3] ^= 1;
	next(&a);
	fails(&a, -EBADMSG, "not a tar header at byte 512");
	archive_init(&text);
	for (int i = 0; i < 100; i++)
		tarball_bytes(&text.buf, "not an archive at all\n", 22);
	fails(&text, -EBADMSG, "not a tar header at byte 0");
}

/* Writes bytes over a field of a good header. */
static void field_fails(size_t at, const char *bytes, size_t len,
			const char *words)
{
	_cleanup_archive_ struct archive a;

	archive_init(&a);
	tarball_header(&a.buf, &(struct tarball_entry){ .name = "x",
							.type = '0',
							.magic = TARBALL_GNU });
	memcpy(a.buf.data + at, bytes, len);
	tarball_sum(a.buf.data);
	fails(&a, -EBADMSG, words);
}

static void numbers_out_of_range_are_refused(void **state)
{
	static const char minus[] = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
				    "\xff\xff";
	static const char huge[] = "\x80\0\0\1\0\0\0\0\0\0\0\0";

	(void)state;
	field_fails(124, minus, 12, "size is out of range: -1");
	field_fails(124, huge, 12, "size is no number");
	field_fails(136, huge, 12, "mtime is no number");
	field_fails(108, minus, 8, "uid is out of range: -1");
	field_fails(108, "\x80\0\0\0\xff\xff\xff\xff", 8, "uid is out of");
	field_fails(116, "\x80\0\0\1\0\0\0\0", 8, "gid is out of range");
	field_fails(124, "12x         ", 12, "size is no number");
	field_fails(100, "rwxr-xr-", 8, "mode is no number");
	field_fails(108, "-000001", 8, "uid is no number");
	field_fails(329, minus, 8, "device is out of range");
}

static void name_fails(const char *name, int code, const char *words)
{
	_cleanup_archive_ struct archive file, link;

	archive_init(&file);
	tarball_extension(&file.buf, 'L', "long", name, strlen(name) + 1);
	tarball_file(&file.buf, "x", "");
	fails(&file, code, words);
	archive_init(&link);
	tarball_extension(&link.buf, 'K', "long", name, strlen(name) + 1);
	tarball_link(&link.buf, '1', "x", "");
	fails(&link, code, words);
}

static void names_that_leave_the_root_are_refused(void **state)
{
	(void)state;
	name_fails("..", -EINVAL, "\"..\" in a name");
	name_fails("../etc/passwd", -EINVAL, "\"..\" in a name");
	name_fails("a/../../b", -EINVAL, "\"..\" in a name");
	name_fails("a/..", -EINVAL, "\"..\" in a name");
	name_fails("/..", -EINVAL, "\"..\" in a name");
}

/* name: owned memory of len bytes, all 'n'. */
static char *long_name(size_t len)
{
	char *name = malloc(len + 1);

	tarball_must(name);
	memset(name, 'n', len);
	name[len] = '\0';
	return name;
}

static void names_that_are_too_long_are_refused(void **state)
{
	_cleanup_free_ char *component = long_name(256);
	_cleanup_free_ char *path = long_name(4097);
	_cleanup_free_ char *deep = long_name(200000);
	_cleanup_archive_ struct archive a;

	(void)state;
	name_fails(component, -ENAMETOOLONG, "component of 256 bytes");
	for (size_t i = 100; i < 4097; i += 101)
		path[i] = '/';
	name_fails(path, -ENAMETOOLONG, "a name of 4097 bytes");
	for (size_t i = 1; i < 200000; i += 2)
		deep[i] = '/';
	name_fails(deep, -ENAMETOOLONG, "a name of 200000 bytes");
	/* The longest that are allowed. */
	component[255] = '\0';
	path[4095] = '\0';
	archive_init(&a);
	tarball_extension(&a.buf, 'L', "long", component, 256);
	tarball_file(&a.buf, "x", "");
	tarball_extension(&a.buf, 'L', "long", path, 4096);
	tarball_file(&a.buf, "x", "");
	assert_string_equal(next(&a)->path, component);
	assert_string_equal(next(&a)->path, path);
	ends(&a);
}

static void an_unknown_type_is_refused_by_name(void **state)
{
	static const char types[] = "8ADMNVX";

	(void)state;
	for (const char *t = types; *t; t++) {
		_cleanup_archive_ struct archive a;

		archive_init(&a);
		tarball_add(&a.buf, &(struct tarball_entry){ .name = "odd/one",
							     .type = *t });
		fails(&a, -EOPNOTSUPP, "odd/one: unknown entry type 0x");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields_are_read),
		cmocka_unit_test(unread_content_is_skipped),
		cmocka_unit_test(a_ustar_prefix_goes_in_front),
		cmocka_unit_test(old_headers_tell_folders_by_a_slash),
		cmocka_unit_test(a_file_has_content_whatever_its_name_ends_in),
		cmocka_unit_test(gnu_long_names_are_taken),
		cmocka_unit_test(big_and_negative_numbers_are_read),
		cmocka_unit_test(names_are_relative_to_the_root),
		cmocka_unit_test(a_links_size_is_no_content),
		cmocka_unit_test(an_archive_may_end_without_a_mark),
		cmocka_unit_test(what_pads_the_end_is_read_too),
		cmocka_unit_test(an_entry_behind_a_lone_zero_block_is_refused),
		cmocka_unit_test(a_cut_archive_is_refused),
		cmocka_unit_test(a_wrong_checksum_is_refused),
		cmocka_unit_test(numbers_out_of_range_are_refused),
		cmocka_unit_test(names_that_leave_the_root_are_refused),
		cmocka_unit_test(names_that_are_too_long_are_refused),
		cmocka_unit_test(an_unknown_type_is_refused_by_name),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
