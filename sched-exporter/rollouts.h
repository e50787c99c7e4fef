/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The deployments that were asked for: a table of them, and the threads that
 * carry them out, without HTTP.  Any thread may call any of these; none waits
 * for a registry or a node, but ql_rollouts_stop().
 */
#ifndef QL_SCHED_ROLLOUTS_H
#define QL_SCHED_ROLLOUTS_H

#include "sched-exporter/rollout.h"

enum {
	QL_ROLLOUTS_RUNNING = 4,  /* at once */
	QL_ROLLOUTS_WAITING = 64, /* besides */
	QL_ROLLOUTS_KEPT = 256,	  /* that have ended */
};
/* What those that have ended keep of plans and nodes; beyond it the oldest are
 * known without. */
#define QL_ROLLOUTS_DETAILS ((size_t)64 << 20)

/* The nodes as they are now; ret_nodes is released by who asked.  From several
 * threads at once. */
typedef int ql_nodes_get_fn(void *arg, struct ql_nodes *ret_nodes,
			    struct ql_error *err);

/* All borrowed for the life of the table. */
struct ql_rollouts_options {
	ql_nodes_get_fn *nodes; /* asked anew for each deployment */
	void *arg;
	struct ql_remote_options remote;
	const char *config_dir; /* of registries' settings; NULL: the default */
	bool plain_http;	/* to the registry */
};

struct ql_rollouts;
int ql_rollouts_new(const struct ql_rollouts_options *options,
		    struct ql_rollouts **ret_rollouts, struct ql_error *err);
/* Takes no more, cancels what waits or runs, and waits until that has ended: a
 * registry that stalls, for as long as its settings have patience. */
void ql_rollouts_stop(struct ql_rollouts *rollouts);
void ql_rollouts_free(struct ql_rollouts *rollouts); /* NULL is fine */
QL_DEFINE_CLEANUP(struct ql_rollouts *, ql_rollouts_free)

struct ql_rollout_ask {
	const char *image;
	const char *platform; /* NULL: this machine's */
	bool plan_only;	      /* nothing is carried out */
};
/*
 * -EINVAL: no image of a registry; -EEXIST: it is being deployed, as *ret_id;
 * -EAGAIN: too many wait; -ESHUTDOWN.
 */
int ql_rollouts_add(struct ql_rollouts *rollouts,
		    const struct ql_rollout_ask *ask, uint64_t *ret_id,
		    struct ql_error *err);
/* Has it end soon.  -ENOENT; -EALREADY: it has ended. */
int ql_rollouts_cancel(struct ql_rollouts *rollouts, uint64_t id,
		       struct ql_error *err);

/* {"deployments": [...]}, the oldest first; owned by the caller. */
int ql_rollouts_list(struct ql_rollouts *rollouts, json_t **ret_list,
		     struct ql_error *err);
/* One of them without its manifest, which is appended to manifest as text
 * (JSON; nothing, where there is none).  -ENOENT. */
int ql_rollouts_show(struct ql_rollouts *rollouts, uint64_t id,
		     json_t **ret_one, struct ql_buf *manifest,
		     struct ql_error *err);

#endif
