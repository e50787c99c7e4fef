/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fetch/settings.c, certs.c: which endpoints a registry has, and which
 * settings are refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "fetch/fetch-private.h"
#include "tests/unit/scratch.h"

static char dir[] = "/tmp/quicklayer-unit.XXXXXX";

static void write_file(const char *name, const char *text)
{
	_cleanup_free_ char *path = ql_path_join(dir, name);
	_cleanup_close_ int fd =
		open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(ql_write_full(fd, text, strlen(text)), 0);
}

static int load(const char *text, const char *domain, bool plain_http,
		struct ql_settings *s, struct ql_error *err)
{
	write_file("registries.json", text);
	return ql_settings_load(dir, domain, plain_http, s, err);
}

/* "scheme://host …" of every endpoint, in order. */
static void expect(const char *text, const char *domain, bool plain_http,
		   const char *endpoints)
{
	_cleanup_settings_ struct ql_settings s = { 0 };
	_cleanup_buf_ struct ql_buf got = QL_BUF_INIT(4096);
	struct ql_error err = QL_ERROR_INIT;

	if (load(text, domain, plain_http, &s, &err) < 0)
		fail_msg("%s", err.text);
	for (size_t i = 0; i < s.n_endpoints; i++)
		(void)ql_buf_addf(&got, "%s%s://%s", i ? " " : "",
				  s.endpoints[i].scheme, s.endpoints[i].host);
	assert_string_equal(ql_buf_str(&got), endpoints);
}

static void plain_http_is_for_loopback_or_by_choice(void **state)
{
	(void)state;
	expect("{}", "docker.io", false, "https://registry-1.docker.io");
	expect("{}", "q.io", false, "https://q.io");
	expect("{}", "q.io:5000", true, "http://q.io:5000");
	expect("{}", "localhost:5000", false, "http://localhost:5000");
	expect("{}", "127.1.2.3", false, "http://127.1.2.3");
	expect("{}", "[::1]:5000", false, "http://[::1]:5000");
	expect("{}", "127.0.0.1.q.io", false, "https://127.0.0.1.q.io");
	expect("{}", "128.0.0.1", false, "https://128.0.0.1");
	expect("{\"registries\":{\"localhost\":{\"ca\":\"/x\"}}}", "localhost",
	       false, "https://localhost");
}

static void mirrors_go_before_the_origin(void **state)
{
	static const char text[] =
		"{\"registries\":{\"docker.io\":{\"mirrors\":[\"http://a:1\","
		"\"https://b/\",\"c:5\",\"127.0.0.1:6\"]},\"q.io\":{}}}";

	(void)state;
	expect(text, "docker.io", false,
	       "http://a:1 https://b https://c:5 http://127.0.0.1:6 "
	       "https://registry-1.docker.io");
	expect(text, "q.io", false, "https://q.io");
	expect(text, "other.io", false, "https://other.io");
}

static void certificates_come_from_certs_d(void **state)
{
	_cleanup_settings_ struct ql_settings s = { 0 };
	_cleanup_free_ char *sub = ql_strf("%s/certs.d/q.io:443", dir);
	struct ql_error err = QL_ERROR_INIT;

	(void)state;
	assert_int_equal(ql_mkdir_p(sub, NULL), 0);
	write_file("certs.d/q.io:443/ca.crt", "");
	write_file("certs.d/q.io:443/me.cert", "");
	assert_int_equal(load("{}", "q.io:443", false, &s, &err), -EINVAL);
	write_file("certs.d/q.io:443/me.key", "");
	assert_int_equal(load("{}", "q.io:443", false, &s, &err), 0);
	assert_non_null(strstr(s.endpoints[0].tls.ca, "q.io:443/ca.crt"));
	assert_non_null(strstr(s.endpoints[0].tls.cert, "/me.cert"));
	assert_non_null(strstr(s.endpoints[0].tls.key, "/me.key"));
}

static void numbers_are_taken_and_bounded(void **state)
{
	_cleanup_settings_ struct ql_settings s = { 0 };
	struct ql_error err = QL_ERROR_INIT;

	(void)state;
	assert_int_equal(load("{\"connect_seconds\":1,\"stall_seconds\":2,"
			      "\"retries\":0}",
			      "q.io", false, &s, &err),
			 0);
	assert_int_equal(s.timeouts.connect, 1);
	assert_int_equal(s.timeouts.stall, 2);
	assert_int_equal(s.retries, 0);
}

static void no_file_means_defaults(void **state)
{
	_cleanup_settings_ struct ql_settings s = { 0 };
	_cleanup_free_ char *path = ql_path_join(dir, "registries.json");

	(void)state;
	(void)unlink(path);
	assert_int_equal(ql_settings_load(dir, "q.io", false, &s, NULL), 0);
	assert_int_equal(s.n_endpoints, 1);
	assert_true(s.timeouts.stall > 0);
}

static const char *const bad[] = {
	"",
	"[]",
	"{",
	"{\"registry\":{}}",
	"{\"registries\":[]}",
	"{\"registries\":{\"x\":{\"unknown\":1}}}",
	"{\"registries\":{\"x\":7}}",
	"{\"registries\":{\"q.io\":{\"mirrors\":\"a\"}}}",
	"{\"registries\":{\"q.io\":{\"mirrors\":[7]}}}",
	"{\"registries\":{\"q.io\":{\"mirrors\":[\"\"]}}}",
	"{\"registries\":{\"q.io\":{\"mirrors\":[\"ftp://a\"]}}}",
	"{\"registries\":{\"q.io\":{\"mirrors\":[\"http://a/path\"]}}}",
	"{\"registries\":{\"q.io\":{\"mirrors\":[\"http://u@a\"]}}}",
	"{\"registries\":{\"q.io\":{\"insecure\":\"yes\"}}}",
	"{\"registries\":{\"q.io\":{\"ca\":7}}}",
	"{\"stall_seconds\":0}",
	"{\"stall_seconds\":99999}",
	"{\"retries\":-1}",
	"{\"retries\":\"3\"}",
	"{\"retries\":3,\"retries\":4}",
};

static void anything_else_is_refused_by_the_files_name(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct ql_settings s = { 0 };
		struct ql_error err = QL_ERROR_INIT;

		print_message("# %s\n", bad[i]);
		assert_true(load(bad[i], "q.io", false, &s, &err) < 0);
		assert_non_null(strstr(err.text, "registries.json: "));
	}
}

static void more_than_16_mirrors_are_refused(void **state)
{
	_cleanup_buf_ struct ql_buf text = QL_BUF_INIT(4096);
	struct ql_settings s = { 0 };
	struct ql_error err = QL_ERROR_INIT;

	(void)state;
	(void)ql_buf_adds(&text, "{\"registries\":{\"q.io\":{\"mirrors\":[");
	for (int i = 0; i < 17; i++)
		(void)ql_buf_addf(&text, "%s\"m%d\"", i ? "," : "", i);
	(void)ql_buf_adds(&text, "]}}}");
	assert_int_equal(load(ql_buf_str(&text), "q.io", false, &s, &err),
			 -EINVAL);
}

static int make_dir(void **state)
{
	(void)state;
	(void)scratch_dir(dir);
	return 0;
}

static int remove_dir(void **state)
{
	_cleanup_free_ char *line = ql_strf("rm -rf '%s'", dir);

	(void)state;
	return system(line); // NOLINT(cert-env33-c)
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_http_is_for_loopback_or_by_choice),
		cmocka_unit_test(mirrors_go_before_the_origin),
		cmocka_unit_test(certificates_come_from_certs_d),
		cmocka_unit_test(numbers_are_taken_and_bounded),
		cmocka_unit_test(no_file_means_defaults),
		cmocka_unit_test(anything_else_is_refused_by_the_files_name),
		cmocka_unit_test(more_than_16_mirrors_are_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
