/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trees: extended attributes.  After the inode stands a header of 12 bytes
 * (filter, number of shared ones), 4-byte references to shared xattrs, and
 * then the inode's own: length of the name, index of its prefix, length of
 * the value, name, value, padded to 4.  Layout: Linux fs/erofs/erofs_fs.h.
 *
 * composefs writes its own trusted.overlay.* and moves those of the image to
 * trusted.overlay.overlay.*; a reader of the image is shown the latter under
 * their old name and none of the former (Linux
 * Documentation/filesystems/overlayfs.rst, "Nesting overlayfs mounts").
 *
 * A position: 0 to n - 1 are the n shared ones, INLINE_BASE and up the byte
 * offset of an own one.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "store/store-private.h"

enum {
	HEADER = 12,
	SHARED_COUNT_POS = 4,
	UNIT = 4,
	ENTRY = 4,
	INLINE_BASE = 256,
	INDEX_TRUSTED = 4,
	PREFIXES = 7,
};

static const char *const prefixes[PREFIXES] = {
	"",
	"user.",
	"system.posix_acl_access",
	"system.posix_acl_default",
	"trusted.",
	"lustre.",
	"security.",
};

/* One entry in [pos, limit), and where the next starts. */
static int read_entry(const struct ql_tree *tree, uint64_t pos, uint64_t limit,
		      struct ql_xattr *ret_xattr, uint64_t *ret_next)
{
	const uint8_t *head = ql_tree_span(tree, pos, ENTRY);
	struct ql_xattr x;
	uint64_t len;

	if (!head || head[1] >= PREFIXES)
		return -EBADMSG;
	x.prefix = prefixes[head[1]];
	x.name_len = head[0];
	x.value_len = (size_t)(head[2] | head[3] << 8);
	if (x.name_len == 0 && x.prefix[0] == 0)
		return -EBADMSG;
	len = ENTRY + x.name_len + x.value_len;
	head = ql_tree_span(tree, pos, len);
	if (!head || pos + len > limit || memchr(head + ENTRY, 0, x.name_len))
		return -EBADMSG;
	x.name = (const char *)head + ENTRY;
	x.value = head + ENTRY + x.name_len;
	*ret_xattr = x;
	*ret_next = pos + ((len + UNIT - 1) & ~(uint64_t)(UNIT - 1));
	return 1;
}

static int read_shared(const struct ql_tree *tree, const uint8_t *ref,
		       struct ql_xattr *ret_xattr)
{
	struct ql_cursor c;
	uint64_t pos, next;

	ql_cursor_init(&c, ref, UNIT);
	pos = ql_tree_xattr_base(tree) + (uint64_t)ql_cursor_le32(&c) * UNIT;
	return read_entry(tree, pos, UINT64_MAX, ret_xattr, &next);
}

int ql_tree_xattr_raw(const struct ql_tree *tree, const struct ql_inode *inode,
		      uint64_t *pos, struct ql_xattr *ret_xattr)
{
	uint64_t size, at, next;
	const uint8_t *area;
	uint32_t shared;
	int r;

	if (inode->xattr_icount == 0)
		return 0;
	size = HEADER + (uint64_t)UNIT * (inode->xattr_icount - 1);
	area = ql_tree_span(tree, inode->xattr_pos, size);
	if (!area)
		return -EBADMSG;
	shared = area[SHARED_COUNT_POS];
	if (HEADER + (uint64_t)shared * UNIT > size)
		return -EBADMSG;
	if (*pos < shared) {
		r = read_shared(tree, area + HEADER + *pos * UNIT, ret_xattr);
		if (r > 0)
			*pos += 1;
		return r;
	}
	at = *pos <= INLINE_BASE ? HEADER + (uint64_t)shared * UNIT
				 : *pos - INLINE_BASE;
	if (at >= size || size - at < ENTRY)
		return 0;
	r = read_entry(tree, inode->xattr_pos + at, inode->xattr_pos + size,
		       ret_xattr, &next);
	if (r > 0)
		*pos = next - inode->xattr_pos + INLINE_BASE;
	return r;
}

static bool named(const struct ql_xattr *x, const char *prefix,
		  const char *name)
{
	return strcmp(x->prefix, prefix) == 0 && x->name_len == strlen(name) &&
	       memcmp(x->name, name, x->name_len) == 0;
}

int ql_tree_xattr_trusted(const struct ql_tree *tree,
			  const struct ql_inode *inode, const char *name,
			  struct ql_xattr *ret_xattr)
{
	struct ql_xattr x;
	uint64_t pos = 0;
	int r;

	while ((r = ql_tree_xattr_raw(tree, inode, &pos, &x)) > 0) {
		if (named(&x, prefixes[INDEX_TRUSTED], name)) {
			*ret_xattr = x;
			return 1;
		}
	}
	return r;
}

/* What composefs adds to a whiteout, and to the directory that holds it. */
static bool escape_mark(const struct ql_inode *inode, const struct ql_xattr *x)
{
	if (S_ISCHR(inode->mode))
		return named(x, "trusted.", "overlay.overlay.whiteout") ||
		       named(x, "user.", "overlay.whiteout");
	if (named(x, "trusted.", "overlay.overlay.whiteouts") ||
	    named(x, "user.", "overlay.whiteouts"))
		return x->value_len == 0;
	if (named(x, "trusted.", "overlay.overlay.opaque") ||
	    named(x, "user.", "overlay.opaque"))
		return x->value_len == 1 && x->value[0] == 'x';
	return false;
}

static bool added(const struct ql_tree *tree, const struct ql_inode *inode,
		  const struct ql_xattr *x)
{
	if (S_ISREG(inode->mode) && (named(x, "trusted.", "overlay.metacopy") ||
				     named(x, "trusted.", "overlay.redirect")))
		return true;
	if (inode->nid == ql_tree_root(tree) &&
	    named(x, "trusted.", "overlay.opaque"))
		return true;
	return inode->escaped && escape_mark(inode, x);
}

int ql_tree_xattr(const struct ql_tree *tree, const struct ql_inode *inode,
		  uint64_t *pos, struct ql_xattr *ret_xattr)
{
	static const char escape[] = "overlay.overlay.";
	const size_t escape_len = sizeof(escape) - 1,
		     inner = strlen("overlay.");
	struct ql_xattr x;
	uint64_t at = *pos;
	int r;

	do {
		r = ql_tree_xattr_raw(tree, inode, &at, &x);
		if (r <= 0)
			return r;
	} while (added(tree, inode, &x));

	if (strcmp(x.prefix, prefixes[INDEX_TRUSTED]) == 0 &&
	    x.name_len > escape_len &&
	    memcmp(x.name, escape, escape_len) == 0) {
		x.name += inner;
		x.name_len -= inner;
	}
	*pos = at;
	*ret_xattr = x;
	return 1;
}
