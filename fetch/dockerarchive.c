/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The output of `docker save` as a source: a tar file whose manifest.json
 * lists, for each image, its configuration, tags and layers.
 *
 * It has no manifest, so one is made: an OCI manifest of the layers as they
 * stand in the archive (plain tars, whose digests are the diff IDs), written
 * always in the same way, so that the same archive is the same image.
 *
 * Source: moby image/tarexport/save.go and image/spec/v1.2.md, "Combined
 * Image JSON + Filesystem Changeset Format".
 */
#include "fetch/fetch-private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

struct archive_blob {
	struct ql_digest digest;
	uint64_t offset; /* in the archive, bytes */
	uint64_t size;
	const char *media_type; /* static */
};

struct archive {
	struct ql_source base;
	const struct ql_ref *ref; /* borrowed */
	int fd;			  /* owned */
	struct ql_tarindex index;
	struct archive_blob *blobs; /* owned; the configuration is the first */
	uint32_t n_blobs;
	char *manifest; /* owned */
};

static int member_find(const struct archive *a, const char *name, size_t max,
		       const struct ql_tar_member **ret_member,
		       struct ql_error *err)
{
	const struct ql_tar_member *m = ql_tarindex_find(&a->index, name);

	if (!m)
		return ql_error_set(err, -EBADMSG,
				    "not a docker archive: it has no %s", name);
	if (m->size > max)
		return ql_error_set(err, -EFBIG, "%s is larger than %zu bytes",
				    name, max);
	*ret_member = m;
	return 0;
}

static int member_read(const struct archive *a, const struct ql_tar_member *m,
		       struct ql_buf *buf, struct ql_error *err)
{
	size_t len = (size_t)m->size;
	ssize_t n;

	if (ql_buf_reserve(buf, len) < 0)
		return ql_error_nomem(err);
	n = ql_pread_full(a->fd, buf->data, len, m->offset);
	if (n < 0)
		return ql_error_errno(err, (int)n, "read");
	if ((size_t)n < len)
		return ql_error_set(err, -EBADMSG, "the archive ends early");
	buf->len = len;
	buf->data[len] = '\0';
	return 0;
}

/* Is this archive's tag the one that the reference means? */
static bool tag_matches(const char *tag, const char *wanted)
{
	_cleanup_ref_ struct ql_ref ref = { 0 };

	return tag && ql_ref_parse(tag, &ref, NULL) == 0 &&
	       strcmp(ref.name, wanted) == 0;
}

static int entry_select(const struct archive *a, const json_t *entries,
			const json_t **ret_entry, struct ql_error *err)
{
	const json_t *entry;
	size_t i, j;

	if (!a->ref->tag) {
		if (json_array_size(entries) != 1)
			return ql_error_set(err, -EINVAL,
					    "the archive has %zu images; name "
					    "one: docker-archive:FILE:NAME:TAG",
					    json_array_size(entries));
		*ret_entry = json_array_get(entries, 0);
		return 0;
	}
	json_array_foreach (entries, i, entry) {
		const json_t *tags = json_object_get(entry, "RepoTags");
		const json_t *tag;

		json_array_foreach (tags, j, tag) {
			if (tag_matches(json_string_value(tag), a->ref->tag)) {
				*ret_entry = entry;
				return 0;
			}
		}
	}
	return ql_error_set(err, -ENOENT, "no such image in the archive");
}

/* Hashes a part of the archive. */
static int part_digest(const struct archive *a, const struct ql_tar_member *m,
		       struct ql_digest *ret_digest, struct ql_error *err)
{
	_cleanup_stream_ struct ql_stream *s = NULL;
	_cleanup_free_ char *chunk = malloc(QL_INPUT_SIZE);
	struct ql_hasher *hasher;
	ssize_t n;
	int r = ql_filestream_new(a->fd, m->offset, m->size, &s, err);

	if (r < 0)
		return r;
	hasher = ql_hasher_new();
	if (!hasher || !chunk) {
		ql_hasher_free(hasher);
		return ql_error_nomem(err);
	}
	while ((n = ql_stream_read(s, chunk, QL_INPUT_SIZE, err)) > 0)
		ql_hasher_update(hasher, chunk, (size_t)n);
	if (n == 0)
		ql_hasher_final(hasher, ret_digest);
	ql_hasher_free(hasher);
	return (int)n;
}

static int layer_add(struct archive *a, const char *name,
		     const struct ql_digest *diff_id, struct ql_error *err)
{
	struct archive_blob *blob = &a->blobs[a->n_blobs];
	const struct ql_tar_member *m = NULL;
	uint8_t magic[4] = { 0 };
	enum ql_compression kind;
	int r = member_find(a, name, SIZE_MAX, &m, err);

	if (r < 0)
		return r;
	if (ql_pread_full(a->fd, magic, sizeof(magic), m->offset) < 0)
		return ql_error_errno(err, -EIO, "%s", name);
	kind = ql_compression_sniff(magic, sizeof(magic));
	blob->offset = m->offset;
	blob->size = m->size;
	blob->digest = *diff_id;
	blob->media_type =
		kind == QL_COMPRESSION_GZIP
			? "application/vnd.oci.image.layer.v1.tar+gzip"
		: kind == QL_COMPRESSION_ZSTD
			? "application/vnd.oci.image.layer.v1.tar+zstd"
			: "application/vnd.oci.image.layer.v1.tar";
	a->n_blobs++;
	return kind == QL_COMPRESSION_NONE
		       ? 0
		       : part_digest(a, m, &blob->digest, err);
}

static int layers_add(struct archive *a, const json_t *layers,
		      const struct ql_digest *diff_ids, struct ql_error *err)
{
	const json_t *layer;
	size_t i;

	json_array_foreach (layers, i, layer) {
		const char *name = json_string_value(layer);
		int r;

		if (!name)
			return ql_error_set(err, -EBADMSG,
					    "manifest.json: a layer has no "
					    "name");
		r = layer_add(a, name, &diff_ids[i], err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int image_read(struct archive *a, const json_t *entry,
		      struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_CONFIG_MAX);
	_cleanup_free_ struct ql_digest *diff_ids = NULL;
	const struct ql_tar_member *m = NULL;
	const char *config = NULL;
	json_t *layers = NULL;
	size_t n;
	int r = ql_json_get_string(entry, "Config", &config, err);

	if (r == 0)
		r = ql_json_get_array(entry, "Layers", &layers, err);
	if (r < 0)
		return ql_error_prefix(err, "manifest.json");
	n = json_array_size(layers);
	if (n > QL_IMAGE_LAYERS_MAX)
		return ql_error_set(err, -EOPNOTSUPP,
				    "%zu layers, more than the limit of %d", n,
				    QL_IMAGE_LAYERS_MAX);
	r = member_find(a, config, QL_CONFIG_MAX, &m, err);
	if (r == 0)
		r = member_read(a, m, &buf, err);
	if (r == 0)
		r = ql_config_parse(ql_buf_str(&buf), buf.len, (uint32_t)n,
				    &diff_ids, err);
	if (r < 0)
		return r;
	a->blobs = calloc(n + 1, sizeof(*a->blobs));
	if (!a->blobs ||
	    ql_digest_of(buf.data, buf.len, &a->blobs[0].digest) < 0)
		return ql_error_nomem(err);
	a->blobs[0].offset = m->offset;
	a->blobs[0].size = m->size;
	a->blobs[0].media_type = "application/vnd.oci.image.config.v1+json";
	a->n_blobs = 1;
	return layers_add(a, layers, diff_ids, err);
}

static json_t *descriptor_make(const struct archive_blob *blob)
{
	char digest[QL_DIGEST_TEXT + 1];

	return json_pack("{s:s, s:s, s:I}", "mediaType", blob->media_type,
			 "digest", ql_digest_text(&blob->digest, digest),
			 "size", (json_int_t)blob->size);
}

static int manifest_make(struct archive *a, struct ql_error *err)
{
	_cleanup_json_ json_t *doc = json_object();
	json_t *layers = json_array();
	int r = 0;

	for (uint32_t i = 1; i < a->n_blobs; i++)
		r |= json_array_append_new(layers,
					   descriptor_make(&a->blobs[i]));
	r |= json_object_set_new(doc, "schemaVersion", json_integer(2));
	r |= json_object_set_new(
		doc, "mediaType",
		json_string("application/vnd.oci.image.manifest.v1+json"));
	r |= json_object_set_new(doc, "config", descriptor_make(&a->blobs[0]));
	r |= json_object_set_new(doc, "layers", layers);
	if (r == 0)
		a->manifest = json_dumps(doc, JSON_COMPACT);
	return a->manifest ? 0 : ql_error_nomem(err);
}

static int archive_read(struct archive *a, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_MANIFEST_MAX);
	_cleanup_json_ json_t *doc = NULL;
	const struct ql_tar_member *m = NULL;
	const json_t *entry = NULL;
	int r = ql_tarindex_read(a->fd, &a->index, err);

	if (r == 0)
		r = member_find(a, "manifest.json", QL_MANIFEST_MAX, &m, err);
	if (r == 0)
		r = member_read(a, m, &buf, err);
	if (r == 0)
		r = ql_json_parse(ql_buf_str(&buf), buf.len, &doc, err);
	if (r == 0)
		r = entry_select(a, doc, &entry, err);
	if (r == 0)
		r = image_read(a, entry, err);
	return r < 0 ? r : manifest_make(a, err);
}

static int get_manifest(struct ql_source *src, const struct ql_descriptor *d,
			struct ql_buf *buf, char **ret_type,
			struct ql_error *err)
{
	struct archive *a = (struct archive *)src;

	(void)d; /* there are no indexes here */
	*ret_type = NULL;
	return ql_buf_adds(buf, a->manifest) < 0 ? ql_error_nomem(err) : 0;
}

static int open_blob(struct ql_source *src, const struct ql_descriptor *d,
		     struct ql_stream **ret_stream, struct ql_error *err)
{
	struct archive *a = (struct archive *)src;

	for (uint32_t i = 0; i < a->n_blobs; i++)
		if (ql_digest_equal(&a->blobs[i].digest, &d->digest))
			return ql_filestream_new(a->fd, a->blobs[i].offset,
						 a->blobs[i].size, ret_stream,
						 err);
	return ql_error_set(err, -ENOENT, "not in the archive");
}

static void archive_cancel(struct ql_source *src)
{
	(void)src; /* reading a file does not wait */
}

static void archive_free(struct ql_source *src)
{
	struct archive *a = (struct archive *)src;

	if (a->fd >= 0)
		(void)close(a->fd);
	ql_tarindex_release(&a->index);
	free(a->blobs);
	free(a->manifest);
	free(a);
}

static const struct ql_source_ops archive_ops = {
	.get_manifest = get_manifest,
	.open_blob = open_blob,
	.cancel = archive_cancel,
	.free = archive_free,
};

/* Its content can be read at any offset: a file, and not compressed. */
static int file_check(int fd, struct ql_error *err)
{
	uint8_t magic[6] = { 0 };
	const char *by = NULL;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return ql_error_errno(err, -errno, "stat");
	if (!S_ISREG(st.st_mode))
		return ql_error_set(err, -EINVAL, "not a file");
	if (ql_pread_full(fd, magic, sizeof(magic), 0) < 0)
		return ql_error_errno(err, -EIO, "read");
	if (ql_compression_sniff(magic, 4) == QL_COMPRESSION_GZIP)
		by = "gzip";
	else if (ql_compression_sniff(magic, 4) == QL_COMPRESSION_ZSTD)
		by = "zstd";
	else if (memcmp(magic,
			"\xfd"
			"7zXZ",
			6) == 0)
		by = "xz";
	else if (memcmp(magic, "BZh", 3) == 0)
		by = "bzip2";
	if (by)
		return ql_error_set(err, -EOPNOTSUPP,
				    "the archive is compressed by %s; unpack "
				    "it to a plain .tar first",
				    by);
	return 0;
}

int ql_dockerarchive_open_fd(int fd, const struct ql_ref *ref,
			     struct ql_source **ret_src, struct ql_error *err)
{
	struct archive *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return ql_error_nomem(err);
	a->base.ops = &archive_ops;
	a->ref = ref;
	a->fd = fd;
	r = file_check(fd, err);
	if (r == 0)
		r = archive_read(a, err);
	if (r < 0) {
		a->fd = -1; /* the caller's still */
		archive_free(&a->base);
		return r;
	}
	*ret_src = &a->base;
	return 0;
}

int ql_dockerarchive_open(const struct ql_ref *ref, struct ql_source **ret_src,
			  struct ql_error *err)
{
	_cleanup_close_ int fd =
		open(ref->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int r;

	if (fd < 0)
		return ql_error_errno(err, -errno, "%s", ref->path);
	r = ql_dockerarchive_open_fd(fd, ref, ret_src, err);
	if (r < 0)
		return ql_error_prefix(err, "%s", ref->path);
	(void)ql_take_fd(&fd);
	return 0;
}
