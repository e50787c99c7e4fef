/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A little room, always: a thread that evicts before somebody has to wait for
 * it.  It looks once a second, and more often while there is little room.
 *
 * Under pressure it first lets go of images that the mount holds open and
 * nobody has looked at for a while.  Who makes room and finds nothing else
 * asks it (ql_evictor_let_go()) to let go of all that nobody uses now: that
 * takes the kernel, which may be waiting for the very thread that asks, so it
 * is done here, and who asks waits for a bounded time.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "fs/agent.h"
#include "fs/fs-private.h"

#define MS ((uint64_t)1000000)
#define SECOND (1000 * MS)
#define LOOK_MS 1000
#define LOOK_SOON_MS 200
#define UNUSED (30 * SECOND)   /* what nobody has looked at for so long */
#define UNUSED_NOW (200 * MS)  /* the same where all else has failed */
#define ASK_MAX (5 * SECOND)   /* that who asks waits */
#define AGAIN_MIN (1 * SECOND) /* after nothing could go */
#define AGAIN_MAX (60 * SECOND)
#define TIDY_AGAIN (30 * SECOND) /* after somebody was at work */
#define ROOM_MIN ((uint64_t)4 << 20)
#define ROOM_SHARE 50 /* of the budget: one in so many */
#define ROOM_MOST 8   /* the same, however small the budget is */

struct ql_evictor {
	struct ql_store *store; /* borrowed */
	pthread_t thread;

	pthread_mutex_t lock; /* protects all below */
	pthread_cond_t cond;  /* something was asked, done, or the end */
	struct ql_fs *fs;     /* borrowed; while it serves */
	uint64_t asked, answered;
	size_t gone; /* images, by the last answer */
	bool look, stop, running;

	/* The thread's own. */
	uint64_t again_at, again; /* ns: not before, and the next wait */
	uint64_t tidy_at;	  /* ns; 0: all is tidy */
	bool told;		  /* that there is no room */
};

uint64_t ql_evictor_room(uint64_t budget)
{
	uint64_t room = budget / ROOM_SHARE;

	if (room < ROOM_MIN)
		room = ROOM_MIN;
	return room < budget / ROOM_MOST ? room : budget / ROOM_MOST;
}

/* ---- tidying ---- */

static void tidied(const char *path, uint64_t bytes, void *arg)
{
	(void)arg;
	ql_debug("msg=\"nothing needs it\" path=\"%s\" bytes=%llu", path,
		 (unsigned long long)bytes);
}

/* false: somebody is at work. */
static bool tidy(struct ql_store *store)
{
	struct ql_remove_stats st = { 0 };
	struct ql_error err = QL_ERROR_INIT;
	int r = ql_store_gc(store, false, tidied, NULL, &st, &err);

	if (r == -EAGAIN)
		return false;
	if (r < 0)
		ql_log(QL_LOG_WARN,
		       "msg=\"what nothing needs stays\" error=\"%s\"",
		       err.text);
	else if (st.objects > 0)
		ql_log(QL_LOG_INFO,
		       "msg=\"removed what nothing needs\" files=%llu "
		       "bytes=%llu",
		       (unsigned long long)st.objects,
		       (unsigned long long)st.bytes);
	return true;
}

void ql_evictor_tidy(struct ql_evictor *ev)
{
	struct ql_error err = QL_ERROR_INIT;
	struct ql_space s;

	if (!tidy(ev->store))
		ev->tidy_at = ql_now_ns() + TIDY_AGAIN;
	if (ql_space_recount(ev->store, &s, &err) < 0)
		ql_log(QL_LOG_WARN,
		       "msg=\"the store was not counted\" error=\"%s\"",
		       err.text);
}

static void tidy_again(struct ql_evictor *ev)
{
	if (ev->tidy_at == 0 || ql_now_ns() < ev->tidy_at)
		return;
	ev->tidy_at = tidy(ev->store) ? 0 : ql_now_ns() + TIDY_AGAIN;
}

/* ---- making room ---- */

static size_t let_go(struct ql_evictor *ev, uint64_t unused)
{
	return ev->fs ? ql_fs_let_go(ev->fs, unused) : 0;
}

static size_t stop_filling(struct ql_evictor *ev)
{
	size_t n = ev->fs ? ql_fs_stop_filling(ev->fs) : 0;

	if (n > 0)
		ql_log(QL_LOG_INFO,
		       "msg=\"no room to fetch what nobody waits for\" "
		       "images=%zu",
		       n);
	return n;
}

static void made(struct ql_evictor *ev, const struct ql_keep_stats *st)
{
	ev->again = 0;
	ev->told = false;
	if (st->freed > 0)
		ql_log(QL_LOG_INFO,
		       "msg=evicted bytes=%llu layers=%llu images=%llu",
		       (unsigned long long)st->freed,
		       (unsigned long long)st->units,
		       (unsigned long long)st->images);
}

static void not_made(struct ql_evictor *ev, const struct ql_error *why)
{
	if (!ev->told)
		ql_log(QL_LOG_WARN, "msg=\"no room can be made\" why=\"%s\"",
		       why->text);
	ev->told = true;
	ev->again = ev->again ? 2 * ev->again : AGAIN_MIN;
	if (ev->again > AGAIN_MAX)
		ev->again = AGAIN_MAX;
	ev->again_at = ql_now_ns() + ev->again;
}

/* Only what can go is asked for, unless the budget is exceeded: what nobody
 * needs now is no refusal. */
static int make_room(struct ql_evictor *ev, const struct ql_space *s,
		     struct ql_keep_stats *ret_stats, struct ql_error *err)
{
	uint64_t room = ql_evictor_room(s->budget);
	uint64_t lacks = ql_space_lacks(s, room);
	struct ql_keep_status k;
	int r = ql_keep_status(ev->store, &k, err);

	if (r == 0 && k.evictable < lacks && let_go(ev, UNUSED_NOW) > 0)
		r = ql_keep_status(ev->store, &k, err);
	/* What nobody waits for is not to keep others from going. */
	if (r == 0 && k.evictable < lacks && stop_filling(ev) > 0) {
		(void)let_go(ev, UNUSED_NOW);
		r = ql_keep_status(ev->store, &k, err);
	}
	if (r < 0)
		return r;
	if (ql_space_lacks(s, 0) == 0 && k.evictable < lacks) {
		if (k.evictable == 0)
			return ql_error_set(err, -ENOSPC,
					    "all that is here is in use");
		room -= lacks - k.evictable; /* at most what fits is lacking */
	}
	return ql_keep_make_room(ev->store, room, ret_stats, err);
}

/* Returns how long to sleep, ms. */
static unsigned int look(struct ql_evictor *ev, bool at_once)
{
	struct ql_error err = QL_ERROR_INIT;
	struct ql_keep_stats st = { 0 };
	struct ql_space s;
	uint64_t room;

	if (!ql_space_is_limited(ev->store) ||
	    ql_space_get(ev->store, &s, NULL) < 0 || s.budget == 0)
		return LOOK_MS;
	room = ql_evictor_room(s.budget);
	if (ql_space_lacks(&s, room) == 0)
		return ql_space_lacks(&s, 2 * room) > 0 ? LOOK_SOON_MS
							: LOOK_MS;
	if (!at_once && ev->again && ql_now_ns() < ev->again_at)
		return LOOK_MS;
	/* Nor is anybody asked to let go for what dead ones had taken. */
	if (ql_space_mend(ev->store, &s, NULL) < 0 ||
	    ql_space_lacks(&s, room) == 0)
		return LOOK_SOON_MS;
	(void)let_go(ev, UNUSED);
	if (make_room(ev, &s, &st, &err) < 0)
		not_made(ev, &err);
	else
		made(ev, &st);
	return LOOK_SOON_MS;
}

/* ---- the thread ---- */

static struct timespec in_ms(unsigned int ms)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_sec += ms / 1000;
	ts.tv_nsec += (long)(ms % 1000) * 1000000;
	if (ts.tv_nsec >= 1000000000) {
		ts.tv_sec++;
		ts.tv_nsec -= 1000000000;
	}
	return ts;
}

static void answer_locked(struct ql_evictor *ev)
{
	uint64_t asked = ev->asked;
	size_t gone;

	(void)pthread_mutex_unlock(&ev->lock);
	gone = let_go(ev, UNUSED_NOW);
	(void)pthread_mutex_lock(&ev->lock);
	ev->gone = gone;
	ev->answered = asked;
	(void)pthread_cond_broadcast(&ev->cond);
}

static void *evictor_main(void *arg)
{
	struct ql_evictor *ev = arg;
	unsigned int ms = LOOK_SOON_MS;

	(void)pthread_mutex_lock(&ev->lock);
	while (!ev->stop) {
		struct timespec until = in_ms(ms);
		bool at_once;

		while (!ev->stop && !ev->look && ev->asked == ev->answered &&
		       pthread_cond_timedwait(&ev->cond, &ev->lock, &until) ==
			       0)
			;
		if (ev->stop)
			break;
		if (ev->asked != ev->answered) {
			answer_locked(ev);
			continue;
		}
		at_once = ev->look;
		ev->look = false;
		(void)pthread_mutex_unlock(&ev->lock);
		ms = look(ev, at_once);
		tidy_again(ev);
		(void)pthread_mutex_lock(&ev->lock);
	}
	(void)pthread_mutex_unlock(&ev->lock);
	return NULL;
}

/* ---- from outside ---- */

void ql_evictor_look(struct ql_evictor *ev)
{
	if (!ev)
		return;
	(void)pthread_mutex_lock(&ev->lock);
	ev->look = true;
	(void)pthread_cond_broadcast(&ev->cond);
	(void)pthread_mutex_unlock(&ev->lock);
}

static bool evictor_relief(void *arg)
{
	return ql_evictor_let_go(arg);
}

bool ql_evictor_let_go(struct ql_evictor *ev)
{
	struct timespec until = in_ms(ASK_MAX / MS);
	uint64_t mine;
	bool gone;
	int r = 0;

	if (!ev)
		return false;
	(void)pthread_mutex_lock(&ev->lock);
	if (ev->running && pthread_equal(pthread_self(), ev->thread)) {
		(void)pthread_mutex_unlock(&ev->lock);
		return let_go(ev, UNUSED_NOW) > 0;
	}
	/* One that has begun may have passed over what has become idle. */
	mine = ++ev->asked;
	(void)pthread_cond_broadcast(&ev->cond);
	while (ev->running && !ev->stop && ev->answered < mine && r == 0)
		r = pthread_cond_timedwait(&ev->cond, &ev->lock, &until);
	gone = ev->answered >= mine && ev->gone > 0;
	(void)pthread_mutex_unlock(&ev->lock);
	return gone;
}

int ql_evictor_new(struct ql_store *store, struct ql_evictor **ret_evictor,
		   struct ql_error *err)
{
	struct ql_evictor *ev = calloc(1, sizeof(*ev));
	pthread_condattr_t attr;

	if (!ev)
		return ql_error_nomem(err);
	ev->store = store;
	(void)pthread_mutex_init(&ev->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&ev->cond, &attr);
	(void)pthread_condattr_destroy(&attr);
	ql_keep_relief(store, evictor_relief, ev);
	*ret_evictor = ev;
	return 0;
}

int ql_evictor_start(struct ql_evictor *ev, struct ql_fs *fs,
		     struct ql_error *err)
{
	ev->fs = fs;
	if (pthread_create(&ev->thread, NULL, evictor_main, ev) != 0)
		return ql_error_set(err, -EAGAIN, "cannot start a thread");
	(void)pthread_mutex_lock(&ev->lock);
	ev->running = true;
	(void)pthread_mutex_unlock(&ev->lock);
	return 0;
}

void ql_evictor_stop(struct ql_evictor *ev)
{
	bool was;

	if (!ev)
		return;
	(void)pthread_mutex_lock(&ev->lock);
	was = ev->running;
	ev->stop = true;
	(void)pthread_cond_broadcast(&ev->cond);
	(void)pthread_mutex_unlock(&ev->lock);
	if (was)
		(void)pthread_join(ev->thread, NULL);
	ev->running = false;
	ev->fs = NULL;
}

void ql_evictor_free(struct ql_evictor *ev)
{
	if (!ev)
		return;
	ql_evictor_stop(ev);
	(void)pthread_cond_destroy(&ev->cond);
	(void)pthread_mutex_destroy(&ev->lock);
	free(ev);
}
