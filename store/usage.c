/* SPDX-License-Identifier: Apache-2.0 */
/* What is on this node: of one image, and in all. */
#include "store/store-private.h"

#include <errno.h>

/* ---- one image ---- */

/* A table of the image's, and what is packed of its blobs. */
struct usage_table {
	struct ql_toc *toc;	     /* owned */
	struct ql_packed_view *view; /* owned */
};

struct usage {
	struct ql_store *store;
	struct ql_txn *txn;	    /* borrowed */
	struct usage_table *tables; /* owned; those of which something is
				     * packed */
	size_t n_tables;
	struct ql_image_use use;
};

static void usage_release(struct usage *u)
{
	for (size_t i = 0; i < u->n_tables; i++) {
		ql_packed_view_close(u->tables[i].view);
		ql_toc_close(u->tables[i].toc);
	}
	free(u->tables);
}

/* Takes the table. */
static int usage_table(struct usage *u, struct ql_toc *toc,
		       struct ql_error *err)
{
	struct ql_packed_view *view;
	int r = ql_packed_view_open(u->store, toc, &view, err);

	if (r == 0 && !ql_packed_view_is_empty(view)) {
		u->tables[u->n_tables++] = (struct usage_table){ toc, view };
		return 0;
	}
	if (r == 0)
		ql_packed_view_close(view);
	ql_toc_close(toc);
	return r;
}

/* A table that cannot be read says of nothing that it is packed. */
static int usage_tables(struct usage *u, const struct ql_image_info *info,
			struct ql_error *err)
{
	struct ql_toc *toc;
	int r = 0;

	u->tables = calloc(info->n_layers + 1UL, sizeof(*u->tables));
	if (!u->tables)
		return ql_error_nomem(err);
	if (ql_toc_open_image(u->store, info, &toc, NULL) == 0)
		r = usage_table(u, toc, err);
	for (uint32_t i = 0; i < info->n_layers && r == 0; i++) {
		struct ql_layer_info layer;

		if (ql_layer_get(u->store, &info->layers[i], &layer) == 0 &&
		    ql_toc_open_layer(u->store, &layer, &toc, NULL) == 0)
			r = usage_table(u, toc, err);
	}
	return r;
}

/* Bytes of an object that are packed, by the table that has most of it. */
static uint64_t usage_packed(const struct usage *u,
			     const struct ql_object_use *o, bool *ret_all)
{
	uint64_t most = 0;

	*ret_all = false;
	for (size_t i = 0; i < u->n_tables && !*ret_all; i++) {
		const struct usage_table *t = &u->tables[i];
		struct ql_toc_file file;
		uint64_t n;

		if (ql_toc_find(t->toc, &o->digest, &file) < 0)
			continue;
		*ret_all = ql_packed_covers(t->view, &file);
		n = ql_packed_covered(t->view, &file);
		if (n > most)
			most = n;
	}
	return most;
}

static void usage_object_of(struct usage *u, const struct ql_object_use *o)
{
	struct ql_object_record rec = { 0 };
	bool packed;
	uint64_t n;

	u->use.files++;
	u->use.bytes += o->size;
	if (ql_object_exists(u->store, &o->digest)) {
		u->use.files_here++;
		u->use.bytes_here += o->size;
	} else {
		n = usage_packed(u, o, &packed);
		if (packed) {
			u->use.files_packed++;
			u->use.bytes_packed += o->size;
		} else {
			n += ql_partial_bytes(u->store, &o->digest);
			u->use.files_partly += n > 0;
			u->use.bytes_partly += n < o->size ? n : o->size;
		}
	}
	if (ql_record_get_object(u->txn, &o->digest, &rec) == 0 &&
	    rec.refs > 1) {
		u->use.files_shared++;
		u->use.bytes_shared += o->size;
	}
}

int ql_image_usage(struct ql_store *store, const struct ql_image_info *info,
		   struct ql_image_use *ret_use, struct ql_error *err)
{
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	_cleanup_(ql_object_set_release) struct ql_object_set set = { 0 };
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	_cleanup_(usage_release) struct usage u = { .store = store };
	int r = ql_tree_open_image(store, &info->manifest, &tree, err);

	if (r == 0)
		r = ql_object_set_from_tree(tree, &set, err);
	if (r == 0)
		r = usage_tables(&u, info, err);
	if (r == 0)
		r = ql_txn_begin(store->catalog, false, &txn, err);
	if (r < 0)
		return r;
	u.txn = txn;
	for (size_t i = 0; i < set.n; i++)
		usage_object_of(&u, &set.items[i]);
	*ret_use = u.use;
	return 0;
}

/* ---- all ---- */

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
