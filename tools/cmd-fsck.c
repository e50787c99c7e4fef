/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quicklayer fsck: findings one a line; exit 1 where there are any, or, with
 * --repair, where some could not be repaired.  What a repair brings to light
 * (of a tree that could not be read nobody knew what it needs) is repaired,
 * too.
 */
#include "tools/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fs/fs.h"

enum { FAULTS_MAX = 1 << 20, ROUNDS = 3 };

struct findings {
	struct ql_fault *items; /* owned, with their texts */
	size_t n;
	size_t first; /* of this round */
	json_t *list; /* borrowed; with --json */
	json_t *left; /* borrowed; with --json: not repaired */
	bool repairs;
	bool incomplete; /* out of memory: some are not in items */
	struct ql_repair_stats repaired;
};

static void findings_release(struct findings *f)
{
	for (size_t i = 0; i < f->n; i++)
		free((char *)f->items[i].text);
	free(f->items);
}

static void print_line(const char *before, const char *finding, const char *why)
{
	_cleanup_free_ char *line = ql_strf("%s%s%s%s", before, finding,
					    why ? ": " : "", why ? why : "");
	_cleanup_free_ char *safe = line ? ql_human_name(line, strlen(line))
					 : NULL;

	(void)printf("%s\n", safe ? safe : "out of memory");
}

/* ---- what is found ---- */

static bool is_known(const struct findings *f, const struct ql_fault *fault)
{
	for (size_t i = 0; i < f->first; i++)
		if (f->items[i].kind == fault->kind &&
		    (fault->kind == QL_FAULT_OTHER
			     ? strcmp(f->items[i].text, fault->text) == 0
			     : ql_digest_equal(&f->items[i].digest,
					       &fault->digest)))
			return true;
	return false;
}

static void finding_keep(struct findings *f, const struct ql_fault *fault)
{
	struct ql_fault *grown = NULL;
	char *text = strdup(fault->text);

	if (text && f->n < FAULTS_MAX)
		grown = reallocarray(f->items, f->n + 1, sizeof(*grown));
	if (!grown) {
		f->incomplete = true;
		free(text);
		return;
	}
	f->items = grown;
	grown[f->n] = *fault;
	grown[f->n++].text = text;
}

static void finding_take(const struct ql_fault *fault, void *arg)
{
	struct findings *f = arg;

	if (is_known(f, fault))
		return;
	if (f->list)
		(void)json_array_append_new(f->list, ql_json_text(fault->text));
	else
		print_line("", fault->text, NULL);
	if (f->repairs)
		finding_keep(f, fault);
}

/* ---- what is packed ---- */

struct packed_look {
	struct ql_store *store; /* borrowed, as these */
	struct ql_pace *pace;
	struct findings *findings;
	struct ql_fsck_stats *stats;
};

static int packed_one(const struct ql_digest *blob, uint64_t disk_bytes,
		      void *arg)
{
	struct packed_look *look = arg;
	struct ql_error err = QL_ERROR_INIT;
	struct ql_fault fault = { QL_FAULT_PACKED, *blob, err.text };
	uint64_t bytes;
	int r = ql_packed_verify(look->store, blob, look->pace, &bytes, &err);

	(void)disk_bytes;
	look->stats->bytes += bytes;
	if (r == 0)
		return 0;
	look->stats->errors++;
	if (r != -EBADMSG)
		fault.kind = QL_FAULT_OTHER;
	finding_take(&fault, look->findings);
	return 0;
}

/* ---- what becomes of it ---- */

static void outcome(const struct ql_fault *fault, const char *why, void *arg)
{
	struct findings *f = arg;

	if (f->left && why)
		(void)json_array_append_new(
			f->left, json_pack("{s:o, s:o}", "finding",
					   ql_json_text(fault->text), "why",
					   ql_json_text(why)));
	if (!f->list)
		print_line(why ? "not repaired: " : "repaired: ", fault->text,
			   why);
}

static int repair(const struct ql_cli *cli, struct ql_store *store,
		  struct findings *f, struct ql_error *err)
{
	const struct ql_fill_options fill = { .plain_http = cli->plain_http,
					      .config_dir = cli->config_dir };
	struct ql_repair_stats stats;
	int r = 0;

	for (int round = 0; round < ROUNDS && f->first < f->n && r == 0;
	     round++) {
		struct ql_fsck_stats again;

		r = ql_repair(store, f->items + f->first, f->n - f->first,
			      &fill, NULL, outcome, f, &stats, err);
		if (r < 0)
			break;
		f->repaired.repaired += stats.repaired;
		f->repaired.failed += stats.failed;
		f->first = f->n;
		r = ql_store_check_records(store, NULL, finding_take, f, &again,
					   err);
	}
	/* What the last look found. */
	for (; r == 0 && f->first < f->n; f->first++) {
		outcome(&f->items[f->first], "it was found after a repair", f);
		f->repaired.failed++;
	}
	if (r == 0 && f->incomplete)
		return ql_error_set(err, -ENOMEM,
				    "there are too many findings to repair all "
				    "at once; call it again");
	return r;
}

/* ---- the command ---- */

/* For a check, too, it is opened for writing where it can be: nothing is
 * evicted then while the catalogue is compared with the disk. */
static int store_open(const struct ql_cli *cli, struct ql_store **ret_store,
		      struct ql_error *err)
{
	_cleanup_(ql_store_closep) struct ql_store *reader = NULL;
	int r = ql_store_open(cli->root, QL_STORE_READ, &reader, err);

	if (r < 0)
		return r;
	if (cli->repair)
		return ql_store_open(cli->root, QL_STORE_WRITE, ret_store, err);
	if (ql_store_open(cli->root, QL_STORE_WRITE, ret_store, NULL) < 0)
		*ret_store = ql_take_ptr(reader);
	return 0;
}

static int print_stats(const struct ql_fsck_stats *s, const struct findings *f,
		       struct ql_error *err)
{
	char bytes[QL_HUMAN];

	if (f->list)
		return ql_out_json(
			json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
				  "s:O, s:O}",
				  "images", (json_int_t)s->images, "layers",
				  (json_int_t)s->layers, "objects",
				  (json_int_t)s->objects, "bytes",
				  (json_int_t)s->bytes, "unreferenced",
				  (json_int_t)s->unreferenced, "errors",
				  (json_int_t)s->errors, "repaired",
				  (json_int_t)f->repaired.repaired,
				  "not_repaired",
				  (json_int_t)f->repaired.failed, "findings",
				  f->list, "left", f->left),
			err);
	(void)printf("%" PRIu64 " images, %" PRIu64 " layers, %" PRIu64
		     " files (%s read), %" PRIu64 " unreferenced: %" PRIu64
		     " errors\n",
		     s->images, s->layers, s->objects,
		     ql_human_bytes(s->bytes, bytes), s->unreferenced,
		     s->errors);
	if (f->repairs && s->errors > 0)
		(void)printf("%" PRIu64 " repaired, %" PRIu64 " not\n",
			     f->repaired.repaired, f->repaired.failed);
	return 0;
}

int ql_cmd_fsck(const struct ql_cli *cli, struct ql_error *err)
{
	_cleanup_(ql_store_closep) struct ql_store *store = NULL;
	_cleanup_json_ json_t *list = cli->json ? json_array() : NULL;
	_cleanup_json_ json_t *left = cli->json ? json_array() : NULL;
	_cleanup_(findings_release) struct findings f = {
		.list = list, .left = left, .repairs = cli->repair
	};
	struct ql_pace pace = { 0 };
	struct ql_fsck_stats s;
	struct packed_look look = { NULL, &pace, &f, &s };
	int r = cli->rate ? ql_units_rate(cli->rate, &pace.rate) : 0;

	if (r < 0 || (cli->rate && pace.rate == 0)) {
		(void)ql_error_set(err, -EINVAL,
				   "--rate %s: bytes a second are wanted, as "
				   "in 20MB/s",
				   cli->rate);
		return ql_usage("fsck", err);
	}
	if (pace.rate == UINT64_MAX)
		pace.rate = 0;
	r = store_open(cli, &store, err);
	if (r == 0)
		r = ql_store_check(store, &pace, finding_take, &f, &s, err);
	look.store = store;
	if (r == 0)
		r = ql_packed_each(store, packed_one, &look, err);
	if (r == 0 && cli->repair)
		r = repair(cli, store, &f, err);
	if (r == 0)
		r = print_stats(&s, &f, err);
	if (r < 0)
		return r;
	if (cli->repair)
		return f.repaired.failed ? QL_EXIT_FAILED : QL_EXIT_OK;
	return s.errors ? QL_EXIT_FAILED : QL_EXIT_OK;
}
