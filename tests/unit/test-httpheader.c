/* SPDX-License-Identifier: Apache-2.0 */
/* fetch/httpheader.c, url.c, status.c: small facts of HTTP. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "fetch/fetch-private.h"

static void add(struct ql_http_response *rs, const char *line)
{
	assert_int_equal(ql_http_header_add(rs, line, strlen(line)), 0);
}

static void fields_are_kept_whatever_their_case_and_blanks(void **state)
{
	_cleanup_response_ struct ql_http_response rs = { 0 };

	(void)state;
	add(&rs, "HTTP/1.1 200 OK\r\n");
	add(&rs, "Content-Type:  a/b ;c=d \r\n");
	add(&rs, "CONTENT-LENGTH: 123\r\n");
	add(&rs, "content-range: bytes 10-20/30\r\n");
	add(&rs, "Location:/there\r\n");
	add(&rs, "Docker-Content-Digest: sha256:00\r\n");
	add(&rs, "Range: 0-1023\r\n");
	add(&rs, "OCI-Subject: sha256:11\r\n");
	add(&rs, "WWW-Authenticate: Negotiate\r\n");
	add(&rs, "WWW-Authenticate: Basic\r\n");
	assert_string_equal(rs.content_type, "a/b ;c=d");
	assert_int_equal(rs.length, 123);
	assert_int_equal(rs.range_start, 10);
	assert_string_equal(rs.location, "/there");
	assert_string_equal(rs.digest, "sha256:00");
	assert_string_equal(rs.range, "0-1023");
	assert_string_equal(rs.subject, "sha256:11");
	assert_string_equal(rs.authenticate, "Negotiate, Basic");
}

static void numbers_that_are_none_are_unknown(void **state)
{
	static const char *const lengths[] = { "-1", "",
					       "1x", "0x10",
					       " ",  "99999999999999999999" };
	struct ql_http_response rs = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		_cleanup_free_ char *line =
			ql_strf("Content-Length: %s\r\n", lengths[i]);

		rs.length = 5;
		add(&rs, line);
		assert_int_equal(rs.length, UINT64_MAX);
	}
	rs.range_start = UINT64_MAX;
	add(&rs, "Content-Range: bytes */30\r\n");
	assert_int_equal(rs.range_start, UINT64_MAX);
	add(&rs, "Content-Range: pages 1-2/3\r\n");
	assert_int_equal(rs.range_start, UINT64_MAX);
}

static void retry_after_is_seconds_or_a_date_within_a_day(void **state)
{
	struct ql_http_response rs = { 0 };
	time_t soon = time(NULL) + 100;
	struct tm tm;
	char line[100];

	(void)state;
	add(&rs, "Retry-After: 7\r\n");
	assert_int_equal(rs.retry_after, 7);
	add(&rs, "Retry-After: 9999999\r\n");
	assert_int_equal(rs.retry_after, 86400);
	assert_non_null(gmtime_r(&soon, &tm));
	(void)strftime(line, sizeof(line),
		       "Retry-After: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
	add(&rs, line);
	assert_in_range(rs.retry_after, 98, 100);
	add(&rs, "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n");
	assert_int_equal(rs.retry_after, 0);
	add(&rs, "Retry-After: soon\r\n");
	assert_int_equal(rs.retry_after, UINT64_MAX);
}

static void endless_fields_are_dropped(void **state)
{
	struct ql_http_response rs = { 0 };
	char line[20000] = "Location: ";

	(void)state;
	memset(line + 10, 'x', sizeof(line) - 11);
	line[sizeof(line) - 1] = '\0';
	add(&rs, line);
	assert_null(rs.location);
}

static const struct origin_case {
	const char *a, *b;
	bool same;
} origins[] = {
	{ "https://a/x", "https://a/y?z", true },
	{ "https://a", "https://A:443/", true },
	{ "http://a:80/x", "http://a", true },
	{ "https://a/x", "http://a/x", false },
	{ "https://a/x", "https://a:444/x", false },
	{ "https://a/x", "https://b/x", false },
	{ "https://a/x", "https://a.b/x", false },
	{ "https://a/x", "https://a@b/x", false },
	{ "https://b/x", "https://a@b/x", true },
	{ "https://a/x", "https://b/@a/", false },
	{ "https://a/x", "https://b?@a/", false },
	{ "https://a/x", "https://b#@a/", false },
	{ "https://a/x", "/x", false },
};

static void origins_are_scheme_host_and_port(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(origins) / sizeof(origins[0]); i++) {
		print_message("# %s %s\n", origins[i].a, origins[i].b);
		assert_int_equal(ql_url_same_origin(origins[i].a, origins[i].b),
				 origins[i].same);
	}
}

static void text_in_urls_is_encoded(void **state)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(100);

	(void)state;
	assert_int_equal(ql_url_encode(&buf, "a-Z_0.~ /:&=\xc3\xa4"), 0);
	assert_string_equal(ql_buf_str(&buf), "a-Z_0.~%20%2F%3A%26%3D%C3%A4");
}

static void statuses_have_codes_and_words(void **state)
{
	struct ql_error err = QL_ERROR_INIT;

	(void)state;
	assert_int_equal(ql_status_describe(404, "h", &err), -ENOENT);
	assert_string_equal(err.text, "HTTP 404 from h (not found)");
	assert_int_equal(ql_status_errno(401), -EACCES);
	assert_int_equal(ql_status_errno(429), -EBUSY);
	assert_int_equal(ql_status_errno(777), -EREMOTEIO);
	assert_true(ql_status_transient(429));
	assert_true(ql_status_transient(503));
	assert_false(ql_status_transient(404));
	assert_false(ql_status_transient(200));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			fields_are_kept_whatever_their_case_and_blanks),
		cmocka_unit_test(numbers_that_are_none_are_unknown),
		cmocka_unit_test(retry_after_is_seconds_or_a_date_within_a_day),
		cmocka_unit_test(endless_fields_are_dropped),
		cmocka_unit_test(origins_are_scheme_host_and_port),
		cmocka_unit_test(text_in_urls_is_encoded),
		cmocka_unit_test(statuses_have_codes_and_words),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
