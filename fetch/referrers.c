/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What refers to a manifest: OCI distribution-spec 1.1, "Listing Referrers";
 * and for registries that keep no account of it, the tag in which clients do
 * ("Referrers Tag Schema"): sha256-<hex>, an index, read, changed and put
 * back.  Two clients that do so at once may lose an entry; the specification
 * knows, and has nothing better.
 */
#include "fetch/push-private.h"

#include <errno.h>
#include <string.h>

enum { REFERRERS_MAX = 1024 };

static char *referrers_tag(const struct ql_digest *digest)
{
	char hex[QL_DIGEST_HEX + 1];

	return ql_strf("manifests/sha256-%s", ql_digest_hex(digest, hex));
}

static int index_get(struct ql_registry *reg, const char *path,
		     struct ql_buf *buf, struct ql_error *err)
{
	_cleanup_response_ struct ql_http_response rs = { 0 };
	const struct ql_registry_request rq = { .path = path,
						.accept = QL_TYPE_INDEX };
	int r = ql_registry_send(reg, &rq, &rs, err);

	return r < 0 ? r : ql_http_body(&rs, buf, err);
}

static int empty_index(struct ql_buf *buf, struct ql_error *err)
{
	int r = ql_buf_adds(buf, "{\"schemaVersion\":2,\"mediaType\":"
				 "\"" QL_TYPE_INDEX "\",\"manifests\":[]}");

	return r < 0 ? ql_error_nomem(err) : 0;
}

/* By the tag. */
static int tagged_get(struct ql_registry *reg, const struct ql_digest *digest,
		      struct ql_buf *buf, struct ql_error *err)
{
	_cleanup_free_ char *path = referrers_tag(digest);
	int r = path ? index_get(reg, path, buf, err) : ql_error_nomem(err);

	return r == -ENOENT ? empty_index(buf, err) : r;
}

static int api_path(const struct ql_digest *digest, const char *type,
		    struct ql_buf *path)
{
	char text[QL_DIGEST_TEXT + 1];
	int r = ql_buf_addf(path, "referrers/%s", ql_digest_text(digest, text));

	if (r == 0 && type && *type)
		r = ql_buf_adds(path, "?artifactType=");
	return r == 0 && type && *type ? ql_url_encode(path, type) : r;
}

/* The list of an index, and the index (owned). */
static int index_parse(const struct ql_buf *buf, json_t **ret_index,
		       json_t **ret_list, struct ql_error *err)
{
	_cleanup_json_ json_t *doc = NULL;
	int r = ql_json_parse(ql_buf_str(buf), buf->len, &doc, err);

	if (r == 0)
		r = ql_json_get_array(doc, "manifests", ret_list, err);
	if (r < 0)
		return ql_error_prefix(err, "referrers");
	if (json_array_size(*ret_list) > REFERRERS_MAX)
		return ql_error_set(err, -E2BIG,
				    "more than %d referrers to one manifest",
				    REFERRERS_MAX);
	*ret_index = ql_take_ptr(doc);
	return 0;
}

static int index_print(const json_t *index, struct ql_buf *buf,
		       struct ql_error *err)
{
	_cleanup_free_ char *text = json_dumps(index, JSON_COMPACT);
	int r;

	if (!text)
		return ql_error_nomem(err);
	ql_buf_clear(buf);
	r = ql_buf_adds(buf, text);
	return r < 0 ? ql_error_errno(err, r, "referrers") : 0;
}

/* Servers need not filter, and tags cannot. */
static int index_filter(struct ql_buf *buf, const char *type,
			struct ql_error *err)
{
	_cleanup_json_ json_t *index = NULL;
	json_t *list = NULL;
	int r = index_parse(buf, &index, &list, err);

	if (r < 0)
		return r;
	for (size_t i = json_array_size(list); type && *type && i-- > 0;) {
		const char *is = ql_json_opt_string(json_array_get(list, i),
						    "artifactType", "");

		if (strcmp(is, type) != 0)
			(void)json_array_remove(list, i);
	}
	return index_print(index, buf, err);
}

int ql_registry_referrers(struct ql_registry *reg,
			  const struct ql_digest *digest,
			  const char *artifact_type, struct ql_buf *buf,
			  struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf path = QL_BUF_INIT(4 << 10);
	_cleanup_buf_ struct ql_buf index = QL_BUF_INIT(QL_MANIFEST_MAX);
	int r = api_path(digest, artifact_type, &path);

	if (r < 0)
		return ql_error_nomem(err);
	r = index_get(reg, ql_buf_str(&path), &index, err);
	if (r == -ENOENT || r == -EOPNOTSUPP || r == -EINVAL) {
		ql_buf_clear(&index);
		r = tagged_get(reg, digest, &index, err);
	}
	if (r == 0)
		r = index_filter(&index, artifact_type, err);
	if (r < 0)
		return r;
	r = ql_buf_add(buf, index.data, index.len);
	return r < 0 ? ql_error_errno(err, r, "referrers") : 0;
}

/* Replaces the entry of the same digest; those of others stay. */
static int index_add(struct ql_buf *buf, const struct ql_manifest_blob *m,
		     struct ql_error *err)
{
	_cleanup_json_ json_t *index = NULL;
	json_t *list = NULL;
	json_t *d = NULL;
	char text[QL_DIGEST_TEXT + 1];
	int r = index_parse(buf, &index, &list, err);

	(void)ql_digest_text(&m->digest, text);
	for (size_t i = r == 0 ? json_array_size(list) : 0; i-- > 0;)
		if (strcmp(ql_json_opt_string(json_array_get(list, i), "digest",
					      ""),
			   text) == 0)
			(void)json_array_remove(list, i);
	if (r == 0)
		r = ql_manifest_descriptor(m, &d, err);
	if (r == 0 && json_array_append_new(list, d) < 0)
		r = ql_error_nomem(err);
	return r < 0 ? r : index_print(index, buf, err);
}

int ql_registry_refer(struct ql_registry *reg, const struct ql_digest *subject,
		      const struct ql_manifest_blob *manifest,
		      struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf index = QL_BUF_INIT(QL_MANIFEST_MAX);
	_cleanup_free_ char *path = referrers_tag(subject);
	int r = path ? tagged_get(reg, subject, &index, err)
		     : ql_error_nomem(err);

	if (r == 0)
		r = index_add(&index, manifest, err);
	if (r == 0)
		r = ql_registry_put_manifest(reg, path + strlen("manifests/"),
					     QL_TYPE_INDEX, index.data,
					     index.len, err);
	return r < 0 ? ql_error_prefix(err, "referrers") : 0;
}
