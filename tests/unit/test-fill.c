/* SPDX-License-Identifier: Apache-2.0 */
/* Filling files from blobs in an OCI folder: what is read, what is fetched. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "tests/unit/fill.h"

static const struct ql_fill_options slowly = { .read_timeout = 20000000000ULL };

static const struct {
	const char *name;
	size_t len;
} files[] = {
	{ "tiny", 10 },	       { "small", 100 },  { "page", 4096 },
	{ "chunk", 64 << 10 }, { "more", 70000 }, { "large", 3000000 },
};

static const char trace[] = "quicklayer-trace 1\n"
			    "0 0 /small\n"
			    "131072 4096 /large\n"
			    "0 0 /gone\n"
			    "8192 100 /large\n";

static void make(struct fill_lab *lab, const char *text)
{
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(FILL_BLOB_MAX);

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		fill_add(&tar, files[i].name, files[i].len,
			 (unsigned int)i + 3);
	fill_add(&tar, "zeros", 100000, 0);
	fill_lab_init(lab, &tar, text);
}

/* The image in the second store, ready to be read. */
struct opened {
	struct ql_filler *filler;
	struct ql_fill_image *image;
	struct ql_tree *tree;
};

static void open_image(struct fill_lab *lab, struct opened *o,
		       const struct ql_fill_options *options)
{
	assert_int_equal(ql_filler_new(lab->to.store, options, &o->filler,
				       &lab->to.err),
			 0);
	assert_int_equal(ql_fill_image_open(o->filler, &lab->info, &o->image,
					    &lab->to.err),
			 0);
	assert_int_equal(ql_tree_open_image(lab->to.store, &lab->info.manifest,
					    &o->tree, &lab->to.err),
			 0);
}

static void close_image(struct opened *o)
{
	ql_tree_close(o->tree);
	ql_fill_image_close(o->image);
	ql_filler_free(o->filler);
}

static void object_of(const struct opened *o, const char *path,
		      struct ql_content *ret)
{
	struct ql_inode inode;

	assert_int_equal(ql_tree_resolve(o->tree, path, true, &inode, NULL), 0);
	assert_int_equal(ql_tree_content(o->tree, &inode, ret), 0);
}

static void check_bytes(const struct opened *o, struct ql_fill_file *file,
			size_t i, uint64_t offset, size_t len)
{
	_cleanup_free_ char *want = malloc(files[i].len);
	_cleanup_free_ char *have = malloc(len);

	fill_content(want, files[i].len, (unsigned int)i + 3);
	assert_int_equal(ql_pread_full(ql_fill_fd(o->filler, file), have, len,
				       offset),
			 (ssize_t)len);
	assert_memory_equal(have, want + offset, len);
}

static void every_file_is_filled(void **state)
{
	struct fill_lab lab;
	struct opened o;

	(void)state;
	make(&lab, trace);
	open_image(&lab, &o, &slowly);
	for (size_t i = 1; i < sizeof(files) / sizeof(files[0]); i++) {
		struct ql_fill_file *file;
		struct ql_content c;

		object_of(&o, files[i].name, &c);
		assert_false(ql_object_here(lab.to.store, &c.object));
		assert_int_equal(ql_fill_open(o.image, &c.object, &file,
					      &lab.to.err),
				 0);
		assert_int_equal(fill_read(o.filler, file, 0, files[i].len), 0);
		check_bytes(&o, file, i, 0, files[i].len);
		ql_fill_close(o.filler, file);
		assert_int_equal(ql_fill_flush(o.filler, &lab.to.err), 0);
		assert_true(ql_object_here(lab.to.store, &c.object));
		assert_int_equal(ql_fill_open(o.image, &c.object, &file, NULL),
				 -EEXIST);
	}
	close_image(&o);
	fill_lab_release(&lab);
}

static void a_part_fetches_a_part(void **state)
{
	uint64_t there;
	struct fill_lab lab;
	struct ql_fill_stats stats;
	struct ql_fill_file *file;
	struct ql_content c;
	struct opened o;

	(void)state;
	make(&lab, NULL);
	open_image(&lab, &o, &slowly);
	object_of(&o, "large", &c);
	assert_int_equal(ql_fill_open(o.image, &c.object, &file, NULL), 0);
	assert_int_equal(fill_read(o.filler, file, 200000, 10), 0);
	check_bytes(&o, file, 5, 200000, 10);
	ql_filler_stats(o.filler, &stats);
	assert_in_range(stats.chunks, 1, 2);
	assert_int_equal(stats.requests, 1);
	there = stats.chunk_bytes;
	ql_fill_close(o.filler, file);
	close_image(&o);
	/* What was there is there after a restart, and is not fetched again. */
	open_image(&lab, &o, &slowly);
	assert_int_equal(ql_partial_bytes(lab.to.store, &c.object), there);
	assert_int_equal(ql_fill_open(o.image, &c.object, &file, NULL), 0);
	assert_int_equal(fill_read(o.filler, file, 200000, 10), 0);
	ql_filler_stats(o.filler, &stats);
	assert_int_equal(stats.requests, 0);
	ql_fill_close(o.filler, file);
	close_image(&o);
	fill_lab_release(&lab);
}

static void a_start_s_parts_come_from_its_blob(void **state)
{
	struct fill_lab lab;
	struct ql_fill_stats stats;
	struct ql_fill_file *file;
	struct ql_content c;
	struct opened o;

	(void)state;
	make(&lab, trace);
	open_image(&lab, &o, &slowly);
	object_of(&o, "large", &c);
	assert_int_equal(ql_fill_open(o.image, &c.object, &file, NULL), 0);
	/* The page of the trace, of which there is no chunk elsewhere. */
	assert_int_equal(fill_read(o.filler, file, 8192, 4096), 0);
	check_bytes(&o, file, 5, 8192, 4096);
	ql_filler_stats(o.filler, &stats);
	/* The frame has the other parts of the trace too. */
	assert_int_equal(stats.requests, 1);
	assert_int_equal(stats.chunk_bytes, 100 + 4096 + 4096);
	assert_int_equal(fill_read(o.filler, file, 131072, 4096), 0);
	ql_filler_stats(o.filler, &stats);
	assert_int_equal(stats.requests, 1);
	/* A byte beside it comes from the layer's blob. */
	assert_int_equal(fill_read(o.filler, file, 8191, 2), 0);
	check_bytes(&o, file, 5, 8191, 2);
	ql_filler_stats(o.filler, &stats);
	assert_int_equal(stats.requests, 2);
	assert_int_equal(fill_read(o.filler, file, 0, files[5].len), 0);
	check_bytes(&o, file, 5, 0, files[5].len);
	ql_fill_close(o.filler, file);
	close_image(&o);
	fill_lab_release(&lab);
}

/* ---- many readers ---- */

struct reader {
	struct opened *o;
	struct ql_fill_file *file;
	pthread_t thread;
	int result;
};

static void *reader_main(void *arg)
{
	struct reader *r = arg;

	for (uint64_t at = 0; at < files[5].len && r->result == 0; at += 4096)
		r->result = fill_read(r->o->filler, r->file, at, 4096);
	return NULL;
}

static void many_readers_fetch_each_byte_once(void **state)
{
	struct reader readers[16];
	struct fill_lab lab;
	struct ql_fill_stats stats;
	struct ql_content c;
	struct opened o;

	(void)state;
	make(&lab, NULL);
	open_image(&lab, &o, &slowly);
	object_of(&o, "large", &c);
	for (int i = 0; i < 16; i++) {
		readers[i] = (struct reader){ .o = &o };
		assert_int_equal(ql_fill_open(o.image, &c.object,
					      &readers[i].file, NULL),
				 0);
	}
	for (int i = 0; i < 16; i++)
		assert_int_equal(pthread_create(&readers[i].thread, NULL,
						reader_main, &readers[i]),
				 0);
	for (int i = 0; i < 16; i++) {
		(void)pthread_join(readers[i].thread, NULL);
		assert_int_equal(readers[i].result, 0);
		check_bytes(&o, readers[i].file, 5, 0, files[5].len);
		ql_fill_close(o.filler, readers[i].file);
	}
	ql_filler_stats(o.filler, &stats);
	/* Others that stand beside it may have come along. */
	assert_in_range(stats.chunk_bytes, files[5].len, files[5].len + 200000);
	assert_in_range(stats.requests, 1, files[5].len / FILL_CHUNK + 1);
	close_image(&o);
	fill_lab_release(&lab);
}

/* ---- the rest ---- */

static void the_rest_comes_in_the_background(void **state)
{
	struct ql_content zeros;
	struct ql_fill_options options = slowly;
	struct fill_lab lab;
	struct opened o;

	(void)state;
	options.background_rate = UINT64_MAX;
	make(&lab, trace);
	open_image(&lab, &o, &options);
	ql_fill_image_rest(o.image);
	assert_true(ql_fill_image_here(o.image, 20000000000ULL));
	assert_int_equal(ql_fill_flush(o.filler, &lab.to.err), 0);
	object_of(&o, "zeros", &zeros);
	assert_true(ql_object_here(lab.to.store, &zeros.object));
	for (size_t i = 1; i < sizeof(files) / sizeof(files[0]); i++) {
		struct ql_content c;

		object_of(&o, files[i].name, &c);
		assert_true(ql_object_here(lab.to.store, &c.object));
	}
	close_image(&o);
	fill_lab_release(&lab);
}

/* ---- what is whole ---- */

static bool is_needed(struct fill_lab *lab)
{
	_cleanup_image_info_ struct ql_image_info info = { 0 };

	assert_int_equal(
		ql_image_get(lab->to.store, &lab->info.manifest, &info), 0);
	return ql_fill_needed(lab->to.store, &info);
}

static void an_image_that_is_whole_needs_no_filler(void **state)
{
	struct ql_fill_options options = slowly;
	struct fill_lab lab;
	struct ql_content c;
	struct opened o;
	bool whole = true;

	(void)state;
	options.background_rate = UINT64_MAX;
	make(&lab, trace);
	assert_true(is_needed(&lab));
	assert_int_equal(ql_image_mark_whole(lab.to.store, &lab.info.manifest,
					     &whole, &lab.to.err),
			 0);
	assert_false(whole);
	assert_true(is_needed(&lab));
	open_image(&lab, &o, &options);
	ql_fill_image_rest(o.image);
	assert_true(ql_fill_image_here(o.image, 20000000000ULL));
	assert_int_equal(ql_fill_flush(o.filler, &lab.to.err), 0);
	assert_false(is_needed(&lab));
	object_of(&o, "large", &c);
	close_image(&o);
	/* Some goes: it is needed again. */
	assert_int_equal(ql_objects_set_aside(lab.to.store, &c.object, 1, NULL,
					      &lab.to.err),
			 0);
	assert_false(ql_object_here(lab.to.store, &c.object));
	assert_true(ql_object_here(lab.to.store, &lab.info.config));
	assert_true(is_needed(&lab));
	open_image(&lab, &o, &options);
	ql_fill_image_rest(o.image);
	assert_true(ql_fill_image_here(o.image, 20000000000ULL));
	assert_int_equal(ql_fill_flush(o.filler, &lab.to.err), 0);
	assert_true(ql_object_here(lab.to.store, &c.object));
	assert_false(is_needed(&lab));
	close_image(&o);
	fill_lab_release(&lab);
}

/* ---- what goes wrong ---- */

static void flip(const struct fill_lab *lab, const struct ql_digest *blob,
		 off_t at)
{
	char hex[QL_DIGEST_HEX + 1];
	_cleanup_free_ char *path = ql_strf("%s/blobs/sha256/%s", lab->oci,
					    ql_digest_hex(blob, hex));
	_cleanup_close_ int fd = open(path, O_RDWR);
	char c;

	assert_int_equal(pread(fd, &c, 1, at), 1);
	c ^= 1;
	assert_int_equal(pwrite(fd, &c, 1, at), 1);
}

/* Where an object's last frame ends. */
static void last_byte(const struct fill_lab *lab,
		      const struct ql_digest *object,
		      struct ql_toc_blob *ret_blob, off_t *ret_at)
{
	struct ql_toc_chunk chunk;
	struct ql_toc_span span;
	struct ql_toc_file file;
	struct ql_toc *toc;
	uint32_t at;

	assert_int_equal(
		ql_toc_open_mem(lab->toc.data, lab->toc.len, &toc, NULL), 0);
	assert_int_equal(ql_toc_blob(toc, 0, ret_blob), 0);
	assert_int_equal(ql_toc_find(toc, object, &file), 0);
	assert_int_equal(ql_toc_chunk(toc, file.first_chunk + file.n_chunks - 1,
				      &chunk),
			 0);
	assert_int_equal(ql_toc_span_at(toc, chunk.raw, &at), 0);
	assert_int_equal(ql_toc_span(toc, at, &span), 0);
	*ret_at = (off_t)(span.offset + span.len - 5);
	ql_toc_close(toc);
}

static void wrong_bytes_are_never_given(void **state)
{
	struct ql_fill_options options = { .read_timeout = 500000000 };
	struct fill_lab lab;
	struct ql_fill_stats stats;
	struct ql_fill_file *file;
	struct ql_toc_blob blob;
	struct ql_content c;
	struct opened o;
	off_t at;

	(void)state;
	make(&lab, NULL);
	open_image(&lab, &o, &options);
	object_of(&o, "large", &c);
	last_byte(&lab, &c.object, &blob, &at);
	assert_int_equal(ql_fill_open(o.image, &c.object, &file, NULL), 0);
	flip(&lab, &blob.digest, at);
	assert_int_equal(fill_read(o.filler, file, files[5].len - 10, 10),
			 -ETIMEDOUT);
	ql_filler_stats(o.filler, &stats);
	assert_true(stats.failures > 1); /* it was tried again */
	assert_int_equal(stats.timeouts, 1);
	/* Another part is not concerned. */
	assert_int_equal(fill_read(o.filler, file, 0, 10), 0);
	/* And it recovers. */
	flip(&lab, &blob.digest, at);
	assert_int_equal(fill_read(o.filler, file, 0, files[5].len), 0);
	check_bytes(&o, file, 5, 0, files[5].len);
	ql_fill_close(o.filler, file);
	close_image(&o);
	fill_lab_release(&lab);
}

static void a_wait_can_be_hurried(void **state)
{
	struct fill_wait wait = {
		.w = { .offset = 0, .len = 1, .done = fill_done },
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.done = PTHREAD_COND_INITIALIZER,
	};
	struct fill_lab lab;
	struct ql_fill_file *file;
	struct ql_content c;
	struct opened o;
	_cleanup_free_ char *away = NULL;
	uint64_t start;

	(void)state;
	make(&lab, NULL);
	away = ql_strf("%s.away", lab.oci);
	assert_int_equal(rename(lab.oci, away), 0); /* nothing is to be had */
	open_image(&lab, &o, &slowly);
	object_of(&o, "chunk", &c);
	assert_int_equal(ql_fill_open(o.image, &c.object, &file, NULL), 0);
	start = ql_now_ns();
	assert_int_equal(ql_fill_wait(o.filler, file, &wait.w), -EINPROGRESS);
	ql_fill_hurry(o.filler, &wait.w, -EINTR);
	(void)pthread_mutex_lock(&wait.lock);
	while (!wait.is_done)
		(void)pthread_cond_wait(&wait.done, &wait.lock);
	(void)pthread_mutex_unlock(&wait.lock);
	assert_int_equal(wait.error, -EINTR);
	assert_true(ql_now_ns() - start < 5000000000ULL);
	/* It comes once it is to be had again. */
	assert_int_equal(rename(away, lab.oci), 0);
	assert_int_equal(fill_read(o.filler, file, 0, 100), 0);
	ql_fill_close(o.filler, file);
	close_image(&o);
	fill_lab_release(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_file_is_filled),
		cmocka_unit_test(a_part_fetches_a_part),
		cmocka_unit_test(a_start_s_parts_come_from_its_blob),
		cmocka_unit_test(many_readers_fetch_each_byte_once),
		cmocka_unit_test(the_rest_comes_in_the_background),
		cmocka_unit_test(an_image_that_is_whole_needs_no_filler),
		cmocka_unit_test(wrong_bytes_are_never_given),
		cmocka_unit_test(a_wait_can_be_hurried),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
