/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors in fixed storage.  Text from outside (an entry's name, a server's
 * words) ends up here and from here on a terminal, so control characters are
 * replaced; bytes above 0x7f are kept, since names may be UTF-8.
 */
#define QL_ERROR_IMPLEMENTATION
#include "store/base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Also the second set (C1), as UTF-8 has it: U+009B begins what ESC [ does. */
static void error_tame(char *text)
{
	for (unsigned char *p = (unsigned char *)text; *p; p++) {
		if (*p < 0x20 || *p == 0x7f)
			*p = '?';
		if (p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0)
			p[0] = p[1] = '?';
	}
}

static void error_format(struct ql_error *err, int code, const char *fmt,
			 va_list ap)
{
	err->code = code;
	(void)vsnprintf(err->text, sizeof(err->text), fmt, ap);
	error_tame(err->text);
}

int ql_error_set(struct ql_error *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	error_format(err, code, fmt, ap);
	va_end(ap);
	return code;
}

int ql_error_errno(struct ql_error *err, int code, const char *fmt, ...)
{
	const char *cause = strerror(-code);
	size_t room = sizeof(err->text) - sizeof(": ") - strlen(cause);
	va_list ap;
	size_t len;

	if (!err)
		return code;
	va_start(ap, fmt);
	error_format(err, code, fmt, ap);
	va_end(ap);
	len = strlen(err->text);
	if (len > room)
		len = room; /* a long name must not hide the cause */
	(void)snprintf(err->text + len, sizeof(err->text) - len, ": %s", cause);
	return code;
}

int ql_error_prefix(struct ql_error *err, const char *fmt, ...)
{
	char old[QL_ERROR_TEXT_MAX];
	va_list ap;
	size_t len;
	int code;

	if (!err)
		return -EIO; /* a failure still; of what kind was not kept */
	/* What was not described is a failure all the same. */
	code = err->code < 0 ? err->code : -EIO;
	if (err->code < 0)
		memcpy(old, err->text, sizeof(old));
	else
		(void)snprintf(old, sizeof(old), "%s", strerror(-code));
	va_start(ap, fmt);
	error_format(err, code, fmt, ap);
	va_end(ap);
	len = strlen(err->text);
	(void)snprintf(err->text + len, sizeof(err->text) - len, ": %.*s",
		       (int)sizeof(old) - 1, old);
	return code;
}

int ql_error_nomem(struct ql_error *err)
{
	return ql_error_set(err, -ENOMEM, "out of memory");
}
