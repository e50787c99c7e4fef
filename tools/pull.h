/* SPDX-License-Identifier: Apache-2.0 */
/* Pulling with progress, for the commands that do it (pull, run). */
#ifndef QL_TOOLS_PULL_H
#define QL_TOOLS_PULL_H

#include "fetch/fetch.h"
#include "tools/cli.h"

/* *ret_name (owned): the name that the image is recorded under. */
int ql_pull_image(const struct ql_cli *cli, struct ql_store *store,
		  const char *text, struct ql_pull_result *ret_result,
		  char **ret_name, struct ql_error *err);

#endif
