/* SPDX-License-Identifier: Apache-2.0 */
/* quicklayer index: what other nodes need to read an image lazily as it is. */
#include "tools/cli.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void index_print(const struct ql_index_result *res, bool pushed)
{
	char text[QL_DIGEST_TEXT + 1], all[32], head[32], hot[32];

	(void)printf("%s\n%s: %s of tree and places, %s that a start reads%s\n",
		     ql_digest_text(&res->blob, text),
		     ql_human_bytes(res->size, all),
		     ql_human_bytes(res->head_size, head),
		     ql_human_bytes(res->size - res->head_size, hot),
		     pushed ? "; pushed" : "");
}

int ql_cmd_index(const struct ql_cli *cli, struct ql_error *err)
{
	const struct ql_pull_options options = {
		.plain_http = cli->plain_http,
		.config_dir = cli->config_dir,
	};
	_cleanup_(ql_store_closep) struct ql_store *store = NULL;
	_cleanup_ref_ struct ql_ref ref = { 0 };
	_cleanup_free_ char *name = NULL;
	struct ql_index_result res;
	struct ql_digest manifest;
	char text[QL_DIGEST_TEXT + 1];
	int r = ql_store_open(cli->root, QL_STORE_READ, &store, err);

	if (r == 0)
		r = ql_find_image(store, cli->argv[0], &manifest, &name, err);
	if (r == 0 && cli->push && !name)
		r = ql_error_set(err, -EINVAL,
				 "%s: an image without a name has no place to "
				 "push to",
				 cli->argv[0]);
	if (r == 0 && cli->push)
		r = ql_ref_parse(name, &ref, err);
	if (r == 0)
		r = ql_index_image(store, &manifest, cli->push ? &ref : NULL,
				   &options, &res, err);
	if (r < 0)
		return r;
	if (!cli->json) {
		index_print(&res, cli->push);
		return 0;
	}
	return ql_out_json(json_pack("{s:s, s:I, s:I, s:b}", "digest",
				     ql_digest_text(&res.blob, text), "size",
				     (json_int_t)res.size, "head_size",
				     (json_int_t)res.head_size, "pushed",
				     cli->push),
			   err);
}
