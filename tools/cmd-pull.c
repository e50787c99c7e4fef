/* SPDX-License-Identifier: Apache-2.0 */
/* quicklayer pull: an image into the store, and what that took. */
#include "tools/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "fetch/fetch.h"
#include "tools/pull.h"

static json_t *pull_json(const char *name, const struct ql_pull_result *res,
			 double seconds)
{
	return json_pack("{s:o, s:o, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
			 "s:f}",
			 "name", ql_json_text(name), "digest",
			 ql_json_digest(&res->manifest), "up_to_date",
			 res->up_to_date, "layers_fetched",
			 (json_int_t)res->layers_fetched, "layers_here",
			 (json_int_t)res->layers_here, "bytes_fetched",
			 (json_int_t)res->bytes_fetched, "new_files",
			 (json_int_t)res->new_objects, "new_bytes",
			 (json_int_t)res->new_bytes, "shared_files",
			 (json_int_t)res->dup_objects, "shared_bytes",
			 (json_int_t)res->dup_bytes, "seconds", seconds);
}

static void pull_print(const char *name, const struct ql_pull_result *res,
		       double seconds)
{
	char text[QL_DIGEST_TEXT + 1];
	char a[QL_HUMAN];
	char b[QL_HUMAN];
	char c[QL_HUMAN];

	(void)printf("%s\n%s\n", name, ql_digest_text(&res->manifest, text));
	if (res->up_to_date) {
		(void)printf("was here\n");
		return;
	}
	(void)printf("%u layers fetched (%s), %u were here; %" PRIu64
		     " files written (%s), %" PRIu64 " shared (%s); %.2f s\n",
		     res->layers_fetched, ql_human_bytes(res->bytes_fetched, a),
		     res->layers_here, res->new_objects,
		     ql_human_bytes(res->new_bytes, b), res->dup_objects,
		     ql_human_bytes(res->dup_bytes, c), seconds);
}

static int pull_parallel(const struct ql_cli *cli, unsigned int *ret,
			 struct ql_error *err)
{
	char *end;
	unsigned long n;

	*ret = 0;
	if (!cli->parallel)
		return 0;
	errno = 0;
	n = strtoul(cli->parallel, &end, 10);
	if (errno || *end || end == cli->parallel || n < 1 || n > 32)
		return ql_error_set(err, -EINVAL,
				    "--parallel %s: a number from 1 to 32 is "
				    "wanted",
				    cli->parallel);
	*ret = (unsigned int)n;
	return 0;
}

int ql_pull_image(const struct ql_cli *cli, struct ql_store *store,
		  const char *text, struct ql_pull_result *ret_result,
		  char **ret_name, struct ql_error *err)
{
	_cleanup_ref_ struct ql_ref ref = { 0 };
	struct ql_pull_options options = {
		.platform = cli->platform,
		.plain_http = cli->plain_http,
		.config_dir = cli->config_dir,
	};
	struct ql_progress *progress;
	int r = ql_ref_parse(text, &ref, err);

	if (r == 0)
		r = pull_parallel(cli, &options.parallel, err);
	if (r < 0)
		return r;
	progress = ql_progress_new(cli->quiet || cli->json);
	options.progress = ql_progress_update;
	options.arg = progress;
	r = ql_pull(store, &ref, &options, ret_result, err);
	ql_progress_free(progress);
	if (r == 0)
		*ret_name = ql_take_ptr(ref.name);
	return r;
}

int ql_cmd_pull(const struct ql_cli *cli, struct ql_error *err)
{
	_cleanup_(ql_store_closep) struct ql_store *store = NULL;
	_cleanup_free_ char *name = NULL;
	struct ql_pull_result res;
	char text[QL_DIGEST_TEXT + 1];
	uint64_t start = ql_now_ns();
	double seconds;
	int r = ql_store_open(cli->root, QL_STORE_WRITE, &store, err);

	if (r == 0)
		r = ql_pull_image(cli, store, cli->argv[0], &res, &name, err);
	if (r < 0)
		return r;
	seconds = (double)(ql_now_ns() - start) / 1e9;
	if (cli->json)
		return ql_out_json(pull_json(name, &res, seconds), err);
	if (cli->quiet)
		(void)printf("%s\n", ql_digest_text(&res.manifest, text));
	else
		pull_print(name, &res, seconds);
	return 0;
}
