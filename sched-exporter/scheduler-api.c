/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scheduler's API: a table of routes, and what each does.
 *
 *   POST   /v1/deployments     {"image": "registry.example/app:1",
 *                              "platform": "linux/amd64", "apply": true}
 *   GET    /v1/deployments     all that are known, without details
 *   GET    /v1/deployments/ID  one: its plan, nodes and manifest
 *   DELETE /v1/deployments/ID  cancels it
 *   GET    /healthz
 *
 * An error is {"error": {"code": "ENOENT", "message": "…"}} with a status that
 * fits.  What is not known, a member of a body or a query, is refused.
 */
#include "sched-exporter/scheduler-api.h"

#include <errno.h>
#include <string.h>

#include "sched-exporter/rollouts.h"

enum { RETRY_SECONDS = 5 };

/* A request that has been taken apart. */
struct call {
	struct ql_rollouts *rollouts; /* borrowed */
	const json_t *body;	      /* borrowed; NULL: there is none */
	uint64_t id;		      /* of the path */
};

/* 0 with rs filled; or a negative errno, described. */
typedef int handler_fn(const struct call *call, struct ql_web_response *rs,
		       struct ql_error *err);

/* ---- what is done ---- */

static int on_health(const struct call *call, struct ql_web_response *rs,
		     struct ql_error *err)
{
	(void)call;
	(void)err;
	ql_web_json(rs, 200, json_pack("{s:s}", "status", "ok"));
	return 0;
}

static int ask_read(const json_t *body, struct ql_rollout_ask *ret_ask,
		    struct ql_error *err)
{
	static const char *const known[] = { "image", "platform", "apply",
					     NULL };
	const json_t *platform = json_object_get(body, "platform");
	const json_t *apply = json_object_get(body, "apply");
	struct ql_rollout_ask ask = { 0 };
	int r = ql_json_only(body, known, err);

	if (r == 0)
		r = ql_json_get_string(body, "image", &ask.image, err);
	if (r == 0 && platform && !json_is_string(platform))
		r = ql_error_set(err, -EINVAL, "\"platform\" is no string");
	if (r == 0 && apply && !json_is_boolean(apply))
		r = ql_error_set(err, -EINVAL,
				 "\"apply\" is not true or false");
	if (r < 0)
		return -EINVAL;
	ask.platform = json_string_value(platform);
	ask.plan_only = json_is_false(apply);
	*ret_ask = ask;
	return 0;
}

static int on_add(const struct call *call, struct ql_web_response *rs,
		  struct ql_error *err)
{
	struct ql_rollout_ask ask;
	uint64_t id = 0;
	int r = ask_read(call->body, &ask, err);

	if (r == 0)
		r = ql_rollouts_add(call->rollouts, &ask, &id, err);
	if (r < 0)
		return r;
	ql_web_json(rs, 202,
		    json_pack("{s:I, s:s}", "id", (json_int_t)id, "state",
			      "queued"));
	return 0;
}

static int on_list(const struct call *call, struct ql_web_response *rs,
		   struct ql_error *err)
{
	json_t *list = NULL;
	int r = ql_rollouts_list(call->rollouts, &list, err);

	if (r == 0)
		ql_web_json(rs, 200, list);
	return r;
}

/* Puts a member behind the others of an object that is text: a manifest may be
 * large, and is not to be parsed for that. */
static int member_append(struct ql_buf *text, const char *key,
			 const struct ql_buf *value)
{
	while (text->len > 0 && text->data[text->len - 1] != '}')
		text->len--;
	if (text->len == 0)
		return -EINVAL;
	text->len--;
	if (ql_buf_addf(text, ", \"%s\": ", key) < 0 ||
	    ql_buf_add(text, value->data, value->len) < 0)
		return -ENOMEM;
	return ql_buf_adds(text, "}\n");
}

static int on_show(const struct call *call, struct ql_web_response *rs,
		   struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf manifest = QL_BUF_INIT(QL_QDM_BYTES_MAX);
	json_t *one = NULL;
	int r = ql_rollouts_show(call->rollouts, call->id, &one, &manifest,
				 err);

	if (r < 0)
		return r;
	ql_web_json(rs, 200, one);
	if (rs->status == 200 && manifest.len > 0 &&
	    member_append(&rs->body, "manifest", &manifest) < 0)
		return ql_error_nomem(err);
	return 0;
}

static int on_cancel(const struct call *call, struct ql_web_response *rs,
		     struct ql_error *err)
{
	int r = ql_rollouts_cancel(call->rollouts, call->id, err);

	if (r == 0)
		ql_web_json(rs, 202,
			    json_pack("{s:I}", "id", (json_int_t)call->id));
	return r;
}

/* ---- the table ---- */

static const struct route {
	const char *path; /* one that ends with '/' is followed by an ID */
	const char *method, *methods;
	handler_fn *handler;
	bool body; /* a JSON object is wanted */
} routes[] = {
	{ "/v1/deployments", "POST", "GET, HEAD, POST", on_add, true },
	{ "/v1/deployments", "GET", "GET, HEAD, POST", on_list, false },
	{ "/v1/deployments/", "GET", "GET, HEAD, DELETE", on_show, false },
	{ "/v1/deployments/", "DELETE", "GET, HEAD, DELETE", on_cancel, false },
	{ "/healthz", "GET", "GET, HEAD", on_health, false },
};
enum { ROUTES = sizeof(routes) / sizeof(routes[0]) };

/* Digits alone, the first no 0. */
static bool id_parse(const char *text, uint64_t *ret_id)
{
	size_t len = strlen(text);
	uint64_t id = 0;

	if (len == 0 || len > 18 || text[0] == '0')
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		id = id * 10 + (uint64_t)(*text - '0');
	}
	*ret_id = id;
	return true;
}

static bool path_matches(const struct route *route, const char *path,
			 uint64_t *ret_id)
{
	size_t len = strlen(route->path);

	if (route->path[len - 1] != '/')
		return strcmp(route->path, path) == 0;
	return strncmp(route->path, path, len) == 0 &&
	       id_parse(path + len, ret_id);
}

/* The route, or NULL and the methods that the path has, if any. */
static const struct route *route_find(const struct ql_web_request *rq,
				      uint64_t *ret_id, const char **ret_allow)
{
	*ret_allow = NULL;
	for (size_t i = 0; i < ROUTES; i++) {
		if (!path_matches(&routes[i], rq->path, ret_id))
			continue;
		if (strcmp(routes[i].method, rq->method) == 0)
			return &routes[i];
		*ret_allow = routes[i].methods;
	}
	return NULL;
}

/* ---- taking requests apart ---- */

static int body_parse(const struct route *route,
		      const struct ql_web_request *rq, json_t **ret_body,
		      struct ql_error *err)
{
	_cleanup_json_ json_t *body = NULL;

	if (!route->body)
		return rq->body_len == 0
			       ? 0
			       : ql_error_set(err, -EINVAL,
					      "a body has no use here");
	if (ql_json_parse(rq->body, rq->body_len, &body, err) < 0) {
		(void)ql_error_prefix(err, "body");
		return -EINVAL;
	}
	if (!json_is_object(body))
		return ql_error_set(err, -EINVAL,
				    "body: a JSON object is wanted");
	*ret_body = ql_take_ptr(body);
	return 0;
}

static unsigned int status_of(int code)
{
	static const struct {
		int code;
		unsigned int status;
	} table[] = {
		{ -EINVAL, 400 }, { -ENAMETOOLONG, 400 }, { -ENOENT, 404 },
		{ -EEXIST, 409 }, { -EALREADY, 409 },	  { -EAGAIN, 429 },
		{ -ENOMEM, 503 }, { -ESHUTDOWN, 503 },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].code == code)
			return table[i].status;
	return 500;
}

void ql_scheduler_handle(const struct ql_web_request *rq,
			 struct ql_web_response *rs, void *arg)
{
	struct ql_error err = QL_ERROR_INIT;
	_cleanup_json_ json_t *body = NULL;
	struct call call = { .rollouts = arg };
	const char *allow = NULL;
	const struct route *route = route_find(rq, &call.id, &allow);
	int r = 0;

	if (!route) {
		ql_web_fail(rs, allow ? 405 : 404, allow ? -EINVAL : -ENOENT,
			    allow ? "no such method here" : "no such path");
		rs->allow = allow;
		return;
	}
	if (rq->has_query)
		r = ql_error_set(&err, -EINVAL, "a query has no use here");
	if (r == 0)
		r = body_parse(route, rq, &body, &err);
	call.body = body;
	if (r == 0)
		r = route->handler(&call, rs, &err);
	if (r == 0)
		return;
	ql_web_fail(rs, status_of(r), r, err.text);
	rs->retry_after = r == -EAGAIN || r == -ENOMEM ? RETRY_SECONDS : 0;
}
