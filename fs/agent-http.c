/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP on the agent's socket by libmicrohttpd.
 *
 * A few threads of the library wait for all connections (epoll) and never
 * block: a request is answered by one of our own threads (agent-work.c) while
 * its connection is suspended, a pull's lines are sent as they come and its
 * connection sleeps in between.  Removing waits for pulls to end, hence it has
 * a thread of its own.  What is beyond the limit of connections waits in the
 * socket's queue, then the library closes it at once.
 */
#include "fs/http-private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fs/agent.h"

enum {
	POLLERS = 2,
	CONNECTIONS_MAX = 2048,
	IDLE_SECONDS = 60,
	BLOCK = 16 << 10, /* bytes, of a pull's lines at once */
};

static const unsigned int threads[QL_API_QUEUES] = {
	[QL_API_QUICK] = 4,
	[QL_API_SLOW] = 1,
};

struct ql_api_server {
	struct ql_agent *agent;		     /* borrowed */
	struct MHD_Daemon *mhd;		     /* owned */
	struct ql_work *work[QL_API_QUEUES]; /* owned */
};

/* One request, from its first byte to the end of its answer. */
struct request {
	struct ql_job job;
	struct ql_api_server *server;	   /* borrowed */
	struct MHD_Connection *connection; /* borrowed */
	char *method, *path;		   /* owned */
	struct ql_buf body;
	bool too_large, asked, answered;
	struct ql_api_request rq;
	struct ql_api_response rs;
};

static void request_free(struct request *r)
{
	if (!r)
		return;
	ql_api_response_release(&r->rs);
	ql_buf_release(&r->body);
	free(r->method);
	free(r->path);
	free(r);
}

static struct request *request_new(struct ql_api_server *server,
				   struct MHD_Connection *connection,
				   const char *path, const char *method)
{
	struct request *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	ql_buf_init(&r->body, QL_API_BODY_MAX);
	r->server = server;
	r->connection = connection;
	r->method = strdup(method);
	r->path = strdup(path);
	if (!r->method || !r->path) {
		request_free(r);
		return NULL;
	}
	return r;
}

/* ---- asking ---- */

static enum MHD_Result add_arg(void *arg, enum MHD_ValueKind kind,
			       const char *key, const char *value)
{
	struct ql_api_request *rq = arg;

	(void)kind;
	if (rq->n_args == QL_API_ARGS_MAX)
		return MHD_NO;
	rq->args[rq->n_args++] = (struct ql_api_arg){ key, value };
	return MHD_YES;
}

static void job_run(struct ql_job *job)
{
	struct request *r = (struct request *)job;

	ql_api_handle(r->server->agent, &r->rq, &r->rs);
	r->answered = true;
	MHD_resume_connection(r->connection);
}

/* Whether it is answered already. */
static bool ask(struct request *r)
{
	struct ql_api_request *rq = &r->rq;

	r->asked = true;
	rq->method = r->method;
	rq->path = r->path;
	rq->body = ql_buf_str(&r->body);
	rq->body_len = r->body.len;
	if (r->too_large) {
		ql_api_fail(413, -EFBIG, "the body is too large", &r->rs);
		r->answered = true;
		return true;
	}
	(void)MHD_get_connection_values(r->connection, MHD_GET_ARGUMENT_KIND,
					add_arg, rq);
	r->job.run = job_run;
	MHD_suspend_connection(r->connection);
	if (ql_work_add(r->server->work[ql_api_queue(rq)], &r->job) < 0) {
		ql_api_fail(503, -ESHUTDOWN, "the agent is stopping", &r->rs);
		r->answered = true;
		MHD_resume_connection(r->connection);
	}
	return false;
}

/* ---- answering ---- */

static void pull_sleep(void *arg)
{
	MHD_suspend_connection(arg);
}

static void pull_wake(void *arg)
{
	MHD_resume_connection(arg);
}

static ssize_t pull_read(void *arg, uint64_t pos, char *buf, size_t max)
{
	ssize_t n = ql_pull_client_read(arg, buf, max);

	(void)pos;
	return n < 0 ? MHD_CONTENT_READER_END_OF_STREAM : n;
}

static void pull_free(void *arg)
{
	ql_pull_client_free(arg);
}

static struct MHD_Response *response_of(struct request *r)
{
	struct ql_pull_client *client = r->rs.pull;
	char *text;
	size_t len;

	if (client) {
		r->rs.pull = NULL; /* the response's now */
		ql_pull_client_hooks(client, pull_sleep, pull_wake,
				     r->connection);
		return MHD_create_response_from_callback(
			MHD_SIZE_UNKNOWN, BLOCK, pull_read, client, pull_free);
	}
	text = r->rs.body ? json_dumps(r->rs.body, JSON_INDENT(2)) : NULL;
	if (!text)
		return NULL;
	len = strlen(text);
	text[len] = '\n'; /* in place of the NUL */
	return MHD_create_response_from_buffer(len + 1, text,
					       MHD_RESPMEM_MUST_FREE);
}

static enum MHD_Result answer(struct request *r)
{
	const char *type = r->rs.pull ? "application/x-ndjson"
				      : "application/json";
	struct MHD_Response *response = response_of(r);
	enum MHD_Result ret;

	if (!response)
		return MHD_NO;
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
				      type);
	if (r->rs.allow)
		(void)MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW,
					      r->rs.allow);
	ret = MHD_queue_response(r->connection, r->rs.status, response);
	MHD_destroy_response(response);
	return ret;
}

/* ---- what the library calls ---- */

/* Called for the header, for each part of a body, at its end, and once more
 * after the connection was suspended. */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection,
				  const char *path, const char *method,
				  const char *version, const char *data,
				  size_t *size, void **state)
{
	struct request *r = *state;

	(void)version;
	if (!r) {
		*state = request_new(arg, connection, path, method);
		return *state ? MHD_YES : MHD_NO;
	}
	if (*size > 0) {
		if (ql_buf_add(&r->body, data, *size) < 0)
			r->too_large = true;
		*size = 0;
		return MHD_YES;
	}
	/* While a job runs, what it writes is not to be looked at; nobody
	 * calls here before it is done. */
	if (!r->asked && !ask(r))
		return MHD_YES;
	return r->answered ? answer(r) : MHD_YES;
}

static void on_completed(void *arg, struct MHD_Connection *connection,
			 void **state, enum MHD_RequestTerminationCode code)
{
	(void)arg;
	(void)connection;
	(void)code;
	request_free(*state);
	*state = NULL;
}

size_t ql_mhd_keep_encoded(void *arg, struct MHD_Connection *connection,
			   char *text)
{
	(void)arg;
	(void)connection;
	return strlen(text);
}

void ql_mhd_log(void *arg, const char *fmt, va_list ap)
{
	char text[512];

	(void)arg;
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	text[strcspn(text, "\n")] = 0;
	ql_debug("msg=\"microhttpd\" text=\"%s\"", text);
}

/* ---- life ---- */

static struct MHD_Daemon *daemon_start(struct ql_api_server *server, int fd)
{
	return MHD_start_daemon(
		MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME |
			MHD_USE_ERROR_LOG | MHD_USE_ITC,
		0, NULL, NULL, on_request, server, MHD_OPTION_EXTERNAL_LOGGER,
		ql_mhd_log, NULL, MHD_OPTION_LISTEN_SOCKET, fd,
		MHD_OPTION_THREAD_POOL_SIZE, (unsigned int)POLLERS,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned int)CONNECTIONS_MAX,
		MHD_OPTION_CONNECTION_TIMEOUT, (unsigned int)IDLE_SECONDS,
		MHD_OPTION_UNESCAPE_CALLBACK, ql_mhd_keep_encoded, NULL,
		MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
		MHD_OPTION_END);
}

int ql_api_server_new(struct ql_agent *agent, int fd,
		      struct ql_api_server **ret_server, struct ql_error *err)
{
	struct ql_api_server *server = calloc(1, sizeof(*server));
	int r = 0;

	if (!server)
		return ql_error_nomem(err);
	server->agent = agent;
	for (int i = 0; i < QL_API_QUEUES && r == 0; i++)
		r = ql_work_new(threads[i], &server->work[i], err);
	if (r == 0) {
		server->mhd = daemon_start(server, fd);
		if (!server->mhd)
			r = ql_error_set(err, -EIO,
					 "cannot start the HTTP server");
	}
	if (r < 0) {
		ql_api_server_free(server);
		return r;
	}
	*ret_server = server;
	return 0;
}

/* No connection may be suspended when the library stops: first nobody comes
 * any more, then every job runs to its end and every pull ends. */
void ql_api_server_free(struct ql_api_server *server)
{
	int fd = -1;

	if (!server)
		return;
	if (server->mhd) {
		fd = MHD_quiesce_daemon(server->mhd);
		ql_pulls_stop(server->agent->pulls);
	}
	for (int i = 0; i < QL_API_QUEUES; i++)
		ql_work_stop(server->work[i]);
	if (server->mhd)
		MHD_stop_daemon(server->mhd);
	if (fd >= 0)
		(void)close(fd);
	for (int i = 0; i < QL_API_QUEUES; i++)
		ql_work_free(server->work[i]);
	free(server);
}
