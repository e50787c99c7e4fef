/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which objects a peer has, by its filter, which is asked for when its summary
 * is of another generation; of another site's peer, not as often.  One that
 * cannot be had, or is malformed, leaves the last one in place: what it says
 * wrongly costs a request.
 */
#include "fetch/peer-private.h"
#include "fetch/peerfilter.h"

#include <inttypes.h>
#include <string.h>

/* Another site's takes of the uplink: while an image comes there, it would be
 * another one each time. */
#define FAR_NS 30000000000ULL

struct ql_peer_filter {
	atomic_uint refs;
	struct ql_filter filter; /* owned; not changed any more */
	uint64_t generation;
	uint64_t at; /* ns: when it came */
};

void ql_peer_filter_free(struct ql_peer_filter *filter)
{
	if (!filter || atomic_fetch_sub(&filter->refs, 1) > 1)
		return;
	ql_filter_release(&filter->filter);
	free(filter);
}

struct ql_peer_filter *ql_peer_filter_get(struct ql_peers *peers,
					  struct ql_peer *peer)
{
	struct ql_peer_filter *filter;

	(void)pthread_mutex_lock(&peers->lock);
	filter = peer->filter;
	if (filter)
		atomic_fetch_add(&filter->refs, 1);
	(void)pthread_mutex_unlock(&peers->lock);
	return filter;
}

bool ql_peer_filter_has(const struct ql_peer_filter *filter,
			const struct ql_digest *object)
{
	return ql_filter_has(&filter->filter, object);
}

static int filter_fetch(struct ql_peers *peers, struct ql_peer *peer,
			struct ql_peer_filter **ret_filter,
			struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_FILTER_MAX);
	_cleanup_response_ struct ql_http_response rs = { 0 };
	const struct ql_peer_request rq = { .path = "/v1/filter",
					    .bulk = true };
	struct ql_peer_filter *filter;
	int r = ql_peer_get(peers, peer, &rq, &buf, &rs, err);

	if (r < 0)
		return r;
	filter = calloc(1, sizeof(*filter));
	if (!filter)
		return ql_error_nomem(err);
	atomic_init(&filter->refs, 1);
	r = ql_filter_parse(ql_buf_str(&buf), buf.len, &filter->filter, err);
	if (r < 0)
		ql_peer_filter_free(filter);
	else
		*ret_filter = filter;
	return r;
}

void ql_peer_filter_update(struct ql_peers *peers, struct ql_peer *peer)
{
	struct ql_error err = QL_ERROR_INIT;
	struct ql_peer_filter *filter = NULL, *old;
	uint64_t generation, now = ql_now_ns();
	bool keep = false;

	(void)pthread_mutex_lock(&peers->lock);
	generation = peer->generation;
	keep = generation == peer->failed_filter && now < peer->failed_until;
	if (peer->filter && !keep)
		keep = peer->filter->generation == generation ||
		       (strcmp(peer->site, peers->site) != 0 &&
			now - peer->filter->at < FAR_NS);
	(void)pthread_mutex_unlock(&peers->lock);
	if (keep)
		return;
	if (filter_fetch(peers, peer, &filter, &err) < 0) {
		ql_debug("msg=\"no filter\" peer=%s text=\"%s\"", peer->address,
			 err.text);
		(void)pthread_mutex_lock(&peers->lock);
		peer->failed_filter = generation;
		peer->failed_until = ql_now_ns() + FAR_NS;
		(void)pthread_mutex_unlock(&peers->lock);
		return;
	}
	filter->generation = generation;
	filter->at = now;
	ql_debug("msg=\"a filter\" peer=%s objects=%" PRIu64, peer->address,
		 filter->filter.n_digests);
	(void)pthread_mutex_lock(&peers->lock);
	old = peer->filter;
	peer->filter = filter;
	(void)pthread_mutex_unlock(&peers->lock);
	ql_peer_filter_free(old);
}
