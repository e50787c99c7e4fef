/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two ways to a layer's tree, to be compared by diff: its blob is on disk.
 *
 *	lazylayer toc|full|check STORE MANIFEST BLOB
 *
 * STORE is a folder for a new store; MANIFEST an image's, in JSON, with one
 * layer, whose blob is BLOB.  toc drafts the layer from its table of contents,
 * reading single ranges of the blob; full imports the whole.  Both print the
 * tree, an entry a line.  check drafts too, then decodes each chunk from the
 * bytes that are said to be enough for it and compares its digest, and the
 * files'; it prints how many there are.  What was read for the draft is said
 * on stderr.  Exit 3: it is to be had as a plain layer alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "fetch/toc-private.h"
#include "store/base/base.h"

struct blob {
	int fd;
	uint64_t bytes;
	unsigned int ranges;
};

static int fail(const struct ql_error *err)
{
	(void)fprintf(stderr, "lazylayer: %s\n", err->text);
	return 1;
}

/* ---- printing ---- */

static void print_text(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c > ' ' && c < 127 && c != '\\')
			(void)putchar(c);
		else
			(void)printf("\\%03o", c);
	}
}

static void print_content(const struct ql_tree *tree,
			  const struct ql_inode *inode)
{
	char hex[QL_DIGEST_HEX + 1];
	struct ql_digest sum;
	struct ql_content c;

	if (ql_tree_content(tree, inode, &c) < 0) {
		(void)printf(" damaged");
		return;
	}
	sum = c.object;
	/* Small files are in the one tree and objects in the other. */
	if (c.data || inode->size == 0)
		(void)ql_digest_of(c.data ? c.data : (const uint8_t *)"",
				   c.data ? c.size : 0, &sum);
	(void)printf(" %s", ql_digest_hex(&sum, hex));
}

static void print_inode(const struct ql_tree *tree,
			const struct ql_inode *inode)
{
	struct ql_xattr x;
	const char *target;
	uint64_t pos = 0;
	size_t len;

	(void)printf(" %06o %u:%u n%u %llu %lld.%09u", inode->mode, inode->uid,
		     inode->gid, inode->nlink,
		     S_ISDIR(inode->mode) ? 0ULL
					  : (unsigned long long)inode->size,
		     (long long)inode->mtime_sec, inode->mtime_nsec);
	if (S_ISCHR(inode->mode) || S_ISBLK(inode->mode))
		(void)printf(" %u,%u", major(inode->rdev), minor(inode->rdev));
	if (S_ISLNK(inode->mode) &&
	    ql_tree_readlink(tree, inode, &target, &len) == 0) {
		(void)printf(" -> ");
		print_text(target, len);
	}
	if (S_ISREG(inode->mode))
		print_content(tree, inode);
	while (ql_tree_xattr(tree, inode, &pos, &x) > 0) {
		(void)putchar(' ');
		print_text(x.prefix, strlen(x.prefix));
		print_text(x.name, x.name_len);
		(void)putchar('=');
		print_text((const char *)x.value, x.value_len);
	}
	(void)putchar('\n');
}

static void print_dir(const struct ql_tree *tree, uint64_t nid,
		      const char *prefix)
{
	struct ql_inode dir, inode;
	struct ql_dirent d;
	uint64_t pos = 0;

	if (ql_tree_inode(tree, nid, &dir) < 0)
		return;
	(void)printf("%s", *prefix ? prefix : "/");
	print_inode(tree, &dir);
	while (ql_tree_readdir(tree, &dir, &pos, &d) > 0) {
		_cleanup_free_ char *path =
			ql_strf("%s/%.*s", prefix, (int)d.len, d.name);

		if ((d.len == 1 && d.name[0] == '.') ||
		    (d.len == 2 && memcmp(d.name, "..", 2) == 0) || !path)
			continue;
		if (ql_tree_inode(tree, d.nid, &inode) < 0)
			continue;
		if (S_ISDIR(inode.mode)) {
			print_dir(tree, d.nid, path);
			continue;
		}
		print_text(path, strlen(path));
		print_inode(tree, &inode);
	}
}

/* ---- the blob ---- */

static int range(void *arg, uint64_t offset, uint64_t len, struct ql_buf *buf,
		 struct ql_error *err)
{
	struct blob *b = arg;
	int r = ql_buf_reserve(buf, (size_t)len);

	b->bytes += len;
	b->ranges++;
	if (r < 0)
		return ql_error_errno(err, r, "a range");
	if (ql_pread_full(b->fd, buf->data + buf->len, (size_t)len, offset) !=
	    (ssize_t)len)
		return ql_error_set(err, -EIO, "a range that is not there");
	buf->len += (size_t)len;
	buf->data[buf->len] = '\0';
	return 0;
}

/* The diff ID is what the bytes are: nothing is to be verified here. */
static int diff_id(const struct blob *b, const struct ql_descriptor *d,
		   struct ql_digest *ret, struct ql_error *err)
{
	_cleanup_stream_ struct ql_stream *tar = NULL;
	struct ql_hasher *h = ql_hasher_new();
	char buf[65536];
	struct ql_stream *in;
	ssize_t n = -1;
	int r = h ? ql_filestream_new(b->fd, 0, d->size, &in, err) : -ENOMEM;

	if (r == 0)
		r = ql_decompress(in, &tar, err);
	while (r == 0 && (n = ql_stream_read(tar, buf, sizeof(buf), err)) > 0)
		ql_hasher_update(h, buf, (size_t)n);
	if (r == 0)
		ql_hasher_final(h, ret);
	ql_hasher_free(h);
	return r < 0 ? r : (int)n;
}

static int import(struct ql_store *store, const struct blob *b,
		  const struct ql_descriptor *d, struct ql_layer_info *info,
		  struct ql_error *err)
{
	struct ql_layer_stats stats;
	struct ql_stream *in, *tar;
	int r = diff_id(b, d, &info->diff_id, err);

	if (r == 0)
		r = ql_filestream_new(b->fd, 0, d->size, &in, err);
	if (r == 0)
		r = ql_decompress(in, &tar, err);
	info->blob = d->digest;
	info->blob_size = d->size;
	return r < 0 ? r : ql_layer_import(store, tar, info, NULL, &stats, err);
}

/* ---- checking content ---- */

/* Bytes of a chunk, from no more of the blob than its span says. */
static int chunk_read(const struct ql_toc *toc, const struct blob *b,
		      const struct ql_toc_chunk *c, uint8_t *buf,
		      struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf raw = QL_BUF_INIT(SIZE_MAX / 2);
	_cleanup_stream_ struct ql_stream *in = NULL;
	struct blob copy = *b;
	struct ql_toc_span span;
	struct ql_stream *next;
	uint8_t skip[4096];
	uint64_t left;
	uint32_t i;
	int r = ql_toc_span_at(toc, c->raw, &i);

	if (r == 0)
		r = ql_toc_span(toc, i, &span);
	if (r < 0)
		return ql_error_errno(err, r, "span");
	r = range(&copy, span.offset, span.len, &raw, err);
	if (r == 0)
		r = ql_stream_from_mem(raw.data, raw.len, &in, err);
	if (r == 0)
		r = ql_decompress(in, &next, err);
	if (r < 0)
		return r;
	in = next;
	for (left = c->raw - span.raw; left > 0;) {
		size_t part = left < sizeof(skip) ? (size_t)left : sizeof(skip);
		ssize_t n = ql_stream_read_full(in, skip, part, err);

		if (n != (ssize_t)part)
			return ql_error_set(err, -EBADMSG, "a short frame");
		left -= part;
	}
	return ql_stream_read_full(in, buf, c->len, err) == (ssize_t)c->len
		       ? 0
		       : ql_error_set(err, -EBADMSG, "a short frame");
}

static int file_check(const struct ql_toc *toc, const struct blob *b,
		      const struct ql_toc_file *f, struct ql_error *err)
{
	_cleanup_free_ uint8_t *data = calloc(1, f->size + 1);
	struct ql_toc_chunk c;
	struct ql_digest sum;

	if (!data)
		return ql_error_nomem(err);
	for (uint32_t i = 0; i < f->n_chunks; i++) {
		int r = ql_toc_chunk(toc, f->first_chunk + i, &c);

		if (r == 0)
			r = chunk_read(toc, b, &c, data + c.offset, err);
		if (r == 0)
			r = ql_digest_of(data + c.offset, c.len, &sum);
		if (r < 0)
			return r;
		if (!ql_digest_equal(&sum, &c.digest))
			return ql_error_set(err, -EBADMSG, "a wrong chunk");
	}
	if (ql_digest_of(data, f->size, &sum) < 0)
		return ql_error_nomem(err);
	return ql_digest_equal(&sum, &f->digest)
		       ? 0
		       : ql_error_set(err, -EBADMSG, "a wrong file");
}

static int check(struct ql_store *store, const struct blob *b,
		 const struct ql_layer_info *info, struct ql_error *err)
{
	_cleanup_(ql_toc_closep) struct ql_toc *toc = NULL;
	struct ql_toc_file f;
	int r = ql_toc_open_layer(store, info, &toc, err);

	if (r == 0)
		r = ql_toc_check(toc, err);
	for (uint32_t i = 0; r == 0 && i < ql_toc_files(toc); i++) {
		r = ql_toc_file(toc, i, &f);
		if (r == 0)
			r = file_check(toc, b, &f, err);
	}
	if (r == 0)
		(void)printf("%u files, %u chunks, %u spans\n",
			     ql_toc_files(toc), ql_toc_chunks(toc),
			     ql_toc_spans(toc));
	return r;
}

/* ---- ---- */

static int run(const char *how, struct ql_store *store, struct blob *b,
	       const struct ql_manifest *m, struct ql_error *err)
{
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	/* No diff ID is looked at before an image is built. */
	struct ql_layer_info info = { .diff_id = m->layers[0].digest };
	uint64_t start = ql_now_ns();
	int r;

	if (strcmp(how, "full") == 0)
		r = import(store, b, &m->layers[0], &info, err);
	else
		r = ql_lazylayer_open(store, &m->layers[0], range, b, &info,
				      err);
	if (r < 0)
		return r;
	(void)fprintf(stderr, "ranges=%u bytes=%llu ms=%.1f\n", b->ranges,
		      (unsigned long long)b->bytes,
		      (double)(ql_now_ns() - start) / 1e6);
	if (strcmp(how, "check") == 0)
		return check(store, b, &info, err);
	r = ql_tree_open_layer(store, &info.diff_id, &tree, err);
	if (r == 0)
		print_dir(tree, ql_tree_root(tree), "");
	return r;
}

int main(int argc, char **argv)
{
	_cleanup_buf_ struct ql_buf json = QL_BUF_INIT(QL_MANIFEST_MAX);
	_cleanup_(ql_store_closep) struct ql_store *store = NULL;
	_cleanup_manifest_ struct ql_manifest manifest = { 0 };
	struct ql_error err = QL_ERROR_INIT;
	struct blob b = { .fd = -1 };
	int r;

	if (argc != 5)
		return 2;
	b.fd = open(argv[4], O_RDONLY | O_CLOEXEC);
	r = ql_read_file(AT_FDCWD, argv[3], &json, &err);
	if (r == 0)
		r = ql_manifest_parse(json.data, json.len, &manifest, &err);
	if (r == 0)
		r = ql_store_open(argv[2], QL_STORE_WRITE, &store, &err);
	if (r == 0)
		r = run(argv[1], store, &b, &manifest, &err);
	(void)close(b.fd);
	if (r < 0)
		(void)fail(&err);
	return r == -ENOTSUP ? 3 : r < 0 ? 1 : 0;
}
