/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image's configuration whose layers became others (OCI image-spec 1.1,
 * config.md, "rootfs"): all of it stays but the diff IDs.
 */
#include "fetch/push-private.h"

#include <errno.h>

int ql_config_write(const char *data, size_t len,
		    const struct ql_digest *diff_ids, uint32_t n_layers,
		    struct ql_buf *buf, struct ql_error *err)
{
	_cleanup_json_ json_t *doc = NULL;
	_cleanup_json_ json_t *list = json_array();
	_cleanup_free_ char *text = NULL;
	json_t *rootfs = NULL;
	int r = ql_json_parse(data, len, &doc, err);

	if (r == 0)
		r = ql_json_get_object(doc, "rootfs", &rootfs, err);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < n_layers; i++) {
		char id[QL_DIGEST_TEXT + 1];

		if (json_array_append_new(list, json_string(ql_digest_text(
							&diff_ids[i], id))) < 0)
			return ql_error_nomem(err);
	}
	if (json_object_set(rootfs, "diff_ids", list) < 0)
		return ql_error_nomem(err);
	text = json_dumps(doc, JSON_COMPACT);
	if (!text)
		return ql_error_nomem(err);
	r = ql_buf_adds(buf, text);
	return r < 0 ? ql_error_errno(err, r, "the configuration") : 0;
}
