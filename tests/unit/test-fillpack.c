/* SPDX-License-Identifier: Apache-2.0 */
/* Where a run of spans, some of which are packed, is cut: what packs itself
 * never within a chunk. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "fetch/fill-private.h"
#include "store/store-private.h"
#include "tests/unit/fill.h"

enum { SPANS = 4, SPAN = 8192, LEN = SPANS * SPAN };

struct packs {
	struct fill_lab lab;
	struct ql_filler *f;
};

static int begin(void **state)
{
	static const struct ql_fill_options options = { 0 };
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(FILL_BLOB_MAX);
	struct packs *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	fill_add(&tar, "file", LEN, 1);
	fill_lab_init(&t->lab, &tar, NULL);
	assert_int_equal(ql_filler_new(t->lab.to.store, &options, &t->f, NULL),
			 0);
	*state = t;
	return 0;
}

static int end(void **state)
{
	struct packs *t = *state;

	ql_filler_free(t->f);
	fill_lab_release(&t->lab);
	free(t);
	return 0;
}

/* A blob of its own for each case, of four spans, and one file in it, whose
 * chunks end where ends[] says. */
static void toc_make(uint8_t id, const uint64_t *ends, struct ql_buf *buf,
		     struct ql_fill_toc *toc)
{
	const struct ql_digest blob = { .bytes = { 0xf0, id } };
	const struct ql_digest file = { .bytes = { 0xf1, id } };
	struct ql_toc_writer *w;
	uint64_t raw, at = 0;

	assert_int_equal(ql_toc_writer_new(&w, NULL), 0);
	assert_int_equal(ql_toc_writer_blob(w, &blob, LEN, QL_CODEC_NONE, NULL),
			 0);
	for (uint64_t i = 0; i < SPANS; i++) {
		struct ql_toc_span span = { .offset = i * SPAN,
					    .len = SPAN,
					    .raw_len = SPAN };

		assert_int_equal(ql_toc_writer_span(w, &span, &raw, NULL), 0);
	}
	assert_int_equal(ql_toc_writer_file(w, &file, LEN, NULL), 0);
	for (; at < LEN; at = *ends++) {
		const struct ql_digest d = { .bytes = { 0xf2, (uint8_t)at } };

		assert_int_equal(ql_toc_writer_chunk(w, at,
						     (uint32_t)(*ends - at), at,
						     &d, NULL),
				 0);
	}
	assert_int_equal(ql_toc_writer_finish(w, buf, NULL), 0);
	ql_toc_writer_free(w);
	*toc = (struct ql_fill_toc){ .refs = 1 };
	assert_int_equal(ql_toc_open_mem(buf->data, buf->len, &toc->toc, NULL),
			 0);
}

static const struct cut_case {
	uint64_t ends[8];   /* of chunks */
	const char *packed; /* for each span: is it? */
	bool packs;
	const char *cuts; /* for each span, in which stretch it is: R: from
			   * elsewhere; L: what is packed; a small letter goes
			   * on with the one before */
} cases[] = {
	/* Chunks end where spans do. */
	{ { SPAN, 2 * SPAN, 3 * SPAN, LEN }, "1010", true, "LRLR" },
	{ { SPAN, 2 * SPAN, 3 * SPAN, LEN }, "1110", true, "LllR" },
	{ { SPAN, 2 * SPAN, 3 * SPAN, LEN }, "0000", true, "Rrrr" },
	/* One lies in what is packed and in what is not. */
	{ { SPAN - 100, SPAN + 100, 3 * SPAN, LEN }, "1000", true, "RrrR" },
	{ { SPAN, 2 * SPAN + 100, 3 * SPAN, LEN }, "1100", true, "LRrR" },
	/* ... the other way round, and one after another. */
	{ { SPAN, 2 * SPAN + 100, 3 * SPAN, LEN }, "0011", true, "RrrL" },
	{ { SPAN + 100, 2 * SPAN + 100, 3 * SPAN + 100, LEN },
	  "0101",
	  true,
	  "Rrrr" },
	{ { SPAN + 100, 2 * SPAN + 100, 3 * SPAN + 100, LEN },
	  "1110",
	  true,
	  "LlRr" },
	/* Of what somebody waits for pieces are kept. */
	{ { SPAN + 100, 2 * SPAN + 100, 3 * SPAN + 100, LEN },
	  "1100",
	  false,
	  "LlRr" },
};

static void cuts_of(struct packs *t, const struct ql_fill_toc *toc, bool packs,
		    char cuts[SPANS + 1])
{
	struct ql_fill_run run = { .toc = (struct ql_fill_toc *)toc,
				   .n = SPANS,
				   .packs = packs };

	while (run.n > 0) {
		bool here;
		uint32_t n = ql_fill_packed_cut(t->f, &run, &here);

		assert_in_range(n, 1, run.n);
		memset(cuts + run.first, here ? 'l' : 'r', n);
		cuts[run.first] = here ? 'L' : 'R';
		run.first += n;
		run.n -= n;
	}
	cuts[SPANS] = 0;
}

static void what_packs_is_not_cut_within_a_chunk(void **state)
{
	static const char data[SPAN];
	struct packs *t = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct ql_digest blob = { .bytes = { 0xf0, (uint8_t)i } };
		_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(1 << 20);
		struct ql_fill_toc toc;
		char cuts[SPANS + 1];

		toc_make((uint8_t)i, cases[i].ends, &buf, &toc);
		for (uint64_t s = 0; s < SPANS; s++)
			if (cases[i].packed[s] == '1')
				assert_int_equal(
					ql_packed_put(t->lab.to.store, &blob,
						      LEN, s * SPAN, data,
						      sizeof(data), NULL),
					0);
		cuts_of(t, &toc, cases[i].packs, cuts);
		assert_string_equal(cuts, cases[i].cuts);
		ql_toc_close(toc.toc);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			what_packs_is_not_cut_within_a_chunk, begin, end),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
