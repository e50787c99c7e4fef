/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rest of an image: what nobody waits for is asked for in the order of the
 * blobs, a few megabytes ahead of the workers.  A pass over all chunks asks
 * for those that are missing; passes follow each other until one finds none.
 */
#include "fetch/fill-private.h"

#include <errno.h>

enum {
	AHEAD = 16 << 20, /* bytes of blobs that are queued */
	LOOKS = 1024,	  /* chunks that are looked at under one lock */
	PAUSE_MS = 500,	  /* between passes that brought nothing */
};

/* What nobody has open, where it would stay packed: it is not to be opened
 * only to know. */
static bool chunk_is_partial(struct ql_filler *f,
			     const struct ql_toc_file *entry,
			     const struct ql_toc_chunk *chunk)
{
	struct ql_extents parts = { 0 };
	bool is = entry->n_chunks > 1 &&
		  ql_partial_extents(f->store, &entry->digest, entry->size,
				     &parts) == 0 &&
		  ql_extents_have(&parts, chunk->offset,
				  chunk->offset + chunk->len);

	ql_extents_release(&parts);
	return is;
}

/* Under the lock: is it here, plain or packed?  A file of many chunks that
 * would come plain is opened to know. */
int ql_fill_chunk_missing(struct ql_filler *f, struct ql_fill_toc *toc,
			  const struct ql_toc_chunk *chunk)
{
	struct ql_fill_file *file;
	struct ql_toc_file entry;
	bool missing;
	int r = ql_toc_file(toc->toc, chunk->file, &entry);

	if (r < 0)
		return 0; /* damaged there: nothing can be had */
	file = ql_fill_file_find(f, &entry.digest);
	if (!file && ql_object_here(f->store, &entry.digest))
		return 0;
	if (!f->options.plain && ql_fill_packed_has(f, toc, chunk))
		return 0;
	if (!file && !toc->hot && ql_fill_packs(f))
		return !chunk_is_partial(f, &entry, chunk);
	r = ql_fill_file_get(f, toc, &entry, &file, NULL);
	if (r == 0)
		r = ql_fill_file_open(f, file, NULL);
	if (r < 0)
		return r;
	missing = !ql_fill_file_has(file, chunk->offset, chunk->len);
	ql_fill_file_put(f, file);
	return missing;
}

static int chunk_ask(struct ql_filler *f, struct ql_fill_toc *toc,
		     const struct ql_toc_chunk *chunk)
{
	struct ql_toc_file entry;
	int r = ql_toc_file(toc->toc, chunk->file, &entry);

	if (r < 0 || ql_fill_file_is_bad(f, &entry.digest))
		return 0;
	r = ql_fill_chunk_ask(f, toc, chunk, QL_FILL_BACKGROUND);
	return r == -EBADMSG ? 0 : r;
}

/* Files that are zeros alone have no chunk to come with: opened, they are all
 * there. */
static void toc_zeros(struct ql_filler *f, struct ql_fill_toc *toc)
{
	uint32_t n = toc->hot ? 0 : ql_toc_files(toc->toc);

	for (uint32_t i = 0; i < n; i++) {
		struct ql_fill_file *file;
		struct ql_toc_file entry;

		if (ql_toc_file(toc->toc, i, &entry) < 0 ||
		    entry.n_chunks > 0 || entry.size == 0 ||
		    ql_object_here(f->store, &entry.digest) ||
		    ql_fill_file_get(f, toc, &entry, &file, NULL) < 0)
			continue;
		(void)ql_fill_file_open(f, file, NULL);
		ql_fill_file_put(f, file);
	}
}

/* Looks at some chunks of the image from where the last look ended. */
static void image_look(struct ql_filler *f, struct ql_fill_image *image)
{
	for (int i = 0; i < LOOKS && image->at_toc < image->n_tocs; i++) {
		struct ql_fill_toc *toc = image->tocs[image->at_toc];
		struct ql_toc_chunk chunk;
		uint32_t index;
		int r;

		if (image->at_chunk >= ql_toc_chunks(toc->toc)) {
			toc_zeros(f, toc);
			image->at_toc++;
			image->at_chunk = 0;
			continue;
		}
		if (f->queue.bytes[QL_FILL_BACKGROUND] >= AHEAD)
			return;
		r = ql_toc_ordered(toc->toc, image->at_chunk++, &index);
		if (r == 0)
			r = ql_toc_chunk(toc->toc, index, &chunk);
		if (r < 0)
			continue;
		r = ql_fill_chunk_missing(f, toc, &chunk);
		if (r > 0) {
			image->missing++;
			r = chunk_ask(f, toc, &chunk);
		}
		if (r < 0) {
			/* No space or memory: go on with that later. */
			image->missing++;
			image->not_before = ql_now_ns() + PAUSE_MS * 1000000ULL;
			return;
		}
	}
}

/* A pass has ended and its runs are done: is another needed? */
static void image_pass_end(struct ql_filler *f, struct ql_fill_image *image)
{
	image->at_toc = 0;
	image->at_chunk = 0;
	for (size_t i = 0; i < image->n_tocs; i++)
		ql_toc_relax(image->tocs[i]->toc);
	ql_store_relax(f->store);
	if (image->missing == 0) {
		image->rest = false;
		image->here = true;
		ql_fill_settle_whole(f, &image->manifest);
		(void)pthread_cond_broadcast(&f->calm);
	} else if (f->stats.chunks == image->chunks_before) {
		image->not_before = ql_now_ns() + PAUSE_MS * 1000000ULL;
	}
	image->chunks_before = f->stats.chunks;
	image->missing = 0;
}

bool ql_fill_background_look(struct ql_filler *f)
{
	uint64_t now = ql_now_ns();
	bool any = false;

	for (struct ql_fill_image *i = f->images; i; i = i->next) {
		if (!i->rest || i->not_before > now)
			continue;
		if (i->at_toc < i->n_tocs) {
			image_look(f, i);
			any = true;
		} else if (f->busy[QL_FILL_BACKGROUND] == 0 &&
			   !f->queue.head[QL_FILL_BACKGROUND]) {
			image_pass_end(f, i);
			any = i->rest && i->not_before <= now;
		}
		if (f->queue.bytes[QL_FILL_BACKGROUND] >= AHEAD)
			break;
	}
	ql_fill_images_sweep(f);
	return any;
}
