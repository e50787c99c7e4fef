/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gzip (RFC 1952) by ISA-L's igzip, about twice as fast as zlib on layers.
 * It checks each member's CRC and length.  Members may follow each other
 * (§2.2), and zeros may pad the end, as gzip(1) allows; anything else behind
 * a member is an error.
 *
 * The header is read here and not by isal_inflate(): that one forgets what it
 * knows of a header between calls, and fails where the input is split in one.
 * At a member's end the bits read ahead are part of the 8-byte trailer, so
 * that next_in is exactly behind it (igzip_inflate.c, check_gzip_checksum).
 */
#include "fetch/fetch-private.h"

#include <errno.h>
#include <isa-l/igzip_lib.h>

enum gzip_where { GZIP_HEADER, GZIP_MEMBER, GZIP_BETWEEN, GZIP_PADDING };

struct gzip_stream {
	struct ql_stream base;
	struct ql_input in;
	struct inflate_state state;
	struct isal_gzip_header header; /* its fields are not of interest */
	enum gzip_where where;
	struct ql_gzip_index *index; /* owned; NULL: none is made */
};

static int inflate_error(int code, struct ql_error *err)
{
	const char *what = "a damaged gzip stream";

	if (code == ISAL_INCORRECT_CHECKSUM)
		what = "a damaged gzip stream: its checksum is wrong";
	else if (code == ISAL_INVALID_WRAPPER ||
		 code == ISAL_UNSUPPORTED_METHOD)
		what = "a damaged gzip stream: its header is invalid";
	return ql_error_set(err, -EBADMSG, "%s", what);
}

/* One call of the inflater: the bytes it made, or a negative errno. */
static ssize_t inflate_some(struct gzip_stream *g, void *buf, size_t len,
			    struct ql_error *err)
{
	struct inflate_state *st = &g->state;
	size_t avail = g->in.len - g->in.pos;
	int r;

	st->next_in = g->in.data + g->in.pos;
	st->avail_in = (uint32_t)avail;
	st->next_out = buf;
	st->avail_out = len > UINT32_MAX ? UINT32_MAX : (uint32_t)len;
	len = st->avail_out;
	r = g->index ? ql_gzip_index_inflate(g->index, st, ql_input_pos(&g->in))
		     : isal_inflate(st);
	g->in.pos += avail - st->avail_in;
	if (r < 0 || r == ISAL_NEED_DICT)
		return inflate_error(r, err);
	if (st->block_state == ISAL_BLOCK_FINISH)
		g->where = GZIP_BETWEEN;
	return (ssize_t)(len - st->avail_out);
}

/* A member begins at what comes next. */
static void member_begin(struct gzip_stream *g)
{
	isal_inflate_reset(&g->state);
	isal_gzip_header_init(&g->header);
	g->state.crc_flag = ISAL_GZIP_NO_HDR_VER;
	g->where = GZIP_HEADER;
	if (g->index)
		ql_gzip_index_member(g->index, ql_input_pos(&g->in));
}

static int ends_early(struct ql_error *err)
{
	return ql_error_set(err, -EBADMSG, "a gzip stream that ends early");
}

static int header_read(struct gzip_stream *g, struct ql_error *err)
{
	struct inflate_state *st = &g->state;

	while (g->where == GZIP_HEADER) {
		int r = ql_input_fill(&g->in, err);

		if (r <= 0)
			return r < 0 ? r : ends_early(err);
		st->next_in = g->in.data + g->in.pos;
		st->avail_in = (uint32_t)(g->in.len - g->in.pos);
		r = isal_read_gzip_header(st, &g->header);
		g->in.pos = g->in.len - st->avail_in;
		if (r == ISAL_DECOMP_OK)
			g->where = GZIP_MEMBER;
		else if (r != ISAL_END_INPUT || st->avail_in > 0)
			return inflate_error(ISAL_INVALID_WRAPPER, err);
	}
	return 0;
}

/* In a member: bytes, or 0 where it is to be asked again. */
static ssize_t member_read(struct gzip_stream *g, void *buf, size_t len,
			   struct ql_error *err)
{
	size_t pos = g->in.pos;
	ssize_t n = inflate_some(g, buf, len, err);
	int r;

	if (n != 0 || g->where != GZIP_MEMBER)
		return n;
	if (g->in.pos < g->in.len)
		return g->in.pos > pos ? 0 : inflate_error(0, err);
	r = ql_input_fill(&g->in, err);
	if (r == 0)
		return ends_early(err);
	return r < 0 ? r : 0;
}

/* Behind a member: 1 where another begins, 0 at the end of all. */
static int between_read(struct gzip_stream *g, struct ql_error *err)
{
	int r;

	while ((r = ql_input_fill(&g->in, err)) > 0) {
		uint8_t byte = g->in.data[g->in.pos];

		if (byte == 0) {
			g->where = GZIP_PADDING;
			g->in.pos++;
			continue;
		}
		if (byte != 0x1f || g->where == GZIP_PADDING)
			return ql_error_set(err, -EBADMSG,
					    "garbage behind the gzip stream");
		member_begin(g);
		return 1;
	}
	if (r == 0 && g->index)
		ql_gzip_index_end(g->index, ql_input_pos(&g->in));
	return r;
}

static ssize_t gzip_read(struct ql_stream *s, void *buf, size_t len,
			 struct ql_error *err)
{
	struct gzip_stream *g = (struct gzip_stream *)s;

	for (;;) {
		ssize_t n;
		int r;

		switch (g->where) {
		case GZIP_HEADER:
			r = header_read(g, err);
			if (r < 0)
				return r;
			break;
		case GZIP_MEMBER:
			n = member_read(g, buf, len, err);
			if (n != 0)
				return n;
			break;
		case GZIP_BETWEEN:
		case GZIP_PADDING:
			r = between_read(g, err);
			if (r <= 0)
				return r;
			break;
		}
	}
}

static void gzip_free(struct ql_stream *s)
{
	struct gzip_stream *g = (struct gzip_stream *)s;

	ql_input_release(&g->in);
	ql_gzip_index_free(g->index);
	free(g);
}

static const struct ql_stream_ops gzip_ops = { gzip_read, gzip_free };

int ql_gzip_new(struct ql_input *in, struct ql_spans *spans,
		struct ql_stream **ret_stream, struct ql_error *err)
{
	struct gzip_stream *g = calloc(1, sizeof(*g));
	int r = 0;

	if (!g)
		return ql_error_nomem(err);
	if (spans)
		r = ql_gzip_index_new(spans, &g->index, err);
	if (r < 0) {
		free(g);
		return r;
	}
	g->base.ops = &gzip_ops;
	isal_inflate_init(&g->state);
	g->in = *in;
	*in = (struct ql_input){ 0 };
	member_begin(g);
	*ret_stream = &g->base;
	return 0;
}
