/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The filler: its workers, each fetching one run of spans at a time; its
 * clock, which ends waits that take too long and asks again for what failed;
 * and the images and files that others see of it.
 */
#include "fetch/fill-private.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <time.h>

enum {
	CONNECTIONS = 8,
	CONNECTIONS_MAX = 64,
	BACKGROUND_WORKERS = 2,	    /* whatever they fetch */
	BACKGROUND_SMALL = 1 << 20, /* bytes of blobs that more may fetch */
	UNREAD_SMALL = 4 << 20,	    /* the same where nobody reads */
	RESERVED_WORKERS = 2,	    /* that prefetching leaves to demand */
	STACK = 256 << 10,
	TICK_MS = 100,
	MEASURE_MS = 1000,
	QUIET_MS = 1000, /* without demand, before the background goes on */
	BACKOFF_MS = 100,
	BACKOFF_MAX_MS = 3000,
};
#define READ_TIMEOUT (30 * 1000000000ULL)
#define RUN_DEMAND (4ULL << 20)
#define RUN_PREFETCH (1ULL << 20)
#define RUN_BACKGROUND (8ULL << 20)
#define RUN_LEAST (64ULL << 10)

bool ql_filler_is_urgent(const struct ql_filler *f)
{
	return f->busy[QL_FILL_DEMAND] > 0 || f->busy[QL_FILL_PREFETCH] > 0 ||
	       f->queue.head[QL_FILL_DEMAND] || f->queue.head[QL_FILL_PREFETCH];
}

/* ---- runs ---- */

/* Short enough for everybody who waits to see more than one try. */
static uint64_t backoff_ns(const struct ql_filler *f, unsigned int failures)
{
	uint64_t ms = BACKOFF_MS;

	while (failures-- > 1 && ms < BACKOFF_MAX_MS)
		ms *= 2;
	return ms * 1000000 < f->options.read_timeout / 4
		       ? ms * 1000000
		       : f->options.read_timeout / 4;
}

/* Errors of this machine, which another source or another time soon do not
 * mend. */
static bool is_local(int error)
{
	return error == -ENOSPC || error == -EDQUOT || error == -ENOMEM ||
	       error == -EROFS || error == -EMFILE || error == -ENFILE;
}

/* A run's way from one source. */
struct way {
	struct ql_stream *in;	   /* owned */
	struct ql_fill_sink *sink; /* owned */
	struct ql_fill_pack *pack; /* borrowed from `in`; or NULL */
	uint32_t first, done;	   /* spans that went through */
};

static void way_release(struct way *w)
{
	ql_fill_sink_free(w->sink);
	ql_stream_free(w->in);
}

static int way_open(struct ql_filler *f, const struct ql_fill_run *run,
		    unsigned int source, struct way *w, struct ql_error *err)
{
	struct ql_toc_blob blob;
	uint64_t offset, len;
	int r = ql_fill_run_range(run->toc->toc, run->first, run->n, &blob,
				  &offset, &len);

	if (r < 0)
		return ql_error_set(err, r, "table of contents: damaged");
	w->first = run->first;
	r = run->local ? ql_fill_packed_open(f, &blob, offset, len, &w->in, err)
		       : ql_fill_source_open(f, &blob, source, offset, len,
					     &w->in, err);
	if (r == 0 && run->packs && !run->local)
		r = ql_fill_pack_new(f, &blob, offset, len, &w->in, &w->pack,
				     err);
	if (r == 0)
		r = ql_fill_sink_new(f, run->toc, &w->sink, err);
	if (r == 0)
		ql_fill_sink_set(w->sink, run->priority, run->packs);
	return r;
}

/* What was verified, and is not written, goes to packed/. */
static int way_keep(struct ql_filler *f, const struct ql_fill_run *run,
		    struct way *w, struct ql_error *err)
{
	const struct ql_extents *kept;
	uint32_t n;
	int r;

	kept = ql_fill_sink_kept(w->sink, &n);
	if (!w->pack || n == 0)
		return 0;
	r = ql_fill_pack_keep(w->pack, run->toc, w->first, w->done, kept, err);
	(void)pthread_mutex_lock(&f->lock);
	if (r == 0) {
		f->stats.chunks += n;
		f->stats.chunk_bytes += ql_extents_bytes(kept);
		f->full_since = 0;
	} else if (r == -ENOSPC && f->full_since == 0) {
		f->full_since = ql_now_ns();
	}
	ql_fill_settle_packed(f);
	(void)pthread_mutex_unlock(&f->lock);
	return r;
}

/* Of a chunk that is not right: whether another try asks others.
 * What of it is packed is not to be believed again, also where it was joined
 * with what another source had. */
static bool way_doubt(struct ql_filler *f, const struct ql_fill_run *run,
		      const struct way *w)
{
	uint64_t from, to;

	ql_fill_sink_doubt(w->sink, &from, &to);
	ql_fill_packed_doubt(f, run->toc, from, to);
	return ql_fill_peers_doubt(f, run->toc, from, to);
}

/* What is left of the run from one source.  *ret_again: peers have lied, and
 * the same source asks others now. */
static int run_from(struct ql_filler *f, struct ql_fill_run *run,
		    unsigned int source, bool *ret_again, struct ql_error *err)
{
	_cleanup_(way_release) struct way w = { 0 };
	struct ql_error other = QL_ERROR_INIT;
	int r = way_open(f, run, source, &w, err), kept;

	if (r < 0)
		return r;
	(void)pthread_mutex_lock(&f->lock);
	f->stats.requests += !run->local;
	(void)pthread_mutex_unlock(&f->lock);
	r = ql_fill_decode(f, run, w.in, w.sink, &w.done, err);
	if (r == -EBADMSG)
		*ret_again = way_doubt(f, run, &w);
	kept = way_keep(f, run, &w, r < 0 ? &other : err);
	if (r == 0)
		r = kept;
	(void)pthread_mutex_lock(&f->lock);
	ql_fill_queue_done(run->toc, run->first, w.done, true);
	(void)pthread_mutex_unlock(&f->lock);
	run->first += w.done;
	run->n -= w.done;
	return r;
}

static void run_failed(struct ql_filler *f, int error,
		       const struct ql_error *err)
{
	(void)pthread_mutex_lock(&f->lock);
	f->last_error = *err;
	(void)pthread_mutex_unlock(&f->lock);
	ql_debug("msg=\"fetch failed\" error=%d text=\"%s\"", error, err->text);
}

/* The sources from..to - 1, one after another, for what is left of the run.
 * *last: what failed last.  How many there were. */
static unsigned int run_sources(struct ql_filler *f, struct ql_fill_run *run,
				unsigned int from, unsigned int to, int *last)
{
	struct ql_error err = QL_ERROR_INIT;
	unsigned int source = from;

	for (; run->n > 0 && source < to; source++) {
		bool again = false;
		int r = run_from(f, run, source, &again, &err);

		if (r == -EBADMSG && again)
			r = run_from(f, run, source, &again, &err);
		if (r == -ENXIO)
			break;
		if (r < 0) {
			*last = r;
			run_failed(f, r, &err);
		}
		if (is_local(r) || r == -ECANCELED)
			break;
	}
	return source - from;
}

/* Its first n spans are here. */
static void run_came(struct ql_filler *f, struct ql_fill_run *run, uint32_t n)
{
	(void)pthread_mutex_lock(&f->lock);
	ql_fill_queue_done(run->toc, run->first, n, true);
	(void)pthread_mutex_unlock(&f->lock);
	run->first += n;
	run->n -= n;
}

/* Spans at the start of n, all of which have come, or none. */
static uint32_t run_stretch(const bool *came, uint32_t n)
{
	uint32_t i = 1;

	while (i < n && came[i] == came[0])
		i++;
	return i;
}

/* No source has it: whoever has some of it as files is asked, at any cost. */
static void run_last(struct ql_filler *f, struct ql_fill_run *run)
{
	_cleanup_free_ bool *came = ql_fill_peers_run(f, run, true);

	if (came && came[0])
		run_came(f, run, run_stretch(came, run->n));
}

static int run_blobs(struct ql_filler *f, struct ql_fill_run *run)
{
	unsigned int first;
	int last = -ENXIO;

	(void)pthread_mutex_lock(&f->lock);
	first = run->toc->astray;
	(void)pthread_mutex_unlock(&f->lock);
	if (run_sources(f, run, first, UINT_MAX, &last) == 0 && run->n > 0) {
		(void)pthread_mutex_lock(&f->lock);
		run->toc->astray = 0; /* there are not as many */
		(void)pthread_mutex_unlock(&f->lock);
	}
	if (run->n > 0 && first > 0 && !is_local(last) && last != -ECANCELED)
		(void)run_sources(f, run, 0, first, &last);
	if (run->n > 0 && !is_local(last) && last != -ECANCELED)
		run_last(f, run);
	return run->n > 0 ? last : 0;
}

/* What other nodes have of its files, and then the rest, from blobs. */
static int run_remote(struct ql_filler *f, struct ql_fill_run *run)
{
	_cleanup_free_ bool *came = ql_fill_peers_run(f, run, false);
	const bool *at = came;
	int r = 0;

	if (!came)
		return run_blobs(f, run);
	while (r == 0 && run->n > 0) {
		uint32_t n = run_stretch(at, run->n);
		struct ql_fill_run part = *run;

		part.n = n;
		if (*at)
			run_came(f, &part, n);
		else
			r = run_blobs(f, &part);
		run->first += n - part.n;
		run->n -= n - part.n;
		at += n - part.n;
	}
	return r;
}

/* From packed/.  What nobody waits for is left there. */
static int run_local(struct ql_filler *f, struct ql_fill_run *run)
{
	struct ql_error err = QL_ERROR_INIT;
	bool again = false;
	int r = 0;

	run->local = true;
	if (!run->packs || run->priority != QL_FILL_BACKGROUND)
		r = run_from(f, run, 0, &again, &err);
	if (r < 0)
		run_failed(f, r, &err);
	if (r == 0 && run->n > 0) {
		(void)pthread_mutex_lock(&f->lock);
		ql_fill_queue_done(run->toc, run->first, run->n, true);
		(void)pthread_mutex_unlock(&f->lock);
		run->n = 0;
	}
	return r;
}

/* Stretches that are packed, and stretches that are not, in turn. */
static int run_fetch(struct ql_filler *f, struct ql_fill_run *run)
{
	bool stuck = false, here, local;
	int r = 0;

	while (r == 0 && run->n > 0) {
		struct ql_fill_run part = *run;
		uint32_t n = ql_fill_packed_cut(f, run, &here);

		local = here && !stuck;
		if (here && stuck)
			n = 1;
		part.n = n;
		r = local ? run_local(f, &part) : run_remote(f, &part);
		/* Where what is packed is wrong, others are asked. */
		if (local && !is_local(r) && r != -ECANCELED)
			r = 0;
		stuck = local && part.n == n;
		run->first += n - part.n;
		run->n -= n - part.n;
	}
	return r;
}

struct failed_run {
	const struct ql_fill_run *run;
	int error;
};

/* It waits for what the run was to bring. */
static bool waiter_of_run(struct ql_fill_waiter *w, int *ret_error, void *arg)
{
	const struct failed_run *failed = arg;

	*ret_error = failed->error;
	return ql_fill_file_waits_for(w, failed->run);
}

/* Under the lock: who is to be told. */
static struct ql_fill_waiter *run_end(struct ql_filler *f,
				      struct ql_fill_run *run, int error)
{
	struct failed_run failed = { run, error };
	struct ql_fill_waiter *list = NULL;

	if (error == 0) {
		run->toc->failures = 0;
		run->toc->not_before = 0;
	} else {
		f->stats.failures++;
		run->toc->failures++;
		run->toc->not_before =
			ql_now_ns() + backoff_ns(f, run->toc->failures);
		/* What could not be packed is none of a reader's business. */
		if ((is_local(error) && !run->packs) || error == -ECANCELED)
			list = ql_fill_waiters_take(f, waiter_of_run, &failed);
		ql_fill_queue_done(run->toc, run->first, run->n, false);
	}
	return list;
}

static void budget_use(struct ql_filler *f, uint64_t bytes)
{
	uint64_t rate = f->options.background_rate;
	uint64_t now = ql_now_ns();

	if (rate == 0 || rate == UINT64_MAX)
		return;
	if (f->budget_at < now)
		f->budget_at = now;
	f->budget_at += (uint64_t)((double)bytes * 1e9 / (double)rate);
}

/* A few fill the link with large runs; of small ones, each of which waits for a
 * round trip, it takes more. */
static bool has_background_worker(const struct ql_filler *f)
{
	unsigned int busy = f->busy[QL_FILL_BACKGROUND];

	if (busy < BACKGROUND_WORKERS)
		return true;
	return f->options.unread ? f->background_bytes < UNREAD_SMALL
				 : f->background_bytes < BACKGROUND_SMALL &&
					   busy + RESERVED_WORKERS <
						   f->options.connections;
}

/* What somebody waits for, or is about to need, has the link to itself; and
 * where there was some, more of it is likely to come. */
static bool may_background(const struct ql_filler *f)
{
	uint64_t now = ql_now_ns();

	return f->options.background_rate > 0 && has_background_worker(f) &&
	       !ql_filler_is_urgent(f) && f->budget_at <= now &&
	       f->quiet_from <= now;
}

/* Under the lock: the next run for a worker. */
static bool next_run(struct ql_filler *f, struct ql_fill_run *ret_run)
{
	uint64_t rate = f->options.background_rate;
	uint64_t most[QL_FILL_PRIORITIES] = { RUN_DEMAND, RUN_PREFETCH,
					      RUN_BACKGROUND };
	enum ql_fill_priority least = QL_FILL_DEMAND;

	if (f->busy[QL_FILL_PREFETCH] + RESERVED_WORKERS <
	    f->options.connections)
		least = QL_FILL_PREFETCH;
	if (rate / 4 < RUN_BACKGROUND)
		most[QL_FILL_BACKGROUND] = rate / 4 > RUN_LEAST ? rate / 4
								: RUN_LEAST;
	if (ql_fill_queue_take(&f->queue, least, most, ret_run))
		return true;
	if (!may_background(f))
		return false;
	while (!f->queue.head[QL_FILL_BACKGROUND])
		if (!ql_fill_background_look(f))
			return false;
	return ql_fill_queue_take(&f->queue, QL_FILL_BACKGROUND, most, ret_run);
}

/* Under the lock: who waits asks again: the run may have brought it packed, or
 * had no room for what he came too late for. */
static void ask_again(struct ql_filler *f)
{
	for (struct ql_fill_waiter *w = f->waiters; w; w = w->next)
		(void)ql_fill_waiter_want(f, w);
}

static void worker_run(struct ql_filler *f, struct ql_fill_run *run)
{
	enum ql_fill_priority priority = run->priority;
	struct ql_fill_waiter *list;
	struct ql_toc_blob blob;
	uint64_t offset, len = 0;
	int r;

	ql_fill_pack_begin(f, run);
	if (priority == QL_FILL_BACKGROUND &&
	    ql_fill_run_range(run->toc->toc, run->first, run->n, &blob, &offset,
			      &len) == 0)
		budget_use(f, len);
	f->background_bytes += len;
	f->busy[priority]++;
	(void)pthread_mutex_unlock(&f->lock);
	r = run_fetch(f, run);
	(void)pthread_mutex_lock(&f->lock);
	f->busy[priority]--;
	f->background_bytes -= len;
	if (priority != QL_FILL_BACKGROUND)
		f->quiet_from = ql_now_ns() + QUIET_MS * 1000000ULL;
	list = run_end(f, run, r);
	if (run->packs || f->full_since > 0)
		ask_again(f);
	run->toc->refs--;
	ql_fill_spools_sweep(f);
	(void)pthread_cond_broadcast(&f->calm);
	(void)pthread_cond_broadcast(&f->work);
	if (list) {
		(void)pthread_mutex_unlock(&f->lock);
		ql_fill_waiters_tell(list);
		(void)pthread_mutex_lock(&f->lock);
	}
}

static void *worker_main(void *arg)
{
	struct ql_filler *f = arg;
	struct ql_fill_run run;

	(void)pthread_mutex_lock(&f->lock);
	while (!f->stop) {
		if (next_run(f, &run))
			worker_run(f, &run);
		else
			(void)pthread_cond_wait(&f->work, &f->lock);
	}
	f->n_threads--;
	(void)pthread_cond_broadcast(&f->settle);
	(void)pthread_mutex_unlock(&f->lock);
	return NULL;
}

/* ---- the clock ---- */

static bool waiter_is_late(struct ql_fill_waiter *w, int *ret_error, void *arg)
{
	const uint64_t *now = arg;

	(void)ret_error; /* as the waiter says */
	return w->deadline <= *now;
}

/* Under the lock: how fast content comes, over the last seconds. */
static void measure(struct ql_filler *f, uint64_t now)
{
	uint64_t bytes = f->stats.chunk_bytes - f->measured_bytes;
	uint64_t ns = now - f->measured_at;

	if (ns < MEASURE_MS * 1000000ULL)
		return;
	f->stats.rate = (f->stats.rate * 3 +
			 (uint64_t)((double)bytes * 1e9 / (double)ns)) /
			4;
	f->measured_bytes = f->stats.chunk_bytes;
	f->measured_at = now;
	/* Tables that are read through count as this process's memory. */
	for (struct ql_fill_toc *t = f->tocs; t; t = t->next)
		ql_toc_relax(t->toc);
}

/* Under the lock: ends waits, asks again for what failed meanwhile. */
static struct ql_fill_waiter *tick(struct ql_filler *f)
{
	uint64_t now = ql_now_ns();
	struct ql_fill_waiter *late =
		ql_fill_waiters_take(f, waiter_is_late, &now);

	for (struct ql_fill_waiter *w = late; w; w = w->next)
		f->stats.timeouts += w->error == -ETIMEDOUT;
	ask_again(f);
	measure(f, now);
	(void)pthread_cond_broadcast(&f->work);
	return late;
}

static bool has_rest(const struct ql_filler *f)
{
	for (const struct ql_fill_image *i = f->images; i; i = i->next)
		if (i->rest)
			return true;
	return false;
}

static void *ticker_main(void *arg)
{
	struct ql_filler *f = arg;

	(void)pthread_mutex_lock(&f->lock);
	while (!f->stop) {
		struct ql_fill_waiter *late;
		uint64_t until = ql_now_ns() + TICK_MS * 1000000ULL;
		struct timespec ts = { (time_t)(until / 1000000000),
				       (long)(until % 1000000000) };

		if (!f->waiters && !has_rest(f)) {
			(void)pthread_cond_wait(&f->clock, &f->lock);
			continue;
		}
		if (!f->hurry)
			(void)pthread_cond_timedwait(&f->clock, &f->lock, &ts);
		if (f->stop)
			break;
		f->hurry = false;
		late = tick(f);
		(void)pthread_mutex_unlock(&f->lock);
		ql_fill_waiters_tell(late);
		(void)pthread_mutex_lock(&f->lock);
	}
	(void)pthread_mutex_unlock(&f->lock);
	return NULL;
}

/* ---- life ---- */

static void conds_init(struct ql_filler *f)
{
	pthread_cond_t *conds[] = { &f->work, &f->calm, &f->clock, &f->room,
				    &f->settle };
	pthread_condattr_t attr;

	(void)pthread_mutex_init(&f->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	for (size_t i = 0; i < sizeof(conds) / sizeof(conds[0]); i++)
		(void)pthread_cond_init(conds[i], &attr);
	(void)pthread_condattr_destroy(&attr);
}

static int threads_start(struct ql_filler *f, struct ql_error *err)
{
	pthread_attr_t attr;
	int r;

	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, STACK);
	r = pthread_create(&f->settler, &attr, ql_fill_settle_main, f);
	f->has_settler = r == 0;
	if (r == 0)
		r = pthread_create(&f->ticker, &attr, ticker_main, f);
	f->has_ticker = r == 0;
	while (r == 0 && f->n_started < f->options.connections) {
		(void)pthread_mutex_lock(&f->lock);
		f->n_threads++;
		(void)pthread_mutex_unlock(&f->lock);
		r = pthread_create(&f->threads[f->n_started], &attr,
				   worker_main, f);
		if (r == 0)
			f->n_started++;
		else
			f->n_threads--;
	}
	(void)pthread_attr_destroy(&attr);
	return r == 0 ? 0 : ql_error_errno(err, -r, "start a thread");
}

static int sources_new(struct ql_filler *f, struct ql_error *err)
{
	const struct ql_pull_options options = {
		.plain_http = f->options.plain_http,
		.config_dir = f->options.config_dir,
		.peers = f->options.peers,
	};

	return ql_fill_sources_new(&options, &f->sources, err);
}

int ql_filler_new(struct ql_store *store, const struct ql_fill_options *options,
		  struct ql_filler **ret_filler, struct ql_error *err)
{
	struct ql_filler *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return ql_error_nomem(err);
	f->store = store;
	f->options = *options;
	if (f->options.connections == 0)
		f->options.connections = CONNECTIONS;
	if (f->options.connections > CONNECTIONS_MAX)
		f->options.connections = CONNECTIONS_MAX;
	if (f->options.connections <= RESERVED_WORKERS)
		f->options.connections = RESERVED_WORKERS + 1;
	if (f->options.read_timeout == 0)
		f->options.read_timeout = READ_TIMEOUT;
	conds_init(f);
	ql_fill_queue_init(&f->queue);
	f->threads = calloc(f->options.connections, sizeof(*f->threads));
	r = f->threads ? sources_new(f, err) : ql_error_nomem(err);
	if (r == 0)
		r = threads_start(f, err);
	if (r < 0) {
		ql_filler_free(f);
		return r;
	}
	*ret_filler = f;
	return 0;
}

static bool waiter_any(struct ql_fill_waiter *w, int *ret_error, void *arg)
{
	(void)w;
	(void)arg;
	*ret_error = -ECANCELED;
	return true;
}

void ql_filler_stop(struct ql_filler *f)
{
	struct ql_fill_waiter *list;

	(void)pthread_mutex_lock(&f->lock);
	f->stop = true;
	list = ql_fill_waiters_take(f, waiter_any, NULL);
	(void)pthread_cond_broadcast(&f->work);
	(void)pthread_cond_broadcast(&f->calm);
	(void)pthread_cond_broadcast(&f->clock);
	(void)pthread_cond_broadcast(&f->room);
	(void)pthread_cond_broadcast(&f->settle);
	(void)pthread_mutex_unlock(&f->lock);
	ql_fill_waiters_tell(list);
	if (f->sources)
		ql_fill_sources_cancel(f->sources);
	(void)pthread_mutex_lock(&f->lock);
	ql_fill_spools_cancel(f);
	(void)pthread_mutex_unlock(&f->lock);
	for (; f->n_started > 0; f->n_started--)
		(void)pthread_join(f->threads[f->n_started - 1], NULL);
	if (f->has_ticker)
		(void)pthread_join(f->ticker, NULL);
	f->has_ticker = false;
	/* The settling thread goes on, but is not to be telling anybody. */
	(void)pthread_mutex_lock(&f->lock);
	while (f->busy_settling)
		(void)pthread_cond_wait(&f->calm, &f->lock);
	(void)pthread_mutex_unlock(&f->lock);
}

/* Images that were closed since may be whole. */
static void settler_stop(struct ql_filler *f)
{
	(void)pthread_mutex_lock(&f->lock);
	f->ending = true;
	(void)pthread_cond_broadcast(&f->settle);
	(void)pthread_mutex_unlock(&f->lock);
	if (f->has_settler)
		(void)pthread_join(f->settler, NULL);
}

void ql_filler_free(struct ql_filler *f)
{
	if (!f)
		return;
	ql_filler_stop(f);
	settler_stop(f);
	while (f->settling) { /* what could not be settled */
		struct ql_fill_file *file = f->settling;

		f->settling = file->dirty_next;
		ql_fill_file_put(f, file);
	}
	while (f->whole) {
		struct ql_fill_whole *w = f->whole;

		f->whole = w->next;
		free(w);
	}
	while (f->images) /* its own */
		ql_fill_image_close(f->images);
	ql_fill_spools_free(f);
	ql_fill_queue_release(&f->queue);
	ql_fill_pieces_drop(f, NULL);
	ql_fill_tocs_sweep(f);
	ql_fill_sources_free(f->sources);
	free(f->threads);
	(void)pthread_mutex_destroy(&f->lock);
	free(f);
}

uint64_t ql_filler_full_ns(struct ql_filler *f)
{
	uint64_t since;

	(void)pthread_mutex_lock(&f->lock);
	since = f->full_since;
	(void)pthread_mutex_unlock(&f->lock);
	return since > 0 ? ql_now_ns() - since : 0;
}

const char *ql_filler_last_error(struct ql_filler *f)
{
	return f->last_error.text[0] ? f->last_error.text : "no source has it";
}

void ql_filler_stats(struct ql_filler *filler, struct ql_fill_stats *ret_stats)
{
	(void)pthread_mutex_lock(&filler->lock);
	*ret_stats = filler->stats;
	ret_stats->queued = 0;
	ret_stats->running = 0;
	for (int p = 0; p < QL_FILL_PRIORITIES; p++) {
		ret_stats->queued += filler->queue.bytes[p];
		ret_stats->running += filler->busy[p];
	}
	(void)pthread_mutex_unlock(&filler->lock);
}

bool ql_filler_is_busy(struct ql_filler *filler)
{
	bool busy;

	(void)pthread_mutex_lock(&filler->lock);
	busy = ql_filler_is_urgent(filler);
	(void)pthread_mutex_unlock(&filler->lock);
	return busy;
}

int ql_fill_flush(struct ql_filler *f, struct ql_error *err)
{
	int r = 0;

	(void)pthread_mutex_lock(&f->lock);
	f->flushing++;
	(void)pthread_cond_broadcast(&f->settle);
	while (!f->stop && !ql_fill_is_settled(f) && !f->unsettled)
		(void)pthread_cond_wait(&f->calm, &f->lock);
	f->flushing--;
	if (f->unsettled)
		r = ql_error_set(err, -EIO, "%s", f->settle_error.text);
	(void)pthread_mutex_unlock(&f->lock);
	return r;
}
