/* SPDX-License-Identifier: Apache-2.0 */
/* The table of policies. */
#include "store/cache/cache-private.h"

#include <string.h>

static const struct ql_cache_policy *const others[] = {
	&ql_cache_lru,	  &ql_cache_lfu,   &ql_cache_gdsf,     &ql_cache_arc,
	&ql_cache_s3fifo, &ql_cache_sieve, &ql_cache_wtinylfu,
};
enum { OTHERS = sizeof(others) / sizeof(others[0]) };

const struct ql_cache_policy *ql_cache_policy_at(size_t i)
{
	if (i < OTHERS)
		return others[i];
	for (size_t n = 0; ql_cache_ours[n].name; n++)
		if (n == i - OTHERS)
			return &ql_cache_ours[n];
	return NULL;
}

const struct ql_cache_policy *ql_cache_policy_find(const char *name)
{
	const struct ql_cache_policy *p = NULL;

	for (size_t i = 0; (p = ql_cache_policy_at(i)) != NULL; i++)
		if (strcmp(p->name, name) == 0)
			break;
	return p;
}

const char *ql_cache_policy_name(const struct ql_cache_policy *p)
{
	return p->name;
}

const char *ql_cache_policy_source(const struct ql_cache_policy *p)
{
	return p->source;
}

bool ql_cache_policy_is_part(const struct ql_cache_policy *p)
{
	return p->part;
}
