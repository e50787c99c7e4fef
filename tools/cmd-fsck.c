/* SPDX-License-Identifier: Apache-2.0 */
/* quicklayer fsck: findings one a line; exit 1 where there are any. */
#include "tools/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct findings {
	json_t *list; /* borrowed; with --json */
};

static void finding_print(const char *finding, void *arg)
{
	const struct findings *f = arg;

	size_t len = strlen(finding);
	_cleanup_free_ char *safe = NULL;

	if (f->list) {
		(void)json_array_append_new(f->list, ql_json_text(finding));
		return;
	}
	safe = ql_human_name(finding, len);
	(void)printf("%s\n", safe ? safe : "out of memory");
}

int ql_cmd_fsck(const struct ql_cli *cli, struct ql_error *err)
{
	_cleanup_(ql_store_closep) struct ql_store *store = NULL;
	_cleanup_json_ json_t *list = cli->json ? json_array() : NULL;
	struct findings f = { list };
	struct ql_fsck_stats s;
	char bytes[QL_HUMAN];
	int r = ql_store_open(cli->root, QL_STORE_READ, &store, err);

	if (r == 0)
		r = ql_store_fsck(store, finding_print, &f, &s, err);
	if (r < 0)
		return r;
	if (cli->json)
		r = ql_out_json(
			json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:O}",
				  "images", (json_int_t)s.images, "layers",
				  (json_int_t)s.layers, "objects",
				  (json_int_t)s.objects, "bytes",
				  (json_int_t)s.bytes, "unreferenced",
				  (json_int_t)s.unreferenced, "errors",
				  (json_int_t)s.errors, "findings", list),
			err);
	else
		(void)printf("%" PRIu64 " images, %" PRIu64 " layers, %" PRIu64
			     " files (%s read), %" PRIu64
			     " unreferenced: %" PRIu64 " errors\n",
			     s.images, s.layers, s.objects,
			     ql_human_bytes(s.bytes, bytes), s.unreferenced,
			     s.errors);
	if (r < 0)
		return r;
	return s.errors ? QL_EXIT_FAILED : QL_EXIT_OK;
}
