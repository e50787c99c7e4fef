/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other nodes: who they are, what they have, and what passes through this
 * one on its way to them.  Part of fetch/fetch.h; include that.
 *
 * Nodes of a site share its uplink.  Each byte of a blob belongs, by its blob
 * and its region of QL_PEER_REGION bytes, to one node of the site (rendezvous
 * hashing: Thaler & Ravishankar, 1998; no node need know more than the names of
 * the others).  Who needs it asks that node, who gets it from the registry (or
 * from another site, where that is faster), keeps it for a while (relay.c), and
 * passes it on as it arrives; so it comes over the uplink once, however many
 * nodes need it at once.  Who is asked so never asks a third node: there are no
 * circles.  What a node has opened is no blob any more but files: these are had
 * from it by their digests, many in one request.
 *
 * A peer is never believed: what it sends is verified as what a registry sends,
 * and who sends what is wrong is not asked for a time that grows.
 *
 * What is spoken, HTTP/1.1 over TCP, with mutual TLS where that is configured:
 *
 *   GET /v1/objects/DIGEST   a file's content; with one Range or none
 *   GET /v1/blobs/DIGEST     a blob as a registry has it (layer, manifest,
 *                            configuration); with one Range or none.
 *       Quicklayer-Repository: [http://]DOMAIN/PATH, and Quicklayer-Size: BYTES
 *                            what is not here is to be fetched from there
 *   POST /v1/batch           many parts; see below
 *   GET /v1/summary          who the node is, and its layers: JSON, with an
 *                            ETag that is its generation
 *   GET /v1/filter           which objects it has: a Bloom filter, with an ETag
 *   GET /v1/tables/DIGEST    the table of contents of a blob (store/toc.h)
 *   GET, POST /v1/qdm        a deployment manifest, and how it is coming on
 *
 * DIGEST is "sha256:" and 64 hexadecimal digits.  What is only partly here is
 * served as far as it is here from the first byte asked for on: 206 with a
 * Content-Range that ends earlier.  404: nothing of it is here, or not for the
 * one who asks.  416, 413, 429, 503 with Retry-After as of RFC 9110.
 *
 * A batch is lines "objects DIGEST OFFSET LEN\n" or "blobs DIGEST OFFSET
 * LEN\n", QL_PEER_BATCH_MAX at most.  Its answer (200,
 * application/vnd.quicklayer.frames) is a frame for each, in their order:
 *
 *     "QLF1"  status (u32)  length (u64)  length bytes
 *
 * Numbers are little-endian; status is 0, or a positive errno of Linux with no
 * bytes; length may be less than was asked for.
 */
#ifndef QL_PEERS_H
#define QL_PEERS_H

#include <stdbool.h>
#include <stdint.h>

#include "store/store.h"

enum {
	QL_PEER_REGION = 1 << 20,      /* bytes */
	QL_PEER_BATCH_MAX = 4096,      /* parts */
	QL_PEER_BATCH_BYTES = 1 << 20, /* of the request */
	QL_PEER_FRAME_HEADER = 16,
	QL_PEER_NAME_MAX = 253,
	QL_PEERS_MAX = 1024,
};

#define QL_PEER_FRAME_MAGIC "QLF1"
#define QL_PEER_REPOSITORY "Quicklayer-Repository"
#define QL_PEER_SIZE "Quicklayer-Size"

enum ql_peer_share {
	QL_PEER_SHARE_ANONYMOUS, /* what was pulled without credentials; the
				  * rest to who authenticates (default) */
	QL_PEER_SHARE_ALL,
	QL_PEER_SHARE_NONE, /* to who authenticates alone */
};

/* All borrowed for the life of the ql_peers. */
struct ql_peers_options {
	const char *name; /* this node's; NULL: the host's */
	const char *site; /* NULL: "default" */
	/* "HOST:PORT" each, and names whose addresses all are peers
	 * ("NAME:PORT", looked up again and again). */
	const char *const *list, *const *dns;
	size_t n_list, n_dns;
	const char *listen; /* this node's own, which is never asked */
	/* PEM files, read again when they change; all three or none. */
	const char *ca, *cert, *key;
	enum ql_peer_share share;
	uint64_t relay;		/* bytes that are kept to be passed on */
	const char *config_dir; /* registries' settings; NULL: the default */
	bool plain_http;
};

struct ql_peers;
/* Begins to look for them at once, by a thread of its own. */
int ql_peers_new(struct ql_store *store, const struct ql_peers_options *options,
		 struct ql_peers **ret_peers, struct ql_error *err);
/* From any thread: what waits fails soon, with -ECANCELED. */
void ql_peers_cancel(struct ql_peers *peers);
/* Every stream and whatever borrowed it are gone.  NULL is fine. */
void ql_peers_free(struct ql_peers *peers);
QL_DEFINE_CLEANUP(struct ql_peers *, ql_peers_free)
/* Other nodes that a deployment manifest names; "HOST:PORT".  Twice is as once.
 * -EINVAL, -ENOSPC: too many. */
int ql_peers_add(struct ql_peers *peers, const char *address,
		 struct ql_error *err);
/* Each as {"address", "name", "site", "state", "rtt_ms", "rate", …}; the
 * caller's.  NULL: out of memory. */
json_t *ql_peers_json(struct ql_peers *peers);

/* This node's own name; borrowed. */
const char *ql_peers_name(const struct ql_peers *peers);
/* Whether each that is known has been asked who it is, or did not answer. */
bool ql_peers_settled(struct ql_peers *peers);

/* ---- whom a deployment manifest says to ask: peerroute.c ---- */

/* Borrowed addresses, which have been added; NULL: the registry. */
struct ql_peer_route {
	struct ql_digest blob;
	const char *from, *fallback;
};
/* Of an image (the digest of its manifest), in place of what was said of it
 * before.  -ENOSPC: of too many. */
int ql_peers_route(struct ql_peers *peers, const struct ql_digest *image,
		   const struct ql_peer_route *routes, size_t n,
		   struct ql_error *err);
void ql_peers_unroute(struct ql_peers *peers, const struct ql_digest *image);

/* ---- what is served: peerserve.c, relay.c ---- */

enum ql_peer_kind { QL_PEER_OBJECT, QL_PEER_BLOB, QL_PEER_TABLE };

struct ql_peer_ask {
	enum ql_peer_kind kind;
	struct ql_digest digest;
	uint64_t offset, len; /* len UINT64_MAX: to the end; 0: nothing but its
			       * size, of what is here */
	bool trusted;	      /* who asks has authenticated */
	/* Of a blob that is not here: whence to fetch it, and its size
	 * (borrowed; NULL: it is not to be fetched). */
	const char *repository;
	uint64_t size;
};

struct ql_peer_answer {
	int fd;			  /* owned; -1: it is in stream */
	uint64_t fd_offset;	  /* in fd, of the first byte */
	struct ql_stream *stream; /* owned; may wait for what is coming */
	uint64_t len;		  /* bytes that follow: as asked, or less */
	uint64_t size;		  /* of the whole; 0: not known */
};
void ql_peer_answer_release(struct ql_peer_answer *answer);

/* From any thread; may wait for a registry where repository is given.  Not
 * described: -ENOENT (also: not for the one who asks); -ERANGE: offset is
 * behind the end.  Others described. */
int ql_peers_open(struct ql_peers *peers, const struct ql_peer_ask *ask,
		  struct ql_peer_answer *ret_answer, struct ql_error *err);

/* ---- what others may know of this node: peersummary.c ---- */

/* Changes with what is here; its text is the ETag of both. */
uint64_t ql_peers_generation(struct ql_peers *peers);
/* {"apiVersion": "quicklayer.io/v1", "kind": "NodeSummary", "name", "site",
 *  "generation", "layers": [diff IDs of whole layers], "images": [digests]};
 * the caller's. */
int ql_peers_summary(struct ql_peers *peers, bool trusted, json_t **ret_summary,
		     struct ql_error *err);
/* Appends the filter: see peerfilter.h. */
int ql_peers_filter(struct ql_peers *peers, bool trusted, struct ql_buf *buf,
		    struct ql_error *err);
/* Whether who asks may have this object, blob, manifest or configuration, if
 * it is here.  What was pulled a moment ago may not be yet. */
bool ql_peers_may_share(struct ql_peers *peers, const struct ql_digest *digest,
			bool trusted);

#endif
