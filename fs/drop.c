/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Letting go of an image that is to be removed, or of a layer that is to be
 * evicted.  Its tree is held for as long as the kernel remembers a file of it,
 * which it does long after the last one was closed; so the kernel is told that
 * the root is gone from its folder, upon which it forgets all of it that
 * nobody uses.  Where somebody does (a mount in another namespace, say), the
 * root is looked up again, which puts it back in its place.
 *
 * To be called by none of the server's own threads: they answer what the
 * kernel asks meanwhile.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fs-private.h"

enum { WAIT_MS = 1000, STEP_MS = 10, ROOTS = 2 };

/* Where the roots of what is dropped are. */
struct dropped {
	struct ql_fs *fs; /* borrowed, as all these */
	const struct ql_digest *digest;
	bool layer;
	struct root {
		char folder[128];
		char name[QL_DIGEST_TEXT + 1];
	} roots[ROOTS];
	int n;
};

struct mounted {
	char text[QL_DIGEST_TEXT + 1];
	char found[256];
};

/* A mount that is to be seen from here is told by its place. */
static int visit(const char *dir, const char *source, void *arg)
{
	struct mounted *m = arg;

	if (strcmp(source, m->text) != 0)
		return 0;
	(void)snprintf(m->found, sizeof(m->found), "%s", dir);
	return 1;
}

static void root_add(struct dropped *d, const char *folder, const char *below,
		     const char *name)
{
	struct root *root = &d->roots[d->n++];

	(void)snprintf(root->folder, sizeof(root->folder), "%s%s%s", folder,
		       *below ? "/" : "", below);
	(void)snprintf(root->name, sizeof(root->name), "%s", name);
}

static void forget(const struct dropped *d)
{
	for (int i = 0; i < d->n; i++) {
		const struct root *root = &d->roots[i];
		uint64_t parent = ql_vtable_find(d->fs->vtable, root->folder);

		if (parent)
			(void)fuse_lowlevel_notify_inval_entry(
				d->fs->session, parent, root->name,
				strlen(root->name));
	}
}

/* Nor does it know files by numbers that they have had since the pull. */
static bool drop(const struct dropped *d)
{
	for (int i = 0; i < d->n; i++) {
		_cleanup_free_ char *path =
			ql_path_join(d->roots[i].folder, d->roots[i].name);

		if (!path || ql_vtable_knows_below(d->fs->vtable, path))
			return false;
	}
	return d->layer ? ql_slots_drop_layer(d->fs->slots, d->digest)
			: ql_slots_drop(d->fs->slots, d->digest);
}

static void look_again(const struct dropped *d)
{
	struct stat st;

	for (int i = 0; i < d->n; i++) {
		_cleanup_free_ char *path =
			ql_strf("%s/%s/%s", d->fs->mountpoint,
				d->roots[i].folder, d->roots[i].name);

		if (path && stat(path, &st) < 0)
			ql_debug("msg=\"cannot look again\" path=%s", path);
	}
}

static int drop_or_not(const struct dropped *d, struct ql_error *err)
{
	if (drop(d))
		return 0;
	forget(d);
	for (int ms = 0; ms < WAIT_MS; ms += STEP_MS) {
		if (drop(d))
			return 0;
		(void)usleep(STEP_MS * 1000);
	}
	look_again(d);
	return ql_error_set(err, -EBUSY,
			    "the %s is in use: files of it are open, or it "
			    "is mounted elsewhere",
			    d->layer ? "layer" : "image");
}

int ql_fs_drop(struct ql_fs *fs, const struct ql_digest *manifest,
	       struct ql_error *err)
{
	struct dropped d = { .fs = fs, .digest = manifest };
	struct mounted m = { 0 };
	int r;

	ql_digest_text(manifest, m.text);
	r = ql_mount_each(visit, &m, err);
	if (r < 0)
		return r;
	if (r > 0)
		return ql_error_set(err, -EBUSY, "the image is mounted on %s",
				    m.found);
	root_add(&d, "by-digest", "", m.text);
	root_add(&d, "inert", "", m.text);
	return drop_or_not(&d, err);
}

int ql_fs_drop_layer(struct ql_fs *fs, const struct ql_digest *diff_id,
		     struct ql_error *err)
{
	struct dropped d = { .fs = fs, .digest = diff_id, .layer = true };
	char text[QL_DIGEST_TEXT + 1];

	root_add(&d, "layers", ql_digest_text(diff_id, text), "diff");
	return drop_or_not(&d, err);
}
