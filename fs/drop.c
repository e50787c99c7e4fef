/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Letting go of an image that is to be removed.  Its tree is held for as long
 * as the kernel remembers a file of it, which it does long after the last one
 * was closed; so the kernel is told that the image's root is gone from its
 * folder, upon which it forgets all of it that nobody uses.  Where somebody
 * does (a mount in another namespace, say), the root is looked up again, which
 * puts it back in its place.
 *
 * To be called by none of the server's own threads: they answer what the
 * kernel asks meanwhile.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fs-private.h"

enum { WAIT_MS = 1000, STEP_MS = 10 };

static const char *const folders[] = { "by-digest", "inert" };
enum { FOLDERS = sizeof(folders) / sizeof(folders[0]) };

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

static void forget(struct ql_fs *fs, const char *text)
{
	for (int i = 0; i < FOLDERS; i++) {
		uint64_t parent = ql_vtable_find(fs->vtable, folders[i]);

		if (parent)
			(void)fuse_lowlevel_notify_inval_entry(
				fs->session, parent, text, strlen(text));
	}
}

/* Nor does it know files by numbers that they have had since the pull. */
static bool drop(struct ql_fs *fs, const struct ql_digest *manifest,
		 const char *text)
{
	for (int i = 0; i < FOLDERS; i++) {
		_cleanup_free_ char *path = ql_path_join(folders[i], text);

		if (!path || ql_vtable_knows_below(fs->vtable, path))
			return false;
	}
	return ql_slots_drop(fs->slots, manifest);
}

static void look_again(const char *mountpoint, const char *text)
{
	struct stat st;

	for (int i = 0; i < FOLDERS; i++) {
		_cleanup_free_ char *path =
			ql_strf("%s/%s/%s", mountpoint, folders[i], text);

		if (path && stat(path, &st) < 0)
			ql_debug("msg=\"cannot look again\" path=%s", path);
	}
}

int ql_fs_drop(struct ql_fs *fs, const struct ql_digest *manifest,
	       struct ql_error *err)
{
	struct mounted m = { 0 };
	int r;

	ql_digest_text(manifest, m.text);
	r = ql_mount_each(visit, &m, err);
	if (r < 0)
		return r;
	if (r > 0)
		return ql_error_set(err, -EBUSY, "the image is mounted on %s",
				    m.found);
	if (drop(fs, manifest, m.text))
		return 0;
	forget(fs, m.text);
	for (int ms = 0; ms < WAIT_MS; ms += STEP_MS) {
		if (drop(fs, manifest, m.text))
			return 0;
		(void)usleep(STEP_MS * 1000);
	}
	look_again(fs->mountpoint, m.text);
	return ql_error_set(err, -EBUSY,
			    "the image is in use: files of it are open, or it "
			    "is mounted elsewhere");
}
