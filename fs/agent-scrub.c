/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scrub: a thread that reads all objects again, once an interval and at a
 * rate, and has what it finds damaged fetched anew.  It goes through them in
 * the order of their digests and writes down where it is, so that a pass goes
 * on after a restart.  Then it decodes what is packed, and takes out what is
 * damaged of that.  At a pass's end the catalogue is compared with the
 * trees, too.  It stands aside while somebody waits for content.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "fs/agent.h"

#define SECOND ((uint64_t)1000000000)
#define SAVE_NS (10 * SECOND) /* between two notes of where it is */
enum {
	YIELD_MS = 50,
	LOOK_S = 60,	   /* at the clock, while there is nothing to do */
	FOUND_MAX = 64,	   /* objects that are repaired at once */
	FAULTS_MAX = 4096, /* of the catalogue, in one pass */
	IOPRIO_IDLE = 3 << 13,
};

struct found {
	struct ql_fault *items; /* owned, with their texts */
	size_t n;
};

struct ql_scrubber {
	struct ql_store *store;	  /* borrowed */
	struct ql_filler *filler; /* borrowed; for who waits */
	struct ql_fill_options fill;
	char *registries; /* owned; as fill.config_dir */
	atomic_bool stop;
	pthread_t thread;
	bool started;

	pthread_mutex_t lock; /* protects all below */
	pthread_cond_t cond;  /* what follows is another, or stop */
	uint64_t rate;	      /* bytes/s; 0: no scrub */
	uint64_t interval;    /* ns */
	struct ql_scrub_state state;
	bool running;

	/* The thread's own. */
	struct ql_pace pace;
	struct found found;
	uint64_t saved_at; /* ns */
};

static void found_clear(struct found *f)
{
	for (size_t i = 0; i < f->n; i++)
		free((char *)f->items[i].text);
	free(f->items);
	*f = (struct found){ 0 };
}

/* What does not fit is found again. */
static void found_add(struct found *f, const struct ql_fault *fault, size_t max)
{
	struct ql_fault *grown = NULL;
	char *text = strdup(fault->text);

	if (text && f->n < max)
		grown = reallocarray(f->items, f->n + 1, sizeof(*grown));
	if (!grown) {
		free(text);
		return;
	}
	f->items = grown;
	grown[f->n] = *fault;
	grown[f->n++].text = text;
}

/* ---- where it is ---- */

static void state_save(struct ql_scrubber *sc)
{
	struct ql_error err = QL_ERROR_INIT;
	struct ql_scrub_state state;

	(void)pthread_mutex_lock(&sc->lock);
	state = sc->state;
	(void)pthread_mutex_unlock(&sc->lock);
	sc->saved_at = ql_now_ns();
	if (ql_scrub_state_put(sc->store, &state, &err) < 0)
		ql_log(QL_LOG_WARN,
		       "msg=\"cannot note where the scrub is\" error=\"%s\"",
		       err.text);
}

json_t *ql_scrubber_json(struct ql_scrubber *sc)
{
	struct ql_scrub_state s;
	bool running;
	uint64_t rate;

	if (!sc)
		return json_null();
	(void)pthread_mutex_lock(&sc->lock);
	s = sc->state;
	running = sc->running;
	rate = sc->rate;
	(void)pthread_mutex_unlock(&sc->lock);
	return json_pack("{s:b, s:b, s:I, s:f, s:I, s:I, s:I, s:I, s:I}", "on",
			 rate > 0, "running", running, "pass",
			 (json_int_t)s.pass, "position",
			 (double)s.position / (double)UINT64_MAX, "bytes",
			 (json_int_t)s.bytes, "bad", (json_int_t)s.bad,
			 "repaired", (json_int_t)s.repaired, "began",
			 (json_int_t)s.began, "ended", (json_int_t)s.ended);
}

/* ---- repairing ---- */

static void told(const struct ql_fault *fault, const char *why, void *arg)
{
	struct ql_scrubber *sc = arg;

	(void)pthread_mutex_lock(&sc->lock);
	sc->state.repaired += !why;
	(void)pthread_mutex_unlock(&sc->lock);
	if (why)
		ql_log(QL_LOG_ERROR,
		       "msg=\"not repaired\" finding=\"%s\" error=\"%s\"",
		       fault->text, why);
	else
		ql_log(QL_LOG_INFO, "msg=repaired finding=\"%s\"", fault->text);
}

static void fault_take(const struct ql_fault *fault, void *arg)
{
	found_add(arg, fault, FAULTS_MAX);
}

static void records_check(struct ql_scrubber *sc, struct found *f)
{
	struct ql_error err = QL_ERROR_INIT;
	struct ql_fsck_stats stats;

	if (ql_store_check_records(sc->store, &sc->stop, fault_take, f, &stats,
				   &err) < 0)
		ql_log(QL_LOG_WARN, "msg=\"cannot check\" error=\"%s\"",
		       err.text);
}

/* Once a layer is lazy since some of it was damaged, nobody can tell what else
 * is missing from what was never fetched: that is looked for before. */
static void found_repair(struct ql_scrubber *sc, bool records)
{
	struct ql_error err = QL_ERROR_INIT;
	struct found *f = &sc->found;
	struct ql_repair_stats stats;

	if (f->n > 0 || records)
		records_check(sc, f);
	if (f->n == 0)
		return;
	(void)pthread_mutex_lock(&sc->lock);
	sc->state.bad += f->n;
	(void)pthread_mutex_unlock(&sc->lock);
	for (size_t i = 0; i < f->n; i++)
		ql_log(QL_LOG_WARN, "msg=damaged finding=\"%s\"",
		       f->items[i].text);
	if (ql_repair(sc->store, f->items, f->n, &sc->fill, &sc->stop, told, sc,
		      &stats, &err) < 0)
		ql_log(QL_LOG_ERROR, "msg=\"cannot repair\" error=\"%s\"",
		       err.text);
	found_clear(f);
	state_save(sc);
}

/* ---- a pass ---- */

static void yield(void *arg)
{
	struct ql_scrubber *sc = arg;
	const struct timespec ts = { 0, YIELD_MS * 1000000L };

	while (sc->filler && !atomic_load(&sc->stop) &&
	       ql_filler_is_busy(sc->filler))
		(void)nanosleep(&ts, NULL);
}

/* It may have been set anew; -ECANCELED: to nothing. */
static int pace_look(struct ql_scrubber *sc)
{
	uint64_t rate;

	(void)pthread_mutex_lock(&sc->lock);
	rate = sc->rate;
	(void)pthread_mutex_unlock(&sc->lock);
	sc->pace.rate = rate == UINT64_MAX ? 0 : rate;
	return rate == 0 || atomic_load(&sc->stop) ? -ECANCELED : 0;
}

static int scrub_one(const struct ql_digest *digest, const char *path,
		     void *arg)
{
	struct ql_scrubber *sc = arg;
	struct ql_error err = QL_ERROR_INIT;
	struct ql_fault fault = { .kind = QL_FAULT_OBJECT };
	uint64_t bytes = 0;
	int r = pace_look(sc);

	if (r < 0 || !digest)
		return r; /* the records' check names it */
	r = ql_object_verify(sc->store, digest, &sc->pace, &bytes, &err);
	if (r == -EBADMSG) {
		fault.digest = *digest;
		fault.text = err.text;
		found_add(&sc->found, &fault, FOUND_MAX);
	} else if (r < 0 && r != -ENOENT && r != -ECANCELED) {
		ql_log(QL_LOG_WARN, "msg=\"cannot be read\" path=%s error=%d",
		       path, r);
	}
	(void)pthread_mutex_lock(&sc->lock);
	sc->state.bytes += bytes;
	if (r != -ECANCELED)
		sc->state.position = ql_object_position(digest);
	(void)pthread_mutex_unlock(&sc->lock);
	if (sc->found.n == FOUND_MAX || ql_now_ns() - sc->saved_at > SAVE_NS) {
		found_repair(sc, false);
		state_save(sc);
	}
	return r == -ECANCELED ? r : 0;
}

static int scrub_packed(const struct ql_digest *blob, uint64_t disk_bytes,
			void *arg)
{
	struct ql_scrubber *sc = arg;
	struct ql_error err = QL_ERROR_INIT;
	struct ql_fault fault = { QL_FAULT_PACKED, *blob, err.text };
	uint64_t bytes = 0;
	int r = pace_look(sc);

	(void)disk_bytes;
	if (r < 0)
		return r;
	r = ql_packed_verify(sc->store, blob, &sc->pace, &bytes, &err);
	if (r == -EBADMSG)
		found_add(&sc->found, &fault, FAULTS_MAX);
	else if (r < 0 && r != -ECANCELED)
		ql_log(QL_LOG_WARN, "msg=\"cannot be read\" error=\"%s\"",
		       err.text);
	(void)pthread_mutex_lock(&sc->lock);
	sc->state.bytes += bytes;
	(void)pthread_mutex_unlock(&sc->lock);
	return r == -ECANCELED ? r : 0;
}

static void pass_begin(struct ql_scrubber *sc)
{
	(void)pthread_mutex_lock(&sc->lock);
	if (sc->state.pass == 0 || sc->state.position == UINT64_MAX) {
		sc->state.pass++;
		sc->state.position = 0;
		sc->state.began = (uint64_t)time(NULL);
	}
	sc->running = true;
	(void)pthread_mutex_unlock(&sc->lock);
}

static void pass(struct ql_scrubber *sc)
{
	struct ql_error err = QL_ERROR_INIT;
	uint64_t from;
	int r;

	pass_begin(sc);
	from = sc->state.position;
	sc->pace.at = 0;
	sc->saved_at = ql_now_ns();
	r = ql_objects_walk(sc->store, from, scrub_one, sc, &err);
	/* All of it again where a pass went on in the middle of that. */
	if (r == 0)
		r = ql_packed_each(sc->store, scrub_packed, sc, &err);
	found_repair(sc, r == 0);
	if (r < 0 && r != -ECANCELED)
		ql_log(QL_LOG_WARN, "msg=\"the scrub stops\" error=\"%s\"",
		       err.text);
	(void)pthread_mutex_lock(&sc->lock);
	if (r != -ECANCELED && !atomic_load(&sc->stop)) {
		sc->state.position = UINT64_MAX;
		sc->state.ended = (uint64_t)time(NULL);
	}
	sc->running = false;
	(void)pthread_mutex_unlock(&sc->lock);
	state_save(sc);
}

/* Under the lock: s until the next pass; 0: now. */
static uint64_t pass_due(const struct ql_scrubber *sc)
{
	uint64_t now = (uint64_t)time(NULL), due;

	if (sc->rate == 0)
		return UINT64_MAX;
	/* One goes on, none has been, or the clock went back. */
	if (sc->state.position != UINT64_MAX || sc->state.ended > now)
		return 0;
	due = sc->state.ended + sc->interval / SECOND;
	return due > now ? due - now : 0;
}

static void *scrub_main(void *arg)
{
	struct ql_scrubber *sc = arg;

	/* This thread alone, and only where the disk's scheduler asks. */
	(void)syscall(SYS_ioprio_set, 1, 0, IOPRIO_IDLE);
	(void)pthread_mutex_lock(&sc->lock);
	while (!atomic_load(&sc->stop)) {
		uint64_t due = pass_due(sc);
		struct timespec ts;

		if (due == 0) {
			(void)pthread_mutex_unlock(&sc->lock);
			pass(sc);
			(void)pthread_mutex_lock(&sc->lock);
			continue;
		}
		(void)clock_gettime(CLOCK_MONOTONIC, &ts);
		ts.tv_sec += due < LOOK_S ? (time_t)due : LOOK_S;
		(void)pthread_cond_timedwait(&sc->cond, &sc->lock, &ts);
	}
	(void)pthread_mutex_unlock(&sc->lock);
	return NULL;
}

/* ---- life ---- */

void ql_scrubber_set(struct ql_scrubber *sc,
		     const struct ql_agent_config *config)
{
	if (!sc)
		return;
	(void)pthread_mutex_lock(&sc->lock);
	sc->rate = config->scrub.rate;
	sc->interval = config->scrub.interval;
	(void)pthread_cond_signal(&sc->cond);
	(void)pthread_mutex_unlock(&sc->lock);
}

int ql_scrubber_new(struct ql_store *store, struct ql_filler *filler,
		    const struct ql_agent_config *config,
		    struct ql_scrubber **ret_scrubber, struct ql_error *err)
{
	struct ql_scrubber *sc = calloc(1, sizeof(*sc));
	pthread_condattr_t attr;
	int r = 0;

	if (!sc)
		return ql_error_nomem(err);
	sc->store = store;
	sc->filler = filler;
	(void)pthread_mutex_init(&sc->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&sc->cond, &attr);
	(void)pthread_condattr_destroy(&attr);
	if (config->registries) {
		sc->registries = strdup(config->registries);
		r = sc->registries ? 0 : ql_error_nomem(err);
	}
	sc->fill = (struct ql_fill_options){
		.read_timeout = config->fill.read_timeout,
		.config_dir = sc->registries,
	};
	sc->pace.stop = &sc->stop;
	sc->pace.yield = yield;
	sc->pace.arg = sc;
	ql_scrubber_set(sc, config);
	if (r == 0)
		r = ql_scrub_state_get(store, &sc->state, err);
	if (r == 0 && pthread_create(&sc->thread, NULL, scrub_main, sc) != 0)
		r = ql_error_set(err, -EAGAIN, "cannot start a thread");
	if (r < 0) {
		ql_scrubber_free(sc);
		return r;
	}
	sc->started = true;
	*ret_scrubber = sc;
	return 0;
}

void ql_scrubber_stop(struct ql_scrubber *sc)
{
	if (!sc || !sc->started)
		return;
	atomic_store(&sc->stop, true);
	(void)pthread_mutex_lock(&sc->lock);
	(void)pthread_cond_signal(&sc->cond);
	(void)pthread_mutex_unlock(&sc->lock);
	(void)pthread_join(sc->thread, NULL);
	sc->started = false;
}

void ql_scrubber_free(struct ql_scrubber *sc)
{
	if (!sc)
		return;
	ql_scrubber_stop(sc);
	found_clear(&sc->found);
	(void)pthread_cond_destroy(&sc->cond);
	(void)pthread_mutex_destroy(&sc->lock);
	free(sc->registries);
	free(sc);
}
