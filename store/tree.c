/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trees: a composefs image (an EROFS image with overlayfs xattrs) read where
 * it lies, through a shared read-only mapping.  Opening checks two headers
 * and nothing else; every later access checks its own bounds, so an image may
 * be damaged anywhere: the answer is -EBADMSG, never a read outside the map.
 * There is no state but the mapping, so threads share a tree freely.
 *
 * An image file is immutable once it has its name; cutting it short under a
 * reader would be a SIGBUS, as for every mapping.
 *
 * What is read, and so all that libcomposefs 1 writes:
 *   0     composefs header: magic, version, flags (lcfs-erofs.h)
 *   1024  EROFS superblock, 4 KiB blocks, no compression
 *   meta_blkaddr   inodes, 32 (compact) or 64 bytes (extended), each followed
 *                  by its xattrs and, FLAT_INLINE, by the tail of its data
 *   xattr_blkaddr  xattrs that inodes share
 *   elsewhere      whole blocks of directories, long symlinks, inline files
 * A regular file with content elsewhere is CHUNK_BASED and names its object
 * in trusted.overlay.redirect.  Layout: Linux fs/erofs/erofs_fs.h and
 * https://erofs.docs.kernel.org/en/latest/core_ondisk.html
 *
 * Two disguises are undone here.  composefs gives the root the entries 00 to
 * ff as 0:0 character devices, so that the folders of objects/ do not shine
 * through an overlay: they are not shown.  And a 0:0 character device of the
 * image itself is written as an empty file marked by xattrs: it is shown as
 * the device that it is.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "store/store-private.h"

enum {
	SUPER_POS = 1024,
	SUPER_SIZE = 128,
	SLOT = 32, /* bytes; the unit of a nid */
	INODE_COMPACT = 32,
	INODE_EXTENDED = 64,
	XATTR_HEADER = 12,
	XATTR_UNIT = 4,
	COMPOSEFS_VERSION = 1,
	COMPOSEFS_HAS_ACL = 1,
	FEATURES_KNOWN = 4, /* incompat: chunked files */
};

static const uint32_t composefs_magic = 0xd078629a;
static const uint32_t erofs_magic = 0xe0f5e1e2;

struct ql_tree {
	const uint8_t *map; /* owned where fd >= 0, else borrowed */
	void *memory;	    /* owned; what map is, of ql_tree_open_own() */
	size_t len;
	int fd; /* owned; holds the image's lock; -1: over memory */
	bool has_acl;
	uint64_t root;
	uint64_t inodes;
	uint64_t meta;	   /* bytes */
	uint64_t xattrs;   /* bytes */
	int64_t mtime_sec; /* of compact inodes */
	uint32_t mtime_nsec;
};

const uint8_t *ql_tree_span(const struct ql_tree *tree, uint64_t pos,
			    uint64_t len)
{
	uint64_t end;

	if (__builtin_add_overflow(pos, len, &end) || end > tree->len)
		return NULL;
	return tree->map + pos;
}

uint64_t ql_tree_xattr_base(const struct ql_tree *tree)
{
	return tree->xattrs;
}

/* ---- opening ---- */

static int read_header(struct ql_tree *tree, struct ql_error *err)
{
	struct ql_cursor c;
	uint32_t magic, version;

	ql_cursor_init(&c, tree->map, tree->len);
	magic = ql_cursor_le32(&c);
	version = ql_cursor_le32(&c);
	tree->has_acl = ql_cursor_le32(&c) & COMPOSEFS_HAS_ACL;
	if (c.bad || magic != composefs_magic)
		return ql_error_set(err, -EBADMSG, "not a composefs image");
	if (version != COMPOSEFS_VERSION)
		return ql_error_set(err, -EBADMSG,
				    "composefs format %u is not known",
				    version);
	return 0;
}

static int read_super(struct ql_tree *tree, struct ql_error *err)
{
	const uint8_t *super = ql_tree_span(tree, SUPER_POS, SUPER_SIZE);
	uint32_t magic, features;
	struct ql_cursor c;
	uint8_t bits;

	if (!super)
		return ql_error_set(err, -EBADMSG, "image is cut short");
	ql_cursor_init(&c, super, SUPER_SIZE);
	magic = ql_cursor_le32(&c);
	ql_cursor_skip(&c, 8); /* checksum, compatible features */
	bits = ql_cursor_u8(&c);
	ql_cursor_skip(&c, 1);
	tree->root = ql_cursor_le16(&c);
	tree->inodes = ql_cursor_le64(&c);
	tree->mtime_sec = (int64_t)ql_cursor_le64(&c);
	tree->mtime_nsec = ql_cursor_le32(&c);
	ql_cursor_skip(&c, 4); /* blocks */
	tree->meta = (uint64_t)ql_cursor_le32(&c) << QL_TREE_BLOCK_BITS;
	tree->xattrs = (uint64_t)ql_cursor_le32(&c) << QL_TREE_BLOCK_BITS;
	ql_cursor_skip(&c, 32); /* uuid, volume name */
	features = ql_cursor_le32(&c);
	if (magic != erofs_magic || bits != QL_TREE_BLOCK_BITS)
		return ql_error_set(err, -EBADMSG, "not an EROFS image");
	if (features & ~(uint32_t)FEATURES_KNOWN)
		return ql_error_set(err, -EBADMSG,
				    "EROFS features %#x are not known",
				    features);
	return 0;
}

static int tree_check(struct ql_tree *tree, struct ql_error *err)
{
	struct ql_inode root;
	int r = read_header(tree, err);

	if (r == 0)
		r = read_super(tree, err);
	if (r < 0)
		return r;
	r = ql_tree_inode(tree, tree->root, &root);
	if (r < 0 || !S_ISDIR(root.mode))
		return ql_error_set(err, -EBADMSG,
				    "the image has no root directory");
	return 0;
}

int ql_tree_open_mem(const void *data, size_t len, struct ql_tree **ret_tree,
		     struct ql_error *err)
{
	_cleanup_(ql_tree_closep) struct ql_tree *tree =
		calloc(1, sizeof(*tree));
	int r;

	if (!tree)
		return ql_error_nomem(err);
	tree->map = data;
	tree->len = len;
	tree->fd = -1;
	r = tree_check(tree, err);
	if (r < 0)
		return r;
	*ret_tree = ql_take_ptr(tree);
	return 0;
}

int ql_tree_open_own(void *data, size_t len, struct ql_tree **ret_tree,
		     struct ql_error *err)
{
	int r = ql_tree_open_mem(data, len, ret_tree, err);

	if (r == 0)
		(*ret_tree)->memory = data;
	return r;
}

int ql_tree_open_fd(int fd, struct ql_tree **ret_tree, struct ql_error *err)
{
	struct ql_tree *tree = NULL;
	struct stat st;
	void *map;
	int r;

	if (fstat(fd, &st) < 0)
		return ql_error_errno(err, -errno, "image");
	if (!S_ISREG(st.st_mode) || st.st_size < SUPER_POS + SUPER_SIZE)
		return ql_error_set(err, -EBADMSG, "not a composefs image");
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return ql_error_errno(err, -errno, "mapping the image");
	r = ql_tree_open_mem(map, (size_t)st.st_size, &tree, err);
	if (r < 0) {
		(void)munmap(map, (size_t)st.st_size);
		return r;
	}
	tree->fd = fd;
	*ret_tree = tree;
	return 0;
}

/* Waits for a removal that is at work, and finds that it took the file. */
static int image_lock(int fd)
{
	struct stat st;

	while (flock(fd, LOCK_SH) < 0)
		if (errno != EINTR)
			return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	return st.st_nlink > 0 ? 0 : -ENOENT;
}

int ql_tree_open_image(const struct ql_store *store,
		       const struct ql_digest *manifest,
		       struct ql_tree **ret_tree, struct ql_error *err)
{
	char path[QL_CFS_PATH];
	_cleanup_close_ int fd = openat(ql_store_root_fd(store),
					ql_cfs_path("images", manifest, path),
					O_RDONLY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return ql_error_errno(err, -errno, "%s", path);
	r = image_lock(fd);
	if (r < 0)
		return ql_error_errno(err, r, "%s", path);
	r = ql_tree_open_fd(fd, ret_tree, err);
	if (r < 0) {
		ql_error_prefix(err, "%s", path);
		return r;
	}
	(void)ql_take_fd(&fd);
	return 0;
}

void ql_tree_close(struct ql_tree *tree)
{
	if (!tree)
		return;
	if (tree->fd >= 0) {
		(void)munmap((void *)(uintptr_t)tree->map, tree->len);
		/* No LOCK_UN: a forked server keeps the lock by its copy. */
		(void)close(tree->fd);
	}
	free(tree->memory);
	free(tree);
}

void ql_tree_relax(const struct ql_tree *tree)
{
	if (tree->fd >= 0)
		(void)madvise((void *)(uintptr_t)tree->map, tree->len,
			      MADV_DONTNEED);
}

int ql_tree_fd(const struct ql_tree *tree)
{
	return tree->fd;
}

uint64_t ql_tree_root(const struct ql_tree *tree)
{
	return tree->root;
}

uint64_t ql_tree_inodes(const struct ql_tree *tree)
{
	return tree->inodes;
}

uint64_t ql_tree_bytes(const struct ql_tree *tree)
{
	return tree->len;
}

bool ql_tree_has_acl(const struct ql_tree *tree)
{
	return tree->has_acl;
}

/* ---- inodes ---- */

/* Linux's new_decode_dev(): the kernel's 32-bit encoding of a device. */
static dev_t decode_dev(uint32_t v)
{
	return makedev((v & 0xfff00) >> 8, (v & 0xff) | ((v >> 12) & 0xfff00));
}

static void read_compact(const struct ql_tree *tree, struct ql_cursor *c,
			 struct ql_inode *inode)
{
	inode->mode = ql_cursor_le16(c);
	inode->nlink = ql_cursor_le16(c);
	inode->size = ql_cursor_le32(c);
	ql_cursor_skip(c, 4);
	inode->blkaddr = ql_cursor_le32(c);
	ql_cursor_skip(c, 4); /* 32-bit inode number */
	inode->uid = ql_cursor_le16(c);
	inode->gid = ql_cursor_le16(c);
	inode->mtime_sec = tree->mtime_sec;
	inode->mtime_nsec = tree->mtime_nsec;
}

static void read_extended(struct ql_cursor *c, struct ql_inode *inode)
{
	inode->mode = ql_cursor_le16(c);
	ql_cursor_skip(c, 2);
	inode->size = ql_cursor_le64(c);
	inode->blkaddr = ql_cursor_le32(c);
	ql_cursor_skip(c, 4); /* 32-bit inode number */
	inode->uid = ql_cursor_le32(c);
	inode->gid = ql_cursor_le32(c);
	inode->mtime_sec = (int64_t)ql_cursor_le64(c);
	inode->mtime_nsec = ql_cursor_le32(c);
	inode->nlink = ql_cursor_le32(c);
}

/* Type, layout and time are what composefs may have written. */
static bool inode_plausible(const struct ql_inode *inode)
{
	bool chunks = inode->layout == QL_TREE_CHUNK_BASED;

	if (inode->mtime_nsec >= 1000000000 || inode->size > INT64_MAX)
		return false;
	switch (inode->mode & S_IFMT) {
	case S_IFREG:
		break;
	case S_IFDIR:
	case S_IFLNK:
		if (chunks || inode->size == 0)
			return false;
		break;
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		if (inode->size != 0)
			return false;
		break;
	default:
		return false;
	}
	return chunks || inode->layout == QL_TREE_FLAT_PLAIN ||
	       inode->layout == QL_TREE_FLAT_INLINE;
}

/* What the inode's own xattrs say about it. */
static int inode_disguise(const struct ql_tree *tree, struct ql_inode *inode)
{
	struct ql_xattr x;
	int r;

	if (inode->xattr_icount == 0)
		return 0;
	if (S_ISDIR(inode->mode)) {
		r = ql_tree_xattr_trusted(tree, inode,
					  "overlay.overlay.whiteouts", &x);
		inode->escaped = r > 0 && x.value_len == 0;
	} else if (S_ISREG(inode->mode) && inode->size == 0) {
		r = ql_tree_xattr_trusted(tree, inode,
					  "overlay.overlay.whiteout", &x);
		inode->escaped = r > 0;
		if (inode->escaped)
			inode->mode = S_IFCHR |
				      (inode->mode & ~(uint32_t)S_IFMT);
	} else {
		return 0;
	}
	return r < 0 ? r : 0;
}

int ql_tree_inode(const struct ql_tree *tree, uint64_t nid,
		  struct ql_inode *ret_inode)
{
	struct ql_inode inode = { .nid = nid };
	const uint8_t *raw;
	struct ql_cursor c;
	uint64_t pos, size;
	uint16_t format;

	if (__builtin_mul_overflow(nid, (uint64_t)SLOT, &pos) ||
	    __builtin_add_overflow(pos, tree->meta, &pos) ||
	    pos < SUPER_POS + SUPER_SIZE)
		return -EBADMSG;
	raw = ql_tree_span(tree, pos, INODE_COMPACT);
	if (!raw)
		return -EBADMSG;
	size = raw[0] & 1 ? INODE_EXTENDED : INODE_COMPACT;
	raw = ql_tree_span(tree, pos, size);
	if (!raw)
		return -EBADMSG;

	ql_cursor_init(&c, raw, size);
	format = ql_cursor_le16(&c);
	inode.layout = (format >> 1) & 7;
	inode.xattr_icount = ql_cursor_le16(&c);
	if (format >> 4)
		return -EBADMSG;
	if (format & 1)
		read_extended(&c, &inode);
	else
		read_compact(tree, &c, &inode);
	if (!inode_plausible(&inode))
		return -EBADMSG;
	if (S_ISCHR(inode.mode) || S_ISBLK(inode.mode))
		inode.rdev = decode_dev(inode.blkaddr);

	inode.xattr_pos = pos + size;
	inode.tail_pos = inode.xattr_pos;
	if (inode.xattr_icount > 0)
		inode.tail_pos +=
			XATTR_HEADER +
			(uint64_t)XATTR_UNIT * (inode.xattr_icount - 1);
	if (inode.tail_pos > tree->len || inode_disguise(tree, &inode) < 0)
		return -EBADMSG;
	*ret_inode = inode;
	return 0;
}
