/* SPDX-License-Identifier: Apache-2.0 */
/* fetch/wwwauth.c: challenges as registries send them, and broken ones. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "fetch/fetch-private.h"

static const struct challenge_case {
	const char *header;
	bool basic, bearer;
	const char *realm, *service, *scope;
} cases[] = {
	{ "Basic realm=\"x\"", true, false, NULL, NULL, NULL },
	{ "basic", true, false, NULL, NULL, NULL },
	{ "Bearer realm=\"https://auth.docker.io/token\","
	  "service=\"registry.docker.io\","
	  "scope=\"repository:library/redis:pull\"",
	  false, true, "https://auth.docker.io/token", "registry.docker.io",
	  "repository:library/redis:pull" },
	{ "BEARER Realm = \"https://a/b\" , SERVICE = s", false, true,
	  "https://a/b", "s", NULL },
	{ "Bearer realm=https://a/token,service=s", false, true,
	  "https://a/token", "s", NULL },
	{ "Bearer realm=\"a\\\"b\\\\c\"", false, true, "a\"b\\c", NULL, NULL },
	{ "Bearer realm=\"r\",error=\"invalid_token\",scope=\"a b,c\"", false,
	  true, "r", NULL, "a b,c" },
	{ "Negotiate, Bearer realm=\"r\", Basic realm=\"b\"", true, true, "r",
	  NULL, NULL },
	{ "Basic realm=\"b\", Bearer realm=\"r\",service=\"s\"", true, true,
	  "r", "s", NULL },
	{ "NTLM YWJjZA==, Bearer realm=\"r\"", false, true, "r", NULL, NULL },
	{ "Bearer realm=\"first\", Bearer realm=\"second\"", false, true,
	  "first", NULL, NULL },
	{ "Bearer realm=\"first\", Bearer realm=\"second\",service=\"s\"",
	  false, true, "first", NULL, NULL },
	{ "Negotiate a/b+c=, Bearer realm=\"r\"", false, true, "r", NULL,
	  NULL },
	{ "Negotiate a==", false, false, NULL, NULL, NULL },
	{ "Digest realm=\"d\", nonce=\"n\"", false, false, NULL, NULL, NULL },
	{ "", false, false, NULL, NULL, NULL },
	{ " , ,", false, false, NULL, NULL, NULL },
	{ "Bearer realm=\"\"", false, true, "", NULL, NULL },
};

static const char *const broken[] = {
	"Bearer realm=\"never closed",
	"Bearer realm=\"ends in a backslash\\",
	"\"quoted\"",
	"=x",
	"Bearer {}",
};

static void same(const char *got, const char *wanted)
{
	assert_int_equal(got != NULL, wanted != NULL);
	if (wanted)
		assert_string_equal(got, wanted);
}

static void challenges_of_registries_are_read(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct ql_error err = QL_ERROR_INIT;
		struct ql_challenge c = { 0 };

		print_message("# %s\n", cases[i].header);
		if (ql_challenge_parse(cases[i].header, &c, &err) < 0)
			fail_msg("%s", err.text);
		assert_int_equal(c.basic, cases[i].basic);
		assert_int_equal(c.bearer, cases[i].bearer);
		same(c.realm, cases[i].realm);
		same(c.service, cases[i].service);
		same(c.scope, cases[i].scope);
		ql_challenge_release(&c);
	}
}

static void broken_ones_are_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		struct ql_error err = QL_ERROR_INIT;
		struct ql_challenge c = { 0 };

		print_message("# %s\n", broken[i]);
		assert_int_equal(ql_challenge_parse(broken[i], &c, &err),
				 -EBADMSG);
		assert_true(err.text[0] != '\0');
		assert_null(c.realm);
	}
}

static void endless_parameters_are_refused(void **state)
{
	static char header[9000] = "Bearer realm=\"";
	struct ql_challenge c = { 0 };

	(void)state;
	memset(header + strlen(header), 'x', sizeof(header) - 20);
	header[sizeof(header) - 3] = '"';
	header[sizeof(header) - 2] = '\0';
	assert_int_equal(ql_challenge_parse(header, &c, NULL), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(challenges_of_registries_are_read),
		cmocka_unit_test(broken_ones_are_refused),
		cmocka_unit_test(endless_parameters_are_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
