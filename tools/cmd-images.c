/* SPDX-License-Identifier: Apache-2.0 */
/* quicklayer images and inspect: what the catalogue knows. */
#include "tools/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

enum { CONFIG_MAX = 8 << 20 };

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
	return json_pack("{s:o, s:o, s:o, s:I, s:I, s:I, s:o}", "name",
			 ql_json_text(name), "digest",
			 ql_json_digest(&info->manifest), "config",
			 ql_json_digest(&info->config), "pulled",
			 (json_int_t)info->pulled, "inodes",
			 (json_int_t)info->inodes, "bytes",
			 (json_int_t)info->file_bytes, "layers",
			 layers_json(info));
}

static int images_collect(const char *name, const struct ql_image_info *info,
			  void *arg)
{
	return json_array_append_new(arg, image_json(name, info)) < 0 ? -ENOMEM
								      : 0;
}

static int images_print(const char *name, const struct ql_image_info *info,
			void *arg)
{
	char hex[QL_DIGEST_HEX + 1];
	char size[QL_HUMAN];
	char ago[32];

	(void)arg;
	(void)printf("%-48s  %.12s  %6u  %8" PRIu64 "  %8s  %s\n",
		     name ? name : "(no name)",
		     ql_digest_hex(&info->manifest, hex), info->n_layers,
		     info->inodes, ql_human_bytes(info->file_bytes, size),
		     ql_human_ago(info->pulled, ago));
	return 0;
}

static int images_print_digest(const char *name,
			       const struct ql_image_info *info, void *arg)
{
	char text[QL_DIGEST_TEXT + 1];

	(void)name;
	(void)arg;
	(void)printf("%s\n", ql_digest_text(&info->manifest, text));
	return 0;
}

int ql_cmd_images(const struct ql_cli *cli, struct ql_error *err)
{
	_cleanup_(ql_store_closep) struct ql_store *store = NULL;
	_cleanup_json_ json_t *list = NULL;
	int r = ql_store_open(cli->root, QL_STORE_READ, &store, err);

	if (r < 0)
		return r;
	if (cli->json) {
		list = json_array();
		r = ql_image_each(store, images_collect, list, err);
		return r < 0 ? r : ql_out_json(ql_take_ptr(list), err);
	}
	if (cli->quiet)
		return ql_image_each(store, images_print_digest, NULL, err);
	(void)printf("%-48s  %-12s  %6s  %8s  %8s  %s\n", "IMAGE", "DIGEST",
		     "LAYERS", "FILES", "SIZE", "PULLED");
	return ql_image_each(store, images_print, NULL, err);
}

/* An object that is JSON: a manifest, a configuration. */
static int read_json(struct ql_store *store, const struct ql_digest *digest,
		     json_t **ret_json, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(CONFIG_MAX);
	int r = ql_object_read(store, digest, &buf, err);

	return r < 0 ? r : ql_json_parse(buf.data, buf.len, ret_json, err);
}

int ql_cmd_inspect(const struct ql_cli *cli, struct ql_error *err)
{
	_cleanup_(ql_store_closep) struct ql_store *store = NULL;
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	_cleanup_free_ char *name = NULL;
	_cleanup_json_ json_t *config = NULL;
	_cleanup_json_ json_t *manifest = NULL;
	struct ql_digest digest;
	json_t *out;
	int r = ql_store_open(cli->root, QL_STORE_READ, &store, err);

	if (r == 0)
		r = ql_find_image(store, cli->argv[0], &digest, &name, err);
	if (r < 0)
		return r;
	r = ql_image_get(store, &digest, &info);
	if (r < 0)
		return ql_error_errno(err, r, "%s", cli->argv[0]);
	r = read_json(store, &info.config, &config, err);
	if (r == 0)
		r = read_json(store, &info.manifest, &manifest, err);
	if (r < 0)
		return r;
	out = image_json(name, &info);
	if (!out)
		return ql_error_nomem(err);
	(void)json_object_set(out, "image_manifest", manifest);
	(void)json_object_set(out, "image_config", config);
	return ql_out_json(out, err);
}
