/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the relay has what passes fetched: by threads of its own, each with one
 * job at a time, a gap in a region of a blob.  From whom a deployment manifest
 * names, or from the registry.
 */
#include "fetch/relay.h"

#include "fetch/fill-private.h"

#include <errno.h>
#include <string.h>

enum {
	PIECE = 64 << 10,
	STACK = 256 << 10,
	/* Bytes that are fetched at once, so that what was asked for first
	 * comes first, and does not share the uplink with all that follows;
	 * enough for a link of 1 Gbit/s and 20 ms. */
	FETCHING_MAX = 3 << 20,
};
/* Where nothing comes for so long, what follows is not held up by it. */
#define SILENT_NS 1000000000ULL

/* Under the lock: whether one more may be fetched now. */
static bool is_open(const struct ql_relay *relay)
{
	return relay->fetching < FETCHING_MAX ||
	       ql_now_ns() - relay->moved_at > SILENT_NS;
}

static int piece_put(struct ql_relay *relay, struct ql_relay_job *job,
		     const void *data, size_t len, bool private,
		     struct ql_error *err)
{
	struct ql_relay_region *r = job->region;
	ssize_t n = pwrite(relay->fd, data, len, ql_relay_place(r, job->from));
	int ret;

	if (n != (ssize_t)len)
		return ql_error_errno(err, n < 0 ? -errno : -EIO, "write");
	(void)pthread_mutex_lock(&relay->lock);
	r->private = r->private || private;
	ret = ql_extents_add(&r->have, job->from, job->from + len);
	if (ret == 0) {
		(void)ql_extents_cut(&r->coming, job->from, job->from + len);
		job->from += len;
		if (!job->routed) {
			relay->fetching -= len;
			relay->moved_at = ql_now_ns();
		}
		if (relay->jobs && is_open(relay))
			(void)pthread_cond_signal(&relay->work);
	}
	if (relay->stop)
		ret = -ECANCELED;
	(void)pthread_cond_broadcast(&r->news);
	(void)pthread_mutex_unlock(&relay->lock);
	return ret < 0 ? ql_error_errno(err, ret, "what passes") : 0;
}

/* Who gives it: a peer, or (NULL) the registry. */
struct giver {
	struct ql_peer *peer; /* owned, one reference */
	struct ql_stream *in; /* owned */
	uint64_t since;	      /* ns: when it was asked */
	uint64_t first;	      /* ns: when its first byte came; 0: not yet */
	uint64_t gift;	      /* peerledger.c */
};

static void giver_release(struct giver *g)
{
	ql_stream_free(g->in);
	ql_peer_unref(g->peer);
}

/* What a peer gave to one who may not have authenticated is no secret: without
 * TLS nobody has; with it everybody has. */
static bool is_private(const struct ql_relay *relay, const struct giver *g)
{
	if (g->peer)
		return relay->peers->options.ca != NULL;
	return !(ql_fill_sources_flags(g->in) & QL_IMAGE_ANONYMOUS);
}

static int giver_read(struct ql_relay *relay, struct ql_relay_job *job,
		      struct giver *g, char *buf, struct ql_error *err)
{
	uint64_t left = job->to - job->from, from = job->from;
	ssize_t n = ql_stream_read(g->in, buf,
				   left < PIECE ? (size_t)left : PIECE, err);
	int r;

	if (n == 0)
		return ql_error_set(err, -ECONNRESET, "the blob ends early");
	if (n < 0)
		return (int)n;
	if (g->first == 0)
		g->first = ql_now_ns();
	r = piece_put(relay, job, buf, (size_t)n, is_private(relay, g), err);
	if (r == 0 && g->peer)
		ql_peers_gave(relay->peers, g->peer, &job->region->blob, from,
			      job->from, &g->gift);
	if (!g->peer)
		ql_peers_registry_came(relay->peers, (uint64_t)n);
	return r;
}

static int job_read(struct ql_relay *relay, struct ql_relay_job *job,
		    struct giver *g, char *buf, struct ql_error *err)
{
	uint64_t start = job->from;
	int r = 0;

	while (r == 0 && job->from < job->to)
		r = giver_read(relay, job, g, buf, err);
	if (r < 0 || job->from == start)
		return r;
	if (g->peer)
		ql_peer_measured(relay->peers, g->peer, g->first - g->since,
				 job->from - start, ql_now_ns() - g->first);
	else
		ql_peers_registry_measured(relay->peers, g->first - g->since,
					   job->from - start,
					   ql_now_ns() - g->first);
	return 0;
}

/* From whom a deployment manifest names, as far as they give it. */
static int job_route(struct ql_relay *relay, struct ql_relay_job *job,
		     unsigned int way, char *buf, struct ql_error *err)
{
	_cleanup_(giver_release) struct giver g = { .since = ql_now_ns() };
	const struct ql_peer_ask ask = {
		.digest = job->region->blob,
		.offset = job->from,
		.len = job->to - job->from,
		.repository = job->repository,
		.size = job->region->size,
	};
	int r = ql_peers_route_open(relay->peers, &ask, way, &g.peer, &g.in,
				    err);

	return r < 0 ? r : job_read(relay, job, &g, buf, err);
}

static int job_registry(struct ql_relay *relay, struct ql_relay_job *job,
			char *buf, struct ql_error *err)
{
	_cleanup_(giver_release) struct giver g = { .since = ql_now_ns() };
	const struct ql_descriptor d = { .digest = job->region->blob,
					 .size = job->region->size };
	int r = ql_fill_sources_open(relay->sources, job->repository, &d,
				     job->from, job->to - job->from, &g.in,
				     err);

	return r < 0 ? r : job_read(relay, job, &g, buf, err);
}

static bool is_stopping(struct ql_relay *relay)
{
	bool stop;

	(void)pthread_mutex_lock(&relay->lock);
	stop = relay->stop;
	(void)pthread_mutex_unlock(&relay->lock);
	return stop;
}

static int job_fetch(struct ql_relay *relay, struct ql_relay_job *job,
		     char *buf, struct ql_error *err)
{
	int r;

	if (!buf)
		return ql_error_nomem(err);
	r = ql_space_take(relay->peers->store, job->bytes, err);
	if (r < 0)
		return r;
	(void)pthread_mutex_lock(&relay->lock);
	job->region->taken += job->bytes;
	job->bytes = 0;
	(void)pthread_mutex_unlock(&relay->lock);
	r = -ENOENT;
	for (unsigned int way = 0; way < QL_PEER_WAYS && r < 0; way++) {
		if (is_stopping(relay))
			return ql_error_set(err, -ECANCELED, "canceled");
		r = job_route(relay, job, way, buf, err);
	}
	return r < 0 ? job_registry(relay, job, buf, err) : r;
}

void ql_relay_job_end(struct ql_relay *relay, struct ql_relay_job *job,
		      int error, const struct ql_error *err)
{
	struct ql_relay_region *r = job->region;

	(void)pthread_mutex_lock(&relay->lock);
	relay->used -= job->bytes; /* that it did not take */
	if (!job->routed && job->taken)
		relay->fetching -= job->to - job->from; /* that did not come */
	if (relay->jobs)
		(void)pthread_cond_signal(&relay->work);
	if (error < 0) {
		(void)ql_extents_cut(&r->coming, job->from, job->to);
		r->error = error;
		r->err = *err;
	}
	(void)pthread_cond_broadcast(&r->news);
	(void)pthread_mutex_unlock(&relay->lock);
	ql_relay_region_put(relay, r);
	free(job->repository);
	free(job);
}

/* Under the lock: the next one, which is being done now; or NULL: none, or not
 * yet. */
static struct ql_relay_job *job_take(struct ql_relay *relay)
{
	struct ql_relay_job **at = &relay->jobs, *job;

	/* What comes from other nodes may wait for what these wait for here. */
	while (!is_open(relay) && *at && !(*at)->routed)
		at = &(*at)->next;
	job = *at;
	if (!job)
		return NULL;
	*at = job->next;
	if (!job->next)
		relay->last = at;
	job->next = NULL;
	relay->n_jobs--;
	job->taken = true;
	if (!job->routed) {
		if (relay->fetching == 0)
			relay->moved_at = ql_now_ns();
		relay->fetching += job->to - job->from;
	}
	return job;
}

/* Under the lock: for a job, or until one may be taken. */
static void job_wait(struct ql_relay *relay)
{
	uint64_t until = ql_now_ns() + SILENT_NS;
	struct timespec ts = { (time_t)(until / 1000000000),
			       (long)(until % 1000000000) };

	relay->idle++;
	if (relay->jobs)
		(void)pthread_cond_timedwait(&relay->work, &relay->lock, &ts);
	else
		(void)pthread_cond_wait(&relay->work, &relay->lock);
	relay->idle--;
}

static void *relay_main(void *arg)
{
	struct ql_relay *relay = arg;
	_cleanup_free_ char *buf = malloc(PIECE);
	struct ql_relay_job *job;

	(void)pthread_mutex_lock(&relay->lock);
	while (!relay->stop) {
		struct ql_error err = QL_ERROR_INIT;
		int r;

		if (!(job = job_take(relay))) {
			job_wait(relay);
			continue;
		}
		if (relay->jobs)
			(void)pthread_cond_signal(&relay->work);
		(void)pthread_mutex_unlock(&relay->lock);
		r = job_fetch(relay, job, buf, &err);
		ql_relay_job_end(relay, job, r, &err);
		ql_fill_sources_sweep(relay->sources, false);
		(void)pthread_mutex_lock(&relay->lock);
	}
	(void)pthread_mutex_unlock(&relay->lock);
	return NULL;
}

/* Under the lock: for a job that is about to be added. */
int ql_relay_worker_start(struct ql_relay *relay)
{
	pthread_attr_t attr;
	int r = 0;

	if (relay->idle > relay->n_jobs || relay->n_threads == QL_RELAY_WORKERS)
		return 0;
	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, STACK);
	r = pthread_create(&relay->threads[relay->n_threads], &attr, relay_main,
			   relay);
	(void)pthread_attr_destroy(&attr);
	relay->n_threads += r == 0;
	return relay->n_threads > 0 ? 0 : -EAGAIN;
}
