/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a registry says went wrong (OCI distribution-spec 1.1, "Error Codes"):
 * {"errors":[{"code":"DENIED","message":"…"}]}, put before the status.
 */
#include "fetch/fetch-private.h"

#include <string.h>

enum { ERROR_BODY_MAX = 64 << 10 };

/* The first error's, as "CODE: message"; owned, NULL where it says nothing. */
static char *words(struct ql_http_response *rs)
{
	_cleanup_buf_ struct ql_buf body = QL_BUF_INIT(ERROR_BODY_MAX);
	_cleanup_json_ json_t *doc = NULL;
	const json_t *first;
	const char *code;
	const char *message;

	if (ql_http_body(rs, &body, NULL) < 0 || body.len == 0 ||
	    !rs->content_type || !strstr(rs->content_type, "json") ||
	    ql_json_parse(ql_buf_str(&body), body.len, &doc, NULL) < 0)
		return NULL;
	first = json_array_get(json_object_get(doc, "errors"), 0);
	code = ql_json_opt_string(first, "code", "");
	message = ql_json_opt_string(first, "message", "");
	if (!*code && !*message)
		return NULL;
	return ql_strf("%.64s%s%.200s", code, *code && *message ? ": " : "",
		       message);
}

int ql_registry_error(struct ql_http_response *rs, const char *host,
		      struct ql_error *err)
{
	_cleanup_free_ char *said = words(rs);
	int r = ql_status_describe(rs->status, host, err);

	if (said)
		(void)ql_error_prefix(err, "%s", said);
	return r;
}
