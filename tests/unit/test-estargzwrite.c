/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fetch/layerwrite.c and its formats, read back: the archive is what it was,
 * each piece can be had by its range alone, and what a table of contents
 * cannot say is not written into one.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/writtenlayer.h"

/* ---- eStargz ---- */

/* The table, as the footer and the annotation say. */
static json_t *estargz_toc(const struct blob *b)
{
	const char *footer = b->buf.data + b->buf.len - 51;
	unsigned long offset;
	_cleanup_free_ char *member = NULL;
	char hex[17] = "";
	size_t len;
	size_t text_len;
	json_t *toc = NULL;

	assert_memory_equal(footer + 12, "SG\x16\0", 4);
	assert_memory_equal(footer + 32, "STARGZ", 6);
	memcpy(hex, footer + 16, 16);
	offset = strtoul(hex, NULL, 16);
	member = gzip_part(&b->buf, offset, 16 << 20, &len);
	assert_string_equal(member, "stargz.index.json");
	text_len = strtoul(member + 124, NULL, 8);
	assert_int_equal(len, 512 + (text_len + 511) / 512 * 512 + 1024);
	assert_true(digest_is(
		annotation(b, "containerd.io/snapshot/stargz/toc.digest"),
		member + 512, text_len));
	assert_int_equal(ql_json_parse(member + 512, text_len, &toc, NULL), 0);
	return toc;
}

static void expect_stargz_file(const struct blob *b, const json_t *toc,
			       const char *name, const char *want, size_t len)
{
	const json_t *list = json_object_get(toc, "entries");
	const json_t *file = entry_find(toc, name);
	size_t i = 0;
	size_t done = 0;

	while (json_array_get(list, i) != file)
		i++;
	assert_int_equal(number(file, "size"), len);
	assert_true(
		digest_is(ql_json_opt_string(file, "digest", NULL), want, len));
	while (done < len) {
		const json_t *piece = json_array_get(list, i++);
		size_t size = number(piece, "chunkSize");
		_cleanup_free_ char *data = NULL;
		size_t got;

		if (size == 0)
			size = len - done;
		assert_int_equal(number(piece, "chunkOffset"), done);
		data = gzip_part(&b->buf, number(piece, "offset"), size, &got);
		assert_int_equal(got, size);
		assert_memory_equal(data, want + done, got);
		assert_true(digest_is(ql_json_opt_string(piece, "chunkDigest",
							 NULL),
				      data, got));
		done += got;
	}
	assert_int_equal(done, len);
}

static void estargz_has_table_landmark_and_pieces(void **state)
{
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(64 << 20);
	_cleanup_buf_ struct ql_buf out = QL_BUF_INIT(64 << 20);
	_cleanup_free_ char *large = large_file();
	_cleanup_json_ json_t *toc = NULL;
	_cleanup_blob_ struct blob b;
	struct ql_digest d;
	char size[24];

	(void)state;
	make_tar(&tar, large);
	write_or_fail(&b, &tar, estargz);
	toc = estargz_toc(&b);
	expect_stargz_file(&b, toc, "./bin/large", large, LARGE);
	expect_stargz_file(&b, toc, "./bin/small", "content", 7);
	expect_stargz_file(&b, toc, ".no.prefetch.landmark", "\xf", 1);
	expect_stargz_file(&b, toc, "./bin/empty", "", 0);
	/* Between landmark and table is the archive, but for its end. */
	blob_inflate(&b, &out);
	assert_string_equal(out.data, ".no.prefetch.landmark");
	assert_memory_equal(out.data + 1024, tar.data, tar.len - 2048);
	assert_string_equal(out.data + 1024 + tar.len - 2048,
			    "stargz.index.json");
	assert_int_equal(ql_digest_of(out.data, out.len, &d), 0);
	assert_true(ql_digest_equal(&d, &b.w.diff_id));
	(void)snprintf(size, sizeof(size), "%zu", out.len);
	assert_string_equal(annotation(&b, "io.containers.estargz.uncompressed-"
					   "size"),
			    size);
}

static void estargz_of_an_estargz_is_the_same(void **state)
{
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(64 << 20);
	_cleanup_buf_ struct ql_buf again = QL_BUF_INIT(64 << 20);
	_cleanup_free_ char *large = large_file();
	_cleanup_blob_ struct blob a;
	_cleanup_blob_ struct blob b;

	(void)state;
	make_tar(&tar, large);
	write_or_fail(&a, &tar, estargz);
	blob_inflate(&a, &again);
	write_or_fail(&b, &again, estargz);
	assert_true(ql_digest_equal(&a.w.digest, &b.w.digest));
}

static void estargz_puts_first_what_is_wanted(void **state)
{
	static const char *const first[] = { "bin/hard", "/a/long/name",
					     "no/such/file" };
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(64 << 20);
	_cleanup_buf_ struct ql_buf out = QL_BUF_INIT(64 << 20);
	_cleanup_buf_ struct ql_buf names = QL_BUF_INIT(1 << 20);
	_cleanup_free_ char *large = large_file();
	_cleanup_json_ json_t *toc = NULL;
	struct ql_layer_format format = estargz;
	_cleanup_blob_ struct blob b;
	struct ql_digest d;
	const json_t *e;
	size_t i;

	(void)state;
	format.first = first;
	format.n_first = 3;
	make_tar(&tar, large);
	write_or_fail(&b, &tar, format);
	toc = estargz_toc(&b);
	json_array_foreach (json_object_get(toc, "entries"), i, e)
		if (strcmp(ql_json_opt_string(e, "type", ""), "chunk") != 0)
			assert_int_equal(
				ql_buf_addf(&names, "%s ",
					    ql_json_opt_string(e, "name", "")),
				0);
	assert_string_equal(ql_buf_str(&names),
			    "./ ./bin/ ./bin/large ./bin/hard ./a/long/name "
			    ".prefetch.landmark ./bin/small ./bin/empty "
			    "./bin/attr ./bin/sym ./null ./last ");
	expect_stargz_file(&b, toc, "./bin/large", large, LARGE);
	expect_stargz_file(&b, toc, "./a/long/name", "named longer", 12);
	expect_stargz_file(&b, toc, ".prefetch.landmark", "\xf", 1);
	expect_stargz_file(&b, toc, "./last", "x", 1);
	blob_inflate(&b, &out);
	assert_int_equal(ql_digest_of(out.data, out.len, &d), 0);
	assert_true(ql_digest_equal(&d, &b.w.diff_id));
}

static void estargz_of_nothing_but_what_is_wanted(void **state)
{
	static const char *const first[] = { "only" };
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(64 << 20);
	_cleanup_json_ json_t *toc = NULL;
	struct ql_layer_format format = estargz;
	_cleanup_blob_ struct blob b;

	(void)state;
	format.first = first;
	format.n_first = 1;
	tarball_file(&tar, "only", "content");
	tar.len = 512 + 7; /* with no padding */
	write_or_fail(&b, &tar, format);
	toc = estargz_toc(&b);
	expect_stargz_file(&b, toc, "only", "content", 7);
	expect_stargz_file(&b, toc, ".prefetch.landmark", "\xf", 1);
}

/* Some writers end an archive right behind the last byte of content. */
static void estargz_pads_what_was_not(void **state)
{
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(64 << 20);
	_cleanup_buf_ struct ql_buf out = QL_BUF_INIT(64 << 20);
	_cleanup_json_ json_t *toc = NULL;
	_cleanup_blob_ struct blob b;

	(void)state;
	tarball_file(&tar, "last", "content");
	tar.len = 512 + 7;
	write_or_fail(&b, &tar, estargz);
	toc = estargz_toc(&b);
	expect_stargz_file(&b, toc, "last", "content", 7);
	blob_inflate(&b, &out);
	assert_string_equal(out.data + 1024 + 1024, "stargz.index.json");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(estargz_has_table_landmark_and_pieces),
		cmocka_unit_test(estargz_of_an_estargz_is_the_same),
		cmocka_unit_test(estargz_puts_first_what_is_wanted),
		cmocka_unit_test(estargz_of_nothing_but_what_is_wanted),
		cmocka_unit_test(estargz_pads_what_was_not),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
