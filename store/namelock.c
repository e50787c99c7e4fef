/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A lock on a layer or an image while it is being made: flock on
 * partial/<hex>.lock.  The file is unlinked by its last holder, so whoever got
 * the lock checks that the file it locked is still the one under the name.
 * A killed holder's lock is gone with it; its file is reused.
 */
#include "store/store-private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

static bool namelock_current(const struct ql_name_lock *lock)
{
	struct stat a;
	struct stat b;

	return fstat(lock->fd, &a) == 0 &&
	       fstatat(lock->root_fd, lock->path, &b, 0) == 0 &&
	       a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

bool ql_name_lock_is(const struct ql_name_lock *lock,
		     const struct ql_digest *digest)
{
	char hex[QL_DIGEST_HEX + 1];

	return strncmp(lock->path + strlen("partial/"),
		       ql_digest_hex(digest, hex), QL_DIGEST_HEX) == 0;
}

int ql_name_lock_try(const struct ql_store *store,
		     const struct ql_digest *digest,
		     struct ql_name_lock *ret_lock)
{
	struct ql_name_lock lock = { .root_fd = store->root_fd };
	char hex[QL_DIGEST_HEX + 1];

	(void)snprintf(lock.path, sizeof(lock.path), "partial/%s.lock",
		       ql_digest_hex(digest, hex));
	lock.fd = openat(store->root_fd, lock.path,
			 O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (lock.fd < 0)
		return -errno;
	if (flock(lock.fd, LOCK_EX | LOCK_NB) < 0) {
		int code = errno == EWOULDBLOCK ? -EBUSY : -errno;

		(void)close(lock.fd);
		return code;
	}
	if (!namelock_current(&lock)) {
		(void)close(lock.fd);
		return -EBUSY;
	}
	*ret_lock = lock;
	return 0;
}

int ql_name_lock_init(const struct ql_store *store,
		      const struct ql_digest *digest,
		      struct ql_name_lock *ret_lock, struct ql_error *err)
{
	struct ql_name_lock lock = { .root_fd = store->root_fd };
	char hex[QL_DIGEST_HEX + 1];

	(void)snprintf(lock.path, sizeof(lock.path), "partial/%s.lock",
		       ql_digest_hex(digest, hex));
	for (;;) {
		lock.fd = openat(store->root_fd, lock.path,
				 O_RDWR | O_CREAT | O_CLOEXEC, 0644);
		if (lock.fd < 0)
			return ql_error_errno(err, -errno, "open %s/%s",
					      store->root, lock.path);
		while (flock(lock.fd, LOCK_EX) < 0) {
			int code = -errno;

			if (code == -EINTR)
				continue;
			(void)close(lock.fd);
			return ql_error_errno(err, code, "lock %s/%s",
					      store->root, lock.path);
		}
		if (namelock_current(&lock))
			break;
		(void)close(lock.fd);
	}
	*ret_lock = lock;
	return 0;
}

void ql_name_lock_release(struct ql_name_lock *lock)
{
	if (lock->fd < 0)
		return;
	(void)unlinkat(lock->root_fd, lock->path, 0);
	(void)close(lock->fd);
}
