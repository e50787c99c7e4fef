/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds of source, by the reference's. */
#include "fetch/peer-private.h"

#include <errno.h>

/* Of a registry: peers are asked before it. */
static int registry_open(const struct ql_ref *ref,
			 const struct ql_pull_options *options,
			 struct ql_source **ret_src, struct ql_error *err)
{
	_cleanup_(ql_source_freep) struct ql_source *src = NULL;
	int r = ql_registry_open(ref, options, &src, err);

	if (r == 0 && options->peers)
		r = ql_peersource_new(options->peers, src, ref,
				      options->plain_http, ret_src, err);
	else if (r == 0)
		*ret_src = src;
	if (r == 0)
		src = NULL;
	return r;
}

int ql_source_open(const struct ql_ref *ref,
		   const struct ql_pull_options *options,
		   struct ql_source **ret_src, struct ql_error *err)
{
	switch (ref->kind) {
	case QL_REF_REGISTRY:
		return registry_open(ref, options, ret_src, err);
	case QL_REF_OCI_DIR:
		return ql_ocidir_open(ref, ret_src, err);
	case QL_REF_DOCKER_ARCHIVE:
		return ql_dockerarchive_open(ref, ret_src, err);
	}
	return ql_error_set(err, -EINVAL, "an unknown kind of source");
}

uint32_t ql_source_flags(struct ql_source *src)
{
	return src->ops->is_anonymous && src->ops->is_anonymous(src)
		       ? QL_IMAGE_ANONYMOUS
		       : 0;
}

void ql_source_free(struct ql_source *src)
{
	if (src)
		src->ops->free(src);
}
