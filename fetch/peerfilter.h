/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A set of digests that may say of one in some hundreds, wrongly, that it has
 * it, in a byte and a half for each: a Bloom filter (Bloom, CACM 13(7), 1970).
 * Pure: no files, no locks, no network.
 *
 * Its text (little-endian) is what GET /v1/filter gives:
 *
 *   "QLBF"  u32 version (1)  u32 k  u32 0  u64 bits  u64 digests in it
 *   bits / 8 bytes; bit b is 1 << (b % 8) of byte b / 8
 *
 * Digests are uniform, so they are hashed by nobody: hash i (0 … k - 1) is the
 * u32 at byte 4 * i of the digest, and its bit is hash * bits >> 32.
 */
#ifndef QL_PEERFILTER_H
#define QL_PEERFILTER_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/base.h"

enum {
	QL_FILTER_HEADER = 32, /* bytes */
	QL_FILTER_VERSION = 1,
	QL_FILTER_K_MAX = QL_DIGEST_BYTES / 4,
	QL_FILTER_BITS_MAX = 4 << 23, /* 4 MiB */
	QL_FILTER_MAX = QL_FILTER_HEADER + QL_FILTER_BITS_MAX / 8,
};

struct ql_filter {
	uint8_t *bits; /* owned */
	uint64_t n_bits, n_digests;
	unsigned int k;
};

/* An empty one, made for so many digests: of those that are not in it, it has
 * 0.3 % with so many in it; with more, more.  -ENOMEM. */
int ql_filter_init(struct ql_filter *filter, uint64_t digests);
void ql_filter_release(struct ql_filter *filter);
#define _cleanup_filter_ __attribute__((cleanup(ql_filter_release)))
void ql_filter_add(struct ql_filter *filter, const struct ql_digest *digest);
bool ql_filter_has(const struct ql_filter *filter,
		   const struct ql_digest *digest);
/* -ENOMEM, -EFBIG: as ql_buf_add(). */
int ql_filter_print(const struct ql_filter *filter, struct ql_buf *buf);
/* -EBADMSG: it is none.  -EPROTONOSUPPORT: of a version that is not known. */
int ql_filter_parse(const void *data, size_t len, struct ql_filter *ret_filter,
		    struct ql_error *err);

#endif
