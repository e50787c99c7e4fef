/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replaying traces of pulls through cache policies: a trace is read once, what
 * of it matters goes into a temporary file in fixed-size events, and every
 * policy and budget replays that.  Memory is by the layers that the trace
 * names (about 40 bytes each), not by its length.
 */
#ifndef QL_CACHESIM_H
#define QL_CACHESIM_H

#include <stdio.h>

#include "store/base/base.h"
#include "store/cache/cache.h"

/* ---- traceline.c: one request of a trace ---- */

enum ql_trace_kind {
	QL_TRACE_OTHER,
	QL_TRACE_MANIFEST,
	QL_TRACE_BLOB,
	QL_TRACE_HEADER, /* of an access log of ours */
};

struct ql_traceline {
	enum ql_trace_kind kind;
	int64_t time; /* ms since the epoch */
	uint64_t client;
	uint64_t family; /* the repository */
	uint64_t id;	 /* of a blob */
	uint64_t size;	 /* bytes of disk */
	uint64_t bytes;	 /* that were sent, or would be */
	bool own;	 /* of an access log of ours, which says what */
	uint64_t parent; /* the layer stands on; 0: nothing */
};

/* A JSON object of the IBM traces, where not a header.  -EBADMSG, saying what
 * is wrong. */
int ql_traceline_parse(const char *text, size_t len,
		       struct ql_traceline *ret_line, struct ql_error *err);

/* ---- ownline.c: one of an access log of ours (store/accesslog.h) ---- */

/* Of a JSON object.  -EBADMSG: a header, but of another version. */
int ql_ownline_header(const json_t *json, bool *ret_is, struct ql_error *err);
/* The same as ql_traceline_parse(), once a header has come. */
int ql_ownline_parse(const char *text, size_t len,
		     struct ql_traceline *ret_line, struct ql_error *err);
/* "[RFC 3339 in UTC]" in ms since the epoch.  -EBADMSG. */
int ql_trace_time(const char *text, int64_t *ret);

/* ---- tracereader.c: lines of a trace, in the order of their times ---- */

enum { QL_TRACE_NAMED = 5 }; /* broken lines that are named */

struct ql_trace_counts {
	uint64_t lines;	 /* that were read: all of the following */
	uint64_t broken; /* and skipped */
	uint64_t other;	 /* neither GETs of manifests nor of blobs; headers */
	uint64_t late;	 /* further out of order than the window holds */
	uint64_t pulls;
	uint64_t requests; /* of layers */
	uint64_t sizes;	   /* of these, with another size than the first */
	char *named[QL_TRACE_NAMED]; /* owned: "line 7: why" */
	size_t n_named;
};
void ql_trace_counts_release(struct ql_trace_counts *counts);

struct ql_tracereader;
/* in, counts: borrowed. */
int ql_tracereader_new(struct ql_stream *in, struct ql_trace_counts *counts,
		       struct ql_tracereader **ret_reader,
		       struct ql_error *err);
void ql_tracereader_free(struct ql_tracereader *t);
static inline void ql_tracereader_freep(struct ql_tracereader **t)
{
	ql_tracereader_free(*t);
}
/* 1: a line, 0: the end. */
int ql_tracereader_next(struct ql_tracereader *t, struct ql_traceline *ret_line,
			struct ql_error *err);

/* ---- traceframe.c: where a JSON object begins and ends ---- */

enum { QL_TRACE_LINE_MAX = 64 << 10 };

struct ql_traceframe;
int ql_traceframe_new(struct ql_stream *in, struct ql_traceframe **ret_frame,
		      struct ql_error *err);
void ql_traceframe_free(struct ql_traceframe *f);
/* 1: an object, borrowed until the next call, and the number of the line that
 * it begins on; 0: the end; -EBADMSG: what stands on that line is none, go on;
 * others: the stream's. */
int ql_traceframe_next(struct ql_traceframe *f, const char **ret_text,
		       size_t *ret_len, uint64_t *ret_line,
		       struct ql_error *err);

/* ---- tracestack.c: which layer stands on which ---- */

struct ql_tracestack;
struct ql_tracestack *ql_tracestack_new(void); /* NULL: out of memory */
void ql_tracestack_free(struct ql_tracestack *s);
static inline void ql_tracestack_freep(struct ql_tracestack **s)
{
	ql_tracestack_free(*s);
}
/* A manifest's GET begins a pull; the blobs that the same client then asks for
 * in that repository stand on each other.  Fills id, size, parent, family and
 * flags of what is a layer; false: it is none. */
bool ql_tracestack_follow(struct ql_tracestack *s,
			  const struct ql_traceline *line,
			  struct ql_cache_request *ret_req);

/* ---- tracespool.c: the trace as events in a temporary file ---- */

struct ql_trace_event {
	struct ql_cache_request req; /* cost 0 */
	uint64_t bytes;		     /* to fetch it */
	uint64_t object; /* 0, 1, … in the order of their coming */
	uint64_t next;	 /* event of the same object; UINT64_MAX: none */
	uint64_t held;	 /* 1: of a node's own log: while a pull lasts, all of
			  * its layers are in use */
};

struct ql_tracespool;
/* in, counts: borrowed for the call. */
int ql_tracespool_read(struct ql_stream *in, struct ql_trace_counts *counts,
		       struct ql_tracespool **ret_spool, struct ql_error *err);
void ql_tracespool_free(struct ql_tracespool *s);
static inline void ql_tracespool_freep(struct ql_tracespool **s)
{
	ql_tracespool_free(*s);
}
uint64_t ql_tracespool_objects(const struct ql_tracespool *s);
uint64_t ql_tracespool_footprint(const struct ql_tracespool *s); /* bytes */
/* From the first: 1 an event, 0 the end. */
int ql_tracespool_rewind(struct ql_tracespool *s, struct ql_error *err);
int ql_tracespool_next(struct ql_tracespool *s, struct ql_trace_event *ret,
		       struct ql_error *err);

/* ---- replay.c, belady.c ---- */

struct ql_sim_links {
	double registry; /* Mbit/s */
	double peer;
	unsigned int share; /* per cent of the layers that a peer has */
};

struct ql_sim_result {
	const char *policy;
	uint64_t budget;
	uint64_t requests, hits;   /* of layers */
	uint64_t bytes, hit_bytes; /* of fetching */
	uint64_t fetched;	   /* from the registry, not from peers */
	uint64_t evictions;
	uint64_t saved_ns; /* of fetching, by hits */
	uint64_t took_ns;  /* all decisions together */
	uint64_t memory;   /* at the end */
	uint64_t tracked;  /* at the end, here or remembered */
};

/* ns to have so many bytes of it again. */
uint64_t ql_sim_cost(const struct ql_sim_links *links, uint64_t id,
		     uint64_t bytes);
bool ql_sim_peer_has(const struct ql_sim_links *links, uint64_t id);
/* The name of the bound, as a policy's. */
#define QL_SIM_BOUND "belady"
/* name: a policy's, or the bound's.  -EINVAL: neither. */
int ql_sim_run(struct ql_tracespool *s, const char *name, uint64_t budget,
	       const struct ql_sim_links *links, struct ql_sim_result *ret,
	       struct ql_error *err);
int ql_sim_belady(struct ql_tracespool *s, uint64_t budget,
		  const struct ql_sim_links *links, struct ql_sim_result *ret,
		  struct ql_error *err);

/* ---- plot.c ---- */

/* Byte hit ratio over budgets, a line a policy, as SVG; results in the order
 * of policies, n_budgets each. */
int ql_sim_plot(const struct ql_sim_result *results, size_t n_policies,
		size_t n_budgets, uint64_t footprint, struct ql_buf *svg);

#endif
