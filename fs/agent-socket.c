/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One agent for each root, one for each socket.  The root's lock says whether
 * an agent is there; it goes with its process.  A socket's file stays, so
 * whether somebody is behind it is found by connecting.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "fs/agent.h"

enum { BACKLOG = 1024 };

int ql_agent_lock(const struct ql_store *store, int *ret_fd,
		  struct ql_error *err)
{
	int root = ql_store_root_fd(store);
	_cleanup_close_ int fd = -1;
	char pid[32] = "";
	int len;

	if (mkdirat(root, "agent", 0755) < 0 && errno != EEXIST)
		return ql_error_errno(err, -errno, "make %s/agent",
				      ql_store_root(store));
	fd = openat(root, "agent/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		return ql_error_errno(err, -errno, "%s/agent/lock",
				      ql_store_root(store));
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (pread(fd, pid, sizeof(pid) - 1, 0) < 0)
			pid[0] = 0;
		pid[strcspn(pid, "\n")] = 0;
		return ql_error_set(err, -EBUSY,
				    "an agent serves %s already (process %s)",
				    ql_store_root(store), pid);
	}
	len = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, (size_t)len, 0) != len)
		return ql_error_errno(err, -errno, "%s/agent/lock",
				      ql_store_root(store));
	*ret_fd = ql_take_fd(&fd);
	return 0;
}

/* Whether somebody answers; 0 where the file may be replaced. */
static int socket_check(const char *path, const struct sockaddr_un *addr,
			struct ql_error *err)
{
	_cleanup_close_ int fd = -1;
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT
			       ? 0
			       : ql_error_errno(err, -errno, "%s", path);
	if (!S_ISSOCK(st.st_mode))
		return ql_error_set(err, -EEXIST,
				    "%s: something that is no socket is there",
				    path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return ql_error_errno(err, -errno, "socket");
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 ||
	    errno == EAGAIN)
		return ql_error_set(err, -EADDRINUSE,
				    "%s: another agent answers there", path);
	if (errno != ECONNREFUSED)
		return ql_error_errno(err, -errno, "%s", path);
	return 0;
}

static int group_find(const char *name, gid_t *ret_gid, struct ql_error *err)
{
	struct group gr, *found = NULL;
	char buf[16384];
	int r = getgrnam_r(name, &gr, buf, sizeof(buf), &found);

	if (r != 0 || !found)
		return ql_error_set(err, r ? -r : -ENOENT, "no group \"%s\"",
				    name);
	*ret_gid = gr.gr_gid;
	return 0;
}

/* Nobody else may connect before the group is set: the mode is 0600 from the
 * start. */
static int socket_bind(int fd, const char *path, const struct sockaddr_un *addr,
		       const char *group, struct ql_error *err)
{
	mode_t mask = umask(0177);
	int r = bind(fd, (const struct sockaddr *)addr, sizeof(*addr));
	gid_t gid;

	r = r < 0 ? -errno : 0;
	(void)umask(mask);
	if (r < 0)
		return ql_error_errno(err, r, "%s", path);
	if (group) {
		r = group_find(group, &gid, err);
		if (r < 0)
			return r;
		if (chown(path, (uid_t)-1, gid) < 0 || chmod(path, 0660) < 0)
			return ql_error_errno(err, -errno, "%s: group %s", path,
					      group);
	}
	if (listen(fd, BACKLOG) < 0)
		return ql_error_errno(err, -errno, "%s", path);
	return 0;
}

static int socket_dir(const char *path, struct ql_error *err)
{
	_cleanup_free_ char *dir = strdup(path);
	char *slash = dir ? strrchr(dir, '/') : NULL;

	if (!dir)
		return ql_error_nomem(err);
	if (!slash || slash == dir)
		return 0;
	*slash = 0;
	return ql_mkdir_p(dir, err);
}

int ql_agent_listen(const char *path, const char *group, int *ret_fd,
		    struct ql_error *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = -1;
	int r;

	if (strlen(path) >= sizeof(addr.sun_path))
		return ql_error_set(err, -ENAMETOOLONG,
				    "%s: a socket's path has at most %zu bytes",
				    path, sizeof(addr.sun_path) - 1);
	memcpy(addr.sun_path, path, strlen(path));
	r = socket_dir(path, err);
	if (r == 0)
		r = socket_check(path, &addr, err);
	if (r < 0)
		return r;
	if (unlink(path) < 0 && errno != ENOENT)
		return ql_error_errno(err, -errno, "%s", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return ql_error_errno(err, -errno, "socket");
	r = socket_bind(fd, path, &addr, group, err);
	if (r < 0) {
		(void)unlink(path);
		return r;
	}
	*ret_fd = ql_take_fd(&fd);
	return 0;
}
