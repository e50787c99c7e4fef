/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking disk, and giving it back.
 *
 *   meta  "budget"  -> u64 bytes; none, or 0: no limit
 *         "reserve" -> u64 bytes; none: QL_SPACE_RESERVE
 *
 * The shared page has both, too, so that a change is obeyed at once.  Its
 * used is what is taken, of all slots, and what is named, and is read in that
 * order; done adds to named before it takes from taken.  So a look finds too
 * much, at worst.
 */
#include "store/store-private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

enum {
	TAKE_TRIES = 16,
	SPACE_BLOCK = 4096,	   /* at least; what a part of it takes */
	SPACE_EXTENTS = 256 << 10, /* larger files may need a block for these */
	SPACE_LITTLE = 256 << 10,
	SPACE_RECORD = 160, /* of an object, in a page that is half full */
};
#define SPACE_MARGIN_MIN ((uint64_t)1 << 20)
#define SPACE_MARGIN_MAX ((uint64_t)8 << 20)

/* ---- limits ---- */

static int limit_get(struct ql_txn *txn, const char *key, uint64_t none,
		     uint64_t *ret)
{
	struct ql_cursor c;
	const void *value;
	size_t len;
	int r = ql_txn_get(txn, QL_TABLE_META, key, strlen(key), &value, &len);

	*ret = none;
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	ql_cursor_init(&c, value, len);
	none = ql_cursor_le64(&c);
	if (c.bad)
		return -EBADMSG;
	*ret = none;
	return 0;
}

static int limit_put(struct ql_txn *txn, const char *key, uint64_t n,
		     struct ql_error *err)
{
	uint8_t value[8];

	for (size_t i = 0; i < sizeof(value); i++)
		value[i] = (uint8_t)(n >> (8 * i));
	return ql_txn_put(txn, QL_TABLE_META, key, strlen(key), value,
			  sizeof(value), err);
}

/* What is recorded, into the page; the lock for counting is held. */
static int limits_load(struct ql_store *store, struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	struct ql_space_page *page = store->space->page;
	uint64_t budget, reserve;
	int r = ql_txn_begin(store->catalog, false, &txn, err);

	if (r < 0)
		return r;
	r = limit_get(txn, "budget", 0, &budget);
	if (r == 0)
		r = limit_get(txn, "reserve", QL_SPACE_RESERVE, &reserve);
	if (r < 0)
		return ql_error_errno(err, r, "the recorded budget");
	atomic_store(&page->budget, budget);
	atomic_store(&page->reserve, reserve);
	atomic_store(&page->limited, 1);
	return 0;
}

int ql_space_open(struct ql_store *store, struct ql_error *err)
{
	int r = ql_space_file_open(store->root_fd, store->writable,
				   &store->space, err);

	if (r < 0 || atomic_load(&store->space->page->limited))
		return r;
	r = ql_space_file_lock(store->space);
	if (r < 0)
		(void)ql_error_errno(err, r, "lock %s/space", store->root);
	else if (!atomic_load(&store->space->page->limited))
		r = limits_load(store, err);
	ql_space_file_unlock(store->space);
	return r;
}

static int space_disk(const struct ql_store *store, uint64_t *ret_free,
		      uint64_t *ret_size, struct ql_error *err)
{
	struct statvfs vfs;

	if (fstatvfs(store->root_fd, &vfs) < 0)
		return ql_error_errno(err, -errno, "store %s", store->root);
	*ret_free = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	*ret_size = (uint64_t)vfs.f_blocks * vfs.f_frsize;
	return 0;
}

static int limits_check(struct ql_store *store, uint64_t budget,
			uint64_t reserve, struct ql_error *err)
{
	uint64_t avail, size;
	int r = ql_store_need_write(store, err);

	if (r == 0)
		r = space_disk(store, &avail, &size, err);
	if (r < 0)
		return r;
	if (budget > 0 && budget < QL_SPACE_BUDGET_MIN)
		return ql_error_set(err, -EINVAL,
				    "a budget of %" PRIu64
				    " bytes is too small: at least %" PRIu64
				    " are needed",
				    budget, QL_SPACE_BUDGET_MIN);
	if (reserve > size)
		return ql_error_set(err, -EINVAL,
				    "a reserve of %" PRIu64
				    " bytes is larger than the filesystem, "
				    "which has %" PRIu64,
				    reserve, size);
	return 0;
}

/* The lock for counting is held: page and record agree on who was last.  Who
 * is killed between the two leaves a page that the next one to open reads
 * anew. */
static int limits_put(struct ql_store *store, uint64_t budget, uint64_t reserve,
		      struct ql_error *err)
{
	_cleanup_(ql_txn_abortp) struct ql_txn *txn = NULL;
	struct ql_space_page *page = store->space->page;
	int r = ql_txn_begin(store->catalog, true, &txn, err);

	if (r == 0)
		r = limit_put(txn, "budget", budget, err);
	if (r == 0)
		r = limit_put(txn, "reserve", reserve, err);
	if (r < 0)
		return r;
	atomic_store(&page->limited, 0);
	r = ql_txn_commit(ql_take_ptr(txn), err);
	if (r == 0) {
		atomic_store(&page->budget, budget);
		atomic_store(&page->reserve, reserve);
	}
	atomic_store(&page->limited, 1);
	return r;
}

int ql_space_limits(struct ql_store *store, uint64_t budget, uint64_t reserve,
		    struct ql_error *err)
{
	int r = limits_check(store, budget, reserve, err);

	if (r < 0)
		return r;
	r = ql_space_file_lock(store->space);
	if (r < 0)
		(void)ql_error_errno(err, r, "lock %s/space", store->root);
	else
		r = limits_put(store, budget, reserve, err);
	ql_space_file_unlock(store->space);
	return r;
}

bool ql_space_is_limited(const struct ql_store *store)
{
	return atomic_load(&store->space->page->budget) > 0;
}

/* ---- looking ---- */

uint64_t ql_space_blocks(uint64_t bytes)
{
	if (bytes > (uint64_t)INT64_MAX / 2)
		return (uint64_t)INT64_MAX / 2;
	bytes += (SPACE_BLOCK - bytes % SPACE_BLOCK) % SPACE_BLOCK;
	if (bytes > SPACE_EXTENTS)
		bytes += SPACE_BLOCK * (1 + (bytes >> 26));
	return bytes;
}

/* Folders that grow, and what the catalogue grows by before anybody looks. */
static uint64_t space_margin(uint64_t budget)
{
	uint64_t margin = budget / 64;

	if (margin < SPACE_MARGIN_MIN)
		margin = SPACE_MARGIN_MIN;
	return margin < SPACE_MARGIN_MAX ? margin : SPACE_MARGIN_MAX;
}

static uint64_t catalog_bytes(const struct ql_store *store)
{
	struct stat st;

	return fstat(store->space->catalog_fd, &st) < 0
		       ? 0
		       : (uint64_t)st.st_blocks * 512;
}

/* Without a count. */
static int space_look(const struct ql_store *store, struct ql_space *s,
		      struct ql_error *err)
{
	const struct ql_space_page *page = store->space->page;
	uint64_t catalog = catalog_bytes(store);
	uint64_t unwritten;
	uint64_t taken = ql_space_file_taken(store->space, &unwritten);
	int64_t named = atomic_load(&page->named);

	*s = (struct ql_space){
		.used = taken + (named > 0 ? (uint64_t)named : 0) + catalog,
		.budget = atomic_load(&page->budget),
		.reserve = atomic_load(&page->reserve),
		.taken = taken,
		.unwritten = unwritten,
		.objects = atomic_load(&page->kinds[QL_SPACE_OBJECTS]),
		.packed = atomic_load(&page->kinds[QL_SPACE_PACKED]),
		.partial = atomic_load(&page->kinds[QL_SPACE_PARTIAL]),
		.metadata =
			atomic_load(&page->kinds[QL_SPACE_METADATA]) + catalog,
	};
	s->margin = s->budget > 0 ? space_margin(s->budget) : 0;
	return space_disk(store, &s->free, &s->size, err);
}

int ql_space_recount(struct ql_store *store, struct ql_space *ret_space,
		     struct ql_error *err)
{
	int r = ql_space_count(store, 0, err);

	return r < 0 ? r : space_look(store, ret_space, err);
}

int ql_space_get(struct ql_store *store, struct ql_space *ret_space,
		 struct ql_error *err)
{
	int r = atomic_load(&store->space->page->counted)
			? 0
			: ql_space_count(store, UINT64_MAX / 2, err);

	return r < 0 ? r : space_look(store, ret_space, err);
}

int ql_space_mend(struct ql_store *store, struct ql_space *ret_space,
		  struct ql_error *err)
{
	int r = 0;

	if (store->writable)
		ql_space_file_bury(store->space);
	if (store->writable && atomic_load(&store->space->page->buried) > 0)
		r = ql_space_count(store, 0, err);
	return r < 0 ? r : ql_space_get(store, ret_space, err);
}

uint64_t ql_space_lacks(const struct ql_space *s, uint64_t bytes)
{
	uint64_t lacks = 0, n;

	if (bytes > (uint64_t)INT64_MAX)
		return bytes;
	/* What was taken may still be to be written.  Without a budget nobody
	 * makes room, and a disk is to be used up. */
	n = bytes + s->reserve + (s->budget > 0 ? s->unwritten : 0);
	if (n > s->free)
		lacks = n - s->free;
	if (s->budget == 0)
		return lacks;
	n = bytes + s->used + s->margin;
	if (n > s->budget && n - s->budget > lacks)
		lacks = n - s->budget;
	return lacks;
}

/* ---- taking ---- */

static void slot_add(struct ql_store *store, uint64_t bytes)
{
	struct ql_space_page *page = store->space->page;

	(void)atomic_fetch_add(&page->taken[store->space->slot],
			       (int64_t)bytes);
	(void)atomic_fetch_add(&page->since, (int64_t)bytes);
}

static void slot_sub(struct ql_store *store, uint64_t bytes)
{
	_Atomic int64_t *written =
		&store->space->page->written[store->space->slot];
	int64_t old = atomic_load(written), rest;

	/* Never more than is: it may have been written, or not. */
	do
		rest = old > (int64_t)bytes ? old - (int64_t)bytes : 0;
	while (!atomic_compare_exchange_weak(written, &old, rest));
	(void)atomic_fetch_sub(&store->space->page->taken[store->space->slot],
			       (int64_t)bytes);
}

/* Takes them if they fit.  Where they do not, *s says how it stands without
 * them. */
static int take_if(struct ql_store *store, uint64_t bytes, struct ql_space *s,
		   struct ql_error *err)
{
	int r;

	/* Without a budget who writes much looks for many who write little. */
	if (!ql_space_is_limited(store) && bytes > 0 && bytes <= SPACE_LITTLE) {
		slot_add(store, bytes);
		return 0;
	}
	/* First: two who look at once see each other. */
	slot_add(store, bytes);
	r = space_look(store, s, err);
	s->used -= s->used < bytes ? s->used : bytes;
	s->taken -= s->taken < bytes ? s->taken : bytes;
	s->unwritten -= s->unwritten < bytes ? s->unwritten : bytes;
	if (r == 0 && ql_space_lacks(s, bytes) > 0)
		r = -ENOSPC;
	if (r < 0) {
		slot_sub(store, bytes);
		(void)atomic_fetch_sub(&store->space->page->since,
				       (int64_t)bytes);
	}
	return r;
}

static int refuse(const struct ql_store *store, const struct ql_space *s,
		  uint64_t bytes, struct ql_error *err)
{
	uint64_t left = s->budget;

	if (s->budget == 0 ||
	    ql_space_lacks(&(struct ql_space){ .free = s->free,
					       .reserve = s->reserve },
			   bytes) > 0)
		return ql_error_set(err, -ENOSPC,
				    "no space left in %s: %" PRIu64
				    " bytes are needed, %" PRIu64 " are free "
				    "(%" PRIu64 " of them reserved)",
				    store->root, bytes, s->free, s->reserve);
	left -= s->margin < left ? s->margin : left;
	left -= s->used < left ? s->used : left;
	return ql_error_set(err, -ENOSPC,
			    "no space left in %s: %" PRIu64
			    " bytes are needed, %" PRIu64
			    " are left of the budget of %" PRIu64,
			    store->root, bytes, left, s->budget);
}

/* Nothing that could go would make room for it. */
static int refuse_ever(const struct ql_store *store, const struct ql_space *s,
		       uint64_t bytes, struct ql_error *err)
{
	return ql_error_set(err, -ENOSPC,
			    "%" PRIu64
			    " bytes at once do not fit the budget of %" PRIu64
			    " for %s",
			    bytes, s->budget, store->root);
}

/* Before anybody is refused it is counted anew, if anything was taken since the
 * last time. */
static int take_count(struct ql_store *store, uint64_t bytes,
		      struct ql_space *s, struct ql_error *err)
{
	int r = ql_space_count(store, 1, err);

	return r < 0 ? r : take_if(store, bytes, s, err);
}

static int take_limited(struct ql_store *store, uint64_t bytes,
			struct ql_space *s, struct ql_error *err)
{
	int r = take_count(store, bytes, s, err);

	if (r == -ENOSPC && s->budget > 0 && bytes + s->margin > s->budget)
		return refuse_ever(store, s, bytes, err);
	/* Others may be faster to take what was freed. */
	for (int i = 0; i < TAKE_TRIES && r == -ENOSPC && s->budget > 0; i++) {
		r = ql_keep_make_room(store, bytes, NULL, err);
		if (r < 0)
			return r;
		r = take_if(store, bytes, s, err);
	}
	return r == -ENOSPC ? refuse(store, s, bytes, err) : r;
}

/* What the walk does not see in time, the margin holds: names in folders.  By
 * since, what is kept was taken, too: half of it is a quarter of the budget. */
static int take_recount(struct ql_store *store, struct ql_error *err)
{
	struct ql_space_page *page = store->space->page;
	uint64_t budget = atomic_load(&page->budget);

	if (budget == 0)
		return 0;
	if (!store->space->shared)
		return ql_error_set(err, -ENOSPC,
				    "no space left in %s: not even for the "
				    "counter of what is taken",
				    store->root);
	if (atomic_load(&page->counted) &&
	    atomic_load(&page->since) < (int64_t)(budget / 2))
		return 0;
	return ql_space_count(store, budget / 2, err);
}

int ql_space_take(struct ql_store *store, uint64_t bytes, struct ql_error *err)
{
	struct ql_space s;
	int r = take_recount(store, err);

	if (r < 0)
		return r;
	r = take_if(store, bytes, &s, err);
	return r == -ENOSPC ? take_limited(store, bytes, &s, err) : r;
}

bool ql_space_try(struct ql_store *store, uint64_t bytes)
{
	struct ql_space s;

	return take_recount(store, NULL) == 0 &&
	       take_if(store, bytes, &s, NULL) == 0;
}

void ql_space_wrote(struct ql_store *store, uint64_t bytes)
{
	(void)atomic_fetch_add(&store->space->page->written[store->space->slot],
			       (int64_t)bytes);
}

/* A count may have found them under their name already, and have them twice
 * now: the next one is to look again. */
void ql_space_done(struct ql_store *store, uint64_t taken, uint64_t kept)
{
	(void)atomic_fetch_add(&store->space->page->named, (int64_t)kept);
	(void)atomic_fetch_add(&store->space->page->since, (int64_t)kept);
	slot_sub(store, taken);
}

/* ---- the catalogue's growth ---- */

int ql_space_room(struct ql_store *store, uint64_t records,
		  struct ql_space_room *ret_room, struct ql_error *err)
{
	/* Each may lie in a page of its own, that is written anew; but there
	 * are no more pages than there are, and new records fill some. */
	uint64_t bytes = SPACE_BLOCK * (records + 8);
	uint64_t all = catalog_bytes(store);
	int r;

	/* Else the reserve is for that. */
	if (!ql_space_is_limited(store))
		return 0;
	bytes = (bytes < all ? bytes : all) + SPACE_RECORD * records;
	r = ql_space_take(store, bytes, err);
	if (r == 0)
		*ret_room = (struct ql_space_room){ store, bytes };
	return r;
}

void ql_space_room_release(struct ql_space_room *room)
{
	if (room->store)
		ql_space_done(room->store, room->bytes, 0);
	room->store = NULL;
}

/* ---- freeing ---- */

void ql_space_free_begin(struct ql_store *store)
{
	ql_space_file_share(store->space);
}

void ql_space_free_end(struct ql_store *store, uint64_t bytes)
{
	(void)atomic_fetch_sub(&store->space->page->named, (int64_t)bytes);
	ql_space_file_unshare(store->space);
}

int ql_space_unlink(struct ql_store *store, const char *path,
		    uint64_t *ret_bytes)
{
	uint64_t bytes = 0;
	struct stat st;
	int r = 0;

	ql_space_free_begin(store);
	if (fstatat(store->root_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    unlinkat(store->root_fd, path, 0) < 0)
		r = -errno;
	else if (st.st_nlink == 1)
		bytes = (uint64_t)st.st_blocks * 512;
	ql_space_free_end(store, bytes);
	if (r == 0 && ret_bytes)
		*ret_bytes = bytes;
	return r;
}

int ql_space_rename(struct ql_store *store, const char *from, const char *path,
		    uint64_t taken)
{
	struct stat st, old;
	uint64_t bytes = 0;
	int r = 0;

	if (fstatat(store->root_fd, from, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	ql_space_free_begin(store);
	if (fstatat(store->root_fd, path, &old, AT_SYMLINK_NOFOLLOW) == 0 &&
	    old.st_nlink == 1 && old.st_ino != st.st_ino)
		bytes = (uint64_t)old.st_blocks * 512;
	if (renameat(store->root_fd, from, store->root_fd, path) < 0)
		r = -errno;
	ql_space_free_end(store, r < 0 ? 0 : bytes);
	if (r == 0)
		ql_space_done(store, taken, (uint64_t)st.st_blocks * 512);
	return r;
}
