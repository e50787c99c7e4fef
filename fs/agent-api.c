/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's API: a table of routes, and what each does.
 *
 *   GET    /v1/version              program, root, mountpoint, PID
 *   GET    /v1/images               all, as `quicklayer images --json`
 *   GET    /v1/images/IMAGE         one, as `quicklayer inspect`
 *   DELETE /v1/images/IMAGE         as `quicklayer rmi --json`
 *   POST   /v1/images/IMAGE/pin     and /unpin
 *   POST   /v1/images/IMAGE/promise {"seconds": n}; 0 ends it
 *   POST   /v1/gc                   as `quicklayer gc --json`
 *   POST   /v1/pull                 JSON lines: see agent-pull.c
 *   GET    /v1/pulls/IMAGE          of an image that is being pulled and can
 *                                   be looked at: its digest
 *   GET    /v1/status[?image=IMAGE] as `quicklayer status --json`
 *   GET    /v1/mounts
 *
 * IMAGE is a name or digest, percent-encoded (RFC 3986 §2.1); its slashes may
 * stand as they are.  An error is {"error": {"code": "ENOENT", "message": "…"}}
 * with a status that fits.  What is not known, a member of a body or a query,
 * is refused.
 */
#include <errno.h>
#include <string.h>

#include "fs/agent.h"

/* A request that has been taken apart. */
struct call {
	struct ql_agent *agent; /* borrowed, as all these */
	const char *image;	/* of the path, or of the query; or NULL */
	const json_t *body;	/* or NULL */
};

/* 0 with ret_rs's body or pull set; or a negative errno, described. */
typedef int handler_fn(const struct call *call, struct ql_api_response *rs,
		       struct ql_error *err);

/* ---- what is done ---- */

static int on_version(const struct call *call, struct ql_api_response *rs,
		      struct ql_error *err)
{
	const struct ql_agent *a = call->agent;

	rs->body = json_pack("{s:s, s:i, s:o, s:o, s:I, s:I}", "version",
			     QL_VERSION, "api", 1, "root",
			     ql_json_text(a->root), "mountpoint",
			     ql_json_text(a->mountpoint), "pid",
			     (json_int_t)getpid(), "pulls",
			     (json_int_t)ql_pulls_count(a->pulls));
	return rs->body ? 0 : ql_error_nomem(err);
}

static int on_images(const struct call *call, struct ql_api_response *rs,
		     struct ql_error *err)
{
	return ql_doc_images(call->agent->store, &rs->body, err);
}

static int on_image(const struct call *call, struct ql_api_response *rs,
		    struct ql_error *err)
{
	return ql_doc_image(call->agent->store, call->image, &rs->body, err);
}

static int on_remove(const struct call *call, struct ql_api_response *rs,
		     struct ql_error *err)
{
	return ql_doc_remove(call->agent->store, call->image, call->agent->drop,
			     call->agent->drop_arg, &rs->body, err);
}

static int on_pin(const struct call *call, struct ql_api_response *rs,
		  struct ql_error *err)
{
	return ql_doc_pin(call->agent->store, call->image, true, &rs->body,
			  err);
}

static int on_unpin(const struct call *call, struct ql_api_response *rs,
		    struct ql_error *err)
{
	return ql_doc_pin(call->agent->store, call->image, false, &rs->body,
			  err);
}

/* A member that is no negative number.  -ENOENT: it is not there. */
static int size_member(const struct call *call, const char *key, uint64_t *ret,
		       struct ql_error *err)
{
	const json_t *n = json_object_get(call->body, key);

	if (!n)
		return -ENOENT;
	if (json_integer_value(n) < 0)
		return ql_error_set(err, -EINVAL, "\"%s\" is negative", key);
	*ret = (uint64_t)json_integer_value(n);
	return 0;
}

static int on_promise(const struct call *call, struct ql_api_response *rs,
		      struct ql_error *err)
{
	uint64_t seconds;
	int r = size_member(call, "seconds", &seconds, err);

	if (r == -ENOENT)
		return ql_error_set(err, -EINVAL, "\"seconds\" is missing");
	if (r < 0)
		return r;
	return ql_doc_promise(call->agent->store, call->image, seconds,
			      &rs->body, err);
}

static int on_gc(const struct call *call, struct ql_api_response *rs,
		 struct ql_error *err)
{
	struct ql_gc_ask ask = {
		.dry_run = json_is_true(json_object_get(call->body, "dry_run")),
		.budget = ql_json_opt_string(call->body, "budget", NULL),
		.reserve = ql_json_opt_string(call->body, "reserve", NULL),
	};
	int r = size_member(call, "free", &ask.free, err);

	if (r < 0 && r != -ENOENT)
		return r;
	/* What nobody uses may go, and is not to count as mounted. */
	(void)ql_evictor_let_go(call->agent->evictor);
	return ql_doc_gc(call->agent->store, &ask, &rs->body, err);
}

static uint64_t number(const json_t *json, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(json, key));
}

/* What is being fetched, and for how long still: of an image as fast as
 * content came lately. */
static int add_filling(const struct call *call, json_t *body,
		       struct ql_error *err)
{
	struct ql_fill_stats s = { 0 };
	struct ql_digest digest;
	uint64_t bad;
	json_t *fill;

	if (!call->agent->filler)
		return 0;
	ql_filler_stats(call->agent->filler, &s);
	bad = s.bad_chunks + s.bad_files;
	fill = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
			 "fetched", (json_int_t)s.bytes_fetched, "requests",
			 (json_int_t)s.requests, "peer_requests",
			 (json_int_t)s.peer_requests, "peer_bytes",
			 (json_int_t)s.peer_bytes, "running",
			 (json_int_t)s.running, "queued", (json_int_t)s.queued,
			 "rate", (json_int_t)s.rate, "failures",
			 (json_int_t)s.failures, "bad_chunks", (json_int_t)bad,
			 "timeouts", (json_int_t)s.timeouts);
	if (!fill || json_object_set_new(body, "fill", fill) < 0)
		return ql_error_nomem(err);
	if (call->image && s.rate > 0 &&
	    ql_digest_parse(ql_json_opt_string(body, "digest", ""), &digest,
			    NULL) == 0 &&
	    ql_filler_is_filling(call->agent->filler, &digest))
		(void)json_object_set_new(
			fill, "seconds_left",
			json_integer(
				(json_int_t)((number(body, "bytes") -
					      number(body, "bytes_here") -
					      number(body, "bytes_partly")) /
					     s.rate)));
	return 0;
}

static int on_status(const struct call *call, struct ql_api_response *rs,
		     struct ql_error *err)
{
	int r = call->image ? ql_doc_image_status(call->agent->store,
						  call->image, &rs->body, err)
			    : ql_doc_status(call->agent->store, &rs->body, err);

	if (r == 0 && !call->image)
		(void)json_object_set_new(
			rs->body, "scrub",
			ql_scrubber_json(call->agent->scrubber));
	return r < 0 ? r : add_filling(call, rs->body, err);
}

static int on_mounts(const struct call *call, struct ql_api_response *rs,
		     struct ql_error *err)
{
	return ql_doc_mounts(call->agent->store, &rs->body, err);
}

static int on_pull(const struct call *call, struct ql_api_response *rs,
		   struct ql_error *err)
{
	struct ql_pull_ask ask = {
		.image = ql_json_opt_string(call->body, "image", NULL),
		.platform = ql_json_opt_string(call->body, "platform", NULL),
		.plain_http =
			json_is_true(json_object_get(call->body, "plain_http")),
		.full = json_is_true(json_object_get(call->body, "full")),
	};
	const json_t *n = json_object_get(call->body, "parallel");

	if (!ask.image)
		return ql_error_set(err, -EINVAL, "\"image\" is missing");
	if (n && (json_integer_value(n) < 1 || json_integer_value(n) > 32))
		return ql_error_set(err, -EINVAL,
				    "\"parallel\" is not from 1 to 32");
	ask.parallel = (unsigned int)json_integer_value(n);
	return ql_pulls_join(call->agent->pulls, &ask, &rs->pull, err);
}

static int on_pulled(const struct call *call, struct ql_api_response *rs,
		     struct ql_error *err)
{
	struct ql_digest digest;
	int r = ql_growings_named(call->agent->growings, call->image, &digest,
				  err);

	if (r < 0)
		return r;
	rs->body = json_pack("{s:o}", "digest", ql_json_digest(&digest));
	return rs->body ? 0 : ql_error_nomem(err);
}

static int prefetch(const struct call *call, const struct ql_digest *digest,
		    size_t *ret_missing, struct ql_error *err)
{
	const char *text = ql_json_opt_string(call->body, "trace", NULL);
	_cleanup_(ql_trace_release) struct ql_trace trace = { 0 };
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	int r = text ? ql_trace_parse(text, strlen(text), &trace, err) : 0;

	if (r == -EBADMSG)
		return ql_error_set(err, -EINVAL, "%s", err->text);
	if (r < 0)
		return r;
	r = ql_image_get(call->agent->store, digest, &info);
	if (r < 0)
		return ql_error_errno(err, r, "image");
	return ql_filler_prefetch(call->agent->filler, &info,
				  text ? &trace : NULL, ret_missing, err);
}

/* Answers when all of it is asked for; status tells when it is here. */
static int on_prefetch(const struct call *call, struct ql_api_response *rs,
		       struct ql_error *err)
{
	const char *image = ql_json_opt_string(call->body, "image", NULL);
	_cleanup_free_ char *name = NULL;
	struct ql_digest digest;
	size_t missing = 0;
	int r = 0;

	if (!image)
		return ql_error_set(err, -EINVAL, "\"image\" is missing");
	if (!call->agent->filler)
		return ql_error_set(err, -EOPNOTSUPP, "nothing is lazy here");
	r = ql_find_image(call->agent->store, image, &digest, &name, err);
	if (r == 0)
		r = prefetch(call, &digest, &missing, err);
	if (r < 0)
		return r;
	rs->body = json_pack("{s:o, s:I}", "digest", ql_json_digest(&digest),
			     "missing", (json_int_t)missing);
	return rs->body ? 0 : ql_error_nomem(err);
}

/* ---- the table ---- */

struct member {
	const char *name;
	json_type type; /* JSON_TRUE: a boolean */
};

static const struct member pull_members[] = {
	{ "image", JSON_STRING },     { "platform", JSON_STRING },
	{ "plain_http", JSON_TRUE },  { "full", JSON_TRUE },
	{ "parallel", JSON_INTEGER }, { NULL, JSON_NULL },
};

static const struct member prefetch_members[] = {
	{ "image", JSON_STRING },
	{ "trace", JSON_STRING },
	{ NULL, JSON_NULL },
};

static const struct member promise_members[] = {
	{ "seconds", JSON_INTEGER },
	{ NULL, JSON_NULL },
};

static const struct member gc_members[] = {
	{ "dry_run", JSON_TRUE },  { "free", JSON_INTEGER },
	{ "budget", JSON_STRING }, { "reserve", JSON_STRING },
	{ NULL, JSON_NULL },
};

static const struct route {
	const char *method;
	const char *prefix; /* ends with '/': an image comes next */
	const char *suffix; /* behind the image, or "" */
	handler_fn *handler;
	const struct member *members; /* of the body; NULL: there is none */
	bool query;		      /* takes ?image= */
	enum ql_api_queue queue;
} routes[] = {
	{ "GET", "/v1/version", "", on_version, NULL, false, QL_API_QUICK },
	{ "GET", "/v1/images", "", on_images, NULL, false, QL_API_QUICK },
	{ "GET", "/v1/images/", "", on_image, NULL, false, QL_API_QUICK },
	/* Waits for pulls to end. */
	{ "DELETE", "/v1/images/", "", on_remove, NULL, false, QL_API_SLOW },
	{ "POST", "/v1/images/", "/pin", on_pin, NULL, false, QL_API_QUICK },
	{ "POST", "/v1/images/", "/unpin", on_unpin, NULL, false,
	  QL_API_QUICK },
	{ "POST", "/v1/images/", "/promise", on_promise, promise_members, false,
	  QL_API_QUICK },
	{ "POST", "/v1/gc", "", on_gc, gc_members, false, QL_API_SLOW },
	{ "POST", "/v1/pull", "", on_pull, pull_members, false, QL_API_QUICK },
	{ "GET", "/v1/pulls/", "", on_pulled, NULL, false, QL_API_QUICK },
	{ "POST", "/v1/prefetch", "", on_prefetch, prefetch_members, false,
	  QL_API_SLOW },
	{ "GET", "/v1/status", "", on_status, NULL, true, QL_API_QUICK },
	{ "GET", "/v1/mounts", "", on_mounts, NULL, false, QL_API_QUICK },
};
enum { ROUTES = sizeof(routes) / sizeof(routes[0]) };

/* Whether the path is the route's; then what stands between prefix and suffix
 * (not decoded; empty for a route without an image). */
static bool path_matches(const struct route *route, const char *path,
			 const char **ret_image, size_t *ret_len)
{
	size_t prefix = strlen(route->prefix), suffix = strlen(route->suffix);
	size_t len = strlen(path);
	bool image = route->prefix[prefix - 1] == '/';

	if (strncmp(path, route->prefix, prefix) != 0 ||
	    len < prefix + suffix ||
	    strcmp(path + len - suffix, route->suffix) != 0)
		return false;
	*ret_image = path + prefix;
	*ret_len = len - prefix - suffix;
	return image ? *ret_len > 0 : *ret_len == 0;
}

/* The route, or NULL and the methods that the path has, if any. */
static const struct route *route_find(const struct ql_api_request *rq,
				      const char **ret_image, size_t *ret_len,
				      const char **ret_allow)
{
	*ret_allow = NULL;
	for (size_t i = 0; i < ROUTES; i++) {
		if (!path_matches(&routes[i], rq->path, ret_image, ret_len))
			continue;
		if (strcmp(routes[i].method, rq->method) == 0)
			return &routes[i];
		/* A path ends in "/pin" that is an image's, too. */
		if (*routes[i].suffix == 0 || !*ret_allow)
			*ret_allow = routes[i].handler == on_image ||
						     routes[i].handler ==
							     on_remove
					     ? "GET, DELETE"
					     : routes[i].method;
	}
	return NULL;
}

enum ql_api_queue ql_api_queue(const struct ql_api_request *rq)
{
	const char *image, *allow;
	size_t len;
	const struct route *route = route_find(rq, &image, &len, &allow);

	return route ? route->queue : QL_API_QUICK;
}

/* ---- taking requests apart ---- */

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Percent-decoded, owned.  -EINVAL: no encoding, or a NUL. */
static int decode(const char *text, size_t len, char **ret_text,
		  struct ql_error *err)
{
	_cleanup_free_ char *out = malloc(len + 1);
	size_t n = 0;

	if (!out)
		return ql_error_nomem(err);
	for (size_t i = 0; i < len; i++) {
		int c = (unsigned char)text[i];

		if (c == '%') {
			int high = len - i > 2 ? hex(text[i + 1]) : -1;
			int low = high >= 0 ? hex(text[i + 2]) : -1;

			if (low < 0)
				return ql_error_set(err, -EINVAL,
						    "not percent-encoded");
			c = high << 4 | low;
			i += 2;
		}
		if (c == 0)
			return ql_error_set(err, -EINVAL, "a NUL in a name");
		out[n++] = (char)c;
	}
	out[n] = 0;
	*ret_text = ql_take_ptr(out);
	return 0;
}

static int member_check(const struct member *members, const char *key,
			const json_t *value, struct ql_error *err)
{
	for (; members->name; members++) {
		if (strcmp(members->name, key) != 0)
			continue;
		if (members->type == JSON_TRUE
			    ? json_is_boolean(value)
			    : json_typeof(value) == members->type)
			return 0;
		return ql_error_set(err, -EINVAL, "\"%s\" is of another type",
				    key);
	}
	return ql_error_set(err, -EINVAL, "\"%s\" is not known", key);
}

static int body_parse(const struct route *route,
		      const struct ql_api_request *rq, json_t **ret_body,
		      struct ql_error *err)
{
	_cleanup_json_ json_t *body = NULL;
	const char *key;
	json_t *value;

	if (!route->members)
		return rq->body_len == 0
			       ? 0
			       : ql_error_set(err, -EINVAL,
					      "a body has no use here");
	if (ql_json_parse(rq->body_len ? rq->body : "", rq->body_len, &body,
			  err) < 0) {
		(void)ql_error_prefix(err, "body");
		return -EINVAL;
	}
	if (!json_is_object(body))
		return ql_error_set(err, -EINVAL,
				    "body: a JSON object is wanted");
	json_object_foreach (body, key, value) {
		int r = member_check(route->members, key, value, err);

		if (r < 0)
			return r;
	}
	*ret_body = ql_take_ptr(body);
	return 0;
}

static int args_parse(const struct route *route,
		      const struct ql_api_request *rq, char **ret_image,
		      struct ql_error *err)
{
	for (size_t i = 0; i < rq->n_args; i++) {
		const char *value = rq->args[i].value;

		if (!route->query || strcmp(rq->args[i].key, "image") != 0)
			return ql_error_set(err, -EINVAL,
					    "query: \"%s\" is not known",
					    rq->args[i].key);
		if (!value || !*value || *ret_image)
			return ql_error_set(err, -EINVAL,
					    "query: \"image\" is there twice, "
					    "or empty");
		if (decode(value, strlen(value), ret_image, err) < 0)
			return ql_error_prefix(err, "query");
	}
	return 0;
}

static int run(struct ql_agent *agent, const struct route *route,
	       const struct ql_api_request *rq, const char *image, size_t len,
	       struct ql_api_response *rs, struct ql_error *err)
{
	_cleanup_free_ char *name = NULL;
	_cleanup_json_ json_t *body = NULL;
	struct call call = { .agent = agent };
	int r = 0;

	if (len > 0)
		r = decode(image, len, &name, err);
	if (r == 0)
		r = args_parse(route, rq, &name, err);
	if (r == 0)
		r = body_parse(route, rq, &body, err);
	if (r < 0)
		return r;
	call.image = name;
	call.body = body;
	return route->handler(&call, rs, err);
}

/* ---- answers ---- */

void ql_api_response_release(struct ql_api_response *rs)
{
	json_decref(rs->body);
	ql_pull_client_free(rs->pull);
	*rs = (struct ql_api_response){ 0 };
}

static unsigned int status_of(int code)
{
	static const struct {
		int code;
		unsigned int status;
	} table[] = {
		{ -EINVAL, 400 },	{ -ENAMETOOLONG, 400 },
		{ -EACCES, 403 },	{ -EPERM, 403 },
		{ -ENOENT, 404 },	{ -EBUSY, 409 },
		{ -EOPNOTSUPP, 422 },	{ -ESHUTDOWN, 503 },
		{ -ENOMEM, 503 },	{ -ETIMEDOUT, 504 },
		{ -ECONNREFUSED, 502 }, { -EHOSTUNREACH, 502 },
		{ -ENOSPC, 507 },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].code == code)
			return table[i].status;
	return 500;
}

void ql_api_fail(unsigned int status, int code, const char *text,
		 struct ql_api_response *ret_rs)
{
	*ret_rs = (struct ql_api_response){
		.status = status,
		.body = ql_json_error(code, text),
	};
}

void ql_api_handle(struct ql_agent *agent, const struct ql_api_request *rq,
		   struct ql_api_response *ret_rs)
{
	struct ql_error err = QL_ERROR_INIT;
	const char *image, *allow;
	size_t len;
	const struct route *route = route_find(rq, &image, &len, &allow);
	int r;

	*ret_rs = (struct ql_api_response){ .status = 200 };
	if (!route && allow) {
		ql_api_fail(405, -EINVAL, "no such method here", ret_rs);
		ret_rs->allow = allow;
		return;
	}
	if (!route) {
		ql_api_fail(404, -ENOENT, "no such path", ret_rs);
		return;
	}
	r = run(agent, route, rq, image, len, ret_rs, &err);
	if (r < 0) {
		ql_api_response_release(ret_rs);
		ql_api_fail(status_of(r), r, err.text, ret_rs);
	}
}
