/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FUSE requests that come too early: what they ask of an image that is being
 * pulled is not known yet.  They are put aside, so that no thread of the
 * server waits with them, and handled from the start when more is known.  Who
 * is killed meanwhile, or has another signal, is answered at once.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/fs-private.h"

struct waiting {
	struct ql_growwait w; /* first: done gets it back */
	fuse_req_t req;
	struct ql_again again;
	char *path; /* owned; w.path is in it */
	char *name; /* owned; again.name */
};

static void waiting_free(struct waiting *wt)
{
	free(wt->path);
	free(wt->name);
	free(wt);
}

static void on_done(struct ql_growwait *w, int error)
{
	struct waiting *wt = (struct waiting *)w;

	/* After it no interruption is told any more, nor being told. */
	fuse_req_interrupt_func(wt->req, NULL, NULL);
	if (error < 0)
		(void)fuse_reply_err(wt->req, -error);
	else
		wt->again.op(wt->req, &wt->again);
	waiting_free(wt);
}

static void on_interrupt(fuse_req_t req, void *arg)
{
	struct waiting *wt = arg;

	(void)req;
	ql_growwait_hurry(&wt->w, -EINTR);
}

/* The path that it is about. */
static int waiting_path(struct ql_fs *fs, struct waiting *wt,
			const struct ql_again *again,
			struct ql_digest *ret_manifest)
{
	char *joined;
	int r = ql_vtable_path(fs->vtable, again->ino, &wt->path);

	if (r == 0 && again->name) {
		wt->name = strdup(again->name);
		joined = ql_path_join(wt->path, again->name);
		free(wt->path);
		wt->path = joined;
		r = wt->name && joined ? 0 : -ENOMEM;
	}
	if (r < 0)
		return r;
	wt->w.path = ql_grownode_path(wt->path, ret_manifest);
	return wt->w.path ? 0 : -EIO;
}

void ql_grow_again(fuse_req_t req, const struct ql_again *again)
{
	struct ql_fs *fs = fuse_req_userdata(req);
	struct waiting *wt = calloc(1, sizeof(*wt));
	struct ql_digest manifest;
	int r = wt ? waiting_path(fs, wt, again, &manifest) : -ENOMEM;

	if (r == 0 && !fs->growings)
		r = -EIO;
	if (r < 0) {
		if (wt)
			waiting_free(wt);
		(void)fuse_reply_err(req, -r);
		return;
	}
	wt->req = req;
	wt->again = *again;
	wt->again.name = wt->name;
	wt->w.growings = fs->growings;
	wt->w.whole = again->whole;
	wt->w.done = on_done;
	fuse_req_interrupt_func(req, on_interrupt, wt);
	ql_growings_wait(fs->growings, &manifest, &wt->w);
}
