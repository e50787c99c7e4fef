/* SPDX-License-Identifier: Apache-2.0 */
/* A filter from a peer: what is accepted is printed as it came, and can be
 * asked of any digest. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fetch/peerfilter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool true_)
{
	if (!true_)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_filter_ struct ql_filter filter = { 0 };
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_FILTER_MAX);
	struct ql_error err = QL_ERROR_INIT;
	struct ql_digest d;

	if (ql_filter_parse(data, size, &filter, &err) < 0) {
		must(err.text[0] != '\0');
		return 0;
	}
	must(ql_filter_print(&filter, &buf) == 0);
	must(buf.len == size && memcmp(buf.data, data, size) == 0);
	memset(&d, 0xff, sizeof(d));
	(void)ql_filter_has(&filter, &d);
	must(size >= sizeof(d));
	memcpy(&d, data + size - sizeof(d), sizeof(d));
	ql_filter_add(&filter, &d);
	must(ql_filter_has(&filter, &d));
	return 0;
}
