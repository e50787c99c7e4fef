/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON of a table of contents, of eStargz (estargz.JTOC) and of
 * zstd:chunked (minimal.TOC) alike: {"version": 1, "entries": [{…}, …]}.  Each
 * entry is given on as it comes, so that a hundred MB of them are no matter.
 *
 * What the tables have and we have no use for is passed over: owners' names,
 * access and change times, digests of tar-split data.
 */
#include "fetch/toc-private.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>

#include "store/base/jsonread.h"

enum {
	TOC_VERSION = 1,
	/* As a tar's extended header has them at most. */
	ENTRY_XATTRS_MAX = 1024,
	ENTRY_BYTES_MAX = 2 << 20,
};

struct entry_xattr {
	size_t name, value, len; /* positions in the text */
};

struct parser {
	struct ql_jsonread *jr; /* owned */
	ql_toc_entry_fn *fn;
	void *arg;
	struct ql_buf text; /* the entry's strings, each ended by a NUL */
	struct ql_toc_entry entry;
	size_t strings[8];	    /* positions in the text; 0: "" */
	struct entry_xattr *xattrs; /* owned; ENTRY_XATTRS_MAX */
	struct ql_tar_xattr *out;   /* owned; the same, to be given on */
	size_t n_xattrs;
	bool versioned;
};

/* ---- fields ---- */

enum string_field {
	STRING_NAME,
	STRING_LINK,
	STRING_MODTIME,
	STRING_DIGEST,
	STRING_CHUNK_DIGEST,
	STRING_CHUNK_TYPE,
	STRING_TYPE,
	STRINGS
};

#define NUMBER(name, member)                                                   \
	{                                                                      \
		name, sizeof(name) - 1, false,                                 \
			offsetof(struct ql_toc_entry, member)                  \
	}
#define STRING(name, which)                                                    \
	{                                                                      \
		name, sizeof(name) - 1, true, which                            \
	}

static const struct field {
	const char *name;
	size_t len;
	bool string;
	size_t where; /* number: offset of the member; string: which */
} fields[] = {
	STRING("type", STRING_TYPE),
	STRING("name", STRING_NAME),
	STRING("linkName", STRING_LINK),
	STRING("modtime", STRING_MODTIME),
	STRING("digest", STRING_DIGEST),
	STRING("chunkDigest", STRING_CHUNK_DIGEST),
	STRING("chunkType", STRING_CHUNK_TYPE),
	NUMBER("size", size),
	NUMBER("mode", mode),
	NUMBER("uid", uid),
	NUMBER("gid", gid),
	NUMBER("devMajor", major),
	NUMBER("devMinor", minor),
	NUMBER("offset", offset),
	NUMBER("endOffset", end_offset),
	NUMBER("innerOffset", inner_offset),
	NUMBER("chunkOffset", chunk_offset),
	NUMBER("chunkSize", chunk_size),
};

static const struct field *field_find(const char *name, size_t len)
{
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (fields[i].len == len &&
		    memcmp(fields[i].name, name, len) == 0)
			return &fields[i];
	return NULL;
}

static enum ql_entry_type type_find(const char *name)
{
	static const char *const names[] = {
		[QL_ENTRY_FILE] = "reg",
		[QL_ENTRY_CHUNK] = "chunk",
		[QL_ENTRY_DIR] = "dir",
		[QL_ENTRY_SYMLINK] = "symlink",
		[QL_ENTRY_HARDLINK] = "hardlink",
		[QL_ENTRY_CHAR] = "char",
		[QL_ENTRY_BLOCK] = "block",
		[QL_ENTRY_FIFO] = "fifo",
	};

	for (size_t i = 1; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return (enum ql_entry_type)i;
	return QL_ENTRY_NONE;
}

/* ---- values ---- */

/* Whole numbers that are not negative. */
static int number(const struct parser *p, const char *what, uint64_t *ret,
		  struct ql_error *err)
{
	const char *text = ql_jsonread_text(p->jr, NULL);
	uint64_t v = 0;

	for (const char *at = text; *at; at++)
		if (*at < '0' || *at > '9' ||
		    __builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*at - '0'), &v) ||
		    v > INT64_MAX)
			return ql_error_set(err, -EBADMSG, "\"%s\" is %.40s",
					    what, text);
	*ret = v;
	return 0;
}

/* Keeps the reader's string (or room for more) with the entry. */
static int text_keep(struct parser *p, const char *data, size_t len,
		     size_t *ret_pos, struct ql_error *err)
{
	size_t pos = p->text.len;
	int r = ql_buf_add(&p->text, data, len);

	if (r == 0)
		r = ql_buf_add(&p->text, "", 1);
	if (r == -EFBIG)
		return ql_error_set(err, -EBADMSG,
				    "an entry of more than %d bytes",
				    ENTRY_BYTES_MAX);
	if (r < 0)
		return ql_error_nomem(err);
	*ret_pos = pos;
	return 0;
}

static int string_keep(struct parser *p, size_t *ret_pos, struct ql_error *err)
{
	size_t len;
	const char *text = ql_jsonread_text(p->jr, &len);

	return text_keep(p, text, len, ret_pos, err);
}

/* The reader's string, which is base64, decoded in the entry's text. */
static int value_keep(struct parser *p, struct entry_xattr *x,
		      struct ql_error *err)
{
	size_t len, pad;
	const char *text = ql_jsonread_text(p->jr, &len);
	size_t plain = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnop"
				    "qrstuvwxyz0123456789+/");
	int n, r;

	pad = len - plain;
	if (len % 4 != 0 || pad > 2 || strspn(text + plain, "=") != pad)
		return ql_error_set(err, -EBADMSG,
				    "an xattr's value is not base64");
	/* Decoding makes it shorter. */
	r = text_keep(p, text, len, &x->value, err);
	if (r < 0)
		return r;
	n = EVP_DecodeBlock((unsigned char *)p->text.data + x->value,
			    (const unsigned char *)text, (int)len);
	if (n < (int)pad)
		return ql_error_set(err, -EBADMSG,
				    "an xattr's value is not base64");
	x->len = (size_t)n - pad;
	return 0;
}

static int xattr_read(struct parser *p, struct ql_error *err)
{
	struct entry_xattr *x = &p->xattrs[p->n_xattrs];
	enum ql_json_token token;
	int r;

	if (p->n_xattrs == ENTRY_XATTRS_MAX)
		return ql_error_set(err, -EBADMSG, "more than %d xattrs",
				    ENTRY_XATTRS_MAX);
	r = string_keep(p, &x->name, err);
	if (r == 0)
		r = ql_jsonread_next(p->jr, &token, err);
	if (r < 0)
		return r;
	if (token != QL_JSON_STRING)
		return ql_error_set(err, -EBADMSG, "an xattr is no string");
	r = value_keep(p, x, err);
	if (r == 0)
		p->n_xattrs++;
	return r;
}

/* "xattrs": an object of strings, or null. */
static int xattrs_read(struct parser *p, enum ql_json_token token,
		       struct ql_error *err)
{
	int r;

	p->n_xattrs = 0;
	if (token == QL_JSON_NULL)
		return 0;
	if (token != QL_JSON_OBJECT)
		return ql_error_set(err, -EBADMSG, "\"xattrs\" is no object");
	while ((r = ql_jsonread_next(p->jr, &token, err)) == 0 &&
	       token == QL_JSON_KEY) {
		r = xattr_read(p, err);
		if (r < 0)
			return r;
	}
	return r;
}

static int field_read(struct parser *p, const struct field *f,
		      enum ql_json_token token, struct ql_error *err)
{
	if (token == QL_JSON_NULL)
		return 0;
	if (token != (f->string ? QL_JSON_STRING : QL_JSON_NUMBER))
		return ql_error_set(err, -EBADMSG, "\"%s\" is no %s", f->name,
				    f->string ? "string" : "number");
	if (f->string)
		return string_keep(p, &p->strings[f->where], err);
	return number(p, f->name,
		      (uint64_t *)(void *)((char *)&p->entry + f->where), err);
}

/* ---- entries ---- */

static int entry_type(struct parser *p, struct ql_error *err)
{
	const char *type = p->text.data + p->strings[STRING_TYPE];

	p->entry.type = type_find(type);
	if (p->entry.type == QL_ENTRY_NONE)
		return ql_error_set(err, -EBADMSG, "unknown type \"%.40s\"",
				    type);
	return 0;
}

/* Its strings stand where they stay until the next one. */
static int entry_give(struct parser *p, struct ql_error *err)
{
	struct ql_toc_entry *e = &p->entry;
	char *text = p->text.data;

	e->name = text + p->strings[STRING_NAME];
	e->link = text + p->strings[STRING_LINK];
	e->modtime = text + p->strings[STRING_MODTIME];
	e->digest = text + p->strings[STRING_DIGEST];
	e->chunk_digest = text + p->strings[STRING_CHUNK_DIGEST];
	e->chunk_type = text + p->strings[STRING_CHUNK_TYPE];
	for (size_t i = 0; i < p->n_xattrs; i++)
		p->out[i] = (struct ql_tar_xattr){ text + p->xattrs[i].name,
						   text + p->xattrs[i].value,
						   p->xattrs[i].len };
	e->xattrs = p->out;
	e->n_xattrs = p->n_xattrs;
	return p->fn(p->arg, e, err);
}

static int entry_fields(struct parser *p, struct ql_error *err)
{
	enum ql_json_token token;
	int r;

	while ((r = ql_jsonread_next(p->jr, &token, err)) == 0 &&
	       token == QL_JSON_KEY) {
		size_t len;
		const char *key = ql_jsonread_text(p->jr, &len);
		const struct field *f = field_find(key, len);
		bool xattrs = !f && len == 6 && memcmp(key, "xattrs", 6) == 0;

		r = ql_jsonread_next(p->jr, &token, err);
		if (r == 0 && f)
			r = field_read(p, f, token, err);
		else if (r == 0 && xattrs)
			r = xattrs_read(p, token, err);
		else if (r == 0)
			r = ql_jsonread_skip(p->jr, token, err);
		if (r < 0)
			return r;
	}
	return r;
}

static int entry_read(struct parser *p, struct ql_error *err)
{
	int r;

	/* Position 0 is the empty string. */
	ql_buf_clear(&p->text);
	memset(p->strings, 0, sizeof(p->strings));
	p->entry = (struct ql_toc_entry){ 0 };
	p->n_xattrs = 0;
	if (ql_buf_add(&p->text, "", 1) < 0)
		return ql_error_nomem(err);
	r = entry_fields(p, err);
	if (r == 0)
		r = entry_type(p, err);
	if (r < 0 && p->strings[STRING_NAME] > 0)
		ql_error_prefix(err, "entry \"%.300s\"",
				p->text.data + p->strings[STRING_NAME]);
	return r < 0 ? r : entry_give(p, err);
}

static int entries_read(struct parser *p, enum ql_json_token token,
			struct ql_error *err)
{
	int r;

	if (token != QL_JSON_ARRAY)
		return ql_error_set(err, -EBADMSG, "\"entries\" is no array");
	while ((r = ql_jsonread_next(p->jr, &token, err)) == 0 &&
	       token != QL_JSON_ARRAY_END) {
		if (token != QL_JSON_OBJECT)
			return ql_error_set(err, -EBADMSG,
					    "an entry is no object");
		r = entry_read(p, err);
		if (r < 0)
			return r;
	}
	return r;
}

/* ---- the document ---- */

static int version_read(struct parser *p, enum ql_json_token token,
			struct ql_error *err)
{
	uint64_t version;
	int r;

	if (token != QL_JSON_NUMBER)
		return ql_error_set(err, -EBADMSG, "\"version\" is no number");
	r = number(p, "version", &version, err);
	if (r == 0 && version != TOC_VERSION)
		return ql_error_set(err, -ENOTSUP, "of an unknown version");
	p->versioned = true;
	return r;
}

static int member_read(struct parser *p, struct ql_error *err)
{
	const char *key = ql_jsonread_text(p->jr, NULL);
	bool entries = strcmp(key, "entries") == 0;
	bool version = strcmp(key, "version") == 0;
	enum ql_json_token token;
	int r = ql_jsonread_next(p->jr, &token, err);

	if (r < 0)
		return r;
	if (entries)
		return entries_read(p, token, err);
	if (version)
		return version_read(p, token, err);
	return ql_jsonread_skip(p->jr, token, err);
}

static int document_read(struct parser *p, struct ql_error *err)
{
	enum ql_json_token token;
	int r = ql_jsonread_next(p->jr, &token, err);

	if (r == 0 && token != QL_JSON_OBJECT)
		return ql_error_set(err, -EBADMSG, "no object");
	while (r == 0) {
		r = ql_jsonread_next(p->jr, &token, err);
		if (r < 0 || token == QL_JSON_END)
			break;
		if (token == QL_JSON_KEY)
			r = member_read(p, err);
	}
	if (r == 0 && !p->versioned)
		return ql_error_set(err, -EBADMSG, "\"version\" is missing");
	return r;
}

int ql_tocjson_read(struct ql_stream *json, ql_toc_entry_fn *fn, void *arg,
		    struct ql_error *err)
{
	struct parser p = { .fn = fn, .arg = arg };
	int r = ql_jsonread_new(json, &p.jr, err);

	ql_buf_init(&p.text, ENTRY_BYTES_MAX);
	p.xattrs = calloc(ENTRY_XATTRS_MAX, sizeof(*p.xattrs));
	p.out = calloc(ENTRY_XATTRS_MAX, sizeof(*p.out));
	if (r == 0 && (!p.xattrs || !p.out))
		r = ql_error_nomem(err);
	if (r == 0)
		r = document_read(&p, err);
	if (r < 0)
		ql_error_prefix(err, "table of contents");
	ql_jsonread_free(p.jr);
	ql_buf_release(&p.text);
	free(p.xattrs);
	free(p.out);
	return r;
}
