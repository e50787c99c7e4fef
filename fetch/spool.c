/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A blob that is fetched front to back over several connections at once, into
 * a file without a name, and read from there as it comes.
 *
 * Over a long link a connection starts slowly (RFC 5681 §3.1: ten segments,
 * then twice as many each round trip), so that a few megabytes take many round
 * trips on one and few on many.  Parts are small enough to keep their order,
 * and large enough that the round trip between two of them does not matter.
 */
#include "fetch/fetch-private.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

enum {
	/* A link twice as long needs twice as much under way. */
	NS_A_CONNECTION = 4000000,
	CONNECTIONS_LEAST = 2,
	PART_MIN = 32 << 10,
	PART_MAX = 1 << 20,
	PIECE = 64 << 10,
	STACK = 256 << 10,
};
struct part {
	uint64_t start, end; /* in the blob */
	uint64_t done;	     /* up to where it is there */
};

struct ql_spool {
	struct ql_source *src; /* borrowed */
	struct ql_descriptor d;
	int fd;			/* owned */
	struct ql_store *store; /* borrowed */
	uint64_t taken;		/* of disk */
	uint64_t size;
	pthread_t threads[QL_SPOOL_CONNECTIONS];
	unsigned int n_threads;

	pthread_mutex_t lock; /* protects all below */
	pthread_cond_t more;
	struct part *parts; /* owned */
	size_t n_parts, next;
	uint64_t received;
	int error; /* the first */
	struct ql_error err;
	bool stop;
};

/* ---- fetching ---- */

static int part_put(struct ql_spool *s, struct part *part, const char *data,
		    size_t len, struct ql_error *err)
{
	ssize_t n = pwrite(s->fd, data, len, (off_t)part->done);

	if (n != (ssize_t)len)
		return ql_error_errno(err, n < 0 ? -errno : -EIO, "write");
	(void)pthread_mutex_lock(&s->lock);
	part->done += len;
	s->received += len;
	(void)pthread_cond_broadcast(&s->more);
	n = s->stop;
	(void)pthread_mutex_unlock(&s->lock);
	return n ? ql_error_set(err, -ECANCELED, "canceled") : 0;
}

static int part_fetch(struct ql_spool *s, struct part *part, char *buf,
		      struct ql_error *err)
{
	_cleanup_stream_ struct ql_stream *in = NULL;
	int r = s->src->ops->open_range(s->src, &s->d, part->start,
					part->end - part->start, &in, err);

	while (r == 0 && part->done < part->end) {
		uint64_t left = part->end - part->done;
		ssize_t n = ql_stream_read(
			in, buf, left < PIECE ? (size_t)left : PIECE, err);

		if (n == 0)
			n = ql_error_set(err, -ECONNRESET,
					 "the blob ends early");
		r = n < 0 ? (int)n : part_put(s, part, buf, (size_t)n, err);
	}
	return r;
}

static void *spool_main(void *arg)
{
	struct ql_spool *s = arg;
	_cleanup_free_ char *buf = malloc(PIECE);
	struct ql_error err = QL_ERROR_INIT;
	int r = buf ? 0 : ql_error_nomem(&err);

	(void)pthread_mutex_lock(&s->lock);
	while (r == 0 && s->next < s->n_parts && !s->stop && s->error == 0) {
		struct part *part = &s->parts[s->next++];

		(void)pthread_mutex_unlock(&s->lock);
		r = part_fetch(s, part, buf, &err);
		(void)pthread_mutex_lock(&s->lock);
	}
	if (r < 0 && s->error == 0) {
		s->error = r;
		s->err = err;
	}
	(void)pthread_cond_broadcast(&s->more);
	(void)pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* ---- starting ---- */

unsigned int ql_spool_connections(uint64_t rtt_ns, uint64_t size)
{
	uint64_t n = rtt_ns / NS_A_CONNECTION;
	uint64_t parts = size / PART_MIN + 1;

	if (n < CONNECTIONS_LEAST)
		n = CONNECTIONS_LEAST;
	if (n > QL_SPOOL_CONNECTIONS)
		n = QL_SPOOL_CONNECTIONS;
	return (unsigned int)(n < parts ? n : parts);
}

/* Cuts [start, end) into n parts, or fewer that are not too small. */
static void parts_cut(struct ql_spool *s, uint64_t start, uint64_t end,
		      unsigned int n)
{
	uint64_t len = (end - start) / n + 1;

	if (len < PART_MIN)
		len = PART_MIN;
	if (len > PART_MAX)
		len = PART_MAX;
	for (; start < end; start += len) {
		struct part *p = &s->parts[s->n_parts++];

		p->start = p->done = start;
		p->end = len < end - start ? start + len : end;
	}
}

/* What comes first is there first when all connections bring it together. */
static int parts_new(struct ql_spool *s, uint64_t first, unsigned int n)
{
	s->parts = calloc(2UL * n + s->size / PART_MAX + 4, sizeof(*s->parts));
	if (!s->parts)
		return -ENOMEM;
	if (first > s->size)
		first = s->size;
	parts_cut(s, 0, first, n);
	parts_cut(s, first, s->size, n);
	return 0;
}

int ql_spool_new(struct ql_store *store, struct ql_source *src,
		 const struct ql_descriptor *d, uint64_t first, uint64_t size,
		 uint64_t rtt_ns, struct ql_spool **ret_spool,
		 struct ql_error *err)
{
	unsigned int n = ql_spool_connections(rtt_ns, size);
	struct ql_spool *s = calloc(1, sizeof(*s));
	pthread_attr_t attr;
	int r;

	if (!s)
		return ql_error_nomem(err);
	s->src = src;
	s->d = (struct ql_descriptor){ .digest = d->digest, .size = d->size };
	s->size = size;
	s->fd = -1;
	(void)pthread_mutex_init(&s->lock, NULL);
	(void)pthread_cond_init(&s->more, NULL);
	s->store = store;
	r = ql_space_take(store, ql_space_blocks(size), err);
	if (r == 0)
		s->taken = ql_space_blocks(size);
	if (r == 0)
		r = ql_object_scratch(store, &d->digest, &s->fd, err);
	if (r == 0 && parts_new(s, first, n) < 0)
		r = ql_error_nomem(err);
	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, STACK);
	while (r == 0 && s->n_threads < n) {
		if (pthread_create(&s->threads[s->n_threads], &attr, spool_main,
				   s) != 0)
			break;
		s->n_threads++;
	}
	(void)pthread_attr_destroy(&attr);
	if (r == 0 && s->n_threads == 0)
		r = ql_error_set(err, -EAGAIN, "start a thread");
	if (r < 0) {
		ql_spool_free(s);
		return r;
	}
	*ret_spool = s;
	return 0;
}

void ql_spool_free(struct ql_spool *s)
{
	if (!s)
		return;
	(void)pthread_mutex_lock(&s->lock);
	s->stop = true;
	(void)pthread_mutex_unlock(&s->lock);
	for (unsigned int i = 0; i < s->n_threads; i++)
		(void)pthread_join(s->threads[i], NULL);
	if (s->fd >= 0)
		(void)close(s->fd);
	ql_space_done(s->store, s->taken, 0);
	free(s->parts);
	(void)pthread_cond_destroy(&s->more);
	(void)pthread_mutex_destroy(&s->lock);
	free(s);
}

/* ---- reading ---- */

/* Under the lock: up to where the blob is there from pos on. */
static uint64_t there_from(const struct ql_spool *s, uint64_t pos)
{
	for (size_t i = 0; i < s->n_parts; i++) {
		const struct part *p = &s->parts[i];

		if (p->end <= pos)
			continue;
		if (p->done < p->end)
			return p->done > pos ? p->done : pos;
		pos = p->end;
	}
	return pos;
}

ssize_t ql_spool_read(struct ql_spool *s, void *buf, size_t len,
		      uint64_t offset, struct ql_error *err)
{
	uint64_t there;
	ssize_t n;
	int r = 0;

	if (offset >= s->size)
		return 0;
	(void)pthread_mutex_lock(&s->lock);
	while ((there = there_from(s, offset)) == offset && s->error == 0 &&
	       !s->stop)
		(void)pthread_cond_wait(&s->more, &s->lock);
	if (there == offset)
		r = s->error < 0
			    ? ql_error_set(err, s->error, "%s", s->err.text)
			    : ql_error_set(err, -ECANCELED, "canceled");
	(void)pthread_mutex_unlock(&s->lock);
	if (r < 0)
		return r;
	if (len > there - offset)
		len = (size_t)(there - offset);
	n = pread(s->fd, buf, len, (off_t)offset);
	return n < 0 ? ql_error_errno(err, -errno, "read") : n;
}

bool ql_spool_ended(struct ql_spool *s)
{
	bool ended;

	(void)pthread_mutex_lock(&s->lock);
	ended = s->received == s->size || s->error < 0;
	(void)pthread_mutex_unlock(&s->lock);
	return ended;
}

uint64_t ql_spool_received(struct ql_spool *s)
{
	uint64_t n;

	(void)pthread_mutex_lock(&s->lock);
	n = s->received;
	(void)pthread_mutex_unlock(&s->lock);
	return n;
}

struct spool_stream {
	struct ql_stream base;
	struct ql_spool *spool; /* borrowed */
	uint64_t pos, end;
};

static ssize_t stream_read(struct ql_stream *stream, void *buf, size_t len,
			   struct ql_error *err)
{
	struct spool_stream *s = (struct spool_stream *)stream;
	ssize_t n;

	if (len > s->end - s->pos)
		len = (size_t)(s->end - s->pos);
	if (len == 0)
		return 0;
	n = ql_spool_read(s->spool, buf, len, s->pos, err);
	if (n > 0)
		s->pos += (uint64_t)n;
	return n;
}

static void stream_free(struct ql_stream *stream)
{
	free(stream);
}

static const struct ql_stream_ops stream_ops = { stream_read, stream_free };

int ql_spool_stream(struct ql_spool *s, uint64_t offset, uint64_t len,
		    struct ql_stream **ret_stream, struct ql_error *err)
{
	struct spool_stream *stream = calloc(1, sizeof(*stream));

	if (!stream)
		return ql_error_nomem(err);
	*stream = (struct spool_stream){
		{ &stream_ops }, s, offset, offset + len
	};
	*ret_stream = &stream->base;
	return 0;
}
