/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refactoring from one end to the other: images are read (inputs.c), what they
 * hold is taken stock of (inventory.c), layers are planned (plan.c, cover.c,
 * keep.c), written, sent and read back (layerwork.c, layertar.c), and each
 * image is proved and put (proof.c, imagework.c).
 */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "refactor/refactor-private.h"

static int options_take(struct ql_run *run, struct ql_error *err)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	run->push = run->options->push;
	if (!run->push.tmp_dir)
		run->push.tmp_dir = getenv("TMPDIR");
	if (!run->push.tmp_dir || !*run->push.tmp_dir)
		run->push.tmp_dir = "/var/tmp";
	run->max_layers = run->options->max_layers ? run->options->max_layers
						   : QL_REFACTOR_LAYERS;
	run->jobs = run->options->jobs;
	if (run->jobs == 0)
		run->jobs = cpus > 0 ? (unsigned int)cpus : 1;
	if (run->max_layers > QL_IMAGE_LAYERS_MAX)
		return ql_error_set(err, -EINVAL,
				    "%u layers: an image has %d at most",
				    run->max_layers, QL_IMAGE_LAYERS_MAX);
	return 0;
}

/* ---- planning ---- */

static int plan_make(struct ql_run *run, struct ql_error *err)
{
	uint32_t images = run->inputs.n_good;
	uint32_t n = images + run->earlier.n;
	unsigned int flags = 0;
	int r;

	run->trees = calloc(n + 1UL, sizeof(*run->trees));
	if (!run->trees)
		return ql_error_nomem(err);
	for (uint32_t i = 0; i < images; i++)
		run->trees[i] = run->inputs.list[i].tree;
	for (uint32_t i = images; i < n; i++)
		run->trees[i] = run->earlier.list[i - images].tree;
	if (run->options->any_mtime)
		flags |= QL_INVENTORY_ANY_MTIME;
	if (run->push.format == QL_PUSH_ESTARGZ)
		flags |= QL_INVENTORY_SKIP_STARGZ;
	r = ql_inventory_read(run->trees, n, flags, &run->inv, err);
	if (r == 0)
		r = ql_plan_make(&run->inv, images, run->max_layers, &run->plan,
				 err);
	for (uint32_t i = 0; i < n; i++)
		ql_tree_relax(run->trees[i]);
	return r;
}

/* ---- doing it ---- */

static int work_begin(struct ql_run *run, struct ql_error *err)
{
	uint32_t n = run->inputs.n_good;
	bool stargz = run->push.format == QL_PUSH_ESTARGZ;
	int r = ql_proof_new(run->push.tmp_dir, stargz, &run->proof, err);

	run->composes = calloc(n + 1UL, sizeof(struct ql_compose *));
	run->blobs = calloc(run->plan.n_layers + 1UL, sizeof(struct ql_blob *));
	run->there = calloc(run->plan.n_layers + 1UL, sizeof(*run->there));
	run->failures = calloc(n + 1UL, sizeof(*run->failures));
	if (!run->composes || !run->blobs || !run->there || !run->failures)
		return ql_error_nomem(err);
	for (uint32_t i = 0; i < n && r == 0; i++) {
		r = ql_compose_open(&run->inputs.list[i].dest, &run->push,
				    &run->composes[i], err);
		if (r < 0)
			r = ql_error_prefix(err, "%s",
					    run->inputs.list[i].dest.name);
	}
	return r;
}

/* When layers are written nobody reads files' places any more. */
static void plan_shed(struct ql_run *run)
{
	ql_plan_shed(&run->plan);
	ql_inventory_release(&run->inv);
}

/* An image's merge takes as much memory as all else, in small pieces: what it
 * has freed is given back before the next one. */
static void image_shed(struct ql_run *run, uint32_t image)
{
	struct ql_input *in = &run->inputs.list[image];

	ql_tree_close(ql_take_ptr(in->tree));
	ql_proof_relax(run->proof);
	(void)malloc_trim(0);
}

/* One image's failure is its own. */
static int images_put(struct ql_run *run, struct ql_refactor_result *res,
		      struct ql_error *err)
{
	plan_shed(run);
	for (uint32_t i = 0; i < run->inputs.n_good; i++) {
		struct ql_refactor_image *image = &res->images[i];
		struct ql_error why = QL_ERROR_INIT;
		int r = run->failures[i].code;

		if (r < 0)
			why = run->failures[i];
		else
			r = ql_imagework_run(run, i, image, &why);
		image_shed(run, i);
		/* Also where it failed: its layers are there. */
		image->bytes_sent = ql_compose_sent(run->composes[i]);
		res->bytes_sent += image->bytes_sent;
		if (r < 0) {
			image->failed = strdup(why.code ? why.text : "failed");
			res->n_failed++;
		}
		if (r < 0 && !image->failed)
			return ql_error_nomem(err);
		if (run->options->progress)
			run->options->progress(QL_REFACTOR_PROVING, i + 1,
					       run->inputs.n_good,
					       run->options->arg);
	}
	return 0;
}

static int run_all(struct ql_run *run, const struct ql_ref *refs, uint32_t n,
		   const char *to, struct ql_refactor_result *res,
		   struct ql_error *err)
{
	_cleanup_close_ int lock = -1;
	int r = options_take(run, err);

	/* Nothing that is read may be removed before it is written. */
	if (r == 0)
		r = ql_store_lock(run->store, false, &lock, err);
	if (r == 0)
		r = ql_inputs_read(run->store, refs, n, to, run->options,
				   &run->inputs, err);
	if (r == 0 && run->options->again)
		r = ql_earlier_read(run, err);
	if (r == 0)
		r = plan_make(run, err);
	if (r == 0 && !run->options->dry_run && run->inputs.n_good > 0) {
		r = work_begin(run, err);
		if (r == 0)
			r = ql_layerwork_run(run, err);
	}
	if (r == 0)
		r = ql_figures_make(run, res, err);
	if (r == 0 && !run->options->dry_run)
		r = images_put(run, res, err);
	return r;
}

static void run_release(struct ql_run *run)
{
	for (uint32_t i = 0; run->composes && i < run->inputs.n_good; i++)
		ql_compose_close(run->composes[i]);
	free(run->composes);
	for (uint32_t l = 0; run->blobs && l < run->plan.n_layers; l++)
		if (run->plan.layers[l].member == QL_UNIT_NONE)
			ql_blob_free(run->blobs[l]);
	free(run->blobs);
	free(run->there);
	free(run->failures);
	ql_proof_free(run->proof);
	ql_plan_release(&run->plan);
	ql_inventory_release(&run->inv);
	free(run->trees);
	ql_earlier_release(&run->earlier);
	ql_inputs_release(&run->inputs);
}

int ql_refactor(struct ql_store *store, const struct ql_ref *refs, uint32_t n,
		const char *to, const struct ql_refactor_options *options,
		struct ql_refactor_result *ret_result, struct ql_error *err)
{
	struct ql_run run = { .store = store, .options = options };
	struct ql_refactor_result res = { 0 };
	int r = run_all(&run, refs, n, to, &res, err);

	run_release(&run);
	if (r < 0) {
		ql_refactor_result_release(&res);
		return r;
	}
	*ret_result = res;
	return 0;
}
