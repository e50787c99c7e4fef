/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to a program on this node, over a unix socket.  Each has a client
 * of its own, which goes with the answer's body.
 */
#include "fetch/fetch-private.h"

#include <errno.h>
#include <string.h>

enum { CONNECT_SECONDS = 5, PATH_MAX_BYTES = 16 << 10 };

char *ql_local_path(const char *prefix, const char *text, const char *suffix)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(PATH_MAX_BYTES);
	int r = ql_buf_adds(&buf, prefix);

	if (r == 0)
		r = ql_url_encode(&buf, text);
	if (r == 0)
		r = ql_buf_adds(&buf, suffix);
	return r < 0 ? NULL : ql_buf_take(&buf);
}

struct answer {
	struct ql_stream base;
	struct ql_http *http;	 /* owned */
	struct ql_stream *inner; /* owned; freed before http */
};

static ssize_t answer_read(struct ql_stream *s, void *buf, size_t len,
			   struct ql_error *err)
{
	return ql_stream_read(((struct answer *)s)->inner, buf, len, err);
}

static void answer_free(struct ql_stream *s)
{
	struct answer *a = (struct answer *)s;

	ql_stream_free(a->inner);
	ql_http_free(a->http);
	free(a);
}

static const struct ql_stream_ops answer_ops = { answer_read, answer_free };

int ql_local_ask(const char *socket, const char *method, const char *path,
		 const char *body, long *ret_status,
		 struct ql_stream **ret_answer, struct ql_error *err)
{
	_cleanup_free_ char *url = ql_strf("http://localhost%s", path);
	_cleanup_response_ struct ql_http_response rs = { 0 };
	struct ql_http_upload upload = { .type = "application/json",
					 .data = body,
					 .fd = -1,
					 .len = body ? strlen(body) : 0 };
	/* No limit for a silence: an answer may wait for a pull's end. */
	struct ql_http_request rq = {
		.url = url,
		.method = method,
		.unix_socket = socket,
		.upload = body ? &upload : NULL,
		.timeouts = { .connect = CONNECT_SECONDS },
	};
	struct answer *a = calloc(1, sizeof(*a));
	int r;

	if (!a || !url) {
		free(a);
		return ql_error_nomem(err);
	}
	a->base.ops = &answer_ops;
	r = ql_http_new(&a->http, err);
	if (r == 0)
		r = ql_http_open(a->http, &rq, &rs, err);
	if (r < 0) {
		ql_http_free(a->http);
		free(a);
		return r;
	}
	a->inner = ql_take_ptr(rs.body);
	*ret_status = rs.status;
	*ret_answer = &a->base;
	return 0;
}
