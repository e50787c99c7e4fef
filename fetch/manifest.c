/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Manifests and descriptors.
 *
 * Sources: OCI image-spec 1.1 manifest.md and descriptor.md; distribution's
 * manifest-v2-2.md.  A document that is a manifest and an index at once is
 * refused (CVE-2021-41190).
 */
#include "fetch/fetch-private.h"

#include <errno.h>
#include <string.h>

enum { URLS_MAX = 16 };

static const struct known_type {
	const char *name;
	enum ql_document kind;
} known_types[] = {
	{ "application/vnd.oci.image.manifest.v1+json", QL_DOCUMENT_MANIFEST },
	{ "application/vnd.docker.distribution.manifest.v2+json",
	  QL_DOCUMENT_MANIFEST },
	{ "application/vnd.oci.image.index.v1+json", QL_DOCUMENT_INDEX },
	{ "application/vnd.docker.distribution.manifest.list.v2+json",
	  QL_DOCUMENT_INDEX },
};

static const struct known_type *type_find(const char *name)
{
	size_t len;

	if (!name)
		return NULL;
	len = strcspn(name, "; \t");
	for (size_t i = 0; i < sizeof(known_types) / sizeof(known_types[0]);
	     i++)
		if (strlen(known_types[i].name) == len &&
		    memcmp(known_types[i].name, name, len) == 0)
			return &known_types[i];
	return NULL;
}

static int schema_check(const json_t *doc, const char *media_type,
			struct ql_error *err)
{
	uint64_t version = 0;
	int r;

	if (media_type && (strstr(media_type, "distribution.manifest.v1+")))
		version = 1;
	if (version == 0) {
		r = ql_json_get_u64(doc, "schemaVersion", &version, err);
		if (r < 0)
			return r;
	}
	if (version == 1)
		return ql_error_set(err, -EOPNOTSUPP,
				    "a manifest of schema 1, which docker "
				    "has given up; push the image again");
	if (version != 2)
		return ql_error_set(err, -EOPNOTSUPP,
				    "a manifest of an unknown schema version");
	return 0;
}

int ql_document_kind(const char *data, size_t len, const char *media_type,
		     enum ql_document *ret_kind, struct ql_error *err)
{
	_cleanup_json_ json_t *doc = NULL;
	const struct known_type *type;
	bool is_index, is_manifest;
	int r = ql_json_parse(data, len, &doc, err);

	if (r == 0)
		r = schema_check(doc, media_type, err);
	if (r < 0)
		return r;
	is_index = json_object_get(doc, "manifests") != NULL;
	is_manifest = json_object_get(doc, "layers") ||
		      json_object_get(doc, "config");
	if (is_index && is_manifest)
		return ql_error_set(err, -EBADMSG,
				    "both a manifest and an index");
	if (!is_index && !is_manifest)
		return ql_error_set(err, -EOPNOTSUPP,
				    "neither a manifest nor an index");
	type = type_find(ql_json_opt_string(doc, "mediaType", media_type));
	if (type && (type->kind == QL_DOCUMENT_INDEX) != is_index)
		return ql_error_set(err, -EBADMSG,
				    "not of the media type that it states");
	*ret_kind = is_index ? QL_DOCUMENT_INDEX : QL_DOCUMENT_MANIFEST;
	return 0;
}

/*
 * containerd/stargz-snapshotter, docs/estargz.md and zstdchunked; containers/
 * storage, pkg/chunked, whose annotations began with "io.containers." before
 * its 1.44.
 */
static const char *const note_names[QL_NOTES] = {
	[QL_NOTE_JSON_SUM] = "containerd.io/snapshot/stargz/toc.digest",
	[QL_NOTE_CHUNKED_SUM] =
		"io.github.containers.zstd-chunked.manifest-checksum",
	[QL_NOTE_CHUNKED_POS] =
		"io.github.containers.zstd-chunked.manifest-position",
	[QL_NOTE_CHUNKED0_SUM] = "io.containers.zstd-chunked.manifest-checksum",
	[QL_NOTE_CHUNKED0_POS] = "io.containers.zstd-chunked.manifest-position",
};

static int notes_parse(const json_t *obj, struct ql_descriptor *d,
		       struct ql_error *err)
{
	const json_t *notes = json_object_get(obj, "annotations");

	for (size_t i = 0; i < QL_NOTES; i++) {
		const char *v = ql_json_opt_string(notes, note_names[i], NULL);

		if (!v)
			continue;
		d->notes[i] = strdup(v);
		if (!d->notes[i])
			return ql_error_nomem(err);
	}
	return 0;
}

static int urls_parse(const json_t *obj, struct ql_descriptor *d,
		      struct ql_error *err)
{
	const json_t *urls = json_object_get(obj, "urls");
	size_t n = json_array_size(urls);

	if (n == 0)
		return 0;
	if (n > URLS_MAX)
		n = URLS_MAX;
	d->urls = calloc(n, sizeof(*d->urls));
	if (!d->urls)
		return ql_error_nomem(err);
	for (size_t i = 0; i < n; i++) {
		const char *url = json_string_value(json_array_get(urls, i));

		if (!url)
			return ql_error_set(err, -EBADMSG,
					    "\"urls\" holds no strings");
		d->urls[i] = strdup(url);
		if (!d->urls[i])
			return ql_error_nomem(err);
		d->n_urls = i + 1;
	}
	return 0;
}

int ql_descriptor_parse(const json_t *obj, struct ql_descriptor *ret_d,
			struct ql_error *err)
{
	_cleanup_descriptor_ struct ql_descriptor d = { 0 };
	const char *type = NULL, *digest = NULL;
	int r = ql_json_get_string(obj, "mediaType", &type, err);

	if (r == 0)
		r = ql_json_get_string(obj, "digest", &digest, err);
	if (r == 0)
		r = ql_json_get_u64(obj, "size", &d.size, err);
	if (r == 0)
		r = ql_digest_parse(digest, &d.digest, err);
	if (r == 0)
		r = urls_parse(obj, &d, err);
	if (r == 0)
		r = notes_parse(obj, &d, err);
	if (r < 0)
		return r;
	d.media_type = strdup(type);
	if (!d.media_type)
		return ql_error_nomem(err);
	*ret_d = d;
	d = (struct ql_descriptor){ 0 };
	return 0;
}

void ql_descriptor_release(struct ql_descriptor *d)
{
	for (size_t i = 0; i < d->n_urls; i++)
		free(d->urls[i]);
	free(d->urls);
	for (size_t i = 0; i < QL_NOTES; i++)
		free(d->notes[i]);
	free(d->media_type);
	*d = (struct ql_descriptor){ 0 };
}

static int layer_type_check(const char *type, struct ql_error *err)
{
	if (strstr(type, "+encrypted"))
		return ql_error_set(err, -EOPNOTSUPP,
				    "encrypted (%s), which cannot be read",
				    type);
	if (strncmp(type, "application/vnd.oci.image.layer.", 32) != 0 &&
	    strncmp(type, "application/vnd.docker.image.rootfs.", 36) != 0)
		return ql_error_set(err, -EOPNOTSUPP,
				    "of type %s: not a container image's layer",
				    type);
	return 0;
}

static int layers_parse(const json_t *layers, struct ql_manifest *m,
			struct ql_error *err)
{
	size_t n = json_array_size(layers);
	int64_t total = 0;

	if (n > QL_IMAGE_LAYERS_MAX)
		return ql_error_set(err, -EOPNOTSUPP,
				    "%zu layers, more than the limit of %d", n,
				    QL_IMAGE_LAYERS_MAX);
	m->layers = calloc(n ? n : 1, sizeof(*m->layers));
	if (!m->layers)
		return ql_error_nomem(err);
	for (size_t i = 0; i < n; i++) {
		struct ql_descriptor *d = &m->layers[i];
		int r = ql_descriptor_parse(json_array_get(layers, i), d, err);

		if (r < 0)
			return ql_error_prefix(err, "layer %zu", i + 1);
		m->n_layers = (uint32_t)(i + 1);
		r = layer_type_check(d->media_type, err);
		if (r < 0)
			return ql_error_prefix(err, "layer %zu", i + 1);
		if (__builtin_add_overflow(total, d->size, &total))
			return ql_error_set(err, -EBADMSG,
					    "the layers' sizes are absurd");
	}
	return 0;
}

int ql_manifest_parse(const char *data, size_t len,
		      struct ql_manifest *ret_manifest, struct ql_error *err)
{
	_cleanup_manifest_ struct ql_manifest m = { 0 };
	_cleanup_json_ json_t *doc = NULL;
	json_t *config = NULL, *layers = NULL;
	int r = ql_json_parse(data, len, &doc, err);

	if (r == 0)
		r = ql_json_get_object(doc, "config", &config, err);
	if (r == 0)
		r = ql_json_get_array(doc, "layers", &layers, err);
	if (r == 0)
		r = ql_descriptor_parse(config, &m.config, err);
	if (r == 0)
		r = layers_parse(layers, &m, err);
	if (r < 0)
		return ql_error_prefix(err, "manifest");
	if (m.config.size > QL_CONFIG_MAX)
		return ql_error_set(err, -EFBIG,
				    "manifest: the configuration is larger "
				    "than %d bytes",
				    QL_CONFIG_MAX);
	*ret_manifest = m;
	m = (struct ql_manifest){ 0 };
	return 0;
}

void ql_manifest_release(struct ql_manifest *m)
{
	for (uint32_t i = 0; i < m->n_layers; i++)
		ql_descriptor_release(&m->layers[i]);
	free(m->layers);
	ql_descriptor_release(&m->config);
	*m = (struct ql_manifest){ 0 };
}
