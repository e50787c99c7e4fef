/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pull: resolve the reference, fill the layers that are not here, store
 * manifest and configuration, build the image.
 *
 * The store's lock is held (shared) from before the first layer to the end,
 * so that nothing that is here is removed before the image holds it.
 */
#include "fetch/start-private.h"

#include <errno.h>

enum { PULL_TRIES = 5 };

/* The image is here by its digest: give it this name too. */
static int pull_known(struct ql_store *store, struct ql_source *src,
		      const struct ql_ref *ref,
		      const struct ql_resolved *resolved,
		      struct ql_pull_result *result, struct ql_error *err)
{
	uint32_t n = resolved->manifest.n_layers;
	int r = ql_image_tag(store, ref->name, &resolved->digest, err);

	if (r == 0 && ql_source_flags(src) & QL_IMAGE_ANONYMOUS)
		r = ql_image_set_anonymous(store, &resolved->digest, err);
	if (r < 0)
		return r;
	result->up_to_date = true;
	result->layers_here = n;
	return 0;
}

int ql_pull_documents(struct ql_store *store,
		      const struct ql_resolved *resolved, struct ql_error *err)
{
	struct ql_digest stored;
	int r = ql_object_put(store, resolved->manifest_json.data,
			      resolved->manifest_json.len, &resolved->digest,
			      &stored, err);

	if (r == 0)
		r = ql_object_put(store, resolved->config_json.data,
				  resolved->config_json.len,
				  &resolved->manifest.config.digest, &stored,
				  err);
	return r;
}

int ql_pull_sources(struct ql_store *store, const char *repository,
		    const struct ql_manifest *manifest, struct ql_error *err)
{
	_cleanup_free_ struct ql_digest *blobs =
		calloc(manifest->n_layers + 1UL, sizeof(*blobs));

	if (!blobs)
		return ql_error_nomem(err);
	for (uint32_t i = 0; i < manifest->n_layers; i++)
		blobs[i] = manifest->layers[i].digest;
	return ql_blob_sources_add(store, blobs, manifest->n_layers, repository,
				   err);
}

static int image_build(struct ql_store *store, struct ql_source *src,
		       const struct ql_ref *ref,
		       const struct ql_pull_options *options,
		       const struct ql_resolved *resolved, struct ql_error *err)
{
	struct ql_image_info info = {
		.manifest = resolved->digest,
		.config = resolved->manifest.config.digest,
		.n_layers = resolved->manifest.n_layers,
		.layers = resolved->diff_ids, /* lent, not given */
		.flags = ql_source_flags(src),
	};
	_cleanup_free_ char *repository =
		ql_ref_repository(ref, options->plain_http);
	int r = ql_pull_documents(store, resolved, err);

	if (r == 0 && repository)
		r = ql_pull_sources(store, repository, &resolved->manifest,
				    err);
	return r < 0 ? r : ql_image_build(store, &info, ref->name, err);
}

static int config_get(struct ql_source *src, struct ql_resolved *resolved,
		      const char *platform, struct ql_error *err)
{
	int r = ql_resolve_config(src, resolved, err);

	return r < 0 ? r
		     : ql_config_check(ql_buf_str(&resolved->config_json),
				       resolved->config_json.len, platform,
				       err);
}

/* Where there is a budget, all of an image comes by its tables, so that it can
 * stay packed; where there are other nodes, so that it can be had from them.
 * pull_missing() fetches it. */
static bool by_tables(struct ql_store *store,
		      const struct ql_pull_options *options)
{
	return !options->lazy && (options->peers || ql_space_is_limited(store));
}

/* The tables, and what has none; then the image.  Others may take away what
 * was found here, for as long as no image has it: then once more. */
static int pull_fetch(struct ql_store *store, struct ql_source *src,
		      const struct ql_ref *ref,
		      const struct ql_pull_options *options,
		      const struct ql_pull_options *tables,
		      struct ql_resolved *resolved, struct ql_pull_holds *holds,
		      struct ql_pull_result *result, struct ql_error *err)
{
	int r = -EAGAIN;

	for (int i = 0; i < PULL_TRIES && r == -EAGAIN; i++) {
		r = ql_pull_hold(store, resolved, holds, err);
		if (r == 0 && tables->lazy)
			r = ql_lazylayers_fetch(store, src, resolved, tables,
						result, err);
		if (r == 0)
			r = ql_layers_fetch(store, src, resolved, options,
					    result, err);
		if (r == 0)
			r = ql_pull_hold(store, resolved, holds, err);
		if (r == 0)
			r = image_build(store, src, ref, options, resolved,
					err);
	}
	return r;
}

/* What comes now, and what comes when it is read. */
static int pull_layers(struct ql_store *store, struct ql_source *src,
		       const struct ql_ref *ref,
		       const struct ql_pull_options *options,
		       struct ql_resolved *resolved,
		       struct ql_pull_holds *holds, struct ql_spool **ret_spool,
		       struct ql_pull_result *result, struct ql_error *err)
{
	struct ql_pull_options tables = *options;
	int r = -ENOENT;

	tables.lazy = options->lazy || by_tables(store, options);
	/* What is wanted whole comes in pull_missing(), by a filler of its own.
	 */
	if (!options->lazy)
		tables.filler = NULL;
	if (tables.lazy && !options->no_start)
		r = ql_start_pull(store, src, ref, &tables, resolved, ret_spool,
				  result, err);
	if (r != -ENOENT)
		return r;
	r = resolved->diff_ids ? 0 : ql_resolve_config(src, resolved, err);
	return r < 0 ? r
		     : pull_fetch(store, src, ref, options, &tables, resolved,
				  holds, result, err);
}

/* All of an image that is likely to share files with what is here: the tables
 * of what does come, and pull_missing() fetches the rest.  -ENOENT: what is not
 * here is fetched whole. */
static int pull_shared(struct ql_store *store, struct ql_source *src,
		       const struct ql_ref *ref,
		       const struct ql_pull_options *options,
		       struct ql_resolved *resolved,
		       struct ql_spool **ret_spool,
		       struct ql_pull_result *result, struct ql_error *err)
{
	int r;

	if (options->lazy || by_tables(store, options) ||
	    !ql_share_is_likely(store, ref))
		return -ENOENT;
	r = options->no_start ? -ENOENT
			      : ql_start_pull(store, src, ref, options,
					      resolved, ret_spool, result, err);
	if (r != -ENOENT)
		return r;
	r = resolved->diff_ids ? 0 : ql_resolve_config(src, resolved, err);
	if (r == 0)
		r = ql_lazylayers_fetch(store, src, resolved, options, result,
					err);
	return r < 0 ? r : -ENOENT;
}

/* The image, by name.  -ENOENT: it is here no more. */
static int pull_image(struct ql_store *store, struct ql_source *src,
		      const struct ql_ref *ref,
		      const struct ql_pull_options *options,
		      struct ql_resolved *resolved, struct ql_pull_holds *holds,
		      struct ql_spool **ret_spool,
		      struct ql_pull_result *result, struct ql_error *err)
{
	_cleanup_image_info_ struct ql_image_info known = { 0 };
	int r;

	if (ql_image_get(store, &resolved->digest, &known) == 0)
		return pull_known(store, src, ref, resolved, result, err);
	r = pull_shared(store, src, ref, options, resolved, ret_spool, result,
			err);
	return r != -ENOENT ? r
			    : pull_layers(store, src, ref, options, resolved,
					  holds, ret_spool, result, err);
}

static int pull_resolved(struct ql_store *store, struct ql_source *src,
			 const struct ql_ref *ref,
			 const struct ql_pull_options *options,
			 struct ql_resolved *resolved,
			 struct ql_spool **ret_spool,
			 struct ql_pull_result *result, struct ql_error *err)
{
	_cleanup_(ql_pull_holds_release) struct ql_pull_holds holds = { 0 };
	_cleanup_close_ int lock = -1;
	uint64_t since = ql_now_ns();
	int r = ql_store_lock(store, false, &lock, err);

	if (r == 0)
		r = ql_keep_recover(store, err);
	/* An image outside an index says in its configuration what it is for.
	 */
	if (r == 0 && options->platform)
		r = config_get(src, resolved, options->platform, err);
	for (int i = 0; i < PULL_TRIES && r == 0; i++) {
		result->up_to_date = false;
		r = pull_image(store, src, ref, options, resolved, &holds,
			       ret_spool, result, err);
		ql_pull_rate(store, ref, options, result->bytes_fetched,
			     ql_now_ns() - since);
		if (r == 0)
			r = ql_pull_access(store, ref, options,
					   &resolved->digest, err);
		/* Here a moment ago, and taken away. */
		if (r != -ENOENT || !result->up_to_date)
			break;
		r = 0;
	}
	return r;
}

/* What came as tables alone of an image that is wanted whole. */
static int pull_missing(struct ql_store *store, const struct ql_ref *ref,
			const struct ql_pull_options *options,
			struct ql_pull_result *result, struct ql_error *err)
{
	const struct ql_fill_options fill = {
		.connections = options->connections ? options->connections
						    : options->parallel,
		.plain_http = options->plain_http,
		.config_dir = options->config_dir,
		.peers = options->peers,
	};
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	struct ql_fill_stats stats = { 0 };
	uint64_t since;
	int r = ql_image_get(store, &result->manifest, &info);

	if (r < 0)
		return ql_error_errno(err, r, "image");
	if (!ql_fill_lacks(store, &info))
		return 0;
	since = ql_now_ns();
	r = ql_fill_missing(store, &info, &fill, options->cancel, &stats, err);
	ql_pull_rate(store, ref, options, stats.bytes_fetched,
		     ql_now_ns() - since);
	result->bytes_fetched += stats.bytes_fetched;
	return r;
}

/* The image is here, and the filler goes on with its start. */
static int pull_start(struct ql_store *store, struct ql_filler *filler,
		      const struct ql_digest *manifest, struct ql_spool *spool,
		      struct ql_lent_source *lent, struct ql_error *err)
{
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	int r = ql_image_get(store, manifest, &info);

	if (r < 0) {
		ql_spool_free(spool);
		ql_lent_source_free(lent);
		return ql_error_errno(err, r, "image");
	}
	return ql_filler_start(filler, &info, spool, lent, err);
}

/* With a reference of its own: it may outlive the pull. */
static int source_open(const struct ql_ref *ref,
		       const struct ql_pull_options *options,
		       struct ql_lent_source **ret_lent, struct ql_error *err)
{
	_cleanup_(ql_lent_source_freep) struct ql_lent_source *lent =
		calloc(1, sizeof(*lent));
	int r;

	if (!lent)
		return ql_error_nomem(err);
	r = ql_ref_parse(ref->name, &lent->ref, err);
	if (r == 0)
		r = ql_source_open(&lent->ref, options, &lent->src, err);
	if (r < 0)
		return r;
	lent->src->lazy = options->lazy;
	*ret_lent = ql_take_ptr(lent);
	return 0;
}

static int pull_run(struct ql_store *store, const struct ql_ref *ref,
		    const struct ql_pull_options *options,
		    struct ql_pull_result *result, struct ql_error *err)
{
	_cleanup_(ql_lent_source_freep) struct ql_lent_source *lent = NULL;
	_cleanup_resolved_ struct ql_resolved resolved = { 0 };
	/* Only a filler goes on with it; it reads from the source. */
	_cleanup_(ql_spool_freep) struct ql_spool *spool = NULL;
	int r = source_open(ref, options, &lent, err);

	if (r == 0)
		r = ql_resolve_manifest(lent->src, &lent->ref,
					options->platform, &resolved, err);
	if (r < 0)
		return r;
	result->manifest = resolved.digest;
	r = pull_resolved(store, lent->src, ref, options, &resolved, &spool,
			  result, err);
	/* Of an image that is here, some may have been taken away. */
	if (r == 0 && !options->lazy &&
	    (!result->up_to_date || ql_space_is_limited(store)))
		r = pull_missing(store, ref, options, result, err);
	if (r == 0 && options->lazy && options->filler)
		r = pull_start(store, options->filler, &resolved.digest,
			       ql_take_ptr(spool), ql_take_ptr(lent), err);
	return r;
}

int ql_pull(struct ql_store *store, const struct ql_ref *ref,
	    const struct ql_pull_options *options,
	    struct ql_pull_result *ret_result, struct ql_error *err)
{
	static const struct ql_pull_options defaults;
	struct ql_pull_result result = { 0 };
	int r = pull_run(store, ref, options ? options : &defaults, &result,
			 err);

	if (r < 0)
		return ql_error_prefix(err, "%s", ref->name);
	*ret_result = result;
	return 0;
}
