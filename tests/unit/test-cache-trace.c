/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tools/cachesim/: what a trace says, broken, out of order and large; and the
 * clairvoyant bound on cases worked out by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "tools/cachesim/cachesim.h"

#define LINE(second, method, what, bytes)                                      \
	"{\"timestamp\": \"2017-06-20T00:00:" second "Z\", "                   \
	"\"http.request.method\": \"" method "\", "                            \
	"\"http.request.uri\": \"v2/org/app/" what "\", "                      \
	"\"http.request.remoteaddr\": \"c\", "                                 \
	"\"http.response.written\": " bytes "}"
#define BLOB(second, name, bytes) LINE(second, "GET", "blobs/" name, bytes)

static struct ql_tracespool *spool(const char *text, size_t len,
				   struct ql_trace_counts *counts)
{
	_cleanup_stream_ struct ql_stream *in = NULL;
	struct ql_tracespool *s = NULL;
	struct ql_error err = QL_ERROR_INIT;

	assert_int_equal(ql_stream_from_mem(text, len, &in, &err), 0);
	assert_int_equal(ql_tracespool_read(in, counts, &s, &err), 0);
	assert_int_equal(ql_tracespool_rewind(s, &err), 0);
	return s;
}

static void expect(const char *text, uint64_t requests, uint64_t broken,
		   uint64_t other)
{
	__attribute__((cleanup(
		ql_trace_counts_release))) struct ql_trace_counts counts = {
		0
	};
	_cleanup_(ql_tracespool_freep) struct ql_tracespool *s =
		spool(text, strlen(text), &counts);

	assert_int_equal(counts.requests, requests);
	assert_int_equal(counts.broken, broken);
	assert_int_equal(counts.other, other);
	assert_int_equal(counts.lines,
			 requests + broken + other + counts.pulls);
	assert_int_equal(counts.n_named,
			 broken < QL_TRACE_NAMED ? broken : QL_TRACE_NAMED);
}

static void arrays_and_lines_are_the_same(void **state)
{
	(void)state;
	expect(BLOB("00", "a", "5") "\n" BLOB("01", "b", "5") "\n", 2, 0, 0);
	expect("[" BLOB("00", "a", "5") "," BLOB("01", "b", "5") "]", 2, 0, 0);
	expect("[\n" BLOB("00", "a", "5") ",\n" BLOB("01", "b", "5") "\n]\n", 2,
	       0, 0);
	expect("", 0, 0, 0);
	expect("[]", 0, 0, 0);
}

static void what_is_no_pull_is_counted(void **state)
{
	(void)state;
	expect(LINE("00", "PUT", "blobs/uploads/x", "5")
		       LINE("00", "HEAD", "blobs/a", "5") LINE("00", "GET",
							       "tags/list", "5")
			       LINE("00", "GET", "blobs/a", "0")
				       LINE("00", "GET", "manifests/1", "5"),
	       0, 0, 4);
}

static void broken_lines_are_named_and_skipped(void **state)
{
	(void)state;
	/* Cut, followed by a whole one. */
	expect("{\"timestamp\": \"2017-0\n" BLOB("01", "b", "5"), 1, 1, 0);
	expect(BLOB("01", "b", "5") "\n{\"timestamp\": \"2017", 1, 1, 0);
	/* Neither JSON, nor an object, nor with what is needed. */
	expect("what is { this }\n" BLOB("01", "b", "5"), 1, 1, 0);
	expect("{\"a\": }\n{}\n7\n" BLOB("01", "b", "5"), 1, 3, 0);
	expect(BLOB("61", "a", "5"), 0, 1, 0);
	expect(BLOB("01", "a", "-5"), 0, 1, 0);
	expect(BLOB("01", "a", "\"5\""), 0, 1, 0);
	/* A brace in a string is none. */
	expect(BLOB("01", "}{\\\"", "5"), 1, 0, 0);
	expect("}\n}\n}\n}\n}\n}\n}\n" BLOB("01", "b", "5"), 1, 7, 0);
}

static void an_endless_object_is_bounded(void **state)
{
	size_t len = 4 << 20;
	_cleanup_free_ char *text = malloc(len + 1);

	(void)state;
	assert_non_null(text);
	memset(text, 'x', len);
	memcpy(text, "{\"", 2);
	memcpy(text + len - 400, "\n" BLOB("01", "b", "5") "\n",
	       strlen("\n" BLOB("01", "b", "5") "\n"));
	text[len] = '\0';
	/* What follows is on a line of its own, and junk after it. */
	expect(text, 1, 2, 0);
}

static void time_never_goes_back(void **state)
{
	_cleanup_buf_ struct ql_buf text = QL_BUF_INIT(8 << 20);
	__attribute__((cleanup(
		ql_trace_counts_release))) struct ql_trace_counts counts = {
		0
	};
	_cleanup_(ql_tracespool_freep) struct ql_tracespool *s = NULL;
	struct ql_trace_event ev;
	struct ql_error err = QL_ERROR_INIT;

	(void)state;
	/* Near ones are put in order; one behind 3,000 others is late. */
	assert_int_equal(ql_buf_adds(&text,
				     BLOB("02", "b", "5") BLOB("01", "a", "7")),
			 0);
	for (int n = 0; n < 3000; n++)
		assert_int_equal(ql_buf_adds(&text, BLOB("03", "c", "5")), 0);
	assert_int_equal(ql_buf_adds(&text, BLOB("00", "d", "5")), 0);
	s = spool(text.data, text.len, &counts);
	assert_int_equal(counts.late, 1);
	assert_int_equal(ql_tracespool_next(s, &ev, &err), 1);
	assert_int_equal(ev.req.size, 7);
	assert_int_equal(ev.next, UINT64_MAX);
	assert_int_equal(ql_tracespool_objects(s), 4);
	assert_int_equal(ql_tracespool_footprint(s), 22);
}

static void layers_of_a_pull_stand_on_each_other(void **state)
{
	static const char text[] = LINE("00", "GET", "manifests/1", "5")
		BLOB("01", "a", "5") BLOB("02", "b", "5") BLOB("03", "b", "9");
	__attribute__((cleanup(
		ql_trace_counts_release))) struct ql_trace_counts counts = {
		0
	};
	_cleanup_(ql_tracespool_freep) struct ql_tracespool *s =
		spool(text, strlen(text), &counts);
	struct ql_trace_event a, b, c;
	struct ql_error err = QL_ERROR_INIT;

	(void)state;
	assert_int_equal(ql_tracespool_next(s, &a, &err), 1);
	assert_int_equal(ql_tracespool_next(s, &b, &err), 1);
	assert_int_equal(ql_tracespool_next(s, &c, &err), 1);
	assert_int_equal(ql_tracespool_next(s, &c, &err), 0);
	assert_int_equal(a.req.parent, 0);
	assert_int_equal(a.req.flags, QL_CACHE_START);
	assert_int_equal(b.req.parent, a.req.id);
	assert_int_equal(b.req.flags, 0);
	assert_int_equal(b.req.family, a.req.family);
	assert_int_equal(b.next, 2);
	/* The first size is the one. */
	assert_int_equal(c.req.size, 5);
	assert_int_equal(counts.sizes, 1);
}

static void run(const char *text, const char *policy, uint64_t budget,
		struct ql_sim_result *ret)
{
	static const struct ql_sim_links links = { 8, 80, 0 };
	__attribute__((cleanup(
		ql_trace_counts_release))) struct ql_trace_counts counts = {
		0
	};
	_cleanup_(ql_tracespool_freep) struct ql_tracespool *s =
		spool(text, strlen(text), &counts);
	struct ql_error err = QL_ERROR_INIT;

	assert_int_equal(ql_sim_run(s, policy, budget, &links, ret, &err), 0);
}

static void the_bound_is_belady_by_bytes(void **state)
{
	/* a b a b c a b: with 10 bytes of a=6, b=6, what is needed last of the
	 * two stays in part (4 bytes), and c never. */
	static const char text[] = BLOB("01", "a", "6") BLOB("02", "b", "6")
		BLOB("03", "a", "6") BLOB("04", "b", "6") BLOB("05", "c", "6")
			BLOB("06", "a", "6") BLOB("07", "b", "6");
	struct ql_sim_result r;

	(void)state;
	run(text, QL_SIM_BOUND, 10, &r);
	/* a 6; b 4; then a is needed first: a 6 and b 4. */
	assert_int_equal(r.hit_bytes, 20);
	assert_int_equal(r.hits, 2);
	assert_int_equal(r.bytes, 42);
	assert_int_equal(r.fetched, 22);
	run(text, QL_SIM_BOUND, 0, &r);
	assert_int_equal(r.hit_bytes, 0);
	run(text, QL_SIM_BOUND, 100, &r);
	assert_int_equal(r.hit_bytes, 24);
	run(text, "lru", 12, &r);
	assert_int_equal(r.hit_bytes, 12);
	/* 8 Mbit/s is a byte a microsecond. */
	assert_int_equal(r.saved_ns, 12000);
	run(text, "lru", 0, &r);
	assert_int_equal(r.hits + r.evictions, 0);
}

#define OWN_HEADER "{\"quicklayer_access_log\": 1}\n"
#define HEX60 "000000000000000000000000000000000000000000000000000000000000"
#define OWN(rest)                                                              \
	"{\"time\": \"2026-11-24T18:00:00.123Z\", \"repository\": \"r/a\", "   \
	"" rest "}\n"
#define OWN_IMAGE OWN("\"image\": \"sha256:0100" HEX60 "\"")
#define OWN_LAYER(id, rest) OWN("\"layer\": \"sha256:" id HEX60 "\", " rest)

static void our_own_log_says_what_stands_on_what(void **state)
{
	static const char text[] = OWN_HEADER OWN_IMAGE OWN_LAYER(
		"0200", "\"size\": 6, \"bytes\": 3")
		OWN_LAYER("0300", "\"size\": 6, \"bytes\": 1, \"hit\": true, "
				  "\"parent\": \"sha256:0200" HEX60 "\"")
			OWN_IMAGE OWN_LAYER("0200",
					    "\"size\": 6, \"bytes\": 3");
	__attribute__((cleanup(
		ql_trace_counts_release))) struct ql_trace_counts counts = {
		0
	};
	_cleanup_(ql_tracespool_freep) struct ql_tracespool *s =
		spool(text, strlen(text), &counts);
	struct ql_trace_event a, b;
	struct ql_error err = QL_ERROR_INIT;
	struct ql_sim_result r;

	(void)state;
	assert_int_equal(ql_tracespool_next(s, &a, &err), 1);
	assert_int_equal(ql_tracespool_next(s, &b, &err), 1);
	assert_int_equal(a.req.id, 2);
	assert_int_equal(a.req.flags, QL_CACHE_START);
	assert_int_equal(b.req.parent, 2);
	assert_int_equal(b.req.flags, 0);
	assert_int_equal(ql_tracespool_footprint(s), 12);
	/* Space by size, traffic by bytes. */
	run(text, "lru", 12, &r);
	assert_int_equal(r.bytes, 7);
	assert_int_equal(r.hit_bytes, 3);
	assert_int_equal(r.fetched, 4);
	run(text, "lru", 11, &r);
	assert_int_equal(r.hit_bytes, 0);
	run(text, QL_SIM_BOUND, 4, &r); /* two thirds of it */
	assert_int_equal(r.hit_bytes, 2);
	assert_int_equal(r.fetched, 5);
}

static void our_own_log_may_be_broken(void **state)
{
	(void)state;
	expect(OWN_HEADER "{\"time\": \"2026\n" OWN_LAYER(
		       "0200", "\"size\": 6, \"bytes\": 3"),
	       1, 1, 1);
	/* Two that were put together. */
	expect(OWN_HEADER OWN_IMAGE OWN_HEADER OWN_IMAGE, 0, 0, 2);
	expect(OWN_HEADER OWN_LAYER("02", "\"size\": 6, \"bytes\": 3")
		       OWN_LAYER("0200", "\"size\": 6")
			       OWN_LAYER("0200", "\"size\": -1, \"bytes\": 3")
				       OWN_LAYER("0200",
						 "\"size\": 1, \"bytes\": 3, "
						 "\"parent\": 7")
					       OWN("\"image\": 1") "{}\n",
	       0, 6, 1);
	/* Without a header, or with a later one, it is none. */
	expect(OWN_IMAGE, 0, 1, 0);
	expect("{\"quicklayer_access_log\": 2}\n" OWN_IMAGE, 0, 2, 0);
	expect(OWN_HEADER BLOB("01", "b", "5"), 0, 1, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(arrays_and_lines_are_the_same),
		cmocka_unit_test(what_is_no_pull_is_counted),
		cmocka_unit_test(broken_lines_are_named_and_skipped),
		cmocka_unit_test(an_endless_object_is_bounded),
		cmocka_unit_test(time_never_goes_back),
		cmocka_unit_test(layers_of_a_pull_stand_on_each_other),
		cmocka_unit_test(the_bound_is_belady_by_bytes),
		cmocka_unit_test(our_own_log_says_what_stands_on_what),
		cmocka_unit_test(our_own_log_may_be_broken),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
