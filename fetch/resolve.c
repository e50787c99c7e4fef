/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a reference to one image: its manifest, by way of indexes, and its
 * configuration.  Everything but what a tag names is checked against the
 * digest and size that named it; what a tag names has the digest it has.
 */
#include "fetch/fetch-private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { INDEX_DEPTH_MAX = 3 };

void ql_resolved_release(struct ql_resolved *r)
{
	ql_buf_release(&r->manifest_json);
	ql_buf_release(&r->config_json);
	ql_manifest_release(&r->manifest);
	free(r->diff_ids);
	*r = (struct ql_resolved){ 0 };
}

/* Fetches one document; d NULL: what the reference names. */
static int document_get(struct ql_source *src, const struct ql_ref *ref,
			const struct ql_descriptor *d, struct ql_buf *buf,
			struct ql_digest *ret_digest, char **ret_type,
			struct ql_error *err)
{
	const struct ql_digest *wanted = d		   ? &d->digest
					 : ref->has_digest ? &ref->digest
							   : NULL;
	_cleanup_free_ char *type = NULL;
	int r;

	if (d && d->size > QL_MANIFEST_MAX)
		return ql_error_set(err, -EFBIG,
				    "manifest: larger than %d bytes",
				    QL_MANIFEST_MAX);
	ql_buf_clear(buf);
	r = src->ops->get_manifest(src, d, buf, &type, err);
	if (r < 0)
		return r;
	if (ql_digest_of(buf->data, buf->len, ret_digest) < 0)
		return ql_error_nomem(err);
	if (wanted && !ql_digest_equal(wanted, ret_digest))
		return ql_error_set(err, -EBADMSG,
				    "manifest: the digest is not that which "
				    "was asked for");
	if (d && d->size != buf->len)
		return ql_error_set(err, -EBADMSG,
				    "manifest: %zu bytes, where the index "
				    "states %" PRIu64,
				    buf->len, d->size);
	*ret_type = ql_take_ptr(type);
	return 0;
}

/* One step: 1 where an index was replaced by what it chose, 0 at an image. */
static int resolve_step(const struct ql_platform *platform,
			const struct ql_buf *buf, const char *type,
			struct ql_descriptor *d, struct ql_error *err)
{
	struct ql_descriptor chosen = { 0 };
	enum ql_document kind = QL_DOCUMENT_MANIFEST;
	int r = ql_document_kind(ql_buf_str(buf), buf->len, type, &kind, err);

	if (r < 0)
		return ql_error_prefix(err, "manifest");
	if (kind == QL_DOCUMENT_MANIFEST)
		return 0;
	r = ql_index_select(ql_buf_str(buf), buf->len, platform, &chosen, err);
	if (r < 0)
		return r;
	ql_descriptor_release(d);
	*d = chosen;
	return 1;
}

static int resolve_walk(struct ql_source *src, const struct ql_ref *ref,
			const struct ql_platform *platform, struct ql_buf *buf,
			struct ql_digest *ret_digest, struct ql_error *err)
{
	_cleanup_descriptor_ struct ql_descriptor d = { 0 };
	struct ql_digest seen[INDEX_DEPTH_MAX + 1];
	int r = 1;

	for (int depth = 0; r > 0; depth++) {
		_cleanup_free_ char *type = NULL;

		if (depth > INDEX_DEPTH_MAX)
			return ql_error_set(err, -ELOOP,
					    "index: nested more than %d deep",
					    INDEX_DEPTH_MAX);
		r = document_get(src, ref, depth ? &d : NULL, buf, &seen[depth],
				 &type, err);
		if (r < 0)
			return r;
		for (int i = 0; i < depth; i++)
			if (ql_digest_equal(&seen[i], &seen[depth]))
				return ql_error_set(err, -ELOOP,
						    "index: points to itself");
		*ret_digest = seen[depth];
		r = resolve_step(platform, buf, type, &d, err);
	}
	return r;
}

int ql_resolve_manifest(struct ql_source *src, const struct ql_ref *ref,
			const char *platform, struct ql_resolved *ret,
			struct ql_error *err)
{
	_cleanup_platform_ struct ql_platform p = { 0 };
	_cleanup_resolved_ struct ql_resolved res = { 0 };
	int r = ql_platform_parse(platform, &p, err);

	if (r < 0)
		return r;
	ql_buf_init(&res.manifest_json, QL_MANIFEST_MAX);
	ql_buf_init(&res.config_json, QL_CONFIG_MAX);
	r = resolve_walk(src, ref, &p, &res.manifest_json, &res.digest, err);
	if (r == 0)
		r = ql_manifest_parse(ql_buf_str(&res.manifest_json),
				      res.manifest_json.len, &res.manifest,
				      err);
	if (r < 0)
		return r;
	*ret = res;
	memset(&res, 0, sizeof(res));
	return 0;
}

static int config_read(struct ql_source *src, struct ql_resolved *resolved,
		       struct ql_error *err)
{
	const struct ql_descriptor *d = &resolved->manifest.config;
	_cleanup_stream_ struct ql_stream *blob = NULL;
	_cleanup_stream_ struct ql_stream *verified = NULL;
	struct ql_http_response rs = { .length = d->size };
	int r = src->ops->open_blob(src, d, &blob, err);

	if (r < 0)
		return r;
	r = ql_stream_verify(blob, &d->digest, d->size, &verified, err);
	if (r < 0)
		return r;
	(void)ql_take_ptr(blob);
	rs.body = verified;
	return ql_http_body(&rs, &resolved->config_json, err);
}

int ql_resolve_config(struct ql_source *src, struct ql_resolved *resolved,
		      struct ql_error *err)
{
	int r = config_read(src, resolved, err);

	if (r == 0)
		r = ql_config_parse(ql_buf_str(&resolved->config_json),
				    resolved->config_json.len,
				    resolved->manifest.n_layers,
				    &resolved->diff_ids, err);
	return r < 0 ? ql_error_prefix(err, "configuration") : 0;
}
