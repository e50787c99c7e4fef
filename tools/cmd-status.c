/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quicklayer status: how much of an image, or of everything, is here, and
 * what of it other images share.
 */
#include "tools/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "fs/fs.h"

static uint64_t number(const json_t *json, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(json, key));

	return n < 0 ? 0 : (uint64_t)n;
}

/* Where the rest would come from. */
static void print_sources(const json_t *sources)
{
	const json_t *one;
	size_t i;

	if (json_array_size(sources) == 0)
		(void)printf("nothing is known to have the rest\n");
	json_array_foreach ((json_t *)sources, i, one)
		(void)printf("%s has the rest\n", json_string_value(one));
}

/* What an agent is fetching. */
static void print_fill(const json_t *fill)
{
	char a[QL_HUMAN];
	char b[QL_HUMAN];
	const json_t *left = json_object_get(fill, "seconds_left");

	if (number(fill, "running") > 0)
		(void)printf("%" PRIu64 " requests are under way, %s wait, "
			     "%s/s come\n",
			     number(fill, "running"),
			     ql_human_bytes(number(fill, "queued"), a),
			     ql_human_bytes(number(fill, "rate"), b));
	if (left)
		(void)printf("all of it is here in about %" PRIu64 " s\n",
			     number(fill, "seconds_left"));
}

static void print_image(const json_t *json, const char *text)
{
	char a[QL_HUMAN];
	char b[QL_HUMAN];
	char c[QL_HUMAN];

	(void)printf("%s\n%" PRIu64 " of %" PRIu64
		     " files are here (%s of %s); %" PRIu64
		     " of them (%s) are shared with other layers\n",
		     ql_json_opt_string(json, "name", text),
		     number(json, "files_here"), number(json, "files"),
		     ql_human_bytes(number(json, "bytes_here"), a),
		     ql_human_bytes(number(json, "bytes"), b),
		     number(json, "files_shared"),
		     ql_human_bytes(number(json, "bytes_shared"), c));
	if (number(json, "files_packed") > 0)
		(void)printf("%" PRIu64 " more (%s) are here as they came, "
			     "packed\n",
			     number(json, "files_packed"),
			     ql_human_bytes(number(json, "bytes_packed"), a));
	if (number(json, "files_partly") > 0)
		(void)printf("%s more are here of %" PRIu64 " other files\n",
			     ql_human_bytes(number(json, "bytes_partly"), a),
			     number(json, "files_partly"));
	if (number(json, "files_here") + number(json, "files_packed") <
	    number(json, "files"))
		print_sources(json_object_get(json, "sources"));
	print_fill(json_object_get(json, "fill"));
	if (json_is_true(json_object_get(json, "pinned")))
		(void)printf("pinned\n");
	if (number(json, "promised") > (uint64_t)time(NULL))
		(void)printf("promised for %" PRIu64 " minutes more\n",
			     (number(json, "promised") - (uint64_t)time(NULL)) /
					     60 +
				     1);
}

/* What holds back how much of what might go. */
static void print_held(const json_t *cache)
{
	static const char *const why[][2] = {
		{ "pinned", "pinned" },
		{ "mounted", "in use" },
		{ "promised", "promised" },
		{ "in_flight", "on their way" },
	};
	const json_t *held = json_object_get(cache, "held");
	char a[QL_HUMAN];

	(void)printf("%s may go",
		     ql_human_bytes(number(cache, "evictable"), a));
	for (size_t i = 0; i < sizeof(why) / sizeof(why[0]); i++)
		if (number(held, why[i][0]) > 0)
			(void)printf(", %s are %s",
				     ql_human_bytes(number(held, why[i][0]), a),
				     why[i][1]);
	(void)printf("\n");
}

static void print_refusal(const json_t *cache)
{
	const json_t *last = json_object_get(cache, "last_refusal");
	char ago[32];

	if (!json_is_object(last))
		return;
	(void)printf("there was no room %s: %s\n",
		     ql_human_ago(number(last, "at"), ago),
		     ql_json_opt_string(last, "why", "?"));
}

/* With a budget: how it stands. */
static void print_cache(const json_t *cache)
{
	const json_t *tiers = json_object_get(cache, "tiers");
	char a[QL_HUMAN];
	char b[QL_HUMAN];
	char c[QL_HUMAN];

	if (!json_is_integer(json_object_get(cache, "budget")))
		return;
	(void)printf("%s of a budget of %s are used (%s stay free of the "
		     "disk)\n",
		     ql_human_bytes(number(cache, "used"), a),
		     ql_human_bytes(number(cache, "budget"), b),
		     ql_human_bytes(number(cache, "reserve"), c));
	(void)printf("%s plain, %s packed, ",
		     ql_human_bytes(number(tiers, "plain"), a),
		     ql_human_bytes(number(tiers, "packed"), b));
	(void)printf("%s in part, %s metadata\n",
		     ql_human_bytes(number(tiers, "partial"), a),
		     ql_human_bytes(number(tiers, "metadata"), b));
	print_held(cache);
	if (number(cache, "evictions") > 0)
		(void)printf("%" PRIu64 " layers were evicted so far (%s)\n",
			     number(cache, "evictions"),
			     ql_human_bytes(number(cache, "evicted_bytes"), a));
	print_refusal(cache);
}

static void print_store(const json_t *json)
{
	char a[QL_HUMAN];
	char b[QL_HUMAN];
	json_t *m;
	size_t i;

	(void)printf("%s: %" PRIu64 " images, %" PRIu64 " layers, %" PRIu64
		     " files (%s); %s free\n",
		     ql_json_opt_string(json, "root", "?"),
		     number(json, "images"), number(json, "layers"),
		     number(json, "files"),
		     ql_human_bytes(number(json, "bytes"), a),
		     ql_human_bytes(number(json, "free"), b));
	print_cache(json_object_get(json, "cache"));
	json_array_foreach (json_object_get(json, "mounts"), i, m) {
		const char *image = ql_json_opt_string(m, "image", "?");
		const char *dir = ql_json_opt_string(m, "dir", "?");
		_cleanup_free_ char *on = ql_human_name(dir, strlen(dir));
		_cleanup_free_ char *what = ql_human_name(image, strlen(image));

		(void)printf("%s on %s\n", what ? what : "?", on ? on : "?");
	}
}

static int status_get(const struct ql_back *back, const char *image,
		      json_t **ret_json, struct ql_error *err)
{
	if (back->client)
		return ql_client_ask(back->client, "GET",
				     image ? "/v1/status?image=" : "/v1/status",
				     image, "", ret_json, err);
	return image ? ql_doc_image_status(back->store, image, ret_json, err)
		     : ql_doc_status(back->store, ret_json, err);
}

int ql_cmd_status(const struct ql_cli *cli, struct ql_error *err)
{
	_cleanup_back_ struct ql_back back = { 0 };
	const char *image = cli->argc > 0 ? cli->argv[0] : NULL;
	_cleanup_json_ json_t *json = NULL;
	int r = ql_back_open(cli, QL_STORE_READ, &back, err);

	if (r == 0)
		r = status_get(&back, image, &json, err);
	if (r < 0)
		return r;
	if (cli->json)
		return ql_out_json(ql_take_ptr(json), err);
	if (image)
		print_image(json, image);
	else
		print_store(json);
	return 0;
}
