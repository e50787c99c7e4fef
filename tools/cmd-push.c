/* SPDX-License-Identifier: Apache-2.0 */
/* quicklayer push: an image from anywhere, in another format, to a registry. */
#include "tools/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fetch/fetch.h"

enum { FIRST_MAX = 16 << 20 }; /* bytes of a list of paths */

static json_t *layer_json(const struct ql_push_layer *l)
{
	return json_pack("{s:o, s:I, s:o, s:I, s:b, s:b, s:o}", "source",
			 ql_json_digest(&l->source), "source_size",
			 (json_int_t)l->source_size, "digest",
			 ql_json_digest(&l->blob), "size", (json_int_t)l->size,
			 "lazy", l->lazy, "was_there", l->there, "not_lazy",
			 ql_json_text(l->why));
}

static json_t *push_json(const char *name, const struct ql_push_result *res,
			 double seconds)
{
	json_t *layers = json_array();

	for (uint32_t i = 0; i < res->n_layers; i++)
		(void)json_array_append_new(layers,
					    layer_json(&res->layers[i]));
	return json_pack("{s:o, s:o, s:I, s:o, s:f}", "name",
			 ql_json_text(name), "digest",
			 ql_json_digest(&res->manifest), "bytes_sent",
			 (json_int_t)res->bytes_sent, "layers", layers,
			 "seconds", seconds);
}

static void push_print(const char *name, const struct ql_push_result *res,
		       double seconds)
{
	char text[QL_DIGEST_TEXT + 1];
	char a[QL_HUMAN];
	char b[QL_HUMAN];
	uint64_t from = 0;
	uint64_t to = 0;
	uint32_t there = 0;

	for (uint32_t i = 0; i < res->n_layers; i++) {
		const struct ql_push_layer *l = &res->layers[i];

		from += l->source_size;
		to += l->size;
		there += l->there;
		if (l->why)
			(void)printf("layer %u is not lazy: %s\n", i + 1,
				     l->why);
	}
	(void)printf("%s\n%s\n", name, ql_digest_text(&res->manifest, text));
	(void)printf("%u layers of %s, %s before; %u were there, ",
		     res->n_layers, ql_human_bytes(to, a),
		     ql_human_bytes(from, b), there);
	(void)printf("%s sent; %.2f s\n", ql_human_bytes(res->bytes_sent, a),
		     seconds);
}

/* The lines of a file, which text (owned) and *ret_lines (owned) then hold. */
static int lines_read(const char *path, struct ql_buf *text,
		      const char ***ret_lines, size_t *ret_n,
		      struct ql_error *err)
{
	_cleanup_free_ const char **lines = NULL;
	size_t n = 0;
	char *save = NULL;
	int r = ql_read_file(AT_FDCWD, path, text, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < text->len; i++)
		n += text->data[i] == '\n';
	lines = calloc(n + 1, sizeof(*lines));
	if (!lines)
		return ql_error_nomem(err);
	n = 0;
	for (char *s = text->len ? strtok_r(text->data, "\n", &save) : NULL; s;
	     s = strtok_r(NULL, "\n", &save))
		lines[n++] = s;
	*ret_lines = ql_take_ptr(lines);
	*ret_n = n;
	return 0;
}

static int options_parse(const struct ql_cli *cli,
			 struct ql_push_options *options, struct ql_error *err)
{
	uint64_t jobs = 0;
	int r = ql_push_options_parse(cli, options, err);

	if (r == 0)
		r = ql_number_parse("parallel", cli->parallel, 1, 16, &jobs,
				    err);
	if (r == 0 && cli->first && options->format != QL_PUSH_ESTARGZ)
		r = ql_error_set(err, -EINVAL,
				 "--first is for --format estargz");
	options->jobs = (unsigned int)jobs;
	return r;
}

static int push(const struct ql_cli *cli, struct ql_push_options *options,
		const struct ql_ref *from, const struct ql_ref *to,
		struct ql_push_result *ret_result, struct ql_error *err)
{
	struct ql_progress *progress = ql_progress_new(cli->quiet || cli->json);
	int r;

	options->progress = ql_progress_update;
	options->arg = progress;
	r = ql_push(from, to, options, ret_result, err);
	ql_progress_free(progress);
	return r;
}

int ql_cmd_push(const struct ql_cli *cli, struct ql_error *err)
{
	_cleanup_(ql_push_result_release) struct ql_push_result res = { 0 };
	_cleanup_buf_ struct ql_buf text_first = QL_BUF_INIT(FIRST_MAX);
	_cleanup_free_ const char **first = NULL;
	_cleanup_ref_ struct ql_ref from = { 0 };
	_cleanup_ref_ struct ql_ref to = { 0 };
	struct ql_push_options options = { 0 };
	_cleanup_(ql_store_closep) struct ql_store *store = NULL;
	uint64_t start = ql_now_ns();
	char text[QL_DIGEST_TEXT + 1];
	double seconds;
	int r = options_parse(cli, &options, err);

	if (r < 0)
		return ql_usage("push", err);
	/* Without a store it is pushed without what the store would know. */
	if (ql_store_open(cli->root, QL_STORE_READ, &store, NULL) == 0) {
		ql_store_close(store);
		store = NULL;
		r = ql_store_open(cli->root, QL_STORE_WRITE, &store, err);
	}
	options.store = store;
	if (r == 0)
		r = ql_ref_parse(cli->argv[0], &from, err);
	if (r == 0)
		r = ql_ref_parse(cli->argv[1], &to, err);
	if (r == 0 && cli->first)
		r = lines_read(cli->first, &text_first, &first,
			       &options.n_first, err);
	options.first = first;
	if (r == 0)
		r = push(cli, &options, &from, &to, &res, err);
	if (r < 0)
		return r;
	seconds = (double)(ql_now_ns() - start) / 1e9;
	if (cli->json)
		return ql_out_json(push_json(to.name, &res, seconds), err);
	if (cli->quiet)
		(void)printf("%s\n", ql_digest_text(&res.manifest, text));
	else
		push_print(to.name, &res, seconds);
	return 0;
}
