/* SPDX-License-Identifier: Apache-2.0 */
/* What a person's word for an image means in the store. */
#include "fetch/fetch-private.h"

#include <errno.h>
#include <string.h>

enum { FIND_HEX_MIN = 12 };

struct find_prefix {
	const char *hex; /* borrowed */
	size_t len;
	struct ql_digest found;
	bool any;
	bool several;
};

static int find_prefix(const char *name, const struct ql_image_info *info,
		       void *arg)
{
	struct find_prefix *fp = arg;
	char hex[QL_DIGEST_HEX + 1];

	(void)name;
	(void)ql_digest_hex(&info->manifest, hex);
	if (strncmp(hex, fp->hex, fp->len) != 0)
		return 0;
	if (fp->any && !ql_digest_equal(&fp->found, &info->manifest))
		fp->several = true;
	fp->found = info->manifest;
	fp->any = true;
	return 0;
}

static int find_by_digest(struct ql_store *store, const char *hex,
			  struct ql_digest *ret_manifest, struct ql_error *err)
{
	struct find_prefix fp = { .hex = hex, .len = strlen(hex) };
	int r = ql_image_each(store, find_prefix, &fp, err);

	if (r < 0)
		return r;
	if (fp.several)
		return ql_error_set(err, -EINVAL, "%s: several images begin so",
				    hex);
	if (!fp.any)
		return -ENOENT;
	*ret_manifest = fp.found;
	return 0;
}

static bool is_hex(const char *s)
{
	size_t n = strspn(s, "0123456789abcdef");

	return s[n] == '\0' && n >= FIND_HEX_MIN && n <= QL_DIGEST_HEX;
}

static int find_by_name(struct ql_store *store, const char *text,
			struct ql_digest *ret_manifest, char **ret_name,
			struct ql_error *err)
{
	_cleanup_ref_ struct ql_ref ref = { 0 };
	int r = ql_ref_parse(text, &ref, err);

	if (r < 0)
		return r;
	r = ql_image_find(store, ref.name, ret_manifest);
	if (r == 0)
		*ret_name = ql_take_ptr(ref.name);
	return r;
}

int ql_find_image(struct ql_store *store, const char *text,
		  struct ql_digest *ret_manifest, char **ret_name,
		  struct ql_error *err)
{
	char *name = NULL;
	int r = -ENOENT;

	if (strncmp(text, "sha256:", 7) == 0 && is_hex(text + 7))
		r = find_by_digest(store, text + 7, ret_manifest, err);
	else if (is_hex(text))
		r = find_by_digest(store, text, ret_manifest, err);
	if (r == -ENOENT)
		r = find_by_name(store, text, ret_manifest, &name, err);
	if (r == -ENOENT)
		return ql_error_set(err, r,
				    "%s: no such image in %s; pull it first",
				    text, ql_store_root(store));
	if (r < 0)
		return err->text[0] ? r : ql_error_errno(err, r, "%s", text);
	*ret_name = name;
	return 0;
}

int ql_find_tree(struct ql_store *store, const char *text,
		 struct ql_tree **ret_tree, struct ql_error *err)
{
	_cleanup_free_ char *name = NULL;
	struct ql_digest manifest;
	int r = ql_find_image(store, text, &manifest, &name, err);

	return r < 0 ? r : ql_tree_open_image(store, &manifest, ret_tree, err);
}
