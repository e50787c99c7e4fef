/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filling for those who wait until it is done: a command that reads a file, or
 * wants all of an image, and has no filler of its own.
 */
#include "fetch/fill-private.h"

#include <errno.h>

#define FULL_NS 2000000000ULL  /* without room, before a wait for all ends */
#define LOOK_NS 200000000ULL   /* how often a wait for all looks around */
#define GIVE_PIECE (1UL << 20) /* bytes that are read at once */

bool ql_fill_needed(struct ql_store *store, const struct ql_image_info *info)
{
	if (info->flags & QL_IMAGE_READY)
		return !(info->flags & QL_IMAGE_WHOLE);
	for (uint32_t i = 0; i < info->n_layers; i++) {
		struct ql_layer_info layer;

		if (ql_layer_get(store, &info->layers[i], &layer) < 0 ||
		    layer.flags & QL_LAYER_LAZY)
			return true;
	}
	return false;
}

bool ql_fill_lacks(struct ql_store *store, const struct ql_image_info *info)
{
	return ql_fill_needed(store, info) && !ql_image_is_here(store, info);
}

/* ---- one object ---- */

struct blocking {
	struct ql_fill_waiter w; /* first: done() gets it back */
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
	int error;
};

static void blocking_done(struct ql_fill_waiter *w, int error)
{
	struct blocking *b = (struct blocking *)w;

	(void)pthread_mutex_lock(&b->lock);
	b->done = true;
	b->error = error;
	(void)pthread_cond_signal(&b->cond);
	(void)pthread_mutex_unlock(&b->lock);
}

/* Waits; b stays until what it got was taken. */
static int blocking_wait(struct ql_filler *f, struct ql_fill_file *file,
			 struct blocking *b)
{
	int r = ql_fill_wait(f, file, &b->w);

	if (r != -EINPROGRESS)
		return r;
	(void)pthread_mutex_lock(&b->lock);
	while (!b->done)
		(void)pthread_cond_wait(&b->cond, &b->lock);
	r = b->error;
	(void)pthread_mutex_unlock(&b->lock);
	return r;
}

int ql_fill_await(struct ql_filler *f, struct ql_fill_file *file,
		  uint64_t offset, uint64_t len)
{
	struct blocking b = {
		.w = { .offset = offset, .len = len, .done = blocking_done },
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.cond = PTHREAD_COND_INITIALIZER,
	};

	return blocking_wait(f, file, &b);
}

/* A part of a file, which may stand nowhere. */
static int piece_give(struct ql_filler *f, struct ql_fill_file *file,
		      uint64_t offset, size_t len, ql_fill_bytes_fn *fn,
		      void *arg)
{
	struct blocking b = {
		.w = { .offset = offset,
		       .len = len,
		       .done = blocking_done,
		       .takes = true },
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.cond = PTHREAD_COND_INITIALIZER,
	};
	_cleanup_free_ char *buf = malloc(len);
	const char *data = NULL;
	ssize_t n = 0;
	int r = buf ? blocking_wait(f, file, &b) : -ENOMEM;

	if (r == 0)
		r = ql_fill_taken(f, &b.w, &data, &len);
	if (r == 0 && !data) {
		n = ql_pread_full(ql_fill_fd(f, file), buf, b.w.len, offset);
		r = n < 0 ? (int)n : 0;
	}
	if (r == 0)
		r = fn(data ? data : buf, data ? len : (size_t)n, arg);
	ql_fill_waiter_release(&b.w);
	return r;
}

static int object_give(struct ql_fill_image *image, struct ql_fill_file *file,
		       ql_fill_bytes_fn *fn, void *arg)
{
	int r = 0;

	for (uint64_t at = 0; at < file->size && r == 0; at += GIVE_PIECE)
		r = piece_give(image->filler, file, at, GIVE_PIECE, fn, arg);
	return r < 0 ? r : 1;
}

static int object_fill(struct ql_fill_image *image,
		       const struct ql_digest *object, ql_fill_bytes_fn *fn,
		       void *arg, struct ql_error *err)
{
	char digest[QL_DIGEST_TEXT + 1];
	struct ql_fill_file *file;
	int r = ql_fill_open(image, object, &file, err);

	if (r == -EEXIST)
		return 0;
	if (r == -ENOENT)
		return ql_error_set(err, -EIO,
				    "%s is not here, and nothing says where "
				    "it is",
				    ql_digest_text(object, digest));
	if (r < 0)
		return r;
	r = ql_fill_await(image->filler, file, 0, UINT64_MAX);
	if (r == -ENOSPC && ql_space_is_limited(image->filler->store))
		r = object_give(image, file, fn, arg);
	ql_fill_close(image->filler, file);
	if (r < 0)
		return ql_error_set(err, -EIO, "%s could not be fetched: %s",
				    ql_digest_text(object, digest),
				    ql_filler_last_error(image->filler));
	return r > 0 ? r : ql_fill_flush(image->filler, err);
}

int ql_fill_object(struct ql_store *store, const struct ql_image_info *info,
		   const struct ql_digest *object,
		   const struct ql_fill_options *options, ql_fill_bytes_fn *fn,
		   void *arg, struct ql_error *err)
{
	_cleanup_(ql_filler_freep) struct ql_filler *f = NULL;
	struct ql_fill_image *image = NULL;
	int r = ql_filler_new(store, options, &f, err);

	if (r == 0)
		r = ql_fill_image_open(f, info, &image, err);
	if (r == 0)
		r = object_fill(image, object, fn, arg, err);
	ql_fill_image_close(image);
	return r;
}

/* ---- a trace ---- */

static int trace_fill(struct ql_fill_image *image, const struct ql_tree *tree,
		      const struct ql_trace *trace, size_t *missing,
		      struct ql_error *err)
{
	/* NULL: it is here. */
	struct ql_fill_file **files =
		calloc(trace->n + 1, sizeof(struct ql_fill_file *));
	int r = files ? 0 : ql_error_nomem(err);

	for (size_t i = 0; i < trace->n && r >= 0; i++) {
		r = ql_fill_ask_item(image, tree, &trace->items[i], &files[i],
				     err);
		*missing += r == 0;
	}
	for (size_t i = 0; files && i < trace->n; i++) {
		const struct ql_trace_item *item = &trace->items[i];

		if (!files[i])
			continue;
		if (r >= 0)
			r = ql_fill_await(image->filler, files[i], item->offset,
					  item->len ? item->len : UINT64_MAX);
		if (r < 0)
			(void)ql_error_set(err, -EIO,
					   "%s could not be fetched: %s",
					   item->path,
					   ql_filler_last_error(image->filler));
		ql_fill_close(image->filler, files[i]);
	}
	free(files);
	return r < 0 ? -EIO : ql_fill_flush(image->filler, err);
}

int ql_fill_trace(struct ql_store *store, const struct ql_image_info *info,
		  const struct ql_trace *trace,
		  const struct ql_fill_options *options, size_t *ret_missing,
		  struct ql_error *err)
{
	_cleanup_(ql_filler_freep) struct ql_filler *f = NULL;
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	struct ql_fill_image *image = NULL;
	size_t missing = 0;
	int r = ql_tree_open_image(store, &info->manifest, &tree, err);

	if (r == 0)
		r = ql_filler_new(store, options, &f, err);
	if (r == 0)
		r = ql_fill_image_open(f, info, &image, err);
	if (r == 0)
		r = trace_fill(image, tree, trace, &missing, err);
	ql_fill_image_close(image);
	if (r == 0)
		*ret_missing = missing;
	return r;
}

/* ---- all of an image ---- */

static int wait_all(struct ql_filler *f, struct ql_fill_image *image,
		    const atomic_bool *cancel, struct ql_fill_stats *stats,
		    struct ql_error *err)
{
	uint64_t moved = 0, since = ql_now_ns();

	/* It goes on for as long as something comes. */
	while (!ql_fill_image_here(image, LOOK_NS)) {
		ql_filler_stats(f, stats);
		if (stats->bytes_fetched + stats->bytes_packed != moved)
			since = ql_now_ns();
		moved = stats->bytes_fetched + stats->bytes_packed;
		if (cancel && atomic_load(cancel))
			return ql_error_set(err, -ECANCELED, "canceled");
		/* It would be fetched again and again. */
		if (ql_filler_full_ns(f) > FULL_NS)
			return ql_error_set(err, -ENOSPC, "%s",
					    ql_filler_last_error(f));
		if (ql_now_ns() - since > f->options.read_timeout)
			return ql_error_set(err, -EIO,
					    "not all of the image could be "
					    "fetched: %s",
					    ql_filler_last_error(f));
	}
	return ql_fill_flush(f, err);
}

int ql_fill_missing(struct ql_store *store, const struct ql_image_info *info,
		    const struct ql_fill_options *options,
		    const atomic_bool *cancel, struct ql_fill_stats *stats,
		    struct ql_error *err)
{
	_cleanup_(ql_filler_freep) struct ql_filler *f = NULL;
	struct ql_fill_options all = *options;
	struct ql_fill_image *image = NULL;
	int r;

	all.background_rate = UINT64_MAX;
	all.unread = true;
	r = ql_filler_new(store, &all, &f, err);
	if (r == 0)
		r = ql_fill_image_open(f, info, &image, err);
	if (r == 0) {
		ql_fill_image_rest(image);
		r = wait_all(f, image, cancel, stats, err);
		ql_filler_stats(f, stats);
	}
	ql_fill_image_close(image);
	return r;
}

int ql_fill_all(struct ql_store *store, const struct ql_image_info *info,
		const struct ql_fill_options *options, struct ql_error *err)
{
	struct ql_fill_stats stats;

	return ql_fill_missing(store, info, options, NULL, &stats, err);
}
