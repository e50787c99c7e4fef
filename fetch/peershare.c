/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What anybody may have: the objects, blobs and documents of the images that a
 * registry gives to who shows no credentials (QL_IMAGE_ANONYMOUS).  An exact
 * set, of half of each digest: 128 bits, so that nobody finds another content
 * that has the same.
 *
 * It is made of parts, one for each layer and each image, which are read when
 * an image that needs them is seen first: a pull costs its own layers alone.
 * Those of images that went stay, for what anybody could have once is no
 * secret later, until they are most of it; then it is made anew.
 */
#include "fetch/peer-private.h"

#include <errno.h>
#include <string.h>

enum { KEY = 16 };
#define LOOK_NS 1000000000ULL

struct keys {
	uint8_t (*items)[KEY]; /* owned */
	size_t n, cap;
};

struct share_name {
	struct ql_digest digest; /* of a layer, or of an image's manifest */
	bool image;
};

struct share_names {
	struct share_name *items; /* owned */
	size_t n, cap;
};

struct ql_peer_shared {
	struct ql_peers *peers; /* borrowed */

	/* One thread brings it up to date, while others use what there is;
	 * order: build, lock.  It protects the two below. */
	pthread_mutex_t build;
	struct share_names names; /* owned; parts that are in keys; sorted */
	uint64_t state;		  /* a hash of the images that it is of */

	/* For reading, either is enough: both are held to write. */
	pthread_mutex_t lock;
	struct keys keys;   /* owned; sorted, each once */
	uint64_t looked_at; /* ns; 0: never */
};

/* ---- keys ---- */

static int keys_add(struct keys *k, const struct ql_digest *digest)
{
	if (k->n == k->cap) {
		size_t cap = k->cap ? 2 * k->cap : 256;
		void *items = reallocarray(k->items, cap, KEY);

		if (!items)
			return -ENOMEM;
		k->items = items;
		k->cap = cap;
	}
	memcpy(k->items[k->n++], digest->bytes, KEY);
	return 0;
}

static int key_cmp(const void *a, const void *b)
{
	return memcmp(a, b, KEY);
}

/* Both are sorted; what both have, and what one has twice, is there once. */
static int keys_merge(const struct keys *a, const struct keys *b,
		      struct keys *ret)
{
	struct keys k = { .cap = a->n + b->n };
	size_t i = 0, j = 0;

	k.items = calloc(k.cap + 1, KEY);
	if (!k.items)
		return -ENOMEM;
	while (i < a->n || j < b->n) {
		bool left = j == b->n ||
			    (i < a->n && key_cmp(a->items[i], b->items[j]) < 0);
		const uint8_t *key = left ? a->items[i++] : b->items[j++];

		if (k.n == 0 || key_cmp(k.items[k.n - 1], key) != 0)
			memcpy(k.items[k.n++], key, KEY);
	}
	*ret = k;
	return 0;
}

/* ---- what the parts have ---- */

static int add_object(const struct ql_digest *digest, uint64_t size, void *arg)
{
	(void)size;
	return keys_add(arg, digest);
}

/* The blobs that a table (taken) reads from. */
static int part_table(struct keys *k, struct ql_toc *toc)
{
	struct ql_toc_blob blob;
	int r = 0;

	for (uint32_t i = 0; i < ql_toc_blobs(toc) && r == 0; i++)
		if (ql_toc_blob(toc, i, &blob) == 0)
			r = keys_add(k, &blob.digest);
	ql_toc_close(toc);
	return r;
}

static int part_layer(struct ql_store *store, const struct ql_digest *diff_id,
		      struct keys *k)
{
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	struct ql_layer_info info;
	int r = ql_layer_get(store, diff_id, &info);

	if (r == 0)
		r = keys_add(k, &info.blob);
	if (r == 0)
		r = ql_tree_open_layer(store, diff_id, &tree, NULL);
	return r == 0 ? ql_tree_each_object(tree, add_object, k) : r;
}

/* What the manifest names is the image's, whether it is here or not. */
static int part_manifest(struct ql_store *store,
			 const struct ql_digest *manifest, struct keys *k)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_MANIFEST_MAX);
	_cleanup_manifest_ struct ql_manifest m = { 0 };
	int r = ql_object_read(store, manifest, &buf, NULL);

	if (r == 0)
		r = ql_manifest_parse(ql_buf_str(&buf), buf.len, &m, NULL);
	for (uint32_t i = 0; i < m.n_layers && r == 0; i++)
		r = keys_add(k, &m.layers[i].digest);
	return r;
}

static int part_image(struct ql_store *store, const struct ql_image_info *info,
		      struct keys *k)
{
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	struct ql_toc *toc;
	int r = keys_add(k, &info->manifest);

	if (r == 0)
		r = keys_add(k, &info->config);
	if (r == 0 && part_manifest(store, &info->manifest, k) == -ENOMEM)
		r = -ENOMEM;
	if (r < 0 || !(info->flags & QL_IMAGE_READY))
		return r;
	r = ql_tree_open_image(store, &info->manifest, &tree, NULL);
	if (r == 0)
		r = ql_tree_each_object(tree, add_object, k);
	if (r == 0 && ql_toc_open_image(store, info, &toc, NULL) == 0)
		r = part_table(k, toc);
	if (r == 0 && ql_toc_open_hot(store, info, &toc, NULL) == 0)
		r = part_table(k, toc);
	return r;
}

/* ---- the images that anybody may have ---- */

struct images {
	struct ql_image_info *items; /* owned */
	size_t n, cap;
	uint64_t state;
};

static void images_release(struct images *l)
{
	for (size_t i = 0; i < l->n; i++)
		ql_image_info_release(&l->items[i]);
	free(l->items);
}

static int images_add(const char *name, const struct ql_image_info *info,
		      void *arg)
{
	struct images *l = arg;
	struct ql_image_info *copy;

	(void)name;
	if (!(info->flags & QL_IMAGE_ANONYMOUS))
		return 0;
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 16;

		copy = reallocarray(l->items, cap, sizeof(*copy));
		if (!copy)
			return -ENOMEM;
		l->items = copy;
		l->cap = cap;
	}
	copy = &l->items[l->n];
	*copy = *info;
	copy->layers = calloc(info->n_layers + 1UL, sizeof(*copy->layers));
	if (!copy->layers)
		return -ENOMEM;
	if (info->n_layers > 0)
		memcpy(copy->layers, info->layers,
		       info->n_layers * sizeof(*copy->layers));
	l->n++;
	for (size_t i = 0; i < sizeof(info->manifest.bytes); i += 8) {
		uint64_t part;

		memcpy(&part, info->manifest.bytes + i, sizeof(part));
		l->state = (l->state ^ part) * 0x100000001b3ULL;
	}
	return 0;
}

/* ---- names ---- */

static int name_cmp(const void *a, const void *b)
{
	const struct share_name *x = a, *y = b;

	return x->image != y->image ? (int)x->image - (int)y->image
				    : ql_digest_cmp(&x->digest, &y->digest);
}

static int names_add(struct share_names *l, bool image,
		     const struct ql_digest *digest)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 64;
		struct share_name *items =
			reallocarray(l->items, cap, sizeof(*items));

		if (!items)
			return -ENOMEM;
		l->items = items;
		l->cap = cap;
	}
	l->items[l->n++] = (struct share_name){ *digest, image };
	return 0;
}

static bool names_has(const struct share_names *l, const struct share_name *n)
{
	return l->n > 0 &&
	       bsearch(n, l->items, l->n, sizeof(*l->items), name_cmp);
}

/* Those of the images, sorted; a layer may be there twice. */
static int names_of(const struct images *images, struct share_names *l)
{
	int r = 0;

	for (size_t i = 0; i < images->n && r == 0; i++) {
		const struct ql_image_info *info = &images->items[i];

		r = names_add(l, true, &info->manifest);
		for (uint32_t k = 0; k < info->n_layers && r == 0; k++)
			r = names_add(l, false, &info->layers[k]);
	}
	if (l->n > 0)
		qsort(l->items, l->n, sizeof(*l->items), name_cmp);
	return r;
}

/* Whether most of what is there is not needed any more. */
static bool names_are_old(const struct share_names *has,
			  const struct share_names *needed)
{
	size_t n = 0;

	for (size_t i = 0; i < has->n; i++)
		n += !names_has(needed, &has->items[i]);
	return n > has->n / 2;
}

/* ---- the set ---- */

static const struct ql_image_info *image_of(const struct images *images,
					    const struct ql_digest *manifest)
{
	size_t i = 0;

	while (!ql_digest_equal(&images->items[i].manifest, manifest))
		i++;
	return &images->items[i];
}

/* What is not in `has`, into keys and names; what cannot be read is left out,
 * and *ret_failed. */
static int read_parts(struct ql_store *store, const struct images *images,
		      const struct share_names *needed,
		      const struct share_names *has, struct keys *keys,
		      struct share_names *names, bool *ret_failed)
{
	int r = 0;

	for (size_t i = 0; i < needed->n && r == 0; i++) {
		const struct share_name *n = &needed->items[i];

		if (names_has(has, n) ||
		    (i > 0 && name_cmp(n, &needed->items[i - 1]) == 0))
			continue;
		r = n->image ? part_image(store, image_of(images, &n->digest),
					  keys)
			     : part_layer(store, &n->digest, keys);
		if (r == -ENOMEM)
			break;
		*ret_failed |= r < 0;
		r = r < 0 ? 0 : names_add(names, n->image, &n->digest);
	}
	return r;
}

static void names_release(struct share_names *l)
{
	free(l->items);
}

static void keys_release(struct keys *k)
{
	free(k->items);
}

static void swap_names(struct share_names *a, struct share_names *b)
{
	struct share_names t = *a;

	*a = *b;
	*b = t;
}

static void swap_keys(struct keys *a, struct keys *b)
{
	struct keys t = *a;

	*a = *b;
	*b = t;
}

/* Under build. */
static int shared_make(struct ql_peer_shared *s, const struct images *images)
{
	static const struct share_names nothing;
	static const struct keys none;
	_cleanup_(names_release) struct share_names needed = { 0 };
	_cleanup_(names_release) struct share_names names = { 0 };
	_cleanup_(keys_release) struct keys more = { 0 }, keys = { 0 };
	bool failed = false, anew;
	int r = names_of(images, &needed);

	anew = names_are_old(&s->names, &needed);
	if (r == 0)
		r = read_parts(s->peers->store, images, &needed,
			       anew ? &nothing : &s->names, &more, &names,
			       &failed);
	for (size_t i = 0; i < s->names.n && !anew && r == 0; i++)
		r = names_add(&names, s->names.items[i].image,
			      &s->names.items[i].digest);
	if (more.n > 0)
		qsort(more.items, more.n, KEY, key_cmp);
	if (r == 0)
		r = keys_merge(anew ? &none : &s->keys, &more, &keys);
	if (r < 0)
		return r;
	if (names.n > 0)
		qsort(names.items, names.n, sizeof(*names.items), name_cmp);
	swap_names(&s->names, &names);
	s->state = failed ? 0 : images->state;
	(void)pthread_mutex_lock(&s->lock);
	swap_keys(&s->keys, &keys);
	(void)pthread_mutex_unlock(&s->lock);
	return 0;
}

/* Under build. */
static void shared_update(struct ql_peer_shared *s)
{
	struct images images = { .state = 1 };
	int r = ql_image_each(s->peers->store, images_add, &images, NULL);

	if (r == 0 && images.state != s->state)
		r = shared_make(s, &images);
	if (r < 0)
		ql_debug("msg=\"what may be shared is not known\" error=%d", r);
	images_release(&images);
	(void)pthread_mutex_lock(&s->lock);
	s->looked_at = ql_now_ns();
	(void)pthread_mutex_unlock(&s->lock);
}

int ql_peer_shared_new(struct ql_peers *peers, struct ql_peer_shared **ret,
		       struct ql_error *err)
{
	struct ql_peer_shared *s = calloc(1, sizeof(*s));

	if (!s)
		return ql_error_nomem(err);
	s->peers = peers;
	(void)pthread_mutex_init(&s->build, NULL);
	(void)pthread_mutex_init(&s->lock, NULL);
	*ret = s;
	return 0;
}

void ql_peer_shared_free(struct ql_peer_shared *shared)
{
	if (!shared)
		return;
	names_release(&shared->names);
	keys_release(&shared->keys);
	(void)pthread_mutex_destroy(&shared->lock);
	(void)pthread_mutex_destroy(&shared->build);
	free(shared);
}

static bool is_due(const struct ql_peer_shared *s)
{
	return s->looked_at == 0 || ql_now_ns() - s->looked_at >= LOOK_NS;
}

/* The first waits for it to be made; later ones use the last one meanwhile. */
static bool build_take(struct ql_peer_shared *s)
{
	bool first, due;

	(void)pthread_mutex_lock(&s->lock);
	first = s->looked_at == 0;
	due = is_due(s);
	(void)pthread_mutex_unlock(&s->lock);
	if (first)
		return pthread_mutex_lock(&s->build) == 0;
	return due && pthread_mutex_trylock(&s->build) == 0;
}

bool ql_peer_shared_has(struct ql_peer_shared *shared,
			const struct ql_digest *digest)
{
	bool has;

	if (build_take(shared)) {
		if (is_due(shared)) /* nobody else was faster */
			shared_update(shared);
		(void)pthread_mutex_unlock(&shared->build);
	}
	(void)pthread_mutex_lock(&shared->lock);
	has = shared->keys.n > 0 && bsearch(digest->bytes, shared->keys.items,
					    shared->keys.n, KEY, key_cmp);
	(void)pthread_mutex_unlock(&shared->lock);
	return has;
}
