/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A trace: which parts of which files a start reads, in order.  Text, so that
 * people can read and write it:
 *
 *   quicklayer-trace 1
 *   <offset> <length> <path>
 *
 * A path is below the image's root; control characters and backslashes in it
 * are written \ooo, as in mountinfo.  Length 0: to the end.
 */
#include "fetch/fetch-private.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define TRACE_FIRST_LINE "quicklayer-trace 1"

enum { TRACE_ITEMS_MAX = 1 << 20, TRACE_PATH_MAX = 4096 };

void ql_trace_release(struct ql_trace *trace)
{
	for (size_t i = 0; i < trace->n; i++)
		free(trace->items[i].path);
	free(trace->items);
	*trace = (struct ql_trace){ 0 };
}

int ql_trace_add(struct ql_trace *trace, const char *path, uint64_t offset,
		 uint64_t len)
{
	char *copy;

	if (trace->n == TRACE_ITEMS_MAX)
		return -E2BIG;
	if (trace->n == trace->cap) {
		size_t cap = trace->cap ? trace->cap * 2 : 64;
		struct ql_trace_item *grown =
			reallocarray(trace->items, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		trace->items = grown;
		trace->cap = cap;
	}
	copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	trace->items[trace->n++] = (struct ql_trace_item){ copy, offset, len };
	return 0;
}

/* ---- reading ---- */

/* In place; false: an escape that is none. */
static bool unescape(char *path)
{
	char *to = path;

	for (const char *p = path; *p; to++) {
		if (*p != '\\') {
			*to = *p++;
			continue;
		}
		for (int i = 1; i <= 3; i++)
			if (p[i] < '0' || p[i] > '7')
				return false;
		*to = (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 |
			     (p[3] - '0'));
		if (*to == 0)
			return false;
		p += 4;
	}
	*to = 0;
	return true;
}

static bool number(const char **p, uint64_t *ret)
{
	char *end;

	if (!isdigit((unsigned char)**p))
		return false;
	errno = 0;
	*ret = strtoull(*p, &end, 10);
	if (errno != 0 || *end != ' ' || *ret > INT64_MAX)
		return false;
	*p = end + 1;
	return true;
}

static int trace_line(struct ql_trace *trace, const char *line, size_t n,
		      struct ql_error *err)
{
	_cleanup_free_ char *path = NULL;
	uint64_t offset, len;
	const char *p = line;
	int r;

	if (!number(&p, &offset) || !number(&p, &len) || *p == 0)
		return ql_error_set(err, -EBADMSG,
				    "trace: line %zu: not \"<offset> <length> "
				    "<path>\"",
				    n);
	path = strdup(p);
	if (!path)
		return ql_error_nomem(err);
	if (!unescape(path) || strlen(path) > TRACE_PATH_MAX)
		return ql_error_set(err, -EBADMSG,
				    "trace: line %zu: not a path", n);
	r = ql_trace_add(trace, path, offset, len);
	return r < 0 ? ql_error_errno(err, r, "trace: line %zu", n) : 0;
}

int ql_trace_parse(const char *text, size_t len, struct ql_trace *ret_trace,
		   struct ql_error *err)
{
	_cleanup_free_ char *copy = strndup(text, len);
	_cleanup_(ql_trace_release) struct ql_trace trace = { 0 };
	char *save = NULL, *line;
	size_t n = 1;
	int r = 0;

	if (!copy)
		return ql_error_nomem(err);
	if (strlen(copy) != len)
		return ql_error_set(err, -EBADMSG, "trace: not a text");
	line = strtok_r(copy, "\n", &save);
	if (!line || strcmp(line, TRACE_FIRST_LINE) != 0)
		return ql_error_set(err, -EBADMSG,
				    "trace: it does not begin with \"%s\"",
				    TRACE_FIRST_LINE);
	while (r == 0 && (line = strtok_r(NULL, "\n", &save)))
		r = trace_line(&trace, line, ++n, err);
	if (r < 0)
		return r;
	*ret_trace = trace;
	trace = (struct ql_trace){ 0 };
	return 0;
}

/* ---- writing ---- */

static int add_path(struct ql_buf *buf, const char *path)
{
	int r = 0;

	for (; *path && r == 0; path++) {
		unsigned char c = (unsigned char)*path;

		r = c < 0x20 || c == '\\' || c == 0x7f
			    ? ql_buf_addf(buf, "\\%03o", c)
			    : ql_buf_add_u8(buf, c);
	}
	return r;
}

int ql_trace_print(const struct ql_trace *trace, struct ql_buf *buf)
{
	int r = ql_buf_adds(buf, TRACE_FIRST_LINE "\n");

	for (size_t i = 0; i < trace->n && r == 0; i++) {
		const struct ql_trace_item *item = &trace->items[i];

		r = ql_buf_addf(buf, "%" PRIu64 " %" PRIu64 " ", item->offset,
				item->len);
		if (r == 0)
			r = add_path(buf, item->path);
		if (r == 0)
			r = ql_buf_add_u8(buf, '\n');
	}
	return r;
}
