/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/catalog.c and record.c: what the catalogue keeps, and what it refuses
 * to read.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>

#include "tests/unit/twoimages.h"

/* ---- the environment ---- */

static void an_unknown_format_is_refused(void **state)
{
	static const char formats[][5] = { "\4\0\0\0", "\0\0\0\0", "\1\0\0\1" };
	_cleanup_lab_ struct lab lab;
	struct ql_store *other = NULL;
	struct ql_txn *txn;

	(void)state;
	lab_init(&lab);
	for (size_t i = 0; i < 4; i++) {
		/* the last: three bytes, no number at all */
		tarball_must(ql_txn_begin(lab.store->catalog, true, &txn,
					  NULL) == 0);
		tarball_must(ql_txn_put(txn, QL_TABLE_META, "format", 6,
					formats[i % 3], i < 3 ? 4 : 3,
					NULL) == 0);
		tarball_must(ql_txn_commit(txn, NULL) == 0);
		ql_store_close(lab.store);
		lab.store = NULL;
		for (int write = 0; write < 2; write++) {
			assert_int_equal(ql_store_open(lab.root,
						       write ? QL_STORE_WRITE
							     : QL_STORE_READ,
						       &other, &lab.err),
					 -EPROTONOSUPPORT);
			assert_non_null(strstr(lab.err.text,
					       "this program knows format 3"));
			assert_null(other);
		}
		lab_release(&lab);
		lab_init(&lab);
	}
}

static void upgrade(const char format[4])
{
	_cleanup_lab_ struct lab lab;
	struct ql_store *other = NULL;
	struct ql_txn *txn;

	lab_init(&lab);
	tarball_must(ql_txn_begin(lab.store->catalog, true, &txn, NULL) == 0);
	tarball_must(ql_txn_put(txn, QL_TABLE_META, "format", 6, format, 4,
				NULL) == 0);
	tarball_must(ql_txn_commit(txn, NULL) == 0);
	ql_store_close(lab.store);
	lab.store = NULL;
	assert_int_equal(ql_store_open(lab.root, QL_STORE_READ, &other,
				       &lab.err),
			 -ENOENT);
	assert_non_null(strstr(lab.err.text, "the next pull upgrades"));
	for (int write = 1; write >= 0; write--) {
		assert_int_equal(ql_store_open(lab.root,
					       write ? QL_STORE_WRITE
						     : QL_STORE_READ,
					       &other, &lab.err),
				 0);
		ql_store_close(other);
	}
}

static void formats_before_are_upgraded(void **state)
{
	(void)state;
	upgrade("\1\0\0");
	upgrade("\2\0\0");
}

static void no_store_is_made_by_reading(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_free_ char *path = NULL;
	struct ql_store *store;

	(void)state;
	lab_init(&lab);
	path = ql_path_join(lab.root, "none");
	assert_int_equal(ql_store_open(path, QL_STORE_READ, &store, &lab.err),
			 -ENOENT);
	assert_non_null(strstr(lab.err.text, "no store is there"));
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(ql_store_open("/dev/null", QL_STORE_READ, &store,
				       &lab.err),
			 -ENOTDIR);
}

/* An image's modes count where it is mounted; objects have none of them. */
static void nobody_else_reads_what_is_in_a_store(void **state)
{
	static const char *const folders[] = { "objects", "images", "layers",
					       "partial", "catalog" };
	_cleanup_lab_ struct lab lab;
	struct stat st;

	(void)state;
	lab_init(&lab);
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(
			fstatat(lab.store->root_fd, folders[i], &st, 0), 0);
		assert_int_equal(st.st_mode & 07777, 0700);
	}
}

/* What a process that was killed at its first commit leaves. */
static void an_empty_catalogue_is_made_anew(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_free_ char *path = NULL;
	struct ql_store *store;

	(void)state;
	lab_init(&lab);
	ql_store_close(lab.store);
	lab.store = NULL;
	path = ql_strf("%s/catalog/data.mdb", lab.root);
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(ql_store_open(lab.root, QL_STORE_READ, &store,
				       &lab.err),
			 -ENOENT);
	assert_int_equal(ql_store_open(lab.root, QL_STORE_WRITE, &lab.store,
				       &lab.err),
			 0);
}

static void damage_is_an_error(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_free_ char *path = NULL;
	struct ql_store *store;
	FILE *f;

	(void)state;
	lab_init(&lab);
	ql_store_close(lab.store);
	lab.store = NULL;
	path = ql_strf("%s/catalog/data.mdb", lab.root);
	f = fopen(path, "r+");
	assert_non_null(f);
	for (int i = 0; i < 8192; i++)
		(void)fputc('?', f);
	(void)fclose(f);
	assert_true(ql_store_open(lab.root, QL_STORE_READ, &store, &lab.err) <
		    0);
	assert_true(ql_store_open(lab.root, QL_STORE_WRITE, &store, &lab.err) <
		    0);
	assert_non_null(strstr(lab.err.text, "catalogue: "));
}

struct list {
	char text[256];
	int stop_at;
};

static int list_name(const void *key, size_t key_len, const void *value,
		     size_t len, void *arg)
{
	struct list *list = arg;
	size_t n = strlen(list->text);

	(void)value;
	(void)len;
	(void)snprintf(list->text + n, sizeof(list->text) - n, "%.*s ",
		       (int)key_len, (const char *)key);
	return --list->stop_at == 0 ? 7 : 0;
}

static void tables_are_read_in_order_and_by_others(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct list list = { .text = "" };
	struct ql_store *reader;
	struct ql_txn *txn;
	const void *value;
	size_t len;

	(void)state;
	lab_init(&lab);
	assert_int_equal(ql_store_open(lab.root, QL_STORE_READ, &reader, NULL),
			 0);
	assert_int_equal(ql_txn_begin(lab.store->catalog, true, &txn, NULL), 0);
	assert_int_equal(ql_txn_put(txn, QL_TABLE_NAMES, "b", 1, "1", 1, NULL),
			 0);
	assert_int_equal(ql_txn_put(txn, QL_TABLE_NAMES, "a", 1, "2", 1, NULL),
			 0);
	assert_int_equal(ql_txn_put(txn, QL_TABLE_NAMES, "c", 1, "3", 1, NULL),
			 0);
	assert_int_equal(ql_txn_del(txn, QL_TABLE_NAMES, "b", 1, NULL), 0);
	assert_int_equal(ql_txn_del(txn, QL_TABLE_NAMES, "b", 1, NULL),
			 -ENOENT);
	assert_int_equal(ql_txn_commit(txn, NULL), 0);
	/* The other handle sees it, and can be stopped. */
	assert_int_equal(ql_txn_begin(reader->catalog, false, &txn, NULL), 0);
	assert_int_equal(
		ql_txn_each(txn, QL_TABLE_NAMES, list_name, &list, NULL), 0);
	assert_string_equal(list.text, "a c ");
	list.stop_at = 1;
	assert_int_equal(
		ql_txn_each(txn, QL_TABLE_NAMES, list_name, &list, NULL), 7);
	assert_string_equal(list.text, "a c a ");
	assert_int_equal(ql_txn_get(txn, QL_TABLE_NAMES, "c", 1, &value, &len),
			 0);
	assert_int_equal(len, 1);
	assert_memory_equal(value, "3", 1);
	assert_int_equal(ql_txn_get(txn, QL_TABLE_LAYERS, "c", 1, &value, &len),
			 -ENOENT);
	ql_txn_abort(txn);
	ql_store_close(reader);
}

static void run_expect(struct ql_txn_run *run, const char *key,
		       const char *want)
{
	const void *value;
	size_t len;
	int r = ql_txn_run_get(run, key, strlen(key), &value, &len);

	if (!want) {
		assert_int_equal(r, -ENOENT);
		return;
	}
	assert_int_equal(r, 0);
	assert_int_equal(len, strlen(want));
	assert_memory_equal(value, want, len);
}

static void a_run_of_keys_is_read_and_written(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct list list = { .text = "" };
	struct ql_txn_run *run;
	struct ql_txn *txn;

	(void)state;
	lab_init(&lab);
	assert_int_equal(ql_txn_begin(lab.store->catalog, true, &txn, NULL), 0);
	assert_int_equal(ql_txn_put(txn, QL_TABLE_NAMES, "b", 1, "1", 1, NULL),
			 0);
	assert_int_equal(ql_txn_put(txn, QL_TABLE_NAMES, "d", 1, "2", 1, NULL),
			 0);
	assert_int_equal(ql_txn_run_open(txn, QL_TABLE_NAMES, &run, NULL), 0);
	run_expect(run, "a", NULL); /* below all */
	assert_int_equal(ql_txn_run_put(run, "A", 1, NULL), 0);
	run_expect(run, "b", "1"); /* there, and longer now */
	assert_int_equal(ql_txn_run_put(run, "two", 3, NULL), 0);
	run_expect(run, "bb", NULL); /* read alone */
	run_expect(run, "c", NULL);
	assert_int_equal(ql_txn_run_put(run, "C", 1, NULL), 0);
	run_expect(run, "d", "2");
	run_expect(run, "e", NULL); /* above all, and then more */
	assert_int_equal(ql_txn_run_put(run, "E", 1, NULL), 0);
	run_expect(run, "f", NULL);
	run_expect(run, "g", NULL);
	assert_int_equal(ql_txn_run_put(run, "G", 1, NULL), 0);
	ql_txn_run_close(run);
	assert_int_equal(
		ql_txn_each(txn, QL_TABLE_NAMES, list_name, &list, NULL), 0);
	assert_string_equal(list.text, "a b c d e g ");
	assert_int_equal(ql_txn_run_open(txn, QL_TABLE_NAMES, &run, NULL), 0);
	run_expect(run, "a", "A");
	run_expect(run, "b", "two");
	run_expect(run, "c", "C");
	run_expect(run, "d", "2");
	run_expect(run, "e", "E");
	run_expect(run, "g", "G");
	ql_txn_run_close(run);
	ql_txn_abort(txn);
}

/* ---- records ---- */

static void records_are_read_in_full_or_refused(void **state)
{
	_cleanup_lab_ struct lab lab;
	uint8_t bytes[512];
	struct ql_digest manifests[2];
	struct ql_object_record object;
	struct ql_layer_info layer;
	struct ql_image_info image, found = { 0 };
	const void *value;
	size_t len;
	struct ql_txn *txn;

	(void)state;
	two_images(&lab, manifests);
	memset(bytes, 0, sizeof(bytes));
	assert_int_equal(ql_record_parse_object(bytes, 12, &object), 0);
	assert_int_equal(ql_record_parse_object(bytes, 11, &object), -EBADMSG);
	assert_int_equal(ql_record_parse_object(bytes, 13, &object), -EBADMSG);
	assert_int_equal(ql_record_parse_layer(bytes, 32, bytes, 96, &layer),
			 0);
	assert_int_equal(ql_record_parse_layer(bytes, 32, bytes, 95, &layer),
			 -EBADMSG);
	assert_int_equal(ql_record_parse_layer(bytes, 31, bytes, 96, &layer),
			 -EBADMSG);
	assert_int_equal(ql_record_parse_layer(bytes, 32, bytes, 97, &layer),
			 -EBADMSG);
	assert_int_equal(ql_record_parse_layer(bytes, 32, bytes, 100, &layer),
			 0);
	assert_int_equal(ql_record_parse_layer(bytes, 32, bytes, 101, &layer),
			 -EBADMSG);
	assert_int_equal(ql_txn_begin(lab.store->catalog, false, &txn, NULL),
			 0);
	assert_int_equal(ql_txn_get(txn, QL_TABLE_IMAGES, manifests[0].bytes,
				    32, &value, &len),
			 0);
	assert_in_range(len, 1, sizeof(bytes));
	memcpy(bytes, value, len);
	ql_txn_abort(txn);
	for (size_t cut = 0; cut < len; cut++) {
		if (cut == len - 4)
			continue; /* as format 1 was */
		assert_int_equal(ql_record_parse_image(manifests[0].bytes, 32,
						       bytes, cut, &image),
				 -EBADMSG);
	}
	assert_int_equal(ql_record_parse_image(manifests[0].bytes, 32, bytes,
					       len, &image),
			 0);
	assert_int_equal(image.n_layers, 2);
	assert_int_equal(ql_image_get(lab.store, &manifests[0], &found), 0);
	assert_memory_equal(found.layers, image.layers, 64);
	ql_image_info_release(&found);
	ql_image_info_release(&image);
	memset(bytes + len - 2 * QL_DIGEST_BYTES - 8, 0xff, 4); /* n_layers */
	assert_int_equal(ql_record_parse_image(manifests[0].bytes, 32, bytes,
					       len, &image),
			 -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_unknown_format_is_refused),
		cmocka_unit_test(formats_before_are_upgraded),
		cmocka_unit_test(no_store_is_made_by_reading),
		cmocka_unit_test(nobody_else_reads_what_is_in_a_store),
		cmocka_unit_test(an_empty_catalogue_is_made_anew),
		cmocka_unit_test(damage_is_an_error),
		cmocka_unit_test(tables_are_read_in_order_and_by_others),
		cmocka_unit_test(a_run_of_keys_is_read_and_written),
		cmocka_unit_test(records_are_read_in_full_or_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
