/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The nodes that plans are made for, out of a Kubernetes API's Node objects
 * (core/v1).  Those with the label quicklayer.io/site count, if they are Ready
 * and not being deleted:
 *
 *     label       quicklayer.io/site            the site
 *     annotation  quicklayer.io/peer            "HOST:PORT" of its agent;
 *                 absent: its first InternalIP, port 7700
 *     labels      net.quicklayer.io/uplink      RATE to the registry (100Mbit)
 *                 net.quicklayer.io/uplink-rtt  TIME (20ms)
 *                 net.quicklayer.io/lan         RATE within the site (1Gbit)
 *                 net.quicklayer.io/lan-rtt     TIME (1ms)
 *
 * A node's name is its object's, which has to be its agent's peers.name.  The
 * four last describe the site: of what its nodes say, the smallest rate and the
 * largest time hold, and what none says is as in brackets.  A RATE is
 * "100Mbit" or "50MB", a TIME "20ms" (a label holds no "/", so no "/s"; both
 * have a unit).  Between sites there are no links.
 *
 * One node's mistake is no reason to plan for none: a value that cannot be
 * read is warned of and counts as absent, and a node without an address, or
 * whose site's name is none, is warned of and left out.
 */
#ifndef QL_SCHED_KUBE_H
#define QL_SCHED_KUBE_H

#include "fetch/fetch.h"
#include "sched-exporter/nodes.h"

/* One line, without control characters; borrowed for the call. */
typedef void ql_kube_warn_fn(const char *text, void *arg);

/* ---- kube.c: asked of the API ---- */

struct ql_kube_options {
	struct ql_kubeapi_options api;
	const char *cluster;   /* NULL: "default" */
	ql_kube_warn_fn *warn; /* by the calling thread; or NULL */
	void *arg;
};

enum {
	/* Nodes of one answer, and its bytes: 64 KiB for each. */
	QL_KUBE_PAGE = 250,
	QL_KUBE_PAGE_BYTES_MAX = 16 << 20,
	QL_KUBE_PAGES_MAX = 1000,
};

/* -ENOENT: no API is known, or no node has the label and is Ready; -EACCES: it
 * does not let us; and as of ql_kubeapi_get() and below.  From any thread. */
int ql_kube_nodes(const struct ql_kube_options *options,
		  struct ql_nodes *ret_nodes, struct ql_error *err);

/* ---- kubenodes.c: of a list's text; pure, any thread ---- */

struct ql_kubenodes;
/* cluster is copied; warn may be NULL.  -EINVAL: it is no name. */
int ql_kubenodes_new(const char *cluster, ql_kube_warn_fn *warn, void *arg,
		     struct ql_kubenodes **ret_list, struct ql_error *err);
void ql_kubenodes_free(struct ql_kubenodes *list); /* NULL is fine */
QL_DEFINE_CLEANUP(struct ql_kubenodes *, ql_kubenodes_free)
/* One page of a NodeList.  *ret_next (owned): where the next one goes on; NULL:
 * it was the last.  -EBADMSG: it is none, saying what is wrong and where;
 * -EFBIG: more than plans are made for; -ENOMEM.  After a failure, free the
 * list. */
int ql_kubenodes_add(struct ql_kubenodes *list, const char *data, size_t len,
		     char **ret_next, struct ql_error *err);
/* Call it once.  -ENOENT: there is none, saying how many were left out;
 * -EBADMSG: one is there twice. */
int ql_kubenodes_finish(struct ql_kubenodes *list, struct ql_nodes *ret_nodes,
			struct ql_error *err);

#endif
