/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/merge.c, stack.c and layertree.c: layers go in as archives, images
 * come out as trees.  One test a rule of image-spec's layer.md.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>

#include "tests/unit/layers.h"

static struct ql_buf tar = QL_BUF_INIT(8 << 20);

static void layer(struct lab *lab)
{
	int r = lab_layer(lab, &tar);

	if (r < 0)
		fail_msg("import: %s", lab->err.text);
}

/* The image of the layers so far is this. */
static void tree_is(struct lab *lab, const char *want)
{
	_cleanup_buf_ struct ql_buf got = QL_BUF_INIT(1 << 20);

	if (lab_build(lab, "image") < 0)
		fail_msg("build: %s", lab->err.text);
	lab_print(lab, &got);
	assert_string_equal(ql_buf_str(&got), want);
}

static void build_fails(struct lab *lab, int code, const char *words)
{
	assert_int_equal(lab_build(lab, "image"), code);
	if (!strstr(lab->err.text, words))
		fail_msg("\"%s\" lacks \"%s\"", lab->err.text, words);
}

static void import_fails(struct lab *lab, int code, const char *words)
{
	assert_int_equal(lab_layer(lab, &tar), code);
	if (!strstr(lab->err.text, words))
		fail_msg("\"%s\" lacks \"%s\"", lab->err.text, words);
}

static void an_image_may_have_no_layer_or_empty_ones(void **state)
{
	_cleanup_lab_ struct lab lab;

	(void)state;
	lab_init(&lab);
	tree_is(&lab, "");
	layer(&lab);
	tree_is(&lab, "");
	tarball_file(&tar, "a", "1");
	layer(&lab);
	tree_is(&lab, "a 1\n");
	layer(&lab);
	tree_is(&lab, "a 1\n");
}

static void the_upper_layer_wins(void **state)
{
	_cleanup_lab_ struct lab lab;

	(void)state;
	lab_init(&lab);
	tarball_dir(&tar, "d", 0700);
	tarball_file(&tar, "d/a", "low");
	tarball_file(&tar, "d/b", "low");
	layer(&lab);
	tarball_dir(&tar, "d", 0711);
	tarball_file(&tar, "d/b", "high");
	tarball_file(&tar, "d/c", "high");
	layer(&lab);
	tree_is(&lab, "d/ 711\nd/a low\nd/b high\nd/c high\n");
}

/* Whatever the order in the archive: it hides nothing of its own layer. */
static void a_whiteout_hides_lower_layers_alone(void **state)
{
	_cleanup_lab_ struct lab lab;

	(void)state;
	lab_init(&lab);
	tarball_file(&tar, "before", "low");
	tarball_file(&tar, "behind", "low");
	tarball_file(&tar, "gone", "low");
	tarball_file(&tar, "dir/gone", "low");
	tarball_file(&tar, "dir/kept", "low");
	tarball_file(&tar, "tree/sub/file", "low");
	layer(&lab);
	tarball_file(&tar, ".wh.before", "");
	tarball_file(&tar, "before", "high");
	tarball_file(&tar, "behind", "high");
	tarball_file(&tar, ".wh.behind", "");
	tarball_file(&tar, ".wh.gone", "");
	tarball_file(&tar, ".wh.never-was", "");
	tarball_file(&tar, "dir/.wh.gone", "");
	tarball_file(&tar, ".wh.tree", "");
	layer(&lab);
	tree_is(&lab, "before high\nbehind high\ndir/ 755\ndir/kept low\n");
}

static void a_whiteout_and_the_folder_again_is_a_new_folder(void **state)
{
	_cleanup_lab_ struct lab lab;

	(void)state;
	lab_init(&lab);
	tarball_file(&tar, "d/old", "low");
	layer(&lab);
	tarball_file(&tar, "d/new", "high");
	tarball_file(&tar, ".wh.d", "");
	layer(&lab);
	tarball_file(&tar, "d/newer", "top");
	layer(&lab);
	tree_is(&lab, "d/ 755\nd/new high\nd/newer top\n");
}

static void an_opaque_folder_hides_what_is_below_it(void **state)
{
	_cleanup_lab_ struct lab lab;

	(void)state;
	lab_init(&lab);
	tarball_file(&tar, "d/old", "low");
	tarball_file(&tar, "d/sub/old", "low");
	tarball_file(&tar, "e/old", "low");
	layer(&lab);
	tarball_dir(&tar, "d", 0700);
	tarball_file(&tar, "d/new", "high");
	tarball_file(&tar, "d/.wh..wh..opq", "");
	/* The ancestor is opaque: below it nothing of the lower layers. */
	tarball_file(&tar, "d/sub/new", "high");
	layer(&lab);
	tarball_file(&tar, "d/sub/newer", "top");
	layer(&lab);
	tree_is(&lab, "d/ 700\nd/new high\nd/sub/ 755\nd/sub/new high\n"
		      "d/sub/newer top\ne/ 755\ne/old low\n");
}

static void an_opaque_root_hides_everything(void **state)
{
	_cleanup_lab_ struct lab lab;

	(void)state;
	lab_init(&lab);
	tarball_file(&tar, "old", "low");
	layer(&lab);
	tarball_file(&tar, ".wh..wh..opq", "");
	tarball_file(&tar, "new", "high");
	layer(&lab);
	tree_is(&lab, "new high\n");
}

static void aufs_own_names_are_passed_over(void **state)
{
	_cleanup_lab_ struct lab lab;

	(void)state;
	lab_init(&lab);
	tarball_file(&tar, ".wh..wh.aufs", "");
	tarball_dir(&tar, ".wh..wh.plnk", 0700);
	tarball_file(&tar, "a", "1");
	layer(&lab);
	tree_is(&lab, "a 1\n");
}

static void folders_and_others_replace_each_other(void **state)
{
	_cleanup_lab_ struct lab lab;

	(void)state;
	lab_init(&lab);
	tarball_file(&tar, "dir-to-file/x", "low");
	tarball_file(&tar, "dir-to-link/x", "low");
	tarball_file(&tar, "file-to-dir", "low");
	tarball_link(&tar, '2', "link-to-dir", "dir-to-file");
	layer(&lab);
	tarball_file(&tar, "dir-to-file", "high");
	tarball_link(&tar, '2', "dir-to-link", "file-to-dir");
	tarball_file(&tar, "file-to-dir/x", "high");
	tarball_dir(&tar, "link-to-dir", 0700);
	layer(&lab);
	tree_is(&lab, "dir-to-file high\ndir-to-link -> file-to-dir\n"
		      "file-to-dir/ 755\nfile-to-dir/x high\n"
		      "link-to-dir/ 700\n");
	/* What was hidden once does not come back. */
	tarball_file(&tar, "dir-to-file/y", "top");
	layer(&lab);
	tree_is(&lab, "dir-to-file/ 755\ndir-to-file/y top\n"
		      "dir-to-link -> file-to-dir\n"
		      "file-to-dir/ 755\nfile-to-dir/x high\n"
		      "link-to-dir/ 700\n");
}

static void an_implicit_parent_keeps_attributes(void **state)
{
	_cleanup_lab_ struct lab lab;

	(void)state;
	lab_init(&lab);
	tarball_dir(&tar, "d", 01777);
	layer(&lab);
	tarball_file(&tar, "d/file", "1");
	tarball_file(&tar, "late/file", "1");
	tarball_dir(&tar, "late", 0700); /* its entry comes behind */
	layer(&lab);
	tree_is(&lab, "d/ 1777\nd/file 1\nlate/ 700\nlate/file 1\n");
}

static void of_double_entries_the_last_counts(void **state)
{
	_cleanup_lab_ struct lab lab;

	(void)state;
	lab_init(&lab);
	tarball_file(&tar, "a", "first");
	tarball_file(&tar, "a", "second");
	tarball_dir(&tar, "d", 0700);
	tarball_file(&tar, "d/x", "kept");
	tarball_dir(&tar, "d", 0711);
	tarball_file(&tar, "f/x", "gone");
	tarball_file(&tar, "f", "file");
	layer(&lab);
	tree_is(&lab, "a second\nd/ 711\nd/x kept\nf file\n");
}

/* ---- hardlinks ---- */

static void hardlinks_within_a_layer(void **state)
{
	_cleanup_lab_ struct lab lab;

	(void)state;
	lab_init(&lab);
	tarball_file(&tar, "a", "1");
	tarball_link(&tar, '1', "b", "a");
	tarball_link(&tar, '1', "c", "b");
	tarball_link(&tar, '2', "sym", "a");
	tarball_link(&tar, '1', "sym2", "sym");
	tarball_file(&tar, "a", "2"); /* replaced afterwards */
	layer(&lab);
	tree_is(&lab, "a 2\nb 1 x2\nc 1 x2\nsym -> a x2\nsym2 -> a x2\n");
}

static void hardlinks_into_lower_layers(void **state)
{
	_cleanup_lab_ struct lab lab;

	(void)state;
	lab_init(&lab);
	tarball_file(&tar, "dir/a", "1");
	tarball_link(&tar, '2', "sym", "dir");
	tarball_add(&tar, &(struct tarball_entry){ .name = "dev",
						   .type = '3',
						   .major = 1,
						   .minor = 3 });
	layer(&lab);
	tarball_link(&tar, '1', "b", "dir/a");
	tarball_link(&tar, '1', "sym2", "sym");
	tarball_link(&tar, '1', "dev2", "dev");
	layer(&lab);
	/* A chain, and a name that goes while the inode stays. */
	tarball_link(&tar, '1', "c", "b");
	tarball_file(&tar, "dir/.wh.a", "");
	layer(&lab);
	tree_is(&lab, "b 1 x2\nc 1 x2\ndev 1:3 x2\ndev2 1:3 x2\ndir/ 755\n"
		      "sym -> dir x2\nsym2 -> dir x2\n");
}

/* A link made while its target is replaced in the same layer. */
static void a_link_to_what_its_own_layer_replaces(void **state)
{
	_cleanup_lab_ struct lab lab;

	(void)state;
	lab_init(&lab);
	tarball_file(&tar, "a", "low");
	layer(&lab);
	tarball_link(&tar, '1', "b", "a");
	tarball_file(&tar, "a", "high");
	layer(&lab);
	tree_is(&lab, "a high\nb low\n");
}

static void a_link_to_nothing_is_an_error(void **state)
{
	_cleanup_lab_ struct lab lab;

	(void)state;
	lab_init(&lab);
	tarball_file(&tar, "d/gone", "1");
	layer(&lab);
	tarball_file(&tar, "d/.wh.gone", "");
	layer(&lab);
	tarball_link(&tar, '1', "b", "d/gone");
	layer(&lab);
	build_fails(&lab, -ENOENT, "a hardlink to d/gone");
	lab_restart(&lab);
	tarball_link(&tar, '1', "lowest", "nothing");
	layer(&lab);
	build_fails(&lab, -ENOENT, "a hardlink to nothing");
	lab_restart(&lab);
	tarball_dir(&tar, "d", 0755);
	layer(&lab);
	tarball_link(&tar, '1', "b", "d");
	layer(&lab);
	build_fails(&lab, -ENOENT, "a hardlink to d, which is no file");
	tarball_dir(&tar, "d", 0755);
	tarball_link(&tar, '1', "b", "d");
	import_fails(&lab, -EPERM, "a hardlink to or from a folder");
	tarball_link(&tar, '1', "b", "/");
	import_fails(&lab, -EPERM, "a hardlink to or from a folder");
}

/* ---- what may not be ---- */

static void nothing_is_written_through_a_symlink(void **state)
{
	_cleanup_lab_ struct lab lab;

	(void)state;
	lab_init(&lab);
	tarball_link(&tar, '2', "link", "/etc");
	tarball_file(&tar, "link/passwd", "root");
	import_fails(&lab, -ELOOP, "through the symlink link");
	tarball_file(&tar, "file", "");
	tarball_file(&tar, "file/passwd", "root");
	import_fails(&lab, -ENOTDIR, "file above it is no folder");
	tarball_link(&tar, '2', "link", "/etc");
	layer(&lab);
	tarball_file(&tar, "link/passwd", "root");
	layer(&lab);
	build_fails(&lab, -ELOOP, "through a symlink of a lower layer");
}

static void odd_entries_are_refused(void **state)
{
	_cleanup_lab_ struct lab lab;

	(void)state;
	lab_init(&lab);
	tarball_file(&tar, ".wh.", "");
	import_fails(&lab, -EINVAL, "a whiteout of nothing");
	tarball_file(&tar, "d/.wh...", "");
	import_fails(&lab, -EINVAL, "a whiteout of nothing");
	tarball_file(&tar, ".wh.d/file", "");
	import_fails(&lab, -EINVAL, "below a whiteout");
	tarball_file(&tar, "a/.wh.d/file", "");
	import_fails(&lab, -EINVAL, "below a whiteout");
	tarball_file(&tar, ".", "the root as a file");
	import_fails(&lab, -EINVAL, "the root is no folder");
	tarball_link(&tar, '2', "link", "");
	import_fails(&lab, -EINVAL, "a symlink's target of 0 bytes");
	tarball_add(&tar, &(struct tarball_entry){
				  .name = "dev", .type = '3', .major = 4096 });
	import_fails(&lab, -EINVAL, "no device has number 4096:0");
	tarball_paxs(&tar, "SCHILY.xattr.trusted.quicklayer.link",
		     "etc/shadow");
	tarball_file(&tar, "a", "");
	import_fails(&lab, -EINVAL, "this prefix is reserved");
}

static int release(void **state)
{
	(void)state;
	ql_buf_release(&tar);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_image_may_have_no_layer_or_empty_ones),
		cmocka_unit_test(the_upper_layer_wins),
		cmocka_unit_test(a_whiteout_hides_lower_layers_alone),
		cmocka_unit_test(
			a_whiteout_and_the_folder_again_is_a_new_folder),
		cmocka_unit_test(an_opaque_folder_hides_what_is_below_it),
		cmocka_unit_test(an_opaque_root_hides_everything),
		cmocka_unit_test(aufs_own_names_are_passed_over),
		cmocka_unit_test(folders_and_others_replace_each_other),
		cmocka_unit_test(an_implicit_parent_keeps_attributes),
		cmocka_unit_test(of_double_entries_the_last_counts),
		cmocka_unit_test(hardlinks_within_a_layer),
		cmocka_unit_test(hardlinks_into_lower_layers),
		cmocka_unit_test(a_link_to_what_its_own_layer_replaces),
		cmocka_unit_test(a_link_to_nothing_is_an_error),
		cmocka_unit_test(nothing_is_written_through_a_symlink),
		cmocka_unit_test(odd_entries_are_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, release);
}
