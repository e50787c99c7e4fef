/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The answer to a batch as a stream of frames (grammar: fetch/peers.h).  A part
 * is opened when its turn comes, so that one descriptor is open at a time.
 * What turns out to be unreadable after its frame has begun ends the answer:
 * the length that was promised is not kept otherwise.
 */
#include "fs/peer.h"

#include <errno.h>
#include <string.h>

struct frames {
	struct ql_stream base;
	struct ql_peers *peers; /* borrowed */
	bool trusted;
	struct ql_peer_batch_part *parts; /* owned */
	size_t n, next;
	struct ql_peer_answer answer; /* of the frame that is being sent */
	uint64_t left;		      /* bytes of it */
	uint8_t header[QL_PEER_FRAME_HEADER];
	size_t header_at; /* bytes of it that were sent */
};

static void header_set(struct frames *f, uint32_t status, uint64_t len)
{
	memcpy(f->header, QL_PEER_FRAME_MAGIC, 4);
	for (unsigned int i = 0; i < 4; i++)
		f->header[4 + i] = (uint8_t)(status >> (8 * i));
	for (unsigned int i = 0; i < 8; i++)
		f->header[8 + i] = (uint8_t)(len >> (8 * i));
	f->header_at = 0;
	f->left = len;
}

/* A part of no bytes is there or not, too. */
static void part_open(struct frames *f)
{
	const struct ql_peer_batch_part *part = &f->parts[f->next++];
	const struct ql_peer_ask ask = {
		.kind = part->kind,
		.digest = part->digest,
		.offset = part->offset,
		.len = part->len,
		.trusted = f->trusted,
	};
	struct ql_error err = QL_ERROR_INIT;
	int r;

	ql_peer_answer_release(&f->answer);
	r = ql_peers_open(f->peers, &ask, &f->answer, &err);
	header_set(f, r < 0 ? (uint32_t)-r : 0, r < 0 ? 0 : f->answer.len);
}

static ssize_t answer_read(struct frames *f, void *buf, size_t len,
			   struct ql_error *err)
{
	struct ql_peer_answer *a = &f->answer;
	ssize_t n;

	if (len > f->left)
		len = (size_t)f->left;
	n = a->stream ? ql_stream_read(a->stream, buf, len, err)
		      : ql_pread_full(a->fd, buf, len, a->fd_offset);
	if (n < 0)
		return a->stream ? n : ql_error_errno(err, (int)n, "read");
	if (n == 0)
		return ql_error_set(err, -EIO, "content ended early");
	a->fd_offset += (uint64_t)n;
	f->left -= (uint64_t)n;
	return n;
}

static ssize_t frames_read(struct ql_stream *s, void *buf, size_t len,
			   struct ql_error *err)
{
	struct frames *f = (struct frames *)s;
	size_t n;

	if (f->header_at == sizeof(f->header) && f->left == 0) {
		if (f->next == f->n)
			return 0;
		part_open(f);
	}
	if (f->header_at == sizeof(f->header))
		return answer_read(f, buf, len, err);
	n = sizeof(f->header) - f->header_at;
	if (n > len)
		n = len;
	memcpy(buf, f->header + f->header_at, n);
	f->header_at += n;
	return (ssize_t)n;
}

static void frames_free(struct ql_stream *s)
{
	struct frames *f = (struct frames *)s;

	ql_peer_answer_release(&f->answer);
	free(f->parts);
	free(f);
}

static const struct ql_stream_ops frames_ops = { frames_read, frames_free };

int ql_peer_frames_new(struct ql_peers *peers, bool trusted,
		       struct ql_peer_batch *batch,
		       struct ql_stream **ret_stream, struct ql_error *err)
{
	struct frames *f = calloc(1, sizeof(*f));

	if (!f)
		return ql_error_nomem(err);
	f->base.ops = &frames_ops;
	f->peers = peers;
	f->trusted = trusted;
	f->parts = ql_take_ptr(batch->parts);
	f->n = batch->n;
	f->answer.fd = -1;
	f->header_at = sizeof(f->header);
	ql_peer_batch_release(batch);
	*ret_stream = &f->base;
	return 0;
}
