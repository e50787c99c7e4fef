/* SPDX-License-Identifier: Apache-2.0 */
/* The folders of running containers, and the mounts in them. */
#include "tools/bundle.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "fs/fs.h"

static int remove_one(const char *path, const struct stat *st, int flag,
		      struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path) < 0 && errno != ENOENT ? -1 : 0;
}

static void rundir_unmount(const char *path)
{
	_cleanup_free_ char *merged = ql_path_join(path, "merged");
	_cleanup_free_ char *lower = ql_path_join(path, "lower");

	if (!merged || !lower)
		return;
	if (umount2(merged, UMOUNT_NOFOLLOW) < 0 && errno == EBUSY)
		(void)umount2(merged, MNT_DETACH | UMOUNT_NOFOLLOW);
	if (ql_umount(lower, false, NULL) < 0)
		(void)ql_umount(lower, true, NULL);
}

/* Never into what is still mounted: FTW_MOUNT stops at it. */
static void rundir_remove(const char *path)
{
	rundir_unmount(path);
	(void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static int rundir_lock(int fd)
{
	int lock = openat(fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) < 0) {
		(void)close(lock);
		return -1;
	}
	return lock;
}

/* What killed runs left: nobody holds its lock. */
static void rundir_sweep(const char *run)
{
	_cleanup_closedir_ DIR *d = opendir(run);
	const struct dirent *e;

	while (d && (e = readdir(d))) {
		_cleanup_free_ char *path = NULL;
		_cleanup_close_ int fd = -1;
		_cleanup_close_ int lock = -1;

		if (e->d_name[0] == '.')
			continue;
		path = ql_path_join(run, e->d_name);
		fd = openat(dirfd(d), e->d_name,
			    O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (!path || fd < 0)
			continue;
		lock = rundir_lock(fd);
		if (lock >= 0)
			rundir_remove(path);
	}
}

static int rundir_fill(struct ql_rundir *dir, struct ql_error *err)
{
	static const char *const subs[] = { "lower", "upper", "work",
					    "merged" };

	dir->fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir->fd >= 0)
		dir->lock = rundir_lock(dir->fd);
	if (dir->fd < 0 || dir->lock < 0)
		return ql_error_errno(err, -errno, "%s", dir->path);
	for (size_t i = 0; i < sizeof(subs) / sizeof(subs[0]); i++)
		if (mkdirat(dir->fd, subs[i], 0755) < 0)
			return ql_error_errno(err, -errno, "%s/%s", dir->path,
					      subs[i]);
	return 0;
}

/* Of the folder that holds them all: two runs at once would take each other's
 * folder, made and not locked yet, for a killed run's. */
static int rundir_lock_all(const char *run, int *ret_fd, struct ql_error *err)
{
	_cleanup_close_ int fd = open(run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return ql_error_errno(err, -errno, "%s", run);
	while (flock(fd, LOCK_EX) < 0)
		if (errno != EINTR)
			return ql_error_errno(err, -errno, "lock %s", run);
	*ret_fd = ql_take_fd(&fd);
	return 0;
}

int ql_rundir_make(const struct ql_store *store, struct ql_rundir *ret_dir,
		   struct ql_error *err)
{
	_cleanup_(ql_rundir_release) struct ql_rundir dir = { .fd = -1,
							      .lock = -1 };
	_cleanup_free_ char *run = ql_path_join(ql_store_root(store), "run");
	_cleanup_close_ int all = -1;
	char *path;
	int r;

	if (!run)
		return ql_error_nomem(err);
	r = ql_mkdir_p(run, err);
	if (r == 0)
		r = rundir_lock_all(run, &all, err);
	if (r < 0)
		return r;
	rundir_sweep(run);
	path = ql_path_join(run, "ql-XXXXXX");
	if (!path)
		return ql_error_nomem(err);
	if (!mkdtemp(path)) {
		free(path);
		return ql_error_errno(err, -errno, "make a folder in %s", run);
	}
	dir.path = path;
	dir.name = strdup(path + strlen(run) + 1);
	r = dir.name ? rundir_fill(&dir, err) : ql_error_nomem(err);
	if (r < 0)
		return r;
	*ret_dir = dir;
	dir = (struct ql_rundir){ .fd = -1, .lock = -1 };
	return 0;
}

/* nodev: a container that has no cgroup could open what devices there are.
 * (crun drops the flag, hence inert_devices.)  A comma or colon would be read
 * as overlayfs's own. */
static int rundir_overlay(const struct ql_rundir *dir, const char *merged,
			  struct ql_error *err)
{
	_cleanup_free_ char *options =
		ql_strf("lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work",
			dir->path, dir->path, dir->path);

	if (!options)
		return ql_error_nomem(err);
	if (strpbrk(dir->path, ",:\\"))
		return ql_error_set(err, -EINVAL,
				    "%s: overlayfs takes no path with ',', ':' "
				    "or '\\'",
				    dir->path);
	if (mount("overlay", merged, "overlay", MS_NODEV, options) < 0)
		return ql_error_errno(err, -errno, "mount an overlay on %s",
				      merged);
	return 0;
}

int ql_rundir_mount(struct ql_rundir *dir, const struct ql_run_image *image,
		    char **ret_rootfs, struct ql_error *err)
{
	_cleanup_free_ char *lower = ql_path_join(dir->path, "lower");
	_cleanup_free_ char *merged = ql_path_join(dir->path, "merged");
	struct ql_mount_options options = { .source = dir->name,
					    .inert_devices = true,
					    .image = image->info,
					    .fill = image->fill,
					    .record_fd = image->record_fd };
	int r;

	if (!lower || !merged)
		return ql_error_nomem(err);
	r = image->from ? ql_mount_bind(image->from, lower, err)
			: ql_mount_fuse(image->store, image->tree, lower,
					&options, err);
	if (r == 0)
		r = rundir_overlay(dir, merged, err);
	if (r == 0)
		*ret_rootfs = ql_take_ptr(merged);
	return r;
}

void ql_rundir_release(struct ql_rundir *dir)
{
	if (dir->path)
		rundir_remove(dir->path);
	if (dir->lock >= 0)
		(void)close(dir->lock);
	if (dir->fd >= 0)
		(void)close(dir->fd);
	free(dir->path);
	free(dir->name);
	*dir = (struct ql_rundir){ .fd = -1, .lock = -1 };
}
