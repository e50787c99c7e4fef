/* SPDX-License-Identifier: Apache-2.0 */
/* Layers by their tables of contents: the tree is as the archive's would be,
 * and the table says where content lies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>

#include "tests/unit/layers.h"

enum { BLOB = 10000 };

static struct ql_digest digest(unsigned int n)
{
	struct ql_digest d;

	assert_int_equal(ql_digest_of(&n, sizeof(n), &d), 0);
	return d;
}

static struct ql_draft *draft_new(struct lab *lab)
{
	struct ql_digest blob = digest(1000);
	struct ql_draft *d = NULL;

	assert_int_equal(ql_draft_new(lab->store, &blob, BLOB, QL_CODEC_ZSTD,
				      &d, &lab->err),
			 0);
	return d;
}

static int add(struct lab *lab, struct ql_draft *d, char type, const char *path,
	       const char *link, uint64_t size, unsigned int content)
{
	struct ql_digest sum = digest(content);
	struct ql_tar_entry e = { .type = type,
				  .path = (char *)(uintptr_t)path,
				  .link = (char *)(uintptr_t)link,
				  .mode = 0644,
				  .size = size };

	return ql_draft_entry(d, &e, size ? &sum : NULL, &lab->err);
}

static int place(struct lab *lab, struct ql_draft *d, uint64_t offset,
		 uint32_t len, uint64_t blob_offset, uint64_t blob_len,
		 uint64_t inner)
{
	struct ql_place p = { .offset = offset,
			      .len = len,
			      .digest = digest(77),
			      .blob_offset = blob_offset,
			      .blob_len = blob_len,
			      .inner = inner };

	return ql_draft_place(d, &p, &lab->err);
}

static int commit(struct lab *lab, struct ql_draft *d,
		  struct ql_layer_info *info)
{
	*info = (struct ql_layer_info){ .diff_id = digest(2000) };
	return ql_draft_commit(d, info, &lab->err);
}

static void the_tree_is_as_an_archives(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_buf_ struct ql_buf out = QL_BUF_INIT(1 << 20);
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	struct ql_layer_info info, got;
	struct ql_draft *d;

	(void)state;
	lab_init(&lab);
	d = draft_new(&lab);
	assert_int_equal(add(&lab, d, '5', "./", "", 0, 0), 0);
	assert_int_equal(add(&lab, d, '5', "/etc/", "", 0, 0), 0);
	assert_int_equal(add(&lab, d, '0', "./etc/.//host", "", 5, 1), 0);
	assert_int_equal(place(&lab, d, 0, 5, 10, 20, 0), 0);
	assert_int_equal(add(&lab, d, '1', "./etc/again", "/etc/host", 0, 0),
			 0);
	assert_int_equal(add(&lab, d, '2', "etc/sym", "../x/", 0, 0), 0);
	assert_int_equal(add(&lab, d, '0', "twice", "", 0, 0), 0);
	assert_int_equal(add(&lab, d, '0', "twice", "", 7, 2), 0);
	assert_int_equal(add(&lab, d, '0', ".wh.gone", "", 0, 0), 0);
	assert_int_equal(commit(&lab, d, &info), 0);
	ql_draft_free(d);
	assert_int_equal(info.flags, QL_LAYER_LAZY);
	assert_int_equal(info.entries, 8);
	assert_int_equal(info.file_bytes, 12);
	assert_int_equal(info.blob_size, BLOB);
	assert_int_equal(ql_layer_get(lab.store, &info.diff_id, &got), 0);
	assert_int_equal(got.flags, QL_LAYER_LAZY);
	assert_int_equal(ql_tree_open_layer(lab.store, &info.diff_id, &tree,
					    &lab.err),
			 0);
	lab_print_dir(tree, ql_tree_root(tree), "", &out);
	assert_string_equal(ql_buf_str(&out), ".wh.gone (object)\n"
					      "etc/ 644\n"
					      "etc/again (object) x2\n"
					      "etc/host (object) x2\n"
					      "etc/sym -> ../x/\n"
					      "twice (object)\n");
}

static void the_table_says_where_content_is(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_(ql_toc_closep) struct ql_toc *toc = NULL;
	struct ql_digest two = digest(2), one = digest(1);
	struct ql_layer_info info;
	struct ql_toc_chunk c;
	struct ql_toc_file f;
	struct ql_toc_span s;
	struct ql_draft *d;
	uint32_t at;

	(void)state;
	lab_init(&lab);
	d = draft_new(&lab);
	/* Two files in one frame whose end is told by the next one; a file
	 * whose second half is zeros; one that is known already. */
	assert_int_equal(add(&lab, d, '0', "a", "", 100, 1), 0);
	assert_int_equal(place(&lab, d, 0, 100, 50, 0, 512), 0);
	assert_int_equal(add(&lab, d, '0', "b", "", 200, 2), 0);
	assert_int_equal(place(&lab, d, 0, 100, 50, 0, 1024), 0);
	assert_int_equal(add(&lab, d, '0', "a2", "", 100, 1), 0);
	assert_int_equal(place(&lab, d, 0, 100, 300, 0, 0), 0);
	assert_int_equal(add(&lab, d, '0', "c", "", 100, 3), 0);
	assert_int_equal(place(&lab, d, 0, 100, 400, 0, 0), 0);
	assert_int_equal(ql_draft_end(d, 450, &lab.err), 0);
	assert_int_equal(commit(&lab, d, &info), 0);
	ql_draft_free(d);
	assert_int_equal(ql_toc_open_layer(lab.store, &info, &toc, &lab.err),
			 0);
	assert_int_equal(ql_toc_check(toc, &lab.err), 0);
	assert_int_equal(ql_toc_files(toc), 3);
	assert_int_equal(ql_toc_spans(toc), 2);
	assert_int_equal(ql_toc_span(toc, 0, &s), 0);
	assert_int_equal(s.offset, 50);
	assert_int_equal(s.len, 250); /* up to a2's, though that is not used */
	assert_int_equal(s.raw_len, 1124);
	assert_int_equal(ql_toc_span(toc, 1, &s), 0);
	assert_int_equal(s.offset, 400);
	assert_int_equal(s.len, 50);
	assert_int_equal(ql_toc_find(toc, &two, &f), 0);
	assert_int_equal(f.n_chunks, 1);
	assert_int_equal(ql_toc_chunk(toc, f.first_chunk, &c), 0);
	assert_int_equal(ql_toc_span_at(toc, c.raw, &at), 0);
	assert_int_equal(at, 0);
	assert_int_equal(c.raw, 1024);
	assert_int_equal(ql_toc_find(toc, &one, &f), 0);
}

static void what_no_image_may_hold_is_refused(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_draft *d;

	(void)state;
	lab_init(&lab);
	d = draft_new(&lab);
	assert_int_equal(add(&lab, d, '0', "../up", "", 0, 0), -EINVAL);
	assert_int_equal(add(&lab, d, '0', "a/../up", "", 0, 0), -EINVAL);
	assert_int_equal(add(&lab, d, '1', "x", "../up", 0, 0), -EINVAL);
	assert_int_equal(add(&lab, d, '7', "x", "", 0, 0), -EINVAL);
	assert_int_equal(add(&lab, d, '2', "x", "", 0, 0), -EINVAL);
	assert_int_equal(add(&lab, d, '0', ".wh.x/y", "", 0, 0), -EINVAL);
	assert_int_equal(add(&lab, d, '0', "", "", 0, 0), -EINVAL);
	ql_draft_free(d);
}

static void places_that_cannot_be_are_refused(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_draft *d;

	(void)state;
	lab_init(&lab);
	d = draft_new(&lab);
	assert_int_equal(place(&lab, d, 0, 1, 0, 1, 0), -EBADMSG); /* of none */
	assert_int_equal(add(&lab, d, '5', "dir", "", 0, 0), 0);
	assert_int_equal(place(&lab, d, 0, 1, 0, 1, 0), -EBADMSG);
	assert_int_equal(add(&lab, d, '0', "a", "", 100, 1), 0);
	assert_int_equal(place(&lab, d, 0, 1, BLOB, 1, 0), -EBADMSG);
	assert_int_equal(place(&lab, d, 0, 1, BLOB - 1, 2, 0), -EBADMSG);
	assert_int_equal(place(&lab, d, 0, 1, 0, 1, UINT64_MAX), -EBADMSG);
	assert_int_equal(place(&lab, d, 0, 101, 100, 10, 0), -EBADMSG);
	assert_int_equal(place(&lab, d, 50, 10, 200, 0, 0), 0);
	assert_int_equal(place(&lab, d, 40, 10, 300, 0, 0), -EBADMSG);
	assert_int_equal(place(&lab, d, 60, 10, 250, 0, 0), -EBADMSG);
	assert_int_equal(ql_draft_end(d, BLOB + 1, &lab.err), -EBADMSG);
	ql_draft_free(d);
}

/* Its bytes are nobody's. */
static void a_whiteout_may_have_content(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_layer_info info;
	struct ql_draft *d;

	(void)state;
	lab_init(&lab);
	d = draft_new(&lab);
	assert_int_equal(add(&lab, d, '0', "d/.wh.x", "", 5, 1), 0);
	assert_int_equal(place(&lab, d, 0, 5, 10, 0, 0), 0);
	assert_int_equal(add(&lab, d, '0', ".wh..wh.plnk", "", 5, 1), 0);
	assert_int_equal(place(&lab, d, 0, 5, 20, 0, 0), 0);
	assert_int_equal(commit(&lab, d, &info), 0);
	assert_int_equal(info.file_bytes, 0);
	assert_int_equal(info.entries, 1);
	ql_draft_free(d);
}

static void nothing_is_seen_before_the_commit(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest diff_id = digest(2000);
	struct ql_layer_info info;
	struct ql_draft *d;

	(void)state;
	lab_init(&lab);
	d = draft_new(&lab);
	assert_int_equal(add(&lab, d, '0', "a", "", 100, 1), 0);
	assert_int_equal(place(&lab, d, 0, 100, 10, 0, 0), 0);
	assert_int_equal(commit(&lab, d, &info), -EBADMSG); /* left open */
	ql_draft_free(d);
	assert_int_equal(ql_layer_get(lab.store, &diff_id, &info), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_tree_is_as_an_archives),
		cmocka_unit_test(the_table_says_where_content_is),
		cmocka_unit_test(what_no_image_may_hold_is_refused),
		cmocka_unit_test(places_that_cannot_be_are_refused),
		cmocka_unit_test(a_whiteout_may_have_content),
		cmocka_unit_test(nothing_is_seen_before_the_commit),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
