/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers of the folders above images, of objects, and of files that were
 * looked at while their image was pulled: a number is given to a
 * path when the kernel first hears of it and goes when the kernel forgets it.
 * No number is given twice.  Two chains through each entry, by path and by
 * number, in tables that grow with what the kernel knows.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "fs/fs-private.h"

enum { BUCKETS_FIRST = 256 };

struct entry {
	struct entry *by_path, *by_id; /* in their buckets */
	uint64_t id;
	uint64_t known; /* times, by the kernel */
	uint64_t hash;	/* of path */
	char path[];
};

struct ql_vtable {
	pthread_mutex_t lock; /* protects all below */
	struct entry **paths; /* owned, n_buckets; entries owned */
	struct entry **ids;   /* owned, n_buckets */
	size_t n_buckets;     /* a power of two */
	size_t n;
	uint64_t next;
};

/* FNV-1a (RFC 9923). */
static uint64_t path_hash(const char *path)
{
	uint64_t h = 0xcbf29ce484222325;

	for (; *path; path++)
		h = (h ^ (uint8_t)*path) * 0x100000001b3;
	return h;
}

struct ql_vtable *ql_vtable_new(void)
{
	struct ql_vtable *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->n_buckets = BUCKETS_FIRST;
	t->next = FUSE_ROOT_ID + 1;
	t->paths = calloc(BUCKETS_FIRST, sizeof(struct entry *));
	t->ids = calloc(BUCKETS_FIRST, sizeof(struct entry *));
	if (t->paths && t->ids && pthread_mutex_init(&t->lock, NULL) == 0)
		return t;
	free(t->paths);
	free(t->ids);
	free(t);
	return NULL;
}

void ql_vtable_free(struct ql_vtable *t)
{
	struct entry *e;

	if (!t)
		return;
	for (size_t i = 0; i < t->n_buckets; i++) {
		while ((e = t->ids[i])) {
			t->ids[i] = e->by_id;
			free(e);
		}
	}
	(void)pthread_mutex_destroy(&t->lock);
	free(t->paths);
	free(t->ids);
	free(t);
}

static void link_locked(struct ql_vtable *t, struct entry *e)
{
	struct entry **path = &t->paths[e->hash & (t->n_buckets - 1)];
	struct entry **id = &t->ids[e->id & (t->n_buckets - 1)];

	e->by_path = *path;
	*path = e;
	e->by_id = *id;
	*id = e;
}

/* Where there is no memory the chains get longer, and that is all. */
static void grow_locked(struct ql_vtable *t)
{
	size_t n = t->n_buckets;
	struct entry **paths = calloc(2 * n, sizeof(struct entry *));
	struct entry **ids = calloc(2 * n, sizeof(struct entry *));
	struct entry **old = t->ids;
	struct entry *e;

	if (!paths || !ids) {
		free(paths);
		free(ids);
		return;
	}
	free(t->paths);
	t->paths = paths;
	t->ids = ids;
	t->n_buckets = 2 * n;
	for (size_t i = 0; i < n; i++) {
		while ((e = old[i])) {
			old[i] = e->by_id;
			link_locked(t, e);
		}
	}
	free(old);
}

static struct entry *find_path_locked(struct ql_vtable *t, const char *path,
				      uint64_t hash)
{
	struct entry *e = t->paths[hash & (t->n_buckets - 1)];

	while (e && (e->hash != hash || strcmp(e->path, path) != 0))
		e = e->by_path;
	return e;
}

static uint64_t learn_locked(struct ql_vtable *t, const char *path)
{
	uint64_t hash = path_hash(path);
	size_t len = strlen(path);
	struct entry *e = find_path_locked(t, path, hash);

	if (!e) {
		e = calloc(1, sizeof(*e) + len + 1);
		if (!e)
			return 0;
		memcpy(e->path, path, len + 1);
		e->hash = hash;
		e->id = t->next++;
		link_locked(t, e);
		if (++t->n > t->n_buckets)
			grow_locked(t);
	}
	e->known++;
	return e->id;
}

uint64_t ql_vtable_learn(struct ql_vtable *t, const char *path)
{
	uint64_t id;

	if (!*path)
		return FUSE_ROOT_ID;
	(void)pthread_mutex_lock(&t->lock);
	id = learn_locked(t, path);
	(void)pthread_mutex_unlock(&t->lock);
	return id;
}

uint64_t ql_vtable_learn_known(struct ql_vtable *t, const char *path)
{
	struct entry *e;
	uint64_t id = 0;

	(void)pthread_mutex_lock(&t->lock);
	e = find_path_locked(t, path, path_hash(path));
	if (e) {
		e->known++;
		id = e->id;
	}
	(void)pthread_mutex_unlock(&t->lock);
	return id;
}

bool ql_vtable_knows_below(struct ql_vtable *t, const char *path)
{
	size_t len = strlen(path);
	bool found = false;

	(void)pthread_mutex_lock(&t->lock);
	for (size_t i = 0; i < t->n_buckets && !found; i++)
		for (const struct entry *e = t->ids[i]; e && !found;
		     e = e->by_id)
			found = strncmp(e->path, path, len) == 0 &&
				(e->path[len] == 0 || e->path[len] == '/');
	(void)pthread_mutex_unlock(&t->lock);
	return found;
}

uint64_t ql_vtable_find(struct ql_vtable *t, const char *path)
{
	const struct entry *e;
	uint64_t id;

	(void)pthread_mutex_lock(&t->lock);
	e = find_path_locked(t, path, path_hash(path));
	id = e ? e->id : 0;
	(void)pthread_mutex_unlock(&t->lock);
	return id;
}

/* The pointer that leads to the number's entry, or to the chain's end. */
static struct entry **find_locked(struct ql_vtable *t, uint64_t id)
{
	struct entry **p = &t->ids[id & (t->n_buckets - 1)];

	while (*p && (*p)->id != id)
		p = &(*p)->by_id;
	return p;
}

static void remove_locked(struct ql_vtable *t, struct entry **at)
{
	struct entry *e = *at;
	struct entry **p = &t->paths[e->hash & (t->n_buckets - 1)];

	*at = e->by_id;
	while (*p != e)
		p = &(*p)->by_path;
	*p = e->by_path;
	t->n--;
	free(e);
}

void ql_vtable_forget(struct ql_vtable *t, uint64_t id, uint64_t n)
{
	struct entry **p;

	(void)pthread_mutex_lock(&t->lock);
	p = find_locked(t, id);
	if (*p && (*p)->known > n)
		(*p)->known -= n;
	else if (*p)
		remove_locked(t, p);
	(void)pthread_mutex_unlock(&t->lock);
}

int ql_vtable_path(struct ql_vtable *t, uint64_t id, char **ret_path)
{
	const struct entry *e;
	char *path = NULL;
	int r = -ESTALE;

	if (id == FUSE_ROOT_ID) {
		path = strdup("");
		r = path ? 0 : -ENOMEM;
	} else {
		(void)pthread_mutex_lock(&t->lock);
		e = *find_locked(t, id);
		if (e) {
			path = strdup(e->path);
			r = path ? 0 : -ENOMEM;
		}
		(void)pthread_mutex_unlock(&t->lock);
	}
	if (r == 0)
		*ret_path = path;
	return r;
}
