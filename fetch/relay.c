/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What passes through this node on its way to others, and to itself: regions of
 * blobs in one file without a name, a slot of QL_PEER_REGION bytes for each,
 * holes where nothing came.  Of each region it is known what is there and what
 * is coming; who asks first has it fetched (exactly what was asked for, and
 * from the registry, or from whom a deployment manifest names: so there are no
 * circles), and all read it as it arrives.  Threads of its own fetch, so that
 * no reader who is slow, or goes, holds up another.
 *
 * It takes options.relay bytes of disk at most, accounted for as all of the
 * store is; for what comes the regions that were read longest ago go, by making
 * holes.  Those that somebody reads stay.
 *
 * What came while credentials were shown is for those who have authenticated,
 * and for this node.
 */
#include "fetch/peer-private.h"

#include "fetch/fill-private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

enum {
	WORKERS = 16,
	JOBS_MAX = 512,
	BUCKETS = 256,
	PIECE = 64 << 10,
	STACK = 256 << 10,
	CANCEL_MS = 100, /* how soon a reader sees that it is to stop */
	BLOCK = 4096,
};

struct region {
	struct region *next;	      /* in its bucket */
	struct region *older, *newer; /* by when it was asked for last */
	struct ql_digest blob;
	uint64_t size;	/* the blob's, as who asks states it */
	uint64_t index; /* the region's */
	uint64_t slot;
	struct ql_extents have, coming; /* owned; places in the blob */
	uint64_t taken;			/* of disk, and of relay->used */
	unsigned int users;		/* streams and jobs */
	bool private;			/* credentials were shown for it */
	bool gone;			/* out of the table: it goes at last */
	int error;			/* of what failed last */
	struct ql_error err;
};

struct job {
	struct job *next;
	struct region *region; /* one of its users */
	char *repository;      /* owned */
	uint64_t from, to;     /* in the blob; region->coming has it */
	uint64_t bytes;	       /* of disk: in relay->used */
};

struct ql_relay {
	struct ql_peers *peers;		 /* borrowed */
	struct ql_fill_sources *sources; /* owned; has its own lock */
	int fd;				 /* owned; -1: nothing passes */

	pthread_mutex_t lock; /* protects all below */
	pthread_cond_t work;  /* there is a job */
	pthread_cond_t news;  /* something came, or failed */
	struct region *buckets[BUCKETS];
	struct region *oldest, *newest;
	uint64_t used; /* bytes of disk */
	uint64_t n_slots, *free_slots, n_free, cap_free;
	struct job *jobs, **last;
	unsigned int n_jobs;
	pthread_t threads[WORKERS];
	unsigned int n_threads, idle;
	bool stop;
};

/* ---- regions; all under the lock but where said ---- */

static unsigned int bucket_of(const struct ql_digest *blob, uint64_t index)
{
	return (unsigned int)((blob->bytes[0] + index) % BUCKETS);
}

static struct region *region_find(struct ql_relay *relay,
				  const struct ql_digest *blob, uint64_t index)
{
	struct region *r = relay->buckets[bucket_of(blob, index)];

	while (r && (r->index != index || !ql_digest_equal(&r->blob, blob)))
		r = r->next;
	return r;
}

static void age_unlink(struct ql_relay *relay, struct region *r)
{
	*(r->older ? &r->older->newer : &relay->oldest) = r->newer;
	*(r->newer ? &r->newer->older : &relay->newest) = r->older;
	r->older = r->newer = NULL;
}

static void age_youngest(struct ql_relay *relay, struct region *r)
{
	r->older = relay->newest;
	*(relay->newest ? &relay->newest->newer : &relay->oldest) = r;
	relay->newest = r;
}

/* Out of the table, so that nobody finds it again. */
static void region_unlink(struct ql_relay *relay, struct region *r)
{
	struct region **at = &relay->buckets[bucket_of(&r->blob, r->index)];

	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	r->next = NULL;
	r->gone = true;
	age_unlink(relay, r);
}

/* Out of the table, to the list: it does not count any more. */
static void region_condemn(struct ql_relay *relay, struct region *r,
			   struct region **list)
{
	if (!r->gone)
		region_unlink(relay, r);
	relay->used -= r->taken;
	r->next = *list;
	*list = r;
}

/* Nobody finds it again; it goes when nobody uses it any more. */
static void region_drop(struct ql_relay *relay, struct region *r,
			struct region **list)
{
	if (r->users == 0)
		region_condemn(relay, r, list);
	else
		region_unlink(relay, r);
}

static int slot_take(struct ql_relay *relay, uint64_t *ret_slot)
{
	if (relay->n_free > 0) {
		*ret_slot = relay->free_slots[--relay->n_free];
		return 0;
	}
	/* Room for it to come back is made now. */
	if (relay->n_slots == relay->cap_free) {
		uint64_t cap = relay->cap_free ? relay->cap_free * 2 : 64;
		uint64_t *grown =
			reallocarray(relay->free_slots, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		relay->free_slots = grown;
		relay->cap_free = cap;
	}
	*ret_slot = relay->n_slots++;
	return 0;
}

static int region_get(struct ql_relay *relay, const struct ql_peer_ask *ask,
		      struct region **list, struct region **ret_region)
{
	uint64_t index = ask->offset / QL_PEER_REGION;
	struct region *r = region_find(relay, &ask->digest, index);
	unsigned int bucket = bucket_of(&ask->digest, index);

	if (r && ask->repository && r->size != ask->size) {
		/* They disagree about what a blob is: neither is believed. */
		region_drop(relay, r, list);
		r = NULL;
	}
	if (r) {
		age_unlink(relay, r);
		age_youngest(relay, r);
		*ret_region = r;
		return 0;
	}
	if (!ask->repository)
		return -ENOENT;
	r = calloc(1, sizeof(*r));
	if (!r || slot_take(relay, &r->slot) < 0) {
		free(r);
		return -ENOMEM;
	}
	r->blob = ask->digest;
	r->size = ask->size;
	r->index = index;
	r->next = relay->buckets[bucket];
	relay->buckets[bucket] = r;
	age_youngest(relay, r);
	*ret_region = r;
	return 0;
}

/* Without the lock: gives back its disk; and with it, its slot. */
static void region_free(struct ql_relay *relay, struct region *r)
{
	if (r->taken > 0) {
		(void)fallocate(relay->fd,
				FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				(off_t)(r->slot * QL_PEER_REGION),
				QL_PEER_REGION);
		ql_space_done(relay->peers->store, r->taken, 0);
	}
	(void)pthread_mutex_lock(&relay->lock);
	relay->free_slots[relay->n_free++] = r->slot;
	(void)pthread_mutex_unlock(&relay->lock);
	ql_extents_release(&r->have);
	ql_extents_release(&r->coming);
	free(r);
}

static void regions_free(struct ql_relay *relay, struct region *list)
{
	struct region *r;

	while ((r = list)) {
		list = r->next;
		region_free(relay, r);
	}
}

/* Puts what has to go for so many bytes into the list.  False: there is no room
 * for them. */
static bool room_make(struct ql_relay *relay, uint64_t bytes,
		      struct region **list)
{
	uint64_t max = relay->peers->options.relay;
	struct region *r = relay->oldest, *newer;

	for (; r && relay->used + bytes > max; r = newer) {
		newer = r->newer;
		if (r->users == 0)
			region_condemn(relay, r, list);
	}
	return relay->used + bytes <= max;
}

/* Without the lock. */
static void region_put(struct ql_relay *relay, struct region *r)
{
	struct region *list = NULL;

	(void)pthread_mutex_lock(&relay->lock);
	if (--r->users == 0 && (r->gone || r->have.n == 0))
		region_condemn(relay, r, &list);
	(void)pthread_mutex_unlock(&relay->lock);
	regions_free(relay, list);
}

/* ---- fetching: what a job does, in a thread of the relay's ---- */

static off_t place_in_file(const struct region *r, uint64_t pos)
{
	return (off_t)(r->slot * QL_PEER_REGION + pos % QL_PEER_REGION);
}

static int piece_put(struct ql_relay *relay, struct job *job, const void *data,
		     size_t len, bool private, struct ql_error *err)
{
	struct region *r = job->region;
	ssize_t n = pwrite(relay->fd, data, len, place_in_file(r, job->from));
	int ret;

	if (n != (ssize_t)len)
		return ql_error_errno(err, n < 0 ? -errno : -EIO, "write");
	(void)pthread_mutex_lock(&relay->lock);
	r->private = r->private || private;
	ret = ql_extents_add(&r->have, job->from, job->from + len);
	if (ret == 0) {
		(void)ql_extents_cut(&r->coming, job->from, job->from + len);
		job->from += len;
	}
	if (relay->stop)
		ret = -ECANCELED;
	(void)pthread_cond_broadcast(&relay->news);
	(void)pthread_mutex_unlock(&relay->lock);
	return ret < 0 ? ql_error_errno(err, ret, "what passes") : 0;
}

/* Who gives it: a peer, or (NULL) the registry. */
struct giver {
	struct ql_peer *peer; /* owned, one reference */
	struct ql_stream *in; /* owned */
	uint64_t since;	      /* ns: when it was asked */
	uint64_t first;	      /* ns: when its first byte came; 0: not yet */
	uint64_t gift;	      /* peerledger.c */
};

static void giver_release(struct giver *g)
{
	ql_stream_free(g->in);
	ql_peer_unref(g->peer);
}

/* What a peer gave to one who may not have authenticated is no secret: without
 * TLS nobody has; with it everybody has. */
static bool is_private(const struct ql_relay *relay, const struct giver *g)
{
	if (g->peer)
		return relay->peers->options.ca != NULL;
	return !(ql_fill_sources_flags(g->in) & QL_IMAGE_ANONYMOUS);
}

static int giver_read(struct ql_relay *relay, struct job *job, struct giver *g,
		      char *buf, struct ql_error *err)
{
	uint64_t left = job->to - job->from, from = job->from;
	ssize_t n = ql_stream_read(g->in, buf,
				   left < PIECE ? (size_t)left : PIECE, err);
	int r;

	if (n == 0)
		return ql_error_set(err, -ECONNRESET, "the blob ends early");
	if (n < 0)
		return (int)n;
	if (g->first == 0)
		g->first = ql_now_ns();
	r = piece_put(relay, job, buf, (size_t)n, is_private(relay, g), err);
	if (r == 0 && g->peer)
		ql_peers_gave(relay->peers, g->peer, &job->region->blob, from,
			      job->from, &g->gift);
	return r;
}

static int job_read(struct ql_relay *relay, struct job *job, struct giver *g,
		    char *buf, struct ql_error *err)
{
	uint64_t start = job->from;
	int r = 0;

	while (r == 0 && job->from < job->to)
		r = giver_read(relay, job, g, buf, err);
	if (r < 0 || job->from == start)
		return r;
	if (g->peer)
		ql_peer_measured(relay->peers, g->peer, g->first - g->since,
				 job->from - start, ql_now_ns() - g->first);
	else
		ql_peers_registry_measured(relay->peers, g->first - g->since,
					   job->from - start,
					   ql_now_ns() - g->first);
	return 0;
}

/* From whom a deployment manifest names, as far as they give it. */
static int job_route(struct ql_relay *relay, struct job *job, unsigned int way,
		     char *buf, struct ql_error *err)
{
	_cleanup_(giver_release) struct giver g = { .since = ql_now_ns() };
	const struct ql_peer_ask ask = {
		.digest = job->region->blob,
		.offset = job->from,
		.len = job->to - job->from,
		.repository = job->repository,
		.size = job->region->size,
	};
	int r = ql_peers_route_open(relay->peers, &ask, way, &g.peer, &g.in,
				    err);

	return r < 0 ? r : job_read(relay, job, &g, buf, err);
}

static int job_registry(struct ql_relay *relay, struct job *job, char *buf,
			struct ql_error *err)
{
	_cleanup_(giver_release) struct giver g = { .since = ql_now_ns() };
	const struct ql_descriptor d = { .digest = job->region->blob,
					 .size = job->region->size };
	int r = ql_fill_sources_open(relay->sources, job->repository, &d,
				     job->from, job->to - job->from, &g.in,
				     err);

	return r < 0 ? r : job_read(relay, job, &g, buf, err);
}

static bool is_stopping(struct ql_relay *relay)
{
	bool stop;

	(void)pthread_mutex_lock(&relay->lock);
	stop = relay->stop;
	(void)pthread_mutex_unlock(&relay->lock);
	return stop;
}

static int job_fetch(struct ql_relay *relay, struct job *job, char *buf,
		     struct ql_error *err)
{
	int r;

	if (!buf)
		return ql_error_nomem(err);
	r = ql_space_take(relay->peers->store, job->bytes, err);
	if (r < 0)
		return r;
	(void)pthread_mutex_lock(&relay->lock);
	job->region->taken += job->bytes;
	job->bytes = 0;
	(void)pthread_mutex_unlock(&relay->lock);
	r = -ENOENT;
	for (unsigned int way = 0; way < QL_PEER_WAYS && r < 0; way++) {
		if (is_stopping(relay))
			return ql_error_set(err, -ECANCELED, "canceled");
		r = job_route(relay, job, way, buf, err);
	}
	return r < 0 ? job_registry(relay, job, buf, err) : r;
}

static void job_end(struct ql_relay *relay, struct job *job, int error,
		    const struct ql_error *err)
{
	struct region *r = job->region;

	(void)pthread_mutex_lock(&relay->lock);
	relay->used -= job->bytes; /* that it did not take */
	if (error < 0) {
		(void)ql_extents_cut(&r->coming, job->from, job->to);
		r->error = error;
		r->err = *err;
	}
	(void)pthread_cond_broadcast(&relay->news);
	(void)pthread_mutex_unlock(&relay->lock);
	region_put(relay, r);
	free(job->repository);
	free(job);
}

static void *relay_main(void *arg)
{
	struct ql_relay *relay = arg;
	_cleanup_free_ char *buf = malloc(PIECE);
	struct job *job;

	(void)pthread_mutex_lock(&relay->lock);
	while (!relay->stop) {
		struct ql_error err = QL_ERROR_INIT;
		int r;

		if (!(job = relay->jobs)) {
			relay->idle++;
			(void)pthread_cond_wait(&relay->work, &relay->lock);
			relay->idle--;
			continue;
		}
		relay->jobs = job->next;
		if (!relay->jobs)
			relay->last = &relay->jobs;
		relay->n_jobs--;
		(void)pthread_mutex_unlock(&relay->lock);
		r = job_fetch(relay, job, buf, &err);
		job_end(relay, job, r, &err);
		ql_fill_sources_sweep(relay->sources, false);
		(void)pthread_mutex_lock(&relay->lock);
	}
	(void)pthread_mutex_unlock(&relay->lock);
	return NULL;
}

/* Under the lock: for a job that is about to be added. */
static int worker_start(struct ql_relay *relay)
{
	pthread_attr_t attr;
	int r = 0;

	if (relay->idle > relay->n_jobs || relay->n_threads == WORKERS)
		return 0;
	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, STACK);
	r = pthread_create(&relay->threads[relay->n_threads], &attr, relay_main,
			   relay);
	(void)pthread_attr_destroy(&attr);
	relay->n_threads += r == 0;
	return relay->n_threads > 0 ? 0 : -EAGAIN;
}

/* ---- asking; under the lock ---- */

static uint64_t blocks_of(uint64_t from, uint64_t to)
{
	return (to / BLOCK - from / BLOCK + 1) * BLOCK;
}

static int job_add(struct ql_relay *relay, struct region *r,
		   const char *repository, uint64_t from, uint64_t to,
		   struct region **list)
{
	uint64_t bytes = blocks_of(from, to);
	struct job *job;

	if (relay->n_jobs >= JOBS_MAX || !room_make(relay, bytes, list))
		return -EBUSY;
	if (worker_start(relay) < 0)
		return -EAGAIN;
	job = calloc(1, sizeof(*job));
	if (!job)
		return -ENOMEM;
	job->repository = strdup(repository);
	if (!job->repository || ql_extents_add(&r->coming, from, to) < 0) {
		free(job->repository);
		free(job);
		return -ENOMEM;
	}
	job->region = r;
	job->from = from;
	job->to = to;
	job->bytes = bytes;
	relay->used += bytes;
	r->users++;
	*relay->last = job;
	relay->last = &job->next;
	relay->n_jobs++;
	(void)pthread_cond_signal(&relay->work);
	return 0;
}

/* Up to where it is there, or coming, without a gap. */
static uint64_t reach(const struct region *r, uint64_t pos)
{
	uint64_t at;

	do {
		at = pos;
		pos = ql_extents_reach(&r->have, pos);
		pos = ql_extents_reach(&r->coming, pos);
	} while (pos > at);
	return pos;
}

/* Where the next begins that is there or coming; UINT64_MAX: none does. */
static uint64_t next_of(const struct ql_extents *e, uint64_t pos)
{
	for (size_t i = 0; i < e->n; i++)
		if (e->items[i].start >= pos)
			return e->items[i].start;
	return UINT64_MAX;
}

/* Has the gaps in [from, to) fetched; up to where that was possible. */
static uint64_t gaps_fill(struct ql_relay *relay, struct region *r,
			  const char *repository, uint64_t from, uint64_t to,
			  struct region **list, int *ret_error)
{
	*ret_error = 0;
	for (;;) {
		uint64_t end = to, a, b;

		from = reach(r, from);
		if (from >= to || !repository)
			return from < to ? from : to;
		a = next_of(&r->have, from);
		b = next_of(&r->coming, from);
		end = a < end ? a : end;
		end = b < end ? b : end;
		*ret_error = job_add(relay, r, repository, from, end, list);
		if (*ret_error < 0)
			return from;
	}
}

/* ---- reading ---- */

struct relay_stream {
	struct ql_stream base;
	struct ql_relay *relay;	   /* borrowed */
	struct region *region;	   /* one of its users */
	const atomic_bool *cancel; /* borrowed; or NULL */
	bool trusted;
	uint64_t pos, end; /* in the blob */
};

/* Under the lock: 0: there is something; else why there is not. */
static int stream_state(const struct relay_stream *s, bool *ret_wait,
			struct ql_error *err)
{
	const struct region *r = s->region;

	*ret_wait = false;
	if (s->relay->stop || (s->cancel && atomic_load(s->cancel)))
		return ql_error_set(err, -ECANCELED, "canceled");
	if (ql_extents_have(&r->have, s->pos, s->pos + 1))
		return r->private && !s->trusted
			       ? ql_error_set(err, -ENOENT, "not for all")
			       : 0;
	*ret_wait = ql_extents_have(&r->coming, s->pos, s->pos + 1);
	if (*ret_wait)
		return 0;
	return r->error < 0 ? ql_error_set(err, r->error, "%s", r->err.text)
			    : ql_error_set(err, -ECONNRESET, "it broke off");
}

/* Up to where it is there. */
static int stream_wait(struct relay_stream *s, uint64_t *ret_to,
		       struct ql_error *err)
{
	struct ql_relay *relay = s->relay;
	bool wait;
	int r;

	(void)pthread_mutex_lock(&relay->lock);
	while ((r = stream_state(s, &wait, err)) == 0 && wait) {
		uint64_t until = ql_now_ns() + CANCEL_MS * 1000000ULL;
		struct timespec ts = { (time_t)(until / 1000000000),
				       (long)(until % 1000000000) };

		(void)pthread_cond_timedwait(&relay->news, &relay->lock, &ts);
	}
	if (r == 0)
		*ret_to = ql_extents_reach(&s->region->have, s->pos);
	(void)pthread_mutex_unlock(&relay->lock);
	return r;
}

static ssize_t stream_read(struct ql_stream *stream, void *buf, size_t len,
			   struct ql_error *err)
{
	struct relay_stream *s = (struct relay_stream *)stream;
	uint64_t to = 0;
	ssize_t n;
	int r;

	if (s->pos >= s->end)
		return 0;
	r = stream_wait(s, &to, err);
	if (r < 0)
		return r;
	to = to < s->end ? to : s->end;
	n = pread(s->relay->fd, buf,
		  len < to - s->pos ? len : (size_t)(to - s->pos),
		  place_in_file(s->region, s->pos));
	if (n <= 0)
		return ql_error_errno(err, n < 0 ? -errno : -EIO, "read");
	s->pos += (uint64_t)n;
	return n;
}

static void stream_free(struct ql_stream *stream)
{
	struct relay_stream *s = (struct relay_stream *)stream;

	region_put(s->relay, s->region);
	free(s);
}

static const struct ql_stream_ops stream_ops = { stream_read, stream_free };

/* ---- what others call ---- */

/* Under the lock; s->region is set, and is one user more, where it returns 0.
 */
static int ask_begin(struct ql_relay *relay, const struct ql_peer_ask *ask,
		     struct relay_stream *s, struct region **list)
{
	struct region *r;
	uint64_t end = (ask->offset / QL_PEER_REGION + 1) * QL_PEER_REGION, to;
	int ret = region_get(relay, ask, list, &r), error;

	if (ret < 0)
		return ret;
	if (ask->offset >= r->size)
		return -ERANGE;
	if (r->private && !ask->trusted)
		return -ENOENT;
	if (ask->len < end - ask->offset)
		end = ask->offset + ask->len;
	end = end < r->size ? end : r->size;
	r->users++;
	to = gaps_fill(relay, r, ask->repository, ask->offset, end, list,
		       &error);
	if (to == ask->offset) {
		if (--r->users == 0 && r->have.n == 0)
			region_condemn(relay, r, list);
		return error < 0 ? error : -ENOENT;
	}
	s->region = r;
	s->pos = ask->offset;
	s->end = to;
	return 0;
}

static int ask_check(const struct ql_relay *relay,
		     const struct ql_peer_ask *ask)
{
	if (relay->fd < 0)
		return -ENOENT;
	if (ask->repository && ask->offset >= ask->size)
		return -ERANGE;
	/* What is stated from outside is not to overflow. */
	return ask->offset > INT64_MAX || ask->len == 0 ? -ERANGE : 0;
}

int ql_relay_begin(struct ql_peers *peers, const struct ql_peer_ask *ask,
		   const atomic_bool *cancel, struct ql_stream **ret_stream,
		   uint64_t *ret_len, struct ql_error *err)
{
	struct ql_relay *relay = peers->relay;
	struct region *list = NULL;
	struct relay_stream *s;
	int r = ask_check(relay, ask);

	if (r < 0)
		return r;
	s = calloc(1, sizeof(*s));
	if (!s)
		return ql_error_nomem(err);
	*s = (struct relay_stream){ .base = { &stream_ops },
				    .relay = relay,
				    .cancel = cancel,
				    .trusted = ask->trusted };
	(void)pthread_mutex_lock(&relay->lock);
	r = ask_begin(relay, ask, s, &list);
	(void)pthread_mutex_unlock(&relay->lock);
	regions_free(relay, list);
	if (r < 0) {
		free(s);
		return r == -ENOENT || r == -ERANGE
			       ? r
			       : ql_error_errno(err, r, "what passes");
	}
	*ret_stream = &s->base;
	*ret_len = s->end - s->pos;
	return 0;
}

/* Others name registries, and none of this node's folders. */
static bool is_registry(const char *repository)
{
	_cleanup_ref_ struct ql_ref ref = { 0 };
	size_t plain = strlen(QL_PLAIN_PREFIX);

	if (strncmp(repository, QL_PLAIN_PREFIX, plain) == 0)
		repository += plain;
	return ql_ref_parse(repository, &ref, NULL) == 0 &&
	       ref.kind == QL_REF_REGISTRY;
}

int ql_relay_open(struct ql_peers *peers, const struct ql_peer_ask *ask,
		  struct ql_peer_answer *ret_answer, struct ql_error *err)
{
	struct ql_peer_ask own = *ask;
	struct ql_error why = QL_ERROR_INIT;
	struct ql_stream *stream;
	uint64_t len, to;
	int r;

	if (!ask->trusted && peers->options.share == QL_PEER_SHARE_NONE)
		return -ENOENT;
	if (ask->repository && !is_registry(ask->repository))
		return -ENOENT;
	own.trusted = ask->trusted || peers->options.share == QL_PEER_SHARE_ALL;
	r = ql_relay_begin(peers, &own, NULL, &stream, &len, err);
	if (r < 0)
		return r;
	r = stream_wait((struct relay_stream *)stream, &to, &why);
	if (r < 0) {
		ql_stream_free(stream);
		if (err)
			*err = why;
		return r;
	}
	*ret_answer = (struct ql_peer_answer){
		.fd = -1,
		.stream = stream,
		.len = len,
		.size = ((struct relay_stream *)stream)->region->size,
	};
	return 0;
}

void ql_relay_doubt(struct ql_peers *peers, const struct ql_digest *blob,
		    uint64_t from, uint64_t to)
{
	struct ql_relay *relay = peers->relay;
	struct region *list = NULL, *r;

	(void)pthread_mutex_lock(&relay->lock);
	for (uint64_t i = from / QL_PEER_REGION; i * QL_PEER_REGION < to; i++) {
		r = region_find(relay, blob, i);
		if (r)
			region_drop(relay, r, &list);
	}
	(void)pthread_mutex_unlock(&relay->lock);
	regions_free(relay, list);
}

/* ---- life ---- */

static int relay_file(struct ql_relay *relay, struct ql_error *err)
{
	static const struct ql_digest any;

	return relay->peers->options.relay > 0
		       ? ql_object_scratch(relay->peers->store, &any,
					   &relay->fd, err)
		       : 0;
}

int ql_relay_new(struct ql_peers *peers, struct ql_relay **ret_relay,
		 struct ql_error *err)
{
	struct ql_relay *relay = calloc(1, sizeof(*relay));
	const struct ql_pull_options options = {
		.plain_http = peers->options.plain_http,
		.config_dir = peers->options.config_dir,
	};
	pthread_condattr_t attr;
	int r;

	if (!relay)
		return ql_error_nomem(err);
	relay->peers = peers;
	relay->fd = -1;
	relay->last = &relay->jobs;
	(void)pthread_mutex_init(&relay->lock, NULL);
	(void)pthread_cond_init(&relay->work, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&relay->news, &attr);
	(void)pthread_condattr_destroy(&attr);
	r = ql_fill_sources_new(&options, &relay->sources, err);
	if (r == 0)
		r = relay_file(relay, err);
	if (r < 0)
		ql_relay_free(relay);
	else
		*ret_relay = relay;
	return r;
}

void ql_relay_cancel(struct ql_relay *relay)
{
	(void)pthread_mutex_lock(&relay->lock);
	relay->stop = true;
	(void)pthread_cond_broadcast(&relay->work);
	(void)pthread_cond_broadcast(&relay->news);
	(void)pthread_mutex_unlock(&relay->lock);
	if (relay->sources)
		ql_fill_sources_cancel(relay->sources);
}

void ql_relay_free(struct ql_relay *relay)
{
	static const struct ql_error canceled = { -ECANCELED, "canceled" };
	struct region *list = NULL;
	struct job *job;

	if (!relay)
		return;
	ql_relay_cancel(relay);
	while (relay->n_threads > 0)
		(void)pthread_join(relay->threads[--relay->n_threads], NULL);
	while ((job = relay->jobs)) {
		relay->jobs = job->next;
		job_end(relay, job, -ECANCELED, &canceled);
	}
	while (relay->oldest)
		region_condemn(relay, relay->oldest, &list);
	regions_free(relay, list);
	ql_fill_sources_free(relay->sources);
	free(relay->free_slots);
	if (relay->fd >= 0)
		(void)close(relay->fd);
	(void)pthread_cond_destroy(&relay->work);
	(void)pthread_cond_destroy(&relay->news);
	(void)pthread_mutex_destroy(&relay->lock);
	free(relay);
}
