/* SPDX-License-Identifier: Apache-2.0 */
/* Two tables of contents that cut the same file differently: what is there and
 * verified stays so, whatever comes after it. */
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

enum { LEN = 6 << 20, SEED = 11 };

struct table {
	struct ql_buf buf;
	struct ql_fill_toc toc;
};

struct sinks {
	struct fill_lab lab;
	struct ql_filler *f;
	struct ql_digest digest;
	char *data, *wrong;
	struct table small, large, whole; /* chunks */
};

/* A table with the file alone, in chunks of so many bytes. */
static void table_init_len(const struct sinks *t, struct table *table,
			   size_t len, size_t cut)
{
	const struct ql_digest blob = { .bytes = { 1 } };
	struct ql_toc_span span = { .len = len, .raw_len = len };
	struct ql_toc_writer *w;
	uint64_t raw;

	*table = (struct table){ .buf = QL_BUF_INIT(1 << 20) };
	assert_int_equal(ql_toc_writer_new(&w, NULL), 0);
	assert_int_equal(ql_toc_writer_blob(w, &blob, len, QL_CODEC_NONE, NULL),
			 0);
	assert_int_equal(ql_toc_writer_span(w, &span, &raw, NULL), 0);
	assert_int_equal(ql_toc_writer_file(w, &t->digest, len, NULL), 0);
	for (size_t at = 0; at < len; at += cut) {
		size_t n = len - at < cut ? len - at : cut;
		struct ql_digest d;

		assert_int_equal(ql_digest_of(t->data + at, n, &d), 0);
		assert_int_equal(ql_toc_writer_chunk(w, at, (uint32_t)n, at,
						     n == len ? NULL : &d,
						     NULL),
				 0);
	}
	assert_int_equal(ql_toc_writer_finish(w, &table->buf, NULL), 0);
	ql_toc_writer_free(w);
	assert_int_equal(ql_toc_open_mem(table->buf.data, table->buf.len,
					 &table->toc.toc, NULL),
			 0);
	table->toc.refs = 1;
}

static void table_init(const struct sinks *t, struct table *table, size_t cut)
{
	table_init_len(t, table, LEN, cut);
}

static void table_release(struct table *table)
{
	assert_int_equal(table->toc.refs, 1);
	ql_toc_close(table->toc.toc);
	ql_buf_release(&table->buf);
}

static int begin(void **state)
{
	static const struct ql_fill_options options = { 0 };
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(FILL_BLOB_MAX);
	struct sinks *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	t->data = malloc(LEN);
	t->wrong = malloc(LEN);
	assert_true(t->data && t->wrong);
	fill_content(t->data, LEN, SEED);
	for (size_t i = 0; i < LEN; i++)
		t->wrong[i] = (char)(t->data[i] ^ 1);
	assert_int_equal(ql_digest_of(t->data, LEN, &t->digest), 0);
	fill_add(&tar, "file", LEN, SEED);
	fill_lab_init(&t->lab, &tar, NULL);
	table_init(t, &t->small, 100000);
	table_init(t, &t->large, 5 << 20);
	table_init(t, &t->whole, LEN);
	assert_int_equal(ql_filler_new(t->lab.to.store, &options, &t->f, NULL),
			 0);
	*state = t;
	return 0;
}

static int end(void **state)
{
	struct sinks *t = *state;

	ql_filler_free(t->f);
	table_release(&t->small);
	table_release(&t->large);
	table_release(&t->whole);
	fill_lab_release(&t->lab);
	free(t->data);
	free(t->wrong);
	free(t);
	return 0;
}

/* Pours bytes of the raw space from `from` to `to` into a table's chunks. */
static int pour(struct sinks *t, struct table *table, const char *data,
		uint64_t from, uint64_t to)
{
	struct ql_fill_sink *sink;
	int r;

	assert_int_equal(ql_fill_sink_new(t->f, &table->toc, &sink, NULL), 0);
	assert_int_equal(ql_fill_sink_seek(sink, from, NULL), 0);
	r = ql_fill_sink_write(sink, data + from, (size_t)(to - from), NULL);
	if (r == 0)
		r = ql_fill_sink_end(sink, NULL);
	ql_fill_sink_free(sink);
	return r;
}

/* Opens it as known by this table; with a reference. */
static struct ql_fill_file *open_by(struct sinks *t, struct table *table)
{
	struct ql_fill_file *file;
	struct ql_toc_file entry;

	assert_int_equal(ql_toc_find(table->toc.toc, &t->digest, &entry), 0);
	(void)pthread_mutex_lock(&t->f->lock);
	assert_int_equal(
		ql_fill_file_get(t->f, &table->toc, &entry, &file, NULL), 0);
	assert_int_equal(ql_fill_file_open(t->f, file, NULL), 0);
	(void)pthread_mutex_unlock(&t->f->lock);
	return file;
}

static void check(struct sinks *t, struct ql_fill_file *file, uint64_t from,
		  uint64_t to)
{
	_cleanup_free_ char *have = malloc(LEN);
	size_t n = (size_t)(to - from);

	assert_non_null(have);
	assert_int_equal(ql_pread_full(ql_fill_fd(t->f, file), have, n, from),
			 (ssize_t)n);
	assert_memory_equal(have, t->data + from, n);
}

static void a_wrong_chunk_leaves_what_is_there(void **state)
{
	struct sinks *t = *state;
	struct ql_fill_file *file = open_by(t, &t->small);

	assert_int_equal(pour(t, &t->small, t->data, 100000, 300000), 0);
	check(t, file, 100000, 300000);
	/* A larger chunk around it, and the same as it. */
	assert_int_equal(pour(t, &t->large, t->wrong, 0, 5 << 20), -EBADMSG);
	check(t, file, 100000, 300000);
	assert_int_equal(pour(t, &t->small, t->wrong, 0, 100000), -EBADMSG);
	check(t, file, 100000, 300000);
	assert_int_equal(pour(t, &t->large, t->data, 0, LEN), 0);
	check(t, file, 0, LEN);
	ql_fill_close(t->f, file);
	assert_int_equal(ql_fill_flush(t->f, NULL), 0);
	assert_true(ql_object_here(t->lab.to.store, &t->digest));
}

static void one_chunk_here_is_many_there(void **state)
{
	struct sinks *t = *state;
	struct ql_fill_file *file = open_by(t, &t->whole);

	/* What is open as one chunk may yet come as many, and the reverse. */
	assert_int_equal(pour(t, &t->small, t->data, 0, 3 << 20), 0);
	check(t, file, 0, 2 << 20);
	assert_int_equal(pour(t, &t->whole, t->data, 0, LEN), 0);
	check(t, file, 0, LEN);
	ql_fill_close(t->f, file);
	assert_int_equal(ql_fill_flush(t->f, NULL), 0);
	assert_true(ql_object_here(t->lab.to.store, &t->digest));
}

static void one_that_became_many_meanwhile_counts_for_nothing(void **state)
{
	struct sinks *t = *state;
	struct ql_fill_file *file = open_by(t, &t->whole);
	struct ql_fill_sink *sink;

	assert_int_equal(ql_fill_sink_new(t->f, &t->whole.toc, &sink, NULL), 0);
	assert_int_equal(ql_fill_sink_seek(sink, 0, NULL), 0);
	assert_int_equal(ql_fill_sink_write(sink, t->data, 1000, NULL), 0);
	assert_int_equal(pour(t, &t->small, t->data, 0, 200000), 0);
	assert_int_equal(
		ql_fill_sink_write(sink, t->data + 1000, LEN - 1000, NULL), 0);
	ql_fill_sink_free(sink);
	check(t, file, 0, 200000);
	assert_int_equal(pour(t, &t->small, t->data, 200000, LEN), 0);
	check(t, file, 0, LEN);
	ql_fill_close(t->f, file);
	assert_int_equal(ql_fill_flush(t->f, NULL), 0);
	assert_true(ql_object_here(t->lab.to.store, &t->digest));
}

/* All chunks are right, and the whole is not what its name says. */
static void a_file_of_another_digest_is_refused(void **state)
{
	struct sinks *t = *state;
	struct ql_digest good = t->digest;
	struct table lie;
	struct ql_fill_file *file;
	struct ql_fill_stats stats;

	t->digest.bytes[5] ^= 1;
	table_init(t, &lie, 1 << 20);
	file = open_by(t, &lie);
	assert_int_equal(pour(t, &lie, t->data, 0, LEN), 0);
	assert_int_equal(ql_fill_flush(t->f, NULL), 0);
	ql_filler_stats(t->f, &stats);
	assert_int_equal(stats.bad_files, 1);
	assert_false(ql_object_here(t->lab.to.store, &t->digest));
	assert_int_equal(fill_read(t->f, file, 0, 10), -EIO);
	/* Nor does it come again as often as it passes by. */
	assert_int_equal(pour(t, &lie, t->data, 0, LEN), 0);
	ql_fill_close(t->f, file);
	assert_int_equal(ql_fill_flush(t->f, NULL), 0);
	ql_filler_stats(t->f, &stats);
	assert_int_equal(stats.bad_files, 1);
	(void)ql_partial_unlink(t->lab.to.store, &t->digest);
	t->digest = good;
	table_release(&lie);
}

/* Pours the raw space in runs that end anywhere, in any order. */
static int pour_runs(struct sinks *t, struct table *table, const char *data,
		     const uint64_t *cuts, const unsigned int *order, size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++)
		r = pour(t, table, data, cuts[order[i]], cuts[order[i] + 1]);
	return r;
}

static void a_chunk_comes_in_pieces(void **state)
{
	static const uint64_t cuts[] = { 0,	  150000,  150001,
					 1000000, 1010000, LEN };
	static const unsigned int order[] = { 4, 0, 2, 3, 1 };
	struct sinks *t = *state;
	struct ql_fill_file *file = open_by(t, &t->small);
	struct ql_fill_stats stats;

	assert_int_equal(pour_runs(t, &t->small, t->data, cuts, order, 5), 0);
	check(t, file, 0, LEN);
	assert_true(ql_fill_file_has(file, 0, LEN));
	assert_int_equal(t->f->n_pieces, 0);
	ql_filler_stats(t->f, &stats);
	/* None came twice. */
	assert_int_equal(stats.chunk_bytes, LEN);
	ql_fill_close(t->f, file);
	assert_int_equal(ql_fill_flush(t->f, NULL), 0);
	assert_true(ql_object_here(t->lab.to.store, &t->digest));
}

/* What is one chunk, too, if it is not large. */
static void the_only_chunk_comes_in_pieces(void **state)
{
	static const uint64_t cuts[] = { 0, 1 << 20, 2 << 20, 3 << 20 };
	static const unsigned int order[] = { 2, 0, 1 };
	struct sinks *t = *state;
	struct table table;
	struct ql_fill_file *file;
	struct ql_digest large = t->digest;

	assert_int_equal(ql_digest_of(t->data, 3 << 20, &t->digest), 0);
	table_init_len(t, &table, 3 << 20, 3 << 20);
	file = open_by(t, &table);
	assert_int_equal(pour_runs(t, &table, t->data, cuts, order, 3), 0);
	check(t, file, 0, 3 << 20);
	assert_int_equal(t->f->n_pieces, 0);
	ql_fill_close(t->f, file);
	assert_int_equal(ql_fill_flush(t->f, NULL), 0);
	table_release(&table);
	t->digest = large;
}

static void a_wrong_piece_is_forgotten(void **state)
{
	struct sinks *t = *state;
	struct ql_fill_file *file = open_by(t, &t->small);
	struct ql_fill_stats stats;

	assert_int_equal(pour(t, &t->small, t->wrong, 0, 40000), 0);
	assert_int_equal(t->f->n_pieces, 1);
	assert_int_equal(pour(t, &t->small, t->data, 40000, 100000), -EBADMSG);
	assert_int_equal(t->f->n_pieces, 0);
	assert_int_equal(t->small.toc.astray, 1);
	assert_false(ql_fill_file_has(file, 0, 100000));
	ql_filler_stats(t->f, &stats);
	assert_int_equal(stats.bad_chunks, 1);
	assert_int_equal(pour(t, &t->small, t->data, 40000, 100000), 0);
	assert_int_equal(pour(t, &t->small, t->data, 0, 50000), 0);
	check(t, file, 0, 100000);
	ql_fill_close(t->f, file);
}

static void pieces_are_few(void **state)
{
	struct sinks *t = *state;
	struct ql_fill_file *file = open_by(t, &t->large);
	struct table table;

	/* Of chunks that are too large there are none. */
	assert_int_equal(pour(t, &t->large, t->data, 0, 1 << 20), 0);
	assert_int_equal(t->f->n_pieces, 0);
	ql_fill_close(t->f, file);
	table_init(t, &table, 4096);
	file = open_by(t, &table);
	for (uint64_t at = 0; at + 4096 < LEN; at += 4096)
		assert_int_equal(pour(t, &table, t->data, at, at + 100), 0);
	assert_in_range(t->f->n_pieces, 2, 1000);
	assert_in_range(t->f->piece_bytes, 4096, 16 << 20);
	ql_fill_close(t->f, file);
	assert_int_equal(ql_fill_flush(t->f, NULL), 0);
	ql_fill_pieces_drop(t->f, &table.toc);
	assert_int_equal(t->f->n_pieces, 0);
	assert_int_equal(t->f->piece_bytes, 0);
	table_release(&table);
}

/* Its image was removed: those who have it open read on, and it comes anew. */
static void what_was_removed_comes_again(void **state)
{
	struct sinks *t = *state;
	struct ql_fill_file *file = open_by(t, &t->small), *again;

	assert_int_equal(pour(t, &t->small, t->data, 0, 300000), 0);
	(void)ql_partial_unlink(t->lab.to.store, &t->digest);
	again = open_by(t, &t->small);
	assert_ptr_not_equal(again, file);
	assert_false(ql_fill_file_has(again, 0, 100000));
	assert_int_equal(pour(t, &t->small, t->data, 0, LEN), 0);
	check(t, again, 0, LEN);
	check(t, file, 0, 300000);
	ql_fill_close(t->f, file);
	ql_fill_close(t->f, again);
	assert_int_equal(ql_fill_flush(t->f, NULL), 0);
	assert_true(ql_object_here(t->lab.to.store, &t->digest));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(a_wrong_chunk_leaves_what_is_there),
		TEST(one_chunk_here_is_many_there),
		TEST(one_that_became_many_meanwhile_counts_for_nothing),
		TEST(a_file_of_another_digest_is_refused),
		TEST(what_was_removed_comes_again),
		TEST(a_chunk_comes_in_pieces),
		TEST(the_only_chunk_comes_in_pieces),
		TEST(a_wrong_piece_is_forgotten),
		TEST(pieces_are_few),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
