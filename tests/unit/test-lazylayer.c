/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layers by their tables of contents, from blobs that podman 4.3 (zstd-chunked)
 * and stargz-snapshotter 0.12 (estargz, zstd-stargz) made of one small tree.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <stdatomic.h>

#include <isa-l/igzip_lib.h>

#include "fetch/toc-private.h"
#include "tests/unit/layers.h"

struct blob {
	struct ql_buf data;
	struct ql_descriptor d;
	unsigned int ranges;
	uint64_t bytes; /* read by ranges */
	int error;	/* of the next range */
	bool cut;	/* ranges lack their last byte */
};

static void blob_load(struct blob *b, const char *name)
{
	_cleanup_free_ char *path = ql_strf("tests/golden/toc/%s.json", name);
	_cleanup_buf_ struct ql_buf text = QL_BUF_INIT(1 << 20);
	_cleanup_json_ json_t *json = NULL;

	*b = (struct blob){ 0 };
	ql_buf_init(&b->data, 1 << 20);
	tarball_must(path && ql_read_file(AT_FDCWD, path, &text, NULL) == 0);
	tarball_must(ql_json_parse(text.data, text.len, &json, NULL) == 0);
	tarball_must(ql_descriptor_parse(json, &b->d, NULL) == 0);
	free(path);
	path = ql_strf("tests/golden/toc/%s.blob", name);
	tarball_must(path && ql_read_file(AT_FDCWD, path, &b->data, NULL) == 0);
	tarball_must(b->data.len == b->d.size);
}

static void blob_release(struct blob *b)
{
	ql_buf_release(&b->data);
	ql_descriptor_release(&b->d);
}
#define _cleanup_blob_ __attribute__((cleanup(blob_release)))

static int blob_range(void *arg, uint64_t offset, uint64_t len,
		      struct ql_buf *buf, struct ql_error *err)
{
	struct blob *b = arg;

	assert_true(offset <= b->data.len && len <= b->data.len - offset);
	if (b->error)
		return ql_error_set(err, b->error, "a range fails");
	b->ranges++;
	b->bytes += len;
	return ql_buf_add(buf, b->data.data + offset, (size_t)len - b->cut);
}

static int lazy_open_as(struct lab *lab, struct blob *b,
			const struct ql_digest *diff_id,
			struct ql_layer_info *info)
{
	lab->err = (struct ql_error)QL_ERROR_INIT;
	b->ranges = 0;
	b->bytes = 0;
	*info = (struct ql_layer_info){ .diff_id = *diff_id };
	return ql_lazylayer_open(lab->store, &b->d, blob_range, b, info,
				 &lab->err);
}

static int lazy_open(struct lab *lab, struct blob *b,
		     struct ql_layer_info *info)
{
	return lazy_open_as(lab, b, &b->d.digest, info);
}

static void tree_is(struct lab *lab, const struct ql_layer_info *info,
		    const char *want)
{
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	_cleanup_buf_ struct ql_buf out = QL_BUF_INIT(1 << 20);

	assert_int_equal(ql_tree_open_layer(lab->store, &info->diff_id, &tree,
					    &lab->err),
			 0);
	lab_print_dir(tree, ql_tree_root(tree), "", &out);
	assert_string_equal(ql_buf_str(&out), want);
}

#define TREE                                                                   \
	".wh.gone (object)\n"                                                  \
	"etc/ 755\n"                                                           \
	"etc/again (object) x2\n"                                              \
	"etc/empty (object)\n"                                                 \
	"etc/hello (object) x2\n"                                              \
	"etc/holes (object)\n"                                                 \
	"etc/link -> hello\n"                                                  \
	"null 1:3\n"
#define LANDMARK ".no.prefetch.landmark (object)\n"

static const struct sample {
	const char *name, *tree;
	uint32_t files, chunks;
	uint64_t section, footer; /* where they are in the blob */
	uint64_t read;		  /* bytes that have to be read */
} samples[] = {
	{ "zstd-chunked", TREE, 2, 3, 899, 1530, 679 },
	{ "zstd-stargz", LANDMARK TREE, 3, 3, 1107, 1727, 668 },
	{ "estargz", LANDMARK TREE "stargz.index.json (object)\n", 4, 6, 1208,
	  1961, 2012 },
};
enum { SAMPLES = sizeof(samples) / sizeof(samples[0]) };

static void real_blobs_are_read(void **state)
{
	(void)state;
	for (size_t i = 0; i < SAMPLES; i++) {
		const struct sample *s = &samples[i];
		_cleanup_(ql_toc_closep) struct ql_toc *toc = NULL;
		_cleanup_lab_ struct lab lab;
		_cleanup_blob_ struct blob b;
		struct ql_layer_info info;

		lab_init(&lab);
		blob_load(&b, s->name);
		assert_int_equal(lazy_open(&lab, &b, &info), 0);
		assert_int_equal(b.ranges, 1);
		assert_int_equal(b.bytes, s->read);
		tree_is(&lab, &info, s->tree);
		assert_int_equal(
			ql_toc_open_layer(lab.store, &info, &toc, &lab.err), 0);
		assert_int_equal(ql_toc_check(toc, &lab.err), 0);
		assert_int_equal(ql_toc_files(toc), s->files);
		assert_int_equal(ql_toc_chunks(toc), s->chunks);
	}
}

/* Of the table and of the footer; a gzip header and the tar's have bytes that
 * mean nothing, with which the tree is the same. */
static void no_flipped_byte_is_believed(void **state)
{
	(void)state;
	for (size_t i = 0; i < SAMPLES; i++) {
		const struct sample *s = &samples[i];
		_cleanup_lab_ struct lab lab;
		_cleanup_blob_ struct blob b;
		struct ql_layer_info info;
		unsigned int passed = 0;

		lab_init(&lab);
		blob_load(&b, s->name);
		for (size_t at = s->section; at < b.data.len; at++) {
			char was = b.data.data[at];

			b.data.data[at] = (char)(was ^ 0x10);
			if (lazy_open(&lab, &b, &info) == 0) {
				tree_is(&lab, &info, s->tree);
				passed++;
			} else {
				assert_true(lab.err.text[0] != '\0');
			}
			b.data.data[at] = was;
		}
		/* The times in two gzip headers, and what wrote them. */
		assert_true(passed <= 12);
	}
}

static void another_digest_is_told(void **state)
{
	(void)state;
	for (size_t i = 0; i < SAMPLES; i++) {
		_cleanup_lab_ struct lab lab;
		_cleanup_blob_ struct blob b;
		struct ql_layer_info info;

		lab_init(&lab);
		blob_load(&b, samples[i].name);
		for (size_t k = 0; k < QL_NOTES; k++)
			if (b.d.notes[k] && b.d.notes[k][0] == 's')
				b.d.notes[k][20] ^= 1;
		assert_int_equal(lazy_open(&lab, &b, &info), -EBADMSG);
		assert_non_null(strstr(lab.err.text, "digest"));
	}
}

static void a_blob_without_annotations_is_plain(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_blob_ struct blob b;
	struct ql_layer_info info;

	(void)state;
	lab_init(&lab);
	blob_load(&b, "estargz");
	free(b.d.notes[QL_NOTE_JSON_SUM]);
	b.d.notes[QL_NOTE_JSON_SUM] = NULL;
	assert_int_equal(lazy_open(&lab, &b, &info), -ENOTSUP);
	assert_int_equal(b.ranges, 0);
	assert_string_equal(lab.err.text, "");
}

static void ranges_that_fail_are_errors(void **state)
{
	(void)state;
	for (size_t i = 0; i < SAMPLES; i++) {
		_cleanup_lab_ struct lab lab;
		_cleanup_blob_ struct blob b;
		struct ql_layer_info info;

		lab_init(&lab);
		blob_load(&b, samples[i].name);
		b.error = -ECONNRESET;
		assert_int_equal(lazy_open(&lab, &b, &info), -ECONNRESET);
		assert_non_null(strstr(lab.err.text, "a range fails"));
		b.error = 0;
		b.cut = true;
		assert_int_equal(lazy_open(&lab, &b, &info), -EBADMSG);
	}
}

/* ---- a table that is larger than what is read at first ---- */

static void gzip_add(struct ql_buf *out, const struct ql_buf *in)
{
	size_t room = in->len + in->len / 8 + 1024;
	struct isal_zstream z;

	isal_deflate_stateless_init(&z);
	z.gzip_flag = IGZIP_GZIP;
	z.next_in = (uint8_t *)in->data;
	z.avail_in = (uint32_t)in->len;
	z.end_of_stream = 1;
	tarball_must(ql_buf_reserve(out, room) == 0);
	z.next_out = (uint8_t *)out->data + out->len;
	z.avail_out = (uint32_t)room;
	tarball_must(isal_deflate_stateless(&z) == COMP_OK);
	out->len += z.total_out;
}

/* n empty files whose names are hard to compress. */
static void blob_make(struct blob *b, unsigned int n)
{
	_cleanup_buf_ struct ql_buf json = QL_BUF_INIT(64 << 20);
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(64 << 20);
	char hex[QL_DIGEST_HEX + 1], text[QL_DIGEST_TEXT + 1];
	struct tarball_entry e = { .name = QL_TOC_TAR_NAME, .type = '0' };
	struct ql_digest d;
	uint64_t offset;

	*b = (struct blob){ 0 };
	ql_buf_init(&b->data, 64 << 20);
	tarball_must(ql_buf_adds(&json, "{\"version\":1,\"entries\":[") == 0);
	for (unsigned int i = 0; i < n; i++) {
		tarball_must(ql_digest_of(&i, sizeof(i), &d) == 0);
		tarball_must(ql_buf_addf(&json,
					 "%s{\"type\":\"reg\",\"name\":\"%s\"}",
					 i ? "," : "",
					 ql_digest_hex(&d, hex)) == 0);
	}
	tarball_must(ql_buf_adds(&json, "]}") == 0);
	e.data = json.data;
	e.len = json.len;
	tarball_add(&tar, &e);
	tarball_end(&tar);
	tarball_must(ql_buf_adds(&b->data, "content comes first") == 0);
	offset = b->data.len;
	gzip_add(&b->data, &tar);
	tarball_bytes(&b->data, "\x1f\x8b\x08\x04\0\0\0\0\0\xff\x1a\0SG\x16\0",
		      16);
	tarball_must(ql_buf_addf(&b->data, "%016lxSTARGZ",
				 (unsigned long)offset) == 0);
	tarball_bytes(&b->data, "\x01\0\0\xff\xff\0\0\0\0\0\0\0\0", 13);
	tarball_must(ql_digest_of(json.data, json.len, &d) == 0);
	b->d.notes[QL_NOTE_JSON_SUM] = strdup(ql_digest_text(&d, text));
	b->d.size = b->data.len;
}

static void what_is_missing_is_read_in_a_second_range(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_blob_ struct blob b;
	struct ql_layer_info info;

	(void)state;
	lab_init(&lab);
	blob_make(&b, 5000);
	assert_true(b.d.size > 150000);
	assert_int_equal(lazy_open(&lab, &b, &info), 0);
	assert_int_equal(b.ranges, 2);
	assert_int_equal(b.bytes, b.d.size - 19); /* none of it twice */
	assert_int_equal(info.entries, 5001);
	blob_release(&b);
	blob_make(&b, 100);
	assert_int_equal(lazy_open(&lab, &b, &info), 0);
	assert_int_equal(b.ranges, 1);
}

/* ---- no memory ---- */

/* A sanitizer has allocators of its own, which must not be covered up. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define HAS_ALLOC 1

static atomic_long alloc_left; /* until one fails; negative: none does */

void *__libc_malloc(size_t len);
void *__libc_calloc(size_t n, size_t len);
void *__libc_realloc(void *p, size_t len);
void *fail_malloc(size_t len) __asm__("malloc");
void *fail_calloc(size_t n, size_t len) __asm__("calloc");
void *fail_realloc(void *p, size_t len) __asm__("realloc");

static bool alloc_fails(void)
{
	return atomic_load(&alloc_left) > 0 &&
	       atomic_fetch_sub(&alloc_left, 1) == 1;
}

void *fail_malloc(size_t len)
{
	return alloc_fails() ? NULL : __libc_malloc(len);
}

void *fail_calloc(size_t n, size_t len)
{
	return alloc_fails() ? NULL : __libc_calloc(n, len);
}

void *fail_realloc(void *p, size_t len)
{
	return alloc_fails() ? NULL : __libc_realloc(p, len);
}

/* True where nothing failed: there is no Nth allocation.  That one failed may
 * be no matter (sorting needs less memory by another way). */
static bool one_failure(struct lab *lab, struct blob *b, long n)
{
	struct ql_layer_info info, got;
	struct ql_digest diff_id;
	bool fired;
	int r;

	assert_int_equal(ql_digest_of(&n, sizeof(n), &diff_id), 0);
	atomic_store(&alloc_left, n);
	r = lazy_open_as(lab, b, &diff_id, &info);
	fired = atomic_exchange(&alloc_left, -1) == 0;
	if (r < 0) {
		assert_true(fired);
		assert_int_equal(lab->err.code, r);
		assert_true(lab->err.text[0] != '\0');
	}
	ql_store_close(lab->store);
	assert_int_equal(ql_store_open(lab->root, QL_STORE_WRITE, &lab->store,
				       &lab->err),
			 0);
	assert_int_equal(ql_layer_get(lab->store, &diff_id, &got),
			 r < 0 ? -ENOENT : 0);
	return !fired;
}

static void without_memory_nothing_is_recorded(void **state)
{
	(void)state;
	for (size_t i = 0; i < SAMPLES; i++) {
		_cleanup_lab_ struct lab lab;
		_cleanup_blob_ struct blob b;
		long n = 1;

		lab_init(&lab);
		blob_load(&b, samples[i].name);
		/* Further on in steps: many are one another's like. */
		while (!one_failure(&lab, &b, n))
			n += 1 + n / 20;
		print_message("# %ld allocations\n", n - 1);
		assert_in_range(n, 50, 10000);
	}
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(real_blobs_are_read),
		cmocka_unit_test(no_flipped_byte_is_believed),
		cmocka_unit_test(another_digest_is_told),
		cmocka_unit_test(a_blob_without_annotations_is_plain),
		cmocka_unit_test(ranges_that_fail_are_errors),
		cmocka_unit_test(what_is_missing_is_read_in_a_second_range),
#ifdef HAS_ALLOC
		cmocka_unit_test(without_memory_nothing_is_recorded),
#endif
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
