/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP, as far as what is above it needs to know.  Part of
 * fetch/fetch-private.h; include that.
 */
#ifndef QL_HTTP_H
#define QL_HTTP_H

#include <pthread.h>
#include <stdatomic.h>

#include "store/store.h"

/* ---- http.c: one I/O thread, any number of transfers ---- */

struct ql_http;

struct ql_tls {
	char *ca;   /* owned; PEM file trusted beside the system's, or NULL */
	char *cert; /* owned; client certificate (PEM), or NULL */
	char *key;  /* owned; its key, or NULL */
	bool insecure; /* do not verify the server */
	/* Who has a certificate of that CA is trusted, and nobody else; files
	 * are read again for each connection. */
	bool ca_alone;
	bool any_name; /* whoever's name is in the certificate */
};

struct ql_http_timeouts {
	unsigned int connect; /* seconds */
	unsigned int stall;   /* seconds without a byte */
};

/* What is sent: bytes in memory (copied), or a part of a file (dup'ed). */
struct ql_http_upload {
	const char *type;  /* Content-Type; NULL: none */
	const char *range; /* Content-Range; NULL: none */
	const void *data;  /* NULL: it is in fd */
	int fd;
	uint64_t offset; /* in fd */
	uint64_t len;	 /* bytes; 0: an empty body */
	/* Told in the I/O thread how far it is, or NULL.  Its arg is borrowed
	 * for the ql_http's life. */
	void (*sent)(uint64_t bytes, void *arg);
	void *arg;
};

struct ql_http_request {
	const char *url;	   /* borrowed, as is all here */
	const char *authorization; /* the header's value, or NULL */
	const char *accept;	   /* or NULL */
	const char *form;	   /* POST this form; NULL: GET */
	const char *method;	   /* NULL: as form says; "HEAD", "PUT", … */
	const char *unix_socket;   /* connect to it, whatever the host; NULL */
	const struct ql_http_upload *upload; /* or NULL */
	const char *const *headers; /* more, "Name: value", NULL at their end;
				     * or NULL */
	bool direct;		    /* by no proxy */
	uint64_t offset;	    /* ask for the bytes from here on, */
	uint64_t len;		    /* so many; 0: to the end */
	bool bulk;		    /* the body may be large */
	const char *warm_url;	    /* or NULL: over a long link, open */
	unsigned int warm;	    /* so many connections more to it */
	const struct ql_tls *tls;   /* or NULL */
	struct ql_http_timeouts timeouts;
};

struct ql_http_response {
	long status;
	uint64_t length;      /* of the body, as announced; UINT64_MAX: not */
	uint64_t range_start; /* of Content-Range; UINT64_MAX: none */
	uint64_t range_size;  /* ... of the whole; UINT64_MAX: not said */
	uint64_t took;	      /* ns from the request to the headers' end */
	uint64_t retry_after; /* seconds; UINT64_MAX: none */
	char *content_type;   /* owned, as all below; NULL: none */
	char *authenticate;   /* all WWW-Authenticate, joined by ", " */
	char *digest;	      /* Docker-Content-Digest */
	char *location;
	char *range;   /* Range: how far an upload is */
	char *subject; /* OCI-Subject */
	char *etag;
	struct ql_stream *body; /* free it before the ql_http */
};
void ql_http_response_release(struct ql_http_response *rs);
#define _cleanup_response_ __attribute__((cleanup(ql_http_response_release)))

int ql_http_new(struct ql_http **ret_http, struct ql_error *err);
/* Every stream opened with it has been freed before. */
void ql_http_free(struct ql_http *http);
QL_DEFINE_CLEANUP(struct ql_http *, ql_http_free)

/* The least time (ns) that a connection took to be made: about a round trip;
 * UINT64_MAX: none was made. */
uint64_t ql_http_rtt(struct ql_http *http);
/* From any thread: every transfer, begun or to come, fails with -ECANCELED. */
void ql_http_abort(struct ql_http *http);
/* Sleeps for ms milliseconds; -ECANCELED (not described) once aborted. */
int ql_http_sleep(struct ql_http *http, uint64_t ms);

/*
 * Sends one request, waits for the answer's headers (whatever the status).
 * Does not follow redirects: see redirect.c.
 * -ECONNREFUSED, -ECONNRESET, -ETIMEDOUT, -EHOSTUNREACH, -EKEYREJECTED (TLS),
 * -ECANCELED, -EPROTO.
 */
int ql_http_open(struct ql_http *http, const struct ql_http_request *rq,
		 struct ql_http_response *ret_rs, struct ql_error *err);
/* The same in two steps: begun, it is the body that there will be (freed at any
 * time); it waits until deadline (ql_now_ns(); UINT64_MAX: as long as it
 * takes). -EAGAIN (not described): not yet.  It stays the caller's when this
 * fails. */
int ql_http_begin(struct ql_http *http, const struct ql_http_request *rq,
		  struct ql_stream **ret_body, struct ql_error *err);
int ql_http_answer(struct ql_stream *body, uint64_t deadline,
		   struct ql_http_response *ret_rs, struct ql_error *err);
/* Reads a body; -EAGAIN (not described): no byte of it came by then. */
ssize_t ql_http_read(struct ql_stream *body, void *buf, size_t len,
		     uint64_t deadline, struct ql_error *err);
/* url resolved against base, owned. */
int ql_http_resolve(const char *base, const char *url, char **ret_url,
		    struct ql_error *err);

/* ---- warm.c: of a ql_http's own; the I/O thread's but where said ---- */

struct ql_warm {
	char *url; /* owned; what is opened, once it is known */
	unsigned int n;
	const struct ql_tls *tls; /* borrowed */
	uint64_t at;		  /* when to begin, ns; 0: not */
	_Atomic uint64_t rtt;	  /* ns; the least that a connection took */

	pthread_mutex_t lock; /* protects all below */
	pthread_cond_t cond;
	unsigned int opening; /* connections that are being opened */
	bool aborted;
};
/* Both from any thread, when no other knows of it. */
void ql_warm_init(struct ql_warm *w);
void ql_warm_release(struct ql_warm *w);
/* Opens n connections to *url (taken where it counts: the first time) unless
 * the first connection of all is there soon. */
void ql_warm_want(struct ql_warm *w, char **url, unsigned int n,
		  const struct ql_tls *tls);
/* A connection took so long; first: of the request that wanted others. */
void ql_warm_connected(struct ql_warm *w, uint64_t ns, bool first);
/* Is there something to be asked for soon? */
bool ql_warm_pending(const struct ql_warm *w);
/* One to be opened now, by a request (borrowed); ql_warm_opened() once it is,
 * or has failed. */
bool ql_warm_next(struct ql_warm *w, struct ql_http_request *ret_rq);
void ql_warm_opened(struct ql_warm *w);
/* From any thread: ql_http_rtt(); waits a round trip at most for those that
 * are being opened, and not once it is aborted. */
uint64_t ql_warm_rtt(struct ql_warm *w);
void ql_warm_abort(struct ql_warm *w);

/* ---- httpupload.c: of a transfer's own ---- */

/* u may be NULL.  0 or a negative errno. */
int ql_upload_keep(const struct ql_http_upload *u,
		   struct ql_http_upload *ret_copy);
void ql_upload_release(struct ql_http_upload *copy);
/* Up to len bytes from pos on. */
ssize_t ql_upload_read(const struct ql_http_upload *u, uint64_t pos, void *buf,
		       size_t len);

/* ---- httpheader.c ---- */

/* Keeps what the response has a member for.  0 or -ENOMEM. */
int ql_http_header_add(struct ql_http_response *rs, const char *line,
		       size_t len);

/* ---- redirect.c ---- */

/*
 * ql_http_open() that follows redirects.  Authorization and the client
 * certificate are for the first origin alone; https never goes on as http.
 */
int ql_http_follow(struct ql_http *http, const struct ql_http_request *rq,
		   struct ql_http_response *ret_rs, struct ql_error *err);
/* Appends the whole body to buf; -EFBIG at once where buf may not grow so. */
int ql_http_body(struct ql_http_response *rs, struct ql_buf *buf,
		 struct ql_error *err);
/* Reads a short body away, so that its connection can be used again. */
void ql_http_drain(struct ql_http_response *rs);
/* An error that another try may not meet (network, not content). */
bool ql_http_error_transient(int error);

#endif
