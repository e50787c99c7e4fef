/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a layer's files lie in its archive, for the table of contents that is
 * made while the archive is read.  A file that is one piece has its own
 * digest; a larger or sparse one is cut into pieces, each hashed once more, so
 * that a part of it can be had and verified without the rest.  Files that are
 * not much larger than what must be decoded anyway are left whole: hashing
 * them twice would slow the pull down.
 */
#include "store/store-private.h"

#include <errno.h>

enum {
	WHOLE = 4 << 20,      /* larger files are cut */
	PIECE = 1 << 20,      /* bytes */
	PIECES_MAX = 1 << 16, /* of one file */
};
#define PLACES_TOC_MAX ((size_t)1 << 31)

struct piece {
	uint64_t offset; /* in the file */
	uint64_t raw;	 /* in the archive */
	uint32_t len;
	struct ql_digest digest;
};

struct ql_layer_places {
	struct ql_toc_writer *toc; /* borrowed */
	struct ql_hasher *hasher;  /* owned */
	struct piece *pieces;	   /* owned; the file's */
	size_t n, cap;
	uint64_t size; /* of the file */
	bool whole;    /* it has one piece, which is not hashed */
	bool open;     /* the last piece goes on */
	bool failed;   /* there will be no table */
};

int ql_layer_places_new(struct ql_toc_writer *toc,
			struct ql_layer_places **ret_places,
			struct ql_error *err)
{
	struct ql_layer_places *p = calloc(1, sizeof(*p));

	if (p)
		p->hasher = ql_hasher_new();
	if (!p || !p->hasher) {
		free(p);
		return ql_error_nomem(err);
	}
	p->toc = toc;
	*ret_places = p;
	return 0;
}

void ql_layer_places_free(struct ql_layer_places *places)
{
	if (!places)
		return;
	ql_hasher_free(places->hasher);
	free(places->pieces);
	free(places);
}

void ql_layer_places_begin(struct ql_layer_places *places, uint64_t size,
			   bool sparse)
{
	places->n = 0;
	places->open = false;
	places->size = size;
	places->whole = !sparse && size <= WHOLE;
}

static void piece_end(struct ql_layer_places *p)
{
	if (p->open && !p->whole)
		ql_hasher_final(p->hasher, &p->pieces[p->n - 1].digest);
	p->open = false;
}

static int piece_begin(struct ql_layer_places *p, uint64_t offset, uint64_t raw,
		       struct ql_error *err)
{
	if (p->n == PIECES_MAX) {
		p->failed = true;
		return 0;
	}
	if (!p->pieces || p->n == p->cap) {
		size_t cap = p->cap ? p->cap * 2 : 16;
		struct piece *grown =
			reallocarray(p->pieces, cap, sizeof(*grown));

		if (!grown)
			return ql_error_nomem(err);
		p->pieces = grown;
		p->cap = cap;
	}
	if (!p->whole && ql_hasher_reset(p->hasher) < 0)
		return ql_error_nomem(err);
	p->pieces[p->n++] = (struct piece){ .offset = offset, .raw = raw };
	p->open = true;
	return 0;
}

int ql_layer_places_add(struct ql_layer_places *places, uint64_t offset,
			uint64_t raw, const void *data, size_t len,
			struct ql_error *err)
{
	const char *at = data;
	uint32_t max = places->whole ? WHOLE : PIECE;

	while (len > 0 && !places->failed) {
		struct piece *p = places->open ? &places->pieces[places->n - 1]
					       : NULL;
		size_t n;
		int r;

		if (!p || p->len == max || p->offset + p->len != offset ||
		    p->raw + p->len != raw) {
			piece_end(places);
			r = piece_begin(places, offset, raw, err);
			if (r < 0)
				return r;
			continue;
		}
		n = max - p->len < len ? max - p->len : len;
		if (!places->whole)
			ql_hasher_update(places->hasher, at, n);
		p->len += (uint32_t)n;
		at += n;
		len -= n;
		offset += n;
		raw += n;
	}
	return 0;
}

int ql_layer_places_end(struct ql_layer_places *places,
			const struct ql_digest *digest, struct ql_error *err)
{
	int r;

	piece_end(places);
	if (places->failed)
		return 0;
	r = ql_toc_writer_file(places->toc, digest, places->size, err);
	for (size_t i = 0; i < places->n && r == 0; i++) {
		const struct piece *p = &places->pieces[i];

		r = ql_toc_writer_chunk(places->toc, p->offset, p->len, p->raw,
					places->whole ? NULL : &p->digest, err);
	}
	/* More than a table may hold: then there is none. */
	if (r != -E2BIG)
		return r;
	places->failed = true;
	return 0;
}

int ql_toc_put(struct ql_store *store, const struct ql_digest *blob,
	       struct ql_toc_writer *toc, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(PLACES_TOC_MAX);
	char path[QL_CFS_PATH];
	char tmp[QL_CFS_PATH];
	int r = ql_toc_writer_finish(toc, &buf, err);

	if (r < 0)
		return r;
	return ql_file_put(store, ql_toc_path("partial", blob, tmp),
			   ql_toc_path("layers", blob, path), buf.data, buf.len,
			   err);
}

int ql_layer_places_put(struct ql_layer_places *places, struct ql_store *store,
			const struct ql_digest *blob, struct ql_error *err)
{
	struct ql_error why = QL_ERROR_INIT;
	int r = places->failed ? 0 : ql_toc_put(store, blob, places->toc, &why);

	/* The blob's spans may not have been told, or not all. */
	if (r == 0 || r == -EBADMSG)
		return 0;
	return ql_error_set(err, r, "%s", why.text);
}
