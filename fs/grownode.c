/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of an image that were looked at while it was pulled.  They have no
 * inode numbers of a tree's, since there was no tree, but a number for their
 * path (vtable.c), which they keep for as long as the kernel knows them.  When
 * the pull has ended, the path is looked up in the image's tree: an open file,
 * a mount, an overlay notices nothing, and names that the kernel has not heard
 * of are the tree's own from then on.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fs-private.h"

/* ---- paths ---- */

static const char *parse(const char *path, enum ql_vkind *ret_kind,
			 struct ql_digest *ret_manifest)
{
	static const struct {
		const char *dir;
		enum ql_vkind kind;
	} dirs[] = { { "by-digest/", QL_V_IMAGE }, { "inert/", QL_V_INERT } };
	char text[QL_DIGEST_TEXT + 1];

	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		size_t len = strlen(dirs[i].dir);
		const char *rest = path + len;

		if (strncmp(path, dirs[i].dir, len) != 0 ||
		    strcspn(rest, "/") != QL_DIGEST_TEXT)
			continue;
		memcpy(text, rest, QL_DIGEST_TEXT);
		text[QL_DIGEST_TEXT] = 0;
		if (ql_digest_parse(text, ret_manifest, NULL) < 0)
			continue;
		*ret_kind = dirs[i].kind;
		rest += QL_DIGEST_TEXT;
		return *rest ? rest + 1 : rest;
	}
	return NULL;
}

bool ql_grownode_is(const char *path)
{
	struct ql_digest manifest;
	enum ql_vkind kind;

	return parse(path, &kind, &manifest) != NULL;
}

const char *ql_grownode_path(const char *path, struct ql_digest *ret_manifest)
{
	enum ql_vkind kind;

	return parse(path, &kind, ret_manifest);
}

/* ---- nodes ---- */

static int get_growing(struct ql_node *node, const char *path)
{
	const struct ql_growfile *f = &node->grown;
	int r = ql_growing_find(node->growing, path, &node->grown);

	if (r < 0)
		return r;
	node->inode = (struct ql_inode){
		.mode = f->mode,
		.nlink = 1, /* how many there are is known at the end */
		.uid = f->uid,
		.gid = f->gid,
		.size = f->content.size,
		.rdev = f->rdev,
		.mtime_sec = f->mtime_sec,
		.mtime_nsec = f->mtime_nsec,
	};
	return 0;
}

/* -ENOENT: no such image, or no such file of it. */
static int get_tree(struct ql_fs *fs, struct ql_node *node, const char *path,
		    enum ql_vkind kind)
{
	struct ql_error err = QL_ERROR_INIT;
	int r = ql_slots_open(fs->slots, kind, &node->v.digest, &node->slot,
			      &err);

	if (r == 0) {
		node->tree = node->slot->tree;
		r = ql_tree_resolve(node->tree, path, false, &node->inode,
				    &err);
	}
	if (r < 0)
		ql_debug("msg=\"what was pulled is not here\" error=\"%s\"",
			 err.text);
	return r;
}

int ql_grownode_get(struct ql_fs *fs, struct ql_node *node)
{
	enum ql_vkind kind;
	const char *path = parse(node->path, &kind, &node->v.digest);
	int r;

	if (!path)
		return -ESTALE;
	node->v.kind = QL_V_GROWN;
	node->growing = ql_growings_find(fs->growings, &node->v.digest);
	r = node->growing ? get_growing(node, path)
			  : get_tree(fs, node, path, kind);
	/* It was there: what is not there any more is the image. */
	return r == -ENOENT || r == -ENOTDIR ? -EIO : r;
}

/* ---- names ---- */

/* Of an image that is here. */
static int lookup_tree(struct ql_fs *fs, const struct ql_node *dir,
		       const char *name, struct ql_node *node)
{
	struct ql_node other;
	uint64_t nid;
	int r = ql_tree_lookup(dir->tree, &dir->inode, name, strlen(name),
			       &nid);

	if (r == 0)
		r = ql_node_sibling(dir, nid, &other);
	if (r < 0)
		return r;
	ql_slot_hold(dir->slot, 1);
	node->slot = dir->slot;
	node->tree = dir->tree;
	node->inode = other.inode;
	node->ino = ql_vtable_learn_known(fs->vtable, node->path);
	if (node->ino)
		return 0;
	free(node->path);
	node->path = NULL;
	node->v = (struct ql_vnode){ 0 };
	node->ino = other.ino;
	ql_node_learn(node, 1);
	return 0;
}

static int lookup_growing(struct ql_fs *fs, const struct ql_node *dir,
			  const char *name, struct ql_node *node)
{
	enum ql_vkind kind;
	const char *path = parse(node->path, &kind, &node->v.digest);
	int r;

	if (!S_ISDIR(dir->inode.mode))
		return -ENOTDIR;
	if (!path || !*name)
		return -ENOENT;
	node->growing = ql_growings_find(fs->growings, &node->v.digest);
	/* It has ended since dir was looked up. */
	if (!node->growing)
		return -EINPROGRESS;
	r = get_growing(node, path);
	if (r < 0)
		return r == -ENOTDIR ? -ENOENT : r;
	node->ino = ql_vtable_learn(fs->vtable, node->path);
	return node->ino ? 0 : -ENOMEM;
}

int ql_grownode_lookup(struct ql_fs *fs, const struct ql_node *dir,
		       const char *name, struct ql_node *ret_node)
{
	struct ql_node node = { .v = dir->v };
	int r;

	node.path = ql_path_join(dir->path, name);
	if (!node.path)
		return -ENOMEM;
	r = dir->tree ? lookup_tree(fs, dir, name, &node)
		      : lookup_growing(fs, dir, name, &node);
	if (r < 0)
		ql_node_release(fs, &node);
	else
		*ret_node = node;
	return r;
}
