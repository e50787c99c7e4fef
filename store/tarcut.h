/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer's archive for those who write it again: cut into files' content and
 * the bytes between, with no byte lost.  Part of store/store.h; include that.
 */
#ifndef QL_TARCUT_H
#define QL_TARCUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/base.h"

struct ql_tar_time {
	bool known;
	int64_t sec;
	uint32_t nsec;
};

/* How an entry is written, for those who repeat it. */
struct ql_tar_raw {
	char flag;  /* the header's type */
	char *name; /* owned, as it is written */
	char *link; /* owned; a hardlink's target as it is written; NULL for
		     * others, whose is struct ql_tar_entry's */
	int64_t mode;
	uint64_t size; /* of what is no file it may be of no meaning */
	struct ql_tar_time atime, ctime;
	bool sparse;	 /* what is stored is not the content */
	bool global;	 /* a global header (pax 'g') stands before it */
	uint64_t stored; /* bytes of content in the archive */
};

struct ql_tar_entry;

struct ql_tarcut_ops {
	/* Bytes that are no file's content: headers, padding, the end. */
	int (*raw)(void *arg, const void *data, size_t len,
		   struct ql_error *err);
	/* An entry (both borrowed), whose headers were passed as raw bytes. */
	int (*entry)(void *arg, const struct ql_tar_entry *e,
		     const struct ql_tar_raw *raw, struct ql_error *err);
	/* Its content as it is stored, in pieces: raw->stored bytes in all. */
	int (*data)(void *arg, const void *data, size_t len,
		    struct ql_error *err);
};

/*
 * Reads an uncompressed tar (borrowed) to its end; every byte of it is passed
 * to raw or data, in order.  A negative return of an op stops and is
 * returned.  -EBADMSG: not a tar.
 */
int ql_tar_cut(struct ql_stream *tar, const struct ql_tarcut_ops *ops,
	       void *arg, struct ql_error *err);

#endif
