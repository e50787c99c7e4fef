/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SHA-256 digests and their OCI spelling "sha256:<64 lower-case hex digits>"
 * (OCI image-spec 1.1, descriptor.md, "Digests").  Other algorithms are
 * refused by name.
 */
#ifndef QL_BASE_DIGEST_H
#define QL_BASE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ql_error;

enum {
	QL_DIGEST_BYTES = 32,
	QL_DIGEST_HEX = 64,  /* digits, NUL not counted */
	QL_DIGEST_TEXT = 71, /* "sha256:" and the digits, NUL not counted */
};

struct ql_digest {
	uint8_t bytes[QL_DIGEST_BYTES];
};

/* -EINVAL (not a digest) or -EOPNOTSUPP (another algorithm), described. */
int ql_digest_parse(const char *text, struct ql_digest *ret_digest,
		    struct ql_error *err);
/* 64 hex digits, exactly, not NUL-terminated.  0 or -EINVAL. */
int ql_digest_from_hex(const char *hex, struct ql_digest *ret_digest);

/* Both return buf, NUL-terminated. */
char *ql_digest_hex(const struct ql_digest *d, char buf[QL_DIGEST_HEX + 1]);
char *ql_digest_text(const struct ql_digest *d, char buf[QL_DIGEST_TEXT + 1]);

bool ql_digest_equal(const struct ql_digest *a, const struct ql_digest *b);
int ql_digest_cmp(const struct ql_digest *a, const struct ql_digest *b);
/* Of n digests that lie stride bytes apart: their numbers in ascending order,
 * the same digest's in the order in which they come; owned.  NULL: out of
 * memory. */
uint32_t *ql_digest_order(const struct ql_digest *first, uint32_t n,
			  size_t stride);

/* Of a whole buffer.  0 or -ENOMEM. */
int ql_digest_of(const void *data, size_t len, struct ql_digest *ret_digest);

/* Streaming.  One thread at a time; _reset() starts over. */
struct ql_hasher;
struct ql_hasher *ql_hasher_new(void); /* NULL: out of memory */
void ql_hasher_free(struct ql_hasher *h);
int ql_hasher_reset(struct ql_hasher *h); /* 0 or -ENOMEM: not to be used */
void ql_hasher_update(struct ql_hasher *h, const void *data, size_t len);
/* After it the hasher must be reset before it is used again. */
void ql_hasher_final(struct ql_hasher *h, struct ql_digest *ret_digest);

#endif
