/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A new image, when all its layers are at the destination: its root is proved,
 * then it is put there, and only then its tag moves.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "refactor/refactor-private.h"

#define ANNOTATION_SOURCE "io.quicklayer.refactored-from"

struct parts {			       /* of the new image */
	const struct ql_blob **layers; /* owned; borrowed blobs */
	struct ql_digest *diff_ids;    /* owned */
	char **created_by;	       /* owned */
	uint32_t n;
};

static void parts_release(struct parts *p)
{
	free(p->layers);
	free(p->diff_ids);
	for (uint32_t i = 0; p->created_by && i < p->n; i++)
		free(p->created_by[i]);
	free(p->created_by);
}

/* For an image's history; the same wherever and whenever it is made. */
static char *created_by(const struct ql_plan_layer *l)
{
	if (l->n_images == 1)
		return strdup("quicklayer refactor: files of this image");
	return strdup("quicklayer refactor: files shared with other images");
}

static int parts_make(const struct ql_run *run, uint32_t image, struct parts *p)
{
	uint32_t n = run->plan.n_stack[image];

	p->layers = calloc(n + 1UL, sizeof(*p->layers));
	p->diff_ids = calloc(n + 1UL, sizeof(*p->diff_ids));
	p->created_by = calloc(n + 1UL, sizeof(*p->created_by));
	if (!p->layers || !p->diff_ids || !p->created_by)
		return -ENOMEM;
	p->n = n;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t l = run->plan.stacks[image][i];

		p->layers[i] = run->blobs[l];
		p->diff_ids[i] = ql_blob_info(run->blobs[l])->diff_id;
		p->created_by[i] = created_by(&run->plan.layers[l]);
		if (!p->created_by[i])
			return -ENOMEM;
	}
	return 0;
}

/* "library/python:3.12@sha256:…": what it was made from, wherever that was. */
static char *source_text(const struct ql_input *in)
{
	char digest[QL_DIGEST_TEXT + 1];
	const struct ql_ref *ref = in->ref;
	const char *slash = strrchr(ref->path, '/');
	const char *path = ref->kind == QL_REF_REGISTRY || !slash ? ref->path
								  : slash + 1;

	return ql_strf("%s%s%s@%s", path, ref->tag ? ":" : "",
		       ref->tag ? ref->tag : "",
		       ql_digest_text(&in->info.manifest, digest));
}

static int image_put(struct ql_run *run, uint32_t image, const struct parts *p,
		     const struct ql_tree *tree, struct ql_refactor_image *ret,
		     struct ql_error *err)
{
	const struct ql_input *in = &run->inputs.list[image];
	_cleanup_free_ char *source = source_text(in);
	const struct ql_annotation note = { ANNOTATION_SOURCE, source };
	const struct ql_compose_image ci = {
		.layers = p->layers,
		.n_layers = p->n,
		.config = ql_buf_str(&in->config),
		.config_len = in->config.len,
		.created_by = (const char *const *)p->created_by,
		.annotations = &note,
		.n_annotations = 1,
		.store = run->store,
		.tree = in->trace.n > 0 ? tree : NULL,
		.trace = in->trace.n > 0 ? &in->trace : NULL,
	};
	struct ql_compose_result res;
	int r = source ? ql_compose_put(run->composes[image], &ci, &res, err)
		       : ql_error_nomem(err);

	if (r == 0)
		r = ql_compose_tag(run->composes[image], err);
	if (r < 0)
		return r;
	ret->manifest = res.manifest;
	ret->start_size = res.start_size;
	return 0;
}

int ql_imagework_run(struct ql_run *run, uint32_t image,
		     struct ql_refactor_image *ret, struct ql_error *err)
{
	const struct ql_input *in = &run->inputs.list[image];
	unsigned int flags = run->options->any_mtime ? QL_COMPARE_SKIP_MTIME
						     : 0;
	_cleanup_(parts_release) struct parts p = { 0 };
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	int r = parts_make(run, image, &p);

	if (r < 0)
		return ql_error_nomem(err);
	r = ql_proof_image(run->proof, p.diff_ids, p.n, in->tree, flags, &tree,
			   err);
	if (r == 0)
		r = image_put(run, image, &p, tree, ret, err);
	return r < 0 ? ql_error_prefix(err, "%s", in->dest.name) : 0;
}
