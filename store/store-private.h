/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of store/ share with each other and nobody else: prototypes
 * grouped by the file that owns them.
 */
#ifndef QL_STORE_PRIVATE_H
#define QL_STORE_PRIVATE_H

#include "store/store.h"

/* ---- tree.c ---- */

enum {
	QL_TREE_BLOCK_BITS = 12,
	QL_TREE_BLOCK = 1 << QL_TREE_BLOCK_BITS,
	QL_TREE_NAME_MAX = 255,
	QL_TREE_SYMLINKS_MAX = 40, /* followed in one path, as Linux does */
};

/* EROFS data layouts that composefs writes (erofs_fs.h). */
enum {
	QL_TREE_FLAT_PLAIN = 0,
	QL_TREE_FLAT_INLINE = 2,
	QL_TREE_CHUNK_BASED = 4,
};

/* len bytes of the image at pos, borrowed; NULL where they are not in it. */
const uint8_t *ql_tree_span(const struct ql_tree *tree, uint64_t pos,
			    uint64_t len);
/* Where shared xattrs start. */
uint64_t ql_tree_xattr_base(const struct ql_tree *tree);
/* One block of a flat inode's data and its length; -EBADMSG. */
int ql_tree_block(const struct ql_tree *tree, const struct ql_inode *inode,
		  uint64_t block, const uint8_t **ret_data, size_t *ret_len);

/* ---- tree-xattr.c ---- */

/* As ql_tree_xattr(), but as the image stores them. */
int ql_tree_xattr_raw(const struct ql_tree *tree, const struct ql_inode *inode,
		      uint64_t *pos, struct ql_xattr *ret_xattr);
/* An xattr by its stored name after "trusted.": 1, 0 (none) or -EBADMSG. */
int ql_tree_xattr_trusted(const struct ql_tree *tree,
			  const struct ql_inode *inode, const char *name,
			  struct ql_xattr *ret_xattr);

#endif
