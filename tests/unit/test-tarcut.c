/* SPDX-License-Identifier: Apache-2.0 */
/* store/tarcut.c: no byte is lost, and content is cut where it begins. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/tarball.h"

struct seen {
	struct ql_buf all;  /* raw and content, in order */
	struct ql_buf data; /* content alone */
	struct ql_buf text; /* an account */
	int fail_at;	    /* entry to fail at; 0: none */
	int entries;
};

static int on_raw(void *arg, const void *data, size_t len, struct ql_error *err)
{
	struct seen *s = arg;

	(void)err;
	return ql_buf_add(&s->all, data, len);
}

static int on_entry(void *arg, const struct ql_tar_entry *e,
		    const struct ql_tar_raw *raw, struct ql_error *err)
{
	struct seen *s = arg;

	if (++s->entries == s->fail_at)
		return ql_error_set(err, -EXDEV, "as told");
	return ql_buf_addf(&s->text, "%c %s|%s %llu/%llu%s%s @%zu\n", raw->flag,
			   e->path, raw->name, (unsigned long long)raw->stored,
			   (unsigned long long)e->size,
			   raw->sparse ? " sparse" : "",
			   raw->global ? " global" : "", s->all.len);
}

static int on_data(void *arg, const void *data, size_t len,
		   struct ql_error *err)
{
	struct seen *s = arg;
	int r = ql_buf_add(&s->data, data, len);

	(void)err;
	return r < 0 ? r : ql_buf_add(&s->all, data, len);
}

static const struct ql_tarcut_ops ops = { on_raw, on_entry, on_data };

static void seen_init(struct seen *s)
{
	*s = (struct seen){ 0 };
	ql_buf_init(&s->all, 64 << 20);
	ql_buf_init(&s->data, 64 << 20);
	ql_buf_init(&s->text, 1 << 20);
}

static void seen_release(struct seen *s)
{
	ql_buf_release(&s->all);
	ql_buf_release(&s->data);
	ql_buf_release(&s->text);
}

static int cut(const struct ql_buf *tar, struct seen *s, struct ql_error *err)
{
	_cleanup_stream_ struct ql_stream *in = NULL;

	assert_int_equal(
		ql_stream_from_mem(ql_buf_str(tar), tar->len, &in, NULL), 0);
	return ql_tar_cut(in, &ops, s, err);
}

static void expect_all(const struct ql_buf *tar, const struct seen *s)
{
	assert_int_equal(s->all.len, tar->len);
	assert_memory_equal(s->all.data, tar->data, tar->len);
}

static void content_is_told_where_it_stands(void **state)
{
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(64 << 20);
	struct ql_error err = QL_ERROR_INIT;
	struct seen s;

	(void)state;
	seen_init(&s);
	tarball_dir(&tar, "./d/", 0755);
	tarball_file(&tar, "./d/a", "content of a");
	tarball_paxs(&tar, "path", "d/long");
	tarball_file(&tar, "short", "b");
	tarball_link(&tar, '1', "d/hard", "./d/a");
	tarball_file(&tar, "d/empty", "");
	tarball_end(&tar);
	tarball_end(&tar); /* padding behind the end */
	if (cut(&tar, &s, &err) < 0)
		fail_msg("%s", err.text);
	expect_all(&tar, &s);
	assert_string_equal(ql_buf_str(&s.data), "content of ab");
	assert_string_equal(ql_buf_str(&s.text),
			    "5 d|./d/ 0/0 @512\n"
			    "0 d/a|./d/a 12/12 @1024\n"
			    "0 d/long|d/long 1/1 @3072\n"
			    "1 d/hard|d/hard 0/0 @4096\n"
			    "0 d/empty|d/empty 0/0 @4608\n");
	seen_release(&s);
}

static void large_files_pass_whole(void **state)
{
	enum { LARGE = 3 << 20 };
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(64 << 20);
	_cleanup_free_ char *large = malloc(LARGE);
	struct ql_error err = QL_ERROR_INIT;
	struct seen s;

	(void)state;
	seen_init(&s);
	for (size_t i = 0; i < LARGE; i++)
		large[i] = (char)(i * 7 + i / 251);
	for (int i = 0; i < 3; i++) {
		tarball_add(&tar, &(struct tarball_entry){ .name = "large",
							   .type = '0',
							   .data = large,
							   .len = LARGE - 3 });
		tarball_file(&tar, "small", "x");
	}
	tarball_end(&tar);
	if (cut(&tar, &s, &err) < 0)
		fail_msg("%s", err.text);
	expect_all(&tar, &s);
	assert_int_equal(s.data.len, 3 * (LARGE - 3 + 1));
	assert_memory_equal(s.data.data, large, LARGE - 3);
	seen_release(&s);
}

static void sparse_files_are_told_as_stored(void **state)
{
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(64 << 20);
	struct ql_error err = QL_ERROR_INIT;
	struct seen s;

	(void)state;
	seen_init(&s);
	{
		_cleanup_buf_ struct ql_buf pax = QL_BUF_INIT(1 << 20);

		tarball_record(&pax, "GNU.sparse.map", "1000,4", 6);
		tarball_record(&pax, "GNU.sparse.size", "5000", 4);
		tarball_extension(&tar, 'x', "pax", pax.data, pax.len);
	}
	tarball_file(&tar, "holes", "DATA");
	tarball_file(&tar, "after", "x");
	tarball_end(&tar);
	if (cut(&tar, &s, &err) < 0)
		fail_msg("%s", err.text);
	expect_all(&tar, &s);
	assert_string_equal(ql_buf_str(&s.data), "DATAx");
	assert_non_null(strstr(ql_buf_str(&s.text), "holes 4/5000 sparse"));
	seen_release(&s);
}

static void global_headers_are_told_of(void **state)
{
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(64 << 20);
	struct ql_error err = QL_ERROR_INIT;
	struct seen s;

	(void)state;
	seen_init(&s);
	tarball_extension(&tar, 'g', "pax_global_header", "9 a=bcd\n", 8);
	tarball_file(&tar, "one", "1");
	tarball_file(&tar, "two", "2");
	tarball_end(&tar);
	if (cut(&tar, &s, &err) < 0)
		fail_msg("%s", err.text);
	expect_all(&tar, &s);
	assert_non_null(strstr(ql_buf_str(&s.text), "one 1/1 global"));
	assert_non_null(strstr(ql_buf_str(&s.text), "two 1/1 @"));
	seen_release(&s);
}

static void failures_stop_it(void **state)
{
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(64 << 20);
	struct ql_error err = QL_ERROR_INIT;
	struct seen s;

	(void)state;
	seen_init(&s);
	tarball_file(&tar, "one", "1");
	tarball_file(&tar, "two", "2");
	s.fail_at = 2;
	assert_int_equal(cut(&tar, &s, &err), -EXDEV);
	assert_string_equal(err.text, "as told");
	assert_string_equal(ql_buf_str(&s.data), "1");
	seen_release(&s);
	seen_init(&s);
	tarball_add(&tar, &(struct tarball_entry){
				  .name = "cut", .type = '0', .len = 9999 });
	assert_int_equal(cut(&tar, &s, &err), -EBADMSG);
	seen_release(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(content_is_told_where_it_stands),
		cmocka_unit_test(large_files_pass_whole),
		cmocka_unit_test(sparse_files_are_told_as_stored),
		cmocka_unit_test(global_headers_are_told_of),
		cmocka_unit_test(failures_stop_it),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
