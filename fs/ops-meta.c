/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FUSE requests about one inode: names, attributes, symlinks, the file
 * system's size (Linux include/uapi/linux/fuse.h; libfuse fuse_lowlevel.h).
 * Each is answered from the image's mapping alone and leaves nothing behind;
 * every answer, also "no such name", may be kept by the kernel for good.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fs-private.h"

int ql_fs_errno(int r)
{
	/* What comes too early waits where it can. */
	return r == -EBADMSG || r == -EINPROGRESS ? EIO : -r;
}

static void lookup_again(fuse_req_t req, const struct ql_again *again)
{
	ql_op_lookup(req, again->ino, again->name);
}

static void lookup_fail(fuse_req_t req, fuse_ino_t parent, const char *name,
			int r)
{
	if (r == -EINPROGRESS)
		ql_grow_again(req, &(struct ql_again){ .op = lookup_again,
						       .ino = parent,
						       .name = name });
	else
		(void)fuse_reply_err(req, ql_fs_errno(r));
}

void ql_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = { 0 };
	struct ql_fs *fs = fuse_req_userdata(req);
	struct ql_node dir, node = { 0 };
	int r = ql_node_get(fs, parent, &dir);

	if (r < 0) {
		lookup_fail(req, parent, name, r);
		return;
	}
	r = ql_node_lookup(fs, &dir, name, &node);
	if (r == 0) {
		ql_node_stat(fs, &node, &e.attr);
		e.ino = node.ino;
		e.generation = node.slot && !node.path ? node.slot->generation
						       : 0;
		e.entry_timeout = ql_node_timeout(&node);
		e.attr_timeout = ql_node_attr_timeout(&node);
	} else if (r == -ENOENT && dir.tree) {
		e.entry_timeout =
			QL_FS_TIMEOUT; /* there never is such a name */
	}
	ql_node_release(fs, &dir);
	if (r < 0 && e.entry_timeout == 0) {
		lookup_fail(req, parent, name, r);
		return;
	}
	/* Interrupted: the kernel was not told. */
	if (fuse_reply_entry(req, &e) < 0 && r == 0)
		ql_node_forget(fs, node.ino, 1);
	if (r == 0)
		ql_node_release(fs, &node);
}

void ql_op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	ql_node_forget(fuse_req_userdata(req), ino, nlookup);
	fuse_reply_none(req);
}

void ql_op_forget_multi(fuse_req_t req, size_t count,
			struct fuse_forget_data *forgets)
{
	struct ql_fs *fs = fuse_req_userdata(req);

	for (size_t i = 0; i < count; i++)
		ql_node_forget(fs, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static void getattr_again(fuse_req_t req, const struct ql_again *again)
{
	ql_op_getattr(req, again->ino, NULL);
}

void ql_op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct ql_fs *fs = fuse_req_userdata(req);
	struct ql_node node;
	struct stat st;
	double timeout;
	int r;

	(void)fi;
	r = ql_node_get(fs, ino, &node);
	if (r == -EINPROGRESS) {
		ql_grow_again(req, &(struct ql_again){ .op = getattr_again,
						       .ino = ino });
		return;
	}
	if (r < 0) {
		(void)fuse_reply_err(req, ql_fs_errno(r));
		return;
	}
	ql_node_stat(fs, &node, &st);
	timeout = ql_node_attr_timeout(&node);
	ql_node_release(fs, &node);
	(void)fuse_reply_attr(req, &st, timeout);
}

void ql_op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct ql_fs *fs = fuse_req_userdata(req);
	struct ql_node node = { 0 };
	char target[4096];
	const char *text;
	size_t len;
	int r;

	r = ql_node_get(fs, ino, &node);
	if (r == 0)
		r = ql_node_readlink(&node, &text, &len);
	if (r == 0 && len >= sizeof(target))
		r = -ENAMETOOLONG;
	if (r == 0) {
		memcpy(target, text, len);
		target[len] = 0;
	}
	ql_node_release(fs, &node);
	if (r < 0)
		(void)fuse_reply_err(req, ql_fs_errno(r));
	else
		(void)fuse_reply_readlink(req, target);
}

void ql_op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct ql_fs *fs = fuse_req_userdata(req);
	struct ql_node node = { 0 };
	struct statvfs st = {
		.f_bsize = 4096,
		.f_frsize = 4096,
		.f_namemax = 255,
	};

	if (ql_node_get(fs, ino, &node) == 0 && node.tree) {
		st.f_files = ql_tree_inodes(node.tree);
		st.f_blocks = ql_tree_bytes(node.tree) / st.f_frsize;
	}
	ql_node_release(fs, &node);
	(void)fuse_reply_statfs(req, &st);
}
