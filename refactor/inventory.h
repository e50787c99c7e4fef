/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What several trees hold, each thing once.  Part of
 * refactor/refactor-private.h; include that.
 */
#ifndef QL_INVENTORY_H
#define QL_INVENTORY_H

#include "refactor/imagesets.h"
#include "store/store.h"

#define QL_UNIT_NONE UINT32_MAX

/* A thing at a path, and all the trees that have just that there. */
struct ql_unit {
	uint64_t nid;	  /* in the tree of `member` */
	uint64_t size;	  /* bytes of content; 0 for a further hardlink */
	uint32_t path;	  /* in the inventory's paths */
	uint32_t folder;  /* that it is in; the root's is the root */
	uint32_t own;	  /* which folder it is; QL_UNIT_NONE: it is none */
	uint32_t members; /* the set of them */
	uint32_t member;  /* the first of them */
	bool linked;	  /* a file of several names */
};

struct ql_folder {
	uint32_t parent; /* the root's is the root, which is the first */
	/* Those units of its path that are folders: n from `first` on. */
	uint32_t first, n;
};

struct ql_inventory {
	const struct ql_tree *const *trees; /* borrowed; n_members */
	uint32_t n_members;
	unsigned int flags;
	/* In the order of paths, parents before what is in them. */
	struct ql_unit *units; /* owned */
	uint32_t n_units, cap_units;
	struct ql_folder *folders; /* owned */
	uint32_t n_folders, cap_folders;
	struct ql_imagesets sets;
	struct ql_buf paths; /* each ended by a NUL; "" is the root */
};

enum ql_inventory_flags {
	/* Times of modification make no difference. */
	QL_INVENTORY_ANY_MTIME = 1,
	/* What eStargz puts into an archive is none of the image's files. */
	QL_INVENTORY_SKIP_STARGZ = 2,
};

/*
 * Walks all trees at once.  What is the same: type, permissions, owner, time
 * of modification, device, symlink's target, xattrs, content, and for files
 * of several names those.  Memory: about 100 bytes for each thing and its
 * path.  -EBADMSG: a tree is damaged.  -EFBIG: too much.
 */
int ql_inventory_read(const struct ql_tree *const *trees, uint32_t n_members,
		      unsigned int flags, struct ql_inventory *ret_inventory,
		      struct ql_error *err);
void ql_inventory_release(struct ql_inventory *inv);

static inline const char *ql_unit_path(const struct ql_inventory *inv,
				       const struct ql_unit *u)
{
	return inv->paths.data + u->path;
}

static inline const uint64_t *ql_unit_members(const struct ql_inventory *inv,
					      const struct ql_unit *u)
{
	return ql_imagesets_get(&inv->sets, u->members);
}

/* ---- linknames.c: files of several names, of one tree ---- */

struct ql_linknames;
int ql_linknames_read(const struct ql_tree *tree,
		      struct ql_linknames **ret_names, struct ql_error *err);
void ql_linknames_free(struct ql_linknames *names);
/* A digest of all names that a file has; NULL: it is not in the table.
 * *ret_first: this is the first time that it was asked for. */
const struct ql_digest *ql_linknames_get(struct ql_linknames *names,
					 uint64_t nid, bool *ret_first);

/* ---- identity.c ---- */

/* Two things' own nature, names apart: 1, 0, or a negative errno. */
int ql_identity_same(const struct ql_tree *a, const struct ql_inode *x,
		     const struct ql_tree *b, const struct ql_inode *y,
		     bool any_mtime);

#endif
