/* SPDX-License-Identifier: Apache-2.0 */
/* A queue of jobs, and a few threads that take them in their order. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "fs/agent.h"

struct ql_work {
	pthread_t *threads; /* owned */
	unsigned int n;
	pthread_mutex_t lock; /* protects all below */
	pthread_cond_t cond;  /* a job came, or the end */
	struct ql_job *first, **last;
	bool stop;
};

static void *work_main(void *arg)
{
	struct ql_work *w = arg;
	struct ql_job *job;

	(void)pthread_mutex_lock(&w->lock);
	for (;;) {
		while (!w->first && !w->stop)
			(void)pthread_cond_wait(&w->cond, &w->lock);
		job = w->first;
		if (!job)
			break;
		w->first = job->next;
		if (!w->first)
			w->last = &w->first;
		(void)pthread_mutex_unlock(&w->lock);
		job->run(job);
		(void)pthread_mutex_lock(&w->lock);
	}
	(void)pthread_mutex_unlock(&w->lock);
	return NULL;
}

int ql_work_new(unsigned int threads, struct ql_work **ret_work,
		struct ql_error *err)
{
	struct ql_work *w = calloc(1, sizeof(*w));

	if (!w)
		return ql_error_nomem(err);
	w->last = &w->first;
	(void)pthread_mutex_init(&w->lock, NULL);
	(void)pthread_cond_init(&w->cond, NULL);
	w->threads = calloc(threads, sizeof(*w->threads));
	while (w->threads && w->n < threads &&
	       pthread_create(&w->threads[w->n], NULL, work_main, w) == 0)
		w->n++;
	if (w->n == 0) {
		ql_work_free(w);
		return ql_error_set(err, -EAGAIN, "cannot start a thread");
	}
	*ret_work = w;
	return 0;
}

int ql_work_add(struct ql_work *w, struct ql_job *job)
{
	int r = 0;

	job->next = NULL;
	(void)pthread_mutex_lock(&w->lock);
	if (w->stop) {
		r = -ESHUTDOWN;
	} else {
		*w->last = job;
		w->last = &job->next;
		(void)pthread_cond_signal(&w->cond);
	}
	(void)pthread_mutex_unlock(&w->lock);
	return r;
}

void ql_work_stop(struct ql_work *w)
{
	if (!w)
		return;
	(void)pthread_mutex_lock(&w->lock);
	w->stop = true;
	(void)pthread_cond_broadcast(&w->cond);
	(void)pthread_mutex_unlock(&w->lock);
	while (w->n > 0)
		(void)pthread_join(w->threads[--w->n], NULL);
}

void ql_work_free(struct ql_work *w)
{
	if (!w)
		return;
	ql_work_stop(w);
	(void)pthread_cond_destroy(&w->cond);
	(void)pthread_mutex_destroy(&w->lock);
	free(w->threads);
	free(w);
}
