/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image that the agent is pulling: its layers are read whole, since nothing
 * tells where in them a file is, and what of it has passed is to be seen in
 * the agent's mount.  A name there is answered when it is known for sure.
 */
#include "tools/pulled.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PIECE = 256 << 10, TRIES = 100 };

char *ql_pulled_path(const struct ql_client *client, const char *image)
{
	_cleanup_json_ json_t *json = NULL;
	struct ql_error why = QL_ERROR_INIT;

	if (ql_client_ask(client, "GET", "/v1/pulls/", image, "", &json, &why) <
	    0)
		return NULL;
	return ql_strf("%s/by-digest/%s", client->mountpoint,
		       ql_json_opt_string(json, "digest", ""));
}

/* -1: none is to be seen from here. */
static int open_root(const struct ql_cli *cli, const char *image)
{
	_cleanup_(ql_client_freep) struct ql_client *client = NULL;
	_cleanup_free_ char *path = NULL;
	struct ql_error why = QL_ERROR_INIT;

	if (ql_client_find(cli, &client, &why) < 0 || !client)
		return -1;
	path = ql_pulled_path(client, image);
	return path ? open(path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
}

int ql_pulled_find(const struct ql_cli *cli, struct ql_store *store,
		   const char *image, struct ql_digest *ret_manifest,
		   int *ret_root, struct ql_error *err)
{
	_cleanup_free_ char *name = NULL, *again = NULL;
	struct ql_error why = QL_ERROR_INIT;
	int root, r = ql_find_image(store, image, ret_manifest, &name, &why);

	if (r == -ENOENT) {
		root = open_root(cli, image);
		if (root >= 0) {
			*ret_root = root;
			return 0;
		}
		/* Its pull may have ended now. */
		r = ql_find_image(store, image, ret_manifest, &again, &why);
	}
	if (r < 0)
		*err = why;
	return r;
}

/* As if root_fd were the root: also for symlinks. */
static int open_in(int root_fd, const char *path)
{
	struct open_how how = {
		.flags = O_PATH | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT,
	};
	long fd = -1;

	/* EAGAIN: something was renamed meanwhile, anywhere. */
	for (int i = 0; i < TRIES && fd < 0; i++) {
		fd = syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
		if (fd < 0 && errno != EAGAIN)
			break;
	}
	return fd < 0 ? -errno : (int)fd;
}

static int open_file(int root_fd, const char *path, struct ql_error *err)
{
	_cleanup_close_ int at = open_in(root_fd, path);
	char self[32];
	struct stat st;
	int fd;

	if (at < 0)
		return ql_error_errno(err, at, "open");
	if (fstat(at, &st) < 0)
		return ql_error_errno(err, -errno, "stat");
	if (S_ISDIR(st.st_mode))
		return ql_error_set(err, -EISDIR, "it is a folder");
	if (!S_ISREG(st.st_mode))
		return ql_error_set(err, -EINVAL, "it is no regular file");
	(void)snprintf(self, sizeof(self), "/proc/self/fd/%d", at);
	fd = open(self, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? ql_error_errno(err, -errno, "open") : fd;
}

int ql_pulled_cat(int root_fd, const char *path, ql_content_fn *fn, void *arg,
		  struct ql_error *err)
{
	_cleanup_free_ char *buf = malloc(PIECE);
	_cleanup_close_ int fd = open_file(root_fd, path, err);
	ssize_t n;
	int r = 0;

	if (fd < 0)
		return fd;
	if (!buf)
		return ql_error_nomem(err);
	while (r == 0 && (n = ql_read_full(fd, buf, PIECE)) != 0) {
		if (n < 0)
			return ql_error_errno(err, (int)n, "read");
		r = fn(buf, (size_t)n, arg);
	}
	return r;
}

int ql_pulled_wait(int root_fd, struct ql_error *err)
{
	_cleanup_closedir_ DIR *d = NULL;
	int fd = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return ql_error_errno(err, -errno, "the image being pulled");
	d = fdopendir(fd);
	if (!d) {
		(void)close(fd);
		return ql_error_nomem(err);
	}
	/* A folder's names are told when all are known. */
	errno = 0;
	if (!readdir(d) && errno != 0)
		return ql_error_errno(err, -errno, "the image being pulled");
	return 0;
}
