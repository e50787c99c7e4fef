/* SPDX-License-Identifier: Apache-2.0 */
/* tools/human.c: numbers and names as people read them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <time.h>

#include "tools/cli.h"

static void bytes_have_three_digits_at_most(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} cases[] = {
		{ 0, "0 B" },
		{ 999, "999 B" },
		{ 1000, "1.0 kB" },
		{ 9949, "9.9 kB" },
		{ 9951, "10 kB" },
		{ 999499, "999 kB" },
		{ 999500, "1.0 MB" },
		{ 1500000000, "1.5 GB" },
		{ UINT64_MAX, "18 EB" },
	};
	char buf[QL_HUMAN];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(ql_human_bytes(cases[i].bytes, buf),
				    cases[i].text);
}

static void ages_are_in_the_largest_unit(void **state)
{
	uint64_t now = (uint64_t)time(NULL);
	char buf[32];

	(void)state;
	assert_string_equal(ql_human_ago(now + 100, buf), "now");
	assert_string_equal(ql_human_ago(now - 65, buf), "1 minute ago");
	assert_string_equal(ql_human_ago(now - 7300, buf), "2 hours ago");
	assert_string_equal(ql_human_ago(now - 86500, buf), "1 day ago");
}

static void names_cannot_steer_a_terminal(void **state)
{
	_cleanup_free_ char *name =
		ql_human_name("a\x1b[2J\n\x7f\\\xc3\xa9\xc2\x9b\xc2", 13);

	(void)state;
	assert_string_equal(name,
			    "a\\033[2J\\012\\177\\134\xc3\xa9\\302\\233\xc2");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_have_three_digits_at_most),
		cmocka_unit_test(ages_are_in_the_largest_unit),
		cmocka_unit_test(names_cannot_steer_a_terminal),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
