/* SPDX-License-Identifier: Apache-2.0 */
/*
 * eStargz (stargz-snapshotter, docs/estargz.md): gzip members, each of which
 * begins with a piece of a file's content and goes on with the headers behind
 * it; at the end, a member with the table as an archive's last entry, and a
 * footer of 51 bytes, an empty member whose extra field says where the table
 * begins.
 *
 * The archive's entries stay as they are, and where they are unless some are
 * said to be worth fetching ahead: those come first, and a landmark behind
 * them; else another landmark before all says that there are none.  Table and
 * landmark of an eStargz that is written again are left out; the end mark
 * stands behind the table.  So the diff ID is another.
 */
#include "fetch/push-private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define TOC_NAME "stargz.index.json"
#define LANDMARK ".no.prefetch.landmark"
#define LANDMARK_PREFETCH ".prefetch.landmark"
#define ANNOTATION_TOC "containerd.io/snapshot/stargz/toc.digest"
#define ANNOTATION_SIZE "io.containers.estargz.uncompressed-size"

enum { BLOCK = 512, LANDMARK_CONTENT = 0xf, ADDED_MODE = 0444 };

static const char zeros[2 * BLOCK];

/* A ustar header of a file of root's, from the epoch. */
static void header_make(char h[BLOCK], const char *name, uint64_t size)
{
	unsigned int sum = 0;
	char field[16];

	memset(h, 0, BLOCK);
	memcpy(h, name, strlen(name));
	(void)snprintf(h + 100, 8, "%07o", ADDED_MODE);
	memcpy(h + 108, "0000000", 8);
	memcpy(h + 116, "0000000", 8);
	(void)snprintf(field, sizeof(field), "%011" PRIo64, size);
	memcpy(h + 124, field, 12);
	memcpy(h + 136, "00000000000", 12);
	memset(h + 148, ' ', 8);
	h[156] = '0';
	memcpy(h + 257, "ustar\00000", 8);
	memcpy(h + 329, "0000000", 8);
	memcpy(h + 337, "0000000", 8);
	for (int i = 0; i < BLOCK; i++)
		sum += (unsigned char)h[i];
	(void)snprintf(h + 148, 8, "%06o", sum);
}

static int landmark_write(struct ql_layerwriter *w, struct ql_error *err)
{
	static char none_first[] = LANDMARK;
	static char some_first[] = LANDMARK_PREFETCH;
	char *name = w->n_first > 0 ? some_first : none_first;
	static char none[] = "";
	const struct ql_tar_entry e = {
		.type = '0',
		.path = name,
		.link = none,
		.size = 1,
	};
	const struct ql_tar_raw raw = {
		.flag = '0',
		.name = name,
		.mode = ADDED_MODE,
		.size = 1,
		.stored = 1,
	};
	const char content = LANDMARK_CONTENT;
	char h[BLOCK];
	int r;

	header_make(h, name, 1);
	r = ql_layerwriter_raw(w, h, sizeof(h), err);
	if (r == 0)
		r = ql_layerwriter_entry(w, &e, &raw, err);
	if (r == 0)
		r = ql_layerwriter_data(w, &content, 1, err);
	return r < 0 ? r : ql_layerwriter_raw(w, zeros, BLOCK - 1, err);
}

static int begin(struct ql_layerwriter *w, struct ql_error *err)
{
	w->diff_hash = ql_hasher_new();
	if (!w->diff_hash)
		return ql_error_nomem(err);
	return w->n_first == 0 ? landmark_write(w, err) : 0;
}

/* An earlier writer's. */
static bool is_added(const char *path)
{
	return strcmp(path, TOC_NAME) == 0 || strcmp(path, LANDMARK) == 0 ||
	       strcmp(path, LANDMARK_PREFETCH) == 0;
}

/* The padding of the entry before goes where its content went. */
static int padding_write(struct ql_layerwriter *w, size_t *ret_len,
			 struct ql_error *err)
{
	size_t len = w->head.len;

	if (len > w->padding)
		len = (size_t)w->padding;
	w->padding -= len;
	*ret_len = len;
	return w->drop ? 0
		       : ql_layerwriter_raw(w, ql_buf_str(&w->head), len, err);
}

static int entry(void *arg, const struct ql_tar_entry *e,
		 const struct ql_tar_raw *raw, struct ql_error *err)
{
	struct ql_layerwriter *w = arg;
	size_t at = 0;
	int r = padding_write(w, &at, err);

	if (r == 0 && w->n_first > 0 && w->n_seen == w->n_first)
		r = landmark_write(w, err);
	w->n_seen++;
	w->drop = is_added(e->path);
	if (r == 0 && !w->drop)
		r = ql_layerwriter_raw(w, w->head.data + at, w->head.len - at,
				       err);
	ql_buf_clear(&w->head);
	w->padding = -raw->stored & (BLOCK - 1);
	if (r < 0 || w->drop)
		return r;
	return ql_layerwriter_entry(w, e, raw, err);
}

static int data(void *arg, const void *bytes, size_t len, struct ql_error *err)
{
	struct ql_layerwriter *w = arg;

	return w->drop ? 0 : ql_layerwriter_data(w, bytes, len, err);
}

/* ---- the end of the blob ---- */

struct toc_out {
	struct ql_layerwriter *w;
	struct ql_hasher *hasher; /* owned; of the table's text */
};

static int toc_add(void *arg, const void *bytes, size_t len,
		   struct ql_error *err)
{
	struct toc_out *out = arg;

	ql_hasher_update(out->hasher, bytes, len);
	ql_hasher_update(out->w->diff_hash, bytes, len);
	out->w->raw += len;
	return ql_frames_add(out->w->frames, bytes, len, err);
}

/* The table's text into the open frame. */
static int toc_text(struct ql_layerwriter *w, const char *start,
		    const char *end, struct ql_digest *ret_digest,
		    struct ql_error *err)
{
	struct toc_out out = { w, ql_hasher_new() };
	int r;

	if (!out.hasher)
		return ql_error_nomem(err);
	r = toc_add(&out, start, strlen(start), err);
	if (r == 0)
		r = ql_scratch_each(&w->toc, toc_add, &out, err);
	if (r == 0)
		r = toc_add(&out, end, strlen(end), err);
	if (r == 0)
		ql_hasher_final(out.hasher, ret_digest);
	ql_hasher_free(out.hasher);
	return r;
}

/* The member with the table: an entry, its padding, the end mark. */
static int toc_write(struct ql_layerwriter *w, struct ql_digest *ret_digest,
		     struct ql_error *err)
{
	static const char start[] = "{\"version\":1,\"entries\":[\n";
	static const char end[] = "\n]}\n";
	uint64_t len = sizeof(start) - 1 + w->toc.len + sizeof(end) - 1;
	char h[BLOCK];
	int r;

	header_make(h, TOC_NAME, len);
	r = ql_layerwriter_raw(w, h, sizeof(h), err);
	if (r == 0)
		r = toc_text(w, start, end, ret_digest, err);
	if (r == 0)
		r = ql_layerwriter_raw(w, zeros, -len & (BLOCK - 1), err);
	if (r == 0)
		r = ql_layerwriter_raw(w, zeros, sizeof(zeros), err);
	if (r == 0)
		r = ql_layerwriter_cut(w, err);
	return r < 0 ? r : ql_frames_flush(w->frames, err);
}

/* RFC 1952 §2.3: no name, an extra field "SG", no content. */
static int footer_write(struct ql_layerwriter *w, uint64_t toc_offset,
			struct ql_error *err)
{
	static const uint8_t start[16] = { 0x1f, 0x8b, 8,  4, 0,   0,	0,  0,
					   0,	 255,  26, 0, 'S', 'G', 22, 0 };
	static const uint8_t stored[5] = { 1, 0, 0, 0xff, 0xff };
	_cleanup_buf_ struct ql_buf footer = QL_BUF_INIT(51);
	int r = ql_buf_add(&footer, start, sizeof(start));

	if (r == 0)
		r = ql_buf_addf(&footer, "%016" PRIx64 "STARGZ", toc_offset);
	if (r == 0)
		r = ql_buf_add(&footer, stored, sizeof(stored));
	if (r == 0)
		r = ql_buf_add_le64(&footer, 0); /* no bytes, their CRC */
	if (r < 0)
		return ql_error_nomem(err);
	return ql_frames_raw(w->frames, footer.data, footer.len, err);
}

/* What is due of the last entry's padding, be it there or not. */
static int tail(struct ql_layerwriter *w, struct ql_error *err)
{
	size_t at = 0;
	int r = padding_write(w, &at, err);

	if (r == 0 && !w->drop)
		r = ql_layerwriter_raw(w, zeros, (size_t)w->padding, err);
	if (r == 0 && w->n_first > 0 && w->n_seen == w->n_first)
		r = landmark_write(w, err);
	if (r == 0)
		r = ql_layerwriter_cut(w, err);
	return r < 0 ? r : ql_frames_flush(w->frames, err);
}

static int end(struct ql_layerwriter *w, struct ql_written *ret,
	       struct ql_error *err)
{
	char text[QL_DIGEST_TEXT + 1];
	char size[24];
	struct ql_digest digest;
	uint64_t toc_offset;
	int r = tail(w, err);

	toc_offset = ql_frames_size(w->frames);
	if (r == 0)
		r = toc_write(w, &digest, err);
	if (r == 0)
		r = footer_write(w, toc_offset, err);
	if (r < 0)
		return r;
	ql_hasher_final(w->diff_hash, &ret->diff_id);
	(void)snprintf(size, sizeof(size), "%" PRIu64, w->raw);
	ret->annotations = json_pack("{s:s, s:s}", ANNOTATION_TOC,
				     ql_digest_text(&digest, text),
				     ANNOTATION_SIZE, size);
	return ret->annotations ? 0 : ql_error_nomem(err);
}

const struct ql_layerwriter_ops ql_estargz_ops = { begin, entry, data, end };
