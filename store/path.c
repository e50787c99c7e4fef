/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names in archives.  They are relative to the image's root whatever they
 * begin with, as every engine takes them (images built by ko and others have
 * absolute names); ".." is refused: no builder writes it, and what it would
 * mean depends on symlinks.
 */
#include "store/store-private.h"

#include <errno.h>
#include <string.h>

int ql_path_normalize(const char *path, char **ret_path, struct ql_error *err)
{
	_cleanup_free_ char *out = NULL;
	size_t len = strlen(path);
	size_t n = 0;

	if (len > QL_PATH_MAX + 1U)
		return ql_error_set(err, -ENAMETOOLONG,
				    "a name of %zu bytes; %d are the most", len,
				    QL_PATH_MAX);
	out = malloc(len + 1);
	if (!out)
		return ql_error_nomem(err);
	for (const char *p = path; *p;) {
		size_t part = strcspn(p, "/");

		if (part == 2 && p[0] == '.' && p[1] == '.')
			return ql_error_set(err, -EINVAL,
					    "%.200s: \"..\" in a name", path);
		if (part > QL_NAME_MAX)
			return ql_error_set(err, -ENAMETOOLONG,
					    "%.200s…: a component of %zu "
					    "bytes; %d are the most",
					    path, part, QL_NAME_MAX);
		if (part > 0 && !(part == 1 && p[0] == '.')) {
			if (n > 0)
				out[n++] = '/';
			memcpy(out + n, p, part);
			n += part;
		}
		p += part + (p[part] == '/');
	}
	out[n] = '\0';
	*ret_path = ql_take_ptr(out);
	return 0;
}
