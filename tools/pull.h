/* SPDX-License-Identifier: Apache-2.0 */
/* Pulling with progress, for the commands that do it (pull, run). */
#ifndef QL_TOOLS_PULL_H
#define QL_TOOLS_PULL_H

#include "tools/cli.h"

/* *ret_json: as of ql_doc_pull(); the caller's. */
int ql_pull_image(const struct ql_cli *cli, const struct ql_back *back,
		  const char *text, json_t **ret_json, struct ql_error *err);

#endif
