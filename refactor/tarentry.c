/* SPDX-License-Identifier: Apache-2.0 */
/* Archive entries that are kept longer than their reader keeps them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "refactor/refactor-private.h"

bool ql_name_is_stargz(const char *name, size_t len)
{
	static const char *const names[] = { "stargz.index.json",
					     ".prefetch.landmark",
					     ".no.prefetch.landmark" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (len == strlen(names[i]) && memcmp(name, names[i], len) == 0)
			return true;
	return false;
}

void ql_tarentry_release(struct ql_tar_entry *e)
{
	free(e->path);
	free(e->link);
	for (size_t i = 0; i < e->n_xattrs; i++) {
		free(e->xattrs[i].name);
		free(e->xattrs[i].value);
	}
	free(e->xattrs);
	*e = (struct ql_tar_entry){ 0 };
}

int ql_tarentry_xattr(struct ql_tar_entry *e, char *name, const void *value,
		      size_t len)
{
	struct ql_tar_xattr *grown =
		reallocarray(e->xattrs, e->n_xattrs + 1, sizeof(*grown));
	char *own = malloc(len + 1);

	if (grown)
		e->xattrs = grown;
	if (!grown || !own || !name) {
		free(own);
		free(name);
		return -ENOMEM;
	}
	memcpy(own, value, len);
	own[len] = 0;
	e->xattrs[e->n_xattrs++] =
		(struct ql_tar_xattr){ .name = name, .value = own, .len = len };
	return 0;
}

int ql_tarentry_copy(const struct ql_tar_entry *from, struct ql_tar_entry *ret)
{
	struct ql_tar_entry e = *from;
	int r = 0;

	e.path = strdup(from->path);
	e.link = from->link ? strdup(from->link) : NULL;
	e.xattrs = NULL;
	e.n_xattrs = 0;
	if (!e.path || (from->link && !e.link))
		r = -ENOMEM;
	for (size_t i = 0; i < from->n_xattrs && r == 0; i++)
		r = ql_tarentry_xattr(&e, strdup(from->xattrs[i].name),
				      from->xattrs[i].value,
				      from->xattrs[i].len);
	if (r < 0) {
		ql_tarentry_release(&e);
		return r;
	}
	*ret = e;
	return 0;
}
