/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Byte streams: what a blob comes as, whoever it comes from.  A stream is
 * read by one thread at a time until it returns 0 (its end, at which it has
 * verified whatever it verifies) or a negative errno.
 */
#ifndef QL_BASE_STREAM_H
#define QL_BASE_STREAM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct ql_digest;
struct ql_error;
struct ql_stream;

struct ql_stream_ops {
	/* Up to len bytes (len > 0); 0 at the end; negative errno, described.
	 */
	ssize_t (*read)(struct ql_stream *s, void *buf, size_t len,
			struct ql_error *err);
	void (*free)(struct ql_stream *s);
};

/* First member of every implementation. */
struct ql_stream {
	const struct ql_stream_ops *ops;
};

ssize_t ql_stream_read(struct ql_stream *s, void *buf, size_t len,
		       struct ql_error *err);
/* Reads until len bytes or the end. */
ssize_t ql_stream_read_full(struct ql_stream *s, void *buf, size_t len,
			    struct ql_error *err);
void ql_stream_free(struct ql_stream *s); /* NULL is fine */

/* Over a file descriptor, which it takes on success. */
int ql_stream_from_fd(int fd, struct ql_stream **ret_stream,
		      struct ql_error *err);
/* Over memory, borrowed for the stream's life. */
int ql_stream_from_mem(const void *data, size_t len,
		       struct ql_stream **ret_stream, struct ql_error *err);

/*
 * Passes `inner` (taken on success) through while hashing and counting it.
 * At its end: -EBADMSG where size or digest differ from those stated; more
 * bytes than stated are an error at once.  digest may be NULL (not checked),
 * size UINT64_MAX (unknown).
 */
int ql_stream_verify(struct ql_stream *inner, const struct ql_digest *digest,
		     uint64_t size, struct ql_stream **ret_stream,
		     struct ql_error *err);

/*
 * Reads `inner` (taken on success) in a thread of its own, up to `window`
 * bytes ahead.  Freeing it early stops the thread as soon as inner's read
 * returns.  An error of inner is returned by read once what came before it
 * was consumed.
 */
int ql_stream_readahead(struct ql_stream *inner, size_t window,
			struct ql_stream **ret_stream, struct ql_error *err);

static inline void ql_stream_freep(struct ql_stream **s)
{
	ql_stream_free(*s);
}
#define _cleanup_stream_ __attribute__((cleanup(ql_stream_freep)))

#endif
