/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer known by its table of contents: its tree is written as if its
 * archive had been read, but files name objects that need not be here, and
 * layers/<blob>.toc says where each part of them lies.
 */
#include "store/store-private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

struct ql_draft {
	struct ql_store *store;	   /* borrowed */
	struct ql_layertree *lt;   /* owned */
	struct ql_toc_writer *toc; /* owned */
	struct ql_layer_info info;
	const struct ql_digest *content; /* borrowed; the current entry's */
	uint64_t span_offset, span_raw;	 /* of the last span */
	bool has_span;
	bool file;   /* the last entry may have places */
	bool passed; /* it is a file whose content nobody sees */
};

int ql_draft_new(struct ql_store *store, const struct ql_digest *blob,
		 uint64_t blob_size, enum ql_codec codec,
		 struct ql_draft **ret_draft, struct ql_error *err)
{
	_cleanup_(ql_draft_freep) struct ql_draft *d = calloc(1, sizeof(*d));
	int r = ql_store_need_write(store, err);

	if (!d)
		return ql_error_nomem(err);
	d->store = store;
	d->info.blob = *blob;
	d->info.blob_size = blob_size;
	d->info.flags = QL_LAYER_LAZY;
	if (r == 0)
		r = ql_layertree_new(&d->lt, err);
	if (r == 0)
		r = ql_toc_writer_new(&d->toc, err);
	if (r == 0)
		r = ql_toc_writer_blob(d->toc, blob, blob_size, codec, err);
	if (r == 0)
		*ret_draft = ql_take_ptr(d);
	return r;
}

void ql_draft_free(struct ql_draft *draft)
{
	if (!draft)
		return;
	ql_layertree_free(draft->lt);
	ql_toc_writer_free(draft->toc);
	free(draft);
}

static int draft_content(void *arg, struct ql_meta *meta, struct ql_error *err)
{
	struct ql_draft *d = arg;

	if (meta->size == 0)
		return 0;
	meta->object = *d->content;
	d->file = true;
	d->info.file_bytes += meta->size;
	return ql_toc_writer_file(d->toc, d->content, meta->size, err);
}

int ql_draft_entry(struct ql_draft *draft, const struct ql_tar_entry *e,
		   const struct ql_digest *content, struct ql_error *err)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_free_ char *link = NULL;
	struct ql_tar_entry entry = *e;
	int r;

	draft->file = false;
	draft->passed = false;
	draft->content = content;
	if (e->type < '0' || e->type > '6')
		return ql_error_set(err, -EINVAL,
				    "entry \"%.300s\": of unknown type",
				    e->path);
	r = ql_path_normalize(e->path, &path, err);
	if (r == 0 && e->type == '1')
		r = ql_path_normalize(e->link, &link, err);
	if (r < 0)
		return r;
	entry.path = path;
	if (link)
		entry.link = link;
	r = ql_layer_entry(draft->lt, &entry, draft_content, draft, err);
	if (r < 0)
		return r;
	if (r == 0)
		draft->info.entries++;
	/* Whiteouts, and what is passed over, may have content. */
	draft->passed = e->type == '0' && !draft->file;
	return 0;
}

/* The raw position of the place's frame. */
static int draft_span(struct ql_draft *d, const struct ql_place *p,
		      struct ql_error *err)
{
	struct ql_toc_span span = { .offset = p->blob_offset,
				    .len = p->blob_len,
				    .raw_len = p->inner + p->len };
	int r;

	if (d->has_span && d->span_offset == p->blob_offset)
		return ql_toc_writer_grow(d->toc, p->inner + p->len, err);
	r = ql_toc_writer_span(d->toc, &span, &d->span_raw, err);
	if (r < 0)
		return r;
	d->span_offset = p->blob_offset;
	d->has_span = true;
	return 0;
}

int ql_draft_place(struct ql_draft *draft, const struct ql_place *place,
		   struct ql_error *err)
{
	int r;

	if (!draft->file)
		return draft->passed ? 0
				     : ql_error_set(err, -EBADMSG,
						    "content of what has none");
	if (!draft->has_span || draft->span_offset != place->blob_offset) {
		r = ql_toc_writer_close(draft->toc, place->blob_offset, err);
		if (r < 0)
			return r;
	}
	if (ql_toc_writer_skips(draft->toc))
		return 0;
	if (place->inner > (uint64_t)INT64_MAX - place->len)
		return ql_error_set(err, -EBADMSG,
				    "content at %" PRIu64 " of a frame",
				    place->inner);
	r = draft_span(draft, place, err);
	if (r < 0)
		return r;
	return ql_toc_writer_chunk(draft->toc, place->offset, place->len,
				   draft->span_raw + place->inner,
				   place->whole ? NULL : &place->digest, err);
}

int ql_draft_end(struct ql_draft *draft, uint64_t end, struct ql_error *err)
{
	return ql_toc_writer_close(draft->toc, end, err);
}

/* ---- the whole ---- */

char *ql_toc_path(const char *dir, const struct ql_digest *digest,
		  char buf[QL_CFS_PATH])
{
	char hex[QL_DIGEST_HEX + 1];

	(void)snprintf(buf, QL_CFS_PATH, "%s/%s.toc", dir,
		       ql_digest_hex(digest, hex));
	return buf;
}

int ql_draft_commit(struct ql_draft *draft, struct ql_layer_info *info,
		    struct ql_error *err)
{
	struct ql_layer_info known;
	char path[QL_CFS_PATH];
	char tmp[QL_CFS_PATH];
	int r;

	draft->info.diff_id = info->diff_id;
	r = ql_toc_put(draft->store, &draft->info.blob, draft->toc, err);
	/* The same layer may be here from another blob; or it is, but for its
	 * tree. */
	if (r == 0 && ql_layer_get(draft->store, &info->diff_id, &known) == 0 &&
	    faccessat(draft->store->root_fd,
		      ql_layer_path(&info->diff_id, path), F_OK, 0) == 0) {
		*info = known;
		return 0;
	}
	if (r == 0)
		r = ql_layertree_write(draft->lt, draft->store,
				       ql_cfs_path("partial", &info->diff_id,
						   tmp),
				       ql_layer_path(&info->diff_id, path),
				       &draft->info.cfs, err);
	if (r < 0)
		return r;
	if (syncfs(draft->store->root_fd) < 0)
		return ql_error_errno(err, -errno, "write to %s",
				      draft->store->root);
	r = ql_layer_record(draft->store, &draft->info, 0, err);
	if (r == 0)
		*info = draft->info;
	return r;
}

int ql_draft_toc(struct ql_draft *draft, struct ql_buf *buf,
		 struct ql_error *err)
{
	return ql_toc_writer_finish(draft->toc, buf, err);
}

int ql_toc_open_blob(const struct ql_store *store, const struct ql_digest *blob,
		     struct ql_toc **ret_toc, struct ql_error *err)
{
	char path[QL_CFS_PATH];

	return ql_toc_open(store->root_fd, ql_toc_path("layers", blob, path),
			   ret_toc, err);
}

int ql_toc_open_file(const struct ql_store *store, const struct ql_digest *blob,
		     int *ret_fd, struct ql_error *err)
{
	char path[QL_CFS_PATH];
	int fd = openat(store->root_fd, ql_toc_path("layers", blob, path),
			O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0)
		return ql_error_errno(err, -errno, "%s/%s", store->root, path);
	*ret_fd = fd;
	return 0;
}

int ql_toc_open_layer(const struct ql_store *store,
		      const struct ql_layer_info *info, struct ql_toc **ret_toc,
		      struct ql_error *err)
{
	return ql_toc_open_blob(store, &info->blob, ret_toc, err);
}
