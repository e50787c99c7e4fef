/* SPDX-License-Identifier: Apache-2.0 */
/* refactor/destname.c: where images go. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "refactor/refactor-private.h"

static const struct {
	const char *ref, *to, *name; /* NULL: none */
} cases[] = {
	{ "python:3.12", "r.example/edge", "r.example/edge:python-3.12" },
	{ "r.example:5000/a/b", "localhost:5000/edge",
	  "localhost:5000/edge:b-latest" },
	{ "python:3.12", "r.example/{name}:{tag}", "r.example/python:3.12" },
	{ "python:3.12", "r.example/new/{name}",
	  "r.example/new/python:python-3.12" },
	{ "python:3.12", "r.example/edge:{tag}-x", "r.example/edge:3.12-x" },
	{ "a@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789"
	  "abcdef",
	  "r.example/edge", "r.example/edge:a-0123456789ab" },
	{ "oci:/some/folder:t", "oci:/out", "oci:/out:folder-t" },
	{ "oci:folder", "oci:out:{name}", "oci:out:folder" },
	/* Of a file's name only what says that it is an archive goes. */
	{ "docker-archive:/d/app-1.2.tar", "oci:out",
	  "oci:out:app-1.2-latest" },
	{ "docker-archive:app.tar.gz", "oci:out", "oci:out:app-latest" },
	{ "docker-archive:app.tgz", "oci:out", "oci:out:app-latest" },
	{ "docker-archive:.tar", "oci:out", "oci:out:.tar-latest" },
	/* One archive, two images. */
	{ "docker-archive:x.tar:redis:7", "oci:out", "oci:out:redis-7" },
	{ "docker-archive:x.tar:r.example/a/node:7", "oci:out",
	  "oci:out:node-7" },
	{ "python:3.12", "r.example/{nam}", NULL },
	{ "python:3.12", "r.example/edge:}", NULL },
};

static void test_names(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct ql_error err = QL_ERROR_INIT;
		struct ql_ref ref;
		char *name = NULL;
		int r;

		assert_int_equal(ql_ref_parse(cases[i].ref, &ref, &err), 0);
		r = ql_dest_name(cases[i].to, &ref, &name, &err);
		if (cases[i].name)
			assert_string_equal(name, cases[i].name);
		else
			assert_int_equal(r, -EINVAL);
		free(name);
		ql_ref_release(&ref);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_names) };

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
