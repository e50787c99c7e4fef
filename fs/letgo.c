/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Letting go of images and layers that nobody uses, when the disk is needed:
 * whoever has looked at an image in the mount of every image would keep it for
 * ever, since its tree is open for as long as the kernel remembers it (drop.c).
 *
 * What is in use as far as can be seen without touching it is left alone
 * (inuse.c, open files, content on its way); what proves to be in use when it
 * is touched is left alone for a while.
 */
#include <errno.h>
#include <stdlib.h>

#include "fs/fs-private.h"

#define SPARED ((uint64_t)60 * 1000000000) /* ns */

static bool used(const struct ql_fs *fs, const struct ql_digests *in_use,
		 const struct ql_slot_image *image)
{
	return ql_digests_have(in_use, &image->digest) ||
	       ql_openfiles_of_slot(fs->files, image->number) ||
	       (fs->filler && ql_filler_is_filling(fs->filler, &image->digest));
}

static int drop(struct ql_fs *fs, const struct ql_slot_image *image)
{
	struct ql_error err = QL_ERROR_INIT;

	return image->layer ? ql_fs_drop_layer(fs, &image->digest, &err)
			    : ql_fs_drop(fs, &image->digest, &err);
}

size_t ql_fs_let_go(struct ql_fs *fs, uint64_t unused)
{
	_cleanup_(ql_digests_release) struct ql_digests in_use = { 0 };
	_cleanup_free_ struct ql_slot_image *images = NULL;
	struct ql_error err = QL_ERROR_INIT;
	size_t n = 0, gone = 0;
	uint64_t now = ql_now_ns();

	if (ql_slots_images(fs->slots, &images, &n) < 0 || n == 0)
		return 0;
	if (ql_digests_in_use(&in_use, &err) < 0) {
		ql_log(QL_LOG_WARN, "msg=\"images stay open\" error=\"%s\"",
		       err.text);
		return 0;
	}
	for (size_t i = 0; i < n; i++) {
		if (images[i].used + unused > now)
			break; /* so have all that follow */
		if (used(fs, &in_use, &images[i]))
			continue;
		if (drop(fs, &images[i]) == 0)
			gone++;
		else
			ql_slots_spare(fs->slots, images[i].number, SPARED);
	}
	return gone;
}

/* ---- content that nobody waits for ---- */

struct filling {
	struct ql_fs *fs;	 /* borrowed */
	struct ql_digest *items; /* owned */
	size_t n, cap;
};

static int filling_collect(const char *name, const struct ql_image_info *info,
			   void *arg)
{
	struct filling *f = arg;

	(void)name;
	if (!ql_filler_is_filling(f->fs->filler, &info->manifest))
		return 0;
	if (f->n == f->cap) {
		size_t cap = f->cap ? 2 * f->cap : 16;
		struct ql_digest *grown =
			reallocarray(f->items, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		f->items = grown;
		f->cap = cap;
	}
	f->items[f->n++] = info->manifest;
	return 0;
}

size_t ql_fs_stop_filling(struct ql_fs *fs)
{
	struct filling f = { .fs = fs };
	size_t n;

	if (!fs->filler)
		return 0;
	(void)ql_image_each(fs->catalog, filling_collect, &f, NULL);
	for (size_t i = 0; i < f.n; i++)
		ql_filler_forget(fs->filler, &f.items[i]);
	n = f.n;
	free(f.items);
	return n;
}
