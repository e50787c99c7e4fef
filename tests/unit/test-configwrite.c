/* SPDX-License-Identifier: Apache-2.0 */
/* fetch/configwrite.c: configurations whose layers became others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "fetch/push-private.h"

static const char *const by[] = { "lower", "\xff\"upper" };

static struct ql_digest ids[2] = { { { 1 } }, { { 2 } } };

#define ID_A                                                                   \
	"\"sha256:01000000000000000000000000000000"                            \
	"00000000000000000000000000000000\""
#define ID_B                                                                   \
	"\"sha256:02000000000000000000000000000000"                            \
	"00000000000000000000000000000000\""

static void composes(const char *config, uint32_t n, const char *want)
{
	_cleanup_buf_ struct ql_buf got = QL_BUF_INIT(4096);
	struct ql_error err = QL_ERROR_INIT;

	if (ql_config_compose(config, strlen(config), ids, by, n, &got, &err) <
	    0)
		fail_msg("%s: %s", config, err.text);
	assert_string_equal(ql_buf_str(&got), want);
}

static void refuses(const char *config, size_t room, int error)
{
	_cleanup_buf_ struct ql_buf got = QL_BUF_INIT(room);
	struct ql_error err = QL_ERROR_INIT;

	assert_int_equal(ql_config_compose(config, strlen(config), ids, by, 2,
					   &got, &err),
			 error);
	assert_string_not_equal(err.text, "");
	assert_int_equal(got.len, 0);
}

static void all_stays_but_diff_ids_and_history(void **state)
{
	(void)state;
	composes("{\"z\": [null], \"created\": \"C\", \"rootfs\": "
		 "{\"diff_ids\": [\"x\", \"y\", \"z\"], \"type\": \"layers\"}, "
		 "\"history\": [{\"a\": 1}, {\"empty_layer\": false, "
		 "\"created_by\": \"b\"}, {\"empty_layer\": true}], "
		 "\"a\": 1.5}",
		 2,
		 "{\"z\":[null],\"created\":\"C\",\"rootfs\":{\"diff_ids\":"
		 "[" ID_A "," ID_B "],\"type\":\"layers\"},\"history\":"
		 "[{\"a\":1,\"empty_layer\":true},{\"empty_layer\":true,"
		 "\"created_by\":\"b\"},{\"empty_layer\":true},"
		 "{\"created\":\"C\",\"created_by\":\"lower\","
		 "\"comment\":\"quicklayer\"},"
		 "{\"created\":\"C\",\"created_by\":\"\\\\377\\\"upper\","
		 "\"comment\":\"quicklayer\"}],\"a\":1.5}");
}

static void history_and_time_may_be_absent(void **state)
{
	static const char want[] = "{\"rootfs\":{\"diff_ids\":[" ID_A "]},"
				   "\"history\":[{\"created_by\":\"lower\","
				   "\"comment\":\"quicklayer\"}]}";

	(void)state;
	composes("{\"rootfs\": {}}", 1, want);
	composes("{\"rootfs\": {}, \"history\": null}", 1, want);
	composes("{\"rootfs\": {}, \"history\": []}", 1, want);
	composes("{\"rootfs\": {}, \"history\": [{}]}", 0,
		 "{\"rootfs\":{\"diff_ids\":[]},"
		 "\"history\":[{\"empty_layer\":true}]}");
}

static void a_damaged_one_is_refused(void **state)
{
	(void)state;
	refuses("", 4096, -EBADMSG);
	refuses("[]", 4096, -EBADMSG);
	refuses("{}", 4096, -EBADMSG);
	refuses("{\"rootfs\": 1}", 4096, -EBADMSG);
	refuses("{\"rootfs\": {}, \"history\": {}}", 4096, -EBADMSG);
	refuses("{\"rootfs\": {}, \"history\": [1]}", 4096, -EBADMSG);
	refuses("{\"rootfs\": {}}", 100, -EFBIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_stays_but_diff_ids_and_history),
		cmocka_unit_test(history_and_time_may_be_absent),
		cmocka_unit_test(a_damaged_one_is_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
