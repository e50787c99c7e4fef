/* SPDX-License-Identifier: Apache-2.0 */
/* Metadata files are written beside their place and renamed to it. */
#include "store/store-private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

int ql_file_put(struct ql_store *store, const char *tmp_path, const char *path,
		const void *data, size_t len, struct ql_error *err)
{
	_cleanup_close_ int fd = -1;
	uint64_t taken = ql_space_blocks(len);
	int r = ql_space_take(store, taken, err);

	if (r < 0)
		return r;
	fd = openat(store->root_fd, tmp_path,
		    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
		    0644);
	if (fd < 0) {
		r = -errno;
		ql_space_done(store, taken, 0);
		return ql_error_errno(err, r, "%s", tmp_path);
	}
	r = ql_write_full(fd, data, len);
	if (r == 0)
		r = ql_space_rename(store, tmp_path, path, taken);
	if (r < 0) {
		(void)unlinkat(store->root_fd, tmp_path, 0);
		(void)close(ql_take_fd(&fd));
		ql_space_done(store, taken, 0);
		return ql_error_errno(err, r, "write %s", path);
	}
	return 0;
}
