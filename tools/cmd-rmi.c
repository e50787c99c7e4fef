/* SPDX-License-Identifier: Apache-2.0 */
/* quicklayer rmi: names go, and with the last name the image. */
#include "tools/cli.h"

#include <inttypes.h>
#include <stdio.h>

#include "fs/fs.h"

static void print_removed(const char *text, const json_t *json)
{
	json_int_t files = json_integer_value(json_object_get(json, "files"));
	json_int_t bytes = json_integer_value(json_object_get(json, "bytes"));
	char size[QL_HUMAN];

	if (!json_is_true(json_object_get(json, "removed")))
		(void)printf("%s: the name is gone, the image has others\n",
			     text);
	else
		(void)printf("%s: removed, %" PRId64 " files (%s) freed\n",
			     text, (int64_t)files,
			     ql_human_bytes((uint64_t)bytes, size));
}

static int rmi_one(const struct ql_cli *cli, const struct ql_back *back,
		   const char *text, json_t *list, struct ql_error *err)
{
	_cleanup_json_ json_t *json = NULL;
	int r = back->client
			? ql_client_ask(back->client, "DELETE", "/v1/images/",
					text, "", &json, err)
			: ql_doc_remove(back->store, text, NULL, NULL, &json,
					err);

	if (r < 0)
		return r;
	if (cli->json)
		return json_array_append(list, json) < 0 ? ql_error_nomem(err)
							 : 0;
	print_removed(text, json);
	return 0;
}

int ql_cmd_rmi(const struct ql_cli *cli, struct ql_error *err)
{
	_cleanup_back_ struct ql_back back = { 0 };
	_cleanup_json_ json_t *list = cli->json ? json_array() : NULL;
	int r = ql_back_open(cli, QL_STORE_WRITE, &back, err);

	for (int i = 0; i < cli->argc && r == 0; i++)
		r = rmi_one(cli, &back, cli->argv[i], list, err);
	if (r < 0)
		return r;
	return cli->json ? ql_out_json(ql_take_ptr(list), err) : 0;
}
