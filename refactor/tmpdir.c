/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Folders that last as long as a command.  Each is locked while it is in use,
 * so that what a command left that was killed is known by its lock being free,
 * and is removed by the next one.
 */
#define _XOPEN_SOURCE 700 /* nftw() */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "refactor/refactor-private.h"

#define PREFIX "quicklayer-refactor."

enum {
	DEPTH = 16, /* open folders at once */
	YOUNG = 60, /* seconds in which a folder may have no lock yet */
};

static int remove_one(const char *path, const struct stat *st, int flag,
		      struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	(void)remove(path);
	return 0;
}

static void remove_all(const char *path)
{
	(void)nftw(path, remove_one, DEPTH, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* A folder that nobody uses any more, and that is ours to remove. */
static void sweep_one(int dirfd, const char *dir, const char *name)
{
	_cleanup_close_ int fd = openat(
		dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_free_ char *path = ql_path_join(dir, name);
	struct stat st;

	if (fd < 0 || !path || fstat(fd, &st) < 0 || st.st_uid != geteuid() ||
	    st.st_mtime > time(NULL) - YOUNG)
		return;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		remove_all(path);
}

/* What cannot be removed stays; it is in nobody's way. */
static void sweep(const char *dir)
{
	_cleanup_closedir_ DIR *d = opendir(dir);
	const struct dirent *e;

	while (d && (e = readdir(d)))
		if (strncmp(e->d_name, PREFIX, strlen(PREFIX)) == 0)
			sweep_one(dirfd(d), dir, e->d_name);
}

int ql_tmpdir_new(const char *dir, struct ql_tmpdir *ret_dir,
		  struct ql_error *err)
{
	_cleanup_free_ char *path = ql_strf("%s/" PREFIX "XXXXXX", dir);
	int fd, r;

	if (!path)
		return ql_error_nomem(err);
	sweep(dir);
	if (!mkdtemp(path))
		return ql_error_errno(err, -errno, "%s", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0) {
		r = ql_error_errno(err, -errno, "%s", path);
		if (fd >= 0)
			(void)close(fd);
		(void)rmdir(path);
		return r;
	}
	*ret_dir = (struct ql_tmpdir){ .path = ql_take_ptr(path), .fd = fd };
	return 0;
}

void ql_tmpdir_release(struct ql_tmpdir *dir)
{
	if (!dir->path)
		return;
	remove_all(dir->path);
	free(dir->path);
	(void)close(dir->fd);
	*dir = (struct ql_tmpdir){ 0 };
}
