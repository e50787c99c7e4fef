/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a pull tells the cache, and keeps from it: layers that are here when it
 * begins, or come by it, are held until its image has them.
 */
#include "fetch/fetch-private.h"

#include <errno.h>
#include <unistd.h>

void ql_pull_holds_release(struct ql_pull_holds *holds)
{
	for (uint32_t i = 0; i < holds->n; i++)
		if (holds->fds[i] >= 0)
			(void)close(holds->fds[i]);
	free(holds->fds);
	*holds = (struct ql_pull_holds){ 0 };
}

/* What cannot be held is looked at once more when the image is recorded. */
int ql_pull_hold(struct ql_store *store, const struct ql_resolved *resolved,
		 struct ql_pull_holds *holds, struct ql_error *err)
{
	uint32_t n = resolved->manifest.n_layers;

	if (!ql_space_is_limited(store) || !resolved->diff_ids)
		return 0;
	if (!holds->fds) {
		holds->fds = calloc(n + 1UL, sizeof(*holds->fds));
		if (!holds->fds)
			return ql_error_nomem(err);
		for (; holds->n < n; holds->n++)
			holds->fds[holds->n] = -1;
	}
	for (uint32_t i = 0; i < holds->n; i++)
		if (holds->fds[i] < 0)
			(void)ql_layer_hold(store, &resolved->diff_ids[i],
					    &holds->fds[i]);
	return 0;
}

void ql_pull_rate(struct ql_store *store, const struct ql_ref *ref,
		  const struct ql_pull_options *options, uint64_t bytes,
		  uint64_t ns)
{
	_cleanup_free_ char *repository =
		ql_ref_repository(ref, options->plain_http);

	if (repository)
		ql_keep_rate(store, repository, bytes, ns);
}

int ql_pull_access(struct ql_store *store, const struct ql_ref *ref,
		   const struct ql_pull_options *options,
		   const struct ql_digest *manifest, struct ql_error *err)
{
	_cleanup_free_ char *repository =
		ql_ref_repository(ref, options->plain_http);

	return ql_keep_access(store, manifest, repository, 0, err);
}
