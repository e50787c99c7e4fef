/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of fs/ share with each other: the server's state, and
 * prototypes grouped by the file that owns them.
 *
 * Locks: struct ql_openfiles has one mutex, held for a few instructions and
 * never while a request is answered or a file is opened.  There is no other.
 */
#ifndef QL_FS_PRIVATE_H
#define QL_FS_PRIVATE_H

#define FUSE_USE_VERSION 317

#include <fuse_lowlevel.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "fs/fs.h"

/* Nothing in an image ever changes, so the kernel may keep what it has. */
#define QL_FS_TIMEOUT (86400.0 * 365) /* seconds */

#define QL_FS_TYPE "fuse.quicklayer"
#define QL_FS_SUBTYPE "quicklayer"

/* An xattr of the root that is not listed: "<server's pid> <pid namespace>" */
#define QL_FS_SERVER_XATTR "user.quicklayer.server"

struct ql_openfiles;

struct ql_fs {
	const struct ql_store *store; /* borrowed */
	const struct ql_tree *tree;   /* borrowed */
	struct ql_openfiles *files;   /* owned */
	bool inert_devices;	      /* as in struct ql_mount_options */
	atomic_bool passthrough;  /* cleared by the first open that it fails */
	atomic_uint requests;	  /* since the start; wraps */
	void (*ready)(void *arg); /* called once, when the kernel is served */
	void *ready_arg;	  /* borrowed */
};

/* ---- ino.c ---- */

fuse_ino_t ql_ino_from_nid(uint64_t root_nid, uint64_t nid);
uint64_t ql_ino_to_nid(uint64_t root_nid, fuse_ino_t ino);

/* ---- ops-meta.c ---- */

/* The inode of a number from the kernel; -EIO where the image is damaged. */
int ql_fs_inode(struct ql_fs *fs, fuse_ino_t ino, struct ql_inode *ret_inode);
fuse_ino_t ql_fs_ino(const struct ql_fs *fs, uint64_t nid);
void ql_fs_stat(const struct ql_fs *fs, const struct ql_inode *inode,
		struct stat *ret_stat);
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
	uint64_t nid;
	int fd;		   /* owned; -1 where the kernel reads by itself */
	int backing_id;	   /* of the kernel's passthrough; 0: none */
	unsigned int refs; /* under the table's lock */
	struct ql_openfile *next; /* in its bucket, under the table's lock */
};

struct ql_openfiles *ql_openfiles_new(void); /* NULL: out of memory */
void ql_openfiles_free(struct ql_openfiles *files);
/* The open file of an inode, with one reference more, or NULL. */
struct ql_openfile *ql_openfiles_find(struct ql_openfiles *files, uint64_t nid);
/* Adds file (taken), or finds that another was faster: what is returned has
 * one reference more and may be another than file, which then is still the
 * caller's. */
struct ql_openfile *ql_openfiles_add(struct ql_openfiles *files,
				     struct ql_openfile *file);
/* Drops a reference: true with the last one, and file is the caller's. */
bool ql_openfiles_put(struct ql_openfiles *files, struct ql_openfile *file);

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
	char *dir;		   /* mount point; owned by the iteration */
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
