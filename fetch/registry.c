/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A registry as a source: OCI distribution-spec 1.1, "Pull" (pulling
 * manifests and blobs), which Docker's registry HTTP API V2 agrees with.
 *
 * A request goes to the mirrors first and to the origin last.  A mirror has
 * one try, since there is another to ask; the origin is asked again after
 * network errors and the statuses that pass, with exponential backoff and
 * jitter, and as Retry-After says where it says so.
 */
#include "fetch/push-private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/random.h>

enum {
	BACKOFF_MS = 250,
	BACKOFF_MAX_MS = 10000,
	RETRY_AFTER_PATIENCE = 60, /* seconds; more is a failure */
};

#define ACCEPT                                                                 \
	"application/vnd.oci.image.index.v1+json, "                            \
	"application/vnd.docker.distribution.manifest.list.v2+json, "          \
	"application/vnd.oci.image.manifest.v1+json, "                         \
	"application/vnd.docker.distribution.manifest.v2+json"

struct ql_registry {
	struct ql_source base;
	const struct ql_ref *ref; /* borrowed */
	struct ql_http *http;	  /* owned */
	struct ql_auth *auth;	  /* owned */
	struct ql_settings settings;
	bool origin_only;      /* mirrors may not have what was just pushed */
	unsigned int warm;     /* connections to open beside the next request */
	atomic_bool fell_back; /* the insecure origin speaks plain HTTP */
	atomic_bool certified; /* a client's certificate was shown */
};

/* What a failed try says about the next. */
struct try_advice {
	bool again;	  /* may succeed later */
	uint64_t wait_ms; /* at least; 0: no matter */
};

static char *request_url(struct ql_registry *reg, const struct ql_endpoint *ep,
			 const char *path)
{
	bool plain = ep->may_fall_back && atomic_load(&reg->fell_back);

	return ql_strf("%s://%s/v2/%s/%s", plain ? "http" : ep->scheme,
		       ep->host, reg->ref->path, path);
}

/* Of the registry itself: the smallest answer that there is. */
static char *registry_url(struct ql_registry *reg, const struct ql_endpoint *ep)
{
	bool plain = ep->may_fall_back && atomic_load(&reg->fell_back);

	return ql_strf("%s://%s/v2/", plain ? "http" : ep->scheme, ep->host);
}

static void advice_set(struct try_advice *advice,
		       const struct ql_http_response *rs, struct ql_error *err)
{
	advice->again = ql_status_transient(rs->status);
	if (!advice->again || rs->retry_after == UINT64_MAX)
		return;
	advice->wait_ms = rs->retry_after * 1000;
	if (rs->retry_after > RETRY_AFTER_PATIENCE) {
		advice->again = false;
		(void)ql_error_prefix(err, "to be asked again in %" PRIu64 " s",
				      rs->retry_after);
	}
}

/* Sends it once, and again where the first answer asked for authorization. */
static int endpoint_try(struct ql_registry *reg, const struct ql_endpoint *ep,
			const struct ql_registry_request *rq,
			struct ql_http_response *ret_rs,
			struct try_advice *advice, struct ql_error *err)
{
	_cleanup_free_ char *url = request_url(reg, ep, rq->path);
	_cleanup_free_ char *warm_url = reg->warm > 0 ? registry_url(reg, ep)
						      : NULL;
	bool ours = !rq->url || (url && ql_url_same_origin(url, rq->url));
	/* Who else may be named there is told nothing of us. */
	struct ql_tls foreign = { .ca = ep->tls.ca,
				  .insecure = ep->tls.insecure };
	struct ql_http_request hrq = {
		.url = rq->url ? rq->url : url,
		.method = rq->method,
		.upload = rq->upload,
		.accept = rq->accept,
		.offset = rq->range.offset,
		.len = rq->range.len,
		.bulk = rq->range.bulk,
		.warm_url = warm_url,
		.warm = reg->warm,
		.tls = ours ? &ep->tls : &foreign,
		.timeouts = reg->settings.timeouts,
	};

	if (!url)
		return ql_error_nomem(err);
	if (ours && ep->tls.cert)
		atomic_store(&reg->certified, true);
	for (bool renewed = false;; renewed = true) {
		_cleanup_response_ struct ql_http_response rs = { 0 };
		_cleanup_free_ char *auth = NULL;
		int r = 0;

		if (ours)
			r = ql_auth_header(reg->auth, ep, reg->ref->path, &auth,
					   err);
		hrq.authorization = auth;
		if (r == 0)
			r = ql_http_follow(reg->http, &hrq, &rs, err);
		if (r < 0) {
			advice->again = ql_http_error_transient(r);
			return r;
		}
		if (rs.status == 200 || rs.status == 206 ||
		    (rq->method && rs.status / 100 == 2)) {
			*ret_rs = rs;
			rs = (struct ql_http_response){ 0 };
			return 0;
		}
		/* An expired token is a 403 to ECR, with no challenge. */
		if (!renewed && ours &&
		    (rs.status == 401 ||
		     (rs.status == 403 && hrq.authorization))) {
			ql_http_drain(&rs);
			r = ql_auth_renew(reg->auth, ep, reg->ref->path,
					  rs.authenticate, auth,
					  reg->settings.timeouts, err);
			if (r == 0)
				continue;
			advice->again = ql_http_error_transient(r);
			return r;
		}
		r = ql_registry_error(&rs, ep->host, err);
		advice_set(advice, &rs, err);
		return r;
	}
}

static uint64_t backoff_ms(unsigned int tries)
{
	uint64_t ms = BACKOFF_MS;
	uint32_t random = 0;

	while (tries-- > 0 && ms < BACKOFF_MAX_MS)
		ms *= 2;
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = (uint32_t)ql_now_ns();
	return ms / 2 + random % ms; /* 0.5 to 1.5 times */
}

int ql_registry_pause(struct ql_registry *reg, unsigned int tries,
		      uint64_t at_least_ms, struct ql_error *err)
{
	uint64_t ms = backoff_ms(tries);
	int r = ql_http_sleep(reg->http, ms > at_least_ms ? ms : at_least_ms);

	return r < 0 ? ql_error_set(err, r, "canceled") : 0;
}

/* No TLS there: where that may be, go on without.  Returns whether to. */
static bool fall_back(struct ql_registry *reg, const struct ql_endpoint *ep,
		      int error)
{
	if (!ep->may_fall_back || error == -ECANCELED ||
	    atomic_load(&reg->fell_back))
		return false;
	if (error != -EKEYREJECTED && error != -ECONNREFUSED &&
	    error != -EPROTO)
		return false;
	atomic_store(&reg->fell_back, true);
	return true;
}

static int endpoint_get(struct ql_registry *reg, const struct ql_endpoint *ep,
			const struct ql_registry_request *rq,
			unsigned int retries, struct ql_http_response *ret_rs,
			struct ql_error *err)
{
	for (unsigned int tries = 0;; tries++) {
		struct try_advice advice = { 0 };
		unsigned int most = retries;
		int r = endpoint_try(reg, ep, rq, ret_rs, &advice, err);

		if (r == 0)
			return 0;
		if (fall_back(reg, ep, r))
			continue;
		/* Each has taken long enough by itself. */
		if (r == -ETIMEDOUT && most > 1)
			most = 1;
		if (!advice.again || tries >= most)
			return r;
		ql_debug("msg=\"trying again\" host=%s error=%d tries=%u",
			 ep->host, r, tries + 1);
		r = ql_registry_pause(reg, tries, advice.wait_ms, err);
		if (r < 0)
			return r;
	}
}

int ql_registry_get(struct ql_registry *reg, const char *path,
		    const char *accept, const struct ql_range *range,
		    struct ql_http_response *ret_rs, struct ql_error *err)
{
	const struct ql_registry_request rq = {
		.path = path,
		.accept = accept,
		.range = range ? *range : (struct ql_range){ 0 },
	};
	size_t n = reg->settings.n_endpoints;
	int r = -EINVAL;

	for (size_t i = reg->origin_only ? n - 1 : 0; i < n; i++) {
		const struct ql_endpoint *ep = &reg->settings.endpoints[i];
		bool last = i == n - 1;

		r = endpoint_get(reg, ep, &rq, last ? reg->settings.retries : 0,
				 ret_rs, err);
		if (r == 0 || r == -ECANCELED)
			return r;
		if (!last)
			ql_debug("msg=\"mirror failed\" host=%s error=%d",
				 ep->host, r);
	}
	return r;
}

static const struct ql_endpoint *origin(const struct ql_registry *reg)
{
	return &reg->settings.endpoints[reg->settings.n_endpoints - 1];
}

void ql_registry_may_push(struct ql_registry *reg)
{
	ql_auth_may_push(reg->auth);
	reg->origin_only = true;
}

char *ql_registry_url(struct ql_registry *reg, const char *path)
{
	return request_url(reg, origin(reg), path);
}

int ql_registry_send(struct ql_registry *reg,
		     const struct ql_registry_request *rq,
		     struct ql_http_response *ret_rs, struct ql_error *err)
{
	return endpoint_get(reg, origin(reg), rq,
			    rq->once ? 0 : reg->settings.retries, ret_rs, err);
}

unsigned int ql_registry_retries(const struct ql_registry *reg)
{
	return reg->settings.retries;
}

/* The digest that the registry states must be that of what it sends. */
static int digest_check(const struct ql_http_response *rs,
			const struct ql_buf *buf, struct ql_error *err)
{
	struct ql_digest stated, actual;
	int r;

	if (!rs->digest || ql_digest_parse(rs->digest, &stated, NULL) < 0)
		return 0;
	r = ql_digest_of(buf->data, buf->len, &actual);
	if (r < 0)
		return ql_error_nomem(err);
	if (!ql_digest_equal(&stated, &actual))
		return ql_error_set(err, -EBADMSG,
				    "manifest: not of the digest that the "
				    "registry states");
	return 0;
}

static int get_manifest(struct ql_source *src, const struct ql_descriptor *d,
			struct ql_buf *buf, char **ret_type,
			struct ql_error *err)
{
	struct ql_registry *reg = (struct ql_registry *)src;
	const struct ql_ref *ref = reg->ref;
	_cleanup_response_ struct ql_http_response rs = { 0 };
	_cleanup_free_ char *path = NULL;
	char digest[QL_DIGEST_TEXT + 1];
	const char *which = ref->tag;
	int r;

	if (d || ref->has_digest)
		which = ql_digest_text(d ? &d->digest : &ref->digest, digest);
	path = ql_strf("manifests/%s", which);
	if (!path)
		return ql_error_nomem(err);
	if (reg->base.lazy && !d)
		reg->warm = QL_SPOOL_CONNECTIONS / 2 - 1;
	r = ql_registry_get(reg, path, ACCEPT, NULL, &rs, err);
	reg->warm = 0;
	if (r == -ENOENT)
		return ql_error_prefix(err, "no such image");
	if (r < 0)
		return ql_error_prefix(err, "manifest");
	r = ql_http_body(&rs, buf, err);
	if (r < 0)
		return ql_error_prefix(err, "manifest");
	r = digest_check(&rs, buf, err);
	if (r < 0)
		return r;
	*ret_type = ql_take_ptr(rs.content_type);
	return 0;
}

static int open_blob(struct ql_source *src, const struct ql_descriptor *d,
		     struct ql_stream **ret_stream, struct ql_error *err)
{
	return ql_registryblob_open((struct ql_registry *)src, d, 0, d->size,
				    ret_stream, err);
}

static int open_range(struct ql_source *src, const struct ql_descriptor *d,
		      uint64_t offset, uint64_t len,
		      struct ql_stream **ret_stream, struct ql_error *err)
{
	return ql_registryblob_open((struct ql_registry *)src, d, offset, len,
				    ret_stream, err);
}

static int registry_referrers(struct ql_source *src,
			      const struct ql_digest *digest,
			      const char *artifact_type, struct ql_buf *buf,
			      struct ql_error *err)
{
	return ql_registry_referrers((struct ql_registry *)src, digest,
				     artifact_type, buf, err);
}

static uint64_t registry_rtt(struct ql_source *src)
{
	uint64_t rtt = ql_http_rtt(((struct ql_registry *)src)->http);

	return rtt == UINT64_MAX ? 0 : rtt;
}

static bool registry_is_anonymous(struct ql_source *src)
{
	struct ql_registry *reg = (struct ql_registry *)src;

	return !atomic_load(&reg->certified) && !ql_auth_has_shown(reg->auth);
}

static void registry_cancel(struct ql_source *src)
{
	ql_http_abort(((struct ql_registry *)src)->http);
}

static void registry_free(struct ql_source *src)
{
	struct ql_registry *reg = (struct ql_registry *)src;

	ql_auth_free(reg->auth);
	ql_http_free(reg->http);
	ql_settings_release(&reg->settings);
	free(reg);
}

static const struct ql_source_ops registry_ops = {
	.get_manifest = get_manifest,
	.open_blob = open_blob,
	.open_range = open_range,
	.referrers = registry_referrers,
	.rtt = registry_rtt,
	.is_anonymous = registry_is_anonymous,
	.cancel = registry_cancel,
	.free = registry_free,
};

int ql_registry_open(const struct ql_ref *ref,
		     const struct ql_pull_options *options,
		     struct ql_source **ret_src, struct ql_error *err)
{
	struct ql_registry *reg = calloc(1, sizeof(*reg));
	int r;

	if (!reg)
		return ql_error_nomem(err);
	reg->base.ops = &registry_ops;
	reg->ref = ref;
	r = ql_settings_load(options->config_dir, ref->domain,
			     options->plain_http, &reg->settings, err);
	if (r == 0)
		r = ql_http_new(&reg->http, err);
	if (r == 0)
		r = ql_auth_new(reg->http, &reg->auth, err);
	if (r < 0) {
		registry_free(&reg->base);
		return r;
	}
	*ret_src = &reg->base;
	return 0;
}
