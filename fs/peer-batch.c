/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The request of a batch, line by line as it comes (grammar: fetch/peers.h).
 * Nothing of it is kept but what a line means; after the first error, nothing.
 */
#include "fs/peer.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

void ql_peer_batch_release(struct ql_peer_batch *batch)
{
	free(batch->parts);
	*batch = (struct ql_peer_batch){ 0 };
}

static int refuse(struct ql_peer_batch *batch, int code, const char *what,
		  struct ql_error *err)
{
	batch->error = code;
	free(batch->parts);
	batch->parts = NULL;
	if (code == -EINVAL)
		return ql_error_set(err, code, "line %zu: %s", batch->n + 1,
				    what);
	return ql_error_set(err, code, "%s", what);
}

/* ---- a line ---- */

/* Digits up to `end`, and nothing else. */
static bool number(const char *text, const char *end, uint64_t *ret)
{
	uint64_t n = 0;

	if (text >= end)
		return false;
	for (; text < end; text++)
		if (*text < '0' || *text > '9' ||
		    __builtin_mul_overflow(n, (uint64_t)10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*text - '0'), &n))
			return false;
	*ret = n;
	return true;
}

/* The word at *p, which ends at a space or the end; *p is behind that. */
static const char *word(const char **p, const char *end)
{
	const char *space = memchr(*p, ' ', (size_t)(end - *p));
	const char *stop = space ? space : end;

	*p = space ? space + 1 : end;
	return stop;
}

static const char *line_parse(const char *line, size_t len,
			      struct ql_peer_batch_part *part)
{
	static const struct {
		const char *name;
		enum ql_peer_kind kind;
	} kinds[] = { { "objects", QL_PEER_OBJECT },
		      { "blobs", QL_PEER_BLOB } };
	const char *end = line + len, *start = line;
	const char *stop = word(&line, end);
	char digest[QL_DIGEST_TEXT + 1];
	size_t i;

	for (i = 0; i < 2; i++)
		if (strlen(kinds[i].name) == (size_t)(stop - start) &&
		    memcmp(kinds[i].name, start, (size_t)(stop - start)) == 0)
			break;
	if (i == 2)
		return "objects or blobs are asked for";
	part->kind = kinds[i].kind;
	start = line;
	stop = word(&line, end);
	if (stop - start != QL_DIGEST_TEXT)
		return "no digest";
	memcpy(digest, start, QL_DIGEST_TEXT);
	digest[QL_DIGEST_TEXT] = 0;
	if (ql_digest_parse(digest, &part->digest, NULL) < 0)
		return "no digest";
	start = line;
	stop = word(&line, end);
	if (!number(start, stop, &part->offset) ||
	    !number(line, end, &part->len))
		return "an offset and a length are wanted";
	return NULL;
}

static int part_add(struct ql_peer_batch *batch, struct ql_error *err)
{
	struct ql_peer_batch_part part = { 0 };
	const char *wrong = line_parse(batch->line, batch->line_len, &part);

	if (wrong)
		return refuse(batch, -EINVAL, wrong, err);
	if (batch->n == QL_PEER_BATCH_MAX)
		return refuse(batch, -EFBIG, "too many parts", err);
	if (batch->n == batch->cap) {
		size_t cap = batch->cap ? 2 * batch->cap : 64;
		struct ql_peer_batch_part *parts =
			reallocarray(batch->parts, cap, sizeof(*parts));

		if (!parts)
			return refuse(batch, -ENOMEM, "out of memory", err);
		batch->parts = parts;
		batch->cap = cap;
	}
	batch->parts[batch->n++] = part;
	batch->line_len = 0;
	return 0;
}

/* ---- all of it ---- */

int ql_peer_batch_add(struct ql_peer_batch *batch, const char *data, size_t len,
		      struct ql_error *err)
{
	const char *end = data + len;

	if (batch->error < 0)
		return batch->error;
	batch->bytes += len;
	if (batch->bytes > QL_PEER_BATCH_BYTES)
		return refuse(batch, -EFBIG, "too many bytes", err);
	while (data < end) {
		const char *nl = memchr(data, '\n', (size_t)(end - data));
		size_t n = (size_t)((nl ? nl : end) - data);
		int r;

		if (n > sizeof(batch->line) - batch->line_len)
			return refuse(batch, -EINVAL, "too long", err);
		memcpy(batch->line + batch->line_len, data, n);
		batch->line_len += n;
		data += n + (nl ? 1 : 0);
		r = nl ? part_add(batch, err) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

int ql_peer_batch_end(struct ql_peer_batch *batch, struct ql_error *err)
{
	if (batch->error < 0)
		return batch->error;
	if (batch->line_len > 0)
		return refuse(batch, -EINVAL, "has no end", err);
	return 0;
}
