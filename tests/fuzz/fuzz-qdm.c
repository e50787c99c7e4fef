/* SPDX-License-Identifier: Apache-2.0 */
/* Deployment manifests; what is taken must be written and taken again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fetch/qdm.h"
#include "store/base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_buf_ struct ql_buf out = QL_BUF_INIT(QL_QDM_BYTES_MAX);
	_cleanup_qdm_ struct ql_qdm qdm = { 0 }, again = { 0 };
	struct ql_error err = QL_ERROR_INIT;

	if (ql_qdm_parse((const char *)data, size, &qdm, &err) < 0)
		return 0;
	(void)ql_qdm_check(&qdm, "edge", 7, &err);
	if (ql_qdm_write(&qdm, &out, &err) < 0 ||
	    ql_qdm_parse(out.data, out.len, &again, &err) < 0)
		abort();
	if (again.n_nodes != qdm.n_nodes || again.n_fetches != qdm.n_fetches ||
	    strcmp(again.cluster, qdm.cluster) != 0)
		abort();
	return 0;
}
