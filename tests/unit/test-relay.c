/* SPDX-License-Identifier: Apache-2.0 */
/* What passes through a node: fetched once, read by all as it comes, for those
 * who may have it, within its bytes. */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "fetch/peer-private.h"
#include "tests/unit/fill.h"

enum { REGION = QL_PEER_REGION, SIZE = 5 * REGION + 12345 };

struct relayed {
	struct fill_lab lab; /* of the folder and a store */
	struct ql_peers *peers;
	struct ql_digest blob;
	char *data, *repository, *path;
};

static void peers_start(struct relayed *t, uint64_t relay)
{
	const struct ql_peers_options options = { .name = "node",
						  .relay = relay,
						  .plain_http = true };

	ql_peers_free(t->peers);
	assert_int_equal(
		ql_peers_new(t->lab.to.store, &options, &t->peers, NULL), 0);
}

static int begin(void **state)
{
	struct relayed *t = calloc(1, sizeof(*t));
	_cleanup_free_ char *dir = NULL;
	char hex[QL_DIGEST_HEX + 1];

	assert_non_null(t);
	lab_init(&t->lab.to);
	(void)snprintf(t->lab.oci, sizeof(t->lab.oci), "%s/oci",
		       t->lab.to.root);
	dir = ql_strf("%s/blobs/sha256", t->lab.oci);
	assert_int_equal(ql_mkdir_p(dir, NULL), 0);
	t->data = malloc(SIZE);
	assert_non_null(t->data);
	fill_content(t->data, SIZE, 7);
	fill_put_blob(&t->lab, t->data, SIZE, &t->blob);
	t->repository = ql_strf("oci:%s", t->lab.oci);
	t->path = ql_strf("%s/%s", dir, ql_digest_hex(&t->blob, hex));
	assert_non_null(t->path);
	peers_start(t, 64ULL * REGION);
	*state = t;
	return 0;
}

static int end(void **state)
{
	struct relayed *t = *state;

	ql_peers_free(t->peers);
	lab_release(&t->lab.to);
	free(t->data);
	free(t->repository);
	free(t->path);
	free(t);
	return 0;
}

static struct ql_peer_ask ask_for(struct relayed *t, uint64_t offset,
				  uint64_t len)
{
	return (struct ql_peer_ask){ .kind = QL_PEER_BLOB,
				     .digest = t->blob,
				     .offset = offset,
				     .len = len,
				     .trusted = true,
				     .repository = t->repository,
				     .size = SIZE };
}

static void check(struct relayed *t, struct ql_stream *in, uint64_t from,
		  uint64_t len)
{
	_cleanup_free_ char *buf = malloc((size_t)len + 1);
	ssize_t n;

	assert_non_null(buf);
	n = ql_stream_read_full(in, buf, (size_t)len + 1, NULL);
	assert_int_equal(n, len);
	assert_memory_equal(buf, t->data + from, (size_t)len);
}

/* Reads it through the relay: how many bytes that gave. */
static uint64_t pass(struct relayed *t, uint64_t offset, uint64_t len)
{
	struct ql_peer_ask ask = ask_for(t, offset, len);
	_cleanup_stream_ struct ql_stream *in = NULL;
	uint64_t got = 0;

	assert_int_equal(ql_relay_begin(t->peers, &ask, NULL, &in, &got, NULL),
			 0);
	check(t, in, offset, got);
	return got;
}

/* What is there is given also when its source is gone. */
static int known(struct relayed *t, uint64_t offset, uint64_t len)
{
	struct ql_peer_ask ask = ask_for(t, offset, len);
	_cleanup_stream_ struct ql_stream *in = NULL;
	uint64_t got = 0;
	int r;

	ask.repository = NULL;
	r = ql_relay_begin(t->peers, &ask, NULL, &in, &got, NULL);
	if (r == 0)
		check(t, in, offset, got);
	return r < 0 ? r : (int)got;
}

static void all_of_it_passes(void **state)
{
	struct relayed *t = *state;
	uint64_t at = 0;

	while (at < SIZE)
		at += pass(t, at, UINT64_MAX);
	assert_int_equal(at, SIZE);
	assert_int_equal(pass(t, 17, 100), 100);
	assert_int_equal(pass(t, REGION - 5, 100), 5);
	assert_int_equal(pass(t, SIZE - 1, 100), 1);
}

static void only_what_was_asked_for_is_fetched(void **state)
{
	struct relayed *t = *state;

	assert_int_equal(pass(t, 1000, 500), 500);
	assert_int_equal(known(t, 1000, 500), 500);
	assert_int_equal(known(t, 1200, 5000), 300);
	assert_int_equal(known(t, 999, 1), -ENOENT);
	assert_int_equal(known(t, 1500, 1), -ENOENT);
	/* The gaps around it, and between. */
	assert_int_equal(pass(t, 3000, 500), 500);
	assert_int_equal(pass(t, 0, 10000), 10000);
	assert_int_equal(known(t, 0, 20000), 10000);
}

struct reader {
	struct relayed *t;
	uint64_t from;
	pthread_t thread;
};

static void *read_all(void *arg)
{
	struct reader *r = arg;

	for (uint64_t at = r->from; at < SIZE;)
		at += pass(r->t, at, 70001);
	return NULL;
}

static void many_read_at_once(void **state)
{
	struct reader readers[8];

	for (unsigned int i = 0; i < 8; i++) {
		readers[i] = (struct reader){ .t = *state, .from = i * 1111 };
		assert_int_equal(pthread_create(&readers[i].thread, NULL,
						read_all, &readers[i]),
				 0);
	}
	for (unsigned int i = 0; i < 8; i++)
		assert_int_equal(pthread_join(readers[i].thread, NULL), 0);
}

static void what_passed_is_not_fetched_again(void **state)
{
	struct relayed *t = *state;

	assert_int_equal(pass(t, 0, REGION), REGION);
	assert_int_equal(unlink(t->path), 0);
	assert_int_equal(pass(t, 0, REGION), REGION);
}

static void what_fails_wakes_who_waits(void **state)
{
	struct relayed *t = *state;
	struct ql_peer_ask ask = ask_for(t, 0, REGION);
	_cleanup_stream_ struct ql_stream *in = NULL, *other = NULL;
	uint64_t got = 0;
	char c;

	assert_int_equal(unlink(t->path), 0);
	assert_int_equal(ql_relay_begin(t->peers, &ask, NULL, &in, &got, NULL),
			 0);
	assert_int_equal(
		ql_relay_begin(t->peers, &ask, NULL, &other, &got, NULL), 0);
	assert_true(ql_stream_read(in, &c, 1, NULL) < 0);
	assert_true(ql_stream_read(other, &c, 1, NULL) < 0);
}

static void the_oldest_goes_where_there_is_no_room(void **state)
{
	struct relayed *t = *state;

	peers_start(t, 3ULL * REGION);
	for (uint64_t i = 0; i < 4; i++)
		assert_int_equal(pass(t, i * REGION, REGION - 8192),
				 REGION - 8192);
	assert_int_equal(known(t, 0, 100), -ENOENT);
	assert_int_equal(known(t, 3ULL * REGION, 100), 100);
	/* What was read last stays. */
	assert_int_equal(known(t, REGION, 100), 100);
	assert_int_equal(known(t, 2ULL * REGION, 100), 100);
	assert_int_equal(pass(t, REGION, 100), 100);
	assert_int_equal(pass(t, 0, REGION - 8192), REGION - 8192);
	assert_int_equal(known(t, REGION, 100), 100);
}

static void what_is_read_stays(void **state)
{
	struct relayed *t = *state;
	struct ql_peer_ask ask = ask_for(t, 0, REGION - 8192);
	_cleanup_stream_ struct ql_stream *in = NULL, *none = NULL;
	uint64_t got = 0;

	peers_start(t, REGION);
	assert_int_equal(ql_relay_begin(t->peers, &ask, NULL, &in, &got, NULL),
			 0);
	ask.offset = REGION;
	assert_int_equal(ql_relay_begin(t->peers, &ask, NULL, &none, &got,
					NULL),
			 -EBUSY);
	check(t, in, 0, REGION - 8192);
}

static void the_disk_that_it_took_is_given_back(void **state)
{
	struct relayed *t = *state;
	struct ql_space before, during, after;

	assert_int_equal(ql_space_get(t->lab.to.store, &before, NULL), 0);
	assert_int_equal(pass(t, 0, REGION), REGION);
	assert_int_equal(ql_space_get(t->lab.to.store, &during, NULL), 0);
	assert_in_range(during.taken - before.taken, REGION, REGION + 65536);
	ql_peers_free(t->peers);
	t->peers = NULL;
	assert_int_equal(ql_space_get(t->lab.to.store, &after, NULL), 0);
	assert_int_equal(after.taken, before.taken);
}

/* A folder's content is nobody else's to know; nor may others name one. */
static void what_is_private_is_for_some(void **state)
{
	struct relayed *t = *state;
	struct ql_peer_ask ask = ask_for(t, 0, 1000);
	struct ql_peer_answer answer = { .fd = -1 };

	assert_int_equal(ql_relay_open(t->peers, &ask, &answer, NULL), -ENOENT);
	assert_int_equal(pass(t, 0, 1000), 1000);
	ask.repository = NULL;
	ask.trusted = false;
	assert_int_equal(ql_relay_open(t->peers, &ask, &answer, NULL), -ENOENT);
	ask.trusted = true;
	assert_int_equal(ql_relay_open(t->peers, &ask, &answer, NULL), 0);
	assert_int_equal(answer.len, 1000);
	assert_int_equal(answer.size, SIZE);
	check(t, answer.stream, 0, 1000);
	ql_peer_answer_release(&answer);
}

static void what_was_wrong_is_forgotten(void **state)
{
	struct relayed *t = *state;

	assert_int_equal(pass(t, 0, REGION), REGION);
	assert_int_equal(pass(t, REGION, REGION), REGION);
	ql_relay_doubt(t->peers, &t->blob, 5, 6);
	assert_int_equal(known(t, 0, 100), -ENOENT);
	assert_int_equal(known(t, REGION, 100), 100);
}

static unsigned int files_open(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	(void)closedir(dir);
	return n;
}

/* Others may name as many repositories as they like: each is a place that is
 * opened, and few of those stay open. */
static void few_repositories_stay_open(void **state)
{
	struct relayed *t = *state;
	unsigned int before = files_open();

	for (unsigned int i = 0; i < 200; i++) {
		char *longer = ql_strf("%s/", t->repository);

		assert_non_null(longer);
		free(t->repository);
		t->repository = longer;
		assert_int_equal(pass(t, i * 100, 100), 100);
	}
	assert_true(files_open() < before + 100);
}

static void nothing_passes_where_none_may(void **state)
{
	struct relayed *t = *state;
	struct ql_peer_ask ask = ask_for(t, 0, 100);
	struct ql_stream *in = NULL;
	uint64_t got = 0;

	peers_start(t, 0);
	assert_int_equal(ql_relay_begin(t->peers, &ask, NULL, &in, &got, NULL),
			 -ENOENT);
	peers_start(t, REGION);
	ask.offset = SIZE;
	assert_int_equal(ql_relay_begin(t->peers, &ask, NULL, &in, &got, NULL),
			 -ERANGE);
	ask.offset = UINT64_MAX;
	assert_int_equal(ql_relay_begin(t->peers, &ask, NULL, &in, &got, NULL),
			 -ERANGE);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(all_of_it_passes),
		TEST(only_what_was_asked_for_is_fetched),
		TEST(many_read_at_once),
		TEST(what_passed_is_not_fetched_again),
		TEST(what_fails_wakes_who_waits),
		TEST(the_oldest_goes_where_there_is_no_room),
		TEST(what_is_read_stays),
		TEST(the_disk_that_it_took_is_given_back),
		TEST(what_is_private_is_for_some),
		TEST(what_was_wrong_is_forgotten),
		TEST(few_repositories_stay_open),
		TEST(nothing_passes_where_none_may),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
