/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the objects of a trace begin and end, in an array, one a line, or both,
 * by counting braces outside of strings.  A broken object costs no more than
 * itself: one that opens a line (but for "[" or ",") is a new one, whatever
 * was open before, since the traces' objects have no others in them at the
 * begin of a line.  Memory is one object's.
 */
#include "tools/cachesim/cachesim.h"

#include <errno.h>
#include <string.h>

enum { CHUNK = 64 << 10 };

struct ql_traceframe {
	struct ql_stream *in; /* borrowed */
	char chunk[CHUNK];
	size_t len, pos;
	struct ql_buf text;
	uint64_t line;	/* that is being read, from 1 */
	uint64_t begin; /* of the object */
	unsigned int depth;
	bool string, escape;
	bool line_start; /* nothing but blanks, "[" and "," on this line yet */
	bool junk;	 /* this line was told of */
};

int ql_traceframe_new(struct ql_stream *in, struct ql_traceframe **ret_frame,
		      struct ql_error *err)
{
	struct ql_traceframe *f = calloc(1, sizeof(*f));

	if (!f)
		return ql_error_nomem(err);
	f->in = in;
	f->line = 1;
	f->line_start = true;
	ql_buf_init(&f->text, QL_TRACE_LINE_MAX);
	*ret_frame = f;
	return 0;
}

void ql_traceframe_free(struct ql_traceframe *f)
{
	if (!f)
		return;
	ql_buf_release(&f->text);
	free(f);
}

static void reset(struct ql_traceframe *f)
{
	ql_buf_clear(&f->text);
	f->depth = 0;
	f->string = f->escape = false;
}

static void open_object(struct ql_traceframe *f)
{
	reset(f);
	f->begin = f->line;
}

static void inside(struct ql_traceframe *f, char ch)
{
	if (f->escape)
		f->escape = false;
	else if (f->string && ch == '\\')
		f->escape = true;
	else if (ch == '"')
		f->string = !f->string;
	else if (!f->string && ch == '{')
		f->depth++;
	else if (!f->string && ch == '}')
		f->depth--;
}

/* Between objects; true: what stands here is told of. */
static bool outside(struct ql_traceframe *f, char ch)
{
	if (strchr(" \t\r\n[],", ch) || f->junk)
		return false;
	f->junk = true;
	f->begin = f->line;
	return true;
}

static void count_line(struct ql_traceframe *f, char ch)
{
	if (ch == '\n') {
		f->line++;
		f->line_start = true;
		f->junk = false;
	} else if (!strchr(" \t\r[,", ch)) {
		f->line_start = false;
	}
}

/* 1: an object is whole; 0: go on. */
static int feed(struct ql_traceframe *f, char ch, struct ql_error *err)
{
	bool fresh = ch == '{' && f->line_start;
	int r;

	if (f->depth > 0 && fresh) {
		f->depth = 0; /* this character comes again */
		f->pos--;
		return ql_error_set(err, -EBADMSG, "the object has no end");
	}
	count_line(f, ch);
	if (f->depth == 0) {
		if (ch != '{')
			return outside(f, ch) ? ql_error_set(err, -EBADMSG,
							     "no JSON object")
					      : 0;
		if (f->junk)
			return 0; /* in a line that was told of */
		open_object(f);
	}
	r = ql_buf_add(&f->text, &ch, 1);
	if (r == -EFBIG) {
		f->depth = 0;
		f->junk = true;
		return ql_error_set(err, -EBADMSG,
				    "an object of more than %d bytes",
				    QL_TRACE_LINE_MAX);
	}
	if (r < 0)
		return ql_error_nomem(err);
	inside(f, ch);
	return f->depth == 0;
}

static int fill(struct ql_traceframe *f, struct ql_error *err)
{
	ssize_t n = ql_stream_read(f->in, f->chunk, sizeof(f->chunk), err);

	if (n < 0)
		return (int)n;
	f->len = (size_t)n;
	f->pos = 0;
	if (n == 0 && f->depth > 0) {
		f->depth = 0;
		return ql_error_set(err, -EBADMSG, "the object has no end");
	}
	return n > 0;
}

int ql_traceframe_next(struct ql_traceframe *f, const char **ret_text,
		       size_t *ret_len, uint64_t *ret_line,
		       struct ql_error *err)
{
	int r = 0;

	while (r == 0) {
		if (f->pos == f->len) {
			r = fill(f, err);
			if (r == 0)
				return 0;
			if (r < 0)
				break;
		}
		r = feed(f, f->chunk[f->pos++], err);
	}
	*ret_line = f->begin;
	if (r > 0) {
		*ret_text = f->text.data;
		*ret_len = f->text.len;
	}
	return r;
}
