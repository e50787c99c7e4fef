/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FUSE requests about content.  A file's content is in the image itself
 * (small ones) or a whole object of the store.  For an object the kernel is
 * asked to read the object's file by itself (passthrough, Linux 6.9 and
 * libfuse 3.17): then no read comes here, and the page cache is the object's,
 * one for all images.  Where it cannot (not root; a store on overlayfs), a
 * read is answered by splicing from the object's file, and kept in the
 * mount's own page cache, which nothing ever invalidates.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "fs/fs-private.h"

/* Asks the kernel to read from fd by itself; 0 where it cannot. */
static int backing_open(struct ql_fs *fs, fuse_req_t req, int fd)
{
#ifdef FUSE_CAP_PASSTHROUGH
	int id;

	if (!atomic_load_explicit(&fs->passthrough, memory_order_relaxed))
		return 0;
	id = fuse_passthrough_open(req, fd);
	if (id > 0)
		return id;
	/* The same would happen to every other object. */
	if (atomic_exchange(&fs->passthrough, false))
		ql_debug("no passthrough: reads are spliced");
#else
	(void)fs;
	(void)req;
	(void)fd;
#endif
	return 0;
}

static void openfile_close(fuse_req_t req, struct ql_openfile *file)
{
#ifdef FUSE_CAP_PASSTHROUGH
	if (file->backing_id > 0)
		(void)fuse_passthrough_close(req, file->backing_id);
#else
	(void)req;
#endif
	if (file->fd >= 0)
		(void)close(file->fd);
	free(file);
}

static void openfile_put(struct ql_fs *fs, fuse_req_t req,
			 struct ql_openfile *file)
{
	if (file && ql_openfiles_put(fs->files, file))
		openfile_close(req, file);
}

/* Opens an object; one that is not whole is an error, never read as zeros. */
static int object_open(struct ql_fs *fs, const struct ql_content *content,
		       int *ret_fd)
{
	struct ql_error err = QL_ERROR_INIT;
	_cleanup_close_ int fd = -1;
	struct stat st;
	int r;

	r = ql_object_open(fs->store, &content->object, &fd, &err);
	if (r < 0) {
		ql_debug("object: %s", err.text);
		return r == -ENOENT ? -EIO : r;
	}
	if (fstat(fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size != content->size)
		return -EIO;
	*ret_fd = ql_take_fd(&fd);
	return 0;
}

/* The inode's open file, with a reference for this open. */
static int openfile_get(struct ql_fs *fs, fuse_req_t req, uint64_t ino,
			const struct ql_content *content,
			struct ql_openfile **ret_file)
{
	struct ql_openfile *file, *winner;
	int r;

	file = ql_openfiles_find(fs->files, ino);
	if (!file) {
		file = calloc(1, sizeof(*file));
		if (!file)
			return -ENOMEM;
		file->ino = ino;
		r = object_open(fs, content, &file->fd);
		if (r < 0) {
			free(file);
			return r;
		}
		file->backing_id = backing_open(fs, req, file->fd);
		if (file->backing_id > 0) {
			(void)close(file->fd);
			file->fd = -1;
		}
		winner = ql_openfiles_add(fs->files, file);
		if (winner != file)
			openfile_close(req, file);
		file = winner;
	}
	*ret_file = file;
	return 0;
}

void ql_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct ql_fs *fs = fuse_req_userdata(req);
	struct ql_openfile *file = NULL;
	struct ql_content content;
	struct ql_node node = { 0 };
	int r;

	r = (fi->flags & O_ACCMODE) == O_RDONLY ? 0 : -EROFS;
	if (r == 0)
		r = ql_node_get(fs, ino, &node);
	if (r == 0)
		r = ql_node_content(&node, &content);
	if (r == 0 && content.size > 0 && !content.data)
		r = openfile_get(fs, req, ino, &content, &file);
	ql_node_release(fs, &node);
	if (r < 0) {
		(void)fuse_reply_err(req, ql_fs_errno(r));
		return;
	}
	fi->fh = (uint64_t)(uintptr_t)file;
	fi->noflush = 1;
	fi->keep_cache = 1;
#ifdef FUSE_CAP_PASSTHROUGH
	if (file && file->backing_id > 0) {
		fi->backing_id = file->backing_id;
		fi->keep_cache = 0; /* there is no cache to keep */
	}
#endif
	/* Interrupted: there will be no release.  The request is gone, but a
	 * backing outlives it only until the connection ends. */
	if (fuse_reply_open(req, fi) == -ENOENT && file &&
	    ql_openfiles_put(fs->files, file)) {
		if (file->fd >= 0)
			(void)close(file->fd);
		free(file);
	}
}

static void read_inline(struct ql_fs *fs, fuse_req_t req, fuse_ino_t ino,
			size_t size, off_t off)
{
	struct ql_content content;
	struct ql_node node = { 0 };
	uint64_t left;
	int r;

	r = ql_node_get(fs, ino, &node);
	if (r == 0)
		r = ql_node_content(&node, &content);
	if (r == 0 && content.size > 0 && !content.data)
		r = -EIO;
	if (r < 0) {
		(void)fuse_reply_err(req, ql_fs_errno(r));
	} else if (off < 0 || (uint64_t)off >= content.size) {
		(void)fuse_reply_buf(req, NULL, 0);
	} else {
		left = content.size - (uint64_t)off;
		(void)fuse_reply_buf(req, (const char *)content.data + off,
				     left < size ? (size_t)left : size);
	}
	ql_node_release(fs, &node);
}

void ql_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		struct fuse_file_info *fi)
{
	const struct ql_openfile *file =
		(const struct ql_openfile *)(uintptr_t)fi->fh;
	struct fuse_bufvec buf = FUSE_BUFVEC_INIT(size);

	if (!file) {
		read_inline(fuse_req_userdata(req), req, ino, size, off);
		return;
	}
	if (file->fd < 0) {
		(void)fuse_reply_err(req, EIO);
		return;
	}
	buf.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	buf.buf[0].fd = file->fd;
	buf.buf[0].pos = off;
	(void)fuse_reply_data(req, &buf, (enum fuse_buf_copy_flags)0);
}

void ql_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	openfile_put(fuse_req_userdata(req), req,
		     (struct ql_openfile *)(uintptr_t)fi->fh);
	(void)fuse_reply_err(req, 0);
}
