/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reader of JSON that holds one token at a time.
 *
 * Why not a library: jansson has to have the whole document as a tree (ten
 * times its size, and ten times the time), and yajl, which reads a stream,
 * checks none of its allocations.
 */
#include "store/base/jsonread.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/stream.h"
#include "store/base/utf8.h"

enum { JSONREAD_BUFFER = 64 << 10 };

/* What may come next. */
enum expect {
	EXPECT_VALUE,
	EXPECT_VALUE_OR_END, /* behind '[' */
	EXPECT_KEY,
	EXPECT_KEY_OR_END, /* behind '{' */
	EXPECT_MORE,	   /* behind a value: ',', or the end of what is open */
};

struct ql_jsonread {
	struct ql_stream *in; /* borrowed */
	uint8_t *data;	      /* owned; JSONREAD_BUFFER bytes */
	size_t pos, len;
	uint64_t before; /* bytes of the document before data */
	struct ql_buf text;
	enum expect expect;
	unsigned int depth;
	uint32_t objects; /* a bit for each level: it is an object */
	bool wide;	  /* the string has bytes above 127 */
};

int ql_jsonread_new(struct ql_stream *in, struct ql_jsonread **ret_jr,
		    struct ql_error *err)
{
	struct ql_jsonread *jr = calloc(1, sizeof(*jr));

	if (jr)
		jr->data = malloc(JSONREAD_BUFFER);
	if (!jr || !jr->data) {
		free(jr);
		return ql_error_nomem(err);
	}
	jr->in = in;
	ql_buf_init(&jr->text, QL_JSONREAD_TEXT_MAX);
	*ret_jr = jr;
	return 0;
}

void ql_jsonread_free(struct ql_jsonread *jr)
{
	if (!jr)
		return;
	ql_buf_release(&jr->text);
	free(jr->data);
	free(jr);
}

const char *ql_jsonread_text(const struct ql_jsonread *jr, size_t *ret_len)
{
	if (ret_len)
		*ret_len = jr->text.len;
	return ql_buf_str(&jr->text);
}

/* ---- bytes ---- */

static int bad(const struct ql_jsonread *jr, const char *what,
	       struct ql_error *err)
{
	return ql_error_set(err, -EBADMSG,
			    "not valid JSON: %s at byte %" PRIu64, what,
			    jr->before + jr->pos);
}

/* 1: there is a byte at pos; 0: the end. */
static int fill(struct ql_jsonread *jr, struct ql_error *err)
{
	ssize_t n;

	if (jr->pos < jr->len)
		return 1;
	n = ql_stream_read(jr->in, jr->data, JSONREAD_BUFFER, err);
	if (n < 0)
		return (int)n;
	jr->before += jr->len;
	jr->pos = 0;
	jr->len = (size_t)n;
	return n > 0;
}

/* The byte at pos; -1: the end. */
static int peek(struct ql_jsonread *jr, int *ret, struct ql_error *err)
{
	int r = fill(jr, err);

	if (r < 0)
		return r;
	*ret = r ? jr->data[jr->pos] : -1;
	return 0;
}

static int take(struct ql_jsonread *jr, int *ret, struct ql_error *err)
{
	int r = peek(jr, ret, err);

	if (r == 0 && *ret >= 0)
		jr->pos++;
	return r;
}

static bool is_space(int c)
{
	return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* The next byte that is no space. */
static int peek_token(struct ql_jsonread *jr, int *ret, struct ql_error *err)
{
	int r;

	while ((r = fill(jr, err)) > 0) {
		while (jr->pos < jr->len && is_space(jr->data[jr->pos]))
			jr->pos++;
		if (jr->pos < jr->len)
			break;
	}
	if (r < 0)
		return r;
	*ret = r ? jr->data[jr->pos] : -1;
	return 0;
}

static int text_add(struct ql_jsonread *jr, const void *data, size_t len,
		    struct ql_error *err)
{
	int r = ql_buf_add(&jr->text, data, len);

	if (r == -EFBIG)
		return bad(jr, "too long a string", err);
	return r < 0 ? ql_error_nomem(err) : 0;
}

/* ---- strings ---- */

static int text_add_code(struct ql_jsonread *jr, uint32_t c,
			 struct ql_error *err)
{
	uint8_t b[4];
	size_t n = 1;

	if (c == 0)
		return bad(jr, "a NUL", err);
	if (c < 0x80) {
		b[0] = (uint8_t)c;
	} else if (c < 0x800) {
		b[0] = (uint8_t)(0xc0 | c >> 6);
		n = 2;
	} else if (c < 0x10000) {
		b[0] = (uint8_t)(0xe0 | c >> 12);
		n = 3;
	} else {
		b[0] = (uint8_t)(0xf0 | c >> 18);
		n = 4;
	}
	for (size_t i = 1; i < n; i++)
		b[i] = (uint8_t)(0x80 | (c >> 6 * (n - 1 - i) & 0x3f));
	return text_add(jr, b, n, err);
}

static int hex4(struct ql_jsonread *jr, uint32_t *ret, struct ql_error *err)
{
	uint32_t v = 0;

	for (int i = 0; i < 4; i++) {
		int c, r = take(jr, &c, err);

		if (r < 0)
			return r;
		if (c >= '0' && c <= '9')
			c -= '0';
		else if ((c | 32) >= 'a' && (c | 32) <= 'f')
			c = (c | 32) - 'a' + 10;
		else
			return bad(jr, "a bad escape", err);
		v = v << 4 | (uint32_t)c;
	}
	*ret = v;
	return 0;
}

/* "\u1234", or two of them for what is above 0xffff (RFC 8259 §7). */
static int unicode_escape(struct ql_jsonread *jr, struct ql_error *err)
{
	uint32_t high, low;
	int c, r = hex4(jr, &high, err);

	if (r < 0)
		return r;
	if (high < 0xd800 || high > 0xdfff)
		return text_add_code(jr, high, err);
	if (high > 0xdbff)
		return bad(jr, "half a surrogate pair", err);
	for (int i = 0; i < 2; i++) {
		r = take(jr, &c, err);
		if (r < 0)
			return r;
		if (c != "\\u"[i])
			return bad(jr, "half a surrogate pair", err);
	}
	r = hex4(jr, &low, err);
	if (r < 0)
		return r;
	if (low < 0xdc00 || low > 0xdfff)
		return bad(jr, "half a surrogate pair", err);
	return text_add_code(
		jr, 0x10000 + ((high & 0x3ff) << 10 | (low & 0x3ff)), err);
}

static int escape(struct ql_jsonread *jr, struct ql_error *err)
{
	static const char from[] = "\"\\/bfnrt";
	static const char to[] = "\"\\/\b\f\n\r\t";
	const char *at;
	int c, r = take(jr, &c, err);

	if (r < 0)
		return r;
	if (c == 'u')
		return unicode_escape(jr, err);
	at = c > 0 ? strchr(from, c) : NULL;
	if (!at)
		return bad(jr, "a bad escape", err);
	return text_add(jr, &to[at - from], 1, err);
}

/* The bytes from pos on that stand for themselves. */
static size_t plain_run(struct ql_jsonread *jr)
{
	const uint8_t *p = jr->data + jr->pos;
	const uint8_t *end = jr->data + jr->len;
	const uint8_t *at = p;
	uint8_t all = 0;

	while (at < end && *at != '"' && *at != '\\' && *at >= 0x20)
		all |= *at++;
	if (all & 0x80)
		jr->wide = true;
	return (size_t)(at - p);
}

/* pos is behind the opening quote. */
static int string(struct ql_jsonread *jr, struct ql_error *err)
{
	ql_buf_clear(&jr->text);
	jr->wide = false;
	for (;;) {
		int c, r = fill(jr, err);

		if (r > 0) {
			size_t n = plain_run(jr);

			r = text_add(jr, jr->data + jr->pos, n, err);
			jr->pos += n;
		}
		if (r == 0)
			r = take(jr, &c, err);
		if (r < 0)
			return r;
		if (c == '"')
			break;
		if (c == '\\')
			r = escape(jr, err);
		else if (c < 0x20)
			return bad(jr, "an unfinished string", err);
		else
			jr->pos--; /* more of the same, in another buffer */
		if (r < 0)
			return r;
	}
	if (jr->wide && !ql_utf8_valid(ql_buf_str(&jr->text), jr->text.len))
		return bad(jr, "a string that is not UTF-8", err);
	return 0;
}

/* ---- numbers and words ---- */

static const char *skip_digits(const char *p)
{
	while (*p >= '0' && *p <= '9')
		p++;
	return p;
}

static bool number_valid(const char *p)
{
	const char *at;

	p += *p == '-';
	at = skip_digits(p);
	if (at == p || (*p == '0' && at > p + 1))
		return false;
	if (*at == '.') {
		p = at + 1;
		at = skip_digits(p);
		if (at == p)
			return false;
	}
	if (*at == 'e' || *at == 'E') {
		at++;
		at += *at == '+' || *at == '-';
		p = at;
		at = skip_digits(p);
		if (at == p)
			return false;
	}
	return *at == '\0';
}

/* A number or a word: up to what cannot be of one. */
static int bare(struct ql_jsonread *jr, enum ql_json_token *ret,
		struct ql_error *err)
{
	static const struct {
		const char *word;
		enum ql_json_token token;
	} words[] = { { "true", QL_JSON_TRUE },
		      { "false", QL_JSON_FALSE },
		      { "null", QL_JSON_NULL } };
	const char *text;
	int c, r;

	ql_buf_clear(&jr->text);
	while ((r = peek(jr, &c, err)) == 0 &&
	       ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '-' ||
		c == '+' || c == '.' || c == 'E')) {
		uint8_t byte = (uint8_t)c;

		r = text_add(jr, &byte, 1, err);
		if (r < 0)
			return r;
		jr->pos++;
	}
	if (r < 0)
		return r;
	text = ql_buf_str(&jr->text);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(text, words[i].word) == 0) {
			*ret = words[i].token;
			return 0;
		}
	}
	if (!number_valid(text))
		return bad(jr, "no value", err);
	*ret = QL_JSON_NUMBER;
	return 0;
}

/* ---- structure ---- */

static bool in_object(const struct ql_jsonread *jr)
{
	return jr->depth > 0 && (jr->objects >> (jr->depth - 1) & 1) != 0;
}

static int enter(struct ql_jsonread *jr, bool object, struct ql_error *err)
{
	if (jr->depth == QL_JSONREAD_DEPTH)
		return bad(jr, "too deep a nesting", err);
	jr->pos++;
	jr->objects &= ~(1U << jr->depth);
	jr->objects |= (uint32_t)object << jr->depth;
	jr->depth++;
	jr->expect = object ? EXPECT_KEY_OR_END : EXPECT_VALUE_OR_END;
	return 0;
}

static enum ql_json_token leave(struct ql_jsonread *jr)
{
	bool object = in_object(jr);

	jr->pos++;
	jr->depth--;
	jr->expect = EXPECT_MORE;
	return object ? QL_JSON_OBJECT_END : QL_JSON_ARRAY_END;
}

static int value(struct ql_jsonread *jr, int c, enum ql_json_token *ret,
		 struct ql_error *err)
{
	if (c == '{' || c == '[') {
		*ret = c == '{' ? QL_JSON_OBJECT : QL_JSON_ARRAY;
		return enter(jr, c == '{', err);
	}
	jr->expect = EXPECT_MORE;
	if (c != '"')
		return bare(jr, ret, err);
	jr->pos++;
	*ret = QL_JSON_STRING;
	return string(jr, err);
}

static int key(struct ql_jsonread *jr, int c, struct ql_error *err)
{
	int r;

	if (c != '"')
		return bad(jr, "no key", err);
	jr->pos++;
	r = string(jr, err);
	if (r == 0)
		r = peek_token(jr, &c, err);
	if (r < 0)
		return r;
	if (c != ':')
		return bad(jr, "no colon", err);
	jr->pos++;
	jr->expect = EXPECT_VALUE;
	return 0;
}

int ql_jsonread_next(struct ql_jsonread *jr, enum ql_json_token *ret_token,
		     struct ql_error *err)
{
	int c, r = peek_token(jr, &c, err);

	if (r == 0 && jr->expect == EXPECT_MORE) {
		if (jr->depth == 0) {
			*ret_token = QL_JSON_END;
			return c < 0 ? 0 : bad(jr, "more than a value", err);
		}
		if (c == ',') {
			jr->pos++;
			jr->expect = in_object(jr) ? EXPECT_KEY : EXPECT_VALUE;
			r = peek_token(jr, &c, err);
		} else if (c != (in_object(jr) ? '}' : ']')) {
			return bad(jr, "no comma", err);
		}
	}
	if (r < 0)
		return r;
	if ((jr->expect == EXPECT_KEY_OR_END && c == '}') ||
	    (jr->expect == EXPECT_VALUE_OR_END && c == ']') ||
	    jr->expect == EXPECT_MORE) {
		*ret_token = leave(jr);
		return 0;
	}
	if (jr->expect == EXPECT_KEY || jr->expect == EXPECT_KEY_OR_END) {
		*ret_token = QL_JSON_KEY;
		return key(jr, c, err);
	}
	return value(jr, c, ret_token, err);
}

int ql_jsonread_skip(struct ql_jsonread *jr, enum ql_json_token token,
		     struct ql_error *err)
{
	unsigned int depth = jr->depth - 1;

	if (token != QL_JSON_OBJECT && token != QL_JSON_ARRAY)
		return 0;
	while (jr->depth > depth) {
		int r = ql_jsonread_next(jr, &token, err);

		if (r < 0)
			return r;
	}
	return 0;
}
