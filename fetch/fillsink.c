/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where decoded bytes go.  They come in raw order; the sink knows which chunk
 * lies where, and each chunk that is seen from its first byte to its last goes
 * into its file, whether it was asked for or only passes by.  Bytes are
 * written as they come, and count as there only when the chunk's digest was
 * right.  A sink belongs to one worker.
 */
#include "fetch/fill-private.h"

#include <errno.h>
#include <unistd.h>

struct ql_fill_sink {
	struct ql_filler *f;	  /* borrowed */
	struct ql_fill_toc *toc;  /* borrowed */
	struct ql_hasher *hasher; /* owned */
	uint64_t raw;		  /* of the next byte */
	uint32_t next;		  /* in raw order: the next chunk to begin */

	bool active; /* a chunk has begun */
	struct ql_toc_chunk chunk;
	uint32_t done;		   /* bytes of it */
	struct ql_fill_file *file; /* one reference; NULL: passed over */
	int fd;			   /* where it is written */
	bool single;		   /* fd is this sink's own */
};

int ql_fill_sink_new(struct ql_filler *f, struct ql_fill_toc *toc,
		     struct ql_fill_sink **ret_sink, struct ql_error *err)
{
	struct ql_fill_sink *s = calloc(1, sizeof(*s));

	if (s)
		s->hasher = ql_hasher_new();
	if (!s || !s->hasher) {
		free(s);
		return ql_error_nomem(err);
	}
	s->f = f;
	s->toc = toc;
	s->fd = -1;
	*ret_sink = s;
	return 0;
}

/* Forgets the chunk that had begun. */
static void chunk_drop(struct ql_fill_sink *s)
{
	if (s->single && s->fd >= 0)
		(void)close(s->fd);
	s->fd = -1;
	s->single = false;
	s->active = false;
	if (!s->file)
		return;
	(void)pthread_mutex_lock(&s->f->lock);
	ql_fill_file_put(s->f, s->file);
	(void)pthread_mutex_unlock(&s->f->lock);
	s->file = NULL;
}

void ql_fill_sink_free(struct ql_fill_sink *sink)
{
	if (!sink)
		return;
	chunk_drop(sink);
	ql_hasher_free(sink->hasher);
	free(sink);
}

void ql_fill_sink_seek(struct ql_fill_sink *sink, uint64_t raw)
{
	if (sink->raw == raw && sink->active)
		return; /* the chunk goes on in the next span */
	chunk_drop(sink);
	sink->raw = raw;
	sink->next = ql_toc_order_from(sink->toc->toc, raw);
}

/* Whether the chunk's bytes are wanted; then with its file. */
static int chunk_lookup(struct ql_fill_sink *s, struct ql_error *err)
{
	const struct ql_toc_chunk *c = &s->chunk;
	struct ql_toc_file entry;
	int r = ql_toc_file(s->toc->toc, c->file, &entry);

	if (r < 0)
		return ql_error_set(err, r, "table of contents: damaged");
	(void)pthread_mutex_lock(&s->f->lock);
	ql_fill_settle_throttle(s->f);
	if (ql_fill_file_find(s->f, &entry.digest) ||
	    !ql_object_here(s->f->store, &entry.digest))
		r = ql_fill_file_get(s->f, s->toc, &entry, &s->file, err);
	if (s->file) {
		if (ql_fill_file_has(s->file, c->offset, c->len)) {
			ql_fill_file_put(s->f, s->file);
			s->file = NULL;
		} else {
			r = ql_fill_file_open(s->f, s->file, err);
			s->fd = s->file->fd;
		}
	}
	(void)pthread_mutex_unlock(&s->f->lock);
	return r;
}

static int chunk_begin(struct ql_fill_sink *s, struct ql_error *err)
{
	int r;

	s->active = true;
	s->done = 0;
	r = chunk_lookup(s, err);
	if (r < 0 || !s->file)
		return r;
	if (ql_hasher_reset(s->hasher) < 0)
		return ql_error_nomem(err);
	if (!s->file->single)
		return s->fd >= 0 ? 0 : ql_error_set(err, -EIO, "no file");
	s->fd = -1;
	s->single = true;
	r = ql_store_need_space(s->f->store, s->chunk.len, err);
	return r < 0 ? r
		     : ql_object_scratch(s->f->store, &s->file->digest, &s->fd,
					 err);
}

/* The bytes are right: they count from now on. */
static int chunk_accept(struct ql_fill_sink *s)
{
	struct ql_filler *f = s->f;
	struct ql_fill_file *file = s->file;
	struct ql_fill_waiter *list;
	int r = 0;

	(void)pthread_mutex_lock(&f->lock);
	if (file->state == QL_FILL_COMING && s->single) {
		file->fd = ql_take_fd(&s->fd);
		file->state = QL_FILL_WHOLE;
		ql_fill_settle_later(f, file);
	} else if (file->state == QL_FILL_COMING) {
		r = ql_extents_add(&file->have, s->chunk.offset,
				   s->chunk.offset + s->chunk.len);
		file->dirty = true;
		ql_fill_settle_later(f, file);
	}
	f->stats.chunks++;
	f->stats.chunk_bytes += s->chunk.len;
	list = ql_fill_waiters_ready(f, file);
	(void)pthread_mutex_unlock(&f->lock);
	ql_fill_waiters_tell(list);
	return r;
}

static int chunk_end(struct ql_fill_sink *s, struct ql_error *err)
{
	const struct ql_digest *want = &s->chunk.digest;
	char digest[QL_DIGEST_TEXT + 1];
	struct ql_digest d;
	int r;

	if (!s->file) {
		s->active = false;
		return 0;
	}
	/* Nobody hashes what is whole with one chunk again. */
	if (s->single)
		want = &s->file->digest;
	ql_hasher_final(s->hasher, &d);
	if (ql_digest_equal(&d, want)) {
		r = chunk_accept(s);
		chunk_drop(s);
		return r < 0 ? ql_error_nomem(err) : 0;
	}
	(void)pthread_mutex_lock(&s->f->lock);
	s->f->stats.bad_chunks++;
	(void)pthread_mutex_unlock(&s->f->lock);
	(void)ql_digest_text(want, digest);
	chunk_drop(s);
	return ql_error_set(err, -EBADMSG, "a chunk is not of its digest %s",
			    digest);
}

static int chunk_write(struct ql_fill_sink *s, const char *data, size_t len,
		       struct ql_error *err)
{
	uint64_t at = s->chunk.offset + s->done;

	if (!s->file)
		return 0;
	ql_hasher_update(s->hasher, data, len);
	while (len > 0) {
		ssize_t n = pwrite(s->fd, data, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return ql_error_errno(err, -errno, "write to %s",
					      ql_store_root(s->f->store));
		data += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* The chunk that the next byte belongs to begins, or how many bytes there are
 * before one does. */
static int sink_advance(struct ql_fill_sink *s, uint64_t *ret_skip,
			struct ql_error *err)
{
	const struct ql_toc *toc = s->toc->toc;
	uint32_t index;
	int r;

	*ret_skip = UINT64_MAX;
	for (; s->next < ql_toc_chunks(toc); s->next++) {
		r = ql_toc_ordered(toc, s->next, &index);
		if (r == 0)
			r = ql_toc_chunk(toc, index, &s->chunk);
		if (r < 0)
			return ql_error_set(err, r,
					    "table of contents: damaged");
		if (s->chunk.raw < s->raw)
			continue; /* its start was not seen */
		*ret_skip = s->chunk.raw - s->raw;
		if (*ret_skip > 0)
			return 0;
		s->next++;
		return chunk_begin(s, err);
	}
	return 0;
}

static int sink_write(struct ql_fill_sink *s, const char *data, size_t len,
		      struct ql_error *err)
{
	int r = 0;

	while (len > 0 && r == 0) {
		uint64_t n = 0;

		if (!s->active) {
			r = sink_advance(s, &n, err);
			if (r < 0 || s->active)
				continue;
		} else {
			n = s->chunk.len - s->done;
			if (n > len)
				n = len;
			r = chunk_write(s, data, (size_t)n, err);
			s->done += (uint32_t)n;
			if (r == 0 && s->done == s->chunk.len)
				r = chunk_end(s, err);
		}
		if (n > len)
			n = len;
		s->raw += n;
		data += n;
		len -= (size_t)n;
	}
	return r;
}

int ql_fill_sink_write(struct ql_fill_sink *sink, const void *data, size_t len,
		       struct ql_error *err)
{
	int r = sink_write(sink, data, len, err);

	if (r < 0)
		chunk_drop(sink);
	return r;
}
