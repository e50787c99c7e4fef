/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of blobs as they came: what is recorded is there, what is punched is
 * not, whoever does it and whenever somebody is killed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "tests/unit/layers.h"

enum { SIZE = 1 << 20, ROUNDS = 200, BLOCK = 4096 };

static char blob_data[SIZE];

static struct ql_digest blob_digest(void)
{
	static struct ql_digest d;
	static bool made;
	unsigned int x = 1;

	for (size_t i = 0; i < SIZE && !made; i++) {
		x = x * 1103515245 + 12345;
		blob_data[i] = (char)((x >> 16) | 1); /* no hole's zero */
	}
	if (!made)
		assert_int_equal(ql_digest_of(blob_data, SIZE, &d), 0);
	made = true;
	return d;
}

static int put(struct lab *lab, const struct ql_digest *d, uint64_t start,
	       uint64_t end)
{
	return ql_packed_put(lab->store, d, SIZE, start, blob_data + start,
			     (size_t)(end - start), &lab->err);
}

static void again(struct lab *lab)
{
	ql_store_close(lab->store);
	assert_int_equal(
		ql_store_open(lab->root, QL_STORE_WRITE, &lab->store, NULL), 0);
}

/* What is said to be there is there, and is right. */
static bool reads_right(struct lab *lab, const struct ql_digest *d,
			uint64_t start, uint64_t end)
{
	static char buf[SIZE];
	int fd, r;

	r = ql_packed_open(lab->store, d, start, end - start, &fd, &lab->err);
	if (r == -ENOENT)
		return false;
	assert_int_equal(r, 0);
	assert_int_equal(ql_pread_full(fd, buf, (size_t)(end - start), start),
			 (ssize_t)(end - start));
	(void)close(fd);
	assert_memory_equal(buf, blob_data + start, (size_t)(end - start));
	return true;
}

static void what_is_put_can_be_read(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest d = blob_digest();

	(void)state;
	lab_init(&lab);
	assert_false(ql_packed_has(lab.store, &d, 0, 1));
	assert_int_equal(ql_packed_bytes(lab.store, &d), 0);
	assert_int_equal(put(&lab, &d, 1000, 20000), 0);
	assert_true(reads_right(&lab, &d, 1000, 20000));
	assert_false(ql_packed_has(lab.store, &d, 999, 2));
	assert_false(ql_packed_has(lab.store, &d, 19999, 2));
	assert_int_equal(ql_packed_settle(lab.store, &lab.err), 0);
	assert_int_equal(put(&lab, &d, 20000, 30000), 0);
	/* Some of it is settled, some is not. */
	assert_true(reads_right(&lab, &d, 1500, 25000));
	assert_in_range(ql_packed_bytes(lab.store, &d), 29000, 60000);
}

static void reaches(struct lab *lab, const struct ql_digest *d, uint64_t offset,
		    uint64_t len, int want, uint64_t want_len)
{
	uint64_t got = 0, size = 0;
	int fd = -1;

	assert_int_equal(ql_packed_reach(lab->store, d, offset, len, &fd, &got,
					 &size, &lab->err),
			 want);
	if (want < 0)
		return;
	assert_int_equal(got, want_len);
	assert_int_equal(size, SIZE);
	(void)close(fd);
}

static void it_is_known_how_far_it_reaches(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest d = blob_digest();

	(void)state;
	lab_init(&lab);
	reaches(&lab, &d, 0, 0, -ENOENT, 0);
	assert_int_equal(put(&lab, &d, 1000, 20000), 0);
	assert_int_equal(ql_packed_settle(lab.store, &lab.err), 0);
	assert_int_equal(put(&lab, &d, 20000, 30000), 0);
	reaches(&lab, &d, 1000, UINT64_MAX, 0, 29000);
	reaches(&lab, &d, 1500, 100, 0, 100);
	reaches(&lab, &d, 29999, 100, 0, 1);
	reaches(&lab, &d, 0, 0, 0, 0);
	reaches(&lab, &d, 999, 1, -ENOENT, 0);
	reaches(&lab, &d, 30000, 1, -ENOENT, 0);
	assert_int_equal(ql_packed_punch(lab.store, &d, 0, SIZE, &lab.err), 0);
	reaches(&lab, &d, 1500, 100, -ENOENT, 0);
	reaches(&lab, &d, 0, 0, -ENOENT, 0);
}

static void a_part_outside_is_refused(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest d = blob_digest();

	(void)state;
	lab_init(&lab);
	assert_int_equal(ql_packed_put(lab.store, &d, 100, 90, blob_data, 11,
				       &lab.err),
			 -EINVAL);
	assert_int_equal(ql_packed_put(lab.store, &d, 100, UINT64_MAX,
				       blob_data, 2, &lab.err),
			 -EINVAL);
	assert_false(ql_packed_has(lab.store, &d, UINT64_MAX, 2));
}

/* As if it was killed in between. */
static void what_is_not_settled_is_not_there(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest d = blob_digest();
	uint64_t had;

	(void)state;
	lab_init(&lab);
	assert_int_equal(put(&lab, &d, 0, 50000), 0);
	assert_int_equal(put(&lab, &d, 400000, 450000), 0);
	assert_int_equal(ql_packed_settle(lab.store, &lab.err), 0);
	assert_int_equal(put(&lab, &d, 100000, 300000), 0);
	again(&lab);
	assert_true(reads_right(&lab, &d, 0, 50000));
	assert_false(ql_packed_has(lab.store, &d, 100000, 1));
	/* Nor does it stay on the disk. */
	had = ql_packed_bytes(lab.store, &d);
	assert_int_equal(ql_packed_trim(lab.store, &d, &lab.err), 0);
	assert_true(ql_packed_bytes(lab.store, &d) + 190000 <= had);
	assert_true(reads_right(&lab, &d, 0, 50000));
}

static void what_is_punched_is_gone(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest d = blob_digest();
	uint64_t had;

	(void)state;
	lab_init(&lab);
	assert_int_equal(put(&lab, &d, 0, SIZE), 0);
	assert_int_equal(ql_packed_settle(lab.store, &lab.err), 0);
	had = ql_packed_bytes(lab.store, &d);
	assert_int_equal(
		ql_packed_punch(lab.store, &d, 100001, 300000, &lab.err), 0);
	assert_true(ql_packed_bytes(lab.store, &d) + 290000 <= had);
	assert_false(ql_packed_has(lab.store, &d, 100001, 1));
	assert_false(ql_packed_has(lab.store, &d, 400000, 1));
	/* Its neighbours in the same blocks are as they were. */
	assert_true(reads_right(&lab, &d, 0, 100001));
	assert_true(reads_right(&lab, &d, 400001, SIZE));
	again(&lab);
	assert_false(ql_packed_has(lab.store, &d, 200000, 1));
	assert_int_equal(ql_packed_drop(lab.store, &d, &lab.err), 0);
	assert_false(ql_packed_has(lab.store, &d, 0, 1));
	assert_int_equal(ql_packed_bytes(lab.store, &d), 0);
	assert_int_equal(ql_packed_drop(lab.store, &d, &lab.err), 0);
	assert_int_equal(ql_packed_punch(lab.store, &d, 0, 10, &lab.err), 0);
}

enum { PUNCH_START = 40000, PUNCH_LEN = 200000 };

static int punches(struct ql_store *store, const struct ql_digest *d,
		   struct ql_error *err)
{
	return ql_packed_punch(store, d, PUNCH_START, PUNCH_LEN, err);
}

/* Punches, trims or drops it in a process of its own. */
static void by_another(struct lab *lab, const struct ql_digest *d,
		       int (*fn)(struct ql_store *store,
				 const struct ql_digest *d,
				 struct ql_error *err))
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		struct ql_store *other;
		int r = ql_store_open(lab->root, QL_STORE_WRITE, &other, NULL);

		if (r == 0)
			r = fn(other, d, NULL);
		_exit(r == 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void what_another_punches_before_it_is_settled_is_gone(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest d = blob_digest();

	(void)state;
	lab_init(&lab);
	assert_int_equal(put(&lab, &d, 0, 30000), 0);
	assert_int_equal(put(&lab, &d, 40100, 40900), 0); /* in a block */
	assert_int_equal(put(&lab, &d, 50000, 100000), 0);
	assert_int_equal(put(&lab, &d, 500000, 600000), 0);
	by_another(&lab, &d, punches);
	/* It is not there at once, and nor is what may be gone. */
	assert_false(ql_packed_has(lab.store, &d, 50000, 1));
	assert_int_equal(ql_packed_settle(lab.store, &lab.err), 0);
	assert_false(ql_packed_has(lab.store, &d, 50000, 1));
	/* Whatever is said of it, it is not zeros. */
	(void)reads_right(&lab, &d, 0, 30000);
	(void)reads_right(&lab, &d, 40100, 40900);
	(void)reads_right(&lab, &d, 500000, 600000);
	assert_int_equal(put(&lab, &d, 500000, 600000), 0);
	assert_int_equal(put(&lab, &d, 700000, 800000), 0);
	by_another(&lab, &d, ql_packed_drop);
	assert_int_equal(ql_packed_settle(lab.store, &lab.err), 0);
	assert_false(ql_packed_has(lab.store, &d, 700000, 1));
	assert_false(ql_packed_has(lab.store, &d, 500000, 1));
	/* And it can begin anew. */
	assert_int_equal(put(&lab, &d, 10, 20), 0);
	assert_int_equal(ql_packed_settle(lab.store, &lab.err), 0);
	assert_true(reads_right(&lab, &d, 10, 20));
	assert_false(ql_packed_has(lab.store, &d, 700000, 1));
}

/* A block that was punched has data again: nothing shows that what was put
 * into it before is gone. */
static void what_another_takes_stays_gone_where_more_is_put(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest d = blob_digest();

	(void)state;
	lab_init(&lab);
	for (int settled = 0; settled < 2; settled++) {
		const uint64_t at = settled ? 409600 : 0;

		/* In a file that is new, and in one that is not. */
		assert_int_equal(put(&lab, &d, at, at + 100), 0);
		by_another(&lab, &d, ql_packed_trim);
		assert_int_equal(put(&lab, &d, at + 200, at + 300), 0);
		assert_false(ql_packed_has(lab.store, &d, at, 1));
		assert_int_equal(ql_packed_settle(lab.store, &lab.err), 0);
		assert_false(ql_packed_has(lab.store, &d, at, 1));
		assert_true(reads_right(&lab, &d, at + 200, at + 300));
	}
	assert_int_equal(put(&lab, &d, 100000, 100100), 0);
	by_another(&lab, &d, punches);
	assert_int_equal(put(&lab, &d, 100200, 100300), 0);
	assert_int_equal(ql_packed_settle(lab.store, &lab.err), 0);
	assert_false(ql_packed_has(lab.store, &d, 100000, 1));
	assert_true(reads_right(&lab, &d, 100200, 100300));
	/* What was recorded is as it was. */
	assert_true(reads_right(&lab, &d, 200, 300));
	again(&lab);
	assert_false(ql_packed_has(lab.store, &d, 0, 1));
	assert_false(ql_packed_has(lab.store, &d, 100000, 1));
}

static int puts_beside(struct ql_store *store, const struct ql_digest *d,
		       struct ql_error *err)
{
	int r = ql_packed_trim(store, d, err);

	if (r == 0)
		r = ql_packed_put(store, d, SIZE, 200, blob_data + 200, 100,
				  err);
	return r < 0 ? r : ql_packed_settle(store, err);
}

static void what_another_puts_brings_nothing_back(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest d = blob_digest();

	(void)state;
	lab_init(&lab);
	assert_int_equal(put(&lab, &d, 0, 100), 0);
	by_another(&lab, &d, puts_beside);
	assert_int_equal(ql_packed_settle(lab.store, &lab.err), 0);
	assert_false(ql_packed_has(lab.store, &d, 0, 1));
	assert_true(reads_right(&lab, &d, 200, 300));
}

/* What this process takes itself it knows. */
static void what_was_put_outlives_what_is_taken_beside_it(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest d = blob_digest();

	(void)state;
	lab_init(&lab);
	assert_int_equal(put(&lab, &d, 0, 30000), 0);
	assert_int_equal(put(&lab, &d, 50000, 300000), 0);
	assert_int_equal(punches(lab.store, &d, &lab.err), 0);
	assert_int_equal(ql_packed_trim(lab.store, &d, &lab.err), 0);
	assert_true(reads_right(&lab, &d, 0, 30000));
	assert_false(ql_packed_has(lab.store, &d, 50000, 1));
	assert_true(reads_right(&lab, &d, 240000, 300000));
	assert_int_equal(ql_packed_settle(lab.store, &lab.err), 0);
	again(&lab);
	assert_true(reads_right(&lab, &d, 0, 30000));
	assert_false(ql_packed_has(lab.store, &d, 50000, 1));
	assert_true(reads_right(&lab, &d, 240000, 300000));
}

static uint64_t generation(struct lab *lab, const struct ql_digest *d)
{
	struct ql_packed_record rec = { 0 };
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;

	assert_int_equal(
		ql_txn_begin(lab->store->catalog, false, &txn, &lab->err), 0);
	assert_int_equal(ql_packed_record_get(txn, d, &rec), 0);
	ql_packed_record_release(&rec);
	return rec.generation;
}

/* What is remembered of a generation is void with another. */
static void who_takes_nothing_changes_nothing(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest d = blob_digest();
	uint64_t was;

	(void)state;
	lab_init(&lab);
	assert_int_equal(put(&lab, &d, 0, 30000), 0);
	assert_int_equal(put(&lab, &d, 500000, 600000), 0);
	assert_int_equal(ql_packed_settle(lab.store, &lab.err), 0);
	was = generation(&lab, &d);
	by_another(&lab, &d, ql_packed_trim);
	by_another(&lab, &d, punches);
	assert_int_equal(generation(&lab, &d), was);
	assert_int_equal(put(&lab, &d, 100000, 110000), 0);
	by_another(&lab, &d, ql_packed_trim);
	assert_true(generation(&lab, &d) > was);
}

static char *file_path(const struct lab *lab, const struct ql_digest *d)
{
	char path[QL_PACKED_PATH + 1];
	char *full = ql_strf("%s/%s", lab->root, ql_packed_path(d, path));

	assert_non_null(full);
	return full;
}

static void a_record_without_its_file_counts_for_nothing(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest d = blob_digest();
	_cleanup_free_ char *path = NULL;

	(void)state;
	lab_init(&lab);
	path = file_path(&lab, &d);
	assert_int_equal(put(&lab, &d, 0, 50000), 0);
	assert_int_equal(ql_packed_settle(lab.store, &lab.err), 0);
	assert_int_equal(truncate(path, SIZE - 1), 0);
	again(&lab);
	assert_false(ql_packed_has(lab.store, &d, 0, 1));
	assert_int_equal(unlink(path), 0);
	again(&lab);
	assert_false(ql_packed_has(lab.store, &d, 0, 1));
	/* What comes does not bring back what was. */
	assert_int_equal(put(&lab, &d, 60000, 70000), 0);
	assert_int_equal(ql_packed_settle(lab.store, &lab.err), 0);
	again(&lab);
	assert_false(ql_packed_has(lab.store, &d, 0, 1));
	assert_true(reads_right(&lab, &d, 60000, 70000));
}

static int count_one(const struct ql_digest *d, uint64_t bytes, void *arg)
{
	(void)d;
	(void)bytes;
	++*(int *)arg;
	return 0;
}

static void a_file_without_a_record_is_trimmed_away(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest d = blob_digest();
	_cleanup_free_ char *path = NULL;
	int n = 0;
	FILE *f;

	(void)state;
	lab_init(&lab);
	assert_int_equal(put(&lab, &d, 0, 10), 0);
	assert_int_equal(ql_packed_drop(lab.store, &d, &lab.err), 0);
	path = file_path(&lab, &d);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(blob_data, 1, SIZE, f), SIZE);
	assert_int_equal(fclose(f), 0);
	assert_false(ql_packed_has(lab.store, &d, 0, 1));
	assert_int_equal(ql_packed_each(lab.store, count_one, &n, &lab.err), 0);
	assert_int_equal(n, 1);
	assert_int_equal(ql_packed_trim(lab.store, &d, &lab.err), 0);
	assert_int_equal(access(path, F_OK), -1);
}

/* Random puts, punches, settlings and restarts, beside a plain account of what
 * is sure to be there and what may be. */
static void a_long_life(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest d = blob_digest();
	struct ql_extents sure = { 0 }, unsettled = { 0 };
	unsigned int seed = 7979;

	(void)state;
	lab_init(&lab);
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t start = (uint64_t)rand_r(&seed) % (SIZE - 70000);
		uint64_t end = start + 1 + (uint64_t)rand_r(&seed) % 60000;
		int what = rand_r(&seed) % 10;

		if (what < 5) {
			assert_int_equal(put(&lab, &d, start, end), 0);
			assert_int_equal(ql_extents_add(&unsettled, start, end),
					 0);
		} else if (what < 8) {
			assert_int_equal(ql_packed_punch(lab.store, &d, start,
							 end - start, &lab.err),
					 0);
			assert_int_equal(ql_extents_cut(&sure, start, end), 0);
			assert_int_equal(ql_extents_cut(&unsettled, start, end),
					 0);
		} else if (what == 8) {
			assert_int_equal(ql_packed_settle(lab.store, &lab.err),
					 0);
			assert_int_equal(ql_extents_copy(&unsettled, &sure), 0);
			ql_extents_release(&unsettled);
		} else {
			again(&lab);
			ql_extents_release(&unsettled);
		}
		for (size_t k = 0; k < sure.n; k++)
			assert_true(reads_right(&lab, &d, sure.items[k].start,
						sure.items[k].end));
		for (int k = 0; k < 20; k++) {
			start = (uint64_t)rand_r(&seed) % (SIZE - 1);
			if (ql_packed_has(lab.store, &d, start, 1) !=
			    (ql_extents_have(&sure, start, start + 1) ||
			     ql_extents_have(&unsettled, start, start + 1)))
				fail_msg("round %d: byte %d", i, (int)start);
		}
	}
	ql_extents_release(&sure);
	ql_extents_release(&unsettled);
}

/* ---- by a table ---- */

struct counting {
	struct ql_store *store;
	atomic_bool stop;
	unsigned int n;
};

static void *count_main(void *arg)
{
	struct counting *c = arg;
	struct ql_space space;

	for (; !atomic_load(&c->stop); c->n++)
		assert_int_equal(ql_space_recount(c->store, &space, NULL), 0);
	return NULL;
}

/* A file that grows under its name counts once, whenever all is counted. */
static void what_is_put_counts_once(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest d = blob_digest();
	struct ql_space before, after;
	struct counting c = { 0 };
	pthread_t thread;
	uint64_t most = 0;

	(void)state;
	lab_init(&lab);
	c.store = lab.store;
	assert_int_equal(ql_space_limits(lab.store, 64 << 20, 0, &lab.err), 0);
	for (int i = 0; i < ROUNDS; i++) {
		assert_int_equal(pthread_create(&thread, NULL, count_main, &c),
				 0);
		assert_int_equal(put(&lab, &d, 0, SIZE), 0);
		atomic_store(&c.stop, true);
		assert_int_equal(pthread_join(thread, NULL), 0);
		atomic_store(&c.stop, false);
		assert_int_equal(ql_space_get(lab.store, &before, NULL), 0);
		assert_int_equal(ql_space_recount(lab.store, &after, NULL), 0);
		if (before.used > after.used && before.used - after.used > most)
			most = before.used - after.used;
		assert_true(before.used + SIZE / 2 > after.used);
		assert_int_equal(ql_packed_drop(lab.store, &d, &lab.err), 0);
	}
	assert_true(c.n > 0);
	assert_true(most < SIZE / 2);
}

static void a_view_knows_files(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(1 << 20);
	_cleanup_(ql_packed_view_closep) struct ql_packed_view *view = NULL;
	struct ql_digest d = blob_digest(), a, b;
	struct ql_toc_span span = { .len = 1000, .raw_len = 3000 };
	struct ql_toc_writer *w;
	struct ql_toc_file file;
	struct ql_toc *toc;
	uint64_t raw;

	(void)state;
	lab_init(&lab);
	assert_int_equal(ql_digest_of("a", 1, &a), 0);
	assert_int_equal(ql_digest_of("b", 1, &b), 0);
	assert_int_equal(ql_toc_writer_new(&w, NULL), 0);
	assert_int_equal(ql_toc_writer_blob(w, &d, SIZE, QL_CODEC_ZSTD, NULL),
			 0);
	for (int i = 0; i < 3; i++, span.offset += 1000)
		assert_int_equal(ql_toc_writer_span(w, &span, &raw, NULL), 0);
	/* a: in the first span and the second; b: in the last. */
	assert_int_equal(ql_toc_writer_file(w, &a, 4000, NULL), 0);
	assert_int_equal(ql_toc_writer_chunk(w, 0, 2000, 500, &b, NULL), 0);
	assert_int_equal(ql_toc_writer_chunk(w, 2000, 2000, 2500, &b, NULL), 0);
	assert_int_equal(ql_toc_writer_file(w, &b, 100, NULL), 0);
	assert_int_equal(ql_toc_writer_chunk(w, 0, 100, 7000, NULL, NULL), 0);
	assert_int_equal(ql_toc_writer_finish(w, &buf, NULL), 0);
	ql_toc_writer_free(w);
	assert_int_equal(ql_toc_open_mem(buf.data, buf.len, &toc, NULL), 0);

	assert_int_equal(ql_packed_view_open(lab.store, toc, &view, &lab.err),
			 0);
	assert_true(ql_packed_view_is_empty(view));
	ql_packed_view_close(ql_take_ptr(view));
	assert_int_equal(put(&lab, &d, 0, 1000), 0);
	assert_int_equal(put(&lab, &d, 2000, 3000), 0);
	assert_int_equal(ql_packed_settle(lab.store, &lab.err), 0);
	assert_int_equal(ql_packed_view_open(lab.store, toc, &view, &lab.err),
			 0);
	assert_false(ql_packed_view_is_empty(view));
	assert_int_equal(ql_toc_find(toc, &a, &file), 0);
	assert_false(ql_packed_covers(view, &file));
	assert_int_equal(ql_packed_covered(view, &file), 2000);
	assert_int_equal(ql_toc_find(toc, &b, &file), 0);
	assert_true(ql_packed_covers(view, &file));
	ql_packed_view_close(ql_take_ptr(view));
	assert_int_equal(put(&lab, &d, 1000, 2000), 0);
	assert_int_equal(ql_packed_settle(lab.store, &lab.err), 0);
	assert_int_equal(ql_packed_view_open(lab.store, toc, &view, &lab.err),
			 0);
	assert_int_equal(ql_toc_find(toc, &a, &file), 0);
	assert_true(ql_packed_covers(view, &file));
	ql_toc_close(toc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_put_can_be_read),
		cmocka_unit_test(it_is_known_how_far_it_reaches),
		cmocka_unit_test(a_part_outside_is_refused),
		cmocka_unit_test(what_is_not_settled_is_not_there),
		cmocka_unit_test(what_is_punched_is_gone),
		cmocka_unit_test(
			what_another_punches_before_it_is_settled_is_gone),
		cmocka_unit_test(
			what_another_takes_stays_gone_where_more_is_put),
		cmocka_unit_test(what_another_puts_brings_nothing_back),
		cmocka_unit_test(what_was_put_outlives_what_is_taken_beside_it),
		cmocka_unit_test(who_takes_nothing_changes_nothing),
		cmocka_unit_test(a_record_without_its_file_counts_for_nothing),
		cmocka_unit_test(a_file_without_a_record_is_trimmed_away),
		cmocka_unit_test(a_long_life),
		cmocka_unit_test(what_is_put_counts_once),
		cmocka_unit_test(a_view_knows_files),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
