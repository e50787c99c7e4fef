/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bounds-checked reader over bytes from outside.  The first read past the
 * end sets `bad`; every read after it returns zeros, so a parser may read a
 * whole record and check once.
 */
#ifndef QL_BASE_CURSOR_H
#define QL_BASE_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ql_cursor {
	const uint8_t *data; /* borrowed */
	size_t len;
	size_t pos;
	bool bad;
};

void ql_cursor_init(struct ql_cursor *c, const void *data, size_t len);
size_t ql_cursor_left(const struct ql_cursor *c);

/* n bytes at the position, borrowed, or NULL (and bad) where fewer are left. */
const uint8_t *ql_cursor_bytes(struct ql_cursor *c, size_t n);
void ql_cursor_skip(struct ql_cursor *c, size_t n);
uint8_t ql_cursor_u8(struct ql_cursor *c);
uint16_t ql_cursor_le16(struct ql_cursor *c);
uint32_t ql_cursor_le32(struct ql_cursor *c);
uint64_t ql_cursor_le64(struct ql_cursor *c);

#endif
