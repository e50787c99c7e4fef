/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quicklayer run: a container by crun (or runc) on an image's root, which is
 * mounted by FUSE below an overlay that takes what the container writes and
 * goes with it.  Its exit status is the container's.
 */
#include "tools/cli.h"

#include <errno.h>
#include <unistd.h>

#include "tools/bundle.h"
#include "tools/pull.h"

enum { RUN_CONFIG_MAX = 8 << 20 };

/* ---- the image ---- */

struct run_image {
	struct ql_back back;	/* owned */
	struct ql_store *store; /* owned */
	char *from;		/* owned; in the agent's mount; or NULL */
	struct ql_tree *tree;	/* owned */
	json_t *config;		/* owned */
};

static void run_image_release(struct run_image *image)
{
	json_decref(image->config);
	ql_tree_close(image->tree);
	free(image->from);
	if (image->store != image->back.store)
		ql_store_close(image->store);
	ql_back_release(&image->back);
}

/* In the store already, or pulled now. */
static int run_find(const struct ql_cli *cli, const struct run_image *image,
		    struct ql_digest *ret_manifest, struct ql_error *err)
{
	_cleanup_json_ json_t *json = NULL;
	_cleanup_free_ char *name = NULL;
	int r = ql_find_image(image->store, cli->argv[0], ret_manifest, &name,
			      err);

	if (r != -ENOENT)
		return r;
	*err = (struct ql_error)QL_ERROR_INIT; /* it is no failure */
	r = ql_pull_image(cli, &image->back, cli->argv[0], &json, err);
	if (r < 0)
		return r;
	return ql_digest_parse(ql_json_opt_string(json, "digest", ""),
			       ret_manifest, err);
}

/* Opens the store itself, too: the container's user is looked up in it. */
static int run_store(const struct ql_cli *cli, struct run_image *image,
		     struct ql_error *err)
{
	int r = ql_back_open(cli, QL_STORE_WRITE, &image->back, err);

	if (r < 0)
		return r;
	if (image->back.client)
		return ql_store_open(image->back.client->root, QL_STORE_WRITE,
				     &image->store, err);
	image->store = image->back.store;
	return 0;
}

/* The image's root in the agent's mount, if that is to be seen from here. */
static int run_from(struct run_image *image, const struct ql_digest *manifest,
		    struct ql_error *err)
{
	char text[QL_DIGEST_TEXT + 1];
	_cleanup_free_ char *from = NULL;

	if (!image->back.client || geteuid() != 0)
		return 0;
	from = ql_strf("%s/inert/%s", image->back.client->mountpoint,
		       ql_digest_text(manifest, text));
	if (!from)
		return ql_error_nomem(err);
	if (access(from, F_OK) == 0)
		image->from = ql_take_ptr(from);
	return 0;
}

static int run_open(const struct ql_cli *cli, struct run_image *image,
		    struct ql_error *err)
{
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(RUN_CONFIG_MAX);
	struct ql_digest manifest;
	int r = run_store(cli, image, err);

	if (r == 0)
		r = run_find(cli, image, &manifest, err);
	if (r == 0)
		r = run_from(image, &manifest, err);
	if (r == 0)
		r = ql_tree_open_image(image->store, &manifest, &image->tree,
				       err);
	if (r < 0)
		return r;
	r = ql_image_get(image->store, &manifest, &info);
	if (r < 0)
		return ql_error_errno(err, r, "%s", cli->argv[0]);
	r = ql_object_read(image->store, &info.config, &buf, err);
	if (r == 0)
		r = ql_json_parse(buf.data, buf.len, &image->config, err);
	return r;
}

int ql_cmd_run(const struct ql_cli *cli, struct ql_error *err)
{
	_cleanup_(run_image_release) struct run_image image = { 0 };
	_cleanup_(ql_rundir_release) struct ql_rundir dir = { .fd = -1,
							      .lock = -1 };
	_cleanup_(ql_user_release) struct ql_user user = { 0 };
	_cleanup_free_ char *rootfs = NULL;
	const char *spec = cli->user;
	int r = run_open(cli, &image, err);

	if (r < 0)
		return r;
	if (!spec)
		spec = ql_json_opt_string(
			json_object_get(image.config, "config"), "User", "");
	r = ql_user_lookup(image.store, image.tree, spec, &user, err);
	if (r == 0)
		r = ql_rundir_make(image.store, &dir, err);
	if (r == 0)
		r = ql_rundir_mount(&dir, image.store, image.tree, image.from,
				    &rootfs, err);
	if (r == 0)
		r = ql_bundle_write(dir.fd, image.config, rootfs, cli, &user,
				    err);
	return r < 0 ? r : ql_runtime_run(cli->runtime, &dir, err);
}
