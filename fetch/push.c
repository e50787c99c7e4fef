/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A push: resolve the source, write and upload its layers, then configuration
 * and manifest, so that a registry never has a manifest whose blobs it lacks
 * (OCI distribution-spec 1.1, "Pushing manifests").
 */
#include "fetch/push-private.h"
#include "fetch/start-private.h"

#include <errno.h>
#include <string.h>

void ql_push_result_release(struct ql_push_result *result)
{
	for (uint32_t i = 0; i < result->n_layers; i++)
		free(result->layers[i].why);
	free(result->layers);
	*result = (struct ql_push_result){ 0 };
}

/* ---- the manifest ---- */

/* Of a format that the layer no longer has. */
static bool is_format_annotation(const char *key)
{
	static const char *const prefixes[] = {
		"io.github.containers.zstd-chunked.",
		"io.containers.zstd-chunked.",
		"containerd.io/snapshot/stargz/",
		"io.containers.estargz.",
	};

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (strncmp(key, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

/* What the source says of a layer stays, but for its format; owned. */
static int layer_annotations(const json_t *source, json_t *own,
			     json_t **ret_map, struct ql_error *err)
{
	_cleanup_json_ json_t *map = json_object();
	const char *key;
	json_t *value;

	if (!map)
		return ql_error_nomem(err);
	json_object_foreach ((json_t *)source, key, value)
		if (json_is_string(value) && !is_format_annotation(key) &&
		    json_object_set(map, key, value) < 0)
			return ql_error_nomem(err);
	if (own && json_object_update(map, own) < 0)
		return ql_error_nomem(err);
	*ret_map = ql_take_ptr(map);
	return 0;
}

static int manifest_annotations(const json_t *source,
				const struct ql_push_options *o,
				const struct ql_start_ref *start,
				json_t **ret_map, struct ql_error *err)
{
	_cleanup_json_ json_t *map = NULL;
	char text[QL_START_REF_TEXT];
	int r = layer_annotations(source, NULL, &map, err);

	/* The source's own is of other blobs. */
	if (r == 0)
		(void)json_object_del(map, QL_START_ANNOTATION);
	if (r == 0 && start &&
	    json_object_set_new(map, QL_START_ANNOTATION,
				json_string(ql_start_ref_print(start, text))) <
		    0)
		r = ql_error_nomem(err);

	for (size_t i = 0; i < o->n_annotations && r == 0; i++)
		if (json_object_set_new(map, o->annotations[i].key,
					json_string(o->annotations[i].value)) <
		    0)
			r = ql_error_set(err, -EINVAL,
					 "annotation %s: not UTF-8",
					 o->annotations[i].key);
	if (r == 0)
		*ret_map = ql_take_ptr(map);
	return r;
}

static void blobs_release(struct ql_manifest_blob *blobs, size_t n)
{
	for (size_t i = 0; i < n; i++)
		json_decref(blobs[i].annotations);
	free(blobs);
}

/* The layers' descriptors, owned. */
static int layer_blobs(const struct ql_push_work *w, const json_t *source,
		       struct ql_manifest_blob **ret_blobs,
		       struct ql_error *err)
{
	uint32_t n = w->resolved->manifest.n_layers;
	const json_t *list = json_object_get(source, "layers");
	struct ql_manifest_blob *blobs = calloc(n ? n : 1, sizeof(*blobs));
	int r = blobs ? 0 : ql_error_nomem(err);

	for (uint32_t i = 0; i < n && r == 0; i++) {
		const json_t *d = json_array_get(list, i);

		blobs[i].media_type = w->pushed[i].media_type;
		blobs[i].digest = w->layers[i].blob;
		blobs[i].size = w->layers[i].size;
		r = layer_annotations(json_object_get(d, "annotations"),
				      w->pushed[i].annotations,
				      &blobs[i].annotations, err);
	}
	if (r < 0)
		blobs_release(blobs, blobs ? n : 0);
	else
		*ret_blobs = blobs;
	return r;
}

static int manifest_make(const struct ql_push_work *w,
			 const struct ql_manifest_blob *config,
			 const struct ql_start_ref *start, struct ql_buf *buf,
			 struct ql_error *err)
{
	const struct ql_resolved *res = w->resolved;
	_cleanup_json_ json_t *source = NULL;
	_cleanup_json_ json_t *annotations = NULL;
	struct ql_manifest_blob *blobs = NULL;
	struct ql_manifest_spec spec = { .config = *config };
	int r = ql_json_parse(ql_buf_str(&res->manifest_json),
			      res->manifest_json.len, &source, err);

	if (r == 0)
		r = manifest_annotations(json_object_get(source, "annotations"),
					 w->options, start, &annotations, err);
	if (r == 0)
		r = layer_blobs(w, source, &blobs, err);
	if (r < 0)
		return r;
	spec.blobs = blobs;
	spec.n_blobs = res->manifest.n_layers;
	spec.annotations = annotations;
	r = ql_manifest_write(&spec, buf, err);
	blobs_release(blobs, spec.n_blobs);
	return r;
}

/* ---- configuration and manifest, to the destination ---- */

/* As it was, where no layer became another. */
static int config_make(const struct ql_push_work *w, struct ql_buf *buf,
		       struct ql_error *err)
{
	const struct ql_resolved *res = w->resolved;
	uint32_t n = res->manifest.n_layers;
	_cleanup_free_ struct ql_digest *ids = calloc(n ? n : 1, sizeof(*ids));
	bool same = true;
	int r;

	if (!ids)
		return ql_error_nomem(err);
	for (uint32_t i = 0; i < n; i++) {
		ids[i] = w->pushed[i].diff_id;
		same &= ql_digest_equal(&ids[i], &res->diff_ids[i]);
	}
	if (!same)
		return ql_config_write(ql_buf_str(&res->config_json),
				       res->config_json.len, ids, n, buf, err);
	r = ql_buf_add(buf, res->config_json.data, res->config_json.len);
	return r < 0 ? ql_error_nomem(err) : 0;
}

static int config_push(const struct ql_push_work *w,
		       struct ql_manifest_blob *ret_config,
		       struct ql_push_result *result, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_CONFIG_MAX * 2);
	bool there = false;
	int r = config_make(w, &buf, err);

	if (r < 0)
		return r;
	*ret_config = (struct ql_manifest_blob){ .media_type = QL_TYPE_CONFIG,
						 .size = buf.len };
	r = ql_dest_put_data(w->dest, buf.data, buf.len, w->mount,
			     &ret_config->digest, &there, err);
	if (r < 0)
		return ql_error_prefix(err, "configuration");
	if (!there)
		result->bytes_sent += buf.len;
	return 0;
}

static int image_push(struct ql_push_work *w, struct ql_push_result *result,
		      struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf manifest = QL_BUF_INIT(QL_MANIFEST_MAX);
	struct ql_manifest_blob config = { 0 };
	struct ql_start_ref start = { 0 };
	bool has_start = false, there = false;
	int r = ql_pushlayers_run(w, err);

	if (r == 0)
		r = config_push(w, &config, result, err);
	if (r == 0) {
		r = ql_start_push(w, &start, &there, err);
		has_start = r == 0;
		result->start_size = has_start ? start.size : 0;
		if (has_start && !there)
			result->bytes_sent += start.size;
		r = r == -ENOENT ? 0 : r;
	}
	if (r == 0)
		r = manifest_make(w, &config, has_start ? &start : NULL,
				  &manifest, err);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < result->n_layers; i++)
		if (!result->layers[i].there)
			result->bytes_sent += result->layers[i].size;
	if (ql_digest_of(manifest.data, manifest.len, &result->manifest) < 0)
		return ql_error_nomem(err);
	r = w->dest->ops->put_manifest(w->dest, true, manifest.data,
				       manifest.len, err);
	if (r == 0 && has_start)
		r = ql_dest_hold(w->dest, &result->manifest, manifest.len,
				 &start, err);
	return r;
}

/* ---- the source ---- */

static int source_resolve(struct ql_source *src, const struct ql_ref *ref,
			  const struct ql_push_options *options,
			  struct ql_resolved *ret, struct ql_error *err)
{
	int r = ql_resolve_manifest(src, ref, options->platform, ret, err);

	if (r == 0)
		r = ql_resolve_config(src, ret, err);
	if (r == 0 && options->platform)
		r = ql_config_check(ql_buf_str(&ret->config_json),
				    ret->config_json.len, options->platform,
				    err);
	return r;
}

static int push_run(struct ql_push_work *w, struct ql_push_result *result,
		    struct ql_error *err)
{
	uint32_t n = w->resolved->manifest.n_layers;
	int r = -ENOMEM;

	result->layers = calloc(n ? n : 1, sizeof(*result->layers));
	w->pushed = calloc(n ? n : 1, sizeof(*w->pushed));
	w->layers = result->layers;
	if (result->layers && w->pushed) {
		result->n_layers = n;
		r = image_push(w, result, err);
	} else {
		(void)ql_error_nomem(err);
	}
	for (uint32_t i = 0; w->pushed && i < n; i++)
		json_decref(w->pushed[i].annotations);
	free(w->pushed);
	return r;
}

static int push_open(const struct ql_ref *source, const struct ql_ref *dest,
		     struct ql_push_options *options,
		     struct ql_push_result *result, struct ql_error *err)
{
	const struct ql_pull_options pull = {
		.platform = options->platform,
		.plain_http = options->plain_http,
		.config_dir = options->config_dir,
	};
	_cleanup_resolved_ struct ql_resolved resolved = { 0 };
	/* Freed in the opposite order. */
	_cleanup_free_ void *keep = NULL;
	_cleanup_(ql_source_freep) struct ql_source *src = NULL;
	_cleanup_(ql_dest_freep) struct ql_dest *to = NULL;
	struct ql_push_work w = { .resolved = &resolved, .options = options };
	int r = ql_dest_open(dest, options, &to, err);

	if (r < 0)
		return ql_error_prefix(err, "%s", dest->name);
	r = ql_source_open(source, &pull, &src, err);
	if (r == 0)
		r = source_resolve(src, source, options, &resolved, err);
	if (r < 0)
		return ql_error_prefix(err, "%s", source->name);
	if (source->kind == QL_REF_REGISTRY && dest->kind == QL_REF_REGISTRY &&
	    strcmp(source->domain, dest->domain) == 0 &&
	    strcmp(source->path, dest->path) != 0)
		w.mount = source->path;
	w.src = src;
	w.dest = to;
	r = push_run(&w, result, err);
	keep = w.keep;
	return r < 0 ? ql_error_prefix(err, "%s", dest->name) : 0;
}

int ql_push(const struct ql_ref *source, const struct ql_ref *dest,
	    const struct ql_push_options *options,
	    struct ql_push_result *ret_result, struct ql_error *err)
{
	struct ql_push_options o = *options;
	struct ql_push_result result = { 0 };
	int r = ql_push_options_check(&o, err);

	if (r == 0)
		r = push_open(source, dest, &o, &result, err);
	if (r < 0) {
		ql_push_result_release(&result);
		return r;
	}
	*ret_result = result;
	return 0;
}
