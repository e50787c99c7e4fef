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
	struct ql_buf *bufs;   /* owned; that they are in, or NULL */
	size_t n;
};

static void tocs_release(struct tocs *tocs)
{
	for (size_t i = 0; i < tocs->n; i++) {
		ql_toc_close(tocs->items[i]);
		if (tocs->bufs)
			ql_buf_release(&tocs->bufs[i]);
	}
	free(tocs->items);
	free(tocs->bufs);
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

/* An image of the store: what a start blob takes of it. */
struct stored {
	struct ql_trace trace; /* owned, as these */
	struct ql_tree *tree;
	struct ql_buf config;
};

static void stored_release(struct stored *st)
{
	ql_trace_release(&st->trace);
	ql_tree_close(st->tree);
	ql_buf_release(&st->config);
}

static int stored_open(struct ql_store *store, const struct ql_digest *manifest,
		       struct stored *st, struct ql_error *err)
{
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	int r = ql_image_get(store, manifest, &info);

	if (r < 0)
		return ql_error_errno(err, r, "image");
	ql_buf_init(&st->config, QL_CONFIG_MAX);
	r = ql_tree_open_image(store, manifest, &st->tree, err);
	if (r == 0)
		r = ql_object_read(store, &info.config, &st->config, err);
	return r < 0 ? r : trace_load(store, manifest, &st->trace, err);
}

/* manifest: of the image in the store whose tree, configuration and trace are
 * taken; blobs: the layers', lowest first. */
static int start_make(struct ql_store *store, const struct ql_digest *manifest,
		      const struct ql_digest *blobs, uint32_t n,
		      struct ql_buf *ret_blob, struct ql_start_ref *ret_ref,
		      struct ql_error *err)
{
	_cleanup_(tocs_release) struct tocs tocs = { 0 };
	_cleanup_(stored_release) struct stored st = { 0 };
	struct ql_start_input in = { .store = store, .trace = &st.trace };
	int r = stored_open(store, manifest, &st, err);

	if (r == 0)
		r = tocs_open(store, blobs, n, &tocs, err);
	if (r < 0)
		return r;
	in.tree = st.tree;
	in.config = ql_buf_str(&st.config);
	in.config_len = st.config.len;
	in.tocs = tocs.items;
	in.n_tocs = tocs.n;
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

struct layer_range {
	const struct ql_start_layer *layer; /* borrowed, as these */
	struct ql_source *src;
	const struct ql_descriptor *d;
};

static int layer_read(void *arg, uint64_t offset, uint64_t len,
		      struct ql_buf *buf, struct ql_error *err)
{
	const struct layer_range *range = arg;
	_cleanup_stream_ struct ql_stream *in = NULL;
	ssize_t n;
	int r = range->layer->fd < 0
			? range->src->ops->open_range(range->src, range->d,
						      offset, len, &in, err)
			: ql_filestream_new(range->layer->fd, offset, len, &in,
					    err);

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
		       const struct ql_start_layer *l, struct ql_buf *buf,
		       struct ql_toc **ret_toc, struct ql_error *err)
{
	_cleanup_descriptor_ struct ql_descriptor d = { 0 };
	struct layer_range range = { l, src, &d };
	_cleanup_json_ json_t *obj = NULL;
	int r = ql_manifest_descriptor(&l->blob, &obj, err);

	if (r == 0)
		r = ql_descriptor_parse(obj, &d, err);
	if (r == 0)
		r = ql_lazylayer_toc(store, &d, layer_read, &range, buf, err);
	return r < 0 ? r : ql_toc_open_mem(buf->data, buf->len, ret_toc, err);
}

/* Uppermost first. */
static int layer_tables(const struct ql_start_image *im, struct ql_source *src,
			struct tocs *tocs, struct ql_error *err)
{
	tocs->items = calloc(im->n_layers + 1UL, sizeof(*tocs->items));
	tocs->bufs = calloc(im->n_layers + 1UL, sizeof(*tocs->bufs));
	if (!tocs->items || !tocs->bufs)
		return ql_error_nomem(err);
	for (uint32_t i = im->n_layers; i-- > 0;) {
		size_t at = tocs->n++;
		int r;

		ql_buf_init(&tocs->bufs[at], START_BLOB_MAX);
		r = layer_table(im->store, src, &im->layers[i], &tocs->bufs[at],
				&tocs->items[at], err);
		if (r < 0)
			return r;
	}
	return 0;
}

int ql_start_put(const struct ql_start_image *image, struct ql_dest *dest,
		 const char *mount, struct ql_start_ref *ret_ref,
		 bool *ret_there, struct ql_error *err)
{
	_cleanup_(tocs_release) struct tocs tocs = { 0 };
	_cleanup_buf_ struct ql_buf data = QL_BUF_INIT(START_BLOB_MAX);
	struct ql_start_input in = {
		.store = image->store,
		.tree = image->tree,
		.config = image->config,
		.config_len = image->config_len,
		.trace = image->trace,
	};
	int r = layer_tables(image, dest->ops->source(dest), &tocs, err);

	in.tocs = tocs.items;
	in.n_tocs = tocs.n;
	if (r == 0)
		r = ql_start_write(&in, &data, ret_ref, err);
	return r < 0 ? r
		     : ql_dest_put_data(dest, data.data, data.len, mount,
					&ret_ref->blob, ret_there, err);
}

static int start_push(struct ql_store *store, const struct ql_push_work *w,
		      struct ql_start_ref *ret_ref, bool *ret_there,
		      struct ql_error *err)
{
	uint32_t n = w->resolved->manifest.n_layers;
	_cleanup_free_ struct ql_start_layer *layers =
		calloc(n + 1UL, sizeof(*layers));
	_cleanup_(stored_release) struct stored st = { 0 };
	struct ql_start_image im = { .store = store,
				     .trace = &st.trace,
				     .layers = layers,
				     .n_layers = n };
	int r = layers ? stored_open(store, &w->resolved->digest, &st, err)
		       : ql_error_nomem(err);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < n; i++)
		layers[i] = (struct ql_start_layer){
			.blob = { .media_type = w->pushed[i].media_type,
				  .digest = w->layers[i].blob,
				  .size = w->layers[i].size,
				  .annotations = w->pushed[i].annotations },
			.fd = -1,
		};
	im.tree = st.tree;
	im.config = ql_buf_str(&st.config);
	im.config_len = st.config.len;
	return ql_start_put(&im, w->dest, w->mount, ret_ref, ret_there, err);
}

int ql_start_push(const struct ql_push_work *w, struct ql_start_ref *ret_ref,
		  bool *ret_there, struct ql_error *err)
{
	struct ql_store *store = w->options->store;
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	_cleanup_close_ int lock = -1;
	int r;

	/* What is not known here, or is of another format, has none. */
	if (!store || w->options->format != QL_PUSH_ZSTD_CHUNKED ||
	    ql_image_get(store, &w->resolved->digest, &info) < 0)
		return -ENOENT;
	for (uint32_t i = 0; i < w->resolved->manifest.n_layers; i++)
		if (!w->layers[i].lazy)
			return -ENOENT;
	r = ql_store_lock(store, false, &lock, err);
	if (r == 0)
		r = start_push(store, w, ret_ref, ret_there, err);
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
