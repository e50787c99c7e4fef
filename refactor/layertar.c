/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A planned layer's archive: its units in their order, each read from the tree
 * that has it, its content from the store.  What is in memory is one entry's
 * headers; and of files of several names, where the first is.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "refactor/refactor-private.h"

enum {
	HEAD_MAX = 8 << 20, /* bytes of an entry's headers and inline content */
};

struct name { /* of a file of several */
	uint32_t member;
	uint64_t nid;
	uint32_t unit;
};

struct layertar {
	struct ql_stream base;
	const struct ql_inventory *inv; /* borrowed, as these */
	const struct ql_store *store;
	const struct ql_plan_layer *layer;
	struct name *names; /* owned; sorted */
	uint32_t n_names;
	uint32_t next;	    /* in the layer's units */
	struct ql_buf head; /* owned; bytes that come before content */
	size_t head_at;
	int fd;		/* owned; of content; -1: none */
	uint64_t left;	/* of it */
	size_t padding; /* behind it */
	bool ended;
};

/* ---- entries ---- */

static int entry_type(struct ql_tar_entry *e, const struct ql_inode *inode)
{
	static const struct {
		uint32_t mode;
		char type;
	} types[] = { { S_IFREG, '0' }, { S_IFLNK, '2' }, { S_IFCHR, '3' },
		      { S_IFBLK, '4' }, { S_IFDIR, '5' }, { S_IFIFO, '6' } };

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if ((inode->mode & S_IFMT) != types[i].mode)
			continue;
		e->type = types[i].type;
		return 0;
	}
	return -EINVAL;
}

static int entry_xattr(struct ql_tar_entry *e, const struct ql_xattr *x)
{
	return ql_tarentry_xattr(
		e, ql_strf("%s%.*s", x->prefix, (int)x->name_len, x->name),
		x->value, x->value_len);
}

static int xattr_cmp(const void *a, const void *b)
{
	return strcmp(((const struct ql_tar_xattr *)a)->name,
		      ((const struct ql_tar_xattr *)b)->name);
}

/* Trees may list them in any order; an archive has one. */
static int entry_xattrs(struct ql_tar_entry *e, const struct ql_tree *tree,
			const struct ql_inode *inode)
{
	struct ql_xattr x;
	uint64_t pos = 0;
	int r;

	while ((r = ql_tree_xattr(tree, inode, &pos, &x)) > 0) {
		r = entry_xattr(e, &x);
		if (r < 0)
			return r;
	}
	if (e->n_xattrs > 1)
		qsort(e->xattrs, e->n_xattrs, sizeof(*e->xattrs), xattr_cmp);
	return r;
}

static int entry_target(struct ql_tar_entry *e, const struct ql_tree *tree,
			const struct ql_inode *inode)
{
	const char *target;
	size_t len;
	int r = ql_tree_readlink(tree, inode, &target, &len);

	if (r < 0)
		return r;
	e->link = strndup(target, len);
	return e->link ? 0 : -ENOMEM;
}

static int entry_make(const struct ql_tree *tree, const char *path,
		      const struct ql_inode *inode, const char *first_name,
		      struct ql_tar_entry *e)
{
	int r = entry_type(e, inode);

	if (r < 0)
		return r;
	e->path = strdup(path);
	e->mode = inode->mode & 07777;
	e->uid = inode->uid;
	e->gid = inode->gid;
	e->mtime_sec = inode->mtime_sec;
	e->mtime_nsec = inode->mtime_nsec;
	e->major = major(inode->rdev);
	e->minor = minor(inode->rdev);
	if (!e->path)
		return -ENOMEM;
	if (first_name) {
		e->type = '1';
		e->link = strdup(first_name);
		return e->link ? 0 : -ENOMEM;
	}
	if (e->type == '0')
		e->size = inode->size;
	if (e->type == '2')
		r = entry_target(e, tree, inode);
	return r < 0 ? r : entry_xattrs(e, tree, inode);
}

/* ---- files of several names ---- */

static int name_cmp(const void *a, const void *b)
{
	const struct name *x = a, *y = b;

	if (x->member != y->member)
		return x->member < y->member ? -1 : 1;
	if (x->nid != y->nid)
		return x->nid < y->nid ? -1 : 1;
	return x->unit < y->unit ? -1 : x->unit > y->unit;
}

static int names_find(struct layertar *t)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < t->layer->n_units; i++)
		n += t->inv->units[t->layer->units[i]].linked;
	t->names = calloc(n + 1UL, sizeof(*t->names));
	if (!t->names)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->layer->n_units; i++) {
		const struct ql_unit *u = &t->inv->units[t->layer->units[i]];

		if (u->linked)
			t->names[t->n_names++] =
				(struct name){ u->member, u->nid,
					       t->layer->units[i] };
	}
	if (n > 1)
		qsort(t->names, n, sizeof(*t->names), name_cmp);
	return 0;
}

/* The unit that a file of several names is first; itself, if it is that. */
static uint32_t first_of(const struct layertar *t, uint32_t unit)
{
	const struct ql_unit *u = &t->inv->units[unit];
	const struct name key = { u->member, u->nid, 0 };
	uint32_t low = 0, high = t->n_names;

	if (!u->linked)
		return unit;
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (name_cmp(&t->names[mid], &key) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return t->names[low].unit;
}

/* ---- the stream ---- */

static int content_begin(struct layertar *t, const struct ql_tree *tree,
			 const struct ql_inode *inode, struct ql_error *err)
{
	struct ql_content content;
	int r = ql_tree_content(tree, inode, &content);

	if (r < 0)
		return ql_error_errno(err, r, "the tree");
	t->padding = ql_tar_padding(content.size);
	if (content.size == 0)
		return 0;
	if (!content.data) {
		t->left = content.size;
		return ql_object_open(t->store, &content.object, &t->fd, err);
	}
	r = ql_buf_add(&t->head, content.data, (size_t)content.size);
	return r < 0 ? ql_error_errno(err, r, "content") : 0;
}

static int unit_begin(struct layertar *t, uint32_t unit, struct ql_error *err)
{
	const struct ql_unit *u = &t->inv->units[unit];
	const struct ql_tree *tree = t->inv->trees[u->member];
	uint32_t first = first_of(t, unit);
	const char *first_name =
		first == unit ? NULL
			      : ql_unit_path(t->inv, &t->inv->units[first]);
	struct ql_tar_entry e = { 0 };
	struct ql_inode inode;
	int r = ql_tree_inode(tree, u->nid, &inode);

	if (r == 0)
		r = entry_make(tree, ql_unit_path(t->inv, u), &inode,
			       first_name, &e);
	if (r < 0)
		r = ql_error_errno(err, r, "the tree");
	if (r == 0)
		r = ql_tar_write_entry(&e, &t->head, err);
	if (r == 0 && e.type == '0')
		r = content_begin(t, tree, &inode, err);
	ql_tarentry_release(&e);
	return r < 0 ? ql_error_prefix(err, "\"%.300s\"",
				       ql_unit_path(t->inv, u))
		     : 0;
}

static int zeros_add(struct layertar *t, size_t n, struct ql_error *err)
{
	static const char zeros[QL_TAR_END];

	return ql_buf_add(&t->head, zeros, n) < 0 ? ql_error_nomem(err) : 0;
}

/* More into head; nothing where the archive has ended. */
static int more(struct layertar *t, struct ql_error *err)
{
	size_t padding = t->padding;

	ql_buf_clear(&t->head);
	t->head_at = 0;
	t->padding = 0;
	if (padding > 0)
		return zeros_add(t, padding, err);
	if (t->next < t->layer->n_units)
		return unit_begin(t, t->layer->units[t->next++], err);
	if (t->ended)
		return 0;
	t->ended = true;
	/* The table of a large layer is compressed for longer than all of this
	 * took; what was read of trees is not needed for it. */
	for (uint32_t i = 0; i < t->inv->n_members; i++)
		ql_tree_relax(t->inv->trees[i]);
	return zeros_add(t, QL_TAR_END, err);
}

static ssize_t content_read(struct layertar *t, void *buf, size_t len,
			    struct ql_error *err)
{
	ssize_t n;

	if (len > t->left)
		len = (size_t)t->left;
	n = ql_read_full(t->fd, buf, len);
	if (n < 0)
		return ql_error_errno(err, (int)n, "reading an object");
	if ((size_t)n < len)
		return ql_error_set(
			err, -EBADMSG, "\"%.300s\": its object is too short",
			ql_unit_path(
				t->inv,
				&t->inv->units[t->layer->units[t->next - 1]]));
	t->left -= (uint64_t)n;
	if (t->left == 0) {
		(void)close(t->fd);
		t->fd = -1;
	}
	return n;
}

static ssize_t layertar_read(struct ql_stream *s, void *buf, size_t len,
			     struct ql_error *err)
{
	struct layertar *t = (struct layertar *)s;

	if (t->head_at == t->head.len && t->left == 0) {
		int r = more(t, err);

		if (r < 0)
			return r;
	}
	if (t->head_at < t->head.len) {
		if (len > t->head.len - t->head_at)
			len = t->head.len - t->head_at;
		memcpy(buf, t->head.data + t->head_at, len);
		t->head_at += len;
		return (ssize_t)len;
	}
	return t->left > 0 ? content_read(t, buf, len, err) : 0;
}

static void layertar_free(struct ql_stream *s)
{
	struct layertar *t = (struct layertar *)s;

	if (t->fd >= 0)
		(void)close(t->fd);
	free(t->names);
	ql_buf_release(&t->head);
	free(t);
}

int ql_layertar_open(const struct ql_inventory *inv,
		     const struct ql_store *store,
		     const struct ql_plan_layer *layer,
		     struct ql_stream **ret_tar, struct ql_error *err)
{
	static const struct ql_stream_ops ops = { layertar_read,
						  layertar_free };
	struct layertar *t = calloc(1, sizeof(*t));

	if (!t)
		return ql_error_nomem(err);
	t->base.ops = &ops;
	t->inv = inv;
	t->store = store;
	t->layer = layer;
	t->fd = -1;
	ql_buf_init(&t->head, HEAD_MAX);
	if (names_find(t) < 0) {
		layertar_free(&t->base);
		return ql_error_nomem(err);
	}
	*ret_tar = &t->base;
	return 0;
}
