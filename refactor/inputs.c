/* SPDX-License-Identifier: Apache-2.0 */
/* The images that are refactored: into the store, whole, and opened there. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "refactor/refactor-private.h"

void ql_input_fail(struct ql_input *in, const struct ql_error *err)
{
	free(in->failed);
	in->failed = strdup(err->code ? err->text : "failed");
	in->left_out = true;
	ql_tree_close(in->tree);
	in->tree = NULL;
}

static void input_release(struct ql_input *in)
{
	ql_ref_release(&in->dest);
	free(in->failed);
	ql_image_info_release(&in->info);
	ql_tree_close(in->tree);
	ql_buf_release(&in->config);
	json_decref(in->manifest);
	ql_trace_release(&in->trace);
}

void ql_inputs_release(struct ql_inputs *inputs)
{
	for (uint32_t i = 0; i < inputs->n; i++)
		input_release(&inputs->list[i]);
	free(inputs->list);
	*inputs = (struct ql_inputs){ 0 };
}

/* ---- one image ---- */

/* Layers that only their owner may give out stay with him (OCI image-spec 1.1,
 * layer.md, "Non-Distributable Layers"). */
static int layers_check(const json_t *manifest, struct ql_error *err)
{
	const json_t *list = json_object_get(manifest, "layers"), *d;
	size_t i;

	json_array_foreach ((json_t *)list, i, d) {
		const char *type = ql_json_opt_string(d, "mediaType", "");

		if (strstr(type, ".nondistributable.") ||
		    strstr(type, ".foreign."))
			return ql_error_set(
				err, -EPERM,
				"layer %s may not be distributed "
				"(%s)",
				ql_json_opt_string(d, "digest", "?"), type);
	}
	return 0;
}

static int documents_read(struct ql_store *store, struct ql_input *in,
			  struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_MANIFEST_LEN_MAX);
	int r = ql_object_read(store, &in->info.manifest, &buf, err);

	if (r == 0)
		r = ql_json_parse(ql_buf_str(&buf), buf.len, &in->manifest,
				  err);
	if (r == 0)
		r = layers_check(in->manifest, err);
	if (r == 0)
		r = ql_object_read(store, &in->info.config, &in->config, err);
	return r;
}

static int trace_read(struct ql_store *store, struct ql_input *in,
		      struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_TRACE_MAX);
	int r = ql_image_trace_get(store, &in->info.manifest, &buf);

	if (r < 0)
		return r == -ENOENT ? 0 : ql_error_errno(err, r, "the trace");
	return ql_trace_parse(ql_buf_str(&buf), buf.len, &in->trace, err);
}

static int content_fetch(struct ql_store *store, struct ql_input *in,
			 const struct ql_refactor_options *o,
			 struct ql_error *err)
{
	const struct ql_fill_options fill = { .plain_http = o->push.plain_http,
					      .plain = true,
					      .config_dir =
						      o->push.config_dir };

	return ql_fill_needed(store, &in->info)
		       ? ql_fill_all(store, &in->info, &fill, err)
		       : 0;
}

static int input_read(struct ql_store *store, struct ql_input *in,
		      const struct ql_refactor_options *o, struct ql_error *err)
{
	const struct ql_pull_options pull = {
		.platform = o->platform,
		.plain_http = o->push.plain_http,
		.config_dir = o->push.config_dir,
		.no_index = true,
		.no_start = true,
	};
	struct ql_pull_result res;
	int r = ql_pull(store, in->ref, &pull, &res, err);

	if (r < 0)
		return r;
	r = ql_image_get(store, &res.manifest, &in->info);
	if (r < 0)
		return ql_error_errno(err, r, "%s", in->ref->name);
	r = documents_read(store, in, err);
	if (r == 0)
		r = trace_read(store, in, err);
	if (r == 0 && !o->dry_run)
		r = content_fetch(store, in, o, err);
	if (r == 0)
		r = ql_tree_open_image(store, &res.manifest, &in->tree, err);
	return r < 0 ? ql_error_prefix(err, "%s", in->ref->name) : 0;
}

/* ---- all of them ---- */

static int dest_find(const char *to, struct ql_input *in, struct ql_error *err)
{
	_cleanup_free_ char *name = NULL;
	int r = ql_dest_name(to, in->ref, &name, err);

	if (r == 0)
		r = ql_ref_parse(name, &in->dest, err);
	if (r < 0)
		return r;
	if (in->dest.kind == QL_REF_DOCKER_ARCHIVE || in->dest.has_digest)
		return ql_error_set(err, -EINVAL,
				    "%s: no place for an image with a tag",
				    in->dest.name);
	return 0;
}

/* No image may take the place of another, or of one that is read. */
static int dests_check(const struct ql_inputs *inputs, struct ql_error *err)
{
	for (uint32_t i = 0; i < inputs->n; i++) {
		const struct ql_input *a = &inputs->list[i];

		for (uint32_t k = 0; k < inputs->n; k++) {
			const struct ql_input *b = &inputs->list[k];

			/* They always have; analyzers cannot know. */
			if (!a->dest.name || !b->dest.name)
				continue;
			if (strcmp(a->dest.name, b->ref->name) == 0)
				return ql_error_set(err, -EINVAL,
						    "%s would take the place "
						    "of %s",
						    a->ref->name, b->ref->name);
			if (k < i && strcmp(a->dest.name, b->dest.name) == 0)
				return ql_error_set(err, -EINVAL,
						    "%s and %s would both be "
						    "%s",
						    b->ref->name, a->ref->name,
						    a->dest.name);
		}
	}
	return 0;
}

/* An image that is named twice is one. */
static int input_add(struct ql_inputs *inputs, const struct ql_ref *ref,
		     const char *to, struct ql_error *err)
{
	struct ql_input *in = &inputs->list[inputs->n];

	for (uint32_t i = 0; i < inputs->n; i++)
		if (strcmp(inputs->list[i].ref->name, ref->name) == 0)
			return 0;
	*in = (struct ql_input){ .ref = ref,
				 .config = QL_BUF_INIT(QL_CONFIG_LEN_MAX) };
	inputs->n++;
	return dest_find(to, in, err);
}

static int input_cmp(const void *a, const void *b)
{
	const struct ql_input *x = a, *y = b;
	int c;

	if (x->left_out != y->left_out)
		return x->left_out ? 1 : -1;
	c = ql_digest_cmp(&x->info.manifest, &y->info.manifest);
	return c ? c : strcmp(x->dest.name, y->dest.name);
}

int ql_inputs_read(struct ql_store *store, const struct ql_ref *refs,
		   uint32_t n, const char *to,
		   const struct ql_refactor_options *options,
		   struct ql_inputs *ret_inputs, struct ql_error *err)
{
	struct ql_inputs inputs = { .list = calloc(n + 1UL,
						   sizeof(*inputs.list)) };
	int r = inputs.list ? 0 : ql_error_nomem(err);

	for (uint32_t i = 0; i < n && r == 0; i++)
		r = input_add(&inputs, &refs[i], to, err);
	if (r == 0)
		r = dests_check(&inputs, err);
	for (uint32_t i = 0; i < inputs.n && r == 0; i++) {
		struct ql_error why = QL_ERROR_INIT;

		if (input_read(store, &inputs.list[i], options, &why) < 0)
			ql_input_fail(&inputs.list[i], &why);
		else
			inputs.n_good++;
		if (options->progress)
			options->progress(QL_REFACTOR_READING, i + 1, inputs.n,
					  options->arg);
	}
	if (r < 0) {
		ql_inputs_release(&inputs);
		return r;
	}
	if (inputs.n > 1)
		qsort(inputs.list, inputs.n, sizeof(*inputs.list), input_cmp);
	*ret_inputs = inputs;
	return 0;
}
