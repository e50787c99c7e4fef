/* SPDX-License-Identifier: Apache-2.0 */
/* Printing results: JSON, and the check that they arrived. */
#include "tools/cli.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int ql_out_json(json_t *json, struct ql_error *err)
{
	_cleanup_json_ json_t *owned = json;

	if (!owned)
		return ql_error_nomem(err);
	if (json_dumpf(owned, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY) < 0)
		return ql_error_set(err, -EIO, "write to standard output");
	(void)putchar('\n');
	return 0;
}

json_t *ql_out_digest(const struct ql_digest *digest)
{
	char text[QL_DIGEST_TEXT + 1];

	return json_string(ql_digest_text(digest, text));
}

json_t *ql_out_string(const char *bytes, size_t len)
{
	json_t *s = json_stringn(bytes, len);
	_cleanup_free_ char *safe = NULL;
	size_t n = 0;

	if (s)
		return s;
	safe = malloc(4 * len + 1);
	if (!safe)
		return NULL;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)bytes[i];

		if (c < 0x80)
			safe[n++] = (char)c;
		else
			n += (size_t)snprintf(safe + n, 5, "\\%03o", c);
	}
	return json_stringn(safe, n);
}

json_t *ql_out_text(const char *text)
{
	return text ? ql_out_string(text, strlen(text)) : json_null();
}

int ql_out_flush(struct ql_error *err)
{
	errno = 0;
	if (fflush(stdout) != 0 || ferror(stdout))
		return ql_error_errno(err, errno ? -errno : -EIO,
				      "write to standard output");
	return 0;
}
