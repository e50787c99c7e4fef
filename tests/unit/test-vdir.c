/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs/vdir.c, vtable.c, slots.c and layerview.c: a mount of every image,
 * without a mount.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <pthread.h>

#include "fs/fs-private.h"
#include "tests/unit/layers.h"

static struct ql_buf tar = QL_BUF_INIT(8 << 20);

/* An image of one file. */
static void image(struct lab *lab, const char *name, const char *content)
{
	lab_restart(lab);
	tarball_file(&tar, "file", content);
	assert_int_equal(lab_layer(lab, &tar), 0);
	assert_int_equal(lab_build(lab, name), 0);
}

/* What a path is, or the error: 'd', 'i', 'n', 'l', 'o', or '-' for ENOENT. */
static char kind_of(struct lab *lab, const char *path)
{
	static const char letters[] = {
		[QL_V_DIR] = 'd',   [QL_V_LINK] = 's',	[QL_V_IMAGE] = 'i',
		[QL_V_INERT] = 'n', [QL_V_LAYER] = 'l', [QL_V_OBJECT] = 'o'
	};
	struct ql_vnode v;
	int r = ql_vdir_find(lab->store, NULL, path, &v);

	if (r == -ENOENT)
		return '-';
	return r < 0 ? '!' : letters[v.kind];
}

static void list_is(struct lab *lab, const char *path, const char *want)
{
	_cleanup_buf_ struct ql_buf got = QL_BUF_INIT(1 << 16);
	struct ql_names names = { 0 };

	assert_int_equal(ql_vdir_list(lab->store, NULL, path, &names), 0);
	for (size_t i = 0; i < names.n; i++)
		tarball_must(ql_buf_addf(&got, "%s%s", i ? " " : "",
					 names.items[i].name) == 0);
	assert_string_equal(ql_buf_str(&got), want);
	ql_names_release(&names);
}

static void references_are_folders(void **state)
{
	_cleanup_lab_ struct lab lab;

	(void)state;
	lab_init(&lab);
	list_is(&lab, "", "by-digest images inert layers objects");
	list_is(&lab, "images", "");
	image(&lab, "docker.io/library/redis:latest", "1");
	image(&lab, "docker.io/library/nginx:1", "2");
	image(&lab, "quay.io/a/b/c:x", "3");
	list_is(&lab, "images", "docker.io quay.io");
	list_is(&lab, "images/docker.io", "library");
	list_is(&lab, "images/docker.io/library", "nginx:1 redis:latest");
	assert_int_equal(kind_of(&lab, ""), 'd');
	assert_int_equal(kind_of(&lab, "nothing"), '-');
	assert_int_equal(kind_of(&lab, "images/docker.io"), 'd');
	assert_int_equal(kind_of(&lab, "images/docker"), '-');
	assert_int_equal(kind_of(&lab, "images/docker.io/library/redis:latest"),
			 's');
	assert_int_equal(kind_of(&lab, "images/docker.io/library/redis"), '-');
	assert_int_equal(ql_vdir_list(lab.store, NULL, "images/quay.io/a/b/c:x",
				      &(struct ql_names){ 0 }),
			 -ENOTDIR);
}

static void references_that_are_no_paths_are_passed_over(void **state)
{
	_cleanup_lab_ struct lab lab;
	char longest[300];

	(void)state;
	lab_init(&lab);
	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = 0;
	image(&lab, "oci:/a/../b:t", "1");
	image(&lab, longest, "2");
	image(&lab, "oci:/a//c:t", "3");
	image(&lab, "oci:/a/./d:t", "4");
	list_is(&lab, "images", "oci:");
	list_is(&lab, "images/oci:", "a");
	list_is(&lab, "images/oci:/a", "c:t");
	assert_int_equal(kind_of(&lab, "images/oci:/a/../b:t"), '-');
	assert_int_equal(kind_of(&lab, "images/oci:/a/c:t"), 's');
}

static void the_shorter_of_two_references_is_the_image(void **state)
{
	_cleanup_lab_ struct lab lab;

	(void)state;
	lab_init(&lab);
	image(&lab, "oci:/a", "1");
	image(&lab, "oci:/a/b", "2");
	list_is(&lab, "images/oci:", "a");
	assert_int_equal(kind_of(&lab, "images/oci:/a"), 's');
	assert_int_equal(kind_of(&lab, "images/oci:/a/b"), '-');
}

static void digests_name_images_layers_and_objects(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_free_ char *path = NULL, *layer = NULL;
	char text[QL_DIGEST_TEXT + 1], object[QL_OBJECT_PATH + 1];
	struct ql_vnode v;

	(void)state;
	lab_init(&lab);
	image(&lab, "a:t", "1");
	ql_digest_text(&lab.manifest, text);
	list_is(&lab, "by-digest", text);
	list_is(&lab, "inert", text);
	path = ql_strf("by-digest/%s", text);
	assert_int_equal(kind_of(&lab, path), 'i');
	assert_int_equal(kind_of(&lab, "by-digest/sha256:12"), '-');
	ql_digest_text(&lab.layers[0], text);
	list_is(&lab, "layers", text);
	layer = ql_strf("layers/%s/diff", text);
	assert_int_equal(kind_of(&lab, layer), 'l');
	layer[strlen(layer) - 5] = 0;
	list_is(&lab, layer, "diff");
	(void)ql_object_path(&lab.manifest, object);
	assert_int_equal(ql_vdir_find(lab.store, NULL, object, &v), 0);
	assert_int_equal(v.kind, QL_V_OBJECT);
	assert_int_equal(v.size, strlen("{\"manifest\": \"a:t\"}"));
	object[10] = 0;
	assert_int_equal(kind_of(&lab, object), 'd');
	assert_int_equal(kind_of(&lab, "objects/zz"), '-');
	assert_int_equal(kind_of(&lab, "objects/ab/cd"), '-');
}

static void a_change_is_seen_by_the_time(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct timespec before, after;

	(void)state;
	lab_init(&lab);
	image(&lab, "a:t", "1");
	before = ql_vdir_mtime(lab.store, "images");
	(void)usleep(20000);
	image(&lab, "b:t", "2");
	after = ql_vdir_mtime(lab.store, "images");
	assert_true(after.tv_sec > before.tv_sec ||
		    (after.tv_sec == before.tv_sec &&
		     after.tv_nsec > before.tv_nsec));
}

static void a_path_has_its_number_until_it_is_forgotten(void **state)
{
	struct ql_vtable *t = ql_vtable_new();
	uint64_t ids[2000];
	char path[32], *found;

	(void)state;
	assert_non_null(t);
	assert_int_equal(ql_vtable_learn(t, ""), FUSE_ROOT_ID);
	for (int i = 0; i < 2000; i++) {
		(void)snprintf(path, sizeof(path), "images/%d", i);
		ids[i] = ql_vtable_learn(t, path);
		assert_int_equal(ql_vtable_learn(t, path), ids[i]);
	}
	for (int i = 0; i < 2000; i++) {
		ql_vtable_forget(t, ids[i], 1);
		assert_int_equal(ql_vtable_path(t, ids[i], &found), 0);
		(void)snprintf(path, sizeof(path), "images/%d", i);
		assert_string_equal(found, path);
		free(found);
		ql_vtable_forget(t, ids[i], 1);
		assert_int_equal(ql_vtable_path(t, ids[i], &found), -ESTALE);
	}
	assert_true(ql_vtable_learn(t, "images/1") > ids[1999]);
	assert_int_equal(ql_vtable_path(t, FUSE_ROOT_ID, &found), 0);
	assert_string_equal(found, "");
	free(found);
	ql_vtable_free(t);
}

static void slots_keep_their_number(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_slots *slots;
	struct ql_slot *a, *b, *again;
	struct ql_digest first, second;

	(void)state;
	lab_init(&lab);
	image(&lab, "a:t", "1");
	first = lab.manifest;
	image(&lab, "b:t", "2");
	second = lab.manifest;
	slots = ql_slots_new(lab.store, 1);
	assert_non_null(slots);
	assert_int_equal(ql_slots_open(slots, QL_V_IMAGE, &first, &a, NULL), 0);
	assert_int_equal(ql_slots_open(slots, QL_V_IMAGE, &second, &b, NULL),
			 0);
	assert_int_equal(a->number, 1);
	assert_int_equal(b->number, 2);
	/* Both idle is one too many: the older is closed. */
	ql_slots_put(slots, a, 1);
	assert_non_null(a->tree);
	ql_slots_put(slots, b, 1);
	assert_null(a->tree);
	assert_null(ql_slots_hold(slots, 1));
	assert_ptr_equal(ql_slots_hold(slots, 2), b);
	assert_null(ql_slots_hold(slots, 3));
	assert_int_equal(ql_slots_open(slots, QL_V_IMAGE, &first, &again, NULL),
			 0);
	assert_ptr_equal(again, a);
	/* In use: not dropped; the same image's inert tree is another. */
	assert_int_equal(ql_slots_open(slots, QL_V_INERT, &first, &again, NULL),
			 0);
	assert_int_equal(again->number, 3);
	ql_slots_put(slots, a, 1);
	assert_false(ql_slots_drop(slots, &first));
	assert_null(a->tree);
	ql_slots_forget(slots, 3, 1);
	assert_true(ql_slots_drop(slots, &first));
	assert_int_equal(ql_slots_open(slots, QL_V_LAYER, &first, &again, NULL),
			 -ENOENT);
	ql_slots_free(slots);
}

struct crowd {
	struct ql_slots *slots;
	struct ql_digest digests[3];
};

static void *crowd_main(void *arg)
{
	struct crowd *c = arg;
	unsigned int seed = (unsigned int)(uintptr_t)&seed;

	for (int i = 0; i < 3000; i++) {
		struct ql_slot *slot;
		const struct ql_digest *d = &c->digests[rand_r(&seed) % 3];

		if (ql_slots_open(c->slots, QL_V_IMAGE, d, &slot, NULL) < 0 ||
		    !slot->tree)
			abort();
		ql_slot_hold(slot, 2);
		ql_slots_put(c->slots, slot, 1);
		if (!slot->tree || !ql_digest_equal(&slot->digest, d))
			abort();
		ql_slots_forget(c->slots, slot->number, 2);
	}
	return NULL;
}

static void slots_are_held_by_many_threads(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct crowd c;
	pthread_t threads[4];

	(void)state;
	lab_init(&lab);
	for (int i = 0; i < 3; i++) {
		char name[8];

		(void)snprintf(name, sizeof(name), "%c:t", 'a' + i);
		image(&lab, name, name);
		c.digests[i] = lab.manifest;
	}
	c.slots = ql_slots_new(lab.store, 1);
	for (int i = 0; i < 4; i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, crowd_main, &c), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	for (int i = 0; i < 3; i++)
		assert_true(ql_slots_drop(c.slots, &c.digests[i]));
	ql_slots_free(c.slots);
}

static void layers_show_whiteouts_as_overlayfs_wants_them(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	struct ql_inode root, dir, i;
	struct ql_dirent e;
	uint64_t nid, pos = 0;
	int shown = 0;

	(void)state;
	lab_init(&lab);
	tarball_file(&tar, ".wh.gone", "");
	tarball_file(&tar, ".wh.both", "");
	tarball_file(&tar, "both", "x");
	tarball_file(&tar, "d/.wh..wh..opq", "");
	assert_int_equal(lab_layer(&lab, &tar), 0);
	assert_int_equal(
		ql_tree_open_layer(lab.store, &lab.layers[0], &tree, NULL), 0);
	assert_int_equal(ql_tree_inode(tree, ql_tree_root(tree), &root), 0);
	assert_int_equal(ql_layerview_lookup(tree, &root, "gone", 4, &nid), 0);
	assert_int_equal(ql_layerview_inode(tree, nid, &i), 0);
	assert_true(S_ISCHR(i.mode) && i.rdev == 0);
	assert_int_equal(ql_layerview_lookup(tree, &root, "both", 4, &nid), 0);
	assert_int_equal(ql_layerview_inode(tree, nid, &i), 0);
	assert_true(S_ISREG(i.mode));
	assert_int_equal(ql_layerview_lookup(tree, &root, ".wh.gone", 8, &nid),
			 -ENOENT);
	assert_int_equal(ql_layerview_lookup(tree, &root, "d", 1, &nid), 0);
	assert_int_equal(ql_tree_inode(tree, nid, &dir), 0);
	assert_int_equal(ql_layerview_opaque(tree, &dir), 1);
	assert_int_equal(ql_layerview_opaque(tree, &root), 0);
	while (ql_tree_readdir(tree, &root, &pos, &e) > 0) {
		if (ql_layerview_entry(tree, &root, &e) == 0)
			continue;
		assert_true(e.len < 4 || memcmp(e.name, ".wh.", 4) != 0);
		shown++;
	}
	assert_int_equal(shown, 5); /* . .. both d gone */
	pos = 0;
	while (ql_tree_readdir(tree, &dir, &pos, &e) > 0)
		if (e.len > 2)
			assert_int_equal(ql_layerview_entry(tree, &dir, &e), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(references_are_folders),
		cmocka_unit_test(references_that_are_no_paths_are_passed_over),
		cmocka_unit_test(the_shorter_of_two_references_is_the_image),
		cmocka_unit_test(digests_name_images_layers_and_objects),
		cmocka_unit_test(a_change_is_seen_by_the_time),
		cmocka_unit_test(a_path_has_its_number_until_it_is_forgotten),
		cmocka_unit_test(slots_keep_their_number),
		cmocka_unit_test(slots_are_held_by_many_threads),
		cmocka_unit_test(layers_show_whiteouts_as_overlayfs_wants_them),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
