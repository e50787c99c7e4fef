/* SPDX-License-Identifier: Apache-2.0 */
/* An image's pieces, and the deployment over them. */
#include "sched-exporter/rollout.h"

#include <errno.h>

struct ql_rollout {
	const struct ql_ref *ref; /* borrowed */
	struct ql_pieces pieces;
	struct ql_deployment *deployment; /* owned; borrows the pieces */
};

int ql_rollout_ref(const char *image, struct ql_ref *ret_ref,
		   struct ql_error *err)
{
	_cleanup_ref_ struct ql_ref ref = { 0 };
	int r = ql_ref_parse(image, &ref, err);

	if (r < 0)
		return r;
	if (ref.kind != QL_REF_REGISTRY)
		return ql_error_set(err, -EINVAL,
				    "%s: other nodes have no such thing",
				    image);
	*ret_ref = ref;
	ref = (struct ql_ref){ 0 };
	return 0;
}

void ql_rollout_free(struct ql_rollout *rollout)
{
	if (!rollout)
		return;
	ql_deployment_free(rollout->deployment);
	ql_pieces_release(&rollout->pieces);
	free(rollout);
}

int ql_rollout_open(const struct ql_rollout_options *options,
		    struct ql_rollout **ret_rollout, struct ql_error *err)
{
	_cleanup_(ql_rollout_freep) struct ql_rollout *rollout =
		calloc(1, sizeof(*rollout));
	const struct ql_pull_options pull = {
		.platform = options->platform,
		.plain_http = options->plain_http,
		.config_dir = options->config_dir,
	};
	struct ql_deployment_options deployment = {
		.nodes = options->nodes,
		.reference = options->ref->name,
		.remote = options->remote,
		.generation = 1,
	};
	int r;

	if (!rollout)
		return ql_error_nomem(err);
	rollout->ref = options->ref;
	r = ql_pieces_get(options->ref, &pull, &rollout->pieces, err);
	if (r < 0)
		return r; /* which names the image */
	deployment.pieces = &rollout->pieces;
	r = ql_deployment_new(&deployment, &rollout->deployment, err);
	if (r < 0)
		return ql_error_prefix(err, "%s", options->ref->name);
	*ret_rollout = ql_take_ptr(rollout);
	return 0;
}

struct ql_deployment *ql_rollout_deployment(struct ql_rollout *rollout)
{
	return rollout->deployment;
}

int ql_rollout_plan(struct ql_rollout *rollout, uint32_t *ret_silent,
		    struct ql_error *err)
{
	uint32_t silent = 0;
	int r = ql_deployment_survey(rollout->deployment, &silent, err);

	if (r == 0)
		r = ql_deployment_plan(rollout->deployment, err);
	if (r < 0)
		return ql_error_prefix(err, "%s", rollout->ref->name);
	*ret_silent = silent;
	return 0;
}
