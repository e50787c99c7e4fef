/* SPDX-License-Identifier: Apache-2.0 */
/* The folders of running containers, and the mounts in them. */
#include "tools/bundle.h"

#include <errno.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "fs/fs.h"

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

static int rundir_fill(const struct ql_lockdir *dir, struct ql_error *err)
{
	static const char *const subs[] = { "lower", "upper", "work",
					    "merged" };

	for (size_t i = 0; i < sizeof(subs) / sizeof(subs[0]); i++)
		if (mkdirat(dir->fd, subs[i], 0755) < 0)
			return ql_error_errno(err, -errno, "%s/%s", dir->path,
					      subs[i]);
	return 0;
}

int ql_rundir_make(const struct ql_store *store, struct ql_rundir *ret_dir,
		   struct ql_error *err)
{
	_cleanup_free_ char *run = ql_path_join(ql_store_root(store), "run");
	struct ql_lockdir dir;
	int r = run ? ql_mkdir_p(run, err) : ql_error_nomem(err);

	if (r == 0)
		r = ql_lockdir_new(run, "ql-", rundir_unmount, &dir, err);
	if (r < 0)
		return r;
	r = rundir_fill(&dir, err);
	if (r < 0) {
		ql_lockdir_release(&dir);
		return r;
	}
	*ret_dir = (struct ql_rundir){ dir, strrchr(dir.path, '/') + 1 };
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
			dir->dir.path, dir->dir.path, dir->dir.path);

	if (!options)
		return ql_error_nomem(err);
	if (strpbrk(dir->dir.path, ",:\\"))
		return ql_error_set(err, -EINVAL,
				    "%s: overlayfs takes no path with ',', ':' "
				    "or '\\'",
				    dir->dir.path);
	if (mount("overlay", merged, "overlay", MS_NODEV, options) < 0)
		return ql_error_errno(err, -errno, "mount an overlay on %s",
				      merged);
	return 0;
}

int ql_rundir_mount(struct ql_rundir *dir, const struct ql_run_image *image,
		    char **ret_rootfs, struct ql_error *err)
{
	_cleanup_free_ char *lower = ql_path_join(dir->dir.path, "lower");
	_cleanup_free_ char *merged = ql_path_join(dir->dir.path, "merged");
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
	ql_lockdir_release(&dir->dir);
	dir->name = NULL;
}
