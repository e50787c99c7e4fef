/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs/agent-api.c, agent-pull.c, agent-work.c, agent-socket.c: what the agent
 * answers, and how pulls are shared, without HTTP and without a mount.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "fs/agent.h"
#include "tests/unit/layers.h"

struct bench {
	struct lab lab;
	struct ql_agent agent;
	struct ql_api_response rs;
};

static void bench_init(struct bench *b)
{
	struct ql_agent_config config;

	*b = (struct bench){ 0 };
	lab_init(&b->lab);
	b->agent.store = b->lab.store;
	b->agent.root = b->lab.root;
	b->agent.mountpoint = b->lab.root;
	ql_agent_config_init(&config);
	assert_int_equal(ql_pulls_new(b->lab.store, &config, NULL,
				      &b->agent.pulls, NULL),
			 0);
}

static void bench_release(struct bench *b)
{
	ql_api_response_release(&b->rs);
	ql_pulls_free(b->agent.pulls);
	lab_release(&b->lab);
}
#define _cleanup_bench_ __attribute__((cleanup(bench_release)))

static void image(struct bench *b, const char *name)
{
	struct ql_buf tar = QL_BUF_INIT(1 << 20);

	lab_restart(&b->lab);
	tarball_file(&tar, "file", name);
	assert_int_equal(lab_layer(&b->lab, &tar), 0);
	assert_int_equal(lab_build(&b->lab, name), 0);
	ql_buf_release(&tar);
}

static const json_t *asked(struct bench *b, const char *method,
			   const char *path, const char *body,
			   unsigned int status)
{
	struct ql_api_request rq = { .method = method,
				     .path = path,
				     .body = body ? body : "",
				     .body_len = body ? strlen(body) : 0 };

	ql_api_response_release(&b->rs);
	ql_api_handle(&b->agent, &rq, &b->rs);
	if (b->rs.status != status)
		(void)json_dumpf(b->rs.body, stderr, 0);
	assert_int_equal(b->rs.status, status);
	return b->rs.body;
}

/* The answer is an error with that code and these words. */
static void refused(struct bench *b, const char *method, const char *path,
		    const char *body, unsigned int status, const char *code,
		    const char *words)
{
	const json_t *e =
		json_object_get(asked(b, method, path, body, status), "error");

	assert_string_equal(ql_json_opt_string(e, "code", ""), code);
	if (!strstr(ql_json_opt_string(e, "message", ""), words))
		fail_msg("%s", ql_json_opt_string(e, "message", ""));
}

static void routes_are_found(void **state)
{
	_cleanup_bench_ struct bench b;

	(void)state;
	bench_init(&b);
	assert_int_equal(
		json_array_size(asked(&b, "GET", "/v1/images", NULL, 200)), 0);
	assert_string_equal(
		ql_json_opt_string(asked(&b, "GET", "/v1/version", NULL, 200),
				   "root", ""),
		b.lab.root);
	refused(&b, "GET", "/", NULL, 404, "ENOENT", "no such path");
	refused(&b, "GET", "/v1/images2", NULL, 404, "ENOENT", "");
	refused(&b, "GET", "/v1/images/", NULL, 404, "ENOENT", "");
	refused(&b, "GET", "/v2/images", NULL, 404, "ENOENT", "");
	refused(&b, "POST", "/v1/images", NULL, 405, "EINVAL", "method");
	assert_string_equal(b.rs.allow, "GET");
	refused(&b, "PUT", "/v1/images/a:t", NULL, 405, "EINVAL", "method");
	assert_string_equal(b.rs.allow, "GET, DELETE");
	refused(&b, "GET", "/v1/pull", NULL, 405, "EINVAL", "method");
	assert_string_equal(b.rs.allow, "POST");
	refused(&b, "GET", "/v1/images/a:t", "{}", 400, "EINVAL", "body");
}

static void images_are_named_in_paths(void **state)
{
	_cleanup_bench_ struct bench b;
	const json_t *json;

	(void)state;
	bench_init(&b);
	image(&b, "docker.io/library/redis:latest");
	image(&b, "docker.io/library/pin:latest");
	json = asked(&b, "GET", "/v1/images/redis", NULL, 200);
	assert_string_equal(ql_json_opt_string(json, "name", ""),
			    "docker.io/library/redis:latest");
	(void)asked(&b, "GET", "/v1/images/docker.io/library/redis:latest",
		    NULL, 200);
	(void)asked(&b, "GET",
		    "/v1/images/docker.io%2flibrary%2Fredis%3Alatest", NULL,
		    200);
	/* "/pin" at the end is an image's, where the method has no pins. */
	(void)asked(&b, "GET", "/v1/images/library/pin", NULL, 200);
	refused(&b, "GET", "/v1/images/re%", NULL, 400, "EINVAL", "encoded");
	refused(&b, "GET", "/v1/images/re%2", NULL, 400, "EINVAL", "encoded");
	refused(&b, "GET", "/v1/images/re%zz", NULL, 400, "EINVAL", "encoded");
	refused(&b, "GET", "/v1/images/re%00", NULL, 400, "EINVAL", "NUL");
	refused(&b, "GET", "/v1/images/UPPER", NULL, 400, "EINVAL", "");
	refused(&b, "GET", "/v1/images/nginx", NULL, 404, "ENOENT", "pull it");
}

static void queries_are_checked(void **state)
{
	_cleanup_bench_ struct bench b;
	struct ql_api_request rq = { .method = "GET",
				     .path = "/v1/status",
				     .body = "",
				     .args = { { "image", "red%69s" } },
				     .n_args = 1 };

	(void)state;
	bench_init(&b);
	image(&b, "docker.io/library/redis:latest");
	ql_api_handle(&b.agent, &rq, &b.rs);
	assert_int_equal(b.rs.status, 200);
	assert_int_equal(
		json_integer_value(json_object_get(b.rs.body, "layers")), 1);
	ql_api_response_release(&b.rs);
	rq.args[0].key = "imag";
	ql_api_handle(&b.agent, &rq, &b.rs);
	assert_int_equal(b.rs.status, 400);
	ql_api_response_release(&b.rs);
	rq.args[0] = (struct ql_api_arg){ "image", NULL };
	ql_api_handle(&b.agent, &rq, &b.rs);
	assert_int_equal(b.rs.status, 400);
	ql_api_response_release(&b.rs);
	rq.args[0] = rq.args[1] = (struct ql_api_arg){ "image", "redis" };
	rq.n_args = 2;
	ql_api_handle(&b.agent, &rq, &b.rs);
	assert_int_equal(b.rs.status, 400);
	assert_true(json_is_array(asked(&b, "GET", "/v1/mounts", NULL, 200)));
}

static void pinned_images_are_not_removed(void **state)
{
	_cleanup_bench_ struct bench b;
	const json_t *json;

	(void)state;
	bench_init(&b);
	image(&b, "docker.io/library/a:t");
	json = asked(&b, "POST", "/v1/images/a:t/pin", NULL, 200);
	assert_true(json_is_true(json_object_get(json, "pinned")));
	json = json_array_get(asked(&b, "GET", "/v1/images", NULL, 200), 0);
	assert_true(json_is_true(json_object_get(json, "pinned")));
	refused(&b, "DELETE", "/v1/images/a:t", NULL, 409, "EBUSY", "pinned");
	(void)asked(&b, "POST", "/v1/images/a:t/pin", NULL, 200);
	(void)asked(&b, "POST", "/v1/images/a:t/unpin", NULL, 200);
	json = asked(&b, "DELETE", "/v1/images/a:t", NULL, 200);
	assert_true(json_is_true(json_object_get(json, "removed")));
	refused(&b, "POST", "/v1/images/a:t/pin", NULL, 404, "ENOENT", "");
	assert_int_equal(
		json_array_size(asked(&b, "GET", "/v1/images", NULL, 200)), 0);
}

static int busy(const struct ql_digest *manifest, void *arg,
		struct ql_error *err)
{
	(void)manifest;
	*(int *)arg += 1;
	return ql_error_set(err, -EBUSY, "mounted on /x");
}

static uint64_t member(const json_t *json, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(json, key));
}

static void promises_are_made_and_ended(void **state)
{
	static const char path[] = "/v1/images/a:t/promise";
	_cleanup_bench_ struct bench b;
	uint64_t now = (uint64_t)time(NULL);
	uint64_t until;

	(void)state;
	bench_init(&b);
	image(&b, "docker.io/library/a:t");
	until = member(asked(&b, "POST", path, "{\"seconds\": 3600}", 200),
		       "promised");
	assert_in_range(until, now + 3600, now + 3660);
	assert_int_equal(member(asked(&b, "GET", "/v1/images/a:t", NULL, 200),
				"promised"),
			 until);
	assert_int_equal(
		member(json_array_get(asked(&b, "GET", "/v1/images", NULL, 200),
				      0),
		       "promised"),
		until);
	(void)asked(&b, "POST", path, "{\"seconds\": 0}", 200);
	assert_int_equal(member(asked(&b, "GET", "/v1/images/a:t", NULL, 200),
				"promised"),
			 0);
	refused(&b, "POST", path, "{}", 400, "EINVAL", "missing");
	refused(&b, "POST", path, "", 400, "EINVAL", "body");
	refused(&b, "POST", path, "{\"seconds\": -1}", 400, "EINVAL",
		"negative");
	refused(&b, "POST", path, "{\"seconds\": \"1\"}", 400, "EINVAL",
		"type");
	refused(&b, "POST", path, "{\"seconds\": 2592001}", 400, "EINVAL",
		"30 days");
	refused(&b, "POST", "/v1/images/b/promise", "{\"seconds\": 1}", 404,
		"ENOENT", "pull it");
}

static void gc_is_asked_for(void **state)
{
	_cleanup_bench_ struct bench b;
	const json_t *json, *cache;

	(void)state;
	bench_init(&b);
	json = asked(&b, "POST", "/v1/gc", "{\"budget\": \"64MiB\"}", 200);
	cache = json_object_get(json, "cache");
	assert_int_equal(member(cache, "budget"), 64 << 20);
	assert_true(json_is_null(json_object_get(json, "short")));
	assert_true(member(cache, "used") > 0);
	json = asked(&b, "POST", "/v1/gc",
		     "{\"dry_run\": true, \"budget\": \"none\", \"free\": 1}",
		     200);
	assert_true(json_is_array(json_object_get(json, "steps")));
	json = json_object_get(asked(&b, "GET", "/v1/status", NULL, 200),
			       "cache");
	assert_int_equal(member(json, "budget"), 64 << 20);
	assert_true(json_is_null(json_object_get(json, "last_refusal")));
	json = asked(&b, "POST", "/v1/gc", "{\"budget\": \"none\"}", 200);
	assert_true(json_is_null(
		json_object_get(json_object_get(json, "cache"), "budget")));
	refused(&b, "POST", "/v1/gc", "{\"budget\": \"101%\"}", 400, "EINVAL",
		"budget 101%");
	refused(&b, "POST", "/v1/gc", "{\"budget\": \"0\"}", 400, "EINVAL",
		"budget 0");
	refused(&b, "POST", "/v1/gc", "{\"budget\": \"1MiB\"}", 400, "EINVAL",
		"budget");
	refused(&b, "POST", "/v1/gc", "{\"reserve\": \"5%\"}", 400, "EINVAL",
		"reserve 5%");
	refused(&b, "POST", "/v1/gc", "{\"free\": -1}", 400, "EINVAL",
		"negative");
	refused(&b, "POST", "/v1/gc", "{\"all\": true}", 400, "EINVAL",
		"not known");
	refused(&b, "GET", "/v1/gc", NULL, 405, "EINVAL", "method");
}

static void little_room_is_kept_free(void **state)
{
	(void)state;
	assert_int_equal(ql_evictor_room((uint64_t)1000 << 20), 20 << 20);
	assert_int_equal(ql_evictor_room((uint64_t)100 << 20), 4 << 20);
	assert_int_equal(ql_evictor_room((uint64_t)16 << 20), 2 << 20);
}

static void images_in_use_are_not_removed(void **state)
{
	_cleanup_bench_ struct bench b;
	_cleanup_(ql_tree_closep) struct ql_tree *tree = NULL;
	const json_t *removed;
	int drops = 0;

	(void)state;
	bench_init(&b);
	b.agent.drop = busy;
	b.agent.drop_arg = &drops;
	image(&b, "docker.io/library/a:t");
	assert_int_equal(ql_tree_open_image(b.lab.store, &b.lab.manifest, &tree,
					    NULL),
			 0);
	refused(&b, "DELETE", "/v1/images/a:t", NULL, 409, "EBUSY",
		"a:t: mounted on /x");
	assert_int_equal(drops, 1);
	/* One name of two goes all the same. */
	assert_int_equal(ql_image_tag(b.lab.store, "docker.io/library/b:t",
				      &b.lab.manifest, NULL),
			 0);
	removed = asked(&b, "DELETE", "/v1/images/b:t", NULL, 200);
	assert_false(json_is_true(json_object_get(removed, "removed")));
}

static void bodies_are_checked(void **state)
{
	_cleanup_bench_ struct bench b;

	(void)state;
	bench_init(&b);
	refused(&b, "POST", "/v1/pull", NULL, 400, "EINVAL", "body");
	refused(&b, "POST", "/v1/pull", "{", 400, "EINVAL", "JSON");
	refused(&b, "POST", "/v1/pull", "[]", 400, "EINVAL", "object");
	refused(&b, "POST", "/v1/pull", "{}", 400, "EINVAL", "missing");
	refused(&b, "POST", "/v1/pull", "{\"image\": 1}", 400, "EINVAL",
		"type");
	refused(&b, "POST", "/v1/pull", "{\"image\": null}", 400, "EINVAL",
		"type");
	refused(&b, "POST", "/v1/pull", "{\"image\": \"a\", \"image\": \"b\"}",
		400, "EINVAL", "duplicate");
	refused(&b, "POST", "/v1/pull", "{\"image\": \"a\", \"more\": 1}", 400,
		"EINVAL", "\"more\" is not known");
	refused(&b, "POST", "/v1/pull", "{\"image\": \"a\", \"plain_http\": 1}",
		400, "EINVAL", "plain_http");
	refused(&b, "POST", "/v1/pull", "{\"image\": \"a\", \"parallel\": 33}",
		400, "EINVAL", "parallel");
	refused(&b, "POST", "/v1/pull", "{\"image\": \"UPPER\"}", 400, "EINVAL",
		"lower case");
}

/* ---- pulls ---- */

struct sleeper {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool asleep;
};

static void sleep_now(void *arg)
{
	struct sleeper *s = arg;

	(void)pthread_mutex_lock(&s->lock);
	s->asleep = true;
	(void)pthread_mutex_unlock(&s->lock);
}

static void wake_now(void *arg)
{
	struct sleeper *s = arg;

	(void)pthread_mutex_lock(&s->lock);
	s->asleep = false;
	(void)pthread_cond_signal(&s->cond);
	(void)pthread_mutex_unlock(&s->lock);
}

/* Reads a pull to its end: its last line. */
static json_t *read_pull(struct ql_pull_client *c)
{
	struct sleeper s = { .lock = PTHREAD_MUTEX_INITIALIZER,
			     .cond = PTHREAD_COND_INITIALIZER };
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(1 << 20);
	json_t *last = NULL;
	char chunk[7]; /* lines are cut anywhere */
	ssize_t n;
	char *line;

	ql_pull_client_hooks(c, sleep_now, wake_now, &s);
	while ((n = ql_pull_client_read(c, chunk, sizeof(chunk))) >= 0) {
		tarball_must(ql_buf_add(&buf, chunk, (size_t)n) == 0);
		(void)pthread_mutex_lock(&s.lock);
		while (n == 0 && s.asleep)
			(void)pthread_cond_wait(&s.cond, &s.lock);
		(void)pthread_mutex_unlock(&s.lock);
	}
	for (line = buf.data; line && *line; line = strchr(line, '\n') + 1) {
		json_decref(last);
		last = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL);
		tarball_must(last);
	}
	return last;
}

static void a_pull_that_fails_says_why_at_the_end(void **state)
{
	_cleanup_bench_ struct bench b;
	_cleanup_json_ json_t *last = NULL;

	(void)state;
	bench_init(&b);
	(void)asked(&b, "POST", "/v1/pull",
		    "{\"image\": \"oci:/nonexistent:t\"}", 200);
	assert_non_null(b.rs.pull);
	ql_log_set_level(QL_LOG_ERROR);
	last = read_pull(b.rs.pull);
	assert_string_equal(ql_json_opt_string(json_object_get(last, "error"),
					       "code", ""),
			    "ENOENT");
}

/* A pull that waits for the store's lock is joined by the next client, and
 * goes on without the first. */
static void pulls_are_shared(void **state)
{
	_cleanup_bench_ struct bench b;
	_cleanup_close_ int lock = -1;
	struct ql_pull_ask ask = { .image = "oci:/nonexistent:t" };
	struct ql_pull_ask other = { .image = "oci:/nonexistent:u" };
	struct ql_pull_client *c[4];

	(void)state;
	bench_init(&b);
	ql_log_set_level(QL_LOG_ERROR);
	for (int i = 0; i < 4; i++)
		assert_int_equal(ql_pulls_join(b.agent.pulls,
					       i == 3 ? &other : &ask, &c[i],
					       NULL),
				 0);
	assert_true(ql_pulls_count(b.agent.pulls) <= 2);
	ql_pull_client_free(c[0]);
	for (int i = 1; i < 4; i++) {
		_cleanup_json_ json_t *last = read_pull(c[i]);

		assert_non_null(json_object_get(last, "error"));
		ql_pull_client_free(c[i]);
	}
	assert_int_equal(ql_pulls_count(b.agent.pulls), 0);
}

static void a_stop_ends_every_pull(void **state)
{
	_cleanup_bench_ struct bench b;
	struct ql_pull_ask ask = { .image = "oci:/nonexistent:t" };
	struct ql_pull_client *c;
	_cleanup_json_ json_t *last = NULL;

	(void)state;
	bench_init(&b);
	ql_log_set_level(QL_LOG_ERROR);
	assert_int_equal(ql_pulls_join(b.agent.pulls, &ask, &c, NULL), 0);
	ql_pulls_stop(b.agent.pulls);
	last = read_pull(c);
	assert_non_null(json_object_get(last, "error"));
	ql_pull_client_free(c);
	assert_int_equal(ql_pulls_join(b.agent.pulls, &ask, &c, NULL),
			 -ESHUTDOWN);
}

/* ---- locks and sockets ---- */

static void one_agent_has_a_root_and_a_socket(void **state)
{
	_cleanup_bench_ struct bench b;
	_cleanup_free_ char *path = NULL, *longest = NULL;
	_cleanup_close_ int lock = -1, fd = -1;
	struct ql_error err = QL_ERROR_INIT;
	struct stat st;
	int more;

	(void)state;
	bench_init(&b);
	path = ql_strf("%s/agent/sock", b.lab.root);
	assert_int_equal(ql_agent_lock(b.lab.store, &lock, NULL), 0);
	assert_int_equal(ql_agent_lock(b.lab.store, &more, &err), -EBUSY);
	assert_int_equal(ql_agent_listen(path, NULL, &fd, NULL), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode, S_IFSOCK | 0600);
	assert_int_equal(ql_agent_listen(path, NULL, &more, &err), -EADDRINUSE);
	/* Nobody behind it: it is replaced. */
	(void)close(ql_take_fd(&fd));
	assert_int_equal(ql_agent_listen(path, NULL, &fd, NULL), 0);
	(void)close(ql_take_fd(&fd));
	assert_int_equal(ql_agent_listen(path, "no-such-group", &fd, &err),
			 -ENOENT);
	assert_int_equal(ql_agent_listen(b.lab.root, NULL, &fd, &err), -EEXIST);
	longest = ql_strf("%s/%0200d", b.lab.root, 0);
	assert_int_equal(ql_agent_listen(longest, NULL, &fd, &err),
			 -ENAMETOOLONG);
}

struct counted {
	struct ql_job job;
	atomic_int *n;
};

static void count(struct ql_job *job)
{
	(void)atomic_fetch_add(((struct counted *)job)->n, 1);
}

static void every_job_runs_before_the_end(void **state)
{
	struct counted jobs[200];
	struct ql_work *work;
	atomic_int n = 0;

	(void)state;
	assert_int_equal(ql_work_new(3, &work, NULL), 0);
	for (int i = 0; i < 200; i++) {
		jobs[i] = (struct counted){ { .run = count }, &n };
		assert_int_equal(ql_work_add(work, &jobs[i].job), 0);
	}
	ql_work_stop(work);
	assert_int_equal(atomic_load(&n), 200);
	assert_int_equal(ql_work_add(work, &jobs[0].job), -ESHUTDOWN);
	ql_work_free(work);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(routes_are_found),
		cmocka_unit_test(images_are_named_in_paths),
		cmocka_unit_test(queries_are_checked),
		cmocka_unit_test(pinned_images_are_not_removed),
		cmocka_unit_test(promises_are_made_and_ended),
		cmocka_unit_test(gc_is_asked_for),
		cmocka_unit_test(little_room_is_kept_free),
		cmocka_unit_test(images_in_use_are_not_removed),
		cmocka_unit_test(bodies_are_checked),
		cmocka_unit_test(a_pull_that_fails_says_why_at_the_end),
		cmocka_unit_test(pulls_are_shared),
		cmocka_unit_test(a_stop_ends_every_pull),
		cmocka_unit_test(one_agent_has_a_root_and_a_socket),
		cmocka_unit_test(every_job_runs_before_the_end),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
