/* SPDX-License-Identifier: Apache-2.0 */
/* Sites, links and nodes out of JSON. */
#include "sched-exporter/nodes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fetch/fetch.h"

void ql_nodes_release(struct ql_nodes *nodes)
{
	for (uint32_t i = 0; i < nodes->n_sites; i++)
		free((char *)nodes->sites[i].name);
	for (uint32_t i = 0; i < nodes->n_nodes; i++) {
		free((char *)nodes->nodes[i].name);
		free(nodes->addresses[i]);
	}
	free(nodes->cluster);
	free(nodes->sites);
	free(nodes->links);
	free(nodes->nodes);
	free(nodes->addresses);
	*nodes = (struct ql_nodes){ 0 };
}

uint32_t ql_nodes_find(const struct ql_nodes *nodes, const char *name)
{
	for (uint32_t i = 0; i < nodes->n_nodes; i++)
		if (strcmp(nodes->nodes[i].name, name) == 0)
			return i;
	return QL_DEPLOY_NONE;
}

static uint32_t site_find(const struct ql_nodes *nodes, const char *name)
{
	for (uint32_t i = 0; i < nodes->n_sites; i++)
		if (strcmp(nodes->sites[i].name, name) == 0)
			return i;
	return QL_DEPLOY_NONE;
}

/* ---- members ---- */

static int rate_get(const json_t *obj, const char *key, uint64_t *ret,
		    struct ql_error *err)
{
	const char *text = NULL;
	int r = ql_json_get_string(obj, key, &text, err);

	if (r < 0)
		return r;
	r = ql_units_link(text, ret);
	if (r < 0)
		r = ql_units_rate(text, ret);
	if (r < 0 || *ret == 0 || *ret > QL_DEPLOY_RATE_MAX)
		return ql_error_set(err, -EBADMSG,
				    "\"%s\": \"%.80s\" is no rate, as in "
				    "\"100Mbit/s\"",
				    key, text);
	return 0;
}

static int time_get(const json_t *obj, const char *key, uint64_t *ret,
		    struct ql_error *err)
{
	const char *text = NULL;
	int r = ql_json_get_string(obj, key, &text, err);

	if (r < 0)
		return r;
	if (ql_units_duration(text, ret) < 0 || *ret > QL_DEPLOY_RTT_MAX)
		return ql_error_set(err, -EBADMSG,
				    "\"%s\": \"%.80s\" is no time up to a "
				    "minute, as in \"20ms\"",
				    key, text);
	return 0;
}

static int name_get(const json_t *obj, const char *key, char **ret,
		    struct ql_error *err)
{
	const char *text = NULL;
	int r = ql_json_get_string(obj, key, &text, err);

	if (r < 0)
		return r;
	if (!ql_qdm_name_ok(text))
		return ql_error_set(err, -EBADMSG,
				    "\"%s\": \"%.80s\" is no name", key, text);
	*ret = strdup(text);
	return *ret ? 0 : ql_error_nomem(err);
}

/* An array's length, within a bound. */
static int array_get(const json_t *doc, const char *key, size_t max,
		     json_t **ret, struct ql_error *err)
{
	int r = ql_json_get_array(doc, key, ret, err);

	if (r == 0 && json_array_size(*ret) > max)
		return ql_error_set(err, -EFBIG,
				    "\"%s\": %zu of them (at most %zu)", key,
				    json_array_size(*ret), max);
	return r;
}

/* ---- sites ---- */

static int site_read(const json_t *obj, struct ql_nodes *nodes,
		     struct ql_error *err)
{
	static const char *const known[] = { "name", "uplink", "uplinkRtt",
					     "lan",  "lanRtt", NULL };
	struct ql_deploy_site *s = &nodes->sites[nodes->n_sites];
	char *name = NULL;
	int r = ql_json_only(obj, known, err);

	if (r == 0)
		r = name_get(obj, "name", &name, err);
	if (r < 0)
		return r;
	if (site_find(nodes, name) != QL_DEPLOY_NONE) {
		r = ql_error_set(err, -EBADMSG, "site %s is there twice", name);
		free(name);
		return r;
	}
	s->name = name;
	nodes->n_sites++; /* so that it is released */
	if (json_object_get(obj, "uplink")) {
		s->uplink_alive = true;
		r = rate_get(obj, "uplink", &s->uplink, err);
		if (r == 0)
			r = time_get(obj, "uplinkRtt", &s->uplink_rtt_ns, err);
	}
	if (r == 0)
		r = rate_get(obj, "lan", &s->lan, err);
	if (r == 0)
		r = time_get(obj, "lanRtt", &s->lan_rtt_ns, err);
	return r;
}

/* ---- links ---- */

static int site_get(const json_t *obj, const char *key,
		    const struct ql_nodes *nodes, uint32_t *ret,
		    struct ql_error *err)
{
	const char *name = NULL;
	int r = ql_json_get_string(obj, key, &name, err);

	if (r < 0)
		return r;
	*ret = site_find(nodes, name);
	if (*ret == QL_DEPLOY_NONE)
		return ql_error_set(err, -EBADMSG,
				    "\"%s\": no site is called %.80s", key,
				    name);
	return 0;
}

static int link_put(struct ql_nodes *nodes, uint32_t from, uint32_t to,
		    const struct ql_deploy_link *link, struct ql_error *err)
{
	struct ql_deploy_link *at = &nodes->links[from * nodes->n_sites + to];

	if (at->rate > 0)
		return ql_error_set(err, -EBADMSG,
				    "from %s to %s is there twice",
				    nodes->sites[from].name,
				    nodes->sites[to].name);
	*at = *link;
	return 0;
}

static int link_read(const json_t *obj, struct ql_nodes *nodes,
		     struct ql_error *err)
{
	static const char *const known[] = { "from", "to",     "rate",
					     "rtt",  "oneWay", NULL };
	struct ql_deploy_link link = { 0 };
	const json_t *one_way = json_object_get(obj, "oneWay");
	uint32_t from = 0, to = 0;
	int r = ql_json_only(obj, known, err);

	if (r == 0)
		r = site_get(obj, "from", nodes, &from, err);
	if (r == 0)
		r = site_get(obj, "to", nodes, &to, err);
	if (r == 0 && from == to)
		r = ql_error_set(err, -EBADMSG, "a link of a site to itself");
	if (r == 0)
		r = rate_get(obj, "rate", &link.rate, err);
	if (r == 0)
		r = time_get(obj, "rtt", &link.rtt_ns, err);
	if (r == 0 && one_way && !json_is_boolean(one_way))
		r = ql_error_set(err, -EBADMSG,
				 "\"oneWay\" is not true or false");
	if (r == 0)
		r = link_put(nodes, from, to, &link, err);
	if (r == 0 && !json_is_true(one_way))
		r = link_put(nodes, to, from, &link, err);
	return r;
}

/* ---- nodes ---- */

static int node_rates(const json_t *obj, const struct ql_nodes *nodes,
		      struct ql_deploy_node *node, struct ql_error *err)
{
	uint64_t lan = nodes->sites[node->site].lan;
	int r = 0;

	node->up = node->down = lan;
	if (json_object_get(obj, "up"))
		r = rate_get(obj, "up", &node->up, err);
	if (r == 0 && json_object_get(obj, "down"))
		r = rate_get(obj, "down", &node->down, err);
	return r;
}

static int node_read(const json_t *obj, struct ql_nodes *nodes,
		     struct ql_error *err)
{
	static const char *const known[] = { "name", "site", "address",
					     "up",   "down", NULL };
	struct ql_deploy_node *node = &nodes->nodes[nodes->n_nodes];
	const char *address = "";
	char *name = NULL;
	int r = ql_json_only(obj, known, err);

	if (r == 0)
		r = name_get(obj, "name", &name, err);
	if (r < 0)
		return r;
	node->name = name;
	node->alive = true;
	nodes->n_nodes++; /* so that it is released */
	r = site_get(obj, "site", nodes, &node->site, err);
	if (r == 0)
		r = ql_json_get_string(obj, "address", &address, err);
	if (r == 0 && !ql_qdm_address_ok(address))
		r = ql_error_set(err, -EBADMSG,
				 "\"address\": \"%.80s\" is not HOST:PORT",
				 address);
	if (r < 0)
		return r;
	nodes->addresses[nodes->n_nodes - 1] = strdup(address);
	if (!nodes->addresses[nodes->n_nodes - 1])
		return ql_error_nomem(err);
	return node_rates(obj, nodes, node, err);
}

static int name_compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Thousands of them: sorted, not each with each. */
int ql_nodes_differ(const struct ql_nodes *nodes, struct ql_error *err)
{
	_cleanup_free_ const char **names =
		calloc(nodes->n_nodes + 1UL, sizeof(*names));
	int r = 0;

	if (!names)
		return ql_error_nomem(err);
	for (uint32_t i = 0; i < nodes->n_nodes; i++)
		names[i] = nodes->nodes[i].name;
	qsort(names, nodes->n_nodes, sizeof(*names), name_compare);
	for (uint32_t i = 1; i < nodes->n_nodes && r == 0; i++)
		if (strcmp(names[i - 1], names[i]) == 0)
			r = ql_error_set(err, -EBADMSG,
					 "node %s is there twice", names[i]);
	return r;
}

/* ---- the document ---- */

typedef int item_fn(const json_t *obj, struct ql_nodes *nodes,
		    struct ql_error *err);

static int items_read(const json_t *list, const char *key, item_fn *read,
		      struct ql_nodes *nodes, struct ql_error *err)
{
	const json_t *obj;
	size_t i;

	json_array_foreach ((json_t *)list, i, obj) {
		int r = json_is_object(obj)
				? read(obj, nodes, err)
				: ql_error_set(err, -EBADMSG, "not an object");

		if (r < 0)
			return ql_error_prefix(err, "%s[%zu]", key, i);
	}
	return 0;
}

static int lists_read(const json_t *doc, struct ql_nodes *nodes,
		      struct ql_error *err)
{
	json_t *sites = NULL, *list = NULL, *links = NULL;
	int r = array_get(doc, "sites", QL_DEPLOY_SITES_MAX, &sites, err);

	if (r == 0)
		r = array_get(doc, "nodes", QL_DEPLOY_NODES_MAX, &list, err);
	if (r == 0 && json_object_get(doc, "links"))
		r = ql_json_get_array(doc, "links", &links, err);
	if (r < 0)
		return r;
	nodes->sites =
		calloc(json_array_size(sites) + 1, sizeof(*nodes->sites));
	nodes->nodes = calloc(json_array_size(list) + 1, sizeof(*nodes->nodes));
	nodes->addresses = calloc(json_array_size(list) + 1, sizeof(char *));
	nodes->links =
		calloc(json_array_size(sites) * json_array_size(sites) + 1,
		       sizeof(*nodes->links));
	if (!nodes->sites || !nodes->nodes || !nodes->addresses ||
	    !nodes->links)
		return ql_error_nomem(err);
	r = items_read(sites, "sites", site_read, nodes, err);
	if (r == 0)
		r = items_read(links, "links", link_read, nodes, err);
	if (r == 0)
		r = items_read(list, "nodes", node_read, nodes, err);
	return r < 0 ? r : ql_nodes_differ(nodes, err);
}

static int document_read(const json_t *doc, struct ql_nodes *nodes,
			 struct ql_error *err)
{
	static const char *const known[] = { "apiVersion", "kind",  "cluster",
					     "sites",	   "links", "nodes",
					     NULL };
	int r = ql_qdm_kind_check(doc, "Nodes", err);

	if (r == 0)
		r = ql_json_only(doc, known, err);
	if (r == 0)
		r = name_get(doc, "cluster", &nodes->cluster, err);
	return r < 0 ? r : lists_read(doc, nodes, err);
}

int ql_nodes_parse(const char *data, size_t len, struct ql_nodes *ret_nodes,
		   struct ql_error *err)
{
	_cleanup_json_ json_t *doc = NULL;
	_cleanup_nodes_ struct ql_nodes nodes = { 0 };
	int r;

	if (len > QL_NODES_BYTES_MAX)
		return ql_error_set(err, -EFBIG, "larger than %d bytes",
				    QL_NODES_BYTES_MAX);
	r = ql_json_parse(data, len, &doc, err);
	if (r == 0)
		r = document_read(doc, &nodes, err);
	if (r < 0)
		return r;
	*ret_nodes = nodes;
	nodes = (struct ql_nodes){ 0 };
	return 0;
}
