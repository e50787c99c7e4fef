/* SPDX-License-Identifier: Apache-2.0 */
/* quicklayer pin and unpin: images that rmi leaves alone, and such as do not
 * go by themselves until a time. */
#include "tools/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "fs/fs.h"

#define NS ((uint64_t)1000000000)

static int pin_one(const struct ql_back *back, const char *text, bool pinned,
		   json_t **ret_json, struct ql_error *err)
{
	return back->client
		       ? ql_client_ask(back->client, "POST", "/v1/images/",
				       text, pinned ? "/pin" : "/unpin",
				       ret_json, err)
		       : ql_doc_pin(back->store, text, pinned, ret_json, err);
}

static int promise_by_agent(const struct ql_client *client, const char *text,
			    uint64_t seconds, json_t **ret_json,
			    struct ql_error *err)
{
	_cleanup_free_ char *path =
		ql_local_path("/v1/images/", text, "/promise");
	_cleanup_free_ char *body =
		ql_strf("{\"seconds\": %" PRIu64 "}", seconds);

	if (!path || !body)
		return ql_error_nomem(err);
	return ql_client_send(client, path, body, ret_json, err);
}

static int promise_one(const struct ql_back *back, const char *text,
		       uint64_t seconds, json_t **ret_json,
		       struct ql_error *err)
{
	return back->client ? promise_by_agent(back->client, text, seconds,
					       ret_json, err)
			    : ql_doc_promise(back->store, text, seconds,
					     ret_json, err);
}

static int one(const struct ql_back *back, const char *text, bool pinned,
	       uint64_t seconds, json_t **ret_json, struct ql_error *err)
{
	json_t *promise = NULL;
	int r = 0;

	if (pinned && seconds)
		return promise_one(back, text, seconds, ret_json, err);
	/* unpin ends both. */
	if (!pinned)
		r = promise_one(back, text, 0, &promise, err);
	json_decref(promise);
	return r < 0 ? r : pin_one(back, text, pinned, ret_json, err);
}

static int pin_all(const struct ql_cli *cli, bool pinned, uint64_t seconds,
		   struct ql_error *err)
{
	_cleanup_back_ struct ql_back back = { 0 };
	_cleanup_json_ json_t *list = json_array();
	int r = ql_back_open(cli, QL_STORE_WRITE, &back, err);

	for (int i = 0; i < cli->argc && r == 0; i++) {
		json_t *json = NULL;

		r = one(&back, cli->argv[i], pinned, seconds, &json, err);
		if (r == 0 && json_array_append_new(list, json) < 0)
			r = ql_error_nomem(err);
	}
	if (r < 0 || !cli->json)
		return r;
	return ql_out_json(ql_take_ptr(list), err);
}

int ql_cmd_pin(const struct ql_cli *cli, struct ql_error *err)
{
	uint64_t ns = 0;

	if (cli->duration && (ql_units_duration(cli->duration, &ns) < 0 ||
			      ns < NS || ns / NS > QL_PROMISE_MAX)) {
		(void)ql_error_set(err, -EINVAL,
				   "--for %s: a time from 1s to %dd is wanted",
				   cli->duration, QL_PROMISE_MAX / 86400);
		return ql_usage("pin", err);
	}
	return pin_all(cli, true, ns / NS, err);
}

int ql_cmd_unpin(const struct ql_cli *cli, struct ql_error *err)
{
	return pin_all(cli, false, 0, err);
}
