/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON token by token, against jansson: what the one takes the other does,
 * but for what each says of itself that it does not take.
 */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/base.h"
#include "store/base/jsonread.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* 0, or how it failed. */
static int read_all(const uint8_t *data, size_t size, struct ql_error *err)
{
	_cleanup_(ql_jsonread_freep) struct ql_jsonread *jr = NULL;
	_cleanup_stream_ struct ql_stream *in = NULL;
	enum ql_json_token t = QL_JSON_OBJECT;
	int depth = 0;
	int r = ql_stream_from_mem(data, size, &in, err);

	if (r == 0)
		r = ql_jsonread_new(in, &jr, err);
	while (r == 0 && t != QL_JSON_END) {
		size_t len;

		r = ql_jsonread_next(jr, &t, err);
		if (r < 0)
			break;
		if (strlen(ql_jsonread_text(jr, &len)) != len)
			abort();
		depth += (t == QL_JSON_OBJECT || t == QL_JSON_ARRAY) -
			 (t == QL_JSON_OBJECT_END || t == QL_JSON_ARRAY_END);
		if (depth < 0 || (t == QL_JSON_END && depth != 0))
			abort();
	}
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ql_error err = QL_ERROR_INIT;
	json_error_t je;
	json_t *json =
		json_loadb((const char *)data, size, JSON_DECODE_ANY, &je);
	int r = read_all(data, size, &err);
	enum json_error_code code = json ? 0 : json_error_code(&je);

	if (r == 0 && !json && code != json_error_numeric_overflow)
		abort();
	/* A NUL behind the document is nothing to jansson. */
	if (r < 0 && json && !memchr(data, 0, size) &&
	    !strstr(err.text, "too deep") && !strstr(err.text, "too long"))
		abort();
	json_decref(json);
	return 0;
}
