/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quicklayer gc: what nothing needs goes, and what a budget has no room for;
 * or a table of what would go, and what it would cost to have it again.
 */
#include "tools/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fs/fs.h"

enum { DIGEST_SHOWN = 12, DIGEST_PREFIX = 7 /* "sha256:" */ };

static uint64_t number(const json_t *json, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(json, key));

	return n < 0 ? 0 : (uint64_t)n;
}

/* Text of others, made safe for a terminal. */
static void print_safe(const char *text)
{
	_cleanup_free_ char *safe = ql_human_name(text, strlen(text));

	(void)printf("%s", safe ? safe : "?");
}

/* ---- what would go ---- */

static void print_step(const json_t *step)
{
	const char *unit = ql_json_opt_string(step, "layer", NULL);
	const json_t *images = json_object_get(step, "images");
	const json_t *name;
	char a[QL_HUMAN];
	char b[QL_HUMAN];
	size_t i;

	if (!unit)
		unit = ql_json_opt_string(step, "image", "");
	if (strlen(unit) > DIGEST_PREFIX)
		unit += DIGEST_PREFIX;
	(void)printf("%-7s %-12.*s %9s %9s %8.1f  ",
		     ql_json_opt_string(step, "what", "?"), DIGEST_SHOWN, unit,
		     ql_human_bytes(number(step, "bytes"), a),
		     ql_human_bytes(number(step, "again_bytes"), b),
		     json_real_value(json_object_get(step, "again_seconds")));
	print_safe(ql_json_opt_string(step, "why", "?"));
	(void)printf(" (");
	json_array_foreach ((json_t *)images, i, name) {
		(void)printf("%s", i ? ", " : "");
		print_safe(json_string_value(name));
	}
	(void)printf("%s)\n", json_array_size(images) ? "" : "no image");
}

static void print_steps(const json_t *json)
{
	const json_t *steps = json_object_get(json, "steps");
	const json_t *sum = json_object_get(json, "evicted");
	const json_t *step;
	char a[QL_HUMAN];
	char b[QL_HUMAN];
	size_t i;

	json_array_foreach ((json_t *)steps, i, step) {
		print_step(step);
	}
	if (i == 0)
		return;
	(void)printf("%zu steps would free %s; to have it again: %s, %.1f s\n",
		     json_array_size(steps),
		     ql_human_bytes(number(sum, "bytes"), a),
		     ql_human_bytes(number(sum, "again_bytes"), b),
		     json_real_value(json_object_get(sum, "again_seconds")));
}

static void print_unreferenced(const json_t *json, bool dry_run)
{
	const json_t *u = json_object_get(json, "unreferenced");
	const json_t *paths = json_object_get(u, "paths");
	const char *later = ql_json_opt_string(u, "later", NULL);
	const json_t *one;
	char a[QL_HUMAN];
	size_t i;

	json_array_foreach ((json_t *)paths, i, one) {
		if (dry_run)
			(void)printf("%-7s %-12s %9s %9s %8s  nothing needs "
				     "%s\n",
				     "remove", "-",
				     ql_human_bytes(number(one, "bytes"), a),
				     "-", "-",
				     ql_json_opt_string(one, "path", "?"));
	}
	if (later)
		(void)printf("what nothing needs stays for now: %s\n", later);
	else if (!dry_run || i > 0)
		(void)printf("%" PRIu64 " files that nothing needs%s: %s\n",
			     number(u, "files"),
			     dry_run ? " would be removed" : " were removed",
			     ql_human_bytes(number(u, "bytes"), a));
}

static void print_head(const json_t *json)
{
	const json_t *u = json_object_get(json, "unreferenced");

	if (json_array_size(json_object_get(json, "steps")) +
		    json_array_size(json_object_get(u, "paths")) ==
	    0)
		(void)printf("nothing would go\n");
	else
		(void)printf("%-7s %-12s %9s %9s %8s  %s\n", "WHAT", "LAYER",
			     "FREES", "AGAIN", "SECONDS", "WHY (IMAGES)");
}

static void print_evicted(const json_t *json)
{
	const json_t *e = json_object_get(json, "evicted");
	char a[QL_HUMAN];

	if (!e)
		return;
	(void)printf("%" PRIu64 " layers and %" PRIu64
		     " images were evicted, %s freed\n",
		     number(e, "layers"), number(e, "images"),
		     ql_human_bytes(number(e, "bytes"), a));
}

static int print_gc(const json_t *json, bool dry_run, struct ql_error *err)
{
	const char *shortage = ql_json_opt_string(json, "short", NULL);

	if (dry_run)
		print_head(json);
	print_unreferenced(json, dry_run);
	if (dry_run)
		print_steps(json);
	else
		print_evicted(json);
	return shortage ? ql_error_set(err, -ENOSPC, "%s", shortage) : 0;
}

/* ---- asking ---- */

static int ask_agent(const struct ql_client *client,
		     const struct ql_gc_ask *ask, json_t **ret_json,
		     struct ql_error *err)
{
	_cleanup_json_ json_t *body = json_pack("{s:b, s:I}", "dry_run",
						ask->dry_run, "free",
						(json_int_t)ask->free);
	_cleanup_free_ char *text = NULL;

	if (body && ask->budget)
		(void)json_object_set_new(body, "budget",
					  ql_json_text(ask->budget));
	if (body && ask->reserve)
		(void)json_object_set_new(body, "reserve",
					  ql_json_text(ask->reserve));
	text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	if (!text)
		return ql_error_nomem(err);
	return ql_client_send(client, "/v1/gc", text, ret_json, err);
}

/* What nobody can have may not be asked for, either. */
static int free_parse(const char *text, uint64_t *ret, struct ql_error *err)
{
	if (text &&
	    (ql_units_bytes(text, ret) < 0 || *ret == 0 || *ret > INT64_MAX))
		return ql_error_set(err, -EINVAL,
				    "--free %s: bytes, as in 100MiB, are "
				    "wanted",
				    text);
	return 0;
}

static int limits_check(const struct ql_cli *cli, struct ql_error *err)
{
	struct ql_budget b;
	uint64_t n;

	if (cli->budget &&
	    (ql_units_budget(cli->budget, &b) < 0 ||
	     (b.kind == QL_BUDGET_BYTES && b.n < QL_SPACE_BUDGET_MIN)))
		return ql_error_set(err, -EINVAL,
				    "--budget %s: bytes, as in 500MiB (at "
				    "least 8MiB), a share of the filesystem, "
				    "as in 40%%, or none are wanted",
				    cli->budget);
	if (cli->reserve && ql_units_bytes(cli->reserve, &n) < 0)
		return ql_error_set(err, -EINVAL,
				    "--reserve %s: bytes, as in 64MiB, are "
				    "wanted",
				    cli->reserve);
	return 0;
}

int ql_cmd_gc(const struct ql_cli *cli, struct ql_error *err)
{
	_cleanup_back_ struct ql_back back = { 0 };
	_cleanup_json_ json_t *json = NULL;
	struct ql_gc_ask ask = { .dry_run = cli->dry_run,
				 .budget = cli->budget,
				 .reserve = cli->reserve };
	int r = free_parse(cli->free_bytes, &ask.free, err);

	if (r == 0)
		r = limits_check(cli, err);
	if (r < 0)
		return ql_usage("gc", err);
	r = ql_back_open(cli, QL_STORE_WRITE, &back, err);
	if (r == 0)
		r = back.client ? ask_agent(back.client, &ask, &json, err)
				: ql_doc_gc(back.store, &ask, &json, err);
	if (r < 0)
		return r;
	if (!cli->json)
		return print_gc(json, cli->dry_run, err);
	r = json_is_string(json_object_get(json, "short")) ? QL_EXIT_FAILED
							   : QL_EXIT_OK;
	return ql_out_json(ql_take_ptr(json), err) < 0 ? err->code : r;
}
