/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking whether what is here is still what came, and what the store itself
 * can do where it is not; whoever can fetch does the rest (fetch.h,
 * ql_repair()).
 *
 * Content is read without a lock: an object never changes under its name.  The
 * catalogue is compared with the trees and with what is on disk under the
 * store's exclusive lock, which takes as long as reading the trees does.
 */
#ifndef QL_SCRUB_H
#define QL_SCRUB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/base.h"

struct ql_store;

/* ---- reading at a rate ---- */

struct ql_pace {
	uint64_t rate; /* bytes a second; 0: as fast as the disk is */
	/* Set by another thread: reading ends with -ECANCELED.  NULL: never. */
	const atomic_bool *stop;
	/* Called before each read, which it may hold up; NULL: nothing. */
	void (*yield)(void *arg);
	void *arg;   /* borrowed */
	uint64_t at; /* ns; when the next read may be; private to scrub.c */
};
/* Bytes were read: waits until more may be.  -ECANCELED. */
int ql_pace_wait(struct ql_pace *pace, uint64_t bytes);

/* ---- objects ---- */

/*
 * Hashes an object and compares.  With a rate it is read from the disk itself,
 * past the page cache, where the filesystem can.  *ret_bytes: read, also on
 * failure.  -EBADMSG: it is damaged, and still is at a second look; -ENOENT:
 * not here; -ECANCELED.  All are described.
 */
int ql_object_verify(struct ql_store *store, const struct ql_digest *digest,
		     struct ql_pace *pace, uint64_t *ret_bytes,
		     struct ql_error *err);

/* An object's file; digest NULL: the name is no object's.  Not 0: stop; it is
 * returned. */
typedef int ql_object_file_fn(const struct ql_digest *digest, const char *path,
			      void *arg);
/* Calls fn for each file in objects/, by digest, from the one whose first eight
 * bytes (as a big-endian number) are `from`. */
int ql_objects_walk(struct ql_store *store, uint64_t from,
		    ql_object_file_fn *fn, void *arg, struct ql_error *err);
uint64_t ql_object_position(const struct ql_digest *digest);

/*
 * Removes objects that are damaged, whoever needs them: all that have some of
 * them are recorded before as not whole, so that they are fetched when they are
 * read.  Waits for the store's exclusive lock.  -ECANCELED: stop (may be NULL)
 * was set meanwhile.
 */
int ql_objects_set_aside(struct ql_store *store,
			 const struct ql_digest *objects, size_t n,
			 const atomic_bool *stop, struct ql_error *err);
/* Whether the catalogue counts somebody who needs it. */
bool ql_object_is_needed(struct ql_store *store,
			 const struct ql_digest *digest);

/* ---- checking ---- */

enum ql_fault_kind {
	QL_FAULT_OBJECT, /* its content, or that it is not here */
	QL_FAULT_LAYER,	 /* its tree, or its table of contents: a diff ID */
	QL_FAULT_IMAGE,	 /* its tree, or what is beside it: a manifest */
	QL_FAULT_COUNT,	 /* the catalogue's count of an object's users */
	QL_FAULT_PACKED, /* some of what is packed: a blob (fetch/repair.h) */
	QL_FAULT_OTHER,	 /* nothing can be made of it but to name it */
};
struct ql_fault {
	enum ql_fault_kind kind;
	struct ql_digest digest; /* not of QL_FAULT_OTHER */
	const char *text;	 /* borrowed; one line */
};
typedef void ql_fault_fn(const struct ql_fault *fault, void *arg);

struct ql_fsck_stats {
	uint64_t images, layers, objects;
	uint64_t bytes;	       /* hashed */
	uint64_t unreferenced; /* objects on disk that nothing needs */
	uint64_t absent;       /* objects that come when they are read */
	uint64_t errors;
};

/*
 * Reads everything: every object's content (pace; may be NULL), every tree and
 * table, the catalogue.  0 where it could look, whatever it found.  *ret_stats
 * is written on success.  -ECANCELED.
 */
int ql_store_check(struct ql_store *store, struct ql_pace *pace,
		   ql_fault_fn *report, void *arg,
		   struct ql_fsck_stats *ret_stats, struct ql_error *err);
/* The same without the objects' content.  Waits for the store's exclusive
 * lock, until *stop. */
int ql_store_check_records(struct ql_store *store, const atomic_bool *stop,
			   ql_fault_fn *report, void *arg,
			   struct ql_fsck_stats *ret_stats,
			   struct ql_error *err);
/* ql_store_check(), each finding as one line. */
typedef void ql_fsck_fn(const char *finding, void *arg);
int ql_store_fsck(struct ql_store *store, ql_fsck_fn *report, void *arg,
		  struct ql_fsck_stats *ret_stats, struct ql_error *err);

/* ---- putting right what needs no fetching ---- */

/*
 * Counts anew who needs which object, and writes down what is counted; objects
 * that nobody needs then stay where they are.  *ret_fixed: records that were
 * wrong.  -EBADMSG (described): a tree is damaged, so nobody can tell.
 */
int ql_store_recount(struct ql_store *store, uint64_t *ret_fixed,
		     struct ql_error *err);
struct ql_layer_info;
/* Removes a layer's tree if it is not what the record says it is. */
int ql_layer_set_aside(struct ql_store *store, const struct ql_layer_info *info,
		       struct ql_error *err);
/*
 * A layer's tree was written again (ql_layer_import(), ql_draft_commit()), and
 * this is what became of it: the record follows, whole or lazy as info says.
 * Counts are wrong until ql_store_recount(), and trees of images that were
 * merged from another form of it until ql_image_rebuild(); *ret_changed says
 * whether it is another.
 */
int ql_layer_replace(struct ql_store *store, const struct ql_layer_info *info,
		     bool *ret_changed, struct ql_error *err);
/* Merges an image's layers again in place of its tree.  -EBUSY: it is in use;
 * -EOPNOTSUPP: its tree came ready-made. */
int ql_image_rebuild(struct ql_store *store, const struct ql_digest *manifest,
		     struct ql_error *err);

/* ---- what a scrub remembers ---- */

struct ql_scrub_state {
	uint64_t pass;	   /* that is going on, or was the last; from 1 */
	uint64_t position; /* from where on it goes on; UINT64_MAX: done */
	uint64_t began;	   /* s since the epoch; the pass */
	uint64_t ended;	   /* the last one that did; 0: none has */
	/* Ever: */
	uint64_t bytes, bad, repaired;
};
int ql_scrub_state_get(struct ql_store *store, struct ql_scrub_state *ret_state,
		       struct ql_error *err);
int ql_scrub_state_put(struct ql_store *store,
		       const struct ql_scrub_state *state,
		       struct ql_error *err);

#endif
