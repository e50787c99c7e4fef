/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a table of contents through mmap.  The file (little-endian):
 *
 *   header   "QLTOC\0\0\1", u32 blobs, u32 files, u32 chunks, u32 digests,
 *            u32 spans, u32 0, u64 bytes of windows, sha256 of all that follows
 *   blobs    digest, u64 size, u32 codec, u32 first span
 *   files    digest, u64 size, u32 first chunk, u32 chunks    (by digest)
 *   chunks   u64 offset in the file, u64 raw, u32 length, u32 file,
 *            u32 digest (number, or ~0: the file's), u32 0    (by file)
 *   order    u32 chunk                                        (by raw)
 *   digests  digest
 *   spans    u64 offset, u64 length, u64 raw, u64 raw length,
 *            u32 blob, u32 bits | checkpoint << 8,
 *            u64 window's offset, u32 window's length, u32 0  (by raw)
 *   windows  bytes
 *
 * Opening checks that the tables fill the file; every access checks what it
 * reads, so that a damaged table is an error and not a wrong read.
 */
#include "store/store-private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

struct ql_toc {
	const uint8_t *data; /* mapped or borrowed */
	size_t len;
	bool mapped;
	uint32_t n_blobs, n_files, n_chunks, n_digests, n_spans;
	uint64_t windows_len;
	/* Positions of the tables. */
	size_t blobs, files, chunks, order, digests, spans, windows;
};

/* ---- opening ---- */

/* Bounds were checked: n is below the table's length. */
static struct ql_cursor row(const struct ql_toc *toc, size_t table, size_t size,
			    uint32_t n)
{
	struct ql_cursor c;

	ql_cursor_init(&c, toc->data + table + size * n, size);
	return c;
}

static void row_digest(struct ql_cursor *c, struct ql_digest *ret)
{
	const uint8_t *p = ql_cursor_bytes(c, QL_DIGEST_BYTES);

	if (p)
		memcpy(ret->bytes, p, QL_DIGEST_BYTES);
}

static int toc_layout(struct ql_toc *toc)
{
	struct ql_cursor c;
	const uint8_t *magic;
	uint32_t reserved;
	uint64_t end;

	ql_cursor_init(&c, toc->data, toc->len);
	magic = ql_cursor_bytes(&c, sizeof(QL_TOC_MAGIC) - 1);
	toc->n_blobs = ql_cursor_le32(&c);
	toc->n_files = ql_cursor_le32(&c);
	toc->n_chunks = ql_cursor_le32(&c);
	toc->n_digests = ql_cursor_le32(&c);
	toc->n_spans = ql_cursor_le32(&c);
	reserved = ql_cursor_le32(&c);
	toc->windows_len = ql_cursor_le64(&c);
	ql_cursor_skip(&c, QL_DIGEST_BYTES);
	if (c.bad || !magic || reserved != 0 ||
	    memcmp(magic, QL_TOC_MAGIC, sizeof(QL_TOC_MAGIC) - 1) != 0)
		return -EBADMSG;
	if (toc->n_blobs > QL_TOC_BLOBS_MAX ||
	    toc->n_files > QL_TOC_FILES_MAX ||
	    toc->n_chunks > QL_TOC_CHUNKS_MAX ||
	    toc->n_digests > QL_TOC_CHUNKS_MAX ||
	    toc->n_spans > QL_TOC_CHUNKS_MAX || toc->windows_len > toc->len)
		return -EBADMSG;
	toc->blobs = QL_TOC_HEADER;
	toc->files = toc->blobs + (size_t)QL_TOC_BLOB * toc->n_blobs;
	toc->chunks = toc->files + (size_t)QL_TOC_FILE * toc->n_files;
	toc->order = toc->chunks + (size_t)QL_TOC_CHUNK * toc->n_chunks;
	toc->digests = toc->order + 4 * (size_t)toc->n_chunks;
	toc->spans = toc->digests + QL_DIGEST_BYTES * (size_t)toc->n_digests;
	toc->windows = toc->spans + (size_t)QL_TOC_SPAN * toc->n_spans;
	end = toc->windows + toc->windows_len;
	return end == toc->len ? 0 : -EBADMSG;
}

static int toc_new(const uint8_t *data, size_t len, bool mapped,
		   struct ql_toc **ret_toc)
{
	struct ql_toc *toc = calloc(1, sizeof(*toc));
	int r;

	if (!toc)
		return -ENOMEM;
	toc->data = data;
	toc->len = len;
	toc->mapped = mapped;
	r = toc_layout(toc);
	if (r < 0) {
		free(toc);
		return r;
	}
	*ret_toc = toc;
	return 0;
}

int ql_toc_open(int root_fd, const char *path, struct ql_toc **ret_toc,
		struct ql_error *err)
{
	_cleanup_close_ int fd = openat(root_fd, path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *p;
	int r;

	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0 || fstat(fd, &st) < 0)
		return ql_error_errno(err, -errno, "%s", path);
	if (st.st_size < QL_TOC_HEADER)
		return ql_error_set(err, -EBADMSG, "%s: damaged", path);
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return ql_error_errno(err, -errno, "%s", path);
	r = toc_new(p, (size_t)st.st_size, true, ret_toc);
	if (r == 0)
		return 0;
	(void)munmap(p, (size_t)st.st_size);
	return r == -ENOMEM ? ql_error_nomem(err)
			    : ql_error_set(err, r, "%s: damaged", path);
}

int ql_toc_open_mem(const void *data, size_t len, struct ql_toc **ret_toc,
		    struct ql_error *err)
{
	int r = toc_new(data, len, false, ret_toc);

	if (r == -ENOMEM)
		return ql_error_nomem(err);
	return r < 0 ? ql_error_set(err, r, "not a table of contents") : 0;
}

void ql_toc_close(struct ql_toc *toc)
{
	if (!toc)
		return;
	if (toc->mapped)
		(void)munmap((void *)(uintptr_t)toc->data, toc->len);
	free(toc);
}

void ql_toc_relax(const struct ql_toc *toc)
{
	if (toc->mapped)
		(void)madvise((void *)(uintptr_t)toc->data, toc->len,
			      MADV_DONTNEED);
}

/* ---- rows ---- */

uint32_t ql_toc_blobs(const struct ql_toc *toc)
{
	return toc->n_blobs;
}

uint32_t ql_toc_files(const struct ql_toc *toc)
{
	return toc->n_files;
}

uint32_t ql_toc_chunks(const struct ql_toc *toc)
{
	return toc->n_chunks;
}

uint32_t ql_toc_spans(const struct ql_toc *toc)
{
	return toc->n_spans;
}

static uint32_t blob_first_span(const struct ql_toc *toc, uint32_t i)
{
	struct ql_cursor c = row(toc, toc->blobs, QL_TOC_BLOB, i);

	ql_cursor_skip(&c, QL_DIGEST_BYTES + 8 + 4);
	return ql_cursor_le32(&c);
}

int ql_toc_blob(const struct ql_toc *toc, uint32_t i, struct ql_toc_blob *ret)
{
	struct ql_toc_blob b;
	struct ql_cursor c;
	uint32_t codec, end = toc->n_spans;

	if (i >= toc->n_blobs)
		return -EBADMSG;
	c = row(toc, toc->blobs, QL_TOC_BLOB, i);
	row_digest(&c, &b.digest);
	b.size = ql_cursor_le64(&c);
	codec = ql_cursor_le32(&c);
	b.first_span = ql_cursor_le32(&c);
	if (i + 1 < toc->n_blobs)
		end = blob_first_span(toc, i + 1);
	if (codec > QL_CODEC_ZSTD || b.first_span > end || end > toc->n_spans)
		return -EBADMSG;
	b.codec = (enum ql_codec)codec;
	b.n_spans = end - b.first_span;
	*ret = b;
	return 0;
}

int ql_toc_file(const struct ql_toc *toc, uint32_t i, struct ql_toc_file *ret)
{
	struct ql_toc_file f = { .index = i };
	struct ql_cursor c;

	if (i >= toc->n_files)
		return -EBADMSG;
	c = row(toc, toc->files, QL_TOC_FILE, i);
	row_digest(&c, &f.digest);
	f.size = ql_cursor_le64(&c);
	f.first_chunk = ql_cursor_le32(&c);
	f.n_chunks = ql_cursor_le32(&c);
	if (f.first_chunk > toc->n_chunks ||
	    f.n_chunks > toc->n_chunks - f.first_chunk || f.size > INT64_MAX)
		return -EBADMSG;
	*ret = f;
	return 0;
}

static int chunk_digest(const struct ql_toc *toc, uint32_t n,
			const struct ql_toc_file *f, struct ql_digest *ret)
{
	struct ql_cursor c;

	if (n == QL_TOC_FILES_OWN) {
		*ret = f->digest;
		return 0;
	}
	if (n >= toc->n_digests)
		return -EBADMSG;
	c = row(toc, toc->digests, QL_DIGEST_BYTES, n);
	row_digest(&c, ret);
	return 0;
}

int ql_toc_chunk(const struct ql_toc *toc, uint32_t i, struct ql_toc_chunk *ret)
{
	struct ql_toc_chunk k = { 0 };
	struct ql_toc_file f;
	struct ql_cursor c;
	uint32_t n;
	int r;

	if (i >= toc->n_chunks)
		return -EBADMSG;
	c = row(toc, toc->chunks, QL_TOC_CHUNK, i);
	k.offset = ql_cursor_le64(&c);
	k.raw = ql_cursor_le64(&c);
	k.len = ql_cursor_le32(&c);
	k.file = ql_cursor_le32(&c);
	n = ql_cursor_le32(&c);
	r = ql_toc_file(toc, k.file, &f);
	if (r < 0)
		return r;
	if (i < f.first_chunk || i - f.first_chunk >= f.n_chunks ||
	    k.len == 0 || k.len > QL_TOC_CHUNK_MAX || k.offset > f.size ||
	    k.len > f.size - k.offset || k.raw > INT64_MAX)
		return -EBADMSG;
	r = chunk_digest(toc, n, &f, &k.digest);
	if (r == 0)
		*ret = k;
	return r;
}

static uint64_t span_raw(const struct ql_toc *toc, uint32_t i)
{
	struct ql_cursor c = row(toc, toc->spans, QL_TOC_SPAN, i);

	ql_cursor_skip(&c, 16);
	return ql_cursor_le64(&c);
}

int ql_toc_span(const struct ql_toc *toc, uint32_t i, struct ql_toc_span *ret)
{
	struct ql_toc_span s = { 0 };
	struct ql_toc_blob b;
	struct ql_cursor c;
	uint64_t window;
	uint32_t flags;
	int r;

	if (i >= toc->n_spans)
		return -EBADMSG;
	c = row(toc, toc->spans, QL_TOC_SPAN, i);
	s.offset = ql_cursor_le64(&c);
	s.len = ql_cursor_le64(&c);
	s.raw = ql_cursor_le64(&c);
	s.raw_len = ql_cursor_le64(&c);
	s.blob = ql_cursor_le32(&c);
	flags = ql_cursor_le32(&c);
	window = ql_cursor_le64(&c);
	s.window_len = ql_cursor_le32(&c);
	r = ql_toc_blob(toc, s.blob, &b);
	if (r < 0)
		return r;
	if (i < b.first_span || i - b.first_span >= b.n_spans ||
	    s.offset > b.size || s.len > b.size - s.offset || s.len == 0 ||
	    s.raw > INT64_MAX || s.raw_len > INT64_MAX - s.raw ||
	    window > toc->windows_len ||
	    s.window_len > toc->windows_len - window || (flags & 0xff) > 7)
		return -EBADMSG;
	s.codec = b.codec;
	s.bits = (uint8_t)(flags & 0xff);
	s.checkpoint = flags >> 8 != 0;
	if ((s.bits > 0 && s.offset == 0))
		return -EBADMSG;
	if (s.window_len > 0)
		s.window = toc->data + toc->windows + window;
	*ret = s;
	return 0;
}

/* ---- searching ---- */

int ql_toc_find(const struct ql_toc *toc, const struct ql_digest *digest,
		struct ql_toc_file *ret_file)
{
	uint32_t low = 0, high = toc->n_files;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		int d = memcmp(toc->data + toc->files +
				       (size_t)QL_TOC_FILE * mid,
			       digest->bytes, QL_DIGEST_BYTES);

		if (d == 0)
			return ql_toc_file(toc, mid, ret_file);
		if (d < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return -ENOENT;
}

int ql_toc_span_at(const struct ql_toc *toc, uint64_t raw, uint32_t *ret_span)
{
	uint32_t low = 0, high = toc->n_spans;
	struct ql_toc_span s;
	int r;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (span_raw(toc, mid) <= raw)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == 0)
		return -ENOENT;
	r = ql_toc_span(toc, low - 1, &s);
	if (r < 0)
		return r;
	if (raw - s.raw >= s.raw_len)
		return -ENOENT;
	*ret_span = low - 1;
	return 0;
}

int ql_toc_ordered(const struct ql_toc *toc, uint32_t k, uint32_t *ret_chunk)
{
	struct ql_cursor c;
	uint32_t chunk;

	if (k >= toc->n_chunks)
		return -EBADMSG;
	c = row(toc, toc->order, 4, k);
	chunk = ql_cursor_le32(&c);
	if (chunk >= toc->n_chunks)
		return -EBADMSG;
	*ret_chunk = chunk;
	return 0;
}

static uint64_t ordered_raw(const struct ql_toc *toc, uint32_t k)
{
	struct ql_cursor c;
	uint32_t chunk;

	if (ql_toc_ordered(toc, k, &chunk) < 0)
		return 0;
	c = row(toc, toc->chunks, QL_TOC_CHUNK, chunk);
	ql_cursor_skip(&c, 8);
	return ql_cursor_le64(&c);
}

uint32_t ql_toc_order_from(const struct ql_toc *toc, uint64_t raw)
{
	uint32_t low = 0, high = toc->n_chunks;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (ordered_raw(toc, mid) < raw)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* ---- checking ---- */

/* They must ascend, or content would not be found. */
static int check_files(const struct ql_toc *toc)
{
	struct ql_digest last = { 0 };
	struct ql_toc_file file;

	for (uint32_t i = 0; i < toc->n_files; i++) {
		int r = ql_toc_file(toc, i, &file);

		if (r < 0)
			return r;
		if (i > 0 && ql_digest_cmp(&last, &file.digest) >= 0)
			return -EBADMSG;
		last = file.digest;
	}
	return 0;
}

/* The order ascends, by raw position and number, so that each is in it. */
static int check_chunks(const struct ql_toc *toc)
{
	uint32_t at, last = 0, span;
	struct ql_toc_chunk chunk;
	uint64_t before = 0;

	for (uint32_t k = 0; k < toc->n_chunks; k++) {
		int r = ql_toc_ordered(toc, k, &at);

		if (r == 0)
			r = ql_toc_chunk(toc, at, &chunk);
		if (r < 0)
			return r;
		if (k > 0 &&
		    (chunk.raw < before || (chunk.raw == before && at <= last)))
			return -EBADMSG;
		if (ql_toc_span_at(toc, chunk.raw, &span) < 0)
			return -EBADMSG;
		before = chunk.raw;
		last = at;
	}
	return 0;
}

static int check_rows(const struct ql_toc *toc)
{
	struct ql_toc_span span;
	struct ql_toc_blob blob;
	uint64_t before = 0;
	int r = check_files(toc);

	for (uint32_t i = 0; i < toc->n_blobs && r == 0; i++)
		r = ql_toc_blob(toc, i, &blob);
	for (uint32_t i = 0; i < toc->n_spans && r == 0; i++) {
		r = ql_toc_span(toc, i, &span);
		if (r == 0 && span.raw < before)
			r = -EBADMSG;
		before = r == 0 ? span.raw + span.raw_len : 0;
	}
	return r < 0 ? r : check_chunks(toc);
}

int ql_toc_check(const struct ql_toc *toc, struct ql_error *err)
{
	struct ql_digest sum;
	int r = ql_digest_of(toc->data + QL_TOC_HEADER,
			     toc->len - QL_TOC_HEADER, &sum);

	if (r < 0)
		return ql_error_nomem(err);
	if (memcmp(sum.bytes, toc->data + QL_TOC_HEADER - QL_DIGEST_BYTES,
		   QL_DIGEST_BYTES) != 0)
		return ql_error_set(err, -EBADMSG,
				    "the table of contents does not match its "
				    "checksum");
	r = check_rows(toc);
	return r < 0 ? ql_error_set(err, r,
				    "the table of contents is malformed")
		     : 0;
}
