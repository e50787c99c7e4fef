/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an inode number is.
 *
 * Three parties number the files of a mount.  The image has nids: an inode's
 * byte offset in units of 32, so a nid is also how to find the inode, with no
 * table.  The kernel asks about files by node IDs that the server chose, and
 * insists on one: the root is 1 (FUSE_ROOT_ID).  Programs see st_ino.
 *
 * Here all three are the same number, the nid, but for the root, which is 1.
 * No other inode can be 1: the image's first 1,152 bytes are its headers.  So:
 *  - lookup and forget keep no count and no table, and the server's memory
 *    does not grow with what was looked at;
 *  - a number means the same file after a forget, after a restart of the
 *    server and on another node, since it only depends on the image (a file
 *    handle that overlayfs or an NFS server kept stays good, and "find -inum"
 *    is stable over drop_caches);
 *  - two hardlinks are one nid, hence one node in the kernel, one page cache;
 *  - generation is always 0: no number is used twice.
 *
 * A nid is below 2^48 (an image of 2^53 bytes).  The 16 bits above it are
 * kept zero: they are for the image's slot once one mount shows many images.
 */
#include "fs/fs-private.h"

fuse_ino_t ql_ino_from_nid(uint64_t root_nid, uint64_t nid)
{
	return nid == root_nid ? FUSE_ROOT_ID : nid;
}

uint64_t ql_ino_to_nid(uint64_t root_nid, fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? root_nid : ino;
}
