/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request to one peer.  All share one ql_http, so that connections are kept
 * and used again; none goes through a proxy, and none follows a redirect.
 *
 * The certificate that is shown is one of the peers' own CA, or there is no
 * connection.  Which peer it names is not looked at: addresses come from DNS
 * and manifests, and what any of them sends is verified.
 */
#include "fetch/peer-private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum {
	CONNECT_S = 1,
	STALL_S = 30, /* whoever reads gives up long before */
	BODY_S = 10,  /* for all of a summary or a filter */
	PIECE = 64 << 10,
};
#define NS 1000000000ULL
#define OCTETS "application/octet-stream"

struct ql_peer_call {
	struct ql_peers *peers; /* borrowed */
	struct ql_peer *peer;	/* one reference */
	struct ql_stream *body; /* owned; until it is an answer's */
	uint64_t offset, len, patience;
	uint64_t until; /* ns: how long it is waited for */
	bool range, may_be_same;
};

void ql_peer_call_free(struct ql_peer_call *call)
{
	if (!call)
		return;
	ql_stream_free(call->body);
	ql_peer_unref(call->peer);
	free(call);
}

static int call_send(struct ql_peer_call *call,
		     const struct ql_peer_request *rq, struct ql_error *err)
{
	struct ql_peers *peers = call->peers;
	_cleanup_free_ char *url = ql_strf("%s%s", call->peer->url, rq->path);
	_cleanup_free_ char *etag = NULL, *from = NULL, *size = NULL;
	const struct ql_http_upload upload = {
		.type = OCTETS, .data = rq->body, .fd = -1, .len = rq->body_len
	};
	const char *headers[4] = { NULL };
	size_t n = 0, wanted = 0;
	const struct ql_http_request hrq = {
		.url = url,
		.method = rq->body ? "POST" : NULL,
		.upload = rq->body ? &upload : NULL,
		.headers = headers,
		.direct = true,
		.offset = rq->offset,
		.len = rq->len,
		.bulk = rq->bulk,
		.tls = peers->tls.ca ? &peers->tls : NULL,
		.timeouts = { CONNECT_S, STALL_S },
	};

	if (rq->etag) {
		wanted++;
		etag = ql_strf("If-None-Match: %s", rq->etag);
		if (etag)
			headers[n++] = etag;
	}
	if (rq->repository) {
		wanted += 2;
		from = ql_strf(QL_PEER_REPOSITORY ": %s", rq->repository);
		size = ql_strf(QL_PEER_SIZE ": %" PRIu64, rq->size);
		if (from && size) {
			headers[n++] = from;
			headers[n++] = size;
		}
	}
	if (!url || n != wanted)
		return ql_error_nomem(err);
	return ql_http_begin(peers->http, &hrq, &call->body, err);
}

int ql_peer_begin(struct ql_peers *peers, struct ql_peer *peer,
		  const struct ql_peer_request *rq,
		  struct ql_peer_call **ret_call, struct ql_error *err)
{
	struct ql_peer_call *call = calloc(1, sizeof(*call));
	int r;

	if (!call)
		return ql_error_nomem(err);
	*call = (struct ql_peer_call){
		.peers = peers,
		.peer = ql_peer_ref(peer),
		.offset = rq->offset,
		.len = rq->len,
		.patience = rq->patience ? rq->patience
					 : ql_peer_patience(peers, peer),
		.range = rq->offset > 0 || rq->len > 0,
		.may_be_same = rq->etag != NULL,
	};
	call->until = ql_now_ns() + call->patience;
	r = call_send(call, rq, err);
	if (r < 0)
		ql_peer_call_free(call);
	else
		*ret_call = call;
	return r;
}

/* What is no success: what it says, or -EPROTO where it may not say so. */
static int status_errno(const struct ql_http_response *rs)
{
	switch (rs->status) {
	case 404:
		return -ENOENT;
	case 416:
		return -ERANGE;
	case 429:
	case 503:
		return -EBUSY;
	default:
		return rs->status / 100 == 5 ? -EIO : -EPROTO;
	}
}

/* Whether it is what was asked for, no more and from there on. */
static const char *answer_fault(const struct ql_peer_call *call,
				const struct ql_http_response *rs)
{
	if (rs->status == 206 && rs->range_start != call->offset)
		return "another range than was asked for";
	if (rs->status == 206 && !call->range)
		return "a range that nobody asked for";
	if (rs->status == 200 && call->offset > 0)
		return "the whole in place of a range";
	if (call->len > 0 && rs->length != UINT64_MAX && rs->length > call->len)
		return "more than was asked for";
	return NULL;
}

static int answer_check(struct ql_peer_call *call,
			const struct ql_http_response *rs, struct ql_error *err)
{
	bool good = rs->status == 200 || rs->status == 206 ||
		    (rs->status == 304 && call->may_be_same);
	const char *fault = good ? answer_fault(call, rs) : NULL;
	int r = good ? 0 : status_errno(rs);

	if (!good && r == -EPROTO)
		fault = "a status that is no answer";
	if (fault) {
		ql_peer_lied(call->peers, call->peer, fault);
		return ql_error_set(err, -EPROTO, "%s: sends %s (HTTP %ld)",
				    call->peer->address, fault, rs->status);
	}
	return good ? 0
		    : ql_error_set(err, r, "%s: HTTP %ld", call->peer->address,
				   rs->status);
}

int ql_peer_answer(struct ql_peer_call *call, uint64_t deadline,
		   struct ql_http_response *ret_rs, struct ql_error *err)
{
	struct ql_http_response rs = { 0 };
	int r = ql_http_answer(call->body, deadline, &rs, err);

	if (r == -EAGAIN)
		return r;
	if (r < 0) {
		ql_peer_failed(call->peers, call->peer, r);
		ql_peer_call_free(call);
		return r;
	}
	call->body = NULL;
	r = answer_check(call, &rs, err);
	if (r == -EIO)
		ql_peer_failed(call->peers, call->peer, r);
	ql_peer_call_free(call);
	if (r < 0)
		ql_http_response_release(&rs);
	else
		*ret_rs = rs;
	return r;
}

int ql_peer_finish(struct ql_peer_call *call, struct ql_http_response *ret_rs,
		   struct ql_error *err)
{
	int r = ql_peer_answer(call, call->until, ret_rs, err);

	if (r == -EAGAIN) {
		ql_peer_failed(call->peers, call->peer, -ETIMEDOUT);
		r = ql_error_set(err, -ETIMEDOUT, "%s: does not answer",
				 call->peer->address);
		ql_peer_call_free(call);
	}
	return r;
}

int ql_peer_open(struct ql_peers *peers, struct ql_peer *peer,
		 const struct ql_peer_request *rq,
		 struct ql_http_response *ret_rs, struct ql_error *err)
{
	struct ql_peer_call *call;
	int r = ql_peer_begin(peers, peer, rq, &call, err);

	return r < 0 ? r : ql_peer_finish(call, ret_rs, err);
}

int ql_peer_body(struct ql_peers *peers, struct ql_peer *peer,
		 struct ql_http_response *rs, uint64_t patience,
		 struct ql_buf *buf, struct ql_error *err)
{
	_cleanup_free_ char *piece = malloc(PIECE);
	/* Who sends a byte now and then is not to hold up who reads. */
	const uint64_t most = ql_now_ns() + BODY_S * NS;

	if (!piece)
		return ql_error_nomem(err);
	for (;;) {
		uint64_t until = ql_now_ns() + patience;
		ssize_t n = ql_http_read(rs->body, piece, PIECE,
					 until < most ? until : most, err);
		int r;

		if (n == -EAGAIN)
			n = ql_error_set(err, -ETIMEDOUT, "%s: stalls",
					 peer->address);
		if (n < 0)
			ql_peer_failed(peers, peer, (int)n);
		if (n <= 0)
			return (int)n;
		r = ql_buf_add(buf, piece, (size_t)n);
		if (r == -EFBIG) {
			ql_peer_lied(peers, peer, "an answer without end");
			return ql_error_set(err, -EFBIG,
					    "%s: sends more than %zu bytes",
					    peer->address, buf->max);
		}
		if (r < 0)
			return ql_error_nomem(err);
	}
}

int ql_peer_get(struct ql_peers *peers, struct ql_peer *peer,
		const struct ql_peer_request *rq, struct ql_buf *buf,
		struct ql_http_response *ret_rs, struct ql_error *err)
{
	_cleanup_response_ struct ql_http_response rs = { 0 };
	int r = ql_peer_open(peers, peer, rq, &rs, err);

	if (r == 0)
		r = ql_peer_body(peers, peer, &rs,
				 rq->patience ? rq->patience
					      : ql_peer_patience(peers, peer),
				 buf, err);
	if (r < 0)
		return r;
	ql_stream_free(ql_take_ptr(rs.body));
	*ret_rs = rs;
	rs = (struct ql_http_response){ 0 };
	return 0;
}
