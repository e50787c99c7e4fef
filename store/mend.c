/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Putting right what is damaged, as far as the store can without fetching: a
 * damaged object is taken out of use, a layer's record follows its tree that
 * was written again, an image's layers are merged anew.
 */
#include "store/keep-private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

/* ---- setting aside ---- */

struct aside {
	struct ql_store *store;	      /* borrowed */
	struct ql_object_set objects; /* owned; sorted */
	struct ql_object_set layers;  /* owned: diff IDs that have some */
	struct ql_object_set images;  /* owned: ready-made, likewise */
	struct ql_error *err;	      /* borrowed */
};

static void aside_release(struct aside *a)
{
	ql_object_set_release(&a->objects);
	ql_object_set_release(&a->layers);
	ql_object_set_release(&a->images);
}

static bool have_common(const struct ql_object_set *few,
			const struct ql_object_set *set)
{
	for (size_t i = 0; i < few->n; i++)
		if (ql_object_set_has(set, &few->items[i].digest))
			return true;
	return false;
}

/* What a damaged tree needs is not known: to be sure, it is not whole.  One
 * that is not may have been found to be here (packedhere.c): its record is
 * written again, too, which forgets that. */
static int aside_layer(const void *key, size_t key_len, const void *value,
		       size_t len, void *arg)
{
	_cleanup_(ql_object_set_release) struct ql_object_set set = { 0 };
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	struct aside *a = arg;
	struct ql_layer_info info;
	int r;

	if (ql_record_parse_layer(key, key_len, value, len, &info) < 0)
		return 0;
	r = ql_tree_open_layer(a->store, &info.diff_id, &tree, NULL);
	if (r == 0)
		r = ql_object_set_from_tree(tree, &set, NULL);
	if (r == 0 && !have_common(&a->objects, &set))
		return 0;
	return ql_object_set_add(&a->layers, &info.diff_id, 0);
}

static int aside_image(const void *key, size_t key_len, const void *value,
		       size_t len, void *arg)
{
	_cleanup_(ql_object_set_release) struct ql_object_set set = { 0 };
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	struct aside *a = arg;
	int r;

	if (ql_record_parse_image(key, key_len, value, len, &info) < 0 ||
	    !(info.flags & QL_IMAGE_READY))
		return 0;
	r = ql_image_own_objects(a->store, &info, &set, NULL);
	if (r == 0 && !have_common(&a->objects, &set))
		return 0;
	return ql_object_set_add(&a->images, &info.manifest, 0);
}

static int aside_flags(struct aside *a, struct ql_txn *txn,
		       struct ql_error *err)
{
	int r = 0;

	for (size_t i = 0; i < a->layers.n && r == 0; i++) {
		struct ql_layer_info info;

		r = ql_record_get_layer(txn, &a->layers.items[i].digest, &info);
		if (r < 0)
			return ql_error_errno(err, r, "a layer's record");
		info.flags |= QL_LAYER_LAZY;
		r = ql_record_put_layer(txn, &info, err);
	}
	for (size_t i = 0; i < a->images.n && r == 0; i++) {
		_cleanup_image_info_ struct ql_image_info info = { 0 };

		r = ql_record_get_image(txn, &a->images.items[i].digest, &info);
		if (r < 0)
			return ql_error_errno(err, r, "an image's record");
		info.flags &= ~(uint32_t)QL_IMAGE_WHOLE;
		r = ql_record_put_image(txn, &info, err);
	}
	return r;
}

static int aside_record(struct aside *a, struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	struct ql_doom none = { 0 };
	int r = ql_txn_begin(a->store->catalog, true, &txn, err);

	if (r < 0)
		return r;
	r = ql_txn_each(txn, QL_TABLE_LAYERS, aside_layer, a, err);
	if (r == 0)
		r = ql_txn_each(txn, QL_TABLE_IMAGES, aside_image, a, err);
	if (r == -ENOMEM)
		return ql_error_nomem(err);
	if (r == 0)
		r = aside_flags(a, txn, err);
	/* For who has looked at what is here: it goes after this. */
	if (r == 0)
		r = ql_doom_write(txn, &none, err);
	return r < 0 ? r : ql_txn_commit(ql_take_ptr(txn), err);
}

int ql_objects_set_aside(struct ql_store *store,
			 const struct ql_digest *objects, size_t n,
			 const atomic_bool *stop, struct ql_error *err)
{
	_cleanup_(aside_release) struct aside a = { .store = store,
						    .err = err };
	_cleanup_close_ int lock = -1;
	char path[QL_OBJECT_PATH + 1];
	int r = ql_store_need_write(store, err);

	for (size_t i = 0; i < n && r == 0; i++)
		if (ql_object_set_add(&a.objects, &objects[i], 0) < 0)
			r = ql_error_nomem(err);
	ql_object_set_sort(&a.objects);
	if (r == 0)
		r = ql_store_lock_until(store, true, stop, &lock, err);
	if (r == 0)
		r = aside_record(&a, err);
	for (size_t i = 0; i < a.objects.n && r == 0; i++) {
		(void)ql_object_path(&a.objects.items[i].digest, path);
		r = ql_space_unlink(store, path, NULL);
		if (r == -ENOENT)
			r = 0;
		else if (r < 0)
			r = ql_error_errno(err, r, "remove %s", path);
	}
	return r;
}

bool ql_object_is_needed(struct ql_store *store, const struct ql_digest *digest)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	struct ql_object_record rec;

	return ql_txn_begin(store->catalog, false, &txn, NULL) == 0 &&
	       ql_record_get_object(txn, digest, &rec) == 0 && rec.refs > 0;
}

/* ---- layers ---- */

int ql_layer_set_aside(struct ql_store *store, const struct ql_layer_info *info,
		       struct ql_error *err)
{
	char path[QL_CFS_PATH];
	struct ql_digest have;
	uint64_t size;
	int r = ql_file_digest(store->root_fd,
			       ql_layer_path(&info->diff_id, path), &have,
			       &size, NULL);

	if (r == 0 && ql_digest_equal(&have, &info->cfs))
		return 0;
	r = ql_space_unlink(store, path, NULL);
	return r < 0 && r != -ENOENT ? ql_error_errno(err, r, "remove %s", path)
				     : 0;
}

int ql_layer_replace(struct ql_store *store, const struct ql_layer_info *info,
		     bool *ret_changed, struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	struct ql_layer_info rec = *info, known;
	bool changed;
	int r = ql_txn_begin(store->catalog, true, &txn, err);

	if (r < 0)
		return r;
	r = ql_record_get_layer(txn, &info->diff_id, &known);
	if (r < 0)
		return ql_error_errno(err, r, "the layer's record");
	changed = !ql_digest_equal(&known.cfs, &info->cfs);
	/* Who took it away gives it back. */
	if (known.flags & QL_LAYER_GONE)
		rec.flags = known.flags;
	r = ql_record_put_layer(txn, &rec, err);
	if (r == 0)
		r = ql_txn_commit(ql_take_ptr(txn), err);
	if (r == 0)
		*ret_changed = changed;
	return r;
}

/* ---- images ---- */

/* Takes the tree out of its place; who has it open reads on. */
static int tree_unlink(struct ql_store *store, const struct ql_digest *manifest,
		       struct ql_error *err)
{
	char path[QL_CFS_PATH];
	_cleanup_close_ int fd = openat(store->root_fd,
					ql_cfs_path("images", manifest, path),
					O_RDONLY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return errno == ENOENT
			       ? 0
			       : ql_error_errno(err, -errno, "%s", path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return ql_error_set(err, -EBUSY,
				    "the image is in use (mounted or being "
				    "read)");
	r = ql_space_unlink(store, path, NULL);
	return r < 0 ? ql_error_errno(err, r, "remove %s", path) : 0;
}

/* It was pulled when it was pulled. */
static int keep_time(struct ql_store *store, const struct ql_digest *manifest,
		     uint64_t pulled, struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	int r = ql_txn_begin(store->catalog, true, &txn, err);

	if (r < 0)
		return r;
	r = ql_record_get_image(txn, manifest, &info);
	if (r < 0)
		return ql_error_errno(err, r, "the image's record");
	info.pulled = pulled;
	r = ql_record_put_image(txn, &info, err);
	return r < 0 ? r : ql_txn_commit(ql_take_ptr(txn), err);
}

int ql_image_rebuild(struct ql_store *store, const struct ql_digest *manifest,
		     struct ql_error *err)
{
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	_cleanup_close_ int lock = -1;
	uint64_t pulled;
	int r = ql_store_lock(store, false, &lock, err);

	if (r < 0)
		return r;
	r = ql_image_get(store, manifest, &info);
	if (r < 0)
		return ql_error_errno(err, r, "the image's record");
	if (info.flags & QL_IMAGE_READY)
		return ql_error_set(err, -EOPNOTSUPP,
				    "its tree came ready-made");
	pulled = info.pulled;
	r = tree_unlink(store, manifest, err);
	if (r == 0)
		r = ql_image_build(store, &info, NULL, err);
	return r < 0 ? r : keep_time(store, manifest, pulled, err);
}

/* ---- the scrub's place ---- */

/* In the table of meta, under this key: its members in their order, u64 each,
 * little-endian. */
static const char state_key[] = "scrub";
enum { STATE_NUMBERS = 7, STATE_BYTES = 8 * STATE_NUMBERS };

static void state_members(struct ql_scrub_state *s,
			  uint64_t *members[STATE_NUMBERS])
{
	uint64_t *all[] = { &s->pass,  &s->position, &s->began,	  &s->ended,
			    &s->bytes, &s->bad,	     &s->repaired };

	memcpy(members, all, sizeof(all));
}

/* One that is malformed begins anew. */
int ql_scrub_state_get(struct ql_store *store, struct ql_scrub_state *ret_state,
		       struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	struct ql_scrub_state state = { 0 };
	uint64_t *members[STATE_NUMBERS];
	const void *value = NULL;
	struct ql_cursor c;
	size_t len = 0;
	int r = ql_txn_begin(store->catalog, false, &txn, err);

	if (r < 0)
		return r;
	r = ql_txn_get(txn, QL_TABLE_META, state_key, strlen(state_key), &value,
		       &len);
	if (r == 0 && len == STATE_BYTES) {
		state_members(&state, members);
		ql_cursor_init(&c, value, len);
		for (size_t i = 0; i < STATE_NUMBERS; i++)
			*members[i] = ql_cursor_le64(&c);
	}
	*ret_state = state;
	return 0;
}

int ql_scrub_state_put(struct ql_store *store,
		       const struct ql_scrub_state *state, struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(STATE_BYTES);
	struct ql_scrub_state copy = *state;
	uint64_t *members[STATE_NUMBERS];
	int r = ql_store_need_write(store, err);

	state_members(&copy, members);
	for (size_t i = 0; i < STATE_NUMBERS && r == 0; i++)
		if (ql_buf_add_le64(&buf, *members[i]) < 0)
			r = ql_error_nomem(err);
	if (r == 0)
		r = ql_txn_begin(store->catalog, true, &txn, err);
	if (r == 0)
		r = ql_txn_put(txn, QL_TABLE_META, state_key, strlen(state_key),
			       buf.data, buf.len, err);
	return r < 0 ? r : ql_txn_commit(ql_take_ptr(txn), err);
}
