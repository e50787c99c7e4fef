/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether what is packed of a blob (store/packed.h) still decodes to what its
 * table of contents says, and taking out what does not.
 *
 * Spans that follow one another are decoded in one go, and each chunk that they
 * have all of is compared with its digest.  Others punch and put at any time:
 * what looks damaged is decoded a second time, and is damaged only if it is
 * said to be there after that, too.
 */
#include "fetch/fill-private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

/* Of one blob. */
struct check {
	struct ql_store *store; /* borrowed, as these */
	const struct ql_toc *toc;
	struct ql_pace *pace;
	struct ql_toc_blob blob;
	uint64_t bytes; /* read */

	/* The spans that are decoded. */
	int fd;		  /* owned */
	uint64_t at, end; /* what is to be read of fd next, and how far */

	/* What comes out. */
	struct ql_hasher *hasher; /* owned */
	uint64_t raw;		  /* of the next byte */
	uint32_t next;		  /* in raw order: the next chunk to begin */
	bool active;		  /* one has */
	struct ql_toc_chunk chunk;
	uint32_t done; /* bytes of it */
};

/* ---- chunks ---- */

static int chunk_end(struct check *c, struct ql_error *err)
{
	const struct ql_digest *want = &c->chunk.digest;
	struct ql_toc_file file;
	struct ql_digest d;

	if (ql_toc_file(c->toc, c->chunk.file, &file) == 0 &&
	    file.size == c->chunk.len)
		want = &file.digest;
	ql_hasher_final(c->hasher, &d);
	if (!ql_digest_equal(&d, want))
		return ql_error_set(err, -EBADMSG,
				    "a chunk has another digest");
	c->active = false;
	return 0;
}

static int chunk_add(struct check *c, const char *data, size_t len,
		     struct ql_error *err)
{
	ql_hasher_update(c->hasher, data, len);
	c->done += (uint32_t)len;
	return c->done == c->chunk.len ? chunk_end(c, err) : 0;
}

/* The next byte's chunk begins; or *ret_skip bytes are none's. */
static int chunk_begin(struct check *c, uint64_t *ret_skip,
		       struct ql_error *err)
{
	uint32_t index;

	*ret_skip = UINT64_MAX;
	for (; c->next < ql_toc_chunks(c->toc); c->next++) {
		if (ql_toc_ordered(c->toc, c->next, &index) < 0 ||
		    ql_toc_chunk(c->toc, index, &c->chunk) < 0)
			return ql_error_set(err, -ENODATA, "a damaged table");
		if (c->chunk.raw < c->raw || c->chunk.len == 0)
			continue;
		*ret_skip = c->chunk.raw - c->raw;
		if (*ret_skip > 0)
			return 0;
		c->next++;
		c->done = 0;
		c->active = true;
		return ql_hasher_reset(c->hasher) < 0 ? ql_error_nomem(err) : 0;
	}
	return 0;
}

static int check_write(void *arg, const void *data, size_t len,
		       struct ql_error *err)
{
	struct check *c = arg;
	const char *p = data;
	int r = 0;

	while (len > 0 && r == 0) {
		uint64_t n = UINT64_MAX;

		if (!c->active) {
			r = chunk_begin(c, &n, err);
			if (r < 0)
				return r;
		}
		if (c->active)
			n = c->chunk.len - c->done;
		if (n > len)
			n = len;
		c->raw += n;
		if (c->active)
			r = chunk_add(c, p, (size_t)n, err);
		p += n;
		len -= (size_t)n;
	}
	return r;
}

/* ---- spans ---- */

static ssize_t check_read(void *arg, void *buf, size_t len,
			  struct ql_error *err)
{
	struct check *c = arg;
	ssize_t n;
	int r;

	if (c->pace->yield)
		c->pace->yield(c->pace->arg);
	if (len > c->end - c->at)
		len = (size_t)(c->end - c->at);
	n = len > 0 ? ql_pread_full(c->fd, buf, len, c->at) : 0;
	if (n < 0)
		return ql_error_errno(err, (int)n, "read");
	c->at += (uint64_t)n;
	c->bytes += (uint64_t)n;
	r = ql_pace_wait(c->pace, (uint64_t)n);
	return r < 0 ? ql_error_errno(err, r, "canceled") : n;
}

static bool span_is_here(const struct check *c, uint32_t i)
{
	struct ql_toc_span span;
	uint64_t offset, len;

	if (ql_toc_span(c->toc, i, &span) < 0)
		return false;
	ql_toc_span_range(&span, &offset, &len);
	return ql_packed_has(c->store, &c->blob.digest, offset, len);
}

static bool spans_are_here(const struct check *c, uint32_t first, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (!span_is_here(c, first + i))
			return false;
	return true;
}

static int spans_decode(struct check *c, uint32_t first, uint32_t n,
			uint32_t *ret_at, struct ql_error *err)
{
	struct ql_span_io io = { check_read, check_write, c };
	_cleanup_(ql_span_decoder_freep) struct ql_span_decoder *d = NULL;
	struct ql_toc_span span;
	int r = ql_span_decoder_new(&io, c->at, &d, err);

	c->active = false;
	for (*ret_at = first; r == 0 && *ret_at < first + n; ++*ret_at) {
		if (ql_toc_span(c->toc, *ret_at, &span) < 0)
			return ql_error_set(err, -ENODATA, "a damaged table");
		if (!c->active || c->raw != span.raw) {
			c->active = false;
			c->raw = span.raw;
			c->next = ql_toc_order_from(c->toc, span.raw);
		}
		r = ql_span_decode(d, &span, err);
		if (r < 0)
			return r;
	}
	return r;
}

/* -EBADMSG: some are damaged, and which.  -ENOENT: they went meanwhile. */
static int spans_check(struct check *c, uint32_t first, uint32_t n,
		       uint32_t *ret_bad, uint32_t *ret_n_bad,
		       struct ql_error *err)
{
	struct ql_toc_blob blob;
	uint64_t offset, len;
	uint32_t at, from;
	int r;

	if (ql_fill_run_range(c->toc, first, n, &blob, &offset, &len) < 0)
		return ql_error_set(err, -ENODATA, "a damaged table");
	r = ql_packed_open(c->store, &blob.digest, offset, len, &c->fd, err);
	if (r < 0)
		return r;
	c->at = offset;
	c->end = offset + len;
	/* At a rate nobody wants the content, but to know what the disk has. */
	if (c->pace->rate > 0)
		(void)posix_fadvise(c->fd, (off_t)offset, (off_t)len,
				    POSIX_FADV_DONTNEED);
	r = spans_decode(c, first, n, &at, err);
	if (c->pace->rate > 0)
		(void)posix_fadvise(c->fd, (off_t)offset, (off_t)len,
				    POSIX_FADV_DONTNEED);
	(void)close(ql_take_fd(&c->fd));
	/* The disk has lost it; the file is shorter than it was; or it is not
	 * what it was. */
	if (r != -EIO && r != -ECONNRESET && r != -EBADMSG)
		return r;
	from = at;
	if (c->active && ql_toc_span_at(c->toc, c->chunk.raw, &from) < 0)
		from = at;
	*ret_bad = from < first ? first : from;
	*ret_n_bad = at + 1 - *ret_bad;
	return -EBADMSG;
}

/* ---- a blob ---- */

/* What was found of it. */
struct damage {
	bool punch;	/* take it out */
	uint32_t parts; /* that are damaged */
	uint64_t first; /* in the blob: where the first begins */
};

/* A second look. */
static int spans_doubt(struct check *c, uint32_t first, uint32_t n,
		       struct damage *damage, struct ql_error *err)
{
	struct ql_error other = QL_ERROR_INIT;
	struct ql_toc_blob blob;
	uint64_t offset, len;
	uint32_t bad, n_bad;
	int r = spans_check(c, first, n, &bad, &n_bad, &other);

	if (r != -EBADMSG)
		return r < 0 ? ql_error_set(err, r, "%s", other.text) : 0;
	if (!spans_are_here(c, first, n) ||
	    ql_fill_run_range(c->toc, first, n, &blob, &offset, &len) < 0)
		return 0;
	if (damage->parts++ == 0)
		damage->first = offset;
	return damage->punch ? ql_packed_punch(c->store, &blob.digest, offset,
					       len, err)
			     : 0;
}

static int blob_check(struct check *c, struct damage *damage,
		      struct ql_error *err)
{
	uint32_t i = c->blob.first_span, end = i + c->blob.n_spans;
	int r = 0;

	while (i < end && (r == 0 || r == -ENOENT)) {
		struct ql_error other = QL_ERROR_INIT;
		uint32_t n = 0, bad = i, n_bad;

		while (i + n < end && span_is_here(c, i + n))
			n++;
		if (n == 0) {
			i++;
			continue;
		}
		r = spans_check(c, i, n, &bad, &n_bad, &other);
		if (r == -EBADMSG) {
			r = spans_doubt(c, bad, n_bad, damage, err);
			i = bad + n_bad;
		} else {
			i += n;
			if (r < 0)
				(void)ql_error_set(err, r, "%s", other.text);
		}
	}
	return r == -ENOENT ? 0 : r;
}

/* ---- its table ---- */

struct search {
	struct ql_store *store;		/* borrowed */
	const struct ql_digest *digest; /* borrowed; the blob's */
	struct ql_toc *toc;		/* owned */
	struct ql_toc_blob blob;
};

static bool toc_has(struct search *s)
{
	for (uint32_t i = 0; s->toc && i < ql_toc_blobs(s->toc); i++)
		if (ql_toc_blob(s->toc, i, &s->blob) == 0 &&
		    ql_digest_equal(&s->blob.digest, s->digest))
			return true;
	ql_toc_close(ql_take_ptr(s->toc));
	return false;
}

/* 1: it is found. */
static int image_look(const char *name, const struct ql_image_info *info,
		      void *arg)
{
	struct search *s = arg;

	(void)name;
	if (!(info->flags & QL_IMAGE_READY) ||
	    ql_toc_open_image(s->store, info, &s->toc, NULL) < 0)
		return 0;
	return toc_has(s);
}

/* That of its layer, or, where an image came ready-made, of that. */
static bool toc_search(struct search *s)
{
	if (ql_toc_open_blob(s->store, s->digest, &s->toc, NULL) == 0 &&
	    toc_has(s))
		return true;
	return ql_image_each(s->store, image_look, s, NULL) == 1;
}

static int packed_look(struct ql_store *store, const struct ql_digest *digest,
		       struct ql_pace *pace, uint64_t *ret_bytes,
		       struct damage *damage, struct ql_error *err)
{
	struct ql_pace none = { 0 };
	struct search s = { .store = store, .digest = digest };
	struct check c = { .store = store,
			   .pace = pace ? pace : &none,
			   .fd = -1 };
	int r;

	*ret_bytes = 0;
	if (!toc_search(&s))
		return 0; /* nobody can tell, nor read it */
	c.toc = s.toc;
	c.blob = s.blob;
	c.hasher = ql_hasher_new();
	r = c.hasher ? blob_check(&c, damage, err) : ql_error_nomem(err);
	if (r == -ENODATA)
		r = 0; /* the table is damaged; that is found elsewhere */
	ql_hasher_free(c.hasher);
	ql_toc_close(s.toc);
	*ret_bytes = c.bytes;
	return r;
}

int ql_packed_verify(struct ql_store *store, const struct ql_digest *blob,
		     struct ql_pace *pace, uint64_t *ret_bytes,
		     struct ql_error *err)
{
	char hex[QL_DIGEST_HEX + 1];
	struct damage damage = { 0 };
	int r = packed_look(store, blob, pace, ret_bytes, &damage, err);

	if (r < 0 || damage.parts == 0)
		return r;
	(void)ql_digest_hex(blob, hex);
	return ql_error_set(err, -EBADMSG,
			    "packed/%.2s/%s: %" PRIu32
			    " damaged parts, the first at byte %" PRIu64,
			    hex, hex + 2, damage.parts, damage.first);
}

int ql_repair_packed(struct ql_store *store, const struct ql_digest *blob,
		     struct ql_error *err)
{
	struct damage damage = { .punch = true };
	uint64_t bytes = 0;

	return packed_look(store, blob, NULL, &bytes, &damage, err);
}
