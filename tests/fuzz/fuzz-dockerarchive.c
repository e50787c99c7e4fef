/* SPDX-License-Identifier: Apache-2.0 */
/* Docker archives: opened, their manifest read and their layers with it. */
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fetch/fetch-private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { READ_MAX = 1 << 20 };

static void read_layer(struct ql_source *src, const struct ql_descriptor *d)
{
	_cleanup_stream_ struct ql_stream *blob = NULL;
	_cleanup_stream_ struct ql_stream *tar = NULL;
	struct ql_error err = QL_ERROR_INIT;
	char chunk[4096];
	size_t total = 0;
	ssize_t n;

	if (src->ops->open_blob(src, d, &blob, &err) < 0 ||
	    ql_decompress(blob, &tar, &err) < 0)
		return;
	blob = NULL;
	while (total < READ_MAX &&
	       (n = ql_stream_read(tar, chunk, sizeof(chunk), &err)) > 0)
		total += (size_t)n;
}

static void read_archive(struct ql_source *src)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_MANIFEST_MAX);
	_cleanup_manifest_ struct ql_manifest m = { 0 };
	_cleanup_free_ char *type = NULL;
	struct ql_error err = QL_ERROR_INIT;

	if (src->ops->get_manifest(src, NULL, &buf, &type, &err) < 0 ||
	    ql_manifest_parse(ql_buf_str(&buf), buf.len, &m, &err) < 0)
		return;
	for (uint32_t i = 0; i < m.n_layers; i++)
		read_layer(src, &m.layers[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct ql_ref ref = { .kind = QL_REF_DOCKER_ARCHIVE };
	_cleanup_(ql_source_freep) struct ql_source *src = NULL;
	_cleanup_close_ int fd = memfd_create("fuzz", MFD_CLOEXEC);
	struct ql_error err = QL_ERROR_INIT;

	if (fd < 0 || ql_write_full(fd, data, size) < 0)
		return 0;
	if (ql_dockerarchive_open_fd(fd, &ref, &src, &err) < 0)
		return 0;
	(void)ql_take_fd(&fd);
	read_archive(src);
	return 0;
}
