/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer's tar archive, read as a stream: POSIX ustar and pax (POSIX.1-2017,
 * pax, "ustar Interchange Format"), GNU (long names, base-256 numbers, sparse
 * files) and old v7 headers.  Where the standards leave room, this reads what
 * Go's archive/tar reads, since that wrote and is expected to read layers.
 *
 * Why not libarchive: its reader loses the sign of times before 1970 that
 * have a fraction ("-0.25" is read as +0.25, "-5.25" as -4.75), which the
 * caller cannot undo; and a layer's reader has to know where in the stream a
 * file's bytes stand.
 *
 * Content is handed out from the input buffer with no copy.
 */
#include "store/store-private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum {
	TAR_BLOCK = 512,
	TAR_BUFFER = 256 << 10,
	TAR_EXTENDED_MAX = 1 << 20, /* one extended header or long name */
};

static const char tar_zeros[TAR_BUFFER / 4];

struct ql_tar {
	struct ql_stream *in; /* borrowed */
	char *buf;	      /* owned; TAR_BUFFER bytes */
	size_t at, have;      /* buf[at..have) is not consumed yet */
	uint64_t pos;	      /* bytes consumed of the stream */

	struct ql_tar_entry entry;
	struct ql_pax pax;
	struct ql_sparse *map; /* owned; of a sparse file */
	size_t n_map, map_at;
	uint64_t stored;  /* content bytes left in the stream */
	uint64_t padding; /* bytes to skip behind them */
	uint64_t offset;  /* of the content handed out */
};

/* ---- input ---- */

int ql_tar_new(struct ql_stream *in, struct ql_tar **ret_tar,
	       struct ql_error *err)
{
	struct ql_tar *tar = calloc(1, sizeof(*tar));

	if (tar)
		tar->buf = malloc(TAR_BUFFER);
	if (!tar || !tar->buf) {
		free(tar);
		return ql_error_nomem(err);
	}
	tar->in = in;
	ql_pax_init(&tar->pax);
	*ret_tar = tar;
	return 0;
}

static void entry_release(struct ql_tar_entry *e)
{
	free(e->path);
	free(e->link);
	/* xattrs belong to the extended header. */
	*e = (struct ql_tar_entry){ 0 };
}

void ql_tar_free(struct ql_tar *tar)
{
	if (!tar)
		return;
	entry_release(&tar->entry);
	ql_pax_release(&tar->pax);
	free(tar->map);
	free(tar->buf);
	free(tar);
}

uint64_t ql_tar_pos(const struct ql_tar *tar)
{
	return tar->pos;
}

/* Fills an empty buffer.  Bytes there are, 0 at the end. */
static ssize_t tar_fill(struct ql_tar *tar, struct ql_error *err)
{
	ssize_t n;

	if (tar->at < tar->have)
		return (ssize_t)(tar->have - tar->at);
	n = ql_stream_read(tar->in, tar->buf, TAR_BUFFER, err);
	if (n >= 0) {
		tar->at = 0;
		tar->have = (size_t)n;
	}
	return n;
}

static void tar_consume(struct ql_tar *tar, size_t n)
{
	tar->at += n;
	tar->pos += n;
}

/* Reads exactly len bytes; fewer only where the stream ends: their number. */
static ssize_t tar_read(struct ql_tar *tar, void *buf, size_t len,
			struct ql_error *err)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = tar_fill(tar, err);
		size_t part;

		if (n < 0)
			return n;
		if (n == 0)
			break;
		part = len - done < (size_t)n ? len - done : (size_t)n;
		memcpy((char *)buf + done, tar->buf + tar->at, part);
		tar_consume(tar, part);
		done += part;
	}
	return (ssize_t)done;
}

static int tar_truncated(struct ql_error *err)
{
	return ql_error_set(err, -EBADMSG,
			    "the archive ends in the middle of an entry");
}

static int tar_skip(struct ql_tar *tar, uint64_t len, struct ql_error *err)
{
	while (len > 0) {
		ssize_t n = tar_fill(tar, err);

		if (n < 0)
			return (int)n;
		if (n == 0)
			return tar_truncated(err);
		if ((uint64_t)n > len)
			n = (ssize_t)len;
		tar_consume(tar, (size_t)n);
		len -= (uint64_t)n;
	}
	return 0;
}

/* Some writers (umoci insert) end an archive right behind the last byte. */
static int tar_skip_padding(struct ql_tar *tar, struct ql_error *err)
{
	char pad[TAR_BLOCK];
	ssize_t n = tar_read(tar, pad, (size_t)tar->padding, err);

	return n < 0 ? (int)n : 0;
}

/* ---- header fields ---- */

struct tar_header {	 /* offsets and lengths, not a layout to cast to */
	const char *raw; /* TAR_BLOCK bytes */
	bool ustar, gnu, star;
};

enum {
	F_NAME = 0,
	F_MODE = 100,
	F_UID = 108,
	F_GID = 116,
	F_SIZE = 124,
	F_MTIME = 136,
	F_SUM = 148,
	F_TYPE = 156,
	F_LINK = 157,
	F_MAGIC = 257,
	F_MAJOR = 329,
	F_MINOR = 337,
	F_PREFIX = 345,
	F_GNU_SPARSE = 386,
	F_GNU_MORE = 482,
	F_GNU_REAL = 483,
	F_STAR = 508,
};

/* Base-256, two's complement, big-endian (GNU, star): the first byte's high
 * bit marks it.  Returns -EINVAL where it does not fit. */
static int tar_base256(const uint8_t *p, size_t len, int64_t *ret)
{
	uint64_t fill = p[0] & 0x40 ? UINT64_MAX : 0;
	uint64_t v = fill;

	for (size_t i = 0; i < len; i++) {
		uint8_t b = p[i];

		if (i == 0)
			b = (uint8_t)(p[0] & 0x40 ? p[0] | 0x80 : p[0] & 0x7f);
		if (i + 8 < len && b != (uint8_t)fill)
			return -EINVAL;
		v = v << 8 | b;
	}
	if ((v >> 63) != (fill & 1))
		return -EINVAL;
	*ret = (int64_t)v;
	return 0;
}

/* Octal digits between blanks or NULs, or base-256.  Empty is 0. */
static int tar_number(const char *p, size_t len, int64_t *ret)
{
	uint64_t v = 0;
	size_t i = 0;

	if ((uint8_t)p[0] & 0x80)
		return tar_base256((const uint8_t *)p, len, ret);
	while (i < len && (p[i] == ' ' || p[i] == '\0'))
		i++;
	for (; i < len && p[i] >= '0' && p[i] <= '7'; i++) {
		if (v >> 60)
			return -EINVAL;
		v = v << 3 | (uint64_t)(p[i] - '0');
	}
	if (i < len && p[i] != ' ' && p[i] != '\0')
		return -EINVAL;
	*ret = (int64_t)v;
	return 0;
}

static int tar_field(const struct tar_header *h, size_t off, size_t len,
		     const char *what, int64_t min, int64_t max, int64_t *ret,
		     struct ql_error *err)
{
	int64_t v;

	if (tar_number(h->raw + off, len, &v) < 0)
		return ql_error_set(err, -EBADMSG, "a header's %s is no number",
				    what);
	if (v < min || v > max)
		return ql_error_set(err, -EBADMSG,
				    "a header's %s is out of range: %" PRId64,
				    what, v);
	*ret = v;
	return 0;
}

static char *tar_string(const char *p, size_t len)
{
	return strndup(p, strnlen(p, len));
}

static bool tar_checksum_ok(const char *raw)
{
	int64_t want;
	int64_t sum = 0;
	int64_t old = 0; /* some ancient writers summed signed bytes */

	for (int i = 0; i < TAR_BLOCK; i++) {
		char c = i >= F_SUM && i < F_SUM + 8 ? ' ' : raw[i];

		sum += (uint8_t)c;
		old += (int8_t)c;
	}
	if (tar_number(raw + F_SUM, 8, &want) < 0)
		return false;
	return want == sum || want == old;
}

/* ---- sparse maps ---- */

/* Segments must ascend, not overlap, end within the size, and add up to what
 * is stored. */
static int tar_check_map(struct ql_tar *tar, struct ql_error *err)
{
	uint64_t at = 0;
	uint64_t sum = 0;

	for (size_t i = 0; i < tar->n_map; i++) {
		const struct ql_sparse *s = &tar->map[i];
		uint64_t end;

		if (s->offset < at ||
		    __builtin_add_overflow(s->offset, s->len, &end) ||
		    end > tar->entry.size)
			return ql_error_set(err, -EBADMSG,
					    "a sparse file's map is wrong");
		at = end;
		sum += s->len;
	}
	if (sum != tar->stored)
		return ql_error_set(err, -EBADMSG,
				    "a sparse file's map is of %" PRIu64
				    " bytes, %" PRIu64 " are stored",
				    sum, tar->stored);
	return 0;
}

/* Old GNU: 4 pairs in the header, 21 in each block that follows. */
static int tar_gnu_pairs(struct ql_tar *tar, const struct tar_header *h,
			 size_t off, int n, struct ql_error *err)
{
	for (int i = 0; i < n; i++, off += 24) {
		int64_t offset;
		int64_t len;
		int r;

		if (h->raw[off] == '\0')
			break;
		r = tar_field(h, off, 12, "sparse map", 0, INT64_MAX, &offset,
			      err);
		if (r == 0)
			r = tar_field(h, off + 12, 12, "sparse map", 0,
				      INT64_MAX, &len, err);
		if (r == 0)
			r = ql_sparse_push(&tar->map, &tar->n_map,
					   (uint64_t)offset, (uint64_t)len);
		if (r < 0)
			return r;
	}
	return 0;
}

static int tar_gnu_sparse(struct ql_tar *tar, const struct tar_header *h,
			  struct ql_error *err)
{
	char block[TAR_BLOCK];
	struct tar_header next = { .raw = block };
	bool more = h->raw[F_GNU_MORE] != 0;
	int64_t real;
	int r = tar_field(h, F_GNU_REAL, 12, "size", 0, INT64_MAX, &real, err);

	if (r == 0)
		r = tar_gnu_pairs(tar, h, F_GNU_SPARSE, 4, err);
	while (r == 0 && more) {
		ssize_t n = tar_read(tar, block, TAR_BLOCK, err);

		if (n < 0)
			return (int)n;
		if (n < TAR_BLOCK)
			return tar_truncated(err);
		r = tar_gnu_pairs(tar, &next, 0, 21, err);
		more = block[504] != 0;
	}
	if (r == 0)
		tar->entry.size = (uint64_t)real;
	return r;
}

/* GNU.sparse 1.0: the map stands before the content, as decimal lines padded
 * to whole blocks: the number of pairs, then offset and length of each. */
struct sparse_reader {
	char block[TAR_BLOCK];
	size_t at;
};

static int tar_sparse_line(struct ql_tar *tar, struct sparse_reader *sr,
			   uint64_t *ret, struct ql_error *err)
{
	uint64_t v = 0;
	int digits = 0;

	for (;;) {
		char c;

		if (sr->at == TAR_BLOCK) {
			ssize_t n;

			if (tar->stored < TAR_BLOCK)
				return tar_truncated(err);
			n = tar_read(tar, sr->block, TAR_BLOCK, err);
			if (n < 0)
				return (int)n;
			if (n < TAR_BLOCK)
				return tar_truncated(err);
			tar->stored -= TAR_BLOCK;
			sr->at = 0;
		}
		c = sr->block[sr->at++];
		if (c == '\n' && digits > 0)
			break;
		if (c < '0' || c > '9' || ++digits > 18)
			return ql_error_set(err, -EBADMSG,
					    "a sparse file's map is malformed");
		v = v * 10 + (uint64_t)(c - '0');
	}
	*ret = v;
	return 0;
}

static int tar_sparse_1_0(struct ql_tar *tar, struct ql_error *err)
{
	struct sparse_reader sr = { .at = TAR_BLOCK };
	uint64_t pairs;
	int r = tar_sparse_line(tar, &sr, &pairs, err);

	if (r == 0 && pairs > QL_TAR_SPARSE_MAX)
		return ql_error_set(err, -EBADMSG,
				    "a sparse file of %" PRIu64 " segments",
				    pairs);
	for (uint64_t i = 0; i < pairs && r == 0; i++) {
		uint64_t offset;
		uint64_t len;

		r = tar_sparse_line(tar, &sr, &offset, err);
		if (r == 0)
			r = tar_sparse_line(tar, &sr, &len, err);
		if (r == 0)
			r = ql_sparse_push(&tar->map, &tar->n_map, offset, len);
	}
	return r;
}

static int tar_sparse(struct ql_tar *tar, const struct tar_header *h, char type,
		      struct ql_error *err)
{
	struct ql_pax *pax = &tar->pax;
	int r = 0;

	if (type == 'S') {
		r = tar_gnu_sparse(tar, h, err);
	} else if (pax->sparse_major == 1 && pax->sparse_minor == 0) {
		r = tar_sparse_1_0(tar, err);
		if (r == 0 && pax->has_real_size)
			tar->entry.size = pax->real_size;
	} else if (pax->n_map > 0 || pax->has_real_size) {
		tar->map = ql_take_ptr(pax->map);
		tar->n_map = pax->n_map;
		pax->n_map = 0;
		if (pax->has_real_size)
			tar->entry.size = pax->real_size;
	} else {
		return 0;
	}
	if (r == -ENOMEM)
		return ql_error_nomem(err);
	if (r == -E2BIG)
		return ql_error_set(err, -EBADMSG,
				    "a sparse file of too many segments");
	return r < 0 ? r : tar_check_map(tar, err);
}

/* ---- entries ---- */

static int tar_names(struct ql_tar *tar, const struct tar_header *h,
		     struct ql_error *err)
{
	_cleanup_free_ char *name = tar_string(h->raw + F_NAME, 100);
	_cleanup_free_ char *prefix = NULL;

	if (h->ustar)
		prefix = tar_string(h->raw + F_PREFIX, h->star ? 131 : 155);
	tar->entry.link = tar_string(h->raw + F_LINK, 100);
	if (!name || !tar->entry.link || (h->ustar && !prefix))
		return ql_error_nomem(err);
	if (prefix && *prefix)
		tar->entry.path = ql_path_join(prefix, name);
	else
		tar->entry.path = ql_take_ptr(name);
	return tar->entry.path ? 0 : ql_error_nomem(err);
}

static int tar_numbers(struct ql_tar *tar, const struct tar_header *h,
		       struct ql_error *err)
{
	struct ql_tar_entry *e = &tar->entry;
	int64_t mode;
	int64_t uid = 0;
	int64_t gid = 0;
	int64_t size;
	int64_t major = 0;
	int64_t minor = 0;
	int r;

	r = tar_field(h, F_MODE, 8, "mode", 0, INT64_MAX, &mode, err);
	/* What the extended header gives may not fit here at all. */
	if (r == 0 && !tar->pax.has_uid)
		r = tar_field(h, F_UID, 8, "uid", 0, UINT32_MAX - 1, &uid, err);
	if (r == 0 && !tar->pax.has_gid)
		r = tar_field(h, F_GID, 8, "gid", 0, UINT32_MAX - 1, &gid, err);
	if (r == 0)
		r = tar_field(h, F_SIZE, 12, "size", 0, INT64_MAX, &size, err);
	if (r == 0)
		r = tar_field(h, F_MTIME, 12, "mtime", INT64_MIN, INT64_MAX,
			      &e->mtime_sec, err);
	if (r == 0 && (h->ustar || h->gnu)) {
		r = tar_field(h, F_MAJOR, 8, "device", 0, UINT32_MAX, &major,
			      err);
		if (r == 0)
			r = tar_field(h, F_MINOR, 8, "device", 0, UINT32_MAX,
				      &minor, err);
	}
	if (r < 0)
		return r;
	e->mode = (uint32_t)(mode & 07777);
	e->uid = (uint32_t)uid;
	e->gid = (uint32_t)gid;
	e->size = (uint64_t)size;
	e->major = (uint32_t)major;
	e->minor = (uint32_t)minor;
	return 0;
}

static void tar_apply_pax(struct ql_tar *tar)
{
	struct ql_tar_entry *e = &tar->entry;
	struct ql_pax *pax = &tar->pax;

	if (pax->path) {
		free(e->path);
		e->path = ql_take_ptr(pax->path);
	}
	if (pax->link) {
		free(e->link);
		e->link = ql_take_ptr(pax->link);
	}
	if (pax->has_size)
		e->size = pax->size;
	if (pax->has_uid)
		e->uid = pax->uid;
	if (pax->has_gid)
		e->gid = pax->gid;
	if (pax->has_mtime) {
		e->mtime_sec = pax->mtime_sec;
		e->mtime_nsec = pax->mtime_nsec;
	}
	e->xattrs = pax->xattrs;
	e->n_xattrs = pax->n_xattrs;
}

static char tar_type(const struct ql_tar_entry *e, char flag)
{
	size_t len = strlen(e->path);

	switch (flag) {
	case '\0': /* v7, where a folder is a file whose name ends in '/' */
	case '0':
		return len > 0 && e->path[len - 1] == '/' ? '5' : '0';
	case '7':
	case 'S':
		return '0';
	default:
		return flag >= '1' && flag <= '6' ? flag : '?';
	}
}

static int tar_normalize(struct ql_tar_entry *e, struct ql_error *err)
{
	char *path;
	char *link;
	int r = ql_path_normalize(e->path, &path, err);

	if (r < 0)
		return r;
	free(e->path);
	e->path = path;
	if (e->type != '1')
		return 0;
	r = ql_path_normalize(e->link, &link, err);
	if (r < 0)
		return r;
	free(e->link);
	e->link = link;
	return 0;
}

/* A header that is no extension of the next one becomes the entry. */
static int tar_entry(struct ql_tar *tar, const struct tar_header *h, char flag,
		     struct ql_error *err)
{
	struct ql_tar_entry *e = &tar->entry;
	int r = tar_names(tar, h, err);

	if (r == 0)
		r = tar_numbers(tar, h, err);
	if (r < 0)
		return r;
	tar_apply_pax(tar);
	e->type = tar_type(e, flag);
	if (e->type == '?')
		return ql_error_set(err, -EOPNOTSUPP,
				    "%.200s: unknown entry type 0x%02x",
				    e->path, (unsigned int)(uint8_t)flag);
	/* Only files have content, whatever a link's header says. */
	if (e->type != '0')
		e->size = 0;
	tar->stored = e->size;
	tar->padding = -e->size & (TAR_BLOCK - 1);
	if (e->type == '0')
		r = tar_sparse(tar, h, flag, err);
	if (r == 0)
		r = tar_normalize(e, err);
	return r;
}

/* Content of an 'x', 'L' or 'K' header, with its padding, as a string. */
static int tar_extension(struct ql_tar *tar, const struct tar_header *h,
			 char **ret_data, size_t *ret_len, struct ql_error *err)
{
	_cleanup_free_ char *data = NULL;
	int64_t size;
	ssize_t n;
	int r = tar_field(h, F_SIZE, 12, "size", 0, TAR_EXTENDED_MAX, &size,
			  err);

	if (r < 0)
		return r;
	data = malloc((size_t)size + 1);
	if (!data)
		return ql_error_nomem(err);
	n = tar_read(tar, data, (size_t)size, err);
	if (n < 0)
		return (int)n;
	if (n < size)
		return tar_truncated(err);
	r = tar_skip(tar, -(uint64_t)size & (TAR_BLOCK - 1), err);
	if (r < 0)
		return r;
	data[size] = '\0';
	*ret_data = ql_take_ptr(data);
	*ret_len = (size_t)size;
	return 0;
}

/* 1: it extends the next header; 0: it is an entry's own. */
static int tar_extends(struct ql_tar *tar, const struct tar_header *h,
		       char flag, struct ql_error *err)
{
	_cleanup_free_ char *data = NULL;
	size_t len = 0;
	int r;

	if (flag != 'x' && flag != 'g' && flag != 'L' && flag != 'K')
		return 0;
	r = tar_extension(tar, h, &data, &len, err);
	if (r < 0)
		return r;
	if (flag == 'x') {
		r = ql_pax_parse(data, len, &tar->pax, err);
		return r < 0 ? r : 1;
	}
	/* GNU long names end at a NUL.  A global header ('g') is passed over:
	 * builders write comments there (git archive), no metadata. */
	if (flag == 'L') {
		free(tar->pax.path);
		tar->pax.path = ql_take_ptr(data);
	} else if (flag == 'K') {
		free(tar->pax.link);
		tar->pax.link = ql_take_ptr(data);
	}
	return 1;
}

/* Behind the end mark there may be padding; the stream is read to its end so
 * that whatever verifies it does so. */
static int tar_drain(struct ql_tar *tar, struct ql_error *err)
{
	ssize_t n;

	while ((n = tar_fill(tar, err)) > 0)
		tar_consume(tar, (size_t)n);
	return (int)n;
}

/* Two blocks of zeros end an archive; one at the stream's end is taken too.
 * Anything else would be entries that nobody sees. */
static int tar_end_mark(struct ql_tar *tar, char raw[TAR_BLOCK],
			struct ql_error *err)
{
	ssize_t n = tar_read(tar, raw, TAR_BLOCK, err);

	if (n < 0)
		return (int)n;
	if (memcmp(raw, tar_zeros, (size_t)n) != 0)
		return ql_error_set(err, -EBADMSG,
				    "an entry behind a lone block of zeros");
	return 0;
}

static int tar_next_header(struct ql_tar *tar, char raw[TAR_BLOCK],
			   struct tar_header *ret_header, struct ql_error *err)
{
	ssize_t n = tar_read(tar, raw, TAR_BLOCK, err);

	if (n < 0)
		return (int)n;
	if (n == 0)
		return 0;
	if (n < TAR_BLOCK)
		return ql_error_set(err, -EBADMSG,
				    "the archive ends in a header");
	if (memcmp(raw, tar_zeros, TAR_BLOCK) == 0)
		return tar_end_mark(tar, raw, err);
	if (!tar_checksum_ok(raw))
		return ql_error_set(err, -EBADMSG,
				    "not a tar header at byte %" PRIu64,
				    tar->pos - TAR_BLOCK);
	ret_header->raw = raw;
	ret_header->gnu = memcmp(raw + F_MAGIC, "ustar  ", 8) == 0;
	ret_header->ustar = memcmp(raw + F_MAGIC, "ustar", 6) == 0;
	ret_header->star = memcmp(raw + F_STAR, "tar", 4) == 0;
	return 1;
}

static int tar_next(struct ql_tar *tar, struct ql_error *err)
{
	char raw[TAR_BLOCK];
	struct tar_header h;
	int r = tar_skip(tar, tar->stored, err);

	if (r == 0)
		r = tar_skip_padding(tar, err);
	tar->stored = 0;
	tar->padding = 0;
	entry_release(&tar->entry);
	ql_pax_release(&tar->pax);
	free(ql_take_ptr(tar->map));
	tar->n_map = 0;
	tar->map_at = 0;
	tar->offset = 0;
	while (r == 0) {
		r = tar_next_header(tar, raw, &h, err);
		if (r == 0)
			return tar_drain(tar, err);
		if (r < 0)
			return r;
		r = tar_extends(tar, &h, raw[F_TYPE], err);
		if (r == 0) {
			r = tar_entry(tar, &h, raw[F_TYPE], err);
			return r < 0 ? r : 1;
		}
		if (r > 0)
			r = 0;
	}
	return r;
}

int ql_tar_next(struct ql_tar *tar, const struct ql_tar_entry **ret_entry,
		struct ql_error *err)
{
	int r = tar_next(tar, err);

	if (r > 0)
		*ret_entry = &tar->entry;
	return r;
}

/* ---- content ---- */

/* Bytes until the content changes between data and hole at `offset`. */
static uint64_t tar_run(struct ql_tar *tar, bool *ret_hole)
{
	const struct ql_sparse *s;

	*ret_hole = false;
	if (!tar->map)
		return tar->stored;
	while (tar->map_at < tar->n_map) {
		s = &tar->map[tar->map_at];
		if (tar->offset < s->offset) {
			*ret_hole = true;
			return s->offset - tar->offset;
		}
		if (tar->offset < s->offset + s->len)
			return s->offset + s->len - tar->offset;
		tar->map_at++;
	}
	*ret_hole = true;
	return tar->entry.size - tar->offset;
}

ssize_t ql_tar_data(struct ql_tar *tar, const void **ret_data,
		    struct ql_error *err)
{
	uint64_t run;
	bool hole;
	ssize_t n;

	if (tar->entry.type != '0' || tar->offset >= tar->entry.size)
		return 0;
	run = tar_run(tar, &hole);
	if (hole) {
		n = (ssize_t)sizeof(tar_zeros);
		if ((uint64_t)n > run)
			n = (ssize_t)run;
		*ret_data = tar_zeros;
		tar->offset += (uint64_t)n;
		return n;
	}
	n = tar_fill(tar, err);
	if (n < 0)
		return n;
	if (n == 0)
		return tar_truncated(err);
	if ((uint64_t)n > run)
		n = (ssize_t)run;
	*ret_data = tar->buf + tar->at;
	tar_consume(tar, (size_t)n);
	tar->stored -= (uint64_t)n;
	tar->offset += (uint64_t)n;
	return n;
}
