/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much of the disk the store may take, and takes.
 *
 * What counts is the disk itself: the blocks (st_blocks) of every file and
 * folder below the store's root, and of files without a name that are being
 * written for it.  A counter that all processes share (root/space, mapped) says
 * how much that is, without a walk.
 *
 * Whoever writes below the root takes first, in whole blocks
 * (ql_space_blocks()), and says what became of it once the file has its name,
 * or is gone (ql_space_done()).  Whoever removes files does so between
 * ql_space_free_begin() and ql_space_free_end(), or by ql_space_unlink().  So
 * the counter may be too high, where somebody was killed or took too much, but
 * never too low by more than the margin; a recount mends it, and is made before
 * anybody is refused, and before anything goes for what a killed one had taken.
 *
 * The catalogue grows by itself: its file is looked at each time.
 *
 * Any thread may call any of these.
 */
#ifndef QL_SPACE_H
#define QL_SPACE_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/base.h"

struct ql_store;

/* Kept free for the catalogue, so that a full disk can still be emptied. */
#define QL_SPACE_RESERVE ((uint64_t)8 << 20)
/* A smaller budget has no room for the folders and the catalogue. */
#define QL_SPACE_BUDGET_MIN ((uint64_t)8 << 20)

/* All in bytes. */
struct ql_space {
	uint64_t used;	  /* on disk, with what has been taken */
	uint64_t budget;  /* 0: none */
	uint64_t margin;  /* of the budget, for what nobody takes: folders that
			   * grow, extents of files that are written back
			   * later, and the catalogue between two looks */
	uint64_t reserve; /* stays free in the filesystem */
	uint64_t free;	  /* in the filesystem, for who is not root */
	uint64_t size;	  /* of the filesystem */
	uint64_t taken;	  /* of used: taken, and not yet under a name */
	uint64_t unwritten; /* of taken: and may not be written yet */
	/* Of used, at the last recount (the catalogue: now). */
	uint64_t objects, packed, partial, metadata;
};

/*
 * Sets what the store may take; recorded, and obeyed at once by all who have it
 * open.  budget 0: no limit but the filesystem's.  What is there already stays
 * until somebody needs room.  -EINVAL: a budget below QL_SPACE_BUDGET_MIN, or a
 * reserve that is larger than the filesystem.
 */
int ql_space_limits(struct ql_store *store, uint64_t budget, uint64_t reserve,
		    struct ql_error *err);

/* Quick, but for the first time after the machine's start. */
int ql_space_get(struct ql_store *store, struct ql_space *ret_space,
		 struct ql_error *err);
/* Walks through all of the store first.  Others go on meanwhile. */
int ql_space_recount(struct ql_store *store, struct ql_space *ret_space,
		     struct ql_error *err);
/* As ql_space_get(), but walks first where somebody was killed since the last
 * time who had taken something: before anything goes for it. */
int ql_space_mend(struct ql_store *store, struct ql_space *ret_space,
		  struct ql_error *err);
/* How many bytes have to be freed before so many more fit; 0: they do. */
uint64_t ql_space_lacks(const struct ql_space *space, uint64_t bytes);
/* Whether there is a budget; costs nothing. */
bool ql_space_is_limited(const struct ql_store *store);

/* What a file of so many bytes takes of the disk, at most. */
uint64_t ql_space_blocks(uint64_t bytes);
/*
 * Before writing: takes bytes of disk.  Makes room where it must
 * (ql_keep_make_room()), so the caller holds no lock that that forbids.
 * -ENOSPC: says what is missing, and what is in the way.
 */
int ql_space_take(struct ql_store *store, uint64_t bytes, struct ql_error *err);
/* The same without making room: for who holds a lock, or can do without. */
bool ql_space_try(struct ql_store *store, uint64_t bytes);
/* Of what was taken, so much is on disk now.  Only to be more exact about what
 * is free of the filesystem; ql_space_done() forgets it. */
void ql_space_wrote(struct ql_store *store, uint64_t bytes);
/* What was taken is used, or not: `kept` bytes of it stand below the root under
 * a name (st_blocks * 512); the rest is given back. */
void ql_space_done(struct ql_store *store, uint64_t taken, uint64_t kept);

/* Around unlinking files that had names, making holes in them, or filling these
 * with what was taken: a recount waits, and so does begin for one.  Nothing
 * else of the store is called in between, but ql_space_done().  bytes: that
 * were freed. */
void ql_space_free_begin(struct ql_store *store);
void ql_space_free_end(struct ql_store *store, uint64_t bytes);
/* Renames a file for which bytes were taken, and accounts for both: these, and
 * what was at path before.  -errno (not described): they are still taken. */
int ql_space_rename(struct ql_store *store, const char *from, const char *path,
		    uint64_t taken);
/* Unlinks a file by its path below the root: *ret_bytes, which may be NULL, of
 * disk are free then.  -ENOENT and the like (not described). */
int ql_space_unlink(struct ql_store *store, const char *path,
		    uint64_t *ret_bytes);

#endif
