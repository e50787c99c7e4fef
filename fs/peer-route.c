/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What other nodes ask and what they are answered: routes, ranges and
 * conditions, without HTTP itself.
 */
#include "fs/peer.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { REPOSITORY_MAX = 1024, FILTER_MAX = 8 << 20 };

/* ---- replies ---- */

void ql_peer_reply_init(struct ql_peer_reply *reply)
{
	*reply =
		(struct ql_peer_reply){ .status = 200, .answer = { .fd = -1 } };
	ql_buf_init(&reply->bytes, QL_API_BODY_MAX);
}

void ql_peer_reply_release(struct ql_peer_reply *reply)
{
	json_decref(reply->json);
	ql_buf_release(&reply->bytes);
	ql_peer_answer_release(&reply->answer);
	ql_peer_reply_init(reply);
}

void ql_peer_reply_fail(struct ql_peer_reply *reply, unsigned int status,
			int code, const char *text)
{
	ql_peer_reply_release(reply);
	reply->status = status;
	reply->retry = status == 503;
	reply->type = "application/json";
	reply->json = ql_json_error(code, text);
}

static void fail(struct ql_peer_reply *reply, int code,
		 const struct ql_error *err)
{
	static const struct {
		int code;
		unsigned int status;
	} table[] = {
		{ -EINVAL, 400 },	{ -EACCES, 403 },
		{ -EPERM, 403 },	{ -ENOENT, 404 },
		{ -EFBIG, 413 },	{ -ERANGE, 416 },
		{ -EAGAIN, 503 },	{ -ECANCELED, 503 },
		{ -ESHUTDOWN, 503 },	{ -ENOMEM, 503 },
		{ -EMFILE, 503 },	{ -ENFILE, 503 },
		{ -ENOSPC, 503 },	{ -EBUSY, 503 },
		{ -ETIMEDOUT, 504 },	{ -ECONNREFUSED, 502 },
		{ -EHOSTUNREACH, 502 }, { -EPROTO, 502 },
	};
	unsigned int status = 500;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].code == code)
			status = table[i].status;
	/* What is wrong here, with its paths, is nobody else's to know. */
	if (status >= 500)
		ql_debug("msg=\"a node is refused\" status=%u error=\"%s\"",
			 status, err->text);
	ql_peer_reply_fail(reply, status, code,
			   status >= 500 || code == -ENOENT ? "" : err->text);
}

/* ---- routes ---- */

static const struct route {
	const char *path; /* one that ends with '/' is followed by a digest */
	const char *methods;
	enum ql_peer_endpoint route;
	enum ql_peer_kind kind;
} routes[] = {
	{ "/v1/objects/", "GET, HEAD", QL_PEER_ENDPOINT_CONTENT,
	  QL_PEER_OBJECT },
	{ "/v1/blobs/", "GET, HEAD", QL_PEER_ENDPOINT_CONTENT, QL_PEER_BLOB },
	{ "/v1/tables/", "GET, HEAD", QL_PEER_ENDPOINT_CONTENT, QL_PEER_TABLE },
	{ "/v1/batch", "POST", QL_PEER_ENDPOINT_BATCH, 0 },
	{ "/v1/summary", "GET, HEAD", QL_PEER_ENDPOINT_SUMMARY, 0 },
	{ "/v1/filter", "GET, HEAD", QL_PEER_ENDPOINT_FILTER, 0 },
	{ "/v1/qdm", "GET, POST", QL_PEER_ENDPOINT_QDM, 0 },
};
enum { ROUTES = sizeof(routes) / sizeof(routes[0]) };

/* Whether a list "A, B" has a word. */
static bool lists(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = list; *p; p += strspn(p, ", ")) {
		size_t n = strcspn(p, ",");

		if (n == len && strncmp(p, name, n) == 0)
			return true;
		p += n;
	}
	return false;
}

/* A digest whose colon may be percent-encoded (RFC 3986 section 2.1); nothing
 * else of it need be. */
static int digest_parse(const char *text, struct ql_digest *ret)
{
	_cleanup_free_ char *plain = NULL;
	const char *percent = strchr(text, '%');

	if (!percent)
		return ql_digest_parse(text, ret, NULL);
	if (percent[1] != '3' || (percent[2] != 'a' && percent[2] != 'A'))
		return -EINVAL;
	plain = ql_strf("%.*s:%s", (int)(percent - text), text, percent + 3);
	return plain ? ql_digest_parse(plain, ret, NULL) : -ENOMEM;
}

bool ql_peer_route_find(struct ql_peer_query *query,
			struct ql_peer_reply *reply)
{
	for (size_t i = 0; i < ROUTES; i++) {
		const struct route *route = &routes[i];
		size_t len = strlen(route->path);
		bool digest = route->path[len - 1] == '/';

		if (strncmp(query->path, route->path, len) != 0 ||
		    (!digest && query->path[len]))
			continue;
		if (!lists(route->methods, query->method)) {
			ql_peer_reply_fail(reply, 405, -EINVAL,
					   "no such method here");
			reply->allow = route->methods;
			return false;
		}
		if (digest &&
		    digest_parse(query->path + len, &query->digest) < 0) {
			ql_peer_reply_fail(reply, 400, -EINVAL,
					   "not a digest: sha256: and 64 "
					   "hexadecimal digits are wanted");
			return false;
		}
		query->route = route->route;
		query->kind = route->kind;
		return true;
	}
	ql_peer_reply_fail(reply, 404, -ENOENT, "no such path");
	return false;
}

/* ---- content ---- */

static int size_parse(const char *text, uint64_t *ret)
{
	uint64_t n = 0;

	if (!text || !*text || text[strspn(text, "0123456789")] != 0)
		return -EINVAL;
	for (; *text; text++)
		if (__builtin_mul_overflow(n, (uint64_t)10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*text - '0'), &n))
			return -EINVAL;
	if (n == 0 || n > INT64_MAX)
		return -EINVAL;
	*ret = n;
	return 0;
}

/* Whence a blob is to be had that is not here.  Who asks for headers alone has
 * nothing fetched. */
static int repository_take(const struct ql_peer_query *query,
			   struct ql_peer_ask *ask, struct ql_error *err)
{
	if (!query->repository || ask->kind != QL_PEER_BLOB)
		return 0;
	if (strlen(query->repository) > REPOSITORY_MAX)
		return ql_error_set(err, -EINVAL,
				    QL_PEER_REPOSITORY " is too long");
	for (const char *p = query->repository; *p; p++)
		if (*p <= ' ' || *p > '~')
			return ql_error_set(err, -EINVAL,
					    QL_PEER_REPOSITORY
					    " is no repository");
	if (size_parse(query->size, &ask->size) < 0)
		return ql_error_set(err, -EINVAL,
				    QL_PEER_SIZE ": a number of bytes is "
						 "wanted");
	if (strcmp(query->method, "HEAD") != 0)
		ask->repository = query->repository;
	return 0;
}

/* The size of what is asked for; 0: it is not known. */
static int size_find(struct ql_peers *peers, const struct ql_peer_ask *ask,
		     uint64_t *ret_size, struct ql_error *err)
{
	struct ql_peer_ask none = *ask;
	struct ql_peer_answer answer = { .fd = -1 };
	int r;

	if (ask->size > 0) {
		*ret_size = ask->size;
		return 0;
	}
	none.offset = 0;
	none.len = 0;
	r = ql_peers_open(peers, &none, &answer, err);
	if (r == 0)
		*ret_size = answer.size;
	ql_peer_answer_release(&answer);
	return r;
}

static int range_take(struct ql_peers *peers, const struct ql_peer_query *query,
		      const char *etag, struct ql_peer_ask *ask,
		      bool *ret_ranged, struct ql_error *err)
{
	struct ql_peer_range range;
	uint64_t size = 0;
	int r;

	ql_peer_range_parse(query->range, &range);
	/* RFC 9110 section 13.1.5: another content is sent as a whole. */
	if (query->if_range && strcmp(query->if_range, etag) != 0)
		range.kind = QL_PEER_RANGE_NONE;
	*ret_ranged = range.kind != QL_PEER_RANGE_NONE;
	ask->len = UINT64_MAX;
	if (range.kind == QL_PEER_RANGE_NONE)
		return 0;
	ask->offset = range.offset;
	ask->len = range.len;
	if (range.kind == QL_PEER_RANGE_FROM)
		return 0;
	r = size_find(peers, ask, &size, err);
	if (r == 0 && range.len == 0)
		r = -ERANGE;
	ask->offset = size > range.len ? size - range.len : 0;
	return r;
}

static void range_tell(const struct ql_peer_ask *ask, bool ranged,
		       struct ql_peer_reply *reply)
{
	const struct ql_peer_answer *a = &reply->answer;
	char size[24] = "*";

	if (a->len == 0 || (!ranged && ask->offset == 0 && a->len == a->size))
		return;
	if (a->size > 0)
		(void)snprintf(size, sizeof(size), "%" PRIu64, a->size);
	reply->status = 206;
	(void)snprintf(reply->content_range, sizeof(reply->content_range),
		       "bytes %" PRIu64 "-%" PRIu64 "/%s", ask->offset,
		       ask->offset + a->len - 1, size);
}

static int content(struct ql_peers *peers, const struct ql_peer_query *query,
		   struct ql_peer_ask *ask, struct ql_peer_reply *reply,
		   struct ql_error *err)
{
	char digest[QL_DIGEST_TEXT + 1];
	bool ranged = false;
	char etag[80] = "";
	int r = repository_take(query, ask, err);

	/* A table may be made anew. */
	if (ask->kind != QL_PEER_TABLE)
		(void)snprintf(etag, sizeof(etag), "\"%s\"",
			       ql_digest_text(&ask->digest, digest));
	if (r == 0)
		r = range_take(peers, query, etag, ask, &ranged, err);
	if (r == 0)
		r = ql_peers_open(peers, ask, &reply->answer, err);
	if (r < 0)
		return r;
	memcpy(reply->etag, etag, sizeof(etag));
	reply->type = "application/octet-stream";
	if (*etag && ql_peer_etag_matches(query->if_none_match, etag)) {
		ql_peer_answer_release(&reply->answer);
		reply->status = 304;
		return 0;
	}
	range_tell(ask, ranged, reply);
	return 0;
}

static void on_content(struct ql_peers *peers,
		       const struct ql_peer_query *query,
		       struct ql_peer_reply *reply)
{
	struct ql_peer_ask ask = { .kind = query->kind,
				   .digest = query->digest,
				   .trusted = query->trusted };
	struct ql_error err = QL_ERROR_INIT;
	uint64_t size = 0;
	int r = content(peers, query, &ask, reply, &err);

	if (r == 0)
		return;
	fail(reply, r, &err);
	if (r == -ERANGE && size_find(peers, &ask, &size, NULL) == 0 &&
	    size > 0)
		(void)snprintf(reply->content_range,
			       sizeof(reply->content_range), "bytes */%" PRIu64,
			       size);
}

/* ---- the others ---- */

static int on_batch(struct ql_peers *peers, const struct ql_peer_query *query,
		    struct ql_peer_reply *reply, struct ql_error *err)
{
	reply->type = "application/vnd.quicklayer.frames";
	reply->chunked = true;
	return ql_peer_frames_new(peers, query->trusted, query->batch,
				  &reply->answer.stream, err);
}

/* False: who asks has it already, or the reply is a failure. */
static bool generation_tell(struct ql_peers *peers,
			    const struct ql_peer_query *query,
			    struct ql_peer_reply *reply)
{
	(void)snprintf(reply->etag, sizeof(reply->etag), "\"%" PRIu64 "\"",
		       ql_peers_generation(peers));
	if (!ql_peer_etag_matches(query->if_none_match, reply->etag))
		return true;
	reply->status = 304;
	return false;
}

static int on_summary(struct ql_peers *peers, const struct ql_peer_query *query,
		      struct ql_peer_reply *reply, struct ql_error *err)
{
	if (!generation_tell(peers, query, reply))
		return 0;
	reply->type = "application/json";
	return ql_peers_summary(peers, query->trusted, &reply->json, err);
}

static int on_filter(struct ql_peers *peers, const struct ql_peer_query *query,
		     struct ql_peer_reply *reply, struct ql_error *err)
{
	if (!generation_tell(peers, query, reply))
		return 0;
	reply->type = "application/octet-stream";
	ql_buf_init(&reply->bytes, FILTER_MAX);
	return ql_peers_filter(peers, query->trusted, &reply->bytes, err);
}

void ql_peer_handle(struct ql_peers *peers, const struct ql_peer_query *query,
		    struct ql_peer_reply *reply)
{
	struct ql_error err = QL_ERROR_INIT;
	int r = 0;

	switch (query->route) {
	case QL_PEER_ENDPOINT_CONTENT:
		on_content(peers, query, reply);
		return;
	case QL_PEER_ENDPOINT_BATCH:
		r = on_batch(peers, query, reply, &err);
		break;
	case QL_PEER_ENDPOINT_SUMMARY:
		r = on_summary(peers, query, reply, &err);
		break;
	case QL_PEER_ENDPOINT_FILTER:
		r = on_filter(peers, query, reply, &err);
		break;
	case QL_PEER_ENDPOINT_QDM:
		ql_peer_qdm(query, reply);
		return;
	}
	if (r < 0)
		fail(reply, r, &err);
}
