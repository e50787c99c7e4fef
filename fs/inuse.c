/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which images somebody has, without asking the kernel to forget them: that
 * takes an image away from its place for a moment, and with it all that is
 * mounted below it, in whichever mount namespace (Linux fs/dcache.c,
 * d_invalidate()).  So we look first: at the mounts of each mount namespace
 * that a process is in, and at each process's working folder and root.  What
 * is looked for is any digest in any of these texts, which errs on one side
 * alone.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fs-private.h"

enum { DIGESTS_MAX = 1 << 20, NAMESPACES_MAX = 1 << 16, PID_DIGITS = 15 };

void ql_digests_release(struct ql_digests *d)
{
	free(d->items);
	*d = (struct ql_digests){ 0 };
}

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct ql_digest));
}

bool ql_digests_have(const struct ql_digests *d, const struct ql_digest *one)
{
	return d->n > 0 &&
	       bsearch(one, d->items, d->n, sizeof(*one), compare) != NULL;
}

static int add(struct ql_digests *d, const struct ql_digest *one)
{
	if (d->n == d->cap) {
		size_t cap = d->cap ? 2 * d->cap : 64;
		struct ql_digest *grown;

		if (cap > DIGESTS_MAX)
			return -EFBIG;
		grown = reallocarray(d->items, cap, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		d->items = grown;
		d->cap = cap;
	}
	d->items[d->n++] = *one;
	return 0;
}

/* A path in mountinfo has "sha256:", an overlay's option "sha256\134:". */
static int add_all_in(struct ql_digests *d, const char *text)
{
	static const char mark[] = "sha256";
	char whole[QL_DIGEST_TEXT + 1] = "sha256:";
	const size_t head = strlen(whole);
	struct ql_digest one;
	int r = 0;

	while (r == 0 && (text = strstr(text, mark))) {
		text += strlen(mark);
		if (strncmp(text, "\\134", 4) == 0)
			text += 4;
		if (*text != ':')
			continue;
		(void)snprintf(whole + head, sizeof(whole) - head, "%s",
			       text + 1);
		if (ql_digest_parse(whole, &one, NULL) == 0)
			r = add(d, &one);
	}
	return r;
}

/* ---- processes ---- */

struct namespaces {
	ino_t *items; /* owned */
	size_t n, cap;
};

static bool namespace_known(const struct namespaces *ns, ino_t one)
{
	for (size_t i = 0; i < ns->n; i++)
		if (ns->items[i] == one)
			return true;
	return false;
}

static int namespace_add(struct namespaces *ns, ino_t one)
{
	if (ns->n == ns->cap) {
		size_t cap = ns->cap ? 2 * ns->cap : 16;
		ino_t *grown;

		if (cap > NAMESPACES_MAX)
			return -EFBIG;
		grown = reallocarray(ns->items, cap, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		ns->items = grown;
		ns->cap = cap;
	}
	ns->items[ns->n++] = one;
	return 0;
}

static int add_link(struct ql_digests *d, int proc, const char *pid,
		    const char *name)
{
	char path[64], text[PATH_MAX];
	ssize_t n;

	(void)snprintf(path, sizeof(path), "%.*s/%s", PID_DIGITS, pid, name);
	n = readlinkat(proc, path, text, sizeof(text) - 1);
	if (n < 0)
		return 0; /* it has ended, or is none of our business */
	text[n] = 0;
	return add_all_in(d, text);
}

/* 1: nobody looked, since the process has ended, or is none of our business;
 * another may still be in its namespace. */
static int add_mounts(struct ql_digests *d, const char *pid)
{
	char path[64];
	_cleanup_fclose_ FILE *f = NULL;
	_cleanup_free_ char *line = NULL;
	size_t cap = 0;
	int r = 0;

	(void)snprintf(path, sizeof(path), "/proc/%.*s/mountinfo", PID_DIGITS,
		       pid);
	f = fopen(path, "re");
	/* EINVAL: it is a zombie (Linux fs/proc_namespace.c). */
	if (!f)
		return errno == ENOENT || errno == ESRCH || errno == EINVAL ||
				       errno == EACCES || errno == EPERM
			       ? 1
			       : -errno;
	while (r == 0 && getline(&line, &cap, f) > 0)
		r = add_all_in(d, line);
	return r == 0 && !feof(f) ? -EIO : r;
}

static int add_process(struct ql_digests *d, struct namespaces *ns, int proc,
		       const char *pid)
{
	char path[64];
	struct stat st;
	int r = add_link(d, proc, pid, "cwd");

	if (r == 0)
		r = add_link(d, proc, pid, "root");
	if (r < 0)
		return r;
	(void)snprintf(path, sizeof(path), "%.*s/ns/mnt", PID_DIGITS, pid);
	if (fstatat(proc, path, &st, 0) < 0 || namespace_known(ns, st.st_ino))
		return 0;
	r = add_mounts(d, pid);
	if (r == 0)
		r = namespace_add(ns, st.st_ino);
	return r < 0 ? r : 0;
}

int ql_digests_in_use(struct ql_digests *ret_digests, struct ql_error *err)
{
	_cleanup_(ql_digests_release) struct ql_digests d = { 0 };
	struct namespaces ns = { 0 };
	DIR *proc = opendir("/proc");
	const struct dirent *e;
	int r = 0;

	if (!proc)
		return ql_error_errno(err, -errno, "/proc");
	while (r == 0 && (e = readdir(proc)))
		if (e->d_name[0] >= '1' && e->d_name[0] <= '9' &&
		    strlen(e->d_name) <= PID_DIGITS)
			r = add_process(&d, &ns, dirfd(proc), e->d_name);
	(void)closedir(proc);
	free(ns.items);
	if (r < 0)
		return ql_error_errno(err, r, "looking who uses images");
	if (d.n > 0)
		qsort(d.items, d.n, sizeof(*d.items), compare);
	*ret_digests = d;
	d = (struct ql_digests){ 0 };
	return 0;
}
