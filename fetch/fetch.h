/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where content comes from: image references, registries, OCI folders and
 * docker archives, and the pull that fills a store from them.
 */
#ifndef QL_FETCH_H
#define QL_FETCH_H

#include <stdatomic.h>

#include "store/store.h"

/* ---- references ---- */

enum ql_ref_kind {
	QL_REF_REGISTRY,
	QL_REF_OCI_DIR,	       /* oci:DIR[:tag] */
	QL_REF_DOCKER_ARCHIVE, /* docker-archive:FILE[:name:tag] */
};

struct ql_ref {
	enum ql_ref_kind kind;
	char *domain; /* owned; registry host[:port], "docker.io" by default */
	char *path;   /* owned; repository ("library/redis"), or folder, or file
		       */
	char *tag;    /* owned; NULL where none applies */
	bool has_digest;
	struct ql_digest digest;
	char *name; /* owned; the normal spelling:
		       "docker.io/library/redis:latest" */
};

/*
 * Parses a reference as docker spells it (github.com/distribution/reference):
 * default registry docker.io, library/ for a single component, tag latest
 * where neither tag nor digest is given.  -EINVAL, saying what is wrong.
 */
int ql_ref_parse(const char *text, struct ql_ref *ret_ref,
		 struct ql_error *err);
void ql_ref_release(struct ql_ref *ref);
#define _cleanup_ref_ __attribute__((cleanup(ql_ref_release)))

/*
 * The image of the store that text means: a digest, 12 or more digits of one,
 * or a reference.  *ret_name (owned) is its recorded name, NULL where text is
 * a digest.  -ENOENT: not in the store.
 */
int ql_find_image(struct ql_store *store, const char *text,
		  struct ql_digest *ret_manifest, char **ret_name,
		  struct ql_error *err);
/* The same, and opens its tree. */
int ql_find_tree(struct ql_store *store, const char *text,
		 struct ql_tree **ret_tree, struct ql_error *err);

/* ---- local.c: HTTP on a socket of this node ---- */

/* prefix, text percent-encoded, suffix; owned, NULL: out of memory. */
char *ql_local_path(const char *prefix, const char *text, const char *suffix);
/*
 * Sends a request with a JSON body (or NULL) to who listens at a socket, and
 * waits for the answer's status.  The stream (freed by the caller) is the
 * answer's body.  -ECONNREFUSED: nobody is there.
 */
int ql_local_ask(const char *socket, const char *method, const char *path,
		 const char *body, long *ret_status,
		 struct ql_stream **ret_answer, struct ql_error *err);

/* ---- pulling ---- */

struct ql_filler;
struct ql_peers;

enum ql_pull_state {
	QL_PULL_WAITING,
	QL_PULL_FETCHING,
	QL_PULL_DONE,
	QL_PULL_HERE, /* was in the store already */
};

/* One layer's progress; called at most every 100 ms a layer, and at each
 * change of state, from several threads but never two at once. */
struct ql_pull_progress {
	uint32_t layer; /* 0: lowest */
	uint32_t n_layers;
	enum ql_pull_state state;
	struct ql_digest blob;
	uint64_t done; /* bytes of the blob */
	uint64_t total;
};
typedef void ql_pull_progress_fn(const struct ql_pull_progress *p, void *arg);

/*
 * Who looks at an image while its layers are read whole.  Called by the pull's
 * threads, begin before all others.
 */
struct ql_pull_watch {
	/* Not all of the image's layers (lowest first; lent for the call) are
	 * here.  -errno: nobody looks, and nothing more is called. */
	int (*begin)(const struct ql_digest *manifest,
		     const struct ql_digest *layers, uint32_t n_layers,
		     void *arg);
	/* Who looks at a layer that is about to be read; borrowed while the
	 * pull lasts. */
	const struct ql_layer_watch *(*layer)(uint32_t layer, void *arg);
	void (*here)(uint32_t layer, void *arg); /* it is in the store */
	void *arg;				 /* borrowed */
};

struct ql_pull_options {
	const char *platform;  /* "os/arch[/variant]"; NULL: this machine's */
	bool plain_http;       /* also where the registry is not loopback */
	unsigned int parallel; /* layers at once; 0: the default */
	/* At once, for what comes in parts; 0: the default. */
	unsigned int connections;
	const char *config_dir; /* registries' settings; NULL: the default */
	bool lazy; /* what can come when it is read is not fetched now */
	/* Each layer, or its own table of contents, even where a start blob
	 * would do without. */
	bool no_start;
	/* With lazy: goes on with what a start needs when the pull has
	 * returned (borrowed); or NULL. */
	struct ql_filler *filler;
	/* Make no tables of contents of the layers that are read whole. */
	bool no_index;
	/* Other nodes, asked before the registry (borrowed); or NULL. */
	struct ql_peers *peers;
	ql_pull_progress_fn *progress; /* may be NULL */
	void *arg;
	/* With it, the uppermost layers come early.  May be NULL. */
	const struct ql_pull_watch *watch;
	/* Set by another thread, at most a stalled connection's timeout later
	 * the pull ends with -ECANCELED; NULL: never. */
	const atomic_bool *cancel;
};

struct ql_pull_result {
	struct ql_digest manifest;
	uint32_t layers_fetched;
	uint32_t layers_here;
	uint64_t bytes_fetched;		 /* blob bytes received */
	uint64_t new_objects, new_bytes; /* written to the store */
	uint64_t dup_objects, dup_bytes; /* found in the store */
	bool up_to_date;		 /* the image was here already */
};

/*
 * Brings an image into the store, whole.  What is complete when it fails
 * (layers) stays, and the next pull goes on from there.
 */
int ql_pull(struct ql_store *store, const struct ql_ref *ref,
	    const struct ql_pull_options *options,
	    struct ql_pull_result *ret_result, struct ql_error *err);

/* ---- traces: what a start reads ---- */

struct ql_trace {
	struct ql_trace_item {
		char *path;	 /* owned; below the image's root */
		uint64_t offset; /* in the file */
		uint64_t len;	 /* bytes; 0: to the end */
	} * items;		 /* owned */
	size_t n, cap;
};
void ql_trace_release(struct ql_trace *trace);
int ql_trace_add(struct ql_trace *trace, const char *path, uint64_t offset,
		 uint64_t len);
/* -EBADMSG, naming the line. */
int ql_trace_parse(const char *text, size_t len, struct ql_trace *ret_trace,
		   struct ql_error *err);
int ql_trace_print(const struct ql_trace *trace, struct ql_buf *buf);
enum { QL_TRACE_MAX = 16 << 20 }; /* bytes of text */

/* ---- filling: content that comes when it is read ---- */

struct ql_filler;

struct ql_fill_options {
	unsigned int connections; /* at once; 0: the default */
	uint64_t read_timeout;	  /* ns that a read waits; 0: the default */
	/* Bytes a second for what nobody waits for; 0: none is fetched;
	 * UINT64_MAX: no limit. */
	uint64_t background_rate;
	bool plain_http;
	/* All is to be opened: nothing stays packed, and what is counts as
	 * missing. */
	bool plain;
	/* Nobody reads meanwhile: small runs of the background may have all
	 * connections. */
	bool unread;
	const char *config_dir; /* registries' settings; NULL: the default */
	/* Other nodes, asked before the registry (borrowed); or NULL. */
	struct ql_peers *peers;
};

/* The store is borrowed and open for writing.  Threads start at once. */
int ql_filler_new(struct ql_store *store, const struct ql_fill_options *options,
		  struct ql_filler **ret_filler, struct ql_error *err);
/* Nothing is fetched any more; who waits, or will, is told -ECANCELED, and when
 * it returns nobody is being told anything.  By the thread that frees it. */
void ql_filler_stop(struct ql_filler *filler);
/* Every file and image was closed before.  What has come is kept. */
void ql_filler_free(struct ql_filler *filler);
QL_DEFINE_CLEANUP(struct ql_filler *, ql_filler_free)

/* An image whose content may be asked for. */
struct ql_fill_image;
int ql_fill_image_open(struct ql_filler *filler,
		       const struct ql_image_info *info,
		       struct ql_fill_image **ret_image, struct ql_error *err);
void ql_fill_image_close(struct ql_fill_image *image);
QL_DEFINE_CLEANUP(struct ql_fill_image *, ql_fill_image_close)
/* Fetches all that is missing, in the background. */
void ql_fill_image_rest(struct ql_fill_image *image);
/* The same for an image that nobody has opened, until all of it is here.  Twice
 * is as once. */
int ql_filler_rest(struct ql_filler *filler, const struct ql_image_info *info,
		   struct ql_error *err);
/* Whether that goes on, for an image. */
bool ql_filler_is_filling(struct ql_filler *filler,
			  const struct ql_digest *manifest);
/* Ends that, for an image that is to be removed. */
void ql_filler_forget(struct ql_filler *filler,
		      const struct ql_digest *manifest);
/* What is here may be less than the image: a mount of it needs a filler. */
bool ql_fill_needed(struct ql_store *store, const struct ql_image_info *info);
/* There may be something to fetch of it.  (What is here may be packed.) */
bool ql_fill_lacks(struct ql_store *store, const struct ql_image_info *info);
/* Fetches all of an image's content that is missing, and waits for it.
 * -EIO: something could not be had in time. */
int ql_fill_all(struct ql_store *store, const struct ql_image_info *info,
		const struct ql_fill_options *options, struct ql_error *err);
/* Not 0: stop. */
typedef int ql_fill_bytes_fn(const void *data, size_t len, void *arg);
/* The same for one object.  1: the budget has no room for it, and fn was given
 * its bytes instead, from its start to its end. */
int ql_fill_object(struct ql_store *store, const struct ql_image_info *info,
		   const struct ql_digest *object,
		   const struct ql_fill_options *options, ql_fill_bytes_fn *fn,
		   void *arg, struct ql_error *err);
/* The same for what a trace names.  *ret_missing: its items that name no file
 * of the image. */
int ql_fill_trace(struct ql_store *store, const struct ql_image_info *info,
		  const struct ql_trace *trace,
		  const struct ql_fill_options *options, size_t *ret_missing,
		  struct ql_error *err);
/* Asks for what a trace names (NULL: for all of the image) that is not here,
 * and does not wait for it.  *ret_missing: as above. */
int ql_filler_prefetch(struct ql_filler *f, const struct ql_image_info *info,
		       const struct ql_trace *trace, size_t *ret_missing,
		       struct ql_error *err);
void ql_filler_set_rate(struct ql_filler *filler, uint64_t background_rate);
/* Waits (at most so many ns) until nothing is missing. */
bool ql_fill_image_here(struct ql_fill_image *image, uint64_t wait_ns);

/* A file that may be read while it comes. */
struct ql_fill_file;
/* Not described: -ENOENT: the image's tables do not know the object; -EEXIST:
 * it is an object of the store. */
int ql_fill_open(struct ql_fill_image *image, const struct ql_digest *object,
		 struct ql_fill_file **ret_file, struct ql_error *err);
void ql_fill_close(struct ql_filler *filler, struct ql_fill_file *file);

struct ql_fill_waiter {
	/* The caller's: */
	uint64_t offset, len;
	/* Called once, from any thread: 0, or a negative errno. */
	void (*done)(struct ql_fill_waiter *w, int error);
	/* Bytes of its own will do, where the budget has no room for a file:
	 * see ql_fill_taken(). */
	bool takes;
	/* The filler's: */
	char *loose;	       /* owned; those bytes */
	struct ql_extents got; /* owned; where they are in the file */
	struct ql_fill_file *file;
	uint64_t deadline; /* ns */
	int error;
	struct ql_fill_waiter *next, **prev;
};
/* 0: the bytes are here, done is not called.  -EINPROGRESS: it will be; w must
 * stay until then.  Else a negative errno. */
int ql_fill_wait(struct ql_filler *filler, struct ql_fill_file *file,
		 struct ql_fill_waiter *w);
/* The same, but without waiting. */
bool ql_fill_ready(struct ql_filler *filler, struct ql_fill_file *file,
		   const struct ql_fill_waiter *w);
/* Has done called soon, with error, if it was not yet; by another thread.  To
 * be called before done has returned. */
void ql_fill_hurry(struct ql_filler *filler, struct ql_fill_waiter *w,
		   int error);
/* The file to read from where a wait ended well (borrowed). */
int ql_fill_fd(struct ql_filler *filler, struct ql_fill_file *file);
/*
 * After a wait that ended well: *ret_data (the waiter's, while it lasts) is
 * what was waited for, as far as the file goes, where not all of that is in a
 * file; else NULL, and ql_fill_fd() has it.  A negative errno: it cannot be
 * read.
 */
int ql_fill_taken(struct ql_filler *filler, struct ql_fill_waiter *w,
		  const char **ret_data, size_t *ret_len);
/* Frees what a waiter got.  Who waits with `takes` calls it at the end. */
void ql_fill_waiter_release(struct ql_fill_waiter *w);
/* Asks for a part that is likely to be needed. */
void ql_fill_prefetch(struct ql_filler *filler, struct ql_fill_file *file,
		      uint64_t offset, uint64_t len);
/* Waits until what has come is durable. */
int ql_fill_flush(struct ql_filler *filler, struct ql_error *err);

struct ql_fill_stats {
	uint64_t bytes_fetched; /* from registries */
	uint64_t bytes_packed;	/* read from packed/ */
	uint64_t requests;
	uint64_t peer_requests, peer_bytes; /* for files, of other nodes */
	uint64_t chunks, chunk_bytes;	    /* verified and written */
	uint64_t bad_chunks;		    /* not of their digest */
	uint64_t bad_files;
	uint64_t failures;    /* of requests */
	uint64_t queued;      /* bytes of blobs that are asked for */
	uint64_t timeouts;    /* of reads */
	uint64_t rate;	      /* bytes of content a second, lately */
	unsigned int running; /* requests */
};
void ql_filler_stats(struct ql_filler *filler, struct ql_fill_stats *ret_stats);
/* Somebody waits for something, or is about to. */
bool ql_filler_is_busy(struct ql_filler *filler);

#include "fetch/push.h"

#include "fetch/compose.h"

#include "fetch/repair.h"

#include "fetch/peers.h"

#include "fetch/pieces.h"

#include "fetch/qdm.h"

#include "fetch/remote.h"

#include "fetch/kubeapi.h"

#endif
