/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a layer's blob to its table of contents and a draft of the layer:
 * lazylayer.c finds the table (toclocate.c), reads it by ranges, unpacks it as
 * a stream (tocsection.c), whose JSON becomes entries (tocjson.c), which
 * become the draft (tocdraft.c).
 */
#ifndef QL_TOC_PRIVATE_H
#define QL_TOC_PRIVATE_H

#include "fetch/fetch-private.h"

/* ---- toclocate.c: where a blob's table of contents is ---- */

enum {
	QL_TOC_FOOTER_MAX = 72,	       /* bytes; no footer is longer */
	QL_TOC_SECTION_MAX = 64 << 20, /* bytes; larger ones are not read */
	QL_TOC_JSON_MAX = 256 << 20,
};

/*
 * The section is what lies in the blob: a zstd frame, or a gzip member with a
 * tar that holds the JSON.  What is told by the annotations and what by the
 * blob's footer must agree.
 */
struct ql_toc_where {
	uint64_t blob_size;
	bool located; /* else the footer has to tell, and the next five: */
	bool zstd;    /* else gzip */
	uint64_t offset, len;	    /* of the section */
	uint64_t raw_len;	    /* of the JSON; 0: its tar header tells */
	uint64_t content_end;	    /* files' content lies before it */
	bool has_sum, has_json_sum; /* at least one */
	struct ql_digest sum;	    /* of the section */
	struct ql_digest json_sum;  /* of the JSON */
};
/*
 * By the descriptor alone.  -ENOTSUP: a plain layer (described only where it
 * has annotations): what says it has a table of contents, but has no digest
 * to verify it by, is one too.  -EBADMSG: annotations that cannot be.
 */
int ql_toc_locate(const struct ql_descriptor *d, struct ql_toc_where *ret_where,
		  struct ql_error *err);
/*
 * By the blob's last bytes: QL_TOC_FOOTER_MAX of them, or the whole blob
 * where it is shorter; fills in or compares.  -ENOTSUP: the table is not in
 * the blob, or too large.  -EBADMSG: no footer, or not as annotated.
 */
int ql_toc_footer(const void *tail, size_t len, struct ql_toc_where *where,
		  struct ql_error *err);

/* ---- tocsection.c: from the section to its JSON ---- */

/* The name that a gzip section's tar has for the JSON. */
#define QL_TOC_TAR_NAME "stargz.index.json"
enum { QL_TOC_TAR_HEADER = 512 }; /* bytes in front of the JSON */

/* Over section (borrowed): a stream of the JSON.  That its digest is right is
 * known when it has come to its end. */
int ql_toc_section_open(const struct ql_toc_where *where, const void *section,
			size_t len, struct ql_stream **ret_json,
			struct ql_error *err);

/* ---- tocjson.c: the entries of the JSON ---- */

enum ql_entry_type {
	QL_ENTRY_NONE,
	QL_ENTRY_FILE,
	QL_ENTRY_CHUNK, /* more of the file before it */
	QL_ENTRY_DIR,
	QL_ENTRY_SYMLINK,
	QL_ENTRY_HARDLINK,
	QL_ENTRY_CHAR,
	QL_ENTRY_BLOCK,
	QL_ENTRY_FIFO,
};

/* As the document has it: numbers are 0 and strings "" where it has none. */
struct ql_toc_entry {
	enum ql_entry_type type;
	uint64_t size, mode, uid, gid, major, minor;
	uint64_t offset, end_offset, inner_offset;
	uint64_t chunk_offset, chunk_size;
	const char *name, *link, *modtime; /* borrowed, as all below */
	const char *digest, *chunk_digest, *chunk_type;
	const struct ql_tar_xattr *xattrs;
	size_t n_xattrs;
};
typedef int ql_toc_entry_fn(void *arg, const struct ql_toc_entry *e,
			    struct ql_error *err);
/* Calls fn for each, and reads json to its end; memory is bounded by the
 * largest entry.  -ENOTSUP: of another version.  -EBADMSG. */
int ql_tocjson_read(struct ql_stream *json, ql_toc_entry_fn *fn, void *arg,
		    struct ql_error *err);

/* ---- rfc3339.c ---- */

/* "2006-01-02T15:04:05.999999999Z" or with an offset; 0 or -EBADMSG. */
int ql_rfc3339_parse(const char *text, int64_t *ret_sec, uint32_t *ret_nsec);

/* ---- tocdraft.c: from entries to a draft ---- */

struct ql_tocdraft {
	struct ql_draft *draft; /* borrowed */
	uint64_t content_end;	/* of the blob */
	char *name;		/* owned; of the file whose chunks come */
	bool in_file;
	struct ql_digest digest; /* of the file */
	uint64_t size, pos;	 /* of the file; where the next chunk begins */
	uint64_t end_offset;	 /* of its content in the blob; 0: not told */
	const struct ql_store *store; /* borrowed; NULL: the below is not of
				       * interest */
	uint64_t bytes, missing;      /* of files; those that are not here */
};
/* A ql_toc_entry_fn; arg: a struct ql_tocdraft.  -EBADMSG, -EINVAL, …: what
 * no image may hold, named.  -ENOTSUP: what we cannot have piece by piece, or
 * not exactly. */
int ql_tocdraft_entry(void *arg, const struct ql_toc_entry *e,
		      struct ql_error *err);
/* After the last one. */
int ql_tocdraft_end(struct ql_tocdraft *td, struct ql_error *err);
void ql_tocdraft_release(struct ql_tocdraft *td);
#define _cleanup_tocdraft_ __attribute__((cleanup(ql_tocdraft_release)))

#endif
