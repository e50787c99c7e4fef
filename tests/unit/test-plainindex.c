/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables of contents that are made while plain layers are read: whatever the
 * layer is compressed by, every span decodes by itself and every piece of
 * every file is found in them.  QL_SEEDS: how many random archives.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// clang-format off
#include <cmocka.h>
// clang-format on
#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>

#include "tests/unit/layers.h"
#include "tests/unit/spans.h"

enum { BUF_MAX = 256 << 20, WORDS = 1024 };

static uint64_t rng = 1;

static uint32_t rnd(uint32_t below)
{
	rng = rng * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(rng >> 33) % below;
}

/* ---- archives ---- */

/* Words and noise: blocks, references and literals of all kinds. */
static void content(char *data, size_t len)
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

static void add_file(struct ql_buf *tar, const char *name, size_t len)
{
	_cleanup_free_ char *data = malloc(len + 1);
	struct tarball_entry e = { .name = name, .type = '0', .len = len };

	assert_non_null(data);
	content(data, len);
	e.data = data;
	tarball_add(tar, &e);
}

/* One of 2,600,000 bytes of which 1,500,100 are there, in two parts. */
static void add_sparse(struct ql_buf *tar)
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
static void add_holes(struct ql_buf *tar)
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

static void archive_make(struct ql_buf *tar)
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

static void archive_random(struct ql_buf *tar)
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

static void through(const char *command, const char *data, size_t len,
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
static void in_parts(const char *command, const struct ql_buf *in, size_t part,
		     struct ql_buf *out)
{
	for (size_t at = 0; at < in->len; at += part)
		through(command, in->data + at,
			in->len - at < part ? in->len - at : part, out);
}

static void gzip_trailer(const struct ql_buf *in, struct ql_buf *out)
{
	uint32_t crc = crc32_gzip_refl(0, (unsigned char *)in->data, in->len);

	assert_int_equal(ql_buf_add_le32(out, crc), 0);
	assert_int_equal(ql_buf_add_le32(out, (uint32_t)in->len), 0);
}

/* RFC 1951 §3.2.4, which gzip(1) writes only where nothing else is shorter. */
static void stored(const struct ql_buf *in, struct ql_buf *out)
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
static void flushed(const struct ql_buf *in, int tables, int flush,
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

static void skippable(struct ql_buf *out)
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

static void compress(enum how how, const struct ql_buf *in, struct ql_buf *out)
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

static void import(struct indexed *x)
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

static void indexed_init(struct indexed *x, enum how how,
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

static void indexed_release(struct indexed *x)
{
	spans_release(&x->spans);
	ql_toc_close(x->toc);
	ql_buf_release(&x->tar);
	ql_buf_release(&x->blob);
	lab_release(&x->lab);
}
#define _cleanup_indexed_ __attribute__((cleanup(indexed_release)))

static int object_known(const struct ql_digest *digest, uint64_t size,
			void *arg)
{
	struct ql_toc_file f;

	assert_int_equal(ql_toc_find(arg, digest, &f), 0);
	assert_int_equal(f.size, size);
	return 0;
}

static void expect_right(struct indexed *x)
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

/* ---- tests ---- */

static void every_piece_is_found_in_every_codec(void **state)
{
	/* Spans: what each way of writing has to give at least. */
	static const uint32_t least[HOWS] = {
		4, 2, 2, 2, 5, 1, 3, 4, 9, 1, 4, 9
	};

	(void)state;
	for (int how = 0; how < HOWS; how++) {
		_cleanup_indexed_ struct indexed x;

		indexed_init(&x, (enum how)how, archive_make);
		print_message("# %d: %u spans, blob %zu of %zu\n", how,
			      ql_toc_spans(x.toc), x.blob.len, x.tar.len);
		expect_right(&x);
		assert_true(ql_toc_spans(x.toc) >= least[how]);
	}
}

static void every_piece_of_random_archives_is_found(void **state)
{
	const char *seeds = getenv("QL_SEEDS");
	long n = seeds ? strtol(seeds, NULL, 10) : 6;

	(void)state;
	for (long i = 0; i < n; i++) {
		_cleanup_indexed_ struct indexed x;
		enum how how;

		rng = (uint64_t)(i + 1) * 0x9e3779b97f4a7c15ULL;
		(void)rnd(2);
		how = (enum how)((i * 5 + 1) % HOWS);
		print_message("# seed %ld: %d\n", i + 1, (int)how);
		indexed_init(&x, how, archive_random);
		expect_right(&x);
	}
}

static void large_files_are_cut_and_others_have_their_own_digest(void **state)
{
	_cleanup_indexed_ struct indexed x;
	struct ql_toc_chunk c;
	struct ql_toc_file f;

	(void)state;
	indexed_init(&x, NONE, archive_make);
	for (uint32_t i = 0; i < ql_toc_files(x.toc); i++) {
		assert_int_equal(ql_toc_file(x.toc, i, &f), 0);
		assert_true(f.size > 64);
		if (f.size == 5000)
			assert_int_equal(f.n_chunks,
					 0); /* nothing but a hole */
		else if (f.size == 9000)
			assert_int_equal(f.n_chunks, 1); /* then a hole */
		else if (f.size == 2600000)
			assert_int_equal(f.n_chunks, 3); /* with holes */
		else if (f.size > 4 << 20)
			assert_int_equal(f.n_chunks,
					 (f.size + (1 << 20) - 1) >> 20);
		else
			assert_int_equal(f.n_chunks, 1);
		if (f.n_chunks != 1 || f.size == 9000)
			continue;
		assert_int_equal(ql_toc_chunk(x.toc, f.first_chunk, &c), 0);
		assert_true(ql_digest_equal(&c.digest, &f.digest));
	}
}

/* The table's bytes, open to damage, without its checksum. */
static void table_bytes(const struct indexed *x, struct ql_buf *ret_buf)
{
	char hex[QL_DIGEST_HEX + 1];
	_cleanup_free_ char *path = ql_strf("%s/layers/%s.toc", x->lab.root,
					    ql_digest_hex(&x->info.blob, hex));

	assert_non_null(path);
	assert_int_equal(ql_read_file(AT_FDCWD, path, ret_buf, NULL), 0);
}

/* Whatever a table says, its spans give an error, or bytes of which the
 * digests tell. */
static void damaged_tables_never_give_wrong_bytes(void **state)
{
	_cleanup_buf_ struct ql_buf table = QL_BUF_INIT(BUF_MAX);
	_cleanup_indexed_ struct indexed x;
	struct ql_error err = QL_ERROR_INIT;
	struct spans_stats stats;
	unsigned int errors = 0;

	(void)state;
	indexed_init(&x, GZIP_6, archive_make);
	assert_int_equal(spans_check(x.toc, &x.spans, 1, &stats, &err), 0);
	table_bytes(&x, &table);
	for (int i = 0; i < 60; i++) {
		size_t at =
			table.len - 1 -
			rnd((uint32_t)stats.windows + 64 * ql_toc_spans(x.toc));
		uint8_t bit = (uint8_t)(1U << rnd(8));
		struct ql_toc *toc;
		int r;

		table.data[at] = (char)((uint8_t)table.data[at] ^ bit);
		r = ql_toc_open_mem(table.data, table.len, &toc, &err);
		assert_int_equal(r, 0);
		r = ql_toc_check(toc, NULL);
		assert_int_equal(r, -EBADMSG);
		memset(x.spans.raw, 0, x.spans.raw_size);
		r = 0;
		for (uint32_t s = 0; s < ql_toc_spans(toc); s++)
			if (spans_run(toc, s, 1, &x.spans, &err) < 0)
				r = -1;
		if (r == 0 && memcmp(x.spans.raw, x.tar.data, x.tar.len) != 0)
			for (uint32_t f = 0; f < ql_toc_files(toc); f++)
				if (spans_file(toc, f, &x.spans, &err) < 0)
					r = -1;
		errors += r < 0;
		ql_toc_close(toc);
		table.data[at] = (char)((uint8_t)table.data[at] ^ bit);
	}
	print_message("# %u of 60 were noticed\n", errors);
	assert_true(errors > 20);
}

static void damaged_blobs_never_give_wrong_bytes(void **state)
{
	static const enum how hows[] = { GZIP_6, GZIP_TINY_MEMBERS, ZSTD_FRAMES,
					 NONE };
	struct ql_error err = QL_ERROR_INIT;

	(void)state;
	for (size_t h = 0; h < sizeof(hows) / sizeof(hows[0]); h++) {
		_cleanup_indexed_ struct indexed x;
		struct spans_stats stats;

		indexed_init(&x, hows[h], archive_random);
		for (int i = 0; i < 10; i++) {
			size_t at = rnd((uint32_t)x.blob.len);
			int r;

			x.blob.data[at] = (char)(x.blob.data[at] ^ 1);
			r = spans_check(x.toc, &x.spans, 1, &stats, &err);
			if (r == 0) /* it hit what is no content */
				for (uint32_t f = 0; f < ql_toc_files(x.toc);
				     f++)
					assert_int_equal(spans_file(x.toc, f,
								    &x.spans,
								    &err),
							 0);
			x.blob.data[at] = (char)(x.blob.data[at] ^ 1);
		}
	}
}

/* ---- content that comes again ---- */

static void put_text(const char *dir, const char *name, const char *text)
{
	_cleanup_free_ char *path = ql_path_join(dir, name);
	FILE *f;

	assert_non_null(path);
	f = fopen(path, "w");
	assert_true(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

static void put_blob(const char *dir, const void *data, size_t len,
		     char ret_text[QL_DIGEST_TEXT + 1])
{
	char hex[QL_DIGEST_HEX + 1];
	_cleanup_free_ char *path = NULL;
	struct ql_digest d;
	FILE *f;

	assert_int_equal(ql_digest_of(data, len, &d), 0);
	path = ql_strf("%s/blobs/sha256/%s", dir, ql_digest_hex(&d, hex));
	(void)ql_digest_text(&d, ret_text);
	assert_non_null(path);
	f = fopen(path, "w");
	assert_true(f && fwrite(data, 1, len, f) == len && fclose(f) == 0);
}

/* An OCI folder (image-spec 1.1, image-layout) of one image of one layer. */
static void layout_make(const char *dir, const struct ql_buf *tar,
			const struct ql_buf *blob)
{
	char layer[QL_DIGEST_TEXT + 1], config[QL_DIGEST_TEXT + 1],
		manifest[QL_DIGEST_TEXT + 1], diff_id[QL_DIGEST_TEXT + 1];
	_cleanup_free_ char *blobs = ql_strf("%s/blobs/sha256", dir);
	_cleanup_free_ char *c = NULL, *m = NULL, *i = NULL;
	struct ql_digest d;

	assert_int_equal(ql_mkdir_p(blobs, NULL), 0);
	assert_int_equal(ql_digest_of(tar->data, tar->len, &d), 0);
	put_blob(dir, blob->data, blob->len, layer);
	c = ql_strf("{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{"
		    "\"type\":\"layers\",\"diff_ids\":[\"%s\"]}}",
		    ql_digest_text(&d, diff_id));
	put_blob(dir, c, strlen(c), config);
	m = ql_strf("{\"schemaVersion\":2,\"config\":{\"mediaType\":"
		    "\"application/vnd.oci.image.config.v1+json\",\"digest\":"
		    "\"%s\",\"size\":%zu},\"layers\":[{\"mediaType\":"
		    "\"application/vnd.oci.image.layer.v1.tar+gzip\","
		    "\"digest\":\"%s\",\"size\":%zu}]}",
		    config, strlen(c), layer, blob->len);
	put_blob(dir, m, strlen(m), manifest);
	i = ql_strf("{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":"
		    "\"application/vnd.oci.image.manifest.v1+json\","
		    "\"digest\":\"%s\",\"size\":%zu,\"annotations\":{"
		    "\"org.opencontainers.image.ref.name\":\"t\"}}]}",
		    manifest, strlen(m));
	put_text(dir, "index.json", i);
	put_text(dir, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
}

static int object_evict(const struct ql_digest *digest, uint64_t size,
			void *arg)
{
	const struct lab *lab = arg;
	char hex[QL_DIGEST_HEX + 1];
	_cleanup_free_ char *path = NULL;

	(void)size;
	(void)ql_digest_hex(digest, hex);
	path = ql_strf("%s/objects/%.2s/%s", lab->root, hex, hex + 2);
	assert_non_null(path);
	assert_true(unlink(path) == 0 || errno == ENOENT);
	return 0;
}

static int object_back(const struct ql_digest *digest, uint64_t size, void *arg)
{
	const struct lab *lab = arg;

	/* What is nothing but a hole has no piece to come. */
	if (size != 5000 && !ql_object_here(lab->store, digest))
		fail_msg("a file of %zu bytes did not come", (size_t)size);
	return 0;
}

/* Takes all of the image's objects away and lets the filler bring them. */
static void evict_and_fill(struct lab *lab, const struct ql_digest *manifest)
{
	const struct ql_fill_options options = { .background_rate =
							 UINT64_MAX };
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	_cleanup_image_info_ struct ql_image_info info = { 0 };
	struct ql_filler *filler;
	struct ql_fill_image *image;

	assert_int_equal(ql_image_get(lab->store, manifest, &info), 0);
	assert_int_equal(ql_tree_open_image(lab->store, manifest, &tree, NULL),
			 0);
	assert_int_equal(ql_tree_each_object(tree, object_evict, lab), 0);
	assert_int_equal(
		ql_filler_new(lab->store, &options, &filler, &lab->err), 0);
	assert_int_equal(ql_fill_image_open(filler, &info, &image, &lab->err),
			 0);
	ql_fill_image_rest(image);
	assert_true(ql_fill_image_here(image, 60000000000ULL));
	assert_int_equal(ql_fill_flush(filler, &lab->err), 0);
	ql_fill_image_close(image);
	ql_filler_free(filler);
	assert_int_equal(ql_tree_each_object(tree, object_back, lab), 0);
}

static void what_was_taken_away_comes_again(void **state)
{
	static const enum how hows[] = { GZIP_6, GZIP_MEMBERS, ZSTD_ONE, NONE };

	(void)state;
	for (size_t h = 0; h < sizeof(hows) / sizeof(hows[0]); h++) {
		_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(BUF_MAX);
		_cleanup_buf_ struct ql_buf blob = QL_BUF_INIT(BUF_MAX);
		const struct ql_pull_options options = {
			.platform = "linux/amd64"
		};
		_cleanup_free_ char *name = NULL, *dir = NULL;
		_cleanup_ref_ struct ql_ref ref = { 0 };
		_cleanup_lab_ struct lab lab;
		struct ql_pull_result result;

		lab_init(&lab);
		archive_make(&tar);
		compress(hows[h], &tar, &blob);
		dir = ql_strf("%s/oci", lab.root);
		name = ql_strf("oci:%s:t", dir);
		assert_true(dir && name);
		layout_make(dir, &tar, &blob);
		assert_int_equal(ql_ref_parse(name, &ref, NULL), 0);
		if (ql_pull(lab.store, &ref, &options, &result, &lab.err) < 0)
			fail_msg("%s", lab.err.text);
		evict_and_fill(&lab, &result.manifest);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_piece_is_found_in_every_codec),
		cmocka_unit_test(every_piece_of_random_archives_is_found),
		cmocka_unit_test(
			large_files_are_cut_and_others_have_their_own_digest),
		cmocka_unit_test(what_was_taken_away_comes_again),
		cmocka_unit_test(damaged_tables_never_give_wrong_bytes),
		cmocka_unit_test(damaged_blobs_never_give_wrong_bytes),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
