/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a mount's accesses, which name inodes, to a trace, which names paths.
 * Reads that follow each other in a file become one.
 */
#include "tools/cli.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fs.h"
#include "tools/bundle.h"

enum { DEPTH_MAX = 1000 };

struct named {
	uint64_t nid;
	char *path; /* owned */
};

struct names {
	const struct ql_tree *tree; /* borrowed */
	struct named *items;	    /* owned */
	size_t n, cap;
};

static void names_release(struct names *names)
{
	for (size_t i = 0; i < names->n; i++)
		free(names->items[i].path);
	free(names->items);
}

static int names_add(struct names *names, uint64_t nid, const char *path)
{
	if (names->n == names->cap) {
		size_t cap = names->cap ? names->cap * 2 : 1024;
		struct named *grown =
			reallocarray(names->items, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		names->items = grown;
		names->cap = cap;
	}
	names->items[names->n].path = strdup(path);
	names->items[names->n].nid = nid;
	return names->items[names->n].path ? (names->n++, 0) : -ENOMEM;
}

static int names_walk(struct names *names, uint64_t nid, const char *prefix,
		      int depth) // NOLINT(misc-no-recursion)
{
	struct ql_inode dir;
	struct ql_dirent d;
	uint64_t pos = 0;
	int r = ql_tree_inode(names->tree, nid, &dir);

	if (depth > DEPTH_MAX)
		return -ELOOP;
	while (r == 0 &&
	       (r = ql_tree_readdir(names->tree, &dir, &pos, &d)) > 0) {
		_cleanup_free_ char *path =
			ql_strf("%s/%.*s", prefix, (int)d.len, d.name);

		r = path ? 0 : -ENOMEM;
		if (r == 0 && d.type == DT_REG)
			r = names_add(names, d.nid, path);
		else if (r == 0 && d.type == DT_DIR && d.nid != nid &&
			 !(d.len <= 2 && memcmp(d.name, "..", d.len) == 0))
			r = names_walk(names, d.nid, path, depth + 1);
	}
	return r;
}

static int by_nid(const void *a, const void *b)
{
	const struct named *x = a, *y = b;

	return (x->nid > y->nid) - (x->nid < y->nid);
}

/* One access, or a run of them that follow each other. */
static int trace_add(struct ql_trace *trace, const struct names *names,
		     const struct ql_access *a, uint64_t *last_nid)
{
	const struct named key = { .nid = a->nid };
	const struct named *named;

	if (trace->n > 0 && *last_nid == a->nid) {
		struct ql_trace_item *item = &trace->items[trace->n - 1];

		if (a->offset >= item->offset &&
		    a->offset <= item->offset + item->len) {
			if (a->offset + a->len > item->offset + item->len)
				item->len = a->offset + a->len - item->offset;
			return 0;
		}
	}
	if (names->n == 0)
		return 0;
	named = bsearch(&key, names->items, names->n, sizeof(*named), by_nid);
	if (!named)
		return 0;
	*last_nid = a->nid;
	return ql_trace_add(trace, named->path, a->offset, a->len);
}

int ql_record_trace(const struct ql_tree *tree, const void *accesses,
		    size_t len, struct ql_trace *ret_trace,
		    struct ql_error *err)
{
	_cleanup_(names_release) struct names names = { .tree = tree };
	struct ql_trace trace = { 0 };
	uint64_t last = 0;
	int r = names_walk(&names, ql_tree_root(tree), "", 0);

	if (r == 0 && names.n > 0)
		qsort(names.items, names.n, sizeof(*names.items), by_nid);
	for (size_t at = 0; len - at >= sizeof(struct ql_access) && r == 0;
	     at += sizeof(struct ql_access)) {
		struct ql_access a;

		memcpy(&a, (const char *)accesses + at, sizeof(a));
		if (a.len > 0 && a.offset <= INT64_MAX && a.len <= INT32_MAX)
			r = trace_add(&trace, &names, &a, &last);
	}
	if (r < 0) {
		ql_trace_release(&trace);
		return ql_error_errno(err, r, "trace");
	}
	*ret_trace = trace;
	return 0;
}
