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
#include "fetch/relay.h"

#include "fetch/fill-private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

enum {
	JOBS_MAX = 512,
	CANCEL_MS = 100, /* how soon a reader sees that it is to stop */
	BLOCK = 4096,
};

/* ---- regions; all under the lock but where said ---- */

static unsigned int bucket_of(const struct ql_digest *blob, uint64_t index)
{
	return (unsigned int)((blob->bytes[0] + index) % QL_RELAY_BUCKETS);
}

static struct ql_relay_region *region_find(struct ql_relay *relay,
					   const struct ql_digest *blob,
					   uint64_t index)
{
	struct ql_relay_region *r = relay->buckets[bucket_of(blob, index)];

	while (r && (r->index != index || !ql_digest_equal(&r->blob, blob)))
		r = r->next;
	return r;
}

static void age_unlink(struct ql_relay *relay, struct ql_relay_region *r)
{
	*(r->older ? &r->older->newer : &relay->oldest) = r->newer;
	*(r->newer ? &r->newer->older : &relay->newest) = r->older;
	r->older = r->newer = NULL;
}

static void age_youngest(struct ql_relay *relay, struct ql_relay_region *r)
{
	r->older = relay->newest;
	*(relay->newest ? &relay->newest->newer : &relay->oldest) = r;
	relay->newest = r;
}

/* Out of the table, so that nobody finds it again. */
static void region_unlink(struct ql_relay *relay, struct ql_relay_region *r)
{
	struct ql_relay_region **at =
		&relay->buckets[bucket_of(&r->blob, r->index)];

	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	r->next = NULL;
	r->gone = true;
	age_unlink(relay, r);
}

/* Out of the table, to the list: it does not count any more. */
static void region_condemn(struct ql_relay *relay, struct ql_relay_region *r,
			   struct ql_relay_region **list)
{
	if (!r->gone)
		region_unlink(relay, r);
	relay->used -= r->taken;
	r->next = *list;
	*list = r;
}

/* Nobody finds it again; it goes when nobody uses it any more. */
static void region_drop(struct ql_relay *relay, struct ql_relay_region *r,
			struct ql_relay_region **list)
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
		      struct ql_relay_region **list,
		      struct ql_relay_region **ret_region)
{
	uint64_t index = ask->offset / QL_PEER_REGION;
	struct ql_relay_region *r = region_find(relay, &ask->digest, index);
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
	(void)pthread_cond_init(&r->news, &relay->monotonic);
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
static void region_free(struct ql_relay *relay, struct ql_relay_region *r)
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
	(void)pthread_cond_destroy(&r->news);
	free(r);
}

static void regions_free(struct ql_relay *relay, struct ql_relay_region *list)
{
	struct ql_relay_region *r;

	while ((r = list)) {
		list = r->next;
		region_free(relay, r);
	}
}

/* Puts what has to go for so many bytes into the list.  False: there is no room
 * for them. */
static bool room_make(struct ql_relay *relay, uint64_t bytes,
		      struct ql_relay_region **list)
{
	uint64_t max = relay->peers->options.relay;
	struct ql_relay_region *r = relay->oldest, *newer;

	for (; r && relay->used + bytes > max; r = newer) {
		newer = r->newer;
		if (r->users == 0)
			region_condemn(relay, r, list);
	}
	return relay->used + bytes <= max;
}

/* Without the lock. */
void ql_relay_region_put(struct ql_relay *relay, struct ql_relay_region *r)
{
	struct ql_relay_region *list = NULL;

	(void)pthread_mutex_lock(&relay->lock);
	if (--r->users == 0 && (r->gone || r->have.n == 0))
		region_condemn(relay, r, &list);
	(void)pthread_mutex_unlock(&relay->lock);
	regions_free(relay, list);
}

/* ---- asking; under the lock ---- */

static uint64_t blocks_of(uint64_t from, uint64_t to)
{
	return (to / BLOCK - from / BLOCK + 1) * BLOCK;
}

static int job_add(struct ql_relay *relay, struct ql_relay_region *r,
		   const char *repository, uint64_t from, uint64_t to,
		   struct ql_relay_region **list)
{
	uint64_t bytes = blocks_of(from, to);
	struct ql_relay_job *job;

	if (relay->n_jobs >= JOBS_MAX || !room_make(relay, bytes, list))
		return -EBUSY;
	if (ql_relay_worker_start(relay) < 0)
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
	job->routed = ql_peers_is_routed(relay->peers, &r->blob);
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
static uint64_t reach(const struct ql_relay_region *r, uint64_t pos)
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
static uint64_t gaps_fill(struct ql_relay *relay, struct ql_relay_region *r,
			  const char *repository, uint64_t from, uint64_t to,
			  struct ql_relay_region **list, int *ret_error)
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
	struct ql_relay *relay;		/* borrowed */
	struct ql_relay_region *region; /* one of its users */
	const atomic_bool *cancel;	/* borrowed; or NULL */
	bool trusted;
	uint64_t pos, end; /* in the blob */
};

/* Under the lock: 0: there is something; else why there is not. */
static int stream_state(const struct relay_stream *s, bool *ret_wait,
			struct ql_error *err)
{
	const struct ql_relay_region *r = s->region;

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

		(void)pthread_cond_timedwait(&s->region->news, &relay->lock,
					     &ts);
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
		  ql_relay_place(s->region, s->pos));
	if (n <= 0)
		return ql_error_errno(err, n < 0 ? -errno : -EIO, "read");
	s->pos += (uint64_t)n;
	return n;
}

static void stream_free(struct ql_stream *stream)
{
	struct relay_stream *s = (struct relay_stream *)stream;

	ql_relay_region_put(s->relay, s->region);
	free(s);
}

static const struct ql_stream_ops stream_ops = { stream_read, stream_free };

/* ---- what others call ---- */

/* Under the lock; s->region is set, and is one user more, where it returns 0.
 */
static int ask_begin(struct ql_relay *relay, const struct ql_peer_ask *ask,
		     struct relay_stream *s, struct ql_relay_region **list)
{
	struct ql_relay_region *r;
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
	struct ql_relay_region *list = NULL;
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
	struct ql_relay_region *list = NULL, *r;

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
	int r;

	if (!relay)
		return ql_error_nomem(err);
	relay->peers = peers;
	relay->fd = -1;
	relay->last = &relay->jobs;
	(void)pthread_mutex_init(&relay->lock, NULL);
	(void)pthread_condattr_init(&relay->monotonic);
	(void)pthread_condattr_setclock(&relay->monotonic, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&relay->work, &relay->monotonic);
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
	(void)pthread_mutex_unlock(&relay->lock);
	if (relay->sources)
		ql_fill_sources_cancel(relay->sources);
}

void ql_relay_free(struct ql_relay *relay)
{
	static const struct ql_error canceled = { -ECANCELED, "canceled" };
	struct ql_relay_region *list = NULL;
	struct ql_relay_job *job;

	if (!relay)
		return;
	ql_relay_cancel(relay);
	while (relay->n_threads > 0)
		(void)pthread_join(relay->threads[--relay->n_threads], NULL);
	while ((job = relay->jobs)) {
		relay->jobs = job->next;
		ql_relay_job_end(relay, job, -ECANCELED, &canceled);
	}
	while (relay->oldest)
		region_condemn(relay, relay->oldest, &list);
	regions_free(relay, list);
	ql_fill_sources_free(relay->sources);
	free(relay->free_slots);
	if (relay->fd >= 0)
		(void)close(relay->fd);
	(void)pthread_cond_destroy(&relay->work);
	(void)pthread_condattr_destroy(&relay->monotonic);
	(void)pthread_mutex_destroy(&relay->lock);
	free(relay);
}
