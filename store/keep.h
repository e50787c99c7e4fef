/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is kept where not all can be: the policy of store/cache/ over what is
 * here, and the hands that it lacks.
 *
 * A unit is what comes and goes together: a layer, by its diff ID, and of an
 * image whose tree came ready-made, its own files, by its manifest.  Without a
 * budget (ql_space_limits()) nothing goes by itself, and the calls below that
 * tell the policy something do nothing.
 *
 * Never taken away is what an image needs that is pinned, promised, or in use:
 * whoever has it open holds a shared lock on its tree (ql_tree_open_image()),
 * and what is being pulled (no image has it yet).
 *
 * What goes is first written down ("intents", in one transaction with what no
 * longer is whole), then unlinked, then crossed out; so it is finished after a
 * crash, and does not exclude whoever adds meanwhile.
 */
#ifndef QL_KEEP_H
#define QL_KEEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/base.h"
#include "store/cache/cache.h"

struct ql_store;
struct ql_remove_stats;

/* ---- what the policy learns ---- */

/* An image that is here is asked for: each of its units, the base first.
 * repository: as in ql_blob_sources_add(), or NULL.  flags: QL_CACHE_SCAN,
 * nobody asked for it.  A damaged state begins anew and fails nobody.
 * -ENOENT: no such image. */
int ql_keep_access(struct ql_store *store, const struct ql_digest *manifest,
		   const char *repository, unsigned int flags,
		   struct ql_error *err);
/* It is opened, without a pull: what of it the policy thinks gone will be
 * fetched, and is counted as asked for; the rest is not. */
int ql_keep_open(struct ql_store *store, const struct ql_digest *manifest,
		 struct ql_error *err);
/* The same of a layer that is shown alone. */
int ql_keep_open_layer(struct ql_store *store, const struct ql_digest *diff_id,
		       struct ql_error *err);
/* Bytes that came from a repository, and how long that took: what it costs to
 * have others again.  Any thread; in this process's memory until the next
 * access. */
void ql_keep_rate(struct ql_store *store, const char *repository,
		  uint64_t bytes, uint64_t ns);

/* Holds an image as who opens its tree does, until the descriptor is closed;
 * waits for who takes it away.  -ENOENT (not described): it is not here. */
int ql_image_hold(const struct ql_store *store,
		  const struct ql_digest *manifest, int *ret_fd);
/* Holds a layer as a tree's opener holds an image, until the descriptor is
 * closed: for who counts on it before an image has it.  -ENOENT (not
 * described): it is not here. */
int ql_layer_hold(const struct ql_store *store, const struct ql_digest *diff_id,
		  int *ret_fd);

/* ---- making room ---- */

struct ql_keep_stats {
	uint64_t freed;	  /* bytes of disk, in all */
	uint64_t demoted; /* of them: plain objects that packed/ has, too */
	uint64_t punched; /* packed frames whose objects are here */
	uint64_t units;	  /* that went */
	uint64_t images;  /* that went altogether */
	uint64_t objects; /* files */
};

/*
 * Frees at least so many bytes of disk beyond what the budget and the reserve
 * already lack, and a little more.  One evicts at a time: others wait for it
 * and look again (the room may be there then: stats are 0).  The caller holds
 * no write transaction and no lock of the store's but, maybe, the shared one,
 * a layer's, and an image's tree's.  -ENOSPC: what is in the way, in bytes.
 * stats may be NULL.
 */
int ql_keep_make_room(struct ql_store *store, uint64_t bytes,
		      struct ql_keep_stats *ret_stats, struct ql_error *err);

/*
 * Whom to ask before anybody is refused: it lets go of what is held for nobody,
 * and says whether it did.  Called without any lock, from any thread that makes
 * room; set before there are several.
 */
typedef bool ql_keep_relief_fn(void *arg);
void ql_keep_relief(struct ql_store *store, ql_keep_relief_fn *fn, void *arg);

enum ql_keep_what {
	QL_KEEP_DEMOTE, /* plain objects go, packed/ has them */
	QL_KEEP_PUNCH,	/* packed frames go, their objects are plain */
	QL_KEEP_DROP,	/* the unit goes */
};

struct ql_keep_step {
	enum ql_keep_what what;
	struct ql_digest unit;		/* a diff ID, or a manifest */
	bool is_image;			/* the latter */
	const struct ql_digest *images; /* borrowed: manifests that have it */
	size_t n_images;
	uint64_t bytes;	      /* of disk that are free then */
	uint64_t again_bytes; /* to be fetched to have it again */
	uint64_t again_ns;    /* that takes, as measured */
	const char *why;      /* borrowed; for people */
};
/* Not 0: stop; it is returned. */
typedef int ql_keep_fn(const struct ql_keep_step *step, void *arg);
/* What ql_keep_make_room() would do now, in its order; changes nothing.
 * -ENOSPC (described): after these steps there is nothing left to take. */
int ql_keep_plan(struct ql_store *store, uint64_t bytes, ql_keep_fn *fn,
		 void *arg, struct ql_error *err);

/* ---- how it stands ---- */

enum { QL_KEEP_REFUSAL = 512 }; /* bytes */

struct ql_keep_status {
	uint64_t units; /* here, as the policy counts */
	uint64_t bytes; /* that they take, likewise */
	/* Bytes of units that may not go, whole, each counted once, by the
	 * first that holds. */
	uint64_t pinned, mounted, promised, in_flight;
	uint64_t evictable;	/* the other units' */
	uint64_t evictions;	/* units that went, ever */
	uint64_t evicted_bytes; /* of disk */
	uint64_t refused;	/* how often there was nothing left to take */
	uint64_t refused_at;	/* the last time; s since the epoch, 0: never */
	char refusal[QL_KEEP_REFUSAL]; /* what was in the way then */
};
int ql_keep_status(struct ql_store *store, struct ql_keep_status *ret_status,
		   struct ql_error *err);

/* ---- promises ---- */

/* A promise ends after this many seconds at the latest. */
enum { QL_PROMISE_MAX = 30 * 24 * 3600 };

/*
 * Keeps an image from going by itself (rmi may take it) until a time, in
 * seconds since the epoch; 0 ends it.  -ERANGE: farther away than
 * QL_PROMISE_MAX.  -ENOENT.
 */
int ql_image_promise(struct ql_store *store, const struct ql_digest *manifest,
		     uint64_t until, struct ql_error *err);
/* Until when; 0: not. */
int ql_image_promised(struct ql_store *store, const struct ql_digest *manifest,
		      uint64_t *ret_until, struct ql_error *err);

/* ---- after a crash ---- */

/* Finishes what was to go when somebody was killed. */
int ql_keep_recover(struct ql_store *store, struct ql_error *err);

/* A file below the store's root that nothing needs, and the disk it takes. */
typedef void ql_gc_fn(const char *path, uint64_t bytes, void *arg);
/*
 * Removes (dry_run: only names) what nothing references: objects and partial
 * files of pulls that were killed, layers that no image has, tables, packed
 * files, locks and unfinished files.  fn may be NULL.  -EAGAIN (described):
 * somebody adds, or removes; try later.  In ret_stats->bytes: of disk.
 */
int ql_store_gc(struct ql_store *store, bool dry_run, ql_gc_fn *fn, void *arg,
		struct ql_remove_stats *ret_stats, struct ql_error *err);

#endif
