/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pulls on behalf of clients.  Two that ask for the same image on the same
 * terms share one pull, whenever they come.  A pull keeps what each layer's
 * state is now, with a number that grows at each change; a client remembers
 * the number that it has told of each layer, so what is kept for a slow one
 * does not grow, and the last state of each layer is told before the result.
 *
 * Lines, each a JSON object: {"layer": 0, "layers": 4, "state": "fetching",
 * "blob": "sha256:…", "done": 1, "total": 2} as things change; {"alive": true}
 * after a second without news, by which a client that went away is noticed;
 * and last {"result": …} or {"error": {"code": "ENOENT", "message": "…"}}.
 */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/agent.h"

enum { TICK_MS = 1000 };

struct layer {
	struct ql_pull_progress p;
	uint64_t change; /* 0: nothing is known yet */
};

struct pull {
	struct ql_job job;
	struct ql_pulls *pulls; /* borrowed */
	struct ql_ref ref;	/* owned */
	char *platform;		/* owned; NULL: this machine's */
	bool plain_http, full;
	unsigned int parallel;
	atomic_bool cancel;
	struct ql_growing *growing; /* owned, by its thread; or NULL */

	/* pulls->lock protects all below. */
	struct pull *next; /* in pulls->list */
	unsigned int clients;
	bool done, listed;
	uint64_t change; /* the newest */
	struct layer layers[QL_IMAGE_LAYERS_MAX];
	uint32_t n_layers;
	json_t *last; /* owned: the last line */
};

struct ql_pull_client {
	struct ql_pulls *pulls; /* borrowed */
	struct pull *pull;	/* counted */
	uint64_t told[QL_IMAGE_LAYERS_MAX];
	char *line; /* owned; being read */
	size_t pos, len;
	bool told_last;

	/* pulls->lock protects all below. */
	struct ql_pull_client *next; /* in pulls->clients */
	void (*sleep)(void *arg);
	void (*wake)(void *arg);
	void *arg;
	bool asleep, quiet;
};

struct ql_pulls {
	struct ql_store *store;	      /* borrowed */
	struct ql_filler *filler;     /* borrowed; or NULL */
	struct ql_growings *growings; /* borrowed; or NULL */
	struct ql_peers *peers;	      /* borrowed; or NULL */
	char *config_dir;	      /* owned */
	unsigned int parallel, connections;
	struct ql_work *work; /* owned */
	pthread_t ticker;

	pthread_mutex_t lock; /* protects all below */
	pthread_cond_t cond;  /* stop was set */
	struct pull *list;    /* owned by their clients and thread */
	struct ql_pull_client *clients;
	bool stop;
};

/* ---- under the lock ---- */

static void wake_locked(struct ql_pull_client *c)
{
	if (!c->asleep)
		return;
	c->asleep = false;
	if (c->wake)
		c->wake(c->arg);
}

static void wake_all_locked(struct ql_pulls *pulls, const struct pull *p)
{
	for (struct ql_pull_client *c = pulls->clients; c; c = c->next) {
		if (c->pull != p)
			continue;
		c->quiet = false;
		wake_locked(c);
	}
}

static void unlist_locked(struct pull *p)
{
	struct pull **at = &p->pulls->list;

	if (!p->listed)
		return;
	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	p->listed = false;
}

static void pull_free(struct pull *p)
{
	ql_ref_release(&p->ref);
	free(p->platform);
	json_decref(p->last);
	free(p);
}

/* ---- a pull's thread ---- */

static void on_progress(const struct ql_pull_progress *progress, void *arg)
{
	struct pull *p = arg;

	if (progress->layer >= QL_IMAGE_LAYERS_MAX)
		return;
	if (p->growing)
		ql_growing_progress(p->growing);
	(void)pthread_mutex_lock(&p->pulls->lock);
	p->layers[progress->layer].p = *progress;
	p->layers[progress->layer].change = ++p->change;
	if (p->n_layers <= progress->layer)
		p->n_layers = progress->layer + 1;
	wake_all_locked(p->pulls, p);
	(void)pthread_mutex_unlock(&p->pulls->lock);
}

static json_t *error_json(int code, const char *text)
{
	const char *name = strerrorname_np(-code);

	return json_pack("{s:{s:s, s:o}}", "error", "code", name ? name : "EIO",
			 "message",
			 ql_json_text(*text ? text : strerror(-code)));
}

/* What the pull left: all of it now, or in the background. */
static int pull_rest(const struct pull *p, const struct ql_digest *manifest,
		     struct ql_error *err)
{
	const struct ql_fill_options fill = {
		.connections = p->pulls->connections,
		.plain_http = p->plain_http,
		.config_dir = p->pulls->config_dir,
		.peers = p->pulls->peers,
	};
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	int r = ql_image_get(p->pulls->store, manifest, &info);

	if (r < 0)
		return ql_error_errno(err, r, "%s", p->ref.name);
	if (!ql_fill_lacks(p->pulls->store, &info))
		return 0;
	return p->full || !p->pulls->filler
		       ? ql_fill_all(p->pulls->store, &info, &fill, err)
		       : ql_filler_rest(p->pulls->filler, &info, err);
}

static json_t *pull_now(struct pull *p)
{
	struct ql_pull_options options = {
		.platform = p->platform,
		.plain_http = p->plain_http,
		.parallel = p->parallel ? p->parallel : p->pulls->parallel,
		.connections = p->pulls->connections,
		.config_dir = p->pulls->config_dir,
		.lazy = p->pulls->filler && !p->full,
		.filler = p->pulls->filler,
		.peers = p->pulls->peers,
		.progress = on_progress,
		.arg = p,
		.cancel = &p->cancel,
	};
	struct ql_error err = QL_ERROR_INIT;
	struct ql_pull_result res;
	uint64_t start = ql_now_ns();
	int r;

	if (p->pulls->growings)
		p->growing = ql_growing_new(p->pulls->growings, p->ref.name);
	if (p->growing)
		options.watch = ql_growing_watch(p->growing);
	r = atomic_load(&p->cancel)
		    ? ql_error_set(&err, -ECANCELED, "canceled")
		    : ql_pull(p->pulls->store, &p->ref, &options, &res, &err);
	if (p->growing)
		ql_growing_end(ql_take_ptr(p->growing), r);
	if (r == 0)
		r = pull_rest(p, &res.manifest, &err);
	if (r < 0) {
		ql_log(QL_LOG_WARN, "msg=\"pull failed\" error=\"%s\"",
		       err.text);
		return error_json(r, err.text);
	}
	ql_log(QL_LOG_INFO, "msg=pulled image=\"%s\" bytes=%llu", p->ref.name,
	       (unsigned long long)res.bytes_fetched);
	return json_pack("{s:o}", "result",
			 ql_doc_pull(p->ref.name, &res,
				     (double)(ql_now_ns() - start) / 1e9));
}

static void pull_run(struct ql_job *job)
{
	struct pull *p = (struct pull *)job;
	struct ql_pulls *pulls = p->pulls;
	json_t *last = pull_now(p);
	bool orphan;

	/* A tree takes much memory while it is merged, and the agent stays. */
	(void)malloc_trim(0);
	ql_store_relax(pulls->store);

	(void)pthread_mutex_lock(&pulls->lock);
	unlist_locked(p);
	p->last = last;
	p->done = true;
	orphan = p->clients == 0;
	wake_all_locked(pulls, p);
	(void)pthread_mutex_unlock(&pulls->lock);
	if (orphan)
		pull_free(p);
}

/* ---- clients ---- */

static bool same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static struct pull *find_locked(struct ql_pulls *pulls, const struct pull *like)
{
	struct pull *p = pulls->list;

	while (p &&
	       (atomic_load(&p->cancel) || p->plain_http != like->plain_http ||
		p->full != like->full || !same(p->platform, like->platform) ||
		strcmp(p->ref.name, like->ref.name) != 0))
		p = p->next;
	return p;
}

static int pull_new(struct ql_pulls *pulls, const struct ql_pull_ask *ask,
		    struct pull **ret_pull, struct ql_error *err)
{
	struct pull *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return ql_error_nomem(err);
	p->job.run = pull_run;
	p->pulls = pulls;
	p->plain_http = ask->plain_http;
	p->full = ask->full;
	p->parallel = ask->parallel;
	r = ql_ref_parse(ask->image, &p->ref, err);
	if (r == 0 && ask->platform) {
		p->platform = strdup(ask->platform);
		if (!p->platform)
			r = ql_error_nomem(err);
	}
	if (r < 0) {
		pull_free(p);
		return r;
	}
	*ret_pull = p;
	return 0;
}

/* Joins one that is there, or starts p: which of them, or NULL at the end. */
static struct pull *join_locked(struct ql_pulls *pulls, struct pull *p)
{
	struct pull *there = find_locked(pulls, p);

	if (there)
		return there;
	if (pulls->stop || ql_work_add(pulls->work, &p->job) < 0)
		return NULL;
	p->listed = true;
	p->next = pulls->list;
	pulls->list = p;
	return p;
}

int ql_pulls_join(struct ql_pulls *pulls, const struct ql_pull_ask *ask,
		  struct ql_pull_client **ret_client, struct ql_error *err)
{
	struct ql_pull_client *c = calloc(1, sizeof(*c));
	struct pull *p = NULL;
	int r = c ? pull_new(pulls, ask, &p, err) : ql_error_nomem(err);

	if (r < 0) {
		free(c);
		return r;
	}
	c->pulls = pulls;
	(void)pthread_mutex_lock(&pulls->lock);
	c->pull = join_locked(pulls, p);
	if (c->pull) {
		c->pull->clients++;
		c->next = pulls->clients;
		pulls->clients = c;
	}
	(void)pthread_mutex_unlock(&pulls->lock);
	if (c->pull != p)
		pull_free(p);
	if (!c->pull) {
		free(c);
		return ql_error_set(err, -ESHUTDOWN, "the agent is stopping");
	}
	*ret_client = c;
	return 0;
}

void ql_pull_client_hooks(struct ql_pull_client *c, void (*sleep)(void *arg),
			  void (*wake)(void *arg), void *arg)
{
	(void)pthread_mutex_lock(&c->pulls->lock);
	c->sleep = sleep;
	c->wake = wake;
	c->arg = arg;
	(void)pthread_mutex_unlock(&c->pulls->lock);
}

static json_t *layer_json(const struct ql_pull_progress *p)
{
	static const char *const states[] = {
		[QL_PULL_WAITING] = "waiting",
		[QL_PULL_FETCHING] = "fetching",
		[QL_PULL_DONE] = "done",
		[QL_PULL_HERE] = "here",
	};

	return json_pack("{s:I, s:I, s:s, s:o, s:I, s:I}", "layer",
			 (json_int_t)p->layer, "layers",
			 (json_int_t)p->n_layers, "state", states[p->state],
			 "blob", ql_json_digest(&p->blob), "done",
			 (json_int_t)p->done, "total", (json_int_t)p->total);
}

/* The next thing to tell; NULL: nothing for now, or (told_last) at all. */
static json_t *news_locked(struct ql_pull_client *c)
{
	struct pull *p = c->pull;

	for (uint32_t i = 0; i < p->n_layers; i++) {
		if (c->told[i] == p->layers[i].change)
			continue;
		c->told[i] = p->layers[i].change;
		return layer_json(&p->layers[i].p);
	}
	if (p->done && !c->told_last) {
		c->told_last = true;
		return json_incref(p->last);
	}
	if (c->quiet && !c->told_last) {
		c->quiet = false;
		return json_pack("{s:b}", "alive", true);
	}
	return NULL;
}

/* 1: there is a line; 0: not now; -1: the end. */
static int next_line(struct ql_pull_client *c)
{
	_cleanup_json_ json_t *news = NULL;
	bool end;

	(void)pthread_mutex_lock(&c->pulls->lock);
	end = c->told_last;
	if (!end) {
		news = news_locked(c);
		end = c->told_last && !news; /* out of memory */
		if (!news && !end) {
			c->asleep = true;
			if (c->sleep)
				c->sleep(c->arg);
		}
	}
	(void)pthread_mutex_unlock(&c->pulls->lock);
	if (!news)
		return end ? -1 : 0;
	free(c->line);
	c->line = json_dumps(news, JSON_COMPACT);
	if (!c->line)
		return -1;
	c->len = strlen(c->line);
	c->line[c->len++] = '\n'; /* in place of the NUL */
	c->pos = 0;
	return 1;
}

ssize_t ql_pull_client_read(struct ql_pull_client *c, char *buf, size_t len)
{
	size_t n;

	if (c->pos == c->len) {
		int r = next_line(c);

		if (r <= 0)
			return r;
	}
	n = c->len - c->pos;
	if (n > len)
		n = len;
	memcpy(buf, c->line + c->pos, n);
	c->pos += n;
	return (ssize_t)n;
}

void ql_pull_client_free(struct ql_pull_client *c)
{
	struct ql_pull_client **at;
	struct pull *p;
	bool last;

	if (!c)
		return;
	p = c->pull;
	(void)pthread_mutex_lock(&c->pulls->lock);
	at = &c->pulls->clients;
	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	last = --p->clients == 0;
	if (last && !p->done) {
		/* Its thread frees it, and nobody joins it any more. */
		atomic_store(&p->cancel, true);
		last = false;
	}
	(void)pthread_mutex_unlock(&c->pulls->lock);
	if (last)
		pull_free(p);
	free(c->line);
	free(c);
}

/* ---- life ---- */

/* Who has heard nothing for a whole turn is told that we live. */
static void *ticker_main(void *arg)
{
	struct ql_pulls *pulls = arg;
	struct timespec ts;

	(void)pthread_mutex_lock(&pulls->lock);
	while (!pulls->stop) {
		(void)clock_gettime(CLOCK_MONOTONIC, &ts);
		ts.tv_sec += TICK_MS / 1000;
		(void)pthread_cond_timedwait(&pulls->cond, &pulls->lock, &ts);
		for (struct ql_pull_client *c = pulls->clients; c;
		     c = c->next) {
			if (c->asleep && c->quiet)
				wake_locked(c);
			else
				c->quiet = true;
		}
	}
	(void)pthread_mutex_unlock(&pulls->lock);
	return NULL;
}

int ql_pulls_new(struct ql_store *store, const struct ql_agent_config *config,
		 struct ql_filler *filler, struct ql_pulls **ret_pulls,
		 struct ql_error *err)
{
	struct ql_pulls *pulls = calloc(1, sizeof(*pulls));
	pthread_condattr_t attr;
	int r;

	if (!pulls)
		return ql_error_nomem(err);
	pulls->store = store;
	pulls->filler = filler;
	pulls->parallel = (unsigned int)config->max_parallel_downloads;
	pulls->connections = (unsigned int)config->fill.connections;
	if (config->registries) {
		pulls->config_dir = strdup(config->registries);
		if (!pulls->config_dir) {
			free(pulls);
			return ql_error_nomem(err);
		}
	}
	(void)pthread_mutex_init(&pulls->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&pulls->cond, &attr);
	(void)pthread_condattr_destroy(&attr);
	r = ql_work_new((unsigned int)config->max_pulls, &pulls->work, err);
	if (r == 0 &&
	    pthread_create(&pulls->ticker, NULL, ticker_main, pulls) != 0) {
		ql_work_free(pulls->work);
		r = ql_error_set(err, -EAGAIN, "cannot start a thread");
	}
	if (r < 0) {
		free(pulls->config_dir);
		free(pulls);
		return r;
	}
	*ret_pulls = pulls;
	return 0;
}

void ql_pulls_peers(struct ql_pulls *pulls, struct ql_peers *peers)
{
	pulls->peers = peers;
}

void ql_pulls_grow(struct ql_pulls *pulls, struct ql_growings *growings)
{
	pulls->growings = growings;
}

size_t ql_pulls_count(struct ql_pulls *pulls)
{
	size_t n = 0;

	(void)pthread_mutex_lock(&pulls->lock);
	for (const struct pull *p = pulls->list; p; p = p->next)
		n++;
	(void)pthread_mutex_unlock(&pulls->lock);
	return n;
}

void ql_pulls_stop(struct ql_pulls *pulls)
{
	bool was;

	(void)pthread_mutex_lock(&pulls->lock);
	was = pulls->stop;
	pulls->stop = true;
	for (struct pull *p = pulls->list; p; p = p->next)
		atomic_store(&p->cancel, true);
	(void)pthread_cond_broadcast(&pulls->cond);
	(void)pthread_mutex_unlock(&pulls->lock);
	if (was)
		return;
	ql_work_stop(pulls->work);
	(void)pthread_join(pulls->ticker, NULL);
}

void ql_pulls_free(struct ql_pulls *pulls)
{
	if (!pulls)
		return;
	ql_pulls_stop(pulls);
	ql_work_free(pulls->work);
	(void)pthread_cond_destroy(&pulls->cond);
	(void)pthread_mutex_destroy(&pulls->lock);
	free(pulls->config_dir);
	free(pulls);
}
