/* SPDX-License-Identifier: Apache-2.0 */
/* The blobs of an image, without fetching them. */
#include "fetch/start-private.h"

#include <errno.h>
#include <stdlib.h>

void ql_pieces_release(struct ql_pieces *pieces)
{
	free(pieces->items);
	*pieces = (struct ql_pieces){ 0 };
}

static void piece_add(struct ql_pieces *pieces, const struct ql_piece *piece)
{
	for (size_t i = 0; i < pieces->n; i++)
		if (ql_digest_equal(&pieces->items[i].blob, &piece->blob))
			return; /* one layer may be there twice */
	pieces->items[pieces->n++] = *piece;
}

static int pieces_fill(struct ql_source *src,
		       const struct ql_resolved *resolved,
		       struct ql_pieces *pieces, struct ql_error *err)
{
	const struct ql_manifest *m = &resolved->manifest;
	struct ql_start_ref start;
	int r = ql_start_find(src, resolved, &start, err);

	if (r < 0 && r != -ENOENT)
		return r;
	pieces->items = calloc(m->n_layers + 1UL, sizeof(*pieces->items));
	if (!pieces->items)
		return ql_error_nomem(err);
	pieces->manifest = resolved->digest;
	if (r == 0)
		piece_add(pieces, &(struct ql_piece){ .blob = start.blob,
						      .size = start.size,
						      .is_start = true });
	for (uint32_t i = 0; i < m->n_layers; i++)
		piece_add(pieces, &(struct ql_piece){
					  .blob = m->layers[i].digest,
					  .size = m->layers[i].size,
					  .diff_id = resolved->diff_ids[i] });
	return 0;
}

int ql_pieces_get(const struct ql_ref *ref,
		  const struct ql_pull_options *options,
		  struct ql_pieces *ret_pieces, struct ql_error *err)
{
	_cleanup_(ql_source_freep) struct ql_source *src = NULL;
	_cleanup_resolved_ struct ql_resolved resolved = { 0 };
	_cleanup_pieces_ struct ql_pieces pieces = { 0 };
	int r = ql_source_open(ref, options, &src, err);

	if (r == 0)
		r = ql_resolve_manifest(src, ref, options->platform, &resolved,
					err);
	if (r == 0)
		r = ql_resolve_config(src, &resolved, err);
	if (r == 0)
		r = pieces_fill(src, &resolved, &pieces, err);
	if (r < 0)
		return ql_error_prefix(err, "%s", ref->name);
	*ret_pieces = pieces;
	pieces = (struct ql_pieces){ 0 };
	return 0;
}
