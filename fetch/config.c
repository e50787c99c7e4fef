/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is needed of an image's configuration (OCI image-spec 1.1 config.md):
 * "rootfs", the diff IDs, one per layer; and what it runs on.
 */
#include "fetch/fetch-private.h"

#include <errno.h>

int ql_config_parse(const char *data, size_t len, uint32_t n_layers,
		    struct ql_digest **ret_diff_ids, struct ql_error *err)
{
	_cleanup_free_ struct ql_digest *ids = NULL;
	_cleanup_json_ json_t *doc = NULL;
	json_t *rootfs = NULL, *list = NULL;
	int r = ql_json_parse(data, len, &doc, err);

	if (r == 0)
		r = ql_json_get_object(doc, "rootfs", &rootfs, err);
	if (r == 0)
		r = ql_json_get_array(rootfs, "diff_ids", &list, err);
	if (r < 0)
		return ql_error_prefix(err, "not an image's configuration");
	if (json_array_size(list) != n_layers)
		return ql_error_set(err, -EBADMSG,
				    "the configuration has %zu diff IDs and "
				    "the manifest %u layers",
				    json_array_size(list), n_layers);
	ids = calloc(n_layers ? n_layers : 1, sizeof(*ids));
	if (!ids)
		return ql_error_nomem(err);
	for (uint32_t i = 0; i < n_layers; i++) {
		const char *s = json_string_value(json_array_get(list, i));

		r = ql_digest_parse(s ? s : "", &ids[i], err);
		if (r < 0)
			return ql_error_prefix(err, "diff ID %u", i + 1);
	}
	*ret_diff_ids = ql_take_ptr(ids);
	return 0;
}

int ql_config_check(const char *data, size_t len, const char *platform,
		    struct ql_error *err)
{
	_cleanup_platform_ struct ql_platform wanted = { 0 };
	_cleanup_platform_ struct ql_platform offered = { 0 };
	_cleanup_json_ json_t *doc = NULL;
	_cleanup_free_ char *text = NULL;
	const char *variant;
	int r = ql_platform_parse(platform, &wanted, err);

	if (r == 0)
		r = ql_json_parse(data, len, &doc, err);
	if (r < 0)
		return r;
	variant = ql_json_opt_string(doc, "variant", "");
	text = ql_strf("%s/%s%s%s", ql_json_opt_string(doc, "os", "linux"),
		       ql_json_opt_string(doc, "architecture", "unknown"),
		       *variant ? "/" : "", variant);
	if (!text)
		return ql_error_nomem(err);
	r = ql_platform_parse(text, &offered, err);
	if (r < 0)
		return r;
	if (ql_platform_match(&wanted, &offered) == 0)
		return ql_error_set(err, -ENOENT,
				    "no image for %s; there is: %s", platform,
				    text);
	return 0;
}
