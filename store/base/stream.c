/* SPDX-License-Identifier: Apache-2.0 */
/* The plain streams: over a descriptor, over memory, and with a check. */
#include "store/base/stream.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/base/cleanup.h"
#include "store/base/digest.h"
#include "store/base/error.h"

ssize_t ql_stream_read(struct ql_stream *s, void *buf, size_t len,
		       struct ql_error *err)
{
	return s->ops->read(s, buf, len, err);
}

ssize_t ql_stream_read_full(struct ql_stream *s, void *buf, size_t len,
			    struct ql_error *err)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n =
			ql_stream_read(s, (char *)buf + done, len - done, err);

		if (n < 0)
			return n;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

void ql_stream_free(struct ql_stream *s)
{
	if (s)
		s->ops->free(s);
}

/* ---- a descriptor ---- */

struct fd_stream {
	struct ql_stream base;
	int fd; /* owned */
};

static ssize_t fd_read(struct ql_stream *s, void *buf, size_t len,
		       struct ql_error *err)
{
	struct fd_stream *f = (struct fd_stream *)s;
	ssize_t n;

	do
		n = read(f->fd, buf, len);
	while (n < 0 && errno == EINTR);
	return n < 0 ? ql_error_errno(err, -errno, "read") : n;
}

static void fd_free(struct ql_stream *s)
{
	(void)close(((struct fd_stream *)s)->fd);
	free(s);
}

static const struct ql_stream_ops fd_ops = { fd_read, fd_free };

int ql_stream_from_fd(int fd, struct ql_stream **ret_stream,
		      struct ql_error *err)
{
	struct fd_stream *f = calloc(1, sizeof(*f));

	if (!f)
		return ql_error_nomem(err);
	f->base.ops = &fd_ops;
	f->fd = fd;
	*ret_stream = &f->base;
	return 0;
}

/* ---- memory ---- */

struct mem_stream {
	struct ql_stream base;
	const char *data; /* borrowed */
	size_t left;
};

static ssize_t mem_read(struct ql_stream *s, void *buf, size_t len,
			struct ql_error *err)
{
	struct mem_stream *m = (struct mem_stream *)s;

	(void)err;
	if (len > m->left)
		len = m->left;
	memcpy(buf, m->data, len);
	m->data += len;
	m->left -= len;
	return (ssize_t)len;
}

static void mem_free(struct ql_stream *s)
{
	free(s);
}

static const struct ql_stream_ops mem_ops = { mem_read, mem_free };

int ql_stream_from_mem(const void *data, size_t len,
		       struct ql_stream **ret_stream, struct ql_error *err)
{
	struct mem_stream *m = calloc(1, sizeof(*m));

	if (!m)
		return ql_error_nomem(err);
	m->base.ops = &mem_ops;
	m->data = data;
	m->left = len;
	*ret_stream = &m->base;
	return 0;
}

/* ---- with a check ---- */

struct verify_stream {
	struct ql_stream base;
	struct ql_stream *inner;  /* owned */
	struct ql_hasher *hasher; /* owned; NULL: digest not checked */
	struct ql_digest digest;
	uint64_t size; /* stated */
	uint64_t done;
	bool ended;
	bool wrong; /* its digest was; it stays so */
};

static int verify_end(struct verify_stream *v, struct ql_error *err)
{
	char want[QL_DIGEST_TEXT + 1];
	char have[QL_DIGEST_TEXT + 1];
	struct ql_digest d;

	if (v->wrong)
		return ql_error_set(err, -EBADMSG, "the digest was wrong");
	if (v->ended)
		return 0;
	if (v->size != UINT64_MAX && v->done != v->size)
		return ql_error_set(err, -EBADMSG,
				    "%" PRIu64 " bytes came, %" PRIu64
				    " were stated",
				    v->done, v->size);
	v->ended = true;
	if (!v->hasher)
		return 0;
	ql_hasher_final(v->hasher, &d);
	if (!ql_digest_equal(&d, &v->digest)) {
		v->wrong = true;
		return ql_error_set(err, -EBADMSG, "digest is %s, not %s",
				    ql_digest_text(&d, have),
				    ql_digest_text(&v->digest, want));
	}
	return 0;
}

static ssize_t verify_read(struct ql_stream *s, void *buf, size_t len,
			   struct ql_error *err)
{
	struct verify_stream *v = (struct verify_stream *)s;
	ssize_t n = ql_stream_read(v->inner, buf, len, err);

	if (n < 0)
		return n;
	if (n == 0)
		return verify_end(v, err);
	v->done += (uint64_t)n;
	if (v->done > v->size)
		return ql_error_set(err, -EBADMSG,
				    "more than the stated %" PRIu64
				    " bytes came",
				    v->size);
	if (v->hasher)
		ql_hasher_update(v->hasher, buf, (size_t)n);
	return n;
}

static void verify_free(struct ql_stream *s)
{
	struct verify_stream *v = (struct verify_stream *)s;

	ql_stream_free(v->inner);
	ql_hasher_free(v->hasher);
	free(v);
}

static const struct ql_stream_ops verify_ops = { verify_read, verify_free };

int ql_stream_verify(struct ql_stream *inner, const struct ql_digest *digest,
		     uint64_t size, struct ql_stream **ret_stream,
		     struct ql_error *err)
{
	_cleanup_free_ struct verify_stream *v = calloc(1, sizeof(*v));

	if (!v)
		return ql_error_nomem(err);
	v->base.ops = &verify_ops;
	v->inner = inner;
	v->size = size;
	if (digest) {
		v->digest = *digest;
		v->hasher = ql_hasher_new();
		if (!v->hasher)
			return ql_error_nomem(err);
	}
	*ret_stream = &ql_take_ptr(v)->base;
	return 0;
}
