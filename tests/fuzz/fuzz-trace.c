/* SPDX-License-Identifier: Apache-2.0 */
/* A trace's text: what is accepted is printed as what reads as the same.  The
 * first line of it, by itself, as the annotation of a start blob too. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fetch/start-private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool true_)
{
	if (!true_)
		abort();
}

static void reference(const char *text, size_t len)
{
	struct ql_start_ref ref, again;
	char buf[QL_START_REF_TEXT];
	_cleanup_free_ char *line = strndup(text, len);

	if (!line)
		return;
	line[strcspn(line, "\n")] = '\0';
	if (ql_start_ref_parse(line, &ref, NULL) < 0)
		return;
	must(ref.head_size <= ref.size);
	must(ql_start_ref_parse(ql_start_ref_print(&ref, buf), &again, NULL) ==
	     0);
	must(again.size == ref.size && again.head_size == ref.head_size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(ql_trace_release) struct ql_trace trace = { 0 };
	_cleanup_(ql_trace_release) struct ql_trace again = { 0 };
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_TRACE_MAX);
	struct ql_error err = QL_ERROR_INIT;
	const char *text = (const char *)data;

	if (size > 1 << 20)
		return 0;
	reference(text, size);
	if (ql_trace_parse(text, size, &trace, &err) < 0) {
		must(err.text[0] != '\0');
		return 0;
	}
	must(ql_trace_print(&trace, &buf) == 0);
	must(ql_trace_parse(ql_buf_str(&buf), buf.len, &again, NULL) == 0);
	must(again.n == trace.n);
	for (size_t i = 0; i < trace.n; i++)
		must(strcmp(trace.items[i].path, again.items[i].path) == 0 &&
		     trace.items[i].offset == again.items[i].offset &&
		     trace.items[i].len == again.items[i].len);
	return 0;
}
