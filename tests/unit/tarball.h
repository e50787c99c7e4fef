/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests: tar archives written by hand, field by field, so that also those
 * can be made that no archiver writes; and a reader over one of them.  The
 * offsets are POSIX's ("ustar Interchange Format") and GNU's, written here
 * again so that a wrong one in the reader shows.
 */
#ifndef QL_TEST_TARBALL_H
#define QL_TEST_TARBALL_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/store-private.h"

enum tarball_magic { TARBALL_USTAR, TARBALL_GNU, TARBALL_V7 };

struct tarball_entry {
	const char *name;
	char type; /* as in the header; 0 is v7's */
	const char *link, *prefix;
	const void *data;
	size_t len;
	unsigned int mode, uid, gid, major, minor;
	long mtime;
	enum tarball_magic magic;
};

static inline void tarball_must(bool true_)
{
	if (!true_)
		abort();
}

static inline void tarball_bytes(struct ql_buf *buf, const void *data,
				 size_t len)
{
	tarball_must(ql_buf_add(buf, data, len) == 0);
}

/* Zeros up to the next whole block. */
static inline void tarball_pad(struct ql_buf *buf)
{
	static const char zeros[512];

	tarball_bytes(buf, zeros, -buf->len & 511);
}

static inline void tarball_field(char *at, size_t len, unsigned long v)
{
	char digits[32];

	(void)snprintf(digits, sizeof(digits), "%0*lo", (int)len - 1, v);
	memcpy(at, digits, len - 1);
}

static inline void tarball_string(char *at, size_t len, const char *s)
{
	if (s)
		memcpy(at, s, strlen(s) < len ? strlen(s) : len);
}

/* The checksum of the header at p, anew: after bytes of it were changed. */
static inline void tarball_sum(char *p)
{
	unsigned int sum = 0;

	memset(p + 148, ' ', 8);
	for (int i = 0; i < 512; i++)
		sum += (unsigned char)p[i];
	(void)snprintf(p + 148, 8, "%06o", sum);
}

/* A header alone, of an entry with len bytes behind it; where it is. */
static inline char *tarball_header(struct ql_buf *buf,
				   const struct tarball_entry *e)
{
	char h[512] = { 0 };
	size_t at = buf->len;

	tarball_string(h, 100, e->name);
	tarball_field(h + 100, 8, e->mode ? e->mode : 0644);
	tarball_field(h + 108, 8, e->uid);
	tarball_field(h + 116, 8, e->gid);
	tarball_field(h + 124, 12, e->len);
	tarball_field(h + 136, 12, (unsigned long)e->mtime);
	h[156] = e->type;
	tarball_string(h + 157, 100, e->link);
	if (e->magic == TARBALL_USTAR)
		memcpy(h + 257, "ustar\00000", 8);
	else if (e->magic == TARBALL_GNU)
		memcpy(h + 257, "ustar  ", 8);
	if (e->magic != TARBALL_V7) {
		tarball_field(h + 329, 8, e->major);
		tarball_field(h + 337, 8, e->minor);
	}
	if (e->magic == TARBALL_USTAR)
		tarball_string(h + 345, 155, e->prefix);
	tarball_sum(h);
	tarball_bytes(buf, h, sizeof(h));
	return buf->data + at;
}

static inline void tarball_add(struct ql_buf *buf,
			       const struct tarball_entry *e)
{
	(void)tarball_header(buf, e);
	if (e->data)
		tarball_bytes(buf, e->data, e->len);
	tarball_pad(buf);
}

static inline void tarball_file(struct ql_buf *buf, const char *name,
				const char *data)
{
	tarball_add(buf, &(struct tarball_entry){ .name = name,
						  .type = '0',
						  .data = data,
						  .len = strlen(data) });
}

static inline void tarball_dir(struct ql_buf *buf, const char *name,
			       unsigned int mode)
{
	tarball_add(buf, &(struct tarball_entry){
				 .name = name, .type = '5', .mode = mode });
}

static inline void tarball_link(struct ql_buf *buf, char type, const char *name,
				const char *target)
{
	tarball_add(buf, &(struct tarball_entry){
				 .name = name, .type = type, .link = target });
}

static inline void tarball_end(struct ql_buf *buf)
{
	static const char zeros[1024];

	tarball_bytes(buf, zeros, sizeof(zeros));
}

/* ---- extensions ---- */

/* "LEN KEY=VALUE\n", whose length counts itself. */
static inline void tarball_record(struct ql_buf *pax, const char *key,
				  const void *value, size_t len)
{
	size_t rest = strlen(key) + len + 3;
	size_t n = rest + 1;
	char digits[32];

	while ((size_t)snprintf(digits, sizeof(digits), "%zu", n) + rest != n)
		n++;
	tarball_must(ql_buf_addf(pax, "%zu %s=", n, key) == 0);
	tarball_bytes(pax, value, len);
	tarball_bytes(pax, "\n", 1);
}

static inline void tarball_extension(struct ql_buf *buf, char type,
				     const char *name, const void *data,
				     size_t len)
{
	tarball_add(buf, &(struct tarball_entry){
				 .name = name,
				 .type = type,
				 .data = data,
				 .len = len,
				 .magic = type == 'x' ? TARBALL_USTAR
						      : TARBALL_GNU });
}

/* An extended header of one record, for the entry that follows. */
static inline void tarball_pax(struct ql_buf *buf, const char *key,
			       const void *value, size_t len)
{
	_cleanup_buf_ struct ql_buf pax = QL_BUF_INIT(1 << 20);

	tarball_record(&pax, key, value, len);
	tarball_extension(buf, 'x', "pax", pax.data, pax.len);
}

static inline void tarball_paxs(struct ql_buf *buf, const char *key,
				const char *value)
{
	tarball_pax(buf, key, value, strlen(value));
}

/* ---- reading ---- */

struct archive {
	struct ql_buf buf;
	struct ql_stream *in; /* owned */
	struct ql_tar *tar;   /* owned */
	struct ql_error err;
};

static inline void archive_init(struct archive *a)
{
	*a = (struct archive){ .buf = QL_BUF_INIT(64 << 20) };
}

static inline void archive_release(struct archive *a)
{
	ql_tar_free(a->tar);
	ql_stream_free(a->in);
	ql_buf_release(&a->buf);
}
#define _cleanup_archive_ __attribute__((cleanup(archive_release)))

/* The next entry; NULL at the end, and abort() where reading fails. */
static inline int archive_step(struct archive *a,
			       const struct ql_tar_entry **ret_entry)
{
	if (!a->tar) {
		tarball_must(ql_stream_from_mem(ql_buf_str(&a->buf), a->buf.len,
						&a->in, NULL) == 0);
		tarball_must(ql_tar_new(a->in, &a->tar, NULL) == 0);
	}
	return ql_tar_next(a->tar, ret_entry, &a->err);
}

/* The entry's content, to its end, is these bytes. */
static inline bool archive_content_is(struct archive *a, const void *want,
				      size_t len)
{
	_cleanup_buf_ struct ql_buf got = QL_BUF_INIT(1 << 20);
	const void *data;
	ssize_t n;

	while ((n = ql_tar_data(a->tar, &data, &a->err)) > 0)
		tarball_must(ql_buf_add(&got, data, (size_t)n) == 0);
	return n == 0 && got.len == len &&
	       memcmp(ql_buf_str(&got), want, len) == 0;
}

#endif
