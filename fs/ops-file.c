/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FUSE requests about content.  A file's content is in the image itself
 * (small ones) or a whole object of the store.  For an object the kernel is
 * asked to read the object's file by itself (passthrough, Linux 6.9 and
 * libfuse 3.17): then no read comes here, and the page cache is the object's,
 * one for all images.  Where it cannot (not root; a store on overlayfs), a
 * read is answered by splicing from the object's file, and kept in the
 * mount's own page cache, which nothing ever invalidates.
 *
 * A file that is not here yet comes as it is read: a read that has to wait is
 * answered by whichever thread brings the bytes, so that no thread of the
 * server waits with it.
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

static void openfile_close(struct ql_fs *fs, fuse_req_t req,
			   struct ql_openfile *file)
{
#ifdef FUSE_CAP_PASSTHROUGH
	if (file->backing_id > 0)
		(void)fuse_passthrough_close(req, file->backing_id);
#else
	(void)req;
#endif
	if (file->fd >= 0)
		(void)close(file->fd);
	if (file->fill)
		ql_fill_close(fs->filler, file->fill);
	free(file);
}

static void openfile_put(struct ql_fs *fs, fuse_req_t req,
			 struct ql_openfile *file)
{
	if (file && ql_openfiles_put(fs->files, file))
		openfile_close(fs, req, file);
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
		return r;
	}
	if (fstat(fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size != content->size)
		return -EIO;
	*ret_fd = ql_take_fd(&fd);
	return 0;
}

/* A file that has come with a layer which is still coming.  What of such an
 * image has not (a layer has a table of contents) comes when all is known. */
static int grown_open(struct ql_fs *fs, const struct ql_node *node,
		      const struct ql_content *content, int *ret_fd)
{
	int r = ql_growing_open(node->growing, &content->object, ret_fd);

	if (r == -ENOENT) /* it has its name since we looked */
		r = object_open(fs, content, ret_fd);
	return r == -ENOENT ? -EINPROGRESS : r;
}

/* The object, or what it comes from. */
static int content_open(struct ql_fs *fs, const struct ql_node *node,
			const struct ql_content *content,
			struct ql_openfile *file)
{
	struct ql_error err = QL_ERROR_INIT;
	struct ql_fill_image *image;
	int r = object_open(fs, content, &file->fd);

	if (r != -ENOENT)
		return r;
	if (node->growing)
		return grown_open(fs, node, content, &file->fd);
	r = ql_fs_fill_image(fs, node, &image);
	if (r == 0)
		r = ql_fill_open(image, &content->object, &file->fill, &err);
	if (r == -EEXIST) /* since we looked */
		r = object_open(fs, content, &file->fd);
	if (r < 0)
		ql_debug("msg=\"not here\" error=%d text=\"%s\"", r, err.text);
	/* Who only reads has no use for "no space". */
	return r == -ENOENT || r == -ENOSPC || r == -EDQUOT ? -EIO : r;
}

/* The inode's open file, with a reference for this open. */
static int openfile_get(struct ql_fs *fs, fuse_req_t req,
			const struct ql_node *node,
			const struct ql_content *content,
			struct ql_openfile **ret_file)
{
	struct ql_openfile *file, *winner;
	int r;

	file = ql_openfiles_find(fs->files, node->ino);
	if (!file) {
		file = calloc(1, sizeof(*file));
		if (!file)
			return -ENOMEM;
		file->ino = node->ino;
		file->fd = -1;
		r = content_open(fs, node, content, file);
		if (r < 0) {
			free(file);
			return r;
		}
		if (file->fd >= 0)
			file->backing_id = backing_open(fs, req, file->fd);
		if (file->backing_id > 0) {
			(void)close(file->fd);
			file->fd = -1;
		}
		winner = ql_openfiles_add(fs->files, file);
		if (winner != file)
			openfile_close(fs, req, file);
		file = winner;
	}
	*ret_file = file;
	return 0;
}

static void open_again(fuse_req_t req, const struct ql_again *again)
{
	struct fuse_file_info fi = again->fi;

	ql_op_open(req, again->ino, &fi);
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
		r = openfile_get(fs, req, &node, &content, &file);
	ql_node_release(fs, &node);
	if (r == -EINPROGRESS) {
		ql_grow_again(req, &(struct ql_again){ .op = open_again,
						       .ino = ino,
						       .whole = true,
						       .fi = *fi });
		return;
	}
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
		if (file->fill)
			ql_fill_close(fs->filler, file->fill);
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

static void reply_from(fuse_req_t req, int fd, size_t size, off_t off)
{
	struct fuse_bufvec buf = FUSE_BUFVEC_INIT(size);

	buf.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	buf.buf[0].fd = fd;
	buf.buf[0].pos = off;
	(void)fuse_reply_data(req, &buf, (enum fuse_buf_copy_flags)0);
}

/* ---- reads that wait ---- */

struct read_wait {
	struct ql_fill_waiter w; /* first: done() gets it back */
	struct ql_fs *fs;	 /* borrowed */
	fuse_req_t req;
	size_t size;
	off_t off;
};

/* Takes rw. */
static void read_reply(struct read_wait *rw, struct ql_fill_file *file,
		       int error)
{
	const char *data = NULL;
	size_t len = 0;

	if (error == 0)
		error = ql_fill_taken(rw->fs->filler, &rw->w, &data, &len);
	if (error < 0)
		(void)fuse_reply_err(rw->req, error == -EINTR ? EINTR : EIO);
	else if (data)
		(void)fuse_reply_buf(rw->req, data, len);
	else
		reply_from(rw->req, ql_fill_fd(rw->fs->filler, file), rw->size,
			   rw->off);
	ql_fill_waiter_release(&rw->w);
	free(rw);
}

static void read_done(struct ql_fill_waiter *w, int error)
{
	struct read_wait *rw = (struct read_wait *)w;

	/* After it no interruption is told any more, nor being told. */
	fuse_req_interrupt_func(rw->req, NULL, NULL);
	read_reply(rw, w->file, error);
}

/* The reader was killed, or had another signal. */
static void read_interrupted(fuse_req_t req, void *arg)
{
	struct read_wait *rw = arg;

	(void)req;
	ql_fill_hurry(rw->fs->filler, &rw->w, -EINTR);
}

static void read_fill(struct ql_fs *fs, fuse_req_t req,
		      struct ql_fill_file *file, size_t size, off_t off)
{
	struct read_wait *rw = calloc(1, sizeof(*rw));
	int r;

	if (!rw) {
		(void)fuse_reply_err(req, ENOMEM);
		return;
	}
	*rw = (struct read_wait){ .w = { .offset = (uint64_t)off,
					 .len = size,
					 .done = read_done,
					 .takes = true },
				  .fs = fs,
				  .req = req,
				  .size = size,
				  .off = off };
	r = ql_fill_ready(fs->filler, file, &rw->w) ? 0 : -EINPROGRESS;
	if (r < 0) {
		fuse_req_interrupt_func(req, read_interrupted, rw);
		r = ql_fill_wait(fs->filler, file, &rw->w);
		if (r == -EINPROGRESS)
			return;
		fuse_req_interrupt_func(req, NULL, NULL);
	}
	read_reply(rw, file, r);
}

static void record(struct ql_fs *fs, fuse_ino_t ino, size_t size, off_t off)
{
	struct ql_access access = { 0 };

	if (fs->record_fd <= 0 || !fs->tree)
		return;
	access.nid = ql_ino_nid(ino, ql_tree_root(fs->tree));
	access.offset = (uint64_t)off;
	access.len = size;
	/* The file is opened to append: one write, one record. */
	if (ql_write_full(fs->record_fd, &access, sizeof(access)) < 0)
		ql_debug("an access is not recorded");
}

void ql_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		struct fuse_file_info *fi)
{
	const struct ql_openfile *file =
		(const struct ql_openfile *)(uintptr_t)fi->fh;

	if (!file) {
		read_inline(fuse_req_userdata(req), req, ino, size, off);
		return;
	}
	record(fuse_req_userdata(req), ino, size, off);
	if (file->fill && off >= 0)
		read_fill(fuse_req_userdata(req), req, file->fill, size, off);
	else if (file->fd >= 0)
		reply_from(req, file->fd, size, off);
	else
		(void)fuse_reply_err(req, EIO);
}

void ql_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	openfile_put(fuse_req_userdata(req), req,
		     (struct ql_openfile *)(uintptr_t)fi->fh);
	(void)fuse_reply_err(req, 0);
}
