/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quicklayer cat: files' content, from the store to standard output; or, of an
 * image that is being pulled, from the agent's mount.
 */
#include "tools/cli.h"

#include <errno.h>
#include <stdio.h>

#include "tools/pulled.h"

static int cat_write(const void *data, size_t len, void *arg)
{
	(void)arg;
	return fwrite(data, 1, len, stdout) == len ? 0 : -EIO;
}

static int cat_one(const struct ql_cli *cli, const struct ql_store *store,
		   const struct ql_digest *manifest, const struct ql_tree *tree,
		   const char *path, struct ql_error *err)
{
	struct ql_inode inode;
	int r = ql_tree_resolve(tree, path, true, &inode, err);

	if (r < 0)
		return r;
	errno = 0;
	r = ql_content_each(cli, store, manifest, tree, &inode, cat_write, NULL,
			    err);
	if (r < 0 && ferror(stdout))
		return ql_error_errno(err, errno ? -errno : r,
				      "write to standard output");
	return r < 0 ? ql_error_prefix(err, "%s", path) : 0;
}

static int cat_growing(const struct ql_cli *cli, int root, struct ql_error *err)
{
	int r = 0;

	for (int i = 1; i < cli->argc && r == 0; i++) {
		errno = 0;
		r = ql_pulled_cat(root, cli->argv[i], cat_write, NULL, err);
		if (r < 0 && ferror(stdout))
			return ql_error_errno(err, errno ? -errno : r,
					      "write to standard output");
		if (r < 0)
			(void)ql_error_prefix(err, "%s", cli->argv[i]);
	}
	return r;
}

int ql_cmd_cat(const struct ql_cli *cli, struct ql_error *err)
{
	_cleanup_(ql_store_closep) struct ql_store *store = NULL;
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	_cleanup_close_ int root = -1;
	struct ql_digest manifest;
	int r = ql_store_open(cli->root, QL_STORE_READ, &store, err);

	if (r == 0)
		r = ql_pulled_find(cli, store, cli->argv[0], &manifest, &root,
				   err);
	if (r == 0 && root >= 0)
		return cat_growing(cli, root, err);
	if (r == 0)
		r = ql_tree_open_image(store, &manifest, &tree, err);
	for (int i = 1; i < cli->argc && r == 0; i++)
		r = cat_one(cli, store, &manifest, tree, cli->argv[i], err);
	return r;
}
