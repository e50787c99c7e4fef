/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one table from HTTP status to errno (RFC 9110 §15; RFC 6585 §4; OCI
 * distribution-spec 1.1, "Error Codes").
 */
#include "fetch/fetch-private.h"

#include <errno.h>

static const struct status_entry {
	long status;
	int code;
	bool transient;
	const char *text;
} statuses[] = {
	{ 400, -EINVAL, false, "bad request" },
	{ 401, -EACCES, false, "wrong credentials, or none" },
	{ 403, -EACCES, false, "access denied" },
	{ 404, -ENOENT, false, "not found" },
	{ 405, -EOPNOTSUPP, false, "method not allowed" },
	{ 406, -EOPNOTSUPP, false, "not acceptable" },
	{ 408, -ETIMEDOUT, true, "request timeout" },
	{ 410, -ENOENT, false, "gone" },
	{ 413, -EFBIG, false, "too large" },
	{ 416, -EBADMSG, false, "range not satisfiable" },
	{ 429, -EBUSY, true, "too many requests" },
	{ 451, -EACCES, false, "unavailable for legal reasons" },
	{ 500, -EREMOTEIO, true, "internal server error" },
	{ 501, -EOPNOTSUPP, false, "not implemented" },
	{ 502, -EREMOTEIO, true, "bad gateway" },
	{ 503, -EBUSY, true, "service unavailable" },
	{ 504, -ETIMEDOUT, true, "gateway timeout" },
};

static const struct status_entry *status_find(long status)
{
	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
		if (statuses[i].status == status)
			return &statuses[i];
	return NULL;
}

int ql_status_errno(long status)
{
	const struct status_entry *e = status_find(status);

	return e ? e->code : -EREMOTEIO;
}

bool ql_status_transient(long status)
{
	const struct status_entry *e = status_find(status);

	return e && e->transient;
}

bool ql_status_is_content(int error)
{
	switch (error) {
	case -ECANCELED:
	case -ENOMEM:
	case -ENOSPC:
	case -EDQUOT:
	case -EROFS:
	case -EMFILE:
	case -ENFILE:
	case -ENOTSUP:
		return false;
	default:
		return true;
	}
}

int ql_status_describe(long status, const char *host, struct ql_error *err)
{
	const struct status_entry *e = status_find(status);

	return ql_error_set(err, ql_status_errno(status),
			    "HTTP %ld from %s%s%s%s", status, host,
			    e ? " (" : "", e ? e->text : "", e ? ")" : "");
}
