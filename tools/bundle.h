/* SPDX-License-Identifier: Apache-2.0 */
/* A container's bundle: its user and its config.json. */
#ifndef QL_TOOLS_BUNDLE_H
#define QL_TOOLS_BUNDLE_H

#include "tools/cli.h"

/* ---- user.c ---- */

struct ql_user {
	uint32_t uid, gid;
	char *home;	  /* owned; NULL: not known */
	uint32_t *groups; /* owned */
	size_t n_groups;
};
/* spec NULL or "": root.  -ENOENT: no such user or group in the image. */
int ql_user_lookup(const char *rootfs, const char *spec,
		   struct ql_user *ret_user, struct ql_error *err);
void ql_user_release(struct ql_user *user);

/* ---- bundle.c ---- */

/* Writes bundle_fd/config.json: the command line's words (cli) in a container
 * on rootfs, with what the image's configuration says. */
int ql_bundle_write(int bundle_fd, const json_t *image_config,
		    const char *rootfs, const struct ql_cli *cli,
		    const struct ql_user *user, struct ql_error *err);

/* ---- record.c ---- */

/* accesses: struct ql_access, one behind the other. */
int ql_record_trace(const struct ql_tree *tree, const void *accesses,
		    size_t len, struct ql_trace *ret_trace,
		    struct ql_error *err);

/* ---- rundir.c ---- */

/*
 * A container's folder, <root>/run/<name>: lower (the image), upper, work,
 * merged, and the bundle itself.  It is locked while it is used; those that a
 * killed run left are unmounted and removed when the next is made.
 */
struct ql_rundir {
	struct ql_lockdir dir; /* owned */
	const char *name;      /* its, unique, fit for a container's ID */
};
int ql_rundir_make(const struct ql_store *store, struct ql_rundir *ret_dir,
		   struct ql_error *err);
/* What a container stands on; all borrowed. */
struct ql_run_image {
	struct ql_store *store;
	const struct ql_tree *tree;
	const struct ql_image_info *info;
	const char *from; /* in the agent's mount; NULL: a server of its own */
	const struct ql_fill_options *fill; /* that server's, where it needs
					     * one; or NULL */
	int record_fd;			    /* as of struct ql_mount_options */
};
/* Mounts the image, and an overlay over it (also where the container may not
 * write: the runtime makes the folders that it mounts on); the folder that is
 * the container's root. */
int ql_rundir_mount(struct ql_rundir *dir, const struct ql_run_image *image,
		    char **ret_rootfs, struct ql_error *err);
/* Unmounts and removes; safe on a zeroed one. */
void ql_rundir_release(struct ql_rundir *dir);

/* ---- runtime.c ---- */

/* Runs the bundle in dir to its end by an OCI runtime (NULL: crun, else
 * runc).  The container's exit status, or 128 and the signal's number. */
int ql_runtime_run(const char *runtime, const struct ql_rundir *dir,
		   struct ql_error *err);

#endif
