/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asking ahead for what a person, or a trace, says will be needed: it is
 * queued, and comes before the background and after what somebody waits for.
 */
#include "fetch/fill-private.h"

#include <errno.h>

enum { LOOKS = 512 }; /* chunks that are looked at under one lock */

int ql_fill_ask_item(struct ql_fill_image *image, const struct ql_tree *tree,
		     const struct ql_trace_item *item,
		     struct ql_fill_file **ret_file, struct ql_error *err)
{
	struct ql_content content = { 0 };
	struct ql_inode inode;
	int r;

	if (ql_tree_resolve(tree, item->path, true, &inode, NULL) < 0 ||
	    ql_tree_content(tree, &inode, &content) < 0)
		return 0;
	if (content.data || item->offset >= content.size)
		return 1;
	r = ql_fill_open(image, &content.object, ret_file, err);
	if (r == -EEXIST || r == -ENOENT)
		return 1;
	if (r < 0)
		return r;
	ql_fill_prefetch(image->filler, *ret_file, item->offset,
			 item->len ? item->len : UINT64_MAX);
	return 1;
}

static int ask_trace(struct ql_fill_image *image,
		     const struct ql_image_info *info,
		     const struct ql_trace *trace, size_t *ret_missing,
		     struct ql_error *err)
{
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	int r = ql_tree_open_image(image->filler->store, &info->manifest, &tree,
				   err);

	for (size_t i = 0; i < trace->n && r >= 0; i++) {
		struct ql_fill_file *file = NULL;

		r = ql_fill_ask_item(image, tree, &trace->items[i], &file, err);
		*ret_missing += r == 0;
		if (file)
			ql_fill_close(image->filler, file);
	}
	return r < 0 ? r : 0;
}

/* Under the lock: chunks from *at on, some of them. */
static int ask_some(struct ql_filler *f, struct ql_fill_toc *toc, uint32_t *at)
{
	uint32_t end = ql_toc_chunks(toc->toc);
	int r = 0;

	if (end - *at > LOOKS)
		end = *at + LOOKS;
	for (; *at < end && r >= 0; ++*at) {
		struct ql_toc_chunk chunk;
		uint32_t index;

		r = ql_toc_ordered(toc->toc, *at, &index);
		if (r == 0)
			r = ql_toc_chunk(toc->toc, index, &chunk);
		if (r == 0)
			r = ql_fill_chunk_missing(f, toc, &chunk);
		if (r > 0)
			r = ql_fill_chunk_ask(f, toc, &chunk, QL_FILL_PREFETCH);
	}
	(void)pthread_cond_broadcast(&f->work);
	return r < 0 ? r : 0;
}

static int ask_all(struct ql_fill_image *image, struct ql_error *err)
{
	struct ql_filler *f = image->filler;
	int r = 0;

	for (size_t i = 0; i < image->n_tocs && r == 0; i++) {
		struct ql_fill_toc *toc = image->tocs[i];

		for (uint32_t at = 0; at < ql_toc_chunks(toc->toc) && r == 0;) {
			(void)pthread_mutex_lock(&f->lock);
			r = ask_some(f, toc, &at);
			(void)pthread_mutex_unlock(&f->lock);
		}
		ql_toc_relax(toc->toc);
	}
	return r < 0 ? ql_error_errno(err, r, "asking for an image") : 0;
}

int ql_filler_prefetch(struct ql_filler *f, const struct ql_image_info *info,
		       const struct ql_trace *trace, size_t *ret_missing,
		       struct ql_error *err)
{
	struct ql_fill_image *image;
	size_t missing = 0;
	int r = ql_fill_image_open(f, info, &image, err);

	if (r < 0)
		return r;
	r = trace ? ask_trace(image, info, trace, &missing, err)
		  : ask_all(image, err);
	ql_fill_image_close(image);
	if (r == 0)
		*ret_missing = missing;
	return r;
}
