/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cold tier: parts of layers' blobs as they were received, still
 * compressed.  Part of store/store.h; include that.
 *
 *   packed/ab/cdef…  a sparse file, named by the blob's digest and as large as
 *                    the blob, with the bytes that are here at their own
 *                    offsets
 *
 * What is there of a file is recorded in the catalogue, like a partial file's
 * extents.  Bytes are read through a table of contents, whose digests tell
 * whether they are right: so nothing here hashes, and a part that turns out to
 * be damaged is punched out by whoever noticed.  Any number of threads and
 * processes may put, read and punch at once.
 */
#ifndef QL_PACKED_H
#define QL_PACKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/base.h"
#include "store/toc.h"

struct ql_store;
struct ql_image_info;

/*
 * Adds a part of a blob (blob_size bytes in all), which the caller has
 * verified.  Takes the room that it needs (ql_space_take()).  This process can
 * read it at once; it is durable, recorded, and to be seen by others after
 * ql_packed_settle().  -EINVAL: not within the blob.  -ENOSPC.
 */
int ql_packed_put(struct ql_store *store, const struct ql_digest *blob,
		  uint64_t blob_size, uint64_t offset, const void *data,
		  size_t len, struct ql_error *err);
/* Makes durable and records what this process has put.  What was punched or
 * dropped meanwhile is left out, and so is all of a blob of which another
 * process has punched or trimmed something.  After an error all of it is still
 * to be settled. */
int ql_packed_settle(struct ql_store *store, struct ql_error *err);

/* Whether all of a part is here. */
bool ql_packed_has(struct ql_store *store, const struct ql_digest *blob,
		   uint64_t offset, uint64_t len);
/* The file to read a part from, at its own offset (*ret_fd is the caller's).
 * -ENOENT (not described): not all of the part is here. */
int ql_packed_open(struct ql_store *store, const struct ql_digest *blob,
		   uint64_t offset, uint64_t len, int *ret_fd,
		   struct ql_error *err);
/* The same for what is here without a gap from offset on, len at most:
 * *ret_len, which is 0 where len is, and the blob's size.  -ENOENT: the byte at
 * offset is not here; of len 0: nothing is. */
int ql_packed_reach(struct ql_store *store, const struct ql_digest *blob,
		    uint64_t offset, uint64_t len, int *ret_fd,
		    uint64_t *ret_len, uint64_t *ret_size,
		    struct ql_error *err);
/* Bytes of disk that its file takes; 0: there is none. */
uint64_t ql_packed_bytes(struct ql_store *store, const struct ql_digest *blob);

/* A part is not here any more; whole blocks of it are given back to the disk.
 * No error where there was nothing. */
int ql_packed_punch(struct ql_store *store, const struct ql_digest *blob,
		    uint64_t offset, uint64_t len, struct ql_error *err);
/* Nothing of the blob is.  Who reads its file reads on. */
int ql_packed_drop(struct ql_store *store, const struct ql_digest *blob,
		   struct ql_error *err);
/* Gives back what a file has beside what is recorded of it, and what this
 * process has put (somebody was killed); a file without a record goes
 * altogether.  What others have put but not settled is lost to them, and
 * fetched again. */
int ql_packed_trim(struct ql_store *store, const struct ql_digest *blob,
		   struct ql_error *err);
/* Every file in packed/; not 0: stops and is returned. */
typedef int ql_packed_fn(const struct ql_digest *blob, uint64_t disk_bytes,
			 void *arg);
int ql_packed_each(struct ql_store *store, ql_packed_fn *fn, void *arg,
		   struct ql_error *err);

/* ---- by a table of contents ---- */

/* What is recorded, at one moment, of all blobs of a table (borrowed). */
struct ql_packed_view;
int ql_packed_view_open(struct ql_store *store, const struct ql_toc *toc,
			struct ql_packed_view **ret_view, struct ql_error *err);
void ql_packed_view_close(struct ql_packed_view *view);
QL_DEFINE_CLEANUP(struct ql_packed_view *, ql_packed_view_close)
/* Nothing is there of any of them. */
bool ql_packed_view_is_empty(const struct ql_packed_view *view);
/* Whether all spans that a chunk lies in are here. */
bool ql_packed_view_has(const struct ql_packed_view *view,
			const struct ql_toc_chunk *chunk);
/* Whether all chunks of a file of the table are: it can be had again, also
 * with every registry gone, where its plain object goes. */
bool ql_packed_covers(const struct ql_packed_view *view,
		      const struct ql_toc_file *file);
/* Bytes of a file's content that are. */
uint64_t ql_packed_covered(const struct ql_packed_view *view,
			   const struct ql_toc_file *file);
/* The part of a blob that a span needs. */
void ql_toc_span_range(const struct ql_toc_span *span, uint64_t *ret_offset,
		       uint64_t *ret_len);

/* ---- images of which nothing need come ---- */

/*
 * Looks whether all of an image is here, plain or packed, and remembers, so
 * that ql_image_is_here() need not look.  -ENOENT (not described): no such
 * image.
 */
int ql_image_mark_here(struct ql_store *store, const struct ql_digest *manifest,
		       bool *ret_here, struct ql_error *err);
/* Whether that was found, or it is whole, and nothing of it went since.  Some
 * of it may be packed: a mount needs a filler. */
bool ql_image_is_here(struct ql_store *store, const struct ql_image_info *info);

#endif
