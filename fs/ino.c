/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an inode number is.
 *
 * Three parties number the files of a mount.  An image has nids: an inode's
 * byte offset in units of 32, so a nid is also how to find the inode, with no
 * table.  The kernel asks about files by node IDs that the server chose, and
 * insists on one: the root is 1 (FUSE_ROOT_ID).  Programs see st_ino.
 *
 * Here all three are the same number, (slot << 48) + nid, but for the root,
 * which is 1.  A nid is below 2^48 (an image of 2^53 bytes).
 *
 * A mount of one image has slot 0 alone.  No other inode of it can be 1: the
 * image's first 1,152 bytes are its headers.  So:
 *  - lookup and forget keep no count and no table, and the server's memory
 *    does not grow with what was looked at;
 *  - a number means the same file after a forget, after a restart of the
 *    server and on another node, since it only depends on the image (a file
 *    handle that overlayfs or an NFS server kept stays good, and "find -inum"
 *    is stable over drop_caches);
 *  - two hardlinks are one nid, hence one node in the kernel, one page cache;
 *  - generation is always 0: no number is used twice.
 *
 * A mount of every image has a slot for each tree that is open (slots.c): one
 * number counts what the kernel knows of a tree, and a tree keeps its slot for
 * as long as the server runs, unless 65,535 others come.  Slot 0 is that of
 * the folders above the images, which have numbers while the kernel knows them
 * (vtable.c).
 */
#include "fs/fs-private.h"

enum { SLOT_SHIFT = 48 };

fuse_ino_t ql_ino(unsigned int slot, uint64_t root_nid, uint64_t nid)
{
	if (slot == 0)
		return nid == root_nid ? FUSE_ROOT_ID : nid;
	return (fuse_ino_t)slot << SLOT_SHIFT | nid;
}

unsigned int ql_ino_slot(fuse_ino_t ino)
{
	return (unsigned int)(ino >> SLOT_SHIFT);
}

uint64_t ql_ino_nid(fuse_ino_t ino, uint64_t root_nid)
{
	if (ql_ino_slot(ino) == 0)
		return ino == FUSE_ROOT_ID ? root_nid : ino;
	return ino & (((uint64_t)1 << SLOT_SHIFT) - 1);
}
