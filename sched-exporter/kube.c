/* SPDX-License-Identifier: Apache-2.0 */
/* The pages of a Kubernetes API's list of nodes. */
#include "sched-exporter/kube.h"

#include <errno.h>
#include <stdlib.h>

/* next: where the last page said that the list goes on, or NULL.  It is the
 * API's own text, of which nothing is known.  NULL: out of memory. */
static char *path_make(const char *next)
{
	_cleanup_free_ char *first = ql_strf(
		"/api/v1/nodes?labelSelector=quicklayer.io%%2Fsite&limit=%d%s",
		QL_KUBE_PAGE, next ? "&continue=" : "");

	if (!first || !next)
		return ql_take_ptr(first);
	return ql_local_path(first, next, "");
}

static int page_read(struct ql_kubeapi *api, struct ql_kubenodes *list,
		     char **next, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_KUBE_PAGE_BYTES_MAX);
	_cleanup_free_ char *from = ql_take_ptr(*next);
	_cleanup_free_ char *path = path_make(from);
	int r;

	if (!path)
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
				 "Kubernetes API %s: the list of nodes goes on "
				 "after %d pages",
				 ql_kubeapi_url(api), QL_KUBE_PAGES_MAX);
	return r < 0 ? r : ql_kubenodes_finish(list, ret_nodes, err);
}
