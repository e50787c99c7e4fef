/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a tar archive that may be anything: every entry, its names, xattrs
 * and content, up to a number of bytes (a sparse file may claim exabytes).
 * Names that come out must be ones that the store may use, and an entry that
 * is written again is the same when it is read.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "store/store-private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CONTENT_MAX = 1 << 20 };

static void must(bool true_)
{
	if (!true_)
		abort();
}

static void check_path(const char *path)
{
	size_t len = strlen(path);

	must(len <= QL_PATH_MAX && path[0] != '/');
	must(len == 0 || path[len - 1] != '/');
	must(strcmp(path, "..") != 0 && strncmp(path, "../", 3) != 0);
	must(!strstr(path, "//") && !strstr(path, "/../"));
}

static void check_entry(const struct ql_tar_entry *e)
{
	check_path(e->path);
	must(e->type >= '0' && e->type <= '6');
	if (e->type == '1')
		check_path(e->link);
	must(e->mtime_nsec < 1000000000);
	must((e->mode & ~07777U) == 0);
	for (size_t i = 0; i < e->n_xattrs; i++)
		must(e->xattrs[i].name[0] != '\0');
}

static void check_same(const struct ql_tar_entry *a,
		       const struct ql_tar_entry *b)
{
	must(a->type == b->type && strcmp(a->path, b->path) == 0);
	if (a->type == '1' || a->type == '2')
		must(strcmp(a->link, b->link) == 0);
	if (a->type == '3' || a->type == '4')
		must(a->major == b->major && a->minor == b->minor);
	must(a->mode == b->mode && a->uid == b->uid && a->gid == b->gid);
	must(a->size == b->size && a->mtime_sec == b->mtime_sec);
	must(a->mtime_nsec == b->mtime_nsec && a->n_xattrs == b->n_xattrs);
	for (size_t i = 0; i < a->n_xattrs; i++) {
		size_t j = 0;

		while (j < b->n_xattrs &&
		       strcmp(a->xattrs[i].name, b->xattrs[j].name) != 0)
			j++;
		must(j < b->n_xattrs && a->xattrs[i].len == b->xattrs[j].len);
		must(memcmp(a->xattrs[i].value, b->xattrs[j].value,
			    a->xattrs[i].len) == 0);
	}
}

static void write_again(const struct ql_tar_entry *e)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(2 << 20);
	_cleanup_stream_ struct ql_stream *in = NULL;
	_cleanup_(ql_tar_freep) struct ql_tar *tar = NULL;
	const struct ql_tar_entry *again;

	if (ql_tar_write_entry(e, &buf, NULL) < 0)
		return; /* more than readers need take */
	must(ql_stream_from_mem(buf.data, buf.len, &in, NULL) == 0 &&
	     ql_tar_new(in, &tar, NULL) == 0);
	must(ql_tar_next(tar, &again, NULL) == 1);
	check_same(e, again);
}

static void read_content(struct ql_tar *tar, const struct ql_tar_entry *e)
{
	uint64_t len = 0;
	const void *data;
	ssize_t n;

	while (len < CONTENT_MAX && (n = ql_tar_data(tar, &data, NULL)) > 0)
		len += (uint64_t)n;
	must(len <= e->size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_stream_ struct ql_stream *in = NULL;
	_cleanup_(ql_tar_freep) struct ql_tar *tar = NULL;
	const struct ql_tar_entry *e;
	bool read = true;

	if (ql_stream_from_mem(data, size, &in, NULL) < 0 ||
	    ql_tar_new(in, &tar, NULL) < 0)
		return 0;
	while (ql_tar_next(tar, &e, NULL) > 0) {
		check_entry(e);
		write_again(e);
		if (read) /* every other one is skipped */
			read_content(tar, e);
		read = !read;
	}
	must(ql_tar_pos(tar) <= size);
	return 0;
}
