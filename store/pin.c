/* SPDX-License-Identifier: Apache-2.0 */
/* What is said of an image after it was recorded: flags of its record, and
 * nothing else. */
#include "store/store-private.h"

#include <errno.h>

static int flags_set(struct ql_store *store, const struct ql_digest *manifest,
		     uint32_t clear, uint32_t set, struct ql_error *err)
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
	info.flags = (info.flags & ~clear) | set;
	r = ql_record_put_image(txn, &info, err);
	return r < 0 ? r : ql_txn_commit(ql_take_ptr(txn), err);
}

int ql_image_pin(struct ql_store *store, const struct ql_digest *manifest,
		 bool pinned, struct ql_error *err)
{
	return flags_set(store, manifest, QL_IMAGE_PINNED,
			 pinned ? QL_IMAGE_PINNED : 0, err);
}

int ql_image_set_anonymous(struct ql_store *store,
			   const struct ql_digest *manifest,
			   struct ql_error *err)
{
	_cleanup_image_info_ struct ql_image_info known = { 0 };

	/* No write, and no wait for the disk, where it is known. */
	if (ql_image_get(store, manifest, &known) == 0 &&
	    known.flags & QL_IMAGE_ANONYMOUS)
		return 0;
	return flags_set(store, manifest, 0, QL_IMAGE_ANONYMOUS, err);
}
