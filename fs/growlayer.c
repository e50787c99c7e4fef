/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The entries of one layer that have passed: as the store's own table of a
 * layer that is being read, names are found by (folder, name), what is named
 * again replaces what was there, and folders that no entry describes are made.
 * Hardlinks within the layer are the same content under two names.
 *
 * All is in an arena, where what was replaced stays: who has looked something
 * up may go on to read it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fs/grow.h"

enum { CHUNK = 64 << 10, BUCKETS_FIRST = 256 };

#define MARK_PREFIX "trusted."
#define MARK_LINK "quicklayer.link"
#define MARK_IMPLICIT "quicklayer.implicit"
#define MARKS "quicklayer."

struct chunk {
	struct chunk *next; /* owned */
	size_t used, size;
	_Alignas(16) char data[];
};

struct name {
	struct name *next; /* in its bucket */
	const struct ql_growfile *dir;
	struct ql_growfile *file;
	uint32_t hash;
	uint32_t len;
	char name[]; /* NUL-terminated */
};

struct ql_growlayer {
	atomic_size_t *budget; /* borrowed */
	struct chunk *arena;   /* owned */
	struct ql_growfile *root;
	struct name **buckets; /* owned */
	size_t n_buckets;      /* a power of two */
	size_t n;
};

/* ---- memory ---- */

static void *alloc(struct ql_growlayer *l, size_t len)
{
	struct chunk *c = l->arena;
	void *p;

	len = (len + 15) & ~(size_t)15;
	if (!c || c->size - c->used < len) {
		size_t size = len > CHUNK ? len : CHUNK;

		if (atomic_fetch_sub(l->budget, size) < size) {
			(void)atomic_fetch_add(l->budget, size);
			return NULL;
		}
		c = malloc(sizeof(*c) + size);
		if (!c)
			return NULL;
		*c = (struct chunk){ .next = l->arena, .size = size };
		l->arena = c;
	}
	p = c->data + c->used;
	c->used += len;
	return memset(p, 0, len);
}

/* With a NUL behind it. */
static char *copy(struct ql_growlayer *l, const void *data, size_t len)
{
	char *p = alloc(l, len + 1);

	return p && len > 0 ? memcpy(p, data, len) : p;
}

void ql_growlayer_free(struct ql_growlayer *l)
{
	struct chunk *next;

	if (!l)
		return;
	for (struct chunk *c = l->arena; c; c = next) {
		next = c->next;
		free(c);
	}
	free(l->buckets);
	free(l);
}

static struct ql_growfile *implicit(struct ql_growlayer *l)
{
	struct ql_growfile *f = alloc(l, sizeof(*f));

	if (f) {
		f->mode = S_IFDIR | 0755;
		f->implicit = true;
	}
	return f;
}

struct ql_growlayer *ql_growlayer_new(atomic_size_t *budget)
{
	struct ql_growlayer *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->budget = budget;
	l->n_buckets = BUCKETS_FIRST;
	l->buckets = calloc(l->n_buckets, sizeof(struct name *));
	l->root = implicit(l);
	if (l->buckets && l->root)
		return l;
	ql_growlayer_free(l);
	return NULL;
}

/* ---- names ---- */

/* FNV-1a (RFC 9923) over the folder's address and the name. */
static uint32_t hash_of(const struct ql_growfile *dir, const char *name,
			size_t len)
{
	uintptr_t d = (uintptr_t)dir >> 4;
	uint32_t h = 2166136261U;

	for (size_t i = 0; i < sizeof(d); i++, d >>= 8)
		h = (h ^ (uint8_t)d) * 16777619U;
	for (size_t i = 0; i < len; i++)
		h = (h ^ (uint8_t)name[i]) * 16777619U;
	return h;
}

static struct name *find(const struct ql_growlayer *l,
			 const struct ql_growfile *dir, const char *name,
			 size_t len)
{
	uint32_t h = hash_of(dir, name, len);
	struct name *n = l->buckets[h & (l->n_buckets - 1)];

	while (n && (n->hash != h || n->dir != dir || n->len != len ||
		     memcmp(n->name, name, len) != 0))
		n = n->next;
	return n;
}

const struct ql_growfile *ql_growlayer_find(const struct ql_growlayer *l,
					    const struct ql_growfile *dir,
					    const char *name, size_t len)
{
	const struct name *n = find(l, dir, name, len);

	return n ? n->file : NULL;
}

const struct ql_growfile *ql_growlayer_root(const struct ql_growlayer *l)
{
	return l->root;
}

/* Where there is no memory the chains get longer, and that is all. */
static void grow(struct ql_growlayer *l)
{
	size_t n = l->n_buckets * 2;
	struct name **buckets = calloc(n, sizeof(struct name *));
	struct name *next;

	if (!buckets)
		return;
	for (size_t i = 0; i < l->n_buckets; i++) {
		for (struct name *p = l->buckets[i]; p; p = next) {
			next = p->next;
			p->next = buckets[p->hash & (n - 1)];
			buckets[p->hash & (n - 1)] = p;
		}
	}
	free(l->buckets);
	l->buckets = buckets;
	l->n_buckets = n;
}

static int set(struct ql_growlayer *l, const struct ql_growfile *dir,
	       const char *name, size_t len, struct ql_growfile *file)
{
	struct name *n = find(l, dir, name, len);
	struct name **bucket;

	if (n) {
		n->file = file;
		return 0;
	}
	n = alloc(l, sizeof(*n) + len + 1);
	if (!n)
		return -ENOMEM;
	memcpy(n->name, name, len);
	n->len = (uint32_t)len;
	n->hash = hash_of(dir, name, len);
	n->dir = dir;
	n->file = file;
	if (l->n++ >= l->n_buckets)
		grow(l);
	bucket = &l->buckets[n->hash & (l->n_buckets - 1)];
	n->next = *bucket;
	*bucket = n;
	return 0;
}

/* The folder above path's last component, made where it is missing. */
static int parent(struct ql_growlayer *l, const char *path,
		  struct ql_growfile **ret_dir, const char **ret_last)
{
	struct ql_growfile *dir = l->root;
	const char *slash;

	for (; (slash = strchr(path, '/')); path = slash + 1) {
		size_t len = (size_t)(slash - path);
		const struct name *n = find(l, dir, path, len);
		struct ql_growfile *sub = n ? n->file : implicit(l);

		if (!sub || (!n && set(l, dir, path, len, sub) < 0))
			return -ENOMEM;
		if (!S_ISDIR(sub->mode))
			return -ENOTDIR;
		dir = sub;
	}
	*ret_dir = dir;
	*ret_last = path;
	return 0;
}

static struct ql_growfile *lookup(const struct ql_growlayer *l,
				  const char *path)
{
	struct ql_growfile *f = l->root;

	while (f && *path) {
		size_t len = strcspn(path, "/");
		const struct name *n = find(l, f, path, len);

		f = n ? n->file : NULL;
		path += len + (path[len] == '/');
	}
	return f;
}

/* ---- entries that pass ---- */

static int copy_xattrs(struct ql_growlayer *l, const struct ql_tar_entry *e,
		       struct ql_growfile *f)
{
	struct ql_tar_xattr *x;

	if (e->n_xattrs == 0)
		return 0;
	x = alloc(l, e->n_xattrs * sizeof(*x));
	if (!x)
		return -ENOMEM;
	for (size_t i = 0; i < e->n_xattrs; i++) {
		x[i].name =
			copy(l, e->xattrs[i].name, strlen(e->xattrs[i].name));
		x[i].value = copy(l, e->xattrs[i].value, e->xattrs[i].len);
		x[i].len = e->xattrs[i].len;
		if (!x[i].name || !x[i].value)
			return -ENOMEM;
	}
	f->xattrs = x;
	f->n_xattrs = e->n_xattrs;
	return 0;
}

static int describe(struct ql_growlayer *l, const struct ql_tar_entry *e,
		    const struct ql_content *content, struct ql_growfile *ret)
{
	static const uint32_t types[] = {
		['0'] = S_IFREG, ['2'] = S_IFLNK, ['3'] = S_IFCHR,
		['4'] = S_IFBLK, ['5'] = S_IFDIR, ['6'] = S_IFIFO,
	};
	struct ql_growfile f = {
		.mode = types[(uint8_t)e->type] | e->mode,
		.uid = e->uid,
		.gid = e->gid,
		.mtime_sec = e->mtime_sec,
		.mtime_nsec = e->mtime_nsec,
		.content = *content,
	};

	if (e->type == '3' || e->type == '4')
		f.rdev = makedev(e->major, e->minor);
	if (e->type == '2') {
		f.target = copy(l, e->link, strlen(e->link));
		f.content = (struct ql_content){ .size = strlen(e->link) };
		if (!f.target)
			return -ENOMEM;
	}
	if (content->data) {
		f.content.data = (const uint8_t *)copy(l, content->data,
						       (size_t)content->size);
		if (!f.content.data)
			return -ENOMEM;
	}
	*ret = f;
	return copy_xattrs(l, e, ret);
}

/* The file that a hardlink is a name of, or a mark. */
static struct ql_growfile *linked(struct ql_growlayer *l, const char *target)
{
	struct ql_growfile *f = lookup(l, target);

	if (f)
		return f;
	f = alloc(l, sizeof(*f));
	if (!f)
		return NULL;
	f->mode = S_IFREG;
	f->link = copy(l, target, strlen(target));
	return f->link ? f : NULL;
}

int ql_growlayer_add(struct ql_growlayer *l, const struct ql_tar_entry *e,
		     const struct ql_content *content)
{
	struct ql_growfile f, *dir, *file;
	const char *last;
	int r;

	if (e->type < '0' || e->type > '6')
		return -EINVAL;
	if (e->type == '1') {
		r = parent(l, e->path, &dir, &last);
		file = r == 0 ? linked(l, e->link) : NULL;
		if (r == 0 && !file)
			r = -ENOMEM;
		return r < 0 ? r : set(l, dir, last, strlen(last), file);
	}
	r = describe(l, e, content, &f);
	if (r == 0 && *e->path == 0) {
		*l->root = f;
		return 0;
	}
	if (r == 0)
		r = parent(l, e->path, &dir, &last);
	if (r < 0)
		return r;
	file = S_ISDIR(f.mode) ? lookup(l, e->path) : NULL;
	if (file && S_ISDIR(file->mode)) { /* its names stay */
		*file = f;
		return 0;
	}
	file = alloc(l, sizeof(*file));
	if (!file)
		return -ENOMEM;
	*file = f;
	return set(l, dir, last, strlen(last), file);
}

/* ---- a layer that is here ---- */

static bool is_mark(const struct ql_xattr *x, const char *name)
{
	return strcmp(x->prefix, MARK_PREFIX) == 0 &&
	       x->name_len == strlen(name) &&
	       memcmp(x->name, name, x->name_len) == 0;
}

/* Its xattr, or what it says as one of the store's marks. */
static int load_xattr(struct ql_growlayer *l, const struct ql_xattr *x,
		      struct ql_growfile *f, struct ql_tar_xattr *to)
{
	size_t prefix = strlen(x->prefix);

	if (is_mark(x, MARK_IMPLICIT)) {
		f->implicit = true;
	} else if (is_mark(x, MARK_LINK)) {
		f->link = copy(l, x->value, x->value_len);
		return f->link ? 0 : -ENOMEM;
	}
	if (strcmp(x->prefix, MARK_PREFIX) == 0 &&
	    x->name_len >= sizeof(MARKS) - 1 &&
	    memcmp(x->name, MARKS, sizeof(MARKS) - 1) == 0)
		return 0;
	to->name = alloc(l, prefix + x->name_len + 1);
	to->value = copy(l, x->value, x->value_len);
	to->len = x->value_len;
	if (!to->name || !to->value)
		return -ENOMEM;
	memcpy(to->name, x->prefix, prefix);
	memcpy(to->name + prefix, x->name, x->name_len);
	return 1;
}

static int load_xattrs(struct ql_growlayer *l, const struct ql_tree *tree,
		       const struct ql_inode *inode, struct ql_growfile *f)
{
	struct ql_tar_xattr *to = NULL;
	struct ql_xattr x;
	uint64_t pos = 0;
	size_t n = 0;
	int r;

	while ((r = ql_tree_xattr(tree, inode, &pos, &x)) > 0)
		n++;
	if (r == 0 && n > 0)
		to = alloc(l, n * sizeof(*to));
	if (r < 0 || n == 0)
		return r;
	if (!to)
		return -ENOMEM;
	f->xattrs = to;
	pos = 0;
	while ((r = ql_tree_xattr(tree, inode, &pos, &x)) > 0) {
		r = load_xattr(l, &x, f, &to[f->n_xattrs]);
		if (r < 0)
			return r;
		f->n_xattrs += (size_t)r;
	}
	return r;
}

static int load_file(struct ql_growlayer *l, const struct ql_tree *tree,
		     const struct ql_inode *inode, struct ql_growfile *f)
{
	const char *target;
	size_t len;
	int r = 0;

	f->mode = inode->mode;
	f->uid = inode->uid;
	f->gid = inode->gid;
	f->mtime_sec = inode->mtime_sec;
	f->mtime_nsec = inode->mtime_nsec;
	f->rdev = inode->rdev;
	if (S_ISREG(inode->mode))
		r = ql_tree_content(tree, inode, &f->content);
	if (r == 0 && f->content.data) {
		f->content.data = (const uint8_t *)copy(
			l, f->content.data, (size_t)f->content.size);
		r = f->content.data ? 0 : -ENOMEM;
	}
	if (r == 0 && S_ISLNK(inode->mode)) {
		r = ql_tree_readlink(tree, inode, &target, &len);
		if (r < 0)
			return r;
		f->target = copy(l, target, len);
		f->content.size = len;
		r = f->target ? 0 : -ENOMEM;
	}
	return r < 0 ? r : load_xattrs(l, tree, inode, f);
}

/* Depth is bounded: a layer's paths are. */
static int load_dir(struct ql_growlayer *l, const struct ql_tree *tree,
		    const struct ql_inode *dir,
		    const struct ql_growfile *to) // NOLINT(misc-no-recursion)
{
	struct ql_inode inode;
	struct ql_dirent d;
	uint64_t pos = 0;
	int r;

	while ((r = ql_tree_readdir(tree, dir, &pos, &d)) > 0) {
		struct ql_growfile *f;

		if ((d.len == 1 && d.name[0] == '.') ||
		    (d.len == 2 && memcmp(d.name, "..", 2) == 0))
			continue;
		f = alloc(l, sizeof(*f));
		if (!f)
			return -ENOMEM;
		r = ql_tree_inode(tree, d.nid, &inode);
		if (r == 0)
			r = load_file(l, tree, &inode, f);
		if (r == 0)
			r = set(l, to, d.name, d.len, f);
		if (r == 0 && S_ISDIR(inode.mode))
			r = load_dir(l, tree, &inode, f);
		if (r < 0)
			return r;
	}
	return r;
}

int ql_growlayer_load(struct ql_growlayer *l, const struct ql_tree *tree)
{
	struct ql_growfile root = { 0 };
	struct ql_inode inode;
	int r = ql_tree_inode(tree, ql_tree_root(tree), &inode);

	if (r == 0)
		r = load_file(l, tree, &inode, &root);
	if (r == 0) {
		*l->root = root;
		r = load_dir(l, tree, &inode, l->root);
	}
	return r;
}
