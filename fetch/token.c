/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokens for a registry (distribution's docs/spec/auth/token.md: GET with
 * Basic credentials or none; oauth.md: POST with a refresh token), and the
 * Basic header (RFC 7617).
 */
#include "fetch/fetch-private.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/evp.h>
#include <string.h>

enum {
	EXPIRES_DEFAULT = 60, /* seconds, by the specification */
	EXPIRES_MAX = 24 * 3600,
	EXPIRES_MARGIN = 5, /* renewed this much earlier */
	URL_MAX = 16 << 10,
	BASIC_MAX = 64 << 10,
};

int ql_token_basic(const struct ql_credentials *c, char **ret_header,
		   struct ql_error *err)
{
	_cleanup_free_ char *plain = ql_strf("%s:%s", c->user, c->password);
	_cleanup_free_ char *text = NULL;
	size_t len;

	if (!plain)
		return ql_error_nomem(err);
	len = strlen(plain);
	if (len > BASIC_MAX)
		return ql_error_set(err, -EINVAL, "the password is too long");
	text = calloc(1, (len + 2) / 3 * 4 + 1);
	if (!text)
		return ql_error_nomem(err);
	(void)EVP_EncodeBlock((unsigned char *)text,
			      (const unsigned char *)plain, (int)len);
	explicit_bzero(plain, len);
	*ret_header = ql_strf("Basic %s", text);
	return *ret_header ? 0 : ql_error_nomem(err);
}

/* Appends "name=value", joined to what is before it. */
static int query_add(struct ql_buf *buf, char join, const char *name,
		     const char *value)
{
	int r;

	if (!value || !*value)
		return 0;
	r = ql_buf_addf(buf, "%c%s=", join, name);
	return r < 0 ? r : ql_url_encode(buf, value);
}

static int url_make(const struct ql_token_request *rq, struct ql_buf *url)
{
	const char *realm = rq->challenge->realm;
	char join = strchr(realm, '?') ? '&' : '?';
	int r = ql_buf_adds(url, realm);

	if (r == 0)
		r = query_add(url, join, "service", rq->challenge->service);
	if (r == 0 && rq->challenge->service)
		join = '&';
	return r < 0 ? r : query_add(url, join, "scope", rq->scope);
}

static int form_make(const struct ql_token_request *rq, struct ql_buf *form)
{
	int r = ql_buf_adds(form,
			    "grant_type=refresh_token&client_id=quicklayer");

	if (r == 0)
		r = query_add(form, '&', "service", rq->challenge->service);
	if (r == 0)
		r = query_add(form, '&', "scope", rq->scope);
	if (r == 0)
		r = query_add(form, '&', "refresh_token",
			      rq->credentials->identity_token);
	return r;
}

static int answer_parse(const struct ql_buf *body, char **ret_token,
			uint64_t *ret_expires, struct ql_error *err)
{
	_cleanup_json_ json_t *json = NULL;
	const char *token;
	json_int_t seconds;
	int r = ql_json_parse(ql_buf_str(body), body->len, &json, err);

	if (r < 0)
		return r;
	token = ql_json_opt_string(json, "token", NULL);
	if (!token || !*token)
		token = ql_json_opt_string(json, "access_token", "");
	for (const char *s = token; *s; s++)
		if (!isgraph((unsigned char)*s))
			token = "";
	if (!*token)
		return ql_error_set(err, -EBADMSG,
				    "there is no token in the answer");
	seconds = json_integer_value(json_object_get(json, "expires_in"));
	if (seconds < EXPIRES_DEFAULT)
		seconds = EXPIRES_DEFAULT;
	if (seconds > EXPIRES_MAX)
		seconds = EXPIRES_MAX;
	*ret_token = strdup(token);
	if (!*ret_token)
		return ql_error_nomem(err);
	*ret_expires =
		ql_now_ns() + (uint64_t)(seconds - EXPIRES_MARGIN) * 1000000000;
	return 0;
}

static int token_request(struct ql_http *http, const struct ql_tls *trust,
			 struct ql_http_request hrq, const char *host,
			 char **ret_token, uint64_t *ret_expires,
			 struct ql_error *err)
{
	_cleanup_response_ struct ql_http_response rs = { 0 };
	_cleanup_buf_ struct ql_buf body = QL_BUF_INIT(QL_TOKEN_MAX);
	struct ql_tls tls = { 0 };
	int r;

	if (trust) {
		/* The client certificate is the registry's affair. */
		tls.ca = trust->ca;
		tls.insecure = trust->insecure;
		hrq.tls = &tls;
	}
	r = ql_http_follow(http, &hrq, &rs, err);
	if (r < 0)
		return r;
	if (rs.status != 200) {
		ql_http_drain(&rs);
		return ql_status_describe(rs.status, host, err);
	}
	r = ql_http_body(&rs, &body, err);
	if (r < 0)
		return r;
	return answer_parse(&body, ret_token, ret_expires, err);
}

int ql_token_fetch(struct ql_http *http, const struct ql_token_request *rq,
		   char **ret_token, uint64_t *ret_expires,
		   struct ql_error *err)
{
	const struct ql_credentials *c = rq->credentials;
	const char *realm = rq->challenge->realm;
	_cleanup_buf_ struct ql_buf url = QL_BUF_INIT(URL_MAX);
	_cleanup_buf_ struct ql_buf form = QL_BUF_INIT(BASIC_MAX);
	_cleanup_free_ char *basic = NULL;
	_cleanup_free_ char *host = NULL;
	struct ql_http_request hrq = { .timeouts = rq->timeouts };
	int r = 0;

	if (!realm)
		return ql_error_set(err, -EBADMSG,
				    "the registry names no token server");
	if (rq->https && !ql_url_is_https(realm))
		return ql_error_set(err, -EPROTO,
				    "the token server %s is not https", realm);
	host = ql_url_host(realm);
	if (!host)
		return ql_error_set(err, -EBADMSG,
				    "\"%s\" is not a token server", realm);
	if (c && c->identity_token) {
		r = form_make(rq, &form);
		hrq.form = ql_buf_str(&form);
		hrq.url = realm;
	} else {
		r = url_make(rq, &url);
		hrq.url = ql_buf_str(&url);
	}
	if (r < 0)
		return ql_error_set(err, r, "the token request is too long");
	if (c && c->user) {
		r = ql_token_basic(c, &basic, err);
		if (r < 0)
			return r;
		hrq.authorization = basic;
	}
	r = token_request(http, rq->tls, hrq, host, ret_token, ret_expires,
			  err);
	return r < 0 ? ql_error_prefix(err, "token server %s", host) : 0;
}
