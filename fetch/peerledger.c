/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who gave which part of which blob lately, so that what turns out to be wrong,
 * once a chunk or a blob was verified, is laid at the right door; and what was
 * wrong, which the registry itself is asked for next.
 *
 * A part of one giver's is his lie.  Where several gave of it (a blob that was
 * read whole is verified at its end alone), each is out for a second only.
 */
#include "fetch/peer-private.h"

#include <string.h>

enum {
	GIFTS = 4096,
	DOUBTS = 64,
	GIVERS = 64, /* of one part */
};
#define DOUBT_NS (60 * 1000000000ULL)

struct part {
	struct ql_digest blob;
	uint64_t from, to;
};

struct ql_peer_ledger {
	pthread_mutex_t lock; /* protects all below */
	uint64_t n_gifts;     /* ever; number n is in gifts[n % GIFTS] */
	struct gift {
		struct part part;
		struct ql_peer *peer; /* one reference; NULL: the relay */
	} gifts[GIFTS];
	unsigned int next;
	struct doubt {
		struct part part;
		uint64_t until; /* ns */
	} doubts[DOUBTS];
};

static bool overlaps(const struct part *part, const struct ql_digest *blob,
		     uint64_t from, uint64_t to)
{
	return part->from < to && from < part->to &&
	       ql_digest_equal(&part->blob, blob);
}

void ql_peers_gave(struct ql_peers *peers, struct ql_peer *peer,
		   const struct ql_digest *blob, uint64_t from, uint64_t to,
		   uint64_t *at)
{
	struct ql_peer_ledger *l = peers->ledger;
	struct ql_peer *old = NULL;
	struct gift *gift;

	(void)pthread_mutex_lock(&l->lock);
	gift = &l->gifts[*at % GIFTS];
	if (*at > 0 && l->n_gifts - *at < GIFTS && gift->part.to == from &&
	    gift->peer == peer) {
		gift->part.to = to;
	} else {
		*at = ++l->n_gifts;
		gift = &l->gifts[*at % GIFTS];
		old = gift->peer;
		gift->part = (struct part){ *blob, from, to };
		gift->peer = peer ? ql_peer_ref(peer) : NULL;
	}
	(void)pthread_mutex_unlock(&l->lock);
	ql_peer_unref(old);
}

/* Takes those who gave of a part, each once, a reference each; how many.
 * *ret_any: somebody did, or the relay.  What they gave is forgotten. */
static size_t givers_take(struct ql_peer_ledger *l,
			  const struct ql_digest *blob, uint64_t from,
			  uint64_t to, struct ql_peer *list[GIVERS],
			  bool *ret_any)
{
	size_t n = 0, k;

	*ret_any = false;
	for (size_t i = 0; i < GIFTS; i++) {
		struct gift *g = &l->gifts[i];

		if (!overlaps(&g->part, blob, from, to))
			continue;
		*ret_any = true;
		g->part.from = g->part.to = 0;
		for (k = 0; k < n && list[k] != g->peer; k++)
			;
		if (g->peer && k == n && n < GIVERS)
			list[n++] = ql_peer_ref(g->peer);
	}
	return n;
}

bool ql_peers_doubt(struct ql_peers *peers, const struct ql_digest *blob,
		    uint64_t from, uint64_t to)
{
	struct ql_peer_ledger *l = peers->ledger;
	struct ql_peer *list[GIVERS];
	bool any;
	size_t n;

	(void)pthread_mutex_lock(&l->lock);
	n = givers_take(l, blob, from, to, list, &any);
	if (any) {
		l->doubts[l->next++ % DOUBTS] =
			(struct doubt){ { *blob, from, to },
					ql_now_ns() + DOUBT_NS };
	}
	(void)pthread_mutex_unlock(&l->lock);
	if (any)
		ql_relay_doubt(peers, blob, from, to);
	for (size_t i = 0; i < n; i++) {
		if (n == 1)
			ql_peer_lied(peers, list[i],
				     "content of another digest");
		else
			ql_peer_suspect(peers, list[i]);
		ql_peer_unref(list[i]);
	}
	return any;
}

bool ql_peers_is_doubted(struct ql_peers *peers, const struct ql_digest *blob,
			 uint64_t from, uint64_t to)
{
	struct ql_peer_ledger *l = peers->ledger;
	uint64_t now = ql_now_ns();
	bool is = false;

	(void)pthread_mutex_lock(&l->lock);
	for (size_t i = 0; i < DOUBTS && !is; i++)
		is = l->doubts[i].until > now &&
		     overlaps(&l->doubts[i].part, blob, from, to);
	(void)pthread_mutex_unlock(&l->lock);
	return is;
}

int ql_peer_ledger_new(struct ql_peer_ledger **ret_ledger, struct ql_error *err)
{
	struct ql_peer_ledger *l = calloc(1, sizeof(*l));

	if (!l)
		return ql_error_nomem(err);
	(void)pthread_mutex_init(&l->lock, NULL);
	*ret_ledger = l;
	return 0;
}

void ql_peer_ledger_free(struct ql_peer_ledger *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < GIFTS; i++)
		ql_peer_unref(l->gifts[i].peer);
	(void)pthread_mutex_destroy(&l->lock);
	free(l);
}
