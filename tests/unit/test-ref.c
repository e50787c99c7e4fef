/* SPDX-License-Identifier: Apache-2.0 */
/* fetch/ref.c: references as docker spells them, and those it refuses. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "fetch/fetch.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define X10 "xxxxxxxxxx"
#define X100 X10 X10 X10 X10 X10 X10 X10 X10 X10 X10

static const struct good {
	const char *text, *domain, *path, *tag, *name;
} good[] = {
	{ "redis", "docker.io", "library/redis", "latest",
	  "docker.io/library/redis:latest" },
	{ "redis:7.2-alpine", "docker.io", "library/redis", "7.2-alpine",
	  "docker.io/library/redis:7.2-alpine" },
	{ "me/app", "docker.io", "me/app", "latest",
	  "docker.io/me/app:latest" },
	{ "docker.io/redis", "docker.io", "library/redis", "latest",
	  "docker.io/library/redis:latest" },
	{ "index.docker.io/redis", "docker.io", "library/redis", "latest",
	  "docker.io/library/redis:latest" },
	{ "docker.io/library/redis", "docker.io", "library/redis", "latest",
	  "docker.io/library/redis:latest" },
	{ "docker://quay.io/a/b/c:d", "quay.io", "a/b/c", "d",
	  "quay.io/a/b/c:d" },
	{ "localhost/app", "localhost", "app", "latest",
	  "localhost/app:latest" },
	{ "localhost:5000/app", "localhost:5000", "app", "latest",
	  "localhost:5000/app:latest" },
	{ "127.0.0.1:5000/a/b:T_1.x", "127.0.0.1:5000", "a/b", "T_1.x",
	  "127.0.0.1:5000/a/b:T_1.x" },
	{ "[::1]:5000/app:v1", "[::1]:5000", "app", "v1", "[::1]:5000/app:v1" },
	{ "Registry/app", "Registry", "app", "latest", "Registry/app:latest" },
	{ "a__b/c-d--e.f_g", "docker.io", "a__b/c-d--e.f_g", "latest",
	  "docker.io/a__b/c-d--e.f_g:latest" },
	{ "app:_tag", "docker.io", "library/app", "_tag",
	  "docker.io/library/app:_tag" },
	{ "host:80/app", "host:80", "app", "latest", "host:80/app:latest" },
	{ "app@sha256:" HEX, "docker.io", "library/app", NULL,
	  "docker.io/library/app@sha256:" HEX },
	{ "q.io/app:v1@sha256:" HEX, "q.io", "app", "v1",
	  "q.io/app:v1@sha256:" HEX },
	{ "oci:/srv/img", NULL, "/srv/img", NULL, "oci:/srv/img" },
	{ "oci:img:v1.0", NULL, "img", "v1.0", "oci:img:v1.0" },
	{ "docker-archive:/a.tar", NULL, "/a.tar", NULL,
	  "docker-archive:/a.tar" },
	{ "docker-archive:a.tar:me/app:v1", NULL, "a.tar",
	  "docker.io/me/app:v1", "docker-archive:a.tar:docker.io/me/app:v1" },
	{ "docker-archive:a.tar:app", NULL, "a.tar",
	  "docker.io/library/app:latest",
	  "docker-archive:a.tar:docker.io/library/app:latest" },
};

static const char *const bad[] = {
	"",
	":",
	"/",
	"@",
	":tag",
	"app:",
	"app@",
	"app::tag",
	"app:tag:tag",
	"app:-tag",
	"app:.tag",
	"app:t/g",
	"app:täg",
	"app:" X100 X10 X10 "xxxxxxxxx",
	"App",
	"docker.io/App",
	"me//app",
	"me/app/",
	"/me/app",
	"-app",
	"app-",
	"app.",
	"_app",
	"a..b",
	"a___b",
	"a._b",
	"a b",
	"app\n",
	"a\tb",
	"http://host/app",
	"https://host/app",
	"host:/app",
	"host:x/app",
	"host:123456/app",
	"host:99999/app",
	"-host.io/app",
	"host-.io/app",
	"ho_st.io/app",
	"host..io/app",
	"host.io./app",
	".io/app",
	"[::1/app",
	"[zz]:5/app",
	"host.io/",
	"docker.io/",
	HEX,
	"app@sha256:0123",
	"app@sha256:" HEX "0",
	"app@sha512:" HEX HEX,
	"app@" HEX,
	"app@sha256:" HEX "@sha256:" HEX,
	"q.io/" X100 X100 X10 X10 X10 X10 X10 "xxxxxx",
	"oci:",
	"oci::tag",
	"oci:dir:",
	"docker-archive:",
	"docker-archive:a.tar:",
	"docker-archive:a.tar:App",
	"docker-archive:a.tar:app@sha256:" HEX,
};

static void same(const char *got, const char *wanted)
{
	if (wanted)
		assert_non_null(got);
	else
		assert_null(got);
	if (wanted)
		assert_string_equal(got, wanted);
}

static void spelled_as_docker_does(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		const struct good *g = &good[i];
		struct ql_error err = QL_ERROR_INIT;
		struct ql_ref ref = { 0 };

		print_message("# %s\n", g->text);
		if (ql_ref_parse(g->text, &ref, &err) < 0)
			fail_msg("%s", err.text);
		same(ref.domain, g->domain);
		same(ref.path, g->path);
		same(ref.tag, g->tag);
		same(ref.name, g->name);
		assert_int_equal(ref.has_digest,
				 strstr(g->text, "@sha256:") != NULL);
		ql_ref_release(&ref);
	}
}

static void normal_spelling_is_its_own(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct ql_ref ref = { 0 };

		assert_int_equal(ql_ref_parse(good[i].name, &ref, NULL), 0);
		assert_string_equal(ref.name, good[i].name);
		ql_ref_release(&ref);
	}
}

static void anything_else_is_refused_and_explained(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct ql_error err = QL_ERROR_INIT;
		struct ql_ref ref = { .tag = (char *)(uintptr_t) "untouched" };

		print_message("# %s\n", bad[i]);
		assert_int_equal(ql_ref_parse(bad[i], &ref, &err), -EINVAL);
		assert_int_equal(err.code, -EINVAL);
		assert_true(strlen(err.text) > 10);
		assert_string_equal(ref.tag, "untouched");
		assert_null(ref.name);
	}
}

static void longest_names_are_taken(void **state)
{
	static const char longest[] = "q.io/" X100 X100 X10 X10 X10 X10 X10
				      "xxxxx:" X100 X10 X10 "xxxxxxxx";
	struct ql_ref ref = { 0 };

	(void)state;
	assert_int_equal(ql_ref_parse(longest, &ref, NULL), 0);
	assert_int_equal(strlen(ref.path), 255);
	assert_int_equal(strlen(ref.tag), 128);
	ql_ref_release(&ref);
}

static void endless_text_is_refused(void **state)
{
	struct ql_ref ref = { 0 };
	char text[10000];

	(void)state;
	memset(text, 'a', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(ql_ref_parse(text, &ref, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(spelled_as_docker_does),
		cmocka_unit_test(normal_spelling_is_its_own),
		cmocka_unit_test(anything_else_is_refused_and_explained),
		cmocka_unit_test(longest_names_are_taken),
		cmocka_unit_test(endless_text_is_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
