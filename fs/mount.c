/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounting an image by FUSE: looks at the mount point, says in words what is
 * wrong with it, and starts the server, in this process or in one of its own.
 *
 * The server's process is forked twice, so that it is nobody's child, before
 * it has any thread.  It keeps the standard descriptors (as /dev/null), the
 * store's root and the image, and closes all else: the caller's locks and
 * catalogue are not its business.  Through a pipe it tells that the kernel
 * has been answered, or why not; the caller returns on that.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "fs/fs-private.h"

static int check_empty(const char *dir, struct ql_error *err)
{
	_cleanup_closedir_ DIR *d = opendir(dir);
	const struct dirent *e;

	if (!d)
		return ql_error_errno(err, -errno, "%s", dir);
	while ((e = readdir(d))) {
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			return ql_error_set(err, -ENOTEMPTY,
					    "%s: mount point is not empty",
					    dir);
	}
	return 0;
}

static int check_mountpoint(const char *dir, char **ret_path,
			    struct ql_error *err)
{
	_cleanup_free_ char *path = realpath(dir, NULL);
	struct ql_mounted mounted;
	struct stat st;
	int r;

	if (!path && errno == ENOENT)
		return ql_error_set(err, -ENOENT,
				    "%s: mount point does not exist", dir);
	if (!path && errno == ENOTCONN)
		return ql_error_set(err, -EBUSY,
				    "%s: a mount whose server is gone is there "
				    "(unmount it first)",
				    dir);
	if (!path || stat(path, &st) < 0)
		return ql_error_errno(err, -errno, "%s", dir);
	if (!S_ISDIR(st.st_mode))
		return ql_error_set(err, -ENOTDIR,
				    "%s: mount point is not a directory", dir);
	r = ql_mountinfo_find(path, &mounted, err);
	if (r < 0)
		return r;
	if (r > 0)
		return ql_error_set(err, -EBUSY,
				    mounted.ours
					    ? "%s: an image is mounted there"
					    : "%s: something is mounted there",
				    dir);
	r = check_empty(path, err);
	if (r < 0)
		return r;
	*ret_path = ql_take_ptr(path);
	return 0;
}

/* ---- a process of its own ---- */

/* What goes through the pipe; code 0: it serves. */
struct report {
	int code;
	char text[512];
};

static void send_report(int fd, const struct ql_error *err)
{
	struct report report = { .code = err ? err->code : 0 };

	if (err)
		(void)snprintf(report.text, sizeof(report.text), "%.*s",
			       (int)sizeof(report.text) - 1, err->text);
	(void)ql_write_full(fd, &report, sizeof(report));
}

static void silence(int fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return;
	(void)dup2(null, fd);
	if (null > STDERR_FILENO)
		(void)close(null);
}

/* Until here fusermount3 may have had something to say on stderr. */
static void report_ready(void *arg)
{
	int *fd = arg;

	silence(STDERR_FILENO);
	send_report(*fd, NULL);
	(void)close(ql_take_fd(fd));
}

static int cmp_fd(const void *a, const void *b)
{
	const int *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Closes every descriptor but 0, 1, 2 and the n given. */
static void close_others(int *keep, size_t n)
{
	unsigned int next = STDERR_FILENO + 1;

	qsort(keep, n, sizeof(*keep), cmp_fd);
	for (size_t i = 0; i < n; i++) {
		if (keep[i] < (int)next)
			continue;
		if (keep[i] > (int)next)
			(void)close_range(next, (unsigned int)keep[i] - 1, 0);
		next = (unsigned int)keep[i] + 1;
	}
	(void)close_range(next, UINT_MAX, 0);
}

static void detach(void)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP, SIGPIPE };
	sigset_t none;

	(void)setsid();
	silence(STDIN_FILENO);
	silence(STDOUT_FILENO);
	/* The caller's handlers are for the caller's ends. */
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		(void)signal(signals[i], SIG_DFL);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (chdir("/") < 0)
		ql_debug("the server stays in its folder");
}

static void server_main(struct ql_fs *fs, const char *dir,
			const struct ql_mount_options *options, int pipe_fd)
{
	int keep[] = { pipe_fd, ql_store_root_fd(fs->store),
		       ql_tree_fd(fs->tree), fs->record_fd };
	struct ql_error err = QL_ERROR_INIT;
	int r;

	detach();
	close_others(keep, sizeof(keep) / sizeof(keep[0]));
	fs->ready = report_ready;
	fs->ready_arg = &pipe_fd;
	r = ql_fs_fill_start(fs, options, &err);
	if (r == 0)
		r = ql_fs_serve(fs, dir, options, &err);
	if (r < 0 && pipe_fd >= 0)
		send_report(pipe_fd, &err);
	ql_fs_fill_stop(fs);
}

static int await_report(int fd, struct ql_error *err)
{
	struct report report = { 0 };
	ssize_t n = ql_read_full(fd, &report, sizeof(report));

	if (n != (ssize_t)sizeof(report))
		return ql_error_set(err, -EIO,
				    "the server ended before it served");
	report.text[sizeof(report.text) - 1] = 0;
	return report.code == 0
		       ? 0
		       : ql_error_set(err, report.code, "%s", report.text);
}

static int mount_background(struct ql_fs *fs, const char *dir,
			    const struct ql_mount_options *options,
			    struct ql_error *err)
{
	_cleanup_close_ int out = -1, in = -1;
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return ql_error_errno(err, -errno, "pipe");
	out = fds[0];
	in = fds[1];
	pid = fork();
	if (pid < 0)
		return ql_error_errno(err, -errno, "starting the server");
	if (pid == 0) {
		/* _exit(): what the caller registered for its end is its own */
		if (fork() == 0)
			server_main(fs, dir, options, ql_take_fd(&in));
		_exit(0);
	}
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	(void)close(ql_take_fd(&in));
	return await_report(out, err);
}

int ql_mount_fuse(const struct ql_store *store, const struct ql_tree *tree,
		  const char *dir, const struct ql_mount_options *options,
		  struct ql_error *err)
{
	struct ql_fs fs = { .store = store,
			    .tree = tree,
			    .inert_devices = options->inert_devices,
			    .record_fd = options->record_fd };
	_cleanup_free_ char *path = NULL;
	int r;

	atomic_init(&fs.passthrough,
		    !options->no_passthrough && options->record_fd <= 0);
	r = check_mountpoint(dir, &path, err);
	if (r < 0)
		return r;
	if (options->foreground) {
		r = ql_fs_fill_start(&fs, options, err);
		if (r == 0)
			r = ql_fs_serve(&fs, path, options, err);
		ql_fs_fill_stop(&fs);
		return r;
	}
	return mount_background(&fs, path, options, err);
}

int ql_mount_bind(const char *from, const char *dir, struct ql_error *err)
{
	_cleanup_free_ char *path = NULL;
	struct stat st;
	int r = check_mountpoint(dir, &path, err);

	if (r < 0)
		return r;
	if (stat(from, &st) < 0)
		return ql_error_errno(err, -errno, "%s", from);
	if (mount(from, path, NULL, MS_BIND, NULL) < 0)
		return ql_error_errno(err, -errno, "mounting %s on %s", from,
				      path);
	return 0;
}
