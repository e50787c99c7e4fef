/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fetch/decompress.c, gzip.c, zstd.c, against what zlib's and zstd's own
 * programs (gzip, zstd) write, whole, damaged, cut and drawn out.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "fetch/fetch-private.h"
#include "tests/unit/scratch.h"

enum { BUF_MAX = 64 << 20, PLAIN = 300000 };

/* Hands out memory `step` bytes at a time; counts whether its end was seen. */
struct dribble {
	struct ql_stream base;
	const char *data; /* borrowed */
	size_t len, pos, step;
	int *ends; /* borrowed */
};

static ssize_t dribble_read(struct ql_stream *s, void *buf, size_t len,
			    struct ql_error *err)
{
	struct dribble *d = (struct dribble *)s;
	size_t n = d->len - d->pos;

	(void)err;
	if (n > d->step)
		n = d->step;
	if (n > len)
		n = len;
	if (n == 0) {
		(*d->ends)++;
		return 0;
	}
	memcpy(buf, d->data + d->pos, n);
	d->pos += n;
	return (ssize_t)n;
}

static void dribble_free(struct ql_stream *s)
{
	free(s);
}

static const struct ql_stream_ops dribble_ops = { dribble_read, dribble_free };

/* Appends what a command prints, given data on its standard input. */
static void pipe_through(const char *command, const void *data, size_t len,
			 struct ql_buf *out)
{
	_cleanup_free_ char *line = NULL;
	char name[] = "/tmp/quicklayer-unit.XXXXXX";
	_cleanup_close_ int fd = scratch_file(name);
	_cleanup_free_ char *chunk = malloc(1 << 16);
	FILE *f;
	size_t n;

	assert_true(fd >= 0);
	assert_int_equal(ql_write_full(fd, data, len), 0);
	line = ql_strf("%s <%s", command, name);
	f = popen(line, "r"); // NOLINT(cert-env33-c)
	assert_non_null(f);
	while ((n = fread(chunk, 1, 1 << 16, f)) > 0)
		assert_int_equal(ql_buf_add(out, chunk, n), 0);
	assert_int_equal(pclose(f), 0);
	(void)unlink(name);
}

/* Decompresses; the bytes go to out.  0, or the error. */
static int decompress(const struct ql_buf *in, size_t step, size_t out_step,
		      struct ql_buf *out, struct ql_error *err)
{
	struct dribble *d = calloc(1, sizeof(*d));
	_cleanup_stream_ struct ql_stream *s = NULL;
	_cleanup_free_ char *chunk = malloc(out_step);
	int ends = 0;
	ssize_t n;

	assert_non_null(d);
	assert_non_null(chunk);
	*d = (struct dribble){
		{ &dribble_ops }, in->data, in->len, 0, step, &ends
	};
	if (ql_decompress(&d->base, &s, err) < 0) {
		free(d);
		return err->code;
	}
	while ((n = ql_stream_read(s, chunk, out_step, err)) > 0)
		assert_int_equal(ql_buf_add(out, chunk, (size_t)n), 0);
	if (n == 0)
		assert_true(ends > 0); /* whoever verifies below has done so */
	return (int)n;
}

/* Half compressible, half not. */
static void plain_make(struct ql_buf *plain)
{
	uint32_t x = 1;

	for (int i = 0; i < PLAIN; i++) {
		uint32_t text = (uint32_t)('a' + i % 7);

		x = x * 1664525 + 1013904223;
		text = i / 1000 % 2 ? text : x >> 24;
		assert_int_equal(ql_buf_add_u8(plain, (uint8_t)text), 0);
	}
}

static void expect_same(const struct ql_buf *in, const struct ql_buf *want)
{
	static const size_t steps[][2] = { { 1, 4096 },
					   { 3, 1 },
					   { 1000, 7 },
					   { 65536, 65536 },
					   { 1 << 20, 1 << 20 } };

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		_cleanup_buf_ struct ql_buf out = QL_BUF_INIT(BUF_MAX);
		struct ql_error err = QL_ERROR_INIT;

		if (decompress(in, steps[i][0], steps[i][1], &out, &err) < 0)
			fail_msg("steps %zu/%zu: %s", steps[i][0], steps[i][1],
				 err.text);
		assert_int_equal(out.len, want->len);
		if (want->len)
			assert_memory_equal(out.data, want->data, want->len);
	}
}

static void expect_error(const struct ql_buf *in, int code, const char *text)
{
	_cleanup_buf_ struct ql_buf out = QL_BUF_INIT(BUF_MAX);
	struct ql_error err = QL_ERROR_INIT;

	assert_int_equal(decompress(in, 1000, 5000, &out, &err), code);
	if (!strstr(err.text, text))
		fail_msg("\"%s\" does not say \"%s\"", err.text, text);
}

static const char *const commands[] = { "cat", "gzip -c", "gzip -1 -c",
					"zstd -q -c",
					"zstd -q -19 --check -c" };

static void every_compression_gives_back_its_bytes(void **state)
{
	_cleanup_buf_ struct ql_buf plain = QL_BUF_INIT(BUF_MAX);

	(void)state;
	plain_make(&plain);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		_cleanup_buf_ struct ql_buf in = QL_BUF_INIT(BUF_MAX);

		print_message("# %s\n", commands[i]);
		pipe_through(commands[i], plain.data, plain.len, &in);
		expect_same(&in, &plain);
	}
}

static void short_and_empty_inputs_are_passed_on(void **state)
{
	static const char *const plain[] = { "", "a", "abc", "abcde" };

	(void)state;
	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
		_cleanup_buf_ struct ql_buf want = QL_BUF_INIT(BUF_MAX);

		assert_int_equal(ql_buf_adds(&want, plain[i]), 0);
		for (size_t j = 0; j < sizeof(commands) / sizeof(commands[0]);
		     j++) {
			_cleanup_buf_ struct ql_buf in = QL_BUF_INIT(BUF_MAX);

			pipe_through(commands[j], plain[i], strlen(plain[i]),
				     &in);
			expect_same(&in, &want);
		}
	}
}

static void members_and_frames_follow_each_other(void **state)
{
	static const char *const pairs[][2] = {
		{ "gzip -c", "gzip -9 -c" },
		{ "zstd -q -c", "zstd -q -9 -c" },
	};
	_cleanup_buf_ struct ql_buf plain = QL_BUF_INIT(BUF_MAX);
	_cleanup_buf_ struct ql_buf twice = QL_BUF_INIT(BUF_MAX);

	(void)state;
	plain_make(&plain);
	assert_int_equal(ql_buf_add(&twice, plain.data, plain.len), 0);
	assert_int_equal(ql_buf_add(&twice, plain.data, plain.len), 0);
	for (size_t i = 0; i < 2; i++) {
		_cleanup_buf_ struct ql_buf in = QL_BUF_INIT(BUF_MAX);

		pipe_through(pairs[i][0], plain.data, plain.len, &in);
		pipe_through(pairs[i][1], plain.data, plain.len, &in);
		expect_same(&in, &twice);
	}
}

/* eStargz makes one member of each few bytes. */
static void thousands_of_tiny_members_are_one_stream(void **state)
{
	_cleanup_buf_ struct ql_buf member = QL_BUF_INIT(BUF_MAX);
	_cleanup_buf_ struct ql_buf in = QL_BUF_INIT(BUF_MAX);
	_cleanup_buf_ struct ql_buf want = QL_BUF_INIT(BUF_MAX);

	(void)state;
	pipe_through("gzip -c", "xyz", 3, &member);
	for (int i = 0; i < 3000; i++) {
		(void)ql_buf_add(&in, member.data, member.len);
		(void)ql_buf_adds(&want, "xyz");
	}
	expect_same(&in, &want);
}

static void gzip_headers_may_have_every_field(void **state)
{
	/* FHCRC left out: few write it.  FEXTRA, FNAME, FCOMMENT. */
	static const uint8_t head[] = { 0x1f, 0x8b, 8,	 4 | 8 | 16, 0,
					0,    0,    0,	 0,	     255,
					3,    0,    'S', 'G',	     0,
					'n',  'm',  0,	 'c',	     0 };
	_cleanup_buf_ struct ql_buf plain = QL_BUF_INIT(BUF_MAX);
	_cleanup_buf_ struct ql_buf gz = QL_BUF_INIT(BUF_MAX);
	_cleanup_buf_ struct ql_buf in = QL_BUF_INIT(BUF_MAX);

	(void)state;
	plain_make(&plain);
	pipe_through("gzip -nc", plain.data, plain.len, &gz);
	(void)ql_buf_add(&in, head, sizeof(head));
	(void)ql_buf_add(&in, gz.data + 10, gz.len - 10);
	expect_same(&in, &plain);
}

static void zeros_pad_a_gzip_stream_and_nothing_else_does(void **state)
{
	_cleanup_buf_ struct ql_buf plain = QL_BUF_INIT(BUF_MAX);
	_cleanup_buf_ struct ql_buf in = QL_BUF_INIT(BUF_MAX);
	static const char zeros[70000];
	size_t len;

	(void)state;
	plain_make(&plain);
	pipe_through("gzip -c", plain.data, plain.len, &in);
	(void)ql_buf_add(&in, zeros, sizeof(zeros));
	expect_same(&in, &plain);
	len = in.len;
	(void)ql_buf_add_u8(&in, 'x');
	expect_error(&in, -EBADMSG, "garbage");
	in.len = len;
	pipe_through("gzip -c", "abc", 3, &in);
	expect_error(&in, -EBADMSG, "garbage");
}

static void garbage_behind_a_stream_is_an_error(void **state)
{
	_cleanup_buf_ struct ql_buf gz = QL_BUF_INIT(BUF_MAX);
	_cleanup_buf_ struct ql_buf zst = QL_BUF_INIT(BUF_MAX);

	(void)state;
	pipe_through("gzip -c", "abc", 3, &gz);
	(void)ql_buf_adds(&gz, "garbage");
	expect_error(&gz, -EBADMSG, "garbage");
	pipe_through("zstd -q -c", "abc", 3, &zst);
	(void)ql_buf_adds(&zst, "garbage");
	expect_error(&zst, -EBADMSG, "zstd");
}

static void every_cut_is_an_error(void **state)
{
	static const char *const by[] = { "gzip -c", "zstd -q -c" };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		_cleanup_buf_ struct ql_buf in = QL_BUF_INIT(BUF_MAX);

		pipe_through(by[i], "some text, some text", 20, &in);
		for (in.len--; in.len >= 4; in.len--)
			expect_error(&in, -EBADMSG, "ends early");
	}
}

static void every_flipped_byte_is_an_error_or_harmless(void **state)
{
	_cleanup_buf_ struct ql_buf plain = QL_BUF_INIT(BUF_MAX);
	static const char *const by[] = { "gzip -nc", "zstd -q --check -c" };

	(void)state;
	plain_make(&plain);
	plain.len = 5000;
	for (size_t i = 0; i < 2; i++) {
		_cleanup_buf_ struct ql_buf in = QL_BUF_INIT(BUF_MAX);
		size_t errors = 0;

		pipe_through(by[i], plain.data, plain.len, &in);
		/* Behind the header, whose flags may well mean nothing. */
		for (size_t at = 10; at < in.len; at++) {
			_cleanup_buf_ struct ql_buf out = QL_BUF_INIT(BUF_MAX);
			struct ql_error err = QL_ERROR_INIT;

			in.data[at] = (char)(in.data[at] ^ 0x10);
			errors += decompress(&in, 999, 999, &out, &err) < 0;
			in.data[at] = (char)(in.data[at] ^ 0x10);
		}
		assert_int_equal(errors, in.len - 10);
	}
}

/* 64 MiB of zeros are 64 KiB: they come in pieces, not all at once. */
static void bombs_come_in_pieces(void **state)
{
	_cleanup_buf_ struct ql_buf in = QL_BUF_INIT(BUF_MAX);
	_cleanup_stream_ struct ql_stream *mem = NULL;
	_cleanup_stream_ struct ql_stream *s = NULL;
	_cleanup_free_ char *zeros = calloc(1, BUF_MAX);
	_cleanup_free_ char *chunk = malloc(65536);
	uint64_t total = 0;
	ssize_t n;

	(void)state;
	pipe_through("gzip -c", zeros, BUF_MAX, &in);
	assert_true(in.len < 100000);
	assert_int_equal(ql_stream_from_mem(in.data, in.len, &mem, NULL), 0);
	assert_int_equal(ql_decompress(mem, &s, NULL), 0);
	mem = NULL;
	while ((n = ql_stream_read(s, chunk, 65536, NULL)) > 0)
		total += (uint64_t)n;
	assert_int_equal(n, 0);
	assert_int_equal(total, BUF_MAX);
}

static void windows_that_take_too_much_memory_are_refused(void **state)
{
	_cleanup_buf_ struct ql_buf plain = QL_BUF_INIT(BUF_MAX);
	_cleanup_buf_ struct ql_buf in = QL_BUF_INIT(BUF_MAX);

	(void)state;
	plain_make(&plain);
	/* From a pipe, so that zstd does not know that less would do. */
	pipe_through("cat | zstd -q --ultra --long=27 -c", plain.data,
		     plain.len, &in);
	expect_error(&in, -EOPNOTSUPP, "32 MiB");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_compression_gives_back_its_bytes),
		cmocka_unit_test(short_and_empty_inputs_are_passed_on),
		cmocka_unit_test(members_and_frames_follow_each_other),
		cmocka_unit_test(thousands_of_tiny_members_are_one_stream),
		cmocka_unit_test(gzip_headers_may_have_every_field),
		cmocka_unit_test(zeros_pad_a_gzip_stream_and_nothing_else_does),
		cmocka_unit_test(garbage_behind_a_stream_is_an_error),
		cmocka_unit_test(every_cut_is_an_error),
		cmocka_unit_test(every_flipped_byte_is_an_error_or_harmless),
		cmocka_unit_test(bombs_come_in_pieces),
		cmocka_unit_test(windows_that_take_too_much_memory_are_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
