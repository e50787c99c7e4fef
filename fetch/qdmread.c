/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A deployment manifest out of JSON, which may have come from anywhere.  An
 * object has the members that the grammar in qdm.h gives it and no others;
 * every count is bounded before anything of that count is allocated.  Nodes are
 * read before their fetches, in which they are named.
 */
#include "fetch/qdm-private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/cleanup.h"
#include "store/base/error.h"
#include "store/base/json.h"

struct reading {
	struct ql_qdm *qdm;    /* borrowed */
	const uint32_t *order; /* borrowed; of nodes by name */
};

static int text_copy(const json_t *obj, const char *key, size_t max,
		     char **ret_text, struct ql_error *err)
{
	const char *s = NULL;
	int r = ql_json_get_string(obj, key, &s, err);

	if (r < 0)
		return r;
	if (strlen(s) > max)
		return ql_error_set(err, -EBADMSG,
				    "\"%s\" is longer than %zu bytes", key,
				    max);
	/* Texts end where C's do: jansson refuses \u0000 unless told. */
	*ret_text = strdup(s);
	return *ret_text ? 0 : ql_error_nomem(err);
}

static int digest_get(const json_t *obj, struct ql_digest *ret_digest,
		      struct ql_error *err)
{
	const char *s = NULL;
	int r = ql_json_get_string(obj, "digest", &s, err);

	if (r == 0 && ql_digest_parse(s, ret_digest, err) < 0) {
		(void)ql_error_prefix(err, "\"digest\"");
		r = -EBADMSG;
	}
	return r;
}

/* ---- the head ---- */

int ql_qdm_kind_check(const json_t *doc, const char *wanted,
		      struct ql_error *err)
{
	const char *version = "", *kind = "";
	int r;

	if (!json_is_object(doc))
		return ql_error_set(err, -EBADMSG, "not an object");
	r = ql_json_get_string(doc, "apiVersion", &version, err);
	if (r == 0)
		r = ql_json_get_string(doc, "kind", &kind, err);
	if (r < 0)
		return r;
	if (strcmp(version, QL_QDM_API_VERSION) != 0)
		return ql_error_set(err, -EOPNOTSUPP,
				    "\"apiVersion\" is %.80s, and "
				    "not " QL_QDM_API_VERSION,
				    version);
	if (strcmp(kind, wanted) != 0)
		return ql_error_set(err, -EOPNOTSUPP,
				    "\"kind\" is %.80s, and not %s", kind,
				    wanted);
	return 0;
}

static int image_read(const json_t *doc, struct ql_qdm *qdm,
		      struct ql_error *err)
{
	static const char *const known[] = { "reference", "digest", NULL };
	json_t *image = NULL;
	int r = ql_json_get_object(doc, "image", &image, err);

	if (r < 0)
		return r;
	r = ql_json_only(image, known, err);
	if (r == 0)
		r = text_copy(image, "reference", QL_QDM_REFERENCE_MAX,
			      &qdm->reference, err);
	if (r == 0)
		r = digest_get(image, &qdm->digest, err);
	if (r < 0)
		(void)ql_error_prefix(err, "\"image\"");
	return r;
}

static int head_read(const json_t *doc, struct ql_qdm *qdm,
		     struct ql_error *err)
{
	static const char *const known[] = { "apiVersion", "kind",    "cluster",
					     "generation", "created", "image",
					     "nodes",	   NULL };
	int r = ql_json_only(doc, known, err);

	if (r == 0)
		r = text_copy(doc, "cluster", QL_QDM_NAME_MAX, &qdm->cluster,
			      err);
	if (r == 0)
		r = ql_json_get_u64(doc, "generation", &qdm->generation, err);
	if (r == 0)
		r = text_copy(doc, "created", QL_QDM_NAME_MAX, &qdm->created,
			      err);
	if (r == 0)
		r = image_read(doc, qdm, err);
	return r;
}

/* ---- nodes ---- */

static int node_read(const json_t *obj, struct ql_qdm *qdm,
		     struct ql_error *err)
{
	static const char *const known[] = { "name", "address", "fetches",
					     NULL };
	struct ql_qdm_node *node = &qdm->nodes[qdm->n_nodes];
	json_t *fetches = NULL;
	size_t n;
	int r;

	if (!json_is_object(obj))
		return ql_error_set(err, -EBADMSG, "not an object");
	qdm->n_nodes++; /* so that it is released */
	r = ql_json_only(obj, known, err);
	if (r == 0)
		r = text_copy(obj, "name", QL_QDM_NAME_MAX, &node->name, err);
	if (r == 0)
		r = text_copy(obj, "address", QL_QDM_ADDRESS_MAX,
			      &node->address, err);
	if (r == 0)
		r = ql_json_get_array(obj, "fetches", &fetches, err);
	if (r < 0)
		return r;
	n = json_array_size(fetches);
	if (n > QL_QDM_FETCHES_MAX - (size_t)qdm->n_fetches)
		return ql_error_set(err, -EFBIG,
				    "more than %d fetches of all nodes",
				    QL_QDM_FETCHES_MAX);
	node->first = qdm->n_fetches;
	node->n = (uint32_t)n;
	qdm->n_fetches += node->n;
	return 0;
}

static int nodes_read(const json_t *nodes, struct ql_qdm *qdm,
		      struct ql_error *err)
{
	size_t n = json_array_size(nodes);

	if (n > QL_QDM_NODES_MAX)
		return ql_error_set(err, -EFBIG, "%zu nodes (at most %d)", n,
				    QL_QDM_NODES_MAX);
	qdm->nodes = calloc(n + 1, sizeof(*qdm->nodes));
	if (!qdm->nodes)
		return ql_error_nomem(err);
	for (size_t i = 0; i < n; i++) {
		int r = node_read(json_array_get(nodes, i), qdm, err);

		if (r < 0) {
			(void)ql_error_prefix(err, "nodes[%zu]", i);
			return r;
		}
	}
	return ql_qdm_sound_names(qdm, err);
}

/* ---- fetches ---- */

static int source_node(const struct reading *rd, const json_t *obj,
		       uint32_t *ret_src, struct ql_error *err)
{
	static const char *const known[] = { "node", "address", NULL };
	const char *name = "", *address = "";
	uint32_t n;
	int r = ql_json_only(obj, known, err);

	if (r == 0)
		r = ql_json_get_string(obj, "node", &name, err);
	if (r == 0)
		r = ql_json_get_string(obj, "address", &address, err);
	if (r < 0)
		return r;
	n = ql_qdm_find_in(rd->qdm, rd->order, name);
	if (n == QL_QDM_NONE)
		return ql_error_set(err, -EBADMSG, "no node is called %.80s",
				    name);
	if (strcmp(rd->qdm->nodes[n].address, address) != 0)
		return ql_error_set(err, -EBADMSG,
				    "node %s has another address than %.80s",
				    name, address);
	*ret_src = n;
	return 0;
}

static int source_read(const struct reading *rd, const json_t *fetch,
		       const char *key, uint32_t *ret_src, struct ql_error *err)
{
	json_t *obj = NULL;
	const json_t *registry;
	int r = ql_json_get_object(fetch, key, &obj, err);

	if (r < 0)
		return r;
	registry = json_object_get(obj, "registry");
	if (!registry)
		r = source_node(rd, obj, ret_src, err);
	else if (!json_is_true(registry) || json_object_size(obj) != 1)
		r = ql_error_set(err, -EBADMSG,
				 "\"registry\" is not true and alone");
	else
		*ret_src = QL_QDM_REGISTRY;
	if (r < 0)
		(void)ql_error_prefix(err, "\"%s\"", key);
	return r;
}

static int fetch_read(const struct reading *rd, const json_t *obj,
		      struct ql_qdm_fetch *f, struct ql_error *err)
{
	static const char *const known[] = { "digest",	 "bytes",	"from",
					     "fallback", "uplinkShare", NULL };
	uint64_t share = 0;
	int r;

	if (!json_is_object(obj))
		return ql_error_set(err, -EBADMSG, "not an object");
	f->fallback = QL_QDM_NONE;
	r = ql_json_only(obj, known, err);
	if (r == 0)
		r = digest_get(obj, &f->digest, err);
	if (r == 0)
		r = ql_json_get_u64(obj, "bytes", &f->bytes, err);
	if (r == 0)
		r = source_read(rd, obj, "from", &f->from, err);
	if (r == 0 && json_object_get(obj, "fallback"))
		r = source_read(rd, obj, "fallback", &f->fallback, err);
	if (r == 0 && json_object_get(obj, "uplinkShare")) {
		r = ql_json_get_u64(obj, "uplinkShare", &share, err);
		if (r == 0 && (share == 0 || share > 1000))
			r = ql_error_set(err, -EBADMSG,
					 "\"uplinkShare\" is not 1 to 1000");
		f->share = (uint16_t)share;
	}
	return r;
}

static int fetches_read(const struct reading *rd, const json_t *nodes,
			struct ql_error *err)
{
	struct ql_qdm *qdm = rd->qdm;

	for (uint32_t i = 0; i < qdm->n_nodes; i++) {
		const struct ql_qdm_node *node = &qdm->nodes[i];
		const json_t *list =
			json_object_get(json_array_get(nodes, i), "fetches");

		for (uint32_t k = 0; k < node->n; k++) {
			int r = fetch_read(rd, json_array_get(list, k),
					   &qdm->fetches[node->first + k], err);

			if (r < 0) {
				(void)ql_error_prefix(err,
						      "node %s: fetches[%u]",
						      node->name, k);
				return r;
			}
		}
	}
	return ql_qdm_sound_fetches(qdm, err);
}

/* ---- all of it ---- */

static int manifest_read(const json_t *doc, struct ql_qdm *qdm,
			 struct ql_error *err)
{
	_cleanup_free_ uint32_t *order = NULL;
	struct reading rd = { .qdm = qdm };
	json_t *nodes = NULL;
	int r = ql_qdm_kind_check(doc, QL_QDM_KIND, err);

	if (r == 0)
		r = head_read(doc, qdm, err);
	if (r == 0)
		r = ql_json_get_array(doc, "nodes", &nodes, err);
	if (r == 0)
		r = nodes_read(nodes, qdm, err);
	if (r < 0)
		return r;
	order = ql_qdm_order(qdm);
	qdm->fetches =
		calloc((size_t)qdm->n_fetches + 1, sizeof(*qdm->fetches));
	if (!order || !qdm->fetches)
		return ql_error_nomem(err);
	rd.order = order;
	return fetches_read(&rd, nodes, err);
}

int ql_qdm_parse(const char *data, size_t len, struct ql_qdm *ret_qdm,
		 struct ql_error *err)
{
	_cleanup_json_ json_t *doc = NULL;
	_cleanup_qdm_ struct ql_qdm qdm = { 0 };
	int r;

	if (len > QL_QDM_BYTES_MAX)
		r = ql_error_set(err, -EFBIG, "%zu bytes (at most %d)", len,
				 QL_QDM_BYTES_MAX);
	else
		r = ql_json_parse(data, len, &doc, err);
	if (r == 0)
		r = manifest_read(doc, &qdm, err);
	if (r < 0) {
		(void)ql_error_prefix(err, "deployment manifest");
		return r;
	}
	*ret_qdm = qdm;
	qdm = (struct ql_qdm){ 0 };
	return 0;
}
