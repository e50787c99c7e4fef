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
#include <fcntl.h>
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

	return ql_file_put(store, side_path("partial", manifest, suffix, tmp),
			   side_path("images", manifest, suffix, path), data,
			   len, err);
}

uint64_t ql_image_side_remove(struct ql_store *store,
			      const struct ql_digest *manifest)
{
	char path[SIDE_PATH];
	uint64_t sum = 0;

	for (size_t i = 0; i < sizeof(side_files) / sizeof(side_files[0]);
	     i++) {
		uint64_t bytes = 0;

		(void)side_path("images", manifest, side_files[i], path);
		if (ql_space_unlink(store, path, &bytes) == 0)
			sum += bytes;
	}
	return sum;
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

/* The objects that the image needs are added to own, sorted. */
static int ready_describe(const struct ql_store *store, const void *cfs,
			  size_t len, const struct ql_object_list *objects,
			  struct ql_image_info *info, struct ql_object_set *own,
			  struct ql_error *err)
{
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	int r = ql_tree_open_mem(cfs, len, &tree, err);

	if (r < 0)
		return r;
	info->inodes = ql_tree_inodes(tree);
	info->file_bytes = objects->bytes;
	if (ql_digest_of(cfs, len, &info->cfs) < 0)
		return ql_error_nomem(err);
	for (uint32_t i = 0; i < objects->n; i++)
		if (ql_object_set_add(own, &objects->items[i].digest,
				      objects->items[i].size) < 0)
			return ql_error_nomem(err);
	r = ql_image_documents(store, info, own, err);
	ql_object_set_sort(own);
	return r;
}

/* ---- its files ---- */

enum { READY_FILES = 3 };

struct ready_file {
	const char *suffix;
	const void *data; /* borrowed; NULL: there is none */
	size_t len;
	int fd;		/* owned */
	uint64_t taken; /* of disk, for it */
};

static void ready_files_release(struct ready_file (*files)[READY_FILES])
{
	for (size_t i = 0; i < READY_FILES; i++)
		if ((*files)[i].fd >= 0)
			(void)close((*files)[i].fd);
}

/* Before the first is written: room is made for all, or none. */
static int ready_take(struct ql_store *store,
		      struct ready_file files[READY_FILES],
		      struct ql_error *err)
{
	uint64_t sum = 0;
	int r;

	for (size_t i = 0; i < READY_FILES; i++)
		if (files[i].data)
			sum += ql_space_blocks(files[i].len);
	r = ql_space_take(store, sum, err);
	for (size_t i = 0; i < READY_FILES && r == 0; i++)
		if (files[i].data)
			files[i].taken = ql_space_blocks(files[i].len);
	return r;
}

/* The disk begins to write while the rest is being done. */
static int ready_write(struct ql_store *store, const struct ql_digest *manifest,
		       struct ready_file *f, struct ql_error *err)
{
	char path[SIDE_PATH];
	int r;

	f->fd = openat(store->root_fd,
		       side_path("partial", manifest, f->suffix, path),
		       O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
		       0644);
	if (f->fd < 0)
		return ql_error_errno(err, -errno, "%s", path);
	r = ql_write_full(f->fd, f->data, f->len);
	if (r < 0)
		return ql_error_errno(err, r, "write %s", path);
	(void)sync_file_range(f->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	return 0;
}

static int ready_publish(struct ql_store *store,
			 const struct ql_digest *manifest, struct ready_file *f,
			 struct ql_error *err)
{
	char path[SIDE_PATH], tmp[SIDE_PATH];
	int r;

	(void)side_path("partial", manifest, f->suffix, tmp);
	(void)side_path("images", manifest, f->suffix, path);
	/* Data before names: a file of an image that was removed, and is not
	 * yet recorded again, may be read after a crash. */
	r = fsync(f->fd) < 0 ? -errno
			     : ql_space_rename(store, tmp, path, f->taken);
	if (r < 0)
		return ql_error_errno(err, r, "write %s", path);
	f->taken = 0;
	return 0;
}

static int sync_folder(struct ql_store *store, const char *path,
		       struct ql_error *err)
{
	_cleanup_close_ int fd = openat(store->root_fd, path,
					O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		return ql_error_errno(err, -errno, "write to %s/%s",
				      store->root, path);
	return 0;
}

/*
 * Names of what the image's record counts on: its own files, manifest and
 * configuration.  Not syncfs(2), which waits for whatever else is being
 * written to the disk.
 */
static int ready_sync_names(struct ql_store *store,
			    const struct ql_image_info *info,
			    struct ql_error *err)
{
	const struct ql_digest *own[] = { &info->manifest, &info->config };
	int r = sync_folder(store, "images", err);

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]) && r == 0; i++) {
		char path[QL_OBJECT_PATH + 1];

		ql_object_path(own[i], path)[sizeof("objects/ab") - 1] = 0;
		r = sync_folder(store, path, err);
	}
	return r;
}

/* The image's lock is held. */
static int ready_put(struct ql_store *store, struct ql_image_info *info,
		     struct ready_file files[READY_FILES],
		     const struct ql_object_list *objects,
		     struct ql_object_set *own, struct ql_error *err)
{
	char path[SIDE_PATH];
	int r = ready_take(store, files, err);

	for (size_t i = 0; i < READY_FILES && r == 0; i++)
		if (files[i].data)
			r = ready_write(store, &info->manifest, &files[i], err);
	if (r == 0)
		r = ready_describe(store, files[0].data, files[0].len, objects,
				   info, own, err);
	for (size_t i = 0; i < READY_FILES && r == 0; i++)
		if (files[i].data)
			r = ready_publish(store, &info->manifest, &files[i],
					  err);
	if (r == 0)
		r = ready_sync_names(store, info, err);
	for (size_t i = 0; i < READY_FILES && r < 0; i++)
		(void)unlinkat(store->root_fd,
			       side_path("partial", &info->manifest,
					 files[i].suffix, path),
			       0);
	for (size_t i = 0; i < READY_FILES; i++)
		ql_space_done(store, files[i].taken, 0);
	return r;
}

int ql_image_put_ready(struct ql_store *store, struct ql_image_info *info,
		       const void *cfs, size_t cfs_len,
		       const struct ql_object_list *objects,
		       const struct ql_buf *toc, const struct ql_buf *hot,
		       const char *name, struct ql_error *err)
{
	_cleanup_(ql_name_lock_release) struct ql_name_lock lock = { .fd = -1 };
	_cleanup_(ql_object_set_release) struct ql_object_set own = { 0 };
	_cleanup_(ready_files_release) struct ready_file files[READY_FILES] = {
		{ "cfs", cfs, cfs_len, -1, 0 },
		{ "toc", toc->data, toc->len, -1, 0 },
		{ "hot.toc", hot ? hot->data : NULL, hot ? hot->len : 0, -1,
		  0 },
	};
	int r = ql_store_need_write(store, err);

	if (r == 0)
		r = ql_name_lock_init(store, &info->manifest, &lock, err);
	if (r < 0)
		return r;
	info->flags |= QL_IMAGE_READY;
	if (ql_image_is_built(store, info))
		return name ? ql_image_tag(store, name, &info->manifest, err)
			    : 0;
	r = ready_put(store, info, files, objects, &own, err);
	return r < 0 ? r : ql_image_record(store, info, &own, name, err);
}
