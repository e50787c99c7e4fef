/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pull: resolve the reference, fill the layers that are not here, store
 * manifest and configuration, build the image.
 *
 * The store's lock is held (shared) from before the first layer to the end,
 * so that nothing that is here is removed before the image holds it.
 */
#include "fetch/fetch-private.h"

#include <errno.h>

/* The image is here by its digest: give it this name too. */
static int pull_known(struct ql_store *store, const struct ql_ref *ref,
		      const struct ql_resolved *resolved,
		      struct ql_pull_result *result, struct ql_error *err)
{
	uint32_t n = resolved->manifest.n_layers;
	int r = ql_image_tag(store, ref->name, &resolved->digest, err);

	if (r < 0)
		return r;
	result->up_to_date = true;
	result->layers_here = n;
	return 0;
}

static int image_build(struct ql_store *store, const struct ql_ref *ref,
		       const struct ql_resolved *resolved, struct ql_error *err)
{
	struct ql_image_info info = {
		.manifest = resolved->digest,
		.config = resolved->manifest.config.digest,
		.n_layers = resolved->manifest.n_layers,
		.layers = resolved->diff_ids, /* lent, not given */
	};
	struct ql_digest stored;
	int r;

	r = ql_object_put(store, resolved->manifest_json.data,
			  resolved->manifest_json.len, &info.manifest, &stored,
			  err);
	if (r == 0)
		r = ql_object_put(store, resolved->config_json.data,
				  resolved->config_json.len, &info.config,
				  &stored, err);
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

static int pull_resolved(struct ql_store *store, struct ql_source *src,
			 const struct ql_ref *ref,
			 const struct ql_pull_options *options,
			 struct ql_resolved *resolved,
			 struct ql_pull_result *result, struct ql_error *err)
{
	_cleanup_image_info_ struct ql_image_info known = { 0 };
	_cleanup_close_ int lock = -1;
	int r = ql_store_lock(store, false, &lock, err);

	if (r < 0)
		return r;
	/* An image outside an index says in its configuration what it is for.
	 */
	if (options->platform) {
		r = config_get(src, resolved, options->platform, err);
		if (r < 0)
			return r;
	}
	if (ql_image_get(store, &resolved->digest, &known) == 0)
		return pull_known(store, ref, resolved, result, err);
	if (!options->platform)
		r = ql_resolve_config(src, resolved, err);
	if (r == 0)
		r = ql_layers_fetch(store, src, resolved, options, result, err);
	return r < 0 ? r : image_build(store, ref, resolved, err);
}

static int pull_run(struct ql_store *store, const struct ql_ref *ref,
		    const struct ql_pull_options *options,
		    struct ql_pull_result *result, struct ql_error *err)
{
	_cleanup_(ql_source_freep) struct ql_source *src = NULL;
	_cleanup_resolved_ struct ql_resolved resolved = { 0 };
	int r = ql_source_open(ref, options, &src, err);

	if (r == 0)
		r = ql_resolve_manifest(src, ref, options->platform, &resolved,
					err);
	if (r < 0)
		return r;
	result->manifest = resolved.digest;
	return pull_resolved(store, src, ref, options, &resolved, result, err);
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
