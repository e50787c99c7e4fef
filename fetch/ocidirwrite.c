/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A folder in the OCI image layout (OCI image-spec 1.1, image-layout.md) as a
 * push's destination, made where it does not exist.  A blob gets its name
 * when all of it is there; index.json is replaced last, the entry of the same
 * tag with it.  Who else writes the folder at the same time is not waited
 * for.
 */
#include "fetch/push-private.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#define REF_NAME "org.opencontainers.image.ref.name"

enum { TMP_PATH = 48 };

struct ocidir {
	struct ql_dest base;
	const struct ql_ref *ref; /* borrowed */
	int dirfd;		  /* owned */
	struct ql_source *src;	  /* owned; the same folder */
};

static int copy_fd(int to, int from, uint64_t size, struct ql_error *err)
{
	off_t at = 0;

	while ((uint64_t)at < size) {
		ssize_t n =
			sendfile(to, from, &at, (size_t)(size - (uint64_t)at));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return ql_error_errno(err, n < 0 ? -errno : -EIO,
					      "copy a blob");
	}
	return 0;
}

/* Writes a file under another name, and renames it. */
static int file_put(struct ocidir *o, const char *path, const void *data,
		    int from, uint64_t size, struct ql_error *err)
{
	char tmp[TMP_PATH];
	_cleanup_close_ int fd = -1;
	int r = 0;

	(void)snprintf(tmp, sizeof(tmp), ".tmp-%x-%lx", (unsigned int)getpid(),
		       (unsigned long)pthread_self());
	fd = openat(o->dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
		    0644);
	if (fd < 0)
		return ql_error_errno(err, -errno, "%s", o->ref->path);
	if (data)
		r = ql_write_full(fd, data, (size_t)size);
	if (r < 0)
		r = ql_error_errno(err, r, "%s/%s", o->ref->path, path);
	else if (!data)
		r = copy_fd(fd, from, size, err);
	if (r == 0 && fsync(fd) < 0)
		r = ql_error_errno(err, -errno, "%s/%s", o->ref->path, path);
	if (r == 0 && renameat(o->dirfd, tmp, o->dirfd, path) < 0)
		r = ql_error_errno(err, -errno, "%s/%s", o->ref->path, path);
	if (r < 0)
		(void)unlinkat(o->dirfd, tmp, 0);
	return r;
}

static int put_blob(struct ql_dest *dest, const struct ql_push_blob *blob,
		    bool *ret_there, struct ql_error *err)
{
	struct ocidir *o = (struct ocidir *)dest;
	char path[sizeof("blobs/sha256/") + QL_DIGEST_HEX];
	char hex[QL_DIGEST_HEX + 1];
	struct stat st;

	(void)snprintf(path, sizeof(path), "blobs/sha256/%s",
		       ql_digest_hex(&blob->digest, hex));
	*ret_there = fstatat(o->dirfd, path, &st, 0) == 0 &&
		     S_ISREG(st.st_mode) && (uint64_t)st.st_size == blob->size;
	if (*ret_there)
		return 0;
	if (!blob->data && blob->fd < 0)
		return ql_error_set(err, -ENODATA, "%s is not there, nor here",
				    path);
	return file_put(o, path, blob->data, blob->fd, blob->size, err);
}

/* The index there is, or an empty one. */
static int index_load(struct ocidir *o, json_t **ret_doc, json_t **ret_list,
		      struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_MANIFEST_MAX);
	_cleanup_json_ json_t *doc = NULL;
	int r;

	if (faccessat(o->dirfd, "index.json", F_OK, 0) < 0) {
		doc = json_pack("{s:i, s:s, s:[]}", "schemaVersion", 2,
				"mediaType", QL_TYPE_INDEX, "manifests");
		if (!doc)
			return ql_error_nomem(err);
	} else {
		r = ql_read_file(o->dirfd, "index.json", &buf, err);
		if (r == 0)
			r = ql_json_parse(ql_buf_str(&buf), buf.len, &doc, err);
		if (r < 0)
			return ql_error_prefix(err, "index.json");
	}
	r = ql_json_get_array(doc, "manifests", ret_list, err);
	if (r < 0)
		return ql_error_prefix(err, "index.json");
	*ret_doc = ql_take_ptr(doc);
	return 0;
}

static const char *tag_of(const json_t *entry)
{
	return ql_json_opt_string(json_object_get(entry, "annotations"),
				  REF_NAME, "");
}

static int index_put(struct ocidir *o, const struct ql_digest *digest,
		     size_t len, struct ql_error *err)
{
	const char *tag = o->ref->tag ? o->ref->tag : "latest";
	_cleanup_json_ json_t *doc = NULL;
	_cleanup_json_ json_t *names = json_pack("{s:s}", REF_NAME, tag);
	_cleanup_free_ char *text = NULL;
	const struct ql_manifest_blob m = { .media_type = QL_TYPE_MANIFEST,
					    .digest = *digest,
					    .size = len,
					    .annotations = names };
	json_t *list = NULL;
	json_t *d = NULL;
	int r = index_load(o, &doc, &list, err);

	for (size_t i = r == 0 ? json_array_size(list) : 0; i-- > 0;)
		if (strcmp(tag_of(json_array_get(list, i)), tag) == 0)
			(void)json_array_remove(list, i);
	if (r == 0)
		r = ql_manifest_descriptor(&m, &d, err);
	if (r == 0 && json_array_append_new(list, d) < 0)
		r = ql_error_nomem(err);
	if (r < 0)
		return r;
	text = json_dumps(doc, JSON_COMPACT);
	if (!text)
		return ql_error_nomem(err);
	return file_put(o, "index.json", text, -1, strlen(text), err);
}

static int put_manifest(struct ql_dest *dest, bool tagged, const void *data,
			size_t len, struct ql_error *err)
{
	static const char layout[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
	struct ocidir *o = (struct ocidir *)dest;
	struct ql_push_blob blob = { .size = len, .data = data, .fd = -1 };
	bool there;
	int r;

	if (ql_digest_of(data, len, &blob.digest) < 0)
		return ql_error_nomem(err);
	r = put_blob(dest, &blob, &there, err);
	if (r == 0)
		r = file_put(o, "oci-layout", layout, -1, sizeof(layout) - 1,
			     err);
	if (r < 0 || !tagged)
		return r;
	return index_put(o, &blob.digest, len, err);
}

static struct ql_source *dest_source(struct ql_dest *dest)
{
	return ((struct ocidir *)dest)->src;
}

static void dest_cancel(struct ql_dest *dest)
{
	(void)dest; /* writing files does not wait */
}

static void dest_free(struct ql_dest *dest)
{
	struct ocidir *o = (struct ocidir *)dest;

	ql_source_free(o->src);
	if (o->dirfd >= 0)
		(void)close(o->dirfd);
	free(o);
}

static const struct ql_dest_ops ocidir_ops = {
	.put_blob = put_blob,
	.put_manifest = put_manifest,
	.source = dest_source,
	.cancel = dest_cancel,
	.free = dest_free,
};

int ql_ocidirwrite_open(const struct ql_ref *ref, struct ql_dest **ret_dest,
			struct ql_error *err)
{
	_cleanup_free_ char *blobs = ql_strf("%s/blobs/sha256", ref->path);
	struct ocidir *o = calloc(1, sizeof(*o));
	int r = o && blobs ? ql_mkdir_p(blobs, err) : ql_error_nomem(err);

	if (r == 0) {
		o->base.ops = &ocidir_ops;
		o->ref = ref;
		o->dirfd = open(ref->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (o->dirfd < 0)
			r = ql_error_errno(err, -errno, "%s", ref->path);
		if (r == 0)
			r = ql_ocidir_open(ref, &o->src, err);
		if (r < 0)
			dest_free(&ql_take_ptr(o)->base);
	}
	if (r < 0) {
		free(o);
		return r;
	}
	*ret_dest = &o->base;
	return 0;
}
