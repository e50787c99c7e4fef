/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON of a table of contents, drafted into a store that is gone at the
 * end.  What could be drafted is put down, read again, and must be sound.
 */
#include <ftw.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fetch/toc-private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char root[] = "/tmp/quicklayer-fuzz.XXXXXX";
static struct ql_store *store;

static int remove_one(const char *path, const struct stat *st, int flag,
		      struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static void clean_up(void)
{
	ql_store_close(store);
	(void)nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void set_up(void)
{
	if (store)
		return;
	if (!mkdtemp(root) ||
	    ql_store_open(root, QL_STORE_WRITE, &store, NULL) < 0)
		abort();
	(void)atexit(clean_up);
}

/* What of the entry reaches a draft is bounded. */
static int entry(void *arg, const struct ql_toc_entry *e, struct ql_error *err)
{
	if (e->type == QL_ENTRY_NONE || !e->name || !e->link || !e->digest)
		abort();
	for (size_t i = 0; i < e->n_xattrs; i++)
		if (e->xattrs[i].len > 0 && !e->xattrs[i].value)
			abort();
	return ql_tocdraft_entry(arg, e, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_tocdraft_ struct ql_tocdraft td = { .content_end = 100000 };
	_cleanup_(ql_draft_freep) struct ql_draft *draft = NULL;
	_cleanup_stream_ struct ql_stream *in = NULL;
	struct ql_error err = QL_ERROR_INIT;
	struct ql_digest blob = { { 1 } };
	int r;

	set_up();
	if (ql_draft_new(store, &blob, 100100, QL_CODEC_ZSTD, &draft, &err) <
		    0 ||
	    ql_stream_from_mem(data, size, &in, &err) < 0)
		abort();
	td.draft = draft;
	r = ql_tocjson_read(in, entry, &td, &err);
	if (r == 0)
		r = ql_tocdraft_end(&td, &err);
	if (r < 0 && err.text[0] == '\0')
		abort();
	return 0;
}
