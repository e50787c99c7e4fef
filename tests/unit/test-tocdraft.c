/* SPDX-License-Identifier: Apache-2.0 */
/* From the JSON of a table of contents to a draft: what the fields mean, and
 * every lie that a table can tell. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <time.h>

#include "fetch/toc-private.h"
#include "tests/unit/layers.h"

#define D1                                                                     \
	"sha256:"                                                              \
	"1111111111111111111111111111111111111111111111111111111111111111"
#define D2                                                                     \
	"sha256:"                                                              \
	"2222222222222222222222222222222222222222222222222222222222222222"
#define FILE_A "{\"type\":\"reg\",\"name\":\"a\",\"size\":100,"

enum { BLOB = 10000, CONTENT_END = 9000 };

/* Drafts these entries, and commits; how it went. */
static int draft(struct lab *lab, const char *entries,
		 struct ql_layer_info *info)
{
	_cleanup_free_ char *json =
		ql_strf("{\"version\":1,\"entries\":[%s]}", entries);
	_cleanup_(ql_draft_freep) struct ql_draft *d = NULL;
	_cleanup_tocdraft_ struct ql_tocdraft td = { .content_end =
							     CONTENT_END };
	_cleanup_stream_ struct ql_stream *in = NULL;
	struct ql_digest blob;
	int r;

	tarball_must(json && ql_digest_of(json, strlen(json), &blob) == 0);
	info->diff_id = blob;
	lab->err = (struct ql_error)QL_ERROR_INIT;
	tarball_must(ql_draft_new(lab->store, &blob, BLOB, QL_CODEC_ZSTD, &d,
				  NULL) == 0);
	tarball_must(ql_stream_from_mem(json, strlen(json), &in, NULL) == 0);
	td.draft = d;
	r = ql_tocjson_read(in, ql_tocdraft_entry, &td, &lab->err);
	if (r == 0)
		r = ql_tocdraft_end(&td, &lab->err);
	return r < 0 ? r : ql_draft_commit(d, info, &lab->err);
}

/* The inode at a path of the layer drafted last. */
static void inode_at(struct lab *lab, const struct ql_layer_info *info,
		     const char *path, struct ql_tree **ret_tree,
		     struct ql_inode *ret)
{
	assert_int_equal(ql_tree_open_layer(lab->store, &info->diff_id,
					    ret_tree, &lab->err),
			 0);
	assert_int_equal(
		ql_tree_resolve(*ret_tree, path, false, ret, &lab->err), 0);
}

static void attributes_are_read(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	struct ql_layer_info info;
	struct ql_inode inode;
	struct ql_xattr x;
	uint64_t pos = 0;

	(void)state;
	lab_init(&lab);
	assert_int_equal(
		draft(&lab,
		      "{\"name\":\"./\",\"type\":\"dir\",\"mode\":493},"
		      "{\"name\":\"/d/f\",\"type\":\"reg\",\"mode\":35309,"
		      "\"uid\":70000,\"gid\":80000,\"userName\":\"x\","
		      "\"modtime\":\"1969-12-31T23:59:58.75Z\","
		      "\"accesstime\":null,\"NumLink\":0,\"more\":[{}],"
		      "\"xattrs\":{\"user.k\":\"AAH/\",\"user.e\":\"\"}}",
		      &info),
		0);
	inode_at(&lab, &info, "d/f", &tree, &inode);
	assert_int_equal(inode.mode, S_IFREG | 04755);
	assert_int_equal(inode.uid, 70000);
	assert_int_equal(inode.gid, 80000);
	assert_int_equal(inode.mtime_sec, -2);
	assert_int_equal(inode.mtime_nsec, 750000000);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(ql_tree_xattr(tree, &inode, &pos, &x), 1);
		if (x.name_len == 1 && x.name[0] == 'k') {
			assert_int_equal(x.value_len, 3);
			assert_memory_equal(x.value, "\0\1\xff", 3);
		} else {
			assert_int_equal(x.value_len, 0);
		}
	}
}

static void all_types_are_read(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	_cleanup_buf_ struct ql_buf out = QL_BUF_INIT(1 << 20);
	struct ql_layer_info info;
	struct ql_inode inode;

	(void)state;
	lab_init(&lab);
	assert_int_equal(
		draft(&lab,
		      "{\"type\":\"reg\",\"name\":\"f\"},"
		      "{\"type\":\"hardlink\",\"name\":\"g\","
		      "\"linkName\":\"./f\"},"
		      "{\"type\":\"symlink\",\"name\":\"s\",\"size\":9,"
		      "\"linkName\":\"./f\",\"mode\":511},"
		      "{\"type\":\"char\",\"name\":\"c\",\"devMajor\":1,"
		      "\"devMinor\":3},"
		      "{\"type\":\"block\",\"name\":\"b\",\"devMajor\":8},"
		      "{\"type\":\"fifo\",\"name\":\"p\"},"
		      "{\"type\":\"dir\",\"name\":\"d\"},"
		      "{\"type\":\"reg\",\"name\":\"d/.wh..wh..opq\"}",
		      &info),
		0);
	inode_at(&lab, &info, "p", &tree, &inode);
	assert_true(S_ISFIFO(inode.mode));
	lab_print_dir(tree, ql_tree_root(tree), "", &out);
	assert_string_equal(ql_buf_str(&out), "b 8:0\n"
					      "c 1:3\n"
					      "d/ 0\n"
					      "d/.wh..wh..opq (object)\n"
					      "f (object) x2\n"
					      "g (object) x2\n"
					      "p\n"
					      "s -> ./f\n");
}

/* Chunks of podman's kind: each with its size, zeros told, an end. */
static void chunks_and_zeros(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_(ql_toc_closep) struct ql_toc *toc = NULL;
	struct ql_layer_info info;
	struct ql_toc_chunk c;
	struct ql_toc_span s;
	struct ql_toc_file f;

	(void)state;
	lab_init(&lab);
	assert_int_equal(draft(&lab,
			       FILE_A
			       "\"digest\":\"" D1 "\",\"offset\":50,"
			       "\"endOffset\":500,\"chunkSize\":40,"
			       "\"chunkDigest\":\"" D2 "\"},"
			       "{\"type\":\"chunk\",\"name\":\"a\","
			       "\"offset\":200,\"chunkOffset\":40,"
			       "\"chunkSize\":30,\"chunkType\":\"zeros\"},"
			       "{\"type\":\"chunk\",\"name\":\"a\","
			       "\"offset\":300,\"chunkOffset\":70,"
			       "\"chunkSize\":30,\"chunkDigest\":\"" D2 "\"}",
			       &info),
			 0);
	assert_int_equal(ql_toc_open_layer(lab.store, &info, &toc, &lab.err),
			 0);
	assert_int_equal(ql_toc_check(toc, &lab.err), 0);
	assert_int_equal(ql_toc_file(toc, 0, &f), 0);
	assert_int_equal(f.n_chunks, 2);
	assert_int_equal(ql_toc_chunk(toc, 1, &c), 0);
	assert_int_equal(c.offset, 70);
	assert_int_equal(c.len, 30);
	assert_int_equal(c.digest.bytes[0], 0x22);
	assert_int_equal(ql_toc_span(toc, 0, &s), 0);
	assert_int_equal(s.len, 150); /* up to the zeros' own frame */
	assert_int_equal(ql_toc_span(toc, 1, &s), 0);
	assert_int_equal(s.len, 200); /* up to endOffset */
}

/* Chunks of stargz's kind: the last has no size; an end is the next one's
 * begin; one member may hold several. */
static void chunks_without_ends(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_(ql_toc_closep) struct ql_toc *toc = NULL;
	struct ql_layer_info info;
	struct ql_toc_chunk c;
	struct ql_toc_span s;

	(void)state;
	lab_init(&lab);
	assert_int_equal(draft(&lab,
			       FILE_A
			       "\"digest\":\"" D1 "\",\"offset\":50,"
			       "\"chunkSize\":64,\"chunkDigest\":\"" D2 "\"},"
			       "{\"type\":\"chunk\",\"name\":\"a\","
			       "\"offset\":200,\"chunkOffset\":64,"
			       "\"chunkDigest\":\"" D2 "\"},"
			       "{\"type\":\"dir\",\"name\":\"d\"},"
			       "{\"type\":\"reg\",\"name\":\"b\",\"size\":7,"
			       "\"offset\":200,\"innerOffset\":1024,"
			       "\"digest\":\"" D2 "\",\"chunkDigest\":\"" D2
			       "\"}",
			       &info),
			 0);
	assert_int_equal(ql_toc_open_layer(lab.store, &info, &toc, &lab.err),
			 0);
	assert_int_equal(ql_toc_check(toc, &lab.err), 0);
	assert_int_equal(ql_toc_spans(toc), 2);
	assert_int_equal(ql_toc_span(toc, 0, &s), 0);
	assert_int_equal(s.len, 150);
	assert_int_equal(ql_toc_span(toc, 1, &s), 0);
	assert_int_equal(s.len, CONTENT_END - 200);
	assert_int_equal(s.raw_len, 1031);
	assert_int_equal(ql_toc_chunk(toc, 2, &c), 0);
	assert_int_equal(c.raw, s.raw + 1024);
}

static const struct lie {
	const char *entries, *says;
	int error;
} lies[] = {
	{ "{\"type\":\"reg\"}", "no name", -EBADMSG },
	{ "{\"name\":\"a\"}", "unknown type", -EBADMSG },
	{ "{\"type\":\"socket\",\"name\":\"a\"}", "unknown type", -EBADMSG },
	{ "{\"type\":\"reg\",\"name\":\"../a\"}", "\"..\"", -EINVAL },
	{ "{\"type\":\"hardlink\",\"name\":\"a\",\"linkName\":\"../b\"}",
	  "\"..\"", -EINVAL },
	{ "{\"type\":\"symlink\",\"name\":\"a\"}", "target", -EINVAL },
	{ "{\"type\":\"reg\",\"name\":5}", "\"name\" is no string", -EBADMSG },
	{ "{\"type\":\"reg\",\"name\":\"a\",\"size\":-1}", "\"size\" is -1",
	  -EBADMSG },
	{ "{\"type\":\"reg\",\"name\":\"a\",\"size\":1.5}", "\"size\" is 1.5",
	  -EBADMSG },
	{ "{\"type\":\"reg\",\"name\":\"a\",\"size\":9223372036854775808}",
	  "\"size\" is 9223372036854775808", -EBADMSG },
	{ "{\"type\":\"reg\",\"name\":\"a\",\"uid\":4294967295}",
	  "\"uid\" is 4294967295", -EBADMSG },
	{ "{\"type\":\"reg\",\"name\":\"a\",\"modtime\":\"yesterday\"}",
	  "is no time", -EBADMSG },
	{ "{\"type\":\"char\",\"name\":\"a\",\"devMajor\":4096}", "no device",
	  -EINVAL },
	{ "{\"type\":\"reg\",\"name\":\"a\",\"xattrs\":{\"user.a\":\"A\"}}",
	  "not base64", -EBADMSG },
	{ "{\"type\":\"reg\",\"name\":\"a\",\"xattrs\":{\"user.a\":\"A===\"}}",
	  "not base64", -EBADMSG },
	{ "{\"type\":\"reg\",\"name\":\"a\",\"xattrs\":{\"user.a\":\"A=AA\"}}",
	  "not base64", -EBADMSG },
	{ "{\"type\":\"reg\",\"name\":\"a\",\"xattrs\":{\"user.a\":1}}",
	  "no string", -EBADMSG },
	{ "{\"type\":\"reg\",\"name\":\"a\",\"xattrs\":[]}", "no object",
	  -EBADMSG },
	{ "5", "no object", -EBADMSG },
	/* content */
	{ FILE_A "\"offset\":50}", "has no digest", -EBADMSG },
	{ FILE_A "\"offset\":50,\"digest\":\"x\"}", "digest", -EBADMSG },
	{ FILE_A "\"offset\":50,\"digest\":\"sha512:ab\"}", "sha512",
	  -ENOTSUP },
	{ FILE_A "\"offset\":9000,\"digest\":\"" D1 "\"}",
	  "content ends at 9000", -EBADMSG },
	{ FILE_A "\"offset\":50,\"endOffset\":9001,\"digest\":\"" D1 "\"}",
	  "content ends at 9000", -EBADMSG },
	{ FILE_A "\"offset\":50,\"endOffset\":50,\"digest\":\"" D1 "\"}",
	  "ends at 50", -EBADMSG },
	{ FILE_A "\"offset\":50,\"endOffset\":40,\"digest\":\"" D1 "\"}",
	  "ends at 40", -EBADMSG },
	{ FILE_A "\"offset\":50,\"digest\":\"" D1 "\",\"chunkDigest\":\"" D2
		 "\"}",
	  "differ", -EBADMSG },
	{ FILE_A "\"offset\":50,\"digest\":\"" D1
		 "\",\"innerOffset\":9223372036854775807}",
	  "of a frame", -EBADMSG },
	/* chunks */
	{ "{\"type\":\"chunk\",\"name\":\"a\"}", "a chunk of no file",
	  -EBADMSG },
	{ "{\"type\":\"reg\",\"name\":\"a\"},{\"type\":\"chunk\","
	  "\"name\":\"a\"}",
	  "a chunk of no file", -EBADMSG },
	{ FILE_A "\"offset\":50,\"digest\":\"" D1
		 "\"},{\"type\":\"chunk\",\"name\":\"a\",\"offset\":60,"
		 "\"chunkOffset\":100,\"chunkDigest\":\"" D1 "\"}",
	  "ends behind the file", -EBADMSG },
	{ FILE_A "\"offset\":50,\"chunkSize\":40,\"chunkDigest\":\"" D2
		 "\",\"digest\":\"" D1 "\"}",
	  "chunks end at 40 of 100", -EBADMSG },
	{ FILE_A "\"offset\":50,\"chunkSize\":101,\"digest\":\"" D1 "\"}",
	  "ends behind the file", -EBADMSG },
	{ FILE_A "\"offset\":50,\"chunkOffset\":1,\"digest\":\"" D1 "\"}",
	  "where the one before ends at 0", -EBADMSG },
	{ FILE_A "\"offset\":50,\"chunkSize\":40,\"digest\":\"" D1 "\"}",
	  "has no chunkDigest", -EBADMSG },
	{ FILE_A "\"offset\":50,\"chunkSize\":40,\"chunkDigest\":\"" D2
		 "\",\"digest\":\"" D1
		 "\"},{\"type\":\"chunk\",\"name\":\"a\",\"offset\":60,"
		 "\"chunkOffset\":50,\"chunkDigest\":\"" D1 "\"}",
	  "where the one before ends at 40", -EBADMSG },
	{ FILE_A "\"offset\":50,\"chunkSize\":40,\"chunkDigest\":\"" D2
		 "\",\"digest\":\"" D1
		 "\"},{\"type\":\"chunk\",\"name\":\"b\",\"offset\":60,"
		 "\"chunkOffset\":40,\"chunkDigest\":\"" D1 "\"}",
	  "another file", -EBADMSG },
	{ FILE_A "\"offset\":50,\"chunkSize\":40,\"chunkDigest\":\"" D2
		 "\",\"digest\":\"" D1
		 "\"},{\"type\":\"chunk\",\"name\":\"a\",\"offset\":40,"
		 "\"chunkOffset\":40,\"chunkDigest\":\"" D1 "\"}",
	  "ends at 40", -EBADMSG },
	{ FILE_A "\"offset\":50,\"endOffset\":200,\"digest\":\"" D1
		 "\"},{\"type\":\"reg\",\"name\":\"b\",\"size\":5,"
		 "\"offset\":199,\"digest\":\"" D2 "\"}",
	  "overlaps", -EBADMSG },
	{ FILE_A "\"offset\":50,\"digest\":\"" D1 "\",\"chunkType\":\"holes\"}",
	  "unknown chunkType", -ENOTSUP },
	/* what a plain pull does better */
	{ "{\"type\":\"reg\",\"name\":\"a\\ufffd\"}", "UTF-8", -ENOTSUP },
	{ "{\"type\":\"symlink\",\"name\":\"a\",\"linkName\":\"\\ufffd\"}",
	  "UTF-8", -ENOTSUP },
	{ "{\"type\":\"reg\",\"name\":\"a\",\"size\":99999999,\"offset\":50,"
	  "\"digest\":\"" D1 "\"}",
	  "too large", -ENOTSUP },
};

static void lies_are_refused_by_name(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_layer_info info;

	(void)state;
	lab_init(&lab);
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		int r = draft(&lab, lies[i].entries, &info);

		if (r != lies[i].error || !strstr(lab.err.text, lies[i].says))
			print_message("%s: %d %s\n", lies[i].entries, r,
				      lab.err.text);
		assert_int_equal(r, lies[i].error);
		assert_non_null(strstr(lab.err.text, lies[i].says));
		assert_non_null(strstr(lab.err.text, "table of contents"));
	}
}

static int document(const char *json, struct ql_error *err)
{
	_cleanup_stream_ struct ql_stream *in = NULL;
	struct ql_tocdraft td = { 0 };

	*err = (struct ql_error)QL_ERROR_INIT;
	tarball_must(ql_stream_from_mem(json, strlen(json), &in, NULL) == 0);
	return ql_tocjson_read(in, ql_tocdraft_entry, &td, err);
}

static void documents_that_are_none_are_refused(void **state)
{
	struct ql_error err;

	(void)state;
	assert_int_equal(document("{\"version\":1}", &err), 0);
	assert_int_equal(document("{\"entries\":[],\"version\":1}", &err), 0);
	assert_int_equal(document("{\"entries\":[]}", &err), -EBADMSG);
	assert_int_equal(document("{\"version\":2,\"entries\":[]}", &err),
			 -ENOTSUP);
	assert_int_equal(document("{\"version\":\"1\"}", &err), -EBADMSG);
	assert_int_equal(document("{\"version\":1,\"entries\":{}}", &err),
			 -EBADMSG);
	assert_int_equal(document("[]", &err), -EBADMSG);
	assert_int_equal(document("{\"version\":1", &err), -EBADMSG);
	assert_int_equal(document("", &err), -EBADMSG);
}

static void times(void **state)
{
	static const struct {
		const char *text;
		int64_t sec;
		uint32_t nsec;
	} good[] = {
		{ "1970-01-01T00:00:00Z", 0, 0 },
		{ "2024-02-29T12:34:56.750000001Z", 1709210096, 750000001 },
		{ "1969-12-31T23:59:59.9Z", -1, 900000000 },
		{ "2000-03-01T00:00:00+01:00", 951865200, 0 },
		{ "2000-02-29T23:00:00-01:30", 951870600, 0 },
		{ "9999-12-31T23:59:59Z", 253402300799, 0 },
		{ "0001-01-01T00:00:00Z", -62135596800, 0 },
		{ "0000-01-01T00:00:00Z", -62167219200, 0 },
		{ "2024-01-01T00:00:00.1234567899Z", 1704067200, 123456789 },
	};
	static const char *const bad[] = {
		"",
		"2024",
		"2024-01-01",
		"2024-01-01T00:00:00",
		"2024-13-01T00:00:00Z",
		"2024-01-32T00:00:00Z",
		"2024-01-01T24:00:00Z",
		"2024-01-01T00:60:00Z",
		"2024-01-01T00:00:00.Z",
		"2024-01-01T00:00:00Zx",
		"2024-01-01T00:00:00+0100",
		"2024-01-01T00:00:00+01:0",
		"2024-01-01T00:00:00+24:00",
		"2024-01-01 00:00:00Z",
		"-024-01-01T00:00:00Z",
		"2024-1-01T00:00:00Z",
		"today",
	};
	int64_t sec;
	uint32_t nsec;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(ql_rfc3339_parse(good[i].text, &sec, &nsec),
				 0);
		assert_int_equal(sec, good[i].sec);
		assert_int_equal(nsec, good[i].nsec);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(ql_rfc3339_parse(bad[i], &sec, &nsec),
				 -EBADMSG);
}

/* Every day of four centuries, against the C library. */
static void every_day(void **state)
{
	char text[64];
	struct tm tm;
	int64_t sec;
	uint32_t nsec;

	(void)state;
	for (time_t t = -11676096000; t < 946684800 + 86400; t += 86400) {
		assert_non_null(gmtime_r(&t, &tm));
		(void)snprintf(text, sizeof(text), "%04d-%02d-%02dT00:00:00Z",
			       tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday);
		assert_int_equal(ql_rfc3339_parse(text, &sec, &nsec), 0);
		assert_int_equal(sec, t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(attributes_are_read),
		cmocka_unit_test(all_types_are_read),
		cmocka_unit_test(chunks_and_zeros),
		cmocka_unit_test(chunks_without_ends),
		cmocka_unit_test(lies_are_refused_by_name),
		cmocka_unit_test(documents_that_are_none_are_refused),
		cmocka_unit_test(times),
		cmocka_unit_test(every_day),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
