/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quicklayer cachesim: what policies make of a trace of pulls, at which
 * budgets.
 */
#include "tools/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tools/cachesim/cachesim.h"

enum { NAMES = 32, BUDGETS = 32, SVG_MAX = 1 << 20 };

struct plan {
	char *words;		  /* owned: what names points into */
	const char *names[NAMES]; /* of policies */
	size_t n_names;
	double budgets[BUDGETS]; /* bytes, or per cent where negative */
	size_t n_budgets;
	struct ql_sim_links links;
};

static void plan_release(struct plan *p)
{
	free(p->words);
}

static int add_name(struct plan *p, const char *name, struct ql_error *err)
{
	if (p->n_names == NAMES)
		return ql_error_set(err, -EINVAL, "--policy: %d at most",
				    NAMES);
	p->names[p->n_names++] = name;
	return 0;
}

static int add_all(struct plan *p, struct ql_error *err)
{
	const struct ql_cache_policy *policy;
	int r = 0;

	for (size_t i = 0; r == 0 && (policy = ql_cache_policy_at(i)); i++)
		if (!ql_cache_policy_is_part(policy))
			r = add_name(p, ql_cache_policy_name(policy), err);
	return r < 0 ? r : add_name(p, QL_SIM_BOUND, err);
}

static int parse_policies(struct plan *p, const char *text,
			  struct ql_error *err)
{
	char *rest;
	char *word;
	int r = 0;

	p->words = strdup(text ? text : "all");
	if (!p->words)
		return ql_error_nomem(err);
	rest = p->words;
	while (r == 0 && (word = strsep(&rest, ",")) != NULL) {
		if (strcmp(word, "all") == 0)
			r = add_all(p, err);
		else if (ql_cache_policy_find(word) ||
			 strcmp(word, QL_SIM_BOUND) == 0)
			r = add_name(p, word, err);
		else
			return ql_error_set(err, -EINVAL,
					    "--policy %s: no such policy",
					    word);
	}
	return r;
}

/* "500000000", "500M" or "500MiB" (binary), "500MB" (decimal), "5%". */
static int parse_budget(const char *word, double *ret, struct ql_error *err)
{
	static const struct {
		const char *unit;
		double factor;
	} units[] = {
		{ "", 1 },	    { "%", -1 },	{ "k", 1 << 10 },
		{ "K", 1 << 10 },   { "M", 1 << 20 },	{ "G", 1 << 30 },
		{ "KiB", 1 << 10 }, { "MiB", 1 << 20 }, { "GiB", 1 << 30 },
		{ "kB", 1000 },	    { "MB", 1000000 },	{ "GB", 1000000000 },
		{ "T", 0x1p40 },    { "TiB", 0x1p40 },	{ "TB", 1e12 },
	};
	char *end;
	double n = strtod(word, &end);

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (end > word && *word >= '0' && *word <= '9' && n < 1e15 &&
		    strcmp(end, units[i].unit) == 0) {
			*ret = n * units[i].factor;
			if (*ret < -100)
				break;
			return 0;
		}
	return ql_error_set(err, -EINVAL,
			    "--budget %s: bytes (500MiB) or a share (5%%) are "
			    "wanted",
			    word);
}

static int parse_budgets(struct plan *p, const char *text, struct ql_error *err)
{
	_cleanup_free_ char *words = strdup(text ? text : "2%,5%,10%,20%,40%");
	char *rest = words;
	char *word;

	if (!words)
		return ql_error_nomem(err);
	while ((word = strsep(&rest, ",")) != NULL) {
		int r;

		if (p->n_budgets == BUDGETS)
			return ql_error_set(err, -EINVAL,
					    "--budget: %d at most", BUDGETS);
		r = parse_budget(word, &p->budgets[p->n_budgets], err);
		if (r < 0)
			return r;
		p->n_budgets++;
	}
	return 0;
}

/* "100" or "100,400,30%": Mbit/s of the registry and of peers, and how many
 * of the layers peers have. */
static int parse_links(struct plan *p, const char *text, struct ql_error *err)
{
	double v[3] = { 100, 400, 0 };
	const char *at = text;
	int n = 0;

	for (; at && n < 3; n++) {
		char *end;

		v[n] = strtod(at, &end);
		if (end == at || !(v[n] >= 0 && v[n] <= 1e7))
			break;
		end += n == 2 && *end == '%';
		at = *end == ',' ? end + 1 : *end ? "" : NULL;
	}
	if (at || n == 2 || !(v[0] > 0 && v[1] > 0 && v[2] <= 100))
		return ql_error_set(err, -EINVAL,
				    "--bandwidth %s: Mbit/s are wanted, or "
				    "MBIT,MBIT,N%%",
				    text);
	p->links = (struct ql_sim_links){ v[0], v[1], (unsigned int)v[2] };
	return 0;
}

static uint64_t budget_bytes(double budget, uint64_t footprint)
{
	return budget < 0 ? (uint64_t)((double)footprint * -budget / 100)
			  : (uint64_t)budget;
}

static int open_trace(const char *path, struct ql_stream **ret_in,
		      struct ql_error *err)
{
	_cleanup_close_ int fd = -1;
	int r;

	if (strcmp(path, "-") == 0)
		fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	else
		fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return ql_error_errno(err, -errno, "%s", path);
	r = ql_stream_from_fd(fd, ret_in, err);
	if (r == 0)
		(void)ql_take_fd(&fd);
	return r;
}

/* ---- what is printed ---- */

static double ratio(uint64_t a, uint64_t b)
{
	return b ? (double)a / (double)b : 0;
}

static json_t *result_json(const struct ql_sim_result *r)
{
	return json_pack(
		"{s:s, s:I, s:f, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:I, "
		"s:I, s:f}",
		"policy", r->policy, "budget", (json_int_t)r->budget,
		"object_hit_ratio", ratio(r->hits, r->requests),
		"byte_hit_ratio", ratio(r->hit_bytes, r->bytes), "requests",
		(json_int_t)r->requests, "hits", (json_int_t)r->hits, "bytes",
		(json_int_t)r->bytes, "hit_bytes", (json_int_t)r->hit_bytes,
		"registry_bytes", (json_int_t)r->fetched, "evictions",
		(json_int_t)r->evictions, "saved_seconds",
		(double)r->saved_ns / 1e9, "memory", (json_int_t)r->memory,
		"tracked", (json_int_t)r->tracked, "decision_ns",
		ratio(r->took_ns, r->requests));
}

static int print_json(const struct ql_sim_result *results, size_t n,
		      const struct ql_tracespool *s,
		      const struct ql_trace_counts *counts,
		      struct ql_error *err)
{
	_cleanup_json_ json_t *list = json_array();
	json_t *named = json_array();
	json_t *json;

	for (size_t i = 0; i < counts->n_named; i++)
		(void)json_array_append_new(named,
					    ql_json_text(counts->named[i]));
	for (size_t i = 0; i < n; i++)
		if (json_array_append_new(list, result_json(&results[i])) < 0)
			return ql_error_nomem(err);
	json = json_pack("{s:{s:I, s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:I, "
			 "s:I}, s:O}",
			 "trace", "lines", (json_int_t)counts->lines, "broken",
			 (json_int_t)counts->broken, "broken_lines", named,
			 "other", (json_int_t)counts->other, "late",
			 (json_int_t)counts->late, "pulls",
			 (json_int_t)counts->pulls, "requests",
			 (json_int_t)counts->requests, "other_sizes",
			 (json_int_t)counts->sizes, "layers",
			 (json_int_t)ql_tracespool_objects(s), "footprint",
			 (json_int_t)ql_tracespool_footprint(s), "results",
			 list);
	return json ? ql_out_json(json, err) : ql_error_nomem(err);
}

static void print_table(const struct ql_sim_result *results, size_t n,
			const struct ql_tracespool *s,
			const struct ql_trace_counts *counts)
{
	char a[QL_HUMAN];
	char b[QL_HUMAN];

	(void)printf("%" PRIu64 " pulls, %" PRIu64 " requests of %" PRIu64
		     " layers, %s\n\n%-14s %9s %8s %8s %10s %12s %10s\n",
		     counts->pulls, counts->requests, ql_tracespool_objects(s),
		     ql_human_bytes(ql_tracespool_footprint(s), a), "policy",
		     "budget", "objects", "bytes", "registry", "saved",
		     "evictions");
	for (size_t i = 0; i < n; i++) {
		const struct ql_sim_result *r = &results[i];

		(void)printf(
			"%-14s %9s %7.2f%% %7.2f%% %10s %10.0f s %10" PRIu64
			"\n",
			r->policy, ql_human_bytes(r->budget, a),
			100 * ratio(r->hits, r->requests),
			100 * ratio(r->hit_bytes, r->bytes),
			ql_human_bytes(r->fetched, b),
			(double)r->saved_ns / 1e9, r->evictions);
	}
}

static void warn_broken(const struct ql_trace_counts *counts)
{
	if (counts->broken == 0)
		return;
	(void)fprintf(stderr,
		      "quicklayer: cachesim: %" PRIu64
		      " broken lines were skipped\n",
		      counts->broken);
	for (size_t i = 0; i < counts->n_named; i++)
		(void)fprintf(stderr, "quicklayer: cachesim: %s\n",
			      counts->named[i]);
}

static int write_plot(const char *path, const struct ql_sim_result *results,
		      const struct plan *p, uint64_t footprint,
		      struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf svg = QL_BUF_INIT(SVG_MAX);
	_cleanup_close_ int fd = -1;
	int r = ql_sim_plot(results, p->n_names, p->n_budgets, footprint, &svg);

	if (r < 0)
		return ql_error_errno(err, r, "--plot");
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return ql_error_errno(err, -errno, "--plot %s", path);
	r = ql_write_full(fd, svg.data, svg.len);
	return r < 0 ? ql_error_errno(err, r, "--plot %s", path) : 0;
}

/* ---- */

static int run_all(const struct ql_cli *cli, const struct plan *p,
		   struct ql_tracespool *s,
		   const struct ql_trace_counts *counts, struct ql_error *err)
{
	size_t n = p->n_names * p->n_budgets;
	_cleanup_free_ struct ql_sim_result *results =
		calloc(n, sizeof(*results));
	uint64_t footprint = ql_tracespool_footprint(s);
	int r = 0;

	if (!results)
		return ql_error_nomem(err);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = ql_sim_run(s, p->names[i / p->n_budgets],
			       budget_bytes(p->budgets[i % p->n_budgets],
					    footprint),
			       &p->links, &results[i], err);
	if (r == 0 && cli->plot)
		r = write_plot(cli->plot, results, p, footprint, err);
	if (r < 0)
		return r;
	if (cli->json)
		return print_json(results, n, s, counts, err);
	print_table(results, n, s, counts);
	return 0;
}

int ql_cmd_cachesim(const struct ql_cli *cli, struct ql_error *err)
{
	__attribute__((cleanup(plan_release))) struct plan p = { 0 };
	__attribute__((cleanup(
		ql_trace_counts_release))) struct ql_trace_counts counts = {
		0
	};
	_cleanup_(ql_tracespool_freep) struct ql_tracespool *s = NULL;
	_cleanup_stream_ struct ql_stream *in = NULL;
	int r = parse_policies(&p, cli->policy, err);

	if (r == 0)
		r = parse_budgets(&p, cli->budget, err);
	if (r == 0)
		r = parse_links(&p, cli->bandwidth, err);
	if (r == 0)
		r = open_trace(cli->argv[0], &in, err);
	if (r < 0)
		return r;
	r = ql_tracespool_read(in, &counts, &s, err);
	if (r < 0)
		return ql_error_prefix(err, "%s", cli->argv[0]);
	warn_broken(&counts);
	return run_all(cli, &p, s, &counts, err);
}
