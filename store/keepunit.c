/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes and goes together, and who has it: a map of all layers and images
 * as one transaction sees them.
 */
#include "store/keep-private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	KEEP_FIRST = 64,
	/* Of a file's last block, half is empty in the mean. */
	KEEP_SLACK = 2048,
};

void ql_keep_map_release(struct ql_keep_map *map)
{
	for (size_t i = 0; i < map->n_images; i++) {
		ql_image_info_release(&map->images[i].info);
		if (map->images[i].fd >= 0)
			(void)close(map->images[i].fd);
	}
	for (size_t i = 0; i < map->n_units; i++)
		free(map->units[i].images);
	free(map->images);
	free(map->units);
	*map = (struct ql_keep_map){ 0 };
}

/* Room for one more; -ENOMEM. */
static int grow(void *array, size_t size, size_t n, size_t *cap)
{
	void **items = array;
	size_t more = *cap ? *cap * 2 : KEEP_FIRST;
	void *grown;

	if (n < *cap)
		return 0;
	grown = reallocarray(*items, more, size);
	if (!grown)
		return -ENOMEM;
	*items = grown;
	*cap = more;
	return 0;
}

/* ---- units ---- */

static bool has_toc(const struct ql_store *store, const struct ql_digest *blob)
{
	char path[QL_CFS_PATH];

	return faccessat(store->root_fd, ql_toc_path("layers", blob, path),
			 F_OK, 0) == 0;
}

void ql_keep_unit_layer(const struct ql_store *store,
			const struct ql_layer_info *info,
			struct ql_keep_unit *ret_unit)
{
	bool toc = has_toc(store, &info->blob);

	*ret_unit = (struct ql_keep_unit){
		.digest = info->diff_id,
		.blob = info->blob,
		.blob_size = info->blob_size,
		.flags = info->flags,
		.has_toc = toc,
		/* What comes lazily is kept as it came. */
		.size = toc && info->flags & QL_LAYER_LAZY
				? info->blob_size
				: info->file_bytes + KEEP_SLACK * info->entries,
	};
}

void ql_keep_unit_image(const struct ql_store *store,
			const struct ql_image_info *info,
			struct ql_keep_unit *ret_unit)
{
	_cleanup_(ql_toc_closep) struct ql_toc *toc = NULL;
	struct ql_toc_blob blob;
	uint64_t size = 0;

	if (ql_toc_open_image(store, info, &toc, NULL) == 0)
		for (uint32_t i = 0; i < ql_toc_blobs(toc); i++)
			if (ql_toc_blob(toc, i, &blob) == 0)
				size += blob.size;
	*ret_unit = (struct ql_keep_unit){
		.digest = info->manifest,
		.blob_size = size,
		.flags = info->flags,
		.is_image = true,
		.has_toc = toc != NULL,
		.size = size && !(info->flags & QL_IMAGE_WHOLE)
				? size
				: info->file_bytes + KEEP_SLACK * info->inodes,
	};
}

/* ---- the map ---- */

struct mapping {
	struct ql_keep_map *map; /* borrowed */
	struct ql_error *err;	 /* borrowed */
};

static int map_layer(const void *key, size_t key_len, const void *value,
		     size_t len, void *arg)
{
	struct mapping *m = arg;
	struct ql_keep_map *map = m->map;
	struct ql_layer_info info;
	int r = ql_record_parse_layer(key, key_len, value, len, &info);

	if (r < 0)
		return r == -EBADMSG ? 0 : r; /* fsck says so */
	if (grow(&map->units, sizeof(*map->units), map->n_units,
		 &map->cap_units) < 0)
		return ql_error_nomem(m->err);
	ql_keep_unit_layer(map->store, &info, &map->units[map->n_units++]);
	return 0;
}

static int map_image(const void *key, size_t key_len, const void *value,
		     size_t len, void *arg)
{
	struct mapping *m = arg;
	struct ql_keep_map *map = m->map;
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	int r = ql_record_parse_image(key, key_len, value, len, &info);

	if (r < 0)
		return r == -EBADMSG ? 0 : r;
	if (grow(&map->images, sizeof(*map->images), map->n_images,
		 &map->cap_images) < 0 ||
	    grow(&map->units, sizeof(*map->units), map->n_units,
		 &map->cap_units) < 0)
		return ql_error_nomem(m->err);
	if (info.flags & QL_IMAGE_READY)
		ql_keep_unit_image(map->store, &info,
				   &map->units[map->n_units++]);
	map->images[map->n_images++] =
		(struct ql_keep_image){ .info = info, .fd = -1 };
	info.layers = NULL;
	return 0;
}

static int unit_cmp(const void *a, const void *b)
{
	return ql_digest_cmp(&((const struct ql_keep_unit *)a)->digest,
			     &((const struct ql_keep_unit *)b)->digest);
}

struct ql_keep_unit *ql_keep_map_unit(const struct ql_keep_map *map,
				      const struct ql_digest *digest)
{
	struct ql_keep_unit key = { .digest = *digest };

	return map->n_units == 0 ? NULL
				 : bsearch(&key, map->units, map->n_units,
					   sizeof(key), unit_cmp);
}

struct ql_keep_image *ql_keep_map_image(const struct ql_keep_map *map,
					const struct ql_digest *manifest)
{
	for (size_t i = 0; i < map->n_images; i++)
		if (ql_digest_equal(&map->images[i].info.manifest, manifest))
			return &map->images[i];
	return NULL;
}

/* The image at index has the unit. */
static int unit_join(struct ql_keep_unit *unit, size_t index)
{
	uint32_t *grown;

	/* The same layer twice in a stack. */
	if (unit->n_images > 0 && unit->images[unit->n_images - 1] == index)
		return 0;
	grown = reallocarray(unit->images, unit->n_images + 1UL,
			     sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	unit->images = grown;
	grown[unit->n_images++] = (uint32_t)index;
	return 0;
}

/* An image that came ready-made may have layers here, too: they are held by
 * it as by rmi, but are not what it reads by. */
static int map_join(struct ql_keep_map *map, size_t index)
{
	const struct ql_image_info *info = &map->images[index].info;
	struct ql_keep_unit *unit;
	uint64_t parent = 0;
	int r = 0;

	if (info->flags & QL_IMAGE_READY) {
		unit = ql_keep_map_unit(map, &info->manifest);
		r = unit ? unit_join(unit, index) : 0;
	}
	for (uint32_t i = 0; i < info->n_layers && r == 0; i++) {
		unit = ql_keep_map_unit(map, &info->layers[i]);
		if (unit) {
			unit->parent = unit->parent ? unit->parent : parent;
			r = unit_join(unit, index);
		}
		parent = ql_keep_id(&info->layers[i]);
	}
	return r;
}

int ql_keep_map_init(struct ql_store *store, struct ql_txn *txn,
		     struct ql_keep_map *ret_map, struct ql_error *err)
{
	struct ql_keep_map map = { .store = store };
	struct mapping m = { .map = &map, .err = err };
	int r = ql_txn_each(txn, QL_TABLE_LAYERS, map_layer, &m, err);

	if (r == 0)
		r = ql_txn_each(txn, QL_TABLE_IMAGES, map_image, &m, err);
	if (r == 0 && map.n_units > 0)
		qsort(map.units, map.n_units, sizeof(*map.units), unit_cmp);
	for (size_t i = 0; i < map.n_images && r == 0; i++)
		if (map_join(&map, i) < 0)
			r = ql_error_nomem(err);
	if (r < 0)
		ql_keep_map_release(&map);
	else
		*ret_map = map;
	return r;
}

/* ---- objects ---- */

/* Where the image's tree is held alone, by the descriptor that does: another
 * one would wait for it. */
static int image_tree(const struct ql_keep_map *map,
		      const struct ql_keep_unit *unit,
		      struct ql_tree **ret_tree, struct ql_error *err)
{
	const struct ql_keep_image *image =
		ql_keep_map_image(map, &unit->digest);
	_cleanup_close_ int fd = -1;
	int r;

	if (!image || image->fd < 0)
		return ql_tree_open_image(map->store, &unit->digest, ret_tree,
					  err);
	fd = fcntl(image->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return ql_error_errno(err, -errno, "an image's tree");
	r = ql_tree_open_fd(fd, ret_tree, err);
	if (r == 0)
		(void)ql_take_fd(&fd);
	return r;
}

int ql_keep_unit_objects(const struct ql_keep_map *map,
			 const struct ql_keep_unit *unit,
			 struct ql_object_set *ret_set, struct ql_error *err)
{
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	int r = unit->is_image ? image_tree(map, unit, &tree, err)
			       : ql_tree_open_layer(map->store, &unit->digest,
						    &tree, err);

	return r < 0 ? r : ql_object_set_from_tree(tree, ret_set, err);
}
