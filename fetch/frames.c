/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A blob made of frames that are compressed by several threads.  The caller's
 * bytes fill batches of about BATCH bytes, each of whole frames; a batch is
 * compressed by one thread and written, in order, by the caller's own.  What
 * a frame compresses to depends on its bytes and the level alone, so that the
 * blob does not depend on how many threads there are or who was faster.
 *
 *   QL_FRAMES_ZSTD  each frame a zstd frame (RFC 8878 §3.1.1)
 *   QL_FRAMES_GZIP  each frame a gzip member (RFC 1952 §2.3)
 *   QL_FRAMES_ONE   one gzip member: a frame is a stretch of deflate blocks
 *                   that ends at a byte (RFC 1951 §3.2.4, an empty stored
 *                   block) and knows the 32 KiB before it, as pigz does it
 *
 * Batches are a ring: [retired, taken) with threads or done, [taken, filled)
 * waiting, the one at `filled` being filled.
 */
#include "fetch/push-private.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

enum {
	BATCH = 1 << 20,      /* bytes from which on a batch is closed */
	BATCH_MAX = 64 << 20, /* bytes of a batch: the largest frame */
	WINDOW = 32 << 10,    /* deflate's */
	THREADS_MAX = 16,
	GZIP_EXTRA = 64, /* header, trailer and flush, with room to spare */
};

static const uint8_t gzip_header[10] = { 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255 };

struct frame {
	size_t at, len;	   /* in raw */
	size_t digest_len; /* bytes that the digest is of; 0: none */
	void *user;	   /* borrowed */
	size_t out_len;
	struct ql_digest digest;
	bool zeros;
};

struct batch {
	struct ql_buf raw;
	struct ql_buf out;
	struct frame *frames; /* owned */
	size_t n, cap;
	uint8_t window[WINDOW]; /* QL_FRAMES_ONE: what stands before it */
	size_t window_len;
	bool last; /* QL_FRAMES_ONE: the stream ends with it */
	uint32_t crc;
	int error; /* of its compression */
	bool done; /* lock */
};

struct ql_frames {
	struct ql_frames_options opt;
	pthread_t threads[THREADS_MAX];
	unsigned int n_threads;
	struct batch *ring; /* owned; n_ring */
	size_t n_ring;
	struct ql_hasher *hasher; /* owned; of the blob */
	uint64_t size;		  /* of the blob so far */
	uint64_t raw_size;
	uint32_t crc;	 /* QL_FRAMES_ONE */
	size_t frame_at; /* where the open frame begins in its batch */
	size_t digest_len;
	bool finished;

	pthread_mutex_t lock; /* protects all below */
	pthread_cond_t more;  /* for threads */
	pthread_cond_t ready; /* for the caller */
	uint64_t filled, taken, retired;
	bool stop;
};

/* ---- compressing, in the threads ---- */

struct coder {
	enum ql_frames_kind kind;
	ZSTD_CCtx *zstd; /* owned */
	z_stream z;
	bool z_ready;
	struct ql_hasher *hasher; /* owned */
};

static int coder_init(struct coder *c, const struct ql_frames_options *opt)
{
	*c = (struct coder){ .kind = opt->kind };
	c->hasher = ql_hasher_new();
	if (!c->hasher)
		return -ENOMEM;
	if (opt->kind == QL_FRAMES_ZSTD) {
		c->zstd = ZSTD_createCCtx();
		if (!c->zstd ||
		    ZSTD_isError(ZSTD_CCtx_setParameter(
			    c->zstd, ZSTD_c_compressionLevel, opt->level)))
			return -ENOMEM;
		return 0;
	}
	if (deflateInit2(&c->z, opt->level, Z_DEFLATED, -MAX_WBITS, 8,
			 Z_DEFAULT_STRATEGY) != Z_OK)
		return -ENOMEM;
	c->z_ready = true;
	return 0;
}

static void coder_release(struct coder *c)
{
	ql_hasher_free(c->hasher);
	(void)ZSTD_freeCCtx(c->zstd);
	if (c->z_ready)
		(void)deflateEnd(&c->z);
}

static int zstd_frame(struct coder *c, struct batch *b, struct frame *f)
{
	size_t bound = ZSTD_compressBound(f->len);
	size_t n;

	if (ql_buf_reserve(&b->out, bound) < 0)
		return -ENOMEM;
	n = ZSTD_compress2(c->zstd, b->out.data + b->out.len, bound,
			   b->raw.data + f->at, f->len);
	if (ZSTD_isError(n))
		return -ENOMEM;
	b->out.len += n;
	return 0;
}

/* Deflates the frame behind what is in out. */
static int deflate_frame(struct coder *c, struct batch *b,
			 const struct frame *f, bool end)
{
	size_t room = deflateBound(&c->z, f->len) + GZIP_EXTRA;
	int r;

	if (ql_buf_reserve(&b->out, room) < 0 || deflateReset(&c->z) != Z_OK)
		return -ENOMEM;
	if (c->kind == QL_FRAMES_ONE && b->window_len > 0 &&
	    deflateSetDictionary(&c->z, b->window, (uInt)b->window_len) != Z_OK)
		return -ENOMEM;
	c->z.next_in = (Bytef *)b->raw.data + f->at;
	c->z.avail_in = (uInt)f->len;
	c->z.next_out = (Bytef *)b->out.data + b->out.len;
	c->z.avail_out = (uInt)room;
	r = deflate(&c->z, end ? Z_FINISH : Z_SYNC_FLUSH);
	if (r != (end ? Z_STREAM_END : Z_OK) || c->z.avail_in > 0 ||
	    c->z.avail_out == 0)
		return -ENOMEM;
	b->out.len += room - c->z.avail_out;
	return 0;
}

static uint32_t crc_of(const struct batch *b, const struct frame *f)
{
	return (uint32_t)crc32_z(crc32_z(0, NULL, 0),
				 (const Bytef *)b->raw.data + f->at, f->len);
}

static int gzip_frame(struct coder *c, struct batch *b, struct frame *f)
{
	int r;

	if (c->kind == QL_FRAMES_ONE) {
		b->crc = crc_of(b, f);
		return deflate_frame(c, b, f, b->last);
	}
	r = ql_buf_add(&b->out, gzip_header, sizeof(gzip_header));
	if (r == 0)
		r = deflate_frame(c, b, f, true);
	if (r == 0)
		r = ql_buf_add_le32(&b->out, crc_of(b, f));
	return r < 0 ? r : ql_buf_add_le32(&b->out, (uint32_t)f->len);
}

static bool all_zeros(const char *data, size_t len)
{
	return len > 0 && data[0] == 0 && memcmp(data, data + 1, len - 1) == 0;
}

static int batch_compress(struct coder *c, struct batch *b)
{
	for (size_t i = 0; i < b->n; i++) {
		struct frame *f = &b->frames[i];
		size_t before = b->out.len;
		int r;

		if (f->digest_len > 0) {
			const char *data = b->raw.data + f->at;

			if (ql_hasher_reset(c->hasher) < 0)
				return -ENOMEM;
			ql_hasher_update(c->hasher, data, f->digest_len);
			ql_hasher_final(c->hasher, &f->digest);
			f->zeros = all_zeros(data, f->digest_len);
		}
		r = c->kind == QL_FRAMES_ZSTD ? zstd_frame(c, b, f)
					      : gzip_frame(c, b, f);
		if (r < 0)
			return r;
		f->out_len = b->out.len - before;
	}
	return 0;
}

static void *frames_main(void *arg)
{
	struct ql_frames *fs = arg;
	struct coder c;
	int ready = coder_init(&c, &fs->opt);

	(void)pthread_mutex_lock(&fs->lock);
	for (;;) {
		struct batch *b;

		while (!fs->stop && fs->taken == fs->filled)
			(void)pthread_cond_wait(&fs->more, &fs->lock);
		if (fs->stop)
			break;
		b = &fs->ring[fs->taken++ % fs->n_ring];
		(void)pthread_mutex_unlock(&fs->lock);
		b->error = ready < 0 ? ready : batch_compress(&c, b);
		(void)pthread_mutex_lock(&fs->lock);
		b->done = true;
		(void)pthread_cond_signal(&fs->ready);
	}
	(void)pthread_mutex_unlock(&fs->lock);
	coder_release(&c);
	return NULL;
}

/* ---- writing, in the caller's thread ---- */

static int out_write(struct ql_frames *fs, const void *data, size_t len,
		     struct ql_error *err)
{
	int r = ql_write_full(fs->opt.fd, data, len);

	if (r < 0)
		return ql_error_errno(err, r, "write a temporary file");
	ql_hasher_update(fs->hasher, data, len);
	fs->size += len;
	return 0;
}

static int batch_write(struct ql_frames *fs, struct batch *b,
		       struct ql_error *err)
{
	uint64_t at = fs->size;
	int r;

	if (b->error < 0)
		return ql_error_nomem(err);
	r = out_write(fs, b->out.data, b->out.len, err);
	if (fs->opt.kind == QL_FRAMES_ONE && b->n > 0)
		fs->crc = (uint32_t)crc32_combine(fs->crc, b->crc,
						  (z_off_t)b->frames[0].len);
	for (size_t i = 0; i < b->n && r == 0; i++) {
		const struct frame *f = &b->frames[i];
		struct ql_frame_result res = { .user = f->user,
					       .offset = at,
					       .len = f->out_len,
					       .digest = f->digest,
					       .zeros = f->zeros };

		at += f->out_len;
		if (f->user)
			r = fs->opt.done(fs->opt.arg, &res, err);
	}
	return r;
}

/* Waits for the oldest batch, and writes it. */
static int batch_retire(struct ql_frames *fs, struct ql_error *err)
{
	struct batch *b = &fs->ring[fs->retired % fs->n_ring];
	int r;

	(void)pthread_mutex_lock(&fs->lock);
	while (!b->done)
		(void)pthread_cond_wait(&fs->ready, &fs->lock);
	(void)pthread_mutex_unlock(&fs->lock);
	r = batch_write(fs, b, err);
	(void)pthread_mutex_lock(&fs->lock);
	fs->retired++;
	(void)pthread_mutex_unlock(&fs->lock);
	b->done = false;
	b->n = 0;
	ql_buf_clear(&b->raw);
	ql_buf_clear(&b->out);
	return r;
}

static struct batch *batch_open(struct ql_frames *fs)
{
	return &fs->ring[fs->filled % fs->n_ring];
}

/* What deflate may refer back to: the end of this batch. */
static void window_pass(const struct batch *from, struct batch *to)
{
	size_t len = from->raw.len < WINDOW ? from->raw.len : WINDOW;

	memcpy(to->window, from->raw.data + from->raw.len - len, len);
	to->window_len = len;
}

/* Hands the batch that was filled to the threads. */
static int batch_close(struct ql_frames *fs, struct ql_error *err)
{
	struct batch *b = batch_open(fs);
	int r = 0;

	fs->frame_at = 0;
	(void)pthread_mutex_lock(&fs->lock);
	fs->filled++;
	(void)pthread_cond_signal(&fs->more);
	(void)pthread_mutex_unlock(&fs->lock);
	/* Only this thread fills and retires. */
	while (r == 0 && fs->filled - fs->retired >= fs->n_ring)
		r = batch_retire(fs, err);
	if (r == 0 && fs->opt.kind == QL_FRAMES_ONE && !b->last)
		window_pass(b, batch_open(fs));
	return r;
}

int ql_frames_add(struct ql_frames *fs, const void *data, size_t len,
		  struct ql_error *err)
{
	fs->raw_size += len;
	while (len > 0) {
		struct batch *b = batch_open(fs);
		size_t part = len;
		int r;

		/* Here nobody else ends frames. */
		if (fs->opt.kind == QL_FRAMES_ONE && part > BATCH - b->raw.len)
			part = BATCH - b->raw.len;
		r = ql_buf_add(&b->raw, data, part);
		if (r < 0)
			return ql_error_set(err, r,
					    "a frame of more than %d "
					    "bytes",
					    BATCH_MAX);
		if (fs->opt.kind == QL_FRAMES_ONE && b->raw.len == BATCH) {
			r = ql_frames_end(fs, NULL, err);
			if (r < 0)
				return r;
		}
		data = (const char *)data + part;
		len -= part;
	}
	return 0;
}

size_t ql_frames_open(const struct ql_frames *fs)
{
	return fs->ring[fs->filled % fs->n_ring].raw.len - fs->frame_at;
}

void ql_frames_mark(struct ql_frames *fs)
{
	fs->digest_len = ql_frames_open(fs);
}

int ql_frames_end(struct ql_frames *fs, void *user, struct ql_error *err)
{
	struct batch *b = batch_open(fs);
	size_t len = ql_frames_open(fs);

	if (len == 0 && !b->last)
		return 0;
	if (b->n == b->cap) {
		size_t cap = b->cap ? b->cap * 2 : 64;
		struct frame *grown =
			reallocarray(b->frames, cap, sizeof(*grown));

		if (!grown)
			return ql_error_nomem(err);
		b->frames = grown;
		b->cap = cap;
	}
	b->frames[b->n++] = (struct frame){ .at = fs->frame_at,
					    .len = len,
					    .digest_len = fs->digest_len,
					    .user = user };
	fs->frame_at = b->raw.len;
	fs->digest_len = 0;
	return b->raw.len >= BATCH || b->last ? batch_close(fs, err) : 0;
}

static int one_finish(struct ql_frames *fs, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf trailer = QL_BUF_INIT(8);

	if (ql_buf_add_le32(&trailer, fs->crc) < 0 ||
	    ql_buf_add_le32(&trailer, (uint32_t)fs->raw_size) < 0)
		return ql_error_nomem(err);
	return out_write(fs, trailer.data, trailer.len, err);
}

int ql_frames_flush(struct ql_frames *fs, struct ql_error *err)
{
	int r = ql_frames_end(fs, NULL, err);

	if (r == 0 && batch_open(fs)->n > 0)
		r = batch_close(fs, err);
	while (r == 0 && fs->retired < fs->filled)
		r = batch_retire(fs, err);
	for (size_t i = 0; i < fs->n_ring && r == 0; i++) {
		/* What follows takes its time and memory of its own. */
		ql_buf_release(&fs->ring[i].raw);
		ql_buf_release(&fs->ring[i].out);
	}
	return r;
}

int ql_frames_raw(struct ql_frames *fs, const void *data, size_t len,
		  struct ql_error *err)
{
	return out_write(fs, data, len, err);
}

int ql_frames_finish(struct ql_frames *fs, struct ql_digest *ret_digest,
		     uint64_t *ret_size, struct ql_error *err)
{
	int r;

	if (fs->opt.kind == QL_FRAMES_ONE)
		batch_open(fs)->last = true;
	r = ql_frames_flush(fs, err);
	if (r == 0 && fs->opt.kind == QL_FRAMES_ONE)
		r = one_finish(fs, err);
	if (r < 0)
		return r;
	ql_hasher_final(fs->hasher, ret_digest);
	*ret_size = fs->size;
	return 0;
}

uint64_t ql_frames_size(const struct ql_frames *fs)
{
	return fs->size;
}

/* ---- life ---- */

static int frames_start(struct ql_frames *fs, struct ql_error *err)
{
	unsigned int wanted = fs->opt.threads;

	if (wanted == 0) {
		long n = sysconf(_SC_NPROCESSORS_ONLN);

		wanted = n > 1 ? (unsigned int)n : 1;
	}
	if (wanted > THREADS_MAX)
		wanted = THREADS_MAX;
	fs->n_ring = wanted + 2;
	fs->ring = calloc(fs->n_ring, sizeof(*fs->ring));
	fs->hasher = ql_hasher_new();
	if (!fs->ring || !fs->hasher)
		return ql_error_nomem(err);
	for (size_t i = 0; i < fs->n_ring; i++) {
		ql_buf_init(&fs->ring[i].raw, BATCH_MAX);
		/* Incompressible bytes grow a little. */
		ql_buf_init(&fs->ring[i].out, (size_t)2 * BATCH_MAX);
	}
	while (fs->n_threads < wanted) {
		int r = pthread_create(&fs->threads[fs->n_threads], NULL,
				       frames_main, fs);

		if (r != 0 && fs->n_threads == 0)
			return ql_error_errno(err, -r, "start a thread");
		if (r != 0)
			break;
		fs->n_threads++;
	}
	return 0;
}

int ql_frames_new(const struct ql_frames_options *options,
		  struct ql_frames **ret_frames, struct ql_error *err)
{
	struct ql_frames *fs = calloc(1, sizeof(*fs));
	int r;

	if (!fs)
		return ql_error_nomem(err);
	fs->opt = *options;
	(void)pthread_mutex_init(&fs->lock, NULL);
	(void)pthread_cond_init(&fs->more, NULL);
	(void)pthread_cond_init(&fs->ready, NULL);
	r = frames_start(fs, err);
	if (r == 0 && fs->opt.kind == QL_FRAMES_ONE)
		r = out_write(fs, gzip_header, sizeof(gzip_header), err);
	if (r < 0) {
		ql_frames_free(fs);
		return r;
	}
	*ret_frames = fs;
	return 0;
}

void ql_frames_free(struct ql_frames *fs)
{
	if (!fs)
		return;
	(void)pthread_mutex_lock(&fs->lock);
	fs->stop = true;
	(void)pthread_cond_broadcast(&fs->more);
	(void)pthread_mutex_unlock(&fs->lock);
	while (fs->n_threads > 0)
		(void)pthread_join(fs->threads[--fs->n_threads], NULL);
	for (size_t i = 0; fs->ring && i < fs->n_ring; i++) {
		ql_buf_release(&fs->ring[i].raw);
		ql_buf_release(&fs->ring[i].out);
		free(fs->ring[i].frames);
	}
	free(fs->ring);
	ql_hasher_free(fs->hasher);
	(void)pthread_cond_destroy(&fs->more);
	(void)pthread_cond_destroy(&fs->ready);
	(void)pthread_mutex_destroy(&fs->lock);
	free(fs);
}
