/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zstd:chunked as containers/storage has it (pkg/chunked/internal, and
 * docs/containers-storage-zstd-chunked.md):
 *
 *   frames of headers and of pieces of content, in the archive's order
 *   a skippable frame (RFC 8878 §3.1.2) with the table, a zstd frame in it
 *   another with the archive's tar-split, likewise
 *   another with the footer: seven little-endian numbers and "GNUlInUx"
 *
 * Who knows no more than zstd reads the archive, byte for byte; its diff ID
 * stays.  Engines take the table's place and digest from annotations.  What
 * containers/storage's reader does not take as an entry (global headers,
 * contiguous files, sizes of what has no content) is refused here.
 */
#include "fetch/push-private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* And the prefix that containers/storage before 1.45 had for the same. */
#define ANNOTATION "io.github.containers.zstd-chunked."
#define ANNOTATION_OLD "io.containers.zstd-chunked."

enum {
	END_MARK = 1024, /* bytes of zeros that end an archive */
	SEGMENT_MAX = 1 << 20,
	SKIPPABLE = 8, /* bytes of a skippable frame's header */
	SPLIT_MAX = 256 << 20,
	TOC_TYPE = 1,
	/* It is read before all else, wherever the image is started: a sixth
	 * less of it is worth half a second here. */
	TOC_LEVEL = 17,
};

/* A part of the blob, as annotations and footer name it. */
struct part {
	struct ql_digest digest; /* of what stands there */
	uint64_t offset, len, raw_len;
};

static int begin(struct ql_layerwriter *w, struct ql_error *err)
{
	int r = ql_scratch_init(&w->split_text, w->format->tmp_dir, SPLIT_MAX,
				err);

	if (r == 0)
		r = ql_zwriter_new(&w->split_text, w->format->level, UINT64_MAX,
				   &w->split_z, err);
	return r < 0 ? r : ql_tarsplit_new(w->split_z, &w->split, err);
}

/* The archive's rebuild: the entry that is open ends here. */
static int entry_close(struct ql_layerwriter *w, struct ql_error *err)
{
	int r;

	if (!w->name)
		return 0;
	r = ql_tarsplit_file(w->split, w->name, w->size, err);
	free(w->name);
	w->name = NULL;
	return r == -EILSEQ ? -EXDEV : r;
}

static int entry(void *arg, const struct ql_tar_entry *e,
		 const struct ql_tar_raw *raw, struct ql_error *err)
{
	struct ql_layerwriter *w = arg;
	int r;

	if (raw->global)
		return ql_layerwriter_refuse(
			e->path, "stands behind a global header", err);
	if (raw->flag == '7')
		return ql_layerwriter_refuse(e->path, "is a contiguous file",
					     err);
	if (e->type != '0' && raw->size > 0)
		return ql_layerwriter_refuse(
			e->path, "has a size and can have no content", err);
	r = entry_close(w, err);
	if (r == 0)
		r = ql_tarsplit_segment(w->split, w->head.data, w->head.len,
					err);
	if (r == 0)
		r = ql_layerwriter_raw(w, w->head.data, w->head.len, err);
	if (r < 0)
		return r;
	ql_buf_clear(&w->head);
	w->name = strdup(raw->name);
	if (!w->name)
		return ql_error_nomem(err);
	w->size = e->size;
	w->padding = -e->size & 511;
	return ql_layerwriter_entry(w, e, raw, err);
}

static int data(void *arg, const void *bytes, size_t len, struct ql_error *err)
{
	struct ql_layerwriter *w = arg;

	ql_tarsplit_data(w->split, bytes, len);
	return ql_layerwriter_data(w, bytes, len, err);
}

/* What ends the archive: readers look for headers at a segment's start, and
 * want whole blocks there. */
static int tail(struct ql_layerwriter *w, struct ql_error *err)
{
	size_t len = w->head.len;
	size_t at = 0;
	size_t part = (size_t)w->padding + END_MARK;
	int r = entry_close(w, err);

	for (; r == 0 && at < len; part = SEGMENT_MAX) {
		if (part > len - at)
			part = len - at;
		r = ql_tarsplit_segment(w->split, w->head.data + at, part, err);
		at += part;
	}
	if (r == 0)
		r = ql_layerwriter_raw(w, ql_buf_str(&w->head), len, err);
	if (r == 0)
		r = ql_layerwriter_cut(w, err);
	return r < 0 ? r : ql_frames_flush(w->frames, err);
}

/* ---- the end of the blob ---- */

static int to_zwriter(void *arg, const void *bytes, size_t len,
		      struct ql_error *err)
{
	return ql_zwriter_add(arg, bytes, len, err);
}

static int to_frames(void *arg, const void *bytes, size_t len,
		     struct ql_error *err)
{
	return ql_frames_raw(arg, bytes, len, err);
}

static int toc_compress(struct ql_layerwriter *w, const struct part *split,
			struct ql_scratch *to, struct part *ret_toc,
			struct ql_error *err)
{
	static const char start[] = "{\"version\":1,\"entries\":[";
	char text[QL_DIGEST_TEXT + 1];
	char end[QL_DIGEST_TEXT + 32];
	_cleanup_(ql_zwriter_freep) struct ql_zwriter *z = NULL;
	int n = snprintf(end, sizeof(end), "],\"tarSplitDigest\":\"%s\"}",
			 ql_digest_text(&split->digest, text));
	uint64_t size = sizeof(start) - 1 + w->toc.len + (uint64_t)n;
	int r = ql_zwriter_new(to, TOC_LEVEL, size, &z, err);

	if (r == 0)
		r = ql_zwriter_add(z, start, sizeof(start) - 1, err);
	if (r == 0)
		r = ql_scratch_each(&w->toc, to_zwriter, z, err);
	if (r == 0)
		r = ql_zwriter_add(z, end, (size_t)n, err);
	if (r == 0)
		r = ql_zwriter_end(z, &ret_toc->digest, &ret_toc->raw_len, err);
	ret_toc->len = to->len;
	return r;
}

static int skippable_begin(struct ql_frames *fs, uint64_t len,
			   struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf head = QL_BUF_INIT(SKIPPABLE);

	if (ql_buf_add_le32(&head, 0x184d2a50) < 0 ||
	    ql_buf_add_le32(&head, (uint32_t)len) < 0)
		return ql_error_nomem(err);
	return ql_frames_raw(fs, head.data, head.len, err);
}

static int part_write(struct ql_layerwriter *w, struct ql_scratch *from,
		      struct part *part, struct ql_error *err)
{
	int r = skippable_begin(w->frames, from->len, err);

	part->offset = ql_frames_size(w->frames);
	return r < 0 ? r : ql_scratch_each(from, to_frames, w->frames, err);
}

static int footer_write(struct ql_layerwriter *w, const struct part *toc,
			const struct part *split, struct ql_error *err)
{
	const uint64_t numbers[7] = {
		toc->offset,   toc->len,   toc->raw_len,   TOC_TYPE,
		split->offset, split->len, split->raw_len,
	};
	_cleanup_buf_ struct ql_buf footer = QL_BUF_INIT(64);
	int r = 0;

	for (int i = 0; i < 7 && r == 0; i++)
		r = ql_buf_add_le64(&footer, numbers[i]);
	if (r == 0)
		r = ql_buf_add(&footer, "GNUlInUx", 8);
	if (r < 0)
		return ql_error_nomem(err);
	r = skippable_begin(w->frames, footer.len, err);
	return r < 0 ? r
		     : ql_frames_raw(w->frames, footer.data, footer.len, err);
}

static int annotate(struct ql_written *ret, const struct part *toc,
		    const struct part *split, struct ql_error *err)
{
	char digest[QL_DIGEST_TEXT + 1];
	char toc_at[96];
	char split_at[96];

	(void)snprintf(toc_at, sizeof(toc_at),
		       "%" PRIu64 ":%" PRIu64 ":%" PRIu64 ":%d", toc->offset,
		       toc->len, toc->raw_len, TOC_TYPE);
	(void)snprintf(split_at, sizeof(split_at),
		       "%" PRIu64 ":%" PRIu64 ":%" PRIu64, split->offset,
		       split->len, split->raw_len);
	(void)ql_digest_text(&toc->digest, digest);
	ret->annotations = json_pack("{s:s, s:s, s:s, s:s, s:s}",
				     ANNOTATION "manifest-checksum", digest,
				     ANNOTATION "manifest-position", toc_at,
				     ANNOTATION "tarsplit-position", split_at,
				     ANNOTATION_OLD "manifest-checksum", digest,
				     ANNOTATION_OLD "manifest-position",
				     toc_at);
	return ret->annotations ? 0 : ql_error_nomem(err);
}

static int end(struct ql_layerwriter *w, struct ql_written *ret,
	       struct ql_error *err)
{
	_cleanup_scratch_ struct ql_scratch text = { .fd = -1 };
	struct part toc = { 0 };
	struct part split = { 0 };
	int r = tail(w, err);

	if (r == 0)
		r = ql_zwriter_end(w->split_z, &split.digest, &split.raw_len,
				   err);
	split.len = w->split_text.len;
	if (r == 0)
		r = ql_scratch_init(&text, w->format->tmp_dir, UINT32_MAX, err);
	if (r == 0)
		r = toc_compress(w, &split, &text, &toc, err);
	if (r == 0)
		r = part_write(w, &text, &toc, err);
	if (r == 0)
		r = part_write(w, &w->split_text, &split, err);
	if (r == 0)
		r = footer_write(w, &toc, &split, err);
	return r < 0 ? r : annotate(ret, &toc, &split, err);
}

const struct ql_layerwriter_ops ql_zstdchunked_ops = { begin, entry, data,
						       end };
