/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to agents of other machines. */
#include "fetch/fetch-private.h"

#include <errno.h>
#include <string.h>

enum { SECONDS = 10, CONNECT_SECONDS = 3 };

struct ql_remote {
	struct ql_http *http; /* owned */
	struct ql_tls tls;    /* borrowed */
	bool secure;
	unsigned int seconds;
};

int ql_remote_new(const struct ql_remote_options *options,
		  struct ql_remote **ret_remote, struct ql_error *err)
{
	struct ql_remote *remote = calloc(1, sizeof(*remote));
	int r;

	if (!remote)
		return ql_error_nomem(err);
	remote->secure = options->ca != NULL;
	remote->tls.ca = (char *)options->ca;
	remote->tls.cert = (char *)options->cert;
	remote->tls.key = (char *)options->key;
	remote->seconds = options->seconds ? options->seconds : SECONDS;
	r = ql_http_new(&remote->http, err);
	if (r < 0) {
		free(remote);
		return r;
	}
	*ret_remote = remote;
	return 0;
}

void ql_remote_free(struct ql_remote *remote)
{
	if (!remote)
		return;
	ql_http_free(remote->http);
	free(remote);
}

void ql_remote_cancel(struct ql_remote *remote)
{
	ql_http_abort(remote->http);
}

/* {"error": {"message": "…"}}, or not even that. */
static int refused(const char *address, long status, const char *data,
		   size_t len, struct ql_error *err)
{
	_cleanup_json_ json_t *doc = NULL;
	const char *why = NULL;

	if (ql_json_parse(data, len, &doc, NULL) == 0)
		why = ql_json_opt_string(json_object_get(doc, "error"),
					 "message", NULL);
	return ql_error_set(err, -EREMOTEIO, "%s: HTTP %ld%s%s", address,
			    status, why ? ": " : "", why ? why : "");
}

int ql_remote_ask(struct ql_remote *remote, const char *address,
		  const char *method, const char *path, const char *body,
		  struct ql_buf *buf, long *ret_status, struct ql_error *err)
{
	_cleanup_free_ char *url = ql_strf(
		"%s://%s%s", remote->secure ? "https" : "http", address, path);
	_cleanup_response_ struct ql_http_response rs = { 0 };
	struct ql_http_upload upload = { .type = "application/json",
					 .data = body,
					 .fd = -1,
					 .len = body ? strlen(body) : 0 };
	struct ql_http_request rq = {
		.url = url,
		.method = method,
		.upload = body ? &upload : NULL,
		.tls = remote->secure ? &remote->tls : NULL,
		.timeouts = { .connect = CONNECT_SECONDS,
			      .stall = remote->seconds },
	};
	size_t start = buf->len;
	int r;

	if (!url)
		return ql_error_nomem(err);
	r = ql_http_open(remote->http, &rq, &rs, err); /* names the host */
	if (r < 0)
		return r;
	r = ql_http_body(&rs, buf, err);
	if (r < 0)
		return ql_error_prefix(err, "%s", address);
	if (ret_status)
		*ret_status = rs.status;
	if (rs.status / 100 == 2)
		return 0;
	r = refused(address, rs.status, ql_buf_str(buf) + start,
		    buf->len - start, err);
	buf->len = start;
	return r;
}
