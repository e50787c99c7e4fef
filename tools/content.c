/* SPDX-License-Identifier: Apache-2.0 */
/* A file's content in the store, wherever it stands. */
#include "tools/cli.h"

#include <errno.h>
#include <sys/stat.h>

enum { CONTENT_PIECE = 256 << 10 };

/* Brings it here, where it is to be had.  1: fn was given it instead. */
static int content_fetch(const struct ql_cli *cli, const struct ql_store *store,
			 const struct ql_digest *manifest,
			 const struct ql_digest *object, ql_content_fn *fn,
			 void *arg, struct ql_error *err)
{
	const struct ql_fill_options fill = { .plain_http = cli->plain_http,
					      .config_dir = cli->config_dir };
	_cleanup_(ql_store_closep) struct ql_store *own = NULL;
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	int r = ql_store_open(ql_store_root(store), QL_STORE_WRITE, &own, err);

	if (r < 0)
		return r;
	r = ql_image_get(own, manifest, &info);
	if (r < 0)
		return ql_error_errno(err, r, "image");
	return ql_fill_object(own, &info, object, &fill, fn, arg, err);
}

static int content_object(const struct ql_cli *cli,
			  const struct ql_store *store,
			  const struct ql_digest *manifest,
			  const struct ql_digest *digest, ql_content_fn *fn,
			  void *arg, struct ql_error *err)
{
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *buf = malloc(CONTENT_PIECE);
	ssize_t n;
	int r = 0;

	if (!ql_object_here(store, digest))
		r = content_fetch(cli, store, manifest, digest, fn, arg, err);
	if (r > 0)
		return 0;
	if (r == 0)
		r = ql_object_open(store, digest, &fd, err);
	if (r < 0)
		return r;
	if (!buf)
		return ql_error_nomem(err);
	while ((n = ql_read_full(fd, buf, CONTENT_PIECE)) > 0) {
		r = fn(buf, (size_t)n, arg);
		if (r != 0)
			return r;
	}
	return n < 0 ? ql_error_errno(err, (int)n, "read") : 0;
}

int ql_content_each(const struct ql_cli *cli, const struct ql_store *store,
		    const struct ql_digest *manifest,
		    const struct ql_tree *tree, const struct ql_inode *file,
		    ql_content_fn *fn, void *arg, struct ql_error *err)
{
	struct ql_content content;
	int r;

	if (S_ISDIR(file->mode))
		return ql_error_set(err, -EISDIR, "it is a folder");
	if (!S_ISREG(file->mode))
		return ql_error_set(err, -EINVAL, "it is no regular file");
	r = ql_tree_content(tree, file, &content);
	if (r < 0)
		return ql_error_errno(err, r, "the image's tree");
	if (content.size == 0)
		return 0;
	if (content.data)
		return fn(content.data, (size_t)content.size, arg);
	return content_object(cli, store, manifest, &content.object, fn, arg,
			      err);
}
