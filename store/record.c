/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalogue's values (format 3; little-endian; a digest is 32 bytes):
 *
 *   object  u64 size, u32 refs, u32 gone
 *   layer   blob digest, u64 blob_size, u64 tar_size, u64 entries,
 *           u64 file_bytes, cfs digest, u32 flags
 *   image   config digest, u64 pulled, u64 inodes, u64 file_bytes,
 *           cfs digest, u32 n_layers, n_layers diff IDs (lowest first), u32
 * flags
 *
 * Format 1 had no flags, and format 2 no count of users that are gone; a value
 * may end before them.  A flag that a version does not know is kept and means
 * nothing to it, so one that is new (QL_IMAGE_ANONYMOUS) needs no new format.
 * A value that is shorter or longer than its grammar is -EBADMSG.
 */
#include "store/store-private.h"

#include <errno.h>
#include <string.h>

enum { RECORD_MAX = 256 + QL_IMAGE_LAYERS_MAX * QL_DIGEST_BYTES };

static int buf_add_digest(struct ql_buf *buf, const struct ql_digest *d)
{
	return ql_buf_add(buf, d->bytes, sizeof(d->bytes));
}

static void cursor_digest(struct ql_cursor *c, struct ql_digest *ret)
{
	const uint8_t *p = ql_cursor_bytes(c, QL_DIGEST_BYTES);

	if (p)
		memcpy(ret->bytes, p, QL_DIGEST_BYTES);
}

static int record_end(const struct ql_cursor *c)
{
	return c->bad || ql_cursor_left(c) != 0 ? -EBADMSG : 0;
}

/* Records of older formats end before it. */
static uint32_t record_last(struct ql_cursor *c)
{
	return c->bad || ql_cursor_left(c) == 0 ? 0 : ql_cursor_le32(c);
}

/* One check for a run of appends: r holds the first failure. */
static int first_error(int r, int next)
{
	return r < 0 ? r : next;
}

static int record_put(struct ql_txn *txn, enum ql_table table,
		      const struct ql_digest *key, const struct ql_buf *buf,
		      int r, struct ql_error *err)
{
	if (r < 0)
		return ql_error_errno(err, r, "catalogue record");
	return ql_txn_put(txn, table, key->bytes, QL_DIGEST_BYTES, buf->data,
			  buf->len, err);
}

/* ---- numbers ---- */

uint64_t ql_meta_number(struct ql_txn *txn, const char *key)
{
	struct ql_cursor c;
	const void *value;
	size_t len;

	if (ql_txn_get(txn, QL_TABLE_META, key, strlen(key), &value, &len) < 0)
		return 0;
	ql_cursor_init(&c, value, len);
	return len == 8 ? ql_cursor_le64(&c) : 0;
}

int ql_meta_set_number(struct ql_txn *txn, const char *key, uint64_t value,
		       struct ql_error *err)
{
	uint8_t buf[8];

	for (unsigned int i = 0; i < 8; i++)
		buf[i] = (uint8_t)(value >> (8 * i));
	return ql_txn_put(txn, QL_TABLE_META, key, strlen(key), buf,
			  sizeof(buf), err);
}

/* ---- objects ---- */

void ql_record_print_object(const struct ql_object_record *rec,
			    uint8_t buf[QL_OBJECT_RECORD])
{
	for (unsigned int i = 0; i < 8; i++)
		buf[i] = (uint8_t)(rec->size >> (8 * i));
	for (unsigned int i = 0; i < 4; i++) {
		buf[8 + i] = (uint8_t)(rec->refs >> (8 * i));
		buf[12 + i] = (uint8_t)(rec->gone >> (8 * i));
	}
}

int ql_record_put_object(struct ql_txn *txn, const struct ql_digest *digest,
			 const struct ql_object_record *rec,
			 struct ql_error *err)
{
	uint8_t buf[QL_OBJECT_RECORD];

	ql_record_print_object(rec, buf);
	return ql_txn_put(txn, QL_TABLE_OBJECTS, digest->bytes, QL_DIGEST_BYTES,
			  buf, sizeof(buf), err);
}

int ql_record_parse_object(const void *value, size_t len,
			   struct ql_object_record *ret_rec)
{
	struct ql_object_record rec;
	struct ql_cursor c;

	ql_cursor_init(&c, value, len);
	rec.size = ql_cursor_le64(&c);
	rec.refs = ql_cursor_le32(&c);
	rec.gone = record_last(&c);
	if (record_end(&c) < 0)
		return -EBADMSG;
	*ret_rec = rec;
	return 0;
}

int ql_record_get_object(struct ql_txn *txn, const struct ql_digest *digest,
			 struct ql_object_record *ret_rec)
{
	const void *value;
	size_t len;
	int r = ql_txn_get(txn, QL_TABLE_OBJECTS, digest->bytes,
			   QL_DIGEST_BYTES, &value, &len);

	return r < 0 ? r : ql_record_parse_object(value, len, ret_rec);
}

/* ---- layers ---- */

int ql_record_put_layer(struct ql_txn *txn, const struct ql_layer_info *info,
			struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(RECORD_MAX);
	int r = buf_add_digest(&buf, &info->blob);

	r = first_error(r, ql_buf_add_le64(&buf, info->blob_size));
	r = first_error(r, ql_buf_add_le64(&buf, info->tar_size));
	r = first_error(r, ql_buf_add_le64(&buf, info->entries));
	r = first_error(r, ql_buf_add_le64(&buf, info->file_bytes));
	r = first_error(r, buf_add_digest(&buf, &info->cfs));
	r = first_error(r, ql_buf_add_le32(&buf, info->flags));
	r = first_error(r, ql_here_forget(txn, &info->diff_id, err));
	return record_put(txn, QL_TABLE_LAYERS, &info->diff_id, &buf, r, err);
}

int ql_record_parse_layer(const void *key, size_t key_len, const void *value,
			  size_t len, struct ql_layer_info *ret_info)
{
	struct ql_layer_info info;
	struct ql_cursor c;

	if (key_len != QL_DIGEST_BYTES)
		return -EBADMSG;
	memcpy(info.diff_id.bytes, key, QL_DIGEST_BYTES);
	ql_cursor_init(&c, value, len);
	cursor_digest(&c, &info.blob);
	info.blob_size = ql_cursor_le64(&c);
	info.tar_size = ql_cursor_le64(&c);
	info.entries = ql_cursor_le64(&c);
	info.file_bytes = ql_cursor_le64(&c);
	cursor_digest(&c, &info.cfs);
	info.flags = record_last(&c);
	if (record_end(&c) < 0)
		return -EBADMSG;
	*ret_info = info;
	return 0;
}

int ql_record_get_layer(struct ql_txn *txn, const struct ql_digest *diff_id,
			struct ql_layer_info *ret_info)
{
	const void *value;
	size_t len;
	int r = ql_txn_get(txn, QL_TABLE_LAYERS, diff_id->bytes,
			   QL_DIGEST_BYTES, &value, &len);

	if (r < 0)
		return r;
	return ql_record_parse_layer(diff_id->bytes, QL_DIGEST_BYTES, value,
				     len, ret_info);
}

/* ---- images ---- */

void ql_image_info_release(struct ql_image_info *info)
{
	free(info->layers);
	info->layers = NULL;
	info->n_layers = 0;
}

int ql_record_put_image(struct ql_txn *txn, const struct ql_image_info *info,
			struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(RECORD_MAX);
	int r = buf_add_digest(&buf, &info->config);

	r = first_error(r, ql_buf_add_le64(&buf, info->pulled));
	r = first_error(r, ql_buf_add_le64(&buf, info->inodes));
	r = first_error(r, ql_buf_add_le64(&buf, info->file_bytes));
	r = first_error(r, buf_add_digest(&buf, &info->cfs));
	r = first_error(r, ql_buf_add_le32(&buf, info->n_layers));
	for (uint32_t i = 0; i < info->n_layers; i++)
		r = first_error(r, buf_add_digest(&buf, &info->layers[i]));
	r = first_error(r, ql_buf_add_le32(&buf, info->flags));
	r = first_error(r, ql_here_forget(txn, &info->manifest, err));
	return record_put(txn, QL_TABLE_IMAGES, &info->manifest, &buf, r, err);
}

int ql_record_parse_image(const void *key, size_t key_len, const void *value,
			  size_t len, struct ql_image_info *ret_info)
{
	struct ql_image_info info = { 0 };
	struct ql_cursor c;

	if (key_len != QL_DIGEST_BYTES)
		return -EBADMSG;
	memcpy(info.manifest.bytes, key, QL_DIGEST_BYTES);
	ql_cursor_init(&c, value, len);
	cursor_digest(&c, &info.config);
	info.pulled = ql_cursor_le64(&c);
	info.inodes = ql_cursor_le64(&c);
	info.file_bytes = ql_cursor_le64(&c);
	cursor_digest(&c, &info.cfs);
	info.n_layers = ql_cursor_le32(&c);
	if (c.bad || info.n_layers > QL_IMAGE_LAYERS_MAX ||
	    ql_cursor_left(&c) < (size_t)info.n_layers * QL_DIGEST_BYTES)
		return -EBADMSG;
	info.layers = calloc(info.n_layers + 1U, sizeof(*info.layers));
	if (!info.layers)
		return -ENOMEM;
	for (uint32_t i = 0; i < info.n_layers; i++)
		cursor_digest(&c, &info.layers[i]);
	info.flags = record_last(&c);
	if (record_end(&c) < 0) {
		ql_image_info_release(&info);
		return -EBADMSG;
	}
	*ret_info = info;
	return 0;
}

int ql_record_get_image(struct ql_txn *txn, const struct ql_digest *manifest,
			struct ql_image_info *ret_info)
{
	const void *value;
	size_t len;
	int r = ql_txn_get(txn, QL_TABLE_IMAGES, manifest->bytes,
			   QL_DIGEST_BYTES, &value, &len);

	if (r < 0)
		return r;
	return ql_record_parse_image(manifest->bytes, QL_DIGEST_BYTES, value,
				     len, ret_info);
}
