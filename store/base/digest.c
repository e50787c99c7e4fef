/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SHA-256 by OpenSSL's EVP (which uses the processor's SHA instructions where
 * it has them); a hasher keeps one context and is reset, since making a
 * context costs more than hashing a small file.
 */
#include "store/base/digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/error.h"

enum { DIGIT = 16 };

/* Digits are random: a table, since branches would be mispredicted. */
static const uint8_t nibbles[256] = {
	['0'] = DIGIT + 0,  ['1'] = DIGIT + 1,	['2'] = DIGIT + 2,
	['3'] = DIGIT + 3,  ['4'] = DIGIT + 4,	['5'] = DIGIT + 5,
	['6'] = DIGIT + 6,  ['7'] = DIGIT + 7,	['8'] = DIGIT + 8,
	['9'] = DIGIT + 9,  ['a'] = DIGIT + 10, ['b'] = DIGIT + 11,
	['c'] = DIGIT + 12, ['d'] = DIGIT + 13, ['e'] = DIGIT + 14,
	['f'] = DIGIT + 15,
};

int ql_digest_from_hex(const char *hex, struct ql_digest *ret_digest)
{
	struct ql_digest d;

	/* A NUL is no digit: what is shorter is not read past its end. */
	for (size_t i = 0; i < QL_DIGEST_BYTES; i++) {
		unsigned int hi = nibbles[(uint8_t)hex[2 * i]];
		unsigned int lo = hi ? nibbles[(uint8_t)hex[2 * i + 1]] : 0;

		if (!lo)
			return -EINVAL;
		d.bytes[i] = (uint8_t)(hi << 4 | (lo & 15));
	}
	*ret_digest = d;
	return 0;
}

int ql_digest_parse(const char *text, struct ql_digest *ret_digest,
		    struct ql_error *err)
{
	const char *colon = strchr(text, ':');

	if (!colon)
		return ql_error_set(err, -EINVAL, "%.128s is not a digest",
				    text);
	if (strncmp(text, "sha256:", 7) != 0)
		return ql_error_set(err, -EOPNOTSUPP,
				    "%.160s: only sha256 digests are supported",
				    text);
	if (strlen(text) != QL_DIGEST_TEXT ||
	    ql_digest_from_hex(text + 7, ret_digest) < 0)
		return ql_error_set(
			err, -EINVAL,
			"%.160s: a sha256 digest has 64 lower-case hex digits",
			text);
	return 0;
}

char *ql_digest_hex(const struct ql_digest *d, char buf[QL_DIGEST_HEX + 1])
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < QL_DIGEST_BYTES; i++) {
		buf[2 * i] = digits[d->bytes[i] >> 4];
		buf[2 * i + 1] = digits[d->bytes[i] & 15];
	}
	buf[QL_DIGEST_HEX] = '\0';
	return buf;
}

char *ql_digest_text(const struct ql_digest *d, char buf[QL_DIGEST_TEXT + 1])
{
	memcpy(buf, "sha256:", 7);
	(void)ql_digest_hex(d, buf + 7);
	return buf;
}

int ql_digest_cmp(const struct ql_digest *a, const struct ql_digest *b)
{
	return memcmp(a->bytes, b->bytes, QL_DIGEST_BYTES);
}

bool ql_digest_equal(const struct ql_digest *a, const struct ql_digest *b)
{
	/* In place: a comparison for equality alone is four loads. */
	return memcmp(a->bytes, b->bytes, QL_DIGEST_BYTES) == 0;
}

struct ql_hasher {
	EVP_MD_CTX *ctx; /* owned */
	EVP_MD *md;	 /* owned; fetched once, a lookup per reset is slow */
};

struct ql_hasher *ql_hasher_new(void)
{
	struct ql_hasher *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->ctx = EVP_MD_CTX_new();
	h->md = EVP_MD_fetch(NULL, "SHA256", NULL);
	if (!h->ctx || !h->md || !EVP_DigestInit_ex(h->ctx, h->md, NULL)) {
		ql_hasher_free(h);
		return NULL;
	}
	return h;
}

void ql_hasher_free(struct ql_hasher *h)
{
	if (!h)
		return;
	EVP_MD_CTX_free(h->ctx);
	EVP_MD_free(h->md);
	free(h);
}

int ql_hasher_reset(struct ql_hasher *h)
{
	return EVP_DigestInit_ex(h->ctx, h->md, NULL) ? 0 : -ENOMEM;
}

void ql_hasher_update(struct ql_hasher *h, const void *data, size_t len)
{
	(void)EVP_DigestUpdate(h->ctx, data, len);
}

void ql_hasher_final(struct ql_hasher *h, struct ql_digest *ret_digest)
{
	unsigned int n = 0;

	(void)EVP_DigestFinal_ex(h->ctx, ret_digest->bytes, &n);
}

int ql_digest_of(const void *data, size_t len, struct ql_digest *ret_digest)
{
	unsigned int n = 0;

	if (!EVP_Digest(data, len, ret_digest->bytes, &n, EVP_sha256(), NULL))
		return -ENOMEM;
	return 0;
}
