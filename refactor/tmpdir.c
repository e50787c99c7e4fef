/* SPDX-License-Identifier: Apache-2.0 */
/* Folders that last as long as a command. */
#define _XOPEN_SOURCE 700 /* nftw() */
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>

#include "refactor/refactor-private.h"

enum { DEPTH = 16 }; /* open folders at once */

int ql_tmpdir_new(const char *dir, char **ret_path, struct ql_error *err)
{
	char *path = ql_strf("%s/quicklayer-refactor.XXXXXX", dir);
	int r;

	if (!path)
		return ql_error_nomem(err);
	if (!mkdtemp(path)) {
		r = ql_error_errno(err, -errno, "%s", path);
		free(path);
		return r;
	}
	*ret_path = path;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag,
		      struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	(void)remove(path);
	return 0;
}

void ql_tmpdir_free(char *path)
{
	if (!path)
		return;
	(void)nftw(path, remove_one, DEPTH, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	free(path);
}
