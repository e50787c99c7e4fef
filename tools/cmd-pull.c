/* SPDX-License-Identifier: Apache-2.0 */
/* quicklayer pull: an image into the store, and what that took. */
#include "tools/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "fs/fs.h"
#include "tools/pull.h"

static uint64_t number(const json_t *json, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(json, key));

	return n < 0 ? 0 : (uint64_t)n;
}

static void pull_print(const json_t *json)
{
	char a[QL_HUMAN];
	char b[QL_HUMAN];
	char c[QL_HUMAN];

	(void)printf("%s\n%s\n", ql_json_opt_string(json, "name", "?"),
		     ql_json_opt_string(json, "digest", "?"));
	if (json_is_true(json_object_get(json, "up_to_date"))) {
		(void)printf("was here\n");
		return;
	}
	(void)printf("%" PRIu64 " layers fetched (%s), %" PRIu64
		     " were here; %" PRIu64 " files written (%s), %" PRIu64
		     " shared (%s); %.2f s\n",
		     number(json, "layers_fetched"),
		     ql_human_bytes(number(json, "bytes_fetched"), a),
		     number(json, "layers_here"), number(json, "new_files"),
		     ql_human_bytes(number(json, "new_bytes"), b),
		     number(json, "shared_files"),
		     ql_human_bytes(number(json, "shared_bytes"), c),
		     json_number_value(json_object_get(json, "seconds")));
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

/* What was known here already may not be here in full. */
static int pull_rest(const struct ql_cli *cli, struct ql_store *store,
		     const struct ql_digest *manifest, struct ql_error *err)
{
	const struct ql_fill_options fill = { .plain_http = cli->plain_http,
					      .config_dir = cli->config_dir };
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	int r = ql_image_get(store, manifest, &info);

	if (r < 0)
		return ql_error_errno(err, r, "image");
	return ql_fill_lacks(store, &info)
		       ? ql_fill_all(store, &info, &fill, err)
		       : 0;
}

static int pull_here(const struct ql_cli *cli, struct ql_store *store,
		     const char *text, unsigned int parallel, json_t **ret_json,
		     struct ql_error *err)
{
	_cleanup_ref_ struct ql_ref ref = { 0 };
	struct ql_pull_options options = {
		.platform = cli->platform,
		.plain_http = cli->plain_http,
		.config_dir = cli->config_dir,
		.lazy = !cli->full,
		.parallel = parallel,
		.progress = ql_progress_update,
	};
	struct ql_pull_result res;
	uint64_t start = ql_now_ns();
	int r = ql_ref_parse(text, &ref, err);

	if (r < 0)
		return r;
	options.arg = ql_progress_new(cli->quiet || cli->json);
	r = ql_pull(store, &ref, &options, &res, err);
	ql_progress_free(options.arg);
	if (r == 0 && cli->full)
		r = pull_rest(cli, store, &res.manifest, err);
	if (r < 0)
		return r;
	*ret_json = ql_doc_pull(ref.name, &res,
				(double)(ql_now_ns() - start) / 1e9);
	return *ret_json ? 0 : ql_error_nomem(err);
}

int ql_pull_image(const struct ql_cli *cli, const struct ql_back *back,
		  const char *text, json_t **ret_json, struct ql_error *err)
{
	unsigned int parallel;
	int r = pull_parallel(cli, &parallel, err);

	if (r < 0)
		return r;
	return back->client ? ql_client_pull(back->client, cli, text, parallel,
					     ret_json, err)
			    : pull_here(cli, back->store, text, parallel,
					ret_json, err);
}

int ql_cmd_pull(const struct ql_cli *cli, struct ql_error *err)
{
	_cleanup_back_ struct ql_back back = { 0 };
	_cleanup_json_ json_t *json = NULL;
	int r = ql_back_open(cli, QL_STORE_WRITE, &back, err);

	if (r == 0)
		r = ql_pull_image(cli, &back, cli->argv[0], &json, err);
	if (r < 0)
		return r;
	if (cli->json)
		return ql_out_json(ql_take_ptr(json), err);
	if (cli->quiet)
		(void)printf("%s\n", ql_json_opt_string(json, "digest", "?"));
	else
		pull_print(json);
	return 0;
}
