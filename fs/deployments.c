/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deployment manifests that this node carries out (fetch/qdm.h).
 *
 * The newest manifest of an image counts.  Each image that is being deployed
 * has a thread: it says whom to ask for which blob (ql_peers_route()), pulls
 * the image by the way that all pulls go, so that it can be used while it
 * comes, waits until nothing is missing of it, and keeps it from being evicted
 * for a while.  A newer manifest of an image that comes only changes whom to
 * ask.  What was accepted is not kept over a restart: whoever planned sees that
 * (GET says nothing of it) and sends it again.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/agent.h"

enum {
	DEPLOYMENTS_MAX = 64,
	STACK = 256 << 10,
	LOOK_MS = 20,
	SETTLE_MS = 1500,
	KEPT_SECONDS = 3600,
};

enum state { FETCHING, DONE, FAILED };

struct deployment {
	struct deployment *next;
	struct ql_deployments *all; /* borrowed */
	pthread_t thread;

	/* all->lock protects all below. */
	struct ql_qdm qdm; /* the newest; owned */
	uint32_t me;	   /* in qdm.nodes */
	uint64_t started;  /* ns */
	uint64_t finished; /* ns; 0: not yet */
	uint64_t bytes_at; /* that the filler had fetched at the start */
	enum state state;
	bool over;   /* its thread has nothing more to do */
	bool joined; /* ... and is gone */
	struct ql_error err;
};

struct ql_deployments {
	struct ql_agent *agent;	    /* borrowed */
	const char *name, *cluster; /* borrowed */
	pthread_mutex_t lock;
	pthread_cond_t cond;	 /* a line came, or stop */
	struct deployment *list; /* owned; newest first */
	size_t n;
	bool stop;
};

/* ---- whom to ask ---- */

static const char *address_of(const struct ql_qdm *qdm, uint32_t src)
{
	return src < qdm->n_nodes ? qdm->nodes[src].address : NULL;
}

/* Under the lock. */
static int routes_set(struct deployment *d, struct ql_error *err)
{
	const struct ql_qdm_node *me = &d->qdm.nodes[d->me];
	struct ql_peers *peers = d->all->agent->peers;
	_cleanup_free_ struct ql_peer_route *routes =
		calloc(me->n + 1UL, sizeof(*routes));
	int r = 0;

	if (!routes)
		return ql_error_nomem(err);
	for (uint32_t i = 0; i < d->qdm.n_nodes && r == 0; i++)
		if (i != d->me)
			r = ql_peers_add(peers, d->qdm.nodes[i].address, err);
	for (uint32_t i = 0; i < me->n; i++) {
		const struct ql_qdm_fetch *f = &d->qdm.fetches[me->first + i];

		routes[i].blob = f->digest;
		routes[i].from = address_of(&d->qdm, f->from);
		routes[i].fallback = address_of(&d->qdm, f->fallback);
	}
	return r < 0 ? r
		     : ql_peers_route(peers, &d->qdm.digest, routes, me->n,
				      err);
}

/* ---- carrying out ---- */

static void on_wake(void *arg)
{
	struct ql_deployments *all = arg;

	(void)pthread_mutex_lock(&all->lock);
	(void)pthread_cond_broadcast(&all->cond);
	(void)pthread_mutex_unlock(&all->lock);
}

static bool stopped(struct ql_deployments *all)
{
	bool stop;

	(void)pthread_mutex_lock(&all->lock);
	stop = all->stop;
	(void)pthread_mutex_unlock(&all->lock);
	return stop;
}

static void wait_a_little(struct ql_deployments *all)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_nsec += LOOK_MS * 1000000L;
	ts.tv_sec += ts.tv_nsec / 1000000000;
	ts.tv_nsec %= 1000000000;
	(void)pthread_mutex_lock(&all->lock);
	if (!all->stop)
		(void)pthread_cond_timedwait(&all->cond, &all->lock, &ts);
	(void)pthread_mutex_unlock(&all->lock);
}

/* The last line of a pull says what came of it. */
static int line_take(const char *line, size_t len, struct ql_error *err)
{
	_cleanup_json_ json_t *doc = NULL;
	const json_t *error;

	if (ql_json_parse(line, len, &doc, NULL) < 0)
		return 0;
	error = json_object_get(doc, "error");
	return error ? ql_error_set(err, -EREMOTEIO, "%s",
				    ql_json_opt_string(error, "message",
						       "the pull failed"))
		     : 0;
}

static int pull_read(struct ql_deployments *all, struct ql_pull_client *client,
		     struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf line = QL_BUF_INIT(64 << 10);
	char block[4096];
	int r = 0;

	while (r == 0 && !stopped(all)) {
		ssize_t n = ql_pull_client_read(client, block, sizeof(block));
		const char *end;

		if (n < 0)
			return 0;
		if (n == 0) {
			wait_a_little(all);
			continue;
		}
		r = ql_buf_add(&line, block, (size_t)n);
		if (r < 0)
			return ql_error_errno(err, r, "a pull's line");
		while (r == 0 && (end = memchr(line.data, '\n', line.len))) {
			size_t len = (size_t)(end - line.data);

			r = line_take(line.data, len, err);
			line.len -= len + 1;
			memmove(line.data, end + 1, line.len);
		}
	}
	return r < 0 ? r : ql_error_set(err, -ECANCELED, "canceled");
}

static int image_pull(struct ql_deployments *all, const char *image,
		      struct ql_error *err)
{
	const struct ql_pull_ask ask = { .image = image };
	struct ql_pull_client *client;
	int r = ql_pulls_join(all->agent->pulls, &ask, &client, err);

	if (r < 0)
		return r;
	ql_pull_client_hooks(client, NULL, on_wake, all);
	r = pull_read(all, client, err);
	ql_pull_client_free(client);
	return r;
}

/* It came by a mount's way; all of it comes in the background. */
static int image_wait(struct ql_deployments *all, const struct ql_digest *image,
		      struct ql_error *err)
{
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	struct ql_agent *a = all->agent;
	int r = ql_image_get(a->store, image, &info);

	if (r < 0)
		return ql_error_errno(err, r, "the image");
	if (a->filler && ql_fill_lacks(a->store, &info))
		r = ql_filler_rest(a->filler, &info, err);
	while (r == 0 && a->filler && ql_filler_is_filling(a->filler, image) &&
	       !stopped(all))
		wait_a_little(all);
	if (r == 0 && stopped(all))
		r = ql_error_set(err, -ECANCELED, "canceled");
	return r;
}

/* Who was added a moment ago is asked who it is first. */
static void peers_wait(struct ql_deployments *all)
{
	uint64_t until = ql_now_ns() + SETTLE_MS * UINT64_C(1000000);

	while (!stopped(all) && !ql_peers_settled(all->agent->peers) &&
	       ql_now_ns() < until)
		wait_a_little(all);
}

static int carry_out(struct deployment *d, struct ql_error *err)
{
	char text[QL_DIGEST_TEXT + 1];
	_cleanup_json_ json_t *kept = NULL;
	_cleanup_free_ char *name = NULL;
	_cleanup_ref_ struct ql_ref ref = { 0 };
	struct ql_digest image;
	int r;

	/* A newer manifest may come at any time; it is of the same image. */
	(void)pthread_mutex_lock(&d->all->lock);
	image = d->qdm.digest;
	r = ql_ref_parse(d->qdm.reference, &ref, err);
	(void)pthread_mutex_unlock(&d->all->lock);

	if (r == 0 && ref.kind != QL_REF_REGISTRY)
		return ql_error_set(err, -EINVAL, "%s is in no registry",
				    ref.name);
	if (r < 0)
		return r;
	(void)ql_digest_text(&image, text);
	/* The image that was planned, whatever the tag is now. */
	name = ql_strf("%s/%s:%s@%s", ref.domain, ref.path,
		       ref.tag ? ref.tag : "latest", text);
	if (!name)
		return ql_error_nomem(err);
	peers_wait(d->all);
	r = image_pull(d->all, name, err);
	/* Also by the name that it was deployed by, unless that names another:
	 * what is called by a digest is nothing else. */
	if (r == 0 && (!ref.has_digest || ql_digest_equal(&ref.digest, &image)))
		r = ql_image_tag(d->all->agent->store, ref.name, &image, err);
	if (r == 0)
		r = image_wait(d->all, &image, err);
	return r < 0 ? r
		     : ql_doc_promise(d->all->agent->store, text, KEPT_SECONDS,
				      &kept, err);
}

static void *deployment_main(void *arg)
{
	struct deployment *d = arg;
	struct ql_deployments *all = d->all;
	struct ql_error err = QL_ERROR_INIT;
	int r;

	r = carry_out(d, &err);
	if (r < 0)
		ql_log(QL_LOG_WARN, "msg=\"deployment failed\" error=\"%s\"",
		       err.text);
	(void)pthread_mutex_lock(&all->lock);
	ql_peers_unroute(all->agent->peers, &d->qdm.digest);
	d->state = r < 0 ? FAILED : DONE;
	d->err = err;
	d->finished = ql_now_ns();
	d->over = true;
	(void)pthread_mutex_unlock(&all->lock);
	return NULL;
}

/* ---- accepting; under the lock ---- */

static struct deployment *find_locked(struct ql_deployments *all,
				      const struct ql_digest *image)
{
	struct deployment *d = all->list;

	while (d && !ql_digest_equal(&d->qdm.digest, image))
		d = d->next;
	return d;
}

static void deployment_free(struct deployment *d)
{
	if (!d->joined)
		(void)pthread_join(d->thread, NULL);
	ql_qdm_release(&d->qdm);
	free(d);
}

/* Makes room by forgetting the oldest that is over. */
static int room_make(struct ql_deployments *all, struct ql_error *err)
{
	struct deployment **at, **oldest = NULL;
	struct deployment *gone;

	if (all->n < DEPLOYMENTS_MAX)
		return 0;
	for (at = &all->list; *at; at = &(*at)->next)
		if ((*at)->over)
			oldest = at;
	if (!oldest)
		return ql_error_set(err, -EBUSY,
				    "%d deployments are being carried out",
				    DEPLOYMENTS_MAX);
	gone = *oldest;
	*oldest = gone->next;
	all->n--;
	deployment_free(gone);
	return 0;
}

static int thread_start(struct deployment *d)
{
	pthread_attr_t attr;
	int r;

	d->state = FETCHING;
	d->over = false;
	d->finished = 0;
	d->started = ql_now_ns();
	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, STACK);
	r = pthread_create(&d->thread, &attr, deployment_main, d);
	(void)pthread_attr_destroy(&attr);
	d->joined = r != 0;
	if (r == 0)
		return 0;
	d->over = true;
	d->state = FAILED;
	return ql_error_set(&d->err, -EAGAIN, "cannot start a thread");
}

static uint64_t bytes_fetched(const struct ql_deployments *all)
{
	struct ql_fill_stats stats = { 0 };

	if (all->agent->filler)
		ql_filler_stats(all->agent->filler, &stats);
	return stats.bytes_fetched;
}

static int deployment_new(struct ql_deployments *all, struct ql_qdm *qdm,
			  uint32_t me, struct ql_error *err)
{
	struct deployment *d;
	int r = room_make(all, err);

	if (r < 0)
		return r;
	d = calloc(1, sizeof(*d));
	if (!d)
		return ql_error_nomem(err);
	d->all = all;
	d->qdm = *qdm;
	d->me = me;
	d->bytes_at = bytes_fetched(all);
	r = routes_set(d, err);
	if (r == 0) {
		r = thread_start(d);
		if (r < 0) {
			ql_peers_unroute(all->agent->peers, &d->qdm.digest);
			r = ql_error_set(err, r, "%s", d->err.text);
		}
	}
	if (r < 0) {
		free(d);
		return r;
	}
	*qdm = (struct ql_qdm){ 0 };
	d->next = all->list;
	all->list = d;
	all->n++;
	return 0;
}

/* Another manifest of the same image: one that is being carried out goes on by
 * it, one that is over begins anew. */
static int deployment_renew(struct deployment *d, struct ql_qdm *qdm,
			    uint32_t me, struct ql_error *err)
{
	struct ql_qdm old = d->qdm;
	uint32_t old_me = d->me;
	int r;

	d->qdm = *qdm;
	d->me = me;
	r = routes_set(d, err);
	if (r < 0) {
		d->qdm = old;
		d->me = old_me;
		return r;
	}
	*qdm = old; /* the caller's to release */
	if (!d->over)
		return 0;
	if (!d->joined)
		(void)pthread_join(d->thread, NULL);
	d->bytes_at = bytes_fetched(d->all);
	r = thread_start(d);
	if (r == 0)
		return 0;
	ql_peers_unroute(d->all->agent->peers, &d->qdm.digest);
	return ql_error_set(err, r, "%s", d->err.text);
}

/* The same manifest once more is no contradiction. */
static int contradicts(const struct ql_qdm *a, const struct ql_qdm *b,
		       struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf one = QL_BUF_INIT(QL_QDM_BYTES_MAX);
	_cleanup_buf_ struct ql_buf two = QL_BUF_INIT(QL_QDM_BYTES_MAX);
	int r = ql_qdm_write(a, &one, err);

	if (r == 0)
		r = ql_qdm_write(b, &two, err);
	if (r == 0 &&
	    (one.len != two.len || memcmp(one.data, two.data, one.len) != 0))
		r = ql_error_set(err, -EEXIST,
				 "another deployment manifest of generation "
				 "%llu was accepted before",
				 (unsigned long long)a->generation);
	return r;
}

static int accept_locked(struct ql_deployments *all, struct ql_qdm *qdm,
			 struct ql_error *err)
{
	struct deployment *d = find_locked(all, &qdm->digest);
	uint32_t me = ql_qdm_find(qdm, all->name);
	int r = all->cluster
			? ql_qdm_check(qdm, all->cluster,
				       d ? d->qdm.generation : 0, err)
			: ql_error_set(err, -EPERM,
				       "this node is of no cluster (it has no "
				       "peers.cluster)");

	if (r < 0)
		return r;
	if (me == QL_QDM_NONE)
		return ql_error_set(err, -ENOENT,
				    "the deployment manifest has no node %s",
				    all->name);
	if (all->stop)
		return ql_error_set(err, -ESHUTDOWN, "the agent is stopping");
	if (!d)
		return deployment_new(all, qdm, me, err);
	if (d->qdm.generation == qdm->generation)
		r = contradicts(&d->qdm, qdm, err);
	return r < 0 ? r : deployment_renew(d, qdm, me, err);
}

int ql_deployments_accept(struct ql_deployments *all, const char *text,
			  size_t len, struct ql_error *err)
{
	_cleanup_qdm_ struct ql_qdm qdm = { 0 };
	int r = ql_qdm_parse(text, len, &qdm, err);

	if (r < 0)
		return r;
	(void)pthread_mutex_lock(&all->lock);
	r = accept_locked(all, &qdm, err);
	(void)pthread_mutex_unlock(&all->lock);
	return r;
}

/* ---- how they come on ---- */

/* What is here is known once all of the image is. */
static json_t *pieces_json(const struct deployment *d)
{
	const struct ql_qdm_node *me = &d->qdm.nodes[d->me];
	json_t *list = json_array();

	for (uint32_t i = 0; i < me->n && list; i++) {
		const struct ql_qdm_fetch *f = &d->qdm.fetches[me->first + i];
		bool here = d->state == DONE;
		json_t *one = json_pack("{s:o, s:I, s:b}", "digest",
					ql_json_digest(&f->digest), "bytes",
					(json_int_t)f->bytes, "here", here);

		if (json_array_append_new(list, one) < 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *deployment_json(const struct deployment *d, uint64_t fetched)
{
	static const char *const states[] = {
		[FETCHING] = "fetching",
		[DONE] = "done",
		[FAILED] = "failed",
	};
	uint64_t end = d->finished ? d->finished : ql_now_ns();

	return json_pack(
		"{s:I, s:s, s:o, s:s, s:f, s:I, s:o, s:o}", "generation",
		(json_int_t)d->qdm.generation, "reference", d->qdm.reference,
		"digest", ql_json_digest(&d->qdm.digest), "state",
		states[d->state], "seconds", (double)(end - d->started) / 1e9,
		"fetched", (json_int_t)(fetched - d->bytes_at), "pieces",
		pieces_json(d), "error",
		d->state == FAILED ? ql_json_text(d->err.text) : json_null());
}

json_t *ql_deployments_json(struct ql_deployments *all)
{
	uint64_t fetched = bytes_fetched(all);
	json_t *list = json_array();
	bool ok = list != NULL;

	(void)pthread_mutex_lock(&all->lock);
	for (const struct deployment *d = all->list; d && ok; d = d->next)
		ok = json_array_append_new(list, deployment_json(d, fetched)) ==
		     0;
	(void)pthread_mutex_unlock(&all->lock);
	if (!ok) {
		json_decref(list);
		return NULL;
	}
	return json_pack("{s:s, s:o, s:o}", "name", all->name, "cluster",
			 ql_json_text(all->cluster), "deployments", list);
}

/* ---- life ---- */

int ql_deployments_new(struct ql_agent *agent, const char *name,
		       const char *cluster,
		       struct ql_deployments **ret_deployments,
		       struct ql_error *err)
{
	struct ql_deployments *all = calloc(1, sizeof(*all));

	if (!all)
		return ql_error_nomem(err);
	all->agent = agent;
	all->name = name;
	all->cluster = cluster;
	(void)pthread_mutex_init(&all->lock, NULL);
	(void)pthread_cond_init(&all->cond, NULL);
	*ret_deployments = all;
	return 0;
}

void ql_deployments_stop(struct ql_deployments *all)
{
	if (!all)
		return;
	(void)pthread_mutex_lock(&all->lock);
	all->stop = true;
	(void)pthread_cond_broadcast(&all->cond);
	(void)pthread_mutex_unlock(&all->lock);
}

void ql_deployments_free(struct ql_deployments *all)
{
	struct deployment *d;

	if (!all)
		return;
	ql_deployments_stop(all);
	while ((d = all->list)) {
		all->list = d->next;
		deployment_free(d);
	}
	(void)pthread_cond_destroy(&all->cond);
	(void)pthread_mutex_destroy(&all->lock);
	free(all);
}
