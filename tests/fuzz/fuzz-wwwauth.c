/* SPDX-License-Identifier: Apache-2.0 */
/* WWW-Authenticate, and the other fields of an answer: one line each. */
#include <stdint.h>
#include <string.h>

#include "fetch/fetch-private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = strndup((const char *)data, size);
	_cleanup_response_ struct ql_http_response rs = { 0 };
	_cleanup_challenge_ struct ql_challenge c = { 0 };
	struct ql_error err = QL_ERROR_INIT;
	const char *rest = (const char *)data;
	size_t left = size;

	if (!text)
		return 0;
	(void)ql_challenge_parse(text, &c, &err);
	while (left > 0) {
		const char *end = memchr(rest, '\n', left);
		size_t n = end ? (size_t)(end - rest) + 1 : left;

		(void)ql_http_header_add(&rs, rest, n);
		rest += n;
		left -= n;
	}
	return 0;
}
