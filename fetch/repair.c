/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Putting a store right: what a check found (store/scrub.h) is fetched again
 * from wherever its blobs are known to be.
 *
 * In this order, each step needing those before: damaged objects are set aside
 * and their users become lazy; what is damaged of what is packed is taken out;
 * manifests and configurations; layers' trees and
 * tables; images' trees; the catalogue's counts; objects, by the filling
 * engine, or, where no table knows them, by their layer as a whole.  At last
 * each object is read again, and what is whole is recorded so.
 */
#include "fetch/fill-private.h"

#include <errno.h>
#include <string.h>

enum { BATCH = 128, WHY = 400 };

struct item {
	const struct ql_fault *fault; /* borrowed */
	bool done, failed;
	char why[WHY];
};

struct repair {
	struct ql_store *store; /* borrowed, as these */
	const struct ql_fill_options *options;
	struct item *items; /* owned */
	size_t n;
	struct ql_image_info *images; /* owned: all of the store */
	size_t n_images;
	bool recount;
};

static void repair_release(struct repair *rp)
{
	for (size_t i = 0; i < rp->n_images; i++)
		ql_image_info_release(&rp->images[i]);
	free(rp->images);
	free(rp->items);
}

static void item_why(struct item *it, const char *why)
{
	(void)snprintf(it->why, sizeof(it->why), "%.399s", why);
}

static void item_end(struct item *it, int r, const struct ql_error *err)
{
	it->done = r == 0;
	it->failed = r < 0;
	if (r < 0)
		item_why(it, err->text[0] ? err->text : strerror(-r));
}

/* The same for all that were found of one thing. */
static void items_end(struct repair *rp, enum ql_fault_kind kind,
		      const struct ql_digest *digest, int r,
		      const struct ql_error *err)
{
	for (size_t i = 0; i < rp->n; i++)
		if (rp->items[i].fault->kind == kind &&
		    ql_digest_equal(&rp->items[i].fault->digest, digest))
			item_end(&rp->items[i], r, err);
}

static bool is_open(const struct item *it, enum ql_fault_kind kind)
{
	return it->fault->kind == kind && !it->done && !it->failed;
}

/* ---- the images of the store ---- */

static int image_add(const char *name, const struct ql_image_info *info,
		     void *arg)
{
	struct repair *rp = arg;
	struct ql_image_info *grown, copy = *info;

	(void)name;
	for (size_t i = 0; i < rp->n_images; i++)
		if (ql_digest_equal(&rp->images[i].manifest, &info->manifest))
			return 0;
	grown = reallocarray(rp->images, rp->n_images + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	rp->images = grown;
	copy.layers = calloc(info->n_layers + 1UL, sizeof(*copy.layers));
	if (!copy.layers)
		return -ENOMEM;
	memcpy(copy.layers, info->layers,
	       info->n_layers * sizeof(*copy.layers));
	rp->images[rp->n_images++] = copy;
	return 0;
}

static bool image_has(const struct ql_image_info *info,
		      const struct ql_digest *diff_id)
{
	for (uint32_t i = 0; i < info->n_layers; i++)
		if (ql_digest_equal(&info->layers[i], diff_id))
			return true;
	return false;
}

static int image_manifest(struct repair *rp, const struct ql_image_info *info,
			  struct ql_manifest *ret_manifest)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_MANIFEST_MAX);
	int r = ql_object_read(rp->store, &info->manifest, &buf, NULL);

	return r < 0 ? r
		     : ql_manifest_parse(ql_buf_str(&buf), buf.len,
					 ret_manifest, NULL);
}

/* ---- documents ---- */

/* Blobs that lie where the image's documents do. */
static size_t image_blobs(struct repair *rp, const struct ql_image_info *info,
			  struct ql_digest blobs[QL_IMAGE_LAYERS_MAX])
{
	_cleanup_manifest_ struct ql_manifest m = { 0 };
	size_t n = 0;

	for (uint32_t i = 0; i < info->n_layers; i++) {
		struct ql_layer_info layer;

		if (ql_layer_get(rp->store, &info->layers[i], &layer) == 0)
			blobs[n++] = layer.blob;
	}
	if (n == 0 && image_manifest(rp, info, &m) == 0)
		for (; n < m.n_layers && n < QL_IMAGE_LAYERS_MAX; n++)
			blobs[n] = m.layers[n].digest;
	return n;
}

static int document_size(struct repair *rp, const struct ql_image_info *info,
			 uint64_t *ret_size)
{
	_cleanup_manifest_ struct ql_manifest m = { 0 };
	int r = image_manifest(rp, info, &m);

	if (r == 0)
		*ret_size = m.config.size;
	return r;
}

/* 1: it is none of the image's. */
static int document_one(struct repair *rp, const struct ql_image_info *info,
			const struct ql_digest *digest, bool manifest,
			struct ql_error *err)
{
	_cleanup_free_ struct ql_digest *blobs =
		calloc(QL_IMAGE_LAYERS_MAX, sizeof(*blobs));
	uint64_t size = 0;
	size_t n;

	if (!ql_digest_equal(digest,
			     manifest ? &info->manifest : &info->config))
		return 1;
	if (!blobs)
		return ql_error_nomem(err);
	if (!manifest && document_size(rp, info, &size) < 0)
		return ql_error_set(err, -ENXIO,
				    "the manifest is not here either");
	n = image_blobs(rp, info, blobs);
	return ql_repair_document(rp->store, digest, size, manifest, blobs, n,
				  rp->options, err);
}

/* Manifests first: they say how large a configuration is. */
static void documents_repair(struct repair *rp, bool manifest)
{
	for (size_t i = 0; i < rp->n; i++) {
		struct item *it = &rp->items[i];
		struct ql_error err = QL_ERROR_INIT;
		int r = 1;

		if (!is_open(it, QL_FAULT_OBJECT))
			continue;
		for (size_t k = 0; k < rp->n_images && r != 0; k++) {
			int s = document_one(rp, &rp->images[k],
					     &it->fault->digest, manifest,
					     &err);

			r = s == 1 ? r : s;
		}
		if (r <= 0)
			items_end(rp, QL_FAULT_OBJECT, &it->fault->digest, r,
				  &err);
	}
}

/* ---- layers and images ---- */

static int image_rebuild(struct repair *rp, const struct ql_digest *manifest,
			 struct ql_error *err)
{
	return ql_image_rebuild(rp->store, manifest, err);
}

/* What an image's manifest says of a layer; same: only if it is the blob that
 * the layer came as.  -ENOENT: nothing. */
static int layer_as_in(struct repair *rp, const struct ql_image_info *info,
		       const struct ql_digest *diff_id, bool same, bool whole,
		       bool *ret_changed, struct ql_error *err)
{
	_cleanup_manifest_ struct ql_manifest m = { 0 };
	struct ql_layer_info known;

	if (!image_has(info, diff_id) || image_manifest(rp, info, &m) < 0 ||
	    m.n_layers != info->n_layers ||
	    ql_layer_get(rp->store, diff_id, &known) < 0)
		return -ENOENT;
	for (uint32_t k = 0; k < info->n_layers; k++)
		if (ql_digest_equal(&info->layers[k], diff_id) &&
		    ql_digest_equal(&m.layers[k].digest, &known.blob) == same)
			return ql_repair_layer(rp->store, diff_id, &m.layers[k],
					       whole, rp->options, ret_changed,
					       err);
	return -ENOENT;
}

/* As the blob that it came as; else as one that other images have it in. */
static int layer_again(struct repair *rp, const struct ql_digest *diff_id,
		       bool whole, bool *ret_changed, struct ql_error *err)
{
	int r = -ENOENT;

	for (size_t i = 0; i < rp->n_images && r == -ENOENT; i++)
		r = layer_as_in(rp, &rp->images[i], diff_id, true, whole,
				ret_changed, err);
	if (r == -ENOENT)
		r = ql_repair_layer(rp->store, diff_id, NULL, whole,
				    rp->options, ret_changed, err);
	for (size_t i = 0; i < rp->n_images && r < 0; i++) {
		struct ql_error other = QL_ERROR_INIT;

		if (layer_as_in(rp, &rp->images[i], diff_id, false, whole,
				ret_changed, &other) == 0)
			r = 0;
	}
	return r;
}

/* Trees that were merged from what it was. */
static int layer_follow(struct repair *rp, const struct ql_digest *diff_id,
			struct ql_error *err)
{
	int r = 0;

	for (size_t i = 0; i < rp->n_images && r == 0; i++)
		if (!(rp->images[i].flags & QL_IMAGE_READY) &&
		    image_has(&rp->images[i], diff_id))
			r = image_rebuild(rp, &rp->images[i].manifest, err);
	return r;
}

static int layer_repair(struct repair *rp, const struct ql_digest *diff_id,
			bool whole, struct ql_error *err)
{
	bool changed = false;
	int r = layer_again(rp, diff_id, whole, &changed, err);

	if (r == 0 && changed) {
		rp->recount = true;
		r = layer_follow(rp, diff_id, err);
	}
	return r;
}

static void layers_repair(struct repair *rp)
{
	for (size_t i = 0; i < rp->n; i++) {
		const struct ql_fault *fault = rp->items[i].fault;
		struct ql_error err = QL_ERROR_INIT;

		if (is_open(&rp->items[i], QL_FAULT_LAYER))
			items_end(rp, QL_FAULT_LAYER, &fault->digest,
				  layer_repair(rp, &fault->digest, false, &err),
				  &err);
	}
}

static void images_repair(struct repair *rp)
{
	for (size_t i = 0; i < rp->n; i++) {
		const struct ql_fault *fault = rp->items[i].fault;
		struct ql_error err = QL_ERROR_INIT;

		if (is_open(&rp->items[i], QL_FAULT_IMAGE))
			items_end(rp, QL_FAULT_IMAGE, &fault->digest,
				  image_rebuild(rp, &fault->digest, &err),
				  &err);
	}
}

/* What is damaged goes, and is fetched again when it is read. */
static void packed_repair(struct repair *rp)
{
	for (size_t i = 0; i < rp->n; i++) {
		const struct ql_fault *fault = rp->items[i].fault;
		struct ql_error err = QL_ERROR_INIT;

		if (is_open(&rp->items[i], QL_FAULT_PACKED))
			items_end(rp, QL_FAULT_PACKED, &fault->digest,
				  ql_repair_packed(rp->store, &fault->digest,
						   &err),
				  &err);
	}
}

static void counts_repair(struct repair *rp)
{
	struct ql_error err = QL_ERROR_INIT;
	uint64_t fixed = 0;
	int r;

	for (size_t i = 0; i < rp->n; i++)
		rp->recount |= rp->items[i].fault->kind == QL_FAULT_COUNT;
	if (!rp->recount)
		return;
	r = ql_store_recount(rp->store, &fixed, &err);
	for (size_t i = 0; i < rp->n; i++)
		if (rp->items[i].fault->kind == QL_FAULT_COUNT)
			item_end(&rp->items[i], r, &err);
}

/* ---- objects ---- */

/* Of an image: asks for up to BATCH of them from *at on, and waits. */
static int objects_batch(struct repair *rp, struct ql_fill_image *image,
			 size_t *at)
{
	struct ql_filler *f = image->filler;
	struct ql_fill_file *files[BATCH];
	struct item *items[BATCH];
	size_t n = 0;
	int r;

	for (; *at < rp->n && n < BATCH; (*at)++) {
		struct item *it = &rp->items[*at];

		if (!is_open(it, QL_FAULT_OBJECT) ||
		    ql_fill_open(image, &it->fault->digest, &files[n], NULL) <
			    0)
			continue;
		ql_fill_prefetch(f, files[n], 0, UINT64_MAX);
		items[n++] = it;
	}
	for (size_t i = 0; i < n; i++) {
		r = ql_fill_await(f, files[i], 0, UINT64_MAX);
		if (r < 0)
			item_why(items[i], ql_filler_last_error(f));
		ql_fill_close(f, files[i]);
	}
	return n > 0 ? ql_fill_flush(f, NULL) : 0;
}

static void objects_fill(struct repair *rp, struct ql_filler *f,
			 const struct ql_image_info *info)
{
	struct ql_fill_image *image = NULL;
	struct ql_error err = QL_ERROR_INIT;
	size_t at = 0;

	if (ql_fill_image_open(f, info, &image, &err) < 0) {
		for (size_t i = 0; i < rp->n; i++)
			if (is_open(&rp->items[i], QL_FAULT_OBJECT))
				item_why(&rp->items[i], err.text);
		return;
	}
	while (at < rp->n)
		(void)objects_batch(rp, image, &at);
	ql_fill_image_close(image);
}

/* What is here now, and sound. */
static void objects_look(struct repair *rp, bool last)
{
	for (size_t i = 0; i < rp->n; i++) {
		struct item *it = &rp->items[i];
		struct ql_error err = QL_ERROR_INIT;
		uint64_t bytes;
		int r;

		if (!is_open(it, QL_FAULT_OBJECT))
			continue;
		r = ql_object_verify(rp->store, &it->fault->digest, NULL,
				     &bytes, &err);
		if (r == -ENOENT &&
		    !ql_object_is_needed(rp->store, &it->fault->digest))
			r = 0; /* it is gone, and nobody needs it */
		if (r == -ENOENT && it->why[0])
			(void)ql_error_set(&err, r, "%s", it->why);
		else if (r == -ENOENT)
			(void)ql_error_set(&err, r, "nothing says where it is");
		if (r == 0 || last)
			item_end(it, r, &err);
	}
}

static bool layer_lacks(struct repair *rp, const struct ql_digest *diff_id)
{
	_cleanup_(ql_object_list_release) struct ql_object_list list = { 0 };
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	uint32_t at;

	if (ql_tree_open_layer(rp->store, diff_id, &tree, NULL) < 0 ||
	    ql_object_list_init(tree, &list, NULL) < 0)
		return false;
	for (size_t i = 0; i < rp->n; i++)
		if (is_open(&rp->items[i], QL_FAULT_OBJECT) &&
		    ql_object_list_find(&list, &rp->items[i].fault->digest,
					&at) == 0)
			return true;
	return false;
}

static bool any_open(const struct repair *rp, enum ql_fault_kind kind)
{
	for (size_t i = 0; i < rp->n; i++)
		if (is_open(&rp->items[i], kind))
			return true;
	return false;
}

/* Layers that have what no table brought, as a whole. */
static void objects_by_layer(struct repair *rp)
{
	for (size_t i = 0; i < rp->n_images; i++) {
		const struct ql_image_info *info = &rp->images[i];

		for (uint32_t k = 0; k < info->n_layers; k++) {
			struct ql_error err = QL_ERROR_INIT;

			if (!any_open(rp, QL_FAULT_OBJECT))
				return;
			if (!layer_lacks(rp, &info->layers[k]) ||
			    layer_repair(rp, &info->layers[k], true, &err) == 0)
				continue;
			for (size_t j = 0; j < rp->n; j++)
				if (is_open(&rp->items[j], QL_FAULT_OBJECT) &&
				    !rp->items[j].why[0])
					item_why(&rp->items[j], err.text);
		}
		objects_look(rp, false);
	}
}

static int objects_repair(struct repair *rp, struct ql_error *err)
{
	struct ql_fill_options options = *rp->options;
	struct ql_filler *f = NULL;
	int r;

	if (!any_open(rp, QL_FAULT_OBJECT))
		return 0;
	options.background_rate = 0;
	r = ql_filler_new(rp->store, &options, &f, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < rp->n_images; i++)
		if (any_open(rp, QL_FAULT_OBJECT)) {
			objects_fill(rp, f, &rp->images[i]);
			objects_look(rp, false);
		}
	ql_filler_free(f);
	objects_by_layer(rp);
	objects_look(rp, true);
	return 0;
}

static int objects_aside(struct repair *rp, const atomic_bool *stop,
			 struct ql_error *err)
{
	_cleanup_free_ struct ql_digest *bad = calloc(rp->n + 1, sizeof(*bad));
	size_t n = 0;

	if (!bad)
		return ql_error_nomem(err);
	for (size_t i = 0; i < rp->n; i++)
		if (rp->items[i].fault->kind == QL_FAULT_OBJECT)
			bad[n++] = rp->items[i].fault->digest;
	return n > 0 ? ql_objects_set_aside(rp->store, bad, n, stop, err) : 0;
}

/* ---- the whole ---- */

static void whole_record(struct repair *rp)
{
	for (size_t i = 0; i < rp->n_images; i++) {
		struct ql_error err = QL_ERROR_INIT;
		bool whole;
		int r = ql_image_mark_whole(rp->store, &rp->images[i].manifest,
					    &whole, &err);

		if (r < 0)
			ql_debug("msg=\"not recorded as whole\" error=%d", r);
	}
}

static void tell(const struct repair *rp, ql_repair_fn *report, void *arg,
		 struct ql_repair_stats *stats)
{
	for (size_t i = 0; i < rp->n; i++) {
		const struct item *it = &rp->items[i];
		const char *why = it->why[0] ? it->why
					     : "there is no repair for it";

		if (it->done)
			stats->repaired++;
		else
			stats->failed++;
		report(it->fault, it->done ? NULL : why, arg);
	}
}

static int repair_run(struct repair *rp, const atomic_bool *stop,
		      struct ql_error *err)
{
	int r = ql_image_each(rp->store, image_add, rp, err);

	if (r == -ENOMEM)
		return ql_error_nomem(err);
	/* A catalogue that cannot list them has worse faults; go on. */
	r = objects_aside(rp, stop, err);
	if (r < 0)
		return r;
	packed_repair(rp);
	documents_repair(rp, true);
	documents_repair(rp, false);
	layers_repair(rp);
	images_repair(rp);
	counts_repair(rp);
	rp->recount = false;
	r = objects_repair(rp, err);
	if (r == 0 && rp->recount)
		counts_repair(rp);
	whole_record(rp);
	return r;
}

int ql_repair(struct ql_store *store, const struct ql_fault *faults, size_t n,
	      const struct ql_fill_options *options, const atomic_bool *stop,
	      ql_repair_fn *report, void *arg,
	      struct ql_repair_stats *ret_stats, struct ql_error *err)
{
	_cleanup_(repair_release) struct repair rp = { .store = store,
						       .options = options };
	struct ql_repair_stats stats = { 0 };
	int r;

	rp.items = calloc(n + 1, sizeof(*rp.items));
	if (!rp.items)
		return ql_error_nomem(err);
	for (; rp.n < n; rp.n++)
		rp.items[rp.n].fault = &faults[rp.n];
	r = repair_run(&rp, stop, err);
	if (r < 0)
		return r;
	tell(&rp, report, arg, &stats);
	*ret_stats = stats;
	return 0;
}
