/* SPDX-License-Identifier: Apache-2.0 */
/* fetch/credentials.c: whose password is found for what, in which form. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "fetch/fetch-private.h"
#include "tests/unit/scratch.h"

#define AB "\"auth\":\"YTpi\"" /* a:b */
#define CD "\"auth\":\"Yzpk\"" /* c:d */

static char file[] = "/tmp/quicklayer-unit.XXXXXX";

static void write_auth(const char *text)
{
	_cleanup_close_ int fd =
		open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ql_write_full(fd, text, strlen(text)), 0);
}

/* "user:password", "token:…", or an errno's number. */
static char *find(const char *text, const char *domain, const char *path)
{
	_cleanup_credentials_ struct ql_credentials c = { 0 };
	struct ql_error err = QL_ERROR_INIT;
	int r;

	write_auth(text);
	r = ql_credentials_find(domain, path, &c, &err);
	if (r < 0) {
		if (r != -ENOENT)
			assert_non_null(strstr(err.text, file));
		return ql_strf("%d", r);
	}
	return c.identity_token ? ql_strf("token:%s", c.identity_token)
				: ql_strf("%s:%s", c.user, c.password);
}

static const struct credentials_case {
	const char *text, *domain, *path, *want;
} cases[] = {
	{ "{\"auths\":{\"q.io\":{" AB "}}}", "q.io", "x", "a:b" },
	{ "{\"auths\":{\"https://q.io/v1/\":{" AB "}}}", "q.io", "x", "a:b" },
	{ "{\"auths\":{\"https://q.io\":{" AB "}}}", "q.io", "x", "a:b" },
	{ "{\"auths\":{\"q.io\":{" AB "},\"q.io/ns\":{" CD "}}}", "q.io",
	  "ns/img", "c:d" },
	{ "{\"auths\":{\"q.io\":{" AB "},\"q.io/ns\":{" CD "}}}", "q.io",
	  "nsx/img", "a:b" },
	{ "{\"auths\":{\"q.io/ns/img\":{" CD "}}}", "q.io", "ns/img", "c:d" },
	{ "{\"auths\":{\"https://index.docker.io/v1/\":{" AB "}}}", "docker.io",
	  "library/redis", "a:b" },
	{ "{\"auths\":{\"docker.io\":{" AB "}}}", "docker.io", "x", "a:b" },
	{ "{\"auths\":{\"q.io:5000\":{" AB "}}}", "q.io:5000", "x", "a:b" },
	{ "{\"auths\":{\"q.io\":{\"username\":\"u\",\"password\":\"p\"}}}",
	  "q.io", "x", "u:p" },
	{ "{\"auths\":{\"q.io\":{" AB ",\"identitytoken\":\"t\"}}}", "q.io",
	  "x", "token:t" },
	{ "{\"auths\":{\"q.io\":{\"auth\":\"YTpiOmM=\"}}}", "q.io", "x",
	  "a:b:c" },
	/* nothing for us */
	{ "{}", "q.io", "x", "-2" },
	{ "{\"auths\":{}}", "q.io", "x", "-2" },
	{ "{\"auths\":{\"q.io\":{}}}", "q.io", "x", "-2" },
	{ "{\"auths\":{\"q.io:5000\":{" AB "}}}", "q.io", "x", "-2" },
	{ "{\"auths\":{\"q.io.evil\":{" AB "}}}", "q.io", "x", "-2" },
	{ "{\"auths\":{\"evil/q.io\":{" AB "}}}", "q.io", "x", "-2" },
	{ "{\"auths\":{\"https://q.io/other\":{" AB "}}}", "q.io", "x", "-2" },
	/* damaged */
	{ "{\"auths\":{\"q.io\":{\"auth\":\"***\"}}}", "q.io", "x", "-22" },
	{ "{\"auths\":{\"q.io\":{\"auth\":\"YQ==\"}}}", "q.io", "x", "-22" },
	{ "not JSON", "q.io", "x", "-74" },
};

static void the_narrowest_entry_is_found_and_no_other_hosts(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		_cleanup_free_ char *got =
			find(cases[i].text, cases[i].domain, cases[i].path);

		print_message("# %s\n", cases[i].text);
		assert_string_equal(got, cases[i].want);
	}
}

static void a_changed_file_is_read_again(void **state)
{
	_cleanup_free_ char *one =
		find("{\"auths\":{\"q.io\":{" AB "}}}", "q.io", "x");
	_cleanup_free_ char *two =
		find("{\"auths\":{\"q.io\":{" CD "}}}", "q.io", "x");

	(void)state;
	assert_string_equal(one, "a:b");
	assert_string_equal(two, "c:d");
}

static void a_password_becomes_a_basic_header(void **state)
{
	struct ql_credentials c = { .user = (char *)(uintptr_t) "Aladdin",
				    .password =
					    (char *)(uintptr_t) "open sesame" };
	_cleanup_free_ char *header = NULL;

	(void)state; /* RFC 7617 §2 */
	assert_int_equal(ql_token_basic(&c, &header, NULL), 0);
	assert_string_equal(header, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
}

static int make_file(void **state)
{
	int fd = scratch_file(file);

	(void)state;
	if (fd < 0)
		return -1;
	(void)close(fd);
	return setenv("REGISTRY_AUTH_FILE", file, 1);
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			the_narrowest_entry_is_found_and_no_other_hosts),
		cmocka_unit_test(a_changed_file_is_read_again),
		cmocka_unit_test(a_password_becomes_a_basic_header),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, make_file, remove_file);
}
