/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What other nodes ask, by HTTP over TCP.
 *
 * Each connection has a thread of the library's: an answer may wait for what is
 * coming, and for its turn where there is a rate.  A file is sent by the kernel
 * where nothing has to be done with it in between (no TLS, no rate).
 *
 * Who may ask is settled before anything of a request is looked at: with TLS by
 * the handshake (agent-tls.c), without it by the address.  One more thread
 * looks whether certificates have changed.
 */
#include "fs/http-private.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

#include "fs/peer.h"

enum {
	STACK = 256 << 10, /* bytes, of a connection's thread */
	CONNECTIONS_MAX = 1024,
	CONNECTIONS_EACH = 64, /* of one address */
	MANIFESTS_MAX = 4,     /* at once: each may be large */
	IDLE_SECONDS = 30,
	LOOK_SECONDS = 1,
	BLOCK = 64 << 10,
	/* Bytes of a body that are passed over after it was refused, so that
	 * who sends it can read why; then the connection is closed. */
	DRAIN_MAX = 64 << 20,
};
#define SECOND ((uint64_t)1000000000)

struct ql_peer_server {
	struct ql_peers *peers;		    /* borrowed */
	struct ql_deployments *deployments; /* borrowed; or NULL */
	struct MHD_Daemon *mhd;		    /* owned */
	struct ql_peer_rates *rates;	    /* owned */
	struct ql_tls_server *tls;	    /* owned; NULL: there is none */
	struct ql_net *allow;		    /* owned */
	size_t n_allow;
	int fd;		       /* owned; listens */
	atomic_uint manifests; /* that are being sent to us */
	pthread_t watcher;
	bool watches;
	pthread_mutex_t lock; /* protects all below */
	pthread_cond_t wake;
	bool stop, look;
};

/* One request, from its first byte to the end of its answer. */
struct request {
	struct ql_peer_query query;
	struct ql_peer_batch batch;
	struct ql_buf body;
	struct ql_peer_reply reply;
	atomic_uint *counted; /* borrowed; one of its count; or NULL */
	bool refused;	      /* the reply says why */
	uint64_t drained;     /* bytes since */
};

/* What is being sent. */
struct sending {
	struct ql_peer_server *server;	   /* borrowed */
	struct MHD_Connection *connection; /* borrowed */
	struct ql_peer_rate *rate;	   /* or NULL */
	struct ql_peer_answer answer;	   /* owned */
	bool chunked;			   /* it ends when it ends */
};

/* ---- waiting ---- */

/* False: the server is stopping.  look: also until somebody wants that. */
static bool wait_ns(struct ql_peer_server *server, uint64_t ns, bool look)
{
	uint64_t until = ql_now_ns() + ns;
	struct timespec ts = { .tv_sec = (time_t)(until / SECOND),
			       .tv_nsec = (long)(until % SECOND) };
	bool go, late = false;

	(void)pthread_mutex_lock(&server->lock);
	while (!server->stop && !(look && server->look) && !late)
		late = pthread_cond_timedwait(&server->wake, &server->lock,
					      &ts) == ETIMEDOUT;
	if (look)
		server->look = false;
	go = !server->stop;
	(void)pthread_mutex_unlock(&server->lock);
	return go;
}

/* The library counts the time that we wait as the other's. */
static void clock_stop(struct MHD_Connection *connection)
{
	(void)MHD_set_connection_option(connection,
					MHD_CONNECTION_OPTION_TIMEOUT, 0U);
}

static void clock_go_on(struct MHD_Connection *connection)
{
	(void)MHD_set_connection_option(connection,
					MHD_CONNECTION_OPTION_TIMEOUT,
					(unsigned int)IDLE_SECONDS);
}

/* ---- who asks ---- */

static int address_of(struct MHD_Connection *connection,
		      struct ql_net_address *ret)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
		connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);

	return info && info->client_addr
		       ? ql_net_address_of(info->client_addr, ret)
		       : -EAFNOSUPPORT;
}

/* It has shown a certificate: without, the handshake has failed. */
static bool is_trusted(const struct ql_peer_server *server,
		       struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info;

	if (!server->tls)
		return false;
	info = MHD_get_connection_info(connection,
				       MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	return info && info->socket_context;
}

static bool is_allowed(const struct ql_peer_server *server,
		       const struct ql_net_address *address)
{
	for (size_t i = 0; i < server->n_allow; i++)
		if (ql_net_has(&server->allow[i], address))
			return true;
	return false;
}

/* Whoever is on this machine may have content; to say what is deployed, an
 * address has to be allowed by name, as any user here has the loopback's. */
static bool may_ask(const struct ql_peer_server *server,
		    struct MHD_Connection *connection, bool deploys)
{
	struct ql_net_address address;

	if (server->tls)
		return is_trusted(server, connection);
	if (address_of(connection, &address) < 0)
		return false;
	return (!deploys && ql_net_is_loopback(&address)) ||
	       is_allowed(server, &address);
}

static bool deploys(const struct ql_peer_query *query)
{
	return query->route == QL_PEER_ENDPOINT_QDM &&
	       strcmp(query->method, "POST") == 0;
}

/* A connection begins (before its handshake), or is gone. */
static void on_connection(void *arg, struct MHD_Connection *connection,
			  void **context,
			  enum MHD_ConnectionNotificationCode code)
{
	struct ql_peer_server *server = arg;
	const union MHD_ConnectionInfo *info;
	struct ql_tls_use *use = NULL;

	if (!server->tls)
		return;
	if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
		ql_tls_use_put(server->tls, *context);
		*context = NULL;
		return;
	}
	info = MHD_get_connection_info(connection,
				       MHD_CONNECTION_INFO_GNUTLS_SESSION);
	if (info && info->tls_session &&
	    ql_tls_server_begin(server->tls, info->tls_session, &use) == 0)
		*context = use;
	else
		ql_tls_use_put(server->tls, use);
}

/* ---- sending ---- */

static void sending_free(void *arg)
{
	struct sending *s = arg;

	ql_peer_answer_release(&s->answer);
	ql_peer_rate_put(s->server->rates, s->rate);
	free(s);
}

static ssize_t answer_read(struct sending *s, char *buf, size_t max)
{
	struct ql_error err = QL_ERROR_INIT;
	ssize_t n;

	if (!s->chunked && s->answer.len < max)
		max = (size_t)s->answer.len;
	n = s->answer.stream ? ql_stream_read(s->answer.stream, buf, max, &err)
			     : ql_pread_full(s->answer.fd, buf, max,
					     s->answer.fd_offset);
	if (n < 0)
		ql_debug("msg=\"an answer to a node breaks off\" error=\"%s\"",
			 err.text);
	if (n > 0)
		s->answer.fd_offset += (uint64_t)n;
	if (n > 0 && !s->chunked)
		s->answer.len -= (uint64_t)n;
	return n;
}

static ssize_t on_read(void *arg, uint64_t pos, char *buf, size_t max)
{
	struct sending *s = arg;
	bool limit = ql_peer_rates_limit(s->server->rates);
	ssize_t n;

	(void)pos;
	clock_stop(s->connection);
	n = answer_read(s, buf,
			limit ? ql_peer_rates_block(s->server->rates, max)
			      : max);
	if (n > 0 && limit &&
	    !wait_ns(s->server,
		     ql_peer_rate_take(s->server->rates, s->rate, (uint64_t)n),
		     false))
		n = -ECANCELED;
	clock_go_on(s->connection);
	if (n == 0 && s->chunked)
		return MHD_CONTENT_READER_END_OF_STREAM;
	return n > 0 ? n : MHD_CONTENT_READER_END_WITH_ERROR;
}

/* By our own hands: a stream, or a file at a rate. */
static struct MHD_Response *response_read(struct ql_peer_server *server,
					  struct MHD_Connection *connection,
					  struct ql_peer_reply *reply)
{
	struct sending *s = calloc(1, sizeof(*s));
	struct MHD_Response *response;
	struct ql_net_address address;

	if (!s)
		return NULL;
	s->server = server;
	s->connection = connection;
	s->answer = reply->answer;
	s->chunked = reply->chunked;
	reply->answer = (struct ql_peer_answer){ .fd = -1 };
	if (address_of(connection, &address) == 0)
		s->rate = ql_peer_rate_get(server->rates, &address);
	response = MHD_create_response_from_callback(
		s->chunked ? MHD_SIZE_UNKNOWN : s->answer.len, BLOCK, on_read,
		s, sending_free);
	if (!response)
		sending_free(s);
	return response;
}

static struct MHD_Response *response_text(char *text, size_t len)
{
	struct MHD_Response *response =
		text ? MHD_create_response_from_buffer(len, text,
						       MHD_RESPMEM_MUST_FREE)
		     : NULL;

	if (!response)
		free(text);
	return response;
}

static struct MHD_Response *response_of(struct ql_peer_server *server,
					struct MHD_Connection *connection,
					struct ql_peer_reply *reply)
{
	struct ql_peer_answer *a = &reply->answer;
	struct MHD_Response *response;

	if (reply->json) {
		char *text = json_dumps(reply->json, JSON_COMPACT);

		return response_text(text, text ? strlen(text) : 0);
	}
	if (reply->bytes.len > 0) {
		size_t len = reply->bytes.len;

		return response_text(ql_buf_take(&reply->bytes), len);
	}
	if (a->stream ||
	    (a->fd >= 0 && a->len > 0 && ql_peer_rates_limit(server->rates)))
		return response_read(server, connection, reply);
	if (a->fd < 0 || a->len == 0)
		return MHD_create_response_from_buffer(
			0, (void *)(uintptr_t) "", MHD_RESPMEM_PERSISTENT);
	response = MHD_create_response_from_fd_at_offset64(a->len, a->fd,
							   a->fd_offset);
	if (response)
		a->fd = -1; /* the response's now */
	return response;
}

static void header(struct MHD_Response *response, const char *name,
		   const char *value)
{
	if (value && *value)
		(void)MHD_add_response_header(response, name, value);
}

/* A refused request ends its connection: what else comes of it is not read. */
static enum MHD_Result answer(struct ql_peer_server *server,
			      struct MHD_Connection *connection,
			      struct request *r)
{
	struct ql_peer_reply *reply = &r->reply;
	struct MHD_Response *response = response_of(server, connection, reply);
	enum MHD_Result ret;

	if (!response)
		return MHD_NO;
	header(response, MHD_HTTP_HEADER_CONTENT_TYPE, reply->type);
	header(response, MHD_HTTP_HEADER_ALLOW, reply->allow);
	header(response, MHD_HTTP_HEADER_ETAG, reply->etag);
	header(response, MHD_HTTP_HEADER_CONTENT_RANGE, reply->content_range);
	header(response, MHD_HTTP_HEADER_RETRY_AFTER, reply->retry ? "1" : "");
	header(response, MHD_HTTP_HEADER_CONNECTION, r->refused ? "close" : "");
	if (r->query.route == QL_PEER_ENDPOINT_CONTENT && !r->refused)
		header(response, MHD_HTTP_HEADER_ACCEPT_RANGES, "bytes");
	ret = MHD_queue_response(connection, reply->status, response);
	MHD_destroy_response(response);
	return ret;
}

/* ---- asking ---- */

static const char *asked(struct MHD_Connection *connection, const char *name)
{
	return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

static void refuse(struct request *r, unsigned int status, int code,
		   const char *text)
{
	r->refused = true;
	ql_peer_reply_fail(&r->reply, status, code, text);
}

static unsigned int status_of(int error)
{
	if (error == -EFBIG)
		return 413;
	return error == -ENOMEM ? 503 : 400;
}

/* Whether its headers alone say that it cannot be taken. */
static bool is_too_large(struct MHD_Connection *connection,
			 const struct request *r)
{
	const char *length = asked(connection, MHD_HTTP_HEADER_CONTENT_LENGTH);
	uint64_t max = r->query.route == QL_PEER_ENDPOINT_BATCH
			       ? QL_PEER_BATCH_BYTES
			       : QL_QDM_BYTES_MAX;

	return length && strtoull(length, NULL, 10) > max;
}

/* Whether there is room for one more manifest. */
static bool manifest_count(struct ql_peer_server *server, struct request *r)
{
	if (r->query.route != QL_PEER_ENDPOINT_QDM ||
	    strcmp(r->query.method, MHD_HTTP_METHOD_POST) != 0)
		return true;
	r->counted = &server->manifests;
	return atomic_fetch_add(r->counted, 1) < MANIFESTS_MAX;
}

/* The headers are here. */
static enum MHD_Result begin(struct ql_peer_server *server,
			     struct MHD_Connection *connection,
			     struct request *r)
{
	r->query.trusted = is_trusted(server, connection);
	if (!may_ask(server, connection, false))
		refuse(r, 403, -EACCES, "not for this address");
	else if (!ql_peer_route_find(&r->query, &r->reply))
		r->refused = true;
	else if (deploys(&r->query) && !may_ask(server, connection, true))
		refuse(r, 403, -EACCES,
		       "this address may not deploy (peers.allow)");
	else if (is_too_large(connection, r))
		refuse(r, 413, -EFBIG, "the body is too large");
	else if (!manifest_count(server, r))
		refuse(r, 503, -EBUSY, "others are being sent");
	return r->refused ? answer(server, connection, r) : MHD_YES;
}

static enum MHD_Result body(struct request *r, const char *data, size_t size)
{
	struct ql_error err = QL_ERROR_INIT;
	int e = 0;

	if (r->refused) {
		r->drained += size;
		return r->drained > DRAIN_MAX ? MHD_NO : MHD_YES;
	}
	if (r->query.route == QL_PEER_ENDPOINT_BATCH)
		e = ql_peer_batch_add(&r->batch, data, size, &err);
	else if (ql_buf_add(&r->body, data, size) < 0)
		e = ql_error_set(&err, -EFBIG, "the body is too large");
	if (e < 0)
		refuse(r, status_of(e), e, err.text);
	return MHD_YES;
}

static void handle(struct ql_peer_server *server,
		   struct MHD_Connection *connection, struct request *r)
{
	struct ql_peer_query *q = &r->query;
	struct ql_error err = QL_ERROR_INIT;
	int e = 0;

	if (q->route == QL_PEER_ENDPOINT_BATCH)
		e = ql_peer_batch_end(&r->batch, &err);
	if (e < 0) {
		refuse(r, status_of(e), e, err.text);
		return;
	}
	q->range = asked(connection, MHD_HTTP_HEADER_RANGE);
	q->if_range = asked(connection, MHD_HTTP_HEADER_IF_RANGE);
	q->if_none_match = asked(connection, MHD_HTTP_HEADER_IF_NONE_MATCH);
	q->repository = asked(connection, QL_PEER_REPOSITORY);
	q->size = asked(connection, QL_PEER_SIZE);
	q->batch = &r->batch;
	q->deployments = server->deployments;
	q->body = ql_buf_str(&r->body);
	q->body_len = r->body.len;
	clock_stop(connection);
	ql_peer_handle(server->peers, q, &r->reply);
	clock_go_on(connection);
}

/* ---- what the library calls ---- */

static void request_free(struct request *r)
{
	if (r->counted)
		(void)atomic_fetch_sub(r->counted, 1);
	ql_peer_reply_release(&r->reply);
	ql_peer_batch_release(&r->batch);
	ql_buf_release(&r->body);
	free(r);
}

static struct request *request_new(void)
{
	struct request *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	ql_peer_reply_init(&r->reply);
	ql_buf_init(&r->body, QL_QDM_BYTES_MAX);
	return r;
}

/* Called for the header, for each part of a body, and at its end. */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection,
				  const char *path, const char *method,
				  const char *version, const char *data,
				  size_t *size, void **state)
{
	struct request *r = *state;
	enum MHD_Result ret;

	(void)version;
	if (!r) {
		r = request_new();
		*state = r;
		if (!r)
			return MHD_NO;
		r->query.method = method;
		r->query.path = path;
		return begin(arg, connection, r);
	}
	r->query.method = method;
	r->query.path = path;
	if (*size > 0) {
		ret = body(r, data, *size);
		*size = 0;
		return ret;
	}
	if (!r->refused)
		handle(arg, connection, r);
	return answer(arg, connection, r);
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

/* ---- certificates ---- */

static void *watcher_main(void *arg)
{
	struct ql_peer_server *server = arg;

	while (wait_ns(server, LOOK_SECONDS * SECOND, true)) {
		struct ql_error err = QL_ERROR_INIT;
		int r = ql_tls_server_look(server->tls, &err);

		if (r > 0)
			ql_log(QL_LOG_INFO,
			       "msg=\"certificates for peers read again\"");
		if (r < 0)
			ql_log(QL_LOG_ERROR,
			       "msg=\"certificates for peers are as before: "
			       "the new ones are no good\" error=\"%s\"",
			       err.text);
	}
	return NULL;
}

void ql_peer_server_look(struct ql_peer_server *server)
{
	if (!server)
		return;
	(void)pthread_mutex_lock(&server->lock);
	server->look = true;
	(void)pthread_cond_broadcast(&server->wake);
	(void)pthread_mutex_unlock(&server->lock);
}

/* ---- life ---- */

/* The socket stays ours: what is stopped was quiesced, which gives it back. */
static struct MHD_Daemon *daemon_start(struct ql_peer_server *server)
{
	unsigned int flags = MHD_USE_THREAD_PER_CONNECTION |
			     MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL |
			     MHD_USE_ERROR_LOG | MHD_USE_ITC;
	struct MHD_OptionItem tls[] = {
		{ MHD_OPTION_HTTPS_PRIORITIES, 0,
		  (void *)(uintptr_t) "NORMAL:-VERS-ALL:+VERS-TLS1.3:"
				      "+VERS-TLS1.2" },
		{ MHD_OPTION_HTTPS_CERT_CALLBACK, 0, NULL },
		{ MHD_OPTION_END, 0, NULL },
	};

	tls[1].ptr_value = (void *)ql_tls_no_certificate();
	if (server->tls)
		flags |= MHD_USE_TLS;
	return MHD_start_daemon(
		flags, 0, NULL, NULL, on_request, server,
		MHD_OPTION_EXTERNAL_LOGGER, ql_mhd_log, NULL,
		MHD_OPTION_LISTEN_SOCKET, server->fd,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned int)CONNECTIONS_MAX,
		MHD_OPTION_PER_IP_CONNECTION_LIMIT,
		(unsigned int)CONNECTIONS_EACH, MHD_OPTION_CONNECTION_TIMEOUT,
		(unsigned int)IDLE_SECONDS, MHD_OPTION_THREAD_STACK_SIZE,
		(size_t)STACK, MHD_OPTION_UNESCAPE_CALLBACK,
		ql_mhd_keep_encoded, NULL, MHD_OPTION_NOTIFY_COMPLETED,
		on_completed, NULL, MHD_OPTION_NOTIFY_CONNECTION, on_connection,
		server, MHD_OPTION_ARRAY, server->tls ? tls : &tls[2],
		MHD_OPTION_END);
}

static int allow_parse(struct ql_peer_server *server,
		       const struct ql_strings *list, struct ql_error *err)
{
	server->allow = calloc(list->n + 1, sizeof(*server->allow));
	if (!server->allow)
		return ql_error_nomem(err);
	for (size_t i = 0; i < list->n; i++)
		if (ql_net_parse(list->items[i],
				 &server->allow[server->n_allow]) == 0)
			server->n_allow++;
	return 0;
}

static int server_fill(struct ql_peer_server *server,
		       const struct ql_agent_config *config,
		       struct ql_error *err)
{
	int r = allow_parse(server, &config->peers.allow, err);

	if (r == 0)
		r = ql_peer_rates_new(config->peers.upload_rate,
				      config->peers.upload_rate_per_peer,
				      ql_now_ns, &server->rates, err);
	if (r == 0 && config->peers.ca)
		r = ql_tls_server_new(config->peers.ca, config->peers.cert,
				      config->peers.key, &server->tls, err);
	return r < 0 ? r
		     : ql_net_listen(config->peers.listen, &server->fd, err);
}

void ql_peer_server_deployments(struct ql_peer_server *server,
				struct ql_deployments *deployments)
{
	if (server)
		server->deployments = deployments;
}

int ql_peer_server_new(struct ql_peers *peers,
		       const struct ql_agent_config *config,
		       struct ql_peer_server **ret_server, struct ql_error *err)
{
	struct ql_peer_server *server;
	pthread_condattr_t attr;
	int r;

	if (!config->peers.listen || !peers) {
		*ret_server = NULL;
		return 0;
	}
	server = calloc(1, sizeof(*server));
	if (!server)
		return ql_error_nomem(err);
	server->peers = peers;
	server->fd = -1;
	(void)pthread_mutex_init(&server->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&server->wake, &attr);
	(void)pthread_condattr_destroy(&attr);
	r = server_fill(server, config, err);
	if (r < 0) {
		ql_peer_server_free(server);
		return ql_error_prefix(err, "peers");
	}
	*ret_server = server;
	return 0;
}

int ql_peer_server_start(struct ql_peer_server *server, struct ql_error *err)
{
	if (!server)
		return 0;
	server->watches = server->tls &&
			  pthread_create(&server->watcher, NULL, watcher_main,
					 server) == 0;
	if (server->tls && !server->watches)
		return ql_error_set(err, -EAGAIN, "cannot start a thread");
	server->mhd = daemon_start(server);
	return server->mhd
		       ? 0
		       : ql_error_set(err, -EIO, "cannot serve other nodes");
}

/* Whoever waits wakes, and the library ends the rest. */
void ql_peer_server_stop(struct ql_peer_server *server)
{
	if (!server)
		return;
	if (server->mhd)
		(void)MHD_quiesce_daemon(server->mhd);
	(void)pthread_mutex_lock(&server->lock);
	server->stop = true;
	(void)pthread_cond_broadcast(&server->wake);
	(void)pthread_mutex_unlock(&server->lock);
	if (server->mhd)
		MHD_stop_daemon(server->mhd);
	server->mhd = NULL;
	if (server->watches)
		(void)pthread_join(server->watcher, NULL);
	server->watches = false;
}

void ql_peer_server_free(struct ql_peer_server *server)
{
	if (!server)
		return;
	ql_peer_server_stop(server);
	if (server->fd >= 0)
		(void)close(server->fd);
	ql_tls_server_free(server->tls);
	ql_peer_rates_free(server->rates);
	free(server->allow);
	(void)pthread_cond_destroy(&server->wake);
	(void)pthread_mutex_destroy(&server->lock);
	free(server);
}
