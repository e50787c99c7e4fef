/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of fs/ share with each other: the server's state, and
 * prototypes grouped by the file that owns them.
 *
 * Locks: struct ql_openfiles, ql_slots and ql_vtable have one mutex each, held
 * for a few instructions (of slots also while a tree is closed) and never
 * while a request is answered or a file is opened.  None is taken under
 * another.
 */
#ifndef QL_FS_PRIVATE_H
#define QL_FS_PRIVATE_H

#define FUSE_USE_VERSION 317

#include <fuse_lowlevel.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "fetch/fetch.h"
#include "fs/fs.h"
#include "fs/grow.h"

/* Nothing in an image ever changes, so the kernel may keep what it has.
 * Folders above images do: images come and go. */
#define QL_FS_TIMEOUT (86400.0 * 365) /* seconds */
#define QL_FS_TIMEOUT_VIRTUAL 1.0

#define QL_FS_TYPE "fuse.quicklayer"
#define QL_FS_SUBTYPE "quicklayer"
#define QL_FS_AGENT "quicklayerd" /* the source of a mount of every image */

/* An xattr of the root that is not listed: "<server's pid> <pid namespace>" */
#define QL_FS_SERVER_XATTR "user.quicklayer.server"

struct ql_openfiles;

struct ql_slots;
struct ql_vtable;

struct ql_fs {
	const struct ql_store *store; /* borrowed */
	const struct ql_tree *tree;   /* borrowed; NULL: every image's */
	struct ql_store *catalog;     /* borrowed; where tree is NULL */
	struct ql_openfiles *files;   /* owned */
	struct ql_slots *slots;	      /* owned; where tree is NULL */
	struct ql_vtable *vtable;     /* owned; where tree is NULL */
	struct ql_growings *growings; /* borrowed; may be NULL */
	struct ql_filler *filler;     /* whose is own_store's, or borrowed */
	struct ql_store *own_store;   /* owned; of a mount of one image */
	struct ql_fill_image *fill;   /* owned; where tree is not NULL */
	struct fuse_session *session; /* while it serves */
	const char *mountpoint;	      /* borrowed; while it serves */
	int signal;		      /* that ended it; 0: unmounted */
	bool inert_devices;	      /* as in struct ql_mount_options */
	int record_fd;		      /* borrowed; the same; 0: none */
	atomic_bool passthrough;  /* cleared by the first open that it fails */
	atomic_uint requests;	  /* since the start; wraps */
	void (*ready)(void *arg); /* called once, when the kernel is served */
	/* Called once after the end, when it is unmounted and while all here
	 * is still there. */
	void (*ending)(void *arg);
	void *ready_arg; /* borrowed; of both */
};

/* ---- ino.c ---- */

enum { QL_SLOTS = 1 << 16 }; /* slot 0 is the root's */

fuse_ino_t ql_ino(unsigned int slot, uint64_t root_nid, uint64_t nid);
unsigned int ql_ino_slot(fuse_ino_t ino);
/* In slot 0, where root_nid is the tree's. */
uint64_t ql_ino_nid(fuse_ino_t ino, uint64_t root_nid);

/* ---- vdir.c: the folders above images, by path ---- */

enum ql_vkind {
	QL_V_DIR,
	QL_V_LINK,  /* a symlink to an image's root */
	QL_V_IMAGE, /* an image's root */
	QL_V_INERT, /* the same, its devices without numbers */
	QL_V_LAYER, /* a layer's root, as an overlay's lower one */
	QL_V_OBJECT,
	QL_V_GROWN, /* below an image's root that was looked at while the image
		     * was pulled, or that root */
};

struct ql_vnode {
	enum ql_vkind kind;
	struct ql_digest digest; /* of what kind names */
	uint64_t size;		 /* an object's, bytes */
};

struct ql_names {
	struct ql_name {
		char *name; /* owned */
		enum ql_vkind kind;
	} * items; /* owned; sorted, each name once */
	size_t n, cap;
};
void ql_names_release(struct ql_names *names);

/* What a path below the mount ("" is its root) is now.  -ENOENT (not
 * described).  growings may be NULL. */
int ql_vdir_find(struct ql_store *store, struct ql_growings *growings,
		 const char *path, struct ql_vnode *ret_node);
/* A folder's entries, sorted.  -ENOENT, -ENOTDIR (not described). */
int ql_vdir_list(struct ql_store *store, struct ql_growings *growings,
		 const char *path, struct ql_names *ret_names);
/* Where a link leads: owned; NULL: out of memory. */
char *ql_vdir_target(const char *path, const struct ql_digest *digest);
/* When a folder's entries changed last, at the earliest. */
struct timespec ql_vdir_mtime(const struct ql_store *store, const char *path);

/* ---- vtable.c: numbers of those folders, while the kernel knows them ---- */

struct ql_vtable *ql_vtable_new(void); /* NULL: out of memory */
void ql_vtable_free(struct ql_vtable *table);
/* The number of a path, which the kernel then knows once more; 0: out of
 * memory.  "" is FUSE_ROOT_ID. */
uint64_t ql_vtable_learn(struct ql_vtable *table, const char *path);
/* The same, where it knows it already; else 0. */
uint64_t ql_vtable_learn_known(struct ql_vtable *table, const char *path);
/* The kernel knows it n times less. */
void ql_vtable_forget(struct ql_vtable *table, uint64_t id, uint64_t n);
/* 0: the kernel does not know it. */
uint64_t ql_vtable_find(struct ql_vtable *table, const char *path);
/* Whether it knows the path, or one below it. */
bool ql_vtable_knows_below(struct ql_vtable *table, const char *path);
/* Owned; -ESTALE, -ENOMEM. */
int ql_vtable_path(struct ql_vtable *table, uint64_t id, char **ret_path);

/* ---- slots.c: trees that are open, each a slot of inode numbers ---- */

struct ql_slot {
	unsigned int number;  /* 1 to QL_SLOTS - 1 */
	enum ql_vkind kind;   /* under the slots' lock, as all below */
	uint64_t generation;  /* how often the number meant another tree */
	struct ql_tree *tree; /* owned; NULL: closed.  Stays while it is held */
	int hold; /* owned; a layer's lock, as a tree has an image's */
	struct ql_digest digest; /* of what is open */
	/* Owned: where what is not here may be had; NULL until needed. */
	struct ql_fill_image *_Atomic fill;
	_Atomic uint64_t refs;	     /* requests, and what the kernel knows */
	_Atomic uint64_t used;	     /* when a request came last, ns */
	uint64_t spared;	     /* it was in use: until when, likewise */
	bool idle;		     /* in the list of those with no refs */
	struct ql_slot *prev, *next; /* in that list, or that of the closed */
	struct ql_slot *chain;	     /* in its bucket */
};

/* idle_max: trees kept open that nobody uses. */
struct ql_slots *ql_slots_new(const struct ql_store *store, size_t idle_max);
void ql_slots_free(struct ql_slots *slots);
/* Finds or opens a tree and holds its slot.  A tree that was open before has
 * the number that it had.  -ENFILE: every number is in use. */
int ql_slots_open(struct ql_slots *slots, enum ql_vkind kind,
		  const struct ql_digest *digest, struct ql_slot **ret_slot,
		  struct ql_error *err);
/* Holds an open slot by its number; NULL: it is not open. */
struct ql_slot *ql_slots_hold(struct ql_slots *slots, unsigned int number);
/* Holds it n times more; by who holds it. */
void ql_slot_hold(struct ql_slot *slot, uint64_t n);
void ql_slots_put(struct ql_slots *slots, struct ql_slot *slot, uint64_t n);
/* The same by number, for what was held by the kernel. */
void ql_slots_forget(struct ql_slots *slots, unsigned int number, uint64_t n);
/* Closes the trees of an image unless they are used: then false. */
bool ql_slots_drop(struct ql_slots *slots, const struct ql_digest *digest);
/* The same of a layer. */
bool ql_slots_drop_layer(struct ql_slots *slots, const struct ql_digest *diff);

struct ql_slot_image {
	struct ql_digest digest;
	bool layer; /* it is one */
	unsigned int number;
	uint64_t used; /* when a request came last; ns, CLOCK_MONOTONIC */
};
/* Images and layers that are open (the list is the caller's to free), the
 * longest unused first, but for those that are to be spared. */
int ql_slots_images(struct ql_slots *slots, struct ql_slot_image **ret_list,
		    size_t *ret_n);
/* Leaves it out of that list for so long. */
void ql_slots_spare(struct ql_slots *slots, unsigned int number, uint64_t ns);

/* ---- layerview.c: a layer's tree as an overlay's lower folder ---- */

/* Set in the nid of a whiteout, whose inode is that of its ".wh." file. */
#define QL_NID_WHITEOUT ((uint64_t)1 << 47)

/* As ql_tree_lookup(). */
int ql_layerview_lookup(const struct ql_tree *tree, const struct ql_inode *dir,
			const char *name, size_t len, uint64_t *ret_nid);
/* Makes an entry of a folder what it is shown as: 1, or 0 for not at all. */
int ql_layerview_entry(const struct ql_tree *tree, const struct ql_inode *dir,
		       struct ql_dirent *e);
/* Whether a folder hides what lower layers have in it: 1 or 0. */
int ql_layerview_opaque(const struct ql_tree *tree, const struct ql_inode *dir);
/* As ql_tree_inode().  -EIO: its content is in a layer below. */
int ql_layerview_inode(const struct ql_tree *tree, uint64_t nid,
		       struct ql_inode *ret_inode);
/* Marks of our own are not shown. */
bool ql_layerview_hides(const struct ql_xattr *x);

/* ---- node.c: what an inode number means ---- */

struct ql_node {
	fuse_ino_t ino;
	struct ql_slot *slot;	    /* held; NULL: of slot 0 */
	const struct ql_tree *tree; /* borrowed; NULL: v says what it is */
	struct ql_inode inode;	    /* made up where there is no tree */
	struct ql_vnode v;	    /* where ino is of slot 0, as below */
	char *path;		    /* owned; NULL: ino is a slot's */
	char *target;		    /* owned; of a link there */
	struct ql_growing *growing; /* held; where its image is pulled */
	struct ql_growfile grown;   /* then; what it is */
};

/* -ESTALE; -EIO where the image is damaged. */
int ql_node_get(struct ql_fs *fs, fuse_ino_t ino, struct ql_node *ret_node);
void ql_node_release(struct ql_fs *fs, struct ql_node *node);
/* Another inode of node's tree; borrows what node holds, and is not to be
 * released. */
int ql_node_sibling(const struct ql_node *node, uint64_t nid,
		    struct ql_node *ret_node);
/* A name in a folder: held like ql_node_get()'s, and known to the kernel once
 * more (ql_node_forget() where it was not told).  -ENOENT, -ENOTDIR. */
int ql_node_lookup(struct ql_fs *fs, const struct ql_node *dir,
		   const char *name, struct ql_node *ret_node);
/* The kernel knows n times more of the node's tree. */
void ql_node_learn(const struct ql_node *node, uint64_t n);
void ql_node_forget(struct ql_fs *fs, fuse_ino_t ino, uint64_t n);
/* As of ql_tree_content(); what is inline is borrowed while node is held. */
int ql_node_content(const struct ql_node *node, struct ql_content *ret_content);
int ql_node_readlink(const struct ql_node *node, const char **ret_target,
		     size_t *ret_len);
bool ql_node_is_layer(const struct ql_node *node);
void ql_node_stat(const struct ql_fs *fs, const struct ql_node *node,
		  struct stat *ret_stat);
/* In seconds; of its name, and of its attributes. */
double ql_node_timeout(const struct ql_node *node);
double ql_node_attr_timeout(const struct ql_node *node);

/* ---- grownode.c: files that were looked at while their image was pulled ----
 */

/* Whether a path is of such a file: it has a number, as trees' have not. */
bool ql_grownode_is(const char *path);
/* Where it is in the image: borrows from path. */
const char *ql_grownode_path(const char *path, struct ql_digest *ret_manifest);
/* What node->path is: of the image that is being pulled, or of its tree.  -EIO:
 * the pull has failed; -EINPROGRESS: it is too early. */
int ql_grownode_get(struct ql_fs *fs, struct ql_node *node);
/* As ql_node_lookup(). */
int ql_grownode_lookup(struct ql_fs *fs, const struct ql_node *dir,
		       const char *name, struct ql_node *ret_node);

/* ---- growops.c: requests that come too early ---- */

struct ql_again {
	/* Handles the request anew. */
	void (*op)(fuse_req_t req, const struct ql_again *again);
	fuse_ino_t ino;
	const char *name; /* in ino, if there is one; borrowed */
	bool whole;	  /* wait for all of the image */
	size_t size;	  /* op's, as those below */
	off_t off;
	bool plus;
	struct fuse_file_info fi;
};
/* Has the request handled again when it can be, or answers it by an error when
 * it cannot; copies what it needs. */
void ql_grow_again(fuse_req_t req, const struct ql_again *again);

/* ---- fill.c ---- */

/* A filler of the mount's own, where the options ask for it. */
int ql_fs_fill_start(struct ql_fs *fs, const struct ql_mount_options *options,
		     struct ql_error *err);
void ql_fs_fill_stop(struct ql_fs *fs);
/* Where a node's content may be had (borrowed while node is held).  -ENOENT
 * (not described): nowhere. */
int ql_fs_fill_image(struct ql_fs *fs, const struct ql_node *node,
		     struct ql_fill_image **ret_image);

/* ---- drop.c ---- */

/* Closes an image's trees and has the kernel forget them, so that the image
 * can be removed.  -EBUSY: somebody uses them. */
int ql_fs_drop(struct ql_fs *fs, const struct ql_digest *manifest,
	       struct ql_error *err);
/* The same of a layer that is shown alone. */
int ql_fs_drop_layer(struct ql_fs *fs, const struct ql_digest *diff_id,
		     struct ql_error *err);

/* ---- inuse.c: images that somebody has, as far as one can see ---- */

struct ql_digests {
	struct ql_digest *items; /* owned; sorted */
	size_t n, cap;
};
void ql_digests_release(struct ql_digests *d);
bool ql_digests_have(const struct ql_digests *d, const struct ql_digest *one);
/*
 * Every digest that is part of a path in the mounts of any process, or of its
 * working folder or root: an image that is mounted anywhere, or below which
 * something is, or in which somebody is.  May have more.
 */
int ql_digests_in_use(struct ql_digests *ret_digests, struct ql_error *err);

/* ---- letgo.c ---- */

/*
 * Closes the images that nobody has used for so long (ns) and nobody uses; how
 * many.  By none of the server's own threads, and by one at a time.
 */
size_t ql_fs_let_go(struct ql_fs *fs, uint64_t unused);
/* Fetches no more of what nobody waits for; of how many images. */
size_t ql_fs_stop_filling(struct ql_fs *fs);

/* ---- ops-meta.c ---- */

/* A tree's error as a reader of files is to see it, positive. */
int ql_fs_errno(int r);

void ql_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void ql_op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup);
void ql_op_forget_multi(fuse_req_t req, size_t count,
			struct fuse_forget_data *forgets);
void ql_op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void ql_op_readlink(fuse_req_t req, fuse_ino_t ino);
void ql_op_statfs(fuse_req_t req, fuse_ino_t ino);

/* ---- ops-dir.c ---- */

void ql_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void ql_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		   struct fuse_file_info *fi);
void ql_op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi);

/* ---- ops-xattr.c ---- */

void ql_op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
		    size_t size);
void ql_op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);

/* ---- ops-file.c ---- */

void ql_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void ql_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		struct fuse_file_info *fi);
void ql_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

/* ---- openfile.c ---- */

struct ql_openfile {
	uint64_t ino;
	int fd; /* owned; -1 where the kernel reads by itself */
	struct ql_fill_file *fill; /* owned; fd is -1: it comes when read */
	int backing_id;		   /* of the kernel's passthrough; 0: none */
	unsigned int refs;	   /* under the table's lock */
	struct ql_openfile *next;  /* in its bucket, under the table's lock */
};

struct ql_openfiles *ql_openfiles_new(void); /* NULL: out of memory */
void ql_openfiles_free(struct ql_openfiles *files, struct ql_filler *filler);
/* The open file of an inode, with one reference more, or NULL. */
struct ql_openfile *ql_openfiles_find(struct ql_openfiles *files, uint64_t ino);
/* Adds file (taken), or finds that another was faster: what is returned has
 * one reference more and may be another than file, which then is still the
 * caller's. */
struct ql_openfile *ql_openfiles_add(struct ql_openfiles *files,
				     struct ql_openfile *file);
/* Drops a reference: true with the last one, and file is the caller's. */
bool ql_openfiles_put(struct ql_openfiles *files, struct ql_openfile *file);
/* Whether a file of that slot is open. */
bool ql_openfiles_of_slot(struct ql_openfiles *files, unsigned int slot);

/* ---- server.c ---- */

/*
 * Serves at dir until it is unmounted or a signal comes.  ready is called once
 * the mount answers.  Failing to mount is described; what ends a mount that
 * was made is not an error.
 */
int ql_fs_serve(struct ql_fs *fs, const char *dir,
		const struct ql_mount_options *options, struct ql_error *err);

/* ---- mountinfo.c ---- */

struct ql_mountinfo {
	unsigned int major, minor; /* of st_dev */
	char *root;		   /* what of it is mounted; owned by the
				      iteration, as all below */
	char *dir;		   /* mount point */
	char *type;
	char *source;
};

/* Parses one line of /proc/<pid>/mountinfo, in place (the members point into
 * it).  0, or -EBADMSG. */
int ql_mountinfo_parse(char *line, struct ql_mountinfo *ret_info);

/* Calls fn for each mount of this process's namespace, in mount order. */
typedef int ql_mountinfo_fn(const struct ql_mountinfo *info, void *arg);
int ql_mountinfo_each(ql_mountinfo_fn *fn, void *arg, struct ql_error *err);

/* What is mounted on top at dir, an absolute path with no symlinks: 1, or 0 for
 * nothing. */
struct ql_mounted {
	dev_t dev;
	bool ours;
};
int ql_mountinfo_find(const char *dir, struct ql_mounted *ret_mounted,
		      struct ql_error *err);

#endif
