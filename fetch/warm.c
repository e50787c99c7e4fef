/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections opened ahead: where a link is long, requests to come find them
 * open.  They begin where the first connection is not there after a moment,
 * and are there with its first answer; how long it took to be made says how
 * long the link is.
 */
#include "fetch/fetch-private.h"

#include <errno.h>
#include <time.h>

void ql_warm_init(struct ql_warm *w)
{
	pthread_condattr_t attr;

	*w = (struct ql_warm){ 0 };
	atomic_store(&w->rtt, UINT64_MAX);
	(void)pthread_mutex_init(&w->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&w->cond, &attr);
	(void)pthread_condattr_destroy(&attr);
}

void ql_warm_release(struct ql_warm *w)
{
	free(w->url);
	(void)pthread_cond_destroy(&w->cond);
	(void)pthread_mutex_destroy(&w->lock);
}

/* ---- the I/O thread ---- */

void ql_warm_want(struct ql_warm *w, char **url, unsigned int n,
		  const struct ql_tls *tls)
{
	if (w->url || n == 0)
		return;
	w->url = ql_take_ptr(*url);
	w->n = n;
	w->tls = tls;
	w->at = ql_now_ns() + QL_RTT_NEAR;
}

void ql_warm_connected(struct ql_warm *w, uint64_t ns, bool first)
{
	if (ns < atomic_load(&w->rtt))
		atomic_store(&w->rtt, ns);
	if (first)
		w->at = 0; /* near, or begun already */
}

bool ql_warm_pending(const struct ql_warm *w)
{
	return w->at > 0;
}

bool ql_warm_next(struct ql_warm *w, struct ql_http_request *ret_rq)
{
	if (w->at > ql_now_ns())
		return false;
	if (w->at == 0 || w->n == 0) {
		w->at = 0;
		return false;
	}
	w->n--;
	(void)pthread_mutex_lock(&w->lock);
	w->opening++;
	(void)pthread_mutex_unlock(&w->lock);
	*ret_rq = (struct ql_http_request){ .url = w->url,
					    .bulk = true,
					    .tls = w->tls,
					    .timeouts = { 10, 10 } };
	return true;
}

void ql_warm_opened(struct ql_warm *w)
{
	(void)pthread_mutex_lock(&w->lock);
	if (--w->opening == 0)
		(void)pthread_cond_broadcast(&w->cond);
	(void)pthread_mutex_unlock(&w->lock);
}

/* ---- any thread ---- */

uint64_t ql_warm_rtt(struct ql_warm *w)
{
	uint64_t rtt = atomic_load(&w->rtt);
	uint64_t until;
	struct timespec ts;

	if (rtt == UINT64_MAX)
		return rtt;
	until = ql_now_ns() + rtt;
	ts = (struct timespec){ (time_t)(until / 1000000000),
				(long)(until % 1000000000) };
	(void)pthread_mutex_lock(&w->lock);
	while (w->opening > 0 && !w->aborted &&
	       pthread_cond_timedwait(&w->cond, &w->lock, &ts) != ETIMEDOUT)
		;
	(void)pthread_mutex_unlock(&w->lock);
	return rtt;
}

void ql_warm_abort(struct ql_warm *w)
{
	(void)pthread_mutex_lock(&w->lock);
	w->aborted = true;
	(void)pthread_cond_broadcast(&w->cond);
	(void)pthread_mutex_unlock(&w->lock);
}
