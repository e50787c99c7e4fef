/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a check and a repair do beside others: they wait for nobody who holds an
 * image's tree, and what they take out of use nobody believes to be here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/file.h>
#include <unistd.h>

#include "tests/unit/fill.h"

enum { TOO_LONG = 20 /* s */ };

static struct ql_buf tar = QL_BUF_INIT(1 << 24);

static void begin(struct fill_lab *lab)
{
	fill_add(&tar, "usr/one", 100000, 3);
	fill_add(&tar, "usr/two", 50000, 5);
	fill_lab_init(lab, &tar, NULL);
}

/* The image's tree, as whoever takes images away holds it. */
static int hold_alone(const struct lab *lab)
{
	char hex[QL_DIGEST_HEX + 1];
	_cleanup_free_ char *path = ql_strf("%s/images/%s.cfs", lab->root,
					    ql_digest_hex(&lab->manifest, hex));
	int fd;

	assert_non_null(path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
	return fd;
}

static void ignore(const struct ql_fault *fault, void *arg)
{
	(void)fault;
	(void)arg;
}

/* Who holds it waits for a write transaction, and these are in one. */
static void nobody_waits_for_a_tree_in_a_transaction(void **state)
{
	struct fill_lab lab;
	struct ql_fsck_stats stats;
	struct ql_digest nothing;
	uint64_t fixed;
	int fd;

	(void)state;
	begin(&lab);
	fd = hold_alone(&lab.to);
	(void)alarm(TOO_LONG);
	assert_int_equal(ql_store_check_records(lab.to.store, NULL, ignore,
						NULL, &stats, &lab.to.err),
			 0);
	assert_int_equal(stats.errors, 0);
	assert_int_equal(ql_store_recount(lab.to.store, &fixed, &lab.to.err),
			 0);
	assert_int_equal(fixed, 0);
	assert_int_equal(ql_digest_of("nothing", 7, &nothing), 0);
	assert_int_equal(ql_objects_set_aside(lab.to.store, &nothing, 1, NULL,
					      &lab.to.err),
			 0);
	(void)alarm(0);
	(void)close(fd);
	fill_lab_release(&lab);
}

struct copying {
	struct fill_lab *lab;
	struct ql_digest last;
};

static int copy_object(const struct ql_digest *digest, uint64_t size, void *arg)
{
	_cleanup_buf_ struct ql_buf data = QL_BUF_INIT(1 << 20);
	struct copying *c = arg;
	struct ql_digest stored;

	(void)size;
	assert_int_equal(
		ql_object_read(c->lab->from.store, digest, &data, NULL), 0);
	assert_int_equal(ql_object_put(c->lab->to.store, data.data, data.len,
				       digest, &stored, NULL),
			 0);
	c->last = *digest;
	return 0;
}

static bool is_here(struct fill_lab *lab)
{
	_cleanup_image_info_ struct ql_image_info info = { 0 };

	assert_int_equal(ql_image_get(lab->to.store, &lab->to.manifest, &info),
			 0);
	assert_int_equal(info.flags & QL_IMAGE_WHOLE, 0);
	return ql_image_is_here(lab->to.store, &info);
}

static void what_is_set_aside_is_not_here(void **state)
{
	struct fill_lab lab;
	struct copying c = { .lab = &lab };
	struct ql_tree *tree;
	bool here = false;

	(void)state;
	begin(&lab);
	assert_int_equal(ql_tree_open_image(lab.to.store, &lab.to.manifest,
					    &tree, &lab.to.err),
			 0);
	assert_int_equal(ql_tree_each_object(tree, copy_object, &c), 0);
	ql_tree_close(tree);
	assert_false(is_here(&lab));
	assert_int_equal(ql_image_mark_here(lab.to.store, &lab.to.manifest,
					    &here, &lab.to.err),
			 0);
	assert_true(here);
	assert_true(is_here(&lab));
	assert_int_equal(ql_objects_set_aside(lab.to.store, &c.last, 1, NULL,
					      &lab.to.err),
			 0);
	assert_false(is_here(&lab));
	fill_lab_release(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_waits_for_a_tree_in_a_transaction),
		cmocka_unit_test(what_is_set_aside_is_not_here),
	};
	int r;

	cmocka_set_message_output(CM_OUTPUT_TAP);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	ql_buf_release(&tar);
	return r;
}
