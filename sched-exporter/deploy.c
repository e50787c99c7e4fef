/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A deployment's life.  What a node has is a bit for each piece, from its
 * summary (layers, by diff ID) at first and from what it reports then; the plan
 * is made of that (plan.h), and made again of what is left.
 *
 * Nodes are asked by a few threads at once, each of which has one node's slot
 * at a time; between rounds there is one thread alone.
 */
#include "sched-exporter/deploy.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sched-exporter/planqdm.h"

enum {
	THREADS = 16,
	STACK = 256 << 10,
	ANSWER_MAX = 16 << 20, /* bytes */
	SILENT = 3,	       /* rounds without an answer: it is dead */
	ROUND_MS = 250,
	FAILURES_MAX = 3, /* of one node, each of which is planned around */
	TIME_TEXT = 32,
};
#define PATIENCE (UINT64_C(10) * 1000000000)

/* What is known of a node. */
struct slot {
	struct ql_deployment *d; /* borrowed */
	uint32_t node;
	enum ql_deploy_state state;
	uint64_t done, bytes; /* fetched, and of this manifest, as reported */
	uint64_t moved_at;    /* ns: when done grew last */
	uint64_t generation;  /* that it had before */
	unsigned int silent;  /* rounds */
	unsigned int failures;
	bool behind; /* nobody is to wait for what it sends */
	bool sent;   /* it has the manifest */
	bool told;   /* of its state */
	struct ql_error err;
};

struct ql_deployment {
	struct ql_deployment_options options;
	struct ql_remote *remote;	/* owned */
	struct ql_deploy_node *nodes;	/* owned; as they are now */
	struct ql_deploy_piece *pieces; /* owned */
	uint64_t *has;	    /* owned; as of struct ql_deploy_input */
	uint32_t *targets;  /* owned; all nodes */
	struct slot *slots; /* owned; of each node */
	struct ql_deploy_plan plan;
	struct ql_qdm qdm;
	struct ql_buf text; /* the manifest */
	bool planned;
	uint64_t generation;
	atomic_bool canceled;
};

/* ---- made and gone ---- */

void ql_deployment_free(struct ql_deployment *d)
{
	if (!d)
		return;
	ql_remote_free(d->remote);
	ql_deploy_plan_release(&d->plan);
	ql_qdm_release(&d->qdm);
	ql_buf_release(&d->text);
	free(d->nodes);
	free(d->pieces);
	free(d->has);
	free(d->targets);
	free(d->slots);
	free(d);
}

static int tables_new(struct ql_deployment *d, struct ql_error *err)
{
	const struct ql_nodes *nodes = d->options.nodes;
	const struct ql_pieces *pieces = d->options.pieces;
	size_t n = nodes->n_nodes;

	d->nodes = calloc(n + 1, sizeof(*d->nodes));
	d->targets = calloc(n + 1, sizeof(*d->targets));
	d->slots = calloc(n + 1, sizeof(*d->slots));
	d->pieces = calloc(pieces->n + 1, sizeof(*d->pieces));
	d->has = calloc(n * ql_deploy_words((uint32_t)pieces->n) + 1,
			sizeof(*d->has));
	if (!d->nodes || !d->targets || !d->slots || !d->pieces || !d->has)
		return ql_error_nomem(err);
	for (uint32_t i = 0; i < n; i++) {
		d->nodes[i] = nodes->nodes[i];
		d->targets[i] = i;
		d->slots[i] = (struct slot){ .d = d, .node = i };
	}
	for (size_t i = 0; i < pieces->n; i++)
		d->pieces[i] = (struct ql_deploy_piece){
			.digest = pieces->items[i].blob,
			.bytes = pieces->items[i].size,
			.priority = pieces->items[i].is_start ? 0 : 1,
		};
	return 0;
}

int ql_deployment_new(const struct ql_deployment_options *options,
		      struct ql_deployment **ret_deployment,
		      struct ql_error *err)
{
	_cleanup_(ql_deployment_freep) struct ql_deployment *d =
		calloc(1, sizeof(*d));
	int r;

	if (!d)
		return ql_error_nomem(err);
	d->options = *options;
	if (d->options.patience == 0)
		d->options.patience = PATIENCE;
	if (options->pieces->n > QL_DEPLOY_PIECES_MAX)
		return ql_error_set(err, -EINVAL, "%zu pieces (at most %d)",
				    options->pieces->n, QL_DEPLOY_PIECES_MAX);
	d->generation = options->generation;
	ql_buf_init(&d->text, QL_QDM_BYTES_MAX);
	r = tables_new(d, err);
	if (r == 0)
		r = ql_remote_new(&options->remote, &d->remote, err);
	if (r < 0)
		return r;
	*ret_deployment = ql_take_ptr(d);
	return 0;
}

void ql_deployment_cancel(struct ql_deployment *d)
{
	atomic_store(&d->canceled, true);
	ql_remote_cancel(d->remote);
}

static int canceled(const struct ql_deployment *d, struct ql_error *err)
{
	return atomic_load(&d->canceled)
		       ? ql_error_set(err, -ECANCELED, "canceled")
		       : 0;
}

const struct ql_qdm *ql_deployment_qdm(const struct ql_deployment *d)
{
	return &d->qdm;
}

const struct ql_buf *ql_deployment_text(const struct ql_deployment *d)
{
	return &d->text;
}

const struct ql_deploy_plan *
ql_deployment_planned(const struct ql_deployment *d)
{
	return &d->plan;
}

/* ---- all nodes, a few at once ---- */

typedef void slot_fn(struct slot *slot);

struct round {
	struct ql_deployment *d; /* borrowed */
	slot_fn *fn;
	atomic_uint next;
};

static void *round_main(void *arg)
{
	struct round *rd = arg;
	uint32_t n;

	while (!atomic_load(&rd->d->canceled) &&
	       (n = atomic_fetch_add(&rd->next, 1)) <
		       rd->d->options.nodes->n_nodes)
		rd->fn(&rd->d->slots[n]);
	return NULL;
}

static void slots_each(struct ql_deployment *d, slot_fn *fn)
{
	struct round rd = { .d = d, .fn = fn };
	pthread_t threads[THREADS];
	pthread_attr_t attr;
	uint32_t n = 0;

	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, STACK);
	while (n < THREADS && n + 1 < d->options.nodes->n_nodes &&
	       pthread_create(&threads[n], &attr, round_main, &rd) == 0)
		n++;
	(void)pthread_attr_destroy(&attr);
	(void)round_main(&rd);
	while (n > 0)
		(void)pthread_join(threads[--n], NULL);
}

static int slot_ask(struct slot *slot, const char *method, const char *path,
		    const char *body, json_t **ret_doc)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(ANSWER_MAX);
	struct ql_deployment *d = slot->d;
	int r = ql_remote_ask(d->remote,
			      d->options.nodes->addresses[slot->node], method,
			      path, body, &buf, NULL, &slot->err);

	if (r == 0)
		r = ql_json_parse(ql_buf_str(&buf), buf.len, ret_doc,
				  &slot->err);
	return r;
}

/* ---- what a node has ---- */

static void has_set(struct ql_deployment *d, uint32_t node, size_t piece)
{
	size_t words = ql_deploy_words((uint32_t)d->options.pieces->n);

	d->has[node * words + piece / 64] |= UINT64_C(1) << piece % 64;
}

static bool lists(const json_t *list, const struct ql_digest *digest)
{
	char text[QL_DIGEST_TEXT + 1];
	const json_t *one;
	size_t i;

	(void)ql_digest_text(digest, text);
	json_array_foreach ((json_t *)list, i, one)
		if (json_is_string(one) &&
		    strcmp(json_string_value(one), text) == 0)
			return true;
	return false;
}

/* Who has every layer needs nothing for a start, either. */
static void summary_take(struct slot *slot, const json_t *doc)
{
	const struct ql_pieces *pieces = slot->d->options.pieces;
	const json_t *layers = json_object_get(doc, "layers");
	bool all = true;

	for (size_t i = 0; i < pieces->n; i++) {
		if (pieces->items[i].is_start)
			continue;
		if (lists(layers, &pieces->items[i].diff_id))
			has_set(slot->d, slot->node, i);
		else
			all = false;
	}
	for (size_t i = 0; i < pieces->n && all; i++)
		has_set(slot->d, slot->node, i);
}

static void slot_survey(struct slot *slot)
{
	_cleanup_json_ json_t *doc = NULL;
	_cleanup_json_ json_t *qdm = NULL;
	const json_t *one;
	size_t i;
	int r;

	(void)slot_ask(slot, "GET", "/v1/qdm", NULL, &qdm);
	json_array_foreach (json_object_get(qdm, "deployments"), i, one) {
		uint64_t had = 0;

		(void)ql_json_get_u64(one, "generation", &had, NULL);
		if (slot->generation < had)
			slot->generation = had;
	}
	r = slot_ask(slot, "GET", "/v1/summary", NULL, &doc);
	slot->d->nodes[slot->node].alive = r == 0;
	slot->silent = r == 0 ? 0 : SILENT; /* until it answers */
	slot->state = r == 0 ? QL_DEPLOY_UNKNOWN : QL_DEPLOY_SILENT;
	if (r == 0)
		summary_take(slot, doc);
}

int ql_deployment_survey(struct ql_deployment *d, uint32_t *ret_silent,
			 struct ql_error *err)
{
	uint32_t silent = 0;

	slots_each(d, slot_survey);
	if (canceled(d, err) < 0)
		return -ECANCELED;
	for (uint32_t i = 0; i < d->options.nodes->n_nodes; i++) {
		silent += !d->nodes[i].alive;
		if (d->generation <= d->slots[i].generation)
			d->generation = d->slots[i].generation + 1;
	}
	if (silent == d->options.nodes->n_nodes)
		return ql_error_set(err, -EHOSTUNREACH, "no node answers%s%s",
				    silent > 0 ? ": " : "",
				    silent > 0 ? d->slots[0].err.text : "");
	*ret_silent = silent;
	return 0;
}

/* ---- planning ---- */

static void time_text(char text[TIME_TEXT])
{
	time_t now = time(NULL);
	struct tm tm;

	if (!gmtime_r(&now, &tm) ||
	    strftime(text, TIME_TEXT, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		memcpy(text, "1970-01-01T00:00:00Z", 21);
}

static int manifest_make(struct ql_deployment *d,
			 const struct ql_deploy_input *in,
			 const struct ql_deploy_plan *plan,
			 struct ql_error *err)
{
	_cleanup_qdm_ struct ql_qdm qdm = { 0 };
	char created[TIME_TEXT];
	struct ql_qdm_head head = {
		.cluster = d->options.nodes->cluster,
		.generation = d->generation,
		.created = created,
		.reference = d->options.reference,
		.digest = &d->options.pieces->manifest,
	};
	int r;

	time_text(created);
	r = ql_qdm_of_plan(in, plan,
			   (const char *const *)d->options.nodes->addresses,
			   &head, &qdm, err);
	if (r < 0)
		return r;
	ql_buf_clear(&d->text);
	r = ql_qdm_write(&qdm, &d->text, err);
	if (r < 0)
		return r;
	ql_qdm_release(&d->qdm);
	d->qdm = qdm;
	qdm = (struct ql_qdm){ 0 };
	return 0;
}

int ql_deployment_plan(struct ql_deployment *d, struct ql_error *err)
{
	const struct ql_nodes *nodes = d->options.nodes;
	const struct ql_deploy_input in = {
		.sites = nodes->sites,
		.n_sites = nodes->n_sites,
		.links = nodes->links,
		.nodes = d->nodes,
		.n_nodes = nodes->n_nodes,
		.pieces = d->pieces,
		.n_pieces = (uint32_t)d->options.pieces->n,
		.has = d->has,
		.targets = d->targets,
		.n_targets = nodes->n_nodes,
		.previous = d->planned ? &d->plan : NULL,
	};
	struct ql_deploy_plan plan = { 0 };
	int r = ql_deploy_plan_make(&in, &plan, err);

	if (r == 0)
		r = ql_deploy_plan_lost(&in, &plan, err);
	if (r == 0)
		r = manifest_make(d, &in, &plan, err);
	if (r < 0) {
		ql_deploy_plan_release(&plan);
		return r;
	}
	d->generation++;
	ql_deploy_plan_release(&d->plan);
	d->plan = plan;
	d->planned = true;
	return 0;
}

/* ---- carrying out ---- */

/* Who is named in the manifest, as a target or to be asked, gets it. */
static void slot_send(struct slot *slot)
{
	_cleanup_json_ json_t *doc = NULL;
	struct ql_deployment *d = slot->d;
	const char *name = d->nodes[slot->node].name;
	int r;

	if (!d->nodes[slot->node].alive || slot->sent)
		return;
	if (ql_qdm_find(&d->qdm, name) == QL_QDM_NONE) {
		slot->state = QL_DEPLOY_DONE;
		slot->sent = true;
		return;
	}
	r = slot_ask(slot, "POST", "/v1/qdm", ql_buf_str(&d->text), &doc);
	slot->sent = r == 0;
	slot->moved_at = ql_now_ns();
	if (r == -EREMOTEIO)
		slot->state = QL_DEPLOY_FAILED;
	else
		slot->state = r == 0 ? QL_DEPLOY_FETCHING : slot->state;
}

static enum ql_deploy_state state_of(const char *text)
{
	if (strcmp(text, "done") == 0)
		return QL_DEPLOY_DONE;
	return strcmp(text, "failed") == 0 ? QL_DEPLOY_FAILED
					   : QL_DEPLOY_FETCHING;
}

/* What it has by now of what the manifest names. */
static void report_pieces(struct slot *slot, const json_t *doc)
{
	const struct ql_deployment *d = slot->d;
	uint64_t fetched = 0, all = 0;
	const json_t *one;
	size_t i;

	json_array_foreach (json_object_get(doc, "pieces"), i, one) {
		const char *text = ql_json_opt_string(one, "digest", "");
		struct ql_digest digest;
		uint64_t bytes = 0;

		if (ql_digest_parse(text, &digest, NULL) < 0 ||
		    ql_json_get_u64(one, "bytes", &bytes, NULL) < 0)
			continue;
		all += bytes;
		if (!json_is_true(json_object_get(one, "here")))
			continue;
		for (size_t p = 0; p < d->options.pieces->n; p++)
			if (ql_digest_equal(&d->pieces[p].digest, &digest))
				has_set(slot->d, slot->node, p);
	}
	(void)ql_json_get_u64(doc, "fetched", &fetched, NULL);
	if (fetched != slot->done || all != slot->bytes) {
		slot->moved_at = ql_now_ns();
		slot->told = false;
	}
	slot->done = fetched;
	slot->bytes = all;
}

/* Of all that it carries out, that of this image; or NULL. */
static const json_t *report_find(const struct slot *slot, const json_t *doc)
{
	char text[QL_DIGEST_TEXT + 1];
	const json_t *one;
	size_t i;

	(void)ql_digest_text(&slot->d->qdm.digest, text);
	json_array_foreach (json_object_get(doc, "deployments"), i, one)
		if (strcmp(ql_json_opt_string(one, "digest", ""), text) == 0)
			return one;
	return NULL;
}

static void report_take(struct slot *slot, const json_t *doc)
{
	const json_t *one = report_find(slot, doc);
	enum ql_deploy_state state;
	uint64_t generation = 0;

	if (one)
		(void)ql_json_get_u64(one, "generation", &generation, NULL);
	if (generation != slot->d->qdm.generation) {
		slot->sent = false; /* it was started anew, perhaps */
		return;
	}
	state = state_of(ql_json_opt_string(one, "state", ""));
	report_pieces(slot, one);
	if (state == QL_DEPLOY_FAILED)
		(void)ql_error_set(&slot->err, -EREMOTEIO, "%s",
				   ql_json_opt_string(one, "error", "failed"));
	if (state != slot->state)
		slot->told = false;
	slot->state = state;
}

/* One that was silent is asked, too: it may have come back. */
static void slot_look(struct slot *slot)
{
	_cleanup_json_ json_t *doc = NULL;
	int r;

	r = slot_ask(slot, "GET", "/v1/qdm", NULL, &doc);
	/* An answer of any kind: it lives. */
	if (r == 0 || r == -EREMOTEIO)
		slot->silent = 0;
	else if (slot->silent < SILENT)
		slot->silent++;
	if (r == 0)
		report_take(slot, doc);
}

/* Whether a plan of what is known now would be another. */
static bool changed(struct ql_deployment *d)
{
	uint64_t now = ql_now_ns();
	bool yes = false;

	for (uint32_t i = 0; i < d->options.nodes->n_nodes; i++) {
		struct slot *s = &d->slots[i];
		bool alive = s->silent < SILENT;

		if (alive != d->nodes[i].alive) {
			d->nodes[i].alive = alive;
			s->state = alive ? QL_DEPLOY_UNKNOWN : QL_DEPLOY_SILENT;
			s->sent = s->told = false;
			yes = true;
		}
		if (!alive || s->state != QL_DEPLOY_FETCHING || s->behind ||
		    now - s->moved_at < d->options.patience)
			continue;
		/* It fetches on, but nobody waits for it. */
		s->behind = true;
		d->nodes[i].up = 1;
		yes = true;
	}
	return yes;
}

/* A node that failed tries again by the next plan, a few times. */
static int failures_count(struct ql_deployment *d, bool *ret_again,
			  struct ql_error *err)
{
	*ret_again = false;
	for (uint32_t i = 0; i < d->options.nodes->n_nodes; i++) {
		struct slot *s = &d->slots[i];

		if (s->state != QL_DEPLOY_FAILED || !d->nodes[i].alive)
			continue;
		if (++s->failures > FAILURES_MAX)
			return ql_error_set(err, -EREMOTEIO, "node %s: %s",
					    d->nodes[i].name, s->err.text);
		s->sent = false;
		*ret_again = true;
	}
	return 0;
}

/* 1: every node that lives is; 0; -EHOSTUNREACH: none lives. */
static int all_done(const struct ql_deployment *d, struct ql_error *err)
{
	bool any = false;

	for (uint32_t i = 0; i < d->options.nodes->n_nodes; i++) {
		if (!d->nodes[i].alive)
			continue;
		any = true;
		if (d->slots[i].state != QL_DEPLOY_DONE)
			return 0;
	}
	return any ? 1
		   : ql_error_set(err, -EHOSTUNREACH,
				  "no node answers any more");
}

void ql_deployment_node(const struct ql_deployment *d, uint32_t number,
			struct ql_deploy_progress *ret_progress)
{
	const struct slot *s = &d->slots[number];
	bool failed = s->state == QL_DEPLOY_FAILED ||
		      s->state == QL_DEPLOY_SILENT;

	*ret_progress = (struct ql_deploy_progress){
		.node = d->nodes[number].name,
		.number = number,
		.state = s->state,
		.done = s->done,
		.bytes = s->bytes,
		.error = failed ? s->err.text : "",
	};
}

static int tell(struct ql_deployment *d, ql_deploy_progress_fn *fn, void *arg,
		struct ql_error *err)
{
	struct ql_deploy_progress p;

	for (uint32_t i = 0; i < d->options.nodes->n_nodes; i++) {
		if (d->slots[i].told)
			continue;
		d->slots[i].told = true;
		ql_deployment_node(d, i, &p);
		if (fn(&p, arg) != 0)
			return ql_error_set(err, -ECANCELED, "canceled");
	}
	return 0;
}

/* What was sent is of an older plan. */
static int plan_again(struct ql_deployment *d, struct ql_error *err)
{
	int r = ql_deployment_plan(d, err);

	for (uint32_t i = 0; i < d->options.nodes->n_nodes && r == 0; i++)
		d->slots[i].sent = false;
	return r;
}

int ql_deployment_apply(struct ql_deployment *d, ql_deploy_progress_fn *fn,
			void *arg, unsigned int *ret_plans,
			struct ql_error *err)
{
	const struct timespec pause = { .tv_nsec = ROUND_MS * 1000000L };
	unsigned int plans = 0;
	bool again = false;
	int r = 0;

	while (r == 0) {
		slots_each(d, slot_send);
		r = canceled(d, err);
		if (r == 0)
			r = failures_count(d, &again, err);
		if (r == 0)
			r = tell(d, fn, arg, err);
		if (r == 0)
			r = all_done(d, err);
		if (r != 0)
			break;
		(void)nanosleep(&pause, NULL);
		slots_each(d, slot_look);
		/* Whoever was not asked for that is not silent. */
		r = canceled(d, err);
		if (r == 0 && (changed(d) || again)) {
			r = plan_again(d, err);
			plans++;
		}
	}
	if (r < 0)
		return r;
	*ret_plans = plans;
	return 0;
}
