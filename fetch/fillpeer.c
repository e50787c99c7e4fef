/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of other nodes: of a run, what one of them has opened already is asked
 * for by its files' digests, all of it in one request, and goes into the sink
 * as if it had been decoded here.
 *
 * A chunk of a table is a part of one file, whatever the table's kind: (digest
 * of the file, offset in it, length).  Spans are not: a chunk may lie in
 * several (a large file of a gzip layer), and several in one.  So what is asked
 * for are the chunks that any of the run's spans has something of, whole, and a
 * span has come when all of its chunks have.  Where two runs share a chunk,
 * both may ask for it: so none leaves a piece of one that was not verified.
 *
 * What comes is plain, while registries send it compressed: so it is asked for
 * where that is likely to be faster all the same, by what was measured of both;
 * and in any case where all sources of the blob have failed.
 *
 * A run that packs (fillpack.c) keeps a blob's bytes, and asks nobody for
 * files: the same nodes give it parts of blobs (peersource.c).
 */
#include "fetch/fill-private.h"
#include "fetch/peer-private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum {
	ROUNDS = 3, /* peers that are asked, one after another */
	PEERS = 8,  /* that are compared, of the site and of others */
	PIECE = 64 << 10,
	FAR = 3, /* times dearer than what it takes */
};
#define NS 1000000000ULL
#define RATE_NEAR (64ULL << 20) /* bytes a second, of who is not measured */
#define SPARE_NS NS		/* beyond which it is too slow */
#define SPARE_TIMES 8

/* ---- what of a run is missing ---- */

void ql_fill_wishes_release(struct ql_fill_wishes *w)
{
	free(w->items);
	*w = (struct ql_fill_wishes){ 0 };
}

static int wishes_add(struct ql_fill_wishes *w, const struct ql_toc_chunk *c,
		      const struct ql_toc_file *file, bool asks)
{
	if (w->n == w->cap) {
		size_t cap = w->cap ? 2 * w->cap : 64;
		struct ql_fill_wish *items =
			reallocarray(w->items, cap, sizeof(*items));

		if (!items)
			return -ENOMEM;
		w->items = items;
		w->cap = cap;
	}
	w->items[w->n++] = (struct ql_fill_wish){
		.object = file->digest,
		.offset = c->offset,
		.len = c->len,
		.raw = c->raw,
		.asks = asks,
	};
	return 0;
}

/* Under the lock.  *ret_asks: it may be asked for. */
static bool chunk_is_missing(struct ql_filler *f, struct ql_fill_toc *toc,
			     const struct ql_toc_chunk *c,
			     const struct ql_toc_file *entry, bool *ret_asks)
{
	struct ql_fill_file *file;
	bool missing = true;

	*ret_asks = false;
	if (ql_fill_file_is_bad(f, &entry->digest))
		return true;
	if (!ql_fill_file_find(f, &entry->digest) &&
	    ql_object_here(f->store, &entry->digest))
		return false;
	if (ql_fill_file_get(f, toc, entry, &file, NULL) < 0)
		return true;
	/* What has several chunks may be here in part. */
	if (ql_fill_file_open(f, file, NULL) == 0) {
		missing = !ql_fill_file_has(file, c->offset, c->len);
		*ret_asks = missing;
	}
	ql_fill_file_put(f, file);
	return missing;
}

static int run_raw(const struct ql_fill_run *run, uint64_t *ret_from,
		   uint64_t *ret_to)
{
	struct ql_toc_span a, b;

	if (ql_toc_span(run->toc->toc, run->first, &a) < 0 ||
	    ql_toc_span(run->toc->toc, run->first + run->n - 1, &b) < 0 ||
	    b.raw + b.raw_len < a.raw)
		return -EBADMSG;
	*ret_from = a.raw;
	*ret_to = b.raw + b.raw_len;
	return 0;
}

int ql_fill_wishes_init(struct ql_filler *f, const struct ql_fill_run *run,
			struct ql_fill_wishes *ret_wishes)
{
	const struct ql_toc *toc = run->toc->toc;
	struct ql_fill_wishes w = { 0 };
	uint64_t from, to, end = 0;
	int r = run_raw(run, &from, &to);
	uint32_t k = r < 0 ? 0 : ql_toc_order_from(toc, from);

	for (k -= k > 0; r == 0 && k < ql_toc_chunks(toc); k++) {
		struct ql_toc_file entry;
		struct ql_toc_chunk c;
		uint32_t index;
		bool missing, asks;

		if (ql_toc_ordered(toc, k, &index) < 0 ||
		    ql_toc_chunk(toc, index, &c) < 0 ||
		    ql_toc_file(toc, c.file, &entry) < 0)
			r = -EBADMSG;
		if (r < 0 || c.raw >= to)
			break;
		if (c.raw + c.len <= from)
			continue;
		(void)pthread_mutex_lock(&f->lock);
		missing = chunk_is_missing(f, run->toc, &c, &entry, &asks);
		(void)pthread_mutex_unlock(&f->lock);
		/* The sink takes bytes for one chunk alone. */
		asks = asks && c.raw >= end;
		end = c.raw + c.len > end ? c.raw + c.len : end;
		if (missing)
			r = wishes_add(&w, &c, &entry, asks);
	}
	if (r < 0)
		ql_fill_wishes_release(&w);
	else
		*ret_wishes = w;
	return r;
}

bool *ql_fill_wishes_came(const struct ql_fill_wishes *w,
			  const struct ql_fill_run *run)
{
	bool *came = malloc(run->n * sizeof(*came));
	uint32_t end = run->first + run->n;

	if (!came)
		return NULL;
	memset(came, true, run->n * sizeof(*came));
	for (size_t i = 0; i < w->n; i++) {
		uint64_t raw = w->items[i].raw, to = raw + w->items[i].len;
		struct ql_toc_span span;
		uint32_t s;

		if (w->items[i].came ||
		    ql_toc_span(run->toc->toc, run->first, &span) < 0)
			continue;
		if (raw < span.raw)
			raw = span.raw;
		if (ql_toc_span_at(run->toc->toc, raw, &s) < 0)
			continue;
		for (; s < end && ql_toc_span(run->toc->toc, s, &span) == 0 &&
		       span.raw < to;
		     s++)
			if (s >= run->first)
				came[s - run->first] = false;
	}
	return came;
}

/* ---- whom to ask ---- */

struct candidate {
	struct ql_peer *peer;	       /* one reference */
	struct ql_peer_filter *filter; /* the same */
	uint64_t bytes;		       /* of what is missing, that it has */
	uint64_t cost, saved;	       /* ns */
	bool near;
};

static void candidate_release(struct candidate *c)
{
	ql_peer_filter_free(c->filter);
	ql_peer_unref(c->peer);
	*c = (struct candidate){ 0 };
}

static bool asks_for(const struct ql_fill_wish *wish,
		     const struct ql_peer_filter *filter)
{
	return wish->asks && !wish->came &&
	       ql_peer_filter_has(filter, &wish->object);
}

uint64_t ql_fill_peer_saves(const struct ql_fill_offer *o)
{
	uint64_t rate = o->near && o->rate == 0 ? RATE_NEAR : o->rate;
	uint64_t there = ql_peer_cost(o->rtt, rate, o->plain);
	uint64_t here =
		ql_peer_cost(o->registry_wait, o->registry_rate, o->packed);

	/* Another site's answer takes of an uplink that others of it use, and
	 * brings no part of a blob that others here could share. */
	if (!o->near)
		there *= FAR;
	/* Who knows nothing of the registry asks who is near. */
	if (o->registry_rate == 0)
		return o->near ? UINT64_MAX - there : 0;
	return here > there ? here - there : 0;
}

/* Of a run's bytes in the blob, those that so many plain ones are. */
static uint64_t packed_share(const struct ql_fill_run *run, uint64_t plain)
{
	struct ql_toc_blob blob;
	uint64_t from, to, offset, len;

	if (run_raw(run, &from, &to) < 0 || to == from ||
	    ql_fill_run_range(run->toc->toc, run->first, run->n, &blob, &offset,
			      &len) < 0)
		return plain;
	return (uint64_t)((double)len * (double)plain / (double)(to - from));
}

static void candidate_weigh(struct ql_peers *peers,
			    const struct ql_fill_run *run,
			    const struct ql_fill_wishes *w, struct candidate *c)
{
	struct ql_fill_offer o = { .near = c->near };

	c->filter = ql_peer_filter_get(peers, c->peer);
	for (size_t i = 0; c->filter && i < w->n; i++)
		if (asks_for(&w->items[i], c->filter))
			c->bytes += w->items[i].len;
	if (c->bytes == 0)
		return;
	o.plain = c->bytes;
	o.packed = packed_share(run, c->bytes);
	ql_peers_blobs_measured(peers, !c->near, &o.registry_wait,
				&o.registry_rate);
	(void)pthread_mutex_lock(&peers->lock);
	o.rtt = c->peer->rtt;
	o.rate = c->peer->rate;
	(void)pthread_mutex_unlock(&peers->lock);
	c->cost = ql_peer_cost(o.rtt, o.rate, c->bytes);
	c->saved = ql_fill_peer_saves(&o);
}

static bool is_better(const struct candidate *a, const struct candidate *b,
		      bool must)
{
	if (must && a->bytes != b->bytes)
		return a->bytes > b->bytes;
	if (must)
		return a->cost < b->cost;
	return a->saved > b->saved;
}

/* Who of them, but for those that were asked, is the best; false: nobody. */
static bool candidate_find(struct ql_peers *peers,
			   const struct ql_fill_run *run,
			   const struct ql_fill_wishes *w, bool must,
			   struct ql_peer *const asked[ROUNDS],
			   struct candidate *best)
{
	struct ql_peer *list[2 * PEERS];
	size_t near = ql_peers_pick(peers, true, list, PEERS);
	size_t n = near + ql_peers_pick(peers, false, list + near, PEERS);
	bool found = false;

	for (size_t i = 0; i < n; i++) {
		struct candidate c = { .peer = list[i], .near = i < near };
		bool again = false;

		for (int k = 0; k < ROUNDS; k++)
			again = again || asked[k] == c.peer;
		if (!again)
			candidate_weigh(peers, run, w, &c);
		if (c.bytes == 0 || (!must && c.saved == 0) ||
		    (found && !is_better(&c, best, must))) {
			candidate_release(&c);
			continue;
		}
		if (found)
			candidate_release(best);
		*best = c;
		found = true;
	}
	return found;
}

/* ---- asking ---- */

struct batch {
	struct ql_filler *f; /* borrowed, as the next */
	const struct ql_fill_run *run;
	struct ql_fill_wish **wishes; /* owned; of the parts */
	struct ql_peer_part *parts;   /* owned */
	size_t n;
	struct ql_stream *in;	   /* owned */
	struct ql_fill_sink *sink; /* owned */
	char *piece;		   /* owned */
	bool yielded;
};

static void batch_release(struct batch *b)
{
	ql_fill_sink_free(b->sink);
	ql_stream_free(b->in);
	free(b->wishes);
	free(b->parts);
	free(b->piece);
}

/* As many of the wishes as go into one request, in raw order. */
static int batch_init(struct batch *b, struct ql_fill_wishes *w,
		      const struct ql_peer_filter *filter)
{
	b->wishes = calloc(w->n + 1, sizeof(struct ql_fill_wish *));
	b->parts = calloc(w->n + 1, sizeof(*b->parts));
	b->piece = malloc(PIECE);
	if (!b->wishes || !b->parts || !b->piece)
		return -ENOMEM;
	for (size_t i = 0; i < w->n && b->n < QL_PEER_BATCH_MAX; i++) {
		struct ql_fill_wish *wish = &w->items[i];

		if (!asks_for(wish, filter))
			continue;
		b->parts[b->n] = (struct ql_peer_part){ wish->object,
							wish->offset,
							wish->len };
		b->wishes[b->n++] = wish;
	}
	return 0;
}

static bool may_go_on(struct batch *b)
{
	bool stop;

	if (b->run->priority == QL_FILL_BACKGROUND)
		b->yielded |= ql_fill_yield(b->f);
	(void)pthread_mutex_lock(&b->f->lock);
	stop = b->f->stop;
	(void)pthread_mutex_unlock(&b->f->lock);
	return !stop;
}

static void count(struct ql_filler *f, uint64_t requests, uint64_t bytes)
{
	(void)pthread_mutex_lock(&f->lock);
	f->stats.peer_requests += requests;
	f->stats.peer_bytes += bytes;
	(void)pthread_mutex_unlock(&f->lock);
}

/* A chunk, whole.  *ret_theirs: the error is the peer's. */
static int batch_chunk(struct batch *b, struct ql_peer_frames *frames,
		       struct ql_fill_wish *wish, bool *ret_theirs,
		       struct ql_error *err)
{
	int r = ql_fill_sink_seek(b->sink, wish->raw, err);
	ssize_t n = 0;

	while (r == 0) {
		if (!may_go_on(b))
			return ql_error_set(err, -ECANCELED, "canceled");
		n = ql_peer_frames_read(frames, b->piece, PIECE, err);
		*ret_theirs = n < 0;
		if (n <= 0)
			break;
		count(b->f, 0, (uint64_t)n);
		r = ql_fill_sink_write(b->sink, b->piece, (size_t)n, err);
		*ret_theirs = r == -EBADMSG;
	}
	wish->came = r == 0 && n == 0;
	return r < 0 ? r : (int)n;
}

static int batch_read(struct batch *b, bool *ret_theirs, struct ql_error *err)
{
	struct ql_peer_frames frames;
	struct ql_peer_frame frame;
	int r;

	ql_peer_frames_init(&frames, b->in, b->parts, b->n);
	while ((r = ql_peer_frames_next(&frames, &frame, err)) > 0) {
		struct ql_fill_wish *wish = b->wishes[frame.part];

		/* It has it not, or not all: nothing of that is verified. */
		wish->asks = frame.error == 0 && frame.len == wish->len;
		r = wish->asks ? batch_chunk(b, &frames, wish, ret_theirs, err)
			       : 0;
		if (r < 0)
			return r;
		wish->asks = true; /* another may have it */
	}
	*ret_theirs = r < 0;
	return r;
}

/* What the peer has to do with it. */
static void batch_blame(struct batch *b, struct ql_peers *peers,
			struct ql_peer *peer, int error, uint64_t deadline,
			const struct ql_error *err)
{
	ql_debug("msg=\"a peer fails\" peer=%s error=%d text=\"%s\"",
		 peer->address, error, err->text);
	if (error == -EBADMSG || error == -EPROTO)
		ql_peer_lied(peers, peer, err->text);
	else if (error == -ECANCELED || b->yielded)
		return;
	else if (error == -ETIMEDOUT && ql_now_ns() >= deadline)
		ql_peer_slow(peers, peer, 0);
	else
		ql_peer_failed(peers, peer, error);
}

/* Whoever waits for it has other places to get it from. */
static uint64_t deadline_of(const struct ql_filler *f,
			    const struct ql_fill_run *run,
			    const struct candidate *c, bool must)
{
	uint64_t now = ql_now_ns(), most = f->options.read_timeout;
	uint64_t wait = SPARE_NS + SPARE_TIMES * c->cost;

	if (run->priority == QL_FILL_BACKGROUND)
		return UINT64_MAX;
	return now + (must || wait > most ? most : wait);
}

/* 0, also where the peer failed; else an error of this machine's. */
static int ask(struct ql_filler *f, const struct ql_fill_run *run,
	       struct ql_fill_wishes *w, const struct candidate *c, bool must)
{
	_cleanup_(batch_release) struct batch b = { .f = f, .run = run };
	struct ql_peers *peers = f->options.peers;
	struct ql_error err = QL_ERROR_INIT;
	uint64_t deadline = deadline_of(f, run, c, must);
	bool theirs = false;
	int r = batch_init(&b, w, c->filter);

	if (r == 0)
		r = ql_fill_sink_new(f, run->toc, &b.sink, &err);
	if (r < 0)
		return r;
	ql_fill_sink_set(b.sink, run->priority, false);
	count(f, 1, 0);
	if (ql_peer_batch_open(peers, c->peer, b.parts, b.n, deadline, &b.in,
			       &err) < 0)
		return 0; /* it was told so */
	r = batch_read(&b, &theirs, &err);
	if (theirs)
		batch_blame(&b, peers, c->peer, r, deadline, &err);
	return theirs ? 0 : r;
}

bool *ql_fill_peers_run(struct ql_filler *f, const struct ql_fill_run *run,
			bool must)
{
	struct ql_peers *peers = f->options.peers;
	struct ql_peer *asked[ROUNDS] = { NULL };
	struct ql_fill_wishes w = { 0 };
	bool *came = NULL;
	int r = 0, rounds = 0;

	if (!peers || run->packs || ql_fill_wishes_init(f, run, &w) < 0)
		return NULL;
	while (r == 0 && rounds < ROUNDS) {
		struct candidate best = { 0 };

		if (!candidate_find(peers, run, &w, must, asked, &best))
			break;
		r = ask(f, run, &w, &best, must);
		asked[rounds++] = ql_peer_ref(best.peer);
		candidate_release(&best);
	}
	if (rounds > 0)
		came = ql_fill_wishes_came(&w, run);
	for (int i = 0; i < rounds; i++)
		ql_peer_unref(asked[i]);
	ql_fill_wishes_release(&w);
	return came;
}
