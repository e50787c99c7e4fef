/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A blob's end: its footer, and the section that this says.  Whatever is said
 * must lie in the blob.  In front of the first NUL stands an annotation.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fetch/toc-private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool true_)
{
	if (!true_)
		abort();
}

static void check(const struct ql_toc_where *w)
{
	must(w->len > 0 && w->offset <= w->blob_size &&
	     w->len <= w->blob_size - w->offset);
	must(w->content_end <= w->offset);
	must(w->len <= QL_TOC_SECTION_MAX && w->raw_len <= QL_TOC_JSON_MAX);
}

static void decode(const struct ql_toc_where *w, const uint8_t *blob)
{
	_cleanup_stream_ struct ql_stream *json = NULL;
	uint64_t left = 1 << 20;
	char buf[4096];
	ssize_t n;

	if (ql_toc_section_open(w, blob + w->offset, (size_t)w->len, &json,
				NULL) < 0)
		return;
	while (left > sizeof(buf) &&
	       (n = ql_stream_read(json, buf, sizeof(buf), NULL)) > 0)
		left -= (uint64_t)n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *nul = memchr(data, 0, size);
	struct ql_descriptor d = { 0 };
	struct ql_toc_where w = { 0 };
	struct ql_error err = QL_ERROR_INIT;
	char sum[] = "sha256:0123456789abcdef0123456789abcdef"
		     "0123456789abcdef0123456789abcdef";
	size_t tail;
	int r;

	if (!nul)
		return 0;
	d.notes[QL_NOTE_CHUNKED_SUM] = sum;
	d.notes[QL_NOTE_CHUNKED_POS] = (char *)(uintptr_t)data;
	size -= (size_t)(nul - data) + 1;
	d.size = size;
	r = ql_toc_locate(&d, &w, &err);
	must(r == 0 || err.text[0] != '\0');
	if (r == 0)
		check(&w);
	data = nul + 1;
	w = (struct ql_toc_where){ .blob_size = size };
	tail = size < QL_TOC_FOOTER_MAX ? size : QL_TOC_FOOTER_MAX;
	r = ql_toc_footer(data + size - tail, tail, &w, &err);
	must(r == 0 || err.text[0] != '\0');
	if (r < 0)
		return 0;
	check(&w);
	decode(&w, data);
	return 0;
}
