/* SPDX-License-Identifier: Apache-2.0 */
/*
 * refactor/: what several trees hold, and the layers that are made of it.  An
 * image's layers together must be the image: each thing once, nothing else,
 * and every folder as it was.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "refactor/refactor-private.h"
#include "tests/unit/image.h"

enum { TREES_MAX = 12 };

struct trees {
	struct ql_buf bufs[TREES_MAX];
	struct ql_tree *trees[TREES_MAX];
	uint32_t n;
};

static void trees_add(struct trees *t, struct lcfs_node_s *root)
{
	struct ql_error err = QL_ERROR_INIT;

	assert_true(t->n < TREES_MAX);
	image_write(root, &t->bufs[t->n]);
	assert_int_equal(ql_tree_open_mem(t->bufs[t->n].data, t->bufs[t->n].len,
					  &t->trees[t->n], &err),
			 0);
	t->n++;
}

static void trees_release(struct trees *t)
{
	for (uint32_t i = 0; i < t->n; i++) {
		ql_tree_close(t->trees[i]);
		ql_buf_release(&t->bufs[i]);
	}
}

static void inventory(const struct trees *t, unsigned int flags,
		      struct ql_inventory *inv)
{
	struct ql_error err = QL_ERROR_INIT;

	if (ql_inventory_read((const struct ql_tree *const *)t->trees, t->n,
			      flags, inv, &err) < 0)
		fail_msg("%s", err.text);
}

static struct lcfs_node_s *file(struct lcfs_node_s *root, const char *path,
				uint64_t size, uint8_t content)
{
	struct ql_digest digest = { .bytes = { content } };

	return image_object(root, path, size, &digest);
}

/* ---- what any plan must be ---- */

static void assert_image(const struct ql_inventory *inv,
			 const struct ql_plan *plan, uint32_t image,
			 uint32_t max_layers)
{
	uint32_t *times = calloc(inv->n_units + 1, sizeof(*times));
	uint32_t *seen = calloc(inv->n_folders + 1, sizeof(*seen));
	uint32_t last = UINT32_MAX;

	assert_true(plan->n_stack[image] <= max_layers);
	for (uint32_t i = 0; i < inv->n_folders; i++)
		seen[i] = QL_UNIT_NONE;
	for (uint32_t k = 0; k < plan->n_stack[image]; k++) {
		const struct ql_plan_layer *l =
			&plan->layers[plan->stacks[image][k]];

		assert_true(l->n_images <= last);
		last = l->n_images;
		for (uint32_t i = 0; i < l->n_units; i++) {
			const struct ql_unit *u = &inv->units[l->units[i]];

			assert_true(i == 0 || l->units[i - 1] < l->units[i]);
			if (u->own != QL_UNIT_NONE)
				seen[u->own] = l->units[i];
			else
				times[l->units[i]]++;
		}
	}
	for (uint32_t i = 0; i < inv->n_units; i++)
		if (inv->units[i].own == QL_UNIT_NONE)
			assert_int_equal(
				times[i],
				ql_bits_has(ql_unit_members(inv,
							    &inv->units[i]),
					    image));
	for (uint32_t i = 0; i < inv->n_folders; i++)
		assert_int_equal(seen[i], ql_folder_of(inv, i, image));
	free(times);
	free(seen);
}

static void plan_make(const struct ql_inventory *inv, uint32_t n_images,
		      uint32_t max_layers, struct ql_plan *plan)
{
	struct ql_error err = QL_ERROR_INIT;

	if (ql_plan_make(inv, n_images, max_layers, plan, &err) < 0)
		fail_msg("%s", err.text);
	for (uint32_t i = 0; i < n_images; i++)
		assert_image(inv, plan, i, max_layers);
}

/* ---- taking stock ---- */

static const struct ql_unit *unit_at(const struct ql_inventory *inv,
				     const char *path, uint32_t nth)
{
	for (uint32_t i = 0; i < inv->n_units; i++)
		if (strcmp(ql_unit_path(inv, &inv->units[i]), path) == 0 &&
		    nth-- == 0)
			return &inv->units[i];
	fail_msg("%s is not there", path);
	abort();
}

static void assert_members(const struct ql_inventory *inv, const char *path,
			   uint32_t nth, uint64_t members)
{
	const struct ql_unit *u = unit_at(inv, path, nth);

	assert_int_equal(ql_unit_members(inv, u)[0], members);
}

/* What a file is like, in the second tree where it says so. */
static const char *const natures[] = { "same",	"mode",	 "uid",	 "gid",
				       "mtime", "nsec",	 "size", "content",
				       "xattr", "value", "more" };
enum { NATURES = sizeof(natures) / sizeof(natures[0]) };

static void nature_set(struct lcfs_node_s *n, const char *what)
{
	if (strcmp(what, "mode") == 0)
		lcfs_node_set_mode(n, S_IFREG | 0600);
	if (strcmp(what, "uid") == 0)
		lcfs_node_set_uid(n, 1);
	if (strcmp(what, "gid") == 0)
		lcfs_node_set_gid(n, 1);
	if (strcmp(what, "mtime") == 0)
		image_mtime(n, 6, 7);
	if (strcmp(what, "nsec") == 0)
		image_mtime(n, 5, 8);
	if (strcmp(what, "more") == 0)
		image_xattr(n, "user.c", "1");
}

static struct lcfs_node_s *natures_tree(bool other)
{
	struct lcfs_node_s *root = image_root();

	for (size_t k = 0; k < NATURES; k++) {
		const char *name = natures[k], *what = other ? name : "";
		struct lcfs_node_s *n =
			file(root, name, strcmp(what, "size") == 0 ? 200 : 100,
			     strcmp(what, "content") == 0 ? 9 : 1);

		image_mtime(n, 5, 7);
		image_xattr(n, strcmp(what, "xattr") == 0 ? "user.b" : "user.a",
			    strcmp(what, "value") == 0 ? "2" : "1");
		nature_set(n, what);
	}
	return root;
}

/* Each of what makes two things different does. */
static void test_what_is_the_same(void **state)
{
	struct trees t = { 0 };
	struct ql_inventory inv;

	(void)state;
	trees_add(&t, natures_tree(false));
	trees_add(&t, natures_tree(true));
	inventory(&t, 0, &inv);
	assert_members(&inv, "same", 0, 3);
	for (size_t k = 1; k < NATURES; k++) {
		assert_members(&inv, natures[k], 0, 1);
		assert_members(&inv, natures[k], 1, 2);
	}
	ql_inventory_release(&inv);
	inventory(&t, QL_INVENTORY_ANY_MTIME, &inv);
	assert_members(&inv, "mtime", 0, 3);
	assert_members(&inv, "nsec", 0, 3);
	assert_members(&inv, "mode", 0, 1);
	ql_inventory_release(&inv);
	trees_release(&t);
}

static void test_other_types(void **state)
{
	struct trees t = { 0 };
	struct ql_inventory inv;

	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		struct lcfs_node_s *root = image_root();

		image_symlink(root, "link", i ? "a" : "b");
		image_symlink(root, "same", "a");
		lcfs_node_set_rdev64(image_add(root, "dev", S_IFCHR | 0600),
				     i ? 0x103 : 0x105);
		image_add(root, "fifo", S_IFIFO | 0600);
		image_inline(root, "small", i ? "x" : "y");
		image_inline(root, "inline", "x");
		if (i == 0) {
			image_add(root, "thing", S_IFDIR | 0755);
			file(root, "thing/in", 10, 1);
		} else {
			file(root, "thing", 10, 1);
		}
		trees_add(&t, root);
	}
	inventory(&t, 0, &inv);
	assert_members(&inv, "link", 1, 2);
	assert_members(&inv, "same", 0, 3);
	assert_members(&inv, "dev", 1, 2);
	assert_members(&inv, "fifo", 0, 3);
	assert_members(&inv, "small", 1, 2);
	assert_members(&inv, "inline", 0, 3);
	assert_members(&inv, "thing", 0, 1);
	assert_members(&inv, "thing", 1, 2);
	assert_members(&inv, "thing/in", 0, 1);
	assert_true(unit_at(&inv, "thing", 0)->own != QL_UNIT_NONE);
	assert_int_equal(unit_at(&inv, "thing", 1)->own, QL_UNIT_NONE);
	ql_inventory_release(&inv);
	trees_release(&t);
}

/* A file of several names is the same only where all of them are. */
static void test_several_names(void **state)
{
	struct trees t = { 0 };
	struct ql_inventory inv;

	(void)state;
	for (uint32_t i = 0; i < 3; i++) {
		struct lcfs_node_s *root = image_root();

		file(root, "a", 100, 1);
		image_hardlink(root, "b", "a");
		if (i == 2)
			image_hardlink(root, "c", "a");
		trees_add(&t, root);
	}
	inventory(&t, 0, &inv);
	assert_members(&inv, "a", 0, 3);
	assert_members(&inv, "a", 1, 4);
	assert_members(&inv, "b", 0, 3);
	assert_int_equal(unit_at(&inv, "a", 0)->size, 100);
	assert_int_equal(unit_at(&inv, "b", 0)->size, 0);
	assert_int_equal(unit_at(&inv, "c", 0)->size, 0);
	assert_true(unit_at(&inv, "c", 0)->linked);
	ql_inventory_release(&inv);
	trees_release(&t);
}

/* Files of eStargz at the top are passed over if that is asked for, and others
 * of these names are not. */
static void test_files_of_estargz(void **state)
{
	static const char *const names[] = { "stargz.index.json",
					     ".no.prefetch.landmark",
					     ".prefetch.landmark" };
	struct lcfs_node_s *root = image_root();
	struct trees t = { 0 };
	struct ql_inventory inv;

	(void)state;
	(void)image_add(root, "d", S_IFDIR | 0755);
	for (uint8_t i = 0; i < 3; i++)
		file(root, names[i], 100, i);
	file(root, "d/stargz.index.json", 100, 4);
	file(root, "zzz", 100, 5);
	trees_add(&t, root);
	inventory(&t, QL_INVENTORY_SKIP_STARGZ, &inv);
	assert_int_equal(inv.n_units, 4);
	assert_members(&inv, "d/stargz.index.json", 0, 1);
	assert_members(&inv, "zzz", 0, 1);
	ql_inventory_release(&inv);
	inventory(&t, 0, &inv);
	assert_int_equal(inv.n_units, 7);
	ql_inventory_release(&inv);
	trees_release(&t);
}

/* Very many of them take no longer than they must. */
static void test_many_of_several_names(void **state)
{
	enum { FILES = 20000 };
	struct lcfs_node_s *root = image_root();
	struct trees t = { 0 };
	struct ql_inventory inv;
	char name[32], other[32];

	(void)state;
	(void)image_add(root, "d", S_IFDIR | 0755);
	for (uint32_t i = 0; i < FILES; i++) {
		(void)snprintf(name, sizeof(name), "d/%05u", i);
		(void)snprintf(other, sizeof(other), "d/x%05u",
			       (i * 7919U) % FILES);
		file(root, name, 100, 1);
		image_hardlink(root, other, name);
	}
	trees_add(&t, root);
	inventory(&t, 0, &inv);
	assert_int_equal(inv.n_units, 2 * FILES + 2);
	ql_inventory_release(&inv);
	trees_release(&t);
}

/* ---- plans ---- */

static void test_shared_and_own(void **state)
{
	struct trees t = { 0 };
	struct ql_inventory inv;
	struct ql_plan plan;

	(void)state;
	for (uint8_t i = 0; i < 3; i++) {
		struct lcfs_node_s *root = image_root();

		image_mtime(image_add(root, "usr", S_IFDIR | 0755), i, 0);
		file(root, "usr/common", 1 << 20, 1);
		if (i < 2)
			file(root, "usr/two", 1 << 20, 2);
		file(root, "usr/own", 1 << 20, (uint8_t)(10 + i));
		image_add(root, "empty", S_IFDIR | 0700);
		trees_add(&t, root);
	}
	inventory(&t, 0, &inv);
	plan_make(&inv, 3, 20, &plan);
	assert_int_equal(plan.n_layers, 5);
	assert_int_equal(plan.layers[0].n_images, 3);
	assert_int_equal(plan.layers[0].bytes, 1 << 20);
	assert_int_equal(plan.layers[1].n_images, 2);
	assert_int_equal(plan.bound, 5 << 20);
	ql_plan_release(&plan);
	plan_make(&inv, 3, 1, &plan);
	assert_int_equal(plan.n_layers, 3);
	ql_plan_release(&plan);
	ql_inventory_release(&inv);
	trees_release(&t);
}

static void test_images_of_nothing(void **state)
{
	struct trees t = { 0 };
	struct ql_inventory inv;
	struct ql_plan plan;
	struct ql_error err = QL_ERROR_INIT;

	(void)state;
	inventory(&t, 0, &inv);
	plan_make(&inv, 0, 20, &plan);
	assert_int_equal(plan.n_layers, 0);
	assert_int_equal(ql_plan_make(&inv, 0, 0, &plan, &err), -EINVAL);
	ql_plan_release(&plan);
	ql_inventory_release(&inv);
	trees_add(&t, image_root());
	trees_add(&t, image_root());
	inventory(&t, 0, &inv);
	plan_make(&inv, 2, 20, &plan);
	ql_plan_release(&plan);
	ql_inventory_release(&inv);
	trees_release(&t);
}

static void test_twins_are_one(void **state)
{
	struct trees t = { 0 };
	struct ql_inventory inv;
	struct ql_plan plan;
	uint64_t bytes = 0;

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct lcfs_node_s *root = image_root();

		file(root, "a", 1 << 20, 1);
		trees_add(&t, root);
	}
	inventory(&t, 0, &inv);
	plan_make(&inv, 2, 20, &plan);
	for (uint32_t l = 0; l < plan.n_layers; l++)
		bytes += plan.layers[l].bytes;
	assert_int_equal(bytes, 1 << 20);
	ql_plan_release(&plan);
	ql_inventory_release(&inv);
	trees_release(&t);
}

static uint32_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(*state >> 33);
}

/* Names and contents are few, so that much is alike and much clashes. */
static struct lcfs_node_s *random_tree(uint64_t *random)
{
	struct lcfs_node_s *root = image_root();
	char dir[8], path[16];

	image_mtime(root, next_random(random) % 2, 0);
	for (uint32_t d = 0; d < 4; d++) {
		uint32_t kind = next_random(random) % 4;

		(void)snprintf(dir, sizeof(dir), "d%u", d);
		if (kind == 0)
			continue;
		if (kind == 1) {
			file(root, dir, 100,
			     (uint8_t)(next_random(random) % 3));
			continue;
		}
		image_mtime(image_add(root, dir, S_IFDIR | 0755),
			    next_random(random) % 2, 0);
		for (uint32_t f = 0; f < 6; f++) {
			uint32_t what = next_random(random) % 6;

			(void)snprintf(path, sizeof(path), "%s/f%u", dir, f);
			if (what == 0)
				continue;
			if (what == 1 && f > 0) {
				char first[16];

				(void)snprintf(first, sizeof(first), "%s/h",
					       dir);
				if (!lcfs_node_lookup_child(
					    image_find(root, dir), "h"))
					file(root, first, 5000, 7);
				image_hardlink(root, path, first);
				continue;
			}
			file(root, path, 1000U << next_random(random) % 12,
			     (uint8_t)(next_random(random) % 3));
		}
	}
	return root;
}

static void test_random_images(void **state)
{
	uint64_t random = 3;

	(void)state;
	for (uint32_t round = 0; round < 150; round++) {
		uint32_t n = 1 + next_random(&random) % 6;
		uint32_t max = 1 + next_random(&random) % 8;
		struct trees t = { 0 };
		struct ql_inventory inv;
		struct ql_plan plan;

		for (uint32_t i = 0; i < n; i++)
			trees_add(&t, random_tree(&random));
		inventory(&t, 0, &inv);
		plan_make(&inv, n, max, &plan);
		ql_plan_release(&plan);
		ql_inventory_release(&inv);
		trees_release(&t);
	}
}

/* ---- layers that are there ---- */

static struct lcfs_node_s *base_layer(void)
{
	struct lcfs_node_s *root = image_root();
	char path[8];

	for (uint8_t i = 0; i < 10; i++) {
		(void)snprintf(path, sizeof(path), "b%u", i);
		file(root, path, 10 << 20, i);
	}
	return root;
}

/* An image that has all of a layer uses it; one that has not, does not, and
 * the layer stays what it is. */
static void test_kept(void **state)
{
	struct trees t = { 0 };
	struct ql_inventory inv;
	struct ql_plan plan;
	struct lcfs_node_s *root;

	(void)state;
	for (uint8_t i = 0; i < 2; i++) {
		root = base_layer();
		file(root, "own", 1 << 20, (uint8_t)(100 + i));
		trees_add(&t, root);
	}
	root = image_root();
	file(root, "b0", 10 << 20, 0);
	file(root, "b1", 10 << 20, 77);
	trees_add(&t, root);
	trees_add(&t, base_layer()); /* there already */
	inventory(&t, 0, &inv);
	plan_make(&inv, 3, 20, &plan);
	assert_int_equal(plan.layers[0].member, 3);
	assert_int_equal(plan.layers[0].images[0], 3);
	assert_int_equal(plan.layers[0].bytes, 100 << 20);
	ql_plan_release(&plan);
	ql_inventory_release(&inv);
	trees_release(&t);
}

/* Cutting a small layer of many, for a new image that has most of it. */
static void test_cut(void **state)
{
	struct trees t = { 0 };
	struct ql_inventory inv;
	struct ql_plan plan;
	struct lcfs_node_s *root;
	uint64_t kept = 0, bytes = 0;

	(void)state;
	for (uint8_t i = 0; i < 2; i++) {
		root = base_layer();
		file(root, "x", 4 << 20, 50);
		file(root, "y", 1 << 20, 51);
		trees_add(&t, root);
	}
	root = image_root();
	file(root, "x", 4 << 20, 50);
	trees_add(&t, root);
	trees_add(&t, base_layer());
	root = image_root();
	file(root, "x", 4 << 20, 50);
	file(root, "y", 1 << 20, 51);
	trees_add(&t, root);
	inventory(&t, 0, &inv);
	plan_make(&inv, 3, 20, &plan);
	for (uint32_t l = 0; l < plan.n_layers; l++) {
		bytes += plan.layers[l].bytes;
		if (plan.layers[l].member != QL_UNIT_NONE)
			kept += plan.layers[l].bytes;
	}
	assert_int_equal(kept, 100 << 20);
	assert_int_equal(bytes, 105 << 20);
	ql_plan_release(&plan);
	ql_inventory_release(&inv);
	trees_release(&t);
}

/* Layers that are there, and fit here and there. */
static void test_random_again(void **state)
{
	uint64_t random = 11;

	(void)state;
	for (uint32_t round = 0; round < 60; round++) {
		uint32_t n = 2 + next_random(&random) % 3;
		struct trees t = { 0 };
		struct ql_inventory inv;
		struct ql_plan plan;

		for (uint32_t i = 0; i < n; i++)
			trees_add(&t, random_tree(&random));
		/* Trees of other images stand for layers. */
		for (uint32_t i = 0; i < 4; i++)
			trees_add(&t, random_tree(&random));
		inventory(&t, 0, &inv);
		plan_make(&inv, n, 1 + next_random(&random) % 6, &plan);
		ql_plan_release(&plan);
		ql_inventory_release(&inv);
		trees_release(&t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_the_same),
		cmocka_unit_test(test_other_types),
		cmocka_unit_test(test_several_names),
		cmocka_unit_test(test_files_of_estargz),
		cmocka_unit_test(test_many_of_several_names),
		cmocka_unit_test(test_shared_and_own),
		cmocka_unit_test(test_images_of_nothing),
		cmocka_unit_test(test_twins_are_one),
		cmocka_unit_test(test_random_images),
		cmocka_unit_test(test_kept),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_random_again),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
