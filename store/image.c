/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images in the store: made from layers, found by digest or name.  The record
 * is written when the merged tree is durable, together with the image's name
 * and its claim on its manifest and configuration.
 */
#include "store/keep-private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* ---- building ---- */

struct image_trees {
	struct ql_tree **trees; /* owned */
	size_t n;
};

static void image_trees_release(struct image_trees *t)
{
	for (size_t i = 0; i < t->n; i++)
		ql_tree_close(t->trees[i]);
	free(t->trees);
	*t = (struct image_trees){ 0 };
}

static int image_open_layers(struct ql_store *store,
			     const struct ql_image_info *info,
			     struct image_trees *t, struct ql_error *err)
{
	t->trees = calloc(info->n_layers + 1U, sizeof(struct ql_tree *));
	if (!t->trees)
		return ql_error_nomem(err);
	for (; t->n < info->n_layers; t->n++) {
		int r = ql_tree_open_layer(store, &info->layers[t->n],
					   &t->trees[t->n], err);

		if (r < 0)
			return r;
	}
	return 0;
}

static int set_add(const struct ql_digest *digest, uint64_t size, void *arg)
{
	return ql_object_set_add(arg, digest, size);
}

/*
 * Not as who uses the image: whoever takes images away holds their trees alone
 * while he waits for a write transaction, and this is asked in one.  A tree
 * stays for as long as its record does.
 */
static int image_tree_objects(const struct ql_store *store,
			      const struct ql_image_info *info,
			      struct ql_object_set *set, struct ql_error *err)
{
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	char path[QL_CFS_PATH];
	_cleanup_close_ int fd = openat(
		store->root_fd, ql_cfs_path("images", &info->manifest, path),
		O_RDONLY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return ql_error_errno(err, -errno, "%s", path);
	r = ql_tree_open_fd(fd, &tree, err);
	if (r < 0)
		return ql_error_prefix(err, "%s", path);
	(void)ql_take_fd(&fd);
	r = ql_tree_each_object(tree, set_add, set);
	return r < 0 ? ql_error_errno(err, r, "read a tree's files") : 0;
}

int ql_image_documents(const struct ql_store *store,
		       const struct ql_image_info *info,
		       struct ql_object_set *set, struct ql_error *err)
{
	const struct ql_digest *own[] = { &info->manifest, &info->config };

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		char path[QL_OBJECT_PATH + 1];
		struct stat st = { 0 };

		(void)fstatat(store->root_fd, ql_object_path(own[i], path), &st,
			      0);
		if (ql_object_set_add(set, own[i], (uint64_t)st.st_size) < 0)
			return ql_error_nomem(err);
	}
	return 0;
}

int ql_image_own_objects(const struct ql_store *store,
			 const struct ql_image_info *info,
			 struct ql_object_set *ret_set, struct ql_error *err)
{
	struct ql_object_set set = { 0 };
	int r = ql_image_documents(store, info, &set, err);

	if (r == 0 && info->flags & QL_IMAGE_READY)
		r = image_tree_objects(store, info, &set, err);
	if (r < 0) {
		ql_object_set_release(&set);
		return r;
	}
	ql_object_set_sort(&set);
	*ret_set = set;
	return 0;
}

static int image_put_name(struct ql_txn *txn, const char *name,
			  const struct ql_digest *manifest,
			  struct ql_error *err)
{
	int r = ql_txn_put(txn, QL_TABLE_NAMES, name, strlen(name),
			   manifest->bytes, QL_DIGEST_BYTES, err);

	if (r == -ENAMETOOLONG)
		return ql_error_set(err, r, "the name %.60s… is too long",
				    name);
	return r;
}

/* What the image counts on may have been taken away since it was found. */
static int image_check(struct ql_store *store, struct ql_txn *txn,
		       const struct ql_image_info *info, struct ql_error *err)
{
	struct ql_layer_info layer;
	bool lost = !ql_doom_spares(store, txn, &info->manifest) ||
		    !ql_doom_spares(store, txn, &info->config);

	for (uint32_t i = 0; i < info->n_layers && !lost; i++)
		lost = !(info->flags & QL_IMAGE_READY) &&
		       ql_record_get_layer(txn, &info->layers[i], &layer) ==
			       -ENOENT;
	return lost ? ql_error_set(err, -EAGAIN,
				   "some of the image was taken away "
				   "meanwhile")
		    : 0;
}

int ql_image_record(struct ql_store *store, struct ql_image_info *info,
		    const struct ql_object_set *own, const char *name,
		    struct ql_error *err)
{
	_cleanup_image_info_ struct ql_image_info known = { 0 };
	_cleanup_(ql_space_room_release) struct ql_space_room room = { 0 };
	struct ql_txn *txn;
	int r = ql_space_room(store, own->n, &room, err);

	if (r == 0)
		r = ql_txn_begin(store->catalog, true, &txn, err);
	if (r < 0)
		return r;
	info->pulled = (uint64_t)time(NULL);
	r = image_check(store, txn, info, err);
	if (r < 0) {
		ql_txn_abort(txn);
		return r;
	}
	if (ql_record_get_image(txn, &info->manifest, &known) == -ENOENT)
		r = ql_refs_add(txn, own, err);
	/* By whoever was first: somebody may have pinned it since.  What
	 * anybody could have once is no secret later. */
	info->flags &= ~(uint32_t)QL_IMAGE_PINNED;
	info->flags |= known.flags & (QL_IMAGE_PINNED | QL_IMAGE_ANONYMOUS);
	if (r == 0)
		r = ql_record_put_image(txn, info, err);
	if (r == 0 && name)
		r = image_put_name(txn, name, &info->manifest, err);
	if (r < 0) {
		ql_txn_abort(txn);
		return r;
	}
	return ql_txn_commit(txn, err);
}

/* Makes what was written durable, and records the image. */
static int image_finish(struct ql_store *store, struct ql_image_info *info,
			const char *name, struct ql_error *err)
{
	_cleanup_(ql_object_set_release) struct ql_object_set own = { 0 };
	_cleanup_close_ int fd =
		openat(store->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (fd < 0 || syncfs(fd) < 0)
		return ql_error_errno(err, -errno, "write to %s", store->root);
	r = ql_image_own_objects(store, info, &own, err);
	return r < 0 ? r : ql_image_record(store, info, &own, name, err);
}

static int image_write_tree(struct ql_store *store, struct ql_image_info *info,
			    struct ql_error *err)
{
	_cleanup_(image_trees_release) struct image_trees t = { 0 };
	_cleanup_(ql_cfs_node_freep) struct lcfs_node_s *root = NULL;
	char path[QL_CFS_PATH];
	char tmp[QL_CFS_PATH];
	int r = image_open_layers(store, info, &t, err);

	if (r == 0)
		r = ql_merge(t.trees, t.n, info, &root, err);
	if (r < 0)
		return r;
	image_trees_release(&t); /* before the library makes its copy */
	(void)ql_cfs_path("images", &info->manifest, path);
	(void)ql_cfs_path("partial", &info->manifest, tmp);
	return ql_cfs_write(root, store, tmp, path, false, &info->cfs, err);
}

static bool same_layers(const struct ql_image_info *a,
			const struct ql_image_info *b)
{
	if (a->n_layers != b->n_layers)
		return false;
	for (uint32_t i = 0; i < a->n_layers; i++)
		if (!ql_digest_equal(&a->layers[i], &b->layers[i]))
			return false;
	return true;
}

/*
 * Another may have built it while this one waited for its lock, and it may be
 * mounted already.  Its tree's file carries the lock that keeps it from being
 * removed, and must not be replaced by another.  True: info is what is there.
 */
bool ql_image_is_built(struct ql_store *store, struct ql_image_info *info)
{
	_cleanup_image_info_ struct ql_image_info known = { 0 };
	char path[QL_CFS_PATH];

	if (ql_image_get(store, &info->manifest, &known) < 0 ||
	    !same_layers(&known, info) ||
	    faccessat(store->root_fd,
		      ql_cfs_path("images", &info->manifest, path), F_OK,
		      0) < 0)
		return false;
	info->inodes = known.inodes;
	info->file_bytes = known.file_bytes;
	info->cfs = known.cfs;
	return true;
}

int ql_image_build(struct ql_store *store, struct ql_image_info *info,
		   const char *name, struct ql_error *err)
{
	_cleanup_(ql_name_lock_release) struct ql_name_lock lock = { .fd = -1 };
	int r = ql_store_need_write(store, err);

	if (r == 0)
		r = ql_name_lock_init(store, &info->manifest, &lock, err);
	if (r == 0 && !ql_image_is_built(store, info))
		r = image_write_tree(store, info, err);
	if (r < 0)
		return r;
	return image_finish(store, info, name, err);
}

/* It stands so already: no write, and no wait for the disk. */
static bool image_is_tagged(struct ql_store *store, const char *name,
			    const struct ql_digest *manifest)
{
	_cleanup_image_info_ struct ql_image_info known = { 0 };
	struct ql_digest has;

	return ql_image_find(store, name, &has) == 0 &&
	       ql_digest_equal(&has, manifest) &&
	       ql_image_get(store, manifest, &known) == 0;
}

int ql_image_tag(struct ql_store *store, const char *name,
		 const struct ql_digest *manifest, struct ql_error *err)
{
	_cleanup_image_info_ struct ql_image_info known = { 0 };
	struct ql_txn *txn;
	int r = ql_store_need_write(store, err);

	if (r == 0 && image_is_tagged(store, name, manifest))
		return 0;

	if (r == 0)
		r = ql_txn_begin(store->catalog, true, &txn, err);
	if (r < 0)
		return r;
	r = ql_record_get_image(txn, manifest, &known);
	if (r < 0)
		(void)ql_error_errno(err, r, "tag %s", name);
	else
		r = image_put_name(txn, name, manifest, err);
	if (r < 0) {
		ql_txn_abort(txn);
		return r;
	}
	return ql_txn_commit(txn, err);
}

/* ---- finding ---- */

int ql_image_get(struct ql_store *store, const struct ql_digest *manifest,
		 struct ql_image_info *ret_info)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	int r = ql_txn_begin(store->catalog, false, &txn, NULL);

	return r < 0 ? r : ql_record_get_image(txn, manifest, ret_info);
}

int ql_image_find(struct ql_store *store, const char *name,
		  struct ql_digest *ret_manifest)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	const void *value;
	size_t len;
	int r = ql_txn_begin(store->catalog, false, &txn, NULL);

	if (r == 0)
		r = ql_txn_get(txn, QL_TABLE_NAMES, name, strlen(name), &value,
			       &len);
	if (r == -ENAMETOOLONG)
		return -ENOENT;
	if (r == 0 && len != QL_DIGEST_BYTES)
		r = -EBADMSG;
	if (r == 0)
		memcpy(ret_manifest->bytes, value, QL_DIGEST_BYTES);
	return r;
}

/* ---- listing ---- */

struct image_each {
	struct ql_txn *txn; /* borrowed */
	ql_image_fn *fn;
	void *arg;
	struct ql_object_set named; /* owned: manifests that have a name */
	struct ql_error *err;	    /* borrowed */
};

static int each_name(const void *key, size_t key_len, const void *value,
		     size_t len, void *arg)
{
	struct image_each *each = arg;
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	_cleanup_free_ char *name = strndup(key, key_len);
	struct ql_digest manifest;
	int r;

	if (!name)
		return ql_error_nomem(each->err);
	if (len != QL_DIGEST_BYTES)
		return ql_error_set(each->err, -EBADMSG,
				    "catalogue: the record of name %s", name);
	memcpy(manifest.bytes, value, QL_DIGEST_BYTES);
	r = ql_record_get_image(each->txn, &manifest, &info);
	if (r < 0)
		return ql_error_errno(each->err, r, "image %s", name);
	if (ql_object_set_add(&each->named, &manifest, 0) < 0)
		return ql_error_nomem(each->err);
	return each->fn(name, &info, each->arg);
}

static int each_unnamed(const void *key, size_t key_len, const void *value,
			size_t len, void *arg)
{
	struct image_each *each = arg;
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	int r = ql_record_parse_image(key, key_len, value, len, &info);

	if (r < 0)
		return ql_error_errno(each->err, r, "an image's record");
	for (size_t i = 0; i < each->named.n; i++)
		if (ql_digest_equal(&each->named.items[i].digest,
				    &info.manifest))
			return 0;
	return each->fn(NULL, &info, each->arg);
}

int ql_image_each(struct ql_store *store, ql_image_fn *fn, void *arg,
		  struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	struct image_each each = { .fn = fn, .arg = arg, .err = err };
	int r = ql_txn_begin(store->catalog, false, &txn, err);

	if (r < 0)
		return r;
	each.txn = txn;
	r = ql_txn_each(txn, QL_TABLE_NAMES, each_name, &each, err);
	if (r == 0)
		r = ql_txn_each(txn, QL_TABLE_IMAGES, each_unnamed, &each, err);
	ql_object_set_release(&each.named);
	return r;
}
