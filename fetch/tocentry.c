/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries of tables of contents as JSON: containers/storage's zstd:chunked
 * (pkg/chunked/internal: FileMetadata) and eStargz (stargz-snapshotter,
 * docs/estargz.md, "TOCEntry"), which are nearly the same.
 *
 * Engines compare what stands here with the archive's headers, and refuse a
 * layer where they differ; so names, modes and times are those of the
 * archive, to the letter.  What JSON or RFC 3339 cannot say is refused.
 */
#include "fetch/push-private.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>
#include <time.h>

/* RFC 3339 has years of four digits. */
static const int64_t year_0000 = -62167219200;
static const int64_t year_9999_end = 253402300799;

static const char *type_name(char type)
{
	switch (type) {
	case '0':
		return "reg";
	case '1':
		return "hardlink";
	case '2':
		return "symlink";
	case '3':
		return "char";
	case '4':
		return "block";
	case '5':
		return "dir";
	default:
		return "fifo";
	}
}

/* Takes value; NULL: it was not UTF-8, or there is no memory. */
static int set(json_t *obj, const char *key, json_t *value)
{
	return json_object_set_new(obj, key, value) < 0 ? -EILSEQ : 0;
}

static int set_number(json_t *obj, const char *key, int64_t v)
{
	return v == 0 ? 0 : set(obj, key, json_integer((json_int_t)v));
}

static int set_time(json_t *obj, const char *key, int64_t sec, uint32_t nsec)
{
	char text[64];
	char fraction[16] = "";
	struct tm tm;
	time_t t = (time_t)sec;

	if (sec < year_0000 || sec > year_9999_end || !gmtime_r(&t, &tm))
		return -EILSEQ;
	if (nsec > 0) {
		size_t len = (size_t)snprintf(fraction, sizeof(fraction),
					      ".%09u", nsec);

		while (fraction[len - 1] == '0')
			fraction[--len] = '\0';
	}
	(void)snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d%sZ",
		       tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
		       tm.tm_min, tm.tm_sec, fraction);
	return set(obj, key, json_string(text));
}

static int set_digest(json_t *obj, const char *key, const struct ql_digest *d)
{
	char text[QL_DIGEST_TEXT + 1];

	return set(obj, key, json_string(ql_digest_text(d, text)));
}

static int set_xattrs(json_t *obj, const struct ql_tar_entry *e)
{
	json_t *map;

	if (e->n_xattrs == 0)
		return 0;
	map = json_object();
	if (set(obj, "xattrs", map) < 0)
		return -EILSEQ;
	for (size_t i = 0; i < e->n_xattrs; i++) {
		const struct ql_tar_xattr *x = &e->xattrs[i];
		_cleanup_free_ char *text = calloc(1, (x->len + 2) / 3 * 4 + 1);

		if (!text)
			return -ENOMEM;
		(void)EVP_EncodeBlock((unsigned char *)text,
				      (const unsigned char *)x->value,
				      (int)x->len);
		if (set(map, x->name, json_string(text)) < 0)
			return -EILSEQ;
	}
	return 0;
}

static int set_names(json_t *obj, const struct ql_tar_entry *e,
		     const struct ql_tar_raw *raw)
{
	int r = set(obj, "type", json_string(type_name(e->type)));

	if (r == 0)
		r = set(obj, "name", json_string(raw->name));
	if (r == 0 && e->type == '1')
		r = set(obj, "linkName", json_string(raw->link));
	else if (r == 0 && *e->link)
		r = set(obj, "linkName", json_string(e->link));
	return r;
}

static int set_numbers(json_t *obj, const struct ql_tar_entry *e,
		       const struct ql_tar_raw *raw)
{
	int r = set_number(obj, "mode", raw->mode);

	if (r == 0)
		r = set_number(obj, "size", (int64_t)e->size);
	if (r == 0)
		r = set_number(obj, "uid", e->uid);
	if (r == 0)
		r = set_number(obj, "gid", e->gid);
	if (r == 0)
		r = set_number(obj, "devMajor", e->major);
	return r < 0 ? r : set_number(obj, "devMinor", e->minor);
}

static int set_times(enum ql_toc_dialect dialect, json_t *obj,
		     const struct ql_tar_entry *e, const struct ql_tar_raw *raw)
{
	int r = set_time(obj, "modtime", e->mtime_sec, e->mtime_nsec);

	if (dialect == QL_TOC_STARGZ)
		return r;
	if (r == 0 && raw->atime.known)
		r = set_time(obj, "accesstime", raw->atime.sec,
			     raw->atime.nsec);
	if (r == 0 && raw->ctime.known)
		r = set_time(obj, "changetime", raw->ctime.sec,
			     raw->ctime.nsec);
	return r;
}

int ql_toc_entry_new(enum ql_toc_dialect dialect, const struct ql_tar_entry *e,
		     const struct ql_tar_raw *raw, json_t **ret_entry,
		     struct ql_error *err)
{
	_cleanup_json_ json_t *obj = json_object();
	int r;

	if (!obj)
		return ql_error_nomem(err);
	r = set_names(obj, e, raw);
	if (r == 0)
		r = set_numbers(obj, e, raw);
	if (r == 0)
		r = set_times(dialect, obj, e, raw);
	if (r == 0)
		r = set_xattrs(obj, e);
	if (r == -ENOMEM)
		return ql_error_nomem(err);
	if (r == 0)
		*ret_entry = ql_take_ptr(obj);
	return r;
}

static int set_chunk(json_t *obj, const struct ql_toc_piece *p)
{
	int r = set_number(obj, "chunkOffset", (int64_t)p->offset);

	if (r == 0)
		r = set_number(obj, "chunkSize", (int64_t)p->len);
	if (r == 0)
		r = set_digest(obj, "chunkDigest", &p->digest);
	return r;
}

static int set_piece(enum ql_toc_dialect dialect, json_t *obj,
		     const struct ql_toc_piece *p, bool only)
{
	int r = set_number(obj, "offset", (int64_t)p->blob_offset);

	if (r == 0 && only && dialect == QL_TOC_STARGZ)
		return set_digest(obj, "chunkDigest", &p->digest);
	if (r == 0 && !only)
		r = set_chunk(obj, p);
	if (r == 0 && !only && p->zeros && dialect == QL_TOC_CHUNKED)
		r = set(obj, "chunkType", json_string("zeros"));
	return r;
}

static int entry_print(const json_t *obj, struct ql_scratch *to, bool first,
		       struct ql_error *err)
{
	_cleanup_free_ char *text = json_dumps(obj, JSON_COMPACT);
	int r;

	if (!text)
		return ql_error_nomem(err);
	r = ql_scratch_adds(to, first ? "" : ",\n", err);
	return r < 0 ? r : ql_scratch_adds(to, text, err);
}

/* A piece behind the first. */
static int chunk_write(enum ql_toc_dialect dialect, const json_t *entry,
		       const struct ql_toc_piece *p, struct ql_scratch *to,
		       struct ql_error *err)
{
	_cleanup_json_ json_t *obj = json_object();
	int r;

	if (!obj)
		return ql_error_nomem(err);
	r = set(obj, "type", json_string("chunk"));
	if (r == 0)
		r = set(obj, "name",
			json_incref(json_object_get(entry, "name")));
	if (r == 0)
		r = set_piece(dialect, obj, p, false);
	return r < 0 ? ql_error_nomem(err) : entry_print(obj, to, false, err);
}

int ql_toc_entry_write(enum ql_toc_dialect dialect, json_t *entry,
		       const struct ql_digest *digest,
		       const struct ql_toc_piece *pieces, size_t n,
		       struct ql_scratch *to, bool first, struct ql_error *err)
{
	int r = 0;

	if (digest)
		r = set_digest(entry, "digest", digest);
	if (r == 0 && n > 0)
		r = set_piece(dialect, entry, &pieces[0], n == 1);
	if (r == 0 && n > 0 && dialect == QL_TOC_CHUNKED)
		r = set_number(entry, "endOffset",
			       (int64_t)pieces[n - 1].blob_end);
	if (r < 0)
		return ql_error_nomem(err);
	r = entry_print(entry, to, first, err);
	for (size_t i = 1; i < n && r == 0; i++)
		r = chunk_write(dialect, entry, &pieces[i], to, err);
	return r;
}
