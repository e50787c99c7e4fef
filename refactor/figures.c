/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What refactoring has won.  Redundant is, as in the paper (Quicklayer, APNet
 * 2023), the size of files that are stored though they are stored already:
 *
 *   of the whole set   content of all layers, each once, less content of all
 *                      files, each once
 *   of one image       content of those of its layers that no other image has,
 *                      less content that no other image has: what is moved to
 *                      a site that has the others, and need not be
 *
 * Files that a layer above deletes or replaces count before; there are none
 * after.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "refactor/refactor-private.h"

/* A source layer, once, with the images that have it. */
struct source {
	struct ql_digest diff_id, blob;
	uint64_t size, content;
	bool known;	      /* content is */
	uint32_t users, last; /* how many images; the last of them */
};

struct sources {
	struct source *list; /* owned; by diff ID, then blob */
	uint32_t n;
};

static int source_cmp(const void *a, const void *b)
{
	const struct source *x = a, *y = b;
	int c = ql_digest_cmp(&x->diff_id, &y->diff_id);

	if (c == 0)
		c = ql_digest_cmp(&x->blob, &y->blob);
	return c ? c : x->last < y->last ? -1 : x->last > y->last;
}

static bool source_same(const struct source *x, const struct source *y)
{
	return ql_digest_equal(&x->diff_id, &y->diff_id) &&
	       ql_digest_equal(&x->blob, &y->blob);
}

static int source_digests(const struct ql_input *in, uint32_t layer,
			  struct source *ret, struct ql_error *err)
{
	const json_t *d =
		json_array_get(json_object_get(in->manifest, "layers"), layer);
	int r = ql_digest_parse(ql_json_opt_string(d, "digest", ""), &ret->blob,
				err);

	ret->diff_id = in->info.layers[layer];
	return r < 0 ? r : ql_json_get_u64(d, "size", &ret->size, err);
}

static int source_read(const struct ql_run *run, uint32_t image, uint32_t layer,
		       struct source *ret, struct ql_error *err)
{
	const struct ql_input *in = &run->inputs.list[image];
	struct ql_layer_info info;
	int r;

	*ret = (struct source){ .users = 1, .last = image };
	r = source_digests(in, layer, ret, err);
	if (r < 0)
		return ql_error_prefix(err, "%s", in->ref->name);
	/* Of an image that came by its start blob no layers are known. */
	ret->known = ql_layer_get(run->store, &ret->diff_id, &info) == 0;
	ret->content = ret->known ? info.file_bytes : 0;
	return 0;
}

/* Each layer once. */
static void sources_unite(struct sources *s)
{
	uint32_t n = 0;

	if (s->n > 1)
		qsort(s->list, s->n, sizeof(*s->list), source_cmp);
	for (uint32_t i = 0; i < s->n; i++) {
		if (n > 0 && source_same(&s->list[n - 1], &s->list[i])) {
			if (s->list[n - 1].last != s->list[i].last)
				s->list[n - 1].users++;
			s->list[n - 1].last = s->list[i].last;
		} else {
			s->list[n++] = s->list[i];
		}
	}
	s->n = n;
}

static int sources_read(const struct ql_run *run, struct sources *s,
			struct ql_error *err)
{
	uint64_t n = 0;
	int r = 0;

	for (uint32_t i = 0; i < run->inputs.n_good; i++)
		n += run->inputs.list[i].info.n_layers;
	s->list = calloc(n + 1, sizeof(*s->list));
	if (!s->list)
		return ql_error_nomem(err);
	for (uint32_t i = 0; i < run->inputs.n_good; i++)
		for (uint32_t l = 0;
		     l < run->inputs.list[i].info.n_layers && r == 0; l++)
			r = source_read(run, i, l, &s->list[s->n++], err);
	if (r == 0)
		sources_unite(s);
	return r;
}

/* One diff ID may have come in several blobs. */
static const struct source *source_of(const struct sources *s,
				      const struct ql_run *run, uint32_t image,
				      uint32_t layer)
{
	struct source key = { 0 };
	uint32_t low = 0, high = s->n;

	/* It was read before, and there it is. */
	(void)source_digests(&run->inputs.list[image], layer, &key, NULL);

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (source_cmp(&s->list[mid], &key) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return &s->list[low];
}

/* ---- images ---- */

/* Does the image have this layer further down, too? */
static bool repeated(const struct ql_image_info *info, uint32_t layer)
{
	for (uint32_t i = 0; i < layer; i++)
		if (ql_digest_equal(&info->layers[i], &info->layers[layer]))
			return true;
	return false;
}

static void image_before(const struct ql_run *run, const struct sources *s,
			 uint32_t image, struct ql_refactor_image *ret)
{
	const struct ql_image_info *info = &run->inputs.list[image].info;
	uint64_t content = 0;

	ret->source_layers = info->n_layers;
	for (uint32_t l = 0; l < info->n_layers; l++) {
		const struct source *src = source_of(s, run, image, l);

		if (repeated(info, l))
			continue;
		ret->cold_before += src->size;
		if (src->users > 1)
			continue;
		ret->warm_before += src->size;
		content += src->content;
	}
	ret->redundant_before = content > ret->own ? content - ret->own : 0;
}

static int image_after(const struct ql_run *run, uint32_t image,
		       struct ql_refactor_image *ret)
{
	uint32_t n = run->plan.n_stack[image];
	uint64_t content = 0;

	ret->layers = calloc(n + 1UL, sizeof(*ret->layers));
	if (!ret->layers)
		return -ENOMEM;
	ret->n_layers = n;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t l = run->plan.stacks[image][i];
		const struct ql_plan_layer *pl = &run->plan.layers[l];
		const struct ql_blob *blob = run->blobs ? run->blobs[l] : NULL;
		uint64_t size = blob ? ql_blob_info(blob)->size : 0;

		ret->layers[i] = l;
		ret->cold_after += size;
		if (pl->n_images > 1)
			continue;
		ret->warm_after += size;
		content += pl->bytes;
	}
	ret->redundant_after = content > ret->own ? content - ret->own : 0;
	return 0;
}

/* Content of the roots, and what no other image has. */
static int contents_find(const struct ql_run *run,
			 struct ql_refactor_result *ret)
{
	uint32_t n = run->inputs.n_good, words = run->plan.words;
	_cleanup_free_ uint64_t *bits = calloc(words + 1UL, sizeof(*bits));

	if (!bits)
		return -ENOMEM;
	for (uint32_t u = 0; u < run->inv.n_units; u++) {
		const struct ql_unit *unit = &run->inv.units[u];
		uint32_t count;

		if (unit->size == 0)
			continue;
		ql_unit_images(&run->inv, unit, n, bits);
		count = ql_bits_count(bits, words);
		ret->input += unit->size * count;
		for (uint32_t i = 0; i < n; i++)
			if (ql_bits_has(bits, i))
				ret->images[i].content += unit->size;
		if (count == 1)
			ret->images[ql_bits_first(bits, words)].own +=
				unit->size;
	}
	return 0;
}

static int image_names(const struct ql_input *in, struct ql_refactor_image *ret)
{
	ret->name = strdup(in->ref->name);
	ret->dest = strdup(in->dest.name);
	ret->source = in->info.manifest;
	if (in->left_out)
		ret->failed = strdup(in->failed ? in->failed : "failed");
	return ret->name && ret->dest && (!in->left_out || ret->failed)
		       ? 0
		       : -ENOMEM;
}

/* ---- layers ---- */

static int layer_figures(const struct ql_run *run, uint32_t layer,
			 struct ql_refactor_layer *ret)
{
	const struct ql_plan_layer *l = &run->plan.layers[layer];
	const struct ql_blob *blob = run->blobs ? run->blobs[layer] : NULL;

	ret->images = calloc(l->n_images + 1UL, sizeof(*ret->images));
	if (!ret->images)
		return -ENOMEM;
	for (uint32_t i = 0; i < run->inputs.n_good; i++)
		if (ql_bits_has(l->images, i))
			ret->images[ret->n_images++] = i;
	ret->units = l->n_units;
	ret->content = l->bytes;
	ret->kept = l->member != QL_UNIT_NONE;
	if (blob) {
		const struct ql_blob_info *info = ql_blob_info(blob);

		ret->blob = info->digest;
		ret->diff_id = info->diff_id;
		ret->size = info->size;
		ret->lazy = info->lazy;
		ret->there = run->there[layer];
	}
	return 0;
}

void ql_refactor_result_release(struct ql_refactor_result *result)
{
	for (uint32_t i = 0; result->images && i < result->n_images; i++) {
		free(result->images[i].name);
		free(result->images[i].dest);
		free(result->images[i].failed);
		free(result->images[i].layers);
	}
	for (uint32_t l = 0; result->layers && l < result->n_layers; l++)
		free(result->layers[l].images);
	free(result->images);
	free(result->layers);
	*result = (struct ql_refactor_result){ 0 };
}

static int all_figures(const struct ql_run *run, const struct sources *s,
		       struct ql_refactor_result *ret)
{
	int r = contents_find(run, ret);

	for (uint32_t i = 0; i < ret->n_images && r == 0; i++) {
		r = image_names(&run->inputs.list[i], &ret->images[i]);
		ret->n_failed += run->inputs.list[i].left_out;
	}
	for (uint32_t i = 0; i < run->inputs.n_good && r == 0; i++) {
		image_before(run, s, i, &ret->images[i]);
		r = image_after(run, i, &ret->images[i]);
	}
	for (uint32_t l = 0; l < ret->n_layers && r == 0; l++) {
		r = layer_figures(run, l, &ret->layers[l]);
		ret->blobs_after += ret->layers[l].size;
		ret->content_after += ret->layers[l].content;
	}
	for (uint32_t i = 0; i < s->n; i++) {
		ret->blobs_before += s->list[i].size;
		ret->content_before += s->list[i].content;
		ret->before_unknown |= !s->list[i].known;
	}
	ret->layers_before = s->n;
	return r;
}

int ql_figures_make(const struct ql_run *run, struct ql_refactor_result *ret,
		    struct ql_error *err)
{
	struct sources s = { 0 };
	int r;

	ret->dry_run = run->options->dry_run;
	ret->bound = run->plan.bound;
	ret->images = calloc(run->inputs.n + 1UL, sizeof(*ret->images));
	ret->layers = calloc(run->plan.n_layers + 1UL, sizeof(*ret->layers));
	if (!ret->images || !ret->layers)
		return ql_error_nomem(err);
	ret->n_images = run->inputs.n;
	ret->n_layers = run->plan.n_layers;
	r = sources_read(run, &s, err);
	if (r == 0 && all_figures(run, &s, ret) < 0)
		r = ql_error_nomem(err);
	free(s.list);
	return r;
}
