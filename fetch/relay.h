/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the relay (relay.c, relayfetch.c) share. */
#ifndef QL_RELAY_H
#define QL_RELAY_H

#include "fetch/peer-private.h"

enum { QL_RELAY_WORKERS = 16, QL_RELAY_BUCKETS = 256 };

struct ql_relay_region {
	struct ql_relay_region *next; /* in its bucket */
	struct ql_relay_region *older,
		*newer; /* by when it was asked for last */
	struct ql_digest blob;
	uint64_t size;	/* the blob's, as who asks states it */
	uint64_t index; /* the region's */
	uint64_t slot;
	struct ql_extents have, coming; /* owned; places in the blob */
	uint64_t taken;			/* of disk, and of relay->used */
	pthread_cond_t news;		/* something came, or failed */
	unsigned int users;		/* streams and jobs */
	bool private;			/* credentials were shown for it */
	bool gone;			/* out of the table: it goes at last */
	int error;			/* of what failed last */
	struct ql_error err;
};

struct ql_relay_job {
	struct ql_relay_job *next;
	struct ql_relay_region *region; /* one of its users */
	char *repository;		/* owned */
	uint64_t from, to;		/* in the blob; region->coming has it */
	bool routed;			/* it may come from other nodes */
	bool taken;			/* it is being done */
	uint64_t bytes;			/* of disk: in relay->used */
};

struct ql_relay {
	struct ql_peers *peers;		 /* borrowed */
	struct ql_fill_sources *sources; /* owned; has its own lock */
	int fd;				 /* owned; -1: nothing passes */

	pthread_mutex_t lock; /* protects all below */
	pthread_cond_t work;  /* there is a job */
	pthread_condattr_t monotonic;
	struct ql_relay_region *buckets[QL_RELAY_BUCKETS];
	struct ql_relay_region *oldest, *newest;
	uint64_t used; /* bytes of disk */
	uint64_t n_slots, *free_slots, n_free, cap_free;
	struct ql_relay_job *jobs, **last;
	unsigned int n_jobs;
	uint64_t fetching; /* bytes that jobs, not routed, are waiting for */
	uint64_t moved_at; /* ns: when some of these came last */
	pthread_t threads[QL_RELAY_WORKERS];
	unsigned int n_threads, idle;
	bool stop;
};

/* ---- relay.c ---- */

/* Where a byte of the blob, which is of that region, lies in relay->fd. */
static inline off_t ql_relay_place(const struct ql_relay_region *r,
				   uint64_t pos)
{
	return (off_t)(r->slot * QL_PEER_REGION + pos % QL_PEER_REGION);
}
/* Without the lock: one user less. */
void ql_relay_region_put(struct ql_relay *relay, struct ql_relay_region *r);

/* ---- relayfetch.c ---- */

/* Under the lock: for a job that is about to be added.  -EAGAIN: there is no
 * thread for it. */
int ql_relay_worker_start(struct ql_relay *relay);
/* Frees it, and tells who waits; error < 0: why not all of it has come. */
void ql_relay_job_end(struct ql_relay *relay, struct ql_relay_job *job,
		      int error, const struct ql_error *err);

#endif
