/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One run of the refactorer.  Part of refactor/refactor-private.h; include
 * that.
 */
#ifndef QL_REFACTOR_RUN_H
#define QL_REFACTOR_RUN_H

#include "refactor/inputs.h"
#include "refactor/plan.h"

/* The folders of a run, in the one for temporary files. */
#define QL_REFACTOR_DIR "quicklayer-refactor."

/* A layer that an earlier run has made. */
struct ql_earlier_layer {
	struct ql_tree *tree; /* owned */
	struct ql_blob *blob; /* owned */
	uint32_t at;	      /* the image at whose destination it is */
};

struct ql_earlier {
	struct ql_lockdir dir;	       /* owned; of the store below */
	struct ql_store *store;	       /* owned */
	struct ql_earlier_layer *list; /* owned; no two the same */
	uint32_t n, cap;
};

struct ql_run {
	struct ql_store *store;			   /* borrowed */
	const struct ql_refactor_options *options; /* borrowed */
	struct ql_push_options push;
	uint32_t max_layers;
	unsigned int jobs;
	struct ql_inputs inputs; /* owned, as all below */
	struct ql_earlier earlier;
	const struct ql_tree **trees; /* the inventory's members */
	struct ql_inventory inv;
	struct ql_plan plan;
	struct ql_proof *proof;
	struct ql_compose **composes; /* for each image */
	struct ql_blob **blobs;	      /* for each layer; a kept one's is
				       * borrowed of earlier */
	bool *there;		      /* for each layer */
	struct ql_error *failures;    /* for each image; of its layers */
};

/* ---- earlier.c ---- */

/* Finds the layers of what the destinations have now. */
int ql_earlier_read(struct ql_run *run, struct ql_error *err);
void ql_earlier_release(struct ql_earlier *earlier);

/* ---- layerwork.c ---- */

/* Writes, uploads and reads back all layers; those that fail leave why in the
 * failures of their images.  Negative: the destination takes no more. */
int ql_layerwork_run(struct ql_run *run, struct ql_error *err);

/* ---- imagework.c ---- */

/* Proves an image, puts it and gives it its tag. */
int ql_imagework_run(struct ql_run *run, uint32_t image,
		     struct ql_refactor_image *ret, struct ql_error *err);

/* ---- figures.c ---- */

/* What is known of inputs, plan and blobs. */
int ql_figures_make(const struct ql_run *run, struct ql_refactor_result *ret,
		    struct ql_error *err);

#endif
