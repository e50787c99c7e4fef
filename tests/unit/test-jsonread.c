/* SPDX-License-Identifier: Apache-2.0 */
/* JSON token by token, however its bytes are cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "store/base/base.h"
#include "store/base/jsonread.h"

/* A stream that gives `piece` bytes at a time. */
struct pieces {
	struct ql_stream base;
	const char *data;
	size_t left, piece;
};

static ssize_t pieces_read(struct ql_stream *s, void *buf, size_t len,
			   struct ql_error *err)
{
	struct pieces *p = (struct pieces *)s;
	size_t n = p->piece < p->left ? p->piece : p->left;

	(void)err;
	if (n > len)
		n = len;
	memcpy(buf, p->data, n);
	p->data += n;
	p->left -= n;
	return (ssize_t)n;
}

static const struct ql_stream_ops pieces_ops = { pieces_read, NULL };

/* The tokens as text: { } [ ] k:KEY s:STRING n:NUMBER t f 0 */
static int tokens(const char *json, size_t len, size_t piece,
		  struct ql_buf *out, struct ql_error *err)
{
	static const char *const signs[] = { "",   "{",	 "}", "[", "]", "k:",
					     "s:", "n:", "t", "f", "0" };
	_cleanup_(ql_jsonread_freep) struct ql_jsonread *jr = NULL;
	struct pieces p = { { &pieces_ops }, json, len, piece };
	enum ql_json_token t = QL_JSON_OBJECT;

	assert_int_equal(ql_jsonread_new(&p.base, &jr, err), 0);
	while (t != QL_JSON_END) {
		int r = ql_jsonread_next(jr, &t, err);

		if (r < 0)
			return r;
		assert_int_equal(ql_buf_adds(out, signs[t]), 0);
		if (t == QL_JSON_KEY || t == QL_JSON_STRING ||
		    t == QL_JSON_NUMBER)
			assert_int_equal(
				ql_buf_adds(out, ql_jsonread_text(jr, NULL)),
				0);
		assert_int_equal(ql_buf_adds(out, " "), 0);
	}
	return 0;
}

static void reads(const char *json, const char *want)
{
	for (size_t piece = 1; piece < 9; piece++) {
		_cleanup_buf_ struct ql_buf out = QL_BUF_INIT(1 << 20);
		struct ql_error err = QL_ERROR_INIT;

		assert_int_equal(tokens(json, strlen(json), piece, &out, &err),
				 0);
		assert_string_equal(ql_buf_str(&out), want);
	}
}

static void refuses(const char *json)
{
	for (size_t piece = 1; piece < 4; piece++) {
		_cleanup_buf_ struct ql_buf out = QL_BUF_INIT(1 << 20);
		struct ql_error err = QL_ERROR_INIT;

		assert_int_equal(tokens(json, strlen(json), piece, &out, &err),
				 -EBADMSG);
		assert_true(strlen(err.text) > 10);
	}
}

static void documents(void **state)
{
	(void)state;
	reads("{}", "{ }  ");
	reads(" [ ] \n", "[ ]  ");
	reads("{\"a\":1,\"b\":[true,false,null,{\"c\":\"d\"}]}",
	      "{ k:a n:1 k:b [ t f 0 { k:c s:d } ] }  ");
	reads("\"alone\"", "s:alone  ");
	reads("-0.5e+10", "n:-0.5e+10  ");
	reads("[[[]],[]]", "[ [ [ ] ] [ ] ]  ");
	reads("\t{\r\n\"a\" :\t0 ,\"b\": 10}", "{ k:a n:0 k:b n:10 }  ");
}

static void strings(void **state)
{
	(void)state;
	reads("\"\"", "s:  ");
	reads("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "s:\"\\/\b\f\n\r\t  ");
	reads("\"\\u0041\\u00e9\\u20AC\"", "s:A\xc3\xa9\xe2\x82\xac  ");
	reads("\"\\ud83d\\ude00\"", "s:\xf0\x9f\x98\x80  ");
	reads("\"\xc3\xa9 \xf4\x8f\xbf\xbf\"", "s:\xc3\xa9 \xf4\x8f\xbf\xbf  ");
	refuses("\"\\u0000\"");
	refuses("\"\\ud83d\"");
	refuses("\"\\ud83d\\u0041\"");
	refuses("\"\\ude00\"");
	refuses("\"\\x41\"");
	refuses("\"\\u12g4\"");
	refuses("\"a\nb\"");
	refuses("\"open");
	refuses("\"open\\");
}

static void bytes_that_are_no_utf8(void **state)
{
	(void)state;
	refuses("\"\xff\"");
	refuses("\"\x80\"");
	refuses("\"\xc3\"");
	refuses("\"\xc0\xaf\""); /* overlong */
	refuses("\"\xe0\x80\xaf\"");
	refuses("\"\xf0\x80\x80\xaf\"");
	refuses("\"\xed\xa0\x80\"");	 /* a surrogate */
	refuses("\"\xf4\x90\x80\x80\""); /* above U+10FFFF */
	refuses("\"\xe2\x82\"");
}

static void what_is_no_json(void **state)
{
	static const char *const texts[] = {
		"",	     " ",	  "{",
		"[",	     "}",	  "]",
		"{]",	     "[}",	  "{,}",
		"[,]",	     "[1,]",	  "[1 2]",
		"{\"a\"}",   "{\"a\":}",  "{\"a\":1,}",
		"{1:2}",     "{\"a\" 1}", "{\"a\":1 \"b\":2}",
		"1 2",	     "{}{}",	  "01",
		"-",	     "1.",	  ".5",
		"1e",	     "+1",	  "nul",
		"truefalse", "True",	  "0x10",
		"'a'",	     "[1}",	  "{\"a\":[}]",
		"NaN",	     "//",	  "1a",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		refuses(texts[i]);
}

static void bounds(void **state)
{
	_cleanup_buf_ struct ql_buf json = QL_BUF_INIT(4 << 20);
	_cleanup_buf_ struct ql_buf out = QL_BUF_INIT(4 << 20);
	struct ql_error err = QL_ERROR_INIT;

	(void)state;
	for (int i = 0; i < QL_JSONREAD_DEPTH; i++)
		assert_int_equal(ql_buf_adds(&json, "["), 0);
	for (int i = 0; i < QL_JSONREAD_DEPTH; i++)
		assert_int_equal(ql_buf_adds(&json, "]"), 0);
	assert_int_equal(tokens(json.data, json.len, 100, &out, &err), 0);
	ql_buf_clear(&json);
	for (int i = 0; i < QL_JSONREAD_DEPTH + 1; i++)
		assert_int_equal(ql_buf_adds(&json, "{\"a\":"), 0);
	assert_int_equal(tokens(json.data, json.len, 100, &out, &err),
			 -EBADMSG);
	ql_buf_clear(&json);
	assert_int_equal(ql_buf_adds(&json, "\""), 0);
	for (int i = 0; i < QL_JSONREAD_TEXT_MAX / 16; i++)
		assert_int_equal(ql_buf_adds(&json, "0123456789abcdef"), 0);
	assert_int_equal(ql_buf_adds(&json, "x\""), 0);
	assert_int_equal(tokens(json.data, json.len, 100000, &out, &err),
			 -EBADMSG);
}

static void values_are_passed_over(void **state)
{
	static const char json[] = "[{\"a\":[1,{}],\"b\":[[]]},2,[],\"x\"]";
	_cleanup_(ql_jsonread_freep) struct ql_jsonread *jr = NULL;
	struct pieces p = { { &pieces_ops }, json, sizeof(json) - 1, 3 };
	enum ql_json_token t;

	(void)state;
	assert_int_equal(ql_jsonread_new(&p.base, &jr, NULL), 0);
	assert_int_equal(ql_jsonread_next(jr, &t, NULL), 0);
	assert_int_equal(t, QL_JSON_ARRAY);
	assert_int_equal(ql_jsonread_next(jr, &t, NULL), 0);
	assert_int_equal(ql_jsonread_skip(jr, t, NULL), 0);
	assert_int_equal(ql_jsonread_next(jr, &t, NULL), 0);
	assert_int_equal(t, QL_JSON_NUMBER);
	assert_int_equal(ql_jsonread_skip(jr, t, NULL), 0);
	assert_int_equal(ql_jsonread_next(jr, &t, NULL), 0);
	assert_int_equal(ql_jsonread_skip(jr, t, NULL), 0);
	assert_int_equal(ql_jsonread_next(jr, &t, NULL), 0);
	assert_int_equal(t, QL_JSON_STRING);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(documents),
		cmocka_unit_test(strings),
		cmocka_unit_test(bytes_that_are_no_utf8),
		cmocka_unit_test(what_is_no_json),
		cmocka_unit_test(bounds),
		cmocka_unit_test(values_are_passed_over),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
