/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects that are being filled, one entry for each content whichever image
 * asks for it, and those who wait for parts of them.  A content of one chunk
 * comes into a file without a name; a larger one into its partial file, in
 * which the parts that were there before a restart still are.
 */
#include "fetch/fill-private.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* ---- the table ---- */

static struct ql_fill_file **bucket(struct ql_filler *f,
				    const struct ql_digest *digest)
{
	uint32_t hash;

	memcpy(&hash, digest->bytes, sizeof(hash));
	return &f->buckets[hash % QL_FILL_BUCKETS];
}

struct ql_fill_file *ql_fill_file_find(struct ql_filler *f,
				       const struct ql_digest *digest)
{
	struct ql_fill_file *file = *bucket(f, digest);

	while (file && !ql_digest_equal(&file->digest, digest))
		file = file->next;
	return file;
}

int ql_fill_file_get(struct ql_filler *f, struct ql_fill_toc *toc,
		     const struct ql_toc_file *entry,
		     struct ql_fill_file **ret_file, struct ql_error *err)
{
	struct ql_fill_file *file = ql_fill_file_find(f, &entry->digest);
	struct ql_fill_file **p = bucket(f, &entry->digest);

	if (!file) {
		file = calloc(1, sizeof(*file));
		if (!file)
			return ql_error_nomem(err);
		file->digest = entry->digest;
		file->size = entry->size;
		file->entry = *entry;
		file->toc = toc;
		toc->refs++;
		file->fd = -1;
		file->next = *p;
		*p = file;
	}
	file->refs++;
	*ret_file = file;
	return 0;
}

void ql_fill_file_put(struct ql_filler *f, struct ql_fill_file *file)
{
	struct ql_fill_file **p = bucket(f, &file->digest);

	if (--file->refs > 0)
		return;
	while (*p != file)
		p = &(*p)->next;
	*p = file->next;
	file->toc->refs--;
	if (file->fd >= 0)
		(void)close(file->fd);
	ql_extents_release(&file->have);
	free(file);
}

/* What no chunk covers is zeros, as the file has them already. */
static int add_holes(struct ql_fill_file *file)
{
	uint64_t pos = 0;
	int r = 0;

	for (uint32_t i = 0; i < file->entry.n_chunks && r == 0; i++) {
		struct ql_toc_chunk chunk;

		r = ql_toc_chunk(file->toc->toc, file->entry.first_chunk + i,
				 &chunk);
		if (r == 0 && chunk.offset > pos)
			r = ql_extents_add(&file->have, pos, chunk.offset);
		if (r == 0)
			pos = chunk.offset + chunk.len;
	}
	return r < 0 ? r : ql_extents_add(&file->have, pos, file->size);
}

int ql_fill_file_open(struct ql_filler *f, struct ql_fill_file *file,
		      struct ql_error *err)
{
	int r;

	if (file->fd >= 0 || file->state != QL_FILL_COMING ||
	    ql_fill_file_is_single(file))
		return 0;
	r = ql_store_need_space(f->store, file->size, err);
	if (r == 0)
		r = ql_partial_open(f->store, &file->digest, file->size,
				    &file->fd, &file->have, err);
	file->named = r == 0;
	if (r == -EBUSY) {
		r = ql_object_scratch(f->store, &file->digest, &file->fd, err);
		if (r == 0 && ftruncate(file->fd, (off_t)file->size) < 0)
			r = ql_error_errno(err, -errno, "partial file");
	}
	if (r < 0)
		return r;
	r = add_holes(file);
	if (r < 0)
		return ql_error_errno(err, r, "table of contents");
	if (ql_fill_file_has(file, 0, file->size))
		ql_fill_settle_later(f, file);
	return 0;
}

bool ql_fill_file_is_single(const struct ql_fill_file *file)
{
	struct ql_toc_chunk chunk;

	return file->entry.n_chunks == 1 &&
	       ql_toc_chunk(file->toc->toc, file->entry.first_chunk, &chunk) ==
		       0 &&
	       chunk.len == file->size;
}

bool ql_fill_file_has(const struct ql_fill_file *file, uint64_t offset,
		      uint64_t len)
{
	uint64_t end = file->size;

	if (file->state != QL_FILL_COMING || offset >= end)
		return true;
	if (len < end - offset)
		end = offset + len;
	return ql_extents_have(&file->have, offset, end);
}

/* ---- asking ---- */

/* The first chunk that ends after offset, by place in the file. */
static uint32_t chunk_from(const struct ql_fill_file *file, uint64_t offset)
{
	uint32_t low = 0, high = file->entry.n_chunks;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		struct ql_toc_chunk chunk;

		if (ql_toc_chunk(file->toc->toc, file->entry.first_chunk + mid,
				 &chunk) < 0)
			return file->entry.n_chunks;
		if (chunk.offset + chunk.len <= offset)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

int ql_fill_file_want(struct ql_filler *f, struct ql_fill_file *file,
		      uint64_t offset, uint64_t len,
		      enum ql_fill_priority priority)
{
	const struct ql_toc *toc = file->toc->toc;
	uint64_t end = len < file->size - offset ? offset + len : file->size;
	int r = 0;

	for (uint32_t i = chunk_from(file, offset);
	     i < file->entry.n_chunks && r == 0; i++) {
		struct ql_toc_chunk chunk;
		uint32_t first, last;

		r = ql_toc_chunk(toc, file->entry.first_chunk + i, &chunk);
		if (r < 0 || chunk.offset >= end)
			break;
		if (ql_fill_file_has(file, chunk.offset, chunk.len))
			continue;
		r = ql_toc_span_at(toc, chunk.raw, &first);
		if (r == 0)
			r = ql_toc_span_at(toc, chunk.raw + chunk.len - 1,
					   &last);
		if (r == 0)
			r = ql_fill_queue_add(&f->queue, file->toc, first, last,
					      priority);
	}
	(void)pthread_cond_broadcast(&f->work);
	return r == -ENOENT ? -EBADMSG : r;
}

/* ---- waiting ---- */

static void waiter_unlink(struct ql_fill_waiter *w)
{
	*w->prev = w->next;
	if (w->next)
		w->next->prev = w->prev;
	w->prev = NULL;
}

static void waiter_link(struct ql_filler *f, struct ql_fill_waiter *w)
{
	w->next = f->waiters;
	w->prev = &f->waiters;
	if (w->next)
		w->next->prev = &w->next;
	f->waiters = w;
}

struct ql_fill_waiter *ql_fill_waiters_take(struct ql_filler *f,
					    ql_fill_waiter_fn *fn, void *arg)
{
	struct ql_fill_waiter *list = NULL;
	struct ql_fill_waiter *w, *next;

	for (w = f->waiters; w; w = next) {
		int error = w->error;

		next = w->next;
		if (!fn(w, &error, arg))
			continue;
		waiter_unlink(w);
		w->error = error;
		w->next = list;
		list = w;
	}
	return list;
}

static bool waiter_is_ready(struct ql_fill_waiter *w, int *ret_error, void *arg)
{
	const struct ql_fill_file *file = arg;

	*ret_error = 0;
	return (!file || w->file == file) &&
	       ql_fill_file_has(w->file, w->offset, w->len);
}

struct ql_fill_waiter *ql_fill_waiters_ready(struct ql_filler *f,
					     struct ql_fill_file *file)
{
	return ql_fill_waiters_take(f, waiter_is_ready, file);
}

void ql_fill_waiters_tell(struct ql_fill_waiter *list)
{
	while (list) {
		struct ql_fill_waiter *w = list;

		list = w->next;
		w->done(w, w->error);
	}
}

int ql_fill_wait(struct ql_filler *filler, struct ql_fill_file *file,
		 struct ql_fill_waiter *w)
{
	int r;

	(void)pthread_mutex_lock(&filler->lock);
	if (ql_fill_file_has(file, w->offset, w->len)) {
		(void)pthread_mutex_unlock(&filler->lock);
		return 0;
	}
	r = filler->stop ? -ECANCELED : 0;
	if (r == 0 && file->toc->not_before <= ql_now_ns())
		r = ql_fill_file_want(filler, file, w->offset, w->len,
				      QL_FILL_DEMAND);
	if (r == 0) {
		w->file = file;
		/* It may have been interrupted before it waits. */
		if (w->error == 0) {
			w->error = -ETIMEDOUT;
			w->deadline =
				ql_now_ns() + filler->options.read_timeout;
		}
		waiter_link(filler, w);
		(void)pthread_cond_signal(&filler->clock);
		r = -EINPROGRESS;
	}
	(void)pthread_mutex_unlock(&filler->lock);
	return r;
}

bool ql_fill_ready(struct ql_filler *filler, struct ql_fill_file *file,
		   const struct ql_fill_waiter *w)
{
	bool ready;

	(void)pthread_mutex_lock(&filler->lock);
	ready = ql_fill_file_has(file, w->offset, w->len);
	(void)pthread_mutex_unlock(&filler->lock);
	return ready;
}

void ql_fill_hurry(struct ql_filler *filler, struct ql_fill_waiter *w,
		   int error)
{
	(void)pthread_mutex_lock(&filler->lock);
	/* It waits, or will; else it is being told already. */
	if (w->prev || !w->file) {
		w->deadline = 0;
		w->error = error;
		filler->hurry = true;
		(void)pthread_cond_signal(&filler->clock);
	}
	(void)pthread_mutex_unlock(&filler->lock);
}
