/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fetch/manifest.c, index.c, config.c, platform.c: which image is chosen, and
 * what is refused as one.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "fetch/fetch-private.h"

#define D0                                                                     \
	"sha256:"                                                              \
	"0000000000000000000000000000000000000000000000000000000000000000"
#define D1                                                                     \
	"sha256:"                                                              \
	"1111111111111111111111111111111111111111111111111111111111111111"
#define D2                                                                     \
	"sha256:"                                                              \
	"2222222222222222222222222222222222222222222222222222222222222222"
#define OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define OCI_LAYER "application/vnd.oci.image.layer.v1.tar+gzip"
#define CONFIG                                                                 \
	"\"config\":{\"mediaType\":\"application/"                             \
	"vnd.oci.image.config.v1+json\","                                      \
	"\"digest\":\"" D0 "\",\"size\":10}"
#define LAYER(type, digest, size)                                              \
	"{\"mediaType\":\"" type "\",\"digest\":\"" digest "\",\"size\":" size \
	"}"
#define MANIFEST(layers)                                                       \
	"{\"schemaVersion\":2," CONFIG ",\"layers\":[" layers "]}"

/* ---- what a document is ---- */

static const struct kind_case {
	const char *data, *served_as;
	int want; /* enum ql_document or a negative errno */
} kinds[] = {
	{ MANIFEST(""), NULL, QL_DOCUMENT_MANIFEST },
	{ MANIFEST(""), OCI_MANIFEST, QL_DOCUMENT_MANIFEST },
	{ MANIFEST(""), OCI_MANIFEST "; charset=utf-8", QL_DOCUMENT_MANIFEST },
	{ MANIFEST(""), "text/plain", QL_DOCUMENT_MANIFEST },
	{ "{\"schemaVersion\":2,\"manifests\":[]}", NULL, QL_DOCUMENT_INDEX },
	{ "{\"schemaVersion\":2,\"manifests\":[]}", OCI_INDEX,
	  QL_DOCUMENT_INDEX },
	{ MANIFEST(""), OCI_INDEX, -EBADMSG },
	{ "{\"schemaVersion\":2,\"mediaType\":\"" OCI_MANIFEST
	  "\",\"manifests\":[]}",
	  NULL, -EBADMSG },
	{ "{\"schemaVersion\":2,\"manifests\":[],\"layers\":[]}", NULL,
	  -EBADMSG },
	{ "{\"schemaVersion\":1,\"fsLayers\":[]}", NULL, -EOPNOTSUPP },
	{ "{\"schemaVersion\":2}",
	  "application/vnd.docker.distribution.manifest.v1+prettyjws",
	  -EOPNOTSUPP },
	{ "{\"schemaVersion\":3,\"layers\":[]}", NULL, -EOPNOTSUPP },
	{ "{\"schemaVersion\":2}", NULL, -EOPNOTSUPP },
	{ "{}", NULL, -EBADMSG },
	{ "[]", NULL, -EBADMSG },
	{ "<html>", NULL, -EBADMSG },
	{ "", NULL, -EBADMSG },
};

static void documents_are_told_apart(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		const struct kind_case *k = &kinds[i];
		enum ql_document kind = QL_DOCUMENT_MANIFEST;
		int r = ql_document_kind(k->data, strlen(k->data), k->served_as,
					 &kind, NULL);

		print_message("# %s\n", k->data);
		assert_int_equal(r < 0 ? r : (int)kind, k->want);
	}
}

/* ---- manifests ---- */

static const struct manifest_case {
	const char *data;
	int want; /* layers, or a negative errno */
} manifests[] = {
	{ MANIFEST(""), 0 },
	{ MANIFEST(LAYER(OCI_LAYER, D1, "5")), 1 },
	{ MANIFEST(LAYER(OCI_LAYER, D1, "5") "," LAYER(
		  "application/vnd.docker.image.rootfs.diff.tar.gzip", D2,
		  "0")),
	  2 },
	{ MANIFEST(LAYER("application/vnd.docker.image.rootfs.foreign.diff."
			 "tar.gzip",
			 D1, "5")),
	  1 },
	{ MANIFEST(LAYER("application/vnd.oci.image.layer.v1.tar+gzip+"
			 "encrypted",
			 D1, "5")),
	  -EOPNOTSUPP },
	{ MANIFEST(LAYER("application/vnd.in-toto+json", D1, "5")),
	  -EOPNOTSUPP },
	{ MANIFEST(LAYER(OCI_LAYER, D1, "-5")), -EBADMSG },
	{ MANIFEST(LAYER(OCI_LAYER, D1, "1.5")), -EBADMSG },
	{ MANIFEST(LAYER(OCI_LAYER, D1, "99999999999999999999")), -EBADMSG },
	{ MANIFEST(LAYER(OCI_LAYER, D1, "9223372036854775807") "," LAYER(
		  OCI_LAYER, D2, "9223372036854775807")),
	  -EBADMSG },
	{ MANIFEST(LAYER(OCI_LAYER, "sha256:11", "5")), -EINVAL },
	{ MANIFEST(LAYER(OCI_LAYER, "sha512:11", "5")), -EOPNOTSUPP },
	{ MANIFEST("7"), -EBADMSG },
	{ "{\"schemaVersion\":2,\"layers\":[]}", -EBADMSG },
	{ "{" CONFIG "}", -EBADMSG },
	{ "{" CONFIG ",\"layers\":{}}", -EBADMSG },
	{ "{\"config\":{\"mediaType\":\"x\",\"digest\":\"" D0
	  "\",\"size\":99999999},\"layers\":[]}",
	  -EFBIG },
};

static void manifests_are_checked(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(manifests) / sizeof(manifests[0]); i++) {
		const struct manifest_case *c = &manifests[i];
		struct ql_error err = QL_ERROR_INIT;
		struct ql_manifest m = { 0 };
		int r = ql_manifest_parse(c->data, strlen(c->data), &m, &err);

		print_message("# %s\n", c->data);
		assert_int_equal(r < 0 ? r : (int)m.n_layers, c->want);
		assert_int_equal(r < 0, err.text[0] != '\0');
		ql_manifest_release(&m);
	}
}

static int parse_layers(int n)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(1 << 20);
	_cleanup_manifest_ struct ql_manifest m = { 0 };
	struct ql_error err = QL_ERROR_INIT;

	(void)ql_buf_adds(&buf, "{" CONFIG ",\"layers\":[");
	for (int i = 0; i < n; i++)
		(void)ql_buf_addf(&buf, "%s" LAYER(OCI_LAYER, D1, "1"),
				  i ? "," : "");
	(void)ql_buf_adds(&buf, "]}");
	return ql_manifest_parse(buf.data, buf.len, &m, &err);
}

static void more_than_512_layers_are_refused(void **state)
{
	(void)state;
	assert_int_equal(parse_layers(512), 0);
	assert_int_equal(parse_layers(513), -EOPNOTSUPP);
}

/* ---- configurations ---- */

static int config(const char *data, uint32_t n)
{
	_cleanup_free_ struct ql_digest *ids = NULL;
	struct ql_error err = QL_ERROR_INIT;

	return ql_config_parse(data, strlen(data), n, &ids, &err);
}

static void configurations_have_a_diff_id_per_layer(void **state)
{
	static const char one[] =
		"{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" D1 "\"]}}";

	(void)state;
	assert_int_equal(config(one, 1), 0);
	assert_int_equal(config(one, 0), -EBADMSG);
	assert_int_equal(config(one, 2), -EBADMSG);
	assert_int_equal(config("{\"rootfs\":{\"diff_ids\":[]}}", 0), 0);
	assert_int_equal(config("{\"rootfs\":{\"diff_ids\":[5]}}", 1), -EINVAL);
	assert_int_equal(config("{}", 0), -EBADMSG);
	assert_int_equal(config("{\"rootfs\":[]}", 0), -EBADMSG);
}

static void configurations_say_what_they_are_for(void **state)
{
	static const char arm[] = "{\"os\":\"linux\",\"architecture\":\"arm\","
				  "\"variant\":\"v6\"}";

	(void)state;
	assert_int_equal(ql_config_check(arm, strlen(arm), "linux/arm", NULL),
			 0);
	assert_int_equal(ql_config_check(arm, strlen(arm), "linux/arm/v5",
					 NULL),
			 -ENOENT);
	assert_int_equal(ql_config_check(arm, strlen(arm), "linux/amd64", NULL),
			 -ENOENT);
}

/* ---- platforms ---- */

static const struct platform_case {
	const char *wanted, *offered;
	int want; /* 1: runs, 0: does not */
} platforms[] = {
	{ "linux/amd64", "linux/amd64", 1 },
	{ "linux/x86_64", "linux/amd64", 1 },
	{ "linux/amd64/v1", "linux/amd64", 1 },
	{ "linux/amd64", "linux/amd64/v3", 0 },
	{ "linux/amd64/v3", "linux/amd64/v2", 1 },
	{ "linux/amd64/v3", "linux/amd64", 1 },
	{ "linux/arm64", "linux/arm64/v8", 1 },
	{ "linux/aarch64", "linux/arm64", 1 },
	{ "linux/arm64/v8", "linux/arm64", 1 },
	{ "linux/arm64", "linux/arm/v7", 0 },
	{ "linux/arm", "linux/arm/v7", 1 },
	{ "linux/arm/v7", "linux/arm/v6", 1 },
	{ "linux/arm/7", "linux/arm/v5", 1 },
	{ "linux/arm/v6", "linux/arm/v7", 0 },
	{ "linux/armhf", "linux/arm/v7", 1 },
	{ "linux/386", "linux/i686", 1 },
	{ "linux/amd64", "windows/amd64", 0 },
	{ "linux/amd64", "linux/s390x", 0 },
};

static void platforms_match_as_in_containerd(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(platforms) / sizeof(platforms[0]); i++) {
		_cleanup_platform_ struct ql_platform w = { 0 }, o = { 0 };

		print_message("# %s on %s\n", platforms[i].offered,
			      platforms[i].wanted);
		assert_int_equal(
			ql_platform_parse(platforms[i].wanted, &w, NULL), 0);
		assert_int_equal(
			ql_platform_parse(platforms[i].offered, &o, NULL), 0);
		assert_int_equal(ql_platform_match(&w, &o) > 0,
				 platforms[i].want);
	}
}

static void platforms_have_two_or_three_parts(void **state)
{
	static const char *const bad[] = { "",		 "linux",
					   "/amd64",	 "linux/",
					   "linux//",	 "linux/arm/",
					   "linux/a/b/c" };
	_cleanup_platform_ struct ql_platform p = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(ql_platform_parse(bad[i], &p, NULL), -EINVAL);
	assert_int_equal(ql_platform_parse(NULL, &p, NULL), 0);
	assert_string_equal(p.os, "linux");
}

/* ---- indexes ---- */

#define ENTRY(digest, platform)                                                \
	"{\"mediaType\":\"" OCI_MANIFEST "\",\"digest\":\"" digest             \
	"\",\"size\":5" platform "}"
#define PLATFORM(os, arch, variant)                                            \
	",\"platform\":{\"os\":\"" os "\",\"architecture\":\"" arch            \
	"\",\"variant\":\"" variant "\"}"
#define INDEX(entries) "{\"schemaVersion\":2,\"manifests\":[" entries "]}"

/* The first hex digit of what is chosen, or a negative errno. */
static int select_for(const char *index, const char *platform,
		      struct ql_error *err)
{
	_cleanup_platform_ struct ql_platform p = { 0 };
	_cleanup_descriptor_ struct ql_descriptor d = { 0 };
	struct ql_error ignored = QL_ERROR_INIT;
	int r;

	assert_int_equal(ql_platform_parse(platform, &p, NULL), 0);
	r = ql_index_select(index, strlen(index), &p, &d, err ? err : &ignored);
	return r < 0 ? r : d.digest.bytes[0] >> 4;
}

static void best_platform_is_chosen(void **state)
{
	static const char arms[] =
		INDEX(ENTRY(D0, PLATFORM("linux", "arm", "v5")) "," ENTRY(
			D1, PLATFORM("linux", "arm",
				     "v6")) "," ENTRY(D2,
						      PLATFORM("linux", "amd64",
							       "")));
	static const char none[] = INDEX(ENTRY(D1, ""));
	static const char twice[] =
		INDEX(ENTRY(D1, PLATFORM("linux", "amd64", "")) "," ENTRY(
			D2, PLATFORM("linux", "amd64", "")));
	static const char both[] = INDEX(
		ENTRY(D1, "") "," ENTRY(D2, PLATFORM("linux", "amd64", "")));

	(void)state;
	assert_int_equal(select_for(arms, "linux/arm/v7", NULL), 1);
	assert_int_equal(select_for(arms, "linux/arm/v5", NULL), 0);
	assert_int_equal(select_for(arms, "linux/amd64", NULL), 2);
	assert_int_equal(select_for(none, "linux/amd64", NULL), 1);
	assert_int_equal(select_for(both, "linux/amd64", NULL), 2);
	assert_int_equal(select_for(twice, "linux/amd64", NULL), 1);
}

static void missing_platform_is_told_with_what_there_is(void **state)
{
	static const char index[] =
		INDEX(ENTRY(D0, PLATFORM("linux", "arm", "v6")) "," ENTRY(
			D1, PLATFORM("windows", "amd64",
				     "")) "," ENTRY(D2,
						    PLATFORM("unknown",
							     "unknown", "")));
	struct ql_error err = QL_ERROR_INIT;

	(void)state;
	assert_int_equal(select_for(index, "linux/s390x", &err), -ENOENT);
	assert_string_equal(err.text,
			    "no image for linux/s390x; there is: linux/arm/v6, "
			    "windows/amd64");
	assert_int_equal(select_for(INDEX(""), "linux/s390x", &err), -ENOENT);
	assert_int_equal(select_for("{}", "linux/s390x", &err), -EBADMSG);
	assert_int_equal(select_for(INDEX("1"), "linux/s390x", &err), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(documents_are_told_apart),
		cmocka_unit_test(manifests_are_checked),
		cmocka_unit_test(more_than_512_layers_are_refused),
		cmocka_unit_test(configurations_have_a_diff_id_per_layer),
		cmocka_unit_test(configurations_say_what_they_are_for),
		cmocka_unit_test(platforms_match_as_in_containerd),
		cmocka_unit_test(platforms_have_two_or_three_parts),
		cmocka_unit_test(best_platform_is_chosen),
		cmocka_unit_test(missing_platform_is_told_with_what_there_is),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
