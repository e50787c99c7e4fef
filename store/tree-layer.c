/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer's tree from its file: one zstd frame (RFC 8878) of a composefs
 * image, unpacked into memory.  Nobody mounts layers, and an edge's disk is
 * small: a frame is about a quarter of the image.
 */
#include "store/store-private.h"

#include <errno.h>
#include <fcntl.h>
#include <zstd.h>

enum { LAYER_IN = 64 << 10, LAYER_OUT = 1 << 20 };
#define LAYER_TREE_MAX ((size_t)2 << 30)

static int layer_unpack(int fd, ZSTD_DCtx *zstd, char *in, struct ql_buf *out)
{
	size_t left = 1;
	ssize_t n;

	while ((n = ql_read_full(fd, in, LAYER_IN)) > 0) {
		ZSTD_inBuffer i = { in, (size_t)n, 0 };

		ZSTD_outBuffer o;

		do {
			int r = ql_buf_reserve(out, LAYER_OUT);

			if (r < 0)
				return r;
			o = (ZSTD_outBuffer){ out->data + out->len, LAYER_OUT,
					      0 };
			left = ZSTD_decompressStream(zstd, &o, &i);
			if (ZSTD_isError(left))
				return -EBADMSG;
			out->len += o.pos;
		} while (i.pos < i.size || o.pos == o.size);
	}
	if (n < 0)
		return (int)n;
	return left == 0 ? 0 : -EBADMSG;
}

int ql_tree_open_layer(const struct ql_store *store,
		       const struct ql_digest *diff_id,
		       struct ql_tree **ret_tree, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf out = QL_BUF_INIT(LAYER_TREE_MAX);
	_cleanup_free_ char *in = malloc(LAYER_IN);
	char path[QL_CFS_PATH];
	_cleanup_close_ int fd = openat(ql_store_root_fd(store),
					ql_layer_path(diff_id, path),
					O_RDONLY | O_CLOEXEC);
	ZSTD_DCtx *zstd;
	int r = -ENOMEM;

	if (fd < 0)
		return ql_error_errno(err, -errno, "%s", path);
	zstd = ZSTD_createDCtx();
	if (zstd && in)
		r = layer_unpack(fd, zstd, in, &out);
	(void)ZSTD_freeDCtx(zstd);
	if (r < 0)
		return ql_error_errno(err, r, "%s", path);
	r = ql_tree_open_own(out.data, out.len, ret_tree, err);
	if (r < 0) {
		ql_error_prefix(err, "%s", path);
		return r;
	}
	out = (struct ql_buf)QL_BUF_INIT(0);
	return 0;
}
