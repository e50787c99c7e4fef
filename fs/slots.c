/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trees that are open in a mount of every image.  A slot's number is the upper
 * 16 bits of its inodes' numbers.  It is held once for each request that looks
 * into its tree and once for each time that the kernel was told of an inode of
 * it, so while it is held the tree stays open; what nobody holds is idle, and
 * the longest idle is closed where there are too many.
 *
 * A hold of a slot that is held already is one atomic addition; from 0 to 1 it
 * goes under the lock alone, so that closing (under the lock, at 0) is safe.
 * A slot's memory stays for the server's life, like its number, which a tree
 * that is opened again gets back.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "fs/fs-private.h"

enum { BUCKETS = 1024 };

struct list { /* oldest first */
	struct ql_slot *first, *last;
};

struct ql_slots {
	const struct ql_store *store; /* borrowed */
	size_t idle_max;
	_Atomic(struct ql_slot *) table[QL_SLOTS]; /* owned; never change */

	pthread_mutex_t lock;		  /* protects all below */
	struct ql_slot *buckets[BUCKETS]; /* borrowed; by kind and digest */
	struct list idle, closed;
	size_t n_idle;
	unsigned int next; /* number never used so far */
};

struct ql_slots *ql_slots_new(const struct ql_store *store, size_t idle_max)
{
	struct ql_slots *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->store = store;
	s->idle_max = idle_max;
	s->next = 1;
	if (pthread_mutex_init(&s->lock, NULL) != 0) {
		free(s);
		return NULL;
	}
	return s;
}

void ql_slots_free(struct ql_slots *s)
{
	if (!s)
		return;
	for (unsigned int i = 1; i < s->next; i++) {
		struct ql_slot *slot = atomic_load(&s->table[i]);

		ql_fill_image_close(atomic_load(&slot->fill));
		ql_tree_close(slot->tree);
		if (slot->hold >= 0)
			(void)close(slot->hold);
		free(slot);
	}
	(void)pthread_mutex_destroy(&s->lock);
	free(s);
}

/* ---- lists and buckets, under the lock ---- */

static void list_append(struct list *l, struct ql_slot *slot)
{
	slot->prev = l->last;
	slot->next = NULL;
	if (l->last)
		l->last->next = slot;
	else
		l->first = slot;
	l->last = slot;
}

static void list_remove(struct list *l, struct ql_slot *slot)
{
	if (slot->prev)
		slot->prev->next = slot->next;
	else
		l->first = slot->next;
	if (slot->next)
		slot->next->prev = slot->prev;
	else
		l->last = slot->prev;
	slot->prev = slot->next = NULL;
}

static struct ql_slot **bucket(struct ql_slots *s, enum ql_vkind kind,
			       const struct ql_digest *digest)
{
	unsigned int h = (unsigned int)digest->bytes[0] << 8 | digest->bytes[1];

	return &s->buckets[(h + (unsigned int)kind) % BUCKETS];
}

static struct ql_slot *find_locked(struct ql_slots *s, enum ql_vkind kind,
				   const struct ql_digest *digest)
{
	struct ql_slot *slot = *bucket(s, kind, digest);

	while (slot &&
	       (slot->kind != kind || !ql_digest_equal(&slot->digest, digest)))
		slot = slot->chain;
	return slot;
}

static void close_locked(struct ql_slots *s, struct ql_slot *slot)
{
	list_remove(&s->idle, slot);
	slot->idle = false;
	s->n_idle--;
	ql_fill_image_close(atomic_exchange(&slot->fill, NULL));
	ql_tree_close(slot->tree);
	slot->tree = NULL;
	if (slot->hold >= 0)
		(void)close(ql_take_fd(&slot->hold));
	list_append(&s->closed, slot);
}

/* ---- holding ---- */

/* Requests come by the thousand: the clock that costs nothing will do. */
static uint64_t now_coarse(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void stamp(struct ql_slot *slot)
{
	atomic_store_explicit(&slot->used, now_coarse(), memory_order_relaxed);
}

static bool hold_held(struct ql_slot *slot)
{
	uint64_t refs = atomic_load(&slot->refs);

	while (refs > 0)
		if (atomic_compare_exchange_weak(&slot->refs, &refs, refs + 1))
			return true;
	return false;
}

static void hold_locked(struct ql_slots *s, struct ql_slot *slot)
{
	if (slot->idle) {
		list_remove(&s->idle, slot);
		slot->idle = false;
		s->n_idle--;
	}
	(void)atomic_fetch_add(&slot->refs, 1);
}

struct ql_slot *ql_slots_hold(struct ql_slots *s, unsigned int number)
{
	struct ql_slot *slot = number > 0 && number < QL_SLOTS
				       ? atomic_load(&s->table[number])
				       : NULL;

	if (!slot)
		return NULL;
	stamp(slot);
	if (hold_held(slot))
		return slot;
	(void)pthread_mutex_lock(&s->lock);
	if (slot->tree)
		hold_locked(s, slot);
	else
		slot = NULL;
	(void)pthread_mutex_unlock(&s->lock);
	return slot;
}

void ql_slot_hold(struct ql_slot *slot, uint64_t n)
{
	(void)atomic_fetch_add(&slot->refs, n);
}

void ql_slots_put(struct ql_slots *s, struct ql_slot *slot, uint64_t n)
{
	if (n == 0 || atomic_fetch_sub(&slot->refs, n) != n)
		return;
	(void)pthread_mutex_lock(&s->lock);
	/* Another may have held, let go and even closed it since. */
	if (atomic_load(&slot->refs) == 0 && !slot->idle && slot->tree) {
		slot->idle = true;
		list_append(&s->idle, slot);
		s->n_idle++;
	}
	while (s->n_idle > s->idle_max && s->idle.first)
		close_locked(s, s->idle.first);
	(void)pthread_mutex_unlock(&s->lock);
}

void ql_slots_forget(struct ql_slots *s, unsigned int number, uint64_t n)
{
	struct ql_slot *slot = number > 0 && number < QL_SLOTS
				       ? atomic_load(&s->table[number])
				       : NULL;

	if (slot)
		ql_slots_put(s, slot, n);
}

/* ---- opening ---- */

/* A slot for a tree that has none: the next number, or that of the tree which
 * was closed longest ago. */
static int slot_new_locked(struct ql_slots *s, enum ql_vkind kind,
			   const struct ql_digest *digest,
			   struct ql_slot **ret_slot)
{
	struct ql_slot *slot, **p;

	if (s->next < QL_SLOTS) {
		slot = calloc(1, sizeof(*slot));
		if (!slot)
			return -ENOMEM;
		slot->number = s->next++;
		slot->hold = -1;
		list_append(&s->closed, slot);
		atomic_store(&s->table[slot->number], slot);
	} else {
		if (!s->closed.first && s->idle.first)
			close_locked(s, s->idle.first);
		slot = s->closed.first;
		if (!slot)
			return -ENFILE;
		p = bucket(s, slot->kind, &slot->digest);
		while (*p != slot)
			p = &(*p)->chain;
		*p = slot->chain;
		slot->generation++;
	}
	slot->kind = kind;
	slot->digest = *digest;
	p = bucket(s, kind, digest);
	slot->chain = *p;
	*p = slot;
	*ret_slot = slot;
	return 0;
}

/* A layer is held before its tree is opened, and counts as asked for. */
static int layer_open(const struct ql_slots *s, const struct ql_digest *diff_id,
		      struct ql_tree **ret_tree, int *ret_hold,
		      struct ql_error *err)
{
	_cleanup_close_ int hold = -1;
	int r = ql_layer_hold(s->store, diff_id, &hold);

	if (r < 0)
		return ql_error_errno(err, r, "layer");
	r = ql_tree_open_layer(s->store, diff_id, ret_tree, err);
	if (r == 0)
		*ret_hold = ql_take_fd(&hold);
	return r;
}

/* With the tree and the hold, which are taken unless another thread was
 * faster. */
static int install_locked(struct ql_slots *s, enum ql_vkind kind,
			  const struct ql_digest *digest, struct ql_tree **tree,
			  int *hold, struct ql_slot **ret_slot)
{
	struct ql_slot *slot = find_locked(s, kind, digest);
	int r = slot ? 0 : slot_new_locked(s, kind, digest, &slot);

	if (r < 0)
		return r;
	if (!slot->tree) {
		list_remove(&s->closed, slot);
		slot->tree = ql_take_ptr(*tree);
		slot->hold = ql_take_fd(hold);
		slot->spared = 0;
	}
	stamp(slot);
	hold_locked(s, slot);
	*ret_slot = slot;
	return 0;
}

int ql_slots_open(struct ql_slots *s, enum ql_vkind kind,
		  const struct ql_digest *digest, struct ql_slot **ret_slot,
		  struct ql_error *err)
{
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	_cleanup_close_ int hold = -1;
	struct ql_slot *slot;
	int r;

	(void)pthread_mutex_lock(&s->lock);
	slot = find_locked(s, kind, digest);
	if (slot && slot->tree)
		hold_locked(s, slot);
	else
		slot = NULL;
	(void)pthread_mutex_unlock(&s->lock);
	if (slot) {
		*ret_slot = slot;
		return 0;
	}
	/* Outside: it may wait for a removal that is at work. */
	r = kind == QL_V_LAYER
		    ? layer_open(s, digest, &tree, &hold, err)
		    : ql_tree_open_image(s->store, digest, &tree, err);
	if (r < 0)
		return r;
	(void)pthread_mutex_lock(&s->lock);
	r = install_locked(s, kind, digest, &tree, &hold, ret_slot);
	(void)pthread_mutex_unlock(&s->lock);
	return r < 0 ? ql_error_errno(err, r, "opening a tree") : 0;
}

static bool drop_locked(struct ql_slots *s, enum ql_vkind kind,
			const struct ql_digest *digest)
{
	struct ql_slot *slot = find_locked(s, kind, digest);

	if (!slot || !slot->tree)
		return true;
	if (!slot->idle)
		return false;
	close_locked(s, slot);
	return true;
}

bool ql_slots_drop(struct ql_slots *s, const struct ql_digest *digest)
{
	bool image, inert;

	(void)pthread_mutex_lock(&s->lock);
	image = drop_locked(s, QL_V_IMAGE, digest);
	inert = drop_locked(s, QL_V_INERT, digest);
	(void)pthread_mutex_unlock(&s->lock);
	return image && inert;
}

bool ql_slots_drop_layer(struct ql_slots *s, const struct ql_digest *diff)
{
	bool dropped;

	(void)pthread_mutex_lock(&s->lock);
	dropped = drop_locked(s, QL_V_LAYER, diff);
	(void)pthread_mutex_unlock(&s->lock);
	return dropped;
}

/* ---- what is held open ---- */

static int by_use(const void *a, const void *b)
{
	const struct ql_slot_image *x = a, *y = b;

	return (x->used > y->used) - (x->used < y->used);
}

static size_t images_locked(const struct ql_slots *s, uint64_t now,
			    struct ql_slot_image *list)
{
	size_t n = 0;

	for (unsigned int i = 1; i < s->next; i++) {
		struct ql_slot *slot = atomic_load(&s->table[i]);

		if (slot->tree && slot->spared <= now)
			list[n++] = (struct ql_slot_image){
				.digest = slot->digest,
				.layer = slot->kind == QL_V_LAYER,
				.number = slot->number,
				.used = atomic_load(&slot->used),
			};
	}
	return n;
}

int ql_slots_images(struct ql_slots *s, struct ql_slot_image **ret_list,
		    size_t *ret_n)
{
	struct ql_slot_image *list = NULL;
	size_t n = 0, most;

	(void)pthread_mutex_lock(&s->lock);
	most = s->next;
	list = calloc(most, sizeof(*list));
	if (list)
		n = images_locked(s, now_coarse(), list);
	(void)pthread_mutex_unlock(&s->lock);
	if (!list)
		return -ENOMEM;
	qsort(list, n, sizeof(*list), by_use);
	*ret_list = list;
	*ret_n = n;
	return 0;
}

void ql_slots_spare(struct ql_slots *s, unsigned int number, uint64_t ns)
{
	(void)pthread_mutex_lock(&s->lock);
	if (number > 0 && number < s->next)
		atomic_load(&s->table[number])->spared = now_coarse() + ns;
	(void)pthread_mutex_unlock(&s->lock);
}
