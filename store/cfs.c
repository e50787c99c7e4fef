/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing composefs images: the only file that includes libcomposefs.
 *
 * The library keeps the tree in memory and clones it while it writes, so one
 * image is written at a time (`cfs_writing`): the peak is one tree's.  A
 * layer's image, which nobody mounts, is written as one zstd frame.  Files
 * larger than QL_INLINE_MAX carry the redirect "/ab/<62 hex digits>" that
 * overlayfs's data-only layers resolve; smaller ones carry their bytes.
 */
#include "store/store-private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libcomposefs/lcfs-writer.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <zstd.h>

enum { CFS_ZSTD_LEVEL = 3, CFS_OUT = 64 << 10, CFS_TAKE = 256 << 10 };

static pthread_mutex_t cfs_writing = PTHREAD_MUTEX_INITIALIZER;

void ql_cfs_node_free(struct lcfs_node_s *node)
{
	if (node)
		lcfs_node_unref(node);
}

static int cfs_content(struct lcfs_node_s *node, const struct ql_meta *meta)
{
	char hex[QL_DIGEST_HEX + 1];
	char payload[QL_DIGEST_HEX + 2];

	if (S_ISLNK(meta->mode))
		return lcfs_node_set_symlink_payload(node, meta->target);
	if (!S_ISREG(meta->mode) || meta->size == 0)
		return 0;
	if (meta->data)
		return lcfs_node_set_content(node, meta->data, meta->size);
	(void)ql_digest_hex(&meta->object, hex);
	(void)snprintf(payload, sizeof(payload), "%.2s/%s", hex, hex + 2);
	lcfs_node_set_size(node, meta->size);
	return lcfs_node_set_payload(node, payload);
}

static int cfs_xattrs(struct lcfs_node_s *node, const struct ql_meta *meta,
		      struct ql_error *err)
{
	for (size_t i = 0; i < meta->n_xattrs; i++) {
		const struct ql_tar_xattr *x = &meta->xattrs[i];

		if (lcfs_node_set_xattr(node, x->name, x->value, x->len) == 0)
			continue;
		if (errno == ERANGE)
			return ql_error_set(err, -E2BIG,
					    "xattr %s: more than %d bytes of "
					    "xattrs on one file",
					    x->name,
					    LCFS_INODE_EXTERNAL_XATTR_MAX);
		return ql_error_errno(err, -errno, "xattr %s", x->name);
	}
	return 0;
}

int ql_cfs_node_new(const struct ql_meta *meta, struct lcfs_node_s **ret_node,
		    struct ql_error *err)
{
	_cleanup_(ql_cfs_node_freep) struct lcfs_node_s *node = lcfs_node_new();
	struct timespec mtime = { .tv_sec = meta->mtime_sec,
				  .tv_nsec = meta->mtime_nsec };
	int r;

	if (!node)
		return ql_error_nomem(err);
	if (lcfs_node_try_set_mode(node, meta->mode) < 0)
		return ql_error_errno(err, -errno, "mode %o", meta->mode);
	lcfs_node_set_uid(node, meta->uid);
	lcfs_node_set_gid(node, meta->gid);
	lcfs_node_set_mtime(node, &mtime);
	if (S_ISCHR(meta->mode) || S_ISBLK(meta->mode))
		lcfs_node_set_rdev64(node, meta->rdev);
	if (cfs_content(node, meta) < 0)
		return ql_error_errno(err, -errno, "metadata");
	r = cfs_xattrs(node, meta, err);
	if (r == 0)
		*ret_node = ql_take_ptr(node);
	return r;
}

int ql_cfs_mark(struct lcfs_node_s *node, const char *name,
		struct ql_error *err)
{
	if (lcfs_node_set_xattr(node, name, "", 0) < 0)
		return ql_error_errno(err, -errno, "xattr %s", name);
	return 0;
}

int ql_cfs_link_new(struct lcfs_node_s *target, struct lcfs_node_s **ret_node,
		    struct ql_error *err)
{
	struct lcfs_node_s *node = lcfs_node_new();

	if (!node)
		return ql_error_nomem(err);
	lcfs_node_make_hardlink(node, target);
	*ret_node = node;
	return 0;
}

int ql_cfs_add(struct lcfs_node_s *parent, struct lcfs_node_s *child,
	       const char *name, struct ql_error *err)
{
	if (lcfs_node_add_child(parent, child, name) < 0)
		return ql_error_errno(err, -errno, "%s", name);
	return 0;
}

/* ---- writing ---- */

struct cfs_out {
	FILE *file;		  /* owned */
	struct ql_hasher *hasher; /* owned */
	ZSTD_CCtx *zstd;	  /* owned; NULL: as it is */
	char *buf;		  /* owned; CFS_OUT bytes, with zstd */
	struct ql_store *store;	  /* borrowed */
	uint64_t len, taken;	  /* bytes; of disk, for them */
	struct ql_error *err;	  /* borrowed; set where there is no room */
};

static void cfs_out_release(struct cfs_out *out)
{
	if (out->file)
		(void)fclose(out->file);
	ql_hasher_free(out->hasher);
	(void)ZSTD_freeCCtx(out->zstd);
	free(out->buf);
}

/* Takes fd, also on failure. */
static int cfs_out_init(struct cfs_out *out, int fd, bool compress)
{
	out->file = fdopen(fd, "w");
	if (!out->file) {
		(void)close(fd);
		return -ENOMEM;
	}
	out->hasher = ql_hasher_new();
	if (!out->hasher)
		return -ENOMEM;
	if (!compress)
		return 0;
	out->zstd = ZSTD_createCCtx();
	out->buf = malloc(CFS_OUT);
	if (!out->zstd || !out->buf)
		return -ENOMEM;
	(void)ZSTD_CCtx_setParameter(out->zstd, ZSTD_c_compressionLevel,
				     CFS_ZSTD_LEVEL);
	(void)ZSTD_CCtx_setParameter(out->zstd, ZSTD_c_checksumFlag, 1);
	return 0;
}

/* Nobody knows how long it will be. */
static int cfs_out_room(struct cfs_out *out, size_t len)
{
	uint64_t more;
	int r;

	if (ql_space_blocks(out->len + len) <= out->taken)
		return 0;
	more = ql_space_blocks(out->len + len + CFS_TAKE) - out->taken;
	r = ql_space_take(out->store, more, out->err);
	if (r == 0)
		out->taken += more;
	return r;
}

static int cfs_out_put(struct cfs_out *out, const void *data, size_t len)
{
	int r = cfs_out_room(out, len);

	if (r < 0)
		return r;
	out->len += len;
	ql_hasher_update(out->hasher, data, len);
	if (fwrite(data, 1, len, out->file) != len)
		return errno ? -errno : -EIO;
	return 0;
}

static int cfs_out_zstd(struct cfs_out *out, const void *data, size_t len,
			ZSTD_EndDirective mode)
{
	ZSTD_inBuffer in = { data, len, 0 };
	size_t left;

	do {
		ZSTD_outBuffer o = { out->buf, CFS_OUT, 0 };
		int r;

		left = ZSTD_compressStream2(out->zstd, &o, &in, mode);
		if (ZSTD_isError(left))
			return -ENOMEM; /* all that can fail with sound input */
		r = cfs_out_put(out, out->buf, o.pos);
		if (r < 0)
			return r;
	} while (in.pos < in.size || (mode == ZSTD_e_end && left > 0));
	return 0;
}

static ssize_t cfs_write_cb(void *arg, void *data, size_t len)
{
	struct cfs_out *out = arg;
	int r = out->zstd ? cfs_out_zstd(out, data, len, ZSTD_e_continue)
			  : cfs_out_put(out, data, len);

	if (r == 0)
		return (ssize_t)len;
	errno = -r;
	return -1;
}

static int cfs_write_file(struct lcfs_node_s *root, struct cfs_out *out,
			  struct ql_digest *ret_digest)
{
	struct lcfs_write_options_s options = {
		.format = LCFS_FORMAT_EROFS,
		.version = LCFS_DEFAULT_VERSION_MIN,
		.max_version = LCFS_DEFAULT_VERSION_MAX,
		.file = out,
		.file_write_cb = cfs_write_cb,
	};
	int r = 0;

	(void)pthread_mutex_lock(&cfs_writing);
	errno = 0;
	if (lcfs_write_to(root, &options) < 0)
		r = errno ? -errno : -EIO;
	(void)pthread_mutex_unlock(&cfs_writing);
	if (r == 0 && out->zstd)
		r = cfs_out_zstd(out, NULL, 0, ZSTD_e_end);
	if (r == 0 && (fflush(out->file) != 0 || fsync(fileno(out->file)) < 0))
		r = -errno;
	if (r == 0)
		ql_hasher_final(out->hasher, ret_digest);
	return r;
}

int ql_cfs_write(struct lcfs_node_s *root, struct ql_store *store,
		 const char *tmp_path, const char *path, bool compress,
		 struct ql_digest *ret_digest, struct ql_error *err)
{
	struct ql_error room = QL_ERROR_INIT;
	struct cfs_out out = { .store = store, .err = &room };
	struct ql_digest digest;
	int fd;
	int r;

	/* What a killed writer left is read-only, also to its owner. */
	(void)ql_space_unlink(store, tmp_path, NULL);
	fd = openat(store->root_fd, tmp_path,
		    O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	if (fd < 0)
		return ql_error_errno(err, -errno, "%s", tmp_path);
	r = cfs_out_init(&out, fd, compress);
	if (r == 0)
		r = cfs_write_file(root, &out, &digest);
	cfs_out_release(&out);
	if (r == 0)
		r = ql_space_rename(store, tmp_path, path, out.taken);
	if (r < 0) {
		(void)unlinkat(store->root_fd, tmp_path, 0);
		ql_space_done(store, out.taken, 0);
		return room.text[0] ? ql_error_set(err, r, "%s", room.text)
				    : ql_error_errno(err, r, "write %s", path);
	}
	*ret_digest = digest;
	return 0;
}

char *ql_cfs_path(const char *dir, const struct ql_digest *digest,
		  char buf[QL_CFS_PATH])
{
	char hex[QL_DIGEST_HEX + 1];

	(void)snprintf(buf, QL_CFS_PATH, "%s/%s.cfs", dir,
		       ql_digest_hex(digest, hex));
	return buf;
}

char *ql_layer_path(const struct ql_digest *digest, char buf[QL_CFS_PATH])
{
	char hex[QL_DIGEST_HEX + 1];

	(void)snprintf(buf, QL_CFS_PATH, "layers/%s.cfs.zst",
		       ql_digest_hex(digest, hex));
	return buf;
}
