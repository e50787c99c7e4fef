/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a pull of all of an image fetches what is missing alone.
 *
 * To know what is missing takes the tables of contents, about a hundredth of
 * the layers' bytes: they are asked for where some version of the image is
 * here, which is likely to share files with it.  Then a layer is fetched in
 * parts where at most half of its bytes are missing.  Parts cost requests, what
 * lies between them, and for layers that are entered at few places what is
 * decoded in vain; with more than half of it missing, less than half can be
 * saved, and one stream is the faster way.
 */
#include "fetch/fetch-private.h"

#include <string.h>

enum { MISSING_MAX = 50 }; /* percent */

bool ql_share_pays(uint64_t missing, uint64_t bytes)
{
	return missing <= bytes / 100 * MISSING_MAX;
}

struct share {
	const struct ql_store *store; /* borrowed */
	uint64_t bytes, missing;
};

static int share_file(const struct ql_digest *digest, uint64_t size, void *arg)
{
	struct share *s = arg;

	s->bytes += size;
	if (!ql_object_here(s->store, digest))
		s->missing += size;
	return 0;
}

bool ql_share_tree_pays(const struct ql_store *store, const void *cfs,
			size_t len)
{
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	struct share s = { .store = store };

	return ql_tree_open_mem(cfs, len, &tree, NULL) == 0 &&
	       ql_tree_each_object(tree, share_file, &s) == 0 &&
	       ql_share_pays(s.missing, s.bytes);
}

struct repository {
	const char *name; /* borrowed; without tag */
	size_t len;
};

static int same_repository(const char *name, const struct ql_image_info *info,
			   void *arg)
{
	const struct repository *repo = arg;

	(void)info;
	return name && strncmp(name, repo->name, repo->len) == 0 &&
	       (name[repo->len] == ':' || name[repo->len] == '@');
}

bool ql_share_is_likely(struct ql_store *store, const struct ql_ref *ref)
{
	_cleanup_free_ char *name = ql_ref_repository(ref, false);
	struct repository repo = { name, name ? strlen(name) : 0 };

	return name && ql_image_each(store, same_repository, &repo, NULL) > 0;
}
