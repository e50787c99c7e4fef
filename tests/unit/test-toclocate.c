/* SPDX-License-Identifier: Apache-2.0 */
/* Where tables of contents are: annotations, footers, and both. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "fetch/toc-private.h"

#define SUM                                                                    \
	"sha256:"                                                              \
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define CHUNKED "io.github.containers.zstd-chunked."
#define CHUNKED0 "io.containers.zstd-chunked."
#define STARGZ "containerd.io/snapshot/stargz/toc.digest"

/* Of a blob of 10,000 bytes with these annotations. */
static int locate(const char *notes, struct ql_toc_where *ret,
		  struct ql_error *err)
{
	_cleanup_free_ char *text =
		ql_strf("{\"mediaType\":\"m\",\"digest\":\"" SUM
			"\",\"size\":10000,\"annotations\":{%s}}",
			notes);
	_cleanup_descriptor_ struct ql_descriptor d = { 0 };
	_cleanup_json_ json_t *json = NULL;

	*err = (struct ql_error)QL_ERROR_INIT;
	assert_int_equal(ql_json_parse(text, strlen(text), &json, err), 0);
	assert_int_equal(ql_descriptor_parse(json, &d, err), 0);
	return ql_toc_locate(&d, ret, err);
}

static void annotations_tell(void **state)
{
	struct ql_toc_where w;
	struct ql_error err;

	(void)state;
	assert_int_equal(locate("\"" CHUNKED "manifest-checksum\":\"" SUM
				"\",\"" CHUNKED
				"manifest-position\":\"5000:600:7000:1\"",
				&w, &err),
			 0);
	assert_true(w.located && w.zstd && w.has_sum && !w.has_json_sum);
	assert_int_equal(w.offset, 5000);
	assert_int_equal(w.len, 600);
	assert_int_equal(w.raw_len, 7000);
	assert_int_equal(w.content_end, 4992);
	assert_int_equal(w.sum.bytes[1], 0x23);
	assert_int_equal(locate("\"" CHUNKED0 "manifest-checksum\":\"" SUM
				"\",\"" CHUNKED0
				"manifest-position\":\"5000:600:7000:1\","
				"\"" STARGZ "\":\"" SUM "\"",
				&w, &err),
			 0);
	assert_true(w.located && w.zstd && w.has_sum && w.has_json_sum);
	assert_int_equal(locate("\"" STARGZ "\":\"" SUM "\"", &w, &err), 0);
	assert_true(!w.located && !w.has_sum && w.has_json_sum);
	assert_int_equal(w.blob_size, 10000);
}

static void without_a_digest_a_layer_is_plain(void **state)
{
	struct ql_toc_where w;
	struct ql_error err;

	(void)state;
	assert_int_equal(locate("", &w, &err), -ENOTSUP);
	assert_string_equal(err.text, "");
	assert_int_equal(locate("\"" CHUNKED
				"manifest-position\":\"5000:600:7000:1\"",
				&w, &err),
			 -ENOTSUP);
	assert_int_equal(locate("\"org.example\":\"x\"", &w, &err), -ENOTSUP);
}

static void annotations_that_cannot_be_are_refused(void **state)
{
	static const char *const places[] = {
		"",
		"5000:600:7000",
		"5000:600:7000:1:2",
		"5000:600:7000:1 ",
		" 5000:600:7000:1",
		"-1:600:7000:1",
		"5000:0:7000:1",
		"5000:600:0:1",
		"7:600:7000:1",
		"10000:600:7000:1",
		"5000:5001:7000:1",
		"18446744073709551615:600:7000:1",
		"99999999999999999999999:600:7000:1",
		"5000:18446744073709551615:7000:1",
	};
	struct ql_toc_where w;
	struct ql_error err;

	(void)state;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		_cleanup_free_ char *notes =
			ql_strf("\"" CHUNKED "manifest-checksum\":\"" SUM
				"\",\"" CHUNKED "manifest-position\":\"%s\"",
				places[i]);

		assert_int_equal(locate(notes, &w, &err), -EBADMSG);
		assert_true(strlen(err.text) > 10);
	}
	assert_int_equal(locate("\"" STARGZ "\":\"sha256:12\"", &w, &err),
			 -EBADMSG);
	assert_int_equal(locate("\"" CHUNKED "manifest-checksum\":\"" SUM
				"\",\"" STARGZ "\":\"" SUM "\"",
				&w, &err),
			 -EBADMSG);
}

/* Not lies, but nothing that we read: the layer is pulled whole. */
static void what_is_beyond_us_is_plain(void **state)
{
	struct ql_toc_where w;
	struct ql_error err;

	(void)state;
	assert_int_equal(locate("\"" CHUNKED "manifest-checksum\":\"" SUM
				"\",\"" CHUNKED
				"manifest-position\":\"5000:600:7000:2\"",
				&w, &err),
			 -ENOTSUP);
	assert_true(strstr(err.text, "unknown type 2") != NULL);
	assert_int_equal(locate("\"" CHUNKED "manifest-checksum\":\"" SUM
				"\",\"" CHUNKED
				"manifest-position\":\"5000:600:999999999:1\"",
				&w, &err),
			 -ENOTSUP);
	assert_int_equal(locate("\"" STARGZ "\":\"sha512:12\"", &w, &err),
			 -ENOTSUP);
}

/* ---- footers ---- */

static void put_le(uint8_t *at, size_t n, uint64_t v)
{
	for (size_t i = 0; i < n; i++)
		at[i] = (uint8_t)(v >> 8 * i);
}

/* A skippable frame of a zstd:chunked footer at the end of `tail`. */
static void zstd_footer(uint8_t tail[QL_TOC_FOOTER_MAX], size_t size,
			uint64_t offset, uint64_t len, uint64_t raw)
{
	uint8_t *at = tail + QL_TOC_FOOTER_MAX - size - 8;

	memset(tail, 0, QL_TOC_FOOTER_MAX);
	put_le(at, 4, 0x184D2A50);
	put_le(at + 4, 4, size);
	put_le(at + 8, 8, offset);
	put_le(at + 16, 8, len);
	put_le(at + 24, 8, raw);
	put_le(at + 32, 8, 1);
	memcpy(tail + QL_TOC_FOOTER_MAX - 8,
	       size == 40 ? "GnUlInUx" : "GNUlInUx", 8);
}

/* An empty gzip member with that extra field. */
static void gzip_footer(uint8_t tail[QL_TOC_FOOTER_MAX], const char *extra,
			size_t len)
{
	uint8_t *at = tail + QL_TOC_FOOTER_MAX - 25 - len;

	memset(tail, 0, QL_TOC_FOOTER_MAX);
	memcpy(at, "\x1f\x8b\x08\x04\0\0\0\0\0\xff", 10);
	put_le(at + 10, 2, len);
	memcpy(at + 12, extra, len);
	memcpy(at + 12 + len, "\x01\0\0\xff\xff", 5);
}

static int footer(const uint8_t tail[QL_TOC_FOOTER_MAX],
		  struct ql_toc_where *ret, struct ql_error *err)
{
	*ret = (struct ql_toc_where){ .blob_size = 10000 };
	return ql_toc_footer(tail, QL_TOC_FOOTER_MAX, ret, err);
}

static void footers_tell(void **state)
{
	uint8_t tail[QL_TOC_FOOTER_MAX];
	struct ql_error err = QL_ERROR_INIT;
	struct ql_toc_where w;

	(void)state;
	zstd_footer(tail, 64, 5000, 600, 7000);
	assert_int_equal(footer(tail, &w, &err), 0);
	assert_true(w.located && w.zstd);
	assert_int_equal(w.offset, 5000);
	assert_int_equal(w.content_end, 4992);
	zstd_footer(tail, 40, 5000, 4952, 7000);
	assert_int_equal(footer(tail, &w, &err), 0);
	assert_int_equal(w.len, 4952);
	assert_int_equal(w.raw_len, 7000);
	gzip_footer(tail,
		    "SG\x16\0"
		    "00000000000003e8STARGZ",
		    26);
	assert_int_equal(footer(tail, &w, &err), 0);
	assert_true(w.located && !w.zstd);
	assert_int_equal(w.offset, 1000);
	assert_int_equal(w.content_end, 1000);
	assert_int_equal(w.len, 10000 - 1000 - 51);
	gzip_footer(tail, "00000000000003e8STARGZ", 22);
	assert_int_equal(footer(tail, &w, &err), 0);
	assert_int_equal(w.len, 10000 - 1000 - 47);
}

static void a_table_elsewhere_is_told(void **state)
{
	uint8_t tail[QL_TOC_FOOTER_MAX];
	struct ql_error err = QL_ERROR_INIT;
	struct ql_toc_where w;

	(void)state;
	gzip_footer(tail, "SG\x11\0STARGZEXTERNALTOC", 21);
	assert_int_equal(footer(tail, &w, &err), -ENOTSUP);
	assert_true(strstr(err.text, "external TOC") != NULL);
}

static void footers_that_cannot_be_are_refused(void **state)
{
	uint8_t tail[QL_TOC_FOOTER_MAX];
	struct ql_error err = QL_ERROR_INIT;
	struct ql_toc_where w;

	(void)state;
	memset(tail, 0, sizeof(tail));
	assert_int_equal(footer(tail, &w, &err), -EBADMSG);
	zstd_footer(tail, 40, 5000, 4953, 7000); /* into the footer */
	assert_int_equal(footer(tail, &w, &err), -EBADMSG);
	zstd_footer(tail, 40, 10000, 1, 7000);
	assert_int_equal(footer(tail, &w, &err), -EBADMSG);
	zstd_footer(tail, 40, UINT64_MAX, UINT64_MAX, 7000);
	assert_int_equal(footer(tail, &w, &err), -EBADMSG);
	zstd_footer(tail, 40, 5, 600, 7000);
	assert_int_equal(footer(tail, &w, &err), -EBADMSG);
	zstd_footer(tail, 40, 5000, 0, 7000);
	assert_int_equal(footer(tail, &w, &err), -EBADMSG);
	zstd_footer(tail, 40, 5000, 600, 7000);
	tail[QL_TOC_FOOTER_MAX - 48] ^= 1; /* in no skippable frame */
	assert_int_equal(footer(tail, &w, &err), -EBADMSG);
	gzip_footer(tail,
		    "SG\x16\0"
		    "0000000000002710STARGZ",
		    26);
	assert_int_equal(footer(tail, &w, &err), -EBADMSG); /* 10,000 */
	gzip_footer(tail,
		    "SG\x16\0"
		    "ffffffffffffffffSTARGZ",
		    26);
	assert_int_equal(footer(tail, &w, &err), -EBADMSG);
	gzip_footer(tail,
		    "SG\x16\0"
		    "00000000000003g8STARGZ",
		    26);
	assert_int_equal(footer(tail, &w, &err), -EBADMSG);
	gzip_footer(tail,
		    "SG\x16\0"
		    "0000000000002700STARGX",
		    26);
	assert_int_equal(footer(tail, &w, &err), -EBADMSG);
}

static void short_tails_are_no_matter(void **state)
{
	uint8_t tail[QL_TOC_FOOTER_MAX];
	struct ql_error err = QL_ERROR_INIT;

	(void)state;
	zstd_footer(tail, 64, 5000, 600, 7000);
	for (size_t n = 0; n < QL_TOC_FOOTER_MAX; n++) {
		/* Of its exact length, for a sanitizer to see. */
		uint8_t *copy = malloc(n + 1);
		struct ql_toc_where w = { .blob_size = n };

		assert_non_null(copy);
		memcpy(copy, tail + QL_TOC_FOOTER_MAX - n, n);
		assert_int_equal(ql_toc_footer(copy, n, &w, &err), -EBADMSG);
		free(copy);
	}
}

static void both_must_agree(void **state)
{
	struct ql_toc_where known = { .blob_size = 10000,
				      .located = true,
				      .zstd = true,
				      .offset = 5000,
				      .len = 600,
				      .raw_len = 7000 };
	uint8_t tail[QL_TOC_FOOTER_MAX];
	struct ql_error err = QL_ERROR_INIT;
	struct ql_toc_where w = known;

	(void)state;
	zstd_footer(tail, 40, 5000, 600, 7000);
	assert_int_equal(ql_toc_footer(tail, sizeof(tail), &w, &err), 0);
	zstd_footer(tail, 40, 5001, 600, 7000);
	w = known;
	assert_int_equal(ql_toc_footer(tail, sizeof(tail), &w, &err), -EBADMSG);
	zstd_footer(tail, 40, 5000, 599, 7000);
	assert_int_equal(ql_toc_footer(tail, sizeof(tail), &w, &err), -EBADMSG);
	zstd_footer(tail, 40, 5000, 600, 7001);
	assert_int_equal(ql_toc_footer(tail, sizeof(tail), &w, &err), -EBADMSG);
	gzip_footer(tail,
		    "SG\x16\0"
		    "0000000000001388STARGZ",
		    26);
	assert_int_equal(ql_toc_footer(tail, sizeof(tail), &w, &err), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(annotations_tell),
		cmocka_unit_test(without_a_digest_a_layer_is_plain),
		cmocka_unit_test(annotations_that_cannot_be_are_refused),
		cmocka_unit_test(what_is_beyond_us_is_plain),
		cmocka_unit_test(footers_tell),
		cmocka_unit_test(a_table_elsewhere_is_told),
		cmocka_unit_test(footers_that_cannot_be_are_refused),
		cmocka_unit_test(short_tails_are_no_matter),
		cmocka_unit_test(both_must_agree),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
