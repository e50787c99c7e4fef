/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A list of deployments, the oldest first, and a few threads that each take the
 * oldest that waits.  A thread works without the lock and takes it for a moment
 * to write down how it comes on; who asks reads what is written down.
 *
 * What goes on is canceled by the deployment itself, which ends its requests to
 * nodes; while a registry is asked, the thread sees it when that has answered.
 */
#include "sched-exporter/rollouts.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

/* Once done, no more is: see ended(). */
enum state { QUEUED, PLANNING, DEPLOYING, DONE, FAILED, CANCELED };

static const char *const states[] = {
	[QUEUED] = "queued", [PLANNING] = "planning", [DEPLOYING] = "deploying",
	[DONE] = "done",     [FAILED] = "failed",     [CANCELED] = "canceled",
};

static const char *const node_states[] = {
	[QL_DEPLOY_UNKNOWN] = "waiting", [QL_DEPLOY_FETCHING] = "fetching",
	[QL_DEPLOY_DONE] = "done",	 [QL_DEPLOY_FAILED] = "failed",
	[QL_DEPLOY_SILENT] = "silent",
};

struct node {
	char *name;  /* owned, as error */
	char *error; /* NULL: none */
	enum ql_deploy_state state;
	uint64_t done, bytes;
};

struct rollout {
	struct rollout *next;
	struct ql_rollouts *all; /* borrowed */
	uint64_t id;
	struct ql_ref ref;
	char *platform; /* owned; or NULL */
	bool plan_only;
	time_t asked;

	/* all->lock protects all below. */
	enum state state;
	bool cancel;
	struct ql_deployment *running; /* borrowed; that of its thread */
	uint64_t started, finished;    /* ns; 0: not yet */
	char *error;		       /* owned; NULL: none */
	bool planned;
	uint64_t first, last; /* generation of its manifests */
	uint64_t time_ns, bound_ns;
	struct ql_buf manifest;
	struct node *nodes; /* owned */
	uint32_t n_nodes;
	size_t details; /* bytes of manifest and nodes */
};

struct ql_rollouts {
	struct ql_rollouts_options options;
	pthread_t threads[QL_ROLLOUTS_RUNNING];
	unsigned int n_threads;
	pthread_mutex_t lock; /* protects all below */
	pthread_cond_t wake;
	bool stop;
	uint64_t last_id;
	struct rollout *list;
};

static void lock(struct ql_rollouts *all)
{
	(void)pthread_mutex_lock(&all->lock);
}

static void unlock(struct ql_rollouts *all)
{
	(void)pthread_mutex_unlock(&all->lock);
}

static bool ended(const struct rollout *ro)
{
	return ro->state >= DONE;
}

/* ---- made and gone ---- */

static void details_release(struct rollout *ro)
{
	for (uint32_t i = 0; i < ro->n_nodes; i++) {
		free(ro->nodes[i].name);
		free(ro->nodes[i].error);
	}
	free(ro->nodes);
	ro->nodes = NULL;
	ro->n_nodes = 0;
	ql_buf_release(&ro->manifest);
	ro->details = 0;
}

static void rollout_free(struct rollout *ro)
{
	if (!ro)
		return;
	details_release(ro);
	ql_ref_release(&ro->ref);
	free(ro->platform);
	free(ro->error);
	free(ro);
}
QL_DEFINE_CLEANUP(struct rollout *, rollout_free)

static int rollout_new(struct ql_rollouts *all,
		       const struct ql_rollout_ask *ask,
		       struct rollout **ret_ro, struct ql_error *err)
{
	_cleanup_(rollout_freep) struct rollout *ro = calloc(1, sizeof(*ro));
	int r;

	if (!ro)
		return ql_error_nomem(err);
	ro->all = all;
	ro->plan_only = ask->plan_only;
	ro->asked = time(NULL);
	ql_buf_init(&ro->manifest, QL_QDM_BYTES_MAX);
	r = ql_rollout_ref(ask->image, &ro->ref, err);
	if (r < 0)
		return r;
	if (ask->platform) {
		ro->platform = strdup(ask->platform);
		if (!ro->platform)
			return ql_error_nomem(err);
	}
	*ret_ro = ql_take_ptr(ro);
	return 0;
}

/* Of those that have ended, the last stay, and only the last of them whole.
 * Locked. */
static void trim(struct ql_rollouts *all)
{
	size_t n = 0, details = 0;

	for (const struct rollout *ro = all->list; ro; ro = ro->next) {
		n += ended(ro);
		details += ended(ro) ? ro->details : 0;
	}
	for (struct rollout **at = &all->list; *at;) {
		struct rollout *ro = *at;

		if (ended(ro) && details > QL_ROLLOUTS_DETAILS) {
			details -= ro->details;
			details_release(ro);
		}
		if (ended(ro) && n > QL_ROLLOUTS_KEPT) {
			details -= ro->details;
			n--;
			*at = ro->next;
			rollout_free(ro);
			continue;
		}
		at = &ro->next;
	}
}

/* Locked; error: NULL, or that is why. */
static void end(struct rollout *ro, enum state state, const char *error)
{
	ro->state = state;
	ro->finished = ql_now_ns();
	ro->running = NULL;
	if (error)
		ro->error = strdup(error); /* or nothing is known of it */
}

/* ---- written down ---- */

/* Locked. */
static void node_note(struct rollout *ro, const struct ql_deploy_progress *p)
{
	struct node *n;

	if (p->number >= ro->n_nodes)
		return;
	n = &ro->nodes[p->number];
	n->state = p->state;
	n->done = p->done;
	n->bytes = p->bytes;
	if (n->error)
		ro->details -= strlen(n->error);
	free(n->error);
	n->error = *p->error ? strdup(p->error) : NULL;
	if (n->error)
		ro->details += strlen(n->error);
}

/* A plan that is not written down yet.  Locked; -ENOMEM. */
static int plan_note(struct rollout *ro, const struct ql_deployment *d)
{
	const struct ql_deploy_plan *plan = ql_deployment_planned(d);
	const struct ql_buf *text = ql_deployment_text(d);
	uint64_t generation = ql_deployment_qdm(d)->generation;

	if (ro->planned && ro->last == generation)
		return 0;
	ro->details -= ro->manifest.len;
	ql_buf_clear(&ro->manifest);
	if (ql_buf_add(&ro->manifest, text->data, text->len) < 0)
		return -ENOMEM;
	ro->details += ro->manifest.len;
	if (!ro->planned)
		ro->first = generation;
	ro->planned = true;
	ro->last = generation;
	ro->time_ns = plan->time_ns;
	ro->bound_ns = plan->bound_ns;
	return 0;
}

/* The first plan, and every node. */
static int planned_note(struct rollout *ro, const struct ql_nodes *nodes,
			const struct ql_deployment *d, struct ql_error *err)
{
	struct node *list = calloc(nodes->n_nodes + 1UL, sizeof(*list));
	struct ql_deploy_progress p;
	int r = list ? 0 : -ENOMEM;

	lock(ro->all);
	ro->nodes = list;
	for (uint32_t i = 0; i < nodes->n_nodes && r == 0; i++) {
		list[i].name = strdup(nodes->nodes[i].name);
		if (!list[i].name) {
			r = -ENOMEM;
			break;
		}
		ro->n_nodes++; /* so that it is released */
		ro->details += sizeof(list[i]) + strlen(list[i].name);
		ql_deployment_node(d, i, &p);
		node_note(ro, &p);
	}
	if (r == 0)
		r = plan_note(ro, d);
	if (r == 0 && !ro->plan_only)
		ro->state = DEPLOYING;
	unlock(ro->all);
	return r < 0 ? ql_error_nomem(err) : 0;
}

static int on_progress(const struct ql_deploy_progress *p, void *arg)
{
	struct rollout *ro = arg;
	bool cancel;

	lock(ro->all);
	node_note(ro, p);
	/* One that has no room is not shown; it is carried out. */
	(void)plan_note(ro, ro->running);
	cancel = ro->cancel;
	unlock(ro->all);
	return cancel;
}

/* ---- done ---- */

/* From now on it can be canceled by the deployment. */
static int running_set(struct rollout *ro, struct ql_deployment *d,
		       struct ql_error *err)
{
	bool cancel;

	lock(ro->all);
	ro->running = d;
	cancel = ro->cancel;
	unlock(ro->all);
	return cancel ? ql_error_set(err, -ECANCELED, "canceled") : 0;
}

/* Behind it the deployment may be gone. */
static void running_unset(struct rollout *ro, const struct ql_deployment *d)
{
	struct ql_deploy_progress p;

	lock(ro->all);
	ro->running = NULL;
	for (uint32_t i = 0; i < ro->n_nodes; i++) {
		ql_deployment_node(d, i, &p);
		node_note(ro, &p);
	}
	if (ro->planned)
		(void)plan_note(ro, d);
	unlock(ro->all);
}

static int carry_out(struct rollout *ro, struct ql_rollout *rollout,
		     const struct ql_nodes *nodes, struct ql_error *err)
{
	struct ql_deployment *d = ql_rollout_deployment(rollout);
	unsigned int plans = 0;
	uint32_t silent = 0;
	int r = running_set(ro, d, err);

	if (r == 0)
		r = ql_rollout_plan(rollout, &silent, err);
	if (r == 0)
		r = planned_note(ro, nodes, d, err);
	if (r == 0 && !ro->plan_only)
		r = ql_deployment_apply(d, on_progress, ro, &plans, err);
	running_unset(ro, d);
	return r;
}

static int all_of_it(struct rollout *ro, struct ql_error *err)
{
	const struct ql_rollouts_options *o = &ro->all->options;
	_cleanup_nodes_ struct ql_nodes nodes = { 0 };
	_cleanup_(ql_rollout_freep) struct ql_rollout *rollout = NULL;
	struct ql_rollout_options options = {
		.nodes = &nodes,
		.ref = &ro->ref,
		.platform = ro->platform,
		.config_dir = o->config_dir,
		.plain_http = o->plain_http,
		.remote = o->remote,
	};
	int r = o->nodes(o->arg, &nodes, err);

	if (r == 0)
		r = ql_rollout_open(&options, &rollout, err);
	return r < 0 ? r : carry_out(ro, rollout, &nodes, err);
}

static void say(const struct rollout *ro, enum state state, uint64_t ns,
		const char *error)
{
	double seconds = (double)ns / 1e9;

	if (state == FAILED)
		ql_log(QL_LOG_WARN,
		       "msg=\"deployment failed\" id=%" PRIu64
		       " image=%s seconds=%.1f error=\"%s\"",
		       ro->id, ro->ref.name, seconds, error);
	else
		ql_log(QL_LOG_INFO,
		       "msg=\"deployment %s\" id=%" PRIu64
		       " image=%s seconds=%.1f",
		       states[state], ro->id, ro->ref.name, seconds);
}

static void run(struct rollout *ro)
{
	struct ql_error err = QL_ERROR_INIT;
	struct ql_rollouts *all = ro->all;
	int r = all_of_it(ro, &err);
	enum state state = DONE;

	lock(all);
	if (r < 0)
		state = ro->cancel ? CANCELED : FAILED;
	unlock(all);
	/* Before its end: then it may be forgotten. */
	say(ro, state, ql_now_ns() - ro->started, err.text);
	lock(all);
	end(ro, state, state == FAILED ? err.text : NULL);
	trim(all);
	unlock(all);
}

/* Locked; the oldest that waits. */
static struct rollout *next_find(const struct ql_rollouts *all)
{
	struct rollout *ro = all->list;

	while (ro && ro->state != QUEUED)
		ro = ro->next;
	return ro;
}

static void *thread_main(void *arg)
{
	struct ql_rollouts *all = arg;

	lock(all);
	while (!all->stop) {
		struct rollout *ro = next_find(all);

		if (!ro) {
			(void)pthread_cond_wait(&all->wake, &all->lock);
			continue;
		}
		ro->state = PLANNING;
		ro->started = ql_now_ns();
		unlock(all);
		run(ro);
		lock(all);
	}
	unlock(all);
	return NULL;
}

/* ---- asked for ---- */

/* Whether there is room for one more; *ret_id: the same that goes on.  Locked.
 */
static int room(const struct ql_rollouts *all, const struct rollout *more,
		uint64_t *ret_id, struct ql_error *err)
{
	unsigned int n = 0;

	if (all->stop)
		return ql_error_set(err, -ESHUTDOWN, "stopping");
	for (const struct rollout *ro = all->list; ro; ro = ro->next) {
		if (ended(ro))
			continue;
		if (strcmp(ro->ref.name, more->ref.name) == 0) {
			*ret_id = ro->id;
			return ql_error_set(err, -EEXIST,
					    "%s is being deployed, as %" PRIu64,
					    ro->ref.name, ro->id);
		}
		n++;
	}
	if (n >= QL_ROLLOUTS_RUNNING + QL_ROLLOUTS_WAITING)
		return ql_error_set(err, -EAGAIN, "%u deployments wait", n);
	return 0;
}

int ql_rollouts_add(struct ql_rollouts *all, const struct ql_rollout_ask *ask,
		    uint64_t *ret_id, struct ql_error *err)
{
	_cleanup_(rollout_freep) struct rollout *ro = NULL;
	struct rollout **at;
	int r = rollout_new(all, ask, &ro, err);

	if (r < 0)
		return r;
	lock(all);
	r = room(all, ro, ret_id, err);
	if (r == 0) {
		*ret_id = ro->id = ++all->last_id;
		for (at = &all->list; *at; at = &(*at)->next)
			;
		*at = ql_take_ptr(ro);
		(void)pthread_cond_signal(&all->wake);
	}
	unlock(all);
	return r;
}

static struct rollout *find(const struct ql_rollouts *all, uint64_t id)
{
	struct rollout *ro = all->list;

	while (ro && ro->id != id)
		ro = ro->next;
	return ro;
}

static int none(uint64_t id, struct ql_error *err)
{
	return ql_error_set(err, -ENOENT, "no deployment %" PRIu64, id);
}

/* Locked. */
static void cancel(struct rollout *ro)
{
	ro->cancel = true;
	if (ro->state == QUEUED)
		end(ro, CANCELED, NULL);
	else if (ro->running)
		ql_deployment_cancel(ro->running);
}

int ql_rollouts_cancel(struct ql_rollouts *all, uint64_t id,
		       struct ql_error *err)
{
	struct rollout *ro;
	int r = 0;

	lock(all);
	ro = find(all, id);
	if (!ro)
		r = none(id, err);
	else if (ended(ro))
		r = ql_error_set(err, -EALREADY, "deployment %" PRIu64 " is %s",
				 id, states[ro->state]);
	else
		cancel(ro);
	trim(all);
	unlock(all);
	return r;
}

/* ---- told ---- */

/* Locked; NULL: out of memory. */
static json_t *head_json(const struct rollout *ro)
{
	uint64_t until = ro->finished ? ro->finished : ql_now_ns();
	json_t *o = json_pack("{s:I, s:o, s:s, s:b, s:I}", "id",
			      (json_int_t)ro->id, "image",
			      ql_json_text(ro->ref.name), "state",
			      states[ro->state], "apply", !ro->plan_only,
			      "asked", (json_int_t)ro->asked);
	int r = o ? 0 : -1;

	if (r == 0 && ro->started)
		r = json_object_set_new(
			o, "seconds",
			json_real((double)(until - ro->started) / 1e9));
	if (r == 0 && ro->error)
		r = json_object_set_new(o, "error", ql_json_text(ro->error));
	if (r == 0 && ro->cancel && !ended(ro))
		r = json_object_set_new(o, "canceling", json_true());
	if (r == 0)
		return o;
	json_decref(o);
	return NULL;
}

static json_t *node_json(const struct node *n)
{
	json_t *o =
		json_pack("{s:o, s:s, s:I, s:I}", "name", ql_json_text(n->name),
			  "state", node_states[n->state], "done",
			  (json_int_t)n->done, "bytes", (json_int_t)n->bytes);

	if (o && n->error &&
	    json_object_set_new(o, "error", ql_json_text(n->error)) < 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

/* What is known since it was planned.  Locked. */
static int details_json(const struct rollout *ro, json_t *o)
{
	uint64_t plans = ro->last - ro->first + 1;
	json_t *nodes;

	if (!ro->planned)
		return 0;
	if (json_object_set_new(o, "plan",
				json_pack("{s:I, s:I}", "time_ns",
					  (json_int_t)ro->time_ns, "bound_ns",
					  (json_int_t)ro->bound_ns)) < 0 ||
	    json_object_set_new(o, "plans", json_integer((json_int_t)plans)) <
		    0)
		return -ENOMEM;
	nodes = json_array();
	if (json_object_set_new(o, "nodes", nodes) < 0)
		return -ENOMEM;
	for (uint32_t i = 0; i < ro->n_nodes; i++)
		if (json_array_append_new(nodes, node_json(&ro->nodes[i])) < 0)
			return -ENOMEM;
	return 0;
}

int ql_rollouts_list(struct ql_rollouts *all, json_t **ret_list,
		     struct ql_error *err)
{
	_cleanup_json_ json_t *list = json_array();
	json_t *doc;
	int r = list ? 0 : -ENOMEM;

	lock(all);
	for (const struct rollout *ro = all->list; ro && r == 0; ro = ro->next)
		r = json_array_append_new(list, head_json(ro));
	unlock(all);
	doc = r == 0 ? json_pack("{s:O}", "deployments", list) : NULL;
	if (!doc)
		return ql_error_nomem(err);
	*ret_list = doc;
	return 0;
}

int ql_rollouts_show(struct ql_rollouts *all, uint64_t id, json_t **ret_one,
		     struct ql_buf *manifest, struct ql_error *err)
{
	_cleanup_json_ json_t *one = NULL;
	const struct rollout *ro;
	int r = 0;

	lock(all);
	ro = find(all, id);
	if (!ro) {
		r = none(id, err);
	} else {
		one = head_json(ro);
		if (!one || details_json(ro, one) < 0 ||
		    (ro->manifest.len > 0 &&
		     ql_buf_add(manifest, ro->manifest.data, ro->manifest.len) <
			     0))
			r = ql_error_nomem(err);
	}
	unlock(all);
	if (r == 0)
		*ret_one = ql_take_ptr(one);
	return r;
}

/* ---- life ---- */

int ql_rollouts_new(const struct ql_rollouts_options *options,
		    struct ql_rollouts **ret_rollouts, struct ql_error *err)
{
	struct ql_rollouts *all = calloc(1, sizeof(*all));

	if (!all)
		return ql_error_nomem(err);
	all->options = *options;
	(void)pthread_mutex_init(&all->lock, NULL);
	(void)pthread_cond_init(&all->wake, NULL);
	while (all->n_threads < QL_ROLLOUTS_RUNNING &&
	       pthread_create(&all->threads[all->n_threads], NULL, thread_main,
			      all) == 0)
		all->n_threads++;
	if (all->n_threads < QL_ROLLOUTS_RUNNING) {
		ql_rollouts_free(all);
		return ql_error_set(err, -EAGAIN, "cannot start a thread");
	}
	*ret_rollouts = all;
	return 0;
}

void ql_rollouts_stop(struct ql_rollouts *all)
{
	lock(all);
	all->stop = true;
	for (struct rollout *ro = all->list; ro; ro = ro->next)
		if (!ended(ro))
			cancel(ro);
	(void)pthread_cond_broadcast(&all->wake);
	unlock(all);
	while (all->n_threads > 0)
		(void)pthread_join(all->threads[--all->n_threads], NULL);
}

void ql_rollouts_free(struct ql_rollouts *all)
{
	struct rollout *ro;

	if (!all)
		return;
	ql_rollouts_stop(all);
	while ((ro = all->list)) {
		all->list = ro->next;
		rollout_free(ro);
	}
	(void)pthread_cond_destroy(&all->wake);
	(void)pthread_mutex_destroy(&all->lock);
	free(all);
}
