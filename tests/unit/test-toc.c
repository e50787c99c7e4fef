/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of contents: what was written is read; what is damaged is an error
 * and no wrong read; what cannot be is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>

#include <cmocka.h>

#include "store/store-private.h"

static struct ql_digest digest(unsigned int n)
{
	struct ql_digest d;

	assert_int_equal(ql_digest_of(&n, sizeof(n), &d), 0);
	return d;
}

static struct ql_toc_writer *writer(void)
{
	struct ql_toc_writer *w = NULL;

	assert_int_equal(ql_toc_writer_new(&w, NULL), 0);
	return w;
}

static int blob(struct ql_toc_writer *w, unsigned int n, uint64_t size,
		enum ql_codec codec)
{
	struct ql_digest d = digest(n);

	return ql_toc_writer_blob(w, &d, size, codec, NULL);
}

static int span(struct ql_toc_writer *w, uint64_t offset, uint64_t len,
		uint64_t raw_len, uint64_t *raw)
{
	struct ql_toc_span s = { .offset = offset,
				 .len = len,
				 .raw_len = raw_len };

	return ql_toc_writer_span(w, &s, raw, NULL);
}

static int file(struct ql_toc_writer *w, unsigned int n, uint64_t size)
{
	struct ql_digest d = digest(n);

	return ql_toc_writer_file(w, &d, size, NULL);
}

static int chunk(struct ql_toc_writer *w, uint64_t offset, uint32_t len,
		 uint64_t raw, unsigned int n)
{
	struct ql_digest d = digest(n);

	return ql_toc_writer_chunk(w, offset, len, raw, n ? &d : NULL, NULL);
}

/*
 * Two blobs; three files and one that comes twice: 1 of one chunk, 2 of two
 * with a hole between them and one at its end, 3 in the second blob, which has
 * a checkpoint with a window.
 */
static void write_small(struct ql_buf *buf)
{
	struct ql_toc_writer *w = writer();
	struct ql_toc_span point = { .offset = 100,
				     .len = 51,
				     .bits = 3,
				     .checkpoint = true,
				     .raw_len = 500,
				     .window = (const uint8_t *)"window",
				     .window_len = 6 };
	uint64_t raw;

	ql_buf_init(buf, 1 << 20);
	assert_int_equal(blob(w, 100, 1000, QL_CODEC_ZSTD), 0);
	assert_int_equal(file(w, 1, 50), 0);
	assert_int_equal(span(w, 10, 40, 50, &raw), 0);
	assert_int_equal(chunk(w, 0, 50, raw, 0), 0);
	assert_int_equal(file(w, 2, 1000), 0);
	assert_int_equal(span(w, 60, 0, 100, &raw), 0);
	assert_int_equal(raw, 50);
	assert_int_equal(chunk(w, 0, 100, raw, 21), 0);
	assert_int_equal(ql_toc_writer_grow(w, 300, NULL), 0);
	assert_int_equal(chunk(w, 500, 200, raw + 100, 22), 0);
	assert_int_equal(ql_toc_writer_close(w, 200, NULL), 0);
	assert_int_equal(file(w, 1, 50), 0);
	assert_true(ql_toc_writer_skips(w));
	assert_int_equal(chunk(w, 0, 50, 0, 0), 0);
	assert_int_equal(blob(w, 101, 151, QL_CODEC_GZIP), 0);
	assert_int_equal(ql_toc_writer_span(w, &point, &raw, NULL), 0);
	assert_int_equal(raw, 350);
	assert_int_equal(file(w, 3, 400), 0);
	assert_false(ql_toc_writer_skips(w));
	assert_int_equal(chunk(w, 0, 400, raw + 7, 0), 0);
	assert_int_equal(ql_toc_writer_finish(w, buf, NULL), 0);
	ql_toc_writer_free(w);
}

static struct ql_toc *open_mem(const struct ql_buf *buf)
{
	struct ql_toc *toc = NULL;

	assert_int_equal(ql_toc_open_mem(buf->data, buf->len, &toc, NULL), 0);
	return toc;
}

static void reads_blobs_and_spans(void **state)
{
	struct ql_toc_blob b;
	struct ql_toc_span s;
	struct ql_digest d = digest(101);
	struct ql_buf buf;
	struct ql_toc *toc;
	uint32_t at;

	(void)state;
	write_small(&buf);
	toc = open_mem(&buf);
	assert_int_equal(ql_toc_check(toc, NULL), 0);
	assert_int_equal(ql_toc_blobs(toc), 2);
	assert_int_equal(ql_toc_spans(toc), 3);
	assert_int_equal(ql_toc_blob(toc, 1, &b), 0);
	assert_true(ql_digest_equal(&b.digest, &d));
	assert_int_equal(b.size, 151);
	assert_int_equal(b.codec, QL_CODEC_GZIP);
	assert_int_equal(b.first_span, 2);
	assert_int_equal(b.n_spans, 1);
	assert_int_equal(ql_toc_span(toc, 1, &s), 0);
	assert_int_equal(s.offset, 60);
	assert_int_equal(s.len, 140); /* closed at 200 */
	assert_int_equal(s.raw, 50);
	assert_int_equal(s.raw_len, 300); /* grown */
	assert_null(s.window);
	assert_int_equal(ql_toc_span(toc, 2, &s), 0);
	assert_int_equal(s.bits, 3);
	assert_true(s.checkpoint);
	assert_int_equal(s.window_len, 6);
	assert_memory_equal(s.window, "window", 6);
	assert_int_equal(ql_toc_span_at(toc, 349, &at), 0);
	assert_int_equal(at, 1);
	assert_int_equal(ql_toc_span_at(toc, 350, &at), 0);
	assert_int_equal(at, 2);
	assert_int_equal(ql_toc_span_at(toc, 850, &at), -ENOENT);
	ql_toc_close(toc);
	ql_buf_release(&buf);
}

static void reads_files_and_chunks(void **state)
{
	struct ql_digest two = digest(2), part = digest(22), none = digest(9);
	struct ql_toc_chunk c;
	struct ql_toc_file f;
	struct ql_buf buf;
	struct ql_toc *toc;
	uint32_t at;

	(void)state;
	write_small(&buf);
	toc = open_mem(&buf);
	assert_int_equal(ql_toc_files(toc), 3);
	assert_int_equal(ql_toc_chunks(toc), 4);
	assert_int_equal(ql_toc_find(toc, &none, &f), -ENOENT);
	assert_int_equal(ql_toc_find(toc, &two, &f), 0);
	assert_int_equal(f.size, 1000);
	assert_int_equal(f.n_chunks, 2);
	assert_int_equal(ql_toc_chunk(toc, f.first_chunk + 1, &c), 0);
	assert_int_equal(c.file, f.index);
	assert_int_equal(c.offset, 500);
	assert_int_equal(c.len, 200);
	assert_int_equal(c.raw, 150);
	assert_true(ql_digest_equal(&c.digest, &part));
	for (uint32_t i = 0; i < 3; i++) { /* the file's own where it has one */
		assert_int_equal(ql_toc_file(toc, i, &f), 0);
		if (f.n_chunks > 1)
			continue;
		assert_int_equal(ql_toc_chunk(toc, f.first_chunk, &c), 0);
		assert_true(ql_digest_equal(&c.digest, &f.digest));
	}
	assert_int_equal(ql_toc_order_from(toc, 0), 0);
	assert_int_equal(ql_toc_order_from(toc, 51), 2);
	assert_int_equal(ql_toc_order_from(toc, 9999), 4);
	assert_int_equal(ql_toc_ordered(toc, 3, &at), 0);
	assert_int_equal(ql_toc_chunk(toc, at, &c), 0);
	assert_int_equal(c.raw, 357);
	assert_int_equal(ql_toc_file(toc, 3, &f), -EBADMSG);
	assert_int_equal(ql_toc_chunk(toc, 4, &c), -EBADMSG);
	assert_int_equal(ql_toc_ordered(toc, 4, &at), -EBADMSG);
	ql_toc_close(toc);
	ql_buf_release(&buf);
}

static void an_empty_one_is_one(void **state)
{
	struct ql_toc_writer *w = writer();
	struct ql_buf buf;
	struct ql_toc *toc;
	uint32_t at;

	(void)state;
	ql_buf_init(&buf, 1 << 20);
	assert_int_equal(ql_toc_writer_finish(w, &buf, NULL), 0);
	ql_toc_writer_free(w);
	toc = open_mem(&buf);
	assert_int_equal(ql_toc_check(toc, NULL), 0);
	assert_int_equal(ql_toc_span_at(toc, 0, &at), -ENOENT);
	assert_int_equal(ql_toc_order_from(toc, 0), 0);
	ql_toc_close(toc);
	ql_buf_release(&buf);
}

/* Everything that can be asked, in memory of exactly the table's length. */
static void read_all(const struct ql_toc *toc)
{
	struct ql_digest d = digest(2);
	struct ql_toc_blob b;
	struct ql_toc_span s;
	struct ql_toc_chunk c;
	struct ql_toc_file f;
	volatile uint8_t sum = 0;
	uint32_t at;

	for (uint32_t i = 0; i < ql_toc_blobs(toc) + 1; i++)
		(void)ql_toc_blob(toc, i, &b);
	for (uint32_t i = 0; i < ql_toc_files(toc) + 1; i++)
		(void)ql_toc_file(toc, i, &f);
	for (uint32_t i = 0; i < ql_toc_spans(toc) + 1; i++)
		if (ql_toc_span(toc, i, &s) == 0)
			for (uint32_t k = 0; k < s.window_len; k++)
				sum = (uint8_t)(sum + s.window[k]);
	for (uint32_t i = 0; i < ql_toc_chunks(toc) + 1; i++) {
		if (ql_toc_chunk(toc, i, &c) == 0) {
			assert_true(c.len <= QL_TOC_CHUNK_MAX);
			assert_int_equal(ql_toc_file(toc, c.file, &f), 0);
			assert_true(c.offset + c.len <= f.size);
			(void)ql_toc_span_at(toc, c.raw, &at);
			(void)ql_toc_order_from(toc, c.raw);
		}
		(void)ql_toc_ordered(toc, i, &at);
	}
	(void)ql_toc_find(toc, &d, &f);
}

static void open_damaged(const char *data, size_t len, bool *ret_checked)
{
	uint8_t *copy = malloc(len ? len : 1);
	struct ql_toc *toc;

	assert_non_null(copy);
	memcpy(copy, data, len);
	*ret_checked = false;
	if (ql_toc_open_mem(copy, len, &toc, NULL) == 0) {
		read_all(toc);
		*ret_checked = ql_toc_check(toc, NULL) == 0;
		ql_toc_close(toc);
	}
	free(copy);
}

static void damage_is_an_error(void **state)
{
	static const uint8_t flips[] = { 0x01, 0x80, 0xff };
	struct ql_buf buf;
	bool checked;

	(void)state;
	write_small(&buf);
	for (size_t i = 0; i < buf.len; i++) {
		for (size_t k = 0; k < sizeof(flips); k++) {
			buf.data[i] = (char)(buf.data[i] ^ flips[k]);
			open_damaged(buf.data, buf.len, &checked);
			assert_false(checked);
			buf.data[i] = (char)(buf.data[i] ^ flips[k]);
		}
		open_damaged(buf.data, i, &checked);
		assert_false(checked);
	}
	open_damaged(buf.data, buf.len, &checked);
	assert_true(checked);
	ql_buf_release(&buf);
}

/* The checksum says that nothing is damaged; the rows are nonsense. */
static void nonsense_with_a_checksum_is_an_error(void **state)
{
	struct ql_digest sum;
	struct ql_buf buf;
	bool checked;
	int refused = 0;

	(void)state;
	write_small(&buf);
	for (size_t i = QL_TOC_HEADER; i < buf.len; i++) {
		char was = buf.data[i];

		buf.data[i] = (char)0xff;
		assert_int_equal(ql_digest_of(buf.data + QL_TOC_HEADER,
					      buf.len - QL_TOC_HEADER, &sum),
				 0);
		memcpy(buf.data + QL_TOC_HEADER - QL_DIGEST_BYTES, sum.bytes,
		       QL_DIGEST_BYTES);
		open_damaged(buf.data, buf.len, &checked);
		refused += !checked;
		buf.data[i] = was;
	}
	/* Digests, windows and reserved words may be anything. */
	assert_true(refused > 200);
	ql_buf_release(&buf);
}

static void spans_that_cannot_be_are_refused(void **state)
{
	struct ql_toc_writer *w = writer();
	struct ql_buf buf = QL_BUF_INIT(1 << 20);
	uint64_t raw;

	(void)state;
	assert_int_equal(span(w, 0, 1, 1, &raw), -EINVAL); /* of no blob */
	assert_int_equal(blob(w, 1, 1000, QL_CODEC_ZSTD), 0);
	assert_int_equal(span(w, 1000, 1, 1, &raw), -EBADMSG);
	assert_int_equal(span(w, 999, 2, 1, &raw), -EBADMSG);
	assert_int_equal(span(w, UINT64_MAX, 2, 1, &raw), -EBADMSG);
	assert_int_equal(span(w, 2, UINT64_MAX, 1, &raw), -EBADMSG);
	assert_int_equal(span(w, 0, 10, UINT64_MAX, &raw), -EBADMSG);
	assert_int_equal(span(w, 100, 10, 1, &raw), 0);
	assert_int_equal(span(w, 109, 10, 1, &raw), -EBADMSG);
	assert_int_equal(span(w, 50, 10, 1, &raw), -EBADMSG);
	assert_int_equal(span(w, 110, 0, 1, &raw), 0); /* left open */
	assert_int_equal(span(w, 110, 10, 1, &raw), -EBADMSG);
	assert_int_equal(ql_toc_writer_close(w, 110, NULL), -EBADMSG);
	assert_int_equal(ql_toc_writer_close(w, 1001, NULL), -EBADMSG);
	assert_int_equal(blob(w, 2, 10, QL_CODEC_ZSTD), -EINVAL);
	assert_int_equal(ql_toc_writer_finish(w, &buf, NULL), -EBADMSG);
	assert_int_equal(ql_toc_writer_close(w, 1000, NULL), 0);
	assert_int_equal(ql_toc_writer_close(w, 5, NULL), 0); /* none open */
	assert_int_equal(ql_toc_writer_finish(w, &buf, NULL), 0);
	ql_buf_release(&buf);
	ql_toc_writer_free(w);
}

/* Its span may come later, but it has to come. */
static void chunks_in_no_span_are_refused_at_the_end(void **state)
{
	struct ql_buf buf = QL_BUF_INIT(1 << 20);
	struct ql_toc_writer *w = writer();
	uint64_t raw;

	(void)state;
	assert_int_equal(blob(w, 1, 1 << 30, QL_CODEC_ZSTD), 0);
	assert_int_equal(file(w, 1, 100), 0);
	assert_int_equal(chunk(w, 0, 50, 151, 5), 0);
	assert_int_equal(span(w, 0, 100, 200, &raw), 0);
	assert_int_equal(ql_toc_writer_finish(w, &buf, NULL), -EBADMSG);
	assert_int_equal(span(w, 100, 1, 1, &raw), 0);
	assert_int_equal(ql_toc_writer_finish(w, &buf, NULL), 0);
	ql_buf_release(&buf);
	ql_toc_writer_free(w);
}

static void chunks_that_cannot_be_are_refused(void **state)
{
	struct ql_toc_writer *w = writer();
	uint64_t raw;

	(void)state;
	assert_int_equal(blob(w, 1, 1 << 30, QL_CODEC_ZSTD), 0);
	assert_int_equal(span(w, 0, 100, 200, &raw), 0);
	assert_int_equal(chunk(w, 0, 1, 0, 0), -EINVAL); /* of no file */
	assert_int_equal(file(w, 1, UINT64_MAX), -EBADMSG);
	assert_int_equal(file(w, 1, 100), 0);
	assert_int_equal(chunk(w, 0, 0, 0, 5), -EBADMSG);
	assert_int_equal(chunk(w, 0, 101, 0, 5), -EBADMSG);
	assert_int_equal(chunk(w, 101, 1, 0, 5), -EBADMSG);
	assert_int_equal(chunk(w, UINT64_MAX, 1, 0, 5), -EBADMSG);
	assert_int_equal(chunk(w, 0, 50, UINT64_MAX, 5), -EBADMSG);
	assert_int_equal(chunk(w, 0, 50, 0, 5), 0);
	assert_int_equal(chunk(w, 49, 1, 0, 5), -EBADMSG); /* overlaps */
	assert_int_equal(file(w, 2, (uint64_t)1 << 40), 0);
	assert_int_equal(ql_toc_writer_grow(w, (uint64_t)1 << 32, NULL), 0);
	assert_int_equal(chunk(w, 0, QL_TOC_CHUNK_MAX + 1, 0, 5), -EBADMSG);
	assert_int_equal(ql_toc_writer_grow(w, UINT64_MAX, NULL), -EBADMSG);
	ql_toc_writer_free(w);
}

/* Hash tables grow, rows are sorted: nothing is lost on the way. */
static void thousands_of_files(void **state)
{
	enum { FILES = 5000 };
	struct ql_toc_writer *w = writer();
	struct ql_buf buf;
	struct ql_toc *toc;
	uint64_t raw;

	(void)state;
	ql_buf_init(&buf, 64 << 20);
	assert_int_equal(blob(w, 1, FILES * 10, QL_CODEC_ZSTD), 0);
	for (unsigned int i = 0; i < FILES; i++) {
		assert_int_equal(file(w, i, i + 1), 0);
		assert_false(ql_toc_writer_skips(w));
		assert_int_equal(span(w, i * 10, 10, i + 1, &raw), 0);
		assert_int_equal(chunk(w, 0, i + 1, raw, 0), 0);
	}
	assert_int_equal(ql_toc_writer_finish(w, &buf, NULL), 0);
	ql_toc_writer_free(w);
	toc = open_mem(&buf);
	assert_int_equal(ql_toc_check(toc, NULL), 0);
	for (unsigned int i = 0; i < FILES; i++) {
		struct ql_digest d = digest(i);
		struct ql_toc_span s;
		struct ql_toc_chunk c;
		struct ql_toc_file f;
		uint32_t at;

		assert_int_equal(ql_toc_find(toc, &d, &f), 0);
		assert_int_equal(f.size, i + 1);
		assert_int_equal(ql_toc_chunk(toc, f.first_chunk, &c), 0);
		assert_int_equal(ql_toc_span_at(toc, c.raw, &at), 0);
		assert_int_equal(ql_toc_span(toc, at, &s), 0);
		assert_int_equal(s.offset, i * 10);
	}
	ql_toc_close(toc);
	ql_buf_release(&buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_blobs_and_spans),
		cmocka_unit_test(reads_files_and_chunks),
		cmocka_unit_test(an_empty_one_is_one),
		cmocka_unit_test(damage_is_an_error),
		cmocka_unit_test(nonsense_with_a_checksum_is_an_error),
		cmocka_unit_test(spans_that_cannot_be_are_refused),
		cmocka_unit_test(chunks_in_no_span_are_refused_at_the_end),
		cmocka_unit_test(chunks_that_cannot_be_are_refused),
		cmocka_unit_test(thousands_of_files),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
