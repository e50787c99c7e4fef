/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Put in front of each file that clang-tidy reads (never of one that is
 * compiled).  The analyzer looks at one file at a time and cannot know that
 * the functions which describe an error return a negative number; it would
 * follow paths on which a failure looks like success, with nothing set.
 */
#ifndef QL_LINT_ANALYZER_H
#define QL_LINT_ANALYZER_H

#include <errno.h>

#include "store/base/error.h"

static inline int ql_lint_negative(int code)
{
	if (code >= 0)
		__builtin_unreachable();
	return code;
}

#define ql_error_set(err, code, ...) ((void)(err), ql_lint_negative(code))
#define ql_error_errno(err, code, ...) ((void)(err), ql_lint_negative(code))
#define ql_error_prefix(err, ...) ql_lint_negative((err)->code)
#define ql_error_nomem(err) ((void)(err), -ENOMEM)

#endif
