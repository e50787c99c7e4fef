/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A root file system that is a folder on disk.  A directory is held open by
 * its descriptor while it is walked, and entries are reached by name below
 * it, never followed: nothing that changes above can lead outside.  xattrs
 * have no *at() calls before Linux 6.13, so they go by /proc/self/fd/N/NAME.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "refactor/refactor-private.h"

enum {
	READ_SIZE = 256 << 10,
	XATTR_MAX = 64 << 10, /* XATTR_LIST_MAX, XATTR_SIZE_MAX */
	NAMES_MAX = 10 << 20, /* entries of one directory */
};

struct root_dir {
	struct ql_root root;
	int fd; /* owned */
};

struct dir_pos {
	struct ql_rootpos pos;
	int fd;	      /* owned; being listed */
	char **names; /* owned; sorted */
	size_t n, next;
};

static struct dir_pos *dir_pos(struct ql_rootpos *pos)
{
	return (struct dir_pos *)pos;
}

/* What the entry is called below fd. */
static const char *at_name(const struct dir_pos *p)
{
	return p->pos.entry.name[0] ? p->pos.entry.name : ".";
}

static void dir_leave(struct ql_rootpos *pos)
{
	struct dir_pos *p = dir_pos(pos);

	for (size_t i = 0; i < p->n; i++)
		free(p->names[i]);
	free(p->names);
	if (p->fd >= 0)
		(void)close(p->fd);
	free(p);
}

static int set_entry(struct dir_pos *p, const char *name, struct ql_error *err)
{
	struct ql_entry *e = &p->pos.entry;
	struct stat st;

	(void)snprintf(e->name, sizeof(e->name), "%s", name);
	if (fstatat(p->fd, at_name(p), &st, AT_SYMLINK_NOFOLLOW) < 0)
		return ql_error_errno(err, -errno, "%s", at_name(p));
	e->mode = st.st_mode;
	e->uid = st.st_uid;
	e->gid = st.st_gid;
	e->nlink = (uint32_t)st.st_nlink;
	e->size = (uint64_t)st.st_size;
	e->ino = st.st_ino;
	e->dev = st.st_dev;
	e->rdev = S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode) ? st.st_rdev : 0;
	e->mtime_sec = st.st_mtim.tv_sec;
	e->mtime_nsec = (uint32_t)st.st_mtim.tv_nsec;
	return 0;
}

static int pos_new(const struct ql_root_ops *ops, int dirfd, const char *name,
		   struct dir_pos **ret_pos, struct ql_error *err)
{
	struct dir_pos *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return ql_error_nomem(err);
	p->pos.ops = ops;
	p->fd = openat(dirfd, name,
		       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (p->fd < 0) {
		r = ql_error_errno(err, -errno, "%s", name);
		free(p);
		return r;
	}
	*ret_pos = p;
	return 0;
}

static int dir_top(struct ql_root *root, struct ql_rootpos **ret_pos,
		   struct ql_error *err)
{
	struct dir_pos *p = NULL;
	int r;

	r = pos_new(root->ops, ((const struct root_dir *)root)->fd, ".", &p,
		    err);
	if (r < 0)
		return r;
	r = set_entry(p, "", err);
	if (r < 0) {
		dir_leave(&p->pos);
		return r;
	}
	*ret_pos = &p->pos;
	return 0;
}

static int cmp_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int add_name(struct dir_pos *p, size_t *cap, const char *name)
{
	char **names;

	if (p->n == *cap) {
		if (*cap >= NAMES_MAX)
			return -E2BIG;
		*cap = *cap ? *cap * 2 : 64;
		names = reallocarray(p->names, *cap, sizeof(*names));
		if (!names)
			return -ENOMEM;
		p->names = names;
	}
	p->names[p->n] = strdup(name);
	if (!p->names[p->n])
		return -ENOMEM;
	p->n++;
	return 0;
}

static int read_names(struct dir_pos *p)
{
	_cleanup_closedir_ DIR *d = NULL;
	const struct dirent *e;
	size_t cap = 0;
	int fd, r = 0;

	fd = openat(p->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	d = fdopendir(fd);
	if (!d) {
		r = -errno;
		(void)close(fd);
		return r;
	}
	errno = 0;
	while (r == 0 && (e = readdir(d))) {
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = add_name(p, &cap, e->d_name);
	}
	if (r == 0 && errno != 0)
		r = -errno;
	if (p->n > 1)
		qsort(p->names, p->n, sizeof(*p->names), cmp_name);
	return r;
}

static int dir_enter(struct ql_rootpos *pos, struct ql_rootpos **ret_pos,
		     struct ql_error *err)
{
	struct dir_pos *p = NULL;
	int r;

	r = pos_new(pos->ops, dir_pos(pos)->fd, at_name(dir_pos(pos)), &p, err);
	if (r < 0)
		return r;
	r = read_names(p);
	if (r < 0) {
		dir_leave(&p->pos);
		return ql_error_errno(err, r, "listing");
	}
	*ret_pos = &p->pos;
	return 0;
}

static int dir_next(struct ql_rootpos *pos, struct ql_error *err)
{
	struct dir_pos *p = dir_pos(pos);
	int r;

	if (p->next == p->n)
		return 0;
	r = set_entry(p, p->names[p->next++], err);
	return r < 0 ? r : 1;
}

static int dir_target(struct ql_rootpos *pos, struct ql_buf *buf,
		      struct ql_error *err)
{
	const struct dir_pos *p = dir_pos(pos);
	char target[PATH_MAX];
	ssize_t n;
	int r;

	n = readlinkat(p->fd, at_name(p), target, sizeof(target));
	if (n < 0)
		return ql_error_errno(err, -errno, "%s", at_name(p));
	r = ql_buf_add(buf, target, (size_t)n);
	return r < 0 ? ql_error_errno(err, r, "symlink") : 0;
}

static int add_attr(const char *path, const char *name, void *value,
		    struct ql_attrs *attrs, struct ql_error *err)
{
	ssize_t n = lgetxattr(path, name, value, XATTR_MAX);

	if (n < 0)
		return ql_error_errno(err, -errno, "xattr %s", name);
	return ql_attrs_add(attrs, "", name, strlen(name), value, (size_t)n,
			    err);
}

static int dir_attrs(struct ql_rootpos *pos, struct ql_attrs *attrs,
		     struct ql_error *err)
{
	const struct dir_pos *p = dir_pos(pos);
	_cleanup_free_ char *list = malloc(XATTR_MAX);
	_cleanup_free_ char *value = malloc(XATTR_MAX);
	_cleanup_free_ char *path =
		ql_strf("/proc/self/fd/%d/%s", p->fd, at_name(p));
	const char *name;
	ssize_t n;
	int r = 0;

	if (!list || !value || !path)
		return ql_error_nomem(err);
	n = llistxattr(path, list, XATTR_MAX);
	if (n < 0)
		return errno == ENOTSUP
			       ? 0
			       : ql_error_errno(err, -errno, "listing xattrs");
	for (name = list; r == 0 && name < list + n; name += strlen(name) + 1)
		r = add_attr(path, name, value, attrs, err);
	return r;
}

static void hasher_freep(struct ql_hasher **h)
{
	ql_hasher_free(*h);
}

static int dir_digest(struct ql_rootpos *pos, struct ql_digest *ret_digest,
		      struct ql_error *err)
{
	const struct dir_pos *p = dir_pos(pos);
	_cleanup_(hasher_freep) struct ql_hasher *h = ql_hasher_new();
	_cleanup_free_ char *data = malloc(READ_SIZE);
	_cleanup_close_ int fd = -1;
	ssize_t n;

	if (!h || !data)
		return ql_error_nomem(err);
	fd = openat(p->fd, at_name(p), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return ql_error_errno(err, -errno, "%s", at_name(p));
	while ((n = ql_read_full(fd, data, READ_SIZE)) > 0)
		ql_hasher_update(h, data, (size_t)n);
	if (n < 0)
		return ql_error_errno(err, (int)n, "%s", at_name(p));
	ql_hasher_final(h, ret_digest);
	return 0;
}

static void dir_free(struct ql_root *root)
{
	struct root_dir *rd = (struct root_dir *)root;

	(void)close(rd->fd);
	free(rd);
}

static const struct ql_root_ops dir_ops = {
	.top = dir_top,
	.enter = dir_enter,
	.next = dir_next,
	.target = dir_target,
	.attrs = dir_attrs,
	.digest = dir_digest,
	.leave = dir_leave,
	.free = dir_free,
};

int ql_root_from_dir(const char *path, struct ql_root **ret_root,
		     struct ql_error *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct root_dir *rd;

	if (fd < 0)
		return ql_error_errno(err, -errno, "%s", path);
	rd = calloc(1, sizeof(*rd));
	if (!rd)
		return ql_error_nomem(err);
	rd->root.ops = &dir_ops;
	rd->fd = ql_take_fd(&fd);
	*ret_root = &rd->root;
	return 0;
}
