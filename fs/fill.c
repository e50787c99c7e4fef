/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Content that is not here: which filler a mount asks, and which image's
 * tables of contents it looks in.  A mount of one image has a filler of its
 * own, with the store opened anew: it starts after the server's process has
 * become one of its own, since neither threads nor the catalogue outlive a
 * fork(2).  A mount of every image has its agent's.
 */
#include <errno.h>
#include <stdlib.h>

#include "fs/fs-private.h"

int ql_fs_fill_start(struct ql_fs *fs, const struct ql_mount_options *options,
		     struct ql_error *err)
{
	int r;

	if (!options->fill || !options->image)
		return 0;
	r = ql_store_open(ql_store_root(fs->store), QL_STORE_WRITE,
			  &fs->own_store, err);
	if (r == 0)
		r = ql_filler_new(fs->own_store, options->fill, &fs->filler,
				  err);
	if (r == 0)
		r = ql_fill_image_open(fs->filler, options->image, &fs->fill,
				       err);
	if (r < 0) {
		ql_fs_fill_stop(fs);
		return r;
	}
	if (options->fill->background_rate > 0)
		ql_fill_image_rest(fs->fill);
	return 0;
}

void ql_fs_fill_stop(struct ql_fs *fs)
{
	if (!fs->own_store)
		return;
	ql_fill_image_close(fs->fill);
	ql_filler_free(fs->filler);
	ql_store_close(fs->own_store);
	fs->fill = NULL;
	fs->filler = NULL;
	fs->own_store = NULL;
}

/* A layer's tables are those of an image of this layer alone. */
static int slot_info(struct ql_fs *fs, const struct ql_slot *slot,
		     struct ql_image_info *ret_info)
{
	struct ql_image_info info = { .n_layers = 1 };

	if (slot->kind != QL_V_LAYER)
		return ql_image_get(fs->catalog, &slot->digest, ret_info);
	info.layers = malloc(sizeof(*info.layers));
	if (!info.layers)
		return -ENOMEM;
	info.layers[0] = slot->digest;
	*ret_info = info;
	return 0;
}

static int slot_fill(struct ql_fs *fs, struct ql_slot *slot,
		     struct ql_fill_image **ret_image)
{
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	struct ql_fill_image *image = atomic_load(&slot->fill), *other = NULL;
	struct ql_error err = QL_ERROR_INIT;
	int r = 0;

	if (!image)
		r = slot_info(fs, slot, &info);
	if (!image && r == 0)
		r = ql_fill_image_open(fs->filler, &info, &image, &err);
	if (r < 0) {
		ql_debug("msg=\"tables of contents\" error=%d text=\"%s\"", r,
			 err.text);
		return r;
	}
	/* The node holds the slot, so that it stays what it is. */
	if (atomic_load(&slot->fill) != image &&
	    !atomic_compare_exchange_strong(&slot->fill, &other, image)) {
		ql_fill_image_close(image);
		image = other;
	}
	*ret_image = image;
	return 0;
}

int ql_fs_fill_image(struct ql_fs *fs, const struct ql_node *node,
		     struct ql_fill_image **ret_image)
{
	if (!fs->filler)
		return -ENOENT;
	if (node->slot)
		return slot_fill(fs, node->slot, ret_image);
	*ret_image = fs->fill;
	return fs->fill ? 0 : -ENOENT;
}
