/* SPDX-License-Identifier: Apache-2.0 */
/* References: what is accepted must be its own normal spelling. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fetch/fetch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = strndup((const char *)data, size);
	struct ql_error err = QL_ERROR_INIT;
	struct ql_ref ref = { 0 };
	struct ql_ref again = { 0 };

	if (!text || ql_ref_parse(text, &ref, &err) < 0)
		return 0;
	if (ql_ref_parse(ref.name, &again, &err) < 0 ||
	    strcmp(again.name, ref.name) != 0)
		abort();
	ql_ref_release(&ref);
	ql_ref_release(&again);
	return 0;
}
