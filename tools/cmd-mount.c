/* SPDX-License-Identifier: Apache-2.0 */
/* quicklayer mount and umount. */
#include "tools/cli.h"

#include <errno.h>
#include <string.h>

#include "fs/fs.h"

static int mount_check_mode(const char *mode, struct ql_error *err)
{
	if (!mode || strcmp(mode, "auto") == 0 || strcmp(mode, "fuse") == 0)
		return 0;
	return ql_error_set(err, -EINVAL, "--mode %s: auto and fuse are there",
			    mode);
}

int ql_cmd_mount(const struct ql_cli *cli, struct ql_error *err)
{
	_cleanup_(ql_store_closep) struct ql_store *store = NULL;
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	_cleanup_free_ char *name = NULL;
	struct ql_digest manifest;
	char text[QL_DIGEST_TEXT + 1];
	struct ql_mount_options options = {
		.foreground = cli->foreground,
		.no_passthrough = cli->no_passthrough,
	};
	int r = mount_check_mode(cli->mode, err);

	if (r == 0)
		r = ql_store_open(cli->root, QL_STORE_READ, &store, err);
	if (r == 0)
		r = ql_find_image(store, cli->argv[0], &manifest, &name, err);
	if (r == 0)
		r = ql_tree_open_image(store, &manifest, &tree, err);
	if (r < 0)
		return r;
	options.source = name ? name : ql_digest_text(&manifest, text);
	return ql_mount_fuse(store, tree, cli->argv[1], &options, err);
}

int ql_cmd_umount(const struct ql_cli *cli, struct ql_error *err)
{
	int r = 0;

	for (int i = 0; i < cli->argc && r == 0; i++)
		r = ql_umount(cli->argv[i], cli->lazy, err);
	return r;
}
