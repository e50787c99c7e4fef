/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A start blob's head, after decompression: it is packed again, so that its
 * digest is right.  The tables that come of what is accepted are tables.
 */
#include <stdint.h>
#include <stdlib.h>
#include <zstd.h>

#include "fetch/start-private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool true_)
{
	if (!true_)
		abort();
}

static void check(const struct ql_buf *buf)
{
	_cleanup_(ql_toc_closep) struct ql_toc *toc = NULL;

	must(ql_toc_open_mem(buf->data, buf->len, &toc, NULL) == 0);
	must(ql_toc_check(toc, NULL) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_start_ struct ql_start start = { 0 };
	struct ql_error err = QL_ERROR_INIT;
	struct ql_start_ref ref = { 0 }, again;
	char text[QL_START_REF_TEXT];
	size_t most = ZSTD_compressBound(size);
	_cleanup_free_ void *head = malloc(most);
	int r;

	if (!head)
		return 0;
	ref.head_size = ZSTD_compress(head, most, data, size, 1);
	ref.size = ref.head_size + (1 << 20);
	must(!ZSTD_isError(ref.head_size));
	must(ql_digest_of(head, ref.head_size, &ref.head) == 0);
	r = ql_start_parse(head, &ref, &start, &err);
	must(r == 0 || err.text[0] != '\0');
	if (r == 0) {
		must(start.tree_len <= size && start.config_len <= size);
		check(&start.toc);
		check(&start.hot);
	}
	must(ql_start_ref_parse(ql_start_ref_print(&ref, text), &again, NULL) ==
	     0);
	must(ql_digest_equal(&ref.head, &again.head));
	return 0;
}
