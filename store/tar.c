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
	struct ql_tar_raw raw;
	struct ql_pax pax;
	bool sparse;
	struct ql_sparse_map map; /* owned; of a sparse file */
	size_t map_at;
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

static void raw_release(struct ql_tar_raw *raw)
{
	free(raw->name);
	free(raw->link);
	*raw = (struct ql_tar_raw){ 0 };
}

void ql_tar_free(struct ql_tar *tar)
{
	if (!tar)
		return;
	entry_release(&tar->entry);
	raw_release(&tar->raw);
	ql_pax_release(&tar->pax);
	ql_sparse_release(&tar->map);
	free(tar->buf);
	free(tar);
}

uint64_t ql_tar_pos(const struct ql_tar *tar)
{
	return tar->pos;
}

const struct ql_tar_raw *ql_tar_raw(const struct ql_tar *tar)
{
	return &tar->raw;
}

bool ql_tar_is_sparse(const struct ql_tar *tar)
{
	return tar->sparse;
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
	char pad[QL_TAR_BLOCK];
	ssize_t n = tar_read(tar, pad, (size_t)tar->padding, err);

	return n < 0 ? (int)n : 0;
}

/* ---- sparse files ---- */

/* A block of a map that stands behind an old GNU header. */
static int tar_map_block(void *arg, char block[QL_TAR_BLOCK],
			 struct ql_error *err)
{
	ssize_t n = tar_read(arg, block, QL_TAR_BLOCK, err);

	if (n < 0)
		return (int)n;
	return n < QL_TAR_BLOCK ? tar_truncated(err) : 0;
}

/* The same, where the map is part of the content. */
static int tar_content_block(void *arg, char block[QL_TAR_BLOCK],
			     struct ql_error *err)
{
	struct ql_tar *tar = arg;

	if (tar->stored < QL_TAR_BLOCK)
		return tar_truncated(err);
	tar->stored -= QL_TAR_BLOCK;
	return tar_map_block(tar, block, err);
}

static int tar_sparse(struct ql_tar *tar, const struct ql_tarheader *h,
		      char flag, struct ql_error *err)
{
	struct ql_pax *pax = &tar->pax;
	int r = 0;

	if (flag == 'S') {
		r = ql_sparse_read_gnu(&tar->map, h, tar_map_block, tar,
				       &tar->entry.size, err);
	} else if (pax->sparse_major == 1 && pax->sparse_minor == 0) {
		r = ql_sparse_read_1_0(&tar->map, tar_content_block, tar, err);
	} else if (pax->map.n > 0 || pax->has_real_size) {
		tar->map = pax->map;
		pax->map = (struct ql_sparse_map){ 0 };
	} else {
		return 0;
	}
	tar->sparse = true;
	if (pax->has_real_size)
		tar->entry.size = pax->real_size;
	return r < 0 ? r
		     : ql_sparse_check(&tar->map, tar->entry.size, tar->stored,
				       err);
}

/* ---- entries ---- */

static int tar_names(struct ql_tar *tar, const struct ql_tarheader *h,
		     struct ql_error *err)
{
	_cleanup_free_ char *name = ql_tarheader_string(h, QL_TAR_NAME, 100);
	_cleanup_free_ char *prefix = NULL;

	if (h->ustar)
		prefix = ql_tarheader_string(h, QL_TAR_PREFIX,
					     h->star ? 131 : 155);
	tar->entry.link = ql_tarheader_string(h, QL_TAR_LINK, 100);
	if (!name || !tar->entry.link || (h->ustar && !prefix))
		return ql_error_nomem(err);
	if (prefix && *prefix)
		tar->entry.path = ql_path_join(prefix, name);
	else
		tar->entry.path = ql_take_ptr(name);
	return tar->entry.path ? 0 : ql_error_nomem(err);
}

static int tar_numbers(struct ql_tar *tar, const struct ql_tarheader *h,
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

	r = ql_tarheader_field(h, QL_TAR_MODE, 8, "mode", 0, INT64_MAX, &mode,
			       err);
	/* What the extended header gives may not fit here at all. */
	if (r == 0 && !tar->pax.has_uid)
		r = ql_tarheader_field(h, QL_TAR_UID, 8, "uid", 0,
				       UINT32_MAX - 1, &uid, err);
	if (r == 0 && !tar->pax.has_gid)
		r = ql_tarheader_field(h, QL_TAR_GID, 8, "gid", 0,
				       UINT32_MAX - 1, &gid, err);
	if (r == 0)
		r = ql_tarheader_field(h, QL_TAR_SIZE, 12, "size", 0, INT64_MAX,
				       &size, err);
	if (r == 0)
		r = ql_tarheader_field(h, QL_TAR_MTIME, 12, "mtime", INT64_MIN,
				       INT64_MAX, &e->mtime_sec, err);
	if (r == 0 && (h->ustar || h->gnu)) {
		r = ql_tarheader_field(h, QL_TAR_MAJOR, 8, "device", 0,
				       UINT32_MAX, &major, err);
		if (r == 0)
			r = ql_tarheader_field(h, QL_TAR_MINOR, 8, "device", 0,
					       UINT32_MAX, &minor, err);
	}
	if (r < 0)
		return r;
	tar->raw.mode = mode;
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

/* Of GNU's headers, where a byte is not NUL; of pax. */
static void tar_other_times(struct ql_tar *tar, const struct ql_tarheader *h)
{
	static const size_t at[2] = { QL_TAR_GNU_ATIME, QL_TAR_GNU_CTIME };
	struct ql_tar_time *times[2] = { &tar->raw.atime, &tar->raw.ctime };

	for (int i = 0; i < 2; i++)
		if (h->gnu && h->raw[at[i]])
			times[i]->known =
				ql_tarheader_field(h, at[i], 12, "time",
						   INT64_MIN, INT64_MAX,
						   &times[i]->sec, NULL) == 0;
	if (tar->pax.atime.known)
		tar->raw.atime = tar->pax.atime;
	if (tar->pax.ctime.known)
		tar->raw.ctime = tar->pax.ctime;
}

static char tar_type(const struct ql_tar_entry *e, char flag)
{
	size_t len = strlen(e->path);

	switch (flag) {
	case '\0': /* v7, where a folder is a file whose name ends in '/' */
		return len > 0 && e->path[len - 1] == '/' ? '5' : '0';
	case '0':
	case '7':
	case 'S':
		return '0';
	default:
		return flag >= '1' && flag <= '6' ? flag : '?';
	}
}

static int tar_normalize(struct ql_tar_entry *e, struct ql_tar_raw *raw,
			 struct ql_error *err)
{
	char *path;
	char *link;
	int r = ql_path_normalize(e->path, &path, err);

	if (r < 0)
		return r;
	raw->name = e->path;
	e->path = path;
	if (e->type != '1')
		return 0;
	r = ql_path_normalize(e->link, &link, err);
	if (r < 0)
		return r;
	raw->link = e->link;
	e->link = link;
	return 0;
}

/* A header that is no extension of the next one becomes the entry. */
static int tar_entry(struct ql_tar *tar, const struct ql_tarheader *h,
		     char flag, struct ql_error *err)
{
	struct ql_tar_entry *e = &tar->entry;
	int r = tar_names(tar, h, err);

	if (r == 0)
		r = tar_numbers(tar, h, err);
	if (r < 0)
		return r;
	tar_apply_pax(tar);
	tar_other_times(tar, h);
	e->type = tar_type(e, flag);
	tar->raw.flag = flag;
	tar->raw.size = e->size;
	if (e->type == '?')
		return ql_error_set(err, -EOPNOTSUPP,
				    "%.200s: unknown entry type 0x%02x",
				    e->path, (unsigned int)(uint8_t)flag);
	/* Only files have content, whatever a link's header says. */
	if (e->type != '0')
		e->size = 0;
	tar->stored = e->size;
	tar->padding = -e->size & (QL_TAR_BLOCK - 1);
	if (e->type == '0')
		r = tar_sparse(tar, h, flag, err);
	tar->raw.sparse = tar->sparse;
	tar->raw.stored = tar->stored;
	if (r == 0)
		r = tar_normalize(e, &tar->raw, err);
	return r;
}

/* Content of an 'x', 'L' or 'K' header, with its padding, as a string. */
static int tar_extension(struct ql_tar *tar, const struct ql_tarheader *h,
			 char **ret_data, size_t *ret_len, struct ql_error *err)
{
	_cleanup_free_ char *data = NULL;
	int64_t size;
	ssize_t n;
	int r = ql_tarheader_field(h, QL_TAR_SIZE, 12, "size", 0,
				   TAR_EXTENDED_MAX, &size, err);

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
	r = tar_skip(tar, -(uint64_t)size & (QL_TAR_BLOCK - 1), err);
	if (r < 0)
		return r;
	data[size] = '\0';
	*ret_data = ql_take_ptr(data);
	*ret_len = (size_t)size;
	return 0;
}

/* 1: it extends the next header; 0: it is an entry's own. */
static int tar_extends(struct ql_tar *tar, const struct ql_tarheader *h,
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
	tar->raw.global |= flag == 'g';
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
static int tar_end_mark(struct ql_tar *tar, char raw[QL_TAR_BLOCK],
			struct ql_error *err)
{
	ssize_t n = tar_read(tar, raw, QL_TAR_BLOCK, err);

	if (n < 0)
		return (int)n;
	if (memcmp(raw, tar_zeros, (size_t)n) != 0)
		return ql_error_set(err, -EBADMSG,
				    "an entry behind a lone block of zeros");
	return 0;
}

static int tar_next_header(struct ql_tar *tar, char raw[QL_TAR_BLOCK],
			   struct ql_tarheader *ret_header,
			   struct ql_error *err)
{
	ssize_t n = tar_read(tar, raw, QL_TAR_BLOCK, err);

	if (n < 0)
		return (int)n;
	if (n == 0)
		return 0;
	if (n < QL_TAR_BLOCK)
		return ql_error_set(err, -EBADMSG,
				    "the archive ends in a header");
	if (memcmp(raw, tar_zeros, QL_TAR_BLOCK) == 0)
		return tar_end_mark(tar, raw, err);
	if (ql_tarheader_parse(raw, ret_header) < 0)
		return ql_error_set(err, -EBADMSG,
				    "not a tar header at byte %" PRIu64,
				    tar->pos - QL_TAR_BLOCK);
	return 1;
}

static int tar_next(struct ql_tar *tar, struct ql_error *err)
{
	char raw[QL_TAR_BLOCK];
	struct ql_tarheader h;
	int r = tar_skip(tar, tar->stored, err);

	if (r == 0)
		r = tar_skip_padding(tar, err);
	tar->stored = 0;
	tar->padding = 0;
	entry_release(&tar->entry);
	raw_release(&tar->raw);
	ql_pax_release(&tar->pax);
	ql_sparse_release(&tar->map);
	tar->sparse = false;
	tar->map_at = 0;
	tar->offset = 0;
	while (r == 0) {
		r = tar_next_header(tar, raw, &h, err);
		if (r == 0)
			return tar_drain(tar, err);
		if (r < 0)
			return r;
		r = tar_extends(tar, &h, raw[QL_TAR_TYPE], err);
		if (r == 0) {
			r = tar_entry(tar, &h, raw[QL_TAR_TYPE], err);
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

ssize_t ql_tar_data(struct ql_tar *tar, const void **ret_data,
		    struct ql_error *err)
{
	uint64_t run = tar->stored;
	bool hole = false;
	ssize_t n;

	if (tar->entry.type != '0' || tar->offset >= tar->entry.size)
		return 0;
	if (tar->sparse)
		run = ql_sparse_run(&tar->map, &tar->map_at, tar->offset,
				    tar->entry.size, &hole);
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
