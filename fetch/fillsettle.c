/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making durable what has come, in batches, in a thread of its own: a file of
 * many chunks that is all there is hashed whole, a batch is synced at once,
 * and then what is whole gets its name and what is not is recorded.  A batch
 * is due after a second, or when it is large.  Where it fails (a full disk) it
 * is tried again, and nothing more is taken in than the throttle allows.
 */
#include "fetch/fill-private.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

enum {
	SETTLE_FILES = 256, /* make a batch due */
	SETTLE_MOST = 1024, /* unsettled: wait */
	SETTLE_MS = 1000,   /* after which a batch is due */
	SETTLE_RETRY_MS = 1000,
	BAD_MS = 60 * 1000, /* before a content that lied is asked for again */
	HASH_PIECE = 256 << 10,
};

struct settle_batch {
	struct ql_fill_file **files; /* owned; a reference each */
	size_t n;
	struct ql_object_ready *ready; /* owned */
	size_t n_ready;
	struct ql_partial_state *partial; /* owned */
	struct ql_extents *extents;	  /* owned; copies */
	size_t n_partial;
	bool *complete; /* owned; for each file: all of it was there */
};

/* ---- the list ---- */

void ql_fill_settle_later(struct ql_filler *f, struct ql_fill_file *file)
{
	if (file->listed)
		return;
	file->listed = true;
	file->refs++;
	file->dirty_next = f->settling;
	f->settling = file;
	if (f->n_settling++ == 0)
		f->settle_since = ql_now_ns();
	if (f->n_settling == 1 || f->n_settling >= SETTLE_FILES)
		(void)pthread_cond_broadcast(&f->settle);
}

void ql_fill_settle_throttle(struct ql_filler *f)
{
	while (f->n_settling >= SETTLE_MOST && !f->stop)
		(void)pthread_cond_wait(&f->room, &f->lock);
}

void ql_fill_settle_packed(struct ql_filler *f)
{
	if (f->packed)
		return;
	if (f->n_settling == 0)
		f->settle_since = ql_now_ns();
	f->packed = true;
	(void)pthread_cond_broadcast(&f->settle);
}

static bool has_batch(const struct ql_filler *f)
{
	return f->n_settling > 0 || f->packed;
}

bool ql_fill_is_settled(const struct ql_filler *f)
{
	return !has_batch(f) && !f->busy_settling && !f->whole;
}

/* ---- whole images ---- */

void ql_fill_settle_whole(struct ql_filler *f, const struct ql_digest *manifest)
{
	struct ql_fill_whole *w = f->whole;

	while (w && !ql_digest_equal(&w->manifest, manifest))
		w = w->next;
	if (w)
		return;
	w = malloc(sizeof(*w));
	if (!w)
		return; /* the next filler finds out */
	*w = (struct ql_fill_whole){ f->whole, *manifest };
	f->whole = w;
	(void)pthread_cond_broadcast(&f->settle);
}

/* With the lock, which is let go in between.  False: not now. */
static bool settle_whole(struct ql_filler *f)
{
	struct ql_fill_whole *w = f->whole;
	struct ql_error err = QL_ERROR_INIT;
	bool whole = false, packs = ql_fill_packs(f);
	int r;

	f->whole = w->next;
	f->busy_settling = true;
	(void)pthread_mutex_unlock(&f->lock);
	r = ql_image_mark_whole(f->store, &w->manifest, &whole, &err);
	if (r == 0 && !whole && packs)
		r = ql_image_mark_here(f->store, &w->manifest, &whole, &err);
	if (r < 0 && r != -EAGAIN)
		ql_debug("msg=\"not recorded as whole\" error=%d text=\"%s\"",
			 r, err.text);
	(void)pthread_mutex_lock(&f->lock);
	f->busy_settling = false;
	if (r == -EAGAIN && !f->stop && f->flushing == 0) {
		w->next = f->whole;
		f->whole = w;
		return false;
	}
	free(w);
	(void)pthread_cond_broadcast(&f->calm);
	return true;
}

/* ---- a batch ---- */

static void batch_release(struct settle_batch *b)
{
	for (size_t i = 0; i < b->n_partial; i++)
		ql_extents_release(&b->extents[i]);
	free(b->files);
	free(b->ready);
	free(b->partial);
	free(b->extents);
	free(b->complete);
}

/* Under the lock. */
static int batch_add(struct settle_batch *b, struct ql_fill_file *file)
{
	size_t at = b->n;

	b->files[b->n++] = file;
	file->listed = false;
	b->complete[at] = file->state == QL_FILL_WHOLE ||
			  (file->state == QL_FILL_COMING &&
			   ql_fill_file_has(file, 0, file->size));
	if (b->complete[at] || !file->dirty || !file->named)
		return 0;
	file->dirty = false;
	b->partial[b->n_partial].digest = file->digest;
	b->partial[b->n_partial].fd = file->fd;
	b->partial[b->n_partial].space = file->space;
	file->space.taken = 0;
	b->partial[b->n_partial].extents = &b->extents[b->n_partial];
	b->n_partial++;
	return ql_extents_copy(&file->have, &b->extents[b->n_partial - 1]);
}

/* Under the lock: takes the list.  -ENOMEM: it stays. */
static int batch_take(struct ql_filler *f, struct settle_batch *b)
{
	size_t n = f->n_settling + 1; /* there may be none */
	struct ql_fill_file *file;
	int r = 0;

	b->files = calloc(n, sizeof(struct ql_fill_file *));
	b->ready = calloc(n, sizeof(*b->ready));
	b->partial = calloc(n, sizeof(*b->partial));
	b->extents = calloc(n, sizeof(*b->extents));
	b->complete = calloc(n, sizeof(*b->complete));
	if (!b->files || !b->ready || !b->partial || !b->extents ||
	    !b->complete)
		return -ENOMEM;
	while ((file = f->settling) && r == 0) {
		f->settling = file->dirty_next;
		f->n_settling--;
		r = batch_add(b, file);
	}
	return r;
}

/* Under the lock: what the settling left of what was taken of the disk. */
static void batch_space(struct settle_batch *b)
{
	size_t ready = 0, partial = 0;

	for (size_t i = 0; i < b->n; i++) {
		struct ql_fill_file *file = b->files[i];
		const struct ql_space_share *share = NULL;

		if (ready < b->n_ready && b->ready[ready].fd == file->fd)
			share = &b->ready[ready++].space;
		else if (partial < b->n_partial &&
			 b->partial[partial].fd == file->fd)
			share = &b->partial[partial++].space;
		if (!share)
			continue;
		file->space.taken += share->taken;
		file->space.named = share->named;
	}
}

/* Under the lock: what was taken is to be settled still. */
static void batch_put_back(struct ql_filler *f, struct settle_batch *b)
{
	for (size_t i = 0; i < b->n; i++) {
		struct ql_fill_file *file = b->files[i];

		if (file->state == QL_FILL_COMING)
			file->dirty = true;
		if (file->state != QL_FILL_NAMED)
			ql_fill_settle_later(f, file);
		ql_fill_file_put(f, file);
	}
}

/* ---- the whole of a file ---- */

static int file_hash(const struct ql_fill_file *file, struct ql_digest *ret)
{
	_cleanup_free_ char *buf = malloc(HASH_PIECE);
	struct ql_hasher *h = ql_hasher_new();
	uint64_t pos = 0;
	ssize_t n = 1;

	if (!buf || !h) {
		ql_hasher_free(h);
		return -ENOMEM;
	}
	while (pos < file->size && n > 0) {
		n = ql_pread_full(file->fd, buf, HASH_PIECE, pos);
		if (n > 0) {
			ql_hasher_update(h, buf, (size_t)n);
			pos += (uint64_t)n;
		}
	}
	ql_hasher_final(h, ret);
	ql_hasher_free(h);
	return n < 0 ? (int)n : 0;
}

static bool waits_for_file(struct ql_fill_waiter *w, int *ret_error, void *arg)
{
	*ret_error = -EIO;
	return w->file == arg;
}

/* It is not what its name says although its chunks are: nothing of it counts
 * any more.  Those who read it have read verified chunks. */
static void file_reject(struct ql_filler *f, struct ql_fill_file *file)
{
	struct ql_fill_waiter *list;
	struct ql_fill_bad *bad;

	(void)pthread_mutex_lock(&f->lock);
	f->stats.bad_files++;
	bad = &f->bad[f->next_bad++ % QL_FILL_BAD];
	bad->digest = file->digest;
	bad->until = ql_now_ns() + BAD_MS * 1000000ULL;
	ql_extents_release(&file->have);
	file->holed = false;
	file->dirty = true;
	ql_fill_settle_later(f, file);
	list = ql_fill_waiters_take(f, waits_for_file, file);
	(void)pthread_mutex_unlock(&f->lock);
	ql_fill_waiters_tell(list);
}

static int batch_check(struct ql_filler *f, struct settle_batch *b)
{
	for (size_t i = 0; i < b->n; i++) {
		struct ql_fill_file *file = b->files[i];
		struct ql_digest d = file->digest;
		int r = 0;

		if (!b->complete[i])
			continue;
		if (!file->single)
			r = file_hash(file, &d);
		if (r < 0)
			return r;
		if (!ql_digest_equal(&d, &file->digest)) {
			b->complete[i] = false;
			file_reject(f, file);
			continue;
		}
		(void)pthread_mutex_lock(&f->lock);
		b->ready[b->n_ready++] =
			(struct ql_object_ready){ file->digest, file->fd,
						  file->named, file->space };
		file->space.taken = 0;
		(void)pthread_mutex_unlock(&f->lock);
	}
	return 0;
}

/* Under the lock. */
static void batch_done(struct ql_filler *f, struct settle_batch *b)
{
	for (size_t i = 0; i < b->n; i++) {
		struct ql_fill_file *file = b->files[i];

		if (b->complete[i])
			file->state = QL_FILL_NAMED;
		ql_fill_file_put(f, file);
	}
}

/* Under the lock: what ql_fill_flush() says of it. */
static void settle_failed(struct ql_filler *f, int error,
			  const struct ql_error *err)
{
	f->settle_error = *err;
	if (!err->text[0])
		(void)ql_error_errno(&f->settle_error, error, "write to %s",
				     ql_store_root(f->store));
}

/* With the lock, which is let go in between. */
static int settle(struct ql_filler *f)
{
	struct settle_batch b = { 0 };
	struct ql_error err = QL_ERROR_INIT;
	bool packed = f->packed;
	int r = batch_take(f, &b);

	(void)pthread_cond_broadcast(&f->room);
	if (r == 0) {
		f->busy_settling = true;
		f->packed = false;
		(void)pthread_mutex_unlock(&f->lock);
		r = batch_check(f, &b);
		if (r == 0 && packed)
			r = ql_packed_settle(f->store, &err);
		if (r == 0 && b.n > 0)
			r = ql_store_settle(f->store, b.ready, b.n_ready,
					    b.partial, b.n_partial, &err);
		(void)pthread_mutex_lock(&f->lock);
		f->busy_settling = false;
	}
	batch_space(&b);
	if (r == 0)
		batch_done(f, &b);
	else
		batch_put_back(f, &b);
	if (r < 0) {
		f->packed |= packed;
		settle_failed(f, r, &err);
		ql_debug("msg=\"not settled yet\" error=%d text=\"%s\"", r,
			 err.text);
	}
	batch_release(&b);
	f->unsettled = r < 0;
	(void)pthread_cond_broadcast(&f->calm);
	return r;
}

static void wait_until(struct ql_filler *f, uint64_t ns)
{
	struct timespec ts = { (time_t)(ns / 1000000000),
			       (long)(ns % 1000000000) };

	(void)pthread_cond_timedwait(&f->settle, &f->lock, &ts);
}

void *ql_fill_settle_main(void *arg)
{
	struct ql_filler *f = arg;
	uint64_t not_before = 0, look_after = 0;

	(void)pthread_mutex_lock(&f->lock);
	for (;;) {
		uint64_t now = ql_now_ns();
		uint64_t due = f->settle_since + SETTLE_MS * 1000000ULL;
		bool hurry = f->stop || f->flushing > 0 ||
			     f->n_settling >= SETTLE_FILES;

		if (!has_batch(f) && f->whole && now >= look_after) {
			if (!settle_whole(f))
				look_after = now + SETTLE_RETRY_MS * 1000000ULL;
		} else if (!has_batch(f) && f->whole && !f->ending) {
			wait_until(f, look_after);
		} else if (!has_batch(f)) {
			if (f->ending && f->n_threads == 0)
				break;
			(void)pthread_cond_wait(&f->settle, &f->lock);
		} else if (now < not_before && !f->ending) {
			wait_until(f, not_before);
		} else if (!hurry && now < due) {
			wait_until(f, due);
		} else if (settle(f) < 0) {
			not_before = now + SETTLE_RETRY_MS * 1000000ULL;
			if (f->ending)
				break; /* what is not settled comes again */
		}
	}
	(void)pthread_mutex_unlock(&f->lock);
	return NULL;
}
