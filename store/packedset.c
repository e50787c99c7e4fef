/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this process knows of packed/: what is recorded of blobs that it asked
 * for, as of the version that it has seen, and what it has put but not
 * settled.  A look costs a read transaction, which tells whether another
 * process has changed the record since.
 */
#include "store/packedset.h"

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
	/* What is not settled was put while the record had this generation.
	 * With a later one it is gone, or may be. */
	uint64_t generation;
	struct ql_extents put;	    /* owned */
	struct ql_extents settling; /* owned; put before it was synced */
};

struct ql_packed_set {
	pthread_mutex_t settle; /* who settles; before all others */
	/* Of all below; after files' locks and transactions that write, before
	 * those that read. */
	pthread_mutex_t lock;
	struct known *list; /* owned; the last used first */
	size_t n;
};

int ql_packed_set_new(struct ql_packed_set **ret_set)
{
	struct ql_packed_set *set = calloc(1, sizeof(*set));

	if (!set)
		return -ENOMEM;
	(void)pthread_mutex_init(&set->lock, NULL);
	(void)pthread_mutex_init(&set->settle, NULL);
	*ret_set = set;
	return 0;
}

static void known_free(struct known *k)
{
	ql_extents_release(&k->have);
	ql_extents_release(&k->put);
	ql_extents_release(&k->settling);
	free(k);
}

static bool known_is_unsettled(const struct known *k)
{
	return k->put.n > 0 || k->settling.n > 0;
}

/* The record has this generation now. */
static void known_generation(struct known *k, uint64_t generation)
{
	if (k->generation >= generation && generation > 0)
		return;
	ql_extents_release(&k->put);
	ql_extents_release(&k->settling);
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
	(void)pthread_mutex_destroy(&set->settle);
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
		if (!known_is_unsettled(*p))
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

/* 0: a damaged record. */
static uint64_t record_numbers(const void *value, size_t len,
			       uint64_t *ret_generation)
{
	struct ql_cursor c;

	ql_cursor_init(&c, value, len);
	ql_cursor_skip(&c, 8);
	*ret_generation = ql_cursor_le64(&c);
	return ql_cursor_le64(&c);
}

/* Under the lock: k knows the record as it is now. */
static void known_look(struct ql_store *store, struct known *k)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	struct ql_packed_record rec = { 0 };
	uint64_t version = 0, generation = 0;
	const void *value = NULL;
	size_t len = 0;
	int r = ql_txn_begin(store->catalog, false, &txn, NULL);

	if (r == 0) {
		r = ql_txn_get(txn, QL_TABLE_PACKED, k->blob.bytes,
			       QL_DIGEST_BYTES, &value, &len);
		if (r == 0)
			version = record_numbers(value, len, &generation);
		if (r == 0 || r == -ENOENT)
			known_generation(k, generation);
	}
	if (version > 0 && version == k->version)
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

/* Adds what is not settled. */
static int known_unsettled(const struct known *k, struct ql_extents *to)
{
	int r = ql_extents_copy(&k->put, to);

	return r < 0 ? r : ql_extents_copy(&k->settling, to);
}

static bool known_has(const struct known *k, uint64_t start, uint64_t end)
{
	struct ql_extents all = { 0 };
	bool has;

	if (ql_extents_have(&k->have, start, end) ||
	    ql_extents_have(&k->put, start, end) ||
	    ql_extents_have(&k->settling, start, end))
		return true;
	if (!known_is_unsettled(k))
		return false;
	/* Some of it is settled, some is not. */
	has = ql_extents_copy(&k->have, &all) == 0 &&
	      known_unsettled(k, &all) == 0 &&
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

/* Under the lock: the end of what is there from start on. */
static uint64_t known_reach(const struct known *k, uint64_t start)
{
	struct ql_extents all = { 0 };
	uint64_t end = start;

	if (ql_extents_copy(&k->have, &all) == 0 &&
	    known_unsettled(k, &all) == 0)
		end = ql_extents_reach(&all, start);
	ql_extents_release(&all);
	return end;
}

static bool known_is_empty(const struct known *k)
{
	return k->have.n == 0 && !known_is_unsettled(k);
}

static int file_look(const struct ql_store *store, const struct ql_digest *blob,
		     int *ret_fd, struct ql_error *err)
{
	char path[QL_PACKED_PATH + 1];
	int fd = openat(store->root_fd, ql_packed_path(blob, path),
			O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0)
		return ql_error_errno(err, -errno, "%s/%s", store->root, path);
	*ret_fd = fd;
	return 0;
}

/* The file is opened first: of a blob that nobody has anything of, nothing is
 * remembered, however many are asked for. */
int ql_packed_reach(struct ql_store *store, const struct ql_digest *blob,
		    uint64_t offset, uint64_t len, int *ret_fd,
		    uint64_t *ret_len, uint64_t *ret_size, struct ql_error *err)
{
	struct ql_packed_set *set = store->packed;
	_cleanup_close_ int fd = -1;
	uint64_t reach = 0, size = 0;
	struct known *k;
	int r = file_look(store, blob, &fd, err);

	if (r < 0)
		return r;
	(void)pthread_mutex_lock(&set->lock);
	k = known_get(set, blob);
	if (k) {
		known_look(store, k);
		size = k->size;
		reach = known_reach(k, offset) - offset;
		r = known_is_empty(k) || (len > 0 && reach == 0) ? -ENOENT : 0;
	}
	(void)pthread_mutex_unlock(&set->lock);
	if (r < 0 || !k)
		return k ? r : ql_error_nomem(err);
	*ret_len = reach < len ? reach : len;
	*ret_size = size;
	*ret_fd = ql_take_fd(&fd);
	return 0;
}

int ql_packed_open(struct ql_store *store, const struct ql_digest *blob,
		   uint64_t offset, uint64_t len, int *ret_fd,
		   struct ql_error *err)
{
	return ql_packed_has(store, blob, offset, len)
		       ? file_look(store, blob, ret_fd, err)
		       : -ENOENT;
}

/* ---- what is put ---- */

int ql_packed_known_add(struct ql_store *store, const struct ql_digest *blob,
			uint64_t size, uint64_t generation,
			const struct ql_extent *part)
{
	struct ql_packed_set *set = store->packed;
	struct known *k;
	int r = -ENOMEM;

	(void)pthread_mutex_lock(&set->lock);
	k = known_get(set, blob);
	if (k) {
		known_generation(k, generation);
		k->generation = generation;
		k->size = size;
		r = ql_extents_add(&k->put, part->start, part->end);
	}
	(void)pthread_mutex_unlock(&set->lock);
	return r;
}

void ql_packed_known_cut(struct ql_store *store, const struct ql_digest *blob,
			 uint64_t start, uint64_t end, uint64_t was,
			 uint64_t generation)
{
	struct ql_packed_set *set = store->packed;
	struct known *k;

	(void)pthread_mutex_lock(&set->lock);
	k = known_find(set, blob);
	if (k) {
		/* Without memory for it, all is fetched again. */
		if (ql_extents_cut(&k->put, start, end) < 0)
			ql_extents_release(&k->put);
		if (ql_extents_cut(&k->settling, start, end) < 0)
			ql_extents_release(&k->settling);
		if (k->generation == was)
			k->generation = generation;
	}
	(void)pthread_mutex_unlock(&set->lock);
}

int ql_packed_known_copy(struct ql_store *store, const struct ql_digest *blob,
			 uint64_t generation, struct ql_extents *to)
{
	struct ql_packed_set *set = store->packed;
	const struct known *k;
	int r = 0;

	(void)pthread_mutex_lock(&set->lock);
	k = known_find(set, blob);
	if (k && k->generation == generation)
		r = known_unsettled(k, to);
	(void)pthread_mutex_unlock(&set->lock);
	return r;
}

/* ---- what is settled ---- */

/* What was put is to be synced now. */
static int known_settle(struct known *k)
{
	int r = ql_extents_copy(&k->put, &k->settling);

	if (r == 0)
		ql_extents_release(&k->put);
	return r;
}

int ql_packed_settle_begin(struct ql_store *store, struct ql_digest **ret_blobs,
			   size_t *ret_n)
{
	struct ql_packed_set *set = store->packed;
	struct ql_digest *blobs;
	size_t n = 0;
	int r = 0;

	(void)pthread_mutex_lock(&set->settle);
	(void)pthread_mutex_lock(&set->lock);
	blobs = calloc(set->n + 1, sizeof(*blobs));
	if (!blobs)
		r = -ENOMEM;
	for (struct known *k = set->list; k && r == 0; k = k->next) {
		if (!known_is_unsettled(k))
			continue;
		r = known_settle(k);
		blobs[n++] = k->blob;
	}
	(void)pthread_mutex_unlock(&set->lock);
	if (r < 0) {
		ql_packed_settle_end(store);
		free(blobs);
		return r;
	}
	*ret_blobs = blobs;
	*ret_n = n;
	return 0;
}

void ql_packed_settle_end(struct ql_store *store)
{
	(void)pthread_mutex_unlock(&store->packed->settle);
}

int ql_packed_known_put(struct ql_store *store, const struct ql_digest *blob,
			struct ql_packed_put *ret_put)
{
	struct ql_packed_set *set = store->packed;
	struct ql_packed_put put = { 0 };
	const struct known *k;
	int r = 0;

	(void)pthread_mutex_lock(&set->lock);
	k = known_find(set, blob);
	if (k) {
		put.size = k->size;
		put.generation = k->generation;
		r = ql_extents_copy(&k->settling, &put.parts);
	}
	(void)pthread_mutex_unlock(&set->lock);
	if (r < 0)
		ql_extents_release(&put.parts);
	else
		*ret_put = put;
	return r;
}

void ql_packed_known_settled(struct ql_store *store,
			     const struct ql_digest *blob)
{
	struct ql_packed_set *set = store->packed;
	struct known *k;

	(void)pthread_mutex_lock(&set->lock);
	k = known_find(set, blob);
	if (k)
		ql_extents_release(&k->settling);
	(void)pthread_mutex_unlock(&set->lock);
}
