/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Comparing two root file systems: both are walked in byte order of names and
 * merged, as sorted lists are.  Only the way down to the present entry is held.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "refactor/refactor-private.h"

enum {
	VALUE_SHOWN = 64, /* bytes of an xattr */
};

struct compare {
	unsigned int flags;
	ql_difference_fn *fn;
	void *arg; /* borrowed */
	uint64_t count;
	struct ql_buf path;	      /* owned; "" for the top */
	struct ql_hardlinks *links_a; /* owned */
	struct ql_hardlinks *links_b; /* owned */
	struct ql_error *err;	      /* borrowed */
	bool located;		      /* err says where */
};

static const char *shown_path(const struct compare *c)
{
	return c->path.len ? ql_buf_str(&c->path) : "/";
}

static int differ(struct compare *c, const char *what, const char *a,
		  const char *b)
{
	const struct ql_difference d = { shown_path(c), what, a, b };

	c->count++;
	return c->fn(&d, c->arg);
}

static int check_u64(struct compare *c, const char *what, const char *fmt,
		     uint64_t a, uint64_t b)
{
	char text_a[32], text_b[32];

	if (a == b)
		return 0;
	if (fmt[0] == 'o') {
		(void)snprintf(text_a, sizeof(text_a), "%04" PRIo64, a);
		(void)snprintf(text_b, sizeof(text_b), "%04" PRIo64, b);
	} else {
		(void)snprintf(text_a, sizeof(text_a), "%" PRIu64, a);
		(void)snprintf(text_b, sizeof(text_b), "%" PRIu64, b);
	}
	return differ(c, what, text_a, text_b);
}

static int check_mtime(struct compare *c, const struct ql_entry *a,
		       const struct ql_entry *b)
{
	char text_a[48], text_b[48];

	if (c->flags & QL_COMPARE_SKIP_MTIME ||
	    (a->mtime_sec == b->mtime_sec && a->mtime_nsec == b->mtime_nsec))
		return 0;
	/* seconds, rounded down, and nanoseconds after them */
	(void)snprintf(text_a, sizeof(text_a), "%" PRId64 " %09u", a->mtime_sec,
		       a->mtime_nsec);
	(void)snprintf(text_b, sizeof(text_b), "%" PRId64 " %09u", b->mtime_sec,
		       b->mtime_nsec);
	return differ(c, "mtime", text_a, text_b);
}

static int check_device(struct compare *c, const struct ql_entry *a,
			const struct ql_entry *b)
{
	char text_a[32], text_b[32];

	if (a->rdev == b->rdev)
		return 0;
	(void)snprintf(text_a, sizeof(text_a), "%u:%u", major(a->rdev),
		       minor(a->rdev));
	(void)snprintf(text_b, sizeof(text_b), "%u:%u", major(b->rdev),
		       minor(b->rdev));
	return differ(c, "device", text_a, text_b);
}

static int check_target(struct compare *c, struct ql_rootpos *a,
			struct ql_rootpos *b)
{
	_cleanup_buf_ struct ql_buf ta = QL_BUF_INIT(PATH_MAX);
	_cleanup_buf_ struct ql_buf tb = QL_BUF_INIT(PATH_MAX);
	int r;

	r = a->ops->target(a, &ta, c->err);
	if (r == 0)
		r = b->ops->target(b, &tb, c->err);
	if (r < 0)
		return r;
	if (strcmp(ql_buf_str(&ta), ql_buf_str(&tb)) == 0)
		return 0;
	return differ(c, "target", ql_buf_str(&ta), ql_buf_str(&tb));
}

static int check_content(struct compare *c, struct ql_rootpos *a,
			 struct ql_rootpos *b)
{
	char text_a[QL_DIGEST_TEXT + 1], text_b[QL_DIGEST_TEXT + 1];
	struct ql_digest da, db;
	int r;

	if (a->entry.size != b->entry.size)
		return check_u64(c, "size", "u", a->entry.size, b->entry.size);
	if (a->entry.size == 0)
		return 0;
	r = a->ops->digest(a, &da, c->err);
	if (r == 0)
		r = b->ops->digest(b, &db, c->err);
	if (r < 0)
		return r;
	if (ql_digest_equal(&da, &db))
		return 0;
	return differ(c, "content", ql_digest_text(&da, text_a),
		      ql_digest_text(&db, text_b));
}

static int check_hardlinks(struct compare *c, const struct ql_entry *a,
			   const struct ql_entry *b)
{
	const char *path = shown_path(c), *fa, *fb;

	if (a->nlink < 2 && b->nlink < 2)
		return 0;
	fa = ql_hardlinks_first(c->links_a, a, path);
	fb = ql_hardlinks_first(c->links_b, b, path);
	if (!fa || !fb)
		return ql_error_nomem(c->err);
	return strcmp(fa, fb) == 0 ? 0 : differ(c, "hardlink", fa, fb);
}

/* ---- xattrs ---- */

static void show_value(const struct ql_attr *attr, char *text, size_t size)
{
	size_t n = attr->len < VALUE_SHOWN ? attr->len : VALUE_SHOWN;
	size_t used = 0;

	text[0] = 0;
	for (size_t i = 0; i < n && used + 5 < size; i++) {
		uint8_t v = attr->value[i];

		if (v >= ' ' && v < 127 && v != '\\')
			text[used++] = (char)v;
		else
			used += (size_t)snprintf(text + used, size - used,
						 "\\x%02x", v);
		text[used] = 0;
	}
	if (n < attr->len)
		(void)snprintf(text + used, size - used, "...");
}

/* Either of a and b may be NULL. */
static int differ_attr(struct compare *c, const char *name,
		       const struct ql_attr *a, const struct ql_attr *b)
{
	char text_a[VALUE_SHOWN * 4 + 8], text_b[VALUE_SHOWN * 4 + 8];
	char what[NAME_MAX + 16];

	if (a)
		show_value(a, text_a, sizeof(text_a));
	if (b)
		show_value(b, text_b, sizeof(text_b));
	(void)snprintf(what, sizeof(what), "xattr %s", name);
	return differ(c, what, a ? text_a : NULL, b ? text_b : NULL);
}

static int merge_attrs(struct compare *c, const struct ql_attrs *a,
		       const struct ql_attrs *b)
{
	size_t i = 0, j = 0;
	int cmp, r = 0;

	while (r == 0 && (i < a->n || j < b->n)) {
		const struct ql_attr *x = &a->list[i], *y = &b->list[j];

		if (i == a->n)
			cmp = 1;
		else if (j == b->n)
			cmp = -1;
		else
			cmp = strcmp(x->name, y->name);
		if (cmp < 0)
			r = differ_attr(c, x->name, x, NULL);
		else if (cmp > 0)
			r = differ_attr(c, y->name, NULL, y);
		else if (x->len != y->len ||
			 memcmp(x->value, y->value, x->len) != 0)
			r = differ_attr(c, x->name, x, y);
		i += cmp <= 0;
		j += cmp >= 0;
	}
	return r;
}

static int check_attrs(struct compare *c, struct ql_rootpos *a,
		       struct ql_rootpos *b)
{
	struct ql_attrs attrs_a = { 0 }, attrs_b = { 0 };
	int r;

	if (c->flags & QL_COMPARE_SKIP_XATTRS)
		return 0;
	r = a->ops->attrs(a, &attrs_a, c->err);
	if (r == 0)
		r = b->ops->attrs(b, &attrs_b, c->err);
	if (r == 0) {
		ql_attrs_sort(&attrs_a);
		ql_attrs_sort(&attrs_b);
		r = merge_attrs(c, &attrs_a, &attrs_b);
	}
	ql_attrs_release(&attrs_a);
	ql_attrs_release(&attrs_b);
	return r;
}

/* ---- the walk ---- */

static const char *type_name(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "symlink";
	case S_IFCHR:
		return "character device";
	case S_IFBLK:
		return "block device";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	default:
		return "unknown";
	}
}

/* Says where an error happened, once, while the path is still known. */
static void locate(struct compare *c)
{
	if (c->err->code != 0 && !c->located) {
		c->located = true;
		(void)ql_error_prefix(c->err, "%s", shown_path(c));
	}
}

/* Both are of the same type. */
static int check_attributes(struct compare *c, struct ql_rootpos *a,
			    struct ql_rootpos *b)
{
	const struct ql_entry *ea = &a->entry, *eb = &b->entry;
	int r;

	r = check_u64(c, "mode", "o", ea->mode & 07777, eb->mode & 07777);
	if (r == 0)
		r = check_u64(c, "uid", "u", ea->uid, eb->uid);
	if (r == 0)
		r = check_u64(c, "gid", "u", ea->gid, eb->gid);
	if (r == 0)
		r = check_mtime(c, ea, eb);
	if (r == 0)
		r = check_device(c, ea, eb);
	if (r == 0)
		r = check_attrs(c, a, b);
	if (r == 0 && !S_ISDIR(ea->mode))
		r = check_hardlinks(c, ea, eb);
	if (r == 0 && S_ISLNK(ea->mode))
		r = check_target(c, a, b);
	if (r == 0 && S_ISREG(ea->mode))
		r = check_content(c, a, b);
	return r;
}

static int compare_dirs(struct compare *c, struct ql_rootpos *a,
			struct ql_rootpos *b, unsigned int depth);

static int compare_entries(struct compare *c, struct ql_rootpos *a,
			   struct ql_rootpos *b, unsigned int depth)
{
	const char *ta = type_name(a->entry.mode);
	const char *tb = type_name(b->entry.mode);
	int r = 0;

	if (strcmp(ta, tb) != 0)
		return differ(c, "type", ta, tb);
	if (depth > 0 || !(c->flags & QL_COMPARE_SKIP_TOP))
		r = check_attributes(c, a, b);
	if (r == 0 && S_ISDIR(a->entry.mode))
		r = compare_dirs(c, a, b, depth + 1);
	return r;
}

static int push_name(struct compare *c, const char *name)
{
	int r = ql_buf_addf(&c->path, "/%s", name);

	return r < 0 ? ql_error_errno(c->err, r, "%s", name) : 0;
}

static void pop_name(struct compare *c, size_t len)
{
	c->path.len = len;
	if (c->path.data)
		c->path.data[len] = 0;
}

/* One step: cmp < 0, only a has the entry; > 0, only b; 0, both. */
static int merge_step(struct compare *c, struct ql_rootpos *a,
		      struct ql_rootpos *b, int cmp, unsigned int depth)
{
	size_t len = c->path.len;
	int r;

	r = push_name(c, cmp <= 0 ? a->entry.name : b->entry.name);
	if (r < 0)
		return r;
	if (cmp < 0)
		r = differ(c, "missing", type_name(a->entry.mode), NULL);
	else if (cmp > 0)
		r = differ(c, "extra", NULL, type_name(b->entry.mode));
	else
		r = compare_entries(c, a, b, depth);
	if (r < 0)
		locate(c);
	pop_name(c, len);
	return r;
}

static int merge(struct compare *c, struct ql_rootpos *a, struct ql_rootpos *b,
		 unsigned int depth)
{
	int cmp = 0, r = 0, more_a = 1, more_b = 1;

	for (;;) {
		if (cmp <= 0 && more_a > 0)
			more_a = a->ops->next(a, c->err);
		if (cmp >= 0 && more_b > 0)
			more_b = b->ops->next(b, c->err);
		if (more_a < 0 || more_b < 0)
			return more_a < 0 ? more_a : more_b;
		if (!more_a && !more_b)
			return 0;
		if (more_a && more_b)
			cmp = strcmp(a->entry.name, b->entry.name);
		else
			cmp = more_a ? -1 : 1;
		r = merge_step(c, a, b, cmp, depth);
		if (r != 0)
			return r;
	}
}

static int compare_dirs(struct compare *c, struct ql_rootpos *a,
			struct ql_rootpos *b, unsigned int depth)
{
	struct ql_rootpos *in_a = NULL, *in_b = NULL;
	int r;

	if (depth > QL_ROOT_DEPTH_MAX)
		return ql_error_set(c->err, -ELOOP,
				    "more than %d folders in each other",
				    QL_ROOT_DEPTH_MAX);
	r = a->ops->enter(a, &in_a, c->err);
	if (r == 0)
		r = b->ops->enter(b, &in_b, c->err);
	if (r == 0)
		r = merge(c, in_a, in_b, depth);
	if (in_a)
		a->ops->leave(in_a);
	if (in_b)
		b->ops->leave(in_b);
	return r;
}

static int compare_tops(struct compare *c, struct ql_root *a, struct ql_root *b)
{
	struct ql_rootpos *top_a = NULL, *top_b = NULL;
	int r;

	r = a->ops->top(a, &top_a, c->err);
	if (r == 0)
		r = b->ops->top(b, &top_b, c->err);
	if (r == 0)
		r = compare_entries(c, top_a, top_b, 0);
	if (top_a)
		a->ops->leave(top_a);
	if (top_b)
		b->ops->leave(top_b);
	return r;
}

int ql_root_compare(struct ql_root *a, struct ql_root *b, unsigned int flags,
		    ql_difference_fn *fn, void *arg, uint64_t *ret_count,
		    struct ql_error *err)
{
	struct ql_error local = QL_ERROR_INIT;
	struct compare c = {
		.flags = flags, .fn = fn, .arg = arg, .err = &local
	};
	int r = 0;

	ql_buf_init(&c.path, QL_PATHS_DEEP);
	c.links_a = ql_hardlinks_new();
	c.links_b = ql_hardlinks_new();
	if (!c.links_a || !c.links_b)
		r = ql_error_nomem(&local);
	if (r == 0)
		r = compare_tops(&c, a, b);
	if (local.code != 0) {
		locate(&c);
		(void)ql_error_set(err, local.code, "%s", local.text);
	}
	ql_buf_release(&c.path);
	ql_hardlinks_free(c.links_a);
	ql_hardlinks_free(c.links_b);
	if (r == 0)
		*ret_count = c.count;
	return r;
}

void ql_root_free(struct ql_root *root)
{
	if (root)
		root->ops->free(root);
}
