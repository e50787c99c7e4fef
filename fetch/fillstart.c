/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A start blob that is still coming: it is read from its spool, and its
 * sources go when all of it has been used.
 */
#include "fetch/fill-private.h"

#include <errno.h>

void ql_lent_source_free(struct ql_lent_source *lent)
{
	if (!lent)
		return;
	ql_source_free(lent->src);
	ql_ref_release(&lent->ref);
	free(lent);
}

/* ---- spools in use ---- */

static void spool_free(struct ql_fill_spool *s)
{
	/* Where it failed, others of its connections may hang. */
	if (s->lent && s->lent->src)
		s->lent->src->ops->cancel(s->lent->src);
	ql_spool_free(s->spool);
	ql_lent_source_free(s->lent);
	free(s);
}

void ql_fill_spools_free(struct ql_filler *f)
{
	struct ql_fill_spool *s;

	while ((s = f->spools)) {
		f->spools = s->next;
		spool_free(s);
	}
}

void ql_fill_spools_cancel(struct ql_filler *f)
{
	for (struct ql_fill_spool *s = f->spools; s; s = s->next)
		if (s->lent->src)
			s->lent->src->ops->cancel(s->lent->src);
}

void ql_fill_spools_sweep(struct ql_filler *f)
{
	struct ql_fill_spool **p = &f->spools, *gone = NULL;

	if (f->busy[QL_FILL_PREFETCH] > 0 || f->queue.head[QL_FILL_PREFETCH])
		return;
	while (*p) {
		struct ql_fill_spool *s = *p;

		if (s->refs > 0 || !ql_spool_ended(s->spool)) {
			p = &s->next;
			continue;
		}
		*p = s->next;
		s->next = gone;
		gone = s;
	}
	if (!gone)
		return;
	(void)pthread_mutex_unlock(&f->lock);
	while (gone) {
		struct ql_fill_spool *s = gone;

		gone = s->next;
		spool_free(s);
	}
	(void)pthread_mutex_lock(&f->lock);
}

struct spool_stream {
	struct ql_stream base;
	struct ql_filler *f;	     /* borrowed */
	struct ql_fill_spool *spool; /* one reference */
	struct ql_stream *inner;     /* owned */
};

static ssize_t stream_read(struct ql_stream *stream, void *buf, size_t len,
			   struct ql_error *err)
{
	return ql_stream_read(((struct spool_stream *)stream)->inner, buf, len,
			      err);
}

static void stream_free(struct ql_stream *stream)
{
	struct spool_stream *s = (struct spool_stream *)stream;

	ql_stream_free(s->inner);
	(void)pthread_mutex_lock(&s->f->lock);
	s->spool->refs--;
	(void)pthread_mutex_unlock(&s->f->lock);
	free(s);
}

static const struct ql_stream_ops stream_ops = { stream_read, stream_free };

int ql_fill_spool_open(struct ql_filler *f, const struct ql_digest *blob,
		       uint64_t offset, uint64_t len,
		       struct ql_stream **ret_stream, struct ql_error *err)
{
	struct spool_stream *stream = calloc(1, sizeof(*stream));
	struct ql_fill_spool *s;
	int r;

	if (!stream)
		return ql_error_nomem(err);
	(void)pthread_mutex_lock(&f->lock);
	for (s = f->spools; s; s = s->next)
		if (ql_digest_equal(&s->blob, blob))
			break;
	if (s)
		s->refs++;
	(void)pthread_mutex_unlock(&f->lock);
	if (!s) {
		free(stream);
		return -ENOENT;
	}
	*stream = (struct spool_stream){ { &stream_ops }, f, s, NULL };
	r = ql_spool_stream(s->spool, offset, len, &stream->inner, err);
	if (r < 0)
		stream_free(&stream->base);
	else
		*ret_stream = &stream->base;
	return r;
}

/* ---- starting ---- */

/* Under the lock: asks for the spans of which something is not here. */
static int ask_hot(struct ql_filler *f, struct ql_fill_toc *toc)
{
	uint32_t n = ql_toc_chunks(toc->toc), last = UINT32_MAX;
	int r = 0;

	for (uint32_t k = 0; k < n && r == 0; k++) {
		struct ql_toc_chunk chunk;
		uint32_t index, span = 0;

		r = ql_toc_ordered(toc->toc, k, &index);
		if (r == 0)
			r = ql_toc_chunk(toc->toc, index, &chunk);
		if (r == 0)
			r = ql_toc_span_at(toc->toc, chunk.raw, &span);
		if (r < 0 || span == last ||
		    ql_fill_chunk_missing(f, toc, &chunk) <= 0)
			continue;
		last = span;
		r = ql_fill_queue_add(&f->queue, toc, span, span,
				      QL_FILL_PREFETCH);
	}
	(void)pthread_cond_broadcast(&f->work);
	return r;
}

/*
 * eStargz: what stands before the landmark in a layer is what its author
 * recorded of a start (estargz.md, "Prioritized Files and Landmark Files").
 * Both landmarks are one byte, 0xf; the one that says that there is nothing
 * stands first, with nothing before it.
 */
static int ask_landmark(struct ql_filler *f, struct ql_fill_toc *toc,
			const struct ql_digest *landmark)
{
	struct ql_toc_chunk chunk, mark;
	struct ql_toc_file file;
	uint32_t index, span = 0;
	int r = ql_toc_find(toc->toc, landmark, &file);

	if (r == 0)
		r = ql_toc_chunk(toc->toc, file.first_chunk, &mark);
	for (uint32_t k = 0; r == 0; k++) {
		r = ql_toc_ordered(toc->toc, k, &index);
		if (r == 0)
			r = ql_toc_chunk(toc->toc, index, &chunk);
		if (r == 0 && chunk.raw >= mark.raw)
			break;
		if (r == 0)
			r = ql_toc_span_at(toc->toc, chunk.raw, &span);
		if (r == 0 && ql_fill_chunk_missing(f, toc, &chunk) > 0)
			r = ql_fill_queue_add(&f->queue, toc, span, span,
					      QL_FILL_PREFETCH);
	}
	(void)pthread_cond_broadcast(&f->work);
	return r == -ENOENT || r == -EBADMSG ? 0 : r;
}

static int ask_landmarks(struct ql_filler *f, struct ql_fill_image *image)
{
	struct ql_digest landmark;
	int r = ql_digest_of("\xf", 1, &landmark);

	for (size_t i = 0; i < image->n_tocs && r == 0; i++)
		r = ask_landmark(f, image->tocs[i], &landmark);
	return r;
}

static int lend(struct ql_filler *f, const struct ql_fill_toc *hot,
		struct ql_spool *spool, struct ql_lent_source *lent)
{
	struct ql_fill_spool *s = calloc(1, sizeof(*s));
	struct ql_toc_blob blob;
	int r = s ? ql_toc_blob(hot->toc, 0, &blob) : -ENOMEM;

	if (r < 0) {
		free(s);
		return r;
	}
	s->blob = blob.digest;
	s->spool = spool;
	s->lent = lent;
	s->next = f->spools;
	f->spools = s;
	return 0;
}

int ql_filler_start(struct ql_filler *f, const struct ql_image_info *info,
		    struct ql_spool *spool, struct ql_lent_source *lent,
		    struct ql_error *err)
{
	struct ql_fill_image *image = NULL;
	struct ql_fill_toc *hot = NULL;
	int r = ql_fill_image_open(f, info, &image, err);

	if (r == 0 && image->n_tocs > 0 && image->tocs[0]->hot)
		hot = image->tocs[0];
	(void)pthread_mutex_lock(&f->lock);
	if (hot && spool && lend(f, hot, spool, lent) == 0) {
		spool = NULL;
		lent = NULL;
	}
	if (r == 0 && image->complete)
		r = 0; /* some of it may be packed: that is as near */
	else if (hot)
		r = ask_hot(f, hot);
	else if (r == 0)
		r = ask_landmarks(f, image);
	(void)pthread_mutex_unlock(&f->lock);
	ql_fill_image_close(image);
	ql_spool_free(spool);
	ql_lent_source_free(lent);
	return r;
}
