/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening the store, and its one lock between processes: `lock` is held
 * shared by whoever adds and exclusively by whoever removes, so that an object
 * found here is not taken away before the layer that counts on it is
 * recorded.  Lock order: lock, then a name's lock (namelock.c), then a write
 * transaction of the catalogue.
 */
#include "store/keep-private.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "store/packedset.h"

char *ql_store_default_root(void)
{
	const char *env = getenv("QUICKLAYER_ROOT");

	if (env && *env)
		return strdup(env);
	if (geteuid() == 0)
		return strdup("/var/lib/quicklayer");
	env = getenv("XDG_DATA_HOME");
	if (env && *env)
		return ql_path_join(env, "quicklayer");
	env = getenv("HOME");
	return ql_strf("%s/.local/share/quicklayer", env ? env : "");
}

/*
 * Asks ext4 to spread the folders of objects over the disk (chattr(1), T).
 * It looks for a free inode in a folder's own block group, one by one past
 * those that were freed in the last minutes; where all folders share a few
 * groups, that more than doubled the time in the kernel of a pull after a
 * removal.  Other filesystems know no such flag, and need none.
 */
static void store_spread(int root_fd)
{
	_cleanup_close_ int fd =
		openat(root_fd, "objects", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int flags;

	if (fd < 0 || ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
		return;
	flags |= FS_TOPDIR_FL;
	(void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

/* Names in them are made durable one by one. */
static int store_sync_folders(int root_fd, struct ql_error *err)
{
	_cleanup_close_ int objects =
		openat(root_fd, "objects", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (objects < 0 || fsync(objects) < 0 || fsync(root_fd) < 0)
		return ql_error_errno(err, -errno, "make folders");
	return 0;
}

static int store_make_folders(int root_fd, struct ql_error *err)
{
	static const char *const folders[] = { "objects", "images",  "layers",
					       "partial", "catalog", "packed" };
	char sub[16];

	/* 0700: files that only root may read in a container stand there as
	 * objects that anybody may. */
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
		if (mkdirat(root_fd, folders[i], 0700) < 0 && errno != EEXIST)
			return ql_error_errno(err, -errno, "make folder %s",
					      folders[i]);
	/* The last of the 256 is there: all are. */
	if (faccessat(root_fd, "objects/ff", F_OK, 0) == 0)
		return 0;
	store_spread(root_fd);
	for (unsigned int i = 0; i < 256; i++) {
		(void)snprintf(sub, sizeof(sub), "objects/%02x", i);
		if (mkdirat(root_fd, sub, 0755) < 0 && errno != EEXIST)
			return ql_error_errno(err, -errno, "make folder %s",
					      sub);
	}
	return store_sync_folders(root_fd, err);
}

int ql_store_open(const char *root, enum ql_store_mode mode,
		  struct ql_store **ret_store, struct ql_error *err)
{
	struct ql_store *store = calloc(1, sizeof(*store));
	int r = 0;

	if (!store)
		return ql_error_nomem(err);
	store->root_fd = -1;
	store->writable = mode == QL_STORE_WRITE;
	store->root = root ? strdup(root) : ql_store_default_root();
	if (!store->root)
		r = ql_error_nomem(err);
	if (r == 0 && store->writable)
		r = ql_mkdir_p(store->root, err);
	if (r == 0) {
		store->root_fd =
			open(store->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (store->root_fd < 0 && errno == ENOENT)
			r = ql_error_set(err, -ENOENT, "no store is there");
		else if (store->root_fd < 0)
			r = ql_error_set(err, -errno, "%s", strerror(errno));
	}
	if (r == 0 && store->writable)
		r = store_make_folders(store->root_fd, err);
	if (r == 0 && ql_packed_set_new(&store->packed) < 0)
		r = ql_error_nomem(err);
	if (r == 0)
		r = ql_keep_new(&store->keep, err);
	if (r == 0)
		r = ql_catalog_open(store->root_fd, store->root,
				    store->writable, &store->catalog, err);
	if (r == 0)
		r = ql_space_open(store, err);
	if (r == 0 && store->writable)
		r = ql_doom_open(store, err);
	if (r < 0) {
		(void)ql_error_prefix(err, "store %s",
				      store->root ? store->root : "");
		ql_store_close(store);
		return r;
	}
	*ret_store = store;
	return 0;
}

void ql_store_close(struct ql_store *store)
{
	if (!store)
		return;
	ql_space_file_close(store->space);
	ql_catalog_close(store->catalog);
	ql_keep_free(store->keep);
	ql_packed_set_free(store->packed);
	if (store->root_fd >= 0)
		(void)close(store->root_fd);
	free(store->root);
	free(store);
}

const char *ql_store_root(const struct ql_store *store)
{
	return store->root;
}

int ql_store_root_fd(const struct ql_store *store)
{
	return store->root_fd;
}

int ql_store_need_write(const struct ql_store *store, struct ql_error *err)
{
	if (!store->writable)
		return ql_error_set(err, -EROFS,
				    "store %s is open for reading only",
				    store->root);
	return 0;
}

int ql_store_lock(struct ql_store *store, bool exclusive, int *ret_fd,
		  struct ql_error *err)
{
	_cleanup_close_ int fd = openat(store->root_fd, "lock",
					O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	int op = exclusive ? LOCK_EX : LOCK_SH;

	if (fd < 0)
		return ql_error_errno(err, -errno, "open %s/lock", store->root);
	if (flock(fd, op | LOCK_NB) < 0) {
		ql_debug("msg=\"waiting for another process\" store=%s",
			 store->root);
		while (flock(fd, op) < 0)
			if (errno != EINTR)
				return ql_error_errno(err, -errno,
						      "lock %s/lock",
						      store->root);
	}
	*ret_fd = ql_take_fd(&fd);
	return 0;
}

int ql_store_lock_try(const struct ql_store *store, bool exclusive, int *ret_fd,
		      struct ql_error *err)
{
	_cleanup_close_ int fd = openat(store->root_fd, "lock",
					O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	if (fd < 0)
		return ql_error_errno(err, -errno, "open %s/lock", store->root);
	if (flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) < 0)
		return errno == EWOULDBLOCK || errno == EINTR
			       ? -EAGAIN
			       : ql_error_errno(err, -errno, "lock %s/lock",
						store->root);
	*ret_fd = ql_take_fd(&fd);
	return 0;
}
