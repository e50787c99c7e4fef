/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Manifests as text (OCI image-spec 1.1, manifest.md, descriptor.md): of
 * images, and of artifacts that refer to one.  The same input gives the same
 * bytes, and so the same digest.
 */
#include "fetch/push-private.h"

#include <errno.h>

/* NULL and "nothing in it" are left out.  0, or -ENOMEM. */
static int set_text(json_t *obj, const char *key, const char *text)
{
	if (!text)
		return 0;
	return json_object_set_new(obj, key, json_string(text)) < 0 ? -EINVAL
								    : 0;
}

static int set_map(json_t *obj, const char *key, json_t *map)
{
	if (!map || json_object_size(map) == 0)
		return 0;
	return json_object_set(obj, key, map) < 0 ? -ENOMEM : 0;
}

int ql_manifest_descriptor(const struct ql_manifest_blob *blob,
			   json_t **ret_obj, struct ql_error *err)
{
	char text[QL_DIGEST_TEXT + 1];
	_cleanup_json_ json_t *obj =
		json_pack("{s:s, s:s, s:I}", "mediaType", blob->media_type,
			  "digest", ql_digest_text(&blob->digest, text), "size",
			  (json_int_t)blob->size);
	int r = obj ? 0 : -ENOMEM;

	if (r == 0)
		r = set_text(obj, "artifactType", blob->artifact_type);
	if (r == 0)
		r = set_map(obj, "annotations", blob->annotations);
	if (r < 0)
		return ql_error_errno(err, r, "a descriptor");
	*ret_obj = ql_take_ptr(obj);
	return 0;
}

static int set_blob(json_t *obj, const char *key,
		    const struct ql_manifest_blob *blob, struct ql_error *err)
{
	json_t *d = NULL;
	int r = ql_manifest_descriptor(blob, &d, err);

	if (r < 0)
		return r;
	return json_object_set_new(obj, key, d) < 0 ? ql_error_nomem(err) : 0;
}

static int set_blobs(json_t *obj, const struct ql_manifest_spec *spec,
		     struct ql_error *err)
{
	json_t *list = json_array();

	if (json_object_set_new(obj, "layers", list) < 0)
		return ql_error_nomem(err);
	for (size_t i = 0; i < spec->n_blobs; i++) {
		json_t *d = NULL;
		int r = ql_manifest_descriptor(&spec->blobs[i], &d, err);

		if (r < 0)
			return r;
		if (json_array_append_new(list, d) < 0)
			return ql_error_nomem(err);
	}
	return 0;
}

int ql_manifest_write(const struct ql_manifest_spec *spec, struct ql_buf *buf,
		      struct ql_error *err)
{
	_cleanup_json_ json_t *obj = json_pack("{s:i, s:s}", "schemaVersion", 2,
					       "mediaType", QL_TYPE_MANIFEST);
	_cleanup_free_ char *text = NULL;
	int r;

	if (!obj)
		return ql_error_nomem(err);
	if (set_text(obj, "artifactType", spec->artifact_type) < 0)
		return ql_error_set(err, -EINVAL,
				    "an artifact type that is "
				    "not UTF-8");
	r = set_blob(obj, "config", &spec->config, err);
	if (r == 0)
		r = set_blobs(obj, spec, err);
	if (r == 0 && spec->subject)
		r = set_blob(obj, "subject", spec->subject, err);
	if (r == 0 && set_map(obj, "annotations", spec->annotations) < 0)
		r = ql_error_nomem(err);
	if (r < 0)
		return r;
	text = json_dumps(obj, JSON_COMPACT);
	if (!text)
		return ql_error_nomem(err);
	r = ql_buf_adds(buf, text);
	return r < 0 ? ql_error_errno(err, r, "the manifest") : 0;
}
