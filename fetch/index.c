/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Choosing an image from an index (OCI image-spec 1.1 image-index.md;
 * distribution's manifest list, manifest-v2-2.md).
 */
#include "fetch/fetch-private.h"

#include <errno.h>
#include <string.h>

enum {
	INDEX_ENTRIES_MAX = 4096,
	INDEX_LIST_MAX = 512, /* bytes of what an error lists */
};

/* The platform of an entry.  -ENOENT: it states none. */
static int entry_platform(const json_t *entry, struct ql_platform *ret_p,
			  struct ql_error *err)
{
	const json_t *obj = json_object_get(entry, "platform");
	const char *os = ql_json_opt_string(obj, "os", "");
	const char *arch = ql_json_opt_string(obj, "architecture", "");
	const char *variant = ql_json_opt_string(obj, "variant", "");
	_cleanup_free_ char *text = NULL;

	if (!*os || !*arch)
		return -ENOENT;
	text = ql_strf("%s/%s%s%s", os, arch, *variant ? "/" : "", variant);
	return text ? ql_platform_parse(text, ret_p, err) : ql_error_nomem(err);
}

/* How well an entry serves; adds what it is to the list. */
static int entry_score(const json_t *entry, const struct ql_platform *wanted,
		       struct ql_buf *list, unsigned int *ret_score,
		       struct ql_error *err)
{
	_cleanup_platform_ struct ql_platform p = { 0 };
	int r = entry_platform(entry, &p, err);

	if (r == -ENOENT) {
		*ret_score = 1; /* better than none */
		return 0;
	}
	if (r < 0)
		return r;
	*ret_score = ql_platform_match(wanted, &p);
	if (strcmp(p.os, "unknown") != 0) /* an attestation */
		(void)ql_buf_addf(list, "%s%s/%s%s%s", list->len ? ", " : "",
				  p.os, p.arch, *p.variant ? "/" : "",
				  p.variant);
	return 0;
}

static int entries_select(const json_t *entries,
			  const struct ql_platform *wanted,
			  const json_t **ret_entry, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf list = QL_BUF_INIT(INDEX_LIST_MAX);
	unsigned int best = 0;
	const json_t *entry;
	size_t i;

	if (json_array_size(entries) > INDEX_ENTRIES_MAX)
		return ql_error_set(err, -EOPNOTSUPP,
				    "index: more than %d entries",
				    INDEX_ENTRIES_MAX);
	json_array_foreach (entries, i, entry) {
		unsigned int score = 0;
		int r = entry_score(entry, wanted, &list, &score, err);

		if (r < 0)
			return ql_error_prefix(err, "index: entry %zu", i + 1);
		if (score > best) {
			best = score;
			*ret_entry = entry;
		}
	}
	if (best == 0)
		return ql_error_set(
			err, -ENOENT, "no image for %s/%s%s%s; there is: %s",
			wanted->os, wanted->arch, *wanted->variant ? "/" : "",
			wanted->variant, list.len ? ql_buf_str(&list) : "none");
	return 0;
}

int ql_index_select(const char *data, size_t len,
		    const struct ql_platform *platform,
		    struct ql_descriptor *ret_d, struct ql_error *err)
{
	_cleanup_json_ json_t *doc = NULL;
	const json_t *entry = NULL;
	json_t *entries = NULL;
	int r = ql_json_parse(data, len, &doc, err);

	if (r == 0)
		r = ql_json_get_array(doc, "manifests", &entries, err);
	if (r < 0)
		return ql_error_prefix(err, "index");
	r = entries_select(entries, platform, &entry, err);
	if (r < 0)
		return r;
	r = ql_descriptor_parse(entry, ret_d, err);
	return r < 0 ? ql_error_prefix(err, "index") : 0;
}
