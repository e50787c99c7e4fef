/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pieces: what came of chunks that lie in several spans, where the spans come
 * in different runs.  A run ends in the middle of a chunk, and the run that
 * goes on from there begins in its middle; each leaves what it had of it here,
 * and who has the last of it puts it together and verifies it.  So each byte
 * of a blob is moved once, however its spans are asked for.
 *
 * Nothing of a piece was verified.  There are few of them, of chunks that are
 * not large; the oldest make room, and are fetched again.
 */
#include "fetch/fill-private.h"

#include <errno.h>
#include <string.h>

enum { PIECES_MAX = 256 };
#define PIECES_BYTES_MAX (16UL << 20)

int ql_fill_piece_new(struct ql_fill_toc *toc, const struct ql_toc_chunk *chunk,
		      struct ql_fill_piece **ret_piece)
{
	struct ql_fill_piece *p = calloc(1, sizeof(*p));

	if (p)
		p->data = malloc(chunk->len);
	if (!p || !p->data) {
		free(p);
		return -ENOMEM;
	}
	p->toc = toc;
	p->file = chunk->file;
	p->offset = chunk->offset;
	p->len = chunk->len;
	*ret_piece = p;
	return 0;
}

void ql_fill_piece_free(struct ql_fill_piece *piece)
{
	if (!piece)
		return;
	ql_extents_release(&piece->have);
	free(piece->data);
	free(piece);
}

bool ql_fill_piece_is_whole(const struct ql_fill_piece *piece)
{
	return ql_extents_have(&piece->have, 0, piece->len);
}

int ql_fill_piece_merge(struct ql_fill_piece *piece,
			const struct ql_fill_piece *other)
{
	int r = 0;

	for (size_t i = 0; i < other->have.n && r == 0; i++) {
		const struct ql_extent *e = &other->have.items[i];

		memcpy(piece->data + e->start, other->data + e->start,
		       (size_t)(e->end - e->start));
		r = ql_extents_add(&piece->have, e->start, e->end);
	}
	return r;
}

/* ---- the table ---- */

static void piece_unlink(struct ql_filler *f, struct ql_fill_piece **at)
{
	struct ql_fill_piece *p = *at;

	*at = p->next;
	p->next = NULL;
	f->n_pieces--;
	f->piece_bytes -= p->len;
}

static struct ql_fill_piece **piece_find(struct ql_filler *f,
					 const struct ql_fill_toc *toc,
					 const struct ql_toc_chunk *chunk)
{
	struct ql_fill_piece **at = &f->pieces;

	while (*at && ((*at)->toc != toc || (*at)->file != chunk->file ||
		       (*at)->offset != chunk->offset))
		at = &(*at)->next;
	return at;
}

struct ql_fill_piece *ql_fill_piece_take(struct ql_filler *f,
					 const struct ql_fill_toc *toc,
					 const struct ql_toc_chunk *chunk)
{
	struct ql_fill_piece **at = piece_find(f, toc, chunk);
	struct ql_fill_piece *p = *at;

	if (p)
		piece_unlink(f, at);
	return p;
}

static bool piece_drop_oldest(struct ql_filler *f)
{
	struct ql_fill_piece **at = &f->pieces, *oldest;

	while (*at && (*at)->next)
		at = &(*at)->next;
	oldest = *at;
	if (oldest)
		piece_unlink(f, at);
	ql_fill_piece_free(oldest);
	return oldest != NULL;
}

void ql_fill_piece_put(struct ql_filler *f, struct ql_fill_piece *piece)
{
	piece->next = f->pieces;
	f->pieces = piece;
	f->n_pieces++;
	f->piece_bytes += piece->len;
	while (f->n_pieces > PIECES_MAX || f->piece_bytes > PIECES_BYTES_MAX)
		if (!piece_drop_oldest(f))
			break;
}

void ql_fill_pieces_drop(struct ql_filler *f, const struct ql_fill_toc *toc)
{
	struct ql_fill_piece **at = &f->pieces;

	while (*at) {
		struct ql_fill_piece *p = *at;

		if (toc && p->toc != toc) {
			at = &p->next;
			continue;
		}
		piece_unlink(f, at);
		ql_fill_piece_free(p);
	}
}

/* ---- asking ---- */

/* The part of a chunk, from its start, that is not in a piece. */
static void chunk_lacks(struct ql_filler *f, const struct ql_fill_toc *toc,
			const struct ql_toc_chunk *chunk, uint64_t *ret_from,
			uint64_t *ret_to)
{
	const struct ql_fill_piece *p = *piece_find(f, toc, chunk);
	const struct ql_extents *have = p ? &p->have : NULL;

	*ret_from = 0;
	*ret_to = chunk->len;
	if (!have || have->n == 0)
		return;
	if (have->items[0].start == 0)
		*ret_from = have->items[0].end;
	if (have->items[have->n - 1].end == chunk->len)
		*ret_to = have->items[have->n - 1].start;
}

int ql_fill_chunk_ask(struct ql_filler *f, struct ql_fill_toc *toc,
		      const struct ql_toc_chunk *chunk,
		      enum ql_fill_priority priority)
{
	uint64_t from, to;
	uint32_t first, last;
	int r;

	chunk_lacks(f, toc, chunk, &from, &to);
	if (from >= to)
		return 0; /* it is being put together */
	r = ql_toc_span_at(toc->toc, chunk->raw + from, &first);
	if (r == 0)
		r = ql_toc_span_at(toc->toc, chunk->raw + to - 1, &last);
	if (r < 0)
		return -EBADMSG;
	return ql_fill_queue_add(&f->queue, toc, first, last, priority);
}
