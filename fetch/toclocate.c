/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a blob's table of contents is: by the annotations of its descriptor,
 * by the footer that the blob ends with, or by both.
 *
 *   zstd:chunked   skippable frame (RFC 8878 §3.1.2) of the TOC, then perhaps
 *                  one of tar-split data, then one with the footer:
 *                  u64 offset, length, raw length, type (1), [three of
 *                  tar-split,] "GNUlInUx"; before containers/storage 1.44, and
 *                  by stargz-snapshotter to this day, 40 bytes and "GnUlInUx"
 *                  (pkg/chunked/internal/minimal/compression.go;
 *                  estargz/zstdchunked/zstdchunked.go)
 *   eStargz        gzip member of a tar of the TOC, then an empty member (51
 *                  bytes) whose extra field "SG" is "%016xSTARGZ": the
 *                  offset.  stargz before it: 47 bytes, no "SG".  With
 *                  "STARGZEXTERNALTOC" (46 bytes) it is in another image
 *                  (docs/estargz.md; estargz/gzip.go; estargz/externaltoc)
 *
 * A digest of the table stands in the manifest alone.  Where there is none,
 * the table cannot be verified before the whole blob was read, and the layer
 * is taken as a plain one, whatever its footer says.
 */
#include "fetch/toc-private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum {
	ZSTD_SKIPPABLE = 8, /* bytes in front of a skippable frame's content */
	ZSTD_FOOTER = 64,
	ZSTD_FOOTER_OLD = 40,
	GZIP_FOOTER = 51,
	GZIP_FOOTER_OLD = 47,
	GZIP_FOOTER_EXTERNAL = 46,
	TOC_TYPE = 1, /* the only one that there is */
};

/* ---- annotations ---- */

/* "offset:length:raw length:type" */
static int position_parse(const char *text, uint64_t ret[4])
{
	for (int i = 0; i < 4; i++) {
		uint64_t v = 0;
		const char *p = text;

		for (; *p >= '0' && *p <= '9'; p++)
			if (__builtin_mul_overflow(v, 10, &v) ||
			    __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
				return -EBADMSG;
		if (p == text || *p != (i < 3 ? ':' : '\0'))
			return -EBADMSG;
		ret[i] = v;
		text = p + 1;
	}
	return 0;
}

/* Bounds that hold for every table, wherever its place is told. */
static int where_check(const struct ql_toc_where *w, uint64_t footer,
		       struct ql_error *err)
{
	uint64_t head = w->zstd ? ZSTD_SKIPPABLE : 0;

	if (w->blob_size < footer || w->offset < head ||
	    w->offset > w->blob_size - footer || w->len == 0 ||
	    w->len > w->blob_size - footer - w->offset)
		return ql_error_set(err, -EBADMSG,
				    "the table of contents is said to be at "
				    "%" PRIu64 " (%" PRIu64
				    " bytes) of a blob of %" PRIu64,
				    w->offset, w->len, w->blob_size);
	if (w->len > QL_TOC_SECTION_MAX || w->raw_len > QL_TOC_JSON_MAX)
		return ql_error_set(err, -ENOTSUP,
				    "a table of contents of %" PRIu64
				    " bytes (%" PRIu64
				    " unpacked) is too large",
				    w->len, w->raw_len);
	if (w->zstd && w->raw_len == 0)
		return ql_error_set(err, -EBADMSG,
				    "an empty table of contents");
	return 0;
}

static int locate_zstd(const char *position, struct ql_toc_where *w,
		       struct ql_error *err)
{
	uint64_t v[4];

	if (position_parse(position, v) < 0)
		return ql_error_set(err, -EBADMSG,
				    "\"%.100s\" is no place of a table of "
				    "contents",
				    position);
	if (v[3] != TOC_TYPE)
		return ql_error_set(err, -ENOTSUP,
				    "a table of contents of unknown type "
				    "%" PRIu64,
				    v[3]);
	w->located = true;
	w->zstd = true;
	w->offset = v[0];
	w->len = v[1];
	w->raw_len = v[2];
	w->content_end = v[0] - ZSTD_SKIPPABLE;
	return where_check(w, 0, err);
}

static int sum_parse(const char *text, bool *ret_has, struct ql_digest *ret_sum,
		     struct ql_error *err)
{
	int r;

	if (!text)
		return 0;
	r = ql_digest_parse(text, ret_sum, err);
	if (r < 0) {
		ql_error_prefix(err, "digest of a table of contents");
		return r == -EOPNOTSUPP ? -ENOTSUP : -EBADMSG;
	}
	*ret_has = true;
	return 0;
}

int ql_toc_locate(const struct ql_descriptor *d, struct ql_toc_where *ret_where,
		  struct ql_error *err)
{
	struct ql_toc_where w = { .blob_size = d->size };
	const char *sum = d->notes[QL_NOTE_CHUNKED_SUM];
	const char *pos = d->notes[QL_NOTE_CHUNKED_POS];
	int r;

	if (sum && d->notes[QL_NOTE_JSON_SUM])
		return ql_error_set(err, -EBADMSG,
				    "annotations of both zstd:chunked and "
				    "eStargz");
	if (!sum) {
		sum = d->notes[QL_NOTE_CHUNKED0_SUM];
		pos = d->notes[QL_NOTE_CHUNKED0_POS];
	}
	r = sum_parse(sum, &w.has_sum, &w.sum, err);
	if (r == 0)
		r = sum_parse(d->notes[QL_NOTE_JSON_SUM], &w.has_json_sum,
			      &w.json_sum, err);
	if (r < 0)
		return r;
	if (!w.has_sum && !w.has_json_sum)
		return -ENOTSUP;
	if (pos)
		r = locate_zstd(pos, &w, err);
	if (r == 0)
		*ret_where = w;
	return r;
}

/* ---- footers ---- */

struct footer {
	bool zstd;
	uint64_t offset, len, raw_len; /* len 0: up to the footer */
	uint64_t size;		       /* of the footer, frame and all */
};

/* 1: read, 0: no such footer. */
static int footer_zstd(const uint8_t *tail, size_t len, struct footer *ret,
		       struct ql_error *err)
{
	size_t size = ZSTD_FOOTER;
	struct ql_cursor c;

	if (len < ZSTD_FOOTER_OLD + ZSTD_SKIPPABLE)
		return 0;
	if (memcmp(tail + len - 8, "GnUlInUx", 8) == 0)
		size = ZSTD_FOOTER_OLD;
	else if (memcmp(tail + len - 8, "GNUlInUx", 8) != 0 ||
		 len < ZSTD_FOOTER + ZSTD_SKIPPABLE)
		return 0;
	ret->zstd = true;
	ret->size = size + ZSTD_SKIPPABLE;
	ql_cursor_init(&c, tail + len - ret->size, ret->size);
	if (ql_cursor_le32(&c) != 0x184D2A50 || ql_cursor_le32(&c) != size)
		return ql_error_set(err, -EBADMSG,
				    "a zstd:chunked footer that is in no "
				    "skippable frame");
	ret->offset = ql_cursor_le64(&c);
	ret->len = ql_cursor_le64(&c);
	ret->raw_len = ql_cursor_le64(&c);
	if (ql_cursor_le64(&c) != TOC_TYPE)
		return ql_error_set(err, -ENOTSUP,
				    "a table of contents of unknown type");
	if (ret->len == 0)
		return ql_error_set(err, -EBADMSG,
				    "an empty table of contents");
	return 1;
}

static int hex_parse(const uint8_t *text, uint64_t *ret)
{
	uint64_t v = 0;

	for (int i = 0; i < 16; i++) {
		const char *digits = "0123456789abcdef";
		const char *at = text[i] ? strchr(digits, text[i]) : NULL;

		if (!at)
			return -EBADMSG;
		v = v << 4 | (uint64_t)(at - digits);
	}
	*ret = v;
	return 0;
}

/* An empty gzip member of that size, whose extra field begins and ends so. */
static bool footer_gzip_is(const uint8_t *tail, size_t len, size_t size,
			   const char *front, size_t front_len,
			   const char *behind)
{
	static const uint8_t head[] = { 0x1f, 0x8b, 8, 4 };
	/* An empty block that is stored; no checksum, no length. */
	static const uint8_t end[13] = { 1, 0, 0, 0xff, 0xff };
	size_t extra = size - 10 - 2 - 5 - 8;
	const uint8_t *p;

	if (len < size)
		return false;
	p = tail + len - size;
	return memcmp(p, head, sizeof(head)) == 0 && p[10] == extra &&
	       p[11] == 0 &&
	       memcmp(p + size - sizeof(end), end, sizeof(end)) == 0 &&
	       memcmp(p + 12, front, front_len) == 0 &&
	       memcmp(p + size - sizeof(end) - strlen(behind), behind,
		      strlen(behind)) == 0;
}

static int footer_gzip(const uint8_t *tail, size_t len, struct footer *ret,
		       struct ql_error *err)
{
	if (footer_gzip_is(tail, len, GZIP_FOOTER_EXTERNAL, "SG\x11", 4,
			   "STARGZEXTERNALTOC"))
		return ql_error_set(err, -ENOTSUP,
				    "its table of contents is in another "
				    "image (external TOC)");
	if (footer_gzip_is(tail, len, GZIP_FOOTER, "SG\x16", 4, "STARGZ"))
		ret->size = GZIP_FOOTER;
	else if (footer_gzip_is(tail, len, GZIP_FOOTER_OLD, "", 0, "STARGZ"))
		ret->size = GZIP_FOOTER_OLD;
	else
		return 0;
	if (hex_parse(tail + len - 13 - 6 - 16, &ret->offset) < 0)
		return ql_error_set(err, -EBADMSG,
				    "an eStargz footer with no number in it");
	return 1;
}

int ql_toc_footer(const void *tail, size_t len, struct ql_toc_where *where,
		  struct ql_error *err)
{
	struct ql_toc_where w = *where;
	struct footer f = { 0 };
	int r = footer_zstd(tail, len, &f, err);

	if (r == 0)
		r = footer_gzip(tail, len, &f, err);
	if (r < 0)
		return r;
	if (r == 0)
		return ql_error_set(err, -EBADMSG,
				    "annotated to have a table of contents, "
				    "but its end says nothing of one");
	w.located = true;
	w.zstd = f.zstd;
	w.offset = f.offset;
	w.len = f.len;
	w.raw_len = f.raw_len;
	w.content_end = f.zstd ? f.offset - ZSTD_SKIPPABLE : f.offset;
	if (!f.zstd && f.offset < w.blob_size - f.size)
		w.len = w.blob_size - f.size - f.offset;
	r = where_check(&w, f.size, err);
	if (r < 0)
		return r;
	if (where->located &&
	    (where->zstd != w.zstd || where->offset != w.offset ||
	     where->len != w.len || where->raw_len != w.raw_len))
		return ql_error_set(err, -EBADMSG,
				    "the table of contents is at %" PRIu64
				    " by its annotation and at %" PRIu64
				    " by the blob's end",
				    where->offset, w.offset);
	*where = w;
	return 0;
}
