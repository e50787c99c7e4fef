/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A blob of a registry as a stream that survives its connections: where one
 * breaks, the next asks for the rest by Range (RFC 9110 §14.2).  A registry
 * may answer that with the whole (200), of which what we have is skipped.
 */
#include "fetch/fetch-private.h"

#include <errno.h>
#include <inttypes.h>

enum {
	PROGRESS = 1 << 20, /* bytes that make up for a failure */
	SKIP_CHUNK = 16 << 10,
};

struct blob_stream {
	struct ql_stream base;
	struct ql_registry *reg; /* borrowed */
	char *path;		 /* owned */
	uint64_t size;		 /* as the manifest states it */
	uint64_t end;		 /* of what is wanted */
	uint64_t pos;		 /* up to where the reader has it */
	uint64_t last_failure;	 /* pos at that time */
	unsigned int failures;	 /* since there was progress */
	struct ql_http_response rs;
};

/* Reads n bytes away. */
static int skip(struct ql_stream *body, uint64_t n, struct ql_error *err)
{
	char chunk[SKIP_CHUNK];

	while (n > 0) {
		size_t len = n < sizeof(chunk) ? (size_t)n : sizeof(chunk);
		ssize_t got = ql_stream_read(body, chunk, len, err);

		if (got < 0)
			return (int)got;
		if (got == 0)
			return ql_error_set(err, -ECONNRESET,
					    "the blob ends early");
		n -= (uint64_t)got;
	}
	return 0;
}

static int answer_check(struct blob_stream *b, struct ql_error *err)
{
	if (b->rs.status == 206 && b->rs.range_start != b->pos)
		return ql_error_set(err, -EBADMSG,
				    "the registry sends another range than "
				    "was asked for");
	if (b->rs.status == 200 && b->rs.length != UINT64_MAX &&
	    b->rs.length != b->size)
		return ql_error_set(err, -EBADMSG,
				    "the registry has %" PRIu64
				    " bytes and the manifest states %" PRIu64,
				    b->rs.length, b->size);
	return 0;
}

/* Asks for what is missing. */
static int blob_connect(struct blob_stream *b, struct ql_error *err)
{
	int r;
	uint64_t left = b->end - b->pos;
	bool part = b->pos > 0 || b->end < b->size;
	/* Where it ends is said: not all know "bytes=N-". */
	struct ql_range range = { b->pos, part ? left : 0,
				  left > QL_BLOB_WINDOW };

	ql_http_response_release(&b->rs);
	r = ql_registry_get(b->reg, b->path, NULL, &range, &b->rs, err);
	if (r < 0)
		return r;
	r = answer_check(b, err);
	if (r == 0 && b->rs.status == 200)
		r = skip(b->rs.body, b->pos, err);
	return r;
}

/* After a failure: 0 once connected again, or the error to give up with. */
static int blob_resume(struct blob_stream *b, int error, struct ql_error *err)
{
	unsigned int most = ql_registry_retries(b->reg);

	while (ql_http_error_transient(error)) {
		unsigned int tries = b->failures;

		if (b->pos - b->last_failure >= PROGRESS)
			b->failures = 0;
		b->last_failure = b->pos;
		if (b->failures >= most)
			return error;
		/* A timeout has taken long enough to count for half of them. */
		b->failures += error == -ETIMEDOUT ? (most + 1) / 2 : 1;
		error = ql_registry_pause(b->reg, tries, 0, err);
		if (error < 0)
			return error;
		ql_debug("msg=resuming path=%s at=%" PRIu64, b->path, b->pos);
		error = blob_connect(b, err);
		if (error == 0)
			return 0;
	}
	return error;
}

static ssize_t blob_read(struct ql_stream *s, void *buf, size_t len,
			 struct ql_error *err)
{
	struct blob_stream *b = (struct blob_stream *)s;

	if (b->end < b->size && len > b->end - b->pos)
		len = (size_t)(b->end - b->pos);
	if (len == 0)
		return 0; /* a part: what follows it is not of interest */
	for (;;) {
		ssize_t n = ql_stream_read(b->rs.body, buf, len, err);
		int r;

		if (n > 0) {
			b->pos += (uint64_t)n;
			return n;
		}
		if (n == -ECANCELED)
			return n;
		if (b->pos >= b->end)
			return 0; /* how the connection ends is no matter */
		if (n == 0 && b->rs.length != UINT64_MAX && b->end == b->size)
			return 0; /* short by its own account */
		if (n == 0)
			n = ql_error_set(err, -ECONNRESET,
					 "the registry sends %" PRIu64
					 " bytes and the manifest states "
					 "%" PRIu64,
					 b->pos, b->size);
		r = blob_resume(b, (int)n, err);
		if (r < 0)
			return r;
	}
}

static void blob_free(struct ql_stream *s)
{
	struct blob_stream *b = (struct blob_stream *)s;

	ql_http_response_release(&b->rs);
	free(b->path);
	free(b);
}

static const struct ql_stream_ops blob_ops = { blob_read, blob_free };

int ql_registryblob_open(struct ql_registry *reg, const struct ql_descriptor *d,
			 uint64_t offset, uint64_t len,
			 struct ql_stream **ret_stream, struct ql_error *err)
{
	char digest[QL_DIGEST_TEXT + 1];
	struct blob_stream *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return ql_error_nomem(err);
	b->base.ops = &blob_ops;
	b->reg = reg;
	b->size = d->size;
	b->pos = offset;
	b->last_failure = offset;
	b->end = len < d->size - offset ? offset + len : d->size;
	b->path = ql_strf("blobs/%s", ql_digest_text(&d->digest, digest));
	r = b->path ? blob_connect(b, err) : ql_error_nomem(err);
	if (r == -ENOENT && d->n_urls > 0)
		r = ql_error_prefix(err,
				    "not distributed by the registry, but at "
				    "%s",
				    d->urls[0]);
	if (r < 0) {
		blob_free(&b->base);
		return r;
	}
	*ret_stream = &b->base;
	return 0;
}
