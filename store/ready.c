/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images whose merged tree came ready-made, and what stands beside an image's
 * tree: tables of contents and the trace of its start.
 *
 *   images/<manifest>.toc      where each file's content is
 *   images/<manifest>.hot.toc  where the parts that a start needs are
 *   images/<manifest>.trace    which these are, in order
 */
#include "store/store-private.h"

#include <errno.h>
#include <string.h>

enum { SIDE_PATH = QL_CFS_PATH + 8 };

static const char *const side_files[] = { "toc", "hot.toc", "trace" };

static char *side_path(const char *dir, const struct ql_digest *manifest,
		       const char *suffix, char buf[SIDE_PATH])
{
	char hex[QL_DIGEST_HEX + 1];

	(void)snprintf(buf, SIDE_PATH, "%s/%s.%s", dir,
		       ql_digest_hex(manifest, hex), suffix);
	return buf;
}

static int side_put(struct ql_store *store, const struct ql_digest *manifest,
		    const char *suffix, const void *data, size_t len,
		    struct ql_error *err)
{
	char path[SIDE_PATH], tmp[SIDE_PATH];

	return ql_file_put(store->root_fd,
			   side_path("partial", manifest, suffix, tmp),
			   side_path("images", manifest, suffix, path), data,
			   len, err);
}

void ql_image_side_remove(struct ql_store *store,
			  const struct ql_digest *manifest)
{
	char path[SIDE_PATH];

	for (size_t i = 0; i < sizeof(side_files) / sizeof(side_files[0]); i++)
		(void)unlinkat(
			store->root_fd,
			side_path("images", manifest, side_files[i], path), 0);
}

int ql_toc_open_image(const struct ql_store *store,
		      const struct ql_image_info *info, struct ql_toc **ret_toc,
		      struct ql_error *err)
{
	char path[SIDE_PATH];

	return ql_toc_open(store->root_fd,
			   side_path("images", &info->manifest, "toc", path),
			   ret_toc, err);
}

int ql_toc_open_hot(const struct ql_store *store,
		    const struct ql_image_info *info, struct ql_toc **ret_toc,
		    struct ql_error *err)
{
	char path[SIDE_PATH];

	return ql_toc_open(store->root_fd,
			   side_path("images", &info->manifest, "hot.toc",
				     path),
			   ret_toc, err);
}

/* ---- traces ---- */

int ql_image_trace_get(const struct ql_store *store,
		       const struct ql_digest *manifest, struct ql_buf *buf)
{
	char path[SIDE_PATH];

	return ql_read_file(store->root_fd,
			    side_path("images", manifest, "trace", path), buf,
			    NULL);
}

int ql_image_trace_put(struct ql_store *store, const struct ql_digest *manifest,
		       const void *data, size_t len, struct ql_error *err)
{
	int r = ql_store_need_write(store, err);

	return r < 0 ? r : side_put(store, manifest, "trace", data, len, err);
}

/* ---- ready-made trees ---- */

struct tree_count {
	uint64_t bytes;
};

static int count_file(const struct ql_digest *digest, uint64_t size, void *arg)
{
	struct tree_count *count = arg;

	(void)digest;
	count->bytes += size;
	return 0;
}

/* Reads all of the tree once: what is damaged is refused before it counts. */
static int tree_check(const void *cfs, size_t len, struct ql_image_info *info,
		      struct ql_error *err)
{
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	struct tree_count count = { 0 };
	int r = ql_tree_open_mem(cfs, len, &tree, err);

	if (r < 0)
		return r;
	r = ql_tree_each_object(tree, count_file, &count);
	if (r < 0)
		return ql_error_errno(err, r, "the image's tree");
	info->inodes = ql_tree_inodes(tree);
	info->file_bytes = count.bytes;
	if (ql_digest_of(cfs, len, &info->cfs) < 0)
		return ql_error_nomem(err);
	return 0;
}

int ql_image_put_ready(struct ql_store *store, struct ql_image_info *info,
		       const void *cfs, size_t cfs_len,
		       const struct ql_buf *toc, const struct ql_buf *hot,
		       const char *name, struct ql_error *err)
{
	_cleanup_(ql_name_lock_release) struct ql_name_lock lock = { .fd = -1 };
	const struct ql_digest *m = &info->manifest;
	char path[QL_CFS_PATH], tmp[QL_CFS_PATH];
	int r = ql_store_need_write(store, err);

	if (r == 0)
		r = tree_check(cfs, cfs_len, info, err);
	if (r == 0)
		r = ql_store_need_space(store, cfs_len, err);
	if (r == 0)
		r = ql_name_lock_init(store, m, &lock, err);
	if (r < 0)
		return r;
	info->flags |= QL_IMAGE_READY;
	if (ql_image_is_built(store, info))
		return name ? ql_image_tag(store, name, m, err) : 0;
	r = ql_file_put(store->root_fd, ql_cfs_path("partial", m, tmp),
			ql_cfs_path("images", m, path), cfs, cfs_len, err);
	if (r == 0)
		r = side_put(store, m, "toc", toc->data, toc->len, err);
	if (r == 0 && hot)
		r = side_put(store, m, "hot.toc", hot->data, hot->len, err);
	return r < 0 ? r : ql_image_record(store, info, name, err);
}
