/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quicklayer run: a container by crun (or runc) on an image's root, which is
 * mounted by FUSE below an overlay that takes what the container writes and
 * goes with it.  Its exit status is the container's.
 *
 * quicklayer record: the same, by a server of its own that notes what is read.
 */
#include "tools/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "tools/bundle.h"
#include "tools/pull.h"

enum { RUN_CONFIG_MAX = 8 << 20 };

/* ---- the image ---- */

struct run_image {
	struct ql_back back;	   /* owned */
	struct ql_store *store;	   /* owned */
	char *from;		   /* owned; in the agent's mount; or NULL */
	struct ql_tree *tree;	   /* owned */
	struct ql_image_info info; /* owned */
	json_t *config;		   /* owned */
};

static void run_image_release(struct run_image *image)
{
	json_decref(image->config);
	ql_image_info_release(&image->info);
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
	r = ql_image_get(image->store, &manifest, &image->info);
	if (r < 0)
		return ql_error_errno(err, r, "%s", cli->argv[0]);
	r = ql_object_read(image->store, &image->info.config, &buf, err);
	if (r == 0)
		r = ql_json_parse(buf.data, buf.len, &image->config, err);
	return r;
}

static int run_container(const struct ql_cli *cli, struct run_image *image,
			 int record_fd, struct ql_error *err)
{
	_cleanup_(ql_rundir_release) struct ql_rundir dir = { 0 };
	_cleanup_(ql_user_release) struct ql_user user = { 0 };
	_cleanup_free_ char *rootfs = NULL;
	const struct ql_fill_options fill = { .plain_http = cli->plain_http,
					      .config_dir = cli->config_dir };
	const struct ql_run_image run = {
		.store = image->store,
		.tree = image->tree,
		.info = &image->info,
		.from = record_fd > 0 ? NULL : image->from,
		.fill = ql_fill_needed(image->store, &image->info) ? &fill
								   : NULL,
		.record_fd = record_fd,
	};
	const char *spec = cli->user;
	int r;

	if (!spec)
		spec = ql_json_opt_string(
			json_object_get(image->config, "config"), "User", "");
	r = ql_rundir_make(image->store, &dir, err);
	if (r == 0)
		r = ql_rundir_mount(&dir, &run, &rootfs, err);
	if (r == 0)
		r = ql_user_lookup(rootfs, spec, &user, err);
	if (r == 0)
		r = ql_bundle_write(dir.dir.fd, image->config, rootfs, cli,
				    &user, err);
	return r < 0 ? r : ql_runtime_run(cli->runtime, &dir, err);
}

int ql_cmd_run(const struct ql_cli *cli, struct ql_error *err)
{
	_cleanup_(run_image_release) struct run_image image = { 0 };
	int r = run_open(cli, &image, err);

	return r < 0 ? r : run_container(cli, &image, 0, err);
}

/* ---- recording ---- */

enum { RECORD_MAX = 64 << 20 };

/* The file that a run's accesses are written to: it has no name. */
static int record_file(const struct ql_store *store, struct ql_error *err)
{
	int fd = openat(ql_store_root_fd(store), "partial",
			O_TMPFILE | O_RDWR | O_APPEND | O_CLOEXEC, 0600);

	return fd < 0 ? ql_error_errno(err, -errno, "make a file in %s",
				       ql_store_root(store))
		      : fd;
}

static int record_save(const struct ql_cli *cli, struct run_image *image,
		       int fd, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf accesses = QL_BUF_INIT(RECORD_MAX);
	_cleanup_buf_ struct ql_buf text = QL_BUF_INIT(QL_TRACE_MAX);
	_cleanup_(ql_trace_release) struct ql_trace trace = { 0 };
	char self[32];
	int r;

	(void)snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	r = ql_read_file(AT_FDCWD, self, &accesses, err);
	if (r == 0)
		r = ql_record_trace(image->tree, accesses.data, accesses.len,
				    &trace, err);
	if (r < 0)
		return r;
	r = ql_trace_print(&trace, &text);
	if (r < 0)
		return ql_error_errno(err, r, "trace");
	r = ql_image_trace_put(image->store, &image->info.manifest, text.data,
			       text.len, err);
	if (r == 0 && !cli->quiet)
		(void)fprintf(stderr, "recorded %zu parts of files\n", trace.n);
	return r;
}

int ql_cmd_record(const struct ql_cli *cli, struct ql_error *err)
{
	_cleanup_(run_image_release) struct run_image image = { 0 };
	_cleanup_close_ int fd = -1;
	int status;
	int r = run_open(cli, &image, err);

	if (r == 0)
		r = fd = record_file(image.store, err);
	if (r < 0)
		return r;
	status = run_container(cli, &image, fd, err);
	if (status < 0)
		return status;
	r = record_save(cli, &image, fd, err);
	return r < 0 ? r : status;
}
