/* SPDX-License-Identifier: Apache-2.0 */
/* Traces: every object that is framed is within bounds, lines come in the
 * order of their times, and each is counted once. */
#include <stdint.h>
#include <stdlib.h>

#include "tools/cachesim/cachesim.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ql_trace_counts counts = { 0 };
	_cleanup_(ql_tracereader_freep) struct ql_tracereader *reader = NULL;
	_cleanup_stream_ struct ql_stream *in = NULL;
	struct ql_error err = QL_ERROR_INIT;
	struct ql_traceline line;
	int64_t last = INT64_MIN;
	uint64_t n = 0;

	if (ql_stream_from_mem(data, size, &in, &err) < 0 ||
	    ql_tracereader_new(in, &counts, &reader, &err) < 0)
		return 0;
	while (ql_tracereader_next(reader, &line, &err) > 0) {
		if (line.time < last || line.kind == QL_TRACE_OTHER ||
		    line.family == 0 ||
		    (line.kind == QL_TRACE_BLOB && line.size == 0))
			abort();
		last = line.time;
		n++;
	}
	if (n + counts.broken + counts.other != counts.lines ||
	    counts.n_named > counts.broken)
		abort();
	ql_trace_counts_release(&counts);
	return 0;
}
