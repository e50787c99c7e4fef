/* SPDX-License-Identifier: Apache-2.0 */
/* The one reader of binary formats: little-endian, checked, never casts. */
#include "store/base/cursor.h"

void ql_cursor_init(struct ql_cursor *c, const void *data, size_t len)
{
	*c = (struct ql_cursor){ .data = data, .len = len };
}

size_t ql_cursor_left(const struct ql_cursor *c)
{
	return c->len - c->pos;
}

const uint8_t *ql_cursor_bytes(struct ql_cursor *c, size_t n)
{
	const uint8_t *p;

	if (c->bad || n > c->len - c->pos) {
		c->bad = true;
		return NULL;
	}
	p = c->data + c->pos;
	c->pos += n;
	return p;
}

void ql_cursor_skip(struct ql_cursor *c, size_t n)
{
	(void)ql_cursor_bytes(c, n);
}

static uint64_t cursor_le(struct ql_cursor *c, size_t n)
{
	const uint8_t *p = ql_cursor_bytes(c, n);
	uint64_t v = 0;

	if (!p)
		return 0;
	for (size_t i = 0; i < n; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

uint8_t ql_cursor_u8(struct ql_cursor *c)
{
	return (uint8_t)cursor_le(c, 1);
}

uint16_t ql_cursor_le16(struct ql_cursor *c)
{
	return (uint16_t)cursor_le(c, 2);
}

uint32_t ql_cursor_le32(struct ql_cursor *c)
{
	return (uint32_t)cursor_le(c, 4);
}

uint64_t ql_cursor_le64(struct ql_cursor *c)
{
	return cursor_le(c, 8);
}
