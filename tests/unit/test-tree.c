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

/* "prefix+name=value" of every xattr shown, sorted as the image has them. */
static int has_xattr(const struct ql_tree *tree, const struct ql_inode *inode,
		     const char *name, const char *value)
{
	char full[512], val[512];
	struct ql_xattr x;
	uint64_t pos = 0;
	int r, found = 0;

	while ((r = ql_tree_xattr(tree, inode, &pos, &x)) > 0) {
		(void)snprintf(full, sizeof(full), "%s%.*s", x.prefix,
			       (int)x.name_len, x.name);
		(void)snprintf(val, sizeof(val), "%.*s", (int)x.value_len,
			       (const char *)x.value);
		found += strcmp(full, name) == 0 && strcmp(val, value) == 0;
	}
	assert_int_equal(r, 0);
	return found;
}

static int count_xattrs(const struct ql_tree *tree,
			const struct ql_inode *inode)
{
	struct ql_xattr x;
	uint64_t pos = 0;
	int n = 0, r;

	while ((r = ql_tree_xattr(tree, inode, &pos, &x)) > 0)
		n++;
	assert_int_equal(r, 0);
	return n;
}

static void inodes_keep_what_their_author_gave(void **state)
{
	struct lcfs_node_s *root = image_root(), *n;
	_cleanup_buf_ struct ql_buf buf;
	struct ql_tree *tree;
	struct ql_inode i;

	(void)state;
	n = image_inline(root, "old", "x");
	image_mtime(n, -86400, 999999999);
	lcfs_node_set_mode(n, S_IFREG | 06755);
	image_mtime(image_inline(root, "older", "x"), -1099511627776LL, 0);
	n = image_inline(root, "big-ids", "y");
	lcfs_node_set_uid(n, 70000);
	lcfs_node_set_gid(n, 4000000000);
	n = image_add(root, "dev", S_IFBLK | 0660);
	lcfs_node_set_rdev64(n, makedev(259, 70001));
	image_add(root, "fifo", S_IFIFO | 0600);
	image_add(root, "sock", S_IFSOCK | 0700);
	image_add(root, "dir", S_IFDIR | 01777);
	image_hardlink(root, "dir/also-old", "old");

	tree = open_root(root, &buf);
	get(tree, "old", &i);
	assert_int_equal(i.mode, S_IFREG | 06755);
	assert_int_equal(i.mtime_sec, -86400);
	assert_int_equal(i.mtime_nsec, 999999999);
	assert_int_equal(i.nlink, 2);
	assert_int_equal(i.size, 1);
	uint64_t nid = i.nid;
	get(tree, "dir/also-old", &i);
	assert_int_equal(i.nid, nid);
	get(tree, "big-ids", &i);
	assert_int_equal(i.uid, 70000);
	assert_int_equal(i.gid, 4000000000);
	assert_int_equal(i.mtime_sec, 0);
	get(tree, "dev", &i);
	assert_int_equal(major(i.rdev), 259);
	assert_int_equal(minor(i.rdev), 70001);
	get(tree, "fifo", &i);
	assert_true(S_ISFIFO(i.mode));
	get(tree, "sock", &i);
	assert_true(S_ISSOCK(i.mode));
	get(tree, "dir", &i);
	assert_int_equal(i.mode, S_IFDIR | 01777);
	assert_false(ql_tree_has_acl(tree));
	ql_tree_close(tree);
}

static void lookup_finds_every_name_of_a_large_directory(void **state)
{
	struct lcfs_node_s *root = image_root();
	_cleanup_buf_ struct ql_buf buf;
	struct ql_inode dir, i;
	struct ql_tree *tree;
	char path[300], prev[300] = "";
	struct ql_dirent e;
	uint64_t pos = 0, nid;
	int n = 0, r;

	(void)state;
	image_add(root, "d", S_IFDIR | 0755);
	for (int k = 0; k < MANY; k++) {
		(void)snprintf(path, sizeof(path), "d/%c%d-%0*d", '!' + k % 90,
			       k, k % 200 + 1, k);
		if (path[2] == '/')
			path[2] = '_';
		image_add(root, path, S_IFREG | 0644);
	}
	tree = open_root(root, &buf);
	get(tree, "d", &dir);
	assert_true(dir.size > 64 * 4096);
	while ((r = ql_tree_readdir(tree, &dir, &pos, &e)) > 0) {
		(void)snprintf(path, sizeof(path), "%.*s", (int)e.len, e.name);
		assert_true(strcmp(prev, path) < 0);
		(void)snprintf(prev, sizeof(prev), "%s", path);
		assert_int_equal(
			ql_tree_lookup(tree, &dir, e.name, e.len, &nid), 0);
		assert_int_equal(nid, e.nid);
		path[e.len - 1] ^= 1;
		r = ql_tree_lookup(tree, &dir, path, e.len, &nid);
		assert_true(r == 0 || r == -ENOENT);
		assert_int_equal(ql_tree_inode(tree, e.nid, &i), 0);
		n++;
	}
	assert_int_equal(r, 0);
	assert_int_equal(n, MANY + 2);
	assert_int_equal(ql_tree_lookup(tree, &dir, "", 0, &nid), -ENOENT);
	assert_int_equal(ql_tree_lookup(tree, &dir, "\xff", 1, &nid), -ENOENT);
	memset(path, 'a', 256);
	assert_int_equal(ql_tree_lookup(tree, &dir, path, 256, &nid),
			 -ENAMETOOLONG);
	pos = 5;
	assert_int_equal(ql_tree_readdir(tree, &dir, &pos, &e), -EINVAL);
	assert_int_equal(ql_tree_lookup(tree, &i, "a", 1, &nid), -ENOTDIR);
	ql_tree_close(tree);
}

static void names_may_hold_any_byte_and_255_of_them(void **state)
{
	struct lcfs_node_s *root = image_root();
	_cleanup_buf_ struct ql_buf buf;
	struct ql_tree *tree;
	struct ql_inode i;
	char name[256];

	(void)state;
	memset(name, 0xe9, 255);
	name[255] = 0;
	image_inline(root, name, "long");
	image_inline(root, "\x01\n\xff", "odd");
	tree = open_root(root, &buf);
	get(tree, name, &i);
	assert_int_equal(i.size, 4);
	get(tree, "\x01\n\xff", &i);
	assert_int_equal(i.size, 3);
	ql_tree_close(tree);
}

static void content_is_inline_or_an_object(void **state)
{
	struct lcfs_node_s *root = image_root();
	_cleanup_buf_ struct ql_buf buf;
	struct ql_digest digest;
	struct ql_content c;
	struct ql_tree *tree;
	struct ql_inode i;
	char block[4097];

	(void)state;
	for (size_t k = 0; k < 4096; k++)
		block[k] = (char)('a' + k % 26);
	block[4096] = 0;
	assert_int_equal(ql_digest_of("hello", 5, &digest), 0);
	image_inline(root, "tail", "hello");
	image_inline(root, "block", block);
	image_add(root, "empty", S_IFREG | 0644);
	image_object(root, "object", 5ULL << 40, &digest);
	image_xattr(image_object(root, "shared", 7, &digest), "user.k", "v");

	tree = open_root(root, &buf);
	get(tree, "tail", &i);
	assert_int_equal(ql_tree_content(tree, &i, &c), 0);
	assert_int_equal(c.size, 5);
	assert_memory_equal(c.data, "hello", 5);
	get(tree, "block", &i);
	assert_int_equal(ql_tree_content(tree, &i, &c), 0);
	assert_int_equal(c.size, 4096);
	assert_memory_equal(c.data, block, 4096);
	get(tree, "empty", &i);
	assert_int_equal(ql_tree_content(tree, &i, &c), 0);
	assert_int_equal(c.size, 0);
	assert_null(c.data);
	get(tree, "object", &i);
	assert_int_equal(ql_tree_content(tree, &i, &c), 0);
	assert_null(c.data);
	assert_int_equal(c.size, 5ULL << 40);
	assert_true(ql_digest_equal(&c.object, &digest));
	assert_int_equal(count_xattrs(tree, &i), 0);
	get(tree, "shared", &i);
	assert_int_equal(count_xattrs(tree, &i), 1);
	assert_int_equal(has_xattr(tree, &i, "user.k", "v"), 1);
	get(tree, "/", &i);
	assert_int_equal(ql_tree_content(tree, &i, &c), -EINVAL);
	ql_tree_close(tree);
}

static void symlinks_keep_targets_up_to_4095_bytes(void **state)
{
	static const size_t lens[] = { 1, 100, 2000, 3900, 4000, 4063, 4095 };
	struct lcfs_node_s *root = image_root();
	_cleanup_buf_ struct ql_buf buf;
	char target[4096], path[32];
	struct ql_tree *tree;
	struct ql_inode i;
	const char *got;
	size_t len;

	(void)state;
	memset(target, 't', sizeof(target));
	for (size_t k = 0; k < sizeof(lens) / sizeof(lens[0]); k++) {
		target[lens[k]] = 0;
		(void)snprintf(path, sizeof(path), "l%zu", lens[k]);
		image_symlink(root, path, target);
		target[lens[k]] = 't';
	}
	tree = open_root(root, &buf);
	for (size_t k = 0; k < sizeof(lens) / sizeof(lens[0]); k++) {
		(void)snprintf(path, sizeof(path), "l%zu", lens[k]);
		get(tree, path, &i);
		assert_int_equal(i.size, lens[k]);
		assert_int_equal(ql_tree_readlink(tree, &i, &got, &len), 0);
		assert_int_equal(len, lens[k]);
		assert_memory_equal(got, target, len);
	}
	get(tree, "/", &i);
	assert_int_equal(ql_tree_readlink(tree, &i, &got, &len), -EINVAL);
	ql_tree_close(tree);
}

static void xattrs_come_back_as_given(void **state)
{
	struct lcfs_node_s *root = image_root(), *n;
	_cleanup_buf_ struct ql_buf buf;
	struct ql_tree *tree;
	struct ql_inode i;

	(void)state;
	n = image_inline(root, "f", "x");
	image_xattr(n, "user.a", "1");
	image_xattr(n, "trusted.b", "22");
	image_xattr(n, "security.capability", "cap");
	image_xattr(n, "system.posix_acl_access", "acl");
	image_xattr(n, "trusted.overlay.redirect", "/mine");
	image_xattr(n, "trusted.overlay.overlay.opaque", "z");
	image_xattr(n, "other.name", "");
	n = image_add(root, "d", S_IFDIR | 0755);
	image_xattr(n, "trusted.overlay.opaque", "y");
	image_xattr(n, "user.a", "1");
	image_xattr(n, "system.posix_acl_default", "dacl");

	tree = open_root(root, &buf);
	assert_true(ql_tree_has_acl(tree));
	get(tree, "f", &i);
	assert_int_equal(count_xattrs(tree, &i), 7);
	assert_int_equal(has_xattr(tree, &i, "user.a", "1"), 1);
	assert_int_equal(has_xattr(tree, &i, "trusted.b", "22"), 1);
	assert_int_equal(has_xattr(tree, &i, "security.capability", "cap"), 1);
	assert_int_equal(has_xattr(tree, &i, "system.posix_acl_access", "acl"),
			 1);
	assert_int_equal(
		has_xattr(tree, &i, "trusted.overlay.redirect", "/mine"), 1);
	assert_int_equal(
		has_xattr(tree, &i, "trusted.overlay.overlay.opaque", "z"), 1);
	assert_int_equal(has_xattr(tree, &i, "other.name", ""), 1);
	get(tree, "d", &i);
	assert_int_equal(count_xattrs(tree, &i), 3);
	assert_int_equal(has_xattr(tree, &i, "trusted.overlay.opaque", "y"), 1);
	assert_int_equal(
		has_xattr(tree, &i, "system.posix_acl_default", "dacl"), 1);
	get(tree, "/", &i);
	assert_int_equal(count_xattrs(tree, &i), 0);
	ql_tree_close(tree);
}

/* 200 shared xattrs are more than the 128 that composefs shares. */
static void many_xattrs_are_all_listed(void **state)
{
	struct lcfs_node_s *root = image_root(), *a, *b;
	_cleanup_buf_ struct ql_buf buf;
	struct ql_tree *tree;
	struct ql_inode i;
	char name[32];

	(void)state;
	a = image_inline(root, "a", "x");
	b = image_inline(root, "b", "x");
	for (int k = 0; k < 200; k++) {
		(void)snprintf(name, sizeof(name), "user.n%d", k);
		image_xattr(a, name, "value");
		image_xattr(b, name, "value");
	}
	tree = open_root(root, &buf);
	get(tree, "b", &i);
	assert_int_equal(count_xattrs(tree, &i), 200);
	assert_int_equal(has_xattr(tree, &i, "user.n199", "value"), 1);
	ql_tree_close(tree);
}

static void
the_folders_of_objects_are_hidden_but_not_the_images_own(void **state)
{
	struct lcfs_node_s *root = image_root();
	_cleanup_buf_ struct ql_buf buf;
	struct ql_tree *tree;
	struct ql_dirent e;
	struct ql_inode i;
	uint64_t pos = 0, nid;
	int n = 0;

	(void)state;
	image_add(root, "aa", S_IFDIR | 0755);
	image_inline(root, "zz", "x");
	image_add(root, "bb", S_IFCHR | 0600); /* 0:0, the image's own */
	lcfs_node_set_rdev64(image_add(root, "cc", S_IFCHR | 0600),
			     makedev(1, 3));
	tree = open_root(root, &buf);
	get(tree, "/", &i);
	while (ql_tree_readdir(tree, &i, &pos, &e) > 0) {
		if (e.len == 2 && memcmp(e.name, "bb", 2) == 0)
			assert_int_equal(e.type, DT_CHR);
		n++;
	}
	assert_int_equal(n, 6);
	assert_int_equal(ql_tree_lookup(tree, &i, "00", 2, &nid), -ENOENT);
	assert_int_equal(ql_tree_lookup(tree, &i, "ff", 2, &nid), -ENOENT);
	assert_int_equal(ql_tree_lookup(tree, &i, "cc", 2, &nid), 0);
	get(tree, "bb", &i);
	assert_int_equal(i.mode, S_IFCHR | 0600);
	assert_int_equal(i.rdev, 0);
	assert_int_equal(count_xattrs(tree, &i), 0);
	get(tree, "/", &i);
	assert_int_equal(count_xattrs(tree, &i), 0);
	ql_tree_close(tree);
}

static void whiteouts_of_the_image_are_shown_as_devices(void **state)
{
	struct lcfs_node_s *root = image_root(), *n;
	_cleanup_buf_ struct ql_buf buf;
	struct ql_tree *tree;
	struct ql_inode i;

	(void)state;
	image_add(root, "d", S_IFDIR | 0755);
	n = image_add(root, "d/gone", S_IFCHR | 0);
	image_xattr(n, "user.mine", "1");
	image_inline(root, "d/here", "x");
	n = image_add(root, "plain", S_IFDIR | 0755);
	image_xattr(n, "user.overlay.opaque", "x");
	tree = open_root(root, &buf);
	get(tree, "d/gone", &i);
	assert_int_equal(i.mode, S_IFCHR);
	assert_int_equal(count_xattrs(tree, &i), 1);
	assert_int_equal(has_xattr(tree, &i, "user.mine", "1"), 1);
	get(tree, "d", &i);
	assert_int_equal(count_xattrs(tree, &i), 0);
	get(tree, "plain", &i);
	assert_int_equal(has_xattr(tree, &i, "user.overlay.opaque", "x"), 1);
	ql_tree_close(tree);
}

static int resolve(const struct ql_tree *tree, const char *path, bool follow,
		   uint64_t *nid)
{
	struct ql_error err = QL_ERROR_INIT;
	struct ql_inode i;
	int r = ql_tree_resolve(tree, path, follow, &i, &err);

	if (r == 0)
		*nid = i.nid;
	else
		assert_int_equal(err.code, r);
	return r;
}

static void paths_resolve_inside_the_tree(void **state)
{
	struct lcfs_node_s *root = image_root();
	uint64_t file, link, nid, top;
	_cleanup_buf_ struct ql_buf buf;
	struct ql_tree *tree;

	(void)state;
	image_add(root, "a", S_IFDIR | 0755);
	image_add(root, "a/b", S_IFDIR | 0755);
	image_inline(root, "a/b/file", "x");
	image_symlink(root, "abs", "/a/b/file");
	image_symlink(root, "a/up", "../../../../a/b/../b/file");
	image_symlink(root, "dirlink", "a/b/");
	image_symlink(root, "loop", "loop2");
	image_symlink(root, "loop2", "./loop");
	image_symlink(root, "dangling", "nowhere");
	tree = open_root(root, &buf);
	assert_int_equal(resolve(tree, "a/b/file", false, &file), 0);
	assert_int_equal(resolve(tree, "/", false, &top), 0);
	assert_int_equal(resolve(tree, "", false, &nid), 0);
	assert_int_equal(nid, top);
	assert_int_equal(resolve(tree, "/..//../a/./b/file", true, &nid), 0);
	assert_int_equal(nid, file);
	assert_int_equal(resolve(tree, "abs", true, &nid), 0);
	assert_int_equal(nid, file);
	assert_int_equal(resolve(tree, "abs", false, &link), 0);
	assert_int_not_equal(link, file);
	assert_int_equal(resolve(tree, "a/up", true, &nid), 0);
	assert_int_equal(nid, file);
	assert_int_equal(resolve(tree, "dirlink/file", false, &nid), 0);
	assert_int_equal(nid, file);
	assert_int_equal(resolve(tree, "dirlink/", false, &nid), 0);
	assert_int_not_equal(nid, file);
	assert_int_equal(resolve(tree, "loop", true, &nid), -ELOOP);
	assert_int_equal(resolve(tree, "loop", false, &nid), 0);
	assert_int_equal(resolve(tree, "dangling", true, &nid), -ENOENT);
	assert_int_equal(resolve(tree, "a/b/file/", true, &nid), -ENOTDIR);
	assert_int_equal(resolve(tree, "a/b/file/..", true, &nid), -ENOTDIR);
	assert_int_equal(resolve(tree, "a/x/y", true, &nid), -ENOENT);
	ql_tree_close(tree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(inodes_keep_what_their_author_gave),
		cmocka_unit_test(lookup_finds_every_name_of_a_large_directory),
		cmocka_unit_test(names_may_hold_any_byte_and_255_of_them),
		cmocka_unit_test(content_is_inline_or_an_object),
		cmocka_unit_test(symlinks_keep_targets_up_to_4095_bytes),
		cmocka_unit_test(xattrs_come_back_as_given),
		cmocka_unit_test(many_xattrs_are_all_listed),
		cmocka_unit_test(
			the_folders_of_objects_are_hidden_but_not_the_images_own),
		cmocka_unit_test(whiteouts_of_the_image_are_shown_as_devices),
		cmocka_unit_test(paths_resolve_inside_the_tree),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
