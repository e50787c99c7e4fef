/* SPDX-License-Identifier: Apache-2.0 */
/* A peer's answer to a batch of parts of 0, 1, 2, 4, … bytes: no frame is
 * longer than its part, and they come in order, as far as they come. */
#include <stdint.h>
#include <stdlib.h>

#include "fetch/peer-private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PARTS = 24 };

static void must(bool true_)
{
	if (!true_)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_stream_ struct ql_stream *in = NULL;
	struct ql_peer_part parts[PARTS] = { 0 };
	struct ql_error err = QL_ERROR_INIT;
	struct ql_peer_frames f;
	struct ql_peer_frame frame;
	size_t next = 0, passed = 0;
	int r;

	for (size_t i = 1; i < PARTS; i++)
		parts[i].len = UINT64_C(1) << (i - 1);
	must(ql_stream_from_mem(data, size, &in, NULL) == 0);
	ql_peer_frames_init(&f, in, parts, PARTS);
	while ((r = ql_peer_frames_next(&f, &frame, &err)) > 0) {
		char buf[37];
		ssize_t n = 0;
		uint64_t got = 0;

		must(frame.part == next && next < PARTS);
		must(frame.len <= parts[next].len);
		must(frame.error == 0 || (frame.error < 0 && frame.len == 0));
		/* Each third is left to be passed over. */
		while (next % 3 < 2 &&
		       (n = ql_peer_frames_read(&f, buf, sizeof(buf), &err)) >
			       0)
			got += (uint64_t)n;
		must(got <= frame.len);
		must(n < 0 || next % 3 == 2 || got == frame.len);
		passed += QL_PEER_FRAME_HEADER + got;
		must(passed <= size);
		next++;
	}
	must(r == 0 ? next == PARTS : err.text[0] != '\0');
	return 0;
}
