/* SPDX-License-Identifier: Apache-2.0 */
/* fetch/manifestwrite.c, configwrite.c, httpupload.c: what a push says. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "fetch/push-private.h"

static struct ql_digest digest_of(const char *text)
{
	struct ql_digest d;

	assert_int_equal(ql_digest_of(text, strlen(text), &d), 0);
	return d;
}

static void an_image_is_written_and_parsed(void **state)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_MANIFEST_MAX);
	_cleanup_manifest_ struct ql_manifest m = { 0 };
	_cleanup_json_ json_t *notes = json_pack("{s:s}", "k", "v");
	_cleanup_json_ json_t *none = json_object();
	_cleanup_json_ json_t *doc = NULL;
	const struct ql_manifest_blob layers[] = {
		{ .media_type = QL_TYPE_LAYER "+zstd",
		  .digest = digest_of("1"),
		  .size = 10,
		  .annotations = notes },
		{ .media_type = QL_TYPE_LAYER "+gzip",
		  .digest = digest_of("2"),
		  .size = 1ULL << 40,
		  .annotations = none },
	};
	const struct ql_manifest_spec spec = {
		.config = { .media_type = QL_TYPE_CONFIG,
			    .digest = digest_of("c"),
			    .size = 3 },
		.blobs = layers,
		.n_blobs = 2,
		.annotations = notes,
	};
	struct ql_error err = QL_ERROR_INIT;
	enum ql_document kind;

	(void)state;
	assert_int_equal(ql_manifest_write(&spec, &buf, &err), 0);
	assert_int_equal(ql_document_kind(buf.data, buf.len, NULL, &kind, &err),
			 0);
	assert_int_equal(kind, QL_DOCUMENT_MANIFEST);
	assert_int_equal(ql_manifest_parse(buf.data, buf.len, &m, &err), 0);
	assert_int_equal(m.n_layers, 2);
	assert_int_equal(m.layers[1].size, 1ULL << 40);
	assert_true(ql_digest_equal(&m.layers[0].digest, &layers[0].digest));
	assert_int_equal(ql_json_parse(buf.data, buf.len, &doc, &err), 0);
	assert_null(json_object_get(doc, "subject"));
	assert_null(json_object_get(doc, "artifactType"));
	assert_string_equal(
		ql_json_opt_string(json_object_get(doc, "annotations"), "k",
				   ""),
		"v");
	/* What has nothing in it is not there. */
	assert_null(json_object_get(
		json_array_get(json_object_get(doc, "layers"), 1),
		"annotations"));
}

static void an_artifact_has_type_and_subject(void **state)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_MANIFEST_MAX);
	_cleanup_json_ json_t *doc = NULL;
	const struct ql_manifest_blob subject = {
		.media_type = QL_TYPE_MANIFEST,
		.digest = digest_of("s"),
		.size = 7,
	};
	const struct ql_manifest_spec spec = {
		.artifact_type = "application/x-index",
		.config = { .media_type = QL_TYPE_EMPTY,
			    .digest = digest_of("{}"),
			    .size = 2 },
		.subject = &subject,
	};
	struct ql_error err = QL_ERROR_INIT;
	char text[QL_DIGEST_TEXT + 1];

	(void)state;
	assert_int_equal(ql_manifest_write(&spec, &buf, &err), 0);
	assert_int_equal(ql_json_parse(buf.data, buf.len, &doc, &err), 0);
	assert_string_equal(ql_json_opt_string(doc, "artifactType", ""),
			    "application/x-index");
	assert_string_equal(ql_json_opt_string(json_object_get(doc, "subject"),
					       "digest", ""),
			    ql_digest_text(&subject.digest, text));
	assert_int_equal(json_array_size(json_object_get(doc, "layers")), 0);
}

static void what_does_not_fit_is_refused(void **state)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(20);
	const struct ql_manifest_spec spec = {
		.config = { .media_type = QL_TYPE_CONFIG }
	};
	const struct ql_manifest_spec bad = {
		.artifact_type = "\xff",
		.config = { .media_type = QL_TYPE_CONFIG }
	};
	struct ql_error err = QL_ERROR_INIT;

	(void)state;
	assert_int_equal(ql_manifest_write(&spec, &buf, &err), -EFBIG);
	assert_int_equal(ql_manifest_write(&bad, &buf, &err), -EINVAL);
}

static void a_configuration_keeps_all_but_diff_ids(void **state)
{
	static const char text[] =
		"{\"architecture\":\"amd64\",\"x\":[1,2.5,null],\"config\":{"
		"\"Env\":[\"A=\\u00e9\"]},\"rootfs\":{\"type\":\"layers\","
		"\"diff_ids\":[\"sha256:00\"]},\"history\":[{\"created_by\":"
		"\"x\"}]}";
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_CONFIG_MAX);
	_cleanup_free_ struct ql_digest *ids = NULL;
	_cleanup_json_ json_t *a = NULL;
	_cleanup_json_ json_t *b = NULL;
	const struct ql_digest want[] = { digest_of("1"), digest_of("2") };
	struct ql_error err = QL_ERROR_INIT;

	(void)state;
	assert_int_equal(ql_config_write(text, sizeof(text) - 1, want, 2, &buf,
					 &err),
			 0);
	assert_int_equal(ql_config_parse(buf.data, buf.len, 2, &ids, &err), 0);
	assert_true(ql_digest_equal(&ids[0], &want[0]));
	assert_true(ql_digest_equal(&ids[1], &want[1]));
	assert_int_equal(ql_json_parse(text, sizeof(text) - 1, &a, &err), 0);
	assert_int_equal(ql_json_parse(buf.data, buf.len, &b, &err), 0);
	(void)json_object_del(json_object_get(a, "rootfs"), "diff_ids");
	(void)json_object_del(json_object_get(b, "rootfs"), "diff_ids");
	assert_true(json_equal(a, b));
	assert_int_equal(ql_config_write("{}", 2, want, 2, &buf, &err),
			 -EBADMSG);
}

static void count(uint64_t bytes, void *arg)
{
	*(uint64_t *)arg = bytes;
}

static void a_part_of_a_file_is_sent_alone(void **state)
{
	_cleanup_close_ int fd = -1;
	uint64_t told = 0;
	struct ql_http_upload u = {
		.offset = 2, .len = 5, .sent = count, .arg = &told
	};
	struct ql_http_upload copy;
	char buf[16] = "";

	(void)state;
	assert_int_equal(ql_tmpfile("/tmp", &fd, NULL), 0);
	assert_int_equal(ql_write_full(fd, "0123456789", 10), 0);
	u.fd = fd;
	assert_int_equal(ql_upload_keep(&u, &copy), 0);
	assert_int_equal(ql_upload_read(&copy, 0, buf, 3), 3);
	assert_memory_equal(buf, "234", 3);
	assert_int_equal(told, 3);
	assert_int_equal(ql_upload_read(&copy, 3, buf, sizeof(buf)), 2);
	assert_memory_equal(buf, "56", 2);
	assert_int_equal(ql_upload_read(&copy, 5, buf, sizeof(buf)), 0);
	assert_int_equal(ql_upload_read(&copy, 6, buf, sizeof(buf)), -EINVAL);
	assert_int_equal(told, 5);
	ql_upload_release(&copy);
	u.len = 9; /* more than the file has */
	assert_int_equal(ql_upload_keep(&u, &copy), 0);
	assert_int_equal(ql_upload_read(&copy, 0, buf, sizeof(buf)), -EIO);
	ql_upload_release(&copy);
}

static void memory_is_sent_from_a_copy(void **state)
{
	char data[] = "abc";
	struct ql_http_upload u = { .data = data, .fd = -1, .len = 3 };
	struct ql_http_upload copy;
	char buf[16] = "";

	(void)state;
	assert_int_equal(ql_upload_keep(&u, &copy), 0);
	memset(data, 'x', 3);
	assert_int_equal(ql_upload_read(&copy, 1, buf, sizeof(buf)), 2);
	assert_memory_equal(buf, "bc", 2);
	ql_upload_release(&copy);
	assert_int_equal(ql_upload_keep(NULL, &copy), 0);
	ql_upload_release(&copy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_image_is_written_and_parsed),
		cmocka_unit_test(an_artifact_has_type_and_subject),
		cmocka_unit_test(what_does_not_fit_is_refused),
		cmocka_unit_test(a_configuration_keeps_all_but_diff_ids),
		cmocka_unit_test(a_part_of_a_file_is_sent_alone),
		cmocka_unit_test(memory_is_sent_from_a_copy),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
