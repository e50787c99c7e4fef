/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an entry of a layer's archive does to the layer's tree, wherever the
 * entry comes from: the archive itself, or a table of contents.  What no image
 * may hold is refused here.
 */
#include "store/store-private.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define WHITEOUT_PREFIX ".wh."
#define WHITEOUT_META ".wh..wh."
#define WHITEOUT_OPAQUE ".wh..wh..opq"

/* Whiteouts are kept by their OCI names (image-spec 1.1, layer.md,
 * "Whiteouts").  1: passed over: what AUFS kept for itself. */
static int entry_check_name(const char *path, struct ql_error *err)
{
	const char *base = strrchr(path, '/');
	const char *hidden;

	base = base ? base + 1 : path;
	if (strncmp(path, WHITEOUT_PREFIX, 4) == 0 && base != path)
		return ql_error_set(err, -EINVAL, "an entry below a whiteout");
	for (const char *p = strstr(path, "/" WHITEOUT_PREFIX); p;
	     p = strstr(p + 1, "/" WHITEOUT_PREFIX))
		if (p + 1 != base)
			return ql_error_set(err, -EINVAL,
					    "an entry below a whiteout");
	if (strncmp(base, WHITEOUT_PREFIX, 4) != 0)
		return 0;
	if (strcmp(base, WHITEOUT_OPAQUE) == 0)
		return 0;
	if (strncmp(base, WHITEOUT_META, 8) == 0)
		return 1;
	hidden = base + 4;
	if (strcmp(hidden, "") == 0 || strcmp(hidden, ".") == 0 ||
	    strcmp(hidden, "..") == 0)
		return ql_error_set(err, -EINVAL, "a whiteout of nothing");
	return 0;
}

static bool entry_is_whiteout(const char *path)
{
	const char *base = strrchr(path, '/');

	base = base ? base + 1 : path;
	return strncmp(base, WHITEOUT_PREFIX, 4) == 0;
}

static int entry_device(const struct ql_tar_entry *e, struct ql_meta *meta,
			struct ql_error *err)
{
	/* Linux device numbers: 12 bits major, 20 bits minor. */
	if (e->major >= 1U << 12 || e->minor >= 1U << 20)
		return ql_error_set(err, -EINVAL, "no device has number %u:%u",
				    e->major, e->minor);
	meta->rdev = makedev(e->major, e->minor);
	return 0;
}

static int entry_symlink(const struct ql_tar_entry *e, struct ql_meta *meta,
			 struct ql_error *err)
{
	size_t len = strlen(e->link);

	if (len == 0 || len > QL_PATH_MAX)
		return ql_error_set(err, -EINVAL,
				    "a symlink's target of %zu bytes", len);
	meta->target = e->link;
	return 0;
}

static int entry_check_xattrs(const struct ql_tar_entry *e,
			      struct ql_error *err)
{
	for (size_t i = 0; i < e->n_xattrs; i++)
		if (strncmp(e->xattrs[i].name, QL_XATTR_PREFIX,
			    sizeof(QL_XATTR_PREFIX) - 1) == 0)
			return ql_error_set(err, -EINVAL,
					    "xattr %s: this prefix is reserved",
					    e->xattrs[i].name);
	return 0;
}

static int entry_add(struct ql_layertree *lt, const struct ql_tar_entry *e,
		     ql_entry_content_fn *content, void *arg,
		     struct ql_error *err)
{
	static const uint32_t types[] = {
		['0'] = S_IFREG, ['2'] = S_IFLNK, ['3'] = S_IFCHR,
		['4'] = S_IFBLK, ['5'] = S_IFDIR, ['6'] = S_IFIFO,
	};
	struct ql_meta meta = {
		.mode = types[(uint8_t)e->type] | e->mode,
		.uid = e->uid,
		.gid = e->gid,
		.size = e->size,
		.mtime_sec = e->mtime_sec,
		.mtime_nsec = e->mtime_nsec,
		.xattrs = e->xattrs,
		.n_xattrs = e->n_xattrs,
	};
	int r = entry_check_xattrs(e, err);

	if (r < 0)
		return r;
	if (e->type == '0')
		r = content(arg, &meta, err);
	else if (e->type == '2')
		r = entry_symlink(e, &meta, err);
	else if (e->type == '3' || e->type == '4')
		r = entry_device(e, &meta, err);
	return r < 0 ? r : ql_layertree_add(lt, e->path, &meta, err);
}

int ql_layer_entry(struct ql_layertree *lt, const struct ql_tar_entry *e,
		   ql_entry_content_fn *content, void *arg,
		   struct ql_error *err)
{
	static const struct ql_meta whiteout = { .mode = S_IFREG };
	int r = entry_check_name(e->path, err);

	if (r > 0)
		return 1;
	if (r == 0) {
		if (entry_is_whiteout(e->path))
			r = ql_layertree_add(lt, e->path, &whiteout, err);
		else if (e->type == '1')
			r = ql_layertree_link(lt, e->path, e->link, err);
		else
			r = entry_add(lt, e, content, arg, err);
	}
	return r < 0 ? ql_error_prefix(err, "entry \"%.300s\"", e->path) : 0;
}
