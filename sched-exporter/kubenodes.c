/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sites and nodes out of a NodeList; kubernetes.io/docs, "Node v1 core" and
 * "Kubernetes API Concepts" (pages: metadata.continue).  What the API itself
 * would never say (an item that is no object, a node without a name) is an
 * error; what people put on nodes wrongly is warned of.
 */
#include "sched-exporter/kube.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SITE "quicklayer.io/site"
#define PEER "quicklayer.io/peer"
#define PORT "7700" /* of agents */

enum { NEXT_MAX = 8192 }; /* bytes of what stands in a URL */

enum { UPLINK, UPLINK_RTT, LAN, LAN_RTT, KEYS };

/* Rates in bytes a second, of which the least counts; times in ns. */
static const struct key {
	const char *label;
	bool time;
	uint64_t dflt;
} keys[KEYS] = {
	[UPLINK] = { "net.quicklayer.io/uplink", false, 12500000 },
	[UPLINK_RTT] = { "net.quicklayer.io/uplink-rtt", true, 20000000 },
	[LAN] = { "net.quicklayer.io/lan", false, 125000000 },
	[LAN_RTT] = { "net.quicklayer.io/lan-rtt", true, 1000000 },
};

struct said {
	uint64_t value[KEYS];
	bool given[KEYS];
};

struct ql_kubenodes {
	struct ql_nodes nodes; /* owned; its links are made at the end */
	struct said sites[QL_DEPLOY_SITES_MAX]; /* what their nodes say */
	ql_kube_warn_fn *warn;
	void *arg;		   /* borrowed */
	uint32_t not_ready, wrong; /* left out */
};

int ql_kubenodes_new(const char *cluster, ql_kube_warn_fn *warn, void *arg,
		     struct ql_kubenodes **ret_list, struct ql_error *err)
{
	_cleanup_(ql_kubenodes_freep) struct ql_kubenodes *list = NULL;
	struct ql_nodes *n;

	if (!ql_qdm_name_ok(cluster))
		return ql_error_set(err, -EINVAL,
				    "%.80s: is no name of a cluster", cluster);
	list = calloc(1, sizeof(*list));
	if (!list)
		return ql_error_nomem(err);
	list->warn = warn;
	list->arg = arg;
	n = &list->nodes;
	n->cluster = strdup(cluster);
	n->sites = calloc(QL_DEPLOY_SITES_MAX, sizeof(*n->sites));
	n->nodes = calloc(QL_DEPLOY_NODES_MAX, sizeof(*n->nodes));
	n->addresses = calloc(QL_DEPLOY_NODES_MAX, sizeof(*n->addresses));
	if (!n->cluster || !n->sites || !n->nodes || !n->addresses)
		return ql_error_nomem(err);
	*ret_list = ql_take_ptr(list);
	return 0;
}

void ql_kubenodes_free(struct ql_kubenodes *list)
{
	if (!list)
		return;
	ql_nodes_release(&list->nodes);
	free(list);
}

__attribute__((format(printf, 3, 4))) static void
warn(const struct ql_kubenodes *list, const char *node, const char *fmt, ...)
{
	struct ql_error line = QL_ERROR_INIT; /* for its way with bytes */
	char text[512];
	va_list ap;

	if (!list->warn)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	(void)ql_error_set(&line, -EBADMSG, "node %s: %s", node, text);
	list->warn(line.text, list->arg);
}

/* ---- what a node says of its site ---- */

/* In a file a number alone is bytes a second, or seconds; on a node "100" more
 * likely lacks its "Mbit". */
static bool value_read(const struct key *key, const char *text, uint64_t *ret)
{
	size_t len = strlen(text);
	uint64_t v = 0;
	bool read;

	if (len == 0 || (text[len - 1] >= '0' && text[len - 1] <= '9'))
		return false;
	if (key->time) {
		read = ql_units_duration(text, &v) == 0 &&
		       v <= QL_DEPLOY_RTT_MAX;
	} else {
		read = ql_units_link(text, &v) == 0 ||
		       ql_units_rate(text, &v) == 0;
		read = read && v > 0 && v <= QL_DEPLOY_RATE_MAX;
	}
	*ret = v;
	return read;
}

static void labels_read(const struct ql_kubenodes *list, const char *node,
			const json_t *labels, struct said *said)
{
	for (size_t i = 0; i < KEYS; i++) {
		const char *text =
			ql_json_opt_string(labels, keys[i].label, NULL);
		uint64_t v;

		if (!text)
			continue;
		if (!value_read(&keys[i], text, &v)) {
			warn(list, node,
			     "label %s: \"%.63s\" is no %s, as in %s; it is "
			     "not counted",
			     keys[i].label, text,
			     keys[i].time ? "time" : "rate",
			     keys[i].time ? "20ms" : "100Mbit");
			continue;
		}
		if (!said->given[i] ||
		    (keys[i].time ? v > said->value[i] : v < said->value[i]))
			said->value[i] = v;
		said->given[i] = true;
	}
}

/* ---- where it is ---- */

/* NULL: it has none that is one. */
static char *internal_address(const json_t *status)
{
	const json_t *item;
	size_t i;

	json_array_foreach (json_object_get(status, "addresses"), i, item) {
		const char *ip = ql_json_opt_string(item, "address", "");
		unsigned char bytes[sizeof(struct in6_addr)];

		if (strcmp(ql_json_opt_string(item, "type", ""),
			   "InternalIP") != 0)
			continue;
		if (inet_pton(AF_INET, ip, bytes) == 1)
			return ql_strf("%s:%s", ip, PORT);
		if (inet_pton(AF_INET6, ip, bytes) == 1)
			return ql_strf("[%s]:%s", ip, PORT);
	}
	return strdup("");
}

/* NULL: out of memory; "": it has none. */
static char *address_of(const struct ql_kubenodes *list, const char *node,
			const json_t *meta, const json_t *status)
{
	const char *peer = ql_json_opt_string(
		json_object_get(meta, "annotations"), PEER, NULL);

	if (peer && ql_qdm_address_ok(peer))
		return strdup(peer);
	if (peer)
		warn(list, node,
		     "annotation %s: \"%.80s\" is not HOST:PORT; it is not "
		     "counted",
		     PEER, peer);
	return internal_address(status);
}

/* ---- a node ---- */

static bool is_ready(const json_t *status)
{
	const json_t *item;
	size_t i;

	json_array_foreach (json_object_get(status, "conditions"), i, item)
		if (strcmp(ql_json_opt_string(item, "type", ""), "Ready") == 0)
			return strcmp(ql_json_opt_string(item, "status", ""),
				      "True") == 0;
	return false;
}

static int site_number(struct ql_kubenodes *list, const char *name,
		       uint32_t *ret, struct ql_error *err)
{
	struct ql_nodes *n = &list->nodes;
	uint32_t i;

	for (i = 0; i < n->n_sites; i++)
		if (strcmp(n->sites[i].name, name) == 0)
			break;
	if (i == QL_DEPLOY_SITES_MAX)
		return ql_error_set(err, -EFBIG, "more than %d sites",
				    QL_DEPLOY_SITES_MAX);
	if (i == n->n_sites) {
		n->sites[i].name = strdup(name);
		if (!n->sites[i].name)
			return ql_error_nomem(err);
		n->n_sites++;
	}
	*ret = i;
	return 0;
}

/* address: taken, also where it fails. */
static int node_put(struct ql_kubenodes *list, const char *name,
		    const char *site, char *address, struct ql_error *err)
{
	_cleanup_free_ char *held = address;
	struct ql_nodes *n = &list->nodes;
	struct ql_deploy_node *node = &n->nodes[n->n_nodes];
	int r;

	if (n->n_nodes == QL_DEPLOY_NODES_MAX)
		return ql_error_set(err, -EFBIG, "more than %d nodes of sites",
				    QL_DEPLOY_NODES_MAX);
	r = site_number(list, site, &node->site, err);
	if (r < 0)
		return r;
	node->name = strdup(name);
	if (!node->name)
		return ql_error_nomem(err);
	node->alive = true;
	n->addresses[n->n_nodes++] = ql_take_ptr(held);
	return 0;
}

static int node_take(struct ql_kubenodes *list, const char *name,
		     const json_t *meta, const json_t *status,
		     struct ql_error *err)
{
	const json_t *labels = json_object_get(meta, "labels");
	const char *site = ql_json_opt_string(labels, SITE, "");
	char *address;
	int r;

	if (!ql_qdm_name_ok(site)) {
		warn(list, name,
		     "label %s: \"%.63s\" is no site's name; it is left out",
		     SITE, site);
		list->wrong++;
		return 0;
	}
	address = address_of(list, name, meta, status);
	if (!address)
		return ql_error_nomem(err);
	if (!*address) {
		warn(list, name,
		     "no InternalIP and no annotation %s; it is left out",
		     PEER);
		free(address);
		list->wrong++;
		return 0;
	}
	r = node_put(list, name, site, address, err);
	if (r == 0)
		labels_read(
			list, name, labels,
			&list->sites[list->nodes.nodes[list->nodes.n_nodes - 1]
					     .site]);
	return r;
}

static int item_read(struct ql_kubenodes *list, const json_t *item,
		     struct ql_error *err)
{
	const json_t *status = json_object_get(item, "status");
	const char *name = "";
	json_t *meta = NULL;
	int r = ql_json_get_object(item, "metadata", &meta, err);

	if (r == 0)
		r = ql_json_get_string(meta, "name", &name, err);
	if (r == 0 && !ql_qdm_name_ok(name))
		r = ql_error_set(err, -EBADMSG,
				 "\"name\": \"%.80s\" is no name", name);
	if (r < 0)
		return r;
	if (!json_object_get(json_object_get(meta, "labels"), SITE))
		return 0;
	if (ql_json_opt_string(meta, "deletionTimestamp", NULL) ||
	    !is_ready(status)) {
		list->not_ready++;
		return 0;
	}
	return node_take(list, name, meta, status, err);
}

/* ---- the list ---- */

static int list_read(struct ql_kubenodes *list, const json_t *doc,
		     char **ret_next, struct ql_error *err)
{
	const char *kind = ql_json_opt_string(doc, "kind", "");
	const char *next = ql_json_opt_string(json_object_get(doc, "metadata"),
					      "continue", "");
	json_t *items = NULL;
	json_t *item;
	char *copy = NULL;
	size_t i;
	int r;

	if (strcmp(kind, "NodeList") != 0)
		return ql_error_set(err, -EBADMSG,
				    "it is no NodeList (\"kind\": \"%.80s\")",
				    kind);
	/* Go's empty list may be null. */
	if (!json_is_null(json_object_get(doc, "items"))) {
		r = ql_json_get_array(doc, "items", &items, err);
		if (r < 0)
			return r;
	}
	json_array_foreach (items, i, item) {
		r = item_read(list, item, err);
		if (r < 0)
			return ql_error_prefix(err, "items[%zu]", i);
	}
	if (strlen(next) > NEXT_MAX)
		return ql_error_set(err, -EBADMSG,
				    "\"continue\" has more than %d bytes",
				    NEXT_MAX);
	if (*next) {
		copy = strdup(next);
		if (!copy)
			return ql_error_nomem(err);
	}
	*ret_next = copy;
	return 0;
}

int ql_kubenodes_add(struct ql_kubenodes *list, const char *data, size_t len,
		     char **ret_next, struct ql_error *err)
{
	_cleanup_json_ json_t *doc = NULL;
	int r = ql_json_parse(data, len, &doc, err);

	return r < 0 ? r : list_read(list, doc, ret_next, err);
}

static void sites_settle(struct ql_kubenodes *list)
{
	struct ql_nodes *n = &list->nodes;

	for (uint32_t i = 0; i < n->n_sites; i++) {
		struct ql_deploy_site *site = &n->sites[i];
		uint64_t v[KEYS];

		for (size_t k = 0; k < KEYS; k++)
			v[k] = list->sites[i].given[k] ? list->sites[i].value[k]
						       : keys[k].dflt;
		site->uplink_alive = true;
		site->uplink = v[UPLINK];
		site->uplink_rtt_ns = v[UPLINK_RTT];
		site->lan = v[LAN];
		site->lan_rtt_ns = v[LAN_RTT];
	}
	for (uint32_t i = 0; i < n->n_nodes; i++)
		n->nodes[i].up = n->nodes[i].down =
			n->sites[n->nodes[i].site].lan;
}

int ql_kubenodes_finish(struct ql_kubenodes *list, struct ql_nodes *ret_nodes,
			struct ql_error *err)
{
	struct ql_nodes *n = &list->nodes;
	int r;

	if (n->n_nodes == 0)
		return ql_error_set(err, -ENOENT,
				    "no node is Ready and has the label %s "
				    "(%u have it, %u of them wrongly)",
				    SITE, list->not_ready + list->wrong,
				    list->wrong);
	n->links = calloc((size_t)n->n_sites * n->n_sites, sizeof(*n->links));
	if (!n->links)
		return ql_error_nomem(err);
	r = ql_nodes_differ(n, err);
	if (r < 0)
		return r;
	sites_settle(list);
	*ret_nodes = *n;
	*n = (struct ql_nodes){ 0 };
	return 0;
}
