/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests: temporary files and folders that are gone when the test's process
 * is, also where an assertion or a signal ends it: a child waits for the end of
 * a pipe that the process holds open, and removes what it was told of by then.
 */
#ifndef QL_TEST_SCRATCH_H
#define QL_TEST_SCRATCH_H

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/base/base.h"

enum { SCRATCH_MAX = 16 << 20 };

static inline int scratch_remove_one(const char *path, const struct stat *st,
				     int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline void scratch_remove(const char *path)
{
	(void)nftw(path, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* The child: names that end in a NUL, until nobody is there to tell more. */
static inline void scratch_wait(int names)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(SCRATCH_MAX);
	char chunk[4096];
	ssize_t n;

	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGTERM, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	while ((n = read(names, chunk, sizeof(chunk))) > 0)
		if (ql_buf_add(&buf, chunk, (size_t)n) < 0)
			break;
	for (size_t at = 0; at < buf.len; at += strlen(buf.data + at) + 1)
		scratch_remove(buf.data + at);
}

static inline int scratch_start(void)
{
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		abort();
	(void)fflush(NULL);
	pid = fork();
	if (pid < 0)
		abort();
	if (pid > 0) {
		(void)waitpid(pid, NULL, 0);
		(void)close(ends[0]);
		return ends[1];
	}
	/* Twice, so that no test has a child that it does not know of. */
	if (fork() == 0) {
		/* Whoever reads what the test says waits for its end. */
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);

		for (int fd = 0; fd <= 2; fd++)
			(void)dup2(null, fd);
		(void)close(ends[1]);
		scratch_wait(ends[0]);
	}
	_exit(0);
}

static inline void scratch_told(const char *path)
{
	static int names = -1;
	ssize_t len = (ssize_t)strlen(path) + 1;

	if (names < 0)
		names = scratch_start();
	if (write(names, path, (size_t)len) != len)
		abort();
}

/* As mkdtemp(3) and mkstemp(3): "/tmp/quicklayer-unit.XXXXXX", replaced. */
static inline char *scratch_dir(char *path)
{
	if (mkdtemp(path))
		scratch_told(path);
	else
		abort();
	return path;
}

static inline int scratch_file(char *path)
{
	int fd = mkostemp(path, O_CLOEXEC);

	if (fd < 0)
		abort();
	scratch_told(path);
	return fd;
}

#endif
