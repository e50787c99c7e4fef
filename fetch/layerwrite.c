/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer's archive written again: what its formats with tables of contents
 * have in common.  The archive is cut into headers and content (store.h,
 * ql_tar_cut()); content goes into frames of its own, a piece each, so that a
 * piece can be had by its range of the blob; an entry is written into the
 * table when the last of its frames has its place.
 *
 * Memory: the batches that are being compressed, the headers before the entry
 * that is being read, and what of the table is not written yet.  The table
 * itself is a file until the end.
 */
#include "fetch/push-private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum {
	RAW_FRAME = 1 << 20, /* bytes of headers in one frame, about */
	PLAIN_READ = 256 << 10,
	HEAD_MAX = 4 << 20, /* bytes of headers before one entry */
	/* Engines read tables into memory, and refuse larger ones. */
	TOC_MAX = 48 << 20,
};

int ql_layerwriter_refuse(const char *path, const char *why,
			  struct ql_error *err)
{
	return ql_error_set(err, -EXDEV, "\"%.300s\" %s", path, why);
}

/* ---- entries, when their frames are written ---- */

static void pending_free(struct ql_pending *p)
{
	json_decref(p->entry);
	free(p->pieces);
	free(p);
}

static int pending_write(struct ql_layerwriter *w, struct ql_pending *p,
			 struct ql_error *err)
{
	const struct ql_digest *digest = NULL;
	int r;

	if (p->has_digest)
		digest = &p->digest;
	else if (p->n == 1)
		digest = &p->pieces[0].digest;
	r = ql_toc_entry_write(w->dialect, p->entry, digest, p->pieces, p->n,
			       &w->toc, !w->any, err);
	w->any = true;
	if (r == -EFBIG)
		return ql_error_set(err, -EXDEV,
				    "a table of contents of more than %d MiB",
				    TOC_MAX >> 20);
	return r;
}

/* Writes all that are ready, in their order. */
static int pending_drain(struct ql_layerwriter *w, struct ql_error *err)
{
	struct ql_pending *p;
	int r = 0;

	while (r == 0 && (p = w->first) && p->whole && p->got == p->n) {
		r = pending_write(w, p, err);
		w->first = p->next;
		if (!w->first)
			w->last = NULL;
		pending_free(p);
	}
	return r;
}

static int frame_done(void *arg, const struct ql_frame_result *res,
		      struct ql_error *err)
{
	struct ql_layerwriter *w = arg;
	struct ql_pending *p = res->user;
	struct ql_toc_piece *piece = &p->pieces[p->got++];

	piece->blob_offset = res->offset;
	piece->blob_end = res->offset + res->len;
	piece->digest = res->digest;
	piece->zeros = res->zeros;
	return pending_drain(w, err);
}

/* ---- the archive's bytes ---- */

int ql_layerwriter_cut(struct ql_layerwriter *w, struct ql_error *err)
{
	struct ql_pending *marked = w->marked;

	w->marked = NULL;
	return ql_frames_end(w->frames, marked, err);
}

static int frame_add(struct ql_layerwriter *w, const void *data, size_t len,
		     struct ql_error *err)
{
	if (w->diff_hash)
		ql_hasher_update(w->diff_hash, data, len);
	w->raw += len;
	return ql_frames_add(w->frames, data, len, err);
}

int ql_layerwriter_raw(struct ql_layerwriter *w, const void *data, size_t len,
		       struct ql_error *err)
{
	int r = frame_add(w, data, len, err);

	if (r == 0 && ql_frames_open(w->frames) >= RAW_FRAME)
		r = ql_layerwriter_cut(w, err);
	return r;
}

static int check_entry(struct ql_layerwriter *w, const struct ql_tar_entry *e,
		       const struct ql_tar_raw *raw, struct ql_error *err)
{
	int r;

	if (raw->sparse)
		return ql_layerwriter_refuse(e->path, "is sparse", err);
	if (++w->entries > QL_LAYER_ENTRIES_MAX)
		return ql_layerwriter_refuse(e->path, "is one entry too many",
					     err);
	r = ql_names_add(w->names, e->path);
	if (r < 0)
		return ql_error_nomem(err);
	if (r == 0)
		return ql_layerwriter_refuse(e->path, "is there twice", err);
	return 0;
}

int ql_layerwriter_entry(struct ql_layerwriter *w, const struct ql_tar_entry *e,
			 const struct ql_tar_raw *raw, struct ql_error *err)
{
	struct ql_pending *p;
	int r = check_entry(w, e, raw, err);

	if (r < 0)
		return r;
	p = calloc(1, sizeof(*p));
	if (!p)
		return ql_error_nomem(err);
	r = ql_toc_entry_new(w->dialect, e, raw, &p->entry, err);
	if (r < 0) {
		free(p);
		return r == -EILSEQ ? ql_layerwriter_refuse(
					      e->path,
					      "has a name, xattr or time that "
					      "JSON cannot say",
					      err)
				    : r;
	}
	if (w->last)
		w->last->next = p;
	else
		w->first = p;
	w->last = p;
	w->left = raw->stored;
	w->at = 0;
	w->file = w->left > 0 ? p : NULL;
	p->whole = !w->file;
	if (p->whole && e->type == '0' && w->dialect == QL_TOC_STARGZ) {
		p->has_digest = true;
		if (ql_digest_of("", 0, &p->digest) < 0)
			return ql_error_nomem(err);
	}
	if (w->left > w->format->chunk_size) {
		p->has_digest = true;
		if (ql_hasher_reset(w->file_hash) < 0)
			return ql_error_nomem(err);
	}
	return pending_drain(w, err);
}

static int piece_add(struct ql_layerwriter *w, uint64_t len,
		     struct ql_error *err)
{
	struct ql_pending *p = w->file;

	if (++w->pieces > QL_LAYER_PIECES_MAX)
		return ql_error_set(err, -EXDEV,
				    "files of more than %d pieces in all",
				    QL_LAYER_PIECES_MAX);
	if (p->n == p->cap) {
		size_t cap = p->cap ? p->cap * 2 : 1;
		struct ql_toc_piece *grown =
			reallocarray(p->pieces, cap, sizeof(*grown));

		if (!grown)
			return ql_error_nomem(err);
		p->pieces = grown;
		p->cap = cap;
	}
	p->pieces[p->n++] =
		(struct ql_toc_piece){ .offset = w->at, .len = len };
	w->at += len;
	w->marked = p;
	ql_frames_mark(w->frames);
	return 0;
}

/* The open frame holds a piece, or the last of the file. */
static int piece_end(struct ql_layerwriter *w, size_t len, struct ql_error *err)
{
	struct ql_pending *p = w->file;
	int r = piece_add(w, len, err);

	if (r < 0)
		return r;
	if (w->left == 0) {
		p->whole = true;
		if (p->has_digest)
			ql_hasher_final(w->file_hash, &p->digest);
		w->file = NULL;
	}
	/* Members of eStargz hold also the headers behind the content. */
	return w->dialect == QL_TOC_CHUNKED ? ql_layerwriter_cut(w, err) : 0;
}

int ql_layerwriter_data(struct ql_layerwriter *w, const void *data, size_t len,
			struct ql_error *err)
{
	const char *p = data;
	int r = 0;

	while (len > 0 && r == 0) {
		size_t part = len;

		if (!w->file)
			return ql_error_set(err, -EBADMSG,
					    "more content than was stated");
		if (w->piece_len == 0) {
			r = ql_layerwriter_cut(w, err);
			if (r < 0)
				return r;
		}
		if (part > w->format->chunk_size - w->piece_len)
			part = w->format->chunk_size - w->piece_len;
		if (w->file->has_digest)
			ql_hasher_update(w->file_hash, p, part);
		r = frame_add(w, p, part, err);
		w->piece_len += part;
		w->left -= part;
		p += part;
		len -= part;
		if (r == 0 &&
		    (w->left == 0 || w->piece_len == w->format->chunk_size)) {
			size_t piece = w->piece_len;

			w->piece_len = 0;
			r = piece_end(w, piece, err);
		}
	}
	return r;
}

/* ---- the whole ---- */

static int raw_keep(void *arg, const void *data, size_t len,
		    struct ql_error *err)
{
	struct ql_layerwriter *w = arg;
	int r = ql_buf_add(&w->head, data, len);

	if (r == -EFBIG)
		return ql_error_set(err, -EXDEV,
				    "headers of more than %d MiB at once",
				    HEAD_MAX >> 20);
	return r < 0 ? ql_error_nomem(err) : 0;
}

static int writer_init(struct ql_layerwriter *w,
		       const struct ql_layer_format *format, int fd,
		       struct ql_error *err)
{
	bool chunked = format->format == QL_PUSH_ZSTD_CHUNKED;
	struct ql_frames_options opt = {
		.kind = chunked ? QL_FRAMES_ZSTD : QL_FRAMES_GZIP,
		.level = format->level,
		.threads = format->threads,
		.fd = fd,
		.done = frame_done,
		.arg = w,
	};
	int r = ql_scratch_init(&w->toc, format->tmp_dir, TOC_MAX, err);

	if (r < 0)
		return r;
	w->format = format;
	w->dialect = chunked ? QL_TOC_CHUNKED : QL_TOC_STARGZ;
	ql_buf_init(&w->head, HEAD_MAX);
	w->file_hash = ql_hasher_new();
	w->names = ql_names_new();
	if (!w->file_hash || !w->names)
		return ql_error_nomem(err);
	return ql_frames_new(&opt, &w->frames, err);
}

static void writer_release(struct ql_layerwriter *w)
{
	struct ql_pending *p;

	ql_frames_free(w->frames);
	while ((p = w->first)) {
		w->first = p->next;
		pending_free(p);
	}
	ql_buf_release(&w->head);
	ql_scratch_release(&w->toc);
	ql_hasher_free(w->file_hash);
	ql_names_free(w->names);
	ql_tarsplit_free(w->split);
	ql_zwriter_free(w->split_z);
	ql_scratch_release(&w->split_text);
	free(w->name);
	ql_hasher_free(w->diff_hash);
}

static int write_with_toc(struct ql_stream *tar,
			  const struct ql_layer_format *format,
			  struct ql_written *out, struct ql_error *err)
{
	const struct ql_layerwriter_ops *ops =
		format->format == QL_PUSH_ZSTD_CHUNKED ? &ql_zstdchunked_ops
						       : &ql_estargz_ops;
	const struct ql_tarcut_ops cut = { raw_keep, ops->entry, ops->data };
	struct ql_layerwriter w = { .toc = { .fd = -1 },
				    .split_text = { .fd = -1 } };
	_cleanup_stream_ struct ql_stream *ordered = NULL;
	int r = writer_init(&w, format, out->fd, err);

	if (r == 0 && format->n_first > 0)
		r = ql_tar_order(tar, format->first, format->n_first,
				 format->tmp_dir, &ordered, &w.n_first, err);
	if (r == 0)
		r = ops->begin(&w, err);
	if (r == 0)
		r = ql_tar_cut(ordered ? ordered : tar, &cut, &w, err);
	if (r == 0)
		r = ops->end(&w, out, err);
	if (r == 0)
		r = ql_frames_finish(w.frames, &out->digest, &out->size, err);
	writer_release(&w);
	return r;
}

static int write_plain(struct ql_stream *tar,
		       const struct ql_layer_format *format,
		       struct ql_written *out, struct ql_error *err)
{
	bool zstd = format->format == QL_PUSH_ZSTD_CHUNKED;
	struct ql_frames_options opt = {
		.kind = zstd ? QL_FRAMES_ZSTD : QL_FRAMES_ONE,
		.level = format->level,
		.threads = format->threads,
		.fd = out->fd,
	};
	_cleanup_(ql_frames_freep) struct ql_frames *fs = NULL;
	_cleanup_free_ char *data = malloc(PLAIN_READ);
	ssize_t n;
	int r = data ? ql_frames_new(&opt, &fs, err) : ql_error_nomem(err);

	while (r == 0 &&
	       (n = ql_stream_read(tar, data, PLAIN_READ, err)) != 0) {
		if (n < 0)
			return (int)n;
		r = ql_frames_add(fs, data, (size_t)n, err);
		if (r == 0 && zstd && ql_frames_open(fs) >= RAW_FRAME)
			r = ql_frames_end(fs, NULL, err);
	}
	return r < 0 ? r : ql_frames_finish(fs, &out->digest, &out->size, err);
}

int ql_layer_write(struct ql_stream *tar, const struct ql_digest *diff_id,
		   const struct ql_layer_format *format, struct ql_written *ret,
		   struct ql_error *err)
{
	bool zstd = format->format == QL_PUSH_ZSTD_CHUNKED;
	struct ql_written out = {
		.fd = -1,
		.diff_id = *diff_id,
		.media_type = zstd ? QL_TYPE_LAYER "+zstd"
				   : QL_TYPE_LAYER "+gzip",
	};
	int r = ql_tmpfile(format->tmp_dir, &out.fd, err);

	if (r == 0)
		r = format->plain || format->format == QL_PUSH_GZIP
			    ? write_plain(tar, format, &out, err)
			    : write_with_toc(tar, format, &out, err);
	if (r < 0) {
		ql_written_release(&out);
		return r;
	}
	*ret = out;
	return 0;
}

void ql_written_release(struct ql_written *w)
{
	if (w->fd >= 0)
		(void)close(w->fd);
	json_decref(w->annotations);
	*w = (struct ql_written){ .fd = -1 };
}
