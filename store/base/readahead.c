/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream that is read ahead by a thread of its own, through a ring of
 * bytes.  One producer, one consumer; `lock` protects every shared member,
 * and bytes are copied outside it: each side owns the part of the ring that
 * head and tail give it.
 */
#include "store/base/stream.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/cleanup.h"
#include "store/base/error.h"

struct readahead {
	struct ql_stream base;
	struct ql_stream *inner; /* owned; the thread's while it runs */
	char *ring;		 /* owned; size bytes */
	size_t size;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t head;	     /* lock: bytes produced */
	uint64_t tail;	     /* lock: bytes consumed */
	bool stop;	     /* lock: the consumer is gone */
	bool ended;	     /* lock: the producer is done; status says how */
	int status;	     /* lock: 0 at the end, or a negative errno */
	struct ql_error err; /* the producer's until ended */
};

/* Waits for room; the bytes that can be written at once, 0 to stop. */
static size_t readahead_room(struct readahead *ra, size_t *ret_at)
{
	size_t used;
	size_t room;

	(void)pthread_mutex_lock(&ra->lock);
	/* A quarter must be free: fewer, larger reads. */
	while (!ra->stop && ra->head - ra->tail > ra->size - ra->size / 4)
		(void)pthread_cond_wait(&ra->changed, &ra->lock);
	used = (size_t)(ra->head - ra->tail);
	*ret_at = (size_t)(ra->head % ra->size);
	room = ra->size - used;
	if (room > ra->size - *ret_at)
		room = ra->size - *ret_at;
	if (ra->stop)
		room = 0;
	(void)pthread_mutex_unlock(&ra->lock);
	return room;
}

static void *readahead_main(void *arg)
{
	struct readahead *ra = arg;
	bool more = true;

	while (more) {
		size_t at;
		size_t room = readahead_room(ra, &at);
		ssize_t n = 0;

		if (room > 0)
			n = ql_stream_read(ra->inner, ra->ring + at, room,
					   &ra->err);
		(void)pthread_mutex_lock(&ra->lock);
		if (n > 0) {
			ra->head += (uint64_t)n;
		} else {
			ra->ended = true;
			ra->status = (int)n;
			more = false;
		}
		(void)pthread_cond_signal(&ra->changed);
		(void)pthread_mutex_unlock(&ra->lock);
	}
	return NULL;
}

static ssize_t readahead_read(struct ql_stream *s, void *buf, size_t len,
			      struct ql_error *err)
{
	struct readahead *ra = (struct readahead *)s;
	size_t have;
	size_t at;

	(void)pthread_mutex_lock(&ra->lock);
	while (ra->head == ra->tail && !ra->ended)
		(void)pthread_cond_wait(&ra->changed, &ra->lock);
	have = (size_t)(ra->head - ra->tail);
	at = (size_t)(ra->tail % ra->size);
	(void)pthread_mutex_unlock(&ra->lock);
	if (have == 0) {
		if (ra->status < 0)
			(void)ql_error_set(err, ra->status, "%s", ra->err.text);
		return ra->status;
	}
	if (len > have)
		len = have;
	if (len > ra->size - at)
		len = ra->size - at;
	memcpy(buf, ra->ring + at, len);
	(void)pthread_mutex_lock(&ra->lock);
	ra->tail += len;
	(void)pthread_cond_signal(&ra->changed);
	(void)pthread_mutex_unlock(&ra->lock);
	return (ssize_t)len;
}

static void readahead_free(struct ql_stream *s)
{
	struct readahead *ra = (struct readahead *)s;

	(void)pthread_mutex_lock(&ra->lock);
	ra->stop = true;
	(void)pthread_cond_signal(&ra->changed);
	(void)pthread_mutex_unlock(&ra->lock);
	(void)pthread_join(ra->thread, NULL);
	ql_stream_free(ra->inner);
	(void)pthread_cond_destroy(&ra->changed);
	(void)pthread_mutex_destroy(&ra->lock);
	free(ra->ring);
	free(ra);
}

static const struct ql_stream_ops readahead_ops = { readahead_read,
						    readahead_free };

int ql_stream_readahead(struct ql_stream *inner, size_t window,
			struct ql_stream **ret_stream, struct ql_error *err)
{
	_cleanup_free_ struct readahead *ra = calloc(1, sizeof(*ra));
	_cleanup_free_ char *ring = malloc(window);
	int r;

	if (!ra || !ring)
		return ql_error_nomem(err);
	ra->base.ops = &readahead_ops;
	ra->inner = inner;
	ra->ring = ring;
	ra->size = window;
	(void)pthread_mutex_init(&ra->lock, NULL);
	(void)pthread_cond_init(&ra->changed, NULL);
	r = pthread_create(&ra->thread, NULL, readahead_main, ra);
	if (r != 0) {
		(void)pthread_cond_destroy(&ra->changed);
		(void)pthread_mutex_destroy(&ra->lock);
		return ql_error_errno(err, -r, "start a thread");
	}
	(void)ql_take_ptr(ring);
	*ret_stream = &ql_take_ptr(ra)->base;
	return 0;
}
