/* SPDX-License-Identifier: Apache-2.0 */
/* A deployment manifest as JSON; its grammar opens qdm.h. */
#include "fetch/qdm-private.h"

#include <errno.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/json.h"

static json_t *source_json(const struct ql_qdm *qdm, uint32_t src)
{
	if (src == QL_QDM_REGISTRY)
		return json_pack("{s:b}", "registry", 1);
	return json_pack("{s:s, s:s}", "node", qdm->nodes[src].name, "address",
			 qdm->nodes[src].address);
}

static json_t *fetch_json(const struct ql_qdm *qdm,
			  const struct ql_qdm_fetch *f)
{
	json_t *fallback = NULL, *share = NULL;

	if (f->fallback != QL_QDM_NONE) {
		fallback = source_json(qdm, f->fallback);
		if (!fallback)
			return NULL;
	}
	if (f->share > 0)
		share = json_integer(f->share);
	/* o* leaves out what is NULL, which a share is not for lack of memory
	 * alone; that one is looked for behind. */
	if (f->share > 0 && !share) {
		json_decref(fallback);
		return NULL;
	}
	return json_pack("{s:o, s:I, s:o, s:o*, s:o*}", "digest",
			 ql_json_digest(&f->digest), "bytes",
			 (json_int_t)f->bytes, "from",
			 source_json(qdm, f->from), "fallback", fallback,
			 "uplinkShare", share);
}

static int node_add(const struct ql_qdm *qdm, const struct ql_qdm_node *node,
		    json_t *nodes)
{
	json_t *fetches = json_array(), *obj;

	for (uint32_t k = 0; fetches && k < node->n; k++)
		if (json_array_append_new(
			    fetches,
			    fetch_json(qdm, &qdm->fetches[node->first + k])) <
		    0) {
			json_decref(fetches);
			return -ENOMEM;
		}
	obj = json_pack("{s:s, s:s, s:o}", "name", node->name, "address",
			node->address, "fetches", fetches);
	return json_array_append_new(nodes, obj) < 0 ? -ENOMEM : 0;
}

struct sink {
	struct ql_buf *out; /* borrowed */
	int code;	    /* what the buffer said */
};

static int sink_add(const char *data, size_t len, void *user)
{
	struct sink *sink = user;

	sink->code = ql_buf_add(sink->out, data, len);
	return sink->code < 0 ? -1 : 0;
}

int ql_qdm_write(const struct ql_qdm *qdm, struct ql_buf *out,
		 struct ql_error *err)
{
	_cleanup_json_ json_t *doc = NULL;
	struct sink sink = { .out = out };
	json_t *nodes;

	doc = json_pack("{s:s, s:s, s:s, s:I, s:s, s:{s:s, s:o}, s:[]}",
			"apiVersion", QL_QDM_API_VERSION, "kind", QL_QDM_KIND,
			"cluster", qdm->cluster, "generation",
			(json_int_t)qdm->generation, "created", qdm->created,
			"image", "reference", qdm->reference, "digest",
			ql_json_digest(&qdm->digest), "nodes");
	nodes = json_object_get(doc, "nodes");
	if (!nodes)
		return ql_error_nomem(err);
	for (uint32_t i = 0; i < qdm->n_nodes; i++)
		if (node_add(qdm, &qdm->nodes[i], nodes) < 0)
			return ql_error_nomem(err);
	if (json_dump_callback(doc, sink_add, &sink, JSON_COMPACT) < 0) {
		if (sink.code == -EFBIG)
			return ql_error_set(err, -EFBIG,
					    "the deployment manifest is larger "
					    "than %zu bytes",
					    out->max);
		return ql_error_nomem(err);
	}
	return 0;
}
