/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP by libcurl's multi interface; the one file that includes curl/curl.h.
 *
 * One I/O thread owns the multi handle and every easy handle in it, so that
 * all transfers share connections (and multiplex over HTTP/2).  Other threads
 * put commands in a queue and wake it by curl_multi_wakeup().  A body passes
 * through a ring of QL_BLOB_WINDOW bytes: where it is full the transfer is
 * paused (CURL_WRITEFUNC_PAUSE), and unpaused once its reader has made half
 * of it free.
 *
 * A bulk body is asked for over HTTP/1.1.  Over HTTP/2 libcurl before 8.x
 * opens a window of 32 MiB per stream and keeps in memory what arrives while
 * the stream is paused, and one paused stream can hold up its connection;
 * over a connection of its own, TCP does the flow control.
 *
 * Sources: libcurl-multi(3), CURLOPT_WRITEFUNCTION(3), curl_multi_wakeup(3);
 * RFC 9110 (fields), RFC 9112 §8 (an incomplete message is an error).
 */
#include "fetch/fetch-private.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>

enum {
	POLL_MS = 1000,
	BUFFER_BULK = 128 << 10,
	CONNECTIONS_KEPT = 64,
};

enum command { COMMAND_ADD = 1, COMMAND_UNPAUSE = 2, COMMAND_REMOVE = 4 };

struct transfer {
	struct ql_stream base;
	struct ql_http *http; /* borrowed */
	CURL *easy;	      /* owned; the I/O thread's from COMMAND_ADD on */
	struct curl_slist *headers; /* owned */
	char *form;		    /* owned */
	char *warm_url;		    /* owned; or NULL */
	unsigned int warm;
	const struct ql_tls *tls;	  /* borrowed; outlives the ql_http */
	char *host;			  /* owned; for messages */
	struct ql_http_upload upload;	  /* fd and data owned */
	uint64_t sent;			  /* of it; the I/O thread's */
	struct ql_http_response rs;	  /* I/O thread until headers_done */
	char error_text[CURL_ERROR_SIZE]; /* I/O thread until done */
	pthread_cond_t cond;		  /* something below changed */

	/* http->lock protects all below. */
	unsigned int commands;	      /* enum command */
	struct transfer *next_queued; /* borrowed */
	struct transfer *prev, *next; /* borrowed; http->transfers */
	bool queued;
	bool added;  /* in the multi handle */
	bool orphan; /* nobody reads it: it is there to open a connection */
	bool headers_done, done, paused;
	CURLcode result; /* once done */
	struct ql_ring ring;
};

struct ql_http {
	CURLM *multi; /* owned; the I/O thread's, but for wakeup */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t aborted_cond;

	struct ql_warm warm; /* has its own lock */

	/* lock protects all below. */
	struct transfer *queue;	    /* borrowed: have commands */
	struct transfer *transfers; /* owned: all that exist */
	bool stop, aborted;
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_init_result;

static void curl_init(void)
{
	curl_init_result = curl_global_init(CURL_GLOBAL_DEFAULT);
}

static void cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(cond, &attr);
	(void)pthread_condattr_destroy(&attr);
}

/* ---- from another thread to the I/O thread ---- */

/* http->lock is held. */
static void command_queue(struct transfer *t, enum command command)
{
	t->commands |= (unsigned int)command;
	if (!t->queued) {
		t->queued = true;
		t->next_queued = t->http->queue;
		t->http->queue = t;
	}
	(void)curl_multi_wakeup(t->http->multi);
}

static void transfer_free(struct transfer *t)
{
	curl_easy_cleanup(t->easy);
	curl_slist_free_all(t->headers);
	free(t->form);
	free(t->warm_url);
	free(t->host);
	ql_upload_release(&t->upload);
	ql_ring_release(&t->ring);
	t->rs.body = NULL; /* it is us */
	ql_http_response_release(&t->rs);
	(void)pthread_cond_destroy(&t->cond);
	free(t);
}

/* http->lock is held. */
static void transfer_unlink(struct transfer *t)
{
	if (t->prev)
		t->prev->next = t->next;
	else
		t->http->transfers = t->next;
	if (t->next)
		t->next->prev = t->prev;
}

/* ---- libcurl's callbacks, in the I/O thread ---- */

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	size_t len = size * n;
	size_t ret = len;

	(void)pthread_mutex_lock(&t->http->lock);
	if (t->orphan) {
		/* passed over */
	} else if (ql_ring_room(&t->ring) < len) {
		t->paused = true;
		ret = CURL_WRITEFUNC_PAUSE;
	} else {
		ql_ring_put(&t->ring, data, len);
		(void)pthread_cond_signal(&t->cond);
	}
	(void)pthread_mutex_unlock(&t->http->lock);
	return ret;
}

/* The empty line behind the last field: tell who waits in ql_http_open(). */
static void headers_end(struct transfer *t)
{
	long status = 0;

	(void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status < 200)
		return; /* an interim answer */
	t->rs.status = status;
	t->rs.took = ql_now_ns() - t->rs.took;
	(void)pthread_mutex_lock(&t->http->lock);
	t->headers_done = true;
	(void)pthread_cond_signal(&t->cond);
	(void)pthread_mutex_unlock(&t->http->lock);
}

static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	size_t len = size * n;

	if (t->headers_done)
		return len; /* a trailer */
	if (len <= 2 && strchr("\r\n", data[0]))
		headers_end(t);
	else if (ql_http_header_add(&t->rs, data, len) < 0)
		return 0;
	return len;
}

static size_t on_upload(char *buf, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	ssize_t len = ql_upload_read(&t->upload, t->sent, buf, size * n);

	if (len < 0)
		return CURL_READFUNC_ABORT;
	t->sent += (uint64_t)len;
	return (size_t)len;
}

/* A connection that was kept had died: the body again. */
static int on_rewind(void *arg, curl_off_t offset, int origin)
{
	struct transfer *t = arg;

	if (origin != SEEK_SET || offset < 0 ||
	    (uint64_t)offset > t->upload.len)
		return CURL_SEEKFUNC_FAIL;
	t->sent = (uint64_t)offset;
	return CURL_SEEKFUNC_OK;
}

/* A connection is there: how long did it take? */
static int on_connected(void *arg, char *to, char *from, int to_port,
			int from_port)
{
	struct transfer *t = arg;
	curl_off_t lookup = 0, connected = 0;
	long fresh = 0;
	uint64_t ns = UINT64_MAX;

	(void)to;
	(void)from;
	(void)to_port;
	(void)from_port;
	(void)curl_easy_getinfo(t->easy, CURLINFO_NUM_CONNECTS, &fresh);
	(void)curl_easy_getinfo(t->easy, CURLINFO_NAMELOOKUP_TIME_T, &lookup);
	(void)curl_easy_getinfo(t->easy, CURLINFO_CONNECT_TIME_T, &connected);
	if (fresh > 0 && connected > lookup)
		ns = (uint64_t)(connected - lookup) * 1000;
	ql_warm_connected(&t->http->warm, ns, t->warm > 0);
	return CURL_PREREQFUNC_OK;
}

/* ---- the I/O thread ---- */

static void transfer_finish(struct transfer *t, CURLcode result)
{
	struct ql_http *http = t->http;
	bool orphan = t->orphan;

	(void)pthread_mutex_lock(&http->lock);
	t->done = true;
	t->result = result;
	if (orphan)
		command_queue(t, COMMAND_REMOVE);
	(void)pthread_cond_signal(&t->cond);
	(void)pthread_mutex_unlock(&http->lock);
	if (orphan)
		ql_warm_opened(&http->warm);
}

static int transfer_new(struct ql_http *http, const struct ql_http_request *rq,
			struct transfer **ret_transfer, struct ql_error *err);

static void transfer_link(struct transfer *t)
{
	t->next = t->http->transfers;
	if (t->next)
		t->next->prev = t;
	t->http->transfers = t;
}

/* Opens connections that requests to come will find open. */
static void warm_up(struct ql_http *http)
{
	struct ql_http_request rq;

	while (ql_warm_next(&http->warm, &rq)) {
		struct transfer *t;

		if (transfer_new(http, &rq, &t, NULL) < 0) {
			ql_warm_opened(&http->warm);
			continue;
		}
		t->orphan = true;
		(void)pthread_mutex_lock(&http->lock);
		transfer_link(t);
		(void)pthread_mutex_unlock(&http->lock);
		t->added = curl_multi_add_handle(http->multi, t->easy) ==
			   CURLM_OK;
		if (!t->added)
			transfer_finish(t, CURLE_OUT_OF_MEMORY);
	}
}

static void command_run(struct ql_http *http, struct transfer *t,
			unsigned int commands)
{
	if (commands & COMMAND_REMOVE) {
		if (t->added)
			(void)curl_multi_remove_handle(http->multi, t->easy);
		transfer_free(t);
		return;
	}
	if (commands & COMMAND_ADD) {
		if (curl_multi_add_handle(http->multi, t->easy) == CURLM_OK)
			t->added = true;
		else
			transfer_finish(t, CURLE_OUT_OF_MEMORY);
		ql_warm_want(&http->warm, &t->warm_url, t->warm, t->tls);
	}
	if ((commands & COMMAND_UNPAUSE) && t->added)
		(void)curl_easy_pause(t->easy, CURLPAUSE_CONT);
}

/* Returns whether to go on. */
static bool commands_run(struct ql_http *http)
{
	struct transfer *t;
	bool stop;

	(void)pthread_mutex_lock(&http->lock);
	while ((t = http->queue)) {
		unsigned int commands = t->commands;

		http->queue = t->next_queued;
		t->queued = false;
		t->commands = 0;
		if (commands & COMMAND_REMOVE)
			transfer_unlink(t);
		(void)pthread_mutex_unlock(&http->lock);
		command_run(http, t, commands);
		(void)pthread_mutex_lock(&http->lock);
	}
	stop = http->stop;
	(void)pthread_mutex_unlock(&http->lock);
	return !stop;
}

static void *io_main(void *arg)
{
	struct ql_http *http = arg;
	sigset_t all;

	/* Others handle signals; a SIGPIPE of OpenSSL's is not to kill us. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_BLOCK, &all, NULL);
	while (commands_run(http)) {
		int running, left;
		CURLMsg *msg;

		(void)curl_multi_perform(http->multi, &running);
		while ((msg = curl_multi_info_read(http->multi, &left))) {
			struct transfer *t = NULL;

			if (msg->msg != CURLMSG_DONE)
				continue;
			(void)curl_easy_getinfo(msg->easy_handle,
						CURLINFO_PRIVATE, (char **)&t);
			transfer_finish(t, msg->data.result);
		}
		warm_up(http);
		(void)curl_multi_poll(
			http->multi, NULL, 0,
			ql_warm_pending(&http->warm) ? 1 : POLL_MS, NULL);
	}
	return NULL;
}

/* ---- reading ---- */

static int result_error(struct transfer *t, struct ql_error *err)
{
	const char *text = t->error_text[0] ? t->error_text
					    : curl_easy_strerror(t->result);
	int code;

	switch (t->result) {
	case CURLE_COULDNT_CONNECT:
		code = -ECONNREFUSED;
		break;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		code = -EHOSTUNREACH;
		break;
	case CURLE_OPERATION_TIMEDOUT:
		code = -ETIMEDOUT;
		break;
	case CURLE_PARTIAL_FILE:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_GOT_NOTHING:
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
		code = -ECONNRESET;
		break;
	case CURLE_OUT_OF_MEMORY:
		return ql_error_nomem(err);
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
		code = -EKEYREJECTED;
		break;
	default:
		code = -EPROTO;
	}
	return ql_error_set(err, code, "%s: %s%s", t->host,
			    code == -ETIMEDOUT ? "timed out: " : "", text);
}

/* Under the lock: waits for news of it.  False: there was none in time. */
static bool news_wait(struct transfer *t, uint64_t deadline)
{
	struct timespec ts = { (time_t)(deadline / 1000000000),
			       (long)(deadline % 1000000000) };

	if (deadline == UINT64_MAX)
		return pthread_cond_wait(&t->cond, &t->http->lock) == 0;
	return pthread_cond_timedwait(&t->cond, &t->http->lock, &ts) !=
	       ETIMEDOUT;
}

ssize_t ql_http_read(struct ql_stream *s, void *buf, size_t len,
		     uint64_t deadline, struct ql_error *err)
{
	struct transfer *t = (struct transfer *)s;
	struct ql_http *http = t->http;
	bool late = false;
	ssize_t ret;

	(void)pthread_mutex_lock(&http->lock);
	while (t->ring.len == 0 && !t->done && !http->aborted && !late)
		late = !news_wait(t, deadline);
	if (http->aborted) {
		ret = ql_error_set(err, -ECANCELED, "canceled");
	} else if (t->ring.len > 0) {
		ret = (ssize_t)ql_ring_get(&t->ring, buf, len);
		if (t->paused && t->ring.len <= t->ring.size / 2) {
			t->paused = false;
			command_queue(t, COMMAND_UNPAUSE);
		}
	} else if (!t->done) {
		ret = -EAGAIN;
	} else if (t->result != CURLE_OK) {
		ret = result_error(t, err);
	} else {
		ret = 0;
	}
	(void)pthread_mutex_unlock(&http->lock);
	return ret;
}

static ssize_t body_read(struct ql_stream *s, void *buf, size_t len,
			 struct ql_error *err)
{
	return ql_http_read(s, buf, len, UINT64_MAX, err);
}

static void body_free(struct ql_stream *s)
{
	struct transfer *t = (struct transfer *)s;
	struct ql_http *http = t->http;

	(void)pthread_mutex_lock(&http->lock);
	command_queue(t, COMMAND_REMOVE);
	(void)pthread_mutex_unlock(&http->lock);
}

static const struct ql_stream_ops body_ops = { body_read, body_free };

/* ---- asking ---- */

static int line_add(struct transfer *t, const char *line)
{
	struct curl_slist *list = line ? curl_slist_append(t->headers, line)
				       : NULL;

	if (!list)
		return -ENOMEM;
	t->headers = list;
	return 0;
}

static int header_add(struct transfer *t, const char *name, const char *value)
{
	_cleanup_free_ char *line = ql_strf("%s: %s", name, value);

	return line_add(t, line);
}

static int headers_set(struct transfer *t, const struct ql_http_request *rq)
{
	int r = 0;

	if (rq->authorization)
		r = header_add(t, "Authorization", rq->authorization);
	if (r == 0 && rq->accept)
		r = header_add(t, "Accept", rq->accept);
	if (r == 0 && (rq->form || rq->upload))
		r = header_add(t, "Expect", ""); /* no 100-continue */
	if (r == 0 && rq->upload)
		r = header_add(t, "Content-Type",
			       rq->upload->type ? rq->upload->type : "");
	if (r == 0 && rq->upload && rq->upload->range)
		r = header_add(t, "Content-Range", rq->upload->range);
	for (size_t i = 0; r == 0 && rq->headers && rq->headers[i]; i++)
		r = line_add(t, rq->headers[i]);
	return r;
}

/* What a failed curl_easy_setopt() leaves unset is refused by its result. */
#define SET(option, value)                                                     \
	do {                                                                   \
		if (rc == CURLE_OK)                                            \
			rc = curl_easy_setopt(t->easy, (option), (value));     \
	} while (0)

static CURLcode tls_set(struct transfer *t, const struct ql_tls *tls)
{
	CURLcode rc = CURLE_OK;

	/* The system's folder of roots stays beside a CA of one's own. */
	if (tls->ca)
		SET(CURLOPT_CAINFO, tls->ca);
	if (tls->cert)
		SET(CURLOPT_SSLCERT, tls->cert);
	if (tls->key)
		SET(CURLOPT_SSLKEY, tls->key);
	if (tls->insecure)
		SET(CURLOPT_SSL_VERIFYPEER, 0L);
	if (tls->insecure || tls->any_name)
		SET(CURLOPT_SSL_VERIFYHOST, 0L);
	if (tls->ca_alone) {
		SET(CURLOPT_CAPATH, NULL);
		SET(CURLOPT_CA_CACHE_TIMEOUT, 0L);
	}
	return rc;
}

static CURLcode upload_set(struct transfer *t, const struct ql_http_request *rq)
{
	CURLcode rc = CURLE_OK;

	if (rq->upload && rq->upload->len > 0) {
		SET(CURLOPT_UPLOAD, 1L);
		SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)rq->upload->len);
		SET(CURLOPT_READFUNCTION, on_upload);
		SET(CURLOPT_READDATA, t);
		SET(CURLOPT_SEEKFUNCTION, on_rewind);
		SET(CURLOPT_SEEKDATA, t);
		SET(CURLOPT_UPLOAD_BUFFERSIZE, (long)BUFFER_BULK);
	} else if (rq->upload) {
		SET(CURLOPT_POSTFIELDSIZE, 0L);
		SET(CURLOPT_POSTFIELDS, "");
	}
	if (rq->method && strcmp(rq->method, "HEAD") == 0)
		SET(CURLOPT_NOBODY, 1L);
	else if (rq->method)
		SET(CURLOPT_CUSTOMREQUEST, rq->method);
	return rc;
}

static CURLcode easy_set(struct transfer *t, const struct ql_http_request *rq)
{
	CURLcode rc = CURLE_OK;
	char range[48];

	SET(CURLOPT_URL, rq->url);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_USERAGENT, "quicklayer");
	SET(CURLOPT_HTTPHEADER, t->headers);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, t);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, t);
	SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	SET(CURLOPT_PRIVATE, t);
	SET(CURLOPT_PREREQFUNCTION, on_connected);
	SET(CURLOPT_PREREQDATA, t);
	SET(CURLOPT_ERRORBUFFER, t->error_text);
	SET(CURLOPT_CONNECTTIMEOUT, (long)rq->timeouts.connect);
	SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
	SET(CURLOPT_LOW_SPEED_TIME, (long)rq->timeouts.stall);
	SET(CURLOPT_HTTP_VERSION, rq->bulk ? (long)CURL_HTTP_VERSION_1_1
					   : (long)CURL_HTTP_VERSION_2TLS);
	if (rq->bulk)
		SET(CURLOPT_BUFFERSIZE, (long)BUFFER_BULK);
	else
		SET(CURLOPT_PIPEWAIT, 1L);
	if (rq->unix_socket)
		SET(CURLOPT_UNIX_SOCKET_PATH, rq->unix_socket);
	if (rq->unix_socket || rq->direct || ql_url_host_is_loopback(t->host))
		SET(CURLOPT_PROXY, "");
	if (t->form)
		SET(CURLOPT_POSTFIELDS, t->form);
	if (rq->offset > 0 || rq->len > 0) {
		int n = snprintf(range, sizeof(range), "%llu-",
				 (unsigned long long)rq->offset);

		if (rq->len > 0)
			(void)snprintf(
				range + n, sizeof(range) - (size_t)n, "%llu",
				(unsigned long long)(rq->offset + rq->len - 1));
		SET(CURLOPT_RANGE, range);
	}
	if (rc == CURLE_OK)
		rc = upload_set(t, rq);
	return rc == CURLE_OK && rq->tls ? tls_set(t, rq->tls) : rc;
}

static int transfer_new(struct ql_http *http, const struct ql_http_request *rq,
			struct transfer **ret_transfer, struct ql_error *err)
{
	struct transfer *t = calloc(1, sizeof(*t));
	CURLcode rc = CURLE_OUT_OF_MEMORY;

	if (!t)
		return ql_error_nomem(err);
	t->base.ops = &body_ops;
	t->http = http;
	t->upload.fd = -1;
	t->rs.length = t->rs.range_start = t->rs.range_size = UINT64_MAX;
	t->rs.retry_after = UINT64_MAX;
	t->rs.took = ql_now_ns();
	cond_init(&t->cond);
	t->easy = curl_easy_init();
	t->host = ql_url_host(rq->url);
	t->form = rq->form ? strdup(rq->form) : NULL;
	t->warm_url = rq->warm_url ? strdup(rq->warm_url) : NULL;
	t->warm = t->warm_url ? rq->warm : 0;
	t->tls = rq->tls;
	if (ql_ring_init(&t->ring, QL_BLOB_WINDOW) == 0 && t->easy && t->host &&
	    (t->form || !rq->form) &&
	    ql_upload_keep(rq->upload, &t->upload) == 0 &&
	    headers_set(t, rq) == 0)
		rc = easy_set(t, rq);
	if (rc == CURLE_OK) {
		*ret_transfer = t;
		return 0;
	}
	transfer_free(t);
	return rc == CURLE_OUT_OF_MEMORY
		       ? ql_error_nomem(err)
		       : ql_error_set(err, -EINVAL, "%s: %s", rq->url,
				      curl_easy_strerror(rc));
}

int ql_http_begin(struct ql_http *http, const struct ql_http_request *rq,
		  struct ql_stream **ret_body, struct ql_error *err)
{
	struct transfer *t = NULL;
	int r = transfer_new(http, rq, &t, err);

	if (r < 0)
		return r;
	(void)pthread_mutex_lock(&http->lock);
	transfer_link(t);
	command_queue(t, COMMAND_ADD);
	(void)pthread_mutex_unlock(&http->lock);
	*ret_body = &t->base;
	return 0;
}

int ql_http_answer(struct ql_stream *body, uint64_t deadline,
		   struct ql_http_response *ret_rs, struct ql_error *err)
{
	struct transfer *t = (struct transfer *)body;
	bool late = false;
	int r = 0;

	(void)pthread_mutex_lock(&t->http->lock);
	while (!t->headers_done && !t->done && !t->http->aborted && !late)
		late = !news_wait(t, deadline);
	if (t->http->aborted)
		r = ql_error_set(err, -ECANCELED, "canceled");
	else if (!t->headers_done && !t->done)
		r = -EAGAIN;
	else if (!t->headers_done)
		r = t->result == CURLE_OK
			    ? ql_error_set(err, -EPROTO, "%s: no HTTP answer",
					   t->host)
			    : result_error(t, err);
	(void)pthread_mutex_unlock(&t->http->lock);
	if (r < 0)
		return r;
	*ret_rs = t->rs;
	ret_rs->body = body;
	t->rs = (struct ql_http_response){ 0 };
	return 0;
}

int ql_http_open(struct ql_http *http, const struct ql_http_request *rq,
		 struct ql_http_response *ret_rs, struct ql_error *err)
{
	struct ql_stream *body;
	int r = ql_http_begin(http, rq, &body, err);

	if (r < 0)
		return r;
	r = ql_http_answer(body, UINT64_MAX, ret_rs, err);
	if (r < 0)
		ql_stream_free(body);
	return r;
}

int ql_http_resolve(const char *base, const char *url, char **ret_url,
		    struct ql_error *err)
{
	CURLU *u = curl_url();
	char *full = NULL;
	CURLUcode rc = CURLUE_OUT_OF_MEMORY;

	if (u)
		rc = curl_url_set(u, CURLUPART_URL, base, 0);
	if (rc == CURLUE_OK)
		rc = curl_url_set(u, CURLUPART_URL, url, CURLU_URLENCODE);
	if (rc == CURLUE_OK)
		rc = curl_url_get(u, CURLUPART_URL, &full, 0);
	curl_url_cleanup(u);
	if (rc != CURLUE_OK)
		return ql_error_set(err, -EPROTO, "not a URL: \"%s\"", url);
	*ret_url = strdup(full);
	curl_free(full);
	return *ret_url ? 0 : ql_error_nomem(err);
}

/* ---- life ---- */

int ql_http_new(struct ql_http **ret_http, struct ql_error *err)
{
	struct ql_http *http;

	(void)pthread_once(&curl_once, curl_init);
	if (curl_init_result != CURLE_OK)
		return ql_error_set(err, -EIO, "libcurl: %s",
				    curl_easy_strerror(curl_init_result));
	http = calloc(1, sizeof(*http));
	if (!http)
		return ql_error_nomem(err);
	ql_warm_init(&http->warm);
	http->multi = curl_multi_init();
	(void)pthread_mutex_init(&http->lock, NULL);
	cond_init(&http->aborted_cond);
	if (http->multi &&
	    curl_multi_setopt(http->multi, CURLMOPT_PIPELINING,
			      CURLPIPE_MULTIPLEX) == CURLM_OK &&
	    curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS,
			      (long)CONNECTIONS_KEPT) == CURLM_OK &&
	    pthread_create(&http->thread, NULL, io_main, http) == 0) {
		*ret_http = http;
		return 0;
	}
	(void)curl_multi_cleanup(http->multi);
	ql_warm_release(&http->warm);
	free(http);
	return ql_error_nomem(err);
}

void ql_http_free(struct ql_http *http)
{
	if (!http)
		return;
	(void)pthread_mutex_lock(&http->lock);
	http->stop = true;
	(void)curl_multi_wakeup(http->multi);
	(void)pthread_mutex_unlock(&http->lock);
	(void)pthread_join(http->thread, NULL);
	(void)commands_run(http); /* what was freed last */
	ql_warm_release(&http->warm);
	(void)curl_multi_cleanup(http->multi);
	(void)pthread_cond_destroy(&http->aborted_cond);
	(void)pthread_mutex_destroy(&http->lock);
	free(http);
}

uint64_t ql_http_rtt(struct ql_http *http)
{
	return ql_warm_rtt(&http->warm);
}

void ql_http_abort(struct ql_http *http)
{
	(void)pthread_mutex_lock(&http->lock);
	http->aborted = true;
	for (struct transfer *t = http->transfers; t; t = t->next)
		(void)pthread_cond_broadcast(&t->cond);
	(void)pthread_cond_broadcast(&http->aborted_cond);
	(void)pthread_mutex_unlock(&http->lock);
	ql_warm_abort(&http->warm);
}

int ql_http_sleep(struct ql_http *http, uint64_t ms)
{
	uint64_t until = ql_now_ns() + ms * 1000000;
	struct timespec ts = { (time_t)(until / 1000000000),
			       (long)(until % 1000000000) };
	int r = 0;

	(void)pthread_mutex_lock(&http->lock);
	while (!http->aborted && r != ETIMEDOUT)
		r = pthread_cond_timedwait(&http->aborted_cond, &http->lock,
					   &ts);
	r = http->aborted ? -ECANCELED : 0;
	(void)pthread_mutex_unlock(&http->lock);
	return r;
}
