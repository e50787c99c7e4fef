/* SPDX-License-Identifier: Apache-2.0 */
/* A blob that comes over many connections is read as one that came by one. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "tests/unit/fill.h"

enum { SIZE = 3000001, FIRST = 100001 };
#define FAR_NS 60000000ULL

struct spooled {
	struct fill_lab lab; /* of it, the folder and a store */
	struct ql_ref ref;
	struct ql_source *src;
	struct ql_descriptor d;
	char *data;
};

static int begin(void **state)
{
	struct spooled *t = calloc(1, sizeof(*t));
	_cleanup_free_ char *text = NULL, *dir = NULL;

	assert_non_null(t);
	lab_init(&t->lab.to);
	(void)snprintf(t->lab.oci, sizeof(t->lab.oci), "%s/oci",
		       t->lab.to.root);
	dir = ql_strf("%s/blobs/sha256", t->lab.oci);
	assert_int_equal(ql_mkdir_p(dir, NULL), 0);
	t->data = malloc(SIZE);
	assert_non_null(t->data);
	fill_content(t->data, SIZE, 5);
	fill_put_blob(&t->lab, t->data, SIZE, &t->d.digest);
	t->d.size = SIZE;
	text = ql_strf("oci:%s", t->lab.oci);
	assert_int_equal(ql_ref_parse(text, &t->ref, NULL), 0);
	assert_int_equal(ql_ocidir_open(&t->ref, &t->src, NULL), 0);
	*state = t;
	return 0;
}

static int end(void **state)
{
	struct spooled *t = *state;

	ql_source_free(t->src);
	ql_ref_release(&t->ref);
	lab_release(&t->lab.to);
	free(t->data);
	free(t);
	return 0;
}

static struct ql_spool *spool(struct spooled *t, uint64_t first, uint64_t size,
			      uint64_t rtt)
{
	struct ql_spool *s;

	assert_int_equal(ql_spool_new(t->lab.to.store, t->src, &t->d, first,
				      size, rtt, &s, NULL),
			 0);
	return s;
}

static void check(struct spooled *t, struct ql_spool *s, uint64_t from,
		  uint64_t to)
{
	static char buf[70000];

	while (from < to) {
		size_t want = to - from < sizeof(buf) ? (size_t)(to - from)
						      : sizeof(buf);
		ssize_t n = ql_spool_read(s, buf, want, from, NULL);

		assert_in_range(n, 1, want);
		assert_memory_equal(buf, t->data + from, (size_t)n);
		from += (uint64_t)n;
	}
}

static void all_of_it_is_read(void **state)
{
	static const uint64_t firsts[] = { 0, 1, FIRST, SIZE, SIZE + 9ULL };
	struct spooled *t = *state;

	for (size_t i = 0; i < sizeof(firsts) / sizeof(firsts[0]); i++) {
		struct ql_spool *s = spool(t, firsts[i], SIZE, FAR_NS);
		char c;

		check(t, s, SIZE - 10, SIZE);
		check(t, s, 0, SIZE);
		assert_int_equal(ql_spool_read(s, &c, 1, SIZE, NULL), 0);
		assert_int_equal(ql_spool_received(s), SIZE);
		assert_true(ql_spool_ended(s));
		ql_spool_free(s);
	}
}

static void a_part_of_it_is_read(void **state)
{
	struct spooled *t = *state;
	struct ql_spool *s = spool(t, FIRST, FIRST, 0);

	check(t, s, 0, FIRST);
	assert_int_equal(ql_spool_received(s), FIRST);
	ql_spool_free(s);
}

static void a_stream_ends_where_it_should(void **state)
{
	struct spooled *t = *state;
	struct ql_spool *s = spool(t, FIRST, SIZE, FAR_NS);
	struct ql_stream *in;
	static char buf[SIZE];

	assert_int_equal(ql_spool_stream(s, 1000, 50000, &in, NULL), 0);
	assert_int_equal(ql_stream_read_full(in, buf, SIZE, NULL), 50000);
	assert_memory_equal(buf, t->data + 1000, 50000);
	ql_stream_free(in);
	ql_spool_free(s);
}

static void one_that_is_not_used_is_freed(void **state)
{
	struct spooled *t = *state;

	ql_spool_free(spool(t, 0, SIZE, FAR_NS));
}

static void a_short_blob_is_an_error(void **state)
{
	struct spooled *t = *state;
	struct ql_error err = QL_ERROR_INIT;
	struct ql_spool *s;
	char c;

	t->d.size = SIZE + 100000;
	s = spool(t, 0, SIZE + 100000, 0);
	assert_int_equal(ql_spool_read(s, &c, 1, SIZE + 50000, &err),
			 -ECONNRESET);
	assert_string_equal(err.text, "the blob ends early");
	assert_true(ql_spool_ended(s));
	ql_spool_free(s);
}

static void a_blob_that_is_not_there_is_an_error(void **state)
{
	struct spooled *t = *state;
	struct ql_spool *s;
	char c;

	t->d.digest.bytes[0] ^= 1;
	s = spool(t, 0, SIZE, FAR_NS);
	assert_int_equal(ql_spool_read(s, &c, 1, 0, NULL), -ENOENT);
	assert_int_equal(ql_spool_received(s), 0);
	ql_spool_free(s);
}

static void connections_are_for_what_is_far_and_large(void **state)
{
	(void)state;
	assert_int_equal(ql_spool_connections(0, 0), 1);
	assert_int_equal(ql_spool_connections(FAR_NS, 0), 1);
	assert_in_range(ql_spool_connections(FAR_NS, 10 << 20),
			ql_spool_connections(0, 10 << 20) + 1,
			QL_SPOOL_CONNECTIONS);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(all_of_it_is_read),
		TEST(a_part_of_it_is_read),
		TEST(a_stream_ends_where_it_should),
		TEST(one_that_is_not_used_is_freed),
		TEST(a_short_blob_is_an_error),
		TEST(a_blob_that_is_not_there_is_an_error),
		TEST(connections_are_for_what_is_far_and_large),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
