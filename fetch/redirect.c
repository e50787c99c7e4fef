/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Redirects (RFC 9110 §15.4) and whole bodies.  Registries hand blobs out to
 * a CDN; what was said to the registry (Authorization, client certificate)
 * is not for the CDN, and may even make it refuse.
 */
#include "fetch/fetch-private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

enum {
	REDIRECTS_MAX = 10,
	DRAIN_MAX = 64 << 10, /* bytes */
};

bool ql_http_error_transient(int error)
{
	switch (error) {
	case -ECONNREFUSED:
	case -ECONNRESET:
	case -ETIMEDOUT:
	case -EHOSTUNREACH:
		return true;
	default:
		return false;
	}
}

/* What sends a body is sent again only where the method is said to stay
 * (RFC 9110 §15.4.8, §15.4.9); a token's form, never. */
static bool is_redirect(const struct ql_http_request *rq,
			const struct ql_http_response *rs)
{
	if (rq->form)
		return false;
	switch (rs->status) {
	case 301:
	case 302:
	case 303:
		return rs->location != NULL && !rq->upload;
	case 307:
	case 308:
		return rs->location != NULL;
	default:
		return false;
	}
}

static int next_url(const char *url, const char *location, char **ret_next,
		    struct ql_error *err)
{
	_cleanup_free_ char *next = NULL;
	int r = ql_http_resolve(url, location, &next, err);

	if (r < 0)
		return r;
	if (!ql_url_is_https(next) && strncasecmp(next, "http://", 7) != 0)
		return ql_error_set(err, -EPROTO,
				    "redirected to %s, which is not HTTP",
				    next);
	if (ql_url_is_https(url) && !ql_url_is_https(next))
		return ql_error_set(err, -EPROTO,
				    "redirected from https to plain HTTP (%s)",
				    next);
	*ret_next = ql_take_ptr(next);
	return 0;
}

int ql_http_follow(struct ql_http *http, const struct ql_http_request *rq,
		   struct ql_http_response *ret_rs, struct ql_error *err)
{
	struct ql_http_request hop = *rq;
	struct ql_tls foreign = { 0 };
	_cleanup_free_ char *url = strdup(rq->url);

	if (!url)
		return ql_error_nomem(err);
	for (int i = 0; i <= REDIRECTS_MAX; i++) {
		_cleanup_response_ struct ql_http_response rs = { 0 };
		_cleanup_free_ char *next = NULL;
		int r;

		hop.url = url;
		r = ql_http_open(http, &hop, &rs, err);
		if (r < 0)
			return r;
		if (!is_redirect(rq, &rs)) {
			*ret_rs = rs;
			rs = (struct ql_http_response){ 0 };
			return 0;
		}
		ql_http_drain(&rs);
		hop.warm_url = NULL; /* who answers next is not known yet */
		r = next_url(url, rs.location, &next, err);
		if (r < 0)
			return r;
		if (!ql_url_same_origin(url, next)) {
			hop.authorization = NULL;
			if (rq->tls) {
				/* What is trusted stays; who we are does not.
				 */
				foreign.ca = rq->tls->ca;
				foreign.insecure = rq->tls->insecure;
				hop.tls = &foreign;
			}
		}
		free(url);
		url = ql_take_ptr(next);
	}
	return ql_error_set(err, -ELOOP, "more than %d redirects",
			    REDIRECTS_MAX);
}

void ql_http_drain(struct ql_http_response *rs)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(DRAIN_MAX);

	(void)ql_http_body(rs, &buf, NULL);
}

int ql_http_body(struct ql_http_response *rs, struct ql_buf *buf,
		 struct ql_error *err)
{
	size_t room = buf->max - buf->len;

	if (rs->length != UINT64_MAX && rs->length > room)
		return ql_error_set(err, -EFBIG,
				    "the answer has %" PRIu64
				    " bytes, more than the limit of %zu",
				    rs->length, room);
	for (;;) {
		char chunk[16384];
		ssize_t n = ql_stream_read(rs->body, chunk, sizeof(chunk), err);
		int r;

		if (n <= 0)
			return (int)n;
		r = ql_buf_add(buf, chunk, (size_t)n);
		if (r == -EFBIG)
			return ql_error_set(
				err, r, "the answer goes on after %zu bytes",
				room);
		if (r < 0)
			return ql_error_nomem(err);
	}
}
