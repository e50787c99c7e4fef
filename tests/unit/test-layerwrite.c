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

/* ---- zstd:chunked ---- */

static json_t *chunked_toc(const struct blob *b)
{
	unsigned long long at[4];
	_cleanup_free_ char *text = NULL;
	size_t len;
	json_t *toc = NULL;

	assert_int_equal(
		sscanf(annotation(b, "io.github.containers.zstd-chunked."
				     "manifest-position"),
		       "%llu:%llu:%llu:%llu", &at[0], &at[1], &at[2], &at[3]),
		4);
	assert_int_equal(at[3], 1);
	assert_true(digest_is(annotation(b, "io.github.containers.zstd-chunked."
					    "manifest-checksum"),
			      b->buf.data + at[0], at[1]));
	text = zstd_part(&b->buf, at[0], at[0] + at[1], &len);
	assert_int_equal(len, at[2]);
	assert_int_equal(ql_json_parse(text, len, &toc, NULL), 0);
	return toc;
}

/* The pieces of a file, each decoded alone, make up its content. */
static void expect_chunked_file(const struct blob *b, const json_t *toc,
				const char *name, const char *want, size_t len)
{
	const json_t *list = json_object_get(toc, "entries");
	const json_t *file = entry_find(toc, name);
	size_t i = 0;
	size_t done = 0;
	size_t end;

	while (json_array_get(list, i) != file)
		i++;
	assert_int_equal(number(file, "size"), len);
	assert_true(
		digest_is(ql_json_opt_string(file, "digest", NULL), want, len));
	while (done < len) {
		const json_t *piece = json_array_get(list, i);
		const json_t *next = json_array_get(list, i + 1);
		const char *type = ql_json_opt_string(piece, "chunkType", "");
		_cleanup_free_ char *data = NULL;
		size_t got;

		assert_string_equal(ql_json_opt_string(piece, "name", ""),
				    name);
		assert_int_equal(number(piece, "chunkOffset"), done);
		end = len - done > CHUNK ? number(next, "offset")
					 : number(file, "endOffset");
		data = zstd_part(&b->buf, number(piece, "offset"), end, &got);
		assert_memory_equal(data, want + done, got);
		if (len > CHUNK) {
			assert_int_equal(number(piece, "chunkSize"), got);
			assert_true(digest_is(
				ql_json_opt_string(piece, "chunkDigest", NULL),
				data, got));
			assert_string_equal(
				type, done / CHUNK == 1 || done / CHUNK == 2
					      ? "zeros"
					      : "");
		}
		done += got;
		i++;
	}
	assert_int_equal(done, len);
}

static void chunked_is_the_archive_and_its_pieces(void **state)
{
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(64 << 20);
	_cleanup_free_ char *large = large_file();
	_cleanup_json_ json_t *toc = NULL;
	_cleanup_blob_ struct blob b;
	const json_t *e;

	(void)state;
	make_tar(&tar, large);
	write_or_fail(&b, &tar, chunked);
	assert_string_equal(b.w.media_type,
			    "application/vnd.oci.image.layer.v1.tar+zstd");
	expect_tar(&b, &tar);
	toc = chunked_toc(&b);
	assert_int_equal(number(toc, "version"), 1);
	expect_chunked_file(&b, toc, "./bin/large", large, LARGE);
	expect_chunked_file(&b, toc, "./bin/small", "content", 7);
	expect_chunked_file(&b, toc, "./a/long/name", "named longer", 12);
	e = entry_find(toc, "./bin/large");
	assert_string_equal(ql_json_opt_string(e, "modtime", ""),
			    "2023-11-14T22:13:20.25Z");
	assert_int_equal(number(e, "uid"), 1000);
	e = entry_find(toc, "./bin/empty");
	assert_null(json_object_get(e, "digest"));
	assert_null(json_object_get(e, "offset"));
	e = entry_find(toc, "./bin/attr");
	assert_string_equal(ql_json_opt_string(json_object_get(e, "xattrs"),
					       "user.x", ""),
			    "dmFsdWU=");
	e = entry_find(toc, "./bin/hard");
	assert_string_equal(ql_json_opt_string(e, "linkName", ""),
			    "./bin/large");
	e = entry_find(toc, "./null");
	assert_int_equal(number(e, "devMajor"), 1);
	assert_int_equal(number(e, "devMinor"), 3);
	assert_int_equal(number(entry_find(toc, "./bin/"), "mode"), 01777);
}

static void chunked_ends_in_its_footer(void **state)
{
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(64 << 20);
	_cleanup_blob_ struct blob b;
	struct ql_cursor c;
	unsigned long long toc[3];
	unsigned long long split[3];

	(void)state;
	tarball_file(&tar, "a", "b");
	tarball_end(&tar);
	write_or_fail(&b, &tar, chunked);
	assert_int_equal(sscanf(annotation(&b,
					   "io.github.containers.zstd-chunked."
					   "manifest-position"),
				"%llu:%llu:%llu:1", &toc[0], &toc[1], &toc[2]),
			 3);
	assert_int_equal(
		sscanf(annotation(&b, "io.github.containers.zstd-chunked."
				      "tarsplit-position"),
		       "%llu:%llu:%llu", &split[0], &split[1], &split[2]),
		3);
	ql_cursor_init(&c, b.buf.data + b.buf.len - 72, 72);
	assert_int_equal(ql_cursor_le32(&c), 0x184d2a50);
	assert_int_equal(ql_cursor_le32(&c), 64);
	for (int i = 0; i < 3; i++)
		assert_int_equal(ql_cursor_le64(&c), toc[i]);
	assert_int_equal(ql_cursor_le64(&c), 1);
	for (int i = 0; i < 3; i++)
		assert_int_equal(ql_cursor_le64(&c), split[i]);
	assert_memory_equal(ql_cursor_bytes(&c, 8), "GNUlInUx", 8);
	/* Both stand in skippable frames of their own. */
	ql_cursor_init(&c, b.buf.data + toc[0] - 8, 8);
	assert_int_equal(ql_cursor_le32(&c), 0x184d2a50);
	assert_int_equal(ql_cursor_le32(&c), toc[1]);
	assert_int_equal(split[0], toc[0] + toc[1] + 8);
}

static size_t base64(const char *text, char *out)
{
	static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqr"
				  "stuvwxyz0123456789+/";
	uint32_t bits = 0;
	int n = 0;
	size_t len = 0;

	for (; *text && *text != '='; text++) {
		bits = bits << 6 | (uint32_t)(strchr(set, *text) - set);
		n += 6;
		if (n >= 8) {
			n -= 8;
			out[len++] = (char)(bits >> n);
		}
	}
	return len;
}

/* As engines rebuild an archive: segments, and files by their names. */
static void tar_split_rebuilds_the_archive(void **state)
{
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(64 << 20);
	_cleanup_buf_ struct ql_buf out = QL_BUF_INIT(64 << 20);
	_cleanup_free_ char *large = large_file();
	_cleanup_free_ char *text = NULL;
	_cleanup_json_ json_t *toc = NULL;
	_cleanup_blob_ struct blob b;
	unsigned long long at[3];
	size_t len;
	size_t padding = 0;
	int lines = 0;

	(void)state;
	make_tar(&tar, large);
	write_or_fail(&b, &tar, chunked);
	toc = chunked_toc(&b);
	assert_int_equal(sscanf(annotation(&b,
					   "io.github.containers.zstd-chunked."
					   "tarsplit-position"),
				"%llu:%llu:%llu", &at[0], &at[1], &at[2]),
			 3);
	assert_true(digest_is(ql_json_opt_string(toc, "tarSplitDigest", NULL),
			      b.buf.data + at[0], at[1]));
	text = zstd_part(&b.buf, at[0], at[0] + at[1], &len);
	assert_int_equal(len, at[2]);
	for (char *p = text; p < text + len;) {
		char *end = memchr(p, '\n', (size_t)(text + len - p));
		_cleanup_json_ json_t *line = NULL;
		_cleanup_free_ char *raw = malloc(4096);
		const char *payload;

		assert_int_equal(
			ql_json_parse(p, (size_t)(end - p), &line, NULL), 0);
		assert_int_equal(number(line, "position"), lines++);
		payload = ql_json_opt_string(line, "payload", NULL);
		if (number(line, "type") == 2) {
			size_t n = base64(payload, raw);

			/* Readers take a header, or the end, to begin behind
			 * the padding, and want whole blocks. */
			assert_int_equal((n - padding) % 512, 0);
			padding = 0;
			assert_int_equal(ql_buf_add(&out, raw, n), 0);
		} else if (number(line, "size") > 0) {
			size_t n = number(line, "size");

			padding = -n & 511;
			assert_int_equal(
				ql_buf_add(&out, tar.data + out.len, n), 0);
		} else {
			assert_null(payload);
		}
		/* CRC-64 of ISO, as Go's hash/crc64 has it. */
		if (strcmp(ql_json_opt_string(line, "name", ""),
			   "./bin/small") == 0)
			assert_string_equal(payload, "KG2CyG2MN0A=");
		p = end + 1;
	}
	assert_int_equal(out.len, tar.len);
	assert_memory_equal(out.data, tar.data, tar.len);
}

/* ---- all ---- */

static void gzip_is_one_member(void **state)
{
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(64 << 20);
	_cleanup_free_ char *large = large_file();
	_cleanup_free_ char *all = NULL;
	_cleanup_blob_ struct blob b;
	size_t len;

	(void)state;
	for (int i = 0; i < 9; i++) /* more than a batch */
		make_tar(&tar, large);
	write_or_fail(&b, &tar, gzip);
	assert_null(b.w.annotations);
	assert_string_equal(b.w.media_type,
			    "application/vnd.oci.image.layer.v1.tar+gzip");
	expect_tar(&b, &tar);
	all = gzip_part(&b.buf, 0, tar.len + 1, &len);
	assert_int_equal(len, tar.len);
	assert_memory_equal(all, tar.data, len);
	assert_memory_equal(b.buf.data + 4, "\0\0\0\0", 4); /* no time */
}

static void empty_archives_are_written(void **state)
{
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(64 << 20);
	const struct ql_layer_format all[] = { chunked, estargz, gzip };

	(void)state;
	tarball_end(&tar);
	for (int i = 0; i < 3; i++) {
		_cleanup_blob_ struct blob b;

		write_or_fail(&b, &tar, all[i]);
		if (i != 1)
			expect_tar(&b, &tar);
	}
}

static void the_same_comes_out_however_many_threads(void **state)
{
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(64 << 20);
	_cleanup_free_ char *large = large_file();
	const struct ql_layer_format all[] = { chunked, estargz, gzip };

	(void)state;
	for (int i = 0; i < 16; i++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "file-%d", i);
		tarball_add(&tar, &(struct tarball_entry){ .name = name,
							   .type = '0',
							   .data = large + i,
							   .len = LARGE - 16 });
	}
	tarball_end(&tar);
	for (int i = 0; i < 3; i++) {
		struct ql_layer_format one = all[i];
		struct ql_layer_format many = all[i];
		_cleanup_blob_ struct blob a;
		_cleanup_blob_ struct blob b;

		one.threads = 1;
		many.threads = 5;
		write_or_fail(&a, &tar, one);
		write_or_fail(&b, &tar, many);
		assert_true(ql_digest_equal(&a.w.digest, &b.w.digest));
	}
}

/* Refused with a table, and written without. */
static void expect_refused(const struct ql_buf *tar,
			   struct ql_layer_format format, const char *why)
{
	_cleanup_blob_ struct blob b;
	_cleanup_blob_ struct blob plain;
	int r = blob_write(&b, tar, format);

	assert_int_equal(r, -EXDEV);
	if (!strstr(b.err.text, why))
		fail_msg("\"%s\" says nothing of \"%s\"", b.err.text, why);
	format.plain = true;
	write_or_fail(&plain, tar, format);
	assert_null(plain.w.annotations);
	expect_tar(&plain, tar);
}

static void what_no_table_can_say_is_written_without(void **state)
{
	_cleanup_buf_ struct ql_buf twice = QL_BUF_INIT(1 << 20);
	_cleanup_buf_ struct ql_buf name = QL_BUF_INIT(1 << 20);
	_cleanup_buf_ struct ql_buf sparse = QL_BUF_INIT(1 << 20);
	_cleanup_buf_ struct ql_buf time = QL_BUF_INIT(1 << 20);

	(void)state;
	tarball_file(&twice, "./a", "1");
	tarball_file(&twice, "a", "2");
	expect_refused(&twice, chunked, "\"a\" is there twice");
	expect_refused(&twice, estargz, "\"a\" is there twice");
	tarball_file(&name, "caf\xe9", "1");
	expect_refused(&name, chunked, "JSON");
	expect_refused(&name, estargz, "JSON");
	{
		_cleanup_buf_ struct ql_buf pax = QL_BUF_INIT(1 << 10);

		tarball_record(&pax, "GNU.sparse.map", "100,4", 5);
		tarball_record(&pax, "GNU.sparse.size", "500", 3);
		tarball_extension(&sparse, 'x', "pax", pax.data, pax.len);
	}
	tarball_file(&sparse, "s", "DATA");
	expect_refused(&sparse, chunked, "\"s\" is sparse");
	expect_refused(&sparse, estargz, "\"s\" is sparse");
	tarball_paxs(&time, "mtime", "999999999999");
	tarball_file(&time, "t", "");
	expect_refused(&time, chunked, "JSON");
}

static void what_containers_storage_refuses_is_written_without(void **state)
{
	_cleanup_buf_ struct ql_buf global = QL_BUF_INIT(1 << 20);
	_cleanup_buf_ struct ql_buf sized = QL_BUF_INIT(1 << 20);
	_cleanup_buf_ struct ql_buf contiguous = QL_BUF_INIT(1 << 20);
	_cleanup_blob_ struct blob b;

	(void)state;
	tarball_extension(&global, 'g', "g", "9 a=bcd\n", 8);
	tarball_file(&global, "a", "1");
	expect_refused(&global, chunked, "global header");
	write_or_fail(&b, &global, estargz); /* which has no such rule */
	(void)tarball_header(&sized, &(struct tarball_entry){ .name = "l",
							      .type = '2',
							      .link = "a",
							      .len = 5 });
	expect_refused(&sized, chunked, "has a size");
	tarball_add(&contiguous,
		    &(struct tarball_entry){
			    .name = "c", .type = '7', .data = "1", .len = 1 });
	expect_refused(&contiguous, chunked, "contiguous");
}

static void a_damaged_source_is_an_error(void **state)
{
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(1 << 20);
	const struct ql_layer_format all[] = { chunked, estargz };

	(void)state;
	tarball_file(&tar, "whole", "1");
	tarball_add(&tar, &(struct tarball_entry){
				  .name = "cut", .type = '0', .len = 9999 });
	for (int i = 0; i < 2; i++) {
		_cleanup_blob_ struct blob b;

		assert_int_equal(blob_write(&b, &tar, all[i]), -EBADMSG);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chunked_is_the_archive_and_its_pieces),
		cmocka_unit_test(chunked_ends_in_its_footer),
		cmocka_unit_test(tar_split_rebuilds_the_archive),
		cmocka_unit_test(gzip_is_one_member),
		cmocka_unit_test(empty_archives_are_written),
		cmocka_unit_test(the_same_comes_out_however_many_threads),
		cmocka_unit_test(what_no_table_can_say_is_written_without),
		cmocka_unit_test(
			what_containers_storage_refuses_is_written_without),
		cmocka_unit_test(a_damaged_source_is_an_error),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
