/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Quicklayer Deployment Manifest: who fetches which piece of an image from
 * where, as it is sent to the nodes that carry it out.  Pure functions; any
 * thread may call them.
 *
 *     {
 *       "apiVersion": "quicklayer.io/v1",
 *       "kind": "DeploymentManifest",
 *       "cluster": NAME,
 *       "generation": 1 to 2^63-1, a later plan's is larger,
 *       "created": "2026-11-29T03:02:50Z",
 *       "image": { "reference": TEXT, "digest": "sha256:…" },
 *       "nodes": [
 *         {
 *           "name": NAME,
 *           "address": "HOST:PORT", of its peer server,
 *           "fetches": [            in the order of fetching
 *             {
 *               "digest": "sha256:…",
 *               "bytes": 1 to QL_QDM_PIECE_MAX,
 *               "from": SOURCE,
 *               "fallback": SOURCE, absent where there is none,
 *               "uplinkShare": 1 to 1000, parts per thousand of the way into
 *                   the site that this fetch may take; absent where it does
 *                   not come from outside
 *             }, …
 *           ]
 *         }, …
 *       ]
 *     }
 *     SOURCE: { "registry": true } or { "node": NAME, "address": "HOST:PORT" }
 *
 * A NAME is 1 to 253 of [A-Za-z0-9._-], the first no '.' and no '-' (DNS-1123
 * subdomains and what hosts are called besides).  "nodes" has everyone that is
 * named in a SOURCE, with the same address, also those that fetch nothing.
 *
 * Whatever reads a manifest holds it to all of this: no member that is not
 * above and none twice; no node twice, no piece twice on a node, no piece of
 * two sizes; and nobody that has a piece, by from and fallback, in the end from
 * itself.
 */
#ifndef QL_QDM_H
#define QL_QDM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/digest.h"
#include "store/base/json.h"

struct ql_buf;
struct ql_error;

enum {
	QL_QDM_BYTES_MAX = 64 << 20, /* of the document */
	QL_QDM_NODES_MAX = 4096,
	QL_QDM_FETCHES_MAX = 1 << 18, /* of all nodes together */
	QL_QDM_NAME_MAX = 253,	      /* bytes, as all of these */
	QL_QDM_ADDRESS_MAX = 261,
	QL_QDM_REFERENCE_MAX = 1024,
};

#define QL_QDM_PIECE_MAX (UINT64_C(1) << 44) /* bytes */

/* Instead of a node's number. */
#define QL_QDM_REGISTRY UINT32_MAX
#define QL_QDM_NONE (UINT32_MAX - 1)

#define QL_QDM_API_VERSION "quicklayer.io/v1"
#define QL_QDM_KIND "DeploymentManifest"

struct ql_qdm_fetch {
	struct ql_digest digest;
	uint64_t bytes;
	uint32_t from;	   /* a number in nodes[], or QL_QDM_REGISTRY */
	uint32_t fallback; /* as from, or QL_QDM_NONE */
	uint16_t share;	   /* parts per thousand; 0: not from outside */
};

struct ql_qdm_node {
	char *name;	   /* owned */
	char *address;	   /* owned */
	uint32_t first, n; /* in fetches[] */
};

struct ql_qdm {
	char *cluster; /* owned, as all of these */
	uint64_t generation;
	char *created;
	char *reference;
	struct ql_digest digest;
	struct ql_qdm_node *nodes;
	uint32_t n_nodes;
	struct ql_qdm_fetch *fetches;
	uint32_t n_fetches;
};

void ql_qdm_release(struct ql_qdm *qdm); /* may be zeroed */
#define _cleanup_qdm_ __attribute__((cleanup(ql_qdm_release)))

/* Is it all of the above, but for the JSON?  -EBADMSG, saying what; -ENOMEM. */
int ql_qdm_sound(const struct ql_qdm *qdm, struct ql_error *err);

/* Adds the JSON, on one line.  -ENOMEM; -EFBIG where the buffer is full. */
int ql_qdm_write(const struct ql_qdm *qdm, struct ql_buf *out,
		 struct ql_error *err);

/* -EBADMSG: it is no manifest, saying what and where; -EOPNOTSUPP: of another
 * kind or version; -EFBIG: larger than the bounds above; -ENOMEM. */
int ql_qdm_parse(const char *data, size_t len, struct ql_qdm *ret_qdm,
		 struct ql_error *err);

/* A NAME, and a HOST:PORT, as of above. */
bool ql_qdm_name_ok(const char *name);
bool ql_qdm_address_ok(const char *address);
/* An object of this apiVersion, and of that kind?  -EBADMSG, -EOPNOTSUPP. */
int ql_qdm_kind_check(const json_t *doc, const char *kind,
		      struct ql_error *err);

/* Is it for this cluster, and no older than what is known?  -EPERM: another
 * cluster's; -ESTALE: an older generation. */
int ql_qdm_check(const struct ql_qdm *qdm, const char *cluster,
		 uint64_t generation, struct ql_error *err);

/* The number in nodes[] of who is called so, or QL_QDM_NONE. */
uint32_t ql_qdm_find(const struct ql_qdm *qdm, const char *name);

#endif
