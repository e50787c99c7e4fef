/* SPDX-License-Identifier: Apache-2.0 */
/* The one reader of binary formats: little-endian, checked, never casts. */
#include "store/base/cursor.h"

#include <endian.h>
#include <string.h>

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

/* Fixed sizes: a load each, where a loop would take ten times as long. */

uint8_t ql_cursor_u8(struct ql_cursor *c)
{
	const uint8_t *p = ql_cursor_bytes(c, 1);

	return p ? *p : 0;
}

uint16_t ql_cursor_le16(struct ql_cursor *c)
{
	const uint8_t *p = ql_cursor_bytes(c, sizeof(uint16_t));
	uint16_t v = 0;

	if (p)
		memcpy(&v, p, sizeof(v));
	return le16toh(v);
}

uint32_t ql_cursor_le32(struct ql_cursor *c)
{
	const uint8_t *p = ql_cursor_bytes(c, sizeof(uint32_t));
	uint32_t v = 0;

	if (p)
		memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

uint64_t ql_cursor_le64(struct ql_cursor *c)
{
	const uint8_t *p = ql_cursor_bytes(c, sizeof(uint64_t));
	uint64_t v = 0;

	if (p)
		memcpy(&v, p, sizeof(v));
	return le64toh(v);
}
