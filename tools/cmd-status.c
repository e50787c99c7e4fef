/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quicklayer status: how much of an image, or of everything, is here, and
 * what of it other images share.
 */
#include "tools/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "fs/fs.h"

struct status_all {
	uint64_t names;
	json_t *mounts; /* borrowed */
};

/* ---- one image ---- */

static int status_json(const struct ql_cli *cli,
		       const struct ql_image_info *info,
		       const struct ql_image_use *use, struct ql_error *err)
{
	return ql_out_json(
		json_pack("{s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
			  "image", ql_json_text(cli->argv[0]), "digest",
			  ql_json_digest(&info->manifest), "layers",
			  (json_int_t)info->n_layers, "files",
			  (json_int_t)use->files, "bytes",
			  (json_int_t)use->bytes, "files_here",
			  (json_int_t)use->files_here, "bytes_here",
			  (json_int_t)use->bytes_here, "files_shared",
			  (json_int_t)use->files_shared, "bytes_shared",
			  (json_int_t)use->bytes_shared),
		err);
}

static int status_image(const struct ql_cli *cli, struct ql_store *store,
			struct ql_error *err)
{
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	_cleanup_free_ char *name = NULL;
	struct ql_image_use use;
	struct ql_digest manifest;
	char a[QL_HUMAN];
	char b[QL_HUMAN];
	char c[QL_HUMAN];
	int r = ql_find_image(store, cli->argv[0], &manifest, &name, err);

	if (r < 0)
		return r;
	r = ql_image_get(store, &manifest, &info);
	if (r < 0)
		return ql_error_errno(err, r, "%s", cli->argv[0]);
	r = ql_image_usage(store, &info, &use, err);
	if (r < 0)
		return r;
	if (cli->json)
		return status_json(cli, &info, &use, err);
	(void)printf("%s\n%" PRIu64 " of %" PRIu64
		     " files are here (%s of %s); %" PRIu64
		     " of them (%s) are shared with other layers\n",
		     name ? name : cli->argv[0], use.files_here, use.files,
		     ql_human_bytes(use.bytes_here, a),
		     ql_human_bytes(use.bytes, b), use.files_shared,
		     ql_human_bytes(use.bytes_shared, c));
	return 0;
}

/* ---- the store ---- */

static int status_mount(const char *dir, const char *source, void *arg)
{
	struct status_all *all = arg;

	return json_array_append_new(all->mounts,
				     json_pack("{s:o, s:o}", "dir",
					       ql_json_text(dir), "image",
					       ql_json_text(source))) < 0
		       ? -ENOMEM
		       : 0;
}

static int status_count(const char *name, const struct ql_image_info *info,
			void *arg)
{
	struct status_all *all = arg;

	(void)info;
	all->names += name != NULL;
	return 0;
}

static void status_print(const struct ql_store *store,
			 const struct status_all *all,
			 const struct ql_store_use *use, uint64_t avail)
{
	char a[QL_HUMAN];
	char b[QL_HUMAN];
	json_t *m;
	size_t i;

	(void)printf("%s: %" PRIu64 " images, %" PRIu64 " layers, %" PRIu64
		     " files (%s); %s free\n",
		     ql_store_root(store), use->images, use->layers,
		     use->objects, ql_human_bytes(use->bytes, a),
		     ql_human_bytes(avail, b));
	json_array_foreach (all->mounts, i, m) {
		const char *image = ql_json_opt_string(m, "image", "?");
		const char *dir = ql_json_opt_string(m, "dir", "?");
		_cleanup_free_ char *on = ql_human_name(dir, strlen(dir));
		_cleanup_free_ char *what = ql_human_name(image, strlen(image));

		(void)printf("%s on %s\n", what ? what : "?", on ? on : "?");
	}
}

static int status_store(const struct ql_cli *cli, struct ql_store *store,
			struct ql_error *err)
{
	struct status_all all = { .mounts = json_array() };
	_cleanup_json_ json_t *mounts = all.mounts;
	const char *root = ql_store_root(store);
	struct ql_store_use use;
	struct statvfs vfs;
	uint64_t avail;
	int r = ql_store_usage(store, &use, err);

	if (r == 0)
		r = ql_image_each(store, status_count, &all, err);
	if (r == 0)
		r = ql_mount_each(status_mount, &all, err);
	if (r < 0)
		return r;
	if (fstatvfs(ql_store_root_fd(store), &vfs) < 0)
		return ql_error_errno(err, -errno, "%s", ql_store_root(store));
	avail = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	if (!cli->json) {
		status_print(store, &all, &use, avail);
		return 0;
	}
	return ql_out_json(json_pack("{s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:O}",
				     "root", ql_json_text(root), "images",
				     (json_int_t)use.images, "names",
				     (json_int_t)all.names, "layers",
				     (json_int_t)use.layers, "files",
				     (json_int_t)use.objects, "bytes",
				     (json_int_t)use.bytes, "free",
				     (json_int_t)avail, "mounts", mounts),
			   err);
}

int ql_cmd_status(const struct ql_cli *cli, struct ql_error *err)
{
	_cleanup_(ql_store_closep) struct ql_store *store = NULL;
	int r = ql_store_open(cli->root, QL_STORE_READ, &store, err);

	if (r < 0)
		return r;
	return cli->argc > 0 ? status_image(cli, store, err)
			     : status_store(cli, store, err);
}
