/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/cache/: invariants under random operations, and state that comes back
 * to the same decisions, for every policy; then what only ours promises.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "store/base/base.h"
#include "store/cache/cache.h"

enum { OBJECTS = 300, CAPACITY = 20000, STEPS = 4000 };

static uint64_t rng(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static struct ql_cache *make(const struct ql_cache_policy *p, uint64_t capacity)
{
	struct ql_error err = QL_ERROR_INIT;
	struct ql_cache *c = NULL;

	assert_int_equal(ql_cache_new(p, capacity, &c, &err), 0);
	return c;
}

static struct ql_cache_request draw(uint64_t *s)
{
	uint64_t n = rng(s) % OBJECTS;
	uint64_t id = 1 + n * (rng(s) % 4) / 4;

	return (struct ql_cache_request){
		.id = id,
		.size = 1 + id * 7919 % 2500,
		/* Circles too, and itself. */
		.parent = rng(s) % 3 ? 1 + (id * 31 + rng(s) % 2) % OBJECTS : 0,
		/* Of more layers than are valued at once. */
		.family = rng(s) % 5 ? id % 4 : 0,
		.cost = 1 + id * 104729 % 90000,
		.flags = (unsigned int)(rng(s) % 8 == 0 ? QL_CACHE_SCAN : 0) |
			 (unsigned int)(rng(s) % 4 == 0 ? QL_CACHE_START : 0),
	};
}

/* One random request, all its victims; a sum over all that was decided. */
static uint64_t step(struct ql_cache *c, uint64_t *s)
{
	struct ql_error err = QL_ERROR_INIT;
	struct ql_cache_request req = draw(s);
	enum ql_cache_result result;
	struct ql_cache_stats stats;
	uint64_t sum = 0;
	uint64_t id;
	uint64_t again;

	assert_int_equal(ql_cache_access(c, &req, &result, &err), 0);
	sum = (uint64_t)result;
	while (ql_cache_victim(c, &id)) {
		assert_true(ql_cache_victim(c, &again));
		assert_int_equal(id, again);
		ql_cache_evict(c, id);
		assert_false(ql_cache_has(c, id));
		sum = sum * 31 + id;
	}
	ql_cache_stats(c, &stats);
	assert_true(stats.used <= CAPACITY);
	return sum;
}

static void invariants_hold(void **state)
{
	const struct ql_cache_policy *p;

	(void)state;
	for (size_t i = 0; (p = ql_cache_policy_at(i)) != NULL; i++) {
		_cleanup_(ql_cache_freep) struct ql_cache *c =
			make(p, CAPACITY);
		uint64_t s = 88172645463325252U + i;

		for (int n = 0; n < STEPS; n++) {
			const char *wrong;

			(void)step(c, &s);
			if (rng(&s) % 50 == 0)
				ql_cache_remove(c, 1 + rng(&s) % OBJECTS);
			if (rng(&s) % 500 == 0)
				ql_cache_resize(c, 5000 + rng(&s) % 15000);
			wrong = ql_cache_check(c);
			if (wrong)
				fail_msg("%s, step %d: %s",
					 ql_cache_policy_name(p), n, wrong);
		}
	}
}

/* ---- a database of records ---- */

struct db {
	uint64_t ids[8192];
	uint8_t records[8192][QL_CACHE_RECORD];
	size_t n;
	size_t calls;
};

static int keep(uint64_t id, const uint8_t *record, void *arg)
{
	struct db *db = arg;
	size_t at = 0;

	db->calls++;
	while (at < db->n && db->ids[at] != id)
		at++;
	if (!record) {
		if (at == db->n)
			return 0;
		db->n--;
		db->ids[at] = db->ids[db->n];
		memcpy(db->records[at], db->records[db->n], QL_CACHE_RECORD);
		return 0;
	}
	assert_true(at < 8192);
	if (at == db->n)
		db->ids[db->n++] = id;
	memcpy(db->records[at], record, QL_CACHE_RECORD);
	return 0;
}

static int load(const struct ql_cache_policy *p, const struct ql_buf *head,
		const struct db *db, struct ql_cache **ret,
		struct ql_error *err)
{
	_cleanup_(ql_cache_freep) struct ql_cache *c = NULL;
	int r = ql_cache_load_start(p, head->data, head->len, &c, err);

	for (size_t n = db->n; r == 0 && n-- > 0;)
		r = ql_cache_load_record(c, db->records[n], QL_CACHE_RECORD,
					 err);
	if (r == 0)
		r = ql_cache_load_end(c, err);
	if (r == 0)
		*ret = ql_take_ptr(c);
	return r;
}

static void a_restart_changes_no_decision(void **state)
{
	const struct ql_cache_policy *p;

	(void)state;
	for (size_t i = 0; (p = ql_cache_policy_at(i)) != NULL; i++) {
		_cleanup_(ql_cache_freep) struct ql_cache *a =
			make(p, CAPACITY);
		_cleanup_(ql_cache_freep) struct ql_cache *b = NULL;
		_cleanup_buf_ struct ql_buf head = QL_BUF_INIT(1 << 20);
		_cleanup_buf_ struct ql_buf other = QL_BUF_INIT(1 << 20);
		_cleanup_free_ struct db *db = calloc(1, sizeof(*db));
		struct ql_error err = QL_ERROR_INIT;
		uint64_t s = 77172645463325252U + i;
		uint64_t t;

		assert_non_null(db);
		for (int n = 0; n < STEPS; n++) {
			(void)step(a, &s);
			if (n % 37 == 0)
				assert_int_equal(ql_cache_changes(a, keep, db),
						 0);
		}
		assert_int_equal(ql_cache_changes(a, keep, db), 0);
		assert_int_equal(ql_cache_head(a, &head), 0);
		if (load(p, &head, db, &b, &err) < 0)
			fail_msg("%s: %s", ql_cache_policy_name(p), err.text);
		assert_null(ql_cache_check(b));
		t = s;
		for (int n = 0; n < STEPS; n++)
			if (step(a, &s) != step(b, &t))
				fail_msg("%s: decision %d is another",
					 ql_cache_policy_name(p), n);
		/* And what was learned on the way is the same. */
		ql_buf_clear(&head);
		assert_int_equal(ql_cache_head(a, &head), 0);
		assert_int_equal(ql_cache_head(b, &other), 0);
		assert_int_equal(head.len, other.len);
		assert_memory_equal(head.data, other.data, head.len);
	}
}

static void a_hit_changes_few_records(void **state)
{
	const struct ql_cache_policy *p = ql_cache_policy_find("ours");
	_cleanup_(ql_cache_freep) struct ql_cache *c = make(p, CAPACITY);
	_cleanup_free_ struct db *db = calloc(1, sizeof(*db));
	uint64_t s = 99;

	(void)state;
	assert_non_null(db);
	for (int n = 0; n < STEPS; n++)
		(void)step(c, &s);
	assert_int_equal(ql_cache_changes(c, keep, db), 0);
	db->calls = 0;
	for (int n = 0; n < STEPS; n++) {
		(void)step(c, &s);
		assert_int_equal(ql_cache_changes(c, keep, db), 0);
	}
	assert_true(db->calls < 25 * (size_t)STEPS);
	db->calls = 0;
	assert_int_equal(ql_cache_changes(c, keep, db), 0);
	assert_int_equal(db->calls, 0);
}

static void bad_state_is_refused(void **state)
{
	const struct ql_cache_policy *p = ql_cache_policy_find("ours");
	_cleanup_(ql_cache_freep) struct ql_cache *a = make(p, CAPACITY);
	_cleanup_buf_ struct ql_buf head = QL_BUF_INIT(1 << 20);
	_cleanup_free_ struct db *db = calloc(1, sizeof(*db));
	struct ql_error err = QL_ERROR_INIT;
	uint64_t s = 5;

	(void)state;
	assert_non_null(db);
	for (int n = 0; n < 500; n++)
		(void)step(a, &s);
	assert_int_equal(ql_cache_changes(a, keep, db), 0);
	assert_int_equal(ql_cache_head(a, &head), 0);
	for (size_t len = 0; len < head.len; len++) {
		struct ql_cache *c = NULL;

		assert_int_equal(ql_cache_load_start(p, head.data, len, &c,
						     &err),
				 -EBADMSG);
	}
	/* Any byte may be another: refused, or a cache that is one. */
	for (int n = 0; n < 20000; n++) {
		_cleanup_(ql_cache_freep) struct ql_cache *c = NULL;
		size_t at = rng(&s) % db->n;
		uint8_t *byte = &db->records[at][rng(&s) % QL_CACHE_RECORD];
		uint8_t was = *byte;

		*byte = (uint8_t)rng(&s);
		if (load(p, &head, db, &c, &err) == 0) {
			uint64_t t = s;

			assert_null(ql_cache_check(c));
			(void)t;
		} else {
			assert_int_equal(err.code, -EBADMSG);
		}
		*byte = was;
	}
	assert_int_equal(ql_cache_load_start(ql_cache_policy_find("lru"),
					     head.data, head.len, &a, &err),
			 -EBADMSG);
}

/* ---- ours alone ---- */

static bool ask(struct ql_cache *c, uint64_t id, uint64_t parent,
		uint64_t family, uint64_t cost, unsigned int flags)
{
	struct ql_error err = QL_ERROR_INIT;
	struct ql_cache_request req = { .id = id,
					.size = 10,
					.parent = parent,
					.family = family,
					.cost = cost,
					.flags = flags };
	enum ql_cache_result result;

	assert_int_equal(ql_cache_access(c, &req, &result, &err), 0);
	return result == QL_CACHE_HIT;
}

static uint64_t next_victim(struct ql_cache *c)
{
	uint64_t id = 0;

	(void)ql_cache_next(c, &id);
	return id;
}

static void a_leaf_goes_before_its_base(void **state)
{
	_cleanup_(ql_cache_freep) struct ql_cache *c =
		make(ql_cache_policy_find("ours"), 1000);

	(void)state;
	(void)ask(c, 1, 0, 0, 10, 0);
	(void)ask(c, 2, 1, 0, 10, 0);
	(void)ask(c, 3, 2, 0, 10, 0);
	for (int n = 0; n < 5; n++)
		(void)ask(c, 3, 2, 0, 10, 0);
	assert_int_equal(next_victim(c), 3);
	ql_cache_evict(c, 3);
	assert_int_equal(next_victim(c), 2);
	ql_cache_evict(c, 2);
	assert_int_equal(next_victim(c), 1);
}

static void what_is_dear_stays(void **state)
{
	_cleanup_(ql_cache_freep) struct ql_cache *c =
		make(ql_cache_policy_find("ours"), 1000);

	(void)state;
	(void)ask(c, 1, 0, 0, 1000, 0);
	(void)ask(c, 2, 0, 0, 10, 0); /* newer, and a peer has it */
	assert_int_equal(next_victim(c), 2);
}

static void a_scan_goes_first(void **state)
{
	_cleanup_(ql_cache_freep) struct ql_cache *c =
		make(ql_cache_policy_find("ours"), 100);
	uint64_t id;

	(void)state;
	for (uint64_t n = 1; n <= 10; n++)
		(void)ask(c, n, 0, 0, 10, 0);
	for (uint64_t n = 100; n < 200; n++) {
		(void)ask(c, n, 0, 0, 10, QL_CACHE_SCAN);
		assert_true(ql_cache_victim(c, &id));
		assert_int_equal(id, n);
		ql_cache_evict(c, id);
	}
}

static void what_a_family_left_behind_goes(void **state)
{
	_cleanup_(ql_cache_freep) struct ql_cache *c =
		make(ql_cache_policy_find("ours"), 1000);

	(void)state;
	/* Family 7 has layer 1 four times, then 2 instead of it; family 8 asks
	 * for 3 less often than that, but each time. */
	for (int n = 0; n < 4; n++) {
		(void)ask(c, 1, 0, 7, 10, QL_CACHE_START);
		if (n > 0)
			(void)ask(c, 3, 0, 8, 10, QL_CACHE_START);
	}
	for (int n = 0; n < 3; n++)
		(void)ask(c, 2, 0, 7, 10, QL_CACHE_START);
	assert_int_equal(next_victim(c), 1);
}

static void held_ones_are_passed_over(void **state)
{
	const struct ql_cache_policy *p;

	(void)state;
	for (size_t i = 0; (p = ql_cache_policy_at(i)) != NULL; i++) {
		_cleanup_(ql_cache_freep) struct ql_cache *c = make(p, 100);
		uint64_t id = 0;

		for (uint64_t n = 1; n <= 10; n++) {
			(void)ask(c, n, 0, 0, 10, 0);
			assert_int_equal(ql_cache_hold(c, n), 0);
		}
		assert_false(ql_cache_next(c, &id));
		(void)ask(c, 11, 0, 0, 10, 0);
		assert_int_equal(ql_cache_hold(c, 11), 0);
		assert_false(ql_cache_victim(c, &id));
		ql_cache_release(c, 4);
		assert_true(ql_cache_victim(c, &id));
		assert_int_equal(id, 4);
		assert_int_equal(ql_cache_hold(c, 99), -ENOENT);
		assert_null(ql_cache_check(c));
	}
}

static void memory_is_bounded(void **state)
{
	_cleanup_(ql_cache_freep) struct ql_cache *c =
		make(ql_cache_policy_find("ours"), 10 * 50000);
	struct ql_cache_stats stats;
	uint64_t id;

	(void)state;
	for (uint64_t n = 1; n < 400000; n++) {
		(void)ask(c, n, 0, n / 8 + 1, 10, n % 8 ? 0 : QL_CACHE_START);
		while (ql_cache_victim(c, &id))
			ql_cache_evict(c, id);
	}
	ql_cache_stats(c, &stats);
	assert_true(stats.memory / (stats.here + stats.remembered) < 200);
	assert_true(stats.remembered < 9 * (stats.here + 1024));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(invariants_hold),
		cmocka_unit_test(a_restart_changes_no_decision),
		cmocka_unit_test(a_hit_changes_few_records),
		cmocka_unit_test(bad_state_is_refused),
		cmocka_unit_test(a_leaf_goes_before_its_base),
		cmocka_unit_test(what_is_dear_stays),
		cmocka_unit_test(a_scan_goes_first),
		cmocka_unit_test(what_a_family_left_behind_goes),
		cmocka_unit_test(held_ones_are_passed_over),
		cmocka_unit_test(memory_is_bounded),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
