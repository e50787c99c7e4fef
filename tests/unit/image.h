/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests: composefs images made by libcomposefs itself, in memory.  A node
 * is named by its path; what stands above it must have been added before.
 */
#ifndef QL_TEST_IMAGE_H
#define QL_TEST_IMAGE_H

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <libcomposefs/lcfs-writer.h>

#include "store/base/base.h"

static inline void image_must(bool true_)
{
	if (!true_)
		abort();
}

static inline struct lcfs_node_s *image_root(void)
{
	struct lcfs_node_s *root = lcfs_node_new();

	image_must(root);
	lcfs_node_set_mode(root, S_IFDIR | 0755);
	return root;
}

static inline struct lcfs_node_s *image_find(struct lcfs_node_s *root,
					     const char *path)
{
	char name[256];
	size_t len;

	while (*path) {
		len = strcspn(path, "/");
		image_must(len > 0 && len < sizeof(name));
		memcpy(name, path, len);
		name[len] = 0;
		root = lcfs_node_lookup_child(root, name);
		image_must(root);
		path += len + (path[len] == '/');
	}
	return root;
}

static inline void image_attach(struct lcfs_node_s *root, const char *path,
				struct lcfs_node_s *node)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	char dir[4096];

	(void)snprintf(dir, sizeof(dir), "%.*s",
		       slash ? (int)(slash - path) : 0, path);
	image_must(lcfs_node_add_child(image_find(root, dir), node, name) == 0);
}

static inline struct lcfs_node_s *image_add(struct lcfs_node_s *root,
					    const char *path, uint32_t mode)
{
	struct lcfs_node_s *node = lcfs_node_new();

	image_must(node);
	lcfs_node_set_mode(node, mode);
	image_attach(root, path, node);
	return node;
}

static inline struct lcfs_node_s *
image_symlink(struct lcfs_node_s *root, const char *path, const char *target)
{
	struct lcfs_node_s *node = image_add(root, path, S_IFLNK | 0777);

	image_must(lcfs_node_set_symlink_payload(node, target) == 0);
	return node;
}

/* A regular file with its content in the image. */
static inline struct lcfs_node_s *
image_inline(struct lcfs_node_s *root, const char *path, const char *data)
{
	struct lcfs_node_s *node = image_add(root, path, S_IFREG | 0644);

	image_must(lcfs_node_set_content(node, (const uint8_t *)data,
					 strlen(data)) == 0);
	return node;
}

/* A regular file with its content in the object of that digest. */
static inline struct lcfs_node_s *image_object(struct lcfs_node_s *root,
					       const char *path, uint64_t size,
					       const struct ql_digest *digest)
{
	struct lcfs_node_s *node = image_add(root, path, S_IFREG | 0644);
	char hex[QL_DIGEST_HEX + 1], payload[QL_DIGEST_HEX + 8];

	ql_digest_hex(digest, hex);
	(void)snprintf(payload, sizeof(payload), "%.2s/%s", hex, hex + 2);
	lcfs_node_set_size(node, size);
	image_must(lcfs_node_set_payload(node, payload) == 0);
	return node;
}

static inline void image_hardlink(struct lcfs_node_s *root, const char *path,
				  const char *target)
{
	struct lcfs_node_s *node = lcfs_node_new();

	image_must(node);
	lcfs_node_make_hardlink(node, image_find(root, target));
	image_attach(root, path, node);
}

static inline void image_mtime(struct lcfs_node_s *node, int64_t sec, long nsec)
{
	struct timespec ts = { .tv_sec = sec, .tv_nsec = nsec };

	lcfs_node_set_mtime(node, &ts);
}

static inline void image_xattr(struct lcfs_node_s *node, const char *name,
			       const char *value)
{
	image_must(lcfs_node_set_xattr(node, name, value, strlen(value)) == 0);
}

static inline ssize_t image_write_cb(void *file, void *data, size_t len)
{
	return ql_buf_add(file, data, len) == 0 ? (ssize_t)len : -1;
}

/* The image's bytes; frees the nodes. */
static inline void image_write(struct lcfs_node_s *root, struct ql_buf *buf)
{
	struct lcfs_write_options_s options = {
		.format = LCFS_FORMAT_EROFS,
		.version = 1,
		.file = buf,
		.file_write_cb = image_write_cb,
	};

	ql_buf_init(buf, 64 << 20);
	image_must(lcfs_write_to(root, &options) == 0);
	lcfs_node_unref(root);
}

#endif
