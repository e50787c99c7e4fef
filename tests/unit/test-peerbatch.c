/* SPDX-License-Identifier: Apache-2.0 */
/* A batch's request is the lines that peers.h says, and its frames are read as
 * they come, however they are cut; what is no answer to it is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "fetch/peer-private.h"

enum { PARTS = 3 };

static const struct ql_peer_part parts[PARTS] = {
	{ { { 0xab } }, 0, 10 },
	{ { { 0xcd } }, UINT64_C(1) << 40, 1 << 20 },
	{ { { 0xef } }, 7, 4 },
};

/* A stream that gives a few bytes at a time. */
struct drip {
	struct ql_stream base;
	const char *data;
	size_t len, pos, step;
	int error; /* at its end */
};

static ssize_t drip_read(struct ql_stream *s, void *buf, size_t len,
			 struct ql_error *err)
{
	struct drip *d = (struct drip *)s;
	size_t n = d->len - d->pos;

	if (n == 0 && d->error)
		return ql_error_set(err, d->error, "the network");
	n = n < len ? n : len;
	n = n < d->step ? n : d->step;
	memcpy(buf, d->data + d->pos, n);
	d->pos += n;
	return (ssize_t)n;
}

static const struct ql_stream_ops drip_ops = { drip_read, NULL };

static void add(struct ql_buf *buf, uint32_t status, uint64_t len,
		const char *data, size_t n)
{
	assert_int_equal(ql_buf_adds(buf, QL_PEER_FRAME_MAGIC), 0);
	assert_int_equal(ql_buf_add_le32(buf, status), 0);
	assert_int_equal(ql_buf_add_le64(buf, len), 0);
	assert_int_equal(ql_buf_add(buf, data, n), 0);
}

/* Reads all: what was in it, as "error:bytes;" for each. */
static int read_all(const struct ql_buf *answer, size_t step, int error,
		    struct ql_buf *ret)
{
	struct drip d = { { &drip_ops }, answer->data, answer->len, 0,
			  step,		 error };
	struct ql_error err = QL_ERROR_INIT;
	struct ql_peer_frames f;
	struct ql_peer_frame frame;
	char piece[5];
	ssize_t n;
	int r;

	ql_peer_frames_init(&f, &d.base, parts, PARTS);
	while ((r = ql_peer_frames_next(&f, &frame, &err)) > 0) {
		assert_int_equal(ql_buf_addf(ret, "%zu:%d:", frame.part,
					     frame.error),
				 0);
		while ((n = ql_peer_frames_read(&f, piece, sizeof(piece),
						&err)) > 0)
			assert_int_equal(ql_buf_add(ret, piece, (size_t)n), 0);
		if (n < 0)
			r = (int)n;
		if (n < 0)
			break;
		assert_int_equal(ql_buf_adds(ret, ";"), 0);
	}
	if (r < 0)
		assert_true(err.text[0] != '\0');
	return r;
}

static void prints_a_line_for_each(void **state)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(1000);

	(void)state;
	assert_int_equal(ql_peer_batch_print(parts, 2, &buf), 0);
	assert_string_equal(
		ql_buf_str(&buf),
		"objects sha256:ab"
		"00000000000000000000000000000000000000000000000000000000000000"
		" 0 10\n"
		"objects sha256:cd"
		"00000000000000000000000000000000000000000000000000000000000000"
		" 1099511627776 1048576\n");
}

static void most_parts_fit_in_a_request(void **state)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_PEER_BATCH_BYTES);
	const struct ql_peer_part longest = { { { 0 } },
					      UINT64_MAX,
					      UINT64_MAX };

	(void)state;
	for (int i = 0; i < QL_PEER_BATCH_MAX; i++)
		assert_int_equal(ql_peer_batch_print(&longest, 1, &buf), 0);
}

static void reads_frames_however_they_are_cut(void **state)
{
	_cleanup_buf_ struct ql_buf answer = QL_BUF_INIT(1000);

	(void)state;
	add(&answer, 0, 10, "0123456789", 10);
	add(&answer, ENOENT, 0, "", 0);
	add(&answer, 0, 3, "abc", 3); /* less than was asked for */
	for (size_t step = 1; step <= answer.len; step++) {
		_cleanup_buf_ struct ql_buf got = QL_BUF_INIT(1000);

		assert_int_equal(read_all(&answer, step, 0, &got), 0);
		assert_string_equal(ql_buf_str(&got),
				    "0:0:0123456789;1:-2:;2:0:abc;");
	}
}

static void passes_over_what_is_not_read(void **state)
{
	_cleanup_buf_ struct ql_buf answer = QL_BUF_INIT(1000);
	struct ql_peer_frames f;
	struct ql_peer_frame frame = { 0 };
	struct drip d = { .base = { &drip_ops }, .step = 3 };
	char buf[10];

	(void)state;
	add(&answer, 0, 10, "0123456789", 10);
	add(&answer, 0, 6, "abcdef", 6);
	add(&answer, 0, 4, "wxyz", 4);
	d.data = answer.data;
	d.len = answer.len;
	ql_peer_frames_init(&f, &d.base, parts, PARTS);
	assert_int_equal(ql_peer_frames_next(&f, &frame, NULL), 1);
	assert_int_equal(ql_peer_frames_next(&f, &frame, NULL), 1);
	assert_int_equal(ql_peer_frames_read(&f, buf, 2, NULL), 2);
	assert_int_equal(ql_peer_frames_next(&f, &frame, NULL), 1);
	assert_int_equal(frame.part, 2);
	assert_int_equal(frame.len, 4);
	assert_int_equal(ql_peer_frames_next(&f, &frame, NULL), 0);
	assert_int_equal(d.pos, d.len);
}

static void refuses_what_breaks_off(void **state)
{
	_cleanup_buf_ struct ql_buf answer = QL_BUF_INIT(1000);

	(void)state;
	add(&answer, 0, 10, "0123456789", 10);
	add(&answer, EACCES, 0, "", 0);
	add(&answer, 0, 4, "wxyz", 4);
	for (size_t len = 0; len < answer.len; len++) {
		_cleanup_buf_ struct ql_buf got = QL_BUF_INIT(1000);
		struct ql_buf part = answer;

		part.len = len;
		assert_int_equal(read_all(&part, 7, 0, &got), -EPROTO);
		/* The network's error is told as it is. */
		ql_buf_clear(&got);
		assert_int_equal(read_all(&part, 7, -ECONNRESET, &got),
				 -ECONNRESET);
	}
}

static void refuses(uint32_t status, uint64_t len, size_t n)
{
	_cleanup_buf_ struct ql_buf answer = QL_BUF_INIT(1000);
	_cleanup_buf_ struct ql_buf got = QL_BUF_INIT(1000);

	add(&answer, status, len, "0123456789abcdef", n);
	assert_int_equal(read_all(&answer, 100, 0, &got), -EPROTO);
	assert_string_equal(ql_buf_str(&got), "");
}

static void refuses_what_is_no_answer(void **state)
{
	_cleanup_buf_ struct ql_buf answer = QL_BUF_INIT(1000);
	_cleanup_buf_ struct ql_buf got = QL_BUF_INIT(1000);

	(void)state;
	refuses(0, 11, 11); /* more than was asked for */
	refuses(0, UINT64_MAX, 11);
	refuses(ENOENT, 4, 4); /* an error, with bytes */
	refuses(4096, 0, 0);
	refuses(UINT32_MAX, 0, 0);
	for (int i = 0; i < PARTS; i++)
		add(&answer, 0, 1, "a", 1);
	assert_int_equal(ql_buf_add_u8(&answer, 0), 0); /* one byte more */
	assert_int_equal(read_all(&answer, 100, 0, &got), -EPROTO);
	answer.len--;
	answer.data[17 * 2] = 'q';
	ql_buf_clear(&got);
	assert_int_equal(read_all(&answer, 100, 0, &got), -EPROTO);
	assert_string_equal(ql_buf_str(&got), "0:0:a;1:0:a;");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(prints_a_line_for_each),
		cmocka_unit_test(most_parts_fit_in_a_request),
		cmocka_unit_test(reads_frames_however_they_are_cut),
		cmocka_unit_test(passes_over_what_is_not_read),
		cmocka_unit_test(refuses_what_breaks_off),
		cmocka_unit_test(refuses_what_is_no_answer),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
