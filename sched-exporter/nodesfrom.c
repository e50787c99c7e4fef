/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes out of a file, or out of a Kubernetes API. */
#include "sched-exporter/nodesfrom.h"

#include <fcntl.h>

const char *ql_nodes_from_wrong(const struct ql_nodes_from *from)
{
	const struct ql_kube_options *kube = &from->kube;
	bool api = from->kubernetes || kube->api.url;

	if (!from->file == !api)
		return "either --nodes or --kubernetes is needed";
	if (!api && (kube->api.token || kube->api.ca || kube->cluster))
		return "--kubernetes-token, --kubernetes-ca and --cluster go "
		       "with --kubernetes";
	return NULL;
}

int ql_nodes_from(const struct ql_nodes_from *from, struct ql_nodes *ret_nodes,
		  struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_NODES_BYTES_MAX);
	int r;

	if (!from->file)
		return ql_kube_nodes(&from->kube, ret_nodes, err);
	r = ql_read_file(AT_FDCWD, from->file, &buf, err);
	if (r < 0)
		return r;
	r = ql_nodes_parse(ql_buf_str(&buf), buf.len, ret_nodes, err);
	return r < 0 ? ql_error_prefix(err, "%s", from->file) : 0;
}
