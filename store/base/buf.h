/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growable byte buffer that never grows above a maximum stated at its
 * initialisation (after curl's dynbuf).  Always followed by a NUL byte that
 * len does not count, so that data can be used as a string.
 */
#ifndef QL_BASE_BUF_H
#define QL_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

struct ql_buf {
	char *data; /* owned; NULL while nothing was added */
	size_t len;
	size_t cap;
	size_t max; /* bytes, the NUL not counted */
};

#define QL_BUF_INIT(maximum)                                                   \
	{                                                                      \
		NULL, 0, 0, (maximum)                                          \
	}

void ql_buf_init(struct ql_buf *buf, size_t max);
void ql_buf_release(struct ql_buf *buf); /* frees; may be used again */
void ql_buf_clear(struct ql_buf *buf);	 /* empties, keeps the memory */

/* 0, -ENOMEM, or -EFBIG where it would grow above its maximum. */
int ql_buf_reserve(struct ql_buf *buf, size_t extra);
int ql_buf_add(struct ql_buf *buf, const void *data, size_t len);
int ql_buf_adds(struct ql_buf *buf, const char *str);
int ql_buf_addf(struct ql_buf *buf, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
int ql_buf_add_u8(struct ql_buf *buf, uint8_t v);
int ql_buf_add_le32(struct ql_buf *buf, uint32_t v);
int ql_buf_add_le64(struct ql_buf *buf, uint64_t v);

/* "" where nothing was added; borrowed. */
const char *ql_buf_str(const struct ql_buf *buf);

/* The data as an owned string (never NULL but for lack of memory). */
char *ql_buf_take(struct ql_buf *buf);

#define _cleanup_buf_ __attribute__((cleanup(ql_buf_release)))

#endif
