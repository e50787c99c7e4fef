/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table of contents: where in blobs the content of files lies, so that a
 * part of a file can be had by reading a part of a blob.  Part of
 * store/store.h; include that.
 *
 * A blob is cut into spans, each of which can be decoded by itself (a zstd
 * frame, a gzip member, a stretch from one checkpoint to the next).  What the
 * spans decode to, one after another, is the raw space: positions in it name
 * content independently of how it is compressed.  A file's content is chunks,
 * each at a raw position and with a digest; what no chunk covers is zeros.
 *
 *   layers/<blob digest>.toc      of one layer's blob
 *   images/<manifest digest>.toc  of an image's files, in any blobs
 *
 * The file's grammar (format 1, little-endian) is in toc.c.
 */
#ifndef QL_TOC_H
#define QL_TOC_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/base.h"

enum ql_codec {
	QL_CODEC_NONE, /* raw bytes */
	QL_CODEC_GZIP, /* members; or deflate from a checkpoint on */
	QL_CODEC_ZSTD, /* frames */
};

enum {
	QL_TOC_FILES_MAX = 1 << 20,
	QL_TOC_CHUNKS_MAX = 1 << 23,
	QL_TOC_BLOBS_MAX = 1 << 10,
	QL_TOC_CHUNK_MAX = 64 << 20, /* bytes */
};

/* ---- reading ---- */

struct ql_toc;

struct ql_toc_blob {
	struct ql_digest digest;
	uint64_t size; /* bytes */
	enum ql_codec codec;
	uint32_t first_span, n_spans;
};

struct ql_toc_span {
	uint32_t blob;
	enum ql_codec codec;
	uint64_t offset; /* of its first byte in the blob */
	uint64_t len;	 /* bytes of the blob that it needs, at most */
	uint8_t bits;	 /* gzip: bits of the byte before that belong to it */
	bool checkpoint; /* gzip: raw deflate, with a window */
	uint64_t raw;	 /* position of what it decodes to */
	uint64_t raw_len;
	const uint8_t *window; /* borrowed; zstd-compressed, or NULL */
	uint32_t window_len;
};

struct ql_toc_file {
	uint32_t index;
	struct ql_digest digest; /* of the whole content */
	uint64_t size;
	uint32_t first_chunk, n_chunks;
};

struct ql_toc_chunk {
	uint32_t file;	 /* index */
	uint64_t offset; /* in the file */
	uint32_t len;
	uint64_t raw;
	struct ql_digest digest;
};

/* -ENOENT (not described): there is none.  -EBADMSG: damaged. */
int ql_toc_open(int root_fd, const char *path, struct ql_toc **ret_toc,
		struct ql_error *err);
/* Over memory (borrowed), aligned in no way. */
int ql_toc_open_mem(const void *data, size_t len, struct ql_toc **ret_toc,
		    struct ql_error *err);
void ql_toc_close(struct ql_toc *toc);
QL_DEFINE_CLEANUP(struct ql_toc *, ql_toc_close)
/* Reads all of it against its checksum and its grammar.  -EBADMSG. */
int ql_toc_check(const struct ql_toc *toc, struct ql_error *err);
/* As ql_tree_relax(). */
void ql_toc_relax(const struct ql_toc *toc);

uint32_t ql_toc_blobs(const struct ql_toc *toc);
uint32_t ql_toc_files(const struct ql_toc *toc);
uint32_t ql_toc_chunks(const struct ql_toc *toc);
uint32_t ql_toc_spans(const struct ql_toc *toc);
/* By index; -EBADMSG where the table is damaged there (or has no such). */
int ql_toc_blob(const struct ql_toc *toc, uint32_t i, struct ql_toc_blob *ret);
int ql_toc_file(const struct ql_toc *toc, uint32_t i, struct ql_toc_file *ret);
int ql_toc_chunk(const struct ql_toc *toc, uint32_t i,
		 struct ql_toc_chunk *ret);
int ql_toc_span(const struct ql_toc *toc, uint32_t i, struct ql_toc_span *ret);
/* -ENOENT: it has no such content. */
int ql_toc_find(const struct ql_toc *toc, const struct ql_digest *digest,
		struct ql_toc_file *ret_file);
/* The span that a raw position is in; -ENOENT: none. */
int ql_toc_span_at(const struct ql_toc *toc, uint64_t raw, uint32_t *ret_span);
/* Chunks in raw order: the number of those before raw (0 … chunks), and the
 * k-th one's index. */
uint32_t ql_toc_order_from(const struct ql_toc *toc, uint64_t raw);
int ql_toc_ordered(const struct ql_toc *toc, uint32_t k, uint32_t *ret_chunk);

/* ---- writing ---- */

/* One thread may add spans while another adds files and chunks. */
struct ql_toc_writer;
int ql_toc_writer_new(struct ql_toc_writer **ret_w, struct ql_error *err);
void ql_toc_writer_free(struct ql_toc_writer *w);
QL_DEFINE_CLEANUP(struct ql_toc_writer *, ql_toc_writer_free)
/* The spans after it are of this blob. */
int ql_toc_writer_blob(struct ql_toc_writer *w, const struct ql_digest *digest,
		       uint64_t size, enum ql_codec codec,
		       struct ql_error *err);
/*
 * The next span of the blob; its raw position is the end of the span before
 * it, and returned.  span->offset, len, bits, checkpoint, raw_len and window
 * are the caller's.  -EBADMSG: out of the blob, or before the span before.
 */
int ql_toc_writer_span(struct ql_toc_writer *w, const struct ql_toc_span *span,
		       uint64_t *ret_raw, struct ql_error *err);
/* The last span, where it was left open, ends there at the latest.
 * -EBADMSG: out of the blob, or before the span. */
int ql_toc_writer_close(struct ql_toc_writer *w, uint64_t end,
			struct ql_error *err);
/* The last span decodes to at least raw_len bytes. */
int ql_toc_writer_grow(struct ql_toc_writer *w, uint64_t raw_len,
		       struct ql_error *err);
/* A file; its chunks are those added after it.  Content that is known already
 * is left out, with its chunks. */
int ql_toc_writer_file(struct ql_toc_writer *w, const struct ql_digest *digest,
		       uint64_t size, struct ql_error *err);
/* The last file is known already. */
bool ql_toc_writer_skips(const struct ql_toc_writer *w);
/* digest NULL: the file's own (it has no other chunk).  -EBADMSG: chunks
 * overlap, or end after the file.  Its span may come later. */
int ql_toc_writer_chunk(struct ql_toc_writer *w, uint64_t offset, uint32_t len,
			uint64_t raw, const struct ql_digest *digest,
			struct ql_error *err);
/* The file's bytes; -EBADMSG: a span that was left open. */
int ql_toc_writer_finish(struct ql_toc_writer *w, struct ql_buf *buf,
			 struct ql_error *err);

#endif
