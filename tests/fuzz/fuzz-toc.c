/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a table of contents that may be anything, row by row and by search.
 * Where its check passes, every row must be readable.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "store/store-private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool true_)
{
	if (!true_)
		abort();
}

static void read_chunk(const struct ql_toc *toc, uint32_t i, bool sound)
{
	struct ql_toc_chunk c;
	struct ql_toc_file f;
	uint32_t at;
	int r = ql_toc_chunk(toc, i, &c);

	must(r == 0 || !sound);
	if (r < 0)
		return;
	must(c.len > 0 && c.len <= QL_TOC_CHUNK_MAX);
	must(ql_toc_file(toc, c.file, &f) == 0 && f.index == c.file);
	must(c.offset <= f.size && c.len <= f.size - c.offset);
	r = ql_toc_span_at(toc, c.raw, &at);
	must(r == 0 || !sound);
	must(ql_toc_order_from(toc, c.raw) <= ql_toc_chunks(toc));
	(void)ql_toc_find(toc, &f.digest, &f);
}

static uint8_t read_span(const struct ql_toc *toc, uint32_t i, bool sound)
{
	struct ql_toc_span s;
	struct ql_toc_blob b;
	uint8_t sum = 0;
	int r = ql_toc_span(toc, i, &s);

	must(r == 0 || !sound);
	if (r < 0)
		return 0;
	must(ql_toc_blob(toc, s.blob, &b) == 0);
	must(s.offset <= b.size && s.len <= b.size - s.offset);
	must((s.window_len > 0) == (s.window != NULL));
	for (uint32_t k = 0; k < s.window_len; k++)
		sum = (uint8_t)(sum + s.window[k]);
	return sum;
}

/* As it is, and with the checksum put right: fuzzing does not guess one. */
static void read_all(const uint8_t *data, size_t size)
{
	struct ql_toc *toc;
	uint32_t at;
	bool sound;

	if (ql_toc_open_mem(data, size, &toc, NULL) < 0)
		return;
	sound = ql_toc_check(toc, NULL) == 0;
	for (uint32_t i = 0; i < ql_toc_chunks(toc); i++) {
		read_chunk(toc, i, sound);
		must(ql_toc_ordered(toc, i, &at) == 0 || !sound);
	}
	for (uint32_t i = 0; i < ql_toc_spans(toc); i++)
		(void)read_span(toc, i, sound);
	ql_toc_close(toc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ql_digest sum;
	uint8_t *copy;

	read_all(data, size);
	if (size < QL_TOC_HEADER)
		return 0;
	copy = malloc(size);
	must(copy != NULL);
	memcpy(copy, data, size);
	must(ql_digest_of(copy + QL_TOC_HEADER, size - QL_TOC_HEADER, &sum) ==
	     0);
	memcpy(copy + QL_TOC_HEADER - QL_DIGEST_BYTES, sum.bytes,
	       QL_DIGEST_BYTES);
	read_all(copy, size);
	free(copy);
	return 0;
}
