/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The policy's state, in the catalogue's table `cache`:
 *
 *   u64 id     -> what ql_cache_changes() gives for it
 *   "head"     -> ql_cache_head()
 *   "rates"    -> per repository: u32 length, name, u64 bytes, u64 ns
 *
 * and in `meta`, "cache" -> u64 generation, which counts up with every change.
 * A process keeps the state in memory, too; where it finds another generation
 * than its own, another has changed it, and it is read anew.  What a
 * transaction has not committed is forgotten likewise.
 *
 * State that cannot be read begins anew: what is here is entered as if nobody
 * had asked for it, the oldest image first (keepenter.c).
 */
#include "store/keep-private.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

enum {
	RATES_MAX = 64,
	RATE_NAME_MAX = 1024,
	HEAD_MAX = 1 << 20,
	/* Less than this says more of the way than of its width. */
	RATE_SAMPLE = 64 << 10,
};

/* Half of what was measured is forgotten from there on. */
#define RATE_WINDOW ((uint64_t)256 << 20)
/* Of a repository that nothing came from yet: 100 Mbit/s. */
#define RATE_DEFAULT_NS 80.0

struct keep_rate {
	char *name; /* owned */
	uint64_t bytes, ns;
};

struct ql_keep {
	/* Protects the two below; taken in a write transaction, so that all
	 * come to both in the same order. */
	pthread_mutex_t lock;
	struct ql_cache *cache; /* owned; NULL: to be read */
	uint64_t generation;	/* of the cache */

	pthread_mutex_t rate_lock; /* after lock; protects all below */
	struct keep_rate rates[RATES_MAX];
	size_t n_rates;
	bool rates_read, rates_new;
};

int ql_keep_new(struct ql_keep **ret_keep, struct ql_error *err)
{
	struct ql_keep *keep = calloc(1, sizeof(*keep));

	if (!keep)
		return ql_error_nomem(err);
	(void)pthread_mutex_init(&keep->lock, NULL);
	(void)pthread_mutex_init(&keep->rate_lock, NULL);
	*ret_keep = keep;
	return 0;
}

void ql_keep_free(struct ql_keep *keep)
{
	if (!keep)
		return;
	ql_cache_free(keep->cache);
	for (size_t i = 0; i < keep->n_rates; i++)
		free(keep->rates[i].name);
	(void)pthread_mutex_destroy(&keep->rate_lock);
	(void)pthread_mutex_destroy(&keep->lock);
	free(keep);
}

uint64_t ql_keep_id(const struct ql_digest *digest)
{
	uint64_t id = 0;

	for (unsigned int i = 0; i < 8; i++)
		id |= (uint64_t)digest->bytes[i] << (8 * i);
	return id ? id : 1;
}

/* ---- rates ---- */

static struct keep_rate *rate_find(struct ql_keep *keep, const char *name)
{
	for (size_t i = 0; i < keep->n_rates; i++)
		if (strcmp(keep->rates[i].name, name) == 0)
			return &keep->rates[i];
	return NULL;
}

/* NULL: out of memory.  The oldest makes room. */
static struct keep_rate *rate_make(struct ql_keep *keep, const char *name)
{
	char *copy = strndup(name, RATE_NAME_MAX);

	if (!copy)
		return NULL;
	if (keep->n_rates == RATES_MAX) {
		free(keep->rates[0].name);
		memmove(&keep->rates[0], &keep->rates[1],
			(RATES_MAX - 1) * sizeof(keep->rates[0]));
		keep->n_rates--;
	}
	keep->rates[keep->n_rates] = (struct keep_rate){ .name = copy };
	return &keep->rates[keep->n_rates++];
}

void ql_keep_rate(struct ql_store *store, const char *repository,
		  uint64_t bytes, uint64_t ns)
{
	struct ql_keep *keep = store->keep;
	struct keep_rate *rate;

	if (!keep || bytes < RATE_SAMPLE || ns == 0 || bytes > UINT32_MAX ||
	    ns > UINT64_MAX / 4)
		return;
	(void)pthread_mutex_lock(&keep->rate_lock);
	rate = rate_find(keep, repository);
	if (!rate)
		rate = rate_make(keep, repository);
	if (rate) {
		rate->bytes += bytes;
		rate->ns += ns;
		while (rate->bytes > RATE_WINDOW) {
			rate->bytes /= 2;
			rate->ns /= 2;
		}
		keep->rates_new = true;
	}
	(void)pthread_mutex_unlock(&keep->rate_lock);
}

static void rates_parse(struct ql_keep *keep, const void *value, size_t len)
{
	struct ql_cursor c;

	ql_cursor_init(&c, value, len);
	while (!c.bad && ql_cursor_left(&c) > 0) {
		size_t n = ql_cursor_le32(&c);
		const uint8_t *name = ql_cursor_bytes(&c, n);
		uint64_t bytes = ql_cursor_le64(&c), ns = ql_cursor_le64(&c);
		_cleanup_free_ char *text = NULL;
		struct keep_rate *rate;

		if (c.bad || n > RATE_NAME_MAX || bytes > RATE_WINDOW ||
		    ns > UINT64_MAX / 4)
			return;
		text = strndup((const char *)name, n);
		if (!text || rate_find(keep, text))
			continue; /* ours is newer */
		rate = rate_make(keep, text);
		if (!rate)
			return;
		rate->bytes = bytes;
		rate->ns = ns;
	}
}

static void rates_load(struct ql_keep *keep, struct ql_txn *txn)
{
	const void *value;
	size_t len;

	if (keep->rates_read)
		return;
	keep->rates_read = true;
	if (ql_txn_get(txn, QL_TABLE_CACHE, "rates", 5, &value, &len) == 0)
		rates_parse(keep, value, len);
}

static int rates_save(struct ql_keep *keep, struct ql_txn *txn,
		      struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf =
		QL_BUF_INIT(RATES_MAX * (RATE_NAME_MAX + 20));
	int r = 0;

	(void)pthread_mutex_lock(&keep->rate_lock);
	for (size_t i = 0; i < keep->n_rates && keep->rates_new; i++) {
		const struct keep_rate *rate = &keep->rates[i];
		size_t n = strlen(rate->name);

		if (r == 0)
			r = ql_buf_add_le32(&buf, (uint32_t)n);
		if (r == 0)
			r = ql_buf_add(&buf, rate->name, n);
		if (r == 0)
			r = ql_buf_add_le64(&buf, rate->bytes);
		if (r == 0)
			r = ql_buf_add_le64(&buf, rate->ns);
	}
	keep->rates_new = false;
	(void)pthread_mutex_unlock(&keep->rate_lock);
	if (r < 0)
		return ql_error_nomem(err);
	return buf.len == 0 ? 0
			    : ql_txn_put(txn, QL_TABLE_CACHE, "rates", 5,
					 buf.data, buf.len, err);
}

uint64_t ql_keep_cost(struct ql_store *store, struct ql_txn *txn,
		      const char *repository, uint64_t bytes)
{
	struct ql_keep *keep = store->keep;
	double ns = RATE_DEFAULT_NS;
	struct keep_rate *rate;

	(void)pthread_mutex_lock(&keep->rate_lock);
	rates_load(keep, txn);
	rate = repository ? rate_find(keep, repository) : NULL;
	if (rate && rate->bytes > 0)
		ns = (double)rate->ns / (double)rate->bytes;
	(void)pthread_mutex_unlock(&keep->rate_lock);
	ns *= (double)bytes;
	return ns < 1e18 ? (uint64_t)ns : (uint64_t)1e18;
}

/* ---- reading ---- */

struct loading {
	struct ql_cache *cache; /* borrowed */
	struct ql_error *err;	/* borrowed */
};

static int load_record(const void *key, size_t key_len, const void *value,
		       size_t len, void *arg)
{
	struct loading *l = arg;

	(void)key;
	return key_len == 8 ? ql_cache_load_record(l->cache, value, len, l->err)
			    : 0;
}

int ql_keep_load(struct ql_txn *txn, struct ql_cache **ret_cache,
		 struct ql_error *err)
{
	const struct ql_cache_policy *policy = ql_cache_policy_find("ours");
	_cleanup_(ql_cache_freep) struct ql_cache *cache = NULL;
	struct loading l = { .err = err };
	const void *head;
	size_t len;
	int r = ql_txn_get(txn, QL_TABLE_CACHE, "head", 4, &head, &len);

	if (r < 0)
		return r == -ENOENT ? r : ql_error_errno(err, r, "cache state");
	r = ql_cache_load_start(policy, head, len, &cache, err);
	l.cache = cache;
	if (r == 0)
		r = ql_txn_each(txn, QL_TABLE_CACHE, load_record, &l, err);
	if (r == 0)
		r = ql_cache_load_end(cache, err);
	if (r == 0)
		*ret_cache = ql_take_ptr(cache);
	return r;
}

/* ---- transactions ---- */

/* 1: it had to begin anew. */
static int state_sync(struct ql_keep *keep, struct ql_txn *txn,
		      struct ql_error *err)
{
	struct ql_error why = QL_ERROR_INIT;
	uint64_t generation = ql_meta_number(txn, "cache");
	int r;

	if (keep->cache && keep->generation == generation)
		return 0;
	ql_cache_free(ql_take_ptr(keep->cache));
	keep->generation = generation;
	r = ql_keep_load(txn, &keep->cache, &why);
	if (r != -EBADMSG && r != -ENOENT && r < 0)
		return ql_error_set(err, r, "%s", why.text);
	if (r == 0)
		return 0;
	if (r == -EBADMSG || generation > 0)
		ql_log(QL_LOG_WARN,
		       "msg=\"the cache's state is damaged, and begins "
		       "anew\" text=\"%s\"",
		       why.text);
	r = ql_cache_new(ql_cache_policy_find("ours"), 0, &keep->cache, err);
	return r < 0 ? r : 1;
}

/* What there was is of no use to the one that begins. */
static int state_begin_anew(struct ql_keep_txn *kt, struct ql_error *err)
{
	struct ql_keep *keep = kt->store->keep;
	int r = ql_txn_clear(kt->txn, QL_TABLE_CACHE, err);

	(void)pthread_mutex_lock(&keep->rate_lock);
	keep->rates_new = true;
	(void)pthread_mutex_unlock(&keep->rate_lock);
	ql_cache_resize(kt->cache, kt->capacity);
	return r < 0 ? r : ql_keep_enter_all(kt, err);
}

int ql_keep_begin(struct ql_store *store, struct ql_keep_txn *ret_kt,
		  struct ql_error *err)
{
	struct ql_keep *keep = store->keep;
	struct ql_keep_txn kt = { .store = store };
	struct ql_space space;
	int r = ql_space_get(store, &space, err);

	if (r < 0)
		return r;
	kt.limited = space.budget > 0;
	kt.capacity = space.budget > space.metadata
			      ? space.budget - space.metadata
			      : 0;
	r = ql_txn_begin(store->catalog, true, &kt.txn, err);
	if (r < 0)
		return r;
	(void)pthread_mutex_lock(&keep->lock);
	if (kt.limited) {
		r = state_sync(keep, kt.txn, err);
		kt.cache = keep->cache;
		if (r > 0)
			r = state_begin_anew(&kt, err);
	}
	if (r < 0) {
		ql_keep_abort(&kt);
		return r;
	}
	if (kt.cache)
		ql_cache_resize(kt.cache, kt.capacity);
	*ret_kt = kt;
	return 0;
}

struct saving {
	struct ql_txn *txn;   /* borrowed */
	struct ql_error *err; /* borrowed */
};

static int save_record(uint64_t id, const uint8_t *record, void *arg)
{
	struct saving *s = arg;
	uint8_t key[8];
	int r;

	for (unsigned int i = 0; i < 8; i++)
		key[i] = (uint8_t)(id >> (8 * i));
	if (record)
		return ql_txn_put(s->txn, QL_TABLE_CACHE, key, sizeof(key),
				  record, QL_CACHE_RECORD, s->err);
	r = ql_txn_del(s->txn, QL_TABLE_CACHE, key, sizeof(key), s->err);
	return r == -ENOENT ? 0 : r;
}

int ql_keep_save(struct ql_keep_txn *kt, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf head = QL_BUF_INIT(HEAD_MAX);
	struct saving s = { .txn = kt->txn, .err = err };
	struct ql_keep *keep = kt->store->keep;
	int r = ql_cache_changes(kt->cache, save_record, &s);

	if (r == 0 && ql_cache_head(kt->cache, &head) < 0)
		r = ql_error_nomem(err);
	if (r == 0)
		r = ql_txn_put(kt->txn, QL_TABLE_CACHE, "head", 4, head.data,
			       head.len, err);
	if (r == 0)
		r = rates_save(keep, kt->txn, err);
	if (r == 0)
		r = ql_meta_set_number(kt->txn, "cache", keep->generation + 1,
				       err);
	return r;
}

int ql_keep_commit(struct ql_keep_txn *kt, struct ql_error *err)
{
	struct ql_keep *keep = kt->store->keep;
	int r = kt->cache ? ql_keep_save(kt, err) : 0;

	if (r == 0)
		r = ql_txn_commit(ql_take_ptr(kt->txn), err);
	if (r < 0) {
		ql_keep_abort(kt);
		return r;
	}
	if (kt->cache)
		keep->generation++;
	(void)pthread_mutex_unlock(&keep->lock);
	return 0;
}

void ql_keep_abort(struct ql_keep_txn *kt)
{
	struct ql_keep *keep = kt->store->keep;

	/* It may be ahead of what is on disk. */
	if (kt->cache)
		ql_cache_free(ql_take_ptr(keep->cache));
	ql_txn_abort(ql_take_ptr(kt->txn));
	(void)pthread_mutex_unlock(&keep->lock);
}
