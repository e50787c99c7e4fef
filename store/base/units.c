/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sizes, shares, rates and times as people write them: a decimal number, an
 * optional space, a unit.  A fraction is taken to a whole number of bytes or
 * nanoseconds, downwards.
 */
#include "store/base/units.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

struct unit {
	const char *name;
	uint64_t factor;
};

enum { DIGITS_MAX = 9 }; /* behind the point */

/* value * factor + fraction / 10^digits * factor */
static int scale(uint64_t value, uint64_t fraction, unsigned int digits,
		 uint64_t factor, uint64_t *ret)
{
	uint64_t power = 1, whole, part;

	while (digits-- > 0)
		power *= 10;
	if (__builtin_mul_overflow(value, factor, &whole))
		return -ERANGE;
	part = (uint64_t)((unsigned __int128)fraction * factor / power);
	return __builtin_add_overflow(whole, part, ret) ? -ERANGE : 0;
}

static int digits(const char **p, unsigned int max, uint64_t *ret_value,
		  unsigned int *ret_n)
{
	uint64_t v = 0;
	unsigned int n = 0;

	for (; isdigit((unsigned char)**p); (*p)++, n++) {
		if (n == max)
			return -ERANGE;
		if (__builtin_mul_overflow(v, (uint64_t)10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(**p - '0'), &v))
			return -ERANGE;
	}
	*ret_value = v;
	*ret_n = n;
	return n > 0 ? 0 : -EINVAL;
}

static int parse(const char *text, const struct unit *units, uint64_t *ret)
{
	uint64_t value, fraction = 0;
	unsigned int n, n_fraction = 0;
	int r = digits(&text, 20, &value, &n);

	if (r == 0 && *text == '.') {
		text++;
		r = digits(&text, DIGITS_MAX, &fraction, &n_fraction);
	}
	if (r < 0)
		return r;
	if (*text == ' ' && text[1])
		text++;
	for (; units->name; units++)
		if (strcmp(units->name, text) == 0)
			return scale(value, fraction, n_fraction, units->factor,
				     ret);
	return -EINVAL;
}

int ql_units_bytes(const char *text, uint64_t *ret_bytes)
{
	static const struct unit units[] = {
		{ "", 1 },
		{ "B", 1 },
		{ "kB", 1000 },
		{ "KB", 1000 },
		{ "MB", 1000000 },
		{ "GB", 1000000000 },
		{ "TB", 1000000000000 },
		{ "KiB", (uint64_t)1 << 10 },
		{ "MiB", (uint64_t)1 << 20 },
		{ "GiB", (uint64_t)1 << 30 },
		{ "TiB", (uint64_t)1 << 40 },
		{ NULL, 0 },
	};

	return parse(text, units, ret_bytes);
}

int ql_units_rate(const char *text, uint64_t *ret_bytes_per_second)
{
	size_t len = strlen(text);
	char size[64];

	if (strcmp(text, "unlimited") == 0) {
		*ret_bytes_per_second = UINT64_MAX;
		return 0;
	}
	if (len >= 2 && strcmp(text + len - 2, "/s") == 0)
		len -= 2;
	if (len >= sizeof(size))
		return -EINVAL;
	memcpy(size, text, len);
	size[len] = 0;
	return ql_units_bytes(size, ret_bytes_per_second);
}

int ql_units_duration(const char *text, uint64_t *ret_ns)
{
	static const struct unit units[] = {
		{ "", 1000000000 },
		{ "ms", 1000000 },
		{ "s", 1000000000 },
		{ "m", 60 * (uint64_t)1000000000 },
		{ "min", 60 * (uint64_t)1000000000 },
		{ "h", 3600 * (uint64_t)1000000000 },
		{ "d", 86400 * (uint64_t)1000000000 },
		{ NULL, 0 },
	};

	return parse(text, units, ret_ns);
}

int ql_units_link(const char *text, uint64_t *ret_bytes_per_second)
{
	static const struct unit units[] = {
		{ "bit/s", 1 },
		{ "bit", 1 },
		{ "kbit/s", 1000 },
		{ "kbit", 1000 },
		{ "Mbit/s", 1000000 },
		{ "Mbit", 1000000 },
		{ "Gbit/s", 1000000000 },
		{ "Gbit", 1000000000 },
		{ NULL, 0 },
	};
	uint64_t bits;
	int r = parse(text, units, &bits);

	if (r == 0)
		*ret_bytes_per_second = bits / 8;
	return r;
}

int ql_units_share(const char *text, uint64_t *ret_millionths)
{
	static const struct unit units[] = {
		{ "%", 10000 },
		{ NULL, 0 },
	};

	return parse(text, units, ret_millionths);
}
