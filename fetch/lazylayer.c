/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer by its table of contents: read, verified, drafted, recorded.
 *
 * How much is read: where the annotations tell the place, exactly that.  Else
 * the blob's tail, of a size that holds most tables, and what is missing of
 * it in a second range.
 *
 * A gzip blob's table is a file of its tar, which an ordinary engine shows
 * (stargz.index.json in the root), and so do we; its content is the JSON,
 * whose digest is in the manifest.  Its attributes are those that
 * stargz-snapshotter always writes: no permissions, root's, of 1970.
 */
#include "fetch/toc-private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum {
	/* Tables are about 1 % of a blob; a guess too large costs less than
	 * a second round trip. */
	TAIL_SHARE = 64,
	TAIL_MIN = 32 << 10,
	TAIL_MAX = 4 << 20,
};

struct lazy {
	const struct ql_descriptor *d; /* borrowed */
	ql_range_fn *read_range;
	void *arg;
	struct ql_toc_where where;
	bool if_shared;
	struct ql_buf buf; /* bytes of the blob, the section in them: */
	size_t section;
};

/* ---- reading ---- */

static int lazy_read(struct lazy *l, uint64_t offset, uint64_t len,
		     struct ql_buf *buf, struct ql_error *err)
{
	size_t had = buf->len;
	int r = l->read_range(l->arg, offset, len, buf, err);

	if (r == 0 && buf->len - had != len)
		r = ql_error_set(err, -EBADMSG,
				 "%zu bytes in place of %" PRIu64,
				 buf->len - had, len);
	return r < 0 ? ql_error_prefix(err, "table of contents") : 0;
}

/* Reads the tail, and in front of it what it lacks of the section. */
static int lazy_by_footer(struct lazy *l, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf tail = QL_BUF_INIT(TAIL_MAX);
	uint64_t size = l->d->size;
	uint64_t len = size / TAIL_SHARE;
	uint64_t start;
	int r;

	if (len < TAIL_MIN)
		len = TAIL_MIN;
	if (len > TAIL_MAX)
		len = TAIL_MAX;
	if (len > size)
		len = size;
	start = size - len;
	r = lazy_read(l, start, len, &tail, err);
	if (r == 0)
		r = ql_toc_footer(tail.data, tail.len, &l->where, err);
	if (r < 0)
		return r;
	if (l->where.offset < start) {
		r = lazy_read(l, l->where.offset, start - l->where.offset,
			      &l->buf, err);
		if (r < 0)
			return r;
		l->section = 0;
	} else {
		l->section = (size_t)(l->where.offset - start);
	}
	return ql_buf_add(&l->buf, tail.data, tail.len) < 0
		       ? ql_error_nomem(err)
		       : 0;
}

/* Reads the section alone, or with the footer where it stands right behind:
 * then they must agree. */
static int lazy_by_place(struct lazy *l, struct ql_error *err)
{
	const struct ql_toc_where *w = &l->where;
	uint64_t behind = l->d->size - w->offset - w->len;
	bool footer = behind <= QL_TOC_FOOTER_MAX;
	int r = lazy_read(l, w->offset, w->len + (footer ? behind : 0), &l->buf,
			  err);

	if (r < 0 || !footer)
		return r;
	return ql_toc_footer(l->buf.data, l->buf.len, &l->where, err);
}

/* ---- drafting ---- */

/* The table itself, as the file that it is of the tar. */
static int lazy_index_file(struct lazy *l, struct ql_tocdraft *td,
			   uint64_t size, struct ql_error *err)
{
	char name[] = QL_TOC_TAR_NAME;
	struct ql_tar_entry e = { .type = '0',
				  .path = name,
				  .link = name + sizeof(name) - 1,
				  .size = size };
	struct ql_place place = {
		.len = (uint32_t)size,
		.whole = true,
		.blob_offset = l->where.offset,
		.blob_len = l->where.len,
		.inner = QL_TOC_TAR_HEADER,
	};
	int r;

	if (size > QL_TOC_CHUNK_MAX)
		return ql_error_set(err, -ENOTSUP,
				    "a table of contents of %" PRIu64
				    " bytes is too large",
				    size);
	r = ql_draft_entry(td->draft, &e, &l->where.json_sum, err);
	return r < 0 ? r : ql_draft_place(td->draft, &place, err);
}

struct counted {
	struct ql_stream base;
	struct ql_stream *inner; /* owned */
	uint64_t bytes;
};

static ssize_t counted_read(struct ql_stream *s, void *buf, size_t len,
			    struct ql_error *err)
{
	struct counted *c = (struct counted *)s;
	ssize_t n = ql_stream_read(c->inner, buf, len, err);

	if (n > 0)
		c->bytes += (uint64_t)n;
	return n;
}

static const struct ql_stream_ops counted_ops = { counted_read, NULL };

static int lazy_draft(struct lazy *l, const struct ql_store *store,
		      struct ql_draft *draft, struct ql_error *err)
{
	_cleanup_tocdraft_ struct ql_tocdraft td = {
		.draft = draft,
		.content_end = l->where.content_end,
		.store = l->if_shared ? store : NULL,
	};
	_cleanup_stream_ struct ql_stream *json = NULL;
	struct counted counted = { .base = { &counted_ops } };
	int r = ql_toc_section_open(&l->where, l->buf.data + l->section,
				    (size_t)l->where.len, &json, err);

	if (r < 0)
		return r;
	counted.inner = json;
	r = ql_tocjson_read(&counted.base, ql_tocdraft_entry, &td, err);
	if (r == 0)
		r = ql_tocdraft_end(&td, err);
	if (r == 0 && !l->where.zstd)
		r = lazy_index_file(l, &td, counted.bytes, err);
	if (r == 0 && l->if_shared && !ql_share_pays(td.missing, td.bytes))
		r = ql_error_set(err, -ENOTSUP, "most of it is missing");
	return r;
}

/* A draft of all that the table says; owned. */
static int lazy_read_draft(struct lazy *l, struct ql_store *store,
			   struct ql_draft **ret_draft, struct ql_error *err)
{
	_cleanup_(ql_draft_freep) struct ql_draft *draft = NULL;
	int r = l->where.located ? lazy_by_place(l, err)
				 : lazy_by_footer(l, err);

	if (r == 0)
		r = ql_draft_new(store, &l->d->digest, l->d->size,
				 l->where.zstd ? QL_CODEC_ZSTD : QL_CODEC_GZIP,
				 &draft, err);
	if (r == 0)
		r = lazy_draft(l, store, draft, err);
	if (r == 0)
		*ret_draft = ql_take_ptr(draft);
	return r;
}

static int lazy_open(struct lazy *l, struct ql_store *store,
		     struct ql_draft **ret_draft, struct ql_error *err)
{
	int r = ql_toc_locate(l->d, &l->where, err);

	if (r < 0)
		return r;
	ql_buf_init(&l->buf, QL_TOC_SECTION_MAX + TAIL_MAX);
	r = lazy_read_draft(l, store, ret_draft, err);
	ql_buf_release(&l->buf);
	return r;
}

static int lazy_run(struct lazy *l, struct ql_store *store,
		    struct ql_layer_info *info, struct ql_error *err)
{
	_cleanup_(ql_draft_freep) struct ql_draft *draft = NULL;
	int r = lazy_open(l, store, &draft, err);

	return r < 0 ? r : ql_draft_commit(draft, info, err);
}

int ql_lazylayer_open(struct ql_store *store, const struct ql_descriptor *d,
		      ql_range_fn *read_range, void *arg,
		      struct ql_layer_info *info, struct ql_error *err)
{
	struct lazy l = { .d = d, .read_range = read_range, .arg = arg };

	return lazy_run(&l, store, info, err);
}

int ql_lazylayer_open_shared(struct ql_store *store,
			     const struct ql_descriptor *d,
			     ql_range_fn *read_range, void *arg,
			     struct ql_layer_info *info, struct ql_error *err)
{
	struct lazy l = {
		.d = d, .read_range = read_range, .arg = arg, .if_shared = true
	};

	return lazy_run(&l, store, info, err);
}

int ql_lazylayer_toc(struct ql_store *store, const struct ql_descriptor *d,
		     ql_range_fn *read_range, void *arg, struct ql_buf *buf,
		     struct ql_error *err)
{
	struct lazy l = { .d = d, .read_range = read_range, .arg = arg };
	_cleanup_(ql_draft_freep) struct ql_draft *draft = NULL;
	int r = lazy_open(&l, store, &draft, err);

	return r < 0 ? r : ql_draft_toc(draft, buf, err);
}
