/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests: a store in a temporary folder, layers imported from archives in
 * memory, images built of them, and their trees as text.
 */
#ifndef QL_TEST_LAYERS_H
#define QL_TEST_LAYERS_H

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "tests/unit/scratch.h"
#include "tests/unit/tarball.h"

struct lab {
	char root[64];
	struct ql_store *store; /* owned */
	struct ql_digest layers[16];
	uint32_t n;
	struct ql_digest manifest; /* of the image built last */
	struct ql_error err;
};

static inline void lab_init(struct lab *lab)
{
	*lab = (struct lab){ .root = "/tmp/quicklayer-unit.XXXXXX" };
	(void)scratch_dir(lab->root);
	tarball_must(ql_store_open(lab->root, QL_STORE_WRITE, &lab->store,
				   NULL) == 0);
}

static inline void lab_release(struct lab *lab)
{
	ql_store_close(lab->store);
	scratch_remove(lab->root);
}
#define _cleanup_lab_ __attribute__((cleanup(lab_release)))

/* Forgets the layers: the next image is built of others. */
static inline void lab_restart(struct lab *lab)
{
	lab->n = 0;
}

/* Imports an archive as the next layer. */
static inline int lab_import(struct lab *lab, const struct ql_buf *tar,
			     struct ql_layer_stats *ret_stats)
{
	struct ql_layer_info info = { 0 };
	struct ql_stream *in;
	int r;

	tarball_must(ql_digest_of(ql_buf_str(tar), tar->len, &info.diff_id) ==
		     0);
	tarball_must(ql_stream_from_mem(ql_buf_str(tar), tar->len, &in, NULL) ==
		     0);
	info.blob = info.diff_id;
	info.blob_size = tar->len;
	r = ql_layer_import(lab->store, in, &info, NULL, ret_stats, &lab->err);
	if (r == 0) {
		tarball_must(lab->n < 16);
		lab->layers[lab->n++] = info.diff_id;
	}
	return r;
}

/* Ends the archive, imports it, and empties the buffer for the next one. */
static inline int lab_layer(struct lab *lab, struct ql_buf *tar)
{
	struct ql_layer_stats stats;
	int r;

	tarball_end(tar);
	r = lab_import(lab, tar, &stats);
	ql_buf_clear(tar);
	return r;
}

/* An image of the layers so far; its manifest is made of name. */
static inline int lab_build(struct lab *lab, const char *name)
{
	struct ql_image_info info = { .n_layers = lab->n,
				      .layers = lab->layers };
	_cleanup_free_ char *text = ql_strf("{\"manifest\": \"%s\"}", name);

	tarball_must(text);
	tarball_must(ql_object_put(lab->store, text, strlen(text), NULL,
				   &info.manifest, &lab->err) == 0);
	tarball_must(ql_object_put(lab->store, "{}", 2, NULL, &info.config,
				   &lab->err) == 0);
	lab->manifest = info.manifest;
	return ql_image_build(lab->store, &info, name, &lab->err);
}

/* ---- trees as text ---- */

static inline void lab_print_inode(const struct ql_tree *tree,
				   const struct ql_inode *inode,
				   struct ql_buf *out)
{
	struct ql_content c;
	const char *target;
	size_t len;

	if (S_ISDIR(inode->mode))
		tarball_must(ql_buf_addf(out, "/ %o", inode->mode & 07777) ==
			     0);
	else if (S_ISLNK(inode->mode) &&
		 ql_tree_readlink(tree, inode, &target, &len) == 0)
		tarball_must(ql_buf_addf(out, " -> %.*s", (int)len, target) ==
			     0);
	else if (S_ISCHR(inode->mode) || S_ISBLK(inode->mode))
		tarball_must(ql_buf_addf(out, " %u:%u", major(inode->rdev),
					 minor(inode->rdev)) == 0);
	else if (ql_tree_content(tree, inode, &c) == 0)
		tarball_must(ql_buf_addf(out, " %.*s", c.data ? (int)c.size : 8,
					 c.data ? (const char *)c.data
						: "(object)") == 0);
	if (!S_ISDIR(inode->mode) && inode->nlink > 1)
		tarball_must(ql_buf_addf(out, " x%u", inode->nlink) == 0);
	tarball_must(ql_buf_adds(out, "\n") == 0);
}

static inline void lab_print_dir(const struct ql_tree *tree, uint64_t nid,
				 const char *prefix, struct ql_buf *out)
{
	struct ql_inode dir, inode;
	struct ql_dirent d;
	uint64_t pos = 0;

	tarball_must(ql_tree_inode(tree, nid, &dir) == 0);
	while (ql_tree_readdir(tree, &dir, &pos, &d) > 0) {
		_cleanup_free_ char *path =
			ql_strf("%s%.*s", prefix, (int)d.len, d.name);
		_cleanup_free_ char *below = NULL;

		tarball_must(path);
		if ((d.len == 1 && d.name[0] == '.') ||
		    (d.len == 2 && memcmp(d.name, "..", 2) == 0))
			continue;
		tarball_must(ql_tree_inode(tree, d.nid, &inode) == 0);
		tarball_must(ql_buf_adds(out, path) == 0);
		lab_print_inode(tree, &inode, out);
		below = ql_strf("%s/", path);
		if (S_ISDIR(inode.mode))
			lab_print_dir(tree, d.nid, below, out);
	}
}

/*
 * The tree of the image built last, a line an entry: "dir/ MODE",
 * "file CONTENT", "link -> TARGET", "device MAJOR:MINOR", and "xN" where it
 * has N names.
 */
static inline void lab_print(struct lab *lab, struct ql_buf *out)
{
	struct ql_tree *tree;

	tarball_must(ql_tree_open_image(lab->store, &lab->manifest, &tree,
					NULL) == 0);
	lab_print_dir(tree, ql_tree_root(tree), "", out);
	ql_tree_close(tree);
}

#endif
