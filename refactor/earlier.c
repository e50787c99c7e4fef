/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What earlier runs have made: the layers of the images that the destinations
 * have now.  They are read into a store of their own, by their tables of
 * contents where they have them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "refactor/refactor-private.h"

void ql_earlier_release(struct ql_earlier *e)
{
	for (uint32_t i = 0; i < e->n; i++) {
		ql_tree_close(e->list[i].tree);
		ql_blob_free(e->list[i].blob);
	}
	free(e->list);
	if (e->store)
		ql_store_close(e->store);
	ql_lockdir_release(&e->dir);
	*e = (struct ql_earlier){ 0 };
}

/* ---- one layer ---- */

#define LAYER "application/vnd.oci.image.layer.v1.tar"

/* Is it of the format that is wanted now?  Others' types, Docker's among them,
 * have no place in an OCI image. */
static bool layer_fits(const json_t *d, enum ql_push_format format)
{
	const char *type = ql_json_opt_string(d, "mediaType", "");
	bool stargz = json_object_get(json_object_get(d, "annotations"),
				      "containerd.io/snapshot/stargz/"
				      "toc.digest") != NULL;

	if (format == QL_PUSH_ZSTD_CHUNKED)
		return strcmp(type, LAYER "+zstd") == 0;
	return strcmp(type, LAYER "+gzip") == 0 &&
	       stargz == (format == QL_PUSH_ESTARGZ);
}

static int layer_add(struct ql_earlier *e, uint32_t at,
		     const struct ql_digest *diff_id, const json_t *d,
		     struct ql_error *err)
{
	struct ql_earlier_layer *grown, *l;
	int r;

	for (uint32_t i = 0; i < e->n; i++)
		if (ql_digest_equal(&ql_blob_info(e->list[i].blob)->diff_id,
				    diff_id))
			return 0;
	if (e->n == e->cap) {
		uint32_t cap = e->cap ? e->cap * 2 : 64;

		grown = reallocarray(e->list, cap, sizeof(*grown));
		if (!grown)
			return ql_error_nomem(err);
		e->list = grown;
		e->cap = cap;
	}
	l = &e->list[e->n];
	*l = (struct ql_earlier_layer){ .at = at };
	r = ql_blob_known(d, diff_id, &l->blob, err);
	if (r == 0)
		r = ql_tree_open_layer(e->store, diff_id, &l->tree, err);
	if (r < 0)
		ql_blob_free(l->blob);
	else
		e->n++;
	return r;
}

/* ---- one image ---- */

static int image_layers(struct ql_run *run, uint32_t at,
			const struct ql_digest *manifest, struct ql_error *err)
{
	struct ql_earlier *e = &run->earlier;
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_MANIFEST_LEN_MAX);
	_cleanup_json_ json_t *doc = NULL;
	json_t *layers = NULL;
	int r = ql_image_get(e->store, manifest, &info);

	if (r < 0)
		return ql_error_errno(err, r, "image");
	r = ql_object_read(e->store, manifest, &buf, err);
	if (r == 0)
		r = ql_json_parse(ql_buf_str(&buf), buf.len, &doc, err);
	if (r == 0)
		r = ql_json_get_array(doc, "layers", &layers, err);
	for (uint32_t i = 0; i < info.n_layers && r == 0; i++) {
		const json_t *d = json_array_get(layers, i);

		if (layer_fits(d, run->push.format))
			r = layer_add(e, at, &info.layers[i], d, err);
	}
	return r;
}

static int image_read(struct ql_run *run, uint32_t at, struct ql_error *err)
{
	const struct ql_ref *dest = &run->inputs.list[at].dest;
	const struct ql_pull_options pull = {
		.plain_http = run->push.plain_http,
		.config_dir = run->push.config_dir,
		.lazy = true,
		.no_start = true,
		.no_index = true,
	};
	struct ql_pull_result res;
	struct ql_error why = QL_ERROR_INIT;
	int r = ql_pull(run->earlier.store, dest, &pull, &res, &why);

	/* Nothing there, or no image. */
	if (r == -ENOENT || r == -EOPNOTSUPP)
		return 0;
	if (r < 0) {
		if (err)
			*err = why;
		return r;
	}
	return image_layers(run, at, &res.manifest, err);
}

int ql_earlier_read(struct ql_run *run, struct ql_error *err)
{
	struct ql_earlier *e = &run->earlier;
	_cleanup_free_ char *root = NULL;
	int r = ql_lockdir_new(run->push.tmp_dir, QL_REFACTOR_DIR, NULL,
			       &e->dir, err);

	if (r < 0)
		return r;
	root = ql_path_join(e->dir.path, "earlier");
	if (!root)
		return ql_error_nomem(err);
	r = ql_store_open(root, QL_STORE_WRITE, &e->store, err);
	for (uint32_t i = 0; i < run->inputs.n_good && r == 0; i++)
		r = image_read(run, i, err);
	return r;
}
