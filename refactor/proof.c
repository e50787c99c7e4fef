/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was written is what was read: each new layer's archive is read as the
 * destination gives it back, its files are hashed, and its entries go into a
 * store of their own, which merges them as every pull does.  Of the plan and
 * of what wrote the layers nothing is believed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "refactor/refactor-private.h"

enum {
	TEXT_MAX = QL_ERROR_TEXT_MAX / 2,
	SHOWN = 3, /* differences that are described */
};

struct ql_proof {
	struct ql_lockdir dir;	/* owned */
	struct ql_store *store; /* owned */
	bool stargz;		/* archives have files that are eStargz's */
};

int ql_proof_new(const char *tmp_dir, bool stargz, struct ql_proof **ret_proof,
		 struct ql_error *err)
{
	_cleanup_(ql_proof_freep) struct ql_proof *p = calloc(1, sizeof(*p));
	_cleanup_free_ char *root = NULL;
	int r = p ? ql_lockdir_new(tmp_dir, QL_REFACTOR_DIR, NULL, &p->dir, err)
		  : ql_error_nomem(err);

	if (r < 0)
		return r;
	p->stargz = stargz;
	root = ql_path_join(p->dir.path, "proof");
	if (!root)
		return ql_error_nomem(err);
	r = ql_store_open(root, QL_STORE_WRITE, &p->store, err);
	if (r == 0)
		*ret_proof = ql_take_ptr(p);
	return r;
}

void ql_proof_free(struct ql_proof *proof)
{
	if (!proof)
		return;
	if (proof->store)
		ql_store_close(proof->store);
	ql_lockdir_release(&proof->dir);
	free(proof);
}

/* ---- a layer ---- */

struct reader {
	struct ql_draft *draft;	   /* owned */
	struct ql_hasher *hasher;  /* owned */
	struct ql_tar_entry entry; /* owned; whose content is coming */
	uint64_t left;		   /* of it */
	bool stargz;		   /* as the proof's */
};

static int on_raw(void *arg, const void *data, size_t len, struct ql_error *err)
{
	(void)arg;
	(void)data;
	(void)len;
	(void)err;
	return 0;
}

static int entry_done(struct reader *rd, struct ql_error *err)
{
	struct ql_digest digest = { 0 };
	int r = 0;

	if (rd->entry.size > 0)
		ql_hasher_final(rd->hasher, &digest);
	if (!rd->stargz ||
	    !ql_name_is_stargz(rd->entry.path, strlen(rd->entry.path)))
		r = ql_draft_entry(rd->draft, &rd->entry, &digest, err);
	ql_tarentry_release(&rd->entry);
	return r;
}

static int on_entry(void *arg, const struct ql_tar_entry *e,
		    const struct ql_tar_raw *raw, struct ql_error *err)
{
	struct reader *rd = arg;

	if (raw->sparse)
		return ql_error_set(err, -EBADMSG, "\"%.300s\" is sparse",
				    e->path);
	if (ql_tarentry_copy(e, &rd->entry) < 0 ||
	    ql_hasher_reset(rd->hasher) < 0)
		return ql_error_nomem(err);
	rd->left = raw->stored;
	return rd->left == 0 ? entry_done(rd, err) : 0;
}

static int on_data(void *arg, const void *data, size_t len,
		   struct ql_error *err)
{
	struct reader *rd = arg;

	ql_hasher_update(rd->hasher, data, len);
	rd->left -= len < rd->left ? len : rd->left;
	return rd->left == 0 ? entry_done(rd, err) : 0;
}

static int draft_keep(struct ql_proof *p, struct ql_draft *draft,
		      const struct ql_digest *diff_id, struct ql_error *err)
{
	_cleanup_(ql_layer_unlockp) struct ql_layer_lock *layer = NULL;
	_cleanup_close_ int lock = -1;
	struct ql_layer_info info = { .diff_id = *diff_id };
	int r = ql_store_lock(p->store, false, &lock, err);

	if (r == 0)
		r = ql_layer_lock(p->store, diff_id, &layer, err);
	return r < 0 ? r : ql_draft_commit(draft, &info, err);
}

int ql_proof_layer(struct ql_proof *proof, struct ql_stream *tar,
		   const struct ql_blob_info *blob, struct ql_error *err)
{
	static const struct ql_tarcut_ops ops = { on_raw, on_entry, on_data };
	struct reader rd = { .hasher = ql_hasher_new(),
			     .stargz = proof->stargz };
	int r = rd.hasher
			? ql_draft_new(proof->store, &blob->digest, blob->size,
				       QL_CODEC_NONE, &rd.draft, err)
			: ql_error_nomem(err);

	if (r == 0)
		r = ql_tar_cut(tar, &ops, &rd, err);
	if (r == 0)
		r = draft_keep(proof, rd.draft, &blob->diff_id, err);
	ql_draft_free(rd.draft);
	ql_hasher_free(rd.hasher);
	ql_tarentry_release(&rd.entry);
	return r;
}

void ql_proof_relax(const struct ql_proof *proof)
{
	ql_store_relax(proof->store);
}

/* ---- an image ---- */

static int image_merge(struct ql_proof *p, const struct ql_digest *diff_ids,
		       uint32_t n_layers, struct ql_tree **ret_tree,
		       struct ql_error *err)
{
	_cleanup_image_info_ struct ql_image_info info = { .n_layers =
								   n_layers };
	_cleanup_close_ int lock = -1;
	size_t len = n_layers * sizeof(*diff_ids);
	int r;

	info.layers = calloc(n_layers + 1UL, sizeof(*info.layers));
	if (!info.layers)
		return ql_error_nomem(err);
	if (n_layers > 0)
		memcpy(info.layers, diff_ids, len);
	r = ql_store_lock(p->store, false, &lock, err);
	/* An image has a manifest and a configuration: any that is its own. */
	if (r == 0)
		r = ql_object_put(p->store, info.layers, len, NULL,
				  &info.manifest, err);
	info.config = info.manifest;
	if (r == 0)
		r = ql_image_build(p->store, &info, NULL, err);
	if (r == 0)
		r = ql_tree_open_image(p->store, &info.manifest, ret_tree, err);
	return r;
}

struct differences {
	struct ql_buf text; /* owned; of the first */
	uint64_t n;
	bool stargz; /* as the proof's */
};

static int on_difference(const struct ql_difference *d, void *arg)
{
	struct differences *found = arg;

	/* The new root has them of its own format. */
	if (found->stargz &&
	    ql_name_is_stargz(d->path + 1, strlen(d->path + 1)))
		return 0;
	/* What does not fit is left out; it is counted. */
	if (found->n++ < SHOWN)
		(void)ql_buf_addf(&found->text, "; %.200s: %s", d->path,
				  d->what);
	return 0;
}

int ql_proof_image(struct ql_proof *proof, const struct ql_digest *diff_ids,
		   uint32_t n_layers, const struct ql_tree *old,
		   unsigned int flags, struct ql_tree **ret_tree,
		   struct ql_error *err)
{
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	_cleanup_(ql_root_freep) struct ql_root *a = NULL, *b = NULL;
	struct differences found = { .text = QL_BUF_INIT(TEXT_MAX),
				     .stargz = proof->stargz };
	uint64_t count = 0;
	int r = image_merge(proof, diff_ids, n_layers, &tree, err);

	if (r == 0)
		r = ql_root_from_tree(old, &a, err);
	if (r == 0)
		r = ql_root_from_tree(tree, &b, err);
	if (r == 0)
		r = ql_root_compare(a, b, flags, on_difference, &found, &count,
				    err);
	if (r == 0 && found.n > 0)
		r = ql_error_set(err, -EUCLEAN,
				 "the new root is not the old one, at %llu "
				 "places%s",
				 (unsigned long long)found.n,
				 ql_buf_str(&found.text));
	ql_buf_release(&found.text);
	if (r == 0)
		*ret_tree = ql_take_ptr(tree);
	return r;
}
