/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/tarwrite.c: what is written is what the reader reads, and ustar says
 * what it can.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>

#include "tests/unit/tarball.h"

/* Reads the one entry of an archive that was written. */
static const struct ql_tar_entry *written(struct archive *a,
					  const struct ql_tar_entry *e)
{
	const struct ql_tar_entry *got = NULL;
	char zeros[QL_TAR_END] = { 0 };
	int r;

	archive_init(a);
	r = ql_tar_write_entry(e, &a->buf, &a->err);
	if (r < 0)
		fail_msg("%s", a->err.text);
	tarball_bytes(&a->buf, zeros, sizeof(zeros));
	r = archive_step(a, &got);
	if (r != 1)
		fail_msg("%d: %s", r, a->err.text);
	return got;
}

static void xattrs_same(const struct ql_tar_entry *a,
			const struct ql_tar_entry *b)
{
	assert_int_equal(a->n_xattrs, b->n_xattrs);
	for (size_t i = 0; i < a->n_xattrs; i++) {
		const struct ql_tar_xattr *x = &a->xattrs[i];
		size_t at = 0;

		while (at < b->n_xattrs &&
		       strcmp(b->xattrs[at].name, x->name) != 0)
			at++;
		assert_true(at < b->n_xattrs);
		assert_int_equal(b->xattrs[at].len, x->len);
		assert_memory_equal(b->xattrs[at].value, x->value, x->len);
	}
}

/* Written and read, it is the same; *ret_len: bytes of its headers. */
static void round_trip(const struct ql_tar_entry *e, size_t *ret_len)
{
	_cleanup_archive_ struct archive a;
	const struct ql_tar_entry *got = written(&a, e);

	assert_int_equal(got->type, e->type);
	assert_string_equal(got->path, e->path);
	if (e->type == '1' || e->type == '2')
		assert_string_equal(got->link, e->link);
	assert_int_equal(got->mode, e->mode);
	assert_int_equal(got->uid, e->uid);
	assert_int_equal(got->gid, e->gid);
	if (e->type == '0')
		assert_int_equal(got->size, e->size);
	assert_int_equal(got->mtime_sec, e->mtime_sec);
	assert_int_equal(got->mtime_nsec, e->mtime_nsec);
	assert_int_equal(got->major, e->major);
	assert_int_equal(got->minor, e->minor);
	xattrs_same(e, got);
	*ret_len = a.buf.len - QL_TAR_END;
}

static char *text_of(size_t len, char c)
{
	char *s = malloc(len + 1);

	tarball_must(s != NULL);
	memset(s, c, len);
	s[len] = '\0';
	return s;
}

/* ---- what ustar can say ---- */

static void ustar_is_enough_for_most(void **state)
{
	static const struct ql_tar_entry entries[] = {
		{ .type = '0', .path = "a", .mode = 04755, .size = 511 },
		{ .type = '1', .path = "b", .link = "a", .mode = 0644 },
		{ .type = '2', .path = "c", .link = "../a", .mode = 0777 },
		{ .type = '3', .path = "d", .major = 4095, .minor = 1048575 },
		{ .type = '4', .path = "e", .major = 8, .minor = 1 },
		{ .type = '5', .path = "f/g", .mode = 01777 },
		{ .type = '6', .path = "h" },
		{ .type = '5', .path = "", .mode = 0755 },
		{ .type = '0',
		  .path = "max",
		  .uid = 07777777,
		  .gid = 07777777,
		  .size = 077777777777,
		  .mtime_sec = 077777777777 },
	};
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
		round_trip(&entries[i], &len);
		assert_int_equal(len, 512);
	}
}

static void the_headers_bytes_are_these(void **state)
{
	const struct ql_tar_entry e = { .type = '5',
					.path = "etc",
					.mode = 0755,
					.uid = 1,
					.gid = 2,
					.mtime_sec = 3 };
	_cleanup_buf_ struct ql_buf got = QL_BUF_INIT(512);
	char want[512] = { 0 };

	(void)state;
	memcpy(want, "etc/", 4);
	memcpy(want + 100, "0000755", 7);
	memcpy(want + 108, "0000001", 7);
	memcpy(want + 116, "0000002", 7);
	memcpy(want + 124, "00000000000", 11);
	memcpy(want + 136, "00000000003", 11);
	want[156] = '5';
	memcpy(want + 257, "ustar\00000", 8);
	memcpy(want + 329, "0000000", 7);
	memcpy(want + 337, "0000000", 7);
	tarball_sum(want);
	want[155] = ' '; /* behind the sum's NUL, as POSIX has it */
	assert_int_equal(ql_tar_write_entry(&e, &got, NULL), 0);
	assert_int_equal(got.len, 512);
	assert_memory_equal(got.data, want, 512);
	assert_int_equal(ql_tar_padding(0), 0);
	assert_int_equal(ql_tar_padding(1), 511);
	assert_int_equal(ql_tar_padding(512), 0);
	assert_int_equal(ql_tar_padding(UINT64_C(1) << 40 | 3), 509);
}

/* ---- names ---- */

static void long_names_are_cut_at_a_slash_or_extended(void **state)
{
	_cleanup_free_ char *x = text_of(255, 'x');
	static const struct {
		size_t dirs, dir, base; /* bytes of components */
		size_t len;		/* of headers */
	} names[] = {
		{ 0, 0, 100, 512 },    { 0, 0, 101, 1536 },
		{ 1, 155, 100, 512 },  { 1, 156, 1, 1536 },
		{ 1, 1, 101, 1536 },   { 1, 1, 100, 512 },
		{ 2, 77, 99, 512 },    { 15, 254, 255, 5120 },
		{ 1, 255, 255, 2048 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		_cleanup_buf_ struct ql_buf path = QL_BUF_INIT(8192);
		struct ql_tar_entry e = { .type = '0', .mode = 0644 };
		size_t len;

		for (size_t j = 0; j < names[i].dirs; j++) {
			tarball_bytes(&path, x, names[i].dir);
			tarball_bytes(&path, "/", 1);
		}
		tarball_bytes(&path, x, names[i].base);
		e.path = path.data;
		round_trip(&e, &len);
		assert_int_equal(len, names[i].len);
		e.type = '5'; /* one byte more */
		round_trip(&e, &len);
		e.type = '2';
		e.link = path.data;
		round_trip(&e, &len);
		e.type = '1';
		round_trip(&e, &len);
	}
}

static void a_shortened_file_is_no_folder(void **state)
{
	_cleanup_free_ char *path = text_of(300, 'x');
	const struct ql_tar_entry e = { .type = '0', .path = path };
	_cleanup_archive_ struct archive a;

	(void)state;
	path[99] = '/';
	path[98] = 'y';
	(void)written(&a, &e);
	/* The header proper is the last. */
	assert_int_equal(a.buf.data[a.buf.len - QL_TAR_END - 512 + 98], 'y');
	assert_int_equal(a.buf.data[a.buf.len - QL_TAR_END - 512 + 99], '\0');
}

static void names_beyond_ascii_keep_their_bytes(void **state)
{
	_cleanup_free_ char *latin = text_of(200, '\xe9');
	_cleanup_free_ char *target = text_of(200, '\xff');
	static const struct {
		char *path;
		size_t len;
	} names[] = {
		{ "caf\xc3\xa9", 1536 },      /* UTF-8 */
		{ "caf\xe9", 512 },	      /* not */
		{ "\xed\xa0\x80", 512 },      /* a surrogate */
		{ "a\nb\x01\x7f c\\", 512 },  /* odd ASCII */
		{ "\xff/\xc3\xa9", 512 },     /* of both */
		{ "\xf0\x9f\x90\xb3", 1536 }, /* four bytes */
	};
	struct ql_tar_entry e = { .type = '2' };
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		e.path = names[i].path;
		e.link = "x";
		round_trip(&e, &len);
		assert_int_equal(len, names[i].len);
		e.path = "x";
		e.link = names[i].path;
		round_trip(&e, &len);
		assert_int_equal(len, names[i].len);
	}
	e.path = latin;
	e.link = target;
	round_trip(&e, &len);
	assert_int_equal(len, 512 + 2 * 1024);
	e.mtime_nsec = 1; /* and a pax header between */
	round_trip(&e, &len);
	assert_int_equal(len, 512 + 3 * 1024);
}

/* ---- numbers ---- */

static void times_keep_sign_and_nanoseconds(void **state)
{
	static const struct {
		int64_t sec;
		uint32_t nsec;
		const char *text; /* or NULL: the header says it */
	} times[] = {
		{ 0, 0, NULL },
		{ 077777777777, 0, NULL },
		{ INT64_C(0100000000000), 0, " mtime=8589934592\n" },
		{ 1, 500000000, " mtime=1.5\n" },
		{ 0, 1, " mtime=0.000000001\n" },
		{ -2, 500000000, " mtime=-1.5\n" },
		{ -1, 0, " mtime=-1\n" },
		{ -1, 999999999, " mtime=-0.000000001\n" },
		{ -1, 750000000, " mtime=-0.25\n" },
		{ -10, 0, " mtime=-10\n" },
		{ INT64_MAX - 1, 999999999,
		  " mtime=9223372036854775806.999999999\n" },
		{ -INT64_MAX, 1, " mtime=-9223372036854775806.999999999\n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		const struct ql_tar_entry e = { .type = '0',
						.path = "t",
						.mtime_sec = times[i].sec,
						.mtime_nsec = times[i].nsec };
		_cleanup_archive_ struct archive a;
		size_t len;

		round_trip(&e, &len);
		assert_int_equal(len, times[i].text ? 1536 : 512);
		(void)written(&a, &e);
		if (times[i].text &&
		    !memmem(a.buf.data, a.buf.len, times[i].text,
			    strlen(times[i].text)))
			fail_msg("no%s", times[i].text);
	}
}

static void large_numbers_are_extended(void **state)
{
	const struct ql_tar_entry e = { .type = '0',
					.path = "n",
					.uid = 07777777 + 1,
					.gid = UINT32_MAX - 1,
					.size = UINT64_C(8) << 30 };
	_cleanup_archive_ struct archive a;
	size_t len;

	(void)state;
	round_trip(&e, &len);
	assert_int_equal(len, 1536);
	(void)written(&a, &e);
	assert_non_null(memmem(a.buf.data, a.buf.len, "15 uid=2097152\n", 15));
	assert_non_null(
		memmem(a.buf.data, a.buf.len, "18 gid=4294967294\n", 18));
	assert_non_null(
		memmem(a.buf.data, a.buf.len, "19 size=8589934592\n", 19));
}

/* ---- xattrs ---- */

static void xattrs_keep_every_byte_and_have_one_order(void **state)
{
	static char caps[] = "\1\0\0\2\0\0\0\0\n=\0\0\0\0\0\0\0\0\0";
	struct ql_tar_xattr one[] = {
		{ "user.z", "", 0 },
		{ "security.capability", caps, 20 },
		{ "user.a b\n%3D", "v", 1 },
	};
	struct ql_tar_xattr two[] = { one[1], one[2], one[0] };
	struct ql_tar_entry e = { .type = '0', .path = "x", .xattrs = one };
	_cleanup_buf_ struct ql_buf a = QL_BUF_INIT(8192);
	_cleanup_buf_ struct ql_buf b = QL_BUF_INIT(8192);
	size_t len;

	(void)state;
	e.n_xattrs = 3;
	round_trip(&e, &len);
	assert_int_equal(ql_tar_write_entry(&e, &a, NULL), 0);
	e.xattrs = two;
	assert_int_equal(ql_tar_write_entry(&e, &b, NULL), 0);
	assert_int_equal(a.len, b.len);
	assert_memory_equal(a.data, b.data, a.len);
}

/* A record's length counts itself: 9 and 10, 99 and 100, … */
static void records_of_every_length_are_read(void **state)
{
	_cleanup_free_ char *value = text_of(65536, 'v');
	struct ql_tar_xattr x = { "u", value, 0 };
	const struct ql_tar_entry e = {
		.type = '0', .path = "x", .xattrs = &x, .n_xattrs = 1
	};
	size_t len;

	(void)state;
	for (x.len = 0; x.len < 1200; x.len++)
		round_trip(&e, &len);
	for (x.len = 9900; x.len < 10100; x.len++)
		round_trip(&e, &len);
	x.len = 65536;
	round_trip(&e, &len);
}

/* ---- what no archive can say ---- */

static void refused(const struct ql_tar_entry *e, const char *words)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(4096);
	struct ql_error err = QL_ERROR_INIT;

	assert_int_equal(ql_tar_write_entry(e, &buf, &err), -EINVAL);
	if (!strstr(err.text, words))
		fail_msg("\"%s\" lacks \"%s\"", err.text, words);
	assert_int_equal(buf.len, 0);
}

static void what_readers_refuse_is_not_written(void **state)
{
	_cleanup_free_ char *long_name = text_of(256, 'x');
	_cleanup_free_ char *long_link = text_of(4096, 'x');
	struct ql_tar_xattr x = { "user.a=b", "v", 1 };

	(void)state;
	refused(&(struct ql_tar_entry){ .type = '7', .path = "a" }, "type");
	refused(&(struct ql_tar_entry){ .type = '0', .path = "" }, "folder");
	refused(&(struct ql_tar_entry){ .type = '0', .path = "/a" }, "name");
	refused(&(struct ql_tar_entry){ .type = '5', .path = "a/" }, "name");
	refused(&(struct ql_tar_entry){ .type = '0', .path = "a/../b" },
		"name");
	refused(&(struct ql_tar_entry){ .type = '0', .path = long_name },
		"name");
	refused(&(struct ql_tar_entry){ .type = '2', .path = "a" }, "link");
	refused(&(struct ql_tar_entry){ .type = '2',
					.path = "a",
					.link = long_link },
		"target");
	refused(&(struct ql_tar_entry){ .type = '1',
					.path = "a",
					.link = "../b" },
		"name");
	refused(&(struct ql_tar_entry){ .type = '0',
					.path = "a",
					.mode = 0100644 },
		"mode");
	refused(&(struct ql_tar_entry){ .type = '0',
					.path = "a",
					.uid = UINT32_MAX },
		"owner");
	refused(&(struct ql_tar_entry){ .type = '0',
					.path = "a",
					.size = UINT64_C(1) << 63 },
		"size");
	refused(&(struct ql_tar_entry){ .type = '0',
					.path = "a",
					.mtime_sec = INT64_MIN },
		"time");
	refused(&(struct ql_tar_entry){ .type = '0',
					.path = "a",
					.mtime_nsec = 1000000000 },
		"time");
	refused(&(struct ql_tar_entry){ .type = '3',
					.path = "a",
					.minor = 1U << 21 },
		"device");
	refused(
		&(struct ql_tar_entry){
			.type = '0', .path = "a", .xattrs = &x, .n_xattrs = 1 },
		"xattr");
}

static void nothing_is_added_where_there_is_no_room(void **state)
{
	const struct ql_tar_entry e = { .type = '0',
					.path = "a",
					.mtime_nsec = 1 };
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(1535 + 3);
	struct ql_error err = QL_ERROR_INIT;

	(void)state;
	tarball_bytes(&buf, "abc", 3);
	assert_int_equal(ql_tar_write_entry(&e, &buf, &err), -EFBIG);
	assert_int_equal(buf.len, 3);
	assert_string_equal(ql_buf_str(&buf), "abc");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ustar_is_enough_for_most),
		cmocka_unit_test(the_headers_bytes_are_these),
		cmocka_unit_test(long_names_are_cut_at_a_slash_or_extended),
		cmocka_unit_test(a_shortened_file_is_no_folder),
		cmocka_unit_test(names_beyond_ascii_keep_their_bytes),
		cmocka_unit_test(times_keep_sign_and_nanoseconds),
		cmocka_unit_test(large_numbers_are_extended),
		cmocka_unit_test(xattrs_keep_every_byte_and_have_one_order),
		cmocka_unit_test(records_of_every_length_are_read),
		cmocka_unit_test(what_readers_refuse_is_not_written),
		cmocka_unit_test(nothing_is_added_where_there_is_no_room),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
