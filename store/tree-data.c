/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trees: the data of an inode.  FLAT_PLAIN is one run of blocks at blkaddr;
 * FLAT_INLINE is the same but for the last, partial block, which follows the
 * inode; CHUNK_BASED is, in composefs, content that lies in an object.
 * Layout: https://erofs.docs.kernel.org/en/latest/core_ondisk.html
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "store/store-private.h"

int ql_tree_block(const struct ql_tree *tree, const struct ql_inode *inode,
		  uint64_t block, const uint8_t **ret_data, size_t *ret_len)
{
	uint64_t start = block << QL_TREE_BLOCK_BITS, len, pos;
	const uint8_t *data;

	/* start cannot wrap once block is known to be below size >> 12 */
	if (block > inode->size >> QL_TREE_BLOCK_BITS || start >= inode->size)
		return -EBADMSG;
	len = inode->size - start;
	if (inode->layout == QL_TREE_FLAT_INLINE && len <= QL_TREE_BLOCK) {
		pos = inode->tail_pos;
	} else {
		pos = (uint64_t)inode->blkaddr << QL_TREE_BLOCK_BITS;
		if (__builtin_add_overflow(pos, start, &pos))
			return -EBADMSG;
	}
	if (len > QL_TREE_BLOCK)
		len = QL_TREE_BLOCK;
	data = ql_tree_span(tree, pos, len);
	if (!data)
		return -EBADMSG;
	*ret_data = data;
	*ret_len = (size_t)len;
	return 0;
}

int ql_tree_readlink(const struct ql_tree *tree, const struct ql_inode *link,
		     const char **ret_target, size_t *ret_len)
{
	const uint8_t *data;
	size_t len;
	int r;

	if (!S_ISLNK(link->mode))
		return -EINVAL;
	if (link->size >= QL_TREE_BLOCK)
		return -EBADMSG;
	r = ql_tree_block(tree, link, 0, &data, &len);
	if (r < 0)
		return r;
	if (memchr(data, 0, len))
		return -EBADMSG;
	*ret_target = (const char *)data;
	*ret_len = len;
	return 0;
}

/* "/ab/<62 digits>", as overlayfs finds it in objects/. */
static int content_object(const struct ql_tree *tree,
			  const struct ql_inode *file,
			  struct ql_digest *ret_object)
{
	enum { REDIRECT_LEN = 2 + QL_DIGEST_HEX };
	char hex[QL_DIGEST_HEX];
	struct ql_xattr x;

	if (ql_tree_xattr_trusted(tree, file, "overlay.redirect", &x) <= 0 ||
	    x.value_len != REDIRECT_LEN || x.value[0] != '/' ||
	    x.value[3] != '/')
		return -EBADMSG;
	memcpy(hex, x.value + 1, 2);
	memcpy(hex + 2, x.value + 4, QL_DIGEST_HEX - 2);
	return ql_digest_from_hex(hex, ret_object) < 0 ? -EBADMSG : 0;
}

int ql_tree_content(const struct ql_tree *tree, const struct ql_inode *file,
		    struct ql_content *ret_content)
{
	struct ql_content content = { .size = file->size };
	uint64_t pos;
	int r;

	if (!S_ISREG(file->mode))
		return -EINVAL;
	if (file->size > 0 && file->layout == QL_TREE_CHUNK_BASED) {
		r = content_object(tree, file, &content.object);
		if (r < 0)
			return r;
	} else if (file->size > 0) {
		if (file->layout == QL_TREE_FLAT_PLAIN)
			pos = (uint64_t)file->blkaddr << QL_TREE_BLOCK_BITS;
		else if (file->size <= QL_TREE_BLOCK)
			pos = file->tail_pos;
		else
			return -EBADMSG; /* in two places: never written */
		content.data = ql_tree_span(tree, pos, file->size);
		if (!content.data)
			return -EBADMSG;
	}
	*ret_content = content;
	return 0;
}
