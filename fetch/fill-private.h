/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the filling engine (fill*.c) share with each other.
 *
 * A read of what is not here becomes spans to fetch (fillfile.c), which wait
 * in queues by urgency (fillqueue.c) for workers (filler.c).  A worker reads a
 * run of neighbouring spans of one blob in one request (fillsource.c), decodes
 * them (filldecode.c), cuts what comes out into chunks and puts each, once
 * verified, where it belongs (fillsink.c); of a chunk that another run has the
 * rest of, a piece is kept (fillpiece.c).  Where there is a budget, what nobody
 * waits for stays as it came (fillpack.c), and what there is no room for is
 * given to those who wait for it (fillloose.c).  What has come is made durable
 * and named in batches (fillsettle.c).
 *
 * Locks: struct ql_filler has one, which protects everything that is not said
 * to belong to one thread.  It is held for look-ups, never while bytes are
 * fetched, hashed, written or synced, nor while a waiter is told.  Some
 * look-ups are the kernel's: whether an object is still there that has been
 * named, how much room there is, and, once for each file of several chunks, its
 * partial file and what the catalogue knows of it.  They read no content, but a
 * disk that is slow to find names is so to everybody who reads through the
 * filler.
 */
#ifndef QL_FILL_PRIVATE_H
#define QL_FILL_PRIVATE_H

#include <pthread.h>

#include "fetch/fetch-private.h"

enum ql_fill_priority {
	QL_FILL_DEMAND, /* somebody waits */
	QL_FILL_PREFETCH,
	QL_FILL_BACKGROUND,
	QL_FILL_PRIORITIES
};

/* ---- fillqueue.c: which spans are asked for ---- */

/* One table of contents in use; images that share a layer share it. */
struct ql_fill_toc {
	struct ql_fill_toc *next; /* filler's list */
	struct ql_digest key;	  /* of the blob, or of the image's manifest */
	struct ql_toc *toc;	  /* owned */
	uint8_t *state;		  /* owned; a byte a span: enum ql_span_state */
	uint64_t not_before;	  /* ns: after a failure, no fetch until then */
	unsigned int failures;	  /* in a row */
	unsigned int astray;	  /* the source that is asked first: the next,
				   * after pieces that made no chunk */
	bool hot; /* it knows parts of files: what no chunk covers is not
		   * zeros, but to be had elsewhere */
	unsigned int refs;
};

enum ql_span_state {
	QL_SPAN_IDLE,
	QL_SPAN_QUEUED, /* + priority */
	QL_SPAN_TAKEN = QL_SPAN_QUEUED + QL_FILL_PRIORITIES,
	QL_SPAN_SEEN, /* came already, and may be gone again */
};

struct ql_fill_run {
	struct ql_fill_run *next;
	struct ql_fill_toc *toc; /* one reference */
	uint32_t first, n;	 /* spans */
	enum ql_fill_priority priority;
	bool packs; /* what it brings stays packed */
	bool local; /* it is read from packed/ */
};

struct ql_fill_queue {
	struct ql_fill_run *head[QL_FILL_PRIORITIES]; /* owned */
	struct ql_fill_run **tail[QL_FILL_PRIORITIES];
	uint64_t bytes[QL_FILL_PRIORITIES]; /* of blobs, that are queued */
};

void ql_fill_queue_init(struct ql_fill_queue *q);
void ql_fill_queue_release(struct ql_fill_queue *q);
/* Asks for spans first … last.  What is asked for already keeps its place, or
 * moves up.  0 or -ENOMEM. */
int ql_fill_queue_add(struct ql_fill_queue *q, struct ql_fill_toc *toc,
		      uint32_t first, uint32_t last,
		      enum ql_fill_priority priority);
/*
 * Takes the most urgent run: neighbours in a blob, up to max_bytes of it (but
 * one span at least), no less urgent than `least`.  False: there is none.  Its
 * spans are TAKEN until ql_fill_queue_done().
 */
bool ql_fill_queue_take(struct ql_fill_queue *q, enum ql_fill_priority least,
			const uint64_t max_bytes[QL_FILL_PRIORITIES],
			struct ql_fill_run *ret_run);
/* The run, which was taken, goes on up to span last; not where one of them is
 * taken, or lies elsewhere. */
void ql_fill_queue_extend(struct ql_fill_queue *q, struct ql_fill_run *run,
			  uint32_t last);
void ql_fill_queue_done(struct ql_fill_toc *toc, uint32_t first, uint32_t n,
			bool came);

/* ---- fillfile.c: objects that are being filled ---- */

enum ql_fill_state {
	QL_FILL_COMING,
	QL_FILL_WHOLE, /* verified; named at the next settling */
	QL_FILL_NAMED, /* in objects/ */
};

/* One of parts at most; others of the whole, to turn to where one fails. */
enum { QL_FILL_PLACES = 4 };

struct ql_fill_file {
	struct ql_fill_file *next; /* in its bucket */
	struct ql_digest digest;
	uint64_t size;
	struct ql_fill_place {
		struct ql_fill_toc *toc; /* one reference */
		struct ql_toc_file entry;
	} places[QL_FILL_PLACES];
	unsigned int n_places; /* one at least; those for a start first */
	int fd;		       /* owned; -1: nothing is there yet */
	bool single; /* it comes as one chunk, into a file without a name */
	bool holed;  /* what is zeros counts as there */
	bool named;  /* fd is partial/<digest>.part */
	bool dirty;  /* its extents are not recorded */
	bool gone;   /* removed from the store: not in the table any more */
	enum ql_fill_state state;
	struct ql_extents have; /* owned; verified */
	unsigned int refs;	/* openers, sinks, and the settling */
	struct ql_fill_file *dirty_next;
	bool listed; /* in the list of what is to settle */
	struct ql_space_share space;
};

enum { QL_FILL_BUCKETS = 4096, QL_FILL_BAD = 64 };

/* ---- filler.c ---- */

struct ql_filler {
	struct ql_store *store; /* borrowed */
	struct ql_fill_options options;
	pthread_mutex_t lock;
	pthread_cond_t work;   /* for workers */
	pthread_cond_t calm;   /* no demand is being fetched; a run is done */
	pthread_cond_t clock;  /* for the ticker */
	pthread_cond_t room;   /* for who waits for a settling */
	pthread_cond_t settle; /* for the settling thread */

	struct ql_fill_toc *tocs;
	struct ql_fill_image *images;
	struct ql_fill_file *buckets[QL_FILL_BUCKETS];
	struct ql_fill_queue queue;
	struct ql_fill_waiter *waiters; /* all that wait */
	struct ql_fill_file *settling;	/* list by dirty_next */
	size_t n_settling;
	uint64_t settle_since;		 /* ns; 0: nothing to settle */
	struct ql_fill_sources *sources; /* owned; has its own lock */
	struct ql_fill_spool *spools;	 /* owned */
	struct ql_fill_piece *pieces;	 /* owned; newest first */
	size_t n_pieces, piece_bytes;
	struct ql_fill_loose *loose; /* owned; newest first */
	struct ql_fill_stats stats;
	struct ql_error last_error;
	uint64_t full_since; /* ns: no room on disk, and no chunk came since; 0:
			      * there is */
	uint64_t full_until; /* ns: nobody makes room for a chunk before then */
	struct ql_error full_error; /* why there was none */
	/* Contents that came whole, chunk by chunk, and were not what they are
	 * named by: for a while they are not fetched again. */
	struct ql_fill_bad {
		struct ql_digest digest;
		uint64_t until; /* ns */
	} bad[QL_FILL_BAD];
	unsigned int next_bad;
	unsigned int busy[QL_FILL_PRIORITIES]; /* workers at it */
	uint64_t background_bytes;	       /* of blobs, that they fetch */
	uint64_t budget_at;  /* ns: when more may be fetched */
	uint64_t quiet_from; /* ns: the background may go on from then */
	uint64_t measured_at, measured_bytes; /* when the rate was last */
	unsigned int n_threads;		      /* workers that run */
	unsigned int flushing;		      /* wait for a settling */
	bool packed; /* something was put in packed/, and is not settled */
	bool busy_settling;	      /* a batch is being settled */
	bool unsettled;		      /* the last one failed */
	bool hurry;		      /* a waiter's time is over */
	struct ql_error settle_error; /* why */
	struct ql_fill_whole *whole;  /* owned; to be recorded so */
	bool stop;		      /* nothing is fetched any more */
	bool ending;		      /* nor settled, once all is */

	/* The starting and stopping thread's. */
	pthread_t ticker, settler;
	pthread_t *threads; /* owned; options.connections */
	unsigned int n_started;
	bool has_ticker, has_settler;
};

/* An image of which all has come. */
struct ql_fill_whole {
	struct ql_fill_whole *next;
	struct ql_digest manifest;
};

struct ql_fill_image {
	struct ql_fill_image *next;
	struct ql_filler *filler;  /* borrowed */
	int held;		   /* owned: keeps it from being taken away */
	struct ql_fill_toc **tocs; /* owned; a reference each */
	size_t n_tocs;

	uint64_t chunks_at; /* that had come when it was opened */
	bool complete;	    /* nothing was missing then */

	/* Under the filler's lock: the rest that is fetched. */
	bool rest; /* it is */
	bool own;  /* the filler's: closed when nothing is missing */
	struct ql_digest manifest;
	bool here;	     /* a pass found nothing missing */
	size_t at_toc;	     /* where the pass is */
	uint32_t at_chunk;   /* in raw order */
	uint64_t missing;    /* chunks that this pass found so */
	uint64_t not_before; /* ns */
	uint64_t chunks_before;
};

/* Under the lock: somebody waits, or is about to. */
bool ql_filler_is_urgent(const struct ql_filler *f);
/* What failed last, as text that stays for as long as the filler is idle. */
const char *ql_filler_last_error(struct ql_filler *f);
/* For how many ns there has been no room on disk for anything that came. */
uint64_t ql_filler_full_ns(struct ql_filler *f);

/* All under the lock. */
struct ql_fill_file *ql_fill_file_find(struct ql_filler *f,
				       const struct ql_digest *digest);
/* Found or made, with one more reference, and known to be in toc too. */
int ql_fill_file_get(struct ql_filler *f, struct ql_fill_toc *toc,
		     const struct ql_toc_file *entry,
		     struct ql_fill_file **ret_file, struct ql_error *err);
void ql_fill_file_put(struct ql_filler *f, struct ql_fill_file *file);
bool ql_fill_file_has(const struct ql_fill_file *file, uint64_t offset,
		      uint64_t len);
/* Not to be had for now: see `bad`. */
bool ql_fill_file_is_bad(const struct ql_filler *f,
			 const struct ql_digest *digest);
/* Opens its partial file, if it has more than one chunk. */
int ql_fill_file_open(struct ql_filler *f, struct ql_fill_file *file,
		      struct ql_error *err);
/* Whether a waiter needs what a run was to bring. */
bool ql_fill_file_waits_for(const struct ql_fill_waiter *w,
			    const struct ql_fill_run *run);
/* Asks for the spans of a part of it. */
int ql_fill_file_want(struct ql_filler *f, struct ql_fill_file *file,
		      uint64_t offset, uint64_t len,
		      enum ql_fill_priority priority);
/* Takes those waiters for which fn is true, with the error that it sets. */
typedef bool ql_fill_waiter_fn(struct ql_fill_waiter *w, int *ret_error,
			       void *arg);
struct ql_fill_waiter *ql_fill_waiters_take(struct ql_filler *f,
					    ql_fill_waiter_fn *fn, void *arg);
/* Those of file (NULL: of all) whose bytes are here. */
struct ql_fill_waiter *ql_fill_waiters_ready(struct ql_filler *f,
					     struct ql_fill_file *file);
/* Without the lock: tells each what came of it. */
void ql_fill_waiters_tell(struct ql_fill_waiter *list);

/* ---- fillimage.c ---- */

/* Under the lock: closes the filler's own images of which all is here. */
void ql_fill_images_sweep(struct ql_filler *f);
/* Under the lock (or alone): frees the tables that nobody uses. */
void ql_fill_tocs_sweep(struct ql_filler *f);

/* ---- fillsource.c ---- */

struct ql_fill_sources;
/* What options borrow is borrowed for its life. */
int ql_fill_sources_new(const struct ql_pull_options *options,
			struct ql_fill_sources **ret_s, struct ql_error *err);
void ql_fill_sources_cancel(struct ql_fill_sources *s);
void ql_fill_sources_free(struct ql_fill_sources *s);
/* Without the filler's lock: closes those that nobody has used for a while; of
 * a filler that has no image, all that nobody uses. */
void ql_fill_sources_sweep(struct ql_fill_sources *s, bool all);
/* A part of a blob from a repository ("[http://]DOMAIN/PATH", "oci:DIR"). */
int ql_fill_sources_open(struct ql_fill_sources *s, const char *name,
			 const struct ql_descriptor *d, uint64_t offset,
			 uint64_t len, struct ql_stream **ret_stream,
			 struct ql_error *err);
/* ql_source_flags() of where such a stream comes from. */
uint32_t ql_fill_sources_flags(struct ql_stream *stream);
/* What came of raw [from, to) was wrong: ql_peers_doubt(). */
bool ql_fill_peers_doubt(struct ql_filler *f, const struct ql_fill_toc *toc,
			 uint64_t from, uint64_t to);
/* A part of a blob from the n-th (0, 1, …) place that is known to have it.
 * -ENXIO (not described): there are no more. */
int ql_fill_source_open(struct ql_filler *f, const struct ql_toc_blob *blob,
			unsigned int n, uint64_t offset, uint64_t len,
			struct ql_stream **ret_stream, struct ql_error *err);

/* ---- fillpeer.c: files of other nodes ---- */

/* The chunks of a run that are missing, in raw order. */
struct ql_fill_wishes {
	struct ql_fill_wish {
		struct ql_digest object;
		uint64_t offset; /* in it */
		uint32_t len;
		uint64_t raw;
		bool asks; /* it may be asked for by itself */
		bool came;
	} * items; /* owned */
	size_t n, cap;
};
/* -EBADMSG: a damaged table.  -ENOMEM. */
int ql_fill_wishes_init(struct ql_filler *f, const struct ql_fill_run *run,
			struct ql_fill_wishes *ret_wishes);
void ql_fill_wishes_release(struct ql_fill_wishes *wishes);
/* Of each of the run's spans, whether nothing is missing of it; the caller's.
 * NULL: out of memory. */
bool *ql_fill_wishes_came(const struct ql_fill_wishes *wishes,
			  const struct ql_fill_run *run);

/* What a peer offers, and what there is else; all but bytes 0: not known. */
struct ql_fill_offer {
	uint64_t plain;	    /* bytes of files, from it, */
	uint64_t rtt, rate; /* ns, bytes a second; */
	bool near;	    /* it is of this site */
	uint64_t packed;    /* or bytes of a blob, from a registry, */
	uint64_t registry_wait, registry_rate; /* as above */
};
/* How much sooner (ns) it is likely to be there; 0: it is not. */
uint64_t ql_fill_peer_saves(const struct ql_fill_offer *offer);

/*
 * Brings what other nodes have of a run as files, where that is likely to be
 * faster than from elsewhere; must: in any case.  What
 * ql_fill_wishes_came() says then; NULL: nobody was asked, or out of memory.
 */
bool *ql_fill_peers_run(struct ql_filler *f, const struct ql_fill_run *run,
			bool must);

/* ---- fillstart.c ---- */

struct ql_fill_spool {
	struct ql_fill_spool *next;
	struct ql_digest blob;
	struct ql_spool *spool;	     /* owned */
	struct ql_lent_source *lent; /* owned */
	unsigned int refs;	     /* streams */
};
/* Once no thread is left that reads. */
void ql_fill_spools_free(struct ql_filler *f);
void ql_fill_spools_cancel(struct ql_filler *f);
/* With the lock, which is let go in between: frees those that are used up. */
void ql_fill_spools_sweep(struct ql_filler *f);
/* -ENOENT (not described): the blob is not in one. */
int ql_fill_spool_open(struct ql_filler *f, const struct ql_digest *blob,
		       uint64_t offset, uint64_t len,
		       struct ql_stream **ret_stream, struct ql_error *err);

/* ---- fillsink.c ---- */

struct ql_fill_sink;
int ql_fill_sink_new(struct ql_filler *f, struct ql_fill_toc *toc,
		     struct ql_fill_sink **ret_sink, struct ql_error *err);
void ql_fill_sink_free(struct ql_fill_sink *sink);
QL_DEFINE_CLEANUP(struct ql_fill_sink *, ql_fill_sink_free)
/* What follows lies at raw.  -EBADMSG: a chunk is not what it should be. */
int ql_fill_sink_seek(struct ql_fill_sink *sink, uint64_t raw,
		      struct ql_error *err);
int ql_fill_sink_write(struct ql_fill_sink *sink, const void *data, size_t len,
		       struct ql_error *err);
/* Nothing follows: of a chunk that is not at its end, a piece is kept. */
int ql_fill_sink_end(struct ql_fill_sink *sink, struct ql_error *err);
/* After -EBADMSG: the raw position from which on what was written is not to be
 * trusted. */
uint64_t ql_fill_sink_bad(const struct ql_fill_sink *sink);
/* ... and what of it may be wrong: the chunk. */
void ql_fill_sink_doubt(const struct ql_fill_sink *sink, uint64_t *ret_from,
			uint64_t *ret_to);
/* For whom it is (somebody who waits, if that is not said).  packs: chunks are
 * verified, and are not written but where somebody waits for them (or, of a
 * prefetch, has the file open). */
void ql_fill_sink_set(struct ql_fill_sink *sink, enum ql_fill_priority priority,
		      bool packs);
/* The raw places of those that were missing and are right (borrowed), and how
 * many that are. */
const struct ql_extents *ql_fill_sink_kept(const struct ql_fill_sink *sink,
					   uint32_t *ret_n);

/* ---- fillpack.c: what stays as it came ---- */

/* Whether there is a budget. */
bool ql_fill_packs(const struct ql_filler *f);
/* Under the lock, of a run that was taken: whether it packs; then it ends with
 * a chunk. */
void ql_fill_pack_begin(struct ql_filler *f, struct ql_fill_run *run);
bool ql_fill_packed_has(struct ql_filler *f, const struct ql_fill_toc *toc,
			const struct ql_toc_chunk *chunk);
/* The number of spans at the run's start of which all, or (*ret_here: false)
 * none, are packed. */
uint32_t ql_fill_packed_cut(struct ql_filler *f, const struct ql_fill_run *run,
			    bool *ret_here);
/* Raw bytes were wrong: the spans that they lie in are not packed any more. */
void ql_fill_packed_doubt(struct ql_filler *f, const struct ql_fill_toc *toc,
			  uint64_t from, uint64_t to);
/* -ENOENT (not described): it is not all packed. */
int ql_fill_packed_open(struct ql_filler *f, const struct ql_toc_blob *blob,
			uint64_t offset, uint64_t len,
			struct ql_stream **ret_stream, struct ql_error *err);
/* Stands between *in (taken, and replaced by it: freed with it) and who reads
 * it, and remembers what passes. */
struct ql_fill_pack;
int ql_fill_pack_new(struct ql_filler *f, const struct ql_toc_blob *blob,
		     uint64_t offset, uint64_t len, struct ql_stream **in,
		     struct ql_fill_pack **ret_pack, struct ql_error *err);
/* Puts those of n spans that have something of kept (raw places). */
int ql_fill_pack_keep(struct ql_fill_pack *p, const struct ql_fill_toc *toc,
		      uint32_t first, uint32_t n, const struct ql_extents *kept,
		      struct ql_error *err);

/* ---- fillpiece.c: parts of chunks, not verified ---- */

struct ql_fill_piece {
	struct ql_fill_piece *next;
	const struct ql_fill_toc *toc; /* borrowed; drops them when it goes */
	uint32_t file;		       /* the chunk: */
	uint64_t offset;
	uint32_t len;
	struct ql_extents have; /* owned */
	char *data;		/* owned; all of the chunk's size */
};
/* -ENOMEM. */
int ql_fill_piece_new(struct ql_fill_toc *toc, const struct ql_toc_chunk *chunk,
		      struct ql_fill_piece **ret_piece);
void ql_fill_piece_free(struct ql_fill_piece *piece);
bool ql_fill_piece_is_whole(const struct ql_fill_piece *piece);
/* Adds what another of the same chunk has.  -ENOMEM. */
int ql_fill_piece_merge(struct ql_fill_piece *piece,
			const struct ql_fill_piece *other);
/* All under the lock: out of the table (NULL: there is none), owned by the
 * caller; into it, when none of the chunk is there (taken). */
struct ql_fill_piece *ql_fill_piece_take(struct ql_filler *f,
					 const struct ql_fill_toc *toc,
					 const struct ql_toc_chunk *chunk);
void ql_fill_piece_put(struct ql_filler *f, struct ql_fill_piece *piece);
/* Those of a table that goes; NULL: all. */
void ql_fill_pieces_drop(struct ql_filler *f, const struct ql_fill_toc *toc);
/* Asks for the spans of a chunk, but for what a piece has. */
int ql_fill_chunk_ask(struct ql_filler *f, struct ql_fill_toc *toc,
		      const struct ql_toc_chunk *chunk,
		      enum ql_fill_priority priority);

/* ---- fillloose.c: what there is no room for ---- */

struct ql_fill_loose {
	struct ql_fill_loose *next;
	const struct ql_fill_file *file; /* borrowed; drops them when it goes */
	uint64_t offset;		 /* in the file */
	size_t len;
	char data[]; /* verified */
};
/* All under the lock.  Whether something of [offset, offset + len) that it
 * waits for is neither in the file nor with the waiter itself. */
bool ql_fill_waiter_lacks(const struct ql_fill_waiter *w, uint64_t offset,
			  uint64_t len);
/* Whether it may get bytes of its own. */
bool ql_fill_waiter_takes(const struct ql_filler *f,
			  const struct ql_fill_waiter *w);
/* Asks for what it lacks. */
int ql_fill_waiter_want(struct ql_filler *f, struct ql_fill_waiter *w);
/* Whether room is to be made for a chunk of a file.  Where there was none a
 * moment ago (err: why), nobody looks at all of the store again for one that
 * passes by, or for whom bytes will do. */
bool ql_fill_makes_room(const struct ql_filler *f,
			const struct ql_fill_file *file, uint64_t offset,
			uint64_t len, struct ql_error *err);
/* To hold a chunk (its place in the file) in memory, or max bytes of it that
 * somebody waits for.  NULL: nobody takes it so, or there is no memory. */
struct ql_fill_loose *ql_fill_loose_new(const struct ql_filler *f,
					const struct ql_fill_file *file,
					uint64_t offset, uint64_t len,
					size_t max);
/* Without the lock, before it is given: those of the bytes that it holds. */
void ql_fill_loose_write(struct ql_fill_loose *loose, uint64_t offset,
			 const char *data, size_t len);
/* Gives those who wait what is in it (taken), and remembers it. */
void ql_fill_loose_give(struct ql_filler *f, struct ql_fill_loose *loose);
/* Gives w what is remembered of its file. */
void ql_fill_loose_look(struct ql_filler *f, struct ql_fill_waiter *w);
void ql_fill_loose_drop(struct ql_filler *f, const struct ql_fill_file *file);

/* ---- filldecode.c ---- */

/* The part of a blob that n spans lie in.  -EBADMSG. */
int ql_fill_run_range(const struct ql_toc *toc, uint32_t first, uint32_t n,
		      struct ql_toc_blob *ret_blob, uint64_t *ret_offset,
		      uint64_t *ret_len);
/* Of what nobody waits for: waits while somebody waits for something else.
 * Whether it did. */
bool ql_fill_yield(struct ql_filler *f);
/* Over `in`, which gives the blob from the run on: decodes it into the sink.
 * *ret_done: spans that went through. */
int ql_fill_decode(struct ql_filler *f, const struct ql_fill_run *run,
		   struct ql_stream *in, struct ql_fill_sink *sink,
		   uint32_t *ret_done, struct ql_error *err);

/* ---- fillsettle.c ---- */

/* Under the lock: file has something that is not durable yet. */
void ql_fill_settle_later(struct ql_filler *f, struct ql_fill_file *file);
/* Under the lock: nothing is missing of the image, but all may not be settled;
 * once it is, the image is recorded as whole. */
void ql_fill_settle_whole(struct ql_filler *f,
			  const struct ql_digest *manifest);
/* Under the lock: something was put in packed/. */
void ql_fill_settle_packed(struct ql_filler *f);
/* Under the lock: nothing waits for the settling thread. */
bool ql_fill_is_settled(const struct ql_filler *f);
void *ql_fill_settle_main(void *arg);
/* Under the lock: waits while too much is unsettled. */
void ql_fill_settle_throttle(struct ql_filler *f);

/* ---- fillask.c ---- */

/* Asks ahead for what an item of a trace names.  1: it names a file of the
 * image, *ret_file (untouched where nothing of it need come) is open; 0: it
 * names none. */
int ql_fill_ask_item(struct ql_fill_image *image, const struct ql_tree *tree,
		     const struct ql_trace_item *item,
		     struct ql_fill_file **ret_file, struct ql_error *err);

/* ---- fillbackground.c ---- */

/* Under the lock: 1 where a chunk is not here; 0; -ENOSPC, -ENOMEM. */
int ql_fill_chunk_missing(struct ql_filler *f, struct ql_fill_toc *toc,
			  const struct ql_toc_chunk *chunk);
/* Under the lock: asks for some of what is missing of some image; false: there
 * is nothing to look at now. */
bool ql_fill_background_look(struct ql_filler *f);

#endif
