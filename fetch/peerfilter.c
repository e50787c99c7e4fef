/* SPDX-License-Identifier: Apache-2.0 */
/* A Bloom filter over digests; its grammar and its hashes: peerfilter.h. */
#include "fetch/peerfilter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* k = bits / n * ln 2 is the best there is; (1 - e^(-k n / bits))^k of what is
 * not in it, it has all the same. */
enum { BITS_EACH = 12, BITS_LEAST = 512 };
#define MAGIC "QLBF"

int ql_filter_init(struct ql_filter *filter, uint64_t digests)
{
	uint64_t bits = digests < QL_FILTER_BITS_MAX / BITS_EACH
				? digests * BITS_EACH
				: QL_FILTER_BITS_MAX;

	bits = bits < BITS_LEAST ? BITS_LEAST : (bits + 7) & ~UINT64_C(7);
	*filter = (struct ql_filter){ .n_bits = bits, .k = QL_FILTER_K_MAX };
	filter->bits = calloc(bits / 8, 1);
	return filter->bits ? 0 : -ENOMEM;
}

void ql_filter_release(struct ql_filter *filter)
{
	free(filter->bits);
	*filter = (struct ql_filter){ 0 };
}

/* Of hash i; below n_bits, which is below 2^32. */
static uint64_t bit_of(const struct ql_filter *filter,
		       const struct ql_digest *digest, unsigned int i)
{
	const uint8_t *p = digest->bytes + 4UL * i;
	uint64_t hash = (uint64_t)p[0] | (uint64_t)p[1] << 8 |
			(uint64_t)p[2] << 16 | (uint64_t)p[3] << 24;

	return hash * filter->n_bits >> 32;
}

void ql_filter_add(struct ql_filter *filter, const struct ql_digest *digest)
{
	for (unsigned int i = 0; i < filter->k; i++) {
		uint64_t bit = bit_of(filter, digest, i);

		filter->bits[bit / 8] |= (uint8_t)(1U << (bit % 8));
	}
	filter->n_digests++;
}

bool ql_filter_has(const struct ql_filter *filter,
		   const struct ql_digest *digest)
{
	for (unsigned int i = 0; i < filter->k; i++) {
		uint64_t bit = bit_of(filter, digest, i);

		if (!(filter->bits[bit / 8] & 1U << (bit % 8)))
			return false;
	}
	return filter->k > 0;
}

int ql_filter_print(const struct ql_filter *filter, struct ql_buf *buf)
{
	int r = ql_buf_reserve(buf, QL_FILTER_HEADER + filter->n_bits / 8);

	if (r < 0)
		return r;
	(void)ql_buf_add(buf, MAGIC, 4);
	(void)ql_buf_add_le32(buf, QL_FILTER_VERSION);
	(void)ql_buf_add_le32(buf, filter->k);
	(void)ql_buf_add_le32(buf, 0);
	(void)ql_buf_add_le64(buf, filter->n_bits);
	(void)ql_buf_add_le64(buf, filter->n_digests);
	return ql_buf_add(buf, filter->bits, filter->n_bits / 8);
}

int ql_filter_parse(const void *data, size_t len, struct ql_filter *ret_filter,
		    struct ql_error *err)
{
	struct ql_filter filter = { 0 };
	struct ql_cursor c;
	const uint8_t *magic, *bits;
	uint32_t version, zero;

	ql_cursor_init(&c, data, len);
	magic = ql_cursor_bytes(&c, 4);
	version = ql_cursor_le32(&c);
	filter.k = ql_cursor_le32(&c);
	zero = ql_cursor_le32(&c);
	filter.n_bits = ql_cursor_le64(&c);
	filter.n_digests = ql_cursor_le64(&c);
	if (c.bad || memcmp(magic, MAGIC, 4) != 0)
		return ql_error_set(err, -EBADMSG, "not a filter");
	if (version != QL_FILTER_VERSION)
		return ql_error_set(err, -EPROTONOSUPPORT,
				    "a filter of version %u", version);
	if (filter.k < 1 || filter.k > QL_FILTER_K_MAX || zero != 0 ||
	    filter.n_bits < 8 || filter.n_bits > QL_FILTER_BITS_MAX ||
	    filter.n_bits % 8 != 0 || ql_cursor_left(&c) != filter.n_bits / 8)
		return ql_error_set(err, -EBADMSG, "a malformed filter");
	bits = ql_cursor_bytes(&c, filter.n_bits / 8);
	filter.bits = malloc(filter.n_bits / 8);
	if (!filter.bits || !bits) {
		free(filter.bits);
		return ql_error_nomem(err);
	}
	memcpy(filter.bits, bits, filter.n_bits / 8);
	*ret_filter = filter;
	return 0;
}
