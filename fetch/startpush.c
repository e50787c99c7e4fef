/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pushing start blobs: beside an image that is pushed (which names it in an
 * annotation of its own), or as an artifact that refers to an image which
 * stays as it is.  Either way an artifact's manifest holds the blob, so that
 * no registry collects it as garbage, and says in its annotation what the
 * image's would: who lists the referrers needs no other request to know it.
 */
#include "fetch/push-private.h"
#include "fetch/start-private.h"

#include <errno.h>
#include <string.h>

#define START_BLOB_MAX ((size_t)1 << 30)

/* ---- composing ---- */

struct tocs {
	struct ql_toc **items; /* owned */
	size_t n;
};

static void tocs_release(struct tocs *tocs)
{
	for (size_t i = 0; i < tocs->n; i++)
		ql_toc_close(tocs->items[i]);
	free(tocs->items);
}

/* Uppermost first. */
static int tocs_open(const struct ql_store *store,
		     const struct ql_digest *blobs, uint32_t n,
		     struct tocs *tocs, struct ql_error *err)
{
	char text[QL_DIGEST_TEXT + 1];

	tocs->items = calloc(n + 1UL, sizeof(struct ql_toc *));
	if (!tocs->items)
		return ql_error_nomem(err);
	for (uint32_t i = n; i-- > 0; tocs->n++) {
		int r = ql_toc_open_blob(store, &blobs[i],
					 &tocs->items[tocs->n], err);

		if (r == -ENOENT)
			return ql_error_set(err, r,
					    "layer %s has no table of "
					    "contents here; a pull --full of "
					    "the image makes one",
					    ql_digest_text(&blobs[i], text));
		if (r < 0)
			return r;
	}
	return 0;
}

static int trace_load(const struct ql_store *store,
		      const struct ql_digest *manifest,
		      struct ql_trace *ret_trace, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_TRACE_MAX);
	int r = ql_image_trace_get(store, manifest, &buf);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return ql_error_errno(err, r, "the image's trace");
	return ql_trace_parse(ql_buf_str(&buf), buf.len, ret_trace, err);
}

/* manifest: of the image in the store whose tree, configuration and trace are
 * taken; blobs: the layers', lowest first. */
static int start_make(struct ql_store *store, const struct ql_digest *manifest,
		      const struct ql_digest *blobs, uint32_t n,
		      struct ql_buf *ret_blob, struct ql_start_ref *ret_ref,
		      struct ql_error *err)
{
	_cleanup_(tocs_release) struct tocs tocs = { 0 };
	_cleanup_(ql_trace_release) struct ql_trace trace = { 0 };
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	_cleanup_buf_ struct ql_buf config = QL_BUF_INIT(QL_CONFIG_MAX);
	struct ql_start_input in = { .store = store };
	int r = ql_image_get(store, manifest, &info);

	if (r < 0)
		return ql_error_errno(err, r, "image");
	r = ql_tree_open_image(store, manifest, &tree, err);
	if (r == 0)
		r = ql_object_read(store, &info.config, &config, err);
	if (r == 0)
		r = tocs_open(store, blobs, n, &tocs, err);
	if (r == 0)
		r = trace_load(store, manifest, &trace, err);
	if (r < 0)
		return r;
	in.tree = tree;
	in.config = ql_buf_str(&config);
	in.config_len = config.len;
	in.tocs = tocs.items;
	in.n_tocs = tocs.n;
	in.trace = &trace;
	return ql_start_write(&in, ret_blob, ret_ref, err);
}

/* ---- the artifact ---- */

static int put_empty(struct ql_registry *reg, struct ql_manifest_blob *config,
		     struct ql_error *err)
{
	struct ql_push_blob blob = { .data = "{}", .size = 2, .fd = -1 };
	bool there;

	if (ql_digest_of("{}", 2, &blob.digest) < 0)
		return ql_error_nomem(err);
	/* Not QL_TYPE_EMPTY: there are registries whose list of referrers has
	 * this type for the artifact's, and not the manifest's own. */
	*config = (struct ql_manifest_blob){ .media_type = QL_START_ARTIFACT,
					     .digest = blob.digest,
					     .size = 2 };
	return ql_registry_put_blob(reg, &blob, &there, err);
}

int ql_start_refer(struct ql_registry *reg, const struct ql_digest *manifest,
		   uint64_t manifest_size, const struct ql_start_ref *ref,
		   struct ql_error *err)
{
	char text[QL_START_REF_TEXT];
	_cleanup_json_ json_t *notes = json_pack("{s:s}", QL_START_ANNOTATION,
						 ql_start_ref_print(ref, text));
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_MANIFEST_MAX);
	struct ql_manifest_blob blob = { .media_type = QL_START_MEDIA_TYPE,
					 .digest = ref->blob,
					 .size = ref->size };
	struct ql_manifest_blob subject = { .media_type = QL_TYPE_MANIFEST,
					    .digest = *manifest,
					    .size = manifest_size };
	struct ql_manifest_blob own = { .media_type = QL_TYPE_MANIFEST,
					.annotations = notes,
					.artifact_type = QL_START_ARTIFACT };
	struct ql_manifest_spec spec = { .artifact_type = QL_START_ARTIFACT,
					 .blobs = &blob,
					 .n_blobs = 1,
					 .subject = &subject,
					 .annotations = notes };
	int r = notes ? put_empty(reg, &spec.config, err) : ql_error_nomem(err);

	if (r == 0)
		r = ql_manifest_write(&spec, &buf, err);
	if (r < 0)
		return r;
	if (ql_digest_of(buf.data, buf.len, &own.digest) < 0)
		return ql_error_nomem(err);
	own.size = buf.len;
	r = ql_registry_put_manifest(reg, NULL, QL_TYPE_MANIFEST, buf.data,
				     buf.len, err);
	return r < 0 ? r : ql_registry_refer(reg, manifest, &own, err);
}

/* ---- with a push ---- */

struct dest_range {
	struct ql_source *src;	       /* borrowed */
	const struct ql_descriptor *d; /* borrowed */
};

static int dest_read(void *arg, uint64_t offset, uint64_t len,
		     struct ql_buf *buf, struct ql_error *err)
{
	const struct dest_range *range = arg;
	_cleanup_stream_ struct ql_stream *in = NULL;
	int r = range->src->ops->open_range(range->src, range->d, offset, len,
					    &in, err);
	ssize_t n;

	if (r < 0)
		return r;
	if (ql_buf_reserve(buf, (size_t)len) < 0)
		return ql_error_nomem(err);
	n = ql_stream_read_full(in, buf->data + buf->len, (size_t)len, err);
	if (n > 0)
		buf->len += (size_t)n;
	return n < 0 ? (int)n : 0;
}

/* Where the files of a layer lie in the blob that was pushed. */
static int layer_table(struct ql_store *store, struct ql_source *src,
		       const struct ql_push_work *w, uint32_t i,
		       struct ql_error *err)
{
	struct ql_manifest_blob blob = { .media_type = w->pushed[i].media_type,
					 .digest = w->layers[i].blob,
					 .size = w->layers[i].size,
					 .annotations =
						 w->pushed[i].annotations };
	struct ql_layer_info info = { .diff_id = w->pushed[i].diff_id };
	_cleanup_descriptor_ struct ql_descriptor d = { 0 };
	struct dest_range range = { src, &d };
	_cleanup_json_ json_t *obj = NULL;
	int r = ql_manifest_descriptor(&blob, &obj, err);

	if (r == 0)
		r = ql_descriptor_parse(obj, &d, err);
	if (r == 0)
		r = ql_lazylayer_open(store, &d, dest_read, &range, &info, err);
	return r;
}

static int layer_tables(struct ql_store *store, const struct ql_ref *dest,
			const struct ql_push_work *w, struct ql_error *err)
{
	const struct ql_pull_options options = {
		.plain_http = w->options->plain_http,
		.config_dir = w->options->config_dir,
	};
	_cleanup_(ql_source_freep) struct ql_source *src = NULL;
	int r = ql_source_open(dest, &options, &src, err);

	for (uint32_t i = 0; i < w->resolved->manifest.n_layers && r == 0;
	     i++) {
		struct ql_toc *toc;

		if (ql_toc_open_blob(store, &w->layers[i].blob, &toc, NULL) ==
		    0)
			ql_toc_close(toc);
		else
			r = layer_table(store, src, w, i, err);
	}
	return r;
}

static int start_push(struct ql_store *store, const struct ql_ref *dest,
		      const struct ql_push_work *w,
		      struct ql_start_ref *ret_ref, bool *ret_there,
		      struct ql_error *err)
{
	uint32_t n = w->resolved->manifest.n_layers;
	_cleanup_free_ struct ql_digest *blobs =
		calloc(n + 1UL, sizeof(*blobs));
	_cleanup_buf_ struct ql_buf data = QL_BUF_INIT(START_BLOB_MAX);
	struct ql_push_blob blob = { .fd = -1, .mount = w->mount };
	int r = blobs ? layer_tables(store, dest, w, err) : ql_error_nomem(err);

	for (uint32_t i = 0; i < n && r == 0; i++)
		blobs[i] = w->layers[i].blob;
	if (r == 0)
		r = start_make(store, &w->resolved->digest, blobs, n, &data,
			       ret_ref, err);
	if (r < 0)
		return r;
	blob.digest = ret_ref->blob;
	blob.data = data.data;
	blob.size = data.len;
	return w->dest->ops->put_blob(w->dest, &blob, ret_there, err);
}

int ql_start_push(const struct ql_push_work *w, const struct ql_ref *dest,
		  struct ql_start_ref *ret_ref, bool *ret_there,
		  struct ql_error *err)
{
	struct ql_store *store = w->options->store;
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	_cleanup_close_ int lock = -1;
	int r;

	/* What is not known here, or is of another format, has none. */
	if (!store || w->options->format != QL_PUSH_ZSTD_CHUNKED ||
	    ql_image_get(store, &w->resolved->digest, &info) < 0)
		return -ENOENT;
	r = ql_store_lock(store, false, &lock, err);
	if (r == 0)
		r = start_push(store, dest, w, ret_ref, ret_there, err);
	return r < 0 ? ql_error_prefix(err, "start blob") : 0;
}

/* ---- for an image as it is ---- */

static int image_blobs(struct ql_store *store, const struct ql_digest *digest,
		       struct ql_digest **ret_blobs, uint32_t *ret_n,
		       uint64_t *ret_size, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_MANIFEST_MAX);
	_cleanup_manifest_ struct ql_manifest manifest = { 0 };
	struct ql_digest *blobs;
	int r = ql_object_read(store, digest, &buf, err);

	if (r == 0)
		r = ql_manifest_parse(ql_buf_str(&buf), buf.len, &manifest,
				      err);
	if (r < 0)
		return r;
	blobs = calloc(manifest.n_layers + 1UL, sizeof(*blobs));
	if (!blobs)
		return ql_error_nomem(err);
	for (uint32_t i = 0; i < manifest.n_layers; i++)
		blobs[i] = manifest.layers[i].digest;
	*ret_blobs = blobs;
	*ret_n = manifest.n_layers;
	*ret_size = buf.len;
	return 0;
}

static int index_put(const struct ql_ref *ref,
		     const struct ql_pull_options *options,
		     const struct ql_digest *manifest, uint64_t manifest_size,
		     const struct ql_buf *data, const struct ql_start_ref *sref,
		     struct ql_error *err)
{
	_cleanup_(ql_source_freep) struct ql_source *src = NULL;
	struct ql_push_blob blob = { .digest = sref->blob,
				     .data = data->data,
				     .size = data->len,
				     .fd = -1 };
	bool there;
	int r;

	if (ref->kind != QL_REF_REGISTRY)
		return ql_error_set(err, -EINVAL,
				    "an index is pushed to a registry");
	r = ql_registry_open(ref, options, &src, err);
	if (r == 0)
		r = ql_registry_put_blob((struct ql_registry *)src, &blob,
					 &there, err);
	if (r == 0)
		r = ql_start_refer((struct ql_registry *)src, manifest,
				   manifest_size, sref, err);
	return r;
}

int ql_index_image(struct ql_store *store, const struct ql_digest *manifest,
		   const struct ql_ref *push_to,
		   const struct ql_pull_options *options,
		   struct ql_index_result *ret_result, struct ql_error *err)
{
	_cleanup_free_ struct ql_digest *blobs = NULL;
	_cleanup_buf_ struct ql_buf data = QL_BUF_INIT(START_BLOB_MAX);
	struct ql_start_ref ref = { 0 };
	uint64_t manifest_size = 0;
	uint32_t n = 0;
	int r = image_blobs(store, manifest, &blobs, &n, &manifest_size, err);

	if (r == 0)
		r = start_make(store, manifest, blobs, n, &data, &ref, err);
	if (r == 0 && push_to)
		r = index_put(push_to, options, manifest, manifest_size, &data,
			      &ref, err);
	if (r < 0)
		return r;
	*ret_result = (struct ql_index_result){ .blob = ref.blob,
						.size = ref.size,
						.head_size = ref.head_size };
	return 0;
}
