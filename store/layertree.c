/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One layer's entries while its archive is read.  An archive may name a path
 * twice (the later entry counts), link to a name that it replaces afterwards,
 * or leave out a file's parent folders; so names and inodes are kept apart,
 * and become composefs nodes only when all of it was read.
 *
 * Names are found through one hash table over (folder, name); everything
 * lives in an arena that is freed at once.  What is replaced stays in the
 * arena until then.
 */
#include "store/store-private.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

enum {
	ARENA_CHUNK = 256 << 10,
	LT_BUCKETS_FIRST = 1 << 10,
	LT_ENTRIES_MAX = 1 << 20,
	LT_BYTES_MAX = 320 << 20,
};

struct arena_chunk {
	struct arena_chunk *next; /* owned */
	size_t used, size;
	_Alignas(16) char data[];
};

struct lt_inode {
	struct ql_meta meta;   /* what it points to is in the arena */
	struct lt_name *first; /* folders: children as they came */
	struct lt_name *last;
	struct lcfs_node_s *node; /* borrowed from the tree being written */
	bool implicit;		  /* a folder that has no entry (yet) */
};

struct lt_name {
	struct lt_name *hash_next;
	struct lt_name *sibling;
	struct lt_inode *dir;
	struct lt_inode *inode;
	uint32_t hash;
	uint16_t len;
	char name[]; /* NUL-terminated */
};

struct ql_layertree {
	struct arena_chunk *arena; /* owned */
	size_t bytes;		   /* of the arena */
	struct lt_inode *root;
	struct lt_name **buckets; /* owned */
	size_t n_buckets, n_names;
	bool has_links; /* into lower layers */
};

/* ---- memory ---- */

static void *arena_alloc(struct ql_layertree *lt, size_t len)
{
	struct arena_chunk *c = lt->arena;
	size_t size = ARENA_CHUNK;
	void *p;

	len = (len + 7) & ~(size_t)7;
	if (!c || c->size - c->used < len) {
		if (size < len)
			size = len;
		c = malloc(sizeof(*c) + size);
		if (!c)
			return NULL;
		c->next = lt->arena;
		c->used = 0;
		c->size = size;
		lt->arena = c;
		lt->bytes += size;
	}
	p = c->data + c->used;
	c->used += len;
	return memset(p, 0, len);
}

static void *arena_copy(struct ql_layertree *lt, const void *data, size_t len)
{
	char *p = arena_alloc(lt, len + 1);

	if (p)
		memcpy(p, data, len);
	return p;
}

/* Forgets every entry. */
static void lt_drop(struct ql_layertree *lt)
{
	struct arena_chunk *next;

	for (struct arena_chunk *c = lt->arena; c; c = next) {
		next = c->next;
		free(c);
	}
	lt->arena = NULL;
	lt->root = NULL;
	free(lt->buckets);
	lt->buckets = NULL;
}

void ql_layertree_free(struct ql_layertree *lt)
{
	if (!lt)
		return;
	lt_drop(lt);
	free(lt);
}

/* A folder that no entry describes: what every unpacker would make. */
static struct lt_inode *lt_implicit(struct ql_layertree *lt)
{
	struct lt_inode *inode = arena_alloc(lt, sizeof(*inode));

	if (inode) {
		inode->meta.mode = S_IFDIR | 0755;
		inode->implicit = true;
	}
	return inode;
}

int ql_layertree_new(struct ql_layertree **ret_lt, struct ql_error *err)
{
	struct ql_layertree *lt = calloc(1, sizeof(*lt));

	if (lt) {
		lt->n_buckets = LT_BUCKETS_FIRST;
		lt->buckets = calloc(lt->n_buckets, sizeof(*lt->buckets));
		lt->root = lt_implicit(lt);
	}
	if (!lt || !lt->buckets || !lt->root) {
		ql_layertree_free(lt);
		return ql_error_nomem(err);
	}
	*ret_lt = lt;
	return 0;
}

/* ---- names ---- */

/* FNV-1a over the folder's address and the name. */
static uint32_t lt_hash(const struct lt_inode *dir, const char *name,
			size_t len)
{
	uintptr_t d = (uintptr_t)dir >> 3;
	uint32_t h = 2166136261U;

	for (size_t i = 0; i < sizeof(d); i++, d >>= 8)
		h = (h ^ (uint8_t)d) * 16777619U;
	for (size_t i = 0; i < len; i++)
		h = (h ^ (uint8_t)name[i]) * 16777619U;
	return h;
}

static struct lt_name *lt_find(const struct ql_layertree *lt,
			       const struct lt_inode *dir, const char *name,
			       size_t len)
{
	uint32_t h = lt_hash(dir, name, len);
	struct lt_name *n = lt->buckets[h & (lt->n_buckets - 1)];

	for (; n; n = n->hash_next)
		if (n->hash == h && n->dir == dir && n->len == len &&
		    memcmp(n->name, name, len) == 0)
			return n;
	return NULL;
}

static int lt_grow(struct ql_layertree *lt)
{
	size_t n = lt->n_buckets * 2;
	struct lt_name **grown = calloc(n, sizeof(struct lt_name *));

	if (!grown)
		return -ENOMEM;
	for (size_t i = 0; i < lt->n_buckets; i++) {
		struct lt_name *next;

		for (struct lt_name *p = lt->buckets[i]; p; p = next) {
			next = p->hash_next;
			p->hash_next = grown[p->hash & (n - 1)];
			grown[p->hash & (n - 1)] = p;
		}
	}
	free(lt->buckets);
	lt->buckets = grown;
	lt->n_buckets = n;
	return 0;
}

/* Gives inode a name in dir, in place of what had it. */
static int lt_set(struct ql_layertree *lt, struct lt_inode *dir,
		  const char *name, size_t len, struct lt_inode *inode,
		  struct ql_error *err)
{
	struct lt_name *n = lt_find(lt, dir, name, len);

	if (n) {
		n->inode = inode;
		return 0;
	}
	if (lt->n_names >= LT_ENTRIES_MAX)
		return ql_error_set(err, -E2BIG,
				    "a layer of more than %d entries",
				    LT_ENTRIES_MAX);
	if (lt->n_names >= lt->n_buckets && lt_grow(lt) < 0)
		return ql_error_nomem(err);
	n = arena_alloc(lt, sizeof(*n) + len + 1);
	if (!n)
		return ql_error_nomem(err);
	memcpy(n->name, name, len);
	n->len = (uint16_t)len;
	n->hash = lt_hash(dir, name, len);
	n->dir = dir;
	n->inode = inode;
	if (dir->last)
		dir->last->sibling = n;
	else
		dir->first = n;
	dir->last = n;
	n->hash_next = lt->buckets[n->hash & (lt->n_buckets - 1)];
	lt->buckets[n->hash & (lt->n_buckets - 1)] = n;
	lt->n_names++;
	return 0;
}

/* The folder above path's last component, made where it is missing. */
static int lt_parent(struct ql_layertree *lt, const char *path,
		     struct lt_inode **ret_dir, const char **ret_last,
		     struct ql_error *err)
{
	struct lt_inode *dir = lt->root;
	const char *slash;

	for (; (slash = strchr(path, '/')); path = slash + 1) {
		size_t len = (size_t)(slash - path);
		struct lt_name *n = lt_find(lt, dir, path, len);
		struct lt_inode *sub = n ? n->inode : NULL;

		if (sub && S_ISLNK(sub->meta.mode))
			return ql_error_set(err, -ELOOP,
					    "it would be written through the "
					    "symlink %.*s",
					    (int)len, path);
		if (sub && !S_ISDIR(sub->meta.mode))
			return ql_error_set(err, -ENOTDIR,
					    "%.*s above it is no folder",
					    (int)len, path);
		if (!sub) {
			int r;

			sub = lt_implicit(lt);
			if (!sub)
				return ql_error_nomem(err);
			r = lt_set(lt, dir, path, len, sub, err);
			if (r < 0)
				return r;
		}
		dir = sub;
	}
	*ret_dir = dir;
	*ret_last = path;
	return 0;
}

static struct lt_inode *lt_lookup(const struct ql_layertree *lt,
				  const char *path)
{
	struct lt_inode *inode = lt->root;

	while (inode && *path) {
		size_t len = strcspn(path, "/");
		const struct lt_name *n = lt_find(lt, inode, path, len);

		inode = n ? n->inode : NULL;
		path += len + (path[len] == '/');
	}
	return inode;
}

/* ---- adding ---- */

/* Xattrs and links compress well, and what is replaced stays: a small layer
 * could ask for any amount of memory. */
static int lt_check_size(const struct ql_layertree *lt, struct ql_error *err)
{
	if (lt->bytes <= LT_BYTES_MAX)
		return 0;
	return ql_error_set(err, -E2BIG,
			    "a layer of more than %d MiB of metadata",
			    LT_BYTES_MAX >> 20);
}

static int lt_copy_xattrs(struct ql_layertree *lt, const struct ql_meta *from,
			  struct ql_meta *to)
{
	struct ql_tar_xattr *x;

	to->xattrs = NULL;
	if (from->n_xattrs == 0)
		return 0;
	x = arena_alloc(lt, from->n_xattrs * sizeof(*x));
	if (!x)
		return -ENOMEM;
	for (size_t i = 0; i < from->n_xattrs; i++) {
		const struct ql_tar_xattr *f = &from->xattrs[i];

		x[i].name = arena_copy(lt, f->name, strlen(f->name));
		x[i].value = arena_copy(lt, f->value, f->len);
		x[i].len = f->len;
		if (!x[i].name || !x[i].value)
			return -ENOMEM;
	}
	to->xattrs = x;
	return 0;
}

static int lt_copy_meta(struct ql_layertree *lt, const struct ql_meta *from,
			struct ql_meta *to)
{
	*to = *from;
	if (from->target) {
		to->target = arena_copy(lt, from->target, strlen(from->target));
		if (!to->target)
			return -ENOMEM;
	}
	if (from->data) {
		to->data = arena_copy(lt, from->data, (size_t)from->size);
		if (!to->data)
			return -ENOMEM;
	}
	return lt_copy_xattrs(lt, from, to);
}

int ql_layertree_add(struct ql_layertree *lt, const char *path,
		     const struct ql_meta *meta, struct ql_error *err)
{
	struct lt_inode *dir;
	struct lt_inode *inode;
	const char *last;
	int r = lt_check_size(lt, err);

	if (r < 0)
		return r;
	if (*path == '\0') { /* the root itself */
		if (!S_ISDIR(meta->mode))
			return ql_error_set(err, -EINVAL,
					    "the root is no folder");
		lt->root->implicit = false;
		return lt_copy_meta(lt, meta, &lt->root->meta) < 0
			       ? ql_error_nomem(err)
			       : 0;
	}
	r = lt_parent(lt, path, &dir, &last, err);
	if (r < 0)
		return r;
	if (S_ISDIR(meta->mode)) {
		const struct lt_name *n = lt_find(lt, dir, last, strlen(last));

		/* A folder again: its new metadata, the same children. */
		if (n && n->inode && S_ISDIR(n->inode->meta.mode)) {
			n->inode->implicit = false;
			return lt_copy_meta(lt, meta, &n->inode->meta) < 0
				       ? ql_error_nomem(err)
				       : 0;
		}
	}
	inode = arena_alloc(lt, sizeof(*inode));
	if (!inode || lt_copy_meta(lt, meta, &inode->meta) < 0)
		return ql_error_nomem(err);
	return lt_set(lt, dir, last, strlen(last), inode, err);
}

/* A link to a lower layer's file: an empty file that says which. */
static struct lt_inode *lt_link_mark(struct ql_layertree *lt,
				     const char *target)
{
	static const char name[] = QL_XATTR_LINK;
	struct lt_inode *inode = arena_alloc(lt, sizeof(*inode));
	struct ql_tar_xattr *x = arena_alloc(lt, sizeof(*x));

	if (!inode || !x)
		return NULL;
	inode->meta.mode = S_IFREG;
	x->name = arena_copy(lt, name, sizeof(name) - 1);
	x->value = arena_copy(lt, target, strlen(target));
	x->len = strlen(target);
	if (!x->name || !x->value)
		return NULL;
	inode->meta.xattrs = x;
	inode->meta.n_xattrs = 1;
	return inode;
}

int ql_layertree_link(struct ql_layertree *lt, const char *path,
		      const char *target, struct ql_error *err)
{
	struct lt_inode *inode = lt_lookup(lt, target);
	struct lt_inode *dir;
	const char *last;
	int r = lt_check_size(lt, err);

	if (r < 0)
		return r;
	if (*path == '\0' || *target == '\0' ||
	    (inode && S_ISDIR(inode->meta.mode)))
		return ql_error_set(err, -EPERM,
				    "a hardlink to or from a folder (%s)",
				    target);
	r = lt_parent(lt, path, &dir, &last, err);
	if (r < 0)
		return r;
	if (!inode) {
		inode = lt_link_mark(lt, target);
		lt->has_links = true;
	}
	if (!inode)
		return ql_error_nomem(err);
	return lt_set(lt, dir, last, strlen(last), inode, err);
}

/* ---- writing ---- */

static int lt_node(struct lt_inode *inode, struct lcfs_node_s **ret_node,
		   struct ql_error *err)
{
	int r;

	if (inode->node)
		return ql_cfs_link_new(inode->node, ret_node, err);
	r = ql_cfs_node_new(&inode->meta, ret_node, err);
	if (r == 0 && inode->implicit)
		r = ql_cfs_mark(*ret_node, QL_XATTR_IMPLICIT, err);
	if (r == 0)
		inode->node = *ret_node;
	return r;
}

static int lt_name_cmp(const void *a, const void *b)
{
	return strcmp((*(struct lt_name *const *)a)->name,
		      (*(struct lt_name *const *)b)->name);
}

/* A folder's names in order: the library inserts one at the end at once, and
 * one before others by moving them. */
static int lt_sorted(const struct lt_inode *dir, struct lt_name ***ret_names,
		     size_t *ret_n)
{
	struct lt_name **names;
	size_t n = 0;

	for (const struct lt_name *c = dir->first; c; c = c->sibling)
		n++;
	names = calloc(n + 1, sizeof(struct lt_name *));
	if (!names)
		return -ENOMEM;
	n = 0;
	for (struct lt_name *c = dir->first; c; c = c->sibling)
		names[n++] = c;
	qsort(names, n, sizeof(struct lt_name *), lt_name_cmp);
	*ret_names = names;
	*ret_n = n;
	return 0;
}

/* Depth is bounded by QL_PATH_MAX / 2. */
static int lt_fill(struct lt_inode *dir, struct ql_error *err) // NOLINT
{
	_cleanup_free_ struct lt_name **names = NULL;
	size_t n;
	int r = lt_sorted(dir, &names, &n);

	if (r < 0)
		return ql_error_nomem(err);
	for (size_t i = 0; i < n && r == 0; i++) {
		_cleanup_(ql_cfs_node_freep) struct lcfs_node_s *node = NULL;
		struct lt_inode *inode = names[i]->inode;

		r = lt_node(inode, &node, err);
		if (r == 0)
			r = ql_cfs_add(dir->node, node, names[i]->name, err);
		if (r < 0)
			return r;
		(void)ql_take_ptr(node);
		if (S_ISDIR(inode->meta.mode))
			r = lt_fill(inode, err);
	}
	return r;
}

int ql_layertree_write(struct ql_layertree *lt, struct ql_store *store,
		       const char *tmp_path, const char *path,
		       struct ql_digest *ret_digest, struct ql_error *err)
{
	_cleanup_(ql_cfs_node_freep) struct lcfs_node_s *root = NULL;
	int r = lt_node(lt->root, &root, err);

	if (r == 0 && lt->has_links)
		r = ql_cfs_mark(root, QL_XATTR_HAS_LINKS, err);
	if (r == 0)
		r = lt_fill(lt->root, err);
	/* The library has its copy, and is about to make another. */
	lt_drop(lt);
	if (r == 0)
		r = ql_cfs_write(root, store, tmp_path, path, true, ret_digest,
				 err);
	return r;
}
