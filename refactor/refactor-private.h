/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of refactor/ share: how a root file system is read, whatever
 * it is, and the table of hardlinks.
 */
#ifndef QL_REFACTOR_PRIVATE_H
#define QL_REFACTOR_PRIVATE_H

#include <limits.h>

#include "refactor/cover.h"
#include "refactor/imagesets.h"
#include "refactor/inventory.h"
#include "refactor/layertar.h"
#include "refactor/plan.h"
#include "refactor/refactor.h"
#include "refactor/run.h"

enum { QL_PATHS_DEEP = QL_ROOT_DEPTH_MAX * (NAME_MAX + 1) }; /* bytes */

/* "." or "..", which trees list too. */
static inline bool ql_dirent_is_dots(const struct ql_dirent *e)
{
	return (e->len == 1 && e->name[0] == '.') ||
	       (e->len == 2 && e->name[0] == '.' && e->name[1] == '.');
}

/* ---- roots: roottree.c, rootdir.c ---- */

struct ql_entry {
	char name[NAME_MAX + 1]; /* "" for the top */
	uint32_t mode;
	uint32_t uid;
	uint32_t gid;
	uint32_t nlink;
	uint64_t size; /* bytes */
	uint64_t ino;
	uint64_t dev; /* ino is unique in it */
	dev_t rdev;
	int64_t mtime_sec;
	uint32_t mtime_nsec;
};

/* An open directory and the entry that it stands at: the first member of each
 * backend's own. */
struct ql_rootpos {
	const struct ql_root_ops *ops;
	struct ql_entry entry;
};

struct ql_attr {
	char *name;	/* owned */
	uint8_t *value; /* owned */
	size_t len;
};

enum { QL_ATTRS_MAX = 4096 };

struct ql_attrs {
	struct ql_attr *list; /* owned; sorted by name */
	size_t n;
};

struct ql_root_ops {
	/* A position at the top itself; nothing follows it. */
	int (*top)(struct ql_root *root, struct ql_rootpos **ret_pos,
		   struct ql_error *err);
	/* The directory that pos stands at, before its first entry. */
	int (*enter)(struct ql_rootpos *pos, struct ql_rootpos **ret_pos,
		     struct ql_error *err);
	/* Moves to the next entry, in byte order: 1, or 0 at the end. */
	int (*next)(struct ql_rootpos *pos, struct ql_error *err);
	/* Of the entry that pos stands at: */
	int (*target)(struct ql_rootpos *pos, struct ql_buf *buf,
		      struct ql_error *err);
	int (*attrs)(struct ql_rootpos *pos, struct ql_attrs *attrs,
		     struct ql_error *err); /* adds, in any order */
	int (*digest)(struct ql_rootpos *pos, struct ql_digest *ret_digest,
		      struct ql_error *err);
	void (*leave)(struct ql_rootpos *pos);
	void (*free)(struct ql_root *root);
};

/* First member of each backend's own. */
struct ql_root {
	const struct ql_root_ops *ops;
};

/* ---- attrs.c ---- */

int ql_attrs_add(struct ql_attrs *attrs, const char *prefix, const char *name,
		 size_t name_len, const void *value, size_t len,
		 struct ql_error *err);
void ql_attrs_sort(struct ql_attrs *attrs);
void ql_attrs_release(struct ql_attrs *attrs);

/* ---- hardlinks.c ---- */

struct ql_hardlinks; /* of one root: inodes and the first path of each */

struct ql_hardlinks *ql_hardlinks_new(void); /* NULL: out of memory */
void ql_hardlinks_free(struct ql_hardlinks *links);
/* The first path that was given with this inode, which may be this one;
 * borrowed.  NULL: out of memory. */
const char *ql_hardlinks_first(struct ql_hardlinks *links,
			       const struct ql_entry *entry, const char *path);

/* ---- tarentry.c ---- */

/* Is it of eStargz, which puts files into an archive's top that are not the
 * image's? */
bool ql_name_is_stargz(const char *name, size_t len);
void ql_tarentry_release(struct ql_tar_entry *e);
/* Takes name (owned; NULL: out of memory), copies the value. */
int ql_tarentry_xattr(struct ql_tar_entry *e, char *name, const void *value,
		      size_t len);
int ql_tarentry_copy(const struct ql_tar_entry *from, struct ql_tar_entry *ret);

/* ---- proof.c: what was written is what was read ---- */

/*
 * A store without content, in a folder of its own that goes with it: layers as
 * their archives say that they are.
 */
struct ql_proof;
/* stargz: what eStargz puts into an archive counts on neither side. */
int ql_proof_new(const char *tmp_dir, bool stargz, struct ql_proof **ret_proof,
		 struct ql_error *err);
void ql_proof_free(struct ql_proof *proof);
QL_DEFINE_CLEANUP(struct ql_proof *, ql_proof_free)
/* Reads a layer's archive (borrowed) to its end.  Any thread. */
int ql_proof_layer(struct ql_proof *proof, struct ql_stream *tar,
		   const struct ql_blob_info *blob, struct ql_error *err);
/* Gives back pages of its catalogue: they count as this process's memory. */
void ql_proof_relax(const struct ql_proof *proof);
/*
 * Merges layers that were read, lowest first, as a pull would, and compares
 * the root with another, by quicklayer diff's rules (flags: its own).
 * -EUCLEAN: they differ, and the first differences are described.
 * *ret_tree: the new root; of a file that goes with the proof.
 */
int ql_proof_image(struct ql_proof *proof, const struct ql_digest *diff_ids,
		   uint32_t n_layers, const struct ql_tree *old,
		   unsigned int flags, struct ql_tree **ret_tree,
		   struct ql_error *err);

#endif
