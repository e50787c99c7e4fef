/* SPDX-License-Identifier: Apache-2.0 */
/* Where a refactored image goes: a reference with parts of the old one's. */
#include <errno.h>
#include <string.h>

#include "refactor/refactor-private.h"

enum { NAME_LEN_MAX = 4096, DIGEST_DIGITS = 12 };

/* Without what an archive's file name ends with. */
static size_t archive_len(const char *base)
{
	static const char *const ends[] = { ".gz",  ".bz2", ".xz",
					    ".zst", ".tgz", ".tar" };
	size_t len = strlen(base);

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		size_t n = strlen(ends[i]);

		if (len > n && memcmp(base + len - n, ends[i], n) == 0)
			len -= n;
	}
	return len;
}

/* The last part of a path; of an archive, which may hold several images, that
 * of the image, where it is named. */
static int name_add(struct ql_buf *buf, const struct ql_ref *ref)
{
	bool archive = ref->kind == QL_REF_DOCKER_ARCHIVE;
	const char *path = archive && ref->tag ? ref->tag : ref->path;
	const char *slash = strrchr(path, '/');
	const char *base = slash ? slash + 1 : path;

	if (path == ref->path)
		return ql_buf_add(buf, base,
				  archive ? archive_len(base) : strlen(base));
	return ql_buf_add(buf, base, strcspn(base, ":"));
}

static int tag_add(struct ql_buf *buf, const struct ql_ref *ref)
{
	char hex[QL_DIGEST_HEX + 1];
	const char *colon;

	if (!ref->tag)
		return ref->has_digest
			       ? ql_buf_add(buf,
					    ql_digest_hex(&ref->digest, hex),
					    DIGEST_DIGITS)
			       : ql_buf_adds(buf, "latest");
	/* Of an archive it is "name:tag". */
	colon = strrchr(ref->tag, ':');
	return ql_buf_adds(buf, colon ? colon + 1 : ref->tag);
}

static const struct {
	const char *text;
	int (*add)(struct ql_buf *buf, const struct ql_ref *ref);
} parts[] = { { "{name}", name_add }, { "{tag}", tag_add } };

static int pattern_fill(const char *to, const struct ql_ref *ref,
			struct ql_buf *buf, struct ql_error *err)
{
	int r = 0;

	while (*to && r == 0) {
		size_t i, n = sizeof(parts) / sizeof(parts[0]);

		for (i = 0; i < n; i++)
			if (strncmp(to, parts[i].text, strlen(parts[i].text)) ==
			    0)
				break;
		if (i < n) {
			r = parts[i].add(buf, ref);
			to += strlen(parts[i].text);
		} else if (*to == '{' || *to == '}') {
			return ql_error_set(err, -EINVAL,
					    "there is {name} and {tag} to be "
					    "filled in, and no other brace");
		} else {
			r = ql_buf_add(buf, to++, 1);
		}
	}
	return r < 0 ? ql_error_errno(err, r, "a name") : 0;
}

static bool has_tag(const char *to)
{
	const char *rest = strncmp(to, "oci:", 4) == 0 ? to + 4 : to;
	const char *slash = strrchr(rest, '/');

	return strchr(slash ? slash : rest, ':') != NULL;
}

int ql_dest_name(const char *to, const struct ql_ref *ref, char **ret_name,
		 struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(NAME_LEN_MAX);
	int r = pattern_fill(to, ref, &buf, err);

	if (r == 0 && !has_tag(to))
		r = pattern_fill(":{name}-{tag}", ref, &buf, err);
	if (r < 0)
		return ql_error_prefix(err, "%s", to);
	*ret_name = ql_buf_take(&buf);
	return *ret_name ? 0 : ql_error_nomem(err);
}
