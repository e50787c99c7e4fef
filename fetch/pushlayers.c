/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The workers of a push: a few threads, each taking the next layer that none
 * has taken yet.  Bytes pass
 *
 *   source -> tracked (progress, cancelling) -> verified -> decompressed
 *          -> verified (diff ID) -> ql_layer_convert()
 *
 * into a file without a name, which is uploaded then: its digest has to be
 * known before its first byte is sent, and an upload that breaks is resumed.
 * A layer that cannot have a table of contents is read again and written
 * without.  The first error stops the others.
 */
#include "fetch/push-private.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum {
	JOBS_DEFAULT = 2,
	JOBS_MAX = 16,
	PROGRESS_MS = 100,
};

/* Lives until the destination is closed, whose thread may tell of a transfer
 * that has failed long since. */
struct work {
	const struct ql_push_work *w; /* borrowed */
	uint32_t n;
	atomic_bool stop;

	pthread_mutex_t lock; /* protects all below */
	uint32_t next;
	int error;		     /* the first */
	struct ql_error *err;	     /* borrowed; described there */
	pthread_mutex_t report_lock; /* one call of progress at a time */
	struct track *tracks;	     /* in this block; one for each layer */
};

/* One layer's progress; also for the thread that sends. */
struct track {
	struct work *work; /* borrowed */
	uint32_t layer;
	uint64_t total;	      /* bytes of what passes at the moment */
	uint64_t reported_ns; /* of whoever moves the layer's bytes */
};

static void report(struct track *t, enum ql_pull_state state, uint64_t done)
{
	const struct ql_push_work *w = t->work->w;
	struct ql_pull_progress p = {
		.layer = t->layer,
		.n_layers = t->work->n,
		.state = state,
		.blob = w->resolved->manifest.layers[t->layer].digest,
		.done = done,
		.total = t->total,
	};

	if (!w->options->progress)
		return;
	(void)pthread_mutex_lock(&t->work->report_lock);
	w->options->progress(&p, w->options->arg);
	(void)pthread_mutex_unlock(&t->work->report_lock);
}

static void report_some(struct track *t, uint64_t done)
{
	uint64_t now = ql_now_ns();

	if (now - t->reported_ns < PROGRESS_MS * 1000000ULL)
		return;
	t->reported_ns = now;
	report(t, QL_PULL_FETCHING, done);
}

static void on_sent(uint64_t bytes, void *arg)
{
	report_some(arg, bytes);
}

/* ---- a stream that is watched ---- */

struct tracked {
	struct ql_stream base;
	struct ql_stream *inner; /* owned */
	struct track *track;	 /* borrowed */
	uint64_t done;
};

static ssize_t tracked_read(struct ql_stream *s, void *buf, size_t len,
			    struct ql_error *err)
{
	struct tracked *t = (struct tracked *)s;
	ssize_t n;

	if (atomic_load(&t->track->work->stop))
		return ql_error_set(err, -ECANCELED, "canceled");
	n = ql_stream_read(t->inner, buf, len, err);
	if (n > 0) {
		t->done += (uint64_t)n;
		report_some(t->track, t->done);
	}
	return n;
}

static void tracked_free(struct ql_stream *s)
{
	ql_stream_free(((struct tracked *)s)->inner);
	free(s);
}

static const struct ql_stream_ops tracked_ops = { tracked_read, tracked_free };

static int tracked_new(struct ql_stream *inner, struct track *track,
		       struct ql_stream **ret_stream, struct ql_error *err)
{
	struct tracked *t = calloc(1, sizeof(*t));

	if (!t)
		return ql_error_nomem(err);
	t->base.ops = &tracked_ops;
	t->inner = inner;
	t->track = track;
	*ret_stream = &t->base;
	return 0;
}

/* ---- one layer ---- */

/* The source's blob, watched and checked. */
static int blob_open(struct track *t, struct ql_stream **ret_stream,
		     struct ql_error *err)
{
	const struct ql_push_work *w = t->work->w;
	const struct ql_descriptor *d = &w->resolved->manifest.layers[t->layer];
	_cleanup_stream_ struct ql_stream *blob = NULL;
	_cleanup_stream_ struct ql_stream *watched = NULL;
	int r = w->src->ops->open_blob(w->src, d, &blob, err);

	if (r < 0)
		return r;
	t->total = d->size;
	report(t, QL_PULL_FETCHING, 0);
	r = tracked_new(blob, t, &watched, err);
	if (r < 0)
		return r;
	(void)ql_take_ptr(blob);
	r = ql_stream_verify(watched, &d->digest, d->size, ret_stream, err);
	if (r == 0)
		(void)ql_take_ptr(watched);
	return r;
}

/* An uncompressed tar, checked against its diff ID. */
static int layer_open(void *arg, struct ql_stream **ret_tar,
		      struct ql_error *err)
{
	struct track *t = arg;
	const struct ql_resolved *res = t->work->w->resolved;
	_cleanup_stream_ struct ql_stream *blob = NULL;
	_cleanup_stream_ struct ql_stream *plain = NULL;
	int r = blob_open(t, &blob, err);

	if (r == 0)
		r = ql_decompress(blob, &plain, err);
	if (r < 0)
		return r;
	(void)ql_take_ptr(blob);
	r = ql_stream_verify(plain, &res->diff_ids[t->layer], UINT64_MAX,
			     ret_tar, err);
	if (r == 0)
		(void)ql_take_ptr(plain);
	return r;
}

static int layer_send(struct track *t, const struct ql_written *written,
		      struct ql_error *err)
{
	const struct ql_push_work *w = t->work->w;
	struct ql_push_layer *l = &w->layers[t->layer];
	const struct ql_push_blob blob = {
		.digest = written->digest,
		.size = written->size,
		.fd = written->fd,
		.mount = w->mount,
		.sent = on_sent,
		.arg = t,
	};
	int r;

	if (atomic_load(&t->work->stop))
		return ql_error_set(err, -ECANCELED, "canceled");
	t->total = written->size;
	r = w->dest->ops->put_blob(w->dest, &blob, &l->there, err);
	return r < 0 ? ql_error_prefix(err, "upload") : 0;
}

static int layer_push(struct track *t, struct ql_error *err)
{
	const struct ql_push_work *w = t->work->w;
	const struct ql_descriptor *d = &w->resolved->manifest.layers[t->layer];
	struct ql_push_layer *l = &w->layers[t->layer];
	struct ql_pushed_layer *p = &w->pushed[t->layer];
	const struct ql_layer_format format = ql_layer_format_of(w->options, 0);
	_cleanup_converted_ struct ql_converted c = { .written = { .fd = -1 } };
	struct ql_written *written = &c.written;
	int r = ql_layer_convert(layer_open, t,
				 &w->resolved->diff_ids[t->layer], &format, &c,
				 err);

	if (r == 0)
		r = layer_send(t, written, err);
	if (r == 0) {
		l->source = d->digest;
		l->source_size = d->size;
		l->why = ql_take_ptr(c.why);
		l->blob = written->digest;
		l->size = written->size;
		l->lazy = written->annotations != NULL;
		p->diff_id = written->diff_id;
		p->media_type = written->media_type;
		p->annotations = ql_take_ptr(written->annotations);
		report(t, l->there ? QL_PULL_HERE : QL_PULL_DONE, l->size);
	}
	return r;
}

/* The first error alone is kept; what it canceled is not of interest. */
static void layer_failed(struct track *t, const struct ql_error *why)
{
	struct work *work = t->work;
	char digest[QL_DIGEST_TEXT + 1];

	(void)pthread_mutex_lock(&work->lock);
	if (work->error == 0) {
		work->error = why->code;
		if (work->err) {
			*work->err = *why;
			(void)ql_error_prefix(
				work->err, "layer %s",
				ql_digest_text(&work->w->resolved->manifest
							.layers[t->layer]
							.digest,
					       digest));
		}
	}
	(void)pthread_mutex_unlock(&work->lock);
	atomic_store(&work->stop, true);
	work->w->src->ops->cancel(work->w->src);
	work->w->dest->ops->cancel(work->w->dest);
}

/* ---- all of them ---- */

/* The lowest layer of the same content: n where that is this one. */
static uint32_t same_as(const struct work *work, uint32_t layer)
{
	const struct ql_descriptor *d = work->w->resolved->manifest.layers;
	const struct ql_digest *ids = work->w->resolved->diff_ids;

	for (uint32_t i = 0; i < layer; i++)
		if (ql_digest_equal(&d[i].digest, &d[layer].digest) &&
		    ql_digest_equal(&ids[i], &ids[layer]))
			return i;
	return layer;
}

static void *worker(void *arg)
{
	struct work *work = arg;

	while (!atomic_load(&work->stop)) {
		struct ql_error why = QL_ERROR_INIT;
		uint32_t at;
		int r;

		(void)pthread_mutex_lock(&work->lock);
		at = work->next < work->n ? work->next++ : work->n;
		(void)pthread_mutex_unlock(&work->lock);
		if (at == work->n)
			break;
		if (same_as(work, at) != at)
			continue;
		r = layer_push(&work->tracks[at], &why);
		if (r < 0 && why.code == 0)
			(void)ql_error_errno(&why, r, "failed");
		if (r < 0)
			layer_failed(&work->tracks[at], &why);
	}
	return NULL;
}

static void workers_run(struct work *work, uint32_t jobs)
{
	pthread_t threads[JOBS_MAX];
	uint32_t started = 0;

	while (started + 1 < jobs &&
	       pthread_create(&threads[started], NULL, worker, work) == 0)
		started++;
	(void)worker(work);
	while (started > 0)
		(void)pthread_join(threads[--started], NULL);
}

/* Layers that stand in the image more than once were pushed once. */
static int repeated_fill(struct work *work, struct ql_error *err)
{
	const struct ql_push_work *w = work->w;

	for (uint32_t i = 0; i < work->n; i++) {
		uint32_t of = same_as(work, i);

		if (of == i)
			continue;
		w->layers[i] = w->layers[of];
		w->layers[i].there = true;
		w->pushed[i] = w->pushed[of];
		(void)json_incref(w->pushed[i].annotations);
		if (!w->layers[of].why)
			continue;
		w->layers[i].why = strdup(w->layers[of].why);
		if (!w->layers[i].why)
			return ql_error_nomem(err);
	}
	return 0;
}

int ql_pushlayers_run(struct ql_push_work *w, struct ql_error *err)
{
	uint32_t n = w->resolved->manifest.n_layers;
	uint32_t jobs = w->options->jobs ? w->options->jobs : JOBS_DEFAULT;
	struct work *work = calloc(1, sizeof(*work) + n * sizeof(struct track));

	if (!work)
		return ql_error_nomem(err);
	w->keep = work;
	work->w = w;
	work->n = n;
	work->err = err;
	work->tracks = (struct track *)(work + 1);
	(void)pthread_mutex_init(&work->lock, NULL);
	(void)pthread_mutex_init(&work->report_lock, NULL);
	for (uint32_t i = 0; i < n; i++) {
		work->tracks[i].work = work;
		work->tracks[i].layer = i;
		work->tracks[i].total = w->resolved->manifest.layers[i].size;
		report(&work->tracks[i], QL_PULL_WAITING, 0);
	}
	workers_run(work, jobs < JOBS_MAX ? jobs : JOBS_MAX);
	return work->error < 0 ? work->error : repeated_fill(work, err);
}
