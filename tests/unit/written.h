/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of writers: a layer written into memory, and parts of a blob
 * decoded by themselves, by zstd and zlib and not by what is tested.
 */
#ifndef QL_TEST_WRITTEN_H
#define QL_TEST_WRITTEN_H

#include <zlib.h>
#include <zstd.h>

#include "fetch/push-private.h"
#include "tests/unit/tarball.h"

struct blob {
	struct ql_written w;
	struct ql_buf buf;
	struct ql_error err;
};

static inline void blob_release(struct blob *b)
{
	ql_written_release(&b->w);
	ql_buf_release(&b->buf);
}
#define _cleanup_blob_ __attribute__((cleanup(blob_release)))

/* Writes tar as a layer; 0, or what ql_layer_write() said. */
static inline int blob_write(struct blob *b, const struct ql_buf *tar,
			     struct ql_layer_format format)
{
	_cleanup_stream_ struct ql_stream *in = NULL;
	struct ql_digest diff_id;
	int r;

	*b = (struct blob){ .w = { .fd = -1 } };
	ql_buf_init(&b->buf, 64 << 20);
	format.tmp_dir = "/tmp";
	if (format.level == 0)
		format.level = 3;
	if (format.chunk_size == 0)
		format.chunk_size = 64 << 10;
	tarball_must(ql_stream_from_mem(ql_buf_str(tar), tar->len, &in, NULL) ==
		     0);
	tarball_must(ql_digest_of(ql_buf_str(tar), tar->len, &diff_id) == 0);
	r = ql_layer_write(in, &diff_id, &format, &b->w, &b->err);
	if (r < 0)
		return r;
	tarball_must(ql_buf_reserve(&b->buf, b->w.size + 1) == 0);
	b->buf.len =
		(size_t)ql_pread_full(b->w.fd, b->buf.data, b->w.size + 1, 0);
	return 0;
}

/* Bytes [from, to) of a blob, which are frames, decoded; owned. */
static inline char *zstd_part(const struct ql_buf *blob, size_t from, size_t to,
			      size_t *ret_len)
{
	size_t room = 16 << 20;
	char *out = malloc(room);

	tarball_must(out && from <= to && to <= blob->len);
	*ret_len = ZSTD_decompress(out, room, blob->data + from, to - from);
	tarball_must(!ZSTD_isError(*ret_len));
	return out;
}

/* What one gzip member at `from` holds, at most len bytes; owned. */
static inline char *gzip_part(const struct ql_buf *blob, size_t from,
			      size_t len, size_t *ret_len)
{
	char *out = malloc(len + 1);
	z_stream z = { .next_in = (Bytef *)blob->data + from,
		       .avail_in = (uInt)(blob->len - from),
		       .next_out = (Bytef *)out,
		       .avail_out = (uInt)len };
	int r;

	tarball_must(out && from < blob->len);
	tarball_must(inflateInit2(&z, 16 + MAX_WBITS) == Z_OK);
	r = inflate(&z, Z_FINISH);
	tarball_must(r == Z_STREAM_END || r == Z_BUF_ERROR || r == Z_OK);
	*ret_len = len - z.avail_out;
	(void)inflateEnd(&z);
	return out;
}

/* The whole blob, as any engine reads it. */
static inline void blob_inflate(const struct blob *b, struct ql_buf *out)
{
	struct ql_stream *in = NULL;
	_cleanup_stream_ struct ql_stream *s = NULL;
	char chunk[4096];
	ssize_t n;

	tarball_must(ql_stream_from_mem(b->buf.data, b->buf.len, &in, NULL) ==
		     0);
	tarball_must(ql_decompress(in, &s, NULL) == 0);
	while ((n = ql_stream_read(s, chunk, sizeof(chunk), NULL)) > 0)
		tarball_must(ql_buf_add(out, chunk, (size_t)n) == 0);
	tarball_must(n == 0);
}

static inline bool digest_is(const char *text, const void *data, size_t len)
{
	char want[QL_DIGEST_TEXT + 1];
	struct ql_digest d;

	tarball_must(ql_digest_of(data, len, &d) == 0);
	return text && strcmp(text, ql_digest_text(&d, want)) == 0;
}

static inline const char *annotation(const struct blob *b, const char *key)
{
	return ql_json_opt_string(b->w.annotations, key, "");
}

#endif
