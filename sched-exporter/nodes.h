/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The nodes that plans are made for, as an operator writes them down.  Pure
 * functions; any thread may call them.
 *
 *     {
 *       "apiVersion": "quicklayer.io/v1",
 *       "kind": "Nodes",
 *       "cluster": NAME,
 *       "sites": [
 *         {
 *           "name": NAME,
 *           "uplink": RATE, "uplinkRtt": TIME,    to the registry; absent:
 *               the site has none
 *           "lan": RATE, "lanRtt": TIME           between any two of its nodes
 *         }, …
 *       ],
 *       "links": [                                absent: none
 *         {
 *           "from": SITE, "to": SITE, "rate": RATE, "rtt": TIME,
 *           "oneWay": true                        absent: both ways
 *         }, …
 *       ],
 *       "nodes": [
 *         {
 *           "name": NAME, "site": SITE, "address": "HOST:PORT",
 *           "up": RATE, "down": RATE              absent: its site's lan
 *         }, …
 *       ]
 *     }
 *
 * A RATE is "400Mbit/s" or "50MB/s", a TIME "20ms" (store/base/units.h).  What
 * is not above is refused, as is what comes twice.
 */
#ifndef QL_SCHED_NODES_H
#define QL_SCHED_NODES_H

#include "sched-exporter/plan.h"

enum { QL_NODES_BYTES_MAX = 8 << 20 }; /* of the document */

struct ql_nodes {
	char *cluster;		      /* owned, as all of these */
	struct ql_deploy_site *sites; /* their names are owned, too */
	struct ql_deploy_link *links; /* from site a to b: [a * n_sites + b] */
	struct ql_deploy_node *nodes; /* all alive; their names owned */
	char **addresses;	      /* of each node */
	uint32_t n_sites, n_nodes;
};
void ql_nodes_release(struct ql_nodes *nodes); /* may be zeroed */
#define _cleanup_nodes_ __attribute__((cleanup(ql_nodes_release)))

/* -EBADMSG, saying what is wrong and where; -EOPNOTSUPP: of another kind or
 * version; -EFBIG: more than plans are made for; -ENOMEM. */
int ql_nodes_parse(const char *data, size_t len, struct ql_nodes *ret_nodes,
		   struct ql_error *err);
/* The number of who is called so, or QL_DEPLOY_NONE. */
uint32_t ql_nodes_find(const struct ql_nodes *nodes, const char *name);
/* -EBADMSG: two are called the same, which is named; -ENOMEM. */
int ql_nodes_differ(const struct ql_nodes *nodes, struct ql_error *err);

#endif
