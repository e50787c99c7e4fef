/* SPDX-License-Identifier: Apache-2.0 */
/* Blobs of layers that can stand in many images: written once, then told. */
#include "fetch/push-private.h"

#include <errno.h>
#include <string.h>

int ql_blob_write(ql_tar_open_fn *open, void *arg,
		  const struct ql_push_options *options, unsigned int threads,
		  struct ql_blob **ret_blob, struct ql_error *err)
{
	struct ql_push_options o = *options;
	_cleanup_free_ struct ql_blob *b = calloc(1, sizeof(*b));
	struct ql_layer_format format;
	int r = b ? ql_push_options_check(&o, err) : ql_error_nomem(err);

	if (r < 0)
		return r;
	format = ql_layer_format_of(&o, threads);
	r = ql_layer_convert(open, arg, NULL, &format, &b->c, err);
	if (r < 0)
		return r;
	b->info = (struct ql_blob_info){
		.digest = b->c.written.digest,
		.diff_id = b->c.written.diff_id,
		.size = b->c.written.size,
		.tar_size = b->c.tar_size,
		.lazy = b->c.written.annotations != NULL,
		.why = b->c.why,
	};
	*ret_blob = ql_take_ptr(b);
	return 0;
}

/* The constant that a text equals; NULL: it is no layer of ours. */
static const char *media_type(const char *text)
{
	static const char *const types[] = { QL_TYPE_LAYER "+zstd",
					     QL_TYPE_LAYER "+gzip" };

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(text, types[i]) == 0)
			return types[i];
	return NULL;
}

int ql_blob_known(const json_t *descriptor, const struct ql_digest *diff_id,
		  struct ql_blob **ret_blob, struct ql_error *err)
{
	_cleanup_descriptor_ struct ql_descriptor d = { 0 };
	json_t *notes = json_object_get(descriptor, "annotations");
	_cleanup_(ql_blob_freep) struct ql_blob *b = NULL;
	int r = ql_descriptor_parse(descriptor, &d, err);

	if (r < 0)
		return r;
	b = calloc(1, sizeof(*b));
	if (!b)
		return ql_error_nomem(err);
	b->c.written.fd = -1;
	b->c.written.media_type = media_type(d.media_type);
	if (!b->c.written.media_type)
		return ql_error_set(err, -EINVAL, "%s: no layer's type",
				    d.media_type);
	if (notes) {
		b->c.written.annotations = json_deep_copy(notes);
		if (!b->c.written.annotations)
			return ql_error_nomem(err);
	}
	b->info = (struct ql_blob_info){ .digest = d.digest,
					 .diff_id = *diff_id,
					 .size = d.size,
					 .lazy = notes != NULL };
	*ret_blob = ql_take_ptr(b);
	return 0;
}

const struct ql_blob_info *ql_blob_info(const struct ql_blob *blob)
{
	return &blob->info;
}

struct ql_manifest_blob ql_blob_descriptor(const struct ql_blob *blob)
{
	return (struct ql_manifest_blob){
		.media_type = blob->c.written.media_type,
		.digest = blob->info.digest,
		.size = blob->info.size,
		.annotations = blob->c.written.annotations,
	};
}

void ql_blob_shed(struct ql_blob *blob)
{
	if (blob->c.written.fd >= 0)
		(void)close(ql_take_fd(&blob->c.written.fd));
}

void ql_blob_free(struct ql_blob *blob)
{
	if (!blob)
		return;
	ql_converted_release(&blob->c);
	free(blob);
}
