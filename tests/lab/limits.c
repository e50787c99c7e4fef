/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a store may take of the disk, and takes:
 *
 *	limits STORE [BUDGET RESERVE]
 *
 * Sets the limits (bytes), makes a store where there is none, and prints what
 * the counter says is used, what a recount finds, and the budget.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/store.h"

static int run(const char *root, char *const *limits, struct ql_error *err)
{
	_cleanup_(ql_store_closep) struct ql_store *store = NULL;
	struct ql_space before, after;
	int r = ql_store_open(root, QL_STORE_WRITE, &store, err);

	if (r == 0 && limits)
		r = ql_space_limits(store, strtoull(limits[0], NULL, 10),
				    strtoull(limits[1], NULL, 10), err);
	if (r == 0)
		r = ql_space_get(store, &before, err);
	if (r == 0)
		r = ql_space_recount(store, &after, err);
	if (r == 0)
		(void)printf("%" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
			     before.used, after.used, after.budget);
	return r;
}

int main(int argc, char **argv)
{
	struct ql_error err = QL_ERROR_INIT;

	if (argc != 2 && argc != 4) {
		(void)fprintf(stderr, "usage: limits STORE [BUDGET RESERVE]\n");
		return 2;
	}
	if (run(argv[1], argc == 4 ? argv + 2 : NULL, &err) == 0)
		return 0;
	(void)fprintf(stderr, "limits: %s\n", err.text);
	return 1;
}
