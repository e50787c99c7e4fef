/* SPDX-License-Identifier: Apache-2.0 */
/* For tests: archives in every compression that may be entered, imported as
 * layers with their tables of contents. */
#ifndef QL_TEST_PLAININDEX_H
#define QL_TEST_PLAININDEX_H

#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>

#include "tests/unit/layers.h"
#include "tests/unit/spans.h"

enum { BUF_MAX = 256 << 20, WORDS = 1024 };

static uint64_t rng = 1;

static inline uint32_t rnd(uint32_t below)
{
	rng = rng * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(rng >> 33) % below;
}

/* ---- archives ---- */

/* Words and noise: blocks, references and literals of all kinds. */
static inline void content(char *data, size_t len)
{
	static char words[WORDS][16];
	size_t at = 0;

	for (int i = 0; i < WORDS && words[WORDS - 1][0] == 0; i++)
		for (int k = 0; k < 16; k++)
			words[i][k] = (char)(33 + rnd(90));
	while (at < len) {
		const char *w = words[rnd(WORDS)];
		size_t n = 3 + rnd(13);

		if (n > len - at)
			n = len - at;
		memcpy(data + at, w, n);
		at += n;
		if (rnd(8) == 0 && at < len)
			data[at++] = (char)rnd(256);
	}
}

static inline void add_file(struct ql_buf *tar, const char *name, size_t len)
{
	_cleanup_free_ char *data = malloc(len + 1);
	struct tarball_entry e = { .name = name, .type = '0', .len = len };

	assert_non_null(data);
	content(data, len);
	e.data = data;
	tarball_add(tar, &e);
}

/* One of 2,600,000 bytes of which 1,500,100 are there, in two parts. */
static inline void add_sparse(struct ql_buf *tar)
{
	_cleanup_buf_ struct ql_buf pax = QL_BUF_INIT(4096);
	static const char map[] = "1000,1500000,2000000,100";

	tarball_record(&pax, "GNU.sparse.major", "0", 1);
	tarball_record(&pax, "GNU.sparse.minor", "1", 1);
	tarball_record(&pax, "GNU.sparse.size", "2600000", 7);
	tarball_record(&pax, "GNU.sparse.map", map, strlen(map));
	tarball_extension(tar, 'x', "pax", pax.data, pax.len);
	add_file(tar, "sparse", 1500100);
}

/* One that is nothing but a hole, and one that begins with data. */
static inline void add_holes(struct ql_buf *tar)
{
	_cleanup_buf_ struct ql_buf pax = QL_BUF_INIT(4096);

	tarball_record(&pax, "GNU.sparse.size", "5000", 4);
	tarball_record(&pax, "GNU.sparse.map", "5000,0", 6);
	tarball_extension(tar, 'x', "pax", pax.data, pax.len);
	add_file(tar, "hole", 0);
	ql_buf_clear(&pax);
	tarball_record(&pax, "GNU.sparse.size", "9000", 4);
	tarball_record(&pax, "GNU.sparse.map", "0,100", 5);
	tarball_extension(tar, 'x', "pax", pax.data, pax.len);
	add_file(tar, "tail", 100);
}

static inline void archive_make(struct ql_buf *tar)
{
	static const size_t sizes[] = { 0,
					1,
					64,
					65,
					4095,
					(1 << 20) - 1,
					1 << 20,
					1000000,
					(1 << 20) + 1,
					3000000,
					100,
					5 << 20,
					(1 << 21) + 5 };
	char name[32];

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		(void)snprintf(name, sizeof(name), "file%zu", i);
		add_file(tar, name, sizes[i]);
	}
	add_sparse(tar);
	add_holes(tar);
	tarball_file(tar, "once",
		     "the same content, longer than what stands "
		     "in the tree itself, and twice");
	tarball_file(tar, "twice",
		     "the same content, longer than what stands "
		     "in the tree itself, and twice");
	tarball_end(tar);
}

static inline void archive_random(struct ql_buf *tar)
{
	unsigned int n = 1 + rnd(200);
	char name[32];

	for (unsigned int i = 0; i < n; i++) {
		uint32_t size = rnd(40) == 0 ? rnd(5000000) : rnd(50000);

		(void)snprintf(name, sizeof(name), "f%u", i);
		add_file(tar, name, size);
	}
	tarball_end(tar);
}

/* ---- compressing ---- */

static inline void through(const char *command, const char *data, size_t len,
			   struct ql_buf *out)
{
	char name[] = "/tmp/quicklayer-unit.XXXXXX";
	_cleanup_close_ int fd = scratch_file(name);
	_cleanup_free_ char *line = ql_strf("%s <%s", command, name);
	_cleanup_free_ char *chunk = malloc(1 << 16);
	FILE *f;
	size_t n;

	assert_true(fd >= 0 && line && chunk);
	assert_int_equal(ql_write_full(fd, data, len), 0);
	f = popen(line, "r"); // NOLINT(cert-env33-c)
	assert_non_null(f);
	while ((n = fread(chunk, 1, 1 << 16, f)) > 0)
		assert_int_equal(ql_buf_add(out, chunk, n), 0);
	assert_int_equal(pclose(f), 0);
	(void)unlink(name);
}

/* In parts, each a member or frame of its own. */
static inline void in_parts(const char *command, const struct ql_buf *in,
			    size_t part, struct ql_buf *out)
{
	for (size_t at = 0; at < in->len; at += part)
		through(command, in->data + at,
			in->len - at < part ? in->len - at : part, out);
}

static inline void gzip_trailer(const struct ql_buf *in, struct ql_buf *out)
{
	uint32_t crc = crc32_gzip_refl(0, (unsigned char *)in->data, in->len);

	assert_int_equal(ql_buf_add_le32(out, crc), 0);
	assert_int_equal(ql_buf_add_le32(out, (uint32_t)in->len), 0);
}

/* RFC 1951 §3.2.4, which gzip(1) writes only where nothing else is shorter. */
static inline void stored(const struct ql_buf *in, struct ql_buf *out)
{
	static const uint8_t head[10] = { 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3 };
	size_t n;

	tarball_bytes(out, head, sizeof(head));
	for (size_t at = 0; at < in->len; at += n) {
		n = 1 + rnd(65535);
		if (n > in->len - at)
			n = in->len - at;
		(void)ql_buf_add_u8(out, at + n == in->len);
		(void)ql_buf_add_u8(out, (uint8_t)n);
		(void)ql_buf_add_u8(out, (uint8_t)(n >> 8));
		(void)ql_buf_add_u8(out, (uint8_t)~n);
		(void)ql_buf_add_u8(out, (uint8_t)(~n >> 8));
		tarball_bytes(out, in->data + at, n);
	}
	gzip_trailer(in, out);
}

/* Blocks of fixed tables, or with empty stored blocks between (as pigz writes
 * them). */
static inline void flushed(const struct ql_buf *in, int tables, int flush,
			   struct ql_buf *out)
{
	struct isal_zstream *z = malloc(sizeof(*z));
	static uint8_t level_buf[ISAL_DEF_LVL1_DEFAULT];
	size_t room = in->len + in->len / 8 + 4096;

	assert_non_null(z);
	isal_deflate_init(z);
	z->gzip_flag = IGZIP_GZIP;
	z->level = tables == IGZIP_HUFFTABLE_STATIC ? 0 : 1;
	z->level_buf = level_buf;
	z->level_buf_size = sizeof(level_buf);
	if (z->level == 0)
		assert_int_equal(isal_deflate_set_hufftables(z, NULL, tables),
				 COMP_OK);
	assert_int_equal(ql_buf_reserve(out, room), 0);
	z->next_out = (uint8_t *)out->data + out->len;
	z->avail_out = (uint32_t)room;
	z->flush = (uint16_t)flush;
	z->next_in = (uint8_t *)in->data;
	for (size_t at = 0; at < in->len;) {
		size_t n = 128 << 10;

		z->end_of_stream = in->len - at <= n;
		z->avail_in = (uint32_t)(z->end_of_stream ? in->len - at : n);
		n = z->avail_in;
		assert_int_equal(isal_deflate(z), COMP_OK);
		assert_int_equal(z->avail_in, 0);
		at += n;
	}
	out->len += z->total_out;
	free(z);
}

static inline void skippable(struct ql_buf *out)
{
	tarball_bytes(out, "\x50\x2a\x4d\x18\x05\0\0\0hello", 13);
}

enum how {
	NONE,
	GZIP_1,
	GZIP_6,
	GZIP_9,
	GZIP_STORED,
	GZIP_FIXED,
	GZIP_FLUSHED,
	GZIP_MEMBERS,
	GZIP_TINY_MEMBERS,
	ZSTD_ONE,
	ZSTD_FRAMES,
	ZSTD_TINY_FRAMES,
	HOWS
};

static inline void compress(enum how how, const struct ql_buf *in,
			    struct ql_buf *out)
{
	static const char *const commands[HOWS] = {
		[NONE] = "cat",
		[GZIP_1] = "gzip -1c",
		[GZIP_6] = "gzip -6nc",
		[GZIP_9] = "gzip -9c",
		[ZSTD_ONE] = "zstd -q -3 -c",
	};

	switch (how) {
	case GZIP_STORED:
		stored(in, out);
		break;
	case GZIP_FIXED:
		flushed(in, IGZIP_HUFFTABLE_STATIC, NO_FLUSH, out);
		break;
	case GZIP_FLUSHED:
		flushed(in, IGZIP_HUFFTABLE_DEFAULT, SYNC_FLUSH, out);
		break;
	case GZIP_MEMBERS:
		in_parts("gzip -6c", in, 5000000, out);
		break;
	case GZIP_TINY_MEMBERS:
		in_parts("gzip -6c", in, 200000, out);
		break;
	case ZSTD_FRAMES:
		skippable(out);
		in_parts("zstd -q -c", in, 5000000, out);
		skippable(out);
		break;
	case ZSTD_TINY_FRAMES:
		in_parts("zstd -q -c", in, 100000, out);
		break;
	default:
		through(commands[how], in->data, in->len, out);
		break;
	}
}

/* ---- a layer, imported ---- */

struct indexed {
	struct lab lab;
	struct ql_buf tar, blob;
	struct ql_layer_info info;
	struct ql_toc *toc;
	struct spans_blob spans;
};

static inline void import(struct indexed *x)
{
	_cleanup_(ql_toc_writer_freep) struct ql_toc_writer *w = NULL;
	_cleanup_(ql_spans_release) struct ql_spans spans;
	struct ql_layer_stats stats;
	struct ql_stream *in, *tar;

	assert_int_equal(
		ql_digest_of(x->tar.data, x->tar.len, &x->info.diff_id), 0);
	assert_int_equal(ql_digest_of(x->blob.data, x->blob.len, &x->info.blob),
			 0);
	x->info.blob_size = x->blob.len;
	assert_int_equal(ql_toc_writer_new(&w, NULL), 0);
	ql_spans_init(&spans, w, &x->info.blob, x->blob.len);
	assert_int_equal(
		ql_stream_from_mem(x->blob.data, x->blob.len, &in, NULL), 0);
	assert_int_equal(ql_decompress_spans(in, &spans, &tar, NULL), 0);
	if (ql_layer_import(x->lab.store, tar, &x->info, w, &stats,
			    &x->lab.err) < 0)
		fail_msg("%s", x->lab.err.text);
}

static inline void indexed_init(struct indexed *x, enum how how,
				void (*make)(struct ql_buf *tar))
{
	*x = (struct indexed){ .tar = QL_BUF_INIT(BUF_MAX),
			       .blob = QL_BUF_INIT(BUF_MAX) };
	lab_init(&x->lab);
	make(&x->tar);
	compress(how, &x->tar, &x->blob);
	import(x);
	if (ql_toc_open_layer(x->lab.store, &x->info, &x->toc, &x->lab.err) < 0)
		fail_msg("no table: %s", x->lab.err.text);
	x->spans = (struct spans_blob){ .fd = -1,
					.data = (uint8_t *)x->blob.data,
					.size = x->blob.len };
}

static inline void indexed_release(struct indexed *x)
{
	spans_release(&x->spans);
	ql_toc_close(x->toc);
	ql_buf_release(&x->tar);
	ql_buf_release(&x->blob);
	lab_release(&x->lab);
}
#define _cleanup_indexed_ __attribute__((cleanup(indexed_release)))

static inline int object_known(const struct ql_digest *digest, uint64_t size,
			       void *arg)
{
	struct ql_toc_file f;

	assert_int_equal(ql_toc_find(arg, digest, &f), 0);
	assert_int_equal(f.size, size);
	return 0;
}

static inline void expect_right(struct indexed *x)
{
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	struct ql_error err = QL_ERROR_INIT;
	uint32_t n = ql_toc_spans(x->toc);
	struct spans_stats stats;

	for (uint32_t at_once = 1; at_once <= n; at_once = at_once * 5 + 2)
		if (spans_check(x->toc, &x->spans, at_once, &stats, &err) < 0)
			fail_msg("%u spans at once: %s", at_once, err.text);
	assert_int_equal(x->spans.raw_size, x->tar.len);
	assert_memory_equal(x->spans.raw, x->tar.data, x->tar.len);
	assert_int_equal(ql_tree_open_layer(x->lab.store, &x->info.diff_id,
					    &tree, NULL),
			 0);
	assert_int_equal(ql_tree_each_object(tree, object_known, x->toc), 0);
}

#endif
