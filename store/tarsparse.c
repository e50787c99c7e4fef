/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sparse files in archives: where their stored bytes belong (GNU tar manual,
 * "Storing Sparse Files": the old GNU format in the header, and 1.0, whose
 * map stands before the content; 0.0 and 0.1 are in the extended header,
 * tarpax.c).
 */
#include "store/store-private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { GNU_IN_HEADER = 4, GNU_IN_BLOCK = 21, GNU_BLOCK_MORE = 504 };

void ql_sparse_release(struct ql_sparse_map *map)
{
	free(map->items);
	*map = (struct ql_sparse_map){ 0 };
}

int ql_sparse_push(struct ql_sparse_map *map, uint64_t offset, uint64_t len)
{
	if (map->n >= QL_TAR_SPARSE_MAX)
		return -E2BIG;
	if (map->n == map->cap) {
		size_t cap = map->cap ? map->cap * 2 : 8;
		struct ql_sparse *grown =
			reallocarray(map->items, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		map->items = grown;
		map->cap = cap;
	}
	map->items[map->n++] = (struct ql_sparse){ offset, len };
	return 0;
}

int ql_sparse_check(const struct ql_sparse_map *map, uint64_t size,
		    uint64_t stored, struct ql_error *err)
{
	uint64_t at = 0;
	uint64_t sum = 0;

	for (size_t i = 0; i < map->n; i++) {
		const struct ql_sparse *s = &map->items[i];
		uint64_t end;

		if (s->offset < at ||
		    __builtin_add_overflow(s->offset, s->len, &end) ||
		    end > size)
			return ql_error_set(err, -EBADMSG,
					    "a sparse file's map is wrong");
		at = end;
		sum += s->len;
	}
	if (sum != stored)
		return ql_error_set(err, -EBADMSG,
				    "a sparse file's map is of %" PRIu64
				    " bytes, %" PRIu64 " are stored",
				    sum, stored);
	return 0;
}

uint64_t ql_sparse_run(const struct ql_sparse_map *map, size_t *at,
		       uint64_t offset, uint64_t size, bool *ret_hole)
{
	for (; *at < map->n; ++*at) {
		const struct ql_sparse *s = &map->items[*at];

		if (offset < s->offset) {
			*ret_hole = true;
			return s->offset - offset;
		}
		if (offset < s->offset + s->len) {
			*ret_hole = false;
			return s->offset + s->len - offset;
		}
	}
	*ret_hole = true;
	return size - offset;
}

static int sparse_error(int r, struct ql_error *err)
{
	if (r == -ENOMEM)
		return ql_error_nomem(err);
	if (r == -E2BIG)
		return ql_error_set(err, -EBADMSG,
				    "a sparse file of too many segments");
	return r;
}

/* ---- old GNU ---- */

static int gnu_pairs(struct ql_sparse_map *map, const struct ql_tarheader *h,
		     size_t off, int n, struct ql_error *err)
{
	for (int i = 0; i < n; i++, off += 24) {
		int64_t offset = 0;
		int64_t len = 0;
		int r;

		if (h->raw[off] == '\0')
			break;
		r = ql_tarheader_field(h, off, 12, "sparse map", 0, INT64_MAX,
				       &offset, err);
		if (r == 0)
			r = ql_tarheader_field(h, off + 12, 12, "sparse map", 0,
					       INT64_MAX, &len, err);
		if (r == 0)
			r = sparse_error(ql_sparse_push(map, (uint64_t)offset,
							(uint64_t)len),
					 err);
		if (r < 0)
			return r;
	}
	return 0;
}

int ql_sparse_read_gnu(struct ql_sparse_map *map, const struct ql_tarheader *h,
		       ql_sparse_block_fn *next_block, void *arg,
		       uint64_t *ret_size, struct ql_error *err)
{
	char block[QL_TAR_BLOCK];
	struct ql_tarheader next = { .raw = block };
	bool more = h->raw[QL_TAR_GNU_MORE] != 0;
	int64_t size = 0;
	int r = ql_tarheader_field(h, QL_TAR_GNU_REAL, 12, "size", 0, INT64_MAX,
				   &size, err);

	if (r == 0)
		r = gnu_pairs(map, h, QL_TAR_GNU_SPARSE, GNU_IN_HEADER, err);
	while (r == 0 && more) {
		r = next_block(arg, block, err);
		if (r == 0)
			r = gnu_pairs(map, &next, 0, GNU_IN_BLOCK, err);
		more = block[GNU_BLOCK_MORE] != 0;
	}
	if (r == 0)
		*ret_size = (uint64_t)size;
	return r;
}

/* ---- 1.0: decimal lines, padded to whole blocks ---- */

struct sparse_reader {
	ql_sparse_block_fn *next_block;
	void *arg;
	char block[QL_TAR_BLOCK];
	size_t at;
};

static int sparse_line(struct sparse_reader *sr, uint64_t *ret,
		       struct ql_error *err)
{
	uint64_t v = 0;
	int digits = 0;

	for (;;) {
		char c;

		if (sr->at == QL_TAR_BLOCK) {
			int r = sr->next_block(sr->arg, sr->block, err);

			if (r < 0)
				return r;
			sr->at = 0;
		}
		c = sr->block[sr->at++];
		if (c == '\n' && digits > 0)
			break;
		if (c < '0' || c > '9' || ++digits > 18)
			return ql_error_set(err, -EBADMSG,
					    "a sparse file's map is malformed");
		v = v * 10 + (uint64_t)(c - '0');
	}
	*ret = v;
	return 0;
}

int ql_sparse_read_1_0(struct ql_sparse_map *map,
		       ql_sparse_block_fn *next_block, void *arg,
		       struct ql_error *err)
{
	struct sparse_reader sr = { .next_block = next_block,
				    .arg = arg,
				    .at = QL_TAR_BLOCK };
	uint64_t pairs = 0;
	int r = sparse_line(&sr, &pairs, err);

	for (uint64_t i = 0; i < pairs && r == 0; i++) {
		uint64_t offset = 0;
		uint64_t len = 0;

		r = sparse_line(&sr, &offset, err);
		if (r == 0)
			r = sparse_line(&sr, &len, err);
		if (r == 0)
			r = sparse_error(ql_sparse_push(map, offset, len), err);
	}
	return r;
}
