/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quicklayer diff: two root filesystems, entry by entry; exit 0 where they
 * are the same, 1 where not.  An operand that begins with '/' or '.' is a
 * folder, anything else an image.
 */
#include "tools/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "refactor/refactor.h"

struct diff_out {
	const struct ql_cli *cli; /* borrowed */
	json_t *list;		  /* borrowed; with --json */
};

static int diff_add(json_t *list, const struct ql_difference *d)
{
	json_t *o = json_pack("{s:o, s:o, s:o, s:o}", "path",
			      ql_json_text(d->path), "what",
			      ql_json_text(d->what), "a", ql_json_text(d->a),
			      "b", ql_json_text(d->b));

	return json_array_append_new(list, o) < 0 ? -ENOMEM : 0;
}

static int diff_print(const struct ql_difference *d, void *arg)
{
	const struct diff_out *out = arg;
	const char *texts[] = { d->path, d->what, d->a ? d->a : "-",
				d->b ? d->b : "-" };
	/* An xattr's values come escaped already. */
	size_t raw = strncmp(d->what, "xattr ", 6) == 0 ? 2 : 4;

	if (out->cli->brief)
		return 0;
	if (out->list)
		return diff_add(out->list, d);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		_cleanup_free_ char *safe =
			i < raw ? ql_human_name(texts[i], strlen(texts[i]))
				: strdup(texts[i]);

		if (!safe)
			return -ENOMEM;
		(void)printf("%s%s", i == 0 ? "" : i < 3 ? ": " : ", ", safe);
	}
	(void)putchar('\n');
	return 0;
}

struct diff_side {
	struct ql_tree *tree; /* owned; images */
	struct ql_root *root; /* owned */
};

static void diff_side_release(struct diff_side *side)
{
	ql_root_free(side->root);
	ql_tree_close(side->tree);
}

static int diff_open(const struct ql_cli *cli, struct ql_store **store,
		     const char *operand, struct diff_side *side,
		     struct ql_error *err)
{
	int r = 0;

	if (operand[0] == '/' || operand[0] == '.')
		return ql_root_from_dir(operand, &side->root, err);
	if (!*store)
		r = ql_store_open(cli->root, QL_STORE_READ, store, err);
	if (r == 0)
		r = ql_find_tree(*store, operand, &side->tree, err);
	if (r == 0)
		r = ql_root_from_tree(side->tree, &side->root, err);
	return r;
}

int ql_cmd_diff(const struct ql_cli *cli, struct ql_error *err)
{
	_cleanup_(ql_store_closep) struct ql_store *store = NULL;
	_cleanup_(diff_side_release) struct diff_side a = { 0 };
	_cleanup_(diff_side_release) struct diff_side b = { 0 };
	_cleanup_json_ json_t *list = cli->json ? json_array() : NULL;
	struct diff_out out = { cli, list };
	uint64_t count;
	int r = diff_open(cli, &store, cli->argv[0], &a, err);

	if (r == 0)
		r = diff_open(cli, &store, cli->argv[1], &b, err);
	if (r == 0)
		r = ql_root_compare(a.root, b.root, 0, diff_print, &out, &count,
				    err);
	if (r == 0 && cli->json)
		r = ql_out_json(ql_take_ptr(list), err);
	if (r < 0)
		return r;
	return count ? QL_EXIT_FAILED : QL_EXIT_OK;
}
