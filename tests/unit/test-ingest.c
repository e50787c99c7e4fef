/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/ingest.c and object.c: the one door, and what stands behind it when
 * it was used rightly, wrongly, or not to the end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>

#include "tests/unit/layers.h"

static void through(struct ql_ingest *ing, const void *data, size_t len,
		    size_t piece, struct ql_digest *ret_digest)
{
	struct ql_error err = QL_ERROR_INIT;

	assert_int_equal(ql_ingest_begin(ing, len, &err), 0);
	for (size_t at = 0; at < len; at += piece)
		assert_int_equal(ql_ingest_write(ing, (const char *)data + at,
						 len - at < piece ? len - at
								  : piece,
						 &err),
				 0);
	assert_int_equal(ql_ingest_end(ing, ret_digest, &err), 0);
}

static void object_stat(struct lab *lab, const struct ql_digest *d,
			struct stat *st)
{
	char path[QL_OBJECT_PATH + 1];

	assert_int_equal(fstatat(ql_store_root_fd(lab->store),
				 ql_object_path(d, path), st, 0),
			 0);
}

static void object_is(struct lab *lab, const struct ql_digest *d,
		      const void *want, size_t len)
{
	_cleanup_buf_ struct ql_buf got = QL_BUF_INIT(16 << 20);
	struct stat st;

	object_stat(lab, d, &st);
	assert_int_equal(st.st_size, len);
	assert_int_equal(st.st_mode & 07777, 0444);
	assert_int_equal(ql_object_read(lab->store, d, &got, &lab->err), 0);
	assert_memory_equal(ql_buf_str(&got), want, len);
}

static void content_comes_out_as_it_went_in(void **state)
{
	static const size_t sizes[] = { 0,	1,	65535,	 65536,
					131072, 262143, 262144,	 262145,
					393216, 524288, 1 << 20, 3000001 };
	enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };
	_cleanup_lab_ struct lab lab;
	_cleanup_free_ char *data = malloc(3000001);
	struct ql_digest got[SIZES * 2], want;
	struct ql_ingest *ing;

	(void)state;
	assert_non_null(data);
	lab_init(&lab);
	assert_int_equal(ql_ingest_new(lab.store, &ing, &lab.err), 0);
	for (int zeros = 0; zeros < 2; zeros++) {
		memset(data, zeros ? 0 : 'x', 3000001);
		for (size_t i = 0; i < SIZES; i++)
			through(ing, data, sizes[i], 100000,
				&got[(size_t)zeros * SIZES + i]);
	}
	assert_int_equal(ql_ingest_flush(ing, &lab.err), 0);
	ql_ingest_free(ing);
	for (int zeros = 0; zeros < 2; zeros++) {
		memset(data, zeros ? 0 : 'x', 3000001);
		for (size_t i = 0; i < SIZES; i++) {
			const struct ql_digest *d =
				&got[(size_t)zeros * SIZES + i];

			assert_int_equal(ql_digest_of(data, sizes[i], &want),
					 0);
			assert_true(ql_digest_equal(d, &want));
			object_is(&lab, d, data, sizes[i]);
		}
	}
}

static void runs_of_zeros_are_holes(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_free_ char *data = calloc(1, 4 << 20);
	struct ql_digest d;
	struct ql_ingest *ing;
	struct stat st;

	(void)state;
	assert_non_null(data);
	data[0] = 'x';
	lab_init(&lab);
	assert_int_equal(ql_ingest_new(lab.store, &ing, &lab.err), 0);
	through(ing, data, 4 << 20, 256 << 10, &d);
	assert_int_equal(ql_ingest_flush(ing, &lab.err), 0);
	ql_ingest_free(ing);
	object_is(&lab, &d, data, 4 << 20);
	object_stat(&lab, &d, &st);
	assert_in_range(st.st_blocks * 512, 1, 256 << 10);
}

static void the_same_content_is_written_once(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_free_ char *data = malloc(1 << 20);
	struct ql_digest a, b, c;
	struct ql_layer_stats stats;
	struct ql_ingest *ing;

	(void)state;
	assert_non_null(data);
	memset(data, 'd', 1 << 20);
	lab_init(&lab);
	assert_int_equal(ql_ingest_new(lab.store, &ing, &lab.err), 0);
	through(ing, data, 1 << 20, 1 << 20, &a);
	through(ing, data, 1 << 20, 999, &b); /* in the same batch */
	assert_int_equal(ql_ingest_flush(ing, &lab.err), 0);
	through(ing, data, 1 << 20, 1 << 20, &c); /* on disk */
	assert_true(ql_digest_equal(&a, &b) && ql_digest_equal(&a, &c));
	ql_ingest_stats(ing, &stats);
	assert_int_equal(stats.new_objects, 1);
	assert_int_equal(stats.new_bytes, 1 << 20);
	assert_int_equal(stats.dup_objects, 2);
	assert_int_equal(stats.dup_bytes, 2 << 20);
	ql_ingest_free(ing);
}

static void nothing_has_a_name_before_the_flush(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_free_ char *data = malloc(1 << 20);
	struct ql_digest d, unfinished;
	struct ql_ingest *ing;

	(void)state;
	assert_non_null(data);
	memset(data, 'n', 1 << 20);
	lab_init(&lab);
	assert_int_equal(ql_ingest_new(lab.store, &ing, &lab.err), 0);
	through(ing, data, 1 << 20, 1 << 20, &d);
	assert_false(ql_object_exists(lab.store, &d));
	ql_ingest_free(ing); /* dropped */
	assert_false(ql_object_exists(lab.store, &d));
	assert_int_equal(ql_ingest_new(lab.store, &ing, &lab.err), 0);
	through(ing, data, 1 << 20, 1 << 20, &d);
	memset(data, 'u', 1 << 20);
	assert_int_equal(ql_ingest_begin(ing, 1 << 20, &lab.err), 0);
	assert_int_equal(ql_ingest_write(ing, data, 1 << 20, &lab.err), 0);
	assert_int_equal(ql_ingest_flush(ing, &lab.err), 0);
	ql_ingest_free(ing);
	assert_true(ql_object_exists(lab.store, &d));
	assert_int_equal(ql_digest_of(data, 1 << 20, &unfinished), 0);
	assert_false(ql_object_exists(lab.store, &unfinished));
}

/* More files than two batches hold, each checked. */
static void many_files_go_through(void **state)
{
	enum { FILES = 1500 };
	_cleanup_lab_ struct lab lab;
	struct ql_ingest *ing;
	struct ql_digest d;
	char text[32];

	(void)state;
	lab_init(&lab);
	assert_int_equal(ql_ingest_new(lab.store, &ing, &lab.err), 0);
	for (int i = 0; i < FILES; i++) {
		(void)snprintf(text, sizeof(text), "file %d", i);
		through(ing, text, strlen(text), 100, &d);
	}
	assert_int_equal(ql_ingest_flush(ing, &lab.err), 0);
	ql_ingest_free(ing);
	for (int i = 0; i < FILES; i++) {
		(void)snprintf(text, sizeof(text), "file %d", i);
		assert_int_equal(ql_digest_of(text, strlen(text), &d), 0);
		object_is(&lab, &d, text, strlen(text));
	}
}

static void what_would_not_fit_is_refused_at_once(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_ingest *ing;

	(void)state;
	lab_init(&lab);
	assert_int_equal(ql_ingest_new(lab.store, &ing, &lab.err), 0);
	assert_int_equal(ql_ingest_begin(ing, UINT64_MAX / 2, &lab.err),
			 -ENOSPC);
	assert_non_null(strstr(lab.err.text, "no space left"));
	ql_ingest_free(ing);
}

/* ---- objects put whole ---- */

static void a_wrong_digest_is_refused(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest right, wrong, got;

	(void)state;
	lab_init(&lab);
	assert_int_equal(ql_digest_of("right", 5, &right), 0);
	assert_int_equal(ql_digest_of("wrong", 5, &wrong), 0);
	assert_int_equal(ql_object_put(lab.store, "wrong", 5, &right, &got,
				       &lab.err),
			 -EBADMSG);
	assert_false(ql_object_exists(lab.store, &right));
	assert_false(ql_object_exists(lab.store, &wrong));
	for (int i = 0; i < 2; i++) /* again is fine */
		assert_int_equal(ql_object_put(lab.store, "right", 5, &right,
					       &got, &lab.err),
				 0);
	assert_true(ql_digest_equal(&got, &right));
	object_is(&lab, &right, "right", 5);
}

static void a_missing_object_is_told(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest d = { { 0 } };
	int fd = 77;

	(void)state;
	lab_init(&lab);
	assert_int_equal(ql_object_open(lab.store, &d, &fd, &lab.err), -ENOENT);
	assert_int_equal(fd, 77);
}

static void a_store_to_be_read_takes_nothing(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_store *reader;
	struct ql_ingest *ing;
	struct ql_digest d;

	(void)state;
	lab_init(&lab);
	assert_int_equal(
		ql_store_open(lab.root, QL_STORE_READ, &reader, &lab.err), 0);
	assert_int_equal(ql_ingest_new(reader, &ing, &lab.err), -EROFS);
	assert_int_equal(ql_object_put(reader, "x", 1, NULL, &d, &lab.err),
			 -EROFS);
	ql_store_close(reader);
}

/* ---- layers ---- */

static void a_layer_with_another_diff_id_is_not_recorded(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(1 << 20);
	struct ql_layer_info info = { .diff_id = { { 1, 2, 3 } } }, got;
	struct ql_layer_stats stats;
	struct ql_stream *in;

	(void)state;
	lab_init(&lab);
	tarball_file(&tar, "a", "1");
	tarball_end(&tar);
	assert_int_equal(ql_stream_from_mem(tar.data, tar.len, &in, NULL), 0);
	assert_int_equal(ql_layer_import(lab.store, in, &info, NULL, &stats,
					 &lab.err),
			 -EBADMSG);
	assert_non_null(strstr(lab.err.text, "digest is sha256:"));
	assert_int_equal(ql_layer_get(lab.store, &info.diff_id, &got), -ENOENT);
}

static void a_layers_record_counts_what_came(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(1 << 20);
	char big[100];
	struct ql_layer_info got;
	struct ql_layer_stats stats;

	(void)state;
	lab_init(&lab);
	memset(big, 'b', sizeof(big));
	tarball_dir(&tar, "d", 0755);
	tarball_file(&tar, "d/small", "inline");
	for (int i = 0; i < 2; i++)
		tarball_add(&tar, &(struct tarball_entry){
					  .name = i ? "d/big" : "d/same",
					  .type = '0',
					  .data = big,
					  .len = sizeof(big) });
	tarball_end(&tar);
	assert_int_equal(lab_import(&lab, &tar, &stats), 0);
	assert_int_equal(stats.new_objects, 1);
	assert_int_equal(stats.new_bytes, 100);
	assert_int_equal(stats.dup_objects, 1);
	assert_int_equal(ql_layer_get(lab.store, &lab.layers[0], &got), 0);
	assert_int_equal(got.tar_size, tar.len);
	assert_int_equal(got.entries, 4);
	assert_int_equal(got.file_bytes, 206);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(content_comes_out_as_it_went_in),
		cmocka_unit_test(runs_of_zeros_are_holes),
		cmocka_unit_test(the_same_content_is_written_once),
		cmocka_unit_test(nothing_has_a_name_before_the_flush),
		cmocka_unit_test(many_files_go_through),
		cmocka_unit_test(what_would_not_fit_is_refused_at_once),
		cmocka_unit_test(a_wrong_digest_is_refused),
		cmocka_unit_test(a_missing_object_is_told),
		cmocka_unit_test(a_store_to_be_read_takes_nothing),
		cmocka_unit_test(a_layer_with_another_diff_id_is_not_recorded),
		cmocka_unit_test(a_layers_record_counts_what_came),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
