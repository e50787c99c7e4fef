/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An archive whose entries stand in another order: what is wanted first comes
 * first, each with the folders above it and the file that it is a hardlink
 * to, which an extractor needs before it.  The rest follows as it was.
 *
 * The archive is kept in a file without a name, and read from there by
 * ranges; an entry is its headers, its content and its padding.
 */
#include "fetch/push-private.h"

#include <errno.h>
#include <string.h>

struct entry {
	char *path;   /* owned */
	char *target; /* owned; of a hardlink, or NULL */
	uint64_t start, end;
	bool taken;
};

struct order {
	struct ql_stream base;
	int fd;		       /* owned; the archive */
	uint64_t size;	       /* bytes of it */
	struct entry *entries; /* owned; n, as they came */
	size_t n, cap;
	uint32_t *by_path;  /* owned; n, sorted */
	uint32_t *sequence; /* owned; n_sequence: in the new order */
	size_t n_sequence;
	size_t at;	 /* in sequence */
	uint64_t offset; /* in that entry */
};

/* ---- reading the archive ---- */

static int keep(void *arg, const void *data, size_t len, struct ql_error *err)
{
	struct order *o = arg;
	int r = ql_write_full(o->fd, data, len);

	if (r < 0)
		return ql_error_errno(err, r, "write a temporary file");
	o->size += len;
	return 0;
}

/* Its headers began behind the entry before, and are kept by now. */
static int entry_add(void *arg, const struct ql_tar_entry *e,
		     const struct ql_tar_raw *raw, struct ql_error *err)
{
	struct order *o = arg;
	struct entry *next;

	if (o->n >= QL_LAYER_ENTRIES_MAX)
		return ql_layerwriter_refuse(e->path, "is one entry too many",
					     err);
	if (o->n == o->cap) {
		size_t cap = o->cap ? o->cap * 2 : 256;
		struct entry *grown =
			reallocarray(o->entries, cap, sizeof(*grown));

		if (!grown)
			return ql_error_nomem(err);
		o->entries = grown;
		o->cap = cap;
	}
	next = &o->entries[o->n];
	*next = (struct entry){
		.path = strdup(e->path),
		.start = o->n > 0 ? o->entries[o->n - 1].end : 0,
		.end = o->size + raw->stored + (-raw->stored & 511),
	};
	if (next->path && e->type == '1')
		next->target = strdup(e->link);
	if (!next->path || (e->type == '1' && !next->target)) {
		free(next->path);
		return ql_error_nomem(err);
	}
	o->n++;
	return 0;
}

/* ---- the new order ---- */

static int by_path(const void *a, const void *b, void *arg)
{
	const struct entry *entries = arg;
	uint32_t ia = *(const uint32_t *)a;
	uint32_t ib = *(const uint32_t *)b;
	int r = strcmp(entries[ia].path, entries[ib].path);

	return r ? r : (ia > ib) - (ia < ib);
}

/* The entry of len bytes of path; NULL: none. */
static struct entry *find(const struct order *o, const char *path, size_t len)
{
	size_t lo = 0;
	size_t hi = o->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		struct entry *e = &o->entries[o->by_path[mid]];
		int r = strncmp(e->path, path, len);

		if (r == 0 && e->path[len] == '\0')
			return e;
		if (r < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

static void take(struct order *o, struct entry *e)
{
	if (!e || e->taken)
		return;
	e->taken = true;
	o->sequence[o->n_sequence++] = (uint32_t)(e - o->entries);
}

/* The folders above it, what it links to, and itself. */
static void take_path(struct order *o, const char *path)
{
	struct entry *e = find(o, path, strlen(path));

	if (!e || e->taken)
		return;
	take(o, find(o, "", 0));
	for (const char *p = strchr(path, '/'); p; p = strchr(p + 1, '/'))
		take(o, find(o, path, (size_t)(p - path)));
	if (e->target) {
		/* Whose own target would be no file; no loop from here. */
		struct entry *target = find(o, e->target, strlen(e->target));

		if (target && !target->target)
			take_path(o, target->path);
	}
	take(o, e);
}

static int order_make(struct order *o, const char *const *first, size_t n_first,
		      struct ql_error *err)
{
	size_t room = o->n ? o->n : 1;

	o->by_path = calloc(room, sizeof(*o->by_path));
	o->sequence = calloc(room, sizeof(*o->sequence));
	if (!o->by_path || !o->sequence)
		return ql_error_nomem(err);
	for (uint32_t i = 0; i < o->n; i++)
		o->by_path[i] = i;
	qsort_r(o->by_path, o->n, sizeof(*o->by_path), by_path, o->entries);
	for (size_t i = 0; i < n_first; i++) {
		const char *p = first[i];

		while (*p == '/')
			p++;
		if (*p)
			take_path(o, p);
	}
	return 0;
}

static void order_rest(struct order *o)
{
	for (size_t i = 0; i < o->n; i++)
		take(o, &o->entries[i]);
}

/* ---- reading it in that order ---- */

/* Bytes left of the entry that is next; 0 at the end of all. */
static uint64_t order_left(struct order *o, uint64_t *ret_pos)
{
	for (; o->at < o->n_sequence; o->at++, o->offset = 0) {
		const struct entry *e = &o->entries[o->sequence[o->at]];

		*ret_pos = e->start + o->offset;
		if (*ret_pos < e->end)
			return e->end - *ret_pos;
	}
	return 0;
}

static ssize_t order_read(struct ql_stream *s, void *buf, size_t len,
			  struct ql_error *err)
{
	struct order *o = (struct order *)s;
	uint64_t pos = 0;
	uint64_t left = order_left(o, &pos);
	ssize_t n;

	if (len > left)
		len = (size_t)left;
	if (len == 0)
		return 0;
	if (pos >= o->size) { /* padding that the last entry lacks */
		memset(buf, 0, len);
		o->offset += len;
		return (ssize_t)len;
	}
	if (len > o->size - pos)
		len = (size_t)(o->size - pos);
	n = ql_pread_full(o->fd, buf, len, pos);
	if (n <= 0)
		return ql_error_errno(err, n < 0 ? (int)n : -EIO,
				      "read a temporary file");
	o->offset += (uint64_t)n;
	return n;
}

static void order_free(struct ql_stream *s)
{
	struct order *o = (struct order *)s;

	for (size_t i = 0; i < o->n; i++) {
		free(o->entries[i].path);
		free(o->entries[i].target);
	}
	free(o->entries);
	free(o->by_path);
	free(o->sequence);
	if (o->fd >= 0)
		(void)close(o->fd);
	free(o);
}

static const struct ql_stream_ops order_ops = { order_read, order_free };

int ql_tar_order(struct ql_stream *tar, const char *const *first,
		 size_t n_first, const char *tmp_dir,
		 struct ql_stream **ret_stream, uint32_t *ret_n_first,
		 struct ql_error *err)
{
	static const struct ql_tarcut_ops cut = { keep, entry_add, keep };
	struct order *o = calloc(1, sizeof(*o));
	int r;

	if (!o)
		return ql_error_nomem(err);
	o->base.ops = &order_ops;
	o->fd = -1;
	r = ql_tmpfile(tmp_dir, &o->fd, err);
	if (r == 0)
		r = ql_tar_cut(tar, &cut, o, err);
	if (r == 0)
		r = order_make(o, first, n_first, err);
	if (r < 0) {
		order_free(&o->base);
		return r;
	}
	*ret_n_first = (uint32_t)o->n_sequence;
	order_rest(o);
	*ret_stream = &o->base;
	return 0;
}
