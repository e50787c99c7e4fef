/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layers of an image that can come when they are read: the tables of
 * contents of all of them are fetched at once, so that they cost about one
 * round trip together.  A layer that has none is left to those who fetch it
 * whole (layers.c); so is, with a word in the log, one whose table is not fit.
 */
#include "fetch/start-private.h"

#include "fetch/peer-private.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

enum { LAZY_THREADS = 16, LAZY_STACK = 512 << 10 };

struct lazy_layers {
	struct ql_store *store; /* borrowed, as these */
	struct ql_source *src;
	const struct ql_resolved *resolved;
	const struct ql_pull_options *options;
	atomic_uint next;

	pthread_mutex_t lock;	       /* protects all below */
	struct ql_pull_result *result; /* borrowed */
	int error;		       /* the first */
	struct ql_error err;
};

struct layer_range {
	struct lazy_layers *all;
	const struct ql_descriptor *d;
};

static int read_range(void *arg, uint64_t offset, uint64_t len,
		      struct ql_buf *buf, struct ql_error *err)
{
	struct layer_range *l = arg;
	struct ql_source *src = l->all->src;
	_cleanup_stream_ struct ql_stream *in = NULL;
	size_t size = (size_t)len;
	ssize_t n;
	int r = src->ops->open_range(src, l->d, offset, len, &in, err);

	if (r < 0)
		return r;
	if (ql_buf_reserve(buf, size) < 0)
		return ql_error_nomem(err);
	n = ql_stream_read_full(in, buf->data + buf->len, size, err);
	if (n < 0)
		return (int)n;
	buf->len += (size_t)n;
	(void)pthread_mutex_lock(&l->all->lock);
	l->all->result->bytes_fetched += (uint64_t)n;
	(void)pthread_mutex_unlock(&l->all->lock);
	return 0;
}

static int layer_open(struct lazy_layers *all, struct layer_range *range,
		      const struct ql_digest *diff_id, struct ql_error *err)
{
	struct ql_layer_info info = { .diff_id = *diff_id };

	return (all->options->lazy ? ql_lazylayer_open
				   : ql_lazylayer_open_shared)(
		all->store, range->d, read_range, range, &info, err);
}

static int layer_draft(struct lazy_layers *all, uint32_t i,
		       struct ql_error *err)
{
	const struct ql_digest *diff_id = &all->resolved->diff_ids[i];
	_cleanup_(ql_layer_unlockp) struct ql_layer_lock *lock = NULL;
	struct layer_range range = { all, &all->resolved->manifest.layers[i] };
	struct ql_layer_info info;
	int r;

	if (ql_layer_get(all->store, diff_id, &info) == 0)
		return 0;
	r = ql_layer_lock(all->store, diff_id, &lock, err);
	if (r < 0 || ql_layer_get(all->store, diff_id, &info) == 0)
		return r;
	r = layer_open(all, &range, diff_id, err);
	/* Its table may be a peer's invention. */
	if (r < 0 && all->options->peers && ql_status_is_content(r) &&
	    ql_peers_doubt(all->options->peers, &range.d->digest, 0,
			   range.d->size))
		r = layer_open(all, &range, diff_id, err);
	if (r == -ENOTSUP) {
		if (err->text[0])
			ql_debug("msg=\"a layer is fetched whole\" text=\"%s\"",
				 err->text);
		return 0;
	}
	return r;
}

static void *lazy_main(void *arg)
{
	struct lazy_layers *all = arg;
	uint32_t n = all->resolved->manifest.n_layers;
	uint32_t i;

	while ((i = atomic_fetch_add(&all->next, 1)) < n) {
		struct ql_error err = QL_ERROR_INIT;
		char digest[QL_DIGEST_TEXT + 1];
		int r = layer_draft(all, i, &err);

		if (r == 0)
			continue;
		(void)ql_error_prefix(
			&err, "layer %s",
			ql_digest_text(
				&all->resolved->manifest.layers[i].digest,
				digest));
		(void)pthread_mutex_lock(&all->lock);
		if (all->error == 0) {
			all->error = r;
			all->err = err;
		}
		(void)pthread_mutex_unlock(&all->lock);
	}
	return NULL;
}

int ql_lazylayers_fetch(struct ql_store *store, struct ql_source *src,
			const struct ql_resolved *resolved,
			const struct ql_pull_options *options,
			struct ql_pull_result *result, struct ql_error *err)
{
	struct lazy_layers all = { .store = store,
				   .src = src,
				   .resolved = resolved,
				   .options = options,
				   .lock = PTHREAD_MUTEX_INITIALIZER,
				   .result = result,
				   .err = QL_ERROR_INIT };
	pthread_t threads[LAZY_THREADS];
	pthread_attr_t attr;
	unsigned int n = 0;

	if (!src->ops->open_range)
		return 0;
	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, LAZY_STACK);
	while (n + 1 < resolved->manifest.n_layers && n < LAZY_THREADS &&
	       pthread_create(&threads[n], &attr, lazy_main, &all) == 0)
		n++;
	(void)pthread_attr_destroy(&attr);
	(void)lazy_main(&all);
	while (n > 0)
		(void)pthread_join(threads[--n], NULL);
	if (all.error < 0 && err)
		*err = all.err;
	return all.error;
}
