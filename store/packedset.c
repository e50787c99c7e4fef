/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this process knows of packed/: what is recorded of blobs that it asked
 * for, as of the version that it has seen, and what it has put but not
 * settled.  A look costs a read transaction, which tells whether another
 * process has changed the record since.
 */
#include "store/store-private.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

enum { KNOWN_MAX = 512 }; /* blobs; the one that was used longest ago goes */

struct known {
	struct known *next;
	struct ql_digest blob;
	uint64_t size;
	uint64_t version;	/* of the record; 0: there is none */
	struct ql_extents have; /* owned; recorded */
	struct ql_extents put;	/* owned; not settled */
};

struct ql_packed_set {
	pthread_mutex_t lock; /* of all below; before transactions that read */
	struct known *list;   /* owned; the last used first */
	size_t n;
};

int ql_packed_set_new(struct ql_packed_set **ret_set)
{
	struct ql_packed_set *set = calloc(1, sizeof(*set));

	if (!set)
		return -ENOMEM;
	(void)pthread_mutex_init(&set->lock, NULL);
	*ret_set = set;
	return 0;
}

static void known_free(struct known *k)
{
	ql_extents_release(&k->have);
	ql_extents_release(&k->put);
	free(k);
}

void ql_packed_set_free(struct ql_packed_set *set)
{
	struct known *k;

	if (!set)
		return;
	while ((k = set->list)) {
		set->list = k->next;
		known_free(k);
	}
	(void)pthread_mutex_destroy(&set->lock);
	free(set);
}

/* ---- the list, under the lock ---- */

/* NULL: it is not known. */
static struct known *known_find(struct ql_packed_set *set,
				const struct ql_digest *blob)
{
	struct known **p = &set->list, *k;

	while (*p && !ql_digest_equal(&(*p)->blob, blob))
		p = &(*p)->next;
	k = *p;
	if (!k)
		return NULL;
	*p = k->next;
	k->next = set->list;
	set->list = k;
	return k;
}

/* Forgets the last one that has nothing to settle. */
static void known_shrink(struct ql_packed_set *set)
{
	struct known **p, **last = NULL, *k;

	for (p = &set->list; *p; p = &(*p)->next)
		if ((*p)->put.n == 0)
			last = p;
	if (!last)
		return;
	k = *last;
	*last = k->next;
	set->n--;
	known_free(k);
}

/* Known from now on; NULL: out of memory. */
static struct known *known_get(struct ql_packed_set *set,
			       const struct ql_digest *blob)
{
	struct known *k = known_find(set, blob);

	if (k)
		return k;
	if (set->n >= KNOWN_MAX)
		known_shrink(set);
	k = calloc(1, sizeof(*k));
	if (!k)
		return NULL;
	k->blob = *blob;
	k->next = set->list;
	set->list = k;
	set->n++;
	return k;
}

/* ---- what is recorded ---- */

/* A record without its file counts for nothing. */
static bool file_is_there(const struct ql_store *store,
			  const struct ql_digest *blob, uint64_t size)
{
	char path[QL_PACKED_PATH + 1];
	struct stat st;

	return fstatat(store->root_fd, ql_packed_path(blob, path), &st,
		       AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISREG(st.st_mode) && (uint64_t)st.st_size == size;
}

static uint64_t record_version(const void *value, size_t len)
{
	struct ql_cursor c;

	ql_cursor_init(&c, value, len);
	ql_cursor_skip(&c, 16);
	return ql_cursor_le64(&c);
}

/* Under the lock: k knows the record as it is now. */
static void known_look(struct ql_store *store, struct known *k)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	struct ql_packed_record rec = { 0 };
	const void *value = NULL;
	size_t len = 0;
	int r = ql_txn_begin(store->catalog, false, &txn, NULL);

	if (r == 0)
		r = ql_txn_get(txn, QL_TABLE_PACKED, k->blob.bytes,
			       QL_DIGEST_BYTES, &value, &len);
	if (r == 0 && k->version > 0 &&
	    record_version(value, len) == k->version)
		return;
	ql_extents_release(&k->have);
	k->version = 0;
	if (r < 0 || ql_packed_record_parse(value, len, &rec) < 0)
		return;
	k->version = rec.version;
	k->size = rec.size;
	if (file_is_there(store, &k->blob, rec.size))
		k->have = rec.have;
	else
		ql_packed_record_release(&rec);
}

static bool known_has(const struct known *k, uint64_t start, uint64_t end)
{
	struct ql_extents all = { 0 };
	bool has;

	if (ql_extents_have(&k->have, start, end) ||
	    ql_extents_have(&k->put, start, end))
		return true;
	if (k->put.n == 0 || k->have.n == 0)
		return false;
	/* Some of it is settled, some is not. */
	has = ql_extents_copy(&k->have, &all) == 0 &&
	      ql_extents_copy(&k->put, &all) == 0 &&
	      ql_extents_have(&all, start, end);
	ql_extents_release(&all);
	return has;
}

bool ql_packed_has(struct ql_store *store, const struct ql_digest *blob,
		   uint64_t offset, uint64_t len)
{
	struct ql_packed_set *set = store->packed;
	struct known *k;
	bool has = false;

	if (len > UINT64_MAX - offset)
		return false;
	(void)pthread_mutex_lock(&set->lock);
	k = known_get(set, blob);
	if (k) {
		known_look(store, k);
		has = known_has(k, offset, offset + len);
	}
	(void)pthread_mutex_unlock(&set->lock);
	return has;
}

int ql_packed_open(struct ql_store *store, const struct ql_digest *blob,
		   uint64_t offset, uint64_t len, int *ret_fd,
		   struct ql_error *err)
{
	char path[QL_PACKED_PATH + 1];
	int fd;

	if (!ql_packed_has(store, blob, offset, len))
		return -ENOENT;
	fd = openat(store->root_fd, ql_packed_path(blob, path),
		    O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0)
		return ql_error_errno(err, -errno, "%s/%s", store->root, path);
	*ret_fd = fd;
	return 0;
}

/* ---- what is put ---- */

int ql_packed_known_add(struct ql_store *store, const struct ql_digest *blob,
			uint64_t size, const struct ql_extent *part)
{
	struct ql_packed_set *set = store->packed;
	struct known *k;
	int r = -ENOMEM;

	(void)pthread_mutex_lock(&set->lock);
	k = known_get(set, blob);
	if (k) {
		k->size = size;
		r = ql_extents_add(&k->put, part->start, part->end);
	}
	(void)pthread_mutex_unlock(&set->lock);
	return r;
}

void ql_packed_known_cut(struct ql_store *store, const struct ql_digest *blob,
			 uint64_t start, uint64_t end)
{
	struct ql_packed_set *set = store->packed;
	struct known *k;

	(void)pthread_mutex_lock(&set->lock);
	k = known_find(set, blob);
	/* Without memory for it, all is fetched again. */
	if (k && ql_extents_cut(&k->put, start, end) < 0)
		ql_extents_release(&k->put);
	(void)pthread_mutex_unlock(&set->lock);
}

int ql_packed_known_puts(struct ql_store *store,
			 struct ql_packed_put **ret_puts, size_t *ret_n)
{
	struct ql_packed_set *set = store->packed;
	struct ql_packed_put *puts;
	size_t n = 0;
	int r = 0;

	(void)pthread_mutex_lock(&set->lock);
	puts = calloc(set->n + 1, sizeof(*puts));
	if (!puts)
		r = -ENOMEM;
	for (struct known *k = set->list; k && r == 0; k = k->next) {
		if (k->put.n == 0)
			continue;
		puts[n].blob = k->blob;
		puts[n].size = k->size;
		r = ql_extents_copy(&k->put, &puts[n++].parts);
	}
	(void)pthread_mutex_unlock(&set->lock);
	if (r < 0) {
		while (n > 0)
			ql_extents_release(&puts[--n].parts);
		free(puts);
		return r;
	}
	*ret_puts = puts;
	*ret_n = n;
	return 0;
}

void ql_packed_known_settled(struct ql_store *store,
			     const struct ql_digest *blob,
			     const struct ql_extents *parts)
{
	for (size_t i = 0; i < parts->n; i++)
		ql_packed_known_cut(store, blob, parts->items[i].start,
				    parts->items[i].end);
}
