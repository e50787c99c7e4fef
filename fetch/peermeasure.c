/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast the others and the registry are: what was seen of them, smoothed,
 * and what follows of it: how long one is waited for, and who is too slow.
 *
 * One node may have so much to do that all it reads comes slowly.  Then its
 * peers are not slow, and to ask others instead would have everything fetched
 * twice: so a peer is held against the others too, and not only against the
 * registry.
 */
#include "fetch/peer-private.h"

#include <string.h>

#define NS 1000000000ULL
#define PATIENCE_LEAST (300 * NS / 1000)
#define PATIENCE_MOST (10 * NS)
#define WAIT_UNKNOWN (500 * NS / 1000)
#define FLOW_WINDOW (250 * NS / 1000)
#define FLOW_KNOWN (10 * NS) /* that long it is believed */
#define STALLED_MOST (15 * NS)
enum {
	MEASURED_LEAST = 32768, /* bytes that say something of a rate */
	SLOWER = 2,		/* times slower is too slow */
	/* Bytes a second; less is too slow where nothing is known of the
	 * registry, which is asked then. */
	RATE_LEAST = 32 << 10,
};

static uint64_t rate_of(uint64_t bytes, uint64_t ns)
{
	return (uint64_t)((double)bytes * (double)NS / (double)(ns ? ns : 1)) +
	       1;
}

void ql_peer_measured(struct ql_peers *peers, struct ql_peer *peer,
		      uint64_t wait, uint64_t bytes, uint64_t ns)
{
	(void)pthread_mutex_lock(&peers->lock);
	peer->wait = ql_peer_smooth(peer->wait, wait);
	if (bytes >= MEASURED_LEAST)
		peer->rate = ql_peer_smooth(peer->rate, rate_of(bytes, ns));
	peer->slow = 0;
	(void)pthread_mutex_unlock(&peers->lock);
}

void ql_peers_registry_measured(struct ql_peers *peers, uint64_t wait,
				uint64_t bytes, uint64_t ns)
{
	(void)pthread_mutex_lock(&peers->lock);
	peers->registry_wait = ql_peer_smooth(peers->registry_wait, wait);
	if (bytes >= MEASURED_LEAST)
		peers->registry_rate = ql_peer_smooth(peers->registry_rate,
						      rate_of(bytes, ns));
	(void)pthread_mutex_unlock(&peers->lock);
}

static void flow_add(struct ql_peer_flow *flow, uint64_t bytes)
{
	uint64_t now = ql_now_ns(), ns;

	/* A pause says nothing of how fast it is. */
	if (now - flow->at > FLOW_WINDOW) {
		flow->since = now;
		flow->bytes = 0;
	}
	flow->at = now;
	flow->bytes += bytes;
	ns = now - flow->since;
	if (ns >= FLOW_WINDOW) {
		flow->rate = rate_of(flow->bytes, ns);
		flow->since = now;
		flow->bytes = 0;
	}
}

void ql_peer_came(struct ql_peers *peers, struct ql_peer *peer, uint64_t bytes)
{
	(void)pthread_mutex_lock(&peers->lock);
	flow_add(&peer->flow, bytes);
	(void)pthread_mutex_unlock(&peers->lock);
}

void ql_peers_registry_came(struct ql_peers *peers, uint64_t bytes)
{
	(void)pthread_mutex_lock(&peers->lock);
	flow_add(&peers->registry_flow, bytes);
	(void)pthread_mutex_unlock(&peers->lock);
}

bool ql_peer_is_slower(uint64_t rate, uint64_t others, uint64_t registry)
{
	uint64_t least = registry > 0 ? registry / SLOWER : RATE_LEAST;

	if (others > 0 && others / SLOWER < least)
		least = others / SLOWER;
	return rate < least;
}

/* Under the lock: bytes a second of all that came of it lately. */
static uint64_t flowing(const struct ql_peer_flow *flow, uint64_t now,
			uint64_t lately)
{
	return now - flow->at > lately ? 0 : flow->rate;
}

/* Under the lock: the same of the peers of a site, but for one (or NULL), all
 * together; *n: of how many something came. */
static uint64_t site_flowing(const struct ql_peers *peers, const char *site,
			     const struct ql_peer *but, uint64_t now,
			     uint64_t lately, uint64_t *n)
{
	uint64_t sum = 0, flow;

	*n = 0;
	for (const struct ql_peer *p = peers->list; p; p = p->next) {
		flow = flowing(&p->flow, now, lately);
		if (p == but || flow == 0 || strcmp(p->site, site) != 0)
			continue;
		sum += flow;
		(*n)++;
	}
	return sum;
}

bool ql_peer_lags(struct ql_peers *peers, struct ql_peer *peer, uint64_t rate)
{
	uint64_t now, others, n, flow;
	bool lags;

	(void)pthread_mutex_lock(&peers->lock);
	now = ql_now_ns(); /* not before what came last */
	others = site_flowing(peers, peer->site, peer, now, NS, &n);
	flow = flowing(&peer->flow, now, FLOW_WINDOW);
	lags = ql_peer_is_slower(rate > flow ? rate : flow,
				 n > 0 ? others / n : 0, peers->registry_rate);
	(void)pthread_mutex_unlock(&peers->lock);
	return lags;
}

void ql_peers_blobs_measured(struct ql_peers *peers, bool of_site,
			     uint64_t *ret_wait, uint64_t *ret_rate)
{
	uint64_t now, n, flow;

	(void)pthread_mutex_lock(&peers->lock);
	now = ql_now_ns();
	flow = flowing(&peers->registry_flow, now, FLOW_KNOWN);
	if (of_site)
		flow += site_flowing(peers, peers->site, NULL, now, FLOW_KNOWN,
				     &n);
	*ret_wait = peers->registry_wait;
	*ret_rate = peers->registry_rate;
	if (*ret_rate > 0 && *ret_rate < flow)
		*ret_rate = flow;
	(void)pthread_mutex_unlock(&peers->lock);
}

bool ql_peer_is_stalled(struct ql_peers *peers, struct ql_peer *peer,
			uint64_t since, uint64_t patience)
{
	uint64_t now, came;

	if (ql_now_ns() - since < patience)
		return false;
	(void)pthread_mutex_lock(&peers->lock);
	now = ql_now_ns();
	came = peer->flow.at;
	(void)pthread_mutex_unlock(&peers->lock);
	return now - came >= patience || now - since >= STALLED_MOST;
}

uint64_t ql_peer_patience(struct ql_peers *peers, struct ql_peer *peer)
{
	uint64_t ns;

	(void)pthread_mutex_lock(&peers->lock);
	ns = peer->wait > peers->registry_wait ? peer->wait
					       : peers->registry_wait;
	if (ns < peer->rtt)
		ns = peer->rtt;
	/* Who is asked first may have to make a connection to the registry. */
	if (peers->registry_wait == 0 && ns < WAIT_UNKNOWN)
		ns = WAIT_UNKNOWN;
	(void)pthread_mutex_unlock(&peers->lock);
	if (ns > PATIENCE_MOST / 4)
		return PATIENCE_MOST;
	return ns * 4 < PATIENCE_LEAST ? PATIENCE_LEAST : ns * 4;
}
