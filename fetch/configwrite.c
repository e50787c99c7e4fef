/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image's configuration whose layers became others (OCI image-spec 1.1,
 * config.md, "rootfs", "history"): all of it stays but the diff IDs and,
 * where the layers are other ones than there were, the history: engines want
 * as many entries that are not empty as there are layers.
 */
#include "fetch/push-private.h"

#include <errno.h>

#define COMMENT "quicklayer"

static int diff_ids_set(json_t *doc, const struct ql_digest *diff_ids,
			uint32_t n, struct ql_error *err)
{
	_cleanup_json_ json_t *list = json_array();
	json_t *rootfs = NULL;
	int r = ql_json_get_object(doc, "rootfs", &rootfs, err);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < n; i++)
		if (json_array_append_new(list, ql_json_digest(&diff_ids[i])) <
		    0)
			return ql_error_nomem(err);
	if (json_object_set(rootfs, "diff_ids", list) < 0)
		return ql_error_nomem(err);
	return 0;
}

static int text_add(const json_t *doc, struct ql_buf *buf, struct ql_error *err)
{
	_cleanup_free_ char *text = json_dumps(doc, JSON_COMPACT);
	int r;

	if (!text)
		return ql_error_nomem(err);
	r = ql_buf_adds(buf, text);
	return r < 0 ? ql_error_errno(err, r, "the configuration") : 0;
}

int ql_config_write(const char *data, size_t len,
		    const struct ql_digest *diff_ids, uint32_t n_layers,
		    struct ql_buf *buf, struct ql_error *err)
{
	_cleanup_json_ json_t *doc = NULL;
	int r = ql_json_parse(data, len, &doc, err);

	if (r == 0)
		r = diff_ids_set(doc, diff_ids, n_layers, err);
	return r < 0 ? r : text_add(doc, buf, err);
}

/* ---- history ---- */

/* The list there is, or a new one. */
static int history_get(json_t *doc, json_t **ret_list, struct ql_error *err)
{
	const json_t *old = json_object_get(doc, "history");

	if ((!old || json_is_null(old)) &&
	    json_object_set_new(doc, "history", json_array()) < 0)
		return ql_error_nomem(err);
	return ql_json_get_array(doc, "history", ret_list, err);
}

static int history_empty(json_t *list, struct ql_error *err)
{
	json_t *entry;
	size_t i;

	json_array_foreach (list, i, entry) {
		if (!json_is_object(entry))
			return ql_error_set(err, -EBADMSG,
					    "history: not a list of objects");
		if (json_object_set_new(entry, "empty_layer", json_true()) < 0)
			return ql_error_nomem(err);
	}
	return 0;
}

static int history_add(json_t *list, const json_t *doc, const char *created_by,
		       struct ql_error *err)
{
	json_t *created = json_object_get(doc, "created");
	_cleanup_json_ json_t *entry = json_object();
	_cleanup_json_ json_t *by = ql_json_text(created_by);

	if (!entry || !by ||
	    (json_is_string(created) &&
	     json_object_set(entry, "created", created) < 0) ||
	    json_object_set(entry, "created_by", by) < 0 ||
	    json_object_set_new(entry, "comment", json_string(COMMENT)) < 0 ||
	    json_array_append(list, entry) < 0)
		return ql_error_nomem(err);
	return 0;
}

int ql_config_compose(const char *data, size_t len,
		      const struct ql_digest *diff_ids,
		      const char *const *created_by, uint32_t n_layers,
		      struct ql_buf *buf, struct ql_error *err)
{
	_cleanup_json_ json_t *doc = NULL;
	json_t *history = NULL;
	int r = ql_json_parse(data, len, &doc, err);

	if (r == 0)
		r = diff_ids_set(doc, diff_ids, n_layers, err);
	if (r == 0)
		r = history_get(doc, &history, err);
	if (r == 0)
		r = history_empty(history, err);
	for (uint32_t i = 0; i < n_layers && r == 0; i++)
		r = history_add(history, doc, created_by[i], err);
	return r < 0 ? r : text_add(doc, buf, err);
}
