/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /proc/<pid>/mountinfo, proc_pid_mountinfo(5):
 *
 *   36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/root rw,errors=x
 *   id parent dev root dir options tags… "-" type source super-options
 *
 * Space, tab, newline and backslash in a field are written \ooo.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "fs/fs-private.h"

static bool octal(char c)
{
	return c >= '0' && c <= '7';
}

static void unescape(char *s)
{
	char *to = s;

	for (; *s; to++) {
		if (s[0] == '\\' && octal(s[1]) && octal(s[2]) && octal(s[3])) {
			*to = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 |
				     (s[3] - '0'));
			s += 4;
		} else {
			*to = *s++;
		}
	}
	*to = 0;
}

/* The next field, cut off in place, or NULL. */
static char *field(char **rest)
{
	char *f = strsep(rest, " ");

	return f && *f ? f : NULL;
}

int ql_mountinfo_parse(char *line, struct ql_mountinfo *ret_info)
{
	struct ql_mountinfo info = { 0 };
	char *dev, *f, end;

	line[strcspn(line, "\n")] = 0;
	if (!field(&line) || !field(&line))
		return -EBADMSG;
	dev = field(&line);
	if (!dev || sscanf(dev, "%u:%u%c", &info.major, &info.minor, &end) != 2)
		return -EBADMSG;
	info.root = field(&line);
	info.dir = field(&line);
	if (!info.root || !info.dir || !field(&line))
		return -EBADMSG;
	do {
		f = field(&line);
		if (!f)
			return -EBADMSG;
	} while (strcmp(f, "-") != 0);
	info.type = field(&line);
	/* A source may be empty: then two spaces stand together. */
	info.source = strsep(&line, " ");
	if (!info.type || !info.source)
		return -EBADMSG;
	unescape(info.root);
	unescape(info.dir);
	unescape(info.type);
	unescape(info.source);
	*ret_info = info;
	return 0;
}

int ql_mountinfo_each(ql_mountinfo_fn *fn, void *arg, struct ql_error *err)
{
	static const char path[] = "/proc/self/mountinfo";
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	_cleanup_free_ char *line = NULL;
	struct ql_mountinfo info;
	size_t cap = 0;
	int r = 0;

	if (!f)
		return ql_error_errno(err, -errno, "%s", path);
	while (r == 0 && getline(&line, &cap, f) > 0) {
		/* A line of a shape to come is not a mount of ours. */
		if (ql_mountinfo_parse(line, &info) == 0)
			r = fn(&info, arg);
	}
	return r;
}

struct find {
	const char *dir; /* borrowed */
	struct ql_mounted mounted;
	int found;
};

static int find_last(const struct ql_mountinfo *info, void *arg)
{
	struct find *find = arg;

	if (strcmp(info->dir, find->dir) == 0) {
		find->found = 1;
		find->mounted.dev = makedev(info->major, info->minor);
		find->mounted.ours = strcmp(info->type, QL_FS_TYPE) == 0;
	}
	return 0;
}

int ql_mountinfo_find(const char *dir, struct ql_mounted *ret_mounted,
		      struct ql_error *err)
{
	struct find find = { .dir = dir };
	int r = ql_mountinfo_each(find_last, &find, err);

	if (r < 0)
		return r;
	if (find.found)
		*ret_mounted = find.mounted;
	return find.found;
}

struct each {
	ql_mount_fn *fn;
	void *arg; /* borrowed */
};

/* A mount of a part of the agent's is named by the digest in its path. */
static const char *digest_in(const char *root, char text[QL_DIGEST_TEXT + 1])
{
	static const char *const above[] = { "/by-digest/", "/inert/" };
	struct ql_digest digest;

	for (size_t i = 0; i < sizeof(above) / sizeof(above[0]); i++) {
		size_t len = strlen(above[i]);

		if (strncmp(root, above[i], len) != 0)
			continue;
		(void)snprintf(text, QL_DIGEST_TEXT + 1, "%s", root + len);
		if (ql_digest_parse(text, &digest, NULL) == 0)
			return text;
	}
	return NULL;
}

static int each_ours(const struct ql_mountinfo *info, void *arg)
{
	const struct each *each = arg;
	char text[QL_DIGEST_TEXT + 1];
	const char *digest;

	if (strcmp(info->type, QL_FS_TYPE) != 0)
		return 0;
	digest = digest_in(info->root, text);
	if (digest)
		return each->fn(info->dir, digest, each->arg);
	if (strcmp(info->source, QL_FS_AGENT) == 0)
		return 0;
	return each->fn(info->dir, info->source, each->arg);
}

int ql_mount_each(ql_mount_fn *fn, void *arg, struct ql_error *err)
{
	struct each each = { fn, arg };

	return ql_mountinfo_each(each_ours, &each, err);
}
