/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a table's entries to a draft of the layer, as estargz.TOCEntry and
 * minimal.FileMetadata describe them.
 *
 * The draft is to be, entry by entry, what the layer's tar would have made of
 * it.  So:
 *   - names are what tar headers had, taken as the tar reader takes them;
 *   - landmarks (.prefetch.landmark, …) are files as any other, because an
 *     ordinary engine shows them as such;
 *   - a name with U+FFFD in it is Go's word for one that was not UTF-8 (or,
 *     rarely, itself): what it was is not known, so that such a layer can only
 *     be had whole (-ENOTSUP).
 * What cannot be the same: eStargz rounds times to seconds.
 *
 * A file's chunks follow it.  They ascend and leave no gap; what is zeros says
 * so.  A chunk's frame ends where the next one's begins, at the file's
 * endOffset, or where content ends.
 */
#include "fetch/toc-private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

void ql_tocdraft_release(struct ql_tocdraft *td)
{
	free(td->name);
	td->name = NULL;
}

/* ---- files ---- */

static int digest_parse(const char *text, const char *what,
			struct ql_digest *ret, struct ql_error *err)
{
	int r;

	if (*text == '\0')
		return ql_error_set(err, -EBADMSG, "it has no %s", what);
	r = ql_digest_parse(text, ret, err);
	if (r == -EOPNOTSUPP)
		return ql_error_set(err, -ENOTSUP, "%s %.80s", what, text);
	if (r < 0)
		ql_error_prefix(err, "%s", what);
	return r < 0 ? -EBADMSG : 0;
}

/* The last file must have come to its end. */
static int file_finish(struct ql_tocdraft *td, struct ql_error *err)
{
	int r = 0;

	if (!td->in_file)
		return 0;
	td->in_file = false;
	if (td->pos != td->size)
		r = ql_error_set(err, -EBADMSG,
				 "its chunks end at %" PRIu64 " of %" PRIu64
				 " bytes",
				 td->pos, td->size);
	else if (td->end_offset > 0)
		r = ql_draft_end(td->draft, td->end_offset, err);
	if (r < 0)
		ql_error_prefix(err, "entry \"%.300s\"", td->name);
	return r;
}

/* The bytes of the file that a chunk (or the file's own entry) is. */
static int chunk_size(const struct ql_tocdraft *td,
		      const struct ql_toc_entry *e, uint64_t *ret,
		      struct ql_error *err)
{
	uint64_t left = td->size - td->pos;

	if (e->chunk_offset != td->pos)
		return ql_error_set(err, -EBADMSG,
				    "a chunk at %" PRIu64
				    ", where the one before ends at %" PRIu64,
				    e->chunk_offset, td->pos);
	if (left == 0 || e->chunk_size > left)
		return ql_error_set(err, -EBADMSG,
				    "a chunk at %" PRIu64
				    " that ends behind the file's %" PRIu64
				    " bytes",
				    e->chunk_offset, td->size);
	*ret = e->chunk_size ? e->chunk_size : left;
	return 0;
}

static int chunk_digest(const struct ql_tocdraft *td,
			const struct ql_toc_entry *e, struct ql_place *place,
			struct ql_error *err)
{
	int r;

	place->whole = place->len == td->size;
	if (place->whole && (*e->chunk_digest == '\0' ||
			     strcmp(e->chunk_digest, e->digest) == 0))
		return 0;
	r = digest_parse(e->chunk_digest, "chunkDigest", &place->digest, err);
	if (r == 0 && place->whole &&
	    !ql_digest_equal(&place->digest, &td->digest))
		return ql_error_set(err, -EBADMSG,
				    "digest and chunkDigest are of the same "
				    "bytes, but differ");
	return r;
}

static int chunk_data(struct ql_tocdraft *td, const struct ql_toc_entry *e,
		      uint64_t size, struct ql_error *err)
{
	struct ql_place place = { .offset = td->pos,
				  .blob_offset = e->offset,
				  .inner = e->inner_offset };
	int r;

	if (e->offset >= td->content_end || td->end_offset > td->content_end)
		return ql_error_set(err, -EBADMSG,
				    "its content is at %" PRIu64
				    ", where the blob's content ends at "
				    "%" PRIu64,
				    e->offset, td->content_end);
	if (size > QL_TOC_CHUNK_MAX)
		return ql_error_set(err, -ENOTSUP,
				    "a chunk of %" PRIu64
				    " bytes is too large to be read alone",
				    size);
	place.len = (uint32_t)size;
	r = chunk_digest(td, e, &place, err);
	return r < 0 ? r : ql_draft_place(td->draft, &place, err);
}

static int chunk_add(struct ql_tocdraft *td, const struct ql_toc_entry *e,
		     struct ql_error *err)
{
	uint64_t size = 0;
	int r = chunk_size(td, e, &size, err);

	if (r < 0)
		return r;
	if (strcmp(e->chunk_type, "zeros") == 0) {
		/* It has a frame too, which nobody need read. */
		if (e->offset > 0)
			r = ql_draft_end(td->draft, e->offset, err);
	} else if (*e->chunk_type) {
		return ql_error_set(err, -ENOTSUP,
				    "unknown chunkType \"%.40s\"",
				    e->chunk_type);
	} else {
		r = chunk_data(td, e, size, err);
	}
	td->pos += size;
	return r;
}

static int chunk(struct ql_tocdraft *td, const struct ql_toc_entry *e,
		 struct ql_error *err)
{
	int r;

	if (!td->in_file)
		return ql_error_set(err, -EBADMSG,
				    "entry \"%.300s\": a chunk of no file",
				    e->name);
	if (*e->name && strcmp(e->name, td->name) != 0)
		return ql_error_set(err, -EBADMSG,
				    "entry \"%.200s\": a chunk behind "
				    "\"%.200s\", another file",
				    e->name, td->name);
	r = chunk_add(td, e, err);
	if (r < 0)
		ql_error_prefix(err, "entry \"%.300s\"", td->name);
	return r;
}

/* ---- entries ---- */

/* Go's zero time, January 1 of year 1, is what its tar makes 1970 of. */
#define GO_TIME_ZERO INT64_C(-62135596800)

static int entry_time(const char *text, struct ql_tar_entry *e,
		      struct ql_error *err)
{
	if (*text == '\0')
		return 0;
	if (ql_rfc3339_parse(text, &e->mtime_sec, &e->mtime_nsec) < 0)
		return ql_error_set(err, -EBADMSG, "\"%.60s\" is no time",
				    text);
	if (e->mtime_sec == GO_TIME_ZERO && e->mtime_nsec == 0)
		e->mtime_sec = 0;
	return 0;
}

static int entry_names(const struct ql_toc_entry *te, struct ql_tar_entry *e,
		       struct ql_error *err)
{
	if (*te->name == '\0')
		return ql_error_set(err, -EBADMSG, "an entry with no name");
	if (strstr(te->name, REPLACEMENT) || strstr(te->link, REPLACEMENT))
		return ql_error_set(err, -ENOTSUP,
				    "a name that may not have been UTF-8");
	/* The draft only reads them. */
	e->path = (char *)(uintptr_t)te->name;
	e->link = (char *)(uintptr_t)te->link;
	return 0;
}

static int entry_number(uint64_t v, uint64_t max, const char *what,
			uint32_t *ret, struct ql_error *err)
{
	if (v > max)
		return ql_error_set(err, -EBADMSG, "\"%s\" is %" PRIu64, what,
				    v);
	*ret = (uint32_t)v;
	return 0;
}

static int entry_make(const struct ql_toc_entry *te, struct ql_tar_entry *e,
		      struct ql_error *err)
{
	static const char types[] = {
		[QL_ENTRY_FILE] = '0',	  [QL_ENTRY_DIR] = '5',
		[QL_ENTRY_SYMLINK] = '2', [QL_ENTRY_HARDLINK] = '1',
		[QL_ENTRY_CHAR] = '3',	  [QL_ENTRY_BLOCK] = '4',
		[QL_ENTRY_FIFO] = '6',
	};
	int r = entry_names(te, e, err);

	e->type = types[te->type];
	e->mode = (uint32_t)(te->mode & 07777);
	if (te->type == QL_ENTRY_FILE)
		e->size = te->size;
	if (r == 0)
		r = entry_number(te->uid, UINT32_MAX - 1, "uid", &e->uid, err);
	if (r == 0)
		r = entry_number(te->gid, UINT32_MAX - 1, "gid", &e->gid, err);
	if (r == 0)
		r = entry_number(te->major, UINT32_MAX, "devMajor", &e->major,
				 err);
	if (r == 0)
		r = entry_number(te->minor, UINT32_MAX, "devMinor", &e->minor,
				 err);
	if (r == 0)
		r = entry_time(te->modtime, e, err);
	e->xattrs = (struct ql_tar_xattr *)(uintptr_t)te->xattrs;
	e->n_xattrs = te->n_xattrs;
	return r;
}

/* A file with content: its chunks follow, the first in its own entry. */
static int file_begin(struct ql_tocdraft *td, const struct ql_toc_entry *te,
		      const struct ql_tar_entry *e, struct ql_error *err)
{
	char *name;
	int r = ql_draft_entry(td->draft, e, &td->digest, err);

	if (r < 0)
		return r;
	name = strdup(te->name);
	if (!name)
		return ql_error_nomem(err);
	free(td->name);
	td->name = name;
	td->bytes += te->size;
	if (td->store && !ql_object_here(td->store, &td->digest))
		td->missing += te->size;
	td->in_file = true;
	td->size = te->size;
	td->pos = 0;
	td->end_offset = te->end_offset;
	return chunk(td, te, err);
}

int ql_tocdraft_entry(void *arg, const struct ql_toc_entry *te,
		      struct ql_error *err)
{
	struct ql_tocdraft *td = arg;
	struct ql_tar_entry e = { 0 };
	bool content = te->type == QL_ENTRY_FILE && te->size > 0;
	int r;

	if (te->type == QL_ENTRY_CHUNK)
		return chunk(td, te, err);
	r = file_finish(td, err);
	if (r < 0)
		return r;
	r = entry_make(te, &e, err);
	if (r == 0 && content)
		r = digest_parse(te->digest, "digest", &td->digest, err);
	if (r < 0) {
		ql_error_prefix(err, "entry \"%.300s\"", te->name);
		return r;
	}
	return content ? file_begin(td, te, &e, err)
		       : ql_draft_entry(td->draft, &e, NULL, err);
}

int ql_tocdraft_end(struct ql_tocdraft *td, struct ql_error *err)
{
	int r = file_finish(td, err);

	if (r == 0)
		r = ql_draft_end(td->draft, td->content_end, err);
	if (r < 0)
		ql_error_prefix(err, "table of contents");
	return r;
}
