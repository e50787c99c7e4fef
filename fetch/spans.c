/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A blob's spans, as its decompressor passes where they begin: each is added
 * to the table of contents when the next one begins, since only then it is
 * known how long it is.  Spans follow each other without a gap, so that their
 * raw space is the whole of what the blob decodes to.
 *
 * A table that cannot be had is no reason to fail: nothing is added any more,
 * and the table does not cover its files then (ql_toc_writer_finish()).
 */
#include "fetch/fetch-private.h"

#include <errno.h>

void ql_spans_init(struct ql_spans *spans, struct ql_toc_writer *toc,
		   const struct ql_digest *blob, uint64_t blob_size)
{
	*spans = (struct ql_spans){ .toc = toc,
				    .blob = *blob,
				    .size = blob_size };
	ql_buf_init(&spans->window, QL_SPAN_WINDOW_MAX);
}

void ql_spans_release(struct ql_spans *spans)
{
	ql_buf_release(&spans->window);
}

void ql_spans_codec(struct ql_spans *spans, enum ql_codec codec)
{
	if (ql_toc_writer_blob(spans->toc, &spans->blob, spans->size, codec,
			       NULL) < 0)
		spans->failed = true;
}

uint64_t ql_spans_raw(const struct ql_spans *spans, uint64_t raw)
{
	return spans->open ? raw - spans->next.raw : 0;
}

void ql_spans_end(struct ql_spans *spans, uint64_t offset, uint64_t raw)
{
	struct ql_toc_span *s = &spans->next;
	uint64_t at;

	if (!spans->open || spans->failed)
		return;
	spans->open = false;
	s->raw_len = raw - s->raw;
	s->len = offset - s->offset;
	s->window = (const uint8_t *)spans->window.data;
	s->window_len = (uint32_t)spans->window.len;
	if (s->raw_len > 0 &&
	    (ql_toc_writer_span(spans->toc, s, &at, NULL) < 0 || at != s->raw))
		spans->failed = true;
}

void ql_spans_begin(struct ql_spans *spans, const struct ql_toc_span *at)
{
	ql_spans_end(spans, at->offset, at->raw);
	if (spans->failed)
		return;
	spans->next = *at;
	spans->open = true;
	ql_buf_clear(&spans->window);
	if (at->window_len > 0 &&
	    ql_buf_add(&spans->window, at->window, at->window_len) < 0)
		spans->failed = true;
}
