/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which Authorization to send to whom: a cache of what worked, by registry
 * and repository.  A registry is first asked without; its challenge is kept,
 * so that a token is renewed when it has run out and not only when refused.
 *
 * One lock is held also while a token is fetched: the threads of a pull meet
 * their first 401 together, and one of them alone shall ask.
 */
#include "fetch/fetch-private.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

struct auth_entry {
	struct auth_entry *next; /* owned */
	char *host;		 /* owned */
	char *path;		 /* owned */
	struct ql_challenge challenge;
	struct ql_http_timeouts timeouts;
	char *header;	  /* owned; NULL: none yet */
	uint64_t expires; /* ql_now_ns(); UINT64_MAX: never */
};

struct ql_auth {
	struct ql_http *http; /* borrowed */
	const char *actions;  /* asked for where a registry names no scope */
	pthread_mutex_t lock;
	struct auth_entry *entries; /* owned; lock */
	bool shown;		    /* lock: credentials were sent */
};

int ql_auth_new(struct ql_http *http, struct ql_auth **ret_auth,
		struct ql_error *err)
{
	struct ql_auth *auth = calloc(1, sizeof(*auth));

	if (!auth)
		return ql_error_nomem(err);
	auth->http = http;
	auth->actions = "pull";
	(void)pthread_mutex_init(&auth->lock, NULL);
	*ret_auth = auth;
	return 0;
}

void ql_auth_may_push(struct ql_auth *auth)
{
	auth->actions = "pull,push";
}

static void entry_free(struct auth_entry *e)
{
	ql_challenge_release(&e->challenge);
	free(e->host);
	free(e->path);
	free(e->header);
	free(e);
}

void ql_auth_free(struct ql_auth *auth)
{
	struct auth_entry *e;

	if (!auth)
		return;
	while ((e = auth->entries)) {
		auth->entries = e->next;
		entry_free(e);
	}
	(void)pthread_mutex_destroy(&auth->lock);
	free(auth);
}

static struct auth_entry *entry_find(struct ql_auth *auth, const char *host,
				     const char *path)
{
	struct auth_entry *e = auth->entries;

	while (e && (strcmp(e->host, host) != 0 || strcmp(e->path, path) != 0))
		e = e->next;
	return e;
}

static struct auth_entry *entry_make(struct ql_auth *auth, const char *host,
				     const char *path)
{
	struct auth_entry *e = entry_find(auth, host, path);

	if (e)
		return e;
	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->host = strdup(host);
	e->path = strdup(path);
	if (!e->host || !e->path) {
		entry_free(e);
		return NULL;
	}
	e->next = auth->entries;
	auth->entries = e;
	return e;
}

static int bearer_header(struct ql_auth *auth, const struct ql_endpoint *ep,
			 const struct auth_entry *e,
			 const struct ql_credentials *c, char **ret_header,
			 uint64_t *ret_expires, struct ql_error *err)
{
	_cleanup_free_ char *scope =
		e->challenge.scope
			? strdup(e->challenge.scope)
			: ql_strf("repository:%s:%s", e->path, auth->actions);
	_cleanup_free_ char *token = NULL;
	struct ql_token_request rq = {
		.challenge = &e->challenge,
		.credentials = c,
		.scope = scope,
		.tls = &ep->tls,
		.timeouts = e->timeouts,
		.https = strcmp(ep->scheme, "https") == 0,
	};
	int r;

	if (!scope)
		return ql_error_nomem(err);
	r = ql_token_fetch(auth->http, &rq, &token, ret_expires, err);
	if (r < 0)
		return r;
	*ret_header = ql_strf("Bearer %s", token);
	return *ret_header ? 0 : ql_error_nomem(err);
}

/* Makes e's header anew.  auth->lock is held. */
static int entry_renew(struct ql_auth *auth, const struct ql_endpoint *ep,
		       struct auth_entry *e, struct ql_error *err)
{
	_cleanup_credentials_ struct ql_credentials c = { 0 };
	char *header = NULL;
	uint64_t expires = UINT64_MAX;
	int r = ql_credentials_find(ep->domain, e->path, &c, err);
	bool known = r == 0;

	if (r < 0 && r != -ENOENT)
		return r;
	if (e->challenge.bearer)
		r = bearer_header(auth, ep, e, known ? &c : NULL, &header,
				  &expires, err);
	else if (!e->challenge.basic)
		r = ql_error_set(err, -EACCES,
				 "%s asks for an authentication other than "
				 "Basic and Bearer",
				 ep->host);
	else if (!known || !c.user)
		r = ql_error_set(err, -EACCES,
				 "%s asks for credentials and no auth file "
				 "has any for it (HTTP 401)",
				 ep->host);
	else
		r = ql_token_basic(&c, &header, err);
	if (r < 0)
		return r;
	free(e->header);
	e->header = header;
	e->expires = expires;
	auth->shown = auth->shown || known;
	return 0;
}

bool ql_auth_has_shown(struct ql_auth *auth)
{
	bool shown;

	(void)pthread_mutex_lock(&auth->lock);
	shown = auth->shown;
	(void)pthread_mutex_unlock(&auth->lock);
	return shown;
}

static int header_get(struct ql_auth *auth, const struct ql_endpoint *ep,
		      const char *path, char **ret_header, struct ql_error *err)
{
	struct auth_entry *e = entry_find(auth, ep->host, path);
	int r;

	if (!e || !e->header) {
		*ret_header = NULL;
		return 0;
	}
	if (ql_now_ns() >= e->expires) {
		r = entry_renew(auth, ep, e, err);
		if (r < 0)
			return r;
	}
	*ret_header = strdup(e->header);
	return *ret_header ? 0 : ql_error_nomem(err);
}

int ql_auth_header(struct ql_auth *auth, const struct ql_endpoint *ep,
		   const char *path, char **ret_header, struct ql_error *err)
{
	int r;

	(void)pthread_mutex_lock(&auth->lock);
	r = header_get(auth, ep, path, ret_header, err);
	(void)pthread_mutex_unlock(&auth->lock);
	return r;
}

/* auth->lock is held. */
static int renew(struct ql_auth *auth, const struct ql_endpoint *ep,
		 struct auth_entry *e, const char *challenge, const char *used,
		 struct ql_error *err)
{
	struct ql_challenge c = { 0 };
	int r;

	if (e->header && (!used || strcmp(used, e->header) != 0))
		return 0; /* another thread has renewed it */
	if (challenge) {
		r = ql_challenge_parse(challenge, &c, err);
		if (r < 0)
			return ql_error_prefix(err, "%s", ep->host);
		ql_challenge_release(&e->challenge);
		e->challenge = c;
	} else if (!e->challenge.bearer) {
		return ql_status_describe(403, ep->host, err);
	}
	r = entry_renew(auth, ep, e, err);
	if (r < 0)
		return r;
	if (used && e->header && strcmp(used, e->header) == 0)
		return ql_status_describe(401, ep->host, err);
	return 0;
}

int ql_auth_renew(struct ql_auth *auth, const struct ql_endpoint *ep,
		  const char *path, const char *challenge, const char *used,
		  struct ql_http_timeouts timeouts, struct ql_error *err)
{
	struct auth_entry *e;
	int r;

	(void)pthread_mutex_lock(&auth->lock);
	e = entry_make(auth, ep->host, path);
	if (e) {
		e->timeouts = timeouts;
		r = renew(auth, ep, e, challenge, used, err);
	} else {
		r = ql_error_nomem(err);
	}
	(void)pthread_mutex_unlock(&auth->lock);
	return r;
}
