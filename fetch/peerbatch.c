/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many parts of objects in one request: what is sent, and the frames that come
 * back (their grammar: peers.h), which are read as they come.
 */
#include "fetch/peer-private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { ERRNO_MAX = 4095, SKIP = 4096 };

/* ---- frames ---- */

void ql_peer_frames_init(struct ql_peer_frames *f, struct ql_stream *in,
			 const struct ql_peer_part *parts, size_t n)
{
	*f = (struct ql_peer_frames){ .in = in, .parts = parts, .n = n };
}

static int breaks_off(struct ql_error *err)
{
	return ql_error_set(err, -EPROTO, "the answer breaks off");
}

ssize_t ql_peer_frames_read(struct ql_peer_frames *f, void *buf, size_t len,
			    struct ql_error *err)
{
	ssize_t n;

	if (f->left == 0)
		return 0;
	n = ql_stream_read(f->in, buf, len < f->left ? len : (size_t)f->left,
			   err);
	if (n == 0)
		return breaks_off(err);
	if (n > 0)
		f->left -= (uint64_t)n;
	return n;
}

/* What was not read of the last one; and behind all of them, nothing. */
static int frames_skip(struct ql_peer_frames *f, struct ql_error *err)
{
	char buf[SKIP];
	ssize_t n = 0;

	while (f->left > 0 && n >= 0)
		n = ql_peer_frames_read(f, buf, sizeof(buf), err);
	if (n < 0 || f->next < f->n)
		return n < 0 ? (int)n : 0;
	n = ql_stream_read(f->in, buf, 1, err);
	if (n > 0)
		return ql_error_set(err, -EPROTO,
				    "more frames than were asked for");
	return (int)n;
}

int ql_peer_frames_next(struct ql_peer_frames *f,
			struct ql_peer_frame *ret_frame, struct ql_error *err)
{
	uint8_t header[QL_PEER_FRAME_HEADER];
	const uint8_t *magic;
	struct ql_cursor c;
	uint32_t status;
	uint64_t len;
	ssize_t n = frames_skip(f, err);

	if (n < 0 || f->next == f->n)
		return (int)n;
	n = ql_stream_read_full(f->in, header, sizeof(header), err);
	if (n >= 0 && n != (ssize_t)sizeof(header))
		return breaks_off(err);
	if (n < 0)
		return (int)n;
	ql_cursor_init(&c, header, sizeof(header));
	magic = ql_cursor_bytes(&c, 4);
	status = ql_cursor_le32(&c);
	len = ql_cursor_le64(&c);
	if (!magic || memcmp(magic, QL_PEER_FRAME_MAGIC, 4) != 0 ||
	    status > ERRNO_MAX || (status != 0 && len != 0) ||
	    len > f->parts[f->next].len)
		return ql_error_set(err, -EPROTO, "a malformed frame");
	f->left = len;
	*ret_frame = (struct ql_peer_frame){ f->next++, -(int)status, len };
	return 1;
}

/* ---- asking ---- */

int ql_peer_batch_print(const struct ql_peer_part *parts, size_t n,
			struct ql_buf *buf)
{
	char digest[QL_DIGEST_TEXT + 1];
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++)
		r = ql_buf_addf(buf, "objects %s %" PRIu64 " %" PRIu64 "\n",
				ql_digest_text(&parts[i].object, digest),
				parts[i].offset, parts[i].len);
	return r;
}

struct batch_stream {
	struct ql_stream base;
	struct ql_peers *peers; /* borrowed */
	struct ql_peer *peer;	/* one reference */
	struct ql_http_response rs;
	uint64_t patience, deadline; /* ns */
	uint64_t bytes, ns;	     /* that came, in which time */
};

static ssize_t batch_read(struct ql_stream *s, void *buf, size_t len,
			  struct ql_error *err)
{
	struct batch_stream *b = (struct batch_stream *)s;
	uint64_t start = ql_now_ns(), until = start + b->patience;
	ssize_t n;

	if (until > b->deadline)
		until = b->deadline;
	n = ql_http_read(b->rs.body, buf, len, until, err);
	b->ns += ql_now_ns() - start;
	if (n > 0)
		b->bytes += (uint64_t)n;
	if (n == -EAGAIN)
		n = ql_error_set(err, -ETIMEDOUT, "%s: is too slow",
				 b->peer->address);
	return n;
}

static void batch_free(struct ql_stream *s)
{
	struct batch_stream *b = (struct batch_stream *)s;

	if (b->bytes > 0)
		ql_peer_measured(b->peers, b->peer, b->rs.took, b->bytes,
				 b->ns);
	ql_http_response_release(&b->rs);
	ql_peer_unref(b->peer);
	free(b);
}

static const struct ql_stream_ops batch_ops = { batch_read, batch_free };

int ql_peer_batch_open(struct ql_peers *peers, struct ql_peer *peer,
		       const struct ql_peer_part *parts, size_t n,
		       uint64_t deadline, struct ql_stream **ret_stream,
		       struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf body = QL_BUF_INIT(QL_PEER_BATCH_BYTES);
	struct ql_peer_request rq = { .path = "/v1/batch", .bulk = true };
	struct batch_stream *b;
	int r = ql_peer_batch_print(parts, n, &body);

	if (r < 0)
		return ql_error_errno(err, r, "a request of %zu parts", n);
	b = calloc(1, sizeof(*b));
	if (!b)
		return ql_error_nomem(err);
	b->base.ops = &batch_ops;
	b->peers = peers;
	b->peer = ql_peer_ref(peer);
	b->patience = ql_peer_patience(peers, peer);
	b->deadline = deadline;
	rq.body = ql_buf_str(&body);
	rq.body_len = body.len;
	r = ql_peer_open(peers, peer, &rq, &b->rs, err);
	if (r < 0)
		batch_free(&b->base);
	else
		*ret_stream = &b->base;
	return r;
}
