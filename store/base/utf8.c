/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8 as RFC 3629 has it, byte by byte. */
#include "store/base/utf8.h"

#include <stdint.h>

/* The length of the character that p begins with; 0: it is none (no
 * overlong ones, no surrogates, nothing above U+10FFFF). */
static size_t utf8_char(const uint8_t *p, size_t left)
{
	size_t n = p[0] < 0x80 ? 1 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	uint8_t min = 0x80, max = 0xbf;

	if (n == 1)
		return 1;
	if (p[0] < 0xc2 || p[0] > 0xf4 || left < n)
		return 0;
	if (p[0] == 0xe0)
		min = 0xa0;
	else if (p[0] == 0xed)
		max = 0x9f;
	else if (p[0] == 0xf0)
		min = 0x90;
	else if (p[0] == 0xf4)
		max = 0x8f;
	if (p[1] < min || p[1] > max)
		return 0;
	for (size_t i = 2; i < n; i++)
		if (p[i] < 0x80 || p[i] > 0xbf)
			return 0;
	return n;
}

bool ql_utf8_valid(const char *text, size_t len)
{
	const uint8_t *p = (const uint8_t *)text;

	while (len > 0) {
		size_t n = utf8_char(p, len);

		if (n == 0)
			return false;
		p += n;
		len -= n;
	}
	return true;
}
