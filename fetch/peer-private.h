/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files about other nodes (peer*.c, relay.c) share with each other.
 *
 * A read of a blob is cut at regions (peersource.c); each belongs to one node
 * of the site (peerrank.c), which is asked for it (peerhttp.c), or is this one
 * (relay.c).  Who the others are, and how they do: peers.c.
 *
 * Locks: ql_peers has one, for the list and for what changes of each peer; it
 * is never held over a request, a look-up of a name, or a call into another
 * file.  The relay has one of its own; neither is held where the other is
 * taken.
 */
#ifndef QL_PEER_PRIVATE_H
#define QL_PEER_PRIVATE_H

#include <pthread.h>

#include "fetch/fetch-private.h"

enum {
	QL_PEER_ID = 32,		/* hexadecimal digits */
	QL_PEER_SUMMARY_MAX = 16 << 20, /* bytes */
};

/* ---- peers.c: who they are ---- */

enum ql_peer_state {
	QL_PEER_NEW,  /* not asked yet */
	QL_PEER_LIVE, /* it answers */
	QL_PEER_DEAD, /* it did not; asked for its summary alone */
	QL_PEER_SELF, /* it is this node */
};

struct ql_peer_filter; /* peerlook.c */

/* How much comes, over all streams together; of the last quarter of a second in
 * which something did. */
struct ql_peer_flow {
	uint64_t at;	       /* ns: when something came last */
	uint64_t since, bytes; /* of the window that runs */
	uint64_t rate;	       /* bytes a second, in the last one */
};

/* By references: it stays while somebody has one, also once out of the list. */
struct ql_peer {
	char *address; /* owned; "HOST:PORT" */
	char *url;     /* owned; "http[s]://HOST:PORT" */
	atomic_uint refs;

	/* peers->lock protects all below. */
	char *id;   /* owned; of that process; "" before it has answered, */
	char *name; /* as the next two, owned */
	char *site;
	char *etag; /* owned; of its last summary; or NULL */
	enum ql_peer_state state;
	uint64_t generation; /* of what it has */
	uint64_t rtt;	     /* ns, smoothed; 0: not known */
	uint64_t rate;	     /* bytes a second, smoothed; 0: not known */
	uint64_t wait;	     /* ns until a blob's first byte, smoothed; or 0 */
	uint64_t not_before; /* ns: it lied, or was slow */
	uint64_t probe_at;   /* ns: its summary is asked for again */
	uint64_t lied_at;    /* ns */
	struct ql_peer_flow flow;    /* of all that comes of it */
	unsigned int lies, failures; /* failures: in a row */
	unsigned int slow;	     /* so often in a row */
	unsigned int faults;	     /* within a short time */
	uint64_t failed_at;	     /* ns */
	bool passes;	/* it fetches for others: it is in the ring */
	bool looked_up; /* by a name: it goes when the name has it no more */
	uint64_t seen;	/* ns: when the name had it last */
	/* The generation whose filter could not be had, and until when (ns) it
	 * is not asked for again. */
	uint64_t failed_filter, failed_until;
	/* One reference; peerlook.c's alone, under peers->lock. */
	struct ql_peer_filter *filter;
	struct ql_peer *next;
};

struct ql_relay;
struct ql_peer_known; /* peersummary.c */
struct ql_peer_routes;

struct ql_peers {
	struct ql_store *store;		 /* borrowed */
	struct ql_peers_options options; /* borrowed */
	char *name, *site;		 /* owned */
	char id[QL_PEER_ID + 1];	 /* of this process, random */
	struct ql_http *http;		 /* owned */
	struct ql_tls tls;		 /* its strings borrowed */
	struct ql_relay *relay;		 /* owned */
	struct ql_peer_ledger *ledger;	 /* owned; has its own lock */
	struct ql_peer_known *known;	 /* owned; has its own locks */
	struct ql_peer_routes *routes;	 /* owned; has its own lock */
	pthread_t threads[2];		 /* peerprobe.c */
	unsigned int n_threads;

	pthread_mutex_t lock; /* protects all below */
	pthread_cond_t wake;
	struct ql_peer *list; /* owned */
	size_t n;
	bool stop;
	struct ql_peer_flow registry_flow;
	uint64_t registry_rate; /* bytes a second of one stream; 0: not known */
	uint64_t registry_wait; /* ns until its first byte; 0: not known */
};

/* Whether this node fetches for others; its summary says so ("passes"). */
bool ql_peers_passes(const struct ql_peers *peers);
/* Peers that may be asked now, the best first: those of this site, or of
 * others.  A reference to each.  How many, max at most. */
size_t ql_peers_pick(struct ql_peers *peers, bool same_site,
		     struct ql_peer **ret_list, size_t max);
/* Whether there is one, of this site. */
bool ql_peers_any(struct ql_peers *peers);
/* Whether it may be asked now. */
bool ql_peer_usable(struct ql_peers *peers, struct ql_peer *peer);
struct ql_peer *ql_peer_ref(struct ql_peer *peer);
void ql_peer_unref(struct ql_peer *peer); /* NULL is fine */
QL_DEFINE_CLEANUP(struct ql_peer *, ql_peer_unref)

/*
 * Whose a region of a blob is: the nodes of this site that fetch for others and
 * may be asked, by their weights, NULL for this one; max at most.  A reference
 * to each.  How many.
 */
size_t ql_peers_ring(struct ql_peers *peers, const struct ql_digest *blob,
		     uint64_t region, struct ql_peer **ret_list, size_t max);

/* What became of a request.  It did not answer, broke off, or its answer is no
 * HTTP: not asked until it has told its summary again. */
void ql_peer_failed(struct ql_peers *peers, struct ql_peer *peer, int error);
/* It sent what is wrong: not asked for a time that grows, 1 s to 10 min. */
void ql_peer_lied(struct ql_peers *peers, struct ql_peer *peer,
		  const char *what);
/* It is one of several of whom one lied: not asked for a second. */
void ql_peer_suspect(struct ql_peers *peers, struct ql_peer *peer);
/* It is much slower than others: passed over for a while.  waited: ns in which
 * nothing came. */
void ql_peer_slow(struct ql_peers *peers, struct ql_peer *peer,
		  uint64_t waited);

/* ---- peermeasure.c: how fast they are ---- */

/* The first byte came after wait ns, and so many bytes in the ns that followed
 * (waiting for the reader not counted). */
void ql_peer_measured(struct ql_peers *peers, struct ql_peer *peer,
		      uint64_t wait, uint64_t bytes, uint64_t ns);
/* So many bytes came of it, in whatever stream. */
void ql_peer_came(struct ql_peers *peers, struct ql_peer *peer, uint64_t bytes);
/* What has been waited for since then (ns) comes too late: for as long as
 * patience nothing of it came, nor in any other stream.  (One that sends
 * others' bytes, and waits for the uplink with these, is not waited for in
 * vain.) */
bool ql_peer_is_stalled(struct ql_peers *peers, struct ql_peer *peer,
			uint64_t since, uint64_t patience);
/* The same of the registry. */
void ql_peers_registry_came(struct ql_peers *peers, uint64_t bytes);
void ql_peers_registry_measured(struct ql_peers *peers, uint64_t wait,
				uint64_t bytes, uint64_t ns);
/* How blobs come: ns until the first byte, and bytes a second: of one stream of
 * the registry, or of all that have a share of the uplink; with the site's, of
 * all that this node has by way of others of its site too.  0: not known. */
void ql_peers_blobs_measured(struct ql_peers *peers, bool of_site,
			     uint64_t *ret_wait, uint64_t *ret_rate);
/* So long a silence of a peer is too long: max(4 smoothed waits of it or of the
 * registry, which it may itself wait for; 300 ms). */
uint64_t ql_peer_patience(struct ql_peers *peers, struct ql_peer *peer);
/* Whether so many bytes a second, as one stream of it has, or what all together
 * have, is too little: less than half of what the registry gives one, and of
 * what the others of its site give on average. */
bool ql_peer_lags(struct ql_peers *peers, struct ql_peer *peer, uint64_t rate);
/* The rule: bytes a second; 0: not known. */
bool ql_peer_is_slower(uint64_t rate, uint64_t others, uint64_t registry);

/* ---- peerprobe.c: the threads that ask for summaries, and for names ---- */

int ql_peers_start(struct ql_peers *peers, struct ql_error *err);
/* Of peers.c: adds one, or sees it again.  -EINVAL, -ENOSPC: too many. */
int ql_peers_put(struct ql_peers *peers, const char *address, bool looked_up,
		 struct ql_error *err);

/* ---- peersummary.c: what others may know of this node ---- */

int ql_peer_known_new(struct ql_peers *peers, struct ql_peer_known **ret_known,
		      struct ql_error *err);
void ql_peer_known_free(struct ql_peer_known *known); /* NULL is fine */

/* ---- peershare.c: what anybody may have ---- */

struct ql_peer_shared;
int ql_peer_shared_new(struct ql_peers *peers, struct ql_peer_shared **ret,
		       struct ql_error *err);
void ql_peer_shared_free(struct ql_peer_shared *shared); /* NULL is fine */
bool ql_peer_shared_has(struct ql_peer_shared *shared,
			const struct ql_digest *digest);

/* ---- peerlook.c: which objects a peer has ---- */

/* By the thread of peers.c, with no lock held: the peer's generation is another
 * than that of its filter: asks for that (ql_peer_get()). */
void ql_peer_filter_update(struct ql_peers *peers, struct ql_peer *peer);
void ql_peer_filter_free(struct ql_peer_filter *filter); /* NULL is fine */
/* What it is known to have; one reference, for ql_peer_filter_free(), or NULL.
 */
struct ql_peer_filter *ql_peer_filter_get(struct ql_peers *peers,
					  struct ql_peer *peer);
/* It is likely to have it; or (false) had it not when it was asked last. */
bool ql_peer_filter_has(const struct ql_peer_filter *filter,
			const struct ql_digest *object);

/* ---- peerbatch.c: many parts in one request ---- */

struct ql_peer_part {
	struct ql_digest object;
	uint64_t offset, len; /* in it */
};
/* The frames of an answer, as they come.  Owned by who reads. */
struct ql_peer_frames {
	struct ql_stream *in;		  /* borrowed */
	const struct ql_peer_part *parts; /* borrowed: that were asked for */
	size_t n, next;			  /* the next frame's */
	uint64_t left;			  /* bytes of this one */
};
struct ql_peer_frame {
	size_t part;  /* its number */
	int error;    /* 0, or a negative errno */
	uint64_t len; /* bytes that follow; no more than were asked for */
};
void ql_peer_frames_init(struct ql_peer_frames *f, struct ql_stream *in,
			 const struct ql_peer_part *parts, size_t n);
/* Goes on to the next, past what was not read: 1, or 0: there are no more.
 * -EPROTO: this is no answer to what was asked for. */
int ql_peer_frames_next(struct ql_peer_frames *f,
			struct ql_peer_frame *ret_frame, struct ql_error *err);
/* Up to len bytes of the frame; 0: its end.  -EPROTO: it breaks off. */
ssize_t ql_peer_frames_read(struct ql_peer_frames *f, void *buf, size_t len,
			    struct ql_error *err);
/* Appends the lines of a request. */
int ql_peer_batch_print(const struct ql_peer_part *parts, size_t n,
			struct ql_buf *buf);
/*
 * Asks for them: what it answers with, to be read as frames; freed by the
 * caller, whereupon the peer is measured.  It fails with -ETIMEDOUT where the
 * peer is silent for longer than ql_peer_patience(), or not done by the
 * deadline (ql_now_ns()); it is told of neither.  Else as ql_peer_open().
 */
int ql_peer_batch_open(struct ql_peers *peers, struct ql_peer *peer,
		       const struct ql_peer_part *parts, size_t n,
		       uint64_t deadline, struct ql_stream **ret_stream,
		       struct ql_error *err);

/* ---- peerhttp.c: one request to one peer ---- */

struct ql_peer_request {
	const char *path;     /* "/v1/…"; borrowed, as is all here */
	const char *etag;     /* If-None-Match; or NULL */
	uint64_t offset, len; /* a range; len 0: to the end */
	const void *body;     /* POST; NULL: GET */
	size_t body_len;
	const char *repository; /* or NULL */
	uint64_t size;		/* with it */
	bool bulk;		/* the answer may be large */
	uint64_t patience;	/* ns without a byte; 0: ql_peer_patience() */
};
/*
 * Waits for the answer's headers.  200 and 206 alone are successes, and 304
 * where etag is given.  Whoever reads the body reads with the same patience.
 * What else it answers: -ENOENT (404), -ERANGE (416), -EBUSY (429, 503), and
 * is no failure of the peer's; a network's error, a redirect, or another
 * status is, and it is told so (ql_peer_failed()).
 */
int ql_peer_open(struct ql_peers *peers, struct ql_peer *peer,
		 const struct ql_peer_request *rq,
		 struct ql_http_response *ret_rs, struct ql_error *err);
/* The same in two steps, so that several can be asked at once. */
struct ql_peer_call;
int ql_peer_begin(struct ql_peers *peers, struct ql_peer *peer,
		  const struct ql_peer_request *rq,
		  struct ql_peer_call **ret_call, struct ql_error *err);
/* Frees the call, also on failure; but for -EAGAIN (not described): it has not
 * answered by then (ql_now_ns()). */
int ql_peer_answer(struct ql_peer_call *call, uint64_t deadline,
		   struct ql_http_response *ret_rs, struct ql_error *err);
/* Frees the call; waits with its patience. */
int ql_peer_finish(struct ql_peer_call *call, struct ql_http_response *ret_rs,
		   struct ql_error *err);
void ql_peer_call_free(struct ql_peer_call *call); /* NULL is fine */
/* The rest of an answer's body; -EFBIG: more than buf may hold. */
int ql_peer_body(struct ql_peers *peers, struct ql_peer *peer,
		 struct ql_http_response *rs, uint64_t patience,
		 struct ql_buf *buf, struct ql_error *err);
/* All of a body (buf's max at most); ret_rs->body is NULL. */
int ql_peer_get(struct ql_peers *peers, struct ql_peer *peer,
		const struct ql_peer_request *rq, struct ql_buf *buf,
		struct ql_http_response *ret_rs, struct ql_error *err);

/* ---- peerrank.c: pure ---- */

/* Rendezvous hashing: the weight of a node for a region of a blob; who has the
 * greatest has the region, then the second, … */
uint64_t ql_peer_weight(const char *id, const struct ql_digest *blob,
			uint64_t region);
/* What it costs (ns) to get so many bytes from a node with this round trip and
 * rate (0: not known). */
uint64_t ql_peer_cost(uint64_t rtt, uint64_t rate, uint64_t bytes);
/* The next smoothed value; RFC 6298 §2: alpha 1/8. */
uint64_t ql_peer_smooth(uint64_t old, uint64_t sample);
/* ns that one is not asked who has lied so often (1, 2, …). */
uint64_t ql_peer_penalty(unsigned int lies);

/* ---- relay.c: what passes through this node ---- */

/* Its threads start when they are needed.  Nothing is kept, and nothing
 * fetched, where peers->options.relay is 0. */
int ql_relay_new(struct ql_peers *peers, struct ql_relay **ret_relay,
		 struct ql_error *err);
void ql_relay_cancel(struct ql_relay *relay);
void ql_relay_free(struct ql_relay *relay); /* NULL is fine */

/*
 * A part of a blob (ask->digest, ->offset, ->len, ->size), from where it begins
 * to the end of its region at most: what is here or coming is shared, and what
 * is not is fetched from ask->repository (NULL: it is not fetched).
 * Waits for its first byte.  Not described: -ENOENT: nothing of it is here, or
 * not for the one who asks; -ERANGE.  Others described: the registry's.
 */
int ql_relay_open(struct ql_peers *peers, const struct ql_peer_ask *ask,
		  struct ql_peer_answer *ret_answer, struct ql_error *err);
/* Without waiting, for this node itself: the stream waits, until *cancel (may
 * be NULL) is set.  *ret_len: bytes that follow. */
int ql_relay_begin(struct ql_peers *peers, const struct ql_peer_ask *ask,
		   const atomic_bool *cancel, struct ql_stream **ret_stream,
		   uint64_t *ret_len, struct ql_error *err);
/* What passed of a part of a blob was wrong: it is forgotten. */
void ql_relay_doubt(struct ql_peers *peers, const struct ql_digest *blob,
		    uint64_t from, uint64_t to);

/* ---- peerroute.c: whom a deployment manifest says to ask ---- */

enum { QL_PEER_WAYS = 2 }; /* before the registry */
struct ql_peer_routes;
int ql_peer_routes_new(struct ql_peer_routes **ret_routes,
		       struct ql_error *err);
void ql_peer_routes_free(struct ql_peer_routes *routes); /* NULL is fine */
/* Whether a blob comes as a manifest says: by the relay, for whoever wants it.
 */
bool ql_peers_is_routed(struct ql_peers *peers, const struct ql_digest *blob);
/* A part of a blob from whom is to be asked first (way 0), or then (1);
 * *ret_peer is a reference.  -ENOENT (not described): there is nobody.  What is
 * read waits as long as a peer is waited for. */
int ql_peers_route_open(struct ql_peers *peers, const struct ql_peer_ask *ask,
			unsigned int way, struct ql_peer **ret_peer,
			struct ql_stream **ret_stream, struct ql_error *err);

/* ---- peerledger.c: who gave what ---- */

struct ql_peer_ledger;
int ql_peer_ledger_new(struct ql_peer_ledger **ret_ledger,
		       struct ql_error *err);
void ql_peer_ledger_free(struct ql_peer_ledger *ledger); /* NULL is fine */
/* A peer (NULL: the relay) gave a part of a blob.  The numbers of entries only
 * grow: *at is the last one's of who gives on (0: none yet). */
void ql_peers_gave(struct ql_peers *peers, struct ql_peer *peer,
		   const struct ql_digest *blob, uint64_t from, uint64_t to,
		   uint64_t *at);
/*
 * A part of a blob as it came here was wrong, wherever it came from: who gave
 * of it is not asked for a while, and what the relay has of it is forgotten.
 * True: some of it came so; another try, soon, asks the registry itself.
 */
bool ql_peers_doubt(struct ql_peers *peers, const struct ql_digest *blob,
		    uint64_t from, uint64_t to);
/* That was so a moment ago. */
bool ql_peers_is_doubted(struct ql_peers *peers, const struct ql_digest *blob,
			 uint64_t from, uint64_t to);

/* ---- peersource.c: a source whose blobs come from peers first ---- */

/* Takes the inner source (a registry's) on success. */
int ql_peersource_new(struct ql_peers *peers, struct ql_source *inner,
		      const struct ql_ref *ref, bool plain_http,
		      struct ql_source **ret_src, struct ql_error *err);

#endif
