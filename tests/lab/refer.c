/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For stories: an artifact that refers to an image, put into a registry, and
 * what refers to an image, listed.
 *
 *	refer put REFERENCE DIGEST SIZE TYPE TEXT
 *	refer list REFERENCE DIGEST [TYPE]
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fetch/push-private.h"

static int put(struct ql_registry *reg, char **argv, struct ql_error *err)
{
	static const char empty[] = "{}";
	_cleanup_buf_ struct ql_buf manifest = QL_BUF_INIT(QL_MANIFEST_MAX);
	struct ql_push_blob config = { .size = 2, .data = empty, .fd = -1 };
	struct ql_push_blob text = { .size = strlen(argv[4]),
				     .data = argv[4],
				     .fd = -1 };
	struct ql_manifest_blob subject = { .media_type = QL_TYPE_MANIFEST };
	struct ql_manifest_blob blob = { .media_type = "text/plain" };
	struct ql_manifest_spec spec = {
		.artifact_type = argv[3],
		.config = { .media_type = QL_TYPE_EMPTY, .size = 2 },
		.blobs = &blob,
		.n_blobs = 1,
		.subject = &subject
	};
	bool there;
	int r = ql_digest_parse(argv[1], &subject.digest, err);

	if (r < 0)
		return r;
	subject.size = strtoull(argv[2], NULL, 10);
	(void)ql_digest_of(empty, 2, &config.digest);
	(void)ql_digest_of(argv[4], strlen(argv[4]), &text.digest);
	spec.config.digest = config.digest;
	blob.digest = text.digest;
	blob.size = text.size;
	r = ql_registry_put_blob(reg, &config, &there, err);
	if (r == 0)
		r = ql_registry_put_blob(reg, &text, &there, err);
	if (r == 0)
		r = ql_manifest_write(&spec, &manifest, err);
	return r < 0 ? r
		     : ql_registry_put_manifest(reg, NULL, QL_TYPE_MANIFEST,
						manifest.data, manifest.len,
						err);
}

static int list(struct ql_registry *reg, char **argv, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf index = QL_BUF_INIT(QL_MANIFEST_MAX);
	struct ql_digest of;
	int r = ql_digest_parse(argv[1], &of, err);

	if (r == 0)
		r = ql_registry_referrers(reg, &of, argv[2], &index, err);
	if (r == 0)
		(void)printf("%s\n", ql_buf_str(&index));
	return r;
}

int main(int argc, char **argv)
{
	struct ql_pull_options options = { 0 };
	struct ql_error err = QL_ERROR_INIT;
	_cleanup_ref_ struct ql_ref ref = { 0 };
	_cleanup_(ql_source_freep) struct ql_source *src = NULL;
	bool is_put = argc == 7 && strcmp(argv[1], "put") == 0;
	int r;

	if (!is_put && (argc < 4 || argc > 5 || strcmp(argv[1], "list") != 0)) {
		(void)fprintf(stderr, "refer: see its source\n");
		return 2;
	}
	r = ql_ref_parse(argv[2], &ref, &err);
	if (r == 0)
		r = ql_registry_open(&ref, &options, &src, &err);
	if (r == 0)
		ql_registry_may_push((struct ql_registry *)src);
	if (r == 0)
		r = is_put ? put((struct ql_registry *)src, argv + 2, &err)
			   : list((struct ql_registry *)src, argv + 2, &err);
	if (r < 0)
		(void)fprintf(stderr, "refer: %s\n", err.text);
	return r < 0;
}
