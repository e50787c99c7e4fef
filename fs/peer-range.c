/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Conditions and ranges of requests (RFC 9110 sections 13 and 14).  A range
 * that starts behind the end is told by who knows the end.
 */
#include "fs/peer.h"

#include <string.h>
#include <strings.h>

/* Digits, as many as there are; false: none.  What is too large is as large as
 * can be. */
static bool number(const char **p, uint64_t *ret)
{
	const char *start = *p;
	uint64_t n = 0;

	for (; **p >= '0' && **p <= '9'; ++*p)
		if (__builtin_mul_overflow(n, (uint64_t)10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(**p - '0'), &n))
			n = UINT64_MAX;
	*ret = n;
	return *p > start;
}

static void blanks(const char **p)
{
	*p += strspn(*p, " \t");
}

/* One range-spec; false: it is malformed. */
static bool spec(const char **p, struct ql_peer_range *ret)
{
	uint64_t first, last;

	if (number(p, &first)) {
		if (*(*p)++ != '-')
			return false;
		*ret = (struct ql_peer_range){ QL_PEER_RANGE_FROM, first,
					       UINT64_MAX };
		if (!number(p, &last))
			return true;
		if (last < first)
			return false;
		if (last - first < UINT64_MAX - 1)
			ret->len = last - first + 1;
		return true;
	}
	if (*(*p)++ != '-' || !number(p, &last))
		return false;
	*ret = (struct ql_peer_range){ QL_PEER_RANGE_LAST, 0, last };
	return true;
}

void ql_peer_range_parse(const char *header, struct ql_peer_range *ret_range)
{
	static const struct ql_peer_range none = { QL_PEER_RANGE_NONE, 0,
						   UINT64_MAX };
	struct ql_peer_range range = none;
	const char *p = header;

	*ret_range = none;
	if (!p || strncasecmp(p, "bytes=", 6) != 0)
		return;
	p += 6;
	blanks(&p);
	if (!spec(&p, &range))
		return;
	blanks(&p);
	if (*p == 0)
		*ret_range = range;
}

bool ql_peer_etag_matches(const char *header, const char *etag)
{
	size_t len = strlen(etag);

	if (!header)
		return false;
	for (const char *p = header; *p;) {
		size_t n;

		p += strspn(p, " \t,");
		n = strcspn(p, ",");
		while (n > 0 && strchr(" \t", p[n - 1]))
			n--;
		if (n == 1 && *p == '*')
			return true;
		/* Weakly, as this header compares. */
		if (n > 2 && strncmp(p, "W/", 2) == 0) {
			p += 2;
			n -= 2;
		}
		if (n == len && strncmp(p, etag, len) == 0)
			return true;
		p += strcspn(p, ",");
	}
	return false;
}
