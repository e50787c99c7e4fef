/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The places that content comes from: one source for each repository, opened
 * when first needed and kept, so that its connections and tokens are used
 * again.  The catalogue knows which repositories have a blob.
 */
#include "fetch/fill-private.h"

#include <errno.h>
#include <string.h>

enum { NAMES_MAX = 4096 };

struct fill_source {
	struct fill_source *next;
	char *name;	       /* owned; the repository */
	struct ql_ref ref;     /* owned */
	struct ql_source *src; /* owned */
};

struct ql_fill_sources {
	pthread_mutex_t lock;
	struct fill_source *list; /* lock */
	bool stop;		  /* lock */
	struct ql_pull_options options;
};

int ql_fill_sources_new(struct ql_filler *f, struct ql_error *err)
{
	struct ql_fill_sources *s = calloc(1, sizeof(*s));

	if (!s)
		return ql_error_nomem(err);
	(void)pthread_mutex_init(&s->lock, NULL);
	s->options.plain_http = f->options.plain_http;
	s->options.config_dir = f->options.config_dir;
	f->sources = s;
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
	*ret_one = one;
	return 0;
}

static int source_find(struct ql_fill_sources *s, const char *name,
		       struct ql_source **ret_src, struct ql_error *err)
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
	if (r == 0)
		*ret_src = one->src;
	(void)pthread_mutex_unlock(&s->lock);
	return r;
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
	struct ql_source *src = NULL;
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
	r = source_find(f->sources, name, &src, err);
	if (r == 0)
		r = src->ops->open_range(src, &d, offset, len, ret_stream, err);
	return r < 0 ? ql_error_prefix(err, "%s", name) : 0;
}
