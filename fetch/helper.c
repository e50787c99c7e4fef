/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Credential helpers: docker-credential-<name> get, the server's name on
 * stdin, {"ServerURL","Username","Secret"} on stdout; the user name
 * "<token>" says that the secret is an identity token.
 *
 * Source: github.com/docker/docker-credential-helpers (README, client/).
 *
 * What is written to it stands in a memory file and not in a pipe, so that a
 * helper which does not read cannot raise SIGPIPE here.
 */
#include "fetch/fetch-private.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum {
	HELPER_OUTPUT_MAX = 64 << 10, /* bytes */
	HELPER_SECONDS = 30,
};

extern char **environ;

static int stdin_make(const char *server, int *ret_fd)
{
	_cleanup_close_ int fd = memfd_create("docker-credential", MFD_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	r = ql_write_full(fd, server, strlen(server));
	if (r < 0)
		return r;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	*ret_fd = ql_take_fd(&fd);
	return 0;
}

static int helper_spawn(const char *program, int in, int out, pid_t *ret_pid)
{
	char *argv[] = { (char *)(uintptr_t)program, (char *)(uintptr_t) "get",
			 NULL };
	posix_spawn_file_actions_t actions;
	int r;

	if (posix_spawn_file_actions_init(&actions) != 0)
		return -ENOMEM;
	r = posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(&actions, out,
						     STDOUT_FILENO);
	if (r == 0)
		r = posix_spawnp(ret_pid, program, &actions, NULL, argv,
				 environ);
	(void)posix_spawn_file_actions_destroy(&actions);
	return -r;
}

/* Reads fd to its end, until the deadline. */
static int output_read(int fd, struct ql_buf *buf)
{
	uint64_t deadline = ql_now_ns() + HELPER_SECONDS * 1000000000ULL;

	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		uint64_t now = ql_now_ns();
		char chunk[4096];
		ssize_t n;
		int r;

		if (now >= deadline)
			return -ETIMEDOUT;
		r = poll(&p, 1, (int)((deadline - now) / 1000000) + 1);
		if (r < 0 && errno != EINTR)
			return -errno;
		if (r <= 0)
			continue;
		n = read(fd, chunk, sizeof(chunk));
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		r = ql_buf_add(buf, chunk, (size_t)n);
		if (r < 0)
			return r;
	}
}

static int helper_run(const char *program, const char *server,
		      struct ql_buf *buf, int *ret_status, struct ql_error *err)
{
	_cleanup_close_ int in = -1;
	_cleanup_close_ int out_r = -1;
	int fds[2] = { -1, -1 };
	pid_t pid = -1;
	int r = stdin_make(server, &in);

	if (r < 0)
		return ql_error_errno(err, r, "%s", program);
	if (pipe2(fds, O_CLOEXEC) < 0)
		return ql_error_errno(err, -errno, "%s", program);
	out_r = fds[0];
	r = helper_spawn(program, in, fds[1], &pid);
	(void)close(fds[1]);
	if (r == -ENOENT) /* which to our caller is an answer */
		return ql_error_set(err, -EIO, "cannot run %s: no such program",
				    program);
	if (r < 0)
		return ql_error_errno(err, r, "cannot run %s", program);

	r = output_read(out_r, buf);
	if (r < 0)
		(void)kill(pid, SIGKILL);
	while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
		;
	if (r < 0)
		return ql_error_errno(err, r, "%s", program);
	return 0;
}

static int answer_parse(const struct ql_buf *buf,
			struct ql_credentials *ret_credentials,
			struct ql_error *err)
{
	_cleanup_credentials_ struct ql_credentials c = { 0 };
	_cleanup_json_ json_t *json = NULL;
	const char *user = "", *secret = "";
	int r = ql_json_parse(ql_buf_str(buf), buf->len, &json, err);

	if (r == 0)
		r = ql_json_get_string(json, "Username", &user, err);
	if (r == 0)
		r = ql_json_get_string(json, "Secret", &secret, err);
	if (r < 0)
		return r;
	if (strcmp(user, "<token>") == 0) {
		c.identity_token = strdup(secret);
		if (!c.identity_token)
			return ql_error_nomem(err);
	} else {
		c.user = strdup(user);
		c.password = strdup(secret);
		if (!c.user || !c.password)
			return ql_error_nomem(err);
	}
	*ret_credentials = c;
	memset(&c, 0, sizeof(c));
	return 0;
}

int ql_helper_get(const char *name, const char *server,
		  struct ql_credentials *ret_credentials, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(HELPER_OUTPUT_MAX);
	_cleanup_free_ char *program = NULL;
	int status = 0;
	int r;

	if (strchr(name, '/'))
		return ql_error_set(err, -EINVAL,
				    "\"%s\" is not a credential helper", name);
	program = ql_strf("docker-credential-%s", name);
	if (!program)
		return ql_error_nomem(err);
	r = helper_run(program, server, &buf, &status, err);
	if (r < 0)
		return r;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		if (strstr(ql_buf_str(&buf), "credentials not found"))
			return -ENOENT;
		return ql_error_set(err, -EACCES, "%s failed: %s", program,
				    buf.len ? ql_buf_str(&buf) : "no output");
	}
	r = answer_parse(&buf, ret_credentials, err);
	return r < 0 ? ql_error_prefix(err, "%s", program) : 0;
}
