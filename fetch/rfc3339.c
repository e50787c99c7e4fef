/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Times as RFC 3339 §5.6 spells them, and Go's encoding/json with it.  Days
 * are counted by the proleptic Gregorian calendar, as Go's are (H. Hinnant,
 * "chrono-Compatible Low-Level Date Algorithms", days_from_civil).
 */
#include "fetch/toc-private.h"

#include <errno.h>

/* Exactly n digits; -1: they are none. */
static int digits(const char **p, int n)
{
	int v = 0;

	for (; n > 0; n--, (*p)++) {
		if (**p < '0' || **p > '9')
			return -1;
		v = v * 10 + (**p - '0');
	}
	return v;
}

/* Digits between min and max, and the character behind them. */
static int field(const char **p, int n, int min, int max, char behind, int *ret)
{
	int v = digits(p, n);

	if (v < min || v > max || (behind && *(*p)++ != behind))
		return -EBADMSG;
	*ret = v;
	return 0;
}

static int64_t days(int y, int m, int d)
{
	/* Years begin in March. */
	int64_t year = y - (m <= 2) + 400;
	int64_t era = year / 400;
	int64_t of_era = year - era * 400;
	int64_t of_year = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;

	return (era - 1) * 146097 + of_era * 365 + of_era / 4 - of_era / 100 +
	       of_year - 719468;
}

/* ".999", of which nanoseconds count. */
static int fraction(const char **p, uint32_t *ret)
{
	uint32_t scale = 100000000, nsec = 0;
	const char *start = ++*p;

	for (; **p >= '0' && **p <= '9'; (*p)++) {
		nsec += (uint32_t)(**p - '0') * scale;
		scale /= 10;
	}
	*ret = nsec;
	return *p > start ? 0 : -EBADMSG;
}

/* "Z" or "+01:00", in seconds. */
static int zone(const char *p, int64_t *ret)
{
	int sign = *p == '-' ? -1 : 1;
	int h = 0, m = 0;

	if (*p != 'Z') {
		if (*p != '+' && *p != '-')
			return -EBADMSG;
		p++;
		if (field(&p, 2, 0, 23, ':', &h) < 0 ||
		    field(&p, 2, 0, 59, 0, &m) < 0)
			return -EBADMSG;
		p--;
	}
	*ret = sign * (h * 3600 + m * 60);
	return p[1] == '\0' ? 0 : -EBADMSG;
}

int ql_rfc3339_parse(const char *text, int64_t *ret_sec, uint32_t *ret_nsec)
{
	int y, mon, d, h, min, s;
	uint32_t nsec = 0;
	int64_t offset;

	if (field(&text, 4, 0, 9999, '-', &y) < 0 ||
	    field(&text, 2, 1, 12, '-', &mon) < 0 ||
	    field(&text, 2, 1, 31, 'T', &d) < 0 ||
	    field(&text, 2, 0, 23, ':', &h) < 0 ||
	    field(&text, 2, 0, 59, ':', &min) < 0 ||
	    field(&text, 2, 0, 60, 0, &s) < 0)
		return -EBADMSG;
	if ((*text == '.' && fraction(&text, &nsec) < 0) ||
	    zone(text, &offset) < 0)
		return -EBADMSG;
	*ret_sec = days(y, mon, d) * 86400 + h * 3600 + min * 60 + s - offset;
	*ret_nsec = nsec;
	return 0;
}
