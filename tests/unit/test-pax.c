/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/tarpax.c and tarsparse.c: what extended headers say of the entry that
 * follows, and the four ways of writing a sparse file.
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

static void fails(struct archive *a, const char *words)
{
	const struct ql_tar_entry *e;

	assert_int_equal(archive_step(a, &e), -EBADMSG);
	if (!strstr(a->err.text, words))
		fail_msg("\"%s\" lacks \"%s\"", a->err.text, words);
}

/* ---- values ---- */

static void every_key_replaces_the_headers_field(void **state)
{
	_cleanup_archive_ struct archive a;
	_cleanup_buf_ struct ql_buf pax = QL_BUF_INIT(4096);
	const struct ql_tar_entry *e;

	(void)state;
	archive_init(&a);
	tarball_record(&pax, "path", "pax/path", 8);
	tarball_record(&pax, "linkpath", "pax/link", 8);
	tarball_record(&pax, "uid", "4000000000", 10);
	tarball_record(&pax, "gid", "65536", 5);
	tarball_record(&pax, "mtime", "1.5", 3);
	tarball_record(&pax, "comment", "passed over", 11);
	tarball_extension(&a.buf, 'x', "pax", pax.data, pax.len);
	tarball_add(&a.buf, &(struct tarball_entry){ .name = "header",
						     .type = '2',
						     .link = "header",
						     .uid = 1,
						     .gid = 2,
						     .mtime = 3 });
	tarball_file(&a.buf, "plain", "x");
	e = next(&a);
	assert_string_equal(e->path, "pax/path");
	assert_string_equal(e->link, "pax/link");
	assert_int_equal(e->uid, 4000000000U);
	assert_int_equal(e->gid, 65536);
	assert_int_equal(e->mtime_sec, 1);
	assert_int_equal(e->mtime_nsec, 500000000);
	e = next(&a); /* it was for one entry */
	assert_string_equal(e->path, "plain");
	assert_int_equal(e->uid, 0);
	assert_int_equal(e->mtime_nsec, 0);
	assert_true(archive_content_is(&a, "x", 1));
}

static void times_keep_sign_and_nanoseconds(void **state)
{
	static const struct {
		const char *text;
		int64_t sec;
		uint32_t nsec;
	} times[] = {
		{ "-0.25", -1, 750000000 },
		{ "-5.25", -6, 750000000 },
		{ "-3", -3, 0 },
		{ "-0", 0, 0 },
		{ "0.000000001", 0, 1 },
		{ "1.1234567899", 1, 123456789 },
		{ "1.", 1, 0 },
		{ "9223372036854775806.9", INT64_MAX - 1, 900000000 },
	};
	_cleanup_archive_ struct archive a;
	size_t n = sizeof(times) / sizeof(times[0]);

	(void)state;
	archive_init(&a);
	for (size_t i = 0; i < n; i++) {
		tarball_paxs(&a.buf, "mtime", times[i].text);
		tarball_file(&a.buf, "x", "");
	}
	for (size_t i = 0; i < n; i++) {
		const struct ql_tar_entry *e = next(&a);

		assert_int_equal(e->mtime_sec, times[i].sec);
		assert_int_equal(e->mtime_nsec, times[i].nsec);
	}
}

static void a_size_may_stand_there_alone(void **state)
{
	_cleanup_archive_ struct archive a;

	(void)state;
	archive_init(&a);
	tarball_paxs(&a.buf, "size", "7");
	(void)tarball_header(&a.buf, &(struct tarball_entry){ .name = "big",
							      .type = '0' });
	tarball_bytes(&a.buf, "content", 7);
	tarball_pad(&a.buf);
	tarball_file(&a.buf, "next", "");
	assert_int_equal(next(&a)->size, 7);
	assert_true(archive_content_is(&a, "content", 7));
	assert_string_equal(next(&a)->path, "next");
}

static void an_empty_value_leaves_the_header(void **state)
{
	_cleanup_archive_ struct archive a;

	(void)state;
	archive_init(&a);
	tarball_paxs(&a.buf, "path", "");
	tarball_file(&a.buf, "header", "");
	assert_string_equal(next(&a)->path, "header");
}

static void global_headers_are_passed_over(void **state)
{
	_cleanup_archive_ struct archive a;
	_cleanup_buf_ struct ql_buf pax = QL_BUF_INIT(4096);

	(void)state;
	archive_init(&a);
	tarball_record(&pax, "path", "global", 6);
	tarball_extension(&a.buf, 'g', "global", pax.data, pax.len);
	tarball_file(&a.buf, "own", "");
	assert_string_equal(next(&a)->path, "own");
}

static void xattrs_are_bytes(void **state)
{
	static const char value[] = "a=b\0c\n";
	_cleanup_archive_ struct archive a;
	_cleanup_buf_ struct ql_buf pax = QL_BUF_INIT(4096);
	const struct ql_tar_entry *e;

	(void)state;
	archive_init(&a);
	tarball_record(&pax, "SCHILY.xattr.user.bytes", value, 6);
	tarball_record(&pax, "SCHILY.xattr.user.empty", "", 0);
	tarball_record(&pax, "SCHILY.xattr.user.twice", "first", 5);
	tarball_record(&pax, "SCHILY.xattr.user.twice", "last", 4);
	tarball_extension(&a.buf, 'x', "pax", pax.data, pax.len);
	tarball_file(&a.buf, "x", "");
	e = next(&a);
	assert_int_equal(e->n_xattrs, 3);
	assert_string_equal(e->xattrs[0].name, "user.bytes");
	assert_int_equal(e->xattrs[0].len, 6);
	assert_memory_equal(e->xattrs[0].value, value, 6);
	assert_int_equal(e->xattrs[1].len, 0);
	assert_int_equal(e->xattrs[2].len, 4);
	assert_memory_equal(e->xattrs[2].value, "last", 4);
}

/* ---- bad headers ---- */

static void value_fails(const char *key, const char *value, size_t len)
{
	_cleanup_archive_ struct archive a;
	_cleanup_free_ char *words = ql_strf("invalid %s", key);

	archive_init(&a);
	tarball_pax(&a.buf, key, value, len);
	tarball_file(&a.buf, "x", "");
	fails(&a, words);
}

static void bad_values_are_refused_by_key(void **state)
{
	_cleanup_free_ char *large = calloc(1, 65537);

	(void)state;
	value_fails("path", "nul\0in it", 9);
	value_fails("linkpath", "nul\0in it", 9);
	value_fails("size", "-1", 2);
	value_fails("size", "9223372036854775808", 19);
	value_fails("size", "99999999999999999999999", 23);
	value_fails("size", "0x10", 4);
	value_fails("uid", "-1", 2);
	value_fails("uid", "4294967295", 10);
	value_fails("gid", "1.5", 3);
	value_fails("mtime", "now", 3);
	value_fails("mtime", "1.x", 3);
	value_fails("mtime", "--1", 3);
	value_fails("mtime", ".5", 2);
	value_fails("mtime", "9223372036854775807", 19);
	value_fails("SCHILY.xattr.", "x", 1);
	value_fails("SCHILY.xattr.user.large", large, 65537);
	value_fails("GNU.sparse.map", "0,1,2", 5);
	value_fails("GNU.sparse.map", "0,x", 3);
	value_fails("GNU.sparse.numbytes", "5", 1);
	value_fails("GNU.sparse.realsize", "-5", 2);
}

/* Else a MiB of short names takes seconds to compare, and no room at all. */
static void an_entry_has_so_many_xattrs(void **state)
{
	_cleanup_archive_ struct archive a;
	_cleanup_buf_ struct ql_buf pax = QL_BUF_INIT(1 << 20);

	(void)state;
	archive_init(&a);
	for (int i = 0; i <= 1024; i++) {
		_cleanup_free_ char *key = ql_strf("SCHILY.xattr.user.%d", i);

		tarball_record(&pax, key, "", 0);
	}
	tarball_extension(&a.buf, 'x', "pax", pax.data, pax.len);
	tarball_file(&a.buf, "x", "");
	fails(&a, "invalid SCHILY.xattr.user.1024");
}

static void malformed_records_are_refused(void **state)
{
	static const char *const bad[] = {
		"nonsense",	"5 a=b",	"99 path=x\n",
		"0 path=x\n",	"-10 path=x\n", " path=x\n",
		"9 path=xx\n",	"7 path\n",	"5 =x\n",
		"2 \n",		"3 =\n",	"18446744073709551625 path=x\n",
		"10 path=x\n1",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		_cleanup_archive_ struct archive a;

		archive_init(&a);
		tarball_extension(&a.buf, 'x', "pax", bad[i], strlen(bad[i]));
		tarball_file(&a.buf, "x", "");
		fails(&a, "malformed extended header");
	}
}

static void a_huge_extended_header_is_refused(void **state)
{
	_cleanup_archive_ struct archive a;
	_cleanup_archive_ struct archive cut;
	char *h;

	(void)state;
	archive_init(&a);
	h = tarball_header(&a.buf, &(struct tarball_entry){ .name = "pax",
							    .type = 'x' });
	tarball_field(h + 124, 12, (1UL << 20) + 1);
	tarball_sum(h);
	fails(&a, "size is out of range");
	archive_init(&cut);
	tarball_paxs(&cut.buf, "path", "x");
	cut.buf.len = 515;
	fails(&cut, "ends in the middle");
}

/* ---- sparse files ---- */

/* 20 bytes: "AAA" at 4, "BB" at 12. */
static const char sparse_want[20] = "\0\0\0\0AAA\0\0\0\0\0BB\0\0\0\0\0";

static void sparse_is_read(struct archive *a)
{
	const struct ql_tar_entry *e;

	tarball_file(&a->buf, "next", "");
	e = next(a);
	assert_string_equal(e->path, "sparse");
	assert_int_equal(e->type, '0');
	assert_int_equal(e->size, 20);
	assert_true(archive_content_is(a, sparse_want, 20));
	assert_string_equal(next(a)->path, "next");
}

static void sparse_file(struct ql_buf *buf, const char *name, const char *data,
			size_t len)
{
	tarball_add(buf, &(struct tarball_entry){ .name = name,
						  .type = '0',
						  .data = data,
						  .len = len });
}

static void sparse_0_0_and_0_1_are_read(void **state)
{
	_cleanup_archive_ struct archive a, b;
	_cleanup_buf_ struct ql_buf pax = QL_BUF_INIT(4096);

	(void)state;
	archive_init(&a);
	tarball_record(&pax, "GNU.sparse.size", "20", 2);
	tarball_record(&pax, "GNU.sparse.numblocks", "2", 1);
	tarball_record(&pax, "GNU.sparse.offset", "4", 1);
	tarball_record(&pax, "GNU.sparse.numbytes", "3", 1);
	tarball_record(&pax, "GNU.sparse.offset", "12", 2);
	tarball_record(&pax, "GNU.sparse.numbytes", "2", 1);
	tarball_extension(&a.buf, 'x', "pax", pax.data, pax.len);
	sparse_file(&a.buf, "sparse", "AAABB", 5);
	sparse_is_read(&a);
	archive_init(&b);
	ql_buf_clear(&pax);
	tarball_record(&pax, "GNU.sparse.size", "20", 2);
	tarball_record(&pax, "GNU.sparse.name", "sparse", 6);
	tarball_record(&pax, "GNU.sparse.map", "4,3,12,2", 8);
	tarball_extension(&b.buf, 'x', "pax", pax.data, pax.len);
	sparse_file(&b.buf, "GNUSparseFile.0/sparse", "AAABB", 5);
	sparse_is_read(&b);
}

static void sparse_1_0_header(struct ql_buf *buf, const char *size)
{
	_cleanup_buf_ struct ql_buf pax = QL_BUF_INIT(4096);

	tarball_record(&pax, "GNU.sparse.major", "1", 1);
	tarball_record(&pax, "GNU.sparse.minor", "0", 1);
	tarball_record(&pax, "GNU.sparse.name", "sparse", 6);
	tarball_record(&pax, "path", "GNUSparseFile.0/sparse", 22);
	tarball_record(&pax, "GNU.sparse.realsize", size, strlen(size));
	tarball_extension(buf, 'x', "pax", pax.data, pax.len);
}

static void sparse_1_0_is_read(void **state)
{
	_cleanup_archive_ struct archive a;
	char data[517] = "3\n4\n3\n12\n2\n20\n0\n";

	(void)state;
	archive_init(&a);
	memcpy(data + 512, "AAABB", 5);
	sparse_1_0_header(&a.buf, "20");
	sparse_file(&a.buf, "GNUSparseFile.0/sparse", data, sizeof(data));
	sparse_is_read(&a);
}

/* Maps of more than four segments go on in a block of their own. */
static void old_gnu_sparse_is_read(void **state)
{
	_cleanup_archive_ struct archive a;
	char more[512] = { 0 };
	char *h;

	(void)state;
	archive_init(&a);
	h = tarball_header(&a.buf,
			   &(struct tarball_entry){ .name = "sparse",
						    .type = 'S',
						    .len = 5,
						    .magic = TARBALL_GNU });
	for (unsigned int i = 0; i < 4; i++) { /* one byte each, then "A" */
		tarball_field(h + 386 + 24UL * i, 12, i < 3 ? 4 + i : 12);
		tarball_field(h + 398 + 24UL * i, 12, 1);
	}
	h[482] = 1;
	tarball_field(h + 483, 12, 20);
	tarball_sum(h);
	tarball_field(more, 12, 13);
	tarball_field(more + 12, 12, 1);
	tarball_field(more + 24, 12, 20);
	tarball_field(more + 36, 12, 0);
	tarball_bytes(&a.buf, more, sizeof(more));
	tarball_bytes(&a.buf, "AAABB", 5);
	tarball_pad(&a.buf);
	sparse_is_read(&a);
}

static void map_fails(const char *map, const char *size, const char *words)
{
	_cleanup_archive_ struct archive a;
	_cleanup_buf_ struct ql_buf pax = QL_BUF_INIT(4096);

	archive_init(&a);
	tarball_record(&pax, "GNU.sparse.size", size, strlen(size));
	tarball_record(&pax, "GNU.sparse.map", map, strlen(map));
	tarball_extension(&a.buf, 'x', "pax", pax.data, pax.len);
	sparse_file(&a.buf, "sparse", "AAABB", 5);
	fails(&a, words);
}

static void wrong_maps_are_refused(void **state)
{
	_cleanup_archive_ struct archive a, b;

	(void)state;
	map_fails("12,2,4,3", "20", "map is wrong");
	map_fails("4,3,6,2", "20", "map is wrong");
	map_fails("4,3,12,2", "13", "map is wrong");
	map_fails("4,3,9223372036854775807,2", "20", "map is wrong");
	map_fails("4,3,12,3", "20", "6 bytes, 5 are stored");
	map_fails("4,3", "20", "3 bytes, 5 are stored");
	archive_init(&a);
	sparse_1_0_header(&a.buf, "20");
	sparse_file(&a.buf, "x", "2\n4\n3", 5);
	fails(&a, "in the middle of an entry");
	archive_init(&b);
	sparse_1_0_header(&b.buf, "20");
	tarball_file(&b.buf, "x", sparse_want);
	fails(&b, "in the middle of an entry");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_key_replaces_the_headers_field),
		cmocka_unit_test(times_keep_sign_and_nanoseconds),
		cmocka_unit_test(a_size_may_stand_there_alone),
		cmocka_unit_test(an_empty_value_leaves_the_header),
		cmocka_unit_test(global_headers_are_passed_over),
		cmocka_unit_test(xattrs_are_bytes),
		cmocka_unit_test(bad_values_are_refused_by_key),
		cmocka_unit_test(an_entry_has_so_many_xattrs),
		cmocka_unit_test(malformed_records_are_refused),
		cmocka_unit_test(a_huge_extended_header_is_refused),
		cmocka_unit_test(sparse_0_0_and_0_1_are_read),
		cmocka_unit_test(sparse_1_0_is_read),
		cmocka_unit_test(old_gnu_sparse_is_read),
		cmocka_unit_test(wrong_maps_are_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
