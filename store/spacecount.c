/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counting what is there, while others write.
 *
 * What stands under names ("named") is moved by a difference, not set: by what
 * the walk finds, less what named was before it.  A file that gets its name
 * during the walk may then count twice, until the next recount, and never not
 * at all: named grows only after the name is there.  Who removes waits for the
 * walk, and the walk for him; else it might not find a file that named still
 * holds, and that would be taken away from it twice.
 */
#include "store/store-private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

enum { COUNT_DEPTH = 16 };

struct count {
	dev_t dev;
	uint64_t bytes[QL_SPACE_KINDS];
};

static enum ql_space_kind kind_of(const char *name)
{
	static const char *const names[QL_SPACE_KINDS] = {
		[QL_SPACE_OBJECTS] = "objects",
		[QL_SPACE_PACKED] = "packed",
		[QL_SPACE_PARTIAL] = "partial",
	};

	for (int i = 0; i < QL_SPACE_KINDS; i++)
		if (names[i] && strcmp(names[i], name) == 0)
			return (enum ql_space_kind)i;
	return QL_SPACE_METADATA;
}

static int count_folder(struct count *c, int fd, int depth,
			enum ql_space_kind kind);

static int count_entry(struct count *c, int dir, const char *name, int depth,
		       enum ql_space_kind kind)
{
	struct stat st;
	int fd;

	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return 0;
	/* Gone meanwhile, or a mount that nobody answers for. */
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    st.st_dev != c->dev)
		return 0;
	if (depth == 0)
		kind = kind_of(name);
	if (depth == 1 && strcmp(name, "data.mdb") == 0)
		return 0; /* it is looked at each time */
	c->bytes[S_ISDIR(st.st_mode) ? QL_SPACE_METADATA : kind] +=
		(uint64_t)st.st_blocks * 512;
	if (!S_ISDIR(st.st_mode) || depth == COUNT_DEPTH)
		return 0;
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	return count_folder(c, fd, depth + 1, kind);
}

/* Takes fd. */
static int count_folder(struct count *c, int fd, int depth,
			enum ql_space_kind kind)
{
	DIR *dir = fdopendir(fd);
	struct dirent *e;
	int r = 0;

	if (!dir) {
		r = -errno;
		(void)close(fd);
		return r;
	}
	errno = 0;
	while (r == 0 && (e = readdir(dir))) {
		r = count_entry(c, dirfd(dir), e->d_name, depth, kind);
		errno = 0;
	}
	if (r == 0 && errno)
		r = -errno;
	(void)closedir(dir);
	return r;
}

static int count_all(const struct ql_store *store, struct count *c)
{
	struct stat st;
	int fd;

	if (fstat(store->root_fd, &st) < 0)
		return -errno;
	c->dev = st.st_dev;
	c->bytes[QL_SPACE_METADATA] = (uint64_t)st.st_blocks * 512;
	fd = openat(store->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : count_folder(c, fd, 0, QL_SPACE_METADATA);
}

static int count_locked(struct ql_store *store, struct ql_error *err)
{
	struct ql_space_page *page = store->space->page;
	struct count c = { 0 };
	int64_t since, buried, named, sum = 0;
	int r;

	/* Before the walk, which finds what they left. */
	ql_space_file_bury(store->space);
	since = atomic_load(&page->since);
	buried = atomic_load(&page->buried);
	named = atomic_load(&page->named);
	r = count_all(store, &c);
	if (r < 0)
		return ql_error_errno(err, r, "count what is in %s",
				      store->root);
	for (int i = 0; i < QL_SPACE_KINDS; i++) {
		sum += (int64_t)c.bytes[i];
		atomic_store(&page->kinds[i], c.bytes[i]);
	}
	(void)atomic_fetch_add(&page->named, sum - named);
	(void)atomic_fetch_sub(&page->since, since);
	(void)atomic_fetch_sub(&page->buried, buried);
	/* Who died during it is for the next one. */
	ql_space_file_bury(store->space);
	atomic_store(&page->counted, 1);
	return 0;
}

int ql_space_count(struct ql_store *store, uint64_t since, struct ql_error *err)
{
	struct ql_space_page *page = store->space->page;
	int r;

	/* Of somebody else, and without one of our own. */
	if (store->space->fd >= 0 && !store->writable)
		return 0;
	r = ql_space_file_lock(store->space);
	if (r < 0)
		(void)ql_error_errno(err, r, "lock %s/space", store->root);
	/* Another may have counted while we waited.  Takers that it saw and
	 * that were refused then leave since below 0. */
	else if (!atomic_load(&page->counted) || since == 0 ||
		 atomic_load(&page->since) >= (int64_t)since)
		r = count_locked(store, err);
	ql_space_file_unlock(store->space);
	return r;
}
