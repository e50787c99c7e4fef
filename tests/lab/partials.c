/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether what a store's catalogue claims of files that came in part is there:
 *
 *	partials STORE WHOLE
 *
 * Compares each recorded part with the object in WHOLE, a store that has all of
 * it.  No server may be running.  Prints how many bytes of how many files were
 * looked at; exit status 1: a part is not what it should be.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "store/store.h"

enum { PIECE = 1 << 16 };

struct count {
	unsigned int files;
	uint64_t bytes;
};

static bool same(int a, int b, uint64_t start, uint64_t end)
{
	static char x[PIECE], y[PIECE];

	while (start < end) {
		size_t n = end - start < PIECE ? (size_t)(end - start) : PIECE;

		if (ql_pread_full(a, x, n, start) != (ssize_t)n ||
		    ql_pread_full(b, y, n, start) != (ssize_t)n ||
		    memcmp(x, y, n) != 0)
			return false;
		start += n;
	}
	return true;
}

/* 1: something is wrong. */
static int check(struct ql_store *store, const struct ql_store *whole,
		 const char *hex, struct count *count, struct ql_error *err)
{
	_cleanup_close_ int part = -1, object = -1;
	struct ql_extents have = { 0 };
	struct ql_digest digest;
	struct stat st;
	int bad = 0;
	int r = ql_digest_from_hex(hex, &digest);

	if (r == 0)
		r = ql_object_open(whole, &digest, &object, err);
	if (r == 0 && fstat(object, &st) < 0)
		r = -errno;
	if (r == 0)
		r = ql_partial_open(store, &digest, (uint64_t)st.st_size, &part,
				    &have, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < have.n; i++) {
		count->bytes += have.items[i].end - have.items[i].start;
		if (same(part, object, have.items[i].start, have.items[i].end))
			continue;
		(void)fprintf(stderr,
			      "%s: %" PRIu64 " to %" PRIu64 " is wrong\n", hex,
			      have.items[i].start, have.items[i].end);
		bad = 1;
	}
	count->files++;
	ql_extents_release(&have);
	return bad;
}

static int run(const char *root, const char *other, struct ql_error *err)
{
	_cleanup_(ql_store_closep) struct ql_store *store = NULL;
	_cleanup_(ql_store_closep) struct ql_store *whole = NULL;
	_cleanup_free_ char *path = ql_strf("%s/partial", root);
	_cleanup_closedir_ DIR *dir = path ? opendir(path) : NULL;
	struct count count = { 0 };
	const struct dirent *e;
	int bad = 0;
	int r = ql_store_open(root, QL_STORE_WRITE, &store, err);

	if (r == 0)
		r = ql_store_open(other, QL_STORE_READ, &whole, err);
	if (r == 0 && !dir)
		r = ql_error_set(err, -ENOENT, "%s: no such folder", path);
	while (r >= 0 && (e = readdir(dir))) {
		char hex[QL_DIGEST_HEX + 1];

		if (strlen(e->d_name) != QL_DIGEST_HEX + 5 ||
		    strcmp(e->d_name + QL_DIGEST_HEX, ".part") != 0)
			continue;
		memcpy(hex, e->d_name, QL_DIGEST_HEX);
		hex[QL_DIGEST_HEX] = '\0';
		r = check(store, whole, hex, &count, err);
		bad |= r > 0;
	}
	(void)printf("%" PRIu64 " bytes of %u files\n", count.bytes,
		     count.files);
	return r < 0 ? r : bad;
}

int main(int argc, char **argv)
{
	struct ql_error err = QL_ERROR_INIT;
	int r;

	if (argc != 3) {
		(void)fprintf(stderr, "usage: partials STORE WHOLE\n");
		return 2;
	}
	r = run(argv[1], argv[2], &err);
	if (r < 0)
		(void)fprintf(stderr, "partials: %s\n", err.text);
	return r != 0;
}
