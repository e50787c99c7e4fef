/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whom an eviction takes: those first in order (keeporder.c) whose trees it can
 * lock, and what each has on disk.
 */
#include "store/keepevict.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

static uint64_t disk_bytes(const struct ql_store *store, const char *path)
{
	struct stat st;

	return fstatat(store->root_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0
		       ? 0
		       : (uint64_t)st.st_blocks * 512;
}

uint64_t ql_evict_object_bytes(struct ql_store *store,
			       const struct ql_digest *digest)
{
	char path[QL_OBJECT_PATH + 1];

	return disk_bytes(store, ql_object_path(digest, path)) +
	       ql_partial_disk(store, digest);
}

/* What has nothing on disk is nothing to take. */
static void victim_weigh(struct ql_store *store, struct ql_victim *v)
{
	v->most = v->packed;
	for (size_t i = 0; i < v->objects.n; i++) {
		struct ql_object_use *use = &v->objects.items[i];

		use->size = ql_evict_object_bytes(store, &use->digest);
		v->most += use->size;
	}
}

static int choose_drop(struct ql_evict *ev, struct ql_victim *v,
		       struct ql_error *err)
{
	int r = ql_keep_unit_objects(&ev->map, v->unit, &v->objects, err);

	if (r < 0)
		return r;
	v->packed = ql_keep_unit_packed(&ev->map, v->unit);
	victim_weigh(ev->store, v);
	return 0;
}

static int choose_demote(struct ql_evict *ev, struct ql_victim *v,
			 struct ql_error *err)
{
	int r = ql_keep_unit_covered(&ev->map, v->unit, &v->objects, err);

	if (r < 0)
		return r;
	victim_weigh(ev->store, v);
	return 0;
}

int ql_evict_lock_image(struct ql_evict *ev, struct ql_keep_image *image,
			struct ql_error *err)
{
	int r = ql_keep_lock_image(&ev->map, image, err);

	if (ev->fn && image->fd >= 0)
		(void)close(ql_take_fd(&image->fd));
	return r;
}

/* Nobody opens it until the round is over. */
static int lock_unit(struct ql_evict *ev, struct ql_victim *v,
		     struct ql_error *err)
{
	struct ql_keep_unit *unit = v->unit;
	int r = 0;

	for (uint32_t i = 0; i < unit->n_images && r == 0; i++)
		r = ql_evict_lock_image(ev, &ev->map.images[unit->images[i]],
					err);
	if (r == 0 && !unit->is_image)
		r = ql_keep_lock_layer(ev->store, &unit->digest, &v->layer_fd,
				       err);
	if (ev->fn && v->layer_fd >= 0)
		(void)close(ql_take_fd(&v->layer_fd));
	return r;
}

/* It is the process that lacks something, not the unit. */
static bool is_lack(int r)
{
	return r == -ENOMEM || r == -EMFILE || r == -ENFILE;
}

static int choose(struct ql_evict *ev, struct ql_keep_unit *unit, bool demote,
		  struct ql_error *err)
{
	struct ql_victim *v;
	int r;

	if (ev->n_victims == ev->cap_victims) {
		size_t cap = ev->cap_victims ? ev->cap_victims * 2 : 16;
		struct ql_victim *grown =
			reallocarray(ev->victims, cap, sizeof(*grown));

		if (!grown)
			return ql_error_nomem(err);
		ev->victims = grown;
		ev->cap_victims = cap;
	}
	v = &ev->victims[ev->n_victims++];
	*v = (struct ql_victim){ .unit = unit,
				 .demote = demote,
				 .layer_fd = -1 };
	r = lock_unit(ev, v, err);
	if (r < 0 && r != -EBUSY)
		return r;
	if (r < 0) {
		unit->hold = QL_HOLD_MOUNTED; /* since it was looked at */
		ev->n_victims--;
		if (v->layer_fd >= 0)
			(void)close(v->layer_fd);
		return 0;
	}
	r = demote ? choose_demote(ev, v, err) : choose_drop(ev, v, err);
	if (r < 0 && !is_lack(r)) {
		/* Damaged: fsck says so, and others can go. */
		ql_debug("msg=\"cannot evict\" error=%d text=\"%s\"", r,
			 err ? err->text : "");
		unit->hold = QL_HOLD_FLIGHT;
		r = 0;
		v->most = 0;
		ev->n_victims--;
		ql_object_set_release(&v->objects);
		if (v->layer_fd >= 0)
			(void)close(v->layer_fd);
	} else if (r == 0 && demote && v->objects.n == 0) {
		ev->n_victims--;
		if (v->layer_fd >= 0)
			(void)close(v->layer_fd);
	}
	return r;
}

/* Victims of one kind, until they may free so much, or are as many as one round
 * may lock. */
static int choose_kind(struct ql_evict *ev, bool demote, uint64_t bytes,
		       uint64_t *sum, struct ql_error *err)
{
	int r = 0;

	for (size_t i = 0; i < ev->n && r == 0 && *sum < bytes &&
			   (ev->fn || ev->n_victims < QL_EVICT_VICTIMS);
	     i++) {
		struct ql_keep_unit *unit = ev->order[i];
		size_t had = ev->n_victims;

		if (unit->removed || unit->hold != QL_HOLD_NONE ||
		    (demote && unit->demoted))
			continue;
		r = choose(ev, unit, demote, err);
		if (ev->n_victims > had)
			*sum += ev->victims[had].most;
	}
	return r;
}

int ql_evict_choose(struct ql_evict *ev, uint64_t bytes, struct ql_error *err)
{
	uint64_t sum = 0;
	int r = ev->dropping ? 0 : choose_kind(ev, true, bytes, &sum, err);

	/* A plan is one round. */
	if (ev->fn)
		sum = 0;
	if (r == 0 && (ev->dropping || ev->fn))
		r = choose_kind(ev, false, bytes, &sum, err);
	return r;
}
