/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs/peer-range.c, peer-rate.c, peer-batch.c, store/base/net.c: what other
 * nodes ask for, who they are, and how fast they are answered, without any
 * node.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "fs/peer.h"

#define SECOND ((uint64_t)1000000000)

/* ---- ranges ---- */

static void range(const char *header, enum ql_peer_range_kind kind,
		  uint64_t offset, uint64_t len)
{
	struct ql_peer_range r;

	ql_peer_range_parse(header, &r);
	if (r.kind != kind || r.offset != offset || r.len != len)
		fail_msg("%s: %d %" PRIu64 " %" PRIu64, header, (int)r.kind,
			 r.offset, r.len);
}

static void one_range_is_taken(void **state)
{
	(void)state;
	range("bytes=0-0", QL_PEER_RANGE_FROM, 0, 1);
	range("bytes=10-19", QL_PEER_RANGE_FROM, 10, 10);
	range("Bytes= 10-19 ", QL_PEER_RANGE_FROM, 10, 10);
	range("bytes=10-", QL_PEER_RANGE_FROM, 10, UINT64_MAX);
	range("bytes=-7", QL_PEER_RANGE_LAST, 0, 7);
	range("bytes=-0", QL_PEER_RANGE_LAST, 0, 0);
	/* Behind every end. */
	range("bytes=99999999999999999999-", QL_PEER_RANGE_FROM, UINT64_MAX,
	      UINT64_MAX);
	range("bytes=0-18446744073709551615", QL_PEER_RANGE_FROM, 0,
	      UINT64_MAX);
	range("bytes=1-99999999999999999999999", QL_PEER_RANGE_FROM, 1,
	      UINT64_MAX);
}

static void what_is_no_range_is_none(void **state)
{
	static const char *const none[] = {
		"",
		"bytes",
		"bytes=",
		"bytes=-",
		"bytes=a-b",
		"bytes=5-4",
		"bytes=1-2,",
		"bytes=1-2,4-5",
		"bytes=,1-2",
		"lines=1-2",
		"bytes:1-2",
		"bytes=1",
		"bytes=+1-2",
		"bytes=1-+2",
		"bytes=--1",
		"bytes=0x1-2",
		"bytes=1-2 3",
		"byte=1-2",
		"bytes=1 -2",
		"bytes =1-2",
	};

	(void)state;
	range(NULL, QL_PEER_RANGE_NONE, 0, UINT64_MAX);
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		range(none[i], QL_PEER_RANGE_NONE, 0, UINT64_MAX);
}

static void tags_are_compared(void **state)
{
	(void)state;
	assert_true(ql_peer_etag_matches("\"a\"", "\"a\""));
	assert_true(ql_peer_etag_matches("W/\"a\"", "\"a\""));
	assert_true(ql_peer_etag_matches("\"b\", \"a\" , \"c\"", "\"a\""));
	assert_true(ql_peer_etag_matches(" * ", "\"a\""));
	assert_false(ql_peer_etag_matches(NULL, "\"a\""));
	assert_false(ql_peer_etag_matches("", "\"a\""));
	assert_false(ql_peer_etag_matches(",, ,", "\"a\""));
	assert_false(ql_peer_etag_matches("a", "\"a\""));
	assert_false(ql_peer_etag_matches("\"aa\", \"b\"", "\"a\""));
	assert_false(ql_peer_etag_matches("W/", "\"a\""));
}

/* ---- addresses ---- */

static struct ql_net_address address(const char *text)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
	struct ql_net_address a = { { 0 } };

	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
		assert_int_equal(ql_net_address_of((struct sockaddr *)&v4, &a),
				 0);
	else if (inet_pton(AF_INET6, text, &v6.sin6_addr) == 1)
		assert_int_equal(ql_net_address_of((struct sockaddr *)&v6, &a),
				 0);
	else
		fail_msg("%s", text);
	return a;
}

static bool in_net(const char *net_text, const char *text)
{
	struct ql_net_address a = address(text);
	struct ql_net net;

	if (ql_net_parse(net_text, &net) < 0)
		fail_msg("%s", net_text);
	return ql_net_has(&net, &a);
}

static void who_is_of_a_network(void **state)
{
	(void)state;
	assert_true(in_net("10.0.0.0/8", "10.255.1.2"));
	assert_false(in_net("10.0.0.0/8", "11.0.0.0"));
	assert_true(in_net("10.1.2.3", "10.1.2.3"));
	assert_false(in_net("10.1.2.3", "10.1.2.2"));
	assert_true(in_net("10.1.2.2/31", "10.1.2.3"));
	/* The same, of a socket of both kinds. */
	assert_true(in_net("10.0.0.0/8", "::ffff:10.9.9.9"));
	assert_true(in_net("0.0.0.0/0", "255.255.255.255"));
	assert_false(in_net("0.0.0.0/0", "fd00::1"));
	assert_true(in_net("fd00::/8", "fdff::1"));
	assert_false(in_net("fd00::/8", "fe00::1"));
	assert_false(in_net("fd00::/8", "10.0.0.1"));
	assert_true(in_net("::/0", "10.0.0.1"));
	assert_true(in_net("fd00::1/128", "fd00::1"));
}

static void who_is_this_machine(void **state)
{
	static const char *const near[] = { "127.0.0.1", "127.255.3.2", "::1",
					    "::ffff:127.0.0.1" };
	static const char *const far[] = {
		"128.0.0.1",   "126.255.255.255", "::", "::2", "10.0.0.1",
		"::127.0.0.1", "::ffff:1.0.0.127"
	};

	(void)state;
	for (size_t i = 0; i < sizeof(near) / sizeof(near[0]); i++) {
		struct ql_net_address a = address(near[i]);

		assert_true(ql_net_is_loopback(&a));
	}
	for (size_t i = 0; i < sizeof(far) / sizeof(far[0]); i++) {
		struct ql_net_address a = address(far[i]);

		assert_false(ql_net_is_loopback(&a));
	}
}

/* ---- rates ---- */

static uint64_t now;

static uint64_t clock_now(void)
{
	return now;
}

static struct ql_peer_rates *rates_of(uint64_t total, uint64_t each)
{
	struct ql_peer_rates *rates = NULL;

	now = 100 * SECOND;
	assert_int_equal(
		ql_peer_rates_new(total, each, clock_now, &rates, NULL), 0);
	return rates;
}

/* So many bytes were sent after that time, by one that always has more. */
static uint64_t sent_in(struct ql_peer_rates *rates, struct ql_peer_rate *rate,
			uint64_t ns)
{
	size_t block = ql_peer_rates_block(rates, 65536);
	uint64_t until = now + ns, sent = 0;

	for (;;) {
		uint64_t wait = ql_peer_rate_take(rates, rate, block);

		if (now + wait > until) {
			now = until;
			return sent;
		}
		now += wait;
		sent += block;
	}
}

static void each_has_its_rate(void **state)
{
	struct ql_peer_rates *rates = rates_of(UINT64_MAX, 1000000);
	struct ql_net_address a = address("10.0.0.1"), b = address("10.0.0.2");
	struct ql_peer_rate *ra = ql_peer_rate_get(rates, &a);
	struct ql_peer_rate *rb = ql_peer_rate_get(rates, &b);
	uint64_t sent;

	(void)state;
	assert_true(ql_peer_rates_limit(rates));
	assert_ptr_not_equal(ra, rb);
	assert_ptr_equal(ql_peer_rate_get(rates, &a), ra);
	ql_peer_rate_put(rates, ra);
	sent = sent_in(rates, ra, 10 * SECOND);
	assert_in_range(sent, 9900000, 10300000);
	/* Another one's are not used up by that. */
	assert_int_equal(ql_peer_rate_take(rates, rb, 1000), 0);
	/* Who goes away and comes back goes on where it was. */
	assert_true(ql_peer_rate_take(rates, ra, 5000000) > 0);
	ql_peer_rate_put(rates, ra);
	ra = ql_peer_rate_get(rates, &a);
	assert_in_range(ql_peer_rate_take(rates, ra, 1), 4 * SECOND,
			6 * SECOND);
	ql_peer_rate_put(rates, ra);
	ql_peer_rate_put(rates, rb);
	ql_peer_rates_free(rates);
}

static void all_have_a_rate_together(void **state)
{
	struct ql_peer_rates *rates = rates_of(1000000, UINT64_MAX);
	struct ql_net_address a = address("10.0.0.1"), b = address("10.0.0.2");
	struct ql_peer_rate *ra = ql_peer_rate_get(rates, &a);
	struct ql_peer_rate *rb = ql_peer_rate_get(rates, &b);
	uint64_t wait = 0;

	(void)state;
	for (int i = 0; i < 100; i++)
		wait = ql_peer_rate_take(rates, i % 2 ? ra : rb, 10000);
	assert_in_range(wait, SECOND * 8 / 10, SECOND);
	/* What was not used for long is not saved up. */
	now += 1000 * SECOND;
	assert_in_range(sent_in(rates, ra, SECOND), 900000, 1300000);
	/* Also without a place for it: the total holds. */
	assert_in_range(sent_in(rates, NULL, SECOND), 800000, 1200000);
	ql_peer_rate_put(rates, ra);
	ql_peer_rate_put(rates, rb);
	ql_peer_rates_free(rates);
	rates = rates_of(UINT64_MAX, UINT64_MAX);
	assert_false(ql_peer_rates_limit(rates));
	assert_int_equal(ql_peer_rate_take(rates, NULL, UINT64_MAX), 0);
	ql_peer_rates_free(rates);
}

static void addresses_have_a_limit(void **state)
{
	struct ql_peer_rates *rates = rates_of(UINT64_MAX, 1000);
	struct ql_net_address a = address("10.0.0.1");
	struct ql_peer_rate *rate;
	int n = 0;

	(void)state;
	for (int i = 0; i < 3000; i++) {
		a.bytes[14] = (uint8_t)(i >> 8);
		a.bytes[15] = (uint8_t)i;
		rate = ql_peer_rate_get(rates, &a);
		if (!rate)
			break;
		n++;
		(void)ql_peer_rate_take(rates, rate, 1000);
		ql_peer_rate_put(rates, rate);
	}
	assert_int_equal(n, QL_PEERS_MAX);
	/* What is paid for makes room. */
	now += 10 * SECOND;
	rate = ql_peer_rate_get(rates, &a);
	assert_non_null(rate);
	ql_peer_rate_put(rates, rate);
	ql_peer_rates_free(rates);
}

/* ---- batches ---- */

#define D                                                                      \
	"sha256:"                                                              \
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* step: bytes that come at once. */
static int batch_read(struct ql_peer_batch *batch, const char *text,
		      size_t step, struct ql_error *err)
{
	size_t len = strlen(text);
	int r = 0;

	for (size_t i = 0; i < len && r == 0; i += step)
		r = ql_peer_batch_add(batch, text + i,
				      len - i < step ? len - i : step, err);
	return r < 0 ? r : ql_peer_batch_end(batch, err);
}

static void batches_are_read_as_they_come(void **state)
{
	static const char text[] = "objects " D " 0 17\nblobs " D
				   " 18446744073709551615 0\n";

	(void)state;
	for (size_t step = 1; step < sizeof(text); step++) {
		struct ql_peer_batch batch = { 0 };
		struct ql_error err = QL_ERROR_INIT;

		assert_int_equal(batch_read(&batch, text, step, &err), 0);
		assert_int_equal(batch.n, 2);
		assert_int_equal(batch.parts[0].kind, QL_PEER_OBJECT);
		assert_int_equal(batch.parts[0].digest.bytes[1], 0x23);
		assert_int_equal(batch.parts[0].offset, 0);
		assert_int_equal(batch.parts[0].len, 17);
		assert_int_equal(batch.parts[1].kind, QL_PEER_BLOB);
		assert_true(batch.parts[1].offset == UINT64_MAX);
		assert_int_equal(batch.parts[1].len, 0);
		ql_peer_batch_release(&batch);
	}
}

static void a_bad_line_is_named(void **state)
{
	static const char *const bad[] = {
		"\n",
		"x\n",
		"objects\n",
		"objects " D "\n",
		"objects " D " 0\n",
		"objects " D " 0 \n",
		"objects " D " 0 1 \n",
		"objects " D " 0 1 2\n",
		"objects " D "  0 1\n",
		" objects " D " 0 1\n",
		"tables " D " 0 1\n",
		"object " D " 0 1\n",
		"objects md5:" D " 0 1\n",
		"objects ../../etc/passwd 0 1\n",
		"objects " D " -1 1\n",
		"objects " D " 0 18446744073709551616\n",
		"objects " D " 0 1\r\n",
		"objects " D " 0 1",
		"objects " D " 0 1111111111111111111111111111111111111111111111"
		"111111111111111111111111111111111111111111111111111111111111"
		"111111111111111111111111111111111111111111111111111111111111",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		_cleanup_free_ char *text =
			ql_strf("objects " D " 0 1\n%s", bad[i]);
		struct ql_peer_batch batch = { 0 };
		struct ql_error err = QL_ERROR_INIT;

		if (batch_read(&batch, text, 7, &err) != -EINVAL)
			fail_msg("%s", bad[i]);
		if (strncmp(err.text, "line 2: ", 8) != 0)
			fail_msg("%s: %s", bad[i], err.text);
		/* Nothing more is read, or kept. */
		assert_int_equal(ql_peer_batch_add(&batch, "x", 1, NULL),
				 -EINVAL);
		assert_int_equal(ql_peer_batch_end(&batch, NULL), -EINVAL);
		assert_null(batch.parts);
		ql_peer_batch_release(&batch);
	}
}

static void batches_have_limits(void **state)
{
	static const char line[] = "objects " D " 0 1\n";
	static const char zeros[64] = "00000000000000000000000000000000000000"
				      "0000000000000000000000000";
	struct ql_peer_batch batch = { 0 };
	struct ql_error err = QL_ERROR_INIT;

	(void)state;
	for (int i = 0; i < QL_PEER_BATCH_MAX; i++)
		assert_int_equal(ql_peer_batch_add(&batch, line,
						   sizeof(line) - 1, &err),
				 0);
	assert_int_equal(batch.n, QL_PEER_BATCH_MAX);
	assert_int_equal(ql_peer_batch_add(&batch, line, sizeof(line) - 1,
					   &err),
			 -EFBIG);
	ql_peer_batch_release(&batch);
	/* Numbers with zeros in front: few parts of many bytes. */
	for (int i = 0; i < 20000 && batch.error == 0; i++) {
		(void)ql_peer_batch_add(&batch, "objects " D " ", 80, &err);
		(void)ql_peer_batch_add(&batch, zeros, 63, &err);
		(void)ql_peer_batch_add(&batch, " 1\n", 3, &err);
		if (batch.n == QL_PEER_BATCH_MAX - 1)
			batch.n = 0;
	}
	assert_int_equal(batch.error, -EFBIG);
	assert_in_range(batch.bytes, QL_PEER_BATCH_BYTES,
			QL_PEER_BATCH_BYTES + 80);
	ql_peer_batch_release(&batch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_range_is_taken),
		cmocka_unit_test(what_is_no_range_is_none),
		cmocka_unit_test(tags_are_compared),
		cmocka_unit_test(who_is_of_a_network),
		cmocka_unit_test(who_is_this_machine),
		cmocka_unit_test(each_has_its_rate),
		cmocka_unit_test(all_have_a_rate_together),
		cmocka_unit_test(addresses_have_a_limit),
		cmocka_unit_test(batches_are_read_as_they_come),
		cmocka_unit_test(a_bad_line_is_named),
		cmocka_unit_test(batches_have_limits),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
