/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was asked for, kept in a file of its own, so that cache policies can be
 * tried on it (quicklayer cachesim).  JSON, an object a line:
 *
 *	{"quicklayer_access_log": 1}
 *	{"time": "2026-11-24T18:00:00.123Z", "repository": "registry/app",
 *	 "image": "sha256:…"}
 *	{"time": …, "repository": …, "layer": "sha256:…", "parent": "sha256:…",
 *	 "size": 1000, "bytes": 400, "hit": true}
 *
 * The first is the first line of each file.  After an image its layers follow,
 * the base first, which has no parent; what came ready-made is one layer that
 * has the image's digest.  size: bytes of disk; bytes: to fetch it; hit: it was
 * kept (left out where there is no budget, so that nothing ever goes).
 *
 * A log never fails what it tells of.  Several processes may write to one.
 */
#ifndef QL_ACCESSLOG_H
#define QL_ACCESSLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/base.h"

/* Bytes; a file that would be larger becomes PATH.1, and that goes. */
#define QL_ACCESSLOG_MAX ((uint64_t)32 << 20)

enum ql_access_hit { QL_ACCESS_UNKNOWN, QL_ACCESS_MISS, QL_ACCESS_HIT };

struct ql_access_layer {
	struct ql_digest layer;
	bool has_parent;
	struct ql_digest parent;
	uint64_t size;	/* bytes of disk */
	uint64_t bytes; /* to fetch it */
	enum ql_access_hit hit;
};

/* Where this process logs to (copied); "": nowhere; NULL, and until it is
 * called: where QUICKLAYER_ACCESS_LOG says.  -ENOMEM: as before.  Any thread.
 */
int ql_accesslog_set(const char *path);
/* Whether there is a log.  Any thread. */
bool ql_accesslog_is_on(void);
/* An image was asked for.  repository may be NULL.  What cannot be written is
 * left out, and told once.  Any thread. */
void ql_accesslog_add(const char *repository, const struct ql_digest *manifest,
		      const struct ql_access_layer *layers, size_t n);

#endif
