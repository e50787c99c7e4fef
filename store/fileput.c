/* SPDX-License-Identifier: Apache-2.0 */
/* Metadata files are written beside their place and renamed to it. */
#include "store/store-private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

int ql_file_put(int root_fd, const char *tmp_path, const char *path,
		const void *data, size_t len, struct ql_error *err)
{
	_cleanup_close_ int fd = openat(
		root_fd, tmp_path,
		O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	int r;

	if (fd < 0)
		return ql_error_errno(err, -errno, "%s", tmp_path);
	r = ql_write_full(fd, data, len);
	if (r == 0 && renameat(root_fd, tmp_path, root_fd, path) < 0)
		r = -errno;
	if (r < 0) {
		(void)unlinkat(root_fd, tmp_path, 0);
		return ql_error_errno(err, r, "write %s", path);
	}
	return 0;
}
