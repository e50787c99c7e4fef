/* SPDX-License-Identifier: Apache-2.0 */
/* quicklayer rmi: names go, and with the last name the image. */
#include "tools/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

static int rmi_one(const struct ql_cli *cli, struct ql_store *store,
		   const char *text, json_t *list, struct ql_error *err)
{
	_cleanup_free_ char *name = NULL;
	struct ql_remove_stats stats;
	struct ql_digest manifest;
	char size[QL_HUMAN];
	int r = ql_find_image(store, text, &manifest, &name, err);

	if (r < 0)
		return r;
	r = ql_image_remove(store, name, &manifest, &stats, err);
	if (r < 0)
		return ql_error_prefix(err, "%s", text);
	if (cli->json)
		return json_array_append_new(
			       list,
			       json_pack("{s:o, s:o, s:b, s:I, s:I}", "image",
					 ql_json_text(text), "digest",
					 ql_json_digest(&manifest), "removed",
					 !stats.untagged_only, "files",
					 (json_int_t)stats.objects, "bytes",
					 (json_int_t)stats.bytes)) < 0
			       ? ql_error_nomem(err)
			       : 0;
	if (stats.untagged_only)
		(void)printf("%s: the name is gone, the image has others\n",
			     text);
	else
		(void)printf("%s: removed, %" PRIu64 " files (%s) freed\n",
			     text, stats.objects,
			     ql_human_bytes(stats.bytes, size));
	return 0;
}

int ql_cmd_rmi(const struct ql_cli *cli, struct ql_error *err)
{
	_cleanup_(ql_store_closep) struct ql_store *store = NULL;
	_cleanup_json_ json_t *list = cli->json ? json_array() : NULL;
	int r = ql_store_open(cli->root, QL_STORE_WRITE, &store, err);

	for (int i = 0; i < cli->argc && r == 0; i++)
		r = rmi_one(cli, store, cli->argv[i], list, err);
	if (r < 0)
		return r;
	return cli->json ? ql_out_json(ql_take_ptr(list), err) : 0;
}
