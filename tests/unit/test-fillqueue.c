/* SPDX-License-Identifier: Apache-2.0 */
/* The queues of spans that are asked for: order, urgency, neighbours. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "fetch/fill-private.h"

enum { SPANS = 8, SPAN = 200 << 10, FAR = 1 << 20 };

static const uint64_t most[QL_FILL_PRIORITIES] = { 3ULL * SPAN, 2ULL * SPAN,
						   100ULL * SPAN };

struct queued {
	struct ql_fill_queue q;
	struct ql_fill_toc toc;
	struct ql_buf buf;
};

/* Two blobs of eight spans each, of which the last stands apart. */
static int begin(void **state)
{
	struct queued *t = calloc(1, sizeof(*t));
	struct ql_toc_writer *w;
	uint64_t raw;

	assert_non_null(t);
	ql_fill_queue_init(&t->q);
	ql_buf_init(&t->buf, 1 << 20);
	assert_int_equal(ql_toc_writer_new(&w, NULL), 0);
	for (uint8_t b = 0; b < 2; b++) {
		struct ql_digest d = { .bytes = { b } };

		assert_int_equal(ql_toc_writer_blob(w, &d, 16 << 20,
						    QL_CODEC_ZSTD, NULL),
				 0);
		for (uint64_t i = 0; i < SPANS; i++) {
			struct ql_toc_span s = {
				.offset = i * SPAN + (i == SPANS - 1 ? FAR : 0),
				.len = SPAN,
				.raw_len = SPAN,
			};

			assert_int_equal(ql_toc_writer_span(w, &s, &raw, NULL),
					 0);
		}
	}
	assert_int_equal(ql_toc_writer_finish(w, &t->buf, NULL), 0);
	ql_toc_writer_free(w);
	assert_int_equal(
		ql_toc_open_mem(t->buf.data, t->buf.len, &t->toc.toc, NULL), 0);
	t->toc.state = calloc(2 * SPANS, 1);
	assert_non_null(t->toc.state);
	t->toc.refs = 1;
	*state = t;
	return 0;
}

static int end(void **state)
{
	struct queued *t = *state;

	ql_fill_queue_release(&t->q);
	assert_int_equal(t->toc.refs, 1);
	ql_toc_close(t->toc.toc);
	ql_buf_release(&t->buf);
	free(t->toc.state);
	free(t);
	return 0;
}

static void ask(struct queued *t, uint32_t first, uint32_t last,
		enum ql_fill_priority priority)
{
	assert_int_equal(
		ql_fill_queue_add(&t->q, &t->toc, first, last, priority), 0);
}

static void expect(struct queued *t, enum ql_fill_priority least,
		   uint32_t first, uint32_t n, enum ql_fill_priority priority)
{
	struct ql_fill_run run;

	assert_true(ql_fill_queue_take(&t->q, least, most, &run));
	assert_int_equal(run.first, first);
	assert_int_equal(run.n, n);
	assert_int_equal(run.priority, priority);
	for (uint32_t i = first; i < first + n; i++)
		assert_int_equal(t->toc.state[i], QL_SPAN_TAKEN);
	t->toc.refs--;
}

static void expect_none(struct queued *t)
{
	struct ql_fill_run run;

	assert_false(ql_fill_queue_take(&t->q, QL_FILL_BACKGROUND, most, &run));
	for (int p = 0; p < QL_FILL_PRIORITIES; p++)
		assert_int_equal(t->q.bytes[p], 0);
}

static void the_most_urgent_come_first(void **state)
{
	struct queued *t = *state;

	ask(t, 0, 0, QL_FILL_BACKGROUND);
	ask(t, 2, 2, QL_FILL_PREFETCH);
	ask(t, 6, 6, QL_FILL_DEMAND);
	ask(t, 4, 4, QL_FILL_DEMAND);
	expect(t, QL_FILL_BACKGROUND, 6, 1, QL_FILL_DEMAND);
	expect(t, QL_FILL_BACKGROUND, 4, 1, QL_FILL_DEMAND);
	expect(t, QL_FILL_BACKGROUND, 2, 1, QL_FILL_PREFETCH);
	expect(t, QL_FILL_BACKGROUND, 0, 1, QL_FILL_BACKGROUND);
	expect_none(t);
}

static void none_is_less_urgent_than_asked_for(void **state)
{
	struct queued *t = *state;
	struct ql_fill_run run;

	ask(t, 1, 1, QL_FILL_BACKGROUND);
	assert_false(ql_fill_queue_take(&t->q, QL_FILL_PREFETCH, most, &run));
	expect(t, QL_FILL_BACKGROUND, 1, 1, QL_FILL_BACKGROUND);
	expect_none(t);
}

static void neighbours_go_together_up_to_a_size(void **state)
{
	struct queued *t = *state;

	ask(t, 0, SPANS + 1, QL_FILL_DEMAND);
	assert_int_equal(t->q.bytes[QL_FILL_DEMAND], (SPANS + 2ULL) * SPAN);
	expect(t, QL_FILL_DEMAND, 0, 3, QL_FILL_DEMAND);
	expect(t, QL_FILL_DEMAND, 3, 3, QL_FILL_DEMAND);
	/* The last of a blob stands apart; the next is of another. */
	expect(t, QL_FILL_DEMAND, 6, 1, QL_FILL_DEMAND);
	expect(t, QL_FILL_DEMAND, 7, 1, QL_FILL_DEMAND);
	expect(t, QL_FILL_DEMAND, 8, 2, QL_FILL_DEMAND);
	expect_none(t);
}

static void who_is_asked_for_again_moves_up(void **state)
{
	struct queued *t = *state;

	ask(t, 0, 4, QL_FILL_BACKGROUND);
	ask(t, 2, 2, QL_FILL_DEMAND);
	ask(t, 2, 2, QL_FILL_PREFETCH); /* is more urgent already */
	assert_int_equal(t->q.bytes[QL_FILL_DEMAND], SPAN);
	assert_int_equal(t->q.bytes[QL_FILL_PREFETCH], 0);
	assert_int_equal(t->q.bytes[QL_FILL_BACKGROUND], 4 * SPAN);
	/* Neighbours that wait anyway come along. */
	expect(t, QL_FILL_DEMAND, 2, 3, QL_FILL_DEMAND);
	expect(t, QL_FILL_BACKGROUND, 0, 2, QL_FILL_BACKGROUND);
	expect_none(t);
}

static void what_is_being_fetched_is_not_asked_for(void **state)
{
	struct queued *t = *state;

	ask(t, 5, 5, QL_FILL_DEMAND);
	expect(t, QL_FILL_DEMAND, 5, 1, QL_FILL_DEMAND);
	ask(t, 5, 5, QL_FILL_DEMAND);
	expect_none(t);
	/* Once it is done it may be, whether it came or not. */
	ql_fill_queue_done(&t->toc, 5, 1, true);
	ask(t, 5, 5, QL_FILL_PREFETCH);
	expect(t, QL_FILL_PREFETCH, 5, 1, QL_FILL_PREFETCH);
	ql_fill_queue_done(&t->toc, 5, 1, false);
	ask(t, 5, 5, QL_FILL_DEMAND);
	expect(t, QL_FILL_DEMAND, 5, 1, QL_FILL_DEMAND);
	expect_none(t);
}

static void what_is_left_is_released(void **state)
{
	struct queued *t = *state;

	ask(t, 0, 3, QL_FILL_DEMAND);
	ask(t, 9, 9, QL_FILL_BACKGROUND);
	assert_int_equal(t->toc.refs, 3);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(the_most_urgent_come_first),
		TEST(none_is_less_urgent_than_asked_for),
		TEST(neighbours_go_together_up_to_a_size),
		TEST(who_is_asked_for_again_moves_up),
		TEST(what_is_being_fetched_is_not_asked_for),
		TEST(what_is_left_is_released),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
