/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON (RFC 8259) token by token from a stream, for documents that are too
 * large to be had in memory.  Whoever reads a small one uses json.h.
 *
 * What it gives is always well-formed up to there: braces match, keys stand
 * where keys may.  Strings are UTF-8 with no NUL in them.  That a key stands
 * twice in an object is not noticed.
 */
#ifndef QL_BASE_JSONREAD_H
#define QL_BASE_JSONREAD_H

#include <stddef.h>
#include <stdint.h>

struct ql_error;
struct ql_jsonread;
struct ql_stream;

enum {
	QL_JSONREAD_DEPTH = 32,	       /* objects and arrays within others */
	QL_JSONREAD_TEXT_MAX = 1 << 20 /* bytes of a string */
};

enum ql_json_token {
	QL_JSON_END, /* of the document, and of the stream */
	QL_JSON_OBJECT,
	QL_JSON_OBJECT_END,
	QL_JSON_ARRAY,
	QL_JSON_ARRAY_END,
	QL_JSON_KEY,
	QL_JSON_STRING,
	QL_JSON_NUMBER,
	QL_JSON_TRUE,
	QL_JSON_FALSE,
	QL_JSON_NULL,
};

/* in: borrowed. */
int ql_jsonread_new(struct ql_stream *in, struct ql_jsonread **ret_jr,
		    struct ql_error *err);
void ql_jsonread_free(struct ql_jsonread *jr);
static inline void ql_jsonread_freep(struct ql_jsonread **jr)
{
	ql_jsonread_free(*jr);
}

/* -EBADMSG: no JSON, and where; or what the stream says. */
int ql_jsonread_next(struct ql_jsonread *jr, enum ql_json_token *ret_token,
		     struct ql_error *err);
/* Of the last key, string or number: NUL-terminated, borrowed until the next
 * call. */
const char *ql_jsonread_text(const struct ql_jsonread *jr, size_t *ret_len);
/* Passes over the rest of a value whose first token was given. */
int ql_jsonread_skip(struct ql_jsonread *jr, enum ql_json_token token,
		     struct ql_error *err);

#endif
