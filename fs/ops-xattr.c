/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FUSE requests about extended attributes.  A size of 0 asks for the length
 * (xattr(7)).  The root has one that is not listed and not the image's:
 * QL_FS_SERVER_XATTR, by which unmounting finds the process to wait for.
 * trusted.* are listed to root alone, as local file systems do.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fs-private.h"

enum { LIST_MAX = 64 << 10 }; /* XATTR_LIST_MAX */

static void reply_value(fuse_req_t req, const void *value, size_t len,
			size_t size)
{
	if (size == 0)
		(void)fuse_reply_xattr(req, len);
	else if (len > size)
		(void)fuse_reply_err(req, ERANGE);
	else
		(void)fuse_reply_buf(req, value, len);
}

static void reply_server(fuse_req_t req, size_t size)
{
	char text[64];
	struct stat st;
	int len;

	if (stat("/proc/self/ns/pid", &st) < 0) {
		(void)fuse_reply_err(req, ENODATA);
		return;
	}
	len = snprintf(text, sizeof(text), "%ld %lu", (long)getpid(),
		       (unsigned long)st.st_ino);
	reply_value(req, text, (size_t)len, size);
}

static bool name_is(const struct ql_xattr *x, const char *name)
{
	size_t prefix = strlen(x->prefix);

	return strncmp(name, x->prefix, prefix) == 0 &&
	       strlen(name) == prefix + x->name_len &&
	       memcmp(name + prefix, x->name, x->name_len) == 0;
}

void ql_op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
		    size_t size)
{
	struct ql_fs *fs = fuse_req_userdata(req);
	struct ql_inode inode;
	struct ql_xattr x;
	uint64_t pos = 0;
	int r;

	if (ino == FUSE_ROOT_ID && strcmp(name, QL_FS_SERVER_XATTR) == 0) {
		reply_server(req, size);
		return;
	}
	r = ql_fs_inode(fs, ino, &inode);
	if (r < 0) {
		(void)fuse_reply_err(req, ql_fs_errno(r));
		return;
	}
	while ((r = ql_tree_xattr(fs->tree, &inode, &pos, &x)) > 0) {
		if (name_is(&x, name)) {
			reply_value(req, x.value, x.value_len, size);
			return;
		}
	}
	(void)fuse_reply_err(req, r < 0 ? ql_fs_errno(r) : ENODATA);
}

static int list_names(struct ql_fs *fs, const struct ql_inode *inode,
		      bool trusted, struct ql_buf *buf)
{
	struct ql_xattr x;
	uint64_t pos = 0;
	int r;

	while ((r = ql_tree_xattr(fs->tree, inode, &pos, &x)) > 0) {
		if (!trusted && strcmp(x.prefix, "trusted.") == 0)
			continue;
		r = ql_buf_adds(buf, x.prefix);
		if (r == 0)
			r = ql_buf_add(buf, x.name, x.name_len);
		if (r == 0)
			r = ql_buf_add_u8(buf, 0);
		if (r < 0)
			return r == -EFBIG ? -E2BIG : r;
	}
	return r;
}

void ql_op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct ql_fs *fs = fuse_req_userdata(req);
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(LIST_MAX);
	struct ql_inode inode;
	int r;

	r = ql_fs_inode(fs, ino, &inode);
	if (r == 0)
		r = list_names(fs, &inode, fuse_req_ctx(req)->uid == 0, &buf);
	if (r < 0)
		(void)fuse_reply_err(req, ql_fs_errno(r));
	else
		reply_value(req, buf.data, buf.len, size);
}
