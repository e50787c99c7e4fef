/* SPDX-License-Identifier: Apache-2.0 */
/* fetch/composeblob.c and layerconvert.c: archives become blobs of layers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>

#include "fetch/push-private.h"
#include "tests/unit/tarball.h"

struct source {
	struct ql_buf tar;
	unsigned int opened;
	int error; /* of opening it */
};

static int source_open(void *arg, struct ql_stream **ret_tar,
		       struct ql_error *err)
{
	struct source *s = arg;

	s->opened++;
	if (s->error < 0)
		return ql_error_set(err, s->error, "no source");
	return ql_stream_from_mem(s->tar.data, s->tar.len, ret_tar, err);
}

static void source_release(struct source *s)
{
	ql_buf_release(&s->tar);
}
#define _cleanup_source_ __attribute__((cleanup(source_release)))

/* Files of which some are of many pieces, written as ours are. */
static void source_init(struct source *s, const char *name)
{
	char zeros[QL_TAR_END] = { 0 };
	uint32_t x = 1;

	*s = (struct source){ .tar = QL_BUF_INIT(64 << 20) };
	for (unsigned int i = 0; i < 20; i++) {
		char path[300];
		struct ql_tar_entry e = { .type = '0',
					  .path = path,
					  .mode = 0644,
					  .size = 1000 + i * i * 9999ULL,
					  .mtime_nsec = i };

		(void)snprintf(path, sizeof(path), "%s-%u", name, i);
		tarball_must(ql_tar_write_entry(&e, &s->tar, NULL) == 0);
		for (uint64_t k = 0; k < e.size; k++) {
			x = x * 1664525 + 1013904223;
			tarball_bytes(&s->tar, &(char){ (char)(x >> 28) }, 1);
		}
		tarball_bytes(&s->tar, zeros, ql_tar_padding(e.size));
	}
	tarball_bytes(&s->tar, zeros, sizeof(zeros));
}

static struct ql_blob *blob_of(struct source *s, enum ql_push_format format,
			       unsigned int threads)
{
	const struct ql_push_options o = { .format = format,
					   .tmp_dir = "/tmp" };
	struct ql_error err = QL_ERROR_INIT;
	struct ql_blob *b = NULL;

	if (ql_blob_write(source_open, s, &o, threads, &b, &err) < 0)
		fail_msg("%s", err.text);
	return b;
}

/* The blob unpacks to something of its diff ID. */
static void unpacks(const struct ql_blob *b)
{
	const struct ql_blob_info *info = ql_blob_info(b);
	struct ql_stream *s = NULL;
	char chunk[4096];
	ssize_t n;

	tarball_must(
		ql_filestream_new(b->c.written.fd, 0, info->size, &s, NULL) ==
			0 &&
		ql_stream_verify(s, &info->digest, info->size, &s, NULL) == 0 &&
		ql_decompress(s, &s, NULL) == 0 &&
		ql_stream_verify(s, &info->diff_id, UINT64_MAX, &s, NULL) == 0);
	while ((n = ql_stream_read(s, chunk, sizeof(chunk), NULL)) > 0)
		;
	assert_int_equal(n, 0);
	ql_stream_free(s);
}

static void digests_do_not_depend_on_threads(void **state)
{
	_cleanup_source_ struct source s;
	struct ql_digest diff_id;

	(void)state;
	source_init(&s, "file");
	tarball_must(ql_digest_of(s.tar.data, s.tar.len, &diff_id) == 0);
	for (int f = QL_PUSH_ZSTD_CHUNKED; f <= QL_PUSH_GZIP; f++) {
		enum ql_push_format format = (enum ql_push_format)f;
		_cleanup_(ql_blob_freep) struct ql_blob *one =
			blob_of(&s, format, 1);
		_cleanup_(ql_blob_freep) struct ql_blob *three =
			blob_of(&s, format, 3);
		const struct ql_blob_info *a = ql_blob_info(one);
		const struct ql_blob_info *b = ql_blob_info(three);

		assert_true(ql_digest_equal(&a->digest, &b->digest));
		assert_true(ql_digest_equal(&a->diff_id, &b->diff_id));
		assert_int_equal(ql_digest_equal(&a->diff_id, &diff_id),
				 format != QL_PUSH_ESTARGZ);
		assert_int_equal(a->tar_size, s.tar.len);
		assert_int_equal(a->lazy, format != QL_PUSH_GZIP);
		assert_null(a->why);
		unpacks(one);
	}
	assert_int_equal(s.opened, 6);
}

static void what_has_no_table_is_written_again_without(void **state)
{
	static const char *const types[] = { "tar+zstd", "tar+gzip" };
	_cleanup_source_ struct source s;
	struct ql_digest diff_id;

	(void)state;
	source_init(&s, "\xff");
	tarball_must(ql_digest_of(s.tar.data, s.tar.len, &diff_id) == 0);
	for (int f = QL_PUSH_ZSTD_CHUNKED; f <= QL_PUSH_ESTARGZ; f++) {
		_cleanup_(ql_blob_freep) struct ql_blob *b =
			blob_of(&s, (enum ql_push_format)f, 2);
		const struct ql_blob_info *info = ql_blob_info(b);

		assert_non_null(
			strstr(ql_blob_descriptor(b).media_type, types[f]));
		assert_false(info->lazy);
		assert_non_null(strstr(info->why, "JSON cannot say"));
		assert_int_equal(info->tar_size, s.tar.len);
		assert_true(ql_digest_equal(&info->diff_id, &diff_id));
		unpacks(b);
	}
	assert_int_equal(s.opened, 4);
}

static void a_shed_blob_keeps_what_is_known(void **state)
{
	_cleanup_source_ struct source s;
	_cleanup_(ql_blob_freep) struct ql_blob *b = NULL;
	struct ql_digest digest;

	(void)state;
	source_init(&s, "file");
	b = blob_of(&s, QL_PUSH_ZSTD_CHUNKED, 1);
	digest = ql_blob_info(b)->digest;
	ql_blob_shed(b);
	ql_blob_shed(b);
	assert_int_equal(b->c.written.fd, -1);
	assert_true(ql_digest_equal(&ql_blob_info(b)->digest, &digest));
	assert_true(json_object_size(ql_blob_descriptor(b).annotations) > 0);
}

static void refused(struct source *s, struct ql_push_options o, int error,
		    const char *words)
{
	struct ql_error err = QL_ERROR_INIT;
	struct ql_blob *b = NULL;

	o.tmp_dir = "/tmp";
	assert_int_equal(ql_blob_write(source_open, s, &o, 1, &b, &err), error);
	assert_null(b);
	if (!strstr(err.text, words))
		fail_msg("\"%s\" lacks \"%s\"", err.text, words);
}

static void failures_are_told(void **state)
{
	_cleanup_source_ struct source s;

	(void)state;
	source_init(&s, "file");
	refused(&s, (struct ql_push_options){ .level = 20 }, -EINVAL, "level");
	refused(&s, (struct ql_push_options){ .chunk_size = 1 }, -EINVAL,
		"chunks");
	s.tar.data[0] ^= 1;
	refused(&s, (struct ql_push_options){ .level = 1 }, -EBADMSG,
		"not a tar header");
	s.error = -EIO;
	refused(&s, (struct ql_push_options){ .level = 1 }, -EIO, "no source");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(digests_do_not_depend_on_threads),
		cmocka_unit_test(what_has_no_table_is_written_again_without),
		cmocka_unit_test(a_shed_blob_keeps_what_is_known),
		cmocka_unit_test(failures_are_told),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
