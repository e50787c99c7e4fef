/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/catalog.c, record.c, image.c, remove.c and fsck.c: what the catalogue
 * keeps, what it refuses to read, what goes with an image and what stays, and
 * what a check of the store finds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sys/file.h>

#include "tests/unit/layers.h"

static char big[100]; /* more than is kept inside of a tree */

static void add_big(struct ql_buf *tar, const char *name, char fill)
{
	memset(big, fill, sizeof(big));
	tarball_add(tar, &(struct tarball_entry){ .name = name,
						  .type = '0',
						  .data = big,
						  .len = sizeof(big) });
}

static struct ql_digest big_digest(char fill)
{
	struct ql_digest d;

	memset(big, fill, sizeof(big));
	tarball_must(ql_digest_of(big, sizeof(big), &d) == 0);
	return d;
}

/* Images "one" (layers s, a) and "two" (layers s, b); "shared" is in a and b
 * by content, too.  Returns their manifests. */
static void two_images(struct lab *lab, struct ql_digest manifests[2])
{
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(1 << 20);
	struct ql_digest base;

	lab_init(lab);
	add_big(&tar, "base", 's');
	tarball_must(lab_layer(lab, &tar) == 0);
	base = lab->layers[0];
	add_big(&tar, "one", '1');
	add_big(&tar, "shared-in-one", 'x');
	tarball_must(lab_layer(lab, &tar) == 0);
	tarball_must(lab_build(lab, "one") == 0);
	manifests[0] = lab->manifest;
	lab_restart(lab);
	lab->layers[lab->n++] = base;
	add_big(&tar, "two", '2');
	add_big(&tar, "shared-in-two", 'x');
	tarball_must(lab_layer(lab, &tar) == 0);
	tarball_must(lab_build(lab, "two") == 0);
	manifests[1] = lab->manifest;
}

/* ---- the environment ---- */

static void an_unknown_format_is_refused(void **state)
{
	static const char formats[][5] = { "\3\0\0\0", "\0\0\0\0", "\1\0\0\1" };
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
					       "this program knows format 2"));
			assert_null(other);
		}
		lab_release(&lab);
		lab_init(&lab);
	}
}

static void the_format_before_is_upgraded(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_store *other = NULL;
	struct ql_txn *txn;

	(void)state;
	lab_init(&lab);
	tarball_must(ql_txn_begin(lab.store->catalog, true, &txn, NULL) == 0);
	tarball_must(ql_txn_put(txn, QL_TABLE_META, "format", 6, "\1\0\0\0", 4,
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

static int list_image(const char *name, const struct ql_image_info *info,
		      void *arg)
{
	struct list *list = arg;
	size_t n = strlen(list->text);

	(void)snprintf(list->text + n, sizeof(list->text) - n, "%s:%u ",
		       name ? name : "-", info->n_layers);
	return --list->stop_at == 0 ? 7 : 0;
}

static void images_have_names(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_free_ char *longest = malloc(600);
	struct ql_digest manifests[2], got, none = { { 9 } };
	struct ql_image_info info;
	struct list list = { .text = "" };

	(void)state;
	two_images(&lab, manifests);
	assert_int_equal(
		ql_image_tag(lab.store, "a third", &manifests[0], &lab.err), 0);
	assert_int_equal(ql_image_find(lab.store, "a third", &got), 0);
	assert_true(ql_digest_equal(&got, &manifests[0]));
	assert_int_equal(ql_image_find(lab.store, "none", &got), -ENOENT);
	assert_int_equal(ql_image_get(lab.store, &none, &info), -ENOENT);
	assert_int_equal(ql_image_tag(lab.store, "x", &none, &lab.err),
			 -ENOENT);
	assert_int_equal(ql_image_each(lab.store, list_image, &list, NULL), 0);
	assert_string_equal(list.text, "a third:2 one:2 two:2 ");
	list.stop_at = 1;
	assert_int_equal(ql_image_each(lab.store, list_image, &list, NULL), 7);
	memset(longest, 'n', 599);
	longest[599] = '\0';
	assert_int_equal(ql_image_tag(lab.store, longest, &manifests[0],
				      &lab.err),
			 -ENAMETOOLONG);
	assert_int_equal(ql_image_find(lab.store, longest, &got), -ENOENT);
}

/* ---- removing ---- */

static bool here(struct lab *lab, char fill)
{
	struct ql_digest d = big_digest(fill);

	return ql_object_exists(lab->store, &d);
}

static void what_is_shared_stays(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest manifests[2], got;
	struct ql_remove_stats stats;
	struct ql_store_use use;

	(void)state;
	two_images(&lab, manifests);
	assert_int_equal(ql_image_remove(lab.store, "one", &manifests[0],
					 &stats, &lab.err),
			 0);
	assert_false(stats.untagged_only);
	assert_int_equal(stats.objects, 2); /* "one" and the manifest */
	assert_false(here(&lab, '1'));
	assert_true(here(&lab, 's') && here(&lab, 'x') && here(&lab, '2'));
	assert_int_equal(ql_image_find(lab.store, "one", &got), -ENOENT);
	assert_int_equal(ql_store_usage(lab.store, &use, &lab.err), 0);
	assert_int_equal(use.images, 1);
	assert_int_equal(use.layers, 2);
	assert_int_equal(use.objects, 5); /* s, x, 2, manifest, config */
	assert_int_equal(ql_image_remove(lab.store, NULL, &manifests[1], &stats,
					 &lab.err),
			 0);
	assert_int_equal(ql_store_usage(lab.store, &use, &lab.err), 0);
	assert_int_equal(use.images + use.layers + use.objects, 0);
	assert_false(here(&lab, 's') || here(&lab, 'x') || here(&lab, '2'));
	assert_int_equal(ql_image_remove(lab.store, NULL, &manifests[1], &stats,
					 &lab.err),
			 -ENOENT);
}

static void an_image_lives_as_long_as_a_name(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest manifests[2], got;
	struct ql_remove_stats stats;

	(void)state;
	two_images(&lab, manifests);
	assert_int_equal(ql_image_tag(lab.store, "again", &manifests[0], NULL),
			 0);
	assert_int_equal(ql_image_remove(lab.store, "one", &manifests[0],
					 &stats, &lab.err),
			 0);
	assert_true(stats.untagged_only);
	assert_true(here(&lab, '1'));
	assert_int_equal(ql_image_find(lab.store, "again", &got), 0);
	assert_int_equal(ql_image_remove(lab.store, "again", &manifests[0],
					 &stats, &lab.err),
			 0);
	assert_false(stats.untagged_only);
	assert_false(here(&lab, '1'));
}

static void an_image_that_is_open_is_not_removed(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest manifests[2], got;
	struct ql_remove_stats stats;
	struct ql_tree *tree;

	(void)state;
	two_images(&lab, manifests);
	assert_int_equal(
		ql_tree_open_image(lab.store, &manifests[0], &tree, NULL), 0);
	assert_int_equal(ql_image_remove(lab.store, "one", &manifests[0],
					 &stats, &lab.err),
			 -EBUSY);
	assert_true(here(&lab, '1'));
	assert_int_equal(ql_image_find(lab.store, "one", &got), 0);
	ql_tree_close(tree);
	assert_int_equal(ql_image_remove(lab.store, "one", &manifests[0],
					 &stats, &lab.err),
			 0);
}

/* Two pulls of one image at once: the second builds it again. */
static void a_second_build_keeps_the_tree_that_is_open(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_remove_stats stats;
	struct ql_image_info first = { 0 }, second = { 0 };
	struct ql_tree *tree;

	(void)state;
	lab_init(&lab);
	tarball_must(lab_build(&lab, "one") == 0);
	tarball_must(ql_image_get(lab.store, &lab.manifest, &first) == 0);
	assert_int_equal(
		ql_tree_open_image(lab.store, &lab.manifest, &tree, NULL), 0);
	assert_int_equal(lab_build(&lab, "one"), 0);
	assert_int_equal(ql_image_remove(lab.store, "one", &lab.manifest,
					 &stats, &lab.err),
			 -EBUSY);
	assert_int_equal(ql_image_get(lab.store, &lab.manifest, &second), 0);
	assert_int_equal(second.inodes, first.inodes);
	assert_true(ql_digest_equal(&second.cfs, &first.cfs));
	ql_image_info_release(&first);
	ql_image_info_release(&second);
	ql_tree_close(tree);
}

struct opening {
	struct lab *lab; /* borrowed */
	int fd;		 /* the tree's file, locked as a removal locks it */
	char path[QL_CFS_PATH];
};

static void *remove_slowly(void *arg)
{
	const struct opening *o = arg;

	(void)usleep(100000);
	(void)unlinkat(o->lab->store->root_fd, o->path, 0);
	(void)close(o->fd);
	return NULL;
}

/* Opened while a removal is between its check and its end. */
static void a_tree_being_removed_is_not_opened(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct opening o = { .lab = &lab };
	struct ql_tree *tree = NULL;
	pthread_t thread;

	(void)state;
	lab_init(&lab);
	tarball_must(lab_build(&lab, "one") == 0);
	o.fd = openat(lab.store->root_fd,
		      ql_cfs_path("images", &lab.manifest, o.path),
		      O_RDONLY | O_CLOEXEC);
	tarball_must(o.fd >= 0 && flock(o.fd, LOCK_EX) == 0);
	tarball_must(pthread_create(&thread, NULL, remove_slowly, &o) == 0);
	assert_int_equal(ql_tree_open_image(lab.store, &lab.manifest, &tree,
					    &lab.err),
			 -ENOENT);
	assert_null(tree);
	(void)pthread_join(thread, NULL);
}

/* A process killed while it wrote a tree leaves a file that is read-only: its
 * owner, unless that is root, could not open it again. */
static void what_a_killed_writer_left_is_replaced(void **state)
{
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(1 << 20);
	_cleanup_lab_ struct lab lab;
	char path[QL_CFS_PATH];
	struct ql_digest id;
	struct stat left, now;

	(void)state;
	lab_init(&lab);
	add_big(&tar, "file", 'f');
	tarball_end(&tar);
	assert_int_equal(ql_digest_of(tar.data, tar.len, &id), 0);
	assert_int_equal(mknodat(lab.store->root_fd,
				 ql_cfs_path("partial", &id, path),
				 S_IFREG | 0444, 0),
			 0);
	assert_int_equal(fstatat(lab.store->root_fd, path, &left, 0), 0);
	/* Held, so that its inode is not used again. */
	assert_int_equal(linkat(lab.store->root_fd, path, lab.store->root_fd,
				"partial/held", 0),
			 0);
	assert_int_equal(lab_import(&lab, &tar, &(struct ql_layer_stats){ 0 }),
			 0);
	assert_int_equal(fstatat(lab.store->root_fd, ql_layer_path(&id, path),
				 &now, 0),
			 0);
	assert_int_not_equal(now.st_ino, left.st_ino);
}

/* ---- checking ---- */

struct findings {
	int n;
	char text[4096];
};

static void find(const char *finding, void *arg)
{
	struct findings *f = arg;
	size_t n = strlen(f->text);

	f->n++;
	(void)snprintf(f->text + n, sizeof(f->text) - n, "%s\n", finding);
}

static void fsck_finds(struct lab *lab, int least, const char *words)
{
	struct findings f = { 0 };
	struct ql_fsck_stats stats;

	assert_int_equal(ql_store_fsck(lab->store, find, &f, &stats, &lab->err),
			 0);
	assert_int_equal(stats.errors, f.n);
	if (f.n < least || (least == 0 && f.n > 0))
		fail_msg("%d findings:\n%s", f.n, f.text);
	if (!strstr(f.text, words))
		fail_msg("\"%s\" is not in\n%s", words, f.text);
}

/* Opens a file below the root to be damaged; objects are read-only. */
static int damage_open(struct lab *lab, const char *path)
{
	int fd;

	tarball_must(fchmodat(lab->store->root_fd, path, 0644, 0) == 0);
	fd = openat(lab->store->root_fd, path, O_RDWR | O_CLOEXEC);
	tarball_must(fd >= 0);
	return fd;
}

static void a_sound_store_has_no_findings(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest manifests[2];

	(void)state;
	two_images(&lab, manifests);
	fsck_finds(&lab, 0, "");
}

static void a_changed_byte_is_found(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_close_ int fd = -1;
	struct ql_digest manifests[2], d = big_digest('x');
	char path[QL_OBJECT_PATH + 1];

	(void)state;
	two_images(&lab, manifests);
	fd = damage_open(&lab, ql_object_path(&d, path));
	assert_int_equal(pwrite(fd, "y", 1, 50), 1);
	fsck_finds(&lab, 1, "its content has another digest");
}

static void a_missing_object_is_found(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest manifests[2], d = big_digest('x');
	char path[QL_OBJECT_PATH + 1];

	(void)state;
	two_images(&lab, manifests);
	assert_int_equal(
		unlinkat(lab.store->root_fd, ql_object_path(&d, path), 0), 0);
	fsck_finds(&lab, 1, "2 need it and it is not here");
}

static void a_cut_tree_is_found(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_close_ int layer = -1;
	_cleanup_close_ int image = -1;
	struct ql_digest manifests[2];
	char path[QL_CFS_PATH];

	(void)state;
	two_images(&lab, manifests);
	layer = damage_open(&lab, ql_layer_path(&lab.layers[1], path));
	assert_int_equal(ftruncate(layer, 100), 0);
	fsck_finds(&lab, 2, "is not what was written");
	image = damage_open(&lab, ql_cfs_path("images", &manifests[0], path));
	assert_int_equal(ftruncate(image, 100), 0);
	fsck_finds(&lab, 3, path);
}

static void a_wrong_count_is_found(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_object_record rec = { .size = sizeof(big), .refs = 7 };
	struct ql_digest manifests[2], d = big_digest('x');
	struct ql_txn *txn;

	(void)state;
	two_images(&lab, manifests);
	assert_int_equal(ql_txn_begin(lab.store->catalog, true, &txn, NULL), 0);
	assert_int_equal(ql_record_put_object(txn, &d, &rec, NULL), 0);
	assert_int_equal(ql_txn_commit(txn, NULL), 0);
	fsck_finds(&lab, 1, "the catalogue counts 7 users of 2");
	d = big_digest('n');
	assert_int_equal(ql_txn_begin(lab.store->catalog, true, &txn, NULL), 0);
	assert_int_equal(ql_record_put_object(txn, &d, &rec, NULL), 0);
	assert_int_equal(ql_txn_commit(txn, NULL), 0);
	fsck_finds(&lab, 2, "the catalogue counts 7 users of 0");
}

static void a_name_without_image_is_found(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest manifests[2], none = { { 1 } };
	struct ql_txn *txn;

	(void)state;
	two_images(&lab, manifests);
	assert_int_equal(ql_txn_begin(lab.store->catalog, true, &txn, NULL), 0);
	assert_int_equal(ql_txn_put(txn, QL_TABLE_NAMES, "lost", 4, none.bytes,
				    QL_DIGEST_BYTES, NULL),
			 0);
	assert_int_equal(ql_txn_commit(txn, NULL), 0);
	fsck_finds(&lab, 1, "name lost: its image is not here");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_unknown_format_is_refused),
		cmocka_unit_test(the_format_before_is_upgraded),
		cmocka_unit_test(no_store_is_made_by_reading),
		cmocka_unit_test(nobody_else_reads_what_is_in_a_store),
		cmocka_unit_test(an_empty_catalogue_is_made_anew),
		cmocka_unit_test(damage_is_an_error),
		cmocka_unit_test(tables_are_read_in_order_and_by_others),
		cmocka_unit_test(a_run_of_keys_is_read_and_written),
		cmocka_unit_test(records_are_read_in_full_or_refused),
		cmocka_unit_test(images_have_names),
		cmocka_unit_test(what_is_shared_stays),
		cmocka_unit_test(an_image_lives_as_long_as_a_name),
		cmocka_unit_test(an_image_that_is_open_is_not_removed),
		cmocka_unit_test(a_second_build_keeps_the_tree_that_is_open),
		cmocka_unit_test(a_tree_being_removed_is_not_opened),
		cmocka_unit_test(what_a_killed_writer_left_is_replaced),
		cmocka_unit_test(a_sound_store_has_no_findings),
		cmocka_unit_test(a_changed_byte_is_found),
		cmocka_unit_test(a_missing_object_is_found),
		cmocka_unit_test(a_cut_tree_is_found),
		cmocka_unit_test(a_wrong_count_is_found),
		cmocka_unit_test(a_name_without_image_is_found),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
