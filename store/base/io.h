/* SPDX-License-Identifier: Apache-2.0 */
/* Files: whole reads and writes, folders, and replacing a file atomically. */
#ifndef QL_BASE_IO_H
#define QL_BASE_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct ql_buf;
struct ql_error;

/* Writes all of it.  0 or a negative errno. */
int ql_write_full(int fd, const void *data, size_t len);
/* Reads until len bytes or the end; the bytes read, or a negative errno. */
ssize_t ql_read_full(int fd, void *data, size_t len);
ssize_t ql_pread_full(int fd, void *data, size_t len, uint64_t offset);

/*
 * Appends a whole file to buf, whose maximum holds.  dirfd may be AT_FDCWD.
 * -EFBIG where it is larger than buf may grow; nothing is appended then.
 */
int ql_read_file(int dirfd, const char *path, struct ql_buf *buf,
		 struct ql_error *err);

/* Makes a folder and its parents, mode 0755 less umask.  Existing is fine. */
int ql_mkdir_p(const char *path, struct ql_error *err);

/* "a/b" formatted into an owned string; NULL: out of memory. */
char *ql_path_join(const char *dir, const char *name);
char *ql_strf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Nanoseconds of CLOCK_MONOTONIC. */
uint64_t ql_now_ns(void);

#endif
