/* SPDX-License-Identifier: Apache-2.0 */
/* For tests: a store with two images that share a layer, and a file by its
 * content. */
#ifndef QL_TEST_TWOIMAGES_H
#define QL_TEST_TWOIMAGES_H

#include "tests/unit/layers.h"

static char big[100]; /* more than is kept inside of a tree */

static inline void add_big(struct ql_buf *tar, const char *name, char fill)
{
	memset(big, fill, sizeof(big));
	tarball_add(tar, &(struct tarball_entry){ .name = name,
						  .type = '0',
						  .data = big,
						  .len = sizeof(big) });
}

static inline struct ql_digest big_digest(char fill)
{
	struct ql_digest d;

	memset(big, fill, sizeof(big));
	tarball_must(ql_digest_of(big, sizeof(big), &d) == 0);
	return d;
}

/* Images "one" (layers s, a) and "two" (layers s, b); "shared" is in a and b
 * by content, too.  Returns their manifests. */
static inline void two_images(struct lab *lab, struct ql_digest manifests[2])
{
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(1 << 20);
	struct ql_digest base;

	lab_init(lab);
	add_big(&tar, "base", 's');
	tarball_must(lab_layer(lab, &tar) == 0);
	base = lab->layers[0];
	add_big(&tar, "one", '1');
	add_big(&tar, "shared-in-one", 'x');
	tarball_must(lab_layer(lab, &tar) == 0);
	tarball_must(lab_build(lab, "one") == 0);
	manifests[0] = lab->manifest;
	lab_restart(lab);
	lab->layers[lab->n++] = base;
	add_big(&tar, "two", '2');
	add_big(&tar, "shared-in-two", 'x');
	tarball_must(lab_layer(lab, &tar) == 0);
	tarball_must(lab_build(lab, "two") == 0);
	manifests[1] = lab->manifest;
}

#endif
