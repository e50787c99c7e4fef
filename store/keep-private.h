/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What keep*.c share with each other and with those that record and remove:
 * the policy's state, units, holds, and what is about to go.
 *
 * Order of locks: the store's, the eviction's (ql_keep_lock()), images' trees
 * and layers' (never waited for by an eviction), names, a write transaction.
 */
#ifndef QL_KEEP_PRIVATE_H
#define QL_KEEP_PRIVATE_H

#include "store/store-private.h"

/* ---- keepstate.c: the policy's state ---- */

struct ql_keep;
int ql_keep_new(struct ql_keep **ret_keep, struct ql_error *err);
void ql_keep_free(struct ql_keep *keep);

/* By which the policy knows a unit. */
uint64_t ql_keep_id(const struct ql_digest *digest);
/* ns to have so many bytes from a repository (NULL: unknown) again. */
uint64_t ql_keep_cost(struct ql_store *store, struct ql_txn *txn,
		      const char *repository, uint64_t bytes);

/* A write transaction, and the state as it is in it. */
struct ql_keep_txn {
	struct ql_store *store; /* borrowed */
	struct ql_txn *txn;	/* owned */
	struct ql_cache *cache; /* borrowed; NULL: there is no budget */
	uint64_t capacity;	/* bytes, for units */
	bool limited;
};
/* No other of this process may be begun before it ends. */
int ql_keep_begin(struct ql_store *store, struct ql_keep_txn *ret_kt,
		  struct ql_error *err);
/* Ends it, also on failure. */
/* Writes the state's changes into the transaction. */
int ql_keep_save(struct ql_keep_txn *kt, struct ql_error *err);
int ql_keep_commit(struct ql_keep_txn *kt, struct ql_error *err);
void ql_keep_abort(struct ql_keep_txn *kt);
/* A copy of the state, owned, to try things with.  -ENOENT (not described):
 * there is none yet.  -EBADMSG. */
int ql_keep_load(struct ql_txn *txn, struct ql_cache **ret_cache,
		 struct ql_error *err);

/* ---- keepuse.c: what is asked for ---- */

/* Tells the policy of all that is here, of which it knows nothing. */
int ql_keep_enter_all(struct ql_keep_txn *kt, struct ql_error *err);
struct ql_keep_map;
int ql_keep_enter_map(struct ql_keep_txn *kt, const struct ql_keep_map *map,
		      struct ql_error *err);

/* ---- keepunit.c: what comes and goes together ---- */

enum ql_keep_hold {
	QL_HOLD_NONE,
	QL_HOLD_PINNED,
	QL_HOLD_MOUNTED, /* or open for reading, or being filled */
	QL_HOLD_PROMISED,
	QL_HOLD_FLIGHT, /* no image has it yet */
	QL_HOLDS
};

struct ql_keep_unit {
	struct ql_digest digest; /* a diff ID, or a manifest */
	struct ql_digest blob;	 /* of a layer */
	uint64_t blob_size;	 /* bytes; of an image, of all its blobs */
	uint64_t size;		 /* bytes of disk that it takes when whole */
	uint64_t parent;	 /* id of the layer that it stands on, or 0 */
	uint32_t flags;		 /* QL_LAYER_*; of an image QL_IMAGE_* */
	bool is_image, has_toc;
	bool ordered; /* it has its place among those that go */
	bool demoted; /* as far as it could be */
	bool removed; /* in the course of an eviction */
	enum ql_keep_hold hold;
	uint32_t *images; /* owned; indexes of those that have it */
	uint32_t n_images;
};

struct ql_keep_image {
	struct ql_image_info info; /* owned */
	enum ql_keep_hold hold;
	int fd;	      /* owned: holds its tree alone; -1: not */
	bool removed; /* in the course of an eviction */
};

/* All that is here, as one transaction sees it. */
struct ql_keep_map {
	struct ql_store *store;	      /* borrowed */
	struct ql_keep_image *images; /* owned; by manifest */
	size_t n_images, cap_images;
	struct ql_keep_unit *units; /* owned; by digest */
	size_t n_units, cap_units;
};
int ql_keep_map_init(struct ql_store *store, struct ql_txn *txn,
		     struct ql_keep_map *ret_map, struct ql_error *err);
void ql_keep_map_release(struct ql_keep_map *map);
/* NULL: none. */
struct ql_keep_unit *ql_keep_map_unit(const struct ql_keep_map *map,
				      const struct ql_digest *digest);
struct ql_keep_image *ql_keep_map_image(const struct ql_keep_map *map,
					const struct ql_digest *manifest);
/* A unit's objects, without the documents of an image; sorted. */
int ql_keep_unit_objects(const struct ql_keep_map *map,
			 const struct ql_keep_unit *unit,
			 struct ql_object_set *ret_set, struct ql_error *err);
/* A unit by its record alone, of no image. */
void ql_keep_unit_layer(const struct ql_store *store,
			const struct ql_layer_info *info,
			struct ql_keep_unit *ret_unit);
void ql_keep_unit_image(const struct ql_store *store,
			const struct ql_image_info *info,
			struct ql_keep_unit *ret_unit);

/* ---- keephold.c: what may not go ---- */

/* Sets the holds of images and units; tries the locks, and lets them go. */
int ql_keep_holds(struct ql_keep_map *map, struct ql_txn *txn,
		  struct ql_error *err);
/* Locks an image's tree against who would open it, without waiting; of one
 * that is not there is nothing to lock.  -EBUSY (not described): somebody has
 * it open. */
int ql_keep_lock_image(struct ql_keep_map *map, struct ql_keep_image *image,
		       struct ql_error *err);
/* The eviction's lock, between processes; waits.  Before any transaction.  Of a
 * store that is only read it may be that there is none: *ret_fd is as it was
 * then. */
int ql_keep_lock(struct ql_store *store, int *ret_fd, struct ql_error *err);
/* Without waiting: -EBUSY and the like, not described. */
int ql_keep_lock_try(const struct ql_store *store, int *ret_fd);
/* As of an image's tree; the lock, owned; as it was: there is no tree. */
int ql_keep_lock_layer(const struct ql_store *store,
		       const struct ql_digest *diff_id, int *ret_fd,
		       struct ql_error *err);
bool ql_keep_is_promised(struct ql_txn *txn, const struct ql_digest *manifest);
/* Seconds that a promise has left that was made `age` s ago by the machine's
 * clock, where that still runs (same_boot), wall: by the other. */
uint64_t ql_promise_left(uint64_t until, uint64_t made, uint64_t age,
			 bool same_boot, uint64_t wall);
/* Those that ended are forgotten; those made before the machine's last start
 * are counted by its clock from now on. */
int ql_promises_mend(struct ql_txn *txn, struct ql_error *err);

/* ---- keeppacked.c: units in the packed tier ---- */

/* Bytes of disk that its packed files take. */
uint64_t ql_keep_unit_packed(const struct ql_keep_map *map,
			     const struct ql_keep_unit *unit);
/* Its objects of which packed/ has all (sorted). */
int ql_keep_unit_covered(const struct ql_keep_map *map,
			 const struct ql_keep_unit *unit,
			 struct ql_object_set *ret_set, struct ql_error *err);
/* Of units that may not go: packed frames of which all files are plain are
 * punched out, until so many bytes of disk are free.  fn: only told what would
 * be.  *freed is added to. */
int ql_keep_punch(const struct ql_keep_map *map, uint64_t bytes, ql_keep_fn *fn,
		  void *arg, uint64_t *freed, struct ql_error *err);

/* ---- keepstatus.c ---- */

/* ns to have a unit again from the cheapest place that is known. */
uint64_t ql_keep_unit_cost(struct ql_store *store, struct ql_txn *txn,
			   const struct ql_keep_unit *unit);
/* Counts what went. */
int ql_keep_count(struct ql_txn *txn, uint64_t units, uint64_t bytes,
		  struct ql_error *err);
/* -ENOSPC: what is in the way of so many bytes. */
int ql_keep_describe(const struct ql_keep_map *map, uint64_t bytes,
		     struct ql_error *err);
/* The same, remembered for ql_keep_status(). */
int ql_keep_refuse(struct ql_store *store, const struct ql_keep_map *map,
		   uint64_t bytes, struct ql_error *err);

/* ---- keeporder.c ---- */

/* Those that may go, who goes first in front: owned, the units borrowed from
 * the map, whose holds are set. */
int ql_keep_order(struct ql_keep_txn *kt, struct ql_keep_map *map,
		  struct ql_keep_unit ***ret_order, size_t *ret_n,
		  struct ql_error *err);

/* ---- keepdoom.c: what is about to go ---- */

enum ql_doom_kind {
	QL_DOOM_OBJECT, /* the object, and its partial file */
	QL_DOOM_PACKED, /* of a blob */
	QL_DOOM_LAYER,	/* its tree */
	QL_DOOM_TOC,	/* of a blob */
	QL_DOOM_IMAGE,	/* its tree, and what stands beside it */
	QL_DOOMS
};

struct ql_doom {
	struct ql_object_set sets[QL_DOOMS]; /* owned */
};
void ql_doom_release(struct ql_doom *doom);
/* Writes the intents, and counts up "evictions". */
int ql_doom_write(struct ql_txn *txn, struct ql_doom *doom,
		  struct ql_error *err);
/* After they were committed: unlinks, and crosses them out.  Bytes of disk. */
int ql_doom_execute(struct ql_store *store, const struct ql_doom *doom,
		    struct ql_remove_stats *stats, struct ql_error *err);
/* When the store is opened to be written: what dead ones left, if nobody is at
 * it. */
int ql_doom_open(struct ql_store *store, struct ql_error *err);
/* Under the eviction's lock: finishes what others left. */
int ql_doom_recover(struct ql_store *store, struct ql_error *err);
/* Takes from what goes the tables and packed files of blobs by which a layer or
 * an image that is kept can be read. */
int ql_doom_spare_blobs(struct ql_store *store, struct ql_txn *txn,
			struct ql_doom *doom, struct ql_error *err);
/* Whether somebody's intents are there. */
bool ql_doom_pending(struct ql_txn *txn);
/* How many were written so far: changes with every one. */
uint64_t ql_doom_epoch(struct ql_store *store);
/* Whether an object is here, and is not about to go. */
bool ql_doom_spares(struct ql_store *store, struct ql_txn *txn,
		    const struct ql_digest *object);
/* Whether all of a set are so, as was seen to be at epoch. */
bool ql_doom_spares_all(struct ql_store *store, struct ql_txn *txn,
			const struct ql_object_set *set, uint64_t epoch);

/* ---- remove.c ---- */

/* Takes an image out of the catalogue, with its names, and its layers that no
 * other image has; what is to go of the disk is added to doom.  own: what
 * ql_image_own_objects() says; NULL: nobody can tell, all is counted anew. */
int ql_image_forget(struct ql_store *store, struct ql_txn *txn,
		    const struct ql_image_info *image,
		    const struct ql_object_set *own, struct ql_doom *doom,
		    struct ql_error *err);

/* ---- whole.c ---- */

/* A layer is lazy, or not; a ready-made image is whole, or not. */
int ql_layer_flag(struct ql_txn *txn, const struct ql_digest *diff_id,
		  bool lazy, struct ql_error *err);
int ql_image_flag(struct ql_txn *txn, const struct ql_digest *manifest,
		  bool whole, struct ql_error *err);

#endif
