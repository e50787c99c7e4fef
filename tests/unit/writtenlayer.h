/* SPDX-License-Identifier: Apache-2.0 */
/* For tests: an archive with everything in it, written as a layer in each
 * format. */
#ifndef QL_TEST_WRITTENLAYER_H
#define QL_TEST_WRITTENLAYER_H

#include "tests/unit/written.h"

enum { CHUNK = 64 << 10, LARGE = 5 * CHUNK + 1234 };

static const struct ql_layer_format chunked = { .format =
							QL_PUSH_ZSTD_CHUNKED };
static const struct ql_layer_format estargz = { .format = QL_PUSH_ESTARGZ };
static const struct ql_layer_format gzip = { .format = QL_PUSH_GZIP };

/* Two pieces of zeros, and bytes that do not compress well. */
static inline char *large_file(void)
{
	char *data = malloc(LARGE);
	uint32_t x = 1;

	assert_non_null(data);
	for (size_t i = 0; i < LARGE; i++) {
		x = x * 1664525 + 1013904223;
		data[i] = i / CHUNK == 1 || i / CHUNK == 2
				  ? '\0'
				  : (char)(x >> 24 & 0x3f);
	}
	return data;
}

static inline void make_tar(struct ql_buf *tar, const char *large)
{
	tarball_dir(tar, "./", 0755);
	tarball_dir(tar, "./bin/", 01777);
	tarball_file(tar, "./bin/small", "content");
	tarball_paxs(tar, "mtime", "1700000000.25");
	tarball_add(tar, &(struct tarball_entry){ .name = "./bin/large",
						  .type = '0',
						  .data = large,
						  .len = LARGE,
						  .uid = 1000 });
	tarball_file(tar, "./bin/empty", "");
	tarball_paxs(tar, "SCHILY.xattr.user.x", "value");
	tarball_file(tar, "./bin/attr", "with an xattr");
	tarball_link(tar, '1', "./bin/hard", "./bin/large");
	tarball_link(tar, '2', "./bin/sym", "large");
	tarball_add(tar, &(struct tarball_entry){ .name = "./null",
						  .type = '3',
						  .major = 1,
						  .minor = 3 });
	tarball_extension(tar, 'L', "././@LongLink", "./a/long/name", 14);
	tarball_file(tar, "./a/l", "named longer");
	tarball_file(tar, "./last", "x");
	tarball_end(tar);
	tarball_end(tar);
}

static inline void write_or_fail(struct blob *b, const struct ql_buf *tar,
				 struct ql_layer_format format)
{
	if (blob_write(b, tar, format) < 0)
		fail_msg("%s", b->err.text);
	assert_int_equal(b->buf.len, b->w.size);
	{
		struct ql_digest d;

		assert_int_equal(ql_digest_of(b->buf.data, b->buf.len, &d), 0);
		assert_true(ql_digest_equal(&d, &b->w.digest));
	}
}

static inline void expect_tar(const struct blob *b, const struct ql_buf *tar)
{
	_cleanup_buf_ struct ql_buf out = QL_BUF_INIT(64 << 20);
	struct ql_digest d;

	blob_inflate(b, &out);
	assert_int_equal(out.len, tar->len);
	assert_memory_equal(out.data, tar->data, tar->len);
	assert_int_equal(ql_digest_of(out.data, out.len, &d), 0);
	assert_true(ql_digest_equal(&d, &b->w.diff_id));
}

static const json_t *entry_find(const json_t *toc, const char *name)
{
	const json_t *e;
	size_t i;

	json_array_foreach (json_object_get(toc, "entries"), i, e)
		if (strcmp(ql_json_opt_string(e, "name", ""), name) == 0)
			return e;
	fail_msg("no entry %s", name);
	return NULL;
}

static inline size_t number(const json_t *e, const char *key)
{
	return (size_t)json_integer_value(json_object_get(e, key));
}

#endif
