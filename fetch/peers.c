/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of the other nodes: who may be asked, and in which order.  What is
 * known of them comes from their summaries (peerprobe.c) and from what became
 * of what was asked of them.
 *
 * One that did not answer is out until it has told its summary again, so that
 * it costs one timeout and not one for each chunk.  One that sent what is wrong
 * is out for a second, then two, then four, up to ten minutes; it starts again
 * from one once it has behaved for as long.
 */
#include "fetch/peer-private.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#define NS 1000000000ULL
#define LIES_FORGOTTEN (600 * NS)
#define SLOW_NS (2 * NS)
#define FAULTS_NS (20 * NS)
enum { SLOW_MOST = 5 }; /* times SLOW_NS */

/* ---- references ---- */

struct ql_peer *ql_peer_ref(struct ql_peer *peer)
{
	atomic_fetch_add(&peer->refs, 1);
	return peer;
}

void ql_peer_unref(struct ql_peer *peer)
{
	if (!peer || atomic_fetch_sub(&peer->refs, 1) > 1)
		return;
	ql_peer_filter_free(peer->filter);
	free(peer->address);
	free(peer->url);
	free(peer->id);
	free(peer->name);
	free(peer->site);
	free(peer->etag);
	free(peer);
}

/* ---- the list ---- */

static struct ql_peer *peer_new(const struct ql_peers *peers,
				const char *address)
{
	struct ql_peer *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	atomic_init(&p->refs, 1);
	p->address = strdup(address);
	p->url = ql_strf("%s://%s", peers->tls.ca ? "https" : "http", address);
	p->id = strdup("");
	p->name = strdup("");
	p->site = strdup("");
	if (p->address && p->url && p->id && p->name && p->site)
		return p;
	ql_peer_unref(p);
	return NULL;
}

/* Under the lock. */
static int peer_put(struct ql_peers *peers, const char *address, bool looked_up)
{
	struct ql_peer *p = peers->list;

	while (p && strcmp(p->address, address) != 0)
		p = p->next;
	if (p) {
		p->seen = ql_now_ns();
		p->looked_up = p->looked_up && looked_up;
		return 0;
	}
	if (peers->n >= QL_PEERS_MAX)
		return -ENOSPC;
	p = peer_new(peers, address);
	if (!p)
		return -ENOMEM;
	p->seen = ql_now_ns();
	p->looked_up = looked_up;
	p->next = peers->list;
	peers->list = p;
	peers->n++;
	(void)pthread_cond_broadcast(&peers->wake);
	return 0;
}

int ql_peers_put(struct ql_peers *peers, const char *address, bool looked_up,
		 struct ql_error *err)
{
	int r;

	if (!ql_qdm_address_ok(address))
		return ql_error_set(err, -EINVAL,
				    "\"%.300s\" is no address of a peer "
				    "(HOST:PORT)",
				    address);
	if (peers->options.listen &&
	    strcmp(peers->options.listen, address) == 0)
		return 0;
	(void)pthread_mutex_lock(&peers->lock);
	r = peer_put(peers, address, looked_up);
	(void)pthread_mutex_unlock(&peers->lock);
	if (r == -ENOSPC)
		return ql_error_set(err, r, "more than %d peers", QL_PEERS_MAX);
	return r < 0 ? ql_error_nomem(err) : 0;
}

int ql_peers_add(struct ql_peers *peers, const char *address,
		 struct ql_error *err)
{
	return ql_peers_put(peers, address, false, err);
}

/* ---- choosing ---- */

bool ql_peers_passes(const struct ql_peers *peers)
{
	return peers->options.listen && peers->options.relay > 0;
}

/* Under the lock. */
static bool usable(const struct ql_peer *p, uint64_t now)
{
	return p->state == QL_PEER_LIVE && p->not_before <= now;
}

static bool is_near(const struct ql_peers *peers, const struct ql_peer *p)
{
	return strcmp(peers->site, p->site) == 0;
}

bool ql_peer_usable(struct ql_peers *peers, struct ql_peer *peer)
{
	bool is;

	(void)pthread_mutex_lock(&peers->lock);
	is = usable(peer, ql_now_ns());
	(void)pthread_mutex_unlock(&peers->lock);
	return is;
}

bool ql_peers_any(struct ql_peers *peers)
{
	uint64_t now = ql_now_ns();
	bool any = false;

	(void)pthread_mutex_lock(&peers->lock);
	for (const struct ql_peer *p = peers->list; p && !any; p = p->next)
		any = usable(p, now) && is_near(peers, p) && p->passes;
	(void)pthread_mutex_unlock(&peers->lock);
	return any;
}

/* The max least keys that were put, ascending. */
struct best {
	struct ql_peer **list; /* max */
	uint64_t *keys;
	size_t n, max;
};

static void best_put(struct best *b, struct ql_peer *peer, uint64_t key)
{
	size_t i = b->n;

	if (b->n == b->max && (b->max == 0 || key >= b->keys[b->n - 1]))
		return;
	if (b->n < b->max)
		b->n++;
	else
		i--;
	for (; i > 0 && b->keys[i - 1] > key; i--) {
		b->keys[i] = b->keys[i - 1];
		b->list[i] = b->list[i - 1];
	}
	b->keys[i] = key;
	b->list[i] = peer;
}

/* Under the lock, still. */
static size_t best_ref(const struct best *b)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->list[i])
			(void)ql_peer_ref(b->list[i]);
	return b->n;
}

size_t ql_peers_pick(struct ql_peers *peers, bool same_site,
		     struct ql_peer **ret_list, size_t max)
{
	_cleanup_free_ uint64_t *keys = calloc(max ? max : 1, sizeof(*keys));
	struct best best = { ret_list, keys, 0, keys ? max : 0 };
	uint64_t now = ql_now_ns();

	(void)pthread_mutex_lock(&peers->lock);
	for (struct ql_peer *p = peers->list; p; p = p->next)
		if (usable(p, now) && is_near(peers, p) == same_site)
			best_put(&best, p,
				 ql_peer_cost(p->rtt, p->rate, QL_PEER_REGION));
	(void)best_ref(&best);
	(void)pthread_mutex_unlock(&peers->lock);
	return best.n;
}

const char *ql_peers_name(const struct ql_peers *peers)
{
	return peers->name;
}

bool ql_peers_settled(struct ql_peers *peers)
{
	bool settled = true;

	(void)pthread_mutex_lock(&peers->lock);
	for (const struct ql_peer *p = peers->list; p && settled; p = p->next)
		settled = p->state != QL_PEER_NEW;
	(void)pthread_mutex_unlock(&peers->lock);
	return settled;
}

size_t ql_peers_ring(struct ql_peers *peers, const struct ql_digest *blob,
		     uint64_t region, struct ql_peer **ret_list, size_t max)
{
	_cleanup_free_ uint64_t *keys = calloc(max ? max : 1, sizeof(*keys));
	struct best best = { ret_list, keys, 0, keys ? max : 0 };
	uint64_t now = ql_now_ns();

	(void)pthread_mutex_lock(&peers->lock);
	for (struct ql_peer *p = peers->list; p; p = p->next)
		if (usable(p, now) && is_near(peers, p) && p->passes)
			best_put(&best, p,
				 ~ql_peer_weight(p->id, blob, region));
	if (ql_peers_passes(peers))
		best_put(&best, NULL, ~ql_peer_weight(peers->id, blob, region));
	(void)best_ref(&best);
	(void)pthread_mutex_unlock(&peers->lock);
	return best.n;
}

/* ---- what became of it ---- */

void ql_peer_failed(struct ql_peers *peers, struct ql_peer *peer, int error)
{
	uint64_t now = ql_now_ns();

	if (error == -ECANCELED || error == -ENOMEM)
		return;
	(void)pthread_mutex_lock(&peers->lock);
	peer->faults = now - peer->failed_at < FAULTS_NS ? peer->faults + 1 : 0;
	peer->failed_at = now;
	/* It tells its summary, and does nothing else well. */
	if (peer->faults > 0 && peer->not_before < now)
		peer->not_before = now + ql_peer_penalty(peer->faults);
	if (peer->state == QL_PEER_LIVE) {
		peer->state = QL_PEER_DEAD;
		peer->probe_at = 0;
		(void)pthread_cond_broadcast(&peers->wake);
	}
	(void)pthread_mutex_unlock(&peers->lock);
	ql_debug("msg=\"peer failed\" peer=%s error=%d", peer->address, error);
}

void ql_peer_lied(struct ql_peers *peers, struct ql_peer *peer,
		  const char *what)
{
	uint64_t now = ql_now_ns();
	unsigned int lies;

	(void)pthread_mutex_lock(&peers->lock);
	if (now - peer->lied_at > LIES_FORGOTTEN)
		peer->lies = 0;
	/* What was asked for at the same time is one lie. */
	if (peer->lies == 0 || peer->not_before <= now)
		peer->lies++;
	peer->lied_at = now;
	peer->not_before = now + ql_peer_penalty(peer->lies);
	lies = peer->lies;
	(void)pthread_mutex_unlock(&peers->lock);
	ql_log(QL_LOG_WARN,
	       "msg=\"a peer sends what is wrong\" peer=%s times=%u "
	       "what=\"%s\"",
	       peer->address, lies, what);
}

void ql_peer_suspect(struct ql_peers *peers, struct ql_peer *peer)
{
	uint64_t until = ql_now_ns() + NS;

	(void)pthread_mutex_lock(&peers->lock);
	if (peer->not_before < until)
		peer->not_before = until;
	(void)pthread_mutex_unlock(&peers->lock);
}

void ql_peer_slow(struct ql_peers *peers, struct ql_peer *peer, uint64_t waited)
{
	uint64_t now = ql_now_ns(), until;

	(void)pthread_mutex_lock(&peers->lock);
	/* So the next is given longer: where all are slow alike, nobody is
	 * asked again and again (Karn & Partridge, SIGCOMM'87). */
	if (peer->wait < waited / 2)
		peer->wait = waited / 2;
	peer->rate /= 2;
	if (peer->slow < SLOW_MOST)
		peer->slow++;
	until = now + peer->slow * SLOW_NS + 4 * waited;
	if (peer->not_before < until)
		peer->not_before = until;
	peer->probe_at = 0; /* is it there at all? */
	(void)pthread_cond_broadcast(&peers->wake);
	(void)pthread_mutex_unlock(&peers->lock);
	ql_debug("msg=\"peer is slow\" peer=%s", peer->address);
}

/* ---- telling ---- */

static const char *state_name(const struct ql_peer *p, uint64_t now)
{
	switch (p->state) {
	case QL_PEER_NEW:
		return "new";
	case QL_PEER_LIVE:
		if (p->not_before > now)
			return p->slow > 0 ? "slow" : "distrusted";
		return "live";
	case QL_PEER_DEAD:
		return "dead";
	case QL_PEER_SELF:
		return "self";
	}
	return "";
}

json_t *ql_peers_json(struct ql_peers *peers)
{
	json_t *list = json_array();
	uint64_t now = ql_now_ns();
	int r = list ? 0 : -1;

	(void)pthread_mutex_lock(&peers->lock);
	for (const struct ql_peer *p = peers->list; p && r == 0; p = p->next)
		r = json_array_append_new(
			list,
			json_pack("{s:s, s:o, s:o, s:s, s:f, s:I, s:I, s:i}",
				  "address", p->address, "name",
				  ql_json_text(p->name), "site",
				  ql_json_text(p->site), "state",
				  state_name(p, now), "rtt_ms",
				  (double)p->rtt / 1e6, "rate",
				  (json_int_t)p->rate, "generation",
				  (json_int_t)p->generation, "lies",
				  (int)p->lies));
	(void)pthread_mutex_unlock(&peers->lock);
	if (r == 0)
		return list;
	json_decref(list);
	return NULL;
}

/* ---- life ---- */

static int id_make(struct ql_peers *peers, struct ql_error *err)
{
	unsigned char bytes[QL_PEER_ID / 2];

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		return ql_error_errno(err, -errno, "random bytes");
	for (size_t i = 0; i < sizeof(bytes); i++)
		(void)snprintf(peers->id + 2 * i, 3, "%02x", bytes[i]);
	return 0;
}

static int names_make(struct ql_peers *peers, struct ql_error *err)
{
	const struct ql_peers_options *o = &peers->options;
	char host[QL_PEER_NAME_MAX + 1] = "";

	if (!o->name && gethostname(host, sizeof(host) - 1) < 0)
		return ql_error_errno(err, -errno, "this host's name");
	peers->name = strdup(o->name ? o->name : host);
	peers->site = strdup(o->site ? o->site : "default");
	if (!peers->name || !peers->site)
		return ql_error_nomem(err);
	if (strlen(peers->name) > QL_PEER_NAME_MAX ||
	    strlen(peers->site) > QL_PEER_NAME_MAX)
		return ql_error_set(err, -EINVAL,
				    "the name of a node or a site is longer "
				    "than %d bytes",
				    QL_PEER_NAME_MAX);
	return 0;
}

static int tls_make(struct ql_peers *peers, struct ql_error *err)
{
	const struct ql_peers_options *o = &peers->options;

	if (!o->ca != !o->cert || !o->ca != !o->key)
		return ql_error_set(err, -EINVAL,
				    "of a CA, a certificate and its key, all "
				    "are needed, or none");
	/* Only read, by libcurl. */
	peers->tls = (struct ql_tls){ .ca = (char *)o->ca,
				      .cert = (char *)o->cert,
				      .key = (char *)o->key,
				      .ca_alone = true,
				      .any_name = true };
	return 0;
}

static int peers_init(struct ql_peers *peers, struct ql_error *err)
{
	const struct ql_peers_options *o = &peers->options;
	int r = id_make(peers, err);

	if (r == 0)
		r = names_make(peers, err);
	if (r == 0)
		r = tls_make(peers, err);
	if (r == 0)
		r = ql_http_new(&peers->http, err);
	if (r == 0)
		r = ql_peer_known_new(peers, &peers->known, err);
	if (r == 0)
		r = ql_peer_ledger_new(&peers->ledger, err);
	if (r == 0)
		r = ql_peer_routes_new(&peers->routes, err);
	if (r == 0)
		r = ql_relay_new(peers, &peers->relay, err);
	for (size_t i = 0; i < o->n_list && r == 0; i++)
		r = ql_peers_put(peers, o->list[i], false, err);
	return r == 0 ? ql_peers_start(peers, err) : r;
}

int ql_peers_new(struct ql_store *store, const struct ql_peers_options *options,
		 struct ql_peers **ret_peers, struct ql_error *err)
{
	struct ql_peers *peers = calloc(1, sizeof(*peers));
	pthread_condattr_t attr;
	int r;

	if (!peers)
		return ql_error_nomem(err);
	peers->store = store;
	peers->options = *options;
	(void)pthread_mutex_init(&peers->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&peers->wake, &attr);
	(void)pthread_condattr_destroy(&attr);
	r = peers_init(peers, err);
	if (r < 0)
		ql_peers_free(peers);
	else
		*ret_peers = peers;
	return r;
}

void ql_peers_cancel(struct ql_peers *peers)
{
	(void)pthread_mutex_lock(&peers->lock);
	peers->stop = true;
	(void)pthread_cond_broadcast(&peers->wake);
	(void)pthread_mutex_unlock(&peers->lock);
	if (peers->http)
		ql_http_abort(peers->http);
	if (peers->relay)
		ql_relay_cancel(peers->relay);
}

void ql_peers_free(struct ql_peers *peers)
{
	struct ql_peer *p;

	if (!peers)
		return;
	ql_peers_cancel(peers);
	while (peers->n_threads > 0)
		(void)pthread_join(peers->threads[--peers->n_threads], NULL);
	ql_relay_free(peers->relay);
	ql_peer_routes_free(peers->routes);
	ql_peer_ledger_free(peers->ledger);
	while ((p = peers->list)) {
		peers->list = p->next;
		ql_peer_unref(p);
	}
	ql_peer_known_free(peers->known);
	ql_http_free(peers->http);
	free(peers->name);
	free(peers->site);
	(void)pthread_cond_destroy(&peers->wake);
	(void)pthread_mutex_destroy(&peers->lock);
	free(peers);
}
