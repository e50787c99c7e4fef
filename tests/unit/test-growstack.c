/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs/growlayer.c and growstack.c: what may be said of a path while layers are
 * still being read, and that it is never taken back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "fs/grow.h"
#include "tests/unit/layers.h"

enum { LAYERS = 4 };

static struct ql_buf tar = QL_BUF_INIT(8 << 20);

struct pile {
	atomic_size_t budget;
	struct ql_growlayer *layers[LAYERS]; /* owned */
	struct ql_growpart parts[LAYERS];
	struct ql_growstack stack;
};

static void pile_init(struct pile *p, uint32_t n)
{
	memset(p, 0, sizeof(*p));
	atomic_init(&p->budget, 16 << 20);
	for (uint32_t i = 0; i < n; i++) {
		p->layers[i] = ql_growlayer_new(&p->budget);
		assert_non_null(p->layers[i]);
		p->parts[i].layer = p->layers[i];
	}
	p->stack = (struct ql_growstack){ p->parts, n };
}

static void pile_release(struct pile *p)
{
	for (int i = 0; i < LAYERS; i++)
		ql_growlayer_free(p->layers[i]);
}
#define _cleanup_pile_ __attribute__((cleanup(pile_release)))

/*
 * An entry as a word: "dir/" or "dir/750", "file=content", "link>target" (a
 * hardlink), "link@target" (a symlink).
 */
struct word {
	char path[64], rest[64];
	char type;
	unsigned int mode;
};

static struct word word_parse(const char *text)
{
	struct word w = { .type = '5', .mode = 0755 };
	size_t len = strcspn(text, "=>@");
	const char *slash = strrchr(text, '/');

	if (text[len]) {
		w.type = text[len] == '=' ? '0' : text[len] == '>' ? '1' : '2';
		w.mode = 0644;
		(void)snprintf(w.rest, sizeof(w.rest), "%s", text + len + 1);
	} else {
		tarball_must(slash);
		len = (size_t)(slash - text);
		if (slash[1])
			w.mode = (unsigned int)strtoul(slash + 1, NULL, 8);
	}
	(void)snprintf(w.path, sizeof(w.path), "%.*s", (int)len, text);
	return w;
}

static int pass(struct pile *p, uint32_t layer, const char *text)
{
	struct word w = word_parse(text);
	struct ql_tar_entry e = {
		.type = w.type, .path = w.path, .link = w.rest, .mode = w.mode
	};
	struct ql_content c = { 0 };

	if (w.type == '0') {
		c.size = strlen(w.rest);
		c.data = c.size ? (const uint8_t *)w.rest : NULL;
	}
	return ql_growlayer_add(p->layers[layer], &e, &c);
}

/* What is said: "wait", "none", "dir 755", "file CONTENT", "link TARGET". */
static const char *said(const struct pile *p, const char *path)
{
	static char text[160];
	struct ql_growfile f;
	int r = ql_growstack_find(&p->stack, path, &f);

	if (r == -EINPROGRESS)
		return "wait";
	if (r < 0)
		return r == -ENOENT || r == -ENOTDIR ? "none" : "error";
	if (S_ISDIR(f.mode))
		(void)snprintf(text, sizeof(text), "dir %o", f.mode & 07777);
	else if (S_ISLNK(f.mode))
		(void)snprintf(text, sizeof(text), "link %s", f.target);
	else
		(void)snprintf(
			text, sizeof(text), "file %.*s", (int)f.content.size,
			f.content.data ? (const char *)f.content.data : "");
	return text;
}

static void whole(struct pile *p, uint32_t layer)
{
	p->parts[layer].whole = true;
}

static void the_top_layer_is_believed_at_once(void **state)
{
	_cleanup_pile_ struct pile p;

	(void)state;
	pile_init(&p, 2);
	assert_string_equal(said(&p, "a"), "wait");
	assert_int_equal(pass(&p, 1, "a=1"), 0);
	assert_int_equal(pass(&p, 1, "d/700"), 0);
	assert_int_equal(pass(&p, 1, "s@a"), 0);
	assert_string_equal(said(&p, "a"), "file 1");
	assert_string_equal(said(&p, "d"), "dir 700");
	assert_string_equal(said(&p, "s"), "link a");
	assert_string_equal(said(&p, "a/b"), "none");
	assert_string_equal(said(&p, "d/x"), "wait");
	assert_string_equal(said(&p, "none"), "wait");
}

static void a_lower_layer_counts_when_those_above_are_whole(void **state)
{
	_cleanup_pile_ struct pile p;

	(void)state;
	pile_init(&p, 3);
	assert_int_equal(pass(&p, 0, "a=0"), 0);
	assert_int_equal(pass(&p, 0, "b=0"), 0);
	whole(&p, 0);
	assert_string_equal(said(&p, "a"), "wait");
	whole(&p, 2);
	assert_string_equal(said(&p, "a"), "wait");
	assert_int_equal(pass(&p, 1, ".wh.b="), 0);
	assert_string_equal(said(&p, "b"), "wait"); /* b may yet come */
	whole(&p, 1);
	assert_string_equal(said(&p, "a"), "file 0");
	assert_string_equal(said(&p, "b"), "none");
	assert_string_equal(said(&p, ".wh.b"), "none");
}

static void that_there_is_none_is_known_at_the_end(void **state)
{
	_cleanup_pile_ struct pile p;

	(void)state;
	pile_init(&p, 2);
	whole(&p, 1);
	assert_string_equal(said(&p, "none"), "wait");
	assert_int_equal(pass(&p, 0, "d/"), 0);
	assert_string_equal(said(&p, "d/none"), "wait");
	whole(&p, 0);
	assert_string_equal(said(&p, "none"), "none");
	assert_string_equal(said(&p, "d/none"), "none");
}

static void what_is_hidden_need_not_be_waited_for(void **state)
{
	_cleanup_pile_ struct pile p;

	(void)state;
	pile_init(&p, 2);
	assert_int_equal(pass(&p, 1, ".wh.gone="), 0);
	assert_int_equal(pass(&p, 1, "o/"), 0);
	assert_int_equal(pass(&p, 1, "o/.wh..wh..opq="), 0);
	assert_int_equal(pass(&p, 1, "f=1"), 0);
	assert_string_equal(said(&p, "gone"), "wait");
	assert_string_equal(said(&p, "o/x"), "wait");
	whole(&p, 1);
	assert_string_equal(said(&p, "gone"), "none");
	assert_string_equal(said(&p, "o/x"), "none");
	assert_string_equal(said(&p, "f/x"), "none");
}

static void a_whiteout_hides_nothing_of_its_own_layer(void **state)
{
	_cleanup_pile_ struct pile p;

	(void)state;
	pile_init(&p, 3);
	assert_int_equal(pass(&p, 2, "d/"), 0);
	whole(&p, 2);
	assert_int_equal(pass(&p, 0, "d/low=0"), 0);
	whole(&p, 0);
	assert_int_equal(pass(&p, 1, ".wh.d="), 0);
	assert_string_equal(said(&p, "d"), "dir 755");
	assert_string_equal(said(&p, "d/x"), "wait");
	assert_int_equal(pass(&p, 1, "d/x=1"), 0);
	assert_string_equal(said(&p, "d/x"), "file 1");
	assert_string_equal(said(&p, "d/low"), "wait");
	whole(&p, 1);
	assert_string_equal(said(&p, "d/low"), "none");
}

static void folders_have_the_attributes_of_who_describes_them(void **state)
{
	_cleanup_pile_ struct pile p;

	(void)state;
	pile_init(&p, 2);
	assert_string_equal(said(&p, ""), "dir 755"); /* it has to be there */
	assert_int_equal(pass(&p, 1, "usr/bin/x=1"), 0);
	assert_string_equal(said(&p, "usr"), "wait");
	assert_string_equal(said(&p, "usr/bin/x"), "file 1");
	assert_int_equal(pass(&p, 0, "usr/750"), 0);
	assert_string_equal(said(&p, "usr"), "wait"); /* 1 may describe it */
	whole(&p, 1);
	assert_string_equal(said(&p, "usr"), "dir 750");
	assert_string_equal(said(&p, "usr/bin"), "wait");
	whole(&p, 0);
	assert_string_equal(said(&p, "usr/bin"), "dir 755");
}

static void opaque_folders_may_be_described_below(void **state)
{
	_cleanup_pile_ struct pile p;

	(void)state;
	pile_init(&p, 2);
	assert_int_equal(pass(&p, 1, "o/.wh..wh..opq="), 0);
	assert_int_equal(pass(&p, 0, "o/711"), 0);
	assert_int_equal(pass(&p, 0, "o/x=0"), 0);
	whole(&p, 1);
	assert_string_equal(said(&p, "o"), "dir 711");
	assert_string_equal(said(&p, "o/x"), "none");
}

static void types_change_between_layers(void **state)
{
	_cleanup_pile_ struct pile p;

	(void)state;
	pile_init(&p, 2);
	assert_int_equal(pass(&p, 0, "a/x=0"), 0);
	assert_int_equal(pass(&p, 0, "b=0"), 0);
	assert_int_equal(pass(&p, 1, "a=1"), 0);
	assert_int_equal(pass(&p, 1, "b/"), 0);
	assert_string_equal(said(&p, "a/x"), "none");
	whole(&p, 1);
	assert_string_equal(said(&p, "b"), "dir 755");
	assert_string_equal(said(&p, "b/y"), "none"); /* 0 has b, no folder */
	whole(&p, 0);
	assert_string_equal(said(&p, "b/x"), "none");
}

static void hardlinks_lead_down(void **state)
{
	_cleanup_pile_ struct pile p;

	(void)state;
	pile_init(&p, 3);
	assert_int_equal(pass(&p, 2, "a=2"), 0);
	assert_int_equal(pass(&p, 2, "same>a"), 0);
	assert_int_equal(pass(&p, 2, "low>d/b"), 0);
	assert_int_equal(pass(&p, 2, "bad>none"), 0);
	assert_string_equal(said(&p, "same"), "file 2");
	assert_string_equal(said(&p, "low"), "wait");
	assert_int_equal(pass(&p, 1, "d/b>c"), 0);
	assert_string_equal(said(&p, "low"), "wait");
	assert_int_equal(pass(&p, 0, "c=0"), 0);
	assert_string_equal(said(&p, "low"), "file 0");
	for (uint32_t i = 0; i < 3; i++)
		whole(&p, i);
	/* No such image is accepted. */
	assert_string_equal(said(&p, "bad"), "wait");
}

static void what_is_named_again_replaces_what_was_there(void **state)
{
	_cleanup_pile_ struct pile p;

	(void)state;
	pile_init(&p, 1);
	assert_int_equal(pass(&p, 0, "d/x=1"), 0);
	assert_int_equal(pass(&p, 0, "d/700"), 0);
	assert_string_equal(said(&p, "d"), "dir 700");
	assert_string_equal(said(&p, "d/x"), "file 1");
	assert_int_equal(pass(&p, 0, "d=2"), 0);
	assert_string_equal(said(&p, "d"), "file 2");
	assert_int_equal(pass(&p, 0, "d/x=3"), -ENOTDIR);
	assert_int_equal(pass(&p, 0, "d/"), 0);
	assert_string_equal(said(&p, "d/x"), "wait");
}

static void memory_has_a_bound(void **state)
{
	_cleanup_pile_ struct pile p;
	char text[32];
	int r = 0, n = 0;

	(void)state;
	pile_init(&p, 1);
	atomic_store(&p.budget, 256 << 10);
	for (; r == 0 && n < 100000; n++) {
		(void)snprintf(text, sizeof(text), "f%d=x", n);
		r = pass(&p, 0, text);
	}
	assert_int_equal(r, -ENOMEM);
	assert_in_range(n, 100, 5000);
	assert_string_equal(said(&p, "f7"), "file x");
}

/* ---- against what the store makes of the same layers ---- */

static unsigned int seed;

static unsigned int dice(unsigned int n)
{
	seed = seed * 1103515245 + 12345;
	return (seed >> 16) % n;
}

static void to_tar(const char *text)
{
	struct word w = word_parse(text);

	tarball_add(&tar, &(struct tarball_entry){
				  .name = w.path,
				  .type = w.type,
				  .mode = w.mode,
				  .link = w.type == '1' ? w.rest : NULL,
				  .data = w.type == '0' ? w.rest : NULL,
				  .len = w.type == '0' ? strlen(w.rest) : 0,
			  });
}

/* A random path of up to three folders or files. */
static void random_path(char path[16])
{
	unsigned int depth = 1 + dice(3);

	*path = 0;
	for (unsigned int i = 0; i < depth; i++)
		(void)snprintf(path + strlen(path), 16 - strlen(path), "%s%c",
			       i ? "/" : "", 'a' + dice(3));
}

static void random_word(char text[64], int layer, int n)
{
	char path[16], other[16];

	random_path(path);
	random_path(other);
	switch (dice(dice(4) ? 4 : 7)) {
	case 0:
	case 1:
		(void)snprintf(text, 64, "%s/7%u%u", path, dice(8), dice(8));
		break;
	case 2:
		(void)snprintf(text, 64, "%.*s.wh.%s=", (int)(strlen(path) - 1),
			       path, path + strlen(path) - 1);
		break;
	case 4:
		(void)snprintf(text, 64, "%s/.wh..wh..opq=", path);
		break;
	case 5:
		(void)snprintf(text, 64, "%s>%s", path, other);
		break;
	default:
		(void)snprintf(text, 64, "%s=%d.%d", path, layer, n);
	}
}

enum { WORDS = 8 };

struct story {
	char words[LAYERS][WORDS][64];
	int n[LAYERS], at[LAYERS];
};

/* What is no name twice (nor that of a folder which has been made for another
 * entry, unless it describes it), and nothing below what is no folder. */
static bool fits(struct pile *p, uint32_t layer, const char *text,
		 const struct story *s)
{
	struct word w = word_parse(text);
	size_t len = strlen(w.path);

	for (int i = 0; i < s->n[layer]; i++) {
		struct word other = word_parse(s->words[layer][i]);

		if (strncmp(other.path, w.path, len) == 0 &&
		    (other.path[len] == 0 ||
		     (other.path[len] == '/' && w.type != '5')))
			return false;
	}
	return pass(p, layer, text) == 0;
}

/* False: the store refuses such layers. */
static bool story_write(struct lab *lab, struct story *s, int round)
{
	char name[32];

	lab_restart(lab);
	for (int i = 0; i < LAYERS; i++) {
		_cleanup_pile_ struct pile p;

		pile_init(&p, LAYERS);
		s->n[i] = s->at[i] = 0;
		for (int j = 0; j < WORDS; j++) {
			random_word(s->words[i][s->n[i]], i, j);
			if (!fits(&p, (uint32_t)i, s->words[i][s->n[i]], s))
				continue;
			to_tar(s->words[i][s->n[i]]);
			s->n[i]++;
		}
		if (lab_layer(lab, &tar) < 0)
			return false;
	}
	(void)snprintf(name, sizeof(name), "round/%d", round);
	return lab_build(lab, name) == 0;
}

static const char *in_the_end(const struct ql_tree *tree, const char *path)
{
	static char text[160];
	struct ql_content c = { 0 };
	struct ql_inode inode;
	int r = ql_tree_resolve(tree, path, false, &inode, NULL);

	if (r < 0)
		return "none";
	if (S_ISDIR(inode.mode)) {
		(void)snprintf(text, sizeof(text), "dir %o",
			       inode.mode & 07777);
		return text;
	}
	assert_int_equal(ql_tree_content(tree, &inode, &c), 0);
	(void)snprintf(text, sizeof(text), "file %.*s", (int)c.size,
		       c.data ? (const char *)c.data : "");
	return text;
}

/* Every path is said to be what it is in the end, or (before it) nothing. */
static unsigned int check_all(const struct pile *p, const struct ql_tree *tree,
			      bool ended)
{
	unsigned int waits = 0;
	char path[6] = { 0 };

	for (int i = 0; i < 3 + 9 + 27; i++) {
		int depth = i < 3 ? 1 : i < 12 ? 2 : 3, rest = i;

		for (int d = 0; d < depth; d++, rest /= 3) {
			path[2 * d] = (char)('a' + rest % 3);
			path[2 * d + 1] = d < depth - 1 ? '/' : 0;
		}
		if (!ended && strcmp(said(p, path), "wait") == 0)
			waits++;
		else
			assert_string_equal(said(p, path),
					    in_the_end(tree, path));
	}
	return waits;
}

static void story_tell(struct lab *lab, struct story *s, unsigned int *waits)
{
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	_cleanup_pile_ struct pile p;
	int left = LAYERS;

	assert_int_equal(
		ql_tree_open_image(lab->store, &lab->manifest, &tree, NULL), 0);
	pile_init(&p, LAYERS);
	while (left > 0) {
		uint32_t i = dice(LAYERS);

		if (p.parts[i].whole)
			continue;
		if (s->at[i] < s->n[i]) {
			assert_int_equal(pass(&p, i, s->words[i][s->at[i]++]),
					 0);
		} else {
			whole(&p, i);
			left--;
		}
		*waits += check_all(&p, tree, left == 0);
	}
}

static void nothing_that_is_said_is_taken_back(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct story s;
	unsigned int waits = 0;
	int told = 0;

	(void)state;
	lab_init(&lab);
	for (int round = 0; round < 30; round++) {
		seed = (unsigned int)round;
		if (!story_write(&lab, &s, round))
			continue;
		for (int again = 0; again < 5; again++) {
			memset(s.at, 0, sizeof(s.at));
			story_tell(&lab, &s, &waits);
		}
		told++;
	}
	assert_in_range(told, 8, 30);
	assert_in_range(waits, 1000, UINT32_MAX);
}

static void a_layer_of_the_store_says_the_same(void **state)
{
	static const char *const words[] = { "d/750", "d/f=1",	   "i/x=2",
					     "l>low", ".wh.gone=", "z=" };
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	_cleanup_lab_ struct lab lab;
	_cleanup_pile_ struct pile p;

	(void)state;
	lab_init(&lab);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		to_tar(words[i]);
	assert_int_equal(lab_layer(&lab, &tar), 0);
	assert_int_equal(
		ql_tree_open_layer(lab.store, &lab.layers[0], &tree, NULL), 0);
	pile_init(&p, 2);
	assert_int_equal(ql_growlayer_load(p.layers[1], tree), 0);
	whole(&p, 1);
	assert_string_equal(said(&p, "d"), "dir 750");
	assert_string_equal(said(&p, "d/f"), "file 1");
	assert_string_equal(said(&p, "z"), "file ");
	assert_string_equal(said(&p, "i"), "wait"); /* nothing describes it */
	assert_string_equal(said(&p, "l"), "wait");
	assert_int_equal(pass(&p, 0, "low=0"), 0);
	assert_int_equal(pass(&p, 0, "gone=0"), 0);
	whole(&p, 0);
	assert_string_equal(said(&p, "i"), "dir 755");
	assert_string_equal(said(&p, "l"), "file 0");
	assert_string_equal(said(&p, "gone"), "none");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_top_layer_is_believed_at_once),
		cmocka_unit_test(
			a_lower_layer_counts_when_those_above_are_whole),
		cmocka_unit_test(that_there_is_none_is_known_at_the_end),
		cmocka_unit_test(what_is_hidden_need_not_be_waited_for),
		cmocka_unit_test(a_whiteout_hides_nothing_of_its_own_layer),
		cmocka_unit_test(
			folders_have_the_attributes_of_who_describes_them),
		cmocka_unit_test(opaque_folders_may_be_described_below),
		cmocka_unit_test(types_change_between_layers),
		cmocka_unit_test(hardlinks_lead_down),
		cmocka_unit_test(what_is_named_again_replaces_what_was_there),
		cmocka_unit_test(memory_has_a_bound),
		cmocka_unit_test(nothing_that_is_said_is_taken_back),
		cmocka_unit_test(a_layer_of_the_store_says_the_same),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
