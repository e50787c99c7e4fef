/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A folder in the OCI image layout as a source (OCI image-spec 1.1
 * image-layout.md): index.json lists manifests, whose tags stand in the
 * annotation org.opencontainers.image.ref.name; blobs/sha256/ has the rest.
 */
#include "fetch/fetch-private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

enum { TAG_LIST_MAX = 512 }; /* bytes of what an error lists */

struct ocidir {
	struct ql_source base;
	const struct ql_ref *ref; /* borrowed */
	int dirfd;		  /* owned */
};

/* An ordinary file below the folder; a FIFO there must not hang us. */
static int file_open(const struct ocidir *o, const char *path, int *ret_fd,
		     struct ql_error *err)
{
	_cleanup_close_ int fd =
		openat(o->dirfd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return ql_error_errno(err, -errno, "%s/%s", o->ref->path, path);
	if (fstat(fd, &st) < 0)
		return ql_error_errno(err, -errno, "%s/%s", o->ref->path, path);
	if (!S_ISREG(st.st_mode))
		return ql_error_set(err, -EINVAL, "%s/%s: not a file",
				    o->ref->path, path);
	*ret_fd = ql_take_fd(&fd);
	return 0;
}

static int blob_open(const struct ocidir *o, const struct ql_digest *digest,
		     uint64_t offset, struct ql_stream **ret_stream,
		     struct ql_error *err)
{
	_cleanup_close_ int fd = -1;
	char path[sizeof("blobs/sha256/") + QL_DIGEST_HEX];
	char hex[QL_DIGEST_HEX + 1];
	int r;

	(void)snprintf(path, sizeof(path), "blobs/sha256/%s",
		       ql_digest_hex(digest, hex));
	r = file_open(o, path, &fd, err);
	if (r < 0)
		return r;
	if (offset > 0 && lseek(fd, (off_t)offset, SEEK_SET) < 0)
		return ql_error_errno(err, -errno, "%s", path);
	r = ql_stream_from_fd(fd, ret_stream, err);
	if (r == 0)
		(void)ql_take_fd(&fd);
	return r;
}

static const char *entry_tag(const json_t *entry)
{
	return ql_json_opt_string(json_object_get(entry, "annotations"),
				  "org.opencontainers.image.ref.name", NULL);
}

static int tag_error(const struct ocidir *o, const json_t *entries,
		     struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf list = QL_BUF_INIT(TAG_LIST_MAX);
	const json_t *entry;
	size_t i;

	json_array_foreach (entries, i, entry) {
		const char *tag = entry_tag(entry);

		if (tag)
			(void)ql_buf_addf(&list, "%s%s", list.len ? ", " : "",
					  tag);
	}
	if (o->ref->tag)
		return ql_error_set(err, -ENOENT,
				    "no such image; the folder's tags: %s",
				    list.len ? ql_buf_str(&list) : "none");
	return ql_error_set(err, -EINVAL,
			    "the folder has %zu images; name one by its tag: "
			    "%s",
			    json_array_size(entries),
			    list.len ? ql_buf_str(&list) : "none");
}

/* The entry of index.json that the reference means. */
static int entry_select(const struct ocidir *o, const json_t *entries,
			const json_t **ret_entry, struct ql_error *err)
{
	const json_t *entry;
	size_t i;

	json_array_foreach (entries, i, entry) {
		const char *tag = entry_tag(entry);

		if (tag &&
		    strcmp(tag, o->ref->tag ? o->ref->tag : "latest") == 0) {
			*ret_entry = entry;
			return 0;
		}
	}
	if (o->ref->tag || json_array_size(entries) != 1)
		return tag_error(o, entries, err);
	*ret_entry = json_array_get(entries, 0);
	return 0;
}

static int index_read(const struct ocidir *o, struct ql_descriptor *ret_d,
		      struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_MANIFEST_MAX);
	_cleanup_json_ json_t *doc = NULL;
	const json_t *entry = NULL;
	json_t *entries = NULL;
	int r = ql_read_file(o->dirfd, "index.json", &buf, err);

	if (r < 0)
		return ql_error_prefix(err, "%s: not an OCI image layout",
				       o->ref->path);
	r = ql_json_parse(ql_buf_str(&buf), buf.len, &doc, err);
	if (r == 0)
		r = ql_json_get_array(doc, "manifests", &entries, err);
	if (r < 0)
		return ql_error_prefix(err, "index.json");
	r = entry_select(o, entries, &entry, err);
	if (r < 0)
		return r;
	r = ql_descriptor_parse(entry, ret_d, err);
	return r < 0 ? ql_error_prefix(err, "index.json") : 0;
}

static int document_read(const struct ocidir *o, const struct ql_descriptor *d,
			 struct ql_buf *buf, char **ret_type,
			 struct ql_error *err)
{
	_cleanup_stream_ struct ql_stream *plain = NULL;
	_cleanup_stream_ struct ql_stream *s = NULL;
	struct ql_http_response rs = { .length = d->size };
	int r = blob_open(o, &d->digest, 0, &plain, err);

	if (r < 0)
		return r;
	r = ql_stream_verify(plain, &d->digest, d->size, &s, err);
	if (r < 0)
		return r;
	(void)ql_take_ptr(plain);
	rs.body = s;
	r = ql_http_body(&rs, buf, err);
	if (r < 0)
		return r;
	*ret_type = strdup(d->media_type);
	return *ret_type ? 0 : ql_error_nomem(err);
}

static int get_manifest(struct ql_source *src, const struct ql_descriptor *d,
			struct ql_buf *buf, char **ret_type,
			struct ql_error *err)
{
	struct ocidir *o = (struct ocidir *)src;
	_cleanup_descriptor_ struct ql_descriptor top = { 0 };
	int r;

	if (!d) {
		r = index_read(o, &top, err);
		if (r < 0)
			return r;
		d = &top;
	}
	r = document_read(o, d, buf, ret_type, err);
	return r < 0 ? ql_error_prefix(err, "manifest") : 0;
}

static int open_blob(struct ql_source *src, const struct ql_descriptor *d,
		     struct ql_stream **ret_stream, struct ql_error *err)
{
	return blob_open((struct ocidir *)src, &d->digest, 0, ret_stream, err);
}

static int open_range(struct ql_source *src, const struct ql_descriptor *d,
		      uint64_t offset, uint64_t len,
		      struct ql_stream **ret_stream, struct ql_error *err)
{
	(void)len; /* who asks for a part reads no further */
	return blob_open((struct ocidir *)src, &d->digest, offset, ret_stream,
			 err);
}

static void ocidir_cancel(struct ql_source *src)
{
	(void)src; /* reading files does not wait */
}

static void ocidir_free(struct ql_source *src)
{
	struct ocidir *o = (struct ocidir *)src;

	if (o->dirfd >= 0)
		(void)close(o->dirfd);
	free(o);
}

static const struct ql_source_ops ocidir_ops = {
	.get_manifest = get_manifest,
	.open_blob = open_blob,
	.open_range = open_range,
	.cancel = ocidir_cancel,
	.free = ocidir_free,
};

int ql_ocidir_open(const struct ql_ref *ref, struct ql_source **ret_src,
		   struct ql_error *err)
{
	struct ocidir *o = calloc(1, sizeof(*o));

	if (!o)
		return ql_error_nomem(err);
	o->base.ops = &ocidir_ops;
	o->ref = ref;
	o->dirfd = open(ref->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (o->dirfd < 0) {
		int r = ql_error_errno(err, -errno, "%s", ref->path);

		ocidir_free(&o->base);
		return r;
	}
	*ret_src = &o->base;
	return 0;
}
