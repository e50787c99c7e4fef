/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether two things in two trees are the same: what quicklayer diff compares,
 * read from the trees directly, for it is asked for every file of every image.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "refactor/refactor-private.h"

static bool xattr_equal(const struct ql_xattr *x, const struct ql_xattr *y)
{
	return strcmp(x->prefix, y->prefix) == 0 &&
	       x->name_len == y->name_len &&
	       memcmp(x->name, y->name, x->name_len) == 0 &&
	       x->value_len == y->value_len &&
	       memcmp(x->value, y->value, x->value_len) == 0;
}

/* Is this xattr of a among y's? */
static int xattr_in(const struct ql_xattr *x, const struct ql_tree *b,
		    const struct ql_inode *y)
{
	struct ql_xattr other;
	uint64_t pos = 0;
	int r;

	while ((r = ql_tree_xattr(b, y, &pos, &other)) > 0)
		if (xattr_equal(x, &other))
			return 1;
	return r;
}

/* How many of x's xattrs y has too, in *ret_n of them. */
static int xattrs_within(const struct ql_tree *a, const struct ql_inode *x,
			 const struct ql_tree *b, const struct ql_inode *y,
			 uint32_t *ret_n)
{
	struct ql_xattr attr;
	uint64_t pos = 0;
	int r, found;

	*ret_n = 0;
	while ((r = ql_tree_xattr(a, x, &pos, &attr)) > 0) {
		found = xattr_in(&attr, b, y);
		if (found <= 0)
			return found;
		(*ret_n)++;
	}
	return r < 0 ? r : 1;
}

/* A name is in a tree's list once: as many, and all of one in the other. */
static int xattrs_same(const struct ql_tree *a, const struct ql_inode *x,
		       const struct ql_tree *b, const struct ql_inode *y)
{
	uint32_t n, n_other = 0;
	struct ql_xattr attr;
	uint64_t pos = 0;
	int r = xattrs_within(a, x, b, y, &n);

	if (r <= 0)
		return r;
	while ((r = ql_tree_xattr(b, y, &pos, &attr)) > 0)
		n_other++;
	return r < 0 ? r : n == n_other;
}

/* Small files stand in the tree itself, unless that was made from a table of
 * contents, which knows no more than their digests. */
static int content_digest(const struct ql_content *c,
			  struct ql_digest *ret_digest)
{
	if (c->data)
		return ql_digest_of(c->data, (size_t)c->size, ret_digest);
	*ret_digest = c->object;
	return 0;
}

static int content_same(const struct ql_tree *a, const struct ql_inode *x,
			const struct ql_tree *b, const struct ql_inode *y)
{
	struct ql_digest digest_p, digest_q;
	struct ql_content p, q;
	int r = ql_tree_content(a, x, &p);

	if (r == 0)
		r = ql_tree_content(b, y, &q);
	if (r < 0 || p.size == 0)
		return r < 0 ? r : 1;
	if (p.data && q.data)
		return memcmp(p.data, q.data, (size_t)p.size) == 0;
	r = content_digest(&p, &digest_p);
	if (r == 0)
		r = content_digest(&q, &digest_q);
	return r < 0 ? r : ql_digest_equal(&digest_p, &digest_q);
}

static int target_same(const struct ql_tree *a, const struct ql_inode *x,
		       const struct ql_tree *b, const struct ql_inode *y)
{
	const char *p = "", *q = "";
	size_t len_p = 0, len_q = 0;
	int r = ql_tree_readlink(a, x, &p, &len_p);

	if (r == 0)
		r = ql_tree_readlink(b, y, &q, &len_q);
	return r < 0 ? r : len_p == len_q && memcmp(p, q, len_p) == 0;
}

int ql_identity_same(const struct ql_tree *a, const struct ql_inode *x,
		     const struct ql_tree *b, const struct ql_inode *y,
		     bool any_mtime)
{
	int r = 1;

	if (x->mode != y->mode || x->uid != y->uid || x->gid != y->gid)
		return 0;
	if (!any_mtime &&
	    (x->mtime_sec != y->mtime_sec || x->mtime_nsec != y->mtime_nsec))
		return 0;
	if ((S_ISCHR(x->mode) || S_ISBLK(x->mode)) && x->rdev != y->rdev)
		return 0;
	if (S_ISREG(x->mode))
		r = x->size == y->size ? content_same(a, x, b, y) : 0;
	else if (S_ISLNK(x->mode))
		r = target_same(a, x, b, y);
	return r <= 0 ? r : xattrs_same(a, x, b, y);
}
