/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers and names as people read them. */
#include "tools/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

char *ql_human_bytes(uint64_t bytes, char buf[QL_HUMAN])
{
	static const char units[] = "kMGTPE";
	double v = (double)bytes;
	int u = -1;

	while (v >= 999.5 && u < 5) {
		v /= 1000;
		u++;
	}
	if (u < 0)
		(void)snprintf(buf, QL_HUMAN, "%" PRIu64 " B", bytes);
	else
		(void)snprintf(buf, QL_HUMAN,
			       v < 9.95 ? "%.1f %cB" : "%.0f %cB", v, units[u]);
	return buf;
}

char *ql_human_ago(uint64_t when, char buf[32])
{
	static const struct {
		uint64_t seconds;
		const char *name;
	} units[] = {
		{ 86400, "day" },
		{ 3600, "hour" },
		{ 60, "minute" },
		{ 1, "second" },
	};
	uint64_t now = (uint64_t)time(NULL);
	uint64_t age = now > when ? now - when : 0;

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		uint64_t n = age / units[i].seconds;

		if (n == 0)
			continue;
		(void)snprintf(buf, 32, "%" PRIu64 " %s%s ago", n,
			       units[i].name, n == 1 ? "" : "s");
		return buf;
	}
	(void)snprintf(buf, 32, "now");
	return buf;
}

/* U+0080 to U+009F: control characters of two bytes, such as CSI. */
static bool is_c1(const char *p, const char *end)
{
	return end - p >= 2 && (unsigned char)p[0] == 0xc2 &&
	       (unsigned char)p[1] >= 0x80 && (unsigned char)p[1] < 0xa0;
}

char *ql_human_name(const char *name, size_t len)
{
	char *out = malloc(4 * len + 1);
	size_t n = 0;

	if (!out)
		return NULL;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)name[i];

		if (is_c1(name + i, name + len))
			n += (size_t)snprintf(out + n, 9, "\\302\\%03o",
					      (unsigned char)name[++i]);
		else if (c >= 0x20 && c != 0x7f && c != '\\')
			out[n++] = (char)c;
		else
			n += (size_t)snprintf(out + n, 5, "\\%03o", c);
	}
	out[n] = '\0';
	return out;
}
