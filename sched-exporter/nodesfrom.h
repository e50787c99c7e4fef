/* SPDX-License-Identifier: Apache-2.0 */
/* Where nodes come from, for the command and the scheduler: a file, or a
 * Kubernetes API. */
#ifndef QL_NODESFROM_H
#define QL_NODESFROM_H

#include "sched-exporter/kube.h"

/* All borrowed. */
struct ql_nodes_from {
	const char *file; /* "--nodes"; or NULL */
	bool kubernetes;  /* or of an API, of which kube.api says where it is */
	struct ql_kube_options kube;
};

/* Of options that were given: NULL, or what is wrong with them. */
const char *ql_nodes_from_wrong(const struct ql_nodes_from *from);
/* Reads them now.  Errors as of reading a file, ql_nodes_parse() and
 * ql_kube_nodes(); they name the file, or the API. */
int ql_nodes_from(const struct ql_nodes_from *from, struct ql_nodes *ret_nodes,
		  struct ql_error *err);

#endif
