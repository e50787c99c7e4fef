/* SPDX-License-Identifier: Apache-2.0 */
/*
 * checktoc TOC BLOB: a layer's table of contents (layers/<digest>.toc of a
 * store) against its blob: every span decoded by itself, every chunk and file
 * against its digest; then what the table costs, also as it would travel.
 *
 *   quicklayer pull oci:DIR
 *   cd $QUICKLAYER_ROOT/layers; for t in *.toc; do
 *	build/tests/lab/checktoc $t DIR/blobs/sha256/${t%.toc}; done
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <zstd.h>

#include "tests/unit/spans.h"

enum { TOC_MAX = 1 << 30 };

static size_t packed_size(const char *path)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(TOC_MAX);
	_cleanup_free_ char *out = NULL;
	size_t max;

	if (ql_read_file(AT_FDCWD, path, &buf, NULL) < 0)
		return 0;
	max = ZSTD_compressBound(buf.len);
	out = malloc(max);
	return out ? ZSTD_compress(out, max, buf.data, buf.len, 19) : 0;
}

static void print(const struct ql_toc *toc, const struct ql_toc_blob *blob,
		  const struct spans_stats *stats, size_t packed)
{
	struct ql_toc_span last = { 0 };
	uint32_t n = ql_toc_spans(toc);
	uint64_t raw;

	if (n > 0)
		(void)ql_toc_span(toc, n - 1, &last);
	raw = last.raw + last.raw_len;
	printf("blob %" PRIu64 " raw %" PRIu64 " files %u chunks %u spans %u "
	       "(%.2f MiB raw on average, %.2f at most; %u need no window) "
	       "windows %" PRIu64 " (%.2f %%) packed %zu (%.2f %%)\n",
	       blob->size, raw, ql_toc_files(toc), ql_toc_chunks(toc), n,
	       (double)raw / (n ? n : 1) / (1 << 20),
	       (double)stats->raw_max / (1 << 20), stats->no_window,
	       stats->windows,
	       100.0 * (double)stats->windows / (double)blob->size, packed,
	       100.0 * (double)packed / (double)blob->size);
}

int main(int argc, char **argv)
{
	struct ql_error err = QL_ERROR_INIT;
	_cleanup_spans_ struct spans_blob b = { .fd = -1 };
	struct spans_stats stats = { 0 };
	struct ql_toc_blob blob = { 0 };
	struct ql_toc *toc = NULL;
	int r;

	if (argc != 3)
		return 2;
	b.fd = open(argv[2], O_RDONLY | O_CLOEXEC);
	r = b.fd < 0 ? -errno : ql_toc_open(AT_FDCWD, argv[1], &toc, &err);
	if (r == 0)
		r = ql_toc_blob(toc, 0, &blob);
	if (r == 0)
		r = spans_check(toc, &b, 1, &stats, &err);
	if (r == 0)
		r = spans_check(toc, &b, 3, &stats, &err);
	if (r < 0)
		(void)fprintf(stderr, "%s: %d: %s\n", argv[1], r, err.text);
	else
		print(toc, &blob, &stats, packed_size(argv[1]));
	ql_toc_close(toc);
	return r < 0;
}
