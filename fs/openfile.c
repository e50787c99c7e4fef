/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The open files: at most one per inode, however often it is open, since the
 * kernel wants the same passthrough backing (and the same way of caching) for
 * all opens of an inode (Linux fs/fuse/iomode.c).  A table of chains by ino
 * under one mutex; opening and closing are the caller's, outside the lock.
 */
#include <pthread.h>
#include <stdlib.h>

#include "fs/fs-private.h"

enum { BUCKETS = 1024 };

struct ql_openfiles {
	pthread_mutex_t lock;
	struct ql_openfile *buckets[BUCKETS]; /* owned; under lock */
};

struct ql_openfiles *ql_openfiles_new(void)
{
	struct ql_openfiles *files = calloc(1, sizeof(*files));

	if (files && pthread_mutex_init(&files->lock, NULL) != 0) {
		free(files);
		return NULL;
	}
	return files;
}

/* The kernel drops its backings with the connection. */
void ql_openfiles_free(struct ql_openfiles *files, struct ql_filler *filler)
{
	struct ql_openfile *file;

	if (!files)
		return;
	for (size_t i = 0; i < BUCKETS; i++) {
		while ((file = files->buckets[i])) {
			files->buckets[i] = file->next;
			if (file->fd >= 0)
				(void)close(file->fd);
			if (file->fill)
				ql_fill_close(filler, file->fill);
			free(file);
		}
	}
	(void)pthread_mutex_destroy(&files->lock);
	free(files);
}

/* The pointer that leads to the inode's file, or to the chain's end. */
static struct ql_openfile **find_locked(struct ql_openfiles *files,
					uint64_t ino)
{
	struct ql_openfile **p = &files->buckets[ino % BUCKETS];

	while (*p && (*p)->ino != ino)
		p = &(*p)->next;
	return p;
}

struct ql_openfile *ql_openfiles_find(struct ql_openfiles *files, uint64_t ino)
{
	struct ql_openfile *file;

	(void)pthread_mutex_lock(&files->lock);
	file = *find_locked(files, ino);
	if (file)
		file->refs++;
	(void)pthread_mutex_unlock(&files->lock);
	return file;
}

struct ql_openfile *ql_openfiles_add(struct ql_openfiles *files,
				     struct ql_openfile *file)
{
	struct ql_openfile **p;

	(void)pthread_mutex_lock(&files->lock);
	p = find_locked(files, file->ino);
	if (*p) {
		file = *p;
	} else {
		file->refs = 0;
		file->next = NULL;
		*p = file;
	}
	file->refs++;
	(void)pthread_mutex_unlock(&files->lock);
	return file;
}

bool ql_openfiles_put(struct ql_openfiles *files, struct ql_openfile *file)
{
	bool last;

	(void)pthread_mutex_lock(&files->lock);
	last = --file->refs == 0;
	if (last)
		*find_locked(files, file->ino) = file->next;
	(void)pthread_mutex_unlock(&files->lock);
	return last;
}

bool ql_openfiles_of_slot(struct ql_openfiles *files, unsigned int slot)
{
	bool found = false;

	(void)pthread_mutex_lock(&files->lock);
	for (size_t i = 0; i < BUCKETS && !found; i++)
		for (const struct ql_openfile *f = files->buckets[i];
		     f && !found; f = f->next)
			found = ql_ino_slot(f->ino) == slot;
	(void)pthread_mutex_unlock(&files->lock);
	return found;
}
