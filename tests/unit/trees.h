/* SPDX-License-Identifier: Apache-2.0 */
/* For tests: trees over images of image.h. */
#ifndef QL_TEST_TREES_H
#define QL_TEST_TREES_H

#include "store/store.h"
#include "tests/unit/image.h"

enum { MANY = 3000 };

static inline struct ql_tree *open_root(struct lcfs_node_s *root,
					struct ql_buf *buf)
{
	struct ql_error err = QL_ERROR_INIT;
	struct ql_tree *tree = NULL;

	image_write(root, buf);
	if (ql_tree_open_mem(buf->data, buf->len, &tree, &err) < 0)
		fail_msg("%s", err.text);
	return tree;
}

static inline void get(const struct ql_tree *tree, const char *path,
		       struct ql_inode *ret_inode)
{
	struct ql_error err = QL_ERROR_INIT;

	if (ql_tree_resolve(tree, path, false, ret_inode, &err) < 0)
		fail_msg("%s", err.text);
}

#endif
