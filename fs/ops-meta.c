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
#include <sys/sysmacros.h>

#include "fs/fs-private.h"

enum {
	/* The image's pages count as this process's memory while they are
	 * mapped; a fault maps 64 KiB around it.  Letting go this often keeps
	 * a walk over a large image within a few MiB. */
	RELAX_EVERY = 256, /* requests */
};

int ql_fs_errno(int r)
{
	return r == -EBADMSG ? EIO : -r;
}

int ql_fs_inode(struct ql_fs *fs, fuse_ino_t ino, struct ql_inode *ret_inode)
{
	unsigned int n = atomic_fetch_add_explicit(&fs->requests, 1,
						   memory_order_relaxed);

	if (n % RELAX_EVERY == RELAX_EVERY - 1)
		ql_tree_relax(fs->tree);
	return ql_tree_inode(fs->tree,
			     ql_ino_to_nid(ql_tree_root(fs->tree), ino),
			     ret_inode);
}

fuse_ino_t ql_fs_ino(const struct ql_fs *fs, uint64_t nid)
{
	return ql_ino_from_nid(ql_tree_root(fs->tree), nid);
}

/* 0:0 would be a whiteout to an overlay above; 0:1 is no device's number. */
static dev_t fs_rdev(const struct ql_fs *fs, const struct ql_inode *inode)
{
	bool device = S_ISCHR(inode->mode) || S_ISBLK(inode->mode);

	return fs->inert_devices && device ? makedev(0, 1) : inode->rdev;
}

void ql_fs_stat(const struct ql_fs *fs, const struct ql_inode *inode,
		struct stat *ret_stat)
{
	struct stat st = {
		.st_ino = ql_fs_ino(fs, inode->nid),
		.st_mode = inode->mode,
		.st_nlink = inode->nlink,
		.st_uid = inode->uid,
		.st_gid = inode->gid,
		.st_rdev = fs_rdev(fs, inode),
		.st_size = (off_t)inode->size,
		.st_blksize = 4096,
		.st_blocks = (blkcnt_t)(inode->size / 512 +
					(inode->size % 512 != 0)),
	};

	st.st_mtim.tv_sec = inode->mtime_sec;
	st.st_mtim.tv_nsec = inode->mtime_nsec;
	st.st_atim = st.st_mtim;
	st.st_ctim = st.st_mtim;
	*ret_stat = st;
}

/* "." and ".." come where a file handle is opened (FUSE_CAP_EXPORT_SUPPORT);
 * "." also for what is no directory. */
static int lookup(struct ql_fs *fs, fuse_ino_t parent, const char *name,
		  struct ql_inode *ret_inode)
{
	struct ql_inode dir;
	uint64_t nid;
	int r;

	r = ql_fs_inode(fs, parent, &dir);
	if (r < 0)
		return r;
	if (strcmp(name, ".") == 0) {
		*ret_inode = dir;
		return 0;
	}
	r = ql_tree_lookup(fs->tree, &dir, name, strlen(name), &nid);
	if (r < 0)
		return r;
	return ql_tree_inode(fs->tree, nid, ret_inode);
}

void ql_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = { .attr_timeout = QL_FS_TIMEOUT,
				      .entry_timeout = QL_FS_TIMEOUT };
	struct ql_fs *fs = fuse_req_userdata(req);
	struct ql_inode inode;
	int r;

	r = lookup(fs, parent, name, &inode);
	if (r == 0) {
		ql_fs_stat(fs, &inode, &e.attr);
		e.ino = e.attr.st_ino;
	} else if (r != -ENOENT) {
		(void)fuse_reply_err(req, ql_fs_errno(r));
		return;
	}
	(void)fuse_reply_entry(req, &e);
}

void ql_op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	(void)ino;
	(void)nlookup;
	fuse_reply_none(req);
}

void ql_op_forget_multi(fuse_req_t req, size_t count,
			struct fuse_forget_data *forgets)
{
	(void)count;
	(void)forgets;
	fuse_reply_none(req);
}

void ql_op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct ql_fs *fs = fuse_req_userdata(req);
	struct ql_inode inode;
	struct stat st;
	int r;

	(void)fi;
	r = ql_fs_inode(fs, ino, &inode);
	if (r < 0) {
		(void)fuse_reply_err(req, ql_fs_errno(r));
		return;
	}
	ql_fs_stat(fs, &inode, &st);
	(void)fuse_reply_attr(req, &st, QL_FS_TIMEOUT);
}

void ql_op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct ql_fs *fs = fuse_req_userdata(req);
	char target[4096];
	struct ql_inode inode;
	const char *text;
	size_t len;
	int r;

	r = ql_fs_inode(fs, ino, &inode);
	if (r == 0)
		r = ql_tree_readlink(fs->tree, &inode, &text, &len);
	if (r == 0 && len >= sizeof(target))
		r = -ENAMETOOLONG;
	if (r < 0) {
		(void)fuse_reply_err(req, ql_fs_errno(r));
		return;
	}
	memcpy(target, text, len);
	target[len] = 0;
	(void)fuse_reply_readlink(req, target);
}

void ql_op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct ql_fs *fs = fuse_req_userdata(req);
	struct statvfs st = {
		.f_bsize = 4096,
		.f_frsize = 4096,
		.f_files = ql_tree_inodes(fs->tree),
		.f_namemax = 255,
	};

	(void)ino;
	st.f_blocks = ql_tree_bytes(fs->tree) / st.f_frsize;
	(void)fuse_reply_statfs(req, &st);
}
