/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image that is to come to nodes, from its name to a plan: what the command
 * and the scheduler both do before a deployment is carried out.
 */
#ifndef QL_SCHED_ROLLOUT_H
#define QL_SCHED_ROLLOUT_H

#include "sched-exporter/deploy.h"

/* All borrowed for the rollout's life. */
struct ql_rollout_options {
	const struct ql_nodes *nodes;
	const struct ql_ref *ref; /* ql_rollout_ref()'s */
	const char *platform;	  /* as of ql_pull_options, as the next two */
	const char *config_dir;	  /* of registries' settings */
	bool plain_http;	  /* to the registry */
	struct ql_remote_options remote; /* how nodes are spoken to */
};

/* What nodes can pull: -EINVAL also for what is on this machine alone. */
int ql_rollout_ref(const char *image, struct ql_ref *ret_ref,
		   struct ql_error *err);

struct ql_rollout;
/* Asks the registry what the image is made of; errors as of ql_pieces_get(). */
int ql_rollout_open(const struct ql_rollout_options *options,
		    struct ql_rollout **ret_rollout, struct ql_error *err);
void ql_rollout_free(struct ql_rollout *rollout); /* NULL is fine */
QL_DEFINE_CLEANUP(struct ql_rollout *, ql_rollout_free)
/* The rollout's; not planned yet before ql_rollout_plan(). */
struct ql_deployment *ql_rollout_deployment(struct ql_rollout *rollout);
/* Asks the nodes and plans; *ret_silent: how many do not answer.  Errors as of
 * ql_deployment_survey() and ql_deployment_plan(). */
int ql_rollout_plan(struct ql_rollout *rollout, uint32_t *ret_silent,
		    struct ql_error *err);

#endif
