/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A source whose blobs come from peers first.  A part of a blob is read in
 * segments, one for each region (or the part of it that is wanted), each from
 * the node that the region belongs to: another one of this site, or this one
 * through its own relay, so that what it fetches is there for others too.  A
 * few segments ahead are asked for at once, so that the round trip is not paid
 * for each.  What a deployment manifest says from whom it comes (peerroute.c)
 * is read through this node's relay.
 *
 * Who does not answer, stalls, is much slower than the registry, or sends what
 * was not asked for is left for the next, and at last for the registry, from
 * the byte reached on.  So peers never make a read fail that would have gone
 * well without them.
 *
 * What is asked of the registry by a tag or an index (manifests) is asked of
 * it.
 */
#include "fetch/peer-private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum {
	/* More would wait where the nodes of a site share a slow uplink, until
	 * whoever waits for it gives up and asks others. */
	AHEAD = 2,
	RING = 3,	 /* that are tried before the registry */
	SLICE_MS = 100,	 /* how soon it is seen that a read is to stop */
	WINDOW_MS = 250, /* over which a peer's rate is looked at */
	WINDOWS = 2,	 /* in a row, that are too slow */
};
#define MS 1000000ULL

struct peer_source {
	struct ql_source base;
	struct ql_peers *peers;	 /* borrowed */
	struct ql_source *inner; /* owned */
	char *repository;	 /* owned; as others are told */
	atomic_bool cancel;
};

enum way { WAY_NONE, WAY_PEER, WAY_RELAY, WAY_DIRECT };

struct segment {
	uint64_t pos, end;	    /* in the blob: what is left of it */
	struct ql_peer *ring[RING]; /* a reference each; NULL: this node */
	size_t n_ring, at;	    /* at: whose turn it is */
	enum way way;
	struct ql_peer_call *call;   /* owned; or NULL, as the next */
	struct ql_stream *stream;    /* owned */
	uint64_t way_end;	     /* what is asked of it, or what it has */
	uint64_t begun, came;	     /* ns; came: its first byte; 0: not yet */
	uint64_t patience;	     /* ns */
	uint64_t bytes, blocked;     /* since then; ns that a reader waited */
	uint64_t w_bytes, w_blocked; /* in this window */
	unsigned int w_slow;	     /* windows in a row */
	uint64_t gift;		     /* peerledger.c */
};

struct peer_stream {
	struct ql_stream base;
	struct peer_source *src; /* borrowed */
	struct ql_descriptor d;	 /* digest and size alone */
	uint64_t pos, end;
	uint64_t next; /* where the next segment begins */
	struct segment segments[AHEAD];
	unsigned int first, n;
};

static bool stopped(const struct peer_source *src)
{
	return atomic_load(&src->cancel);
}

/* ---- one way of a segment ---- */

/* Tells what was seen of it. */
static void way_tell(struct peer_stream *s, struct segment *seg)
{
	uint64_t wait = seg->came - seg->begun;
	/* What was there before it was read says nothing of a rate. */
	uint64_t bytes = seg->blocked > MS ? seg->bytes : 0;

	if (seg->came == 0)
		return;
	if (seg->way == WAY_PEER)
		ql_peer_measured(s->src->peers, seg->ring[seg->at], wait, bytes,
				 seg->blocked);
	else if (seg->way == WAY_DIRECT)
		ql_peers_registry_measured(s->src->peers, wait, bytes,
					   seg->blocked);
}

static void way_close(struct segment *seg)
{
	ql_peer_call_free(ql_take_ptr(seg->call));
	ql_stream_free(ql_take_ptr(seg->stream));
	seg->way = WAY_NONE;
}

static int peer_begin(struct peer_stream *s, struct segment *seg,
		      struct ql_error *err)
{
	char digest[QL_DIGEST_TEXT + 1];
	_cleanup_free_ char *path =
		ql_strf("/v1/blobs/%s", ql_digest_text(&s->d.digest, digest));
	const struct ql_peer_request rq = {
		.path = path,
		.offset = seg->pos,
		.len = seg->end - seg->pos,
		.repository = s->src->repository,
		.size = s->d.size,
		.bulk = true,
	};

	if (!path)
		return ql_error_nomem(err);
	seg->way_end = seg->end;
	seg->patience = ql_peer_patience(s->src->peers, seg->ring[seg->at]);
	return ql_peer_begin(s->src->peers, seg->ring[seg->at], &rq, &seg->call,
			     err);
}

static int relay_begin(struct peer_stream *s, struct segment *seg,
		       struct ql_error *err)
{
	const struct ql_peer_ask ask = {
		.kind = QL_PEER_BLOB,
		.digest = s->d.digest,
		.offset = seg->pos,
		.len = seg->end - seg->pos,
		.trusted = true,
		.repository = s->src->repository,
		.size = s->d.size,
	};
	uint64_t len = 0;
	int r = ql_relay_begin(s->src->peers, &ask, &s->src->cancel,
			       &seg->stream, &len, err);

	seg->way_end = seg->pos + len;
	return r;
}

/* Whose turn it is is asked; the registry only when it is read. */
static int way_begin(struct peer_stream *s, struct segment *seg,
		     struct ql_error *err)
{
	seg->begun = ql_now_ns();
	seg->came = seg->bytes = seg->blocked = 0;
	seg->w_bytes = seg->w_blocked = 0;
	seg->w_slow = 0;
	seg->gift = 0;
	if (seg->at == seg->n_ring) {
		seg->way = WAY_DIRECT;
		seg->way_end = seg->end;
		return 0;
	}
	if (seg->ring[seg->at]) {
		seg->way = WAY_PEER;
		return ql_peer_usable(s->src->peers, seg->ring[seg->at])
			       ? peer_begin(s, seg, err)
			       : -EAGAIN;
	}
	seg->way = WAY_RELAY;
	return relay_begin(s, seg, err);
}

/* From this one, or from who comes after it. */
static void way_find(struct peer_stream *s, struct segment *seg)
{
	struct ql_error err = QL_ERROR_INIT;

	while (way_begin(s, seg, &err) < 0) {
		way_close(seg);
		seg->at++;
	}
}

/* ---- reading from a peer ---- */

static int peer_slow(struct peer_stream *s, struct segment *seg,
		     uint64_t waited, struct ql_error *err)
{
	ql_peer_slow(s->src->peers, seg->ring[seg->at], waited);
	return ql_error_set(err, -ETIMEDOUT, "%s: too slow",
			    seg->ring[seg->at]->address);
}

static uint64_t slice(void)
{
	return ql_now_ns() + SLICE_MS * MS;
}

static bool is_stalled(struct peer_stream *s, const struct segment *seg,
		       uint64_t since)
{
	return ql_peer_is_stalled(s->src->peers, seg->ring[seg->at], since,
				  seg->patience);
}

static int peer_answer(struct peer_stream *s, struct segment *seg,
		       struct ql_error *err)
{
	_cleanup_response_ struct ql_http_response rs = { 0 };
	int r;

	do {
		if (stopped(s->src))
			return ql_error_set(err, -ECANCELED, "canceled");
		r = ql_peer_answer(seg->call, slice(), &rs, err);
	} while (r == -EAGAIN && !is_stalled(s, seg, seg->begun));
	if (r == -EAGAIN)
		return peer_slow(s, seg, ql_now_ns() - seg->begun, err);
	seg->call = NULL;
	if (r < 0)
		return r;
	/* It may have less than was asked for. */
	if (rs.length != UINT64_MAX && rs.length < seg->end - seg->pos)
		seg->way_end = seg->pos + rs.length;
	seg->stream = ql_take_ptr(rs.body);
	return seg->way_end > seg->pos
		       ? 0
		       : ql_error_set(err, -ENOENT, "%s: has nothing of it",
				      seg->ring[seg->at]->address);
}

/* A peer that is much slower than the registry is worse than none; but not for
 * many streams that have a share of it each. */
static bool is_too_slow(struct peer_stream *s, struct segment *seg)
{
	uint64_t ns = seg->w_blocked, rate;

	if (ns < WINDOW_MS * MS)
		return false;
	rate = (uint64_t)((double)seg->w_bytes * 1e9 / (double)ns);
	seg->w_blocked = seg->w_bytes = 0;
	if (ql_peer_lags(s->src->peers, seg->ring[seg->at], rate))
		seg->w_slow++;
	else
		seg->w_slow = 0;
	return seg->w_slow == WINDOWS;
}

static ssize_t peer_read(struct peer_stream *s, struct segment *seg, void *buf,
			 size_t len, struct ql_error *err)
{
	uint64_t since;
	ssize_t n;
	int r = seg->call ? peer_answer(s, seg, err) : 0;

	if (r < 0)
		return r;
	since = ql_now_ns();
	do {
		if (stopped(s->src))
			return ql_error_set(err, -ECANCELED, "canceled");
		n = ql_http_read(seg->stream, buf, len, slice(), err);
	} while (n == -EAGAIN && !is_stalled(s, seg, since));
	if (n == -EAGAIN)
		return peer_slow(s, seg, seg->patience, err);
	if (n == 0)
		n = ql_error_set(err, -ECONNRESET, "%s: breaks off",
				 seg->ring[seg->at]->address);
	if (n < 0)
		ql_peer_failed(s->src->peers, seg->ring[seg->at], (int)n);
	return n;
}

/* ---- segments ---- */

static ssize_t direct_read(struct peer_stream *s, struct segment *seg,
			   void *buf, size_t len, struct ql_error *err)
{
	struct ql_source *inner = s->src->inner;
	int r = 0;

	if (!seg->stream)
		seg->begun = ql_now_ns();
	if (!seg->stream)
		r = inner->ops->open_range(inner, &s->d, seg->pos,
					   seg->end - seg->pos, &seg->stream,
					   err);
	return r < 0 ? r : ql_stream_read(seg->stream, buf, len, err);
}

static ssize_t way_read(struct peer_stream *s, struct segment *seg, void *buf,
			size_t len, struct ql_error *err)
{
	uint64_t left = seg->way_end - seg->pos;

	len = len < left ? len : (size_t)left;
	switch (seg->way) {
	case WAY_PEER:
		return peer_read(s, seg, buf, len, err);
	case WAY_RELAY:
		return ql_stream_read(seg->stream, buf, len, err);
	case WAY_DIRECT:
	case WAY_NONE:
		break;
	}
	return direct_read(s, seg, buf, len, err);
}

/* n bytes came, for which the reader waited ns. */
static void segment_came(struct peer_stream *s, struct segment *seg, size_t n,
			 uint64_t ns)
{
	if (seg->way == WAY_PEER)
		ql_peer_came(s->src->peers, seg->ring[seg->at], n);
	if (seg->way == WAY_DIRECT)
		ql_peers_registry_came(s->src->peers, n);
	if (seg->way != WAY_DIRECT)
		ql_peers_gave(s->src->peers,
			      seg->way == WAY_PEER ? seg->ring[seg->at] : NULL,
			      &s->d.digest, seg->pos, seg->pos + n, &seg->gift);
	if (seg->came == 0) {
		seg->came = ql_now_ns();
	} else {
		seg->bytes += n;
		seg->blocked += ns;
		seg->w_bytes += n;
		seg->w_blocked += ns;
	}
	seg->pos += n;
}

/* The way is at its end, or failed (error < 0): another, if something is left.
 */
static void segment_turn(struct peer_stream *s, struct segment *seg, int error)
{
	bool came = seg->came > 0;

	if (error == 0)
		way_tell(s, seg);
	way_close(seg);
	if (seg->pos == seg->end)
		return;
	/* Who had less than was asked for may have the rest meanwhile. */
	if (error < 0 || !came)
		seg->at++;
	way_find(s, seg);
}

static ssize_t segment_read(struct peer_stream *s, struct segment *seg,
			    void *buf, size_t len, struct ql_error *err)
{
	for (;;) {
		struct ql_error why = QL_ERROR_INIT;
		uint64_t since = ql_now_ns();
		ssize_t n = way_read(s, seg, buf, len, &why);

		if (n > 0) {
			segment_came(s, seg, (size_t)n, ql_now_ns() - since);
			if (seg->pos == seg->way_end)
				segment_turn(s, seg, 0);
			else if (seg->way == WAY_PEER && is_too_slow(s, seg))
				segment_turn(s, seg,
					     peer_slow(s, seg, 0, &why));
			return n;
		}
		if (n == -ECANCELED || seg->way == WAY_DIRECT ||
		    stopped(s->src)) {
			if (err)
				*err = why;
			return n;
		}
		ql_debug("msg=\"another is asked\" at=%" PRIu64
			 " error=%zd text=\"%s\"",
			 seg->pos, n, why.text);
		segment_turn(s, seg, n < 0 ? (int)n : -ECONNRESET);
	}
}

static void segment_release(struct segment *seg)
{
	way_close(seg);
	for (size_t i = 0; i < seg->n_ring; i++)
		ql_peer_unref(seg->ring[i]);
	*seg = (struct segment){ 0 };
}

static size_t ring_find(struct peer_stream *s, struct segment *seg,
			uint64_t region)
{
	size_t n = ql_peers_ring(s->src->peers, &s->d.digest, region, seg->ring,
				 RING);

	/* Nobody else is there any more. */
	return n == 1 && !seg->ring[0] ? 0 : n;
}

static void segment_begin(struct peer_stream *s)
{
	struct segment *seg = &s->segments[(s->first + s->n) % AHEAD];
	uint64_t region = s->next / QL_PEER_REGION;
	uint64_t end = (region + 1) * QL_PEER_REGION;

	*seg = (struct segment){ .pos = s->next };
	seg->end = end < s->end ? end : s->end;
	if (!ql_peers_is_doubted(s->src->peers, &s->d.digest, seg->pos,
				 seg->end)) {
		/* By this node's relay alone, where it is said from whom. */
		if (ql_peers_is_routed(s->src->peers, &s->d.digest))
			seg->n_ring = 1;
		else
			seg->n_ring = ring_find(s, seg, region);
		if (seg->n_ring == 0)
			seg->end = s->end;
	}
	s->next = seg->end;
	s->n++;
	way_find(s, seg);
}

/* ---- the stream ---- */

static ssize_t stream_read(struct ql_stream *stream, void *buf, size_t len,
			   struct ql_error *err)
{
	struct peer_stream *s = (struct peer_stream *)stream;
	struct segment *seg;
	ssize_t n;

	if (s->pos >= s->end || len == 0)
		return 0;
	while (s->n < AHEAD && s->next < s->end)
		segment_begin(s);
	seg = &s->segments[s->first];
	n = segment_read(s, seg, buf, len, err);
	if (n <= 0)
		return n;
	s->pos += (uint64_t)n;
	if (seg->pos == seg->end) {
		segment_release(seg);
		s->first = (s->first + 1) % AHEAD;
		s->n--;
	}
	return n;
}

static void stream_free(struct ql_stream *stream)
{
	struct peer_stream *s = (struct peer_stream *)stream;

	for (unsigned int i = 0; i < AHEAD; i++)
		segment_release(&s->segments[i]);
	free(s);
}

static const struct ql_stream_ops stream_ops = { stream_read, stream_free };

static int stream_new(struct peer_source *src, const struct ql_descriptor *d,
		      uint64_t offset, uint64_t len,
		      struct ql_stream **ret_stream, struct ql_error *err)
{
	struct peer_stream *s = calloc(1, sizeof(*s));

	if (!s)
		return ql_error_nomem(err);
	s->base.ops = &stream_ops;
	s->src = src;
	s->d = (struct ql_descriptor){ .digest = d->digest, .size = d->size };
	s->pos = s->next = offset;
	s->end = len < d->size - offset ? offset + len : d->size;
	/* What is needed first is asked for at once. */
	while (s->n < AHEAD && s->next < s->end)
		segment_begin(s);
	*ret_stream = &s->base;
	return 0;
}

/* ---- a small blob, which is verified here ---- */

struct small_stream {
	struct ql_stream base;
	struct ql_buf buf; /* owned */
	size_t pos;
};

static ssize_t small_read(struct ql_stream *stream, void *buf, size_t len,
			  struct ql_error *err)
{
	struct small_stream *s = (struct small_stream *)stream;
	size_t left = s->buf.len - s->pos;

	(void)err;
	len = len < left ? len : left;
	if (len > 0)
		memcpy(buf, s->buf.data + s->pos, len);
	s->pos += len;
	return (ssize_t)len;
}

static void small_free(struct ql_stream *stream)
{
	struct small_stream *s = (struct small_stream *)stream;

	ql_buf_release(&s->buf);
	free(s);
}

static const struct ql_stream_ops small_ops = { small_read, small_free };

/* 1: it is not what it is named by, and came from peers. */
static int small_fetch(struct peer_source *src, const struct ql_descriptor *d,
		       struct ql_buf *buf, struct ql_error *err)
{
	struct ql_http_response whole = { .length = d->size };
	struct ql_digest digest;
	int r = stream_new(src, d, 0, d->size, &whole.body, err);

	ql_buf_clear(buf);
	if (r == 0)
		r = ql_http_body(&whole, buf, err);
	ql_stream_free(whole.body);
	if (r < 0)
		return r;
	if (ql_digest_of(buf->data, buf->len, &digest) < 0)
		return ql_error_nomem(err);
	return !ql_digest_equal(&digest, &d->digest) &&
	       ql_peers_doubt(src->peers, &d->digest, 0, d->size);
}

static int small_open(struct peer_source *src, const struct ql_descriptor *d,
		      struct ql_stream **ret_stream, struct ql_error *err)
{
	struct small_stream *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return ql_error_nomem(err);
	s->base.ops = &small_ops;
	ql_buf_init(&s->buf, d->size ? (size_t)d->size : 1);
	r = small_fetch(src, d, &s->buf, err);
	if (r > 0)
		r = small_fetch(src, d, &s->buf, err);
	if (r < 0)
		small_free(&s->base);
	else
		*ret_stream = &s->base;
	return r < 0 ? r : 0;
}

/* ---- the source ---- */

static int get_manifest(struct ql_source *source, const struct ql_descriptor *d,
			struct ql_buf *buf, char **ret_type,
			struct ql_error *err)
{
	struct peer_source *src = (struct peer_source *)source;

	src->inner->lazy = source->lazy;
	return src->inner->ops->get_manifest(src->inner, d, buf, ret_type, err);
}

/* Whether it may come by way of others. */
static bool is_shared(const struct peer_source *src,
		      const struct ql_descriptor *d)
{
	return ql_peers_any(src->peers) ||
	       ql_peers_is_routed(src->peers, &d->digest);
}

static int open_blob(struct ql_source *source, const struct ql_descriptor *d,
		     struct ql_stream **ret_stream, struct ql_error *err)
{
	struct peer_source *src = (struct peer_source *)source;

	if (!is_shared(src, d))
		return src->inner->ops->open_blob(src->inner, d, ret_stream,
						  err);
	if (d->size <= QL_PEER_REGION)
		return small_open(src, d, ret_stream, err);
	return stream_new(src, d, 0, d->size, ret_stream, err);
}

static int open_range(struct ql_source *source, const struct ql_descriptor *d,
		      uint64_t offset, uint64_t len,
		      struct ql_stream **ret_stream, struct ql_error *err)
{
	struct peer_source *src = (struct peer_source *)source;

	if (!is_shared(src, d) || offset >= d->size || len == 0)
		return src->inner->ops->open_range(src->inner, d, offset, len,
						   ret_stream, err);
	return stream_new(src, d, offset, len, ret_stream, err);
}

static int referrers(struct ql_source *source, const struct ql_digest *digest,
		     const char *artifact_type, struct ql_buf *buf,
		     struct ql_error *err)
{
	struct ql_source *inner = ((struct peer_source *)source)->inner;

	return inner->ops->referrers(inner, digest, artifact_type, buf, err);
}

static uint64_t rtt(struct ql_source *source)
{
	struct ql_source *inner = ((struct peer_source *)source)->inner;

	return inner->ops->rtt(inner);
}

/* Its manifest came from the registry: who may have that may have the rest. */
static bool is_anonymous(struct ql_source *source)
{
	struct ql_source *inner = ((struct peer_source *)source)->inner;

	return inner->ops->is_anonymous(inner);
}

static void source_cancel(struct ql_source *source)
{
	struct peer_source *src = (struct peer_source *)source;

	atomic_store(&src->cancel, true);
	src->inner->ops->cancel(src->inner);
}

static void source_free(struct ql_source *source)
{
	struct peer_source *src = (struct peer_source *)source;

	ql_source_free(src->inner);
	free(src->repository);
	free(src);
}

static const struct ql_source_ops peer_ops = {
	.get_manifest = get_manifest,
	.open_blob = open_blob,
	.open_range = open_range,
	.referrers = referrers,
	.rtt = rtt,
	.is_anonymous = is_anonymous,
	.cancel = source_cancel,
	.free = source_free,
};

int ql_peersource_new(struct ql_peers *peers, struct ql_source *inner,
		      const struct ql_ref *ref, bool plain_http,
		      struct ql_source **ret_src, struct ql_error *err)
{
	struct peer_source *src = calloc(1, sizeof(*src));

	if (!src)
		return ql_error_nomem(err);
	src->base.ops = &peer_ops;
	src->peers = peers;
	src->repository = ql_ref_repository(ref, plain_http);
	if (!src->repository) {
		free(src);
		return ql_error_nomem(err);
	}
	src->inner = inner;
	*ret_src = &src->base;
	return 0;
}
