/* SPDX-License-Identifier: Apache-2.0 */
/* Which objects are here, and whether that changed, by their folders alone. */
#include "store/store-private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

enum { FOLDERS = 256, FOLDER_PATH = 16 };
#define FNV_BASIS 0xcbf29ce484222325ULL
#define FNV_PRIME 0x100000001b3ULL

static char *folder_path(unsigned int i, char buf[FOLDER_PATH])
{
	(void)snprintf(buf, FOLDER_PATH, "objects/%02x", i & 0xff);
	return buf;
}

/* What is named otherwise is not ours. */
static int folder_each(DIR *dir, unsigned int i, ql_object_fn *fn, void *arg)
{
	const struct dirent *d;
	int r = 0;

	while (r == 0 && (d = readdir(dir))) {
		char hex[QL_DIGEST_HEX + 1];
		struct ql_digest digest;

		if (strlen(d->d_name) != QL_DIGEST_HEX - 2)
			continue;
		(void)snprintf(hex, sizeof(hex), "%02x%.62s", i & 0xff,
			       d->d_name);
		if (ql_digest_from_hex(hex, &digest) == 0)
			r = fn(&digest, arg);
	}
	return r;
}

int ql_object_each(const struct ql_store *store, ql_object_fn *fn, void *arg,
		   struct ql_error *err)
{
	int r = 0;

	for (unsigned int i = 0; i < FOLDERS && r == 0; i++) {
		_cleanup_closedir_ DIR *dir = NULL;
		char path[FOLDER_PATH];
		int fd = openat(store->root_fd, folder_path(i, path),
				O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (fd < 0 && errno == ENOENT)
			continue;
		dir = fd < 0 ? NULL : fdopendir(fd);
		if (!dir) {
			r = ql_error_errno(err, -errno, "%s/%s", store->root,
					   path);
			if (fd >= 0)
				(void)close(fd);
			return r;
		}
		r = folder_each(dir, i, fn, arg);
	}
	return r;
}

uint64_t ql_object_changes(const struct ql_store *store)
{
	uint64_t hash = FNV_BASIS;

	for (unsigned int i = 0; i < FOLDERS; i++) {
		char path[FOLDER_PATH];
		struct stat st = { 0 };

		(void)fstatat(store->root_fd, folder_path(i, path), &st, 0);
		hash = (hash ^ (uint64_t)st.st_mtim.tv_sec) * FNV_PRIME;
		hash = (hash ^ (uint64_t)st.st_mtim.tv_nsec) * FNV_PRIME;
	}
	return hash;
}
