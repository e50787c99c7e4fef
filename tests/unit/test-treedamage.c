/* SPDX-License-Identifier: Apache-2.0 */
/* store/tree*.c: images as libcomposefs writes them, whole and damaged. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/sysmacros.h>

#include <cmocka.h>

#include "tests/unit/trees.h"

static void not_an_image_is_refused(void **state)
{
	struct ql_error err = QL_ERROR_INIT;
	static char zeros[8192];
	struct ql_tree *tree;
	_cleanup_buf_ struct ql_buf buf;

	(void)state;
	assert_int_equal(ql_tree_open_mem(zeros, 0, &tree, &err), -EBADMSG);
	assert_int_equal(ql_tree_open_mem(zeros, sizeof(zeros), &tree, &err),
			 -EBADMSG);
	image_write(image_root(), &buf);
	for (size_t len = 0; len < 1024 + 128; len += 7)
		assert_int_equal(ql_tree_open_mem(buf.data, len, &tree, &err),
				 -EBADMSG);
	buf.data[4] = 9; /* a version of composefs's format to come */
	assert_int_equal(ql_tree_open_mem(buf.data, buf.len, &tree, &err),
			 -EBADMSG);
	assert_non_null(strstr(err.text, "9"));
}

/* Reads everything below dir, as far as a damaged image lets it. */
static int read_all(const struct ql_tree *tree, const struct ql_inode *dir,
		    int depth, int *budget)
{
	struct ql_content c;
	const char *target;
	struct ql_dirent e;
	struct ql_xattr x;
	struct ql_inode i;
	uint64_t pos = 0, xpos = 0;
	size_t len;
	int damage = 0, r;

	while (--*budget > 0 &&
	       (r = ql_tree_readdir(tree, dir, &pos, &e)) != 0) {
		if (r < 0 || ql_tree_inode(tree, e.nid, &i) < 0) {
			damage++;
			if (r < 0)
				break;
			continue;
		}
		for (xpos = 0; (r = ql_tree_xattr(tree, &i, &xpos, &x)) > 0;)
			damage += x.name_len > 255;
		damage += r < 0;
		if (S_ISREG(i.mode))
			damage += ql_tree_content(tree, &i, &c) < 0;
		if (S_ISLNK(i.mode))
			damage += ql_tree_readlink(tree, &i, &target, &len) < 0;
		if (S_ISDIR(i.mode) && depth < 20 && e.name[0] != '.')
			damage += read_all(tree, &i, depth + 1, budget);
	}
	return damage;
}

static void build_oddities(struct ql_buf *buf)
{
	struct lcfs_node_s *root = image_root(), *n;
	struct ql_digest digest;
	char path[64];

	assert_int_equal(ql_digest_of("x", 1, &digest), 0);
	image_add(root, "d", S_IFDIR | 0755);
	for (int k = 0; k < 300; k++) {
		(void)snprintf(path, sizeof(path), "d/file-%d", k);
		n = image_object(root, path, 100 + (uint64_t)k, &digest);
		image_xattr(n, "user.shared", "by all");
		if (k % 3 == 0)
			image_xattr(n, "trusted.overlay.x", path);
	}
	image_symlink(root, "link", "d/file-1");
	image_inline(root, "inline", "some text");
	image_add(root, "d/white", S_IFCHR);
	image_write(root, buf);
}

static void damage_is_an_error_and_no_more(void **state)
{
	struct ql_error err = QL_ERROR_INIT;
	_cleanup_buf_ struct ql_buf buf;
	_cleanup_free_ char *copy = NULL;
	struct ql_tree *tree;
	struct ql_inode root;
	unsigned int seed = 1;
	int damaged = 0, opened = 0, budget;

	(void)state;
	build_oddities(&buf);
	copy = malloc(buf.len);
	assert_non_null(copy);
	for (int round = 0; round < 2000; round++) {
		/* an exact copy, so that a sanitizer sees every overrun */
		memcpy(copy, buf.data, buf.len);
		for (int k = 0; k < 20; k++)
			copy[1152 + (size_t)rand_r(&seed) % (buf.len - 1152)] =
				(char)rand_r(&seed);
		if (ql_tree_open_mem(copy, buf.len, &tree, &err) < 0)
			continue;
		opened++;
		budget = 5000;
		assert_int_equal(ql_tree_inode(tree, ql_tree_root(tree), &root),
				 0);
		damaged += read_all(tree, &root, 0, &budget) > 0;
		ql_tree_close(tree);
	}
	assert_true(opened > 1000);
	assert_true(damaged > 1000);
}

/* The image's bytes of the tail of a directory: "." ".." "a" "b" "c". */
static size_t build_tail(struct ql_buf *buf)
{
	struct lcfs_node_s *root = image_root();
	struct ql_tree *tree;
	struct ql_inode dir;
	size_t pos;

	image_add(root, "d", S_IFDIR | 0755);
	image_inline(root, "d/a", "1");
	image_inline(root, "d/b", "2");
	image_inline(root, "d/c", "3");
	tree = open_root(root, buf);
	get(tree, "d", &dir);
	assert_int_equal(dir.size, 5 * 12 + 6);
	pos = (size_t)dir.tail_pos;
	assert_memory_equal(buf->data + pos + 60, "...abc", 6);
	ql_tree_close(tree);
	return pos;
}

/* 0 where the whole directory can be listed. */
static int list_dir(const struct ql_buf *buf)
{
	struct ql_error err = QL_ERROR_INIT;
	struct ql_tree *tree = NULL;
	struct ql_inode dir;
	struct ql_dirent e;
	uint64_t pos = 0;
	int r;

	assert_int_equal(ql_tree_open_mem(buf->data, buf->len, &tree, &err), 0);
	get(tree, "d", &dir);
	while ((r = ql_tree_readdir(tree, &dir, &pos, &e)) > 0)
		;
	ql_tree_close(tree);
	return r;
}

static void a_damaged_directory_is_refused(void **state)
{
	static const struct {
		size_t at; /* in the directory */
		uint8_t value;
	} damages[] = {
		{ 8, 61 },	/* the first name does not follow the records */
		{ 8, 0 },	/* no record at all */
		{ 8, 72 },	/* more records than fit */
		{ 9, 0x10 },	/* names beyond the block */
		{ 12 + 8, 60 }, /* an empty name */
		{ 12 + 8, 59 }, /* names out of order */
		{ 24 + 8, 66 }, /* a name that starts at the end */
		{ 24 + 9, 0x01 },	       /* and beyond it */
		{ 36 + 9, 0xff }, { 63, '/' }, /* a name with a slash */
		{ 64, 0 },		       /* and one with NUL */
	};
	_cleanup_buf_ struct ql_buf buf;
	size_t dir = build_tail(&buf);
	char *p;

	(void)state;
	assert_int_equal(list_dir(&buf), 0);
	for (size_t k = 0; k < sizeof(damages) / sizeof(damages[0]); k++) {
		p = buf.data + dir + damages[k].at;
		char was = *p;

		*p = (char)damages[k].value;
		if (list_dir(&buf) != -EBADMSG)
			fail_msg("damage %zu passes", k);
		*p = was;
	}
	assert_int_equal(list_dir(&buf), 0);
}

static void cutting_short_is_an_error_and_no_more(void **state)
{
	struct ql_error err = QL_ERROR_INIT;
	_cleanup_buf_ struct ql_buf buf;
	struct ql_tree *tree;
	struct ql_inode root;
	int budget;
	char *copy;

	(void)state;
	build_oddities(&buf);
	for (size_t len = 1152; len < buf.len; len += 97) {
		copy = malloc(len);
		assert_non_null(copy);
		memcpy(copy, buf.data, len);
		if (ql_tree_open_mem(copy, len, &tree, &err) == 0) {
			budget = 5000;
			if (ql_tree_inode(tree, ql_tree_root(tree), &root) == 0)
				(void)read_all(tree, &root, 0, &budget);
			ql_tree_close(tree);
		}
		free(copy);
	}
}

static void a_tree_from_a_file_holds_its_descriptor(void **state)
{
	char name[] = "/tmp/ql-test-tree-XXXXXX";
	struct ql_error err = QL_ERROR_INIT;
	_cleanup_buf_ struct ql_buf buf;
	struct ql_tree *tree;
	struct ql_inode i;
	int fd = mkstemp(name);

	(void)state;
	assert_true(fd >= 0);
	(void)unlink(name);
	assert_int_equal(ql_tree_open_fd(fd, &tree, &err), -EBADMSG);
	build_oddities(&buf);
	assert_int_equal(ql_write_full(fd, buf.data, buf.len), 0);
	assert_int_equal(ql_tree_open_fd(fd, &tree, &err), 0);
	assert_int_equal(ql_tree_fd(tree), fd);
	ql_tree_relax(tree);
	get(tree, "d/file-299", &i);
	assert_int_equal(i.size, 399);
	ql_tree_close(tree);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(not_an_image_is_refused),
		cmocka_unit_test(damage_is_an_error_and_no_more),
		cmocka_unit_test(a_damaged_directory_is_refused),
		cmocka_unit_test(cutting_short_is_an_error_and_no_more),
		cmocka_unit_test(a_tree_from_a_file_holds_its_descriptor),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
