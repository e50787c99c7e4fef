/* SPDX-License-Identifier: Apache-2.0 */
/* What is in a filter is found in it, in as much room as it says, and little
 * else is; and its text is its own inverse. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "fetch/peerfilter.h"

enum { MANY = 50000, OTHERS = 200000 };

static struct ql_digest digest_of(unsigned int n)
{
	struct ql_digest d;

	assert_int_equal(ql_digest_of(&n, sizeof(n), &d), 0);
	return d;
}

static unsigned int count(const struct ql_filter *f, unsigned int from,
			  unsigned int to)
{
	unsigned int n = 0;

	for (unsigned int i = from; i < to; i++) {
		struct ql_digest d = digest_of(i);

		n += ql_filter_has(f, &d);
	}
	return n;
}

static void fill(struct ql_filter *f, unsigned int room, unsigned int n)
{
	assert_int_equal(ql_filter_init(f, room), 0);
	for (unsigned int i = 0; i < n; i++) {
		struct ql_digest d = digest_of(i);

		ql_filter_add(f, &d);
	}
}

static void has_what_is_in_it_and_little_else(void **state)
{
	_cleanup_filter_ struct ql_filter f = { 0 };
	unsigned int wrong;

	(void)state;
	fill(&f, MANY, MANY);
	assert_int_equal(f.n_digests, MANY);
	assert_in_range(f.n_bits, MANY * 12, MANY * 12 + 7);
	assert_int_equal(count(&f, 0, MANY), MANY);
	wrong = count(&f, MANY, MANY + OTHERS);
	printf("# %u of %u others\n", wrong, (unsigned int)OTHERS);
	/* (1 - e^(-8 / 12))^8 = 0.31 % */
	assert_in_range(wrong, OTHERS / 1000, OTHERS / 200);
}

static void has_nothing_where_nothing_is(void **state)
{
	_cleanup_filter_ struct ql_filter f = { 0 };

	(void)state;
	fill(&f, 0, 0);
	assert_int_equal(count(&f, 0, 1000), 0);
}

/* More than it was made for: it says yes more often, never no wrongly. */
static void takes_more_than_it_was_made_for(void **state)
{
	_cleanup_filter_ struct ql_filter f = { 0 };

	(void)state;
	fill(&f, 1000, 3000);
	assert_int_equal(count(&f, 0, 3000), 3000);
	assert_in_range(count(&f, 3000, 13000), 100, 5000);
}

static void is_bounded(void **state)
{
	_cleanup_filter_ struct ql_filter f = { 0 };
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_FILTER_MAX);
	struct ql_digest ones;

	(void)state;
	fill(&f, UINT32_MAX, 10);
	assert_int_equal(f.n_bits, QL_FILTER_BITS_MAX);
	memset(&ones, 0xff, sizeof(ones));
	ql_filter_add(&f, &ones); /* the last bit */
	assert_true(ql_filter_has(&f, &ones));
	assert_int_equal(ql_filter_print(&f, &buf), 0);
	assert_int_equal(buf.len, QL_FILTER_MAX);
}

static void is_read_as_it_was_written(void **state)
{
	_cleanup_filter_ struct ql_filter f = { 0 }, g = { 0 };
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_FILTER_MAX);
	_cleanup_buf_ struct ql_buf again = QL_BUF_INIT(QL_FILTER_MAX);

	(void)state;
	fill(&f, 1000, 1000);
	assert_int_equal(ql_filter_print(&f, &buf), 0);
	assert_int_equal(buf.len, QL_FILTER_HEADER + 12000 / 8);
	assert_int_equal(ql_filter_parse(buf.data, buf.len, &g, NULL), 0);
	assert_int_equal(g.n_digests, 1000);
	assert_int_equal(count(&g, 0, 1000), 1000);
	assert_int_equal(ql_filter_print(&g, &again), 0);
	assert_int_equal(again.len, buf.len);
	assert_memory_equal(again.data, buf.data, buf.len);
}

/* The bits of a digest are where the grammar says. */
static void keeps_to_its_grammar(void **state)
{
	static const uint8_t text[] = {
		'Q', 'L', 'B', 'F', 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 16, 0,
		0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,
		/* bits 0x80000000 * 16 >> 32 = 8, and 15 */
		0, 0x81
	};
	_cleanup_filter_ struct ql_filter f = { 0 };
	struct ql_digest d = { { 0, 0, 0, 0x80, 0, 0, 0, 0xf0 } };

	(void)state;
	assert_int_equal(ql_filter_parse(text, sizeof(text), &f, NULL), 0);
	assert_true(ql_filter_has(&f, &d));
	d.bytes[7] = 0xef;
	assert_false(ql_filter_has(&f, &d));
	d.bytes[7] = 0xf0;
	d.bytes[3] = 0x7f;
	assert_false(ql_filter_has(&f, &d));
}

static void refuses(const struct ql_buf *good, size_t at, char with, int expect)
{
	char bytes[QL_FILTER_HEADER + 512 / 8];
	struct ql_filter f;
	struct ql_error err = QL_ERROR_INIT;

	assert_int_equal(good->len, sizeof(bytes));
	memcpy(bytes, good->data, sizeof(bytes));
	bytes[at] = with;
	assert_int_equal(ql_filter_parse(bytes, sizeof(bytes), &f, &err),
			 expect);
	assert_true(err.text[0] != '\0');
}

static void refuses_what_is_none(void **state)
{
	_cleanup_filter_ struct ql_filter f = { 0 };
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_FILTER_MAX);
	struct ql_filter none;

	(void)state;
	fill(&f, 1, 1);
	assert_int_equal(ql_filter_print(&f, &buf), 0);
	refuses(&buf, 0, 'q', -EBADMSG);
	refuses(&buf, 4, 2, -EPROTONOSUPPORT);
	refuses(&buf, 8, 0, -EBADMSG);
	refuses(&buf, 8, 9, -EBADMSG);
	refuses(&buf, 12, 1, -EBADMSG);
	refuses(&buf, 16, 1, -EBADMSG);
	refuses(&buf, 19, 2, -EBADMSG);
	refuses(&buf, 23, 1, -EBADMSG);
	for (size_t len = 0; len < buf.len; len++)
		assert_int_equal(ql_filter_parse(buf.data, len, &none, NULL),
				 -EBADMSG);
	assert_int_equal(ql_buf_add_u8(&buf, 0), 0);
	assert_int_equal(ql_filter_parse(buf.data, buf.len, &none, NULL),
			 -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(has_what_is_in_it_and_little_else),
		cmocka_unit_test(has_nothing_where_nothing_is),
		cmocka_unit_test(takes_more_than_it_was_made_for),
		cmocka_unit_test(is_bounded),
		cmocka_unit_test(is_read_as_it_was_written),
		cmocka_unit_test(keeps_to_its_grammar),
		cmocka_unit_test(refuses_what_is_none),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
