/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which paths are one inode.  Two roots walked in the same order have the same
 * sets of hardlinks if and only if, for every path, the first path seen with
 * its inode is the same in both; so all that is kept is the first path of each
 * inode that has more than one link.  A table of chains that doubles.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "refactor/refactor-private.h"

struct link {
	struct link *next; /* owned */
	uint64_t dev, ino;
	char path[];
};

struct ql_hardlinks {
	struct link **buckets; /* owned */
	size_t n_buckets;      /* a power of 2 */
	size_t n;
};

enum { FIRST_BUCKETS = 64 };

struct ql_hardlinks *ql_hardlinks_new(void)
{
	struct ql_hardlinks *links = calloc(1, sizeof(*links));

	if (!links)
		return NULL;
	links->n_buckets = FIRST_BUCKETS;
	links->buckets = calloc(links->n_buckets, sizeof(*links->buckets));
	if (!links->buckets) {
		free(links);
		return NULL;
	}
	return links;
}

void ql_hardlinks_free(struct ql_hardlinks *links)
{
	struct link *link;

	if (!links)
		return;
	for (size_t i = 0; i < links->n_buckets; i++) {
		while ((link = links->buckets[i])) {
			links->buckets[i] = link->next;
			free(link);
		}
	}
	free(links->buckets);
	free(links);
}

static size_t bucket_of(uint64_t dev, uint64_t ino, size_t n_buckets)
{
	/* Knuth's multiplicative hashing; the high bits are the good ones. */
	uint64_t h = (ino ^ dev << 32) * 0x9e3779b97f4a7c15ULL;

	return (size_t)(h >> 32) & (n_buckets - 1);
}

/* Where there is no memory to grow, longer chains still work. */
static void grow(struct ql_hardlinks *links)
{
	size_t n = links->n_buckets * 2, at;
	struct link **buckets = calloc(n, sizeof(*buckets)), *link;

	if (!buckets)
		return;
	for (size_t i = 0; i < links->n_buckets; i++) {
		while ((link = links->buckets[i])) {
			links->buckets[i] = link->next;
			at = bucket_of(link->dev, link->ino, n);
			link->next = buckets[at];
			buckets[at] = link;
		}
	}
	free(links->buckets);
	links->buckets = buckets;
	links->n_buckets = n;
}

const char *ql_hardlinks_first(struct ql_hardlinks *links,
			       const struct ql_entry *entry, const char *path)
{
	size_t at = bucket_of(entry->dev, entry->ino, links->n_buckets), len;
	struct link *link;

	if (entry->nlink < 2 || S_ISDIR(entry->mode))
		return path;
	for (link = links->buckets[at]; link; link = link->next) {
		if (link->ino == entry->ino && link->dev == entry->dev)
			return link->path;
	}
	if (links->n >= links->n_buckets) {
		grow(links);
		at = bucket_of(entry->dev, entry->ino, links->n_buckets);
	}
	len = strlen(path) + 1;
	link = malloc(sizeof(*link) + len);
	if (!link)
		return NULL;
	link->dev = entry->dev;
	link->ino = entry->ino;
	memcpy(link->path, path, len);
	link->next = links->buckets[at];
	links->buckets[at] = link;
	links->n++;
	return link->path;
}
