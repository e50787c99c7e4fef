/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the bytes that a blob has of its table of contents to the JSON in
 * them, as a stream, so that the whole (a hundred MB for a huge image) is
 * never in memory.
 *
 * A gzip section holds a tar of one file.  Of its header the name and the size
 * are used alone: nothing in it is covered by a digest.
 */
#include "fetch/toc-private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* ---- the file in a tar ---- */

enum {
	TAR_SIZE = 124,
	TAR_SIZE_LEN = 12,
	TAR_BEHIND_MAX = 64 << 10, /* padding and the end's mark */
};

struct tar_stream {
	struct ql_stream base;
	struct ql_stream *inner; /* owned */
	uint64_t left;
};

/* To the end of the member, whose checksum is compared there. */
static int tar_stream_drain(struct tar_stream *t, struct ql_error *err)
{
	size_t behind = 0;
	char buf[4096];
	ssize_t n;

	while ((n = ql_stream_read(t->inner, buf, sizeof(buf), err)) > 0) {
		behind += (size_t)n;
		if (behind > TAR_BEHIND_MAX)
			return ql_error_set(err, -EBADMSG,
					    "more stands behind %s",
					    QL_TOC_TAR_NAME);
	}
	return (int)n;
}

static ssize_t tar_stream_read(struct ql_stream *s, void *buf, size_t len,
			       struct ql_error *err)
{
	struct tar_stream *t = (struct tar_stream *)s;
	ssize_t n;

	if (t->left == 0)
		return tar_stream_drain(t, err);
	if (len > t->left)
		len = (size_t)t->left;
	n = ql_stream_read(t->inner, buf, len, err);
	if (n == 0)
		return ql_error_set(err, -EBADMSG, "it ends early");
	if (n > 0)
		t->left -= (uint64_t)n;
	return n;
}

static void tar_stream_free(struct ql_stream *s)
{
	ql_stream_free(((struct tar_stream *)s)->inner);
	free(s);
}

static const struct ql_stream_ops tar_stream_ops = { tar_stream_read,
						     tar_stream_free };

/* Octal digits, ended by a NUL or a space. */
static int tar_size(const uint8_t *field, uint64_t *ret)
{
	uint64_t v = 0;
	size_t i;

	for (i = 0; i < TAR_SIZE_LEN && field[i] >= '0' && field[i] <= '7'; i++)
		v = v << 3 | (uint64_t)(field[i] - '0');
	if (i == 0 || (i < TAR_SIZE_LEN && field[i] != 0 && field[i] != ' '))
		return -EBADMSG;
	*ret = v;
	return 0;
}

/* inner: taken on success. */
static int tar_stream_new(struct ql_stream *inner, struct ql_stream **ret,
			  struct ql_error *err)
{
	uint8_t header[QL_TOC_TAR_HEADER];
	struct tar_stream *t;
	uint64_t size;
	ssize_t n = ql_stream_read_full(inner, header, sizeof(header), err);

	if (n < 0)
		return (int)n;
	if ((size_t)n < sizeof(header) ||
	    memcmp(header, QL_TOC_TAR_NAME, sizeof(QL_TOC_TAR_NAME)) != 0 ||
	    tar_size(header + TAR_SIZE, &size) < 0)
		return ql_error_set(err, -EBADMSG, "no tar of a %s",
				    QL_TOC_TAR_NAME);
	if (size > QL_TOC_JSON_MAX)
		return ql_error_set(err, -ENOTSUP,
				    "%" PRIu64 " bytes are too many", size);
	t = calloc(1, sizeof(*t));
	if (!t)
		return ql_error_nomem(err);
	t->base.ops = &tar_stream_ops;
	t->inner = inner;
	t->left = size;
	*ret = &t->base;
	return 0;
}

/* ---- the section ---- */

static int section_check(const struct ql_toc_where *w, const void *section,
			 size_t len, struct ql_error *err)
{
	enum ql_compression want = w->zstd ? QL_COMPRESSION_ZSTD
					   : QL_COMPRESSION_GZIP;
	struct ql_digest sum;

	if (len != w->len || ql_compression_sniff(section, len) != want)
		return ql_error_set(err, -EBADMSG, "not as it is annotated");
	if (!w->has_sum)
		return 0;
	if (ql_digest_of(section, len, &sum) < 0)
		return ql_error_nomem(err);
	return ql_digest_equal(&sum, &w->sum)
		       ? 0
		       : ql_error_set(err, -EBADMSG,
				      "it is not what the manifest says: its "
				      "digest is another");
}

static int section_open(const struct ql_toc_where *w, const void *section,
			size_t len, struct ql_stream **ret_json,
			struct ql_error *err)
{
	_cleanup_stream_ struct ql_stream *in = NULL;
	struct ql_stream *next;
	int r = section_check(w, section, len, err);

	if (r == 0)
		r = ql_stream_from_mem(section, len, &in, err);
	if (r == 0)
		r = ql_decompress(in, &next, err);
	if (r < 0)
		return r;
	in = next;
	if (!w->zstd) {
		r = tar_stream_new(in, &next, err);
		if (r < 0)
			return r;
		in = next;
	}
	r = ql_stream_verify(in, w->has_json_sum ? &w->json_sum : NULL,
			     w->zstd ? w->raw_len : UINT64_MAX, &next, err);
	if (r < 0)
		return r;
	(void)ql_take_ptr(in);
	*ret_json = next;
	return 0;
}

int ql_toc_section_open(const struct ql_toc_where *where, const void *section,
			size_t len, struct ql_stream **ret_json,
			struct ql_error *err)
{
	int r = section_open(where, section, len, ret_json, err);

	if (r < 0)
		ql_error_prefix(err, "table of contents");
	return r;
}
