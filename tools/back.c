/* SPDX-License-Identifier: Apache-2.0 */
/* Who does what a command asks for: a running agent, or this process. */
#include "tools/cli.h"

int ql_back_open(const struct ql_cli *cli, enum ql_store_mode mode,
		 struct ql_back *ret_back, struct ql_error *err)
{
	struct ql_back back = { 0 };
	int r = ql_client_find(cli, &back.client, err);

	if (r == 0 && !back.client)
		r = ql_store_open(cli->root, mode, &back.store, err);
	if (r == 0)
		*ret_back = back;
	return r;
}

void ql_back_release(struct ql_back *back)
{
	ql_client_free(back->client);
	ql_store_close(back->store);
}
