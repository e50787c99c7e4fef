/* SPDX-License-Identifier: Apache-2.0 */
/* Pins: a flag in an image's record, and nothing else. */
#include "store/store-private.h"

#include <errno.h>

int ql_image_pin(struct ql_store *store, const struct ql_digest *manifest,
		 bool pinned, struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	int r = ql_store_need_write(store, err);

	if (r == 0)
		r = ql_txn_begin(store->catalog, true, &txn, err);
	if (r < 0)
		return r;
	r = ql_record_get_image(txn, manifest, &info);
	if (r == -ENOENT)
		return ql_error_set(err, r, "no such image");
	if (r < 0)
		return ql_error_errno(err, r, "the image's record");
	info.flags &= ~(uint32_t)QL_IMAGE_PINNED;
	if (pinned)
		info.flags |= QL_IMAGE_PINNED;
	r = ql_record_put_image(txn, &info, err);
	return r < 0 ? r : ql_txn_commit(ql_take_ptr(txn), err);
}
