/* SPDX-License-Identifier: Apache-2.0 */
/* Sites, links and nodes, as they are written down for the planner. */
#include <stdint.h>
#include <stdlib.h>

#include "sched-exporter/nodes.h"
#include "store/base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_nodes_ struct ql_nodes nodes = { 0 };
	struct ql_error err = QL_ERROR_INIT;

	if (ql_nodes_parse((const char *)data, size, &nodes, &err) < 0)
		return 0;
	for (uint32_t i = 0; i < nodes.n_nodes; i++)
		if (nodes.nodes[i].site >= nodes.n_sites ||
		    ql_nodes_find(&nodes, nodes.nodes[i].name) != i)
			abort();
	return 0;
}
