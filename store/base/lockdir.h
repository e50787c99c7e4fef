/* SPDX-License-Identifier: Apache-2.0 */
/* Folders that last as long as whoever made them. */
#ifndef QL_BASE_LOCKDIR_H
#define QL_BASE_LOCKDIR_H

struct ql_error;

/* What must happen to a folder before it can be removed; path is borrowed. */
typedef void ql_lockdir_fn(const char *path);

struct ql_lockdir {
	char *path; /* owned; NULL: there is none */
	int fd;	    /* owned; the folder */
	/* Owned; the file "lock" in it, which is locked.  A program that goes
	 * on in the folder may inherit it. */
	int lock;
	ql_lockdir_fn *before; /* or NULL */
};

/*
 * Removes the folders in parent whose names begin with prefix, that are this
 * user's and that nobody keeps (a command that was killed left them), and
 * makes one, mode 0700, that is kept until it is released.  Any number of
 * processes and threads may do so at once.  before (or NULL) is called with
 * each folder that goes, at last with this one.
 */
int ql_lockdir_new(const char *parent, const char *prefix,
		   ql_lockdir_fn *before, struct ql_lockdir *ret_dir,
		   struct ql_error *err);
/* Removes it with all that is in it; what is mounted there stays, and so does
 * then the folder, until the next sweep.  Safe on a zeroed one. */
void ql_lockdir_release(struct ql_lockdir *dir);

#endif
