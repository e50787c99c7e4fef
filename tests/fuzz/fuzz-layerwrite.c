/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fetch/layerwrite.c over archives: the first byte chooses the format.  What
 * is written as zstd:chunked must inflate to the same bytes, and what is
 * written as eStargz to the stated diff ID.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fetch/push-private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool true_)
{
	if (!true_)
		abort();
}

static void check(const struct ql_written *w, const uint8_t *tar, size_t size,
		  bool same)
{
	_cleanup_buf_ struct ql_buf out = QL_BUF_INIT(64 << 20);
	_cleanup_stream_ struct ql_stream *s = NULL;
	struct ql_stream *in = NULL;
	struct ql_digest d;
	char chunk[4096];
	ssize_t n;

	must(lseek(w->fd, 0, SEEK_SET) == 0);
	must(ql_stream_from_fd(dup(w->fd), &in, NULL) == 0);
	must(ql_decompress(in, &s, NULL) == 0);
	while ((n = ql_stream_read(s, chunk, sizeof(chunk), NULL)) > 0)
		must(ql_buf_add(&out, chunk, (size_t)n) == 0);
	must(n == 0);
	if (same)
		must(out.len == size &&
		     memcmp(ql_buf_str(&out), tar, size) == 0);
	must(ql_digest_of(ql_buf_str(&out), out.len, &d) == 0);
	must(ql_digest_equal(&d, &w->diff_id));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ql_layer_format format = {
		.level = 1, .chunk_size = 4096, .threads = 1, .tmp_dir = "/tmp"
	};
	_cleanup_stream_ struct ql_stream *in = NULL;
	struct ql_written w = { .fd = -1 };
	struct ql_digest diff_id;

	if (size == 0)
		return 0;
	format.format = data[0] & 1 ? QL_PUSH_ESTARGZ : QL_PUSH_ZSTD_CHUNKED;
	if (ql_digest_of(data + 1, size - 1, &diff_id) < 0 ||
	    ql_stream_from_mem(data + 1, size - 1, &in, NULL) < 0)
		return 0;
	if (ql_layer_write(in, &diff_id, &format, &w, NULL) == 0)
		check(&w, data + 1, size - 1,
		      format.format == QL_PUSH_ZSTD_CHUNKED);
	ql_written_release(&w);
	return 0;
}
