/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer in the format that somebody asked for: its options, and what happens
 * where it cannot have a table of contents.
 */
#include "fetch/push-private.h"

#include <errno.h>
#include <string.h>

enum {
	/*
	 * A page that is missing costs a piece: at 256 KiB some 100 KiB to
	 * fetch, 8 ms at 100 Mbit/s, which is less than a round trip there.
	 * Half of it makes blobs 2 % larger and tables twice as long, for
	 * most files are smaller anyway.
	 */
	CHUNK_DEFAULT = 256 << 10,
	CHUNK_MIN = 4 << 10,
	CHUNK_MAX = 16 << 20,
	ZSTD_LEVEL = 3,
	ZSTD_LEVEL_MAX = 19,
	GZIP_LEVEL = 6,
	GZIP_LEVEL_MAX = 9,
};

enum {
	WINDOW = 1 << 20, /* bytes of the archive read ahead */
	REST = 64 << 10,
};

static const char *const formats[] = {
	[QL_PUSH_ZSTD_CHUNKED] = "zstd:chunked",
	[QL_PUSH_ESTARGZ] = "estargz",
	[QL_PUSH_GZIP] = "gzip",
};

int ql_push_format_parse(const char *text, enum ql_push_format *ret_format,
			 struct ql_error *err)
{
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		if (strcmp(text, formats[i]) == 0) {
			*ret_format = (enum ql_push_format)i;
			return 0;
		}
	}
	return ql_error_set(err, -EINVAL,
			    "%s: no such format; there are zstd:chunked, "
			    "estargz, gzip",
			    text);
}

int ql_push_options_check(struct ql_push_options *o, struct ql_error *err)
{
	bool zstd = o->format == QL_PUSH_ZSTD_CHUNKED;
	int most = zstd ? ZSTD_LEVEL_MAX : GZIP_LEVEL_MAX;

	if (o->level == 0)
		o->level = zstd ? ZSTD_LEVEL : GZIP_LEVEL;
	if (o->chunk_size == 0)
		o->chunk_size = CHUNK_DEFAULT;
	if (o->level < 1 || o->level > most)
		return ql_error_set(err, -EINVAL, "level %d: %s has 1 to %d",
				    o->level, formats[o->format], most);
	if (o->chunk_size < CHUNK_MIN || o->chunk_size > CHUNK_MAX)
		return ql_error_set(err, -EINVAL,
				    "chunks of %u bytes: %d to %d are "
				    "possible",
				    o->chunk_size, CHUNK_MIN, CHUNK_MAX);
	if (o->n_first > 0 && o->format != QL_PUSH_ESTARGZ)
		return ql_error_set(err, -EINVAL, "%s has no order of files",
				    formats[o->format]);
	if (!o->tmp_dir || !*o->tmp_dir)
		o->tmp_dir = getenv("TMPDIR");
	if (!o->tmp_dir || !*o->tmp_dir)
		o->tmp_dir = "/var/tmp";
	return 0;
}

struct ql_layer_format ql_layer_format_of(const struct ql_push_options *o,
					  unsigned int threads)
{
	return (struct ql_layer_format){
		.format = o->format,
		.level = o->level,
		.chunk_size = o->chunk_size,
		.threads = threads,
		.tmp_dir = o->tmp_dir,
		.first = o->first,
		.n_first = o->n_first,
	};
}

void ql_converted_release(struct ql_converted *c)
{
	ql_written_release(&c->written);
	free(c->why);
	*c = (struct ql_converted){ .written = { .fd = -1 } };
}

/* ---- the archive, counted, and hashed where nobody knows its diff ID ---- */

struct watched {
	struct ql_stream base;
	struct ql_stream *inner;  /* owned */
	struct ql_hasher *hasher; /* owned, or NULL */
	uint64_t bytes;
};

static ssize_t watched_read(struct ql_stream *s, void *buf, size_t len,
			    struct ql_error *err)
{
	struct watched *w = (struct watched *)s;
	ssize_t n = ql_stream_read(w->inner, buf, len, err);

	if (n > 0 && w->hasher)
		ql_hasher_update(w->hasher, buf, (size_t)n);
	w->bytes += n > 0 ? (uint64_t)n : 0;
	return n;
}

static void watched_free(struct ql_stream *s)
{
	(void)s; /* of who reads it */
}

static const struct ql_stream_ops watched_ops = { watched_read, watched_free };

static void watched_release(struct watched *w)
{
	ql_stream_free(w->inner);
	ql_hasher_free(w->hasher);
}

/* What a writer left of it, so that all is checked and counted. */
static int stream_drain(struct ql_stream *s, struct ql_error *err)
{
	_cleanup_free_ char *data = malloc(REST);
	ssize_t n;

	if (!data)
		return ql_error_nomem(err);
	while ((n = ql_stream_read(s, data, REST, err)) > 0)
		;
	return (int)n;
}

static int watched_write(struct watched *w, const struct ql_digest *diff_id,
			 const struct ql_layer_format *format,
			 struct ql_converted *c, struct ql_error *err)
{
	/* Reading, with all that it does, goes on beside compressing. */
	_cleanup_stream_ struct ql_stream *ahead = NULL;
	int r = ql_stream_readahead(&w->base, WINDOW, &ahead, err);

	if (r == 0)
		r = ql_layer_write(ahead, diff_id, format, &c->written, err);
	return r < 0 ? r : stream_drain(ahead, err);
}

static int convert(ql_tar_open_fn *open, void *arg,
		   const struct ql_digest *diff_id,
		   const struct ql_layer_format *format, struct ql_converted *c,
		   struct ql_error *err)
{
	static const struct ql_digest unknown;
	struct watched w = { .base = { &watched_ops } };
	bool own = format->format == QL_PUSH_ESTARGZ && !format->plain;
	int r = open(arg, &w.inner, err);

	if (r == 0 && !diff_id) {
		w.hasher = ql_hasher_new();
		if (!w.hasher)
			r = ql_error_nomem(err);
	}
	if (r == 0)
		r = watched_write(&w, diff_id ? diff_id : &unknown, format, c,
				  err);
	if (r == 0 && !diff_id && !own)
		ql_hasher_final(w.hasher, &c->written.diff_id);
	c->tar_size = w.bytes;
	watched_release(&w);
	return r;
}

int ql_layer_convert(ql_tar_open_fn *open, void *arg,
		     const struct ql_digest *diff_id,
		     const struct ql_layer_format *format,
		     struct ql_converted *ret, struct ql_error *err)
{
	_cleanup_converted_ struct ql_converted c = { .written = { .fd = -1 } };
	struct ql_layer_format plain = *format;
	int r = convert(open, arg, diff_id, format, &c, err);

	if (r == -EXDEV) {
		ql_debug("msg=\"no table of contents\" why=\"%s\"",
			 err ? err->text : "");
		c.why = strdup(err ? err->text : "");
		plain.plain = true;
		r = c.why ? convert(open, arg, diff_id, &plain, &c, err)
			  : ql_error_nomem(err);
	}
	if (r < 0)
		return r;
	*ret = c;
	c = (struct ql_converted){ .written = { .fd = -1 } };
	return 0;
}
