/* SPDX-License-Identifier: Apache-2.0 */
/* quicklayer prefetch: all of an image's content, or what a trace names. */
#include "tools/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { POLL_MS = 200, PATIENCE_S = 60 };

static int trace_read(const char *path, struct ql_trace *ret_trace,
		      struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_TRACE_MAX);
	int r = ql_read_file(AT_FDCWD, path, &buf, err);

	if (r == 0)
		r = ql_trace_parse(ql_buf_str(&buf), buf.len, ret_trace, err);
	return r < 0 ? ql_error_prefix(err, "%s", path) : 0;
}

static void tell_missing(const struct ql_cli *cli, uint64_t missing)
{
	if (missing > 0 && !cli->quiet)
		(void)fprintf(stderr,
			      "quicklayer: %s: %" PRIu64
			      " parts name no file of the image\n",
			      cli->trace, missing);
}

/* ---- by an agent ---- */

static uint64_t number(const json_t *json, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(json, key));

	return n < 0 ? 0 : (uint64_t)n;
}

/* Waits until the agent has fetched what it was asked for. */
static int agent_wait(const struct ql_cli *cli, const struct ql_client *client,
		      struct ql_error *err)
{
	uint64_t fetched = 0, since = ql_now_ns();

	for (;;) {
		_cleanup_json_ json_t *json = NULL;
		const json_t *fill;
		int r = ql_client_ask(client, "GET",
				      "/v1/status?image=", cli->argv[0], "",
				      &json, err);

		if (r < 0)
			return r;
		fill = json_object_get(json, "fill");
		if (number(json, "files_here") == number(json, "files") ||
		    (cli->trace && number(fill, "queued") == 0 &&
		     number(fill, "running") == 0))
			return 0;
		if (number(fill, "fetched") != fetched) {
			fetched = number(fill, "fetched");
			since = ql_now_ns();
		}
		if (ql_now_ns() - since > PATIENCE_S * 1000000000ULL)
			return ql_error_set(err, -EIO,
					    "nothing has come for %d s",
					    PATIENCE_S);
		(void)usleep(POLL_MS * 1000);
	}
}

static int prefetch_by_agent(const struct ql_cli *cli,
			     const struct ql_client *client,
			     struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf text = QL_BUF_INIT(QL_TRACE_MAX);
	_cleanup_json_ json_t *body =
		json_pack("{s:o}", "image", ql_json_text(cli->argv[0]));
	_cleanup_free_ char *dump = NULL;
	_cleanup_json_ json_t *answer = NULL;
	int r = 0;

	if (cli->trace)
		r = ql_read_file(AT_FDCWD, cli->trace, &text, err);
	if (r < 0)
		return r;
	if (body && cli->trace)
		(void)json_object_set_new(body, "trace",
					  ql_json_text(ql_buf_str(&text)));
	dump = body ? json_dumps(body, JSON_COMPACT) : NULL;
	if (!dump)
		return ql_error_nomem(err);
	r = ql_client_send(client, "/v1/prefetch", dump, &answer, err);
	if (r < 0)
		return r;
	tell_missing(cli, number(answer, "missing"));
	return agent_wait(cli, client, err);
}

/* ---- here ---- */

static int prefetch_here(const struct ql_cli *cli, struct ql_store *store,
			 struct ql_error *err)
{
	const struct ql_fill_options fill = { .plain_http = cli->plain_http,
					      .config_dir = cli->config_dir };
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	_cleanup_(ql_trace_release) struct ql_trace trace = { 0 };
	_cleanup_free_ char *name = NULL;
	struct ql_digest manifest;
	size_t missing = 0;
	int r = cli->trace ? trace_read(cli->trace, &trace, err) : 0;

	if (r == 0)
		r = ql_find_image(store, cli->argv[0], &manifest, &name, err);
	if (r < 0)
		return r;
	r = ql_image_get(store, &manifest, &info);
	if (r < 0)
		return ql_error_errno(err, r, "%s", cli->argv[0]);
	if (!cli->trace)
		return ql_fill_all(store, &info, &fill, err);
	r = ql_fill_trace(store, &info, &trace, &fill, &missing, err);
	if (r == 0)
		tell_missing(cli, missing);
	return r;
}

int ql_cmd_prefetch(const struct ql_cli *cli, struct ql_error *err)
{
	_cleanup_back_ struct ql_back back = { 0 };
	int r = ql_back_open(cli, QL_STORE_WRITE, &back, err);

	if (r < 0)
		return r;
	return back.client ? prefetch_by_agent(cli, back.client, err)
			   : prefetch_here(cli, back.store, err);
}
