/* SPDX-License-Identifier: Apache-2.0 */
/* A growable buffer with a stated maximum; doubles, so that adding is O(1). */
#include "store/base/buf.h"

#include <endian.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUF_FIRST = 64 };

void ql_buf_init(struct ql_buf *buf, size_t max)
{
	*buf = (struct ql_buf)QL_BUF_INIT(max);
}

void ql_buf_release(struct ql_buf *buf)
{
	free(buf->data);
	ql_buf_init(buf, buf->max);
}

void ql_buf_clear(struct ql_buf *buf)
{
	buf->len = 0;
	if (buf->data)
		buf->data[0] = '\0';
}

int ql_buf_reserve(struct ql_buf *buf, size_t extra)
{
	size_t need;
	size_t cap;
	char *data;

	if (__builtin_add_overflow(buf->len, extra, &need) || need > buf->max ||
	    need > SIZE_MAX / 2)
		return -EFBIG;
	if (buf->data && need < buf->cap)
		return 0;
	cap = buf->cap ? buf->cap : BUF_FIRST;
	while (cap <= need)
		cap *= 2;
	data = realloc(buf->data, cap);
	if (!data)
		return -ENOMEM;
	data[buf->len] = '\0';
	buf->data = data;
	buf->cap = cap;
	return 0;
}

int ql_buf_add(struct ql_buf *buf, const void *data, size_t len)
{
	int r = ql_buf_reserve(buf, len);

	if (r < 0)
		return r;
	if (len > 0)
		memcpy(buf->data + buf->len, data, len);
	buf->len += len;
	buf->data[buf->len] = '\0';
	return 0;
}

int ql_buf_adds(struct ql_buf *buf, const char *str)
{
	return ql_buf_add(buf, str, strlen(str));
}

int ql_buf_addf(struct ql_buf *buf, const char *fmt, ...)
{
	va_list ap;
	int n;
	int r;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		return -EINVAL;
	r = ql_buf_reserve(buf, (size_t)n);
	if (r < 0)
		return r;
	va_start(ap, fmt);
	(void)vsnprintf(buf->data + buf->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	buf->len += (size_t)n;
	return 0;
}

int ql_buf_add_u8(struct ql_buf *buf, uint8_t v)
{
	return ql_buf_add(buf, &v, 1);
}

int ql_buf_add_le32(struct ql_buf *buf, uint32_t v)
{
	v = htole32(v);
	return ql_buf_add(buf, &v, sizeof(v));
}

int ql_buf_add_le64(struct ql_buf *buf, uint64_t v)
{
	v = htole64(v);
	return ql_buf_add(buf, &v, sizeof(v));
}

const char *ql_buf_str(const struct ql_buf *buf)
{
	return buf->data ? buf->data : "";
}

char *ql_buf_take(struct ql_buf *buf)
{
	char *data;

	if (!buf->data)
		return strdup("");
	data = buf->data;
	ql_buf_init(buf, buf->max);
	return data;
}
