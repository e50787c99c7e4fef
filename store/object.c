/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects by name.  What is under a name was verified before it got there
 * (ingest.c), is never written again, and is removed only under the store's
 * exclusive lock.
 */
#include "store/store-private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

char *ql_object_path(const struct ql_digest *digest,
		     char buf[QL_OBJECT_PATH + 1])
{
	char hex[QL_DIGEST_HEX + 1];

	(void)snprintf(buf, QL_OBJECT_PATH + 1, "objects/%.2s/%s",
		       ql_digest_hex(digest, hex), hex + 2);
	return buf;
}

int ql_object_open(const struct ql_store *store, const struct ql_digest *digest,
		   int *ret_fd, struct ql_error *err)
{
	char path[QL_OBJECT_PATH + 1];
	int fd = openat(store->root_fd, ql_object_path(digest, path),
			O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return ql_error_errno(err, -errno, "%s/%s", store->root, path);
	*ret_fd = fd;
	return 0;
}

int ql_object_read(const struct ql_store *store, const struct ql_digest *digest,
		   struct ql_buf *buf, struct ql_error *err)
{
	char path[QL_OBJECT_PATH + 1];

	return ql_read_file(store->root_fd, ql_object_path(digest, path), buf,
			    err);
}

int ql_object_create(const struct ql_store *store,
		     const struct ql_digest *digest, int *ret_fd,
		     struct ql_error *err)
{
	char dir[16] = "partial";
	int fd;

	if (digest)
		(void)snprintf(dir, sizeof(dir), "objects/%02x",
			       digest->bytes[0]);
	fd = openat(store->root_fd, dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0444);

	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR))
		return ql_error_set(err, -EOPNOTSUPP,
				    "%s is on a filesystem without O_TMPFILE; "
				    "ext4, xfs, btrfs and tmpfs have it",
				    store->root);
	if (fd < 0)
		return ql_error_errno(err, -errno, "make a file in %s/%s",
				      store->root, dir);
	*ret_fd = fd;
	return 0;
}

int ql_object_publish(struct ql_store *store, int fd,
		      const struct ql_digest *digest, uint64_t *taken,
		      struct ql_error *err)
{
	char path[QL_OBJECT_PATH + 1];
	char self[32];
	struct stat st;

	(void)snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	(void)ql_object_path(digest, path);
	if (linkat(AT_FDCWD, self, store->root_fd, path, AT_SYMLINK_FOLLOW) < 0)
		return errno == EEXIST ? 0
				       : ql_error_errno(err, -errno, "%s/%s",
							store->root, path);
	if (taken && fstat(fd, &st) == 0) {
		ql_space_done(store, *taken, (uint64_t)st.st_blocks * 512);
		*taken = 0;
	}
	return 0;
}

bool ql_object_exists(const struct ql_store *store,
		      const struct ql_digest *digest)
{
	char path[QL_OBJECT_PATH + 1];

	return faccessat(store->root_fd, ql_object_path(digest, path), F_OK,
			 0) == 0;
}

/* It is not here. */
static int object_write(struct ql_store *store, const void *data, size_t len,
			const struct ql_digest *digest, struct ql_error *err)
{
	uint64_t taken = ql_space_blocks(len);
	int fd, r = ql_space_take(store, taken, err);

	if (r < 0)
		return r;
	r = ql_object_create(store, digest, &fd, err);
	if (r < 0) {
		ql_space_done(store, taken, 0);
		return r;
	}
	r = ql_write_full(fd, data, len);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r < 0)
		(void)ql_error_errno(err, r, "write to %s", store->root);
	else
		r = ql_object_publish(store, fd, digest, &taken, err);
	(void)close(fd);
	ql_space_done(store, taken, 0);
	return r;
}

int ql_object_put(struct ql_store *store, const void *data, size_t len,
		  const struct ql_digest *expect, struct ql_digest *ret_digest,
		  struct ql_error *err)
{
	struct ql_digest d;
	char a[QL_DIGEST_TEXT + 1];
	char b[QL_DIGEST_TEXT + 1];
	int r = ql_store_need_write(store, err);

	if (r < 0)
		return r;
	if (ql_digest_of(data, len, &d) < 0)
		return ql_error_nomem(err);
	if (expect && !ql_digest_equal(&d, expect))
		return ql_error_set(err, -EBADMSG, "digest is %s, not %s",
				    ql_digest_text(&d, a),
				    ql_digest_text(expect, b));
	if (!ql_object_exists(store, &d))
		r = object_write(store, data, len, &d, err);
	if (r < 0)
		return r;
	*ret_digest = d;
	return 0;
}
