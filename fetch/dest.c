/* SPDX-License-Identifier: Apache-2.0 */
/* Where a push goes, by the reference's kind; and a registry as such. */
#include "fetch/push-private.h"
#include "fetch/start-private.h"

#include <errno.h>

struct registry_dest {
	struct ql_dest base;
	const struct ql_ref *ref; /* borrowed */
	struct ql_source *src;	  /* owned; the registry */
	struct ql_registry *reg;  /* borrowed: it is src */
};

static int put_blob(struct ql_dest *dest, const struct ql_push_blob *blob,
		    bool *ret_there, struct ql_error *err)
{
	struct registry_dest *d = (struct registry_dest *)dest;

	return ql_registry_put_blob(d->reg, blob, ret_there, err);
}

static int put_manifest(struct ql_dest *dest, bool tagged, const void *data,
			size_t len, struct ql_error *err)
{
	struct registry_dest *d = (struct registry_dest *)dest;

	return ql_registry_put_manifest(d->reg, tagged ? d->ref->tag : NULL,
					QL_TYPE_MANIFEST, data, len, err);
}

static struct ql_source *dest_source(struct ql_dest *dest)
{
	return ((struct registry_dest *)dest)->src;
}

static int dest_hold(struct ql_dest *dest, const struct ql_digest *manifest,
		     uint64_t size, const struct ql_start_ref *start,
		     struct ql_error *err)
{
	return ql_start_refer(((struct registry_dest *)dest)->reg, manifest,
			      size, start, err);
}

static void dest_cancel(struct ql_dest *dest)
{
	struct registry_dest *d = (struct registry_dest *)dest;

	d->src->ops->cancel(d->src);
}

static void dest_free(struct ql_dest *dest)
{
	struct registry_dest *d = (struct registry_dest *)dest;

	ql_source_free(d->src);
	free(d);
}

static const struct ql_dest_ops registry_ops = {
	.put_blob = put_blob,
	.put_manifest = put_manifest,
	.source = dest_source,
	.hold = dest_hold,
	.cancel = dest_cancel,
	.free = dest_free,
};

static int registry_open(const struct ql_ref *ref,
			 const struct ql_push_options *options,
			 struct ql_dest **ret_dest, struct ql_error *err)
{
	const struct ql_pull_options pull = {
		.plain_http = options->plain_http,
		.config_dir = options->config_dir,
	};
	struct registry_dest *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return ql_error_nomem(err);
	d->base.ops = &registry_ops;
	d->ref = ref;
	r = ql_registry_open(ref, &pull, &d->src, err);
	if (r < 0) {
		free(d);
		return r;
	}
	d->reg = (struct ql_registry *)d->src;
	ql_registry_may_push(d->reg);
	*ret_dest = &d->base;
	return 0;
}

int ql_dest_open(const struct ql_ref *ref,
		 const struct ql_push_options *options,
		 struct ql_dest **ret_dest, struct ql_error *err)
{
	if (ref->has_digest)
		return ql_error_set(err, -EINVAL,
				    "what is pushed has the digest that it "
				    "has; name a tag");
	switch (ref->kind) {
	case QL_REF_REGISTRY:
		return registry_open(ref, options, ret_dest, err);
	case QL_REF_OCI_DIR:
		return ql_ocidirwrite_open(ref, ret_dest, err);
	case QL_REF_DOCKER_ARCHIVE:
		break;
	}
	return ql_error_set(err, -EINVAL,
			    "an image can be pushed to a registry or to "
			    "oci:DIR");
}

void ql_dest_free(struct ql_dest *dest)
{
	if (dest)
		dest->ops->free(dest);
}

int ql_dest_put_data(struct ql_dest *dest, const void *data, size_t len,
		     const char *mount, struct ql_digest *ret_digest,
		     bool *ret_there, struct ql_error *err)
{
	struct ql_push_blob blob = {
		.size = len, .data = data, .fd = -1, .mount = mount
	};
	int r = ql_digest_of(data, len, &blob.digest);

	if (r < 0)
		return ql_error_nomem(err);
	r = dest->ops->put_blob(dest, &blob, ret_there, err);
	if (r == 0)
		*ret_digest = blob.digest;
	return r;
}

int ql_dest_hold(struct ql_dest *dest, const struct ql_digest *manifest,
		 uint64_t size, const struct ql_start_ref *start,
		 struct ql_error *err)
{
	return dest->ops->hold
		       ? dest->ops->hold(dest, manifest, size, start, err)
		       : 0;
}
