/* SPDX-License-Identifier: Apache-2.0 */
/* Is it UTF-8?  (RFC 3629) */
#ifndef QL_BASE_UTF8_H
#define QL_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* NUL is a character like others. */
bool ql_utf8_valid(const char *text, size_t len);

#endif
