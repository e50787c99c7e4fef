/* SPDX-License-Identifier: Apache-2.0 */
/* Content of plain layers that was taken away comes again by their tables. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// clang-format off
#include <cmocka.h>
// clang-format on
#include "tests/unit/plainindex.h"

static void put_text(const char *dir, const char *name, const char *text)
{
	_cleanup_free_ char *path = ql_path_join(dir, name);
	FILE *f;

	assert_non_null(path);
	f = fopen(path, "w");
	assert_true(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

static void put_blob(const char *dir, const void *data, size_t len,
		     char ret_text[QL_DIGEST_TEXT + 1])
{
	char hex[QL_DIGEST_HEX + 1];
	_cleanup_free_ char *path = NULL;
	struct ql_digest d;
	FILE *f;

	assert_int_equal(ql_digest_of(data, len, &d), 0);
	path = ql_strf("%s/blobs/sha256/%s", dir, ql_digest_hex(&d, hex));
	(void)ql_digest_text(&d, ret_text);
	assert_non_null(path);
	f = fopen(path, "w");
	assert_true(f && fwrite(data, 1, len, f) == len && fclose(f) == 0);
}

/* An OCI folder (image-spec 1.1, image-layout) of one image of one layer. */
static void layout_make(const char *dir, const struct ql_buf *tar,
			const struct ql_buf *blob)
{
	char layer[QL_DIGEST_TEXT + 1], config[QL_DIGEST_TEXT + 1],
		manifest[QL_DIGEST_TEXT + 1], diff_id[QL_DIGEST_TEXT + 1];
	_cleanup_free_ char *blobs = ql_strf("%s/blobs/sha256", dir);
	_cleanup_free_ char *c = NULL, *m = NULL, *i = NULL;
	struct ql_digest d;

	assert_int_equal(ql_mkdir_p(blobs, NULL), 0);
	assert_int_equal(ql_digest_of(tar->data, tar->len, &d), 0);
	put_blob(dir, blob->data, blob->len, layer);
	c = ql_strf("{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{"
		    "\"type\":\"layers\",\"diff_ids\":[\"%s\"]}}",
		    ql_digest_text(&d, diff_id));
	put_blob(dir, c, strlen(c), config);
	m = ql_strf("{\"schemaVersion\":2,\"config\":{\"mediaType\":"
		    "\"application/vnd.oci.image.config.v1+json\",\"digest\":"
		    "\"%s\",\"size\":%zu},\"layers\":[{\"mediaType\":"
		    "\"application/vnd.oci.image.layer.v1.tar+gzip\","
		    "\"digest\":\"%s\",\"size\":%zu}]}",
		    config, strlen(c), layer, blob->len);
	put_blob(dir, m, strlen(m), manifest);
	i = ql_strf("{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":"
		    "\"application/vnd.oci.image.manifest.v1+json\","
		    "\"digest\":\"%s\",\"size\":%zu,\"annotations\":{"
		    "\"org.opencontainers.image.ref.name\":\"t\"}}]}",
		    manifest, strlen(m));
	put_text(dir, "index.json", i);
	put_text(dir, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
}

static int object_evict(const struct ql_digest *digest, uint64_t size,
			void *arg)
{
	const struct lab *lab = arg;
	char hex[QL_DIGEST_HEX + 1];
	_cleanup_free_ char *path = NULL;

	(void)size;
	(void)ql_digest_hex(digest, hex);
	path = ql_strf("%s/objects/%.2s/%s", lab->root, hex, hex + 2);
	assert_non_null(path);
	assert_true(unlink(path) == 0 || errno == ENOENT);
	return 0;
}

static int object_back(const struct ql_digest *digest, uint64_t size, void *arg)
{
	const struct lab *lab = arg;

	/* What is nothing but a hole has no piece to come. */
	if (size != 5000 && !ql_object_here(lab->store, digest))
		fail_msg("a file of %zu bytes did not come", (size_t)size);
	return 0;
}

/* Takes all of the image's objects away and lets the filler bring them. */
static void evict_and_fill(struct lab *lab, const struct ql_digest *manifest)
{
	const struct ql_fill_options options = { .background_rate =
							 UINT64_MAX };
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	struct ql_filler *filler;
	struct ql_fill_image *image;

	assert_int_equal(ql_image_get(lab->store, manifest, &info), 0);
	assert_int_equal(ql_tree_open_image(lab->store, manifest, &tree, NULL),
			 0);
	assert_int_equal(ql_tree_each_object(tree, object_evict, lab), 0);
	assert_int_equal(
		ql_filler_new(lab->store, &options, &filler, &lab->err), 0);
	assert_int_equal(ql_fill_image_open(filler, &info, &image, &lab->err),
			 0);
	ql_fill_image_rest(image);
	assert_true(ql_fill_image_here(image, 60000000000ULL));
	assert_int_equal(ql_fill_flush(filler, &lab->err), 0);
	ql_fill_image_close(image);
	ql_filler_free(filler);
	assert_int_equal(ql_tree_each_object(tree, object_back, lab), 0);
}

static void what_was_taken_away_comes_again(void **state)
{
	static const enum how hows[] = { GZIP_6, GZIP_MEMBERS, ZSTD_ONE, NONE };

	(void)state;
	for (size_t h = 0; h < sizeof(hows) / sizeof(hows[0]); h++) {
		_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(BUF_MAX);
		_cleanup_buf_ struct ql_buf blob = QL_BUF_INIT(BUF_MAX);
		const struct ql_pull_options options = {
			.platform = "linux/amd64"
		};
		_cleanup_free_ char *name = NULL, *dir = NULL;
		_cleanup_ref_ struct ql_ref ref = { 0 };
		_cleanup_lab_ struct lab lab;
		struct ql_pull_result result;

		lab_init(&lab);
		archive_make(&tar);
		compress(hows[h], &tar, &blob);
		dir = ql_strf("%s/oci", lab.root);
		name = ql_strf("oci:%s:t", dir);
		assert_true(dir && name);
		layout_make(dir, &tar, &blob);
		assert_int_equal(ql_ref_parse(name, &ref, NULL), 0);
		if (ql_pull(lab.store, &ref, &options, &result, &lab.err) < 0)
			fail_msg("%s", lab.err.text);
		evict_and_fill(&lab, &result.manifest);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_taken_away_comes_again),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
