/* SPDX-License-Identifier: Apache-2.0 */
/* What a node tells of itself: to who is trusted all, to others what anybody
 * may have; and when that changes. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "fetch/peer-private.h"
#include "fetch/peerfilter.h"
#include "tests/unit/layers.h"

enum { SIZE = 5000 };

/* Two images of two layers each, the lower one the same, each upper one with a
 * file of its own that hides one of the lower. */
struct summaries {
	struct lab lab;
	struct ql_digest open, secret; /* images */
	struct ql_digest layers[3];    /* shared, open's, secret's */
	struct ql_peers *peers;
};

static void content(char c, char data[SIZE])
{
	memset(data, c, SIZE);
}

static struct ql_digest object(char c)
{
	char data[SIZE];
	struct ql_digest d;

	content(c, data);
	assert_int_equal(ql_digest_of(data, SIZE, &d), 0);
	return d;
}

static void add(struct ql_buf *tar, const char *name, char c)
{
	char data[SIZE];
	struct tarball_entry e = { .name = name, .type = '0', .mode = 0644 };

	content(c, data);
	e.data = data;
	e.len = SIZE;
	tarball_add(tar, &e);
}

static void peers_new(struct summaries *t, enum ql_peer_share share)
{
	const struct ql_peers_options options = { .name = "node",
						  .site = "here",
						  .share = share };

	ql_peers_free(t->peers);
	assert_int_equal(ql_peers_new(t->lab.store, &options, &t->peers, NULL),
			 0);
}

static int begin(void **state)
{
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(1 << 20);
	struct summaries *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	lab_init(&t->lab);
	add(&tar, "both", 'b');
	add(&tar, "hidden", 'h');
	assert_int_equal(lab_layer(&t->lab, &tar), 0);
	add(&tar, "hidden", 'o');
	assert_int_equal(lab_layer(&t->lab, &tar), 0);
	assert_int_equal(lab_build(&t->lab, "open"), 0);
	t->open = t->lab.manifest;
	t->layers[0] = t->lab.layers[0];
	t->layers[1] = t->lab.layers[1];
	t->lab.n = 1;
	add(&tar, "hidden", 's');
	assert_int_equal(lab_layer(&t->lab, &tar), 0);
	assert_int_equal(lab_build(&t->lab, "secret"), 0);
	t->secret = t->lab.manifest;
	t->layers[2] = t->lab.layers[1];
	assert_int_equal(ql_image_set_anonymous(t->lab.store, &t->open, NULL),
			 0);
	peers_new(t, QL_PEER_SHARE_ANONYMOUS);
	*state = t;
	return 0;
}

static int end(void **state)
{
	struct summaries *t = *state;

	ql_peers_free(t->peers);
	lab_release(&t->lab);
	free(t);
	return 0;
}

/* Of b(oth), h(idden), o(pen's), s(ecret's) and n(one's), those that anybody
 * may have, and of their filter, those that are in it. */
static void shares(struct summaries *t, bool trusted, const char *expect)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_FILTER_MAX);
	_cleanup_filter_ struct ql_filter filter = { 0 };
	bool all = trusted || t->peers->options.share == QL_PEER_SHARE_ALL;
	char may[8] = "", in[8] = "";

	assert_int_equal(ql_peers_filter(t->peers, trusted, &buf, NULL), 0);
	assert_int_equal(ql_filter_parse(buf.data, buf.len, &filter, NULL), 0);
	for (const char *c = "bhosn"; *c; c++) {
		struct ql_digest d = object(*c);

		if (ql_peers_may_share(t->peers, &d, trusted))
			may[strlen(may)] = *c;
		if (ql_filter_has(&filter, &d))
			in[strlen(in)] = *c;
	}
	/* Who is trusted may have anything, if it is here. */
	assert_string_equal(may, all ? "bhosn" : expect);
	assert_string_equal(in, expect);
}

static void shares_what_was_had_without_credentials(void **state)
{
	struct summaries *t = *state;
	struct ql_digest none = object('n');

	shares(t, true, "bhos");
	/* Also what is hidden: it is of the layer. */
	shares(t, false, "bho");
	assert_false(ql_peers_may_share(t->peers, &none, false));
	assert_true(ql_peers_may_share(t->peers, &t->open, false));
	assert_false(ql_peers_may_share(t->peers, &t->secret, false));
	assert_true(ql_peers_may_share(t->peers, &t->secret, true));
	for (int i = 0; i < 3; i++)
		assert_int_equal(ql_peers_may_share(t->peers, &t->layers[i],
						    false),
				 i < 2);
}

static void shares_as_it_is_told(void **state)
{
	struct summaries *t = *state;

	peers_new(t, QL_PEER_SHARE_ALL);
	shares(t, false, "bhos");
	shares(t, true, "bhos");
	peers_new(t, QL_PEER_SHARE_NONE);
	shares(t, false, "");
	shares(t, true, "bhos");
	assert_false(ql_peers_may_share(t->peers, &t->open, false));
}

static void shares_what_comes_later(void **state)
{
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(1 << 20);
	struct summaries *t = *state;
	struct ql_digest secret = object('s'), later = object('l');

	assert_false(ql_peers_may_share(t->peers, &secret, false));
	assert_int_equal(ql_image_set_anonymous(t->lab.store, &t->secret, NULL),
			 0);
	(void)usleep(1100000);
	assert_true(ql_peers_may_share(t->peers, &secret, false));
	t->lab.n = 0;
	add(&tar, "later", 'l');
	assert_int_equal(lab_layer(&t->lab, &tar), 0);
	assert_int_equal(lab_build(&t->lab, "later"), 0);
	assert_int_equal(ql_image_set_anonymous(t->lab.store, &t->lab.manifest,
						NULL),
			 0);
	assert_false(ql_peers_may_share(t->peers, &later, false));
	(void)usleep(1100000);
	assert_true(ql_peers_may_share(t->peers, &later, false));
	assert_true(ql_peers_may_share(t->peers, &secret, false));
}

/* Most of the images go: what they had is not remembered for ever. */
static void forgets_what_went(void **state)
{
	struct summaries *t = *state;
	struct ql_remove_stats stats;
	struct ql_digest open = object('o');

	assert_true(ql_peers_may_share(t->peers, &open, false));
	assert_int_equal(ql_image_remove(t->lab.store, "open", &t->open, &stats,
					 NULL),
			 0);
	(void)usleep(1100000);
	assert_false(ql_peers_may_share(t->peers, &open, false));
}

static bool list_has(const json_t *list, const struct ql_digest *digest)
{
	char text[QL_DIGEST_TEXT + 1];
	size_t i;
	json_t *item;

	(void)ql_digest_text(digest, text);
	json_array_foreach (list, i, item)
		if (strcmp(json_string_value(item), text) == 0)
			return true;
	return false;
}

static void summary(struct summaries *t, bool trusted)
{
	_cleanup_json_ json_t *s = NULL;
	const json_t *images, *layers;

	assert_int_equal(ql_peers_summary(t->peers, trusted, &s, NULL), 0);
	images = json_object_get(s, "images");
	layers = json_object_get(s, "layers");
	assert_string_equal(ql_json_opt_string(s, "kind", ""), "NodeSummary");
	assert_string_equal(ql_json_opt_string(s, "name", ""), "node");
	assert_string_equal(ql_json_opt_string(s, "site", ""), "here");
	assert_true(json_integer_value(json_object_get(s, "generation")) ==
		    (json_int_t)ql_peers_generation(t->peers));
	assert_int_equal(json_array_size(images), trusted ? 2 : 1);
	assert_int_equal(json_array_size(layers), trusted ? 3 : 2);
	assert_true(list_has(images, &t->open));
	assert_int_equal(list_has(images, &t->secret), trusted);
	assert_true(list_has(layers, &t->layers[0]));
	assert_true(list_has(layers, &t->layers[1]));
	assert_int_equal(list_has(layers, &t->layers[2]), trusted);
}

static void tells_what_is_here(void **state)
{
	struct summaries *t = *state;

	summary(t, true);
	summary(t, false);
}

static void generation_changes_with_what_is_here(void **state)
{
	struct summaries *t = *state;
	uint64_t first = ql_peers_generation(t->peers), second, third;
	char data[SIZE];
	struct ql_digest d;

	assert_in_range(first, 1, (UINT64_C(1) << 53) - 1);
	(void)usleep(3100000);
	assert_int_equal(ql_peers_generation(t->peers), first);
	/* An object that the filler gave its name. */
	content('n', data);
	assert_int_equal(
		ql_object_put(t->lab.store, data, SIZE, NULL, &d, NULL), 0);
	assert_int_equal(ql_peers_generation(t->peers), first);
	(void)usleep(3100000);
	second = ql_peers_generation(t->peers);
	assert_int_not_equal(second, first);
	shares(t, true, "bhosn");
	shares(t, false, "bho");
	assert_int_equal(ql_image_set_anonymous(t->lab.store, &t->secret, NULL),
			 0);
	(void)usleep(3100000);
	third = ql_peers_generation(t->peers);
	assert_int_not_equal(third, second);
	shares(t, false, "bhos");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(shares_what_was_had_without_credentials),
		TEST(shares_as_it_is_told),
		TEST(shares_what_comes_later),
		TEST(forgets_what_went),
		TEST(tells_what_is_here),
		TEST(generation_changes_with_what_is_here),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
