/* SPDX-License-Identifier: Apache-2.0 */
/* refactor/: two root file systems compared, images and folders on disk. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <cmocka.h>

#include "refactor/refactor.h"
#include "tests/unit/image.h"

/* What was found, one line each: "path: what (a -> b)". */
static int collect(const struct ql_difference *d, void *arg)
{
	return ql_buf_addf(arg, "%s: %s (%s -> %s)\n", d->path, d->what,
			   d->a ? d->a : "-", d->b ? d->b : "-");
}

static const char *compare_roots(struct ql_root *a, struct ql_root *b,
				 unsigned int flags, struct ql_buf *buf)
{
	struct ql_error err = QL_ERROR_INIT;
	uint64_t count = 0, lines = 0;

	ql_buf_init(buf, 1 << 20);
	if (ql_root_compare(a, b, flags, collect, buf, &count, &err) < 0)
		fail_msg("%s", err.text);
	for (const char *p = ql_buf_str(buf); *p; p++)
		lines += *p == '\n';
	assert_int_equal(lines, count);
	return ql_buf_str(buf);
}

/* Frees both; the text is to be freed. */
static char *compare_images(struct lcfs_node_s *a, struct lcfs_node_s *b)
{
	_cleanup_buf_ struct ql_buf image_a, image_b, found;
	_cleanup_(ql_tree_closep) struct ql_tree *tree_a = NULL, *tree_b = NULL;
	_cleanup_(ql_root_freep) struct ql_root *root_a = NULL, *root_b = NULL;
	struct ql_error err = QL_ERROR_INIT;

	image_write(a, &image_a);
	image_write(b, &image_b);
	assert_int_equal(
		ql_tree_open_mem(image_a.data, image_a.len, &tree_a, &err), 0);
	assert_int_equal(
		ql_tree_open_mem(image_b.data, image_b.len, &tree_b, &err), 0);
	assert_int_equal(ql_root_from_tree(tree_a, &root_a, &err), 0);
	assert_int_equal(ql_root_from_tree(tree_b, &root_b, &err), 0);
	return strdup(compare_roots(root_a, root_b, 0, &found));
}

static void assert_found(struct lcfs_node_s *a, struct lcfs_node_s *b,
			 const char *expect)
{
	_cleanup_free_ char *found = compare_images(a, b);

	assert_string_equal(found, expect);
}

static struct lcfs_node_s *sample(void)
{
	struct lcfs_node_s *root = image_root();
	struct ql_digest digest;

	image_must(ql_digest_of("some content", 12, &digest) == 0);
	image_add(root, "d", S_IFDIR | 0755);
	image_add(root, "d.x", S_IFDIR | 0755);
	image_inline(root, "d/small", "text");
	image_object(root, "d/large", 12, &digest);
	image_hardlink(root, "d/large2", "d/large");
	image_hardlink(root, "d.x/large3", "d/large");
	image_symlink(root, "link", "d/small");
	image_add(root, "dev", S_IFCHR | 0600);
	lcfs_node_set_rdev64(image_find(root, "dev"), makedev(1, 3));
	image_xattr(image_find(root, "d"), "user.a", "1");
	image_xattr(image_find(root, "d"), "user.b", "2");
	return root;
}

static void equal_images_have_no_difference(void **state)
{
	(void)state;
	assert_found(sample(), sample(), "");
}

static void each_attribute_is_compared(void **state)
{
	struct lcfs_node_s *b = sample(), *n;

	(void)state;
	lcfs_node_set_mode(image_find(b, "d"), S_IFDIR | 01777);
	lcfs_node_set_uid(image_find(b, "d/small"), 70000);
	lcfs_node_set_gid(image_find(b, "d/small"), 5);
	image_mtime(image_find(b, "d.x"), -1, 5);
	lcfs_node_set_rdev64(image_find(b, "dev"), makedev(1, 5));
	n = image_find(b, "link");
	image_must(lcfs_node_set_symlink_payload(n, "d/other") == 0);
	assert_found(sample(), b,
		     "/d: mode (0755 -> 1777)\n"
		     "/d/small: uid (0 -> 70000)\n"
		     "/d/small: gid (0 -> 5)\n"
		     "/d.x: mtime (0 000000000 -> -1 000000005)\n"
		     "/dev: device (1:3 -> 1:5)\n"
		     "/link: target (d/small -> d/other)\n");
}

static void the_top_is_compared_too(void **state)
{
	struct lcfs_node_s *b = sample();

	(void)state;
	lcfs_node_set_mode(b, S_IFDIR | 0700);
	assert_found(sample(), b, "/: mode (0755 -> 0700)\n");
}

static void content_is_compared_however_it_is_kept(void **state)
{
	struct lcfs_node_s *a = image_root(), *b = image_root();
	struct ql_digest same, other;

	(void)state;
	assert_int_equal(ql_digest_of("abc", 3, &same), 0);
	assert_int_equal(ql_digest_of("abd", 3, &other), 0);
	image_inline(a, "1", "abc");
	image_object(b, "1", 3, &same);
	image_inline(a, "2", "abc");
	image_object(b, "2", 3, &other);
	image_inline(a, "3", "abc");
	image_inline(b, "3", "abcd");
	image_add(a, "4", S_IFREG | 0644);
	image_add(b, "4", S_IFREG | 0644);
	assert_found(
		a, b,
		"/2: content (sha256:ba7816bf8f01cfea414140de5dae2223b00361a39"
		"6177a9cb410ff61f20015ad -> sha256:a52d159f262b2c6ddb724a61840"
		"befc36eb30c88877a4030b65cbe86298449c9)\n"
		"/3: size (3 -> 4)\n");
}

static void what_one_side_lacks_is_told_once(void **state)
{
	struct lcfs_node_s *a = sample(), *b = sample();

	(void)state;
	image_add(a, "a-dir", S_IFDIR | 0755);
	image_inline(a, "a-dir/in", "x");
	image_add(b, "d/fifo", S_IFIFO | 0644);
	image_symlink(b, "zz", "d");
	assert_found(a, b,
		     "/a-dir: missing (directory -> -)\n"
		     "/d/fifo: extra (- -> fifo)\n"
		     "/zz: extra (- -> symlink)\n");
}

static void another_type_is_one_difference(void **state)
{
	struct lcfs_node_s *a = image_root(), *b = image_root();

	(void)state;
	image_add(a, "x", S_IFDIR | 0755);
	image_inline(a, "x/in", "1");
	image_inline(b, "x", "2");
	assert_found(a, b, "/x: type (directory -> file)\n");
}

static void xattrs_are_merged_by_name(void **state)
{
	struct lcfs_node_s *b = sample(), *n = image_find(b, "d");

	(void)state;
	assert_int_equal(lcfs_node_unset_xattr(n, "user.a"), 0);
	image_xattr(n, "user.b", "\x01");
	image_xattr(n, "trusted.c", "3");
	assert_found(sample(), b,
		     "/d: xattr trusted.c (- -> 3)\n"
		     "/d: xattr user.a (1 -> -)\n"
		     "/d: xattr user.b (2 -> \\x01)\n");
}

static void hardlinks_are_sets_of_paths(void **state)
{
	struct lcfs_node_s *a = image_root(), *b = image_root();
	static const char *const names[] = { "1", "2", "3", "4" };

	(void)state;
	image_inline(a, "1", "x");
	image_inline(a, "2", "x");
	image_hardlink(a, "3", "1");
	image_hardlink(a, "4", "2");
	image_inline(b, "1", "x");
	image_inline(b, "2", "x");
	image_hardlink(b, "3", "2");
	image_hardlink(b, "4", "1");
	assert_found(a, b,
		     "/3: hardlink (/1 -> /2)\n/4: hardlink (/2 -> /1)\n");

	a = image_root();
	b = image_root();
	for (size_t i = 0; i < 4; i++) {
		if (i == 0)
			image_inline(a, names[i], "x");
		else
			image_hardlink(a, names[i], "1");
		image_inline(b, names[i], "x");
	}
	assert_found(a, b,
		     "/2: hardlink (/1 -> /2)\n/3: hardlink (/1 -> /3)\n"
		     "/4: hardlink (/1 -> /4)\n");
}

/* ---- folders on disk ---- */

static char top[64];

static int make_folder(void **state)
{
	(void)state;
	(void)snprintf(top, sizeof(top), "/tmp/ql-test-compare-XXXXXX");
	return mkdtemp(top) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int remove_folder(void **state)
{
	(void)state;
	return nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static const char *in_top(const char *name)
{
	static char path[512];

	(void)snprintf(path, sizeof(path), "%s/%s", top, name);
	return path;
}

static void put_file(const char *name, const char *text)
{
	int fd = open(in_top(name), O_CREAT | O_WRONLY | O_EXCL, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fchmod(fd, 0644), 0);
	assert_int_equal(ql_write_full(fd, text, strlen(text)), 0);
	(void)close(fd);
}

static void owned(struct lcfs_node_s *node, const char *path)
{
	const struct timespec times[2] = { { 1, 0 }, { -5, 999999999 } };

	lcfs_node_set_uid(node, getuid());
	lcfs_node_set_gid(node, getgid());
	image_mtime(node, -5, 999999999);
	assert_int_equal(utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW),
			 0);
}

static void an_image_equals_the_folder_it_describes(void **state)
{
	_cleanup_buf_ struct ql_buf image, found, more;
	_cleanup_(ql_root_freep) struct ql_root *a = NULL, *b = NULL;
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	struct lcfs_node_s *root = image_root();
	struct ql_error err = QL_ERROR_INIT;
	struct ql_digest digest;
	const char *text;
	bool xattrs;

	(void)state;
	assert_int_equal(ql_digest_of("large text", 10, &digest), 0);
	assert_int_equal(mkdir(in_top("sub"), 0755), 0);
	image_add(root, "sub", S_IFDIR | 0755);
	put_file("sub/small", "tiny");
	owned(image_inline(root, "sub/small", "tiny"), in_top("sub/small"));
	put_file("large", "large text");
	image_object(root, "large", 10, &digest);
	xattrs = setxattr(in_top("large"), "user.k", "v", 1, 0) == 0;
	if (xattrs)
		image_xattr(image_find(root, "large"), "user.k", "v");
	owned(image_find(root, "large"), in_top("large"));
	(void)unlink(in_top("sub/hard"));
	char target[512];
	(void)snprintf(target, sizeof(target), "%s", in_top("large"));
	assert_int_equal(link(target, in_top("sub/hard")), 0);
	image_hardlink(root, "sub/hard", "large");
	assert_int_equal(symlink("nowhere", in_top("link")), 0);
	owned(image_symlink(root, "link", "nowhere"), in_top("link"));
	assert_int_equal(mkfifo(in_top("fifo"), 0600), 0);
	owned(image_add(root, "fifo", S_IFIFO | 0600), in_top("fifo"));
	owned(image_find(root, "sub"), in_top("sub"));

	image_write(root, &image);
	assert_int_equal(ql_tree_open_mem(image.data, image.len, &tree, &err),
			 0);
	assert_int_equal(ql_root_from_tree(tree, &a, &err), 0);
	assert_int_equal(ql_root_from_dir(top, &b, &err), 0);
	assert_string_equal(compare_roots(a, b, QL_COMPARE_SKIP_TOP, &found),
			    "");

	assert_int_equal(chmod(in_top("sub/small"), 0600), 0);
	assert_int_equal(truncate(in_top("large"), 3), 0);
	text = compare_roots(a, b, QL_COMPARE_SKIP_TOP | QL_COMPARE_SKIP_MTIME,
			     &more);
	assert_string_equal(text, "/large: size (10 -> 3)\n"
				  "/sub/hard: size (10 -> 3)\n"
				  "/sub/small: mode (0644 -> 0600)\n");
}

static void a_folder_that_is_none_is_an_error(void **state)
{
	struct ql_error err = QL_ERROR_INIT;
	struct ql_root *root = NULL;

	(void)state;
	assert_int_equal(ql_root_from_dir("/nonexistent/x", &root, &err),
			 -ENOENT);
	assert_int_equal(ql_root_from_dir("/dev/null", &root, &err), -ENOTDIR);
}

static int stop_at_first(const struct ql_difference *d, void *arg)
{
	(void)d;
	(void)arg;
	return 7;
}

static void the_caller_can_stop(void **state)
{
	_cleanup_(ql_root_freep) struct ql_root *a = NULL, *b = NULL;
	struct ql_error err = QL_ERROR_INIT;
	uint64_t count = 99;

	(void)state;
	put_file("x", "");
	assert_int_equal(ql_root_from_dir(top, &a, &err), 0);
	assert_int_equal(ql_root_from_dir("/proc/self/fd", &b, &err), 0);
	assert_int_equal(ql_root_compare(a, b, QL_COMPARE_SKIP_TOP,
					 stop_at_first, NULL, &count, &err),
			 7);
	assert_int_equal(count, 99);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equal_images_have_no_difference),
		cmocka_unit_test(each_attribute_is_compared),
		cmocka_unit_test(the_top_is_compared_too),
		cmocka_unit_test(content_is_compared_however_it_is_kept),
		cmocka_unit_test(what_one_side_lacks_is_told_once),
		cmocka_unit_test(another_type_is_one_difference),
		cmocka_unit_test(xattrs_are_merged_by_name),
		cmocka_unit_test(hardlinks_are_sets_of_paths),
		cmocka_unit_test_setup_teardown(
			an_image_equals_the_folder_it_describes, make_folder,
			remove_folder),
		cmocka_unit_test(a_folder_that_is_none_is_an_error),
		cmocka_unit_test_setup_teardown(the_caller_can_stop,
						make_folder, remove_folder),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
