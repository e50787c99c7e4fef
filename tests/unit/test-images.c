/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/image.c, remove.c and fsck.c: what goes with an image and what stays,
 * and what a check of the store finds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sys/file.h>

#include "tests/unit/twoimages.h"

/* ---- names ---- */

struct list {
	char text[256];
	int stop_at;
};

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

/* Of two that pull it at once, one is later than who pins it. */
static void a_second_build_keeps_the_pin(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	struct ql_digest manifests[2];

	(void)state;
	two_images(&lab, manifests);
	assert_int_equal(ql_image_pin(lab.store, &lab.manifest, true, &lab.err),
			 0);
	assert_int_equal(lab_build(&lab, "two"), 0);
	assert_true(ql_digest_equal(&lab.manifest, &manifests[1]));
	assert_int_equal(ql_image_get(lab.store, &lab.manifest, &info), 0);
	assert_int_equal(info.flags & QL_IMAGE_PINNED, QL_IMAGE_PINNED);
}

static uint32_t flags_of(struct lab *lab, const struct ql_digest *manifest)
{
	_cleanup_image_info_ struct ql_image_info info = { 0 };

	tarball_must(ql_image_get(lab->store, manifest, &info) == 0);
	return info.flags;
}

/* What anybody could have once is no secret when it comes with credentials
 * later; nor does a pin, or its end, take that away. */
static void what_was_anonymous_stays_so(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest manifests[2], none = { { 1 } };

	(void)state;
	two_images(&lab, manifests);
	assert_int_equal(flags_of(&lab, &manifests[1]), 0);
	assert_int_equal(
		ql_image_set_anonymous(lab.store, &manifests[1], &lab.err), 0);
	assert_int_equal(flags_of(&lab, &manifests[1]), QL_IMAGE_ANONYMOUS);
	assert_int_equal(flags_of(&lab, &manifests[0]), 0);
	assert_int_equal(lab_build(&lab, "two"), 0);
	assert_int_equal(ql_image_pin(lab.store, &lab.manifest, true, &lab.err),
			 0);
	assert_int_equal(flags_of(&lab, &manifests[1]),
			 QL_IMAGE_ANONYMOUS | QL_IMAGE_PINNED);
	assert_int_equal(
		ql_image_pin(lab.store, &lab.manifest, false, &lab.err), 0);
	assert_int_equal(flags_of(&lab, &manifests[1]), QL_IMAGE_ANONYMOUS);
	assert_int_equal(ql_image_set_anonymous(lab.store, &none, &lab.err),
			 -ENOENT);
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
		cmocka_unit_test(images_have_names),
		cmocka_unit_test(what_is_shared_stays),
		cmocka_unit_test(an_image_lives_as_long_as_a_name),
		cmocka_unit_test(an_image_that_is_open_is_not_removed),
		cmocka_unit_test(a_second_build_keeps_the_tree_that_is_open),
		cmocka_unit_test(a_second_build_keeps_the_pin),
		cmocka_unit_test(what_was_anonymous_stays_so),
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
