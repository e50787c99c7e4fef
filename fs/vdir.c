/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The folders above the images, as functions of the store and a path:
 *
 *   images/<reference, its slashes as folders>   a link to an image's root
 *   by-digest/<manifest digest>                  an image's root
 *   inert/<manifest digest>                      its device nodes opened to
 *                                                nothing
 *   layers/<diff ID>/diff                        a layer's entries, as one of
 *                                                an overlay's lower folders
 *   objects/ab/cdef…                             objects, as the store has them
 *
 * A link rather than the root a second time: the kernel has one place for each
 * folder, and would move it to and fro.
 *
 * An image that is still being pulled is there, too (grow.h).
 *
 * Nothing is kept here: images come and go, also by other processes.  A
 * reference with a component that no path can have ("..", over 255 bytes) has
 * no folder below images/, and where one reference is a path above another,
 * the shorter one is the image; by-digest/ has them all.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fs-private.h"

enum { NAMES_MAX = 1 << 20, OBJECT_DIR = 2 /* digits */ };

static const char *const top[] = { "by-digest", "images", "inert", "layers",
				   "objects" };
enum { TOP = sizeof(top) / sizeof(top[0]) };

/* ---- names ---- */

void ql_names_release(struct ql_names *names)
{
	for (size_t i = 0; i < names->n; i++)
		free(names->items[i].name);
	free(names->items);
	*names = (struct ql_names){ 0 };
}

static int names_add(struct ql_names *names, const char *name, size_t len,
		     enum ql_vkind kind)
{
	size_t cap = names->cap ? names->cap * 2 : 64;

	if (names->n >= NAMES_MAX)
		return -E2BIG;
	if (names->n == names->cap) {
		struct ql_name *grown =
			reallocarray(names->items, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		names->items = grown;
		names->cap = cap;
	}
	names->items[names->n].name = strndup(name, len);
	names->items[names->n].kind = kind;
	if (!names->items[names->n].name)
		return -ENOMEM;
	names->n++;
	return 0;
}

/* An image before the folder of the same name. */
static int name_cmp(const void *a, const void *b)
{
	const struct ql_name *x = a, *y = b;
	int c = strcmp(x->name, y->name);

	return c ? c : (x->kind == QL_V_DIR) - (y->kind == QL_V_DIR);
}

static void names_sort(struct ql_names *names)
{
	size_t n = 0;

	if (names->n == 0)
		return;
	qsort(names->items, names->n, sizeof(*names->items), name_cmp);
	for (size_t i = 1; i < names->n; i++) {
		if (strcmp(names->items[i].name, names->items[n].name) == 0)
			free(names->items[i].name);
		else
			names->items[++n] = names->items[i];
	}
	names->n = n + 1;
}

/* ---- images, and those that are being pulled ---- */

struct ql_vdirs {
	struct ql_store *store;	      /* borrowed */
	struct ql_growings *growings; /* borrowed; may be NULL */
};

static int images_each(const struct ql_vdirs *dirs, ql_image_fn *fn, void *arg)
{
	int r = ql_image_each(dirs->store, fn, arg, NULL);

	return r == 0 ? ql_growings_each(dirs->growings, fn, arg) : r;
}

/* ---- references as paths ---- */

/* Moves on to the next component: its length, 0 at the end, or -EINVAL where
 * it can be no name of a folder. */
static int component(const char **p)
{
	const char *s = *p + strspn(*p, "/");
	size_t len = strcspn(s, "/");

	*p = s;
	if (len > NAME_MAX || (len == 1 && s[0] == '.') ||
	    (len == 2 && s[0] == '.' && s[1] == '.'))
		return -EINVAL;
	return (int)len;
}

static bool name_fits(const char *name)
{
	int len;

	while ((len = component(&name)) > 0)
		name += len;
	return len == 0;
}

struct by_name {
	const char *path;	/* borrowed; "" or without slashes around it */
	struct ql_vnode found;	/* by find */
	bool any;		/* something is at or below path */
	struct ql_names *names; /* borrowed; to list, or NULL */
};

/* Where name is path itself, or is below it: what is behind it; else NULL. */
static const char *below(const char *name, const char *path)
{
	int len, want;

	while ((want = component(&path)) > 0) {
		len = component(&name);
		if (len != want || memcmp(name, path, (size_t)len) != 0)
			return NULL;
		name += len;
		path += want;
	}
	(void)component(&name);
	return want < 0 ? NULL : name;
}

static int visit_name(const char *name, const struct ql_image_info *info,
		      void *arg)
{
	struct by_name *b = arg;
	const char *rest;
	int len;

	if (!name || !name_fits(name))
		return 0;
	rest = below(name, b->path);
	if (!rest)
		return 0;
	b->any = true;
	if (!*rest && b->found.kind == QL_V_LINK)
		return 0; /* it is being pulled anew */
	if (!*rest) {	  /* the image itself */
		b->found.kind = QL_V_LINK;
		b->found.digest = info->manifest;
		return 0;
	}
	if (!b->names)
		return 0;
	len = component(&rest);
	rest += len;
	return names_add(b->names, rest - len, (size_t)len,
			 rest[strspn(rest, "/")] ? QL_V_DIR : QL_V_LINK);
}

/* Every reference above which an image stands is hidden by it. */
static int hidden(const struct ql_vdirs *dirs, const char *path,
		  bool *ret_hidden)
{
	_cleanup_free_ char *copy = strdup(path);
	char *slash;
	int r;

	if (!copy)
		return -ENOMEM;
	*ret_hidden = false;
	while ((slash = strrchr(copy, '/'))) {
		struct by_name b = { .path = copy };

		*slash = 0;
		r = images_each(dirs, visit_name, &b);
		if (r < 0)
			return r;
		if (b.found.kind == QL_V_LINK)
			*ret_hidden = true;
	}
	return 0;
}

static int find_name(const struct ql_vdirs *dirs, const char *path,
		     struct ql_names *names, struct ql_vnode *ret_node)
{
	struct by_name b = { .path = path, .names = names };
	bool is_hidden;
	int r = images_each(dirs, visit_name, &b);

	if (r == 0 && !b.any && *path)
		r = -ENOENT;
	if (r == 0)
		r = hidden(dirs, path, &is_hidden);
	if (r == 0 && is_hidden)
		r = -ENOENT;
	if (r == 0)
		*ret_node = b.found;
	return r;
}

/* ---- digests as names ---- */

static int add_digest(struct ql_names *names, const struct ql_digest *digest,
		      enum ql_vkind kind)
{
	char text[QL_DIGEST_TEXT + 1];

	return names_add(names, ql_digest_text(digest, text), QL_DIGEST_TEXT,
			 kind);
}

struct by_digest {
	struct ql_names *names; /* borrowed */
	enum ql_vkind kind;
};

static int visit_digest(const char *name, const struct ql_image_info *info,
			void *arg)
{
	const struct by_digest *b = arg;
	int r = 0;

	(void)name;
	if (b->kind != QL_V_LAYER)
		return add_digest(b->names, &info->manifest, b->kind);
	for (uint32_t i = 0; i < info->n_layers && r == 0; i++)
		r = add_digest(b->names, &info->layers[i], QL_V_DIR);
	return r;
}

static int has_image(struct ql_store *store, const struct ql_digest *manifest)
{
	_cleanup_image_info_ struct ql_image_info info = { 0 };

	return ql_image_get(store, manifest, &info);
}

static int find_image(const struct ql_vdirs *dirs, const char *name,
		      enum ql_vkind kind, struct ql_vnode *ret_node)
{
	struct ql_vnode v = { .kind = kind };
	struct ql_growing *growing;
	int r;

	if (ql_digest_parse(name, &v.digest, NULL) < 0)
		return -ENOENT;
	r = has_image(dirs->store, &v.digest);
	if (r == -ENOENT) {
		growing = ql_growings_find(dirs->growings, &v.digest);
		if (growing) {
			v.kind = QL_V_GROWN;
			r = 0;
		} else if (dirs->growings) { /* its pull may have ended now */
			r = has_image(dirs->store, &v.digest);
		}
		ql_growing_put(growing);
	}
	if (r == 0)
		*ret_node = v;
	return r;
}

/* "<diff ID>" or "<diff ID>/diff". */
static int find_layer(struct ql_store *store, const char *rest,
		      struct ql_vnode *ret_node)
{
	struct ql_vnode v = { .kind = QL_V_DIR };
	char text[QL_DIGEST_TEXT + 1];
	struct ql_layer_info info;
	size_t len = strcspn(rest, "/");
	int r;

	if (len != QL_DIGEST_TEXT)
		return -ENOENT;
	memcpy(text, rest, len);
	text[len] = 0;
	if (ql_digest_parse(text, &v.digest, NULL) < 0)
		return -ENOENT;
	if (rest[len] && strcmp(rest + len, "/diff") != 0)
		return -ENOENT;
	r = ql_layer_get(store, &v.digest, &info);
	if (r < 0)
		return r;
	v.kind = rest[len] ? QL_V_LAYER : QL_V_DIR;
	*ret_node = v;
	return 0;
}

/* ---- objects ---- */

static bool is_hex(const char *s, size_t len)
{
	return strspn(s, "0123456789abcdef") == len && !s[len];
}

/* "ab" or "ab/cdef…". */
static int find_object(const struct ql_store *store, const char *rest,
		       struct ql_vnode *ret_node)
{
	struct ql_vnode v = { .kind = QL_V_DIR };
	char hex[QL_DIGEST_HEX + 1], path[QL_OBJECT_PATH + 1];
	struct stat st;

	if (is_hex(rest, OBJECT_DIR)) {
		*ret_node = v;
		return 0;
	}
	if (strlen(rest) != QL_DIGEST_HEX + 1 || rest[OBJECT_DIR] != '/')
		return -ENOENT;
	memcpy(hex, rest, OBJECT_DIR);
	memcpy(hex + OBJECT_DIR, rest + OBJECT_DIR + 1,
	       QL_DIGEST_HEX - OBJECT_DIR + 1);
	v.kind = QL_V_OBJECT;
	if (ql_digest_from_hex(hex, &v.digest) < 0)
		return -ENOENT;
	if (fstatat(ql_store_root_fd(store), ql_object_path(&v.digest, path),
		    &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	v.size = (uint64_t)st.st_size;
	*ret_node = v;
	return 0;
}

static int list_objects(const struct ql_store *store, const char *rest,
			struct ql_names *names)
{
	_cleanup_closedir_ DIR *d = NULL;
	const struct dirent *e;
	char path[16];
	int fd, r = 0;

	if (!*rest) {
		for (unsigned int i = 0; i < 256 && r == 0; i++) {
			(void)snprintf(path, sizeof(path), "%02x", i);
			r = names_add(names, path, OBJECT_DIR, QL_V_DIR);
		}
		return r;
	}
	(void)snprintf(path, sizeof(path), "objects/%.2s", rest);
	fd = openat(ql_store_root_fd(store), path,
		    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	d = fdopendir(fd);
	if (!d) {
		(void)close(fd);
		return -ENOMEM;
	}
	while (r == 0 && (e = readdir(d)))
		if (is_hex(e->d_name, QL_DIGEST_HEX - OBJECT_DIR))
			r = names_add(names, e->d_name, strlen(e->d_name),
				      QL_V_OBJECT);
	return r;
}

/* ---- all of them ---- */

/* Cuts path at its first slash: what of top it begins with, or -1; the rest. */
static int path_split(const char *path, const char **ret_rest)
{
	size_t len = strcspn(path, "/");

	*ret_rest = path + len + (path[len] == '/');
	for (int i = 0; i < TOP; i++)
		if (strlen(top[i]) == len && memcmp(top[i], path, len) == 0)
			return i;
	return -1;
}

enum { BY_DIGEST, IMAGES, INERT, LAYERS, OBJECTS };

int ql_vdir_find(struct ql_store *store, struct ql_growings *growings,
		 const char *path, struct ql_vnode *ret_node)
{
	const struct ql_vdirs dirs = { store, growings };
	const char *rest;
	int i = path_split(path, &rest);

	if (!*path || (i >= 0 && !*rest)) {
		*ret_node = (struct ql_vnode){ .kind = QL_V_DIR };
		return 0;
	}
	switch (i) {
	case BY_DIGEST:
		return find_image(&dirs, rest, QL_V_IMAGE, ret_node);
	case INERT:
		return find_image(&dirs, rest, QL_V_INERT, ret_node);
	case IMAGES:
		return find_name(&dirs, rest, NULL, ret_node);
	case LAYERS:
		return find_layer(store, rest, ret_node);
	case OBJECTS:
		return find_object(store, rest, ret_node);
	default:
		return -ENOENT;
	}
}

static int list_digests(const struct ql_vdirs *dirs, enum ql_vkind kind,
			struct ql_names *names)
{
	struct by_digest b = { .names = names, .kind = kind };

	return images_each(dirs, visit_digest, &b);
}

static int list_top(struct ql_names *names)
{
	int r = 0;

	for (int i = 0; i < TOP && r == 0; i++)
		r = names_add(names, top[i], strlen(top[i]), QL_V_DIR);
	return r;
}

int ql_vdir_list(struct ql_store *store, struct ql_growings *growings,
		 const char *path, struct ql_names *ret_names)
{
	const struct ql_vdirs dirs = { store, growings };
	struct ql_names names = { 0 };
	struct ql_vnode v;
	const char *rest;
	int i = path_split(path, &rest);
	int r = ql_vdir_find(store, growings, path, &v);

	if (r < 0)
		return r;
	if (v.kind != QL_V_DIR)
		return -ENOTDIR;
	if (!*path)
		r = list_top(&names);
	else if (i == IMAGES)
		r = find_name(&dirs, rest, &names, &v);
	else if (i == OBJECTS)
		r = list_objects(store, rest, &names);
	else if (i == LAYERS && *rest)
		r = names_add(&names, "diff", 4, QL_V_LAYER);
	else
		r = list_digests(&dirs,
				 i == LAYERS  ? QL_V_LAYER
				 : i == INERT ? QL_V_INERT
					      : QL_V_IMAGE,
				 &names);
	if (r < 0) {
		ql_names_release(&names);
		return r;
	}
	names_sort(&names);
	*ret_names = names;
	return 0;
}

char *ql_vdir_target(const char *path, const struct ql_digest *digest)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(PATH_MAX);
	char text[QL_DIGEST_TEXT + 1];
	int r = 0;

	for (; *path && r == 0; path++)
		if (*path == '/')
			r = ql_buf_adds(&buf, "../");
	if (r == 0)
		r = ql_buf_adds(&buf, "by-digest/");
	if (r == 0)
		r = ql_buf_adds(&buf, ql_digest_text(digest, text));
	return r < 0 ? NULL : ql_buf_take(&buf);
}

/* LMDB writes its file at each commit. */
struct timespec ql_vdir_mtime(const struct ql_store *store, const char *path)
{
	char file[32] = "catalog/data.mdb";
	struct stat st;

	if (strncmp(path, "objects/", 8) == 0)
		(void)snprintf(file, sizeof(file), "objects/%.2s", path + 8);
	if (fstatat(ql_store_root_fd(store), file, &st, 0) < 0)
		return (struct timespec){ 0 };
	return st.st_mtim;
}
