/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a tar archive that may be anything: every entry, its names, xattrs
 * and content, up to a number of bytes (a sparse file may claim exabytes).
 * Names that come out must be ones that the store may use.
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
		if (read) /* every other one is skipped */
			read_content(tar, e);
		read = !read;
	}
	must(ql_tar_pos(tar) <= size);
	return 0;
}
