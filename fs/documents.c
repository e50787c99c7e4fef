/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known of images, mounts and the store, as JSON: what the command
 * prints by --json and what the agent answers, which are one.
 */
#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

#include "fetch/fetch.h"
#include "fs/fs.h"

enum { CONFIG_MAX = 8 << 20, SOURCES_MAX = 4096 };

/* Takes json; NULL: out of memory. */
static int done(json_t *json, json_t **ret_json, struct ql_error *err)
{
	if (!json)
		return ql_error_nomem(err);
	*ret_json = json;
	return 0;
}

/* ---- images ---- */

static json_t *layers_json(const struct ql_image_info *info)
{
	json_t *layers = json_array();

	for (uint32_t i = 0; i < info->n_layers; i++)
		(void)json_array_append_new(layers,
					    ql_json_digest(&info->layers[i]));
	return layers;
}

static json_t *image_json(const char *name, const struct ql_image_info *info)
{
	return json_pack("{s:o, s:o, s:o, s:I, s:I, s:I, s:b, s:b, s:o}",
			 "name", ql_json_text(name), "digest",
			 ql_json_digest(&info->manifest), "config",
			 ql_json_digest(&info->config), "pulled",
			 (json_int_t)info->pulled, "inodes",
			 (json_int_t)info->inodes, "bytes",
			 (json_int_t)info->file_bytes, "pinned",
			 (info->flags & QL_IMAGE_PINNED) != 0, "anonymous",
			 (info->flags & QL_IMAGE_ANONYMOUS) != 0, "layers",
			 layers_json(info));
}

static int images_collect(const char *name, const struct ql_image_info *info,
			  void *arg)
{
	return json_array_append_new(arg, image_json(name, info)) < 0 ? -ENOMEM
								      : 0;
}

/* Until when each is promised (s since the epoch); 0: not. */
static int promises_add(struct ql_store *store, json_t *list,
			struct ql_error *err)
{
	json_t *image;
	size_t i;
	int r = 0;

	json_array_foreach (list, i, image) {
		struct ql_digest digest;
		uint64_t until = 0;

		r = ql_digest_parse(ql_json_opt_string(image, "digest", ""),
				    &digest, err);
		if (r == 0)
			r = ql_image_promised(store, &digest, &until, err);
		if (r < 0 && r != -ENOENT)
			break;
		r = json_object_set_new(image, "promised",
					json_integer((json_int_t)until));
		if (r < 0)
			return -ENOMEM;
	}
	return r;
}

int ql_doc_images(struct ql_store *store, json_t **ret_json,
		  struct ql_error *err)
{
	_cleanup_json_ json_t *list = json_array();
	int r = list ? ql_image_each(store, images_collect, list, err)
		     : -ENOMEM;

	if (r == 0)
		r = promises_add(store, list, err);
	if (r == -ENOMEM)
		return ql_error_nomem(err);
	return r < 0 ? r : done(ql_take_ptr(list), ret_json, err);
}

/* An object that is JSON: a manifest, a configuration. */
static int read_json(struct ql_store *store, const struct ql_digest *digest,
		     json_t **ret_json, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(CONFIG_MAX);
	int r = ql_object_read(store, digest, &buf, err);

	return r < 0 ? r : ql_json_parse(buf.data, buf.len, ret_json, err);
}

/* Finds an image by a person's word for it. */
static int find(struct ql_store *store, const char *text, char **ret_name,
		struct ql_image_info *ret_info, struct ql_error *err)
{
	_cleanup_free_ char *name = NULL;
	struct ql_digest digest;
	int r = ql_find_image(store, text, &digest, &name, err);

	if (r < 0)
		return r;
	r = ql_image_get(store, &digest, ret_info);
	if (r < 0)
		return ql_error_errno(err, r, "%s", text);
	*ret_name = ql_take_ptr(name);
	return 0;
}

int ql_doc_image(struct ql_store *store, const char *text, json_t **ret_json,
		 struct ql_error *err)
{
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	_cleanup_free_ char *name = NULL;
	_cleanup_json_ json_t *config = NULL;
	_cleanup_json_ json_t *manifest = NULL;
	json_t *out;
	uint64_t until = 0;
	int r = find(store, text, &name, &info, err);

	if (r == 0)
		r = read_json(store, &info.config, &config, err);
	if (r == 0)
		r = read_json(store, &info.manifest, &manifest, err);
	if (r == 0)
		r = ql_image_promised(store, &info.manifest, &until, err);
	if (r < 0)
		return r;
	out = image_json(name, &info);
	if (!out)
		return ql_error_nomem(err);
	(void)json_object_set_new(out, "promised",
				  json_integer((json_int_t)until));
	(void)json_object_set(out, "image_manifest", manifest);
	(void)json_object_set(out, "image_config", config);
	return done(out, ret_json, err);
}

/* ---- status ---- */

static bool has_text(const json_t *list, const char *text)
{
	const json_t *one;
	size_t i;

	json_array_foreach ((json_t *)list, i, one)
		if (strcmp(json_string_value(one), text) == 0)
			return true;
	return false;
}

static void sources_add(struct ql_store *store, const struct ql_digest *blob,
			json_t *list)
{
	_cleanup_buf_ struct ql_buf names = QL_BUF_INIT(SOURCES_MAX);

	if (ql_blob_sources(store, blob, &names) < 0)
		return;
	for (size_t at = 0; at < names.len; at += strlen(names.data + at) + 1) {
		json_t *name = ql_json_text(names.data + at);

		if (json_is_string(name) &&
		    !has_text(list, json_string_value(name)))
			(void)json_array_append(list, name);
		json_decref(name);
	}
}

/* The repositories that have what is not here. */
static json_t *sources_json(struct ql_store *store,
			    const struct ql_image_info *info)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(CONFIG_MAX);
	_cleanup_json_ json_t *manifest = NULL;
	json_t *list = json_array();
	const json_t *layer;
	size_t i;

	if (!list || ql_object_read(store, &info->manifest, &buf, NULL) < 0 ||
	    ql_json_parse(ql_buf_str(&buf), buf.len, &manifest, NULL) < 0)
		return list;
	json_array_foreach (json_object_get(manifest, "layers"), i, layer) {
		struct ql_digest blob;

		if (ql_digest_parse(ql_json_opt_string(layer, "digest", ""),
				    &blob, NULL) == 0)
			sources_add(store, &blob, list);
	}
	return list;
}

int ql_doc_image_status(struct ql_store *store, const char *text,
			json_t **ret_json, struct ql_error *err)
{
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	_cleanup_free_ char *name = NULL;
	struct ql_image_use use;
	uint64_t until = 0;
	int r = find(store, text, &name, &info, err);

	if (r == 0)
		r = ql_image_usage(store, &info, &use, err);
	if (r == 0)
		r = ql_image_promised(store, &info.manifest, &until, err);
	if (r < 0)
		return r;
	return done(
		json_pack("{s:o, s:o, s:o, s:b, s:I, s:I, s:I, s:I, s:I, s:I, "
			  "s:I, s:I, s:I, s:I, s:I, s:I, s:o}",
			  "image", ql_json_text(text), "name",
			  ql_json_text(name), "digest",
			  ql_json_digest(&info.manifest), "pinned",
			  (info.flags & QL_IMAGE_PINNED) != 0, "promised",
			  (json_int_t)until, "layers",
			  (json_int_t)info.n_layers, "files",
			  (json_int_t)use.files, "bytes", (json_int_t)use.bytes,
			  "files_here", (json_int_t)use.files_here,
			  "bytes_here", (json_int_t)use.bytes_here,
			  "files_shared", (json_int_t)use.files_shared,
			  "bytes_shared", (json_int_t)use.bytes_shared,
			  "files_packed", (json_int_t)use.files_packed,
			  "bytes_packed", (json_int_t)use.bytes_packed,
			  "files_partly", (json_int_t)use.files_partly,
			  "bytes_partly", (json_int_t)use.bytes_partly,
			  "sources", sources_json(store, &info)),
		ret_json, err);
}

struct mounts {
	struct ql_store *store; /* borrowed */
	json_t *list;		/* borrowed */
};

struct name_of {
	struct ql_digest digest;
	char *name; /* owned */
};

static int visit_name(const char *name, const struct ql_image_info *info,
		      void *arg)
{
	struct name_of *of = arg;

	if (!name || !ql_digest_equal(&info->manifest, &of->digest))
		return 0;
	of->name = strdup(name);
	return 1;
}

/* A mount through the agent is known by the image's digest: name it. */
static int mounts_collect(const char *dir, const char *source, void *arg)
{
	const struct mounts *m = arg;
	struct name_of of = { 0 };
	json_t *entry;
	int r = 0;

	if (ql_digest_parse(source, &of.digest, NULL) == 0)
		r = ql_image_each(m->store, visit_name, &of, NULL);
	entry = json_pack("{s:o, s:o}", "dir", ql_json_text(dir), "image",
			  ql_json_text(of.name ? of.name : source));
	free(of.name);
	if (r < 0 || !entry) {
		json_decref(entry);
		return r < 0 ? r : -ENOMEM;
	}
	return json_array_append_new(m->list, entry) < 0 ? -ENOMEM : 0;
}

int ql_doc_mounts(struct ql_store *store, json_t **ret_json,
		  struct ql_error *err)
{
	_cleanup_json_ json_t *list = json_array();
	struct mounts m = { .store = store, .list = list };
	int r = list ? ql_mount_each(mounts_collect, &m, err) : -ENOMEM;

	if (r == -ENOMEM)
		return ql_error_nomem(err);
	return r < 0 ? r : done(ql_take_ptr(list), ret_json, err);
}

static int count_name(const char *name, const struct ql_image_info *info,
		      void *arg)
{
	(void)info;
	*(uint64_t *)arg += name != NULL;
	return 0;
}

int ql_doc_status(struct ql_store *store, json_t **ret_json,
		  struct ql_error *err)
{
	const char *root = ql_store_root(store);
	_cleanup_json_ json_t *mounts = NULL;
	_cleanup_json_ json_t *cache = NULL;
	struct ql_store_use use;
	struct statvfs vfs;
	uint64_t names = 0, avail;
	int r = ql_store_usage(store, &use, err);

	if (r == 0)
		r = ql_image_each(store, count_name, &names, err);
	if (r == 0)
		r = ql_doc_mounts(store, &mounts, err);
	if (r == 0)
		r = ql_doc_cache(store, &cache, err);
	if (r < 0)
		return r;
	if (fstatvfs(ql_store_root_fd(store), &vfs) < 0)
		return ql_error_errno(err, -errno, "%s", root);
	avail = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	return done(json_pack("{s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:O, s:O}",
			      "root", ql_json_text(root), "images",
			      (json_int_t)use.images, "names",
			      (json_int_t)names, "layers",
			      (json_int_t)use.layers, "files",
			      (json_int_t)use.objects, "bytes",
			      (json_int_t)use.bytes, "free", (json_int_t)avail,
			      "cache", cache, "mounts", mounts),
		    ret_json, err);
}

/* ---- what was done ---- */

json_t *ql_doc_pull(const char *name, const struct ql_pull_result *res,
		    double seconds)
{
	return json_pack("{s:o, s:o, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
			 "s:f}",
			 "name", ql_json_text(name), "digest",
			 ql_json_digest(&res->manifest), "up_to_date",
			 res->up_to_date, "layers_fetched",
			 (json_int_t)res->layers_fetched, "layers_here",
			 (json_int_t)res->layers_here, "bytes_fetched",
			 (json_int_t)res->bytes_fetched, "new_files",
			 (json_int_t)res->new_objects, "new_bytes",
			 (json_int_t)res->new_bytes, "shared_files",
			 (json_int_t)res->dup_objects, "shared_bytes",
			 (json_int_t)res->dup_bytes, "seconds", seconds);
}

/* It is pinned: nobody need let go of it. */
static bool stays(struct ql_store *store, const struct ql_digest *manifest)
{
	_cleanup_image_info_ struct ql_image_info info = { 0 };

	return ql_image_get(store, manifest, &info) < 0 ||
	       info.flags & QL_IMAGE_PINNED;
}

int ql_doc_remove(struct ql_store *store, const char *text, ql_drop_fn *drop,
		  void *arg, json_t **ret_json, struct ql_error *err)
{
	_cleanup_free_ char *name = NULL;
	struct ql_error busy = QL_ERROR_INIT;
	struct ql_remove_stats stats;
	struct ql_digest manifest;
	int r = ql_find_image(store, text, &manifest, &name, err);

	if (r < 0)
		return r;
	/* Also where it is in use, a name of several may go. */
	if (drop && !stays(store, &manifest))
		(void)drop(&manifest, arg, &busy);
	r = ql_image_remove(store, name, &manifest, &stats, err);
	if (r == -EBUSY && busy.code == -EBUSY && err)
		*err = busy;
	if (r < 0)
		return ql_error_prefix(err, "%s", text);
	return done(json_pack("{s:o, s:o, s:b, s:I, s:I}", "image",
			      ql_json_text(text), "digest",
			      ql_json_digest(&manifest), "removed",
			      !stats.untagged_only, "files",
			      (json_int_t)stats.objects, "bytes",
			      (json_int_t)stats.bytes),
		    ret_json, err);
}

int ql_doc_pin(struct ql_store *store, const char *text, bool pinned,
	       json_t **ret_json, struct ql_error *err)
{
	_cleanup_free_ char *name = NULL;
	struct ql_digest manifest;
	int r = ql_find_image(store, text, &manifest, &name, err);

	if (r < 0)
		return r;
	r = ql_image_pin(store, &manifest, pinned, err);
	if (r < 0)
		return ql_error_prefix(err, "%s", text);
	return done(json_pack("{s:o, s:o, s:b}", "image", ql_json_text(text),
			      "digest", ql_json_digest(&manifest), "pinned",
			      pinned),
		    ret_json, err);
}
