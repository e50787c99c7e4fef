/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What others may know of this node: which layers and images are here, and a
 * filter of which objects.
 *
 * Their generation is a hash of what is here (the records of images and of
 * their layers, when the folders of objects changed, and this process), looked
 * at again every few seconds at most: while an image is filled it would change
 * with each object, and all who ask would fetch the filter each time.
 */
#include "fetch/peer-private.h"
#include "fetch/peerfilter.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define LOOK_NS 3000000000ULL
#define LOOK_SHARE 50 /* looking takes this part of the time, at most */
#define LOOK_MOST 60000000000ULL
#define FNV_BASIS 0xcbf29ce484222325ULL
#define FNV_PRIME 0x100000001b3ULL
/* Whoever reads JSON's numbers as floating point has it exactly. */
#define GENERATION_MAX ((UINT64_C(1) << 53) - 1)

struct ql_peer_known {
	struct ql_peers *peers;	       /* borrowed */
	struct ql_peer_shared *shared; /* owned; has its own locks */

	pthread_mutex_t lock;	      /* protects the next line */
	uint64_t generation, look_at; /* ns: before then it is not looked */

	/* One builds, and others wait for it; order: build, lock. */
	pthread_mutex_t build;	  /* protects the two below */
	struct ql_buf filters[2]; /* owned; by trust */
	uint64_t generations[2];  /* that they are of; 0: none */
};

int ql_peer_known_new(struct ql_peers *peers, struct ql_peer_known **ret_known,
		      struct ql_error *err)
{
	struct ql_peer_known *k = calloc(1, sizeof(*k));
	int r;

	if (!k)
		return ql_error_nomem(err);
	k->peers = peers;
	(void)pthread_mutex_init(&k->lock, NULL);
	(void)pthread_mutex_init(&k->build, NULL);
	for (int i = 0; i < 2; i++)
		ql_buf_init(&k->filters[i], QL_FILTER_MAX);
	r = ql_peer_shared_new(peers, &k->shared, err);
	if (r < 0)
		ql_peer_known_free(k);
	else
		*ret_known = k;
	return r;
}

void ql_peer_known_free(struct ql_peer_known *known)
{
	if (!known)
		return;
	ql_peer_shared_free(known->shared);
	for (int i = 0; i < 2; i++)
		ql_buf_release(&known->filters[i]);
	(void)pthread_mutex_destroy(&known->build);
	(void)pthread_mutex_destroy(&known->lock);
	free(known);
}

bool ql_peers_may_share(struct ql_peers *peers, const struct ql_digest *digest,
			bool trusted)
{
	if (trusted || peers->options.share == QL_PEER_SHARE_ALL)
		return true;
	return peers->options.share == QL_PEER_SHARE_ANONYMOUS &&
	       ql_peer_shared_has(peers->known->shared, digest);
}

/* ---- images and layers, each once ---- */

struct known_set {
	struct ql_digest *items; /* owned */
	size_t n, cap;
};

static void known_set_release(struct known_set *s)
{
	free(s->items);
}

static int known_set_add(struct known_set *s, const struct ql_digest *d)
{
	if (s->n == s->cap) {
		size_t cap = s->cap ? 2 * s->cap : 64;
		struct ql_digest *items =
			reallocarray(s->items, cap, sizeof(*items));

		if (!items)
			return -ENOMEM;
		s->items = items;
		s->cap = cap;
	}
	s->items[s->n++] = *d;
	return 0;
}

static int digest_cmp(const void *a, const void *b)
{
	return ql_digest_cmp(a, b);
}

static void known_set_sort(struct known_set *s)
{
	size_t n = 0;

	if (s->n == 0)
		return;
	qsort(s->items, s->n, sizeof(*s->items), digest_cmp);
	for (size_t i = 1; i < s->n; i++)
		if (!ql_digest_equal(&s->items[n], &s->items[i]))
			s->items[++n] = s->items[i];
	s->n = n + 1;
}

struct known_list {
	struct ql_peers *peers; /* borrowed */
	bool trusted;
	struct known_set images, layers; /* owned */
	struct ql_error *err;		 /* borrowed */
};

static int list_image(const char *name, const struct ql_image_info *info,
		      void *arg)
{
	struct known_list *list = arg;
	int r = 0;

	(void)name;
	if (!ql_peers_may_share(list->peers, &info->manifest, list->trusted))
		return 0;
	r = known_set_add(&list->images, &info->manifest);
	for (uint32_t i = 0; i < info->n_layers && r == 0; i++)
		r = known_set_add(&list->layers, &info->layers[i]);
	return r < 0 ? ql_error_nomem(list->err) : 0;
}

static void known_list_release(struct known_list *list)
{
	known_set_release(&list->images);
	known_set_release(&list->layers);
}

/* Sorted; of layers, those that are whole. */
static int known_list_init(struct ql_peers *peers, bool trusted,
			   struct known_list *list, struct ql_error *err)
{
	size_t n = 0;
	int r;

	*list = (struct known_list){ .peers = peers,
				     .trusted = trusted,
				     .err = err };
	r = ql_image_each(peers->store, list_image, list, err);
	if (r < 0)
		return r;
	known_set_sort(&list->images);
	known_set_sort(&list->layers);
	for (size_t i = 0; i < list->layers.n; i++) {
		const struct ql_digest *d = &list->layers.items[i];
		struct ql_layer_info info;

		if (ql_layer_get(peers->store, d, &info) == 0 &&
		    !(info.flags & (QL_LAYER_LAZY | QL_LAYER_GONE)))
			list->layers.items[n++] = *d;
	}
	list->layers.n = n;
	return 0;
}

/* ---- generation ---- */

static uint64_t hash_bytes(uint64_t hash, const void *data, size_t len)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ p[i]) * FNV_PRIME;
	return hash;
}

/* Who may have what changes with an image's flags. */
static int hash_image(const char *name, const struct ql_image_info *info,
		      void *arg)
{
	uint64_t *hash = arg;
	uint32_t flags = info->flags & (QL_IMAGE_WHOLE | QL_IMAGE_ANONYMOUS);

	(void)name;
	*hash = hash_bytes(*hash, &flags, sizeof(flags));
	return 0;
}

static uint64_t generation_of(struct ql_peers *peers)
{
	struct known_list list;
	uint64_t hash = hash_bytes(FNV_BASIS, peers->id, strlen(peers->id));
	uint64_t changes = ql_object_changes(peers->store);
	struct ql_error err = QL_ERROR_INIT;
	int r = known_list_init(peers, true, &list, &err);

	hash = hash_bytes(hash, &changes, sizeof(changes));
	if (r == 0)
		hash = hash_bytes(hash, list.images.items,
				  list.images.n * sizeof(struct ql_digest));
	if (r == 0)
		hash = hash_bytes(hash, list.layers.items,
				  list.layers.n * sizeof(struct ql_digest));
	if (r == 0)
		r = ql_image_each(peers->store, hash_image, &hash, &err);
	if (r < 0)
		ql_debug("msg=\"what is here is not known\" text=\"%s\"",
			 err.text);
	known_list_release(&list);
	hash = (hash ^ hash >> 32) & GENERATION_MAX;
	return hash ? hash : 1;
}

/* Under the lock: not before least has passed; and later where it took long,
 * since then. */
static void look_later(struct ql_peer_known *k, uint64_t since, uint64_t least)
{
	uint64_t now = ql_now_ns(), took = (now - since) * LOOK_SHARE;
	uint64_t at = now + (took > least ? took : least);

	if (at > now + LOOK_MOST)
		at = now + LOOK_MOST;
	if (k->look_at < at)
		k->look_at = at;
}

uint64_t ql_peers_generation(struct ql_peers *peers)
{
	struct ql_peer_known *k = peers->known;
	uint64_t generation, now = ql_now_ns();

	(void)pthread_mutex_lock(&k->lock);
	if (now >= k->look_at) {
		k->generation = generation_of(peers);
		look_later(k, now, LOOK_NS);
	}
	generation = k->generation;
	(void)pthread_mutex_unlock(&k->lock);
	return generation;
}

/* ---- summary ---- */

static int json_set(json_t *obj, const char *key, json_t *value)
{
	return json_object_set_new(obj, key, value) < 0 ? -ENOMEM : 0;
}

static int json_set_list(json_t *obj, const char *key,
			 const struct known_set *set)
{
	json_t *array = json_array();
	int r = json_set(obj, key, array);

	for (size_t i = 0; i < set->n && r == 0; i++)
		if (json_array_append_new(array,
					  ql_json_digest(&set->items[i])) < 0)
			r = -ENOMEM;
	return r;
}

int ql_peers_summary(struct ql_peers *peers, bool trusted, json_t **ret_summary,
		     struct ql_error *err)
{
	_cleanup_json_ json_t *s = json_object();
	uint64_t generation = ql_peers_generation(peers);
	struct known_list list;
	int r = known_list_init(peers, trusted, &list, err);

	if (r == 0 &&
	    (!s ||
	     json_set(s, "apiVersion", json_string("quicklayer.io/v1")) < 0 ||
	     json_set(s, "kind", json_string("NodeSummary")) < 0 ||
	     json_set(s, "id", json_string(peers->id)) < 0 ||
	     json_set(s, "name", ql_json_text(peers->name)) < 0 ||
	     json_set(s, "site", ql_json_text(peers->site)) < 0 ||
	     json_set(s, "passes", json_boolean(ql_peers_passes(peers))) < 0 ||
	     json_set(s, "generation", json_integer((json_int_t)generation)) <
		     0 ||
	     json_set_list(s, "layers", &list.layers) < 0 ||
	     json_set_list(s, "images", &list.images) < 0))
		r = ql_error_nomem(err);
	known_list_release(&list);
	if (r == 0)
		*ret_summary = ql_take_ptr(s);
	return r;
}

/* ---- filter ---- */

struct filling {
	struct ql_peers *peers; /* borrowed */
	bool trusted;
	uint64_t n;
	struct ql_filter filter; /* owned */
};

static int object_count(const struct ql_digest *digest, void *arg)
{
	struct filling *f = arg;

	f->n += ql_peers_may_share(f->peers, digest, f->trusted);
	return 0;
}

static int object_add(const struct ql_digest *digest, void *arg)
{
	struct filling *f = arg;

	if (ql_peers_may_share(f->peers, digest, f->trusted))
		ql_filter_add(&f->filter, digest);
	return 0;
}

/* Twice over the folders, which are cached then, and no list of the names. */
static int filter_build(struct ql_peers *peers, bool trusted,
			struct ql_buf *buf, struct ql_error *err)
{
	struct filling f = { .peers = peers, .trusted = trusted };
	int r = ql_object_each(peers->store, object_count, &f, err);

	if (r == 0 && ql_filter_init(&f.filter, f.n) < 0)
		return ql_error_nomem(err);
	if (r == 0)
		r = ql_object_each(peers->store, object_add, &f, err);
	ql_buf_clear(buf);
	if (r == 0 && ql_filter_print(&f.filter, buf) < 0)
		r = ql_error_nomem(err);
	ql_filter_release(&f.filter);
	return r;
}

int ql_peers_filter(struct ql_peers *peers, bool trusted, struct ql_buf *buf,
		    struct ql_error *err)
{
	struct ql_peer_known *k = peers->known;
	uint64_t generation = ql_peers_generation(peers), since;
	int r = 0;

	(void)pthread_mutex_lock(&k->build);
	if (k->generations[trusted] != generation) {
		k->generations[trusted] = 0;
		since = ql_now_ns();
		r = filter_build(peers, trusted, &k->filters[trusted], err);
		(void)pthread_mutex_lock(&k->lock);
		look_later(k, since, 0);
		(void)pthread_mutex_unlock(&k->lock);
	}
	if (r == 0) {
		k->generations[trusted] = generation;
		r = ql_buf_add(buf, k->filters[trusted].data,
			       k->filters[trusted].len);
		if (r < 0)
			r = ql_error_errno(err, r, "a filter");
	}
	(void)pthread_mutex_unlock(&k->build);
	return r;
}
