/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of an image is not content, fetched again where it is damaged: a layer's
 * tree with its table of contents, manifests and configurations.  Nothing that
 * is here is replaced before what came is verified, by the digest that names
 * the layer or the document.
 *
 * A layer that says where its files are (zstd:chunked, eStargz) costs that
 * table alone.  Where a tree made of it is not the one that was here (which had
 * been made of the whole layer), the layer is fetched whole.
 */
#include "fetch/fill-private.h"

#include <errno.h>
#include <string.h>

enum { NAMES_MAX = 4096 };

/* ---- places ---- */

/* fn's arg is the caller's; 0: it is done, no other place is asked. */
typedef int place_fn(struct ql_source *src, void *arg, struct ql_error *err);

static int place_try(const char *name, const struct ql_fill_options *options,
		     place_fn *fn, void *arg, struct ql_error *err)
{
	struct ql_pull_options pull = { .plain_http = options->plain_http,
					.config_dir = options->config_dir };
	_cleanup_(ql_source_freep) struct ql_source *src = NULL;
	_cleanup_ref_ struct ql_ref ref = { 0 };
	const char *text = name;
	int r;

	if (strncmp(name, QL_PLAIN_PREFIX, strlen(QL_PLAIN_PREFIX)) == 0) {
		pull.plain_http = true;
		text += strlen(QL_PLAIN_PREFIX);
	}
	r = ql_ref_parse(text, &ref, err);
	if (r == 0)
		r = ql_source_open(&ref, &pull, &src, err);
	if (r == 0)
		r = fn(src, arg, err);
	ql_source_free(ql_take_ptr(src)); /* before the reference */
	return r < 0 ? ql_error_prefix(err, "%s", name) : 0;
}

/* Each place that is known to have a blob. */
static int places_try(struct ql_store *store, const struct ql_digest *blob,
		      const struct ql_fill_options *options, place_fn *fn,
		      void *arg, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf names = QL_BUF_INIT(NAMES_MAX);
	int r = ql_blob_sources(store, blob, &names);

	if (r < 0 || names.len == 0)
		return ql_error_set(err, -ENXIO, "nothing says where it is");
	r = -ENXIO;
	for (size_t pos = 0; pos < names.len && r < 0;
	     pos += strlen(names.data + pos) + 1)
		r = place_try(names.data + pos, options, fn, arg, err);
	return r;
}

/* ---- layers ---- */

struct layer_job {
	struct ql_store *store; /* borrowed, as these */
	const struct ql_layer_info *known;
	const struct ql_descriptor *d;
	struct ql_source *src; /* of the moment */
	bool whole;	       /* not by its table */
	bool changed;	       /* its tree is another than it was */
};

static int read_range(void *arg, uint64_t offset, uint64_t len,
		      struct ql_buf *buf, struct ql_error *err)
{
	const struct layer_job *job = arg;
	_cleanup_stream_ struct ql_stream *in = NULL;
	ssize_t n;
	int r = job->src->ops->open_range(job->src, job->d, offset, len, &in,
					  err);

	if (r < 0)
		return r;
	if (ql_buf_reserve(buf, (size_t)len) < 0)
		return ql_error_nomem(err);
	n = ql_stream_read_full(in, buf->data + buf->len, (size_t)len, err);
	if (n < 0)
		return (int)n;
	buf->len += (size_t)n;
	return 0;
}

static int open_tar(const struct layer_job *job, struct ql_spans *spans,
		    struct ql_stream **ret_tar, struct ql_error *err)
{
	_cleanup_stream_ struct ql_stream *blob = NULL;
	_cleanup_stream_ struct ql_stream *verified = NULL;
	int r = job->src->ops->open_blob(job->src, job->d, &blob, err);

	if (r == 0)
		r = ql_stream_verify(blob, &job->d->digest, job->d->size,
				     &verified, err);
	if (r < 0)
		return r;
	(void)ql_take_ptr(blob);
	r = ql_decompress_spans(verified, spans, ret_tar, err);
	if (r == 0)
		(void)ql_take_ptr(verified);
	return r;
}

/* All of it, through the store's door. */
static int layer_whole(const struct layer_job *job, struct ql_layer_info *info,
		       struct ql_error *err)
{
	_cleanup_(ql_toc_writer_freep) struct ql_toc_writer *toc = NULL;
	_cleanup_(ql_spans_release) struct ql_spans spans;
	struct ql_layer_stats stats = { 0 };
	struct ql_stream *tar = NULL;
	int r = ql_toc_writer_new(&toc, err);

	*info = (struct ql_layer_info){ .diff_id = job->known->diff_id,
					.blob = job->d->digest,
					.blob_size = job->d->size };
	ql_spans_init(&spans, toc, &info->blob, info->blob_size);
	if (r == 0)
		r = open_tar(job, &spans, &tar, err);
	return r < 0 ? r
		     : ql_layer_import(job->store, tar, info, toc, &stats, err);
}

static int layer_table(struct layer_job *job, struct ql_layer_info *info,
		       struct ql_error *err)
{
	int r;

	if (job->whole || !job->src->ops->open_range)
		return -ENOTSUP;
	*info = (struct ql_layer_info){ .diff_id = job->known->diff_id };
	r = ql_lazylayer_open(job->store, job->d, read_range, job, info, err);
	/* Where the tree was sound, it is what is known, with another table. */
	info->blob = job->d->digest;
	info->blob_size = job->d->size;
	return r;
}

static int layer_from(struct ql_source *src, void *arg, struct ql_error *err)
{
	struct layer_job *job = arg;
	struct ql_layer_info info;
	int r;

	job->src = src;
	r = layer_table(job, &info, err);
	if (r < 0 || !ql_digest_equal(&info.cfs, &job->known->cfs))
		r = layer_whole(job, &info, err);
	return r < 0 ? r
		     : ql_layer_replace(job->store, &info, &job->changed, err);
}

int ql_repair_layer(struct ql_store *store, const struct ql_digest *diff_id,
		    const struct ql_descriptor *d, bool whole,
		    const struct ql_fill_options *options, bool *ret_changed,
		    struct ql_error *err)
{
	_cleanup_(ql_layer_unlockp) struct ql_layer_lock *name = NULL;
	_cleanup_close_ int lock = -1;
	struct ql_descriptor plain = { 0 };
	struct ql_layer_info known;
	struct layer_job job = {
		.store = store, .known = &known, .d = d, .whole = whole
	};
	int r = ql_store_lock(store, false, &lock, err);

	if (r == 0)
		r = ql_layer_lock(store, diff_id, &name, err);
	if (r < 0)
		return r;
	r = ql_layer_get(store, diff_id, &known);
	if (r < 0)
		return ql_error_errno(err, r, "the layer's record");
	r = ql_layer_set_aside(store, &known, err);
	if (r < 0)
		return r;
	if (!d) {
		plain.digest = known.blob;
		plain.size = known.blob_size;
		job.d = &plain;
	}
	r = places_try(store, &job.d->digest, options, layer_from, &job, err);
	if (r == 0)
		*ret_changed = job.changed;
	return r;
}

/* ---- documents ---- */

struct document_job {
	struct ql_store *store; /* borrowed */
	struct ql_descriptor d; /* nothing of it owned */
	bool manifest;
};

static int document_blob(struct ql_source *src, const struct ql_descriptor *d,
			 struct ql_buf *buf, struct ql_error *err)
{
	_cleanup_stream_ struct ql_stream *in = NULL;
	char data[4096];
	ssize_t n;
	int r = src->ops->open_blob(src, d, &in, err);

	if (r < 0)
		return r;
	while ((n = ql_stream_read(in, data, sizeof(data), err)) > 0) {
		r = ql_buf_add(buf, data, (size_t)n);
		if (r < 0)
			return ql_error_errno(err, r, "a document");
	}
	return (int)n;
}

/* A folder has manifests among its blobs, and wants to know how large one is
 * where it is asked for as such. */
static int document_read(struct ql_source *src, const struct document_job *job,
			 struct ql_buf *buf, struct ql_error *err)
{
	_cleanup_free_ char *type = NULL;
	struct ql_error other = QL_ERROR_INIT;
	int r;

	if (!job->manifest)
		return document_blob(src, &job->d, buf, err);
	r = src->ops->get_manifest(src, &job->d, buf, &type, err);
	if (r == 0)
		return 0;
	ql_buf_clear(buf);
	return document_blob(src, &job->d, buf, &other) == 0 ? 0 : r;
}

static int document_from(struct ql_source *src, void *arg, struct ql_error *err)
{
	const struct document_job *job = arg;
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_CONFIG_MAX);
	struct ql_digest stored;
	int r = document_read(src, job, &buf, err);

	return r < 0 ? r
		     : ql_object_put(job->store, buf.data, buf.len,
				     &job->d.digest, &stored, err);
}

int ql_repair_document(struct ql_store *store, const struct ql_digest *digest,
		       uint64_t size, bool manifest,
		       const struct ql_digest *near, size_t n,
		       const struct ql_fill_options *options,
		       struct ql_error *err)
{
	struct document_job job = { .store = store,
				    .d = { .digest = *digest, .size = size },
				    .manifest = manifest };
	int r = ql_error_set(err, -ENXIO, "nothing says where it is");

	if (size > QL_CONFIG_MAX)
		return ql_error_set(err, -EFBIG, "a document is that large");
	for (size_t i = 0; i < n && r < 0; i++)
		r = places_try(store, &near[i], options, document_from, &job,
			       err);
	return r;
}
