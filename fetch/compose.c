/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image composed at its destination: blobs in any order and thread, then
 * configuration, start blob and manifest, and at last the tag, so that nobody
 * who asks for the tag ever finds less than an image (OCI distribution-spec
 * 1.1, "Pushing manifests").
 */
#include "fetch/push-private.h"
#include "fetch/start-private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

enum { READ_CHUNK = 64 << 10 };

struct ql_compose {
	const struct ql_ref *ref; /* borrowed */
	enum ql_push_format format;
	struct ql_dest *dest;	/* owned */
	_Atomic uint64_t sent;	/* bytes of blobs */
	struct ql_buf manifest; /* of the image that was put last */
	struct ql_compose_result put;
	uint64_t config_size; /* bytes */
};

int ql_compose_open(const struct ql_ref *dest,
		    const struct ql_push_options *options,
		    struct ql_compose **ret_compose, struct ql_error *err)
{
	_cleanup_free_ struct ql_compose *c = calloc(1, sizeof(*c));
	int r = c ? ql_dest_open(dest, options, &c->dest, err)
		  : ql_error_nomem(err);

	if (r < 0)
		return ql_error_prefix(err, "%s", dest->name);
	c->ref = dest;
	c->format = options->format;
	ql_buf_init(&c->manifest, QL_MANIFEST_MAX);
	*ret_compose = ql_take_ptr(c);
	return 0;
}

void ql_compose_close(struct ql_compose *c)
{
	if (!c)
		return;
	ql_dest_free(c->dest);
	ql_buf_release(&c->manifest);
	free(c);
}

void ql_compose_cancel(struct ql_compose *c)
{
	c->dest->ops->cancel(c->dest);
}

static void sent_add(struct ql_compose *c, uint64_t size, bool there)
{
	if (!there)
		(void)atomic_fetch_add(&c->sent, size);
}

/* ---- layers ---- */

/* The repository to mount from; borrowed, NULL: none. */
static const char *mount_from(const struct ql_compose *c,
			      const struct ql_ref *mount)
{
	bool able = mount && mount->kind == QL_REF_REGISTRY &&
		    c->ref->kind == QL_REF_REGISTRY &&
		    strcmp(mount->domain, c->ref->domain) == 0 &&
		    strcmp(mount->path, c->ref->path) != 0;

	return able ? mount->path : NULL;
}

int ql_compose_blob(struct ql_compose *c, const struct ql_blob *blob,
		    const struct ql_ref *mount, bool *ret_there,
		    struct ql_error *err)
{
	const struct ql_push_blob pb = {
		.digest = blob->info.digest,
		.size = blob->info.size,
		.fd = blob->c.written.fd,
		.mount = mount_from(c, mount),
	};
	int r = c->dest->ops->put_blob(c->dest, &pb, ret_there, err);

	if (r < 0)
		return ql_error_prefix(err, "%s: upload", c->ref->name);
	sent_add(c, pb.size, *ret_there);
	return 0;
}

/* A blob at the destination, checked against its digest. */
static int blob_open(struct ql_compose *c, const struct ql_descriptor *d,
		     struct ql_stream **ret_stream, struct ql_error *err)
{
	struct ql_source *src = c->dest->ops->source(c->dest);
	_cleanup_stream_ struct ql_stream *blob = NULL;
	int r = src->ops->open_blob(src, d, &blob, err);

	if (r == 0)
		r = ql_stream_verify(blob, &d->digest, d->size, ret_stream,
				     err);
	if (r == 0)
		(void)ql_take_ptr(blob);
	return r;
}

int ql_compose_read(struct ql_compose *c, const struct ql_blob *blob,
		    struct ql_stream **ret_tar, struct ql_error *err)
{
	const struct ql_descriptor d = { .digest = blob->info.digest,
					 .size = blob->info.size };
	_cleanup_stream_ struct ql_stream *packed = NULL;
	_cleanup_stream_ struct ql_stream *plain = NULL;
	int r = blob_open(c, &d, &packed, err);

	if (r == 0)
		r = ql_decompress(packed, &plain, err);
	if (r < 0)
		return ql_error_prefix(err, "%s", c->ref->name);
	(void)ql_take_ptr(packed);
	r = ql_stream_verify(plain, &blob->info.diff_id, UINT64_MAX, ret_tar,
			     err);
	if (r == 0)
		(void)ql_take_ptr(plain);
	return r;
}

int ql_compose_fetch(struct ql_compose *c, struct ql_blob *blob,
		     const struct ql_push_options *options,
		     struct ql_error *err)
{
	const struct ql_descriptor d = { .digest = blob->info.digest,
					 .size = blob->info.size };
	struct ql_push_options o = *options;
	_cleanup_stream_ struct ql_stream *s = NULL;
	_cleanup_close_ int fd = -1;
	char chunk[READ_CHUNK];
	ssize_t n = 0;
	int r;

	if (blob->c.written.fd >= 0)
		return 0;
	r = ql_push_options_check(&o, err);
	if (r == 0)
		r = ql_tmpfile(o.tmp_dir, &fd, err);
	if (r == 0)
		r = blob_open(c, &d, &s, err);
	while (r == 0 && (n = ql_stream_read(s, chunk, sizeof(chunk), err)) > 0)
		if (ql_write_full(fd, chunk, (size_t)n) < 0)
			r = ql_error_set(err, -EIO, "%s: cannot be written",
					 o.tmp_dir);
	if (r < 0 || n < 0)
		return ql_error_prefix(err, "%s", c->ref->name);
	blob->c.written.fd = ql_take_fd(&fd);
	return 0;
}

uint64_t ql_compose_sent(const struct ql_compose *c)
{
	return atomic_load(&c->sent);
}

/* ---- the image ---- */

struct composed {
	const struct ql_compose_image *image; /* borrowed */
	uint32_t n;
	struct ql_buf config;		/* owned, as these */
	struct ql_manifest_blob *blobs; /* n; what they point to is borrowed */
	bool has_start;
	struct ql_start_ref start;
};

static void composed_release(struct composed *m)
{
	ql_buf_release(&m->config);
	free(m->blobs);
}

static int composed_init(struct composed *m, struct ql_error *err)
{
	ql_buf_init(&m->config, QL_CONFIG_MAX);
	if (m->image->n_layers > QL_IMAGE_LAYERS_MAX)
		return ql_error_set(err, -EINVAL, "%zu layers; %d are the most",
				    m->image->n_layers, QL_IMAGE_LAYERS_MAX);
	m->n = (uint32_t)m->image->n_layers;
	m->blobs = calloc(m->n + 1UL, sizeof(*m->blobs));
	if (!m->blobs)
		return ql_error_nomem(err);
	for (uint32_t i = 0; i < m->n; i++)
		m->blobs[i] = ql_blob_descriptor(m->image->layers[i]);
	return 0;
}

static int config_put(struct ql_compose *c, struct composed *m,
		      struct ql_digest *ret_digest, struct ql_error *err)
{
	_cleanup_free_ struct ql_digest *ids = calloc(m->n + 1UL, sizeof(*ids));
	bool there = false;
	int r;

	if (!ids)
		return ql_error_nomem(err);
	for (uint32_t i = 0; i < m->n; i++)
		ids[i] = m->image->layers[i]->info.diff_id;
	r = ql_config_compose(m->image->config, m->image->config_len, ids,
			      m->image->created_by, m->n, &m->config, err);
	if (r == 0)
		r = ql_dest_put_data(c->dest, m->config.data, m->config.len,
				     NULL, ret_digest, &there, err);
	if (r < 0)
		return ql_error_prefix(err, "configuration");
	sent_add(c, m->config.len, there);
	return 0;
}

static bool wants_start(const struct ql_compose *c, const struct composed *m)
{
	if (!m->image->tree || !m->image->store ||
	    c->format != QL_PUSH_ZSTD_CHUNKED)
		return false;
	for (uint32_t i = 0; i < m->n; i++)
		if (!m->image->layers[i]->info.lazy)
			return false;
	return true;
}

static int start_put(struct ql_compose *c, struct composed *m,
		     struct ql_error *err)
{
	_cleanup_free_ struct ql_start_layer *layers =
		calloc(m->n + 1UL, sizeof(*layers));
	const struct ql_start_image im = {
		.store = m->image->store,
		.tree = m->image->tree,
		.config = ql_buf_str(&m->config),
		.config_len = m->config.len,
		.trace = m->image->trace,
		.layers = layers,
		.n_layers = m->n,
	};
	_cleanup_close_ int lock = -1;
	bool there = false;
	int r;

	if (!wants_start(c, m))
		return 0;
	if (!layers)
		return ql_error_nomem(err);
	for (uint32_t i = 0; i < m->n; i++)
		layers[i] = (struct ql_start_layer){
			.blob = m->blobs[i],
			.fd = m->image->layers[i]->c.written.fd,
		};
	r = ql_store_lock(im.store, false, &lock, err);
	if (r == 0)
		r = ql_start_put(&im, c->dest, NULL, &m->start, &there, err);
	if (r < 0)
		return ql_error_prefix(err, "start blob");
	m->has_start = true;
	sent_add(c, m->start.size, there);
	return 0;
}

static int annotations_make(const struct composed *m, json_t **ret_map,
			    struct ql_error *err)
{
	const struct ql_annotation *a = m->image->annotations;
	_cleanup_json_ json_t *map = json_object();
	char text[QL_START_REF_TEXT];

	if (!map)
		return ql_error_nomem(err);
	for (size_t i = 0; i < m->image->n_annotations; i++)
		if (json_object_set_new(map, a[i].key,
					json_string(a[i].value)) < 0)
			return ql_error_set(err, -EINVAL,
					    "annotation %s: not UTF-8",
					    a[i].key);
	/* Ours, whatever was given: another would be of other blobs. */
	(void)json_object_del(map, QL_START_ANNOTATION);
	if (m->has_start && json_object_set_new(map, QL_START_ANNOTATION,
						json_string(ql_start_ref_print(
							&m->start, text))) < 0)
		return ql_error_nomem(err);
	*ret_map = ql_take_ptr(map);
	return 0;
}

static int manifest_make(const struct composed *m,
			 const struct ql_digest *config, struct ql_buf *buf,
			 struct ql_error *err)
{
	_cleanup_json_ json_t *annotations = NULL;
	struct ql_manifest_spec spec = {
		.config = { .media_type = QL_TYPE_CONFIG,
			    .digest = *config,
			    .size = m->config.len },
		.blobs = m->blobs,
		.n_blobs = m->n,
	};
	int r = annotations_make(m, &annotations, err);

	spec.annotations = annotations;
	return r < 0 ? r : ql_manifest_write(&spec, buf, err);
}

static int image_put(struct ql_compose *c, struct composed *m,
		     struct ql_compose_result *put, struct ql_error *err)
{
	int r = composed_init(m, err);

	ql_buf_clear(&c->manifest);
	if (r == 0)
		r = config_put(c, m, &put->config, err);
	if (r == 0)
		r = start_put(c, m, err);
	if (r == 0)
		r = manifest_make(m, &put->config, &c->manifest, err);
	if (r < 0)
		return r;
	if (ql_digest_of(c->manifest.data, c->manifest.len, &put->manifest) < 0)
		return ql_error_nomem(err);
	put->manifest_size = c->manifest.len;
	r = c->dest->ops->put_manifest(c->dest, false, c->manifest.data,
				       c->manifest.len, err);
	if (r == 0 && m->has_start)
		r = ql_dest_hold(c->dest, &put->manifest, c->manifest.len,
				 &m->start, err);
	return r;
}

int ql_compose_put(struct ql_compose *c, const struct ql_compose_image *image,
		   struct ql_compose_result *ret_result, struct ql_error *err)
{
	_cleanup_(composed_release) struct composed m = { .image = image };
	struct ql_compose_result put = { 0 };
	int r = image_put(c, &m, &put, err);

	if (r < 0) {
		ql_buf_clear(&c->manifest);
		return ql_error_prefix(err, "%s", c->ref->name);
	}
	put.bytes_sent = atomic_load(&c->sent);
	put.start_size = m.has_start ? m.start.size : 0;
	c->put = put;
	c->config_size = m.config.len;
	*ret_result = put;
	return 0;
}

/* ---- the tag ---- */

static int manifest_check(struct ql_compose *c, struct ql_error *err)
{
	struct ql_source *src = c->dest->ops->source(c->dest);
	char type[] = QL_TYPE_MANIFEST;
	const struct ql_descriptor d = { .media_type = type,
					 .digest = c->put.manifest,
					 .size = c->manifest.len };
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_MANIFEST_MAX);
	_cleanup_free_ char *got = NULL;
	int r = src->ops->get_manifest(src, &d, &buf, &got, err);

	if (r < 0)
		return r;
	if (buf.len != c->manifest.len ||
	    memcmp(ql_buf_str(&buf), c->manifest.data, buf.len) != 0)
		return ql_error_set(err, -EBADMSG,
				    "the manifest is not the one that was put");
	return 0;
}

static int config_check(struct ql_compose *c, struct ql_error *err)
{
	const struct ql_descriptor d = { .digest = c->put.config,
					 .size = c->config_size };
	_cleanup_stream_ struct ql_stream *s = NULL;
	char chunk[READ_CHUNK];
	ssize_t n;
	int r = blob_open(c, &d, &s, err);

	if (r < 0)
		return r;
	while ((n = ql_stream_read(s, chunk, sizeof(chunk), err)) > 0)
		;
	return n < 0 ? ql_error_prefix(err, "configuration") : 0;
}

int ql_compose_tag(struct ql_compose *c, struct ql_error *err)
{
	int r = 0;

	if (c->manifest.len == 0)
		return ql_error_set(err, -EINVAL, "%s: no image was put",
				    c->ref->name);
	r = manifest_check(c, err);
	if (r == 0)
		r = config_check(c, err);
	if (r == 0)
		r = c->dest->ops->put_manifest(c->dest, true, c->manifest.data,
					       c->manifest.len, err);
	return r < 0 ? ql_error_prefix(err, "%s", c->ref->name) : 0;
}
