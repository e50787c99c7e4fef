/* SPDX-License-Identifier: Apache-2.0 */
/* refactor/picture.c: a picture of any result. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "refactor/refactor.h"

/* A layer of more images than are left is as dark as it gets. */
static void test_images_that_failed(void **state)
{
	char names[][8] = { "a/b:1", "c<d&e", "\xff", "x" };
	uint32_t all[] = { 0, 1, 2, 3 }, one[] = { 2 };
	struct ql_refactor_image images[4] = { { 0 } };
	struct ql_refactor_layer layers[] = {
		{ .images = all, .n_images = 4, .content = 100 },
		{ .images = one, .n_images = 1 },
	};
	struct ql_refactor_result res = { .images = images,
					  .n_images = 4,
					  .n_failed = 1,
					  .layers = layers,
					  .n_layers = 2 };
	struct ql_error err = QL_ERROR_INIT;
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(0);

	(void)state;
	for (size_t i = 0; i < 4; i++)
		images[i].name = names[i];
	assert_int_equal(ql_refactor_picture(&res, &buf, &err), 0);
	assert_non_null(strstr(buf.data, "fill=\"#164189\""));
	assert_non_null(strstr(buf.data, "fill=\"#deebf7\""));
	assert_non_null(strstr(buf.data, "c&#60;d&#38;e"));
	assert_null(strchr(buf.data, '\xff'));
	assert_non_null(strstr(buf.data, "</svg>\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_images_that_failed),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
