/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a start blob's head: see startwrite.c for its grammar.  What it says
 * of places becomes two tables of contents, whose writer checks each place.
 */
#include "fetch/start-private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <zstd.h>

#define HEAD_MAX ((size_t)1 << 30)
#define TOC_MAX ((size_t)1 << 31)

enum { PIECES_MAX = 1 << 20 };

/* ---- references ---- */

char *ql_start_ref_print(const struct ql_start_ref *ref,
			 char buf[QL_START_REF_TEXT])
{
	char blob[QL_DIGEST_TEXT + 1], head[QL_DIGEST_TEXT + 1];

	(void)snprintf(buf, QL_START_REF_TEXT, "%s %" PRIu64 " %" PRIu64 " %s",
		       ql_digest_text(&ref->blob, blob), ref->size,
		       ref->head_size, ql_digest_text(&ref->head, head));
	return buf;
}

int ql_start_ref_parse(const char *text, struct ql_start_ref *ret_ref,
		       struct ql_error *err)
{
	char blob[QL_DIGEST_TEXT + 1], head[QL_DIGEST_TEXT + 1];
	struct ql_start_ref ref;
	int n = 0;

	if (sscanf(text, "%71s %" SCNu64 " %" SCNu64 " %71s%n", blob, &ref.size,
		   &ref.head_size, head, &n) != 4 ||
	    text[n] != 0 || ql_digest_parse(blob, &ref.blob, NULL) < 0 ||
	    ql_digest_parse(head, &ref.head, NULL) < 0 ||
	    ref.head_size > ref.size || ref.head_size > HEAD_MAX ||
	    ref.size > INT64_MAX)
		return ql_error_set(err, -EBADMSG,
				    "annotation " QL_START_ANNOTATION
				    ": malformed");
	*ret_ref = ref;
	return 0;
}

/* ---- numbers ---- */

static uint64_t get_num(struct ql_cursor *c)
{
	uint64_t v = 0;

	for (unsigned int shift = 0; shift < 64; shift += 7) {
		uint8_t b = ql_cursor_u8(c);

		v |= (uint64_t)(b & 0x7f) << shift;
		if (!(b & 0x80))
			return v;
	}
	c->bad = true;
	return 0;
}

static uint64_t get_signed(struct ql_cursor *c)
{
	uint64_t v = get_num(c);

	return v >> 1 ^ (v & 1 ? UINT64_MAX : 0);
}

static const struct ql_digest *get_digest(struct ql_cursor *c,
					  struct ql_digest *buf)
{
	const uint8_t *p;

	if (get_num(c) == 0)
		return NULL;
	p = ql_cursor_bytes(c, QL_DIGEST_BYTES);
	if (p)
		memcpy(buf->bytes, p, QL_DIGEST_BYTES);
	return buf;
}

static int malformed(struct ql_error *err)
{
	return ql_error_set(err, -EBADMSG,
			    "the start blob's head is "
			    "malformed");
}

/* ---- places ---- */

/* Windows stand at the end; their lengths add up to where they start. */
static int read_spans(struct ql_cursor *c, uint64_t n,
		      struct ql_cursor *windows, struct ql_toc_writer *w,
		      struct ql_error *err)
{
	uint64_t end = 0, raw;
	int r = 0;

	for (uint64_t i = 0; i < n && r == 0; i++) {
		struct ql_toc_span s = { 0 };
		uint64_t flags;

		s.offset = end + get_signed(c);
		s.len = get_num(c);
		s.raw_len = get_num(c);
		flags = get_num(c);
		s.bits = flags & 7;
		s.checkpoint = flags & 8;
		if (s.checkpoint)
			s.window_len = (uint32_t)get_num(c);
		if (s.window_len > 0)
			s.window = ql_cursor_bytes(windows, s.window_len);
		if (c->bad || windows->bad || flags > 15)
			return malformed(err);
		r = ql_toc_writer_span(w, &s, &raw, err);
		end = s.offset + s.len;
	}
	return r;
}

static int read_blobs(struct ql_cursor *c, struct ql_cursor *windows,
		      struct ql_toc_writer *w, struct ql_error *err)
{
	uint64_t n = get_num(c);
	int r = 0;

	for (uint64_t i = 0; i < n && r == 0; i++) {
		const uint8_t *p = ql_cursor_bytes(c, QL_DIGEST_BYTES);
		uint64_t size = get_num(c);
		uint64_t codec = get_num(c);
		uint64_t spans = get_num(c);
		struct ql_digest d;

		if (c->bad || !p || codec > QL_CODEC_ZSTD)
			return malformed(err);
		memcpy(d.bytes, p, QL_DIGEST_BYTES);
		r = ql_toc_writer_blob(w, &d, size, (enum ql_codec)codec, err);
		if (r == 0)
			r = read_spans(c, spans, windows, w, err);
	}
	return r;
}

static int read_file(struct ql_cursor *c, const struct ql_object_item *object,
		     uint64_t *raw_end, struct ql_toc_writer *w,
		     struct ql_error *err)
{
	uint64_t n = get_num(c), end = 0;
	int r = ql_toc_writer_file(w, &object->digest, object->size, err);

	for (uint64_t i = 0; i < n && r == 0; i++) {
		uint64_t offset = end + get_signed(c);
		uint64_t len = get_num(c);
		uint64_t raw = *raw_end + get_signed(c);
		const struct ql_digest *own;
		struct ql_digest d;

		own = get_digest(c, &d);
		if (c->bad || len > QL_TOC_CHUNK_MAX)
			return malformed(err);
		r = ql_toc_writer_chunk(w, offset, (uint32_t)len, raw, own,
					err);
		end = offset + len;
		*raw_end = raw + len;
	}
	return r;
}

static uint64_t windows_bytes(struct ql_cursor c)
{
	uint64_t blobs = get_num(&c), sum = 0;

	for (uint64_t i = 0; i < blobs && !c.bad; i++) {
		uint64_t spans;

		ql_cursor_skip(&c, QL_DIGEST_BYTES);
		(void)get_num(&c);
		(void)get_num(&c);
		spans = get_num(&c);
		for (uint64_t s = 0; s < spans && !c.bad; s++) {
			(void)get_num(&c);
			(void)get_num(&c);
			(void)get_num(&c);
			if (get_num(&c) & 8)
				sum += get_num(&c) & UINT32_MAX;
		}
	}
	return sum;
}

static int read_places(const uint8_t *data, size_t len,
		       const struct ql_object_list *list, struct ql_buf *ret,
		       struct ql_error *err)
{
	_cleanup_(ql_toc_writer_freep) struct ql_toc_writer *w = NULL;
	struct ql_cursor c, windows;
	uint64_t n, raw_end = 0;
	int r;

	ql_cursor_init(&c, data, len);
	n = windows_bytes(c);
	if (n > len)
		return malformed(err);
	ql_cursor_init(&windows, data + len - n, (size_t)n);
	ql_cursor_init(&c, data, len - (size_t)n);
	r = ql_toc_writer_new(&w, err);
	if (r == 0)
		r = read_blobs(&c, &windows, w, err);
	if (r == 0 && get_num(&c) != list->n)
		r = malformed(err);
	for (uint32_t i = 0; i < list->n && r == 0; i++)
		r = read_file(&c, &list->items[i], &raw_end, w, err);
	if (r == 0 && (c.bad || ql_cursor_left(&c) != 0))
		r = malformed(err);
	return r < 0 ? r : ql_toc_writer_finish(w, ret, err);
}

/* ---- hot ---- */

struct hot_piece {
	uint32_t file;
	uint32_t len;
	uint64_t offset, raw;
	bool own;
	struct ql_digest digest;
};

static int by_file(const void *a, const void *b)
{
	const struct hot_piece *x = a, *y = b;

	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	return (x->offset > y->offset) - (x->offset < y->offset);
}

static int read_pieces(struct ql_cursor *c, uint64_t n, uint32_t n_files,
		       struct hot_piece *pieces, struct ql_error *err)
{
	uint64_t raw = 0, file = 0;

	for (uint64_t i = 0; i < n; i++) {
		struct hot_piece *p = &pieces[i];
		uint64_t len;

		file += get_signed(c);
		p->offset = get_num(c);
		len = get_num(c);
		p->own = get_digest(c, &p->digest) != NULL;
		if (c->bad || file >= n_files || len > QL_TOC_CHUNK_MAX)
			return malformed(err);
		p->file = (uint32_t)file;
		p->len = (uint32_t)len;
		p->raw = raw;
		raw += len;
	}
	return 0;
}

static int hot_frames(struct ql_cursor *c, const struct ql_start_ref *ref,
		      struct ql_toc_writer *w, struct ql_error *err)
{
	uint64_t n = get_num(c), pos = ref->head_size, raw;
	int r = ql_toc_writer_blob(w, &ref->blob, ref->size, QL_CODEC_ZSTD,
				   err);

	for (uint64_t i = 0; i < n && r == 0; i++) {
		struct ql_toc_span s = { .offset = pos };

		s.len = get_num(c);
		s.raw_len = get_num(c);
		if (c->bad)
			return malformed(err);
		r = ql_toc_writer_span(w, &s, &raw, err);
		pos += s.len;
	}
	return r;
}

static int read_hot(const uint8_t *data, size_t len,
		    const struct ql_object_list *list,
		    const struct ql_start_ref *ref, struct ql_buf *ret,
		    struct ql_error *err)
{
	_cleanup_(ql_toc_writer_freep) struct ql_toc_writer *w = NULL;
	_cleanup_free_ struct hot_piece *pieces = NULL;
	struct ql_cursor c;
	uint64_t n;
	int r = ql_toc_writer_new(&w, err);

	ql_cursor_init(&c, data, len);
	if (r == 0)
		r = hot_frames(&c, ref, w, err);
	if (r < 0)
		return r;
	n = get_num(&c);
	if (c.bad || n > PIECES_MAX)
		return malformed(err);
	pieces = calloc((size_t)n + 1, sizeof(*pieces));
	if (!pieces)
		return ql_error_nomem(err);
	r = read_pieces(&c, n, list->n, pieces, err);
	if (r == 0 && (c.bad || ql_cursor_left(&c) != 0))
		r = malformed(err);
	if (r == 0)
		qsort(pieces, (size_t)n, sizeof(*pieces), by_file);
	for (uint64_t i = 0; i < n && r == 0; i++) {
		const struct hot_piece *p = &pieces[i];
		const struct ql_object_item *o = &list->items[p->file];

		if (i == 0 || p->file != pieces[i - 1].file)
			r = ql_toc_writer_file(w, &o->digest, o->size, err);
		if (r == 0 && !p->own && p->len != o->size)
			r = malformed(err);
		if (r == 0)
			r = ql_toc_writer_chunk(w, p->offset, p->len, p->raw,
						p->own ? &p->digest : NULL,
						err);
	}
	return r < 0 ? r : ql_toc_writer_finish(w, ret, err);
}

/* ---- the whole ---- */

void ql_start_release(struct ql_start *start)
{
	ql_buf_release(&start->head);
	ql_object_list_release(&start->objects);
	ql_buf_release(&start->toc);
	ql_buf_release(&start->hot);
}

static int head_unpack(const void *head, const struct ql_start_ref *ref,
		       struct ql_buf *buf, struct ql_error *err)
{
	unsigned long long size;
	struct ql_digest d;
	size_t n;

	if (ql_digest_of(head, (size_t)ref->head_size, &d) < 0)
		return ql_error_nomem(err);
	if (!ql_digest_equal(&d, &ref->head))
		return ql_error_set(err, -EBADMSG,
				    "the start blob's head is not of its "
				    "digest");
	size = ZSTD_getFrameContentSize(head, (size_t)ref->head_size);
	if (size == ZSTD_CONTENTSIZE_UNKNOWN ||
	    size == ZSTD_CONTENTSIZE_ERROR || size > HEAD_MAX)
		return malformed(err);
	if (ql_buf_reserve(buf, (size_t)size) < 0)
		return ql_error_nomem(err);
	n = ZSTD_decompress(buf->data, (size_t)size, head,
			    (size_t)ref->head_size);
	if (ZSTD_isError(n))
		return malformed(err);
	buf->len = n;
	return 0;
}

static int start_parts(struct ql_start *s, const struct ql_start_ref *ref,
		       struct ql_error *err)
{
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	const uint8_t *magic, *places, *hot;
	uint64_t places_len, hot_len;
	struct ql_cursor c;
	int r;

	ql_cursor_init(&c, s->head.data, s->head.len);
	magic = ql_cursor_bytes(&c, sizeof(QL_START_MAGIC) - 1);
	s->tree_len = ql_cursor_le64(&c);
	s->config_len = ql_cursor_le64(&c);
	places_len = ql_cursor_le64(&c);
	hot_len = ql_cursor_le64(&c);
	s->tree = ql_cursor_bytes(&c, s->tree_len);
	s->config = ql_cursor_bytes(&c, s->config_len);
	places = ql_cursor_bytes(&c, places_len);
	hot = ql_cursor_bytes(&c, hot_len);
	if (c.bad || ql_cursor_left(&c) != 0 ||
	    memcmp(magic, QL_START_MAGIC, sizeof(QL_START_MAGIC) - 1) != 0)
		return malformed(err);
	r = ql_tree_open_mem(s->tree, s->tree_len, &tree, err);
	if (r == 0)
		r = ql_object_list_init(tree, &s->objects, err);
	if (r == 0)
		r = read_places(places, places_len, &s->objects, &s->toc, err);
	if (r == 0)
		r = read_hot(hot, hot_len, &s->objects, ref, &s->hot, err);
	return r;
}

int ql_start_parse(const void *head, const struct ql_start_ref *ref,
		   struct ql_start *ret_start, struct ql_error *err)
{
	_cleanup_start_ struct ql_start s = { .head = QL_BUF_INIT(HEAD_MAX),
					      .toc = QL_BUF_INIT(TOC_MAX),
					      .hot = QL_BUF_INIT(TOC_MAX) };
	int r = head_unpack(head, ref, &s.head, err);

	if (r == 0)
		r = start_parts(&s, ref, err);
	if (r < 0)
		return r;
	*ret_start = s;
	s = (struct ql_start){ 0 };
	return 0;
}
