/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layers' workers: a few threads, each taking the largest layer that none
 * has taken yet.  A layer is written into a file without a name, uploaded to
 * each repository that needs it, read back from the first and given to the
 * proof; then its bytes are given up.  A layer that cannot be made, or is not
 * what it should be, fails the images that have it; one that the destination
 * does not take stops all.
 */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "refactor/refactor-private.h"

enum { JOBS_MAX = 8, READ_AHEAD = 1 << 20 };

struct work {
	struct ql_run *run; /* borrowed */
	uint32_t *order;    /* owned; largest first */
	atomic_bool stop;

	pthread_mutex_t lock; /* protects all below, and progress */
	uint32_t next, done;
	int error;	      /* the first */
	struct ql_error *err; /* borrowed */
};

/* ---- one layer ---- */

struct opener {
	const struct ql_run *run;
	const struct ql_plan_layer *layer;
};

static int tar_open(void *arg, struct ql_stream **ret_tar, struct ql_error *err)
{
	const struct opener *o = arg;
	_cleanup_stream_ struct ql_stream *tar = NULL;
	int r = ql_layertar_open(&o->run->inv, o->run->store, o->layer, &tar,
				 err);

	if (r == 0)
		r = ql_stream_readahead(tar, READ_AHEAD, ret_tar, err);
	if (r == 0)
		(void)ql_take_ptr(tar);
	return r;
}

static bool same_place(const struct ql_ref *a, const struct ql_ref *b)
{
	return a->kind == b->kind && strcmp(a->path, b->path) == 0 &&
	       (!a->domain || strcmp(a->domain, b->domain) == 0);
}

/* Does an image before this one, with this layer, go to the same place? */
static bool sent_before(const struct ql_run *run, const struct ql_plan_layer *l,
			uint32_t image)
{
	for (uint32_t i = 0; i < image; i++)
		if (ql_bits_has(l->images, i) &&
		    same_place(&run->inputs.list[i].dest,
			       &run->inputs.list[image].dest))
			return true;
	return false;
}

/* Where a layer is already; NULL: nowhere. */
static const struct ql_earlier_layer *earlier_of(const struct ql_run *run,
						 const struct ql_plan_layer *l)
{
	return l->member == QL_UNIT_NONE
		       ? NULL
		       : &run->earlier.list[l->member - run->plan.n_images];
}

/* Where a place has not got a kept layer and cannot take it from where it is,
 * it goes through here. */
static int image_send(struct ql_run *run, uint32_t layer, uint32_t image,
		      const struct ql_ref *from, bool *ret_there,
		      struct ql_error *err)
{
	const struct ql_earlier_layer *earlier =
		earlier_of(run, &run->plan.layers[layer]);
	int r = ql_compose_blob(run->composes[image], run->blobs[layer], from,
				ret_there, err);

	if (r != -ENODATA || !earlier)
		return r;
	r = ql_compose_fetch(run->composes[earlier->at], earlier->blob,
			     &run->push, err);
	return r < 0 ? r
		     : ql_compose_blob(run->composes[image], earlier->blob,
				       NULL, ret_there, err);
}

/* To each place where an image with this layer goes. */
static int layer_send(struct ql_run *run, uint32_t layer, struct ql_error *err)
{
	const struct ql_plan_layer *l = &run->plan.layers[layer];
	const struct ql_earlier_layer *earlier = earlier_of(run, l);
	const struct ql_ref *first =
		earlier ? &run->inputs.list[earlier->at].dest : NULL;
	int r = 0;

	run->there[layer] = true;
	for (uint32_t i = 0; i < run->inputs.n_good && r == 0; i++) {
		bool there = false;

		if (!ql_bits_has(l->images, i) || sent_before(run, l, i))
			continue;
		r = image_send(run, layer, i, first, &there, err);
		if (r < 0)
			r = ql_error_prefix(err, "%s",
					    run->inputs.list[i].dest.name);
		run->there[layer] &= there;
		first = &run->inputs.list[i].dest;
	}
	return r;
}

static int layer_prove(struct ql_run *run, uint32_t layer, struct ql_error *err)
{
	uint32_t image =
		ql_bits_first(run->plan.layers[layer].images, run->plan.words);
	_cleanup_stream_ struct ql_stream *tar = NULL;
	int r = ql_compose_read(run->composes[image], run->blobs[layer], &tar,
				err);

	if (r == 0)
		r = ql_proof_layer(run->proof, tar,
				   ql_blob_info(run->blobs[layer]), err);
	return r < 0 ? ql_error_prefix(err, "reading back") : 0;
}

/* Compressing threads of one of so many workers. */
static unsigned int threads_each(const struct ql_run *run)
{
	unsigned int workers = run->jobs < JOBS_MAX ? run->jobs : JOBS_MAX;

	/* The last layers have fewer workers than there are processors. */
	return run->jobs < 2 ? 1 : (run->jobs + workers - 1) / workers + 1;
}

static int layer_make(struct ql_run *run, uint32_t layer, struct ql_error *err)
{
	const struct ql_plan_layer *l = &run->plan.layers[layer];
	struct opener opener = { run, l };

	if (l->member == QL_UNIT_NONE)
		return ql_blob_write(tar_open, &opener, &run->push,
				     threads_each(run), &run->blobs[layer],
				     err);
	run->blobs[layer] = earlier_of(run, l)->blob;
	return 0;
}

/* What is mapped of trees and catalogues counts as this process's memory; who
 * reads it now has it again from the page cache.  What a layer took in small
 * pieces (entries of tables, nodes of trees) is free, but not given back. */
static void layer_relax(const struct ql_run *run)
{
	for (uint32_t i = 0; i < run->inv.n_members; i++)
		ql_tree_relax(run->trees[i]);
	ql_proof_relax(run->proof);
	(void)malloc_trim(0);
}

/* *ret_sent: it is not the destination that failed. */
static int layer_do(struct ql_run *run, uint32_t layer, bool *ret_sent,
		    struct ql_error *err)
{
	int r = layer_make(run, layer, err);

	*ret_sent = true;
	if (r == 0) {
		r = layer_send(run, layer, err);
		*ret_sent = r == 0;
	}
	if (r == 0)
		r = layer_prove(run, layer, err);
	if (run->blobs[layer])
		ql_blob_shed(run->blobs[layer]);
	layer_relax(run);
	return r;
}

/* ---- the workers ---- */

static void all_stop(struct work *w, uint32_t layer, const struct ql_error *why)
{
	(void)pthread_mutex_lock(&w->lock);
	if (w->error == 0) {
		w->error = why->code;
		if (w->err) {
			*w->err = *why;
			(void)ql_error_prefix(w->err, "layer %u", layer + 1);
		}
	}
	(void)pthread_mutex_unlock(&w->lock);
	atomic_store(&w->stop, true);
	for (uint32_t i = 0; i < w->run->inputs.n_good; i++)
		ql_compose_cancel(w->run->composes[i]);
}

/* The images that have the layer fail; the first reason counts. */
static void images_fail(struct work *w, uint32_t layer,
			const struct ql_error *why)
{
	const uint64_t *images = w->run->plan.layers[layer].images;

	(void)pthread_mutex_lock(&w->lock);
	for (uint32_t i = 0; i < w->run->inputs.n_good; i++) {
		struct ql_error *own = &w->run->failures[i];

		if (!ql_bits_has(images, i) || own->code != 0)
			continue;
		*own = *why;
		(void)ql_error_prefix(own, "%s: layer %u",
				      w->run->inputs.list[i].ref->name,
				      layer + 1);
	}
	(void)pthread_mutex_unlock(&w->lock);
}

/* Has it an image left? */
static bool layer_needed(struct work *w, uint32_t layer)
{
	const uint64_t *images = w->run->plan.layers[layer].images;
	bool needed = false;

	(void)pthread_mutex_lock(&w->lock);
	for (uint32_t i = 0; i < w->run->inputs.n_good && !needed; i++)
		needed = ql_bits_has(images, i) &&
			 w->run->failures[i].code == 0;
	(void)pthread_mutex_unlock(&w->lock);
	return needed;
}

static void layer_finished(struct work *w)
{
	const struct ql_refactor_options *o = w->run->options;

	(void)pthread_mutex_lock(&w->lock);
	w->done++;
	if (o->progress)
		o->progress(QL_REFACTOR_WRITING, w->done, w->run->plan.n_layers,
			    o->arg);
	(void)pthread_mutex_unlock(&w->lock);
}

static void layer_work(struct work *w, uint32_t layer)
{
	struct ql_error why = QL_ERROR_INIT;
	bool sent = false;
	int r = layer_needed(w, layer) ? layer_do(w->run, layer, &sent, &why)
				       : 0;

	if (r < 0 && why.code == 0)
		(void)ql_error_errno(&why, r, "failed");
	if (r < 0 && sent)
		images_fail(w, layer, &why);
	else if (r < 0)
		all_stop(w, layer, &why);
	else
		layer_finished(w);
}

static void *worker(void *arg)
{
	struct work *w = arg;

	while (!atomic_load(&w->stop)) {
		uint32_t at;

		(void)pthread_mutex_lock(&w->lock);
		at = w->next < w->run->plan.n_layers ? w->next++ : UINT32_MAX;
		(void)pthread_mutex_unlock(&w->lock);
		if (at == UINT32_MAX)
			break;
		layer_work(w, w->order[at]);
	}
	return NULL;
}

static int order_cmp(const void *a, const void *b, void *arg)
{
	const struct ql_plan *plan = arg;
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	if (plan->layers[x].bytes != plan->layers[y].bytes)
		return plan->layers[x].bytes < plan->layers[y].bytes ? 1 : -1;
	return x < y ? -1 : x > y;
}

int ql_layerwork_run(struct ql_run *run, struct ql_error *err)
{
	uint32_t n = run->plan.n_layers, started = 0;
	struct work w = { .run = run,
			  .order = calloc(n + 1UL, sizeof(*w.order)),
			  .err = err };
	unsigned int jobs = run->jobs < JOBS_MAX ? run->jobs : JOBS_MAX;
	pthread_t threads[JOBS_MAX];

	if (!w.order)
		return ql_error_nomem(err);
	for (uint32_t i = 0; i < n; i++)
		w.order[i] = i;
	if (n > 1)
		qsort_r(w.order, n, sizeof(*w.order), order_cmp, &run->plan);
	(void)pthread_mutex_init(&w.lock, NULL);
	while (started + 1 < jobs && started + 1 < n &&
	       pthread_create(&threads[started], NULL, worker, &w) == 0)
		started++;
	(void)worker(&w);
	while (started > 0)
		(void)pthread_join(threads[--started], NULL);
	(void)pthread_mutex_destroy(&w.lock);
	free(w.order);
	return w.error;
}
