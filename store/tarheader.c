/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One tar header: 512 bytes, its checksum, its fields (POSIX.1-2017, pax,
 * "ustar Interchange Format"; GNU tar manual, "Basic Tar Format"; star(5)).
 * No cast: fields are read at their offsets.
 */
#include "store/store-private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* Base-256, two's complement, big-endian (GNU, star): the first byte's high
 * bit marks it.  Returns -EINVAL where it does not fit. */
static int tar_base256(const uint8_t *p, size_t len, int64_t *ret)
{
	uint64_t fill = p[0] & 0x40 ? UINT64_MAX : 0;
	uint64_t v = fill;

	for (size_t i = 0; i < len; i++) {
		uint8_t b = p[i];

		if (i == 0)
			b = (uint8_t)(p[0] & 0x40 ? p[0] | 0x80 : p[0] & 0x7f);
		if (i + 8 < len && b != (uint8_t)fill)
			return -EINVAL;
		v = v << 8 | b;
	}
	if ((v >> 63) != (fill & 1))
		return -EINVAL;
	*ret = (int64_t)v;
	return 0;
}

/* Octal digits between blanks or NULs, or base-256.  Empty is 0. */
static int tar_number(const char *p, size_t len, int64_t *ret)
{
	uint64_t v = 0;
	size_t i = 0;

	if ((uint8_t)p[0] & 0x80)
		return tar_base256((const uint8_t *)p, len, ret);
	while (i < len && (p[i] == ' ' || p[i] == '\0'))
		i++;
	for (; i < len && p[i] >= '0' && p[i] <= '7'; i++) {
		if (v >> 60)
			return -EINVAL;
		v = v << 3 | (uint64_t)(p[i] - '0');
	}
	if (i < len && p[i] != ' ' && p[i] != '\0')
		return -EINVAL;
	*ret = (int64_t)v;
	return 0;
}

int ql_tarheader_field(const struct ql_tarheader *h, size_t off, size_t len,
		       const char *what, int64_t min, int64_t max, int64_t *ret,
		       struct ql_error *err)
{
	int64_t v;

	if (tar_number(h->raw + off, len, &v) < 0)
		return ql_error_set(err, -EBADMSG, "a header's %s is no number",
				    what);
	if (v < min || v > max)
		return ql_error_set(err, -EBADMSG,
				    "a header's %s is out of range: %" PRId64,
				    what, v);
	*ret = v;
	return 0;
}

char *ql_tarheader_string(const struct ql_tarheader *h, size_t off, size_t len)
{
	return strndup(h->raw + off, strnlen(h->raw + off, len));
}

static bool tar_checksum_ok(const char *raw)
{
	int64_t want;
	int64_t sum = 0;
	int64_t old = 0; /* some ancient writers summed signed bytes */

	for (int i = 0; i < QL_TAR_BLOCK; i++) {
		char c = i >= QL_TAR_SUM && i < QL_TAR_SUM + 8 ? ' ' : raw[i];

		sum += (uint8_t)c;
		old += (int8_t)c;
	}
	if (tar_number(raw + QL_TAR_SUM, 8, &want) < 0)
		return false;
	return want == sum || want == old;
}

int ql_tarheader_parse(const char raw[QL_TAR_BLOCK],
		       struct ql_tarheader *ret_header)
{
	if (!tar_checksum_ok(raw))
		return -EBADMSG;
	ret_header->raw = raw;
	ret_header->gnu = memcmp(raw + QL_TAR_MAGIC, "ustar  ", 8) == 0;
	ret_header->ustar = memcmp(raw + QL_TAR_MAGIC, "ustar", 6) == 0;
	ret_header->star = memcmp(raw + QL_TAR_STAR, "tar", 4) == 0;
	return 0;
}
