/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The workers of a pull: a few threads, each taking the largest layer that
 * none has taken yet, from its blob to the store.  Where somebody looks at the
 * image meanwhile, one of them takes the uppermost instead: what an upper
 * layer has is known without those below.  Bytes pass
 *
 *   source -> counted (progress, cancelling) -> verified -> decompressed
 *          -> ql_layer_import(), which reads it all in a thread of its own
 *
 * and are written nowhere in between.  The first error stops the others: the
 * source is told to cancel, and every read asks whether it should go on.
 */
#include "fetch/peer-private.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum {
	PARALLEL_DEFAULT = 3,
	PARALLEL_MAX = 32,
	PROGRESS_MS = 100,
	LAYER_TRIES = 3,
};

struct layers {
	struct ql_store *store; /* borrowed, as all these */
	struct ql_source *src;
	const struct ql_resolved *resolved;
	const struct ql_pull_options *options;
	const struct ql_pull_watch *watch; /* or NULL */
	uint32_t *order; /* borrowed: indexes of layers, largest first */
	atomic_bool stop;

	pthread_mutex_t lock;	       /* protects all below */
	bool *taken;		       /* borrowed: by layer */
	bool descends;		       /* a worker takes the uppermost */
	struct ql_pull_result *result; /* borrowed */
	int error;		       /* the first */
	struct ql_error *err;	       /* borrowed; described there */
	pthread_mutex_t report_lock;   /* one call of progress at a time */
};

/* ---- progress ---- */

static void report(struct layers *ls, uint32_t layer, enum ql_pull_state state,
		   uint64_t done)
{
	const struct ql_descriptor *d = &ls->resolved->manifest.layers[layer];
	struct ql_pull_progress p = {
		.layer = layer,
		.n_layers = ls->resolved->manifest.n_layers,
		.state = state,
		.blob = d->digest,
		.done = done,
		.total = d->size,
	};

	if (!ls->options->progress)
		return;
	(void)pthread_mutex_lock(&ls->report_lock);
	ls->options->progress(&p, ls->options->arg);
	(void)pthread_mutex_unlock(&ls->report_lock);
}

static bool stopped(const struct layers *ls)
{
	return atomic_load(&ls->stop) ||
	       (ls->options->cancel && atomic_load(ls->options->cancel));
}

/* ---- a stream that counts ---- */

struct counted {
	struct ql_stream base;
	struct ql_stream *inner; /* owned */
	struct layers *ls;	 /* borrowed */
	uint32_t layer;
	uint64_t done;
	uint64_t reported_ns;
};

static ssize_t counted_read(struct ql_stream *s, void *buf, size_t len,
			    struct ql_error *err)
{
	struct counted *c = (struct counted *)s;
	uint64_t now;
	ssize_t n;

	if (stopped(c->ls))
		return ql_error_set(err, -ECANCELED, "canceled");
	n = ql_stream_read(c->inner, buf, len, err);
	if (n <= 0)
		return n;
	c->done += (uint64_t)n;
	now = ql_now_ns();
	if (now - c->reported_ns >= PROGRESS_MS * 1000000ULL) {
		c->reported_ns = now;
		report(c->ls, c->layer, QL_PULL_FETCHING, c->done);
	}
	return n;
}

static void counted_free(struct ql_stream *s)
{
	struct counted *c = (struct counted *)s;

	(void)pthread_mutex_lock(&c->ls->lock);
	c->ls->result->bytes_fetched += c->done;
	(void)pthread_mutex_unlock(&c->ls->lock);
	ql_stream_free(c->inner);
	free(c);
}

static const struct ql_stream_ops counted_ops = { counted_read, counted_free };

static int counted_new(struct ql_stream *inner, struct layers *ls,
		       uint32_t layer, struct ql_stream **ret_stream,
		       struct ql_error *err)
{
	struct counted *c = calloc(1, sizeof(*c));

	if (!c)
		return ql_error_nomem(err);
	c->base.ops = &counted_ops;
	c->inner = inner;
	c->ls = ls;
	c->layer = layer;
	c->reported_ns = ql_now_ns();
	*ret_stream = &c->base;
	return 0;
}

/* ---- one layer ---- */

/* The whole chain from the source to an uncompressed tar. */
static int layer_open(struct layers *ls, uint32_t layer, struct ql_spans *spans,
		      struct ql_stream **ret_tar, struct ql_error *err)
{
	const struct ql_descriptor *d = &ls->resolved->manifest.layers[layer];
	_cleanup_stream_ struct ql_stream *blob = NULL;
	_cleanup_stream_ struct ql_stream *counted = NULL;
	_cleanup_stream_ struct ql_stream *verified = NULL;
	int r = ls->src->ops->open_blob(ls->src, d, &blob, err);

	if (r < 0)
		return r;
	r = counted_new(blob, ls, layer, &counted, err);
	if (r < 0)
		return r;
	(void)ql_take_ptr(blob);
	r = ql_stream_verify(counted, &d->digest, d->size, &verified, err);
	if (r < 0)
		return r;
	(void)ql_take_ptr(counted);
	r = ql_decompress_spans(verified, spans, ret_tar, err);
	if (r == 0)
		(void)ql_take_ptr(verified);
	return r;
}

/* From its blob to the store, which gets a table of contents of the blob too.
 */
static int layer_import(struct layers *ls, uint32_t layer,
			struct ql_layer_info *info,
			struct ql_layer_stats *ret_stats, struct ql_error *err)
{
	_cleanup_(ql_toc_writer_freep) struct ql_toc_writer *toc = NULL;
	_cleanup_(ql_spans_release) struct ql_spans spans;
	struct ql_stream *tar = NULL;
	int r = ls->options->no_index ? 0 : ql_toc_writer_new(&toc, err);

	ql_spans_init(&spans, toc, &info->blob, info->blob_size);
	if (r == 0)
		r = layer_open(ls, layer, toc ? &spans : NULL, &tar, err);
	if (r < 0)
		return r;
	return ql_layer_import_watched(
		ls->store, tar, info, toc,
		ls->watch ? ls->watch->layer(layer, ls->watch->arg) : NULL,
		ret_stats, err);
}

/* Others may take away what it counts on, while it comes; and what came from
 * peers may not be what it is. */
static int layer_import_again(struct layers *ls, uint32_t layer,
			      struct ql_layer_info *info,
			      struct ql_layer_stats *ret_stats,
			      struct ql_error *err)
{
	struct ql_layer_info fresh = *info;
	int r = -EAGAIN;

	for (int i = 0; i < LAYER_TRIES && r == -EAGAIN; i++) {
		*info = fresh;
		r = layer_import(ls, layer, info, ret_stats, err);
		if (r < 0 && ls->options->peers && !stopped(ls) &&
		    ql_status_is_content(r) &&
		    ql_peers_doubt(ls->options->peers, &fresh.blob, 0,
				   fresh.blob_size))
			r = -EAGAIN;
	}
	return r;
}

/* 1: it was here; 0: it is here now. */
static int layer_fill(struct layers *ls, uint32_t layer, struct ql_error *err)
{
	const struct ql_descriptor *d = &ls->resolved->manifest.layers[layer];
	const struct ql_digest *diff_id = &ls->resolved->diff_ids[layer];
	_cleanup_(ql_layer_unlockp) struct ql_layer_lock *lock = NULL;
	struct ql_layer_info info = { 0 };
	struct ql_layer_stats stats = { 0 };
	int r;

	if (ql_layer_get(ls->store, diff_id, &info) == 0)
		return 1;
	r = ql_layer_lock(ls->store, diff_id, &lock, err);
	if (r < 0)
		return r;
	if (ql_layer_get(ls->store, diff_id, &info) == 0)
		return 1;
	if (stopped(ls))
		return ql_error_set(err, -ECANCELED, "canceled");
	report(ls, layer, QL_PULL_FETCHING, 0);
	info = (struct ql_layer_info){ .diff_id = *diff_id,
				       .blob = d->digest,
				       .blob_size = d->size };
	r = layer_import_again(ls, layer, &info, &stats, err);
	if (r < 0)
		return r;
	(void)pthread_mutex_lock(&ls->lock);
	ls->result->new_objects += stats.new_objects;
	ls->result->new_bytes += stats.new_bytes;
	ls->result->dup_objects += stats.dup_objects;
	ls->result->dup_bytes += stats.dup_bytes;
	(void)pthread_mutex_unlock(&ls->lock);
	return 0;
}

/* A layer that comes whole needs room for all of its files at once. */
static void layer_prefix(const struct ql_descriptor *d, struct ql_error *err)
{
	char digest[QL_DIGEST_TEXT + 1];

	(void)ql_digest_text(&d->digest, digest);
	if (err->code == -ENOSPC)
		(void)ql_error_prefix(err,
				      "layer %s (%" PRIu64
				      " bytes as it comes)",
				      digest, d->size);
	else
		(void)ql_error_prefix(err, "layer %s", digest);
}

/* The first error alone is kept; what it canceled is not of interest. */
static void layer_failed(struct layers *ls, uint32_t layer,
			 const struct ql_error *why)
{
	(void)pthread_mutex_lock(&ls->lock);
	if (ls->error == 0) {
		ls->error = why->code;
		if (ls->err) {
			*ls->err = *why;
			layer_prefix(&ls->resolved->manifest.layers[layer],
				     ls->err);
		}
	}
	(void)pthread_mutex_unlock(&ls->lock);
	atomic_store(&ls->stop, true);
	ls->src->ops->cancel(ls->src);
}

static void layer_run(struct layers *ls, uint32_t layer)
{
	struct ql_error why = QL_ERROR_INIT;
	int r = layer_fill(ls, layer, &why);

	if (r < 0) {
		if (why.code == 0)
			(void)ql_error_errno(&why, r, "failed");
		layer_failed(ls, layer, &why);
		return;
	}
	(void)pthread_mutex_lock(&ls->lock);
	if (r > 0)
		ls->result->layers_here++;
	else
		ls->result->layers_fetched++;
	(void)pthread_mutex_unlock(&ls->lock);
	if (ls->watch)
		ls->watch->here(layer, ls->watch->arg);
	report(ls, layer, r > 0 ? QL_PULL_HERE : QL_PULL_DONE,
	       ls->resolved->manifest.layers[layer].size);
}

/* ---- all of them ---- */

/* The layer that is next, or how many there are. */
static uint32_t layer_take(struct layers *ls, bool uppermost)
{
	uint32_t n = ls->resolved->manifest.n_layers;
	uint32_t at = n;

	(void)pthread_mutex_lock(&ls->lock);
	for (uint32_t i = 0; i < n && at == n; i++) {
		uint32_t layer = uppermost ? n - 1 - i : ls->order[i];

		if (!ls->taken[layer])
			at = layer;
	}
	if (at < n)
		ls->taken[at] = true;
	(void)pthread_mutex_unlock(&ls->lock);
	return at;
}

static void *worker(void *arg)
{
	struct layers *ls = arg;
	bool uppermost;
	uint32_t at;

	(void)pthread_mutex_lock(&ls->lock);
	uppermost = ls->watch && !ls->descends;
	ls->descends = true;
	(void)pthread_mutex_unlock(&ls->lock);
	while (!stopped(ls)) {
		at = layer_take(ls, uppermost);
		if (at == ls->resolved->manifest.n_layers)
			break;
		layer_run(ls, at);
	}
	return NULL;
}

static int larger_first(const void *a, const void *b, void *arg)
{
	const struct ql_descriptor *layers = arg;
	uint32_t ia = *(const uint32_t *)a, ib = *(const uint32_t *)b;

	if (layers[ia].size != layers[ib].size)
		return layers[ia].size > layers[ib].size ? -1 : 1;
	return ia < ib ? -1 : ia > ib;
}

/* Runs up to n workers, this thread among them. */
static void workers_run(struct layers *ls, uint32_t n)
{
	pthread_t threads[PARALLEL_MAX];
	uint32_t started = 0;

	while (started + 1 < n &&
	       pthread_create(&threads[started], NULL, worker, ls) == 0)
		started++;
	(void)worker(ls);
	while (started > 0)
		(void)pthread_join(threads[--started], NULL);
}

/* Tells who looks, where there is anything to look at. */
static void watch_begin(struct layers *ls)
{
	const struct ql_pull_watch *watch = ls->options->watch;
	uint32_t n = ls->resolved->manifest.n_layers;
	struct ql_layer_info info;
	bool all = true;

	for (uint32_t i = 0; i < n && all && watch; i++)
		all = ql_layer_get(ls->store, &ls->resolved->diff_ids[i],
				   &info) == 0;
	if (!all && watch->begin(&ls->resolved->digest, ls->resolved->diff_ids,
				 n, watch->arg) == 0)
		ls->watch = watch;
}

int ql_layers_fetch(struct ql_store *store, struct ql_source *src,
		    const struct ql_resolved *resolved,
		    const struct ql_pull_options *options,
		    struct ql_pull_result *result, struct ql_error *err)
{
	uint32_t n = resolved->manifest.n_layers;
	uint32_t parallel = options->parallel ? options->parallel
					      : PARALLEL_DEFAULT;
	struct layers ls = {
		.store = store,
		.src = src,
		.resolved = resolved,
		.options = options,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.report_lock = PTHREAD_MUTEX_INITIALIZER,
		.result = result,
		.err = err,
	};
	_cleanup_free_ uint32_t *order = calloc(n ? n : 1, sizeof(*order));
	_cleanup_free_ bool *taken = calloc(n ? n : 1, sizeof(*taken));

	if (!order || !taken)
		return ql_error_nomem(err);
	for (uint32_t i = 0; i < n; i++)
		order[i] = i;
	qsort_r(order, n, sizeof(*order), larger_first,
		resolved->manifest.layers);
	ls.order = order;
	ls.taken = taken;
	watch_begin(&ls);
	for (uint32_t i = 0; i < n; i++)
		report(&ls, i, QL_PULL_WAITING, 0);
	if (parallel > PARALLEL_MAX)
		parallel = PARALLEL_MAX;
	workers_run(&ls, parallel < n ? parallel : n);
	if (ls.error == 0 && stopped(&ls))
		return ql_error_set(err, -ECANCELED, "canceled");
	return ls.error;
}
