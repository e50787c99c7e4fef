/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables of contents that are made while plain layers are read: whatever the
 * layer is compressed by, every span decodes by itself and every piece of
 * every file is found in them.  QL_SEEDS: how many random archives.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// clang-format off
#include <cmocka.h>
// clang-format on
#include "tests/unit/plainindex.h"

/* ---- tests ---- */

static void every_piece_is_found_in_every_codec(void **state)
{
	/* Spans: what each way of writing has to give at least. */
	static const uint32_t least[HOWS] = {
		4, 2, 2, 2, 5, 1, 3, 4, 9, 1, 4, 9
	};

	(void)state;
	for (int how = 0; how < HOWS; how++) {
		_cleanup_indexed_ struct indexed x;

		indexed_init(&x, (enum how)how, archive_make);
		print_message("# %d: %u spans, blob %zu of %zu\n", how,
			      ql_toc_spans(x.toc), x.blob.len, x.tar.len);
		expect_right(&x);
		assert_true(ql_toc_spans(x.toc) >= least[how]);
	}
}

static void every_piece_of_random_archives_is_found(void **state)
{
	const char *seeds = getenv("QL_SEEDS");
	long n = seeds ? strtol(seeds, NULL, 10) : 6;

	(void)state;
	for (long i = 0; i < n; i++) {
		_cleanup_indexed_ struct indexed x;
		enum how how;

		rng = (uint64_t)(i + 1) * 0x9e3779b97f4a7c15ULL;
		(void)rnd(2);
		how = (enum how)((i * 5 + 1) % HOWS);
		print_message("# seed %ld: %d\n", i + 1, (int)how);
		indexed_init(&x, how, archive_random);
		expect_right(&x);
	}
}

static void large_files_are_cut_and_others_have_their_own_digest(void **state)
{
	_cleanup_indexed_ struct indexed x;
	struct ql_toc_chunk c;
	struct ql_toc_file f;

	(void)state;
	indexed_init(&x, NONE, archive_make);
	for (uint32_t i = 0; i < ql_toc_files(x.toc); i++) {
		assert_int_equal(ql_toc_file(x.toc, i, &f), 0);
		assert_true(f.size > 64);
		if (f.size == 5000)
			assert_int_equal(f.n_chunks,
					 0); /* nothing but a hole */
		else if (f.size == 9000)
			assert_int_equal(f.n_chunks, 1); /* then a hole */
		else if (f.size == 2600000)
			assert_int_equal(f.n_chunks, 3); /* with holes */
		else if (f.size > 4 << 20)
			assert_int_equal(f.n_chunks,
					 (f.size + (1 << 20) - 1) >> 20);
		else
			assert_int_equal(f.n_chunks, 1);
		if (f.n_chunks != 1 || f.size == 9000)
			continue;
		assert_int_equal(ql_toc_chunk(x.toc, f.first_chunk, &c), 0);
		assert_true(ql_digest_equal(&c.digest, &f.digest));
	}
}

/* The table's bytes, open to damage, without its checksum. */
static void table_bytes(const struct indexed *x, struct ql_buf *ret_buf)
{
	char hex[QL_DIGEST_HEX + 1];
	_cleanup_free_ char *path = ql_strf("%s/layers/%s.toc", x->lab.root,
					    ql_digest_hex(&x->info.blob, hex));

	assert_non_null(path);
	assert_int_equal(ql_read_file(AT_FDCWD, path, ret_buf, NULL), 0);
}

/* Whatever a table says, its spans give an error, or bytes of which the
 * digests tell. */
static void damaged_tables_never_give_wrong_bytes(void **state)
{
	_cleanup_buf_ struct ql_buf table = QL_BUF_INIT(BUF_MAX);
	_cleanup_indexed_ struct indexed x;
	struct ql_error err = QL_ERROR_INIT;
	struct spans_stats stats;
	unsigned int errors = 0;

	(void)state;
	indexed_init(&x, GZIP_6, archive_make);
	assert_int_equal(spans_check(x.toc, &x.spans, 1, &stats, &err), 0);
	table_bytes(&x, &table);
	for (int i = 0; i < 60; i++) {
		size_t at =
			table.len - 1 -
			rnd((uint32_t)stats.windows + 64 * ql_toc_spans(x.toc));
		uint8_t bit = (uint8_t)(1U << rnd(8));
		struct ql_toc *toc;
		int r;

		table.data[at] = (char)((uint8_t)table.data[at] ^ bit);
		r = ql_toc_open_mem(table.data, table.len, &toc, &err);
		assert_int_equal(r, 0);
		r = ql_toc_check(toc, NULL);
		assert_int_equal(r, -EBADMSG);
		memset(x.spans.raw, 0, x.spans.raw_size);
		r = 0;
		for (uint32_t s = 0; s < ql_toc_spans(toc); s++)
			if (spans_run(toc, s, 1, &x.spans, &err) < 0)
				r = -1;
		if (r == 0 && memcmp(x.spans.raw, x.tar.data, x.tar.len) != 0)
			for (uint32_t f = 0; f < ql_toc_files(toc); f++)
				if (spans_file(toc, f, &x.spans, &err) < 0)
					r = -1;
		errors += r < 0;
		ql_toc_close(toc);
		table.data[at] = (char)((uint8_t)table.data[at] ^ bit);
	}
	print_message("# %u of 60 were noticed\n", errors);
	assert_true(errors > 20);
}

static void damaged_blobs_never_give_wrong_bytes(void **state)
{
	static const enum how hows[] = { GZIP_6, GZIP_TINY_MEMBERS, ZSTD_FRAMES,
					 NONE };
	struct ql_error err = QL_ERROR_INIT;

	(void)state;
	for (size_t h = 0; h < sizeof(hows) / sizeof(hows[0]); h++) {
		_cleanup_indexed_ struct indexed x;
		struct spans_stats stats;

		indexed_init(&x, hows[h], archive_random);
		for (int i = 0; i < 10; i++) {
			size_t at = rnd((uint32_t)x.blob.len);
			int r;

			x.blob.data[at] = (char)(x.blob.data[at] ^ 1);
			r = spans_check(x.toc, &x.spans, 1, &stats, &err);
			if (r == 0) /* it hit what is no content */
				for (uint32_t f = 0; f < ql_toc_files(x.toc);
				     f++)
					assert_int_equal(spans_file(x.toc, f,
								    &x.spans,
								    &err),
							 0);
			x.blob.data[at] = (char)(x.blob.data[at] ^ 1);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_piece_is_found_in_every_codec),
		cmocka_unit_test(every_piece_of_random_archives_is_found),
		cmocka_unit_test(
			large_files_are_cut_and_others_have_their_own_digest),
		cmocka_unit_test(damaged_tables_never_give_wrong_bytes),
		cmocka_unit_test(damaged_blobs_never_give_wrong_bytes),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
