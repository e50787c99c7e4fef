/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where blobs are to be had: for each, the names of the repositories that are
 * known to have it, newest first, each ended by a NUL.
 */
#include "store/store-private.h"

#include <errno.h>
#include <string.h>

enum { BLOB_SOURCES_MAX = 4, BLOB_RECORD_MAX = 4096 };

/* The value with name in front of what others it has. */
static int sources_merge(const char *old, size_t len, const char *name,
			 struct ql_buf *buf)
{
	size_t n = 1;
	int r = ql_buf_add(buf, name, strlen(name) + 1);

	while (r == 0 && len > 0 && n < BLOB_SOURCES_MAX) {
		size_t one = strnlen(old, len);

		if (one == len)
			break; /* not ended: damaged, and left out */
		if (strcmp(old, name) != 0) {
			r = ql_buf_add(buf, old, one + 1);
			n++;
		}
		old += one + 1;
		len -= one + 1;
	}
	return r == -EFBIG && n > 1 ? 0 : r;
}

static int source_add(struct ql_txn *txn, const struct ql_digest *blob,
		      const char *name, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(BLOB_RECORD_MAX);
	const void *old = NULL;
	size_t len = 0;
	int r = ql_txn_get(txn, QL_TABLE_BLOBS, blob->bytes, QL_DIGEST_BYTES,
			   &old, &len);

	if (r < 0 && r != -ENOENT)
		return ql_error_errno(err, r, "catalogue: a blob's sources");
	r = sources_merge(old, r == 0 ? len : 0, name, &buf);
	if (r < 0)
		return ql_error_errno(err, r, "catalogue: a blob's sources");
	return ql_txn_put(txn, QL_TABLE_BLOBS, blob->bytes, QL_DIGEST_BYTES,
			  buf.data, buf.len, err);
}

int ql_blob_sources_add(struct ql_store *store, const struct ql_digest *blobs,
			size_t n, const char *repository, struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	int r = ql_store_need_write(store, err);

	if (r == 0)
		r = ql_txn_begin(store->catalog, true, &txn, err);
	for (size_t i = 0; i < n && r == 0; i++)
		r = source_add(txn, &blobs[i], repository, err);
	return r < 0 ? r : ql_txn_commit(ql_take_ptr(txn), err);
}

int ql_blob_sources(struct ql_store *store, const struct ql_digest *blob,
		    struct ql_buf *buf)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	const void *value = NULL;
	size_t len = 0;
	int r = ql_txn_begin(store->catalog, false, &txn, NULL);

	if (r == 0)
		r = ql_txn_get(txn, QL_TABLE_BLOBS, blob->bytes,
			       QL_DIGEST_BYTES, &value, &len);
	if (r == 0 && (len == 0 || ((const char *)value)[len - 1] != 0))
		r = -EBADMSG;
	return r < 0 ? r : ql_buf_add(buf, value, len);
}
