/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quicklayer ls: a folder of an image, read from its tree; nothing is mounted
 * and no file is opened.  Of an image that is being pulled: when it is here.
 */
#include "tools/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "tools/pulled.h"

struct listing {
	const struct ql_cli *cli;   /* borrowed */
	const struct ql_tree *tree; /* borrowed */
	json_t *list;		    /* owned; with --json */
	bool escape;		    /* names go to a terminal */
	struct ql_error *err;	    /* borrowed */
};

static char type_letter(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return 'd';
	case S_IFLNK:
		return 'l';
	case S_IFCHR:
		return 'c';
	case S_IFBLK:
		return 'b';
	case S_IFIFO:
		return 'p';
	case S_IFSOCK:
		return 's';
	default:
		return '-';
	}
}

static void mode_string(uint32_t mode, char out[11])
{
	static const char bits[] = "rwxrwxrwx";

	out[0] = type_letter(mode);
	for (int i = 0; i < 9; i++)
		out[i + 1] = mode & (0400U >> i) ? bits[i] : '-';
	if (mode & S_ISUID)
		out[3] = mode & S_IXUSR ? 's' : 'S';
	if (mode & S_ISGID)
		out[6] = mode & S_IXGRP ? 's' : 'S';
	if (mode & S_ISVTX)
		out[9] = mode & S_IXOTH ? 't' : 'T';
	out[10] = '\0';
}

static void print_name(const struct listing *ls, const char *name, size_t len)
{
	_cleanup_free_ char *safe = NULL;

	if (ls->escape)
		safe = ql_human_name(name, len);
	if (safe)
		(void)fputs(safe, stdout);
	else
		(void)fwrite(name, 1, len, stdout);
}

static int print_long(const struct listing *ls, const struct ql_inode *inode,
		      const char *name)
{
	char mode[11];
	char when[64] = "?";
	time_t t = inode->mtime_sec;
	struct tm tm;
	const char *target;
	size_t len;
	int r;

	mode_string(inode->mode, mode);
	if (gmtime_r(&t, &tm))
		(void)strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	(void)printf("%s %3u %5u %5u ", mode, inode->nlink, inode->uid,
		     inode->gid);
	if (S_ISCHR(inode->mode) || S_ISBLK(inode->mode))
		(void)printf("%5u, %5u", major(inode->rdev),
			     minor(inode->rdev));
	else
		(void)printf("%12" PRIu64, inode->size);
	(void)printf(" %s ", when);
	print_name(ls, name, strlen(name));
	if (S_ISLNK(inode->mode)) {
		r = ql_tree_readlink(ls->tree, inode, &target, &len);
		if (r < 0)
			return r;
		(void)fputs(" -> ", stdout);
		print_name(ls, target, len);
	}
	(void)putchar('\n');
	return 0;
}

static int add_json(struct listing *ls, const struct ql_inode *inode,
		    const char *name)
{
	char mode[11];
	json_t *o;
	const char *target;
	size_t len;
	int r;

	mode_string(inode->mode, mode);
	o = json_pack("{s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "name",
		      ql_json_text(name), "mode", mode, "nlink",
		      (json_int_t)inode->nlink, "uid", (json_int_t)inode->uid,
		      "gid", (json_int_t)inode->gid, "size",
		      (json_int_t)inode->size, "rdev", (json_int_t)inode->rdev,
		      "mtime", (json_int_t)inode->mtime_sec, "mtime_nsec",
		      (json_int_t)inode->mtime_nsec);
	if (!o)
		return -ENOMEM;
	if (S_ISLNK(inode->mode)) {
		r = ql_tree_readlink(ls->tree, inode, &target, &len);
		if (r < 0) {
			json_decref(o);
			return r;
		}
		(void)json_object_set_new(o, "target",
					  ql_json_bytes(target, len));
	}
	return json_array_append_new(ls->list, o) < 0 ? -ENOMEM : 0;
}

static int list_one(struct listing *ls, const struct ql_inode *inode,
		    const char *name)
{
	if (ls->list)
		return add_json(ls, inode, name);
	if (ls->cli->long_format)
		return print_long(ls, inode, name);
	print_name(ls, name, strlen(name));
	(void)putchar('\n');
	return 0;
}

/* prefix: what stands before each name ("usr/bin/"), "" at the top. */
static int list_dir(struct listing *ls, const struct ql_inode *dir,
		    const char *prefix) // NOLINT(misc-no-recursion)
{
	struct ql_dirent d;
	uint64_t pos = 0;
	int r;

	while ((r = ql_tree_readdir(ls->tree, dir, &pos, &d)) > 0) {
		_cleanup_free_ char *name = NULL;
		_cleanup_free_ char *below = NULL;
		struct ql_inode inode;

		if ((d.len == 1 && d.name[0] == '.') ||
		    (d.len == 2 && memcmp(d.name, "..", 2) == 0))
			continue;
		name = ql_strf("%s%.*s", prefix, (int)d.len, d.name);
		if (!name)
			return -ENOMEM;
		r = ql_tree_inode(ls->tree, d.nid, &inode);
		if (r == 0)
			r = list_one(ls, &inode, name);
		if (r == 0 && ls->cli->recursive && S_ISDIR(inode.mode)) {
			below = ql_strf("%s/", name);
			r = below ? list_dir(ls, &inode, below) : -ENOMEM;
		}
		if (r < 0)
			return r;
	}
	return r;
}

/* What a folder has is known when all of the image is here. */
static int ls_open(const struct ql_cli *cli, struct ql_store *store,
		   struct ql_tree **ret_tree, struct ql_error *err)
{
	_cleanup_close_ int root = -1;
	struct ql_digest manifest;
	int r = ql_pulled_find(cli, store, cli->argv[0], &manifest, &root, err);

	if (r == 0 && root < 0)
		return ql_tree_open_image(store, &manifest, ret_tree, err);
	if (r == 0)
		r = ql_pulled_wait(root, err);
	return r < 0 ? r : ql_find_tree(store, cli->argv[0], ret_tree, err);
}

int ql_cmd_ls(const struct ql_cli *cli, struct ql_error *err)
{
	_cleanup_(ql_store_closep) struct ql_store *store = NULL;
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	_cleanup_json_ json_t *list = cli->json ? json_array() : NULL;
	const char *path = cli->argc > 1 ? cli->argv[1] : "/";
	struct listing ls = { .cli = cli, .list = list, .err = err };
	struct ql_inode inode;
	int r = ql_store_open(cli->root, QL_STORE_READ, &store, err);

	if (r == 0)
		r = ls_open(cli, store, &tree, err);
	if (r == 0)
		r = ql_tree_resolve(tree, path, true, &inode, err);
	if (r < 0)
		return r;
	ls.tree = tree;
	ls.escape = isatty(STDOUT_FILENO);
	if (S_ISDIR(inode.mode))
		r = list_dir(&ls, &inode, "");
	else
		r = list_one(&ls, &inode, path);
	if (r < 0)
		return ql_error_errno(err, r, "%s", path);
	return cli->json ? ql_out_json(ql_take_ptr(list), err) : 0;
}
