/* SPDX-License-Identifier: Apache-2.0 */
/* What is on this node: of one image, and in all. */
#include "store/store-private.h"

#include <errno.h>

int ql_image_usage(struct ql_store *store, const struct ql_image_info *info,
		   struct ql_image_use *ret_use, struct ql_error *err)
{
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	_cleanup_(ql_object_set_release) struct ql_object_set set = { 0 };
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	struct ql_image_use use = { 0 };
	int r = ql_tree_open_image(store, &info->manifest, &tree, err);

	if (r == 0)
		r = ql_object_set_from_tree(tree, &set, err);
	if (r == 0)
		r = ql_txn_begin(store->catalog, false, &txn, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < set.n; i++) {
		const struct ql_object_use *o = &set.items[i];
		struct ql_object_record rec = { 0 };

		use.files++;
		use.bytes += o->size;
		if (ql_object_exists(store, &o->digest)) {
			use.files_here++;
			use.bytes_here += o->size;
		} else {
			uint64_t n = ql_partial_bytes(store, &o->digest);

			use.files_partly += n > 0;
			use.bytes_partly += n;
		}
		if (ql_record_get_object(txn, &o->digest, &rec) == 0 &&
		    rec.refs > 1) {
			use.files_shared++;
			use.bytes_shared += o->size;
		}
	}
	*ret_use = use;
	return 0;
}

static int usage_count(const void *key, size_t key_len, const void *value,
		       size_t len, void *arg)
{
	(void)key;
	(void)key_len;
	(void)value;
	(void)len;
	++*(uint64_t *)arg;
	return 0;
}

static int usage_object(const void *key, size_t key_len, const void *value,
			size_t len, void *arg)
{
	struct ql_store_use *use = arg;
	struct ql_object_record rec;

	(void)key;
	(void)key_len;
	use->objects++;
	if (ql_record_parse_object(value, len, &rec) == 0)
		use->bytes += rec.size;
	return 0;
}

int ql_store_usage(struct ql_store *store, struct ql_store_use *ret_use,
		   struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	struct ql_store_use use = { 0 };
	int r = ql_txn_begin(store->catalog, false, &txn, err);

	if (r == 0)
		r = ql_txn_each(txn, QL_TABLE_IMAGES, usage_count, &use.images,
				err);
	if (r == 0)
		r = ql_txn_each(txn, QL_TABLE_LAYERS, usage_count, &use.layers,
				err);
	if (r == 0)
		r = ql_txn_each(txn, QL_TABLE_OBJECTS, usage_object, &use, err);
	if (r == 0)
		*ret_use = use;
	return r;
}
