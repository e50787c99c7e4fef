/* SPDX-License-Identifier: Apache-2.0 */
/* What of a run is asked of other nodes by its files' digests, whatever the
 * spans of its table are; and when that is faster than a registry. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "fetch/fill-private.h"
#include "tests/unit/layers.h"

enum { SPAN = 1000, SPANS = 6, RAW = SPAN * SPANS };
#define MB (1ULL << 20)
#define MS 1000000ULL

struct part {
	uint64_t offset, raw;
	uint32_t len;
};
struct file {
	uint64_t size;
	struct part parts[2];
	unsigned int n;
};

/* Spans and chunks as of a gzip layer: a file that is several spans, a span
 * that is several files, a sparse one, and of the last one only a part is
 * known, as in a table of what a start reads. */
static const struct file files[] = {
	{ 600, { { 0, 100, 600 } }, 1 },
	{ 1500, { { 0, 700, 1500 } }, 1 },
	{ 1000, { { 0, 2300, 500 }, { 500, 2800, 500 } }, 2 },
	{ 9000, { { 4096, 3500, 300 }, { 8000, 3800, 1000 } }, 2 },
	{ 50000, { { 12288, 5000, 400 } }, 1 },
};
enum { FILES = sizeof(files) / sizeof(files[0]) };

struct asks {
	struct lab lab;
	struct ql_filler *f;
	struct ql_buf buf;
	struct ql_fill_toc toc;
	char raw[RAW];
	struct ql_digest digests[FILES];
};

/* A file's content: zeros, but for what is in the raw space. */
static void file_digest(struct asks *t, size_t i)
{
	char *data = calloc(1, files[i].size);

	assert_non_null(data);
	for (unsigned int k = 0; k < files[i].n; k++) {
		const struct part *p = &files[i].parts[k];

		memcpy(data + p->offset, t->raw + p->raw, p->len);
	}
	assert_int_equal(ql_digest_of(data, files[i].size, &t->digests[i]), 0);
	free(data);
}

static void toc_init(struct asks *t)
{
	const struct ql_digest blob = { .bytes = { 1 } };
	struct ql_toc_span span = { .len = SPAN, .raw_len = SPAN };
	struct ql_toc_writer *w;
	uint64_t raw;

	assert_int_equal(ql_toc_writer_new(&w, NULL), 0);
	assert_int_equal(ql_toc_writer_blob(w, &blob, RAW, QL_CODEC_NONE, NULL),
			 0);
	for (; span.offset < RAW; span.offset += SPAN)
		assert_int_equal(ql_toc_writer_span(w, &span, &raw, NULL), 0);
	for (size_t i = 0; i < FILES; i++) {
		file_digest(t, i);
		assert_int_equal(ql_toc_writer_file(w, &t->digests[i],
						    files[i].size, NULL),
				 0);
		for (unsigned int k = 0; k < files[i].n; k++) {
			const struct part *p = &files[i].parts[k];
			struct ql_digest d;

			assert_int_equal(
				ql_digest_of(t->raw + p->raw, p->len, &d), 0);
			assert_int_equal(ql_toc_writer_chunk(
						 w, p->offset, p->len, p->raw,
						 p->len == files[i].size ? NULL
									 : &d,
						 NULL),
					 0);
		}
	}
	assert_int_equal(ql_toc_writer_finish(w, &t->buf, NULL), 0);
	ql_toc_writer_free(w);
	assert_int_equal(
		ql_toc_open_mem(t->buf.data, t->buf.len, &t->toc.toc, NULL), 0);
	t->toc.refs = 1;
}

static int begin(void **state)
{
	static const struct ql_fill_options options = { 0 };
	struct asks *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	lab_init(&t->lab);
	for (size_t i = 0; i < RAW; i++)
		t->raw[i] = (char)("abcdefg"[i % 7] + (char)(i / 100));
	ql_buf_init(&t->buf, 1 << 20);
	toc_init(t);
	assert_int_equal(ql_filler_new(t->lab.store, &options, &t->f, NULL), 0);
	*state = t;
	return 0;
}

static int end(void **state)
{
	struct asks *t = *state;

	ql_filler_free(t->f);
	assert_int_equal(t->toc.refs, 1);
	ql_toc_close(t->toc.toc);
	ql_buf_release(&t->buf);
	lab_release(&t->lab);
	free(t);
	return 0;
}

/* Of spans first … first + n - 1, "file+offset:len" of each wish, and in
 * brackets those that may not be asked for. */
static void wishes(struct asks *t, uint32_t first, uint32_t n,
		   const char *expect)
{
	_cleanup_buf_ struct ql_buf text = QL_BUF_INIT(1000);
	const struct ql_fill_run run = { .toc = &t->toc,
					 .first = first,
					 .n = n };
	struct ql_fill_wishes w;

	assert_int_equal(ql_fill_wishes_init(t->f, &run, &w), 0);
	for (size_t i = 0; i < w.n; i++) {
		const struct ql_fill_wish *wish = &w.items[i];
		size_t file = 0;

		while (!ql_digest_equal(&t->digests[file], &wish->object))
			assert_true(++file < FILES);
		assert_int_equal(
			ql_buf_addf(&text,
				    wish->asks ? "%zu+%d:%d " : "[%zu+%d:%d] ",
				    file, (int)wish->offset, (int)wish->len),
			0);
	}
	assert_string_equal(ql_buf_str(&text), expect);
	ql_fill_wishes_release(&w);
}

static void asks_for_whole_chunks_of_whichever_spans(void **state)
{
	struct asks *t = *state;

	wishes(t, 0, 1, "0+0:600 1+0:1500 ");
	wishes(t, 1, 1, "1+0:1500 ");
	wishes(t, 2, 1, "1+0:1500 2+0:500 2+500:500 ");
	/* Where a file has holes, a place in it is not one in the archive. */
	wishes(t, 3, 1, "2+500:500 3+4096:300 3+8000:1000 ");
	wishes(t, 4, 1, "3+8000:1000 ");
	/* A part of a file, of which no more is known. */
	wishes(t, 5, 1, "4+12288:400 ");
	wishes(t, 0, 6,
	       "0+0:600 1+0:1500 2+0:500 2+500:500 3+4096:300 3+8000:1000 "
	       "4+12288:400 ");
}

static void pour(struct asks *t, uint64_t from, uint64_t to)
{
	struct ql_fill_sink *sink;

	assert_int_equal(ql_fill_sink_new(t->f, &t->toc, &sink, NULL), 0);
	assert_int_equal(ql_fill_sink_seek(sink, from, NULL), 0);
	assert_int_equal(
		ql_fill_sink_write(sink, t->raw + from, to - from, NULL), 0);
	assert_int_equal(ql_fill_sink_end(sink, NULL), 0);
	ql_fill_sink_free(sink);
}

static void asks_for_nothing_that_is_here(void **state)
{
	struct asks *t = *state;
	struct ql_digest d;

	pour(t, 100, 700);
	wishes(t, 0, 1, "1+0:1500 ");
	pour(t, 2800, 3300); /* of a file of two chunks, one */
	wishes(t, 2, 1, "1+0:1500 2+0:500 ");
	assert_int_equal(ql_object_put(t->lab.store, t->raw + 700, 1500,
				       &t->digests[1], &d, NULL),
			 0);
	wishes(t, 1, 1, "");
	wishes(t, 2, 1, "2+0:500 ");
}

/* As what came of a peer would be told. */
static void came(struct asks *t, unsigned int which, const char *expect)
{
	const struct ql_fill_run run = { .toc = &t->toc, .n = SPANS };
	struct ql_fill_wishes w;
	char text[SPANS + 1] = "";
	bool *spans;

	assert_int_equal(ql_fill_wishes_init(t->f, &run, &w), 0);
	assert_int_equal(w.n, 7);
	for (size_t i = 0; i < w.n; i++)
		w.items[i].came = which >> i & 1;
	spans = ql_fill_wishes_came(&w, &run);
	assert_non_null(spans);
	for (int i = 0; i < SPANS; i++)
		text[i] = spans[i] ? 'y' : 'n';
	assert_string_equal(text, expect);
	free(spans);
	ql_fill_wishes_release(&w);
}

static void a_span_has_come_when_all_in_it_has(void **state)
{
	struct asks *t = *state;

	came(t, 0x00, "nnnnnn");
	came(t, 0x7f, "yyyyyy");
	came(t, 0x01, "nnnnnn"); /* another file is in it, too */
	came(t, 0x03, "yynnnn");
	came(t, 0x07, "yynnnn"); /* the other half of file 2 */
	came(t, 0x0f, "yyynnn");
	came(t, 0x7d, "nnnyyy");
	came(t, 0x5f, "yyynny");
	came(t, 0x3f, "yyyyyn");
}

static void weighs_what_was_measured(void **state)
{
	/* 4 MiB plain over a LAN, or 1 MiB packed over 2 MiB/s. */
	struct ql_fill_offer o = { .plain = 4 * MB,
				   .rtt = MS,
				   .rate = 100 * MB,
				   .near = true,
				   .packed = MB,
				   .registry_wait = 40 * MS,
				   .registry_rate = 2 * MB };

	(void)state;
	assert_in_range(ql_fill_peer_saves(&o), 490 * MS, 500 * MS);
	o.near = false; /* dearer than it is: 3 times 41 ms */
	assert_in_range(ql_fill_peer_saves(&o), 410 * MS, 420 * MS);
	o.rate = 4 * MB; /* a thin link, and more bytes */
	assert_int_equal(ql_fill_peer_saves(&o), 0);
	o.packed = 4 * MB; /* ... of what does not compress */
	assert_int_equal(ql_fill_peer_saves(&o), 0);
	o.registry_rate = MB; /* ... and a registry that is far slower */
	assert_true(ql_fill_peer_saves(&o) > 0);
	o.registry_rate = 2 * MB;
	o.packed = MB;
	o.rate = 0; /* not known: of a LAN's nodes the best is hoped for */
	o.near = true;
	assert_true(ql_fill_peer_saves(&o) > 0);
	o.registry_rate = 100 * MB; /* a mirror beside us */
	o.registry_wait = MS;
	assert_int_equal(ql_fill_peer_saves(&o), 0);
	o.registry_rate = 0; /* nothing came of one yet */
	assert_true(ql_fill_peer_saves(&o) > 0);
	o.near = false;
	assert_int_equal(ql_fill_peer_saves(&o), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(asks_for_whole_chunks_of_whichever_spans),
		TEST(asks_for_nothing_that_is_here),
		TEST(a_span_has_come_when_all_in_it_has),
		cmocka_unit_test(weighs_what_was_measured),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
