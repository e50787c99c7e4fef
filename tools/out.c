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

int ql_out_flush(struct ql_error *err)
{
	errno = 0;
	if (fflush(stdout) != 0 || ferror(stdout))
		return ql_error_errno(err, errno ? -errno : -EIO,
				      "write to standard output");
	return 0;
}
