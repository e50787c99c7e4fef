/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The places that content comes from: one source for each repository, opened
 * when first needed and kept while images are that may need it, so that its
 * connections and tokens are used again.  The catalogue knows which
 * repositories have a blob.
 */
#include "fetch/fill-private.h"
#include "fetch/peer-private.h"

#include <errno.h>
#include <string.h>

enum {
	NAMES_MAX = 4096,
	/* That are kept though nobody reads from them: each has a thread and
	 * connections, and other nodes may name as many as they like. */
	KEPT_MAX = 64,
};
#define IDLE_NS (60 * 1000000000ULL) /* before one is closed */

struct fill_source {
	struct fill_source *next;
	char *name;	       /* owned; the repository */
	struct ql_ref ref;     /* owned */
	struct ql_source *src; /* owned */
	unsigned int users;    /* lock: streams, and those who open one */
	uint64_t used;	       /* lock: ns; when there was one last */
};

struct ql_fill_sources {
	pthread_mutex_t lock;
	struct fill_source *list; /* lock */
	size_t n;		  /* lock */
	bool stop;		  /* lock */
	struct ql_pull_options options;
};

int ql_fill_sources_new(const struct ql_pull_options *options,
			struct ql_fill_sources **ret_s, struct ql_error *err)
{
	struct ql_fill_sources *s = calloc(1, sizeof(*s));

	if (!s)
		return ql_error_nomem(err);
	(void)pthread_mutex_init(&s->lock, NULL);
	s->options = *options;
	*ret_s = s;
	return 0;
}

void ql_fill_sources_cancel(struct ql_fill_sources *s)
{
	(void)pthread_mutex_lock(&s->lock);
	s->stop = true;
	for (struct fill_source *one = s->list; one; one = one->next)
		one->src->ops->cancel(one->src);
	(void)pthread_mutex_unlock(&s->lock);
}

static void source_free(struct fill_source *one)
{
	ql_source_free(one->src);
	ql_ref_release(&one->ref);
	free(one->name);
	free(one);
}

void ql_fill_sources_free(struct ql_fill_sources *s)
{
	struct fill_source *one;

	if (!s)
		return;
	while ((one = s->list)) {
		s->list = one->next;
		source_free(one);
	}
	(void)pthread_mutex_destroy(&s->lock);
	free(s);
}

void ql_fill_sources_sweep(struct ql_fill_sources *s, bool all)
{
	struct fill_source **p = &s->list, *gone = NULL, *one;
	uint64_t now = ql_now_ns();

	(void)pthread_mutex_lock(&s->lock);
	while ((one = *p)) {
		if (one->users > 0 ||
		    (!all && s->n <= KEPT_MAX && now - one->used < IDLE_NS)) {
			p = &one->next;
			continue;
		}
		*p = one->next;
		s->n--;
		one->next = gone;
		gone = one;
	}
	(void)pthread_mutex_unlock(&s->lock);
	while ((one = gone)) {
		gone = one->next;
		source_free(one);
	}
}

static int source_new(struct ql_fill_sources *s, const char *name,
		      struct fill_source **ret_one, struct ql_error *err)
{
	struct fill_source *one = calloc(1, sizeof(*one));
	struct ql_pull_options options = s->options;
	int r;

	if (!one)
		return ql_error_nomem(err);
	one->name = strdup(name);
	if (strncmp(name, QL_PLAIN_PREFIX, strlen(QL_PLAIN_PREFIX)) == 0) {
		options.plain_http = true;
		name += strlen(QL_PLAIN_PREFIX);
	}
	r = one->name ? ql_ref_parse(name, &one->ref, err)
		      : ql_error_nomem(err);
	if (r == 0)
		r = ql_source_open(&one->ref, &options, &one->src, err);
	if (r == 0 && !one->src->ops->open_range)
		r = ql_error_set(err, -EOPNOTSUPP,
				 "%s: cannot be read in parts", name);
	if (r < 0) {
		source_free(one);
		return r;
	}
	one->next = s->list;
	s->list = one;
	s->n++;
	*ret_one = one;
	return 0;
}

/* With one more user. */
static int source_find(struct ql_fill_sources *s, const char *name,
		       struct fill_source **ret_one, struct ql_error *err)
{
	struct fill_source *one;
	int r = 0;

	(void)pthread_mutex_lock(&s->lock);
	for (one = s->list; one && strcmp(one->name, name) != 0;
	     one = one->next)
		;
	if (s->stop)
		r = ql_error_set(err, -ECANCELED, "canceled");
	else if (!one)
		r = source_new(s, name, &one, err);
	if (r == 0) {
		one->users++;
		*ret_one = one;
	}
	(void)pthread_mutex_unlock(&s->lock);
	return r;
}

static void source_put(struct ql_fill_sources *s, struct fill_source *one)
{
	(void)pthread_mutex_lock(&s->lock);
	one->users--;
	one->used = ql_now_ns();
	(void)pthread_mutex_unlock(&s->lock);
}

/* ---- streams, each of which uses its source ---- */

struct source_stream {
	struct ql_stream base;
	struct ql_stream *inner;	 /* owned */
	struct ql_fill_sources *sources; /* borrowed */
	struct fill_source *one;	 /* one of its users */
};

static ssize_t source_stream_read(struct ql_stream *s, void *buf, size_t len,
				  struct ql_error *err)
{
	return ql_stream_read(((struct source_stream *)s)->inner, buf, len,
			      err);
}

static void source_stream_free(struct ql_stream *s)
{
	struct source_stream *ss = (struct source_stream *)s;

	ql_stream_free(ss->inner);
	if (ss->one)
		source_put(ss->sources, ss->one);
	free(ss);
}

static const struct ql_stream_ops source_stream_ops = { source_stream_read,
							source_stream_free };

int ql_fill_sources_open(struct ql_fill_sources *s, const char *name,
			 const struct ql_descriptor *d, uint64_t offset,
			 uint64_t len, struct ql_stream **ret_stream,
			 struct ql_error *err)
{
	struct source_stream *ss = calloc(1, sizeof(*ss));
	int r;

	if (!ss)
		return ql_error_nomem(err);
	ss->base.ops = &source_stream_ops;
	ss->sources = s;
	r = source_find(s, name, &ss->one, err);
	if (r == 0)
		r = ss->one->src->ops->open_range(ss->one->src, d, offset, len,
						  &ss->inner, err);
	if (r < 0) {
		source_stream_free(&ss->base);
		return ql_error_prefix(err, "%s", name);
	}
	*ret_stream = &ss->base;
	return 0;
}

uint32_t ql_fill_sources_flags(struct ql_stream *stream)
{
	return ql_source_flags(((struct source_stream *)stream)->one->src);
}

/* The n-th of the names in buf, or NULL. */
static const char *name_at(const struct ql_buf *buf, unsigned int n)
{
	size_t pos = 0;

	while (n > 0 && pos < buf->len) {
		pos += strlen(buf->data + pos) + 1;
		n--;
	}
	return pos < buf->len ? buf->data + pos : NULL;
}

int ql_fill_source_open(struct ql_filler *f, const struct ql_toc_blob *blob,
			unsigned int n, uint64_t offset, uint64_t len,
			struct ql_stream **ret_stream, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf names = QL_BUF_INIT(NAMES_MAX);
	struct ql_descriptor d = { .digest = blob->digest, .size = blob->size };
	const char *name = NULL;
	int r = -ENOENT;

	/* The first place is the spool, if the blob is coming. */
	if (n == 0)
		r = ql_fill_spool_open(f, &blob->digest, offset, len,
				       ret_stream, err);
	else
		n--;
	if (r != -ENOENT)
		return r;
	r = ql_blob_sources(f->store, &blob->digest, &names);
	if (r == 0)
		name = name_at(&names, n);
	if (!name)
		return -ENXIO;
	return ql_fill_sources_open(f->sources, name, &d, offset, len,
				    ret_stream, err);
}

bool ql_fill_peers_doubt(struct ql_filler *f, const struct ql_fill_toc *toc,
			 uint64_t from, uint64_t to)
{
	struct ql_peers *peers = f->options.peers;
	struct ql_toc_span span;
	struct ql_toc_blob blob;
	bool came = false;
	uint32_t i;

	if (!peers || ql_toc_span_at(toc->toc, from, &i) < 0)
		return false;
	for (; from < to && ql_toc_span(toc->toc, i, &span) == 0; i++) {
		from = span.raw + span.raw_len;
		if (ql_toc_blob(toc->toc, span.blob, &blob) == 0 &&
		    ql_peers_doubt(peers, &blob.digest, ql_span_start(&span),
				   span.offset + span.len))
			came = true;
	}
	return came;
}
