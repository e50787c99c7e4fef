/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For stories: an image composed of archives, the lowest first.
 *
 *	compose [-f FORMAT] [-t THREADS] [-m REFERENCE] [-s IMAGE] [-r FILE]
 *		[-nx] CONFIG DEST TAR...
 *
 * -m a repository that has the blobs, -x gives up their bytes before they are
 * uploaded, -s an image of the store whose tree is the same, -r its trace, -n
 * leaves the tag alone.  Everything is read back and compared.  Prints JSON.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fetch/fetch.h"

enum { LAYERS_MAX = 16, CHUNK = 64 << 10, TEXT_MAX = 16 << 20 };

struct todo {
	struct ql_push_options options;
	unsigned int threads;
	const char *mount, *store_image, *trace;
	bool no_tag, shed;
	char **tars; /* borrowed */
	size_t n;
	struct ql_blob *blobs[LAYERS_MAX]; /* owned */
	bool there[LAYERS_MAX];
};

static int tar_open(void *arg, struct ql_stream **ret_tar, struct ql_error *err)
{
	int fd = open(arg, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return ql_error_set(err, -ENOENT, "%s", (const char *)arg);
	return ql_stream_from_fd(fd, ret_tar, err);
}

/* The destination has the archive; eStargz's is longer. */
static int compare(struct ql_compose *c, const struct todo *t, size_t i,
		   struct ql_error *err)
{
	_cleanup_stream_ struct ql_stream *got = NULL;
	_cleanup_stream_ struct ql_stream *want = NULL;
	char a[CHUNK], b[CHUNK];
	bool same = t->options.format != QL_PUSH_ESTARGZ;
	ssize_t n, m;
	int r = ql_compose_read(c, t->blobs[i], &got, err);

	if (r == 0)
		r = tar_open(t->tars[i], &want, err);
	if (r < 0)
		return r;
	do {
		n = ql_stream_read_full(got, a, sizeof(a), err);
		m = same ? ql_stream_read_full(want, b, sizeof(b), err) : n;
		if (n < 0 || m < 0)
			return (int)(n < 0 ? n : m);
		if (same && (n != m || memcmp(a, b, (size_t)n) != 0))
			return ql_error_set(err, -EBADMSG, "%s differs",
					    t->tars[i]);
	} while (n > 0);
	return 0;
}

static int layers_put(struct ql_compose *c, struct todo *t,
		      struct ql_error *err)
{
	struct ql_ref mount = { 0 };
	int r = t->mount ? ql_ref_parse(t->mount, &mount, err) : 0;

	for (size_t i = 0; i < t->n && r == 0; i++) {
		r = ql_blob_write(tar_open, t->tars[i], &t->options, t->threads,
				  &t->blobs[i], err);
		if (r == 0 && t->shed)
			ql_blob_shed(t->blobs[i]);
		if (r == 0)
			r = ql_compose_blob(c, t->blobs[i],
					    t->mount ? &mount : NULL,
					    &t->there[i], err);
		if (r == 0 && i % 2)
			ql_blob_shed(t->blobs[i]);
		if (r == 0)
			r = compare(c, t, i, err);
	}
	ql_ref_release(&mount);
	return r;
}

static void print(const struct todo *t, const struct ql_compose_result *result)
{
	char text[QL_DIGEST_TEXT + 1];

	(void)printf("{\"digest\": \"%s\"",
		     ql_digest_text(&result->manifest, text));
	(void)printf(", \"config\": \"%s\", \"bytes_sent\": %llu, "
		     "\"start_size\": %llu, \"layers\": [",
		     ql_digest_text(&result->config, text),
		     (unsigned long long)result->bytes_sent,
		     (unsigned long long)result->start_size);
	for (size_t i = 0; i < t->n; i++) {
		const struct ql_blob_info *b = ql_blob_info(t->blobs[i]);

		(void)printf("%s{\"digest\": \"%s\", \"size\": %llu, "
			     "\"tar_size\": %llu, \"lazy\": %s, \"why\": %s, "
			     "\"there\": %s}",
			     i ? ", " : "", ql_digest_text(&b->digest, text),
			     (unsigned long long)b->size,
			     (unsigned long long)b->tar_size,
			     b->lazy ? "true" : "false",
			     b->why ? "true" : "false",
			     t->there[i] ? "true" : "false");
	}
	(void)printf("]}\n");
}

struct inputs {
	struct ql_buf config, trace_text; /* owned, as all these */
	struct ql_store *store;
	struct ql_tree *tree;
	struct ql_trace trace;
};

static int inputs_open(const struct todo *t, const char *config,
		       struct inputs *in, struct ql_error *err)
{
	int r = ql_read_file(AT_FDCWD, config, &in->config, err);

	if (r == 0 && t->store_image)
		r = ql_store_open(NULL, QL_STORE_WRITE, &in->store, err);
	if (r == 0 && t->store_image)
		r = ql_find_tree(in->store, t->store_image, &in->tree, err);
	if (r == 0 && t->trace)
		r = ql_read_file(AT_FDCWD, t->trace, &in->trace_text, err);
	if (r == 0 && t->trace)
		r = ql_trace_parse(ql_buf_str(&in->trace_text),
				   in->trace_text.len, &in->trace, err);
	return r;
}

static void inputs_release(struct inputs *in)
{
	ql_buf_release(&in->config);
	ql_buf_release(&in->trace_text);
	ql_trace_release(&in->trace);
	ql_tree_close(in->tree);
	ql_store_close(in->store);
}

static int image_put(struct ql_compose *c, const struct todo *t,
		     const struct inputs *in, struct ql_error *err)
{
	static const char *const by[LAYERS_MAX] = { "lower", "upper", "more" };
	static const struct ql_annotation note = { "test.note", "composed" };
	const struct ql_compose_image image = {
		.layers = (const struct ql_blob *const *)t->blobs,
		.n_layers = t->n,
		.config = ql_buf_str(&in->config),
		.config_len = in->config.len,
		.created_by = by,
		.annotations = &note,
		.n_annotations = 1,
		.store = in->store,
		.tree = in->tree,
		.trace = t->trace ? &in->trace : NULL,
	};
	struct ql_compose_result result = { 0 };
	int r = ql_compose_put(c, &image, &result, err);

	if (r == 0 && !t->no_tag)
		r = ql_compose_tag(c, err);
	if (r == 0)
		print(t, &result);
	return r;
}

static int compose(struct todo *t, const char *config, const char *dest,
		   struct ql_error *err)
{
	_cleanup_ref_ struct ql_ref ref = { 0 };
	_cleanup_(ql_compose_closep) struct ql_compose *c = NULL;
	_cleanup_(inputs_release) struct inputs in = {
		.config = QL_BUF_INIT(TEXT_MAX),
		.trace_text = QL_BUF_INIT(TEXT_MAX)
	};
	int r = inputs_open(t, config, &in, err);

	if (r == 0)
		r = ql_ref_parse(dest, &ref, err);
	if (r == 0)
		r = ql_compose_open(&ref, &t->options, &c, err);
	if (r == 0)
		r = layers_put(c, t, err);
	if (r == 0)
		r = image_put(c, t, &in, err);
	for (size_t i = 0; i < t->n; i++)
		ql_blob_free(t->blobs[i]);
	return r;
}

int main(int argc, char **argv)
{
	struct ql_error err = QL_ERROR_INIT;
	struct todo t = { .threads = 0 };
	int opt, r = 0;

	while ((opt = getopt(argc, argv, "f:t:m:s:r:nx")) != -1) {
		if (opt == 'f')
			r = ql_push_format_parse(optarg, &t.options.format,
						 &err);
		else if (opt == 't')
			t.threads = (unsigned int)strtoul(optarg, NULL, 10);
		else if (opt == 'm')
			t.mount = optarg;
		else if (opt == 's')
			t.store_image = optarg;
		else if (opt == 'r')
			t.trace = optarg;
		t.no_tag |= opt == 'n';
		t.shed |= opt == 'x';
	}
	if (argc - optind < 2 || argc - optind > LAYERS_MAX + 2)
		return 2;
	t.tars = argv + optind + 2;
	t.n = (size_t)(argc - optind - 2);
	if (r == 0)
		r = compose(&t, argv[optind], argv[optind + 1], &err);
	if (r < 0)
		(void)fprintf(stderr, "compose: %d: %s\n", r, err.text);
	return r < 0;
}
