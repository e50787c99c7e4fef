/* SPDX-License-Identifier: Apache-2.0 */
/* The xattrs of one entry, copied and sorted, so that two can be merged. */
#include <errno.h>
#include <string.h>

#include "refactor/refactor-private.h"

int ql_attrs_add(struct ql_attrs *attrs, const char *prefix, const char *name,
		 size_t name_len, const void *value, size_t len,
		 struct ql_error *err)
{
	_cleanup_free_ char *full = NULL;
	_cleanup_free_ uint8_t *copy = NULL;
	struct ql_attr *list;

	if (attrs->n >= QL_ATTRS_MAX)
		return ql_error_set(err, -E2BIG, "more than %d xattrs",
				    QL_ATTRS_MAX);
	full = ql_strf("%s%.*s", prefix, (int)name_len, name);
	copy = malloc(len + 1);
	list = reallocarray(attrs->list, attrs->n + 1, sizeof(*list));
	if (list)
		attrs->list = list;
	if (!full || !copy || !list)
		return ql_error_nomem(err);
	if (len > 0)
		memcpy(copy, value, len);
	list[attrs->n].name = ql_take_ptr(full);
	list[attrs->n].value = ql_take_ptr(copy);
	list[attrs->n].len = len;
	attrs->n++;
	return 0;
}

static int cmp_name(const void *a, const void *b)
{
	const struct ql_attr *x = a, *y = b;

	return strcmp(x->name, y->name);
}

void ql_attrs_sort(struct ql_attrs *attrs)
{
	if (attrs->n > 1)
		qsort(attrs->list, attrs->n, sizeof(*attrs->list), cmp_name);
}

void ql_attrs_release(struct ql_attrs *attrs)
{
	for (size_t i = 0; i < attrs->n; i++) {
		free(attrs->list[i].name);
		free(attrs->list[i].value);
	}
	free(attrs->list);
	attrs->list = NULL;
	attrs->n = 0;
}
