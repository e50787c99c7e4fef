/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removing images.  The catalogue changes first, in one transaction, which also
 * says what is to go of the disk (keepdoom.c); files go after it.
 */
#include "store/keep-private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

struct removal {
	struct ql_store *store; /* borrowed, as these */
	struct ql_txn *txn;
	const struct ql_image_info *image; /* that goes */
	struct ql_doom *doom;		   /* what goes of the disk */
	struct ql_error *err;
	struct ql_object_set layers; /* owned: diff IDs that go */
	const char *name;	     /* NULL: all names */
	bool others;		     /* another name holds the image */
	bool unknown;		     /* nobody can tell what something needed */
};

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
	struct names_of of = { .manifest = &rm->image->manifest };
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

static bool is_damage(int r)
{
	return r == -EBADMSG || r == -ENOENT;
}

/* What a layer needed cannot be told any more where its tree is damaged: then
 * all is counted anew in the end. */
static int removal_drop_refs(struct removal *rm, const struct ql_layer_info *l,
			     struct ql_error *err)
{
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	_cleanup_(ql_object_set_release) struct ql_object_set set = { 0 };
	int r = ql_tree_open_layer(rm->store, &l->diff_id, &tree, err);

	if (r == 0)
		r = ql_object_set_from_tree(tree, &set, err);
	if (is_damage(r)) {
		rm->unknown = true;
		return 0;
	}
	if (r == 0 && l->flags & QL_LAYER_GONE)
		r = ql_refs_gone(rm->txn, &set, false, NULL, err);
	if (r == 0)
		r = ql_refs_drop(rm->txn, &set, &rm->doom->sets[QL_DOOM_OBJECT],
				 err);
	return r;
}

static int removal_drop_layer(struct removal *rm, const struct ql_digest *id,
			      struct ql_error *err)
{
	struct ql_doom *doom = rm->doom;
	struct ql_layer_info info;
	int r = ql_record_get_layer(rm->txn, id, &info);

	if (r == -ENOENT)
		return 0; /* of an image that came ready-made */
	if (r < 0)
		return ql_error_errno(err, r, "a layer's record");
	if (ql_object_set_add(&doom->sets[QL_DOOM_LAYER], id, 0) < 0 ||
	    ql_object_set_add(&doom->sets[QL_DOOM_TOC], &info.blob, 0) < 0 ||
	    ql_object_set_add(&doom->sets[QL_DOOM_PACKED], &info.blob, 0) < 0)
		return ql_error_nomem(err);
	r = removal_drop_refs(rm, &info, err);
	if (r == 0)
		r = ql_txn_del(rm->txn, QL_TABLE_LAYERS, id->bytes,
			       QL_DIGEST_BYTES, err);
	return r;
}

static int removal_layers(struct removal *rm, struct ql_error *err)
{
	int r = 0;

	for (uint32_t i = 0; i < rm->image->n_layers; i++)
		if (ql_object_set_add(&rm->layers, &rm->image->layers[i], 0) <
		    0)
			return ql_error_nomem(err);
	ql_object_set_sort(&rm->layers);
	r = ql_txn_each(rm->txn, QL_TABLE_IMAGES, removal_keep, rm, err);
	for (size_t i = 0; i < rm->layers.n && r == 0; i++)
		r = removal_drop_layer(rm, &rm->layers.items[i].digest, err);
	return r;
}

/* What came ready-made has its parts in packed files of its own. */
static int removal_blobs(struct removal *rm, struct ql_error *err)
{
	_cleanup_(ql_toc_closep) struct ql_toc *toc = NULL;
	struct ql_toc_blob blob;

	if (!(rm->image->flags & QL_IMAGE_READY) ||
	    ql_toc_open_image(rm->store, rm->image, &toc, NULL) < 0)
		return 0;
	for (uint32_t i = 0; i < ql_toc_blobs(toc); i++)
		if (ql_toc_blob(toc, i, &blob) == 0 &&
		    ql_object_set_add(&rm->doom->sets[QL_DOOM_PACKED],
				      &blob.digest, 0) < 0)
			return ql_error_nomem(err);
	return 0;
}

/* ---- the image ---- */

/* Where another image is damaged, too, counts stay as they are: too high, so
 * that nothing goes that somebody needs, and a repair puts them right. */
static int removal_recount(struct removal *rm)
{
	struct ql_error err = QL_ERROR_INIT;
	int r = ql_refs_recount(rm->store, rm->txn,
				&rm->doom->sets[QL_DOOM_OBJECT], NULL, &err);

	if (is_damage(r)) {
		ql_log(QL_LOG_WARN, "msg=\"not counted anew\" error=\"%s\"",
		       err.text);
		return 0;
	}
	return r < 0 ? ql_error_set(rm->err, r, "%s", err.text) : 0;
}

int ql_image_forget(struct ql_store *store, struct ql_txn *txn,
		    const struct ql_image_info *image,
		    const struct ql_object_set *own, struct ql_doom *doom,
		    struct ql_error *err)
{
	struct removal rm = { .store = store,
			      .txn = txn,
			      .image = image,
			      .doom = doom,
			      .err = err,
			      .unknown = !own };
	int r = removal_names(&rm, err);

	if (r == 0)
		r = ql_txn_del(txn, QL_TABLE_IMAGES, image->manifest.bytes,
			       QL_DIGEST_BYTES, err);
	if (r == 0) {
		r = ql_txn_del(txn, QL_TABLE_PROMISES, image->manifest.bytes,
			       QL_DIGEST_BYTES, err);
		r = r == -ENOENT ? 0 : r;
	}
	if (r == 0 && ql_object_set_add(&doom->sets[QL_DOOM_IMAGE],
					&image->manifest, 0) < 0)
		r = ql_error_nomem(err);
	if (r == 0 && own)
		r = ql_refs_drop(txn, own, &doom->sets[QL_DOOM_OBJECT], err);
	if (r == 0)
		r = removal_blobs(&rm, err);
	if (r == 0)
		r = removal_layers(&rm, err);
	if (r == 0 && rm.unknown)
		r = removal_recount(&rm);
	ql_object_set_release(&rm.layers);
	return r;
}

/* ---- rmi ---- */

/* What one removal has in its hands. */
struct rmi {
	struct ql_store *store;	    /* borrowed */
	struct ql_txn *txn;	    /* owned until committed */
	struct ql_image_info image; /* owned */
	struct ql_doom doom;	    /* owned */
	int tree;		    /* owned; holds its tree's lock, or -1 */
};

static void rmi_release(struct rmi *rm)
{
	ql_txn_abort(rm->txn);
	ql_image_info_release(&rm->image);
	ql_doom_release(&rm->doom);
	if (rm->tree >= 0)
		(void)close(rm->tree);
}

/* The lock is kept until the files are gone: nobody opens the tree between. */
static int rmi_not_mounted(struct rmi *rm, struct ql_error *err)
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

static int rmi_image(struct rmi *rm, struct ql_error *err)
{
	_cleanup_(ql_object_set_release) struct ql_object_set own = { 0 };
	bool damaged;
	int r;

	if (rm->image.flags & QL_IMAGE_PINNED)
		return ql_error_set(err, -EBUSY,
				    "the image is pinned (unpin it first)");
	/* First: it may open the tree, and would wait for our own lock. */
	r = ql_image_own_objects(rm->store, &rm->image, &own, err);
	damaged = is_damage(r);
	if (r == 0 || damaged)
		r = rmi_not_mounted(rm, err);
	if (r == 0)
		r = ql_image_forget(rm->store, rm->txn, &rm->image,
				    damaged ? NULL : &own, &rm->doom, err);
	return r;
}

/* *ret_others: the name went, the image stays. */
static int rmi_commit(struct rmi *rm, const char *name, bool *ret_others,
		      struct ql_error *err)
{
	struct removal names = { .store = rm->store,
				 .txn = rm->txn,
				 .image = &rm->image,
				 .name = name };
	int r = removal_names(&names, err);

	*ret_others = names.others;
	if (r == 0 && !names.others)
		r = rmi_image(rm, err);
	if (r == 0 && !names.others)
		r = ql_doom_spare_blobs(rm->store, rm->txn, &rm->doom, err);
	if (r == 0 && !names.others)
		r = ql_doom_write(rm->txn, &rm->doom, err);
	return r < 0 ? r : ql_txn_commit(ql_take_ptr(rm->txn), err);
}

static int rmi_run(struct rmi *rm, const char *name,
		   const struct ql_digest *manifest,
		   struct ql_remove_stats *stats, struct ql_error *err)
{
	int r = ql_doom_recover(rm->store, err);

	if (r == 0)
		r = ql_txn_begin(rm->store->catalog, true, &rm->txn, err);
	if (r < 0)
		return r;
	r = ql_record_get_image(rm->txn, manifest, &rm->image);
	if (r == -ENOENT)
		return ql_error_set(err, r, "no such image");
	if (r < 0)
		return ql_error_errno(err, r, "the image's record");
	r = rmi_commit(rm, name, &stats->untagged_only, err);
	if (r == 0 && !stats->untagged_only)
		r = ql_doom_execute(rm->store, &rm->doom, stats, err);
	return r;
}

int ql_image_remove(struct ql_store *store, const char *name,
		    const struct ql_digest *manifest,
		    struct ql_remove_stats *ret_stats, struct ql_error *err)
{
	_cleanup_(rmi_release) struct rmi rm = { .store = store, .tree = -1 };
	_cleanup_close_ int lock = -1, keep = -1;
	struct ql_remove_stats stats = { 0 };
	int r = ql_store_need_write(store, err);

	if (r == 0)
		r = ql_store_lock(store, true, &lock, err);
	if (r == 0)
		r = ql_keep_lock(store, &keep, err);
	if (r == 0)
		r = rmi_run(&rm, name, manifest, &stats, err);
	if (r == 0)
		*ret_stats = stats;
	return r;
}
