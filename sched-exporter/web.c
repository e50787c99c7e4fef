/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP by libmicrohttpd: a few threads of the library wait for all connections
 * (epoll), and answer themselves, as no handler waits for anything.  An answer
 * is in memory, and goes out with its header in one write.
 *
 * Who may ask is settled before anything of a request is looked at.  A page in
 * a browser of who may ask may not: a browser sends what it is told to, and
 * says so by an Origin (RFC 6454 section 7).
 */
#include "sched-exporter/web.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
	POLLERS = 2,
	CONNECTIONS_MAX = 1024,
	CONNECTIONS_EACH = 64, /* of one address */
	IDLE_SECONDS = 30,
	BODY_MAX = 256 << 20, /* of an answer */
	/* Bytes of a body that are passed over after it was refused, so that
	 * who sends it can read why; then the connection is closed. */
	DRAIN_MAX = 16 << 20,
};

struct ql_web {
	struct ql_web_options options;
	struct MHD_Daemon *mhd; /* owned */
	int fd;			/* owned; listens */
};

/* One request, from its first byte to the end of its answer. */
struct request {
	struct ql_buf body;
	struct ql_web_response rs;
	bool refused;	  /* rs says why */
	uint64_t drained; /* bytes since */
};

/* ---- answers ---- */

void ql_web_response_init(struct ql_web_response *rs)
{
	*rs = (struct ql_web_response){ .status = 200 };
	ql_buf_init(&rs->body, BODY_MAX);
}

void ql_web_response_release(struct ql_web_response *rs)
{
	ql_buf_release(&rs->body);
}

void ql_web_json(struct ql_web_response *rs, unsigned int status, json_t *doc)
{
	_cleanup_json_ json_t *owned = doc;
	_cleanup_free_ char *text = doc ? json_dumps(doc, JSON_INDENT(2))
					: NULL;

	rs->status = status;
	rs->type = "application/json";
	ql_buf_clear(&rs->body);
	if (text && ql_buf_adds(&rs->body, text) == 0 &&
	    ql_buf_adds(&rs->body, "\n") == 0)
		return;
	rs->status = 503;
	ql_buf_clear(&rs->body);
	(void)ql_buf_adds(&rs->body, "{\"error\": {\"code\": \"ENOMEM\", "
				     "\"message\": \"out of memory\"}}\n");
}

void ql_web_fail(struct ql_web_response *rs, unsigned int status, int code,
		 const char *text)
{
	ql_web_json(rs, status, ql_json_error(code, text));
}

static void header(struct MHD_Response *response, const char *name,
		   const char *value)
{
	if (value && *value)
		(void)MHD_add_response_header(response, name, value);
}

/* A refused request ends its connection: what else comes of it is not read. */
static enum MHD_Result answer(struct MHD_Connection *connection,
			      struct request *r)
{
	struct ql_web_response *rs = &r->rs;
	size_t len = rs->body.len;
	char *text = ql_buf_take(&rs->body);
	struct MHD_Response *response =
		text ? MHD_create_response_from_buffer(len, text,
						       MHD_RESPMEM_MUST_FREE)
		     : NULL;
	char seconds[16] = "";
	enum MHD_Result ret;

	if (!response) {
		free(text);
		return MHD_NO;
	}
	if (rs->retry_after > 0)
		(void)snprintf(seconds, sizeof(seconds), "%u", rs->retry_after);
	header(response, MHD_HTTP_HEADER_CONTENT_TYPE, rs->type);
	header(response, MHD_HTTP_HEADER_ALLOW, rs->allow);
	header(response, MHD_HTTP_HEADER_RETRY_AFTER, seconds);
	header(response, MHD_HTTP_HEADER_CONNECTION, r->refused ? "close" : "");
	ret = MHD_queue_response(connection, rs->status, response);
	MHD_destroy_response(response);
	return ret;
}

/* ---- asking ---- */

static bool may_ask(const struct ql_web *web, struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
		connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	struct ql_net_address address;

	if (!info || !info->client_addr ||
	    ql_net_address_of(info->client_addr, &address) < 0)
		return false;
	if (ql_net_is_loopback(&address))
		return true;
	for (size_t i = 0; i < web->options.n_allow; i++)
		if (ql_net_has(&web->options.allow[i], &address))
			return true;
	return false;
}

static void refuse(struct request *r, unsigned int status, int code,
		   const char *text)
{
	r->refused = true;
	ql_web_fail(&r->rs, status, code, text);
}

/* The headers are here. */
static enum MHD_Result begin(const struct ql_web *web,
			     struct MHD_Connection *connection,
			     struct request *r)
{
	const char *length = MHD_lookup_connection_value(
		connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);

	if (!may_ask(web, connection))
		refuse(r, 403, -EACCES, "not for this address");
	else if (MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
					     MHD_HTTP_HEADER_ORIGIN))
		refuse(r, 403, -EACCES, "not for pages in a browser");
	else if (length && strtoull(length, NULL, 10) > web->options.body_max)
		refuse(r, 413, -EFBIG, "the body is too large");
	return r->refused ? answer(connection, r) : MHD_YES;
}

static enum MHD_Result body(struct request *r, const char *data, size_t size)
{
	if (r->refused) {
		r->drained += size;
		return r->drained > DRAIN_MAX ? MHD_NO : MHD_YES;
	}
	if (ql_buf_add(&r->body, data, size) < 0)
		refuse(r, 413, -EFBIG, "the body is too large");
	return MHD_YES;
}

static void handle(const struct ql_web *web, struct MHD_Connection *connection,
		   const char *path, const char *method, struct request *r)
{
	const struct ql_web_request rq = {
		.method = strcmp(method, MHD_HTTP_METHOD_HEAD) == 0
				  ? MHD_HTTP_METHOD_GET
				  : method,
		.path = path,
		.has_query = MHD_get_connection_values(connection,
						       MHD_GET_ARGUMENT_KIND,
						       NULL, NULL) > 0,
		.body = ql_buf_str(&r->body),
		.body_len = r->body.len,
	};

	web->options.handler(&rq, &r->rs, web->options.arg);
}

/* ---- what the library calls ---- */

static void request_free(struct request *r)
{
	ql_web_response_release(&r->rs);
	ql_buf_release(&r->body);
	free(r);
}

static struct request *request_new(const struct ql_web *web)
{
	struct request *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	ql_web_response_init(&r->rs);
	ql_buf_init(&r->body, web->options.body_max);
	return r;
}

/* Called for the header, for each part of a body, and at its end. */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection,
				  const char *path, const char *method,
				  const char *version, const char *data,
				  size_t *size, void **state)
{
	const struct ql_web *web = arg;
	struct request *r = *state;
	enum MHD_Result ret;

	(void)version;
	if (!r) {
		*state = r = request_new(web);
		return r ? begin(web, connection, r) : MHD_NO;
	}
	if (*size > 0) {
		ret = body(r, data, *size);
		*size = 0;
		return ret;
	}
	if (!r->refused)
		handle(web, connection, path, method, r);
	return answer(connection, r);
}

static void on_completed(void *arg, struct MHD_Connection *connection,
			 void **state, enum MHD_RequestTerminationCode code)
{
	(void)arg;
	(void)connection;
	(void)code;
	if (*state)
		request_free(*state);
	*state = NULL;
}

/* Paths stay as they came: they are taken apart before they are decoded. */
static size_t keep_encoded(void *arg, struct MHD_Connection *connection,
			   char *text)
{
	(void)arg;
	(void)connection;
	return strlen(text);
}

__attribute__((format(printf, 2, 0))) static void
on_log(void *arg, const char *fmt, va_list ap)
{
	char text[512];

	(void)arg;
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	text[strcspn(text, "\n")] = 0;
	ql_debug("msg=\"microhttpd\" text=\"%s\"", text);
}

/* ---- life ---- */

int ql_web_new(const struct ql_web_options *options, int fd,
	       struct ql_web **ret_web, struct ql_error *err)
{
	struct ql_web *web = calloc(1, sizeof(*web));

	if (!web) {
		(void)close(fd);
		return ql_error_nomem(err);
	}
	web->options = *options;
	web->fd = fd;
	/* Small writes do not wait for each other: the library sets
	 * TCP_NODELAY. */
	web->mhd = MHD_start_daemon(
		MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ERROR_LOG | MHD_USE_ITC,
		0, NULL, NULL, on_request, web, MHD_OPTION_EXTERNAL_LOGGER,
		on_log, NULL, MHD_OPTION_LISTEN_SOCKET, fd,
		MHD_OPTION_THREAD_POOL_SIZE, (unsigned int)POLLERS,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned int)CONNECTIONS_MAX,
		MHD_OPTION_PER_IP_CONNECTION_LIMIT,
		(unsigned int)CONNECTIONS_EACH, MHD_OPTION_CONNECTION_TIMEOUT,
		(unsigned int)IDLE_SECONDS, MHD_OPTION_UNESCAPE_CALLBACK,
		keep_encoded, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
		NULL, MHD_OPTION_END);
	if (!web->mhd) {
		ql_web_free(web);
		return ql_error_set(err, -EIO, "cannot start the HTTP server");
	}
	*ret_web = web;
	return 0;
}

/* The socket stays ours: what is stopped was quiesced, which gives it back. */
void ql_web_free(struct ql_web *web)
{
	if (!web)
		return;
	if (web->mhd) {
		(void)MHD_quiesce_daemon(web->mhd);
		MHD_stop_daemon(web->mhd);
	}
	(void)close(web->fd);
	free(web);
}
