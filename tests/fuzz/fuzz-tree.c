/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a composefs image that may be anything: every directory (to a depth,
 * and a number of entries), xattr, symlink and content reference in it, and
 * each found name again by lookup.
 */
#include <stdint.h>
#include <sys/stat.h>

#include "store/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DEPTH = 8, ENTRIES = 2000 };

static volatile uint8_t sink;

static void touch(const void *data, size_t len)
{
	const uint8_t *p = data;

	if (len > 0)
		sink = (uint8_t)(p[0] ^ p[len - 1]);
}

static void read_inode(const struct ql_tree *tree, const struct ql_inode *inode)
{
	struct ql_content content;
	const char *target;
	struct ql_xattr x;
	uint64_t pos = 0;
	size_t len;

	while (ql_tree_xattr(tree, inode, &pos, &x) > 0) {
		touch(x.name, x.name_len);
		touch(x.value, x.value_len);
	}
	if (ql_tree_readlink(tree, inode, &target, &len) == 0)
		touch(target, len);
	if (ql_tree_content(tree, inode, &content) == 0 && content.data)
		touch(content.data, (size_t)content.size);
}

static void read_dir(const struct ql_tree *tree, const struct ql_inode *dir,
		     int depth, int *budget)
{
	struct ql_inode inode;
	struct ql_dirent e;
	uint64_t pos = 0, nid;

	while (--*budget > 0 && ql_tree_readdir(tree, dir, &pos, &e) > 0) {
		touch(e.name, e.len);
		(void)ql_tree_lookup(tree, dir, e.name, e.len, &nid);
		if (ql_tree_inode(tree, e.nid, &inode) < 0)
			continue;
		read_inode(tree, &inode);
		if (S_ISDIR(inode.mode) && depth < DEPTH)
			read_dir(tree, &inode, depth + 1, budget);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ql_tree *tree = NULL;
	struct ql_inode root;
	int budget = ENTRIES;

	if (ql_tree_open_mem(data, size, &tree, NULL) < 0)
		return 0;
	if (ql_tree_inode(tree, ql_tree_root(tree), &root) == 0) {
		read_inode(tree, &root);
		read_dir(tree, &root, 0, &budget);
	}
	(void)ql_tree_resolve(tree, "a/../link/x", true, &root, NULL);
	ql_tree_close(tree);
	return 0;
}
