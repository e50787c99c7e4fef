/* SPDX-License-Identifier: Apache-2.0 */
/* quicklayer refactor: images in, images that share more out. */
#include "tools/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "refactor/refactor.h"

/* ---- JSON ---- */

static json_t *indexes_json(const uint32_t *list, uint32_t n)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < n; i++)
		(void)json_array_append_new(array, json_integer(list[i]));
	return array;
}

static json_t *image_json(const struct ql_refactor_image *i, bool dry)
{
	bool put = !dry && !i->failed;

	return json_pack(
		"{s:o, s:o, s:o, s:o, s:o, s:I, s:o, s:I, s:I, s:I, s:I, s:I, "
		"s:I, s:I, s:I, s:I}",
		"name", ql_json_text(i->name), "to", ql_json_text(i->dest),
		"error", ql_json_text(i->failed), "source",
		ql_json_digest(&i->source), "digest",
		put ? ql_json_digest(&i->manifest) : json_null(),
		"source_layers", (json_int_t)i->source_layers, "layers",
		indexes_json(i->layers, i->n_layers), "content",
		(json_int_t)i->content, "own_content", (json_int_t)i->own,
		"cold_pull_before", (json_int_t)i->cold_before,
		"cold_pull_after", (json_int_t)i->cold_after,
		"warm_pull_before", (json_int_t)i->warm_before,
		"warm_pull_after", (json_int_t)i->warm_after,
		"redundant_before", (json_int_t)i->redundant_before,
		"redundant_after", (json_int_t)i->redundant_after, "start_size",
		(json_int_t)i->start_size);
}

static json_t *layer_json(const struct ql_refactor_layer *l, bool dry)
{
	return json_pack("{s:o, s:o, s:o, s:I, s:I, s:I, s:b, s:b, s:b}",
			 "digest", dry ? json_null() : ql_json_digest(&l->blob),
			 "diff_id",
			 dry ? json_null() : ql_json_digest(&l->diff_id),
			 "images", indexes_json(l->images, l->n_images),
			 "entries", (json_int_t)l->units, "content",
			 (json_int_t)l->content, "size", (json_int_t)l->size,
			 "kept", l->kept, "was_there", l->there, "lazy",
			 l->lazy);
}

static json_t *result_json(const struct ql_refactor_result *res, double seconds)
{
	json_t *images = json_array(), *layers = json_array();

	for (uint32_t i = 0; i < res->n_images; i++)
		(void)json_array_append_new(images, image_json(&res->images[i],
							       res->dry_run));
	for (uint32_t i = 0; i < res->n_layers; i++)
		(void)json_array_append_new(layers, layer_json(&res->layers[i],
							       res->dry_run));
	return json_pack("{s:o, s:o, s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:I, "
			 "s:I, s:I, s:f}",
			 "images", images, "layers", layers, "dry_run",
			 res->dry_run, "before_unknown", res->before_unknown,
			 "layers_before", (json_int_t)res->layers_before,
			 "registry_before", (json_int_t)res->blobs_before,
			 "registry_after", (json_int_t)res->blobs_after,
			 "content_before", (json_int_t)res->content_before,
			 "content_after", (json_int_t)res->content_after,
			 "content_bound", (json_int_t)res->bound,
			 "content_input", (json_int_t)res->input, "bytes_sent",
			 (json_int_t)res->bytes_sent, "seconds", seconds);
}

/* ---- the table ---- */

static const char *base_name(const char *name)
{
	const char *slash = strrchr(name, '/');

	return slash ? slash + 1 : name;
}

static void images_print(const struct ql_refactor_result *res)
{
	(void)printf("%-28s %7s %10s %10s %10s %10s %10s\n", "IMAGE", "LAYERS",
		     "CONTENT", "PULL COLD", "(BEFORE)", "PULL WARM",
		     "(BEFORE)");
	for (uint32_t i = 0; i < res->n_images; i++) {
		const struct ql_refactor_image *im = &res->images[i];
		char content[QL_HUMAN], cold[QL_HUMAN], before[QL_HUMAN];
		char warm[QL_HUMAN], warm_before[QL_HUMAN], layers[24];

		if (im->failed) {
			(void)printf("%-28s failed\n", base_name(im->name));
			continue;
		}
		(void)snprintf(layers, sizeof(layers), "%u>%u",
			       im->source_layers, im->n_layers);
		(void)printf(
			"%-28s %7s %10s %10s %10s %10s %10s\n",
			base_name(im->name), layers,
			ql_human_bytes(im->content, content),
			res->dry_run ? "?"
				     : ql_human_bytes(im->cold_after, cold),
			ql_human_bytes(im->cold_before, before),
			res->dry_run ? "?"
				     : ql_human_bytes(im->warm_after, warm),
			ql_human_bytes(im->warm_before, warm_before));
	}
}

/* By how many images share them. */
static void layers_print(const struct ql_refactor_result *res)
{
	(void)printf("\n%7s %7s %10s %8s\n", "IMAGES", "LAYERS", "CONTENT",
		     "PART");
	for (uint32_t n = res->n_images; n > 0; n--) {
		uint64_t content = 0;
		uint32_t layers = 0;
		char text[QL_HUMAN];

		for (uint32_t i = 0; i < res->n_layers; i++) {
			if (res->layers[i].n_images != n)
				continue;
			layers++;
			content += res->layers[i].content;
		}
		if (layers > 0)
			(void)printf(
				"%7u %7u %10s %7.1f%%\n", n, layers,
				ql_human_bytes(content, text),
				res->content_after
					? 100.0 * (double)content /
						  (double)res->content_after
					: 0.0);
	}
}

static void sums_print(const struct ql_refactor_result *res, double seconds)
{
	uint64_t before = res->content_before > res->bound
				  ? res->content_before - res->bound
				  : 0;
	uint64_t after = res->content_after - res->bound;
	char a[QL_HUMAN], b[QL_HUMAN], c[QL_HUMAN];

	(void)printf("\ncontent of layers: %s, %s before; each file once: %s\n",
		     ql_human_bytes(res->content_after, a),
		     ql_human_bytes(res->content_before, b),
		     ql_human_bytes(res->bound, c));
	if (res->n_failed > 0)
		(void)printf("what was before includes the images that "
			     "failed\n");
	if (res->before_unknown)
		(void)printf("not all is known of what was before: images "
			     "came by a start blob\n");
	(void)printf("redundant: %s, %s before", ql_human_bytes(after, a),
		     ql_human_bytes(before, b));
	if (after > 0)
		(void)printf(" (%.2f times as much)",
			     (double)before / (double)after);
	(void)printf("\n");
	if (res->dry_run)
		return;
	(void)printf("registry: %s, %s before (%.1f %% less); %s sent; "
		     "%.2f s\n",
		     ql_human_bytes(res->blobs_after, a),
		     ql_human_bytes(res->blobs_before, b),
		     res->blobs_before
			     ? 100 - 100.0 * (double)res->blobs_after /
					       (double)res->blobs_before
			     : 0.0,
		     ql_human_bytes(res->bytes_sent, c), seconds);
}

/* ---- the command ---- */

static void on_progress(enum ql_refactor_step step, uint32_t done, uint32_t of,
			void *arg)
{
	static const char *const what[] = {
		[QL_REFACTOR_READING] = "images read",
		[QL_REFACTOR_WRITING] = "layers written",
		[QL_REFACTOR_PROVING] = "images proved",
	};
	bool terminal = *(const bool *)arg;

	if (terminal)
		(void)fprintf(stderr, "\r%u of %u %s%s", done, of, what[step],
			      done == of ? "\n" : "");
	else if (done == of)
		(void)fprintf(stderr, "%u %s\n", done, what[step]);
}

static int options_parse(const struct ql_cli *cli,
			 struct ql_refactor_options *o, struct ql_error *err)
{
	uint64_t jobs = 0, layers = 0;
	int r = 0;

	if (!cli->to)
		r = ql_error_set(err, -EINVAL, "--to says where they go");
	if (r == 0 && cli->relax && strcmp(cli->relax, "mtime") != 0)
		r = ql_error_set(err, -EINVAL,
				 "--relax %s: only mtime can be relaxed",
				 cli->relax);
	if (r == 0)
		r = ql_push_options_parse(cli, &o->push, err);
	if (r == 0)
		r = ql_number_parse("parallel", cli->parallel, 1, 64, &jobs,
				    err);
	if (r == 0)
		r = ql_number_parse("max-layers", cli->max_layers, 1,
				    QL_IMAGE_LAYERS_MAX, &layers, err);
	o->platform = cli->platform;
	o->jobs = (unsigned int)jobs;
	o->max_layers = (uint32_t)layers;
	o->any_mtime = cli->relax != NULL;
	o->dry_run = cli->dry_run;
	o->again = cli->incremental;
	return r;
}

static int picture_write(const char *path, const struct ql_refactor_result *res,
			 struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(0);
	_cleanup_close_ int fd = -1;
	int r = ql_refactor_picture(res, &buf, err);

	if (r < 0)
		return r;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		return ql_error_errno(err, -errno, "%s", path);
	r = ql_write_full(fd, buf.data, buf.len);
	return r < 0 ? ql_error_errno(err, r, "%s", path) : 0;
}

static int refs_parse(const struct ql_cli *cli, struct ql_ref **ret_refs,
		      struct ql_error *err)
{
	struct ql_ref *refs = calloc((size_t)cli->argc + 1, sizeof(*refs));
	int r = refs ? 0 : ql_error_nomem(err);

	for (int i = 0; i < cli->argc && r == 0; i++)
		r = ql_ref_parse(cli->argv[i], &refs[i], err);
	*ret_refs = refs;
	return r;
}

static int refactor(const struct ql_cli *cli,
		    const struct ql_refactor_options *options,
		    struct ql_refactor_result *ret_result, struct ql_error *err)
{
	_cleanup_(ql_store_closep) struct ql_store *store = NULL;
	struct ql_ref *refs = NULL;
	int r = refs_parse(cli, &refs, err);

	if (r == 0)
		r = ql_store_open(cli->root, QL_STORE_WRITE, &store, err);
	if (r == 0)
		r = ql_refactor(store, refs, (uint32_t)cli->argc, cli->to,
				options, ret_result, err);
	for (int i = 0; refs && i < cli->argc; i++)
		ql_ref_release(&refs[i]);
	free(refs);
	return r;
}

static int result_print(const struct ql_cli *cli,
			const struct ql_refactor_result *res, double seconds,
			struct ql_error *err)
{
	char text[QL_DIGEST_TEXT + 1];

	for (uint32_t i = 0; i < res->n_images; i++)
		if (res->images[i].failed)
			(void)fprintf(stderr, "quicklayer: refactor: %s\n",
				      res->images[i].failed);
	if (cli->json)
		return ql_out_json(result_json(res, seconds), err);
	for (uint32_t i = 0; i < res->n_images && cli->quiet; i++)
		if (!res->images[i].failed && !res->dry_run)
			(void)printf("%s\n",
				     ql_digest_text(&res->images[i].manifest,
						    text));
	if (cli->quiet)
		return 0;
	images_print(res);
	layers_print(res);
	sums_print(res, seconds);
	return 0;
}

int ql_cmd_refactor(const struct ql_cli *cli, struct ql_error *err)
{
	_cleanup_(ql_refactor_result_release) struct ql_refactor_result res = {
		0
	};
	struct ql_refactor_options options = { 0 };
	bool terminal = isatty(STDERR_FILENO) == 1;
	uint64_t start = ql_now_ns();
	int r = options_parse(cli, &options, err);

	if (r < 0)
		return ql_usage("refactor", err);
	if (!cli->quiet && !cli->json) {
		options.progress = on_progress;
		options.arg = &terminal;
	}
	r = refactor(cli, &options, &res, err);
	if (r == 0)
		r = result_print(cli, &res, (double)(ql_now_ns() - start) / 1e9,
				 err);
	if (r == 0 && cli->picture)
		r = picture_write(cli->picture, &res, err);
	if (r < 0)
		return r;
	return res.n_failed > 0 ? QL_EXIT_FAILED : QL_EXIT_OK;
}
