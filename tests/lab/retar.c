/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For stories: an archive (of no sparse files) from standard input, with its
 * headers written anew, to standard output.
 */
#include <stdio.h>
#include <stdlib.h>

#include "store/store.h"

static char zeros[QL_TAR_END];
static size_t padding; /* due */

static int out(const void *data, size_t len, struct ql_error *err)
{
	int r = ql_write_full(1, data, len);

	return r < 0 ? ql_error_errno(err, r, "standard output") : 0;
}

static int on_raw(void *arg, const void *data, size_t len, struct ql_error *err)
{
	(void)arg;
	(void)data;
	(void)len;
	(void)err;
	return 0;
}

static int on_entry(void *arg, const struct ql_tar_entry *e,
		    const struct ql_tar_raw *raw, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(4 << 20);
	int r = out(zeros, padding, err);

	(void)arg;
	(void)raw;
	padding = ql_tar_padding(e->size);
	if (r == 0)
		r = ql_tar_write_entry(e, &buf, err);
	return r < 0 ? r : out(buf.data, buf.len, err);
}

static int on_data(void *arg, const void *data, size_t len,
		   struct ql_error *err)
{
	(void)arg;
	return out(data, len, err);
}

int main(void)
{
	static const struct ql_tarcut_ops ops = { on_raw, on_entry, on_data };
	_cleanup_stream_ struct ql_stream *in = NULL;
	struct ql_error err = QL_ERROR_INIT;
	int r = ql_stream_from_fd(0, &in, &err);

	if (r == 0)
		r = ql_tar_cut(in, &ops, NULL, &err);
	if (r == 0)
		r = out(zeros, padding, &err);
	if (r == 0)
		r = out(zeros, sizeof(zeros), &err);
	if (r < 0)
		(void)fprintf(stderr, "retar: %s\n", err.text);
	return r < 0;
}
