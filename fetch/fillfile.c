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
#include <sys/stat.h>
#include <unistd.h>

/* ---- the table ---- */

static struct ql_fill_file **bucket(struct ql_filler *f,
				    const struct ql_digest *digest)
{
	uint32_t hash;

	memcpy(&hash, digest->bytes, sizeof(hash));
	return &f->buckets[hash % QL_FILL_BUCKETS];
}

static void bucket_remove(struct ql_filler *f, struct ql_fill_file *file)
{
	struct ql_fill_file **p = bucket(f, &file->digest);

	while (*p != file)
		p = &(*p)->next;
	*p = file->next;
	file->next = NULL;
}

/* Its file was removed, with the image that it was for: who has it open reads
 * on, and nobody else does. */
static bool file_is_gone(const struct ql_filler *f,
			 const struct ql_fill_file *file)
{
	struct stat st;

	if (file->state == QL_FILL_NAMED)
		return !ql_object_here(f->store, &file->digest);
	return file->named && fstat(file->fd, &st) == 0 && st.st_nlink == 0;
}

struct ql_fill_file *ql_fill_file_find(struct ql_filler *f,
				       const struct ql_digest *digest)
{
	struct ql_fill_file *file = *bucket(f, digest);

	while (file && !ql_digest_equal(&file->digest, digest))
		file = file->next;
	if (!file || !file_is_gone(f, file))
		return file;
	bucket_remove(f, file);
	file->gone = true;
	return NULL;
}

bool ql_fill_file_is_bad(const struct ql_filler *f,
			 const struct ql_digest *digest)
{
	for (unsigned int i = 0; i < QL_FILL_BAD; i++)
		if (f->bad[i].until > 0 &&
		    ql_digest_equal(&f->bad[i].digest, digest))
			return f->bad[i].until > ql_now_ns();
	return false;
}

static bool place_is_single(const struct ql_fill_place *place)
{
	struct ql_toc_chunk chunk;

	return place->entry.n_chunks == 1 &&
	       ql_toc_chunk(place->toc->toc, place->entry.first_chunk,
			    &chunk) == 0 &&
	       chunk.len == place->entry.size;
}

/* What comes as one chunk from every place is single, until it has come. */
static void add_place(struct ql_fill_file *file, struct ql_fill_toc *toc,
		      const struct ql_toc_file *entry)
{
	struct ql_fill_place place = { toc, *entry };
	unsigned int hot = 0;

	if (file->fd < 0 && file->state == QL_FILL_COMING)
		file->single = (file->single || file->n_places == 0) &&
			       place_is_single(&place);
	for (unsigned int i = 0; i < file->n_places; i++) {
		if (file->places[i].toc == toc)
			return;
		hot += file->places[i].toc->hot;
	}
	/* There is always room for a place of parts. */
	if (toc->hot ? hot > 0 : file->n_places - hot == QL_FILL_PLACES - 1)
		return;
	toc->refs++;
	if (toc->hot) {
		memmove(file->places + 1, file->places,
			file->n_places * sizeof(place));
		file->places[0] = place;
	} else {
		file->places[file->n_places] = place;
	}
	file->n_places++;
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
		file->fd = -1;
		file->next = *p;
		*p = file;
	}
	if (entry->size != file->size)
		return ql_error_set(err, -EBADMSG,
				    "two tables of contents disagree on a "
				    "file's size");
	add_place(file, toc, entry);
	file->refs++;
	*ret_file = file;
	return 0;
}

static uint64_t file_blocks(const struct ql_fill_file *file)
{
	struct stat st;

	return fstat(file->fd, &st) < 0 ? 0 : (uint64_t)st.st_blocks * 512;
}

/* Closes it, and gives back what was taken for it.  What has a name keeps what
 * it is on disk, although nobody will know what of it is right. */
static void file_space_end(struct ql_filler *f, struct ql_fill_file *file)
{
	uint64_t blocks = 0;

	if (file->fd >= 0 && file->named && file->state == QL_FILL_COMING)
		blocks = file_blocks(file);
	if (file->fd >= 0)
		(void)close(file->fd);
	ql_space_done(f->store, file->space.taken,
		      blocks > file->space.named ? blocks - file->space.named
						 : 0);
}

void ql_fill_file_put(struct ql_filler *f, struct ql_fill_file *file)
{
	if (--file->refs > 0)
		return;
	if (!file->gone)
		bucket_remove(f, file);
	for (unsigned int i = 0; i < file->n_places; i++)
		file->places[i].toc->refs--;
	file_space_end(f, file);
	ql_fill_loose_drop(f, file);
	ql_extents_release(&file->have);
	free(file);
}

/* What no chunk covers is zeros, as the file has them already. */
static int add_holes(struct ql_fill_file *file,
		     const struct ql_fill_place *place)
{
	uint64_t pos = 0;
	int r = 0;

	for (uint32_t i = 0; i < place->entry.n_chunks && r == 0; i++) {
		struct ql_toc_chunk chunk;

		r = ql_toc_chunk(place->toc->toc, place->entry.first_chunk + i,
				 &chunk);
		if (r == 0 && chunk.offset > pos)
			r = ql_extents_add(&file->have, pos, chunk.offset);
		if (r == 0)
			pos = chunk.offset + chunk.len;
	}
	return r < 0 ? r : ql_extents_add(&file->have, pos, file->size);
}

static int file_holes(struct ql_filler *f, struct ql_fill_file *file,
		      struct ql_error *err)
{
	/* Those of parts come first. */
	const struct ql_fill_place *whole =
		&file->places[file->places[0].toc->hot && file->n_places > 1];
	int r = 0;

	if (!file->holed && !whole->toc->hot) {
		r = add_holes(file, whole);
		file->holed = r == 0;
	}
	if (r < 0)
		return ql_error_errno(err, r, "table of contents");
	if (ql_fill_file_has(file, 0, file->size))
		ql_fill_settle_later(f, file);
	return 0;
}

int ql_fill_file_open(struct ql_filler *f, struct ql_fill_file *file,
		      struct ql_error *err)
{
	int r;

	if (file->state != QL_FILL_COMING || file->single)
		return 0;
	if (file->fd >= 0)
		return file_holes(f, file, err);
	/* Room is taken for each chunk. */
	r = ql_partial_open(f->store, &file->digest, file->size, &file->fd,
			    &file->have, err);
	file->named = r == 0;
	if (file->named)
		file->space.named = file_blocks(file);
	if (r == -EBUSY) {
		r = ql_object_scratch(f->store, &file->digest, &file->fd, err);
		if (r == 0 && ftruncate(file->fd, (off_t)file->size) < 0)
			r = ql_error_errno(err, -errno, "partial file");
	}
	if (r < 0)
		return r;
	return file_holes(f, file, err);
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
static uint32_t chunk_from(const struct ql_fill_place *place, uint64_t offset)
{
	uint32_t low = 0, high = place->entry.n_chunks;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		struct ql_toc_chunk chunk;

		if (ql_toc_chunk(place->toc->toc,
				 place->entry.first_chunk + mid, &chunk) < 0)
			return place->entry.n_chunks;
		if (chunk.offset + chunk.len <= offset)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static int place_chunk(const struct ql_fill_place *place, uint32_t i,
		       uint64_t end, struct ql_toc_chunk *ret_chunk)
{
	int r;

	if (i >= place->entry.n_chunks)
		return -ENOENT;
	r = ql_toc_chunk(place->toc->toc, place->entry.first_chunk + i,
			 ret_chunk);
	if (r == 0 && ret_chunk->offset >= end)
		r = -ENOENT;
	return r;
}

/* Whether all of [pos, end) that is missing lies in the place's chunks. */
static bool place_covers(const struct ql_fill_file *file,
			 const struct ql_fill_place *place, uint64_t pos,
			 uint64_t end)
{
	struct ql_toc_chunk chunk;

	for (uint32_t i = chunk_from(place, pos);
	     pos < end && place_chunk(place, i, end, &chunk) == 0; i++) {
		if (chunk.offset > pos &&
		    !ql_extents_have(&file->have, pos, chunk.offset))
			return false;
		pos = chunk.offset + chunk.len;
	}
	return pos >= end || ql_extents_have(&file->have, pos, end);
}

/* hot: where parts of it are nearer, or NULL. */
static int place_want(struct ql_filler *f, const struct ql_fill_file *file,
		      const struct ql_fill_place *place,
		      const struct ql_fill_place *hot, uint64_t offset,
		      uint64_t end, enum ql_fill_priority priority)
{
	struct ql_toc_chunk chunk;
	int r = 0;

	for (uint32_t i = chunk_from(place, offset); r == 0; i++) {
		uint64_t from, to;

		r = place_chunk(place, i, end, &chunk);
		if (r < 0)
			break;
		from = chunk.offset > offset ? chunk.offset : offset;
		to = chunk.offset + chunk.len < end ? chunk.offset + chunk.len
						    : end;
		if (ql_fill_file_has(file, from, to - from) ||
		    (hot && place_covers(file, hot, from, to)))
			continue;
		r = ql_fill_chunk_ask(f, place->toc, &chunk, priority);
	}
	return r == -ENOENT ? 0 : r;
}

/* Where it failed a moment ago it is not asked for again at once. */
static bool place_rests(const struct ql_fill_place *place)
{
	return place->toc->not_before > 0 &&
	       place->toc->not_before > ql_now_ns();
}

/* The one that failed least of those that know the whole. */
static const struct ql_fill_place *place_choose(const struct ql_fill_file *file)
{
	const struct ql_fill_place *best = NULL;

	for (unsigned int i = 0; i < file->n_places; i++) {
		const struct ql_fill_place *place = &file->places[i];

		if (!place->toc->hot && !place_rests(place) &&
		    (!best || place->toc->failures < best->toc->failures))
			best = place;
	}
	return best;
}

int ql_fill_file_want(struct ql_filler *f, struct ql_fill_file *file,
		      uint64_t offset, uint64_t len,
		      enum ql_fill_priority priority)
{
	const struct ql_fill_place *hot = NULL, *whole = place_choose(file);
	uint64_t end = file->size;
	int r = 0;

	if (offset >= end)
		return 0;
	if (ql_fill_file_is_bad(f, &file->digest))
		return -EIO;
	if (len < end - offset)
		end = offset + len;
	/* A start's blob that fails leaves the layers' blobs. */
	if (file->places[0].toc->hot && !place_rests(&file->places[0]) &&
	    (file->places[0].toc->failures == 0 || file->n_places == 1))
		hot = &file->places[0];
	if (hot)
		r = place_want(f, file, hot, NULL, offset, end, priority);
	if (whole && r == 0)
		r = place_want(f, file, whole, hot, offset, end, priority);
	(void)pthread_cond_broadcast(&f->work);
	return r;
}

bool ql_fill_file_waits_for(const struct ql_fill_waiter *w,
			    const struct ql_fill_run *run)
{
	const struct ql_fill_place *place = NULL;
	struct ql_toc_chunk chunk;
	uint32_t first, last;

	for (unsigned int i = 0; i < w->file->n_places; i++)
		if (w->file->places[i].toc == run->toc)
			place = &w->file->places[i];
	if (!place)
		return false;
	for (uint32_t i = chunk_from(place, w->offset);
	     place_chunk(place, i, w->offset + w->len, &chunk) == 0; i++) {
		if (ql_fill_waiter_lacks(w, chunk.offset, chunk.len) &&
		    ql_toc_span_at(run->toc->toc, chunk.raw, &first) == 0 &&
		    ql_toc_span_at(run->toc->toc, chunk.raw + chunk.len - 1,
				   &last) == 0 &&
		    last >= run->first && first < run->first + run->n)
			return true;
	}
	return false;
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
	       !ql_fill_waiter_lacks(w, 0, UINT64_MAX);
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
	w->file = file;
	if (!ql_fill_file_has(file, w->offset, w->len))
		ql_fill_loose_look(filler, w);
	if (!ql_fill_waiter_lacks(w, 0, UINT64_MAX)) {
		(void)pthread_mutex_unlock(&filler->lock);
		return 0;
	}
	r = filler->stop ? -ECANCELED : 0;
	if (r == 0)
		r = ql_fill_waiter_want(filler, w);
	if (r == 0) {
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
