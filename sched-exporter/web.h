/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP for programs of the cluster's side: a request in, an answer out.  Only
 * web.c knows the HTTP library.
 */
#ifndef QL_SCHED_WEB_H
#define QL_SCHED_WEB_H

#include <stdbool.h>
#include <stddef.h>

#include "store/base/base.h"

/* All borrowed for the call. */
struct ql_web_request {
	const char *method; /* "GET" also where it is HEAD */
	const char *path;   /* as it came, percent-encoded, without a query */
	bool has_query;
	const char *body; /* NUL-terminated; "" where there is none */
	size_t body_len;
};

struct ql_web_response {
	unsigned int status;
	const char *type;	  /* Content-Type; borrowed */
	const char *allow;	  /* of status 405; borrowed; or NULL */
	unsigned int retry_after; /* seconds; 0: not said */
	struct ql_buf body;	  /* owned */
};
/* Status 200 and no body. */
void ql_web_response_init(struct ql_web_response *rs);
void ql_web_response_release(struct ql_web_response *rs);
/* A body of JSON; takes doc (NULL: there was no memory for it, and so it is
 * answered). */
void ql_web_json(struct ql_web_response *rs, unsigned int status, json_t *doc);
/* As ql_json_error(), in place of what was answered before. */
void ql_web_fail(struct ql_web_response *rs, unsigned int status, int code,
		 const char *text);

/* Called by one of a few threads that serve everyone: it may not wait. */
typedef void ql_web_handler_fn(const struct ql_web_request *rq,
			       struct ql_web_response *rs, void *arg);

/* All borrowed for the server's life. */
struct ql_web_options {
	const struct ql_net *allow; /* who may ask, but for loopback, which may
				     * always */
	size_t n_allow;
	size_t body_max; /* bytes; more is refused */
	ql_web_handler_fn *handler;
	void *arg;
};

struct ql_web;
/* Serves at a socket that listens (ql_net_listen()), which it takes. */
int ql_web_new(const struct ql_web_options *options, int fd,
	       struct ql_web **ret_web, struct ql_error *err);
/* Ends every connection.  NULL is fine. */
void ql_web_free(struct ql_web *web);
QL_DEFINE_CLEANUP(struct ql_web *, ql_web_free)

#endif
