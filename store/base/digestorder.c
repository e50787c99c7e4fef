/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sorting digests: by their first bits, which are as good as random, into
 * about as many buckets as there are digests, and each bucket by itself.
 * Digests from outside may be none, and all alike: a large bucket is sorted as
 * anything else.
 */
#include <stdlib.h>

#include "store/base/base.h"

enum { BUCKETS_MAX = 1 << 16, SMALL = 16 };

struct rows {
	const char *first; /* borrowed */
	size_t stride;
};

static const struct ql_digest *row(const struct rows *rows, uint32_t i)
{
	return (const void *)(rows->first + rows->stride * i);
}

static int row_cmp(const void *a, const void *b, void *arg)
{
	return ql_digest_cmp(row(arg, *(const uint32_t *)a),
			     row(arg, *(const uint32_t *)b));
}

static size_t bucket_of(const struct ql_digest *d, size_t buckets)
{
	size_t head = (size_t)d->bytes[0] << 8 | d->bytes[1];

	return head / (BUCKETS_MAX / buckets);
}

static void bucket_sort(struct rows *rows, uint32_t *order, size_t n)
{
	if (n > SMALL) {
		qsort_r(order, n, sizeof(*order), row_cmp, rows);
		return;
	}
	for (size_t i = 1; i < n; i++) {
		uint32_t at = order[i];
		size_t k = i;

		for (; k > 0 && row_cmp(&order[k - 1], &at, rows) > 0; k--)
			order[k] = order[k - 1];
		order[k] = at;
	}
}

uint32_t *ql_digest_order(const struct ql_digest *first, uint32_t n,
			  size_t stride)
{
	struct rows rows = { (const void *)first, stride };
	_cleanup_free_ uint32_t *ends = NULL;
	uint32_t *order = calloc((size_t)n + 1, sizeof(*order));
	size_t buckets = 1;

	while (buckets < n && buckets < BUCKETS_MAX)
		buckets *= 2;
	ends = calloc(buckets + 1, sizeof(*ends));
	if (!order || !ends) {
		free(order);
		return NULL;
	}
	/* How many are in each, where each starts, and, filled, where it
	 * ends. */
	for (uint32_t i = 0; i < n; i++)
		ends[bucket_of(row(&rows, i), buckets) + 1]++;
	for (size_t b = 1; b <= buckets; b++)
		ends[b] += ends[b - 1];
	for (uint32_t i = 0; i < n; i++)
		order[ends[bucket_of(row(&rows, i), buckets)]++] = i;
	for (size_t b = 0; b < buckets; b++) {
		uint32_t start = b > 0 ? ends[b - 1] : 0;

		bucket_sort(&rows, order + start, ends[b] - start);
	}
	return order;
}
