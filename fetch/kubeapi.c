/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading from a Kubernetes API: kubernetes.io/docs, "Accessing the Kubernetes
 * API from a Pod" (where it is, whose certificates, by which token) and
 * "Kubernetes API Concepts" (a refusal is a Status, whose message says why).
 */
#include "fetch/fetch-private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum {
	CONNECT_SECONDS = 5,
	STALL_SECONDS = 30,
	TOKEN_MAX = 64 << 10, /* bytes */
};

#define POD_DIR "/var/run/secrets/kubernetes.io/serviceaccount"

struct ql_kubeapi {
	struct ql_http *http; /* owned */
	char *url;	      /* owned; no "/" at its end */
	char *bearer;	      /* owned; "Bearer TOKEN", or NULL */
	struct ql_tls tls;    /* borrowed */
};

#define BEARER "Bearer "

/* ---- where it is ---- */

static int pod_url(char **ret_url, struct ql_error *err)
{
	const char *host = getenv("KUBERNETES_SERVICE_HOST");
	const char *port = getenv("KUBERNETES_SERVICE_PORT");
	bool v6;

	if (!host || !*host || !port || !*port)
		return ql_error_set(err, -ENOENT,
				    "no Kubernetes API is known: this is no "
				    "pod (KUBERNETES_SERVICE_HOST and _PORT "
				    "are not set), and no URL was given");
	v6 = strchr(host, ':') != NULL;
	*ret_url = ql_strf("https://%s%s%s:%s", v6 ? "[" : "", host,
			   v6 ? "]" : "", port);
	return *ret_url ? 0 : ql_error_nomem(err);
}

/* What stands before a "@" would be credentials, and shown in messages. */
static int url_check(const char *url, bool with_token, struct ql_error *err)
{
	_cleanup_free_ char *host = NULL;
	bool plain = strncasecmp(url, "http://", 7) == 0;

	if (strchr(url, '@'))
		return ql_error_set(err, -EINVAL,
				    "the Kubernetes API's URL has a \"@\"");
	if ((!plain && !ql_url_is_https(url)) || strpbrk(url, "?# \t\r\n"))
		return ql_error_set(err, -EINVAL,
				    "%.200s: is no URL as in "
				    "\"https://HOST:PORT\"",
				    url);
	host = ql_url_host(url);
	if (!host)
		return ql_error_nomem(err);
	if (!*host)
		return ql_error_set(err, -EINVAL, "%.200s: names no host", url);
	if (plain && with_token && !ql_url_host_is_loopback(host))
		return ql_error_set(err, -EINVAL,
				    "%.200s: the token would be sent in the "
				    "clear; https is wanted",
				    url);
	return 0;
}

/* The line of a header, of RFC 6750 §2.1's characters alone: what else stands
 * in the file must not become one of its own. */
static int bearer_read(const char *path, char **ret_bearer,
		       struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(TOKEN_MAX);
	size_t len;
	int r = ql_buf_adds(&buf, BEARER);

	if (r < 0)
		return ql_error_nomem(err);
	r = ql_read_file(AT_FDCWD, path, &buf, err);
	if (r < 0)
		return r;
	len = buf.len;
	while (len > strlen(BEARER) && strchr(" \r\n", buf.data[len - 1]))
		len--;
	for (size_t i = strlen(BEARER); i < len; i++)
		if (buf.data[i] <= ' ' || buf.data[i] > '~')
			return ql_error_set(err, -EBADMSG,
					    "%s: there is more than a token",
					    path);
	if (len == strlen(BEARER))
		return ql_error_set(err, -EBADMSG, "%s: there is no token",
				    path);
	buf.data[len] = '\0';
	*ret_bearer = ql_buf_take(&buf);
	return *ret_bearer ? 0 : ql_error_nomem(err);
}

static int settle(struct ql_kubeapi *api,
		  const struct ql_kubeapi_options *options,
		  struct ql_error *err)
{
	const char *token = options->token;
	size_t len;
	int r = 0;

	api->tls.ca = (char *)options->ca;
	if (options->url) {
		api->url = strdup(options->url);
		if (!api->url)
			return ql_error_nomem(err);
	} else {
		r = pod_url(&api->url, err);
		if (!token)
			token = POD_DIR "/token";
		if (!api->tls.ca)
			api->tls.ca = (char *)POD_DIR "/ca.crt";
	}
	if (r == 0)
		r = url_check(api->url, token != NULL, err);
	if (r == 0 && token)
		r = bearer_read(token, &api->bearer, err);
	if (r < 0)
		return r;
	for (len = strlen(api->url); api->url[len - 1] == '/'; len--)
		api->url[len - 1] = '\0';
	api->tls.ca_alone = api->tls.ca != NULL;
	/* libcurl would take one that is not there for a bad certificate. */
	if (api->tls.ca && access(api->tls.ca, R_OK) < 0)
		return ql_error_errno(err, -errno, "%s", api->tls.ca);
	return 0;
}

int ql_kubeapi_new(const struct ql_kubeapi_options *options,
		   struct ql_kubeapi **ret_api, struct ql_error *err)
{
	_cleanup_(ql_kubeapi_freep) struct ql_kubeapi *api =
		calloc(1, sizeof(*api));
	int r;

	if (!api)
		return ql_error_nomem(err);
	r = settle(api, options, err);
	if (r == 0)
		r = ql_http_new(&api->http, err);
	if (r < 0)
		return r;
	*ret_api = ql_take_ptr(api);
	return 0;
}

void ql_kubeapi_free(struct ql_kubeapi *api)
{
	if (!api)
		return;
	ql_http_free(api->http);
	free(api->bearer);
	free(api->url);
	free(api);
}

const char *ql_kubeapi_url(const struct ql_kubeapi *api)
{
	return api->url;
}

/* ---- asking ---- */

/* A Status: {"message": "…"}.  Not shown if somebody put the token into it. */
static int refused(long status, const char *data, size_t len,
		   const char *bearer, struct ql_error *err)
{
	_cleanup_json_ json_t *doc = NULL;
	const char *why = NULL;
	int code = -EREMOTEIO;

	if (ql_json_parse(data, len, &doc, NULL) == 0)
		why = ql_json_opt_string(doc, "message", NULL);
	if (why && bearer && strstr(why, bearer + strlen(BEARER)))
		why = NULL;
	if (status == 401 || status == 403)
		code = -EACCES;
	else if (status == 404)
		code = -ENOENT;
	return ql_error_set(err, code, "HTTP %ld%s%.400s", status,
			    why ? ": " : "", why ? why : "");
}

static int ask(struct ql_kubeapi *api, const char *path, struct ql_buf *buf,
	       struct ql_error *err)
{
	_cleanup_free_ char *url = ql_strf("%s%s", api->url, path);
	_cleanup_response_ struct ql_http_response rs = { 0 };
	const struct ql_http_request rq = {
		.url = url,
		.authorization = api->bearer,
		.accept = "application/json",
		.tls = &api->tls,
		.timeouts = { .connect = CONNECT_SECONDS,
			      .stall = STALL_SECONDS },
	};
	size_t start = buf->len;
	int r;

	if (!url)
		return ql_error_nomem(err);
	r = ql_http_open(api->http, &rq, &rs, err);
	if (r == 0)
		r = ql_http_body(&rs, buf, err);
	if (r < 0 || rs.status / 100 == 2)
		return r;
	r = refused(rs.status, ql_buf_str(buf) + start, buf->len - start,
		    api->bearer, err);
	buf->len = start;
	return r;
}

int ql_kubeapi_get(struct ql_kubeapi *api, const char *path, struct ql_buf *buf,
		   struct ql_error *err)
{
	int r = ask(api, path, buf, err);

	return r < 0 ? ql_error_prefix(err, "Kubernetes API %s", api->url) : 0;
}
