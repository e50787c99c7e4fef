/* SPDX-License-Identifier: Apache-2.0 */
/* quicklayer prefetch: all of an image's content, or what a trace names. */
#include "tools/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static int trace_read(const char *path, struct ql_trace *ret_trace,
		      struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_TRACE_MAX);
	int r = ql_read_file(AT_FDCWD, path, &buf, err);

	if (r == 0)
		r = ql_trace_parse(ql_buf_str(&buf), buf.len, ret_trace, err);
	return r < 0 ? ql_error_prefix(err, "%s", path) : 0;
}

int ql_cmd_prefetch(const struct ql_cli *cli, struct ql_error *err)
{
	const struct ql_fill_options fill = { .plain_http = cli->plain_http,
					      .config_dir = cli->config_dir };
	_cleanup_(ql_store_closep) struct ql_store *store = NULL;
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	_cleanup_(ql_trace_release) struct ql_trace trace = { 0 };
	_cleanup_free_ char *name = NULL;
	struct ql_digest manifest;
	size_t missing = 0;
	int r = cli->trace ? trace_read(cli->trace, &trace, err) : 0;

	if (r == 0)
		r = ql_store_open(cli->root, QL_STORE_WRITE, &store, err);
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
	if (r == 0 && missing > 0 && !cli->quiet)
		(void)fprintf(stderr,
			      "quicklayer: %s: %zu of %zu parts name no file "
			      "of the image\n",
			      cli->trace, missing, trace.n);
	return r;
}
