/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What other nodes ask of this one (the protocol: fetch/peers.h), grouped by
 * the file that owns it.  Only peer-server.c knows the HTTP library, and only
 * agent-tls.c the TLS library; all else can be tried without either.
 */
#ifndef QL_PEER_H
#define QL_PEER_H

#include "fs/agent.h"

/* ---- peer-range.c: RFC 9110 section 14 ---- */

enum ql_peer_range_kind {
	QL_PEER_RANGE_NONE, /* all of it */
	QL_PEER_RANGE_FROM,
	QL_PEER_RANGE_LAST, /* the last len bytes */
};
struct ql_peer_range {
	enum ql_peer_range_kind kind;
	uint64_t offset, len; /* len UINT64_MAX: to the end */
};
/* What a Range header asks for; NULL, one of another unit, one that is
 * malformed, and several at once are as none (section 14.2 leaves that to the
 * server: what is answered then is all there is, which every client takes). */
void ql_peer_range_parse(const char *header, struct ql_peer_range *ret_range);
/* Whether an If-None-Match (section 13.1.2) names this tag; header may be NULL.
 */
bool ql_peer_etag_matches(const char *header, const char *etag);

/* ---- peer-rate.c: how fast it may go ---- */

struct ql_peer_rates;
struct ql_peer_rate;			 /* that of one who asks */
typedef uint64_t ql_peer_clock_fn(void); /* ns */
/* Bytes a second, UINT64_MAX: no limit.  Any thread may use it. */
int ql_peer_rates_new(uint64_t total, uint64_t each, ql_peer_clock_fn *clock,
		      struct ql_peer_rates **ret_rates, struct ql_error *err);
void ql_peer_rates_free(struct ql_peer_rates *rates); /* NULL is fine */
bool ql_peer_rates_limit(const struct ql_peer_rates *rates);
/* For whoever has an address; what it has used up stays so for a while when it
 * is put back.  NULL: there are too many; then the total alone holds. */
struct ql_peer_rate *ql_peer_rate_get(struct ql_peer_rates *rates,
				      const struct ql_net_address *address);
void ql_peer_rate_put(struct ql_peer_rates *rates, struct ql_peer_rate *rate);
/* So many bytes are to be sent: ns to wait before that. */
uint64_t ql_peer_rate_take(struct ql_peer_rates *rates,
			   struct ql_peer_rate *rate, uint64_t bytes);
/* Bytes to send at once, at most max, so that one waits not too long. */
size_t ql_peer_rates_block(const struct ql_peer_rates *rates, size_t max);

/* ---- peer-batch.c: many parts in one request ---- */

struct ql_peer_batch {
	struct ql_peer_batch_part {
		enum ql_peer_kind kind;
		struct ql_digest digest;
		uint64_t offset, len;
	} * parts; /* owned */
	size_t n, cap;
	uint64_t bytes; /* of the request so far */
	char line[160]; /* what has come of one */
	size_t line_len;
	int error; /* 0, or why it is refused; it reads nothing more */
};
void ql_peer_batch_release(struct ql_peer_batch *batch);
/* More of the request.  -EFBIG: too many parts or bytes; -EINVAL, naming the
 * line; and the same again from then on (not described). */
int ql_peer_batch_add(struct ql_peer_batch *batch, const char *data, size_t len,
		      struct ql_error *err);
/* That was all. */
int ql_peer_batch_end(struct ql_peer_batch *batch, struct ql_error *err);

/* ---- peer-frames.c: what is answered to it ---- */

/* Takes the batch's parts. */
int ql_peer_frames_new(struct ql_peers *peers, bool trusted,
		       struct ql_peer_batch *batch,
		       struct ql_stream **ret_stream, struct ql_error *err);

/* ---- peer-route.c: what is asked and answered, without HTTP ---- */

enum ql_peer_endpoint {
	QL_PEER_ENDPOINT_CONTENT, /* objects, blobs, tables */
	QL_PEER_ENDPOINT_BATCH,
	QL_PEER_ENDPOINT_SUMMARY,
	QL_PEER_ENDPOINT_FILTER,
	QL_PEER_ENDPOINT_QDM,
};

struct ql_peer_query {
	const char *method; /* borrowed, as all texts; may be NULL but this */
	const char *path;   /* as it came, percent-encoded, without a query */
	const char *range, *if_range, *if_none_match;
	const char *repository, *size; /* of QL_PEER_REPOSITORY, …_SIZE */
	bool trusted;		       /* has authenticated by TLS */
	struct ql_peer_batch *batch;   /* its parts are taken */
	const char *body;	       /* of a manifest */
	size_t body_len;
	struct ql_deployments *deployments;
	/* ql_peer_route_find()'s: */
	enum ql_peer_endpoint route;
	enum ql_peer_kind kind;
	struct ql_digest digest;
};

struct ql_peer_reply {
	unsigned int status;
	const char *type;  /* Content-Type; borrowed, as the next */
	const char *allow; /* of status 405 */
	char etag[80];	   /* "" where there is none, as below */
	char content_range[80];
	bool retry; /* Retry-After */
	/* One of these, or none: */
	json_t *json; /* owned */
	struct ql_buf bytes;
	struct ql_peer_answer answer; /* fd or stream, and len */
	bool chunked;		      /* the stream's length is not known */
};
void ql_peer_reply_init(struct ql_peer_reply *reply);
void ql_peer_reply_release(struct ql_peer_reply *reply);
/* {"error": {"code", "message"}} */
void ql_peer_reply_fail(struct ql_peer_reply *reply, unsigned int status,
			int code, const char *text);

/* Which route it is; where it is none, false, with the reply that says so. */
bool ql_peer_route_find(struct ql_peer_query *query,
			struct ql_peer_reply *reply);
/* Answers; may wait. */
void ql_peer_handle(struct ql_peers *peers, const struct ql_peer_query *query,
		    struct ql_peer_reply *reply);

/* ---- peer-qdm.c ---- */

/* GET and POST /v1/qdm. */
void ql_peer_qdm(const struct ql_peer_query *query,
		 struct ql_peer_reply *reply);

/* ---- agent-tls.c: certificates that may change ---- */

struct ql_tls_server;
/* PEM files; borrowed. */
int ql_tls_server_new(const char *ca, const char *cert, const char *key,
		      struct ql_tls_server **ret_server, struct ql_error *err);
/* No connection has a reference any more.  NULL is fine. */
void ql_tls_server_free(struct ql_tls_server *server);
/* Reads the files again if they are others by now.  1: they are used from now
 * on; 0: as before; a negative errno: they are no good, and those of before
 * stay.  One thread at a time. */
int ql_tls_server_look(struct ql_tls_server *server, struct ql_error *err);
/* A connection that begins (a gnutls_session_t, before its handshake): it shows
 * our certificate, and fails unless the other shows one of the CA.  *ret_use is
 * to be put back when the connection is gone. */
struct ql_tls_use;
int ql_tls_server_begin(struct ql_tls_server *server, void *session,
			struct ql_tls_use **ret_use);
void ql_tls_use_put(struct ql_tls_server *server, struct ql_tls_use *use);
/* A gnutls_certificate_retrieve_function2 (as a number) that has none: the HTTP
 * library wants credentials of its own, which no connection keeps. */
intptr_t ql_tls_no_certificate(void);

/* ---- peer-server.c ---- */

struct ql_peer_server;
/* Takes config's peers.listen, and reads certificates; peers and config are
 * borrowed.  Not every configuration has one: *ret_server is NULL then, which
 * is fine for all below. */
int ql_peer_server_new(struct ql_peers *peers,
		       const struct ql_agent_config *config,
		       struct ql_peer_server **ret_server,
		       struct ql_error *err);
int ql_peer_server_start(struct ql_peer_server *server, struct ql_error *err);
/* Looks now whether certificates have changed.  From any thread. */
void ql_peer_server_look(struct ql_peer_server *server);
/* Who carries out manifests; borrowed; before the start.  NULL server is fine.
 */
void ql_peer_server_deployments(struct ql_peer_server *server,
				struct ql_deployments *deployments);
/* Accepts no more, and ends what goes on; the peers were canceled before. */
void ql_peer_server_stop(struct ql_peer_server *server);
void ql_peer_server_free(struct ql_peer_server *server);

#endif
