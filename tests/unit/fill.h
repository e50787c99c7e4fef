/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of filling: an image whose files' content lies in an OCI folder,
 * as one blob of zstd frames, and a second store that knows the image by its
 * start blob alone.
 */
#ifndef QL_TEST_FILL_H
#define QL_TEST_FILL_H

#include <inttypes.h>
#include <pthread.h>
#include <zstd.h>

#include "fetch/start-private.h"
#include "tests/unit/layers.h"

enum { FILL_CHUNK = 64 << 10, FILL_BLOB_MAX = 64 << 20 };

struct fill_lab {
	struct lab from; /* the image, whole */
	struct lab to;	 /* knows of it */
	char oci[64];	 /* where the blobs are */
	struct ql_buf toc;
	struct ql_start_ref ref;
	struct ql_image_info info;
};

static inline void fill_put_blob(struct fill_lab *lab, const void *data,
				 size_t len, struct ql_digest *ret_digest)
{
	char hex[QL_DIGEST_HEX + 1];
	_cleanup_free_ char *path = NULL;
	FILE *f;

	tarball_must(ql_digest_of(data, len, ret_digest) == 0);
	path = ql_strf("%s/blobs/sha256/%s", lab->oci,
		       ql_digest_hex(ret_digest, hex));
	tarball_must(path);
	f = fopen(path, "w");
	tarball_must(f && fwrite(data, 1, len, f) == len && fclose(f) == 0);
}

/* Content that is neither all the same nor all different; seed 0: zeros. */
static inline void fill_content(char *data, size_t len, unsigned int seed)
{
	memset(data, 0, len);
	if (seed == 0)
		return;
	for (size_t i = 0; i < len; i++)
		data[i] = (char)("abcdefgh"[(i / 7 + seed) % 8] +
				 (char)(i * seed >> 12));
}

static inline void fill_add(struct ql_buf *tar, const char *name, size_t len,
			    unsigned int seed)
{
	_cleanup_free_ char *data = malloc(len + 1);
	struct tarball_entry e = { .name = name, .type = '0', .mode = 0644 };

	tarball_must(data);
	fill_content(data, len, seed);
	e.data = data;
	e.len = len;
	tarball_add(tar, &e);
}

struct fill_blob {
	struct fill_lab *lab;
	struct ql_buf bytes;
	struct ql_toc_writer *w;
	struct ql_buf spans; /* struct ql_toc_span */
	struct ql_buf files; /* digest, size */
};

static inline int fill_object(const struct ql_digest *digest, uint64_t size,
			      void *arg)
{
	struct fill_blob *b = arg;

	tarball_bytes(&b->files, digest, sizeof(*digest));
	tarball_bytes(&b->files, &size, sizeof(size));
	return 0;
}

/* Every object, cut into frames; first the spans, then what lies in them. */
static inline void fill_write_blob(struct fill_lab *lab,
				   const struct ql_tree *tree)
{
	struct fill_blob b = { lab, QL_BUF_INIT(FILL_BLOB_MAX), NULL,
			       QL_BUF_INIT(FILL_BLOB_MAX),
			       QL_BUF_INIT(FILL_BLOB_MAX) };
	_cleanup_buf_ struct ql_buf data = QL_BUF_INIT(FILL_BLOB_MAX);
	char frame[FILL_CHUNK + 1024];
	struct ql_digest blob, digest;
	struct ql_toc_span span;
	uint64_t raw = 0, size;

	tarball_must(ql_tree_each_object(tree, fill_object, &b) == 0);
	for (size_t f = 0; f < b.files.len; f += sizeof(digest) + 8) {
		memcpy(&digest, b.files.data + f, sizeof(digest));
		ql_buf_clear(&data);
		tarball_must(ql_object_read(lab->from.store, &digest, &data,
					    NULL) == 0);
		for (size_t at = 0; at < data.len; at += FILL_CHUNK) {
			size_t n = data.len - at < FILL_CHUNK ? data.len - at
							      : FILL_CHUNK;
			size_t packed = ZSTD_compress(frame, sizeof(frame),
						      data.data + at, n, 1);

			tarball_must(!ZSTD_isError(packed));
			span = (struct ql_toc_span){ .offset = b.bytes.len,
						     .len = packed,
						     .raw_len = n };
			tarball_bytes(&b.spans, &span, sizeof(span));
			tarball_bytes(&b.bytes, frame, packed);
		}
	}
	fill_put_blob(lab, b.bytes.data, b.bytes.len, &blob);
	tarball_must(ql_toc_writer_new(&b.w, NULL) == 0);
	tarball_must(ql_toc_writer_blob(b.w, &blob, b.bytes.len, QL_CODEC_ZSTD,
					NULL) == 0);
	for (size_t s = 0; s < b.spans.len; s += sizeof(span)) {
		memcpy(&span, b.spans.data + s, sizeof(span));
		tarball_must(ql_toc_writer_span(b.w, &span, &raw, NULL) == 0);
	}
	raw = 0;
	for (size_t f = 0; f < b.files.len; f += sizeof(digest) + 8) {
		memcpy(&digest, b.files.data + f, sizeof(digest));
		memcpy(&size, b.files.data + f + sizeof(digest), 8);
		ql_buf_clear(&data);
		tarball_must(ql_object_read(lab->from.store, &digest, &data,
					    NULL) == 0);
		tarball_must(ql_toc_writer_file(b.w, &digest, size, NULL) == 0);
		for (size_t at = 0; at < data.len; at += FILL_CHUNK) {
			size_t n = data.len - at < FILL_CHUNK ? data.len - at
							      : FILL_CHUNK;
			struct ql_digest d;

			raw += n;
			if (data.data[at] == 0 &&
			    memcmp(data.data + at, data.data + at + 1, n - 1) ==
				    0)
				continue; /* a hole */
			tarball_must(ql_digest_of(data.data + at, n, &d) == 0);
			tarball_must(ql_toc_writer_chunk(
					     b.w, at, (uint32_t)n, raw - n,
					     n == size ? NULL : &d, NULL) == 0);
		}
	}
	tarball_must(ql_toc_writer_finish(b.w, &lab->toc, NULL) == 0);
	ql_toc_writer_free(b.w);
	ql_buf_release(&b.bytes);
	ql_buf_release(&b.spans);
	ql_buf_release(&b.files);
}

/* The manifest and configuration of the image that is to be read. */
static inline void fill_documents(struct fill_lab *lab)
{
	_cleanup_free_ char *text = NULL;
	char config[QL_DIGEST_TEXT + 1], blob[QL_DIGEST_TEXT + 1];

	tarball_must(ql_object_put(lab->to.store, "{}", 2, NULL,
				   &lab->info.config, NULL) == 0);
	text = ql_strf("{\"schemaVersion\": 2, \"config\": {\"mediaType\": "
		       "\"application/vnd.oci.image.config.v1+json\", "
		       "\"digest\": \"%s\", \"size\": 2}, \"layers\": "
		       "[{\"mediaType\": "
		       "\"application/vnd.oci.image.layer.v1.tar+zstd\", "
		       "\"digest\": \"%s\", \"size\": %" PRIu64 "}]}",
		       ql_digest_text(&lab->info.config, config),
		       ql_digest_text(&lab->ref.blob, blob),
		       (uint64_t)lab->ref.size);
	tarball_must(text);
	tarball_must(ql_object_put(lab->to.store, text, strlen(text), NULL,
				   &lab->info.manifest, NULL) == 0);
}

/* tar: the image's only layer.  trace: text, or NULL. */
static inline void fill_lab_init(struct fill_lab *lab, struct ql_buf *tar,
				 const char *trace_text)
{
	_cleanup_buf_ struct ql_buf blob = QL_BUF_INIT(FILL_BLOB_MAX);
	_cleanup_start_ struct ql_start start = { 0 };
	struct ql_trace trace = { 0 };
	struct ql_tree *tree;
	struct ql_toc *toc;
	_cleanup_free_ char *cmd = NULL, *repository = NULL;
	struct ql_digest digest;
	struct ql_start_input in = { 0 };

	memset(lab, 0, sizeof(*lab));
	lab_init(&lab->from);
	lab_init(&lab->to);
	ql_buf_init(&lab->toc, FILL_BLOB_MAX);
	(void)snprintf(lab->oci, sizeof(lab->oci), "%s/oci", lab->to.root);
	cmd = ql_strf("%s/blobs/sha256", lab->oci);
	tarball_must(cmd && ql_mkdir_p(cmd, NULL) == 0);
	tarball_must(lab_layer(&lab->from, tar) == 0);
	tarball_must(lab_build(&lab->from, "filled") == 0);
	tarball_must(ql_tree_open_image(lab->from.store, &lab->from.manifest,
					&tree, NULL) == 0);
	fill_write_blob(lab, tree);
	tarball_must(ql_toc_open_mem(lab->toc.data, lab->toc.len, &toc, NULL) ==
		     0);
	if (trace_text)
		tarball_must(ql_trace_parse(trace_text, strlen(trace_text),
					    &trace, NULL) == 0);
	in = (struct ql_start_input){ .store = lab->from.store,
				      .tree = tree,
				      .config = "{}",
				      .config_len = 2,
				      .tocs = &toc,
				      .n_tocs = 1,
				      .trace = trace_text ? &trace : NULL };
	tarball_must(ql_start_write(&in, &blob, &lab->ref, NULL) == 0);
	fill_put_blob(lab, blob.data, blob.len, &digest);
	tarball_must(ql_digest_equal(&digest, &lab->ref.blob));
	tarball_must(ql_start_parse(blob.data, &lab->ref, &start, NULL) == 0);
	fill_documents(lab);
	repository = ql_strf("oci:%s", lab->oci);
	tarball_must(repository);
	{
		struct ql_toc_blob first;

		tarball_must(ql_toc_blob(toc, 0, &first) == 0);
		tarball_must(ql_blob_sources_add(lab->to.store, &first.digest,
						 1, repository, NULL) == 0);
		tarball_must(ql_blob_sources_add(lab->to.store, &lab->ref.blob,
						 1, repository, NULL) == 0);
	}
	tarball_must(ql_image_put_ready(lab->to.store, &lab->info, start.tree,
					start.tree_len, &start.objects,
					&start.toc, &start.hot, "filled",
					&lab->to.err) == 0);
	lab->to.manifest = lab->info.manifest;
	ql_trace_release(&trace);
	ql_toc_close(toc);
	ql_tree_close(tree);
}

static inline void fill_lab_release(struct fill_lab *lab)
{
	lab_release(&lab->from);
	lab_release(&lab->to);
	ql_buf_release(&lab->toc);
}

/* ---- waiting ---- */

struct fill_wait {
	struct ql_fill_waiter w;
	pthread_mutex_t lock;
	pthread_cond_t done;
	bool is_done;
	int error;
};

static inline void fill_done(struct ql_fill_waiter *w, int error)
{
	struct fill_wait *wait = (struct fill_wait *)w;

	(void)pthread_mutex_lock(&wait->lock);
	wait->is_done = true;
	wait->error = error;
	(void)pthread_cond_signal(&wait->done);
	(void)pthread_mutex_unlock(&wait->lock);
}

/* What a read would get: 0 or a negative errno. */
static inline int fill_read(struct ql_filler *f, struct ql_fill_file *file,
			    uint64_t offset, uint64_t len)
{
	struct fill_wait wait = {
		.w = { .offset = offset, .len = len, .done = fill_done },
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.done = PTHREAD_COND_INITIALIZER,
	};
	int r = ql_fill_wait(f, file, &wait.w);

	if (r != -EINPROGRESS)
		return r;
	(void)pthread_mutex_lock(&wait.lock);
	while (!wait.is_done)
		(void)pthread_cond_wait(&wait.done, &wait.lock);
	r = wait.error;
	(void)pthread_mutex_unlock(&wait.lock);
	return r;
}

#endif
