/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unmounting: refuses what is no mount of quicklayer, asks the mount who
 * serves it (ops-xattr.c), unmounts, and waits until that process is gone, so
 * that its lock on the image is, too.  The process is watched by a pidfd taken
 * before, when it was certainly that process.  A server that is dead already,
 * or in another PID namespace, is not waited for.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "fs/fs-private.h"

enum { WAIT_MS = 10000 };

extern char **environ;

/* realpath(), also where the last component is a mount that does not answer. */
static char *mount_path(const char *dir)
{
	_cleanup_free_ char *copy = NULL, *parent = NULL;
	char *path = realpath(dir, NULL), *slash;
	size_t len = strlen(dir);

	if (path || (errno != ENOTCONN && errno != EIO))
		return path;
	while (len > 1 && dir[len - 1] == '/')
		len--;
	copy = strndup(dir, len);
	if (!copy)
		return NULL;
	slash = strrchr(copy, '/');
	if (!slash) {
		parent = realpath(".", NULL);
		return parent ? ql_path_join(parent, copy) : NULL;
	}
	*slash = 0;
	parent = realpath(slash == copy ? "/" : copy, NULL);
	if (!parent)
		return NULL;
	return ql_path_join(strcmp(parent, "/") == 0 ? "" : parent, slash + 1);
}

/* A pidfd of the process that serves the mount, or -1. */
static int server_pidfd(const char *path)
{
	unsigned long ns;
	struct stat st;
	char text[64];
	ssize_t n;
	long pid;

	n = getxattr(path, QL_FS_SERVER_XATTR, text, sizeof(text) - 1);
	if (n <= 0 || stat("/proc/self/ns/pid", &st) < 0)
		return -1;
	text[n] = 0;
	if (sscanf(text, "%ld %lu", &pid, &ns) != 2 || pid <= 0 ||
	    ns != (unsigned long)st.st_ino)
		return -1;
	return (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
}

static int run_fusermount(const char *path, bool lazy)
{
	const char *argv[] = { "fusermount3",	   "-u", "-q",
			       lazy ? "-z" : "--", path, NULL };
	int status = 0, r;
	pid_t pid;

	r = posix_spawnp(&pid, argv[0], NULL, NULL,
			 (char *const *)(uintptr_t)argv, environ);
	if (r != 0)
		return -r;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

static int unmount(const char *path, bool lazy)
{
	if (umount2(path, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
		return 0;
	if (errno != EPERM || geteuid() == 0)
		return -errno;
	return run_fusermount(path, lazy);
}

static int await_end(int pidfd, struct ql_error *err)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	int r;

	do {
		r = poll(&p, 1, WAIT_MS);
	} while (r < 0 && errno == EINTR);
	if (r == 0)
		return ql_error_set(err, -ETIMEDOUT,
				    "unmounted, but the server does not end");
	return 0;
}

int ql_umount(const char *dir, bool lazy, struct ql_error *err)
{
	_cleanup_free_ char *path = mount_path(dir);
	struct ql_mounted mounted;
	_cleanup_close_ int pidfd = -1;
	int r;

	if (!path)
		return ql_error_errno(err, -errno, "%s", dir);
	r = ql_mountinfo_find(path, &mounted, err);
	if (r < 0)
		return r;
	if (r == 0 || !mounted.ours)
		return ql_error_set(err, -EINVAL,
				    "%s: not a mount of quicklayer", dir);
	/* Detached, a mount lives on until its last user leaves. */
	if (!lazy)
		pidfd = server_pidfd(path);
	r = unmount(path, lazy);
	if (r == -EBUSY)
		return ql_error_set(err, r, "%s: in use", dir);
	if (r < 0)
		return ql_error_errno(err, r, "unmounting %s", dir);
	return pidfd < 0 ? 0 : await_end(pidfd, err);
}
