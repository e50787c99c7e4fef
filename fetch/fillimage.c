/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images and files as those see them who read through a filler: an image is
 * the tables of contents that know its files, and a file is found in the first
 * of them that has it.  Images that share a layer share its table.
 */
#include "fetch/fill-private.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

/* ---- tables of contents ---- */

void ql_fill_tocs_sweep(struct ql_filler *f)
{
	struct ql_fill_toc **p = &f->tocs;

	while (*p) {
		struct ql_fill_toc *toc = *p;

		if (toc->refs > 0) {
			p = &toc->next;
			continue;
		}
		*p = toc->next;
		ql_fill_pieces_drop(f, toc);
		ql_toc_close(toc->toc);
		free(toc->state);
		free(toc);
	}
}

static int toc_find(struct ql_filler *f, const struct ql_digest *key, bool hot,
		    struct ql_toc *toc, struct ql_fill_toc **ret_toc)
{
	struct ql_fill_toc *t;

	for (t = f->tocs; t; t = t->next)
		if (t->hot == hot && ql_digest_equal(&t->key, key))
			break;
	if (t) {
		ql_toc_close(toc);
	} else {
		t = calloc(1, sizeof(*t));
		if (t)
			t->state = calloc(ql_toc_spans(toc) + 1UL, 1);
		if (!t || !t->state) {
			free(t);
			return -ENOMEM;
		}
		t->key = *key;
		t->hot = hot;
		t->toc = toc;
		t->next = f->tocs;
		f->tocs = t;
	}
	t->refs++;
	*ret_toc = t;
	return 0;
}

static int image_add_toc(struct ql_fill_image *image,
			 const struct ql_digest *key, bool hot,
			 struct ql_toc *toc, struct ql_error *err)
{
	int r;

	(void)pthread_mutex_lock(&image->filler->lock);
	r = toc_find(image->filler, key, hot, toc, &image->tocs[image->n_tocs]);
	(void)pthread_mutex_unlock(&image->filler->lock);
	if (r < 0) {
		ql_toc_close(toc);
		return ql_error_nomem(err);
	}
	image->n_tocs++;
	return 0;
}

/* By the digest of a layer's blob, or, by the layer's record, of the blob that
 * it came as. */
static int image_add_blob(struct ql_fill_image *image,
			  const struct ql_digest *blob, struct ql_error *err)
{
	struct ql_toc *toc;
	int r = ql_toc_open_blob(image->filler->store, blob, &toc, err);

	if (r == -ENOENT)
		return 0;
	return r < 0 ? r : image_add_toc(image, blob, false, toc, err);
}

static int image_add_own(struct ql_fill_image *image,
			 const struct ql_image_info *info, struct ql_error *err)
{
	struct ql_store *store = image->filler->store;
	struct ql_toc *toc;
	int r = ql_toc_open_hot(store, info, &toc, err);

	if (r == 0)
		r = image_add_toc(image, &info->manifest, true, toc, err);
	if (r < 0 && r != -ENOENT)
		return r;
	r = ql_toc_open_image(store, info, &toc, err);
	if (r == 0)
		r = image_add_toc(image, &info->manifest, false, toc, err);
	return r == -ENOENT ? 0 : r;
}

/* Uppermost first: what is above is more likely to be read. */
static int image_open_tocs(struct ql_fill_image *image,
			   const struct ql_image_info *info,
			   const struct ql_manifest *manifest,
			   struct ql_error *err)
{
	int r = image_add_own(image, info, err);

	for (uint32_t i = manifest->n_layers; i-- > 0 && r == 0;)
		r = image_add_blob(image, &manifest->layers[i].digest, err);
	for (uint32_t i = info->n_layers; i-- > 0 && r == 0;) {
		struct ql_layer_info layer;

		if (ql_layer_get(image->filler->store, &info->layers[i],
				 &layer) == 0)
			r = image_add_blob(image, &layer.blob, err);
	}
	return r;
}

/* Of an image that is one layer alone there is none. */
static int image_manifest(struct ql_store *store,
			  const struct ql_image_info *info,
			  struct ql_manifest *ret_manifest,
			  struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_MANIFEST_MAX);

	if (!ql_object_here(store, &info->manifest) ||
	    ql_object_read(store, &info->manifest, &buf, NULL) < 0)
		return 0;
	return ql_manifest_parse(ql_buf_str(&buf), buf.len, ret_manifest, err);
}

/* Nothing of it goes while it is filled, and what went before is fetched. */
static int image_hold(struct ql_store *store, const struct ql_image_info *info,
		      int *ret_fd)
{
	static const struct ql_digest none;
	struct ql_error err = QL_ERROR_INIT;
	bool image = !ql_digest_equal(&info->manifest, &none);
	int r;

	if (image)
		r = ql_image_hold(store, &info->manifest, ret_fd);
	else
		r = ql_layer_hold(store, &info->layers[0], ret_fd);
	if (r == 0 && image)
		r = ql_keep_open(store, &info->manifest, &err);
	else if (r == 0)
		r = ql_keep_open_layer(store, &info->layers[0], &err);
	/* A store that cannot be written is still read; what comes while its
	 * layers count as gone is cache that a gc may take. */
	if (r < 0)
		ql_debug("msg=\"an image is not counted\" error=%d text=\"%s\"",
			 r, err.text);
	return r == -ENOMEM ? r : 0;
}

int ql_fill_image_open(struct ql_filler *filler,
		       const struct ql_image_info *info,
		       struct ql_fill_image **ret_image, struct ql_error *err)
{
	_cleanup_manifest_ struct ql_manifest manifest = { 0 };
	struct ql_fill_image *image;
	int r = image_manifest(filler->store, info, &manifest, err);

	if (r < 0)
		return r;
	image = calloc(1, sizeof(*image));
	if (!image)
		return ql_error_nomem(err);
	image->filler = filler;
	image->held = -1;
	if (image_hold(filler->store, info, &image->held) < 0) {
		if (image->held >= 0)
			(void)close(image->held);
		free(image);
		return ql_error_nomem(err);
	}
	image->manifest = info->manifest;
	/* Of what is whole nobody asks for the rest, but to look again. */
	image->complete = !filler->options.plain &&
			  ql_fill_needed(filler->store, info) &&
			  ql_image_is_here(filler->store, info);
	image->tocs = calloc(2UL + info->n_layers + manifest.n_layers,
			     sizeof(struct ql_fill_toc *));
	(void)pthread_mutex_lock(&filler->lock);
	image->chunks_at = filler->stats.chunks;
	image->next = filler->images;
	filler->images = image;
	(void)pthread_mutex_unlock(&filler->lock);
	r = image->tocs ? image_open_tocs(image, info, &manifest, err)
			: ql_error_nomem(err);
	if (r < 0) {
		ql_fill_image_close(image);
		return r;
	}
	*ret_image = image;
	return 0;
}

/* Under the lock; the tables that nobody uses then are still there. */
static void image_unlink(struct ql_filler *f, struct ql_fill_image *image)
{
	struct ql_fill_image **p;

	for (p = &f->images; *p != image; p = &(*p)->next)
		;
	*p = image->next;
	for (size_t i = 0; i < image->n_tocs; i++)
		image->tocs[i]->refs--;
	if (image->held >= 0)
		(void)close(image->held);
	free(image->tocs);
	free(image);
}

void ql_fill_image_close(struct ql_fill_image *image)
{
	struct ql_filler *f;
	bool last;

	if (!image)
		return;
	f = image->filler;
	(void)pthread_mutex_lock(&f->lock);
	/* What was read may have been the last that was missing. */
	if (f->stats.chunks > image->chunks_at && !image->here)
		ql_fill_settle_whole(f, &image->manifest);
	image_unlink(f, image);
	ql_fill_tocs_sweep(f);
	last = !f->images;
	(void)pthread_mutex_unlock(&f->lock);
	ql_fill_sources_sweep(f->sources, last);
}

/* Under the lock. */
static void rest_begin(struct ql_fill_image *image)
{
	struct ql_filler *f = image->filler;

	if (image->complete) {
		image->here = true; /* no need to look at all of it again */
	} else if (!image->rest) {
		image->rest = true;
		image->here = false;
		image->at_toc = 0;
		image->at_chunk = 0;
		image->missing = 0;
		image->chunks_before = f->stats.chunks;
	}
	(void)pthread_cond_broadcast(&f->work);
	(void)pthread_cond_signal(&f->clock);
}

void ql_fill_image_rest(struct ql_fill_image *image)
{
	(void)pthread_mutex_lock(&image->filler->lock);
	rest_begin(image);
	(void)pthread_mutex_unlock(&image->filler->lock);
}

/* ---- the filler's own images ---- */

void ql_fill_images_sweep(struct ql_filler *f)
{
	struct ql_fill_image *next;
	bool any = false;

	for (struct ql_fill_image *i = f->images; i; i = next) {
		next = i->next;
		if (!i->own || i->rest)
			continue;
		image_unlink(f, i);
		any = true;
	}
	if (any)
		ql_fill_tocs_sweep(f);
}

static struct ql_fill_image *find_own(struct ql_filler *f,
				      const struct ql_digest *manifest)
{
	struct ql_fill_image *i = f->images;

	while (i && (!i->own || !ql_digest_equal(&i->manifest, manifest)))
		i = i->next;
	return i;
}

int ql_filler_rest(struct ql_filler *filler, const struct ql_image_info *info,
		   struct ql_error *err)
{
	struct ql_fill_image *image;
	int r = ql_fill_image_open(filler, info, &image, err);

	if (r < 0)
		return r;
	(void)pthread_mutex_lock(&filler->lock);
	/* What is not fetched is not to be held, either. */
	if (image->complete || filler->options.background_rate == 0 ||
	    find_own(filler, &info->manifest)) {
		image_unlink(filler, image);
	} else {
		image->own = true;
		rest_begin(image);
	}
	(void)pthread_mutex_unlock(&filler->lock);
	return 0;
}

bool ql_filler_is_filling(struct ql_filler *filler,
			  const struct ql_digest *manifest)
{
	bool is;

	(void)pthread_mutex_lock(&filler->lock);
	is = filler->options.background_rate > 0 &&
	     find_own(filler, manifest) != NULL;
	(void)pthread_mutex_unlock(&filler->lock);
	return is;
}

void ql_filler_forget(struct ql_filler *filler,
		      const struct ql_digest *manifest)
{
	struct ql_fill_image *image;

	(void)pthread_mutex_lock(&filler->lock);
	image = find_own(filler, manifest);
	if (image)
		image_unlink(filler, image);
	ql_fill_tocs_sweep(filler);
	(void)pthread_mutex_unlock(&filler->lock);
}

void ql_filler_set_rate(struct ql_filler *filler, uint64_t background_rate)
{
	(void)pthread_mutex_lock(&filler->lock);
	filler->options.background_rate = background_rate;
	filler->budget_at = 0;
	(void)pthread_cond_broadcast(&filler->work);
	(void)pthread_mutex_unlock(&filler->lock);
}

bool ql_fill_image_here(struct ql_fill_image *image, uint64_t wait_ns)
{
	struct ql_filler *f = image->filler;
	uint64_t until = ql_now_ns() + wait_ns;
	struct timespec ts = { (time_t)(until / 1000000000),
			       (long)(until % 1000000000) };
	bool here;

	(void)pthread_mutex_lock(&f->lock);
	while (!image->here && image->rest && !f->stop &&
	       pthread_cond_timedwait(&f->calm, &f->lock, &ts) == 0)
		;
	here = image->here;
	(void)pthread_mutex_unlock(&f->lock);
	return here;
}

/* ---- files ---- */

/* Under the lock: with every place that the image knows of it.  file may be
 * known (with a reference for the caller) or NULL. */
static int image_file(struct ql_fill_image *image,
		      const struct ql_digest *object,
		      struct ql_fill_file **file, struct ql_error *err)
{
	struct ql_fill_file *found = *file;
	int r = 0;

	for (size_t i = 0; i < image->n_tocs && r == 0; i++) {
		struct ql_fill_file *again;
		struct ql_toc_file entry;

		if (ql_toc_find(image->tocs[i]->toc, object, &entry) < 0)
			continue;
		r = ql_fill_file_get(image->filler, image->tocs[i], &entry,
				     &again, err);
		if (r == 0 && found)
			ql_fill_file_put(image->filler, again);
		if (r == 0)
			found = again;
	}
	if (r < 0 && found)
		ql_fill_file_put(image->filler, found);
	*file = r < 0 ? NULL : found;
	return r < 0 || found ? r : -ENOENT;
}

int ql_fill_open(struct ql_fill_image *image, const struct ql_digest *object,
		 struct ql_fill_file **ret_file, struct ql_error *err)
{
	struct ql_filler *f = image->filler;
	struct ql_fill_file *file;
	bool here = ql_object_here(f->store, object);
	int r = -ENOENT;

	(void)pthread_mutex_lock(&f->lock);
	file = ql_fill_file_find(f, object);
	if (file)
		file->refs++;
	if (!file && here)
		r = -EEXIST; /* since the caller looked */
	else
		r = image_file(image, object, &file, err);
	if (r == 0) {
		r = ql_fill_file_open(f, file, err);
		if (r < 0)
			ql_fill_file_put(f, file);
	}
	(void)pthread_mutex_unlock(&f->lock);
	if (r == 0)
		*ret_file = file;
	return r;
}

void ql_fill_close(struct ql_filler *filler, struct ql_fill_file *file)
{
	(void)pthread_mutex_lock(&filler->lock);
	ql_fill_file_put(filler, file);
	(void)pthread_mutex_unlock(&filler->lock);
}

int ql_fill_fd(struct ql_filler *filler, struct ql_fill_file *file)
{
	int fd;

	(void)pthread_mutex_lock(&filler->lock);
	fd = file->fd;
	(void)pthread_mutex_unlock(&filler->lock);
	return fd;
}

void ql_fill_prefetch(struct ql_filler *filler, struct ql_fill_file *file,
		      uint64_t offset, uint64_t len)
{
	(void)pthread_mutex_lock(&filler->lock);
	if (!filler->stop && !ql_fill_file_has(file, offset, len))
		(void)ql_fill_file_want(filler, file, offset, len,
					QL_FILL_PREFETCH);
	(void)pthread_mutex_unlock(&filler->lock);
}
