/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What makes room without a transfer: plain objects of which the packed tier
 * has all, and packed frames of which all files are plain.
 */
#include "store/keep-private.h"

#include <errno.h>
#include <string.h>

static int unit_toc(const struct ql_keep_map *map,
		    const struct ql_keep_unit *unit, struct ql_toc **ret_toc)
{
	const struct ql_image_info info = { .manifest = unit->digest };

	return unit->is_image
		       ? ql_toc_open_image(map->store, &info, ret_toc, NULL)
		       : ql_toc_open_blob(map->store, &unit->blob, ret_toc,
					  NULL);
}

uint64_t ql_keep_unit_packed(const struct ql_keep_map *map,
			     const struct ql_keep_unit *unit)
{
	_cleanup_(ql_toc_closep) struct ql_toc *toc = NULL;
	struct ql_toc_blob blob;
	uint64_t sum = 0;

	if (!unit->is_image)
		return ql_packed_bytes(map->store, &unit->blob);
	if (unit_toc(map, unit, &toc) < 0)
		return 0;
	for (uint32_t i = 0; i < ql_toc_blobs(toc); i++)
		if (ql_toc_blob(toc, i, &blob) == 0)
			sum += ql_packed_bytes(map->store, &blob.digest);
	return sum;
}

int ql_keep_unit_covered(const struct ql_keep_map *map,
			 const struct ql_keep_unit *unit,
			 struct ql_object_set *ret_set, struct ql_error *err)
{
	_cleanup_(ql_object_set_release) struct ql_object_set set = { 0 };
	_cleanup_(ql_packed_view_closep) struct ql_packed_view *view = NULL;
	_cleanup_(ql_toc_closep) struct ql_toc *toc = NULL;
	int r;

	*ret_set = set;
	if (unit_toc(map, unit, &toc) < 0)
		return 0;
	r = ql_packed_view_open(map->store, toc, &view, err);
	if (r < 0 || ql_packed_view_is_empty(view))
		return r;
	for (uint32_t i = 0; i < ql_toc_files(toc); i++) {
		struct ql_toc_file file;

		if (ql_toc_file(toc, i, &file) < 0 || file.size == 0 ||
		    !ql_packed_covers(view, &file) ||
		    !ql_object_exists(map->store, &file.digest))
			continue;
		if (ql_object_set_add(&set, &file.digest, 0) < 0)
			return ql_error_nomem(err);
	}
	ql_object_set_sort(&set);
	*ret_set = set;
	set = (struct ql_object_set){ 0 };
	return 0;
}

/* ---- punching ---- */

struct punch {
	struct ql_store *store; /* borrowed */
	struct ql_toc *toc;	/* owned */
	uint8_t *needed;	/* owned; by span: some file of it is not
				 * here as an object */
	uint64_t freed;
};

static void punch_release(struct punch *p)
{
	ql_toc_close(p->toc);
	free(p->needed);
}

static int need_spans(struct punch *p, const struct ql_toc_chunk *chunk)
{
	uint32_t n = ql_toc_spans(p->toc), i;
	struct ql_toc_span span;
	int r = ql_toc_span_at(p->toc, chunk->raw, &i);

	for (; r == 0 && i < n; i++) {
		r = ql_toc_span(p->toc, i, &span);
		if (r == 0 && span.raw >= chunk->raw + chunk->len)
			break;
		p->needed[i] = 1;
	}
	return r;
}

static int need_files(struct punch *p)
{
	int r = 0;

	for (uint32_t i = 0; i < ql_toc_files(p->toc) && r == 0; i++) {
		struct ql_toc_file file;
		struct ql_toc_chunk chunk;

		r = ql_toc_file(p->toc, i, &file);
		if (r < 0 || ql_object_exists(p->store, &file.digest))
			continue;
		for (uint32_t k = 0; k < file.n_chunks && r == 0; k++) {
			r = ql_toc_chunk(p->toc, file.first_chunk + k, &chunk);
			if (r == 0)
				r = need_spans(p, &chunk);
		}
	}
	return r;
}

/* The blob's spans that nobody needs, neighbours in one.  Spans may share
 * bytes with their neighbours: what is needed of them stays. */
static int punch_spans(struct punch *p, const struct ql_toc_blob *blob,
		       struct ql_error *err)
{
	uint64_t start = 0, end = 0, kept = 0;
	int r = 0;

	for (uint32_t i = 0; i < blob->n_spans && r == 0; i++) {
		struct ql_toc_span span;
		uint64_t offset, len;

		if (ql_toc_span(p->toc, blob->first_span + i, &span) < 0)
			return 0; /* fsck says so */
		ql_toc_span_range(&span, &offset, &len);
		if (!p->needed[blob->first_span + i]) {
			if (end <= start)
				start = offset > kept ? offset : kept;
			end = offset + len > end ? offset + len : end;
			continue;
		}
		if (end > offset)
			end = offset;
		if (end > start)
			r = ql_packed_punch(p->store, &blob->digest, start,
					    end - start, err);
		kept = offset + len > kept ? offset + len : kept;
		start = end = 0;
	}
	if (r == 0 && end > start)
		r = ql_packed_punch(p->store, &blob->digest, start, end - start,
				    err);
	return r;
}

static int punch_blob(struct punch *p, const struct ql_toc_blob *blob,
		      struct ql_error *err)
{
	uint64_t before = ql_packed_bytes(p->store, &blob->digest), after;
	int r = before > 0 ? punch_spans(p, blob, err) : 0;

	after = ql_packed_bytes(p->store, &blob->digest);
	p->freed += before > after ? before - after : 0;
	return r;
}

/* Bytes, about, that punching would free. */
static uint64_t punch_guess(const struct punch *p)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < ql_toc_spans(p->toc); i++) {
		struct ql_toc_span span;
		struct ql_toc_blob blob;
		uint64_t offset, len;

		if (p->needed[i] || ql_toc_span(p->toc, i, &span) < 0 ||
		    ql_toc_blob(p->toc, span.blob, &blob) < 0)
			continue;
		ql_toc_span_range(&span, &offset, &len);
		if (ql_packed_has(p->store, &blob.digest, offset, len))
			sum += len;
	}
	return sum;
}

static int punch_unit(const struct ql_keep_map *map,
		      const struct ql_keep_unit *unit, bool dry,
		      uint64_t *ret_freed, struct ql_error *err)
{
	_cleanup_(punch_release) struct punch p = { .store = map->store };
	struct ql_toc_blob blob;
	int r = 0;

	*ret_freed = 0;
	if (unit_toc(map, unit, &p.toc) < 0)
		return 0;
	p.needed = calloc(ql_toc_spans(p.toc) + 1UL, 1);
	if (!p.needed)
		return ql_error_nomem(err);
	if (need_files(&p) < 0)
		return 0; /* damaged: fsck says so */
	if (dry) {
		*ret_freed = punch_guess(&p);
		return 0;
	}
	for (uint32_t i = 0; i < ql_toc_blobs(p.toc) && r == 0; i++)
		if (ql_toc_blob(p.toc, i, &blob) == 0)
			r = punch_blob(&p, &blob, err);
	*ret_freed = p.freed;
	return r;
}

static int tell_punch(const struct ql_keep_map *map,
		      const struct ql_keep_unit *unit, uint64_t bytes,
		      ql_keep_fn *fn, void *arg)
{
	_cleanup_free_ struct ql_digest *images =
		calloc(unit->n_images + 1UL, sizeof(*images));
	struct ql_keep_step step = {
		.what = QL_KEEP_PUNCH,
		.unit = unit->digest,
		.is_image = unit->is_image,
		.images = images,
		.bytes = bytes,
		.why = "its files are plain, too",
	};

	if (!images)
		return -ENOMEM;
	for (uint32_t i = 0; i < unit->n_images; i++)
		images[step.n_images++] =
			map->images[unit->images[i]].info.manifest;
	return fn(&step, arg);
}

int ql_keep_punch(const struct ql_keep_map *map, uint64_t bytes, ql_keep_fn *fn,
		  void *arg, uint64_t *freed, struct ql_error *err)
{
	uint64_t sum = 0;
	int r = 0;

	for (size_t i = 0; i < map->n_units && r == 0 && sum < bytes; i++) {
		const struct ql_keep_unit *unit = &map->units[i];
		uint64_t n;

		if (unit->hold == QL_HOLD_NONE ||
		    ql_keep_unit_packed(map, unit) == 0)
			continue;
		r = punch_unit(map, unit, fn != NULL, &n, err);
		sum += n;
		if (r == 0 && fn && n > 0)
			r = tell_punch(map, unit, n, fn, arg);
	}
	*freed += sum;
	return r;
}
