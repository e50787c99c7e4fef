/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoints of a gzip stream while it is inflated: positions at which
 * deflate can be entered, between two blocks, each with what it refers back
 * to.  (zlib's examples/zran.c has the idea.)
 *
 * Finding one.  igzip says nothing of where blocks end, but its state shows
 * whether it is inside a block header; so, once a checkpoint is due, input is
 * fed in small steps until one of them ends in a header.  To be cheap, a step
 * of FAR bytes is tried first, and only where it has changed the Huffman
 * tables (so a header was in it) taken back and gone through again in steps of
 * NEAR, less than any header of dynamic tables takes.  Blocks without such
 * tables are met by luck or not at all; then a span is longer.
 *
 * Proving it.  What follows the checkpoint is inflated twice over, with
 * dictionaries that number their bytes and differ in each: a byte that differs
 * came out of the window, and both together say from where.  So it is known
 * which bytes of the window
 * are needed - the others are stored as zeros, which compress well: rapidgzip's
 * "sparse windows" (Knespel & Brunst, HPDC'23) - and whether the checkpoint
 * decodes to what the stream itself gave.  One that does not is not recorded,
 * whatever a future igzip does with its state.
 *
 * Windows have a budget: a share of the compressed bytes so far.
 */
#include "fetch/fetch-private.h"

#include <isa-l/igzip_lib.h>
#include <string.h>
#include <zstd.h>

enum {
	WINDOW = 32 << 10, /* RFC 1951 §2 */
	SPACING = 3 << 19, /* raw bytes, at least */
	FAR = 1 << 10,
	NEAR = 24,
	/* A reference from behind these cannot reach the window. */
	PROOF = WINDOW + 258,
	PROOF_IN = 64 << 10,
	BUDGET = 250, /* 1/250 of the blob for windows */
	GUESS = 4 << 10,
	LEVEL = 6,
	MEMBER_MIN = 256 << 10, /* raw bytes; smaller members share a span */
};

struct ql_gzip_index {
	struct ql_spans *spans; /* borrowed */
	ZSTD_CCtx *zstd;	/* owned */
	uint64_t raw;		/* bytes that came out */
	uint64_t windows;	/* bytes kept */
	uint32_t n;		/* windows kept */
	bool proving;
	struct ql_toc_span at; /* being proved */
	size_t n_in, n_out;
	struct inflate_state state; /* a step's that may be taken back; later a
				     * proof's */
	uint8_t history[WINDOW];    /* what came out last */
	uint8_t window[WINDOW];
	uint8_t in[PROOF_IN]; /* behind the checkpoint */
	uint8_t out[PROOF];
	uint8_t trial[2][PROOF];
	uint8_t packed[QL_SPAN_WINDOW_MAX];
};

int ql_gzip_index_new(struct ql_spans *spans, struct ql_gzip_index **ret_ix,
		      struct ql_error *err)
{
	struct ql_gzip_index *ix = calloc(1, sizeof(*ix));

	if (ix)
		ix->zstd = ZSTD_createCCtx();
	if (!ix || !ix->zstd) {
		free(ix);
		return ql_error_nomem(err);
	}
	ix->spans = spans;
	ql_spans_codec(spans, QL_CODEC_GZIP);
	*ret_ix = ix;
	return 0;
}

void ql_gzip_index_free(struct ql_gzip_index *ix)
{
	if (!ix)
		return;
	(void)ZSTD_freeCCtx(ix->zstd);
	free(ix);
}

/* ---- members ---- */

void ql_gzip_index_member(struct ql_gzip_index *ix, uint64_t offset)
{
	struct ql_toc_span at = { .offset = offset, .raw = ix->raw };

	ix->proving = false;
	if (!ix->spans->open || ix->spans->next.checkpoint ||
	    ql_spans_raw(ix->spans, ix->raw) == 0 ||
	    ql_spans_raw(ix->spans, ix->raw) >= MEMBER_MIN)
		ql_spans_begin(ix->spans, &at);
}

void ql_gzip_index_end(struct ql_gzip_index *ix, uint64_t offset)
{
	ql_spans_end(ix->spans, offset, ix->raw);
}

/* ---- proving a checkpoint ---- */

/* Inflates what is behind the checkpoint with a dictionary.  Bytes made. */
static size_t trial_run(struct ql_gzip_index *ix, const uint8_t dict[WINDOW],
			uint8_t out[PROOF])
{
	struct inflate_state *st = &ix->state;
	size_t skip = ix->at.bits > 0 ? 1 : 0;

	isal_inflate_init(st);
	st->crc_flag = ISAL_DEFLATE;
	if (isal_inflate_set_dict(st, (uint8_t *)(uintptr_t)dict, WINDOW) !=
	    ISAL_DECOMP_OK)
		return 0;
	if (ix->at.bits > 0) {
		st->read_in = (uint64_t)ix->in[0] >> (8 - ix->at.bits);
		st->read_in_length = ix->at.bits;
	}
	st->next_in = ix->in + skip;
	st->avail_in = (uint32_t)(ix->n_in - skip);
	st->next_out = out;
	st->avail_out = PROOF;
	while (st->avail_out > 0) {
		uint32_t before = st->avail_out;

		if (isal_inflate(st) < 0 || st->avail_out == before)
			break;
	}
	return PROOF - st->avail_out;
}

static bool trials_run(struct ql_gzip_index *ix)
{
	uint8_t dict[WINDOW];

	for (unsigned int t = 0; t < 2; t++) {
		for (unsigned int i = 0; i < WINDOW; i++)
			dict[i] = (uint8_t)(i + t * (1 + (i >> 8)));
		if (trial_run(ix, dict, ix->trial[t]) != PROOF)
			return false;
	}
	return true;
}

/* Keeps of the window what is needed.  False: it decodes to something else. */
static bool window_thin(struct ql_gzip_index *ix, uint8_t thin[WINDOW],
			size_t *ret_from)
{
	size_t from = WINDOW;

	memset(thin, 0, WINDOW);
	for (size_t i = 0; i < PROOF; i++) {
		uint8_t made = ix->trial[0][i];
		uint8_t apart = (uint8_t)(ix->trial[1][i] - made);

		if (apart != 0) {
			size_t at = made | (size_t)(apart - 1) << 8;

			if (at >= WINDOW)
				return false;
			made = thin[at] = ix->window[at];
			if (at < from)
				from = at;
		}
		if (made != ix->out[i])
			return false;
	}
	*ret_from = from;
	return true;
}

static void prove(struct ql_gzip_index *ix)
{
	uint8_t thin[WINDOW];
	size_t from, n = 0;

	ix->proving = false;
	if (!trials_run(ix) || !window_thin(ix, thin, &from))
		return;
	if (from < WINDOW)
		n = ZSTD_compressCCtx(ix->zstd, ix->packed, sizeof(ix->packed),
				      thin + from, WINDOW - from, LEVEL);
	if (ZSTD_isError(n))
		return;
	ix->at.window = ix->packed;
	ix->at.window_len = (uint32_t)n;
	ql_spans_begin(ix->spans, &ix->at);
	ix->windows += n;
	ix->n++;
}

/* ---- finding one ---- */

/* Between two blocks, everything before it handed out. */
static bool between_blocks(const struct inflate_state *st)
{
	return (st->block_state == ISAL_BLOCK_NEW_HDR ||
		st->block_state == ISAL_BLOCK_HDR) &&
	       st->tmp_out_valid == st->tmp_out_processed &&
	       st->read_in_length >= 0 && st->read_in_length <= 64 &&
	       st->tmp_in_size >= 0 &&
	       st->tmp_in_size <= (int)sizeof(st->tmp_in_buffer);
}

/* The stream is between blocks, at pos of the blob.  What was read ahead of
 * the next block is in the state. */
static void checkpoint(struct ql_gzip_index *ix, const struct inflate_state *st,
		       uint64_t pos)
{
	unsigned int bits = (unsigned int)st->read_in_length;
	uint64_t ahead = st->read_in;
	uint64_t whole = (uint64_t)st->tmp_in_size + bits / 8;

	if (whole > pos)
		return;
	ix->at = (struct ql_toc_span){ .offset = pos - whole,
				       .bits = (uint8_t)(bits % 8),
				       .checkpoint = true,
				       .raw = ix->raw };
	ix->n_in = ix->n_out = 0;
	if (bits % 8 > 0) {
		ix->in[ix->n_in++] = (uint8_t)(ahead << (8 - bits % 8));
		ahead >>= bits % 8;
	}
	for (unsigned int i = 0; i < bits / 8; i++, ahead >>= 8)
		ix->in[ix->n_in++] = (uint8_t)ahead;
	memcpy(ix->in + ix->n_in, st->tmp_in_buffer, (size_t)st->tmp_in_size);
	ix->n_in += (size_t)st->tmp_in_size;
	memcpy(ix->window, ix->history, WINDOW);
	ix->proving = true;
}

/* A block's header was read since. */
static bool tables_changed(const struct ql_gzip_index *ix,
			   const struct inflate_state *st)
{
	return memcmp(&ix->state.lit_huff_code, &st->lit_huff_code,
		      sizeof(st->lit_huff_code)) != 0;
}

static int step(struct inflate_state *st, uint32_t max)
{
	uint32_t rest = st->avail_in > max ? st->avail_in - max : 0;
	int r;

	st->avail_in -= rest;
	r = isal_inflate(st);
	st->avail_in += rest;
	return r;
}

/* Through a step with a block's end in it, again, slowly, up to that end. */
static int steps_near(struct inflate_state *st, uint32_t len)
{
	uint32_t stop = st->avail_in - len;
	int r = 0;

	while (r == 0 && st->avail_in > stop && st->avail_out > 0) {
		uint32_t left = st->avail_in - stop;

		r = step(st, left < NEAR ? left : NEAR);
		if (between_blocks(st) || st->block_state == ISAL_BLOCK_FINISH)
			break;
	}
	return r;
}

static int seek_inflate(struct ql_gzip_index *ix, struct inflate_state *st)
{
	uint8_t *in = st->next_in, *out = st->next_out;
	uint32_t avail_in = st->avail_in, avail_out = st->avail_out;
	uint32_t len = avail_in < FAR ? avail_in : FAR;
	int r;

	/* A stored block says how long it is. */
	if (st->block_state == ISAL_BLOCK_TYPE0) {
		int64_t rest =
			(int64_t)st->type0_block_len - st->read_in_length / 8;

		return step(st, rest > 0 ? (uint32_t)rest : 1);
	}
	ix->state = *st;
	r = step(st, len);
	if (r != 0 || between_blocks(st) || !tables_changed(ix, st))
		return r;
	*st = ix->state;
	st->next_in = in;
	st->avail_in = avail_in;
	st->next_out = out;
	st->avail_out = avail_out;
	return steps_near(st, len);
}

/* ---- the stream ---- */

static bool is_due(const struct ql_gzip_index *ix, uint64_t pos)
{
	uint64_t next = ix->n > 0 ? ix->windows / ix->n : GUESS;

	return !ix->proving && !ix->spans->failed &&
	       ql_spans_raw(ix->spans, ix->raw) >= SPACING &&
	       ix->windows + next <= pos / BUDGET;
}

static void history_add(struct ql_gzip_index *ix, const uint8_t *data, size_t n)
{
	if (n >= WINDOW) {
		memcpy(ix->history, data + n - WINDOW, WINDOW);
		return;
	}
	memmove(ix->history, ix->history + n, WINDOW - n);
	memcpy(ix->history + WINDOW - n, data, n);
}

static void proof_add(struct ql_gzip_index *ix, const uint8_t *in, size_t n_in,
		      const uint8_t *out, size_t n_out)
{
	if (n_in > PROOF_IN - ix->n_in)
		n_in = PROOF_IN - ix->n_in;
	if (n_out > PROOF - ix->n_out)
		n_out = PROOF - ix->n_out;
	memcpy(ix->in + ix->n_in, in, n_in);
	memcpy(ix->out + ix->n_out, out, n_out);
	ix->n_in += n_in;
	ix->n_out += n_out;
	if (ix->n_out == PROOF)
		prove(ix);
	else if (ix->n_in == PROOF_IN)
		ix->proving = false;
}

int ql_gzip_index_inflate(struct ql_gzip_index *ix, struct inflate_state *st,
			  uint64_t pos)
{
	const uint8_t *in = st->next_in, *out = st->next_out;
	bool due = is_due(ix, pos);
	size_t n_in, n_out;
	int r = due ? seek_inflate(ix, st) : isal_inflate(st);

	n_in = (size_t)(st->next_in - in);
	n_out = (size_t)(st->next_out - out);
	ix->raw += n_out;
	history_add(ix, out, n_out);
	if (r < 0)
		return r;
	if (ix->proving)
		proof_add(ix, in, n_in, out, n_out);
	else if (due && between_blocks(st))
		checkpoint(ix, st, pos + n_in);
	return r;
}
