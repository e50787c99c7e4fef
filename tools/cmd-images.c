/* SPDX-License-Identifier: Apache-2.0 */
/* quicklayer images and inspect: what the catalogue knows. */
#include "tools/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "fs/fs.h"

enum { DIGEST_SHOWN = 12, DIGEST_PREFIX = 7 /* "sha256:" */ };

static uint64_t number(const json_t *image, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(image, key));

	return n < 0 ? 0 : (uint64_t)n;
}

static void print_image(const json_t *image)
{
	const char *digest = ql_json_opt_string(image, "digest", "");
	size_t skip = strlen(digest) > DIGEST_PREFIX ? DIGEST_PREFIX : 0;
	char size[QL_HUMAN];
	char ago[32];

	(void)printf("%-48s  %.*s  %6zu  %8" PRIu64 "  %8s  %s%s%s\n",
		     ql_json_opt_string(image, "name", "(no name)"),
		     DIGEST_SHOWN, digest + skip,
		     json_array_size(json_object_get(image, "layers")),
		     number(image, "inodes"),
		     ql_human_bytes(number(image, "bytes"), size),
		     ql_human_ago(number(image, "pulled"), ago),
		     json_is_true(json_object_get(image, "pinned")) ? ", pinned"
								    : "",
		     number(image, "promised") > (uint64_t)time(NULL)
			     ? ", promised"
			     : "");
}

int ql_cmd_images(const struct ql_cli *cli, struct ql_error *err)
{
	_cleanup_back_ struct ql_back back = { 0 };
	_cleanup_json_ json_t *list = NULL;
	const json_t *image;
	size_t i;
	int r = ql_back_open(cli, QL_STORE_READ, &back, err);

	if (r == 0)
		r = back.client
			    ? ql_client_ask(back.client, "GET", "/v1/images",
					    NULL, "", &list, err)
			    : ql_doc_images(back.store, &list, err);
	if (r < 0)
		return r;
	if (cli->json)
		return ql_out_json(ql_take_ptr(list), err);
	if (!cli->quiet)
		(void)printf("%-48s  %-12s  %6s  %8s  %8s  %s\n", "IMAGE",
			     "DIGEST", "LAYERS", "FILES", "SIZE", "PULLED");
	json_array_foreach (list, i, image) {
		if (cli->quiet)
			(void)printf("%s\n",
				     ql_json_opt_string(image, "digest", ""));
		else
			print_image(image);
	}
	return 0;
}

int ql_cmd_inspect(const struct ql_cli *cli, struct ql_error *err)
{
	_cleanup_(ql_store_closep) struct ql_store *store = NULL;
	json_t *json = NULL;
	int r = ql_store_open(cli->root, QL_STORE_READ, &store, err);

	if (r == 0)
		r = ql_doc_image(store, cli->argv[0], &json, err);
	return r < 0 ? r : ql_out_json(json, err);
}
