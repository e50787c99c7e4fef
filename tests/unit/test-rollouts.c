/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sched-exporter/rollouts.c, scheduler-api.c: the table of deployments and what
 * is answered of it, without HTTP, registry or nodes: each deployment here ends
 * where it asks which nodes there are, which waits until the test lets it go.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sched-exporter/rollouts.h"
#include "sched-exporter/scheduler-api.h"

enum { ALL = QL_ROLLOUTS_RUNNING + QL_ROLLOUTS_WAITING };

struct bench {
	struct ql_rollouts *rollouts;
	pthread_mutex_t lock; /* protects all below */
	pthread_cond_t wake;
	bool open; /* whoever asks for nodes goes on */
	unsigned int inside, most;
};

static int nodes(void *arg, struct ql_nodes *ret_nodes, struct ql_error *err)
{
	struct bench *b = arg;

	(void)ret_nodes;
	(void)pthread_mutex_lock(&b->lock);
	b->inside++;
	if (b->most < b->inside)
		b->most = b->inside;
	(void)pthread_cond_broadcast(&b->wake);
	while (!b->open)
		(void)pthread_cond_wait(&b->wake, &b->lock);
	b->inside--;
	(void)pthread_mutex_unlock(&b->lock);
	return ql_error_set(err, -EBADMSG, "no \"nodes\"");
}

static void gate(struct bench *b, bool open)
{
	(void)pthread_mutex_lock(&b->lock);
	b->open = open;
	(void)pthread_cond_broadcast(&b->wake);
	(void)pthread_mutex_unlock(&b->lock);
}

/* Until so many ask which nodes there are. */
static void inside_wait(struct bench *b, unsigned int n)
{
	(void)pthread_mutex_lock(&b->lock);
	while (b->inside < n)
		(void)pthread_cond_wait(&b->wake, &b->lock);
	(void)pthread_mutex_unlock(&b->lock);
}

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct ql_rollouts_options options = { .nodes = nodes, .arg = b };

	assert_non_null(b);
	(void)pthread_mutex_init(&b->lock, NULL);
	(void)pthread_cond_init(&b->wake, NULL);
	assert_int_equal(ql_rollouts_new(&options, &b->rollouts, NULL), 0);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	gate(b, true);
	ql_rollouts_free(b->rollouts);
	(void)pthread_cond_destroy(&b->wake);
	(void)pthread_mutex_destroy(&b->lock);
	free(b);
	return 0;
}

static int add(struct bench *b, unsigned int n, uint64_t *ret_id,
	       struct ql_error *err)
{
	char image[64];
	const struct ql_rollout_ask ask = { .image = image };

	(void)snprintf(image, sizeof(image), "127.0.0.1:1/app:%u", n);
	return ql_rollouts_add(b->rollouts, &ask, ret_id, err);
}

/* The state of one; "gone" where it is forgotten. */
static const char *state_of(struct bench *b, uint64_t id)
{
	static char text[32];
	struct ql_buf manifest = QL_BUF_INIT(16);
	_cleanup_json_ json_t *one = NULL;
	int r = ql_rollouts_show(b->rollouts, id, &one, &manifest, NULL);

	assert_true(r == 0 || r == -ENOENT);
	assert_int_equal(manifest.len, 0);
	(void)snprintf(text, sizeof(text), "%s",
		       r == 0 ? ql_json_opt_string(one, "state", "") : "gone");
	return text;
}

static void state_wait(struct bench *b, uint64_t id, const char *state)
{
	for (int i = 0; i < 10000 && strcmp(state_of(b, id), state) != 0; i++)
		(void)usleep(1000);
	assert_string_equal(state_of(b, id), state);
}

static size_t count(struct bench *b)
{
	_cleanup_json_ json_t *list = NULL;

	assert_int_equal(ql_rollouts_list(b->rollouts, &list, NULL), 0);
	return json_array_size(json_object_get(list, "deployments"));
}

/* ---- the table ---- */

static void few_go_on_at_once_and_the_others_wait(void **state)
{
	struct bench *b = *state;
	uint64_t id = 0;

	for (unsigned int i = 1; i <= ALL; i++) {
		assert_int_equal(add(b, i, &id, NULL), 0);
		assert_int_equal(id, i);
	}
	assert_int_equal(add(b, 0, &id, NULL), -EAGAIN);
	inside_wait(b, QL_ROLLOUTS_RUNNING);
	assert_string_equal(state_of(b, 1), "planning");
	assert_string_equal(state_of(b, QL_ROLLOUTS_RUNNING), "planning");
	assert_string_equal(state_of(b, QL_ROLLOUTS_RUNNING + 1), "queued");
	gate(b, true);
	for (unsigned int i = 1; i <= ALL; i++)
		state_wait(b, i, "failed");
	assert_int_equal(b->most, QL_ROLLOUTS_RUNNING);
	assert_int_equal(add(b, 0, &id, NULL), 0);
}

static void one_image_is_deployed_once_at_a_time(void **state)
{
	struct bench *b = *state;
	struct ql_error err = QL_ERROR_INIT;
	uint64_t id = 0, same = 0;

	assert_int_equal(add(b, 1, &id, NULL), 0);
	assert_int_equal(add(b, 1, &same, &err), -EEXIST);
	assert_int_equal(same, id);
	assert_non_null(strstr(err.text, "as 1"));
	gate(b, true);
	state_wait(b, id, "failed");
	assert_int_equal(add(b, 1, &same, NULL), 0);
	assert_int_not_equal(same, id);
}

static void what_is_no_image_of_a_registry_is_refused(void **state)
{
	static const char *const bad[] = { "", "A B", "oci:/tmp/x:t",
					   "docker-archive:/tmp/x.tar" };
	struct bench *b = *state;
	uint64_t id = 0;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const struct ql_rollout_ask ask = { .image = bad[i] };

		assert_int_equal(ql_rollouts_add(b->rollouts, &ask, &id, NULL),
				 -EINVAL);
	}
	assert_int_equal(count(b), 0);
}

static void one_that_waits_is_canceled_at_once(void **state)
{
	struct bench *b = *state;
	struct ql_error err = QL_ERROR_INIT;
	uint64_t id = 0;

	for (unsigned int i = 1; i <= QL_ROLLOUTS_RUNNING + 1; i++)
		assert_int_equal(add(b, i, &id, NULL), 0);
	inside_wait(b, QL_ROLLOUTS_RUNNING);
	assert_int_equal(ql_rollouts_cancel(b->rollouts, id, NULL), 0);
	assert_string_equal(state_of(b, id), "canceled");
	assert_int_equal(ql_rollouts_cancel(b->rollouts, id, &err), -EALREADY);
	assert_non_null(strstr(err.text, "canceled"));
	assert_int_equal(ql_rollouts_cancel(b->rollouts, 99, NULL), -ENOENT);
	assert_int_equal(add(b, QL_ROLLOUTS_RUNNING + 1, &id, NULL), 0);
}

static void one_that_goes_on_is_canceled_when_it_sees_it(void **state)
{
	struct bench *b = *state;
	uint64_t id = 0;

	assert_int_equal(add(b, 1, &id, NULL), 0);
	state_wait(b, id, "planning");
	assert_int_equal(ql_rollouts_cancel(b->rollouts, id, NULL), 0);
	assert_int_equal(ql_rollouts_cancel(b->rollouts, id, NULL), 0);
	assert_string_equal(state_of(b, id), "planning");
	gate(b, true);
	state_wait(b, id, "canceled");
}

static void the_last_that_ended_are_kept(void **state)
{
	struct bench *b = *state;
	uint64_t id = 0;

	gate(b, true);
	for (unsigned int i = 1; i <= QL_ROLLOUTS_KEPT + 10; i++) {
		assert_int_equal(add(b, i, &id, NULL), 0);
		state_wait(b, id, "failed");
	}
	assert_int_equal(count(b), QL_ROLLOUTS_KEPT);
	assert_string_equal(state_of(b, 10), "gone");
	assert_string_equal(state_of(b, 11), "failed");
}

static void a_stop_ends_all_and_takes_no_more(void **state)
{
	struct bench *b = *state;
	uint64_t id = 0;

	for (unsigned int i = 1; i <= ALL; i++)
		assert_int_equal(add(b, i, &id, NULL), 0);
	gate(b, true);
	ql_rollouts_stop(b->rollouts);
	for (unsigned int i = 1; i <= ALL; i++) {
		const char *is = state_of(b, i);

		if (strcmp(is, "canceled") != 0 && strcmp(is, "failed") != 0)
			fail_msg("%u: %s", i, is);
	}
	assert_int_equal(add(b, 0, &id, NULL), -ESHUTDOWN);
}

/* ---- what is answered ---- */

struct asked {
	unsigned int status, retry_after;
	char allow[64], body[2048];
};

static struct asked ask(struct bench *b, const char *method, const char *path,
			const char *body)
{
	const struct ql_web_request rq = { .method = method,
					   .path = path,
					   .body = body,
					   .body_len = strlen(body) };
	struct ql_web_response rs;
	struct asked got = { 0 };

	ql_web_response_init(&rs);
	ql_scheduler_handle(&rq, &rs, b->rollouts);
	got.status = rs.status;
	got.retry_after = rs.retry_after;
	(void)snprintf(got.allow, sizeof(got.allow), "%s",
		       rs.allow ? rs.allow : "");
	(void)snprintf(got.body, sizeof(got.body), "%s", ql_buf_str(&rs.body));
	ql_web_response_release(&rs);
	return got;
}

static void requests_are_answered_with_what_fits(void **state)
{
	static const struct {
		const char *method, *path, *body;
		unsigned int status;
		const char *says;
	} cases[] = {
		{ "GET", "/healthz", "", 200, "ok" },
		{ "GET", "/healthz/", "", 404, "no such path" },
		{ "GET", "/v1/deployments", "", 200, "[]" },
		{ "GET", "/v1/deployments", "{}", 400, "no use" },
		{ "GET", "/v1/deployments/", "", 404, "no such path" },
		{ "GET", "/v1/deployments/7", "", 404, "no deployment 7" },
		{ "GET", "/v1/deployments/07", "", 404, "no such path" },
		{ "GET", "/v1/deployments/-1", "", 404, "no such path" },
		{ "GET", "/v1/deployments/1x", "", 404, "no such path" },
		{ "GET", "/v1/deployments/99999999999999999999", "", 404,
		  "no such path" },
		{ "DELETE", "/v1/deployments/7", "", 404, "no deployment 7" },
		{ "POST", "/v1/deployments", "", 400, "body" },
		{ "POST", "/v1/deployments", "{", 400, "body" },
		{ "POST", "/v1/deployments", "[]", 400, "object" },
		{ "POST", "/v1/deployments", "{}", 400, "image" },
		{ "POST", "/v1/deployments", "{\"image\": 1}", 400, "image" },
		{ "POST", "/v1/deployments", "{\"image\": \"\"}", 400, "" },
		{ "POST", "/v1/deployments", "{\"image\": \"a\", \"how\": 1}",
		  400, "how" },
		{ "POST", "/v1/deployments", "{\"image\": \"a\", \"apply\": 1}",
		  400, "apply" },
		{ "POST", "/v1/deployments",
		  "{\"image\": \"a\", \"platform\": 1}", 400, "platform" },
		{ "POST", "/v1/deployments", "{\"image\": \"oci:/x\"}", 400,
		  "no such thing" },
		{ "POST", "/v1/deployments", "{\"image\": \"127.0.0.1:1/a\"}",
		  202, "\"id\": 1" },
		{ "POST", "/v1/deployments", "{\"image\": \"127.0.0.1:1/a\"}",
		  409, "as 1" },
		{ "GET", "/v1/deployments/1", "", 200, "127.0.0.1:1/a:latest" },
		{ "DELETE", "/v1/deployments/1", "", 202, "\"id\": 1" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct asked got = ask(*state, cases[i].method, cases[i].path,
				       cases[i].body);

		if (got.status != cases[i].status ||
		    !strstr(got.body, cases[i].says))
			fail_msg("%zu: %s %s %s: %u, %s", i, cases[i].method,
				 cases[i].path, cases[i].body, got.status,
				 got.body);
	}
}

static void another_method_is_told_which_there_are(void **state)
{
	struct asked got = ask(*state, "PUT", "/v1/deployments", "");

	assert_int_equal(got.status, 405);
	assert_string_equal(got.allow, "GET, HEAD, POST");
	got = ask(*state, "POST", "/v1/deployments/1", "");
	assert_int_equal(got.status, 405);
	assert_string_equal(got.allow, "GET, HEAD, DELETE");
	got = ask(*state, "POST", "/healthz", "");
	assert_int_equal(got.status, 405);
	assert_string_equal(got.allow, "GET, HEAD");
}

static void who_asks_for_too_many_is_told_when(void **state)
{
	struct bench *b = *state;
	struct asked got;
	uint64_t id = 0;

	for (unsigned int i = 1; i <= ALL; i++)
		assert_int_equal(add(b, i, &id, NULL), 0);
	got = ask(b, "POST", "/v1/deployments", "{\"image\": \"a:1\"}");
	assert_int_equal(got.status, 429);
	assert_true(got.retry_after > 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(few_go_on_at_once_and_the_others_wait),
		T(one_image_is_deployed_once_at_a_time),
		T(what_is_no_image_of_a_registry_is_refused),
		T(one_that_waits_is_canceled_at_once),
		T(one_that_goes_on_is_canceled_when_it_sees_it),
		T(the_last_that_ended_are_kept),
		T(a_stop_ends_all_and_takes_no_more),
		T(requests_are_answered_with_what_fits),
		T(another_method_is_told_which_there_are),
		T(who_asks_for_too_many_is_told_when),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
