/* SPDX-License-Identifier: Apache-2.0 */
/* A Kubernetes API's NodeList, twice: as two pages it has each node twice. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sched-exporter/kube.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_warning(const char *text, void *arg)
{
	(void)arg;
	for (; *text; text++)
		if ((unsigned char)*text < ' ')
			abort();
}

static void check(const struct ql_nodes *n)
{
	for (uint32_t i = 0; i < n->n_nodes; i++)
		if (n->nodes[i].site >= n->n_sites || n->nodes[i].up == 0 ||
		    !ql_qdm_name_ok(n->nodes[i].name) ||
		    !ql_qdm_address_ok(n->addresses[i]) ||
		    ql_nodes_find(n, n->nodes[i].name) != i)
			abort();
	for (uint32_t i = 0; i < n->n_sites; i++)
		if (!ql_qdm_name_ok(n->sites[i].name) ||
		    n->sites[i].uplink == 0)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (int pages = 1; pages <= 2; pages++) {
		_cleanup_(ql_kubenodes_freep) struct ql_kubenodes *list = NULL;
		_cleanup_nodes_ struct ql_nodes nodes = { 0 };
		struct ql_error err = QL_ERROR_INIT;
		int r = ql_kubenodes_new("edge", on_warning, NULL, &list, &err);

		for (int i = 0; i < pages && r == 0; i++) {
			_cleanup_free_ char *next = NULL;

			r = ql_kubenodes_add(list, (const char *)data, size,
					     &next, &err);
		}
		if (r == 0)
			r = ql_kubenodes_finish(list, &nodes, &err);
		if (r == 0 && pages > 1)
			abort();
		if (r == 0)
			check(&nodes);
	}
	return 0;
}
