/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a request sends.  A transfer keeps a copy of its own, since it may go
 * on sending for a while when the answer is there and the request forgotten.
 */
#include "fetch/fetch-private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

int ql_upload_keep(const struct ql_http_upload *u,
		   struct ql_http_upload *ret_copy)
{
	struct ql_http_upload copy = { .fd = -1 };

	if (u && u->len > 0) {
		copy.offset = u->offset;
		copy.len = u->len;
		copy.sent = u->sent;
		copy.arg = u->arg;
	}
	if (copy.len > 0 && u->data) {
		void *data = malloc((size_t)u->len);

		if (!data)
			return -ENOMEM;
		memcpy(data, u->data, (size_t)u->len);
		copy.data = data;
	} else if (copy.len > 0) {
		copy.fd = fcntl(u->fd, F_DUPFD_CLOEXEC, 3);
		if (copy.fd < 0)
			return -errno;
	}
	*ret_copy = copy;
	return 0;
}

void ql_upload_release(struct ql_http_upload *copy)
{
	free((void *)copy->data);
	if (copy->fd >= 0)
		(void)close(copy->fd);
	*copy = (struct ql_http_upload){ .fd = -1 };
}

ssize_t ql_upload_read(const struct ql_http_upload *u, uint64_t pos, void *buf,
		       size_t len)
{
	if (pos > u->len)
		return -EINVAL;
	if (len > u->len - pos)
		len = (size_t)(u->len - pos);
	if (u->data) {
		memcpy(buf, (const char *)u->data + pos, len);
	} else {
		/* Files are local: reading holds up nobody for long. */
		ssize_t n = ql_pread_full(u->fd, buf, len, u->offset + pos);

		if (n != (ssize_t)len)
			return n < 0 ? n : -EIO;
	}
	if (u->sent)
		u->sent(pos + len, u->arg);
	return (ssize_t)len;
}
