/* SPDX-License-Identifier: Apache-2.0 */
/* quicklayer mount and umount. */
#include "tools/cli.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "fs/fs.h"
#include "tools/pulled.h"

static int mount_check_mode(const char *mode, struct ql_error *err)
{
	if (!mode || strcmp(mode, "auto") == 0 || strcmp(mode, "fuse") == 0)
		return 0;
	return ql_error_set(err, -EINVAL, "--mode %s: auto and fuse are there",
			    mode);
}

/* A mount with settings of its own has a server of its own; so has one by
 * anyone but root, who alone may bind. */
static bool mount_own(const struct ql_cli *cli)
{
	return cli->foreground || cli->no_passthrough || geteuid() != 0;
}

/* Mounts what the agent shows.  1: its mount is not to be seen from here. */
static int mount_by_agent(const struct ql_cli *cli,
			  const struct ql_client *client, struct ql_error *err)
{
	_cleanup_json_ json_t *json = NULL;
	_cleanup_free_ char *from = NULL;
	struct ql_error why = QL_ERROR_INIT;
	int r = ql_client_ask(client, "GET", "/v1/images/", cli->argv[0], "",
			      &json, &why);

	if (r == 0)
		from = ql_strf("%s/by-digest/%s", client->mountpoint,
			       ql_json_opt_string(json, "digest", ""));
	else if (r == -ENOENT)
		from = ql_pulled_path(client, cli->argv[0]);
	if (!from && r < 0) {
		*err = why;
		return r;
	}
	if (!from)
		return ql_error_nomem(err);
	if (access(from, F_OK) < 0)
		return 1;
	return ql_mount_bind(from, cli->argv[1], err);
}

int ql_cmd_mount(const struct ql_cli *cli, struct ql_error *err)
{
	_cleanup_(ql_store_closep) struct ql_store *store = NULL;
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	_cleanup_(ql_client_freep) struct ql_client *client = NULL;
	_cleanup_free_ char *name = NULL;
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	const struct ql_fill_options fill = { .plain_http = cli->plain_http,
					      .config_dir = cli->config_dir };
	struct ql_digest manifest;
	char text[QL_DIGEST_TEXT + 1];
	struct ql_mount_options options = {
		.foreground = cli->foreground,
		.no_passthrough = cli->no_passthrough,
	};
	int r = mount_check_mode(cli->mode, err);

	if (r == 0)
		r = ql_client_find(cli, &client, err);
	if (r == 0 && client && !mount_own(cli)) {
		r = mount_by_agent(cli, client, err);
		if (r <= 0)
			return r;
		r = 0;
	}
	if (r == 0)
		r = ql_store_open(client ? client->root : cli->root,
				  QL_STORE_READ, &store, err);
	if (r == 0)
		r = ql_find_image(store, cli->argv[0], &manifest, &name, err);
	if (r == 0)
		r = ql_tree_open_image(store, &manifest, &tree, err);
	if (r < 0)
		return r;
	r = ql_image_get(store, &manifest, &info);
	if (r < 0)
		return ql_error_errno(err, r, "%s", cli->argv[0]);
	if (ql_fill_needed(store, &info)) {
		options.image = &info;
		options.fill = &fill;
	}
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
