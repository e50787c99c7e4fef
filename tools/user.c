/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's user, as image-spec 1.1 config.md "User" has it: "user",
 * "uid", each with ":group" or ":gid", looked up in the image's own
 * /etc/passwd and /etc/group (passwd(5), group(5)).
 */
#include "tools/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>

enum {
	USER_FILE_MAX = 4 << 20,
	USER_FIELDS = 7,
	USER_GROUPS_MAX = 1024,
	USER_CHUNK = 16 << 10
};

/* An image without the file has no names.  Links in the image lead nowhere but
 * into it. */
static int user_read(int root, const char *path, struct ql_buf *buf,
		     struct ql_error *err)
{
	struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
				.resolve = RESOLVE_IN_ROOT };
	_cleanup_close_ int fd =
		(int)syscall(SYS_openat2, root, path, &how, sizeof(how));
	char chunk[USER_CHUNK];
	ssize_t n;

	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	if (fd < 0)
		return ql_error_errno(err, -errno, "%s", path);
	while ((n = ql_read_full(fd, chunk, sizeof(chunk))) > 0) {
		int r = ql_buf_add(buf, chunk, (size_t)n);

		if (r < 0)
			return ql_error_errno(err, r, "%s", path);
	}
	return n < 0 ? ql_error_errno(err, (int)n, "%s", path) : 0;
}

/* A number in full; false where it is none. */
static bool user_number(const char *s, uint32_t *ret)
{
	char *end;
	unsigned long v;

	if (*s < '0' || *s > '9')
		return false;
	errno = 0;
	v = strtoul(s, &end, 10);
	if (errno || *end || v >= UINT32_MAX)
		return false;
	*ret = (uint32_t)v;
	return true;
}

/* Splits a line at its colons, in place; the fields there are. */
static size_t user_split(char *line, char *fields[USER_FIELDS])
{
	size_t n = 0;

	while (n < USER_FIELDS) {
		char *colon = strchr(line, ':');

		fields[n++] = line;
		if (!colon)
			break;
		*colon = '\0';
		line = colon + 1;
	}
	return n;
}

static char *user_line(char **at)
{
	char *line = *at;
	char *end;

	if (!line || !*line)
		return NULL;
	end = strchr(line, '\n');
	*at = end ? end + 1 : NULL;
	if (end)
		*end = '\0';
	return line;
}

/* 1 where passwd has the user, by name or number. */
static int user_passwd(char *text, const char *who, struct ql_user *user)
{
	char *fields[USER_FIELDS];
	uint32_t number;
	bool numeric = user_number(who, &number);
	char *line;

	while ((line = user_line(&text))) {
		uint32_t uid;
		uint32_t gid;

		if (user_split(line, fields) < 6 ||
		    !user_number(fields[2], &uid) ||
		    !user_number(fields[3], &gid))
			continue;
		if (strcmp(fields[0], who) != 0 && !(numeric && uid == number))
			continue;
		user->uid = uid;
		user->gid = gid;
		user->home = strdup(fields[5]);
		return user->home ? 1 : -ENOMEM;
	}
	return 0;
}

static bool user_is_member(char *members, const char *who)
{
	char *save = NULL;

	for (char *m = strtok_r(members, ",", &save); m;
	     m = strtok_r(NULL, ",", &save))
		if (strcmp(m, who) == 0)
			return true;
	return false;
}

static int user_add_group(struct ql_user *user, uint32_t gid)
{
	uint32_t *grown;

	if (user->n_groups >= USER_GROUPS_MAX)
		return -E2BIG;
	grown = reallocarray(user->groups, user->n_groups + 1, sizeof(gid));
	if (!grown)
		return -ENOMEM;
	user->groups = grown;
	user->groups[user->n_groups++] = gid;
	return 0;
}

/* Finds `group` (1; NULL: none wanted), else collects who's groups. */
static int user_group(char *text, const char *group, const char *who,
		      struct ql_user *user)
{
	char *fields[USER_FIELDS];
	char *line;

	while ((line = user_line(&text))) {
		uint32_t gid;
		int r;

		if (user_split(line, fields) < 4 ||
		    !user_number(fields[2], &gid))
			continue;
		if (group && strcmp(fields[0], group) == 0) {
			user->gid = gid;
			return 1;
		}
		if (group || !user_is_member(fields[3], who))
			continue;
		r = user_add_group(user, gid);
		if (r < 0)
			return r;
	}
	return 0;
}

static int user_find(const char *who, const char *group, struct ql_buf *passwd,
		     struct ql_buf *groups, struct ql_user *user,
		     struct ql_error *err)
{
	int r = passwd->data ? user_passwd(passwd->data, who, user) : 0;

	if (r == 0 && !user_number(who, &user->uid))
		return ql_error_set(err, -ENOENT,
				    "the image has no user \"%s\"", who);
	if (r < 0)
		return ql_error_nomem(err);
	if (group && user_number(group, &user->gid))
		return 0;
	r = groups->data ? user_group(groups->data, group, who, user) : 0;
	if (r == -ENOMEM)
		return ql_error_nomem(err);
	if (r == 0 && group)
		return ql_error_set(err, -ENOENT,
				    "the image has no group \"%s\"", group);
	return 0;
}

int ql_user_lookup(const char *rootfs, const char *spec,
		   struct ql_user *ret_user, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf passwd = QL_BUF_INIT(USER_FILE_MAX);
	_cleanup_buf_ struct ql_buf groups = QL_BUF_INIT(USER_FILE_MAX);
	_cleanup_free_ char *who = strdup(spec && *spec ? spec : "0");
	_cleanup_close_ int root =
		open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct ql_user user = { 0 };
	char *group;
	int r;

	if (root < 0)
		return ql_error_errno(err, -errno, "%s", rootfs);
	if (!who)
		return ql_error_nomem(err);
	group = strchr(who, ':');
	if (group)
		*group++ = '\0';
	r = user_read(root, "/etc/passwd", &passwd, err);
	if (r == 0)
		r = user_read(root, "/etc/group", &groups, err);
	if (r == 0)
		r = user_find(who, group, &passwd, &groups, &user, err);
	if (r < 0) {
		ql_user_release(&user);
		return r;
	}
	*ret_user = user;
	return 0;
}

void ql_user_release(struct ql_user *user)
{
	free(user->home);
	free(user->groups);
	*user = (struct ql_user){ 0 };
}
