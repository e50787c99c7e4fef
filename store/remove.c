/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removing images.  The catalogue changes first, in one transaction; files go
 * after it.  A crash in between leaves files that nothing names: fsck counts
 * them, and a pull that needs them finds them.
 */
#include "store/store-private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

struct removal {
	struct ql_store *store;	      /* borrowed */
	struct ql_txn *txn;	      /* owned until committed */
	struct ql_image_info image;   /* owned */
	struct ql_object_set layers;  /* owned: diff IDs that go */
	struct ql_object_set blobs;   /* owned: whose tables go */
	struct ql_object_set objects; /* owned: objects that go */
	struct ql_error *err;	      /* borrowed */
	bool others;		      /* another name holds the image */
	int tree;		      /* owned; holds its tree's lock, or -1 */
	const char *name;	      /* borrowed; NULL: all names */
};

static void removal_release(struct removal *rm)
{
	ql_txn_abort(rm->txn);
	ql_image_info_release(&rm->image);
	ql_object_set_release(&rm->layers);
	ql_object_set_release(&rm->blobs);
	ql_object_set_release(&rm->objects);
	if (rm->tree >= 0)
		(void)close(rm->tree);
}

/* ---- names ---- */

struct names_of {
	const struct ql_digest *manifest; /* borrowed */
	char **names;			  /* owned */
	size_t n;
};

static int names_collect(const void *key, size_t key_len, const void *value,
			 size_t len, void *arg)
{
	struct names_of *of = arg;
	char **grown;

	if (len != QL_DIGEST_BYTES ||
	    memcmp(value, of->manifest->bytes, len) != 0)
		return 0;
	grown = reallocarray(of->names, of->n + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	of->names = grown;
	grown[of->n] = strndup(key, key_len);
	if (!grown[of->n])
		return -ENOMEM;
	of->n++;
	return 0;
}

static int removal_names(struct removal *rm, struct ql_error *err)
{
	struct names_of of = { .manifest = &rm->image.manifest };
	int r = ql_txn_each(rm->txn, QL_TABLE_NAMES, names_collect, &of, err);

	if (r == -ENOMEM)
		(void)ql_error_nomem(err);
	for (size_t i = 0; i < of.n; i++) {
		if (rm->name && strcmp(of.names[i], rm->name) != 0)
			rm->others = true;
		else if (r == 0)
			r = ql_txn_del(rm->txn, QL_TABLE_NAMES, of.names[i],
				       strlen(of.names[i]), err);
		free(of.names[i]);
	}
	free(of.names);
	return r;
}

/* ---- layers ---- */

static bool image_has_layer(const struct ql_image_info *info,
			    const struct ql_digest *diff_id)
{
	for (uint32_t i = 0; i < info->n_layers; i++)
		if (ql_digest_equal(&info->layers[i], diff_id))
			return true;
	return false;
}

/* Takes from the layers that go those that another image has. */
static int removal_keep(const void *key, size_t key_len, const void *value,
			size_t len, void *arg)
{
	struct removal *rm = arg;
	_cleanup_image_info_ struct ql_image_info other = { 0 };
	int r = ql_record_parse_image(key, key_len, value, len, &other);
	size_t n = 0;

	if (r < 0)
		return ql_error_errno(rm->err, r, "another image's record");
	for (size_t i = 0; i < rm->layers.n; i++)
		if (!image_has_layer(&other, &rm->layers.items[i].digest))
			rm->layers.items[n++] = rm->layers.items[i];
	rm->layers.n = n;
	return 0;
}

static int removal_drop_layer(struct removal *rm, const struct ql_digest *id,
			      struct ql_error *err)
{
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	_cleanup_(ql_object_set_release) struct ql_object_set set = { 0 };
	struct ql_layer_info info;
	int r = ql_record_get_layer(rm->txn, id, &info);

	if (r == -ENOENT)
		return 0; /* of an image that came ready-made */
	if (r < 0)
		return ql_error_errno(err, r, "a layer's record");
	if (ql_object_set_add(&rm->blobs, &info.blob, 0) < 0)
		return ql_error_nomem(err);
	r = ql_tree_open_layer(rm->store, id, &tree, err);
	if (r == 0)
		r = ql_object_set_from_tree(tree, &set, err);
	if (r == 0)
		r = ql_refs_drop(rm->txn, &set, &rm->objects, err);
	if (r == 0)
		r = ql_txn_del(rm->txn, QL_TABLE_LAYERS, id->bytes,
			       QL_DIGEST_BYTES, err);
	return r;
}

static int removal_layers(struct removal *rm, struct ql_error *err)
{
	int r = 0;

	for (uint32_t i = 0; i < rm->image.n_layers; i++)
		if (ql_object_set_add(&rm->layers, &rm->image.layers[i], 0) < 0)
			return ql_error_nomem(err);
	ql_object_set_sort(&rm->layers);
	r = ql_txn_each(rm->txn, QL_TABLE_IMAGES, removal_keep, rm, err);
	for (size_t i = 0; i < rm->layers.n && r == 0; i++)
		r = removal_drop_layer(rm, &rm->layers.items[i].digest, err);
	return r;
}

/* ---- the image ---- */

/* The lock is kept until the files are gone: nobody opens the tree between. */
static int removal_not_mounted(struct removal *rm, struct ql_error *err)
{
	char path[QL_CFS_PATH];

	rm->tree = openat(rm->store->root_fd,
			  ql_cfs_path("images", &rm->image.manifest, path),
			  O_RDONLY | O_CLOEXEC);
	if (rm->tree < 0)
		return 0; /* gone already: then nobody has it open either */
	if (flock(rm->tree, LOCK_EX | LOCK_NB) < 0)
		return ql_error_set(err, -EBUSY,
				    "the image is in use (mounted "
				    "or being read)");
	return 0;
}

static int removal_image(struct removal *rm, struct ql_error *err)
{
	_cleanup_(ql_object_set_release) struct ql_object_set own = { 0 };
	int r;

	if (rm->image.flags & QL_IMAGE_PINNED)
		return ql_error_set(err, -EBUSY,
				    "the image is pinned (unpin it first)");
	/* First: it may open the tree, and would wait for our own lock. */
	r = ql_image_own_objects(rm->store, &rm->image, &own, err);
	if (r == 0)
		r = removal_not_mounted(rm, err);
	if (r == 0)
		r = ql_txn_del(rm->txn, QL_TABLE_IMAGES,
			       rm->image.manifest.bytes, QL_DIGEST_BYTES, err);
	if (r == 0)
		r = ql_refs_drop(rm->txn, &own, &rm->objects, err);
	return r < 0 ? r : removal_layers(rm, err);
}

static void removal_unlink(struct removal *rm, struct ql_remove_stats *stats)
{
	char path[QL_CFS_PATH];
	char object[QL_OBJECT_PATH + 1];

	(void)unlinkat(rm->store->root_fd,
		       ql_cfs_path("images", &rm->image.manifest, path), 0);
	ql_image_side_remove(rm->store, &rm->image.manifest);
	for (size_t i = 0; i < rm->blobs.n; i++) {
		(void)ql_packed_drop(rm->store, &rm->blobs.items[i].digest,
				     NULL);
		(void)unlinkat(rm->store->root_fd,
			       ql_toc_path("layers", &rm->blobs.items[i].digest,
					   path),
			       0);
	}
	for (size_t i = 0; i < rm->layers.n; i++)
		(void)unlinkat(rm->store->root_fd,
			       ql_layer_path(&rm->layers.items[i].digest, path),
			       0);
	for (size_t i = 0; i < rm->objects.n; i++) {
		const struct ql_object_use *use = &rm->objects.items[i];

		ql_partial_unlink(rm->store, &use->digest);
		if (unlinkat(rm->store->root_fd,
			     ql_object_path(&use->digest, object), 0) < 0)
			continue;
		stats->objects++;
		stats->bytes += use->size;
	}
}

static int removal_commit(struct removal *rm, struct ql_error *err)
{
	int r = removal_names(rm, err);

	if (r == 0 && !rm->others)
		r = removal_image(rm, err);
	return r < 0 ? r : ql_txn_commit(ql_take_ptr(rm->txn), err);
}

int ql_image_remove(struct ql_store *store, const char *name,
		    const struct ql_digest *manifest,
		    struct ql_remove_stats *ret_stats, struct ql_error *err)
{
	_cleanup_(removal_release) struct removal rm = {
		.store = store, .name = name, .tree = -1, .err = err
	};
	_cleanup_close_ int lock = -1;
	struct ql_remove_stats stats = { 0 };
	int r = ql_store_need_write(store, err);

	if (r == 0)
		r = ql_store_lock(store, true, &lock, err);
	if (r == 0)
		r = ql_txn_begin(store->catalog, true, &rm.txn, err);
	if (r < 0)
		return r;
	r = ql_record_get_image(rm.txn, manifest, &rm.image);
	if (r == -ENOENT)
		return ql_error_set(err, r, "no such image");
	if (r < 0)
		return ql_error_errno(err, r, "the image's record");
	r = removal_commit(&rm, err);
	if (r < 0)
		return r;
	if (!rm.others)
		removal_unlink(&rm, &stats);
	stats.untagged_only = rm.others;
	*ret_stats = stats;
	return 0;
}
