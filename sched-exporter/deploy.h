/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A deployment: asks the nodes what they have, plans, sends each the manifest,
 * looks how they come on, and plans anew when one dies, joins or falls behind.
 * By one thread; nodes are asked by several of its own.
 */
#ifndef QL_SCHED_DEPLOY_H
#define QL_SCHED_DEPLOY_H

#include "fetch/fetch.h"
#include "sched-exporter/nodes.h"

/* All borrowed for the deployment's life. */
struct ql_deployment_options {
	const struct ql_nodes *nodes;
	const struct ql_pieces *pieces;
	const char *reference; /* as nodes are to pull it */
	struct ql_remote_options remote;
	/* Of the first manifest, at least: it is larger than any that a node
	 * says it has had, so that no clock matters. */
	uint64_t generation;
	uint64_t patience; /* ns without a byte; 0: 10 s */
};

struct ql_deployment;
int ql_deployment_new(const struct ql_deployment_options *options,
		      struct ql_deployment **ret_deployment,
		      struct ql_error *err);
void ql_deployment_free(struct ql_deployment *d); /* NULL is fine */
QL_DEFINE_CLEANUP(struct ql_deployment *, ql_deployment_free)
/* From any thread: what is done by another, now or later, ends soon with
 * -ECANCELED.  Nodes go on with what they were sent. */
void ql_deployment_cancel(struct ql_deployment *d);

/* Asks every node for its summary.  Who does not answer is left out of plans;
 * *ret_silent: how many do not.  -EHOSTUNREACH: nobody does. */
int ql_deployment_survey(struct ql_deployment *d, uint32_t *ret_silent,
			 struct ql_error *err);
/* A plan of what is known, and its manifest.  -EHOSTUNREACH: something cannot
 * come to where it is needed. */
int ql_deployment_plan(struct ql_deployment *d, struct ql_error *err);
/* All are the deployment's, of the last plan. */
const struct ql_qdm *ql_deployment_qdm(const struct ql_deployment *d);
/* As nodes are sent it: JSON. */
const struct ql_buf *ql_deployment_text(const struct ql_deployment *d);
const struct ql_deploy_plan *
ql_deployment_planned(const struct ql_deployment *d);

enum ql_deploy_state {
	QL_DEPLOY_UNKNOWN,
	QL_DEPLOY_FETCHING,
	QL_DEPLOY_DONE,
	QL_DEPLOY_FAILED, /* it says so */
	QL_DEPLOY_SILENT, /* it does not answer */
};

struct ql_deploy_progress {
	const char *node; /* borrowed */
	uint32_t number;  /* of the node */
	enum ql_deploy_state state;
	uint64_t done;	   /* bytes that it has fetched */
	uint64_t bytes;	   /* of what it lacked (and may have in part) */
	const char *error; /* borrowed; or "" */
};
/* What is known of a node, by its number. */
void ql_deployment_node(const struct ql_deployment *d, uint32_t number,
			struct ql_deploy_progress *ret_progress);
/* Told of each node whenever something of it has changed.  Not 0: stop. */
typedef int ql_deploy_progress_fn(const struct ql_deploy_progress *p,
				  void *arg);

/*
 * Sends the manifest to each node of it, and waits until every one that lives
 * has all.  -EREMOTEIO: a node failed for good, the first is named; what others
 * have they keep.  -EHOSTUNREACH: no node lives.  *ret_plans: how often was
 * planned again.
 */
int ql_deployment_apply(struct ql_deployment *d, ql_deploy_progress_fn *fn,
			void *arg, unsigned int *ret_plans,
			struct ql_error *err);

#endif
