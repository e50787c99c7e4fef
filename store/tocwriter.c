/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing a table of contents: rows are collected as they come, sorted at the
 * end, and put down in the order that toc.c reads.  What an outside source
 * says about places is checked here, before anything counts on it.
 */
#include "store/store-private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { TOC_FIRST = 256 };
#define TOC_BYTES_MAX ((size_t)1 << 31)

struct toc_blob {
	struct ql_digest digest;
	uint64_t size;
	enum ql_codec codec;
	uint32_t first_span;
};

struct toc_file {
	struct ql_digest digest;
	uint64_t size;
	uint32_t first_chunk, n_chunks;
};

struct toc_chunk {
	uint64_t offset, raw;
	uint32_t len;
	uint32_t file;	 /* as they came */
	uint32_t digest; /* number, or QL_TOC_FILES_OWN */
};

struct toc_rows {
	void *data; /* owned */
	size_t n, cap;
};

struct ql_toc_writer {
	struct toc_rows blobs, files, chunks, spans, digests; /* owned */
	struct ql_buf windows;
	uint32_t *buckets; /* owned; files by digest: index + 1, or 0 */
	size_t n_buckets;
	uint64_t raw;	   /* end of the last span */
	uint64_t blob_pos; /* end of the last span in its blob */
	uint64_t file_pos; /* end of the last chunk in its file */
	bool skipping;	   /* the last file is known already */
	bool open;	   /* the last span has no length yet */
};

/* ---- rows ---- */

static void *rows_add(struct toc_rows *rows, size_t size, size_t max)
{
	if (rows->n == max)
		return NULL;
	if (rows->n == rows->cap) {
		size_t cap = rows->cap ? rows->cap * 2 : TOC_FIRST;
		void *grown = reallocarray(rows->data, cap, size);

		if (!grown)
			return NULL;
		rows->data = grown;
		rows->cap = cap;
	}
	return (char *)rows->data + size * rows->n++;
}

static int rows_error(const struct toc_rows *rows, size_t max, const char *what,
		      struct ql_error *err)
{
	if (rows->n < max)
		return ql_error_nomem(err);
	return ql_error_set(err, -E2BIG,
			    "a table of contents of more than %zu %s", max,
			    what);
}

int ql_toc_writer_new(struct ql_toc_writer **ret_w, struct ql_error *err)
{
	struct ql_toc_writer *w = calloc(1, sizeof(*w));

	if (!w)
		return ql_error_nomem(err);
	ql_buf_init(&w->windows, TOC_BYTES_MAX);
	*ret_w = w;
	return 0;
}

void ql_toc_writer_free(struct ql_toc_writer *w)
{
	if (!w)
		return;
	free(w->blobs.data);
	free(w->files.data);
	free(w->chunks.data);
	free(w->spans.data);
	free(w->digests.data);
	ql_buf_release(&w->windows);
	free(w->buckets);
	free(w);
}

/* ---- known files ---- */

static size_t file_slot(const struct ql_toc_writer *w,
			const struct ql_digest *digest)
{
	const struct toc_file *files = w->files.data;
	uint64_t hash;
	size_t slot;

	memcpy(&hash, digest->bytes, sizeof(hash));
	slot = (size_t)hash & (w->n_buckets - 1);
	while (w->buckets[slot] != 0 &&
	       !ql_digest_equal(&files[w->buckets[slot] - 1].digest, digest))
		slot = (slot + 1) & (w->n_buckets - 1);
	return slot;
}

/* Keeps the table at most half full. */
static int files_rehash(struct ql_toc_writer *w)
{
	const struct toc_file *files = w->files.data;
	size_t n = w->n_buckets ? w->n_buckets * 2 : 4 * (size_t)TOC_FIRST;
	uint32_t *buckets;

	if (w->files.n * 2 < w->n_buckets)
		return 0;
	buckets = calloc(n, sizeof(*buckets));
	if (!buckets)
		return -ENOMEM;
	free(w->buckets);
	w->buckets = buckets;
	w->n_buckets = n;
	for (size_t i = 0; i < w->files.n; i++)
		w->buckets[file_slot(w, &files[i].digest)] = (uint32_t)i + 1;
	return 0;
}

/* ---- adding ---- */

int ql_toc_writer_blob(struct ql_toc_writer *w, const struct ql_digest *digest,
		       uint64_t size, enum ql_codec codec, struct ql_error *err)
{
	struct toc_blob *b;

	if (w->open)
		return ql_error_set(err, -EINVAL, "a span was left open");
	b = rows_add(&w->blobs, sizeof(*b), QL_TOC_BLOBS_MAX);
	if (!b)
		return rows_error(&w->blobs, QL_TOC_BLOBS_MAX, "blobs", err);
	*b = (struct toc_blob){ *digest, size, codec, (uint32_t)w->spans.n };
	w->blob_pos = 0;
	return 0;
}

static int span_check(const struct ql_toc_writer *w,
		      const struct ql_toc_span *span, struct ql_error *err)
{
	const struct toc_blob *blobs = w->blobs.data;
	const struct toc_blob *b;

	if (w->blobs.n == 0)
		return ql_error_set(err, -EINVAL, "a span of no blob");
	b = &blobs[w->blobs.n - 1];
	if (span->offset >= b->size || span->len > b->size - span->offset)
		return ql_error_set(err, -EBADMSG,
				    "content at %" PRIu64 " (%" PRIu64
				    " bytes) of a blob of %" PRIu64,
				    span->offset, span->len, b->size);
	if (span->offset < w->blob_pos)
		return ql_error_set(err, -EBADMSG,
				    "content at %" PRIu64
				    " overlaps what ends at %" PRIu64,
				    span->offset, w->blob_pos);
	if (span->raw_len > (uint64_t)INT64_MAX - w->raw)
		return ql_error_set(err, -EBADMSG,
				    "content of %" PRIu64 " bytes",
				    span->raw_len);
	return 0;
}

int ql_toc_writer_span(struct ql_toc_writer *w, const struct ql_toc_span *span,
		       uint64_t *ret_raw, struct ql_error *err)
{
	struct ql_toc_span *s;
	int r = ql_toc_writer_close(w, span->offset, err);

	if (r == 0)
		r = span_check(w, span, err);
	if (r < 0)
		return r;
	s = rows_add(&w->spans, sizeof(*s), QL_TOC_CHUNKS_MAX);
	if (!s)
		return rows_error(&w->spans, QL_TOC_CHUNKS_MAX, "spans", err);
	*s = *span;
	s->blob = (uint32_t)w->blobs.n - 1;
	s->raw = w->raw;
	s->window = NULL;
	if (span->window_len > 0) {
		if (ql_buf_add(&w->windows, span->window, span->window_len) < 0)
			return ql_error_nomem(err);
	}
	/* Checkpoints read on into the byte at which the next one starts. */
	w->blob_pos = span->checkpoint && span->len > 0
			      ? span->offset + span->len - 1
			      : span->offset + span->len;
	w->open = span->len == 0;
	*ret_raw = w->raw;
	w->raw += span->raw_len;
	return 0;
}

int ql_toc_writer_close(struct ql_toc_writer *w, uint64_t end,
			struct ql_error *err)
{
	const struct toc_blob *blobs = w->blobs.data;
	struct ql_toc_span *spans = w->spans.data;
	struct ql_toc_span *s;

	if (!w->open)
		return 0;
	s = &spans[w->spans.n - 1];
	if (end <= s->offset || end > blobs[w->blobs.n - 1].size)
		return ql_error_set(err, -EBADMSG,
				    "content at %" PRIu64 " ends at %" PRIu64,
				    s->offset, end);
	s->len = end - s->offset;
	w->blob_pos = end;
	w->open = false;
	return 0;
}

int ql_toc_writer_grow(struct ql_toc_writer *w, uint64_t raw_len,
		       struct ql_error *err)
{
	struct ql_toc_span *spans = w->spans.data;
	struct ql_toc_span *s;

	if (w->spans.n == 0)
		return ql_error_set(err, -EINVAL, "no span to grow");
	s = &spans[w->spans.n - 1];
	if (raw_len <= s->raw_len)
		return 0;
	if (raw_len > (uint64_t)INT64_MAX - s->raw)
		return ql_error_set(err, -EBADMSG,
				    "content of %" PRIu64 " bytes", raw_len);
	s->raw_len = raw_len;
	w->raw = s->raw + raw_len;
	return 0;
}

bool ql_toc_writer_skips(const struct ql_toc_writer *w)
{
	return w->skipping;
}

int ql_toc_writer_file(struct ql_toc_writer *w, const struct ql_digest *digest,
		       uint64_t size, struct ql_error *err)
{
	struct toc_file *f;
	size_t slot;

	if (files_rehash(w) < 0)
		return ql_error_nomem(err);
	slot = file_slot(w, digest);
	w->skipping = w->buckets[slot] != 0;
	if (w->skipping)
		return 0;
	if (size > INT64_MAX)
		return ql_error_set(err, -EBADMSG,
				    "a file of %" PRIu64 " bytes", size);
	f = rows_add(&w->files, sizeof(*f), QL_TOC_FILES_MAX);
	if (!f)
		return rows_error(&w->files, QL_TOC_FILES_MAX, "files", err);
	*f = (struct toc_file){ *digest, size, (uint32_t)w->chunks.n, 0 };
	w->buckets[slot] = (uint32_t)w->files.n;
	w->file_pos = 0;
	return 0;
}

static int chunk_check(const struct ql_toc_writer *w, uint64_t offset,
		       uint32_t len, uint64_t raw, struct ql_error *err)
{
	const struct toc_file *files = w->files.data;
	const struct toc_file *f;

	if (w->files.n == 0)
		return ql_error_set(err, -EINVAL, "a chunk of no file");
	f = &files[w->files.n - 1];
	if (len == 0 || len > QL_TOC_CHUNK_MAX)
		return ql_error_set(err, -EBADMSG,
				    "a chunk of %" PRIu32 " bytes", len);
	if (offset > f->size || len > f->size - offset)
		return ql_error_set(err, -EBADMSG,
				    "a chunk at %" PRIu64 " (%" PRIu32
				    " bytes) of a file of %" PRIu64,
				    offset, len, f->size);
	if (offset < w->file_pos)
		return ql_error_set(err, -EBADMSG,
				    "a chunk at %" PRIu64
				    " overlaps what ends at %" PRIu64,
				    offset, w->file_pos);
	if (raw > (uint64_t)INT64_MAX - len)
		return ql_error_set(err, -EBADMSG, "a chunk at %" PRIu64, raw);
	return 0;
}

int ql_toc_writer_chunk(struct ql_toc_writer *w, uint64_t offset, uint32_t len,
			uint64_t raw, const struct ql_digest *digest,
			struct ql_error *err)
{
	struct toc_file *files = w->files.data;
	struct toc_chunk *c;
	struct ql_digest *d;
	int r;

	if (w->skipping)
		return 0;
	r = chunk_check(w, offset, len, raw, err);
	if (r < 0)
		return r;
	c = rows_add(&w->chunks, sizeof(*c), QL_TOC_CHUNKS_MAX);
	if (!c)
		return rows_error(&w->chunks, QL_TOC_CHUNKS_MAX, "chunks", err);
	*c = (struct toc_chunk){ offset, raw, len, (uint32_t)w->files.n - 1,
				 QL_TOC_FILES_OWN };
	files[w->files.n - 1].n_chunks++;
	w->file_pos = offset + len;
	if (!digest)
		return 0;
	d = rows_add(&w->digests, sizeof(*d), QL_TOC_CHUNKS_MAX);
	if (!d)
		return rows_error(&w->digests, QL_TOC_CHUNKS_MAX, "chunks",
				  err);
	*d = *digest;
	c->digest = (uint32_t)w->digests.n - 1;
	return 0;
}

/* ---- putting down ---- */

static int raw_cmp(const void *a, const void *b, void *arg)
{
	const struct toc_chunk *chunks = arg;
	uint32_t ia = *(const uint32_t *)a, ib = *(const uint32_t *)b;
	uint64_t x = chunks[ia].raw, y = chunks[ib].raw;

	if (x != y)
		return x < y ? -1 : 1;
	return (ia > ib) - (ia < ib);
}

static uint32_t *sorted_by_digest(const struct ql_toc_writer *w)
{
	const struct toc_file *files = w->files.data;

	if (w->files.n == 0)
		return calloc(1, sizeof(uint32_t));
	return ql_digest_order(&files->digest, (uint32_t)w->files.n,
			       sizeof(*files));
}

static uint32_t *sorted_by_raw(const struct ql_toc_writer *w)
{
	size_t n = w->chunks.n;
	uint32_t *order = calloc(n + 1, sizeof(*order));

	if (!order)
		return NULL;
	for (size_t i = 0; i < n; i++)
		order[i] = (uint32_t)i;
	if (n > 0)
		qsort_r(order, n, sizeof(*order), raw_cmp, w->chunks.data);
	return order;
}

/* Room was reserved for all of them. */
static void put32(struct ql_buf *buf, uint64_t v)
{
	(void)ql_buf_add_le32(buf, (uint32_t)v);
}

static void put64(struct ql_buf *buf, uint64_t v)
{
	(void)ql_buf_add_le64(buf, v);
}

static void put_digest(struct ql_buf *buf, const struct ql_digest *d)
{
	(void)ql_buf_add(buf, d->bytes, QL_DIGEST_BYTES);
}

static void put_header(const struct ql_toc_writer *w, struct ql_buf *buf)
{
	static const struct ql_digest none;

	(void)ql_buf_add(buf, QL_TOC_MAGIC, sizeof(QL_TOC_MAGIC) - 1);
	put32(buf, w->blobs.n);
	put32(buf, w->files.n);
	put32(buf, w->chunks.n);
	put32(buf, w->digests.n);
	put32(buf, w->spans.n);
	put32(buf, 0);
	put64(buf, w->windows.len);
	put_digest(buf, &none); /* filled in at the end */
}

static void put_blobs(const struct ql_toc_writer *w, struct ql_buf *buf)
{
	const struct toc_blob *blobs = w->blobs.data;

	for (size_t i = 0; i < w->blobs.n; i++) {
		put_digest(buf, &blobs[i].digest);
		put64(buf, blobs[i].size);
		put32(buf, blobs[i].codec);
		put32(buf, blobs[i].first_span);
	}
}

static void put_files(const struct ql_toc_writer *w, const uint32_t *order,
		      struct ql_buf *buf)
{
	const struct toc_file *files = w->files.data;

	for (size_t i = 0; i < w->files.n; i++) {
		const struct toc_file *f = &files[order[i]];

		put_digest(buf, &f->digest);
		put64(buf, f->size);
		put32(buf, f->first_chunk);
		put32(buf, f->n_chunks);
	}
}

/* number: from a file's place as it came to its place in the table. */
static void put_chunks(const struct ql_toc_writer *w, const uint32_t *number,
		       struct ql_buf *buf)
{
	const struct toc_chunk *chunks = w->chunks.data;

	for (size_t i = 0; i < w->chunks.n; i++) {
		put64(buf, chunks[i].offset);
		put64(buf, chunks[i].raw);
		put32(buf, chunks[i].len);
		put32(buf, number[chunks[i].file]);
		put32(buf, chunks[i].digest);
		put32(buf, 0);
	}
}

static void put_spans(const struct ql_toc_writer *w, struct ql_buf *buf)
{
	const struct ql_toc_span *spans = w->spans.data;
	uint64_t window = 0;

	for (size_t i = 0; i < w->spans.n; i++) {
		const struct ql_toc_span *s = &spans[i];

		put64(buf, s->offset);
		put64(buf, s->len);
		put64(buf, s->raw);
		put64(buf, s->raw_len);
		put32(buf, s->blob);
		put32(buf, (uint32_t)s->bits | (s->checkpoint ? 0x100U : 0));
		put64(buf, window);
		put32(buf, s->window_len);
		put32(buf, 0);
		window += s->window_len;
	}
}

static size_t writer_bytes(const struct ql_toc_writer *w)
{
	return QL_TOC_HEADER + QL_TOC_BLOB * w->blobs.n +
	       QL_TOC_FILE * w->files.n + (QL_TOC_CHUNK + 4) * w->chunks.n +
	       QL_DIGEST_BYTES * w->digests.n + QL_TOC_SPAN * w->spans.n +
	       w->windows.len;
}

static int writer_put(const struct ql_toc_writer *w, const uint32_t *by_digest,
		      const uint32_t *by_raw, struct ql_buf *buf)
{
	const struct ql_digest *digests = w->digests.data;
	_cleanup_free_ uint32_t *number =
		calloc(w->files.n + 1, sizeof(*number));
	struct ql_digest sum;
	size_t start = buf->len;

	if (!number || ql_buf_reserve(buf, writer_bytes(w)) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < w->files.n; i++)
		number[by_digest[i]] = (uint32_t)i;
	put_header(w, buf);
	put_blobs(w, buf);
	put_files(w, by_digest, buf);
	put_chunks(w, number, buf);
	for (size_t i = 0; i < w->chunks.n; i++)
		put32(buf, by_raw[i]);
	for (size_t i = 0; i < w->digests.n; i++)
		put_digest(buf, &digests[i]);
	put_spans(w, buf);
	if (w->windows.len > 0)
		(void)ql_buf_add(buf, w->windows.data, w->windows.len);
	if (ql_digest_of(buf->data + start + QL_TOC_HEADER,
			 buf->len - start - QL_TOC_HEADER, &sum) < 0)
		return -ENOMEM;
	memcpy(buf->data + start + QL_TOC_HEADER - QL_DIGEST_BYTES, sum.bytes,
	       QL_DIGEST_BYTES);
	return 0;
}

/* All spans are known only now. */
static int chunks_check(const struct ql_toc_writer *w, struct ql_error *err)
{
	const struct toc_chunk *chunks = w->chunks.data;

	for (size_t i = 0; i < w->chunks.n; i++)
		if (chunks[i].raw + chunks[i].len > w->raw)
			return ql_error_set(err, -EBADMSG,
					    "a chunk that is in no span");
	return 0;
}

int ql_toc_writer_finish(struct ql_toc_writer *w, struct ql_buf *buf,
			 struct ql_error *err)
{
	int r = chunks_check(w, err);
	_cleanup_free_ uint32_t *by_digest = sorted_by_digest(w);
	_cleanup_free_ uint32_t *by_raw = sorted_by_raw(w);

	if (w->open)
		return ql_error_set(err, -EBADMSG, "content that ends nowhere");
	if (r < 0)
		return r;
	if (!by_digest || !by_raw || writer_put(w, by_digest, by_raw, buf) < 0)
		return ql_error_nomem(err);
	return 0;
}
