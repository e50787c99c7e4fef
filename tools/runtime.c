/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The OCI runtime as a child: choosing it, starting it, passing on signals,
 * and its exit status (runtime command line interface, as crun(1) and runc(8)
 * have it).
 *
 * A container of `quicklayer run` has no cgroup of its own.  crun refuses a
 * hybrid hierarchy (v1 mounts with controllers left in v2) even so; there it
 * is started in a mount namespace in which /sys/fs/cgroup is empty.
 */
#include "tools/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>

#define CGROUPS "/sys/fs/cgroup"
#define HYBRID_CONTROLLERS CGROUPS "/unified/cgroup.controllers"

static bool in_path(const char *program)
{
	const char *path = getenv("PATH");
	_cleanup_free_ char *copy = strdup(path ? path : "/usr/sbin:/usr/bin");
	char *save = NULL;

	if (!copy)
		return false;
	for (char *dir = strtok_r(copy, ":", &save); dir;
	     dir = strtok_r(NULL, ":", &save)) {
		_cleanup_free_ char *full = ql_path_join(dir, program);

		if (full && access(full, X_OK) == 0)
			return true;
	}
	return false;
}

static bool is_crun(const char *runtime)
{
	const char *base = strrchr(runtime, '/');

	return strcmp(base ? base + 1 : runtime, "crun") == 0;
}

static bool cgroups_are_hybrid(void)
{
	_cleanup_close_ int fd = open(HYBRID_CONTROLLERS, O_RDONLY | O_CLOEXEC);
	char c;

	return fd >= 0 && ql_read_full(fd, &c, 1) == 1 && c != '\n';
}

/* ---- signals ---- */

static volatile sig_atomic_t runtime_child;

static void runtime_forward(int sig)
{
	if (runtime_child > 0)
		(void)kill((pid_t)runtime_child, sig);
}

/* The terminal's own signals reach the container by themselves; those sent to
 * this process are passed on, so that it can clean up behind it. */
static void runtime_signals(void)
{
	struct sigaction sa = { .sa_handler = runtime_forward };

	(void)sigemptyset(&sa.sa_mask);
	(void)sigaction(SIGTERM, &sa, NULL);
	(void)sigaction(SIGHUP, &sa, NULL);
	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGQUIT, SIG_IGN);
}

/* ---- the child ---- */

/*
 * Only what is safe between fork and exec.  Tells why by way of errors.  The
 * runtime keeps the folder's lock: it may outlive this process, and its
 * container's root must not be swept away before it ends.
 */
static void child_exec(const char *const *argv, bool hide_cgroups, int lock,
		       int errors)
{
	static const int defaults[] = { SIGTERM, SIGHUP, SIGINT, SIGQUIT,
					SIGPIPE };
	sigset_t none;
	int code;

	for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]); i++)
		(void)signal(defaults[i], SIG_DFL);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)fcntl(lock, F_SETFD, 0);
	if (hide_cgroups &&
	    (unshare(CLONE_NEWNS) < 0 ||
	     mount(NULL, CGROUPS, NULL, MS_SLAVE, NULL) < 0 ||
	     mount("none", CGROUPS, "tmpfs", MS_RDONLY, NULL) < 0))
		code = errno;
	else {
		(void)execvp(argv[0], (char *const *)(uintptr_t)argv);
		code = errno;
	}
	(void)ql_write_full(errors, &code, sizeof(code));
	_exit(127);
}

static int runtime_spawn(const char *const *argv, bool hide_cgroups, int lock,
			 pid_t *ret_pid, struct ql_error *err)
{
	int errors[2];
	int code = 0;
	pid_t pid;

	if (pipe2(errors, O_CLOEXEC) < 0)
		return ql_error_errno(err, -errno, "start %s", argv[0]);
	pid = fork();
	if (pid == 0)
		child_exec(argv, hide_cgroups, lock, errors[1]);
	code = pid < 0 ? errno : 0;
	(void)close(errors[1]);
	if (pid > 0 &&
	    ql_read_full(errors[0], &code, sizeof(code)) == sizeof(code))
		(void)waitpid(pid, NULL, 0);
	(void)close(errors[0]);
	if (code)
		return ql_error_errno(err, -code, "start %s", argv[0]);
	*ret_pid = pid;
	return 0;
}

int ql_runtime_run(const char *runtime, const struct ql_rundir *dir,
		   struct ql_error *err)
{
	const char *argv[8];
	size_t n = 0;
	sigset_t held;
	bool crun;
	pid_t pid = -1;
	int status = 0;
	int r;

	if (!runtime)
		runtime = in_path("crun") || !in_path("runc") ? "crun" : "runc";
	crun = is_crun(runtime);
	argv[n++] = runtime;
	if (crun)
		argv[n++] = "--cgroup-manager=disabled";
	argv[n++] = "run";
	argv[n++] = "--bundle";
	argv[n++] = dir->dir.path;
	argv[n++] = dir->name;
	argv[n] = NULL;
	runtime_signals();
	/* Held until there is a child to pass them on to. */
	(void)sigemptyset(&held);
	(void)sigaddset(&held, SIGTERM);
	(void)sigaddset(&held, SIGHUP);
	(void)sigprocmask(SIG_BLOCK, &held, NULL);
	r = runtime_spawn(argv, crun && cgroups_are_hybrid(), dir->dir.lock,
			  &pid, err);
	if (r == 0)
		runtime_child = (sig_atomic_t)pid;
	(void)sigprocmask(SIG_UNBLOCK, &held, NULL);
	if (r < 0)
		return r;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return ql_error_errno(err, -errno, "wait for %s",
					      runtime);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
