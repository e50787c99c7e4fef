/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A start blob: what a node needs to start an image that it has nothing of, in
 * one blob that is fetched front to back.  It begins with one zstd frame, the
 * head:
 *
 *   "QLSTART\1"
 *   u64 bytes of: tree, configuration, places, hot     (little-endian)
 *   tree           the merged tree, a composefs image
 *   configuration  the image's
 *   places         where each file's content is, in the layers' blobs
 *   hot            what follows the head
 *
 * After the head come zstd frames with those parts of files that the trace
 * names, in its order.  Numbers in places and hot are varints (LEB128), z: of
 * either sign (zigzag); files are numbered as ql_object_list_init() does.
 *
 *   places  blobs, for each: digest, size, codec, spans, for each: z offset
 *             after the last one's end, length, raw length, bits + 8 if it is
 *             a checkpoint, with its window's length
 *           files, for each: chunks, for each: z offset after the last one's
 *             end, length, z raw after the last one's end, whether it has a
 *             digest of its own, and that
 *           windows
 *   hot     frames, for each: length, raw length
 *           pieces, for each: z file after the last one's, offset, length,
 *             whether it has a digest of its own, and that
 */
#include "fetch/start-private.h"

#include <errno.h>
#include <string.h>
#include <zstd.h>

enum {
	PIECE_MAX = 128 << 10, /* bytes of a file, verified at once */
	FRAME_MAX = 256 << 10, /* bytes in a frame */
	PAGE = 4096,
	SMALL = 64 << 10, /* a file that is not worth cutting */
	HEAD_LEVEL = 19,
};
#define PART_MAX ((size_t)1 << 30)

/* ---- numbers ---- */

/* Errors stay in w->error, so that a run of them is checked once. */
struct put {
	struct ql_buf buf;
	int error;
};

static void put_bytes(struct put *w, const void *data, size_t len)
{
	if (w->error == 0)
		w->error = ql_buf_add(&w->buf, data, len);
}

static void put_num(struct put *w, uint64_t v)
{
	uint8_t bytes[10];
	size_t n = 0;

	do {
		bytes[n] = (uint8_t)(v & 0x7f);
		v >>= 7;
		if (v > 0)
			bytes[n] |= 0x80;
		n++;
	} while (v > 0);
	put_bytes(w, bytes, n);
}

static void put_signed(struct put *w, uint64_t v)
{
	put_num(w, v << 1 ^ (v >> 63 ? UINT64_MAX : 0));
}

static void put_digest(struct put *w, const struct ql_digest *own)
{
	put_num(w, own ? 1 : 0);
	if (own)
		put_bytes(w, own->bytes, QL_DIGEST_BYTES);
}

/* ---- places ---- */

struct places {
	struct ql_object_list list; /* owned */
	struct ql_toc *const *tocs; /* borrowed */
	size_t n_tocs;
	/* Owned, for each table: new raw position of each span that is used,
	 * plus one; 0: it is not. */
	uint64_t **raw;
};

static void places_release(struct places *p)
{
	for (size_t t = 0; p->raw && t < p->n_tocs; t++)
		free(p->raw[t]);
	free(p->raw);
	ql_object_list_release(&p->list);
}

/* The first table that knows a file. */
static int places_find(const struct places *p, uint32_t file, size_t *ret_toc,
		       struct ql_toc_file *ret_entry)
{
	for (size_t t = 0; t < p->n_tocs; t++) {
		if (ql_toc_find(p->tocs[t], &p->list.items[file].digest,
				ret_entry) == 0) {
			*ret_toc = t;
			return 0;
		}
	}
	return -ENOENT;
}

static int places_mark(struct places *p, uint32_t file, struct ql_error *err)
{
	char text[QL_DIGEST_TEXT + 1];
	struct ql_toc_file entry;
	size_t t;
	int r = places_find(p, file, &t, &entry);

	if (r < 0)
		return ql_error_set(
			err, r, "no layer's table of contents has %s",
			ql_digest_text(&p->list.items[file].digest, text));
	for (uint32_t i = 0; i < entry.n_chunks && r == 0; i++) {
		struct ql_toc_chunk chunk;
		uint32_t first = 0, last = 0;

		r = ql_toc_chunk(p->tocs[t], entry.first_chunk + i, &chunk);
		if (r == 0)
			r = ql_toc_span_at(p->tocs[t], chunk.raw, &first);
		if (r == 0)
			r = ql_toc_span_at(p->tocs[t],
					   chunk.raw + chunk.len - 1, &last);
		for (uint32_t s = first; s <= last && r == 0; s++)
			p->raw[t][s] = 1;
	}
	return r < 0 ? ql_error_errno(err, r, "a table of contents") : 0;
}

static int places_init(struct places *p, const struct ql_start_input *in,
		       struct ql_error *err)
{
	int r = ql_object_list_init(in->tree, &p->list, err);

	if (r < 0)
		return r;
	p->tocs = in->tocs;
	p->n_tocs = in->n_tocs;
	p->raw = calloc(in->n_tocs + 1, sizeof(uint64_t *));
	for (size_t t = 0; p->raw && t < in->n_tocs; t++) {
		p->raw[t] = calloc(ql_toc_spans(in->tocs[t]) + 1UL,
				   sizeof(uint64_t));
		if (!p->raw[t])
			return ql_error_nomem(err);
	}
	if (!p->raw)
		return ql_error_nomem(err);
	for (uint32_t i = 0; i < p->list.n && r == 0; i++)
		r = places_mark(p, i, err);
	return r;
}

static uint32_t blob_count(const uint64_t *raw, const struct ql_toc_blob *blob)
{
	uint32_t n = 0;

	for (uint32_t s = 0; s < blob->n_spans; s++)
		n += raw[blob->first_span + s] != 0;
	return n;
}

/* Writes the spans of a blob that are used, and numbers their raw space. */
static int put_spans(struct put *w, struct put *windows,
		     const struct ql_toc *toc, const struct ql_toc_blob *blob,
		     uint64_t *raw, uint64_t *pos)
{
	uint64_t end = 0;

	for (uint32_t i = blob->first_span;
	     i < blob->first_span + blob->n_spans; i++) {
		struct ql_toc_span s;
		int r;

		if (raw[i] == 0)
			continue;
		r = ql_toc_span(toc, i, &s);
		if (r < 0)
			return r;
		put_signed(w, s.offset - end);
		put_num(w, s.len);
		put_num(w, s.raw_len);
		put_num(w, s.bits + (s.checkpoint ? 8U : 0));
		if (s.checkpoint) {
			put_num(w, s.window_len);
			put_bytes(windows, s.window, s.window_len);
		}
		end = s.offset + s.len;
		raw[i] = *pos + 1;
		*pos += s.raw_len;
	}
	return w->error;
}

static int put_blobs(struct put *w, struct put *windows, struct places *p)
{
	struct ql_toc_blob blob;
	uint64_t pos = 0;
	uint64_t n = 0;
	int r = 0;

	for (size_t t = 0; t < p->n_tocs; t++)
		n += ql_toc_blobs(p->tocs[t]);
	put_num(w, n);
	for (size_t t = 0; t < p->n_tocs; t++) {
		for (uint32_t b = 0; b < ql_toc_blobs(p->tocs[t]); b++) {
			r = ql_toc_blob(p->tocs[t], b, &blob);
			if (r < 0)
				return r;
			put_bytes(w, blob.digest.bytes, QL_DIGEST_BYTES);
			put_num(w, blob.size);
			put_num(w, blob.codec);
			put_num(w, blob_count(p->raw[t], &blob));
			r = put_spans(w, windows, p->tocs[t], &blob, p->raw[t],
				      &pos);
			if (r < 0)
				return r;
		}
	}
	return w->error;
}

static int put_file(struct put *w, const struct places *p, uint32_t file,
		    uint64_t *raw_end)
{
	struct ql_toc_file entry;
	uint64_t end = 0;
	size_t t;
	int r = places_find(p, file, &t, &entry);

	if (r < 0)
		return r;
	put_num(w, entry.n_chunks);
	for (uint32_t i = 0; i < entry.n_chunks; i++) {
		struct ql_toc_chunk c;
		struct ql_toc_span s;
		uint32_t span = 0;
		uint64_t raw;

		r = ql_toc_chunk(p->tocs[t], entry.first_chunk + i, &c);
		if (r == 0)
			r = ql_toc_span_at(p->tocs[t], c.raw, &span);
		if (r == 0)
			r = ql_toc_span(p->tocs[t], span, &s);
		if (r < 0)
			return r;
		raw = p->raw[t][span] - 1 + (c.raw - s.raw);
		put_signed(w, c.offset - end);
		put_num(w, c.len);
		put_signed(w, raw - *raw_end);
		put_digest(w, ql_digest_equal(&c.digest, &entry.digest)
				      ? NULL
				      : &c.digest);
		end = c.offset + c.len;
		*raw_end = raw + c.len;
	}
	return w->error;
}

static int put_places(struct put *w, struct places *p)
{
	struct put windows = { QL_BUF_INIT(PART_MAX), 0 };
	uint64_t raw_end = 0;
	int r = put_blobs(w, &windows, p);

	if (r == 0)
		put_num(w, p->list.n);
	for (uint32_t i = 0; i < p->list.n && r == 0; i++)
		r = put_file(w, p, i, &raw_end);
	if (r == 0 && windows.buf.len > 0)
		put_bytes(w, windows.buf.data, windows.buf.len);
	ql_buf_release(&windows.buf);
	return r < 0 ? r : w->error < 0 ? w->error : windows.error;
}

/* ---- hot parts ---- */

struct piece {
	uint32_t file;
	uint64_t offset;
	uint32_t len;
};

struct hot {
	const struct places *places; /* borrowed */
	struct ql_extents *taken;    /* owned; for each file */
	struct piece *pieces;	     /* owned */
	size_t n, cap;
};

static void hot_release(struct hot *hot)
{
	for (uint32_t i = 0; hot->taken && i < hot->places->list.n; i++)
		ql_extents_release(&hot->taken[i]);
	free(hot->taken);
	free(hot->pieces);
}

static int hot_piece(struct hot *hot, uint32_t file, uint64_t offset,
		     uint32_t len)
{
	if (hot->n == hot->cap) {
		size_t cap = hot->cap ? hot->cap * 2 : 256;
		struct piece *grown =
			reallocarray(hot->pieces, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		hot->pieces = grown;
		hot->cap = cap;
	}
	hot->pieces[hot->n++] = (struct piece){ file, offset, len };
	return ql_extents_add(&hot->taken[file], offset, offset + len);
}

/* Pages of [start, end) that are not taken yet, in pieces. */
static int hot_range(struct hot *hot, uint32_t file, uint64_t start,
		     uint64_t end)
{
	while (start < end) {
		uint64_t to = start;
		int r;

		while (to < end && to - start < PIECE_MAX) {
			uint64_t next = to + PAGE < end ? to + PAGE : end;

			if (ql_extents_have(&hot->taken[file], to, next))
				break;
			to = next;
		}
		if (to == start) {
			start += PAGE;
			continue;
		}
		r = hot_piece(hot, file, start, (uint32_t)(to - start));
		if (r < 0)
			return r;
		start = to;
	}
	return 0;
}

/* What a trace names that is not there, or no file, is passed over: a trace
 * may be older than the image. */
static int hot_item(struct hot *hot, const struct ql_tree *tree,
		    const struct ql_trace_item *item)
{
	struct ql_content content = { 0 };
	struct ql_inode inode;
	uint64_t start = item->offset & ~(uint64_t)(PAGE - 1);
	uint64_t end;
	uint32_t file;

	if (ql_tree_resolve(tree, item->path, true, &inode, NULL) < 0 ||
	    ql_tree_content(tree, &inode, &content) < 0 || content.data ||
	    content.size == 0 || start >= content.size ||
	    ql_object_list_find(&hot->places->list, &content.object, &file) < 0)
		return 0;
	end = content.size;
	if (item->len > 0 && item->len < end - item->offset)
		end = item->offset + item->len;
	end = (end + PAGE - 1) & ~(uint64_t)(PAGE - 1);
	if (end > content.size)
		end = content.size;
	if (content.size <= SMALL) {
		start = 0;
		end = content.size;
	}
	return hot_range(hot, file, start, end);
}

static int hot_init(struct hot *hot, const struct places *places,
		    const struct ql_start_input *in, struct ql_error *err)
{
	int r = 0;

	hot->places = places;
	hot->taken = calloc(places->list.n + 1UL, sizeof(*hot->taken));
	if (!hot->taken)
		return ql_error_nomem(err);
	for (size_t i = 0; in->trace && i < in->trace->n && r == 0; i++)
		r = hot_item(hot, in->tree, &in->trace->items[i]);
	return r < 0 ? ql_error_nomem(err) : 0;
}

static int piece_read(const struct ql_start_input *in,
		      const struct ql_object_item *object,
		      const struct piece *p, uint8_t *buf, struct ql_error *err)
{
	_cleanup_close_ int fd = -1;
	ssize_t n;
	int r = ql_object_open(in->store, &object->digest, &fd, err);

	if (r < 0)
		return ql_error_prefix(err, "what the start reads is not here");
	n = ql_pread_full(fd, buf, p->len, p->offset);
	if (n < 0)
		return ql_error_errno(err, (int)n, "read an object");
	if (n != (ssize_t)p->len)
		return ql_error_set(err, -EIO, "an object is too short");
	return 0;
}

static void put_piece(struct put *w, const struct piece *p,
		      const struct ql_object_item *object, const uint8_t *data,
		      uint32_t *last)
{
	struct ql_digest d;

	put_signed(w, (uint64_t)p->file - *last);
	*last = p->file;
	put_num(w, p->offset);
	put_num(w, p->len);
	if (p->len == object->size) {
		put_digest(w, NULL);
		return;
	}
	if (ql_digest_of(data, p->len, &d) < 0)
		w->error = -ENOMEM;
	put_digest(w, &d);
}

/* Compresses the pieces into frames behind each other, and lists both. */
static int put_hot(struct put *w, struct put *frames, const struct hot *hot,
		   const struct ql_start_input *in, struct ql_error *err)
{
	_cleanup_free_ uint8_t *raw = malloc(FRAME_MAX);
	_cleanup_free_ uint8_t *packed = malloc(ZSTD_compressBound(FRAME_MAX));
	struct put list = { QL_BUF_INIT(PART_MAX), 0 };
	struct put table = { QL_BUF_INIT(PART_MAX), 0 };
	uint64_t n_frames = 0;
	uint32_t last = 0;
	size_t fill = 0;
	int r = raw && packed ? 0 : ql_error_nomem(err);

	for (size_t i = 0; i < hot->n && r == 0; i++) {
		const struct piece *p = &hot->pieces[i];
		const struct ql_object_item *object =
			&hot->places->list.items[p->file];

		r = piece_read(in, object, p, raw + fill, err);
		if (r < 0)
			break;
		put_piece(&list, p, object, raw + fill, &last);
		fill += p->len;
		if (i + 1 == hot->n ||
		    fill + hot->pieces[i + 1].len > FRAME_MAX) {
			size_t n = ZSTD_compress(packed,
						 ZSTD_compressBound(FRAME_MAX),
						 raw, fill, HEAD_LEVEL);

			if (ZSTD_isError(n))
				r = ql_error_nomem(err);
			else
				put_bytes(frames, packed, n);
			put_num(&table, n);
			put_num(&table, fill);
			n_frames++;
			fill = 0;
		}
	}
	put_num(w, n_frames);
	put_bytes(w, table.buf.data, table.buf.len);
	put_num(w, hot->n);
	put_bytes(w, list.buf.data, list.buf.len);
	if (r == 0 && (list.error < 0 || table.error < 0 || w->error < 0 ||
		       frames->error < 0))
		r = ql_error_nomem(err);
	ql_buf_release(&list.buf);
	ql_buf_release(&table.buf);
	return r;
}

/* ---- the whole ---- */

static int read_tree(const struct ql_tree *tree, struct ql_buf *buf,
		     struct ql_error *err)
{
	size_t len = (size_t)ql_tree_bytes(tree);
	ssize_t n;

	if (ql_buf_reserve(buf, len) < 0)
		return ql_error_nomem(err);
	n = ql_pread_full(ql_tree_fd(tree), buf->data, len, 0);
	if (n != (ssize_t)len)
		return ql_error_errno(err, n < 0 ? (int)n : -EIO,
				      "read the image's tree");
	buf->len = len;
	return 0;
}

static int head_pack(const struct ql_start_input *in,
		     const struct ql_buf *places, const struct ql_buf *hot,
		     struct ql_buf *out, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf tree = QL_BUF_INIT(PART_MAX);
	_cleanup_buf_ struct ql_buf head = QL_BUF_INIT(4 * PART_MAX);
	size_t bound, n;
	int r = read_tree(in->tree, &tree, err);

	if (r < 0)
		return r;
	r = ql_buf_add(&head, QL_START_MAGIC, sizeof(QL_START_MAGIC) - 1);
	if (r == 0)
		r = ql_buf_add_le64(&head, tree.len);
	if (r == 0)
		r = ql_buf_add_le64(&head, in->config_len);
	if (r == 0)
		r = ql_buf_add_le64(&head, places->len);
	if (r == 0)
		r = ql_buf_add_le64(&head, hot->len);
	if (r == 0)
		r = ql_buf_add(&head, tree.data, tree.len);
	if (r == 0)
		r = ql_buf_add(&head, in->config, in->config_len);
	if (r == 0)
		r = ql_buf_add(&head, places->data, places->len);
	if (r == 0)
		r = ql_buf_add(&head, hot->data, hot->len);
	bound = ZSTD_compressBound(head.len);
	if (r < 0 || ql_buf_reserve(out, bound) < 0)
		return ql_error_nomem(err);
	n = ZSTD_compress(out->data, bound, head.data, head.len, HEAD_LEVEL);
	if (ZSTD_isError(n))
		return ql_error_nomem(err);
	out->len = n;
	return 0;
}

static int start_compose(const struct ql_start_input *in, struct put *places,
			 struct put *hot, struct put *frames,
			 struct ql_error *err)
{
	struct places p = { 0 };
	struct hot h = { 0 };
	int r = places_init(&p, in, err);

	if (r == 0 && put_places(places, &p) < 0)
		r = ql_error_set(err, -EIO, "a table of contents is damaged");
	if (r == 0)
		r = hot_init(&h, &p, in, err);
	if (r == 0)
		r = put_hot(hot, frames, &h, in, err);
	if (h.places)
		hot_release(&h);
	places_release(&p);
	return r;
}

int ql_start_write(const struct ql_start_input *in, struct ql_buf *ret_blob,
		   struct ql_start_ref *ret_ref, struct ql_error *err)
{
	struct put places = { QL_BUF_INIT(PART_MAX), 0 };
	struct put hot = { QL_BUF_INIT(PART_MAX), 0 };
	struct put frames = { QL_BUF_INIT(PART_MAX), 0 };
	struct ql_start_ref ref;
	int r = start_compose(in, &places, &hot, &frames, err);

	if (r == 0)
		r = head_pack(in, &places.buf, &hot.buf, ret_blob, err);
	if (r == 0) {
		ref.head_size = ret_blob->len;
		if (ql_digest_of(ret_blob->data, ret_blob->len, &ref.head) <
			    0 ||
		    (frames.buf.len > 0 && ql_buf_add(ret_blob, frames.buf.data,
						      frames.buf.len) < 0) ||
		    ql_digest_of(ret_blob->data, ret_blob->len, &ref.blob) < 0)
			r = ql_error_nomem(err);
		ref.size = ret_blob->len;
	}
	if (r == 0)
		*ret_ref = ref;
	ql_buf_release(&places.buf);
	ql_buf_release(&hot.buf);
	ql_buf_release(&frames.buf);
	return r;
}
