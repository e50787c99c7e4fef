/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each published policy on a case small enough to be worked out by hand from
 * its paper; objects are letters, a request of "a" has size 1 unless said.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <string.h>

#include "store/base/base.h"
#include "store/cache/cache.h"

/* Requests each letter, and gives what is here at the end, in order. */
static void replay(struct ql_cache *c, const char *letters, char here[32])
{
	struct ql_error err = QL_ERROR_INIT;
	size_t n = 0;

	for (; *letters; letters++) {
		struct ql_cache_request req = { .id = (uint64_t)*letters,
						.size = 1,
						.cost = 1 };
		enum ql_cache_result result;
		uint64_t id;

		/* Capitals are three times as large. */
		if (*letters >= 'A' && *letters <= 'Z')
			req.size = req.cost = 3;
		assert_int_equal(ql_cache_access(c, &req, &result, &err), 0);
		while (ql_cache_victim(c, &id))
			ql_cache_evict(c, id);
		assert_null(ql_cache_check(c));
	}
	for (char l = 'A'; l <= 'z'; l++)
		if (ql_cache_has(c, (uint64_t)l))
			here[n++] = l;
	here[n] = '\0';
}

static void expect(const char *policy, uint64_t capacity, const char *letters,
		   const char *wanted)
{
	_cleanup_(ql_cache_freep) struct ql_cache *c = NULL;
	struct ql_error err = QL_ERROR_INIT;
	char here[64];

	assert_non_null(ql_cache_policy_find(policy));
	assert_int_equal(ql_cache_new(ql_cache_policy_find(policy), capacity,
				      &c, &err),
			 0);
	replay(c, letters, here);
	assert_string_equal(here, wanted);
}

static void lru_drops_the_oldest(void **state)
{
	(void)state;
	expect("lru", 3, "abcad", "acd");
	expect("lru", 3, "abcA", "A"); /* as many as its size needs */
	expect("lru", 2, "abA", "ab"); /* larger than all: not let in */
}

static void lfu_drops_the_rarest(void **state)
{
	(void)state;
	expect("lfu", 3, "aabcd", "acd");
	expect("lfu", 3, "aabbbccd", "bcd");
	/* What comes has one request, no more: c's goes for d's. */
	expect("lfu", 3, "aabbcd", "abd");
	expect("lfu", 3, "aabbcdcd", "abd");
	/* Counts are halved after 10 requests an object: a's 42, with three
	 * halvings alone and one beside b, are less than b's 21. */
	expect("lfu", 2,
	       "aaaaaaaaaaaaaaaaaaaaa"
	       "aaaaaaaaaaaaaaaaaaaaa"
	       "bbbbbbbbbbbbbbbbbbbbb"
	       "c",
	       "bc");
}

static void gdsf_inflates_and_weighs(void **state)
{
	(void)state;
	/* c goes at K = 1, then d that came at 0 + 1; L is 1 and e comes at
	 * 2, which a has too, and is older when f comes. */
	expect("gdsf", 3, "aabbcd", "abd");
	expect("gdsf", 3, "aabbcde", "abe");
	expect("gdsf", 3, "aabbcdef", "bef");
	/* By size: A (3, cost 3) has the value of a at each request, not nine
	 * times it. */
	expect("gdsf", 4, "Aaab", "ab");
	expect("gdsf", 4, "AAab", "Ab");
}

static void arc_keeps_what_came_twice(void **state)
{
	(void)state;
	/* A scan goes through T1 alone: a, b are in T2. */
	expect("arc", 4,
	       "abab"
	       "cdefgh",
	       "abgh");
	/* Fig. 4, case II: c is in B1, p = 1, so T2's last goes when T1 has
	 * no more than p. */
	expect("arc", 3,
	       "aab"
	       "cd"
	       "b"
	       "e",
	       "bde");
}

static void sieve_sifts(void **state)
{
	(void)state;
	/* The hand passes a (marked), takes b; then goes on from c, not from
	 * the tail: NSDI'24, fig. 1. */
	expect("sieve", 3, "abcad", "acd");
	expect("sieve", 3, "abcade", "ade");
	expect("sieve", 3,
	       "abcaade"
	       "f",
	       "aef");
	/* All are marked: the hand takes the marks on its way around, and the
	 * first goes, not what came after the look. */
	expect("sieve", 3, "abcabcd", "bcd");
}

static void s3fifo_quickly_demotes(void **state)
{
	(void)state;
	/* S has one of ten: those asked for once go through it, a (twice more)
	 * goes over to M. */
	expect("s3fifo", 10,
	       "aaa"
	       "bcdefghijklm",
	       "aefghijklm");
	/* Asked for once more is not enough to go over. */
	expect("s3fifo", 10,
	       "aa"
	       "bcdefghijklm",
	       "defghijklm");
	/* b is a ghost when it comes again, so it goes to M. */
	expect("s3fifo", 10,
	       "abcdefghijk"
	       "a"
	       "lmnopqrstu",
	       "amnopqrstu");
	/* Ghosts are nine, as M: a is the eleventh from the end, and begins in
	 * S again. */
	expect("s3fifo", 10,
	       "abcdefghijklmnopqrstu"
	       "a"
	       "0123456789",
	       "");
}

static void wtinylfu_refuses_one_hit_wonders(void **state)
{
	(void)state;
	/* All of main is asked for twice; what is asked for once leaves. */
	expect("wtinylfu", 4,
	       "abcd"
	       "abcd"
	       "xyz",
	       "abcd");
	/* Once it is asked for more often than the victim, it comes in. */
	expect("wtinylfu", 4,
	       "abcd"
	       "xxx",
	       "bcdx");
	/* Aggregated victims: three that were asked for once outweigh one
	 * that was asked for twice, however large. */
	expect("wtinylfu", 4,
	       "abcd"
	       "XX",
	       "abcd");
	/* At first a and b are looked at and outweigh it, then c, d and a,
	 * which go on as if asked for; the third time b, c and d do not. */
	expect("wtinylfu", 4,
	       "abcd"
	       "XXXX",
	       "X"
	       "a");
	/* As often is often enough. */
	expect("wtinylfu", 4,
	       "abcd"
	       "x",
	       "bcdx");
}

static void all_are_found_by_name(void **state)
{
	const struct ql_cache_policy *p;

	(void)state;
	for (size_t i = 0; (p = ql_cache_policy_at(i)) != NULL; i++) {
		assert_ptr_equal(ql_cache_policy_find(ql_cache_policy_name(p)),
				 p);
		assert_true(strlen(ql_cache_policy_source(p)) > 0);
	}
	assert_null(ql_cache_policy_find("fifo"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_are_found_by_name),
		cmocka_unit_test(lru_drops_the_oldest),
		cmocka_unit_test(lfu_drops_the_rarest),
		cmocka_unit_test(gdsf_inflates_and_weighs),
		cmocka_unit_test(arc_keeps_what_came_twice),
		cmocka_unit_test(sieve_sifts),
		cmocka_unit_test(s3fifo_quickly_demotes),
		cmocka_unit_test(wtinylfu_refuses_one_hit_wonders),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
