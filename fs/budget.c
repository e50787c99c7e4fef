/* SPDX-License-Identifier: Apache-2.0 */
/* How much a store may take, as people write it. */
#include <errno.h>
#include <string.h>

#include "fs/fs.h"

enum { ALL = 1000000 }; /* in parts of a share */

int ql_units_budget(const char *text, struct ql_budget *ret_budget)
{
	struct ql_budget b = { .kind = QL_BUDGET_NONE };
	int r;

	if (strcmp(text, "none") == 0) {
		*ret_budget = b;
		return 0;
	}
	b.kind = QL_BUDGET_SHARE;
	r = ql_units_share(text, &b.n);
	if (r == -EINVAL) {
		b.kind = QL_BUDGET_BYTES;
		r = ql_units_bytes(text, &b.n);
	}
	if (r < 0)
		return r;
	if (b.n == 0 || (b.kind == QL_BUDGET_SHARE && b.n > ALL))
		return -ERANGE;
	*ret_budget = b;
	return 0;
}

uint64_t ql_budget_bytes(const struct ql_budget *budget, uint64_t size)
{
	if (budget->kind == QL_BUDGET_BYTES)
		return budget->n;
	if (budget->kind != QL_BUDGET_SHARE)
		return 0;
	return (uint64_t)((unsigned __int128)size * budget->n / ALL);
}
