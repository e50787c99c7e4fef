/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Token buckets: one for all that is sent, one for each address.  A bucket is
 * a moment: that at which all that was taken is paid for at its rate.  It may
 * lie a little in the past (what was saved up) and in the future (debt, which
 * whoever takes next waits for).  So who takes never waits for tokens that a
 * later one could take before it.
 */
#include "fs/peer.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

enum {
	RATES_MAX = QL_PEERS_MAX, /* addresses at once */
	BLOCK_MIN = 1 << 10,
};
#define SECOND ((uint64_t)1000000000)
#define SAVED (SECOND / 10) /* ns that may be saved up */

struct bucket {
	uint64_t rate; /* bytes a second; UINT64_MAX: no limit */
	uint64_t paid; /* ns */
};

struct ql_peer_rate {
	struct ql_peer_rate *next;
	struct ql_net_address address;
	struct bucket bucket;
	unsigned int refs;
};

struct ql_peer_rates {
	ql_peer_clock_fn *clock;
	uint64_t each;
	pthread_mutex_t lock; /* protects all below */
	struct bucket total;
	struct ql_peer_rate *list; /* owned */
	size_t n;
};

int ql_peer_rates_new(uint64_t total, uint64_t each, ql_peer_clock_fn *clock,
		      struct ql_peer_rates **ret_rates, struct ql_error *err)
{
	struct ql_peer_rates *rates = calloc(1, sizeof(*rates));

	if (!rates)
		return ql_error_nomem(err);
	rates->clock = clock;
	rates->each = each;
	rates->total.rate = total;
	(void)pthread_mutex_init(&rates->lock, NULL);
	*ret_rates = rates;
	return 0;
}

void ql_peer_rates_free(struct ql_peer_rates *rates)
{
	struct ql_peer_rate *rate;

	if (!rates)
		return;
	while ((rate = rates->list)) {
		rates->list = rate->next;
		free(rate);
	}
	(void)pthread_mutex_destroy(&rates->lock);
	free(rates);
}

bool ql_peer_rates_limit(const struct ql_peer_rates *rates)
{
	return rates->total.rate < UINT64_MAX || rates->each < UINT64_MAX;
}

size_t ql_peer_rates_block(const struct ql_peer_rates *rates, size_t max)
{
	uint64_t rate = rates->total.rate < rates->each ? rates->total.rate
							: rates->each;

	if (rate / 10 >= max)
		return max;
	return rate / 10 < BLOCK_MIN ? BLOCK_MIN : (size_t)(rate / 10);
}

/* ---- addresses ---- */

/* Under the lock: forgets those that nobody has and that owe nothing. */
static void rates_sweep(struct ql_peer_rates *rates, uint64_t now)
{
	struct ql_peer_rate **p = &rates->list, *rate;

	while ((rate = *p)) {
		if (rate->refs > 0 || rate->bucket.paid > now) {
			p = &rate->next;
			continue;
		}
		*p = rate->next;
		rates->n--;
		free(rate);
	}
}

static struct ql_peer_rate *rate_find(const struct ql_peer_rates *rates,
				      const struct ql_net_address *address)
{
	struct ql_peer_rate *rate = rates->list;

	while (rate && memcmp(&rate->address, address, sizeof(*address)) != 0)
		rate = rate->next;
	return rate;
}

static struct ql_peer_rate *rate_new(struct ql_peer_rates *rates,
				     const struct ql_net_address *address)
{
	struct ql_peer_rate *rate;

	rates_sweep(rates, rates->clock());
	rate = rates->n < RATES_MAX ? calloc(1, sizeof(*rate)) : NULL;
	if (!rate)
		return NULL;
	rate->address = *address;
	rate->bucket.rate = rates->each;
	rate->next = rates->list;
	rates->list = rate;
	rates->n++;
	return rate;
}

struct ql_peer_rate *ql_peer_rate_get(struct ql_peer_rates *rates,
				      const struct ql_net_address *address)
{
	struct ql_peer_rate *rate;

	(void)pthread_mutex_lock(&rates->lock);
	rate = rate_find(rates, address);
	if (!rate)
		rate = rate_new(rates, address);
	if (rate)
		rate->refs++;
	(void)pthread_mutex_unlock(&rates->lock);
	return rate;
}

void ql_peer_rate_put(struct ql_peer_rates *rates, struct ql_peer_rate *rate)
{
	if (!rate)
		return;
	(void)pthread_mutex_lock(&rates->lock);
	rate->refs--;
	(void)pthread_mutex_unlock(&rates->lock);
}

/* ---- taking ---- */

static uint64_t bucket_take(struct bucket *b, uint64_t bytes, uint64_t now)
{
	uint64_t wait, cost;

	if (b->rate == UINT64_MAX)
		return 0;
	if (b->paid + SAVED < now)
		b->paid = now - SAVED;
	wait = b->paid > now ? b->paid - now : 0;
	cost = (uint64_t)((unsigned __int128)bytes * SECOND /
			  (b->rate ? b->rate : 1));
	if (__builtin_add_overflow(b->paid, cost, &b->paid))
		b->paid = UINT64_MAX / 2;
	return wait;
}

uint64_t ql_peer_rate_take(struct ql_peer_rates *rates,
			   struct ql_peer_rate *rate, uint64_t bytes)
{
	uint64_t now = rates->clock(), all, own = 0;

	(void)pthread_mutex_lock(&rates->lock);
	all = bucket_take(&rates->total, bytes, now);
	if (rate)
		own = bucket_take(&rate->bucket, bytes, now);
	(void)pthread_mutex_unlock(&rates->lock);
	return all > own ? all : own;
}
