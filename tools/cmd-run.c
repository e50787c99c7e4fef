/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quicklayer run: a container by crun (or runc) on an image's root, which is
 * mounted by FUSE below an overlay that takes what the container writes and
 * goes with it.  Its exit status is the container's.
 */
#include "tools/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "tools/bundle.h"
#include "tools/pull.h"

extern char **environ;

enum { RUN_CONFIG_MAX = 8 << 20 };

/* ---- the image ---- */

struct run_image {
	struct ql_store *store; /* owned */
	struct ql_tree *tree;	/* owned */
	json_t *config;		/* owned */
};

static void run_image_release(struct run_image *image)
{
	json_decref(image->config);
	ql_tree_close(image->tree);
	ql_store_close(image->store);
}

/* In the store already, or pulled now. */
static int run_find(const struct ql_cli *cli, struct ql_store *store,
		    struct ql_digest *ret_manifest, struct ql_error *err)
{
	_cleanup_free_ char *name = NULL;
	struct ql_pull_result res;
	int r = ql_find_image(store, cli->argv[0], ret_manifest, &name, err);

	if (r != -ENOENT)
		return r;
	r = ql_pull_image(cli, store, cli->argv[0], &res, &name, err);
	if (r == 0)
		*ret_manifest = res.manifest;
	return r;
}

static int run_open(const struct ql_cli *cli, struct run_image *image,
		    struct ql_error *err)
{
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(RUN_CONFIG_MAX);
	struct ql_digest manifest;
	int r = ql_store_open(cli->root, QL_STORE_WRITE, &image->store, err);

	if (r == 0)
		r = run_find(cli, image->store, &manifest, err);
	if (r == 0)
		r = ql_tree_open_image(image->store, &manifest, &image->tree,
				       err);
	if (r < 0)
		return r;
	r = ql_image_get(image->store, &manifest, &info);
	if (r < 0)
		return ql_error_errno(err, r, "%s", cli->argv[0]);
	r = ql_object_read(image->store, &info.config, &buf, err);
	if (r == 0)
		r = ql_json_parse(buf.data, buf.len, &image->config, err);
	return r;
}

/* ---- the runtime ---- */

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

static const char *run_runtime(const struct ql_cli *cli)
{
	if (cli->runtime)
		return cli->runtime;
	return in_path("crun") || !in_path("runc") ? "crun" : "runc";
}

static bool is_crun(const char *runtime)
{
	const char *base = strrchr(runtime, '/');

	return strcmp(base ? base + 1 : runtime, "crun") == 0;
}

static volatile sig_atomic_t run_child;

static void run_forward(int sig)
{
	if (run_child > 0)
		(void)kill((pid_t)run_child, sig);
}

/* The terminal's own signals reach the container by themselves; those sent to
 * this process are passed on, so that it can clean up behind it. */
static void run_signals(void)
{
	struct sigaction sa = { .sa_handler = run_forward };

	(void)sigemptyset(&sa.sa_mask);
	(void)sigaction(SIGTERM, &sa, NULL);
	(void)sigaction(SIGHUP, &sa, NULL);
	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGQUIT, SIG_IGN);
}

static int run_spawn(const char *runtime, char *const argv[], pid_t *ret_pid,
		     struct ql_error *err)
{
	posix_spawnattr_t attr;
	sigset_t defaults;
	int rc;

	(void)sigemptyset(&defaults);
	(void)sigaddset(&defaults, SIGINT);
	(void)sigaddset(&defaults, SIGQUIT);
	(void)sigaddset(&defaults, SIGPIPE);
	rc = posix_spawnattr_init(&attr);
	if (rc)
		return ql_error_errno(err, -rc, "start %s", runtime);
	(void)posix_spawnattr_setsigdefault(&attr, &defaults);
	(void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
	rc = posix_spawnp(ret_pid, runtime, NULL, &attr, argv, environ);
	(void)posix_spawnattr_destroy(&attr);
	if (rc)
		return ql_error_errno(err, -rc, "start %s", runtime);
	return 0;
}

static int run_container(const struct ql_cli *cli, const struct ql_rundir *dir,
			 struct ql_error *err)
{
	const char *runtime = run_runtime(cli);
	const char *argv[8];
	size_t n = 0;
	pid_t pid;
	int status;
	int r;

	argv[n++] = runtime;
	/* A short-lived container needs no cgroup of its own, and runtimes
	 * differ in what they ask of the host's cgroups. */
	if (is_crun(runtime))
		argv[n++] = "--cgroup-manager=disabled";
	argv[n++] = "run";
	argv[n++] = "--bundle";
	argv[n++] = dir->path;
	argv[n++] = dir->name;
	argv[n] = NULL;
	run_signals();
	r = run_spawn(runtime, (char *const *)(uintptr_t)argv, &pid, err);
	if (r < 0)
		return r;
	run_child = (sig_atomic_t)pid;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return ql_error_errno(err, -errno, "wait for %s",
					      runtime);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int ql_cmd_run(const struct ql_cli *cli, struct ql_error *err)
{
	_cleanup_(run_image_release) struct run_image image = { 0 };
	_cleanup_(ql_rundir_release) struct ql_rundir dir = { .fd = -1,
							      .lock = -1 };
	_cleanup_(ql_user_release) struct ql_user user = { 0 };
	_cleanup_free_ char *rootfs = NULL;
	const char *spec = cli->user;
	int r = run_open(cli, &image, err);

	if (r < 0)
		return r;
	if (!spec)
		spec = ql_json_opt_string(
			json_object_get(image.config, "config"), "User", "");
	r = ql_user_lookup(image.store, image.tree, spec, &user, err);
	if (r == 0)
		r = ql_rundir_make(image.store, &dir, err);
	if (r == 0)
		r = ql_rundir_mount(&dir, image.store, image.tree,
				    cli->read_only, &rootfs, err);
	if (r == 0)
		r = ql_bundle_write(dir.fd, image.config, rootfs, cli, &user,
				    err);
	return r < 0 ? r : run_container(cli, &dir, err);
}
