/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Headers of archives: POSIX ustar (POSIX.1-2017, pax, "ustar Interchange
 * Format"), and before it what ustar cannot say:
 *
 *   a pax header ("pax Extended Header")  for names and link targets that are
 *	UTF-8 beyond ASCII, or too long; times with nanoseconds, before 1970 or
 *	from 8^11 s on; large numbers; xattrs, as SCHILY.xattr.NAME
 *   GNU's 'L' and 'K' (tar manual, "Basic Tar Format")  for long names that
 *	are not UTF-8: pax texts are UTF-8 to some readers (GNU tar, bsdtar),
 *	and what they make of others depends on the locale
 *
 * Short names that are not UTF-8 stand in ustar's own field, whose bytes every
 * reader takes as they are.  What ql_tar_next() would refuse is refused here.
 */
#include "store/store-private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum {
	NAME_ROOM = 100,
	PREFIX_ROOM = 155,
	EXTENDED_MAX = 1 << 20, /* what readers take, Go's among them */
	XATTRS = 1024,
	KEY_MAX = 255,
	VALUE_MAX = 65536,
	DIGITS_12 = 11, /* of an octal field of 12 bytes, and of 8 */
	DIGITS_8 = 7,
};

#define XATTR_KEY "SCHILY.xattr."

/* ---- fields ---- */

static bool octal_fits(uint64_t v, unsigned int digits)
{
	return v >> (3 * digits) == 0;
}

/* Digits, and a NUL. */
static void set_octal(char *at, unsigned int digits, uint64_t v)
{
	for (unsigned int i = digits; i-- > 0; v >>= 3)
		at[i] = (char)('0' + (v & 7));
}

static void set_sum(char h[QL_TAR_BLOCK])
{
	uint64_t sum = 0;

	memset(h + QL_TAR_SUM, ' ', 8);
	for (int i = 0; i < QL_TAR_BLOCK; i++)
		sum += (uint8_t)h[i];
	set_octal(h + QL_TAR_SUM, 6, sum);
	h[QL_TAR_SUM + 6] = '\0';
}

/* A header that is not summed yet. */
static void header_begin(char h[QL_TAR_BLOCK], char type, uint64_t size)
{
	memset(h, 0, QL_TAR_BLOCK);
	set_octal(h + QL_TAR_MODE, DIGITS_8, 0644);
	set_octal(h + QL_TAR_UID, DIGITS_8, 0);
	set_octal(h + QL_TAR_GID, DIGITS_8, 0);
	set_octal(h + QL_TAR_SIZE, DIGITS_12, size);
	set_octal(h + QL_TAR_MTIME, DIGITS_12, 0);
	h[QL_TAR_TYPE] = type;
	memcpy(h + QL_TAR_MAGIC, "ustar\00000", 8);
	set_octal(h + QL_TAR_MAJOR, DIGITS_8, 0);
	set_octal(h + QL_TAR_MINOR, DIGITS_8, 0);
}

/* What extends the next header: its own, and its content. */
static int extension_add(char type, const char *name, const void *data,
			 size_t len, struct ql_buf *out)
{
	static const char zeros[QL_TAR_BLOCK];
	char h[QL_TAR_BLOCK];
	int r;

	header_begin(h, type, len);
	memcpy(h + QL_TAR_NAME, name, strlen(name));
	if (type != 'x') /* GNU's own magic, as those who look for it expect */
		memcpy(h + QL_TAR_MAGIC, "ustar  ", 8);
	set_sum(h);
	r = ql_buf_add(out, h, sizeof(h));
	if (r == 0)
		r = ql_buf_add(out, data, len);
	if (r == 0)
		r = ql_buf_add(out, zeros, ql_tar_padding(len));
	return r;
}

/* ---- pax records ---- */

static size_t decimal_len(size_t n)
{
	size_t len = 1;

	while (n >= 10) {
		n /= 10;
		len++;
	}
	return len;
}

/* "LEN KEY=VALUE\n", where LEN counts itself. */
static int record_add(struct ql_buf *pax, const char *prefix, const char *key,
		      const void *value, size_t len)
{
	size_t rest = 1 + strlen(prefix) + strlen(key) + 1 + len + 1;
	size_t all = rest + decimal_len(rest);
	int r;

	if (decimal_len(all) > all - rest)
		all++;
	r = ql_buf_addf(pax, "%zu %s%s=", all, prefix, key);
	if (r == 0)
		r = ql_buf_add(pax, value, len);
	return r < 0 ? r : ql_buf_add(pax, "\n", 1);
}

static int record_number(struct ql_buf *pax, const char *key, uint64_t v)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%" PRIu64, v);
	return record_add(pax, "", key, text, strlen(text));
}

/* -2 s and 500,000,000 ns are "-1.5", as pax and Go's archive/tar have it. */
static int record_mtime(struct ql_buf *pax, int64_t sec, uint32_t nsec)
{
	bool negative = sec < 0;
	uint64_t whole = (uint64_t)sec;
	char text[48];
	size_t len;

	if (negative && nsec > 0) {
		whole = 0 - (whole + 1);
		nsec = 1000000000 - nsec;
	} else if (negative) {
		whole = 0 - whole;
	}
	(void)snprintf(text, sizeof(text), "%s%" PRIu64 ".%09" PRIu32,
		       negative ? "-" : "", whole, nsec);
	len = strlen(text);
	while (text[len - 1] == '0')
		len--;
	if (text[len - 1] == '.')
		len--;
	return record_add(pax, "", "mtime", text, len);
}

/* ---- names ---- */

static bool is_ascii(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((uint8_t)text[i] >= 0x80)
			return false;
	return true;
}

/* Where a name can be cut into ustar's prefix and name: the '/' between;
 * 0: nowhere. */
static size_t prefix_cut(const char *name, size_t len)
{
	size_t most = len - 2 < PREFIX_ROOM ? len - 2 : PREFIX_ROOM;

	/* The last '/' of a folder is no place to cut. */
	for (size_t at = most; at > 0 && len - at - 1 <= NAME_ROOM; at--)
		if (name[at] == '/')
			return at;
	return 0;
}

/* For readers that pass over what extends the header: the name's beginning,
 * which must not make a folder of what is none. */
static void set_shortened(char *field, const char *name, size_t len)
{
	bool folder = name[len - 1] == '/';

	len = NAME_ROOM - folder;
	while (len > 1 && name[len - 1] == '/')
		len--;
	memcpy(field, name, len);
	if (folder)
		field[len] = '/';
}

struct name_field {
	const char *key; /* pax's */
	char type;	 /* GNU's */
	size_t at;	 /* in the header */
};

/* Into the header's field, and before it in pax or out where that does not do.
 */
static int name_set(char h[QL_TAR_BLOCK], const struct name_field *f,
		    const char *name, struct ql_buf *pax, struct ql_buf *out)
{
	size_t len = strlen(name);
	bool ascii = is_ascii(name, len);
	bool utf8 = ascii || ql_utf8_valid(name, len);
	bool own = ascii || !utf8;
	size_t cut = own && f->at == QL_TAR_NAME && len > NAME_ROOM
			     ? prefix_cut(name, len)
			     : 0;

	if (cut > 0) {
		memcpy(h + QL_TAR_PREFIX, name, cut);
		memcpy(h + f->at, name + cut + 1, len - cut - 1);
		return 0;
	}
	if (len <= NAME_ROOM)
		memcpy(h + f->at, name, len);
	else
		set_shortened(h + f->at, name, len);
	if (own && len <= NAME_ROOM)
		return 0;
	return utf8 ? record_add(pax, "", f->key, name, len)
		    : extension_add(f->type, "././@LongLink", name, len + 1,
				    out);
}

/* ---- numbers ---- */

static int number_set(char *field, unsigned int digits, const char *key,
		      uint64_t v, struct ql_buf *pax)
{
	if (octal_fits(v, digits)) {
		set_octal(field, digits, v);
		return 0;
	}
	return record_number(pax, key, v);
}

static int mtime_set(char h[QL_TAR_BLOCK], const struct ql_tar_entry *e,
		     struct ql_buf *pax)
{
	bool fits = e->mtime_sec >= 0 &&
		    octal_fits((uint64_t)e->mtime_sec, DIGITS_12);

	if (fits)
		set_octal(h + QL_TAR_MTIME, DIGITS_12, (uint64_t)e->mtime_sec);
	return fits && e->mtime_nsec == 0
		       ? 0
		       : record_mtime(pax, e->mtime_sec, e->mtime_nsec);
}

static int numbers_set(char h[QL_TAR_BLOCK], const struct ql_tar_entry *e,
		       struct ql_buf *pax)
{
	bool device = e->type == '3' || e->type == '4';
	int r;

	set_octal(h + QL_TAR_MODE, DIGITS_8, e->mode);
	set_octal(h + QL_TAR_MAJOR, DIGITS_8, device ? e->major : 0);
	set_octal(h + QL_TAR_MINOR, DIGITS_8, device ? e->minor : 0);
	r = number_set(h + QL_TAR_UID, DIGITS_8, "uid", e->uid, pax);
	if (r == 0)
		r = number_set(h + QL_TAR_GID, DIGITS_8, "gid", e->gid, pax);
	if (r == 0)
		r = number_set(h + QL_TAR_SIZE, DIGITS_12, "size",
			       e->type == '0' ? e->size : 0, pax);
	return r < 0 ? r : mtime_set(h, e, pax);
}

/* ---- xattrs ---- */

static int xattr_cmp(const void *a, const void *b)
{
	const struct ql_tar_xattr *const *x = a;
	const struct ql_tar_xattr *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

/* In the order of their names, whatever theirs was. */
static int xattrs_add(const struct ql_tar_entry *e, struct ql_buf *pax)
{
	_cleanup_free_ const struct ql_tar_xattr **sorted = NULL;
	int r = 0;

	if (e->n_xattrs == 0)
		return 0;
	sorted = calloc(e->n_xattrs, sizeof(*sorted));
	if (!sorted)
		return -ENOMEM;
	for (size_t i = 0; i < e->n_xattrs; i++)
		sorted[i] = &e->xattrs[i];
	qsort(sorted, e->n_xattrs, sizeof(*sorted), xattr_cmp);
	for (size_t i = 0; i < e->n_xattrs && r == 0; i++)
		r = record_add(pax, XATTR_KEY, sorted[i]->name,
			       sorted[i]->value, sorted[i]->len);
	return r;
}

/* ---- what can be said ---- */

static int refuse(const struct ql_tar_entry *e, const char *why,
		  struct ql_error *err)
{
	return ql_error_set(err, -EINVAL, "no archive can have \"%.300s\": %s",
			    e->path, why);
}

static int check_name(const struct ql_tar_entry *e, const char *name,
		      struct ql_error *err)
{
	_cleanup_free_ char *normal = NULL;
	int r = ql_path_normalize(name, &normal, err);

	if (r == -ENOMEM)
		return r;
	if (r < 0 || strcmp(name, normal) != 0)
		return refuse(e, "its name", err);
	return 0;
}

static int check_xattrs(const struct ql_tar_entry *e, struct ql_error *err)
{
	if (e->n_xattrs > XATTRS)
		return refuse(e, "too many xattrs", err);
	for (size_t i = 0; i < e->n_xattrs; i++) {
		const struct ql_tar_xattr *x = &e->xattrs[i];
		size_t len = strlen(x->name);

		if (len == 0 || len > KEY_MAX || strchr(x->name, '='))
			return refuse(e, "an xattr's name", err);
		if (x->len > VALUE_MAX)
			return refuse(e, "an xattr of this length", err);
	}
	return 0;
}

static int check_numbers(const struct ql_tar_entry *e, struct ql_error *err)
{
	if (e->mode & ~07777U)
		return refuse(e, "its mode", err);
	if (e->uid == UINT32_MAX || e->gid == UINT32_MAX)
		return refuse(e, "its owner", err);
	if (e->type == '0' && e->size > INT64_MAX)
		return refuse(e, "its size", err);
	if (e->mtime_nsec >= 1000000000 || e->mtime_sec == INT64_MAX ||
	    e->mtime_sec < -INT64_MAX ||
	    (e->mtime_sec == -INT64_MAX && e->mtime_nsec == 0))
		return refuse(e, "its time", err);
	if ((e->type == '3' || e->type == '4') &&
	    !(octal_fits(e->major, DIGITS_8) && octal_fits(e->minor, DIGITS_8)))
		return refuse(e, "its device number", err);
	return 0;
}

static int check_entry(const struct ql_tar_entry *e, struct ql_error *err)
{
	int r = check_name(e, e->path, err);

	if (r < 0)
		return r;
	if (e->type < '0' || e->type > '6')
		return refuse(e, "its type", err);
	if (!*e->path && e->type != '5')
		return refuse(e, "a root that is no folder", err);
	if ((e->type == '1' || e->type == '2') && (!e->link || !*e->link))
		return refuse(e, "a link to nothing", err);
	if (e->type == '2' && strlen(e->link) > QL_PATH_MAX)
		return refuse(e, "its target", err);
	if (e->type == '1')
		r = check_name(e, e->link, err);
	if (r == 0)
		r = check_numbers(e, err);
	return r < 0 ? r : check_xattrs(e, err);
}

/* ---- the whole ---- */

static int names_set(char h[QL_TAR_BLOCK], const struct ql_tar_entry *e,
		     struct ql_buf *pax, struct ql_buf *out)
{
	static const struct name_field link = { "linkpath", 'K', QL_TAR_LINK };
	static const struct name_field path = { "path", 'L', QL_TAR_NAME };
	char name[QL_PATH_MAX + 3];
	int r = 0;

	(void)snprintf(name, sizeof(name), "%s%s", *e->path ? e->path : ".",
		       e->type == '5' ? "/" : "");
	if (e->type == '1' || e->type == '2')
		r = name_set(h, &link, e->link, pax, out);
	return r < 0 ? r : name_set(h, &path, name, pax, out);
}

static int write_entry(const struct ql_tar_entry *e, struct ql_buf *pax,
		       struct ql_buf *out)
{
	char h[QL_TAR_BLOCK];
	int r;

	header_begin(h, e->type, 0);
	r = names_set(h, e, pax, out);
	if (r == 0)
		r = numbers_set(h, e, pax);
	if (r == 0)
		r = xattrs_add(e, pax);
	if (r == 0 && pax->len > 0)
		r = extension_add('x', "././@PaxHeader", pax->data, pax->len,
				  out);
	if (r < 0)
		return r;
	set_sum(h);
	return ql_buf_add(out, h, sizeof(h));
}

int ql_tar_write_entry(const struct ql_tar_entry *e, struct ql_buf *buf,
		       struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf pax = QL_BUF_INIT(EXTENDED_MAX);
	size_t before = buf->len;
	int r = check_entry(e, err);

	if (r < 0)
		return r;
	r = write_entry(e, &pax, buf);
	if (r == 0)
		return 0;
	buf->len = before;
	if (buf->data)
		buf->data[before] = '\0';
	if (r == -EFBIG)
		return ql_error_set(err, r, "\"%.300s\": headers too long",
				    e->path);
	return ql_error_nomem(err);
}
