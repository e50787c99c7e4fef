/* SPDX-License-Identifier: Apache-2.0 */
/* The pages of a Kubernetes API's list of nodes. */
#include "sched-exporter/kube.h"

#include <errno.h>
#include <stdlib.h>

/* RFC 3986 §2.3's characters stay; of the API's own making, but from outside.
 */
static int path_make(const char *next, char **ret_path)
{
	static const char first[] =
		"/api/v1/nodes?labelSelector=quicklayer.io%2Fsite&limit=";
	_cleanup_free_ char *head = ql_strf("%s%d", first, QL_KUBE_PAGE);
	_cleanup_free_ char *more = ql_strf("%s&continue=", head ? head : "");

	if (!head || !more)
		return -ENOMEM;
	*ret_path = next ? ql_local_path(more, next, "") : ql_take_ptr(head);
	return *ret_path ? 0 : -ENOMEM;
}

static int page_read(struct ql_kubeapi *api, struct ql_kubenodes *list,
		     char **next, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_KUBE_PAGE_BYTES_MAX);
	_cleanup_free_ char *path = NULL;
	_cleanup_free_ char *from = ql_take_ptr(*next);
	int r;

	if (path_make(from, &path) < 0)
		return ql_error_nomem(err);
	r = ql_kubeapi_get(api, path, &buf, err);
	if (r < 0)
		return r;
	r = ql_kubenodes_add(list, ql_buf_str(&buf), buf.len, next, err);
	return r < 0 ? ql_error_prefix(err, "Kubernetes API %s: nodes",
				       ql_kubeapi_url(api))
		     : 0;
}

int ql_kube_nodes(const struct ql_kube_options *options,
		  struct ql_nodes *ret_nodes, struct ql_error *err)
{
	_cleanup_(ql_kubeapi_freep) struct ql_kubeapi *api = NULL;
	_cleanup_(ql_kubenodes_freep) struct ql_kubenodes *list = NULL;
	_cleanup_free_ char *next = NULL;
	unsigned int pages = 0;
	int r = ql_kubenodes_new(options->cluster ? options->cluster
						  : "default",
				 options->warn, options->arg, &list, err);

	if (r == 0)
		r = ql_kubeapi_new(&options->api, &api, err);
	if (r < 0)
		return r;
	do {
		r = page_read(api, list, &next, err);
	} while (r == 0 && next && ++pages < QL_KUBE_PAGES_MAX);
	if (r == 0 && next)
		r = ql_error_set(err, -EFBIG,
				 "the list of nodes goes on after %d pages",
				 QL_KUBE_PAGES_MAX);
	return r < 0 ? r : ql_kubenodes_finish(list, ret_nodes, err);
}
