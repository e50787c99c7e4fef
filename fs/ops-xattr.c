/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FUSE requests about extended attributes.  A size of 0 asks for the length
 * (xattr(7)).  The root has one that is not listed and not the image's:
 * QL_FS_SERVER_XATTR, by which unmounting finds the process to wait for.
 * trusted.* are listed to root alone, as local file systems do.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fs-private.h"

enum { LIST_MAX = 64 << 10 }; /* XATTR_LIST_MAX */

#define TRUSTED "trusted."
#define OPAQUE_USER "user.overlay.opaque"
#define OPAQUE_TRUSTED "trusted.overlay.opaque"

static void reply_value(fuse_req_t req, const void *value, size_t len,
			size_t size)
{
	if (size == 0)
		(void)fuse_reply_xattr(req, len);
	else if (len > size)
		(void)fuse_reply_err(req, ERANGE);
	else
		(void)fuse_reply_buf(req, value, len);
}

static void reply_server(fuse_req_t req, size_t size)
{
	char text[64];
	struct stat st;
	int len;

	if (stat("/proc/self/ns/pid", &st) < 0) {
		(void)fuse_reply_err(req, ENODATA);
		return;
	}
	len = snprintf(text, sizeof(text), "%ld %lu", (long)getpid(),
		       (unsigned long)st.st_ino);
	reply_value(req, text, (size_t)len, size);
}

static bool name_is(const struct ql_xattr *x, const char *name)
{
	size_t prefix = strlen(x->prefix);

	return strncmp(name, x->prefix, prefix) == 0 &&
	       strlen(name) == prefix + x->name_len &&
	       memcmp(name + prefix, x->name, x->name_len) == 0;
}

static bool is_opaque_name(const char *name)
{
	return strcmp(name, OPAQUE_USER) == 0 ||
	       strcmp(name, OPAQUE_TRUSTED) == 0;
}

/* The one at *pos of a node whose image is pulled, as ql_tree_xattr(). */
static int grown_xattr(const struct ql_node *node, uint64_t *pos,
		       struct ql_xattr *ret)
{
	const struct ql_tar_xattr *x;

	if (!node->growing || *pos >= node->grown.n_xattrs)
		return 0;
	x = &node->grown.xattrs[(*pos)++];
	*ret = (struct ql_xattr){ .prefix = "",
				  .name = x->name,
				  .name_len = strlen(x->name),
				  .value = (const uint8_t *)x->value,
				  .value_len = x->len };
	return 1;
}

static int next_xattr(const struct ql_node *node, uint64_t *pos,
		      struct ql_xattr *ret)
{
	return node->tree ? ql_tree_xattr(node->tree, &node->inode, pos, ret)
			  : grown_xattr(node, pos, ret);
}

/* A value of the node's: 1 and x, 0, or a negative errno. */
static int find_value(const struct ql_node *node, const char *name,
		      struct ql_xattr *x)
{
	bool layer = ql_node_is_layer(node);
	uint64_t pos = 0;
	int r;

	if (layer && is_opaque_name(name)) {
		r = ql_layerview_opaque(node->tree, &node->inode);
		*x = (struct ql_xattr){ .value = (const uint8_t *)"y",
					.value_len = 1 };
		return r;
	}
	while ((r = next_xattr(node, &pos, x)) > 0)
		if (name_is(x, name) && !(layer && ql_layerview_hides(x)))
			return 1;
	return r;
}

void ql_op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
		    size_t size)
{
	struct ql_fs *fs = fuse_req_userdata(req);
	struct ql_node node;
	struct ql_xattr x;
	int r;

	if (ino == FUSE_ROOT_ID && strcmp(name, QL_FS_SERVER_XATTR) == 0) {
		reply_server(req, size);
		return;
	}
	r = ql_node_get(fs, ino, &node);
	if (r < 0) {
		(void)fuse_reply_err(req, ql_fs_errno(r));
		return;
	}
	r = find_value(&node, name, &x);
	if (r > 0)
		reply_value(req, x.value, x.value_len, size);
	else
		(void)fuse_reply_err(req, r < 0 ? ql_fs_errno(r) : ENODATA);
	ql_node_release(fs, &node);
}

static int list_opaque(const struct ql_node *node, bool trusted,
		       struct ql_buf *buf)
{
	int r = ql_layerview_opaque(node->tree, &node->inode);

	if (r <= 0)
		return r;
	/* With the NUL of each. */
	r = ql_buf_add(buf, OPAQUE_USER, sizeof(OPAQUE_USER));
	if (r == 0 && trusted)
		r = ql_buf_add(buf, OPAQUE_TRUSTED, sizeof(OPAQUE_TRUSTED));
	return r;
}

/* Of what grows, prefix and name are one. */
static bool is_trusted(const struct ql_xattr *x)
{
	return *x->prefix ? strcmp(x->prefix, TRUSTED) == 0
			  : x->name_len >= sizeof(TRUSTED) - 1 &&
				    memcmp(x->name, TRUSTED,
					   sizeof(TRUSTED) - 1) == 0;
}

static int list_names(const struct ql_node *node, bool trusted,
		      struct ql_buf *buf)
{
	bool layer = ql_node_is_layer(node);
	struct ql_xattr x;
	uint64_t pos = 0;
	int r = layer ? list_opaque(node, trusted, buf) : 0;

	if (r < 0)
		return r;
	while ((r = next_xattr(node, &pos, &x)) > 0) {
		if (!trusted && is_trusted(&x))
			continue;
		if (layer && ql_layerview_hides(&x))
			continue;
		r = ql_buf_adds(buf, x.prefix);
		if (r == 0)
			r = ql_buf_add(buf, x.name, x.name_len);
		if (r == 0)
			r = ql_buf_add_u8(buf, 0);
		if (r < 0)
			return r == -EFBIG ? -E2BIG : r;
	}
	return r;
}

void ql_op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct ql_fs *fs = fuse_req_userdata(req);
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(LIST_MAX);
	struct ql_node node = { 0 };
	int r;

	r = ql_node_get(fs, ino, &node);
	if (r == 0)
		r = list_names(&node, fuse_req_ctx(req)->uid == 0, &buf);
	ql_node_release(fs, &node);
	if (r < 0)
		(void)fuse_reply_err(req, ql_fs_errno(r));
	else
		reply_value(req, buf.data, buf.len, size);
}
