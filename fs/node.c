/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an inode number means: a file of the one image that is mounted; or, in
 * a mount of every image, one of an open tree (slots.c), or a folder above
 * them (vdir.c).  A node holds its tree for as long as a request looks at it.
 *
 * The kernel's knowledge of trees is counted by slot, that of folders by
 * number: what it is told adds one, what it forgets takes away.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fs/fs-private.h"

enum {
	/* An image's pages count as this process's memory while they are
	 * mapped; a fault maps 64 KiB around it.  Letting go this often keeps
	 * a walk over a large image within a few MiB. */
	RELAX_EVERY = 256, /* requests */
};

bool ql_node_is_layer(const struct ql_node *node)
{
	return node->slot && node->slot->kind == QL_V_LAYER;
}

static int tree_inode(struct ql_node *node, uint64_t nid)
{
	return ql_node_is_layer(node)
		       ? ql_layerview_inode(node->tree, nid, &node->inode)
		       : ql_tree_inode(node->tree, nid, &node->inode);
}

static fuse_ino_t tree_ino(const struct ql_node *node, uint64_t nid)
{
	return ql_ino(node->slot ? node->slot->number : 0,
		      ql_tree_root(node->tree), nid);
}

/* ---- folders above trees ---- */

/* Objects have no owners and modes of their own: what only root may read in an
 * image is among them. */
static uint32_t virtual_mode(const struct ql_node *node)
{
	bool object = strncmp(node->path, "objects", 7) == 0;

	switch (node->v.kind) {
	case QL_V_LINK:
		return S_IFLNK | 0777;
	case QL_V_OBJECT:
		return S_IFREG | 0400;
	default:
		return object ? S_IFDIR | 0500 : S_IFDIR | 0555;
	}
}

static void make_up(const struct ql_fs *fs, struct ql_node *node)
{
	struct timespec mtime = ql_vdir_mtime(fs->store, node->path);

	node->inode = (struct ql_inode){
		.nid = node->ino,
		.mode = virtual_mode(node),
		.nlink = node->v.kind == QL_V_DIR ? 2 : 1,
		.size = node->v.size,
		.mtime_sec = mtime.tv_sec,
		.mtime_nsec = (uint32_t)mtime.tv_nsec,
	};
}

static bool is_tree(const struct ql_vnode *v)
{
	return v->kind == QL_V_IMAGE || v->kind == QL_V_INERT ||
	       v->kind == QL_V_LAYER;
}

/* What the table knows a path by: a link leads where it leads for as long as
 * it has its number, since the kernel keeps its target. */
static char *table_key(const char *path, const struct ql_vnode *v)
{
	char text[QL_DIGEST_TEXT + 1];

	if (v->kind != QL_V_LINK)
		return strdup(path);
	return ql_strf("%s//%s", path, ql_digest_text(&v->digest, text));
}

static int virtual_find(struct ql_fs *fs, struct ql_node *node)
{
	int r = ql_vdir_find(fs->catalog, fs->growings, node->path, &node->v);

	if (r == 0 && node->v.kind == QL_V_LINK) {
		node->target = ql_vdir_target(node->path, &node->v.digest);
		if (!node->target)
			return -ENOMEM;
		node->v.size = strlen(node->target);
	}
	return r;
}

static int virtual_get(struct ql_fs *fs, struct ql_node *node)
{
	_cleanup_free_ char *was = NULL, *now = NULL;
	char *end;
	int r = ql_vtable_path(fs->vtable, node->ino, &was);

	if (r < 0)
		return r;
	node->path = strdup(was);
	if (!node->path)
		return -ENOMEM;
	if (ql_grownode_is(node->path))
		return ql_grownode_get(fs, node);
	end = strstr(node->path, "//");
	if (end)
		*end = 0;
	r = virtual_find(fs, node);
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	now = table_key(node->path, &node->v);
	if (!now)
		return -ENOMEM;
	/* It became something else: the kernel is to look it up again. */
	if (is_tree(&node->v) || strcmp(was, now) != 0)
		return -ESTALE;
	make_up(fs, node);
	return 0;
}

static void tree_use(struct ql_fs *fs, const struct ql_tree *tree)
{
	unsigned int n = atomic_fetch_add_explicit(&fs->requests, 1,
						   memory_order_relaxed);

	if (n % RELAX_EVERY == RELAX_EVERY - 1)
		ql_tree_relax(tree);
}

int ql_node_get(struct ql_fs *fs, fuse_ino_t ino, struct ql_node *ret_node)
{
	struct ql_node node = { .ino = ino };
	unsigned int number = ql_ino_slot(ino);
	int r;

	if (number == 0 && !fs->tree) {
		r = virtual_get(fs, &node);
	} else {
		node.tree = fs->tree;
		if (number > 0 && fs->slots)
			node.slot = ql_slots_hold(fs->slots, number);
		if (node.slot)
			node.tree = node.slot->tree;
		if (!node.tree)
			return -ESTALE;
		tree_use(fs, node.tree);
		r = tree_inode(&node, ql_ino_nid(ino, ql_tree_root(node.tree)));
	}
	if (r < 0) {
		ql_node_release(fs, &node);
		return r;
	}
	*ret_node = node;
	return 0;
}

void ql_node_release(struct ql_fs *fs, struct ql_node *node)
{
	if (node->slot)
		ql_slots_put(fs->slots, node->slot, 1);
	ql_growing_put(node->growing);
	free(node->path);
	free(node->target);
	*node = (struct ql_node){ 0 };
}

int ql_node_sibling(const struct ql_node *node, uint64_t nid,
		    struct ql_node *ret_node)
{
	struct ql_node other = { .slot = node->slot, .tree = node->tree };
	int r = tree_inode(&other, nid);

	if (r < 0)
		return r;
	other.ino = tree_ino(&other, nid);
	*ret_node = other;
	return 0;
}

/* ---- names ---- */

static int open_tree(struct ql_fs *fs, const struct ql_vnode *v,
		     struct ql_node *ret_node)
{
	struct ql_error err = QL_ERROR_INIT;
	struct ql_node node = { 0 };
	int r = ql_slots_open(fs->slots, v->kind, &v->digest, &node.slot, &err);

	if (r < 0) {
		ql_debug("msg=\"cannot open a tree\" error=\"%s\"", err.text);
		return r;
	}
	node.tree = node.slot->tree;
	r = tree_inode(&node, ql_tree_root(node.tree));
	if (r < 0) {
		ql_slots_put(fs->slots, node.slot, 1);
		return r;
	}
	node.ino = tree_ino(&node, node.inode.nid);
	ql_node_learn(&node, 1);
	*ret_node = node;
	return 0;
}

static int learn_virtual(struct ql_fs *fs, struct ql_node *node)
{
	_cleanup_free_ char *key = table_key(node->path, &node->v);

	node->ino = key ? ql_vtable_learn(fs->vtable, key) : 0;
	if (node->ino == 0)
		return -ENOMEM;
	if (node->v.kind != QL_V_GROWN)
		make_up(fs, node);
	return 0;
}

static int lookup_virtual(struct ql_fs *fs, const struct ql_node *dir,
			  const char *name, struct ql_node *ret_node)
{
	struct ql_node node = { 0 };
	int r = -ENOMEM;

	node.path = *dir->path ? ql_path_join(dir->path, name) : strdup(name);
	if (node.path)
		r = virtual_find(fs, &node);
	/* As long as the kernel knows it as what was pulled, it stays that:
	 * what stands on it (a mount, an overlay) must not lose it. */
	if (r == 0 && ql_grownode_is(node.path) &&
	    ql_vtable_find(fs->vtable, node.path))
		node.v.kind = QL_V_GROWN;
	if (r == 0 && node.v.kind == QL_V_GROWN)
		r = ql_grownode_get(fs, &node);
	if (r == 0 && is_tree(&node.v)) {
		r = open_tree(fs, &node.v, ret_node);
		ql_node_release(fs, &node);
		return r;
	}
	if (r == 0)
		r = learn_virtual(fs, &node);
	if (r < 0)
		ql_node_release(fs, &node);
	else
		*ret_node = node;
	return r;
}

/* "." and ".." come where a file handle is opened (FUSE_CAP_EXPORT_SUPPORT);
 * "." also for what is no directory. */
static int again(struct ql_fs *fs, const struct ql_node *dir,
		 struct ql_node *ret_node)
{
	struct ql_node node;
	int r = ql_node_get(fs, dir->ino, &node);

	if (r < 0)
		return r;
	r = node.path ? learn_virtual(fs, &node) : 0;
	if (r < 0) {
		ql_node_release(fs, &node);
		return r;
	}
	ql_node_learn(&node, 1);
	*ret_node = node;
	return 0;
}

int ql_node_lookup(struct ql_fs *fs, const struct ql_node *dir,
		   const char *name, struct ql_node *ret_node)
{
	struct ql_node node;
	uint64_t nid;
	int r;

	if (strcmp(name, ".") == 0)
		return again(fs, dir, ret_node);
	if ((!dir->tree || dir->v.kind == QL_V_GROWN) &&
	    strcmp(name, "..") == 0)
		return -ESTALE;
	if (dir->v.kind == QL_V_GROWN)
		return ql_grownode_lookup(fs, dir, name, ret_node);
	if (!dir->tree)
		return lookup_virtual(fs, dir, name, ret_node);
	r = ql_node_is_layer(dir)
		    ? ql_layerview_lookup(dir->tree, &dir->inode, name,
					  strlen(name), &nid)
		    : ql_tree_lookup(dir->tree, &dir->inode, name, strlen(name),
				     &nid);
	if (r == 0)
		r = ql_node_sibling(dir, nid, &node);
	if (r < 0)
		return r;
	ql_node_learn(&node, 2); /* the kernel, and the caller */
	*ret_node = node;
	return 0;
}

void ql_node_learn(const struct ql_node *node, uint64_t n)
{
	if (node->slot && !node->path)
		ql_slot_hold(node->slot, n);
}

void ql_node_forget(struct ql_fs *fs, fuse_ino_t ino, uint64_t n)
{
	unsigned int number = ql_ino_slot(ino);

	if (fs->tree)
		return;
	if (number > 0)
		ql_slots_forget(fs->slots, number, n);
	else
		ql_vtable_forget(fs->vtable, ino, n);
}

/* ---- what is told of it ---- */

int ql_node_readlink(const struct ql_node *node, const char **ret_target,
		     size_t *ret_len)
{
	if (node->tree)
		return ql_tree_readlink(node->tree, &node->inode, ret_target,
					ret_len);
	if (node->growing && node->grown.target) {
		*ret_target = node->grown.target;
		*ret_len = strlen(*ret_target);
		return 0;
	}
	if (!node->target)
		return -EINVAL;
	*ret_target = node->target;
	*ret_len = strlen(node->target);
	return 0;
}

int ql_node_content(const struct ql_node *node, struct ql_content *ret_content)
{
	if (node->tree)
		return ql_tree_content(node->tree, &node->inode, ret_content);
	if (node->growing && S_ISREG(node->inode.mode)) {
		*ret_content = node->grown.content;
		return 0;
	}
	if (node->growing)
		return S_ISDIR(node->inode.mode) ? -EISDIR : -EINVAL;
	if (node->v.kind != QL_V_OBJECT)
		return node->v.kind == QL_V_DIR ? -EISDIR : -EINVAL;
	*ret_content = (struct ql_content){ .object = node->v.digest,
					    .size = node->v.size };
	return 0;
}

/* 0:0 would be a whiteout to an overlay above; 0:1 is no device's number. */
static dev_t node_rdev(const struct ql_fs *fs, const struct ql_node *node)
{
	bool device = S_ISCHR(node->inode.mode) || S_ISBLK(node->inode.mode);
	bool inert = fs->inert_devices ||
		     (node->slot && node->slot->kind == QL_V_INERT) ||
		     (node->growing && strncmp(node->path, "inert/", 6) == 0);

	return inert && device ? makedev(0, 1) : node->inode.rdev;
}

void ql_node_stat(const struct ql_fs *fs, const struct ql_node *node,
		  struct stat *ret_stat)
{
	const struct ql_inode *inode = &node->inode;
	struct stat st = {
		.st_ino = node->ino,
		.st_mode = inode->mode,
		.st_nlink = inode->nlink,
		.st_uid = inode->uid,
		.st_gid = inode->gid,
		.st_rdev = node_rdev(fs, node),
		.st_size = (off_t)inode->size,
		.st_blksize = 4096,
		.st_blocks = (blkcnt_t)(inode->size / 512 +
					(inode->size % 512 != 0)),
	};

	st.st_mtim.tv_sec = inode->mtime_sec;
	st.st_mtim.tv_nsec = inode->mtime_nsec;
	st.st_atim = st.st_mtim;
	st.st_ctim = st.st_mtim;
	*ret_stat = st;
}

double ql_node_timeout(const struct ql_node *node)
{
	return node->tree ? QL_FS_TIMEOUT : QL_FS_TIMEOUT_VIRTUAL;
}

/* What grows has other counts of links in the end. */
double ql_node_attr_timeout(const struct ql_node *node)
{
	return node->growing ? 0 : ql_node_timeout(node);
}
