/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests: a blob's table of contents against the blob.  Every span is
 * decoded by itself, every chunk is hashed, and every file is put together of
 * its chunks and hashed.
 */
#ifndef QL_TEST_SPANS_H
#define QL_TEST_SPANS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fetch/fetch-private.h"

struct spans_blob {
	int fd; /* borrowed; -1: in memory */
	const uint8_t *data;
	uint64_t size;	   /* of data */
	uint64_t pos, end; /* what is read next; of the span alone */
	uint8_t *raw;	   /* owned; what the spans decode to */
	uint64_t raw_size;
	uint8_t *at; /* in raw: where the next byte goes */
	uint64_t room;
};
#define _cleanup_spans_ __attribute__((cleanup(spans_release)))

static inline void spans_release(struct spans_blob *b)
{
	free(b->raw);
	b->raw = NULL;
}

struct spans_stats {
	uint64_t windows;   /* bytes */
	uint64_t raw_max;   /* bytes of the longest span */
	uint32_t no_window; /* checkpoints that need none */
};

/* Gives no byte that the span does not say it needs. */
static inline ssize_t spans_read(void *arg, void *buf, size_t len,
				 struct ql_error *err)
{
	struct spans_blob *b = arg;
	ssize_t n;

	(void)err;
	if (len > b->end - b->pos)
		len = (size_t)(b->end - b->pos);
	if (b->fd >= 0) {
		n = ql_pread_full(b->fd, buf, len, b->pos);
	} else {
		if (b->pos > b->size || len > b->size - b->pos)
			return 0;
		memcpy(buf, b->data + b->pos, len);
		n = (ssize_t)len;
	}
	if (n > 0)
		b->pos += (uint64_t)n;
	return n;
}

static inline int spans_write(void *arg, const void *data, size_t len,
			      struct ql_error *err)
{
	struct spans_blob *b = arg;

	if (len > b->room)
		return ql_error_set(err, -EOVERFLOW, "more than a span says");
	memcpy(b->at, data, len);
	b->at += len;
	b->room -= len;
	return 0;
}

/* Decodes spans first … first + n - 1 with one decoder. */
static inline int spans_run(const struct ql_toc *toc, uint32_t first,
			    uint32_t n, struct spans_blob *b,
			    struct ql_error *err)
{
	struct ql_span_io io = { spans_read, spans_write, b };
	_cleanup_(ql_span_decoder_freep) struct ql_span_decoder *d = NULL;
	struct ql_toc_span s, last;
	int r = ql_toc_span(toc, first, &s);

	if (r == 0)
		r = ql_toc_span(toc, first + n - 1, &last);
	if (r < 0)
		return ql_error_set(err, r, "span %u", first);
	b->pos = ql_span_start(&s);
	b->end = last.offset + last.len;
	r = ql_span_decoder_new(&io, b->pos, &d, err);
	for (uint32_t i = 0; i < n && r == 0; i++) {
		r = ql_toc_span(toc, first + i, &s);
		if (r < 0 || s.raw > b->raw_size ||
		    s.raw_len > b->raw_size - s.raw)
			return ql_error_set(err, -EBADMSG, "span %u", i);
		b->at = b->raw + s.raw;
		b->room = s.raw_len;
		r = ql_span_decode(d, &s, err);
		if (r == 0 && b->room > 0)
			r = ql_error_set(err, -EBADMSG, "too little");
	}
	return r;
}

static inline int spans_file(const struct ql_toc *toc, uint32_t i,
			     const struct spans_blob *b, struct ql_error *err)
{
	_cleanup_free_ uint8_t *whole = NULL;
	struct ql_toc_chunk c;
	struct ql_toc_file f;
	struct ql_digest d;
	int r = ql_toc_file(toc, i, &f);

	if (r == 0)
		whole = calloc(1, f.size + 1);
	if (!whole)
		return ql_error_set(err, -ENOMEM, "file %u", i);
	for (uint32_t k = 0; k < f.n_chunks; k++) {
		r = ql_toc_chunk(toc, f.first_chunk + k, &c);
		if (r < 0 || c.raw > b->raw_size ||
		    c.len > b->raw_size - c.raw || c.offset > f.size ||
		    c.len > f.size - c.offset)
			return ql_error_set(err, -EBADMSG,
					    "chunk %u of file %u", k, i);
		memcpy(whole + c.offset, b->raw + c.raw, c.len);
		if (ql_digest_of(b->raw + c.raw, c.len, &d) < 0 ||
		    !ql_digest_equal(&d, &c.digest))
			return ql_error_set(err, -EBADMSG,
					    "chunk %u of file %u: digest", k,
					    i);
	}
	if (ql_digest_of(whole, f.size, &d) < 0 ||
	    !ql_digest_equal(&d, &f.digest))
		return ql_error_set(err, -EBADMSG, "file %u: digest", i);
	return 0;
}

static inline int spans_decode(const struct ql_toc *toc, struct spans_blob *b,
			       uint32_t at_once, struct ql_error *err)
{
	uint32_t n = ql_toc_spans(toc);
	int r = 0;

	for (uint32_t i = 0; i < n && r == 0; i += at_once)
		r = spans_run(toc, i, n - i < at_once ? n - i : at_once, b,
			      err);
	return r;
}

/* All of it; at_once: spans that one decoder goes through. */
static inline int spans_check(const struct ql_toc *toc, struct spans_blob *b,
			      uint32_t at_once, struct spans_stats *stats,
			      struct ql_error *err)
{
	struct ql_toc_span s = { 0 };
	int r = ql_toc_check(toc, err);

	*stats = (struct spans_stats){ 0 };
	for (uint32_t i = 0; i < ql_toc_spans(toc) && r == 0; i++) {
		r = ql_toc_span(toc, i, &s);
		stats->windows += s.window_len;
		stats->no_window += s.checkpoint && s.window_len == 0;
		if (s.raw_len > stats->raw_max)
			stats->raw_max = s.raw_len;
	}
	spans_release(b);
	b->raw_size = s.raw + s.raw_len;
	b->raw = calloc(1, b->raw_size + 1);
	if (r == 0 && !b->raw)
		r = ql_error_set(err, -ENOMEM, "raw");
	if (r == 0)
		r = spans_decode(toc, b, at_once, err);
	for (uint32_t i = 0; i < ql_toc_files(toc) && r == 0; i++)
		r = spans_file(toc, i, b, err);
	return r;
}

#endif
