/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of what goes when room is needed: images of layers of a megabyte or
 * so, whose content is named by a number, and that come as a fill brings them.
 * Include cmocka.h before it.
 */
#ifndef QL_TEST_EVICTLAB_H
#define QL_TEST_EVICTLAB_H

#include "store/keep-private.h"
#include "tests/unit/layers.h"

enum { BIG = 1 << 20 };

/* Content of a megabyte that is like no other's. */
static inline const char *noise(unsigned int seed)
{
	static char data[BIG];
	uint32_t x = seed * 2654435761U + 1;

	for (size_t i = 0; i < sizeof(data); i++) {
		x = x * 1664525 + 1013904223;
		data[i] = (char)(x >> 24);
	}
	return data;
}

static inline struct ql_digest noise_digest(unsigned int seed)
{
	struct ql_digest d;

	tarball_must(ql_digest_of(noise(seed), BIG, &d) == 0);
	return d;
}

static inline void add_noise(struct ql_buf *tar, const char *name,
			     unsigned int seed)
{
	tarball_add(tar, &(struct tarball_entry){ .name = name,
						  .type = '0',
						  .data = noise(seed),
						  .len = BIG });
}

/* A layer with a table of contents, of which nothing but that comes. */
static inline int lazy_layer_try(struct lab *lab, const char *name,
				 const unsigned int *seeds, size_t n)
{
	_cleanup_(ql_draft_freep) struct ql_draft *draft = NULL;
	struct ql_layer_info info = { 0 };
	struct ql_digest blob;
	uint64_t at = 0;
	int r;

	tarball_must(ql_digest_of(name, strlen(name), &info.diff_id) == 0);
	tarball_must(ql_digest_of(name + 1, strlen(name) - 1, &blob) == 0);
	r = ql_draft_new(lab->store, &blob, (n + 1) * BIG, QL_CODEC_NONE,
			 &draft, &lab->err);
	for (size_t i = 0; i < n && r == 0; i++) {
		struct ql_digest content = noise_digest(seeds[i]);
		_cleanup_free_ char *path = ql_strf("%s-%zu", name, i);
		struct ql_tar_entry e = {
			.type = '0', .path = path, .mode = 0644, .size = BIG
		};
		struct ql_place place = { .len = BIG,
					  .whole = true,
					  .blob_offset = at,
					  .blob_len = BIG };
		char none[1] = "";

		e.link = none;
		tarball_must(path);
		r = ql_draft_entry(draft, &e, &content, &lab->err);
		if (r == 0)
			r = ql_draft_place(draft, &place, &lab->err);
		at += BIG;
	}
	if (r == 0)
		r = ql_draft_commit(draft, &info, &lab->err);
	if (r == 0)
		lab->layers[lab->n++] = info.diff_id;
	return r;
}

static inline void lazy_layer(struct lab *lab, const char *name,
			      const unsigned int *seeds, size_t n)
{
	tarball_must(lazy_layer_try(lab, name, seeds, n) == 0);
}

static inline void come(struct lab *lab, unsigned int seed)
{
	struct ql_digest d;

	tarball_must(ql_object_put(lab->store, noise(seed), BIG, NULL, &d,
				   &lab->err) == 0);
}

static inline bool is_here(struct lab *lab, unsigned int seed)
{
	struct ql_digest d = noise_digest(seed);

	return ql_object_here(lab->store, &d);
}

/* An image of layers of a file each, that has come. */
static inline struct ql_digest image(struct lab *lab, const char *name,
				     const unsigned int *seeds, size_t n)
{
	lab_restart(lab);
	for (size_t i = 0; i < n; i++) {
		_cleanup_free_ char *layer = ql_strf("layer %u", seeds[i]);
		struct ql_layer_info info;
		struct ql_digest id;

		tarball_must(layer &&
			     ql_digest_of(layer, strlen(layer), &id) == 0);
		if (ql_layer_get(lab->store, &id, &info) == 0)
			lab->layers[lab->n++] = id;
		else
			lazy_layer(lab, layer, &seeds[i], 1);
		come(lab, seeds[i]);
	}
	tarball_must(lab_build(lab, name) == 0);
	return lab->manifest;
}

static inline uint32_t layer_flags(struct lab *lab, unsigned int seed)
{
	_cleanup_free_ char *layer = ql_strf("layer %u", seed);
	struct ql_layer_info info;
	struct ql_digest id;

	tarball_must(layer && ql_digest_of(layer, strlen(layer), &id) == 0);
	return ql_layer_get(lab->store, &id, &info) < 0 ? 0 : info.flags;
}

static inline void no_finding(const char *finding, void *arg)
{
	print_message("%s\n", finding);
	++*(int *)arg;
}

static inline void is_sound(struct lab *lab)
{
	struct ql_fsck_stats stats;
	int findings = 0;

	assert_int_equal(ql_store_fsck(lab->store, no_finding, &findings,
				       &stats, &lab->err),
			 0);
	assert_int_equal(findings, 0);
}

static inline void limit(struct lab *lab, uint64_t budget)
{
	assert_int_equal(ql_space_limits(lab->store, budget, 0, &lab->err), 0);
}

/* Takes what is used, and so much more than the budget leaves. */
static inline int squeeze(struct lab *lab, uint64_t bytes,
			  struct ql_keep_stats *stats)
{
	struct ql_space space;

	assert_int_equal(ql_space_recount(lab->store, &space, &lab->err), 0);
	return ql_keep_make_room(
		lab->store, space.budget - space.margin - space.used + bytes,
		stats, &lab->err);
}

static const unsigned int ONE[] = { 1, 2 }, TWO[] = { 1, 3 }, THREE[] = { 4 };

static inline void two_and_one(struct lab *lab, struct ql_digest m[3])
{
	static const char *const names[] = { "one", "two", "three" };

	lab_init(lab);
	limit(lab, 64 << 20);
	m[0] = image(lab, names[0], ONE, 2);
	m[1] = image(lab, names[1], TWO, 2);
	m[2] = image(lab, names[2], THREE, 1);
	for (int i = 0; i < 3; i++)
		assert_int_equal(ql_keep_access(lab->store, &m[i], names[i], 0,
						&lab->err),
				 0);
}

static inline void reopen(struct lab *lab)
{
	ql_store_close(lab->store);
	lab->store = NULL;
	tarball_must(ql_store_open(lab->root, QL_STORE_WRITE, &lab->store,
				   NULL) == 0 &&
		     lab->store);
}

#endif
