/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The images that are being pulled, and who waits to see more of them.  A
 * pull's threads add what has passed; a thread of this file's own tells those
 * who wait to ask again, so that neither a pull nor a server's thread stands
 * still for them.
 *
 * One lock protects all of it.  Under it, a layer's door is asked for a file
 * (store/ingest.c has a lock of its own), and nothing else is called.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/grow.h"

enum {
	/* Of one image: beyond it, who looks waits for the end. */
	BYTES_MAX = 128 << 20,
	TICK_MS = 250,
};

struct growlayer {
	struct ql_growing *growing;  /* borrowed */
	struct ql_growlayer *layer;  /* owned */
	struct ql_layer_watch watch; /* its arg is this */
	struct ql_ingest *door;	     /* borrowed; while it is read */
	bool passed;		     /* its entries have come this way, */
	bool unfit;		     /* but not all of them have been kept */
};

struct ql_growing {
	struct ql_growings *growings; /* borrowed */
	struct ql_pull_watch watch;   /* its arg is this; never changes */
	char *name;		      /* owned; never changes */
	atomic_size_t budget;	      /* bytes */

	/* growings->lock protects all below. */
	struct ql_growing *next; /* in growings->list */
	unsigned int refs;
	bool listed;
	struct ql_digest manifest;
	struct ql_digest *diff_ids; /* owned; n, as those below */
	struct growlayer *layers;   /* owned */
	struct ql_growpart *parts;  /* owned */
	uint32_t n;
	uint64_t progress;	     /* ns: when bytes came last */
	struct ql_growwait *waiting; /* owned by who waits */
};

struct ql_growings {
	struct ql_store *store; /* borrowed */
	uint64_t read_timeout;	/* ns */
	pthread_t thread;

	pthread_mutex_t lock; /* protects all below */
	pthread_cond_t cond;  /* somebody is due, or the end */
	struct ql_growing *list;
	struct ql_growwait *due; /* to be told */
	struct ql_growwait **due_last;
	bool stop;
};

/* ---- who waits, under the lock ---- */

/* FNV-1a (RFC 9923). */
static uint64_t path_hash(const char *path)
{
	uint64_t h = 0xcbf29ce484222325;

	for (; *path; path++)
		h = (h ^ (uint8_t)*path) * 0x100000001b3;
	return h;
}

static void queue_locked(struct ql_growing *g, struct ql_growwait *w)
{
	w->next = g->waiting;
	if (w->next)
		w->next->prev = &w->next;
	w->prev = &g->waiting;
	g->waiting = w;
	w->queued = true;
}

static void due_locked(struct ql_growings *gs, struct ql_growwait *w, int error)
{
	if (w->queued) {
		*w->prev = w->next;
		if (w->next)
			w->next->prev = w->prev;
	}
	w->queued = false;
	w->error = error;
	w->next = NULL;
	*gs->due_last = w;
	gs->due_last = &w->next;
	(void)pthread_cond_signal(&gs->cond);
}

static void wake_all_locked(struct ql_growing *g, bool ended, int error)
{
	struct ql_growwait *next;

	for (struct ql_growwait *w = g->waiting; w; w = next) {
		next = w->next;
		if (ended || !w->whole)
			due_locked(g->growings, w, error);
	}
}

static void wake_path_locked(struct ql_growing *g, const char *path)
{
	uint64_t hash = g->waiting ? path_hash(path) : 0;
	struct ql_growwait *next;

	for (struct ql_growwait *w = g->waiting; w; w = next) {
		next = w->next;
		if (!w->whole && w->hash == hash)
			due_locked(g->growings, w, 0);
	}
}

static void expire_locked(struct ql_growings *gs)
{
	uint64_t now = ql_now_ns();
	struct ql_growwait *next;

	for (struct ql_growing *g = gs->list; g; g = g->next) {
		for (struct ql_growwait *w = g->waiting; w; w = next) {
			uint64_t from = w->since > g->progress ? w->since
							       : g->progress;

			next = w->next;
			if (now > from && now - from > gs->read_timeout)
				due_locked(gs, w, -EIO);
		}
	}
}

static bool anybody_waits_locked(const struct ql_growings *gs)
{
	const struct ql_growing *g = gs->list;

	while (g && !g->waiting)
		g = g->next;
	return g != NULL;
}

/* ---- its thread ---- */

static void sleep_locked(struct ql_growings *gs)
{
	struct timespec ts;

	if (!anybody_waits_locked(gs)) {
		(void)pthread_cond_wait(&gs->cond, &gs->lock);
		return;
	}
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_nsec += TICK_MS * 1000000L;
	ts.tv_sec += ts.tv_nsec / 1000000000;
	ts.tv_nsec %= 1000000000;
	(void)pthread_cond_timedwait(&gs->cond, &gs->lock, &ts);
	expire_locked(gs);
}

static void *growings_main(void *arg)
{
	struct ql_growings *gs = arg;
	struct ql_growwait *w;
	int error;

	(void)pthread_mutex_lock(&gs->lock);
	for (;;) {
		while (!gs->due && !gs->stop)
			sleep_locked(gs);
		w = gs->due;
		if (!w)
			break;
		gs->due = w->next;
		if (!gs->due)
			gs->due_last = &gs->due;
		error = w->error;
		(void)pthread_mutex_unlock(&gs->lock);
		w->done(w, error);
		(void)pthread_mutex_lock(&gs->lock);
	}
	(void)pthread_mutex_unlock(&gs->lock);
	return NULL;
}

int ql_growings_new(struct ql_store *store, uint64_t read_timeout,
		    struct ql_growings **ret_growings, struct ql_error *err)
{
	struct ql_growings *gs = calloc(1, sizeof(*gs));
	pthread_condattr_t attr;

	if (!gs)
		return ql_error_nomem(err);
	gs->store = store;
	gs->read_timeout = read_timeout;
	gs->due_last = &gs->due;
	(void)pthread_mutex_init(&gs->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&gs->cond, &attr);
	(void)pthread_condattr_destroy(&attr);
	if (pthread_create(&gs->thread, NULL, growings_main, gs) != 0) {
		gs->stop = true;
		ql_growings_free(gs);
		return ql_error_set(err, -EAGAIN, "cannot start a thread");
	}
	*ret_growings = gs;
	return 0;
}

void ql_growings_stop(struct ql_growings *gs)
{
	bool was;

	if (!gs)
		return;
	(void)pthread_mutex_lock(&gs->lock);
	was = gs->stop;
	gs->stop = true;
	for (struct ql_growing *g = gs->list; g; g = g->next)
		wake_all_locked(g, true, -EIO);
	(void)pthread_cond_signal(&gs->cond);
	(void)pthread_mutex_unlock(&gs->lock);
	if (!was)
		(void)pthread_join(gs->thread, NULL);
}

void ql_growings_free(struct ql_growings *gs)
{
	if (!gs)
		return;
	ql_growings_stop(gs);
	(void)pthread_cond_destroy(&gs->cond);
	(void)pthread_mutex_destroy(&gs->lock);
	free(gs);
}

/* ---- waiting ---- */

void ql_growings_wait(struct ql_growings *gs, const struct ql_digest *manifest,
		      struct ql_growwait *w)
{
	struct ql_growfile file;
	struct ql_growing *g;

	w->hash = path_hash(w->path);
	w->since = ql_now_ns();
	(void)pthread_mutex_lock(&gs->lock);
	g = gs->list;
	while (g && !ql_digest_equal(&g->manifest, manifest))
		g = g->next;
	if (gs->stop && w->error == 0)
		w->error = -EIO;
	if (w->error < 0 || !g ||
	    (!w->whole &&
	     ql_growstack_find(&(struct ql_growstack){ g->parts, g->n },
			       w->path, &file) != -EINPROGRESS))
		due_locked(gs, w, w->error);
	else
		queue_locked(g, w);
	(void)pthread_cond_signal(&gs->cond);
	(void)pthread_mutex_unlock(&gs->lock);
}

void ql_growwait_hurry(struct ql_growwait *w, int error)
{
	(void)pthread_mutex_lock(&w->growings->lock);
	if (w->queued)
		due_locked(w->growings, w, error);
	else if (w->error == 0)
		w->error = error;
	(void)pthread_mutex_unlock(&w->growings->lock);
}

/* ---- what a pull tells ---- */

static void layer_begin(struct ql_ingest *door, void *arg)
{
	struct growlayer *l = arg;
	struct ql_growings *gs = l->growing->growings;

	(void)pthread_mutex_lock(&gs->lock);
	l->door = door;
	l->passed = true;
	(void)pthread_mutex_unlock(&gs->lock);
}

static void layer_entry(const struct ql_tar_entry *e,
			const struct ql_content *content, void *arg)
{
	struct growlayer *l = arg;
	struct ql_growing *g = l->growing;

	if (l->unfit) /* only this thread sets it */
		return;
	(void)pthread_mutex_lock(&g->growings->lock);
	if (ql_growlayer_add(l->layer, e, content) < 0)
		l->unfit = true;
	else
		wake_path_locked(g, e->path);
	(void)pthread_mutex_unlock(&g->growings->lock);
	if (l->unfit)
		ql_debug("msg=\"a layer is not shown before all is here\"");
}

static void layer_end(void *arg)
{
	struct growlayer *l = arg;

	(void)pthread_mutex_lock(&l->growing->growings->lock);
	l->door = NULL;
	(void)pthread_mutex_unlock(&l->growing->growings->lock);
}

/* Reads a layer of the store. */
static int layer_load(struct ql_growing *g, uint32_t i,
		      struct ql_growlayer **ret_layer)
{
	_cleanup_(ql_growlayer_freep) struct ql_growlayer *layer =
		ql_growlayer_new(&g->budget);
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	struct ql_error err = QL_ERROR_INIT;
	int r = layer ? ql_tree_open_layer(g->growings->store, &g->diff_ids[i],
					   &tree, &err)
		      : -ENOMEM;

	if (r == 0)
		r = ql_growlayer_load(layer, tree);
	if (r < 0)
		return r;
	*ret_layer = ql_take_ptr(layer);
	return 0;
}

/* By the thread that has read the layer, or found that it is here. */
static void on_here(uint32_t i, void *arg)
{
	struct ql_growing *g = arg;
	struct growlayer *l = &g->layers[i];
	struct ql_growlayer *loaded = NULL;

	if (g->parts[i].whole || l->unfit)
		return;
	/* Another pull may have brought it. */
	if (!l->passed && layer_load(g, i, &loaded) < 0) {
		l->unfit = true;
		return;
	}
	(void)pthread_mutex_lock(&g->growings->lock);
	if (loaded) {
		ql_growlayer_free(l->layer);
		l->layer = loaded;
		g->parts[i].layer = loaded;
	}
	g->parts[i].whole = true;
	wake_all_locked(g, false, 0);
	(void)pthread_mutex_unlock(&g->growings->lock);
}

static const struct ql_layer_watch *on_layer(uint32_t i, void *arg)
{
	struct ql_growing *g = arg;

	return &g->layers[i].watch;
}

static int parts_new(struct ql_growing *g, const struct ql_digest *diff_ids,
		     uint32_t n)
{
	g->diff_ids = calloc(n, sizeof(*diff_ids));
	g->layers = calloc(n, sizeof(*g->layers));
	g->parts = calloc(n, sizeof(*g->parts));
	if (!g->diff_ids || !g->layers || !g->parts)
		return -ENOMEM;
	g->n = n;
	for (uint32_t i = 0; i < n; i++) {
		struct growlayer *l = &g->layers[i];

		g->diff_ids[i] = diff_ids[i];
		l->growing = g;
		l->layer = ql_growlayer_new(&g->budget);
		l->watch = (struct ql_layer_watch){ .begin = layer_begin,
						    .entry = layer_entry,
						    .end = layer_end,
						    .arg = l };
		if (!l->layer)
			return -ENOMEM;
		g->parts[i].layer = l->layer;
	}
	return 0;
}

static int list_locked(struct ql_growing *g)
{
	struct ql_growings *gs = g->growings;

	if (gs->stop)
		return -ESHUTDOWN;
	for (const struct ql_growing *p = gs->list; p; p = p->next)
		if (ql_digest_equal(&p->manifest, &g->manifest))
			return -EEXIST; /* the other's shows it */
	g->progress = ql_now_ns();
	g->next = gs->list;
	gs->list = g;
	g->listed = true;
	return 0;
}

static int on_begin(const struct ql_digest *manifest,
		    const struct ql_digest *layers, uint32_t n_layers,
		    void *arg)
{
	struct ql_growing *g = arg;
	struct ql_layer_info info;
	int r = -EINVAL;

	if (n_layers > 0 && n_layers <= QL_IMAGE_LAYERS_MAX && g->n == 0)
		r = parts_new(g, layers, n_layers);
	if (r < 0)
		return r;
	g->manifest = *manifest;
	for (uint32_t i = 0; i < n_layers; i++)
		if (ql_layer_get(g->growings->store, &layers[i], &info) == 0)
			on_here(i, g);
	(void)pthread_mutex_lock(&g->growings->lock);
	r = list_locked(g);
	(void)pthread_mutex_unlock(&g->growings->lock);
	return r;
}

/* ---- an image's life ---- */

struct ql_growing *ql_growing_new(struct ql_growings *gs, const char *name)
{
	struct ql_growing *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	g->name = strdup(name);
	if (!g->name) {
		free(g);
		return NULL;
	}
	g->growings = gs;
	g->refs = 1;
	atomic_init(&g->budget, BYTES_MAX);
	g->watch = (struct ql_pull_watch){
		.begin = on_begin, .layer = on_layer, .here = on_here, .arg = g
	};
	return g;
}

const struct ql_pull_watch *ql_growing_watch(const struct ql_growing *g)
{
	return &g->watch;
}

void ql_growing_progress(struct ql_growing *g)
{
	(void)pthread_mutex_lock(&g->growings->lock);
	g->progress = ql_now_ns();
	(void)pthread_mutex_unlock(&g->growings->lock);
}

void ql_growing_end(struct ql_growing *g, int error)
{
	struct ql_growing **at = &g->growings->list;

	(void)pthread_mutex_lock(&g->growings->lock);
	if (g->listed) {
		while (*at != g)
			at = &(*at)->next;
		*at = g->next;
		g->listed = false;
	}
	wake_all_locked(g, true, error < 0 ? -EIO : 0);
	(void)pthread_mutex_unlock(&g->growings->lock);
	ql_growing_put(g);
}

static void growing_free(struct ql_growing *g)
{
	for (uint32_t i = 0; g->layers && i < g->n; i++)
		ql_growlayer_free(g->layers[i].layer);
	free(g->layers);
	free(g->parts);
	free(g->diff_ids);
	free(g->name);
	free(g);
}

void ql_growing_put(struct ql_growing *g)
{
	bool last;

	if (!g)
		return;
	(void)pthread_mutex_lock(&g->growings->lock);
	last = --g->refs == 0;
	(void)pthread_mutex_unlock(&g->growings->lock);
	if (last)
		growing_free(g);
}

/* ---- finding ---- */

struct ql_growing *ql_growings_find(struct ql_growings *gs,
				    const struct ql_digest *manifest)
{
	struct ql_growing *g;

	if (!gs)
		return NULL;
	(void)pthread_mutex_lock(&gs->lock);
	g = gs->list;
	while (g && !ql_digest_equal(&g->manifest, manifest))
		g = g->next;
	if (g)
		g->refs++;
	(void)pthread_mutex_unlock(&gs->lock);
	return g;
}

int ql_growings_each(struct ql_growings *gs, ql_image_fn *fn, void *arg)
{
	int r = 0;

	if (!gs)
		return 0;
	(void)pthread_mutex_lock(&gs->lock);
	for (const struct ql_growing *g = gs->list; g && r == 0; g = g->next) {
		const struct ql_image_info info = { .manifest = g->manifest };

		r = fn(g->name, &info, arg);
	}
	(void)pthread_mutex_unlock(&gs->lock);
	return r;
}

struct named {
	const char *name; /* borrowed; or NULL, and then */
	struct ql_digest digest;
	struct ql_digest found;
};

static int visit_named(const char *name, const struct ql_image_info *info,
		       void *arg)
{
	struct named *n = arg;

	if (n->name ? strcmp(n->name, name) != 0
		    : !ql_digest_equal(&n->digest, &info->manifest))
		return 0;
	n->found = info->manifest;
	return 1;
}

int ql_growings_named(struct ql_growings *gs, const char *text,
		      struct ql_digest *ret_manifest, struct ql_error *err)
{
	_cleanup_ref_ struct ql_ref ref = { 0 };
	struct named n = { 0 };
	int r = 0;

	if (ql_digest_parse(text, &n.digest, NULL) < 0) {
		r = ql_ref_parse(text, &ref, err);
		n.name = ref.name;
	}
	if (r == 0 && ql_growings_each(gs, visit_named, &n) == 0)
		r = ql_error_set(err, -ENOENT, "%s is not being pulled", text);
	if (r == 0)
		*ret_manifest = n.found;
	return r;
}

/* ---- looking ---- */

int ql_growing_find(struct ql_growing *g, const char *path,
		    struct ql_growfile *ret_file)
{
	const struct ql_growstack stack = { g->parts, g->n };
	int r;

	(void)pthread_mutex_lock(&g->growings->lock);
	r = ql_growstack_find(&stack, path, ret_file);
	(void)pthread_mutex_unlock(&g->growings->lock);
	return r;
}

int ql_growing_open(struct ql_growing *g, const struct ql_digest *object,
		    int *ret_fd)
{
	int r = -ENOENT;

	(void)pthread_mutex_lock(&g->growings->lock);
	for (uint32_t i = 0; i < g->n && r == -ENOENT; i++)
		if (g->layers[i].door)
			r = ql_ingest_open(g->layers[i].door, object, ret_fd);
	(void)pthread_mutex_unlock(&g->growings->lock);
	return r;
}
