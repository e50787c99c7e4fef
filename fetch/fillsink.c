/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where decoded bytes go.  They come in raw order; the sink knows which chunk
 * lies where, and each chunk that is seen from its first byte to its last goes
 * into its file, whether it was asked for or only passes by.  A sink belongs to
 * one worker.
 *
 * A file of many chunks gets nothing that was not verified: parts of it may be
 * there already, and being read, that a damaged chunk of another table of
 * contents overlaps.
 *
 * Where the first bytes are in the middle of a chunk, or the last ones are,
 * what there is of it joins the pieces that other runs leave.
 */
#include "fetch/fill-private.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* A larger chunk waits in a scratch file, and leaves no pieces. */
enum { BUFFER_MAX = 4 << 20, CHUNK_EDGES = 2 * 4096 };
#define FULL_NS 500000000ULL /* without room, before it is made again */

struct ql_fill_sink {
	struct ql_filler *f;	  /* borrowed */
	struct ql_fill_toc *toc;  /* borrowed */
	struct ql_hasher *hasher; /* owned */
	uint64_t raw;		  /* of the next byte */
	uint32_t next;		  /* in raw order: the next chunk to begin */
	bool amid;		  /* `next` may be entered in its middle */
	uint64_t bad;		  /* raw position, or UINT64_MAX */

	bool packs; /* what nobody waits for is only verified */
	enum ql_fill_priority priority;
	struct ql_extents kept; /* owned; raw places of what was so */
	uint32_t n_kept;	/* chunks */

	bool active; /* a chunk has begun */
	struct ql_toc_chunk chunk;
	uint32_t first;		   /* byte of it that came here */
	uint32_t done;		   /* its next byte */
	struct ql_fill_file *file; /* one reference; NULL: passed over */
	int fd;			   /* where it goes */
	bool single;		   /* fd is this sink's own */
	bool weighed;		   /* it is verified, and not written */
	struct ql_digest weight;   /* what it must be then */
	uint64_t taken;		   /* of disk: for fd */
	int scratch;		   /* owned; or -1 */
	uint64_t scratch_taken;	   /* of disk */
	/* Owned; where there is no room it goes there, or that part of it for
	 * which somebody waits. */
	struct ql_fill_loose *loose;
	char *buf; /* owned */
	size_t cap;
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
	s->scratch = -1;
	s->bad = UINT64_MAX;
	*ret_sink = s;
	return 0;
}

/* Forgets the chunk that had begun. */
static void chunk_drop(struct ql_fill_sink *s)
{
	if (s->single && s->fd >= 0)
		(void)close(s->fd);
	if (s->scratch >= 0)
		(void)close(s->scratch);
	ql_space_done(s->f->store, s->taken + s->scratch_taken, 0);
	s->taken = s->scratch_taken = 0;
	free(s->loose);
	s->loose = NULL;
	s->fd = -1;
	s->scratch = -1;
	s->single = false;
	s->weighed = false;
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
	ql_extents_release(&sink->kept);
	free(sink->buf);
	free(sink);
}

/* Under the lock: whether all of the content is this one chunk. */
static bool chunk_is_all(const struct ql_fill_sink *s)
{
	return s->chunk.offset == 0 && s->chunk.len == s->file->size;
}

/* Under the lock: leaves the chunk to pass by. */
static void chunk_pass(struct ql_fill_sink *s)
{
	if (s->file)
		ql_fill_file_put(s->f, s->file);
	s->file = NULL;
	s->fd = -1;
}

/* Under the lock: its file, if the chunk's bytes are wanted.  What cannot be
 * kept passes by, unless somebody has the file open: those who wait for
 * another chunk of the run are not to fail for it.  here: it was an object a
 * moment ago. */
static int chunk_want(struct ql_fill_sink *s, const struct ql_toc_file *entry,
		      bool here, struct ql_error *err)
{
	const struct ql_toc_chunk *c = &s->chunk;
	int r;

	if (!ql_fill_file_find(s->f, &entry->digest) && here)
		return 0;
	r = ql_fill_file_get(s->f, s->toc, entry, &s->file, err);
	if (r < 0) {
		s->file = NULL;
		return r == -ENOMEM ? r : 0;
	}
	if (ql_fill_file_has(s->file, c->offset, c->len) ||
	    (s->file->single && !chunk_is_all(s)) ||
	    ql_fill_file_is_bad(s->f, &entry->digest)) {
		chunk_pass(s);
		return 0;
	}
	r = ql_fill_file_open(s->f, s->file, err);
	if (r < 0 && s->file->refs == 1)
		chunk_pass(s);
	if (!s->file)
		return 0;
	s->single = s->file->single;
	s->fd = s->single ? -1 : s->file->fd;
	return r;
}

/* Under the lock: somebody is about to read it, and has no use for it packed.
 */
static bool chunk_is_awaited(const struct ql_fill_sink *s,
			     const struct ql_fill_file *file)
{
	const struct ql_toc_chunk *c = &s->chunk;

	if (!file || file->state != QL_FILL_COMING)
		return false;
	if (s->priority != QL_FILL_BACKGROUND)
		return true;
	for (const struct ql_fill_waiter *w = s->f->waiters; w; w = w->next)
		if (w->file == file && w->offset < c->offset + c->len &&
		    (w->offset >= c->offset || w->len > c->offset - w->offset))
			return true;
	return false;
}

/* Under the lock: it is only verified; or, where it is here or its start was
 * not seen, passes by.  False: it goes where it belongs. */
static bool chunk_weigh(struct ql_fill_sink *s, const struct ql_toc_file *entry,
			bool here, bool packed)
{
	const struct ql_toc_chunk *c = &s->chunk;
	const struct ql_fill_file *file =
		ql_fill_file_find(s->f, &entry->digest);

	if (chunk_is_awaited(s, file))
		return false;
	if (file)
		here = ql_fill_file_has(file, c->offset, c->len);
	s->weighed = s->first == 0 && !here && !packed &&
		     !ql_fill_file_is_bad(s->f, &entry->digest);
	s->weight = c->len == entry->size ? entry->digest : c->digest;
	return true;
}

static int chunk_lookup(struct ql_fill_sink *s, struct ql_error *err)
{
	struct ql_toc_file entry;
	bool here, packed, weighs = false;
	int r = ql_toc_file(s->toc->toc, s->chunk.file, &entry);

	if (r < 0)
		return ql_error_set(err, r, "table of contents: damaged");
	here = ql_object_here(s->f->store, &entry.digest);
	packed = s->packs && ql_fill_packed_has(s->f, s->toc, &s->chunk);
	(void)pthread_mutex_lock(&s->f->lock);
	if (s->packs)
		weighs = chunk_weigh(s, &entry, here, packed);
	if (!weighs) {
		ql_fill_settle_throttle(s->f);
		r = chunk_want(s, &entry, here, err);
	}
	(void)pthread_mutex_unlock(&s->f->lock);
	return r;
}

/* ---- room on disk ---- */

static bool waits_for_chunk(struct ql_fill_waiter *w, int *ret_error, void *arg)
{
	const struct ql_fill_sink *s = arg;

	*ret_error = -ENOSPC;
	return w->file == s->file &&
	       ql_fill_waiter_lacks(w, s->chunk.offset, s->chunk.len) &&
	       (!s->loose || !ql_fill_waiter_takes(s->f, w));
}

/* There is none: who waits for this chunk gets its bytes without it, or is
 * told, and it passes by; those who wait for others of the run are not to fail
 * for it.  Where nobody waits at all, nor did, the run ends. */
static int chunk_no_room(struct ql_fill_sink *s, struct ql_error *err)
{
	struct ql_filler *f = s->f;
	struct ql_fill_waiter *list;
	bool passes;

	(void)pthread_mutex_lock(&f->lock);
	if (f->full_since == 0)
		f->full_since = ql_now_ns();
	/* What was asked for has come, and the run has not failed. */
	passes = f->waiters || (s->priority == QL_FILL_DEMAND &&
				ql_space_is_limited(f->store));
	if (passes)
		s->loose = ql_fill_loose_new(f, s->file, s->chunk.offset,
					     s->chunk.len, BUFFER_MAX);
	list = ql_fill_waiters_take(f, waits_for_chunk, s);
	if (passes)
		f->last_error = *err;
	if (passes && !s->loose)
		chunk_pass(s);
	(void)pthread_mutex_unlock(&f->lock);
	ql_fill_waiters_tell(list);
	return passes ? 0 : -ENOSPC;
}

/* Room is made outside of the filler's lock. */
static int room_take(struct ql_fill_sink *s, uint64_t bytes,
		     struct ql_error *err)
{
	bool again;
	int r;

	(void)pthread_mutex_lock(&s->f->lock);
	again = ql_fill_makes_room(s->f, s->file, s->chunk.offset, s->chunk.len,
				   err);
	(void)pthread_mutex_unlock(&s->f->lock);
	if (!again)
		return ql_space_try(s->f->store, bytes) ? 0 : -ENOSPC;
	r = ql_space_take(s->f->store, bytes, err);
	if (r == -ENOSPC) {
		(void)pthread_mutex_lock(&s->f->lock);
		s->f->full_until = ql_now_ns() + FULL_NS;
		(void)ql_error_set(&s->f->full_error, r, "%s",
				   err ? err->text : "no space left");
		(void)pthread_mutex_unlock(&s->f->lock);
	}
	return r;
}

static int chunk_take(struct ql_fill_sink *s, struct ql_error *err)
{
	uint64_t len = ql_space_blocks(s->chunk.len);
	/* It may begin and end within a block. */
	uint64_t taken = s->single ? len : len + CHUNK_EDGES;
	uint64_t scratch = !s->single && s->chunk.len > BUFFER_MAX ? len : 0;
	int r = room_take(s, taken + scratch, err);

	if (r < 0)
		return r == -ENOSPC ? chunk_no_room(s, err) : r;
	s->taken = taken;
	s->scratch_taken = scratch;
	return 0;
}

/* From now on it is the file's: some of it may be written. */
static void chunk_charge(struct ql_fill_sink *s)
{
	if (s->taken == 0)
		return;
	ql_space_wrote(s->f->store, s->taken);
	(void)pthread_mutex_lock(&s->f->lock);
	s->file->space.taken += s->taken;
	(void)pthread_mutex_unlock(&s->f->lock);
	s->taken = 0;
}

/* Where the bytes of a file of many chunks are until they are verified. */
static int chunk_room(struct ql_fill_sink *s, struct ql_error *err)
{
	if (s->chunk.len > BUFFER_MAX)
		return ql_object_scratch(s->f->store, &s->file->digest,
					 &s->scratch, err);
	if (s->chunk.len > s->cap) {
		free(s->buf);
		s->buf = malloc(s->chunk.len);
		s->cap = s->buf ? s->chunk.len : 0;
	}
	return s->buf ? 0 : ql_error_nomem(err);
}

static int chunk_open(struct ql_fill_sink *s, struct ql_error *err)
{
	int r;

	if (!s->single && s->fd < 0)
		return ql_error_set(err, -EIO, "no file");
	r = chunk_take(s, err);
	if (r < 0 || !s->file || s->loose)
		return r;
	return s->single ? ql_object_scratch(s->f->store, &s->file->digest,
					     &s->fd, err)
			 : chunk_room(s, err);
}

static int chunk_begin(struct ql_fill_sink *s, struct ql_error *err)
{
	int r;

	s->active = true;
	s->done = s->first;
	r = chunk_lookup(s, err);
	if (r < 0 || (!s->file && !s->weighed))
		return r;
	if (ql_hasher_reset(s->hasher) < 0)
		return ql_error_nomem(err);
	return s->weighed ? 0 : chunk_open(s, err);
}

static int write_at(const struct ql_fill_sink *s, int fd, const char *data,
		    size_t len, uint64_t at, struct ql_error *err)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, data, len, (off_t)at);

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

/* What is verified, from a scratch file to its own. */
static int scratch_copy(const struct ql_fill_sink *s, struct ql_error *err)
{
	_cleanup_free_ char *piece = malloc(BUFFER_MAX);
	uint64_t pos = 0;
	int r = piece ? 0 : ql_error_nomem(err);

	while (r == 0 && pos < s->chunk.len) {
		ssize_t n = ql_pread_full(s->scratch, piece, BUFFER_MAX, pos);

		if (n <= 0)
			return ql_error_errno(err, n < 0 ? (int)n : -EIO,
					      "read from %s",
					      ql_store_root(s->f->store));
		r = write_at(s, s->fd, piece, (size_t)n, s->chunk.offset + pos,
			     err);
		pos += (uint64_t)n;
	}
	return r;
}

/* The bytes are right: they go where they belong. */
static int chunk_keep(struct ql_fill_sink *s, struct ql_error *err)
{
	if (s->single)
		return 0;
	chunk_charge(s);
	if (s->scratch >= 0)
		return scratch_copy(s, err);
	return write_at(s, s->fd, s->buf, s->chunk.len, s->chunk.offset, err);
}

/* ... and count from now on. */
static int chunk_count(struct ql_fill_sink *s)
{
	struct ql_filler *f = s->f;
	struct ql_fill_file *file = s->file;
	struct ql_fill_waiter *list;
	int r = 0;

	(void)pthread_mutex_lock(&f->lock);
	if (file->state == QL_FILL_COMING && !s->single) {
		r = ql_extents_add(&file->have, s->chunk.offset,
				   s->chunk.offset + s->chunk.len);
		file->dirty = true;
		ql_fill_settle_later(f, file);
	} else if (file->state == QL_FILL_COMING && file->fd < 0) {
		/* Else it became one of many chunks meanwhile. */
		file->fd = ql_take_fd(&s->fd);
		file->space.taken += s->taken;
		s->taken = 0;
		file->state = QL_FILL_WHOLE;
		ql_fill_settle_later(f, file);
	}
	f->full_since = 0;
	f->stats.chunks++;
	f->stats.chunk_bytes += s->chunk.len;
	list = ql_fill_waiters_ready(f, file);
	(void)pthread_mutex_unlock(&f->lock);
	ql_fill_waiters_tell(list);
	return r < 0 ? -ENOMEM : 0;
}

static int chunk_accept(struct ql_fill_sink *s, struct ql_error *err)
{
	int r = chunk_keep(s, err);

	return r == 0 && chunk_count(s) < 0 ? ql_error_nomem(err) : r;
}

/* Its bytes are right, and there is no room for them. */
static void chunk_give(struct ql_fill_sink *s)
{
	struct ql_filler *f = s->f;
	struct ql_fill_waiter *list;

	(void)pthread_mutex_lock(&f->lock);
	ql_fill_loose_give(f, ql_take_ptr(s->loose));
	list = ql_fill_waiters_ready(f, s->file);
	(void)pthread_mutex_unlock(&f->lock);
	ql_fill_waiters_tell(list);
}

/* What the chunk must be: nobody hashes what is whole with one again. */
static const struct ql_digest *chunk_digest(const struct ql_fill_sink *s)
{
	if (s->weighed)
		return &s->weight;
	return s->single ? &s->file->digest : &s->chunk.digest;
}

static int chunk_refuse(struct ql_fill_sink *s, bool of_pieces,
			struct ql_error *err)
{
	char digest[QL_DIGEST_TEXT + 1];

	(void)pthread_mutex_lock(&s->f->lock);
	s->f->stats.bad_chunks++;
	s->toc->astray += of_pieces;
	(void)pthread_mutex_unlock(&s->f->lock);
	s->bad = s->chunk.raw + s->first;
	return ql_error_set(err, -EBADMSG, "a chunk is not of its digest %s",
			    ql_digest_text(chunk_digest(s), digest));
}

/* ---- pieces ---- */

/* What came here, as a piece. */
static int part_take(const struct ql_fill_sink *s, struct ql_fill_piece *p,
		     struct ql_error *err)
{
	size_t n = s->done - s->first;
	ssize_t got = (ssize_t)n;

	if (s->loose)
		memcpy(p->data + s->first, s->loose->data + s->first, n);
	else if (s->single)
		got = ql_pread_full(s->fd, p->data + s->first, n, s->first);
	else
		memcpy(p->data + s->first, s->buf + s->first, n);
	if (got != (ssize_t)n)
		return ql_error_errno(err, got < 0 ? (int)got : -EIO,
				      "read from %s",
				      ql_store_root(s->f->store));
	return ql_extents_add(&p->have, s->first, s->done) < 0
		       ? ql_error_nomem(err)
		       : 0;
}

/* Adds what others have.  Until it is whole it stays with them: *p is NULL
 * then. */
static int part_join(struct ql_fill_sink *s, struct ql_fill_piece **p,
		     struct ql_error *err)
{
	while (*p && !ql_fill_piece_is_whole(*p)) {
		struct ql_fill_piece *other;
		int r = 0;

		(void)pthread_mutex_lock(&s->f->lock);
		other = ql_fill_piece_take(s->f, s->toc, &s->chunk);
		if (!other)
			ql_fill_piece_put(s->f, ql_take_ptr(*p));
		(void)pthread_mutex_unlock(&s->f->lock);
		if (other)
			r = ql_fill_piece_merge(*p, other);
		ql_fill_piece_free(other);
		if (r < 0)
			return ql_error_nomem(err);
	}
	return 0;
}

static int part_whole(struct ql_fill_sink *s, const struct ql_fill_piece *p,
		      struct ql_error *err)
{
	struct ql_digest d;
	int r;

	if (ql_digest_of(p->data, p->len, &d) < 0)
		return ql_error_nomem(err);
	if (!ql_digest_equal(&d, chunk_digest(s)))
		return chunk_refuse(s, true, err);
	if (s->loose) {
		memcpy(s->loose->data, p->data, p->len);
		chunk_give(s);
		return 0;
	}
	if (!s->single)
		chunk_charge(s);
	r = write_at(s, s->fd, p->data, p->len, s->single ? 0 : s->chunk.offset,
		     err);
	if (r == 0 && chunk_count(s) < 0)
		r = ql_error_nomem(err);
	return r;
}

/* The chunk's beginning, or its end, comes elsewhere. */
static int chunk_part(struct ql_fill_sink *s, struct ql_error *err)
{
	struct ql_fill_piece *p = NULL;
	int r;

	if (!s->file || s->done == s->first || s->chunk.len > BUFFER_MAX)
		return 0;
	if (ql_fill_piece_new(s->toc, &s->chunk, &p) < 0)
		return ql_error_nomem(err);
	r = part_take(s, p, err);
	if (r == 0)
		r = part_join(s, &p, err);
	if (r == 0 && p)
		r = part_whole(s, p, err);
	ql_fill_piece_free(p);
	return r;
}

/* ---- chunks ---- */

/* It was only verified. */
static int chunk_weighed(struct ql_fill_sink *s, struct ql_error *err)
{
	struct ql_digest d;
	int r = 0;

	ql_hasher_final(s->hasher, &d);
	if (!ql_digest_equal(&d, &s->weight))
		r = chunk_refuse(s, false, err);
	else if (ql_extents_add(&s->kept, s->chunk.raw,
				s->chunk.raw + s->chunk.len) < 0)
		r = ql_error_nomem(err);
	else
		s->n_kept++;
	chunk_drop(s);
	return r;
}

static int chunk_end(struct ql_fill_sink *s, struct ql_error *err)
{
	struct ql_digest d;
	int r = 0;

	if (s->weighed)
		return chunk_weighed(s, err);
	if (!s->file) {
		s->active = false;
		return 0;
	}
	if (s->first > 0) {
		r = chunk_part(s, err);
		chunk_drop(s);
		return r;
	}
	ql_hasher_final(s->hasher, &d);
	if (!ql_digest_equal(&d, chunk_digest(s)))
		r = chunk_refuse(s, false, err);
	else if (s->loose)
		chunk_give(s);
	else
		r = chunk_accept(s, err);
	chunk_drop(s);
	return r;
}

static int chunk_write(struct ql_fill_sink *s, const char *data, size_t len,
		       struct ql_error *err)
{
	if (!s->file && !s->weighed)
		return 0;
	if (s->first == 0)
		ql_hasher_update(s->hasher, data, len);
	if (s->weighed)
		return 0;
	if (s->loose) {
		ql_fill_loose_write(s->loose, s->chunk.offset + s->done, data,
				    len);
		return 0;
	}
	if (s->single)
		return write_at(s, s->fd, data, len, s->done, err);
	if (s->scratch >= 0)
		return write_at(s, s->scratch, data, len, s->done, err);
	memcpy(s->buf + s->done, data, len);
	return 0;
}

/* Its start lies in front of what was sought. */
static bool chunk_is_amid(const struct ql_fill_sink *s)
{
	return s->amid && s->chunk.raw + s->chunk.len > s->raw &&
	       s->chunk.len <= BUFFER_MAX;
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
	for (; s->next < ql_toc_chunks(toc); s->next++, s->amid = false) {
		r = ql_toc_ordered(toc, s->next, &index);
		if (r == 0)
			r = ql_toc_chunk(toc, index, &s->chunk);
		if (r < 0)
			return ql_error_set(err, r,
					    "table of contents: damaged");
		if (s->chunk.raw < s->raw && !chunk_is_amid(s))
			continue; /* its start was not seen */
		if (s->chunk.raw > s->raw) {
			*ret_skip = s->chunk.raw - s->raw;
			return 0;
		}
		s->first = (uint32_t)(s->raw - s->chunk.raw);
		s->next++;
		s->amid = false;
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

int ql_fill_sink_end(struct ql_fill_sink *sink, struct ql_error *err)
{
	int r = sink->active ? chunk_part(sink, err) : 0;

	chunk_drop(sink);
	return r;
}

int ql_fill_sink_seek(struct ql_fill_sink *sink, uint64_t raw,
		      struct ql_error *err)
{
	int r;

	if (sink->raw == raw && sink->active)
		return 0; /* the chunk goes on in the next span */
	r = ql_fill_sink_end(sink, err);
	sink->raw = raw;
	sink->next = ql_toc_order_from(sink->toc->toc, raw);
	sink->amid = sink->next > 0;
	sink->next -= sink->amid;
	return r;
}

uint64_t ql_fill_sink_bad(const struct ql_fill_sink *sink)
{
	return sink->active ? sink->chunk.raw + sink->first : sink->bad;
}

void ql_fill_sink_doubt(const struct ql_fill_sink *sink, uint64_t *ret_from,
			uint64_t *ret_to)
{
	bool chunk = sink->active || sink->bad != UINT64_MAX;

	*ret_from = chunk ? sink->chunk.raw : sink->raw;
	*ret_to = chunk ? sink->chunk.raw + sink->chunk.len : sink->raw + 1;
}

void ql_fill_sink_set(struct ql_fill_sink *sink, enum ql_fill_priority priority,
		      bool packs)
{
	sink->priority = priority;
	sink->packs = packs;
}

const struct ql_extents *ql_fill_sink_kept(const struct ql_fill_sink *sink,
					   uint32_t *ret_n)
{
	*ret_n = sink->n_kept;
	return &sink->kept;
}
