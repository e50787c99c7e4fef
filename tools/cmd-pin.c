/* SPDX-License-Identifier: Apache-2.0 */
/* quicklayer pin and unpin: images that rmi leaves alone. */
#include "tools/cli.h"

#include <stdio.h>

#include "fs/fs.h"

static int pin_one(const struct ql_back *back, const char *text, bool pinned,
		   json_t **ret_json, struct ql_error *err)
{
	return back->client
		       ? ql_client_ask(back->client, "POST", "/v1/images/",
				       text, pinned ? "/pin" : "/unpin",
				       ret_json, err)
		       : ql_doc_pin(back->store, text, pinned, ret_json, err);
}

static int pin_all(const struct ql_cli *cli, bool pinned, struct ql_error *err)
{
	_cleanup_back_ struct ql_back back = { 0 };
	_cleanup_json_ json_t *list = json_array();
	int r = ql_back_open(cli, QL_STORE_WRITE, &back, err);

	for (int i = 0; i < cli->argc && r == 0; i++) {
		json_t *json = NULL;

		r = pin_one(&back, cli->argv[i], pinned, &json, err);
		if (r == 0 && json_array_append_new(list, json) < 0)
			r = ql_error_nomem(err);
	}
	if (r < 0 || !cli->json)
		return r;
	return ql_out_json(ql_take_ptr(list), err);
}

int ql_cmd_pin(const struct ql_cli *cli, struct ql_error *err)
{
	return pin_all(cli, true, err);
}

int ql_cmd_unpin(const struct ql_cli *cli, struct ql_error *err)
{
	return pin_all(cli, false, err);
}
