/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pulling an image by its start blob: after the manifest, one blob brings all
 * that a start needs, its head first.  With a filler the blob's parts go on
 * coming while the image is mounted already; without one the head alone is
 * fetched.
 *
 * On a node that has something of the repository's images, the rest of the
 * blob is not fetched unasked: what of it is missing is seen when the head is
 * here.
 */
#include "fetch/push-private.h"
#include "fetch/start-private.h"

#include "fetch/peer-private.h"

#include <errno.h>

/* The manifest's own annotation.  -ENOENT (not described): it has none. */
static int start_annotated(const struct ql_resolved *resolved,
			   struct ql_start_ref *ret_ref, struct ql_error *err)
{
	_cleanup_json_ json_t *doc = NULL;
	const char *text;
	int r = ql_json_parse(ql_buf_str(&resolved->manifest_json),
			      resolved->manifest_json.len, &doc, err);

	if (r < 0)
		return r;
	text = ql_json_opt_string(json_object_get(doc, "annotations"),
				  QL_START_ANNOTATION, NULL);
	return text ? ql_start_ref_parse(text, ret_ref, err) : -ENOENT;
}

/* Of those that refer to the image, the last that names one: who pushed it
 * last meant it to be used. */
static int start_referred(struct ql_source *src,
			  const struct ql_resolved *resolved,
			  struct ql_start_ref *ret_ref, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_MANIFEST_MAX);
	_cleanup_json_ json_t *doc = NULL;
	const json_t *list, *d;
	bool found = false;
	size_t i;
	int r;

	if (!src->ops->referrers)
		return -ENOENT;
	r = src->ops->referrers(src, &resolved->digest, QL_START_ARTIFACT, &buf,
				err);
	if (r == 0)
		r = ql_json_parse(ql_buf_str(&buf), buf.len, &doc, err);
	if (r < 0)
		return r;
	list = json_object_get(doc, "manifests");
	json_array_foreach ((json_t *)list, i, d) {
		const char *text =
			ql_json_opt_string(json_object_get(d, "annotations"),
					   QL_START_ANNOTATION, NULL);

		if (text && ql_start_ref_parse(text, ret_ref, NULL) == 0)
			found = true;
	}
	return found ? 0 : -ENOENT;
}

int ql_start_find(struct ql_source *src, const struct ql_resolved *resolved,
		  struct ql_start_ref *ret_ref, struct ql_error *err)
{
	int r = start_annotated(resolved, ret_ref, err);

	if (r != -ENOENT)
		return r;
	r = start_referred(src, resolved, ret_ref, err);
	/* An answer that is none: the image does without. */
	if (r < 0 && r != -ENOENT && r != -ECANCELED) {
		ql_debug("msg=\"no referrers\" error=%d", r);
		r = -ENOENT;
	}
	return r;
}

static int spool_head(struct ql_spool *spool, const struct ql_start_ref *ref,
		      void **ret_head, struct ql_error *err)
{
	_cleanup_free_ char *head = malloc((size_t)ref->head_size + 1);
	uint64_t pos = 0;

	if (!head)
		return ql_error_nomem(err);
	while (pos < ref->head_size) {
		ssize_t n = ql_spool_read(spool, head + pos,
					  (size_t)(ref->head_size - pos), pos,
					  err);

		if (n <= 0)
			return n < 0 ? (int)n
				     : ql_error_set(err, -EBADMSG,
						    "the start blob ends "
						    "early");
		pos += (uint64_t)n;
	}
	*ret_head = ql_take_ptr(head);
	return 0;
}

static int start_config(const struct ql_start *start,
			struct ql_resolved *resolved, struct ql_error *err)
{
	struct ql_digest d;

	if (ql_digest_of(start->config, start->config_len, &d) < 0)
		return ql_error_nomem(err);
	if (!ql_digest_equal(&d, &resolved->manifest.config.digest))
		return ql_error_set(err, -EBADMSG,
				    "the start blob has another "
				    "configuration");
	ql_buf_clear(&resolved->config_json);
	if (ql_buf_add(&resolved->config_json, start->config,
		       start->config_len) < 0)
		return ql_error_nomem(err);
	free(resolved->diff_ids);
	resolved->diff_ids = NULL;
	return ql_config_parse(ql_buf_str(&resolved->config_json),
			       resolved->config_json.len,
			       resolved->manifest.n_layers, &resolved->diff_ids,
			       err);
}

static int start_record(struct ql_store *store, struct ql_source *src,
			const struct ql_ref *ref, const struct ql_start *start,
			const struct ql_resolved *resolved,
			struct ql_error *err)
{
	struct ql_image_info info = {
		.manifest = resolved->digest,
		.config = resolved->manifest.config.digest,
		.n_layers = resolved->manifest.n_layers,
		.layers = resolved->diff_ids, /* lent, not given */
		.flags = ql_source_flags(src),
	};
	int r = ql_pull_documents(store, resolved, err);

	if (r == 0)
		r = ql_image_put_ready(store, &info, start->tree,
				       start->tree_len, &start->objects,
				       &start->toc, &start->hot, ref->name,
				       err);
	return r;
}

/* Where its parts are to be had later on: they are told before the image is
 * recorded. */
static int start_sources(struct ql_store *store, const char *repository,
			 const struct ql_manifest *manifest,
			 const struct ql_start_ref *start, struct ql_error *err)
{
	_cleanup_free_ struct ql_digest *blobs =
		calloc(manifest->n_layers + 1UL, sizeof(*blobs));

	if (!blobs)
		return ql_error_nomem(err);
	for (uint32_t i = 0; i < manifest->n_layers; i++)
		blobs[i] = manifest->layers[i].digest;
	blobs[manifest->n_layers] = start->blob;
	return ql_blob_sources_add(store, blobs, manifest->n_layers + 1UL,
				   repository, err);
}

/* *ret_again: other nodes gave something that was wrong, and are not asked for
 * it again. */
static int start_pull(struct ql_store *store, struct ql_source *src,
		      const struct ql_ref *ref,
		      const struct ql_pull_options *options,
		      struct ql_resolved *resolved, struct ql_spool **ret_spool,
		      struct ql_pull_result *result, bool *ret_again,
		      struct ql_error *err)
{
	_cleanup_(ql_spool_freep) struct ql_spool *spool = NULL;
	_cleanup_start_ struct ql_start start = { 0 };
	_cleanup_free_ char *repository =
		ql_ref_repository(ref, options->plain_http);
	_cleanup_free_ void *head = NULL;
	struct ql_descriptor d = { 0 };
	struct ql_start_ref sref;
	uint64_t size;
	int r = ql_start_find(src, resolved, &sref, err);

	if (r < 0)
		return r;
	if (!repository || !src->ops->open_range)
		return -ENOENT;
	d.digest = sref.blob;
	d.size = sref.size;
	size = sref.head_size;
	if (options->filler && !ql_share_is_likely(store, ref))
		size = sref.size;
	r = ql_spool_new(store, src, &d, sref.head_size, size,
			 src->ops->rtt ? src->ops->rtt(src) : 0, &spool, err);
	if (r == 0)
		r = spool_head(spool, &sref, &head, err);
	if (r == 0)
		r = ql_start_parse(head, &sref, &start, err);
	if (r == 0 && !options->lazy &&
	    !ql_share_tree_pays(store, start.tree, start.tree_len))
		return -ENOENT;
	if (r == 0)
		r = start_config(&start, resolved, err);
	if (r == 0)
		r = start_sources(store, repository, &resolved->manifest, &sref,
				  err);
	if (r == 0)
		r = start_record(store, src, ref, &start, resolved, err);
	if (r < 0 && options->peers && ql_status_is_content(r))
		*ret_again = ql_peers_doubt(options->peers, &d.digest, 0,
					    sref.head_size);
	if (r < 0)
		return r;
	result->bytes_fetched += ql_spool_received(spool);
	if (size == sref.size)
		*ret_spool = ql_take_ptr(spool);
	return 0;
}

/* What another blob does not mend. */
static bool is_final(int error)
{
	return error == -ECANCELED || error == -ENOMEM || error == -ENOSPC ||
	       error == -EDQUOT || error == -EROFS;
}

int ql_start_pull(struct ql_store *store, struct ql_source *src,
		  const struct ql_ref *ref,
		  const struct ql_pull_options *options,
		  struct ql_resolved *resolved, struct ql_spool **ret_spool,
		  struct ql_pull_result *result, struct ql_error *err)
{
	struct ql_error why = QL_ERROR_INIT;
	bool again = false;
	int r = start_pull(store, src, ref, options, resolved, ret_spool,
			   result, &again, &why);

	if (again)
		r = start_pull(store, src, ref, options, resolved, ret_spool,
			       result, &again, &why);
	if (r == 0)
		return 0;
	if (is_final(r))
		return ql_error_set(err, r, "start blob: %s", why.text);
	/* A start blob saves time; the image is its layers. */
	if (r != -ENOENT)
		ql_debug("msg=\"a start blob is not used\" text=\"%s\"",
			 why.text);
	if (!resolved->diff_ids)
		ql_buf_clear(&resolved->config_json);
	return -ENOENT;
}
