/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A folder is kept by a lock (flock(2)) on a file in it, which is made when the
 * folder is there already: whoever sweeps in between takes the new folder for
 * a left one.  Nobody needs to wait for that moment to pass, because the rules
 * leave no doubt about whose the folder is:
 *
 *   - Who has the lock on the file that is "lock" in the folder may fill it or
 *     remove it, and nobody else.  A lock on a file that has been unlinked is
 *     none.
 *   - Who removes it unlinks "lock" when all else is gone, and then the folder.
 *     If another has made a new "lock" in between, the folder is not empty,
 *     stays, and is the other's.
 *   - Whose new folder was taken or removed makes another.
 */
#define _XOPEN_SOURCE 700 /* nftw() */
#include "store/base/lockdir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "store/base/cleanup.h"
#include "store/base/error.h"
#include "store/base/io.h"

#define LOCK "lock"

enum {
	DEPTH = 16,  /* open folders at once */
	TRIES = 100, /* new folders; each was taken by another's sweep */
};

/* The lock of an open folder, or a negative errno: -EAGAIN where another has or
 * had it, -ENOENT where the folder is gone. */
static int lock_take(int fd)
{
	_cleanup_close_ int lock = openat(
		fd, LOCK, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	struct stat st;

	if (lock < 0)
		return -errno;
	if (flock(lock, LOCK_EX | LOCK_NB) < 0 || fstat(lock, &st) < 0)
		return -errno;
	return st.st_nlink == 0 ? -EAGAIN : ql_take_fd(&lock);
}

/* ---- removing ---- */

static int remove_one(const char *path, const struct stat *st, int flag,
		      struct FTW *ftw)
{
	(void)st;
	(void)flag;
	if (ftw->level == 0 ||
	    (ftw->level == 1 && strcmp(path + ftw->base, LOCK) == 0))
		return 0;
	return remove(path) < 0 && errno != ENOENT ? -1 : 0;
}

/* By who has its lock.  Never into what is mounted: FTW_MOUNT stops at it. */
static void remove_all(const char *path, int fd, ql_lockdir_fn *before)
{
	if (before)
		before(path);
	if (nftw(path, remove_one, DEPTH, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) !=
	    0)
		return;
	(void)unlinkat(fd, LOCK, 0);
	(void)rmdir(path);
}

static void sweep_one(int dirfd, const char *parent, const char *name,
		      ql_lockdir_fn *before)
{
	_cleanup_close_ int fd = openat(
		dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_free_ char *path = ql_path_join(parent, name);
	_cleanup_close_ int lock = -1;
	struct stat st;

	if (fd < 0 || !path || fstat(fd, &st) < 0 || st.st_uid != geteuid())
		return;
	lock = lock_take(fd);
	if (lock >= 0)
		remove_all(path, fd, before);
}

/* What cannot be removed stays; it is in nobody's way. */
static void sweep(const char *parent, const char *prefix, ql_lockdir_fn *before)
{
	_cleanup_closedir_ DIR *d = opendir(parent);
	const struct dirent *e;

	while (d && (e = readdir(d)))
		if (strncmp(e->d_name, prefix, strlen(prefix)) == 0)
			sweep_one(dirfd(d), parent, e->d_name, before);
}

/* ---- making ---- */

static void dir_close(struct ql_lockdir *dir)
{
	if (!dir->path)
		return;
	if (dir->lock >= 0)
		(void)close(dir->lock);
	if (dir->fd >= 0)
		(void)close(dir->fd);
	free(dir->path);
	*dir = (struct ql_lockdir){ .fd = -1, .lock = -1 };
}

/* Of a new folder; -EAGAIN: a sweep has taken it for a left one. */
static int dir_take(struct ql_lockdir *dir)
{
	dir->fd = open(dir->path,
		       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir->fd < 0)
		return errno == ENOENT ? -EAGAIN : -errno;
	dir->lock = lock_take(dir->fd);
	if (dir->lock < 0)
		return dir->lock == -ENOENT ? -EAGAIN : dir->lock;
	return 0;
}

static int dir_make(const char *parent, const char *prefix,
		    struct ql_lockdir *ret_dir)
{
	struct ql_lockdir dir = { .fd = -1, .lock = -1 };
	int r;

	dir.path = ql_strf("%s/%sXXXXXX", parent, prefix);
	if (!dir.path)
		return -ENOMEM;
	r = mkdtemp(dir.path) ? dir_take(&dir) : -errno;
	if (r < 0) {
		dir_close(&dir); /* the next sweep removes it */
		return r;
	}
	*ret_dir = dir;
	return 0;
}

int ql_lockdir_new(const char *parent, const char *prefix,
		   ql_lockdir_fn *before, struct ql_lockdir *ret_dir,
		   struct ql_error *err)
{
	struct ql_lockdir dir;
	int r = -EAGAIN;

	sweep(parent, prefix, before);
	for (int i = 0; i < TRIES && r == -EAGAIN; i++)
		r = dir_make(parent, prefix, &dir);
	if (r < 0)
		return ql_error_errno(err, r, "make a folder in %s", parent);
	dir.before = before;
	*ret_dir = dir;
	return 0;
}

void ql_lockdir_release(struct ql_lockdir *dir)
{
	if (dir->path)
		remove_all(dir->path, dir->fd, dir->before);
	dir_close(dir);
}
