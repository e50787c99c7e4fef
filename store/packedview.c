/* SPDX-License-Identifier: Apache-2.0 */
/* What is packed, by a table of contents: all of its blobs' records as of one
 * moment, loaded once for however many files are asked about. */
#include "store/store-private.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

struct ql_packed_view {
	const struct ql_toc *toc; /* borrowed */
	uint32_t n;
	struct ql_packed_record recs[]; /* owned; of its blobs */
};

void ql_toc_span_range(const struct ql_toc_span *span, uint64_t *ret_offset,
		       uint64_t *ret_len)
{
	/* The bits of the byte before belong to it. */
	uint64_t before = span->bits > 0 ? 1 : 0;

	*ret_offset = span->offset - before;
	*ret_len = span->len + before;
}

void ql_packed_view_close(struct ql_packed_view *view)
{
	if (!view)
		return;
	for (uint32_t i = 0; i < view->n; i++)
		ql_packed_record_release(&view->recs[i]);
	free(view);
}

/* A record counts where its file is there. */
static int view_load(struct ql_store *store, struct ql_txn *txn,
		     struct ql_packed_view *view, uint32_t i,
		     struct ql_error *err)
{
	char path[QL_PACKED_PATH + 1];
	struct ql_toc_blob blob;
	struct stat st;
	int r = ql_toc_blob(view->toc, i, &blob);

	if (r < 0)
		return ql_error_set(err, r, "a damaged table of contents");
	r = ql_packed_record_get(txn, &blob.digest, &view->recs[i]);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return ql_error_errno(err, r, "record of a packed blob");
	if (fstatat(store->root_fd, ql_packed_path(&blob.digest, path), &st,
		    AT_SYMLINK_NOFOLLOW) < 0 ||
	    (uint64_t)st.st_size != view->recs[i].size)
		ql_extents_release(&view->recs[i].have);
	return 0;
}

int ql_packed_view_open(struct ql_store *store, const struct ql_toc *toc,
			struct ql_packed_view **ret_view, struct ql_error *err)
{
	_cleanup_(ql_packed_view_closep) struct ql_packed_view *view = NULL;
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	uint32_t n = ql_toc_blobs(toc);
	int r = ql_txn_begin(store->catalog, false, &txn, err);

	if (r < 0)
		return r;
	view = calloc(1, sizeof(*view) + n * sizeof(view->recs[0]));
	if (!view)
		return ql_error_nomem(err);
	view->toc = toc;
	for (; view->n < n && r == 0; view->n++)
		r = view_load(store, txn, view, view->n, err);
	if (r == 0)
		*ret_view = ql_take_ptr(view);
	return r;
}

bool ql_packed_view_is_empty(const struct ql_packed_view *view)
{
	for (uint32_t i = 0; i < view->n; i++)
		if (view->recs[i].have.n > 0)
			return false;
	return true;
}

uint64_t ql_packed_view_generation(const struct ql_packed_view *view,
				   uint32_t i)
{
	return view->recs[i].generation;
}

bool ql_packed_view_has(const struct ql_packed_view *view,
			const struct ql_toc_chunk *chunk)
{
	uint64_t pos = chunk->raw, end = chunk->raw + chunk->len;
	uint32_t i;

	if (ql_toc_span_at(view->toc, pos, &i) < 0)
		return false;
	for (; pos < end; i++) {
		struct ql_toc_span span;
		uint64_t offset, len;

		if (ql_toc_span(view->toc, i, &span) < 0 ||
		    span.blob >= view->n)
			return false;
		ql_toc_span_range(&span, &offset, &len);
		if (!ql_extents_have(&view->recs[span.blob].have, offset,
				     offset + len))
			return false;
		pos = span.raw + span.raw_len;
	}
	return true;
}

bool ql_packed_covers(const struct ql_packed_view *view,
		      const struct ql_toc_file *file)
{
	for (uint32_t i = 0; i < file->n_chunks; i++) {
		struct ql_toc_chunk chunk;

		if (ql_toc_chunk(view->toc, file->first_chunk + i, &chunk) <
			    0 ||
		    !ql_packed_view_has(view, &chunk))
			return false;
	}
	return file->n_chunks > 0;
}

uint64_t ql_packed_covered(const struct ql_packed_view *view,
			   const struct ql_toc_file *file)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < file->n_chunks; i++) {
		struct ql_toc_chunk chunk;

		if (ql_toc_chunk(view->toc, file->first_chunk + i, &chunk) ==
			    0 &&
		    ql_packed_view_has(view, &chunk))
			sum += chunk.len;
	}
	return sum;
}
